# -------------------------------------------------------------------------
#
# 204_wire_msg.pl
#		Messages over the HTTP API: prepare, submit, abort in each status,
#		the check-back and its outcomes, delays, topics, wait_result.
#
# Not here: the same over SQL (100 to 104), the routes of topics in depth (210).
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use DtmWire;
use JSON::PP;
use Test::More;
use Time::HiRes qw(time usleep);

my ($node, $wire) = wire_node(conf => "dtm.retry_interval = '200ms'\ndtm.retry_max_interval = '1s'");
my $service = start_service();
my $true = JSON::PP::true;
my $unfinished = 'wait result not return success: FAILURE';

sub value { return $node->safe_psql('postgres', $_[0]); }

# The members of a msg with these steps.
sub message
{
	my ($gid, @names) = @_;

	return (gid => $gid, trans_type => 'msg', steps => [ map { { action => $service->url("/$_") } } @names ],
		payloads => [ map { qq({"for":"$_"}) } @names ]);
}

sub prepare
{
	my ($gid, $names, %more) = @_;

	return $wire->post(prepare => { message($gid, @$names), query_prepared => $service->url('/check'), %more });
}

sub submit { return $wire->post(submit => {@_}); }
sub abort { return $wire->post(abort => { gid => $_[0], trans_type => $_[1] // 'msg' }); }
sub calls { return join ', ', $service->ops(gid => $_[0]); }
sub rows { return join ', ', $wire->branches($_[0]); }

my $two = 'action 01 /a, action 02 /b';

# ------------------------------------------------------ direct submit

my $gid = $wire->gid;
is_success(submit(message($gid, qw(a b)), wait_result => $true), 'a message, waiting');
my @sent = $service->calls(gid => $gid);
is_deeply([ map { "$_->{method} $_->{target} $_->{body}" } @sent ],
	[ map { qq(POST /$_->[1]?branch_id=0$_->[0]&gid=$gid&op=action&trans_type=msg {"for":"$_->[1]"}) } [ 1, 'a' ], [ 2, 'b' ] ], 'its calls');
is(rows($gid), '01 action succeed, 02 action succeed', 'its rows');
is($wire->trans($gid)->{trans_type}, 'msg', 'its type');
ok(exists $wire->trans($gid)->{finish_time}, 'finish_time');

$gid = $wire->gid('with-query');
is_success(submit(message($gid, qw(a b)), query_prepared => $service->url('/check')), 'a new message with query_prepared');
$wire->wait_status($gid, 'succeed');
is(calls($gid), $two, 'is not checked back');
is($wire->trans($gid)->{query_prepared}, $service->url('/check'), 'query shows query_prepared');

$gid = $wire->gid('get');
is_success(submit(gid => $gid, trans_type => 'msg', steps => [ { action => $service->url('/get') }, { action => '' } ], payloads => [ '', '{}' ],
	wait_result => $true), 'empty payload, empty URL');
is(join(',', map { "$_->{method} $_->{path}" } $service->calls(gid => $gid)), 'GET /get', 'GET, and no call');
is(rows($gid), '01 action succeed, 02 action succeed', 'both succeed');

$gid = $wire->gid('empty');
is_success(submit(gid => $gid, trans_type => 'msg', steps => [], payloads => [], wait_result => $true), 'no steps');
is($wire->status($gid), 'succeed', 'no steps: succeed');

$gid = $wire->gid('legacy');
is_success(submit(gid => $gid, trans_type => 'msg', wait_result => $true, steps => [ { action => $service->url('/legacy'), data => '{"old":1}' } ]), 'legacy data');
is(($service->calls(gid => $gid))[0]{body}, '{"old":1}', 'legacy data is sent');

# ------------------------------------------- prepare, submit: each status

$gid = $wire->gid('two');
is_success(prepare($gid, [qw(a b)]), 'prepare');
is($wire->status($gid), 'prepared', 'prepared');
is(rows($gid), '01 action prepared, 02 action prepared', 'with its branches, and without one for the check-back');
is_success(prepare($gid, [qw(c d)]), 'prepare again');
is_success($wire->post(prepare => { gid => $gid, trans_type => 'tcc' }), 'prepare again as another type: not compared');
is($wire->trans($gid)->{trans_type}, 'msg', 'nothing is changed');
is(calls($gid), '', 'nothing is called while prepared');
is_success(submit(message($gid, qw(e f)), query_prepared => $service->url('/check'), wait_result => $true), 'submit');
is(calls($gid), $two, 'the stored branches are called');
is($wire->status($gid), 'succeed', 'succeed');
is_failure(prepare($gid, [qw(a b)]), "current status 'succeed', cannot prepare. FAILURE", 'prepare of a finished one');
is_failure(submit(message($gid, qw(a b))), "current status 'succeed', cannot sumbmit. FAILURE", 'submit of a finished one');
is_failure(abort($gid), "trans type: 'msg' current status 'succeed', cannot abort. FAILURE", 'abort of a finished one');
is(calls($gid), $two, 'no further call');

# submitted: hurried by another submit, which does not repeat what is done
$service->script('/later', { answers => [ { status => 500, body => 'not now' } ] });
$gid = $wire->gid('again');
my @again = (message($gid, qw(a later c)), retry_interval => 100);
is_error(submit(@again, wait_result => $true), qr/^your http\/grpc result should be specified as in:.*not now/s, 'a temporary error, waiting: 500');
is($wire->status($gid), 'submitted', 'submitted');
is_failure(prepare($gid, [qw(a b)]), "current status 'submitted', cannot prepare. FAILURE", 'prepare of a submitted one');
is_failure(abort($gid), "trans type: 'msg' current status 'submitted', cannot abort. FAILURE", 'abort of a submitted one');
is_success(submit(@again, wait_result => $true), 'submit of a submitted one');
is(calls($gid), 'action 01 /a, action 02 /later, action 02 /later, action 03 /c', 'goes on at once with what is not done');

# abort
$gid = $wire->gid('abort');
is_success(prepare($gid, [qw(a b)]), 'prepare');
is_success(abort($gid), 'abort');
my $trans = $wire->trans($gid);
is($trans->{status}, 'failed', 'failed at once');
ok(exists $trans->{rollback_time}, 'rollback_time');
is(rows($gid), '01 action prepared, 02 action prepared', 'rows of an aborted one');
is(calls($gid), '', 'nothing was called');
is_failure(abort($gid), "trans type: 'msg' current status 'failed', cannot abort. FAILURE", 'abort again');
is_failure(submit(message($gid, qw(a b))), "current status 'failed', cannot sumbmit. FAILURE", 'submit of an aborted one');
is_failure(prepare($gid, [qw(a b)]), "current status 'failed', cannot prepare. FAILURE", 'prepare of an aborted one');
for my $type (qw(saga tcc workflow), '')
{
	$gid = $wire->gid('abort');
	is_success(prepare($gid, ['a']), 'prepare');
	is_success(abort($gid, $type), "abort as '$type'");
	is($wire->status($gid), 'failed', "abort as '$type': failed");
}
$gid = $wire->gid('abort');
is_success(prepare($gid, ['a']), 'prepare');
is_success($wire->post(abort => { gid => $gid }), 'abort without a trans_type');
is($wire->status($gid), 'failed', 'failed');
$gid = $wire->gid('abort');
is_success(prepare($gid, ['a']), 'prepare');
is_success($wire->post(abort => { message($gid, 'a'), query_prepared => $service->url('/check'), concurrent => JSON::PP::false }), 'abort with the whole object');
is($wire->status($gid), 'failed', 'failed');

# --------------------------------------------------- wait_result

$service->script('/no', { answers => [ { status => 409, body => 'no stock' } ] });
$gid = $wire->gid('wait');
is_failure(submit(message($gid, qw(no b)), retry_interval => 100, wait_result => $true),
	qr/^your http\/grpc result should be specified as in:.*no stock.*FAILURE$/s, 'a branch answers FAILURE, waiting: 409');
is($wire->status($gid), 'submitted', 'a message does not roll back');
is(rows($gid), '01 action prepared, 02 action prepared', 'rows unchanged');
is(calls($gid), 'action 01 /no', 'the round stops');
is_success(submit(message($gid, qw(no b)), wait_result => $true), 'called again, it succeeds');

$service->script('/ongoing', { answers => [ { status => 425 } ] });
$gid = $wire->gid('wait');
is_failure(submit(message($gid, qw(ongoing b)), wait_result => $true), $unfinished, 'a branch answers ONGOING, waiting: 409');
$wire->wait_status($gid, 'succeed');
is(calls($gid), 'action 01 /ongoing, action 01 /ongoing, action 02 /b', 'goes on by itself');

# wait_result of the submit counts, not that of the prepare alone
$gid = $wire->gid('wait');
is_success(prepare($gid, ['a'], wait_result => JSON::PP::false), 'prepare without wait_result');
is_success(submit(message($gid, 'a'), wait_result => $true), 'submit with it');
is($wire->status($gid), 'succeed', 'was waited for');

# --------------------------------------------------- check-back

# /check is asked with a GET; its script makes the outcome
sub checked
{
	my ($name, $answers, $status, $count, %more) = @_;
	my $checked = $wire->gid('check');

	$service->script('/check', { query => { gid => $checked }, answers => $answers });
	is_success(prepare($checked, [qw(a b)], timeout_to_fail => 1, %more), "$name: prepare");
	return { name => $name, gid => $checked, status => $status, count => $count };
}

my $begin = time();
my @checks = (
	checked('check-back SUCCESS', [], 'succeed', 1),
	checked('check-back FAILURE', [ { status => 409 } ], 'failed', 1),
	checked('check-back FAILURE in the body', [ { body => '{"dtm_result":"FAILURE"}' } ], 'failed', 1),
	checked('check-back ONGOING', [ { status => 425 }, { body => 'ONGOING' } ], 'succeed', 3),
	checked('check-back error', [ { status => 500 }, { status => 500 } ], 'succeed', 3),
	checked('check-back error, then FAILURE', [ { status => 500 }, { status => 409 } ], 'failed', 2),
	checked('no query_prepared', [], 'succeed', 0, query_prepared => ''),
	checked('null query_prepared', [], 'succeed', 0, query_prepared => undef));
for my $check (@checks)
{
	my ($name, $checked) = @$check{qw(name gid)};

	$wire->wait_status($checked, $check->{status}, "$name: $check->{status}");
	my @asked = $service->calls(path => '/check', gid => $checked);
	is(scalar @asked, $check->{count}, "$name: asked that often");
	is($_->{method} . ' ' . $_->{target} . $_->{body}, "GET /check?branch_id=00&gid=$checked&op=msg&trans_type=msg", "$name: how it is asked")
	  for @asked[ 0 .. ($#asked > 0 ? 0 : $#asked) ];
	cmp_ok($asked[0]{start} - $begin, '>=', 0.9, "$name: not before its time-out") if @asked;
	is(rows($checked), join(', ', map { "$_ action " . ($check->{status} eq 'succeed' ? 'succeed' : 'prepared') } '01', '02'), "$name: rows");
	is(join(', ', grep { !/ 00 / } $service->ops(gid => $checked)), $check->{status} eq 'succeed' ? $two : '', "$name: deliveries");
}
ok(exists $wire->trans($checks[1]{gid})->{rollback_time}, 'check-back FAILURE: rollback_time');

# asked while it is submitted: whoever is first, it is delivered once
$gid = $wire->gid('race');
$service->script('/check', { query => { gid => $gid }, answers => [ { gate => 'race' } ] });
is_success(prepare($gid, ['a'], timeout_to_fail => 1), 'prepare');
$service->wait_calls(1, path => '/check', gid => $gid);
is_success(submit(message($gid, 'a')), 'submit while the check-back is out');
$service->open_gate('race');
$wire->wait_status($gid, 'succeed');
is(scalar $service->calls(path => '/a', gid => $gid), 1, 'delivered once');

# aborted while the check-back is out: its answer does not count
$gid = $wire->gid('race');
$service->script('/check', { query => { gid => $gid }, answers => [ { gate => 'race2' } ] });
is_success(prepare($gid, ['a'], timeout_to_fail => 1), 'prepare');
$service->wait_calls(1, path => '/check', gid => $gid);
is_success(abort($gid), 'abort while the check-back is out');
$service->open_gate('race2');
wait_until(sub { (($service->calls(path => '/check', gid => $gid))[0]{end} // 0) > 0 }, 'the check-back has ended');
is_failure(submit(message($gid, 'a')), "current status 'failed', cannot sumbmit. FAILURE", 'it stays failed');
is(scalar $service->calls(path => '/a', gid => $gid), 0, 'nothing is delivered');

# --------------------------------------------------------------- delay

sub delay { return (custom_data => encode_json({ delay => $_[0] })); }

my ($direct, $late) = ($wire->gid('delay'), $wire->gid('delay'));
my $now = time();
is_failure(submit(message($direct, 'a'), delay(2), wait_result => $true), $unfinished, 'a delay, waiting: 409');
is($wire->status($direct), 'submitted', 'submitted');
is_success(prepare($late, ['a']), 'prepare without a delay');
my $prepared_at = time();
is_success(submit(message($late, 'a'), query_prepared => $service->url('/check'), delay(2)), 'submit with a delay');
is($wire->status($late), 'submitted', 'submitted');
is(calls($direct) . calls($late), '', 'not called yet') if time() < $now + 1.5;
$wire->wait_status($_, 'succeed') for $direct, $late;
cmp_ok(($service->calls(gid => $direct))[0]{start} - $now, '>=', 1.9, 'direct submit: not before the delay');
cmp_ok(($service->calls(gid => $late))[0]{start} - $prepared_at, '>=', 1.9, 'delay at the submit of a prepared one: not before the delay');

$gid = $wire->gid('delay');
is_success(submit(message($gid, 'a'), custom_data => '{"delay":0}', wait_result => $true), 'a delay of 0');
for my $custom ('{"delay":-1}', '{"delay":"x"}', '{delay', '{"delay":1.5}', '5')
{
	for my $route (qw(submit prepare))
	{
		$gid = $wire->gid('bad');
		my $answer = $wire->post($route => { message($gid, 'a'), custom_data => $custom });
		ok($answer->{status} == 500 || $answer->{status} == 409, "$route: custom_data $custom: refused");
		is($wire->status($gid), 'none', "$route: custom_data $custom: nothing stored");
	}
}
$gid = $wire->gid('bad');
is_success(prepare($gid, ['a']), 'prepare');
isnt(submit(message($gid, 'a'), custom_data => '{delay')->{status}, 200, 'a bad delay at the submit of a prepared one');
is($wire->status($gid), 'prepared', 'it stays prepared');

# A repeated submit, whose first answer may have been lost, and a reset leave
# the delay and the time of the check-back as they are.
for my $how (qw(submit reset))
{
	$gid = $wire->gid('delay-holds');
	is_success(submit(message($gid, 'a'), delay(600)), 'a long delay');
	my $due = $wire->trans($gid)->{next_cron_time};
	is_success($how eq 'submit' ? submit(message($gid, 'a'), delay(600)) : $wire->post(resetNextCronTime => { gid => $gid }), "a long delay: $how");
	is_failure(submit(message($gid, 'a'), wait_result => $true), $unfinished, "a long delay: $how, looked at again");
	is(calls($gid), '', "a long delay: $how: not delivered");
	is($wire->trans($gid)->{next_cron_time}, $due, "a long delay: $how: due as before");
}
is_answer($wire->get('resetCronTime', timeout => 500, limit => 10), 200, '{"has_remaining":false,"succeed_count":2}', 'resetCronTime counts them');
$gid = $wire->gid('prepared');
is_success(prepare($gid, ['a'], timeout_to_fail => 600), 'prepare');
is_success($wire->post(resetNextCronTime => { gid => $gid }), 'resetNextCronTime of a prepared one');
is_answer($wire->get('resetCronTime', timeout => 500), 200, '{"has_remaining":false,"succeed_count":3}', 'resetCronTime counts it too');
is_success(submit(message($wire->gid('other'), 'a'), wait_result => $true), 'some time later');
is($wire->status($gid), 'prepared', 'stays prepared');
is(scalar $service->calls(gid => $gid), 0, 'nobody was asked');
value("SELECT dtm_retry('$gid')");
$wire->wait_status($gid, 'succeed');
is(scalar $service->calls(gid => $gid, path => '/check'), 1, 'dtm_retry does not wait for it');

# asked once already, and told to come again: that is a wait like any other
$gid = $wire->gid('prepared');
$service->script('/check', { query => { gid => $gid }, answers => [ { status => 425 } ] });
is_success(prepare($gid, ['a'], timeout_to_fail => 1, retry_interval => 600), 'prepare');
$service->wait_calls(1, path => '/check', gid => $gid);
wait_until(sub { value("SELECT sum(attempts) FROM dtm.branches WHERE gid = '$gid'") eq '1' }, 'the check-back is ONGOING');
is_success($wire->post(resetNextCronTime => { gid => $gid }), 'resetNextCronTime: asked again');
$wire->wait_status($gid, 'succeed');

# ------------------------------------------------------------ concurrent

$service->script("/gate-$_", { answers => [ { gate => 'both' } ] }) for 1, 2;
$gid = $wire->gid('concurrent');
is_success(submit(message($gid, qw(gate-1 gate-2)), concurrent => $true), 'concurrent');
$service->wait_calls(2, gid => $gid);
$service->open_gate('both');
$wire->wait_status($gid, 'succeed');

$gid = $wire->gid('prepared');
$service->script("/pgate-$_", { answers => [ { gate => 'pboth' } ] }) for 1, 2;
is_success(prepare($gid, [qw(pgate-1 pgate-2)], concurrent => $true), 'concurrent, prepared');
is_success(submit(message($gid, qw(pgate-1 pgate-2)), concurrent => $true), 'concurrent, submitted');
$service->wait_calls(2, gid => $gid);
$service->open_gate('pboth');
$wire->wait_status($gid, 'succeed');

$service->script('/half', { answers => [ { status => 500, body => 'half' } ] });
$gid = $wire->gid('concurrent');
is_error(submit(message($gid, qw(half whole)), concurrent => $true, wait_result => $true), qr/half/, 'concurrent, one with an error, waiting');
$wire->wait_status($gid, 'succeed');
is(scalar $service->calls(gid => $gid, path => '/whole'), 1, 'the other is not called again');

# --------------------------------------------------------------- topics

sub subscribe { return $wire->get('subscribe', topic => $_[0], url => $service->url($_[1]), remark => 'test'); }
sub topic_step { return (steps => [ map { { action => $_ } } @_ ], payloads => [ map { '{"t":1}' } @_ ]); }

for my $route (qw(submit prepare))
{
	$gid = $wire->gid('no-topic');
	is_error($wire->post($route => { gid => $gid, trans_type => 'msg', topic_step('topic://nobody') }), 'topic not found', "$route: unknown topic");
	is($wire->status($gid), 'none', "$route: unknown topic: nothing stored");
}
is_success(subscribe('paid', '/sub1'), 'subscribe');
$gid = $wire->gid('topic');
is_success(submit(gid => $gid, trans_type => 'msg', topic_step('topic://paid'), wait_result => $true), 'one subscriber');
is(calls($gid), 'action 01 /sub1', 'one subscriber: id 01');
is(rows($gid), '01 action succeed', 'one subscriber: rows');

is_success(subscribe('paid', '/sub2'), 'subscribe another');
my $open = $wire->gid('topic');
is_success($wire->post(prepare => { gid => $open, trans_type => 'msg', query_prepared => $service->url('/check'),
	topic_step($service->url('/plain'), 'topic://paid') }), 'prepare with a topic');
is_success($wire->get('unsubscribe', topic => 'paid', url => $service->url('/sub1')), 'unsubscribe');
is_success(submit(gid => $open, trans_type => 'msg', topic_step($service->url('/plain'), 'topic://paid'), wait_result => $true), 'submit it');
is(calls($open), 'action 01 /plain, action 02-01 /sub1, action 02-02 /sub2', 'two subscribers at the prepare: 02-01 and 02-02');
is(rows($open), '01 action succeed, 02-01 action succeed, 02-02 action succeed', 'two subscribers: rows');
is(($service->calls(gid => $open, path => '/sub2'))[0]{body}, '{"t":1}', 'the payload goes to all');

is_success($wire->get('unsubscribe', topic => 'paid', url => $service->url('/sub2')), 'unsubscribe the last');
$gid = $wire->gid('topic');
is_error(submit(gid => $gid, trans_type => 'msg', topic_step('topic://paid')), 'topic not found', 'a topic without subscribers');
is($wire->status($gid), 'none', 'nothing stored');

# ------------------------------------------------------------ wire and SQL

$node->safe_psql('postgres', "SELECT dtm_msg_prepare('[{\"action\": \"" . $service->url('/sql') . "\"}]', "
	  . sql_literal($service->url('/check')) . ", gid => 'sql-$_')") for qw(submit abort);
is(rows('sql-submit'), '01 action prepared', 'SQL to wire: query');
is_success(submit(message('sql-submit', 'x'), wait_result => $true), 'SQL to wire: submit');
is(calls('sql-submit'), 'action 01 /sql', 'SQL to wire: what SQL has stored is called');
is_success(abort('sql-abort'), 'SQL to wire: abort');
is(value("SELECT dtm_status('sql-abort')"), 'failed', 'SQL to wire: aborted');

is_success(prepare("wire-$_", ['a']), "wire to SQL: prepare") for qw(submit abort);
is(value("SELECT dtm_status('wire-submit')"), 'prepared', 'wire to SQL: status');
is(value("SELECT dtm_submit('wire-submit')"), 'submitted', 'wire to SQL: submit');
$wire->wait_status('wire-submit', 'succeed');
value("SELECT dtm_abort('wire-abort')");
$wire->wait_status('wire-abort', 'failed');
is(value("SELECT string_agg(gid || ' ' || status, ', ' ORDER BY gid) FROM dtm.transactions WHERE gid LIKE 'wire-%' OR gid LIKE 'sql-%'"),
	'sql-abort failed, sql-submit succeed, wire-abort failed, wire-submit succeed', 'dtm.transactions shows all four');

done_testing();
