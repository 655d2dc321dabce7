/* -------------------------------------------------------------------------
 *
 * dtm_wake.c
 *		The transaction callback of backends.
 *
 * A savepoint that is rolled back leaves its ids here; waking for a row
 * that does not exist is harmless, so they are not sorted out.  After
 * PREPARE TRANSACTION nobody tells us of the COMMIT PREPARED: the
 * coordinator's sweep finds those (see test/t, two-phase commit).
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"

#include "dtm_shmem.h"
#include "dtm_wake.h"

#define MAX_PENDING 512
#define MAX_SETTINGS 8 /* databases; with more of them all are told */

static bool callback_registered = false;
static int64 pending[MAX_PENDING];
static int n_pending = 0;
static bool pending_overflow = false;
static Oid pending_database = InvalidOid;
static Oid pending_settings[MAX_SETTINGS];
static int n_pending_settings = 0;

/*
 * After the commit nothing may fail: the record is written, an ERROR would
 * be a PANIC.  Spinlocks, stores and SetLatch only.
 */
static void
at_end_of_transaction(XactEvent event, void *arg)
{
	(void) arg;
	if (n_pending == 0 && !pending_overflow && pending_database == InvalidOid &&
		n_pending_settings == 0)
		return;

	if (event == XACT_EVENT_COMMIT && dtm_shared != NULL)
	{
		if (n_pending > 0 || pending_overflow)
		{
			XLogRecPtr not_flushed = InvalidXLogRecPtr;

			/*
			 * With synchronous_commit = off the row is visible before it is
			 * durable; the coordinator flushes up to here before it calls
			 * anybody.
			 */
			if (synchronous_commit == SYNCHRONOUS_COMMIT_OFF)
				not_flushed = XactLastCommitEnd;
			dtm_shmem_deliver(MyDatabaseId, pending, n_pending, pending_overflow, not_flushed);
		}
		if (pending_database != InvalidOid)
			dtm_shmem_request(pending_database);
		for (int i = 0; i < n_pending_settings; i++)
			dtm_shmem_settings_changed(pending_settings[i]);
	}

	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			n_pending = 0;
			pending_overflow = false;
			pending_database = InvalidOid;
			n_pending_settings = 0;
			break;
		default:
			break;
	}
}

void
dtm_wake_prepare(void)
{
	if (!callback_registered)
	{
		RegisterXactCallback(at_end_of_transaction, NULL);
		callback_registered = true;
	}
}

void
dtm_wake_at_commit(int64 id)
{
	if (dtm_shared == NULL)
		return;
	dtm_wake_prepare();
	if (n_pending > 0 && pending[n_pending - 1] == id)
		return;
	if (n_pending < MAX_PENDING)
		pending[n_pending++] = id;
	else
		pending_overflow = true;
}

void
dtm_wake_settled(int64 id)
{
	for (int i = 0; i < n_pending; i++)
	{
		if (pending[i] == id)
			pending[i] = DTM_INBOX_SETTLED(id);
	}
}

void
dtm_wake_launcher_at_commit(Oid dboid)
{
	if (dtm_shared == NULL)
		return;
	dtm_wake_prepare();
	pending_database = dboid;
}

void
dtm_wake_settings_at_commit(Oid dboid)
{
	if (dtm_shared == NULL)
		return;
	dtm_wake_prepare();
	for (int i = 0; i < n_pending_settings; i++)
	{
		if (pending_settings[i] == dboid)
			return;
	}
	if (n_pending_settings == MAX_SETTINGS)
	{
		dboid = InvalidOid;
		n_pending_settings = 0;
	}
	pending_settings[n_pending_settings++] = dboid;
}
