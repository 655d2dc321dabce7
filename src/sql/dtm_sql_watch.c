/* -------------------------------------------------------------------------
 *
 * dtm_sql_watch.c
 *		Looking one transaction up by its gid: dtm_wait, dtm_status,
 *		dtm_result.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "dtm_compat.h"
#include "dtm_shmem.h"
#include "dtm_sql.h"
#include "dtm_state.h"

PG_FUNCTION_INFO_V1(dtm_sql_wait);
PG_FUNCTION_INFO_V1(dtm_sql_status);
PG_FUNCTION_INFO_V1(dtm_sql_result);

#define POLL_MS 100           /* when there is no shared memory to be woken through */
#define LONGEST_SLEEP_MS 1000 /* a safety net, not how it works */

static void
find(const char *gid, bool with_body, bool see, DtmFound *found)
{
	if (!dtm_store_find(gid, with_body, found))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("transaction \"%s\" does not exist", gid)));
	if (!has_privs_of_role(GetUserId(), found->owner) &&
		!(see && has_privs_of_role(GetUserId(), ROLE_PG_MONITOR)))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for transaction \"%s\"", gid),
				 errdetail("It was submitted by another role.")));

	/* rows that came with an incomplete restore may say anything, or be missing */
	if (dtm_status_name(found->status) == NULL || dtm_type_name(found->type) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("transaction \"%s\" has no valid status or type", gid),
				 errdetail("Its rows in the tables of schema dtm are incomplete or damaged.")));
}

void
dtm_sql_find_own(const char *gid, bool with_body, DtmFound *found)
{
	find(gid, with_body, false, found);
}

void
dtm_sql_find_visible(const char *gid, bool with_body, DtmFound *found)
{
	find(gid, with_body, true, found);
}

bool
dtm_sql_try_unpack(bytea *spec, bytea *state, TimestampTz created_at, DtmTrans *trans)
{
	DtmArena arena = dtm_arena(CurrentMemoryContext);
	DtmRc rc;

	memset(trans, 0, sizeof(*trans));
	trans->created_at = created_at;
	rc = dtm_spec_unpack(VARDATA_ANY(spec), VARSIZE_ANY_EXHDR(spec), &arena, trans);
	if (rc == DTM_OK)
		rc = dtm_state_unpack(state == NULL ? NULL : VARDATA_ANY(state),
							  state == NULL ? 0 : VARSIZE_ANY_EXHDR(state), &arena, trans);
	if (rc == DTM_NOMEM)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	return rc == DTM_OK;
}

void
dtm_sql_unpack(bytea *spec, bytea *state, TimestampTz created_at, DtmTrans *trans)
{
	if (!dtm_sql_try_unpack(spec, state, created_at, trans))
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg(DTM_SQL_UNREADABLE)));
}

char *
dtm_sql_shown(DtmText chars)
{
	return dtm_store_text(chars.data, chars.len);
}

/*
 * dtm_status(gid) - 42704 when there is no such transaction, 42501 when it
 * is another role's, XX001 when its rows are damaged.
 */
Datum
dtm_sql_status(PG_FUNCTION_ARGS)
{
	DtmFound found;

	dtm_sql_find_visible(text_to_cstring(PG_GETARG_TEXT_PP(0)), false, &found);
	PG_RETURN_TEXT_P(cstring_to_text(dtm_status_name(found.status)));
}

/*
 * dtm_result(gid) - errors as dtm_status.
 */
Datum
dtm_sql_result(PG_FUNCTION_ARGS)
{
	DtmFound found;

	dtm_sql_find_visible(text_to_cstring(PG_GETARG_TEXT_PP(0)), true, &found);
	if (found.result == NULL)
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(found.result);
}

static void
end_wait(int code, Datum arg)
{
	(void) code;
	if (dtm_shared != NULL)
		dtm_shmem_wait_end(DatumGetInt64(arg));
}

/* Sleep until woken for this transaction; registered is false when nobody can wake us. */
static void
sleep_for(bool registered, TimestampTz deadline)
{
	TimestampTz now = GetCurrentTimestamp();
	long ms = registered ? LONGEST_SLEEP_MS : POLL_MS;

	if (deadline - now < ms * (int64) 1000)
		ms = (long) Max((deadline - now + 999) / 1000, 0);
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms,
					 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/*
 * dtm_wait(gid, timeout) - the status, once final or after the timeout.
 *
 * 55000 in the transaction that submitted: its rows are not visible to the
 * worker before the commit, so that waiting would never end.
 */
Datum
dtm_sql_wait(PG_FUNCTION_ARGS)
{
	char *gid;
	int64 timeout_ms;
	TimestampTz deadline;
	DtmFound found;
	volatile bool registered = false;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("\"gid\" must not be NULL")));
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("\"timeout\" must not be NULL")));
	gid = text_to_cstring(PG_GETARG_TEXT_PP(0));
	timeout_ms = dtm_sql_interval_ms(PG_GETARG_INTERVAL_P(1));
	if (timeout_ms < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"timeout\" must not be negative")));
	deadline = GetCurrentTimestamp() + Min(timeout_ms, DTM_MAX_OPTION_MS) * 1000;

	dtm_sql_find_visible(gid, false, &found);
	if (found.uncommitted)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("transaction \"%s\" was submitted by the current database transaction", gid),
				 errhint("COMMIT first: a submit takes effect with the commit.")));
	if (found.steered && !dtm_status_is_final(found.status))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("transaction \"%s\" was changed by the current database transaction", gid),
				 errhint("COMMIT first: what was asked for takes effect with the commit.")));
	if (dtm_status_is_final(found.status))
		PG_RETURN_TEXT_P(cstring_to_text(dtm_status_name(found.status)));

	if (dtm_shared != NULL)
		registered = dtm_shmem_wait_begin(found.id);
	PG_ENSURE_ERROR_CLEANUP(end_wait, Int64GetDatum(found.id));
	{
		for (;;)
		{
			dtm_sql_find_visible(gid, false, &found);
			if (dtm_status_is_final(found.status) || GetCurrentTimestamp() >= deadline)
				break;
			sleep_for(registered, deadline);
		}
	}
	PG_END_ENSURE_ERROR_CLEANUP(end_wait, Int64GetDatum(found.id));
	if (registered)
		dtm_shmem_wait_end(found.id);
	PG_RETURN_TEXT_P(cstring_to_text(dtm_status_name(found.status)));
}
