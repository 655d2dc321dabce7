/* -------------------------------------------------------------------------
 *
 * dtm_xa_quiet.c
 *		Commands to other servers where nothing may throw and nobody may be
 *		kept waiting: in the callbacks after a commit or an abort.
 *
 * An ERROR after the commit record is written would be a PANIC, so this is
 * libpq, poll() and a deadline; no palloc, no ereport, no latch.
 *
 * Not here: what is to be done (dtm_xa_commit.c).  Runs in backends.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include <poll.h>
#include <time.h>

#include "storage/fd.h"

#include "dtm_xa.h"

#define MAX_OPTIONS 100 /* libpq has half as many */

int64
dtm_xa_clock_ms(void)
{
	struct timespec now;

	if (clock_gettime(CLOCK_MONOTONIC, &now) != 0)
		return 0;
	return (int64) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* False when the deadline passes or the socket is broken. */
static bool
wait_for_socket(PGconn *conn, short events, int64 deadline_ms)
{
	for (;;)
	{
		struct pollfd socket = {.fd = PQsocket(conn), .events = events};
		int64 left = deadline_ms - dtm_xa_clock_ms();
		int rc;

		if (socket.fd < 0)
			return false;
		rc = poll(&socket, 1, left > 0 ? (int) Min(left, 60000) : 0);
		if (rc > 0)
			return true;
		if (rc == 0 || errno != EINTR)
			return false;
	}
}

bool
dtm_xa_quiet_send(PGconn *conn, const char *command)
{
	/* far smaller than the buffer of a socket: it goes out at once */
	return PQstatus(conn) == CONNECTION_OK && PQsendQuery(conn, command) == 1 && PQflush(conn) >= 0;
}

/* The next result is complete, or there is none left; false when nothing more comes in time. */
static bool
wait_for_result(PGconn *conn, int64 deadline_ms)
{
	while (PQisBusy(conn))
	{
		int flushed = PQflush(conn);

		if (flushed < 0 ||
			!wait_for_socket(conn, POLLIN | (flushed > 0 ? POLLOUT : 0), deadline_ms) ||
			PQconsumeInput(conn) == 0)
			return false;
	}
	return true;
}

DtmXaQuiet
dtm_xa_quiet_answer(PGconn *conn, int64 deadline_ms)
{
	DtmXaQuiet answer = DTM_XA_QUIET_DONE;

	for (;;)
	{
		PGresult *result;
		ExecStatusType status;
		const char *state;

		if (!wait_for_result(conn, deadline_ms))
			return DTM_XA_QUIET_LOST;
		result = PQgetResult(conn);
		if (result == NULL)
			break;
		status = PQresultStatus(result);
		if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH)
		{
			/* nothing that we would take part in */
			PQclear(result);
			return DTM_XA_QUIET_LOST;
		}
		if (status == PGRES_FATAL_ERROR || status == PGRES_BAD_RESPONSE)
		{
			state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
			answer = state != NULL && strcmp(state, "42704") == 0 ? DTM_XA_QUIET_ABSENT
																  : DTM_XA_QUIET_REFUSED;
		}
		PQclear(result);
		if (PQstatus(conn) != CONNECTION_OK)
			return DTM_XA_QUIET_LOST;

		/* rows that keep coming: nobody waits for the last one */
		if (status == PGRES_SINGLE_TUPLE && dtm_xa_clock_ms() > deadline_ms)
			return DTM_XA_QUIET_LOST;
	}
	return PQstatus(conn) == CONNECTION_OK ? answer : DTM_XA_QUIET_LOST;
}

DtmXaQuiet
dtm_xa_quiet_command(PGconn *conn, const char *command, int64 deadline_ms)
{
	if (!dtm_xa_quiet_send(conn, command))
		return DTM_XA_QUIET_LOST;
	return dtm_xa_quiet_answer(conn, deadline_ms);
}

/*
 * As PQcancel() would, but not for longer than until the deadline: that one
 * waits for a server that hangs as long as the network does.  So this is a
 * second connection like the first one, and pg_cancel_backend().
 */
static void
cancel(PGconn *conn, int64 deadline_ms)
{
	PQconninfoOption *options = PQconninfo(conn);
	const char *keywords[MAX_OPTIONS + 1];
	const char *values[MAX_OPTIONS + 1];
	char command[64];
	int n = 0;
	PGconn *other;

	if (options == NULL)
		return;
	for (PQconninfoOption *o = options; o->keyword != NULL && n < MAX_OPTIONS; o++)
	{
		const char *value = o->val;

		/* where we are connected to, so that no name has to be resolved again */
		if (strcmp(o->keyword, "hostaddr") == 0 && PQhostaddr(conn)[0] != '\0')
			value = PQhostaddr(conn);
		else if (strcmp(o->keyword, "host") == 0)
			value = PQhost(conn);
		else if (strcmp(o->keyword, "port") == 0)
			value = PQport(conn);
		if (value == NULL)
			continue;
		keywords[n] = o->keyword;
		values[n++] = value;
	}
	keywords[n] = values[n] = NULL;
	other = PQconnectStartParams(keywords, values, 0);
	PQconninfoFree(options);
	if (other == NULL)
		return;
	for (PostgresPollingStatusType status = PGRES_POLLING_WRITING;
		 PQstatus(other) != CONNECTION_BAD;)
	{
		if (!wait_for_socket(other, status == PGRES_POLLING_WRITING ? POLLOUT : POLLIN, deadline_ms))
			break;
		status = PQconnectPoll(other);
		if (status == PGRES_POLLING_OK)
		{
			snprintf(command, sizeof(command), "SELECT pg_catalog.pg_cancel_backend(%d)",
					 PQbackendPID(conn));
			(void) PQsetnonblocking(other, 1);
			(void) dtm_xa_quiet_command(other, command, deadline_ms);
			break;
		}
		if (status == PGRES_POLLING_FAILED)
			break;
	}
	PQfinish(other);
}

/* Throw away what has come; true when that was all of the answer. */
static bool
is_answered(PGconn *conn)
{
	(void) PQconsumeInput(conn);
	while (!PQisBusy(conn))
	{
		PGresult *result = PQgetResult(conn);
		ExecStatusType status = PQresultStatus(result);

		PQclear(result);
		if (result == NULL)
			return true;
		if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH)
			return false;
	}
	return false;
}

bool
dtm_xa_quiet_settle(PGconn *conn, int64 deadline_ms)
{
	if (PQstatus(conn) != CONNECTION_OK)
		return false;
	if (PQtransactionStatus(conn) == PQTRANS_ACTIVE)
	{
		/*
		 * It may be an answer that nobody has read, or a long query, maybe in
		 * the middle of its rows.  What closing the connection would leave
		 * running there keeps its locks.
		 */
		if (!is_answered(conn))
			cancel(conn, deadline_ms);
	}
	return dtm_xa_quiet_answer(conn, deadline_ms) != DTM_XA_QUIET_LOST &&
		PQtransactionStatus(conn) != PQTRANS_ACTIVE;
}

void
dtm_xa_close(DtmXaConnection *x)
{
	if (x->conn == NULL)
		return;
	PQfinish(x->conn);
	x->conn = NULL;
	ReleaseExternalFD();
}
