#!/bin/bash
#
# run.sh: 1000 customers want one of 400 phones, 25 at a time.
#
# On the server that PGHOST, PGPORT, PGUSER (a superuser) name; its
# shared_preload_libraries has dtm_pg.  Without PGHOST on a throwaway one.
# Creates the database and the role flash_shop, and drops them when it is done
# (KEEP=1 leaves them to look at).  Exit status 0 when every rule holds.

set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ -z "${PGHOST:-}" ]; then
	exec "$here/../../scripts/with_cluster.sh" examples/flash-sale/run.sh
fi
export PGOPTIONS="${PGOPTIONS:-} -c client_min_messages=warning"
work=$(mktemp -d "${TMPDIR:-/tmp}/flash-sale.XXXXXX")
made=

admin() { psql -XAtq -v ON_ERROR_STOP=1 "$@"; }
shop() { PGOPTIONS="$PGOPTIONS -c role=flash_shop" psql -Xq -v ON_ERROR_STOP=1 -d flash_shop "$@"; }

cleanup()
{
	rm -rf "$work"
	if [ -n "$made" ] && [ -z "${KEEP:-}" ]; then
		admin -d postgres -c 'DROP DATABASE IF EXISTS flash_shop WITH (FORCE)' -c 'DROP ROLE IF EXISTS flash_shop'
	fi
}
trap cleanup EXIT

# Both are new, or this ends here: nothing that was there before is dropped.
admin -d postgres -c 'CREATE ROLE flash_shop'
made=yes
admin -d postgres -c 'CREATE DATABASE flash_shop OWNER flash_shop'
admin -d flash_shop -c 'CREATE EXTENSION dtm_pg' -c "SELECT dtm_grant('flash_shop')" \
	-c 'GRANT CREATE ON SCHEMA public TO flash_shop'
shop -o /dev/null -f "$here/sale.sql"

echo "SELECT buy(nextval('customer')::int);" >"$work/buy.sql"
echo "The doors open: 1000 customers, 400 phones."
PGOPTIONS="$PGOPTIONS -c role=flash_shop" pgbench -n -c 25 -j 2 -t 40 -f "$work/buy.sql" flash_shop 2>&1 |
	grep -E '^(number of transactions actually|tps|latency average)'

# all have been told "yours" or "sold out"; what is theirs is paid and confirmed meanwhile
for _ in $(seq 600); do
	[ "$(shop -At -c "SELECT count(*) FROM dtm.transactions WHERE finished_at IS NULL")" = 0 ] && break
	sleep 0.1
done

shop -P footer=off -f "$here/books.sql" | tee "$work/books"
! grep -q BROKEN "$work/books"
