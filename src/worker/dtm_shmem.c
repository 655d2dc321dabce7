/* -------------------------------------------------------------------------
 *
 * dtm_shmem.c
 *		Set-up of the shared memory and the small operations on it that
 *		must not fail.
 *
 * Runs in every process.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/shmem.h"

#include "dtm_compat.h"
#include "dtm_settings.h"
#include "dtm_shmem.h"

DtmShared *dtm_shared = NULL;

static shmem_startup_hook_type previous_startup_hook = NULL;
#if DTM_HAS_SHMEM_REQUEST_HOOK
static shmem_request_hook_type previous_request_hook = NULL;
#endif

static Size
shared_size(void)
{
	return add_size(offsetof(DtmShared, databases),
					mul_size(dtm_max_databases, sizeof(DtmDatabaseSlot)));
}

static void
request_shared(void)
{
#if DTM_HAS_SHMEM_REQUEST_HOOK
	if (previous_request_hook)
		previous_request_hook();
#endif
	RequestAddinShmemSpace(shared_size());
	RequestNamedLWLockTranche("dtm_pg", 1);
}

static void
init_coordinator(DtmCoordinatorSlot *slot)
{
	slot->proc = -1;
	pg_atomic_init_u32(&slot->in_flight, 0);
	pg_atomic_init_u32(&slot->calls_out, 0);
	pg_atomic_init_u64(&slot->calls, 0);
	pg_atomic_init_u64(&slot->finished, 0);
	pg_atomic_init_u64(&slot->ticks, 0);
	pg_atomic_init_u64(&slot->last_tick_at, 0);
	pg_atomic_init_u64(&slot->calls_per_1000s, 0);
	pg_atomic_init_u64(&slot->rss_kb, 0);
	pg_atomic_init_u32(&slot->http_connections, 0);
	pg_atomic_init_u32(&slot->http_waiting, 0);
	SpinLockInit(&slot->error_mutex);
	SpinLockInit(&slot->inbox.mutex);
}

static void
startup_shared(void)
{
	bool found;

	if (previous_startup_hook)
		previous_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	dtm_shared = ShmemInitStruct("dtm_pg", shared_size(), &found);
	if (!found)
	{
		memset(dtm_shared, 0, shared_size());
		dtm_shared->lock = &(GetNamedLWLockTranche("dtm_pg"))->lock;
		dtm_shared->launcher_proc = -1;
		dtm_shared->n_databases = dtm_max_databases;
		SpinLockInit(&dtm_shared->request_mutex);
		SpinLockInit(&dtm_shared->waiter_mutex);
		pg_atomic_init_u32(&dtm_shared->n_waiters, 0);
		for (int i = 0; i < dtm_max_databases; i++)
		{
			DtmDatabaseSlot *db = &dtm_shared->databases[i];

			pg_atomic_init_u32(&db->xa_sweeps, 0);
			dtm_metrics_init(&db->metrics);
			pg_atomic_init_u32(&db->settings, 0);
			for (int k = 0; k < DTM_MAX_COORDINATORS; k++)
				init_coordinator(&db->coordinators[k]);
			for (int k = 0; k < DTM_MAX_EXECUTORS; k++)
			{
				db->executors[k].proc = -1;
				pg_atomic_init_u64(&db->executors[k].calls, 0);
			}
		}
	}
	LWLockRelease(AddinShmemInitLock);
}

void
dtm_shmem_init(void)
{
#if DTM_HAS_SHMEM_REQUEST_HOOK
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request_shared;
#else
	request_shared();
#endif
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shared;
}

int
dtm_shmem_find(Oid dboid)
{
	for (int i = 0; i < dtm_shared->n_databases; i++)
	{
		if (dtm_shared->databases[i].dboid == dboid)
			return i;
	}
	return -1;
}

int
dtm_shmem_claim(Oid dboid)
{
	int i = dtm_shmem_find(dboid);

	if (i >= 0)
		return i;
	i = dtm_shmem_find(InvalidOid);
	if (i >= 0)
	{
		DtmDatabaseSlot *db = &dtm_shared->databases[i];

		db->aside_for = 0;
		for (int k = 0; k < DTM_MAX_COORDINATORS; k++)
		{
			DtmCoordinatorSlot *slot = &db->coordinators[k];

			slot->state = DTM_WORKER_NONE;
			slot->last_exit = DTM_EXIT_ERROR;
			slot->failures = 0;
			slot->exited_at = 0;
			slot->inbox.head = slot->inbox.tail = 0;
			slot->inbox.overflow = false;
			slot->inbox.flush_up_to = 0;
			pg_atomic_write_u64(&slot->calls, 0);
			pg_atomic_write_u64(&slot->finished, 0);
			pg_atomic_write_u64(&slot->ticks, 0);
			pg_atomic_write_u64(&slot->last_tick_at, 0);
			slot->last_error[0] = '\0';
			slot->last_error_at = 0;
		}
		for (int k = 0; k < DTM_MAX_TASKS; k++)
			db->tasks[k].state = DTM_TASK_FREE;
		dtm_metrics_init(&db->metrics);
		db->dboid = dboid;
	}
	return i;
}

void
dtm_shmem_wake(int proc)
{
	if (proc >= 0)
		SetLatch(&ProcGlobal->allProcs[proc].procLatch);
}

void
dtm_shmem_request(Oid dboid)
{
	bool known = false;
	int proc;

	SpinLockAcquire(&dtm_shared->request_mutex);
	for (int i = 0; i < dtm_shared->n_requests && !known; i++)
		known = dtm_shared->requests[i] == dboid;
	if (!known)
	{
		if (dtm_shared->n_requests < DTM_MAX_REQUESTS)
			dtm_shared->requests[dtm_shared->n_requests++] = dboid;
		else
			dtm_shared->rescan = true;
	}
	proc = dtm_shared->launcher_proc;
	SpinLockRelease(&dtm_shared->request_mutex);
	dtm_shmem_wake(proc);
}

/* One inbox; true when its owner has to be woken. */
static bool
inbox_put(DtmInbox *inbox, const int64 *ids, int n, int worker, int workers, bool overflow,
		  XLogRecPtr not_flushed)
{
	bool put = overflow;

	SpinLockAcquire(&inbox->mutex);
	for (int i = 0; i < n; i++)
	{
		if (ids[i] != DTM_INBOX_CONTROL && DTM_INBOX_ID(ids[i]) % workers != worker)
			continue;
		put = true;
		if (ids[i] == DTM_INBOX_CONTROL)
			inbox->control = true;
		else if (inbox->tail - inbox->head >= DTM_INBOX_SIZE)
			inbox->overflow = true;
		else
			inbox->ids[inbox->tail++ % DTM_INBOX_SIZE] = ids[i];
	}
	if (overflow)
		inbox->overflow = true;
	if (put && inbox->flush_up_to < not_flushed)
		inbox->flush_up_to = not_flushed;
	SpinLockRelease(&inbox->mutex);
	return put;
}

void
dtm_shmem_deliver(Oid dboid, const int64 *ids, int n, bool overflow, XLogRecPtr not_flushed)
{
	int i = dtm_shmem_find(dboid);
	DtmDatabaseSlot *db;
	bool control = false;

	for (int k = 0; k < n; k++)
		control = control || ids[k] == DTM_INBOX_CONTROL;
	if (i < 0)
	{
		dtm_shmem_request(dboid);
		return;
	}
	db = &dtm_shared->databases[i];
	for (int k = 0; k < DTM_MAX_COORDINATORS; k++)
	{
		DtmCoordinatorSlot *slot = &db->coordinators[k];
		int workers = slot->workers;
		int proc = slot->proc;

		/*
		 * The owner clears its inbox and sweeps the table when it starts, so
		 * what is put in before that is not lost.
		 */
		if (proc < 0 || workers <= 0)
			continue;

		/* nor does a paused one want to know: it sweeps when the pause is over */
		if (slot->state == DTM_WORKER_PAUSED && !control)
			continue;
		if (inbox_put(&slot->inbox, ids, n, k, workers, overflow, not_flushed))
			dtm_shmem_wake(proc);
	}
}

void
dtm_shmem_settings_changed(Oid dboid)
{
	for (int i = 0; i < dtm_shared->n_databases; i++)
	{
		DtmDatabaseSlot *db = &dtm_shared->databases[i];

		if (db->dboid == InvalidOid || (dboid != InvalidOid && db->dboid != dboid))
			continue;
		pg_atomic_fetch_add_u32(&db->settings, 1);
		for (int k = 0; k < DTM_MAX_COORDINATORS; k++)
			dtm_shmem_wake(db->coordinators[k].proc);
	}
}

bool
dtm_shmem_wait_begin(int64 id)
{
	bool done = false;

	SpinLockAcquire(&dtm_shared->waiter_mutex);
	for (int i = 0; i < DTM_MAX_WAITERS; i++)
	{
		DtmWaiter *w = &dtm_shared->waiters[i];

		if (w->dboid == InvalidOid)
		{
			w->dboid = MyDatabaseId;
			w->id = id;
			w->proc = DTM_MY_PROC_NUMBER;
			done = true;
			break;
		}
	}
	SpinLockRelease(&dtm_shared->waiter_mutex);
	if (done)
		pg_atomic_fetch_add_u32(&dtm_shared->n_waiters, 1);
	pg_memory_barrier();
	return done;
}

void
dtm_shmem_wait_end(int64 id)
{
	bool done = false;

	SpinLockAcquire(&dtm_shared->waiter_mutex);
	for (int i = 0; i < DTM_MAX_WAITERS && !done; i++)
	{
		DtmWaiter *w = &dtm_shared->waiters[i];

		if (w->dboid == MyDatabaseId && w->proc == DTM_MY_PROC_NUMBER && w->id == id)
		{
			w->dboid = InvalidOid;
			done = true;
		}
	}
	SpinLockRelease(&dtm_shared->waiter_mutex);
	if (done)
		pg_atomic_fetch_sub_u32(&dtm_shared->n_waiters, 1);
}

void
dtm_shmem_wake_waiters(const int64 *ids, int n)
{
	int procs[DTM_MAX_WAITERS];
	int n_procs = 0;

	pg_memory_barrier();
	if (n == 0 || pg_atomic_read_u32(&dtm_shared->n_waiters) == 0)
		return;
	SpinLockAcquire(&dtm_shared->waiter_mutex);
	for (int i = 0; i < DTM_MAX_WAITERS; i++)
	{
		DtmWaiter *w = &dtm_shared->waiters[i];

		if (w->dboid != MyDatabaseId)
			continue;
		for (int k = 0; k < n; k++)
		{
			if (w->id == ids[k])
			{
				procs[n_procs++] = w->proc;
				break;
			}
		}
	}
	SpinLockRelease(&dtm_shared->waiter_mutex);
	for (int i = 0; i < n_procs; i++)
		dtm_shmem_wake(procs[i]);
}
