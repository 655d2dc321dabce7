/* -------------------------------------------------------------------------
 *
 * dtm_ddl.c
 *		Steps aside for DDL on databases: DROP, RENAME, SET TABLESPACE,
 *		CREATE ... TEMPLATE all need a database without sessions.
 *
 * Runs in backends, as a ProcessUtility hook.  The workers of that database
 * are ended before the statement and started again after it, whatever came
 * of it.
 *
 * Also sees the statements that workers have to hear of: what changes the
 * extension, and settings that belong to a database.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "dtm_compat.h"
#include "dtm_process.h"
#include "dtm_wake.h"

#define ASIDE_TIMEOUT_MS 10000

static ProcessUtility_hook_type previous_hook = NULL;

/* Does this transaction keep workers away from their databases? */
static bool aside = false;

/* The database that must have no sessions for this statement, or InvalidOid. */
static Oid
database_in_the_way(Node *statement, bool *creates)
{
	*creates = false;
	if (IsA(statement, DropdbStmt))
		return get_database_oid(((DropdbStmt *) statement)->dbname, true);
	if (IsA(statement, RenameStmt) && ((RenameStmt *) statement)->renameType == OBJECT_DATABASE)
		return get_database_oid(((RenameStmt *) statement)->subname, true);
	if (IsA(statement, AlterDatabaseStmt))
	{
		ListCell *cell;

		foreach (cell, ((AlterDatabaseStmt *) statement)->options)
		{
			if (strcmp(((DefElem *) lfirst(cell))->defname, "tablespace") == 0)
				return get_database_oid(((AlterDatabaseStmt *) statement)->dbname, true);
		}
	}
	if (IsA(statement, CreatedbStmt))
	{
		ListCell *cell;

		*creates = true;
		foreach (cell, ((CreatedbStmt *) statement)->options)
		{
			DefElem *option = (DefElem *) lfirst(cell);

			if (strcmp(option->defname, "template") == 0 && option->arg != NULL)
				return get_database_oid(defGetString(option), true);
		}
	}
	return InvalidOid;
}

static bool
may_create_databases(void)
{
	HeapTuple tuple;
	bool result = superuser();

	if (!result)
	{
		tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
		if (HeapTupleIsValid(tuple))
		{
			result = ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
			ReleaseSysCache(tuple);
		}
	}
	return result;
}

/* End the workers of a database and keep them away until the transaction ends. */
static void
step_aside(Oid dboid)
{
	TimestampTz start = GetCurrentTimestamp();

	for (;;)
	{
		int i;
		int alive = 0;

		LWLockAcquire(dtm_shared->lock, LW_EXCLUSIVE);
		i = dtm_shmem_find(dboid);
		if (i >= 0)
		{
			DtmDatabaseSlot *db = &dtm_shared->databases[i];

			if (db->aside_for != 0 && db->aside_for != MyProcPid)
				i = -1; /* somebody else is at it already */
			else
			{
				db->aside_for = MyProcPid;
				aside = true;
				for (int k = 0; k < DTM_MAX_COORDINATORS; k++)
				{
					if (db->coordinators[k].state == DTM_WORKER_NONE)
						continue;
					alive++;
					if (db->coordinators[k].pid != 0)
						kill(db->coordinators[k].pid, SIGTERM);
				}
				for (int k = 0; k < DTM_MAX_EXECUTORS; k++)
				{
					if (db->executors[k].pid == 0)
						continue;
					alive++;
					if (db->executors[k].pid > 0)
						kill(db->executors[k].pid, SIGTERM);
				}
			}
		}
		LWLockRelease(dtm_shared->lock);

		if (i < 0 || alive == 0 ||
			TimestampDifferenceExceeds(start, GetCurrentTimestamp(), ASIDE_TIMEOUT_MS))
			return;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 20,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * Let the workers come back at the end of the transaction, whatever came of
 * it: before that a new one would meet a database that is being dropped.
 */
static void
step_back(XactEvent event, void *arg)
{
	(void) arg;
	if (!aside ||
		(event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE))
		return;
	LWLockAcquire(dtm_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < dtm_shared->n_databases; i++)
	{
		DtmDatabaseSlot *db = &dtm_shared->databases[i];

		if (db->aside_for != MyProcPid)
			continue;
		db->aside_for = 0;
		dtm_shmem_request(db->dboid);
	}
	LWLockRelease(dtm_shared->lock);
	aside = false;
}

static bool
names_this_extension(Node *statement)
{
	ListCell *cell;

	if (IsA(statement, AlterExtensionStmt))
		return strcmp(((AlterExtensionStmt *) statement)->extname, "dtm_pg") == 0;
	if (!IsA(statement, DropStmt) || ((DropStmt *) statement)->removeType != OBJECT_EXTENSION)
		return false;
	foreach (cell, ((DropStmt *) statement)->objects)
	{
		if (strcmp(strVal(lfirst(cell)), "dtm_pg") == 0)
			return true;
	}
	return false;
}

/* The rows that say where the transactions are from, as a restore loads them. */
static bool
fills_node(Node *statement)
{
	CopyStmt *copy = (CopyStmt *) statement;

	return IsA(statement, CopyStmt) && copy->is_from && copy->relation != NULL &&
		strcmp(copy->relation->relname, "node") == 0 &&
		(copy->relation->schemaname == NULL || strcmp(copy->relation->schemaname, "dtm") == 0);
}

/* Is it about a setting of ours, as far as can be told? */
static bool
sets_ours(const VariableSetStmt *set)
{
	if (set->kind == VAR_RESET_ALL)
		return true;
	return set->name != NULL && pg_strncasecmp(set->name, "dtm.", 4) == 0;
}

/*
 * Settings of a database, and of the role that the workers have, count when a
 * process begins.
 */
static void
tell_of_settings(Node *statement)
{
	const char *database = NULL;

	if (IsA(statement, AlterDatabaseSetStmt))
	{
		if (!sets_ours(((AlterDatabaseSetStmt *) statement)->setstmt))
			return;
		database = ((AlterDatabaseSetStmt *) statement)->dbname;
	}
	else if (IsA(statement, AlterRoleSetStmt))
	{
		const AlterRoleSetStmt *alter = (AlterRoleSetStmt *) statement;

		if (!sets_ours(alter->setstmt) ||
			(alter->role != NULL && get_rolespec_oid(alter->role, true) != BOOTSTRAP_SUPERUSERID))
			return;
		database = alter->database;
	}
	else
		return;
	dtm_wake_settings_at_commit(database == NULL ? InvalidOid : get_database_oid(database, true));
}

/* What a coordinator would find only by looking. */
static void
tell_workers(Node *statement)
{
	/* it may hold submits, whose backend could not tell of them at its PREPARE */
	if (IsA(statement, TransactionStmt) &&
		((TransactionStmt *) statement)->kind == TRANS_STMT_COMMIT_PREPARED &&
		dtm_shmem_find(MyDatabaseId) >= 0)
		dtm_shmem_deliver(MyDatabaseId, NULL, 0, true, InvalidXLogRecPtr);

	tell_of_settings(statement);

	if (fills_node(statement))
		dtm_wake_at_commit(DTM_INBOX_CONTROL);

	/* dropped: leave; updated: try again whether its version is known */
	if (names_this_extension(statement))
	{
		dtm_wake_at_commit(DTM_INBOX_CONTROL);
		dtm_wake_launcher_at_commit(MyDatabaseId);
	}
}

static void
process_utility(PlannedStmt *pstmt, const char *query, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *env,
				DestReceiver *dest, QueryCompletion *completion)
{
	Node *statement = pstmt->utilityStmt;
	bool creates = false;
	Oid dboid = InvalidOid;

	if (dtm_shared != NULL &&
		(IsA(statement, DropdbStmt) || IsA(statement, RenameStmt) ||
		 IsA(statement, AlterDatabaseStmt) || IsA(statement, CreatedbStmt)))
		dboid = database_in_the_way(statement, &creates);

	/* only for those who may do it: others must not be able to disturb the workers */
	if (OidIsValid(dboid) && dboid != MyDatabaseId &&
		(dtm_database_ownercheck(dboid, GetUserId()) || (creates && may_create_databases())))
	{
		static bool registered = false;

		if (!registered)
		{
			RegisterXactCallback(step_back, NULL);
			registered = true;
		}
		step_aside(dboid);
	}
	if (previous_hook)
		previous_hook(pstmt, query, read_only_tree, context, params, env, dest, completion);
	else
		standard_ProcessUtility(pstmt, query, read_only_tree, context, params, env, dest,
								completion);

	if (dtm_shared != NULL)
		tell_workers(statement);

	/* a copy of a database with the extension has it too */
	if (creates && dtm_shared != NULL)
	{
		Oid created = get_database_oid(((CreatedbStmt *) statement)->dbname, true);

		if (OidIsValid(created))
			dtm_wake_launcher_at_commit(created);
	}
}

void
dtm_ddl_init(void)
{
	previous_hook = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}
