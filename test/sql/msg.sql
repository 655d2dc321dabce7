-- Messages: dtm_msg_submit: arguments, repeating, what is refused.
\set VERBOSITY terse
\pset format unaligned
\pset tuples_only on
\pset null (null)
SET client_min_messages = warning;
CREATE SCHEMA msg;
SET search_path = msg, public;

CREATE TABLE log (n int GENERATED ALWAYS AS IDENTITY, says text);
CREATE FUNCTION note(payload jsonb) RETURNS void LANGUAGE sql AS $$
	INSERT INTO msg.log (says) VALUES (format('%s %s %s: %s', dtm_context() ->> 'trans_type', dtm_context() ->> 'branch_id',
		dtm_context() ->> 'op', payload)) $$;
-- Refuses so many times; a sequence does not roll back.
CREATE SEQUENCE patience;
CREATE FUNCTION grudging(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF nextval('msg.patience') <= (payload ->> 'times')::int THEN
		PERFORM dtm_fail('not now');
	END IF;
	PERFORM msg.note(payload);
END $$;
CREATE FUNCTION branches(of text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(concat_ws(' ', branch_id, name, op, url, status), ', ' ORDER BY branch_id COLLATE "C")
	FROM dtm.branches WHERE gid = of $$;

-- Runs a statement that must fail; says how it failed.
CREATE FUNCTION refused(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	before bigint := (SELECT count(*) FROM dtm.transactions);
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
	IF (SELECT count(*) FROM dtm.transactions) <> before THEN
		answer := answer || E'\n  BUT SOMETHING IS STORED';
	END IF;
	RETURN answer;
END $$;
CREATE FUNCTION msg(steps text, more text DEFAULT '') RETURNS text LANGUAGE sql AS $$
	SELECT refused(format('SELECT dtm_msg_submit(%L::jsonb%s)', steps, more)) $$;

--
-- dtm_msg_submit
--
BEGIN;
-- by position, by name, as an object of DTM's clients
SELECT dtm_msg_submit('[{"action": "http://127.0.0.1:9/"}]', 'm-1', '5 s', '1 s', '2 s', NULL, '4 min', '{"X-A": "secret"}', NULL);
SELECT dtm_msg_submit(steps => '[{"action": "http://127.0.0.1:9/"}]', gid => 'm-2', headers => '{"X-A": "secret"}', timeout_to_fail => '4 min',
	retry_interval => '2 s', request_timeout => '1 s', start_after => '5 s');
SELECT dtm_msg_submit('{"steps": [{"action": "http://127.0.0.1:9/a"}, {"action": "http://127.0.0.1:9/b"}], "payloads": ["{}", "[1]"],
	"custom_data": "{\"delay\": 7}"}', 'm-3');
SELECT dtm_msg_submit(jsonb_build_array(dtm_step('', name => 'nothing'), dtm_step('sql:note', payload => '1')), 'm-4');
SELECT length(dtm_msg_submit('[{"action": ""}]'));
SELECT gid, trans_type, status, options, next_run_at - created_at FROM dtm.transactions WHERE gid LIKE 'm-%' ORDER BY gid COLLATE "C";
SELECT gid, branches(gid) FROM dtm.transactions WHERE gid LIKE 'm-%' ORDER BY gid COLLATE "C";
-- what waits has its timer from the beginning
SELECT t.gid, i.due_at - t.created_at FROM dtm.timer AS i JOIN dtm.trans AS t USING (id) ORDER BY t.gid;
-- a limit is taken, with a warning
SELECT dtm_msg_submit('[{"action": ""}]', 'm-5', retry_limit => 3);
-- the same again, and something else
SELECT dtm_msg_submit('[{"action": "http://127.0.0.1:9/"}]', 'm-1', NULL, '1 s', '2 s', NULL, '4 min', '{"X-A": "secret"}', start_after => '5000 ms');
SELECT msg('[{"action": "http://127.0.0.1:9/"}]', ', ''m-1''');
SELECT refused($$ SELECT dtm_saga_submit('[{"action": ""}]', 'm-5', retry_limit => 3) $$);
ROLLBACK;
SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'm-%';

-- delivered in order, each once, with the commit
BEGIN;
SELECT dtm_msg_submit('[{"action": "sql:note", "payload": {"n": 1}, "name": "first"}, {"action": ""}, {"action": "sql:note", "payload": {"n": 2}}]', 'order');
INSERT INTO log (says) VALUES ('the business');
COMMIT;
SELECT dtm_wait('order');
SELECT says FROM log ORDER BY n;
SELECT branches('order');
-- a message that is refused is delivered again, for ever, and nothing overtakes it
TRUNCATE log;
SELECT dtm_msg_submit('[{"action": "sql:grudging", "payload": {"times": 3}}, {"action": "sql:note", "payload": "after it"}]', 'grudging', retry_interval => '10 ms');
SELECT dtm_wait('grudging');
SELECT says FROM log ORDER BY n;
SELECT branch_id, attempts, last_error ~ 'not now' FROM dtm.branches WHERE gid = 'grudging' ORDER BY branch_id;
SELECT rollback_reason FROM dtm.transactions WHERE gid = 'grudging';
-- what has ended is not delivered again
SELECT dtm_msg_submit('[{"action": "sql:grudging", "payload": {"times": 3}}, {"action": "sql:note", "payload": "after it"}]', 'grudging', retry_interval => '10 ms');
SELECT count(*) FROM log;
-- with a delay, not before it
TRUNCATE log;
SELECT dtm_msg_submit('[{"action": "sql:note"}]', 'delayed', delay => '400 ms');
SELECT dtm_wait('delayed', '100 ms');
SELECT dtm_wait('delayed');
SELECT started_at - t.created_at >= '400 ms', started_at - t.created_at < '5 s' FROM dtm.branches AS b JOIN dtm.transactions AS t USING (gid) WHERE gid = 'delayed';

--
-- What dtm_msg_submit refuses
--
SELECT msg(NULL);
SELECT msg('1');
SELECT msg('[]');
SELECT msg('[1]');
SELECT msg('{}');
SELECT msg('[{}]');
SELECT msg('[{"action": "", "compensate": "http://127.0.0.1:9/"}]');
SELECT msg('[{"action": ""}, {"action": "", "retry_limit": 1}]');
SELECT msg('[{"action": ""}, {"action": "", "after": [0]}]');
SELECT msg('[{"action": "", "try": ""}]');
SELECT msg('[{"action": "", "topic": "x"}]');
SELECT msg('[{"action": "http://"}]');
SELECT msg('[{"action": "http://169.254.169.254/"}]');
SELECT msg('[{"action": "sql:nobody"}]');
SELECT msg('[{"action": "sql:log"}]');
SELECT msg('[{"action": ""}]', ', ''''');
SELECT msg('[{"action": ""}]', ', delay => ''-1 s''');
SELECT msg('[{"action": ""}]', ', delay => ''366 days''');
SELECT msg('[{"action": ""}]', ', delay => ''1 s'', start_after => ''1 s''');
SELECT msg('[{"action": ""}]', ', start_after => ''-1 s''');
SELECT msg('[{"action": ""}]', ', request_timeout => ''0 s''');
SELECT msg('[{"action": ""}]', ', headers => ''[]''');
SELECT msg('{"steps": [{"action": ""}], "custom_data": "{\"delay\": \"soon\"}"}');
SELECT msg('{"steps": [{"action": "", "compensate": ""}]}');
