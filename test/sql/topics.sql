-- Topics: subscribing, messages to topics, what is refused.
\set VERBOSITY terse
\pset format unaligned
\pset tuples_only on
\pset null (null)
SET client_min_messages = warning;
CREATE SCHEMA topics;
SET search_path = topics, public;

CREATE TABLE log (n int GENERATED ALWAYS AS IDENTITY, says text);
CREATE FUNCTION note(payload jsonb) RETURNS void LANGUAGE sql AS $$
	INSERT INTO topics.log (says) VALUES (format('%s %s', dtm_context() ->> 'branch_id', payload)) $$;
CREATE FUNCTION note2(payload jsonb) RETURNS void LANGUAGE sql AS $$ SELECT topics.note(payload || '{"by": "note2"}') $$;
CREATE FUNCTION calls() RETURNS text LANGUAGE sql AS $$
	WITH gone AS (DELETE FROM topics.log RETURNING *) SELECT string_agg(says, ', ' ORDER BY n) FROM gone $$;
CREATE FUNCTION branches(of text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(concat_ws(' ', branch_id, name, url, status), ', ' ORDER BY branch_id COLLATE "C") FROM dtm.branches WHERE gid = of $$;
CREATE FUNCTION refused(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	before text := (SELECT format('%s %s', (SELECT count(*) FROM dtm.transactions), (SELECT count(*) FROM dtm.topics)));
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
	IF (SELECT format('%s %s', (SELECT count(*) FROM dtm.transactions), (SELECT count(*) FROM dtm.topics))) <> before THEN
		answer := answer || E'\n  BUT SOMETHING IS STORED';
	END IF;
	RETURN answer;
END $$;

--
-- Subscribing
--
SELECT dtm_topic_subscribe('order.paid', 'sql:topics.note', 'shipping');
SELECT dtm_topic_subscribe('order.paid', 'http://127.0.0.1:9/mail');
SELECT dtm_topic_subscribe(url => 'http://127.0.0.1:9/x', topic => 'other', remark => '');
SELECT topic, url, remark, created_at > now() - interval '1 min' FROM dtm.topics ORDER BY created_at;
BEGIN;
SELECT dtm_topic_subscribe('order.paid', 'http://127.0.0.1:9/points');
SELECT dtm_topic_unsubscribe('order.paid', 'http://127.0.0.1:9/mail');
-- one sees one's own changes, and they go with the transaction
SELECT dtm_msg_submit('[{"action": "topic://order.paid"}]', 'own');
SELECT branches('own');
ROLLBACK;
SELECT dtm_topic_unsubscribe('order.paid', 'http://127.0.0.1:9/mail');
SELECT topic, url FROM dtm.topics ORDER BY created_at;

--
-- Messages
--
-- with one subscriber the branch has the number of its step
SELECT dtm_msg_submit('[{"action": "topic://order.paid", "payload": {"order": 1}, "name": "paid"}]', 'one');
SELECT dtm_wait('one'), branches('one'), calls();
-- with more, in the order of subscription; steps before and after it keep their numbers
SELECT dtm_topic_subscribe('order.paid', 'sql:topics.note2');
SELECT dtm_msg_submit('[{"action": "sql:note", "payload": 0}, {"action": "TOPIC://order.paid", "payload": {"order": 2}, "name": "paid"}, {"action": "sql:note", "payload": 3}]', 'two');
SELECT dtm_wait('two');
SELECT branches('two');
SELECT calls();
-- as an object of DTM's clients, prepared
SELECT dtm_msg_prepare('{"steps": [{"action": "topic://order.paid"}], "payloads": ["{\"order\": 3}"]}', 'http://127.0.0.1:9/q', 'three');
SELECT branches('three');
SELECT dtm_submit('three');
SELECT dtm_wait('three'), calls();

-- what is submitted is frozen
BEGIN;
SELECT dtm_msg_submit('[{"action": "topic://order.paid", "payload": {"order": 4}}]', 'frozen', delay => '300 ms');
SELECT dtm_topic_drop('order.paid');
COMMIT;
SELECT dtm_wait('frozen'), branches('frozen'), calls();
-- and the same submit again is none, whoever has subscribed since, or even if the topic is gone
SELECT dtm_msg_submit('[{"action": "topic://order.paid", "payload": {"order": 4}}]', 'frozen', delay => '300 ms');
SELECT refused($$ SELECT dtm_msg_submit('[{"action": "topic://order.paid", "payload": {"order": 5}}]', 'frozen', delay => '300 ms') $$);
SELECT refused($$ SELECT dtm_msg_submit('[{"action": "sql:topics.note", "payload": {"order": 4}}]', 'frozen', delay => '300 ms') $$);
SELECT dtm_topic_subscribe('order.paid', 'http://127.0.0.1:9/new');
SELECT dtm_msg_submit('[{"action": "topic://order.paid", "payload": {"order": 4}}]', 'frozen', delay => '300 ms');
SELECT refused($$ SELECT dtm_msg_submit('[{"action": "topic://order.paid", "payload": {"order": 5}}]', 'frozen', delay => '300 ms') $$);
SELECT refused($$ SELECT dtm_msg_submit('[{"action": "http://127.0.0.1:9/new", "payload": {"order": 4}}]', 'frozen', delay => '300 ms') $$);
SELECT refused($$ SELECT dtm_msg_submit('[{"action": "topic://other", "payload": {"order": 4}}]', 'frozen', delay => '300 ms') $$);
SELECT count(*), calls() FROM dtm.transactions WHERE gid = 'frozen';

--
-- What is refused
--
SELECT refused($$ SELECT dtm_msg_submit('[{"action": "topic://nobody"}]') $$);
SELECT refused($$ SELECT dtm_msg_submit('[{"action": ""}, {"action": "topic://nobody"}]', 'nobody') $$);
SELECT refused($$ SELECT dtm_msg_prepare('[{"action": "topic://nobody"}]', 'http://127.0.0.1:9/q') $$);
SELECT refused($$ SELECT dtm_msg_submit('[{"action": "topic://Order.Paid"}]') $$);
SELECT refused($$ SELECT dtm_msg_submit('[{"action": "topic://"}]') $$);
SELECT refused($$ SELECT dtm_msg_submit('[{"action": "topic://a b"}]') $$);
SELECT refused($$ SELECT dtm_saga_submit('[{"action": "topic://order.paid"}]') $$);
SELECT refused($$ SELECT dtm_topic_subscribe(NULL, 'http://127.0.0.1:9/') $$);
SELECT refused($$ SELECT dtm_topic_subscribe('', 'http://127.0.0.1:9/') $$);
SELECT refused($$ SELECT dtm_topic_subscribe('a b', 'http://127.0.0.1:9/') $$);
SELECT refused($$ SELECT dtm_topic_subscribe(repeat('x', 129), 'http://127.0.0.1:9/') $$);
SELECT refused($$ SELECT dtm_topic_subscribe('a', NULL) $$);
SELECT refused($$ SELECT dtm_topic_subscribe('a', '') $$);
SELECT refused($$ SELECT dtm_topic_subscribe('a', 'nothing') $$);
SELECT refused($$ SELECT dtm_topic_subscribe('a', 'http://') $$);
SELECT refused($$ SELECT dtm_topic_subscribe('a', 'topic://b') $$);
SELECT refused($$ SELECT dtm_topic_subscribe('a', 'http://169.254.169.254/') $$);
SELECT refused($$ SELECT dtm_topic_subscribe('a', 'sql:note') $$);
SELECT refused($$ SELECT dtm_topic_subscribe('a', 'sql:topics.nobody') $$);
SELECT refused($$ SELECT dtm_topic_subscribe('order.paid', 'http://127.0.0.1:9/new', 'again') $$);
SELECT refused($$ SELECT dtm_topic_unsubscribe('order.paid', 'http://127.0.0.1:9/old') $$);
SELECT refused($$ SELECT dtm_topic_unsubscribe('nobody', 'http://127.0.0.1:9/old') $$);
SELECT refused($$ SELECT dtm_topic_unsubscribe('order.paid', NULL) $$);
SELECT refused($$ SELECT dtm_topic_unsubscribe(NULL, 'http://127.0.0.1:9/old') $$);
SELECT refused($$ SELECT dtm_topic_drop(NULL) $$);
SELECT refused($$ SELECT dtm_topic_drop('nobody') $$);
-- the last subscriber leaves a topic that leads nowhere
SELECT dtm_topic_unsubscribe('order.paid', 'http://127.0.0.1:9/new');
SELECT refused($$ SELECT dtm_msg_submit('[{"action": "topic://order.paid"}]') $$);
SELECT refused($$ SELECT dtm_topic_unsubscribe('order.paid', 'http://127.0.0.1:9/new') $$);

-- changes of subscribers are counted, nothing else is
SELECT topic, version FROM dtm.topic_version ORDER BY topic;
SELECT dtm_topic_drop('order.paid');
SELECT refused($$ SELECT dtm_topic_drop('order.paid') $$);
SELECT dtm_topic_subscribe('order.paid', 'http://127.0.0.1:9/new');
SELECT topic, version, updated_at >= created_at, id = (SELECT max(id) FROM dtm.topic_version) FROM dtm.topic_version WHERE topic = 'order.paid';
SELECT dtm_topic_drop('order.paid');

--
-- Privileges: subscriptions are the owner's; whoever sends needs the right to what they lead to
--
CREATE ROLE topics_sender;
SELECT dtm_grant('topics_sender');
GRANT USAGE ON SCHEMA topics TO topics_sender;
SELECT dtm_topic_subscribe('audit', 'sql:topics.note');
REVOKE EXECUTE ON FUNCTION note(jsonb) FROM PUBLIC;
SET ROLE topics_sender;
SELECT refused($$ SELECT dtm_topic_subscribe('audit', 'http://127.0.0.1:9/') $$);
SELECT refused($$ SELECT dtm_topic_unsubscribe('audit', 'sql:topics.note') $$);
SELECT refused($$ SELECT dtm_topic_drop('audit') $$);
SELECT refused($$ INSERT INTO dtm.topic VALUES ('audit', 'http://127.0.0.1:9/') $$);
SELECT topic, url FROM dtm.topics WHERE topic = 'audit';
SELECT refused($$ SELECT dtm_msg_submit('[{"action": "topic://audit"}]') $$);
RESET ROLE;
GRANT EXECUTE ON FUNCTION note(jsonb) TO topics_sender;
GRANT INSERT ON log TO topics_sender;
GRANT EXECUTE ON FUNCTION dtm_topic_subscribe(text, text, text) TO topics_sender;
SET ROLE topics_sender;
SELECT dtm_msg_submit('[{"action": "topic://audit", "payload": {"from": "sender"}}]', 'audit');
SELECT dtm_wait('audit');
SELECT dtm_topic_subscribe('audit', 'http://127.0.0.1:9/granted');
RESET ROLE;
SELECT calls();
SELECT dtm_topic_drop('audit'), dtm_topic_drop('other');
SELECT count(*) FROM dtm.topics;
DROP OWNED BY topics_sender;
DROP ROLE topics_sender;
