-- The purchase as a saga.  All steps are known beforehand; the database works
-- through them, and undoes them when one refuses.
--
--     0 order ──┬── 1 inventory ──┬── 3 shipping ── 4 shipped
--               └── 2 payment ────┘

CREATE FUNCTION mark_shipped(data jsonb) RETURNS void
LANGUAGE sql AS $$
	UPDATE purchase SET status = 'shipped', carrier = 'truck' WHERE order_no = (data->>'order')::int
$$;

CREATE FUNCTION buy_by_saga(order_no int, buyer text, qty int, amount int, ship_to text, part text DEFAULT 'bolt')
RETURNS text
LANGUAGE sql AS $$
	INSERT INTO purchase (order_no, buyer, part, qty, amount, ship_to)
	VALUES (buy_by_saga.order_no, buyer, part, qty, amount, ship_to);

	SELECT dtm_saga_submit(
		jsonb_build_array(
			dtm_step('sql:open_purchase', 'sql:cancel_purchase', data, name => 'order'),
			dtm_step(service_url('/inventory/take'), service_url('/inventory/put_back'), data,
					 name => 'inventory', after => '{0}'),
			dtm_step(service_url('/payment/charge'), service_url('/payment/refund'), data,
					 name => 'payment', after => '{0}'),
			dtm_step(service_url('/shipping/truck'), service_url('/shipping/cancel'), data,
					 name => 'shipping', after => '{1,2}'),
			dtm_step('sql:mark_shipped', payload => data, name => 'shipped', after => '{3}')),
		gid => 'saga-' || buy_by_saga.order_no)
	FROM jsonb_build_object('order', buy_by_saga.order_no, 'buyer', buyer, 'part', part,
							'qty', qty, 'amount', amount, 'ship_to', ship_to) AS data
$$;
