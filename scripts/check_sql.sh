#!/usr/bin/env bash
#
# Rules about the extension's SQL objects, asked of a running server (PGHOST,
# PGPORT, PGUSER) with the extension installed.  Each rule is a query for the
# objects that break it.  The last line is "N passed, N failed".
#
set -u
dbname=dtm_check_sql
export PGOPTIONS="-c client_min_messages=warning"
passed=0
failed=0

run() {
	psql -XAtq -v ON_ERROR_STOP=1 -d "$dbname" -c "$1"
}

# rule NAME QUERY: no row may come back
rule() {
	local rows

	if ! rows=$(run "$2" 2>&1) || [ -n "$rows" ]; then
		echo "not ok - $1:"
		sed 's/^/    /' <<<"$rows"
		failed=$((failed + 1))
	else
		echo "ok - $1"
		passed=$((passed + 1))
	fi
}

psql -XAtq -d postgres -c "DROP DATABASE IF EXISTS $dbname WITH (FORCE)" -c "CREATE DATABASE $dbname" || exit 1
if ! run "CREATE EXTENSION dtm_pg"; then
	echo "0 passed, 1 failed"
	exit 1
fi

# The row types of tables and views are members since PostgreSQL 17; they have nothing of their own.
members="(SELECT d.classid, d.objid, pg_describe_object(d.classid, d.objid, 0) AS name
	FROM pg_depend d JOIN pg_extension e ON d.refobjid = e.oid AND d.refclassid = 'pg_extension'::regclass
	WHERE e.extname = 'dtm_pg' AND d.deptype = 'e'
	  AND d.classid <> 'pg_type'::regclass) AS member"
functions="$members JOIN pg_proc p ON classid = 'pg_proc'::regclass AND objid = p.oid"
relations="$members JOIN pg_class c ON classid = 'pg_class'::regclass AND objid = c.oid"

# Without members every other rule would hold.
rule "the extension has functions, a table and a view" \
	"SELECT 'missing: ' || want FROM unnest('{function,table,view}'::text[]) AS want
	 WHERE NOT EXISTS (SELECT FROM $members WHERE name LIKE want || ' %')"
rule "every object has a comment" \
	"SELECT name FROM $members LEFT JOIN pg_class c ON classid = 'pg_class'::regclass AND objid = c.oid
	 WHERE obj_description(objid, classid::regclass::name) IS NULL AND c.relkind IS DISTINCT FROM 'S' ORDER BY 1"
rule "every function that is not C or an atomic body sets its search_path" \
	"SELECT name FROM $functions JOIN pg_language l ON l.oid = p.prolang
	 WHERE l.lanname NOT IN ('c', 'internal') AND p.prosqlbody IS NULL
	   AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS set WHERE set LIKE 'search_path=%') ORDER BY 1"
rule "every SECURITY DEFINER function has pg_temp last in its search_path" \
	"SELECT name FROM $functions WHERE p.prosecdef
	   AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS set WHERE set ~ '^search_path=.*pg_temp\"?\$') ORDER BY 1"
rule "nothing is granted to PUBLIC: functions" \
	"SELECT name FROM $functions, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS acl
	 WHERE acl.grantee = 0 ORDER BY 1"
rule "nothing is granted to PUBLIC: tables, views, sequences" \
	"SELECT name FROM $relations, aclexplode(c.relacl) AS acl WHERE acl.grantee = 0
	 UNION SELECT name || ' column ' || a.attname FROM $relations JOIN pg_attribute a ON a.attrelid = c.oid,
	 aclexplode(a.attacl) AS acl WHERE acl.grantee = 0 ORDER BY 1"
rule "nothing is granted to PUBLIC: schemas" \
	"SELECT name FROM $members JOIN pg_namespace n ON classid = 'pg_namespace'::regclass AND objid = n.oid,
	 aclexplode(n.nspacl) AS acl WHERE acl.grantee = 0 ORDER BY 1"
rule "functions begin with dtm_ or live in schema dtm" \
	"SELECT name FROM $functions WHERE p.proname !~ '^dtm_' AND p.pronamespace <> 'dtm'::regnamespace ORDER BY 1"
rule "tables and views live in schema dtm" \
	"SELECT name FROM $relations WHERE c.relnamespace <> 'dtm'::regnamespace ORDER BY 1"
rule "no table is unlogged" \
	"SELECT name FROM $relations WHERE c.relpersistence <> 'p' ORDER BY 1"
rule "every setting has a description" \
	"SELECT name FROM pg_settings WHERE name LIKE 'dtm.%' AND coalesce(short_desc, '') = '' ORDER BY 1"

psql -XAtq -d postgres -c "DROP DATABASE $dbname WITH (FORCE)"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
