/* -------------------------------------------------------------------------
 *
 * dtm_store_follow.c
 *		Messages that are delivered after another one: who waits for what has
 *		finished becomes due with the same commit.
 *
 * A follower names its predecessor in after_id, and waits as long as its
 * next_run_at is infinity.  When one is stopped before its turn, those behind
 * it move up to its own predecessor, in the transaction that stops it.  So a
 * look at the followers may miss one that is just moving up; but whoever moves
 * it up holds the row of the one between, which is still seen until that
 * transaction commits.  Hence the loops: nobody is left only when a fresh look
 * finds nobody.
 *
 * Used by the coordinator when it finishes messages, by backends in dtm_stop.
 * Not here: who follows whom (dtm_sql_chain.c).
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/timestamp.h"

#include "dtm_store.h"
#include "dtm_store_plans.h"

/* With a fresh look: what is committed by now, and our own changes. */
static uint64
execute(DtmPlanId plan, Datum *values)
{
	return dtm_plan_execute(plan, values, NULL, false, true);
}

int
dtm_store_release(const int64 *finished, int n, TimestampTz now, int64 **followers)
{
	MemoryContext caller = CurrentMemoryContext;
	DtmStoreScope scope;
	Datum values[2];
	int found = 0;

	*followers = NULL;
	if (n == 0)
		return 0;
	dtm_store_begin(&scope);
	values[0] = dtm_plan_ids(finished, n);
	values[1] = TimestampTzGetDatum(now);
	while (execute(PLAN_FOLLOWERS, values) > 0)
	{
		uint64 released = execute(PLAN_RELEASE, values);
		Size size = sizeof(int64) * (found + Max(released, 1));

		*followers =
			*followers == NULL ? MemoryContextAlloc(caller, size) : repalloc(*followers, size);
		for (uint64 i = 0; i < released; i++)
			(*followers)[found++] = DatumGetInt64(dtm_plan_value(i, 1, NULL));
	}
	dtm_store_end(&scope);
	return found;
}

void
dtm_store_move_followers(int64 finished, int64 after)
{
	DtmStoreScope scope;
	Datum values[2];

	dtm_store_begin(&scope);
	values[0] = dtm_plan_ids(&finished, 1);
	values[1] = Int64GetDatum(after);
	while (execute(PLAN_FOLLOWERS, values) > 0)
		execute(PLAN_MOVE_FOLLOWERS, values);
	dtm_store_end(&scope);
}
