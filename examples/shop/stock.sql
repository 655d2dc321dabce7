-- The stock service's own tables, in database shop_stock.

CREATE TABLE item (
	sku			text PRIMARY KEY,
	opening		int NOT NULL,				-- what was there in the beginning, for the books
	quantity	int NOT NULL CHECK (quantity >= 0),
	sold		int NOT NULL DEFAULT 0 CHECK (sold >= 0)
);

CREATE TABLE movement (
	order_no	int PRIMARY KEY,
	sku			text NOT NULL REFERENCES item,
	qty			int NOT NULL CHECK (qty > 0),
	status		text NOT NULL CHECK (status IN ('taken', 'returned'))
);

INSERT INTO item (sku, opening, quantity) VALUES ('A1', 100, 100);
