# -------------------------------------------------------------------------
#
# 022_settings.pl
#		Settings change at run time, by a reload, with transactions in flight.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use Test::More;
use Time::HiRes qw(usleep);

my $node = new_node(conf => join "\n", "dtm.retry_interval = '100ms'", "dtm.retry_max_interval = '200ms'",
	"dtm.request_timeout = '30s'", 'max_prepared_transactions = 0');
my $service = start_service(node => $node);

sub sql { return $node->safe_psql('postgres', @_); }

sub steps { return [ map { { action => $service->url("/$_"), compensate => $service->url("/undo_$_") } } @_ ]; }

sub set
{
	my ($name, $value) = @_;

	sql("ALTER SYSTEM SET $name = '$value'");
	sql('SELECT pg_reload_conf()');
	wait_for($node, "SELECT setting = '$value' OR current_setting('$name') = '$value' FROM pg_settings WHERE name = '$name'", 't',
		name => "$name = $value");
	return;
}

# Calls that are out now.
sub calls_out
{
	return scalar grep { !defined $_->{end} } $service->calls(@_);
}

# ------------------------------------------------------ dtm.request_timeout
$service->script('/hang', { answers => [ { hang => 1 }, { hang => 1 } ] });
set('dtm.request_timeout', '300ms');
submit_saga($node, steps('hang'), gid => 'timeout');
wait_for($node, q{SELECT last_error LIKE '%request_timeout%' FROM dtm.branches WHERE gid = 'timeout' AND op = 'action'}, 't',
	name => 'a shorter dtm.request_timeout is used', timeout => 5);
wait_status($node, 'timeout', 'succeed');
is($service->calls(gid => 'timeout'), 3, 'asked until it answered');
set('dtm.request_timeout', '30s');
$service->script('/slow', { then => { delay => 1.5 } });
submit_saga($node, steps('slow'), gid => 'patient');
wait_status($node, 'patient', 'succeed');
is($service->calls(gid => 'patient'), 1, 'a longer one as well');

# --------------------------------------------------------------- dtm.workers
my $coordinators = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dtm_pg coordinator'};
my $n = 20;

# Change their number with transactions in each phase, and let them finish.
sub change_workers
{
	my ($from, $to) = @_;
	my $name = "workers-$from-$to";

	$service->script("/effect/$name-first", { then => { gate => $name } });
	$service->script("/effect/$name-busy", { answers => [ ({ status => 500, before => 1 }) x 10 ] });
	submit_saga($node, steps("effect/$name-first", 'effect/second'), gid => "$name-$_") for 1 .. $n;
	submit_saga($node, steps('effect/zero', "effect/$name-busy", 'effect/second'), gid => "$name-busy-$_") for 1 .. 5;
	$service->wait_calls($n, path => "/effect/$name-first");
	set('dtm.workers', $to);
	wait_for($node, $coordinators, $to, name => "$to coordinators");
	wait_for($node, q{SELECT count(*) FROM dtm.workers WHERE state = 'running'}, $to, name => 'all of them run');
	$service->wait_calls(2 * $n, path => "/effect/$name-first");
	$service->open_gate($name);
	wait_for($node, "SELECT count(*) FROM dtm.transactions WHERE gid LIKE '$name-%' AND status = 'succeed'", $n + 5,
		name => "$from to $to: all finish");
	is(sql("SELECT count(*), count(DISTINCT (gid, branch_id, op)) FROM effects WHERE gid LIKE '$name-%' AND op = 'action'"),
		(2 * $n + 15) . '|' . (2 * $n + 15), "$from to $to: each effect once");
	return;
}

change_workers(1, 2);
submit_saga($node, steps('effect/one'), gid => "shared-$_") for 1 .. 10;
wait_for($node, q{SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'shared-%' AND status = 'succeed'}, '10', name => 'two share');
is($service->calls(gid => "shared-$_"), 1, "shared-$_: one of them called it, once") for 1 .. 10;
is(sql(q{SELECT count(*) FROM dtm.workers WHERE state = 'running' AND calls > 0}), '2', 'both have work');
change_workers(2, 1);
is(sql('SELECT count(*) FROM dtm.stuck'), '0', 'nothing is stuck');

# -------------------------------------------------------- dtm.max_host_calls
set('dtm.max_host_calls', '3');
usleep(200_000);
$service->script('/limited', { then => { gate => 'limited' } });
submit_saga($node, steps('limited'), gid => "limited-$_") for 1 .. 12;
$service->wait_calls(3, path => '/limited');
usleep(700_000);
is(calls_out(path => '/limited'), 3, 'dtm.max_host_calls = 3: three calls are out');
set('dtm.max_host_calls', '8');
$service->wait_calls(8, path => '/limited');
usleep(500_000);
is(calls_out(path => '/limited'), 8, 'raised to 8: eight are out');
$service->open_gate('limited');
wait_status($node, "limited-$_", 'succeed') for 1 .. 12;
is($service->calls(path => '/limited'), 12, 'each was called once');

# ---------------------------------------------------------- dtm.max_inflight
set('dtm.max_inflight', '5');
usleep(200_000);
$service->script('/crowd', { then => { gate => 'crowd' } });
submit_saga($node, steps('crowd'), gid => "crowd-$_") for 1 .. 40;
$service->wait_calls(5, path => '/crowd');
usleep(500_000);
is(calls_out(path => '/crowd'), 5, 'dtm.max_inflight = 5: five are taken up');
is(sql('SELECT transactions_in_flight FROM dtm.workers WHERE worker = 0 AND state = \'running\''), '5', 'dtm.workers says so');
$service->open_gate('crowd');
wait_for($node, q{SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'crowd-%' AND status = 'succeed'}, '40',
	name => 'the others follow', timeout => 15);
is($service->calls(path => '/crowd'), 40, 'each was called once');
set('dtm.max_inflight', '1000');

# ------------------------------------------------ settings of the database
# What an administrator sets for the sessions of users must not catch the workers.
sql('CREATE DATABASE strict');
$node->safe_psql('strict', 'CREATE SCHEMA bad; CREATE FUNCTION bad.count(bigint) RETURNS bigint LANGUAGE sql AS \'SELECT 7::bigint\'');
install_extension($node, 'strict');
$node->safe_psql('strict', q{CREATE TABLE notes (gid text);
	CREATE FUNCTION note(payload jsonb) RETURNS void LANGUAGE sql AS
		$$ INSERT INTO public.notes SELECT public.dtm_context()->>'gid' $$});
my %strict = (
	'statement_timeout' => '1ms', 'lock_timeout' => '1ms', 'idle_in_transaction_session_timeout' => '1ms',
	'idle_session_timeout' => '1ms', 'default_transaction_isolation' => 'serializable', 'search_path' => 'bad, pg_catalog',
	'enable_indexscan' => 'off', 'default_tablespace' => 'pg_global', 'work_mem' => '64kB', 'bytea_output' => 'escape',
	'DateStyle' => 'German', 'IntervalStyle' => 'iso_8601', 'TimeZone' => 'Asia/Kathmandu', 'synchronous_commit' => 'off',
	'client_encoding' => 'LATIN1', 'client_min_messages' => 'error', 'row_security' => 'off', 'jit' => 'on',
	'plan_cache_mode' => 'force_custom_plan', 'session_replication_role' => 'replica', 'check_function_bodies' => 'off');
sql("ALTER DATABASE strict SET $_ = " . ($_ eq 'search_path' ? $strict{$_} : "'$strict{$_}'")) for sort keys %strict;
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'strict' AND backend_type LIKE 'dtm_pg%'});
my $steps = '[{"action": "' . $service->url('/strict') . '", "payload": {"k": 1}}, {"action": "sql:public.note"}]';
$service->script('/strict', { answers => [ { status => 500 } ] });
$node->safe_psql('strict', "SET statement_timeout = 0; SET search_path = public;"
	  . "SELECT dtm_saga_submit('$steps', gid => 'strict')");
wait_for($node, q{SET statement_timeout = 0; SELECT public.dtm_status('strict')}, 'succeed', dbname => 'strict',
	name => 'settings of the database do not catch the workers');
is($node->safe_psql('strict', 'SET statement_timeout = 0; SELECT gid FROM public.notes'), 'strict', 'the function ran once');
is($service->calls(gid => 'strict'), 2, 'the service was asked until it said yes');

# ------------------------------------------------------- dtm.allowed_targets
my $port = $service->port;
$service->script('/again', { answers => [ { status => 500 } ] });
$service->script('/first', { then => { gate => 'first' } });
submit_saga($node, steps('first', 'second_host'), gid => 'forbidden');
$service->wait_calls(1, path => '/first');
set('dtm.allowed_targets', "*, !127.0.0.1:$port");
usleep(200_000);
$service->open_gate('first');
wait_for($node, q{SELECT last_error FROM dtm.branches WHERE gid = 'forbidden' AND branch_id = '02' AND op = 'action'},
	'refused by dtm.allowed_targets', name => 'what is not allowed any more is not called');
is($service->calls(path => '/second_host'), 0, 'not at all');
my ($rc, $stdout, $stderr) = $node->psql('postgres',
	"SELECT dtm_saga_submit(jsonb_build_array(dtm_step('" . $service->url('/x') . "')))");
like($stderr, qr/ERROR:.*allowed_targets/s, 'a submit is refused with the name of the setting');
set('dtm.allowed_targets', '*');
wait_status($node, 'forbidden', 'succeed');
is($service->calls(path => '/second_host'), 1, 'allowed again: called');

# a malformed value is refused, and the old one stays
my $offset = -s $node->logfile;
($rc, $stdout, $stderr) = $node->psql('postgres', q{ALTER SYSTEM SET dtm.allowed_targets = '://'});
like($stderr, qr/ERROR:  invalid value for parameter "dtm.allowed_targets"/, 'a malformed policy is refused');
$node->append_conf('postgresql.conf', "dtm.allowed_targets = '://'\n");
sql('ALTER SYSTEM RESET dtm.allowed_targets');
sql('SELECT pg_reload_conf()');
wait_log($node, qr/invalid value for parameter "dtm.allowed_targets"/, $offset);
submit_saga($node, steps('still'), gid => 'still');
wait_status($node, 'still', 'succeed');

done_testing();
