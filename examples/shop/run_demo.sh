#!/bin/bash
#
# run_demo.sh: three orders and a crash, over four services and five databases.
#
# Wants a running server in PGHOST, PGPORT, PGUSER (a superuser) whose
# shared_preload_libraries has dtm_pg.  Creates the databases shop, shop_stock,
# shop_order, shop_payment and shop_shipping, and leaves them there to look at.
# With PGDATA (of that same server) and PG_BIN (where pg_ctl is) it also stops
# the server the hard way in the middle of an order.
#
#   run_demo.sh            run the demo; exit status 0 when all its checks hold
#   run_demo.sh --serve    then keep the services running until Ctrl-C
#
# Other settings: PYTHON, default /usr/bin/python3 (it needs psycopg2); PG_LOG, the
# server's log after the crash, default server.log in PGDATA.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-/usr/bin/python3}
export PATH="${PG_BIN:+$PG_BIN:}$PATH"
export PGOPTIONS="${PGOPTIONS:-} -c client_min_messages=warning"
export PYTHONDONTWRITEBYTECODE=1

services="stock order payment shipping"
mark='example shop of dtm_pg'		# comment on our databases: what is marked may be dropped
work=$(mktemp -d "${TMPDIR:-/tmp}/shop.XXXXXX")
pids=
failures=0
passed=0

cleanup()
{
	# Only what this run started, each by its number.
	for pid in $pids; do
		kill "$pid" 2>/dev/null || true
	done
	for pid in $pids; do
		wait "$pid" 2>/dev/null || true
	done
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# ------------------------------------------------------------------ output

if [ -t 1 ]; then
	bold=$'\e[1m' red=$'\e[31m' plain=$'\e[0m'
else
	bold= red= plain=
fi

title()		{ printf '\n%s=== %s ===%s\n' "$bold" "$*" "$plain"; }
heading()	{ printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
say()		{ printf '%s\n' "$*"; }
indent()	{ sed -e '/^$/d' -e 's/^/  /'; }

die()
{
	printf '%s: %s\n' "$(basename "$0")" "$*" >&2
	exit 1
}

# check WHAT EXPECTED FOUND
check()
{
	if [ "$2" = "$3" ]; then
		printf '  ok    %s\n' "$1"
		passed=$((passed + 1))
	else
		printf '  %sFAIL  %s: expected "%s", found "%s"%s\n' "$red" "$1" "$2" "$3" "$plain"
		failures=$((failures + 1))
	fi
}

# at_least WHAT NUMBER FOUND: a busy machine may need a call more
at_least()
{
	if [ "$3" -ge "$2" ]; then
		check "$1" "$3" "$3"
	else
		check "$1" "$2 or more" "$3"
	fi
}

# --------------------------------------------------------------------- SQL

# sql DATABASE COMMAND: bare values, for the script itself
sql()
{
	psql -X -q -A -t -v ON_ERROR_STOP=1 -d "$1" -c "$2"
}

# show_sql COMMAND: the command in database shop as a user would type it, and its result
show_sql()
{
	printf '%s\n' "$1" | sed -e '1s/^/  shop=# /' -e '2,$s/^/  shop-# /'
	printf '%s\n' "$1" |
		psql -X -q -v ON_ERROR_STOP=1 -P footer=off -P null= -d shop |
		sed -e 's/[[:space:]]*$//' | indent
}

books()
{
	heading "The books $1"
	"$python" "$here/books.py" show | indent
}

# ------------------------------------------------------------------- set-up

set_up_databases()
{
	local name db comment

	for db in shop shop_stock shop_order shop_payment shop_shipping; do
		comment=$(sql postgres "SELECT coalesce(shobj_description(oid, 'pg_database'), '')
			FROM pg_database WHERE datname = '$db'")
		case $comment in
			"$mark") sql postgres "DROP DATABASE $db WITH (FORCE)" ;;
			*)
				if [ -n "$(sql postgres "SELECT 1 FROM pg_database WHERE datname = '$db'")" ]; then
					die "database \"$db\" exists and is not this demo's: drop or rename it first"
				fi
				;;
		esac
		sql postgres "CREATE DATABASE $db"
		sql postgres "COMMENT ON DATABASE $db IS '$mark'"
		sql "$db" "CREATE EXTENSION dtm_pg"
	done
	psql -X -q -v ON_ERROR_STOP=1 -d shop -f "$here/shop.sql"
	for name in $services; do
		psql -X -q -v ON_ERROR_STOP=1 -d "shop_$name" -f "$here/$name.sql"
	done
}

start_services()
{
	local name port

	: >"$work/calls"
	for name in $services; do
		"$python" "$here/$name.py" --port-file "$work/$name.port" >>"$work/calls" 2>"$work/$name.err" &
		pids="$pids $!"
		echo "$!" >"$work/$name.pid"
	done
	for name in $services; do
		for _ in $(seq 100); do
			[ -s "$work/$name.port" ] && break
			sleep 0.1
		done
		port=$(cat "$work/$name.port" 2>/dev/null || true)
		[ -n "$port" ] || die "the $name service does not start: $(cat "$work/$name.err")"
		"$python" - "$port" "$name" <<-'PYTHON' || die "the $name service does not answer"
			import sys, urllib.request
			url = "http://127.0.0.1:%s/health" % sys.argv[1]
			sys.exit(urllib.request.urlopen(url, timeout=10).read().decode() != sys.argv[2])
		PYTHON
		sql shop "INSERT INTO service VALUES ('$name', 'http://127.0.0.1:$port')"
		printf '  %-9s http://127.0.0.1:%s   pid %-7s database shop_%s\n' \
			"$name" "$port" "$(cat "$work/$name.pid")" "$name"
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

calls_of()				# GID
{
	grep -F -- "  $1  " "$work/calls" || true
}

report()				# GID EXPECTED_STATUS
{
	local status

	status=$(sql shop "SELECT dtm_wait('$1')")
	heading "Its end"
	printf "  shop=# SELECT dtm_wait('%s');\n   %s\n" "$1" "$status"
	heading "How it went"
	show_sql "SELECT * FROM dtm_timeline('$1');"
	heading "What each branch says"
	show_sql "SELECT branch_id, op, status, attempts, last_error FROM dtm.branches
WHERE gid = '$1' ORDER BY branch_id, op;"
	heading "What the services saw"
	calls_of "$1" | indent
	heading "Checks"
	check "dtm_wait('$1'): $2" "$2" "$status"
	case $status in
		succeed|failed) ;;
		*)
			heading "It does not end: the workers, and what is stuck"
			show_sql "SELECT * FROM dtm.workers;" || true
			show_sql "SELECT * FROM dtm.stuck;" || true
			exit 1
			;;
	esac
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

"$python" -c 'import psycopg2' 2>/dev/null ||
	die "$python has no psycopg2: apt-get install python3-psycopg2, or set PYTHON"
sql postgres "SELECT 1" >/dev/null ||
	die "no server at PGHOST=${PGHOST:-} PGPORT=${PGPORT:-}"
case $(sql postgres "SHOW shared_preload_libraries") in
	*dtm_pg*) ;;
	*) die "the server has no shared_preload_libraries = 'dtm_pg': nothing would drive the orders" ;;
esac

title "The shop"
say "An order goes through stock, order, payment and shipping: four services, each with a"
say "database of its own. The database \"shop\" places the orders and drives them."
say ""
set_up_databases
start_services
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
check "transactions that are not finished: 0" 0 \
	"$(sql shop "SELECT count(*) FROM dtm.transactions WHERE status NOT IN ('succeed', 'failed')")"

say ""
if [ "$failures" -gt 0 ]; then
	for name in $services; do
		[ -s "$work/$name.err" ] && sed "s/^/$name: /" "$work/$name.err" >&2
	done
	say "${red}$failures checks failed${plain}, $passed held"
	exit 1
fi
say "all $passed checks hold after $SECONDS s"

if [ -n "$serve" ]; then
	say "The services go on until Ctrl-C. In another window: psql -h ${PGHOST:-localhost} -p ${PGPORT:-5432} shop"
	tail -n 0 -f "$work/calls" &
	pids="$pids $!"
	wait "$!"
fi
