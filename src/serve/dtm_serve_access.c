/* -------------------------------------------------------------------------
 *
 * dtm_serve_access.c
 *		Whose request it is, and what that role may do.
 *
 * A request with a token is its role's, wherever it comes from.  One without
 * is let in as dtm.http_anonymous says.  Then a role may do what it may do in
 * SQL: nothing else is granted or asked for here.
 *
 * Nothing about tokens, roles or rights is kept from one request to the next:
 * what was dropped or revoked is gone with its commit.
 *
 * Runs in the coordinator.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_proc.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "dtm_compat.h"
#include "dtm_serve.h"
#include "dtm_settings.h"
#include "dtm_sql.h"

/* What is needed for a request: a function or a view, by its number in the process. */
typedef struct Right
{
	const char *name;
	bool view;    /* of the schema dtm; else a function of the extension */
	Oid function; /* when it was found last */
} Right;

enum
{
	RIGHT_GID,
	RIGHT_SAGA_SUBMIT,
	RIGHT_MSG_PREPARE,
	RIGHT_MSG_SUBMIT,
	RIGHT_TCC_BEGIN,
	RIGHT_TCC_REGISTER,
	RIGHT_XA_BEGIN,
	RIGHT_XA_REGISTER,
	RIGHT_WORKFLOW_SUBMIT,
	RIGHT_SUBMIT,
	RIGHT_ABORT,
	RIGHT_STOP,
	RIGHT_RETRY,
	RIGHT_SUBSCRIBE,
	RIGHT_UNSUBSCRIBE,
	RIGHT_DROP_TOPIC,
	RIGHT_TRANSACTIONS,
	RIGHT_TOPICS,
	RIGHT_STATISTICS,
	RIGHT_NONE
};

static Right rights[] = {
	[RIGHT_GID] = {"dtm_gid", false, InvalidOid},
	[RIGHT_SAGA_SUBMIT] = {"dtm_saga_submit", false, InvalidOid},
	[RIGHT_MSG_PREPARE] = {"dtm_msg_prepare", false, InvalidOid},
	[RIGHT_MSG_SUBMIT] = {"dtm_msg_submit", false, InvalidOid},
	[RIGHT_TCC_BEGIN] = {"dtm_tcc_begin", false, InvalidOid},
	[RIGHT_TCC_REGISTER] = {"dtm_tcc_register", false, InvalidOid},
	[RIGHT_XA_BEGIN] = {"dtm_xa_begin", false, InvalidOid},
	[RIGHT_XA_REGISTER] = {"dtm_xa_register", false, InvalidOid},
	[RIGHT_WORKFLOW_SUBMIT] = {"dtm_workflow_submit", false, InvalidOid},
	[RIGHT_SUBMIT] = {"dtm_submit", false, InvalidOid},
	[RIGHT_ABORT] = {"dtm_abort", false, InvalidOid},
	[RIGHT_STOP] = {"dtm_stop", false, InvalidOid},
	[RIGHT_RETRY] = {"dtm_retry", false, InvalidOid},
	[RIGHT_SUBSCRIBE] = {"dtm_topic_subscribe", false, InvalidOid},
	[RIGHT_UNSUBSCRIBE] = {"dtm_topic_unsubscribe", false, InvalidOid},
	[RIGHT_DROP_TOPIC] = {"dtm_topic_drop", false, InvalidOid},
	[RIGHT_TRANSACTIONS] = {"transactions", true, InvalidOid},
	[RIGHT_TOPICS] = {"topics", true, InvalidOid},
	[RIGHT_STATISTICS] = {"statistics", true, InvalidOid},
};

/* ---- what a role may ---- */

static int
right_of_type(DtmTransType type, bool prepare)
{
	switch (type)
	{
		case DTM_TYPE_SAGA:
			return RIGHT_SAGA_SUBMIT;
		case DTM_TYPE_MSG:
			return prepare ? RIGHT_MSG_PREPARE : RIGHT_MSG_SUBMIT;
		case DTM_TYPE_TCC:
			return prepare ? RIGHT_TCC_BEGIN : RIGHT_SUBMIT;
		case DTM_TYPE_XA:
			return prepare ? RIGHT_XA_BEGIN : RIGHT_SUBMIT;
		default:
			return prepare ? RIGHT_WORKFLOW_SUBMIT : RIGHT_SUBMIT;
	}
}

static int
right_of_branch(DtmTransType type)
{
	if (type == DTM_TYPE_TCC)
		return RIGHT_TCC_REGISTER;
	return type == DTM_TYPE_XA ? RIGHT_XA_REGISTER : RIGHT_WORKFLOW_SUBMIT;
}

static int
right_of(const DtmApiCall *api)
{
	switch (api->route)
	{
		case DTM_API_NEW_GID:
			return RIGHT_GID;
		case DTM_API_PREPARE:
		case DTM_API_SUBMIT:
			return right_of_type(api->trans.type, api->route == DTM_API_PREPARE);
		case DTM_API_ABORT:
			return RIGHT_ABORT;
		case DTM_API_REGISTER_BRANCH:
			return right_of_branch(api->branch.type);
		case DTM_API_PREPARE_WORKFLOW:
			return RIGHT_WORKFLOW_SUBMIT;
		case DTM_API_FORCE_STOP:
			return RIGHT_STOP;
		case DTM_API_RESET_NEXT_CRON_TIME:
		case DTM_API_RESET_CRON_TIME:
			return RIGHT_RETRY;
		case DTM_API_QUERY:
		case DTM_API_ALL:
			return RIGHT_TRANSACTIONS;
		case DTM_API_SUBSCRIBE:
			return RIGHT_SUBSCRIBE;
		case DTM_API_UNSUBSCRIBE:
			return RIGHT_UNSUBSCRIBE;
		case DTM_API_DELETE_TOPIC:
			return RIGHT_DROP_TOPIC;
		case DTM_API_SCAN_KV:
		case DTM_API_QUERY_KV:
			return RIGHT_TOPICS;
		case DTM_API_METRICS:
			return RIGHT_STATISTICS;
		case DTM_API_NOT_FOUND:
		case DTM_API_WRONG_METHOD:
		case DTM_API_VERSION:
		case DTM_API_JSON_RPC:
		case DTM_API_PING:
		case DTM_API_ROUTES:
			break;
	}
	return RIGHT_NONE;
}

/* The schema of a function that is still there under that name; else InvalidOid. */
static Oid
schema_of(Oid function, const char *name)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Oid schema = InvalidOid;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	if (strcmp(NameStr(((Form_pg_proc) GETSTRUCT(tuple))->proname), name) == 0)
		schema = ((Form_pg_proc) GETSTRUCT(tuple))->pronamespace;
	ReleaseSysCache(tuple);
	return schema;
}

static bool
may_execute(Right *right, Oid extension, Oid role)
{
	Oid schema = OidIsValid(right->function) ? schema_of(right->function, right->name) : InvalidOid;

	/* by what belongs to the extension, for anybody may have a function of that name */
	if (!OidIsValid(schema))
	{
		right->function = dtm_store_own_function(extension, right->name);
		if (OidIsValid(right->function))
			schema = schema_of(right->function, right->name);
	}
	return OidIsValid(schema) && dtm_schema_aclcheck(schema, role) == ACLCHECK_OK &&
		dtm_function_aclcheck(right->function, role) == ACLCHECK_OK;
}

static bool
may_select(const Right *right, Oid role)
{
	Oid view = dtm_store_relation(right->name);

	return dtm_schema_aclcheck(get_rel_namespace(view), role) == ACLCHECK_OK &&
		pg_class_aclcheck(view, role, ACL_SELECT) == ACLCHECK_OK;
}

bool
dtm_serve_may(const DtmServeCall *call)
{
	int right = right_of(&call->api);

	if (right == RIGHT_NONE)
		return true;
	return rights[right].view ? may_select(&rights[right], call->role)
							  : may_execute(&rights[right], call->c->extension, call->role);
}

/* ---- whose it is ---- */

static bool
refuse(DtmServeCall *call, DtmApiOutcome outcome, const char *message)
{
	dtm_serve_say(call, outcome, message);
	return false;
}

static bool
refuse_unknown(DtmServeCall *call, const char *message)
{
	return refuse(call, DTM_API_UNAUTHORIZED, message);
}

/*
 * The token in "Bearer dtm_...", or NULL.  Blanks around it and the case of
 * the first word do not matter.
 */
static const char *
bearer_token(const char *authorization)
{
	static const char scheme[] = "Bearer";
	const char *start = authorization + sizeof(scheme) - 1;
	char *token;
	size_t len;

	if (pg_strncasecmp(authorization, scheme, sizeof(scheme) - 1) != 0 ||
		(*start != ' ' && *start != '\t'))
		return NULL;
	start += strspn(start, " \t");
	token = pstrdup(start);
	len = strlen(token);
	while (len > 0 && (token[len - 1] == ' ' || token[len - 1] == '\t'))
		token[--len] = '\0';
	if (len != DTM_HTTP_TOKEN_LEN ||
		strncmp(token, DTM_HTTP_TOKEN_PREFIX, sizeof(DTM_HTTP_TOKEN_PREFIX) - 1) != 0)
		return NULL;

	/* what no token has would not be text in every encoding */
	return strspn(token + sizeof(DTM_HTTP_TOKEN_PREFIX) - 1, "0123456789abcdef") ==
			len - (sizeof(DTM_HTTP_TOKEN_PREFIX) - 1)
		? token
		: NULL;
}

static bool
take_token(DtmServeCall *call, const char *authorization)
{
	const char *token = bearer_token(authorization);

	call->role = token != NULL ? dtm_store_token_find(token) : InvalidOid;
	call->anonymous = false;
	if (!OidIsValid(call->role) || !SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(call->role)))
		return refuse_unknown(call,
							  "the token is not known here, or has expired; the header is "
							  "\"Authorization: Bearer dtm_...\"");
	return true;
}

/* Does "127.0.0.1:53211" or "[::1]:53211" come from this machine? */
static bool
is_loopback(const char *peer)
{
	return strncmp(peer, "127.", 4) == 0 || strncmp(peer, "[::1]", 5) == 0 ||
		pg_strncasecmp(peer, "[::ffff:127.", 12) == 0;
}

/* The role of those who say nothing about who they are. */
static bool
take_anonymous_role(DtmServeCall *call)
{
	if (dtm_http_role == NULL || dtm_http_role[0] == '\0')
	{
		call->role = dtm_store_owner();
		call->anonymous = true;
		return true;
	}
	call->role = get_role_oid(dtm_http_role, true);
	call->anonymous = false;
	if (OidIsValid(call->role))
		return true;
	if (dtm_tick_may_log(call->c))
		ereport(LOG,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("requests to the HTTP API without a token are refused: role \"%s\" does not exist",
						dtm_http_role),
				 errhint("See the setting dtm.http_role.")));
	return refuse(call, DTM_API_BUSY, "the role in dtm.http_role does not exist");
}

static bool
take_anonymous(DtmServeCall *call)
{
	const DtmHttpdRequest *request = call->request;

	if (dtm_http_anonymous == DTM_HTTP_ANONYMOUS_OFF)
		return refuse_unknown(call, "a token is needed: \"Authorization: Bearer dtm_...\"");
	if (dtm_http_anonymous == DTM_HTTP_ANONYMOUS_LOOPBACK &&
		(!is_loopback(request->peer) || request->relayed))
		return refuse_unknown(call,
							  "a token is needed from other machines: \"Authorization: Bearer dtm_...\"");

	/* any page that a browser on this machine shows can send requests here */
	if (request->from_page)
		return refuse(call, DTM_API_FORBIDDEN, "a token is needed for requests of web pages");
	if (dtm_http_anonymous == DTM_HTTP_ANONYMOUS_LOOPBACK && request->by_domain)
		return refuse(call, DTM_API_FORBIDDEN,
					  "without a token the address must be an IP address or localhost");
	return take_anonymous_role(call);
}

/* A name of any encoding, for an answer, which is UTF-8. */
static char *
plain_name(Oid role)
{
	char *name = GetUserNameFromId(role, false);

	for (char *c = name; *c != '\0'; c++)
	{
		if (IS_HIGHBIT_SET(*c))
			*c = '?';
	}
	return name;
}

bool
dtm_serve_access(DtmServeCall *call)
{
	const char *authorization = call->request->authorization;

	/* shows nothing and changes nothing: also for who only wants to know whether it runs */
	if (right_of(&call->api) == RIGHT_NONE)
	{
		call->role = dtm_store_owner();
		call->anonymous = true;
		return true;
	}
	if (authorization != NULL ? !take_token(call, authorization) : !take_anonymous(call))
		return false;
	if (!dtm_serve_may(call))
	{
		const Right *right = &rights[right_of(&call->api)];

		return refuse(call, DTM_API_FORBIDDEN,
					  psprintf("role \"%s\" needs %s on %s%s", plain_name(call->role),
							   right->view ? "SELECT" : "EXECUTE", right->view ? "dtm." : "",
							   right->name));
	}
	return true;
}
