#!/usr/bin/env bash
#
# run.sh: transfers between two banks, each with a database of its own.
#
# Wants a running test server in PGHOST (its socket's folder, or a host that
# lets the user in), PGPORT, PGUSER (a superuser), with
#
#	shared_preload_libraries = 'dtm_pg'
#	max_prepared_transactions = 20		-- for the banks; the clearing house needs none
#
# Creates the databases bank_north, bank_south and clearing and the role
# teller, after dropping those that an earlier run has left, and leaves them
# there to look at.  Exit status 0 when all checks hold.
#
set -eu
cd "$(dirname "$0")"
failed=0

run() {
	psql -XAtq -v ON_ERROR_STOP=1 "$@"
}

# As the teller, in the clearing house; the rest is SQL.
teller() {
	psql -XAtq -v ON_ERROR_STOP=1 -d clearing -c 'SET ROLE teller' -c "$1"
}

# check NAME EXPECTED ACTUAL
check() {
	if [ "$2" = "$3" ]; then
		echo "ok - $1: $3"
	else
		echo "not ok - $1: $3 instead of $2"
		failed=1
	fi
}

balances() {
	echo "$(run -d bank_north -c "SELECT string_agg(owner || ' ' || balance, ', ' ORDER BY id) FROM account")," \
		"$(run -d bank_south -c "SELECT string_agg(owner || ' ' || balance, ', ' ORDER BY id) FROM account")"
}

for database in clearing bank_north bank_south; do
	run -d postgres -c "DROP DATABASE IF EXISTS $database WITH (FORCE)" -c "CREATE DATABASE $database" 2>/dev/null
done
run -d postgres -c "DROP ROLE IF EXISTS teller" -c "CREATE ROLE teller LOGIN PASSWORD 'secret'" 2>/dev/null
for bank in north south; do
	run -d "bank_$bank" -f bank.sql
done
run -d bank_north -c "INSERT INTO account VALUES (1, 'ann', 100), (2, 'bob', 20)"
run -d bank_south -c "INSERT INTO account VALUES (1, 'cem', 50)"
run -d clearing -v host="$PGHOST" -v port="${PGPORT:-5432}" -f clearing.sql >/dev/null

echo "# ann sends cem 30"
teller "SELECT order_transfer('north', 1, 'south', 1, 30)" >/dev/null
check "in both banks at once" "ann 70.00, bob 20.00, cem 80.00" "$(balances)"

echo "# bob sends 50, and has 20"
teller "SELECT order_transfer('north', 2, 'south', 1, 50)" 2>&1 | sed -n 's/^ERROR: */#   /p' || true
check "nothing has moved" "ann 70.00, bob 20.00, cem 80.00" "$(balances)"

echo "# cem sends 10 to an account that does not exist"
teller "SELECT order_transfer('south', 1, 'north', 99, 10)" 2>&1 | sed -n 's/^ERROR: */#   /p' || true
check "nothing has moved" "ann 70.00, bob 20.00, cem 80.00" "$(balances)"

echo "# three transfers in one transaction; the one without cover is rolled back to its savepoint"
run -d clearing <<'SQL' >/dev/null
SET ROLE teller;
DO $$
DECLARE
	t record;
BEGIN
	FOR t IN SELECT * FROM (VALUES ('south', 1, 'north', 2, 5.00), ('north', 2, 'south', 1, 1000.00), ('north', 1, 'north', 2, 1.50))
		AS v (from_bank, from_account, to_bank, to_account, amount)
	LOOP
		BEGIN
			PERFORM order_transfer(t.from_bank, t.from_account, t.to_bank, t.to_account, t.amount);
		EXCEPTION WHEN check_violation THEN
			RAISE LOG 'no cover';
		END;
	END LOOP;
END $$;
SQL
check "two of them are done" "ann 68.50, bob 26.50, cem 75.00" "$(balances)"

check "transfers in the clearing house" 3 "$(run -d clearing -c 'SELECT count(*) FROM transfer')"
check "bookings in the banks" 6 "$(($(run -d bank_north -c 'SELECT count(*) FROM booking') + $(run -d bank_south -c 'SELECT count(*) FROM booking')))"

# the coordinator confirms what the sessions have done already
for _ in $(seq 100); do
	[ "$(run -d clearing -c 'SELECT count(*) FROM dtm.live')" = 0 ] && break
	sleep 0.1
done
check "unfinished" 0 "$(run -d clearing -c 'SELECT count(*) FROM dtm.live')"
check "prepared and forgotten" 0 "$(run -d postgres -c 'SELECT count(*) FROM pg_prepared_xacts')"
echo "# what the clearing house knows of it:"
run -d clearing -c "SELECT '#   ' || gid || ' ' || branch_id || ' ' || op || ' ' || url || ' ' || status
	FROM dtm.branches WHERE op = 'commit' ORDER BY gid, branch_id"
exit $failed
