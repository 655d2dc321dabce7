# -------------------------------------------------------------------------
#
# 050_saga_round_trip.pl
#		What a service sees of a saga: the requests byte by byte, their order,
#		and when they come.
#
# Not here: what the answers mean (051), limits (052), sql: branches (070).
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = new_node(conf => "dtm.retry_interval = '100ms'\ndtm.retry_max_interval = '2s'");
my $service = start_service();

sub value { return $node->safe_psql('postgres', $_[0]); }

sub branches
{
	my ($gid) = @_;

	return value("SELECT string_agg(op || ' ' || branch_id || ' ' || status, ', ' ORDER BY branch_id, op)"
		  . ' FROM dtm.branches WHERE gid = ' . sql_literal($gid));
}

sub reason { return value("SELECT rollback_reason FROM dtm.transactions WHERE gid = '$_[0]'"); }

# A step on the path, with its undo beside it.
sub step
{
	my ($path, %more) = @_;

	return { action => $service->url($path), compensate => $service->url("$path/undo"),
		payload => { n => 1 }, %more };
}

# Seconds from the end of each call to the start of the next.
sub gaps
{
	my @calls = @_;

	return map { $calls[$_]{start} - $calls[ $_ - 1 ]{end} } 1 .. $#calls;
}

# ---- the timed ones are submitted first and looked at last, so that they wait side by side

my @failing = ({ status => 500, body => 'busy' }) x 3;

$service->script('/double', { answers => [@failing] });
submit_saga($node, [ step('/double') ], gid => 'double', options => "retry_interval => '200 ms'");
$service->script('/steady', { answers => [ ({ status => 425 }) x 4 ] });
submit_saga($node, [ step('/steady') ], gid => 'steady', options => "retry_interval => '200 ms'");
$service->script('/mixed', { answers => [ @failing, { status => 425 }, { status => 500 } ] });
submit_saga($node, [ step('/mixed') ], gid => 'mixed', options => "retry_interval => '100 ms'");
$service->script('/timeout', { then => { body => 'ONGOING' } });
submit_saga($node, [ step('/before'), step('/timeout'), step('/never') ], gid => 'timeout',
	options => "timeout_to_fail => '1 s', retry_interval => '300 ms'");
submit_saga($node, [ step('/later') ], gid => 'later', options => "start_after => '1200 ms'");
$service->script('/slow', { answers => [ { hang => 1 } ] });
submit_saga($node, [ step('/slow', request_timeout => 0.4) ], gid => 'slow',
	options => "request_timeout => '20 s', retry_interval => '100 ms'");

# ---- one request, byte by byte

my $json = '{"action": "' . $service->url('/order') . '", "compensate": "' . $service->url('/order/undo')
  . '", "payload": {"qty": 2.50, "price": 12345678901234567890.10, "text": "a \"b\" \u00fc \n"}}';
my $body = value(q{SELECT '{"qty": 2.50, "price": 12345678901234567890.10, "text": "a \"b\" \u00fc \n"}'::jsonb});
submit_saga($node, "[$json]", gid => 'exact');
wait_status($node, 'exact', 'succeed');
my @calls = $service->calls(gid => 'exact');
is(scalar @calls, 1, 'one call of one step');
is($calls[0]{method}, 'POST', 'with a payload: POST');
is($calls[0]{path}, '/order', 'path');
is($calls[0]{query_string}, 'branch_id=01&gid=exact&op=action&trans_type=saga',
	'the four parameters and no other');
utf8::decode($body);
is($calls[0]{body}, $body, 'body is the text of the jsonb');
like($calls[0]{body}, qr/"qty": 2\.50\b/, 'numbers keep their digits');
like($calls[0]{body}, qr/12345678901234567890\.10/, 'also long ones');
is($calls[0]{headers}{'content-type'}, 'application/json', 'Content-Type');
is($calls[0]{headers}{'content-length'}, length(do { my $b = $body; utf8::encode($b); $b }),
	'Content-Length');
is(branches('exact'), 'action 01 succeed, compensate 01 prepared', 'its rows');

my $strange = 'a/b c&d=e+f%?#ü';
submit_saga($node, '[{"action": "' . $service->url('/get?tenant=7&q=a%20b') . '"}]', gid => $strange);
wait_status($node, $strange, 'succeed');
@calls = $service->calls(path => '/get');
is($calls[0]{method}, 'GET', 'without a payload: GET');
is($calls[0]{body}, '', 'and no body');
is($calls[0]{headers}{'content-type'}, undef, 'and no Content-Type');
is($calls[0]{query_string}, 'tenant=7&q=a%20b&branch_id=01'
	  . '&gid=a%2Fb%20c%26d%3De%2Bf%25%3F%23%C3%BC&op=action&trans_type=saga',
	'the query of the URL stays as it is; the gid is percent-encoded');

submit_saga($node,
	[ step('/h1', headers => { 'X-Both' => 'step', 'Content-Type' => 'application/x-test' }), step('/h2') ],
	gid => 'headers', options => q{headers => '{"x-both": "all", "X-Tenant": "acme"}'});
wait_status($node, 'headers', 'succeed');
@calls = $service->calls(gid => 'headers');
is_deeply([ map { $_->{headers}{'x-tenant'} } @calls ], [ 'acme', 'acme' ],
	'headers of the transaction go with every call');
is_deeply([ map { $_->{headers}{'x-both'} } @calls ], [ 'step', 'all' ],
	'a header of the step replaces the one of the transaction, whatever its case');
is_deeply([ map { $_->{headers}{'content-type'} } @calls ], [ 'application/x-test', 'application/json' ],
	'also the Content-Type');

# DTM's own clients: payloads are strings, and their bytes are the body
my $urls = join ', ', map { qq({"action": "@{[ $service->url("/w$_") ]}", "compensate": ""}) } 1 .. 3;
submit_saga($node, qq({"steps": [$urls], "payloads": ["{\\"b\\":1,  \\"a\\":2.50}", "not json", ""]}), gid => 'wire');
wait_status($node, 'wire', 'succeed');
is_deeply([ map { "$_->{method} $_->{body}" } $service->calls(gid => 'wire') ],
	[ 'POST {"b":1,  "a":2.50}', 'POST not json', 'GET ' ], 'payload strings are sent as they are');

# ---- order

$service->script('/c3', { then => { status => 409, body => 'no truck' } });
submit_saga($node, [ step('/c1'), { action => $service->url('/c2') }, step('/c3'), step('/c4') ],
	gid => 'undone');
wait_status($node, 'undone', 'failed');
is_deeply([ $service->ops(gid => 'undone') ],
	[ 'action 01 /c1', 'action 02 /c2', 'action 03 /c3', 'compensate 03 /c3/undo', 'compensate 01 /c1/undo' ],
	'backwards, the failed step too, and nothing of a step that was never called');
is(branches('undone'), 'action 01 succeed, compensate 01 succeed, action 02 succeed, '
	  . 'compensate 02 succeed, action 03 failed, compensate 03 succeed, '
	  . 'action 04 prepared, compensate 04 prepared', 'rows as in DTM');
is(reason('undone'), 'url:' . $service->url('/c3') . ' return failed: no truck FAILURE', 'the reason');
@calls = $service->calls(gid => 'undone', op => 'compensate');
is_deeply([ map { "$_->{method} $_->{body}" } @calls ], [ ('POST {"n": 1}') x 2 ],
	'a compensation gets the payload of its action');
my @all = $service->calls(gid => 'undone');
ok(!(grep { $all[$_]{start} < $all[ $_ - 1 ]{end} } 1 .. $#all), 'one after the other');

# the first one fails: only that one is undone
$service->script('/d1', { then => { status => 409 } });
$service->script('/d1/undo', { answers => [ { status => 500 }, { status => 409, body => 'cannot' } ] });
submit_saga($node, [ step('/d1'), step('/d2') ], gid => 'first', options => "retry_interval => '50 ms'");
wait_status($node, 'first', 'failed');
is_deeply([ $service->ops(gid => 'first') ], [ 'action 01 /d1', ('compensate 01 /d1/undo') x 3 ],
	'a compensation is repeated until it succeeds, also after a 409');

# ---- at once

$service->script("/p$_", { answers => [ { gate => 'p' } ] }) for 1 .. 3;
submit_saga($node, [ map { step("/p$_") } 1 .. 3 ], gid => 'parallel', concurrent => 1);
$service->wait_calls(3, gid => 'parallel');
$service->open_gate('p');
wait_status($node, 'parallel', 'succeed');

# 01 fails while 02 is out: its result is awaited, then all that was called is undone, at once
$service->script('/q1', { then => { status => 409 } });
$service->script('/q2', { answers => [ { gate => 'q2' } ] });
$service->script("/q$_/undo", { answers => [ { gate => 'undo' } ] }) for 1 .. 3;
submit_saga($node, [ map { step("/q$_") } 1 .. 3 ], gid => 'partfail', concurrent => 1);
wait_for($node, "SELECT dtm_status('partfail')", 'aborting');
$service->wait_calls(2, gid => 'partfail', op => 'compensate');
is(scalar($service->calls(path => '/q2/undo')), 0, 'a step in flight is not undone before its answer is there');
$service->open_gate('q2');
$service->wait_calls(3, gid => 'partfail', op => 'compensate');
$service->open_gate('undo');
wait_status($node, 'partfail', 'failed');

# partly ordered: 02 and 03 after 01, 04 after both; 04 fails
$service->script('/r4', { then => { status => 409 } });
$service->script("/r$_", { answers => [ { gate => 'r' } ] }) for 2, 3;
submit_saga($node, [ step('/r1'), step('/r2', after => [0]), step('/r3', after => [0]),
	step('/r4', after => [ 1, 2 ]) ], gid => 'diamond', concurrent => 1);
$service->wait_calls(3, gid => 'diamond', op => 'action');
is_deeply([ sort map { $_->{path} } $service->calls(gid => 'diamond') ], [ '/r1', '/r2', '/r3' ],
	'two steps at once after the first');
$service->open_gate('r');
wait_status($node, 'diamond', 'failed');
my @order = map { $_->{query}{branch_id} } $service->calls(gid => 'diamond', op => 'compensate');
is(join(' ', $order[0], (sort @order[ 1, 2 ]), $order[3]), '04 02 03 01', 'undone against the order');

# ---- limits of one transaction

$service->script('/l2', { then => { status => 500, body => 'no' } });
submit_saga($node, [ step('/l1'), step('/l2') ], gid => 'limit',
	options => "retry_limit => 2, retry_interval => '50 ms'");
$service->script('/l3', { then => { status => 500 } });
submit_saga($node, [ step('/l3', retry_limit => 0) ], gid => 'limit0',
	options => "retry_limit => 5, retry_interval => '50 ms'");
wait_status($node, 'limit', 'failed');
is_deeply([ $service->ops(gid => 'limit') ],
	[ 'action 01 /l1', ('action 02 /l2') x 3, 'compensate 02 /l2/undo', 'compensate 01 /l1/undo' ],
	'two repeats, then back');
is(reason('limit'), 'RetryCount is greater than RetryLimit, RetryLimit: 2', 'and says so');
is(branches('limit'), 'action 01 succeed, compensate 01 succeed, action 02 prepared, compensate 02 succeed',
	'rows: the undecided action stays prepared');
wait_status($node, 'limit0', 'failed');
is(scalar($service->calls(path => '/l3')), 1, 'retry_limit of the step wins');

# ---- hurrying and stopping

$service->script('/hurry', { answers => [ { status => 500 } ] });
submit_saga($node, [ step('/hurry') ], gid => 'hurry', options => "retry_interval => '1 h'");
wait_for($node, "SELECT next_run_at > now() + interval '50 min' FROM dtm.transactions WHERE gid = 'hurry'",
	't', name => 'waits for an hour');
is(value("SELECT dtm_retry('hurry')"), 'submitted', 'dtm_retry says where it stands');
wait_status($node, 'hurry', 'succeed', timeout => 5);
is(scalar($service->calls(path => '/hurry')), 2, 'dtm_retry asks at once');

$service->script('/stop2', { answers => [ { gate => 'stop' } ] });
submit_saga($node, [ step('/stop1'), step('/stop2'), step('/stop3') ], gid => 'stop',
	options => "request_timeout => '30 s'");
$service->wait_calls(2, gid => 'stop');
is(value("SELECT dtm_stop('stop', 'we are closed')"), 'failed', 'dtm_stop in the middle of a call');
wait_until(sub { my @c = $service->calls(path => '/stop2'); return ($c[0]{status} // '') eq 'gone' },
	'the call is given up');
$service->open_gate('stop');
usleep(300_000);
is_deeply([ $service->ops(gid => 'stop') ], [ 'action 01 /stop1', 'action 02 /stop2' ],
	'nothing more is called, no compensation either');
is(value("SELECT status || ' ' || rollback_reason || ' ' || (finished_at IS NOT NULL) FROM dtm.transactions WHERE gid = 'stop'"),
	'failed we are closed true', 'and that is final');

# dtm_wait is woken: the longest of some waits is far below any polling
my $slowest = 0;
for my $round (1 .. 3)
{
	$service->script("/wait$round", { answers => [ { gate => "wait$round" } ] });
	submit_saga($node, [ step("/wait$round") ], gid => "wait$round");
	$service->wait_calls(1, gid => "wait$round");
	my $before = time();
	open(my $psql, '-|', 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c',
		"SELECT dtm_wait('wait$round', '20 s'), extract(epoch FROM clock_timestamp())")
	  or die "could not start psql: $!";
	wait_for($node, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT dtm_wait(''wait$round%'"
		  . " AND wait_event_type = 'Extension'", '1', name => "somebody waits for wait$round");
	my $opened = time();
	$service->open_gate("wait$round");
	my ($status, $woken) = split /\|/, (<$psql> // '|0') =~ s/\s+$//r;
	close $psql;
	is($status, 'succeed', 'dtm_wait gives the final status');
	cmp_ok($woken, '>', $opened, 'not before the end');
	$slowest = $woken - $opened if $woken - $opened > $slowest;
}
cmp_ok($slowest, '<', 0.8, 'dtm_wait wakes at once');
submit_saga($node, [ step('/hang') ], gid => 'short', options => "start_after => '1 h'");
is(value("SELECT dtm_wait('short', '100 ms')"), 'submitted', 'dtm_wait gives up after its timeout');

# ---- when: the ones that were submitted at the beginning

sub check_gaps
{
	my ($path, @at_least) = @_;
	my @gaps = gaps($service->calls(path => $path));

	is(scalar @gaps, scalar @at_least, "$path: number of calls");
	for my $i (0 .. $#at_least)
	{
		next unless defined $gaps[$i];
		cmp_ok($gaps[$i], '>=', $at_least[$i] - 0.005, "$path: pause $i not shorter");
		cmp_ok($gaps[$i], '<', $at_least[$i] * 1.1 + 1, "$path: pause $i not much longer");
	}
	return;
}

wait_status($node, $_, 'succeed') for qw(double steady mixed later slow);
wait_status($node, 'timeout', 'failed');
check_gaps('/double', 0.2, 0.4, 0.8);
check_gaps('/steady', 0.2, 0.2, 0.2, 0.2);
check_gaps('/mixed', 0.1, 0.2, 0.4, 0.1, 0.1);
is(value("SELECT attempts FROM dtm.branches WHERE gid = 'mixed' AND op = 'action'"), 6, 'attempts are counted');

is(reason('timeout'), 'Timeout after 1 seconds', 'timeout_to_fail');
is(branches('timeout'), 'action 01 succeed, compensate 01 succeed, action 02 prepared, '
	  . 'compensate 02 succeed, action 03 prepared, compensate 03 prepared', 'rows after the time-out');
is_deeply([ map { $_->{path} } $service->calls(gid => 'timeout', op => 'compensate') ],
	[ '/timeout/undo', '/before/undo' ], 'what may have been called is undone');
@all = $service->calls(gid => 'timeout');
my $waited = ($service->calls(path => '/timeout/undo'))[0]{start} - $all[0]{start};
cmp_ok($waited, '>', 0.7, 'not before its time');
cmp_ok($waited, '<', 2, 'not long after');

my $submitted = value("SELECT extract(epoch FROM created_at) FROM dtm.transactions WHERE gid = 'later'");
my $started = ($service->calls(path => '/later'))[0]{start} - $submitted;
cmp_ok($started, '>=', 1.19, 'start_after: not before');
cmp_ok($started, '<', 2.2, 'start_after: soon after');

@calls = $service->calls(path => '/slow');
is($calls[0]{status}, 'gone', 'request_timeout of the step: the call is given up');
my $took = $calls[0]{end} - $calls[0]{start};
cmp_ok($took, '>', 0.3, 'after its time');
cmp_ok($took, '<', 1.2, 'and not that of the transaction');
is(value("SELECT last_error FROM dtm.branches WHERE gid = 'slow' AND op = 'action'"),
	'timed out after 400 ms (request_timeout)', 'last_error names the setting');

$node->stop;
done_testing();
