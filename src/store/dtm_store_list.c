/* -------------------------------------------------------------------------
 *
 * dtm_store_list.c
 *		Pages of transactions, and one of them, for who asks over HTTP.
 *
 * Every statement goes along a primary key from one end and stops after so
 * many rows, whatever the tables hold.
 *
 * Used by the coordinator.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "dtm_store_list.h"
#include "dtm_store_plans.h"

static int64
int64_of(uint64 row, int column)
{
	bool isnull;
	Datum value = dtm_plan_value(row, column, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

static int16
int16_of(uint64 row, int column)
{
	bool isnull;
	Datum value = dtm_plan_value(row, column, &isnull);

	return isnull ? 0 : DatumGetInt16(value);
}

int
dtm_store_list_ids(DtmListFrom from, int64 before, int limit, DtmListId *rows)
{
	static const DtmPlanId plans[] = {
		[DTM_LIST_ALL] = PLAN_LIST_ALL,
		[DTM_LIST_UNFINISHED] = PLAN_LIST_UNFINISHED,
		[DTM_LIST_FINISHED] = PLAN_LIST_FINISHED,
	};
	DtmStoreScope scope;
	Datum values[2] = {Int64GetDatum(before), Int32GetDatum(limit)};
	int n;

	dtm_store_begin(&scope);
	n = (int) dtm_plan_execute(plans[from], values, NULL, false, false);
	if (n > limit)
		elog(ERROR, "more transactions than asked for");
	for (int i = 0; i < n; i++)
	{
		bool isnull;
		Datum owner = dtm_plan_value(i, 2, &isnull);

		rows[i].id = int64_of(i, 1);
		rows[i].owner = isnull ? InvalidOid : DatumGetObjectId(owner);
		rows[i].type = (DtmTransType) int16_of(i, 3);
		rows[i].status = (DtmStatus) int16_of(i, 4);
		rows[i].created_at = int64_of(i, 5);
		rows[i].size = int64_of(i, 6);
	}
	dtm_store_end(&scope);
	return n;
}

static void
take_row(uint64 i, MemoryContext context, DtmListed *row)
{
	row->id = int64_of(i, 1);
	row->owner = DatumGetObjectId(dtm_plan_value(i, 2, NULL));
	row->type = (DtmTransType) int16_of(i, 3);
	row->status = (DtmStatus) int16_of(i, 4);
	row->created_at = int64_of(i, 5);
	row->updated_at = int64_of(i, 6);
	row->finished_at = int64_of(i, 7);
	row->next_run_at = int64_of(i, 8);
	row->failures = (int32) int64_of(i, 9);
	row->gid = dtm_plan_string(i, 10, context);
	row->reason = dtm_plan_string(i, 11, context);
	row->result = (Jsonb *) dtm_plan_varlena(i, 12, context);
	row->spec = (bytea *) dtm_plan_varlena(i, 13, context);
	row->state = (bytea *) dtm_plan_varlena(i, 14, context);
}

int
dtm_store_list_rows(const int64 *ids, int n, DtmListed *rows)
{
	MemoryContext caller = CurrentMemoryContext;
	DtmStoreScope scope;
	Datum values[1];
	int found;

	if (n == 0)
		return 0;
	dtm_store_begin(&scope);
	values[0] = dtm_plan_ids(ids, n);
	found = (int) dtm_plan_execute(PLAN_LIST_ROWS, values, NULL, false, false);
	if (found > n)
		elog(ERROR, "more transactions than asked for");
	for (int i = 0; i < found; i++)
		take_row(i, caller, &rows[i]);
	dtm_store_end(&scope);
	return found;
}

bool
dtm_store_list_one(const char *gid, DtmListed *row)
{
	MemoryContext caller = CurrentMemoryContext;
	DtmStoreScope scope;
	Datum values[1];
	bool found;

	dtm_store_begin(&scope);
	values[0] = CStringGetTextDatum(gid);
	found = dtm_plan_execute(PLAN_LIST_ONE, values, NULL, false, false) > 0;
	if (found)
		take_row(0, caller, row);
	dtm_store_end(&scope);
	return found;
}
