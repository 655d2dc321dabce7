/* -------------------------------------------------------------------------
 *
 * dtm_autonomous.h
 *		Writes in a transaction of their own, on behalf of a backend whose
 *		transaction may yet be rolled back.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_AUTONOMOUS_H
#define DTM_AUTONOMOUS_H

#include "postgres.h"

#include "dtm_shmem.h"

typedef enum DtmAutonomousKind
{
	DTM_AUTONOMOUS_REGISTER = 1, /* a branch: gid, NUL, id, packed form */
	DTM_AUTONOMOUS_XA_SERVER = 2 /* where something may be prepared: Oid of server and of role */
} DtmAutonomousKind;

/*
 * Could dtm_autonomous_run do its work here?  Not without shared memory, nor
 * before the launcher has looked at this database.
 */
extern bool dtm_autonomous_possible(void);

/*
 * Have an executor do it and wait for the end: durable when this returns,
 * whatever becomes of the caller's transaction.  The data is copied.  Throws
 * what it ended with (SQLSTATE and message); 57014 and the like while
 * waiting, and then it may be done or not.  55P03 when it waited too long for
 * a lock, as it must when the caller's own transaction holds it.
 */
extern void dtm_autonomous_run(DtmAutonomousKind kind, const void *data, Size len);

/* In an executor: do a task that was taken, and answer it. */
extern void dtm_autonomous_serve(DtmTask *shared_task, MemoryContext context);

/*
 * Under the lock, in an executor that is ended in the middle of a task: it has
 * not committed, so another one does the task, if the session still waits.
 */
extern void dtm_autonomous_requeue(DtmTask *task);

#endif /* DTM_AUTONOMOUS_H */
