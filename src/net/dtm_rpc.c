/* -------------------------------------------------------------------------
 *
 * dtm_rpc.c
 *		Calls to branches by JSON-RPC: which they are, what is sent, and what
 *		the answer means.
 *
 * Not here: the call itself.  Runs in the coordinator; the check of payloads
 * also where a transaction is taken in.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_rpc.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "dtm_answer.h"
#include "dtm_api_internal.h"
#include "dtm_json_internal.h"
#include "dtm_url.h"

#define CODE_FAILURE (-32901)
#define CODE_ONGOING (-32902)

#define N_OWN 4

static const char *const own_members[N_OWN] = {"gid", "trans_type", "branch_id", "op"};

static bool put_payload(DtmApiWriter *writer, DtmText payload);

bool
dtm_rpc_applies(uint32_t flags, DtmText url)
{
	const char word[] = "method";
	DtmTarget target;

	if ((flags & DTM_FLAG_JSON_RPC) == 0 || url.len == 0 ||
		memmem(url.data, url.len, word, sizeof(word) - 1) == NULL ||
		dtm_target_parse(url.data, url.len, &target) != NULL)
		return false;
	return target.scheme == DTM_SCHEME_HTTP || target.scheme == DTM_SCHEME_HTTPS;
}

const char *
dtm_rpc_payload_check(DtmText payload)
{
	json_t *object;
	bool fine;

	if (payload.len == 0)
		return NULL;
	object = dtm_json_load(payload.data, payload.len, NULL, 0);
	fine = json_is_object(object);
	json_decref(object);
	return fine ? NULL : "is no JSON object, which a call by JSON-RPC needs";
}

const char *
dtm_rpc_body(const DtmRpcCall *call, DtmArena *arena, DtmText *body)
{
	DtmApiWriter writer;
	DtmText method;
	char *url = arena->alloc(arena->context, call->url.len + 1);

	if (url == NULL)
		return "out of memory for the call";
	if (call->url.len > 0)
		memcpy(url, call->url.data, call->url.len);
	url[call->url.len] = '\0';
	if (!dtm_api_parameter(url, "method", arena, &method))
		return "\"method\" in the URL contains a control character";

	dtm_api_writer_init(&writer, arena);
	dtm_api_open(&writer, '{');
	dtm_api_member(&writer, "jsonrpc", dtm_api_text("2.0"));
	dtm_api_member(&writer, "id", dtm_api_text(call->id));
	dtm_api_member(&writer, "method", method);
	dtm_api_key(&writer, "params");
	dtm_api_open(&writer, '{');
	if (!put_payload(&writer, call->payload))
		return "the payload is no JSON object, which a call by JSON-RPC needs";
	dtm_api_member(&writer, own_members[0], call->gid);
	dtm_api_member(&writer, own_members[1], dtm_api_text(call->trans_type));
	dtm_api_member(&writer, own_members[2], call->branch_id);
	dtm_api_member(&writer, own_members[3], dtm_api_text(call->op));
	dtm_api_close(&writer, '{');
	dtm_api_close(&writer, '{');
	if (writer.no_memory || writer.too_long)
		return "out of memory for the call";
	body->data = writer.data;
	body->len = (uint32_t) writer.len;
	return NULL;
}

DtmOutcome
dtm_rpc_meaning(int http_status, const char *body, size_t len, char *reason, size_t size)
{
	DtmOutcome outcome = dtm_answer_meaning(http_status, body, len);
	json_t *answer = NULL;
	json_t *error;
	json_t *text;
	double code;

	reason[0] = '\0';
	if (outcome == DTM_OUTCOME_SUCCESS)
		answer = dtm_json_load(body, len, NULL, 0);
	error = json_object_get(answer, "error");
	if (json_is_object(answer) && (error == NULL || json_is_null(error)))
	{
		json_decref(answer);
		return DTM_OUTCOME_SUCCESS;
	}
	if (!json_is_object(error))
	{
		/* HTTP has decided, or it is no answer of JSON-RPC */
		(void) dtm_answer_reason(http_status, body, len, reason, size);
		json_decref(answer);
		return outcome == DTM_OUTCOME_SUCCESS ? DTM_OUTCOME_ERROR : outcome;
	}

	code = json_number_value(json_object_get(error, "code"));
	text = json_object_get(error, "message");
	outcome = DTM_OUTCOME_ERROR;
	if (code == CODE_FAILURE)
		outcome = DTM_OUTCOME_FAILURE;
	else if (code == CODE_ONGOING)
		outcome = DTM_OUTCOME_ONGOING;
	if (code != 0 && code > INT_MIN && code < INT_MAX && json_is_string(text))
		(void) dtm_answer_reason((int) code, json_string_value(text), json_string_length(text),
								 reason, size);
	else
		(void) dtm_answer_reason(http_status, body, len, reason, size);
	json_decref(answer);
	return outcome;
}

/*
 * The members of the payload.  Written anew its numbers might change, so its
 * own text is taken; but a "gid" of its own must not stand beside ours, as
 * some decoders take the first of two.
 */
static bool
put_payload(DtmApiWriter *writer, DtmText payload)
{
	json_t *object;
	size_t from = 0;
	size_t to = payload.len;
	bool deleted = false;

	if (payload.len == 0)
		return true;
	object = dtm_json_load(payload.data, payload.len, NULL, 0);
	if (!json_is_object(object))
	{
		json_decref(object);
		return false;
	}
	for (int i = 0; i < N_OWN; i++)
		deleted |= json_object_del(object, own_members[i]) == 0;
	if (json_object_size(object) > 0)
	{
		char *again = deleted ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
		const char *text = again != NULL ? again : payload.data;

		if (again != NULL)
			to = strlen(again);
		else
			writer->no_memory |= deleted;

		/* between the outer braces */
		while (text[from] != '{')
			from++;
		while (text[to - 1] != '}')
			to--;
		dtm_api_put(writer, text + from + 1, to - from - 2);
		writer->comma = true;
		free(again);
	}
	json_decref(object);
	return true;
}
