#!/usr/bin/env bash
#
# All tests of dtm_pg, on any Debian machine, as root or as a user with sudo.
#
#   scripts/check.sh                     everything
#   scripts/check.sh unit regress        only these kinds
#
# Kinds: layers compat filesize style unit fuzz build symbols regress isolation
# sql tap interop.  What needs a server gets a throwaway one; see scripts/lib.sh.
# interop fetches the SDKs of DTM from their registries.
# FUZZ_SECONDS (10), HISTORIES (1000000) and TAP_JOBS (2) set the effort.
#
# The last line is "N passed, N failed"; the exit status is 0 only when nothing
# failed and something passed.  The logs of a failed run are kept and named.
#
. "$(dirname "$0")/lib.sh"

all_kinds="layers compat filesize style unit fuzz build symbols regress isolation sql tap interop"
kinds=${*:-$all_kinds}
for kind in $kinds; do
	if [[ " $all_kinds " != *" $kind "* ]]; then
		echo "check.sh: there is no \"$kind\"; choose from: $all_kinds" >&2
		exit 2
	fi
done
wanted() { [[ " $kinds " == *" $1 "* ]]; }
needs_server() { wanted regress || wanted isolation || wanted sql; }
needs_build() { wanted build || wanted symbols || wanted tap || wanted interop || needs_server; }

total_passed=0
total_failed=0
keep=
table=()

cleanup() {
	trap - EXIT INT TERM
	workdir_end $keep
}

# Count what a kind said in the last line of its log.  A kind that ends badly
# without saying so has failed once.
count() {
	local kind=$1 status=$2 log=$LOGS/$1.log seconds=$3 summary passed=0 failed=0

	summary=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$log" | tail -n 1 || true)
	if [ -n "$summary" ]; then
		passed=${summary%% passed*}
		failed=${summary#*passed, }
		failed=${failed%% failed*}
	fi
	if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then
		failed=1
	fi
	total_passed=$((total_passed + passed))
	total_failed=$((total_failed + failed))
	table+=("$(printf '%-10s %7d %7d %6ds' "$kind" "$passed" "$failed" "$seconds")")
	echo "${table[-1]}"
	if [ "$failed" -gt 0 ]; then
		keep=keep
		echo "--- end of $log"
		tail -n 60 "$log"
		echo "---"
	fi
}

# kind NAME COMMAND...: run in the copy of the tree, as the unprivileged user
kind() {
	local name=$1 status=0 begin=$SECONDS

	shift
	wanted "$name" || return 0
	(in_source "$@") >"$LOGS/$name.log" 2>&1 || status=$?
	count "$name" $status $((SECONDS - begin))
}

# A step that others need: when it fails it is counted under the given name.
step() {
	local name=$1 status=0 begin=$SECONDS

	shift
	"$@" >"$LOGS/$name.log" 2>&1 || status=$?
	if [ $status -eq 0 ]; then
		echo "1 passed, 0 failed" >>"$LOGS/$name.log"
	fi
	if [ $status -ne 0 ] || wanted "$name"; then
		count "$name" $status $((SECONDS - begin))
	fi
	return $status
}

finish() {
	# What the servers left is only of use when something went wrong.
	if [ -n "$keep" ]; then
		echo "logs: $LOGS, of the TAP tests: $SOURCE/build/tap"
	fi
	cleanup
	echo "$total_passed passed, $total_failed failed"
	[ $total_failed -eq 0 ] && [ $total_passed -gt 0 ] && exit 0
	exit 1
}

if wanted interop; then
	"$TOP/scripts/install-deps.sh" --with-sdks
else
	"$TOP/scripts/install-deps.sh"
fi
workdir_begin
trap cleanup EXIT
trap 'exit 130' INT TERM
copy_tree
printf '%-10s %7s %7s %7s\n' kind passed failed time

for name in layers compat filesize style; do
	kind "$name" "scripts/check_$name.sh"
done

if needs_build; then
	step prepare copy_server || finish
fi
kind unit make -s -j2 unit "HISTORIES=${HISTORIES:-1000000}"
kind fuzz make -s -j2 fuzz "FUZZ_SECONDS=${FUZZ_SECONDS:-10}"

if needs_build; then
	step build build_and_install || finish
	kind symbols scripts/check_symbols.sh dtm_pg.so
fi
if needs_server; then
	step cluster cluster_start || finish
	for name in regress isolation sql; do
		kind "$name" make -s "$name"
	done
	cluster_stop
fi
if wanted tap; then
	# set, so that make does not begin a cluster: the TAP tests have their own
	PGHOST=${PGHOST:-$WORK} kind tap make -s tap "TAP_JOBS=${TAP_JOBS:-2}"
fi
if wanted interop; then
	PGHOST=${PGHOST:-$WORK} kind interop make -s interop "TAP_JOBS=${TAP_JOBS:-2}"
fi
finish
