/* -------------------------------------------------------------------------
 *
 * dtm_serve_wait.c
 *		Requests with wait_result: answered after the first round of the
 *		transaction.
 *
 * A round is over when the transaction is final, or when nothing of it is
 * called and all of it waits for a later time.  Of what this coordinator
 * drives the tick tells; at what another one drives, or what has left the
 * memory in between, is looked now and then.
 *
 * Runs in the coordinator.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "dtm_arena.h"
#include "dtm_serve_internal.h"
#include "dtm_state.h"

#define FIRST_LOOK_MS 20
#define LAST_LOOK_MS 500

static TimestampTz
next_look(DtmServeKept *kept, TimestampTz now)
{
	int ms = FIRST_LOOK_MS << Min(kept->looks, 4);

	kept->looks++;
	return TimestampTzPlusMilliseconds(now, Min(ms, LAST_LOOK_MS));
}

void
dtm_serve_wait(DtmCoordinator *c, const DtmServeCall *call)
{
	DtmServeKept *kept;

	/* nobody would tell us once more that its client has gone */
	if (call->request->gone)
	{
		dtm_httpd_drop(c->serve->httpd, call->request);
		return;
	}
	kept = dtm_serve_keep(c->serve, call->request, &c->serve->waiting, call->api.rpc_id);
	kept->id = call->waits_for;
	kept->type = call->waits_type;
	kept->wanted = call->wanted;
	kept->route = call->api.route;
	kept->rpc = call->api.rpc;
	kept->look_at = next_look(kept, GetCurrentTimestamp());
}

/* The call that keeps it from going on: the first of those that did not succeed. */
static DtmOutcome
stopped_by(const DtmTrans *trans, DtmText *url, DtmText *reason)
{
	const DtmOpState *op = &trans->query;

	*url = trans->query_url;
	if (op->status == DTM_OP_PREPARED && op->attempts > 0 &&
		op->last_outcome != DTM_OUTCOME_SUCCESS && trans->status == DTM_STATUS_PREPARED)
	{
		*reason = op->last_error;
		return (DtmOutcome) op->last_outcome;
	}
	for (int i = 0; i < trans->n_branches; i++)
	{
		for (int role = 0; role < DTM_ROLES; role++)
		{
			op = &trans->branches[i].state[role];
			if (op->status != DTM_OP_PREPARED || op->attempts == 0 ||
				op->last_outcome == DTM_OUTCOME_SUCCESS)
				continue;
			*url = trans->branches[i].url[role];
			*reason = op->last_error;
			return (DtmOutcome) op->last_outcome;
		}
	}
	reason->len = 0;
	reason->data = "";
	return DTM_OUTCOME_SUCCESS;
}

/* trans NULL: nothing is known but the status. */
static void
answer(DtmCoordinator *c, DtmServeKept *kept, DtmStatus status, const DtmTrans *trans,
	   DtmText reason)
{
	DtmHttpdRequest *request = kept->request;
	DtmApiRoute route = kept->route;
	DtmArena arena = dtm_arena(CurrentMemoryContext);
	DtmApiAnswer answered;
	DtmApiCall call;
	DtmOutcome last = DTM_OUTCOME_SUCCESS;
	DtmText url = {"", 0};
	DtmText error = {"", 0};

	memset(&call, 0, sizeof(call));
	call.route = kept->route;
	call.rpc = kept->rpc;
	call.rpc_id = kept->rpc_id;
	if (trans != NULL)
		last = stopped_by(trans, &url, &error);
	if (url.len > 0 && error.len > 0)
	{
		char *both = psprintf("%s: %s", dtm_store_text(url.data, url.len),
							  dtm_store_text(error.data, error.len));

		error.data = both;
		error.len = (uint32_t) strlen(both);
	}
	dtm_api_waited(&call, kept->type, kept->wanted, status, reason, last, error, &arena, &answered);
	dtm_serve_let_go(kept);
	dtm_serve_answer(c, request, route, &answered);
}

void
dtm_serve_wait_settled(DtmCoordinator *c, const DtmHeld *held)
{
	dlist_mutable_iter it;

	dlist_foreach_modify(it, &c->serve->waiting)
	{
		DtmServeKept *kept = dlist_container(DtmServeKept, node, it.cur);

		/* what has been submitted or aborted is not prepared: that is an old copy */
		if (kept->id == held->id && held->trans.status != DTM_STATUS_PREPARED)
			answer(c, kept, held->trans.status, &held->trans, held->trans.reason);
	}
}

/* What the tables say of one: it is answered when its round is over. */
static void
look_at(DtmCoordinator *c, DtmServeKept *kept, TimestampTz now)
{
	DtmStoredTrans row;
	DtmTrans trans;
	DtmStatus status;
	char *reason;
	DtmText said = {"", 0};

	if (dtm_store_load(&kept->id, 1, &row) > 0)
	{
		if (!row.parked && (row.retry || row.next_run_at <= now))
			return;
		if (row.reason != NULL)
		{
			said.data = row.reason;
			said.len = (uint32_t) strlen(row.reason);
		}

		/* perhaps it is parked because nobody can read it */
		if (!row.parked)
		{
			memset(&trans, 0, sizeof(trans));
			dtm_store_unpack(row.spec, row.spec_len, row.state, row.state_len, row.created_at,
							 &trans);
			trans.status = row.status;
		}
		answer(c, kept, row.status, row.parked ? NULL : &trans, said);
		return;
	}
	if (dtm_store_outcome(kept->id, &status, &reason))
	{
		if (reason != NULL)
		{
			said.data = reason;
			said.len = (uint32_t) strlen(reason);
		}
		answer(c, kept, status, NULL, said);
	}
	else /* deleted meanwhile */
		answer(c, kept, DTM_STATUS_NONE, NULL, said);
}

void
dtm_serve_wait_look(DtmCoordinator *c, TimestampTz now)
{
	DtmServe *serve = c->serve;
	MemoryContext old = MemoryContextSwitchTo(serve->batch_context);
	dlist_mutable_iter it;
	volatile bool begun = false;

	PG_TRY();
	{
		dlist_foreach_modify(it, &serve->waiting)
		{
			DtmServeKept *kept = dlist_container(DtmServeKept, node, it.cur);

			if (kept->look_at > now)
				continue;
			kept->look_at = next_look(kept, now);
			if (dtm_held_find(c, kept->id) != NULL)
				continue; /* the tick will tell */
			if (!begun)
			{
				begun = dtm_tick_begin(c);
				MemoryContextSwitchTo(serve->batch_context);
				if (!begun)
					break;
			}
			look_at(c, kept, now);
		}
		if (begun)
			dtm_tick_commit(c, false);
	}
	PG_CATCH();
	{
		ErrorData *error = dtm_tick_recover(c);

		if (dtm_tick_may_log(c))
			ereport(LOG,
					(errmsg("the HTTP API could not look after a transaction: %s", error->message)));
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	MemoryContextReset(serve->batch_context);
}
