# -------------------------------------------------------------------------
#
# 230_json_rpc.pl
#		Branches that are called by JSON-RPC: what they are sent, what their
#		answers mean, and which targets of such a transaction are plain HTTP.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use JSON::PP;
use Test::More;

my $node = new_node(conf => "dtm.retry_interval = '50ms'");
my $service = start_service();

sub value { return $node->safe_psql('postgres', $_[0]); }

# A saga or msg as DTM's clients ask for it.
sub submit
{
	my ($mode, $gid, $request, $options) = @_;
	my $json = JSON::PP->new->canonical->encode({ protocol => 'json-rpc', %$request });

	return $node->psql('postgres', "SELECT dtm_${mode}_submit(" . sql_literal($json)
		  . '::jsonb, gid => ' . sql_literal($gid) . ($options // '') . ')');
}

sub params { return decode_json($_[0]{body})->{params}; }

# ---- what is sent

$service->script('*', { then => { rpc => { result => {} } } });
submit('saga', 'r1', {
	steps => [
		{ action => $service->url('/r1/rpc?method=TransOut&x=1'), compensate => $service->url('/r1/undo?method=Undo') },
		{ action => $service->url('/r1/plain') },
		{ action => $service->url('/r1/methods/') } ],
	payloads => [ '{"amount": 30.10, "gid": "theirs"}', '[1]', '' ],
	branch_headers => { 'X-Shop' => 'a' } });
wait_status($node, 'r1', 'succeed');
my @calls = $service->calls;
is_deeply([ map { "$_->{method} $_->{target}" } @calls ],
	[ 'POST /r1/rpc?method=TransOut&x=1', 'POST /r1/plain?branch_id=02&gid=r1&op=action&trans_type=saga',
		'POST /r1/methods/' ],
	'a URL with the word is called as it is, others as ever');
my $request = decode_json($calls[0]{body});
like(delete $request->{id}, qr/^[2-9A-HJ-NP-Za-km-z]{22}$/, 'an id');
is_deeply($request,
	{ jsonrpc => '2.0', method => 'TransOut',
		params => { amount => 30.1, gid => 'r1', trans_type => 'saga', branch_id => '01', op => 'action' } },
	'the payload and who calls');
is($calls[0]{headers}{'x-shop'}, 'a', 'headers go with it');
like($calls[0]{headers}{'content-type'}, qr{^application/json}, 'it is JSON');
is($calls[1]{body}, '[1]', 'plain HTTP takes any payload');
is_deeply(params($calls[2]), { gid => 'r1', trans_type => 'saga', branch_id => '03', op => 'action' },
	'without a payload');

# ---- what answers mean: outcome of the first call, what is read about it

my %error = map { $_ => { rpc => { error => { code => $_, message => "error $_" } } } }
  (-32901, -32902, -32603);
my @answers = (
	[ 'null', { rpc => { error => undef, result => undef } }, 'ok', undef ],
	[ 'ongoing', $error{-32902}, 'ongoing', '-32902: error -32902' ],
	[ 'temporary', $error{-32603}, 'error', '-32603: error -32603' ],
	[ 'no rpc', { body => 'fine' }, 'error', '200: fine' ],
	[ 'http first', { status => 500, body => { error => { code => -32901 } } }, 'error', '500: {"error": {"code": -32901}}' ],
	[ 'http ongoing', { status => 425, body => { error => { code => -32901 } } }, 'ongoing', '425: {"error": {"code": -32901}}' ]);
for my $i (0 .. $#answers)
{
	my ($name, $answer, $outcome, $error) = @{ $answers[$i] };
	$service->script("/a$i", { answers => [$answer], then => { rpc => { result => {} } } });
	submit('saga', "a$i", { steps => [ { action => $service->url("/a$i?method=m") } ], payloads => ['{}'] });
	wait_status($node, "a$i", 'succeed');
	is(value("SELECT string_agg(split_part(outcome, ':', 1), ' ') FROM dtm_timeline('a$i') WHERE op = 'action'"),
		$outcome eq 'ok' ? 'ok' : "$outcome ok", "$name: outcome");
	is(value("SELECT last_error FROM dtm.branches WHERE gid = 'a$i' AND op = 'action'"), $error // '', "$name: what is read");
}

# ---- a failure undoes the saga, by JSON-RPC as well

$service->reset;
$service->script('/f', { query => { method => 'second' }, then => $error{-32901} });
$service->script('/f', { then => { rpc => { result => 1 } } });
submit('saga', 'f', {
	steps => [ map { { action => $service->url("/f?method=$_"), compensate => $service->url("/f?method=undo-$_") } } qw(first second) ],
	payloads => [ '{"n":1}', '{"n":2}' ] });
wait_status($node, 'f', 'failed');
is_deeply([ map { my $body = decode_json($_->{body}); "$body->{method} $body->{params}{op} $body->{params}{branch_id} $body->{params}{n}" } $service->calls ],
	[ 'first action 01 1', 'second action 02 2', 'undo-second compensate 02 2', 'undo-first compensate 01 1' ],
	'code -32901 is a failure');
like(value("SELECT rollback_reason FROM dtm.transactions WHERE gid = 'f'"), qr/return failed: error -32901 FAILURE$/,
	'... whose message is the reason');

# ---- a msg: its deliveries

submit('msg', 'm', { steps => [ { action => $service->url('/f?method=Deliver') } ], payloads => ['{"n":9}'] });
wait_status($node, 'm', 'succeed');
is((map { params($_)->{n} } grep { $_->{query}{method} eq 'Deliver' } $service->calls)[0], 9, 'a msg is delivered');

# ---- refused at once, with nothing stored

for my $case (
	[ { steps => [ { action => 'http://127.0.0.1:1/?method=a' } ], payloads => ['[1]'] }, qr/step 0 has a payload that is no JSON object/ ],
	[ { steps => [ { action => '', compensate => 'http://127.0.0.1:1/?method=a' } ], payloads => ['7'] }, qr/step 0 has a payload that is no JSON object/ ],
	[ { protocol => 'grpc', steps => [ { action => 'http://127.0.0.1:1/' } ] }, qr/"protocol" is not one that is served: "grpc"/ ])
{
	my ($rc, undef, $stderr) = submit('saga', 'bad', $case->[0]);
	is($rc, 3, 'refused');
	like($stderr, $case->[1], 'and why');
}
is(value("SELECT count(*) FROM dtm.transactions WHERE gid = 'bad'"), 0, 'nothing is stored');

done_testing();
