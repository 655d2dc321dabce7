-- Workflows with sql: steps: what is refused, results, replay, rollback, signals, functions that change.
-- Services over HTTP and crashes: test/t/140_workflow.pl, 141_workflow_crash.pl.
\set VERBOSITY terse
\pset format unaligned
\pset tuples_only on
\pset null (null)
SET client_min_messages = warning;
CREATE SCHEMA wf;
SET search_path = wf, public;

CREATE TABLE log (n int GENERATED ALWAYS AS IDENTITY, says text);
CREATE FUNCTION note(says text) RETURNS void LANGUAGE sql AS $$ INSERT INTO wf.log (says) VALUES (says) $$;
-- What was written, in order; forgets it.
CREATE FUNCTION said() RETURNS text LANGUAGE sql AS $$
	WITH gone AS (DELETE FROM wf.log RETURNING *) SELECT string_agg(says, ', ' ORDER BY n) FROM gone $$;
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
CREATE FUNCTION steps(of text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(concat_ws(' ', branch_id, op, name, status), ', ' ORDER BY branch_id COLLATE "C", op DESC)
	FROM dtm.branches WHERE gid = of $$;

-- When a step waits, its status.
CREATE FUNCTION waiting(of text, step text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	seen text;
BEGIN
	FOR i IN 1 .. 3000 LOOP
		SELECT concat_ws(' ', op, name, status, next_run_at > now()) INTO seen FROM dtm.branches
		WHERE gid = of AND branch_id = step AND status = 'prepared' AND op IN ('sleep', 'await');
		EXIT WHEN FOUND;
		PERFORM pg_sleep(0.01);
	END LOOP;
	RETURN seen;
END $$;

-- steps: each says that it was called, and with what
CREATE FUNCTION act(p jsonb) RETURNS jsonb LANGUAGE sql AS $$
	SELECT wf.note(format('%s %s %s', dtm_context() ->> 'op', dtm_context() ->> 'branch_id', p ->> 'n'));
	SELECT jsonb_build_object('got', p -> 'n') $$;
CREATE FUNCTION undo(p jsonb) RETURNS void LANGUAGE sql AS $$
	SELECT wf.note(format('%s %s %s', dtm_context() ->> 'op', dtm_context() ->> 'branch_id', p ->> 'n')) $$;
CREATE FUNCTION refuse(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN PERFORM wf.note('never'); PERFORM dtm_fail('no stock'); END $$;

-- submit: arguments
CREATE FUNCTION empty(data jsonb) RETURNS void LANGUAGE sql AS $$ SELECT wf.note('empty ' || data::text) $$;
CREATE FUNCTION number(data jsonb) RETURNS int LANGUAGE sql AS $$ SELECT 1 $$;
SELECT wf.refused($$SELECT dtm_workflow_submit(NULL)$$);
SELECT wf.refused($$SELECT dtm_workflow_submit('')$$);
SELECT wf.refused($$SELECT dtm_workflow_submit('sql:')$$);
SELECT wf.refused($$SELECT dtm_workflow_submit('a b')$$);
SELECT wf.refused($$SELECT dtm_workflow_submit('a.b.c')$$);
SELECT wf.refused($$SELECT dtm_workflow_submit('http://localhost/workflow')$$);
SELECT wf.refused($$SELECT dtm_workflow_submit('topic://stock')$$);
SELECT wf.refused($$SELECT dtm_workflow_submit(repeat('f', 3000))$$);
SELECT wf.refused($$SELECT dtm_workflow_submit('nope')$$);
SELECT wf.refused($$SELECT dtm_workflow_submit('wf.nope')$$);
SELECT wf.refused($$SELECT dtm_workflow_submit('number')$$);
SELECT wf.refused($$SELECT dtm_workflow_submit('empty', gid => '')$$);
SELECT wf.refused($$SELECT dtm_workflow_submit('empty', jsonb_build_object('x', repeat('y', 1100000)))$$);
SELECT wf.refused($$SELECT dtm_workflow_submit('empty', retry_limit => -1)$$);
SELECT wf.refused($$SELECT dtm_workflow_submit('empty', timeout_to_fail => '-1 s')$$);
SELECT wf.refused($$SELECT dtm_workflow_submit('empty', headers => '[]')$$);

-- the name of the function, with a schema, with the scheme, quoted
CREATE FUNCTION "odd: name"(data jsonb) RETURNS void LANGUAGE sql AS $$ SELECT wf.note('odd') $$;
SELECT dtm_workflow_submit('empty', gid => 'wf-plain');
SELECT dtm_workflow_submit('wf.empty', '{"a": 1}', 'wf-schema');
SELECT dtm_workflow_submit('sql:wf.empty', 'null', 'wf-scheme');
SELECT dtm_workflow_submit('"odd: name"', gid => 'wf-quoted');
SELECT gid, dtm_wait(gid), dtm_result(gid) FROM unnest(ARRAY['wf-plain', 'wf-schema', 'wf-scheme', 'wf-quoted']) AS gid;
SELECT string_agg(says, ', ' ORDER BY says COLLATE "C") FROM wf.log;
DELETE FROM wf.log;
SELECT gid, trans_type, status, options, result FROM dtm.transactions WHERE gid = 'wf-schema';

-- the same again has no effect, something else is refused
SELECT dtm_workflow_submit('wf.empty', '{"a": 1}', 'wf-schema');
SELECT wf.refused($$SELECT dtm_workflow_submit('wf.empty', '{"a": 2}', 'wf-schema')$$);
SELECT wf.refused($$SELECT dtm_workflow_submit('empty', '{"a": 1}', 'wf-schema')$$);
SELECT wf.refused($$SELECT dtm_workflow_submit('wf.empty', gid => 'wf-schema')$$);
SELECT wf.said();

-- a rolled back submit leaves nothing
BEGIN;
SELECT dtm_workflow_submit('empty', gid => 'wf-rolled-back');
ROLLBACK;
SELECT wf.refused($$SELECT dtm_status('wf-rolled-back')$$);

-- steps and their answers; what the function writes is there once, with the end
CREATE FUNCTION three(data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	answers jsonb := '[]';
BEGIN
	PERFORM wf.note('local');
	FOR n IN 1 .. 3 LOOP
		answers := answers || dtm_call('sql:act', jsonb_build_object('n', n), compensate => 'sql:undo', name => 'step ' || n);
	END LOOP;
	IF data ? 'fail' THEN
		PERFORM dtm_fail(data ->> 'fail');
	END IF;
	RETURN jsonb_build_object('data', data, 'answers', answers);
END $$;
SELECT dtm_workflow_submit('three', '{"id": 7}', gid => 'wf-three');
SELECT dtm_wait('wf-three'), dtm_result('wf-three');
SELECT wf.said();
SELECT wf.steps('wf-three');

-- dtm_fail anywhere rolls back, last first
SELECT dtm_workflow_submit('three', '{"fail": "changed my mind"}', gid => 'wf-fail');
SELECT dtm_wait('wf-fail'), dtm_result('wf-fail');
SELECT wf.said();
SELECT wf.steps('wf-fail');
SELECT rollback_reason, result FROM dtm.transactions WHERE gid = 'wf-fail';

-- a step that fails: caught, it is one way to go; not caught, it fails the workflow; it is not undone
CREATE FUNCTION other_way(data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM dtm_call('sql:act', '{"n": "first"}', 'sql:undo');
	BEGIN
		RETURN dtm_call('sql:refuse', compensate => 'sql:undo');
	EXCEPTION WHEN SQLSTATE 'DTM01' THEN
		IF data ? 'strict' THEN
			RAISE;
		END IF;
		PERFORM wf.note(SQLERRM);
		RETURN dtm_call('sql:act', '{"n": "instead"}', 'sql:undo');
	END;
END $$;
SELECT dtm_workflow_submit('other_way', gid => 'wf-other');
SELECT dtm_wait('wf-other'), dtm_result('wf-other');
SELECT wf.said();
SELECT dtm_workflow_submit('other_way', '{"strict": true}', gid => 'wf-strict');
SELECT dtm_wait('wf-strict');
SELECT rollback_reason FROM dtm.transactions WHERE gid = 'wf-strict';
SELECT wf.said();
SELECT wf.steps('wf-strict');

-- TCC and other steps are undone and confirmed in reverse order, mixed
CREATE FUNCTION mixed(data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	tried jsonb;
BEGIN
	PERFORM dtm_call('sql:act', '{"n": 1}', compensate => 'sql:undo');
	tried := dtm_call_tcc('sql:act', 'sql:undo', 'sql:undo', '{"n": 2}');
	PERFORM dtm_call('sql:act', '{"n": 3}');
	PERFORM dtm_call_tcc(try => '', confirm => 'sql:undo', cancel => 'sql:undo', payload => '{"n": 4}', name => 'four');
	PERFORM dtm_call('', '{"n": 5}', compensate => 'sql:undo');
	IF data ? 'fail' THEN
		PERFORM dtm_fail();
	END IF;
	RETURN tried;
END $$;
SELECT dtm_workflow_submit('mixed', gid => 'wf-mixed');
SELECT dtm_wait('wf-mixed'), dtm_result('wf-mixed');
SELECT wf.said();
SELECT wf.steps('wf-mixed');
SELECT dtm_workflow_submit('mixed', '{"fail": 1}', gid => 'wf-mixed-fail');
SELECT dtm_wait('wf-mixed-fail');
SELECT wf.said();

-- no handler of the function catches the end of a run, or does any harm by it
CREATE FUNCTION catches(data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	caught text[] := '{}';
	answers jsonb := '[]';
BEGIN
	BEGIN
		answers := answers || dtm_call('sql:act', '{"n": 1}', 'sql:undo');
	EXCEPTION WHEN OTHERS THEN
		caught := caught || SQLSTATE::text;
	END;
	BEGIN
		BEGIN
			answers := answers || dtm_call('sql:act', '{"n": 2}', 'sql:undo');
			PERFORM wf.note('in a savepoint');
			RAISE division_by_zero;
		EXCEPTION WHEN division_by_zero THEN
			answers := answers || dtm_call('sql:act', '{"n": 3}', 'sql:undo');
		END;
	EXCEPTION WHEN query_canceled THEN
		caught := caught || SQLSTATE::text;
	END;
	BEGIN
		answers := answers || dtm_call('sql:act', '{"n": 4}', 'sql:undo');
	EXCEPTION WHEN OTHERS OR query_canceled THEN
		PERFORM wf.note('never: ' || SQLSTATE);
	END;
	RETURN jsonb_build_object('answers', answers, 'caught', caught);
END $$;
SELECT dtm_workflow_submit('catches', gid => 'wf-catches');
SELECT dtm_wait('wf-catches'), dtm_result('wf-catches');
SELECT wf.said();

-- outside of a workflow there is nothing to suspend
SELECT wf.refused($$SELECT dtm_call('sql:act')$$);
SELECT wf.refused($$SELECT dtm_call(NULL)$$);
SELECT wf.refused($$SELECT dtm_call_tcc('', '', '')$$);
SELECT wf.refused($$SELECT dtm_sleep('1 s')$$);
SELECT wf.refused($$SELECT dtm_await('approved')$$);
CREATE FUNCTION no_workflow(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM dtm_call('sql:act');
EXCEPTION WHEN object_not_in_prerequisite_state THEN
	PERFORM wf.note(SQLERRM);
END $$;
SELECT dtm_saga_submit('[{"action": "sql:no_workflow"}]', gid => 'wf-saga');
SELECT dtm_wait('wf-saga');
SELECT wf.said();

-- arguments of steps: errors of the function like any other, and nothing is recorded
CREATE FUNCTION bad(data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	statement text;
	answers jsonb := '[]';
BEGIN
	FOR statement IN SELECT jsonb_array_elements_text(data) LOOP
		BEGIN
			EXECUTE statement;
			answers := answers || to_jsonb('ACCEPTED: ' || statement);
		EXCEPTION WHEN OTHERS THEN
			answers := answers || to_jsonb(SQLSTATE || ': ' || left(SQLERRM, 100));
		END;
	END LOOP;
	RETURN answers;
END $$;
SELECT dtm_workflow_submit('bad', gid => 'wf-bad', data => jsonb_build_array(
	$$SELECT dtm_call(NULL)$$,
	$$SELECT dtm_call('ftp://a/b')$$,
	$$SELECT dtm_call('no scheme')$$,
	$$SELECT dtm_call('http://')$$,
	$$SELECT dtm_call('http://169.254.169.254/latest')$$,
	$$SELECT dtm_call('sql:nope')$$,
	$$SELECT dtm_call('sql:number')$$,
	$$SELECT dtm_call('', compensate => 'sql:nope')$$,
	$$SELECT dtm_call('topic://stock')$$,
	$$SELECT dtm_call('sql:act', name => repeat('n', 200))$$,
	$$SELECT dtm_call('sql:act', name => E'a\nb')$$,
	$$SELECT dtm_call('sql:act', headers => '[]')$$,
	$$SELECT dtm_call('sql:act', headers => '{"Content-Length": "1"}')$$,
	$$SELECT dtm_call('sql:act', request_timeout => '0')$$,
	$$SELECT dtm_call('sql:act', retry_limit => -1)$$,
	$$SELECT dtm_call('sql:act', jsonb_build_object('x', repeat('y', 1100000)))$$,
	$$SELECT dtm_call_tcc('sql:act', NULL, 'sql:undo')$$,
	$$SELECT dtm_call_tcc('sql:act', 'sql:undo', 'sql:nope')$$,
	$$SELECT dtm_sleep(NULL)$$,
	$$SELECT dtm_sleep('-1 s')$$,
	$$SELECT dtm_sleep('300000 years')$$,
	$$SELECT dtm_await(NULL)$$,
	$$SELECT dtm_await('')$$,
	$$SELECT dtm_await(repeat('e', 129))$$,
	$$SELECT dtm_await('x', '-1 s')$$));
SELECT dtm_wait('wf-bad');
SELECT jsonb_array_elements_text(dtm_result('wf-bad'));
SELECT wf.steps('wf-bad');

-- sleeping
CREATE FUNCTION sleeps(data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM dtm_sleep('0');
	PERFORM dtm_sleep((data ->> 'for')::interval);
	RETURN '"awake"';
END $$;
SELECT dtm_workflow_submit('sleeps', '{"for": "0.2 s"}', gid => 'wf-sleeps');
SELECT dtm_wait('wf-sleeps'), dtm_result('wf-sleeps');
SELECT finished_at - created_at >= '0.2 s' FROM dtm.transactions WHERE gid = 'wf-sleeps';
SELECT wf.steps('wf-sleeps');
-- a retry does not cut a sleep short
SELECT dtm_workflow_submit('sleeps', '{"for": "1 hour"}', gid => 'wf-asleep');
SELECT wf.waiting('wf-asleep', '02');
SELECT dtm_retry('wf-asleep');
SELECT dtm_wait('wf-asleep', '0.3 s');
SELECT wf.steps('wf-asleep');
SELECT dtm_abort('wf-asleep', 'slept enough');
SELECT dtm_wait('wf-asleep');
SELECT rollback_reason FROM dtm.transactions WHERE gid = 'wf-asleep';

-- signals
CREATE FUNCTION waits(data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	answers jsonb := '[]';
BEGIN
	FOR n IN 1 .. (data ->> 'times')::int LOOP
		answers := answers || jsonb_build_array(coalesce(dtm_await('approved', (data ->> 'timeout')::interval), '"timed out"'));
	END LOOP;
	RETURN answers;
END $$;
SELECT dtm_workflow_submit('waits', '{"times": 2}', gid => 'wf-waits');
SELECT wf.waiting('wf-waits', '01');
SELECT branch_id, op, name, status, next_run_at FROM dtm.branches WHERE gid = 'wf-waits';
SELECT wf.refused($$SELECT dtm_submit('wf-waits')$$);
SELECT dtm_signal('wf-waits', 'other', '{"not": "this"}');
BEGIN;
SELECT dtm_signal('wf-waits', 'approved', '{"by": "nobody"}');
ROLLBACK;
SELECT dtm_wait('wf-waits', '0.2 s');
SELECT dtm_signal('wf-waits', 'approved', '{"by": "ann"}');
SELECT dtm_signal('wf-waits', 'approved');
SELECT dtm_wait('wf-waits'), dtm_result('wf-waits');
-- those that came before are consumed in their order, one per await
BEGIN;
SELECT dtm_workflow_submit('waits', '{"times": 3, "timeout": "0.2 s"}', gid => 'wf-early');
SELECT dtm_signal('wf-early', 'approved', '1');
SELECT dtm_signal('wf-early', 'approved', 'null');
COMMIT;
SELECT dtm_wait('wf-early'), dtm_result('wf-early');
SELECT wf.steps('wf-early');
-- what is refused
SELECT wf.refused($$SELECT dtm_signal(NULL, 'e')$$);
SELECT wf.refused($$SELECT dtm_signal('wf-early', NULL)$$);
SELECT wf.refused($$SELECT dtm_signal('wf-early', '')$$);
SELECT wf.refused($$SELECT dtm_signal('wf-early', E'a\tb')$$);
SELECT wf.refused($$SELECT dtm_signal('wf-nobody', 'e')$$);
SELECT wf.refused($$SELECT dtm_signal('wf-early', 'approved')$$);
SELECT wf.refused($$SELECT dtm_signal('wf-saga', 'approved')$$);
SELECT dtm_workflow_submit('waits', '{"times": 1}', gid => 'wf-many');
DO $$ BEGIN FOR i IN 1 .. 1000 LOOP PERFORM dtm_signal('wf-many', 'other', to_jsonb(i)); END LOOP; END $$;
SELECT wf.refused($$SELECT dtm_signal('wf-many', 'other')$$);
SELECT wf.refused($$SELECT dtm_signal('wf-many', 'approved', to_jsonb(repeat('y', 1100000)))$$);
SELECT dtm_stop('wf-many', 'over'), (SELECT count(*) FROM dtm.signal);
SELECT wf.refused($$SELECT dtm_signal('wf-many', 'other')$$);

-- a function cannot steer its own workflow, or it would undo that with each run; a step can
CREATE FUNCTION itself(data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	me text := dtm_context() ->> 'gid';
	answers jsonb := '[]';
	statement text;
BEGIN
	PERFORM dtm_call('sql:act', '{"n": 1}', 'sql:undo');
	FOREACH statement IN ARRAY ARRAY['dtm_abort(%L)', 'dtm_stop(%L)', 'dtm_submit(%L)', 'dtm_signal(%L, ''e'')'] LOOP
		BEGIN
			EXECUTE 'SELECT ' || format(statement, me);
			answers := answers || to_jsonb('ACCEPTED: ' || statement);
		EXCEPTION WHEN OTHERS THEN
			answers := answers || to_jsonb(SQLSTATE || ': ' || SQLERRM);
		END;
	END LOOP;
	IF data ? 'step' THEN
		PERFORM dtm_call('sql:abort_own');
	END IF;
	RETURN answers;
END $$;
CREATE FUNCTION abort_own(p jsonb) RETURNS void LANGUAGE sql AS $$ SELECT dtm_abort(dtm_context() ->> 'gid', 'a step says so') $$;
SELECT dtm_workflow_submit('itself', gid => 'wf-itself');
SELECT dtm_wait('wf-itself'), jsonb_array_elements_text(dtm_result('wf-itself'));
SELECT dtm_workflow_submit('itself', '{"step": 1}', gid => 'wf-itself-step');
SELECT dtm_wait('wf-itself-step');
SELECT rollback_reason FROM dtm.transactions WHERE gid = 'wf-itself-step';
SELECT wf.said();

-- a function that takes other steps than last time is stopped, and goes on once it is mended
CREATE FUNCTION changes(data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM dtm_call('sql:act', '{"n": 1}', 'sql:undo');
	PERFORM dtm_await('go');
	RETURN dtm_call('sql:act', '{"n": 2}');
END $$;
CREATE FUNCTION stuck_reason(of text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	seen text;
BEGIN
	FOR i IN 1 .. 3000 LOOP
		SELECT concat_ws(E'\n', reason, next_run_at, suggestion) INTO seen FROM dtm.stuck WHERE gid = of;
		EXIT WHEN FOUND;
		PERFORM pg_sleep(0.01);
	END LOOP;
	RETURN seen;
END $$;
SELECT dtm_workflow_submit('changes', gid => 'wf-changes');
SELECT wf.waiting('wf-changes', '02');
CREATE OR REPLACE FUNCTION changes(data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM dtm_call('sql:act', '{"n": 1}', 'sql:act', name => 'one');
	PERFORM dtm_await('go');
	RETURN dtm_call('sql:act', '{"n": 2}');
END $$;
SELECT dtm_signal('wf-changes', 'go');
SELECT wf.stuck_reason('wf-changes');
SELECT status FROM dtm.transactions WHERE gid = 'wf-changes';
CREATE OR REPLACE FUNCTION changes(data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM dtm_call('sql:act', '{"n": 1}', 'sql:undo');
	RETURN '{}';
END $$;
SELECT dtm_retry('wf-changes');
SELECT wf.stuck_reason('wf-changes');
CREATE OR REPLACE FUNCTION changes(data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM dtm_call('sql:act', '{"n": 1}', 'sql:undo');
	PERFORM dtm_sleep('1 s');
	RETURN '{}';
END $$;
SELECT dtm_retry('wf-changes');
SELECT wf.stuck_reason('wf-changes');
-- the payload is what was recorded, whatever is given now
CREATE OR REPLACE FUNCTION changes(data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM dtm_call('sql:act', '{"n": 11}', 'sql:undo');
	PERFORM dtm_await('go', '1 hour');
	RETURN dtm_call('sql:act', '{"n": 3}');
END $$;
SELECT dtm_retry('wf-changes');
SELECT dtm_wait('wf-changes'), dtm_result('wf-changes');
SELECT wf.said();

-- one that is never mended is stopped
CREATE FUNCTION dice(data jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN PERFORM dtm_call('sql:act', name => clock_timestamp()::text); END $$;
SELECT dtm_workflow_submit('dice', gid => 'wf-dice');
SELECT regexp_replace(wf.stuck_reason('wf-dice'), '\d{4}-\d\d-\d\d [^"]*', '...', 'g');
SELECT dtm_stop('wf-dice', 'dice');
SELECT status, rollback_reason FROM dtm.transactions WHERE gid = 'wf-dice';
-- ... or rolled back
CREATE OR REPLACE FUNCTION dice(data jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN PERFORM dtm_call('sql:act', '{"n": 1}', 'sql:undo', name => clock_timestamp()::text); END $$;
SELECT dtm_workflow_submit('dice', gid => 'wf-dice-2');
SELECT wf.stuck_reason('wf-dice-2') IS NOT NULL;
SELECT dtm_abort('wf-dice-2', 'no dice');
SELECT dtm_wait('wf-dice-2');
SELECT wf.said();

-- errors of the function: again with back-off, seen with the function's name, until the limit
CREATE FUNCTION broken(data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM dtm_call('sql:act', '{"n": 1}', 'sql:undo');
	RETURN to_jsonb(1 / (data ->> 'by')::int);
END $$;
SELECT dtm_workflow_submit('broken', '{"by": 0}', gid => 'wf-broken', retry_interval => '0.01 s', retry_limit => 4);
SELECT dtm_wait('wf-broken');
SELECT rollback_reason FROM dtm.transactions WHERE gid = 'wf-broken';
SELECT wf.said();
SELECT branch_id, op, attempt, outcome FROM dtm_timeline('wf-broken');
SELECT dtm_workflow_submit('broken', '{"by": 0}', gid => 'wf-stuck', retry_interval => '0.01 s');
SELECT regexp_replace(wf.stuck_reason('wf-stuck'), '\(\d+ failures in a row\)\n.*', '(...)');
CREATE OR REPLACE FUNCTION broken(data jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT dtm_call('sql:act', '{"n": 1}', 'sql:undo') $$;
SELECT dtm_retry('wf-stuck') IS NOT NULL;
SELECT dtm_wait('wf-stuck'), dtm_result('wf-stuck');
SELECT wf.said();
SELECT count(*) FROM dtm.stuck WHERE gid LIKE 'wf-%';

-- "not yet" of the function itself is asked again, and never counts as a failure
CREATE SEQUENCE asked;
CREATE FUNCTION not_yet(data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	IF nextval('wf.asked') < 4 THEN PERFORM dtm_ongoing('not yet'); END IF;
	RETURN '"now"';
END $$;
SELECT dtm_workflow_submit('not_yet', gid => 'wf-not-yet', retry_interval => '0.01 s', retry_limit => 0);
SELECT dtm_wait('wf-not-yet'), dtm_result('wf-not-yet');

-- time-out of the whole; a step that uses its limit up
SELECT dtm_workflow_submit('waits', '{"times": 1}', gid => 'wf-late', timeout_to_fail => '0.2 s');
SELECT dtm_wait('wf-late');
SELECT rollback_reason FROM dtm.transactions WHERE gid = 'wf-late';
CREATE FUNCTION fails(p jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'broken step'; END $$;
CREATE FUNCTION limited(data jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM dtm_call('sql:act', '{"n": 1}', 'sql:undo');
	PERFORM dtm_call('sql:fails', '{"n": 2}', 'sql:undo', retry_limit => 1);
END $$;
SELECT dtm_workflow_submit('limited', gid => 'wf-limited', retry_interval => '0.01 s');
SELECT dtm_wait('wf-limited');
SELECT rollback_reason FROM dtm.transactions WHERE gid = 'wf-limited';
SELECT wf.said();

-- it starts later; a retry hurries it
SELECT dtm_workflow_submit('three', gid => 'wf-later', start_after => '1 hour');
SELECT dtm_wait('wf-later', '0.1 s'), next_run_at > now() + '50 min' FROM dtm.transactions WHERE gid = 'wf-later';
SELECT dtm_retry('wf-later');
SELECT dtm_wait('wf-later');
SELECT wf.said();

-- constraints that are deferred are checked before the end, so that they fail the run and not the commit
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
CREATE FUNCTION orphan(data jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM dtm_call('sql:act', '{"n": 1}', 'sql:undo');
	INSERT INTO wf.child VALUES (1);
END $$;
SELECT dtm_workflow_submit('orphan', gid => 'wf-orphan', retry_limit => 0);
SELECT dtm_wait('wf-orphan');
SELECT wf.said(), (SELECT count(*) FROM wf.child);

-- a workflow runs with the rights of whoever submitted it, and its steps too
CREATE ROLE wf_app;
SELECT dtm_grant('wf_app');
GRANT USAGE ON SCHEMA wf TO wf_app;
REVOKE EXECUTE ON FUNCTION three(jsonb) FROM PUBLIC;
CREATE FUNCTION as_whom(data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	seen jsonb := jsonb_build_array(current_user, dtm_context());
BEGIN
	BEGIN
		PERFORM wf.note('not allowed');
	EXCEPTION WHEN insufficient_privilege THEN
		seen := seen || to_jsonb(SQLERRM);
	END;
	BEGIN
		PERFORM dtm_call('sql:three');
	EXCEPTION WHEN insufficient_privilege THEN
		seen := seen || to_jsonb(SQLERRM);
	END;
	BEGIN
		PERFORM count(*) FROM dtm.branch;
	EXCEPTION WHEN insufficient_privilege THEN
		seen := seen || to_jsonb(SQLERRM);
	END;
	RETURN seen || dtm_call('sql:who');
END $$;
CREATE FUNCTION who(p jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb('step as ' || current_user) $$;
SET ROLE wf_app;
SELECT wf.refused($$SELECT dtm_workflow_submit('three')$$);
SELECT dtm_workflow_submit('as_whom', gid => 'wf-whom');
SELECT dtm_wait('wf-whom'), dtm_result('wf-whom');
SELECT wf.refused($$SELECT dtm_signal('wf-early', 'approved')$$);
SELECT wf.refused($$SELECT dtm_result('wf-three')$$);
RESET ROLE;

-- what is finished goes with all that belongs to it
SELECT count(*) FROM dtm.live JOIN dtm.trans USING (id) WHERE gid LIKE 'wf-%';
SELECT dtm_purge('0') > 0;
SELECT count(*) FROM dtm.branch;
SELECT count(*) FROM dtm.signal;
DROP OWNED BY wf_app;
DROP ROLE wf_app;
DROP SCHEMA wf CASCADE;
