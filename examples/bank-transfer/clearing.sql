-- clearing.sql: the clearing house, where transfers are ordered.  Wants psql
-- variables host and port: where the databases of the banks are.

CREATE EXTENSION dtm_pg;
CREATE EXTENSION postgres_fdw;		-- for CREATE SERVER; there are no foreign tables

CREATE SERVER north FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host :'host', port :'port', dbname 'bank_north');
CREATE SERVER south FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host :'host', port :'port', dbname 'bank_south');
GRANT USAGE ON FOREIGN SERVER north, south TO teller;

-- With a real password, and without password_required, wherever the banks ask
-- for one.  A server that trusts everybody on its socket, as a test server
-- does, is used by other roles than superusers only when a superuser says so.
CREATE USER MAPPING FOR teller SERVER north OPTIONS (user 'teller', password 'secret', password_required 'false');
CREATE USER MAPPING FOR teller SERVER south OPTIONS (user 'teller', password 'secret', password_required 'false');
SELECT dtm_grant('teller');

CREATE TABLE transfer (
	id			uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	from_bank	name NOT NULL,
	from_account integer NOT NULL,
	to_bank		name NOT NULL,
	to_account	integer NOT NULL,
	amount		numeric(12, 2) NOT NULL CHECK (amount > 0),
	ordered_at	timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT, INSERT ON transfer TO teller;

-- One booking in one bank, as part of the current transaction.
CREATE FUNCTION book(bank name, transfer uuid, account integer, amount numeric)
RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
	IF (SELECT (r->>'book')::int FROM dtm_xa_query(bank, 'SELECT book($1::uuid, $2::int, $3::numeric)',
		transfer::text, account::text, amount::text) AS r) = 0
	THEN
		RAISE EXCEPTION 'bank % has no account %', bank, account USING ERRCODE = 'no_data_found';
	END IF;
END $$;

/*
 * A transfer: two bookings in two banks and a row here, or nothing at all.
 * Call it in any transaction, together with whatever belongs to it.
 *
 * Who comes first is always the bank that comes first in the alphabet: two
 * transfers in opposite directions would otherwise wait for each other, in two
 * databases of which neither sees the whole deadlock.
 */
CREATE FUNCTION order_transfer(from_bank name, from_account integer, to_bank name, to_account integer, amount numeric)
RETURNS uuid
LANGUAGE plpgsql
AS $$
DECLARE
	transfer uuid;
BEGIN
	INSERT INTO transfer (from_bank, from_account, to_bank, to_account, amount)
	VALUES (from_bank, from_account, to_bank, to_account, amount)
	RETURNING id INTO transfer;

	IF (from_bank, from_account) < (to_bank, to_account) THEN
		PERFORM book(from_bank, transfer, from_account, -amount);
		PERFORM book(to_bank, transfer, to_account, amount);
	ELSE
		PERFORM book(to_bank, transfer, to_account, amount);
		PERFORM book(from_bank, transfer, from_account, -amount);
	END IF;
	RETURN transfer;
END $$;
