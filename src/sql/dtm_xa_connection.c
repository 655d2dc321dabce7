/* -------------------------------------------------------------------------
 *
 * dtm_xa_connection.c
 *		This session's connections to foreign servers: opening them, keeping
 *		a transaction with our savepoints in them, sending statements.
 *
 * Waiting is done on the latch and the socket, so that a cancel or a
 * statement_timeout here ends a statement there.
 *
 * Not here: the end of a transaction (dtm_xa_commit.c), options of servers
 * and mappings (dtm_foreign.c).  Runs in backends.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/memutils.h"

#include "dtm_compat.h"
#include "dtm_autonomous.h"
#include "dtm_foreign.h"
#include "dtm_shmem.h"
#include "dtm_store.h"
#include "dtm_xa.h"

#define LAUNCHER_TIMEOUT_MS 10000
#define CONNECT_TIMEOUT_S 10 /* unless the server's options have another one */
#define MAX_SHOWN 200        /* bytes of a statement in a context line */

slist_head dtm_xa_connections = SLIST_STATIC_INIT(dtm_xa_connections);

static uint32
wait_event(void)
{
	static uint32 event = 0;

	if (event == 0)
		event = dtm_wait_event("DtmXaRemote");
	return event;
}

char *
dtm_xa_to_wire(const char *chars)
{
	return pg_server_to_any(chars, (int) strlen(chars), PG_UTF8);
}

char *
dtm_xa_from_wire(const char *chars)
{
	return pg_any_to_server(chars, (int) strlen(chars), PG_UTF8);
}

/* A message of libpq without its line end. */
static char *
message_of(PGconn *conn)
{
	const char *message = conn == NULL ? "out of memory" : PQerrorMessage(conn);
	char *copy = pstrdup(message);
	size_t len = strlen(copy);

	while (len > 0 && (copy[len - 1] == '\n' || copy[len - 1] == ' '))
		copy[--len] = '\0';
	return dtm_xa_from_wire(copy);
}

/* ---- waiting and errors ---- */

/* Until the socket is ready or ms have passed (-1: never); true when it is ready. */
static bool
wait_for_socket(PGconn *conn, int events, long ms)
{
	int rc =
		WaitLatchOrSocket(MyLatch,
						  WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | events | (ms >= 0 ? WL_TIMEOUT : 0),
						  PQsocket(conn), ms, wait_event());

	if (rc & WL_LATCH_SET)
	{
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	return (rc & (WL_SOCKET_READABLE | WL_SOCKET_WRITEABLE)) != 0;
}

void
dtm_xa_throw_lost(DtmXaConnection *x)
{
	char *message = message_of(x->conn);

	x->lost = true;
	dtm_xa_close(x);
	ereport(ERROR,
			(errcode(ERRCODE_CONNECTION_FAILURE),
			 errmsg("connection to server \"%s\" was lost", x->name),
			 errdetail_internal("%s", message)));
}

static char *
field(const PGresult *result, int code)
{
	const char *value = PQresultErrorField(result, code);

	return value == NULL ? NULL : dtm_xa_from_wire(value);
}

/* The beginning of a statement, for a context line. */
static char *
shown(const char *what)
{
	size_t len = strlen(what);

	if (len <= MAX_SHOWN)
		return pstrdup(what);
	return psprintf("%.*s...", pg_mbcliplen(what, (int) len, MAX_SHOWN), what);
}

void
dtm_xa_throw(DtmXaConnection *x, PGresult *result, const char *what)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	volatile int code = ERRCODE_CONNECTION_FAILURE;

	const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);

	/* libpq's own words, without a state, or the server's last ones: the connection */
	if (state == NULL || strlen(state) != 5 ||
		(severity != NULL && (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0)))
	{
		PQclear(result);
		dtm_xa_throw_lost(x);
	}
	code = MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]);
	PG_TRY();
	{
		char *message = field(result, PG_DIAG_MESSAGE_PRIMARY);
		char *detail = field(result, PG_DIAG_MESSAGE_DETAIL);
		char *hint = field(result, PG_DIAG_MESSAGE_HINT);
		char *context = field(result, PG_DIAG_CONTEXT);
		char *schema = field(result, PG_DIAG_SCHEMA_NAME);
		char *table = field(result, PG_DIAG_TABLE_NAME);
		char *column = field(result, PG_DIAG_COLUMN_NAME);
		char *constraint = field(result, PG_DIAG_CONSTRAINT_NAME);

		ereport(ERROR,
				(errcode(code), errmsg_internal("%s", message == NULL ? "no message" : message),
				 detail == NULL ? 0 : errdetail_internal("%s", detail),
				 hint == NULL ? 0 : errhint("%s", hint),
				 schema == NULL ? 0 : err_generic_string(PG_DIAG_SCHEMA_NAME, schema),
				 table == NULL ? 0 : err_generic_string(PG_DIAG_TABLE_NAME, table),
				 column == NULL ? 0 : err_generic_string(PG_DIAG_COLUMN_NAME, column),
				 constraint == NULL ? 0 : err_generic_string(PG_DIAG_CONSTRAINT_NAME, constraint),
				 errcontext("%s%son server \"%s\": %s", context == NULL ? "" : context,
							context == NULL ? "" : "\n", x->name, shown(what))));
	}
	PG_FINALLY();
	{
		PQclear(result);
	}
	PG_END_TRY();
	pg_unreachable();
}

/* ---- sending and receiving ---- */

/* Hand the rest of what was sent to the socket; reads what comes, or both sides could wait for ever. */
static void
flush_out(DtmXaConnection *x)
{
	int rc;

	while ((rc = PQflush(x->conn)) > 0)
	{
		if (wait_for_socket(x->conn, WL_SOCKET_READABLE | WL_SOCKET_WRITEABLE, -1) &&
			PQconsumeInput(x->conn) == 0)
			dtm_xa_throw_lost(x);
	}
	if (rc < 0)
		dtm_xa_throw_lost(x);
}

void
dtm_xa_send(DtmXaConnection *x, const char *command)
{
	if (x->conn == NULL || PQsendQuery(x->conn, command) == 0)
		dtm_xa_throw_lost(x);
	flush_out(x);
}

void
dtm_xa_send_params(DtmXaConnection *x, const char *statement, int n, const char *const *params)
{
	if (x->conn == NULL ||
		PQsendQueryParams(x->conn, statement, n, NULL, params, NULL, NULL, 0) == 0)
		dtm_xa_throw_lost(x);
	flush_out(x);
}

PGresult *
dtm_xa_next_result(DtmXaConnection *x)
{
	while (PQisBusy(x->conn))
	{
		if (wait_for_socket(x->conn, WL_SOCKET_READABLE, -1) && PQconsumeInput(x->conn) == 0)
			dtm_xa_throw_lost(x);
	}
	return PQgetResult(x->conn);
}

const char *
dtm_xa_finish_command(DtmXaConnection *x, const char *what)
{
	static char tag[64];
	PGresult *result;
	PGresult *volatile failed = NULL;

	tag[0] = '\0';
	PG_TRY();
	{
		while ((result = dtm_xa_next_result(x)) != NULL)
		{
			ExecStatusType status = PQresultStatus(result);

			if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK)
				strlcpy(tag, PQcmdStatus(result), sizeof(tag));
			else if (failed == NULL)
			{
				failed = result;
				continue;
			}
			PQclear(result);
			if (PQstatus(x->conn) == CONNECTION_BAD)
				break;
		}
	}
	PG_CATCH();
	{
		PQclear(failed);
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (failed != NULL)
		dtm_xa_throw(x, failed, what);
	if (PQstatus(x->conn) == CONNECTION_BAD)
		dtm_xa_throw_lost(x);
	return tag;
}

static void
command(DtmXaConnection *x, const char *sql)
{
	dtm_xa_send(x, sql);
	(void) dtm_xa_finish_command(x, sql);
}

/* ---- connecting ---- */

/* Nobody reads them; the default would write them into the server's log. */
static void
ignore_notice(void *arg, const PGresult *result)
{
	(void) arg;
	(void) result;
}

static void
throw_not_connected(DtmXaConnection *x, const char *message)
{
	ereport(ERROR,
			(errcode(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION),
			 errmsg("could not connect to server \"%s\"", x->name),
			 errdetail_internal("%s", message)));
}

/* connect_timeout of the options, in milliseconds; libpq leaves it to who polls. */
static int64
connect_timeout_ms(const DtmForeign *foreign)
{
	int seconds = CONNECT_TIMEOUT_S;

	for (int i = 0; foreign->keywords[i] != NULL; i++)
	{
		if (strcmp(foreign->keywords[i], "connect_timeout") == 0 && foreign->values[i] != NULL)
			seconds = atoi(foreign->values[i]);
	}
	return seconds <= 0 ? PG_INT64_MAX / 2 : (int64) Max(seconds, 2) * 1000;
}

static void
poll_connection(DtmXaConnection *x, const DtmForeign *foreign)
{
	int64 deadline = dtm_xa_clock_ms() + Min(connect_timeout_ms(foreign), (int64) 86400000);

	for (;;)
	{
		PostgresPollingStatusType status = PQconnectPoll(x->conn);
		int64 left = deadline - dtm_xa_clock_ms();
		int events;

		if (status == PGRES_POLLING_OK)
			return;
		if (status == PGRES_POLLING_FAILED)
			throw_not_connected(x, message_of(x->conn));
		if (left <= 0)
			throw_not_connected(x, "timeout expired");
		events = status == PGRES_POLLING_WRITING ? WL_SOCKET_WRITEABLE : WL_SOCKET_READABLE;

		/* not ready: the deadline, or the latch; polling before the socket is ready would block */
		while (!wait_for_socket(x->conn, events, (long) left))
		{
			left = deadline - dtm_xa_clock_ms();
			if (left <= 0)
				throw_not_connected(x, "timeout expired");
		}
	}
}

/* What holds for this connection as long as it lives. */
static void
check_server(DtmXaConnection *x, const DtmForeign *foreign)
{
	PGresult *result;
	bool can_prepare;

	/* else the role would borrow the identity of the server's own account */
	if (foreign->password_required && !PQconnectionUsedPassword(x->conn))
		ereport(ERROR,
				(errcode(ERRCODE_S_R_E_PROHIBITED_SQL_STATEMENT_ATTEMPTED),
				 errmsg("password is required"),
				 errdetail("Server \"%s\" did not ask for the password of the user mapping.",
						   x->name),
				 errhint("Change the authentication method of the server, or have a superuser set "
						 "password_required 'false' in the user mapping.")));
	if (PQsetnonblocking(x->conn, 1) != 0)
		dtm_xa_throw_lost(x);
	command(x, "SET datestyle = ISO");
	dtm_xa_send(x, "SELECT pg_catalog.current_setting('max_prepared_transactions')");
	result = dtm_xa_next_result(x);
	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		dtm_xa_throw(x, result, "max_prepared_transactions");
	can_prepare = strcmp(PQgetvalue(result, 0, 0), "0") != 0;
	PQclear(result);
	(void) dtm_xa_finish_command(x, "max_prepared_transactions");
	if (!can_prepare)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("server \"%s\" cannot prepare transactions", x->name),
				 errdetail("Its max_prepared_transactions is 0."),
				 errhint("Set max_prepared_transactions there to the number of its max_connections, "
						 "and restart it.")));
}

static void
connect_to(DtmXaConnection *x, const DtmForeign *foreign)
{
	if (!AcquireExternalFD())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("could not connect to server \"%s\"", x->name),
				 errdetail("There are too many open files on the local server."),
				 errhint("Raise the server's max_files_per_process and/or \"ulimit -n\" limits.")));
	x->conn = PQconnectStartParams(foreign->keywords, foreign->values, 0);
	if (x->conn == NULL)
	{
		ReleaseExternalFD();
		throw_not_connected(x, "out of memory");
	}
	PG_TRY();
	{
		(void) PQsetNoticeReceiver(x->conn, ignore_notice, NULL);
		if (PQstatus(x->conn) == CONNECTION_BAD)
			throw_not_connected(x, message_of(x->conn));
		poll_connection(x, foreign);
		check_server(x, foreign);
	}
	PG_CATCH();
	{
		dtm_xa_close(x);
		x->lost = false;
		PG_RE_THROW();
	}
	PG_END_TRY();
	x->fingerprint = foreign->fingerprint;
}

/* ---- the transaction there ---- */

static const char *
begin_command(void)
{
	switch (XactIsoLevel)
	{
		case XACT_SERIALIZABLE:
			return "BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE NOT DEFERRABLE";
		case XACT_REPEATABLE_READ:
			return "BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE";
		default:
			return "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
	}
}

/* Begin, on a new connection when the old one turns out to be dead: nothing is lost with it. */
static void
begin(DtmXaConnection *x, const DtmForeign *foreign)
{
	volatile bool again = false;
	MemoryContext context = CurrentMemoryContext;

	if (x->conn != NULL &&
		(x->fingerprint != foreign->fingerprint || PQstatus(x->conn) == CONNECTION_BAD))
		dtm_xa_close(x);
	if (x->conn != NULL)
	{
		PG_TRY();
		{
			command(x, begin_command());
		}
		PG_CATCH();
		{
			ErrorData *error;

			MemoryContextSwitchTo(context);
			error = CopyErrorData();
			dtm_xa_close(x);
			x->lost = false;
			if (ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_CONNECTION_EXCEPTION &&
				error->sqlerrcode != ERRCODE_ADMIN_SHUTDOWN &&
				error->sqlerrcode != ERRCODE_CRASH_SHUTDOWN &&
				error->sqlerrcode != ERRCODE_IDLE_SESSION_TIMEOUT)
				PG_RE_THROW();
			FlushErrorState();
			again = true;
		}
		PG_END_TRY();
	}
	else
		again = true;
	if (again)
	{
		connect_to(x, foreign);
		command(x, begin_command());
	}
	x->depth = 1;
	x->changing = false;
}

/* As many savepoints there as there are subtransactions here. */
static void
follow_savepoints(DtmXaConnection *x)
{
	int level = GetCurrentTransactionNestLevel();
	StringInfoData sql;

	if (x->depth >= level)
		return;
	initStringInfo(&sql);
	for (int i = x->depth + 1; i <= level; i++)
		appendStringInfo(&sql, "SAVEPOINT s%d;", i);
	x->changing = true;
	command(x, sql.data);
	x->changing = false;
	x->depth = level;
	pfree(sql.data);
}

static DtmXaConnection *
find(Oid server, Oid role)
{
	DtmXaConnection *x;
	slist_iter iter;

	slist_foreach(iter, &dtm_xa_connections)
	{
		x = slist_container(DtmXaConnection, node, iter.cur);
		if (x->server == server && x->role == role)
			return x;
	}
	x = MemoryContextAllocZero(TopMemoryContext, sizeof(DtmXaConnection));
	x->server = server;
	x->role = role;
	slist_push_head(&dtm_xa_connections, &x->node);
	return x;
}

/*
 * From here on something may become prepared there, and a crash makes us
 * forget it: the tables must know where to look.
 */
static void
note_server(const DtmForeign *foreign)
{
	Oid pair[2] = {foreign->server, foreign->role};
	int64 deadline = dtm_xa_clock_ms() + LAUNCHER_TIMEOUT_MS;

	if (dtm_store_xa_is_known(foreign->server, foreign->role))
		return;

	/* the extension may be so new that the launcher has not seen it yet */
	if (!dtm_autonomous_possible())
		dtm_shmem_request(MyDatabaseId);
	while (!dtm_autonomous_possible() && dtm_xa_clock_ms() < deadline)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 50,
						 wait_event());
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	dtm_autonomous_run(DTM_AUTONOMOUS_XA_SERVER, pair, sizeof(pair));
}

DtmXaConnection *
dtm_xa_open(const char *server)
{
	DtmForeign *foreign = dtm_foreign_get(server, GetUserId(), "");
	DtmXaConnection *x;

	x = find(foreign->server, foreign->role);
	if (x->lost)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("connection to server \"%s\" was lost in this transaction", x->name),
				 errhint("Roll back; what was done there is gone.")));
	if (x->phase == DTM_XA_UNUSED)
	{
		strlcpy(x->name, foreign->name, sizeof(x->name));
		dtm_xa_use(x);
		x->phase = DTM_XA_OPEN;
		x->changing = true;
		begin(x, foreign);
	}

	/* not before it has answered: where nobody can go, nothing is to be looked for */
	if (!x->noted)
	{
		note_server(foreign);
		x->noted = true;
	}
	follow_savepoints(x);
	if (x->work_depth == 0 || x->work_depth > x->depth)
		x->work_depth = x->depth;
	return x;
}
