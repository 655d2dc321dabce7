-- dtm_barrier_plain.sql: the branch barrier in plain SQL and PL/pgSQL.
--
-- For a database where the extension cannot be installed, like a managed one.  It makes the table dtm.barrier
-- and, in schema public, the functions dtm_barrier, dtm_barrier_run and dtm_barrier_query_prepared with the
-- names, arguments, results and SQLSTATEs of the extension.  Run it as the owner of the database; running it
-- again replaces the functions and keeps the rows:
--
--     psql -v ON_ERROR_STOP=1 -f dtm_barrier_plain.sql "dbname=shop"
--
-- Needs PostgreSQL 14 or newer.  Nothing is granted: an application role that receives branch calls needs
--     GRANT EXECUTE ON FUNCTION public.dtm_barrier(text), public.dtm_barrier(text, text, text, text, text),
--         public.dtm_barrier_run(text, text, text[]), public.dtm_barrier_query_prepared(text) TO shop_app;

BEGIN;

SET LOCAL client_min_messages = warning;

DO $$
BEGIN
	IF EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'dtm_pg') THEN
		RAISE EXCEPTION 'this database has the extension dtm_pg, which brings the barrier'
			USING ERRCODE = 'duplicate_object',
				  HINT = 'Use its functions; this file is for databases without it.';
	END IF;
END
$$;

CREATE SCHEMA IF NOT EXISTS dtm;

CREATE SEQUENCE IF NOT EXISTS dtm.barrier_seq AS bigint;

CREATE TABLE IF NOT EXISTS dtm.barrier
(
	id bigint NOT NULL DEFAULT pg_catalog.nextval('dtm.barrier_seq'::pg_catalog.regclass),
	trans_type character varying(45) COLLATE pg_catalog."C" NOT NULL DEFAULT '',
	gid character varying(128) COLLATE pg_catalog."C" NOT NULL DEFAULT '',
	branch_id character varying(128) COLLATE pg_catalog."C" NOT NULL DEFAULT '',
	op character varying(45) COLLATE pg_catalog."C" NOT NULL DEFAULT '',
	barrier_id character varying(45) COLLATE pg_catalog."C" NOT NULL DEFAULT '',
	reason character varying(45) COLLATE pg_catalog."C" NOT NULL DEFAULT '',
	create_time timestamp with time zone DEFAULT pg_catalog.now(),
	update_time timestamp with time zone DEFAULT pg_catalog.now(),
	CONSTRAINT barrier_pkey PRIMARY KEY (id),
	CONSTRAINT uniq_barrier UNIQUE (gid, branch_id, op, barrier_id)
)
-- Rows are inserted, never updated, and deleted in bulk.
WITH (
	autovacuum_vacuum_insert_scale_factor = 0,
	autovacuum_vacuum_insert_threshold = 100000,
	autovacuum_vacuum_scale_factor = 0.02,
	autovacuum_analyze_scale_factor = 0,
	autovacuum_analyze_threshold = 50000
);

ALTER SEQUENCE dtm.barrier_seq OWNED BY dtm.barrier.id;

COMMENT ON SCHEMA dtm IS 'Distributed transactions: the branch barrier';
COMMENT ON SEQUENCE dtm.barrier_seq IS 'Numbers the rows of dtm.barrier';
COMMENT ON TABLE dtm.barrier IS
	'Branch barrier: one row per op of a branch that has passed, committed with the business rows it protects';

-- A parameter of a raw URL or query string, decoded; NULL when it is not there or empty.
CREATE OR REPLACE FUNCTION dtm.barrier_parameter(request text, name text, size_limit int)
RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	query text := split_part(request, '#', 1);
	pair text;
	value text;
	problem text;
BEGIN
	-- A "?" behind the first "=" or "&" belongs to a value, unless the text is a URL or a path.
	IF query ~ '^(/|[^=&?]*://)' THEN
		query := CASE WHEN strpos(query, '?') > 0 THEN substr(query, strpos(query, '?') + 1) ELSE '' END;
	ELSE
		query := regexp_replace(query, '^[^=&?]*\?', '');
	END IF;
	FOREACH pair IN ARRAY string_to_array(query, '&') LOOP
		CONTINUE WHEN NOT starts_with(pair, name || '=');
		value := replace(substr(pair, length(name) + 2), '+', ' ');
		IF value ~ '%(?![0-9A-Fa-f]{2})' THEN
			problem := 'with a malformed "%" escape';
		ELSIF value ~* '%([01]|7f)|[\x01-\x1f\x7f]' THEN
			problem := 'with a control character';
		ELSE
			value := (
				SELECT convert_from(string_agg(
						   CASE WHEN m[1] IS NULL THEN convert_to(m[2], 'UTF8') ELSE decode(m[1], 'hex') END,
						   ''::bytea ORDER BY n), 'UTF8')
				  FROM regexp_matches(value, '%(..)|([^%]+)', 'g') WITH ORDINALITY AS r(m, n));
			IF octet_length(value) > size_limit THEN
				problem := 'that is too long';
			END IF;
		END IF;
		IF problem IS NOT NULL THEN
			RAISE EXCEPTION 'request has a "%" %', name, problem USING ERRCODE = 'invalid_parameter_value';
		END IF;
		RETURN value;
	END LOOP;
	RETURN NULL;
END
$$;

COMMENT ON FUNCTION dtm.barrier_parameter(text, text, int) IS
	'A decoded parameter of a raw URL or query string, NULL when it is not there';

-- The four parameters of a request, all there.
CREATE OR REPLACE FUNCTION dtm.barrier_request(request text,
	OUT trans_type text, OUT gid text, OUT branch_id text, OUT op text)
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	missing text;
BEGIN
	IF request IS NULL THEN
		RAISE EXCEPTION '"request" must not be NULL' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	trans_type := dtm.barrier_parameter(request, 'trans_type', 45);
	gid := dtm.barrier_parameter(request, 'gid', 128);
	branch_id := dtm.barrier_parameter(request, 'branch_id', 128);
	-- "branch_type" is the name that older clients use.
	op := coalesce(dtm.barrier_parameter(request, 'op', 45),
				   dtm.barrier_parameter(request, 'branch_type', 45));
	missing := CASE WHEN trans_type IS NULL THEN 'trans_type' WHEN gid IS NULL THEN 'gid'
					WHEN branch_id IS NULL THEN 'branch_id' WHEN op IS NULL THEN 'op' END;
	IF missing IS NOT NULL THEN
		RAISE EXCEPTION 'request has no "%"', missing
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Pass the URL or the query string just as the service received it, '
						 'like "gid=g1&trans_type=saga&branch_id=01&op=action".';
	END IF;
END
$$;

COMMENT ON FUNCTION dtm.barrier_request(text) IS
	'The parameters of a raw URL or query string that the barrier needs';

-- A value that its column would cut would collide with another branch's row.
CREATE OR REPLACE FUNCTION dtm.barrier_check(name text, value text, size_limit int)
RETURNS void
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF value IS NULL THEN
		RAISE EXCEPTION '"%" must not be NULL', name USING ERRCODE = 'null_value_not_allowed';
	ELSIF value = '' THEN
		RAISE EXCEPTION '"%" is empty', name USING ERRCODE = 'invalid_parameter_value';
	ELSIF octet_length(value) > size_limit THEN
		RAISE EXCEPTION '"%" is too long', name
			USING ERRCODE = 'string_data_right_truncation',
				  DETAIL = format('It has %s bytes; the limit is %s.', octet_length(value), size_limit);
	END IF;
END
$$;

COMMENT ON FUNCTION dtm.barrier_check(text, text, int) IS
	'Error unless the value is there and fits its column';

-- 01, 02, ... within the transaction.  The counts are kept in settings local to the transaction, so that a
-- rolled back savepoint takes them back; spread over 256 settings, so that a transaction may pass thousands
-- of barriers.
CREATE OR REPLACE FUNCTION dtm.barrier_next_id(gid text, branch_id text, op text)
RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	key text := jsonb_build_array(gid, branch_id, op)::text;
	setting text := 'dtm_barrier.passed_' || left(md5(key), 2);
	passed jsonb := coalesce(nullif(current_setting(setting, true), ''), '{}');
	used int := coalesce((passed ->> key)::int, 0) + 1;
BEGIN
	PERFORM set_config(setting, (passed || jsonb_build_object(key, used))::text, true);
	RETURN CASE WHEN used < 10 THEN '0' ELSE '' END || used::text;
END
$$;

COMMENT ON FUNCTION dtm.barrier_next_id(text, text, text) IS
	'Number of the next protected part of one branch op in this transaction';

CREATE OR REPLACE FUNCTION public.dtm_barrier(trans_type text, gid text, branch_id text, op text,
	barrier_id text DEFAULT NULL)
RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE CALLED ON NULL INPUT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	origin text := CASE dtm_barrier.op WHEN 'cancel' THEN 'try' WHEN 'compensate' THEN 'action'
									   WHEN 'rollback' THEN 'action' END;
	origin_rows int := 0;
	current_rows int;
BEGIN
	PERFORM dtm.barrier_check('trans_type', dtm_barrier.trans_type, 45);
	PERFORM dtm.barrier_check('gid', dtm_barrier.gid, 128);
	PERFORM dtm.barrier_check('branch_id', dtm_barrier.branch_id, 128);
	PERFORM dtm.barrier_check('op', dtm_barrier.op, 45);
	IF barrier_id IS NOT NULL THEN
		PERFORM dtm.barrier_check('barrier_id', dtm_barrier.barrier_id, 45);
	ELSIF op = 'msg' THEN
		barrier_id := '01';
	ELSE
		barrier_id := dtm.barrier_next_id(gid, branch_id, op);
	END IF;

	IF origin IS NOT NULL THEN
		INSERT INTO dtm.barrier AS b (trans_type, gid, branch_id, op, barrier_id, reason)
		VALUES (dtm_barrier.trans_type, dtm_barrier.gid, dtm_barrier.branch_id, origin,
				dtm_barrier.barrier_id, dtm_barrier.op)
		ON CONFLICT ON CONSTRAINT uniq_barrier DO NOTHING;
		GET DIAGNOSTICS origin_rows = ROW_COUNT;
	END IF;
	INSERT INTO dtm.barrier AS b (trans_type, gid, branch_id, op, barrier_id, reason)
	VALUES (dtm_barrier.trans_type, dtm_barrier.gid, dtm_barrier.branch_id, dtm_barrier.op,
			dtm_barrier.barrier_id, dtm_barrier.op)
	ON CONFLICT ON CONSTRAINT uniq_barrier DO NOTHING;
	GET DIAGNOSTICS current_rows = ROW_COUNT;

	IF op = 'msg' AND current_rows = 0 THEN
		RAISE EXCEPTION 'DUPLICATED: the local part of "%" was already committed or given up', gid
			USING ERRCODE = 'unique_violation',
				  HINT = 'Roll back; dtm_barrier_query_prepared tells which of the two it was.';
	END IF;
	-- An origin row inserted here means that there is nothing to undo.
	RETURN origin_rows = 0 AND current_rows > 0;
END
$$;

COMMENT ON FUNCTION public.dtm_barrier(text, text, text, text, text) IS
	'true: run the business SQL now, in this transaction; false: skip it and answer success';

CREATE OR REPLACE FUNCTION public.dtm_barrier(request text)
RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE CALLED ON NULL INPUT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	r record := dtm.barrier_request(request);
BEGIN
	RETURN public.dtm_barrier(r.trans_type, r.gid, r.branch_id, r.op);
END
$$;

COMMENT ON FUNCTION public.dtm_barrier(text) IS
	'The barrier for the raw URL or query string that a service received: true = run the business SQL, false = skip it';

-- Runs as the caller and under the caller's search_path, so everything of its own is qualified.
CREATE OR REPLACE FUNCTION public.dtm_barrier_run(request text, statement text,
	VARIADIC params text[] DEFAULT '{}')
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE CALLED ON NULL INPUT
AS $$
DECLARE
	types pg_catalog.regtype[];
	given pg_catalog.int4 := pg_catalog.cardinality(params);
	arguments pg_catalog.text;
	affected pg_catalog.int8;
BEGIN
	IF request IS NULL OR statement IS NULL OR params IS NULL THEN
		RAISE EXCEPTION '"%" must not be NULL',
			CASE WHEN request IS NULL THEN 'request' WHEN statement IS NULL THEN 'statement' ELSE 'params' END
			USING ERRCODE = 'null_value_not_allowed';
	ELSIF pg_catalog.btrim(statement, E' \t\r\n\f\v;') OPERATOR(pg_catalog.=) '' THEN
		RAISE EXCEPTION '"statement" is empty' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF NOT public.dtm_barrier(request) THEN
		RETURN NULL;
	END IF;
	IF given OPERATOR(pg_catalog.=) 0 THEN
		EXECUTE statement;
		GET DIAGNOSTICS affected = ROW_COUNT;
		RETURN affected;
	END IF;

	-- PREPARE finds out the types that the statement wants.
	IF EXISTS (SELECT FROM pg_catalog.pg_prepared_statements
				WHERE name OPERATOR(pg_catalog.=) 'dtm_barrier_run') THEN
		DEALLOCATE dtm_barrier_run;
	END IF;
	EXECUTE 'PREPARE dtm_barrier_run AS ' OPERATOR(pg_catalog.||) statement;
	SELECT parameter_types INTO types FROM pg_catalog.pg_prepared_statements
	 WHERE name OPERATOR(pg_catalog.=) 'dtm_barrier_run';
	DEALLOCATE dtm_barrier_run;
	IF pg_catalog.cardinality(types) OPERATOR(pg_catalog.<>) given THEN
		RAISE EXCEPTION 'statement uses % parameters, but "params" has %', pg_catalog.cardinality(types), given
			USING ERRCODE = 'invalid_parameter_value';
	END IF;

	-- USING wants the types in the text of the block, and only a setting brings the row count out of it.
	SELECT pg_catalog.string_agg(pg_catalog.format('%L::%s', p.value, p.type), ', ' ORDER BY p.n)
	  INTO arguments
	  FROM ROWS FROM (pg_catalog.unnest(params), pg_catalog.unnest(types)) WITH ORDINALITY AS p(value, type, n);
	EXECUTE pg_catalog.format('DO %L', pg_catalog.format(
		$block$
		DECLARE
			affected pg_catalog.int8;
		BEGIN
			EXECUTE %L USING %s;
			GET DIAGNOSTICS affected = ROW_COUNT;
			PERFORM pg_catalog.set_config('dtm_barrier.rows', affected::pg_catalog.text, true);
		END
		$block$, statement, arguments));
	RETURN pg_catalog.current_setting('dtm_barrier.rows')::pg_catalog.int8;
END
$$;

COMMENT ON FUNCTION public.dtm_barrier_run(text, text, text[]) IS
	'Runs one statement behind the barrier, as the calling role: rows affected, or NULL when skipped';

-- The row is inserted before it is read: an open local part is waited for, a later one is DUPLICATED.
CREATE OR REPLACE FUNCTION public.dtm_barrier_query_prepared(request text)
RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE CALLED ON NULL INPUT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	r record := dtm.barrier_request(request);
	found_reason text;
BEGIN
	IF r.op <> 'msg' THEN
		RAISE EXCEPTION 'request has "op" "%", but query_prepared is called with "msg"', r.op
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Protect the calls of a branch with dtm_barrier(request).';
	END IF;
	LOOP
		INSERT INTO dtm.barrier (trans_type, gid, branch_id, op, barrier_id, reason)
		VALUES (r.trans_type, r.gid, '00', 'msg', '01', 'rollback')
		ON CONFLICT ON CONSTRAINT uniq_barrier DO NOTHING;
		SELECT b.reason INTO found_reason FROM dtm.barrier AS b
		 WHERE b.gid = r.gid AND b.branch_id = '00' AND b.op = 'msg' AND b.barrier_id = '01';
		EXIT WHEN FOUND;
	END LOOP;
	IF found_reason NOT IN ('msg', 'rollback') THEN
		RAISE EXCEPTION 'barrier row of the local part of "%" has unknown reason "%"', r.gid, found_reason
			USING ERRCODE = 'data_corrupted';
	END IF;
	RETURN CASE found_reason WHEN 'msg' THEN 'SUCCESS' ELSE 'FAILURE' END;
END
$$;

COMMENT ON FUNCTION public.dtm_barrier_query_prepared(text) IS
	'Answer for a query_prepared URL: SUCCESS when the local part committed, else FAILURE, and then it never will';

REVOKE ALL ON FUNCTION dtm.barrier_parameter(text, text, int), dtm.barrier_request(text),
	dtm.barrier_check(text, text, int), dtm.barrier_next_id(text, text, text),
	public.dtm_barrier(text, text, text, text, text), public.dtm_barrier(text),
	public.dtm_barrier_run(text, text, text[]), public.dtm_barrier_query_prepared(text)
	FROM PUBLIC;

COMMIT;
