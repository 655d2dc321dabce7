/* -------------------------------------------------------------------------
 *
 * dtm_modes.h
 *		What distinguishes the modes: one rule per mode and status.
 *
 * Read by dtm_engine.c only.  A new mode is a new row of the table in
 * dtm_modes.c, not new code.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_MODES_H
#define DTM_MODES_H

#include "dtm_trans.h"

/* In which order the ops of a phase are called. */
typedef enum DtmWalk
{
	DTM_WALK_NONE = 0,       /* nothing is called: it is for the client to decide */
	DTM_WALK_QUERY,          /* the one call of the pseudo branch */
	DTM_WALK_REPLAY,         /* what is not decided yet, at once; then the pseudo branch */
	DTM_WALK_RESUME,         /* the pseudo branch, again and again: no answer decides anything */
	DTM_WALK_AFTER,          /* each when its predecessors' forward ops succeeded */
	DTM_WALK_AFTER_REVERSED, /* each when all that came after it are undone */
	DTM_WALK_SERIAL,         /* one by one, in order of insertion */
	DTM_WALK_SERIAL_REVERSED /* one by one, last inserted first */
} DtmWalk;

/* Which branches take part in a phase. */
typedef enum DtmScope
{
	DTM_SCOPE_ALL = 0,
	DTM_SCOPE_SUCCEEDED, /* whose forward op succeeded */
	DTM_SCOPE_CALLED,    /* whose forward op was, or may have been, called */
	DTM_SCOPE_NOT_FAILED /* all but those whose forward op has definitely failed */
} DtmScope;

/* What the first call of a phase waits for. */
typedef enum DtmGate
{
	DTM_GATE_NONE = 0,
	DTM_GATE_START,    /* start_at */
	DTM_GATE_DEADLINE, /* the time-out, or a RETRY; without either it never comes */
	DTM_GATE_INTERVAL  /* one retry_interval since created_at, or a RETRY */
} DtmGate;

/* From when the time-out is measured. */
typedef enum DtmSince
{
	DTM_SINCE_CREATED = 0,
	DTM_SINCE_START /* start_at */
} DtmSince;

/*
 * One status of one mode.  The members beginning with on_ are the status
 * that follows (DtmStatus); DTM_STATUS_NONE says that it is not so:
 * on_failure = the call is repeated, on_limit and on_timeout = there is no
 * such limit, on_submit, on_abort, on_succeed and on_fail = refused.  The
 * status itself in on_submit or on_abort = accepted, changes nothing.
 *
 * In DTM_WALK_REPLAY on_failure is about the pseudo branch: the failure of a
 * branch decides that branch alone, and the replay what follows from it.
 */
typedef struct DtmRule
{
	uint8_t walk;       /* DtmWalk */
	uint8_t role;       /* DtmRole that is called */
	uint8_t scope;      /* DtmScope */
	uint8_t gate;       /* DtmGate */
	uint8_t since;      /* DtmSince */
	uint8_t on_done;    /* every op in scope has succeeded */
	uint8_t on_failure; /* an op answered FAILURE */
	uint8_t on_limit;   /* an op used up its retry_limit */
	uint8_t on_timeout; /* timeout_to_fail has passed */
	uint8_t on_submit;
	uint8_t on_abort;
	uint8_t on_succeed; /* the client reports the end of all ... */
	uint8_t on_fail;    /* ... and that it failed */

	/*
	 * The phase may be rolled back, so a crash must not forget that a call
	 * was possible: what made it possible is flushed before it starts.
	 */
	bool revocable;
} DtmRule;

/* Is the pseudo branch what is called in the end? */
static inline bool
dtm_walk_asks(const DtmRule *rule)
{
	return rule->walk == DTM_WALK_QUERY || rule->walk == DTM_WALK_REPLAY ||
		rule->walk == DTM_WALK_RESUME;
}

typedef struct DtmMode
{
	uint8_t roles;                      /* bit per DtmRole that branches of this mode have */
	uint8_t query_op;                   /* DtmOp of the pseudo branch, or DTM_OP_NONE */
	DtmRule rules[DTM_STATUS_LAST + 1]; /* by DtmStatus; final ones are empty */
} DtmMode;

/* The mode of a transaction, by type and flags; one without any rule for an unknown type. */
extern const DtmMode *dtm_mode_of(const DtmTrans *trans);

#endif /* DTM_MODES_H */
