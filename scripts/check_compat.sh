#!/usr/bin/env bash
#
# One header knows about the versions of PostgreSQL: PG_VERSION_NUM occurs in
# src/dtm_compat.h and nowhere else.  The last line is "N passed, N failed".
#
set -u
cd "$(dirname "$0")/.." || exit 1

hits=$(grep -rnE '\bPG_(VERSION_NUM|MAJORVERSION(_NUM)?)\b' --include='*.[ch]' src | grep -v '^src/dtm_compat\.h:')
if [ -n "$hits" ]; then
	echo "not ok - versions of PostgreSQL are told apart in src/dtm_compat.h only:"
	echo "$hits"
	echo "0 passed, 1 failed"
	exit 1
fi
echo "ok - compat"
echo "1 passed, 0 failed"
