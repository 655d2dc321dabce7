-- TCC whose Try calls the coordinator makes: dtm_tcc_submit: arguments, outcomes, what is refused.
\set VERBOSITY terse
\pset format unaligned
\pset tuples_only on
\pset null (null)
SET client_min_messages = warning;
CREATE SCHEMA tcc;
SET search_path = tcc, public;

-- Stock with a part of it locked by Try, sold by Confirm, free again by Cancel.
CREATE TABLE stock (id int PRIMARY KEY, quantity int CHECK (quantity >= 0), locked int DEFAULT 0, sold int DEFAULT 0);
CREATE TABLE log (n int GENERATED ALWAYS AS IDENTITY, says text);
CREATE FUNCTION note(payload jsonb) RETURNS void LANGUAGE sql AS $$
	INSERT INTO tcc.log (says) VALUES (format('%s %s %s', dtm_context() ->> 'op', dtm_context() ->> 'branch_id', payload ->> 'id')) $$;
CREATE FUNCTION lock(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	UPDATE tcc.stock SET locked = locked + (p ->> 'qty')::int
	WHERE id = (p ->> 'id')::int AND quantity - locked >= (p ->> 'qty')::int;
	IF NOT FOUND THEN
		PERFORM dtm_fail(format('not enough of %s', p ->> 'id'));
	END IF;
	PERFORM tcc.note(p);
END $$;
CREATE FUNCTION sell(p jsonb) RETURNS void LANGUAGE sql AS $$
	UPDATE tcc.stock SET quantity = quantity - (p ->> 'qty')::int, locked = locked - (p ->> 'qty')::int, sold = sold + (p ->> 'qty')::int
	WHERE id = (p ->> 'id')::int;
	SELECT tcc.note(p) $$;
CREATE FUNCTION free(p jsonb) RETURNS void LANGUAGE sql AS $$
	UPDATE tcc.stock SET locked = locked - (p ->> 'qty')::int WHERE id = (p ->> 'id')::int;
	SELECT tcc.note(p) $$;
CREATE FUNCTION never(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'broken'; END $$;
CREATE FUNCTION wait_for_it(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM dtm_ongoing('not yet'); END $$;
INSERT INTO stock VALUES (1, 100), (2, 10), (3, 1);

CREATE FUNCTION branch(id int, qty int, more jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('try', 'sql:tcc.lock', 'confirm', 'sql:tcc.sell', 'cancel', 'sql:tcc.free',
		'payload', jsonb_build_object('id', id, 'qty', qty)) || more $$;
CREATE FUNCTION branches(of text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(concat_ws(' ', branch_id, op, status), ', ' ORDER BY branch_id COLLATE "C", op DESC) FROM dtm.branches WHERE gid = of $$;
-- The stock, and what was called, in order; forgets the calls.
CREATE FUNCTION books() RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(format('%s: %s locked %s sold %s', id, quantity, locked, sold), ', ' ORDER BY id) FROM tcc.stock $$;
CREATE FUNCTION calls() RETURNS text LANGUAGE sql AS $$
	WITH gone AS (DELETE FROM tcc.log RETURNING *) SELECT string_agg(says, ', ' ORDER BY n) FROM gone $$;
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
CREATE FUNCTION tcc(branches text, more text DEFAULT '') RETURNS text LANGUAGE sql AS $$
	SELECT refused(format('SELECT dtm_tcc_submit(%L::jsonb%s)', branches, more)) $$;

--
-- Arguments
--
BEGIN;
SELECT dtm_tcc_submit('[{"try": "http://127.0.0.1:9/t", "confirm": "http://127.0.0.1:9/c", "cancel": ""}]', 't-1', true, '1 s', '2 s', 3, '4 min', '{"X-A": "secret"}', '5 days');
SELECT dtm_tcc_submit(branches => jsonb_build_array(branch(1, 1)), gid => 't-2');
SELECT length(dtm_tcc_submit(jsonb_build_array(branch(1, 1))));
SELECT gid, trans_type, status, options, next_run_at - created_at, branches(gid) FROM dtm.transactions WHERE gid LIKE 't-%' ORDER BY gid;
SELECT dtm_tcc_submit(jsonb_build_array(branch(1, 1)), 't-2', false);
SELECT tcc(jsonb_build_array(branch(1, 2))::text, ', ''t-2''');
SELECT tcc(jsonb_build_array(branch(1, 1))::text, ', ''t-2'', true');
SELECT refused('SELECT dtm_saga_submit(''[{"action": ""}]'', ''t-2'')');
ROLLBACK;

--
-- Outcomes
--
-- all agree: confirmed, the last first
SELECT dtm_tcc_submit(jsonb_build_array(branch(1, 2), branch(2, 1), branch(3, 1)), 'all');
SELECT dtm_wait('all');
SELECT branches('all');
SELECT calls();
SELECT books();
-- one refuses: those after it are not tried, the others are cancelled, the last first
SELECT dtm_tcc_submit(jsonb_build_array(branch(1, 2), branch(2, 1), branch(3, 1), branch(1, 1)), 'none');
SELECT dtm_wait('none');
SELECT branches('none');
SELECT calls();
SELECT books();
SELECT rollback_reason FROM dtm.transactions WHERE gid = 'none';
-- at once
SELECT dtm_tcc_submit(jsonb_build_array(branch(1, 2), branch(2, 1)), 'at-once', concurrent => true);
SELECT dtm_wait('at-once');
SELECT books();
SELECT (SELECT array_agg(w ORDER BY w COLLATE "C") FROM regexp_split_to_table(calls(), ', ') AS w);
-- nothing to confirm or to cancel is success
SELECT dtm_tcc_submit(jsonb_build_array(branch(1, 1, '{"confirm": ""}'), '{"try": "", "confirm": "", "cancel": ""}'::jsonb), 'empty');
SELECT dtm_wait('empty');
SELECT branches('empty');
SELECT calls();
UPDATE stock SET locked = 0;
-- in another order of Try
SELECT dtm_tcc_submit(jsonb_build_array(branch(1, 1, '{"after": [1]}'), branch(2, 1)), 'after', concurrent => true);
SELECT dtm_wait('after');
SELECT calls();
-- a Try that is broken is repeated, until its limit or the time-out
SELECT dtm_tcc_submit(jsonb_build_array(branch(1, 1), branch(2, 1, '{"try": "sql:never", "retry_limit": 2}')), 'limit', retry_interval => '10 ms');
SELECT dtm_wait('limit');
SELECT branches('limit'), calls();
SELECT rollback_reason, (SELECT attempts FROM dtm.branches AS b WHERE b.gid = t.gid AND branch_id = '02' AND op = 'try') FROM dtm.transactions AS t WHERE gid = 'limit';
SELECT dtm_tcc_submit(jsonb_build_array(branch(1, 1), branch(2, 1, '{"try": "sql:wait_for_it"}')), 'timeout', timeout_to_fail => '1500 ms', retry_interval => '50 ms');
SELECT dtm_wait('timeout');
SELECT branches('timeout'), calls();
SELECT rollback_reason FROM dtm.transactions WHERE gid = 'timeout';
SELECT books();

--
-- The owner: may give it up while it is tried, and cannot confirm what is not tried
--
SELECT dtm_tcc_submit(jsonb_build_array(branch(1, 1), branch(2, 1, '{"try": "sql:wait_for_it"}'), branch(1, 1)), 'given-up', retry_interval => '20 ms');
DO $$ BEGIN
	FOR i IN 1 .. 600 LOOP
		EXIT WHEN (SELECT attempts > 0 FROM dtm.branches WHERE gid = 'given-up' AND branch_id = '02' AND op = 'try');
		PERFORM pg_sleep(0.05);
	END LOOP;
END $$;
SELECT refused('SELECT dtm_submit(''given-up'')');
SELECT dtm_abort('given-up', 'changed my mind'), dtm_abort('given-up', 'again');
SELECT dtm_wait('given-up');
SELECT branches('given-up'), calls();
SELECT rollback_reason FROM dtm.transactions WHERE gid = 'given-up';
SELECT dtm_tcc_submit(jsonb_build_array(branch(1, 1)), 'before', start_after => '1 day');
SELECT dtm_abort('before');
SELECT dtm_wait('before');
SELECT branches('before'), calls();
-- once decided, it is decided
SELECT dtm_tcc_submit(jsonb_build_array(branch(1, 1, '{"confirm": "sql:wait_for_it"}')), 'confirming', retry_interval => '20 ms');
DO $$ BEGIN
	FOR i IN 1 .. 600 LOOP
		EXIT WHEN dtm_status('confirming') = 'submitted';
		PERFORM pg_sleep(0.05);
	END LOOP;
END $$;
SELECT refused('SELECT dtm_abort(''confirming'')'), dtm_submit('confirming');
CREATE OR REPLACE FUNCTION wait_for_it(payload jsonb) RETURNS void LANGUAGE sql AS $$ SELECT tcc.sell(payload) $$;
SELECT dtm_wait('confirming');
SELECT refused('SELECT dtm_abort(''confirming'')'), refused('SELECT dtm_submit(''none'')');
SELECT calls(), books();

--
-- What dtm_tcc_submit refuses
--
SELECT tcc(NULL);
SELECT tcc('1');
SELECT tcc('[]');
SELECT tcc('{}');
SELECT tcc('{"steps": [{"action": ""}]}');
SELECT tcc('[1]');
SELECT tcc('[{}]');
SELECT tcc('[{"try": "", "confirm": ""}]');
SELECT tcc('[{"try": "", "confirm": "", "cancel": ""}, {"try": "", "cancel": ""}]');
SELECT tcc('[{"try": null, "confirm": "", "cancel": ""}]');
SELECT tcc('[{"try": "", "confirm": "", "cancel": "", "action": ""}]');
SELECT tcc('[{"try": "", "confirm": "", "cancel": "", "compensate": ""}]');
SELECT tcc('[{"try": "", "confirm": "", "cancel": "", "undo": ""}]');
SELECT tcc('[{"try": "http://", "confirm": "", "cancel": ""}]');
SELECT tcc('[{"try": "", "confirm": 1, "cancel": ""}]');
SELECT tcc('[{"try": "", "confirm": "topic://x", "cancel": ""}]');
SELECT tcc('[{"try": "", "confirm": "sql:nobody", "cancel": ""}]');
SELECT tcc('[{"try": "", "confirm": "", "cancel": "sql:nobody"}]');
SELECT tcc('[{"try": "http://169.254.169.254/", "confirm": "", "cancel": ""}]');
SELECT tcc('[{"try": "", "confirm": "", "cancel": "", "after": [1]}]');
SELECT tcc('[{"try": "", "confirm": "", "cancel": "", "after": [0]}]');
SELECT tcc('[{"try": "", "confirm": "", "cancel": "", "after": 1}]');
SELECT tcc('[{"try": "", "confirm": "", "cancel": "", "after": [1]}, {"try": "", "confirm": "", "cancel": "", "after": [0]}]');
SELECT tcc('[{"try": "", "confirm": "", "cancel": "", "request_timeout": "soon"}]');
SELECT tcc('[{"try": "", "confirm": "", "cancel": ""}]', ', ''''');
SELECT tcc('[{"try": "", "confirm": "", "cancel": ""}]', ', timeout_to_fail => ''-1 s''');
SELECT tcc('[{"try": "", "confirm": "", "cancel": ""}]', ', retry_limit => -1');
