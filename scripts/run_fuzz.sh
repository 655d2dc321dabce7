#!/usr/bin/env bash
#
# Run the fuzz targets for FUZZ_SECONDS each, two at a time:
# scripts/run_fuzz.sh WORKDIR PROGRAM...
#
# test/fuzz/corpus/<target without fuzz_>/ holds inputs to begin with, one per
# file; what libFuzzer finds in addition stays in WORKDIR.  The last line is
# "N passed, N failed".
#
set -u
workdir=$1
shift
seconds=${FUZZ_SECONDS:-10}
passed=0
failed=0

fuzz_one() {
	local name corpus=()

	name=$(basename "$1")
	mkdir -p "$workdir/found/$name"
	if [ -d "test/fuzz/corpus/${name#fuzz_}" ]; then
		corpus=("test/fuzz/corpus/${name#fuzz_}")
	fi
	"$1" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 -print_final_stats=1 \
		-artifact_prefix="$workdir/$name-" "$workdir/found/$name" ${corpus[@]+"${corpus[@]}"} \
		>"$workdir/$name.log" 2>&1
	echo $? >"$workdir/$name.status"
}

while [ $# -gt 0 ]; do
	pair=("$@")
	pair=("${pair[@]:0:2}")
	for program in "${pair[@]}"; do
		fuzz_one "$program" &
	done
	wait
	for program in "${pair[@]}"; do
		name=$(basename "$program")
		if [ "$(cat "$workdir/$name.status")" = 0 ]; then
			passed=$((passed + 1))
			runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$workdir/$name.log")
			echo "ok - $name (${runs:-?} inputs)"
		else
			failed=$((failed + 1))
			echo "not ok - $name, see $workdir/$name.log; the input is $workdir/$name-*"
			grep -A 30 -E 'ERROR:|runtime error:|ALARM:' "$workdir/$name.log" | head -n 45 | sed 's/^/    /'
			tail -n 5 "$workdir/$name.log" | sed 's/^/    /'
		fi
		shift
	done
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
