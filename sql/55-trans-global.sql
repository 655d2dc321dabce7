/*
 * The face of DTM's own tables, for dashboards and tools that read them.
 * What is no member of the submitting role (pg_monitor) sees neither payloads
 * nor the values of headers.
 */

CREATE FUNCTION dtm.trans_face(
	created_at timestamptz,
	spec bytea,
	failures integer,
	result jsonb,
	mine boolean,
	OUT query_prepared text,
	OUT protocol text,
	OUT options text,
	OUT custom_data text,
	OUT next_cron_interval integer,
	OUT result_base64 text)
RETURNS record
LANGUAGE C STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'dtm_sql_trans_face';
COMMENT ON FUNCTION dtm.trans_face(timestamptz, bytea, integer, jsonb, boolean) IS 'columns of dtm.trans_global from the packed form';

CREATE FUNCTION dtm.branch_face(
	trans_id bigint,
	created_at timestamptz,
	spec bytea,
	state bytea,
	mine boolean,
	OUT id bigint,
	OUT url text,
	OUT bin_data bytea,
	OUT branch_id text,
	OUT op text,
	OUT status text,
	OUT finish_time timestamptz,
	OUT create_time timestamptz,
	OUT update_time timestamptz)
RETURNS SETOF record
LANGUAGE C STABLE PARALLEL SAFE ROWS 10
AS 'MODULE_PATHNAME', 'dtm_sql_branch_face';
COMMENT ON FUNCTION dtm.branch_face(bigint, timestamptz, bytea, bytea, boolean) IS 'rows of dtm.trans_branch_op from the packed form';

CREATE VIEW dtm.trans_global WITH (security_barrier) AS
SELECT t.id,
	t.gid,
	dtm.trans_type_name(t.trans_type) AS trans_type,
	dtm.status_name(coalesce(l.status, d.status)) AS status,
	f.query_prepared,
	f.protocol,
	t.created_at AS create_time,
	coalesce(l.updated_at, d.finished_at) AS update_time,
	CASE WHEN d.status OPERATOR(pg_catalog.=) 4::smallint THEN d.finished_at END AS finish_time,
	CASE WHEN d.status OPERATOR(pg_catalog.=) 5::smallint THEN d.finished_at END AS rollback_time,
	f.options,
	f.custom_data,
	f.next_cron_interval,
	CASE WHEN l.id IS NULL OR l.parked OR l.next_run_at OPERATOR(pg_catalog.=) 'infinity' THEN NULL
		WHEN l.next_run_at OPERATOR(pg_catalog.=) '-infinity' THEN pg_catalog.now()
		ELSE l.next_run_at END AS next_cron_time,
	t.owner::text AS owner,
	''::text AS ext_data,
	f.result_base64 AS result,
	coalesce(l.reason, d.reason, '') AS rollback_reason
FROM dtm.trans AS t
	LEFT JOIN dtm.live AS l ON l.id OPERATOR(pg_catalog.=) t.id
	LEFT JOIN dtm.done AS d ON d.id OPERATOR(pg_catalog.=) t.id,
	LATERAL dtm.trans_face(t.created_at, t.spec, l.failures, coalesce(l.result, d.result),
		pg_catalog.pg_has_role(t.owner, 'USAGE')) AS f
WHERE dtm.may_see(t.owner);
COMMENT ON VIEW dtm.trans_global IS 'distributed transactions with the columns of DTM''s table of that name; a role sees its own, pg_monitor all, without header values and inputs';

CREATE VIEW dtm.trans_branch_op WITH (security_barrier) AS
SELECT b.id,
	t.gid,
	b.url,
	NULL::text AS data,
	b.bin_data,
	b.branch_id,
	b.op,
	b.status,
	b.finish_time,
	NULL::timestamptz AS rollback_time,
	b.create_time,
	b.update_time
FROM dtm.trans AS t
	LEFT JOIN dtm.live AS l ON l.id OPERATOR(pg_catalog.=) t.id
	LEFT JOIN dtm.done AS d ON d.id OPERATOR(pg_catalog.=) t.id,
	LATERAL dtm.branch_face(t.id, t.created_at, CASE WHEN t.trans_type OPERATOR(pg_catalog.<) 3::smallint THEN t.spec
		ELSE t.spec OPERATOR(pg_catalog.||) coalesce((
			SELECT pg_catalog.string_agg(r.spec, '' ORDER BY r.seq)
			FROM dtm.branch AS r WHERE r.id OPERATOR(pg_catalog.=) t.id), '') END,
		coalesce(l.state, d.state), pg_catalog.pg_has_role(t.owner, 'USAGE')) AS b
WHERE dtm.may_see(t.owner);
COMMENT ON VIEW dtm.trans_branch_op IS 'one row per op of each branch with the columns of DTM''s table of that name; bin_data is for members of the submitting role';
