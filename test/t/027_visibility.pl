# -------------------------------------------------------------------------
#
# 027_visibility.pl
#		What an operator sees of the workers, and what they do not do: hold
#		snapshots while a call is out, tick when idle, hide from autovacuum.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use Test::More;
use Time::HiRes qw(usleep);

my $node = new_node(conf => join "\n", "dtm.request_timeout = '30s'", "dtm.retry_interval = '100ms'", 'autovacuum = off');
my $service = start_service();

sub sql { return $node->safe_psql('postgres', @_); }

sub steps { return [ map { { action => $service->url("/$_"), compensate => $service->url("/undo_$_") } } @_ ]; }

sql(q{CREATE FUNCTION note(payload jsonb) RETURNS void LANGUAGE sql AS 'SELECT'});
sql(q{CREATE FUNCTION slow(payload jsonb) RETURNS void LANGUAGE sql AS 'SELECT pg_sleep(2)'});
submit_saga($node, [ @{ steps('a') }, { action => 'sql:note' } ], gid => 'first');
wait_status($node, 'first', 'succeed');

# --------------------------------------------------------- pg_stat_activity
is(sql(q{SELECT backend_type, application_name, datname FROM pg_stat_activity WHERE backend_type LIKE 'dtm_pg%' ORDER BY 1}),
	"dtm_pg coordinator|dtm_pg coordinator|postgres\ndtm_pg executor|dtm_pg executor|postgres\n"
	  . 'dtm_pg launcher|dtm_pg launcher|', 'pg_stat_activity names the workers');
wait_for($node, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'dtm_pg%' AND state = 'idle'}, '3',
	name => 'idle they are shown as idle');
is(sql(q{SELECT count(*) FROM pg_stat_activity AS a JOIN dtm.workers AS w USING (pid) WHERE a.backend_type LIKE 'dtm_pg%'}), '2',
	'dtm.workers has the same processes');
is(sql(q{SELECT rss_kb BETWEEN 1000 AND 1000000 FROM dtm.workers WHERE worker = 0 AND state = 'running'}), 't',
	'dtm.workers shows the memory');
is(sql(q{SELECT count(*) FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
	WHERE a.backend_type = 'dtm_pg coordinator' AND l.locktype NOT IN ('advisory', 'virtualxid')}), '0',
	'idle they hold no lock on anything');

# ------------------------------------------------------------- idle is idle
my $ticks = q{SELECT ticks FROM dtm.workers WHERE worker = 0 AND state = 'running'};
usleep(500_000);
my $before = sql($ticks);
usleep(3_000_000);
is(sql($ticks), $before, 'an idle coordinator does not tick');

# -------------------------------------------- while calls are out for seconds
$service->script('/held', { then => { gate => 'held' } });
submit_saga($node, [ @{ steps('held') } ], gid => "held-$_") for 1 .. 5;
submit_saga($node, [ { action => 'sql:slow' } ], gid => 'slow');
$service->wait_calls(5, path => '/held');
wait_for($node, q{SELECT calls_in_flight, transactions_in_flight FROM dtm.workers WHERE worker = 0 AND state = 'running'}, '6|6',
	name => 'dtm.workers shows what is in flight');
my ($seen, $bad, $running) = (0, 0, 0);
for (1 .. 20)
{
	$bad += sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('dtm_pg coordinator', 'dtm_pg launcher')
		AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL OR xact_start IS NOT NULL)});
	$running += sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dtm_pg executor' AND state = 'active'});
	$seen++;
	usleep(50_000);
}
cmp_ok($bad, '<=', 1, "no transaction and no snapshot in $seen looks, while calls are out (but for a tick)");
cmp_ok($running, '>', 0, 'an executor that runs a function is shown as active');
wait_status($node, 'slow', 'succeed');
is(sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'dtm_pg%' AND backend_xmin IS NOT NULL}), '0',
	'nothing holds back VACUUM while services are slow');
sql('CREATE TABLE churn (id int); INSERT INTO churn VALUES (1); DELETE FROM churn');
like($node->psql('postgres', 'VACUUM (VERBOSE) churn') // '', qr/^/, 'VACUUM');
is(sql(q{SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'churn'}), '0', 'it removes what was deleted meanwhile');
$service->open_gate('held');
wait_status($node, "held-$_", 'succeed') for 1 .. 5;

# ------------------------------------------------- statistics of the tables
my $statistics = q{FROM pg_stat_user_tables WHERE schemaname = 'dtm' AND relname = };
wait_for($node, "SELECT n_tup_ins $statistics 'done'", '7', name => 'the ends so far are known to the statistics');
my $inserted = sql("SELECT n_tup_ins $statistics 'done'");
my ($updated, $hot) = split /\|/, sql("SELECT n_tup_upd, n_tup_hot_upd $statistics 'live'");
cmp_ok($updated, '>', 0, 'the updates so far are known to the statistics');
my $transactions = 200;
sql("SELECT dtm_saga_submit('[" . join(',', map { '{"action": "' . $service->url("/load_$_") . '"}' } 1 .. 4)
	  . "]', gid => 'load-' || i) FROM generate_series(1, $transactions) AS i");
wait_for($node, q{SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'load-%' AND status = 'succeed'}, $transactions,
	name => "$transactions transactions");
wait_for($node, "SELECT n_tup_ins - $inserted $statistics 'done'", $transactions,
	name => 'their ends are known to the statistics, for autovacuum');
wait_for($node, "SELECT n_tup_upd - $updated >= 2 * $transactions $statistics 'live'", 't', name => 'and their steps');
my ($updates, $hots) = split /\|/, sql("SELECT n_tup_upd - $updated, n_tup_hot_upd - $hot $statistics 'live'");
cmp_ok($hots, '>=', 0.8 * $updates, "updates of dtm.live are HOT ($hots of $updates)");
wait_for($node, "SELECT n_tup_del >= $transactions $statistics 'live'", 't', name => 'and the deletes');
is(sql(q{SELECT count(*) FROM dtm.live}), '0', 'dtm.live is empty when all have finished');

# ----------------------------------------------------------- and numbers again
is(sql(q{SELECT submitted, succeeded, failed, in_progress FROM dtm.statistics WHERE trans_type = 'saga'}),
	($transactions + 7) . '|' . ($transactions + 7) . '|0|0', 'dtm.statistics counts them');
is(sql(q{SELECT finished >= 207 FROM dtm.workers WHERE worker = 0 AND state = 'running'}), 't', 'dtm.workers counts them');

# ------------------------------------------------------------------- memory
sub memory_after_load
{
	my ($round) = @_;

	$service->script('/refuse', { then => { status => 409, body => 'x' x 1000 } });
	for my $second (qw(b refuse))
	{
		sql("SELECT dtm_saga_submit(jsonb_build_array(dtm_step('" . $service->url('/a') . "', '" . $service->url('/undo')
			  . "'), dtm_step('" . $service->url("/$second") . "')), gid => 'm-$round-$second-' || i)"
			  . ' FROM generate_series(1, 300) AS i');
	}
	wait_for($node, 'SELECT count(*) FROM dtm.live', '0', name => "load $round");
	wait_for($node, q{SELECT calls_per_second FROM dtm.workers WHERE worker = 0 AND state = 'running'}, '0',
		name => 'the rate comes down to 0 when nothing is called');
	return sql(q{SELECT rss_kb FROM dtm.workers WHERE worker = 0 AND state = 'running'});
}

memory_after_load(1);
my $memory = memory_after_load(2);
memory_after_load(3);
my $later = memory_after_load(4);
cmp_ok($later, '<', $memory + 1024, "the same load again takes no more memory ($memory kB, then $later kB)");

usleep(500_000);
$before = sql($ticks);
usleep(1_500_000);
is(sql($ticks), $before, 'idle again after the load');

done_testing();
