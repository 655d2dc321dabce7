# -------------------------------------------------------------------------
#
# 205_wire_tcc_xa.pl
#		TCC and XA over the HTTP API, as clients run them: prepare, register
#		branches, submit or abort; time-outs; order of the second phase; what
#		is refused, and when.
#
# Not here: the same over SQL (111, 112), crashes (113).
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
my $shape = qr{^your http/grpc result should be specified as in:};

sub value { return $node->safe_psql('postgres', $_[0]); }
sub calls { return join ', ', $service->ops(gid => $_[0]); }
sub rows { return join ', ', $wire->branches($_[0]); }

sub prepare
{
	my ($gid, $type, %more) = @_;

	return $wire->post(prepare => { gid => $gid, trans_type => $type, %more });
}

# The body of registerBranch: URLs are /<branch>-<op>.
sub branch
{
	my ($gid, $type, $id, %more) = @_;

	return { gid => $gid, branch_id => $id, trans_type => $type,
		$type eq 'tcc'
		? (data => qq({"b":"$id"}), map { $_ => $service->url("/$id-$_") } qw(confirm cancel))
		: (url => $service->url("/$id")), %more };
}

sub register { return $wire->post(registerBranch => branch(@_)); }

# A prepared one with branches; its gid.
sub begun
{
	my ($type, $ids, %more) = @_;
	my $gid = $wire->gid($type);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is_success(prepare($gid, $type, %more), "$gid: prepare");
	is_success(register($gid, $type, $_), "$gid: register $_") for @$ids;
	return $gid;
}

sub submit { my ($gid, $type, @more) = @_; return $wire->post(submit => { gid => $gid, trans_type => $type, @more }); }
sub submit_wait { return submit(@_, wait_result => $true); }
sub abort { my ($gid, $type, @more) = @_; return $wire->post(abort => { gid => $gid, trans_type => $type, @more }); }

# ---------------------------------------------------------- TCC succeeds

my $gid = begun('tcc', [ '01', '02', '03' ]);
is($wire->status($gid), 'prepared', 'prepared');
is(rows($gid), join(', ', map { "$_ cancel prepared, $_ confirm prepared" } '01', '02', '03'), 'rows: cancel before confirm');
is_success(submit_wait($gid, 'tcc'), 'submit, waiting');
is(calls($gid), 'confirm 03 /03-confirm, confirm 02 /02-confirm, confirm 01 /01-confirm', 'confirms in reverse order');
is(rows($gid), join(', ', map { "$_ cancel prepared, $_ confirm succeed" } '01', '02', '03'), 'rows after the submit');
my ($call) = $service->calls(gid => $gid, branch_id => '03');
is("$call->{method} $call->{target} $call->{body}", qq(POST /03-confirm?branch_id=03&gid=$gid&op=confirm&trans_type=tcc {"b":"03"}), 'a confirm');
my $trans = $wire->trans($gid);
is("$trans->{status} $trans->{trans_type}", 'succeed tcc', 'status');
ok(exists $trans->{finish_time} && !exists $trans->{rollback_time}, 'finish_time');

is_failure(prepare($gid, 'tcc'), "current status 'succeed', cannot prepare. FAILURE", 'prepare of a finished one');
is_failure(submit($gid, 'tcc'), "current status 'succeed', cannot sumbmit. FAILURE", 'submit of a finished one');
is_failure(abort($gid, 'tcc'), "trans type: 'tcc' current status 'succeed', cannot abort. FAILURE", 'abort of a finished one');
is_failure(register($gid, 'tcc', '04'), "no trans with gid: $gid status: prepared found FAILURE", 'registerBranch of a finished one');
is(scalar $service->calls(gid => $gid), 3, 'no further call');

$gid = begun('tcc', ['01']);
is_success(submit($gid, 'tcc'), 'submit, not waiting');
$wire->wait_status($gid, 'succeed');

for my $type (qw(tcc xa))
{
	$gid = begun($type, []);
	is_success(submit_wait($gid, $type), "$type without branches: submit");
	is($wire->status($gid), 'succeed', "$type without branches: succeed");
	is_deeply($wire->query($gid)->{branches}, [], "$type without branches: []");

	$gid = begun($type, []);
	is_success(abort($gid, $type), "$type without branches: abort");
	$wire->wait_status($gid, 'failed');

	# never prepared
	$gid = $wire->gid('new');
	is_success(submit_wait($gid, $type), "$type: submit of what was never prepared");
	is($wire->status($gid), 'succeed', "$type: it succeeds at once");
}

# ------------------------------------------------------- TCC is cancelled

$gid = begun('tcc', [ '01', '02' ]);
is_success(abort($gid, 'tcc', rollback_reason => 'the try failed'), 'abort');
$wire->wait_status($gid, 'failed');
is(calls($gid), 'cancel 02 /02-cancel, cancel 01 /01-cancel', 'cancels in reverse order');
is(rows($gid), join(', ', map { "$_ cancel succeed, $_ confirm prepared" } '01', '02'), 'rows after the abort');
$trans = $wire->trans($gid);
is($trans->{rollback_reason}, 'the try failed', 'reason of the abort');
ok(exists $trans->{rollback_time} && !exists $trans->{finish_time}, 'rollback_time');
is_failure(abort($gid, 'tcc'), "trans type: 'tcc' current status 'failed', cannot abort. FAILURE", 'abort of a failed one');
is_failure(submit($gid, 'tcc'), "current status 'failed', cannot sumbmit. FAILURE", 'submit of a failed one');
is_failure(prepare($gid, 'tcc'), "current status 'failed', cannot prepare. FAILURE", 'prepare of a failed one');
is_failure(register($gid, 'tcc', '03'), "no trans with gid: $gid status: prepared found FAILURE", 'registerBranch of a failed one');

$gid = begun('tcc', ['01']);
is_success($wire->post(abort => { gid => $gid, trans_type => 'tcc' }), 'abort without a reason');
$wire->wait_status($gid, 'failed');
ok(!exists $wire->trans($gid)->{rollback_reason}, 'no rollback_reason');

$gid = begun('tcc', ['01']);
is_failure($wire->post(abort => { gid => $gid }), qr/^trans type: '(tcc)?' current status 'prepared', cannot abort\. FAILURE$/, 'abort without a trans_type');
is_failure($wire->post(abort => { gid => $gid, trans_type => 'saga' }), qr/^trans type: '\w+' current status 'prepared', cannot abort\. FAILURE$/, 'abort as a saga');
is($wire->status($gid), 'prepared', 'nothing happened');
is_success(abort($gid, 'xa'), 'abort as an xa');
$wire->wait_status($gid, 'failed');
is(calls($gid), 'cancel 01 /01-cancel', 'it was cancelled');

# aborting: a second abort hurries, the rest is refused
$service->script('/01-cancel', { query => { gid => 'aborting' }, answers => [ { status => 500 } ] });
is_success(prepare('aborting', 'tcc', retry_interval => 100), 'prepare');
is_success(register('aborting', 'tcc', $_), "register $_") for '01', '02';
is_success(abort('aborting', 'tcc', rollback_reason => 'first'), 'abort');
$service->wait_calls(2, gid => 'aborting');
wait_until(sub { rows('aborting') =~ /02 cancel succeed/ }, 'the first cancel succeeded, the second did not');
is($wire->status('aborting'), 'aborting', 'aborting');
is_failure(submit('aborting', 'tcc'), "current status 'aborting', cannot sumbmit. FAILURE", 'submit of an aborting one');
is_failure(prepare('aborting', 'tcc'), "current status 'aborting', cannot prepare. FAILURE", 'prepare of an aborting one');
is_failure(register('aborting', 'tcc', '03'), 'no trans with gid: aborting status: prepared found FAILURE', 'registerBranch of an aborting one');
is_success(abort('aborting', 'tcc'), 'abort of an aborting one');
$wire->wait_status('aborting', 'failed');
is(calls('aborting'), 'cancel 02 /02-cancel, cancel 01 /01-cancel, cancel 01 /01-cancel', 'finished cancels are not repeated');
is($wire->trans('aborting')->{rollback_reason}, 'first', 'the first reason stays');

# ------------------------------------------------ wait_result of an abort

$gid = begun('tcc', [ '01', '02' ], wait_result => $true);
is_success(abort($gid, 'tcc'), 'wait_result at the prepare: abort waits');
is($wire->status($gid), 'failed', 'failed when it was answered');

for my $case ([ 'ONGOING', { status => 425, body => 'not yet' }, sub { is_ongoing($_[0], qr/^ONGOING$/, 'abort: a cancel is ongoing: 425') } ],
	[ 'FAILURE', { status => 409, body => 'cannot' }, sub { is_failure($_[0], qr/$shape.*cannot.*FAILURE$/s, 'abort: a cancel answers FAILURE: 409') } ],
	[ 'error', { status => 500, body => 'broken' }, sub { is_error($_[0], qr/$shape.*broken/s, 'abort: a cancel breaks: 500') } ])
{
	my ($name, $answer, $check) = @$case;

	$gid = begun('tcc', [ '01', '02' ], wait_result => $true);
	$service->script('/02-cancel', { query => { gid => $gid }, answers => [$answer] });
	$check->(abort($gid, 'tcc'));
	$wire->wait_status($gid, 'failed');
	is(calls($gid), 'cancel 02 /02-cancel, cancel 02 /02-cancel, cancel 01 /01-cancel', "cancel $name: stops the round, goes on later");
}

# ----------------------------------------------- wait_result of a submit

for my $case (
	[ 'ONGOING', { status => 425, body => 'not yet' }, sub { is_ongoing($_[0], 'ONGOING', 'submit: a confirm is ongoing: 425') } ],
	[ 'ONGOING in a body', { body => '{"dtm_result":"ONGOING"}' }, sub { is_ongoing($_[0], 'ONGOING', 'submit: a confirm is ongoing, by its body: 425') } ],
	[ 'FAILURE', { status => 409, body => 'cannot' }, sub { is_failure($_[0], qr/$shape.*cannot.*FAILURE$/s, 'submit: a confirm answers FAILURE: 409') } ],
	[ 'error', { status => 500, body => 'broken' }, sub { is_error($_[0], qr/$shape.*broken/s, 'submit: a confirm breaks: 500') } ])
{
	my ($name, $answer, $check) = @$case;

	$gid = begun('tcc', [ '01', '02', '03' ], retry_interval => 100);
	$service->script('/02-confirm', { query => { gid => $gid }, answers => [$answer] });
	$check->(submit_wait($gid, 'tcc'));
	is($wire->status($gid), 'submitted', "confirm $name: still submitted");
	is(rows($gid), '01 cancel prepared, 01 confirm prepared, 02 cancel prepared, 02 confirm prepared, 03 cancel prepared, 03 confirm succeed',
		"confirm $name: rows");
	is_failure(abort($gid, 'tcc'), "trans type: 'tcc' current status 'submitted', cannot abort. FAILURE", "confirm $name: no way back");
	is_failure(prepare($gid, 'tcc'), "current status 'submitted', cannot prepare. FAILURE", "confirm $name: prepare");
	is_failure(register($gid, 'tcc', '04'), "no trans with gid: $gid status: prepared found FAILURE", "confirm $name: registerBranch");
	is_success(submit_wait($gid, 'tcc'), "confirm $name: submitted again");
	is(calls($gid), 'confirm 03 /03-confirm, confirm 02 /02-confirm, confirm 02 /02-confirm, confirm 01 /01-confirm',
		"confirm $name: the second submit goes on where it stopped");
}

# many submits at once: no confirm twice
$gid = begun('tcc', [ '01', '02' ]);
my @crowd = map { $wire->start(submit => { gid => $gid, trans_type => 'tcc', wait_result => $true }) } 1 .. 8;
my %statuses;
$statuses{ $wire->finish($_)->{status} }++ for @crowd;
is(join(' ', grep { $_ != 200 && $_ != 409 } keys %statuses), '', 'eight submits at once: accepted, or too late');
is(calls($gid), 'confirm 02 /02-confirm, confirm 01 /01-confirm', 'eight submits at once: each confirm once');

# submit against abort: one wins, the other is told
for my $i (1 .. 5)
{
	$gid = begun('tcc', ['01']);
	my @race = ($wire->start(submit => { gid => $gid, trans_type => 'tcc' }), $wire->start(abort => { gid => $gid, trans_type => 'tcc' }));
	@race = reverse @race if $i % 2;
	is(join(' ', sort map { $wire->finish($_)->{status} } @race), '200 409', 'submit against abort: one of them');
	wait_until(sub { $wire->status($gid) =~ /succeed|failed/ }, 'it ends');
	is(scalar $service->calls(gid => $gid), 1, 'by one call');
}

# ------------------------------------------------------- registerBranch

is_failure(register('unknown', 'tcc', '01'), 'no trans with gid: unknown status: prepared found FAILURE', 'registerBranch of an unknown gid');
is($wire->status('unknown'), 'none', 'nothing stored');

$gid = begun('tcc', ['01']);
for my $route (qw(registerBranch registerTccBranch registerXaBranch))
{
	is_error($wire->post($route => branch($gid, 'tcc', '01')), qr/./, "$route: the same branch again: 500");
	is_error($wire->post($route => branch($gid, 'tcc', '01', confirm => '')), qr/./, "$route: with other URLs: 500");
}
is(rows($gid), '01 cancel prepared, 01 confirm prepared', 'one branch');
is_success($wire->post(registerTccBranch => branch($gid, 'tcc', '02', try => $service->url('/try'), status => 'prepared', subType => 'x')), 'registerTccBranch, as Node does');
is_success($wire->post(registerXaBranch => branch($gid, 'tcc', '03')), 'registerXaBranch of a tcc: the same route');
is_success($wire->post(registerBranch => branch($gid, 'tcc', '0201')), 'a nested branch');
is_success($wire->post(registerBranch => branch($gid, 'tcc', '04', data => '')), 'without data');
is_success($wire->post(registerBranch => { gid => $gid, trans_type => 'tcc', branch_id => '05', data => undef, confirm => $service->url('/05-confirm'), cancel => undef }), 'null members');
is_success($wire->post(registerBranch => { gid => $gid, trans_type => 'tcc', branch_id => '06', confirm => '', cancel => '' }), 'empty URLs');
is_success(submit_wait($gid, 'tcc'), 'submit');
is(calls($gid), 'confirm 05 /05-confirm, confirm 04 /04-confirm, confirm 0201 /0201-confirm, confirm 03 /03-confirm, confirm 02 /02-confirm, confirm 01 /01-confirm',
	'in reverse order of registration, not of ids; empty URLs are not called');
is(join(' ', map { $_->{method} } $service->calls(gid => $gid)), 'GET GET POST POST POST POST', 'GET when there is no data');
like(rows($gid), qr/06 cancel prepared, 06 confirm succeed$/, 'an empty URL succeeds');

$gid = begun('tcc', []);
for my $case ([ 'data is a number', data => 7 ], [ 'data is an object', data => { a => 1 } ], [ 'data is true', data => $true ],
	[ 'branch_id is a number', branch_id => 1 ], [ 'confirm is an array', confirm => [] ], [ 'an unknown member is a number', other => 1 ],
	[ 'gid is a number', gid => 7 ])
{
	my ($name, @wrong) = @$case;
	my $answer = $wire->post(registerBranch => branch($gid, 'tcc', '01', @wrong));

	ok($answer->{status} == 400 || $answer->{status} == 500, "registerBranch: $name: 400 or 500") or diag("$answer->{status} $answer->{content}");
	is(join(' ', keys %{ decoded($answer) }), 'message', "registerBranch: $name: body");
}
for my $type ('saga', 'msg', 'other', '')
{
	my $body = branch($gid, 'tcc', '01', trans_type => $type);
	is_error($wire->post(registerBranch => $body), "unknow trans type: $type", "registerBranch: trans_type '$type'");
}
is(rows($gid), '', 'nothing was registered');

# keys twice, pretty-printed
is_success($wire->post(registerBranch => qq({\n  "subType": "OperatorParam",\n  "gid": "$gid",\n  "trans_type": "tcc", "branch_id": "00",\n  "branch_id": "01", "subType": "x",
  "data": "{\\"amount\\":30}", "confirm": "", "cancel": ""\n})), 'keys twice');
is(rows($gid), '01 cancel prepared, 01 confirm prepared', 'the last one counts');

# twenty at once
$gid = begun('tcc', []);
my @ids = map { sprintf '%02d', $_ } 1 .. 20;
my @registers = map { $wire->start(registerBranch => branch($gid, 'tcc', $_)) } @ids;
is(join(' ', map { $wire->finish($_)->{status} } @registers), join(' ', ('200') x 20), 'twenty branches at once');
is(scalar(() = rows($gid) =~ /cancel/g), 20, 'all are there');
is_success(submit_wait($gid, 'tcc'), 'submit');
is(scalar $service->calls(gid => $gid), 20, 'twenty confirms');

# ----------------------------------------------------------------- XA

$gid = begun('xa', [ '01', '02', '03' ]);
is(rows($gid), join(', ', map { "$_ rollback prepared, $_ commit prepared" } '01', '02', '03'), 'xa rows: rollback before commit');
is_success(submit_wait($gid, 'xa'), 'xa: submit');
is(calls($gid), 'commit 01 /01, commit 02 /02, commit 03 /03', 'xa: commits in order');
is(rows($gid), join(', ', map { "$_ rollback prepared, $_ commit succeed" } '01', '02', '03'), 'xa rows after the submit');
($call) = $service->calls(gid => $gid);
is("$call->{method} $call->{target} [$call->{body}]", "POST /01?branch_id=01&gid=$gid&op=commit&trans_type=xa []", 'xa: POST with an empty body');

$gid = begun('xa', [ '01', '02' ]);
is_success(abort($gid, 'xa', rollback_reason => 'no'), 'xa: abort');
$wire->wait_status($gid, 'failed');
is(calls($gid), 'rollback 01 /01, rollback 02 /02', 'xa: rollbacks in order');
is(rows($gid), join(', ', map { "$_ rollback succeed, $_ commit prepared" } '01', '02'), 'xa rows after the abort');

$service->script('/01', { answers => [ { status => 425 } ] });
$gid = begun('xa', [ '01', '02' ]);
is_ongoing(submit_wait($gid, 'xa'), 'ONGOING', 'xa: a commit is ongoing: 425');
is_success(submit_wait($gid, 'xa'), 'xa: submitted again') if $wire->status($gid) eq 'submitted';
$wire->wait_status($gid, 'succeed');
is(calls($gid), 'commit 01 /01, commit 01 /01, commit 02 /02', 'xa: goes on where it stopped');

$gid = begun('xa', ['01']);
is_error(register($gid, 'xa', '01'), qr/./, 'xa: the same branch again: 500');
is_success($wire->post(registerXaBranch => branch($gid, 'xa', '02')), 'xa: registerXaBranch');
is_success(submit($gid, 'xa'), 'xa: submit');
$wire->wait_status($gid, 'succeed');
is_failure(register($gid, 'xa', '03'), "no trans with gid: $gid status: prepared found FAILURE", 'xa: registerBranch of a finished one');

# --------------------------------------------------- headers, request_timeout

$gid = begun('tcc', ['01'], branch_headers => { test_header => 'yes' }, request_timeout => 1, retry_interval => 1);
$service->script('/01-confirm', { query => { gid => $gid }, answers => [ { hang => $true } ] });
is_error(submit_wait($gid, 'tcc'), qr/$shape/, 'a confirm that hangs');
$wire->wait_status($gid, 'succeed');
is(join(' ', map { $_->{headers}{test_header} // '-' } $service->calls(gid => $gid)), 'yes yes', 'headers of the prepare');

# ------------------------------------------------------------ time-out

my $tcc = begun('tcc', [ '01', '02' ], timeout_to_fail => 1);
my $xa = begun('xa', ['01'], timeout_to_fail => 1);
my $bare = begun('xa', [], timeout_to_fail => 1);
$wire->wait_status($_, 'failed') for $tcc, $xa, $bare;
is(calls($tcc), 'cancel 02 /02-cancel, cancel 01 /01-cancel', 'tcc, time-out: cancelled');
is(calls($xa), 'rollback 01 /01', 'xa, time-out: rolled back');
is_deeply($wire->query($bare)->{branches}, [], 'time-out without branches');
is($wire->trans($_)->{rollback_reason}, 'Timeout after 1 seconds', 'reason of a time-out') for $tcc, $xa, $bare;
is_failure(register($tcc, 'tcc', '03'), "no trans with gid: $tcc status: prepared found FAILURE", 'registerBranch after the time-out');
is_failure(submit($bare, 'xa'), "current status 'failed', cannot sumbmit. FAILURE", 'submit after the time-out');
is_failure(abort($tcc, 'tcc'), "trans type: 'tcc' current status 'failed', cannot abort. FAILURE", 'abort after the time-out');

value(q{ALTER SYSTEM SET dtm.timeout_to_fail = '1s'; SELECT pg_reload_conf()});
wait_for($node, 'SHOW dtm.timeout_to_fail', '1s');
my $default;
wait_until(sub { $default = $wire->gid('default'); prepare($default, 'tcc');
	register($default, q(tcc), q(01));
	my $end = time() + 3;
	while (time() < $end) { return 1 if $wire->status($default) eq 'failed'; usleep(50_000); }
	return 0; }, 'time-out by the setting');
like($wire->trans($default)->{rollback_reason}, qr/^Timeout after \d+ seconds$/, 'its reason');
value(q{ALTER SYSTEM RESET dtm.timeout_to_fail; SELECT pg_reload_conf()});
wait_for($node, 'SHOW dtm.timeout_to_fail', '35s');

# ------------------------------------------------------------ wire and SQL

is_success(prepare('wire-tcc', 'tcc', timeout_to_fail => 1000), 'wire to SQL: prepare');
value("SELECT dtm_tcc_register('wire-tcc', '01', '" . $service->url('/sql-confirm') . "', '" . $service->url('/sql-cancel') . q{', '{"n": 1}')});
is_success(register('wire-tcc', 'tcc', '02'), 'wire to SQL: registerBranch');
value("SELECT dtm_tcc_register('wire-tcc', '03', '" . $service->url('/sql-confirm') . "', '" . $service->url('/sql-cancel') . "')");
is(rows('wire-tcc'), join(', ', map { "$_ cancel prepared, $_ confirm prepared" } '01', '02', '03'), 'wire to SQL: rows');
is_success(submit_wait('wire-tcc', 'tcc'), 'wire to SQL: registered there, submitted here');
is(calls('wire-tcc'), 'confirm 03 /sql-confirm, confirm 02 /02-confirm, confirm 01 /sql-confirm', 'wire to SQL: confirms');

value("SELECT dtm_tcc_begin('sql-tcc'); SELECT dtm_xa_begin('sql-xa'); SELECT dtm_tcc_begin('sql-abort')");
is($wire->status($_), 'prepared', "$_: query") for qw(sql-tcc sql-xa sql-abort);
is_success(register('sql-tcc', 'tcc', '01'), 'SQL to wire: registerBranch');
is_success(register('sql-xa', 'xa', '01'), 'SQL to wire: registerBranch of an xa');
is_success(register('sql-abort', 'tcc', '01'), 'SQL to wire: registerBranch');
is(value("SELECT dtm_submit('sql-tcc')"), 'submitted', 'SQL to wire: submitted there');
is_success(submit_wait('sql-xa', 'xa'), 'SQL to wire: submitted here');
is_success(abort('sql-abort', 'tcc', rollback_reason => 'by wire'), 'SQL to wire: aborted here');
$wire->wait_status('sql-tcc', 'succeed');
$wire->wait_status('sql-abort', 'failed');
is(calls('sql-tcc') . '; ' . calls('sql-xa') . '; ' . calls('sql-abort'), 'confirm 01 /01-confirm; commit 01 /01; cancel 01 /01-cancel', 'SQL to wire: calls');
is(value("SELECT rollback_reason FROM dtm.transactions WHERE gid = 'sql-abort'"), 'by wire', 'SQL to wire: reason');

is_success(prepare('wire-abort', 'tcc'), 'wire to SQL: prepare');
is_success(register('wire-abort', 'tcc', '01'), 'wire to SQL: registerBranch');
value("SELECT dtm_abort('wire-abort')");
$wire->wait_status('wire-abort', 'failed');
is(calls('wire-abort'), 'cancel 01 /01-cancel', 'wire to SQL: aborted there');

done_testing();
