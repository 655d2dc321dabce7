/* -------------------------------------------------------------------------
 *
 * dtm_sql_submit.c
 *		dtm_gid and the submits of sagas, messages and TCC transactions: a
 *		submit is two rows of the caller's own transaction; its commit is the
 *		promise.
 *
 * Not here: what they share (dtm_sql_store.c, dtm_sql_steps.c).
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "dtm_sql.h"

PG_FUNCTION_INFO_V1(dtm_sql_gid);
PG_FUNCTION_INFO_V1(dtm_sql_saga_submit);
PG_FUNCTION_INFO_V1(dtm_sql_msg_submit);
PG_FUNCTION_INFO_V1(dtm_sql_msg_prepare);
PG_FUNCTION_INFO_V1(dtm_sql_tcc_submit);

/*
 * dtm_gid() - a new unique gid of 22 characters that sorts by time.
 */
Datum
dtm_sql_gid(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(dtm_sql_new_gid()));
}

/* A builder with the steps, the first argument, in it; what is the name of the function. */
static DtmSpecBuilder *
begin(FunctionCallInfo fcinfo, const char *what, DtmArena *arena, DtmTransType type,
	  uint32_t *flags)
{
	DtmSpecError error;
	DtmSpecBuilder *builder;

	PreventCommandIfReadOnly(what);
	builder = dtm_spec_begin(arena, type, &error);
	if (builder == NULL)
		dtm_sql_spec_error(&error);
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("\"%s\" must not be NULL", dtm_spec_list_name(builder))));
	dtm_sql_steps(builder, PG_GETARG_JSONB_P(0), flags);
	dtm_spec_set_flags(builder, *flags);
	return builder;
}

static char *
gid_argument(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

/* The arguments (steps, gid, concurrent, OPTIONS) of a saga and of a tcc. */
static Datum
submit_steps(FunctionCallInfo fcinfo, const char *what, DtmTransType type)
{
	DtmArena arena = dtm_arena(CurrentMemoryContext);
	uint32_t flags = 0;
	DtmSpecBuilder *builder = begin(fcinfo, what, &arena, type, &flags);

	if (!PG_ARGISNULL(2) && PG_GETARG_BOOL(2))
		dtm_spec_set_flags(builder, flags | DTM_FLAG_CONCURRENT);
	dtm_sql_take_options(fcinfo, 3, builder);
	PG_RETURN_TEXT_P(dtm_sql_store(builder, gid_argument(fcinfo, 1)));
}

/*
 * dtm_saga_submit(steps, gid, concurrent, OPTIONS) - returns the gid.
 *
 * 22004 steps NULL; 22023, 54000, 0A000 what the steps or options get wrong,
 * naming step and field; 42883, 42P13, 42501 about sql: functions; 42501
 * target not allowed; 23505 gid taken by other content.
 */
Datum
dtm_sql_saga_submit(PG_FUNCTION_ARGS)
{
	return submit_steps(fcinfo, "dtm_saga_submit()", DTM_TYPE_SAGA);
}

/*
 * dtm_tcc_submit(branches, gid, concurrent, OPTIONS) - returns the gid of a
 * tcc whose Try calls the coordinator makes.  Errors as dtm_saga_submit.
 */
Datum
dtm_sql_tcc_submit(PG_FUNCTION_ARGS)
{
	return submit_steps(fcinfo, "dtm_tcc_submit()", DTM_TYPE_TCC);
}

/* The delay of a message, the n-th argument; start_after is the same thing for all types. */
static void
take_delay(FunctionCallInfo fcinfo, int n, int first_option, DtmSpecBuilder *builder)
{
	if (PG_ARGISNULL(n))
		return;
	if (!PG_ARGISNULL(first_option + DTM_OPTION_START_AFTER))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"delay\" and \"start_after\" must not be given both"),
				 errhint("They mean the same: the time until the first delivery.")));
	dtm_sql_check(builder,
				  dtm_spec_set_delay(builder, dtm_sql_interval_ms(PG_GETARG_INTERVAL_P(n))));
}

/* It is taken, for every submit has the same options, but nobody shall rely on it. */
static void
warn_of_limit(FunctionCallInfo fcinfo, int first_option)
{
	if (!PG_ARGISNULL(first_option + DTM_OPTION_RETRY_LIMIT))
		ereport(WARNING,
				(errcode(ERRCODE_WARNING), errmsg("\"retry_limit\" has no effect on a message"),
				 errdetail("A message is delivered until it succeeds.")));
}

/*
 * dtm_msg_submit(steps, gid, delay, OPTIONS) - returns the gid.
 *
 * Errors as dtm_saga_submit; 22023 also when delay and start_after are given.
 */
Datum
dtm_sql_msg_submit(PG_FUNCTION_ARGS)
{
	DtmArena arena = dtm_arena(CurrentMemoryContext);
	uint32_t flags = 0;
	DtmSpecBuilder *builder = begin(fcinfo, "dtm_msg_submit()", &arena, DTM_TYPE_MSG, &flags);

	take_delay(fcinfo, 2, 3, builder);
	dtm_sql_take_options(fcinfo, 3, builder);
	warn_of_limit(fcinfo, 3);
	PG_RETURN_TEXT_P(dtm_sql_store(builder, gid_argument(fcinfo, 1)));
}

/*
 * dtm_msg_prepare(steps, query_prepared, gid, delay, OPTIONS) - returns the
 * gid of a message that waits for dtm_submit or dtm_abort, or for the answer
 * of query_prepared once timeout_to_fail is over.
 *
 * Errors as dtm_msg_submit; 22004, 22023 query_prepared missing.
 */
Datum
dtm_sql_msg_prepare(PG_FUNCTION_ARGS)
{
	DtmArena arena = dtm_arena(CurrentMemoryContext);
	uint32_t flags = 0;
	DtmSpecBuilder *builder = begin(fcinfo, "dtm_msg_prepare()", &arena, DTM_TYPE_MSG, &flags);
	text *query;

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("\"query_prepared\" must not be NULL"),
				 errhint("Give the URL, or the sql: function, that knows whether the local part "
						 "has committed; without such a part take dtm_msg_submit.")));
	query = PG_GETARG_TEXT_PP(1);
	dtm_sql_check(builder,
				  dtm_spec_set_query_prepared(builder, VARDATA_ANY(query),
											  VARSIZE_ANY_EXHDR(query)));
	take_delay(fcinfo, 3, 4, builder);
	dtm_sql_take_options(fcinfo, 4, builder);
	warn_of_limit(fcinfo, 4);
	PG_RETURN_TEXT_P(dtm_sql_store(builder, gid_argument(fcinfo, 2)));
}
