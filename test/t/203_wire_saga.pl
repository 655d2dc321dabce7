# -------------------------------------------------------------------------
#
# 203_wire_saga.pl
#		Sagas over the HTTP API: the bodies that clients send, the calls that
#		branches get, answers with and without wait_result, what query shows
#		at the end, repeated submits.
#
# Not here: the meaning of every answer of a branch (051), limits (052).
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use DtmWire;
use JSON::PP;
use Test::More;
use Time::HiRes qw(time);

my ($node, $wire) = wire_node(conf => "dtm.retry_interval = '200ms'\ndtm.retry_max_interval = '1s'");
my $service = start_service();
my $true = JSON::PP::true;
my $unfinished = 'wait result not return success: FAILURE';

sub value { return $node->safe_psql('postgres', $_[0]); }

sub submit { return $wire->post(submit => { trans_type => 'saga', @_ }); }
sub submit_wait { return submit(@_, wait_result => $true); }

sub refused_at_submit
{
	my ($name, %body) = @_;
	my $gid = $wire->gid('refused');
	my $answer = submit(gid => $gid, %body);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($answer->{status} == 500 || $answer->{status} == 409, "$name: refused") or diag("$answer->{status} $answer->{content}");
	is($wire->status($gid), 'none', "$name: nothing stored");
	return;
}

sub calls { return join ', ', $service->ops(gid => $_[0]); }

# --------------------------------------------------- success, as in 13.6

my $gid = $wire->gid;
is_success(submit_wait(gid => $gid, steps => [ step($service, 'out'), step($service, 'in') ],
	payloads => [ '{"amount":30}', '{"amount": 31}' ]), 'a saga that succeeds');
my @calls = $service->calls(gid => $gid);
is(scalar @calls, 2, 'two calls');
is_deeply([ map { "$_->{method} $_->{target} $_->{body} $_->{headers}{'content-type'}" } @calls ],
	[ map { my ($i, $name, $amount) = @$_;
			qq(POST /$name?branch_id=0$i&gid=$gid&op=action&trans_type=saga {"amount":$amount} application/json) }
		[ 1, 'out', 30 ], [ 2, 'in', ' 31' ] ], 'calls: method, query string in alphabetical order, body as it was sent');
is_deeply([ $wire->branches($gid) ], [ saga_rows(qw(prepared succeed prepared succeed)) ], 'rows: both succeed');

my $trans = $wire->trans($gid);
is_deeply([ @$trans{qw(gid trans_type status protocol)} ], [ $gid, 'saga', 'succeed', 'http' ], 'query: transaction');
like($trans->{finish_time}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/, 'query: finish_time');
ok(!exists $trans->{$_}, "query: no $_") for qw(rollback_time rollback_reason result steps payloads wait_result);
is(ref $trans->{concurrent}, 'JSON::PP::Boolean', 'query: concurrent is a boolean');
my $first = $wire->query($gid)->{branches}[0];
is($first->{url}, $service->url('/out-undo'), 'query: url of a branch');
is($first->{bin_data}, 'eyJhbW91bnQiOjMwfQ==', 'query: payload in base64');
ok(!exists $first->{finish_time}, 'query: no finish_time of what was not called');

$gid = $wire->gid('nowait');
is_success(submit(gid => $gid, steps($service, qw(a b c))), 'without wait_result');
$wire->wait_status($gid, 'succeed');
is(calls($gid), 'action 01 /a, action 02 /b, action 03 /c', 'three calls in order');

# -------------------------------------------------------- shapes of bodies

my %shapes = (
	'legacy steps[].data' => { steps => [ { %{ step($service, 's1') }, data => '{"n":1}' }, { %{ step($service, 's2') }, data => '{"n":2}' } ] },
	'payloads' => { steps => [ step($service, 's1'), step($service, 's2') ], payloads => [ '{"n":1}', '{"n":2}' ] },
	'payloads, then data' => { steps => [ step($service, 's1'), { %{ step($service, 's2') }, data => '{"n":2}' } ], payloads => ['{"n":1}'] },
	'empty data beside payloads' => { steps => [ map { { %{ step($service, $_) }, data => '' } } 's1', 's2' ], payloads => [ '{"n":1}', '{"n":2}' ] },
	'Go' => { steps => [ step($service, 's1'), step($service, 's2') ], payloads => [ '{"n":1}', '{"n":2}' ], protocol => '', concurrent => JSON::PP::false },
	'Python' => { steps => [ step($service, 's1'), step($service, 's2') ], payloads => [ '{"n":1}', '{"n":2}' ], custom_data => undef,
		query_prepared => undef, protocol => undef, wait_result => JSON::PP::false, timeout_to_fail => 0, request_timeout => 8,
		retry_interval => 0, passthrough_headers => [], branch_headers => {}, concurrent => JSON::PP::false },
	'Java' => { steps => [ step($service, 's1'), step($service, 's2') ], payloads => [ '{"n":1}', '{"n":2}' ], custom_data => undef,
		passthrough_headers => [], branch_headers => {}, subType => 'saga' },
	'C#' => { steps => [ step($service, 's1'), step($service, 's2') ], payloads => [ '{"n":1}', '{"n":2}' ], custom_data => undef,
		query_prepared => undef, protocol => undef, branch_headers => undef, passthrough_headers => undef, retry_limit => 0, retry_count => 0 },
	'too many payloads' => { steps => [ step($service, 's1'), step($service, 's2') ], payloads => [ '{"n":1}', '{"n":2}', '{"n":3}' ] });
for my $name (sort keys %shapes)
{
	$gid = $wire->gid('shape');
	is_success(submit_wait(%{ $shapes{$name} }, gid => $gid, wait_result => $true), $name);
	is_deeply([ map { "$_->{path} $_->{body}" } $service->calls(gid => $gid) ], [ '/s1 {"n":1}', '/s2 {"n":2}' ], "$name: calls");
}

for my $payload ('null', '"text"', '[1, 2]', '{"a": 1.50, "a": "ü"}', 'not json', '{"big":' . ('9' x 40) . '}')
{
	$gid = $wire->gid('payload');
	my $body = qq({"gid":"$gid","trans_type":"saga","wait_result":true,"steps":[{"action":") . $service->url('/bytes')
	  . '"}],"payloads":[' . JSON::PP->new->allow_nonref->encode($payload) . ']}';
	is_success($wire->post(submit => $body), "payload $payload");
	my ($call) = $service->calls(gid => $gid);
	is(Encode::encode('UTF-8', $call->{body}), $payload, "payload $payload: as it was sent");
}

$gid = $wire->gid('get');
is_success(submit_wait(gid => $gid, steps => [ { action => $service->url('/get?a=b%20c&d'), compensate => $service->url('/get-undo') },
	{ action => $service->url('/post'), compensate => '' } ], payloads => [ '', '{}' ]), 'an empty payload');
@calls = $service->calls(gid => $gid);
is_deeply([ map { "$_->{method} $_->{body}" } @calls ], [ 'GET ', 'POST {}' ], 'an empty payload: GET without a body');
like($calls[0]{target}, qr/^\/get\?a=b%20c&d=?&branch_id=01&gid=\Q$gid\E&op=action&trans_type=saga$/, 'behind the query string that the URL has');

$gid = $wire->gid('empty-url');
is_success(submit_wait(gid => $gid, steps => [ { action => '', compensate => '' }, { action => $service->url('/only') }, {} ],
	payloads => [ '{}', '{}', '{}' ]), 'empty URLs');
is(calls($gid), 'action 02 /only', 'empty URLs: not called');
is_deeply([ $wire->branches($gid) ], [ saga_rows(('prepared', 'succeed') x 3) ], 'empty URLs: rows');

for my $case ([ 'no steps', steps => [], payloads => [] ], [ 'null steps', steps => undef, payloads => undef ], ['members missing'])
{
	my ($name, @more) = @$case;

	$gid = $wire->gid('empty');
	is_success(submit_wait(gid => $gid, @more), "$name: succeeds at once");
	is($wire->status($gid), 'succeed', "$name: status");
	is_deeply($wire->query($gid)->{branches}, [], "$name: no branches");
}
$gid = $wire->gid('empty');
is_success(submit(gid => $gid, steps => [], payloads => []), 'no steps, not waiting');
$wire->wait_status($gid, 'succeed');

$gid = $wire->gid('many');
is_success(submit_wait(gid => $gid, steps($service, map { "m$_" } 1 .. 101)), '101 steps');
is((map { "$_->{query}{branch_id} $_->{path}" } $service->calls(gid => $gid))[-1], '101 /m101', 'the id of step 101');

# ------------------------------------------------------------- roll back

$service->script('/no-account', { then => { status => 409, body => '{"error":"no account"}' } });
my $reason = 'url:' . $service->url('/no-account') . ' return failed: {"error":"no account"} FAILURE';

$gid = $wire->gid('rollback');
is_failure(submit_wait(gid => $gid, steps($service, qw(out no-account never))), $reason, 'a saga that fails, waiting');
is(calls($gid), 'action 01 /out, action 02 /no-account, compensate 02 /no-account-undo, compensate 01 /out-undo',
	'the failed action is compensated too, backwards');
is_deeply([ $wire->branches($gid) ], [ saga_rows(qw(succeed succeed succeed failed prepared prepared)) ], 'rows: second fails');
$trans = $wire->trans($gid);
is($trans->{status}, 'failed', 'status after the answer');
is($trans->{rollback_reason}, $reason, 'rollback_reason');
ok(exists $trans->{rollback_time}, 'rollback_time');
ok(!exists $trans->{finish_time}, 'no finish_time');
is_deeply([ map { $_->{body} } $service->calls(gid => $gid, branch_id => '01') ], [ ('{"for":"out"}') x 2 ],
	'both calls of a branch get the same payload');

$gid = $wire->gid('rollback');
is_success(submit(gid => $gid, steps($service, qw(out no-account))), 'a saga that fails, not waiting: SUCCESS');
$wire->wait_status($gid, 'failed');
is_deeply([ $wire->branches($gid) ], [ saga_rows(qw(succeed succeed succeed failed)) ], 'rows');

$gid = $wire->gid('rollback');
is_failure(submit_wait(gid => $gid, steps($service, qw(no-account in))), $reason, 'the first fails');
is_deeply([ $wire->branches($gid) ], [ saga_rows(qw(succeed failed prepared prepared)) ], 'rows: first fails');

# texts of reasons: the body, with one FAILURE at its end
my %failing = (
	'409 without a body' => [ { status => 409, body => '' }, qr/^url:\S+ return failed: .*FAILURE$/ ],
	'200 with the word' => [ { body => '{"dtm_result":"FAILURE"}' }, qr/^url:\S+ return failed: \{"dtm_result":"FAILURE"\} FAILURE$/ ],
	'500 with the word' => [ { status => 500, body => 'the FAILURE page' }, qr/ return failed: the FAILURE page FAILURE$/ ],
	'body ends in it' => [ { status => 409, body => 'too poor FAILURE' }, qr/ return failed: too poor FAILURE$/ ]);
for my $name (sort keys %failing)
{
	my ($answer, $pattern) = @{ $failing{$name} };
	(my $path = $name) =~ s/ /-/g;

	$service->script("/$path", { then => $answer });
	$gid = $wire->gid('reason');
	is_failure(submit_wait(gid => $gid, steps($service, $path)), $pattern, "$name: message");
	like($wire->trans($gid)->{rollback_reason}, $pattern, "$name: reason");
}

# ------------------------------------ not decided in the first round

my %undecided = (
	'425' => { status => 425, body => '' },
	'200 ONGOING' => { body => '{"dtm_result":"ONGOING"}' },
	'425 with FAILURE' => { status => 425, body => 'FAILURE' },
	'409 with ONGOING' => { status => 409, body => 'ONGOING' },
	'500' => { status => 500, body => 'oops' },
	'201' => { status => 201, body => 'created' },
	'204' => { status => 204, body => '' });
for my $name (sort keys %undecided)
{
	(my $path = "u-$name") =~ s/ /-/g;

	$service->script("/$path", { answers => [ $undecided{$name} ] });
	$gid = $wire->gid('undecided');
	is_failure(submit_wait(gid => $gid, retry_interval => 100, steps($service, $path, 'then')), $unfinished, "$name: 409 of a waiting submit");
	is($wire->status($gid), 'submitted', "$name: still submitted");
	is_success(submit(gid => $gid, steps($service, $path, 'then')), "$name: submitted again");
	$wire->wait_status($gid, 'succeed');
	is(calls($gid), "action 01 /$path, action 01 /$path, action 02 /then", "$name: called once more");
}

# a compensation that is not done in the first round: the reason, and it goes on
$service->script('/stubborn-undo', { answers => [ { status => 409 }, { status => 500 }, { status => 425 } ] });
$gid = $wire->gid('stubborn');
is_failure(submit_wait(gid => $gid, steps($service, 'stubborn', 'no-account')), $reason, 'compensation fails: 409 with the reason');
$wire->wait_status($gid, 'failed');
is(scalar(grep { $_ eq 'compensate 01 /stubborn-undo' } $service->ops(gid => $gid)), 4, 'a compensation is called until it succeeds');

# ------------------------------------------------------------ time-out

$service->script('/slowly', { then => { status => 425 } });
$gid = $wire->gid('timeout');
is_failure(submit_wait(gid => $gid, timeout_to_fail => 1, steps($service, qw(slowly never))), $unfinished, 'ongoing, with a time-out');
$wire->wait_status($gid, 'failed');
is($wire->trans($gid)->{rollback_reason}, 'Timeout after 1 seconds', 'reason of a time-out');
is_deeply([ $wire->branches($gid) ], [ saga_rows(qw(succeed prepared prepared prepared)) ], 'rows: time-out while action 1 is ongoing');
is(scalar(grep { /never/ } $service->ops(gid => $gid)), 0, 'the second was never called');

# --------------------------------------------------------- retry_limit

$service->script('/flaky', { then => { status => 500, body => 'flaky' } });
$gid = $wire->gid('limit');
my $limit_reason = 'RetryCount is greater than RetryLimit, RetryLimit: 3';
is_failure(submit_wait(gid => $gid, retry_limit => 3, retry_interval => 60, steps($service, qw(ok flaky))), qr/^\Q$limit_reason\E\b/, 'retry limit reached');
is($wire->trans($gid)->{rollback_reason}, $limit_reason, 'retry limit: reason');
is(scalar $service->calls(gid => $gid, path => '/flaky'), 4, 'retry limit 3: four calls in one round');
is_deeply([ $wire->branches($gid) ], [ saga_rows(qw(succeed succeed succeed prepared)) ], 'rows: retry limit on action 2');

$service->script('/third-time', { answers => [ { status => 500 }, { status => 425 }, { status => 500 } ] });
$gid = $wire->gid('limit');
is_success(submit_wait(gid => $gid, retry_limit => 3, retry_interval => 60, steps($service, qw(ok third-time))), 'three failures with limit 3');
is(scalar $service->calls(gid => $gid, path => '/third-time'), 4, 'the fourth call in the same round succeeded');

# ------------------------------------------- headers, request_timeout

$service->script('/headers', { answers => [ { status => 500 } ] });
$gid = $wire->gid('headers');
is_failure(submit_wait(gid => $gid, steps($service, 'headers'), branch_headers => { test_header => 'one two', 'Content-Type' => 'text/x-own', 'X-Other' => '3' }),
	$unfinished, 'branch_headers');
$wire->wait_status($gid, 'succeed');
@calls = $service->calls(gid => $gid);
is_deeply([ map { "$_->{headers}{test_header} $_->{headers}{'content-type'} $_->{headers}{'x-other'}" } @calls ],
	[ ('one two text/x-own 3') x 2 ], 'headers reach the branch, in a later round too');

$service->script('/hangs', { answers => [ { hang => $true } ] });
$gid = $wire->gid('hangs');
my $start = time();
is_failure(submit_wait(gid => $gid, request_timeout => 1, steps($service, 'hangs')), $unfinished, 'request_timeout');
cmp_ok(time() - $start, '>=', 0.9, 'it was waited for');
$wire->wait_status($gid, 'succeed');

# ------------------------------------------------- repeated submit

# hurries what waits; what is done is not done again
$service->script('/later', { answers => [ { status => 500 } ] });
$gid = $wire->gid('again');
my @again = (gid => $gid, retry_interval => 100, steps($service, qw(done later last)));
is_failure(submit_wait(@again), $unfinished, 'first submit');
is_success(submit_wait(@again), 'second submit, of a submitted one: waits for its round');
is(calls($gid), 'action 01 /done, action 02 /later, action 02 /later, action 03 /last', 'the second submit does not repeat what is done');
is_failure(submit(@again), "current status 'succeed', cannot sumbmit. FAILURE", 'third submit, of a finished one');
is_failure($wire->post(prepare => { @again, trans_type => 'saga' }), "current status 'succeed', cannot prepare. FAILURE", 'prepare of a finished one');
is_failure($wire->post(abort => { gid => $gid, trans_type => 'saga' }), "trans type: 'saga' current status 'succeed', cannot abort. FAILURE", 'abort of a finished saga');
is(scalar $service->calls(gid => $gid), 4, 'refused requests call nothing');

$service->script('/held-undo', { then => { status => 500 } });
$gid = $wire->gid('aborting');
is_failure(submit_wait(gid => $gid, retry_interval => 100, steps($service, qw(held no-account))), $reason, 'a compensation fails');
is($wire->status($gid), 'aborting', 'aborting');
is_failure(submit(gid => $gid, steps($service, qw(held no-account))), "current status 'aborting', cannot sumbmit. FAILURE", 'submit of an aborting one');
is_failure($wire->post(prepare => { gid => $gid, trans_type => 'saga', steps($service, 'x') }), "current status 'aborting', cannot prepare. FAILURE", 'prepare of an aborting one');
is_failure($wire->post(abort => { gid => $gid, trans_type => 'saga' }), "trans type: 'saga' current status 'aborting', cannot abort. FAILURE", 'abort of an aborting saga');
is_success($wire->post(forceStop => { gid => $gid }), 'forceStop of an aborting one');
is_failure(submit(gid => $gid, steps($service, qw(held no-account))), "current status 'failed', cannot sumbmit. FAILURE", 'submit of a failed one');
is_failure($wire->post(prepare => { gid => $gid, trans_type => 'saga', steps($service, 'x') }), "current status 'failed', cannot prepare. FAILURE", 'prepare of a failed one');

# prepare, then submit
$gid = $wire->gid('prepared');
my @prepared = (gid => $gid, trans_type => 'saga', steps($service, qw(p1 p2)));
is_success($wire->post(prepare => {@prepared}), 'a saga may be prepared');
is_success($wire->post(prepare => {@prepared}), 'twice');
is($wire->status($gid), 'prepared', 'and is prepared');
is_deeply([ $wire->branches($gid) ], [ saga_rows(('prepared') x 4) ], 'with its branches');
is_failure($wire->post(abort => { gid => $gid, trans_type => 'saga' }), "trans type: 'saga' current status 'prepared', cannot abort. FAILURE", 'abort of a prepared saga');
is_success(submit_wait(gid => $gid, steps($service, qw(p3 p4))), 'submit of a prepared saga');
is(calls($gid), 'action 01 /p1, action 02 /p2', 'the stored branches are called');

# the same gid from several connections at once: all are answered, each branch is called once
$gid = $wire->gid('crowd');
my @crowd = map { $wire->start(submit => { gid => $gid, trans_type => 'saga', wait_result => $true, steps($service, qw(c1 c2)) }) } 1 .. 8;
my %statuses;
$statuses{ $wire->finish($_)->{status} }++ for @crowd;
is(join(' ', grep { $_ != 200 && $_ != 409 } keys %statuses), '', 'eight submits at once: accepted, or too late');
ok($statuses{200}, 'eight submits at once: at least one accepted');
is(calls($gid), 'action 01 /c1, action 02 /c2', 'eight submits at once: two calls');

# -------------------------------------------------- concurrent, orders

sub custom { return (custom_data => ref $_[0] ? encode_json($_[0]) : $_[0]); }

$service->script("/gate-$_", { answers => [ { gate => 'both' } ] }) for 1, 2;
$gid = $wire->gid('concurrent');
is_success(submit(gid => $gid, steps($service, qw(gate-1 gate-2)), custom({ concurrent => $true })), 'concurrent');
$service->wait_calls(2, gid => $gid);
$service->open_gate('both');
$wire->wait_status($gid, 'succeed');

$service->script('/ongoing-first', { answers => [ { status => 425 } ] });
$gid = $wire->gid('flag');
is_failure(submit_wait(gid => $gid, concurrent => $true, retry_interval => 60, steps($service, qw(ongoing-first second))), $unfinished, 'top-level concurrent');
is(calls($gid), 'action 01 /ongoing-first', 'alone has no effect for a saga');

$gid = $wire->gid('orders');
is_success(submit_wait(gid => $gid, steps($service, map { "o$_" } 0 .. 3), custom({ concurrent => $true, orders => { 0 => [ 1, 2 ], 1 => [3], 2 => [3] } })), 'orders');
my @order = map { $_->{path} } $service->calls(gid => $gid);
is("$order[0] $order[3]", '/o3 /o0', 'orders: what others wait for comes first');

for my $case ([ 'orders as an array', { concurrent => $true, orders => [ [], [0] ] } ], [ 'orders as an object', { concurrent => $true, orders => { 1 => [0] } } ])
{
	my ($name, $custom) = @$case;

	$gid = $wire->gid('array');
	is_failure(submit_wait(gid => $gid, steps($service, qw(no-account after)), custom($custom)), $reason, $name);
	is_deeply([ $wire->branches($gid) ], [ saga_rows(qw(succeed failed prepared prepared)) ], "$name: 1 waits for 0, which fails");
}
for my $custom ('{"concurrent":true,"orders":null}', '{"concurrent":true,"orders":{}}', '{"concurrent":true,"orders":[]}',
	'{"concurrent":true,"orders":{"1":null}}', '{"concurrent":false,"orders":null}', '{"orders":{}}', '{}', '',
	'{"concurrent":null}', '{"other":[1]}')
{
	$gid = $wire->gid('custom');
	is_success(submit_wait(gid => $gid, steps($service, qw(a b)), custom($custom)), "custom_data $custom");
}

# concurrent, and a later round: only what is not done
$service->script('/half', { answers => [ { status => 425 } ] });
$gid = $wire->gid('half');
is_failure(submit_wait(gid => $gid, steps($service, qw(half whole)), custom({ concurrent => $true })), $unfinished, 'concurrent, one ongoing');
$wire->wait_status($gid, 'succeed');
is(scalar $service->calls(gid => $gid, path => '/whole'), 1, 'the other is not called again');

# compensations of a concurrent saga: those that wait for others first
$gid = $wire->gid('conback');
is_failure(submit_wait(gid => $gid, steps($service, qw(r0 r1 no-account)), custom({ concurrent => $true, orders => { 1 => [0], 2 => [1] } })), $reason, 'concurrent, in a chain');
is(calls($gid), 'action 01 /r0, action 02 /r1, action 03 /no-account, compensate 03 /no-account-undo, compensate 02 /r1-undo, compensate 01 /r0-undo',
	'concurrent: backwards by orders');

my @two = steps($service, qw(x y));
refused_at_submit('custom_data that is no JSON', @two, custom('{concurrent'));
refused_at_submit('custom_data that is a number', @two, custom('7'));
refused_at_submit('concurrent that is a word', @two, custom('{"concurrent":"yes"}'));
refused_at_submit('orders that are a word', @two, custom('{"concurrent":true,"orders":"x"}'));
refused_at_submit('orders with a cycle', @two, custom({ concurrent => $true, orders => { 0 => [1], 1 => [0] } }));
refused_at_submit('orders on itself', @two, custom({ concurrent => $true, orders => { 0 => [0] } }));
refused_at_submit('orders out of range', @two, custom({ concurrent => $true, orders => { 1 => [5] } }));
refused_at_submit('orders of a step that is not', @two, custom({ concurrent => $true, orders => { 5 => [0] } }));
refused_at_submit('negative orders', @two, custom({ concurrent => $true, orders => { 1 => [-1] } }));
refused_at_submit('orders with a word', @two, custom({ concurrent => $true, orders => { first => [0] } }));
refused_at_submit('a word among orders', @two, custom({ concurrent => $true, orders => { 1 => ['zero'] } }));

# ------------------------------------------------------ wire and SQL

$gid = $wire->gid('to-sql');
is_failure(submit_wait(gid => $gid, steps($service, qw(out no-account))), $reason, 'wire to SQL');
is(value("SELECT trans_type, status, rollback_reason FROM dtm.transactions WHERE gid = '$gid'"), "saga|failed|$reason", 'wire to SQL: dtm.transactions');
is(value("SELECT string_agg(branch_id || ' ' || op || ' ' || status, ', ' ORDER BY branch_id, op) FROM dtm.branches WHERE gid = '$gid'"),
	'01 action succeed, 01 compensate succeed, 02 action failed, 02 compensate succeed', 'wire to SQL: dtm.branches');
is(value("SELECT dtm_wait('$gid')"), 'failed', 'wire to SQL: dtm_wait');

submit_saga($node, [ map { { %{ step($service, $_) }, payload => { n => 1 } } } qw(q1 no-account) ], gid => 'from-sql');
$wire->wait_status('from-sql', 'failed');
is_deeply([ $wire->branches('from-sql') ], [ saga_rows(qw(succeed succeed succeed failed)) ], 'SQL to wire: rows');
is($wire->trans('from-sql')->{rollback_reason}, $reason, 'SQL to wire: reason');
is_failure(submit(gid => 'from-sql', steps($service, 'x')), "current status 'failed', cannot sumbmit. FAILURE", 'SQL to wire: submit');

# --------------------------------------------- wait_result in a round

# The answer of a waiting submit of a long saga comes when all is done, others meanwhile.
$service->script('/long', { answers => [ { gate => 'long' } ] });
$gid = $wire->gid('long');
my $long = $wire->start(submit => { gid => $gid, trans_type => 'saga', wait_result => $true, steps($service, qw(long short)) });
$service->wait_calls(1, gid => $gid);
my $other = $wire->gid('meanwhile');
is_success(submit_wait(gid => $other, steps($service, 'quick')), 'others are answered while one waits');
is($wire->status($gid), 'submitted', 'it waits');
$service->open_gate('long');
is_success($wire->finish($long), 'and is answered');

# A client that goes away while it waits is no harm.
$service->script('/gone', { answers => [ { gate => 'gone' } ] });
$gid = $wire->gid('gone');
my $gone = $wire->start(submit => { gid => $gid, trans_type => 'saga', wait_result => $true, steps($service, qw(gone after)) });
$service->wait_calls(1, gid => $gid);
close $gone;
is_success($wire->post(prepare => { gid => $wire->gid('still'), trans_type => 'tcc' }), 'the port answers');
$service->open_gate('gone');
$wire->wait_status($gid, 'succeed');

# What comes behind it on the same connection is answered after it.
$service->script('/behind', { answers => [ { gate => 'behind' } ] });
$gid = $wire->gid('behind');
my $body = encode_json({ gid => $gid, trans_type => 'saga', wait_result => $true, steps($service, qw(behind)) });
my $pipe = $wire->raw("POST /api/dtmsvr/submit HTTP/1.1\r\nHost: x\r\nContent-Length: " . length($body) . "\r\n\r\n$body"
	  . "GET /api/ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
$service->wait_calls(1, gid => $gid);
$service->open_gate('behind');
like($wire->finish($pipe)->{content}, qr/^\{"dtm_result":"SUCCESS"\}HTTP.*\{"msg":"pong"\}$/s, 'pipelined behind a request that waits');

# A payload of almost a megabyte.
$gid = $wire->gid('large');
my $large = '"' . 'x' x 900_000 . '"';
is_success(submit_wait(gid => $gid, steps => [ step($service, 'large') ], payloads => [$large]), 'a large payload');
is(length(($service->calls(gid => $gid))[0]{body}), length $large, 'is sent whole');

done_testing();
