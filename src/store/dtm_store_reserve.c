/* -------------------------------------------------------------------------
 *
 * dtm_store_reserve.c
 *		The way into the functions of sql/45-reserve.sql.
 *
 * What they do is written there.  Here is only who asks: a SECURITY DEFINER
 * function could not know it, since in a sql: branch neither session_user
 * nor SET ROLE says so.
 *
 * Used by backends and the executors; the sweep by the coordinator.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "dtm_store.h"
#include "dtm_store_plans.h"

#define MAX_ARGS 7

static const DtmPlanId plan_of[] = {
	[DTM_STOCK_SET] = PLAN_STOCK_SET,
	[DTM_STOCK_ADD] = PLAN_STOCK_ADD,
	[DTM_STOCK_DROP] = PLAN_STOCK_DROP,
	[DTM_RESERVE] = PLAN_RESERVE,
	[DTM_RESERVE_CONFIRM] = PLAN_RESERVE_CONFIRM,
	[DTM_RESERVE_RELEASE] = PLAN_RESERVE_RELEASE,
	[DTM_RESERVE_SWEEP_OWN] = PLAN_RESERVE_SWEEP,
};

int64
dtm_store_reserve(DtmReserveCall call, int nargs, const NullableDatum *args)
{
	DtmStoreScope scope;
	Datum values[MAX_ARGS];
	char nulls[MAX_ARGS];
	int64 result;

	Assert(nargs < MAX_ARGS);
	values[0] = ObjectIdGetDatum(GetUserId());
	nulls[0] = ' ';
	for (int i = 0; i < nargs; i++)
	{
		values[i + 1] = args[i].value;
		nulls[i + 1] = args[i].isnull ? 'n' : ' ';
	}
	dtm_store_begin(&scope);
	dtm_plan_execute(plan_of[call], values, nulls, false, false);
	result = DatumGetInt64(dtm_plan_value(0, 1, NULL));
	dtm_store_end(&scope);
	return result;
}

int64
dtm_store_reserve_sweep(int limit)
{
	DtmStoreScope scope;
	Datum values[2] = {(Datum) 0, Int64GetDatum(limit)};
	int64 result;

	dtm_store_begin(&scope);
	dtm_plan_execute(PLAN_RESERVE_SWEEP, values, "n ", false, false);
	result = DatumGetInt64(dtm_plan_value(0, 1, NULL));
	dtm_store_end(&scope);
	return result;
}
