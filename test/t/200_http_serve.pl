# -------------------------------------------------------------------------
#
# 200_http_serve.pl
#		The HTTP API beside other things: many requests in one commit of which
#		some fail, rows that a session has locked, DDL on the extension,
#		clients that go away, a restart of the coordinator.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmSession;
use DtmTest;
use DtmWire;
use Test::More;
use Time::HiRes qw(time usleep);

my ($node, $wire) = wire_node(conf => "dtm.retry_interval = '200ms'");
my $service = start_service();

sub sql { return $node->safe_psql('postgres', @_); }

# Answers to raw requests that were all sent before the first is read.
sub at_once
{
	my @sockets = map { $wire->start(@$_) } @_;

	return map { $wire->finish($_) } @sockets;
}

sub saga
{
	my ($gid, $path, %more) = @_;

	return { gid => $gid, trans_type => 'saga', steps => [ { action => $service->url($path) } ], payloads => ['{}'], %more };
}

# ------------------------------------------- one of many requests is at fault
my @answers = at_once(map { [ submit => saga("many-$_", '/ok', $_ % 10 == 0
	  ? (steps => [ { action => 'http://169.254.169.254/latest' } ]) : ()) ] } 1 .. 60);
is(scalar(grep { $_->{status} == 200 } @answers), 54, 'those that are fine are stored');
is(scalar(grep { $_->{status} == 403 } @answers), 6, 'those at fault are refused');
like($answers[9]->{content}, qr/allowed_targets/, 'and told why');
is(sql(q{SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'many-%'}), 54, 'nothing of the refused is stored');
wait_for($node, q{SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'many-%' AND status = 'succeed'}, 54, name => 'all are driven');

# the same gid many times at once: stored once
@answers = at_once(map { [ submit => saga('same', '/same') ] } 1 .. 20);
is(scalar(grep { $_->{status} == 200 || $_->{status} == 409 } @answers), 20, 'one gid twenty times: all are answered');
wait_status($node, 'same', 'succeed');
is($service->calls(path => '/same'), 1, 'called once');

# ------------------------------------------------------ somebody has a lock
is_success($wire->post(prepare => { gid => 'locked', trans_type => 'tcc' }), 'prepare');
my $session = DtmSession->new($node);
$session->query('BEGIN');
is($session->query(q{SELECT dtm_submit('locked')}), 'submitted', 'a session submits it, and does not commit');
my $waiting = $wire->start(abort => { gid => 'locked', trans_type => 'tcc' });
my $begin = time;
is_success($wire->post(submit => saga("beside-$_", '/ok')), "others are served meanwhile ($_)") for 1 .. 5;
cmp_ok(time - $begin, '<', 4, 'without waiting for the lock');
$session->query('ROLLBACK');
is_success($wire->finish($waiting), 'the request comes through when the lock is gone');
wait_status($node, 'locked', 'failed');

# ... and keeps it: the request is told to come again
is_success($wire->post(prepare => { gid => 'kept', trans_type => 'tcc' }), 'prepare');
$session->query('BEGIN');
$session->query(q{SELECT dtm_submit('kept')});
my $busy = $wire->post(submit => { gid => 'kept', trans_type => 'tcc' });
is($busy->{status}, 503, 'after some seconds: try again');
ok($busy->{headers}{'retry-after'}, 'with Retry-After');
$session->query('COMMIT');
wait_status($node, 'kept', 'succeed');

# a gid that a session has inserted and not committed
$session->query('BEGIN');
$session->query(q{SELECT dtm_saga_submit(jsonb_build_array(dtm_step(} . sql_literal($service->url('/ok')) . q{)), gid => 'double')});
$waiting = $wire->start(submit => saga('double', '/ok'));
is_success($wire->post(submit => saga('beside-insert', '/ok')), 'others are served while a gid is being inserted');
$session->query('COMMIT');
is($wire->finish($waiting)->{status} =~ /^(200|409)$/, 1, 'then the request is about the one that is there');
wait_status($node, 'double', 'succeed');

# --------------------------------------------------- clients that go away
$service->script('/slow', { then => { delay => 1 } });
for my $n (1 .. 10)
{
	my $socket = $wire->start(submit => saga("gone-$n", '/slow', wait_result => \1));

	close $socket;
}
wait_for($node, q{SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'gone-%' AND status = 'succeed'}, 10,
	name => 'transactions of clients that did not wait for the result');
is_success($wire->post(submit => saga('after-gone', '/ok', wait_result => \1)), 'the next one waits and is answered');

# ------------------------------------------------- the coordinator restarts
$service->script('/gate', { then => { gate => 'restart' } });
$waiting = $wire->start(submit => saga('restart', '/gate', wait_result => \1));
$service->wait_calls(1, path => '/gate');
my $pid = sql(q{SELECT pid FROM dtm.workers WHERE worker = 0 AND state = 'running'});
sql("SELECT pg_terminate_backend($pid)");
is($wire->finish($waiting)->{status}, 599, 'who waits loses the connection');
$service->open_gate('restart');
$wire->wait_port('the port is open again');
wait_status($node, 'restart', 'succeed');

# --------------------------------------------------------- pause and DDL
sql(q{SELECT dtm_pause('test')});
wait_until(sub { !$wire->answers }, 'the port is closed while the database is paused');
sql('SELECT dtm_resume()');
$wire->wait_port('and open afterwards');
sql('DROP EXTENSION dtm_pg CASCADE');
wait_until(sub { !$wire->answers }, 'without the extension there is no port');
sql('CREATE EXTENSION dtm_pg');
$wire->wait_port('with it there is');
is_success($wire->post(submit => saga('anew', '/ok', wait_result => \1)), 'and it works');

# ---------------------------------------------------------- other settings
sql("ALTER SYSTEM SET dtm.http_listen = ''");
sql('SELECT pg_reload_conf()');
wait_until(sub { !$wire->answers }, 'the setting is emptied: closed');
my $other = DtmWire->new(free_port());
sql("ALTER SYSTEM SET dtm.http_listen = '127.0.0.1:@{[ $other->port ]}'");
sql('SELECT pg_reload_conf()');
$other->wait_port('another port');

done_testing();
