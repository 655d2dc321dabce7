/* -------------------------------------------------------------------------
 *
 * dtm_wake.h
 *		What happens at the end of a transaction that submitted or steered
 *		something: tell the coordinator, after the commit, never before.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_WAKE_H
#define DTM_WAKE_H

#include "postgres.h"

/*
 * Whoever registers a callback of his own after this one is called before it,
 * and so can still do something before the coordinator is woken.
 */
extern void dtm_wake_prepare(void);

/* Hand this transaction's id to its coordinator when we commit. */
extern void dtm_wake_at_commit(int64 id);

/* After the commit: all servers of this xa, which was to be handed over, have committed.  Cannot fail. */
extern void dtm_wake_settled(int64 id);

/* Ask the launcher to look at a database when we commit. */
extern void dtm_wake_launcher_at_commit(Oid dboid);

/* Tell the coordinators of that database (InvalidOid: of all) that it has other settings. */
extern void dtm_wake_settings_at_commit(Oid dboid);

#endif /* DTM_WAKE_H */
