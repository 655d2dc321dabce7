-- What dtm.transactions, dtm.branches, dtm.stuck, dtm.statistics, dtm.workers and dtm_timeline show.
CREATE SCHEMA views;
SET search_path = views, public;
SET client_min_messages = warning;
\set include `echo "$PG_ABS_SRCDIR/sql/include/wait_for.sql"`
CREATE FUNCTION works(payload jsonb) RETURNS void LANGUAGE sql AS 'SELECT';
CREATE FUNCTION refuses(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM dtm_fail('no "stock"'); END $$;
CREATE FUNCTION broken(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'it''s broken' USING ERRCODE = 'ZZ999'; END $$;
CREATE FUNCTION ongoing(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM dtm_ongoing('wait'); END $$;

--
-- One of each state
--
CREATE TABLE statistics_before AS SELECT * FROM dtm.statistics;
SELECT dtm_saga_submit('[{"action": "http://127.0.0.1:9/"}]', 'view-later', start_after => '1 day');
SELECT dtm_saga_submit('[{"action": "sql:works", "name": "do it", "compensate": "sql:works"}, {"action": ""}]', 'view-good');
SELECT dtm_saga_submit('[{"action": "sql:works"}, {"action": "sql:refuses", "compensate": "sql:works"}]', 'view-refused');
SELECT dtm_saga_submit('[{"action": "sql:works", "compensate": "sql:broken"}, {"action": "sql:refuses"}]', 'view-''stuck''', retry_interval => '1 ms');
SELECT dtm_saga_submit('[{"action": "sql:ongoing"}]', 'view-ongoing', retry_interval => '1 day');
SELECT dtm_wait('view-good'), dtm_wait('view-refused');
SELECT dtm_saga_submit('[{"action": "http://127.0.0.1:9/"}]', 'view-stopped', start_after => '1 day');
SELECT dtm_stop('view-stopped', 'no longer wanted');
\set condition 'EXISTS (SELECT FROM dtm.stuck WHERE gid = ''view-''''stuck'''''') AND EXISTS (SELECT FROM dtm.branches WHERE gid = ''view-ongoing'' AND attempts > 0)'
\set ECHO none
\i :include
\set ECHO all
SELECT gid, trans_type, status, submitted_by = current_user::regrole AS mine, updated_at >= created_at AS updated, finished_at >= created_at AS finished,
	next_run_at IS NOT NULL AS runs_again, rollback_reason, result, options
FROM dtm.transactions WHERE gid LIKE 'view-%' ORDER BY gid;
SELECT gid, branch_id, name, op, url, status, CASE WHEN attempts > 2 THEN 'more' ELSE attempts::text END AS attempts, started_at IS NOT NULL AS started,
	finished_at >= started_at AS finished, regexp_replace(last_error, ' - PL/pgSQL.*', '') AS last_error, next_run_at IS NOT NULL AS runs_again
FROM dtm.branches WHERE gid LIKE 'view-%' ORDER BY gid, branch_id, op;
-- times are those of this session's zone, and near
SELECT bool_and(created_at BETWEEN now() - interval '10 min' AND clock_timestamp()) FROM dtm.transactions WHERE gid LIKE 'view-%';
SELECT next_run_at - created_at AS later FROM dtm.transactions WHERE gid = 'view-later';

-- from parallel workers, too (the setting has another name since 16)
BEGIN;
SELECT count(set_config(name, 'on', true)) FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query');
SELECT gid, status, options FROM dtm.transactions WHERE gid IN ('view-good', 'view-later') ORDER BY gid;
SELECT count(*) FROM dtm.branches WHERE gid LIKE 'view-%';
SELECT dtm_status('view-good');
COMMIT;

-- a gid is looked up, not searched for; also when it comes from a table with the collation of the database
CREATE FUNCTION plan(statement text) RETURNS SETOF text LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY EXECUTE 'EXPLAIN (COSTS OFF) ' || statement; END $$;
CREATE TABLE orders (gid text);
INSERT INTO orders VALUES ('view-good');
BEGIN;
SET LOCAL enable_seqscan = off;
SELECT v, count(*) FILTER (WHERE p LIKE '%trans_gid_key%') AS lookups
FROM unnest('{transactions, branches, stuck}'::text[]) AS v, plan(format('SELECT * FROM dtm.%I WHERE gid = ''view-good''', v)) AS p GROUP BY v ORDER BY v;
COMMIT;
SELECT gid, status FROM orders JOIN dtm.transactions USING (gid);

--
-- dtm.stuck
--
SELECT gid, trans_type, status, submitted_by = current_user::regrole AS mine, since IS NOT NULL AS since, next_run_at IS NOT NULL AS runs_again,
	regexp_replace(reason, ' - PL/pgSQL.*| \(\d+ failures.*', '') AS reason, suggestion
FROM dtm.stuck WHERE gid LIKE 'view-%' ORDER BY gid;
-- doing what it suggests
CREATE OR REPLACE FUNCTION broken(payload jsonb) RETURNS void LANGUAGE sql AS 'SELECT';
SELECT regexp_replace(suggestion, ';.*', '') AS suggestion FROM dtm.stuck WHERE gid = 'view-''stuck''' \gset
:suggestion;
SELECT dtm_wait('view-''stuck''');
SELECT count(*) FROM dtm.stuck WHERE gid LIKE 'view-%';
SELECT status, rollback_reason FROM dtm.transactions WHERE gid = 'view-''stuck''';

--
-- dtm.statistics
--
SELECT trans_type, a.submitted - b.submitted AS submitted, a.succeeded - b.succeeded AS succeeded, a.failed - b.failed AS failed, a.in_progress - b.in_progress AS in_progress,
	CASE WHEN a.submitted > b.submitted THEN a.latency_p50 > '0' AND a.latency_p95 >= a.latency_p50 AND a.latency_p99 >= a.latency_p95 END AS latencies, a.branch_retries - b.branch_retries >= 3 AS retries
FROM dtm.statistics AS a JOIN statistics_before AS b USING (trans_type) ORDER BY trans_type;

--
-- dtm_timeline
--
SELECT branch_id, op, target, attempt, outcome, at >= '0' AS at, took > '0' AS took, length(bar) BETWEEN 1 AND 40 AND bar ~ '^ *#+$' AS bar
FROM dtm_timeline('view-refused');
SELECT branch_id, op, target, attempt, outcome FROM dtm_timeline('view-good');
-- in the order of the calls, the last bar to the right
SELECT count(*) FILTER (WHERE at < before) AS backwards, max(length(bar)) AS width FROM (SELECT bar, at, lag(at) OVER () AS before FROM dtm_timeline('view-refused')) AS t;
-- nothing has been called
SELECT count(*) FROM dtm_timeline('view-later');
SELECT count(*) FROM dtm_timeline('view-stopped');

--
-- dtm.workers
--
SELECT w.worker, w.state, a.backend_type, w.started_at <= clock_timestamp() AS started, w.transactions_in_flight >= 0 AS in_flight, w.calls_in_flight, w.calls > 0 AS calls,
	w.finished > 0 AS finished, w.ticks > 0 AS ticks, w.rss_kb >= 0 AS rss, w.last_error
FROM dtm.workers AS w JOIN pg_stat_activity AS a USING (pid) WHERE w.state = 'running';
SELECT count(*) > 0 AS executors FROM dtm.workers WHERE state LIKE 'executor%';
SELECT count(*) AS without_process FROM dtm.workers AS w LEFT JOIN pg_stat_activity AS a USING (pid) WHERE w.pid IS NOT NULL AND a.pid IS NULL;

--
-- A damaged row is set aside, and the others can still be looked at
--
SELECT dtm_saga_submit('[{"action": "sql:works"}]', 'view-damaged', start_after => '1 day');
UPDATE dtm.trans SET spec = '\xdeadbeef' WHERE gid = 'view-damaged';
SELECT dtm_retry('view-damaged');
\set condition 'EXISTS (SELECT FROM dtm.live AS l JOIN dtm.trans AS t USING (id) WHERE t.gid = ''view-damaged'' AND l.parked)'
\set ECHO none
\i :include
\set ECHO all
SELECT gid, status, reason, suggestion FROM dtm.stuck WHERE gid = 'view-damaged';
SELECT gid, status, next_run_at, options FROM dtm.transactions WHERE gid IN ('view-damaged', 'view-good') ORDER BY gid;
SELECT gid, branch_id, op, status FROM dtm.branches WHERE gid IN ('view-damaged', 'view-good') ORDER BY 1, 2, 3;
SELECT dtm_status('view-damaged');
SELECT * FROM dtm_timeline('view-damaged');
-- any bytes
SELECT b, dtm.spec_options(b), (SELECT count(*) FROM dtm.branch_rows(now(), b, NULL)), (SELECT count(*) FROM dtm.branch_rows(now(), t.spec, b)) AS state,
	dtm.stuck_reason(now(), b, b), dtm.stuck_reason(now(), t.spec, b) AS state
FROM dtm.trans AS t, unnest(ARRAY['', '\x00', '\xff', '\x01000000', '\x0100000000000000000000000000000000ff']::bytea[]) AS b WHERE t.gid = 'view-good';
-- no text that is invalid in the encoding of the database
SELECT convert_to(b.url, 'UTF8'), convert_to(dtm.stuck_reason(now(), t.spec, '\x0100000000800a0101e20000'), 'UTF8')
FROM dtm.trans AS t, overlay(t.spec PLACING '\xe200' FROM length(t.spec) - 1) AS s (spec), dtm.branch_rows(now(), s.spec, NULL) AS b
WHERE t.gid = 'view-later' AND b.op = 'action';
SELECT dtm.spec_options('\x0101002004016101620000') AS valid, dtm.spec_options('\x010100200401e201620000') AS invalid;
SELECT dtm_stop('view-damaged');
-- times that lie beyond all reckoning
UPDATE dtm.done AS d SET state = '\x01000000000000011080808080808080806000' FROM dtm.trans AS t WHERE t.id = d.id AND t.gid = 'view-stopped';
SELECT branch_id, op, attempt, outcome, length(bar) BETWEEN 1 AND 40 AS bar FROM dtm_timeline('view-stopped');
-- rows that an incomplete restore did not bring
CREATE TEMPORARY TABLE lost AS SELECT l.* FROM dtm.live AS l JOIN dtm.trans AS t USING (id) WHERE t.gid = 'view-later';
DELETE FROM dtm.live WHERE id IN (SELECT id FROM lost);
SELECT dtm_status('view-later');
SELECT dtm_wait('view-later');
SELECT dtm_retry('view-later');
SELECT dtm_stop('view-later');
SELECT dtm_abort('view-later');
INSERT INTO dtm.live SELECT * FROM lost;

SELECT gid, dtm_stop(gid) FROM dtm.transactions WHERE gid IN ('view-later', 'view-ongoing') ORDER BY gid;
SELECT dtm_purge('0') > 0;
SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'view-%';
DROP SCHEMA views CASCADE;
