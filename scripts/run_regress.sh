#!/usr/bin/env bash
#
# Run pg_regress or pg_isolation_regress against the running server and count:
# scripts/run_regress.sh OUTPUTDIR PROGRAM BINDIR EXTENSION TEST...
#
# The extension is created in the tests' database before the first test.
# The last line is "N passed, N failed".
#
set -u
outputdir=$1 program=$2 bindir=$3 extension=$4
shift 4
if [ $# -eq 0 ]; then
	echo "0 passed, 0 failed"
	exit 0
fi

kind=$(basename "$program")
dbname=dtm_${kind#pg_}
mkdir -p "$outputdir"
"$program" --inputdir=test --outputdir="$outputdir" --bindir="$bindir" --dbname="$dbname" \
	--load-extension="$extension" "$@" >"$outputdir/run.log" 2>&1
status=$?
cat "$outputdir/run.log"

# "test name ... ok" until 15, "ok 1 - name" from 16 on
passed=$(grep -c -E '^(test .* \.\.\. ok|ok [0-9]+)' "$outputdir/run.log")
failed=$(grep -c -E '^(test .* \.\.\. (FAILED|failed)|not ok [0-9]+)' "$outputdir/run.log")
if [ $status -ne 0 ] && [ "$failed" -eq 0 ]; then
	failed=1
fi
if [ "$failed" -gt 0 ] && [ -f "$outputdir/regression.diffs" ]; then
	head -n 200 "$outputdir/regression.diffs"
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
