-- The extension's members and their privileges, so that what is new shows up in review.
SET client_min_messages = warning;
\pset format unaligned
\pset tuples_only on
-- (the row types of tables and views are members since PostgreSQL 17)
SELECT pg_describe_object(d.classid, d.objid, 0)
FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
WHERE e.extname = 'dtm_pg' AND d.deptype = 'e' AND d.classid <> 'pg_type'::regclass
ORDER BY pg_describe_object(d.classid, d.objid, 0) COLLATE "C";

-- privileges: owner's left out, "=" would be PUBLIC
SELECT member.kind, member.name, coalesce((SELECT string_agg(coalesce(r.rolname, 'PUBLIC') || ' ' || a.privilege_type, ', ' ORDER BY 1)
	FROM aclexplode(coalesce(member.acl, acldefault(member.acltype, member.owner))) AS a
	LEFT JOIN pg_roles AS r ON r.oid = a.grantee
	WHERE a.grantee <> member.owner), '-') AS granted
FROM (
	SELECT 'schema' AS kind, n.nspname::text AS name, n.nspacl AS acl, n.nspowner AS owner, 'n'::"char" AS acltype, 'pg_namespace'::regclass AS class, n.oid FROM pg_namespace AS n
	UNION ALL SELECT CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' WHEN 'S' THEN 'sequence' ELSE c.relkind::text END, c.oid::regclass::text, c.relacl, c.relowner,
		(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END)::"char", 'pg_class'::regclass, c.oid FROM pg_class AS c
	UNION ALL SELECT 'function', p.oid::regprocedure::text, p.proacl, p.proowner, 'f', 'pg_proc'::regclass, p.oid FROM pg_proc AS p
) AS member
	JOIN pg_depend AS d ON d.classid = member.class AND d.objid = member.oid AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
	JOIN pg_extension AS e ON e.oid = d.refobjid
WHERE e.extname = 'dtm_pg'
ORDER BY member.kind, member.name COLLATE "C";

-- what a role gets from dtm_grant beyond nothing, and what it does not get
CREATE ROLE regress_dtm_catalog;
SELECT dtm_grant('regress_dtm_catalog');
SELECT string_agg(p.oid::regprocedure::text, E'\n' ORDER BY p.oid::regprocedure::text COLLATE "C")
FROM pg_proc AS p JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
	JOIN pg_extension AS e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
WHERE e.extname = 'dtm_pg' AND NOT has_function_privilege('regress_dtm_catalog', p.oid, 'EXECUTE');
SELECT c.oid::regclass FROM pg_class AS c WHERE c.relnamespace = 'dtm'::regnamespace AND c.relkind IN ('r', 'v')
	AND has_table_privilege('regress_dtm_catalog', c.oid, 'SELECT') ORDER BY c.relname;
-- twice does no harm
SELECT dtm_grant('regress_dtm_catalog');
-- a name that has to be quoted
CREATE ROLE "regress dtm ""quoted""; DROP TABLE dtm.trans";
SELECT dtm_grant('"regress dtm ""quoted""; DROP TABLE dtm.trans"');
SELECT dtm_grant('-');
SELECT dtm_grant('999999');
SELECT has_table_privilege('regress dtm "quoted"; DROP TABLE dtm.trans', 'dtm.transactions', 'SELECT');
DROP OWNED BY regress_dtm_catalog, "regress dtm ""quoted""; DROP TABLE dtm.trans";
DROP ROLE regress_dtm_catalog, "regress dtm ""quoted""; DROP TABLE dtm.trans";

-- functions: language, volatility, parallel safety, strict, security definer, settings
SELECT p.oid::regprocedure, l.lanname, p.provolatile, p.proparallel, p.proisstrict, p.prosecdef, p.proconfig
FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang
	JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
	JOIN pg_extension AS e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
WHERE e.extname = 'dtm_pg' ORDER BY p.oid::regprocedure::text COLLATE "C";
-- those that could be led astray by a search_path
SELECT p.oid::regprocedure FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang
	JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
	JOIN pg_extension AS e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
WHERE e.extname = 'dtm_pg' AND l.lanname <> 'c' AND p.prosqlbody IS NULL
	AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS c WHERE c ~ '^search_path=.*pg_temp$');

-- columns that people and programs rely on
SELECT c.oid::regclass || ': ' || string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum)
FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relnamespace = 'dtm'::regnamespace AND c.relkind = 'v' GROUP BY c.oid, c.relname ORDER BY c.relname;
-- what pg_dump copies
SELECT c::regclass FROM pg_extension, unnest(extconfig) AS c WHERE extname = 'dtm_pg' ORDER BY c::regclass::text COLLATE "C";

-- the extension stays where it is, and comes and goes as one
ALTER EXTENSION dtm_pg SET SCHEMA pg_catalog;
DROP TABLE dtm.trans;
DROP FUNCTION dtm_gid();
SELECT extversion, extrelocatable FROM pg_extension WHERE extname = 'dtm_pg';

-- in another schema it works as well
CREATE DATABASE regress_dtm_elsewhere;
\c regress_dtm_elsewhere
SET client_min_messages = warning;
\pset format unaligned
\pset tuples_only on
CREATE SCHEMA "Else Where";
CREATE EXTENSION dtm_pg SCHEMA "Else Where";
CREATE ROLE regress_dtm_elsewhere;
SELECT "Else Where".dtm_grant('regress_dtm_elsewhere');
CREATE TABLE done (a int);
CREATE FUNCTION mark(payload jsonb) RETURNS void LANGUAGE sql SECURITY DEFINER AS $$ INSERT INTO public.done VALUES (payload::int) $$;
SET ROLE regress_dtm_elsewhere;
SELECT "Else Where".dtm_saga_submit(jsonb_build_array("Else Where".dtm_step('sql:public.mark', payload => '1')), 'elsewhere');
SELECT "Else Where".dtm_wait('elsewhere');
SELECT gid, status, submitted_by FROM dtm.transactions;
RESET ROLE;
SELECT a FROM done;
DROP OWNED BY regress_dtm_elsewhere;
DROP ROLE regress_dtm_elsewhere;
-- dropped with something submitted in the same transaction
BEGIN;
SELECT "Else Where".dtm_saga_submit('[{"action": "sql:mark", "payload": 2}]', 'dropped');
DROP EXTENSION dtm_pg;
ROLLBACK;
SELECT count(*) FROM dtm.transactions;
BEGIN;
SELECT "Else Where".dtm_saga_submit('[{"action": "sql:mark", "payload": 2}]', 'dropped');
DROP EXTENSION dtm_pg;
COMMIT;
CREATE EXTENSION dtm_pg SCHEMA "Else Where";
-- dropped, it leaves nothing; created again, it works again
DROP EXTENSION dtm_pg;
SELECT count(*) FROM pg_namespace WHERE nspname = 'dtm';
SELECT count(*) FROM pg_proc WHERE proname LIKE 'dtm\_%';
BEGIN;
CREATE EXTENSION dtm_pg;
SELECT dtm_saga_submit('[{"action": "sql:mark", "payload": 2}]', 'elsewhere');
COMMIT;
SELECT dtm_wait('elsewhere');
SELECT a FROM done ORDER BY a;
\c postgres
DROP DATABASE regress_dtm_elsewhere WITH (FORCE);
