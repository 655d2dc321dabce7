# -------------------------------------------------------------------------
#
# 060_s01_s02.pl
#		Scenarios S01 (an order of five steps) and S02 (no truck: all of it is
#		undone), with sql: branches, over HTTP, and mixed.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use JSON::PP;
use ShopFixture;
use Test::More;

my $node = new_node(conf => "dtm.retry_interval = '200ms'");
my $shop = ShopFixture->new($node);
my $service = $shop->service;
my %kinds = (
	sql => [ ('sql') x 5 ],
	http => [ ('http') x 5 ],
	mixed => [qw(sql http sql http sql)],
	mixed2 => [qw(http sql http sql http)]);

sub rows
{
	my ($gid) = @_;

	return $shop->value("SELECT string_agg(DISTINCT op || ' ' || status, ', ' ORDER BY op || ' ' || status)"
		  . " || ' in ' || count(*) FROM dtm.branches WHERE gid = '$gid'");
}

$shop->check_books('at the beginning');

# ---- S01

my $order = 0;
my ($quantity, $sold, $balance, $points) = (100, 0, 1000, 0);
for my $name (qw(sql http mixed mixed2))
{
	my ($qty, $amount) = (2 + $order, 100 + 10.5 * $order);
	my $gid = 's01-' . $name;

	$order++;
	$shop->submit($gid, $kinds{$name}, { order => $order, qty => $qty, amount => $amount });
	is($shop->value("SELECT dtm_wait('$gid')"), 'succeed', "$name: succeeds");
	ok($shop->value("SELECT finished_at BETWEEN created_at AND now() FROM dtm.transactions WHERE gid = '$gid'") eq 't',
		"$name: finished_at");
	is(rows($gid), 'action succeed, compensate prepared in 10', "$name: ten rows of branches");
	is($shop->value("SELECT string_agg(name, ' ' ORDER BY branch_id) FROM dtm.branches WHERE gid = '$gid' AND op = 'action'"),
		'stock orders payment shipping points', "$name: names of the steps");
	is($shop->deliveries($gid), 'action 01, action 02, action 03, action 04, action 05',
		"$name: each delivered once, in order");
	$quantity -= $qty;
	$sold += $qty;
	$balance -= $amount;
	$points += 100;
	is($shop->books, "$quantity sold $sold, balance $balance, points $points", "$name: effects");
	is($shop->order($order), 'paid paid booked', "$name: paid and shipped");
	$shop->check_books($name);
}

# the order row and the saga in one database transaction; a rollback leaves nothing
$node->safe_psql('postgres',
	'BEGIN; INSERT INTO call_log (gid) VALUES (\'marker\'); SELECT dtm_saga_submit('
	  . sql_literal(JSON::PP->new->encode($shop->steps('s01-rollback', $kinds{mixed}, { order => 90, qty => 1, amount => 1 })))
	  . ", gid => 's01-rollback'); ROLLBACK");
$shop->submit('s01-again', $kinds{sql}, { order => 10, qty => 1, amount => 10 });
$shop->submit('s01-again', $kinds{sql}, { order => 10, qty => 1, amount => 10 });
wait_status($node, 's01-again', 'succeed');
$shop->submit('s01-again', $kinds{sql}, { order => 10, qty => 1, amount => 10 });
is($shop->deliveries('s01-again'), 'action 01, action 02, action 03, action 04, action 05',
	'submitted three times, run once');
is($shop->value("SELECT count(*) FROM dtm.transactions WHERE gid = 's01-rollback'")
	  . $shop->value("SELECT count(*) FROM call_log WHERE gid IN ('marker', 's01-rollback')"), '00',
	'a submit that was rolled back leaves nothing');
$shop->check_books('submitted again');

# ---- S02: no truck

my $before = $shop->books;
$service->script('/effect/shipping/book', { then => { status => 409, body => 'no truck', before => 1 } });
$shop->value("INSERT INTO trouble SELECT 'shipping', 'book', n, 'no truck' FROM generate_series(20, 29) AS n");
$order = 20;
for my $name (qw(http sql mixed mixed2))
{
	my $gid = 's02-' . $name;

	$shop->submit($gid, $kinds{$name}, { order => $order, qty => 3, amount => 120 });
	is($shop->value("SELECT dtm_wait('$gid')"), 'failed', "$name: fails");
	like($shop->reason($gid), qr/^url:\S+shipping.book return failed: .*no truck FAILURE$/, "$name: rollback_reason");
	is($shop->deliveries($gid, 'action'), 'action 01, action 02, action 03, action 04',
		"$name: points are never called");
	is($shop->deliveries($gid, 'compensate'), join(', ', map { "compensate 0$_" }
			($kinds{$name}[3] eq 'http' ? 4 : ()), 3, 2, 1),
		"$name: backwards; the failed one too, unless the executor knows that it left nothing");
	is($shop->value("SELECT status || ' ' || (last_error ~ 'no truck') FROM dtm.branches"
			  . " WHERE gid = '$gid' AND branch_id = '04' AND op = 'action'"),
		'failed true', "$name: last_error of the branch");
	is($shop->books, $before, "$name: nothing is left");
	is($shop->order($order), 'cancelled refunded', "$name: order cancelled, payment refunded, no shipment");
	$shop->check_books($name);
	$order++;
}
$service->reset;

# ---- each of the steps fails, by the business itself

$order = 30;
for my $name (qw(sql http))
{
	my ($gid) = ("poor-$name");

	$shop->submit($gid, $kinds{$name}, { order => $order, qty => 1, amount => 5000 });
	wait_status($node, $gid, 'failed');
	like($shop->reason($gid), qr/balance not enough/, "$name: too expensive");
	is($shop->deliveries($gid), 'action 01, action 02, action 03, '
		  . ($name eq 'http' ? 'compensate 03, ' : '') . 'compensate 02, compensate 01',
		"$name: undone from there");
	is($shop->value("SELECT count(*) FROM effects WHERE gid = '$gid' AND branch_id = '03'"), 0,
		"$name: the compensation of what was not done is kept out by the barrier");

	$gid = "greedy-$name";
	$order++;
	$shop->submit($gid, $kinds{$name}, { order => $order, qty => 1000, amount => 1 });
	wait_status($node, $gid, 'failed');
	like($shop->reason($gid), qr/not enough stock/, "$name: too many");
	is($shop->deliveries($gid), 'action 01' . ($name eq 'http' ? ', compensate 01' : ''),
		"$name: nothing else is called");
	$order++;
}
my @names = ([ 'stock', 'deduct' ], [ 'orders', 'create' ], [ 'payment', 'charge' ], [ 'shipping', 'book' ],
	[ 'points', 'add' ]);
for my $i (0 .. $#names)
{
	my ($name, $verb) = @{ $names[$i] };

	$service->script("/effect/$name/$verb", { answers => [ { body => { dtm_result => 'FAILURE' }, before => 1 } ] });
	$shop->submit("fail-$i", $kinds{http}, { order => $order + $i, qty => 1, amount => 10 });
	wait_status($node, "fail-$i", 'failed');
	is($shop->deliveries("fail-$i", 'compensate'),
		join(', ', map { "compensate 0$_" } reverse 1 .. $i + 1), "$name fails: undone from there");
}
is($shop->books, $before, 'nothing is left of all these');
$shop->check_books('after all failures');

$node->stop;
done_testing();
