/* -------------------------------------------------------------------------
 *
 * dtm_tick_trans.c
 *		The database transactions of a tick: begin when the extension is
 *		ours to drive, commit durably or not, recover from an ERROR.
 *
 * Runs in the coordinator.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_extension.h"
#include "pgstat.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "dtm_compat.h"
#include "dtm_coordinator.h"
#include "dtm_version.h"

#define LOG_INTERVAL_MS 10000
#define PAUSE_LOOK_US 50000

/* synchronous_commit while a commit of ours has another one, else -1. */
static int configured_commit = -1;

/*
 * Oid of the extension.  Leaves when it is gone, or of a version that this
 * library does not know, or another one than before: dropped and created
 * anew, it counts its transactions from 1 again, and what is in memory would
 * be taken for them.
 */
static Oid
find_extension(DtmCoordinator *c)
{
	Relation rel = table_open(ExtensionRelationId, AccessShareLock);
	SysScanDesc scan;
	ScanKeyData key[1];
	HeapTuple tuple;
	Oid extension = InvalidOid;
	bool known = false;

	ScanKeyInit(&key[0], Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum("dtm_pg"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool isnull;
		Datum version =
			heap_getattr(tuple, Anum_pg_extension_extversion, RelationGetDescr(rel), &isnull);

		extension = ((Form_pg_extension) GETSTRUCT(tuple))->oid;
		known = !isnull && strcmp(TextDatumGetCString(version), DTM_VERSION) == 0;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);

	if (!OidIsValid(extension))
	{
		AbortCurrentTransaction();
		dtm_coordinator_leave(c, DTM_EXIT_ABSENT);
	}
	if (OidIsValid(c->extension) && c->extension != extension)
	{
		AbortCurrentTransaction();
		dtm_coordinator_leave(c, DTM_EXIT_ASIDE);
	}
	if (!known)
	{
		AbortCurrentTransaction();
		ereport(WARNING,
				(errmsg("dtm_pg of version %s does not drive an extension of another version",
						DTM_VERSION),
				 errhint(
					 "ALTER EXTENSION dtm_pg UPDATE, or restart the server after a package upgrade.")));
		dtm_coordinator_error(c, "the extension has another version than the library");
		dtm_coordinator_leave(c, DTM_EXIT_ERROR);
	}
	c->extension = extension;
	return extension;
}

bool
dtm_tick_begin(DtmCoordinator *c)
{
	Oid extension;
	LOCKTAG tag;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	extension = find_extension(c);

	/* DROP EXTENSION holds this one; waiting for it here would stop the loop */
	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, ExtensionRelationId, extension, 0);
	if (LockAcquire(&tag, AccessShareLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
	{
		AbortCurrentTransaction();
		MemoryContextSwitchTo(c->tick_context);
		return false;
	}
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(c->tick_context);
	return true;
}

void
dtm_tick_commit(DtmCoordinator *c, bool durable)
{
	configured_commit = synchronous_commit;
	PopActiveSnapshot();
	if (!durable)
		synchronous_commit = SYNCHRONOUS_COMMIT_OFF;
	else if (synchronous_commit == SYNCHRONOUS_COMMIT_OFF)
		synchronous_commit = SYNCHRONOUS_COMMIT_LOCAL_FLUSH;
	CommitTransactionCommand();
	synchronous_commit = configured_commit;
	configured_commit = -1;
	pgstat_report_stat(false);

	/* some majors leave us in TopMemoryContext, where everything would stay */
	MemoryContextSwitchTo(c->tick_context);
}

ErrorData *
dtm_tick_recover(DtmCoordinator *c)
{
	ErrorData *error;

	MemoryContextSwitchTo(c->tick_context);
	error = CopyErrorData();
	FlushErrorState();
	AbortCurrentTransaction();
	MemoryContextSwitchTo(c->tick_context);
	if (configured_commit >= 0)
		synchronous_commit = configured_commit;
	configured_commit = -1;
	return error;
}

bool
dtm_tick_is_poison(const ErrorData *error)
{
	switch (ERRCODE_TO_CATEGORY(error->sqlerrcode))
	{
		case MAKE_SQLSTATE('2', '5', '0', '0', '0'): /* transaction state, read-only */
		case MAKE_SQLSTATE('4', '0', '0', '0', '0'): /* deadlock, serialization */
		case MAKE_SQLSTATE('4', '2', '0', '0', '0'): /* privileges, missing objects */
		case MAKE_SQLSTATE('5', '3', '0', '0', '0'): /* resources */
		case MAKE_SQLSTATE('5', '5', '0', '0', '0'): /* locks */
		case MAKE_SQLSTATE('5', '7', '0', '0', '0'): /* cancelled, shutting down */
		case MAKE_SQLSTATE('5', '8', '0', '0', '0'): /* system, I/O */
			return false;
		default:
			return true;
	}
}

bool
dtm_tick_may_log(DtmCoordinator *c)
{
	TimestampTz now = GetCurrentTimestamp();

	if (c->logged_at != 0 && !TimestampDifferenceExceeds(c->logged_at, now, LOG_INTERVAL_MS))
		return false;
	c->logged_at = now;
	return true;
}

bool
dtm_tick_met_lock(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
}

void
dtm_tick_leave_when_paused(DtmCoordinator *c, TimestampTz now)
{
	/* what the inbox names was submitted here: for that, a look now and then will do */
	if (!dtm_work_from_tables(c, now) ||
		(!dtm_work_unannounced(c, now) && now < c->pause_looked_at + PAUSE_LOOK_US))
		return;
	c->pause_looked_at = now;
	if (dtm_store_pause_reason() != NULL)
		dtm_coordinator_leave(c, DTM_EXIT_ASIDE);
}
