#!/usr/bin/env bash
#
# The library lives in every server process: all that it exports begins with
# dtm_, or is what PostgreSQL looks for.  And what it takes from another
# library must not be a name of the server's: that one would be called, as
# json_object() is the function of SQL, not jansson's.
# scripts/check_symbols.sh dtm_pg.so
# The last line is "N passed, N failed".
#
set -u
library=$1

symbols=$(nm -D --defined-only "$library" | awk '{ print $NF }') || exit 1
foreign=$(grep -vE '^(dtm_[a-z0-9_]*|pg_finfo_dtm_[a-z0-9_]*|_PG_init|Pg_magic_func)$' <<<"$symbols")
if [ -n "$foreign" ]; then
	echo "not ok - exported by $library:"
	sed 's/^/    /' <<<"$foreign"
	echo "0 passed, 1 failed"
	exit 1
fi
# nothing exported at all would pass the above
for needed in _PG_init Pg_magic_func; do
	if ! grep -qx "$needed" <<<"$symbols"; then
		echo "not ok - $library does not export $needed"
		echo "0 passed, 1 failed"
		exit 1
	fi
done
server=$("${PG_CONFIG:-pg_config}" --bindir)/postgres
ours=$(nm -D --undefined-only "$library" | awk '{ print $NF }' | sed 's/@.*//' | sort -u)
theirs=$(nm -D --defined-only "$server" | awk '{ print $NF }' | sed 's/@.*//' | sort -u)
if [ -z "$theirs" ]; then
	echo "not ok - no symbols found in $server"
	echo "0 passed, 1 failed"
	exit 1
fi
for other in $(ldd "$library" | awk '$1 ~ /^lib(jansson|curl|microhttpd)/ { print $3 }'); do
	names=$(nm -D --defined-only "$other" | awk '{ print $NF }' | sed 's/@.*//' | sort -u)
	hidden=$(comm -12 <(comm -12 <(echo "$ours") <(echo "$theirs")) <(echo "$names"))
	if [ -n "$hidden" ]; then
		echo "not ok - meant to be of $other, but the server has them too:"
		sed 's/^/    /' <<<"$hidden"
		echo "0 passed, 1 failed"
		exit 1
	fi
done
echo "ok - symbols ($(wc -l <<<"$symbols"))"
echo "1 passed, 0 failed"
