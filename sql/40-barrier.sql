-- 40-barrier.sql: the branch barrier.
--
-- The table has the columns, and the unique constraint the name, that DTM's SDKs expect, so that an SDK
-- whose barrier table is set to dtm.barrier shares it with the functions below.  The columns compare by
-- bytes: a unique index in a language's order is slower, and wrong after an upgrade of the C library.

CREATE SEQUENCE dtm.barrier_seq AS bigint;

CREATE TABLE dtm.barrier
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
-- Rows are inserted, never updated, and deleted in bulk: vacuum often enough that index-only reads stay
-- cheap and freezing comes in small portions, by number of rows and not as a share of a growing table.
WITH (
	autovacuum_vacuum_insert_scale_factor = 0,
	autovacuum_vacuum_insert_threshold = 100000,
	autovacuum_vacuum_scale_factor = 0.02,
	autovacuum_analyze_scale_factor = 0,
	autovacuum_analyze_threshold = 50000
);

ALTER SEQUENCE dtm.barrier_seq OWNED BY dtm.barrier.id;

SELECT pg_catalog.pg_extension_config_dump('dtm.barrier', '');
SELECT pg_catalog.pg_extension_config_dump('dtm.barrier_seq', '');

COMMENT ON SEQUENCE dtm.barrier_seq IS 'Numbers the rows of dtm.barrier';
COMMENT ON TABLE dtm.barrier IS
	'Branch barrier: one row per op of a branch that has passed, committed with the business rows it protects';
COMMENT ON COLUMN dtm.barrier.id IS 'Number of the row, in order of insertion';
COMMENT ON COLUMN dtm.barrier.trans_type IS 'Mode of the global transaction: saga, msg, tcc, xa, workflow';
COMMENT ON COLUMN dtm.barrier.gid IS 'Global transaction';
COMMENT ON COLUMN dtm.barrier.branch_id IS 'Branch within the global transaction';
COMMENT ON COLUMN dtm.barrier.op IS 'Op that this row stands for';
COMMENT ON COLUMN dtm.barrier.barrier_id IS '01, 02, ...: which protected part of one call';
COMMENT ON COLUMN dtm.barrier.reason IS 'Op of the call that inserted the row; differs from op after a null compensation';
COMMENT ON COLUMN dtm.barrier.create_time IS 'Start of the transaction that inserted the row';
COMMENT ON COLUMN dtm.barrier.update_time IS 'Written for DTM''s sake; rows are not updated';

CREATE FUNCTION @extschema@.dtm_barrier(trans_type text, gid text, branch_id text, op text,
	barrier_id text DEFAULT NULL)
RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE CALLED ON NULL INPUT
AS 'MODULE_PATHNAME', 'dtm_sql_barrier';

COMMENT ON FUNCTION @extschema@.dtm_barrier(text, text, text, text, text) IS
	'true: run the business SQL now, in this transaction; false: skip it and answer success';

CREATE FUNCTION @extschema@.dtm_barrier(request text)
RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE CALLED ON NULL INPUT
AS 'MODULE_PATHNAME', 'dtm_sql_barrier_request';

COMMENT ON FUNCTION @extschema@.dtm_barrier(text) IS
	'The barrier for the raw URL or query string that a service received: true = run the business SQL, false = skip it';

CREATE FUNCTION @extschema@.dtm_barrier_run(request text, statement text,
	VARIADIC params text[] DEFAULT '{}')
RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE CALLED ON NULL INPUT
AS 'MODULE_PATHNAME', 'dtm_sql_barrier_run';

COMMENT ON FUNCTION @extschema@.dtm_barrier_run(text, text, text[]) IS
	'Runs one statement behind the barrier, as the calling role: rows affected, or NULL when skipped';

CREATE FUNCTION @extschema@.dtm_barrier_query_prepared(request text)
RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE CALLED ON NULL INPUT
AS 'MODULE_PATHNAME', 'dtm_sql_barrier_query_prepared';

COMMENT ON FUNCTION @extschema@.dtm_barrier_query_prepared(text) IS
	'Answer for a query_prepared URL: SUCCESS when the local part committed, else FAILURE, and then it never will';
