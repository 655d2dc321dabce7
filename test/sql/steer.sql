-- dtm_retry, dtm_stop, dtm_purge, dtm_pause, dtm_resume.
CREATE SCHEMA steer;
SET search_path = steer, public;
SET client_min_messages = warning;
\pset format unaligned
\pset tuples_only on
\pset null (null)
\set include `echo "$PG_ABS_SRCDIR/sql/include/wait_for.sql"`

CREATE TABLE log (n int GENERATED ALWAYS AS IDENTITY, says text);
CREATE FUNCTION note(payload jsonb) RETURNS void LANGUAGE sql AS $$
	INSERT INTO steer.log (says) SELECT format('%s %s %s', c ->> 'gid', c ->> 'branch_id', c ->> 'op') FROM dtm_context() AS c $$;
CREATE TABLE gate (is_open boolean);
INSERT INTO gate VALUES (false);
-- Works once the gate is open.
CREATE FUNCTION gated(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF NOT (SELECT is_open FROM steer.gate) THEN
		RAISE EXCEPTION 'closed' USING ERRCODE = 'ZZ001';
	END IF;
	PERFORM note(payload);
END $$;
CREATE FUNCTION stored(prefix text) RETURNS TABLE (gid text, status text, reason text) LANGUAGE sql AS $$
	SELECT gid, status, rollback_reason FROM dtm.transactions WHERE gid LIKE prefix || '%' ORDER BY gid $$;

--
-- dtm_retry: now, not when the backoff ends
--
SELECT dtm_saga_submit('[{"action": "sql:gated"}]', 'retry-1', retry_interval => '1 day');
\set condition 'EXISTS (SELECT FROM dtm.branches WHERE gid = ''retry-1'' AND attempts = 1 AND next_run_at > now())'
\set ECHO none
\i :include
\set ECHO all
SELECT next_run_at - updated_at > '23 h' FROM dtm.transactions WHERE gid = 'retry-1';
SELECT dtm_retry('retry-1');
\set condition 'EXISTS (SELECT FROM dtm.branches WHERE gid = ''retry-1'' AND attempts = 2 AND next_run_at > now())'
\set ECHO none
\i :include
\set ECHO all
UPDATE gate SET is_open = true;
-- with the commit, and not when it is rolled back
BEGIN;
SELECT dtm_retry('retry-1');
ROLLBACK;
SELECT dtm_wait('retry-1', '100 ms');
SELECT attempts FROM dtm.branches WHERE gid = 'retry-1' AND op = 'action';
BEGIN;
SELECT dtm_retry('retry-1');
SAVEPOINT s;
SELECT dtm_retry('retry-1'), dtm_retry('retry-1');
ROLLBACK TO s;
COMMIT;
SELECT dtm_wait('retry-1');
SELECT attempts FROM dtm.branches WHERE gid = 'retry-1' AND op = 'action';
-- no effect on what has ended
SELECT dtm_retry('retry-1');
SELECT * FROM stored('retry-');
-- what is to start later starts now
SELECT dtm_saga_submit('[{"action": "sql:note"}]', 'retry-2', start_after => '1 day');
SELECT dtm_wait('retry-2', '50 ms');
SELECT dtm_retry('retry-2');
SELECT dtm_wait('retry-2');
-- in the transaction that submits
BEGIN;
SELECT dtm_saga_submit('[{"action": "sql:note"}]', 'retry-3', start_after => '1 day');
SELECT dtm_retry('retry-3');
COMMIT;
SELECT dtm_wait('retry-3');
-- unknown ones
SELECT dtm_retry('retry-4');
SELECT dtm_retry('');
SELECT dtm_retry(NULL);
SELECT says FROM log ORDER BY n;
TRUNCATE log;

--
-- dtm_stop: failed, and nothing more is called
--
UPDATE gate SET is_open = false;
SELECT dtm_saga_submit('[{"action": "sql:note", "compensate": "sql:note"}, {"action": "sql:gated", "compensate": "sql:note"}]', 'stop-1', retry_interval => '1 day');
\set condition 'EXISTS (SELECT FROM dtm.branches WHERE gid = ''stop-1'' AND branch_id = ''02'' AND attempts = 1)'
\set ECHO none
\i :include
\set ECHO all
-- rolled back: it goes on
BEGIN;
SELECT dtm_stop('stop-1', 'rolled back');
SELECT * FROM stored('stop-1');
ROLLBACK;
SELECT * FROM stored('stop-1');
SELECT dtm_stop('stop-1', 'not needed any more');
SELECT * FROM stored('stop-1');
SELECT dtm_wait('stop-1', '0'), dtm_status('stop-1'), dtm_result('stop-1');
-- what has been done remains to be seen
SELECT branch_id, op, status, attempts FROM dtm.branches WHERE gid = 'stop-1';
SELECT count(*) FROM dtm_timeline('stop-1');
-- again: no effect, the first reason stays
SELECT dtm_stop('stop-1', 'another reason');
SELECT * FROM stored('stop-1');
UPDATE gate SET is_open = true;
SELECT dtm_retry('stop-1');
SELECT pg_sleep(0.1);
SELECT says FROM log ORDER BY n;
TRUNCATE log;
-- one that has failed by itself
CREATE FUNCTION refuse(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM dtm_fail('refused'); END $$;
SELECT dtm_saga_submit('[{"action": "sql:refuse"}]', 'stop-2');
SELECT dtm_wait('stop-2');
SELECT dtm_stop('stop-2', 'too late');
SELECT * FROM stored('stop-2');
-- one that has succeeded
SELECT dtm_saga_submit('[{"action": ""}]', 'stop-3');
SELECT dtm_wait('stop-3');
SELECT dtm_stop('stop-3');
SELECT * FROM stored('stop-3');
-- one that is rolling back: the compensation is not called any more
UPDATE gate SET is_open = false;
SELECT dtm_saga_submit('[{"action": "sql:note", "compensate": "sql:gated"}, {"action": "sql:refuse"}]', 'stop-4', retry_interval => '1 day');
\set condition 'EXISTS (SELECT FROM dtm.branches WHERE gid = ''stop-4'' AND op = ''compensate'' AND attempts = 1)'
\set ECHO none
\i :include
\set ECHO all
SELECT dtm_status('stop-4');
SELECT dtm_stop('stop-4');
SELECT * FROM stored('stop-4');
-- before its time, in the transaction that submits, and with a long reason
SELECT dtm_saga_submit('[{"action": "sql:note"}]', 'stop-5', start_after => '1 day');
SELECT dtm_stop('stop-5', NULL);
BEGIN;
SELECT dtm_saga_submit('[{"action": "sql:note"}]', 'stop-6');
SELECT dtm_stop('stop-6', '');
COMMIT;
SELECT dtm_saga_submit('[{"action": "sql:note"}]', 'stop-7', start_after => '1 day');
SELECT dtm_stop('stop-7', 'x' || repeat('ä', 5000));
SELECT gid, status, length(reason), octet_length(reason), right(reason, 3) FROM stored('stop-') WHERE gid >= 'stop-5';
-- the function that runs at that moment is not undone, what follows is not called
CREATE FUNCTION slow(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM note(payload);
	PERFORM pg_advisory_xact_lock(4712);
END $$;
SELECT pg_advisory_lock(4712);
TRUNCATE log;
SELECT dtm_saga_submit('[{"action": "sql:slow", "compensate": "sql:note"}, {"action": "sql:note"}]', 'stop-8', request_timeout => '60 s');
\set condition 'EXISTS (SELECT FROM pg_locks WHERE locktype = ''advisory'' AND objid = 4712 AND NOT granted)'
\set ECHO none
\i :include
\set ECHO all
SELECT dtm_stop('stop-8', 'while it ran');
SELECT dtm_wait('stop-8');
SELECT pg_advisory_unlock(4712);
\set condition 'NOT EXISTS (SELECT FROM pg_locks WHERE locktype = ''advisory'' AND objid = 4712) AND EXISTS (SELECT FROM steer.log)'
\set ECHO none
\i :include
\set ECHO all
SELECT says FROM log ORDER BY n;
SELECT * FROM stored('stop-8');
-- unknown ones
SELECT dtm_stop('stop-9');
SELECT dtm_stop(NULL, 'no gid');

--
-- dtm_pause, dtm_resume
--
SELECT dtm_pause('a reason with 100% "quotes"');
\set condition 'EXISTS (SELECT FROM dtm.workers WHERE worker = 0 AND state = ''paused'' AND last_error IS NOT NULL)'
\set ECHO none
\i :include
\set ECHO all
SELECT state, last_error FROM dtm.workers WHERE worker = 0 AND state NOT LIKE 'executor%';
-- a second pause needs no second resume
SELECT dtm_pause();
SELECT dtm_saga_submit('[{"action": "sql:note"}]', 'pause-1');
SELECT dtm_saga_submit('[{"action": "sql:note"}]', 'pause-2');
-- steering goes on
SELECT dtm_stop('pause-2');
SELECT dtm_retry('pause-1');
SELECT dtm_wait('pause-1', '100 ms');
-- so does the end of the pause, unless it is rolled back
BEGIN;
SELECT dtm_resume();
ROLLBACK;
SELECT dtm_wait('pause-1', '100 ms');
SELECT dtm_resume();
SELECT dtm_wait('pause-1');
SELECT state FROM dtm.workers WHERE worker = 0 AND state NOT LIKE 'executor%';
SELECT system_identifier = (SELECT system_identifier FROM pg_control_system()) AS this_system, database_oid = (SELECT oid FROM pg_database WHERE datname = current_database()) AS this_database, note
FROM dtm.node;
-- without a pause it does no harm
SELECT dtm_resume();
BEGIN;
SELECT dtm_pause('rolled back');
ROLLBACK;
SELECT dtm_saga_submit('[{"action": "sql:note"}]', 'pause-3');
SELECT dtm_wait('pause-3');
SELECT count(*) FROM dtm.node;

--
-- dtm_purge
--
SELECT dtm_saga_submit('[{"action": "sql:note"}]', 'purge-1');
SELECT dtm_saga_submit('[{"action": "sql:note"}]', 'purge-2', start_after => '1 day');
SELECT dtm_wait('purge-1');
-- what has not ended stays, and what is not old enough
SELECT dtm_purge('1 hour');
SELECT dtm_purge('100 years');
UPDATE dtm.done SET finished_at = finished_at - interval '2 hours' FROM dtm.trans AS t WHERE t.id = done.id AND t.gid = 'purge-1';
UPDATE dtm.live SET updated_at = updated_at - interval '2 hours' FROM dtm.trans AS t WHERE t.id = live.id AND t.gid = 'purge-2';
BEGIN;
SELECT dtm_purge('1 hour');
SELECT * FROM stored('purge-');
ROLLBACK;
SELECT count(*) > 0 FROM dtm.barrier WHERE gid = 'purge-1';
SELECT dtm_purge('1 hour');
SELECT * FROM stored('purge-');
SELECT count(*) FROM dtm.barrier WHERE gid = 'purge-1';
SELECT dtm_status('purge-1');
-- the gid is a new one
SELECT dtm_saga_submit('[{"action": "sql:note", "payload": "other"}]', 'purge-1');
SELECT dtm_wait('purge-1');
SELECT dtm_purge(NULL);
SELECT dtm_purge('-1 s');
SELECT dtm_purge(interval '1 hour' - interval '2 hours');
SELECT dtm_stop('purge-2');
SELECT dtm_purge('0') > 0;
SELECT count(*) FROM dtm.done AS d LEFT JOIN dtm.trans AS t USING (id) WHERE t.id IS NULL;
SELECT count(*) FROM dtm.trans AS t LEFT JOIN dtm.live AS l USING (id) LEFT JOIN dtm.done AS d USING (id) WHERE (l.id IS NULL) = (d.id IS NULL);
SELECT dtm_purge('0'), dtm_purge('1 month');
SELECT gid FROM dtm.transactions WHERE gid ~ '^(retry|stop|pause|purge)-';
DROP SCHEMA steer CASCADE;
