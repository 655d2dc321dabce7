/* -------------------------------------------------------------------------
 *
 * dtm_pgcalls.c
 *		Calls to other PostgreSQL servers: pg:// branches, and the second
 *		phase of what dtm_xa_exec prepared there (xa://).
 *
 * Runs in the coordinator.  Server and user mapping are looked up before each
 * call, for the role that submitted, in a transaction of its own that is over
 * before anything is sent: what was revoked meanwhile counts.  How it is
 * called is below the line (src/net/dtm_pq*.c).
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "dtm_answer.h"
#include "dtm_barrier.h"
#include "dtm_coordinator.h"
#include "dtm_executor.h"
#include "dtm_foreign.h"
#include "dtm_settings.h"

/* Its waiters are remembered beside those of hosts, which have no "/" in their names. */
#define WAITER_PREFIX "pg://"

static void
usual_limits(DtmPqLimits *limits)
{
	limits->max_server_calls = dtm_max_host_calls;
	limits->max_calls = DTM_MAX_SERVER_CONNECTIONS;
	limits->max_queue = Max(dtm_max_inflight / 2, 1);
	limits->max_answer = (size_t) dtm_max_response_size * 1024;
}

void
dtm_pgcalls_init(DtmCoordinator *c)
{
	DtmPqLimits limits;

	usual_limits(&limits);
	c->pq = dtm_pq_new(&limits);
	if (c->pq == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not set up calls to servers")));
}

void
dtm_pgcalls_configure(DtmCoordinator *c)
{
	DtmPqLimits limits;

	usual_limits(&limits);
	dtm_pq_set_limits(c->pq, &limits);
}

/* ---- starting ---- */

static char *
wire_string(DtmText from)
{
	DtmText wire = dtm_calls_wire_text(from);

	return pnstrdup(wire.data == NULL ? "" : wire.data, wire.len);
}

static char *
wire_chars(const char *from)
{
	DtmText chars = {from, (uint32_t) strlen(from)};

	return wire_string(chars);
}

static char *
server_name(const DtmTarget *target)
{
	char *name = palloc(target->host.len + 1);

	(void) dtm_identifier_read(target->host, name, target->host.len + 1);
	return name;
}

/* The op to undo, unless it ran in the same database there. */
static const char *
ran_elsewhere(const DtmCall *call, const DtmBranch *branch, const DtmTarget *target)
{
	const char *origin = dtm_barrier_origin(dtm_op_name((DtmOp) call->op));
	DtmText forward;
	DtmTarget ran;

	if (branch == NULL || origin == NULL)
		return NULL;
	forward = branch->url[DTM_ROLE_FORWARD];
	if (dtm_target_parse(forward.data, forward.len, &ran) == NULL && ran.scheme == DTM_SCHEME_PG &&
		strcmp(server_name(&ran), server_name(target)) == 0)
		return NULL;
	return origin;
}

static void
fill_branch(DtmPqCall *request, const DtmHeld *held, const DtmCall *call, const DtmBranch *branch,
			const DtmTarget *target)
{
	request->kind = DTM_PQ_BRANCH;
	request->function = wire_string(target->rest);
	request->gid = wire_chars(held->gid);
	request->trans_type = dtm_type_name(held->trans.type);
	request->op = dtm_op_name((DtmOp) call->op);
	request->ran_elsewhere = ran_elsewhere(call, branch, target);
	request->branch_id = branch == NULL ? "00" : wire_string(branch->branch_id);

	/* a check-back has no effect that must not happen twice */
	request->question = call->op == DTM_OP_MSG;
	if (branch == NULL)
		request->payload = wire_chars(dtm_check_back_payload(held->gid));
	else if (branch->payload.len > 0)
		request->payload = wire_string(branch->payload);
	if (request->payload != NULL)
		request->payload_len = strlen(request->payload);
}

/* dtm_xa_exec prepared it under the gid and the branch, "<gid>-01". */
static void
fill_finish(DtmPqCall *request, const DtmHeld *held, const DtmCall *call, const DtmBranch *branch)
{
	request->kind = DTM_PQ_FINISH;
	request->commit = call->op == DTM_OP_COMMIT;
	request->xid =
		psprintf("%s-%.*s", held->gid, (int) branch->branch_id.len, branch->branch_id.data);
}

/* Throws what is wrong with the server, the mapping, or a text. */
static void
start(DtmCoordinator *c, DtmHeld *held, const DtmCall *call, const DtmTarget *target)
{
	DtmBranch *branch =
		call->branch == DTM_BRANCH_TRANS ? NULL : &held->trans.branches[call->branch];
	DtmPqCall request;
	DtmForeign *foreign;
	DtmRc rc;

	StartTransactionCommand();
	MemoryContextSwitchTo(c->tick_context);
	foreign = dtm_foreign_get(server_name(target), held->owner, "");
	CommitTransactionCommand();
	MemoryContextSwitchTo(c->tick_context);

	memset(&request, 0, sizeof(request));
	request.tag = (uint64) held->id;
	request.tag2 = dtm_calls_tag2(held, call->branch, call->role);
	request.timeout_ms = dtm_calls_timeout(held, branch);
	request.server = foreign->name;
	request.keywords = foreign->keywords;
	request.values = foreign->values;
	request.fingerprint = foreign->fingerprint;
	request.password_required = foreign->password_required;
	if (target->scheme == DTM_SCHEME_PG)
		fill_branch(&request, held, call, branch, target);
	else if (branch != NULL)
		fill_finish(&request, held, call, branch);
	else
		elog(ERROR, "a check-back cannot be an xa:// target");
	rc = dtm_pq_start(c->pq, &request);
	if (rc == DTM_OK)
		held->calls_out++;
	else
		dtm_calls_end(c, held, call, DTM_OUTCOME_ERROR,
					  rc == DTM_NOMEM ? "out of memory for the call"
									  : "the call cannot be written down");
}

void
dtm_pgcalls_start(DtmCoordinator *c, DtmHeld *held, const DtmCall *call, const DtmTarget *target)
{
	PG_TRY();
	{
		start(c, held, call, target);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(c->tick_context);
		error = CopyErrorData();
		FlushErrorState();
		if (IsTransactionOrTransactionBlock())
			AbortCurrentTransaction();
		MemoryContextSwitchTo(c->tick_context);
		dtm_calls_end(c, held, call, DTM_OUTCOME_ERROR,
					  psprintf("%s: %s", unpack_sql_state(error->sqlerrcode), error->message));
	}
	PG_END_TRY();
}

/* ---- results ---- */

/* "DTM01: no stock": as an executor says it of a sql: target. */
static char *
reason_of_done(const DtmPqDone *done)
{
	char *reason = done->sqlstate[0] == '\0' ? pstrdup(done->message)
											 : psprintf("%s: %s", done->sqlstate, done->message);

	dtm_calls_people_text(reason);
	return reason;
}

static DtmOutcome
outcome_of_done(const DtmPqDone *done)
{
	if (done->error == DTM_PQ_OK)
		return DTM_OUTCOME_SUCCESS;
	if (done->error == DTM_PQ_SQL && done->kind == DTM_PQ_BRANCH)
	{
		if (strcmp(done->sqlstate, "DTM01") == 0)
			return DTM_OUTCOME_FAILURE;
		if (strcmp(done->sqlstate, "DTM02") == 0)
			return DTM_OUTCOME_ONGOING;
	}
	return DTM_OUTCOME_ERROR;
}

/* May it be about the server, so that it is worth coming again when that answers? */
static bool
is_server_trouble(const DtmPqDone *done)
{
	return done->error == DTM_PQ_CONNECT || done->error == DTM_PQ_TIMEOUT ||
		done->error == DTM_PQ_BROKEN || done->error == DTM_PQ_POSTPONED ||
		strncmp(done->sqlstate, "57P", 3) == 0;
}

static void
note_waiter(DtmCoordinator *c, const DtmHeld *held, const DtmEvent *event)
{
	DtmText url = event->branch == DTM_BRANCH_TRANS
		? held->trans.query_url
		: held->trans.branches[event->branch].url[event->role];
	DtmTarget target;

	if (dtm_target_parse(url.data, url.len, &target) == NULL)
		dtm_calls_note_waiter(c, held, psprintf(WAITER_PREFIX "%s", server_name(&target)));
}

/*
 * A check-back may say no by its answer, as over HTTP: an error would roll
 * back the barrier's note that the local part must not commit any more.
 */
static void
read_question_answer(DtmEvent *event, const DtmPqDone *done, char **reason)
{
	char text_of[DTM_MAX_ERROR_LEN + 1];

	event->outcome = dtm_answer_meaning(200, done->answer, done->answer_len);
	if (event->outcome == DTM_OUTCOME_SUCCESS)
		return;
	(void) dtm_text_printable(done->answer, done->answer_len, text_of, sizeof(text_of));
	dtm_calls_people_text(text_of);
	*reason = pstrdup(text_of);
}

static void
pq_ended(DtmCoordinator *c, const DtmPqDone *done)
{
	DtmHeld *held = dtm_held_find(c, (int64) done->tag);
	DtmEvent event;
	TimestampTz now = GetCurrentTimestamp();
	char *reason = NULL;

	if (held == NULL || held->hold != (uint32) (done->tag2 >> 32))
		return;
	held->calls_out--;

	memset(&event, 0, sizeof(event));
	event.branch = (uint16) ((done->tag2 >> 8) & 0xFFFF);
	event.role = (uint8) (done->tag2 & 0xFF);
	if (done->error == DTM_PQ_POSTPONED)
	{
		event.kind = DTM_EVENT_POSTPONE;
		event.until = dtm_calls_postpone(held, now, done->retry_after_ms);
	}
	else
	{
		event.kind = DTM_EVENT_RESULT;
		event.started_at = now - done->took_us;
		event.outcome = outcome_of_done(done);
	}
	if (done->error != DTM_PQ_OK)
		reason = reason_of_done(done);
	else if (event.branch == DTM_BRANCH_TRANS && done->answer != NULL)
		read_question_answer(&event, done, &reason);
	if (done->answer != NULL && dtm_calls_wants_answer(held, &event))
		event.answer = dtm_calls_text(c, done->answer, done->answer_len);
	if (reason != NULL)
	{
		event.reason = dtm_calls_text(c, reason, strlen(reason));
		if (event.outcome == DTM_OUTCOME_FAILURE)
			event.body =
				done->error == DTM_PQ_OK ? event.reason : dtm_calls_body_of_reason(c, reason);
	}
	dtm_calls_add_event(c, held, &event);
	if (is_server_trouble(done))
		note_waiter(c, held, &event);
}

void
dtm_pgcalls_collect(DtmCoordinator *c)
{
	MemoryContext old = MemoryContextSwitchTo(c->tick_context);
	DtmPqDone *done;
	const char *server;

	while ((done = dtm_pq_next_done(c->pq)) != NULL)
	{
		if (!dtm_xa_sweep_ended(c, done))
			pq_ended(c, done);
		dtm_pq_release(c->pq, done);
	}
	while ((server = dtm_pq_recovered(c->pq)) != NULL)
		dtm_calls_host_back(c, psprintf(WAITER_PREFIX "%s", server));
	MemoryContextSwitchTo(old);
}
