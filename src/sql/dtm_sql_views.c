/* -------------------------------------------------------------------------
 *
 * dtm_sql_views.c
 *		What the views show of the packed columns and of shared memory.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "dtm_compat.h"
#include "dtm_engine.h"
#include "dtm_shmem.h"
#include "dtm_sql.h"

PG_FUNCTION_INFO_V1(dtm_sql_spec_options);
PG_FUNCTION_INFO_V1(dtm_sql_branch_rows);
PG_FUNCTION_INFO_V1(dtm_sql_stuck_reason);
PG_FUNCTION_INFO_V1(dtm_sql_worker_rows);

#define BRANCH_COLUMNS 10
#define WORKER_COLUMNS 14

/* ---- options ---- */

static void
append_ms(StringInfo out, const char *name, int64 ms)
{
	if (ms <= 0)
		return;
	appendStringInfo(out, "%s\"%s\": \"", out->len > 1 ? ", " : "", name);
	if (ms % 1000 == 0)
		appendStringInfo(out, INT64_FORMAT " s\"", ms / 1000);
	else
		appendStringInfo(out, INT64_FORMAT " ms\"", ms);
}

static void
append_text(StringInfo out, const char *name, DtmText value)
{
	if (value.len == 0)
		return;
	appendStringInfo(out, "%s\"%s\": ", out->len > 1 ? ", " : "", name);
	escape_json(out, dtm_sql_shown(value));
}

/* Names only: values hold tokens, and pg_monitor reads this. */
static void
append_headers(StringInfo out, DtmText headers)
{
	size_t offset = 0;
	DtmText name;
	DtmText value;
	bool first = true;

	while (dtm_headers_next(headers, &offset, &name, &value))
	{
		if (first)
			appendStringInfo(out, "%s\"headers\": {", out->len > 1 ? ", " : "");
		else
			appendStringInfoString(out, ", ");
		escape_json(out, dtm_sql_shown(name));
		appendStringInfoString(out, ": \"***\"");
		first = false;
	}
	if (!first)
		appendStringInfoChar(out, '}');
}

Datum
dtm_sql_spec_options(PG_FUNCTION_ARGS)
{
	DtmTrans trans;
	StringInfoData out;

	if (!dtm_sql_try_unpack(PG_GETARG_BYTEA_PP(0), NULL, 0, &trans))
		PG_RETURN_NULL();
	initStringInfo(&out);
	appendStringInfoChar(&out, '{');
	if (trans.flags & DTM_FLAG_CONCURRENT)
		appendStringInfoString(&out, "\"concurrent\": true");
	append_ms(&out, "request_timeout", trans.request_timeout_ms);
	append_ms(&out, "retry_interval", trans.retry_interval_ms);
	if (trans.retry_limit >= 0)
		appendStringInfo(&out, "%s\"retry_limit\": %d", out.len > 1 ? ", " : "", trans.retry_limit);
	append_ms(&out, "timeout_to_fail", trans.timeout_to_fail_ms);
	append_ms(&out, trans.type == DTM_TYPE_MSG ? "delay" : "start_after", trans.start_at / 1000);
	append_headers(&out, trans.headers);
	append_text(&out, "workflow", trans.query_name);
	append_text(&out,
				trans.type == DTM_TYPE_WORKFLOW && !dtm_trans_is_resumed(&trans) ? "function"
																				 : "query_prepared",
				trans.query_url);
	appendStringInfoChar(&out, '}');
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(out.data)));
}

/* ---- branches ---- */

static Datum
text_datum(DtmText chars, bool *isnull)
{
	*isnull = chars.len == 0;
	return chars.len == 0 ? (Datum) 0 : CStringGetTextDatum(dtm_sql_shown(chars));
}

static Datum
time_datum(DtmTime time, bool *isnull)
{
	*isnull = time == 0;
	return TimestampTzGetDatum(time);
}

/* A step that waits for a time or a signal does so whatever its op's state says. */
static DtmTime
next_time(const DtmBranch *branch, DtmRole role)
{
	const DtmOpState *state = &branch->state[role];

	if (state->status != DTM_OP_PREPARED)
		return 0;
	if (branch->kind == DTM_STEP_SLEEP || branch->kind == DTM_STEP_AWAIT)
		return branch->due_at;
	return state->next_at;
}

/* op: the word for it; that of a memo is all the name it has. */
static void
put_op(ReturnSetInfo *rsinfo, const DtmBranch *branch, DtmRole role, DtmText op)
{
	const DtmOpState *state = &branch->state[role];
	DtmTime next_at = next_time(branch, role);
	Datum values[BRANCH_COLUMNS];
	bool nulls[BRANCH_COLUMNS] = {false};

	values[0] = text_datum(branch->branch_id, &nulls[0]);
	values[1] = text_datum(branch->name, &nulls[1]);
	nulls[1] = nulls[1] || dtm_branch_is_memo(branch);
	values[2] = CStringGetTextDatum(dtm_sql_shown(op));
	values[3] = CStringGetTextDatum(dtm_sql_shown(branch->url[role]));
	values[4] = CStringGetTextDatum(dtm_op_status_name((DtmOpStatus) state->status));
	values[5] = Int32GetDatum((int32) state->attempts);
	values[6] = time_datum(state->started_at, &nulls[6]);
	values[7] = time_datum(state->finished_at, &nulls[7]);
	values[8] = text_datum(state->last_error, &nulls[8]);
	values[9] = time_datum(Max(next_at, 0), &nulls[9]);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* The check-back of a msg, the function or the callback of a workflow. */
static void
put_query(ReturnSetInfo *rsinfo, const DtmTrans *trans)
{
	DtmBranch query;

	dtm_branch_init(&query);
	query.branch_id.data = "00";
	query.branch_id.len = 2;
	query.url[DTM_ROLE_FORWARD] = trans->query_url;
	query.state[DTM_ROLE_FORWARD] = trans->query;
	put_op(rsinfo, &query, DTM_ROLE_FORWARD, dtm_query_op_text(trans));
}

Datum
dtm_sql_branch_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	DtmTrans trans;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		return (Datum) 0;
	if (!dtm_sql_try_unpack(PG_GETARG_BYTEA_PP(1), PG_ARGISNULL(2) ? NULL : PG_GETARG_BYTEA_PP(2),
							PG_GETARG_TIMESTAMPTZ(0), &trans))
		return (Datum) 0;
	if (trans.query_url.len > 0)
		put_query(rsinfo, &trans);
	for (int i = 0; i < trans.n_branches; i++)
	{
		DtmBranch *branch = &trans.branches[i];

		for (int role = 0; role < DTM_ROLES; role++)
		{
			if (dtm_engine_op_exists(&trans, branch, (DtmRole) role))
				put_op(rsinfo, branch, (DtmRole) role, dtm_branch_op_text(branch, (uint8) role));
		}
	}
	return (Datum) 0;
}

/*
 * "branch 02 action http://...: 500: ... (7 failures in a row)": the op with
 * most failures in a row; NULL when none fails.
 */
Datum
dtm_sql_stuck_reason(PG_FUNCTION_ARGS)
{
	DtmTrans trans;
	DtmText branch_id = {"00", 2};
	DtmText url;
	DtmText op_name;
	const DtmOpState *worst;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		PG_RETURN_NULL();
	if (!dtm_sql_try_unpack(PG_GETARG_BYTEA_PP(1), PG_GETARG_BYTEA_PP(2), PG_GETARG_TIMESTAMPTZ(0),
							&trans))
		PG_RETURN_TEXT_P(cstring_to_text(DTM_SQL_UNREADABLE));

	/* the check-back of a msg that waits for its submit */
	worst = &trans.query;
	url = trans.query_url;
	op_name = dtm_query_op_text(&trans);
	for (int i = 0; i < trans.n_branches; i++)
	{
		for (int role = 0; role < DTM_ROLES; role++)
		{
			const DtmOpState *op = &trans.branches[i].state[role];

			if (op->status == DTM_OP_PREPARED && op->failures > worst->failures)
			{
				worst = op;
				branch_id = trans.branches[i].branch_id;
				url = trans.branches[i].url[role];
				op_name = dtm_branch_op_text(&trans.branches[i], (uint8) role);
			}
		}
	}
	if (worst->failures == 0)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("branch %.*s %s %s: %s (%u failures in a row)",
											  (int) branch_id.len, branch_id.data,
											  dtm_sql_shown(op_name), dtm_sql_shown(url),
											  dtm_sql_shown(worst->last_error), worst->failures)));
}

/* ---- workers ---- */

static void
put_coordinator(ReturnSetInfo *rsinfo, int number, DtmCoordinatorSlot *slot)
{
	static const char *const states[] = {"waiting to start", "starting", "running", "paused"};
	Datum values[WORKER_COLUMNS];
	bool nulls[WORKER_COLUMNS] = {false};
	char error[DTM_WORKER_ERROR];
	TimestampTz error_at;
	TimestampTz tick_at = (TimestampTz) pg_atomic_read_u64(&slot->last_tick_at);

	SpinLockAcquire(&slot->error_mutex);
	memcpy(error, slot->last_error, sizeof(error));
	error_at = slot->last_error_at;
	SpinLockRelease(&slot->error_mutex);

	nulls[0] = slot->pid == 0;
	values[0] = Int32GetDatum(slot->pid);
	values[1] = Int32GetDatum(number);
	values[2] = CStringGetTextDatum(states[slot->state]);
	nulls[3] = slot->started_at == 0;
	values[3] = TimestampTzGetDatum(slot->started_at);
	values[4] = Int32GetDatum((int32) pg_atomic_read_u32(&slot->in_flight));
	values[5] = Int32GetDatum((int32) pg_atomic_read_u32(&slot->calls_out));
	values[6] = Float8GetDatum((double) pg_atomic_read_u64(&slot->calls_per_1000s) / 1000.0);
	values[7] = Int64GetDatum((int64) pg_atomic_read_u64(&slot->calls));
	values[8] = Int64GetDatum((int64) pg_atomic_read_u64(&slot->finished));
	values[9] = Int64GetDatum((int64) pg_atomic_read_u64(&slot->ticks));
	nulls[10] = tick_at == 0;
	values[10] = TimestampTzGetDatum(tick_at);
	values[11] = Int64GetDatum((int64) pg_atomic_read_u64(&slot->rss_kb));
	nulls[12] = error[0] == '\0';
	values[12] = CStringGetTextDatum(error);
	nulls[13] = error_at == 0;
	values[13] = TimestampTzGetDatum(error_at);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

static void
put_executor(ReturnSetInfo *rsinfo, int number, DtmExecutorSlot *slot)
{
	Datum values[WORKER_COLUMNS] = {0};
	bool nulls[WORKER_COLUMNS];

	memset(nulls, true, sizeof(nulls));
	nulls[0] = slot->pid <= 0;
	values[0] = Int32GetDatum(slot->pid);
	nulls[1] = nulls[2] = nulls[3] = nulls[4] = nulls[5] = nulls[7] = false;
	values[1] = Int32GetDatum(number);
	values[2] = CStringGetTextDatum(slot->pid < 0    ? "executor starting"
										: slot->busy ? "executor running"
													 : "executor idle");
	values[3] = TimestampTzGetDatum(slot->since);
	values[4] = Int32GetDatum(0);
	values[5] = Int32GetDatum(slot->busy ? 1 : 0);
	values[7] = Int64GetDatum((int64) pg_atomic_read_u64(&slot->calls));
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

Datum
dtm_sql_worker_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int i;

	InitMaterializedSRF(fcinfo, 0);
	if (dtm_shared == NULL)
		return (Datum) 0;
	LWLockAcquire(dtm_shared->lock, LW_SHARED);
	i = dtm_shmem_find(MyDatabaseId);
	if (i >= 0)
	{
		DtmDatabaseSlot *db = &dtm_shared->databases[i];

		for (int k = 0; k < DTM_MAX_COORDINATORS; k++)
		{
			if (k == 0 || db->coordinators[k].state != DTM_WORKER_NONE)
				put_coordinator(rsinfo, k, &db->coordinators[k]);
		}
		for (int k = 0; k < DTM_MAX_EXECUTORS; k++)
		{
			if (db->executors[k].pid != 0)
				put_executor(rsinfo, k, &db->executors[k]);
		}
	}
	LWLockRelease(dtm_shared->lock);
	return (Datum) 0;
}
