/* -------------------------------------------------------------------------
 *
 * dtm_engine.h
 *		The one engine of all modes: (transaction, event, now) -> (changed
 *		state, calls to start, next wake-up).
 *
 * Pure: no I/O, no clock, memory only from the caller's arena.  The rules
 * themselves are the table in dtm_modes.c.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_ENGINE_H
#define DTM_ENGINE_H

#include "dtm_trans.h"

typedef enum DtmEventKind
{
	DTM_EVENT_WAKE,     /* loaded, or a deadline has passed */
	DTM_EVENT_RESULT,   /* a call that was started has ended */
	DTM_EVENT_POSTPONE, /* a call in flight was not tried: ask again at "until" */
	DTM_EVENT_SUBMIT,   /* prepared -> submitted, asked by the owner */
	DTM_EVENT_ABORT,    /* prepared -> aborting / failed, asked by the owner */
	DTM_EVENT_STOP,     /* force-stop: failed, no further call */
	DTM_EVENT_RETRY,    /* whatever waits is due now */
	DTM_EVENT_END /* the client that runs a workflow says how it ended: outcome SUCCESS or FAILURE */
} DtmEventKind;

typedef struct DtmEvent
{
	DtmEventKind kind;

	/* RESULT; of END only the outcome */
	uint16_t branch; /* index, or DTM_BRANCH_TRANS */
	uint8_t role;
	DtmOutcome outcome;
	DtmTime started_at; /* when the call went out */

	/* RESULT, POSTPONE: why it did not succeed; ABORT, STOP, END: the caller's reason */
	DtmText reason;

	/*
	 * RESULT of outcome FAILURE: the answer's body alone, from which the
	 * rollback reason of the transaction is made (dtm_answer_rollback_reason)
	 */
	DtmText body;

	/*
	 * RESULT of outcome SUCCESS: what a step of a workflow answered, for the
	 * function that asked for it.  The engine does not look at it.
	 */
	DtmText answer;

	/* POSTPONE: not before; it is no attempt and no failure */
	DtmTime until;
} DtmEvent;

/* Defaults from the settings, and the seed of the jitter. */
typedef struct DtmEngineParams
{
	int32_t retry_interval_ms;     /* > 0 */
	int32_t retry_max_interval_ms; /* >= retry_interval_ms */
	uint64_t jitter_seed;          /* any number; same seed, same result */
} DtmEngineParams;

typedef struct DtmCall
{
	uint16_t branch; /* index, or DTM_BRANCH_TRANS */
	uint8_t role;
	uint8_t op; /* DtmOp */
} DtmCall;

typedef struct DtmPlan
{
	bool changed;     /* the state has to be recorded */
	bool flush;       /* ... durably, before any of the calls starts */
	bool finished;    /* the status is final */
	uint32_t n_calls; /* each marked in_flight; must be answered by a RESULT */
	DtmCall *calls;   /* in the caller's arena */
	DtmTime next_at;  /* wake at; DTM_TIME_NEVER: only results can move it */
} DtmPlan;

/*
 * Apply one event.  trans is changed in place; copies of reasons and the log
 * are taken from the arena, so it must live as long as the transaction in
 * memory.  The spec part must have passed dtm_spec_unpack: "after" is not
 * checked again.
 *
 * A RESULT or POSTPONE for an op that is not in flight changes nothing by
 * itself (late answers are harmless), like any event on a final transaction.
 * DTM_STATE: the event is not allowed in this status (SUBMIT, ABORT, END); the
 * transaction is unchanged and the plan empty, so an earlier next_at still
 * holds.  DTM_NOMEM: the transaction must be dropped and loaded again.
 *
 * Reasons are cut to DTM_MAX_ERROR_LEN bytes between two UTF-8 characters;
 * an empty one leaves the older text.  last_error stays when a later call
 * succeeds.  Submit, abort, the outcomes, the order of calls and the words of
 * the reasons are DTM's (protocol reference, state machines); what differs is
 * listed in dtm_modes.c.
 */
extern DtmRc
dtm_engine_handle(DtmTrans *trans, const DtmEvent *event, DtmTime now,
				  const DtmEngineParams *params, DtmArena *arena, DtmPlan *plan) DTM_MUST_CHECK;

/*
 * Apply a SUBMIT, ABORT or END to what the tables hold, for a process that does
 * not drive: only the status, the reason and the marks of what may have been
 * called change, and no call is planned.  Whoever drives goes on from there.
 * DTM_STATE as above, with the transaction unchanged.
 *
 * Also takes the SUCCESS of the pseudo branch of a prepared workflow, from
 * the process that ran its function: that is submitted then.  DTM_STATE when
 * the status is another, or a branch is not decided yet.
 */
extern DtmRc dtm_engine_steer(DtmTrans *trans, const DtmEvent *event, DtmTime now,
							  DtmArena *arena) DTM_MUST_CHECK;

/*
 * The await that is branch has got its signal.  DTM_STATE when it is none, or
 * does not wait any more, with the transaction unchanged.
 */
extern DtmRc dtm_engine_settle(DtmTrans *trans, uint16_t branch, DtmTime now) DTM_MUST_CHECK;

/*
 * The function of a workflow has got one step further: how often it failed
 * before does not count any more.
 */
extern void dtm_engine_stepped(DtmTrans *trans);

/*
 * A message whose time has not come: its delay is not over, or it is prepared
 * and not yet to be asked about.  A RETRY would not wait for that.
 */
extern bool dtm_engine_message_waits(const DtmTrans *trans, DtmTime now);

/* True when the op is used by this transaction, so that it is a row of dtm.branches. */
extern bool dtm_engine_op_exists(const DtmTrans *trans, const DtmBranch *branch, DtmRole role);

#endif /* DTM_ENGINE_H */
