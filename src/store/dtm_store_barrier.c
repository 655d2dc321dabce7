/* -------------------------------------------------------------------------
 *
 * dtm_store_barrier.c
 *		The rows of dtm.barrier.
 *
 * What they mean is src/core/dtm_barrier.c; who asks is a service through
 * src/sql/dtm_sql_barrier.c, or the executor for a sql: branch.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "dtm_barrier.h"
#include "dtm_store.h"
#include "dtm_store_plans.h"

void
dtm_store_barrier(const DtmBarrierCall *call, const char *barrier_id, const char *reason,
				  int *origin_rows, int *current_rows)
{
	const char *origin = dtm_barrier_origin(call->op);
	DtmStoreScope scope;
	Datum values[7];
	uint64 rows;

	dtm_store_begin(&scope);
	values[0] = CStringGetTextDatum(call->trans_type);
	values[1] = CStringGetTextDatum(call->gid);
	values[2] = CStringGetTextDatum(call->branch_id);
	values[3] = CStringGetTextDatum(call->op);
	values[4] = CStringGetTextDatum(barrier_id);
	values[5] = CStringGetTextDatum(reason);
	values[6] = origin == NULL ? (Datum) 0 : CStringGetTextDatum(origin);
	rows = dtm_plan_execute(origin == NULL ? PLAN_BARRIER_FORWARD : PLAN_BARRIER_BACKWARD, values,
							NULL, false, false);

	*origin_rows = 0;
	*current_rows = 0;
	for (uint64 i = 0; i < rows; i++)
	{
		char *op = TextDatumGetCString(dtm_plan_value(i, 1, NULL));

		if (strcmp(op, call->op) == 0)
			(*current_rows)++;
		else
			(*origin_rows)++;
	}
	dtm_store_end(&scope);
}

char *
dtm_store_barrier_reason(const DtmBarrierCall *call, const char *barrier_id)
{
	MemoryContext caller = CurrentMemoryContext;
	DtmStoreScope scope;
	Datum values[4];
	char *reason = NULL;

	dtm_store_begin(&scope);
	values[0] = CStringGetTextDatum(call->gid);
	values[1] = CStringGetTextDatum(call->branch_id);
	values[2] = CStringGetTextDatum(call->op);
	values[3] = CStringGetTextDatum(barrier_id);

	/* not read-only: it must see what was committed while an insert waited */
	if (dtm_plan_execute(PLAN_BARRIER_REASON, values, NULL, false, false) > 0)
		reason = MemoryContextStrdup(caller, TextDatumGetCString(dtm_plan_value(0, 1, NULL)));
	dtm_store_end(&scope);
	return reason;
}
