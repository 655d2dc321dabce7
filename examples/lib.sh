# Shared by the examples' run.sh: output, checks, databases, services and one
# report per transaction.  To be sourced by bash.
#
# Wants a running server in PGHOST, PGPORT, PGUSER (a superuser) whose
# shared_preload_libraries has dtm_pg.  PYTHON names another Python than
# /usr/bin/python3.
#
# Whoever sources it sets: home, the database whose coordinator does the work.

set -euo pipefail
examples=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-/usr/bin/python3}
export PATH="${PG_BIN:+$PG_BIN:}$PATH"
export PGOPTIONS="${PGOPTIONS:-} -c client_min_messages=warning"
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$examples

work=$(mktemp -d "${TMPDIR:-/tmp}/dtm_example.XXXXXX")
started=				# names of the services that run
pids=
failures=0
passed=0
: >"$work/calls"		# what the services say, a line per call

cleanup()
{
	# Only what this run started, each by its number.
	for pid in $pids; do
		kill "$pid" 2>/dev/null || true
	done
	for pid in $pids; do
		wait "$pid" 2>/dev/null || true
	done
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# ------------------------------------------------------------------ output

if [ -t 1 ]; then
	bold=$'\e[1m' red=$'\e[31m' plain=$'\e[0m'
else
	bold= red= plain=
fi

title()		{ printf '\n%s=== %s ===%s\n' "$bold" "$*" "$plain"; }
heading()	{ printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
say()		{ printf '%s\n' "$*"; }
indent()	{ sed -e '/^$/d' -e 's/^/  /'; }

die()
{
	printf '%s: %s\n' "$0" "$*" >&2
	exit 1
}

# ------------------------------------------------------------------ checks

# check WHAT EXPECTED FOUND
check()
{
	if [ "$2" = "$3" ]; then
		printf '  ok    %s\n' "$1"
		passed=$((passed + 1))
	else
		printf '  %sFAIL  %s: expected "%s", found "%s"%s\n' "$red" "$1" "$2" "$3" "$plain"
		failures=$((failures + 1))
	fi
}

# at_least WHAT NUMBER FOUND: a busy machine may need a call more
at_least()
{
	if [ "$3" -ge "$2" ]; then
		check "$1" "$3" "$3"
	else
		check "$1" "$2 or more" "$3"
	fi
}

# The last lines, and the exit status of the example.
sum_up()
{
	local name

	check "transactions that are not finished: 0" 0 \
		"$(sql "$home" "SELECT count(*) FROM dtm.transactions WHERE status NOT IN ('succeed', 'failed')")"
	say ""
	if [ "$failures" -gt 0 ]; then
		for name in $started; do
			[ ! -s "$work/$name.err" ] || sed "s/^/$name: /" "$work/$name.err" >&2
		done
		say "${red}$failures checks failed${plain}, $passed held"
		exit 1
	fi
	say "all $passed checks hold after $SECONDS s"
}

# --------------------------------------------------------------------- SQL

# sql DATABASE COMMAND: bare values, for the script itself
sql()
{
	psql -X -q -A -t -v ON_ERROR_STOP=1 -d "$1" -c "$2"
}

# show_sql COMMAND: the command in $home as a user would type it, and its result
show_sql()
{
	printf '%s\n' "$1" | sed -e "1s/^/  $home=# /" -e "2,\$s/^/  $home-# /"
	printf '%s\n' "$1" |
		psql -X -q -v ON_ERROR_STOP=1 -P footer=off -P null= -d "$home" |
		sed -e 's/[[:space:]]*$//' | indent
}

# wait_for_sql QUERY: until it says true, at most 30 s
wait_for_sql()
{
	local i

	for ((i = 0; i < 300; i++)); do
		[ "$(sql "$home" "SELECT $1")" != t ] || return 0
		sleep 0.1
	done
	die "waited in vain for: $1"
}

# ------------------------------------------------------------------- set-up

need_server()
{
	sql postgres "SELECT 1" >/dev/null ||
		die "no server at PGHOST=${PGHOST:-} PGPORT=${PGPORT:-}"
	case $(sql postgres "SHOW shared_preload_libraries") in
		*dtm_pg*) ;;
		*) die "the server has no shared_preload_libraries = 'dtm_pg': nothing would drive the transactions" ;;
	esac
}

need_psycopg2()
{
	"$python" -c 'import psycopg2' 2>/dev/null ||
		die "$python has no psycopg2: apt-get install python3-psycopg2, or set PYTHON"
}

# new_database NAME FILE...: run the SQL files in a new database.  One of this
# name is dropped when an earlier run has made it, and else left alone.
new_database()
{
	local db=$1 mark="example $home of dtm_pg" file

	shift
	case $(sql postgres "SELECT coalesce(shobj_description(oid, 'pg_database'), '')
			FROM pg_database WHERE datname = '$db'") in
		"$mark") sql postgres "DROP DATABASE $db WITH (FORCE)" ;;
		*)
			if [ -n "$(sql postgres "SELECT 1 FROM pg_database WHERE datname = '$db'")" ]; then
				die "database \"$db\" exists and is not this example's: drop or rename it first"
			fi
			;;
	esac
	sql postgres "CREATE DATABASE $db"
	sql postgres "COMMENT ON DATABASE $db IS '$mark'"
	for file in "$@"; do
		psql -X -q -v ON_ERROR_STOP=1 -d "$db" -f "$file" >/dev/null
	done
}

# start_service NAME PROGRAM ARGUMENT...: a Python program that opens a port and
# writes it into the file that --port-file names.  Its URL is then in table
# service of $home.
start_service()
{
	local name=$1 port i

	shift
	rm -f "$work/$name.port"
	"$python" "$@" --port-file "$work/$name.port" >>"$work/calls" 2>"$work/$name.err" &
	pids="$pids $!"
	started="$started $name"
	echo "$!" >"$work/$name.pid"
	for ((i = 0; i < 300; i++)); do
		[ ! -s "$work/$name.port" ] || break
		kill -0 "$!" 2>/dev/null || break
		sleep 0.1
	done
	port=$(cat "$work/$name.port" 2>/dev/null || true)
	[ -n "$port" ] || die "the $name service does not start: $(cat "$work/$name.err")"
	sql "$home" "INSERT INTO service VALUES ('$name', 'http://127.0.0.1:$port')"
	printf '  %-9s http://127.0.0.1:%s   pid %s\n' "$name" "$port" "$(cat "$work/$name.pid")"
}

# ------------------------------------------------------------- transactions

# calls_of GID: what the services saw of it
calls_of()
{
	grep -F -- "  $1  " "$work/calls" || true
}

# report GID STATUS: wait for the end, show what became of it, check the status
report()
{
	local status

	status=$(sql "$home" "SELECT dtm_wait('$1')")
	heading "Its end"
	printf "  %s=# SELECT dtm_wait('%s');\n   %s\n" "$home" "$1" "$status"
	heading "How it went"
	show_sql "SELECT * FROM dtm_timeline('$1');"
	heading "What each branch says"
	show_sql "SELECT branch_id, op, status, attempts, last_error FROM dtm.branches
WHERE gid = '$1' ORDER BY branch_id, op;"
	if [ -n "$(calls_of "$1")" ]; then
		heading "What the services saw"
		calls_of "$1" | indent
	fi
	heading "Checks"
	check "dtm_wait('$1'): $2" "$2" "$status"
	case $status in
		succeed|failed) ;;
		*)
			heading "It does not end: the workers, and what is stuck"
			show_sql "SELECT * FROM dtm.workers;" || true
			show_sql "SELECT * FROM dtm.stuck;" || true
			exit 1
			;;
	esac
}
