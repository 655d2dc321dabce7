-- bank.sql: one bank, a database of its own.  It knows nothing of dtm_pg.

CREATE TABLE account (
	id		integer PRIMARY KEY,
	owner	text NOT NULL,
	balance	numeric(12, 2) NOT NULL CHECK (balance >= 0)
);

-- Its own record of what went in and out; a transfer is booked once in each bank.
CREATE TABLE booking (
	transfer	uuid NOT NULL,
	account		integer NOT NULL REFERENCES account,
	amount		numeric(12, 2) NOT NULL,
	booked_at	timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (transfer, account)
);

-- Both in one statement: 1 when the account exists, 0 when it does not; no cover is an error.
CREATE FUNCTION book(transfer uuid, account integer, amount numeric)
RETURNS integer
LANGUAGE plpgsql
SET search_path = public, pg_temp
AS $$
BEGIN
	UPDATE account AS a SET balance = a.balance + book.amount WHERE a.id = book.account;
	IF NOT FOUND THEN
		RETURN 0;
	END IF;
	INSERT INTO booking VALUES (book.transfer, book.account, book.amount);
	RETURN 1;
END $$;

GRANT SELECT, UPDATE ON account TO teller;
GRANT SELECT, INSERT ON booking TO teller;
