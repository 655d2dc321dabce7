-- Messages of one database transaction: who waits for whom, what a user sees of it, what lets them go.
\set VERBOSITY terse
\pset format unaligned
\pset tuples_only on
\pset null (null)
SET client_min_messages = warning;
CREATE SCHEMA msg_order;
SET search_path = msg_order, public;

CREATE TABLE log (n int GENERATED ALWAYS AS IDENTITY, says text);
CREATE FUNCTION note(payload jsonb) RETURNS void LANGUAGE sql AS $$
	INSERT INTO msg_order.log (says) VALUES (dtm_context() ->> 'gid') $$;
-- Refuses until its gid is in the table.
CREATE TABLE open (gid text);
CREATE FUNCTION closed(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM msg_order.open WHERE gid = dtm_context() ->> 'gid') THEN
		PERFORM dtm_fail('closed');
	END IF;
	PERFORM msg_order.note(payload);
END $$;
CREATE FUNCTION msg(gid text, target text DEFAULT 'note', delay interval DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
	SELECT dtm_msg_submit(jsonb_build_array(jsonb_build_object('action', 'sql:msg_order.' || target)), gid, delay, retry_interval => '50 ms') $$;
CREATE VIEW waiting AS
	SELECT gid, waits_for, next_run_at, status FROM dtm.transactions WHERE waits_for IS NOT NULL ORDER BY created_at;
CREATE FUNCTION seen() RETURNS text LANGUAGE sql AS $$ SELECT string_agg(says, ' ' ORDER BY n) FROM msg_order.log $$;

--
-- Who waits for whom; nothing is delivered before the commit
--
BEGIN;
SELECT msg('a-1'), msg('a-2'), msg('a-3');
SELECT * FROM waiting;
-- delayed and prepared ones are not in the chain, sagas neither
SELECT msg('a-late', delay => '1 day'), dtm_msg_prepare('[{"action": ""}]', 'http://127.0.0.1:9/', 'a-prepared', timeout_to_fail => '1 day');
SELECT dtm_saga_submit('[{"action": "sql:note"}]', 'a-saga', start_after => '1 day');
SELECT msg('a-4');
-- submitted again: no effect, and no link of the chain
SELECT msg('a-1'), msg('a-5');
SELECT * FROM waiting;
-- one that is due waits in a timer, these do not
SELECT t.gid FROM dtm.timer AS i JOIN dtm.trans AS t USING (id) WHERE t.gid LIKE 'a-%' ORDER BY 1;
-- no infinity in what is shown
SELECT count(next_run_at - now()), count(to_jsonb(t)) FROM dtm.transactions AS t WHERE gid LIKE 'a-%';
ROLLBACK;

-- a savepoint that is rolled back: what follows is behind the last one that is left
BEGIN;
SAVEPOINT one;
SELECT msg('b-gone');
ROLLBACK TO one;
SELECT msg('b-1');
SAVEPOINT two;
SELECT msg('b-gone');
SAVEPOINT three;
SELECT msg('b-gone-too');
RELEASE three;
ROLLBACK TO two;
SELECT msg('b-2');
SAVEPOINT four;
SELECT msg('b-3');
SAVEPOINT five;
SELECT msg('b-4');
RELEASE four;
SELECT msg('b-5');
SELECT gid, waits_for FROM waiting;
ROLLBACK;
-- an exception block is a savepoint, too
BEGIN;
DO $$ BEGIN
	PERFORM msg('c-1');
	FOR i IN 2 .. 5 LOOP
		BEGIN
			PERFORM msg('c-' || i);
			IF i % 2 = 1 THEN
				RAISE EXCEPTION 'no';
			END IF;
		EXCEPTION WHEN raise_exception THEN
			NULL;
		END;
	END LOOP;
END $$;
SELECT msg('c-6');
SELECT gid, waits_for FROM waiting;
ROLLBACK;
-- the next transaction begins anew
BEGIN;
SELECT msg('d-1');
SELECT gid, waits_for FROM waiting;
ROLLBACK;

DO $$ BEGIN
	PERFORM msg('d-1', 'closed'), msg('d-2');
	COMMIT;
	PERFORM msg('d-3'), msg('d-4');
	RAISE WARNING '%', (SELECT array_agg(concat_ws(' after ', gid, waits_for) ORDER BY gid) FROM dtm.transactions WHERE gid LIKE 'd-%');
	ROLLBACK;
	PERFORM dtm_stop('d-1'), dtm_stop('d-2');
END $$;

-- stopped in the transaction that submitted it
BEGIN;
SELECT msg('e-1'), msg('e-2'), msg('e-3'), msg('e-4');
SELECT dtm_stop('e-2');
SELECT gid, waits_for FROM waiting;
SAVEPOINT back;
SELECT dtm_stop('e-4'), dtm_stop('e-3');
SELECT msg('e-5');
SELECT gid, waits_for FROM waiting;
ROLLBACK TO back;
SELECT msg('e-6'), dtm_stop('e-1');
SELECT gid, waits_for FROM waiting;
SELECT dtm_stop('e-3'), dtm_stop('e-4'), dtm_stop('e-6');
SELECT msg('e-7');
SELECT gid, waits_for FROM waiting;
ROLLBACK;

--
-- Each role's messages are a chain of their own: nobody holds up what a function submits with other rights
--
CREATE ROLE msg_order_other;
SELECT dtm_grant('msg_order_other');
GRANT USAGE ON SCHEMA msg_order TO msg_order_other;
CREATE FUNCTION of_other(gid text) RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = msg_order, public AS $$ SELECT msg(gid) $$;
GRANT CREATE ON SCHEMA msg_order TO msg_order_other;
ALTER FUNCTION of_other(text) OWNER TO msg_order_other;
BEGIN;
SELECT msg('f-1'), of_other('f-2'), msg('f-3'), of_other('f-4');
SELECT gid, waits_for FROM waiting;
ROLLBACK;
DROP FUNCTION of_other(text);
DROP OWNED BY msg_order_other;
DROP ROLE msg_order_other;

--
-- Delivery
--
BEGIN;
SELECT msg('g-' || i) FROM generate_series(1, 20) AS i;
COMMIT;
SELECT dtm_wait('g-20');
SELECT seen();
SELECT count(*) FROM dtm.transactions WHERE waits_for IS NOT NULL;
TRUNCATE log;
-- one that keeps failing holds up those behind it, and nobody else
BEGIN;
SELECT msg('h-1'), msg('h-2', 'closed'), msg('h-3'), msg('h-4');
COMMIT;
SELECT msg('h-alone');
SELECT dtm_wait('h-1'), dtm_wait('h-alone');
DO $$ BEGIN
	FOR i IN 1 .. 600 LOOP
		EXIT WHEN EXISTS (SELECT FROM dtm.stuck WHERE gid = 'h-2');
		PERFORM pg_sleep(0.05);
	END LOOP;
END $$;
SELECT gid, status, next_run_at IS NULL, regexp_replace(reason, '\d+ failures', 'N failures'), suggestion FROM dtm.stuck WHERE gid LIKE 'h-%' ORDER BY gid;
SELECT * FROM waiting;
SELECT gid, branch_id, status, attempts, next_run_at FROM dtm.branches WHERE gid IN ('h-3', 'h-4') ORDER BY gid;
-- dtm_retry does not wait for the turn, and what is behind follows
SELECT dtm_retry('h-4');
SELECT dtm_wait('h-4');
SELECT dtm_status('h-3');
INSERT INTO open VALUES ('h-2');
SELECT dtm_retry('h-2');
SELECT dtm_wait('h-3');
SELECT string_agg(says, ' ' ORDER BY n) FILTER (WHERE says <> 'h-alone') FROM log;
SELECT count(*) FROM dtm.stuck WHERE gid LIKE 'h-%';
TRUNCATE log;
-- dtm_stop lets those behind go on; of one that waits itself, they move up
BEGIN;
SELECT msg('i-1', 'closed'), msg('i-2'), msg('i-3'), msg('i-4');
COMMIT;
SELECT dtm_stop('i-3');
SELECT gid, waits_for FROM waiting;
BEGIN;
SELECT dtm_stop('i-1');
ROLLBACK;
SELECT gid, waits_for FROM waiting;
SELECT dtm_stop('i-1', 'no way');
SELECT dtm_wait('i-4');
SELECT seen();
SELECT gid, status FROM dtm.transactions WHERE gid LIKE 'i-%' ORDER BY gid;

SELECT count(*) FROM dtm.live AS l JOIN dtm.trans AS t USING (id) WHERE t.gid ~ '^[a-i]-';
DROP SCHEMA msg_order CASCADE;
