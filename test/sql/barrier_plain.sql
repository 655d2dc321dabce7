-- The branch barrier of sql/dtm_barrier_plain.sql, in a database without the extension.
\set plain `echo "$PG_ABS_SRCDIR/../sql/dtm_barrier_plain.sql"`
\set include `echo "$PG_ABS_SRCDIR/sql/include/barrier_cases.sql"`

-- where the extension is, the file changes nothing
\set regression :DBNAME
\setenv REGRESSION :DBNAME
\! psql -Xq -v VERBOSITY=sqlstate -v ON_ERROR_STOP=1 -d "$REGRESSION" -f "$PG_ABS_SRCDIR/../sql/dtm_barrier_plain.sql" 2>&1 | sed 's/.*ERROR/ERROR/'
SELECT count(*) FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
 WHERE p.proname LIKE 'dtm_barrier%' AND l.lanname = 'c';

CREATE DATABASE regression_barrier_plain TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';
\c regression_barrier_plain
\set ECHO none
\set ON_ERROR_STOP 1
\i :plain
INSERT INTO dtm.barrier (gid) VALUES ('kept');
\i :plain
\set ON_ERROR_STOP 0
\set ECHO all
-- running the file again keeps the rows
SELECT gid FROM dtm.barrier;
DELETE FROM dtm.barrier;

\i :include

-- no helper and no table is open to PUBLIC
SELECT p.oid::regprocedure, a.privilege_type
  FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
 WHERE a.grantee = 0 AND (p.pronamespace = 'dtm'::regnamespace OR p.proname LIKE 'dtm_%');
-- each function that runs as its owner has a search_path of its own
SELECT p.oid::regprocedure FROM pg_proc p
 WHERE p.prosecdef AND p.proconfig IS DISTINCT FROM '{"search_path=pg_catalog, pg_temp"}';
-- the settings that carry the counts end with the transaction
SELECT dtm_barrier('saga', 'setting', '01', 'action');
SELECT count(*) FROM current_setting('dtm_barrier.passed_'
	|| left(md5('["setting", "01", "action"]'), 2), true) AS counts WHERE counts = '';
SELECT dtm_barrier('saga', 'setting', '01', 'action');
-- a batch
SELECT count(*) FROM generate_series(1, 2000) AS n WHERE dtm_barrier('saga', 'batch-' || n, '01', 'action');
SELECT barrier_id, count(*) FROM dtm.barrier WHERE gid LIKE 'batch-%' GROUP BY 1;

\c :regression
DROP DATABASE regression_barrier_plain WITH (FORCE);
