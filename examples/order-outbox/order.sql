-- Orders and what follows from them.  Everything is in the database of the
-- orders: a message is written by the transaction that it is about.

CREATE EXTENSION dtm_pg;

CREATE TABLE orders (
	order_no	int PRIMARY KEY,
	customer	text NOT NULL,
	amount		int NOT NULL CHECK (amount > 0),
	status		text NOT NULL DEFAULT 'new' CHECK (status IN ('new', 'paid', 'closed'))
);

CREATE TABLE points (
	customer	text PRIMARY KEY,
	balance		int NOT NULL
);

-- Where the services are; run.sh fills it.
CREATE TABLE service (
	name		text PRIMARY KEY,
	url			text NOT NULL
);

-- What consumers are told of an order: how it was when the message was submitted.
CREATE FUNCTION order_event(order_no int) RETURNS jsonb
LANGUAGE sql STABLE AS $$
	SELECT jsonb_build_object('order', o.order_no, 'customer', o.customer,
							  'amount', o.amount, 'status', o.status)
	FROM orders o WHERE o.order_no = order_event.order_no
$$;

-- A new order, the news of it, and the promise to close it when nobody pays:
-- three things, one commit.  The delayed message holds up no other.
CREATE FUNCTION place_order(order_no int, customer text, amount int, pay_within interval DEFAULT '30 min')
RETURNS void
LANGUAGE sql AS $$
	INSERT INTO orders (order_no, customer, amount)
	VALUES (place_order.order_no, place_order.customer, place_order.amount);

	SELECT dtm_msg_submit(jsonb_build_array(dtm_step('topic://order.placed', payload => order_event(place_order.order_no))),
						  gid => 'placed-' || place_order.order_no, retry_interval => '300 ms');

	SELECT dtm_msg_submit(jsonb_build_array(dtm_step('sql:close_unpaid', payload => order_event(place_order.order_no))),
						  gid => 'close-' || place_order.order_no, delay => pay_within);
$$;

CREATE FUNCTION pay_order(order_no int) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	UPDATE orders o SET status = 'paid' WHERE o.order_no = pay_order.order_no AND o.status = 'new';
	IF NOT FOUND THEN
		RAISE EXCEPTION 'order % is not open', pay_order.order_no;
	END IF;
	PERFORM dtm_msg_submit(jsonb_build_array(dtm_step('topic://order.paid', payload => order_event(pay_order.order_no))),
						   gid => 'paid-' || pay_order.order_no, retry_interval => '300 ms');
END
$$;

-- Consumer: when the time is over.  It looks before it acts: of an order that
-- was paid meanwhile it leaves everything as it is.  What it has to tell goes
-- out as a message of its own, which exists only if this transaction commits.
CREATE FUNCTION close_unpaid(event jsonb) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	closed CONSTANT int := (event->>'order')::int;
BEGIN
	UPDATE orders SET status = 'closed' WHERE order_no = closed AND status = 'new';
	IF FOUND THEN
		PERFORM dtm_msg_submit(jsonb_build_array(dtm_step('topic://order.closed', payload => order_event(closed))),
							   gid => 'closed-' || closed, retry_interval => '300 ms');
	END IF;
END
$$;

-- Consumer: a point for each coin.  It is run exactly once, and needs no care for repetitions.
CREATE FUNCTION add_points(event jsonb) RETURNS void
LANGUAGE sql AS $$
	INSERT INTO points VALUES (event->>'customer', (event->>'amount')::int)
	ON CONFLICT (customer) DO UPDATE SET balance = points.balance + excluded.balance
$$;
