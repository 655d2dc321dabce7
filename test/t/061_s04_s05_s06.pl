# -------------------------------------------------------------------------
#
# 061_s04_s05_s06.pl
#		Scenarios S04 (payment is not finished yet), S05 (shipping hangs) and
#		S06 (steps that run at once), over HTTP and with sql: branches.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use ShopFixture;
use Test::More;

my $node = new_node(conf => "dtm.retry_interval = '200ms'\ndtm.sql_workers = 3");
my $shop = ShopFixture->new($node);
my $service = $shop->service;
my ($http, $sql) = ([ ('http') x 5 ], [ ('sql') x 5 ]);

# Seconds between the deliveries of an op of a branch.
sub pauses
{
	my ($gid, $branch_id) = @_;

	return split /\n/, $shop->value("SELECT extract(epoch FROM at - lag(at) OVER (ORDER BY seq)) FROM call_log"
		  . " WHERE gid = '$gid' AND branch_id = '$branch_id' AND op = 'action' ORDER BY seq OFFSET 1");
}

# ---- S05 takes the longest: submitted first

# the answer never comes; the effect would come later than the compensation
$service->script('/effect/shipping/book', { query => { gid => 's05-http' }, then => { late => 4.5 } });
$shop->submit('s05-http', $http, { order => 1, qty => 2, amount => 100 },
	options => "timeout_to_fail => '3 s', request_timeout => '1 s'");
$shop->value("INSERT INTO trouble VALUES ('shipping', 'book', 2, 'sleep 10')");
$shop->submit('s05-sql', $sql, { order => 2, qty => 2, amount => 100 },
	options => "timeout_to_fail => '3 s', request_timeout => '1 s'");

# the effect comes, but after the caller went away; the repeated call is kept out, and all is well
$service->script('/effect/shipping/book', { query => { gid => 's05-slow' }, answers => [ { late => 1 } ] });
$shop->submit('s05-slow', $http, { order => 3, qty => 1, amount => 10 },
	options => "request_timeout => '500 ms', retry_interval => '1 s'");

# ---- S04

$service->script('/effect/payment/charge', { query => { gid => 's04-http' }, answers => [
	(({ status => 425, before => 1 }, { body => { dtm_result => 'ONGOING' }, before => 1 }) x 3) ] });
$shop->submit('s04-http', $http, { order => 4, qty => 1, amount => 100 });
$shop->value("INSERT INTO trouble VALUES ('payment', 'charge', 5, 'ongoing 6')");
$shop->submit('s04-sql', $sql, { order => 5, qty => 1, amount => 100 });
for my $kind (qw(http sql))
{
	my $gid = "s04-$kind";

	wait_status($node, $gid, 'succeed');
	my @pauses = pauses($gid, '03');
	is(scalar @pauses, 6, "$kind: seven deliveries");
	is(scalar(grep { $_ < 0.195 } @pauses), 0, "$kind: none too early");
	is(scalar(grep { $_ > 1.2 } @pauses), 0, "$kind: the pause does not grow");
	is($shop->value("SELECT count(*) FROM effects WHERE gid = '$gid' AND branch_id = '03'"), 1, "$kind: one payment");
	is($shop->value("SELECT attempts FROM dtm.branches WHERE gid = '$gid' AND branch_id = '03' AND op = 'action'"), 7,
		"$kind: attempts");
	is($shop->order($kind eq 'http' ? 4 : 5), 'paid paid booked', "$kind: order");
}
like($shop->value("SELECT last_error FROM dtm.branches WHERE gid = 's04-sql' AND branch_id = '03' AND op = 'action'"),
	qr/^DTM02: come again/, 'sql: what dtm_ongoing said');

# ---- S06

# Steps stock and orders at once, then payment, then shipping: when each delivery was there.
sub steps_s06
{
	my ($gid, $kind, $payload) = @_;
	my $steps = $shop->steps($gid, [ ($kind) x 4 ], $payload);

	$steps->[2]{after} = [ 0, 1 ];
	$steps->[3]{after} = [2];
	return $steps;
}

sub spans
{
	my ($gid, $op) = @_;

	return map { [ split /\|/ ] } split /\n/, $shop->value('SELECT extract(epoch FROM at), extract(epoch FROM ended)'
		  . " FROM call_log WHERE gid = '$gid' AND op = '$op' ORDER BY branch_id");
}

$service->script("/effect/$_", { then => { delay => 0.3 } })
  for qw(stock/deduct orders/create payment/charge shipping/book);
$shop->value("INSERT INTO trouble SELECT s, v, n, 'sleep 0.3' FROM generate_series(10, 29) AS n,"
	  . " (VALUES ('stock', 'deduct'), ('orders', 'create'), ('payment', 'charge'), ('shipping', 'book')) AS x (s, v)");

my $order = 10;
for my $kind (qw(http sql))
{
	my $fastest = 100;

	# a busy machine gets three tries
	for my $try (1 .. 3)
	{
		my $gid = "s06-$kind-$try";

		submit_saga($node, steps_s06($gid, $kind, { order => $order++, qty => 1, amount => 10 }),
			gid => $gid, concurrent => 1, options => "request_timeout => '20 s'");
		is($shop->value("SELECT dtm_wait('$gid')"), 'succeed', "$kind: succeeds");
		wait_for($node, "SELECT count(*) FROM call_log WHERE gid = '$gid' AND ended IS NOT NULL", '4');
		my @spans = spans($gid, 'action');
		cmp_ok($spans[0][0], '<', $spans[1][1], "$kind: 01 and 02 overlap")
		  and cmp_ok($spans[1][0], '<', $spans[0][1], "$kind: both ways");
		cmp_ok($spans[2][0], '>', $spans[0][0] + 0.3, "$kind: 03 after 01");
		cmp_ok($spans[2][0], '>', $spans[1][0] + 0.3, "$kind: 03 after 02");
		cmp_ok($spans[3][0], '>', $spans[2][0] + 0.3, "$kind: 04 after 03");
		my $took = $shop->value("SELECT extract(epoch FROM finished_at - created_at) FROM dtm.transactions WHERE gid = '$gid'");
		$fastest = $took if $took < $fastest;
		last if $took < 1.3;
	}
	cmp_ok($fastest, '<', 1.3, "$kind: three times 0.3 s, not four");

	# 04 fails: 03 is undone before 01 and 02
	my $gid = "s06-$kind-fails";
	$service->script('/effect/shipping/book', { query => { gid => $gid }, then => { status => 409, before => 1 } });
	$shop->value("UPDATE trouble SET what = 'no truck' WHERE service = 'shipping' AND order_no = $order");
	submit_saga($node, steps_s06($gid, $kind, { order => $order++, qty => 1, amount => 10 }), gid => $gid,
		concurrent => 1);
	wait_status($node, $gid, 'failed');
	my @undone = map { s/compensate //r } split /, /, $shop->deliveries($gid, 'compensate');
	shift @undone if $kind eq 'http';
	is(join(' ', $undone[0], sort @undone[ 1, 2 ]), '03 01 02', "$kind: 03 is undone before 01 and 02");
	wait_for($node, "SELECT count(*) FROM call_log WHERE gid = '$gid' AND op = 'compensate' AND ended IS NOT NULL",
		$kind eq 'http' ? '4' : '3');
}

# ---- S05, once more

my %shipment = ('s05-http' => 1, 's05-sql' => 2);
for my $gid (sort keys %shipment)
{
	wait_status($node, $gid, 'failed');
	is($shop->reason($gid), 'Timeout after 3 seconds', "$gid: reason");
	my $took = $shop->value("SELECT extract(epoch FROM finished_at - created_at) FROM dtm.transactions WHERE gid = '$gid'");
	cmp_ok($took, '>=', 3, "$gid: not before its time");
	cmp_ok($took, '<', 8, "$gid: soon after");
	is($shop->value("SELECT last_error FROM dtm.branches WHERE gid = '$gid' AND branch_id = '04' AND op = 'action'"),
		'timed out after 1000 ms (request_timeout)', "$gid: what happened to shipping");
	like($shop->deliveries($gid, 'compensate'), qr/compensate 03, compensate 02, compensate 01$/, "$gid: undone");
	is($shop->order($shipment{$gid}), 'cancelled refunded', "$gid: no shipment");
}
cmp_ok(scalar($service->calls(gid => 's05-http', op => 'action', branch_id => '04')), '>=', 2, 'shipping was asked again');
wait_until(
	sub {
		my @calls = $service->calls(gid => 's05-http', op => 'action', branch_id => '04');
		return !grep { !defined $_->{effect} && !$_->{error} } @calls;
	},
	'the calls that hung come to their end');
my @late = $service->calls(gid => 's05-http', op => 'action', branch_id => '04');
is_deeply([ map { $_->{error} // ($_->{effect} ? 'done' : 'kept out') } @late ], [ ('kept out') x @late ],
	'their effects are kept out by the barrier');
is($shop->order(1), 'cancelled refunded', 'still no shipment');

wait_status($node, 's05-slow', 'succeed');
@late = $service->calls(gid => 's05-slow', op => 'action', branch_id => '04');
is(scalar @late, 2, 'a late answer: asked twice');
is_deeply([ map { $_->{effect} ? 'done' : 'kept out' } @late ], [ 'done', 'kept out' ], 'done once');
is($shop->order(3), 'paid paid booked', 'one shipment');

# S06 has no points, so its orders are complete without them
$shop->check_books('after all');

$node->stop;
done_testing();
