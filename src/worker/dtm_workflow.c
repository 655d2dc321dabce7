/* -------------------------------------------------------------------------
 *
 * dtm_workflow.c
 *		The run of a workflow's function: what was recorded is replayed, the
 *		first thing that was not ends the run and is recorded.
 *
 * A run is one transaction.  It ends by being aborted, unless the function
 * comes to its end: so nothing is held while a step is waited for, and what
 * the function does in the database is there once, with the end.  The error
 * that ends a run is query_canceled, which no EXCEPTION WHEN OTHERS catches;
 * who catches it by name, or in a language that catches everything, only
 * comes to the next call of ours, which raises it again.
 *
 * Two runs of one workflow may overlap, when a coordinator has started anew
 * meanwhile.  Both would record the same; whoever has the row's lock second
 * finds it moved on, and changes nothing.
 *
 * Not here: the arguments of the functions (src/sql/dtm_sql_workflow.c).
 * Runs in executors.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "lib/stringinfo.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "dtm_arena.h"
#include "dtm_compat.h"
#include "dtm_engine.h"
#include "dtm_state.h"
#include "dtm_wake.h"
#include "dtm_workflow.h"

/* How long for the row's lock: a session that signals or aborts may have it. */
#define LOCK_TIMEOUT "200ms"

static struct
{
	bool running;
	int64 id;
	DtmTrans trans; /* as the tables said when the run began; gone with its transaction */
	size_t spec_len;
	char **answers;
	int recorded; /* steps */
	int asked;    /* of them, by this run */

	/* how the run ends, if not by an error of the function */
	bool ended;
	bool outdated; /* somebody else has moved it on */
	bool locking;  /* ... or may do so: his lock was in the way */

	/* what outlives the transaction, in context */
	MemoryContext context;
	char *gid;
	char *problem; /* to park it with */
	char *packed;  /* the step to record */
	size_t packed_len;
	char *event; /* that the step waits for, or NULL */
} run;

pg_noreturn static void raise_end(void);
pg_noreturn static void raise_outdated(void);
pg_noreturn static void raise_problem(const char *problem);

/* ---- the end of a run ---- */

static void
raise_end(void)
{
	run.ended = true;
	ereport(ERROR,
			(errcode(ERRCODE_QUERY_CANCELED), errmsg("the workflow waits for its next step"),
			 errhint("This is how dtm_pg ends a run; let it pass.")));
}

static void
raise_outdated(void)
{
	run.outdated = true;
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("the workflow was moved on while its function ran")));
}

static char *
keep(const char *bytes, size_t len)
{
	char *copy = MemoryContextAlloc(run.context, len + 1);

	memcpy(copy, bytes, len);
	copy[len] = '\0';
	return copy;
}

static void
raise_problem(const char *problem)
{
	run.problem = keep(problem, strlen(problem));
	raise_end();
}

/* ---- the executor ---- */

void
dtm_workflow_begin(const DtmTask *task, MemoryContext context, DtmWorkflowCall *call)
{
	DtmStoredTrans row;

	memset(&run, 0, sizeof(run));
	run.id = task->id;
	run.context = context;
	if (!dtm_store_load_one(task->id, &row) || row.status != DTM_STATUS_PREPARED || row.parked)
		raise_outdated();
	dtm_store_unpack(row.spec, row.spec_len, row.state, row.state_len, row.created_at, &run.trans);
	if (run.trans.type != DTM_TYPE_WORKFLOW || run.trans.query_sql_name.len == 0)
		elog(ERROR, "task for a workflow that has no function");
	run.spec_len = row.spec_len;
	run.recorded = run.trans.n_branches;
	run.answers = dtm_store_answers(task->id, run.recorded);
	run.gid = keep(row.gid, strlen(row.gid));
	run.running = true;

	call->gid = run.gid;
	call->owner = row.owner;
	call->function = pnstrdup(run.trans.query_sql_name.data, run.trans.query_sql_name.len);
	call->search_path = run.trans.search_path;
	call->payload = run.trans.payload;
}

/*
 * Lock the row and read it anew; the run was about what it says only if it
 * still waits for the same number of steps.  A session that keeps the lock
 * shall not keep this process: then the run is repeated.
 */
static bool
lock_unmoved(DtmFound *found, DtmTrans *trans)
{
	bool found_row;

	memset(found, 0, sizeof(*found));
	(void) set_config_option("lock_timeout", LOCK_TIMEOUT, PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
	run.locking = true;
	found_row = dtm_store_lock(run.id, found);
	run.locking = false;
	if (!found_row || !dtm_store_find(run.gid, true, found) || found->id != run.id ||
		found->status != DTM_STATUS_PREPARED || found->parked)
		return false;
	dtm_store_unpack(VARDATA_ANY(found->spec), VARSIZE_ANY_EXHDR(found->spec),
					 found->state == NULL ? NULL : VARDATA_ANY(found->state),
					 found->state == NULL ? 0 : VARSIZE_ANY_EXHDR(found->state), found->created_at,
					 trans);
	trans->status = found->status;
	if (found->reason != NULL)
	{
		trans->reason.data = found->reason;
		trans->reason.len = (uint32) strlen(found->reason);
	}
	return trans->n_branches == run.recorded;
}

static char *
pack_state(const DtmTrans *trans, size_t *len)
{
	char *state = palloc(dtm_state_bound(trans));

	*len = dtm_state_pack(trans, state);
	return state;
}

/* "step 02, http://a/x, compensate http://a/y": what makes a step the same one. */
static char *
describe(const DtmBranch *branch)
{
	StringInfoData out;
	char *name = dtm_store_text(branch->name.data, branch->name.len);

	initStringInfo(&out);
	switch ((DtmStepKind) branch->kind)
	{
		case DTM_STEP_SLEEP:
			appendStringInfoString(&out, "a sleep");
			return out.data;
		case DTM_STEP_AWAIT:
			appendStringInfo(&out, "an await of \"%s\"", name);
			return out.data;
		case DTM_STEP_CALL:
		case DTM_STEP_TCC:
		case DTM_STEP_MEMO: /* of workflows without a function */
		case DTM_STEP_MEMO_FAILED:
			break;
	}
	for (int role = 0; role < DTM_ROLES; role++)
	{
		static const char *const words[2][DTM_ROLES] = {{"", "confirm ", "compensate "},
														{"try ", "confirm ", "cancel "}};

		if (branch->url[role].len == 0 && role != DTM_ROLE_FORWARD)
			continue;
		appendStringInfo(&out, "%s%s%s", out.len > 0 ? ", " : "",
						 words[branch->kind == DTM_STEP_TCC][role],
						 branch->url[role].len == 0
							 ? "nothing"
							 : dtm_store_text(branch->url[role].data, branch->url[role].len));
	}
	if (branch->name.len > 0)
		appendStringInfo(&out, ", named \"%s\"", name);
	return out.data;
}

static char *
id_of(const DtmBranch *branch)
{
	return dtm_store_text(branch->branch_id.data, branch->branch_id.len);
}

void
dtm_workflow_end(const DtmTask *task, Jsonb *result)
{
	DtmArena arena = dtm_arena(CurrentMemoryContext);
	DtmFound found;
	DtmTrans trans;
	DtmEvent event;
	char *state;
	size_t state_len;
	DtmRc rc;

	/* a handler of the function took the end of the run for an error of its own */
	if (run.ended)
		raise_end();
	if (run.asked < run.recorded)
	{
		const DtmBranch *left = &run.trans.branches[run.asked];

		raise_problem(psprintf("step %s was %s, now the function ends before it", id_of(left),
							   describe(left)));
	}
	if (!lock_unmoved(&found, &trans))
		raise_outdated();

	memset(&event, 0, sizeof(event));
	event.kind = DTM_EVENT_RESULT;
	event.branch = DTM_BRANCH_TRANS;
	event.outcome = DTM_OUTCOME_SUCCESS;
	event.started_at = task->started_at;
	rc = dtm_engine_steer(&trans, &event, GetCurrentTimestamp(), &arena);
	if (rc == DTM_NOMEM)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	if (rc != DTM_OK)
		raise_outdated();
	state = pack_state(&trans, &state_len);
	dtm_store_result(run.id, trans.status, state, state_len, result);
	dtm_wake_at_commit(run.id);
}

/* Put the step behind those that there are; a signal that came before its await answers it. */
static void
record_step(const DtmFound *found, DtmTrans *trans)
{
	DtmFound again;
	char *answer = run.event == NULL ? NULL : dtm_store_signal_take(run.id, run.event);
	bool troubled = trans->query.failures > 0 || trans->query.next_at != 0;
	char *state;
	size_t state_len;

	dtm_store_register(run.id, run.recorded, run.packed, run.packed_len, answer);
	if (answer == NULL && !troubled)
		return;
	run.recorded++;
	if (!lock_unmoved(&again, trans))
		elog(ERROR, "the step that was recorded is not there");
	if (answer != NULL &&
		dtm_engine_settle(trans, (uint16_t) (run.recorded - 1), GetCurrentTimestamp()) != DTM_OK)
		elog(ERROR, "the await that was recorded does not wait");
	dtm_engine_stepped(trans);
	state = pack_state(trans, &state_len);
	dtm_store_steer(run.id, trans->status, state, state_len, found->reason);
}

bool
dtm_workflow_met_lock(int sqlstate)
{
	return run.locking &&
		(sqlstate == ERRCODE_LOCK_NOT_AVAILABLE || sqlstate == ERRCODE_T_R_SERIALIZATION_FAILURE ||
		 sqlstate == ERRCODE_T_R_DEADLOCK_DETECTED);
}

bool
dtm_workflow_record(int sqlstate)
{
	DtmFound found;
	DtmTrans trans;
	bool parked = false;

	if (run.outdated || dtm_workflow_met_lock(sqlstate))
		return true;
	if (!run.ended)
		return false;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();

	/* whatever the defaults of the database are */
	XactIsoLevel = XACT_READ_COMMITTED;
	XactReadOnly = false;
	PushActiveSnapshot(GetTransactionSnapshot());
	if (lock_unmoved(&found, &trans))
	{
		if (run.problem != NULL)
		{
			dtm_store_park(run.id, run.problem);
			parked = true;
		}
		else if (run.packed != NULL)
			record_step(&found, &trans);
		dtm_wake_at_commit(run.id);
	}
	PopActiveSnapshot();
	CommitTransactionCommand();

	/* what is called next must be on record, whatever synchronous_commit says */
	XLogFlush(XactLastCommitEnd);
	if (parked)
		ereport(WARNING,
				(errmsg("workflow \"%s\" is parked: %s", run.gid, run.problem),
				 errhint("See dtm.stuck; dtm_retry() takes it up again.")));
	return true;
}

void
dtm_workflow_forget(void)
{
	memset(&run, 0, sizeof(run));
}

/* ---- what the function calls ---- */

void
dtm_workflow_refuse_itself(int64 id)
{
	if (!run.running || run.id != id)
		return;
	if (run.ended)
		raise_end();
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the function of workflow \"%s\" cannot steer or signal its own workflow",
					run.gid),
			 errhint("dtm_fail() ends it with a rollback; a sql: step can call dtm_abort(), "
					 "dtm_stop() and dtm_signal().")));
}

void
dtm_workflow_next(const char *what, char id[DTM_STEP_ID_LEN])
{
	if (!run.running)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s can be called by the function of a workflow only", what),
				 errhint(
					 "SELECT dtm_workflow_submit('function', data); runs a function as a workflow.")));
	if (run.ended)
		raise_end();
	if (run.asked >= DTM_MAX_STEPS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a workflow has at most %d steps", DTM_MAX_STEPS),
				 errhint("Let it end, and begin another with what is left.")));
	snprintf(id, DTM_STEP_ID_LEN, "%02d", run.asked + 1);
}

static bool
same_text(DtmText a, DtmText b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static bool
same_step(const DtmBranch *a, const DtmBranch *b)
{
	for (int role = 0; role < DTM_ROLES; role++)
	{
		if (!same_text(a->url[role], b->url[role]))
			return false;
	}
	return a->kind == b->kind && same_text(a->name, b->name);
}

DtmStepFound
dtm_workflow_find(const DtmBranch *asked, const char **answer, const char **reason)
{
	const DtmBranch *branch;
	const DtmOpState *op;

	if (run.asked >= run.recorded)
		return DTM_STEP_NEW;
	branch = &run.trans.branches[run.asked];
	if (!same_step(branch, asked))
		return DTM_STEP_OTHER;
	op = &branch->state[DTM_ROLE_FORWARD];
	switch ((DtmOpStatus) op->status)
	{
		case DTM_OP_PREPARED:
			/* a run that overlaps with another one comes here */
			run.outdated = true;
			raise_end();
		case DTM_OP_FAILED:
			run.asked++;
			*reason = dtm_store_text(op->last_error.data, op->last_error.len);
			return DTM_STEP_FAILED;
		case DTM_OP_SUCCEED:
			break;
	}
	*answer = run.answers[run.asked++];
	return DTM_STEP_ANSWERED;
}

void
dtm_workflow_differs(const DtmBranch *asked)
{
	const DtmBranch *branch = &run.trans.branches[run.asked];

	raise_problem(psprintf("step %s was %s, now the function asks for %s", id_of(branch),
						   describe(branch), describe(asked)));
}

void
dtm_workflow_suspend(const DtmBranch *asked, const char *packed, size_t packed_len)
{
	if (run.spec_len + packed_len > DTM_MAX_SPEC_LEN)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the steps of a workflow take at most %d bytes together", DTM_MAX_SPEC_LEN),
				 errhint("Send large data by reference, e.g. by a key.")));
	run.packed = keep(packed, packed_len);
	run.packed_len = packed_len;
	if (asked->kind == DTM_STEP_AWAIT)
		run.event = keep(asked->name.data, asked->name.len);
	raise_end();
}
