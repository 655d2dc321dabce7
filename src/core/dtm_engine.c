/* -------------------------------------------------------------------------
 *
 * dtm_engine.c
 *		Carries out the rules of dtm_modes.c: one event, one plan.
 *
 * An event is applied to the state; then the phase of the (new) status is
 * walked, and complete phases lead to the next status, until one has
 * something to wait for; then the ops that are due become calls.
 *
 * Not here: I/O, clock, storage; what differs between the modes
 * (dtm_modes.c); the order of calls (dtm_phase.c); the meaning of an answer
 * (dtm_answer.c).  Runs in the coordinator; test/unit/test_histories.c holds
 * it to its invariants.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_engine.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "dtm_answer.h"
#include "dtm_backoff.h"
#include "dtm_phase.h"

#define MIN_LOG_SIZE 4
#define US_PER_MS 1000

static DtmRc apply_event(DtmRun *run, const DtmEvent *event);
static DtmRc apply_result(DtmRun *run, const DtmEvent *event);
static DtmRc end_replay(DtmRun *run, const DtmEvent *event);
static DtmRc apply_postpone(DtmRun *run, const DtmEvent *event);
static void apply_retry(DtmRun *run);
static DtmRc advance(DtmRun *run);
static DtmRc start_calls(DtmRun *run);

DtmRc
dtm_engine_handle(DtmTrans *trans, const DtmEvent *event, DtmTime now,
				  const DtmEngineParams *params, DtmArena *arena, DtmPlan *plan)
{
	DtmRun run = {
		.trans = trans,
		.params = params,
		.arena = arena,
		.now = now,
		.mode = dtm_mode_of(trans),
		.plan = plan,
		.fresh = DTM_BRANCH_TRANS,
	};
	DtmRc rc;

	memset(plan, 0, sizeof(*plan));
	plan->next_at = DTM_TIME_NEVER;
	plan->finished = dtm_status_is_final(trans->status);
	if (plan->finished)
	{
		bool asked = event->kind == DTM_EVENT_SUBMIT || event->kind == DTM_EVENT_ABORT ||
			event->kind == DTM_EVENT_END;

		return asked ? DTM_STATE : DTM_OK;
	}

	run.rule = &run.mode->rules[trans->status];
	rc = apply_event(&run, event);
	if (rc == DTM_OK)
		rc = advance(&run);
	if (rc == DTM_OK)
		rc = start_calls(&run);
	plan->finished = dtm_status_is_final(trans->status);
	return rc;
}

DtmRc
dtm_engine_steer(DtmTrans *trans, const DtmEvent *event, DtmTime now, DtmArena *arena)
{
	DtmPlan plan;
	DtmRun run = {
		.trans = trans,
		.arena = arena,
		.now = now,
		.mode = dtm_mode_of(trans),
		.plan = &plan,
		.fresh = DTM_BRANCH_TRANS,
	};

	memset(&plan, 0, sizeof(plan));
	if (dtm_status_is_final(trans->status))
		return DTM_STATE;
	run.rule = &run.mode->rules[trans->status];
	if (event->kind == DTM_EVENT_RESULT)
		return end_replay(&run, event);
	return apply_event(&run, event);
}

DtmRc
dtm_engine_settle(DtmTrans *trans, uint16_t branch, DtmTime now)
{
	DtmPlan plan = {0};
	DtmRun run = {.trans = trans, .now = now, .plan = &plan};

	if (trans->type != DTM_TYPE_WORKFLOW || trans->status != DTM_STATUS_PREPARED ||
		branch >= trans->n_branches || trans->branches[branch].kind != DTM_STEP_AWAIT ||
		trans->branches[branch].state[DTM_ROLE_FORWARD].status != DTM_OP_PREPARED)
		return DTM_STATE;
	dtm_phase_decide(&run, &trans->branches[branch].state[DTM_ROLE_FORWARD], DTM_OP_SUCCEED);
	return DTM_OK;
}

void
dtm_engine_stepped(DtmTrans *trans)
{
	trans->query.failures = 0;
	trans->query.next_at = 0;
}

bool
dtm_engine_op_exists(const DtmTrans *trans, const DtmBranch *branch, DtmRole role)
{
	return (dtm_mode_of(trans)->roles & (1 << role)) != 0 && branch->op[role] != DTM_OP_NONE;
}

/* ------------------------------------------------------------------------
 * Texts
 * ------------------------------------------------------------------------
 */

/*
 * Copy a text, cut between two UTF-8 characters.  An equal one is not copied
 * again: a branch that answers the same for days must not grow the arena.
 */
static DtmRc
copy_text(DtmArena *arena, DtmText from, DtmText *to)
{
	uint32_t len = dtm_text_cut(from, DTM_MAX_ERROR_LEN).len;
	char *copy;

	if (len == 0 || (len == to->len && memcmp(from.data, to->data, len) == 0))
		return DTM_OK;

	copy = arena->alloc(arena->context, len);
	if (copy == NULL)
		return DTM_NOMEM;
	memcpy(copy, from.data, len);
	to->data = copy;
	to->len = len;
	return DTM_OK;
}

static DtmRc
set_reason(DtmRun *run, const char *text, size_t len)
{
	DtmText reason = {text, (uint32_t) len};

	return copy_text(run->arena, reason, &run->trans->reason);
}

/* ------------------------------------------------------------------------
 * Events
 * ------------------------------------------------------------------------
 */

static DtmRc
apply_event(DtmRun *run, const DtmEvent *event)
{
	uint8_t status = run->trans->status;
	uint8_t next = status;

	switch (event->kind)
	{
		case DTM_EVENT_WAKE:
			return DTM_OK;
		case DTM_EVENT_RESULT:
			return apply_result(run, event);
		case DTM_EVENT_POSTPONE:
			return apply_postpone(run, event);
		case DTM_EVENT_RETRY:
			apply_retry(run);
			return DTM_OK;
		case DTM_EVENT_SUBMIT:
			next = run->rule->on_submit;
			break;
		case DTM_EVENT_ABORT:
			next = run->rule->on_abort;
			break;
		case DTM_EVENT_STOP:
			next = DTM_STATUS_FAILED;
			break;
		case DTM_EVENT_END:
			next =
				event->outcome == DTM_OUTCOME_SUCCESS ? run->rule->on_succeed : run->rule->on_fail;
			break;
	}

	if (next == DTM_STATUS_NONE)
		return DTM_STATE;
	if (next != status)
	{
		if (event->kind != DTM_EVENT_SUBMIT &&
			set_reason(run, event->reason.data, event->reason.len) != DTM_OK)
			return DTM_NOMEM;
		dtm_phase_enter(run, next);
	}
	return DTM_OK;
}

/* The op an event is about; NULL when it is not in flight, so that the event is late. */
static DtmOpState *
op_of_event(DtmTrans *trans, const DtmEvent *event)
{
	DtmOpState *op;

	if (event->branch != DTM_BRANCH_TRANS &&
		(event->branch >= trans->n_branches || event->role >= DTM_ROLES))
		return NULL;
	op = dtm_trans_op(trans, event->branch, event->role);
	return op->in_flight ? op : NULL;
}

/* It stays "started": after a crash nobody could tell that it was not tried. */
static DtmRc
apply_postpone(DtmRun *run, const DtmEvent *event)
{
	DtmOpState *op = op_of_event(run->trans, event);

	if (op == NULL)
		return DTM_OK;
	op->in_flight = false;
	op->next_at = event->until;
	run->plan->changed = true;
	return copy_text(run->arena, event->reason, &op->last_error);
}

static void
make_due(DtmRun *run, DtmOpState *op)
{
	if (op->status == DTM_OP_PREPARED && !op->in_flight && op->next_at != 0)
	{
		op->next_at = 0;
		run->plan->changed = true;
	}
}

static void
apply_retry(DtmRun *run)
{
	DtmTrans *trans = run->trans;

	/* what is waited for is the time to ask, not the start */
	if (run->rule->gate == DTM_GATE_DEADLINE || run->rule->gate == DTM_GATE_INTERVAL)
	{
		if (!trans->query.started)
		{
			trans->query.started = true;
			run->plan->changed = true;
		}
	}
	/* recorded before the calls: a crash must not put the start off again */
	else if (trans->hurried_at == 0 && run->now < trans->start_at)
	{
		trans->hurried_at = run->now > trans->created_at ? run->now : trans->created_at + 1;
		run->plan->changed = true;
		run->plan->flush = true;
	}
	make_due(run, &trans->query);
	for (uint16_t i = 0; i < trans->n_branches; i++)
	{
		for (uint8_t role = 0; role < DTM_ROLES; role++)
			make_due(run, &trans->branches[i].state[role]);
	}
}

bool
dtm_engine_message_waits(const DtmTrans *trans, DtmTime now)
{
	DtmRun run;

	if (trans->type != DTM_TYPE_MSG)
		return false;
	if (trans->status == DTM_STATUS_SUBMITTED)
		return trans->hurried_at == 0 && now < trans->start_at;
	if (trans->status != DTM_STATUS_PREPARED || trans->query.started)
		return false;
	memset(&run, 0, sizeof(run));
	run.trans = (DtmTrans *) trans;
	run.mode = dtm_mode_of(trans);
	run.rule = &run.mode->rules[trans->status];
	return now < dtm_phase_deadline(&run);
}

/* ------------------------------------------------------------------------
 * Results
 * ------------------------------------------------------------------------
 */

/* Add an attempt to the log, which drops its oldest when it is full. */
static DtmRc
log_call(DtmRun *run, const DtmEvent *event)
{
	DtmTrans *trans = run->trans;
	DtmTime took = run->now - event->started_at;
	DtmCallRecord *record;

	if (trans->n_log >= DTM_MAX_CALL_LOG)
	{
		memmove(trans->log, trans->log + 1, (DTM_MAX_CALL_LOG - 1) * sizeof(DtmCallRecord));
		trans->n_log = DTM_MAX_CALL_LOG - 1;
		trans->log_dropped++;
	}
	else if (trans->n_log >= trans->log_size)
	{
		uint16_t size = trans->n_log < MIN_LOG_SIZE ? MIN_LOG_SIZE : trans->n_log * 2;
		DtmCallRecord *log = run->arena->alloc(run->arena->context, size * sizeof(*log));

		if (log == NULL)
			return DTM_NOMEM;
		if (trans->n_log > 0)
			memcpy(log, trans->log, trans->n_log * sizeof(*log));
		trans->log = log;
		trans->log_size = size;
	}

	record = &trans->log[trans->n_log++];
	memset(record, 0, sizeof(*record));
	record->branch = event->branch;
	record->role = event->branch == DTM_BRANCH_TRANS ? DTM_ROLE_FORWARD : event->role;
	record->outcome = event->outcome;
	record->started_at = event->started_at;
	record->took_us = took < 0 ? 0 : took > UINT32_MAX ? UINT32_MAX : (uint32_t) took;
	return DTM_OK;
}

/* A definite FAILURE that this phase does not repeat. */
static DtmRc
fail_phase(DtmRun *run, const DtmEvent *event)
{
	DtmTrans *trans = run->trans;
	DtmText body = event->body.len > 0 ? event->body : event->reason;
	DtmText url = event->branch == DTM_BRANCH_TRANS
		? trans->query_url
		: trans->branches[event->branch].url[event->role];
	char text[DTM_MAX_ERROR_LEN + 1];
	size_t len;

	len = dtm_answer_rollback_reason(url, body.data, body.len, text, sizeof(text));
	if (set_reason(run, text, len) != DTM_OK)
		return DTM_NOMEM;
	dtm_phase_enter(run, run->rule->on_failure);
	return DTM_OK;
}

static void
back_off(DtmRun *run, const DtmEvent *event, DtmOpState *op)
{
	const DtmEngineParams *params = run->params;
	int32_t interval = dtm_phase_interval_ms(run);
	int64_t wait = interval;

	if (event->outcome == DTM_OUTCOME_ONGOING || event->outcome == DTM_OUTCOME_SUCCESS)
		op->failures = 0;
	else
	{
		uint64_t seed = params->jitter_seed ^ ((uint64_t) event->branch << 48) ^
			((uint64_t) event->role << 40) ^ op->attempts;

		uint32_t doublings = op->failures + (run->trans->flags & DTM_FLAG_DOUBLE_FIRST ? 1 : 0);

		op->failures++;
		wait = dtm_backoff_ms(interval, params->retry_max_interval_ms, doublings + 1, seed);
	}
	op->next_at = run->now + wait * US_PER_MS;
}

/* An answer that decides nothing: ask again later, or give up at the limit. */
static DtmRc
repeat_call(DtmRun *run, const DtmEvent *event, DtmOpState *op)
{
	DtmTrans *trans = run->trans;
	uint32_t tries = op->attempts;
	int32_t limit = -1;

	if (run->rule->on_limit != DTM_STATUS_NONE)
	{
		if (event->branch != DTM_BRANCH_TRANS)
			limit = trans->branches[event->branch].retry_limit;
		else /* a function that got one step further begins to count again */
			tries = op->failures + (event->outcome == DTM_OUTCOME_ERROR ? 1 : 0);
		if (limit < 0)
			limit = trans->retry_limit;
	}

	if (limit >= 0 && tries > (uint32_t) limit)
	{
		char text[96];
		int len = snprintf(text, sizeof(text),
						   "RetryCount is greater than RetryLimit, RetryLimit: %d", (int) limit);

		if (set_reason(run, text, (size_t) len) != DTM_OK)
			return DTM_NOMEM;
		dtm_phase_enter(run, run->rule->on_limit);
		return DTM_OK;
	}

	back_off(run, event, op);
	if (limit >= 0 && (trans->flags & DTM_FLAG_RETRY_NO_PAUSE))
		op->next_at = 0;
	return DTM_OK;
}

/*
 * A call has ended.  last_error stays when a later call succeeds: it tells
 * why there were several.
 */
static DtmRc
apply_result(DtmRun *run, const DtmEvent *event)
{
	DtmTrans *trans = run->trans;
	const DtmRule *rule = run->rule;
	DtmOpState *op = op_of_event(trans, event);
	bool is_query = event->branch == DTM_BRANCH_TRANS;
	bool of_phase;

	if (op == NULL)
		return DTM_OK;

	/* else it comes from the phase before: noted, but it decides nothing any more */
	of_phase =
		is_query ? dtm_walk_asks(rule) : rule->walk > DTM_WALK_QUERY && rule->role == event->role;

	op->in_flight = false;
	op->attempts++;
	op->last_outcome = event->outcome;
	trans->attempts++;
	if (op->attempts > 1)
		trans->retries++;
	run->plan->changed = true;
	if (log_call(run, event) != DTM_OK)
		return DTM_NOMEM;

	/* who was asked to go on tells its end by itself */
	if (event->outcome == DTM_OUTCOME_SUCCESS && rule->walk == DTM_WALK_RESUME)
		return repeat_call(run, event, op);
	if (event->outcome == DTM_OUTCOME_SUCCESS)
	{
		dtm_phase_decide(run, op, DTM_OP_SUCCEED);
		if (of_phase && rule->revocable)
		{
			run->fresh = event->branch;
			run->progress = true;
		}
		return DTM_OK;
	}

	if (copy_text(run->arena, event->reason, &op->last_error) != DTM_OK)
		return DTM_NOMEM;
	if (event->reason.len > 0)
		trans->log[trans->n_log - 1].reason = dtm_text_cut(op->last_error, DTM_MAX_LOG_REASON);
	if (!of_phase)
	{
		if (event->outcome == DTM_OUTCOME_FAILURE)
			dtm_phase_decide(run, op, DTM_OP_FAILED);
		return DTM_OK;
	}
	if (event->outcome == DTM_OUTCOME_FAILURE && rule->on_failure != DTM_STATUS_NONE)
	{
		dtm_phase_decide(run, op, DTM_OP_FAILED);
		return rule->walk == DTM_WALK_REPLAY && !is_query ? DTM_OK : fail_phase(run, event);
	}
	return repeat_call(run, event, op);
}

/*
 * The function of a workflow has returned, in a process that does not drive.
 * Everything it asked for was decided before, or it would not have come to
 * its end.
 */
static DtmRc
end_replay(DtmRun *run, const DtmEvent *event)
{
	DtmTrans *trans = run->trans;

	if (run->rule->walk != DTM_WALK_REPLAY || event->branch != DTM_BRANCH_TRANS ||
		event->outcome != DTM_OUTCOME_SUCCESS)
		return DTM_STATE;
	for (uint16_t i = 0; i < trans->n_branches; i++)
		if (trans->branches[i].state[DTM_ROLE_FORWARD].status == DTM_OP_PREPARED)
			return DTM_STATE;

	trans->query.in_flight = true;
	trans->query.started = true;
	if (trans->query.started_at == 0)
		trans->query.started_at = event->started_at;
	if (apply_result(run, event) != DTM_OK)
		return DTM_NOMEM;
	dtm_phase_enter(run, run->rule->on_done);
	return DTM_OK;
}

/* ------------------------------------------------------------------------
 * Phases
 * ------------------------------------------------------------------------
 */

/* "Timeout after 3 seconds", DTM's words; whole seconds as an integer. */
static DtmRc
set_timeout_reason(DtmRun *run)
{
	int64_t ms = run->trans->timeout_to_fail_ms;
	char fraction[8] = "";
	char text[64];
	int len;

	if (ms % 1000 != 0)
	{
		len = snprintf(fraction, sizeof(fraction), ".%03d", (int) (ms % 1000));
		while (fraction[len - 1] == '0')
			fraction[--len] = '\0';
	}
	len = snprintf(text, sizeof(text), "Timeout after %" PRId64 "%s seconds", ms / 1000, fraction);
	return set_reason(run, text, (size_t) len);
}

/* From phase to phase, until one has something to wait for. */
static DtmRc
advance(DtmRun *run)
{
	while (!dtm_status_is_final(run->trans->status))
	{
		if (dtm_phase_timed_out(run))
		{
			if (set_timeout_reason(run) != DTM_OK)
				return DTM_NOMEM;
			dtm_phase_enter(run, run->rule->on_timeout);
		}
		if (dtm_phase_walk(run))
			return DTM_OK;
		dtm_phase_enter(run, run->rule->on_done);
	}
	run->n_ready = 0;
	run->plan->next_at = DTM_TIME_NEVER;
	return DTM_OK;
}

static DtmRc
start_calls(DtmRun *run)
{
	DtmPlan *plan = run->plan;

	if (run->n_ready == 0)
		return DTM_OK;
	plan->calls = run->arena->alloc(run->arena->context, run->n_ready * sizeof(DtmCall));
	if (plan->calls == NULL)
		return DTM_NOMEM;
	dtm_phase_start(run);
	return DTM_OK;
}
