#!/usr/bin/env bash
#
# The shop of examples/shop on a throwaway server: installs what is missing,
# builds dtm_pg, runs three orders and shows what became of them.  Works on a
# Debian machine where nothing is installed yet, as root or with sudo; nothing
# is left behind but the packages.
#
. "$(dirname "$0")/lib.sh"

began=$SECONDS
"$TOP/scripts/install-deps.sh"
workdir_begin
trap 'workdir_end' EXIT
trap 'exit 130' INT TERM

echo "building dtm_pg ..."
copy_tree
copy_server
if ! build_and_install >"$LOGS/build.log" 2>&1; then
	tail -n 40 "$LOGS/build.log" >&2
	echo "demo: dtm_pg does not build" >&2
	exit 1
fi
echo "starting a throwaway PostgreSQL $("$PG_CONFIG" --version | cut -d' ' -f2) ..."
cluster_start

# the demo also stops this server the hard way, in the middle of an order
export PGDATA=$DATA PG_BIN=$("$PG_CONFIG" --bindir) PG_LOG=$LOGS/server.log
status=0
in_source examples/shop/run_demo.sh || status=$?
if [ $status -ne 0 ]; then
	echo "demo: examples/shop/run_demo.sh ended with $status; the server's last words:" >&2
	tail -n 30 "$LOGS/server.log" >&2
	exit $status
fi
echo "(the whole demo took $((SECONDS - began)) s)"
