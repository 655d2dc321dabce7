/* -------------------------------------------------------------------------
 *
 * dtm_pq_connection.c
 *		Connections over libpq's asynchronous interface: made, watched, used
 *		again, closed.
 *
 * Runs in the coordinator.  What is sent over them is in dtm_pq_work.c.
 *
 * Whoever closes a socket is libpq, at any of its calls; the loop must not
 * know a descriptor that is closed, because its number is used again at once.
 * While connecting it is forgotten before each call that may change it;
 * later libpq closes it only when the connection is lost, and what follows
 * that is dtm_pq_close.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_pq_internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

/* A record of TLS may hold more than one read takes out of it. */
#define READS_PER_EVENT 4

static void on_event(void *context, int fd, uint32_t events);

/* libpq would write notices to the server's log. */
static void
ignore_notice(void *context, const PGresult *result)
{
	(void) context;
	(void) result;
}

static void
unwatch(DtmPqConnection *connection)
{
	if (connection->fd >= 0)
		dtm_loop_forget(connection->pq->loop, connection->fd);
	connection->fd = -1;
}

static bool
watch(DtmPqConnection *connection, uint32_t events)
{
	int fd = PQsocket(connection->conn);

	if (fd < 0)
		return false;
	if (connection->fd >= 0 && connection->fd != fd)
		unwatch(connection);
	if (dtm_loop_watch(connection->pq->loop, fd, events, on_event, connection) != DTM_OK)
		return false;
	connection->fd = fd;
	return true;
}

static void
attach(DtmPqConnection *connection, DtmPqEntry *entry)
{
	DtmPq *pq = connection->pq;

	connection->entry = entry;
	entry->connection = connection;
	if (entry->out_at_us == 0)
		entry->out_at_us = pq->now_us;
	connection->deadline_us = entry->out_at_us + (int64_t) entry->timeout_ms * 1000;
	if (connection->state == DTM_PQ_BUSY)
		connection->deadline_us += DTM_PQ_GRACE_US;
	pq->n_out++;
}

static DtmPqEntry *
detach(DtmPqConnection *connection)
{
	DtmPqEntry *entry = connection->entry;

	connection->entry = NULL;
	entry->connection = NULL;
	connection->pq->n_out--;
	return entry;
}

void
dtm_pq_close(DtmPqConnection *connection)
{
	unwatch(connection);
	dtm_list_remove(&connection->link);
	connection->server->n_connections--;
	connection->pq->n_connections--;
	PQfinish(connection->conn);
	dtm_pq_params_release(connection->params);
	free(connection->barrier);
	free(connection);
}

/* ---- the call on a connection ---- */

static void
become_idle(DtmPqConnection *connection)
{
	PGnotify *notify;

	while ((notify = PQnotifies(connection->conn)) != NULL)
		PQfreemem(notify);
	connection->state = DTM_PQ_IDLE;
	connection->step = DTM_PQ_STEP_NONE;
	connection->deadline_us = connection->pq->now_us + DTM_PQ_IDLE_US;
	dtm_list_remove(&connection->link);
	dtm_list_push_head(&connection->server->idle, &connection->link);
	if (connection->server->n_connections > connection->pq->limits.max_server_calls)
		dtm_pq_close(connection);
}

void
dtm_pq_call_over(DtmPqConnection *connection)
{
	DtmPq *pq = connection->pq;
	const char *cleanup = dtm_pq_work_cleanup(connection);

	dtm_pq_alive(connection->server);
	dtm_pq_ended(pq, detach(connection));
	connection->used = true;
	connection->dirty = false;
	if (cleanup == NULL)
	{
		become_idle(connection);
		return;
	}
	connection->state = DTM_PQ_CLEANING;
	connection->failed = false;
	connection->deadline_us = pq->now_us + DTM_PQ_CLEAN_US;
	if (!dtm_pq_send(connection, cleanup))
		dtm_pq_close(connection);
}

void
dtm_pq_call_broken(DtmPqConnection *connection)
{
	DtmPq *pq = connection->pq;
	DtmPqServer *server = connection->server;
	bool was_used = connection->used;
	bool began = connection->step == DTM_PQ_STEP_RUN || connection->step == DTM_PQ_STEP_SKIP;
	DtmPqEntry *entry = detach(connection);

	if (!entry->failed)
		dtm_pq_fail(entry, DTM_PQ_BROKEN, "the connection to server \"%s\" was lost: %s",
					server->name, PQerrorMessage(connection->conn));
	dtm_pq_close(connection);
	if (was_used && !began)
	{
		/* kept too long: the server has ended it meanwhile, and nothing was done yet */
		entry->only_fresh = true;
		dtm_pq_again(pq, entry);
		return;
	}

	/* that may be the function's doing, and says little about the server */
	dtm_pq_ended(pq, entry);
}

static int
standing_connections(const DtmPqConnection *connection)
{
	const DtmLink *lists[2] = {&connection->server->busy, &connection->server->idle};
	int n = 0;

	for (int i = 0; i < 2; i++)
	{
		for (DtmLink *link = lists[i]->next; link != lists[i]; link = link->next)
		{
			DtmPqConnection *other = dtm_list_entry(link, DtmPqConnection, link);

			n += other->state != DTM_PQ_CONNECTING &&
				dtm_pq_params_equal(other->params, connection->params);
		}
	}
	return n;
}

/*
 * A connection could not be had.  When the server said so and others stand,
 * it may have enough of them.  Only one that cannot be reached is failing: a
 * wrong password must not make all that waits come again, over and over, each
 * time that somebody else's right one is taken.
 */
static void
not_connected(DtmPqConnection *connection)
{
	DtmPq *pq = connection->pq;
	DtmPqServer *server = connection->server;
	DtmPqEntry *entry = detach(connection);
	bool reached = connection->reached;
	int standing = reached ? standing_connections(connection) : 0;

	if (!entry->failed)
	{
		const char *message = PQerrorMessage(connection->conn);

		dtm_pq_fail(entry, DTM_PQ_CONNECT, "%s",
					message[0] == '\0' ? "the connection could not be made" : message);
	}
	dtm_pq_close(connection);
	if (standing > 0 && entry->tries++ < DTM_PQ_MAX_TRIES)
	{
		server->crowded_limit = standing;
		server->crowded_until_us = pq->now_us + DTM_PQ_CROWDED_US;
		dtm_pq_again(pq, entry);
		return;
	}
	if (!reached)
		server->failing = true;
	dtm_pq_ended(pq, entry);
}

void
dtm_pq_overdue(DtmPqConnection *connection)
{
	DtmPq *pq = connection->pq;
	DtmPqEntry *entry;
	const char *what = connection->state == DTM_PQ_CONNECTING ? " while connecting" : "";

	if (connection->entry == NULL)
	{
		dtm_pq_close(connection);
		return;
	}
	entry = detach(connection);
	dtm_pq_fail(entry, DTM_PQ_TIMEOUT, "timed out after %d ms%s (request_timeout)",
				entry->timeout_ms, what);
	if (connection->state == DTM_PQ_CONNECTING)
		connection->server->failing = true;
	dtm_pq_close(connection);
	dtm_pq_ended(pq, entry);
}

/* ---- moving bytes ---- */

bool
dtm_pq_send(DtmPqConnection *connection, const char *query)
{
	int rc;

	if (PQsendQuery(connection->conn, query) != 1)
		return false;
	rc = PQflush(connection->conn);
	return rc >= 0 && watch(connection, rc > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static bool
move_bytes(DtmPqConnection *connection)
{
	int reads = PQsslInUse(connection->conn) ? READS_PER_EVENT : 1;
	int rc;

	for (int i = 0; i < reads; i++)
	{
		if (PQconsumeInput(connection->conn) != 1)
			return false;
	}
	rc = PQflush(connection->conn);
	return rc >= 0 && watch(connection, rc > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void
cleaned(DtmPqConnection *connection)
{
	if (connection->failed || PQtransactionStatus(connection->conn) != PQTRANS_IDLE)
		dtm_pq_close(connection);
	else
		become_idle(connection);
}

/* All results of a step are there. */
static void
step_done(DtmPqConnection *connection)
{
	if (connection->state == DTM_PQ_CLEANING)
	{
		cleaned(connection);
		return;
	}
	switch (dtm_pq_work_next(connection))
	{
		case DTM_PQ_NEXT_WAIT:
			break;
		case DTM_PQ_NEXT_OVER:
			dtm_pq_call_over(connection);
			break;
		case DTM_PQ_NEXT_LOST:
			dtm_pq_call_broken(connection);
			break;
	}
}

static void
take_result(DtmPqConnection *connection, PGresult *result)
{
	if (connection->state == DTM_PQ_BUSY)
	{
		dtm_pq_work_result(connection, result);
		return;
	}
	if (PQresultStatus(result) != PGRES_COMMAND_OK && PQresultStatus(result) != PGRES_TUPLES_OK)
		connection->failed = true;
	PQclear(result);
}

static void
on_results(DtmPqConnection *connection)
{
	bool stands = move_bytes(connection);

	/* what came before the connection was lost is read first: it may say why */
	while (!PQisBusy(connection->conn))
	{
		PGresult *result = PQgetResult(connection->conn);
		ExecStatusType status;

		if (result == NULL)
		{
			if (PQstatus(connection->conn) != CONNECTION_OK)
				break;
			step_done(connection);
			return;
		}
		status = PQresultStatus(result);
		take_result(connection, result);
		if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH)
		{
			stands = false; /* nothing of ours does that */
			break;
		}
	}
	if (stands && PQstatus(connection->conn) == CONNECTION_OK)
		return;
	if (connection->state == DTM_PQ_BUSY)
		dtm_pq_call_broken(connection);
	else
		dtm_pq_close(connection);
}

/* ---- connecting ---- */

static void
connected(DtmPqConnection *connection)
{
	DtmPqEntry *entry = connection->entry;

	if (connection->params->password_required && !PQconnectionUsedPassword(connection->conn))
	{
		dtm_pq_fail(entry, DTM_PQ_CONNECT,
					"server \"%s\" does not ask for the password of the user mapping, and only "
					"superusers may connect without one",
					connection->server->name);
		entry->tries = DTM_PQ_MAX_TRIES;
		not_connected(connection);
		return;
	}
	if (PQsetnonblocking(connection->conn, 1) != 0)
	{
		not_connected(connection);
		return;
	}
	connection->state = DTM_PQ_BUSY;
	connection->deadline_us += DTM_PQ_GRACE_US;
	if (!dtm_pq_work_begin(connection))
		dtm_pq_call_broken(connection);
}

static void
on_connecting(DtmPqConnection *connection)
{
	PostgresPollingStatusType status;

	unwatch(connection);
	if (PQstatus(connection->conn) != CONNECTION_STARTED)
		connection->reached = true;
	status = PQconnectPoll(connection->conn);
	if (status == PGRES_POLLING_OK)
	{
		connected(connection);
		return;
	}
	if (status == PGRES_POLLING_FAILED ||
		!watch(connection, status == PGRES_POLLING_READING ? EPOLLIN : EPOLLOUT))
		not_connected(connection);
}

/* Nothing is asked of it, so it is the end, or something to be read and forgotten. */
static void
on_idle(DtmPqConnection *connection)
{
	PGresult *result;

	if (!move_bytes(connection) || PQstatus(connection->conn) != CONNECTION_OK)
	{
		dtm_pq_close(connection);
		return;
	}
	while (!PQisBusy(connection->conn) && (result = PQgetResult(connection->conn)) != NULL)
		PQclear(result);
	if (PQstatus(connection->conn) != CONNECTION_OK)
		dtm_pq_close(connection);
}

static void
on_event(void *context, int fd, uint32_t events)
{
	DtmPqConnection *connection = context;

	(void) fd;
	(void) events;
	if (connection->state == DTM_PQ_CONNECTING)
		on_connecting(connection);
	else if (connection->state == DTM_PQ_IDLE)
		on_idle(connection);
	else
		on_results(connection);
}

bool
dtm_pq_connect(DtmPq *pq, DtmPqEntry *entry)
{
	DtmPqConnection *connection = calloc(1, sizeof(DtmPqConnection));

	if (connection != NULL)
		connection->conn = PQconnectStartParams(entry->params->keywords, entry->params->values, 0);
	if (connection == NULL || connection->conn == NULL)
	{
		free(connection);
		dtm_pq_fail(entry, DTM_PQ_CONNECT, "out of memory for a connection");
		return false;
	}
	(void) PQsetNoticeReceiver(connection->conn, ignore_notice, NULL);
	dtm_list_init(&connection->link);
	connection->pq = pq;
	connection->fd = -1;
	connection->server = entry->server;
	connection->params = entry->params;
	connection->params->refs++;
	connection->state = DTM_PQ_CONNECTING;
	connection->server->n_connections++;
	pq->n_connections++;
	dtm_list_push_tail(&connection->server->busy, &connection->link);
	attach(connection, entry);
	if (PQstatus(connection->conn) == CONNECTION_BAD || !watch(connection, EPOLLOUT))
		not_connected(connection);
	return true;
}

void
dtm_pq_reuse(DtmPqConnection *connection, DtmPqEntry *entry)
{
	dtm_list_remove(&connection->link);
	dtm_list_push_tail(&connection->server->busy, &connection->link);
	connection->state = DTM_PQ_BUSY;
	attach(connection, entry);
	if (!dtm_pq_work_begin(connection))
		dtm_pq_call_broken(connection);
}
