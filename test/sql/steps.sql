-- dtm_step, payloads, and the order in which steps run.
CREATE SCHEMA steps;
SET search_path = steps, public;
SET client_min_messages = warning;
\pset format unaligned
\pset null (null)

--
-- dtm_step
--
SELECT dtm_step('http://127.0.0.1:9/');
SELECT dtm_step('http://127.0.0.1:9/a', 'http://127.0.0.1:9/b', '{"x": 1}', 'first', '{"X-A": "1"}', '{0,2}', '2.5 s', 3);
SELECT dtm_step(retry_limit => 0, request_timeout => '1 min', after => '{}', headers => '{}', name => '', payload => 'null', compensate => '', action => '');
SELECT dtm_step('', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT dtm_step(NULL);
SELECT dtm_step('', request_timeout => t) FROM unnest('{1 ms,1.5 s,1 h,1 day,-1 s}'::interval[]) AS t;
SELECT dtm_step('', payload => p) FROM unnest(ARRAY['"text"', '1.50', 'true', '[]', '{}', '{"a": {"b": null}}']::jsonb[]) AS p;
-- means the same as JSON written by hand
BEGIN;
SELECT dtm_saga_submit(jsonb_build_array(dtm_step('http://127.0.0.1:9/a', 'http://127.0.0.1:9/b', '{"x": 1}', 'first', '{"X-A": "1"}', request_timeout => '2.5 s', retry_limit => 3),
	dtm_step('', after => '{0}')), 'step-same');
SELECT dtm_saga_submit('[{"action": "http://127.0.0.1:9/a", "compensate": "http://127.0.0.1:9/b", "payload": {"x": 1}, "name": "first", "headers": {"X-A": "1"},
	"request_timeout": 2.5, "retry_limit": 3}, {"action": "", "after": [0]}]', 'step-same');
SELECT dtm_saga_submit('[{"action": "http://127.0.0.1:9/a", "compensate": "http://127.0.0.1:9/b", "payload": {"x": 1}, "name": "first", "headers": {"X-A": "1"},
	"request_timeout": "2500 ms", "retry_limit": 3.0}, {"action": "", "after": [0, 0, 0.0]}]', 'step-same');
SELECT dtm_saga_submit('[{"action": "http://127.0.0.1:9/a", "compensate": "http://127.0.0.1:9/b", "payload": {"x": 1}, "name": "first", "headers": {"X-A": "1"},
	"request_timeout": "00:00:02.5", "retry_limit": 3}, {"action": "", "after": [0]}]', 'step-same');
SELECT branch_id, name, op, url, status, attempts, last_error FROM dtm.branches WHERE gid = 'step-same';
ROLLBACK;
-- what it does not check, the submit does
SELECT dtm_saga_submit(jsonb_build_array(dtm_step(NULL)));
SELECT dtm_saga_submit(jsonb_build_array(dtm_step('ftp://127.0.0.1/')));
SELECT dtm_saga_submit(jsonb_build_array(dtm_step('', request_timeout => '-1 s')));
SELECT dtm_saga_submit(jsonb_build_array(dtm_step('', request_timeout => '0')));
SELECT dtm_saga_submit(jsonb_build_array(dtm_step('', after => '{NULL}')));
SELECT dtm_saga_submit(jsonb_build_array(dtm_step(''), dtm_step('', after => '{{0},{0}}')));
SELECT dtm_saga_submit(dtm_step(''));

--
-- Payloads; null is as good as none, and without one a function gets {}
--
CREATE TABLE log (n int GENERATED ALWAYS AS IDENTITY, gid text, branch text, op text, says jsonb);
CREATE FUNCTION note(payload jsonb) RETURNS void LANGUAGE sql AS $$
	INSERT INTO steps.log (gid, branch, op, says) SELECT c ->> 'gid', c ->> 'branch_id', c ->> 'op', payload FROM dtm_context() AS c $$;
SELECT dtm_saga_submit((SELECT jsonb_agg(dtm_step('sql:note', payload => p) ORDER BY n) FROM unnest(ARRAY['{"b": 1, "a": [1, 2.50, 1e3]}', '"text \" \\ \n ä 日本 \u0001"',
	'123456789012345678901234567890.123456789', 'true', 'null', '[]', '{}', '""', '0']::jsonb[]) WITH ORDINALITY AS t (p, n)), 'payloads');
SELECT dtm_wait('payloads');
SELECT branch, says, pg_typeof(says) FROM log ORDER BY n;
TRUNCATE log;
-- a large one arrives whole
SELECT dtm_saga_submit(jsonb_build_array(dtm_step('sql:note', payload => to_jsonb(repeat('x', 1024 * 1024 - 2)))), 'payload-large');
SELECT dtm_wait('payload-large');
SELECT length(says #>> '{}') FROM log;
TRUNCATE log;
-- of DTM's clients: bytes, which have to be JSON for a function
SELECT dtm_saga_submit('{"steps": [{"action": "sql:note"}], "payloads": ["no JSON"]}', 'payload-bytes', retry_limit => 0);
SELECT dtm_wait('payload-bytes');
SELECT status, last_error LIKE '22P02: invalid input syntax for type json%' FROM dtm.branches WHERE gid = 'payload-bytes' AND op = 'action';
SELECT count(*) FROM log;
-- dtm_context elsewhere
SELECT dtm_context();
-- what a function returns is not needed
CREATE FUNCTION returns_jsonb(payload jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT note(payload); SELECT '{"a": 1}'::jsonb $$;
CREATE FUNCTION returns_null(payload jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT note(payload); SELECT NULL::jsonb $$;
SELECT dtm_saga_submit('[{"action": "sql:returns_jsonb"}, {"action": "sql:returns_null"}]', 'returns');
SELECT dtm_wait('returns');
SELECT branch, says FROM log ORDER BY n;
TRUNCATE log;
-- the function is found with the submitter's search_path, and runs with it
CREATE SCHEMA steps_other;
CREATE FUNCTION steps_other.which(payload jsonb) RETURNS void LANGUAGE sql AS $$ SELECT steps.note(to_jsonb('steps_other: ' || current_setting('search_path'))) $$;
CREATE FUNCTION which(payload jsonb) RETURNS void LANGUAGE sql AS $$ SELECT steps.note(to_jsonb('steps: ' || current_setting('search_path'))) $$;
SELECT dtm_saga_submit('[{"action": "sql:which"}, {"action": "sql:steps_other.which"}]', 'path-1');
SET search_path = steps_other, steps, public;
SELECT dtm_saga_submit('[{"action": "sql:which"}, {"action": "sql:steps.which"}]', 'path-2');
SET search_path = steps, public;
SELECT dtm_wait('path-1'), dtm_wait('path-2');
SELECT gid, branch, says FROM log ORDER BY gid, branch;
DROP SCHEMA steps_other CASCADE;
TRUNCATE log;

--
-- Order
--
-- one after the other
SELECT dtm_saga_submit((SELECT jsonb_agg(dtm_step('sql:note', 'sql:note', to_jsonb(n)) ORDER BY n) FROM generate_series(0, 5) AS n), 'order-row');
SELECT dtm_wait('order-row');
SELECT string_agg(branch || ' ' || op, ', ' ORDER BY n) FROM log WHERE gid = 'order-row';
-- backwards: the later step first
SELECT dtm_saga_submit('[{"action": "sql:note", "after": [1]}, {"action": "sql:note", "after": [2]}, {"action": "sql:note", "after": [3]}, {"action": "sql:note"}]', 'order-back', true);
SELECT dtm_wait('order-back');
SELECT string_agg(branch || ' ' || op, ', ' ORDER BY n) FROM log WHERE gid = 'order-back';

-- Pairs of steps of this transaction that ran in another order than asked for.
CREATE FUNCTION misordered(gid text, steps jsonb) RETURNS TABLE (step bigint, before_it int) LANGUAGE sql AS $$
	SELECT s.step - 1, a::int
	FROM jsonb_array_elements(steps) WITH ORDINALITY AS s (spec, step), jsonb_array_elements_text(s.spec -> 'after') AS a
	WHERE NOT EXISTS (SELECT FROM steps.log AS before, steps.log AS after
		WHERE before.gid = misordered.gid AND after.gid = misordered.gid AND before.op = 'action' AND after.op = 'action'
			AND before.branch::int = a::int + 1 AND after.branch::int = s.step AND before.n < after.n)
	ORDER BY 1, 2 $$;
\set diamond '[{"action": "sql:note"}, {"action": "sql:note", "after": [0]}, {"action": "sql:note", "after": [0]}, {"action": "sql:note", "after": [2, 1]}]'
SELECT dtm_saga_submit(:'diamond', 'order-diamond', true);
SELECT dtm_wait('order-diamond');
SELECT count(*) FROM log WHERE gid = 'order-diamond';
SELECT * FROM misordered('order-diamond', :'diamond');
-- it can find something
SELECT * FROM misordered('order-diamond', '[{"after": [3]}, {}, {}, {"after": [0]}]');
-- many
SELECT jsonb_agg(CASE WHEN n < 3 THEN '{"action": "sql:note"}' ELSE jsonb_build_object('action', 'sql:note', 'after', jsonb_build_array(n / 2, n / 3)) END ORDER BY n) AS tree
	FROM generate_series(0, 40) AS n \gset
SELECT dtm_saga_submit(:'tree', 'order-tree', true);
SELECT dtm_wait('order-tree');
SELECT count(*), count(DISTINCT branch) FROM log WHERE gid = 'order-tree';
SELECT * FROM misordered('order-tree', :'tree');
-- a step without "after" waits for the one before it, unless all run at once
SELECT dtm_saga_submit('[{"action": "sql:note"}, {"action": "sql:note"}, {"action": "sql:note", "after": [0]}, {"action": "sql:note"}]', 'order-mixed');
SELECT dtm_wait('order-mixed');
SELECT * FROM misordered('order-mixed', '[{}, {"after": [0]}, {"after": [0]}, {"after": [2]}]');
-- at once: two that wait for each other can only meet when both run
CREATE FUNCTION meet(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	-- an advisory lock is seen by others before the commit
	PERFORM pg_advisory_xact_lock_shared(4711, (payload ->> 'me')::int);
	FOR i IN 1 .. 2000 LOOP
		IF EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 4711 AND objid = (payload ->> 'other')::oid AND granted) THEN
			-- the other one has to see this one, too
			PERFORM pg_sleep(0.05);
			RETURN;
		END IF;
		PERFORM pg_sleep(0.005);
	END LOOP;
	PERFORM dtm_fail('alone');
END $$;
SELECT dtm_saga_submit('[{"action": "sql:meet", "payload": {"me": 1, "other": 2}, "request_timeout": 30}, {"action": "sql:meet", "payload": {"me": 2, "other": 1}, "request_timeout": 30}]',
	'order-at-once', concurrent => true);
SELECT dtm_wait('order-at-once');
TRUNCATE log;

--
-- Rolling back: in the reverse order, only what may have run
--
CREATE FUNCTION refuse(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM note(payload);
	PERFORM dtm_fail(format('no more of %s', payload));
END $$;
SELECT dtm_saga_submit('[{"action": "sql:note", "compensate": "sql:note", "payload": "a"}, {"action": "sql:note", "payload": "b"},
	{"action": "sql:note", "compensate": "sql:note", "payload": "c"}, {"action": "sql:refuse", "compensate": "sql:note", "payload": "d"},
	{"action": "sql:note", "compensate": "sql:note", "payload": "e"}]', 'back-row');
SELECT dtm_wait('back-row');
SELECT status, rollback_reason, result FROM dtm.transactions WHERE gid = 'back-row';
SELECT branch, op, says FROM log ORDER BY n;
SELECT branch_id, op, url, status, attempts, last_error FROM dtm.branches WHERE gid = 'back-row';
TRUNCATE log;
-- partial order: what came later is undone earlier
SELECT dtm_saga_submit('[{"action": "sql:note", "compensate": "sql:note"}, {"action": "sql:note", "compensate": "sql:note", "after": [0]},
	{"action": "sql:note", "compensate": "sql:note", "after": [0]}, {"action": "sql:note", "compensate": "sql:note", "after": [1, 2]},
	{"action": "sql:refuse", "after": [3]}]', 'back-diamond', true);
SELECT dtm_wait('back-diamond');
SELECT count(*) FILTER (WHERE op = 'action') AS actions, count(*) FILTER (WHERE op = 'compensate') AS compensations,
	array_position(array_agg(branch || op ORDER BY n), '04compensate') < least(array_position(array_agg(branch || op ORDER BY n), '02compensate'),
		array_position(array_agg(branch || op ORDER BY n), '03compensate')) AS last_first,
	(array_agg(branch || op ORDER BY n DESC))[1] AS first_last
FROM log;
TRUNCATE log;

--
-- Retrying
--
CREATE SEQUENCE tries;
CREATE FUNCTION third_time(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	-- a sequence does not roll back
	IF nextval('tries') < 3 THEN
		IF payload = '"ongoing"' THEN
			PERFORM dtm_ongoing('not yet');
		END IF;
		RAISE EXCEPTION 'out of order' USING ERRCODE = 'ZZ001', DETAIL = 'a detail';
	END IF;
	PERFORM note(payload);
END $$;
SELECT dtm_saga_submit('[{"action": "sql:third_time", "payload": "error"}]', 'retry-error', retry_interval => '10 ms');
SELECT dtm_wait('retry-error');
SELECT setval('tries', 1, false);
SELECT dtm_saga_submit('[{"action": "sql:third_time", "payload": "ongoing"}]', 'retry-ongoing', retry_interval => '10 ms');
SELECT dtm_wait('retry-ongoing');
SELECT gid, status, attempts FROM dtm.branches WHERE gid LIKE 'retry-%' AND op = 'action' ORDER BY gid;
SELECT gid, attempts FROM dtm.transactions WHERE gid LIKE 'retry-%' ORDER BY gid;
SELECT gid, attempt, outcome ~ 'error|ongoing' AS again FROM unnest('{retry-error,retry-ongoing}'::text[]) AS gid, dtm_timeline(gid) ORDER BY gid, attempt;
SELECT gid, says FROM log ORDER BY n;
TRUNCATE log;
-- retry_limit of a step, of the transaction, and none of them once it rolls back
SELECT setval('tries', 1, false);
SELECT dtm_saga_submit('[{"action": "sql:note", "compensate": "sql:third_time"}, {"action": "sql:third_time", "retry_limit": 0}]', 'retry-limit', retry_interval => '10 ms', retry_limit => 5);
SELECT dtm_wait('retry-limit');
SELECT branch_id, op, status, attempts, regexp_replace(last_error, ' - PL.*', '') FROM dtm.branches WHERE gid = 'retry-limit' ORDER BY branch_id, op;
-- request_timeout of a step ends a function
CREATE FUNCTION sleeps(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); END $$;
SELECT dtm_saga_submit('[{"action": "sql:sleeps", "request_timeout": "50 ms", "retry_limit": 0}]', 'retry-timeout');
SELECT dtm_wait('retry-timeout');
SELECT status, last_error FROM dtm.branches WHERE gid = 'retry-timeout' AND op = 'action';
SELECT dtm_saga_submit('[{"action": "sql:sleeps"}]', 'retry-timeout-2', request_timeout => '50 ms', retry_limit => 0);
SELECT dtm_wait('retry-timeout-2');

SELECT dtm_purge('0') > 0;
DROP SCHEMA steps CASCADE;
