# -------------------------------------------------------------------------
#
# 202_wire_basics.pl
#		The HTTP API, whatever the mode: routes and methods, content types,
#		how bodies are read, what is refused, JSON-RPC.
#
# Not here: what the modes do (203 to 205), steering (206), query and all in
# depth (210), access (220), limits (240).
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use DtmWire;
use JSON::PP;
use Test::More;

my ($node, $wire) = wire_node(conf => "dtm.retry_interval = '200ms'");
my $service = start_service();
my $true = JSON::PP::true;
my $none = '{"branches":[],"transaction":null}';

# That nothing is stored of these gids.
sub stored_none
{
	my ($name, @gids) = @_;

	is_answer($wire->get('query', gid => $_), 200, $none, "$name: nothing stored") for @gids;
	return;
}

# ------------------------------------------------ what asks for nothing

my $answer = $wire->get('version');
is($answer->{status}, 200, 'version');
is($answer->{headers}{'content-type'}, 'application/json; charset=utf-8', 'content type of an answer');
is(join(' ', keys %{ decoded($answer) }), 'version', 'version: the only member');
like(decoded($answer)->{version}, qr/^v\d+\.\d+\.\d+/, 'version: its form');

my %gids;
for my $i (1 .. 50)
{
	my $new = $wire->get('newGid');
	my $value = decoded($new);

	$gids{ $value->{gid} } = 1
	  if $new->{status} == 200 && $value->{dtm_result} eq 'SUCCESS' && keys %$value == 2
	  && $value->{gid} =~ /^[2-9A-HJ-NP-Za-km-z]{22}$/;
}
is(scalar(keys %gids), 50, 'newGid: 22 characters of the alphabet, each time others');

for my $method (qw(GET POST PUT DELETE PATCH))
{
	is_answer($wire->request($method, '/api/ping', $method eq 'GET' ? undef : ''), 200, '{"msg":"pong"}', "$method ping");
}
is($wire->request('GET', '/api/metrics')->{status}, 200, 'metrics');

# ------------------------------------------------- routes and methods

for my $case ([ 'GET', '/api/dtmsvr/nothing' ], [ 'POST', '/api/dtmsvr/nothing' ], [ 'GET', '/api/dtmsvr' ],
	[ 'GET', '/api' ], [ 'GET', '/api/dtmsvr/submit' ], [ 'GET', '/api/dtmsvr/prepare' ],
	[ 'GET', '/api/dtmsvr/abort' ], [ 'GET', '/api/dtmsvr/registerBranch' ],
	[ 'GET', '/api/dtmsvr/registerTccBranch' ], [ 'GET', '/api/dtmsvr/registerXaBranch' ],
	[ 'GET', '/api/dtmsvr/prepareWorkflow' ], [ 'GET', '/api/dtmsvr/forceStop' ],
	[ 'GET', '/api/dtmsvr/resetNextCronTime' ], [ 'POST', '/api/dtmsvr/resetCronTime' ],
	[ 'POST', '/api/dtmsvr/version' ], [ 'POST', '/api/dtmsvr/newGid' ], [ 'POST', '/api/dtmsvr/query' ],
	[ 'POST', '/api/dtmsvr/all' ], [ 'POST', '/api/dtmsvr/subscribe' ], [ 'POST', '/api/dtmsvr/unsubscribe' ],
	[ 'GET', '/api/dtmsvr/topic/t' ], [ 'DELETE', '/api/dtmsvr/topic' ], [ 'POST', '/api/dtmsvr/scanKV' ],
	[ 'POST', '/api/dtmsvr/queryKV' ], [ 'PUT', '/api/dtmsvr/submit' ], [ 'DELETE', '/api/dtmsvr/submit' ],
	[ 'PATCH', '/api/dtmsvr/abort' ], [ 'GET', '/api/json-rpc' ], [ 'POST', '/api/metrics' ],
	[ 'GET', '/api/dtmsvr/newgid' ], [ 'POST', '/api/dtmsvr/Submit' ], [ 'POST', '/dtmsvr/submit' ],
	[ 'GET', '/api/dtmsvr/queryx?gid=a' ])
{
	my ($method, $path) = @$case;
	my $got = $wire->request($method, $path, $method eq 'GET' ? undef : '{}');

	is("$got->{status} $got->{content}", '404 404 page not found', "$method $path");
	like($got->{headers}{'content-type'}, qr{^text/plain}, "$method $path: as text") if $path =~ /nothing/;
}

# ------------------------------------------------- unknown transactions

is_answer($wire->get('query', gid => 'unknown'), 200, $none, 'query of an unknown gid');
is_error($wire->get('query'), 'no gid specified', 'query without a gid');
is_error($wire->get('query', gid => ''), 'no gid specified', 'query with an empty gid');
is_error($wire->post(abort => { gid => 'unknown', trans_type => 'tcc' }),
	'no TransGlobal with gid: unknown found', 'abort of an unknown gid');
is_error($wire->post(forceStop => { gid => 'unknown' }), qr/./, 'forceStop of an unknown gid');
is_error($wire->post(resetNextCronTime => { gid => 'unknown' }), qr/./, 'resetNextCronTime of an unknown gid');

# ---------------------------------------------------- content types

for my $type (undef, 'application/json', 'application/json; charset=utf-8', 'text/plain',
	'application/x-www-form-urlencoded', 'nonsense')
{
	my $gid = $wire->gid('type');
	my $body = encode_json({ gid => $gid, trans_type => 'tcc' });
	my $name = 'content type ' . ($type // 'of none');

	if (defined $type)
	{
		is_success($wire->request('POST', '/api/dtmsvr/prepare', $body, { 'Content-Type' => $type }), $name);
	}
	else
	{
		is_success($wire->finish($wire->start('prepare', $body)), $name);
	}
	is($wire->status($gid), 'prepared', "$name: stored");
}

# A body in pieces, as some clients of HTTP send it.
my $chunked = $wire->gid('chunked');
my @pieces = (qq({"gid":"$chunked",), '"trans_type":"tcc"}');
is_success($wire->request('POST', '/api/dtmsvr/prepare', sub { shift @pieces // '' }), 'chunked transfer encoding');
is($wire->status($chunked), 'prepared', 'chunked: stored');

my $expected = $wire->gid('expect');
my $text = qq({"gid":"$expected","trans_type":"tcc"});
my $got = $wire->finish($wire->raw("POST /api/dtmsvr/prepare HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
	  . "Expect: 100-continue\r\nContent-Length: " . length($text) . "\r\n\r\n$text"));
like("$got->{status} $got->{content}", qr/SUCCESS/, 'Expect: 100-continue');
is($wire->status($expected), 'prepared', 'Expect: stored');

$got = $wire->finish($wire->raw("GET /api/dtmsvr/newGid HTTP/1.0\r\n\r\n"));
is($got->{status}, 200, 'HTTP/1.0');

# Several requests at once on one connection are answered in order.
$got = $wire->finish($wire->raw(
	join('', map { "GET /api/dtmsvr/$_ HTTP/1.1\r\nHost: x\r\n\r\n" } qw(version newGid))
	  . "GET /api/ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
like($got->{content}, qr/"version".*"gid".*"pong"/s, 'pipelined requests');

# ------------------------------------------------- bodies that are no request

my @json_routes = qw(prepare submit abort prepareWorkflow forceStop resetNextCronTime);
for my $route (@json_routes)
{
	# the client of a workflow is told in its own words, too
	for my $case ( [ '{', 'half a body' ], [ '', 'no body' ], [ 'nonsense', 'no JSON' ], [ '[]', 'an array' ],
	  [ '"x"', 'a string' ], [ '{"gid":"bad","trans_type":"saga",}', 'a comma too many' ])
	{
		my $got = $wire->post($route => $case->[0]);
		my $value = decoded($got) // {};

		is($got->{status}, 500, "$route: $case->[1]");
		ok(($value->{message} // '') ne '' && !exists $value->{dtm_result}, "$route: $case->[1]: a message");
		is(join(' ', keys %$value), 'message', "$route: $case->[1]: nothing else") if $route ne 'prepareWorkflow';
	}
}
for my $alias (qw(registerBranch registerTccBranch registerXaBranch))
{
	is_error($wire->post($alias => '{'), qr/./, "$alias: half a body: status 400", 400);
}
stored_none('no JSON', 'bad');

# ---------------------------------------------------------- types

my %wrong = (
	'gid is a number' => '"gid":7',
	'trans_type is a number' => '"gid":"wrong","trans_type":7',
	'trans_type is an object' => '"gid":"wrong","trans_type":{}',
	'steps is a string' => '"gid":"wrong","trans_type":"saga","steps":"x"',
	'steps is an object' => '"gid":"wrong","trans_type":"saga","steps":{"action":""}',
	'a step is a string' => '"gid":"wrong","trans_type":"saga","steps":["x"],"payloads":["{}"]',
	'a URL is a number' => '"gid":"wrong","trans_type":"saga","steps":[{"action":7}],"payloads":["{}"]',
	'payloads is a string' => '"gid":"wrong","trans_type":"saga","steps":[{"action":""}],"payloads":"{}"',
	'a payload is an object' => '"gid":"wrong","trans_type":"saga","steps":[{"action":""}],"payloads":[{}]',
	'a payload is a number' => '"gid":"wrong","trans_type":"saga","steps":[{"action":""}],"payloads":[1]',
	'query_prepared is a number' => '"gid":"wrong","trans_type":"msg","query_prepared":1',
	'protocol is a number' => '"gid":"wrong","trans_type":"tcc","protocol":1',
	'custom_data is an object' => '"gid":"wrong","trans_type":"saga","custom_data":{"concurrent":true}',
	'wait_result is a string' => '"gid":"wrong","trans_type":"tcc","wait_result":"yes"',
	'wait_result is a number' => '"gid":"wrong","trans_type":"tcc","wait_result":1',
	'concurrent is a string' => '"gid":"wrong","trans_type":"msg","concurrent":"yes"',
	'timeout_to_fail is a fraction' => '"gid":"wrong","trans_type":"tcc","timeout_to_fail":1.5',
	'timeout_to_fail is a word' => '"gid":"wrong","trans_type":"tcc","timeout_to_fail":"ten"',
	'timeout_to_fail is true' => '"gid":"wrong","trans_type":"tcc","timeout_to_fail":true',
	'request_timeout is an object' => '"gid":"wrong","trans_type":"tcc","request_timeout":{}',
	'retry_interval is a fraction' => '"gid":"wrong","trans_type":"tcc","retry_interval":0.2',
	'retry_limit is an array' => '"gid":"wrong","trans_type":"saga","steps":[],"retry_limit":[]',
	'branch_headers is a string' => '"gid":"wrong","trans_type":"tcc","branch_headers":"x"',
	'a header is a number' => '"gid":"wrong","trans_type":"tcc","branch_headers":{"a":1}');
for my $name (sort keys %wrong)
{
	is_error($wire->post(prepare => "{$wrong{$name}}"), qr/./, $name);
	is_error($wire->post(submit => "{$wrong{$name}}"), qr/./, "$name, submit");
}
stored_none('wrong types', 'wrong', '7');

my $tolerated = $wire->gid('numbers');
is_success($wire->post(prepare => qq({"gid":"$tolerated","trans_type":"tcc","timeout_to_fail":"1000","request_timeout":"7","retry_interval":"60","retry_limit":"2"})),
	'numbers as strings');
my $options = decode_json($wire->trans($tolerated)->{options});
is_deeply([ @$options{qw(timeout_to_fail request_timeout retry_interval)} ], [ 1000, 7, 60 ], 'numbers as strings: understood');

# ------------------------------------------------------------- names

my $names = $wire->gid('names');
is_success($wire->post(submit => qq({"GID":"$names","Trans_Type":"saga","STEPS":[{"action":"@{[$service->url('/case')]}"}],"PayLoads":["{}"],"WAIT_RESULT":true})),
	'names of members in any case');
is($service->calls(gid => $names), 1, 'any case: called');
is_error($wire->post(submit => '{"gid":"camel","transType":"saga","steps":[],"payloads":[]}'), qr/./, 'but with their underscores');
stored_none('camel case', 'camel');

# everything that a client can leave null (C#, Python)
my $nulls = $wire->gid('nulls');
is_success($wire->post(prepare => <<"END"), 'null members');
{
  "gid": "$nulls",
  "trans_type": "tcc",
  "steps": null,
  "payloads": null,
  "query_prepared": null,
  "protocol": null,
  "custom_data": null,
  "wait_result": null,
  "timeout_to_fail": null,
  "request_timeout": null,
  "retry_interval": null,
  "passthrough_headers": null,
  "branch_headers": null,
  "concurrent": null,
  "retry_limit": null,
  "retry_count": null,
  "rollback_reason": null,
  "req_extra": null,
  "context": null
}
END
is($wire->trans($nulls)->{protocol}, 'http', 'null protocol is http');
is_success($wire->post(submit => { gid => $nulls, trans_type => 'tcc', wait_result => $true }), 'null members: submit');

my $twice = $wire->gid('twice');
is_success($wire->post(prepare => qq({"subType":"tcc","gid":"first","trans_type":"saga","subType":"tcc","trans_type":"tcc","gid":"$twice"})),
	'a member twice');
is($wire->trans($twice)->{trans_type}, 'tcc', 'a member twice: the last one counts');
stored_none('a member twice', 'first');

my $strange = $wire->gid('strange');
is_success($wire->post(submit => {
	gid => $strange, trans_type => 'saga', steps => [ { action => $service->url('/strange') } ], payloads => ['{}'],
	id => 77, owner => 'me', result => 'x', next_cron_time => '2020-01-01T00:00:00Z', finish_time => '2020-01-01T00:00:00Z',
	next_cron_interval => 5, ext_data => '{}', status => 'succeed', context => { a => 1 }, branch_id => '01', sub_branch_id => 0,
	op => 'action', dtm => 'http://x', bin_pay_loads => [ 1, [ 2, { a => undef } ] ], subType => 'saga',
	passthrough_headers => [ 'test_header', 'x' ], wait_result => $true, create_time => undef }),
	'unknown members');
is($wire->status($strange), 'succeed', 'unknown members: ran');
is($service->calls(gid => $strange), 1, 'unknown members: called');
my $row = $wire->trans($strange);
isnt($row->{id}, 77, 'unknown members: id not taken over');
ok(!exists $row->{result}, 'unknown members: result not taken over');
unlike($row->{finish_time}, qr/^2020/, 'unknown members: finish_time not taken over');

# PHP's empty map
my $php = $wire->gid('php');
is_success($wire->post(prepare => { gid => $php, trans_type => 'tcc', branch_headers => [], req_extra => [], steps => [],
	payloads => [], passthrough_headers => [] }), 'an empty array for an empty object');

# --------------------------------------------------------------- gids

my $cut = $wire->gid('cut');
is_success($wire->post(prepare => { gid => "\r;" . substr($cut, 0, 2) . ";\r\n" . substr($cut, 2) . "\n", trans_type => 'tcc' }),
	'CR, LF and ; in a gid');
is($wire->status($cut), 'prepared', 'they are removed');
is_success($wire->post(registerBranch => { gid => "$cut;\n", trans_type => 'tcc', branch_id => '01', data => '{}', confirm => '', cancel => '' }),
	'also by registerBranch');
is_success($wire->post(forceStop => { gid => ";$cut" }), 'also by forceStop');
is($wire->status($cut), 'failed', 'it was that one');
is_error($wire->post(prepare => { gid => ";\r\n", trans_type => 'tcc' }), qr/gid/, 'a gid of nothing else');

for my $case ([ '""', 'empty' ], [ 'null', 'null' ])
{
	is_error($wire->post($_ => qq({"gid":$case->[0],"trans_type":"saga","steps":[],"payloads":[]})), qr/gid/, "$_: gid is $case->[1]")
	  for qw(prepare submit);
}
is_error($wire->post(submit => '{"trans_type":"saga","steps":[],"payloads":[]}'), qr/gid/, 'no gid');
isnt($wire->post(abort => '{"trans_type":"tcc"}')->{status}, 200, 'abort without a gid');
isnt($wire->post(registerBranch => '{"trans_type":"tcc","branch_id":"01","confirm":"","cancel":"","data":""}')->{status}, 200,
	'registerBranch without a gid');

my $longest = 'g' x 128;
is_success($wire->post(prepare => { gid => $longest, trans_type => 'tcc' }), 'a gid of 128 characters');
is($wire->status($longest), 'prepared', 'a gid of 128 characters: stored');
is_error($wire->post(prepare => { gid => "${longest}g", trans_type => 'tcc' }), qr/gid/, 'a gid of 129 characters');
stored_none('too long', "${longest}g");
is_error($wire->post(prepare => '{"gid":"a\u0000b","trans_type":"tcc"}'), qr/./, 'a NUL in a gid');

for my $odd (q(it's), q(say "so"), 'per%cent', 'a/b?c=d&e#f', 'two words', "gr\x{fc}\x{df}e", "\x{4e2d}\x{6587}", '{}', '\\')
{
	my $bytes = Encode::encode('UTF-8', $odd);

	is_success($wire->post(submit => { gid => $odd, trans_type => 'saga', steps => [ { action => $service->url('/odd?x=1') } ],
		payloads => ['{}'], wait_result => $true }), "gid $bytes");
	my ($call) = $service->calls(path => q(/odd), gid => $odd);
	is($wire->trans($bytes)->{gid}, $odd, "gid $bytes: query");
	is($call->{query}{gid}, $odd, "gid $bytes: in the query string of the call");
}

# ------------------------------------------------------- trans_type

for my $type ('', 'sagas', 'SAGA', 'http')
{
	is_error($wire->post($_ => { gid => 'typed', trans_type => $type, steps => [], payloads => [] }), qr/./, "$_: trans_type '$type'")
	  for qw(prepare submit);
}
is_error($wire->post($_ => { gid => 'typed' }), qr/./, "$_: no trans_type") for qw(prepare submit);
is_error($wire->post($_ => { gid => 'typed', trans_type => 'saga', steps => [ map { step($service, $_) } 1, 2 ], payloads => ['{}'] }),
	qr/./, "$_: a step without a payload") for qw(prepare submit);
is_error($wire->post(submit => { gid => 'typed', trans_type => 'msg', steps => [ step($service, 1) ] }),
	qr/./, 'a step without any payload');
stored_none('refused', 'typed');

# ------------------------------------------------------------ JSON-RPC

sub is_rpc
{
	my ($got, $code, $message, $name) = @_;
	my $value = decoded($got) // {};

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($got->{status}, 200, "$name: HTTP status");
	is($value->{jsonrpc}, '2.0', "$name: version");
	is($value->{id}, 'no-use', "$name: id");
	if (defined $code)
	{
		is($value->{error}{code}, $code, "$name: code") or diag($got->{content});
		like($value->{error}{message}, $message, "$name: message");
	}
	else
	{
		ok(exists $value->{error} && !defined $value->{error}, "$name: error is null") or diag($got->{content});
	}
	return $value->{result};
}

my $result = is_rpc($wire->rpc('newGid'), undef, undef, 'rpc newGid');
is(join(' ', keys %$result), 'gid', 'rpc newGid: only the gid');
like($result->{gid}, qr/^[2-9A-HJ-NP-Za-km-z]{22}$/, 'rpc newGid: its form');

my $rpc = $wire->gid('rpc');
my @tcc = (gid => $rpc, trans_type => 'tcc');
is(is_rpc($wire->rpc(prepare => {@tcc}), undef, undef, 'rpc prepare'), undef, 'rpc prepare: result null');
is(is_rpc($wire->rpc(registerBranch => { @tcc, branch_id => '01', data => '{}', confirm => $service->url('/c'), cancel => '' }),
	undef, undef, 'rpc registerBranch'), undef, 'rpc registerBranch: result null');
is_rpc($wire->rpc(registerBranch => { @tcc, branch_id => '01', data => '{}', confirm => $service->url('/c'), cancel => '' }),
	-32603, qr/./, 'rpc registerBranch twice');
is(is_rpc($wire->rpc(submit => { @tcc, wait_result => $true }), undef, undef, 'rpc submit'), undef, 'rpc submit: result null');
is($wire->status($rpc), 'succeed', 'rpc submit: done');
is($service->calls(gid => $rpc, path => '/c'), 1, 'rpc submit: called');
is_rpc($wire->rpc(prepare => {@tcc}), -32901, qr/^current status 'succeed', cannot prepare\. FAILURE$/, 'rpc prepare of a finished one');
is_rpc($wire->rpc(submit => {@tcc}), -32901, qr/^current status 'succeed', cannot sumbmit\. FAILURE$/, 'rpc submit of a finished one');
is_rpc($wire->rpc(abort => {@tcc}), -32901, qr/FAILURE$/, 'rpc abort of a finished one');
is_rpc($wire->rpc(registerBranch => { @tcc, branch_id => '02', data => '', confirm => '', cancel => '' }),
	-32901, qr/^no trans with gid: \Q$rpc\E status: prepared found FAILURE$/, 'rpc registerBranch of a finished one');
is_rpc($wire->rpc(abort => { gid => 'unknown', trans_type => 'tcc' }), -32603, qr/no TransGlobal with gid: unknown found/, 'rpc abort of an unknown one');
is_rpc($wire->rpc(submit => { gid => 'rpc-bad', trans_type => 'nonsense' }), -32603, qr/./, 'rpc submit of an unknown type');
is_rpc($wire->rpc(submit => { gid => 7, trans_type => 'saga' }), -32603, qr/./, 'rpc submit with a gid that is a number');
is_rpc($wire->rpc($_), -32601, qr/^Method not found: \Q$_\E$/, "rpc method $_") for qw(nothing query forceStop newgid);

my $aborted = $wire->gid('rpc');
is_rpc($wire->rpc(prepare => { gid => $aborted, trans_type => 'xa' }), undef, undef, 'rpc prepare of an xa');
is_rpc($wire->rpc(abort => { gid => $aborted, trans_type => 'xa', rollback_reason => 'because' }), undef, undef, 'rpc abort');
$wire->wait_status($aborted, 'failed');
is($wire->trans($aborted)->{rollback_reason}, 'because', 'rpc abort: its reason');

$service->script('/rpc-ongoing', { answers => [ { status => 425 } ] });
my $waiting = $wire->gid('rpc');
is_rpc($wire->rpc(prepare => { gid => $waiting, trans_type => 'tcc' }), undef, undef, 'rpc prepare');
is_rpc($wire->rpc(registerBranch => { gid => $waiting, trans_type => 'tcc', branch_id => '01', data => '{}', cancel => '',
	confirm => $service->url('/rpc-ongoing') }), undef, undef, 'rpc registerBranch');
is_rpc($wire->rpc(submit => { gid => $waiting, trans_type => 'tcc', wait_result => $true }), -32603, qr/ONGOING/, 'rpc submit of an ongoing one');
$wire->wait_status($waiting, 'succeed');

$service->script('/rpc-no', { then => { status => 409, body => 'no money' } });
is_rpc($wire->rpc(submit => { gid => $wire->gid('rpc'), trans_type => 'saga', steps($service, 'rpc-no'), wait_result => $true }),
	-32901, qr/no money FAILURE$/, 'rpc submit of one that fails');

# params that are none, or not an object
for my $params ('', ',"params":null', ',"params":[]', ',"params":[{"gid":"x","trans_type":"tcc"}]', ',"params":"x"', ',"params":7', ',"params":{}')
{
	is_rpc($wire->request('POST', '/api/json-rpc', qq({"jsonrpc":"2.0","id":"no-use","method":"$_"$params})), -32603, qr/./, "rpc $_ with '$params'")
	  for qw(prepare submit abort registerBranch);
	is_rpc($wire->request('POST', '/api/json-rpc', qq({"jsonrpc":"2.0","id":"no-use","method":"newGid"$params})), undef, undef, "rpc newGid with '$params'");
}

# a gid over JSON-RPC keeps its characters
is_rpc($wire->rpc(prepare => { gid => 'semi;colon', trans_type => 'tcc' }), undef, undef, 'rpc: ; in a gid');
is($wire->status('semi;colon'), 'prepared', 'rpc: ; is kept');

for my $case ([ '{', 400, -32700, qr/^Parse json error: / ],
	[ '', 400, -32700, qr/^Parse json error: / ],
	[ '[]', undef, -32700, qr/^Parse json error: / ],
	[ '"x"', undef, -32700, qr/^Parse json error: / ],
	[ '{"jsonrpc":"2.0","id":7,"method":"newGid","params":{}}', undef, -32700, qr/^Parse json error: / ],
	[ '{"jsonrpc":"2.0","id":"","method":"newGid","params":{}}', 200, -32600, qr/^Bad json request: / ],
	[ '{"jsonrpc":"2.0","method":"newGid","params":{}}', 200, -32600, qr/^Bad json request: / ],
	[ '{"jsonrpc":"1.0","id":"a","method":"newGid","params":{}}', 200, -32600, qr/^Bad json request: / ],
	[ '{"id":"a","method":"newGid","params":{}}', 200, -32600, qr/^Bad json request: / ],
	[ '{"jsonrpc":"2.0","id":"a","params":{}}', 200, -32601, qr/^Method not found: $/ ])
{
	my ($body, $status, $code, $message) = @$case;
	my $bad = $wire->request('POST', '/api/json-rpc', $body);
	my $value = decoded($bad) // {};

	is($bad->{status}, $status, "rpc $body: HTTP status") if defined $status;
	is($value->{jsonrpc}, '2.0', "rpc $body: version");
	is($value->{error}{code}, $code, "rpc $body: code") or diag($bad->{content});
	like($value->{error}{message}, $message, "rpc $body: message");
}

# ------------------------------------------- a success never says FAILURE

my $word = $wire->gid('FAILURE');
is_success($wire->post(prepare => { gid => $word, trans_type => 'tcc' }), 'prepare of a gid with FAILURE in it');
is_success($wire->post(submit => { gid => $word, trans_type => 'tcc' }), 'submit of a gid with FAILURE in it');

done_testing();
