-- TCC and XA that their client runs: dtm_tcc_begin, dtm_tcc_register, dtm_xa_begin, dtm_xa_register: arguments, what is
-- refused, with whose transaction a registration comes and goes, what the views show, privileges.
\set VERBOSITY terse
\pset format unaligned
\pset tuples_only on
\pset null (null)
SET client_min_messages = warning;
CREATE SCHEMA reg;
SET search_path = reg, public;
-- the coordinator may not have come yet, and without it a registration is written by the session itself
DO $$ BEGIN
	FOR i IN 1 .. 600 LOOP
		EXIT WHEN EXISTS (SELECT FROM dtm.workers WHERE state = 'running');
		PERFORM pg_sleep(0.05);
	END LOOP;
END $$;

CREATE TABLE log (n int GENERATED ALWAYS AS IDENTITY, says text);
CREATE FUNCTION note(payload jsonb) RETURNS void LANGUAGE sql AS $$
	INSERT INTO reg.log (says) VALUES (format('%s %s %s', dtm_context() ->> 'op', dtm_context() ->> 'branch_id', payload)) $$;
CREATE FUNCTION calls() RETURNS text LANGUAGE sql AS $$
	WITH gone AS (DELETE FROM reg.log RETURNING *) SELECT string_agg(says, ', ' ORDER BY n) FROM gone $$;
CREATE FUNCTION branches(of text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(concat_ws(' ', branch_id, op, status), ', ' ORDER BY branch_id COLLATE "C", op DESC) FROM dtm.branches WHERE gid = of $$;
CREATE FUNCTION stored() RETURNS bigint LANGUAGE sql AS $$
	SELECT (SELECT count(*) FROM dtm.trans) + (SELECT count(*) FROM dtm.branch) $$;
CREATE FUNCTION refused(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	before bigint := stored();
	answer text;
	hint text;
BEGIN
	BEGIN
		EXECUTE statement INTO answer;
		RETURN 'ACCEPTED: ' || coalesce(answer, '(null)');
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
		answer := SQLSTATE || ': ' || SQLERRM || coalesce(E'\n  hint: ' || nullif(hint, ''), '');
	END;
	IF stored() <> before THEN
		answer := answer || E'\n  BUT SOMETHING IS STORED';
	END IF;
	RETURN answer;
END $$;
CREATE FUNCTION tcc(arguments text) RETURNS text LANGUAGE sql AS $$ SELECT refused('SELECT dtm_tcc_register(' || arguments || ')') $$;
CREATE FUNCTION xa(arguments text) RETURNS text LANGUAGE sql AS $$ SELECT refused('SELECT dtm_xa_register(' || arguments || ')') $$;

--
-- Begin
--
SELECT dtm_tcc_begin('t', timeout_to_fail => '1 hour');
SELECT dtm_tcc_begin('t', timeout_to_fail => '1 hour');
SELECT refused('SELECT dtm_tcc_begin(''t'')');
SELECT refused('SELECT dtm_xa_begin(''t'', timeout_to_fail => ''1 hour'')');
SELECT refused('SELECT dtm_tcc_submit(''[{"try": "", "confirm": "", "cancel": ""}]'', ''t'', timeout_to_fail => ''1 hour'')');
SELECT dtm_xa_begin('x', timeout_to_fail => '1 hour');
SELECT dtm_tcc_begin('options', '1 s', '2 s', 3, '4 min', '{"X-A": "secret"}', '5 days');
SELECT gid, trans_type, status, options FROM dtm.transactions WHERE gid IN ('t', 'x', 'options') ORDER BY gid;
SELECT dtm_abort('options');
SELECT length(dtm_abort(dtm_tcc_begin())), length(dtm_abort(dtm_xa_begin()));
SELECT refused('SELECT dtm_tcc_begin('''')');
SELECT refused('SELECT dtm_tcc_begin(E''a\nb'')');
SELECT refused('SELECT dtm_xa_begin(repeat(''x'', 129))');
SELECT refused('SELECT dtm_tcc_begin(timeout_to_fail => ''-1 s'')');
SELECT refused('SELECT dtm_tcc_begin(timeout_to_fail => ''0'')');
SELECT refused('SELECT dtm_xa_begin(request_timeout => ''2 days'')');
SELECT refused('SELECT dtm_tcc_begin(headers => ''[]'')');

--
-- Bad input
--
SELECT tcc($$NULL, '01', '', ''$$);
SELECT tcc($$'t', NULL, '', ''$$);
SELECT tcc($$'t', '01', NULL, ''$$);
SELECT tcc($$'t', '01', '', NULL$$);
SELECT tcc($$'', '01', '', ''$$);
SELECT tcc($$'nobody', '01', '', ''$$);
SELECT tcc($$'t', '', '', ''$$);
SELECT tcc($$'t', E'a\tb', '', ''$$);
SELECT tcc($$'t', E'\x7F', '', ''$$);
SELECT tcc($$'t', repeat('x', 129), '', ''$$);
SELECT tcc($$'t', '01', 'nothing', ''$$);
SELECT tcc($$'t', '01', '', 'ftp://a/b'$$);
SELECT tcc($$'t', '01', 'topic://x', ''$$);
SELECT tcc($$'t', '01', 'http://', ''$$);
SELECT tcc($$'t', '01', 'http://127.0.0.1:9/' || repeat('x', 3000), ''$$);
SELECT tcc($$'t', '01', 'http://127.0.0.1:9/', 'http://169.254.169.254/'$$);
SELECT tcc($$'t', '01', 'sql:nobody', ''$$);
SELECT tcc($$'t', '01', '', 'sql:nobody'$$);
SELECT tcc($$'t', '01', '', 'sql:stored'$$);
SELECT tcc($$'t', '01', '', '', to_jsonb(repeat('x', 17000000))$$);
SELECT tcc($$'x', '01', '', ''$$);
SELECT xa($$NULL, '01', 'http://127.0.0.1:9/'$$);
SELECT xa($$'x', NULL, 'http://127.0.0.1:9/'$$);
SELECT xa($$'x', '01', NULL$$);
SELECT xa($$'x', '01', ''$$);
SELECT xa($$'x', '', 'http://127.0.0.1:9/'$$);
SELECT xa($$'x', '01', 'sql:reg.note'$$);
SELECT xa($$'x', '01', 'pg://nobody/f'$$);
SELECT tcc($$'t', '01', 'pg://nobody/f', ''$$);
SELECT xa($$'x', '01', 'topic://x'$$);
SELECT xa($$'x', '01', 'http://169.254.169.254/'$$);
SELECT xa($$'t', '01', 'http://127.0.0.1:9/'$$);
SELECT xa($$'nobody', '01', 'http://127.0.0.1:9/'$$);
-- what is submitted as a whole takes no more
SELECT dtm_saga_submit('[{"action": ""}]', 'saga', start_after => '1 day');
SELECT tcc($$'saga', '01', '', ''$$);
SELECT dtm_tcc_submit('[{"try": "", "confirm": "", "cancel": ""}]', 'whole', start_after => '1 day');
SELECT tcc($$'whole', '02', '', ''$$);
SELECT xa($$'whole', '02', 'http://127.0.0.1:9/'$$);
SELECT dtm_stop('saga'), dtm_stop('whole');
SELECT branches('t'), branches('x');

--
-- Registered, and again
--
SELECT dtm_tcc_register('t', '01', 'sql:note', 'sql:note', '{"n": 1}');
SELECT dtm_tcc_register('t', '01', 'sql:note', 'sql:note', '{"n": 1}');
SELECT tcc($$'t', '01', 'sql:note', 'sql:note', '{"n": 2}'$$);
SELECT tcc($$'t', '01', 'sql:note', '', '{"n": 1}'$$);
SELECT tcc($$'t', '01', 'sql:note', 'sql:note'$$);
SELECT dtm_tcc_register('t', 'second ü', '', 'sql:reg.note');
SELECT dtm_tcc_register('t', repeat('x', 128), 'sql:note', '', '[]');
SELECT dtm_xa_register('x', '01', 'http://127.0.0.1:9/xa');
SELECT dtm_xa_register('x', '01', 'http://127.0.0.1:9/xa');
SELECT xa($$'x', '01', 'http://127.0.0.1:9/other'$$);
SELECT branch_id, op, url, status, attempts FROM dtm.branches WHERE gid IN ('t', 'x') ORDER BY gid, length(branch_id), branch_id, op;
-- a begin that is repeated is the same one, whatever it has got since
SELECT dtm_tcc_begin('t', timeout_to_fail => '1 hour');
SELECT count(*) FROM dtm.stuck WHERE gid IN ('t', 'x');
-- the end: the last one first
SELECT dtm_submit('t');
SELECT dtm_wait('t');
SELECT calls();
SELECT branches('t');
-- who has written a registration has none of its settings left for the functions that it runs
CREATE FUNCTION settings(payload jsonb) RETURNS void LANGUAGE sql AS $$
	INSERT INTO reg.log (says) VALUES (concat_ws(' ', current_setting('lock_timeout'), current_setting('transaction_isolation'))) $$;
SELECT dtm_tcc_begin('left', timeout_to_fail => '1 hour');
DO $$ BEGIN
	FOR i IN 1 .. 6 LOOP PERFORM dtm_tcc_register('left', i::text, 'sql:settings', ''); END LOOP;
END $$;
SELECT dtm_submit('left');
SELECT dtm_wait('left');
SELECT calls();
SELECT tcc($$'t', '04', '', ''$$);
SELECT tcc($$'t', '01', 'sql:note', 'sql:note', '{"n": 1}'$$);
SELECT dtm_stop('x');
SELECT xa($$'x', '02', 'http://127.0.0.1:9/xa'$$);

--
-- With whose transaction
--
-- the begin is not committed: with it
BEGIN;
SELECT dtm_tcc_begin('same', timeout_to_fail => '1 hour');
SELECT dtm_tcc_register('same', '01', 'sql:note', 'sql:note', '1');
SAVEPOINT s;
SELECT dtm_tcc_register('same', '02', 'sql:note', 'sql:note', '2');
ROLLBACK TO s;
SELECT dtm_tcc_register('same', '03', 'sql:note', 'sql:note', '3');
SELECT branches('same');
COMMIT;
SELECT branches('same');
BEGIN;
SELECT dtm_xa_begin('undone');
SELECT dtm_xa_register('undone', '01', 'http://127.0.0.1:9/');
ROLLBACK;
SELECT count(*) FROM dtm.transactions WHERE gid = 'undone';
BEGIN;
SAVEPOINT s;
SELECT dtm_tcc_begin('undone');
SELECT dtm_tcc_register('undone', '01', '', '');
ROLLBACK TO s;
SELECT tcc($$'undone', '01', '', ''$$);
COMMIT;
-- the begin is committed: for itself, in any isolation level
BEGIN;
SELECT dtm_tcc_register('same', '04', 'sql:note', 'sql:note', '4');
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT branches('same');
SELECT dtm_tcc_register('same', '05', 'sql:note', 'sql:note', '5');
SELECT dtm_tcc_register('same', '05', 'sql:note', 'sql:note', '5');
SELECT branches('same');
ROLLBACK;
SELECT branches('same');
-- the transaction has changed the row itself: with it, and it says so
BEGIN;
SELECT dtm_retry('same');
SELECT dtm_tcc_register('same', '06', 'sql:note', 'sql:note', '6');
ROLLBACK;
SELECT branches('same') LIKE '%06%';
-- decided in this transaction: no more
BEGIN;
SELECT dtm_submit('same');
SELECT tcc($$'same', '07', '', ''$$);
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT dtm_abort('same');
ROLLBACK TO s;
SELECT dtm_tcc_register('same', '07', '', '');
COMMIT;
-- a row that is locked by the transaction, and not changed: nobody else can write
BEGIN;
SELECT status FROM dtm.live JOIN dtm.trans USING (id) WHERE gid = 'same' FOR UPDATE OF live;
SELECT tcc($$'same', '08', '', ''$$);
ROLLBACK;
-- an old snapshot is no obstacle to the decision
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM dtm.live WHERE false;
SELECT dtm_tcc_register('same', '09', 'sql:note', 'sql:note', '9');
SELECT dtm_abort('same', 'enough');
COMMIT;
SELECT dtm_wait('same');
SELECT calls();
SELECT rollback_reason FROM dtm.transactions WHERE gid = 'same';
SELECT tcc($$'same', '10', '', ''$$);

-- read-only
BEGIN READ ONLY;
SELECT refused('SELECT dtm_tcc_begin()'), refused('SELECT dtm_xa_begin()');
SELECT tcc($$'same', '01', '', ''$$), xa($$'same', '01', 'http://127.0.0.1:9/'$$);
ROLLBACK;
-- the defaults of the database do not matter to who writes
SELECT current_database() AS db \gset
SELECT dtm_tcc_begin('defaults', timeout_to_fail => '1 hour');
ALTER DATABASE :"db" SET default_transaction_read_only = on;
ALTER DATABASE :"db" SET default_transaction_isolation = 'serializable';
SELECT count(pg_terminate_backend(pid)) >= 0 FROM pg_stat_activity WHERE backend_type = 'dtm_pg executor' AND datname = current_database();
DO $$ BEGIN
	FOR i IN 1 .. 600 LOOP
		EXIT WHEN NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'dtm_pg executor' AND datname = current_database());
		PERFORM pg_sleep(0.05);
	END LOOP;
END $$;
SELECT dtm_tcc_register('defaults', '01', '', '');
SET default_transaction_read_only = off;
ALTER DATABASE :"db" RESET default_transaction_read_only;
ALTER DATABASE :"db" RESET default_transaction_isolation;
RESET default_transaction_read_only;
SELECT count(pg_terminate_backend(pid)) >= 0 FROM pg_stat_activity WHERE backend_type = 'dtm_pg executor' AND datname = current_database();
SELECT branches('defaults'), dtm_abort('defaults');

--
-- As many as there may be, and no more
--
BEGIN;
SELECT dtm_tcc_begin('many', timeout_to_fail => '1 hour');
DO $$ BEGIN
	FOR i IN 1 .. 2 LOOP PERFORM dtm_tcc_register('many', i::text, '', ''); END LOOP;
END $$;
-- the others as copies, for it takes a while to register each
INSERT INTO dtm.branch (id, seq, spec)
SELECT b.id, n, set_byte(b.spec, position('\x32'::bytea IN b.spec) - 1, 51) FROM dtm.branch AS b JOIN dtm.trans AS t USING (id), generate_series(2, 998) AS n
WHERE t.gid = 'many' AND b.seq = 1;
SELECT dtm_tcc_register('many', 'the last', '', '');
SELECT tcc($$'many', 'one more', '', ''$$);
SELECT dtm_tcc_register('many', 'the last', '', '');
ROLLBACK;

-- nor as large as they like: what is stored must be readable
SELECT dtm_tcc_begin('large', timeout_to_fail => '1 hour');
DO $$ BEGIN
	FOR i IN 1 .. 8 LOOP PERFORM dtm_tcc_register('large', i::text, '', '', to_jsonb(repeat('x', 1048000))); END LOOP;
END $$;
SELECT tcc($$'large', '9', '', '', to_jsonb(repeat('x', 1048000))$$);
SELECT dtm_tcc_register('large', '9', '', '', '"small"');
SELECT dtm_abort('large');
SELECT dtm_wait('large');
SELECT count(*) FROM dtm.branches WHERE gid = 'large' AND op = 'cancel' AND status = 'succeed';

--
-- Privileges
--
CREATE ROLE reg_app;
CREATE ROLE reg_other;
CREATE ROLE reg_none;
SELECT dtm_grant('reg_app'), dtm_grant('reg_other');
GRANT USAGE ON SCHEMA reg TO reg_app, reg_other, reg_none;
CREATE FUNCTION secret(payload jsonb) RETURNS void LANGUAGE sql AS 'SELECT';
REVOKE ALL ON FUNCTION secret(jsonb) FROM PUBLIC;
SET ROLE reg_none;
SELECT dtm_tcc_begin();
SELECT dtm_xa_begin();
SELECT dtm_tcc_register('t', '01', '', '');
SELECT dtm_xa_register('x', '01', 'http://127.0.0.1:9/');
SET ROLE reg_app;
SELECT dtm_tcc_begin('mine', timeout_to_fail => '1 hour');
SELECT dtm_tcc_register('mine', '01', '', '');
SELECT dtm_xa_begin('mine-xa', timeout_to_fail => '1 hour');
SELECT dtm_xa_register('mine-xa', '01', 'http://127.0.0.1:9/');
SELECT dtm_tcc_register('mine', '02', '', 'sql:reg.secret');
SELECT dtm_tcc_register('mine', '02', 'sql:reg.secret', '');
SELECT branches('mine'), branches('mine-xa');
SET ROLE reg_other;
SELECT dtm_tcc_register('mine', '02', '', '');
SELECT dtm_xa_register('mine-xa', '02', 'http://127.0.0.1:9/');
SELECT dtm_tcc_begin('mine', timeout_to_fail => '1 hour');
-- a member of the role may
RESET ROLE;
GRANT reg_app TO reg_other;
SET ROLE reg_other;
SELECT dtm_tcc_register('mine', '02', '', '');
RESET ROLE;
SELECT branches('mine');
SELECT dtm_stop('mine'), dtm_stop('mine-xa');
SELECT dtm_purge('0') > 0;
DROP OWNED BY reg_app, reg_other, reg_none;
DROP ROLE reg_app, reg_other, reg_none;
