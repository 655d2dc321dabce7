-- dtm_gid and dtm_saga_submit: arguments, repeating, transactions.
CREATE SCHEMA submit;
SET search_path = submit, public;
SET client_min_messages = warning;

CREATE TABLE log (n int GENERATED ALWAYS AS IDENTITY, says text);
CREATE FUNCTION note(payload jsonb) RETURNS void LANGUAGE sql AS $$
	INSERT INTO submit.log (says) VALUES (format('%s %s: %s', public.dtm_context() ->> 'branch_id', public.dtm_context() ->> 'op', payload)) $$;
CREATE FUNCTION refuse(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM dtm_fail('refused'); END $$;
-- What is there of a transaction.
CREATE FUNCTION stored(prefix text) RETURNS TABLE (gid text, status text, options jsonb) LANGUAGE sql AS $$
	SELECT gid, status, options FROM dtm.transactions WHERE gid LIKE prefix || '%' ORDER BY gid COLLATE "C" $$;
-- How a submit of other content under this gid ends.
CREATE FUNCTION again(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	EXECUTE statement INTO answer;
	RETURN 'accepted: ' || answer;
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ': ' || SQLERRM;
END $$;

--
-- dtm_gid
--
SELECT count(DISTINCT g), min(length(g)), max(length(g)), bool_and(g ~ '^[2-9A-HJ-NP-Za-z]+$')
FROM (SELECT dtm_gid() AS g FROM generate_series(1, 10000)) AS gids;
-- sorts by time, also within a millisecond
SELECT count(*) FROM (SELECT g, lag(g) OVER (ORDER BY n) AS before
	FROM (SELECT n, dtm_gid() COLLATE "C" AS g FROM generate_series(1, 10000) AS n) AS gids) AS pairs
WHERE g <= before;

--
-- Arguments
--
BEGIN;
-- by position
SELECT dtm_saga_submit('[{"action": "http://127.0.0.1:9/"}]', 'arg-1', true, '1 s', '2 s', 3, '4 min', '{"X-A": "secret"}', '5 days');
-- by name, in any order
SELECT dtm_saga_submit(start_after => '5 days', headers => '{"X-A": "secret"}', timeout_to_fail => '4 min', retry_limit => 3, retry_interval => '2 s',
	request_timeout => '1 s', concurrent => true, gid => 'arg-2', steps => '[{"action": "http://127.0.0.1:9/"}]');
-- NULL is what is configured
SELECT dtm_saga_submit('[{"action": "http://127.0.0.1:9/"}]', 'arg-3', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT dtm_saga_submit('[{"action": "http://127.0.0.1:9/"}]', 'arg-4');
-- least and greatest
SELECT dtm_saga_submit('[{"action": "http://127.0.0.1:9/"}]', 'arg-5', false, '1 us', '1 us', 0, '1 us', '{}', '0');
SELECT dtm_saga_submit('[{"action": "http://127.0.0.1:9/"}]', 'arg-6', false, '1 day', '7 days', 1000000, '365 days', '{}', '365 days');
SELECT dtm_saga_submit('[{"action": "http://127.0.0.1:9/"}]', 'arg-7', request_timeout => '2.5 s', retry_interval => '1500 us', start_after => '1 month');
SELECT dtm_saga_submit('[{"action": "http://127.0.0.1:9/"}]', 'arg-8', headers => '{"X-B": "", "x-a": "1", "X-A": "2", "Content-Type": "text/plain"}');
SELECT * FROM stored('arg-');
-- same content: NULL, absent and empty are the same
SELECT again($$ SELECT dtm_saga_submit('[{"action": "http://127.0.0.1:9/"}]', 'arg-3') $$),
	again($$ SELECT dtm_saga_submit('[{"action": "http://127.0.0.1:9/", "compensate": null, "payload": null, "name": null, "headers": {}, "after": [],
		"request_timeout": null, "retry_limit": null}]', 'arg-4', false, headers => '{}') $$);
-- times
SELECT gid, next_run_at - created_at AS starts_after, updated_at = created_at AS not_updated, finished_at, attempts, rollback_reason, result, trans_type,
	submitted_by = current_user::regrole AS mine
FROM dtm.transactions WHERE gid IN ('arg-1', 'arg-5', 'arg-7') ORDER BY gid;
-- a gid as long as can be, of any characters
SELECT dtm_saga_submit('[{"action": ""}]', repeat('g', 128)) = repeat('g', 128), dtm_saga_submit('[{"action": ""}]', repeat('ä', 64)) = repeat('ä', 64);
SELECT dtm_saga_submit('[{"action": ""}]', g) = g FROM unnest(ARRAY[' ', 'a b', 'it''s "so" %s', '日本', '../..', '<b>', '{}', 'NULL']) AS g;
-- without one: a new one each time
SELECT count(DISTINCT dtm_saga_submit('[{"action": ""}]')) FROM generate_series(1, 100);
SELECT length(dtm_saga_submit('[{"action": ""}]', NULL));
-- as many steps as can be
SELECT dtm_saga_submit((SELECT jsonb_agg(dtm_step('', name => 's' || n)) FROM generate_series(0, 999) AS n), 'arg-many');
SELECT count(*), count(DISTINCT branch_id), max(branch_id COLLATE "C"), count(DISTINCT name) FROM dtm.branches WHERE gid = 'arg-many' AND op = 'action';
ROLLBACK;
SELECT count(*) FROM stored('arg-');

--
-- The same gid again
--
CREATE FUNCTION base(gid text) RETURNS text LANGUAGE sql AS $$
	SELECT public.dtm_saga_submit('[{"action": "http://127.0.0.1:9/a", "compensate": "http://127.0.0.1:9/b", "payload": {"x": 1, "y": [2]}, "name": "first"}, {"action": ""}]',
		gid, start_after => '1 day', headers => '{"X-A": "1", "X-B": "2"}', retry_limit => 3) $$;
SELECT base('again');
SELECT created_at AS first_at FROM dtm.transactions WHERE gid = 'again' \gset
SELECT base('again'), base('again');
-- order of keys and white space do not matter, nor how a time is written
SELECT again($$ SELECT dtm_saga_submit('[{"name":"first","payload":{"y":[2],"x":1},"compensate":"http://127.0.0.1:9/b",
	"action":"http://127.0.0.1:9/a"},{"action":"", "compensate": ""}]', 'again', start_after => '24 hours', headers => '{"X-B": "2", "X-A": "1"}', retry_limit => 3) $$);
SELECT count(*), bool_and(created_at = :'first_at') FROM dtm.transactions WHERE gid = 'again';
-- any difference is one
SELECT what, again(format('SELECT dtm_saga_submit(%L, %L, start_after => %L, headers => %L, retry_limit => %s%s)', v.steps, 'again', v.start_after,
	v.headers, v.retry_limit, v.more))
FROM (SELECT '[{"action": "http://127.0.0.1:9/a", "compensate": "http://127.0.0.1:9/b", "payload": {"x": 1, "y": [2]}, "name": "first"}, {"action": ""}]'::jsonb AS steps,
	'1 day'::interval AS start_after, '{"X-A": "1", "X-B": "2"}'::jsonb AS headers, 3 AS retry_limit, '' AS more) AS base,
LATERAL (VALUES
	('nothing', base.steps, base.start_after, base.headers, base.retry_limit, base.more),
	('action', jsonb_set(base.steps, '{0,action}', '"http://127.0.0.1:9/c"'), base.start_after, base.headers, base.retry_limit, base.more),
	('compensate', base.steps #- '{0,compensate}', base.start_after, base.headers, base.retry_limit, base.more),
	('payload', jsonb_set(base.steps, '{0,payload,x}', '2'), base.start_after, base.headers, base.retry_limit, base.more),
	('name', base.steps #- '{0,name}', base.start_after, base.headers, base.retry_limit, base.more),
	('order', jsonb_build_array(base.steps -> 1, base.steps -> 0), base.start_after, base.headers, base.retry_limit, base.more),
	('one more', base.steps || '[{"action": ""}]', base.start_after, base.headers, base.retry_limit, base.more),
	('one less', base.steps - 1, base.start_after, base.headers, base.retry_limit, base.more),
	('after', jsonb_set(base.steps, '{1,after}', '[0]'), base.start_after, base.headers, base.retry_limit, base.more),
	('header of a step', jsonb_set(base.steps, '{1,headers}', '{"X-A": "1"}'), base.start_after, base.headers, base.retry_limit, base.more),
	('request_timeout of a step', jsonb_set(base.steps, '{1,request_timeout}', '1'), base.start_after, base.headers, base.retry_limit, base.more),
	('retry_limit of a step', jsonb_set(base.steps, '{1,retry_limit}', '1'), base.start_after, base.headers, base.retry_limit, base.more),
	('start_after', base.steps, '25 hours'::interval, base.headers, base.retry_limit, base.more),
	('headers', base.steps, base.start_after, '{"X-A": "1", "X-B": "3"}', base.retry_limit, base.more),
	('retry_limit', base.steps, base.start_after, base.headers, 4, base.more),
	('concurrent', base.steps, base.start_after, base.headers, base.retry_limit, ', concurrent => true'),
	('request_timeout', base.steps, base.start_after, base.headers, base.retry_limit, $$, request_timeout => '3 s'$$),
	('retry_interval', base.steps, base.start_after, base.headers, base.retry_limit, $$, retry_interval => '10 s'$$),
	('timeout_to_fail', base.steps, base.start_after, base.headers, base.retry_limit, $$, timeout_to_fail => '10 s'$$)
) AS v (what, steps, start_after, headers, retry_limit, more);
-- an error in full
SELECT dtm_saga_submit('[{"action": ""}]', 'again');
SELECT count(*), bool_and(created_at = :'first_at') FROM dtm.transactions WHERE gid = 'again';
-- twice in one transaction, and other content in the same
BEGIN;
SELECT base('again-one'), base('again-one'), base('again');
SAVEPOINT s;
SELECT dtm_saga_submit('[{"action": ""}]', 'again-one');
ROLLBACK TO s;
SELECT gid, status FROM stored('again-one');
ROLLBACK;
-- after it has ended, too
SELECT dtm_saga_submit('[{"action": "sql:note", "payload": 1}]', 'again-ended');
SELECT dtm_wait('again-ended');
SELECT dtm_saga_submit('[{"action": "sql:note", "payload": 1}]', 'again-ended');
SELECT dtm_saga_submit('[{"action": "sql:note", "payload": 2}]', 'again-ended');
SELECT dtm_saga_submit('[{"action": "sql:refuse", "payload": 1}]', 'again-failed');
SELECT dtm_wait('again-failed');
SELECT dtm_saga_submit('[{"action": "sql:refuse", "payload": 1}]', 'again-failed');
SELECT dtm_status('again-ended'), dtm_status('again-failed');
SELECT says FROM log ORDER BY n;
TRUNCATE log;

--
-- It is part of the transaction
--
CREATE TABLE orders (id int PRIMARY KEY);
BEGIN;
INSERT INTO orders VALUES (1);
SELECT dtm_saga_submit('[{"action": "sql:note", "payload": 1}]', 'tx-1');
SELECT dtm_status('tx-1'), dtm_result('tx-1');
ROLLBACK;
-- the gid is free again
SELECT * FROM stored('tx-');
SELECT dtm_status('tx-1');
SELECT dtm_saga_submit('[{"action": "sql:note", "payload": "other"}]', 'tx-1');
SELECT dtm_wait('tx-1');
-- an error in the transaction
BEGIN;
SELECT dtm_saga_submit('[{"action": "sql:note", "payload": 2}]', 'tx-2');
INSERT INTO orders VALUES (1), (1);
COMMIT;
-- savepoints
BEGIN;
SELECT dtm_saga_submit('[{"action": "sql:note", "payload": "before"}]', 'tx-3');
SAVEPOINT a;
SELECT dtm_saga_submit('[{"action": "sql:note", "payload": "rolled back"}]', 'tx-4');
SAVEPOINT b;
SELECT dtm_saga_submit('[{"action": "sql:note", "payload": "released, but rolled back"}]', 'tx-5');
RELEASE b;
ROLLBACK TO a;
SELECT dtm_saga_submit('[{"action": "sql:note", "payload": "other"}]', 'tx-4');
SELECT dtm_status('tx-5');
ROLLBACK TO a;
SAVEPOINT c;
SELECT dtm_saga_submit('[{"action": "sql:note", "payload": "after"}]', 'tx-6');
RELEASE c;
COMMIT;
SELECT dtm_wait('tx-3'), dtm_wait('tx-6');
SELECT gid, status FROM stored('tx-');
-- errors caught in PL/pgSQL are savepoints
DO $$
BEGIN
	BEGIN
		PERFORM dtm_saga_submit('[{"action": "sql:note", "payload": "caught"}]', 'tx-7');
		RAISE division_by_zero;
	EXCEPTION WHEN division_by_zero THEN
		NULL;
	END;
	PERFORM dtm_saga_submit('[{"action": "sql:note", "payload": "kept"}]', 'tx-8');
END $$;
SELECT dtm_wait('tx-8');
-- from a trigger, with the row
CREATE FUNCTION ship() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM dtm_saga_submit(jsonb_build_array(dtm_step('sql:submit.note', payload => to_jsonb(NEW))), 'tx-order-' || NEW.id);
	RETURN NEW;
END $$;
CREATE TRIGGER ship AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION ship();
INSERT INTO orders VALUES (10), (11);
INSERT INTO orders VALUES (12), (10);
SELECT gid, dtm_wait(gid) FROM stored('tx-order-');
-- a batch in one statement
SELECT count(dtm_saga_submit('[{"action": "sql:note", "payload": "batch"}]', 'tx-batch-' || n)) FROM generate_series(1, 20) AS n;
SELECT count(*), min(dtm_wait(gid)), max(dtm_status(gid)) FROM stored('tx-batch-');
-- from a procedure that commits by itself
CREATE PROCEDURE commits() LANGUAGE plpgsql AS $$
BEGIN
	PERFORM dtm_saga_submit('[{"action": "sql:submit.note", "payload": "committed in between"}]', 'tx-proc');
	COMMIT;
	INSERT INTO submit.log (says) VALUES ('in the procedure: ' || dtm_wait('tx-proc'));
	PERFORM dtm_saga_submit('[{"action": "sql:submit.note", "payload": "rolled back in between"}]', 'tx-proc-2');
	ROLLBACK;
END $$;
CALL commits();
-- whatever the search_path
SET search_path = '';
SELECT public.dtm_saga_submit('[{"action": "sql:submit.note", "payload": "no search_path"}]', 'tx-path');
SELECT public.dtm_wait('tx-path');
SELECT public.dtm_saga_submit('[{"action": "sql:note", "payload": "no search_path"}]');
CREATE FUNCTION submit.equal(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'led astray'; END $$;
CREATE OPERATOR submit.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = submit.equal);
CREATE OPERATOR submit.+ (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = submit.equal);
CREATE FUNCTION submit.now() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'led astray'; END $$;
CREATE FUNCTION submit.pg_has_role(oid, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'led astray'; END $$;
CREATE TYPE submit.oid AS ENUM ('led', 'astray');
SET search_path = submit, public, pg_catalog;
\c -
SET search_path = submit, public, pg_catalog;
SET client_min_messages = warning;
SELECT dtm_saga_submit('[{"action": "sql:note", "payload": "misleading search_path"}]', 'tx-path-2');
SELECT dtm_wait('tx-path-2'), dtm_status('tx-path-2'), dtm_retry('tx-path-2');
SELECT dtm_saga_submit('[{"action": "sql:note", "payload": "misleading search_path"}]', 'tx-path-3', start_after => '1 day');
SELECT dtm_stop('tx-path-3'), dtm_purge('1 day');
SELECT status FROM dtm.transactions WHERE gid = 'tx-path-2';
SELECT op, status FROM dtm.branches WHERE gid = 'tx-path-2';
SELECT count(*) FROM dtm.stuck WHERE gid LIKE 'tx-%';
SELECT count(*) FROM dtm.statistics;
SET search_path = submit, public;
DROP OPERATOR submit.= (bigint, bigint);
DROP OPERATOR submit.+ (bigint, bigint);
DROP FUNCTION submit.now();
DROP TYPE submit.oid;
-- in the other isolation levels
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT dtm_saga_submit('[{"action": "sql:note", "payload": "repeatable read"}]', 'tx-rr');
SELECT dtm_status('tx-rr');
COMMIT;
SELECT dtm_wait('tx-rr');
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT dtm_saga_submit('[{"action": "sql:note", "payload": "serializable"}]', 'tx-ser');
COMMIT;
SELECT dtm_wait('tx-ser');
SELECT says, count(*) FROM log GROUP BY 1 ORDER BY says;
TRUNCATE log;

--
-- dtm_wait
--
BEGIN;
SELECT dtm_saga_submit('[{"action": "sql:note", "payload": "waits"}]', 'wait-1');
SAVEPOINT s;
SELECT dtm_wait('wait-1');
ROLLBACK TO s;
SELECT dtm_wait('wait-1', '0');
ROLLBACK TO s;
-- in a nested one as well, and after its end
SAVEPOINT inner_one;
SELECT dtm_saga_submit('[{"action": "sql:note"}]', 'wait-2');
RELEASE inner_one;
SELECT dtm_wait('wait-2');
ROLLBACK TO s;
SELECT dtm_wait('wait-2');
ROLLBACK TO s;
COMMIT;
SELECT dtm_wait('wait-1');
-- what has ended needs no time
SELECT dtm_wait('wait-1', '0');
-- what does not end: the status after the timeout
SELECT base('wait-3');
SELECT dtm_wait('wait-3', '0'), dtm_wait('wait-3', '10 ms'), dtm_wait('wait-3', timeout => '1 us');
-- cancelled like any other statement, more often than there are places for those who wait
SET statement_timeout = '20 ms';
SELECT dtm_wait('wait-3');
RESET statement_timeout;
DO $$
BEGIN
	FOR i IN 1 .. 300 LOOP
		BEGIN
			PERFORM set_config('statement_timeout', '1 ms', true);
			PERFORM dtm_wait('wait-3', '3 ms');
		EXCEPTION WHEN query_canceled THEN
			NULL;
		END;
	END LOOP;
END $$;
SELECT dtm_saga_submit('[{"action": "sql:note", "payload": "waited for"}]', 'wait-5');
SELECT dtm_wait('wait-5');
-- looking is possible where writing is not
BEGIN READ ONLY;
SELECT dtm_status('wait-5'), dtm_wait('wait-5'), dtm_result('wait-5');
SELECT status FROM dtm.transactions WHERE gid = 'wait-5';
SELECT dtm_retry('wait-3');
ROLLBACK;
-- in a transaction that sees an older state it tells the newest
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM dtm.transactions WHERE gid = 'wait-4';
\setenv PGDATABASE :DBNAME
\! psql -XAtq -c "SELECT dtm_saga_submit('[{\"action\": \"sql:submit.note\", \"payload\": \"elsewhere\"}]', 'wait-4')"
SELECT dtm_wait('wait-4');
SELECT dtm_status('wait-4');
COMMIT;

--
-- What the worker does not see before the commit
--
BEGIN;
SELECT dtm_saga_submit('[{"action": "sql:note", "payload": "not before the commit"}]', 'unseen');
\! psql -XAtq -c "SELECT count(*) FROM dtm.transactions WHERE gid = 'unseen'" -c "SELECT dtm_status('unseen')" 2>&1
SELECT pg_sleep(0.1);
SELECT status, attempts FROM dtm.transactions WHERE gid = 'unseen';
SELECT status, attempts, last_error FROM dtm.branches WHERE gid = 'unseen' AND op = 'action';
COMMIT;
SELECT dtm_wait('unseen');
SELECT says FROM log ORDER BY n;
TRUNCATE log;

--
-- The object that DTM's clients send
--
SELECT dtm_saga_submit('{"gid": "not-this-one", "trans_type": "saga", "steps": [{"action": "sql:note", "compensate": "sql:note"}, {"action": "sql:note", "compensate": ""}],
	"payloads": ["{\"sku\": \"A1\"}", "[1, 2]"], "wait_result": false, "protocol": "http"}', 'wire-1');
SELECT dtm_wait('wire-1');
-- payloads that old clients put into the steps; fewer than steps; none
SELECT dtm_saga_submit('{"steps": [{"action": "sql:note", "data": "{\"old\": true}"}, {"action": "sql:note"}]}', 'wire-2');
SELECT dtm_wait('wire-2');
-- options and orders
SELECT dtm_saga_submit('{"steps": [{"action": "sql:note"}, {"action": "sql:note"}, {"action": "sql:note"}], "payloads": ["0", "1", "2"],
	"custom_data": "{\"concurrent\": true, \"orders\": {\"0\": [1], \"1\": [2]}}", "request_timeout": 5, "retry_interval": 7, "timeout_to_fail": 60, "retry_limit": 2,
	"branch_headers": {"X-A": "secret"}}', 'wire-3');
SELECT dtm_wait('wire-3');
-- without "concurrent" the orders mean nothing
SELECT dtm_saga_submit('{"steps": [{"action": "sql:note"}, {"action": "sql:note"}], "payloads": ["0", "1"], "custom_data": "{\"orders\": {\"0\": [1]}}"}', 'wire-4');
SELECT dtm_wait('wire-4');
-- the same as an array; an argument adds to it
SELECT dtm_saga_submit('[{"action": "sql:note", "data": 1}]', 'wire-5');
SELECT dtm_saga_submit('{"steps": [{"action": "sql:note"}], "payloads": ["\"last\""], "retry_limit": 0}', 'wire-6', request_timeout => '9 s');
SELECT dtm_wait('wire-6');
SELECT * FROM stored('wire-');
SELECT says FROM log ORDER BY n;
TRUNCATE log;

--
-- Paused: stored, but not driven, and the submitter is told
--
SET client_min_messages = notice;
SELECT dtm_pause('for the test');
\set include `echo "$PG_ABS_SRCDIR/sql/include/wait_for.sql"`
\set condition 'EXISTS (SELECT FROM dtm.workers WHERE worker = 0 AND state = ''paused'')'
\set ECHO none
\i :include
\set ECHO all
SELECT dtm_saga_submit('[{"action": "sql:note", "payload": "paused"}]', 'paused');
-- not again for what is there already
SELECT dtm_saga_submit('[{"action": "sql:note", "payload": "paused"}]', 'paused');
SELECT dtm_wait('paused', '200 ms');
SELECT dtm_resume();
SELECT dtm_wait('paused');
\set condition 'EXISTS (SELECT FROM dtm.workers WHERE worker = 0 AND state = ''running'')'
\set ECHO none
\i :include
\set ECHO all
SELECT dtm_saga_submit('[{"action": "sql:note", "payload": "resumed"}]', 'resumed');
SELECT dtm_wait('resumed');
SELECT says FROM log ORDER BY n;

SET client_min_messages = warning;
SELECT dtm_stop('again'), dtm_stop('wait-3');
SELECT dtm_purge('0') > 0;
DROP SCHEMA submit CASCADE;
