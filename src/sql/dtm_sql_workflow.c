/* -------------------------------------------------------------------------
 *
 * dtm_sql_workflow.c
 *		Workflows: dtm_workflow_submit, and what their functions call:
 *		dtm_call, dtm_call_tcc, dtm_sleep, dtm_await.
 *
 * A step that is recorded gives back its answer; its arguments are looked at
 * only as far as they say that it is the same step.  One that is not is
 * checked like a step of a submit before it ends the run (dtm_workflow.c).
 *
 * Not here: dtm_signal (dtm_sql_signal.c).  Runs in backends and executors.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "dtm_executor.h"
#include "dtm_sql.h"
#include "dtm_workflow.h"

PG_FUNCTION_INFO_V1(dtm_sql_workflow_submit);
PG_FUNCTION_INFO_V1(dtm_sql_call);
PG_FUNCTION_INFO_V1(dtm_sql_call_tcc);
PG_FUNCTION_INFO_V1(dtm_sql_sleep);
PG_FUNCTION_INFO_V1(dtm_sql_await);

static char *
json_argument(FunctionCallInfo fcinfo, int n)
{
	Jsonb *value = PG_GETARG_JSONB_P(n);

	return JsonbToCString(NULL, &value->root, VARSIZE(value));
}

static DtmSpecBuilder *
begin(DtmArena *arena)
{
	DtmSpecError error;
	DtmSpecBuilder *builder = dtm_spec_begin_growing(arena, DTM_TYPE_WORKFLOW, &error);

	if (builder == NULL)
		dtm_sql_spec_error(&error);
	return builder;
}

/*
 * dtm_workflow_submit(function, data, gid, OPTIONS) - returns the gid of a
 * workflow that runs the function, as the caller, until it ends.
 *
 * 22004 function NULL; 22023, 54000 function, data, gid or option; 42883,
 * 42P13, 42501 no such function, none that can be run, or not allowed to run
 * it; 23505 gid taken by other content.
 */
Datum
dtm_sql_workflow_submit(PG_FUNCTION_ARGS)
{
	DtmArena arena = dtm_arena(CurrentMemoryContext);
	DtmSpecBuilder *builder = begin(&arena);
	text *function = dtm_sql_required(fcinfo, 0, "function");

	PreventCommandIfReadOnly("dtm_workflow_submit()");
	dtm_sql_check(builder,
				  dtm_spec_set_function(builder, VARDATA_ANY(function),
										VARSIZE_ANY_EXHDR(function)));
	if (!PG_ARGISNULL(1))
	{
		char *json = json_argument(fcinfo, 1);

		dtm_sql_check(builder, dtm_spec_set_data(builder, json, strlen(json)));
	}
	dtm_sql_take_options(fcinfo, 3, builder);
	PG_RETURN_TEXT_P(
		dtm_sql_store(builder, PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2))));
}

/* ---- steps ---- */

static const char *const call_fields[DTM_ROLES] = {"target", NULL, "compensate"};
static const char *const tcc_fields[DTM_ROLES] = {"try", "confirm", "cancel"};

static DtmSpecBuilder *
begin_step(const char *what, DtmStepKind kind, DtmArena *arena)
{
	char id[DTM_STEP_ID_LEN];
	DtmSpecBuilder *builder;

	dtm_workflow_next(what, id);
	builder = begin(arena);
	dtm_sql_check(builder, dtm_spec_branch_begin(builder, kind, id, strlen(id)));
	return builder;
}

static void
take_target(FunctionCallInfo fcinfo, int n, const char *field, DtmSpecBuilder *builder,
			DtmRole role)
{
	text *url;

	if (PG_ARGISNULL(n))
		return;
	url = PG_GETARG_TEXT_PP(n);
	dtm_sql_check(builder,
				  dtm_spec_branch_target(builder, role, field, VARDATA_ANY(url),
										 VARSIZE_ANY_EXHDR(url)));
}

static void
take_name(DtmSpecBuilder *builder, const char *field, text *name)
{
	dtm_sql_check(builder,
				  dtm_spec_branch_name(builder, field, VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name)));
}

static void
take_payload(FunctionCallInfo fcinfo, int n, DtmSpecBuilder *builder)
{
	if (!PG_ARGISNULL(n))
	{
		char *json = json_argument(fcinfo, n);

		dtm_sql_check(builder, dtm_spec_step_payload_bytes(builder, 0, json, strlen(json)));
	}
}

pg_noreturn static void raise_failure(const DtmBranch *step, const char *reason);

/* The step has failed for good: DTM01, which the function may catch. */
static void
raise_failure(const DtmBranch *step, const char *reason)
{
	/* "409: no stock", "DTM01: no stock": without the status in front */
	const char *body = strstr(reason, ": ");
	char *url = dtm_sql_shown(step->url[DTM_ROLE_FORWARD]);

	body = body == NULL ? reason : body + 2;
	ereport(ERROR,
			(errcode(DTM_ERRCODE_FAIL), errmsg("%s", body[0] == '\0' ? "failed" : body),
			 errdetail_internal("step %.*s, %s", (int) step->branch_id.len, step->branch_id.data,
								url)));
}

/*
 * The answer of the step, NULL when it has none, or else the end of the run.
 * What it names is looked up first, unless it is recorded: so a step that was
 * refused, and whose error the function caught, is refused again in a replay,
 * where the step that came after it is found in its place.
 */
static const char *
ask(DtmSpecBuilder *builder, const char *const *fields)
{
	const DtmBranch *step = dtm_spec_branch(builder);
	const char *answer = NULL;
	const char *reason = "";
	const char *packed;
	size_t packed_len;

	DtmStepFound found = dtm_workflow_find(step, &answer, &reason);

	switch (found)
	{
		case DTM_STEP_ANSWERED:
			return answer;
		case DTM_STEP_FAILED:
			raise_failure(step, reason);
		case DTM_STEP_NEW:
		case DTM_STEP_OTHER:
			break;
	}
	for (int role = 0; fields != NULL && role < DTM_ROLES; role++)
	{
		char *function;

		if (fields[role] == NULL)
			continue;
		function =
			dtm_sql_check_url("", fields[role], dtm_spec_step_url(builder, 0, (DtmRole) role));
		if (function != NULL)
			dtm_sql_check(builder,
						  dtm_spec_step_sql_name(builder, 0, (DtmRole) role, function,
												 strlen(function)));
	}
	dtm_sql_check(builder, dtm_spec_finish_branch(builder, &packed, &packed_len));
	if (found == DTM_STEP_OTHER)
		dtm_workflow_differs(step);
	dtm_workflow_suspend(step, packed, packed_len);
}

/* NULL when it is none. */
static Jsonb *
parse_json(const char *chars)
{
	MemoryContext context = CurrentMemoryContext;
	Jsonb *volatile result = NULL;

	PG_TRY();
	{
		result = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(chars)));
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();

		/* no JSON, or such that jsonb does not hold (\u0000), or too deep for it */
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_DATA_EXCEPTION &&
			ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_PROGRAM_LIMIT_EXCEEDED)
			ReThrowError(error);
	}
	PG_END_TRY();
	return result;
}

/* JSON as it is, another text as a string, nothing as {}. */
static Jsonb *
answer_jsonb(const char *answer)
{
	Jsonb *result;
	StringInfoData quoted;

	if (answer == NULL || answer[0] == '\0')
		answer = "{}";
	result = parse_json(answer);
	if (result != NULL)
		return result;
	initStringInfo(&quoted);
	escape_json(&quoted, answer);
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(quoted.data)));
}

/*
 * dtm_call(target, payload, compensate, name, headers, request_timeout,
 * retry_limit) - the answer of a durable step.
 *
 * 55000 outside of a workflow; 22004 target NULL; 22023, 0A000, 54000, 42883,
 * 42P13, 42501 about the arguments, as dtm_saga_submit; DTM01 the step has
 * failed; 57014 it is not there yet, which ends the run.
 */
Datum
dtm_sql_call(PG_FUNCTION_ARGS)
{
	DtmArena arena = dtm_arena(CurrentMemoryContext);
	DtmSpecBuilder *builder = begin_step("dtm_call()", DTM_STEP_CALL, &arena);

	(void) dtm_sql_required(fcinfo, 0, "target");
	take_target(fcinfo, 0, "target", builder, DTM_ROLE_FORWARD);
	take_payload(fcinfo, 1, builder);
	take_target(fcinfo, 2, "compensate", builder, DTM_ROLE_UNDO);
	if (!PG_ARGISNULL(3))
		take_name(builder, "name", PG_GETARG_TEXT_PP(3));
	if (!PG_ARGISNULL(4))
		dtm_sql_headers(builder, PG_GETARG_JSONB_P(4));
	if (!PG_ARGISNULL(5))
		dtm_sql_check(builder,
					  dtm_spec_set_request_timeout(builder,
												   dtm_sql_interval_ms(PG_GETARG_INTERVAL_P(5))));
	if (!PG_ARGISNULL(6))
		dtm_sql_check(builder, dtm_spec_set_retry_limit(builder, PG_GETARG_INT32(6)));
	PG_RETURN_JSONB_P(answer_jsonb(ask(builder, call_fields)));
}

/*
 * dtm_call_tcc(try, confirm, cancel, payload, name) - the answer of the Try;
 * Confirm follows when the workflow succeeds, Cancel when it fails.  Errors
 * as dtm_call; all three targets must be given, perhaps as ''.
 */
Datum
dtm_sql_call_tcc(PG_FUNCTION_ARGS)
{
	DtmArena arena = dtm_arena(CurrentMemoryContext);
	DtmSpecBuilder *builder = begin_step("dtm_call_tcc()", DTM_STEP_TCC, &arena);

	for (int role = 0; role < DTM_ROLES; role++)
	{
		(void) dtm_sql_required(fcinfo, role, tcc_fields[role]);
		take_target(fcinfo, role, tcc_fields[role], builder, (DtmRole) role);
	}
	take_payload(fcinfo, 3, builder);
	if (!PG_ARGISNULL(4))
		take_name(builder, "name", PG_GETARG_TEXT_PP(4));
	PG_RETURN_JSONB_P(answer_jsonb(ask(builder, tcc_fields)));
}

/* When an interval that begins now is over; never when it is not given. */
static DtmTime
due_after(FunctionCallInfo fcinfo, int n, const char *name)
{
	Interval *interval;

	if (PG_ARGISNULL(n))
		return DTM_TIME_NEVER;
	interval = PG_GETARG_INTERVAL_P(n);
	if (dtm_sql_interval_ms(interval) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" must not be negative", name)));
	return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
												   TimestampTzGetDatum(GetCurrentTimestamp()),
												   IntervalPGetDatum(interval)));
}

/*
 * dtm_sleep(duration) - goes on after that time.  55000, 22004, 22023, 22008.
 */
Datum
dtm_sql_sleep(PG_FUNCTION_ARGS)
{
	DtmArena arena = dtm_arena(CurrentMemoryContext);
	DtmSpecBuilder *builder = begin_step("dtm_sleep()", DTM_STEP_SLEEP, &arena);

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("\"duration\" must not be NULL")));
	dtm_spec_branch_due(builder, due_after(fcinfo, 0, "duration"));
	(void) ask(builder, NULL);
	PG_RETURN_VOID();
}

/*
 * dtm_await(event, timeout) - the payload of the signal, {} when it has none;
 * NULL after the time-out.  55000, 22004, 22023, 54000, 22008.
 */
Datum
dtm_sql_await(PG_FUNCTION_ARGS)
{
	DtmArena arena = dtm_arena(CurrentMemoryContext);
	DtmSpecBuilder *builder = begin_step("dtm_await()", DTM_STEP_AWAIT, &arena);
	const char *answer;

	dtm_sql_check_event(dtm_sql_required(fcinfo, 0, "event"));
	take_name(builder, "event", PG_GETARG_TEXT_PP(0));
	dtm_spec_branch_due(builder, due_after(fcinfo, 1, "timeout"));
	answer = ask(builder, NULL);
	if (answer == NULL)
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(answer_jsonb(answer));
}
