-- The barrier, call by call: the extension's functions and the plain ones must behave alike, so
-- barrier.sql and barrier_plain.sql both run this file.

CREATE VIEW barrier_rows AS
	SELECT gid, branch_id, op, barrier_id, reason, trans_type FROM dtm.barrier ORDER BY id;

-- SQLSTATE and message of what a statement raises
CREATE FUNCTION barrier_error(statement text, OUT code text, OUT message text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	message := 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
END
$$;

--
-- One request after the other: each op, what it inserts, and whether to run
--

-- a forward call, and its repetition
SELECT dtm_barrier('saga', 'repeat', '01', 'action');
SELECT dtm_barrier('saga', 'repeat', '01', 'action');
SELECT dtm_barrier('tcc', 'repeat-tcc', '01', 'try');
SELECT dtm_barrier('tcc', 'repeat-tcc', '01', 'try');
SELECT dtm_barrier('tcc', 'repeat-tcc', '01', 'confirm');
SELECT dtm_barrier('tcc', 'repeat-tcc', '01', 'confirm');
SELECT dtm_barrier('xa', 'repeat-xa', '01', 'commit');
SELECT dtm_barrier('xa', 'repeat-xa', '01', 'commit');

-- compensation after the forward call, and its repetition
SELECT dtm_barrier('saga', 'repeat', '01', 'compensate');
SELECT dtm_barrier('saga', 'repeat', '01', 'compensate');
SELECT * FROM barrier_rows WHERE gid = 'repeat';

-- (b) null compensation: nothing to undo; (c) hanging: the late forward call must do nothing
SELECT dtm_barrier('saga', 'null-saga', '01', 'compensate');
SELECT dtm_barrier('saga', 'null-saga', '01', 'compensate');
SELECT dtm_barrier('saga', 'null-saga', '01', 'action');
SELECT dtm_barrier('tcc', 'null-tcc', '01', 'cancel');
SELECT dtm_barrier('tcc', 'null-tcc', '01', 'try');
SELECT dtm_barrier('workflow', 'null-wf', '01', 'rollback');
SELECT dtm_barrier('workflow', 'null-wf', '01', 'action');
SELECT * FROM barrier_rows WHERE gid LIKE 'null-%';

-- another branch, another gid, another op are other rows
SELECT dtm_barrier('saga', 'null-saga', '02', 'action');
SELECT dtm_barrier('saga', 'null-saga2', '01', 'action');
SELECT dtm_barrier('saga', 'null-saga', '01', 'some step of a workflow');

-- a business error takes the row with it: the repetition runs
BEGIN;
SELECT dtm_barrier('saga', 'again', '01', 'action');
ROLLBACK;
SELECT dtm_barrier('saga', 'again', '01', 'action');

--
-- Two protected parts in one handler
--
BEGIN;
SELECT dtm_barrier('saga', 'two', '01', 'action');
SELECT dtm_barrier('saga', 'two', '01', 'action');
SELECT dtm_barrier('saga', 'two', '02', 'action');
COMMIT;
-- delivered once more: both are skipped
BEGIN;
SELECT dtm_barrier('saga', 'two', '01', 'action');
SELECT dtm_barrier('saga', 'two', '01', 'action');
COMMIT;
-- the compensation calls it twice as well
BEGIN;
SELECT dtm_barrier('saga', 'two', '01', 'compensate');
SELECT dtm_barrier('saga', 'two', '01', 'compensate');
COMMIT;
SELECT * FROM barrier_rows WHERE gid = 'two';

-- a savepoint that is rolled back does not count, at any depth; one that is released does
BEGIN;
SELECT dtm_barrier('saga', 'save', '01', 'action');
SAVEPOINT a;
SELECT dtm_barrier('saga', 'save', '01', 'action');
SAVEPOINT b;
SELECT dtm_barrier('saga', 'save', '01', 'action');
SELECT dtm_barrier('saga', 'save-b', '01', 'action');
RELEASE b;
ROLLBACK TO a;
SELECT dtm_barrier('saga', 'save', '01', 'action');
SAVEPOINT c;
SELECT dtm_barrier('saga', 'save', '01', 'action');
RELEASE c;
SELECT dtm_barrier('saga', 'save', '01', 'action');
COMMIT;
SELECT * FROM barrier_rows WHERE gid LIKE 'save%';

-- an error in a block with a handler is a savepoint too
DO $$
BEGIN
	BEGIN
		PERFORM dtm_barrier('saga', 'block', '01', 'action');
		RAISE division_by_zero;
	EXCEPTION WHEN division_by_zero THEN
		NULL;
	END;
	PERFORM dtm_barrier('saga', 'block', '01', 'action');
END
$$;
SELECT * FROM barrier_rows WHERE gid = 'block';

-- more than 99 in one transaction
SELECT count(*) FROM generate_series(1, 100) WHERE dtm_barrier('saga', 'many', '01', 'action');
SELECT min(barrier_id), max(barrier_id COLLATE "C"), max(length(barrier_id)) FROM dtm.barrier WHERE gid = 'many';

-- a barrier_id of the caller's own does not count
BEGIN;
SELECT dtm_barrier('saga', 'own', '01', 'action', 'first');
SELECT dtm_barrier('saga', 'own', '01', 'action', 'first');
SELECT dtm_barrier('saga', 'own', '01', 'action');
SELECT dtm_barrier(trans_type => 'saga', gid => 'own', branch_id => '01', op => 'action', barrier_id => '02');
COMMIT;
SELECT * FROM barrier_rows WHERE gid = 'own';

--
-- From what the service received
--
SELECT dtm_barrier('http://localhost:8081/stock/deduct?branch_id=01&gid=url&op=action&trans_type=saga');
SELECT dtm_barrier('/stock/deduct?branch_id=01&gid=url&op=action&trans_type=saga');
SELECT dtm_barrier('?trans_type=saga&gid=url&branch_id=01&op=action');
SELECT dtm_barrier('gid=url&trans_type=saga&op=action&branch_id=01');
-- decoded: percent, plus, letters of any case, beyond ASCII; the first of a key counts; a fragment does not
SELECT dtm_barrier('gid=a%20b%26c%3d%2F%3f&trans_type=saga&op=action&branch_id=01&gid=other');
SELECT dtm_barrier('a=b&x&=&gid=a+b%26c%3D/?&trans_type=saga&op=action&branch_id=01#frag&gid=z');
SELECT dtm_barrier('saga', 'a b&c=/?', '01', 'action');
SELECT dtm_barrier('gid=%C3%A9t%C3%A9&trans_type=saga&op=action&branch_id=01');
SELECT octet_length(gid), length(gid) FROM dtm.barrier WHERE gid LIKE '_t_';
-- the older name of op
SELECT dtm_barrier('gid=legacy&trans_type=tcc&branch_type=try&branch_id=01');
SELECT * FROM barrier_rows WHERE gid IN ('url', 'a b&c=/?', 'legacy');

--
-- One statement behind the barrier
--
CREATE TABLE stock (sku text PRIMARY KEY, quantity int NOT NULL CHECK (quantity >= 0), note jsonb, at timestamptz);
INSERT INTO stock VALUES ('A1', 10), ('B2', 10);
SET timezone = 'UTC';

SELECT dtm_barrier_run('gid=run&trans_type=saga&branch_id=01&op=action',
	'UPDATE stock SET quantity = quantity - 2 WHERE sku = ''A1''');
SELECT dtm_barrier_run('gid=run&trans_type=saga&branch_id=01&op=action',
	'UPDATE stock SET quantity = quantity - 2 WHERE sku = ''A1''');
-- the parameters take the types that the statement wants
SELECT dtm_barrier_run('gid=run&trans_type=saga&branch_id=02&op=action',
	'UPDATE stock SET quantity = quantity - $2, note = $3, at = $4 WHERE sku = $1',
	'A1', '3', '{"it''s": "a \\ \"quote\""}', '2026-01-02 03:04:05+02');
SELECT dtm_barrier_run('gid=run&trans_type=saga&branch_id=03&op=action',
	'UPDATE stock SET note = $1, at = $2 WHERE quantity >= $3 AND quantity >= $3', NULL, 'epoch', '1');
SELECT dtm_barrier_run('gid=run&trans_type=saga&branch_id=04&op=action',
	'UPDATE stock SET quantity = 0 WHERE sku = ANY ($1)', VARIADIC ARRAY['{Z9,"Y,8"}']);
SELECT dtm_barrier_run('gid=run&trans_type=saga&branch_id=05&op=action',
	'SELECT * FROM stock WHERE quantity BETWEEN $1 AND $2', '0', '100');
-- null compensation and hanging: skipped, not even parsed
SELECT dtm_barrier_run('gid=run&trans_type=saga&branch_id=06&op=compensate', 'no SQL at all');
SELECT dtm_barrier_run('gid=run&trans_type=saga&branch_id=06&op=action', 'no SQL at all');
-- the compensation of 02
SELECT dtm_barrier_run('gid=run&trans_type=saga&branch_id=02&op=compensate',
	'UPDATE stock SET quantity = quantity + $2 WHERE sku = $1', 'A1', '3');
SELECT * FROM stock ORDER BY sku;
SELECT * FROM barrier_rows WHERE gid = 'run';

--
-- The local part of a message, and the question whether it committed
--
SELECT dtm_barrier('gid=msg-1&trans_type=msg&branch_id=00&op=msg');
SELECT dtm_barrier_query_prepared('http://ap/check?gid=msg-1&trans_type=msg&branch_id=00&op=msg');
SELECT dtm_barrier_query_prepared('gid=msg-1&trans_type=msg&branch_id=00&op=msg');
-- asked first: never committed, and never will
SELECT dtm_barrier_query_prepared('gid=msg-2&trans_type=msg&branch_id=00&op=msg');
SELECT dtm_barrier_query_prepared('gid=msg-2&trans_type=msg&branch_id=00&op=msg');
SELECT * FROM barrier_rows WHERE gid LIKE 'msg-%';

--
-- Errors: their SQLSTATE, and that the message names the field
--
-- the local part a second time, also within one transaction
SELECT * FROM barrier_error($$SELECT dtm_barrier('msg', 'msg-1', '00', 'msg')$$);
SELECT * FROM barrier_error($$SELECT dtm_barrier('msg', 'msg-2', '00', 'msg')$$);
SELECT * FROM barrier_error($$SELECT dtm_barrier('msg', 'msg-3', '00', 'msg'), dtm_barrier('msg', 'msg-3', '00', 'msg')$$);

-- NULL, empty, too long; as long as they may be
SELECT e.* FROM (VALUES
	(1, $$NULL, 'g', '01', 'action'$$),
	(2, $$'saga', NULL, '01', 'action'$$),
	(3, $$'saga', 'g', NULL, 'action'$$),
	(4, $$'saga', 'g', '01', NULL$$),
	(5, $$'', 'g', '01', 'action'$$),
	(6, $$'saga', '', '01', 'action'$$),
	(7, $$'saga', 'g', '', 'action'$$),
	(8, $$'saga', 'g', '01', ''$$),
	(9, $$'saga', 'g', '01', 'action', ''$$),
	(10, $$repeat('t', 46), 'g', '01', 'action'$$),
	(11, $$'saga', repeat('g', 129), '01', 'action'$$),
	(12, $$'saga', 'g', repeat('b', 129), 'action'$$),
	(13, $$'saga', 'g', '01', repeat('o', 46)$$),
	(14, $$'saga', 'g', '01', 'action', repeat('i', 46)$$),
	(15, $$repeat('t', 45), repeat('g', 128), repeat('b', 128), repeat('o', 45), repeat('i', 45)$$)
) AS v(n, arguments), barrier_error(format('SELECT dtm_barrier(%s)', arguments)) AS e ORDER BY n;

-- requests
SELECT e.* FROM (VALUES
	(1, NULL),
	(2, ''),
	(3, 'http://localhost/gid=g&trans_type=saga&branch_id=01&op=action'),
	(4, 'gid=g&branch_id=01&op=action'),
	(5, 'trans_type=saga&branch_id=01&op=action'),
	(6, 'trans_type=saga&gid=g&op=action'),
	(7, 'trans_type=saga&gid=g&branch_id=01'),
	(8, 'trans_type=saga&gid=&branch_id=01&op=action'),
	(9, 'trans_type=saga&gid=%4&branch_id=01&op=action'),
	(10, 'trans_type=saga&gid=%zz&branch_id=01&op=action'),
	(11, 'trans_type=saga&gid=a%00b&branch_id=01&op=action'),
	(12, 'trans_type=saga&gid=a%0Ab&branch_id=01&op=action'),
	(13, 'trans_type=saga&branch_id=01&op=action&gid=' || repeat('g', 129)),
	(14, 'trans_type=saga&branch_id=01&op=action&gid=' || repeat('%C3%A9', 65))
) AS v(n, request), barrier_error(format('SELECT dtm_barrier(%L)', request)) AS e ORDER BY n;
SELECT code FROM barrier_error($$SELECT dtm_barrier('trans_type=saga&gid=%C3&branch_id=01&op=action')$$);

-- run: what it is given
SELECT * FROM barrier_error($$SELECT dtm_barrier_run(NULL, 'SELECT 1')$$);
SELECT * FROM barrier_error(
	$$SELECT dtm_barrier_run('gid=e&trans_type=saga&branch_id=01&op=action', 'SELECT 1', VARIADIC NULL)$$);
SELECT * FROM barrier_error(
	$$SELECT dtm_barrier_run('gid=e&trans_type=saga&branch_id=01', 'SELECT 1')$$);
-- run: errors of the statement
SELECT e.code, rest FROM (VALUES
	(1, $$NULL$$),
	(2, $$E' ;\n'$$),
	(3, $$'SELEC 1'$$),
	(4, $$'SELECT * FROM nowhere'$$),
	(5, $$'UPDATE stock SET quantity = -1'$$),
	(6, $$'UPDATE stock SET quantity = $1', 'many'$$),
	(7, $$'UPDATE stock SET quantity = $1', '1', '2'$$),
	(8, $$'UPDATE stock SET quantity = $1 WHERE sku = $2', '1'$$),
	(9, $$'UPDATE stock SET quantity = 1 WHERE $1 IS NULL', '1'$$),
	(10, $$'COMMIT'$$),
	(11, $$'COPY stock TO STDOUT'$$)
) AS v(n, rest), barrier_error(format(
	$$SELECT dtm_barrier_run('gid=e&trans_type=saga&branch_id=01&op=action', %s)$$, rest)) AS e ORDER BY n;

-- query_prepared
SELECT * FROM barrier_error($$SELECT dtm_barrier_query_prepared(NULL)$$);
SELECT * FROM barrier_error($$SELECT dtm_barrier_query_prepared('gid=e&trans_type=msg&branch_id=00')$$);
SELECT * FROM barrier_error($$SELECT dtm_barrier_query_prepared('gid=e&trans_type=saga&branch_id=01&op=action')$$);

-- a transaction that may not write
BEGIN READ ONLY;
SELECT * FROM barrier_error($$SELECT dtm_barrier('saga', 'g', '01', 'action')$$);
ROLLBACK;
-- none of them left anything
SELECT * FROM barrier_rows WHERE gid IN ('g', 'e', 'msg-3');

--
-- A role without any privilege on the table: only the functions
--
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_dtm_service;
RESET client_min_messages;
CREATE ROLE regress_dtm_service;
GRANT EXECUTE ON FUNCTION dtm_barrier(text), dtm_barrier(text, text, text, text, text),
	dtm_barrier_run(text, text, text[]), dtm_barrier_query_prepared(text) TO regress_dtm_service;
CREATE TABLE service_stock (quantity int);
INSERT INTO service_stock VALUES (5);
GRANT SELECT, UPDATE ON service_stock TO regress_dtm_service;
SET ROLE regress_dtm_service;
SELECT dtm_barrier('saga', 'role', '01', 'action'), current_user;
SELECT dtm_barrier('gid=role&trans_type=saga&branch_id=01&op=compensate'), current_user;
SELECT dtm_barrier_query_prepared('gid=role&trans_type=msg&branch_id=00&op=msg'), current_user;
SELECT dtm_barrier_run('gid=role&trans_type=saga&branch_id=02&op=action',
	'UPDATE service_stock SET quantity = quantity - $1', '1');
-- the statement runs as the caller, not as the table's owner
SELECT code FROM barrier_error(
	$$SELECT dtm_barrier_run('gid=role&trans_type=saga&branch_id=03&op=action', 'DELETE FROM service_stock')$$);
SELECT code FROM barrier_error(
	$$SELECT dtm_barrier_run('gid=role&trans_type=saga&branch_id=03&op=action', 'DELETE FROM dtm.barrier')$$);
SELECT code FROM barrier_error($$SELECT FROM dtm.barrier$$);
-- and the role is itself again after an error
SELECT code FROM barrier_error($$SELECT dtm_barrier('msg', 'role', '00', 'msg')$$);
SELECT current_user;
-- nobody calls them without a grant
RESET ROLE;
REVOKE ALL ON FUNCTION dtm_barrier(text), dtm_barrier(text, text, text, text, text),
	dtm_barrier_run(text, text, text[]), dtm_barrier_query_prepared(text) FROM regress_dtm_service;
SET ROLE regress_dtm_service;
SELECT * FROM barrier_error($$SELECT dtm_barrier('saga', 'role', '04', 'action')$$);
SELECT * FROM barrier_error($$SELECT dtm_barrier('gid=role&trans_type=saga&branch_id=04&op=action')$$);
SELECT * FROM barrier_error($$SELECT dtm_barrier_run('gid=role&trans_type=saga&branch_id=04&op=action', 'SELECT 1')$$);
SELECT * FROM barrier_error($$SELECT dtm_barrier_query_prepared('gid=role&trans_type=msg&branch_id=00&op=msg')$$);
RESET ROLE;
SELECT * FROM barrier_rows WHERE gid = 'role';

--
-- The insert that DTM's SDKs do for PostgreSQL finds its columns and its constraint
--
INSERT INTO dtm.barrier (trans_type, gid, branch_id, op, barrier_id, reason)
VALUES ('saga', 'repeat', '01', 'action', '01', 'action') ON CONFLICT ON CONSTRAINT uniq_barrier DO NOTHING;
INSERT INTO dtm.barrier (trans_type, gid, branch_id, op, barrier_id, reason)
VALUES ('saga', 'sdk', '01', 'action', '01', 'action') ON CONFLICT ON CONSTRAINT uniq_barrier DO NOTHING;
SELECT dtm_barrier('saga', 'sdk', '01', 'action');
SELECT count(*) FILTER (WHERE create_time IS NULL OR update_time IS NULL) AS without_time FROM dtm.barrier;

DROP TABLE stock, service_stock;
DROP FUNCTION barrier_error(text);
DROP VIEW barrier_rows;
DELETE FROM dtm.barrier;
DROP ROLE regress_dtm_service;
