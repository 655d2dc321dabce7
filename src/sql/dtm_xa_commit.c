/* -------------------------------------------------------------------------
 *
 * dtm_xa_commit.c
 *		The end of a transaction that worked on foreign servers: savepoints
 *		follow ours, every server prepares before our commit, and our commit
 *		record is the decision.
 *
 *	 before the commit	one row of dtm.trans per role, with a branch for each
 *						server; PREPARE TRANSACTION on all of them.  May fail.
 *	 the commit			flushed, with those rows.
 *	 after it			COMMIT PREPARED where that goes quickly.  The
 *						coordinator does it in any case: it finds the rows.
 *	 after an abort		ROLLBACK [PREPARED] where that goes quickly.  What may
 *						have stayed there is for the coordinator's sweep.
 *
 * A server whose work was all rolled back to a savepoint takes no part.
 *
 * Not here: waiting and throwing (dtm_xa_connection.c), what a crash left
 * behind (dtm_xa_sweep.c).  Runs in backends.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "dtm_arena.h"
#include "dtm_shmem.h"
#include "dtm_spec.h"
#include "dtm_store.h"
#include "dtm_wake.h"
#include "dtm_xa.h"

#define QUIET_MS 1000  /* what the end of a transaction waits for servers, in all */
#define CANCEL_MS 3000 /* the same when a statement is still running there: it takes a connection */
#define COMMAND_SIZE (DTM_XA_XID_SIZE + 128)

static bool callbacks_registered = false;
static bool in_use = false; /* by the current transaction */
static int last_serial = 0;

static void at_transaction_end(XactEvent event, void *arg);
static void at_subtransaction_end(SubXactEvent event, SubTransactionId mine,
								  SubTransactionId parent, void *arg);

void
dtm_xa_use(DtmXaConnection *x)
{
	if (!callbacks_registered)
	{
		/*
		 * Registered later is called earlier: the coordinator is woken when
		 * we have tried, and then finds little to do as a rule.
		 */
		dtm_wake_prepare();
		RegisterXactCallback(at_transaction_end, NULL);
		RegisterSubXactCallback(at_subtransaction_end, NULL);
		callbacks_registered = true;
	}
	in_use = true;
	x->serial = ++last_serial;
}

/* Nothing of this transaction is in it any more. */
static void
forget(DtmXaConnection *x)
{
	x->phase = DTM_XA_UNUSED;
	x->depth = x->work_depth = 0;
	x->changing = x->noted = x->lost = false;
	x->xid[0] = '\0';
}

static void
prepared_command(char command[COMMAND_SIZE], bool commit, const char *xid)
{
	snprintf(command, COMMAND_SIZE, "%s PREPARED '%s'", commit ? "COMMIT" : "ROLLBACK", xid);
}

/* ---- before the commit ---- */

/* Those that take part, in the order of their first use. */
static int
participants(DtmXaConnection ***list)
{
	slist_iter iter;
	int n = 0;
	int size = 0;

	slist_foreach(iter, &dtm_xa_connections) size++;
	*list = palloc(sizeof(DtmXaConnection *) * Max(size, 1));
	slist_foreach(iter, &dtm_xa_connections)
	{
		DtmXaConnection *x = slist_container(DtmXaConnection, node, iter.cur);
		int at = n;

		if (x->phase != DTM_XA_OPEN || (x->work_depth == 0 && !x->lost))
			continue;
		while (at > 0 && (*list)[at - 1]->serial > x->serial)
		{
			(*list)[at] = (*list)[at - 1];
			at--;
		}
		(*list)[at] = x;
		n++;
	}
	return n;
}

static void
check_participant(DtmXaConnection *x)
{
	if (!x->lost && x->conn != NULL && !x->changing &&
		PQtransactionStatus(x->conn) == PQTRANS_INTRANS)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_CONNECTION_FAILURE),
			 errmsg("cannot commit: connection to server \"%s\" was lost in this transaction",
					x->name),
			 errdetail("What was done there is gone.")));
}

/* The row that is found when we have committed, and the names for what is prepared. */
static void
store(DtmXaConnection **list, int n, const char *prefix)
{
	DtmArena arena = dtm_arena(CurrentMemoryContext);
	TimestampTz now = GetCurrentTimestamp();
	char gid[DTM_XA_GID_SIZE];
	uint32 random;
	DtmTrans trans;
	DtmStoreScope scope;
	const char *spec;
	size_t spec_len;
	DtmNewTrans row;

	if (n > DTM_MAX_STEPS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a transaction cannot span more than %d servers", DTM_MAX_STEPS)));
	if (!pg_strong_random(&random, sizeof(random)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate a gid: no random numbers")));
	dtm_xa_gid_make(prefix, U64FromFullTransactionId(GetTopFullTransactionId()), random, gid);

	memset(&trans, 0, sizeof(trans));
	trans.type = DTM_TYPE_XA;
	trans.created_at = trans.start_at = now;
	trans.retry_limit = -1;
	trans.n_branches = (uint16) n;
	trans.branches = palloc0(sizeof(DtmBranch) * n);
	for (int i = 0; i < n; i++)
	{
		DtmBranch *branch = &trans.branches[i];
		char *url = psprintf("xa://%s", quote_identifier(list[i]->name));

		branch->retry_limit = -1;
		for (int role = DTM_ROLE_CONFIRM; role <= DTM_ROLE_UNDO; role++)
		{
			branch->url[role].data = url;
			branch->url[role].len = (uint32) strlen(url);
		}
		dtm_xa_xid_make(gid, (unsigned) i + 1, list[i]->xid);
	}
	if (dtm_spec_pack(&trans, &arena, &spec, &spec_len) != DTM_OK)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));

	memset(&row, 0, sizeof(row));
	row.gid = gid;
	row.type = DTM_TYPE_XA;
	row.status = DTM_STATUS_SUBMITTED;
	row.owner = list[0]->role;
	row.created_at = row.next_run_at = now;
	row.spec = spec;
	row.spec_len = spec_len;
	dtm_store_begin(&scope);
	row.id = dtm_store_next_id();
	(void) dtm_store_insert(&row);
	dtm_store_end(&scope);
	for (int i = 0; i < n; i++)
		list[i]->trans = row.id;
	dtm_wake_at_commit(row.id);
}

/* One transaction per role: each sees its own, and each of its branches is finished as it. */
static void
store_all(DtmXaConnection **list, int n)
{
	DtmXaConnection **mine = palloc(sizeof(DtmXaConnection *) * n);
	bool *stored = palloc0(sizeof(bool) * n);
	char prefix[DTM_XA_PREFIX_SIZE];

	dtm_xa_prefix(GetSystemIdentifier(), MyDatabaseId, prefix);
	PushActiveSnapshot(GetTransactionSnapshot());
	for (int i = 0; i < n; i++)
	{
		int n_mine = 0;

		if (stored[i])
			continue;
		for (int k = i; k < n; k++)
		{
			if (list[k]->role != list[i]->role)
				continue;
			mine[n_mine++] = list[k];
			stored[k] = true;
		}
		store(mine, n_mine, prefix);
	}
	PopActiveSnapshot();
}

/*
 * All of them at the same time.  What the statements have set in the session
 * must not decide who owns the prepared transaction: who finishes it logs in
 * anew.
 */
static void
prepare_all(DtmXaConnection **list, int n)
{
	char command[COMMAND_SIZE];

	for (int i = 0; i < n; i++)
	{
		snprintf(command, sizeof(command),
				 "RESET SESSION AUTHORIZATION; RESET ROLE; PREPARE TRANSACTION '%s'", list[i]->xid);
		list[i]->phase = DTM_XA_PREPARING;
		dtm_xa_send(list[i], command);
	}
	for (int i = 0; i < n; i++)
	{
		const char *tag = dtm_xa_finish_command(list[i], "PREPARE TRANSACTION");

		/* a transaction that has failed there answers so, and it is no error */
		if (strcmp(tag, "PREPARE TRANSACTION") != 0)
			ereport(ERROR,
					(errcode(ERRCODE_TRANSACTION_ROLLBACK),
					 errmsg("server \"%s\" rolled the transaction back instead of preparing it",
							list[i]->name)));
		list[i]->phase = DTM_XA_PREPARED;
	}
}

static void
before_commit(void)
{
	DtmXaConnection **list;
	int n = participants(&list);

	for (int i = 0; i < n; i++)
		check_participant(list[i]);
	if (n > 0)
	{
		store_all(list, n);

		/*
		 * A crash must not forget that this transaction id was given out: who
		 * finds it in a name could take it for one of a copy of this database.
		 */
		XLogFlush(XactLastRecEnd);

		/* and the servers must not be told of a commit that a crash can take back */
		ForceSyncCommit();
		prepare_all(list, n);
	}
	pfree(list);
}

/* ---- after the decision: nothing may throw from here on ---- */

/* Ask the coordinator to look for what may have stayed prepared. */
static void
ask_for_sweep(void)
{
	int slot = dtm_shared == NULL ? -1 : dtm_shmem_find(MyDatabaseId);

	if (slot < 0)
		return;
	pg_atomic_fetch_add_u32(&dtm_shared->databases[slot].xa_sweeps, 1);
	dtm_shmem_wake(dtm_shared->databases[slot].coordinators[0].proc);
}

/* Have all servers of this row committed? */
static bool
is_settled(int64 trans)
{
	slist_iter iter;

	slist_foreach(iter, &dtm_xa_connections)
	{
		DtmXaConnection *x = slist_container(DtmXaConnection, node, iter.cur);

		if (x->phase == DTM_XA_PREPARED && x->trans == trans)
			return false;
	}
	return true;
}

/* Send all, then read all: they work at the same time. */
static void
after_commit(void)
{
	int64 deadline = dtm_xa_clock_ms() + QUIET_MS;
	char command[COMMAND_SIZE];
	slist_iter iter;

	slist_foreach(iter, &dtm_xa_connections)
	{
		DtmXaConnection *x = slist_container(DtmXaConnection, node, iter.cur);

		if (x->phase != DTM_XA_PREPARED)
			continue;
		prepared_command(command, true, x->xid);
		if (!dtm_xa_quiet_send(x->conn, command))
			dtm_xa_close(x);
	}
	slist_foreach(iter, &dtm_xa_connections)
	{
		DtmXaConnection *x = slist_container(DtmXaConnection, node, iter.cur);

		if (x->phase != DTM_XA_PREPARED || x->conn == NULL)
			continue;
		switch (dtm_xa_quiet_answer(x->conn, deadline))
		{
			case DTM_XA_QUIET_DONE:
			case DTM_XA_QUIET_ABSENT:
				x->phase = DTM_XA_COMMITTED;
				break;
			case DTM_XA_QUIET_REFUSED:
				break;
			case DTM_XA_QUIET_LOST:
				dtm_xa_close(x);
				break;
		}
	}
	slist_foreach(iter, &dtm_xa_connections)
	{
		DtmXaConnection *x = slist_container(DtmXaConnection, node, iter.cur);

		if (x->phase == DTM_XA_COMMITTED && is_settled(x->trans))
			dtm_wake_settled(x->trans);
	}
}

/* Roll back what one server has of this transaction; false when that is not certain. */
static bool
undo(DtmXaConnection *x, int64 deadline)
{
	char command[COMMAND_SIZE];
	DtmXaQuiet answer;
	PGTransactionStatusType status;

	if (x->conn == NULL)
		return x->phase == DTM_XA_OPEN;
	if (!dtm_xa_quiet_settle(x->conn, deadline))
	{
		/* an open transaction ends with its connection */
		dtm_xa_close(x);
		return x->phase == DTM_XA_OPEN;
	}
	status = PQtransactionStatus(x->conn);
	if (status != PQTRANS_IDLE)
	{
		/* then it is not prepared */
		if (dtm_xa_quiet_command(x->conn, "ROLLBACK", deadline) != DTM_XA_QUIET_DONE)
			dtm_xa_close(x);
		return true;
	}
	if (x->phase == DTM_XA_OPEN)
		return true;
	prepared_command(command, false, x->xid);
	answer = dtm_xa_quiet_command(x->conn, command, deadline);
	if (answer == DTM_XA_QUIET_LOST)
		dtm_xa_close(x);
	return answer == DTM_XA_QUIET_DONE || answer == DTM_XA_QUIET_ABSENT;
}

/* Until when to wait for these connections. */
static int64
deadline_for(const DtmXaConnection *x, int64 deadline)
{
	if (x->conn != NULL && PQtransactionStatus(x->conn) == PQTRANS_ACTIVE)
		return Max(deadline, dtm_xa_clock_ms() + CANCEL_MS);
	return deadline;
}

static void
undo_all(bool only_without_work)
{
	int64 deadline = dtm_xa_clock_ms() + QUIET_MS;
	bool certain = true;
	slist_iter iter;

	slist_foreach(iter, &dtm_xa_connections) deadline =
		deadline_for(slist_container(DtmXaConnection, node, iter.cur), deadline);

	slist_foreach(iter, &dtm_xa_connections)
	{
		DtmXaConnection *x = slist_container(DtmXaConnection, node, iter.cur);

		if (x->phase == DTM_XA_UNUSED || (only_without_work && x->phase != DTM_XA_OPEN))
			continue;
		if (!undo(x, deadline))
			certain = false;
	}
	if (!certain)
		ask_for_sweep();
}

static void
forget_all(void)
{
	slist_iter iter;

	slist_foreach(iter, &dtm_xa_connections)
		forget(slist_container(DtmXaConnection, node, iter.cur));
	in_use = false;
	last_serial = 0;
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	(void) arg;
	if (!in_use)
		return;
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
			before_commit();
			break;
		case XACT_EVENT_PRE_PREPARE:
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg(
						 "cannot PREPARE a transaction that has used dtm_xa_exec or dtm_xa_query"),
					 errhint("COMMIT it: the servers are prepared and committed with it.")));
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
			after_commit();
			undo_all(true);
			forget_all();
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
			undo_all(false);
			forget_all();
			break;
		case XACT_EVENT_PREPARE:
			break;
	}
}

/* ---- savepoints ---- */

static void
release_savepoint(DtmXaConnection *x, int level)
{
	char command[64];

	if (x->depth >= level && !x->lost)
	{
		if (x->changing || x->conn == NULL)
			dtm_xa_throw_lost(x);
		snprintf(command, sizeof(command), "RELEASE SAVEPOINT s%d", level);
		x->changing = true;
		dtm_xa_send(x, command);
		(void) dtm_xa_finish_command(x, command);
		x->changing = false;
		x->depth = level - 1;
	}
	if (x->work_depth >= level)
		x->work_depth = level - 1;
}

/* Nothing may throw: what does not work is noticed at the commit. */
static void
rollback_to_savepoint(DtmXaConnection *x, int level)
{
	char command[64];
	int64 deadline = deadline_for(x, dtm_xa_clock_ms() + QUIET_MS);

	if (x->work_depth >= level)
		x->work_depth = 0;
	if (x->depth >= level && !x->lost)
	{
		snprintf(command, sizeof(command), "ROLLBACK TO SAVEPOINT s%d; RELEASE SAVEPOINT s%d",
				 level, level);
		if (x->changing || x->conn == NULL || !dtm_xa_quiet_settle(x->conn, deadline) ||
			dtm_xa_quiet_command(x->conn, command, deadline) != DTM_XA_QUIET_DONE)
			x->lost = true;
		else
			x->depth = level - 1;
	}
	else if (x->changing)
		x->lost = true;

	if (x->lost)
	{
		dtm_xa_close(x);

		/* with nothing of us in it that counts, it is as if it had never been used */
		if (x->work_depth == 0)
			forget(x);
	}
}

static void
at_subtransaction_end(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	int level = GetCurrentTransactionNestLevel();
	slist_iter iter;

	(void) mine;
	(void) parent;
	(void) arg;
	if (!in_use || (event != SUBXACT_EVENT_PRE_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB))
		return;
	slist_foreach(iter, &dtm_xa_connections)
	{
		DtmXaConnection *x = slist_container(DtmXaConnection, node, iter.cur);

		if (x->phase == DTM_XA_UNUSED)
			continue;
		if (event == SUBXACT_EVENT_PRE_COMMIT_SUB)
			release_savepoint(x, level);
		else
			rollback_to_savepoint(x, level);
	}
}
