#!/usr/bin/env bash
#
# An example on a throwaway server:
#
#   scripts/demo.sh               the shop of examples/shop: three orders and a crash
#   scripts/demo.sh supply-chain  another one of examples/
#
# Installs what is missing, builds dtm_pg, runs the example and shows what became
# of its transactions.  Works on a Debian machine where nothing is installed yet,
# as root or with sudo; nothing is left behind but the packages.
#
. "$(dirname "$0")/lib.sh"

example=${1:-shop}
case $example in
	*[!a-z-]*) example=/ ;;		# no paths
esac
if [ $# -gt 1 ] || [ ! -x "$TOP/examples/$example/run.sh" ]; then
	cd "$TOP/examples"
	echo "usage: scripts/demo.sh [example]; there are:" $(ls -d */ | tr -d /) >&2
	exit 2
fi

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
cluster_start "max_prepared_transactions = 20"		# for bank-transfer

# the shop also stops this server the hard way, in the middle of an order
export PGDATA=$DATA PG_BIN=$("$PG_CONFIG" --bindir) PG_LOG=$LOGS/server.log
status=0
in_source "examples/$example/run.sh" || status=$?
if [ $status -ne 0 ]; then
	echo "demo: examples/$example/run.sh ended with $status; the server's last words:" >&2
	tail -n 30 "$LOGS/server.log" >&2
	exit $status
fi
echo "(the whole demo took $((SECONDS - began)) s)"
