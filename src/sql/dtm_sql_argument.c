/* -------------------------------------------------------------------------
 *
 * dtm_sql_argument.c
 *		Arguments that must be there, for functions that are not STRICT.
 *
 * Runs in backends and executors.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "dtm_sql.h"

text *
dtm_sql_required(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("\"%s\" must not be NULL", name)));
	return PG_GETARG_TEXT_PP(n);
}

char *
dtm_sql_required_string(FunctionCallInfo fcinfo, int n, const char *name)
{
	return text_to_cstring(dtm_sql_required(fcinfo, n, name));
}
