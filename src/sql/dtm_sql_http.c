/* -------------------------------------------------------------------------
 *
 * dtm_sql_http.c
 *		dtm_http_token_create and dtm_http_token_drop: who may use the HTTP
 *		API as which role.
 *
 * Whoever has a token is its role as if he had logged in: so a token is made
 * by whom the role could be become with SET ROLE.
 *
 * Not here: looking at tokens of requests (src/serve/dtm_serve_access.c).
 * Runs in backends.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "dtm_compat.h"
#include "dtm_sql.h"

PG_FUNCTION_INFO_V1(dtm_sql_http_token_create);
PG_FUNCTION_INFO_V1(dtm_sql_http_token_drop);

#define MAX_NAME 128

static char *
name_argument(FunctionCallInfo fcinfo, int n)
{
	char *name = dtm_sql_required_string(fcinfo, n, "name");
	bool plain = name[0] != '\0' && strlen(name) <= MAX_NAME;

	for (const unsigned char *c = (const unsigned char *) name; *c != '\0'; c++)
		plain = plain && *c >= 0x20 && *c != 0x7f;
	if (!plain)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"name\" must have 1 to %d bytes and no control characters", MAX_NAME)));
	return name;
}

/* When a token expires that is made now. */
static TimestampTz
expiry(FunctionCallInfo fcinfo, int n)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz expires;

	if (PG_ARGISNULL(n))
		return DT_NOEND;
	expires = DatumGetTimestampTz(
		DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(now), PG_GETARG_DATUM(n)));
	if (expires <= now)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("\"expires_in\" must be positive"),
				 errhint("NULL, the default, is a token that does not expire.")));
	return expires;
}

static void
check_may_become(Oid role, const char *name)
{
	if (!dtm_may_become(GetUserId(), role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for token \"%s\" of role \"%s\"", name,
						GetUserNameFromId(role, true) != NULL ? GetUserNameFromId(role, true)
															  : "(dropped)"),
				 errhint("It takes the right to SET ROLE to that role.")));
}

/*
 * dtm_http_token_create(role, name, expires_in) - a new token that stands for
 * the role; returned this once, stored is its hash.
 *
 * 22004, 22023, 22008 about the arguments; 42704 no such role; 42501 the
 * caller cannot become it; 42710 the name is taken.
 */
Datum
dtm_sql_http_token_create(PG_FUNCTION_ARGS)
{
	static const char prefix[] = DTM_HTTP_TOKEN_PREFIX;
	uint8 secret[32];
	char token[sizeof(prefix) + 2 * sizeof(secret)];
	char *name;
	TimestampTz expires;
	Oid role;

	PreventCommandIfReadOnly("dtm_http_token_create()");
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("\"role\" must not be NULL")));
	role = PG_GETARG_OID(0);
	name = name_argument(fcinfo, 1);
	expires = expiry(fcinfo, 2);

	/* a regrole may be a number, too, or "-" */
	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(role)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role with OID %u does not exist", role)));
	check_may_become(role, name);
	if (!pg_strong_random(secret, sizeof(secret)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate a token: no random numbers")));
	strcpy(token, prefix);
	for (size_t i = 0; i < sizeof(secret); i++)
		snprintf(token + sizeof(prefix) - 1 + 2 * i, 3, "%02x", secret[i]);
	if (!dtm_store_token_add(token, name, role, expires))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT), errmsg("token \"%s\" already exists", name),
				 errhint("dtm_http_token_drop() ends the one that has the name.")));
	explicit_bzero(secret, sizeof(secret));
	PG_RETURN_TEXT_P(cstring_to_text(token));
}

/*
 * dtm_http_token_drop(name) - it does not work any more from the commit on.
 * 42704 there is none; 42501 the caller cannot become its role; 22004, 22023.
 */
Datum
dtm_sql_http_token_drop(PG_FUNCTION_ARGS)
{
	char *name = name_argument(fcinfo, 0);
	Oid role;

	PreventCommandIfReadOnly("dtm_http_token_drop()");
	role = dtm_store_token_role(name);
	if (OidIsValid(role))
		check_may_become(role, name);
	if (!OidIsValid(role) || !dtm_store_token_drop(name, role))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("token \"%s\" does not exist", name),
				 errhint("dtm.http_tokens has those there are.")));
	PG_RETURN_VOID();
}
