# -------------------------------------------------------------------------
#
# 206_wire_steer.pl
#		Steering over the HTTP API: forceStop, resetNextCronTime and
#		resetCronTime in each status; and that what was answered survives a
#		stop of the server at that moment.
#
# Not here: crashes while branches are called (010), dtm_retry and dtm_stop (053).
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use DtmWire;
use JSON::PP;
use Test::More;
use Time::HiRes qw(time);

# The WAL writer is slow, so that nothing is flushed but what is asked for.
my ($node, $wire) = wire_node(fsync => 1,
	conf => "dtm.retry_interval = '200ms'\ndtm.retry_max_interval = '1h'\nwal_writer_delay = '10s'");
my $service = start_service();
my $true = JSON::PP::true;

sub value { return $node->safe_psql('postgres', $_[0]); }
sub calls { return scalar $service->calls(gid => $_[0]); }
sub submit { return $wire->post(submit => { trans_type => 'saga', @_ }); }
sub force_stop { return $wire->post(forceStop => { gid => $_[0], @_[ 1 .. $#_ ] }); }
sub reset_next { return $wire->post(resetNextCronTime => { gid => $_[0] }); }

sub register
{
	my ($gid, $type, $id) = @_;

	return $wire->post(registerBranch => { gid => $gid, trans_type => $type, branch_id => $id, $type eq 'tcc'
		? (data => '{}', confirm => $service->url('/confirm'), cancel => $service->url('/cancel'))
		: (url => $service->url('/xa')) });
}

# A saga whose first action does not get done, in the given status.
sub waiting
{
	my ($name, $status) = @_;
	my $gid = $wire->gid($name);

	$service->script("/first", { query => { gid => $gid, op => 'action' }, answers => [ { status => $status eq 'aborting' ? 409 : 500 } ] });
	$service->script('/first-undo', { query => { gid => $gid }, answers => [ { status => 500 } ] });
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(submit(gid => $gid, retry_interval => 100, steps($service, qw(first second)), wait_result => $true)->{status}, 409, "$gid: waits");
	is($wire->status($gid), $status, "$gid: $status");
	return $gid;
}

# ------------------------------------------------------------ forceStop

my $submitted = waiting('stop', 'submitted');
my $aborting = waiting('stop', 'aborting');
my %prepared = map { $_ => $wire->gid("stop-$_") } qw(tcc xa msg saga workflow);
for my $type (qw(tcc xa msg saga))
{
	is_success($wire->post(prepare => { gid => $prepared{$type}, trans_type => $type,
		$type =~ /msg|saga/ ? (steps($service, 'first'), query_prepared => $service->url('/check')) : () }), "prepare $type");
}
is_success(register($prepared{$_}, $_, '01'), "register $_") for qw(tcc xa);
is($wire->post(prepareWorkflow => { gid => $prepared{workflow}, trans_type => 'workflow', query_prepared => $service->url('/resume'),
	retry_interval => 100, custom_data => '{"name":"w","data":"e30="}' })->{status}, 200, 'prepareWorkflow');

for my $gid ($submitted, $aborting, @prepared{qw(tcc xa msg saga workflow)})
{
	my $before = calls($gid);

	is_success(force_stop($gid), "$gid: forceStop");
	my $trans = $wire->trans($gid);
	is($trans->{status}, 'failed', "$gid: failed");
	ok(exists $trans->{rollback_time} && !exists $trans->{finish_time}, "$gid: rollback_time");
	is_failure(force_stop($gid), 'global transaction force stop error. status: failed. error: FAILURE', "$gid: forceStop again");
	is_success(reset_next($gid), "$gid: resetNextCronTime of a failed one");
	is(calls($gid), $before, "$gid: nothing is called");
}
is_deeply([ $wire->branches($submitted) ], [ saga_rows(('prepared') x 4) ], 'rows of a stopped one stay');
is_failure(register($prepared{tcc}, 'tcc', '02'), "no trans with gid: $prepared{tcc} status: prepared found FAILURE", 'registerBranch of a stopped one');
is_failure($wire->post(submit => { gid => $prepared{tcc}, trans_type => 'tcc' }), "current status 'failed', cannot sumbmit. FAILURE", 'submit of a stopped one');
is_failure($wire->post(abort => { gid => $prepared{tcc}, trans_type => 'tcc' }), "trans type: 'tcc' current status 'failed', cannot abort. FAILURE", 'abort of a stopped one');
is_error(force_stop('unknown'), qr/./, 'forceStop of an unknown one');
is($wire->status('unknown'), 'none', 'nothing stored');

my $done = $wire->gid('done');
is_success(submit(gid => $done, steps($service, 'ok'), wait_result => $true), 'one that succeeds');
is_failure(force_stop($done), 'global transaction force stop error. status: succeed. error: FAILURE', 'forceStop of a finished one');
is($wire->status($done), 'succeed', 'it stays so');
is_success(reset_next($done), 'resetNextCronTime of a finished one');
is(calls($done), 1, 'nothing is called');

# while a call is out, and a client waits: the call ends, nothing follows
$service->script('/slow', { answers => [ { gate => 'slow' } ] });
my $gid = $wire->gid('slow');
my $waits = $wire->start(submit => { gid => $gid, trans_type => 'saga', wait_result => $true, steps($service, qw(slow next)) });
$service->wait_calls(1, gid => $gid);
is_success(force_stop($gid, trans_type => 'saga'), 'forceStop while an action is out');
is($wire->status($gid), 'failed', 'failed at once');
my $answer = $wire->finish($waits);
is($answer->{status}, 409, 'who waited for it is told') or diag($answer->{content});
$service->open_gate('slow');
wait_until(sub { (($service->calls(gid => $gid))[0]{end} // 0) > 0 }, 'the call has ended');
is_success(submit(gid => $wire->gid('after'), steps($service, qw(a b c)), wait_result => $true), 'others go on');
is(join(', ', $service->ops(gid => $gid)), 'action 01 /slow', 'no further call of the stopped one');
is($wire->status($gid), 'failed', 'and it stays failed');

# stopped here, looked at there; and the other way round
is(value("SELECT status FROM dtm.transactions WHERE gid = '$gid'"), 'failed', 'SQL sees it');
$gid = waiting('sql-stop', 'submitted');
value("SELECT dtm_stop('$gid')");
is($wire->status($gid), 'failed', 'stopped over SQL');

# ----------------------------------------------------- resetNextCronTime

for my $status (qw(submitted aborting))
{
	$gid = waiting('hurry', $status);
	my $before = calls($gid);

	like($wire->trans($gid)->{next_cron_time}, qr/^\d{4}-/, "$gid: next_cron_time");
	is_success(reset_next($gid), "$gid: resetNextCronTime");
	$wire->wait_status($gid, $status eq 'submitted' ? 'succeed' : 'failed');
	cmp_ok(calls($gid), '>', $before, "$gid: called again at once");
}
is_error(reset_next('unknown'), qr/./, 'resetNextCronTime of an unknown one');
is_error($wire->post(resetNextCronTime => '{}'), qr/./, 'resetNextCronTime without a gid');

# a prepared one is not hurried to its end
$gid = $wire->gid('prepared');
is_success($wire->post(prepare => { gid => $gid, trans_type => 'tcc' }), 'prepare');
is_success(register($gid, 'tcc', '01'), 'register');
is_success(reset_next($gid), 'resetNextCronTime of a prepared one');
is_success(submit(gid => $wire->gid('other'), steps($service, qw(a b)), wait_result => $true), 'some time later');
is($wire->status($gid), 'prepared', 'stays prepared');
is(calls($gid), 0, 'nothing was called');
is_success($wire->post(submit => { gid => $gid, trans_type => 'tcc', wait_result => $true }), 'and is submitted as ever');

# --------------------------------------------------------- resetCronTime

# those of the tests before are due within an hour; what is counted here is not
sub reset_all { return $wire->get('resetCronTime', @_); }

is_answer(reset_all(timeout => 4000, limit => 2), 200, '{"has_remaining":false,"succeed_count":0}', 'resetCronTime: none is so far away');
my @far = map { $wire->gid('far') } 1 .. 3;
for my $far (@far)
{
	$service->script('/far', { query => { gid => $far }, answers => [ { status => 500 } ] });
	is(submit(gid => $far, retry_interval => 50_000, steps($service, 'far'), wait_result => $true)->{status}, 409, "$far: waits");
}
is_answer(reset_all(timeout => 4000, limit => 2), 200, '{"has_remaining":true,"succeed_count":2}', 'resetCronTime: two of three');
wait_until(sub { 2 == grep { $wire->status($_) eq 'succeed' } @far }, 'two go on at once');
is_answer(reset_all(timeout => 4000, limit => 2), 200, '{"has_remaining":false,"succeed_count":1}', 'resetCronTime: the third');
$wire->wait_status($_, 'succeed') for @far;
is_answer(reset_all(timeout => 4000, limit => 2), 200, '{"has_remaining":false,"succeed_count":0}', 'resetCronTime: none left');
my $default = $wire->gid('far');
$service->script('/far', { query => { gid => $default }, answers => [ { status => 500 } ] });
is(submit(gid => $default, retry_interval => 50_000, steps($service, 'far'), wait_result => $true)->{status}, 409, "$default: waits");
is_answer(reset_all(), 200, '{"has_remaining":false,"succeed_count":1}', 'resetCronTime without parameters');
$wire->wait_status($default, 'succeed');
isnt(reset_all(timeout => 'soon')->{status}, 200, 'resetCronTime: a time-out that is no number');
isnt(reset_all(limit => 'all')->{status}, 200, 'resetCronTime: a limit that is no number');

# ----------------------------------------------------------- crash safety

# Each change is answered, and the server stopped at once.
$service->script('/never', { then => { status => 500 } });
my @crashes = (
	[ 'submit', 'submitted', sub { submit(gid => $_[0], retry_interval => 100, steps($service, 'never')) } ],
	[ 'prepare', 'prepared', sub { $wire->post(prepare => { gid => $_[0], trans_type => 'msg', steps($service, 'never'),
		query_prepared => $service->url('/check') }) } ],
	[ 'registerBranch', 'prepared', sub { $wire->post(prepare => { gid => $_[0], trans_type => 'xa' }); register($_[0], 'xa', '01') } ],
	[ 'abort', 'failed', sub { $wire->post(prepare => { gid => $_[0], trans_type => 'msg', steps($service, 'never') });
		$wire->post(abort => { gid => $_[0], trans_type => 'msg' }) } ],
	[ 'forceStop', 'failed', sub { submit(gid => $_[0], retry_interval => 100, steps($service, 'never')); force_stop($_[0]) } ],
	[ 'submit of a prepared one', 'submitted', sub { $wire->post(prepare => { gid => $_[0], trans_type => 'msg', steps($service, 'never'),
		query_prepared => $service->url('/check'), retry_interval => 100 }); $wire->post(submit => { gid => $_[0], trans_type => 'msg' }) } ]);
my @survivors;
for my $crash (@crashes)
{
	my ($name, $status, $change) = @$crash;

	$gid = $wire->gid('crash');
	push @survivors, [ $name, $gid, $status ];
	my $answered = $change->($gid);
	immediate_stop_start($node);
	is_success($answered, "$name: answered before the crash");
	$wire->wait_port("$name: the port is back");
	is($wire->status($gid), $status, "$name: survives");
}
is_deeply([ $wire->branches($survivors[2][1]) ], [ '01 rollback prepared', '01 commit prepared' ], 'the registered branch survives');
is($wire->status($_->[1]), $_->[2], "$_->[0]: still there") for @survivors;

# many answered at once, the server stopped while others are on their way
my @answered;
my @open = map { my $new = $wire->gid('flood');
	[ $new, $wire->start(submit => { gid => $new, trans_type => 'saga', steps($service, 'never') }) ] } 1 .. 40;
for my $open (splice @open, 0, 20)
{
	push @answered, $open->[0] if $wire->finish($open->[1])->{status} == 200;
}
$node->stop('immediate');
for my $open (@open)
{
	my $late = $wire->finish($open->[1]);

	push @answered, $open->[0] if $late->{status} == 200;
}
$node->start;
$wire->wait_port('the port is back');
cmp_ok(scalar @answered, '>=', 20, 'answered before the crash: ' . @answered);
is(join(' ', grep { $wire->status($_) eq 'none' } @answered), '', 'what was answered is there');

# a client repeats after the crash what it got no answer to
$gid = $wire->gid('repeat');
is_success($wire->post(prepare => { gid => $gid, trans_type => 'tcc' }), 'prepare');
immediate_stop_start($node);
$wire->wait_port('the port is back');
is_success($wire->post(prepare => { gid => $gid, trans_type => 'tcc' }), 'prepare repeated after a crash');
is_success(register($gid, 'tcc', '01'), 'register');
is_success($wire->post(submit => { gid => $gid, trans_type => 'tcc', wait_result => $true }), 'submit');
is(join(', ', $service->ops(gid => $gid)), 'confirm 01 /confirm', 'one confirm');

done_testing();
