/* Submitting, waiting, steering */

CREATE FUNCTION dtm_gid()
RETURNS text
LANGUAGE C VOLATILE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'dtm_sql_gid';
COMMENT ON FUNCTION dtm_gid() IS 'a new unique gid that sorts by time';

CREATE FUNCTION dtm_step(
	action text,
	compensate text DEFAULT NULL,
	payload jsonb DEFAULT NULL,
	name text DEFAULT NULL,
	headers jsonb DEFAULT NULL,
	after integer[] DEFAULT NULL,
	request_timeout interval DEFAULT NULL,
	retry_limit integer DEFAULT NULL)
RETURNS jsonb
LANGUAGE SQL IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
	SELECT pg_catalog.jsonb_build_object('action', action)
		OPERATOR(pg_catalog.||) CASE WHEN compensate IS NULL THEN '{}' ELSE pg_catalog.jsonb_build_object('compensate', compensate) END
		OPERATOR(pg_catalog.||) CASE WHEN payload IS NULL THEN '{}' ELSE pg_catalog.jsonb_build_object('payload', payload) END
		OPERATOR(pg_catalog.||) CASE WHEN name IS NULL THEN '{}' ELSE pg_catalog.jsonb_build_object('name', name) END
		OPERATOR(pg_catalog.||) CASE WHEN headers IS NULL THEN '{}' ELSE pg_catalog.jsonb_build_object('headers', headers) END
		OPERATOR(pg_catalog.||) CASE WHEN after IS NULL THEN '{}' ELSE pg_catalog.jsonb_build_object('after', after) END
		OPERATOR(pg_catalog.||) CASE WHEN request_timeout IS NULL THEN '{}' ELSE pg_catalog.jsonb_build_object('request_timeout', EXTRACT(epoch FROM request_timeout)) END
		OPERATOR(pg_catalog.||) CASE WHEN retry_limit IS NULL THEN '{}' ELSE pg_catalog.jsonb_build_object('retry_limit', retry_limit) END;
END;
COMMENT ON FUNCTION dtm_step(text, text, jsonb, text, jsonb, integer[], interval, integer) IS 'one step as jsonb, for building the steps of dtm_saga_submit and dtm_msg_submit';

CREATE FUNCTION dtm_saga_submit(
	steps jsonb,
	gid text DEFAULT NULL,
	concurrent boolean DEFAULT false,
	request_timeout interval DEFAULT NULL,
	retry_interval interval DEFAULT NULL,
	retry_limit integer DEFAULT NULL,
	timeout_to_fail interval DEFAULT NULL,
	headers jsonb DEFAULT NULL,
	start_after interval DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_saga_submit';
COMMENT ON FUNCTION dtm_saga_submit(jsonb, text, boolean, interval, interval, integer, interval, jsonb, interval) IS 'submit a saga with this transaction: it starts when the transaction commits; returns its gid';

CREATE FUNCTION dtm_msg_submit(
	steps jsonb,
	gid text DEFAULT NULL,
	delay interval DEFAULT NULL,
	request_timeout interval DEFAULT NULL,
	retry_interval interval DEFAULT NULL,
	retry_limit integer DEFAULT NULL,
	timeout_to_fail interval DEFAULT NULL,
	headers jsonb DEFAULT NULL,
	start_after interval DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_msg_submit';
COMMENT ON FUNCTION dtm_msg_submit(jsonb, text, interval, interval, interval, integer, interval, jsonb, interval) IS 'submit a message with this transaction: it is delivered once the transaction has committed, until it succeeds; returns its gid';

CREATE FUNCTION dtm_msg_prepare(
	steps jsonb,
	query_prepared text,
	gid text DEFAULT NULL,
	delay interval DEFAULT NULL,
	request_timeout interval DEFAULT NULL,
	retry_interval interval DEFAULT NULL,
	retry_limit integer DEFAULT NULL,
	timeout_to_fail interval DEFAULT NULL,
	headers jsonb DEFAULT NULL,
	start_after interval DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_msg_prepare';
COMMENT ON FUNCTION dtm_msg_prepare(jsonb, text, text, interval, interval, interval, integer, interval, jsonb, interval) IS 'prepare a message whose local transaction runs elsewhere: dtm_submit(gid) follows, else query_prepared is asked after timeout_to_fail; returns its gid';

CREATE FUNCTION dtm_tcc_submit(
	branches jsonb,
	gid text DEFAULT NULL,
	concurrent boolean DEFAULT false,
	request_timeout interval DEFAULT NULL,
	retry_interval interval DEFAULT NULL,
	retry_limit integer DEFAULT NULL,
	timeout_to_fail interval DEFAULT NULL,
	headers jsonb DEFAULT NULL,
	start_after interval DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_tcc_submit';
COMMENT ON FUNCTION dtm_tcc_submit(jsonb, text, boolean, interval, interval, integer, interval, jsonb, interval) IS 'submit a tcc with this transaction: when it commits every Try is called, then every Confirm, or every Cancel; returns its gid';

CREATE FUNCTION dtm_tcc_begin(
	gid text DEFAULT NULL,
	request_timeout interval DEFAULT NULL,
	retry_interval interval DEFAULT NULL,
	retry_limit integer DEFAULT NULL,
	timeout_to_fail interval DEFAULT NULL,
	headers jsonb DEFAULT NULL,
	start_after interval DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_tcc_begin';
COMMENT ON FUNCTION dtm_tcc_begin(text, interval, interval, integer, interval, jsonb, interval) IS 'begin a tcc whose Try calls the caller makes itself: dtm_tcc_register before each, then dtm_submit or dtm_abort; returns its gid';

CREATE FUNCTION dtm_tcc_register(gid text, branch_id text, confirm text, cancel text, payload jsonb DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_tcc_register';
COMMENT ON FUNCTION dtm_tcc_register(text, text, text, text, jsonb) IS 'put a branch of a tcc on record before its Try is called; kept even if this transaction is rolled back';

CREATE FUNCTION dtm_xa_begin(
	gid text DEFAULT NULL,
	request_timeout interval DEFAULT NULL,
	retry_interval interval DEFAULT NULL,
	retry_limit integer DEFAULT NULL,
	timeout_to_fail interval DEFAULT NULL,
	headers jsonb DEFAULT NULL,
	start_after interval DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_xa_begin';
COMMENT ON FUNCTION dtm_xa_begin(text, interval, interval, integer, interval, jsonb, interval) IS 'begin an xa whose branches services prepare: dtm_xa_register before each, then dtm_submit or dtm_abort; returns its gid';

CREATE FUNCTION dtm_xa_register(gid text, branch_id text, url text)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_xa_register';
COMMENT ON FUNCTION dtm_xa_register(text, text, text) IS 'put a branch of an xa on record before its service prepares it; kept even if this transaction is rolled back';

CREATE FUNCTION dtm_submit(gid text)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_submit';
COMMENT ON FUNCTION dtm_submit(text) IS 'second phase of a prepared transaction: go on with it when this transaction commits; returns the status';

CREATE FUNCTION dtm_abort(gid text, reason text DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_abort';
COMMENT ON FUNCTION dtm_abort(text, text) IS 'give a prepared transaction up when this transaction commits: a message fails, a tcc or xa is rolled back; returns the status';

CREATE FUNCTION dtm_wait(gid text, timeout interval DEFAULT '30 s')
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_wait';
COMMENT ON FUNCTION dtm_wait(text, interval) IS 'wait until the transaction is final or the time is over; returns its status';

CREATE FUNCTION dtm_status(gid text)
RETURNS text
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_status';
COMMENT ON FUNCTION dtm_status(text) IS 'status of a transaction: prepared, submitted, aborting, succeed, failed';

CREATE FUNCTION dtm_result(gid text)
RETURNS jsonb
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_result';
COMMENT ON FUNCTION dtm_result(text) IS 'result of a finished transaction, NULL when it has none';

CREATE FUNCTION dtm_retry(gid text)
RETURNS text
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_retry';
COMMENT ON FUNCTION dtm_retry(text) IS 'try now what waits for a later time; takes effect with the commit; returns the status';

CREATE FUNCTION dtm_stop(gid text, reason text DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_stop';
COMMENT ON FUNCTION dtm_stop(text, text) IS 'force-stop: the transaction is failed and nothing more is called, no compensation either; returns the status';

CREATE FUNCTION dtm_purge(older_than interval)
RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_purge';
COMMENT ON FUNCTION dtm_purge(interval) IS 'delete own transactions that finished longer ago than this; returns how many';

CREATE FUNCTION dtm_pause(reason text DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_pause';
COMMENT ON FUNCTION dtm_pause(text) IS 'stop driving transactions in this database until dtm_resume(); submits are still stored';

CREATE FUNCTION dtm_resume()
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_resume';
COMMENT ON FUNCTION dtm_resume() IS 'drive the transactions of this database, also those that came with a restore or a clone';

CREATE FUNCTION dtm_fail(reason text DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_fail';
COMMENT ON FUNCTION dtm_fail(text) IS 'in a sql: branch: business failure, roll back (SQLSTATE DTM01)';

CREATE FUNCTION dtm_ongoing(reason text DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_ongoing';
COMMENT ON FUNCTION dtm_ongoing(text) IS 'in a sql: branch: not finished yet, ask again after the retry interval (SQLSTATE DTM02)';

CREATE FUNCTION dtm_context()
RETURNS jsonb
LANGUAGE C STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_context';
COMMENT ON FUNCTION dtm_context() IS 'in a sql: branch: {"gid", "trans_type", "branch_id", "op"} of the call; NULL elsewhere';

CREATE FUNCTION dtm_timeline(
	gid text,
	OUT at interval,
	OUT took interval,
	OUT branch_id text,
	OUT op text,
	OUT target text,
	OUT attempt integer,
	OUT outcome text,
	OUT bar text)
RETURNS SETOF record
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_timeline';
COMMENT ON FUNCTION dtm_timeline(text) IS 'each call of a transaction with its offset, duration and outcome, drawn as bars';

CREATE FUNCTION dtm_topic_subscribe(topic text, url text, remark text DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_topic_subscribe';
COMMENT ON FUNCTION dtm_topic_subscribe(text, text, text) IS 'messages to topic://<topic> that are submitted from now on go to this target, too';

CREATE FUNCTION dtm_topic_unsubscribe(topic text, url text)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_topic_unsubscribe';
COMMENT ON FUNCTION dtm_topic_unsubscribe(text, text) IS 'messages to the topic that are submitted from now on do not go to this target any more';

CREATE FUNCTION dtm_topic_drop(topic text)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_topic_drop';
COMMENT ON FUNCTION dtm_topic_drop(text) IS 'end all subscriptions of a topic; messages to it are refused from now on';
