#!/bin/bash
#
# run.sh: three orders and a crash, over four services and five databases.
#
# Wants what ../lib.sh says, and psycopg2.  Creates the databases shop, shop_stock,
# shop_order, shop_payment and shop_shipping, and leaves them there to look at.
# With PGDATA (of that same server) and PG_BIN (where pg_ctl is) it also stops
# the server the hard way in the middle of an order.
#
#   run.sh            run the demo; exit status 0 when all its checks hold
#   run.sh --serve    then keep the services running until Ctrl-C
#
# PG_LOG is the server's log after the crash, default server.log in PGDATA.

home=shop
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

here=$examples/shop
services="stock order payment shipping"

books()
{
	heading "The books $1"
	"$python" "$here/books.py" show | indent
}

# ------------------------------------------------------------------- set-up

set_up()
{
	local name

	echo "CREATE EXTENSION dtm_pg" >"$work/extension.sql"
	new_database shop "$work/extension.sql" "$here/shop.sql"
	for name in $services; do
		new_database "shop_$name" "$work/extension.sql" "$here/$name.sql"
		start_service "$name" "$here/$name.py"
	done
}

# -------------------------------------------------------------------- orders

place_order()			# ORDER CUSTOMER QTY AMOUNT
{
	heading "Placing it"
	show_sql "BEGIN;
SELECT place_order(order_no => $1, customer => '$2', sku => 'A1', qty => $3, amount => $4);
COMMIT;"
}

act_good()
{
	title "1. A good order: two of A1 for 60, paid by ann, who has 1000"
	place_order 1001 ann 2 60
	report order-1001 succeed
}

act_refused()
{
	local before reason

	title "2. A refused order: three of A1 for 60, but bob has only 40"
	before=$("$python" "$here/books.py" totals)
	place_order 1002 bob 3 60
	report order-1002 failed
	check "shelf and accounts as before" "$before" "$("$python" "$here/books.py" totals)"
	reason=$(sql shop "SELECT count(*) FROM dtm.transactions WHERE gid = 'order-1002'
		AND rollback_reason LIKE '%card declined: balance 40, needed 60%'")
	check "rollback_reason has the words of the payment service" 1 "$reason"
}

act_slow()
{
	local attempts

	title "3. A slow service: shipping hangs on the first two calls"
	say "Each call may take 1 s (request_timeout), shipping hangs for 5 s, twice."
	sql shop_shipping "INSERT INTO test_hang VALUES (1003, 2, 5)"
	place_order 1003 ann 1 30
	report order-1003 succeed
	attempts=$(sql shop "SELECT attempts FROM dtm.branches
		WHERE gid = 'order-1003' AND name = 'shipping' AND op = 'action'")
	at_least "calls of /shipping/book: 3" 3 "$attempts"
	check "hanging calls: 2" 2 "$(calls_of order-1003 | grep -c 'hangs for' || true)"
	# The two that were given up wake in the end; they must not ship a second time.
	for _ in $(seq 100); do
		[ "$(calls_of order-1003 | grep -c '/shipping/book *200 ' || true)" -ge 3 ] && break
		sleep 0.1
	done
	heading "The calls that had been given up wake later"
	calls_of order-1003 | grep '/shipping/book' | indent
	heading "Checks"
	check "calls that the barrier let pass: 1" 1 \
		"$(calls_of order-1003 | grep -c '/shipping/book *200 booked' || true)"
	at_least "calls that the barrier skipped: 2" 2 \
		"$(calls_of order-1003 | grep -c '/shipping/book *200 skipped by the barrier' || true)"
}

can_crash()
{
	[ -n "${PGDATA:-}" ] && [ -n "${PG_BIN:-}" ] && [ -x "$PG_BIN/pg_ctl" ] || return 1
	# It must be the very server that we talk to.
	[ "$(readlink -f "$PGDATA")" = "$(readlink -f "$(sql postgres 'SHOW data_directory')")" ]
}

# pg_ctl does not run as root: do it as the owner of the data.
server()
{
	local owner

	owner=$(stat -c %U "$PGDATA")
	if [ "$(id -u)" = 0 ] && [ "$owner" != root ]; then
		(cd / && runuser -u "$owner" -- "$PG_BIN/pg_ctl" -D "$PGDATA" "$@")
	else
		"$PG_BIN/pg_ctl" -D "$PGDATA" "$@"
	fi
}

act_crash()
{
	local now

	title "4. A crash: the server dies while order 1004 is paid and not yet shipped"
	sql shop_shipping "INSERT INTO test_hang VALUES (1004, 1, 2)"
	place_order 1004 ann 1 30
	for _ in $(seq 100); do
		calls_of order-1004 | grep -q 'hangs for' && break
		sleep 0.1
	done
	heading "Now: pg_ctl restart -m immediate"
	now=$(sql shop "SELECT dtm_status('order-1004')")
	check "status at this moment: submitted" submitted "$now"
	# restart keeps the options that the server was started with
	server -w -m immediate -l "${PG_LOG:-$PGDATA/server.log}" restart >"$work/pg_ctl" 2>&1 ||
		{ cat "$work/pg_ctl" >&2; die "the server does not come up again"; }
	say "  the server is up again"
	report order-1004 succeed
	check "payments of order 1004: 1" 1 \
		"$(sql shop_payment "SELECT count(*) FROM payment WHERE order_no = 1004 AND amount = 30")"
	check "shipments of order 1004: 1" 1 \
		"$(sql shop_shipping "SELECT count(*) FROM shipment WHERE order_no = 1004")"
}

# ---------------------------------------------------------------------- main

serve=
case ${1:-} in
	'') ;;
	--serve) serve=1 ;;
	*) die "unknown argument \"$1\"; there is only --serve" ;;
esac

need_psycopg2
need_server

title "The shop"
say "An order goes through stock, order, payment and shipping: four services, each with a"
say "database of its own. The database \"shop\" places the orders and drives them."
say ""
set_up
books "before"

act_good
act_refused
act_slow
if can_crash; then
	act_crash
else
	title "4. A crash: left out"
	say "Set PGDATA and PG_BIN of the server to see it die and finish the order all the same."
fi

title "The end"
books "after"
heading "Checks"
if "$python" "$here/books.py" check >"$work/check"; then
	passed=$((passed + $(grep -c . "$work/check")))
else
	failures=$((failures + 1))
fi
indent <"$work/check"
sum_up

if [ -n "$serve" ]; then
	say "The services go on until Ctrl-C. In another window: psql -h ${PGHOST:-localhost} -p ${PGPORT:-5432} shop"
	tail -n 0 -f "$work/calls" &
	pids="$pids $!"
	wait "$!"
fi
