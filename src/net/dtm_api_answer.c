/* -------------------------------------------------------------------------
 *
 * dtm_api_answer.c
 *		Results of DTM's HTTP API, with the words and numbers that its clients
 *		look for.
 *
 * The word FAILURE in a body is a failure for most of them, whatever the
 * status: it ends every message of a 409 and is in no other of ours.
 *
 * Not here: answers that are data (dtm_api_show.c).  Runs in the coordinator.
 *
 * -------------------------------------------------------------------------
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "dtm_api_internal.h"

#define FAILURE_WORD "FAILURE"
#define SAID 512

/* What DTM says in front of a branch's answer when a submit that waits could not go on. */
#define BRANCH_PREFIX "your http/grpc result should be specified as in: "

static const struct
{
	int status;
	int rpc_code;
	const char *result; /* "dtm_result"; NULL = none */
} outcomes[] = {
	[DTM_API_SUCCESS] = {200, 0, "SUCCESS"},
	[DTM_API_FAILURE] = {409, DTM_API_RPC_FAILURE, "FAILURE"},
	[DTM_API_ONGOING] = {425, DTM_API_RPC_ERROR, "ONGOING"},
	[DTM_API_ERROR] = {500, DTM_API_RPC_ERROR, NULL},
	[DTM_API_BAD_REQUEST] = {400, DTM_API_RPC_ERROR, NULL},
	[DTM_API_UNAUTHORIZED] = {401, DTM_API_RPC_ERROR, NULL},
	[DTM_API_FORBIDDEN] = {403, DTM_API_RPC_ERROR, NULL},
	[DTM_API_BUSY] = {503, DTM_API_RPC_ERROR, NULL},
};

static bool
ends_with_failure(DtmText message)
{
	size_t len = strlen(FAILURE_WORD);

	return message.len >= len && memcmp(message.data + message.len - len, FAILURE_WORD, len) == 0;
}

/* The message of a failure; as it is when memory is short. */
static DtmText
failure_message(DtmText message, DtmArena *arena)
{
	static const char end[] = " " FAILURE_WORD;
	char *data;

	if (ends_with_failure(message))
		return message;
	data = arena->alloc(arena->context, message.len + sizeof(end));
	if (data == NULL)
		return dtm_api_text(FAILURE_WORD);
	if (message.len > 0)
		memcpy(data, message.data, message.len);
	memcpy(data + message.len, end, sizeof(end));
	message.data = data;
	message.len += (uint32_t) sizeof(end) - 1;
	return message;
}

void
dtm_api_rpc(const DtmApiCall *call, int status, int code, DtmText message, DtmArena *arena,
			DtmApiAnswer *answer)
{
	DtmApiWriter writer;

	dtm_api_writer_init(&writer, arena);
	dtm_api_open(&writer, '{');
	dtm_api_key(&writer, "error");
	if (code == 0)
		dtm_api_raw(&writer, "null");
	else
	{
		dtm_api_open(&writer, '{');
		dtm_api_member_number(&writer, "code", code);
		dtm_api_member(&writer, "message", message);
		dtm_api_close(&writer, '{');
	}
	dtm_api_member(&writer, "id", call->rpc_id);
	dtm_api_member(&writer, "jsonrpc", dtm_api_text("2.0"));
	dtm_api_key(&writer, "result");
	dtm_api_raw(&writer, "null");
	dtm_api_close(&writer, '{');
	dtm_api_finish(&writer, status, answer);
}

/*
 * DTM's Go client looks at no status when it begins a workflow, and dies of
 * an answer without a transaction.  One that has failed is an error to it,
 * and true: nothing was begun.  Other clients see the message.
 */
static void
put_failed_workflow(DtmApiWriter *writer, const DtmApiCall *call, DtmText message)
{
	dtm_api_key(writer, "progresses");
	dtm_api_open(writer, '[');
	dtm_api_close(writer, '[');
	dtm_api_key(writer, "transaction");
	dtm_api_open(writer, '{');
	dtm_api_member_given(writer, "gid", call->trans.gid);
	dtm_api_member(writer, "status", dtm_api_text("failed"));
	dtm_api_member(writer, "rollback_reason", message);
	dtm_api_close(writer, '{');
}

/* But an attempt later may succeed: a text that is no JSON is an error of the connection to it. */
static void
say_plainly(int status, DtmText message, DtmArena *arena, DtmApiAnswer *answer)
{
	DtmApiWriter writer;

	dtm_api_writer_init(&writer, arena);
	dtm_api_put(&writer, message.data, message.len);
	dtm_api_put(&writer, "\n", 1);
	dtm_api_finish(&writer, status, answer);
	answer->content_type = "text/plain; charset=utf-8";
}

void
dtm_api_result(const DtmApiCall *call, DtmApiOutcome outcome, DtmText message, DtmArena *arena,
			   DtmApiAnswer *answer)
{
	bool of_workflow = call->route == DTM_API_PREPARE_WORKFLOW && outcome != DTM_API_SUCCESS;
	DtmApiWriter writer;

	if (outcome == DTM_API_FAILURE)
		message = failure_message(message, arena);
	if (call->rpc)
	{
		/* who may not come in hears so before JSON-RPC is spoken */
		int status = outcome >= DTM_API_UNAUTHORIZED ? outcomes[outcome].status : 200;

		dtm_api_rpc(call, status, outcomes[outcome].rpc_code, message, arena, answer);
		return;
	}
	if (of_workflow && outcome == DTM_API_BUSY)
	{
		say_plainly(outcomes[outcome].status, message, arena, answer);
		return;
	}
	dtm_api_writer_init(&writer, arena);
	dtm_api_open(&writer, '{');
	if (outcomes[outcome].result != NULL)
		dtm_api_member(&writer, "dtm_result", dtm_api_text(outcomes[outcome].result));
	if (outcome != DTM_API_SUCCESS)
		dtm_api_member(&writer, "message", message);
	if (of_workflow)
		put_failed_workflow(&writer, call, message);
	dtm_api_close(&writer, '{');
	dtm_api_finish(&writer, outcomes[outcome].status, answer);
}

bool
dtm_api_say(const DtmApiCall *call, DtmApiOutcome outcome, DtmArena *arena, DtmApiAnswer *answer,
			const char *format, ...)
{
	char message[SAID];
	va_list args;

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	dtm_api_result(call, outcome, dtm_api_text(message), arena, answer);
	return false;
}

bool
dtm_api_not_found(DtmApiAnswer *answer)
{
	answer->status = 404;
	answer->content_type = "text/plain";
	answer->body = "404 page not found";
	answer->len = strlen(answer->body);
	return false;
}

void
dtm_api_spec_refused(const DtmApiCall *call, const DtmSpecError *error, DtmArena *arena,
					 DtmApiAnswer *answer)
{
	if (error->hint[0] != '\0')
		(void) dtm_api_say(call, DTM_API_ERROR, arena, answer, "%s; %s", error->message,
						   error->hint);
	else
		(void) dtm_api_say(call, DTM_API_ERROR, arena, answer, "%s", error->message);
}

void
dtm_api_refuse(const DtmApiCall *call, DtmApiRefusal refusal, DtmText gid, DtmTransType type,
			   DtmStatus status, DtmArena *arena, DtmApiAnswer *answer)
{
	const char *status_name = dtm_status_name(status) != NULL ? dtm_status_name(status) : "";
	const char *type_name = dtm_type_name(type) != NULL ? dtm_type_name(type) : "";
	int gid_len = (int) (gid.len < 2 * DTM_MAX_GID_LEN ? gid.len : 2 * DTM_MAX_GID_LEN);
	DtmApiOutcome outcome = refusal <= DTM_API_NOT_PREPARED ? DTM_API_FAILURE : DTM_API_ERROR;
	char message[SAID] = "";

	switch (refusal)
	{
		case DTM_API_CANNOT_PREPARE:
			snprintf(message, sizeof(message), "current status '%s', cannot prepare. FAILURE",
					 status_name);
			break;
		case DTM_API_CANNOT_SUBMIT:
			/* the letters are DTM's: somebody may compare them */
			snprintf(message, sizeof(message), "current status '%s', cannot sumbmit. FAILURE",
					 status_name);
			break;
		case DTM_API_CANNOT_ABORT:
			snprintf(message, sizeof(message),
					 "trans type: '%s' current status '%s', cannot abort. FAILURE", type_name,
					 status_name);
			break;
		case DTM_API_CANNOT_STOP:
			snprintf(message, sizeof(message),
					 "global transaction force stop error. status: %s. error: FAILURE",
					 status_name);
			break;
		case DTM_API_NOT_PREPARED:
			snprintf(message, sizeof(message),
					 "no trans with gid: %.*s status: prepared found FAILURE", gid_len, gid.data);
			break;
		case DTM_API_NO_TRANS:
			snprintf(message, sizeof(message), "no TransGlobal with gid: %.*s found", gid_len,
					 gid.data);
			break;
		case DTM_API_NO_ROW:
			snprintf(message, sizeof(message), "storage: NotFound");
			break;
		case DTM_API_NOT_UNIQUE:
			snprintf(message, sizeof(message), "storage: UniqueKeyConflict");
			break;
		case DTM_API_TOPIC_NOT_FOUND:
			snprintf(message, sizeof(message), "topic not found");
			break;
		case DTM_API_URL_EXISTS:
			snprintf(message, sizeof(message), "this url exists");
			break;
		case DTM_API_NO_TOPIC:
			snprintf(message, sizeof(message), "no such a topic");
			break;
		case DTM_API_TOPIC_EMPTY:
			snprintf(message, sizeof(message), "this topic is empty");
			break;
		case DTM_API_NO_URL:
			snprintf(message, sizeof(message), "no such an url ");
			break;
	}
	dtm_api_result(call, outcome, dtm_api_text(message), arena, answer);
}

/* Two texts in the arena; the second alone when memory is short. */
static DtmText
join(const char *prefix, DtmText message, DtmArena *arena)
{
	size_t prefix_len = strlen(prefix);
	char *data = arena->alloc(arena->context, prefix_len + message.len + 1);

	if (data == NULL)
		return message;
	memcpy(data, prefix, prefix_len);
	if (message.len > 0)
		memcpy(data + prefix_len, message.data, message.len);
	message.data = data;
	message.len += (uint32_t) prefix_len;
	return message;
}

void
dtm_api_waited(const DtmApiCall *call, DtmTransType type, DtmStatus wanted, DtmStatus status,
			   DtmText reason, DtmOutcome last, DtmText error, DtmArena *arena,
			   DtmApiAnswer *answer)
{
	/* a saga, and a msg that is not done yet, only has a rollback reason to tell */
	bool of_branch = type != DTM_TYPE_SAGA;

	if (status == wanted)
		dtm_api_result(call, DTM_API_SUCCESS, dtm_api_text(""), arena, answer);
	else if (reason.len > 0 && wanted == DTM_STATUS_SUCCEED)
		dtm_api_result(call, DTM_API_FAILURE, reason, arena, answer);
	else if (last == DTM_OUTCOME_ONGOING && (type == DTM_TYPE_TCC || type == DTM_TYPE_XA))
		dtm_api_result(call, DTM_API_ONGOING, dtm_api_text("ONGOING"), arena, answer);
	else if (of_branch && last == DTM_OUTCOME_FAILURE)
		dtm_api_result(call, DTM_API_FAILURE, join(BRANCH_PREFIX, error, arena), arena, answer);
	else if (of_branch && last == DTM_OUTCOME_ERROR)
		dtm_api_result(call, DTM_API_ERROR, join(BRANCH_PREFIX, error, arena), arena, answer);
	else
		dtm_api_result(call, DTM_API_FAILURE,
					   dtm_api_text("wait result not return success: FAILURE"), arena, answer);
}
