/* -------------------------------------------------------------------------
 *
 * dtm_sql_store.c
 *		What every submit shares: the trailing options, and storing what the
 *		builder made as two rows of the caller's own transaction.
 *
 * Not here: the functions themselves (dtm_sql_submit.c), the walk over the
 * steps (dtm_sql_steps.c).  Runs in backends.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/int.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "dtm_compat.h"
#include "dtm_settings.h"
#include "dtm_shmem.h"
#include "dtm_sql.h"
#include "dtm_wake.h"
#include "dtm_xa_gid.h"

char *
dtm_sql_new_gid(void)
{
	static DtmGidLast last;
	unsigned char random[10];
	char *gid = palloc(23);
	TimestampTz now = GetCurrentTimestamp();
	int64 epoch = (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;

	if (!pg_strong_random(random, sizeof(random)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate a gid: no random numbers")));
	dtm_gid_next(&last, (uint64) ((now + epoch) / 1000), random, gid);
	return gid;
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

void
dtm_sql_take_options(FunctionCallInfo fcinfo, int first, DtmSpecBuilder *builder)
{
	int n = first;

	if (!PG_ARGISNULL(n + DTM_OPTION_REQUEST_TIMEOUT))
		dtm_sql_check(builder,
					  dtm_spec_set_request_timeout(builder,
												   dtm_sql_interval_ms(PG_GETARG_INTERVAL_P(
													   n + DTM_OPTION_REQUEST_TIMEOUT))));
	if (!PG_ARGISNULL(n + DTM_OPTION_RETRY_INTERVAL))
		dtm_sql_check(builder,
					  dtm_spec_set_retry_interval(builder,
												  dtm_sql_interval_ms(PG_GETARG_INTERVAL_P(
													  n + DTM_OPTION_RETRY_INTERVAL))));
	if (!PG_ARGISNULL(n + DTM_OPTION_RETRY_LIMIT))
		dtm_sql_check(builder,
					  dtm_spec_set_retry_limit(builder,
											   PG_GETARG_INT32(n + DTM_OPTION_RETRY_LIMIT)));
	if (!PG_ARGISNULL(n + DTM_OPTION_TIMEOUT_TO_FAIL))
		dtm_sql_check(builder,
					  dtm_spec_set_timeout_to_fail(builder,
												   dtm_sql_interval_ms(PG_GETARG_INTERVAL_P(
													   n + DTM_OPTION_TIMEOUT_TO_FAIL))));
	if (!PG_ARGISNULL(n + DTM_OPTION_HEADERS))
		dtm_sql_headers(builder, PG_GETARG_JSONB_P(n + DTM_OPTION_HEADERS));
	if (!PG_ARGISNULL(n + DTM_OPTION_START_AFTER))
		dtm_sql_check(builder,
					  dtm_spec_set_start_after(builder,
											   dtm_sql_interval_ms(PG_GETARG_INTERVAL_P(
												   n + DTM_OPTION_START_AFTER))));
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

/* What was asked for when this was stored: its subscribers have been found at that time. */
static bool
same_content(const DtmFound *found, const char *asked, size_t asked_len)
{
	DtmArena arena = dtm_arena(CurrentMemoryContext);
	DtmTrans trans;
	const char *packed;
	size_t len;

	dtm_sql_unpack(found->spec, NULL, found->created_at, &trans);
	if (dtm_spec_pack_asked(&trans, &arena, &packed, &len) != DTM_OK)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	return len == asked_len && memcmp(packed, asked, len) == 0;
}

/* The gid is there already: fine when it is the same thing again. */
static void
check_repeated(const char *gid, const DtmFound *found, DtmTransType type, const char *asked,
			   size_t asked_len)
{
	if (found->type != type || !has_privs_of_role(GetUserId(), found->owner) ||
		!same_content(found, asked, asked_len))
		ereport(ERROR,
				(errcode(ERRCODE_UNIQUE_VIOLATION),
				 errmsg("gid \"%s\" is taken by a transaction with other content", gid),
				 errhint(
					 "Submitting the same content again has no effect; other content needs another gid.")));
}

void
dtm_sql_check_gid(const char *gid)
{
	const char *problem = dtm_gid_check(gid, strlen(gid));

	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s", problem),
				 errhint("A gid has 1 to %d bytes and no control characters; leave it out to get a new one.",
						 DTM_MAX_GID_LEN)));

	/* a row by such a name tells the sweep what to do with what a session left prepared */
	if (strncmp(gid, DTM_XA_GID_START, strlen(DTM_XA_GID_START)) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("gid must not begin with \"%s\"", DTM_XA_GID_START),
				 errhint(
					 "Such names are kept for the transactions of dtm_xa_exec(); leave it out to get a new one.")));
}

/* One of those that are delivered one after the other: neither delayed nor prepared. */
static bool
is_chained(const DtmTrans *trans)
{
	return trans->type == DTM_TYPE_MSG && trans->query_url.len == 0 &&
		trans->start_at <= trans->created_at;
}

/* Prepared, and no start_after has to be over for what is to come first. */
static bool
waits_for_submit(const DtmTrans *trans)
{
	switch (trans->type)
	{
		case DTM_TYPE_SAGA:
		case DTM_TYPE_MSG:
			return true;
		case DTM_TYPE_TCC:
		case DTM_TYPE_XA:
		case DTM_TYPE_WORKFLOW:
			return (trans->flags & DTM_FLAG_CLIENT_RUN) != 0;
	}
	return false;
}

/* A number whose coordinator is this one. */
static int64
next_id_of(int worker, int workers)
{
	int64 id = dtm_store_next_id();

	while (workers > 1 && id % workers != worker)
		id = dtm_store_next_id();
	return id;
}

bool
dtm_sql_insert(DtmSqlInsert *insert)
{
	DtmArena arena = dtm_arena(CurrentMemoryContext);
	TimestampTz now = GetCurrentTimestamp();
	DtmTrans trans;
	DtmNewTrans row;
	DtmStoreScope scope;
	DtmStored stored;
	bool chained;

	memset(&trans, 0, sizeof(trans));
	trans.created_at = now;
	if (dtm_spec_unpack(insert->spec, insert->spec_len, &arena, &trans) != DTM_OK)
		elog(ERROR, "the packed transaction cannot be read back");
	chained = insert->chained && is_chained(&trans);

	memset(&row, 0, sizeof(row));
	row.gid = insert->gid;
	row.gid_given = insert->gid_given;
	row.type = trans.type;
	row.status = insert->status != DTM_STATUS_NONE ? insert->status : trans.status;
	row.owner = GetUserId();
	row.created_at = now;

	/* what waits for its submit has a deadline first, which the coordinator knows */
	row.next_run_at =
		row.status == DTM_STATUS_PREPARED && waits_for_submit(&trans) ? now : trans.start_at;
	row.after = chained ? dtm_chain_last(row.owner) : 0;
	row.spec = insert->spec;
	row.spec_len = insert->spec_len;

	dtm_store_begin(&scope);
	row.id = next_id_of(insert->worker, insert->workers);
	stored = dtm_store_insert(&row);
	dtm_store_end(&scope);
	if (stored == DTM_STORED_TAKEN)
		return false;
	insert->id = row.id;
	if (chained)
		dtm_chain_set_last(row.owner, row.id);

	/* whoever finishes the one before it will announce it */
	if (stored == DTM_STORED_DUE)
		dtm_wake_at_commit(row.id);
	return true;
}

text *
dtm_sql_store(DtmSpecBuilder *builder, char *gid)
{
	bool gid_given = gid != NULL;
	bool topics = dtm_sql_has_topics(builder);
	const char *asked;
	size_t asked_len;
	const char *spec;
	size_t spec_len;
	DtmFound found;
	DtmSqlInsert insert;

	if (gid_given)
		dtm_sql_check_gid(gid);
	else
		gid = dtm_sql_new_gid();

	dtm_sql_check_targets(builder);
	dtm_sql_check(builder, dtm_spec_finish(builder, &asked, &asked_len));
	spec = asked;
	spec_len = asked_len;
	if (topics)
	{
		/* a repeated submit is none, even if its topic is gone by now */
		if (gid_given && dtm_store_find(gid, true, &found))
		{
			check_repeated(gid, &found, dtm_spec_type(builder), asked, asked_len);
			return cstring_to_text(gid);
		}
		dtm_sql_expand_topics(builder);
		dtm_sql_check_targets(builder);
		dtm_sql_check(builder, dtm_spec_finish(builder, &spec, &spec_len));
	}
	memset(&insert, 0, sizeof(insert));
	insert.gid = gid;
	insert.gid_given = gid_given;
	insert.chained = true;
	insert.spec = spec;
	insert.spec_len = spec_len;
	if (dtm_sql_insert(&insert))
		warn_when_not_driven();
	else
	{
		if (!dtm_store_find(gid, true, &found))
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("transaction \"%s\" was deleted while it was submitted again", gid)));
		check_repeated(gid, &found, dtm_spec_type(builder), asked, asked_len);
	}
	return cstring_to_text(gid);
}
