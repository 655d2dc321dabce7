/* -------------------------------------------------------------------------
 *
 * dtm_store_token.c
 *		Tokens of the HTTP API, and what else it asks about rights.
 *
 * A token never reaches the table: its SHA-256 does, and the look-up is by
 * that.  How long it takes says something about hashes only, which nobody can
 * choose, so there is nothing to learn from it.
 *
 * Used by backends and the coordinator.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "dtm_store.h"
#include "dtm_store_plans.h"

/* text and bytea are the same bytes */
static Datum
hash_of(const char *token)
{
	return DirectFunctionCall1(sha256_bytea, CStringGetTextDatum(token));
}

bool
dtm_store_token_add(const char *token, const char *name, Oid role, TimestampTz expires)
{
	DtmStoreScope scope;
	Datum values[4] = {hash_of(token), CStringGetTextDatum(name), ObjectIdGetDatum(role),
					   TimestampTzGetDatum(expires)};
	bool added;

	dtm_store_begin(&scope);

	/* a new role may get the number of one that is gone, but not its tokens */
	dtm_plan_execute(PLAN_HTTP_TOKEN_TIDY, NULL, NULL, false, false);
	added = dtm_plan_execute(PLAN_HTTP_TOKEN_ADD, values, expires == DT_NOEND ? "   n" : NULL,
							 false, false) > 0;
	dtm_store_end(&scope);
	return added;
}

Oid
dtm_store_token_role(const char *name)
{
	DtmStoreScope scope;
	Datum values[1] = {CStringGetTextDatum(name)};
	Oid role = InvalidOid;

	dtm_store_begin(&scope);
	if (dtm_plan_execute(PLAN_HTTP_TOKEN_ROLE, values, NULL, false, false) > 0)
		role = DatumGetObjectId(dtm_plan_value(0, 1, NULL));
	dtm_store_end(&scope);
	return role;
}

bool
dtm_store_token_drop(const char *name, Oid role)
{
	DtmStoreScope scope;
	Datum values[2] = {CStringGetTextDatum(name), ObjectIdGetDatum(role)};
	bool dropped;

	dtm_store_begin(&scope);
	dropped = dtm_plan_execute(PLAN_HTTP_TOKEN_DROP, values, NULL, false, false) > 0;
	dtm_store_end(&scope);
	return dropped;
}

Oid
dtm_store_token_find(const char *token)
{
	DtmStoreScope scope;
	Datum values[1] = {hash_of(token)};
	Oid role = InvalidOid;

	dtm_store_begin(&scope);
	if (dtm_plan_execute(PLAN_HTTP_TOKEN, values, NULL, true, true) > 0 &&
		DatumGetTimestampTz(dtm_plan_value(0, 2, NULL)) > GetCurrentTimestamp())
		role = DatumGetObjectId(dtm_plan_value(0, 1, NULL));
	dtm_store_end(&scope);
	return role;
}

Oid
dtm_store_own_function(Oid extension, const char *name)
{
	DtmStoreScope scope;
	Datum values[2] = {ObjectIdGetDatum(extension), CStringGetTextDatum(name)};
	Oid function = InvalidOid;

	dtm_store_begin(&scope);
	if (dtm_plan_execute(PLAN_HTTP_FUNCTION, values, NULL, true, true) > 0)
		function = DatumGetObjectId(dtm_plan_value(0, 1, NULL));
	dtm_store_end(&scope);
	return function;
}
