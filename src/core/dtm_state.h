/* -------------------------------------------------------------------------
 *
 * dtm_state.h
 *		The packed form of what changes in a transaction: op states, errors,
 *		the log of attempts.  Stored in one narrow column, rewritten in place.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_STATE_H
#define DTM_STATE_H

#include "dtm_trans.h"

/*
 * The state of a branch to which nothing has happened yet.  That of a memo
 * is what its spec says, and never stored.
 */
extern void dtm_branch_reset(DtmBranch *branch);

/* Upper bound of dtm_state_pack's output for this transaction now. */
extern size_t dtm_state_bound(const DtmTrans *trans);

/* Write the state into buffer (of at least dtm_state_bound bytes); returns the length. */
extern size_t dtm_state_pack(const DtmTrans *trans, char *buffer);

/*
 * Read it back into a trans whose spec part is already there; status and
 * reason are columns of their own and not part of it.  len 0 = nothing has
 * happened yet.  last_error texts point into the bytes; the log is copied
 * to the arena.  DTM_INVALID when the bytes do not fit the spec.
 */
extern DtmRc
dtm_state_unpack(const char *packed, size_t len, DtmArena *arena, DtmTrans *trans) DTM_MUST_CHECK;

#endif /* DTM_STATE_H */
