/* -------------------------------------------------------------------------
 *
 * dtm_phase.c
 *		Walks the ops of a phase in the order of its rule.
 *
 * A phase is one status of one mode.  Every walk is one pass over the
 * branches: ops whose turn has come are settled (no target), counted or
 * started (due), or tell when they will be due.
 *
 * Not here: events and results (dtm_engine.c), the rules (dtm_modes.c).  Runs
 * in the coordinator.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_phase.h"

#include <string.h>

#define US_PER_MS 1000

/* Bits for every possible branch number. */
#define BRANCH_WORDS ((UINT16_MAX + 1) / 64)

/* ------------------------------------------------------------------------
 * Order of the branches
 * ------------------------------------------------------------------------
 */

static inline uint16_t
n_predecessors(const DtmTrans *trans, uint16_t branch)
{
	if (trans->branches[branch].after != NULL)
		return trans->branches[branch].n_after;
	return branch > 0 && !(trans->flags & DTM_FLAG_CONCURRENT) ? 1 : 0;
}

static inline uint16_t
predecessor(const DtmTrans *trans, uint16_t branch, uint16_t n)
{
	const uint16_t *after = trans->branches[branch].after;

	return after != NULL ? after[n] : (uint16_t) (branch - 1);
}

static bool
predecessors_succeeded(const DtmTrans *trans, uint16_t branch)
{
	uint16_t n = n_predecessors(trans, branch);

	for (uint16_t i = 0; i < n; i++)
	{
		const DtmBranch *before = &trans->branches[predecessor(trans, branch, i)];

		if (before->state[DTM_ROLE_FORWARD].status != DTM_OP_SUCCEED)
			return false;
	}
	return true;
}

/* When the steps without predecessors may start; 0 = at once, whatever the clock does. */
static inline DtmTime
start_gate(const DtmTrans *trans)
{
	if (trans->hurried_at != 0)
		return 0;
	return trans->start_at > trans->created_at ? trans->start_at : 0;
}

/*
 * Has this step possibly been called, as far as a crash let us remember?
 * What succeeded by the event at hand can not have let others start yet.
 */
static bool
may_have_been_called(const DtmRun *run, uint16_t branch)
{
	const DtmTrans *trans = run->trans;
	uint16_t n = n_predecessors(trans, branch);

	if (n == 0)
		return run->now >= start_gate(trans);
	for (uint16_t i = 0; i < n; i++)
	{
		if (predecessor(trans, branch, i) == run->fresh)
			return false;
	}
	return predecessors_succeeded(trans, branch);
}

/* ------------------------------------------------------------------------
 * Status of the transaction
 * ------------------------------------------------------------------------
 */

/*
 * A decision is flushed before anything follows from it.  The marks are made
 * here because the next phase no longer knows the order of starts.
 */
void
dtm_phase_enter(DtmRun *run, DtmStatus status)
{
	DtmTrans *trans = run->trans;

	if (run->rule->revocable && status == DTM_STATUS_ABORTING)
	{
		for (uint16_t i = 0; i < trans->n_branches; i++)
		{
			DtmOpState *op = &trans->branches[i].state[DTM_ROLE_FORWARD];

			if (op->status == DTM_OP_PREPARED && !op->started && may_have_been_called(run, i))
				op->started = true;
		}
	}

	/* nobody asks any more, so it holds nothing up */
	if (dtm_walk_asks(run->rule))
		trans->query.failures = 0;

	/* nothing of the phase that is left waits for its time any more */
	trans->query.next_at = 0;
	for (uint16_t i = 0; i < trans->n_branches; i++)
		for (int role = 0; role < DTM_ROLES; role++)
			trans->branches[i].state[role].next_at = 0;

	trans->status = status;
	run->rule = &run->mode->rules[status];
	run->plan->changed = true;
	run->plan->flush = true;
}

DtmTime
dtm_phase_deadline(const DtmRun *run)
{
	const DtmTrans *trans = run->trans;
	DtmTime start = trans->hurried_at != 0 ? trans->hurried_at : trans->start_at;
	DtmTime since = run->rule->since == DTM_SINCE_START ? start : trans->created_at;
	DtmTime at;

	if (trans->timeout_to_fail_ms <= 0 ||
		__builtin_mul_overflow(trans->timeout_to_fail_ms, (DtmTime) US_PER_MS, &at) ||
		__builtin_add_overflow(since, at, &at))
		return DTM_TIME_NEVER;
	return at;
}

int32_t
dtm_phase_interval_ms(const DtmRun *run)
{
	return run->trans->retry_interval_ms > 0 ? run->trans->retry_interval_ms
											 : run->params->retry_interval_ms;
}

void
dtm_phase_decide(DtmRun *run, DtmOpState *op, DtmOpStatus status)
{
	op->status = status;
	op->finished_at = run->now;
	op->next_at = 0;
	op->failures = 0;
	run->plan->changed = true;
}

/* ------------------------------------------------------------------------
 * Walking a phase
 * ------------------------------------------------------------------------
 */

/* Is there nothing left to do for this branch in this phase? */
static bool
settled(const DtmRun *run, const DtmBranch *branch)
{
	const DtmRule *rule = run->rule;
	const DtmOpState *forward = &branch->state[DTM_ROLE_FORWARD];

	if (rule->scope == DTM_SCOPE_CALLED && forward->status == DTM_OP_PREPARED && !forward->started)
		return true;
	if (rule->scope == DTM_SCOPE_SUCCEEDED && forward->status != DTM_OP_SUCCEED)
		return true;
	if (rule->scope == DTM_SCOPE_NOT_FAILED && forward->status == DTM_OP_FAILED)
		return true;
	return branch->state[rule->role].status == DTM_OP_SUCCEED;
}

static void
start_call(DtmRun *run, uint16_t branch, uint8_t op_code, DtmOpState *op)
{
	DtmCall *call = &run->plan->calls[run->plan->n_calls++];

	call->branch = branch;
	call->role = branch == DTM_BRANCH_TRANS ? DTM_ROLE_FORWARD : run->rule->role;
	call->op = op_code;

	/*
	 * A crash that loses the success of a predecessor would also lose that
	 * this step may have been called, and with it its compensation.
	 */
	if (run->progress && run->rule->revocable && !op->started &&
		n_predecessors(run->trans, branch) > 0)
		run->plan->flush = true;

	op->in_flight = true;
	op->started = true;
	if (op->started_at == 0)
		op->started_at = run->now;
}

/* An op whose turn it is: settle it, start it, or note when it is due. */
static void
visit(DtmRun *run, uint16_t branch, DtmText url, uint8_t op_code, DtmOpState *op, DtmTime gate)
{
	DtmTime due = op->next_at > gate ? op->next_at : gate;

	if (op->in_flight)
		return;
	if (due > run->now)
	{
		if (due < run->plan->next_at)
			run->plan->next_at = due;
		return;
	}
	if (url.len == 0)
	{
		dtm_phase_decide(run, op, DTM_OP_SUCCEED);
		run->moved = true;
		if (run->rule->revocable)
			run->progress = true;
		return;
	}
	if (run->starting)
		start_call(run, branch, op_code, op);
	else
		run->n_ready++;
}

/*
 * The turn of a branch's op in this phase; true when that settled it.  An op
 * that the branch does not have is settled in its turn like one without a
 * target, so that it keeps apart the steps before and after it.
 */
static bool
visit_branch(DtmRun *run, uint16_t index)
{
	const DtmTrans *trans = run->trans;
	const DtmRule *rule = run->rule;
	DtmBranch *branch = &trans->branches[index];
	DtmText no_target = {NULL, 0};
	DtmTime gate = 0;

	/* its result must be known first; request_timeout bounds the wait */
	if (rule->role != DTM_ROLE_FORWARD && branch->state[DTM_ROLE_FORWARD].in_flight)
		return false;
	if (rule->gate == DTM_GATE_START && n_predecessors(trans, index) == 0)
		gate = start_gate(trans);
	visit(run, index, branch->op[rule->role] != DTM_OP_NONE ? branch->url[rule->role] : no_target,
		  branch->op[rule->role], &branch->state[rule->role], gate);
	return branch->state[rule->role].status == DTM_OP_SUCCEED;
}

static void
walk_query(DtmRun *run)
{
	DtmTrans *trans = run->trans;
	DtmTime gate = start_gate(trans);

	/* its time has come, or a RETRY did not wait for that */
	if (run->rule->gate == DTM_GATE_DEADLINE)
		gate = trans->query.started ? 0 : dtm_phase_deadline(run);
	else if (run->rule->gate == DTM_GATE_INTERVAL)
		gate = trans->query.started
			? 0
			: trans->created_at + dtm_phase_interval_ms(run) * (DtmTime) US_PER_MS;

	if (trans->query.status == DTM_OP_SUCCEED)
		return;
	run->pending = true;
	visit(run, DTM_BRANCH_TRANS, trans->query_url, run->mode->query_op, &trans->query, gate);
}

/* Until the client tells the end; without a target, that is all there is to wait for. */
static void
walk_resume(DtmRun *run)
{
	run->pending = true;
	if (run->trans->query_url.len > 0)
		walk_query(run);
}

/* A sleep or an await is settled by its time, like an op without a target by its turn. */
static void
visit_step(DtmRun *run, uint16_t index)
{
	DtmBranch *branch = &run->trans->branches[index];
	bool waits = branch->kind == DTM_STEP_SLEEP || branch->kind == DTM_STEP_AWAIT;
	DtmText no_target = {NULL, 0};

	visit(run, index, waits ? no_target : branch->url[DTM_ROLE_FORWARD],
		  branch->op[DTM_ROLE_FORWARD], &branch->state[DTM_ROLE_FORWARD],
		  waits ? branch->due_at : 0);
}

/* The function is run again once all that it has asked for is decided. */
static void
walk_replay(DtmRun *run)
{
	DtmTrans *trans = run->trans;
	bool undecided = false;

	for (uint16_t i = 0; i < trans->n_branches; i++)
	{
		if (trans->branches[i].state[DTM_ROLE_FORWARD].status != DTM_OP_PREPARED)
			continue;
		visit_step(run, i);
		undecided = true;
	}
	if (undecided)
		run->pending = true;
	else
		walk_query(run);
}

static void
walk_after(DtmRun *run)
{
	for (uint16_t i = 0; i < run->trans->n_branches; i++)
	{
		if (settled(run, &run->trans->branches[i]))
			continue;
		run->pending = true;
		if (predecessors_succeeded(run->trans, i))
			(void) visit_branch(run, i);
	}
}

/* Mark the predecessors from "first" on as not to be undone yet. */
static void
block_predecessors(const DtmTrans *trans, uint16_t branch, uint16_t first, uint64_t *blocked)
{
	uint16_t n = n_predecessors(trans, branch);

	for (uint16_t i = 0; i < n; i++)
	{
		uint16_t before = predecessor(trans, branch, i);

		if (before >= first)
			blocked[before / 64] |= UINT64_C(1) << (before % 64);
	}
}

/*
 * Backwards, so that a step mostly finds those after it already looked at;
 * only those that come after a step of a higher number are marked beforehand.
 */
static void
walk_after_reversed(DtmRun *run)
{
	const DtmTrans *trans = run->trans;
	uint64_t blocked[BRANCH_WORDS];

	memset(blocked, 0, (trans->n_branches / 64 + 1) * sizeof(blocked[0]));
	for (uint16_t i = 0; i < trans->n_branches; i++)
	{
		if (trans->branches[i].after != NULL && !settled(run, &trans->branches[i]))
			block_predecessors(trans, i, i, blocked);
	}
	for (uint16_t i = trans->n_branches; i-- > 0;)
	{
		if (settled(run, &trans->branches[i]))
			continue;
		run->pending = true;
		if ((blocked[i / 64] & UINT64_C(1) << (i % 64)) == 0 && visit_branch(run, i))
			continue;
		block_predecessors(trans, i, 0, blocked);
	}
}

static void
walk_serial(DtmRun *run, bool reversed)
{
	uint16_t n = run->trans->n_branches;

	for (uint16_t i = 0; i < n; i++)
	{
		uint16_t index = reversed ? (uint16_t) (n - 1 - i) : i;

		if (settled(run, &run->trans->branches[index]))
			continue;
		run->pending = true;
		if (!visit_branch(run, index))
			break;
	}
}

static void
walk(DtmRun *run)
{
	run->pending = false;
	run->moved = false;
	run->n_ready = 0;
	run->plan->next_at =
		run->rule->on_timeout != DTM_STATUS_NONE ? dtm_phase_deadline(run) : DTM_TIME_NEVER;

	switch ((DtmWalk) run->rule->walk)
	{
		case DTM_WALK_NONE:
			run->pending = true;
			break;
		case DTM_WALK_QUERY:
			walk_query(run);
			break;
		case DTM_WALK_REPLAY:
			walk_replay(run);
			break;
		case DTM_WALK_RESUME:
			walk_resume(run);
			break;
		case DTM_WALK_AFTER:
			walk_after(run);
			break;
		case DTM_WALK_AFTER_REVERSED:
			walk_after_reversed(run);
			break;
		case DTM_WALK_SERIAL:
			walk_serial(run, false);
			break;
		case DTM_WALK_SERIAL_REVERSED:
			walk_serial(run, true);
			break;
	}
}

bool
dtm_phase_timed_out(const DtmRun *run)
{
	const DtmTrans *trans = run->trans;

	if (run->rule->on_timeout == DTM_STATUS_NONE || run->now < dtm_phase_deadline(run))
		return false;
	if (run->rule->walk == DTM_WALK_NONE)
		return true;
	if (run->rule->walk == DTM_WALK_REPLAY)
		return trans->query.status != DTM_OP_SUCCEED;
	for (uint16_t i = 0; i < trans->n_branches; i++)
	{
		if (!settled(run, &trans->branches[i]))
			return true;
	}
	return false;
}

bool
dtm_phase_walk(DtmRun *run)
{
	do
		walk(run);
	while (run->moved);
	return run->pending;
}

void
dtm_phase_start(DtmRun *run)
{
	run->starting = true;
	walk(run);
	run->starting = false;
}
