# -------------------------------------------------------------------------
#
# 170_flash_sale.pl
#		Scenario S17: 300 buyers for 100 units, 32 at a time, sagas, TCCs and
#		messages in equal parts.  Once with dtm_reserve, once with a plain row
#		that has a CHECK; then a sale in which some do not pay, and one in
#		which the server is stopped the hard way.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use IPC::Run qw(run start);
use Test::More;

my $node = new_node();

sub value { return $node->safe_psql('postgres', $_[0]); }

$node->safe_psql('postgres', <<'END');
CREATE TABLE orders (order_no int PRIMARY KEY, gid text, status text);
CREATE TABLE refused (order_no int PRIMARY KEY, reason text);
CREATE TABLE plain (product text PRIMARY KEY, quantity int CHECK (quantity >= 0),
	locked int DEFAULT 0 CHECK (locked BETWEEN 0 AND quantity), sold int DEFAULT 0);
CREATE TABLE sale (variant text, buyers int, pays_not int);
CREATE SEQUENCE buyer;

-- the order
CREATE FUNCTION order_open(p jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$;
CREATE FUNCTION order_cancel(p jsonb) RETURNS void LANGUAGE sql AS $$
	UPDATE orders SET status = 'cancelled' WHERE order_no = (p->>'order')::int $$;
CREATE FUNCTION order_pay(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF (p->>'pays_not')::boolean THEN
		PERFORM dtm_fail('no money');
	END IF;
	UPDATE orders SET status = 'paid' WHERE order_no = (p->>'order')::int;
END $$;
CREATE FUNCTION order_done(p jsonb) RETURNS void LANGUAGE sql AS $$
	UPDATE orders SET status = 'paid' WHERE order_no = (p->>'order')::int $$;

-- the plain row
CREATE FUNCTION plain_deduct(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	UPDATE plain SET quantity = quantity - 1, sold = sold + 1 WHERE product = p->>'resource' AND quantity - locked >= 1;
	IF NOT FOUND THEN
		PERFORM dtm_fail('sold out');
	END IF;
END $$;
CREATE FUNCTION plain_restore(p jsonb) RETURNS void LANGUAGE sql AS $$
	UPDATE plain SET quantity = quantity + 1, sold = sold - 1 WHERE product = p->>'resource' $$;
CREATE FUNCTION plain_try(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	UPDATE plain SET locked = locked + 1 WHERE product = p->>'resource' AND quantity - locked >= 1;
	IF NOT FOUND THEN
		PERFORM dtm_fail('sold out');
	END IF;
END $$;
CREATE FUNCTION plain_confirm(p jsonb) RETURNS void LANGUAGE sql AS $$
	UPDATE plain SET quantity = quantity - 1, locked = locked - 1, sold = sold + 1 WHERE product = p->>'resource' $$;
CREATE FUNCTION plain_cancel(p jsonb) RETURNS void LANGUAGE sql AS $$
	UPDATE plain SET locked = locked - 1 WHERE product = p->>'resource' $$;
CREATE FUNCTION nothing(p jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$;

-- One buyer: every third a saga, a TCC, a message.
CREATE FUNCTION buy() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	n int := nextval('buyer');
	s sale := (SELECT s FROM sale AS s);
	reserve boolean := s.variant = 'reserve';
	order_gid text := format('%s-%s', s.variant, n);
	p jsonb := jsonb_build_object('order', n, 'resource', 'A1', 'quantity', 1, 'pays_not', s.pays_not > 0 AND n % s.pays_not = 0);
BEGIN
	IF n > s.buyers THEN
		RETURN;
	END IF;
	CASE n % 3
	WHEN 0 THEN
		INSERT INTO orders VALUES (n, order_gid, 'new');
		PERFORM dtm_saga_submit(jsonb_build_array(
			dtm_step('sql:order_open', 'sql:order_cancel', p),
			CASE WHEN reserve THEN dtm_step('sql:dtm_reserve_try', 'sql:dtm_reserve_cancel', p)
				ELSE dtm_step('sql:plain_deduct', 'sql:plain_restore', p) END,
			dtm_step('sql:order_pay', payload => p),
			dtm_step(CASE WHEN reserve THEN 'sql:dtm_reserve_confirm' ELSE 'sql:nothing' END, payload => p)), gid => order_gid);
	WHEN 1 THEN
		INSERT INTO orders VALUES (n, order_gid, 'new');
		PERFORM dtm_tcc_submit(jsonb_build_array(
			jsonb_build_object('try', 'sql:order_open', 'confirm', 'sql:order_done', 'cancel', 'sql:order_cancel', 'payload', p),
			CASE WHEN reserve THEN jsonb_build_object('try', 'sql:dtm_reserve_try', 'confirm', 'sql:dtm_reserve_confirm',
					'cancel', 'sql:dtm_reserve_cancel', 'payload', p)
				ELSE jsonb_build_object('try', 'sql:plain_try', 'confirm', 'sql:plain_confirm', 'cancel', 'sql:plain_cancel', 'payload', p) END,
			jsonb_build_object('try', 'sql:order_pay', 'confirm', '', 'cancel', '', 'payload', p)), gid => order_gid);
	ELSE
		-- a message cannot be refused: the buyer's own transaction takes the stock, and hears at once when there is none
		IF reserve THEN
			PERFORM dtm_reserve('A1', 1, order_gid);
		ELSE
			PERFORM plain_deduct(p);
		END IF;
		INSERT INTO orders VALUES (n, order_gid, 'new');
		PERFORM dtm_msg_submit(jsonb_build_array(
			dtm_step(CASE WHEN reserve THEN 'sql:dtm_reserve_confirm' ELSE 'sql:nothing' END, payload => p),
			dtm_step('sql:order_done', payload => p)), gid => order_gid);
	END CASE;
EXCEPTION WHEN SQLSTATE 'DTM01' THEN
	INSERT INTO refused VALUES (n, SQLERRM);
END $$;
END
my $script = $node->basedir . '/buy.sql';
open my $file, '>', $script or die "$script: $!";
print {$file} "SELECT buy();\n";
close $file;

sub open_sale
{
	my ($variant, $stock, $pays_not) = @_;

	value('TRUNCATE orders, refused, plain, sale; ALTER SEQUENCE buyer RESTART');
	value("INSERT INTO sale VALUES ('$variant', 300, $pays_not)");
	value("INSERT INTO plain VALUES ('A1', $stock)");
	value("SELECT dtm_reserve_release(gid, sold => true) FROM dtm.reservations");
	value("SELECT dtm_stock_set('A1', $stock, 16)");
	return;
}

sub pgbench { return ('pgbench', '-n', '-c', '32', '-j', '2', '-t', '10', '-f', $script, '-d', $node->connstr('postgres')); }

# free/reserved/sold
sub books
{
	return $_[0] eq 'plain'
	  ? value("SELECT format('%s/%s/%s', quantity, locked, sold) FROM plain")
	  : value("SELECT format('%s/%s/%s', available, reserved, sold) FROM dtm.stocks WHERE resource = 'A1'");
}

# What must hold when nothing is under way.
sub check_end
{
	my ($variant, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_for($node, 'SELECT count(*) FROM dtm.live', '0', name => "$name: all of them finish");
	is(value(qq{
		SELECT string_agg(order_no || ' is ' || o.status || ' and its transaction ' || coalesce(t.status, 'unknown'), '; ')
		FROM orders AS o LEFT JOIN dtm.transactions AS t USING (gid)
		WHERE (o.status, t.status) IS DISTINCT FROM ('paid', 'succeed') AND (o.status, t.status) IS DISTINCT FROM ('cancelled', 'failed')}),
		'', "$name: each order is paid and its transaction has succeeded, or neither");
	is(value("SELECT sum(r.quantity) FROM dtm.reservations AS r WHERE state = 'sold'"
		  . " AND NOT EXISTS (SELECT FROM orders AS o WHERE o.gid = r.gid AND o.status = 'paid')"), '', "$name: sold is what is paid");
	is(value('SELECT count(*) FROM dtm.stuck'), '0', "$name: nothing is stuck");
	return;
}

for my $variant ('reserve', 'plain')
{
	my ($out, $err);

	open_sale($variant, 100, 0);
	ok(run([ pgbench() ], '>', \$out, '2>', \$err), "$variant: no buyer meets an error") or diag($err);
	check_end($variant, $variant);
	is(books($variant), '0/0/100', "$variant: 100 are sold, nothing is left or reserved");
	is(value("SELECT count(*) FILTER (WHERE status = 'paid') || ' paid, '"
			  . " || count(*) FILTER (WHERE status = 'cancelled') + (SELECT count(*) FROM refused) || ' not' FROM orders"),
		'100 paid, 200 not', "$variant: 100 succeed and 200 fail");
}

# Every fifth of the sagas and TCCs does not pay: what they had is free again.
{
	my ($out, $err);

	open_sale('reserve', 400, 5);
	value('UPDATE sale SET variant = \'reserve\'');
	value("SELECT dtm_purge('0')");
	ok(run([ pgbench() ], '>', \$out, '2>', \$err), 'some do not pay: no buyer meets an error') or diag($err);
	check_end('reserve', 'some do not pay');
	is(books('reserve'), '140/0/260', 'some do not pay: theirs are free again');
}

# Everything at once, of two resources in one order: reserve, confirm, release, give up, expire, sweep, spread anew.
{
	my ($out, $err);
	my $storm = $node->basedir . '/storm.sql';

	open $file, '>', $storm or die "$storm: $!";
	print {$file} "SELECT storm(random());\n";
	close $file;
	$node->safe_psql('postgres', <<'END');
SELECT dtm_stock_set('S1', 60, 8), dtm_stock_set('S2', 60, 3);
CREATE FUNCTION storm(what float8) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	g text := 'storm-' || (random() * 60)::int;
BEGIN
	IF what < 0.6 THEN
		PERFORM dtm_reserve('S1', 1 + (random() * 5)::int, g, CASE WHEN what < 0.2 THEN interval '0' END, wait => what < 0.5);
		IF what < 0.4 THEN
			PERFORM dtm_reserve('S2', 1 + (random() * 3)::int, g, CASE WHEN what < 0.2 THEN interval '0' END);
		END IF;
		IF random() < 0.3 THEN
			RAISE 'changed my mind' USING ERRCODE = 'DTM01';
		END IF;
	ELSIF what < 0.7 THEN
		PERFORM dtm_reserve_confirm(g);
	ELSIF what < 0.93 THEN
		PERFORM dtm_reserve_release(g, sold => random() < 0.7);
	ELSIF what < 0.96 THEN
		PERFORM dtm_reserve_sweep();
	ELSIF what < 0.98 THEN
		PERFORM dtm_stock_add('S1', 0);
	ELSE
		PERFORM dtm_stock_add('S2', 0);
	END IF;
EXCEPTION WHEN SQLSTATE 'DTM01' OR SQLSTATE 'DTM02' OR undefined_object OR unique_violation THEN
	NULL;
END $$;
END
	ok(run([ 'pgbench', '-n', '-c', '32', '-j', '2', '-T', '6', '-f', $storm, '-d', $node->connstr('postgres') ],
		'>', \$out, '2>', \$err), 'storm: nobody meets an error') or diag($err);
	is(value(q{SELECT string_agg(format('%s: %s', resource, available + reserved + sold), ', ' ORDER BY resource)
		FROM dtm.stocks WHERE resource LIKE 'S%'}), 'S1: 60, S2: 60', 'storm: nothing is lost, nothing is made');
	is(value(q{SELECT count(*) FILTER (WHERE state = 'expired') > 0 AND count(*) FILTER (WHERE state = 'sold') > 0
		AND count(*) FILTER (WHERE state = 'released') > 0 FROM dtm.reservations WHERE gid LIKE 'storm-%'}), 't', 'storm: all of it happened');
}
is(value('SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()'), '0', 'no deadlock, neither of buyers nor of branches');

# The server goes down in the middle: what was promised is kept, what was not is not taken.
{
	my $out = '';

	open_sale('reserve', 100, 0);
	value("SELECT dtm_purge('0')");
	my $load = start([ pgbench() ], '>', \$out, '2>', \$out);
	wait_for($node, 'SELECT count(*) > 20 FROM orders', 't', name => 'the sale has begun');
	immediate_stop_start($node);
	$load->finish;
	wait_for($node, 'SELECT count(*) FROM dtm.live', '0', name => 'crash: all of them finish');
	run([ pgbench() ], '>', \$out, '2>', \$out);
	check_end('reserve', 'crash');
	is(books('reserve'), '0/0/100', 'crash: 100 are sold all the same');
}

# A dump brings it along.
{
	my $dump = $node->basedir . '/sale.dump';
	my $all = q{SELECT string_agg(format('%s %s: %s/%s/%s in %s', resource, owner, available, reserved, sold, buckets), ', ' ORDER BY resource)
		FROM dtm.stocks};

	my $err = '';

	value("SELECT dtm_stock_set('kept', 5, 3), dtm_reserve('kept', 2, 'kept')");
	$node->safe_psql('postgres', 'CREATE DATABASE restored');
	ok(run([ 'pg_dump', '-Fc', '-f', $dump, '-d', $node->connstr('postgres') ], '2>', \$err)
		  && run([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('restored'), $dump ], '2>', \$err), 'dump and restore')
	  or diag($err);
	is($node->safe_psql('restored', $all), value($all), 'the stock is the same');
	is($node->safe_psql('restored', q{SELECT dtm_reserve_release('kept')}), '2', 'and its reservations can be settled');
}

$node->stop;
done_testing();
