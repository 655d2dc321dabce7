-- The payment service's own tables, in database supply_payment.

CREATE TABLE account (
	buyer		text PRIMARY KEY,
	opening		int NOT NULL,				-- what was there in the beginning, for the books
	balance		int NOT NULL,
	held		int NOT NULL DEFAULT 0 CHECK (held >= 0),
	CHECK (held <= balance)
);

CREATE TABLE payment (
	order_no	int PRIMARY KEY,
	buyer		text NOT NULL REFERENCES account,
	amount		int NOT NULL CHECK (amount > 0),
	status		text NOT NULL CHECK (status IN ('held', 'paid', 'released', 'refunded'))
);

INSERT INTO account (buyer, opening, balance) VALUES ('acme', 1000, 1000);
