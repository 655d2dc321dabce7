-- The order service's own table, in database shop_order.

CREATE TABLE order_book (
	order_no	int PRIMARY KEY,
	customer	text NOT NULL,
	sku			text NOT NULL,
	qty			int NOT NULL CHECK (qty > 0),
	amount		int NOT NULL CHECK (amount > 0),
	status		text NOT NULL CHECK (status IN ('created', 'cancelled'))
);
