/* -------------------------------------------------------------------------
 *
 * fuzz_api.c
 *		Requests of DTM's HTTP API; input: method, line feed, URI, line feed,
 *		body.  What is refused has a valid answer; what is read gives a spec
 *		that can be stored, and answers that are JSON, whatever is in them.
 *
 * -------------------------------------------------------------------------
 */
#include <jansson.h>

#include "dtm_api.h"
#include "dtm_fuzz.h"
#include "dtm_rpc.h"
#include "dtm_spec_fuzz.h"

static FuzzArena fuzz;

static void
check_answer(const DtmApiCall *call, const DtmApiAnswer *answer)
{
	json_t *parsed;

	HOLDS(answer->status >= 200 && answer->status < 600);
	HOLDS(answer->body != NULL && answer->body[answer->len] == '\0');
	if (answer->status == 404)
		return;
	/* half of a character may be what made an error of it */
	parsed = json_loadb(answer->body, answer->len, 0, NULL);
	HOLDS(json_is_object(parsed));
	if (call->rpc)
		HOLDS(json_object_get(parsed, "error") != NULL && json_object_get(parsed, "result") != NULL);
	else if (answer->status == 409)
		HOLDS(strstr(answer->body, "FAILURE\"}") != NULL);
	json_decref(parsed);
}

static void
check_word(DtmText word)
{
	for (uint32_t i = 0; i < word.len; i++)
		HOLDS((unsigned char) word.data[i] >= 0x20);
}

/* What such a call sends is JSON, with each member once. */
static void
check_rpc(const DtmTrans *trans, const DtmBranch *branch)
{
	for (int role = 0; role < DTM_ROLES; role++)
	{
		DtmRpcCall call = {.id = "abcdefghijkmnopqrstuvw",
						   .url = branch->url[role],
						   .payload = branch->payload,
						   .gid = {"g", 1},
						   .trans_type = "saga",
						   .branch_id = branch->branch_id,
						   .op = "action"};
		const char *problem;
		DtmText body;
		json_t *parsed;
		json_t *params;

		if (!dtm_rpc_applies(trans->flags, branch->url[role]))
			continue;
		HOLDS(dtm_rpc_payload_check(branch->payload) == NULL);
		problem = dtm_rpc_body(&call, &fuzz.arena, &body);
		if (problem != NULL)
		{
			HOLDS(strstr(problem, "control character") != NULL);
			continue;
		}
		parsed = json_loadb(body.data, body.len, JSON_ALLOW_NUL, NULL);
		HOLDS(json_object_size(parsed) == 4);
		params = json_object_get(parsed, "params");
		HOLDS(strcmp(json_string_value(json_object_get(params, "gid")), "g") == 0);
		HOLDS(strcmp(json_string_value(json_object_get(params, "op")), "action") == 0);
		json_decref(parsed);
	}
}

/* The JSON texts in the rows of what was stored. */
static void
check_texts(const DtmTrans *stored)
{
	DtmApiTransRow row;
	DtmText value;

	dtm_api_trans_row(stored, &row);
	HOLDS(dtm_api_options(&row, &fuzz.arena, &value));
	HOLDS(value.len > 0 && value.data[value.len - 1] == '}');
	HOLDS(dtm_api_custom_data(stored, &fuzz.arena, &value));
	HOLDS(value.len == 0 || value.data[value.len - 1] == '}');
}

static void
check_trans(const DtmApiCall *call)
{
	const DtmApiTrans *trans = &call->trans;
	const char *packed;
	size_t len;
	DtmTrans stored;

	HOLDS(dtm_gid_check(trans->gid.data, trans->gid.len) == NULL);
	check_word(trans->protocol);
	check_word(trans->workflow_name);
	HOLDS((trans->builder != NULL) ==
		  ((call->route == DTM_API_SUBMIT && trans->type != DTM_TYPE_WORKFLOW) ||
		   call->route == DTM_API_PREPARE || call->route == DTM_API_PREPARE_WORKFLOW));
	if (trans->builder == NULL || !dtm_spec_finish(trans->builder, &packed, &len))
		return;
	stored.created_at = 1000;
	HOLDS(dtm_spec_unpack(packed, len, &fuzz.arena, &stored) == DTM_OK);
	HOLDS(stored.type == trans->type && stored.flags == trans->flags);
	fuzz_check_spec(&stored, (DtmText){packed, (uint32_t) len});
	fuzz_check_repack(&stored, &fuzz, packed, len);
	check_texts(&stored);
	for (int i = 0; i < stored.n_branches; i++)
	{
		DtmApiBranchRow rows[DTM_ROLES];

		HOLDS(dtm_api_branch_rows(&stored, (uint16_t) i, 1, rows) <= DTM_ROLES);
		check_rpc(&stored, &stored.branches[i]);
	}
}

static void
check_branch(const DtmApiBranch *branch)
{
	const char *packed;
	size_t len;

	HOLDS(dtm_gid_check(branch->gid.data, branch->gid.len) == NULL);
	HOLDS(dtm_branch_id_check(branch->branch_id.data, branch->branch_id.len) == NULL);
	HOLDS((branch->builder == NULL) == (branch->type == DTM_TYPE_WORKFLOW));
	if (branch->builder != NULL)
		HOLDS(dtm_spec_finish_branch(branch->builder, &packed, &len));
}

/* What was read, told again. */
static void
check_shown(const DtmApiCall *call)
{
	DtmApiAnswer answer;
	DtmApiTransRow row;
	DtmApiBranchRow branch;

	memset(&row, 0, sizeof(row));
	memset(&branch, 0, sizeof(branch));
	row.gid = call->gid.len > 0 ? call->gid : call->trans.gid;
	row.custom_data = call->trans.custom_data;
	row.rollback_reason = call->trans.rollback_reason;
	row.create_time = call->list.from;
	row.id = call->list.before;
	branch.bin_data = call->branch.data;
	branch.url = call->topic.url;
	branch.status = call->list.key;
	dtm_api_show_query(&row, &branch, 1, &fuzz.arena, &answer);
	HOLDS(answer.status == 200);
	check_answer(&(DtmApiCall){.rpc = false}, &answer);
	dtm_api_result(call, DTM_API_FAILURE, call->trans.rollback_reason, &fuzz.arena, &answer);
	check_answer(call, &answer);
	dtm_api_refuse(call, DTM_API_NO_TRANS, row.gid, call->trans.type, DTM_STATUS_NONE, &fuzz.arena,
				   &answer);
	check_answer(call, &answer);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *method = fuzz_copy(fuzz_line(&data, &size));
	char *uri = fuzz_copy(fuzz_line(&data, &size));
	char *body = fuzz_copy((DtmText){(const char *) data, (uint32_t) size});
	DtmApiCall call;
	DtmApiAnswer answer;

	fuzz_arena_init(&fuzz);
	memset(&answer, 0, sizeof(answer));
	if (!dtm_api_read(method, uri, body, size, &fuzz.arena, &call, &answer))
		check_answer(&call, &answer);
	else
	{
		HOLDS(answer.status == 0);
		HOLDS(call.route > DTM_API_WRONG_METHOD && call.route < DTM_API_ROUTES);
		HOLDS(call.route != DTM_API_JSON_RPC);
		if (call.trans.gid.len > 0)
			check_trans(&call);
		if (call.route == DTM_API_REGISTER_BRANCH)
			check_branch(&call.branch);
		if (call.route == DTM_API_ALL || call.route == DTM_API_SCAN_KV)
			HOLDS(call.list.limit >= 1 && call.list.limit <= DTM_API_MAX_LIMIT);
		if (call.topic.topic.len > 0)
			HOLDS(dtm_topic_check(call.topic.topic.data, call.topic.topic.len) == NULL);
		check_word(call.gid);
		check_shown(&call);
	}
	fuzz_arena_free(&fuzz);
	free(method);
	free(uri);
	free(body);
	return 0;
}
