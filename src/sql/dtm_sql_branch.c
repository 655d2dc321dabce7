/* -------------------------------------------------------------------------
 *
 * dtm_sql_branch.c
 *		What a sql: branch says and asks: dtm_fail, dtm_ongoing, dtm_context.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"

#include "dtm_executor.h"

PG_FUNCTION_INFO_V1(dtm_sql_fail);
PG_FUNCTION_INFO_V1(dtm_sql_ongoing);
PG_FUNCTION_INFO_V1(dtm_sql_context);

/*
 * dtm_fail(reason) - business failure, as HTTP 409: raises DTM01.
 */
Datum
dtm_sql_fail(PG_FUNCTION_ARGS)
{
	ereport(ERROR,
			(errcode(DTM_ERRCODE_FAIL),
			 errmsg("%s", PG_ARGISNULL(0) ? "failed" : text_to_cstring(PG_GETARG_TEXT_PP(0)))));
}

/*
 * dtm_ongoing(reason) - not finished yet, as HTTP 425: raises DTM02.
 */
Datum
dtm_sql_ongoing(PG_FUNCTION_ARGS)
{
	ereport(ERROR,
			(errcode(DTM_ERRCODE_ONGOING),
			 errmsg("%s", PG_ARGISNULL(0) ? "ongoing" : text_to_cstring(PG_GETARG_TEXT_PP(0)))));
}

static void
append_member(StringInfo out, const char *name, const char *value)
{
	appendStringInfo(out, "%c\"%s\":", out->len == 0 ? '{' : ',', name);
	escape_json(out, value);
}

/*
 * dtm_context() - which call a sql: branch serves; NULL elsewhere.
 */
Datum
dtm_sql_context(PG_FUNCTION_ARGS)
{
	StringInfoData out;

	if (dtm_call_context.gid == NULL)
		PG_RETURN_NULL();
	initStringInfo(&out);
	append_member(&out, "gid", dtm_call_context.gid);
	append_member(&out, "trans_type", dtm_call_context.trans_type);
	append_member(&out, "branch_id", dtm_call_context.branch_id);
	append_member(&out, "op", dtm_call_context.op);
	appendStringInfoChar(&out, '}');
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(out.data)));
}
