#!/usr/bin/env bash
#
# Run the unit test programs: scripts/run_unit.sh LOGDIR PROGRAM...
#
# A program ends with 0 when all went well.  Its checks are counted by its line
# "... N passed, N failed", or by lines "ok ..." and "not ok ..."; a program
# without them, or with so many that they must come from generated cases,
# counts as one test.  One that dies is a failure whatever it printed.
# The last line is "N passed, N failed".
#
set -u
logdir=$1
shift
passed=0
failed=0

for program in "$@"; do
	name=$(basename "$program")
	log=$logdir/$name.log
	args=()
	case $name in
		fast_test_histories) args=("${HISTORIES:-1000000}") ;;
		test_histories) args=("${HISTORIES_SANITIZED:-50000}") ;;
	esac
	UBSAN_OPTIONS=print_stacktrace=1 timeout "${UNIT_TIMEOUT:-300}" "$program" ${args[@]+"${args[@]}"} >"$log" 2>&1
	status=$?
	summary=$(grep -oE '[0-9]+ passed, [0-9]+ failed$' "$log" | tail -n 1)
	if [ -n "$summary" ]; then
		good=${summary%% passed*}
		bad=${summary#*passed, }
		bad=${bad%% failed*}
	else
		good=$(grep -c -E '^[[:space:]]*ok\b' "$log")
		bad=$(grep -c -E '^[[:space:]]*not ok\b' "$log")
		[ $((good + bad)) -gt 0 ] || [ $status -ne 0 ] || good=1
	fi
	checks=$good
	[ "$good" -le 10000 ] || good=1
	if [ $status -ne 0 ] && [ "$bad" -eq 0 ]; then
		bad=1
	fi
	passed=$((passed + good))
	failed=$((failed + bad))
	if [ "$bad" -eq 0 ]; then
		echo "ok - $name ($checks checks)"
	else
		echo "not ok - $name: exit status $status, see $log"
		grep -E '^[[:space:]]*not ok\b' "$log" | head -n 20
		tail -n 25 "$log" | sed 's/^/    /'
	fi
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
