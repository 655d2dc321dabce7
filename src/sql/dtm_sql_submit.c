/* -------------------------------------------------------------------------
 *
 * dtm_sql_submit.c
 *		dtm_gid and dtm_saga_submit: a submit is two rows of the caller's
 *		own transaction; its commit is the promise.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/int.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "dtm_compat.h"
#include "dtm_settings.h"
#include "dtm_shmem.h"
#include "dtm_sql.h"
#include "dtm_wake.h"

PG_FUNCTION_INFO_V1(dtm_sql_gid);
PG_FUNCTION_INFO_V1(dtm_sql_saga_submit);

/* Numbers of the trailing arguments that every submit has, relative to the first. */
enum
{
	OPTION_REQUEST_TIMEOUT,
	OPTION_RETRY_INTERVAL,
	OPTION_RETRY_LIMIT,
	OPTION_TIMEOUT_TO_FAIL,
	OPTION_HEADERS,
	OPTION_START_AFTER
};

static char *
new_gid(void)
{
	unsigned char random[10];
	char *gid = palloc(23);
	TimestampTz now = GetCurrentTimestamp();
	int64 epoch = (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;

	if (!pg_strong_random(random, sizeof(random)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate a gid: no random numbers")));
	dtm_gid_make((uint64) ((now + epoch) / 1000), random, gid);
	return gid;
}

/*
 * dtm_gid() - a new unique gid of 22 characters that sorts by time.
 */
Datum
dtm_sql_gid(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(new_gid()));
}

int64
dtm_sql_interval_ms(const Interval *interval)
{
	int64 days = (int64) interval->month * 30 + interval->day;
	int64 us;

	if (pg_mul_s64_overflow(days, USECS_PER_DAY, &us) ||
		pg_add_s64_overflow(us, interval->time, &us))
		return days < 0 ? PG_INT64_MIN / 1000 : PG_INT64_MAX / 1000;
	return us / 1000 + (us % 1000 > 0) - (us % 1000 < 0);
}

static void
check(DtmSpecBuilder *builder, bool ok)
{
	if (!ok)
		dtm_sql_spec_error(dtm_spec_error(builder));
}

static void
take_options(FunctionCallInfo fcinfo, int first, DtmSpecBuilder *builder)
{
	int n = first;

	if (!PG_ARGISNULL(n + OPTION_REQUEST_TIMEOUT))
		check(builder,
			  dtm_spec_set_request_timeout(builder,
										   dtm_sql_interval_ms(
											   PG_GETARG_INTERVAL_P(n + OPTION_REQUEST_TIMEOUT))));
	if (!PG_ARGISNULL(n + OPTION_RETRY_INTERVAL))
		check(builder,
			  dtm_spec_set_retry_interval(builder,
										  dtm_sql_interval_ms(
											  PG_GETARG_INTERVAL_P(n + OPTION_RETRY_INTERVAL))));
	if (!PG_ARGISNULL(n + OPTION_RETRY_LIMIT))
		check(builder, dtm_spec_set_retry_limit(builder, PG_GETARG_INT32(n + OPTION_RETRY_LIMIT)));
	if (!PG_ARGISNULL(n + OPTION_TIMEOUT_TO_FAIL))
		check(builder,
			  dtm_spec_set_timeout_to_fail(builder,
										   dtm_sql_interval_ms(
											   PG_GETARG_INTERVAL_P(n + OPTION_TIMEOUT_TO_FAIL))));
	if (!PG_ARGISNULL(n + OPTION_HEADERS))
		dtm_sql_headers(builder, PG_GETARG_JSONB_P(n + OPTION_HEADERS));
	if (!PG_ARGISNULL(n + OPTION_START_AFTER))
		check(builder,
			  dtm_spec_set_start_after(builder,
									   dtm_sql_interval_ms(
										   PG_GETARG_INTERVAL_P(n + OPTION_START_AFTER))));
}

/* Say so when nothing will drive it for now; the submit itself is as good as ever. */
static void
warn_when_not_driven(void)
{
	int slot;

	if (dtm_shared == NULL)
	{
		ereport(WARNING,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the transaction is stored, but nothing drives it: dtm_pg is not preloaded"),
				 errhint(
					 "Add shared_preload_libraries = 'dtm_pg' to postgresql.conf and restart the server.")));
		return;
	}
	slot = dtm_shmem_find(MyDatabaseId);
	if (slot >= 0 && dtm_shared->databases[slot].coordinators[0].state == DTM_WORKER_PAUSED)
		ereport(WARNING,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg(
					 "the transaction is stored, but nothing drives it: dtm_pg is paused in this database"),
				 errhint("See dtm.workers for the reason; SELECT dtm_resume(); ends the pause.")));
}

/* The gid is there already: fine when it is the same thing again. */
static void
check_repeated(const char *gid, DtmTransType type, const char *spec, size_t spec_len)
{
	DtmFound found;
	bool same;

	if (!dtm_store_find(gid, true, &found))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("transaction \"%s\" was deleted while it was submitted again", gid)));
	same = found.type == type && has_privs_of_role(GetUserId(), found.owner) &&
		VARSIZE_ANY_EXHDR(found.spec) == spec_len &&
		memcmp(VARDATA_ANY(found.spec), spec, spec_len) == 0;
	if (!same)
		ereport(ERROR,
				(errcode(ERRCODE_UNIQUE_VIOLATION),
				 errmsg("gid \"%s\" is taken by a transaction with other content", gid),
				 errhint(
					 "Submitting the same content again has no effect; other content needs another gid.")));
}

/* Store what the builder made, or find that it is there already. */
static text *
store(DtmSpecBuilder *builder, DtmTransType type, DtmStatus status, char *gid)
{
	bool gid_given = gid != NULL;
	const char *spec;
	size_t spec_len;
	DtmTrans trans;
	DtmStoreScope scope;
	int64 id;
	bool stored;
	TimestampTz now = GetCurrentTimestamp();
	DtmArena arena = dtm_sql_arena(CurrentMemoryContext);
	Oid owner = GetUserId();

	if (gid_given)
	{
		const char *problem = dtm_gid_check(gid, strlen(gid));

		if (problem != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s", problem),
					 errhint("A gid has 1 to %d bytes and no control characters; leave it out to get a new one.",
							 DTM_MAX_GID_LEN)));
	}
	else
		gid = new_gid();

	dtm_sql_check_targets(builder);
	check(builder, dtm_spec_finish(builder, &spec, &spec_len));
	memset(&trans, 0, sizeof(trans));
	trans.created_at = now;
	if (dtm_spec_unpack(spec, spec_len, &arena, &trans) != DTM_OK)
		elog(ERROR, "the packed transaction cannot be read back");

	dtm_store_begin(&scope);
	id = dtm_store_next_id();
	stored = dtm_store_insert(id, gid, gid_given, type, status, owner, now, trans.start_at, spec,
							  spec_len);
	dtm_store_end(&scope);
	if (stored)
	{
		dtm_wake_at_commit(id);
		warn_when_not_driven();
	}
	else
		check_repeated(gid, type, spec, spec_len);
	return cstring_to_text(gid);
}

/*
 * dtm_saga_submit(steps, gid, concurrent, OPTIONS) - returns the gid.
 *
 * 22004 steps NULL; 22023, 54000, 0A000 what the steps or options get wrong,
 * naming step and field; 42883, 42P13, 42501 about sql: functions; 42501
 * target not allowed; 23505 gid taken by other content.
 */
Datum
dtm_sql_saga_submit(PG_FUNCTION_ARGS)
{
	DtmArena arena = dtm_sql_arena(CurrentMemoryContext);
	DtmSpecError error;
	DtmSpecBuilder *builder;
	uint32_t flags = 0;
	char *gid = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));

	PreventCommandIfReadOnly("dtm_saga_submit()");
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("\"steps\" must not be NULL")));
	builder = dtm_spec_begin(&arena, DTM_TYPE_SAGA, &error);
	if (builder == NULL)
		dtm_sql_spec_error(&error);
	dtm_sql_steps(builder, PG_GETARG_JSONB_P(0), &flags);
	if (!PG_ARGISNULL(2) && PG_GETARG_BOOL(2))
		flags |= DTM_FLAG_CONCURRENT;
	dtm_spec_set_flags(builder, flags);
	take_options(fcinfo, 3, builder);
	PG_RETURN_TEXT_P(store(builder, DTM_TYPE_SAGA, DTM_STATUS_SUBMITTED, gid));
}
