-- The payment service's own tables, in database shop_payment.

CREATE TABLE account (
	customer	text PRIMARY KEY,
	opening		int NOT NULL,				-- what was there in the beginning, for the books
	balance		int NOT NULL CHECK (balance >= 0)
);

CREATE TABLE payment (
	order_no	int PRIMARY KEY,
	customer	text NOT NULL REFERENCES account,
	amount		int NOT NULL CHECK (amount > 0),
	status		text NOT NULL CHECK (status IN ('charged', 'refunded'))
);

INSERT INTO account (customer, opening, balance) VALUES ('ann', 1000, 1000), ('bob', 40, 40);
