# -------------------------------------------------------------------------
#
# 141_workflow_crash.pl
#		Scenario of a workflow of five steps whose server is killed: after
#		each step, while each step is under way, before and after the commit
#		of its end, while it confirms and while it is undone.  Every effect
#		happens once.
#
# Services protect their effects by the barrier of the same cluster.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmSession;
use DtmTest;
use Test::More;
use Time::HiRes qw(usleep);

my $node = new_node(fsync => 1, conf => join "\n",
	"dtm.retry_interval = '200ms'", "dtm.retry_max_interval = '500ms'", "dtm.request_timeout = '30s'");
my $service = start_service(node => $node);
my $url = $service->url('/effect');

sub value { return $node->safe_psql('postgres', $_[0]); }

sub read_file
{
	my ($name) = @_;

	open my $file, '<', $name or return '';
	local $/;
	return <$file> // '';
}

# SIGKILL for every process of the server at once, then start it again; each third time, because
# that takes a while.  Else they end by themselves, at once and without a goodbye.
my $crashes = 0;

sub kill_server
{
	return immediate_stop_start($node) if $crashes++ % 3;

	my ($postmaster) = split /\n/, read_file($node->data_dir . '/postmaster.pid');

	# or it might fork meanwhile
	kill 'STOP', $postmaster;
	usleep(1_000) until read_file("/proc/$postmaster/stat") =~ /\) T/;
	my @pids = ($postmaster, map { chomp; $_ } qx(pgrep -P $postmaster));
	kill 'KILL', @pids;
	$node->kill9;
	for (1 .. 1000)
	{
		last unless grep { kill 0, $_ } @pids;
		usleep(10_000);
	}
	$node->start;
	return;
}

value(<<"SQL");
CREATE TABLE orders (gid text, state text);
CREATE FUNCTION sql_effect(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$
BEGIN
	INSERT INTO public.effects (gid, branch_id, op, path)
	SELECT c->>'gid', c->>'branch_id', c->>'op', 'sql' FROM public.dtm_context() AS c;
	PERFORM pg_advisory_xact_lock((p->>'lock')::int);
	RETURN p;
END \$\$;
-- data: "stop" after that step, "lock" of that step or of the end, "fail" at the end
CREATE FUNCTION five(data jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$
DECLARE
	answers jsonb := '[]';
	lock jsonb := jsonb_build_object('lock', data->'lock');
BEGIN
	INSERT INTO public.orders SELECT public.dtm_context()->>'gid', 'begun';
	answers := answers || dtm_call('$url/one', compensate => '$url/undo_one');
	IF data->>'stop' = '1' THEN PERFORM dtm_await('go'); END IF;
	answers := answers || dtm_call('sql:sql_effect', lock, compensate => 'sql:sql_effect');
	IF data->>'stop' = '2' THEN PERFORM dtm_await('go'); END IF;
	answers := answers || dtm_call_tcc('$url/try', '$url/confirm', '$url/cancel');
	IF data->>'stop' = '3' THEN PERFORM dtm_await('go'); END IF;
	answers := answers || dtm_call('sql:sql_effect', lock, compensate => 'sql:sql_effect');
	IF data->>'stop' = '4' THEN PERFORM dtm_await('go'); END IF;
	answers := answers || dtm_call('$url/five', compensate => '$url/undo_five');
	IF data->>'stop' = '5' THEN PERFORM dtm_await('go'); END IF;
	UPDATE public.orders SET state = 'done' WHERE gid = public.dtm_context()->>'gid';
	PERFORM pg_advisory_xact_lock((data->>'end')::int);
	IF data ? 'fail' THEN PERFORM dtm_fail('at the end'); END IF;
	RETURN to_jsonb(jsonb_array_length(answers));
END \$\$;
SQL

sub submit
{
	my ($gid, $data, $more) = @_;

	return value("SELECT dtm_workflow_submit('five', '" . ($data // '{}') . "', '$gid', retry_interval => '0.1 s')");
}

# What happened, by kind and path, sorted: the numbers of steps differ with the awaits between them.
sub happened
{
	my ($gid) = @_;

	return value(q{SELECT string_agg(what || ' ' || n, ', ' ORDER BY what COLLATE "C") FROM (}
		  . "SELECT op || ' ' || replace(path, '/effect/', '') AS what, count(*) AS n FROM effects WHERE gid = '$gid' GROUP BY op, path) AS e");
}

my $forward = 'action five 1, action one 1, action sql 2';
my $all_done = "$forward, confirm confirm 1, try try 1";
my $all_undone = "$forward, cancel cancel 1, compensate sql 2, compensate undo_five 1, compensate undo_one 1, try try 1";

sub check_done
{
	my ($gid, $what) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_status($node, $gid, 'succeed');
	is(happened($gid), $all_done, "$what: every effect once");
	is(value("SELECT string_agg(state, ' ') FROM orders WHERE gid = '$gid'"), 'done', "$what: the local write once");
	is(value("SELECT dtm_result('$gid')"), '5', "$what: the result");
	return;
}

# ---------------------------------------------- after each step, on record
for my $step (1 .. 5)
{
	my $gid = "after-$step";

	submit($gid, "{\"stop\": $step}");
	wait_for($node, "SELECT count(*) FROM dtm.branches WHERE gid = '$gid' AND op = 'await' AND status = 'prepared'", '1',
		name => "step $step is done");
	kill_server();
	is(value("SELECT count(*) FROM orders WHERE gid = '$gid'"), '0', 'no local write before the end');
	value("SELECT dtm_signal('$gid', 'go')");
	check_done($gid, "killed after step $step");
}

# ------------------- after the effect of each step, before anybody knows it
my %held = (1 => 'one', 3 => 'try', 5 => 'five');
for my $step (sort keys %held)
{
	my $gid = "during-$step";

	$service->script("/effect/$held{$step}", { query => { gid => $gid }, answers => [ { gate => $gid } ] });
	submit($gid);
	$service->wait_calls(1, path => "/effect/$held{$step}", gid => $gid);
	wait_for($node, "SELECT count(*) FROM effects WHERE gid = '$gid' AND path = '/effect/$held{$step}'", '1', name => 'it has its effect');
	kill_server();
	$service->open_gate($gid);
	check_done($gid, "killed while step $step is under way");
}

# a function that is a step, and the function of the workflow itself
sub wait_executor
{
	return wait_for($node, q{SELECT count(*) FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
		WHERE l.locktype = 'advisory' AND NOT l.granted AND a.backend_type = 'dtm_pg executor'}, '1', name => 'the function runs');
}

for my $where (qw(lock end))
{
	my $session = DtmSession->new($node);
	my $gid = "inside-$where";

	$session->query('SELECT pg_advisory_lock(4711)');
	submit($gid, "{\"$where\": 4711}");
	wait_executor();
	kill_server();
	eval { $session->quit };
	check_done($gid, $where eq 'lock' ? 'killed inside of a sql: step' : 'killed right before the end');
}

# ------------------------------------------------ between end and confirm
$service->script('/effect/confirm', { query => { gid => 'confirm' }, then => { gate => 'confirm' } });
submit('confirm');
$service->wait_calls(1, path => '/effect/confirm', gid => 'confirm');
kill_server();
is(value("SELECT dtm_status('confirm') || ' ' || (SELECT string_agg(state, ' ') FROM orders WHERE gid = 'confirm')"), 'submitted done',
	'the end is on record with the local write before anything is confirmed');
$service->open_gate('confirm');
check_done('confirm', 'killed between the end and the confirm');

# with synchronous_commit = off nothing is confirmed that could be lost either
value(q{ALTER SYSTEM SET synchronous_commit = off});
value('SELECT pg_reload_conf()');
for my $run (1 .. 3)
{
	my $gid = "async-$run";

	$service->script('/effect/confirm', { query => { gid => $gid }, then => { gate => $gid } });
	submit($gid);
	$service->wait_calls(1, path => '/effect/confirm', gid => $gid);
	kill_server();
	is(value("SELECT dtm_status('$gid') || ' ' || (SELECT string_agg(state, ' ') FROM orders WHERE gid = '$gid')"), 'submitted done',
		'likewise with synchronous_commit = off');
	$service->open_gate($gid);
	check_done($gid, 'asynchronous commits');
}
value(q{ALTER SYSTEM RESET synchronous_commit});
value('SELECT pg_reload_conf()');

# ------------------------------------------------------- while it is undone
for my $undo (qw(undo_five cancel undo_one))
{
	my $gid = "undo-$undo";

	$service->script("/effect/$undo", { query => { gid => $gid }, answers => [ { gate => $gid } ] });
	submit($gid, '{"fail": 1}');
	$service->wait_calls(1, path => "/effect/$undo", gid => $gid);
	kill_server();
	$service->open_gate($gid);
	wait_status($node, $gid, 'failed');
	is(happened($gid), $all_undone, "killed while it is undone ($undo): every effect undone once");
	is(value("SELECT count(*) FROM orders WHERE gid = '$gid'"), '0', 'and no local write is there');
}

# ----------------------------------------------------- at any time, many
value(q{SELECT dtm_workflow_submit('five', CASE WHEN n % 4 = 0 THEN '{"fail": 1}' ELSE '{}' END::jsonb, 'random-' || n, retry_interval => '0.1 s')
	FROM generate_series(1, 40) AS n});
for (1 .. 6)
{
	usleep(50_000 + rand(250_000));
	kill_server();
}
wait_for($node, q{SELECT string_agg(status || ' ' || n, ', ' ORDER BY status) FROM (SELECT status, count(*) AS n FROM dtm.transactions WHERE gid LIKE 'random-%' GROUP BY status) AS s},
	'failed 10, succeed 30', name => 'forty, killed six times, come to their ends');
my %seen;
$seen{ happened("random-$_") }{ $_ % 4 == 0 ? 'failed' : 'succeed' }++ for 1 .. 40;
is_deeply(\%seen, { $all_done => { succeed => 30 }, $all_undone => { failed => 10 } }, 'every effect once');
is(value(q{SELECT string_agg(DISTINCT state, ' ') || ' ' || count(*) FROM orders WHERE gid LIKE 'random-%'}), 'done 30', 'local writes once');
is(value('SELECT count(*) FROM dtm.live'), '0', 'nothing is left unfinished');

$node->stop;
done_testing();
