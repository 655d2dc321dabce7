/* Watching */

CREATE FUNCTION dtm.status_name(status smallint)
RETURNS text
LANGUAGE SQL IMMUTABLE STRICT PARALLEL SAFE
RETURN (ARRAY['prepared', 'submitted', 'aborting', 'succeed', 'failed'])[status];
COMMENT ON FUNCTION dtm.status_name(smallint) IS 'text form of a stored status';

CREATE FUNCTION dtm.trans_type_name(trans_type smallint)
RETURNS text
LANGUAGE SQL IMMUTABLE STRICT PARALLEL SAFE
RETURN (ARRAY['saga', 'msg', 'tcc', 'xa', 'workflow'])[trans_type];
COMMENT ON FUNCTION dtm.trans_type_name(smallint) IS 'text form of a stored transaction type';

CREATE FUNCTION dtm.may_see(owner oid)
RETURNS boolean
LANGUAGE SQL STABLE STRICT PARALLEL SAFE
RETURN pg_catalog.pg_has_role(owner, 'USAGE') OR pg_catalog.pg_has_role('pg_monitor', 'USAGE');
COMMENT ON FUNCTION dtm.may_see(oid) IS 'may the current role see what this role submitted: its own, or all with pg_monitor';

CREATE FUNCTION dtm.spec_options(spec bytea)
RETURNS jsonb
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'dtm_sql_spec_options';
COMMENT ON FUNCTION dtm.spec_options(bytea) IS 'options of a submitted transaction; header values are not shown';

CREATE FUNCTION dtm.branch_rows(
	created_at timestamptz,
	spec bytea,
	state bytea,
	OUT branch_id text,
	OUT name text,
	OUT op text,
	OUT url text,
	OUT status text,
	OUT attempts integer,
	OUT started_at timestamptz,
	OUT finished_at timestamptz,
	OUT last_error text,
	OUT next_run_at timestamptz)
RETURNS SETOF record
LANGUAGE C STABLE PARALLEL SAFE ROWS 10
AS 'MODULE_PATHNAME', 'dtm_sql_branch_rows';
COMMENT ON FUNCTION dtm.branch_rows(timestamptz, bytea, bytea) IS 'rows of dtm.branches from the packed form';

CREATE FUNCTION dtm.worker_rows(
	OUT pid integer,
	OUT worker integer,
	OUT state text,
	OUT started_at timestamptz,
	OUT transactions_in_flight integer,
	OUT calls_in_flight integer,
	OUT calls_per_second double precision,
	OUT calls bigint,
	OUT finished bigint,
	OUT ticks bigint,
	OUT last_tick_at timestamptz,
	OUT rss_kb bigint,
	OUT last_error text,
	OUT last_error_at timestamptz)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 2
AS 'MODULE_PATHNAME', 'dtm_sql_worker_rows';
COMMENT ON FUNCTION dtm.worker_rows() IS 'rows of dtm.workers from shared memory';

CREATE FUNCTION dtm.stuck_reason(created_at timestamptz, spec bytea, state bytea)
RETURNS text
LANGUAGE C STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'dtm_sql_stuck_reason';
COMMENT ON FUNCTION dtm.stuck_reason(timestamptz, bytea, bytea) IS 'the branch that holds a transaction up, with its last error';

CREATE VIEW dtm.transactions WITH (security_barrier) AS
SELECT t.gid,
	dtm.trans_type_name(t.trans_type) AS trans_type,
	dtm.status_name(coalesce(l.status, d.status)) AS status,
	t.owner AS submitted_by,
	t.created_at,
	coalesce(l.updated_at, d.finished_at) AS updated_at,
	d.finished_at,
	CASE WHEN l.id IS NULL OR l.parked OR l.next_run_at OPERATOR(pg_catalog.=) 'infinity' THEN NULL
		WHEN l.next_run_at OPERATOR(pg_catalog.=) '-infinity' THEN pg_catalog.now()
		ELSE l.next_run_at END AS next_run_at,
	coalesce(l.attempts, d.attempts) AS attempts,
	dtm.spec_options(t.spec) AS options,
	coalesce(l.reason, d.reason) AS rollback_reason,
	d.result,
	p.gid AS waits_for
FROM dtm.trans AS t
	LEFT JOIN dtm.live AS l ON l.id OPERATOR(pg_catalog.=) t.id
	LEFT JOIN dtm.done AS d ON d.id OPERATOR(pg_catalog.=) t.id
	LEFT JOIN dtm.trans AS p ON p.id OPERATOR(pg_catalog.=) l.after_id
		AND l.next_run_at OPERATOR(pg_catalog.=) 'infinity'
WHERE dtm.may_see(t.owner);
COMMENT ON VIEW dtm.transactions IS 'distributed transactions: a role sees its own, pg_monitor sees all';

CREATE VIEW dtm.branches WITH (security_barrier) AS
SELECT t.gid,
	b.branch_id, b.name, b.op, b.url, b.status, b.attempts,
	b.started_at, b.finished_at, b.last_error,
	CASE WHEN d.id IS NULL THEN b.next_run_at END AS next_run_at
FROM dtm.trans AS t
	LEFT JOIN dtm.live AS l ON l.id OPERATOR(pg_catalog.=) t.id
	LEFT JOIN dtm.done AS d ON d.id OPERATOR(pg_catalog.=) t.id,
	LATERAL dtm.branch_rows(t.created_at, CASE WHEN t.trans_type OPERATOR(pg_catalog.<) 3::smallint THEN t.spec
		ELSE t.spec OPERATOR(pg_catalog.||) coalesce((
			SELECT pg_catalog.string_agg(r.spec, '' ORDER BY r.seq)
			FROM dtm.branch AS r WHERE r.id OPERATOR(pg_catalog.=) t.id), '') END, coalesce(l.state, d.state)) AS b
WHERE dtm.may_see(t.owner);
COMMENT ON VIEW dtm.branches IS 'one row per op of each branch, with its attempts and the reason of the last one that did not succeed';

CREATE VIEW dtm.topics AS
SELECT t.topic::text COLLATE "default" AS topic, t.url::text COLLATE "default" AS url, t.remark, t.created_at
FROM dtm.topic AS t;
COMMENT ON VIEW dtm.topics IS 'topics with their subscribers; a message to a topic goes to each, in the order of created_at';

CREATE VIEW dtm.workers AS
SELECT w.pid, w.worker, w.state, w.started_at, w.transactions_in_flight, w.calls_in_flight,
	w.calls_per_second, w.calls, w.finished, w.ticks, w.last_tick_at, w.rss_kb,
	w.last_error, w.last_error_at
FROM dtm.worker_rows() AS w;
COMMENT ON VIEW dtm.workers IS 'the coordinators and executors of this database';

CREATE VIEW dtm.statistics AS
WITH finished AS (
	SELECT f.trans_type,
		pg_catalog.count(*) FILTER (WHERE f.status OPERATOR(pg_catalog.=) 4::smallint) AS succeeded,
		pg_catalog.count(*) FILTER (WHERE f.status OPERATOR(pg_catalog.=) 5::smallint) AS failed,
		pg_catalog.percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (
			ORDER BY EXTRACT(epoch FROM f.finished_at OPERATOR(pg_catalog.-) f.created_at)::double precision) AS p,
		pg_catalog.sum(f.retries)::bigint AS retries
	FROM dtm.done AS f JOIN dtm.trans AS t ON t.id OPERATOR(pg_catalog.=) f.id
	WHERE dtm.may_see(t.owner)
	GROUP BY f.trans_type
), unfinished AS (
	SELECT t.trans_type, pg_catalog.count(*) AS in_progress
	FROM dtm.live AS l JOIN dtm.trans AS t ON t.id OPERATOR(pg_catalog.=) l.id
	WHERE dtm.may_see(t.owner)
	GROUP BY t.trans_type
)
SELECT dtm.trans_type_name(n.trans_type::smallint) AS trans_type,
	coalesce(f.succeeded, 0) OPERATOR(pg_catalog.+) coalesce(f.failed, 0) OPERATOR(pg_catalog.+) coalesce(u.in_progress, 0) AS submitted,
	coalesce(f.succeeded, 0) AS succeeded,
	coalesce(f.failed, 0) AS failed,
	coalesce(u.in_progress, 0) AS in_progress,
	f.p[1] OPERATOR(pg_catalog.*) interval '1 s' AS latency_p50,
	f.p[2] OPERATOR(pg_catalog.*) interval '1 s' AS latency_p95,
	f.p[3] OPERATOR(pg_catalog.*) interval '1 s' AS latency_p99,
	coalesce(f.retries, 0) AS branch_retries
FROM pg_catalog.generate_series(1, 5) AS n (trans_type)
	LEFT JOIN finished AS f ON f.trans_type OPERATOR(pg_catalog.=) n.trans_type
	LEFT JOIN unfinished AS u ON u.trans_type OPERATOR(pg_catalog.=) n.trans_type;
COMMENT ON VIEW dtm.statistics IS 'per transaction type, over what the retention keeps: counts, latency from submit to end, repeated branch calls';

/*
 * Messages that wait for a stuck one are counted with it, not listed: dtm_retry
 * of all that is listed here must not deliver them before their turn.
 */
CREATE VIEW dtm.stuck WITH (security_barrier) AS
SELECT t.gid,
	dtm.trans_type_name(t.trans_type) AS trans_type,
	dtm.status_name(l.status) AS status,
	t.owner AS submitted_by,
	l.updated_at AS since,
	CASE WHEN l.parked THEN NULL ELSE l.next_run_at END AS next_run_at,
	coalesce(l.problem, dtm.stuck_reason(t.created_at, CASE WHEN t.trans_type OPERATOR(pg_catalog.<) 3::smallint THEN t.spec
		ELSE t.spec OPERATOR(pg_catalog.||) coalesce((
			SELECT pg_catalog.string_agg(r.spec, '' ORDER BY r.seq)
			FROM dtm.branch AS r WHERE r.id OPERATOR(pg_catalog.=) t.id), '') END, l.state))
		OPERATOR(pg_catalog.||) coalesce('; messages waiting for it: ' OPERATOR(pg_catalog.||) b.waiting::text, '') AS reason,
	pg_catalog.format(
		CASE WHEN l.parked THEN 'SELECT dtm_retry(%1$L);  -- once the cause is mended, or: SELECT dtm_stop(%1$L, ''why'')'
			WHEN t.trans_type OPERATOR(pg_catalog.=) 4::smallint THEN 'SELECT dtm_retry(%1$L);  -- to try now; dtm_stop() would leave prepared what is prepared'
			ELSE 'SELECT dtm_retry(%1$L);  -- to try now, or: SELECT dtm_stop(%1$L, ''why'')' END,
		t.gid) AS suggestion
FROM dtm.live AS l
	JOIN dtm.trans AS t ON t.id OPERATOR(pg_catalog.=) l.id
	LEFT JOIN LATERAL (
		WITH RECURSIVE behind (id) AS (
			SELECT l.id
			UNION ALL
			SELECT f.id
			FROM behind AS p JOIN dtm.live AS f ON f.after_id OPERATOR(pg_catalog.=) p.id
				AND f.next_run_at OPERATOR(pg_catalog.=) 'infinity'
		)
		SELECT pg_catalog.count(*) OPERATOR(pg_catalog.-) 1 AS waiting FROM behind
	) AS b ON b.waiting OPERATOR(pg_catalog.>) 0
WHERE (l.parked OR l.failures OPERATOR(pg_catalog.>=) coalesce(pg_catalog.current_setting('dtm.alert_retry_limit', true)::integer, 3))
	AND dtm.may_see(t.owner)
UNION ALL
SELECT NULL, 'xa', NULL, s.role::regrole, s.since, s.next_try_at,
	CASE WHEN pg_catalog.starts_with(s.problem, '"dtmxa-')
		THEN pg_catalog.format('server %I holds a prepared transaction that nobody ends: %s', coalesce(f.srvname, s.server::text), s.problem)
		ELSE pg_catalog.format('server %I cannot be asked for what a crash may have left prepared there: %s', coalesce(f.srvname, s.server::text), s.problem)
	END,
	CASE WHEN pg_catalog.starts_with(s.problem, '"dtmxa-')
		THEN pg_catalog.format('-- on server %I: ROLLBACK PREPARED or COMMIT PREPARED, as its other branches ended', coalesce(f.srvname, s.server::text))
		ELSE pg_catalog.format('-- mend server %I or the user mapping of %s; it is asked again by itself', coalesce(f.srvname, s.server::text), s.role::regrole)
	END
FROM dtm.xa_server AS s
	LEFT JOIN pg_catalog.pg_foreign_server AS f ON f.oid OPERATOR(pg_catalog.=) s.server
WHERE s.failures OPERATOR(pg_catalog.>=) coalesce(pg_catalog.current_setting('dtm.alert_retry_limit', true)::integer, 3)
	AND dtm.may_see(s.role);
COMMENT ON VIEW dtm.stuck IS 'transactions that need a person: why, and what to type';

CREATE VIEW dtm.stocks WITH (security_barrier) AS
SELECT s.resource::text COLLATE "default" AS resource,
	s.owner,
	b.available,
	coalesce(r.reserved, 0)::bigint AS reserved,
	(b.sold OPERATOR(pg_catalog.+) coalesce(r.sold, 0))::bigint AS sold,
	s.buckets,
	s.created_at
FROM dtm.stock AS s
	JOIN (SELECT c.resource, pg_catalog.sum(c.available)::bigint AS available, pg_catalog.sum(c.sold) AS sold
		FROM dtm.stock_bucket AS c GROUP BY c.resource) AS b ON b.resource OPERATOR(pg_catalog.=) s.resource
	LEFT JOIN (SELECT n.resource, pg_catalog.sum(n.quantity) FILTER (WHERE n.state OPERATOR(pg_catalog.=) 'reserved') AS reserved,
			pg_catalog.sum(n.quantity) FILTER (WHERE n.state OPERATOR(pg_catalog.=) 'sold') AS sold
		FROM dtm.reservation AS n GROUP BY n.resource) AS r ON r.resource OPERATOR(pg_catalog.=) s.resource
WHERE dtm.may_see(s.owner);
COMMENT ON VIEW dtm.stocks IS 'resources that can be reserved: what is free, reserved and sold; a role sees its own, pg_monitor all';

CREATE VIEW dtm.reservations WITH (security_barrier) AS
SELECT r.gid::text COLLATE "default" AS gid,
	r.resource::text COLLATE "default" AS resource,
	r.branch_id::text COLLATE "default" AS branch_id,
	r.attempt,
	r.quantity,
	r.state::text COLLATE "default" AS state,
	r.expires_at,
	r.settled_at
FROM dtm.reservation AS r JOIN dtm.stock AS s ON s.resource OPERATOR(pg_catalog.=) r.resource
WHERE dtm.may_see(s.owner);
COMMENT ON VIEW dtm.reservations IS 'who has reserved what: reserved, sold, released or expired; until dtm.retention after its end';

CREATE VIEW dtm.http_tokens WITH (security_barrier) AS
SELECT k.name::text COLLATE "default" AS name, k.role, k.created_at, k.expires_at
FROM dtm.http_token AS k
WHERE dtm.may_see(k.role);
COMMENT ON VIEW dtm.http_tokens IS 'tokens of the HTTP API without their secrets; a role sees its own, pg_monitor all';
