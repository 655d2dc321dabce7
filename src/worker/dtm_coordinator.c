/* -------------------------------------------------------------------------
 *
 * dtm_coordinator.c
 *		The coordinator process of a database: start, event loop, settings,
 *		pause.  The only file that waits.
 *
 * One WaitEventSet of five members: latch, postmaster death, and the epoll
 * descriptors of HTTP calls, of libpq and of the HTTP API.  Nothing is held while it waits:
 * no transaction, no snapshot, no lock but the advisory one that makes it
 * the owner of its share of the transactions.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include <unistd.h>

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "dtm_compat.h"
#include "dtm_coordinator.h"
#include "dtm_process.h"
#include "dtm_settings.h"

#define MAX_WAIT_MS 60000
#define DDL_WAIT_MS 50 /* while DROP EXTENSION holds the extension */
#define RATE_INTERVAL_MS 1000
#define REPORT_INTERVAL_US 1100000

/* First key of the advisory lock that makes a coordinator the only one. */
#define OWNER_LOCK_KEY 0x64746d /* "dtm" */

const DtmServer *dtm_coordinator_server = NULL;

static DtmCoordinator *self = NULL;
static DtmWorkerExit leaving = DTM_EXIT_ERROR;

/* Acts on what this process itself put into shared memory, and on nothing else. */
static void
coordinator_exit(int code, Datum arg)
{
	DtmCoordinatorSlot *slot;

	(void) code;
	(void) arg;
	if (self == NULL || self->slot == NULL)
		return;
	slot = self->slot;
	if (self->serve != NULL)
		dtm_coordinator_server->leave(self);
	LWLockAcquire(dtm_shared->lock, LW_EXCLUSIVE);
	if (slot->pid == MyProcPid)
	{
		slot->proc = -1;
		slot->pid = 0;
		slot->state = DTM_WORKER_NONE;
		slot->last_exit = leaving;
		slot->exited_at = GetCurrentTimestamp();
		if (leaving == DTM_EXIT_ERROR)
			slot->failures++;
		pg_atomic_write_u32(&slot->in_flight, 0);
		pg_atomic_write_u32(&slot->calls_out, 0);
		pg_atomic_write_u64(&slot->calls_per_1000s, 0);
		pg_atomic_write_u32(&slot->http_connections, 0);
		pg_atomic_write_u32(&slot->http_waiting, 0);
		for (int i = 0; i < DTM_MAX_TASKS; i++)
		{
			DtmTask *task = &self->db->tasks[i];

			if (task->coordinator == self->number &&
				(task->state == DTM_TASK_QUEUED || task->state == DTM_TASK_DONE))
				task->state = DTM_TASK_FREE;
		}
	}
	LWLockRelease(dtm_shared->lock);
	dtm_shmem_wake(dtm_shared->launcher_proc);
}

void
dtm_coordinator_leave(DtmCoordinator *c, DtmWorkerExit why)
{
	(void) c;
	leaving = why;

	/* code 0 keeps the postmaster's log quiet; the launcher decides what follows */
	proc_exit(0);
}

void
dtm_coordinator_error(DtmCoordinator *c, const char *message)
{
	DtmCoordinatorSlot *slot = c->slot;
	TimestampTz now = GetCurrentTimestamp();
	char copy[DTM_WORKER_ERROR];

	strlcpy(copy, message, sizeof(copy));
	SpinLockAcquire(&slot->error_mutex);
	memcpy(slot->last_error, copy, sizeof(copy));
	slot->last_error_at = now;
	SpinLockRelease(&slot->error_mutex);
}

void
dtm_coordinator_works(DtmCoordinator *c)
{
	if (c->slot->failures == 0)
		return;
	LWLockAcquire(dtm_shared->lock, LW_EXCLUSIVE);
	c->slot->failures = 0;
	LWLockRelease(dtm_shared->lock);
}

/* Take the slot that the launcher prepared; leaves when it is not for us. */
static void
take_slot(DtmCoordinator *c)
{
	LWLockAcquire(dtm_shared->lock, LW_EXCLUSIVE);
	if (c->slot->state != DTM_WORKER_STARTING || c->slot->pid != 0)
	{
		LWLockRelease(dtm_shared->lock);
		proc_exit(0);
	}
	c->slot->pid = MyProcPid;
	c->workers = c->slot->workers;
	c->settings = pg_atomic_read_u32(&c->db->settings); /* those of the database are read later */
	c->generation = ++c->db->generation;
	c->slot->generation = c->generation;
	for (int i = 0; i < DTM_MAX_TASKS; i++)
	{
		DtmTask *task = &c->db->tasks[i];

		/* left behind by a predecessor; a running one is freed when it ends */
		if (task->coordinator == c->number &&
			(task->state == DTM_TASK_QUEUED || task->state == DTM_TASK_DONE))
			task->state = DTM_TASK_FREE;
	}
	LWLockRelease(dtm_shared->lock);
	self = c;
}

/*
 * Be the only coordinator for this share of the transactions, whatever
 * shared memory says.
 */
static void
take_ownership(DtmCoordinator *c)
{
	LOCKTAG tag;

	/* 1 and 2 are what pg_advisory_lock() takes: nobody else shall get at this one */
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, OWNER_LOCK_KEY, c->number, 3);
	StartTransactionCommand();
	if (LockAcquire(&tag, ExclusiveLock, true, true) == LOCKACQUIRE_NOT_AVAIL)
	{
		AbortCurrentTransaction();
		ereport(LOG, (errmsg("another coordinator still drives this database")));
		dtm_coordinator_leave(c, DTM_EXIT_ERROR);
	}
	CommitTransactionCommand();
}

/* From now on commits are told to us; what was committed before is swept up. */
static void
open_inbox(DtmCoordinator *c, DtmWorkerState state)
{
	LWLockAcquire(dtm_shared->lock, LW_EXCLUSIVE);
	SpinLockAcquire(&c->slot->inbox.mutex);
	c->slot->inbox.head = c->slot->inbox.tail = 0;
	c->slot->inbox.overflow = c->slot->inbox.control = false;
	c->slot->inbox.flush_up_to = InvalidXLogRecPtr;
	SpinLockRelease(&c->slot->inbox.mutex);
	c->slot->proc = DTM_MY_PROC_NUMBER;
	c->slot->state = state;
	c->slot->started_at = GetCurrentTimestamp();
	LWLockRelease(dtm_shared->lock);

	/* it waits with other databases until it knows about this one */
	dtm_shmem_wake(dtm_shared->launcher_proc);

	/*
	 * A commit with synchronous_commit = off that was there before us was
	 * put into no inbox: nothing may be called for it until it is durable.
	 */
	dtm_work_flush_before_calls(c);
	c->sweep_again = true;
	c->timer_low = DT_NOBEGIN;
	c->next_timer = DT_NOBEGIN;
	c->purge_at = GetCurrentTimestamp();
}

static void
handle_interrupts(DtmCoordinator *c)
{
	if (c->settings != pg_atomic_read_u32(&c->db->settings))
	{
		ereport(LOG,
				(errmsg("dtm_pg coordinator of database %u starts anew: its settings were "
						"changed by ALTER DATABASE or ALTER ROLE",
						MyDatabaseId)));
		dtm_coordinator_leave(c, DTM_EXIT_ASIDE);
	}
	if (!dtm_process_interrupts() || c->http == NULL)
		return;
	dtm_calls_configure(c);
	if (c->serve != NULL)
		dtm_coordinator_server->configure(c);
}

/* NULL when this database may be driven; leaves when the extension is not there. */
static char *
pause_reason(DtmCoordinator *c)
{
	MemoryContext old = CurrentMemoryContext;
	char *reason = NULL;

	/* while DDL has the extension, as at the time of CREATE EXTENSION */
	while (!dtm_tick_begin(c))
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, DDL_WAIT_MS,
						 dtm_wait_event("DtmCoordinatorPaused"));
		ResetLatch(MyLatch);
		handle_interrupts(c);
	}
	reason = dtm_store_pause_reason();
	if (reason != NULL)
		reason = MemoryContextStrdup(c->context, reason);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(old);
	return reason;
}

/* Stay here, visibly, until somebody says that this database may be driven. */
static void
stay_paused(DtmCoordinator *c)
{
	char *reason = pause_reason(c);
	uint32 wait_event = dtm_wait_event("DtmCoordinatorPaused");

	if (reason == NULL)
		return;
	dtm_coordinator_error(c, reason);
	open_inbox(c, DTM_WORKER_PAUSED);
	ereport(WARNING,
			(errmsg("dtm_pg coordinator of database %u is paused: %s", MyDatabaseId, reason),
			 errhint("SELECT dtm_resume(); when this database is the one that shall drive them.")));
	while (reason != NULL)
	{
		pgstat_report_activity(STATE_IDLE, "dtm: paused");
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, MAX_WAIT_MS,
						 wait_event);
		ResetLatch(MyLatch);
		handle_interrupts(c);
		pfree(reason);
		reason = pause_reason(c);
		if (reason != NULL)
			dtm_coordinator_error(c, reason);
	}
	SpinLockAcquire(&c->slot->error_mutex);
	c->slot->last_error[0] = '\0';
	c->slot->last_error_at = 0;
	SpinLockRelease(&c->slot->error_mutex);
}

/* Settings of the session in which the statements of the store run. */
static void
prepare_session(void)
{
	static const char *const settings[][2] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"lock_timeout", DTM_LOCK_TIMEOUT},
		{"statement_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},

		/* a plan made while a table was empty must not become slow later */
		{"enable_seqscan", "off"},
		{"enable_hashjoin", "off"},
		{"enable_mergejoin", "off"},
		{"enable_sort", "off"},
		{"plan_cache_mode", "force_generic_plan"},
		{"jit", "off"},
	};

	for (size_t i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);
}

/* Memory of its own: pages of shared buffers that it has touched would look like a leak. */
static long
private_kb(void)
{
	long size;
	long resident;
	long shared;
	long pages = 0;
	FILE *file = fopen("/proc/self/statm", "r");

	if (file == NULL)
		return 0;
	if (fscanf(file, "%ld %ld %ld", &size, &resident, &shared) == 3)
		pages = resident - shared;
	fclose(file);
	return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static void
publish_rates(DtmCoordinator *c)
{
	TimestampTz now = GetCurrentTimestamp();
	uint64 calls;

	pg_atomic_write_u32(&c->slot->calls_out,
						dtm_http_calls_out(c->http) + dtm_http_calls_queued(c->http) +
							dtm_pq_calls_out(c->pq) + dtm_pq_calls_queued(c->pq) + c->n_tasks +
							c->n_waiting_tasks);
	if (!TimestampDifferenceExceeds(c->mark_at, now, RATE_INTERVAL_MS))
		return;
	calls = pg_atomic_read_u64(&c->slot->calls);
	pg_atomic_write_u64(&c->slot->calls_per_1000s,
						(calls - c->calls_at_mark) * UINT64CONST(1000000000) /
							(uint64) (now - c->mark_at));
	c->calls_at_mark = calls;
	c->mark_at = now;
	pg_atomic_write_u64(&c->slot->rss_kb, (uint64) private_kb());
}

/*
 * What a tick has counted is handed on at most once a second; the last bit of
 * it must not wait until there is work again, or autovacuum sees it too late.
 */
static void
report_when_idle(DtmCoordinator *c, bool ticked)
{
	TimestampTz now = GetCurrentTimestamp();

	if (ticked && c->report_at == 0)
		c->report_at = now + REPORT_INTERVAL_US;
	if (c->report_at == 0 || now < c->report_at)
		return;
	pgstat_report_stat(true);
	c->report_at = 0;
	if (pg_atomic_read_u64(&c->slot->calls_per_1000s) > 0)
		c->report_at = now + REPORT_INTERVAL_US; /* until the rate has come down */
}

/* How long the loop may sleep. */
static long
nearest_deadline(DtmCoordinator *c)
{
	TimestampTz now = GetCurrentTimestamp();
	int64 ms = MAX_WAIT_MS;
	TimestampTz deadline = Min(dtm_work_next(c), dtm_xa_sweep_next(c));
	int http = dtm_http_timeout_ms(c->http);
	int pq = dtm_pq_timeout_ms(c->pq);
	int serve = c->serve == NULL ? -1 : dtm_coordinator_server->timeout_ms(c);

	if (c->stepping_back)
		return DDL_WAIT_MS;
	if (c->n_tasks > 0)
		deadline = Min(deadline, now + USECS_PER_SEC); /* an executor may not have come */
	if (c->report_at != 0)
		deadline = Min(deadline, c->report_at);
	if (deadline <= now)
		return 0;
	if (deadline < now + ms * 1000)
		ms = (deadline - now + 999) / 1000;
	if (http >= 0)
		ms = Min(ms, http);
	if (pq >= 0)
		ms = Min(ms, pq);
	if (serve >= 0)
		ms = Min(ms, serve);
	return (long) ms;
}

static void
loop(DtmCoordinator *c)
{
	WaitEventSet *set = dtm_create_wait_event_set(5);
	uint32 wait_event = dtm_wait_event("DtmCoordinatorMain");

	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(set, WL_SOCKET_READABLE, dtm_http_fd(c->http), NULL, NULL);
	AddWaitEventToSet(set, WL_SOCKET_READABLE, dtm_pq_fd(c->pq), NULL, NULL);
	if (c->serve != NULL)
		AddWaitEventToSet(set, WL_SOCKET_READABLE, dtm_coordinator_server->fd(c), NULL, NULL);

	for (;;)
	{
		WaitEvent events[5];
		long timeout = nearest_deadline(c);
		bool inbox_waits;
		bool ticked;

		/* with nothing else to do a full inbox must not be slept on */
		SpinLockAcquire(&c->slot->inbox.mutex);
		inbox_waits = c->slot->inbox.head != c->slot->inbox.tail;
		SpinLockRelease(&c->slot->inbox.mutex);
		if (inbox_waits && !c->stepping_back && c->n_held < dtm_max_inflight)
			timeout = 0;

		if (timeout > 0)
			pgstat_report_activity(STATE_IDLE, NULL);
		(void) WaitEventSetWait(set, timeout, events, lengthof(events), wait_event);
		ResetLatch(MyLatch);
		handle_interrupts(c);

		dtm_http_dispatch(c->http);
		dtm_pq_dispatch(c->pq);
		dtm_calls_collect(c);
		if (c->serve != NULL)
			dtm_coordinator_server->turn(c);
		ticked = dtm_tick(c);
		dtm_xa_sweep(c);
		dtm_sqlcalls_feed(c);
		publish_rates(c);
		report_when_idle(c, ticked);

		MemoryContextReset(c->tick_context);
	}
}

void
dtm_coordinator_main(Datum arg)
{
	DtmCoordinator *c;

	dtm_process_signals();
	c = MemoryContextAllocZero(TopMemoryContext, sizeof(DtmCoordinator));
	c->database = DTM_PROCESS_DATABASE(arg);
	c->number = DTM_PROCESS_NUMBER(arg);
	c->db = &dtm_shared->databases[c->database];
	c->slot = &c->db->coordinators[c->number];
	take_slot(c);
	before_shmem_exit(coordinator_exit, 0);

	BackgroundWorkerInitializeConnectionByOid(c->db->dboid, InvalidOid, 0);
	c->context = AllocSetContextCreate(TopMemoryContext, "dtm coordinator", ALLOCSET_DEFAULT_SIZES);
	c->tick_context = AllocSetContextCreate(c->context, "dtm tick", ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < 2; i++)
		c->event_contexts[i] =
			AllocSetContextCreate(c->context, "dtm events", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(c->context);
	pgstat_report_appname("dtm_pg coordinator");
	prepare_session();

	take_ownership(c);
	stay_paused(c);
	dtm_held_init(c);
	dtm_calls_init(c);
	dtm_xa_sweep_init(c);
	open_inbox(c, DTM_WORKER_RUNNING);
	if (dtm_coordinator_server != NULL)
		dtm_coordinator_server->begin(c);
	c->mark_at = GetCurrentTimestamp() - 2 * REPORT_INTERVAL_US;
	publish_rates(c);
	MemoryContextSwitchTo(c->tick_context);
	loop(c);
}
