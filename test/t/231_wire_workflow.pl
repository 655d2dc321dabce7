# -------------------------------------------------------------------------
#
# 231_wire_workflow.pl
#		Workflows that an SDK runs, over DTM's HTTP API: beginning, memos, the
#		end, the callback that asks to go on, what a crash leaves, and what the
#		views and SQL functions make of them.
#
# Not here: the SDKs themselves, the engine's side (test/unit/test_resume.c).
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmSession;
use DtmTest;
use DtmWire;
use Encode;
use HTTP::Tiny;
use JSON::PP;
use MIME::Base64;
use Test::More;

my ($node, $wire) = wire_node(conf => "dtm.retry_interval = '300ms'\ndtm.retry_max_interval = '60s'");
my $service = start_service();
my $text = JSON::PP->new->canonical;

sub sql { return $node->safe_psql('postgres', @_); }

# Begin one, or ask how far it is; input undef: without, callback undef: '/resume'.
sub prepare_body
{
	my ($gid, %opts) = @_;
	my %custom = (name => $opts{name} // 'transfer', data => defined $opts{input} ? encode_base64($opts{input}, '') : undef);

	return {
		gid => $gid, trans_type => 'workflow', protocol => 'http', concurrent => JSON::PP::false,
		custom_data => $text->encode(\%custom),
		query_prepared => $opts{callback} // $service->url('/resume'),
		%{ $opts{more} // {} },
	};
}

sub prepare { return $wire->post(prepareWorkflow => prepare_body(@_)); }

# One that is asked to go on so late that a test need not mind.
sub quietly { return prepare(@_, more => { retry_interval => 3600 }); }

sub memo
{
	my ($gid, $branch, $op, $status, $data) = @_;

	return $wire->post(registerBranch => {
		gid => $gid, trans_type => 'workflow', branch_id => $branch, op => $op, status => $status,
		defined $data ? (data => $data) : () });
}

sub finish
{
	my ($gid, $status, %extra) = @_;

	return $wire->post(submit => { gid => $gid, trans_type => 'workflow', req_extra => { status => $status, %extra } });
}

# "01 action succeed" of each, in order
sub progresses { return join ', ', map { "$_->{branch_id} $_->{op} $_->{status}" } @{ decoded($_[0])->{progresses} }; }
sub data_of { return decode_base64(decoded($_[0])->{progresses}[ $_[1] ]{bin_data} // ''); }

# prepareWorkflow is refused, in the form that every SDK understands.
sub not_begun
{
	my ($refusal, $status, $message, $name) = @_;
	my $value = decoded($refusal);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is_deeply([ $refusal->{status}, ($value->{message} // '') =~ $message ? 'told' : $refusal->{content}, $value->{transaction}{status}, $value->{progresses} ],
		[ $status, 'told', 'failed', [] ], $name);
}

# An SQL statement fails; the message with its hint.
sub refused
{
	my ($statement, $message, $name) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', $statement);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return like($err, $message, $name);
}

# ----------------------------------------------------------------- beginning
my $answer = quietly('begin', input => '{"amount":30}');
is($answer->{status}, 200, 'prepareWorkflow');
my $trans = decoded($answer)->{transaction};
is_deeply([ @$trans{qw(gid trans_type status protocol)} ], [qw(begin workflow prepared http)], 'shows what it has begun');
is($trans->{query_prepared}, $service->url('/resume'), 'with its callback');
is($trans->{custom_data}, '{"data":"eyJhbW91bnQiOjMwfQ==","name":"transfer"}', 'name and input');
is($trans->{next_cron_interval}, 3600, 'and interval');
ok(!exists $trans->{result} && !exists $trans->{rollback_reason}, 'and neither result nor reason');
is_deeply(decoded($answer)->{progresses}, [], 'without progresses');
is(progresses(prepare('begin', name => 'other', callback => '')), '', 'again, whatever it says: the same');
is(decoded(prepare('begin'))->{transaction}{query_prepared}, $service->url('/resume'), 'as it was first');
is_success($wire->post(prepare => prepare_body('begin')), 'prepare of one that is prepared');

is(progresses($wire->post(prepareWorkflow => { gid => 'begin' })), '', 'nor need it say anything');
not_begun($wire->post(prepareWorkflow => { gid => 'no', custom_data => 'no JSON' }), 500, qr/custom_data/, 'custom_data that is no JSON');
for my $url ('sql:now', 'pg://server/f', 'ftp://host/')
{
	not_begun(prepare('no', callback => $url), 500, qr/query_prepared/, "$url as callback");
}
not_begun(prepare('no', callback => 'http://169.254.169.254/latest'), 403, qr/allowed_targets/, 'a callback that dtm.allowed_targets forbids');
is(sql(q{SELECT count(*) FROM dtm.transactions WHERE gid = 'no'}), 0, 'nothing is stored');
is_success($wire->post(submit => { gid => 'saga', trans_type => 'saga', steps => [ { action => $service->url('/ok') } ], payloads => ['{}'] }), 'a saga');
not_begun(prepare('saga'), 500, qr/another transaction: a saga/, 'its gid is no workflow');

# --------------------------------------------------------------------- memos
my $long = 'long op' . 'x' x 38;
my $bytes = Encode::decode('UTF-8', "{\"a\":\"\xc3\xa4\"}");
is_success(memo('begin', '01', 'action', 'succeed', $bytes), 'a memo');
is_success(memo('begin', '02', 'business', 'succeed'), 'one without data');
is_success(memo('begin', '02', 'action', 'failed', "no stock\n\x{0}\x{1}\"\\"), 'a failed one, with characters that are no text');
is_success(memo('begin', '0201', $long, 'succeed', ''), 'any op and branch_id');
is_error(memo('begin', '01', 'action', 'succeed', 'other'), qr/UniqueKeyConflict/, 'the second with the same branch_id and op');
is_error(memo('begin', '01', 'action', 'prepared'), qr/status/, 'a status that is none');
is_error(memo('begin', '03', 'x' x 46, 'succeed'), qr/op/, 'an op that is too long');
is_failure(memo('missing', '01', 'action', 'succeed'), qr/no trans with gid: missing status: prepared found/, 'of nothing');

$answer = prepare('begin');
is(progresses($answer),
	"01 action succeed, 02 business succeed, 02 action failed, 0201 $long succeed",
	'progresses, in the order in which they came');
is(data_of($answer, 0), Encode::encode('UTF-8', $bytes), 'with their bytes');
is(data_of($answer, 2), "no stock\n\x{0}\x{1}\"\\", 'all of them');
ok(!exists decoded($answer)->{progresses}[1]{bin_data}, 'nothing where there were none');
my @ids = map { $_->{id} } @{ decoded($answer)->{progresses} };
is_deeply($wire->query('begin')->{branches}, decoded($answer)->{progresses}, 'query shows the same as branches');
is(scalar(grep { $ids[$_] > $ids[ $_ - 1 ] } 1 .. $#ids), 3, 'ids grow');

# many at once: each once, and all of them
my @sockets = map { $wire->start(registerBranch => { gid => 'begin', trans_type => 'workflow', op => 'commit', status => 'succeed',
	branch_id => sprintf('%02d', 10 + $_ % 10) }) } 1 .. 40;
my %count;
$count{ $wire->finish($_)->{status} }++ for @sockets;
is_deeply(\%count, { 200 => 10, 500 => 30 }, 'the same ten memos four times at once');
is(scalar(@{ decoded(prepare('begin'))->{progresses} }), 14, 'each is there once');

# ---------------------------------------------------------------------- views
is(sql(q{SELECT options::text FROM dtm.transactions WHERE gid = 'begin'}),
	'{"workflow": "transfer", "query_prepared": "' . $service->url('/resume') . '", "retry_interval": "3600 s"}', 'dtm.transactions');
is(sql(q{SELECT branch_id, op, status, name IS NULL, attempts, finished_at IS NOT NULL, url FROM dtm.branches WHERE gid = 'begin' LIMIT 4}),
	"00|transfer|prepared|t|0|f|" . $service->url('/resume') . "\n01|action|succeed|t|0|t|\n02|business|succeed|t|0|t|\n02|action|failed|t|0|t|",
	'dtm.branches');

# ------------------------------------------------------------- SQL functions
refused(q{SELECT dtm_submit('begin')}, qr/workflow transaction "begin" cannot be submitted: its status is "prepared".*The service that runs it/s, 'dtm_submit');
refused(q{SELECT dtm_abort('begin')}, qr/cannot be aborted.*Only the service that runs it/s, 'dtm_abort');
refused(q{SELECT dtm_signal('begin', 'paid')}, qr/is run by a service, and waits for no signal/, 'dtm_signal');
refused(q{SELECT dtm_workflow_submit('now', gid => 'begin')}, qr/ERROR/, 'dtm_workflow_submit of the same gid');
is_failure($wire->post(abort => { gid => 'begin', trans_type => 'workflow' }), qr/trans type: 'workflow' current status 'prepared', cannot abort/, 'abort over the wire');
is_failure($wire->post(submit => { gid => 'begin', trans_type => 'tcc' }), qr/cannot sumbmit/, 'submit as something else');
is(sql(q{SELECT status FROM dtm.transactions WHERE gid = 'begin'}), 'prepared', 'nothing of that changed it');
is($service->calls(gid => 'begin'), 0, 'and it was not called');
is(sql(q{SELECT dtm_retry('begin')}), 'prepared', 'dtm_retry');
$service->wait_calls(1, gid => 'begin');
like(sql(q{SELECT branch_id, op, outcome FROM dtm_timeline('begin')}), qr/^00\|transfer\|ok$/, 'dtm_timeline')
  if wait_for($node, q{SELECT attempts FROM dtm.branches WHERE gid = 'begin' AND branch_id = '00'}, 1, name => 'dtm_retry asks the service at once');

# -------------------------------------------------------------------- the end
$node->append_conf('postgresql.conf', 'dtm.notify = on');
$node->reload;
my $listening = DtmSession->new($node);
$listening->query('LISTEN dtm');
my $waiting = DtmSession->new($node);
$waiting->send(q{SELECT dtm_wait('begin', '60s')});
is_error(finish('begin', 'submitted'), qr/succeed or failed/, 'an end that is none');
is_error(finish('begin', 'succeed', result => 'no base64!'), qr/base64/, 'a result that is no base64');
my $result = encode_base64("{\"ok\":\x{ff}}", '');
is_success(finish('begin', 'succeed', result => $result, rollback_reason => ''), 'submit is the end');
is($waiting->result, 'succeed', 'who waits for it is told');
is(sql(q{SELECT status, result, rollback_reason IS NULL, finished_at IS NOT NULL FROM dtm.transactions WHERE gid = 'begin'}),
	"succeed|\"$result\"|t|t", 'it has succeeded, with its result');
is(sql(q{SELECT dtm_result('begin')}), "\"$result\"", 'dtm_result');
is_success(finish('begin', 'succeed', result => $result), 'the same end again');
is_error(finish('begin', 'failed'), qr/storage: NotFound/, 'another one');
is_failure(memo('begin', '30', 'action', 'succeed'), qr/status: prepared found/, 'no memo comes after it');
$answer = prepare('begin');
is_deeply([ @{ decoded($answer)->{transaction} }{qw(status result)} ], [ 'succeed', $result ], 'prepareWorkflow tells the result');
is(scalar(@{ decoded($answer)->{progresses} }), 14, 'with all progresses');
is_failure($wire->post(prepare => prepare_body('begin')), qr/current status 'succeed', cannot prepare/, 'prepare does not');
is_failure($wire->post(forceStop => { gid => 'begin' }), qr/force stop/, 'forceStop of a finished one');
refused(q{SELECT dtm_submit('begin')}, qr/its status is "succeed"/, 'dtm_submit of a finished one');

quietly('fails', input => 'x');
is_success(finish('fails', 'failed', rollback_reason => "no stock \x{e4}" . 'y' x 2000, result => ''), 'it can fail');
is(sql(q{SELECT status, octet_length(rollback_reason) <= 1000, left(rollback_reason, 10), result IS NULL FROM dtm.transactions WHERE gid = 'fails'}),
	"failed|t|no stock \xc3\xa4|t", 'with its reason');
like(decoded(prepare('fails'))->{transaction}{rollback_reason}, qr/^no stock \x{e4}y+$/, 'prepareWorkflow tells the reason');
is_success(finish('fails', 'failed'), 'the same end again');
is_error(finish('missing', 'succeed'), qr/storage: NotFound/, 'the end of nothing');
is_error(finish('saga', 'succeed'), qr/another transaction/, 'the end of a saga');
my $heard = $listening->query('SELECT 1');
like($heard, qr/"begin succeed".*"fails failed"/s, 'NOTIFY tells both');

quietly('stopped');
is_success($wire->post(forceStop => { gid => 'stopped' }), 'forceStop');
is_deeply([ @{ decoded(prepare('stopped'))->{transaction} }{qw(status)} ], ['failed'], 'has failed');
is_error(finish('stopped', 'succeed'), qr/NotFound/, 'and cannot succeed any more');
quietly('stopped too');
is(sql(q{SELECT dtm_stop('stopped too', 'enough')}), 'failed', 'dtm_stop');
is(decoded(prepare('stopped too'))->{transaction}{rollback_reason}, 'enough', 'its reason');

# --------------------------------------------------------------- the callback
$service->script('/flaky', { answers => [ { status => 500 }, { status => 409, body => 'FAILURE' }, { status => 500 } ], then => { status => 425, body => 'ONGOING' } });
my $input = "raw \x{0}\x{ff}\xc3\xa4";
prepare('flaky', input => $input, name => "a name, \x{e4}", callback => $service->url('/flaky?own=1'),
	more => { branch_headers => { 'X-Tenant' => '7', 'Content-Type' => 'application/x-mine' } });
$service->wait_calls(6, gid => 'flaky');
my @calls = $service->calls(gid => 'flaky');
is($calls[0]{method}, 'POST', 'input is posted');
is_deeply($calls[0]{query}, { own => 1, gid => 'flaky', trans_type => 'workflow', branch_id => '00', op => "a name, \x{e4}" }, 'with the parameters of a call');
is($calls[0]{headers}{'x-tenant'}, '7', 'and branch_headers');
is($calls[0]{headers}{'content-type'}, 'application/x-mine', 'which may be of another type');
is($calls[0]{headers}{'content-length'}, length($input), 'the body is as long as the input');
my @gaps = map { $calls[$_]{start} - $calls[ $_ - 1 ]{end} } 1 .. 5;
cmp_ok($gaps[0], '>=', 0.25, 'after an error it waits one interval');
cmp_ok($gaps[1], '>=', 0.55, 'after a failure, two');
cmp_ok($gaps[2], '>=', 1.15, 'after the next error, four');
is(sql(q{SELECT status FROM dtm.transactions WHERE gid = 'flaky'}), 'prepared', 'no answer decides anything');
is_success(finish('flaky', 'succeed'), 'its end');

$service->script('/empty', {});
prepare('empty', callback => $service->url('/empty'));
$service->wait_calls(3, gid => 'empty');
is_deeply([ map { $_->{method} . length($_->{body}) } ($service->calls(gid => 'empty'))[ 0, 1, 2 ] ], [qw(GET0 GET0 GET0)], 'without input it is a GET; success only means that it is asked again');
is(sql(q{SELECT count(*) FROM dtm.stuck WHERE gid = 'empty'}), 0, 'which is not stuck');
is_success(finish('empty', 'failed', rollback_reason => 'enough'), 'its end');
my $called = () = $service->calls(gid => 'empty');

# what nobody answers is shown
$service->script('/dead', { then => { status => 503, body => 'away' } });
prepare('dead', callback => $service->url('/dead'), input => '{}');
wait_for($node, q{SELECT count(*) FROM dtm.stuck WHERE gid = 'dead' AND reason LIKE 'branch 00 transfer http%503: away%'}, 1, name => 'dtm.stuck shows a service that does not go on');
is_success(finish('dead', 'succeed'), 'its end');
is(sql(q{SELECT count(*) FROM dtm.stuck WHERE gid = 'dead'}), 0, 'then it is not stuck');

# without a name
is($wire->post(prepareWorkflow => { gid => 'bare', trans_type => 'workflow', query_prepared => $service->url('/bare') })->{status}, 200, 'nothing but a callback');
$service->wait_calls(1, gid => 'bare');
is((($service->calls(gid => 'bare'))[0])->{query}{op}, 'workflow', 'is called by the name of its type');
is_success(finish('bare', 'succeed'), 'its end');

# nobody to ask
prepare('silent', callback => '', more => { retry_interval => 1 });
is(sql(q{SELECT dtm_retry('silent')}), 'prepared', 'dtm_retry of one without a callback');

# the SDK's way: memos, and the end, while the callback is out
$service->script('/busy', { answers => [ { gate => 'first', status => 500 } ], then => { gate => 'second' } });
prepare('busy', callback => $service->url('/busy'), input => '{}', more => { request_timeout => 60 });
$service->wait_calls(1, gid => 'busy');
is_success(memo('busy', '01', 'action', 'succeed', 'one'), 'a memo during the callback');
is_success(memo('busy', '02', 'action', 'succeed', 'more'), 'and another');
is(scalar(my @once = $service->calls(gid => 'busy')), 1, 'which does not begin it again');
$service->open_gate('first');
$service->wait_calls(2, gid => 'busy');
my @busy = $service->calls(gid => 'busy');
cmp_ok($busy[1]{start} - $busy[0]{end}, '>=', 0.25, 'after an error it waits, memos or not');
is_success(finish('busy', 'succeed'), 'the end during the callback');
$service->open_gate('second');
wait_until(sub { ($service->calls(gid => 'busy'))[1]{status} }, 'whose answer is still taken');
is(scalar(my @twice = $service->calls(gid => 'busy')), 2, 'it is not called any more');
is(scalar(my @empty = $service->calls(gid => 'empty')), $called, 'neither is another that has ended');
is($service->calls(gid => 'silent'), 0, 'nor one without a callback');

# -------------------------------------------------------------------- crashes
$service->script('/crash', { then => { status => 500 } });
prepare('crash', callback => $service->url('/crash'), input => 'input');
is_success(memo('crash', '01', 'action', 'succeed', 'one'), 'a memo');
immediate_stop_start($node);
$wire->wait_port;
is_success(memo('crash', '02', 'action', 'succeed', 'two'), 'another after a crash');
my $before = () = $service->calls(gid => 'crash');
immediate_stop_start($node);
$wire->wait_port;
$answer = prepare('crash');
is(progresses($answer), '01 action succeed, 02 action succeed', 'what was answered is there after a crash');
is(data_of($answer, 1), 'two', 'with its bytes');
sql(q{SELECT dtm_retry('crash')});
$service->wait_calls($before + 1, gid => 'crash');
is((($service->calls(gid => 'crash'))[-1])->{body}, 'input', 'the service is asked to go on, with the input');
is_success(finish('crash', 'succeed', result => encode_base64('done', '')), 'its end');
immediate_stop_start($node);
$wire->wait_port;
is(decoded(prepare('crash'))->{transaction}{status}, 'succeed', 'which a crash does not undo');
is_success(finish('silent', 'succeed'), 'the end of one that nobody was asked about');

# ---------------------------------------------------------------------- roles
sql('CREATE ROLE other LOGIN; SELECT dtm_grant(\'other\')');
quietly('mine');
$node->append_conf('postgresql.conf', "dtm.http_role = 'other'");
$node->reload;
wait_until(sub { prepare('mine')->{status} == 403 }, 'one of another role is not told');
not_begun(prepare('mine'), 403, qr/belongs to another role/, 'nor its progresses');
is(memo('mine', '01', 'action', 'succeed')->{status}, 403, 'it takes no memo');
is(finish('mine', 'succeed')->{status}, 403, 'and has no end');
quietly('theirs');
is(sql(q{SELECT submitted_by FROM dtm.transactions WHERE gid = 'theirs'}), 'other', 'what is begun is the role\'s own');
is_success(memo('theirs', '01', 'action', 'succeed'), 'with its memos');
is_success(finish('theirs', 'succeed'), 'and its end');
is(sql(q{SELECT status FROM dtm.transactions WHERE gid = 'mine'}), 'prepared', 'the other one is untouched');
is(sql(q{SELECT dtm_stop('mine')}), 'failed', 'its owner gives it up');
is(sql('SELECT count(*) FROM dtm.live'), 0, 'nothing is left over');

done_testing();
