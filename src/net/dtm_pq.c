/* -------------------------------------------------------------------------
 *
 * dtm_pq.c
 *		Calls to other PostgreSQL servers: the interface, queues and limits.
 *
 * Runs in the coordinator.  Connections are in dtm_pq_connection.c, what is
 * said over them in dtm_pq_work.c.
 *
 * Fairness: calls to one server go out in the order they came; when the
 * connections in all are too few, servers take turns.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_pq_internal.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

void
dtm_pq_read_clock(DtmPq *pq)
{
	struct timespec ts;

	(void) clock_gettime(CLOCK_MONOTONIC, &ts);
	pq->now_us = (int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void
take_limits(DtmPq *pq, const DtmPqLimits *limits)
{
	pq->limits = *limits;
	if (pq->limits.max_server_calls < 1)
		pq->limits.max_server_calls = 1;
	if (pq->limits.max_calls < 1)
		pq->limits.max_calls = 1;
	if (pq->limits.max_queue < 1)
		pq->limits.max_queue = 1;
}

DtmPq *
dtm_pq_new(const DtmPqLimits *limits)
{
	DtmPq *pq = calloc(1, sizeof(DtmPq));

	if (pq == NULL)
		return NULL;
	pq->loop = dtm_loop_new();
	if (pq->loop == NULL)
	{
		free(pq);
		return NULL;
	}
	dtm_list_init(&pq->servers);
	dtm_list_init(&pq->done);
	take_limits(pq, limits);
	return pq;
}

static DtmPqConnection *
first_connection(DtmPqServer *server)
{
	DtmLink *list = dtm_list_is_empty(&server->busy) ? &server->idle : &server->busy;

	return dtm_list_is_empty(list) ? NULL : dtm_list_entry(list->next, DtmPqConnection, link);
}

static void
free_server(DtmPq *pq, DtmPqServer *server)
{
	DtmLink *link;
	DtmPqConnection *connection;

	while ((connection = first_connection(server)) != NULL)
	{
		dtm_pq_entry_free(connection->entry);
		dtm_pq_close(connection);
	}
	while ((link = dtm_list_pop_head(&server->queue)) != NULL)
		dtm_pq_entry_free(dtm_list_entry(link, DtmPqEntry, link));
	dtm_list_remove(&server->link);
	pq->n_servers--;
	free(server);
}

void
dtm_pq_free(DtmPq *pq)
{
	DtmLink *link;

	if (pq == NULL)
		return;
	while (!dtm_list_is_empty(&pq->servers))
		free_server(pq, dtm_list_entry(pq->servers.next, DtmPqServer, link));
	while ((link = dtm_list_pop_head(&pq->done)) != NULL)
		dtm_pq_entry_free(dtm_list_entry(link, DtmPqEntry, link));
	dtm_pq_entry_free(pq->given);
	dtm_loop_free(pq->loop);
	free(pq->recovered_name);
	free(pq);
}

void
dtm_pq_set_limits(DtmPq *pq, const DtmPqLimits *limits)
{
	take_limits(pq, limits);
	dtm_pq_read_clock(pq);
	dtm_pq_pump(pq);
}

/* ---- servers ---- */

/* One that nothing is known of that a new one would not know. */
static bool
is_forgettable(const DtmPqServer *server)
{
	return server->n_connections == 0 && dtm_list_is_empty(&server->queue) && !server->recovered;
}

/* Make room for another, best without one that is to be told of when it answers again. */
static bool
forget_one(DtmPq *pq)
{
	DtmPqServer *victim = NULL;

	for (DtmLink *link = pq->servers.next; link != &pq->servers; link = link->next)
	{
		DtmPqServer *server = dtm_list_entry(link, DtmPqServer, link);

		if (is_forgettable(server) && (victim == NULL || (victim->failing && !server->failing)))
			victim = server;
	}
	if (victim == NULL)
		return false;
	free_server(pq, victim);
	return true;
}

static DtmRc
find_server(DtmPq *pq, const char *name, DtmPqServer **out)
{
	DtmPqServer *server;
	size_t len = strlen(name);

	for (DtmLink *link = pq->servers.next; link != &pq->servers; link = link->next)
	{
		server = dtm_list_entry(link, DtmPqServer, link);
		if (strcmp(server->name, name) == 0)
		{
			*out = server;
			return DTM_OK;
		}
	}
	if (pq->n_servers >= DTM_PQ_MAX_SERVERS && !forget_one(pq))
		return DTM_LIMIT;
	server = calloc(1, sizeof(DtmPqServer) + len + 1);
	if (server == NULL)
		return DTM_NOMEM;
	memcpy(server->name, name, len + 1);
	dtm_list_init(&server->queue);
	dtm_list_init(&server->idle);
	dtm_list_init(&server->busy);
	dtm_list_push_tail(&pq->servers, &server->link);
	pq->n_servers++;
	*out = server;
	return DTM_OK;
}

void
dtm_pq_alive(DtmPqServer *server)
{
	if (!server->failing)
		return;
	server->failing = false;
	server->recovered = true;
}

const char *
dtm_pq_recovered(DtmPq *pq)
{
	for (DtmLink *link = pq->servers.next; link != &pq->servers; link = link->next)
	{
		DtmPqServer *server = dtm_list_entry(link, DtmPqServer, link);

		if (!server->recovered)
			continue;
		server->recovered = false;
		free(pq->recovered_name);
		pq->recovered_name = strdup(server->name);
		if (pq->recovered_name != NULL)
			return pq->recovered_name;
	}
	return NULL;
}

/* ---- calls ---- */

void
dtm_pq_ended(DtmPq *pq, DtmPqEntry *entry)
{
	DtmPqDone *done = &entry->done;

	if (entry->out_at_us != 0)
	{
		done->queued_us = entry->out_at_us - entry->queued_at_us;
		done->took_us = pq->now_us - entry->out_at_us;
	}
	else
		done->queued_us = pq->now_us - entry->queued_at_us;
	dtm_list_push_tail(&pq->done, &entry->link);
}

void
dtm_pq_again(DtmPq *pq, DtmPqEntry *entry)
{
	entry->failed = false;
	entry->out_at_us = 0;
	entry->done.error = DTM_PQ_OK;
	entry->done.message[0] = entry->done.sqlstate[0] = '\0';
	dtm_list_push_head(&entry->server->queue, &entry->link);
	pq->n_queued++;
}

static DtmPqConnection *
idle_connection(DtmPqServer *server, const DtmPqEntry *entry)
{
	for (DtmLink *link = server->idle.next; link != &server->idle; link = link->next)
	{
		DtmPqConnection *connection = dtm_list_entry(link, DtmPqConnection, link);

		if (dtm_pq_params_equal(connection->params, entry->params))
			return connection;
	}
	return NULL;
}

/* One that is idle in a moment is worth waiting for: making another takes longer. */
static bool
is_being_cleaned(const DtmPqServer *server, const DtmPqEntry *entry)
{
	for (DtmLink *link = server->busy.next; link != &server->busy; link = link->next)
	{
		const DtmPqConnection *connection = dtm_list_entry(link, DtmPqConnection, link);

		if (connection->state == DTM_PQ_CLEANING &&
			dtm_pq_params_equal(connection->params, entry->params))
			return true;
	}
	return false;
}

/* The one of a server that was idle for longest. */
static bool
close_idle(DtmPqServer *server)
{
	if (dtm_list_is_empty(&server->idle))
		return false;
	dtm_pq_close(dtm_list_entry(server->idle.prev, DtmPqConnection, link));
	return true;
}

static bool
close_any_idle(DtmPq *pq)
{
	for (DtmLink *link = pq->servers.next; link != &pq->servers; link = link->next)
	{
		if (close_idle(dtm_list_entry(link, DtmPqServer, link)))
			return true;
	}
	return false;
}

static int
server_limit(const DtmPq *pq, const DtmPqServer *server)
{
	int limit = pq->limits.max_server_calls;

	if (pq->now_us < server->crowded_until_us && server->crowded_limit < limit)
		limit = server->crowded_limit > 0 ? server->crowded_limit : 1;
	return limit;
}

/* Send out the first call of a server; false when there is none, or no place for it. */
static bool
pump_one(DtmPq *pq, DtmPqServer *server)
{
	DtmPqEntry *entry;
	DtmPqConnection *connection = NULL;

	if (dtm_list_is_empty(&server->queue))
		return false;
	entry = dtm_list_entry(server->queue.next, DtmPqEntry, link);
	if (!entry->only_fresh)
		connection = idle_connection(server, entry);
	if (connection == NULL)
	{
		if (!entry->only_fresh && is_being_cleaned(server, entry))
			return false;
		if (server->n_connections >= server_limit(pq, server) && !close_idle(server))
			return false;
		if (pq->n_connections >= pq->limits.max_calls && !close_any_idle(pq))
			return false;
	}
	dtm_list_remove(&entry->link);
	pq->n_queued--;
	if (connection != NULL)
		dtm_pq_reuse(connection, entry);
	else if (!dtm_pq_connect(pq, entry))
		dtm_pq_ended(pq, entry);
	return true;
}

void
dtm_pq_pump(DtmPq *pq)
{
	bool moved = pq->n_queued > 0;

	while (moved)
	{
		DtmLink *next;

		moved = false;
		for (DtmLink *link = pq->servers.next; link != &pq->servers; link = next)
		{
			next = link->next;
			moved = pump_one(pq, dtm_list_entry(link, DtmPqServer, link)) || moved;
		}
	}
}

DtmRc
dtm_pq_start(DtmPq *pq, const DtmPqCall *call)
{
	DtmPqEntry *entry;
	DtmRc rc = dtm_pq_entry_new(call, &entry);

	if (rc != DTM_OK)
		return rc;
	rc = find_server(pq, call->server, &entry->server);
	if (rc == DTM_NOMEM)
	{
		dtm_pq_entry_free(entry);
		return rc;
	}
	dtm_pq_read_clock(pq);
	entry->queued_at_us = pq->now_us;
	if (rc == DTM_LIMIT || pq->n_queued >= pq->limits.max_queue)
	{
		dtm_pq_fail(entry, DTM_PQ_POSTPONED,
					rc == DTM_LIMIT ? "calls to %d other servers are under way"
									: "%d calls are waiting for servers already",
					rc == DTM_LIMIT ? DTM_PQ_MAX_SERVERS : pq->n_queued);
		entry->done.retry_after_ms = DTM_PQ_QUEUE_FULL_MS;
		dtm_pq_ended(pq, entry);
		return DTM_OK;
	}
	dtm_list_push_tail(&entry->server->queue, &entry->link);
	pq->n_queued++;
	dtm_pq_pump(pq);
	return DTM_OK;
}

static DtmPqEntry *
find_in(const DtmLink *list, uint64_t tag, uint64_t tag2)
{
	for (DtmLink *link = list->next; link != list; link = link->next)
	{
		DtmPqEntry *entry = dtm_list_entry(link, DtmPqEntry, link);

		if (entry->done.tag == tag && entry->done.tag2 == tag2)
			return entry;
	}
	return NULL;
}

static DtmPqConnection *
find_connection(DtmPqServer *server, uint64_t tag, uint64_t tag2)
{
	for (DtmLink *link = server->busy.next; link != &server->busy; link = link->next)
	{
		DtmPqConnection *connection = dtm_list_entry(link, DtmPqConnection, link);

		if (connection->entry != NULL && connection->entry->done.tag == tag &&
			connection->entry->done.tag2 == tag2)
			return connection;
	}
	return NULL;
}

bool
dtm_pq_cancel(DtmPq *pq, uint64_t tag, uint64_t tag2)
{
	DtmPqEntry *entry = find_in(&pq->done, tag, tag2);

	for (DtmLink *link = pq->servers.next; entry == NULL && link != &pq->servers; link = link->next)
	{
		DtmPqServer *server = dtm_list_entry(link, DtmPqServer, link);
		DtmPqConnection *connection = find_connection(server, tag, tag2);

		entry = find_in(&server->queue, tag, tag2);
		if (entry != NULL)
			pq->n_queued--;
		else if (connection != NULL)
		{
			entry = connection->entry;
			connection->entry = NULL;
			pq->n_out--;
			dtm_pq_close(connection);
		}
	}
	if (entry == NULL)
		return false;
	dtm_list_remove(&entry->link);
	dtm_pq_entry_free(entry);
	dtm_pq_read_clock(pq);
	dtm_pq_pump(pq);
	return true;
}

/* Those whose time is over, of one of a server's lists. */
static void
end_overdue(const DtmPq *pq, DtmLink *list)
{
	DtmLink *next;

	for (DtmLink *link = list->next; link != list; link = next)
	{
		DtmPqConnection *connection = dtm_list_entry(link, DtmPqConnection, link);

		next = link->next;
		if (connection->deadline_us <= pq->now_us)
			dtm_pq_overdue(connection);
	}
}

void
dtm_pq_dispatch(DtmPq *pq)
{
	if (pq->n_servers == 0)
		return;
	dtm_pq_read_clock(pq);
	(void) dtm_loop_dispatch(pq->loop);
	dtm_pq_read_clock(pq);
	for (DtmLink *link = pq->servers.next; link != &pq->servers; link = link->next)
	{
		DtmPqServer *server = dtm_list_entry(link, DtmPqServer, link);

		end_overdue(pq, &server->busy);
		end_overdue(pq, &server->idle);
	}
	dtm_pq_pump(pq);
}

int
dtm_pq_fd(const DtmPq *pq)
{
	return dtm_loop_fd(pq->loop);
}

static void
earlier(int64_t *first_us, const DtmLink *list)
{
	for (DtmLink *link = list->next; link != list; link = link->next)
	{
		const DtmPqConnection *connection = dtm_list_entry(link, DtmPqConnection, link);

		if (connection->deadline_us < *first_us)
			*first_us = connection->deadline_us;
	}
}

int
dtm_pq_timeout_ms(const DtmPq *pq)
{
	struct timespec ts;
	int64_t first_us = INT64_MAX;
	int64_t left_us;

	if (!dtm_list_is_empty(&pq->done))
		return 0;
	for (DtmLink *link = pq->servers.next; link != &pq->servers; link = link->next)
	{
		const DtmPqServer *server = dtm_list_entry(link, DtmPqServer, link);

		earlier(&first_us, &server->busy);
		earlier(&first_us, &server->idle);
		if (!dtm_list_is_empty(&server->queue) && server->crowded_until_us > pq->now_us &&
			server->crowded_until_us < first_us)
			first_us = server->crowded_until_us;
	}
	if (first_us == INT64_MAX)
		return -1;
	(void) clock_gettime(CLOCK_MONOTONIC, &ts);
	left_us = first_us - ((int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000);
	if (left_us <= 0)
		return 0;
	left_us = (left_us + 999) / 1000;
	return left_us > INT32_MAX ? INT32_MAX : (int) left_us;
}

DtmPqDone *
dtm_pq_next_done(DtmPq *pq)
{
	DtmLink *link;

	if (pq->given != NULL)
		dtm_pq_release(pq, &pq->given->done);
	link = dtm_list_pop_head(&pq->done);
	if (link == NULL)
		return NULL;
	pq->given = dtm_list_entry(link, DtmPqEntry, link);
	return &pq->given->done;
}

void
dtm_pq_release(DtmPq *pq, DtmPqDone *done)
{
	if (pq->given == NULL || &pq->given->done != done)
		return;
	dtm_pq_entry_free(pq->given);
	pq->given = NULL;
}

int
dtm_pq_calls_out(const DtmPq *pq)
{
	return pq->n_out;
}

int
dtm_pq_calls_queued(const DtmPq *pq)
{
	return pq->n_queued;
}
