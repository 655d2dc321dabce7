-- sale.sql: a shop with one hot item.  Run by run.sh as the role flash_shop, in a database of its own.

-- 400 phones; 1000 customers with enough money for one each, save every tenth
SELECT dtm_stock_set('phone', 400, buckets => 32);

CREATE TABLE account (
	customer	int PRIMARY KEY,
	balance		numeric NOT NULL CHECK (balance >= 0),
	held		numeric NOT NULL DEFAULT 0 CHECK (held >= 0)
);
INSERT INTO account SELECT n, CASE WHEN n % 10 = 0 THEN 5 ELSE 500 END FROM generate_series(1, 1000) AS n;

CREATE TABLE orders (
	id			text PRIMARY KEY,
	customer	int NOT NULL REFERENCES account,
	quantity	int NOT NULL,
	status		text NOT NULL CHECK (status IN ('new', 'paid', 'cancelled'))
);

-- Payment, as a service in this database would offer it: Try holds the money, Confirm takes it, Cancel lets it go.
CREATE FUNCTION pay_try(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	UPDATE account SET balance = balance - (p->>'amount')::numeric, held = held + (p->>'amount')::numeric
	WHERE customer = (p->>'customer')::int AND balance >= (p->>'amount')::numeric;
	IF NOT FOUND THEN
		PERFORM dtm_fail('not enough money');
	END IF;
END $$;
CREATE FUNCTION pay_confirm(p jsonb) RETURNS void LANGUAGE sql AS $$
	UPDATE account SET held = held - (p->>'amount')::numeric WHERE customer = (p->>'customer')::int;
$$;
CREATE FUNCTION pay_cancel(p jsonb) RETURNS void LANGUAGE sql AS $$
	UPDATE account SET balance = balance + (p->>'amount')::numeric, held = held - (p->>'amount')::numeric
	WHERE customer = (p->>'customer')::int;
$$;

-- The order itself: nothing to try, it is there already.
CREATE FUNCTION order_try(p jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$;
CREATE FUNCTION order_confirm(p jsonb) RETURNS void LANGUAGE sql AS $$
	UPDATE orders SET status = 'paid' WHERE id = p->>'order';
$$;
CREATE FUNCTION order_cancel(p jsonb) RETURNS void LANGUAGE sql AS $$
	UPDATE orders SET status = 'cancelled' WHERE id = p->>'order';
$$;

-- What happens when somebody clicks on "buy".  One local transaction: the phone is reserved, the order is there and
-- the TCC is submitted, or none of it.  The customer knows at once whether he has got one.
CREATE FUNCTION buy(who int, pieces int DEFAULT 1) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	gid text := dtm_gid();
	p jsonb := jsonb_build_object('order', gid, 'customer', who, 'amount', 100 * pieces, 'resource', 'phone', 'quantity', pieces);
BEGIN
	PERFORM dtm_reserve('phone', pieces, gid);
	INSERT INTO orders VALUES (gid, who, pieces, 'new');
	PERFORM dtm_tcc_submit(jsonb_build_array(
		jsonb_build_object('try', 'sql:order_try', 'confirm', 'sql:order_confirm', 'cancel', 'sql:order_cancel', 'payload', p),
		-- the Try finds the reservation that was made above; Confirm sells it, Cancel gives it back
		jsonb_build_object('try', 'sql:dtm_reserve_try', 'confirm', 'sql:dtm_reserve_confirm', 'cancel', 'sql:dtm_reserve_cancel', 'payload', p),
		jsonb_build_object('try', 'sql:pay_try', 'confirm', 'sql:pay_confirm', 'cancel', 'sql:pay_cancel', 'payload', p)), gid => gid);
	RETURN gid;
EXCEPTION WHEN SQLSTATE 'DTM01' THEN
	RETURN 'sold out';
END $$;

CREATE SEQUENCE customer;
