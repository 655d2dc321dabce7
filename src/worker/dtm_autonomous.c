/* -------------------------------------------------------------------------
 *
 * dtm_autonomous.c
 *		Writes in a transaction of their own: a backend hands them to an
 *		executor and waits.
 *
 * What a client is about to do outside (call a Try, send a PREPARE) must be
 * on record before it is done, and must stay there when the client's own
 * transaction is rolled back.  PostgreSQL has no transaction inside another
 * one, so somebody else commits it.
 *
 * The data goes through a segment of dynamic shared memory that the backend
 * makes and the executor attaches; the answer through the task itself.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/elog.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "dtm_autonomous.h"
#include "dtm_compat.h"
#include "dtm_process.h"
#include "dtm_register.h"
#include "dtm_store.h"

#define LONGEST_SLEEP_MS 200 /* a safety net, not how it works */
#define QUEUE_TIMEOUT_MS 30000
#define LOCK_TIMEOUT "3s"

/* What it ended with; the hint lies behind the message in the task's reason. */
typedef struct Answer
{
	int sqlstate; /* 0 = done */
	char message[DTM_TASK_REASON];
} Answer;

/* Both, cut to what there is room for, each with its NUL. */
static void
pack_reason(char *reason, const char *message, const char *hint)
{
	int len = pg_mbcliplen(message, strlen(message), DTM_TASK_REASON - 2);
	int hint_len = pg_mbcliplen(hint, strlen(hint), DTM_TASK_REASON - 2 - len);

	memcpy(reason, message, len);
	reason[len] = '\0';
	memcpy(reason + len + 1, hint, hint_len);
	reason[len + 1 + hint_len] = '\0';
}

/* ---- the backend ---- */

bool
dtm_autonomous_possible(void)
{
	return dtm_shared != NULL && dtm_shmem_find(MyDatabaseId) >= 0;
}

/* Under the lock: it is not waited for any more. */
static void
abandon(DtmTask *task)
{
	if (task->requester != DTM_MY_PROC_NUMBER || task->requester_pid != MyProcPid)
		return;
	if (task->state == DTM_TASK_RUNNING)
		task->requester = -1; /* who runs it will free it */
	else
		task->state = DTM_TASK_FREE;
}

static void
abandon_at_error(int code, Datum arg)
{
	DtmTask *task = (DtmTask *) DatumGetPointer(arg);

	(void) code;
	LWLockAcquire(dtm_shared->lock, LW_EXCLUSIVE);
	abandon(task);
	LWLockRelease(dtm_shared->lock);
}

static void
nap(long ms, uint32 wait_event)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms, wait_event);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

static bool
is_late(TimestampTz since)
{
	return TimestampDifferenceExceeds(since, GetCurrentTimestamp(), QUEUE_TIMEOUT_MS);
}

static void
no_executor(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("no executor of dtm_pg took up what must be written at once"),
			 errhint(
				 "See dtm.workers and the server's log; max_worker_processes may be too small.")));
}

/* A task of ours, queued. */
static DtmTask *
queue(int database, DtmAutonomousKind kind, dsm_segment *segment, Size len, uint64 *serial,
	  uint32 wait_event)
{
	DtmDatabaseSlot *db = &dtm_shared->databases[database];
	TimestampTz since = GetCurrentTimestamp();
	DtmTask *task = NULL;
	bool gone;

	for (;;)
	{
		LWLockAcquire(dtm_shared->lock, LW_EXCLUSIVE);
		gone = db->dboid != MyDatabaseId;
		for (int i = DTM_MAX_TASKS - 1; i >= 0 && task == NULL && !gone; i--)
		{
			if (db->tasks[i].state == DTM_TASK_FREE)
				task = &db->tasks[i];
		}
		if (task != NULL)
		{
			memset(task, 0, sizeof(*task));
			task->state = DTM_TASK_QUEUED;
			task->coordinator = -1; /* none of them shall clear it away */
			task->autonomous = (uint8) kind;
			task->serial = *serial = ++db->task_serial;
			task->requester = DTM_MY_PROC_NUMBER;
			task->requester_pid = MyProcPid;
			task->argument = dsm_segment_handle(segment);
			task->argument_len = len;
		}
		for (int i = 0; i < DTM_MAX_EXECUTORS && task != NULL; i++)
		{
			if (db->executors[i].pid > 0 && !db->executors[i].busy)
				dtm_shmem_wake(db->executors[i].proc);
		}
		LWLockRelease(dtm_shared->lock);
		if (task != NULL)
			return task;
		if (gone || is_late(since))
			no_executor();
		nap(10, wait_event);
	}
}

/* True when it is done; the task is then free again.  A dropped extension takes the tasks with it. */
static bool
take_answer(DtmTask *task, uint64 serial, Answer *answer, bool *queued)
{
	bool done;
	bool gone;

	LWLockAcquire(dtm_shared->lock, LW_EXCLUSIVE);
	gone =
		task->state == DTM_TASK_FREE || task->serial != serial || task->requester_pid != MyProcPid;
	done = !gone && task->state == DTM_TASK_DONE;
	*queued = task->state == DTM_TASK_QUEUED;
	if (done)
	{
		answer->sqlstate = task->sqlstate;
		memcpy(answer->message, task->reason, sizeof(answer->message));
		task->state = DTM_TASK_FREE;
	}
	LWLockRelease(dtm_shared->lock);
	if (gone)
		no_executor();
	return done;
}

static void
throw_answer(const Answer *answer)
{
	const char *hint = answer->message + strlen(answer->message) + 1;

	if (answer->sqlstate == ERRCODE_LOCK_NOT_AVAILABLE)
		hint = "An open transaction has changed or locked the same: end it, then try again.";
	ereport(ERROR,
			(errcode(answer->sqlstate), errmsg("%s", answer->message),
			 *hint != '\0' ? errhint("%s", hint) : 0));
}

/* Until the answer is there; an executor is started when none takes the task up. */
static void
wait_for_answer(int database, DtmTask *task, uint64 serial, Answer *answer, uint32 wait_event)
{
	TimestampTz since = GetCurrentTimestamp();
	bool queued;

	while (!take_answer(task, serial, answer, &queued))
	{
		if (queued)
			(void) dtm_executor_ensure(database);
		if (queued && is_late(since))
			no_executor();
		nap(LONGEST_SLEEP_MS, wait_event);
	}
}

void
dtm_autonomous_run(DtmAutonomousKind kind, const void *data, Size len)
{
	int database = dtm_autonomous_possible() ? dtm_shmem_find(MyDatabaseId) : -1;
	uint32 wait_event = dtm_wait_event("DtmAutonomousWrite");
	Answer answer;
	uint64 serial;
	dsm_segment *segment;
	DtmTask *task;

	if (database < 0)
		no_executor();
	segment = dsm_create(Max(len, 1), 0);
	memcpy(dsm_segment_address(segment), data, len);
	task = queue(database, kind, segment, len, &serial, wait_event);
	PG_ENSURE_ERROR_CLEANUP(abandon_at_error, PointerGetDatum(task));
	{
		wait_for_answer(database, task, serial, &answer, wait_event);
	}
	PG_END_ENSURE_ERROR_CLEANUP(abandon_at_error, PointerGetDatum(task));
	dsm_detach(segment);
	if (answer.sqlstate != 0)
		throw_answer(&answer);
}

/* ---- the executor ---- */

static bool
is_waited_for(const DtmTask *task)
{
	return task->requester >= 0 && ProcGlobal->allProcs[task->requester].pid == task->requester_pid;
}

/* Under the lock: its answer is there, or nobody waits for it any more. */
static void
finish(DtmTask *task, int sqlstate, const char *message, const char *hint)
{
	task->sqlstate = sqlstate;
	pack_reason(task->reason, message, hint);
	task->state = is_waited_for(task) ? DTM_TASK_DONE : DTM_TASK_FREE;
	if (task->state == DTM_TASK_DONE)
		dtm_shmem_wake(task->requester);
}

void
dtm_autonomous_requeue(DtmTask *task)
{
	task->state = is_waited_for(task) ? DTM_TASK_QUEUED : DTM_TASK_FREE;
	if (task->state == DTM_TASK_QUEUED)
		dtm_shmem_wake(task->requester); /* it sees to another executor */
}

/* "gid", NUL, id, packed branch. */
static void
register_branch(const char *data, Size len)
{
	Size gid_len = strnlen(data, len);
	Size head = gid_len + 1 + sizeof(int64);
	int64 id;

	if (head > len)
		elog(ERROR, "malformed registration");
	memcpy(&id, data + gid_len + 1, sizeof(id));
	dtm_register_branch(data, id, data + head, len - head);
}

/* Server, role. */
static void
note_xa_server(const char *data, Size len)
{
	Oid pair[2];

	if (len != sizeof(pair))
		elog(ERROR, "malformed note of a server");
	memcpy(pair, data, sizeof(pair));
	dtm_store_xa_note(pair[0], pair[1]);

	/* who sees the row relies on it, and must not see it before it is durable */
	ForceSyncCommit();
}

static void
execute(const DtmTask *task)
{
	dsm_segment *segment = dsm_attach(task->argument);
	char *data;

	if (segment == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("the session that asked for the write has ended")));

	/* it may let go of its segment at any time, and of nothing that we have read */
	data = palloc(task->argument_len + 1);
	memcpy(data, dsm_segment_address(segment), task->argument_len);
	data[task->argument_len] = '\0';
	dsm_detach(segment);
	switch ((DtmAutonomousKind) task->autonomous)
	{
		case DTM_AUTONOMOUS_REGISTER:
			register_branch(data, task->argument_len);
			break;
		case DTM_AUTONOMOUS_XA_SERVER:
			note_xa_server(data, task->argument_len);
			break;
	}
}

void
dtm_autonomous_serve(DtmTask *shared_task, MemoryContext context)
{
	DtmTask task = *shared_task;
	volatile int sqlstate = 0;
	char *volatile message = "";
	char *volatile hint = "";

	pgstat_report_activity(STATE_RUNNING, "dtm: write for another session");
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();

		/* whatever the defaults of the database are */
		XactIsoLevel = XACT_READ_COMMITTED;
		XactReadOnly = false;
		PushActiveSnapshot(GetTransactionSnapshot());
		(void) set_config_option("lock_timeout", LOCK_TIMEOUT, PGC_SUSET, PGC_S_SESSION,
								 GUC_ACTION_LOCAL, true, 0, false);
		execute(&task);
		PopActiveSnapshot();
		CommitTransactionCommand();

		/* it is promised to be durable, whatever synchronous_commit says */
		XLogFlush(XactLastCommitEnd);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		QueryCancelPending = false;
		AbortCurrentTransaction();
		sqlstate = error->sqlerrcode == 0 ? ERRCODE_INTERNAL_ERROR : error->sqlerrcode;
		message = error->message;
		if (error->hint != NULL)
			hint = error->hint;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);

	LWLockAcquire(dtm_shared->lock, LW_EXCLUSIVE);
	finish(shared_task, sqlstate, message, hint);
	LWLockRelease(dtm_shared->lock);
}
