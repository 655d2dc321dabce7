#!/usr/bin/env bash
#
# No source file beyond 800 lines.  The last line is "N passed, N failed".
#
set -u
cd "$(dirname "$0")/.." || exit 1

long=$(find src sql test scripts bench examples \( -name '*.[ch]' -o -name '*.sql' -o -name '*.p[lmy]' -o -name '*.sh' \) \
	! -name 'dtm_pg--*.sql' -exec wc -l {} \; | awk '$1 > 800 { print "    " $2 ": " $1 " lines" }')
if [ -n "$long" ]; then
	echo "not ok - files beyond 800 lines:"
	echo "$long"
	echo "0 passed, 1 failed"
	exit 1
fi
echo "ok - filesize"
echo "1 passed, 0 failed"
