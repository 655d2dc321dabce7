-- The face of DTM's own tables, and the barrier's table for SDKs that insert by themselves.
CREATE SCHEMA trans_global;
SET search_path = trans_global, public;
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE FUNCTION works(payload jsonb) RETURNS void LANGUAGE sql AS 'SELECT';
CREATE FUNCTION refuses(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM dtm_fail('no "stock"'); END $$;
CREATE FUNCTION order_it(data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM dtm_call('sql:works', '{"step": 1}'::jsonb);
	RETURN '{"done": true}';
END $$;

--
-- Columns: names, order, types
--
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'dtm.trans_global'::regclass AND attnum > 0 ORDER BY attnum;
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'dtm.trans_branch_op'::regclass AND attnum > 0 ORDER BY attnum;

--
-- One of each
--
SELECT dtm_saga_submit('[{"action": "sql:works", "compensate": "sql:works", "payload": {"n": 1}}, {"action": ""}]', 'tg-good');
SELECT dtm_saga_submit('[{"action": "sql:works", "compensate": "sql:works"}, {"action": "sql:refuses"}]', 'tg-refused',
	concurrent => true, headers => '{"Authorization": "Bearer secret"}');
SELECT dtm_saga_submit('[{"action": "http://127.0.0.1:9/a"}, {"action": "http://127.0.0.1:9/b"}, {"action": "http://127.0.0.1:9/c", "after": [0]}]', 'tg-later',
	start_after => '1 day', retry_interval => '2500 ms', request_timeout => '4 s', retry_limit => 3, timeout_to_fail => '2 days');
SELECT dtm_msg_prepare('[{"action": "http://127.0.0.1:9/"}]', 'http://127.0.0.1:9/ask', 'tg-msg', timeout_to_fail => '1 day', delay => '90 s');
SELECT dtm_tcc_begin('tg-tcc', timeout_to_fail => '1 day');
SELECT dtm_tcc_register('tg-tcc', '01', 'http://127.0.0.1:9/confirm', 'http://127.0.0.1:9/cancel', '{"x": 2}');
SELECT dtm_tcc_register('tg-tcc', '02', 'http://127.0.0.1:9/confirm', 'http://127.0.0.1:9/cancel');
SELECT dtm_xa_begin('tg-xa', timeout_to_fail => '1 day');
SELECT dtm_xa_register('tg-xa', '01', 'http://127.0.0.1:9/xa');
SELECT dtm_workflow_submit('order_it', '{"sku": "A1"}', 'tg-flow');
SELECT dtm_wait('tg-good'), dtm_wait('tg-refused'), dtm_wait('tg-flow');
SELECT dtm_saga_submit('[{"action": "http://127.0.0.1:9/"}]', 'tg-stopped', start_after => '1 day');
SELECT dtm_stop('tg-stopped', 'no longer wanted');

\x on
SELECT gid, trans_type, status, query_prepared, protocol, create_time <= update_time AS updated, finish_time = update_time AS finished, rollback_time = update_time AS rolled_back,
	options, custom_data, next_cron_interval, next_cron_time > create_time AS runs_again, owner = current_user AS mine, ext_data, convert_from(decode(result, 'base64'), 'UTF8') AS result, rollback_reason
FROM dtm.trans_global WHERE gid LIKE 'tg-%' ORDER BY id;
\x off
SELECT gid, branch_id, op, url, status, convert_from(bin_data, 'UTF8') AS bin_data, data, finish_time >= create_time AS finished, rollback_time, update_time >= create_time AS updated
FROM dtm.trans_branch_op WHERE gid LIKE 'tg-%' ORDER BY id;
-- the JSON is JSON
SELECT bool_and(options::jsonb ? 'concurrent'), bool_and(custom_data = '' OR jsonb_typeof(custom_data::jsonb) = 'object') FROM dtm.trans_global WHERE gid LIKE 'tg-%';
-- ids: of the transaction, in order, and the same each time; rows that come later do not move them
SELECT count(*), count(DISTINCT b.id), bool_and(b.id / 4096 = g.id) FROM dtm.trans_branch_op AS b JOIN dtm.trans_global AS g USING (gid) WHERE gid LIKE 'tg-%';
CREATE TABLE before AS SELECT id, gid, branch_id, op FROM dtm.trans_branch_op WHERE gid = 'tg-tcc';
SELECT dtm_tcc_register('tg-tcc', '03', 'http://127.0.0.1:9/confirm', 'http://127.0.0.1:9/cancel');
SELECT count(*) FROM before JOIN dtm.trans_branch_op USING (id, gid, branch_id, op);
SELECT branch_id, op, id - (SELECT min(id) FROM before) AS place FROM dtm.trans_branch_op WHERE gid = 'tg-tcc' ORDER BY id;

-- a gid is looked up, not searched for
CREATE FUNCTION plan(statement text) RETURNS SETOF text LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY EXECUTE 'EXPLAIN (COSTS OFF) ' || statement; END $$;
BEGIN;
SET LOCAL enable_seqscan = off;
SELECT v, count(*) FILTER (WHERE p LIKE '%trans_gid_key%') AS lookups
FROM unnest('{trans_global, trans_branch_op}'::text[]) AS v, plan(format('SELECT * FROM dtm.%I WHERE gid = ''tg-good''', v)) AS p GROUP BY v ORDER BY v;
COMMIT;
-- from parallel workers, too (the setting has another name since 16)
BEGIN;
SELECT count(set_config(name, 'on', true)) FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query');
SELECT gid, status FROM dtm.trans_global WHERE gid = 'tg-good';
SELECT count(*) FROM dtm.trans_branch_op WHERE gid = 'tg-good';
COMMIT;

-- damaged columns hide no other rows
BEGIN;
UPDATE dtm.trans SET spec = '\xff' WHERE gid = 'tg-good';
SELECT gid, status, options, custom_data FROM dtm.trans_global WHERE gid IN ('tg-good', 'tg-later') ORDER BY gid;
SELECT gid, count(*) FROM dtm.trans_branch_op WHERE gid IN ('tg-good', 'tg-later') GROUP BY gid;
ROLLBACK;

--
-- Who sees what
--
CREATE ROLE regress_tg_app;
CREATE ROLE regress_tg_other;
CREATE ROLE regress_tg_none;
CREATE ROLE regress_tg_monitor;
GRANT pg_monitor TO regress_tg_monitor;
SELECT dtm_grant('regress_tg_app'), dtm_grant('regress_tg_other');
GRANT USAGE ON SCHEMA trans_global TO PUBLIC;
SET ROLE regress_tg_app;
SELECT dtm_saga_submit('[{"action": "http://127.0.0.1:9/", "payload": "card 4711"}]', 'tg-app', start_after => '1 day', headers => '{"X-Key": "secret"}');
SELECT dtm_workflow_submit('order_it', '{"card": 4711}', 'tg-app-flow', start_after => '1 day');
SELECT gid, owner, options, custom_data FROM dtm.trans_global ORDER BY gid;
SELECT gid, op, convert_from(bin_data, 'UTF8') AS bin_data FROM dtm.trans_branch_op ORDER BY id;
SET ROLE regress_tg_other;
SELECT count(*) FROM dtm.trans_global;
SELECT count(*) FROM dtm.trans_branch_op;
-- all transactions, but not what is in them
SET ROLE regress_tg_monitor;
SELECT gid, owner, options, custom_data FROM dtm.trans_global WHERE gid LIKE 'tg-app%' ORDER BY gid;
SELECT gid, op, status, bin_data FROM dtm.trans_branch_op WHERE gid LIKE 'tg-app%' ORDER BY id;
SELECT count(*) > 8 AS all_of_them, count(bin_data) AS payloads FROM dtm.trans_branch_op;
SET ROLE regress_tg_none;
SELECT count(*) FROM dtm.trans_global;
SELECT count(*) FROM dtm.trans_branch_op;
RESET ROLE;

--
-- dtm.barrier, as SDKs use it: plain SQL of a role with privileges on the table alone
--
CREATE ROLE regress_tg_sdk;
GRANT USAGE ON SCHEMA dtm TO regress_tg_sdk;
GRANT SELECT, INSERT ON dtm.barrier TO regress_tg_sdk;
GRANT USAGE ON SEQUENCE dtm.barrier_seq TO regress_tg_sdk;
SET ROLE regress_tg_sdk;
-- the statement of Go and C#
PREPARE barrier (text, text, text, text, text, text) AS
	INSERT INTO dtm.barrier (trans_type, gid, branch_id, op, barrier_id, reason) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT ON CONSTRAINT uniq_barrier DO NOTHING;
CREATE FUNCTION pg_temp.barrier(text, text, text, text, text, text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	INSERT INTO dtm.barrier (trans_type, gid, branch_id, op, barrier_id, reason) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT ON CONSTRAINT uniq_barrier DO NOTHING;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END $$;
EXECUTE barrier('saga', 'tg-sdk', '01', 'action', '01', 'action');
SELECT pg_temp.barrier('saga', 'tg-sdk', '01', 'action', '01', 'action') AS again;
-- a compensation: the row of what it undoes, then its own
SELECT pg_temp.barrier('saga', 'tg-sdk', '01', 'action', '01', 'compensate') AS origin, pg_temp.barrier('saga', 'tg-sdk', '01', 'compensate', '01', 'compensate') AS current;
SELECT pg_temp.barrier('saga', 'tg-sdk', '02', 'action', '01', 'compensate') AS origin, pg_temp.barrier('saga', 'tg-sdk', '02', 'compensate', '01', 'compensate') AS current;
-- the back-check of a message
SELECT pg_temp.barrier('msg', 'tg-sdk-msg', '00', 'msg', '01', 'rollback') AS inserted;
SELECT reason FROM dtm.barrier WHERE gid = 'tg-sdk-msg' AND branch_id = '00' AND op = 'msg' AND barrier_id = '01';
-- it cannot undo what it has noted
DELETE FROM dtm.barrier WHERE gid = 'tg-sdk';
UPDATE dtm.barrier SET reason = '' WHERE gid = 'tg-sdk';
RESET ROLE;
-- the extension's own functions count the same rows
SELECT dtm_barrier('saga', 'tg-sdk', '01', 'action', '01'), dtm_barrier('saga', 'tg-sdk', '03', 'action', '01');
SELECT gid, branch_id, op, barrier_id, reason FROM dtm.barrier WHERE gid LIKE 'tg-sdk%' ORDER BY id;

-- an SDK whose table has a fixed name gets a table of that name; rows of a view would have no constraint
CREATE SCHEMA dtm_barrier;
CREATE TABLE dtm_barrier.barrier (LIKE dtm.barrier INCLUDING DEFAULTS);
ALTER TABLE dtm_barrier.barrier ADD PRIMARY KEY (id), ADD CONSTRAINT uniq_barrier UNIQUE (gid, branch_id, op, barrier_id);
GRANT USAGE ON SCHEMA dtm_barrier TO regress_tg_sdk;
GRANT SELECT, INSERT ON dtm_barrier.barrier TO regress_tg_sdk;
SET ROLE regress_tg_sdk;
INSERT INTO dtm_barrier.barrier (trans_type, gid, branch_id, op, barrier_id, reason) VALUES ('saga', 'tg-sdk', '01', 'action', '01', 'action') ON CONFLICT ON CONSTRAINT uniq_barrier DO NOTHING;
INSERT INTO dtm_barrier.barrier (trans_type, gid, branch_id, op, barrier_id, reason) VALUES ('saga', 'tg-sdk', '01', 'action', '01', 'action') ON CONFLICT ON CONSTRAINT uniq_barrier DO NOTHING;
RESET ROLE;
SELECT gid, branch_id, op, reason FROM dtm_barrier.barrier;
DROP SCHEMA dtm_barrier CASCADE;

SELECT gid, dtm_stop(gid) FROM dtm.transactions WHERE gid LIKE 'tg-%' AND finished_at IS NULL AND trans_type <> 'xa' ORDER BY gid;
SELECT dtm_abort('tg-xa');
SELECT dtm_stop('tg-xa');
SELECT dtm_purge('0') > 0 AS purged;
DELETE FROM dtm.barrier WHERE gid LIKE 'tg-%';
DROP SCHEMA trans_global CASCADE;
DROP OWNED BY regress_tg_app, regress_tg_other, regress_tg_none, regress_tg_monitor, regress_tg_sdk;
DROP ROLE regress_tg_app, regress_tg_other, regress_tg_none, regress_tg_monitor, regress_tg_sdk;
