# -------------------------------------------------------------------------
#
# 208_wire_rounds.pl
#		What the HTTP API shows of the rounds to come (next_cron_interval,
#		next_cron_time), and requests about one transaction that race.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use DtmWire;
use JSON::PP;
use Test::More;
use Time::HiRes qw(time);
use Time::Local qw(timegm);

# the settings as they come: ten seconds between rounds
my ($node, $wire) = wire_node();
my $service = start_service();
my $true = JSON::PP::true;

# Seconds from now until the next round, roughly.
sub due_in
{
	my ($trans) = @_;
	my ($y, $mo, $d, $h, $mi, $s, $fraction) = ($trans->{next_cron_time} // '') =~ /^(\d+)-(\d+)-(\d+)T(\d+):(\d+):(\d+)(\.\d+)?Z$/
	  or return -1;

	return timegm($s, $mi, $h, $d, $mo - 1, $y) + ($fraction // 0) - time();
}

# Interval and time; the latter may have some seconds gone, and a share of the interval added.
sub is_due
{
	my ($gid, $interval, $name) = @_;
	my $trans = $wire->trans($gid);
	my $due = due_in($trans);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($trans->{next_cron_interval}, $interval, "$name: next_cron_interval");
	ok($due > $interval - 30 && $due <= 1.1 * $interval + 1, "$name: next_cron_time") or diag("in $due s");
	return;
}

sub saga { my ($gid, @more) = @_; return $wire->post(submit => { gid => $gid, trans_type => 'saga', wait_result => $true, @more }); }

# --------------------------------------------------------- intervals

for my $case ([ 'by the setting', 10 ], [ 'retry_interval', 150, retry_interval => 150 ], [ 'short timeout_to_fail', 7, timeout_to_fail => 7 ],
	[ 'long timeout_to_fail', 10, timeout_to_fail => 70 ], [ 'both', 150, timeout_to_fail => 5, retry_interval => 150 ])
{
	my ($name, $interval, @more) = @$case;
	my $gid = $wire->gid('base');

	is_success($wire->post(prepare => { gid => $gid, trans_type => 'tcc', @more }), "$name: prepare");
	is($wire->trans($gid)->{next_cron_interval}, $interval, "$name: next_cron_interval");
}

$service->script('/ongoing', { answers => [ { status => 425 }, { status => 425 } ] });
my $gid = $wire->gid('ongoing');
my @body = (retry_interval => 150, steps($service, 'ongoing'));
is(saga($gid, @body)->{status}, 409, 'ONGOING');
is_due($gid, 150, 'ONGOING keeps the interval');
is(saga($gid, @body)->{status}, 409, 'ONGOING again');
is_due($gid, 150, 'ONGOING keeps it again');
is_success(saga($gid, @body), 'and then it succeeds');

$service->script('/error', { answers => [ ({ status => 500 }) x 3 ] });
$gid = $wire->gid('error');
@body = (retry_interval => 50, steps($service, 'error'));
my $last = 50;
for my $i (1 .. 3)
{
	is(saga($gid, @body)->{status}, 409, 'an error');
	my $interval = $wire->trans($gid)->{next_cron_interval};
	is($interval, 2 * $last, 'an error doubles the interval');
	is_due($gid, $interval, 'an error');
	$last = $interval;
}
is_success(saga($gid, @body), 'and then it succeeds');

# ------------------------------------------- an action that is still out

# Not awaited when another fails, and compensated: it may have been done.
$service->script('/out', { answers => [ { gate => 'out' } ] });
$service->script('/fails', { then => { status => 409, body => 'no' } });
$gid = $wire->gid('out');
is_failure(saga($gid, steps($service, qw(out fails)), custom_data => '{"concurrent":true}'), qr/return failed: no FAILURE$/, 'one fails while another is out');
is_deeply([ $wire->branches($gid) ], [ saga_rows(qw(succeed prepared succeed failed)) ], 'both are compensated');
$service->open_gate('out');

# ------------------------------------------------------------- races

for my $type (qw(tcc xa))
{
	$gid = $wire->gid('prepares');
	my @prepares = map { $wire->start(prepare => { gid => $gid, trans_type => $type }) } 1 .. 10;
	is(join(' ', map { $wire->finish($_)->{status} } @prepares), join(' ', ('200') x 10), "$type: ten prepares at once");

	my %branch = (gid => $gid, trans_type => $type, branch_id => '01', data => '{}', url => $service->url('/xa'),
		confirm => $service->url('/confirm'), cancel => $service->url('/cancel'));
	delete @branch{ $type eq 'tcc' ? qw(url) : qw(data confirm cancel) };
	my @registers = map { $wire->start(registerBranch => {%branch}) } 1 .. 10;
	is(join(' ', sort map { $wire->finish($_)->{status} } @registers), join(' ', '200', ('500') x 9), "$type: ten times the same branch: one is taken");
	is(scalar(() = $wire->branches($gid)), 2, "$type: two rows");
	is_success($wire->post(submit => { gid => $gid, trans_type => $type, wait_result => $true }), "$type: submit");
	is(scalar $service->calls(gid => $gid), 1, "$type: one call");

	# Registered and then called, or refused and then not: nothing between.
	my %seen;
	for my $i (1 .. 12)
	{
		my $end = $i % 2 ? 'submit' : 'abort';

		$gid = $wire->gid('late');
		is($wire->post(prepare => { gid => $gid, trans_type => $type })->{status}, 200, "$gid: prepare");
		my @race = ($wire->start($end => { gid => $gid, trans_type => $type }), $wire->start(registerBranch => { %branch, gid => $gid }));
		my ($ended, $registered) = map { $wire->finish($_) } @race;
		is($ended->{status}, 200, "$gid: $end");
		wait_until(sub { $wire->status($gid) =~ /succeed|failed/ }, "$gid: ended");
		$seen{ $registered->{status} }++;
		if ($registered->{status} == 200)
		{
			is(scalar $service->calls(gid => $gid), 1, "$gid: registered in time, called");
		}
		else
		{
			is_failure($registered, "no trans with gid: $gid status: prepared found FAILURE", "$gid: too late, refused");
			is(scalar $service->calls(gid => $gid), 0, "$gid: not called");
		}
	}
	note("$type: " . join(', ', map { "$_: $seen{$_}" } sort keys %seen));
}

# two aborts and two submits of a prepared message: one kind wins
for my $i (1 .. 6)
{
	$gid = $wire->gid('msg');
	is_success($wire->post(prepare => { gid => $gid, trans_type => 'msg', steps => [ { action => $service->url('/msg') } ], payloads => ['{}'],
		query_prepared => $service->url('/check') }), "$gid: prepare");
	my @race = map { [ $_, $wire->start($_ => { gid => $gid, trans_type => 'msg', steps => [ { action => $service->url('/msg') } ], payloads => ['{}'] }) ] }
	  $i % 2 ? qw(submit abort submit abort) : qw(abort submit abort submit);
	my %won;
	for my $race (@race)
	{
		my $answer = $wire->finish($race->[1]);
		like($answer->{status}, qr/^(200|409)$/, "$gid: $race->[0]: done or refused");
		$won{ $race->[0] } = 1 if $answer->{status} == 200;
	}
	is(scalar keys %won, 1, "$gid: one kind wins");
	my $expected = $won{submit} ? 'succeed' : 'failed';
	$wire->wait_status($gid, $expected);
	is(scalar $service->calls(gid => $gid), $won{submit} ? 1 : 0, "$gid: delivered " . ($won{submit} ? 'once' : 'never'));
}

# forceStop against submit
for my $i (1 .. 6)
{
	$gid = $wire->gid('stop');
	is_success($wire->post(prepare => { gid => $gid, trans_type => 'tcc' }), "$gid: prepare");
	my @race = ($wire->start(forceStop => { gid => $gid }), $wire->start(submit => { gid => $gid, trans_type => 'tcc' }));
	my @statuses = map { $wire->finish($_)->{status} } @race;
	ok((grep { $_ == 200 } @statuses) >= 1 && !(grep { $_ != 200 && $_ != 409 } @statuses), "$gid: @statuses");
	wait_until(sub { $wire->status($gid) =~ /succeed|failed/ }, "$gid: ended");
	is($wire->status($gid), $statuses[0] == 200 ? 'failed' : 'succeed', "$gid: as it was answered");
}

done_testing();
