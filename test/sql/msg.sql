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

--
-- dtm_msg_prepare, dtm_submit, dtm_abort
--
CREATE FUNCTION prepare(steps text, query text, more text DEFAULT '') RETURNS text LANGUAGE sql AS $$
	SELECT refused(format('SELECT dtm_msg_prepare(%L::jsonb, %L%s)', steps, query, more)) $$;
-- What the check-back of a test says, by gid; every question is noted.
CREATE TABLE local_part (gid text PRIMARY KEY, says text);
CREATE TABLE asked (n int GENERATED ALWAYS AS IDENTITY, payload jsonb, context jsonb, who name);
CREATE FUNCTION committed(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	answer text := (SELECT says FROM msg.local_part WHERE gid = payload ->> 'gid');
BEGIN
	IF answer = 'no' THEN
		PERFORM dtm_fail('rolled back');
	ELSIF answer = 'later' THEN
		PERFORM dtm_ongoing('still open');
	ELSIF answer IS NULL THEN
		RAISE EXCEPTION 'nobody knows %', payload ->> 'gid';
	END IF;
	INSERT INTO msg.asked (payload, context, who) VALUES (payload, dtm_context(), current_user);
END $$;
TRUNCATE log;

BEGIN;
SELECT dtm_msg_prepare('[{"action": "http://127.0.0.1:9/"}]', 'http://127.0.0.1:9/q', 'p-1', '5 s', '1 s', '2 s', NULL, '4 min', '{"X-A": "secret"}', NULL);
SELECT dtm_msg_prepare('{"steps": [{"action": ""}]}', 'sql:committed', gid => 'p-2');
SELECT gid, trans_type, status, options, next_run_at - created_at FROM dtm.transactions WHERE gid LIKE 'p-%' ORDER BY gid COLLATE "C";
-- the same again; other content; the same without the question
SELECT dtm_msg_prepare('[{"action": ""}]', 'sql:committed', 'p-2');
SELECT prepare('[{"action": ""}]', 'sql:msg.committed', ', ''p-2''');
SELECT msg('[{"action": ""}]', ', ''p-2''');
ROLLBACK;

-- submitted, in the same transaction and in another one
BEGIN;
SELECT dtm_msg_prepare('[{"action": "sql:note", "payload": 1}]', 'sql:committed', 'both');
SELECT dtm_submit('both'), dtm_submit('both'), dtm_status('both');
COMMIT;
SELECT dtm_wait('both');
SELECT dtm_msg_prepare('[{"action": "sql:note", "payload": 2}]', 'sql:committed', 'then');
SELECT dtm_status('then');
SELECT dtm_msg_prepare('[{"action": "sql:note", "payload": 2}]', 'sql:committed', 'then');
-- a submit that is rolled back has not been there
BEGIN;
SELECT dtm_submit('then');
ROLLBACK;
SELECT dtm_status('then');
SELECT dtm_submit('then');
SELECT dtm_wait('then');
SELECT says FROM log ORDER BY n;
SELECT count(*) FROM asked;
-- with a delay, counted from the prepare
SELECT dtm_msg_prepare('[{"action": "sql:note"}]', 'sql:committed', 'late', delay => '300 ms');
SELECT dtm_submit('late');
SELECT dtm_wait('late', '50 ms');
SELECT dtm_wait('late');
SELECT started_at - t.created_at >= '300 ms', started_at - t.created_at < '5 s' FROM dtm.branches AS b JOIN dtm.transactions AS t USING (gid) WHERE gid = 'late' AND op = 'action';

-- aborted
TRUNCATE log;
SELECT dtm_msg_prepare('[{"action": "sql:note"}]', 'sql:committed', 'gone'), dtm_msg_prepare('[{"action": "sql:note"}]', 'sql:committed', 'gone-too');
BEGIN;
SELECT dtm_abort('gone', 'never mind');
ROLLBACK;
SELECT dtm_status('gone');
SELECT dtm_abort('gone', 'never mind'), dtm_abort('gone-too');
SELECT gid, status, rollback_reason, finished_at >= created_at, branches(gid) FROM dtm.transactions WHERE gid LIKE 'gone%' ORDER BY gid;
SELECT dtm_wait('gone');
SELECT count(*) FROM log;
-- prepared again after it has ended: no effect
SELECT dtm_msg_prepare('[{"action": "sql:note"}]', 'sql:committed', 'gone'), dtm_status('gone');

-- nobody comes back: asked after the time-out, as the role that prepared, without a row in the barrier
INSERT INTO local_part VALUES ('asked-yes', 'yes'), ('asked-no', 'no'), ('asked-later', 'later');
SELECT dtm_msg_prepare(format('[{"action": "sql:note", "payload": "%s"}]', g)::jsonb, 'sql:committed', g, timeout_to_fail => '100 ms', retry_interval => '50 ms')
FROM unnest(ARRAY['asked-yes', 'asked-no', 'asked-later', 'asked-unknown']) AS g;
SELECT dtm_wait('asked-yes'), dtm_wait('asked-no');
SELECT dtm_wait('asked-later', '300 ms'), dtm_wait('asked-unknown', '300 ms');
SELECT payload, context, who = current_user FROM asked ORDER BY n;
SELECT rollback_reason FROM dtm.transactions WHERE gid = 'asked-no';
SELECT count(*) FROM dtm.barrier WHERE gid LIKE 'asked-%' AND branch_id = '00';
SELECT branch_id, op, target, outcome FROM dtm_timeline('asked-yes');
-- the check-back is a row of its own, of prepared messages
SELECT gid, op, url, status, attempts, started_at IS NOT NULL, finished_at IS NOT NULL, last_error FROM dtm.branches
WHERE branch_id = '00' AND gid IN ('order', 'then', 'gone', 'asked-yes', 'asked-no') ORDER BY gid;
-- dtm_retry asks now, and leaves the delay as it is
INSERT INTO local_part VALUES ('now', 'later'), ('now-no', 'no');
SELECT dtm_msg_prepare(format('[{"action": "sql:note", "payload": "%s"}]', g)::jsonb, 'sql:committed', g, delay => '1 day', timeout_to_fail => '1 day', retry_interval => '50 ms')
FROM unnest(ARRAY['now', 'now-no']) AS g;
SELECT dtm_wait('now', '100 ms');
SELECT dtm_retry('now'), dtm_retry('now-no');
SELECT dtm_wait('now-no');
-- what it asked and got no answer to is asked again, as after the time-out
DO $$ BEGIN
	FOR i IN 1 .. 600 LOOP
		EXIT WHEN (SELECT attempts > 1 FROM dtm.branches WHERE gid = 'now' AND branch_id = '00');
		PERFORM pg_sleep(0.05);
	END LOOP;
END $$;
SELECT op, status, attempts > 1, last_error FROM dtm.branches WHERE gid = 'now' AND branch_id = '00';
UPDATE local_part SET says = 'yes' WHERE gid = 'now';
DO $$ BEGIN
	FOR i IN 1 .. 600 LOOP
		EXIT WHEN dtm_status('now') = 'submitted';
		PERFORM pg_sleep(0.05);
	END LOOP;
END $$;
SELECT branches('now'), next_run_at > now() + '23 hours' FROM dtm.transactions WHERE gid = 'now';
SELECT dtm_stop('now');
-- one that nobody knows is stuck, and says so; what the owner knows still counts
UPDATE local_part SET says = 'yes' WHERE gid = 'asked-later';
SELECT dtm_wait('asked-later');
SELECT bool_and(outcome = 'ongoing: DTM02: still open') FILTER (WHERE outcome <> 'ok'), count(*) > 1 FROM dtm_timeline('asked-later') WHERE op = 'msg';
DO $$ BEGIN
	FOR i IN 1 .. 600 LOOP
		EXIT WHEN EXISTS (SELECT FROM dtm.stuck WHERE gid = 'asked-unknown');
		PERFORM pg_sleep(0.05);
	END LOOP;
END $$;
SELECT status, regexp_replace(reason, '\d+ failures', 'N failures'), suggestion FROM dtm.stuck WHERE gid = 'asked-unknown';
SELECT dtm_submit('asked-unknown');
SELECT dtm_wait('asked-unknown');
SELECT says FROM log ORDER BY n;
SELECT count(*) FROM dtm.stuck WHERE gid = 'asked-unknown';

--
-- What they refuse
--
SELECT prepare('[{"action": ""}]', NULL);
SELECT prepare('[{"action": ""}]', '');
SELECT prepare('[{"action": ""}]', 'nothing');
SELECT prepare('[{"action": ""}]', 'http://');
SELECT prepare('[{"action": ""}]', 'ftp://127.0.0.1/');
SELECT prepare('[{"action": ""}]', 'topic://x');
SELECT prepare('[{"action": ""}]', 'http://169.254.169.254/');
SELECT prepare('[{"action": ""}]', 'sql:nobody');
SELECT prepare('[{"action": ""}]', 'sql:nowhere.nobody');
SELECT prepare(NULL, 'sql:committed');
SELECT prepare('[]', 'sql:committed');
SELECT prepare('[{"action": ""}]', 'sql:committed', ', delay => ''1 s'', start_after => ''1 s''');
SELECT prepare('[{"action": ""}]', 'sql:committed', ', timeout_to_fail => ''0''');
SELECT refused('SELECT dtm_submit(NULL)');
SELECT refused('SELECT dtm_submit(''nobody'')');
SELECT refused('SELECT dtm_submit(''then'')');
SELECT refused('SELECT dtm_submit(''gone'')');
SELECT refused('SELECT dtm_abort(NULL)');
SELECT refused('SELECT dtm_abort(''nobody'', ''why'')');
SELECT refused('SELECT dtm_abort(''then'')');
SELECT refused('SELECT dtm_abort(''gone'')');
BEGIN;
SELECT dtm_msg_submit('[{"action": "http://127.0.0.1:9/"}]', 'msg-on', delay => '1 day'), dtm_saga_submit('[{"action": "http://127.0.0.1:9/"}]', 'saga-on', start_after => '1 day');
SELECT dtm_submit('msg-on'), dtm_submit('saga-on');
SELECT refused('SELECT dtm_abort(''msg-on'')'), refused('SELECT dtm_abort(''saga-on'')');
ROLLBACK;
-- another role's
CREATE ROLE msg_other;
SELECT dtm_grant('msg_other');
GRANT USAGE ON SCHEMA msg TO msg_other;
SELECT dtm_msg_prepare('[{"action": ""}]', 'sql:committed', 'mine');
SET ROLE msg_other;
SELECT refused('SELECT dtm_submit(''mine'')');
SELECT refused('SELECT dtm_abort(''mine'')');
SELECT prepare('[{"action": ""}]', 'sql:msg.committed') ~ '^ACCEPTED';
RESET ROLE;
REVOKE EXECUTE ON FUNCTION committed(jsonb) FROM PUBLIC;
SET ROLE msg_other;
SELECT prepare('[{"action": ""}]', 'sql:msg.committed');
RESET ROLE;
SELECT dtm_status('mine'), dtm_abort('mine');
DO $$ BEGIN PERFORM dtm_abort(gid) FROM dtm.transactions WHERE submitted_by = 'msg_other'::regrole AND status = 'prepared'; END $$;
SELECT status, count(*) FROM dtm.transactions WHERE submitted_by = 'msg_other'::regrole GROUP BY status;
DROP OWNED BY msg_other;
DROP ROLE msg_other;
-- waiting for what this very transaction has asked for would never end
SELECT dtm_msg_prepare('[{"action": ""}]', 'sql:committed', 'asked');
BEGIN;
SELECT dtm_submit('asked');
SELECT refused('SELECT dtm_wait(''asked'')');
ROLLBACK;
SELECT dtm_abort('asked'), dtm_wait('asked');
