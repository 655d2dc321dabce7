/* -------------------------------------------------------------------------
 *
 * dtm_store_signal.c
 *		What workflows need of the tables: signals that came before they were
 *		waited for, and the end of the function.
 *
 * All of it under the lock of the transaction's row in dtm.live, so that a
 * signal and the await that it is for cannot miss each other.
 *
 * Used by backends and executors.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "dtm_store.h"
#include "dtm_store_plans.h"

bool
dtm_store_signal_add(int64 id, const char *event, const char *payload, int max)
{
	DtmStoreScope scope;
	Datum values[4] = {Int64GetDatum(id), CStringGetTextDatum(event), CStringGetTextDatum(payload),
					   Int32GetDatum(max)};
	bool added;

	dtm_store_begin(&scope);
	added = dtm_plan_execute(PLAN_SIGNAL_ADD, values, NULL, false, true) > 0;
	dtm_store_end(&scope);
	return added;
}

char *
dtm_store_signal_take(int64 id, const char *event)
{
	MemoryContext caller = CurrentMemoryContext;
	DtmStoreScope scope;
	Datum values[2] = {Int64GetDatum(id), CStringGetTextDatum(event)};
	char *payload = NULL;

	dtm_store_begin(&scope);
	if (dtm_plan_execute(PLAN_SIGNAL_TAKE, values, NULL, false, true) > 0)
	{
		Datum value = dtm_plan_value(0, 1, NULL);
		MemoryContext old = MemoryContextSwitchTo(caller);

		payload = TextDatumGetCString(value);
		MemoryContextSwitchTo(old);
	}
	dtm_store_end(&scope);
	return payload;
}

void
dtm_store_result(int64 id, DtmStatus status, const char *state, size_t state_len, Jsonb *result)
{
	DtmStoreScope scope;
	bytea *bytes = palloc(VARHDRSZ + state_len);
	Datum values[5];

	SET_VARSIZE(bytes, VARHDRSZ + state_len);
	memcpy(VARDATA(bytes), state, state_len);
	values[0] = Int64GetDatum(id);
	values[1] = Int16GetDatum((int16) status);
	values[2] = PointerGetDatum(bytes);
	values[3] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[4] = PointerGetDatum(result);
	dtm_store_begin(&scope);
	dtm_plan_execute(PLAN_RESULT, values, result == NULL ? "    n" : NULL, false, true);
	dtm_store_end(&scope);
}
