/* -------------------------------------------------------------------------
 *
 * dtm_sql_steer.c
 *		Steering: dtm_retry, dtm_stop, dtm_purge, dtm_pause, dtm_resume.
 *
 * All of it is transactional: rows are changed by the caller's transaction,
 * and the coordinator is woken by its commit.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "dtm_compat.h"
#include "dtm_shmem.h"
#include "dtm_sql.h"
#include "dtm_wake.h"

PG_FUNCTION_INFO_V1(dtm_sql_retry);
PG_FUNCTION_INFO_V1(dtm_sql_stop);
PG_FUNCTION_INFO_V1(dtm_sql_purge);
PG_FUNCTION_INFO_V1(dtm_sql_pause);
PG_FUNCTION_INFO_V1(dtm_sql_resume);
PG_FUNCTION_INFO_V1(dtm_sql_note_installed);

/* Text argument, or the default; cut to what a reason may be. */
static char *
reason_argument(FunctionCallInfo fcinfo, int n, const char *when_null)
{
	char *reason = PG_ARGISNULL(n) ? pstrdup(when_null) : text_to_cstring(PG_GETARG_TEXT_PP(n));

	reason[pg_mbcliplen(reason, strlen(reason), DTM_MAX_ERROR_LEN)] = '\0';
	return reason;
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
 * 55000 when it succeeded; 42704, 42501.
 */
Datum
dtm_sql_stop(PG_FUNCTION_ARGS)
{
	DtmFound found;
	char *gid;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("\"gid\" must not be NULL")));
	gid = text_to_cstring(PG_GETARG_TEXT_PP(0));
	dtm_sql_find_own(gid, false, &found);

	/* it may finish between the look and the lock */
	if (!dtm_status_is_final(found.status) && !dtm_store_lock(found.id, &found))
		dtm_sql_find_own(gid, false, &found);
	if (found.status == DTM_STATUS_SUCCEED)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("transaction \"%s\" has succeeded already", gid)));
	if (found.status != DTM_STATUS_FAILED)
	{
		dtm_store_stop(&found, reason_argument(fcinfo, 1, "stopped by dtm_stop()"));
		dtm_wake_at_commit(found.id);
	}
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
