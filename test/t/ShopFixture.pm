# -------------------------------------------------------------------------
#
# ShopFixture.pm
#		The shop of the scenarios: stock, orders, payments, shipping, points;
#		each service as a function and over HTTP, and the books.
#
#	use ShopFixture;
#	my $shop = ShopFixture->new($node);
#	$shop->submit('g1', [ ('sql') x 5 ], { order => 1, qty => 2, amount => 100 });
#	$shop->check_books('after g1');
#
# shop.<service>_<verb>(payload) is the business alone.  branch.<service>_<verb>
# is the same as target of a sql: branch: it leaves a row in call_log through
# a connection of its own, as the service over HTTP (test/service/shop.py)
# does, so that deliveries are counted also when they have no effect.
#
# -------------------------------------------------------------------------
package ShopFixture;

use strict;
use warnings;
use DtmTest;
use JSON::PP;
use Test::More;

# service => [ verb of the action, verb of the compensation ], in the order of the steps
my @services = (
	[ stock => 'deduct', 'restore' ],
	[ orders => 'create', 'cancel' ],
	[ payment => 'charge', 'refund' ],
	[ shipping => 'book', 'cancel' ],
	[ points => 'add', 'take' ]);

my $schema = <<'END';
CREATE TABLE stock (product_id int PRIMARY KEY, quantity int NOT NULL CHECK (quantity >= 0),
	locked int NOT NULL DEFAULT 0 CHECK (locked BETWEEN 0 AND quantity), sold int NOT NULL DEFAULT 0);
CREATE TABLE orders (order_no int PRIMARY KEY, request_id text UNIQUE, user_id int, product_id int,
	qty int, status text);
CREATE TABLE payments (order_no int PRIMARY KEY, amount numeric(10, 2), status text);
CREATE TABLE accounts (user_id int PRIMARY KEY, balance numeric(10, 2) CHECK (balance >= 0));
CREATE TABLE shipments (order_no int PRIMARY KEY, status text);
CREATE TABLE points (user_id int PRIMARY KEY, balance int);
CREATE TABLE points_log (gid text UNIQUE, delta int);
CREATE TABLE call_log (seq bigserial PRIMARY KEY, gid text, branch_id text, op text, url text,
	at timestamptz DEFAULT clock_timestamp(), ended timestamptz);
CREATE TABLE effects (id bigserial PRIMARY KEY, gid text, branch_id text, op text, url text,
	UNIQUE (gid, branch_id, op));
CREATE TABLE trouble (service text, verb text, order_no int, what text, PRIMARY KEY (service, verb, order_no));
INSERT INTO stock (product_id, quantity) VALUES (1, 100);
INSERT INTO accounts VALUES (1, 1000);
INSERT INTO points VALUES (1, 0);

CREATE SCHEMA shop;
CREATE FUNCTION shop.stock_deduct(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	UPDATE stock SET quantity = quantity - (p->>'qty')::int, sold = sold + (p->>'qty')::int
	WHERE product_id = 1 AND quantity >= (p->>'qty')::int;
	IF NOT FOUND THEN
		PERFORM dtm_fail('not enough stock');
	END IF;
END $$;
CREATE FUNCTION shop.stock_restore(p jsonb) RETURNS void LANGUAGE sql AS $$
	UPDATE stock SET quantity = quantity + (p->>'qty')::int, sold = sold - (p->>'qty')::int
	WHERE product_id = 1;
$$;
CREATE FUNCTION shop.orders_create(p jsonb) RETURNS void LANGUAGE sql AS $$
	INSERT INTO orders VALUES ((p->>'order')::int, p->>'gid', 1, 1, (p->>'qty')::int, 'pending');
$$;
CREATE FUNCTION shop.orders_cancel(p jsonb) RETURNS void LANGUAGE sql AS $$
	UPDATE orders SET status = 'cancelled' WHERE order_no = (p->>'order')::int;
$$;
CREATE FUNCTION shop.payment_charge(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	UPDATE accounts SET balance = balance - (p->>'amount')::numeric
	WHERE user_id = 1 AND balance >= (p->>'amount')::numeric;
	IF NOT FOUND THEN
		PERFORM dtm_fail('balance not enough');
	END IF;
	INSERT INTO payments VALUES ((p->>'order')::int, (p->>'amount')::numeric, 'paid');
	UPDATE orders SET status = 'paid' WHERE order_no = (p->>'order')::int;
END $$;
CREATE FUNCTION shop.payment_refund(p jsonb) RETURNS void LANGUAGE sql AS $$
	UPDATE accounts SET balance = balance + (p->>'amount')::numeric WHERE user_id = 1;
	UPDATE payments SET status = 'refunded' WHERE order_no = (p->>'order')::int;
	UPDATE orders SET status = 'refunded' WHERE order_no = (p->>'order')::int;
$$;
CREATE FUNCTION shop.shipping_book(p jsonb) RETURNS void LANGUAGE sql AS $$
	INSERT INTO shipments VALUES ((p->>'order')::int, 'booked');
$$;
CREATE FUNCTION shop.shipping_cancel(p jsonb) RETURNS void LANGUAGE sql AS $$
	UPDATE shipments SET status = 'cancelled' WHERE order_no = (p->>'order')::int;
$$;
CREATE FUNCTION shop.points_add(p jsonb) RETURNS void LANGUAGE sql AS $$
	INSERT INTO points_log VALUES (p->>'gid', 100);
	UPDATE points SET balance = balance + 100 WHERE user_id = 1;
$$;
CREATE FUNCTION shop.points_take(p jsonb) RETURNS void LANGUAGE sql AS $$
	DELETE FROM points_log WHERE gid = p->>'gid';
	UPDATE points SET balance = balance - 100 WHERE user_id = 1;
$$;

-- What a sql: branch calls: the delivery is logged whatever becomes of it, then trouble that the test
-- asked for, then the business.
CREATE EXTENSION dblink;
CREATE SCHEMA branch;
CREATE SEQUENCE branch.calls;
CREATE FUNCTION branch.run(service text, verb text, p jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	me text := format('host=%s port=%s dbname=%s user=%s',
		split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'),
		current_database(), current_user);
	c jsonb := dtm_context();
	bad text;
	n bigint;
BEGIN
	SELECT t.seq INTO n FROM dblink(me, format(
		'INSERT INTO call_log (gid, branch_id, op, url) VALUES (%L, %L, %L, %L) RETURNING seq', c->>'gid',
		c->>'branch_id', c->>'op', format('sql:branch.%s_%s', service, verb))) AS t (seq bigint);
	SELECT t.what INTO bad FROM trouble AS t
	WHERE t.service = run.service AND t.verb = run.verb AND t.order_no = (p->>'order')::int;
	IF bad LIKE 'ongoing %' THEN		-- so many times; a sequence does not roll back
		IF nextval('branch.calls') <= split_part(bad, ' ', 2)::int THEN
			PERFORM dtm_ongoing('come again');
		END IF;
	ELSIF bad LIKE 'sleep %' THEN
		PERFORM pg_sleep(split_part(bad, ' ', 2)::float8);
	ELSIF bad IS NOT NULL THEN
		PERFORM dtm_fail(bad);
	END IF;
	EXECUTE format('SELECT shop.%I($1)', service || '_' || verb) USING p;
	INSERT INTO effects (gid, branch_id, op, url)
	VALUES (c->>'gid', c->>'branch_id', c->>'op', format('sql:branch.%s_%s', service, verb));
	PERFORM dblink_exec(me, format('UPDATE call_log SET ended = clock_timestamp() WHERE seq = %s', n));
END $$;
END

sub new
{
	my ($class, $node) = @_;
	my $shop = bless { node => $node }, $class;
	my $functions = '';

	for my $service (@services)
	{
		my ($name, @verbs) = @$service;
		$functions .= "CREATE FUNCTION branch.${name}_$_(p jsonb) RETURNS void LANGUAGE sql AS "
		  . "\$\$ SELECT branch.run('$name', '$_', p) \$\$;\n"
		  for @verbs;
	}
	$node->safe_psql('postgres', $schema . $functions);
	$shop->{service} = bless {
		port => 0,
		arguments => [ '--db', $node->connstr('postgres'), '--schema', 'public' ],
		program => 'shop.py' }, 'ShopFixture::Service';
	$shop->{service}->start;
	return $shop;
}

sub service { return $_[0]->{service}; }
sub value { return $_[0]->{node}->safe_psql('postgres', $_[1]); }

# Steps for the first so many services, each "sql" or "http".
sub steps
{
	my ($shop, $gid, $kinds, $payload) = @_;
	my @steps;

	for my $i (0 .. $#$kinds)
	{
		my ($name, @verbs) = @{ $services[$i] };
		my ($action, $compensate) = map {
			$kinds->[$i] eq 'sql' ? "sql:branch.${name}_$_" : $shop->service->url("/effect/$name/$_")
		} @verbs;
		push @steps, { action => $action, compensate => $compensate, name => $name,
			payload => { gid => $gid, %$payload } };
	}
	return \@steps;
}

sub submit
{
	my ($shop, $gid, $kinds, $payload, %options) = @_;

	return submit_saga($shop->{node}, $shop->steps($gid, $kinds, $payload), gid => $gid, %options);
}

# "action 01, action 02": what was delivered, in order.
sub deliveries
{
	my ($shop, $gid, $op) = @_;

	return $shop->value("SELECT string_agg(op || ' ' || branch_id, ', ' ORDER BY seq) FROM call_log"
		  . " WHERE gid = '$gid'" . ($op ? " AND op = '$op'" : ''));
}

sub reason { return $_[0]->value("SELECT rollback_reason FROM dtm.transactions WHERE gid = '$_[1]'"); }

# "98 sold 2, balance 900, points 100"
sub books
{
	return $_[0]->value(q{SELECT format('%s sold %s, balance %s, points %s', s.quantity, s.sold,
		trim_scale(a.balance), p.balance) FROM stock AS s, accounts AS a, points AS p});
}

# order, payment, shipment: "paid paid booked"
sub order
{
	return $_[0]->value("SELECT concat_ws(' ', o.status, p.status, s.status) FROM orders AS o"
		  . ' LEFT JOIN payments AS p USING (order_no) LEFT JOIN shipments AS s USING (order_no)'
		  . " WHERE order_no = $_[1]");
}

# What must hold whenever nothing is under way; one test.
sub check_books
{
	my ($shop, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($shop->value(<<'END'), '', "the books: $name");
SELECT string_agg(what, '; ') FROM (
	SELECT 'stock does not add up' WHERE (SELECT sum(quantity + sold) FROM stock) <> 100
	UNION ALL SELECT 'locked stock' FROM stock WHERE locked <> 0
	UNION ALL SELECT 'sold is not what was ordered' WHERE (SELECT sum(sold) FROM stock) <>
		(SELECT coalesce(sum(qty), 0) FROM orders WHERE status = 'paid')
	UNION ALL SELECT 'money does not add up' WHERE (SELECT sum(balance) FROM accounts) +
		(SELECT coalesce(sum(amount), 0) FROM payments WHERE status = 'paid') <> 1000
	UNION ALL SELECT 'order ' || order_no || ' is ' || o.status || ', payment ' || coalesce(p.status, '-')
		|| ', shipment ' || coalesce(s.status, '-')
	FROM orders AS o LEFT JOIN payments AS p USING (order_no) LEFT JOIN shipments AS s USING (order_no)
	WHERE (o.status = 'paid') <> coalesce(p.status = 'paid', false)
		OR (o.status = 'paid') <> coalesce(s.status = 'booked', false)
		OR o.status NOT IN ('paid', 'cancelled')
	UNION ALL SELECT 'payment or shipment without an order'
	WHERE EXISTS (SELECT FROM payments LEFT JOIN orders AS o USING (order_no) WHERE o.order_no IS NULL)
		OR EXISTS (SELECT FROM shipments LEFT JOIN orders AS o USING (order_no) WHERE o.order_no IS NULL)
	UNION ALL SELECT 'points do not add up' WHERE (SELECT sum(balance) FROM points) <>
		(SELECT coalesce(sum(delta), 0) FROM points_log)
	UNION ALL SELECT gid || ' is ' || status FROM dtm.transactions WHERE status NOT IN ('succeed', 'failed')
	UNION ALL SELECT 'prepared transaction ' || gid FROM pg_prepared_xacts
	UNION ALL SELECT format('%s %s was undone and not done', u.gid, u.branch_id)
	FROM effects AS u WHERE u.op = 'compensate' AND NOT EXISTS (SELECT FROM effects AS d
		WHERE d.gid = u.gid AND d.branch_id = u.branch_id AND d.op = 'action')
	UNION ALL SELECT format('%s %s %s: effect against the barrier', e.gid, e.branch_id, e.op)
	FROM effects AS e WHERE NOT EXISTS (SELECT FROM dtm.barrier AS b
		WHERE b.gid = e.gid AND b.branch_id = e.branch_id AND b.op = e.op AND b.reason = e.op)
	UNION ALL SELECT format('%s %s: failed, but an effect is left', e.gid, e.branch_id)
	FROM effects AS e JOIN dtm.transactions AS t USING (gid)
	WHERE t.status = 'failed' AND e.op = 'action' AND NOT EXISTS (SELECT FROM effects AS u
		WHERE u.gid = e.gid AND u.branch_id = e.branch_id AND u.op = 'compensate')
) AS problems (what)
END
	return;
}

# -------------------------------------------------------------------------
package ShopFixture::Service;

use strict;
use warnings;
our @ISA = ('DtmTest::Service');

1;
