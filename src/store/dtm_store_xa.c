/* -------------------------------------------------------------------------
 *
 * dtm_store_xa.c
 *		On which servers something may be prepared, whatever becomes of the
 *		transaction that sends it there.
 *
 * A row is there, durably, before the first PREPARE TRANSACTION of a role on
 * a server, so that after any crash it is known where to look.
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

bool
dtm_store_xa_is_known(Oid server, Oid role)
{
	DtmStoreScope scope;
	Datum values[2] = {ObjectIdGetDatum(server), ObjectIdGetDatum(role)};
	bool known;

	dtm_store_begin(&scope);
	known = dtm_plan_execute(PLAN_XA_KNOWN, values, NULL, true, true) > 0;
	dtm_store_end(&scope);
	return known;
}

void
dtm_store_xa_note(Oid server, Oid role)
{
	DtmStoreScope scope;
	Datum values[2] = {ObjectIdGetDatum(server), ObjectIdGetDatum(role)};

	dtm_store_begin(&scope);
	dtm_plan_execute(PLAN_XA_NOTE, values, NULL, false, false);
	dtm_store_end(&scope);
}

int
dtm_store_xa_servers(DtmXaServer **servers)
{
	MemoryContext caller = CurrentMemoryContext;
	DtmStoreScope scope;
	int n;

	dtm_store_begin(&scope);
	n = (int) dtm_plan_execute(PLAN_XA_SERVERS, NULL, NULL, true, false);
	*servers = MemoryContextAlloc(caller, sizeof(DtmXaServer) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		DtmXaServer *server = &(*servers)[i];
		bool isnull;
		Datum name = dtm_plan_value(i, 3, &isnull);
		MemoryContext old = MemoryContextSwitchTo(caller);

		server->server = DatumGetObjectId(dtm_plan_value(i, 1, NULL));
		server->role = DatumGetObjectId(dtm_plan_value(i, 2, NULL));
		server->name = isnull ? NULL : pstrdup(NameStr(*DatumGetName(name)));
		server->failures = DatumGetInt32(dtm_plan_value(i, 4, NULL));
		MemoryContextSwitchTo(old);
	}
	dtm_store_end(&scope);
	return n;
}

void
dtm_store_xa_forget(Oid server, Oid role)
{
	DtmStoreScope scope;
	Datum values[2] = {ObjectIdGetDatum(server), ObjectIdGetDatum(role)};

	dtm_store_begin(&scope);
	dtm_plan_execute(PLAN_XA_FORGET, values, NULL, false, false);
	dtm_store_end(&scope);
}

void
dtm_store_xa_problem(Oid server, Oid role, int failures, TimestampTz next_try_at,
					 const char *problem)
{
	DtmStoreScope scope;
	Datum values[5];

	dtm_store_begin(&scope);
	values[0] = ObjectIdGetDatum(server);
	values[1] = ObjectIdGetDatum(role);
	values[2] = Int32GetDatum(failures);
	values[3] = TimestampTzGetDatum(next_try_at);
	values[4] = problem == NULL ? (Datum) 0 : CStringGetTextDatum(problem);
	dtm_plan_execute(PLAN_XA_PROBLEM, values, problem == NULL ? "    n" : NULL, false, false);
	dtm_store_end(&scope);
}
