/* -------------------------------------------------------------------------
 *
 * dtm_sql_steer.c
 *		Steering: dtm_submit, dtm_abort, dtm_retry, dtm_stop, dtm_purge,
 *		dtm_pause, dtm_resume.
 *
 * All of it is transactional: rows are changed by the caller's transaction,
 * and the coordinator is woken by its commit.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/async.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "dtm_compat.h"
#include "dtm_engine.h"
#include "dtm_settings.h"
#include "dtm_shmem.h"
#include "dtm_sql.h"
#include "dtm_state.h"
#include "dtm_wake.h"
#include "dtm_workflow.h"

PG_FUNCTION_INFO_V1(dtm_sql_submit);
PG_FUNCTION_INFO_V1(dtm_sql_abort);
PG_FUNCTION_INFO_V1(dtm_sql_retry);
PG_FUNCTION_INFO_V1(dtm_sql_stop);
PG_FUNCTION_INFO_V1(dtm_sql_purge);
PG_FUNCTION_INFO_V1(dtm_sql_pause);
PG_FUNCTION_INFO_V1(dtm_sql_resume);
PG_FUNCTION_INFO_V1(dtm_sql_note_installed);

/* Older than any transaction, and timestamps reach that far back. */
#define MAX_PURGE_DAYS 1000000

/* Text argument, or the default; cut to what a reason may be. */
static char *
reason_argument(FunctionCallInfo fcinfo, int n, const char *when_null)
{
	char *reason = PG_ARGISNULL(n) ? pstrdup(when_null) : text_to_cstring(PG_GETARG_TEXT_PP(n));

	reason[pg_mbcliplen(reason, strlen(reason), DTM_MAX_ERROR_LEN)] = '\0';
	return reason;
}

bool
dtm_sql_lock(const char *gid, bool with_body, DtmFound *found)
{
	/* it may finish between the look and the lock */
	return dtm_status_is_final(found->status) || dtm_store_lock(found->id, found) ||
		dtm_store_find(gid, with_body, found);
}

/* The caller's transaction, with its row locked unless it is final. */
static void
lock_own(const char *gid, bool with_body, DtmFound *found)
{
	dtm_sql_find_own(gid, with_body, found);
	dtm_workflow_refuse_itself(found->id);
	if (!dtm_sql_lock(gid, with_body, found))
		dtm_sql_find_own(gid, with_body, found);
}

/* Messages behind one that is finished by our hand: due now, or one place further up. */
static void
let_followers_go(const DtmFound *found)
{
	int64 *followers;
	int n = 0;

	if (found->after != 0)
		dtm_store_move_followers(found->id, found->after);
	else
		n = dtm_store_release(&found->id, 1, GetCurrentTimestamp(), &followers);
	for (int i = 0; i < n; i++)
		dtm_wake_at_commit(followers[i]);
	dtm_chain_stopped(found->owner, found->id, found->after);
}

/* It has failed by our hand: no coordinator will say so. */
static void
store_failed(const char *gid, const DtmFound *found, const char *reason)
{
	if (found->type == DTM_TYPE_MSG)
		let_followers_go(found);
	dtm_store_stop(found, reason);
	if (dtm_notify)
		Async_Notify("dtm", psprintf("%s %s", gid, dtm_status_name(DTM_STATUS_FAILED)));
}

/* A workflow that its client runs?  found has the body. */
static bool
is_resumed(const DtmFound *found)
{
	DtmTrans trans;

	if (found->type != DTM_TYPE_WORKFLOW || dtm_status_is_final(found->status))
		return false;
	dtm_sql_unpack(found->spec, NULL, found->created_at, &trans);
	return dtm_trans_is_resumed(&trans);
}

static void
refuse(const char *gid, const DtmFound *found, DtmEventKind kind)
{
	const char *hint = NULL;

	if (kind == DTM_EVENT_SUBMIT && found->status == DTM_STATUS_PREPARED)
	{
		if (found->type == DTM_TYPE_TCC)
			hint = "It is submitted by itself once every Try has succeeded.";
		else if (found->type == DTM_TYPE_WORKFLOW)
			hint = is_resumed(found)
				? "The service that runs it tells how it has ended; dtm_retry() "
				  "asks the service to go on, dtm_stop() gives it up."
				: "It is submitted by itself when its function ends.";
	}
	if (kind == DTM_EVENT_ABORT && is_resumed(found))
		hint = "Only the service that runs it knows what is to be undone; dtm_stop() gives it up "
			   "as it is.";

	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("%s transaction \"%s\" cannot be %s: its status is \"%s\"",
					dtm_type_name(found->type), gid,
					kind == DTM_EVENT_SUBMIT ? "submitted" : "aborted",
					dtm_status_name(found->status)),
			 hint != NULL ? errhint("%s", hint) : 0));
}

/*
 * The engine's rules say what comes next, and the coordinator goes on from
 * there when we commit.
 */
static bool
steer(const DtmFound *found, const DtmEvent *event, DtmTrans *trans, char **reason)
{
	DtmArena arena = dtm_arena(CurrentMemoryContext);
	DtmRc rc;

	dtm_sql_unpack(found->spec, found->state, found->created_at, trans);
	trans->status = found->status;
	if (found->reason != NULL)
	{
		trans->reason.data = found->reason;
		trans->reason.len = (uint32_t) strlen(found->reason);
	}
	rc = dtm_engine_steer(trans, event, GetCurrentTimestamp(), &arena);
	if (rc == DTM_STATE)
		return false;
	if (rc != DTM_OK)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	*reason = trans->reason.len == 0 ? NULL : pnstrdup(trans->reason.data, trans->reason.len);
	return true;
}

bool
dtm_sql_end_found(const char *gid, DtmFound *found, const DtmEvent *event, Jsonb *result)
{
	DtmTrans trans;
	char *reason;

	if (!steer(found, event, &trans, &reason))
		return false;
	found->status = trans.status;
	dtm_store_end_trans(found, reason, result);
	if (dtm_notify)
		Async_Notify("dtm", psprintf("%s %s", gid, dtm_status_name(found->status)));
	dtm_wake_at_commit(found->id);
	return true;
}

bool
dtm_sql_steer_found(const char *gid, DtmFound *found, const DtmEvent *event)
{
	DtmTrans trans;
	char *reason;

	if (!steer(found, event, &trans, &reason))
		return false;
	if (trans.status == found->status)
		return true;
	if (trans.status == DTM_STATUS_FAILED)
		store_failed(gid, found, reason);
	else
	{
		char *state = palloc(dtm_state_bound(&trans));
		size_t len = dtm_state_pack(&trans, state);

		dtm_store_steer(found->id, trans.status, state, len, reason);
	}
	dtm_wake_at_commit(found->id);
	found->status = trans.status;
	return true;
}

/* The second phase, decided by the owner. */
static Datum
decide(FunctionCallInfo fcinfo, DtmEventKind kind, const char *reason)
{
	char *gid = dtm_sql_required_string(fcinfo, 0, "gid");
	DtmFound found;
	DtmEvent event;

	lock_own(gid, true, &found);
	memset(&event, 0, sizeof(event));
	event.kind = kind;
	if (reason != NULL)
	{
		event.reason.data = reason;
		event.reason.len = (uint32_t) strlen(reason);
	}
	if (!dtm_sql_steer_found(gid, &found, &event))
		refuse(gid, &found, kind);
	PG_RETURN_TEXT_P(cstring_to_text(dtm_status_name(found.status)));
}

void
dtm_sql_stop_found(const char *gid, DtmFound *found, const char *reason)
{
	store_failed(gid, found, reason);
	dtm_wake_at_commit(found->id);
	found->status = DTM_STATUS_FAILED;
}

/*
 * dtm_submit(gid) - the second phase of a prepared transaction.  Returns the
 * status.  No effect on one that is submitted; 55000 in any other status, and
 * for a tcc whose Try calls the coordinator runs; 22004, 42704, 42501.
 */
Datum
dtm_sql_submit(PG_FUNCTION_ARGS)
{
	return decide(fcinfo, DTM_EVENT_SUBMIT, NULL);
}

/*
 * dtm_abort(gid, reason) - gives a prepared transaction up: a msg has failed
 * at once, a tcc or xa is aborting.  Returns the status.  No effect on one
 * that is aborting; 55000 in any other status, or by the function of that
 * workflow; 22004, 42704, 42501.
 */
Datum
dtm_sql_abort(PG_FUNCTION_ARGS)
{
	return decide(fcinfo, DTM_EVENT_ABORT, PG_ARGISNULL(1) ? NULL : reason_argument(fcinfo, 1, ""));
}

/*
 * dtm_retry(gid) - what waits for a later time is due now; a parked
 * transaction is taken up again.  No effect on a finished one.  Returns the
 * status.  42704, 42501.
 */
Datum
dtm_sql_retry(PG_FUNCTION_ARGS)
{
	DtmFound found;
	char *gid = text_to_cstring(PG_GETARG_TEXT_PP(0));

	dtm_sql_find_own(gid, false, &found);
	if (!dtm_status_is_final(found.status))
	{
		if (dtm_store_mark_retry(found.id))
			dtm_wake_at_commit(found.id);
		else /* finished between the look and the update */
			dtm_sql_find_own(gid, false, &found);
	}
	PG_RETURN_TEXT_P(cstring_to_text(dtm_status_name(found.status)));
}

/*
 * dtm_stop(gid, reason) - failed, and nothing more is called, compensations
 * neither.  Returns the status.  No effect on one that has failed already;
 * 55000 when it succeeded, or by the function of that workflow; 42704, 42501.
 */
Datum
dtm_sql_stop(PG_FUNCTION_ARGS)
{
	DtmFound found;
	char *gid = dtm_sql_required_string(fcinfo, 0, "gid");

	lock_own(gid, false, &found);
	if (found.status == DTM_STATUS_SUCCEED)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("transaction \"%s\" has succeeded already", gid)));
	if (found.status != DTM_STATUS_FAILED)
		dtm_sql_stop_found(gid, &found, reason_argument(fcinfo, 1, "stopped by dtm_stop()"));
	PG_RETURN_TEXT_P(cstring_to_text(dtm_status_name(DTM_STATUS_FAILED)));
}

/*
 * dtm_purge(older_than) - deletes the caller's finished transactions (a
 * superuser's: all) with their barrier rows in this database; returns how
 * many.  22004, 22023.
 */
Datum
dtm_sql_purge(PG_FUNCTION_ARGS)
{
	Interval *older;
	TimestampTz before;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("\"older_than\" must not be NULL")));
	older = PG_GETARG_INTERVAL_P(0);
	if (dtm_sql_interval_ms(older) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"older_than\" must not be negative")));
	if (dtm_sql_interval_ms(older) > MAX_PURGE_DAYS * (int64) (SECS_PER_DAY * 1000))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"older_than\" must not be more than %d days", MAX_PURGE_DAYS)));
	before = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_mi_interval,
													 TimestampTzGetDatum(GetCurrentTimestamp()),
													 IntervalPGetDatum(older)));
	PG_RETURN_INT64(dtm_store_purge_owned(before, GetUserId(), superuser()));
}

/*
 * dtm_pause(reason) - nothing is driven in this database until dtm_resume().
 */
Datum
dtm_sql_pause(PG_FUNCTION_ARGS)
{
	dtm_store_pause(reason_argument(fcinfo, 0, "no reason given"));
	dtm_wake_at_commit(DTM_INBOX_CONTROL);
	PG_RETURN_VOID();
}

/*
 * dtm_resume() - this database, in this system, drives what is in its tables.
 */
Datum
dtm_sql_resume(PG_FUNCTION_ARGS)
{
	dtm_store_resume();
	dtm_wake_at_commit(DTM_INBOX_CONTROL);
	PG_RETURN_VOID();
}

Datum
dtm_sql_note_installed(PG_FUNCTION_ARGS)
{
	dtm_wake_launcher_at_commit(MyDatabaseId);
	PG_RETURN_VOID();
}
