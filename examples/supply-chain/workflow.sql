-- The same purchase as a workflow: a function that says what comes next.  Here
-- that depends on answers, on time, and on people.
--
-- It is run again from the beginning after each step; the steps that are done
-- return what they answered the first time.  So it must take the same way each
-- time: no now(), no random(), and no table that changes meanwhile decides it.

CREATE FUNCTION purchase_workflow(data jsonb) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
	released jsonb;
	shipment jsonb;
BEGIN
	PERFORM dtm_call('sql:open_purchase', data, compensate => 'sql:cancel_purchase', name => 'order');

	PERFORM dtm_call(service_url('/inventory/take'), data,
					 compensate => service_url('/inventory/put_back'), name => 'inventory');

	-- held now, paid when the workflow succeeds, released when it fails
	PERFORM dtm_call_tcc(try => service_url('/payment/hold'), confirm => service_url('/payment/pay'),
						 cancel => service_url('/payment/release'), payload => data, name => 'payment');

	IF data->>'ship_to' = 'abroad' THEN
		released := dtm_await('customs', timeout => (data->>'customs_within')::interval);
		IF released IS NULL THEN
			PERFORM dtm_fail('customs has not released it in time');
		END IF;
	END IF;

	PERFORM dtm_sleep('500 ms');			-- the packing

	BEGIN
		shipment := dtm_call(service_url('/shipping/truck'), data,
							 compensate => service_url('/shipping/cancel'), name => 'truck');
	EXCEPTION WHEN SQLSTATE 'DTM01' THEN	-- refused: there is another way
		shipment := dtm_call(service_url('/shipping/boat'), data,
							 compensate => service_url('/shipping/cancel'), name => 'boat');
	END;

	-- commits with the end of the workflow
	UPDATE purchase SET status = 'shipped', carrier = shipment->>'carrier'
	WHERE order_no = (data->>'order')::int;

	RETURN shipment || jsonb_build_object('customs', coalesce(released->'by', '"not asked"'));
END
$$;

CREATE FUNCTION buy_by_workflow(order_no int, buyer text, qty int, amount int, ship_to text,
								part text DEFAULT 'bolt', customs_within interval DEFAULT '30 days')
RETURNS text
LANGUAGE sql AS $$
	INSERT INTO purchase (order_no, buyer, part, qty, amount, ship_to)
	VALUES (buy_by_workflow.order_no, buyer, part, qty, amount, ship_to);

	SELECT dtm_workflow_submit('purchase_workflow',
		jsonb_build_object('order', buy_by_workflow.order_no, 'buyer', buyer, 'part', part, 'qty', qty,
						   'amount', amount, 'ship_to', ship_to, 'customs_within', customs_within),
		gid => 'workflow-' || buy_by_workflow.order_no)
$$;
