-- The inventory service's own tables, in database supply_inventory.

CREATE TABLE item (
	part		text PRIMARY KEY,
	opening		int NOT NULL,				-- what was there in the beginning, for the books
	quantity	int NOT NULL CHECK (quantity >= 0)
);

CREATE TABLE taken (
	order_no	int PRIMARY KEY,
	part		text NOT NULL REFERENCES item,
	qty			int NOT NULL CHECK (qty > 0)
);

INSERT INTO item VALUES ('bolt', 100, 100);
