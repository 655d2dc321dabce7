/* Workflows */

CREATE FUNCTION dtm_workflow_submit(
	function text,
	data jsonb DEFAULT NULL,
	gid text DEFAULT NULL,
	request_timeout interval DEFAULT NULL,
	retry_interval interval DEFAULT NULL,
	retry_limit integer DEFAULT NULL,
	timeout_to_fail interval DEFAULT NULL,
	headers jsonb DEFAULT NULL,
	start_after interval DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_workflow_submit';
COMMENT ON FUNCTION dtm_workflow_submit(text, jsonb, text, interval, interval, integer, interval, jsonb, interval) IS 'submit a workflow with this transaction: when it commits the function is run durably, step by step; returns its gid';

CREATE FUNCTION dtm_call(
	target text,
	payload jsonb DEFAULT NULL,
	compensate text DEFAULT NULL,
	name text DEFAULT NULL,
	headers jsonb DEFAULT NULL,
	request_timeout interval DEFAULT NULL,
	retry_limit integer DEFAULT NULL)
RETURNS jsonb
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_call';
COMMENT ON FUNCTION dtm_call(text, jsonb, text, text, jsonb, interval, integer) IS 'in the function of a workflow: one durable step; returns its answer';

CREATE FUNCTION dtm_call_tcc(try text, confirm text, cancel text, payload jsonb DEFAULT NULL, name text DEFAULT NULL)
RETURNS jsonb
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_call_tcc';
COMMENT ON FUNCTION dtm_call_tcc(text, text, text, jsonb, text) IS 'in the function of a workflow: try now, confirm when the workflow succeeds, cancel when it fails; returns the answer of the try';

CREATE FUNCTION dtm_sleep(duration interval)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_sleep';
COMMENT ON FUNCTION dtm_sleep(interval) IS 'in the function of a workflow: go on after that time, whatever restarts until then';

CREATE FUNCTION dtm_await(event text, timeout interval DEFAULT NULL)
RETURNS jsonb
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_await';
COMMENT ON FUNCTION dtm_await(text, interval) IS 'in the function of a workflow: wait for dtm_signal; returns its payload, NULL after the time-out';

CREATE FUNCTION dtm_signal(gid text, event text, payload jsonb DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dtm_sql_signal';
COMMENT ON FUNCTION dtm_signal(text, text, jsonb) IS 'tell a workflow that an event has happened when this transaction commits; kept when it does not wait for it yet';
