# -------------------------------------------------------------------------
#
# 030_neighbours.pl
#		What others do at the same moment: a switch of the WAL, DDL on several
#		databases at once, an executor of another database, dtm_stop() of
#		what is just finishing, an open dtm_purge().
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmSession;
use DtmTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = new_node(conf => join "\n", "dtm.retry_interval = '1h'", "dtm.retry_max_interval = '1h'",
	"dtm.request_timeout = '30s'", 'dtm.notify = on', "dtm.retention = '1s'");
my $service = start_service();
my $running = q{SELECT coalesce(string_agg(state, ' '), '') FROM dtm.workers WHERE state NOT LIKE 'executor%'};

sub sql { return $node->safe_psql('postgres', @_); }

sub steps { return [ map { { action => $service->url("/$_") } } @_ ]; }

sub log_text
{
	my ($offset) = @_;

	open my $log, '<', $node->logfile or die "log: $!";
	seek $log, $offset // 0, 0;
	local $/;
	return scalar <$log>;
}

sub end_coordinator
{
	my ($pid) = @_;

	$pid = sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'dtm_pg coordinator' AND datname = 'postgres'});
	sql("SELECT pg_terminate_backend($pid)");
	wait_for($node, "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid", '0', name => 'the coordinator left');
	return;
}

# A database with the extension and a running coordinator.
sub driven_database
{
	my ($name) = @_;

	sql("CREATE DATABASE $name");
	install_extension($node, $name);
	wait_for($node, $running, 'running', dbname => $name, name => "$name is driven");
	return;
}

wait_for($node, $running, 'running', name => 'running');

# ------------------------------- nothing in the WAL page that it starts at
end_coordinator();
my $offset = -s $node->logfile;
sql('CREATE TABLE some_wal (n int); SELECT pg_switch_wal()');
wait_for($node, $running, 'running', name => 'it comes back');
usleep(500_000);
unlike(log_text($offset), qr/past end of generated|is not satisfied/, 'and flushes no more than there is');

# ------------------------- two databases renamed by one transaction
driven_database('first');
driven_database('second');
my $session = DtmSession->new($node, 'postgres');
$session->query('BEGIN; ALTER DATABASE first RENAME TO one; ALTER DATABASE second RENAME TO two; COMMIT');
for my $name (qw(one two))
{
	wait_for($node, $running, 'running', dbname => $name, name => "$name is driven again, while the session goes on",
		timeout => 20);
}
$session->quit;

# ----------------- an executor that outlives the extension in its database
my $function = 'CREATE FUNCTION public.work(p jsonb) RETURNS void LANGUAGE sql AS $$ SELECT $$';
my $sql_step = '[{"action": "sql:public.work"}]';
$node->safe_psql('two', $function);
submit_saga($node, $sql_step, gid => 'before', dbname => 'two');
wait_status($node, 'before', 'succeed', dbname => 'two');
$node->safe_psql('two', 'DROP EXTENSION dtm_pg');
wait_for($node, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dtm_pg coordinator' AND datname = 'two'}, '0',
	name => 'the coordinator leaves');
usleep(500_000);
driven_database('three');
$node->safe_psql('three', $function);
submit_saga($node, $sql_step, gid => 'after', dbname => 'three');
wait_status($node, 'after', 'succeed', dbname => 'three', timeout => 20);
is($node->safe_psql('three', q{SELECT coalesce(string_agg(last_error, ' '), '') FROM dtm.branches}), '',
	'called in its own database only');

# ------------------- stopped while the coordinator waits to say "succeed"
$service->script('/held', { answers => [], then => { gate => 'held' } });
my $listener = DtmSession->new($node, 'postgres');
$listener->query('LISTEN dtm');
submit_saga($node, steps('held'), gid => 'stopped');
$service->wait_calls(1, gid => 'stopped');
$session = DtmSession->new($node, 'postgres');
$session->query(q{BEGIN; SELECT dtm_stop('stopped', 'by hand')});
$service->open_gate('held');
$session->query(<<'END_OF_WAIT');
DO $$ BEGIN
	WHILE NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'dtm_pg coordinator'
			AND datname = 'postgres' AND wait_event_type = 'Lock') LOOP
		PERFORM pg_sleep(0.005), pg_stat_clear_snapshot();
	END LOOP;
END $$; COMMIT
END_OF_WAIT
submit_saga($node, steps('fine'), gid => 'later');
wait_status($node, 'later', 'succeed');
my $told = $listener->query('SELECT 1') . $listener->query('SELECT 2');
is_deeply([ sort $told =~ /with payload "([^"]*)"/g ], [ 'later succeed', 'stopped failed' ],
	'it is told once what became of it');
$listener->quit;
$session->quit;

# ---------------------------------------------- a purge that is not committed
$session = DtmSession->new($node, 'postgres');
usleep(1_100_000);
isnt($session->query(q{BEGIN; SELECT dtm_purge('0 s')}), '0', 'somebody purges');
end_coordinator();
wait_for($node, $running, 'running', name => 'it comes back');
my $start = time();
sql(join "\n", map { "SELECT dtm_saga_submit('[{\"action\": \"" . $service->url('/quick')
	  . "\"}]', gid => 'beside-$_'); SELECT dtm_wait('beside-$_');" } 1 .. 10);
cmp_ok(time() - $start, '<', 3, 'the others do not wait for it');
$session->quit;

done_testing();
