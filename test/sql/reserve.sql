-- Reservations: stock in buckets, dtm_reserve and what settles it, as functions and as targets of branches.
\set VERBOSITY terse
\pset format unaligned
\pset tuples_only on
\pset null (null)
SET client_min_messages = warning;
CREATE SCHEMA reserve;
SET search_path = reserve, public;

-- What a statement raises, or gives.
CREATE FUNCTION outcome(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
	hint text;
	detail text;
BEGIN
	EXECUTE statement INTO answer;
	RETURN coalesce(answer, '(null)');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT, detail = PG_EXCEPTION_DETAIL;
	RETURN SQLSTATE || ': ' || SQLERRM || coalesce(' (' || nullif(regexp_replace(detail, ' at .*', ' ...'), '') || ')', '')
		|| coalesce(E'\n  hint: ' || nullif(hint, ''), '');
END $$;
-- free/reserved/sold
CREATE FUNCTION books(of text) RETURNS text LANGUAGE sql AS $$
	SELECT format('%s/%s/%s', available, reserved, sold) FROM dtm.stocks WHERE resource = of $$;
CREATE FUNCTION buckets(of text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(available::text, ' ' ORDER BY bucket) FROM dtm.stock_bucket WHERE resource = of $$;
CREATE FUNCTION held(of text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(concat_ws(' ', nullif(branch_id, ''), quantity, resource, state), ', ' ORDER BY resource COLLATE "C", branch_id COLLATE "C")
	FROM dtm.reservations WHERE gid = of $$;

-- The coordinator must not sweep in between.
CREATE FUNCTION until_paused() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	WHILE EXISTS (SELECT FROM dtm.workers WHERE worker = 0 AND state = 'running') LOOP
		PERFORM pg_sleep(0.01);
	END LOOP;
END $$;
CREATE FUNCTION until_running() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	WHILE NOT EXISTS (SELECT FROM dtm.workers WHERE worker = 0 AND state = 'running') LOOP
		PERFORM pg_sleep(0.01);
	END LOOP;
END $$;

--
-- Stock
--
SELECT dtm_stock_set('A1', 10, buckets => 4);
SELECT books('A1'), buckets('A1');
SELECT dtm_stock_add('A1', 3), buckets('A1');
SELECT dtm_stock_add('A1', -5);
SELECT buckets('A1');
SELECT dtm_stock_add('A1', 0);
SELECT outcome($$ SELECT dtm_stock_add('A1', -9) $$);
-- what is free is set; more buckets, and fewer
SELECT dtm_stock_set('A1', 7, 8);
SELECT buckets('A1');
SELECT dtm_stock_set('A1', 9, 2);
SELECT buckets('A1');
SELECT dtm_stock_set(quantity => 10, resource => 'A1');
SELECT buckets('A1');
SELECT dtm_stock_set('B 2', 0);
SELECT resource, owner = current_user::regrole AS own, available, reserved, sold, buckets FROM dtm.stocks ORDER BY 1;
BEGIN;
SELECT dtm_stock_set('gone', 1);
ROLLBACK;
SELECT outcome($$ SELECT dtm_reserve('gone') $$);

--
-- Reserving, and what settles it
--
SELECT dtm_reserve('A1', 1, 'r-1');
SELECT books('A1'), held('r-1');
SELECT expires_at - now() BETWEEN interval '14 min' AND '15 min', settled_at FROM dtm.reservations WHERE gid = 'r-1';
-- repeated: no effect, also with another time to live; another quantity is something else
SELECT dtm_reserve('A1', 1, 'r-1'), dtm_reserve('A1', gid => 'r-1', ttl => '1 day');
SELECT books('A1');
SELECT outcome($$ SELECT dtm_reserve('A1', 2, 'r-1') $$);
-- twice in one transaction is a mistake, and not repeated
SELECT outcome($$ SELECT dtm_reserve('A1', 1, 'r-2'), dtm_reserve('A1', 1, 'r-2') $$);
-- a gid of its own
SELECT length(dtm_reserve('A1')) > 10 AS new_gid;
SELECT books('A1');
-- one gid, several resources
SELECT dtm_stock_set('B 2', 5);
SELECT dtm_reserve('B 2', 2, 'r-1');
SELECT dtm_reserve_confirm('r-1', 'B 2'), held('r-1');
SELECT dtm_reserve_confirm('r-1'), dtm_reserve_confirm('r-1'), held('r-1');
SELECT books('A1'), books('B 2');
-- what is sold stays sold, unless it is a return
SELECT dtm_reserve_release('r-1'), books('B 2');
SELECT dtm_reserve_release('r-1', 'B 2', sold => true);
SELECT books('B 2'), held('r-1');
SELECT dtm_reserve_release('r-1', 'B 2', sold => true), books('B 2');
SELECT outcome($$ SELECT dtm_reserve_confirm('r-1', 'B 2') $$);
-- what was given back may be reserved again
SELECT dtm_reserve('B 2', 3, 'r-1');
SELECT held('r-1'), books('B 2');
SELECT dtm_reserve_release('r-1'), dtm_reserve_release('r-1'), books('B 2');
-- nothing to release is nothing; nothing to confirm is a mistake
SELECT dtm_reserve_release('never'), dtm_reserve_release('never', 'A1');
SELECT outcome($$ SELECT dtm_reserve_confirm('never') $$);
SELECT outcome($$ SELECT dtm_reserve_confirm('r-1', 'C3') $$);

-- sold out, with all of it or in a function that goes on
SELECT outcome($$ SELECT dtm_reserve('A1', 9, 'r-3') $$), held('r-3');
SELECT dtm_reserve('A1', 8, 'r-3');
SELECT books('A1'), outcome($$ SELECT dtm_reserve('A1', 1, 'r-4') $$), outcome($$ SELECT dtm_reserve('A1', 1, 'r-4', wait => false) $$);
SELECT dtm_reserve('A1', 8, 'r-3'), books('A1');
SELECT dtm_reserve_release('r-3'), books('A1');

-- no bucket has enough, but all together have
SELECT dtm_stock_set('A1', 8, 4);
SELECT dtm_reserve('A1', 1, 'r-5'), dtm_reserve('A1', 5, 'r-6');
SELECT buckets('A1'), books('A1');
SELECT dtm_reserve('A1', 2, 'r-7', wait => false), buckets('A1');
SELECT dtm_reserve_release('r-6') + dtm_reserve_release('r-7') + dtm_reserve_release('r-5'), books('A1');

-- every bucket is found, whichever one it begins with
SELECT dtm_stock_set('A1', 40, 16);
SELECT count(dtm_reserve('A1', 1, 'all-' || i)) FROM generate_series(1, 40) AS i;
SELECT books('A1'), outcome($$ SELECT dtm_reserve('A1') $$);
SELECT sum(dtm_reserve_release('all-' || i)) FROM generate_series(1, 40) AS i;
SELECT books('A1');

--
-- Time to live
--
SELECT dtm_pause('test');
SELECT until_paused();
SELECT dtm_stock_set('T', 3, 2);
SELECT dtm_reserve('T', 2, 't-1', ttl => '0'), dtm_reserve('T', 1, 't-2', ttl => '1 day');
-- nobody needs it: it stays reserved, and may be confirmed late
SELECT books('T');
SELECT dtm_reserve_confirm('t-1'), books('T');
SELECT dtm_reserve_release('t-1', sold => true);
SELECT dtm_reserve('T', 2, 't-3', ttl => '0');
-- somebody needs it
SELECT dtm_reserve('T', 1, 't-4'), held('t-3'), books('T');
SELECT outcome($$ SELECT dtm_reserve_confirm('t-3') $$);
SELECT dtm_reserve_release('t-3'), books('T');
SELECT outcome($$ SELECT dtm_reserve('T', 2, 't-5') $$);
-- some of several that are over
SELECT dtm_reserve_release('t-4');
SELECT dtm_reserve('T', 1, 't-6', ttl => '0'), dtm_reserve('T', 1, 't-7', ttl => '0'), outcome($$ SELECT dtm_reserve('T', 3, 't-8') $$);
SELECT held('t-6'), held('t-7'), dtm_reserve('T', 2, 't-8'), books('T');
-- what one reserves with no time to live does not count as free for oneself
SELECT dtm_reserve_release('t-8');
SELECT dtm_reserve('T', 2, 't-10', ttl => '0');
SELECT outcome($$ SELECT dtm_reserve('T', 3, 't-11', ttl => '0') $$);
SELECT dtm_reserve('T', 1, 't-11', ttl => '0'), held('t-10'), held('t-11'), books('T');
SELECT dtm_reserve_release('t-11'), dtm_reserve_release('t-10');
SELECT dtm_reserve('T', 2, 't-8');
-- the sweep
SELECT dtm_reserve_release('t-8');
SELECT dtm_reserve('T', 2, 't-9', ttl => '0');
SELECT dtm_reserve_sweep() > 0 AS swept;
SELECT held('t-9'), books('T');
SELECT dtm_resume();
SELECT until_running();

--
-- As targets of branches
--
CREATE FUNCTION tcc(quantity int, more jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('try', 'sql:dtm_reserve_try', 'confirm', 'sql:dtm_reserve_confirm', 'cancel', 'sql:dtm_reserve_cancel',
		'payload', jsonb_build_object('resource', 'A1', 'quantity', quantity) || more) $$;
CREATE FUNCTION refuse(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM dtm_fail('no money'); END $$;
CREATE FUNCTION accept(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$;
SELECT dtm_stock_set('A1', 10, 4);

SELECT dtm_tcc_submit(jsonb_build_array(tcc(2)), 'tcc-1');
SELECT dtm_wait('tcc-1'), held('tcc-1'), books('A1');
-- two branches with the same resource are two reservations
SELECT dtm_tcc_submit(jsonb_build_array(tcc(1), tcc(1)), 'tcc-2');
SELECT dtm_wait('tcc-2'), held('tcc-2'), books('A1');
SELECT dtm_tcc_submit(jsonb_build_array(tcc(7)), 'tcc-3');
SELECT dtm_wait('tcc-3'), held('tcc-3');
SELECT rollback_reason FROM dtm.transactions WHERE gid = 'tcc-3';
SELECT dtm_tcc_submit(jsonb_build_array(tcc(3), '{"try": "sql:refuse", "confirm": "", "cancel": ""}'::jsonb), 'tcc-4');
SELECT dtm_wait('tcc-4'), held('tcc-4'), books('A1');
-- reserved by the buyer's own transaction, which submits the rest: its Try finds it done
BEGIN;
SELECT dtm_reserve('A1', 3, 'tcc-5');
SELECT dtm_tcc_submit(jsonb_build_array(tcc(3), '{"try": "sql:refuse", "confirm": "", "cancel": ""}'::jsonb), 'tcc-5');
COMMIT;
SELECT dtm_wait('tcc-5'), held('tcc-5'), books('A1');
BEGIN;
SELECT dtm_reserve('A1', 3, 'tcc-6'), dtm_tcc_submit(jsonb_build_array(tcc(3)), 'tcc-6');
COMMIT;
SELECT dtm_wait('tcc-6'), held('tcc-6'), books('A1');
-- sagas: confirmed by a step of their own; the compensation takes back also that
CREATE FUNCTION saga(last_step text) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_array(dtm_step('sql:dtm_reserve_try', 'sql:dtm_reserve_cancel', '{"resource": "A1", "ttl": "1 h"}'),
		dtm_step('sql:dtm_reserve_confirm', payload => '{}'), dtm_step('sql:' || last_step)) $$;
SELECT dtm_saga_submit(saga('accept'), 'saga-1');
SELECT dtm_wait('saga-1'), held('saga-1'), books('A1');
SELECT dtm_saga_submit(saga('refuse'), 'saga-2');
SELECT dtm_wait('saga-2'), held('saga-2'), books('A1');
-- functions of one's own in a branch
CREATE FUNCTION own_try(payload jsonb) RETURNS void LANGUAGE sql AS $$ SELECT dtm_reserve('A1') $$;
SELECT dtm_saga_submit('[{"action": "sql:own_try"}]', 'saga-3');
SELECT dtm_wait('saga-3'), held('saga-3');
-- only in a branch
SELECT outcome($$ SELECT dtm_reserve_try('{"resource": "A1"}') $$);
SELECT outcome($$ SELECT dtm_reserve_confirm('{}'::jsonb) $$), outcome($$ SELECT dtm_reserve_cancel('{}') $$);

--
-- A reservation goes the way of its transaction
--
SELECT dtm_stock_set('P', 1, 1);
SELECT dtm_pause('test');
SELECT until_paused();
-- (that nothing drives it for now is what is wanted)
SET client_min_messages = error;
BEGIN;
SELECT dtm_reserve('P', 1, 'pinned', ttl => '0'), dtm_saga_submit('[{"action": "sql:accept"}]', 'pinned', start_after => '1 day');
COMMIT;
-- unfinished: it does not expire, whoever needs it
SELECT outcome($$ SELECT dtm_reserve('P', 1, 'p-2') $$), held('pinned');
SELECT dtm_reserve_sweep() > 0 AS put_off, held('pinned');
SELECT expires_at > now() FROM dtm.reservations WHERE gid = 'pinned';
-- succeeded: sold, also without a Confirm; and until that is written down, the transaction is not purged
SELECT dtm_resume();
SELECT until_running();
SELECT dtm_retry('pinned');
SELECT dtm_wait('pinned');
SELECT dtm_pause('test');
SELECT until_paused();
UPDATE dtm.reservation SET expires_at = now() WHERE gid = 'pinned';
SELECT outcome($$ SELECT dtm_reserve('P', 1, 'p-2') $$), held('pinned');
SELECT dtm_purge('0') > 0 AS purged, dtm_status('pinned'), outcome($$ SELECT dtm_status('tcc-1') $$);
SELECT dtm_reserve_sweep() > 0 AS swept, held('pinned'), books('P');
SELECT dtm_purge('0') AS purged, books('P');
-- failed: given back
SELECT dtm_stock_add('P', 1);
BEGIN;
SELECT dtm_reserve('P', 1, 'stopped', ttl => '0'), dtm_saga_submit('[{"action": "sql:accept"}]', 'stopped', start_after => '1 day');
COMMIT;
SELECT dtm_stop('stopped');
SELECT dtm_reserve('P', 1, 'p-3'), held('stopped'), books('P');

--
-- Old rows are deleted, what was sold is not forgotten
--
SELECT books('A1') AS before \gset
UPDATE dtm.reservation SET settled_at = now() - interval '8 days' WHERE resource = 'A1' AND settled_at IS NOT NULL;
SELECT dtm_reserve_sweep() > 0 AS swept;
SELECT books('A1') = :'before' AS same, count(*) FROM dtm.reservations WHERE resource = 'A1' AND state <> 'reserved';
SELECT dtm_stock_set('A1', 100, 3);
SELECT dtm_stock_set('A1', 100, 1);
SELECT sold::text = split_part(:'before', '/', 3) AS same FROM dtm.stocks WHERE resource = 'A1';
SELECT dtm_resume();
SELECT until_running();
SET client_min_messages = warning;

--
-- Dropping
--
SELECT outcome($$ SELECT dtm_stock_drop('A1') $$);
SELECT sum(dtm_reserve_release(gid)) > 0 AS released FROM dtm.reservations WHERE state = 'reserved' AND resource = 'A1';
SELECT dtm_stock_drop('A1');
SELECT books('A1'), count(*) FROM dtm.reservation WHERE resource = 'A1';
SELECT outcome($$ SELECT dtm_stock_drop('A1') $$);

--
-- What is refused
--
SELECT s, outcome('SELECT ' || s) FROM unnest(ARRAY[
	$$dtm_stock_set(NULL, 1)$$, $$dtm_stock_set('', 1)$$, $$dtm_stock_set(repeat('x', 129), 1)$$, $$dtm_stock_set('x', NULL)$$,
	$$dtm_stock_set('x', -1)$$, $$dtm_stock_set('x', 1, 0)$$, $$dtm_stock_set('x', 1, 1025)$$,
	$$dtm_stock_add(NULL, 1)$$, $$dtm_stock_add('x', 1)$$, $$dtm_stock_add('T', NULL)$$, $$dtm_stock_add('T', 9223372036854775807)$$,
	$$dtm_stock_drop(NULL)$$, $$dtm_stock_drop('x')$$,
	$$dtm_reserve(NULL)$$, $$dtm_reserve('')$$, $$dtm_reserve('x')$$, $$dtm_reserve('T', NULL)$$, $$dtm_reserve('T', 0)$$,
	$$dtm_reserve('T', -1)$$, $$dtm_reserve('T', gid => '')$$, $$dtm_reserve('T', gid => repeat('x', 129))$$,
	$$dtm_reserve('T', gid => E'a\nb')$$, $$dtm_reserve('T', ttl => '-1 s')$$, $$dtm_reserve('T', wait => NULL)$$,
	$$dtm_reserve_confirm(NULL::text)$$, $$dtm_reserve_release(NULL)$$
	]) AS s;
-- a payload that is none is no refusal: it is tried again
SELECT dtm_saga_submit('[{"action": "sql:dtm_reserve_try", "payload": {"resource": "T", "quantity": "many"}}]', 'bad-payload', retry_limit => 0);
SELECT dtm_wait('bad-payload');
SELECT regexp_replace(last_error, ' - .*', '') FROM dtm.branches WHERE gid = 'bad-payload' AND op = 'action';

--
-- Whose it is
--
CREATE ROLE regress_dtm_shop;
CREATE ROLE regress_dtm_clerk IN ROLE regress_dtm_shop;
CREATE ROLE regress_dtm_rival;
SELECT dtm_grant(r) FROM unnest('{regress_dtm_shop, regress_dtm_clerk, regress_dtm_rival}'::regrole[]) AS r;
GRANT USAGE ON SCHEMA reserve TO regress_dtm_shop, regress_dtm_clerk, regress_dtm_rival;
SET ROLE regress_dtm_shop;
SELECT dtm_stock_set('S', 5, 2);
SET ROLE regress_dtm_clerk;
SELECT dtm_reserve('S', 1, 'own-1'), books('S');
SELECT dtm_tcc_submit(jsonb_build_array(tcc(1, '{"resource": "S"}')), 'own-2');
SELECT dtm_wait('own-2'), held('own-2');
SET ROLE regress_dtm_rival;
SELECT s, outcome('SELECT ' || s) FROM unnest(ARRAY[
	$$dtm_reserve('S')$$, $$dtm_stock_set('S', 1)$$, $$dtm_stock_add('S', 1)$$, $$dtm_stock_drop('S')$$,
	$$dtm_reserve_confirm('own-1')$$, $$dtm_reserve_release('own-1')$$, $$dtm_reserve_release('own-2', 'S', true)$$,
	$$count(*) FROM dtm.stocks$$, $$count(*) FROM dtm.reservations$$, $$count(*) FROM dtm.stock_bucket$$,
	$$dtm.reserve_as('regress_dtm_shop'::regrole, 'S', 1, 'x', '', '1 h', true)$$, $$dtm.stock_give('S', 1, 0, true)$$]) AS s;
SELECT dtm_tcc_submit(jsonb_build_array(tcc(1, '{"resource": "S"}')), 'rival-1', retry_interval => '1 h', timeout_to_fail => '1 s');
SELECT dtm_wait('rival-1');
SELECT regexp_replace(last_error, ' - .*', '') FROM dtm.branches WHERE gid = 'rival-1' AND op = 'try';
-- a stranger's stock and transactions with the same gid change nothing
SELECT dtm_stock_set('R', 5, 1);
SELECT dtm_reserve('R', 2, 'own-1');
SELECT dtm_reserve('R', 1, 'own-3', ttl => '0'), dtm_saga_submit('[{"action": ""}]', 'own-3', start_after => '1 day');
SET ROLE regress_dtm_clerk;
SELECT dtm_reserve_confirm('own-1'), held('own-1');
SELECT dtm_reserve('S', 3, 'own-3', ttl => '0');
SELECT dtm_reserve('S', 3, 'own-4'), held('own-3');
SELECT dtm_reserve_sweep();
RESET ROLE;
SELECT resource, owner, available, reserved, sold FROM dtm.stocks WHERE resource = ANY ('{R,S}') ORDER BY 1;
SELECT dtm_stop('own-3');

-- operators of whoever calls are not used
CREATE SCHEMA trap;
CREATE TABLE trap.caught (who name);
GRANT USAGE ON SCHEMA trap TO PUBLIC;
GRANT INSERT ON trap.caught TO PUBLIC;
CREATE FUNCTION trap.meets(text, text) RETURNS boolean LANGUAGE sql AS $$
	INSERT INTO trap.caught VALUES (current_user);
	SELECT $1 OPERATOR(pg_catalog.=) $2;
$$;
CREATE OPERATOR trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.meets);
CREATE FUNCTION trap.exceeds(bigint, bigint) RETURNS boolean LANGUAGE sql AS $$
	INSERT INTO trap.caught VALUES (current_user);
	SELECT $1 OPERATOR(pg_catalog.>=) $2;
$$;
CREATE OPERATOR trap.>= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = trap.exceeds);
\c -
SET client_min_messages = warning;
\pset format unaligned
\pset tuples_only on
SET ROLE regress_dtm_shop;
SET search_path = trap, pg_catalog, public;
SELECT dtm_stock_set('trap', 5);
SELECT dtm_reserve('trap', 1, 'trap-1'), dtm_reserve('trap', 2, 'trap-2', ttl => '0'), dtm_reserve_confirm('trap-1'), dtm_reserve_release('trap-1');
SELECT dtm_reserve('trap', 4, 'trap-3'), dtm_reserve_sweep() >= 0, dtm_stock_add('trap', 1);
SELECT available, reserved, sold FROM dtm.stocks WHERE resource OPERATOR(pg_catalog.=) 'trap';
SELECT count(*) FROM dtm.reservations;
RESET ROLE;
SELECT DISTINCT who FROM caught;
SET search_path = public;
DROP SCHEMA trap CASCADE;

SELECT count(dtm_reserve_release(gid)) > 0 AS released FROM dtm.reservations WHERE state = 'reserved';
SELECT count(dtm_stock_drop(resource)) FROM dtm.stocks;
SELECT count(*) FROM dtm.reservation;
SELECT dtm_purge('0') > 0 AS purged;
DROP SCHEMA reserve CASCADE;
DROP OWNED BY regress_dtm_shop, regress_dtm_clerk, regress_dtm_rival;
DROP ROLE regress_dtm_shop, regress_dtm_clerk, regress_dtm_rival;
