/* -------------------------------------------------------------------------
 *
 * dtm_workflow.h
 *		The run of a workflow's function: what was recorded is replayed, the
 *		first thing that was not ends the run and is recorded.
 *
 * For the executor (begin, end, record, forget), and for the functions that
 * a workflow's function calls (the rest).
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_WORKFLOW_H
#define DTM_WORKFLOW_H

#include "postgres.h"

#include "utils/jsonb.h"

#include "dtm_compat.h"
#include "dtm_shmem.h"
#include "dtm_store.h"

/* ---- the executor ---- */

/* What the function is called with, and as whom. */
typedef struct DtmWorkflowCall
{
	const char *gid;
	Oid owner;
	char *function; /* qualified */
	DtmText search_path;
	DtmText payload;
} DtmWorkflowCall;

/*
 * Begin a run, in the transaction that the function will run in.  What has
 * to outlive that is kept in context.
 */
extern void dtm_workflow_begin(const DtmTask *task, MemoryContext context, DtmWorkflowCall *call);

/*
 * The function has returned: decide, in its own transaction, that the
 * workflow succeeds.  Throws when the run only seemed to come to its end.
 */
extern void dtm_workflow_end(const DtmTask *task, Jsonb *result);

/*
 * After a run whose transaction was aborted by that error: true when it is
 * not one of the function.  Records, in a transaction of its own, the step
 * that it asked for, or parks the workflow.  Throws; the second one says
 * whether that was because somebody else had the workflow's row locked.
 */
extern bool dtm_workflow_record(int sqlstate);
extern bool dtm_workflow_met_lock(int sqlstate);

/* No run is going on any more. */
extern void dtm_workflow_forget(void);

/* ---- what the function calls ---- */

typedef enum DtmStepFound
{
	DTM_STEP_NEW,      /* not recorded yet: dtm_workflow_suspend */
	DTM_STEP_OTHER,    /* another one is recorded in its place: dtm_workflow_differs */
	DTM_STEP_ANSWERED, /* recorded; answer may be NULL */
	DTM_STEP_FAILED    /* recorded; reason */
} DtmStepFound;

#define DTM_STEP_ID_LEN 8

/*
 * The branch_id of the step that is asked for next.  55000 outside of a run,
 * naming what was called; 54000 beyond the limit; does not return when the
 * run has ended already, though a handler of the function went on.
 */
extern void dtm_workflow_next(const char *what, char id[DTM_STEP_ID_LEN]);

/*
 * 55000 when this is the run of that very workflow: what its function does to
 * the row would be undone with each run that waits, and be in the way of the
 * one that ends.
 */
extern void dtm_workflow_refuse_itself(int64 id);

/*
 * Look the next step up.  Does not return when it waits.
 */
extern DtmStepFound
dtm_workflow_find(const DtmBranch *asked, const char **answer, const char **reason);

/* End the run, and park the workflow: its function is not deterministic, or was changed. */
pg_noreturn extern void dtm_workflow_differs(const DtmBranch *asked);

/* End the run, to record this step (of dtm_branch_pack).  54000 when there is no room for it. */
pg_noreturn extern void
dtm_workflow_suspend(const DtmBranch *asked, const char *packed, size_t packed_len);

#endif /* DTM_WORKFLOW_H */
