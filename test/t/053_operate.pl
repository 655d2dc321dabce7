# -------------------------------------------------------------------------
#
# 053_operate.pl
#		What people who run it see and do: dtm.stuck, dtm.statistics,
#		dtm.workers, dtm_timeline, alerts, notifications, purging.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use JSON::PP;
use Test::More;
use Time::HiRes qw(usleep);

my $node = new_node(conf => "dtm.retry_interval = '50ms'\ndtm.notify = on");
my ($service, $hook) = (start_service(), start_service());

sub value { return $node->safe_psql('postgres', $_[0]); }

sub step
{
	my ($path, %more) = @_;

	return { action => $service->url($path), compensate => $service->url("$path/undo"), %more };
}

# ---- dtm.statistics and dtm.workers, before anything else happens here

my @statistics = ('SELECT submitted, succeeded, failed, in_progress, branch_retries, latency_p50 IS NOT NULL,'
	  . " latency_p50 <= latency_p95 AND latency_p95 <= latency_p99 FROM dtm.statistics WHERE trans_type = 'saga'");
is(value(@statistics), '0|0|0|0|0|f|', 'dtm.statistics: nothing yet');
$service->script('/busy', { answers => [ { status => 500 }, { status => 425 } ] });
$service->script('/no', { then => { status => 409 } });
$service->script('/gate', { then => { gate => 'gate' } });
submit_saga($node, [ step('/fine') ], gid => "fine-$_") for 1 .. 3;
submit_saga($node, [ step('/busy') ], gid => 'busy');
submit_saga($node, [ step('/fine'), step('/no') ], gid => "no-$_") for 1, 2;
wait_status($node, $_, 'succeed') for qw(fine-1 fine-2 fine-3 busy);
wait_status($node, $_, 'failed') for qw(no-1 no-2);
submit_saga($node, [ step('/gate') ], gid => 'gate', options => "request_timeout => '60 s'");
$service->wait_calls(1, path => '/gate');
is(value(@statistics), '7|4|2|1|2|t|t', 'dtm.statistics: submitted, succeeded, failed, in progress, repeated calls');
is(value("SELECT string_agg(trans_type, ' ' ORDER BY trans_type) FROM dtm.statistics WHERE submitted = 0"), 'msg tcc workflow xa',
	'the other types are there too');

is(value("SELECT w.state, w.transactions_in_flight, w.calls_in_flight, w.finished, a.backend_type FROM dtm.workers AS w"
		  . " JOIN pg_stat_activity AS a USING (pid) WHERE w.calls > 0"),
	'running|1|1|6|dtm_pg coordinator', 'dtm.workers: in flight and finished');
is(value('SELECT calls FROM dtm.workers WHERE calls > 0'), scalar($service->calls), 'dtm.workers counts calls');
is(value('SELECT started_at < last_tick_at AND last_tick_at <= now() AND rss_kb > 1000 AND ticks > 5 FROM dtm.workers WHERE calls > 0'),
	't', 'and more');
wait_for($node, 'SELECT calls_per_second FROM dtm.workers WHERE calls > 0', '0', name => 'and says when it is idle')
  if value('SELECT calls_per_second > 0 FROM dtm.workers WHERE calls > 0') eq 't';
$service->open_gate('gate');
wait_status($node, 'gate', 'succeed');
is(value(@statistics), '7|5|2|0|2|t|t', 'dtm.statistics: and finished');

value('CREATE FUNCTION nap(jsonb) RETURNS void LANGUAGE sql AS $$ SELECT pg_sleep(0.5) $$');
submit_saga($node, [ { action => 'sql:nap' } ], gid => 'nap');
wait_for($node, "SELECT count(*) FROM dtm.workers AS w JOIN pg_stat_activity AS a USING (pid) WHERE a.backend_type = 'dtm_pg executor'",
	'1', name => 'dtm.workers shows executors');
wait_status($node, 'nap', 'succeed');

# ---- dtm_timeline

$service->script('/slow', { then => { delay => 0.2 } });
$service->script('/twice', { answers => [ { status => 500, body => 'first' } ] });
$service->script('/last', { then => { status => 409, body => 'no truck' } });
submit_saga($node, [ step('/slow'), step('/twice'), step('/last') ], gid => 'line');
wait_status($node, 'line', 'failed');
is(value("SELECT string_agg(concat_ws(' ', op, branch_id, attempt, outcome), ', ' ORDER BY at) FROM dtm_timeline('line')"),
	'action 01 1 ok, action 02 1 error: 500: first, action 02 2 ok, action 03 1 failure: 409: no truck, '
	  . 'compensate 03 1 ok, compensate 02 1 ok, compensate 01 1 ok', 'dtm_timeline: each call');
is(value("SELECT target FROM dtm_timeline('line') LIMIT 1"), $service->url('/slow'), 'its target');
is(value("SELECT took BETWEEN '200 ms' AND '2 s' FROM dtm_timeline('line') LIMIT 1"), 't', 'how long it took');
is(value("SELECT bool_and(at >= before) FROM (SELECT at, lag(at + took) OVER (ORDER BY at) AS before FROM dtm_timeline('line')) AS t"),
	't', 'one after the other');
is(value("SELECT bool_and(bar ~ '[^ ]'), bool_and(length(bar) <= 60), bool_and(blanks >= before) FROM (SELECT bar, blanks,"
		  . ' lag(blanks) OVER (ORDER BY at) AS before FROM'
		  . " (SELECT at, bar, length(bar) - length(ltrim(bar)) AS blanks FROM dtm_timeline('line')) AS l) AS t"), 't|t|t',
	'bars, each behind the one before');
my ($rc, $stdout, $stderr) = $node->psql('postgres', "SELECT * FROM dtm_timeline('nobody')");
like($stderr, qr/transaction "nobody" does not exist/, 'of an unknown one');

# ---- alerts

$node->append_conf('postgresql.conf', "dtm.alert_webhook = '" . $hook->url('/alert') . "'");
$node->reload;
usleep(300_000);
$service->script('/sick', { answers => [ map { { status => 500, body => "error \"$_\"" } } 1 .. 5 ] });
$service->script('/calm', { answers => [ (({ status => 500 }) x 2, { status => 425 }) x 3 ] });
submit_saga($node, [ step('/sick') ], gid => "it's \"sick\"", options => "retry_interval => '20 ms'");
submit_saga($node, [ step('/calm') ], gid => 'calm', options => "retry_interval => '20 ms'");
wait_for($node, "SELECT dtm_status('it''s \"sick\"') || dtm_status('calm')", 'succeedsucceed', name => 'both succeed in the end');
$hook->wait_calls(3);
my @alerts = $hook->calls;
is(scalar @alerts, 3, 'an alert for the third failure in a row and each further one');
is_deeply([ map { $_->{method} . ' ' . $_->{headers}{'content-type'} } @alerts ], [ ('POST application/json') x 3 ],
	'a POST of JSON');
is_deeply([ map { decode_json($_->{body}) } @alerts ],
	[ map { { gid => "it's \"sick\"", status => 'submitted', branch => $service->url('/sick'),
				error => "500: error \"$_\"", retry_count => $_ } } 3 .. 5 ], 'that says what fails and why');

# a compensation that fails, and a hook that does too
my $offset = -s $node->logfile;
$hook->script('/alert', { then => { status => 500, body => 'hook is sick' } });
$service->script('/no/undo', { answers => [ ({ status => 409, body => 'cannot undo' }) x 3 ] });
submit_saga($node, [ step('/no') ], gid => 'undo', options => "retry_interval => '20 ms'");
wait_status($node, 'undo', 'failed');
$hook->wait_calls(4);
my $alert = decode_json(($hook->calls)[3]{body});
is("$alert->{gid} $alert->{status} $alert->{branch} $alert->{error}", 'undo aborting ' . $service->url('/no/undo')
	  . ' 409: cannot undo', 'an alert for a compensation');
wait_log($node, qr/dtm\.alert_webhook did not take an alert: 500: hook is sick/, $offset, 'the log says that the hook failed');

# ---- dtm.stuck

is(value('SELECT count(*) FROM dtm.stuck'), 0, 'nothing is stuck');
$service->script('/stuck', { then => { status => 500, body => 'out of order' } });
my $gid = "o'clock; -- \\";
my $literal = q{'o''clock; -- \\'};
submit_saga($node, [ step('/stuck') ], gid => $gid, options => "retry_interval => '10 ms'");
wait_for($node, 'SELECT status, submitted_by, reason ~ \'out of order\', next_run_at IS NOT NULL FROM dtm.stuck',
	'submitted|postgres|t|t', name => 'dtm.stuck has what keeps failing');
like(value('SELECT reason FROM dtm.stuck'), qr{01 action .*/stuck.*500: out of order|/stuck}, 'it names the branch');

# what it suggests can be typed as it is
my ($retry, $stop) = value('SELECT suggestion FROM dtm.stuck') =~ /^(SELECT dtm_retry\(.*?\));  --.*?or: (SELECT dtm_stop\(.*\))$/;
ok($retry && $stop, 'it suggests dtm_retry and dtm_stop');
my $asked = $service->calls(path => '/stuck');
is(value($retry), 'submitted', 'the first suggestion');
$service->wait_calls($asked + 1, path => '/stuck');
is(value($stop), 'failed', 'the second');
is(value('SELECT count(*) FROM dtm.stuck'), 0, 'nothing is stuck any more');
is(value("SELECT rollback_reason FROM dtm.transactions WHERE gid = $literal"), 'why', 'stopped with the reason');

# a role sees its own
$node->safe_psql('postgres', "CREATE ROLE ann LOGIN; CREATE ROLE bob LOGIN; SELECT dtm_grant('ann'), dtm_grant('bob')");
submit_saga($node, [ step('/stuck') ], gid => 'of-ann', options => "retry_interval => '10 ms'", user => 'ann');
wait_for($node, 'SELECT submitted_by FROM dtm.stuck', 'ann');
is($node->safe_psql('postgres', 'SELECT count(*) FROM dtm.stuck', extra_params => [ '-U', 'bob' ]), 0, 'bob does not see it');
($rc, $stdout, $stderr) = $node->psql('postgres', "SELECT dtm_stop('of-ann')", extra_params => [ '-U', 'bob' ]);
isnt($rc, 0, 'nor may he stop it');
is($node->safe_psql('postgres', "SELECT dtm_stop('of-ann')", extra_params => [ '-U', 'ann' ]), 'failed', 'ann may');

# ---- NOTIFY

my $steps = encode_json([ step('/fine') ]);
my $failing = encode_json([ step('/no') ]);
my $notified = value(<<"END");
LISTEN dtm;
SELECT dtm_saga_submit('$steps', gid => 'told');
SELECT dtm_wait('told');
SELECT dtm_saga_submit('$failing', gid => 'told too');
SELECT dtm_wait('told too');
SELECT 1;
END
is_deeply([ sort $notified =~ /notification "dtm" with payload "(told[^"]*)"/g ], [ 'told succeed', 'told too failed' ],
	'dtm.notify: gid and status of what finishes');
$node->append_conf('postgresql.conf', 'dtm.notify = off');
$node->reload;
usleep(300_000);
$notified = value("LISTEN dtm; SELECT dtm_saga_submit('$steps', gid => 'quiet'); SELECT dtm_wait('quiet'); SELECT 1");
unlike($notified, qr/notification/, 'off: none');

# ---- nobody can keep the coordinator out

open(my $holder, '|-', 'psql', '-XAtq', '-o', '/dev/null', '-d', $node->connstr('postgres'), '-U', 'bob')
  or die "could not start psql: $!";
print $holder "SELECT pg_advisory_lock(classid::int, objid::int), pg_advisory_lock((classid::bigint << 32) + objid::bigint)\n"
  . " FROM pg_locks WHERE locktype = 'advisory';\n";
$holder->flush;
wait_for($node, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted", '3',
	name => 'somebody takes all locks that look like the coordinator\'s');
my $coordinator = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'dtm_pg coordinator'";
my $old = value($coordinator);
value("SELECT pg_terminate_backend($old)");
submit_saga($node, [ step('/fine') ], gid => 'after all');
wait_status($node, 'after all', 'succeed');
isnt(value($coordinator), $old, 'by another coordinator');
close $holder;

# ---- purging

my $unfinished = "SELECT count(*) FROM dtm.transactions WHERE status NOT IN ('succeed', 'failed')";
submit_saga($node, [ step('/fine') ], gid => 'waits', options => "start_after => '1 h'");
submit_saga($node, [ step('/fine') ], gid => 'ann-done', user => 'ann');
wait_status($node, 'ann-done', 'succeed');
my $all = value('SELECT count(*) FROM dtm.transactions');
is(value("SELECT dtm_purge('1 h')"), 0, 'dtm_purge: nothing is that old');
is($node->safe_psql('postgres', "SELECT dtm_purge('0')", extra_params => [ '-U', 'ann' ]), 2, 'ann purges what is hers');
is(value("SELECT dtm_purge('0')"), $all - 3, 'a superuser the rest');
is(value('SELECT gid FROM dtm.transactions'), 'waits', 'what is not finished stays');
is(value('SELECT count(*) FROM dtm.barrier'), 0, 'the rows of sql: branches in dtm.barrier are gone too');
is(value(@statistics), '1|0|0|1|0|f|', 'and dtm.statistics knows nothing of them');

submit_saga($node, [ { action => 'sql:nap' } ], gid => "old-$_") for 1 .. 3;
wait_for($node, "SELECT count(*) FROM dtm.transactions WHERE status = 'succeed'", '3');
$node->append_conf('postgresql.conf', "dtm.retention = '1s'");
usleep(1_100_000);
$node->restart;
wait_for($node, "SELECT string_agg(gid, ' ') FROM dtm.transactions", 'waits', name => 'dtm.retention: the old ones are purged');
is(value('SELECT count(*) FROM dtm.barrier'), 0, 'with their rows in dtm.barrier');
is(value($unfinished), 1, 'never what is not finished');

$node->stop;
done_testing();
