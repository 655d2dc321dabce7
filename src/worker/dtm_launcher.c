/* -------------------------------------------------------------------------
 *
 * dtm_launcher.c
 *		The one static process: finds the databases that have the extension
 *		and keeps their coordinators running.
 *
 * It reads pg_database only, calls nobody and runs no SQL of a user.  It
 * cannot see whether the extension is in a database, so it starts a
 * coordinator there, which leaves again when it is not; that is not tried a
 * second time until somebody asks (CREATE EXTENSION, CREATE DATABASE).
 *
 *	 state of a coordinator slot		who moves it on
 *	 NONE      nobody there			   launcher -> STARTING, with back-off after errors
 *	 STARTING  registered			   coordinator -> RUNNING or PAUSED; launcher -> NONE
 *									   when it does not come
 *	 RUNNING, PAUSED				   coordinator at its end -> NONE, with the reason
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/procarray.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "dtm_compat.h"
#include "dtm_process.h"
#include "dtm_settings.h"

#define RESCAN_MS 60000        /* look for databases nobody told us of */
#define BUSY_MS 250            /* while something is starting or waits for its back-off */
#define START_TIMEOUT_MS 15000 /* a registered worker that does not come */
#define MAX_BACKOFF_MS 60000
#define MAX_PROBES 2 /* databases looked into at once for the extension */

/* Databases in which the extension was not found; forgotten on request. */
static Oid *absent = NULL;
static int n_absent = 0;
static int absent_size = 0;

/* Databases that backends asked for since the last look. */
static Oid asked[DTM_MAX_REQUESTS];
static int n_asked = 0;

static bool slots_exhausted_reported = false;

static bool
is_absent(Oid dboid)
{
	for (int i = 0; i < n_absent; i++)
	{
		if (absent[i] == dboid)
			return true;
	}
	return false;
}

static void
note_absent(Oid dboid)
{
	if (is_absent(dboid))
		return;
	if (n_absent == absent_size)
	{
		absent_size = Max(64, absent_size * 2);
		absent = absent == NULL ? MemoryContextAlloc(TopMemoryContext, absent_size * sizeof(Oid))
								: repalloc(absent, absent_size * sizeof(Oid));
	}
	absent[n_absent++] = dboid;
}

static void
forget_absent(Oid dboid)
{
	for (int i = 0; i < n_absent; i++)
	{
		if (absent[i] == dboid)
		{
			absent[i] = absent[--n_absent];
			return;
		}
	}
}

static void
launcher_exit(int code, Datum arg)
{
	(void) code;
	(void) arg;
	if (dtm_shared->launcher_pid != MyProcPid)
		return;
	SpinLockAcquire(&dtm_shared->request_mutex);
	dtm_shared->launcher_pid = 0;
	dtm_shared->launcher_proc = -1;
	SpinLockRelease(&dtm_shared->request_mutex);
}

/* Databases that take connections, in the caller's context. */
static Oid *
scan_databases(int *n)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid *result;
	int size = 64;
	Relation rel;
	TableScanDesc scan;
	HeapTuple tuple;

	*n = 0;
	result = palloc(size * sizeof(Oid));
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database db = (Form_pg_database) GETSTRUCT(tuple);

		if (!db->datallowconn || db->datconnlimit == -2)
			continue;
		/* template1 may have the extension, but nothing is to be driven from there */
		if (db->datistemplate)
			continue;
		if (*n == size)
		{
			size *= 2;
			result = repalloc(result, size * sizeof(Oid));
		}
		result[(*n)++] = db->oid;
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	return result;
}

static int64
backoff_ms(int failures)
{
	return failures == 0 ? 0 : Min((int64) 1000 << Min(failures - 1, 10), MAX_BACKOFF_MS);
}

/* Bring one slot forward; true when it needs another look soon. */
static bool
tend_coordinator(int database, int number, int wanted, TimestampTz now)
{
	DtmDatabaseSlot *db = &dtm_shared->databases[database];
	DtmCoordinatorSlot *slot = &db->coordinators[number];
	BackgroundWorker worker;

	if (slot->state == DTM_WORKER_STARTING)
	{
		if (slot->pid == 0 && TimestampDifferenceExceeds(slot->started_at, now, START_TIMEOUT_MS))
		{
			slot->state = DTM_WORKER_NONE;
			slot->last_exit = DTM_EXIT_ERROR;
			slot->exited_at = now;
			slot->failures++;
		}
		return true;
	}
	if (slot->state != DTM_WORKER_NONE)
	{
		/* a process that died without its exit handler; cannot happen short of a crash restart */
		if (slot->pid != 0 && BackendPidGetProc(slot->pid) == NULL)
		{
			slot->state = DTM_WORKER_NONE;
			slot->pid = 0;
			slot->proc = -1;
			slot->last_exit = DTM_EXIT_ERROR;
			slot->exited_at = now;
			slot->failures++;
			return true;
		}
		if (slot->workers != wanted || number >= wanted)
			kill(slot->pid, SIGTERM); /* dtm.workers changed: all start anew */
		return slot->workers != wanted;
	}
	if (number >= wanted)
		return false;

	/* all coordinators of a database agree on their number, or ids would have two owners */
	for (int k = 0; k < DTM_MAX_COORDINATORS; k++)
	{
		DtmCoordinatorSlot *other = &db->coordinators[k];

		if (other->state != DTM_WORKER_NONE && other->workers != wanted)
			return true;
	}
	if (slot->failures > 0 &&
		!TimestampDifferenceExceeds(slot->exited_at, now, backoff_ms(slot->failures)))
		return true;

	dtm_process_worker(&worker, "dtm_coordinator_main", "coordinator", database, number);
	slot->state = DTM_WORKER_STARTING;
	slot->workers = wanted;
	slot->pid = 0;
	slot->started_at = now;
	if (!RegisterDynamicBackgroundWorker(&worker, NULL))
	{
		slot->state = DTM_WORKER_NONE;
		slot->exited_at = now;
		slot->failures++;
		if (!slots_exhausted_reported)
			ereport(WARNING,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("dtm_pg could not start a coordinator: no free background worker slot"),
					 errhint("Raise max_worker_processes and restart the server.")));
		slots_exhausted_reported = true;
	}
	else
		slots_exhausted_reported = false;
	return true;
}

/* One database under the lock; true when it needs another look soon. */
static bool
tend_database(int database, TimestampTz now)
{
	DtmDatabaseSlot *db = &dtm_shared->databases[database];
	int wanted = Min(dtm_workers, DTM_MAX_COORDINATORS);
	bool busy = false;
	bool empty = true;

	if (db->aside_for != 0)
	{
		/* somebody runs DDL on it; do not wait for one that died */
		if (BackendPidGetProc(db->aside_for) != NULL)
			return true;
		db->aside_for = 0;
	}

	for (int k = 0; k < DTM_MAX_COORDINATORS; k++)
	{
		DtmCoordinatorSlot *slot = &db->coordinators[k];

		if (slot->state == DTM_WORKER_NONE &&
			(slot->last_exit == DTM_EXIT_ABSENT || slot->last_exit == DTM_EXIT_GONE))
			continue;
		empty = false;
		if (tend_coordinator(database, k, wanted, now))
			busy = true;
	}

	/* the first one found no extension: give the slot back when all have left */
	if (db->coordinators[0].state == DTM_WORKER_NONE &&
		(db->coordinators[0].last_exit == DTM_EXIT_ABSENT ||
		 db->coordinators[0].last_exit == DTM_EXIT_GONE))
	{
		for (int k = 0; k < DTM_MAX_COORDINATORS; k++)
			empty = empty || db->coordinators[k].state == DTM_WORKER_NONE;
		for (int k = 1; k < DTM_MAX_COORDINATORS; k++)
		{
			if (db->coordinators[k].state != DTM_WORKER_NONE)
				return true;
		}
		note_absent(db->dboid);
		db->dboid = InvalidOid;
		return false;
	}
	return busy && !empty;
}

/* Take over the requests of backends; true when the databases are to be looked through. */
static bool
take_requests(void)
{
	bool rescan;

	SpinLockAcquire(&dtm_shared->request_mutex);
	n_asked = dtm_shared->n_requests;
	memcpy(asked, dtm_shared->requests, sizeof(Oid) * n_asked);
	dtm_shared->n_requests = 0;
	rescan = dtm_shared->rescan;
	dtm_shared->rescan = false;
	SpinLockRelease(&dtm_shared->request_mutex);

	for (int i = 0; i < n_asked; i++)
	{
		int slot;

		forget_absent(asked[i]);
		LWLockAcquire(dtm_shared->lock, LW_EXCLUSIVE);
		slot = dtm_shmem_find(asked[i]);
		if (slot >= 0)
		{
			for (int k = 0; k < DTM_MAX_COORDINATORS; k++)
			{
				dtm_shared->databases[slot].coordinators[k].failures = 0;
				dtm_shared->databases[slot].coordinators[k].last_exit = DTM_EXIT_ASIDE;
			}
		}
		LWLockRelease(dtm_shared->lock);
	}
	if (rescan)
		n_absent = 0;
	return n_asked > 0 || rescan;
}

static bool
was_asked(Oid dboid)
{
	for (int i = 0; i < n_asked; i++)
	{
		if (asked[i] == dboid)
			return true;
	}
	return false;
}

/* Slots of which it is not known yet whether their database has the extension; under the lock. */
static int
count_probes(void)
{
	int n = 0;

	for (int i = 0; i < dtm_shared->n_databases; i++)
	{
		const DtmDatabaseSlot *db = &dtm_shared->databases[i];
		const DtmCoordinatorSlot *first = &db->coordinators[0];

		if (db->dboid != InvalidOid && db->aside_for == 0 && first->failures == 0 &&
			(first->state == DTM_WORKER_STARTING || first->state == DTM_WORKER_NONE))
			n++;
	}
	return n;
}

/* Give back the slots of databases that are gone and have no workers left; under the lock. */
static void
release_dropped(const Oid *oids, int n)
{
	for (int i = 0; i < dtm_shared->n_databases; i++)
	{
		DtmDatabaseSlot *db = &dtm_shared->databases[i];
		bool there = db->dboid == InvalidOid;

		for (int k = 0; k < n && !there; k++)
			there = oids[k] == db->dboid;
		for (int k = 0; k < DTM_MAX_COORDINATORS && !there; k++)
			there = db->coordinators[k].state != DTM_WORKER_NONE;
		if (!there)
			db->dboid = InvalidOid;
	}
}

/*
 * Give candidates a slot; those found without the extension are left alone.
 * Those that somebody asked for come first, the others a few at a time:
 * hundreds of databases without the extension must not take all the places.
 * True when some have to wait for the others' result.
 */
static bool
claim_databases(void)
{
	static bool full_reported = false;
	int n;
	int probes;
	bool more = false;
	Oid *oids = scan_databases(&n);

	LWLockAcquire(dtm_shared->lock, LW_EXCLUSIVE);
	release_dropped(oids, n);
	probes = count_probes();
	for (int i = 0; i < 2 * n && !more; i++)
	{
		Oid oid = oids[i % n];

		if (is_absent(oid) || dtm_shmem_find(oid) >= 0 || (i < n && !was_asked(oid)))
			continue;
		if (i >= n && probes >= MAX_PROBES)
			more = true;
		else if (dtm_shmem_claim(oid) >= 0)
			probes++;
		else if (probes > 0)
			more = true;
		else
		{
			if (!full_reported)
				ereport(WARNING,
						(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
						 errmsg("dtm_pg has no place for another database"),
						 errhint("Raise dtm.max_databases and restart the server.")));
			full_reported = true;
			break;
		}
	}
	LWLockRelease(dtm_shared->lock);

	/* forget databases that are gone, so that the list does not grow for ever */
	for (int i = n_absent - 1; i >= 0; i--)
	{
		bool there = false;

		for (int k = 0; k < n && !there; k++)
			there = oids[k] == absent[i];
		if (!there)
			absent[i] = absent[--n_absent];
	}
	pfree(oids);
	return more;
}

void
dtm_launcher_main(Datum arg)
{
	MemoryContext round;
	TimestampTz last_scan = 0;
	bool more = false;
	uint32 wait_event;

	(void) arg;
	dtm_process_signals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	pgstat_report_appname("dtm_pg launcher");

	/* pg_upgrade's servers drive nothing */
	if (IsBinaryUpgrade)
		proc_exit(0);

	before_shmem_exit(launcher_exit, 0);
	SpinLockAcquire(&dtm_shared->request_mutex);
	dtm_shared->launcher_pid = MyProcPid;
	dtm_shared->launcher_proc = DTM_MY_PROC_NUMBER;
	SpinLockRelease(&dtm_shared->request_mutex);

	round = AllocSetContextCreate(TopMemoryContext, "dtm launcher", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(round);
	wait_event = dtm_wait_event("DtmLauncherMain");
	ereport(LOG, (errmsg("dtm_pg launcher started")));

	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		bool busy = false;

		if (take_requests() || more || last_scan == 0 ||
			TimestampDifferenceExceeds(last_scan, now, RESCAN_MS))
		{
			more = claim_databases();
			last_scan = now;
		}
		LWLockAcquire(dtm_shared->lock, LW_EXCLUSIVE);
		for (int i = 0; i < dtm_shared->n_databases; i++)
		{
			if (dtm_shared->databases[i].dboid != InvalidOid && tend_database(i, now))
				busy = true;
		}
		LWLockRelease(dtm_shared->lock);
		MemoryContextReset(round);
		pgstat_report_activity(STATE_IDLE, NULL);

		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 busy || more ? BUSY_MS : RESCAN_MS, wait_event);
		ResetLatch(MyLatch);
		(void) dtm_process_interrupts();
	}
}

void
dtm_launcher_register(void)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 1;
	snprintf(worker.bgw_library_name, BGW_MAXLEN, "dtm_pg");
	snprintf(worker.bgw_function_name, BGW_MAXLEN, "dtm_launcher_main");
	snprintf(worker.bgw_name, BGW_MAXLEN, "dtm_pg launcher");
	snprintf(worker.bgw_type, BGW_MAXLEN, "dtm_pg launcher");
	RegisterBackgroundWorker(&worker);
}
