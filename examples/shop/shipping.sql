-- The shipping service's own tables, in database shop_shipping.

CREATE TABLE shipment (
	order_no	int PRIMARY KEY,
	sku			text NOT NULL,
	qty			int NOT NULL CHECK (qty > 0),
	status		text NOT NULL CHECK (status IN ('booked', 'cancelled'))
);

-- For the demo: calls for this order hang so many times, each so long.
CREATE TABLE test_hang (
	order_no	int PRIMARY KEY,
	times_left	int NOT NULL,
	seconds		float8 NOT NULL
);
