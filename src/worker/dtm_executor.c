/* -------------------------------------------------------------------------
 *
 * dtm_executor.c
 *		Runs sql: branches, each in one transaction with its barrier row:
 *		exactly once, as the role that submitted.  A sql: check-back of a msg
 *		is run without a barrier row: its answer is asked for, as often as
 *		needed.  So are the functions of workflows (dtm_workflow.c).
 *
 * Started by the coordinator when there is something to run, leaves when
 * idle.  A slow function holds up this process only; it is cancelled at its
 * request_timeout, which rolls it back.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include <dlfcn.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "commands/prepare.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "dtm_autonomous.h"
#include "dtm_barrier.h"
#include "dtm_compat.h"
#include "dtm_executor.h"
#include "dtm_process.h"
#include "dtm_settings.h"
#include "dtm_store.h"
#include "dtm_workflow.h"

#define IDLE_MS 10000          /* then it leaves */
#define START_TIMEOUT_MS 15000 /* a registered executor that does not come */
#define GRACE_MS 2000          /* for a function to end that was cancelled at its time-out */

DtmCallContext dtm_call_context = {NULL, NULL, NULL, NULL};

static DtmDatabaseSlot *db = NULL;
static int my_number = -1;
static TimeoutId last_timeout;
static volatile sig_atomic_t overdue = false;

/* ---- starting executors (coordinator) ---- */

/* Under the lock: number of the executor to start, or -1. */
static int
executor_to_start(DtmDatabaseSlot *slot)
{
	TimestampTz now = GetCurrentTimestamp();
	int queued = 0;
	int urgent = 0;
	int idle = 0;
	int free_number = -1;

	for (int i = 0; i < DTM_MAX_TASKS; i++)
	{
		if (slot->tasks[i].state == DTM_TASK_QUEUED)
			queued++;
		if (slot->tasks[i].state == DTM_TASK_QUEUED && slot->tasks[i].autonomous != 0)
			urgent++;
	}
	for (int i = 0; i <= dtm_sql_workers; i++)
	{
		DtmExecutorSlot *executor = &slot->executors[i];

		if (executor->pid == -1 &&
			TimestampDifferenceExceeds(executor->since, now, START_TIMEOUT_MS))
			executor->pid = 0;
		if (i == dtm_sql_workers)
			break;
		if (executor->pid == 0)
			free_number = i;
		else if (!executor->busy)
			idle++;
	}

	/* what a session waits for does not wait until a slow function has ended */
	if (free_number < 0 && urgent > idle && slot->executors[dtm_sql_workers].pid == 0)
		return dtm_sql_workers;
	return queued > idle ? free_number : -1;
}

bool
dtm_executor_ensure(int database)
{
	static bool failure_reported = false;
	DtmDatabaseSlot *slot = &dtm_shared->databases[database];
	int number;

	for (;;)
	{
		BackgroundWorker worker;

		LWLockAcquire(dtm_shared->lock, LW_EXCLUSIVE);
		number = slot->aside_for == 0 ? executor_to_start(slot) : -1;
		if (number >= 0)
		{
			slot->executors[number].pid = -1;
			slot->executors[number].busy = false;
			slot->executors[number].since = GetCurrentTimestamp();
		}
		LWLockRelease(dtm_shared->lock);
		if (number < 0)
			return true;

		dtm_process_worker(&worker, "dtm_executor_main", "executor", database, number);
		if (!RegisterDynamicBackgroundWorker(&worker, NULL))
		{
			LWLockAcquire(dtm_shared->lock, LW_EXCLUSIVE);
			slot->executors[number].pid = 0;
			LWLockRelease(dtm_shared->lock);
			if (!failure_reported)
				ereport(WARNING,
						(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
						 errmsg(
							 "dtm_pg could not start an executor for sql: branches: no free background worker slot"),
						 errhint("Raise max_worker_processes and restart the server.")));
			failure_reported = true;
			return false;
		}
		failure_reported = false;
	}
}

/* ---- the process ---- */

/* Give an answer to the coordinator that wants it; under the lock. */
static void
finish_task(DtmTask *task, DtmOutcome outcome, const char *reason)
{
	if (task->autonomous != 0)
	{
		dtm_autonomous_requeue(task);
		return;
	}
	task->outcome = (uint8) outcome;
	if (reason != NULL)
		strlcpy(task->reason, reason, sizeof(task->reason));
	task->state = DTM_TASK_DONE;
	if (db->coordinators[task->coordinator].generation != task->coordinator_generation ||
		db->coordinators[task->coordinator].pid == 0)
		task->state = DTM_TASK_FREE; /* nobody is there to take it */
	else
		dtm_shmem_wake(db->coordinators[task->coordinator].proc);
}

static void
executor_exit(int code, Datum arg)
{
	(void) code;
	(void) arg;
	if (db == NULL || my_number < 0)
		return;
	LWLockAcquire(dtm_shared->lock, LW_EXCLUSIVE);
	if (db->executors[my_number].pid == MyProcPid)
	{
		db->executors[my_number].pid = 0;
		db->executors[my_number].proc = -1;
		db->executors[my_number].busy = false;
		for (int i = 0; i < DTM_MAX_TASKS; i++)
		{
			if (db->tasks[i].state == DTM_TASK_RUNNING && db->tasks[i].executor == my_number)
				finish_task(&db->tasks[i], DTM_OUTCOME_ERROR,
							overdue ? "did not end when it was cancelled (request_timeout)"
									: "the executor was ended");
		}

		/* who took it for idle sees to another one */
		for (int i = 0; i < DTM_MAX_COORDINATORS; i++)
		{
			if (db->coordinators[i].pid != 0)
				dtm_shmem_wake(db->coordinators[i].proc);
		}
	}
	LWLockRelease(dtm_shared->lock);
}

/* Sessions wait for their writes; an executor beyond dtm.sql_workers serves nothing else. */
static bool
comes_before(const DtmTask *task, const DtmTask *other)
{
	if (task->autonomous == 0 && my_number >= dtm_sql_workers)
		return false;
	if (other == NULL)
		return true;
	if ((task->autonomous != 0) != (other->autonomous != 0))
		return task->autonomous != 0;
	return task->serial < other->serial;
}

/*
 * The oldest queued task, now running; NULL when there is none.  Leaves when
 * the slot was given to another database, after DROP EXTENSION in ours: its
 * tasks are not for us.
 */
static DtmTask *
take_task(void)
{
	DtmTask *oldest = NULL;

	LWLockAcquire(dtm_shared->lock, LW_EXCLUSIVE);
	if (db->dboid != MyDatabaseId)
	{
		LWLockRelease(dtm_shared->lock);
		proc_exit(0);
	}
	for (int i = 0; i < DTM_MAX_TASKS; i++)
	{
		DtmTask *task = &db->tasks[i];

		if (task->state == DTM_TASK_QUEUED && comes_before(task, oldest))
			oldest = task;
	}
	if (oldest != NULL)
	{
		oldest->state = DTM_TASK_RUNNING;
		oldest->executor = my_number;
		oldest->started_at = GetCurrentTimestamp();
	}
	db->executors[my_number].busy = oldest != NULL;
	LWLockRelease(dtm_shared->lock);
	return oldest;
}

/* What the last SELECT gave, in context; NULL for void and NULL. */
static Jsonb *
jsonb_result(MemoryContext context)
{
	MemoryContext old;
	Jsonb *result;
	Datum value;
	bool isnull;

	if (SPI_processed < 1 || SPI_gettypeid(SPI_tuptable->tupdesc, 1) != JSONBOID)
		return NULL;
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (isnull)
		return NULL;
	old = MemoryContextSwitchTo(context);
	result = DatumGetJsonbPCopy(value);
	MemoryContextSwitchTo(old);
	return result;
}

/*
 * Call the function as the role that submitted.  Security-restricted: it
 * cannot leave anything behind (cursors, temporary tables, deferred
 * triggers) that would run with the rights of this process.
 */
static Jsonb *
call_function(Oid role, const char *function, DtmText search_path, DtmText payload)
{
	Oid save_user;
	int save_context;
	int nest_level;
	char *json = payload.len > 0 ? pnstrdup(payload.data, payload.len) : "{}";
	Datum values[1];
	Oid types[1] = {JSONBOID};
	char *statement = psprintf("SELECT %s($1)", function);
	MemoryContext caller = CurrentMemoryContext;
	Jsonb *result;
	int rc;

	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(role)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the role that submitted the transaction does not exist any more")));

	values[0] = DirectFunctionCall1(jsonb_in, CStringGetDatum(json));
	GetUserIdAndSecContext(&save_user, &save_context);
	SetUserIdAndSecContext(role,
						   save_context | SECURITY_LOCAL_USERID_CHANGE |
							   SECURITY_RESTRICTED_OPERATION);
	nest_level = NewGUCNestLevel();
	if (search_path.len > 0)
		(void) set_config_option("search_path", pnstrdup(search_path.data, search_path.len),
								 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");

	/* constraints that wait for the commit would be checked with the worker's rights */
	rc = SPI_execute("SET CONSTRAINTS ALL IMMEDIATE", false, 0);
	if (rc < 0)
		elog(ERROR, "SET CONSTRAINTS failed: %s", SPI_result_code_string(rc));
	rc = SPI_execute_with_args(statement, 1, types, values, NULL, false, 0);
	if (rc < 0)
		elog(ERROR, "\"%s\" failed: %s", statement, SPI_result_code_string(rc));
	result = jsonb_result(caller);
	SPI_finish();

	/* also what it SET for the session: the next function may be somebody else's */
	AtEOXact_GUC(false, nest_level);
	SetUserIdAndSecContext(save_user, save_context);
	return result;
}

char *
dtm_check_back_payload(const char *gid)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoString(&json, "{\"gid\": ");
	escape_json(&json, gid);
	appendStringInfoChar(&json, '}');
	return json.data;
}

/*
 * False when this op has its effect already, or must never have it.  Only
 * what ran here itself has left its row here: when somebody else ran what is
 * to be undone, its row is put there first, or the undoing would be taken for
 * that of something that never happened.
 */
static bool
pass_barrier(const DtmTrans *trans, const char *gid, const DtmBranch *branch, const char *op)
{
	char *branch_id = pnstrdup(branch->branch_id.data, branch->branch_id.len);
	DtmBarrierCall call = {dtm_type_name(trans->type), gid, branch_id, op};
	const char *origin = dtm_barrier_origin(op);
	int origin_rows;
	int current_rows;

	if (origin != NULL && branch->sql_name[DTM_ROLE_FORWARD].len == 0)
	{
		DtmBarrierCall elsewhere = {call.trans_type, gid, branch_id, origin};

		dtm_store_barrier(&elsewhere, DTM_SQL_BARRIER_ID, origin, &origin_rows, &current_rows);
	}
	dtm_store_barrier(&call, DTM_SQL_BARRIER_ID, op, &origin_rows, &current_rows);
	return dtm_barrier_decide(op, origin_rows, current_rows) != DTM_BARRIER_SKIP;
}

static void
serve(const char *gid, DtmTransType type, const char *branch_id, const char *op)
{
	dtm_call_context.gid = gid;
	dtm_call_context.trans_type = dtm_type_name(type);
	dtm_call_context.branch_id = branch_id;
	dtm_call_context.op = op;
}

/* The function of a workflow; throws also when it only waits. */
static void
run_workflow(const DtmTask *task, MemoryContext context)
{
	DtmWorkflowCall call;
	Jsonb *result;

	dtm_workflow_begin(task, context, &call);
	serve(call.gid, DTM_TYPE_WORKFLOW, "00", dtm_op_name(DTM_OP_WORKFLOW));
	result = call_function(call.owner, call.function, call.search_path, call.payload);
	dtm_workflow_end(task, result);
}

/* One task in one transaction; throws what the function throws. */
static void
run_in_transaction(const DtmTask *task, MemoryContext context)
{
	DtmStoredTrans row;
	DtmTrans trans;
	DtmText function;
	DtmText payload = {NULL, 0};
	const char *op = dtm_op_name((DtmOp) task->op);
	const char *branch_id = "00";
	const DtmBranch *branch = NULL;
	Jsonb *result;

	if (task->op == DTM_OP_WORKFLOW)
	{
		run_workflow(task, context);
		return;
	}
	if (!dtm_store_load_one(task->id, &row))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the transaction is not unfinished any more")));
	dtm_store_unpack(row.spec, row.spec_len, NULL, 0, row.created_at, &trans);
	if (task->branch == DTM_BRANCH_TRANS)
	{
		function = trans.query_sql_name;
		payload.data = dtm_check_back_payload(row.gid);
		payload.len = (uint32) strlen(payload.data);
	}
	else if (task->branch < trans.n_branches && task->role < DTM_ROLES)
	{
		branch = &trans.branches[task->branch];
		function = branch->sql_name[task->role];
		payload = branch->payload;
		branch_id = pnstrdup(branch->branch_id.data, branch->branch_id.len);
	}
	else
		elog(ERROR, "task for a branch that does not exist");
	if (function.len == 0)
		elog(ERROR, "task for a branch that is no sql: target");

	/* a check-back is a question: it has no effect that must not happen twice */
	if (branch != NULL && !pass_barrier(&trans, row.gid, branch, op))
		return;

	serve(row.gid, trans.type, branch_id, op);
	result =
		call_function(row.owner, pnstrdup(function.data, function.len), trans.search_path, payload);

	/* with the barrier's row, so that a repeat that this skips has the answer, too */
	if (trans.type == DTM_TYPE_WORKFLOW && task->role == DTM_ROLE_FORWARD)
		dtm_store_answer(task->id, task->branch,
						 result == NULL ? "{}"
										: JsonbToCString(NULL, &result->root, VARSIZE(result)));
}

static DtmOutcome
outcome_of_error(const ErrorData *error, const DtmTask *task, char *reason, size_t size)
{
	char state[6];
	bool is_answer =
		error->sqlerrcode == DTM_ERRCODE_FAIL || error->sqlerrcode == DTM_ERRCODE_ONGOING;

	for (int i = 0; i < 5; i++)
		state[i] = PGUNSIXBIT(error->sqlerrcode >> (6 * i));
	state[5] = '\0';
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED &&
		TimestampDifferenceExceeds(task->started_at, GetCurrentTimestamp(), task->timeout_ms - 1))
		snprintf(reason, size, "timed out after %d ms (request_timeout)", task->timeout_ms);
	else
	{
		/* where it happened, in the user's own code: the first line of the context */
		int where = error->context == NULL ? 0 : (int) strcspn(error->context, "\n");

		snprintf(reason, size, "%s: %s%s%s%s%.*s", state, error->message,
				 error->detail == NULL ? "" : " - ", error->detail == NULL ? "" : error->detail,
				 is_answer || where == 0 ? "" : " - ", is_answer ? 0 : where,
				 error->context == NULL ? "" : error->context);
	}
	if (error->sqlerrcode == DTM_ERRCODE_FAIL)
		return DTM_OUTCOME_FAILURE;
	if (error->sqlerrcode == DTM_ERRCODE_ONGOING)
		return DTM_OUTCOME_ONGOING;
	return DTM_OUTCOME_ERROR;
}

/* After an ERROR: what it was, with the transaction rolled back. */
static ErrorData *
recover(MemoryContext context)
{
	ErrorData *error;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	FlushErrorState();
	disable_all_timeouts(false);
	QueryCancelPending = false;
	AbortCurrentTransaction();
	MemoryContextSwitchTo(context);
	return error;
}

/*
 * The function of a workflow has ended with that error, or only its run:
 * true when the workflow goes on from what is recorded now.  The error is
 * replaced by that of the recording, if there is one.
 */
static bool
record_run(const DtmTask *task, MemoryContext context, ErrorData **error)
{
	volatile bool goes_on = false;

	if (task->op != DTM_OP_WORKFLOW)
		return false;
	PG_TRY();
	{
		goes_on = dtm_workflow_record((*error)->sqlerrcode);
	}
	PG_CATCH();
	{
		*error = recover(context);
		goes_on = dtm_workflow_met_lock((*error)->sqlerrcode);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return goes_on;
}

/*
 * A function that catches query_canceled goes on after its time-out, and with
 * a few of them nothing else would be run: then the process ends under it.
 */
static void
end_under_it(void)
{
	overdue = true;
	ProcDiePending = true;
	InterruptPending = true;
	SetLatch(MyLatch);
}

static void
run_task(DtmTask *shared_task, MemoryContext context)
{
	DtmTask task = *shared_task;
	volatile DtmOutcome outcome = DTM_OUTCOME_SUCCESS;
	ErrorData *volatile failure = NULL;
	volatile bool postponed = false;
	char reason[DTM_TASK_REASON];

	reason[0] = '\0';
	pgstat_report_activity(STATE_RUNNING,
						   task.op == DTM_OP_WORKFLOW ? "dtm: workflow" : "dtm: sql branch");
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();

		/* the barrier and the end are written, also where reading is the default */
		XactReadOnly = false;
		PushActiveSnapshot(GetTransactionSnapshot());
		enable_timeout_after(STATEMENT_TIMEOUT, task.timeout_ms);
		enable_timeout_after(last_timeout, Min(task.timeout_ms, INT_MAX - GRACE_MS) + GRACE_MS);
		run_in_transaction(&task, context);
		PopActiveSnapshot();

		/* the time holds for the commit as well: with dtm_xa_exec it waits for other servers */
		CommitTransactionCommand();
		disable_timeout(STATEMENT_TIMEOUT, false);
		disable_timeout(last_timeout, false);
		QueryCancelPending = false;

		/* the end of a workflow is a decision: nothing is confirmed that a crash takes back */
		if (task.op == DTM_OP_WORKFLOW)
			XLogFlush(XactLastCommitEnd);
	}
	PG_CATCH();
	{
		failure = recover(context);
	}
	PG_END_TRY();
	memset(&dtm_call_context, 0, sizeof(dtm_call_context));
	if (failure != NULL)
	{
		ErrorData *error = failure;

		postponed = record_run(&task, context, &error);
		if (!postponed)
		{
			outcome = outcome_of_error(error, &task, reason, sizeof(reason));
			reason[pg_mbcliplen(reason, strlen(reason), sizeof(reason) - 1)] = '\0';
			ereport(DEBUG1, (errmsg_internal("sql branch ended: %s", reason)));
		}
	}
	dtm_workflow_forget();

	/* what outlives a transaction: the next function may be somebody else's */
	LockReleaseSession(USER_LOCKMETHOD);
	DropAllPreparedStatements();
	MemoryContextSwitchTo(context);
	pgstat_report_stat(false);

	LWLockAcquire(dtm_shared->lock, LW_EXCLUSIVE);
	shared_task->postponed = postponed;
	finish_task(shared_task, outcome, reason);
	db->executors[my_number].busy = false;
	LWLockRelease(dtm_shared->lock);
	pg_atomic_fetch_add_u64(&db->executors[my_number].calls, 1);
}

/*
 * Has a function brought in something that keeps what nobody can take back
 * from outside?  A connection of dblink stays open when its transaction ends,
 * and whoever is served next could use it by its name, as whom it was made.
 */
static bool
is_stained(void)
{
	return dlsym(RTLD_DEFAULT, "dblink_connect") != NULL;
}

void
dtm_executor_main(Datum arg)
{
	MemoryContext context;
	TimestampTz idle_since;
	uint32 wait_event;

	dtm_process_signals();
	db = &dtm_shared->databases[DTM_PROCESS_DATABASE(arg)];
	LWLockAcquire(dtm_shared->lock, LW_EXCLUSIVE);
	if (db->executors[DTM_PROCESS_NUMBER(arg)].pid != -1 || db->aside_for != 0)
	{
		if (db->executors[DTM_PROCESS_NUMBER(arg)].pid == -1)
			db->executors[DTM_PROCESS_NUMBER(arg)].pid = 0;
		LWLockRelease(dtm_shared->lock);
		proc_exit(0);
	}
	my_number = DTM_PROCESS_NUMBER(arg);
	db->executors[my_number].pid = MyProcPid;
	LWLockRelease(dtm_shared->lock);
	before_shmem_exit(executor_exit, 0);

	BackgroundWorkerInitializeConnectionByOid(db->dboid, InvalidOid, 0);
	context = AllocSetContextCreate(TopMemoryContext, "dtm executor", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	last_timeout = RegisterTimeout(USER_TIMEOUT, end_under_it);
	pgstat_report_appname("dtm_pg executor");
	SetConfigOption("search_path", "pg_catalog, pg_temp", PGC_SUSET, PGC_S_OVERRIDE);
	wait_event = dtm_wait_event("DtmExecutorMain");

	LWLockAcquire(dtm_shared->lock, LW_EXCLUSIVE);
	db->executors[my_number].proc = DTM_MY_PROC_NUMBER;
	db->executors[my_number].since = GetCurrentTimestamp();
	LWLockRelease(dtm_shared->lock);

	idle_since = GetCurrentTimestamp();
	for (;;)
	{
		DtmTask *task;

		(void) dtm_process_interrupts();
		task = take_task();
		if (task != NULL)
		{
			if (task->autonomous != 0)
			{
				dtm_autonomous_serve(task, context);
				LWLockAcquire(dtm_shared->lock, LW_EXCLUSIVE);
				db->executors[my_number].busy = false;
				LWLockRelease(dtm_shared->lock);
			}
			else
				run_task(task, context);
			if (is_stained())
				proc_exit(0);
			MemoryContextReset(context);
			idle_since = GetCurrentTimestamp();
			continue;
		}
		if (TimestampDifferenceExceeds(idle_since, GetCurrentTimestamp(), IDLE_MS))
			proc_exit(0);
		pgstat_report_activity(STATE_IDLE, NULL);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, IDLE_MS,
						 wait_event);
		ResetLatch(MyLatch);
	}
}
