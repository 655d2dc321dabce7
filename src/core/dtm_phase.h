/* -------------------------------------------------------------------------
 *
 * dtm_phase.h
 *		Between dtm_engine.c and dtm_phase.c: the walk over the ops of one
 *		status.
 *
 * Of no use to anybody else; the engine's interface is dtm_engine.h.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_PHASE_H
#define DTM_PHASE_H

#include "dtm_engine.h"
#include "dtm_modes.h"

/* One dtm_engine_handle: what it works on, and what it has found so far. */
typedef struct DtmRun
{
	DtmTrans *trans;
	const DtmEngineParams *params;
	DtmArena *arena;
	DtmTime now;
	const DtmMode *mode;
	const DtmRule *rule; /* of trans->status */
	DtmPlan *plan;

	uint16_t fresh; /* branch whose forward call succeeded by this event */
	bool progress;  /* a forward op that may be rolled back succeeded */

	/* the walk going on */
	bool starting;    /* start what is due, instead of counting it */
	bool pending;     /* not every op of the phase is settled */
	bool moved;       /* an op without a target was settled */
	uint32_t n_ready; /* ops that are due */
} DtmRun;

/*
 * Go to another status; plan->changed and plan->flush become true.  When the
 * phase being left is rolled back, forward ops that may have been called,
 * though no record says so, are marked as started.
 */
extern void dtm_phase_enter(DtmRun *run, DtmStatus status);

/* When the time-out of this status strikes; DTM_TIME_NEVER without one. */
extern DtmTime dtm_phase_deadline(const DtmRun *run);

/*
 * Past the deadline of this status with something left to do?  The last
 * success wins against a deadline that has just passed.
 */
extern bool dtm_phase_timed_out(const DtmRun *run);

/* The transaction's retry_interval, or else the setting's. */
extern int32_t dtm_phase_interval_ms(const DtmRun *run);

/* The status of one op is decided, now. */
extern void dtm_phase_decide(DtmRun *run, DtmOpState *op, DtmOpStatus status);

/*
 * Settle ops without a target until nothing moves, count those that are due
 * in n_ready and set plan->next_at.  False when the phase is complete.
 */
extern bool dtm_phase_walk(DtmRun *run);

/*
 * After dtm_phase_walk: start what it counted.  plan->calls has room for
 * n_ready of them.
 */
extern void dtm_phase_start(DtmRun *run);

#endif /* DTM_PHASE_H */
