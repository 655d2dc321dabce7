/* Privileges: nothing for PUBLIC, dtm_grant() gives an application role what it needs. */

CREATE FUNCTION dtm_grant(role regrole)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	object record;
BEGIN
	IF role IS NULL THEN
		RAISE EXCEPTION 'role must not be NULL' USING ERRCODE = '22004';
	END IF;
	-- a regrole may be a number, too, or "-"
	IF NOT EXISTS (SELECT FROM pg_roles WHERE oid = role) THEN
		RAISE EXCEPTION 'role "%" does not exist', role USING ERRCODE = '42704';
	END IF;
	EXECUTE format('GRANT USAGE ON SCHEMA dtm TO %s', role);
	EXECUTE format('GRANT USAGE ON SCHEMA @extschema@ TO %s', role);
	EXECUTE format('GRANT SELECT ON dtm.transactions, dtm.branches, dtm.topics, dtm.workers, dtm.statistics, dtm.stuck, dtm.stocks, dtm.reservations, dtm.trans_global, dtm.trans_branch_op TO %s', role);
	FOR object IN
		SELECT p.oid::regprocedure AS signature
		FROM pg_depend AS d
			JOIN pg_proc AS p ON p.oid = d.objid
			JOIN pg_extension AS e ON e.oid = d.refobjid
		WHERE d.classid = 'pg_proc'::regclass
			AND d.refclassid = 'pg_extension'::regclass
			AND d.deptype = 'e'
			AND e.extname = 'dtm_pg'
			AND p.proname NOT IN ('dtm_grant', 'dtm_pause', 'dtm_resume', 'note_installed',
				'dtm_topic_subscribe', 'dtm_topic_unsubscribe', 'dtm_topic_drop',
				'dtm_http_token_create', 'dtm_http_token_drop')
			-- 45-reserve.sql: these believe who is said to call, or ask nobody
			AND NOT (p.pronamespace = 'dtm'::regnamespace
				AND (p.proname LIKE '%\_as' OR p.proname LIKE 'stock\_%' OR p.proname LIKE 'reservation%'))
	LOOP
		EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', object.signature, role);
	END LOOP;
END $$;
COMMENT ON FUNCTION dtm_grant(regrole) IS 'grant an application role what it needs to submit, watch and steer its own transactions';

-- Tells the launcher, when CREATE EXTENSION commits, to look at this database.
CREATE FUNCTION dtm.note_installed()
RETURNS void
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_note_installed';
COMMENT ON FUNCTION dtm.note_installed() IS 'wakes the launcher at commit; called by the extension script';
SELECT dtm.note_installed();

DO $$
DECLARE
	object record;
BEGIN
	FOR object IN
		SELECT p.oid::pg_catalog.regprocedure AS signature
		FROM pg_catalog.pg_depend AS d JOIN pg_catalog.pg_proc AS p ON p.oid OPERATOR(pg_catalog.=) d.objid
		WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
			AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
			AND d.deptype OPERATOR(pg_catalog.=) 'e'
			AND d.refobjid OPERATOR(pg_catalog.=) (SELECT e.oid FROM pg_catalog.pg_extension AS e WHERE e.extname OPERATOR(pg_catalog.=) 'dtm_pg')
	LOOP
		EXECUTE pg_catalog.format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', object.signature);
	END LOOP;
END $$;

-- pg_monitor sees all transactions, and calls nothing that changes any.
GRANT USAGE ON SCHEMA dtm TO pg_monitor;
GRANT SELECT ON dtm.transactions, dtm.branches, dtm.topics, dtm.workers, dtm.statistics, dtm.stuck, dtm.stocks, dtm.reservations, dtm.http_tokens,
	dtm.trans_global, dtm.trans_branch_op TO pg_monitor;
GRANT EXECUTE ON FUNCTION dtm.status_name(smallint), dtm.trans_type_name(smallint), dtm.may_see(oid),
	dtm.spec_options(bytea), dtm.branch_rows(timestamptz, bytea, bytea), dtm.worker_rows(),
	dtm.stuck_reason(timestamptz, bytea, bytea), dtm.trans_face(timestamptz, bytea, integer, jsonb, boolean),
	dtm.branch_face(bigint, timestamptz, bytea, bytea, boolean), dtm_status(text), dtm_result(text), dtm_timeline(text) TO pg_monitor;
