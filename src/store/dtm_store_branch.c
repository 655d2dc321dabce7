/* -------------------------------------------------------------------------
 *
 * dtm_store_branch.c
 *		Branches that come after the submit, and what they answered.
 *
 * Rows are only added, under the lock of the transaction's row in dtm.live,
 * so that their numbers have no gap and what was read before stays true.
 *
 * Used by backends, executors and the coordinator.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "dtm_store.h"
#include "dtm_store_plans.h"

static void
insert(int64 id, int n, const char *spec, size_t spec_len, const char *answer)
{
	bytea *bytes = palloc(VARHDRSZ + spec_len);
	Datum values[4];

	SET_VARSIZE(bytes, VARHDRSZ + spec_len);
	memcpy(VARDATA(bytes), spec, spec_len);
	values[0] = Int64GetDatum(id);
	values[1] = Int32GetDatum(n);
	values[2] = PointerGetDatum(bytes);
	values[3] = answer == NULL ? (Datum) 0 : CStringGetTextDatum(answer);
	dtm_plan_execute(PLAN_REGISTER, values, answer == NULL ? "   n" : NULL, false, true);
}

void
dtm_store_memo(int64 id, int n, const char *spec, size_t spec_len)
{
	DtmStoreScope scope;

	dtm_store_begin(&scope);
	insert(id, n, spec, spec_len, NULL);
	dtm_store_end(&scope);
}

void
dtm_store_register(int64 id, int n, const char *spec, size_t spec_len, const char *answer)
{
	DtmStoreScope scope;
	Datum touch[2];

	dtm_store_begin(&scope);
	insert(id, n, spec, spec_len, answer);
	touch[0] = Int64GetDatum(id);
	touch[1] = TimestampTzGetDatum(GetCurrentTimestamp());
	dtm_plan_execute(PLAN_TOUCH, touch, NULL, false, true);
	dtm_store_end(&scope);
}

char **
dtm_store_answers(int64 id, int n)
{
	char **answers = palloc0(sizeof(char *) * Max(n, 1));
	MemoryContext caller = CurrentMemoryContext;
	DtmStoreScope scope;
	Datum values[1] = {Int64GetDatum(id)};
	uint64 rows;

	dtm_store_begin(&scope);
	rows = dtm_plan_execute(PLAN_ANSWERS, values, NULL, true, true);
	for (uint64 i = 0; i < rows; i++)
	{
		int seq = DatumGetInt32(dtm_plan_value(i, 1, NULL));
		bool isnull;
		Datum answer = dtm_plan_value(i, 2, &isnull);
		MemoryContext old = MemoryContextSwitchTo(caller);

		if (!isnull && seq >= 0 && seq < n)
			answers[seq] = TextDatumGetCString(answer);
		MemoryContextSwitchTo(old);
	}
	dtm_store_end(&scope);
	return answers;
}

void
dtm_store_answer(int64 id, int branch, const char *answer)
{
	DtmStoreScope scope;
	Datum values[3] = {Int64GetDatum(id), Int32GetDatum(branch), CStringGetTextDatum(answer)};

	dtm_store_begin(&scope);
	if (dtm_plan_execute(PLAN_ANSWER, values, NULL, false, true) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("branch %d of transaction " INT64_FORMAT " is not in dtm.branch",
						branch + 1, id)));
	dtm_store_end(&scope);
}
