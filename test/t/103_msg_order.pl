# -------------------------------------------------------------------------
#
# 103_msg_order.pl
#		Messages of one transaction, one after the other: as services see it,
#		over two coordinators, crashes and PREPARE TRANSACTION.
#
# Not here: who waits for whom and what the views say (test/sql/msg_order.sql),
# races with dtm_stop (test/specs/msg_order_stop.spec).
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use Test::More;

# A wake-up that is missed would be made good by the sweep, after a minute: so waits are shorter than that.
$DtmTest::timeout = 30;

# two coordinators: neighbours in a chain never have the same one
my $node = new_node(fsync => 1, conf => "dtm.workers = 2\nmax_prepared_transactions = 10\n"
	  . "dtm.retry_interval = '200ms'\ndtm.retry_max_interval = '1s'");
my $service = start_service(node => $node);

sub value { return $node->safe_psql('postgres', $_[0]); }

sub msg
{
	my ($gid, $path, $more) = @_;

	return 'SELECT dtm_msg_submit(jsonb_build_array(dtm_step(' . sql_literal($path =~ /^sql:/ ? $path : $service->url($path))
	  . ')), ' . sql_literal($gid) . ($more ? ", $more" : '') . '); ';
}

sub waits_for { return value("SELECT coalesce(waits_for, '-') FROM dtm.transactions WHERE gid = '$_[0]'"); }

# True when each call has ended before the next one began.
sub one_by_one
{
	my @calls = @_;

	return !grep { $calls[ $_ - 1 ]{end} > $calls[$_]{start} } 1 .. $#calls;
}

wait_for($node, q{SELECT count(*) FROM dtm.workers WHERE state = 'running'}, '2', name => 'two coordinators');

# ---- the second begins when the first has ended; another transaction's does not wait

$service->script('/slow', { answers => [ { gate => 'slow' } ] });
value('BEGIN; ' . msg('first', '/slow', "request_timeout => '1 min'") . msg('second', '/next') . msg('third', '/next')
	  . msg('late', '/next', "delay => '100 ms'") . 'COMMIT');
value(msg('other', '/next'));
wait_status($node, $_, 'succeed') for 'other', 'late';
is(waits_for('second') . ' ' . waits_for('third'), 'first second', 'who waits for whom');
is(scalar($service->calls(gid => 'second')), 0, 'the second waits');
$service->open_gate('slow');
wait_status($node, 'third', 'succeed');
my @calls = map { $service->calls(gid => $_) } qw(first second third);
is(scalar @calls, 3, 'each is called once');
ok(one_by_one(@calls), 'one after the other');

# ---- a long chain, over both coordinators; its updates touch no index

my $statistics = q{FROM pg_stat_user_tables WHERE schemaname = 'dtm' AND relname = };
my $chain = 100;
wait_for($node, "SELECT n_tup_ins $statistics 'done'", '5', name => 'the statistics know what was so far');
my ($updated, $hot) = split /\|/, value("SELECT n_tup_upd, n_tup_hot_upd $statistics 'live'");
value('BEGIN; ' . join('', map { msg(sprintf('chain-%03d', $_), '/effect/chain') } 1 .. $chain) . 'COMMIT');
wait_status($node, "chain-$chain", 'succeed');
@calls = $service->calls(path => '/effect/chain');
is(scalar @calls, $chain, "a chain of $chain");
is(join(' ', map { $_->{query}{gid} } @calls), join(' ', map { sprintf('chain-%03d', $_) } 1 .. $chain), 'in order');
ok(one_by_one(@calls), 'and never two at once');
wait_for($node, "SELECT n_tup_ins >= 5 + $chain $statistics 'done'", 't', name => 'the ends are known to the statistics');
wait_for($node, "SELECT n_tup_upd - $updated >= $chain - 1 $statistics 'live'", 't', name => 'and the updates');
my ($updates, $hots) = split /\|/, value("SELECT n_tup_upd - $updated, n_tup_hot_upd - $hot $statistics 'live'");
cmp_ok($hots, '>=', 0.8 * $updates, "going on is a HOT update ($hots of $updates)");

# ---- a function that submits two, as a branch of a saga; commits that are not waited for

value('CREATE FUNCTION tell(p jsonb) RETURNS void LANGUAGE sql AS $$ '
	  . msg('told-1', '/slow-told', "request_timeout => '1 min'") . msg('told-2', '/next') . '$$');
$service->script('/slow-told', { answers => [ { gate => 'told' } ] });
submit_saga($node, [ { action => 'sql:tell' } ], gid => 'tells');
wait_status($node, 'tells', 'succeed');
is(waits_for('told-2'), 'told-1', 'messages of one function');
$service->open_gate('told');
wait_status($node, 'told-2', 'succeed');
ok(one_by_one(map { $service->calls(gid => $_) } 'told-1', 'told-2'), 'in order');
value('SET synchronous_commit = off; BEGIN; ' . msg('async-1', '/next') . msg('async-2', '/next') . 'COMMIT');
wait_status($node, 'async-2', 'succeed');
ok(one_by_one(map { $service->calls(gid => $_) } 'async-1', 'async-2'), 'in order with synchronous_commit = off');

# ---- one that keeps failing, and the way out

$service->script('/broken', { then => { status => 500 } });
value('BEGIN; ' . msg('broken', '/broken') . msg('behind', '/next') . msg('behind-2', '/next') . 'COMMIT');
wait_for($node, 'SELECT gid FROM dtm.stuck', 'broken', name => 'it is shown as stuck');
like(value('SELECT reason FROM dtm.stuck'), qr/500.*; messages waiting for it: 2$/, 'with those that wait for it');
is(waits_for('behind') . ' ' . waits_for('behind-2'), 'broken behind', 'and they say for what they wait');
value('SELECT dtm_retry(gid) FROM dtm.stuck');
$service->wait_calls(scalar($service->calls(gid => 'broken')) + 1, gid => 'broken');
is(scalar($service->calls(gid => 'behind')), 0, 'dtm_retry of all that is stuck keeps the order');
is(value(q{SELECT dtm_stop('broken', 'given up')}), 'failed', 'the way out');
wait_status($node, 'behind-2', 'succeed');
is(value('SELECT count(*) FROM dtm.stuck'), '0', 'nothing is stuck any more');

# ---- PREPARE TRANSACTION

value('BEGIN; ' . msg("$_-1", '/next') . msg("$_-2", '/next') . "PREPARE TRANSACTION '$_'") for qw(two none);
# the next transaction of a session begins a chain of its own
value('BEGIN; ' . msg('kept-1', '/next') . "PREPARE TRANSACTION 'kept'; " . msg('apart', '/next'));
wait_status($node, 'apart', 'succeed');
value("COMMIT PREPARED 'two'");
value("ROLLBACK PREPARED 'none'");
wait_status($node, 'two-2', 'succeed');
@calls = map { $service->calls(gid => $_) } 'two-1', 'two-2';
is(scalar @calls, 2, 'two messages of a prepared transaction, each once');
ok(one_by_one(@calls), 'in order');
is(value(q{SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'none-%'}), 0, 'nothing of one that was rolled back');

# ---- crashes: while the first is called; while the second is; while all of it is prepared

value('BEGIN; ' . msg('held-1', '/next') . msg('held-2', '/next') . "PREPARE TRANSACTION 'held'");
$service->script('/effect/crash-1', { answers => [ { hang => 1 } ] });
$service->script('/effect/crash-2', { answers => [ { hang => 1 } ] });
value('BEGIN; ' . msg('crash-1', '/effect/crash-1', "request_timeout => '1 min'")
	  . msg('crash-2', '/effect/crash-2', "request_timeout => '1 min'") . msg('crash-3', '/effect/crash-3') . 'COMMIT');
wait_until(sub { scalar $service->calls(gid => 'crash-1') }, 'the first is called');
immediate_stop_start($node);
wait_until(sub { scalar $service->calls(gid => 'crash-2') }, 'the first is called again, then the second');
is(scalar($service->calls(gid => 'crash-1')), 2, 'the first twice');
immediate_stop_start($node);
wait_status($node, 'crash-3', 'succeed');
is(join(' ', map { $_->{query}{gid} } grep { $_->{query}{gid} =~ /^crash/ } $service->calls),
	'crash-1 crash-1 crash-2 crash-2 crash-3', 'what is finished is not called again, and nothing overtakes');
is(value(q{SELECT string_agg(gid, ' ' ORDER BY id) FROM effects WHERE gid LIKE 'crash-%'}), 'crash-1 crash-2 crash-3',
	'each effect once, in order');
value("COMMIT PREPARED 'held'");
wait_status($node, 'held-2', 'succeed');
ok(one_by_one(map { $service->calls(gid => $_) } 'held-1', 'held-2'), 'a prepared transaction outlives crashes, with its order');

# ---- the coordinators end; another number of them

$service->script('/effect/again', { then => { gate => 'again' } });
value('BEGIN; ' . msg('again-1', '/effect/again', "request_timeout => '1 min'") . msg('again-2', '/effect/next') . 'COMMIT');
wait_until(sub { scalar $service->calls(gid => 'again-1') }, 'the first is called');
value('ALTER SYSTEM SET dtm.workers = 1');
value('SELECT pg_reload_conf()');
wait_for($node, q{SELECT count(*) FROM dtm.workers WHERE state = 'running'}, '1', name => 'one coordinator');
is(waits_for('again-2'), 'again-1', 'it still waits');
$service->open_gate('again');
wait_status($node, 'again-2', 'succeed');
is(value(q{SELECT string_agg(gid, ' ' ORDER BY id) FROM effects WHERE gid LIKE 'again-%'}), 'again-1 again-2', 'in order');

value("ROLLBACK PREPARED 'kept'");
is(value('SELECT count(*) FROM dtm.live'), '0', 'nothing is left');
$node->stop;
done_testing();
