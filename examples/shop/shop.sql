-- The shop itself, in database shop: its orders, and how one is placed.  This
-- is the only database whose coordinator has something to do here; the others
-- have the extension for dtm_barrier alone.

CREATE TABLE orders (
	order_no	int PRIMARY KEY,
	customer	text NOT NULL,
	sku			text NOT NULL,
	qty			int NOT NULL,
	amount		int NOT NULL,
	status		text NOT NULL DEFAULT 'placed'
);

-- Where the services are; run.sh fills it.
CREATE TABLE service (
	name		text PRIMARY KEY,
	url			text NOT NULL
);

CREATE FUNCTION service_url(name text, path text) RETURNS text
LANGUAGE sql STABLE AS $$
	SELECT s.url || service_url.path FROM service s WHERE s.name = service_url.name
$$;

-- Steps of the saga that live in this database.  Each runs in one transaction
-- with the record of its outcome, so these need no barrier.
CREATE FUNCTION start_order(payload jsonb) RETURNS void
LANGUAGE sql AS $$
	UPDATE orders SET status = 'in work' WHERE order_no = (payload->>'order')::int
$$;

CREATE FUNCTION cancel_order(payload jsonb) RETURNS void
LANGUAGE sql AS $$
	UPDATE orders SET status = 'cancelled' WHERE order_no = (payload->>'order')::int
$$;

CREATE FUNCTION confirm_order(payload jsonb) RETURNS void
LANGUAGE sql AS $$
	UPDATE orders SET status = 'confirmed' WHERE order_no = (payload->>'order')::int
$$;

-- The order row and the saga are one transaction: they commit together or not
-- at all, and that commit is the promise that the order will be carried
-- through or undone.  Nothing has been called yet when this function returns.
CREATE FUNCTION place_order(order_no int, customer text, sku text, qty int, amount int)
RETURNS text
LANGUAGE sql AS $$
	INSERT INTO orders (order_no, customer, sku, qty, amount)
	VALUES (place_order.order_no, place_order.customer, place_order.sku, place_order.qty,
			place_order.amount);

	SELECT dtm_saga_submit(
		jsonb_build_array(
			dtm_step('sql:start_order', 'sql:cancel_order', p, name => 'start'),
			dtm_step(service_url('stock', '/stock/deduct'),
					 service_url('stock', '/stock/restore'), p, name => 'stock'),
			dtm_step(service_url('order', '/order/create'),
					 service_url('order', '/order/cancel'), p, name => 'order'),
			dtm_step(service_url('payment', '/pay/charge'),
					 service_url('payment', '/pay/refund'), p, name => 'payment'),
			dtm_step(service_url('shipping', '/shipping/book'),
					 service_url('shipping', '/shipping/cancel'), p, name => 'shipping'),
			dtm_step('sql:confirm_order', payload => p, name => 'confirm')),
		gid => 'order-' || place_order.order_no,
		request_timeout => '1 s',
		retry_interval => '500 ms')
	FROM jsonb_build_object('order', place_order.order_no, 'customer', place_order.customer,
							'sku', place_order.sku, 'qty', place_order.qty,
							'amount', place_order.amount) AS p
$$;
