/* -------------------------------------------------------------------------
 *
 * dtm_serve_workflow.c
 *		Workflows that their client runs: prepareWorkflow begins one or tells
 *		how far it is, registerBranch keeps what the client has done, submit
 *		is its end.
 *
 * The client may run in two places at once, the first of which was thought
 * dead.  What decides is the lock of the row: a memo is there once, none
 * comes after the end, and there is one end.
 *
 * Not here: workflows whose function runs in the database (dtm_workflow.c),
 * the callback (dtm_calls.c).  Runs in the coordinator.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "dtm_arena.h"
#include "dtm_serve.h"
#include "dtm_spec.h"
#include "dtm_sql.h"

static DtmText
text_of(const char *string)
{
	DtmText result = {string, (uint32_t) strlen(string)};

	return result;
}

static void
refuse(DtmServeCall *call, DtmApiRefusal refusal, DtmText gid, DtmStatus status)
{
	dtm_api_refuse(&call->api, refusal, gid, DTM_TYPE_WORKFLOW, status, &call->arena,
				   &call->answer);
}

/* False, and answered: the gid is that of something else. */
static bool
is_ours(DtmServeCall *call, const DtmFound *found, DtmTrans *trans)
{
	dtm_sql_unpack(found->spec, found->state, found->created_at, trans);
	trans->status = found->status;
	if (found->reason != NULL)
		trans->reason = text_of(found->reason);
	if (dtm_trans_is_resumed(trans))
		return true;
	if (found->type == DTM_TYPE_WORKFLOW)
		dtm_serve_say(call, DTM_API_ERROR,
					  "the gid is that of a workflow whose function the database runs");
	else
		dtm_serve_say(call, DTM_API_ERROR,
					  psprintf("the gid is that of another transaction: a %s",
							   dtm_type_name(found->type)));
	return false;
}

/* ---- prepareWorkflow ---- */

/* How far it is: the client goes on behind what is there. */
static void
show(DtmServeCall *call)
{
	if (!dtm_serve_show_workflow(call, dtm_serve_cstring(call->api.trans.gid)))
		dtm_serve_say(call, DTM_API_BUSY, "the workflow cannot be read now; try again");
}

/* It is there already, in whatever status. */
static void
tell(DtmServeCall *call, const DtmFound *found)
{
	DtmTrans trans;

	if (!is_ours(call, found, &trans))
		return;
	if (call->api.route == DTM_API_PREPARE_WORKFLOW)
		show(call);
	else if (found->status == DTM_STATUS_PREPARED)
		dtm_serve_say(call, DTM_API_SUCCESS, "");
	else
		refuse(call, DTM_API_CANNOT_PREPARE, call->api.trans.gid, found->status);
}

/* False when somebody else has stored that gid meanwhile. */
static bool
begin(DtmServeCall *call)
{
	DtmSpecBuilder *builder = call->api.trans.builder;
	DtmSqlInsert insert;

	memset(&insert, 0, sizeof(insert));
	insert.gid = dtm_serve_cstring(call->api.trans.gid);
	dtm_sql_check_gid(insert.gid);
	dtm_sql_check_targets(builder);
	if (!dtm_spec_finish(builder, &insert.spec, &insert.spec_len))
	{
		dtm_api_spec_refused(&call->api, dtm_spec_error(builder), &call->arena, &call->answer);
		return true;
	}
	insert.gid_given = true;
	insert.worker = call->c->number;
	insert.workers = call->c->workers;
	if (!dtm_sql_insert(&insert))
		return false;
	call->wrote = true;
	if (call->api.route == DTM_API_PREPARE_WORKFLOW)
		show(call);
	else
		dtm_serve_say(call, DTM_API_SUCCESS, "");
	return true;
}

static void
prepare(DtmServeCall *call)
{
	DtmText gid = call->api.trans.gid;
	DtmFound found;
	bool refused;

	if (!dtm_serve_find(call, gid, true, &found, &refused))
	{
		if (begin(call))
			return;
		if (!dtm_serve_find(call, gid, true, &found, &refused))
		{
			dtm_serve_say(call, DTM_API_BUSY, "the workflow was deleted meanwhile; try again");
			return;
		}
	}
	if (!refused)
		tell(call, &found);
}

/* ---- registerBranch ---- */

static bool
same_text(DtmText a, DtmText b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static bool
is_there(const DtmTrans *trans, const DtmApiBranch *asked)
{
	for (int i = 0; i < trans->n_branches; i++)
	{
		const DtmBranch *memo = &trans->branches[i];

		if (same_text(memo->branch_id, asked->branch_id) &&
			same_text(dtm_branch_op_text(memo, DTM_ROLE_FORWARD), asked->op))
			return true;
	}
	return false;
}

static bool
pack_memo(DtmServeCall *call, const char **packed, size_t *packed_len)
{
	const DtmApiBranch *asked = &call->api.branch;
	bool failed = same_text(asked->status, text_of(dtm_status_name(DTM_STATUS_FAILED)));
	DtmSpecError error;
	DtmSpecBuilder *builder = dtm_spec_begin_growing(&call->arena, DTM_TYPE_WORKFLOW, &error);

	if (builder != NULL &&
		dtm_spec_memo(builder, failed ? DTM_STEP_MEMO_FAILED : DTM_STEP_MEMO, asked->branch_id,
					  asked->op, asked->data, GetCurrentTimestamp()) &&
		dtm_spec_finish_branch(builder, packed, packed_len))
		return true;
	dtm_api_spec_refused(&call->api, builder != NULL ? dtm_spec_error(builder) : &error,
						 &call->arena, &call->answer);
	return false;
}

/* The transaction with its row locked, and read under the lock; false, and answered, else. */
static bool
lock_prepared(DtmServeCall *call, DtmText gid, DtmFound *found, DtmTrans *trans)
{
	bool refused;
	bool exists = dtm_serve_find(call, gid, false, found, &refused);

	if (refused)
		return false;
	if (exists && found->status == DTM_STATUS_PREPARED && dtm_store_lock(found->id, found) &&
		dtm_store_find(dtm_serve_cstring(gid), true, found))
	{
		if (!is_ours(call, found, trans))
			return false;
		if (found->status == DTM_STATUS_PREPARED)
			return true;
	}
	refuse(call, DTM_API_NOT_PREPARED, gid, DTM_STATUS_NONE);
	return false;
}

static void
keep_memo(DtmServeCall *call)
{
	DtmText gid = call->api.branch.gid;
	const char *packed;
	size_t packed_len;
	DtmFound found;
	DtmTrans trans;

	if (!lock_prepared(call, gid, &found, &trans) || !pack_memo(call, &packed, &packed_len))
		return;
	if (is_there(&trans, &call->api.branch))
		refuse(call, DTM_API_NOT_UNIQUE, gid, found.status);
	else if (trans.n_branches >= DTM_MAX_STEPS)
		dtm_serve_say(call, DTM_API_ERROR,
					  psprintf("a workflow has at most %d branches, counting the ops of each",
							   DTM_MAX_STEPS));
	else if (VARSIZE_ANY_EXHDR(found.spec) + packed_len > DTM_MAX_SPEC_LEN)
		dtm_serve_say(call, DTM_API_ERROR,
					  psprintf("the branches of a workflow take at most %d bytes together",
							   DTM_MAX_SPEC_LEN));
	else
	{
		dtm_store_memo(found.id, trans.n_branches, packed, packed_len);
		call->wrote = true;
		dtm_serve_say(call, DTM_API_SUCCESS, "");
	}
}

/* ---- submit ---- */

/* Kept as it came, as a JSON string; NULL when there is none. */
static Jsonb *
result_of(const DtmApiTrans *asked)
{
	StringInfoData quoted;

	if (asked->end_result.len == 0)
		return NULL;
	initStringInfo(&quoted);
	escape_json(&quoted, pnstrdup(asked->end_result.data, asked->end_result.len));
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(quoted.data)));
}

static void
end(DtmServeCall *call)
{
	const DtmApiTrans *asked = &call->api.trans;
	char *gid = dtm_serve_cstring(asked->gid);
	DtmFound found;
	DtmTrans trans;
	DtmEvent event;
	char *reason;
	bool refused;

	if (!dtm_serve_find(call, asked->gid, true, &found, &refused) ||
		(!refused && !dtm_sql_lock(gid, true, &found)))
	{
		refuse(call, DTM_API_NO_ROW, asked->gid, DTM_STATUS_NONE);
		return;
	}
	if (refused || !is_ours(call, &found, &trans))
		return;

	/* it may have heard no answer the first time */
	if (found.status == asked->end_status)
	{
		dtm_serve_say(call, DTM_API_SUCCESS, "");
		return;
	}
	memset(&event, 0, sizeof(event));
	event.kind = DTM_EVENT_END;
	event.outcome =
		asked->end_status == DTM_STATUS_SUCCEED ? DTM_OUTCOME_SUCCESS : DTM_OUTCOME_FAILURE;
	reason = dtm_store_text_of_wire(asked->end_reason.data, asked->end_reason.len);
	event.reason.data = reason;
	event.reason.len = (uint32_t) pg_mbcliplen(reason, (int) strlen(reason), DTM_MAX_ERROR_LEN);
	if (dtm_status_is_final(found.status) ||
		!dtm_sql_end_found(gid, &found, &event, result_of(asked)))
	{
		refuse(call, DTM_API_NO_ROW, asked->gid, found.status);
		return;
	}
	call->wrote = true;
	dtm_serve_say(call, DTM_API_SUCCESS, "");
}

void
dtm_serve_workflow(DtmServeCall *call)
{
	switch (call->api.route)
	{
		case DTM_API_PREPARE:
		case DTM_API_PREPARE_WORKFLOW:
			prepare(call);
			break;
		case DTM_API_REGISTER_BRANCH:
			keep_memo(call);
			break;
		case DTM_API_SUBMIT:
			end(call);
			break;
		default:
			dtm_serve_say(call, DTM_API_ERROR, "not a request about a workflow");
			break;
	}
}
