/* -------------------------------------------------------------------------
 *
 * dtm_sql_signal.c
 *		dtm_signal: what a workflow waits for has happened.
 *
 * Part of the caller's transaction, like every steering: it takes effect with
 * the commit.  The lock of the row in dtm.live decides between a signal, the
 * await that it is for, and another signal; the number of the row's version
 * between a signal and a time-out.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "dtm_engine.h"
#include "dtm_sql.h"
#include "dtm_state.h"
#include "dtm_wake.h"
#include "dtm_workflow.h"

PG_FUNCTION_INFO_V1(dtm_sql_signal);

#define MAX_KEPT 1000 /* signals that a workflow has not waited for yet */

void
dtm_sql_check_event(const text *event)
{
	DtmText name = {VARDATA_ANY(event), (uint32_t) VARSIZE_ANY_EXHDR(event)};
	const char *problem = dtm_event_check(name.data, name.len);

	if (problem != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s", problem)));
}

static void
refuse(const char *gid, const DtmFound *found)
{
	if (found->type != DTM_TYPE_WORKFLOW)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("transaction \"%s\" is a %s", gid, dtm_type_name(found->type)),
				 errhint("A signal is for a workflow.")));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("workflow \"%s\" waits for no signal any more: its status is \"%s\"", gid,
					dtm_status_name(found->status))));
}

/* The caller's workflow that is still running, with its row locked. */
static void
lock_running(const char *gid, DtmFound *found)
{
	dtm_sql_find_own(gid, false, found);
	if (found->type != DTM_TYPE_WORKFLOW || found->status != DTM_STATUS_PREPARED)
		refuse(gid, found);
	dtm_workflow_refuse_itself(found->id);
	(void) dtm_store_lock(found->id, found);

	/* steps may have come, and it may have ended, between the look and the lock */
	dtm_sql_find_own(gid, true, found);
	if (found->status != DTM_STATUS_PREPARED)
		refuse(gid, found);
}

/* The await that is for this event, or n_branches. */
static int
find_await(const DtmTrans *trans, const char *event)
{
	for (int i = 0; i < trans->n_branches; i++)
	{
		const DtmBranch *step = &trans->branches[i];

		if (step->kind == DTM_STEP_AWAIT &&
			step->state[DTM_ROLE_FORWARD].status == DTM_OP_PREPARED &&
			step->name.len == strlen(event) && memcmp(step->name.data, event, step->name.len) == 0)
			return i;
	}
	return trans->n_branches;
}

static void
answer_await(const DtmFound *found, DtmTrans *trans, int step, const char *payload)
{
	char *state;
	size_t len;

	if (dtm_engine_settle(trans, (uint16_t) step, GetCurrentTimestamp()) != DTM_OK)
		elog(ERROR, "the await does not wait");
	dtm_store_answer(found->id, step, payload);
	state = palloc(dtm_state_bound(trans));
	len = dtm_state_pack(trans, state);
	dtm_store_steer(found->id, trans->status, state, len, found->reason);
	dtm_wake_at_commit(found->id);
}

/*
 * dtm_signal(gid, event, payload) - for the await of that event that waits
 * now, or else for a later one.  Takes effect with the commit.
 *
 * 22004 gid or event NULL; 22023 event; 54000 payload too long, or too many
 * signals kept; 42704, 42501 about the gid; 55000 no workflow, or not
 * running any more, or called by its own function.
 */
Datum
dtm_sql_signal(PG_FUNCTION_ARGS)
{
	char *gid;
	char *event;
	char *payload = "{}";
	DtmFound found;
	DtmTrans trans;
	int step;

	PreventCommandIfReadOnly("dtm_signal()");
	gid = dtm_sql_required_string(fcinfo, 0, "gid");
	dtm_sql_check_event(dtm_sql_required(fcinfo, 1, "event"));
	event = text_to_cstring(PG_GETARG_TEXT_PP(1));
	if (!PG_ARGISNULL(2))
	{
		Jsonb *value = PG_GETARG_JSONB_P(2);

		payload = JsonbToCString(NULL, &value->root, VARSIZE(value));
		if (strlen(payload) > DTM_MAX_PAYLOAD_LEN)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("\"payload\" is longer than %d bytes", DTM_MAX_PAYLOAD_LEN),
					 errhint("Send large data by reference, e.g. by a key.")));
	}

	lock_running(gid, &found);
	dtm_sql_unpack(found.spec, found.state, found.created_at, &trans);
	if (dtm_trans_is_resumed(&trans))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("workflow \"%s\" is run by a service, and waits for no signal", gid),
				 errhint("A signal is for a workflow of dtm_workflow_submit().")));
	trans.status = found.status;
	step = find_await(&trans, event);
	if (step < trans.n_branches)
		answer_await(&found, &trans, step, payload);
	else if (!dtm_store_signal_add(found.id, event, payload, MAX_KEPT))
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("workflow \"%s\" has %d signals already that it has not waited for", gid,
						MAX_KEPT)));
	PG_RETURN_VOID();
}
