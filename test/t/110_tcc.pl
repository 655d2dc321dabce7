# -------------------------------------------------------------------------
#
# 110_tcc.pl
#		TCC whose Try calls the coordinator makes: scenarios S07 and S08 over
#		HTTP, with sql: branches and mixed; crashes in each phase; an abort
#		while a Try is under way.
#
# Not here: arguments and what is refused (test/sql/tcc.sql).
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use JSON::PP;
use ShopFixture;
use Test::More;
use Time::HiRes qw(usleep);

my $node = new_node(conf => "dtm.retry_interval = '200ms'\ndtm.retry_max_interval = '1s'", fsync => 1);
my @names = qw(stock orders account);

sub value { return $node->safe_psql('postgres', $_[0]); }

# Try locks, Confirm takes, Cancel frees.
value(<<'END');
CREATE TABLE stock (id int PRIMARY KEY, quantity int, locked int, sold int);
CREATE TABLE orders (id int PRIMARY KEY, state text);
CREATE TABLE account (id int PRIMARY KEY, balance int, locked int);
CREATE TABLE call_log (seq bigserial PRIMARY KEY, gid text, branch_id text, op text, url text,
	at timestamptz DEFAULT clock_timestamp(), ended timestamptz);
CREATE TABLE effects (id bigserial PRIMARY KEY, gid text, branch_id text, op text, url text,
	UNIQUE (gid, branch_id, op));
INSERT INTO stock VALUES (1, 100, 0, 0);
INSERT INTO account VALUES (1, 1000, 0);
CREATE SCHEMA shop;
CREATE FUNCTION shop.stock_try(p jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
	UPDATE stock SET locked = locked + (p->>'qty')::int WHERE quantity - locked >= (p->>'qty')::int;
	IF NOT FOUND THEN PERFORM dtm_fail('not enough stock'); END IF; END $$;
CREATE FUNCTION shop.stock_confirm(p jsonb) RETURNS void LANGUAGE sql AS $$
	UPDATE stock SET quantity = quantity - (p->>'qty')::int, locked = locked - (p->>'qty')::int, sold = sold + (p->>'qty')::int $$;
CREATE FUNCTION shop.stock_cancel(p jsonb) RETURNS void LANGUAGE sql AS $$
	UPDATE stock SET locked = locked - (p->>'qty')::int $$;
CREATE FUNCTION shop.orders_try(p jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO orders VALUES ((p->>'order')::int, 'new') $$;
CREATE FUNCTION shop.orders_confirm(p jsonb) RETURNS void LANGUAGE sql AS $$ UPDATE orders SET state = 'paid' WHERE id = (p->>'order')::int $$;
CREATE FUNCTION shop.orders_cancel(p jsonb) RETURNS void LANGUAGE sql AS $$ UPDATE orders SET state = 'cancelled' WHERE id = (p->>'order')::int $$;
CREATE FUNCTION shop.account_try(p jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
	UPDATE account SET locked = locked + (p->>'amount')::int WHERE balance - locked >= (p->>'amount')::int;
	IF NOT FOUND THEN PERFORM dtm_fail('balance not enough'); END IF; END $$;
CREATE FUNCTION shop.account_confirm(p jsonb) RETURNS void LANGUAGE sql AS $$
	UPDATE account SET balance = balance - (p->>'amount')::int, locked = locked - (p->>'amount')::int $$;
CREATE FUNCTION shop.account_cancel(p jsonb) RETURNS void LANGUAGE sql AS $$
	UPDATE account SET locked = locked - (p->>'amount')::int $$;
CREATE SCHEMA branch;
CREATE FUNCTION branch.run(name text, p jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
	EXECUTE format('SELECT shop.%I($1)', name) USING p;
	INSERT INTO effects (gid, branch_id, op, url)
	VALUES (dtm_context()->>'gid', dtm_context()->>'branch_id', dtm_context()->>'op', 'sql'); END $$;
END
for my $name (@names)
{
	value("CREATE FUNCTION branch.${name}_$_(p jsonb) RETURNS void LANGUAGE sql AS \$\$ SELECT branch.run('${name}_$_', p) \$\$")
	  for qw(try confirm cancel);
}
my $service = bless {
	port => 0, arguments => [ '--db', $node->connstr('postgres'), '--schema', 'public' ],
	program => 'shop.py' }, 'ShopFixture::Service';
$service->start;

sub submit_tcc
{
	my ($gid, $kinds, $payload, $more) = @_;
	my @branches;

	for my $i (0 .. $#names)
	{
		push @branches, { payload => $payload, name => $names[$i],
			map { $_ => $kinds->[$i] eq 'sql' ? "sql:branch.$names[$i]_$_" : $service->url("/effect/$names[$i]/$_") }
			  qw(try confirm cancel) };
	}
	return value('SELECT dtm_tcc_submit(' . sql_literal(encode_json(\@branches)) . ", gid => '$gid'"
		  . ($more ? ", $more" : '') . ')');
}

sub effects_of { return value("SELECT string_agg(op || ' ' || branch_id, ', ' ORDER BY id) FROM effects WHERE gid = '$_[0]'"); }

sub rows
{
	return value("SELECT string_agg(op || ' ' || status || ' ' || n, ', ' ORDER BY op, status) FROM"
		  . " (SELECT op, status, count(*) AS n FROM dtm.branches WHERE gid = '$_[0]' GROUP BY op, status) AS b");
}

sub books
{
	return value("SELECT format('%s locked %s sold %s, balance %s locked %s', s.quantity, s.locked, s.sold, a.balance, a.locked)"
		  . ' FROM stock AS s, account AS a');
}

my $confirmed = 'try 01, try 02, try 03, confirm 03, confirm 02, confirm 01';
my %kinds = (sql => [qw(sql sql sql)], http => [qw(http http http)], mixed => [qw(sql http sql)], mixed2 => [qw(http sql http)]);
my ($order, $quantity, $sold, $balance) = (0, 100, 0, 1000);

# ---- S07

for my $name (qw(sql http mixed mixed2))
{
	my $gid = "s07-$name";

	submit_tcc($gid, $kinds{$name}, { order => ++$order, qty => 2, amount => 60 });
	wait_status($node, $gid, 'succeed');
	($quantity, $sold, $balance) = ($quantity - 2, $sold + 2, $balance - 60);
	is(books(), "$quantity locked 0 sold $sold, balance $balance locked 0", "S07 $name: the books");
	is(value("SELECT state FROM orders WHERE id = $order"), 'paid', "S07 $name: the order");
	is(effects_of($gid), $confirmed, "S07 $name: every Try in order, every Confirm in reverse");
	is(rows($gid), 'cancel prepared 3, confirm succeed 3, try succeed 3', "S07 $name: rows of the branches");
}
my @calls = $service->calls(gid => 's07-http', op => 'confirm');
is("$calls[0]{method} $calls[0]{query_string} $calls[0]{body}",
	'POST branch_id=03&gid=s07-http&op=confirm&trans_type=tcc {"qty": 2, "order": 2, "amount": 60}', 'how Confirm is called');

# between Try and Confirm the stock is locked, and not taken
$service->script('/effect/account/try', { query => { gid => 's07-held' }, answers => [ { gate => 'held' } ] });
submit_tcc('s07-held', $kinds{http}, { order => ++$order, qty => 2, amount => 60 }, "request_timeout => '20 s'");
wait_until(sub { effects_of('s07-held') eq 'try 01, try 02, try 03' }, 'every Try is made');
is(books(), "$quantity locked 2 sold $sold, balance $balance locked 60", 'locked only');
$service->control(POST => '/_open', { gate => 'held' });
wait_status($node, 's07-held', 'succeed');
($quantity, $sold, $balance) = ($quantity - 2, $sold + 2, $balance - 60);

# ---- S08: the account refuses

for my $name (qw(sql http mixed mixed2))
{
	my $gid = "s08-$name";

	submit_tcc($gid, $kinds{$name}, { order => ++$order, qty => 2, amount => 5000 });
	wait_status($node, $gid, 'failed');
	is(books(), "$quantity locked 0 sold $sold, balance $balance locked 0", "S08 $name: nothing is left");
	is(value("SELECT state FROM orders WHERE id = $order"), 'cancelled', "S08 $name: the order");
	is(effects_of($gid), 'try 01, try 02, cancel 02, cancel 01', "S08 $name: cancelled in reverse");
	is(rows($gid), 'cancel succeed 3, confirm prepared 3, try failed 1, try succeed 2', "S08 $name: rows of the branches");
	like(value("SELECT rollback_reason FROM dtm.transactions WHERE gid = '$gid'"), qr/balance not enough FAILURE$/,
		"S08 $name: rollback_reason");
}

# ---- Confirm and Cancel are called until they succeed, whatever they answer

$service->script('/effect/orders/confirm', { query => { gid => 'stubborn' },
	answers => [ map { { %$_, before => 1 } } { status => 409 }, { status => 500 }, { status => 425 } ] });
submit_tcc('stubborn', $kinds{http}, { order => ++$order, qty => 1, amount => 10 }, "retry_interval => '50 ms', timeout_to_fail => '30 s', retry_limit => 1");
wait_status($node, 'stubborn', 'succeed');
is(effects_of('stubborn'), $confirmed, 'a Confirm that is refused is made all the same');
is(scalar($service->calls(gid => 'stubborn', op => 'confirm')), 6, 'after three more calls');
($quantity, $sold, $balance) = ($quantity - 1, $sold + 1, $balance - 10);

# ---- the owner gives it up while a Try is under way, and it comes late

$service->script('/effect/orders/try', { query => { gid => 'late' }, answers => [ { late => 1 } ] });
submit_tcc('late', $kinds{http}, { order => ++$order, qty => 2, amount => 10 }, "request_timeout => '20 s'");
wait_until(sub { scalar $service->calls(gid => 'late', path => '/effect/orders/try') }, 'the second Try is out');
is(value("SELECT dtm_abort('late', 'no more')"), 'aborting', 'given up');
wait_status($node, 'late', 'failed');
wait_until(sub { grep { $_->{path} eq '/effect/orders/try' && exists $_->{effect} } $service->calls(gid => 'late') },
	'the late Try comes to its end');
is(effects_of('late'), 'try 01, cancel 01', 'without an effect: its Cancel was there first');
is(books(), "$quantity locked 0 sold $sold, balance $balance locked 0", 'nothing is locked for ever');
is(value("SELECT rollback_reason FROM dtm.transactions WHERE gid = 'late'"), 'no more', 'reason of the abort');

# ---- crashes: during Try, during Confirm, during Cancel

for my $op (qw(try confirm cancel))
{
	my $gid = "crash-$op";
	my $fails = $op eq 'cancel';

	$service->script("/effect/orders/$op", { query => { gid => $gid }, answers => [ { hang => 1 } ] });
	submit_tcc($gid, $kinds{http}, { order => ++$order, qty => 1, amount => $fails ? 5000 : 10 }, "request_timeout => '20 s'");
	wait_until(sub { effects_of($gid) =~ /$op 02\z/ }, "$op 02 is on its way");
	immediate_stop_start($node);
	wait_status($node, $gid, $fails ? 'failed' : 'succeed');
	is(effects_of($gid), $fails ? 'try 01, try 02, cancel 02, cancel 01' : $confirmed, "crash during $op: each effect once");
	($quantity, $sold, $balance) = ($quantity - 1, $sold + 1, $balance - 10) unless $fails;
	is(books(), "$quantity locked 0 sold $sold, balance $balance locked 0", "crash during $op: the books");
}

# with sql: branches, killed at any time
for my $n (1 .. 4)
{
	my $gid = "kill-$n";

	submit_tcc($gid, $kinds{sql}, { order => ++$order, qty => 1, amount => 10 });
	usleep(15_000 * ($n - 1));
	immediate_stop_start($node);
	wait_status($node, $gid, 'succeed');
	is(effects_of($gid), $confirmed, "$gid: each effect once");
	($quantity, $sold, $balance) = ($quantity - 1, $sold + 1, $balance - 10);
}
is(books(), "$quantity locked 0 sold $sold, balance $balance locked 0", 'the books at the end');

$node->stop;
done_testing();
