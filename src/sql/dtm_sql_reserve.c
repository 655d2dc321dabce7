/* -------------------------------------------------------------------------
 *
 * dtm_sql_reserve.c
 *		dtm_stock_set, dtm_stock_add, dtm_stock_drop, dtm_reserve and what
 *		settles a reservation.
 *
 * They note who calls, and for which sql: branch; the rest, with the checks
 * of the arguments, is in sql/45-reserve.sql.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "dtm_executor.h"
#include "dtm_sql.h"

/* One call settles at most so many, so that it ends. */
#define SWEEP_AT_MOST 100000

PG_FUNCTION_INFO_V1(dtm_sql_stock_set);
PG_FUNCTION_INFO_V1(dtm_sql_stock_add);
PG_FUNCTION_INFO_V1(dtm_sql_stock_drop);
PG_FUNCTION_INFO_V1(dtm_sql_reserve);
PG_FUNCTION_INFO_V1(dtm_sql_reserve_confirm);
PG_FUNCTION_INFO_V1(dtm_sql_reserve_release);
PG_FUNCTION_INFO_V1(dtm_sql_reserve_sweep);

/*
 * dtm_stock_set(resource, quantity, buckets) - so many units are free now.
 * 22004, 22023 about the arguments; 42501 when it is another role's.
 */
Datum
dtm_sql_stock_set(PG_FUNCTION_ARGS)
{
	(void) dtm_store_reserve(DTM_STOCK_SET, 3, fcinfo->args);
	PG_RETURN_VOID();
}

/*
 * dtm_stock_add(resource, quantity) - more of it, or less; what is free then.
 * DTM01 when there is not enough to take away; 42704, 42501, 22004, 22023.
 */
Datum
dtm_sql_stock_add(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(dtm_store_reserve(DTM_STOCK_ADD, 2, fcinfo->args));
}

/*
 * dtm_stock_drop(resource) - 55006 while something is reserved; 42704, 42501,
 * 22004, 22023.
 */
Datum
dtm_sql_stock_drop(PG_FUNCTION_ARGS)
{
	(void) dtm_store_reserve(DTM_STOCK_DROP, 1, fcinfo->args);
	PG_RETURN_VOID();
}

/*
 * dtm_reserve(resource, quantity, gid, ttl, wait) - in a sql: branch gid NULL
 * is that of the branch, elsewhere a new one.  DTM01 sold out; DTM02 when
 * that is not certain yet and it may not wait; 23505 when the gid has
 * reserved another quantity; 42704, 42501, 22004, 22023.
 */
Datum
dtm_sql_reserve(PG_FUNCTION_ARGS)
{
	const char *context = dtm_call_context.gid;
	const char *branch_id = "";
	NullableDatum args[6];
	text *gid;

	if (!PG_ARGISNULL(2))
	{
		const char *problem;

		gid = PG_GETARG_TEXT_PP(2);
		problem = dtm_gid_check(VARDATA_ANY(gid), VARSIZE_ANY_EXHDR(gid));
		if (problem != NULL)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s", problem)));
	}
	else
		gid = cstring_to_text(context != NULL ? context : dtm_sql_new_gid());

	/* two branches of a transaction may each reserve some of the same */
	if (context != NULL && strcmp(text_to_cstring(gid), context) == 0)
		branch_id = dtm_call_context.branch_id;

	args[0] = fcinfo->args[0];
	args[1] = fcinfo->args[1];
	args[2] = (NullableDatum){PointerGetDatum(gid), false};
	args[3] = (NullableDatum){CStringGetTextDatum(branch_id), false};
	args[4] = fcinfo->args[3];
	args[5] = fcinfo->args[4];
	(void) dtm_store_reserve(DTM_RESERVE, 6, args);
	PG_RETURN_TEXT_P(gid);
}

/*
 * dtm_reserve_confirm(gid, resource) - units that are sold.  DTM01 when they
 * were given back; 42704 when there are none, 42501, 22004.
 */
Datum
dtm_sql_reserve_confirm(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(dtm_store_reserve(DTM_RESERVE_CONFIRM, 2, fcinfo->args));
}

/*
 * dtm_reserve_release(gid, resource, sold) - units that came back.  42501,
 * 22004.
 */
Datum
dtm_sql_reserve_release(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(dtm_store_reserve(DTM_RESERVE_RELEASE, 3, fcinfo->args));
}

/* dtm_reserve_sweep() - reservations that were settled because their time is over. */
Datum
dtm_sql_reserve_sweep(PG_FUNCTION_ARGS)
{
	NullableDatum at_most = {Int64GetDatum(SWEEP_AT_MOST), false};

	PG_RETURN_INT64(dtm_store_reserve(DTM_RESERVE_SWEEP_OWN, 1, &at_most));
}
