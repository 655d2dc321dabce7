# -------------------------------------------------------------------------
#
# go.pl
#		DTM's Go SDK against the HTTP API: saga, message, tcc, xa, JSON-RPC,
#		and its barrier on dtm.barrier.  Workflows are in go_workflow.pl.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use DtmInterop;
use DtmTest;
use GoShop;
use Test::More;

my $shop = GoShop->new('go', conf => "dtm.request_timeout = '20s'");
my $node = $shop->node;
my $service = $shop->serve('services');
my ($result, $status, $value);

sub no_error
{
	my ($name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is($result->{error}, undef, $name);
}

# ---------------------------------------------------------------------- newGid

$result = $shop->client('newgid');
is(scalar(grep { /^[2-9A-HJ-NP-Za-km-z]{22}$/ } @{ $result->{gids} }), 3, 'newGid: of DTM\'s form')
  or diag(explain($result));
isnt($result->{gids}[0], $result->{gids}[1], 'newGid: another one each time');

# ------------------------------------------------------------------------ saga

$result = $shop->client('saga', gid => 'saga-ok', wait => 1);
no_error('saga: succeeds');
is($shop->status('saga-ok'), 'succeed', 'saga: done when the waiting submit is answered');
$shop->is_state('98 0 2 | 900 0', 'saga: sold and paid');
is_deeply([ $shop->calls('saga-ok') ],
	[ 'action 01 /stock/deduct', 'action 02 /account/pay', 'action 03 /ship/book' ],
	'saga: called once, in order');
is_deeply([ sort($shop->branches('saga-ok')) ],
	[ '01 action succeed', '01 compensate prepared', '02 action succeed', '02 compensate prepared',
		'03 action succeed', '03 compensate prepared' ], 'saga: its branches');

$shop->fresh;
$result = $shop->client('saga', gid => 'saga-back', wait => 1, ship => 'failure=1');
like($result->{error}, qr/no truck.*FAILURE/s, 'saga rolled back: the waiting client learns why');
is($shop->status('saga-back'), 'failed', 'saga rolled back: failed');
like($shop->reason('saga-back'), qr/no truck/, 'saga rolled back: the reason is stored');
$shop->is_state('100 0 0 | 1000 0', 'saga rolled back: nothing sold or paid');
is_deeply([ $shop->calls('saga-back', where => "op = 'compensate'") ],
	[ 'compensate 03 /ship/cancel', 'compensate 02 /account/refund', 'compensate 01 /stock/return' ],
	'saga rolled back: backwards, the failed step too');
is_deeply([ grep { /^03/ } $shop->barriers('saga-back') ],
	[ '03 action 01 compensate', '03 compensate 01 compensate' ],
	'saga rolled back: the barrier has the null compensation');
is($shop->kept('saga-back'), '0 0', 'saga rolled back: no shipment');

$result = $shop->client('saga', gid => 'saga-poor', amount => 5000);
no_error('saga without waiting: submitted');
wait_status($node, 'saga-poor', 'failed');
$shop->is_state('100 0 0 | 1000 0', 'saga without waiting: the bank refused, the stock is back');

$result = $shop->client('saga', gid => 'saga-late', pay => 'ongoing=2', stock => 'error=1', header => 'east');
no_error('saga with obstacles: submitted');
wait_status($node, 'saga-late', 'succeed');
is(join(', ', $shop->calls('saga-late')), join(', ', ('action 01 /stock/deduct') x 2,
	('action 02 /account/pay') x 3, 'action 03 /ship/book'), 'saga with obstacles: asked again and again');
is($node->safe_psql('postgres', "SELECT string_agg(DISTINCT header, ',') FROM shop.call_log WHERE gid = 'saga-late'"),
	'east', 'saga with obstacles: branch headers in all calls');

$shop->fresh;
$result = $shop->client('saga', gid => 'saga-limit', wait => 1, retry_limit => 3, pay => 'error=3');
no_error('retry limit: three failures are within it, in one waiting submit');
$result = $shop->client('saga', gid => 'saga-limit2', wait => 1, retry_limit => 1, pay => 'error=9');
like($result->{error}, qr/RetryCount is greater than RetryLimit, RetryLimit: 1/, 'retry limit: exceeded, says the client');
is($shop->status('saga-limit2'), 'failed', 'retry limit: exceeded');
is(scalar(grep { /^action 02/ } $shop->calls('saga-limit2')), 2, 'retry limit: one call and one more');
$shop->is_state('98 0 2 | 900 0', 'retry limit: only the first has sold');

$shop->fresh;
$result = $shop->client('saga', gid => 'saga-par', concurrent => 1, parallel => 1, wait => 1,
	stock => 'meet=2', pay => 'meet=2');
no_error('concurrent saga: the first two branches met');
is($node->safe_psql('postgres', q{SELECT max(at) FILTER (WHERE branch_id = '03') > max(done_at) FILTER (WHERE branch_id <> '03')
	FROM shop.call_log WHERE gid = 'saga-par'}), 't', 'concurrent saga: the third came after both');
$shop->is_state('98 0 2 | 900 0', 'concurrent saga: sold and paid');
$result = $shop->client('saga', gid => 'saga-par2', concurrent => 1, parallel => 1, wait => 1, ship => 'failure=1');
like($result->{error}, qr/no truck/, 'concurrent saga: rolled back');
is_deeply([ ($shop->calls('saga-par2', where => "op = 'compensate'"))[0] ], ['compensate 03 /ship/cancel'],
	'concurrent saga: what came last goes back first');
$shop->is_state('98 0 2 | 900 0', 'concurrent saga: as before');

# a request_timeout of the transaction is the client's own, too
$result = $shop->client('saga', gid => 'saga-slow', request_timeout => 8, wait => 1);
no_error('saga with a request_timeout');
$result = $shop->client('saga', gid => 'saga-slow');
like($result->{error}, qr/'succeed'.*FAILURE/, 'a second submit of a finished saga is refused');

# --------------------------------------------------------------------- message

$shop->fresh;
$result = $shop->client('msg', gid => 'msg-ok');
no_error('message: DoAndSubmitDB');
wait_status($node, 'msg-ok', 'succeed');
$shop->is_state('98 0 2 | 900 0', 'message: sold and paid');
is_deeply([ $shop->calls('msg-ok') ], [ 'action 01 /account/pay', 'action 02 /ship/book' ], 'message: delivered once');
is(($shop->barriers('msg-ok'))[0], '00 msg 01 msg', 'message: the local transaction has its barrier row');

for my $how (qw(failure error))
{
	$result = $shop->client('msg', gid => "msg-$how", local => $how);
	like($result->{error}, $how eq 'failure' ? qr/no paper/ : qr/printer/, "local $how: the client's own error");
	is($shop->status("msg-$how"), 'failed', "local $how: aborted");
	is_deeply([ grep { / action / } $shop->branches("msg-$how") ], [ '01 action prepared', '02 action prepared' ],
		"local $how: nothing is delivered");
	is_deeply([ $shop->calls("msg-$how") ], $how eq 'failure' ? [] : ['msg 00 /query_prepared'],
		"local $how: the check-back is " . ($how eq 'failure' ? 'not needed' : "the client's"));
}
$shop->is_state('98 0 2 | 900 0', 'local failures: nothing more sold');

$shop->fresh;
my $client = $shop->start_client('msg', gid => 'msg-killed', stop => 'after', timeout_to_fail => 4);
$client->wait_output(qr/^stopped: after/m, 'client: committed and not submitted');
is($shop->status('msg-killed'), 'prepared', 'killed after the commit: prepared');
$client->kill('KILL');
wait_status($node, 'msg-killed', 'succeed');
is_deeply([ $shop->calls('msg-killed') ],
	[ 'msg 00 /query_prepared', 'action 01 /account/pay', 'action 02 /ship/book' ],
	'killed after the commit: asked, and delivered');
$shop->is_state('98 0 2 | 900 0', 'killed after the commit: one order');

$client = $shop->start_client('msg', gid => 'msg-lost', stop => 'before', timeout_to_fail => 2);
$client->wait_output(qr/^stopped: before/m, 'client: not yet committed');
$client->kill('KILL');
wait_status($node, 'msg-lost', 'failed');
is_deeply([ $shop->barriers('msg-lost') ], ['00 msg 01 rollback'], 'killed before the commit: the check-back left its mark');
$result = $shop->client('again', gid => 'msg-lost');
ok($result->{duplicated}, 'killed before the commit: the local transaction, tried late, is refused') or diag(explain($result));
$result = $shop->client('msg', gid => 'msg-lost');
like($result->{error}, qr/'failed'.*FAILURE/, 'killed before the commit: so is another prepare');
$shop->is_state('98 0 2 | 900 0', 'killed before the commit: no order');

$result = $shop->client('msg', gid => 'msg-delay', plain => 1, delay => 3);
no_error('delayed message: submitted');
$result = $shop->client('msg', gid => 'msg-delay2', delay => 3);
no_error('delayed message after a local transaction: submitted');
wait_status($node, $_, 'succeed') for qw(msg-delay msg-delay2);
is($node->safe_psql('postgres', q{SELECT bool_and(c.at >= t.created_at + interval '3 s') FROM shop.call_log AS c
	JOIN dtm.transactions AS t USING (gid) WHERE gid LIKE 'msg-delay%'}), 't', 'delayed messages: not before their time');

$shop->fresh;
$result = $shop->client('msg', gid => 'msg-par', plain => 1, concurrent => 1, wait => 1, pay => 'meet=2', ship => 'meet=2');
no_error('concurrent message: its branches met');
is($shop->status('msg-par'), 'succeed', 'concurrent message: done');

$result = $shop->client('prepare', gid => 'msg-two');
$result = $shop->client('prepare', gid => 'msg-two', submit => 1);
no_error('message: prepared again, and submitted');
wait_status($node, 'msg-two', 'succeed');

$node->safe_psql('postgres', 'GRANT EXECUTE ON FUNCTION dtm_topic_subscribe(text, text, text) TO shop');
($status, $value) = dtm_request($node, GET => '/subscribe?topic=paid&url=' . $shop->rm . '/points/add&remark=go');
SKIP:
{
	skip 'topics over HTTP are not there yet', 4 if $status == 503;
	is($status, 200, 'subscribe');
	$result = $shop->client('msg', gid => 'msg-topic', plain => 1, topic => 'paid', wait => 1);
	no_error('message to a topic');
	is_deeply([ $shop->calls('msg-topic') ], ['action 01 /points/add'], 'message to a topic: delivered');
	$result = $shop->client('msg', gid => 'msg-topic2', plain => 1, topic => 'nobody');
	like($result->{error}, qr/topic not found/, 'message to a topic that nobody has');
}

# ------------------------------------------------------------------------- tcc

$shop->fresh;
$result = $shop->client('tcc', gid => 'tcc-ok', header => 'west');
no_error('tcc: submitted');
wait_status($node, 'tcc-ok', 'succeed');
$shop->is_state('98 0 2 | 900 0', 'tcc: confirmed');
is_deeply([ $shop->calls('tcc-ok') ],
	[ 'try 01 /stock/try', 'try 02 /account/try', 'confirm 02 /account/confirm', 'confirm 01 /stock/confirm' ],
	'tcc: confirms in reverse order');
is_deeply([ sort($shop->branches('tcc-ok')) ],
	[ '01 cancel prepared', '01 confirm succeed', '02 cancel prepared', '02 confirm succeed' ], 'tcc: its branches');
is($node->safe_psql('postgres', "SELECT string_agg(DISTINCT header, ',') FROM shop.call_log WHERE gid = 'tcc-ok'"),
	'west', 'tcc: branch headers in all calls');

$shop->fresh;
$result = $shop->client('tcc', gid => 'tcc-back', amount => 5000);
ok($result->{failure}, 'tcc refused: FAILURE in the client') or diag(explain($result));
wait_status($node, 'tcc-back', 'failed');
$shop->is_state('100 0 0 | 1000 0', 'tcc refused: cancelled');
like($shop->reason('tcc-back'), qr/accounts.*FAILURE/, 'tcc refused: the client gave its reason');
is_deeply([ $shop->calls('tcc-back', where => "op = 'cancel'") ],
	[ 'cancel 02 /account/cancel', 'cancel 01 /stock/cancel' ], 'tcc refused: both are cancelled');

$result = $shop->client('tcc', gid => 'tcc-nested', nested => 1, wait => 1);
no_error('nested tcc: succeeds');
is($shop->status('tcc-nested'), 'succeed', 'nested tcc: done when the waiting submit is answered');
is_deeply([ $shop->calls('tcc-nested', where => "path LIKE '/account/%'") ],
	[ 'try 0201 /account/try', 'confirm 0201 /account/confirm' ], 'nested tcc: branch 0201');
$shop->is_state('98 0 2 | 900 0', 'nested tcc: confirmed');

$shop->fresh;
$client = $shop->start_client('tcc', gid => 'tcc-killed', stop => 1, timeout_to_fail => 2);
$client->wait_output(qr/^stopped:/m, 'client: stopped after the first try');
$client->kill('KILL');
wait_status($node, 'tcc-killed', 'failed');
$shop->is_state('100 0 0 | 1000 0', 'tcc killed: cancelled by the time-out');
like($shop->reason('tcc-killed'), qr/^Timeout after 2 seconds/, 'tcc killed: the reason');

$client = $shop->start_client('tcc', gid => 'tcc-mad', panic => 1);
isnt($client->finish(60), 0, 'tcc: the client panics');
wait_status($node, 'tcc-mad', 'failed');
like($shop->reason('tcc-mad'), qr/went mad/, 'tcc: the panic is the reason');

$result = $shop->client('tcc', gid => 'tcc-late', confirm => 'ongoing=1');
no_error('tcc with a confirm that takes its time');
wait_status($node, 'tcc-late', 'succeed');
is(scalar($shop->calls('tcc-late', where => "path = '/stock/confirm'")), 2, 'tcc: the confirm was asked twice');

# -------------------------------------------------------------------------- xa

$shop->fresh;
$result = $shop->client('xa', gid => 'xa-ok', wait => 1);
no_error('xa: two databases, succeeds');
is($shop->status('xa-ok'), 'succeed', 'xa: done when the waiting submit is answered');
$shop->is_state('98 0 2 | 900 0', 'xa: both committed');
is_deeply([ $shop->calls('xa-ok') ],
	[ 'action 01 /xa/stock', 'action 02 /xa/account', 'commit 01 /xa/stock', 'commit 02 /xa/account' ],
	'xa: phase 2 in order of registration');
is_deeply([ sort($shop->branches('xa-ok')) ],
	[ '01 commit succeed', '01 rollback prepared', '02 commit succeed', '02 rollback prepared' ], 'xa: its branches');
is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_prepared_xacts'), 0, 'xa: nothing stays prepared');

$shop->fresh;
$result = $shop->client('xa', gid => 'xa-back', amount => 5000);
ok($result->{failure}, 'xa refused: FAILURE in the client') or diag(explain($result));
wait_status($node, 'xa-back', 'failed');
$shop->is_state('100 0 0 | 1000 0', 'xa refused: both rolled back');
is_deeply([ $shop->calls('xa-back', where => "op <> 'action'") ], ['rollback 01 /xa/stock'],
	'xa refused: the branch that never registered is not called');
is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_prepared_xacts'), 0, 'xa refused: nothing stays prepared');

$client = $shop->start_client('xa', gid => 'xa-killed', stop => 1, timeout_to_fail => 4);
$client->wait_output(qr/^stopped:/m, 'client: stopped after the first branch');
is($node->safe_psql('postgres', 'SELECT gid FROM pg_prepared_xacts'), 'xa-killed-01', 'xa killed: prepared');
$client->kill('KILL');
wait_status($node, 'xa-killed', 'failed');
$shop->is_state('100 0 0 | 1000 0', 'xa killed: rolled back by the time-out');

# -------------------------------------------------------------------- JSON-RPC

$shop->fresh;
$result = $shop->client('msg', gid => 'jrpc-msg', jrpc => 1);
no_error('JSON-RPC: DoAndSubmitDB');
wait_status($node, 'jrpc-msg', 'succeed');
is_deeply([ $shop->calls('jrpc-msg') ], [ 'action 01 jrpc:pay', 'action 02 /ship/book' ],
	'JSON-RPC: one branch by JSON-RPC, one by plain HTTP');
$shop->is_state('98 0 2 | 900 0', 'JSON-RPC: sold and paid');
$result = $shop->client('msg', gid => 'jrpc-msg', jrpc => 1, plain => 1);
like($result->{error}, qr/-32901/, 'JSON-RPC: a second submit of a finished one is an error');
$result = $shop->client('tcc', gid => 'jrpc-tcc', jrpc => 1, wait => 1);
no_error('JSON-RPC: tcc');
is($shop->status('jrpc-tcc'), 'succeed', 'JSON-RPC: tcc is done');
$shop->is_state('96 0 4 | 800 0', 'JSON-RPC: tcc confirmed');
$result = $shop->client('saga', gid => 'jrpc-saga', jrpc => 1, wait => 1, ship => 'failure=1');
like($result->{error}, qr/-32901.*no truck/s, 'JSON-RPC: a saga that fails');
$shop->is_state('96 0 4 | 800 0', 'JSON-RPC: a saga that fails leaves nothing');

# --------------------------------------------------------------------- barrier

# S18 on dtm.barrier by the SDK
$shop->fresh;
$result = $shop->client('barrier', gid => 'bar-twice', type => 'saga', kind => 'twice', action => '/stock/deduct');
no_error('barrier: the same action twice at once');
is("$result->{first} $result->{second}", '1 0', 'barrier: the second has waited, and does nothing');
$shop->is_state('98 0 2 | 1000 0', 'barrier: one effect');

my @pairs = ([ saga => action => '/stock/deduct', compensate => '/stock/return' ],
	[ tcc => try => '/stock/try', cancel => '/stock/cancel' ],
	[ workflow => action => '/stock/deduct', rollback => '/stock/return' ]);
for my $pair (@pairs)
{
	my ($type, $forward, $forward_path, $back, $back_path) = @$pair;
	my $gid = "bar-$type";

	$result = $shop->client('barrier', gid => $gid, type => $type, kind => 'early', forward => $forward,
		back => $back, $forward => $forward_path, $back => $back_path);
	no_error("barrier: $back before $forward");
	is("$result->{back} $result->{forward}", '0 0', "barrier: neither $back nor the late $forward does anything");
	is_deeply([ $shop->barriers($gid) ], [ "01 $forward 01 $back", "01 $back 01 $back" ],
		"barrier: the row of $forward says who was there");
	is($node->safe_psql('postgres', "SELECT dtm_barrier('$type', '$gid', '01', '$forward')"), 'f',
		"barrier: the functions of dtm_pg see the SDK's $back");
}
is($node->safe_psql('postgres', q{BEGIN; SELECT dtm_barrier('tcc', 'bar-sql', '01', 'cancel'); COMMIT}), 'f',
	'barrier: a null compensation by SQL');
$result = $shop->client('barrier', gid => 'bar-sql', type => 'tcc', kind => 'early', forward => 'try',
	back => 'cancel', try => '/stock/try', cancel => '/stock/cancel');
is("$result->{back} $result->{forward}", '0 0', 'barrier: and the SDK sees that');
$shop->is_state('98 0 2 | 1000 0', 'barrier: no effect of all that');

# ---------------------------------------------------------------------- tokens

$shop->fresh;
my $token = $node->safe_psql('postgres', q{SELECT dtm_http_token_create('shop', 'the go shop')});
$node->safe_psql('postgres', q{ALTER SYSTEM SET dtm.http_anonymous = 'off'});
$node->reload;
wait_until(sub { return (dtm_request($node, GET => '/newGid'))[0] == 401 }, 'a token is asked for');
$result = $shop->client('saga', gid => 'token-none');
like($result->{error}, qr/token/, 'without a token: refused') or diag(explain($result));
is($node->safe_psql('postgres', q{SELECT count(*) FROM dtm.transactions WHERE gid = 'token-none'}), 0,
	'without a token: nothing is stored');
$service->kill('KILL');
$shop->forget_services;
$shop->serve('services with a token', '--token', $token);
for my $scenario (qw(saga tcc xa))
{
	$result = $shop->client($scenario, gid => "token-$scenario", wait => 1, flags => [ '--token', $token ]);
	no_error("with a token: $scenario");
	is($shop->status("token-$scenario"), 'succeed', "with a token: $scenario is done");
}
$result = $shop->client('msg', gid => 'token-jrpc', jrpc => 1, flags => [ '--token', $token ]);
no_error('with a token: JSON-RPC');
wait_status($node, 'token-jrpc', 'succeed');
$shop->is_state('92 0 8 | 600 0', 'with a token: four orders');
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT submitted_by::text, ',') FROM dtm.transactions}), 'shop',
	'all of them are of the role shop');

$shop->is_quiet;
done_testing();
