# -------------------------------------------------------------------------
#
# 010_crash.pl
#		Crashes in each phase of a saga, crashes under load, and ended
#		worker processes: nothing is lost, nothing happens twice.
#
# The services protect their effects by the barrier of the same cluster, so
# that "effects" holds what really happened.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmLoad;
use DtmSession;
use DtmTest;
use Test::More;

my $node = new_node(fsync => 1, conf => join "\n",
	"dtm.retry_interval = '200ms'", "dtm.retry_max_interval = '500ms'",
	"dtm.request_timeout = '30s'", 'restart_after_crash = on');
my $service = start_service(node => $node);

$node->safe_psql('postgres', q{
	CREATE TABLE notes (gid text, op text);
	CREATE FUNCTION note(payload jsonb) RETURNS void LANGUAGE sql AS
		$$ INSERT INTO public.notes SELECT public.dtm_context()->>'gid', public.dtm_context()->>'op' $$;
	CREATE FUNCTION note_after_lock(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.notes SELECT public.dtm_context()->>'gid', public.dtm_context()->>'op';
		PERFORM pg_advisory_xact_lock(4711);
	END $$;
});

sub step
{
	my ($name) = @_;

	return { action => $service->url("/effect/$name"), compensate => $service->url("/effect/undo_$name") };
}

sub worker_pid
{
	my ($type) = @_;

	return $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type = 'dtm_pg $type' ORDER BY pid LIMIT 1");
}

# Another process of that kind does the work now.
sub wait_other_pid
{
	my ($type, $old) = @_;

	return wait_for($node,
		"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dtm_pg $type' AND pid <> $old", '1',
		name => "another $type");
}

# An executor has written its row and waits for the lock.
sub wait_executor_waits
{
	return wait_for($node, q{
		SELECT count(*) FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
		WHERE l.locktype = 'advisory' AND NOT l.granted AND a.backend_type = 'dtm_pg executor'}, '1',
		name => 'the function runs');
}

# A session that holds the lock, so that note_after_lock() stays in it.
sub hold_lock
{
	my $session = DtmSession->new($node);

	$session->query('SELECT pg_advisory_lock(4711)');
	return $session;
}

# ---------------------------------------------------------------- call out
$service->script('/effect/held', { query => { op => 'action' }, answers => [], then => { gate => 'held' } });
submit_saga($node, [ step('first'), step('held') ], gid => 'call-out');
$service->wait_calls(1, path => '/effect/held', gid => 'call-out');
immediate_stop_start($node);
$service->wait_calls(2, path => '/effect/held', gid => 'call-out');
$service->open_gate('held');
wait_status($node, 'call-out', 'succeed');
is_deeply([ effects($node, 'call-out') ], [ 'action 01', 'action 02' ],
	'crash while a call is out: asked again, each effect once');

# ----------------------------------------------------------- between steps
$service->script('/effect/later', { answers => [ { status => 500, before => 1 } ] });
submit_saga($node, [ step('first'), step('later') ], gid => 'between', options => q{retry_interval => '2 s'});
wait_for($node, q{SELECT attempts FROM dtm.branches WHERE gid = 'between' AND branch_id = '02' AND op = 'action'
	AND next_run_at > now()}, '1', name => 'waits between two steps');
immediate_stop_start($node);
wait_status($node, 'between', 'succeed');
is_deeply([ effects($node, 'between') ], [ 'action 01', 'action 02' ],
	'crash between two steps: goes on where it was');
is(scalar($service->calls(gid => 'between', path => '/effect/later')), 2, 'the second step is asked once more');

# ------------------------------------------------------ while compensating
$service->script('/effect/refuse', { then => { status => 409, body => 'no stock', before => 1 } });
$service->script('/effect/undo_first', { query => { gid => 'compensating' }, then => { gate => 'undo' } });
submit_saga($node, [ step('first'), step('refuse') ], gid => 'compensating');
$service->wait_calls(1, path => '/effect/undo_first', gid => 'compensating');
immediate_stop_start($node);
like($node->safe_psql('postgres', q{SELECT dtm_status('compensating')}), qr/^aborting$/,
	'the decision to roll back was durable before the first compensation');
$service->open_gate('undo');
wait_status($node, 'compensating', 'failed');
is_deeply([ effects($node, 'compensating') ], [ 'action 01', 'compensate 01' ],
	'crash while compensating: rolled back once');
is(scalar($service->calls(gid => 'compensating', op => 'action', path => '/effect/refuse')), 1,
	'what was refused is not asked again');
is($node->safe_psql('postgres', q{SELECT rollback_reason FROM dtm.transactions WHERE gid = 'compensating'}) =~ /no stock/,
	1, 'the reason of the rollback survives');

# ------------------------------------------------------------- sql: branch
my $lock = hold_lock();
submit_saga($node, [ step('first'), { action => 'sql:note_after_lock' }, step('last') ], gid => 'in-sql');
wait_executor_waits();
immediate_stop_start($node);
$lock->quit;
wait_status($node, 'in-sql', 'succeed');
is($node->safe_psql('postgres', q{SELECT count(*) FROM notes WHERE gid = 'in-sql'}), '1',
	'crash while a function runs: it is run once more, and counts once');
is_deeply([ effects($node, 'in-sql') ], [ 'action 01', 'action 03' ], 'and the steps around it too');

# ---------------------------------------------------------- right after commit
for my $i (1 .. 3)
{
	submit_saga($node, [ step('first') ], gid => "committed-$i");
	immediate_stop_start($node);
	wait_status($node, "committed-$i", 'succeed');
	is_deeply([ effects($node, "committed-$i") ], ['action 01'], 'crash right after the commit of a submit');
}

# --------------------------------------------------------- ended processes
$service->script('/effect/held', { query => { gid => 'coordinator' }, then => { gate => 'coordinator' } });
submit_saga($node, [ step('held'), step('last') ], gid => 'coordinator');
$service->wait_calls(1, gid => 'coordinator');
my $pid = worker_pid('coordinator');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
wait_other_pid('coordinator', $pid);
$service->open_gate('coordinator');
wait_status($node, 'coordinator', 'succeed');
is_deeply([ effects($node, 'coordinator') ], [ 'action 01', 'action 02' ], 'pg_terminate_backend of a coordinator');

$lock = hold_lock();
submit_saga($node, [ { action => 'sql:note_after_lock' }, step('last') ], gid => 'executor');
wait_executor_waits();
$pid = worker_pid('executor');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
wait_for($node, "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid", '0', name => 'the executor is gone');
$lock->quit;
wait_status($node, 'executor', 'succeed');
is($node->safe_psql('postgres', q{SELECT count(*) FROM notes WHERE gid = 'executor'}), '1',
	'pg_terminate_backend of an executor: its function counts once');

$pid = worker_pid('launcher');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
wait_other_pid('launcher', $pid);
$pid = worker_pid('coordinator');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
wait_other_pid('coordinator', $pid);
submit_saga($node, [ step('last') ], gid => 'launcher');
wait_status($node, 'launcher', 'succeed');

# pg_cancel_backend ends a function, but no process
$service->script('/effect/held', { query => { gid => 'cancelled' }, then => { gate => 'cancelled' } });
submit_saga($node, [ step('held'), { action => 'sql:note' } ], gid => 'cancelled');
$service->wait_calls(1, gid => 'cancelled');
$lock = hold_lock();
submit_saga($node, [ { action => 'sql:note_after_lock' } ], gid => 'cancelled-function');
wait_executor_waits();
my @pids = map { worker_pid($_) } qw(launcher coordinator executor);
$node->safe_psql('postgres', "SELECT pg_cancel_backend($_)") for @pids;
wait_for($node, q{SELECT last_error LIKE '57014: %' FROM dtm.branches WHERE gid = 'cancelled-function' AND op = 'action'}, 't',
	name => 'the function is cancelled');
$lock->quit;
wait_status($node, 'cancelled-function', 'succeed');
$service->open_gate('cancelled');
wait_status($node, 'cancelled', 'succeed');
is_deeply([ map { worker_pid($_) } qw(launcher coordinator executor) ], \@pids, 'pg_cancel_backend ends no process');
is($service->calls(gid => 'cancelled'), 1, 'and cuts no call');

# kill -9: the postmaster restarts everything
$service->script('/effect/held', { query => { gid => 'killed' }, then => { gate => 'killed' } });
submit_saga($node, [ step('held'), { action => 'sql:note' } ], gid => 'killed');
$service->wait_calls(1, gid => 'killed');
$pid = worker_pid('coordinator');
kill 'KILL', $pid;
wait_for($node, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dtm_pg coordinator' AND pid <> $pid", '1',
	name => 'everything is there again after kill -9');
$service->open_gate('killed');
wait_status($node, 'killed', 'succeed');
is_deeply([ effects($node, 'killed') ], ['action 01'], 'kill -9 of a coordinator: the effect once');
is($node->safe_psql('postgres', q{SELECT count(*) FROM notes WHERE gid = 'killed'}), '1', 'and the function once');

# ------------------------------------------------------------- under load
$service->reset;
my $load = DtmLoad->new($node, $service);
$load->start(4, 50);
for my $crash (1 .. 5)
{
	wait_until(sub { return $load->acknowledged >= $crash * 25 }, "crash $crash under load");
	immediate_stop_start($node);
}
$load->finish;
cmp_ok(scalar($load->acknowledged), '>=', 125, 'enough submits went through: ' . scalar($load->acknowledged));
$load->check;

done_testing();
