/* -------------------------------------------------------------------------
 *
 * dtm_httpd.c
 *		The HTTP server: opening and closing, the turn of the loop, deadlines.
 *
 * Not here: a request (dtm_httpd_request.c), the sockets
 * (dtm_httpd_socket.c), HTTP itself (libmicrohttpd).  Runs in the coordinator.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_httpd_internal.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define MIN_HEAD 1024

/* After an answer libmicrohttpd wants another run to make the connection idle. */
#define MAX_ROUNDS 3

static void (*panic_handler)(const char *message);

int64_t
dtm_httpd_now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void
on_panic(void *context, const char *file, unsigned int line, const char *reason)
{
	(void) context;
	(void) file;
	(void) line;
	panic_handler(reason != NULL ? reason : "no reason given");
}

void
dtm_httpd_on_panic(void (*handler)(const char *message))
{
	panic_handler = handler;
	MHD_set_panic_func(handler != NULL ? on_panic : NULL, NULL);
}

/* libmicrohttpd's descriptor is readable; dtm_httpd_dispatch lets it run in any case. */
static void
on_readable(void *context, int fd, uint32_t events)
{
	DtmHttpd *httpd = context;

	(void) fd;
	(void) events;
	httpd->resumed = true;
}

/* The kernel's limit is the only one here: ours may change, see make_place. */
static struct MHD_Daemon *
start_daemon(DtmHttpd *httpd)
{
	size_t memory = httpd->limits.max_head > MIN_HEAD ? httpd->limits.max_head : MIN_HEAD;

	return MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME, 0,
							NULL, NULL, dtm_httpd_on_request, httpd,
							MHD_OPTION_CONNECTION_MEMORY_LIMIT, memory, MHD_OPTION_CONNECTION_LIMIT,
							(unsigned int) INT_MAX, MHD_OPTION_CONNECTION_TIMEOUT, 0u,
							MHD_OPTION_NOTIFY_COMPLETED, dtm_httpd_on_completed, httpd,
							MHD_OPTION_NOTIFY_CONNECTION, dtm_httpd_on_connection, httpd,
							MHD_OPTION_URI_LOG_CALLBACK, dtm_httpd_on_uri, httpd, MHD_OPTION_END);
}

static bool
start(DtmHttpd *httpd)
{
	const union MHD_DaemonInfo *info;

	httpd->loop = dtm_loop_new();
	httpd->daemon = start_daemon(httpd);
	if (httpd->loop == NULL || httpd->daemon == NULL)
		return false;
	info = MHD_get_daemon_info(httpd->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	return info != NULL &&
		dtm_loop_watch(httpd->loop, info->epoll_fd, EPOLLIN, on_readable, httpd) == DTM_OK &&
		dtm_httpd_watch_listener(httpd) == DTM_OK;
}

DtmHttpd *
dtm_httpd_open(const char *address, int port, DtmHttpdShare share, const DtmHttpdLimits *limits,
			   bool *taken, char *error, size_t error_size)
{
	DtmHttpd *httpd = calloc(1, sizeof(DtmHttpd));
	bool is_taken = false;

	if (taken != NULL)
		*taken = false;
	if (httpd == NULL)
	{
		snprintf(error, error_size, "could not listen on %s:%d: out of memory", address, port);
		return NULL;
	}
	for (int i = 0; i < DTM_HTTPD_STATES; i++)
		dtm_list_init(&httpd->connections[i]);
	dtm_list_init(&httpd->queue);
	dtm_list_init(&httpd->given);
	dtm_list_init(&httpd->gone);
	dtm_list_init(&httpd->turned);
	httpd->limits = *limits;
	httpd->listen_fd =
		dtm_httpd_listen(address, port, share, &httpd->port, &is_taken, error, error_size);
	if (taken != NULL)
		*taken = is_taken;
	if (httpd->listen_fd >= 0 && start(httpd))
		return httpd;
	if (httpd->listen_fd >= 0)
		snprintf(error, error_size, "could not listen on %s:%d: memory or descriptors are short",
				 address, port);
	dtm_httpd_close(httpd);
	return NULL;
}

void
dtm_httpd_close(DtmHttpd *httpd)
{
	if (httpd == NULL)
		return;
	if (httpd->daemon != NULL)
	{
		/*
		 * libmicrohttpd ends the process when a connection is still suspended.
		 * What its last run reads must not become one: it is refused.
		 */
		httpd->limits.max_queue = 0;
		dtm_httpd_drop_all(httpd);
		(void) MHD_run(httpd->daemon);
		MHD_stop_daemon(httpd->daemon);
	}
	if (httpd->loop != NULL)
		dtm_httpd_close_turned(httpd, INT64_MAX);
	if (httpd->listen_fd >= 0)
		close(httpd->listen_fd);
	dtm_loop_free(httpd->loop);
	free(httpd);
}

int
dtm_httpd_port(const DtmHttpd *httpd)
{
	return httpd->port;
}

void
dtm_httpd_set_limits(DtmHttpd *httpd, const DtmHttpdLimits *limits)
{
	size_t max_head = httpd->limits.max_head;

	httpd->limits = *limits;
	httpd->limits.max_head = max_head;
}

void
dtm_httpd_stop(DtmHttpd *httpd)
{
	DtmLink *idle = &httpd->connections[DTM_HTTPD_IDLE];

	if (httpd->listen_fd >= 0)
	{
		dtm_loop_forget(httpd->loop, httpd->listen_fd);
		close(httpd->listen_fd);
		httpd->listen_fd = -1;
		httpd->accept_at_us = 0;
	}
	while (!dtm_list_is_empty(idle))
		dtm_httpd_cut(dtm_list_entry(idle->next, DtmHttpdConnection, link));
}

int
dtm_httpd_fd(const DtmHttpd *httpd)
{
	return dtm_loop_fd(httpd->loop);
}

void
dtm_httpd_set_state(DtmHttpdConnection *connection, DtmHttpdState state)
{
	connection->state = state;
	connection->since_us = dtm_httpd_now_us();
	dtm_list_remove(&connection->link);
	dtm_list_push_tail(&connection->httpd->connections[state], &connection->link);
}

void
dtm_httpd_cut(DtmHttpdConnection *connection)
{
	if (connection->state == DTM_HTTPD_CUT)
		return;
	(void) shutdown(connection->fd, SHUT_RDWR);
	dtm_httpd_set_state(connection, DTM_HTTPD_CUT);
	connection->httpd->n_connections--;
	connection->httpd->n_cut++;
	connection->httpd->resumed = true;
}

/* Milliseconds that a connection may be in this state; -1 = for ever. */
static int
patience_ms(const DtmHttpd *httpd, int state)
{
	switch (state)
	{
		case DTM_HTTPD_IDLE:
			return httpd->limits.idle_ms;
		case DTM_HTTPD_READING:
			return httpd->limits.read_ms;
		case DTM_HTTPD_WRITING:
			return httpd->limits.write_ms;
		default:
			return -1;
	}
}

/* End the connections whose time is over. */
static void
keep_deadlines(DtmHttpd *httpd, int64_t now)
{
	for (int state = 0; state < DTM_HTTPD_STATES; state++)
	{
		DtmLink *head = &httpd->connections[state];
		int ms = patience_ms(httpd, state);

		while (ms >= 0 && !dtm_list_is_empty(head))
		{
			DtmHttpdConnection *connection = dtm_list_entry(head->next, DtmHttpdConnection, link);

			if (now - connection->since_us < (int64_t) ms * 1000)
				break;
			/* nothing of an answer has been sent, so ours can be */
			if (state == DTM_HTTPD_READING)
			{
				httpd->n_refused++;
				dtm_httpd_send_raw(connection->fd, 408, 0);
			}
			dtm_httpd_cut(connection);
		}
	}
}

int
dtm_httpd_timeout_ms(const DtmHttpd *httpd)
{
	int64_t now = dtm_httpd_now_us();
	int64_t at = INT64_MAX;
	int64_t end;
	MHD_UNSIGNED_LONG_LONG ms;

	if (httpd->resumed || !dtm_list_is_empty(&httpd->queue) || !dtm_list_is_empty(&httpd->gone))
		return 0;
	if (MHD_get_timeout(httpd->daemon, &ms) == MHD_YES)
		at = now + (int64_t) (ms < INT_MAX ? ms : INT_MAX) * 1000;
	if (httpd->accept_at_us != 0 && httpd->accept_at_us < at)
		at = httpd->accept_at_us;
	if (!dtm_list_is_empty(&httpd->turned))
	{
		end = dtm_list_entry(httpd->turned.next, DtmHttpdTurned, link)->since_us +
			DTM_HTTPD_TURNED_US;
		if (end < at)
			at = end;
	}
	for (int state = 0; state < DTM_HTTPD_STATES; state++)
	{
		const DtmLink *head = &httpd->connections[state];
		int patience = patience_ms(httpd, state);

		if (patience < 0 || dtm_list_is_empty(head))
			continue;
		end = dtm_list_entry(head->next, DtmHttpdConnection, link)->since_us +
			(int64_t) patience * 1000;
		if (end < at)
			at = end;
	}
	if (at == INT64_MAX)
		return -1;
	if (at <= now)
		return 0;
	at = (at - now + 999) / 1000;
	return at < INT_MAX ? (int) at : INT_MAX;
}

void
dtm_httpd_dispatch(DtmHttpd *httpd)
{
	int64_t now = dtm_httpd_now_us();

	if (httpd->accept_at_us != 0 && now >= httpd->accept_at_us &&
		dtm_httpd_watch_listener(httpd) != DTM_OK)
		httpd->accept_at_us = now + 1000000; /* memory is short: later */
	(void) dtm_loop_dispatch(httpd->loop);
	keep_deadlines(httpd, now);
	dtm_httpd_close_turned(httpd, now - DTM_HTTPD_TURNED_US);
	if (httpd->listen_fd < 0)
		dtm_httpd_stop(httpd); /* connections that became idle since */
	httpd->resumed = false;
	for (int round = 0; round < MAX_ROUNDS; round++)
	{
		MHD_UNSIGNED_LONG_LONG ms;

		(void) MHD_run(httpd->daemon);
		if (MHD_get_timeout(httpd->daemon, &ms) != MHD_YES || ms > 0)
			break;
	}
}

DtmHttpdCounts
dtm_httpd_counts(const DtmHttpd *httpd)
{
	return (DtmHttpdCounts){.connections = httpd->n_connections + httpd->n_cut,
							.queued = httpd->n_queued,
							.waiting = httpd->n_given,
							.bodies = httpd->bodies,
							.answers = httpd->answers,
							.requests = httpd->n_requests,
							.refused = httpd->n_refused};
}
