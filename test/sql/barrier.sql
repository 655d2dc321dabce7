-- The branch barrier of the extension.
\set include `echo "$PG_ABS_SRCDIR/sql/include/barrier_cases.sql"`
\i :include

--
-- What only the functions in C have
--

-- its user is back after an error outside of any savepoint
CREATE ROLE regress_dtm_service;
GRANT EXECUTE ON FUNCTION dtm_barrier(text) TO regress_dtm_service;
SET ROLE regress_dtm_service;
SELECT dtm_barrier('gid=user&trans_type=msg&branch_id=00&op=msg');
SELECT dtm_barrier('gid=user&trans_type=msg&branch_id=00&op=msg');
SELECT current_user;
RESET ROLE;
REVOKE EXECUTE ON FUNCTION dtm_barrier(text) FROM regress_dtm_service;
DROP ROLE regress_dtm_service;

-- exactly one statement, and each parameter used
\set VERBOSITY sqlstate
SELECT dtm_barrier_run('gid=e&trans_type=saga&branch_id=01&op=action', 'SELECT 1; SELECT 2');
SELECT dtm_barrier_run('gid=e&trans_type=saga&branch_id=01&op=action', 'SELECT $2::int', '1', '2');
\set VERBOSITY default
SELECT dtm_barrier_run('gid=e&trans_type=saga&branch_id=01&op=action', 'SELECT $1 + 1 FROM nowhere', '1');
SELECT dtm_barrier_run('gid=e&trans_type=saga&branch_id=01&op=action', 'SELECT $1::int; ', '1');
-- a domain checks its values, NULL too
CREATE DOMAIN barrier_positive AS int NOT NULL CHECK (VALUE > 0);
\set VERBOSITY sqlstate
SELECT dtm_barrier_run('gid=e&trans_type=saga&branch_id=02&op=action', 'SELECT $1::barrier_positive', '0');
SELECT dtm_barrier_run('gid=e&trans_type=saga&branch_id=02&op=action', 'SELECT $1::barrier_positive', NULL);
\set VERBOSITY default
SELECT dtm_barrier_run('gid=e&trans_type=saga&branch_id=02&op=action', 'SELECT $1::barrier_positive', '1');
DROP DOMAIN barrier_positive;

-- in a batch, counting costs the same for each branch
SELECT count(*) FROM generate_series(1, 10000) AS n WHERE dtm_barrier('saga', 'batch-' || n, '01', 'action');
SELECT barrier_id, count(*) FROM dtm.barrier WHERE gid LIKE 'batch-%' GROUP BY 1;

-- the caller's search_path does not lead the functions astray
CREATE SCHEMA barrier_trap;
CREATE TABLE barrier_trap.barrier (LIKE dtm.barrier);
CREATE FUNCTION barrier_trap.eq(varchar, text) RETURNS boolean LANGUAGE sql AS 'SELECT 1/0 = 1';
CREATE OPERATOR barrier_trap.= (LEFTARG = varchar, RIGHTARG = text, FUNCTION = barrier_trap.eq);
BEGIN;
SET LOCAL search_path = barrier_trap, pg_catalog, public;
SELECT dtm_barrier('msg', 'trap', '00', 'msg');
SELECT dtm_barrier_query_prepared('gid=trap&trans_type=msg&branch_id=00&op=msg');
SELECT count(*) FROM barrier_trap.barrier;
COMMIT;
SET client_min_messages = warning;
DROP SCHEMA barrier_trap CASCADE;
RESET client_min_messages;

-- a prepared transaction keeps its row, and the count starts anew
SELECT current_setting('max_prepared_transactions')::int > 0 AS two_phase \gset
\if :two_phase
BEGIN;
SELECT dtm_barrier('xa', 'prepared', '01', 'action') \g /dev/null
PREPARE TRANSACTION 'barrier_prepared';
COMMIT PREPARED 'barrier_prepared';
\else
SELECT dtm_barrier('xa', 'prepared', '01', 'action') \g /dev/null
\endif
BEGIN;
SELECT dtm_barrier('xa', 'prepared', '01', 'action');
COMMIT;
SELECT barrier_id FROM dtm.barrier WHERE gid = 'prepared';

-- at stricter levels a conflict with a newer row is PostgreSQL's serialization error only when it is
-- newer than the snapshot: an old row is seen, and skipped
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT dtm_barrier('xa', 'prepared', '01', 'action');
COMMIT;

DELETE FROM dtm.barrier;
\d dtm.barrier
SELECT p.proname, pg_get_function_arguments(p.oid) AS arguments, p.provolatile, p.proparallel
  FROM pg_proc p WHERE p.proname LIKE 'dtm_barrier%' ORDER BY 1, 2;
