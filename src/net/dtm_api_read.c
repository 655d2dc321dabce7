/* -------------------------------------------------------------------------
 *
 * dtm_api_read.c
 *		Requests of DTM's HTTP API as plain structs.
 *
 * What clients send is taken as DTM takes it: null is as good as absent,
 * unknown members do not count, names of members may be written in capitals,
 * of a member that is there twice the last one counts.  What DTM would store
 * and choke on later is refused here.
 *
 * Not here: rules about steps and options (src/core), the members that make
 * the spec (dtm_wire_json.c).  Runs in the coordinator, on bytes from anybody.
 *
 * -------------------------------------------------------------------------
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "dtm_api_internal.h"
#include "dtm_json_internal.h"

#define MAX_WORD 45 /* bytes of an op, as in DTM's tables */
#define DEFAULT_LIMIT 100
#define LAST_MS INT64_C(253402300799000) /* of the year 9999 */
#define MS_1970_TO_2000 INT64_C(946684800000)

/* While one request is read. */
typedef struct Reading
{
	DtmApiCall *call;
	DtmArena *arena;
	DtmApiAnswer *answer;
	const char *uri;
	bool escape; /* CR, LF and ";" of a gid do not count */
} Reading;

/* Members of the object of a transaction; all are small letters. */
static const char *const members[] = {"gid",
									  "trans_type",
									  "steps",
									  "payloads",
									  "query_prepared",
									  "protocol",
									  "custom_data",
									  "wait_result",
									  "timeout_to_fail",
									  "request_timeout",
									  "retry_interval",
									  "branch_headers",
									  "concurrent",
									  "retry_limit",
									  "rollback_reason",
									  "req_extra"};

#define N_MEMBERS (sizeof(members) / sizeof(members[0]))

#define REFUSE(reading, ...) \
	dtm_api_say((reading)->call, DTM_API_ERROR, (reading)->arena, (reading)->answer, __VA_ARGS__)

/* ---- values ---- */

static bool
copy(Reading *reading, const char *data, size_t len, DtmText *text)
{
	char *bytes = reading->arena->alloc(reading->arena->context, len + 1);

	if (bytes == NULL || len > UINT32_MAX)
		return REFUSE(reading, "out of memory");
	memcpy(bytes, data, len);
	bytes[len] = '\0';
	text->data = bytes;
	text->len = (uint32_t) len;
	return true;
}

/* Any bytes; empty when it is not there or null. */
static bool
read_bytes(Reading *reading, json_t *object, const char *key, DtmText *text)
{
	json_t *value = json_object_get(object, key);

	*text = dtm_api_text("");
	if (value == NULL || json_is_null(value))
		return true;
	if (!json_is_string(value))
		return REFUSE(reading, "\"%s\" must be a string", key);
	return copy(reading, json_string_value(value), json_string_length(value), text);
}

/* Text, which has no NUL. */
static bool
read_text(Reading *reading, json_t *object, const char *key, DtmText *text)
{
	if (!read_bytes(reading, object, key, text))
		return false;
	if (text->len > 0 && memchr(text->data, '\0', text->len) != NULL)
		return REFUSE(reading, "\"%s\" contains a NUL character", key);
	return true;
}

/* One line. */
static bool
read_word(Reading *reading, json_t *object, const char *key, DtmText *text)
{
	if (!read_bytes(reading, object, key, text))
		return false;
	if (!dtm_api_is_plain(*text))
		return REFUSE(reading, "\"%s\" contains a control character", key);
	return true;
}

static bool
read_bool(Reading *reading, json_t *object, const char *key, bool *value)
{
	json_t *found = json_object_get(object, key);

	*value = json_is_true(found);
	if (found != NULL && !json_is_null(found) && !json_is_boolean(found))
		return REFUSE(reading, "\"%s\" must be true or false", key);
	return true;
}

/* DTM takes CR, LF and ";" out of gids in bodies; clients do not know. */
static bool
read_gid(Reading *reading, json_t *object, DtmText *gid)
{
	const char *problem;
	char *data;
	uint32_t len = 0;

	if (!read_bytes(reading, object, "gid", gid))
		return false;
	if (reading->escape && gid->len > 0)
	{
		data = (char *) (uintptr_t) gid->data; /* our copy */
		for (uint32_t i = 0; i < gid->len; i++)
		{
			if (data[i] != '\r' && data[i] != '\n' && data[i] != ';')
				data[len++] = data[i];
		}
		gid->len = len;
	}
	problem = dtm_gid_check(gid->data, gid->len);
	return problem == NULL || REFUSE(reading, "%s", problem);
}

/* 0 when none is given. */
static bool
read_type(Reading *reading, json_t *object, DtmTransType *type)
{
	DtmText name;

	*type = (DtmTransType) 0;
	if (!read_word(reading, object, "trans_type", &name))
		return false;
	if (name.len == 0)
		return true;
	*type = dtm_type_from_name(name.data, name.len);
	return *type != 0 ||
		REFUSE(reading, "unknow trans type: %.*s", (int) (name.len < 60 ? name.len : 60),
			   name.data);
}

/* ---- the object of a transaction ---- */

/*
 * Members written in capitals get their proper name, unless that is there
 * as well: Go's decoder, which DTM has, takes either.
 */
static void
lower_names(json_t *object)
{
	json_t *found[N_MEMBERS] = {NULL};
	const char *key;
	json_t *value;

	json_object_foreach(object, key, value)
	{
		const char *c = key;

		while (*c != '\0' && !isupper((unsigned char) *c))
			c++;
		if (*c == '\0')
			continue;
		for (size_t i = 0; i < N_MEMBERS; i++)
		{
			if (strcasecmp(key, members[i]) == 0)
				found[i] = value;
		}
	}
	for (size_t i = 0; i < N_MEMBERS; i++)
	{
		if (found[i] != NULL && json_object_get(object, members[i]) == NULL)
			(void) json_object_set(object, members[i], found[i]);
	}
}

static bool
spec_refused(Reading *reading, const DtmSpecError *error)
{
	dtm_api_spec_refused(reading->call, error, reading->arena, reading->answer);
	return false;
}

/* Everything that is to be stored. */
static bool
read_spec(Reading *reading, json_t *object, DtmApiTrans *trans)
{
	bool steps = trans->type == DTM_TYPE_SAGA || trans->type == DTM_TYPE_MSG;
	DtmText query;
	DtmSpecError error;
	bool ok;

	if (!read_word(reading, object, "query_prepared", &query))
		return false;
	trans->builder = steps ? dtm_spec_begin(reading->arena, trans->type, &error)
						   : dtm_spec_begin_growing(reading->arena, trans->type, &error);
	if (trans->builder == NULL)
		return spec_refused(reading, &error);
	if (steps)
		ok = dtm_wire_request(trans->builder, object, DTM_WIRE_TOLERANT, &trans->flags);
	else
	{
		trans->flags = DTM_FLAG_CLIENT_RUN;
		ok = dtm_wire_options(trans->builder, object, DTM_WIRE_TOLERANT, &trans->flags);
		dtm_spec_set_flags(trans->builder, trans->flags);
	}
	if (ok && query.len > 0 && (trans->type == DTM_TYPE_MSG || trans->type == DTM_TYPE_WORKFLOW))
		ok = dtm_spec_set_query_prepared(trans->builder, query.data, query.len);
	if (ok && trans->workflow_name.len > 0)
		ok = dtm_spec_set_workflow(trans->builder, trans->workflow_name.data,
								   trans->workflow_name.len, trans->workflow_data.data,
								   trans->workflow_data.len);
	return ok || spec_refused(reading, dtm_spec_error(trans->builder));
}

/*
 * custom_data of a workflow: {"name": ..., "data": base64}.  Every SDK sends
 * it; without it there is neither, as good for asking how far one is.
 */
static bool
read_workflow(Reading *reading, DtmApiTrans *trans)
{
	DtmText base64;
	bool ok;
	json_t *custom;

	trans->workflow_name = trans->workflow_data = (DtmText){NULL, 0};
	if (trans->custom_data.len == 0)
		return true;
	custom = dtm_json_load(trans->custom_data.data, trans->custom_data.len, NULL, 0);
	if (!json_is_object(custom))
	{
		json_decref(custom);
		return REFUSE(reading, "\"custom_data\" is not the text of a JSON object");
	}
	ok = read_word(reading, custom, "name", &trans->workflow_name) &&
		read_text(reading, custom, "data", &base64);
	json_decref(custom);
	if (!ok)
		return false;
	if (trans->workflow_name.len == 0 || trans->workflow_name.len > DTM_MAX_NAME_LEN)
		return REFUSE(reading, "\"name\" in \"custom_data\" must have 1 to %d bytes",
					  DTM_MAX_NAME_LEN);
	if (base64.len > 0 && !dtm_api_base64_decode(base64, reading->arena, &trans->workflow_data))
		return REFUSE(reading, "\"data\" in \"custom_data\" is not base64");
	return true;
}

/* req_extra: how a workflow that its client runs has ended. */
static bool
read_end(Reading *reading, json_t *object, DtmApiTrans *trans)
{
	json_t *extra = json_object_get(object, "req_extra");
	DtmText status;
	DtmText bytes;

	if (!read_word(reading, extra, "status", &status) ||
		!read_text(reading, extra, "rollback_reason", &trans->end_reason) ||
		!read_text(reading, extra, "result", &trans->end_result))
		return false;
	trans->end_status = DTM_STATUS_NONE;
	if (status.len == 7 && memcmp(status.data, "succeed", 7) == 0)
		trans->end_status = DTM_STATUS_SUCCEED;
	else if (status.len == 6 && memcmp(status.data, "failed", 6) == 0)
		trans->end_status = DTM_STATUS_FAILED;
	if (trans->end_status == DTM_STATUS_NONE)
		return REFUSE(reading, "\"status\" in \"req_extra\" must be succeed or failed");
	if (trans->end_result.len > 0 &&
		!dtm_api_base64_decode(trans->end_result, reading->arena, &bytes))
		return REFUSE(reading, "\"result\" in \"req_extra\" is not base64");
	return true;
}

static bool
read_trans(Reading *reading, json_t *object)
{
	DtmApiRoute route = reading->call->route;
	DtmApiTrans *trans = &reading->call->trans;

	lower_names(object);
	if (!read_gid(reading, object, &trans->gid))
		return false;
	if (route == DTM_API_FORCE_STOP || route == DTM_API_RESET_NEXT_CRON_TIME)
		return true; /* nothing else counts */
	if (!read_type(reading, object, &trans->type) ||
		!read_word(reading, object, "protocol", &trans->protocol) ||
		!read_text(reading, object, "custom_data", &trans->custom_data) ||
		!read_text(reading, object, "rollback_reason", &trans->rollback_reason) ||
		!read_bool(reading, object, "wait_result", &trans->wait_result))
		return false;
	if (trans->protocol.len == 0)
		trans->protocol = dtm_api_text("http");
	if (route == DTM_API_PREPARE_WORKFLOW)
	{
		if (trans->type == 0)
			trans->type = DTM_TYPE_WORKFLOW;
		if (trans->type != DTM_TYPE_WORKFLOW)
			return REFUSE(reading, "prepareWorkflow is for transactions of type workflow");
		return read_workflow(reading, trans) && read_spec(reading, object, trans);
	}
	if (route != DTM_API_PREPARE && route != DTM_API_SUBMIT)
		return true;
	if (trans->type == 0)
		return REFUSE(reading, "unknow trans type: ");
	if (trans->type != DTM_TYPE_WORKFLOW)
		return read_spec(reading, object, trans);
	return route == DTM_API_SUBMIT
		? read_end(reading, object, trans)
		: read_workflow(reading, trans) && read_spec(reading, object, trans);
}

/* ---- registerBranch ---- */

/* One branch of a tcc or an xa. */
static bool
read_branch_spec(Reading *reading, json_t *object, DtmApiBranch *branch)
{
	static const struct
	{
		DtmTransType type;
		DtmRole role;
		const char *key;
	} targets[] = {{DTM_TYPE_TCC, DTM_ROLE_CONFIRM, "confirm"},
				   {DTM_TYPE_TCC, DTM_ROLE_UNDO, "cancel"},
				   {DTM_TYPE_XA, DTM_ROLE_CONFIRM, "url"},
				   {DTM_TYPE_XA, DTM_ROLE_UNDO, "url"}};
	DtmSpecError error;
	bool ok;

	branch->builder = dtm_spec_begin_growing(reading->arena, branch->type, &error);
	if (branch->builder == NULL)
		return spec_refused(reading, &error);
	ok = dtm_spec_branch_begin(branch->builder, DTM_STEP_CALL, branch->branch_id.data,
							   branch->branch_id.len);
	for (size_t i = 0; ok && i < sizeof(targets) / sizeof(targets[0]); i++)
	{
		DtmText url;

		if (targets[i].type != branch->type)
			continue;
		if (!read_word(reading, object, targets[i].key, &url))
			return false;
		ok = dtm_spec_branch_target(branch->builder, targets[i].role, targets[i].key, url.data,
									url.len);
	}
	if (ok && branch->type == DTM_TYPE_TCC)
		ok = dtm_spec_step_payload_bytes(branch->builder, 0, branch->data.data, branch->data.len);
	return ok || spec_refused(reading, dtm_spec_error(branch->builder));
}

/* A step of a workflow that its client has done. */
static bool
check_memo(Reading *reading, const DtmApiBranch *branch)
{
	if (branch->op.len == 0 || branch->op.len > MAX_WORD)
		return REFUSE(reading, "\"op\" must have 1 to %d bytes", MAX_WORD);
	if (!(branch->status.len == 7 && memcmp(branch->status.data, "succeed", 7) == 0) &&
		!(branch->status.len == 6 && memcmp(branch->status.data, "failed", 6) == 0))
		return REFUSE(reading, "\"status\" must be succeed or failed");
	return true;
}

/* The route of old clients names the type. */
static DtmTransType
type_of_alias(const char *uri)
{
	if (strstr(uri, "/registerTccBranch") != NULL)
		return DTM_TYPE_TCC;
	return strstr(uri, "/registerXaBranch") != NULL ? DTM_TYPE_XA : (DtmTransType) 0;
}

static bool
read_branch(Reading *reading, json_t *object)
{
	DtmApiBranch *branch = &reading->call->branch;
	const char *problem;
	const char *key;
	json_t *value;
	DtmText sync;

	/* DTM reads it as a map of strings */
	json_object_foreach(object, key, value)
	{
		if (!json_is_string(value) && !json_is_null(value))
			return dtm_api_say(reading->call, DTM_API_BAD_REQUEST, reading->arena, reading->answer,
							   "every member must be a string: \"%.60s\" is none", key);
	}
	if (!read_gid(reading, object, &branch->gid) || !read_type(reading, object, &branch->type) ||
		!read_word(reading, object, "branch_id", &branch->branch_id) ||
		!read_word(reading, object, "op", &branch->op) ||
		!read_word(reading, object, "status", &branch->status) ||
		!read_bytes(reading, object, "data", &branch->data) ||
		!read_bytes(reading, object, "sync", &sync))
		return false;
	branch->sync = sync.len > 0;
	if (branch->type == 0)
		branch->type = type_of_alias(reading->uri);
	problem = dtm_branch_id_check(branch->branch_id.data, branch->branch_id.len);
	if (problem != NULL)
		return REFUSE(reading, "%s", problem);
	switch (branch->type)
	{
		case DTM_TYPE_TCC:
		case DTM_TYPE_XA:
			return read_branch_spec(reading, object, branch);
		case DTM_TYPE_WORKFLOW:
			return check_memo(reading, branch);
		case DTM_TYPE_SAGA:
		case DTM_TYPE_MSG:
			break;
	}
	return REFUSE(reading, "unknow trans type: %s",
				  branch->type != 0 ? dtm_type_name(branch->type) : "");
}

/* ---- JSON-RPC ---- */

static bool
refuse_rpc(Reading *reading, int status, int code, const char *message)
{
	dtm_api_rpc(reading->call, status, code, dtm_api_text(message), reading->arena,
				reading->answer);
	return false;
}

/* The route of a method; NOT_FOUND when there is none. */
static DtmApiRoute
route_of(const char *method)
{
	static const struct
	{
		const char *name;
		DtmApiRoute route;
	} methods[] = {{"newGid", DTM_API_NEW_GID},
				   {"prepare", DTM_API_PREPARE},
				   {"submit", DTM_API_SUBMIT},
				   {"abort", DTM_API_ABORT},
				   {"registerBranch", DTM_API_REGISTER_BRANCH}};

	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
	{
		if (strcmp(methods[i].name, method) == 0)
			return methods[i].route;
	}
	return DTM_API_NOT_FOUND;
}

static bool
read_rpc(Reading *reading, json_t *request)
{
	DtmApiCall *call = reading->call;
	json_t *id = json_object_get(request, "id");
	json_t *version = json_object_get(request, "jsonrpc");
	json_t *method = json_object_get(request, "method");
	json_t *params = json_object_get(request, "params");
	json_t *none;
	char message[100] = "Method not found: ";
	bool ok;

	if (json_is_string(id) &&
		!copy(reading, json_string_value(id), json_string_length(id), &call->rpc_id))
		return false;
	if ((id != NULL && !json_is_string(id) && !json_is_null(id)) ||
		(method != NULL && !json_is_string(method) && !json_is_null(method)))
		return refuse_rpc(reading, 400, DTM_API_RPC_PARSE,
						  "Parse json error: \"id\" and \"method\" must be strings");
	if (call->rpc_id.len == 0 || !json_is_string(version) ||
		strcmp(json_string_value(version), "2.0") != 0)
		return refuse_rpc(reading, 200, DTM_API_RPC_REQUEST,
						  "Bad json request: \"jsonrpc\" must be 2.0, and \"id\" not empty");
	call->route = json_is_string(method) ? route_of(json_string_value(method)) : DTM_API_NOT_FOUND;
	if (call->route == DTM_API_NOT_FOUND)
	{
		call->route = DTM_API_JSON_RPC;
		strncat(message, json_is_string(method) ? json_string_value(method) : "", 60);
		return refuse_rpc(reading, 200, DTM_API_RPC_METHOD, message);
	}
	if (call->route == DTM_API_NEW_GID)
		return true;
	if (params != NULL && !json_is_null(params) && !json_is_object(params))
		return REFUSE(reading, "\"params\" must be an object");
	/* not by jansson's json_object(): in a server that name is PostgreSQL's own function */
	none = json_is_object(params) ? json_incref(params) : dtm_json_load("{}", 2, NULL, 0);
	if (none == NULL)
		return REFUSE(reading, "out of memory");
	ok = call->route == DTM_API_REGISTER_BRANCH ? read_branch(reading, none)
												: read_trans(reading, none);
	json_decref(none);
	return ok;
}

/* ---- bodies ---- */

static bool
read_body(Reading *reading, const char *body, size_t len)
{
	DtmApiRoute route = reading->call->route;
	char problem[200] = "it is no object";
	json_t *object = dtm_json_load(body, len, problem, sizeof(problem));
	bool ok;

	if (!json_is_object(object))
	{
		json_decref(object);
		if (reading->call->rpc)
		{
			char message[240] = "Parse json error: ";

			strncat(message, problem, sizeof(message) - strlen(message) - 1);
			return refuse_rpc(reading, 400, DTM_API_RPC_PARSE, message);
		}
		/* DTM's framework has sent a 400 before DTM says 500 */
		return dtm_api_say(reading->call,
						   route == DTM_API_REGISTER_BRANCH ? DTM_API_BAD_REQUEST : DTM_API_ERROR,
						   reading->arena, reading->answer, "the body is not a JSON object: %s",
						   problem);
	}
	if (reading->call->rpc)
		ok = read_rpc(reading, object);
	else if (route == DTM_API_REGISTER_BRANCH)
		ok = read_branch(reading, object);
	else
		ok = read_trans(reading, object);
	json_decref(object);
	return ok;
}

/* ---- query strings ---- */

static bool
read_parameter(Reading *reading, const char *name, DtmText *value)
{
	return dtm_api_parameter(reading->uri, name, reading->arena, value) ||
		REFUSE(reading, "\"%s\" contains a control character", name);
}

/* *number stays as it is when there is none. */
static bool
read_int(Reading *reading, const char *name, int64_t *number)
{
	DtmText value;
	char *end;
	long long parsed;

	if (!read_parameter(reading, name, &value))
		return false;
	if (value.len == 0)
		return true;
	parsed = strtoll(value.data, &end, 10);
	if (*end != '\0' || end == value.data || isspace((unsigned char) value.data[0]))
		return REFUSE(reading, "convert to int error: %.*s",
					  (int) (value.len < 60 ? value.len : 60), value.data);
	*number = parsed;
	return true;
}

static bool
read_limit(Reading *reading, int *limit)
{
	int64_t number = DEFAULT_LIMIT;

	if (!read_int(reading, "limit", &number))
		return false;
	if (number < 1)
		number = DEFAULT_LIMIT;
	*limit = (int) (number < DTM_API_MAX_LIMIT ? number : DTM_API_MAX_LIMIT);
	return true;
}

/* Milliseconds since 1970 to whole seconds, in our clock; last: the end of that second. */
static bool
read_ms(Reading *reading, const char *name, bool last, DtmTime *time)
{
	int64_t ms = 0;

	*time = 0;
	if (!read_int(reading, name, &ms))
		return false;
	if (ms <= 0)
		return true;
	if (ms > LAST_MS)
		ms = LAST_MS;
	*time = ((ms - ms % 1000) - MS_1970_TO_2000) * 1000 + (last ? 999999 : 0);
	if (*time == 0)
		*time = 1; /* 0 is no bound */
	return true;
}

static bool
read_list(Reading *reading)
{
	DtmApiList *list = &reading->call->list;

	list->before = INT64_MAX;
	return read_parameter(reading, "gid", &list->gid) &&
		read_parameter(reading, "position", &list->position) &&
		read_int(reading, "position", &list->before) && read_limit(reading, &list->limit) &&
		read_parameter(reading, "status", &list->status) &&
		read_parameter(reading, "transType", &list->trans_type) &&
		read_ms(reading, "createTimeStart", false, &list->from) &&
		read_ms(reading, "createTimeEnd", true, &list->until) &&
		read_parameter(reading, "cat", &list->cat) && read_parameter(reading, "key", &list->key);
}

static bool
read_topic(Reading *reading)
{
	DtmApiTopic *topic = &reading->call->topic;
	const char *problem;

	if (reading->call->route == DTM_API_DELETE_TOPIC)
	{
		if (!dtm_api_path_topic(reading->uri, reading->arena, &topic->topic))
			return REFUSE(reading, "the topic contains a control character");
		topic->url = topic->remark = dtm_api_text("");
	}
	else if (!read_parameter(reading, "topic", &topic->topic) ||
			 !read_parameter(reading, "url", &topic->url) ||
			 !read_parameter(reading, "remark", &topic->remark))
		return false;
	if (topic->topic.len == 0)
		return REFUSE(reading, "empty topic");
	if (topic->url.len == 0 && reading->call->route != DTM_API_DELETE_TOPIC)
		return REFUSE(reading, "empty url");
	problem = dtm_topic_check(topic->topic.data, topic->topic.len);
	return problem == NULL || REFUSE(reading, "%s", problem);
}

static bool
read_query(Reading *reading)
{
	if (!read_parameter(reading, "gid", &reading->call->gid))
		return false;
	return reading->call->gid.len > 0 || REFUSE(reading, "no gid specified");
}

static bool
read_reset(Reading *reading)
{
	reading->call->cron_timeout_s = -1;
	if (!read_int(reading, "timeout", &reading->call->cron_timeout_s) ||
		!read_limit(reading, &reading->call->cron_limit))
		return false;
	if (reading->call->cron_timeout_s < 0)
		reading->call->cron_timeout_s = -1;
	return true;
}

bool
dtm_api_read(const char *method, const char *uri, const char *body, size_t body_len,
			 DtmArena *arena, DtmApiCall *call, DtmApiAnswer *answer)
{
	Reading reading = {.call = call, .arena = arena, .answer = answer, .uri = uri, .escape = true};

	memset(call, 0, sizeof(*call));
	call->route = dtm_api_route(method, uri);
	call->rpc_id = dtm_api_text("");
	switch (call->route)
	{
		case DTM_API_NOT_FOUND:
		case DTM_API_WRONG_METHOD:
		case DTM_API_ROUTES:
			return dtm_api_not_found(answer);
		case DTM_API_VERSION:
		case DTM_API_NEW_GID:
		case DTM_API_METRICS:
		case DTM_API_PING:
			return true;
		case DTM_API_JSON_RPC:
			call->rpc = true;
			reading.escape = false;
			return read_body(&reading, body, body_len);
		case DTM_API_PREPARE:
		case DTM_API_SUBMIT:
		case DTM_API_ABORT:
		case DTM_API_REGISTER_BRANCH:
		case DTM_API_PREPARE_WORKFLOW:
		case DTM_API_FORCE_STOP:
		case DTM_API_RESET_NEXT_CRON_TIME:
			return read_body(&reading, body, body_len);
		case DTM_API_RESET_CRON_TIME:
			return read_reset(&reading);
		case DTM_API_QUERY:
			return read_query(&reading);
		case DTM_API_ALL:
		case DTM_API_SCAN_KV:
		case DTM_API_QUERY_KV:
			return read_list(&reading);
		case DTM_API_SUBSCRIBE:
		case DTM_API_UNSUBSCRIBE:
		case DTM_API_DELETE_TOPIC:
			return read_topic(&reading);
	}
	return dtm_api_not_found(answer);
}
