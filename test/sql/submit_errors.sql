-- What dtm_saga_submit refuses: SQLSTATE, message, hint.  Nothing is stored.
\set VERBOSITY terse
\pset format unaligned
\pset tuples_only on
\pset null (null)
SET client_min_messages = warning;
CREATE SCHEMA submit_errors;
SET search_path = submit_errors, public;
SELECT count(*) AS before FROM dtm.transactions \gset


-- Runs a statement that must fail; says how it failed.
CREATE FUNCTION refused(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	before bigint := (SELECT count(*) FROM dtm.transactions);
	answer text;
	detail text;
	hint text;
BEGIN
	BEGIN
		EXECUTE statement INTO answer;
		RETURN 'ACCEPTED: ' || coalesce(answer, '(null)');
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
		answer := SQLSTATE || ': ' || SQLERRM || coalesce(E'\n  detail: ' || nullif(detail, ''), '') ||
			coalesce(E'\n  hint: ' || nullif(hint, ''), '');
	END;
	IF (SELECT count(*) FROM dtm.transactions) <> before THEN
		answer := answer || E'\n  BUT SOMETHING IS STORED';
	END IF;
	IF left(answer, 5) = 'XX000' THEN
		answer := answer || E'\n  AN INTERNAL ERROR';
	END IF;
	RETURN answer;
END $$;

-- The same for a submit of these steps with these further arguments.
CREATE FUNCTION saga(steps text, more text DEFAULT '') RETURNS text LANGUAGE sql AS $$
	SELECT refused(format('SELECT dtm_saga_submit(%L::jsonb%s)', steps, more));
$$;

-- The same for one step with a good action and these further members.
CREATE FUNCTION step(members text) RETURNS text LANGUAGE sql AS $$
	SELECT saga(format('[{"action": "http://127.0.0.1:9/"}, {"action": "http://127.0.0.1:9/", %s}]', members));
$$;

-- The helpers show what is accepted, too: names of functions fold as everywhere, any depth of a payload.
CREATE FUNCTION good(payload jsonb) RETURNS void LANGUAGE sql BEGIN ATOMIC END;
BEGIN;
SELECT saga('[{"action": ""}]', ', ''good''');
SELECT step('"name": "second"') ~ '^ACCEPTED: [2-9A-Za-z]{22}$';
SELECT saga('[{"action": "SQL:Good"}]') ~ '^ACCEPTED';
SELECT saga('[{"action": "sql:\"submit_errors\".GOOD", "compensate": "sql:good"}]') ~ '^ACCEPTED';
SELECT saga(format('[{"action": "", "payload": %s1%s}]', repeat('[', 3000), repeat(']', 3000))) ~ '^ACCEPTED';
ROLLBACK;

--
-- steps
--
SELECT saga(NULL);
SELECT saga('null');
SELECT saga('1');
SELECT saga('"http://127.0.0.1:9/"');
SELECT saga('true');
SELECT saga('[]');
SELECT saga('{}');
SELECT saga('[1]');
SELECT saga('[null]');
SELECT saga('["http://127.0.0.1:9/"]');
SELECT saga('[[]]');
SELECT saga('[{"action": ""}, []]');
SELECT saga('[{}]');
SELECT saga('[{"action": "http://127.0.0.1:9/"}, {"compensate": "http://127.0.0.1:9/"}]');
SELECT saga('[{"action": null}]');
SELECT saga('[{"Action": "http://127.0.0.1:9/"}]');
SELECT step('"compensation": "http://127.0.0.1:9/"');
SELECT step('"": 1');
SELECT step(E'"a\\nb": 1');
SELECT step(format('"%s": 1', repeat('ä', 400)));
SELECT step(format('"x%s": 1', repeat('ä', 400)));
SELECT saga(format('[%s{"action": ""}]', repeat('{"action": ""},', 1000)));
SELECT refused($$ SELECT dtm_saga_submit('[{"action"') $$);

--
-- targets
--
SELECT saga('[{"action": 1}]');
SELECT saga('[{"action": ["http://127.0.0.1:9/"]}]');
SELECT saga('[{"action": {"url": "http://127.0.0.1:9/"}}]');
SELECT saga('[{"action": true}]');
SELECT saga('[{"action": "127.0.0.1:9/stock"}]');
SELECT saga('[{"action": "stock/deduct"}]');
SELECT saga('[{"action": "ftp://127.0.0.1/stock"}]');
SELECT saga('[{"action": "file:///etc/passwd"}]');
SELECT saga('[{"action": "http:/127.0.0.1/"}]');
SELECT saga('[{"action": "http://"}]');
SELECT saga('[{"action": "http:///stock"}]');
SELECT saga('[{"action": "http://?a=1"}]');
SELECT saga('[{"action": "http://:80/"}]');
SELECT saga('[{"action": "http://host name/"}]');
SELECT saga('[{"action": "http://127.0.0.1/a b"}]');
SELECT saga(E'[{"action": "http://127.0.0.1/a\\r\\nHost: b"}]');
SELECT saga('[{"action": "http://user:secret@127.0.0.1/"}]');
SELECT saga('[{"action": "http://127.0.0.1:/"}]');
SELECT saga('[{"action": "http://127.0.0.1:0/"}]');
SELECT saga('[{"action": "http://127.0.0.1:65536/"}]');
SELECT saga('[{"action": "http://127.0.0.1:http/"}]');
SELECT saga('[{"action": "http://127.0.0.1:-1/"}]');
SELECT saga('[{"action": "http://127.1/"}]');
SELECT saga('[{"action": "http://0x7f000001/"}]');
SELECT saga('[{"action": "http://2130706433/"}]');
SELECT saga('[{"action": "http://[::1/"}]');
SELECT saga('[{"action": "http://[::1]x/"}]');
SELECT saga('[{"action": "http://[fe80::1%25eth0]/"}]');
SELECT saga('[{"action": "http://exa$mple/"}]');
SELECT saga('[{"action": "http://a..b/"}]');
SELECT saga(format('[{"action": "http://%s/"}]', repeat('a', 254)));
SELECT saga(format('[{"action": "http://127.0.0.1/%s"}]', repeat('a', 2048)));
SELECT saga(format('[{"action": "gopher://%s"}]', repeat('ä', 200)));
SELECT saga(format('[{"action": "gopher://x%s"}]', repeat('ä', 200)));
SELECT saga('[{"action": "pg://server"}]');
SELECT saga('[{"action": "pg://my-server/f"}]');
SELECT saga('[{"action": "pg://server/f(jsonb)"}]');
SELECT saga('[{"action": "pg://server/public.f"}]');
SELECT saga('[{"action": "xa://server"}]');
SELECT step('"compensate": "stock/restore"');
SELECT step('"compensate": 1');

-- known, but not there yet
SELECT saga('[{"action": "grpc://127.0.0.1:9/shop.Stock/Deduct"}]');
SELECT saga('[{"action": "grpcs://127.0.0.1:9/shop.Stock/Deduct"}]');
SELECT saga('[{"action": "discovery:///stock/deduct"}]');
SELECT saga('[{"action": "topic://orders"}]');

-- not allowed: addresses that belong to the host's surroundings
SELECT saga('[{"action": "http://169.254.169.254/latest/meta-data/"}]');
SELECT saga('[{"action": "http://[fe80::1]/"}]');
SELECT saga('[{"action": "http://[::ffff:169.254.169.254]/"}]');
SELECT saga('[{"action": "http://0.0.0.0:9/"}]');
SELECT saga('[{"action": "http://metadata.google.internal/"}]');
SELECT step('"compensate": "http://169.254.169.254/"');

--
-- functions
--
CREATE SCHEMA regress_dtm_closed;
CREATE FUNCTION regress_dtm_closed.f(payload jsonb) RETURNS void LANGUAGE sql BEGIN ATOMIC END;
CREATE FUNCTION takes_nothing() RETURNS void LANGUAGE sql BEGIN ATOMIC END;
CREATE FUNCTION takes_text(payload text) RETURNS void LANGUAGE sql BEGIN ATOMIC END;
CREATE FUNCTION takes_json(payload json) RETURNS void LANGUAGE sql BEGIN ATOMIC END;
CREATE FUNCTION takes_two(payload jsonb, more int) RETURNS void LANGUAGE sql BEGIN ATOMIC END;
CREATE FUNCTION takes_any(payload anyelement) RETURNS void LANGUAGE sql AS 'SELECT';
CREATE FUNCTION gives_text(payload jsonb) RETURNS text LANGUAGE sql RETURN 'x';
CREATE FUNCTION gives_set(payload jsonb) RETURNS SETOF jsonb LANGUAGE sql BEGIN ATOMIC SELECT payload; END;
CREATE FUNCTION gives_table(payload jsonb) RETURNS TABLE (a int) LANGUAGE sql BEGIN ATOMIC SELECT 1; END;
CREATE FUNCTION not_mine(payload jsonb) RETURNS void LANGUAGE sql BEGIN ATOMIC END;
CREATE PROCEDURE a_procedure(payload jsonb) LANGUAGE sql BEGIN ATOMIC END;
CREATE AGGREGATE an_aggregate(jsonb) (sfunc = jsonb_concat, stype = jsonb);
CREATE FUNCTION overloaded(payload text) RETURNS void LANGUAGE sql BEGIN ATOMIC END;
CREATE FUNCTION overloaded(payload jsonb) RETURNS text LANGUAGE sql RETURN 'x';
CREATE FUNCTION overloaded(payload jsonb, more int DEFAULT 1) RETURNS void LANGUAGE sql BEGIN ATOMIC END;
CREATE FUNCTION pg_temp.temporary(payload jsonb) RETURNS void LANGUAGE sql BEGIN ATOMIC END;

SELECT saga('[{"action": "sql:"}]');
SELECT saga('[{"action": "sql:nowhere"}]');
SELECT saga('[{"action": "sql:nowhere.good"}]');
SELECT saga('[{"action": "sql:submit_errors.nowhere"}]');
SELECT saga('[{"action": "sql:\"Good\""}]');
SELECT saga('[{"action": "sql:a.b.c"}]');
SELECT saga('[{"action": "sql:good("}]');
SELECT saga('[{"action": "sql:good()"}]');
SELECT saga('[{"action": "sql:good(jsonb)"}]');
SELECT saga('[{"action": "sql:good; DROP TABLE dtm.trans"}]');
SELECT saga('[{"action": "sql: good"}]');
SELECT saga('[{"action": "sql:submit_errors."}]');
SELECT saga('[{"action": "sql:.good"}]');
SELECT saga('[{"action": "sql:\"good"}]');
SELECT saga('[{"action": "sql:\"\""}]');
SELECT saga('[{"action": "sql://good"}]');
SELECT saga('[{"action": "sql:takes_nothing"}]');
SELECT saga('[{"action": "sql:takes_text"}]');
SELECT saga('[{"action": "sql:takes_json"}]');
SELECT saga('[{"action": "sql:takes_two"}]');
SELECT saga('[{"action": "sql:takes_any"}]');
SELECT saga('[{"action": "sql:gives_text"}]');
SELECT saga('[{"action": "sql:gives_set"}]');
SELECT saga('[{"action": "sql:gives_table"}]');
SELECT saga('[{"action": "sql:a_procedure"}]');
SELECT saga('[{"action": "sql:an_aggregate"}]');
SELECT saga('[{"action": "sql:overloaded"}]');
SELECT regexp_replace(saga('[{"action": "sql:pg_temp.temporary"}]'), 'pg_temp_\d+', 'pg_temp_N');
SELECT saga('[{"action": "sql:temporary"}]');
SELECT saga('[{"action": "sql:good"}, {"action": "sql:good", "compensate": "sql:good_back"}]');
-- longer than a name can be: cut, as everywhere in SQL
SELECT saga(format('[{"action": "sql:%s"}]', repeat('a', 70)));
SELECT saga(format('[{"action": "sql:%s"}]', repeat('ä', 1100)));

-- with the rights of the submitting role
CREATE ROLE regress_dtm_errors;
GRANT USAGE ON SCHEMA submit_errors TO regress_dtm_errors;
SELECT dtm_grant('regress_dtm_errors');
REVOKE EXECUTE ON FUNCTION not_mine(jsonb) FROM PUBLIC;
SET ROLE regress_dtm_errors;
SELECT saga('[{"action": "sql:good"}, {"action": "sql:not_mine"}]');
SELECT saga('[{"action": "sql:good", "compensate": "sql:submit_errors.not_mine"}]');
SELECT saga('[{"action": "sql:good"}, {"action": "sql:good", "compensate": "sql:regress_dtm_closed.f"}]');
SET search_path = regress_dtm_closed, submit_errors, public;
SELECT saga('[{"action": "sql:f"}]');
RESET ROLE;
SET search_path = submit_errors, public;

--
-- after
--
SELECT step('"after": 0');
SELECT step('"after": "0"');
SELECT step('"after": {"0": 1}');
SELECT step('"after": [1]');
SELECT step('"after": [-1]');
SELECT step('"after": [2]');
SELECT step('"after": [1000]');
SELECT step('"after": [1e30]');
SELECT step('"after": [0.5]');
SELECT step('"after": ["0"]');
SELECT step('"after": [null]');
SELECT step('"after": [[0]]');
SELECT saga('[{"action": "", "after": [1]}, {"action": "", "after": [0]}]');
SELECT saga('[{"action": ""}, {"action": "", "after": [3]}, {"action": "", "after": [1]}, {"action": "", "after": [0, 2]}]');

--
-- other members of a step
--
SELECT step('"name": 1');
SELECT step('"name": ["a"]');
SELECT step(format('"name": "%s"', repeat('n', 129)));
SELECT step(format('"name": "%s"', repeat('ä', 65)));
SELECT step(E'"name": "a\\tb"');
SELECT step('"headers": "X-A: 1"');
SELECT step('"headers": ["X-A"]');
SELECT step('"headers": {"X-A": 1}');
SELECT step('"headers": {"X-A": null}');
SELECT step('"headers": {"X-A": {"b": "c"}}');
SELECT step('"headers": {"": "1"}');
SELECT step('"headers": {"X A": "1"}');
SELECT step('"headers": {"X-Ä": "1"}');
SELECT step(E'"headers": {"X-A\\r\\nX-B": "1"}');
SELECT step(E'"headers": {"X-A": "1\\r\\nX-B: 2"}');
SELECT step('"headers": {"Host": "other"}');
SELECT step('"headers": {"content-length": "1"}');
SELECT step('"headers": {"Transfer-Encoding": "chunked"}');
SELECT step(format('"headers": {"X-A": "%s"}', repeat('v', 4096)));
SELECT step(format('"headers": {"%s": "v"}', repeat('X', 5000)));
SELECT step(format('"headers": {%s}', (SELECT string_agg(format('"X-%s": "1"', n), ', ') FROM generate_series(1, 33) AS n)));
SELECT step('"request_timeout": 0');
SELECT step('"request_timeout": -1');
SELECT step('"request_timeout": 86401');
SELECT step('"request_timeout": 1e300');
SELECT step('"request_timeout": 0.0001');
SELECT step('"request_timeout": true');
SELECT step('"request_timeout": [1]');
SELECT step('"request_timeout": "soon"');
SELECT step('"request_timeout": ""');
SELECT step('"request_timeout": "-3 s"');
SELECT step('"request_timeout": "2 days"');
SELECT step('"request_timeout": "999999999999999 years"');
SELECT step('"retry_limit": -1');
SELECT step('"retry_limit": 1.5');
SELECT step('"retry_limit": 1000001');
SELECT step('"retry_limit": "3"');
SELECT step('"retry_limit": [3]');
SELECT step(format('"payload": "%s"', repeat('p', 1024 * 1024)));
SELECT saga(format('[%s]', (SELECT string_agg(format('{"action": "", "payload": "%s"}', repeat('p', 1024 * 1024 - 2)), ', ') FROM generate_series(1, 9))));

--
-- the object that DTM's clients send
--
SELECT saga('{"steps": null}');
SELECT saga('{"steps": {}}');
SELECT saga('{"steps": []}');
SELECT saga('{"steps": [1]}');
SELECT saga('{"steps": [{"compensate": ""}]}');
SELECT saga('{"steps": [{"action": "nothing"}]}');
SELECT saga('{"steps": [{"action": "", "try": ""}]}');
SELECT saga('{"steps": [{"action": ""}], "payloads": "{}"}');
SELECT saga('{"steps": [{"action": ""}], "payloads": [{}]}');
SELECT saga('{"steps": [{"action": ""}], "payloads": ["{}", "{}"]}');
SELECT saga('{"steps": [{"action": "sql:nowhere"}]}');
SELECT saga('{"steps": [{"action": ""}], "custom_data": {}}');
SELECT saga('{"steps": [{"action": ""}], "custom_data": "no JSON"}');
SELECT saga('{"steps": [{"action": ""}], "custom_data": "{\"concurrent\": true, \"orders\": {\"1\": [0]}}"}');
SELECT saga('{"steps": [{"action": ""}], "custom_data": "{\"concurrent\": true, \"orders\": {\"0\": [0]}}"}');
SELECT saga('{"steps": [{"action": ""}], "custom_data": "{\"concurrent\": true, \"orders\": []}"}');
SELECT saga('{"steps": [{"action": ""}, {"action": ""}], "custom_data": "{\"concurrent\": true, \"orders\": {\"0\": [1], \"1\": [0]}}"}');
SELECT saga(format('{"steps": [{"action": ""}], "custom_data": "{\"concurrent\": true, \"orders\": {\"x%s\": [0]}}"}', repeat('ä', 40)));
SELECT saga('{"steps": [{"action": ""}], "request_timeout": -1}');
SELECT saga('{"steps": [{"action": ""}], "request_timeout": 1e300}');
SELECT saga('{"steps": [{"action": ""}], "retry_limit": "many"}');
SELECT saga('{"steps": [{"action": ""}], "retry_interval": 99999999999999999999}');
SELECT saga('{"steps": [{"action": ""}], "branch_headers": []}');
SELECT saga('{"steps": [{"action": ""}], "branch_headers": {"X-A": 1}}');
SELECT saga(format('{"steps": %s1%s}', repeat('[', 5000), repeat(']', 5000)));

--
-- options
--
SELECT saga('[{"action": ""}]', $$, request_timeout => '0'$$);
SELECT saga('[{"action": ""}]', $$, request_timeout => '-1 s'$$);
SELECT saga('[{"action": ""}]', $$, request_timeout => '1 day 1 s'$$);
SELECT saga('[{"action": ""}]', $$, request_timeout => '170000000 years'$$);
SELECT saga('[{"action": ""}]', $$, request_timeout => 'soon'$$);
SELECT saga('[{"action": ""}]', $$, retry_interval => '0'$$);
SELECT saga('[{"action": ""}]', $$, retry_interval => '-1 month'$$);
SELECT saga('[{"action": ""}]', $$, retry_interval => '8 days'$$);
SELECT saga('[{"action": ""}]', $$, retry_limit => -1$$);
SELECT saga('[{"action": ""}]', $$, retry_limit => 1000001$$);
SELECT saga('[{"action": ""}]', $$, timeout_to_fail => '0'$$);
SELECT saga('[{"action": ""}]', $$, timeout_to_fail => '-1 s'$$);
SELECT saga('[{"action": ""}]', $$, timeout_to_fail => '366 days'$$);
SELECT saga('[{"action": ""}]', $$, start_after => '-1 us'$$);
SELECT saga('[{"action": ""}]', $$, start_after => '-1 ms'$$);
SELECT saga('[{"action": ""}]', $$, start_after => '2 years'$$);
SELECT saga('[{"action": ""}]', $$, start_after => '-170000000 years'$$);
SELECT saga('[{"action": ""}]', $$, headers => '[]'$$);
SELECT saga('[{"action": ""}]', $$, headers => '"X-A"'$$);
SELECT saga('[{"action": ""}]', $$, headers => 'null'$$);
SELECT saga('[{"action": ""}]', $$, headers => '{"X-A": 1}'$$);
SELECT saga('[{"action": ""}]', $$, headers => '{"Host": "other"}'$$);
SELECT left(saga('[{"action": ""}]', $$, retries => 1$$), 5);
SELECT saga('[{"action": ""}]', $$, concurrent => 'perhaps'$$);

--
-- gid
--
SELECT saga('[{"action": ""}]', $$, ''$$);
SELECT saga('[{"action": ""}]', format(', %L', repeat('g', 129)));
SELECT saga('[{"action": ""}]', format(', %L', repeat('ä', 65)));
SELECT saga('[{"action": ""}]', $$, E'a\nb'$$);
SELECT saga('[{"action": ""}]', $$, E'\x7f'$$);
SELECT saga('[{"action": ""}]', $$, E'\t'$$);

--
-- elsewhere
--
BEGIN READ ONLY;
SELECT saga('[{"action": ""}]');
ROLLBACK;
SELECT refused($$ SELECT dtm_wait('no such one') $$);
SELECT refused($$ SELECT dtm_wait(NULL) $$);
SELECT refused($$ SELECT dtm_wait('no such one', NULL) $$);
SELECT refused($$ SELECT dtm_wait('no such one', '-1 s') $$);
SELECT refused($$ SELECT dtm_wait('no such one', '170000000 years') $$);
SELECT refused($$ SELECT dtm_wait('no such one', '-170000000 years') $$);
SELECT refused($$ SELECT dtm_wait('no such one', '-1 us') $$);
SELECT refused($$ SELECT dtm_status('no such one') $$);
SELECT refused($$ SELECT dtm_status('') $$);
SELECT refused($$ SELECT dtm_result('no such one') $$);
SELECT refused($$ SELECT * FROM dtm_timeline('no such one') $$);
SELECT refused($$ SELECT dtm_retry('no such one') $$);
SELECT refused($$ SELECT dtm_stop('no such one') $$);
SELECT refused($$ SELECT dtm_stop(NULL) $$);
SELECT refused($$ SELECT dtm_purge(NULL) $$);
SELECT refused($$ SELECT dtm_purge('-1 s') $$);
SELECT refused($$ SELECT dtm_purge('-1 month') $$);
SELECT refused($$ SELECT dtm_purge('1 day -25 hours') $$);
SELECT refused($$ SELECT dtm_purge('170000000 years') $$);
SELECT refused($$ SELECT dtm_purge('300000 years') $$);
SELECT refused($$ SELECT dtm_purge('2700 years') $$);
SELECT refused($$ SELECT dtm_grant(NULL) $$);
SELECT refused($$ SELECT dtm_grant('regress_no_such_role') $$);
SELECT refused($$ SELECT dtm_grant('public') $$);
SELECT refused($$ SELECT dtm_fail() $$);
SELECT refused($$ SELECT dtm_fail('no stock') $$);
SELECT refused($$ SELECT dtm_fail('100% "of" it') $$);
SELECT refused($$ SELECT dtm_ongoing() $$);
SELECT refused($$ SELECT dtm_ongoing('wait') $$);
-- NULL
SELECT dtm_status(NULL), dtm_result(NULL), dtm_retry(NULL), dtm_context();

-- and it left nothing
SELECT count(*) - :before FROM dtm.transactions;
SELECT count(*) FROM dtm.live AS l LEFT JOIN dtm.trans AS t USING (id) WHERE t.id IS NULL;

DROP OWNED BY regress_dtm_errors;
DROP ROLE regress_dtm_errors;
DROP SCHEMA regress_dtm_closed CASCADE;
DROP SCHEMA submit_errors CASCADE;
