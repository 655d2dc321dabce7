/* -------------------------------------------------------------------------
 *
 * dtm_world.h
 *		A coordinator, its storage and the branch services, simulated around
 *		the engine, with everything that must always hold.
 *
 * The world remembers what really happened outside (which calls went out,
 * which a service carried out), also what a crash made the coordinator
 * forget; world_check compares the engine with it after every event.  Storage
 * is two snapshots: the newest record, and the newest that a crash can not
 * lose.  Used by test_order.c and test_histories.c.  Not here: who chooses
 * the events.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_WORLD_H
#define DTM_WORLD_H

#include <stdarg.h>

#include "dtm_fixture.h"

#define WORLD_BRANCHES 6

/* The pseudo branch's place in the arrays. */
#define WORLD_QUERY WORLD_BRANCHES

/* Memory of one history; never given back singly, so that a world can be copied. */
#define WORLD_MEMORY (64 * 1024)

typedef struct Snapshot
{
	DtmStatus status;
	DtmText reason;
	uint32_t attempts;
	uint32_t retries;
	uint32_t log_dropped;
	uint16_t n_log;
	DtmOpState query;
	DtmOpState ops[WORLD_BRANCHES][DTM_ROLES];
} Snapshot;

typedef struct World
{
	DtmTrans trans;
	DtmBranch branches[WORLD_BRANCHES];
	uint16_t after[WORLD_BRANCHES][WORLD_BRANCHES];
	DtmEngineParams params;
	DtmTime now;
	DtmPlan plan;
	DtmTime next_at; /* of the last plan that was not empty */
	uint16_t limit;  /* branches that a workflow comes to, at most */

	Snapshot recorded;
	Snapshot durable;

	/* what happened outside, whatever the coordinator remembers */
	bool called[WORLD_BRANCHES + 1][DTM_ROLES];
	bool done[WORLD_BRANCHES + 1][DTM_ROLES];
	bool out[WORLD_BRANCHES + 1][DTM_ROLES]; /* a call is under way */
	bool stopped;
	bool retried;     /* somebody did not want to wait */
	bool rolled_back; /* the decision to roll back is durable */

	size_t used;           /* of memory */
	unsigned char *memory; /* shared by the copies of a world */
	char error[256];       /* the first thing that did not hold */
} World;

/* Where a crash strikes while an event is handled. */
typedef enum WorldCrash
{
	WORLD_NO_CRASH,
	WORLD_CRASH_BEFORE_RECORD,
	WORLD_CRASH_BEFORE_CALLS,
	WORLD_CRASH_AFTER_CALLS
} WorldCrash;

static inline void __attribute__((format(printf, 2, 3)))
world_error(World *w, const char *format, ...)
{
	va_list args;

	if (w->error[0] != '\0')
		return;
	va_start(args, format);
	vsnprintf(w->error, sizeof(w->error), format, args);
	va_end(args);
}

#define HOLDS(w, cond, ...)                \
	do                                     \
	{                                      \
		if (!(cond))                       \
			world_error((w), __VA_ARGS__); \
	} while (0)

static inline void *
world_alloc(void *context, size_t size)
{
	World *w = context;
	void *block = w->memory + w->used;

	size = (size + 15) & ~(size_t) 15;
	if (w->used + size > WORLD_MEMORY)
		return NULL;
	w->used += size;
	return block;
}

static inline bool
world_is_query(const DtmTrans *trans)
{
	return trans->type == DTM_TYPE_MSG || trans->type == DTM_TYPE_WORKFLOW;
}

static inline DtmOpState *
world_op(World *w, uint16_t place, uint8_t role)
{
	return place == WORLD_QUERY ? &w->trans.query : &w->branches[place].state[role];
}

static inline uint16_t
world_branch(uint16_t place)
{
	return place == WORLD_QUERY ? DTM_BRANCH_TRANS : place;
}

/* Is there something to call for this op? */
static inline bool
world_target(const World *w, uint16_t branch, uint8_t role)
{
	return w->branches[branch].op[role] != DTM_OP_NONE && w->branches[branch].url[role].len > 0;
}

/* ------------------------------------------------------------------------
 * Storage
 * ------------------------------------------------------------------------
 */

static inline void
world_snapshot(const World *w, Snapshot *snapshot)
{
	snapshot->status = w->trans.status;
	snapshot->reason = w->trans.reason;
	snapshot->attempts = w->trans.attempts;
	snapshot->retries = w->trans.retries;
	snapshot->log_dropped = w->trans.log_dropped;
	snapshot->n_log = w->trans.n_log;
	snapshot->query = w->trans.query;
	for (int i = 0; i < w->trans.n_branches; i++)
		memcpy(snapshot->ops[i], w->branches[i].state, sizeof(snapshot->ops[i]));
}

static inline bool
world_op_equal(const DtmOpState *a, const DtmOpState *b)
{
	return a->status == b->status && a->last_outcome == b->last_outcome &&
		a->attempts == b->attempts && a->failures == b->failures &&
		a->finished_at == b->finished_at && a->next_at == b->next_at &&
		a->last_error.data == b->last_error.data && a->last_error.len == b->last_error.len;
}

/* Does the record hold all that has to be stored?  (started may be ahead of it) */
static inline bool
world_is_recorded(const World *w)
{
	const Snapshot *r = &w->recorded;

	if (r->status != w->trans.status || r->reason.data != w->trans.reason.data ||
		r->attempts != w->trans.attempts || r->retries != w->trans.retries ||
		r->n_log != w->trans.n_log || r->log_dropped != w->trans.log_dropped ||
		!world_op_equal(&r->query, &w->trans.query))
		return false;
	for (int i = 0; i < w->trans.n_branches; i++)
	{
		for (int role = 0; role < DTM_ROLES; role++)
		{
			if (!world_op_equal(&r->ops[i][role], &w->branches[i].state[role]))
				return false;
		}
	}
	return true;
}

/* The coordinator dies and loads the transaction again; a WAKE has to follow. */
static inline void
world_crash(World *w, bool lose_what_is_not_flushed)
{
	const Snapshot *s = lose_what_is_not_flushed ? &w->durable : &w->recorded;

	w->trans.status = s->status;
	w->trans.reason = s->reason;
	w->trans.attempts = s->attempts;
	w->trans.retries = s->retries;
	w->trans.log_dropped = s->log_dropped;
	w->trans.n_log = s->n_log;
	w->trans.query = s->query;
	w->trans.query.in_flight = false;
	for (int i = 0; i < w->trans.n_branches; i++)
	{
		memcpy(w->branches[i].state, s->ops[i], sizeof(s->ops[i]));
		for (int role = 0; role < DTM_ROLES; role++)
			w->branches[i].state[role].in_flight = false;
	}
	w->recorded = w->durable = *s;
	memset(w->out, 0, sizeof(w->out));
}

/* ------------------------------------------------------------------------
 * What must hold
 * ------------------------------------------------------------------------
 */

static inline bool
world_any(bool flags[WORLD_BRANCHES + 1][DTM_ROLES], uint8_t role)
{
	for (int i = 0; i < WORLD_BRANCHES; i++)
	{
		if (flags[i][role])
			return true;
	}
	return false;
}

/* Does "branch" have to wait for "before" on the way forward? */
static inline bool
world_is_after(const World *w, uint16_t branch, uint16_t before)
{
	const DtmBranch *b = &w->branches[branch];

	if (b->after == NULL)
		return !(w->trans.flags & DTM_FLAG_CONCURRENT) && before + 1 == branch;
	for (int i = 0; i < b->n_after; i++)
	{
		if (b->after[i] == before)
			return true;
	}
	return false;
}

/* Has the forward op happened, or was there nothing to do and all before it happened? */
static inline bool
world_went_forward(const World *w, uint16_t branch)
{
	if (world_target(w, branch, FWD))
		return w->done[branch][FWD];
	for (uint16_t k = 0; k < w->trans.n_branches; k++)
	{
		if (world_is_after(w, branch, k) && !world_went_forward(w, k))
			return false;
	}
	return true;
}

static inline bool
world_may_go_forward(const World *w, uint16_t branch)
{
	for (uint16_t k = 0; k < w->trans.n_branches; k++)
	{
		if (w->trans.type == DTM_TYPE_WORKFLOW)
		{
			/* what it asks for next follows from how all before it ended */
			if (k < branch && w->branches[k].state[FWD].status == DTM_OP_PREPARED)
				return false;
		}
		else if (world_is_after(w, branch, k) && !world_went_forward(w, k))
			return false;
	}
	return w->now >= w->trans.start_at || w->trans.hurried_at != 0;
}

/* A branch of a workflow whose forward op has definitely failed. */
static inline bool
world_has_failed(const World *w, uint16_t branch)
{
	return w->trans.type == DTM_TYPE_WORKFLOW &&
		w->branches[branch].state[FWD].status == DTM_OP_FAILED;
}

/* Whatever the branch did is undone, or it did nothing. */
static inline bool
world_is_undone(const World *w, uint16_t branch)
{
	if (w->out[branch][FWD])
		return false;
	if (!world_target(w, branch, UNDO) || w->done[branch][UNDO] || world_has_failed(w, branch))
		return true;
	return !fixture_client_run(&w->trans) && !w->called[branch][FWD];
}

/* Undone, with all that went forward after it. */
static inline bool
world_is_undone_from(const World *w, uint16_t branch)
{
	if (!world_is_undone(w, branch))
		return false;
	for (uint16_t k = 0; k < w->trans.n_branches; k++)
	{
		if (world_is_after(w, k, branch) && !world_is_undone_from(w, k))
			return false;
	}
	return true;
}

/* A branch of a workflow that there is nothing to confirm of. */
static inline bool
world_is_unconfirmed(const World *w, uint16_t branch)
{
	return w->trans.type == DTM_TYPE_WORKFLOW &&
		w->branches[branch].state[FWD].status != DTM_OP_SUCCEED;
}

static inline void
world_check_forward_call(World *w, uint16_t branch)
{
	DtmTransType type = w->trans.type;
	bool before_submit = type == DTM_TYPE_TCC || type == DTM_TYPE_WORKFLOW;

	HOLDS(w, !fixture_client_run(&w->trans), "forward call %d of a client-run mode", branch + 1);
	HOLDS(w, w->trans.status == (before_submit ? DTM_STATUS_PREPARED : DTM_STATUS_SUBMITTED),
		  "forward call %d while %s", branch + 1, dtm_status_name(w->trans.status));
	HOLDS(w, !world_any(w->called, UNDO), "forward call %d after an undo", branch + 1);
	HOLDS(w, !w->rolled_back, "forward call %d after the decision to roll back", branch + 1);
	HOLDS(w, world_may_go_forward(w, branch), "forward call %d too early", branch + 1);
}

static inline void
world_check_undo_call(World *w, uint16_t branch)
{
	uint16_t n = w->trans.n_branches;
	bool saga = w->trans.type == DTM_TYPE_SAGA;

	HOLDS(w, w->trans.status == DTM_STATUS_ABORTING, "undo call while not aborting");
	HOLDS(w, !world_any(w->called, CONF), "undo call %d after a confirm", branch + 1);
	HOLDS(w, !w->out[branch][FWD], "undo call %d while its forward call is under way", branch + 1);
	if (!fixture_client_run(&w->trans) && w->trans.type != DTM_TYPE_WORKFLOW)
		HOLDS(w, world_may_go_forward(w, branch), "undo call %d of what never ran", branch + 1);
	for (uint16_t k = 0; k < n; k++)
	{
		bool first = saga                  ? world_is_after(w, k, branch)
			: w->trans.type == DTM_TYPE_XA ? k < branch
										   : k > branch;

		if (first)
			HOLDS(w, saga ? world_is_undone_from(w, k) : world_is_undone(w, k),
				  "undo call %d before that of %d", branch + 1, k + 1);
		if (!saga && k != branch)
			HOLDS(w, !w->out[k][UNDO], "two undo calls at once");
	}
}

static inline void
world_check_confirm_call(World *w, uint16_t branch)
{
	bool reversed = w->trans.type == DTM_TYPE_TCC || w->trans.type == DTM_TYPE_WORKFLOW;

	HOLDS(w, w->trans.status == DTM_STATUS_SUBMITTED, "confirm call while not submitted");
	HOLDS(w, !world_any(w->called, UNDO), "confirm call %d after an undo", branch + 1);
	HOLDS(w, !world_is_unconfirmed(w, branch), "confirm call %d of what did not succeed",
		  branch + 1);
	for (uint16_t k = 0; k < w->trans.n_branches; k++)
	{
		if (w->trans.type == DTM_TYPE_TCC && !fixture_client_run(&w->trans))
			HOLDS(w, world_went_forward(w, k), "confirm before the try of %d", k + 1);
		if (reversed ? k > branch : k < branch)
			HOLDS(w, w->done[k][CONF] || !world_target(w, k, CONF) || world_is_unconfirmed(w, k),
				  "confirm call %d before that of %d", branch + 1, k + 1);
		HOLDS(w, k == branch || !w->out[k][CONF], "two confirm calls at once");
	}
}

static inline DtmTime
world_interval(const World *w)
{
	int32_t ms =
		w->trans.retry_interval_ms > 0 ? w->trans.retry_interval_ms : w->params.retry_interval_ms;

	return ms * INT64_C(1000);
}

static inline void
world_check_call(World *w, const DtmCall *call)
{
	uint16_t place = call->branch == DTM_BRANCH_TRANS ? WORLD_QUERY : call->branch;

	if (place == WORLD_QUERY)
	{
		HOLDS(w,
			  !dtm_trans_is_resumed(&w->trans) || w->retried ||
				  w->now >= w->trans.created_at + world_interval(w),
			  "resumed before the first interval");
		HOLDS(w, call->op == (w->trans.type == DTM_TYPE_MSG ? DTM_OP_MSG : DTM_OP_WORKFLOW),
			  "wrong op of the query");
		HOLDS(w,
			  world_is_query(&w->trans) && w->trans.status == DTM_STATUS_PREPARED &&
				  w->trans.query_url.len > 0,
			  "query while %s", dtm_status_name(w->trans.status));
		HOLDS(w,
			  w->trans.type != DTM_TYPE_MSG || w->retried ||
				  (w->trans.timeout_to_fail_ms > 0 &&
				   w->now - w->trans.created_at >= w->trans.timeout_to_fail_ms * 1000),
			  "query before the time-out");
	}
	else
	{
		HOLDS(w, world_target(w, place, call->role), "call of an empty target");
		HOLDS(w, call->op == w->branches[place].op[call->role], "wrong op in a call");
		if (call->role == FWD)
			world_check_forward_call(w, place);
		else if (call->role == UNDO)
			world_check_undo_call(w, place);
		else
			world_check_confirm_call(w, place);
	}
	HOLDS(w, !w->out[place][call->role], "a second call while one is under way");
	HOLDS(w, world_op(w, place, call->role)->in_flight, "call not marked in flight");
}

static inline void
world_check_final(World *w)
{
	HOLDS(w, w->plan.n_calls == 0, "call with a final status");
	HOLDS(w, w->plan.finished, "final, but not finished");
	HOLDS(w, w->plan.next_at == DTM_TIME_NEVER, "wake-up after the end");
	for (uint16_t i = 0; i < w->trans.n_branches && !w->stopped; i++)
	{
		if (w->trans.status == DTM_STATUS_FAILED)
		{
			HOLDS(w, w->trans.type == DTM_TYPE_MSG ? !w->called[i][FWD] : world_is_undone(w, i),
				  "failed, but %d is not undone", i + 1);
			HOLDS(w, !w->called[i][CONF], "failed, but %d was confirmed", i + 1);
			HOLDS(w,
				  w->trans.type != DTM_TYPE_WORKFLOW || world_has_failed(w, i) ||
					  !world_target(w, i, UNDO) || w->done[i][UNDO],
				  "failed, but %d, which has not failed, is not undone", i + 1);
		}
		else
		{
			HOLDS(w,
				  w->trans.type == DTM_TYPE_WORKFLOW || fixture_client_run(&w->trans) ||
					  world_went_forward(w, i),
				  "succeed, but %d did not", i + 1);
			HOLDS(w, w->done[i][CONF] || !world_target(w, i, CONF) || world_is_unconfirmed(w, i),
				  "succeed, but %d is not confirmed", i + 1);
			HOLDS(w, !w->called[i][UNDO], "succeed, but %d was undone", i + 1);
		}
	}
}

/* The await that a workflow waits in, or WORLD_BRANCHES. */
static inline uint16_t
world_await(const World *w)
{
	if (w->trans.type == DTM_TYPE_WORKFLOW && w->trans.status == DTM_STATUS_PREPARED)
	{
		for (uint16_t i = 0; i < w->trans.n_branches; i++)
			if (w->branches[i].kind == DTM_STEP_AWAIT &&
				w->branches[i].state[FWD].status == DTM_OP_PREPARED)
				return i;
	}
	return WORLD_BRANCHES;
}

/* May only the client, and no deadline, move this transaction? */
static inline bool
world_waits_for_client(const World *w)
{
	if (world_await(w) < WORLD_BRANCHES)
		return true;
	if (dtm_trans_is_resumed(&w->trans))
		return w->trans.query_url.len == 0;
	return w->trans.status == DTM_STATUS_PREPARED && w->trans.timeout_to_fail_ms == 0 &&
		(fixture_client_run(&w->trans) || w->trans.type == DTM_TYPE_MSG);
}

static inline void
world_check(World *w, DtmStatus before)
{
	DtmStatus status = w->trans.status;
	bool any_out = false;

	HOLDS(w, !dtm_status_is_final(before) || status == before, "left a final status");
	HOLDS(w,
		  before != DTM_STATUS_ABORTING || status == DTM_STATUS_ABORTING ||
			  status == DTM_STATUS_FAILED,
		  "left aborting for %s", dtm_status_name(status));
	HOLDS(w, before != DTM_STATUS_SUBMITTED || status != DTM_STATUS_PREPARED, "back to prepared");
	HOLDS(w,
		  before != DTM_STATUS_SUBMITTED || w->trans.type == DTM_TYPE_SAGA || w->stopped ||
			  status == DTM_STATUS_SUBMITTED || status == DTM_STATUS_SUCCEED,
		  "submitted came to %s", dtm_status_name(status));
	HOLDS(w, status == before || (w->plan.changed && w->plan.flush), "a decision not flushed");
	HOLDS(w, w->plan.changed || world_is_recorded(w), "changed, and does not say so");
	HOLDS(w, w->plan.finished == dtm_status_is_final(status), "finished is wrong");

	for (uint32_t i = 0; i < w->plan.n_calls; i++)
	{
		const DtmCall *call = &w->plan.calls[i];
		uint16_t place = call->branch == DTM_BRANCH_TRANS ? WORLD_QUERY : call->branch;

		world_check_call(w, call);
		w->out[place][call->role] = true;
	}
	for (uint16_t place = 0; place <= WORLD_QUERY; place++)
	{
		if (place >= w->trans.n_branches && place != WORLD_QUERY)
			continue;
		for (uint8_t role = 0; role < (place == WORLD_QUERY ? 1 : DTM_ROLES); role++)
		{
			any_out |= w->out[place][role];
			HOLDS(w,
				  dtm_status_is_final(status) ||
					  w->out[place][role] == world_op(w, place, role)->in_flight,
				  "in_flight of %d, %d is wrong", place + 1, role);
		}
	}

	if (dtm_status_is_final(status))
		world_check_final(w);
	else
	{
		HOLDS(w, w->plan.next_at > w->now, "wake-up in the past");
		HOLDS(w, any_out || w->plan.next_at != DTM_TIME_NEVER || world_waits_for_client(w),
			  "nothing will ever move it again");
	}
}

/* ------------------------------------------------------------------------
 * Events
 * ------------------------------------------------------------------------
 */

/*
 * Hand an event to the engine, check, record and let the calls go out.  A
 * crash before the record loses the plan; one after it follows the record.
 */
static inline DtmRc
world_handle(World *w, const DtmEvent *event, WorldCrash crash, bool lose)
{
	DtmArena arena = {world_alloc, w};
	DtmStatus before = w->trans.status;
	DtmRc rc;

	if (event->kind == DTM_EVENT_STOP && !dtm_status_is_final(before))
		w->stopped = true;
	rc = dtm_engine_handle(&w->trans, event, w->now, &w->params, &arena, &w->plan);
	if (rc == DTM_STATE)
	{
		HOLDS(w,
			  event->kind == DTM_EVENT_SUBMIT || event->kind == DTM_EVENT_ABORT ||
				  event->kind == DTM_EVENT_END,
			  "refused an event of kind %d", event->kind);
		HOLDS(w, world_is_recorded(w) && !w->plan.changed && w->plan.n_calls == 0,
			  "refused, but changed");
		return rc;
	}
	HOLDS(w, rc == DTM_OK, "result code %d", rc);
	if (rc != DTM_OK)
		return rc;
	world_check(w, before);
	w->next_at = w->plan.next_at;

	if (crash == WORLD_CRASH_BEFORE_RECORD)
	{
		w->stopped = w->stopped && w->recorded.status == DTM_STATUS_FAILED;
		world_crash(w, lose);
		return rc;
	}
	if (w->plan.changed)
		world_snapshot(w, &w->recorded);
	if (w->plan.flush)
	{
		w->durable = w->recorded;
		w->rolled_back |= w->trans.status == DTM_STATUS_ABORTING;
	}
	if (crash == WORLD_CRASH_BEFORE_CALLS)
	{
		world_crash(w, lose);
		return rc;
	}
	for (uint32_t i = 0; i < w->plan.n_calls; i++)
	{
		const DtmCall *call = &w->plan.calls[i];

		w->called[call->branch == DTM_BRANCH_TRANS ? WORLD_QUERY : call->branch][call->role] = true;
	}
	if (crash == WORLD_CRASH_AFTER_CALLS)
		world_crash(w, lose);
	return rc;
}

static inline DtmRc
world_event(World *w, DtmEventKind kind, WorldCrash crash, bool lose)
{
	DtmEvent event = {.kind = kind, .reason = test_text("asked for")};

	w->retried = w->retried || kind == DTM_EVENT_RETRY;
	return world_handle(w, &event, crash, lose);
}

/* A service has answered. */
static inline void
world_result(World *w, uint16_t place, uint8_t role, DtmOutcome outcome, WorldCrash crash,
			 bool lose)
{
	DtmEvent event = {
		.kind = DTM_EVENT_RESULT,
		.branch = world_branch(place),
		.role = role,
		.outcome = outcome,
		.started_at = w->now,
		.reason = test_text(outcome == DTM_OUTCOME_SUCCESS ? "" : "no"),
	};

	if (outcome == DTM_OUTCOME_SUCCESS && w->out[place][role])
		w->done[place][role] = true;
	w->out[place][role] = false;
	(void) world_handle(w, &event, crash, lose);
}

/* The call was not tried after all. */
static inline void
world_postpone(World *w, uint16_t place, uint8_t role, DtmTime until)
{
	DtmEvent event = {
		.kind = DTM_EVENT_POSTPONE,
		.branch = world_branch(place),
		.role = role,
		.reason = test_text("host is busy"),
		.until = until,
	};

	w->out[place][role] = false;
	(void) world_handle(w, &event, WORLD_NO_CRASH, false);
}

/* ------------------------------------------------------------------------
 * Workflows: what other processes do to the row
 * ------------------------------------------------------------------------
 */

/* Would a run of the function, with what the tables say, come to something new? */
static inline bool
world_may_run(const World *w)
{
	if (w->trans.type != DTM_TYPE_WORKFLOW || dtm_trans_is_resumed(&w->trans) ||
		w->recorded.status != DTM_STATUS_PREPARED)
		return false;
	for (uint16_t i = 0; i < w->trans.n_branches; i++)
		if (w->recorded.ops[i][FWD].status == DTM_OP_PREPARED)
			return false;
	return w->now >= w->trans.start_at || w->trans.hurried_at != 0;
}

/* Somebody else has changed the row durably: the coordinator loads it again; a WAKE has to follow. */
static inline void
world_reload(World *w)
{
	w->durable = w->recorded;
	world_crash(w, false);
}

/*
 * A run of the function has asked for one more branch, or come to its end,
 * and committed that: the run of the call under way, or one that the
 * coordinator forgot.  A WAKE has to follow.
 */
static inline void
world_run(World *w, bool ends)
{
	DtmArena arena = {world_alloc, w};
	DtmEvent event = {
		.kind = DTM_EVENT_RESULT,
		.branch = DTM_BRANCH_TRANS,
		.outcome = DTM_OUTCOME_SUCCESS,
		.started_at = w->now,
	};

	world_reload(w);
	if (!ends && w->trans.n_branches < w->limit)
	{
		w->trans.n_branches++;
		return;
	}
	HOLDS(w, dtm_engine_steer(&w->trans, &event, w->now, &arena) == DTM_OK,
		  "the end of the function is refused");
	HOLDS(w, w->trans.status == DTM_STATUS_SUBMITTED, "the function ended, but it is %s",
		  dtm_status_name(w->trans.status));
	world_snapshot(w, &w->recorded);
	world_reload(w);
}

/* The signal that a workflow waits for has come.  A WAKE has to follow. */
static inline void
world_signal(World *w, uint16_t branch)
{
	world_reload(w);
	if (dtm_engine_settle(&w->trans, branch, w->now) == DTM_OK)
		world_snapshot(w, &w->recorded);
	world_reload(w);
}

/* Begin a history: the spec is filled, apart from what the caller changes afterwards. */
static inline void
world_init(World *w, unsigned char *memory, DtmTransType type, uint32_t flags, uint16_t n)
{
	memset(w, 0, sizeof(*w));
	w->memory = memory;
	fixture_fill(&w->trans, w->branches, type, flags, n);
	w->params.retry_interval_ms = 1000;
	w->params.retry_max_interval_ms = 4000;
	w->now = FIXTURE_EPOCH;
	w->next_at = FIXTURE_EPOCH;
	w->limit = n;
	if (type == DTM_TYPE_WORKFLOW)
		w->trans.n_branches = 0;
	if (dtm_trans_is_resumed(&w->trans))
		w->limit = 0; /* memos, which nothing depends on */
	world_snapshot(w, &w->recorded);
	world_snapshot(w, &w->durable);
}

/* A step that waits instead of calling; due_at as of the engine. */
static inline void
world_wait_step(World *w, uint16_t branch, DtmStepKind kind, DtmTime due_at)
{
	w->branches[branch].kind = (uint8_t) kind;
	w->branches[branch].due_at = due_at;
	for (int role = 0; role < DTM_ROLES; role++)
	{
		w->branches[branch].url[role].len = 0;
		w->branches[branch].op[role] = DTM_OP_NONE;
	}
	w->branches[branch].op[FWD] = kind == DTM_STEP_SLEEP ? DTM_OP_SLEEP : DTM_OP_AWAIT;
}

/* A world of its own, as far as the engine goes; the memory stays shared. */
static inline void TEST_UNUSED
world_copy(World *to, const World *from)
{
	*to = *from;
	to->trans.branches = to->branches;
	for (int i = 0; i < WORLD_BRANCHES; i++)
	{
		if (to->branches[i].after != NULL)
			to->branches[i].after = to->after[i];
	}
}

#endif /* DTM_WORLD_H */
