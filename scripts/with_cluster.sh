#!/usr/bin/env bash
#
# Run a command with a throwaway cluster that has this tree's dtm_pg installed:
#
#   scripts/with_cluster.sh make regress
#   scripts/with_cluster.sh psql
#
# The command runs in a copy of the tree, as the unprivileged user, with
# PGHOST, PGPORT, PGUSER, PG_CONFIG and PATH set.  DTM_CONF holds further lines
# for postgresql.conf, for example DTM_CONF='fsync = on'.
#
. "$(dirname "$0")/lib.sh"

[ $# -gt 0 ] || { echo "usage: scripts/with_cluster.sh command [argument ...]" >&2; exit 2; }
"$TOP/scripts/install-deps.sh"
workdir_begin
trap 'workdir_end' EXIT
trap 'exit 130' INT TERM
copy_tree
copy_server
build_and_install
cluster_start "${DTM_CONF:-}"
status=0
in_source "$@" || status=$?
exit $status
