#!/usr/bin/env bash
#
# Hold the line: nothing in src/core and src/net includes a header of
# PostgreSQL, src/core does no I/O and reads no clock, and includes point
# downwards only: core < net < store < worker < sql < serve < src/*.c.
#
# src/*.h (compatibility, settings) is for everything above the line.
# The last line is "N passed, N failed".
#
set -u
cd "$(dirname "$0")/.." || exit 1

rank() {
	case $1 in
		src/core/*) echo 0 ;;
		src/net/*) echo 1 ;;
		src/store/*) echo 2 ;;
		src/worker/*) echo 3 ;;
		src/sql/*) echo 4 ;;
		src/serve/*) echo 5 ;;
		src/*.h) echo 2 ;;
		*) echo 6 ;;
	esac
}

# What the rules may use: types, strings, formatting.
core_system='assert|ctype|errno|float|inttypes|limits|math|stdarg|stdbool|stddef|stdint|stdio|stdlib|string|strings|arpa/inet|netinet/in|sys/socket|sys/types'
core_calls='(^|[^_.>a-zA-Z0-9])(fopen|fprintf|printf|puts|malloc|calloc|realloc|free|time|clock|clock_gettime|gettimeofday|getenv|rand|random|socket|connect|open|read|write)[[:space:]]*\('
broken=0
complain() {
	echo "not ok - $*"
	broken=$((broken + 1))
}

for file in $(find src -name '*.c' -o -name '*.h' | sort); do
	own=$(rank "$file")
	while IFS=: read -r line header; do
		header=$(sed 's/.*include[[:space:]]*//' <<<"$header")
		if [[ $header == \"* ]]; then
			name=${header//\"/}
			found=$(find src -name "$(basename "$name")" | head -n 1)
			if [ -n "$found" ]; then
				other=$(rank "$found")
				if [ "$other" -gt "$own" ]; then
					complain "$file:$line: includes $found, which is above it"
				fi
			elif [ "$own" -le 1 ]; then
				complain "$file:$line: includes \"$name\", which is not in src/core or src/net"
			fi
		else
			name=${header//[<>]/}
			if [ "$own" -eq 0 ] && ! [[ $name =~ ^($core_system)\.h$ ]]; then
				complain "$file:$line: src/core includes <$name>: no I/O, no clock, no library"
			elif [ "$own" -eq 1 ] && [[ $name =~ ^(postgres|libpq/|utils/|catalog/|nodes/|storage/|executor/|fmgr|miscadmin) ]]; then
				complain "$file:$line: includes <$name> of PostgreSQL below the line"
			fi
		fi
	done < <(grep -noE '^[[:space:]]*#[[:space:]]*include[[:space:]]*[<"][^>"]+[>"]' "$file")
done

while IFS= read -r hit; do
	complain "$hit: I/O, clock or allocation in src/core"
done < <(grep -nHE "$core_calls" src/core/*.[ch] 2>/dev/null | grep -vE ':[[:space:]]*(/?\*|//)' | cut -c1-120)
while IFS= read -r hit; do
	complain "$hit: ends the process below the line"
done < <(grep -nHE '(^|[^_.>a-zA-Z0-9])(abort|exit|_exit|assert)[[:space:]]*\(' src/core/*.[ch] src/net/*.[ch] 2>/dev/null | grep -vE ':[[:space:]]*(/?\*|//)' | cut -c1-120)

if [ $broken -eq 0 ]; then
	echo "ok - layers"
	echo "1 passed, 0 failed"
else
	echo "0 passed, $broken failed"
	exit 1
fi
