/* -------------------------------------------------------------------------
 *
 * dtm_sqlcalls.c
 *		Calls of functions in this database: the engine's calls of sql:
 *		targets become tasks of executors, and what comes back becomes events.
 *
 * Not here: the run of the function (dtm_executor.c).  Runs in the
 * coordinator, outside of database transactions.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "dtm_coordinator.h"
#include "dtm_process.h"

#define POSTPONED_US 200000 /* until a workflow whose run came to nothing runs again */

static DtmTask *free_task(DtmDatabaseSlot *db);
static void sql_ended(DtmCoordinator *c, const DtmTask *task);

void
dtm_sqlcalls_init(DtmCoordinator *c)
{
	dlist_init(&c->waiting_tasks);
}

void
dtm_sqlcalls_start(DtmCoordinator *c, DtmHeld *held, const DtmCall *call, const DtmBranch *branch)
{
	DtmWaitingTask *task = MemoryContextAlloc(c->context, sizeof(DtmWaitingTask));

	task->id = held->id;
	task->hold = held->hold;
	task->branch = call->branch;
	task->role = call->role;
	task->op = call->op;
	task->timeout_ms = dtm_calls_timeout(held, branch);
	dlist_push_tail(&c->waiting_tasks, &task->node);
	c->n_waiting_tasks++;
	held->calls_out++;
}

/* Under the lock.  Slow functions leave something free for sessions that wait for a write. */
static DtmTask *
free_task(DtmDatabaseSlot *db)
{
	for (int i = 0; i < DTM_MAX_SQL_TASKS; i++)
	{
		if (db->tasks[i].state == DTM_TASK_FREE)
			return &db->tasks[i];
	}
	return NULL;
}

void
dtm_sqlcalls_feed(DtmCoordinator *c)
{
	bool handed = false;

	if (c->n_waiting_tasks == 0 && c->n_tasks == 0)
		return;
	LWLockAcquire(dtm_shared->lock, LW_EXCLUSIVE);
	while (!dlist_is_empty(&c->waiting_tasks))
	{
		DtmWaitingTask *waiting = dlist_head_element(DtmWaitingTask, node, &c->waiting_tasks);
		DtmTask *task = free_task(c->db);

		if (task == NULL)
			break;
		memset(task, 0, sizeof(*task));
		task->state = DTM_TASK_QUEUED;
		task->coordinator = c->number;
		task->coordinator_generation = c->generation;
		task->serial = ++c->db->task_serial;
		task->id = waiting->id;
		task->hold = waiting->hold;
		task->branch = waiting->branch;
		task->role = waiting->role;
		task->op = waiting->op;
		task->timeout_ms = waiting->timeout_ms;
		dlist_delete(&waiting->node);
		pfree(waiting);
		c->n_waiting_tasks--;
		c->n_tasks++;
		handed = true;
	}
	for (int i = 0; i < DTM_MAX_EXECUTORS && handed; i++)
	{
		if (c->db->executors[i].pid > 0 && !c->db->executors[i].busy)
			dtm_shmem_wake(c->db->executors[i].proc);
	}
	LWLockRelease(dtm_shared->lock);
	(void) dtm_executor_ensure(c->database);
}

static void
sql_ended(DtmCoordinator *c, const DtmTask *task)
{
	DtmHeld *held = dtm_held_find(c, task->id);
	DtmEvent event;

	if (held == NULL || held->hold != task->hold)
		return;
	held->calls_out--;
	memset(&event, 0, sizeof(event));
	event.kind = DTM_EVENT_RESULT;
	event.branch = task->branch;
	event.role = task->role;
	event.outcome = (DtmOutcome) task->outcome;
	event.started_at = task->started_at;
	if (task->postponed)
	{
		/* as a rule the row is loaded anew before this counts, for it was changed */
		event.kind = DTM_EVENT_POSTPONE;
		event.until = GetCurrentTimestamp() + POSTPONED_US;
	}
	else if (event.outcome != DTM_OUTCOME_SUCCESS)
	{
		event.reason = dtm_calls_text(c, task->reason, strlen(task->reason));
		event.body = dtm_calls_body_of_reason(c, task->reason);
	}
	dtm_calls_add_event(c, held, &event);
}

void
dtm_sqlcalls_collect(DtmCoordinator *c)
{
	DtmTask *done;
	int n = 0;

	if (c->n_tasks == 0)
		return;
	done = MemoryContextAlloc(c->tick_context, sizeof(DtmTask) * DTM_MAX_TASKS);
	LWLockAcquire(dtm_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < DTM_MAX_TASKS; i++)
	{
		DtmTask *task = &c->db->tasks[i];

		if (task->state == DTM_TASK_DONE && task->coordinator == c->number &&
			task->coordinator_generation == c->generation)
		{
			done[n++] = *task;
			task->state = DTM_TASK_FREE;
		}
	}
	LWLockRelease(dtm_shared->lock);
	c->n_tasks -= n;
	for (int i = 0; i < n; i++)
		sql_ended(c, &done[i]);
}

void
dtm_sqlcalls_cancel(DtmCoordinator *c, const DtmHeld *held)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &c->waiting_tasks)
	{
		DtmWaitingTask *task = dlist_container(DtmWaitingTask, node, iter.cur);

		if (task->id == held->id)
		{
			dlist_delete(iter.cur);
			pfree(task);
			c->n_waiting_tasks--;
		}
	}
}
