-- Who may see, submit and steer what.
CREATE SCHEMA privileges;
SET search_path = privileges, public;
SET client_min_messages = warning;

CREATE ROLE regress_dtm_a;
CREATE ROLE regress_dtm_b;
CREATE ROLE regress_dtm_none;
CREATE ROLE regress_dtm_monitor IN ROLE pg_monitor;
CREATE ROLE regress_dtm_boss;
GRANT regress_dtm_a TO regress_dtm_boss;
CREATE ROLE regress_dtm_outer NOINHERIT;
GRANT regress_dtm_a TO regress_dtm_outer;
GRANT ALL ON SCHEMA privileges TO regress_dtm_a, regress_dtm_b, regress_dtm_none, regress_dtm_monitor,
	regress_dtm_boss, regress_dtm_outer;
SELECT dtm_grant(r) FROM unnest('{regress_dtm_a, regress_dtm_b, regress_dtm_boss, regress_dtm_outer}'::regrole[]) AS r;

-- Runs a statement, says how it ended.
CREATE FUNCTION outcome(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	IF statement ~ '^\s*SELECT' THEN
		EXECUTE statement INTO answer;
		RETURN coalesce(answer, '(null)');
	END IF;
	EXECUTE statement;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ': ' || SQLERRM;
END $$;

--
-- Nothing is granted to PUBLIC
--
SET ROLE regress_dtm_none;
SELECT outcome('SELECT count(*) FROM dtm.transactions');
SELECT outcome('SELECT dtm.status_name(1::smallint)');
SELECT f, outcome('SELECT ' || f) FROM unnest(ARRAY[
	'dtm_gid()', $$dtm_step('')$$, $$dtm_saga_submit('[{"action": ""}]')$$, $$dtm_wait('a')$$, $$dtm_status('a')$$,
	$$dtm_result('a')$$, $$dtm_retry('a')$$, $$dtm_stop('a')$$, $$dtm_purge('1 day')$$, 'dtm_pause()', 'dtm_resume()',
	$$dtm_fail()$$, $$dtm_ongoing()$$, 'dtm_context()', $$dtm_timeline('a')$$, $$dtm_grant('regress_dtm_none')$$,
	$$dtm_barrier('saga', 'a', '01', 'action')$$, $$dtm_barrier('gid=a')$$, $$dtm_barrier_run('gid=a', 'SELECT 1')$$,
	$$dtm_barrier_query_prepared('gid=a')$$, $$dtm_msg_submit('[{"action": ""}]')$$, $$dtm_msg_prepare('[{"action": ""}]', 'sql:f')$$,
	$$dtm_submit('a')$$, $$dtm_abort('a')$$, $$dtm_tcc_submit('[{"try": "", "confirm": "", "cancel": ""}]')$$,
	$$dtm_topic_subscribe('a', 'http://127.0.0.1:9/')$$, $$dtm_topic_unsubscribe('a', 'http://127.0.0.1:9/')$$, $$dtm_topic_drop('a')$$,
	$$dtm_stock_set('a', 1)$$, $$dtm_stock_add('a', 1)$$, $$dtm_stock_drop('a')$$, $$dtm_reserve('a')$$, $$dtm_reserve_confirm('a')$$,
	$$dtm_reserve_release('a')$$, 'dtm_reserve_sweep()', $$dtm_reserve_try('{}')$$, $$dtm_reserve_confirm('{}'::jsonb)$$,
	$$dtm_reserve_cancel('{}')$$]) AS f;
-- which is all there are
RESET ROLE;
SELECT count(*) FROM pg_proc WHERE proname LIKE 'dtm\_%' AND pronamespace = 'public'::regnamespace;
SELECT n.nspname, p.proname FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
	WHERE (p.proname LIKE 'dtm\_%' OR n.nspname = 'dtm') AND has_function_privilege('regress_dtm_none', p.oid, 'EXECUTE');
SELECT c.relname FROM pg_class AS c WHERE c.relnamespace = 'dtm'::regnamespace AND c.relkind IN ('r', 'v', 'S', 'm')
	AND CASE c.relkind WHEN 'S' THEN has_sequence_privilege('regress_dtm_none', c.oid, 'USAGE, SELECT, UPDATE')
		ELSE has_table_privilege('regress_dtm_none', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER') END;
SELECT has_schema_privilege('regress_dtm_none', 'dtm', 'USAGE, CREATE');

--
-- Nobody but their owner reads or writes the tables
--
SELECT c.relname, r.rolname
FROM pg_class AS c, pg_roles AS r
WHERE c.relnamespace = 'dtm'::regnamespace AND c.relkind IN ('r', 'S') AND NOT r.rolsuper
	AND r.rolname NOT IN ('pg_read_all_data', 'pg_write_all_data')
	AND CASE c.relkind WHEN 'S' THEN has_sequence_privilege(r.oid, c.oid, 'USAGE, SELECT, UPDATE')
		ELSE has_table_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
			OR has_any_column_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE, REFERENCES') END;
SELECT c.relname, r.rolname, has_table_privilege(r.oid, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER') AS more_than_select
FROM pg_class AS c, pg_roles AS r
WHERE c.relnamespace = 'dtm'::regnamespace AND c.relkind = 'v' AND r.rolname ~ '^regress_dtm' AND has_table_privilege(r.oid, c.oid, 'SELECT')
ORDER BY c.relname, r.rolname;
SELECT rolname FROM pg_roles WHERE rolname ~ '^regress_dtm' AND has_schema_privilege(oid, 'dtm', 'CREATE');
SET ROLE regress_dtm_a;
SELECT t, v, outcome(format(CASE v WHEN 'SELECT' THEN 'SELECT count(*) FROM dtm.%s' WHEN 'DELETE' THEN 'DELETE FROM dtm.%s'
	WHEN 'INSERT' THEN 'INSERT INTO dtm.%s DEFAULT VALUES' ELSE 'TRUNCATE dtm.%s' END, t))
FROM unnest('{barrier,done,live,node,timer,topic,trans}'::text[]) AS t, unnest('{SELECT,INSERT,DELETE,TRUNCATE}'::text[]) AS v;
SELECT outcome($$ SELECT nextval('dtm.trans_id_seq') $$), outcome($$ SELECT setval('dtm.barrier_seq', 1) $$);
SELECT outcome('UPDATE dtm.transactions SET status = $$succeed$$');
SELECT outcome('CREATE TABLE dtm.own ()');
RESET ROLE;

--
-- A role sees and steers what it submitted
--
SET ROLE regress_dtm_a;
SELECT dtm_saga_submit('[{"action": "http://127.0.0.1:9/", "headers": {"X-Token": "secret-of-the-step"}, "payload": {"sku": "A1"}}]', 'priv-a',
	headers => '{"Authorization": "Bearer secret-of-a"}', start_after => '1 day');
SELECT dtm_saga_submit('[{"action": "http://127.0.0.1:9/"}]', 'priv-a2', start_after => '1 day');
SET ROLE regress_dtm_b;
SELECT dtm_saga_submit('[{"action": "http://127.0.0.1:9/"}]', 'priv-b', start_after => '1 day');
RESET ROLE;

CREATE FUNCTION looks() RETURNS TABLE (role text, what text, sees text) LANGUAGE sql AS $$
	SELECT current_user::text, 'transactions', (SELECT string_agg(gid, ' ' ORDER BY gid) FROM dtm.transactions WHERE gid LIKE 'priv-%')
	UNION ALL SELECT current_user, 'branches', (SELECT string_agg(DISTINCT gid, ' ') FROM dtm.branches WHERE gid LIKE 'priv-%')
	UNION ALL SELECT current_user, 'statistics', (SELECT CASE WHEN in_progress > 0 THEN 'some' ELSE 'none' END FROM dtm.statistics WHERE trans_type = 'saga')
	UNION ALL SELECT current_user, 'workers', (SELECT CASE WHEN count(*) > 0 THEN 'some' ELSE 'none' END FROM dtm.workers)
$$;
CREATE FUNCTION asks(gid text) RETURNS TABLE (role text, what text, answer text) LANGUAGE sql AS $$
	SELECT current_user::text, f, outcome(format('SELECT %s', format(f, gid))) FROM unnest(ARRAY[
		'dtm_status(%L)', 'dtm_result(%L)', 'count(*) >= 0 FROM dtm_timeline(%L)', 'dtm_wait(%L, ''0'')', 'dtm_retry(%L)']) AS f
$$;
SET ROLE regress_dtm_a;
SELECT * FROM looks();
SELECT * FROM asks('priv-a');
SELECT * FROM asks('priv-b');
SELECT outcome($$ SELECT dtm_stop('priv-b') $$);
SET ROLE regress_dtm_b;
SELECT * FROM looks();
SELECT * FROM asks('priv-a');
SELECT outcome($$ SELECT dtm_stop('priv-a') $$);
-- the same content by another role is another transaction
SELECT outcome($$ SELECT dtm_saga_submit('[{"action": "http://127.0.0.1:9/"}]', 'priv-a2', start_after => '1 day') $$);
SELECT outcome($$ SELECT dtm_saga_submit('[{"action": "http://127.0.0.1:9/"}]', 'priv-b', start_after => '1 day') $$);
-- members see and steer for their role, if they inherit it
SET ROLE regress_dtm_boss;
SELECT * FROM looks();
SELECT * FROM asks('priv-a');
SELECT * FROM asks('priv-b');
SELECT outcome($$ SELECT dtm_saga_submit('[{"action": "http://127.0.0.1:9/"}]', 'priv-a2', start_after => '1 day') $$);
SET ROLE regress_dtm_outer;
SELECT * FROM looks();
SELECT * FROM asks('priv-a');
-- pg_monitor sees all and steers nothing
SET ROLE regress_dtm_monitor;
SELECT * FROM looks();
SELECT * FROM asks('priv-a');
SELECT f, outcome('SELECT ' || f) FROM unnest(ARRAY[
	$$dtm_saga_submit('[{"action": ""}]')$$, $$dtm_stop('priv-a')$$, $$dtm_purge('0')$$, 'dtm_pause()', 'dtm_resume()',
	$$dtm_grant('regress_dtm_none')$$]) AS f;
RESET ROLE;
-- not with dtm_grant either
SELECT dtm_grant('regress_dtm_monitor');
SET ROLE regress_dtm_monitor;
SELECT f, outcome('SELECT ' || f) FROM unnest(ARRAY[
	$$dtm_retry('priv-a')$$, $$dtm_stop('priv-a')$$, 'dtm_pause()', 'dtm_resume()', $$dtm_grant('regress_dtm_none')$$]) AS f;
SET ROLE regress_dtm_a;
SELECT f, outcome('SELECT ' || f) FROM unnest(ARRAY['dtm_pause()', 'dtm_resume()', $$dtm_grant('regress_dtm_none')$$, 'dtm.note_installed()']) AS f;
RESET ROLE;
-- the owner of the extension sees and steers all
SELECT * FROM looks();
SELECT * FROM asks('priv-a');

--
-- Values of headers are shown to nobody
--
SELECT options FROM dtm.transactions WHERE gid = 'priv-a';
SELECT count(*) FROM dtm.transactions AS t WHERE t::text LIKE '%secret%';
SELECT count(*) FROM dtm.branches AS b WHERE b::text LIKE '%secret%';
SELECT count(*) FROM dtm.stuck AS s WHERE s::text LIKE '%secret%';
-- nor can a function in a condition look at rows that are not the caller's
SET ROLE regress_dtm_b;
CREATE FUNCTION peek(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$
BEGIN
	RAISE WARNING 'saw %', $1;
	RETURN true;
END $$;
SELECT gid FROM dtm.transactions WHERE peek(gid) AND gid LIKE 'priv-%';
SELECT gid FROM dtm.branches WHERE peek(gid) AND gid LIKE 'priv-%';
RESET ROLE;

--
-- dtm_stop and dtm_purge are for one's own
--
SET ROLE regress_dtm_a;
SELECT dtm_stop('priv-a', 'by a'), dtm_stop('priv-a2');
SET ROLE regress_dtm_b;
SELECT dtm_purge('0');
SELECT * FROM asks('priv-a');
SELECT outcome($$ SELECT dtm_stop('priv-a') $$);
SET ROLE regress_dtm_outer;
SELECT dtm_purge('0');
SET ROLE regress_dtm_a;
SELECT gid, status, rollback_reason FROM dtm.transactions WHERE gid LIKE 'priv-%' ORDER BY 1;
SELECT dtm_purge('0');
SELECT gid FROM dtm.transactions WHERE gid LIKE 'priv-%';
RESET ROLE;

--
-- The session's user does not matter, the current one does
--
CREATE FUNCTION as_definer(gid text) RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	RETURN public.dtm_saga_submit('[{"action": "http://127.0.0.1:9/"}]', gid, start_after => '1 day');
ALTER FUNCTION as_definer(text) OWNER TO regress_dtm_a;
CREATE FUNCTION definer_steers(gid text) RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	RETURN public.dtm_stop(gid);
ALTER FUNCTION definer_steers(text) OWNER TO regress_dtm_a;
SET ROLE regress_dtm_none;
SELECT as_definer('priv-definer');
SELECT current_user;
SET ROLE regress_dtm_b;
SELECT outcome($$ SELECT dtm_stop('priv-definer') $$);
SELECT outcome($$ SELECT definer_steers('priv-b') $$);
RESET ROLE;
SELECT gid, submitted_by FROM dtm.transactions WHERE gid LIKE 'priv-%' ORDER BY 1;
SET ROLE regress_dtm_none;
SELECT definer_steers('priv-definer');
-- an error inside gives the role back
SELECT outcome($$ SELECT as_definer('') $$), current_user;
SET ROLE regress_dtm_a;
SELECT dtm_saga_submit('[]');
SELECT current_user;
SELECT dtm_saga_submit('[{"action": ""}]', 'priv-b');
SELECT current_user;
RESET ROLE;

--
-- A sql: branch runs as the role that submitted
--
CREATE TABLE log (n int GENERATED ALWAYS AS IDENTITY, says text);
GRANT SELECT, INSERT ON log TO regress_dtm_a, regress_dtm_b;
CREATE FUNCTION who(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO log (says) VALUES (format('current_user %s, session_user is current_user: %s, superuser %s', current_user,
		session_user = current_user, (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)));
END $$;
-- The payload names a statement; what becomes of it is logged.
CREATE FUNCTION tries(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	answer text := outcome(payload #>> '{}');
BEGIN
	-- the words of some differ between versions of PostgreSQL
	INSERT INTO log (says) VALUES (current_user || ': ' || (payload #>> '{}') || ' -> ' ||
		regexp_replace(answer, '^([0-9A-Z]{5}): .*', '\1'));
END $$;
CREATE TABLE closed (secret text);
INSERT INTO closed VALUES ('secret');

SET ROLE regress_dtm_a;
SELECT dtm_saga_submit(jsonb_build_array(dtm_step('sql:who')) || (SELECT jsonb_agg(dtm_step('sql:tries', payload => to_jsonb(s)) ORDER BY n)
	FROM unnest(ARRAY[
		'SELECT secret FROM closed',
		'SELECT count(*) FROM dtm.live',
		'SELECT status FROM dtm.transactions WHERE gid = ''priv-run-a''',
		'SELECT status FROM dtm.transactions WHERE gid = ''priv-b''',
		'SELECT dtm_stop(''priv-b'')',
		'SET ROLE postgres',
		'RESET ROLE',
		'SET LOCAL ROLE NONE',
		'SELECT set_config(''role'', ''postgres'', true)',
		'SET SESSION AUTHORIZATION DEFAULT',
		'RESET SESSION AUTHORIZATION',
		'SET ROLE regress_dtm_b',
		'SELECT current_user',
		'CREATE TEMP TABLE left_behind (a int)',
		'CREATE TABLE pg_temp.left_behind (a int)',
		'DECLARE left_behind CURSOR WITH HOLD FOR SELECT 1',
		'PREPARE left_behind AS SELECT 1',
		'LISTEN left_behind',
		'DISCARD ALL',
		'ALTER ROLE regress_dtm_a SUPERUSER',
		'ALTER SYSTEM SET dtm.workers = 2',
		'SET dtm.allowed_targets = ''*''',
		'SET session_replication_role = replica',
		'COPY log FROM PROGRAM ''true''',
		'COMMIT'
	]) WITH ORDINALITY AS t (s, n)), 'priv-run-a');
SELECT dtm_wait('priv-run-a');
SET ROLE regress_dtm_b;
SELECT dtm_saga_submit('[{"action": "sql:who"}]', 'priv-run-b');
SELECT dtm_wait('priv-run-b');
RESET ROLE;
SELECT says FROM log ORDER BY n;

-- nobody makes it count as done already
TRUNCATE log;
SET ROLE regress_dtm_b;
SELECT dtm_barrier('saga', 'priv-spoofed', '01', 'action', 'sql');
SELECT id, outcome(format('SELECT dtm_barrier(''saga'', ''priv-spoofed'', ''01'', ''action'', %L)', id)) FROM unnest('{01,02,SQL," sql",sql\,}'::text[]) AS id;
SELECT dtm_barrier('gid=priv-spoofed&trans_type=saga&branch_id=01&op=compensate&barrier_id=sql');
SET ROLE regress_dtm_a;
SELECT dtm_saga_submit('[{"action": "sql:who"}]', 'priv-spoofed');
SELECT dtm_wait('priv-spoofed');
RESET ROLE;
SELECT says FROM log;

-- through SECURITY DEFINER the rights are the definer's, and only inside
TRUNCATE log;
CREATE FUNCTION who_definer(payload jsonb) RETURNS void LANGUAGE sql SECURITY DEFINER AS $$ SELECT privileges.who(payload) $$;
ALTER FUNCTION who_definer(jsonb) OWNER TO regress_dtm_b;
SET ROLE regress_dtm_a;
SELECT dtm_saga_submit('[{"action": "sql:who_definer"}, {"action": "sql:who"}]', 'priv-definer-run');
SELECT dtm_wait('priv-definer-run');
RESET ROLE;
SELECT says FROM log ORDER BY n;

-- constraints that could wait for the commit are checked at once, as the role
TRUNCATE log;
CREATE TABLE watched (a int);
GRANT INSERT ON watched TO regress_dtm_a;
CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO log (says) VALUES (format('trigger as %s for %s', current_user, NEW.a));
	IF NEW.a < 0 THEN
		RAISE EXCEPTION 'negative';
	END IF;
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER watch AFTER INSERT ON watched DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION watch();
CREATE FUNCTION inserts(payload jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO watched VALUES (payload::int) $$;
CREATE FUNCTION defers(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO log (says) VALUES (outcome('SET CONSTRAINTS ALL DEFERRED'));
	INSERT INTO log (says) VALUES (outcome('INSERT INTO watched VALUES (3)'));
END $$;
SET ROLE regress_dtm_a;
SELECT dtm_saga_submit('[{"action": "sql:inserts", "payload": 1}, {"action": "sql:defers"}, {"action": "sql:inserts", "payload": 2}]', 'priv-deferred');
SELECT dtm_wait('priv-deferred');
SELECT dtm_saga_submit('[{"action": "sql:inserts", "payload": -1}]', 'priv-deferred-fails', retry_limit => 0);
SELECT dtm_wait('priv-deferred-fails');
SELECT regexp_replace(last_error, ' - .*', '') FROM dtm.branches WHERE gid = 'priv-deferred-fails' AND op = 'action';
RESET ROLE;
SELECT says FROM log ORDER BY n;
SELECT a FROM watched ORDER BY a;

-- a function leaves nothing behind for the next one, which may be another role's
TRUNCATE log;
CREATE FUNCTION litters(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('regress_app.tenant', 'a', false);
	SET search_path = nowhere;
	SET lock_timeout = '1 ms';
	SET default_transaction_isolation = 'serializable';
	SET default_transaction_read_only = on;
	PERFORM pg_advisory_lock_shared(4713);
END $$;
CREATE FUNCTION finds(payload jsonb) RETURNS void LANGUAGE sql AS $$
	INSERT INTO log (says) SELECT format('tenant "%s", search_path "%s", lock_timeout %s, %s, read only %s, advisory locks %s',
		current_setting('regress_app.tenant', true), current_setting('search_path'), current_setting('lock_timeout'),
		current_setting('transaction_isolation'), current_setting('transaction_read_only'),
		(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()))
$$;
SET ROLE regress_dtm_a;
SELECT dtm_saga_submit(jsonb_agg(dtm_step('sql:litters')), 'priv-litters', concurrent => true) FROM generate_series(1, 8);
SELECT dtm_wait('priv-litters');
SET ROLE regress_dtm_b;
SELECT dtm_saga_submit(jsonb_agg(dtm_step('sql:finds')), 'priv-finds', concurrent => true) FROM generate_series(1, 8);
SELECT dtm_wait('priv-finds');
RESET ROLE;
SELECT says, count(*) FROM log GROUP BY 1;
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4713;

-- the statements behind the functions use no operator of whoever calls
\c -
SET client_min_messages = warning;
CREATE SCHEMA trap;
CREATE TABLE trap.caught (who name);
GRANT USAGE ON SCHEMA trap TO PUBLIC;
GRANT INSERT ON trap.caught TO PUBLIC;
CREATE FUNCTION trap.meets(text, text) RETURNS boolean LANGUAGE sql AS $$
	INSERT INTO trap.caught VALUES (current_user);
	SELECT $1 OPERATOR(pg_catalog.=) $2;
$$;
CREATE OPERATOR trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.meets);
CREATE FUNCTION trap.meets_not(text, text) RETURNS boolean LANGUAGE sql AS $$
	INSERT INTO trap.caught VALUES (current_user);
	SELECT $1 OPERATOR(pg_catalog.<>) $2;
$$;
CREATE OPERATOR trap.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.meets_not);
SET ROLE regress_dtm_a;
SET search_path = trap, pg_catalog, public;
SELECT dtm_msg_prepare('[{"action": "http://127.0.0.1:9/"}]', 'http://127.0.0.1:9/', 'priv-trap', timeout_to_fail => '1 day');
SELECT dtm_msg_prepare('[{"action": "http://127.0.0.1:9/"}]', 'http://127.0.0.1:9/', 'priv-trap', timeout_to_fail => '1 day');
SELECT dtm_abort('priv-trap'), dtm_wait('priv-trap'), dtm_status('priv-trap'), dtm_retry('priv-trap'), dtm_stop('priv-trap');
SELECT dtm_barrier('saga', 'priv-trap', '01', 'compensate'), dtm_barrier_query_prepared('gid=priv-trap&trans_type=msg&branch_id=00&op=msg');
SELECT count(*) FROM dtm_timeline('priv-trap');
SELECT gid, status FROM dtm.transactions WHERE gid OPERATOR(pg_catalog.=) 'priv-trap';
SELECT dtm_purge('10 years');
RESET ROLE;
SELECT who FROM caught;
SET search_path = privileges, public;
DROP SCHEMA trap CASCADE;

-- rights that are taken away after the submit are gone
CREATE FUNCTION revoked(payload jsonb) RETURNS void LANGUAGE sql AS 'SELECT';
BEGIN;
SET LOCAL ROLE regress_dtm_a;
SELECT dtm_saga_submit('[{"action": "sql:revoked"}]', 'priv-revoked', retry_limit => 0);
RESET ROLE;
REVOKE EXECUTE ON FUNCTION revoked(jsonb) FROM PUBLIC;
COMMIT;
SELECT dtm_wait('priv-revoked');
SELECT regexp_replace(last_error, ' - .*', '') FROM dtm.branches WHERE gid = 'priv-revoked' AND op = 'action';

-- so are those of a role that was dropped
CREATE ROLE regress_dtm_gone;
SELECT dtm_grant('regress_dtm_gone');
GRANT USAGE ON SCHEMA privileges TO regress_dtm_gone;
BEGIN;
SET LOCAL ROLE regress_dtm_gone;
SELECT dtm_saga_submit('[{"action": "sql:who"}]', 'priv-gone', retry_limit => 0);
RESET ROLE;
DROP OWNED BY regress_dtm_gone;
DROP ROLE regress_dtm_gone;
COMMIT;
SELECT dtm_wait('priv-gone');
SELECT last_error FROM dtm.branches WHERE gid = 'priv-gone' AND op = 'action';
SELECT submitted_by::text ~ '^\d+$' AS a_number FROM dtm.transactions WHERE gid = 'priv-gone';
SET ROLE regress_dtm_a;
SELECT * FROM asks('priv-gone');
RESET ROLE;

SELECT dtm_stop('priv-b');
SELECT dtm_purge('0') > 0 AS purged;
SELECT gid FROM dtm.transactions WHERE gid LIKE 'priv-%';
DROP SCHEMA privileges CASCADE;
DROP OWNED BY regress_dtm_a, regress_dtm_b, regress_dtm_none, regress_dtm_monitor, regress_dtm_boss, regress_dtm_outer;
DROP ROLE regress_dtm_a, regress_dtm_b, regress_dtm_none, regress_dtm_monitor, regress_dtm_boss, regress_dtm_outer;
