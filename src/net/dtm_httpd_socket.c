/* -------------------------------------------------------------------------
 *
 * dtm_httpd_socket.c
 *		The HTTP server's sockets: listening, accepting, turning away.
 *
 * We accept ourselves and hand the sockets to libmicrohttpd, because at its
 * own limit it lets new clients hang in the kernel's queue, behind others
 * that may do nothing at all.
 *
 * Not here: what is read from a socket (libmicrohttpd).  Runs in the
 * coordinator.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_httpd_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define BACKLOG 512
#define ACCEPT_AT_ONCE 64
#define ACCEPT_PAUSE_US 100000 /* after the kernel had no descriptor for us */
#define MAX_TURNED 64          /* connections turned away that are still open */
#define MAX_UNREAD (64 * 1024) /* bytes of a request that nobody reads */

/* A bound socket, or -1 with errno. */
static int
bind_socket(const struct addrinfo *where, bool share)
{
	int on = 1;
	int off = 0;
	int fd = socket(where->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int saved;

	if (fd < 0)
		return -1;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
		(!share || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) == 0) &&
		(where->ai_family != AF_INET6 ||
		 setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) == 0) &&
		bind(fd, where->ai_addr, where->ai_addrlen) == 0)
		return fd;
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

/*
 * Two databases, or two clusters of one user, could share a port without
 * noticing, each getting half of the other's requests.  So the first one of
 * a database sees whether it can have the port for itself alone.
 */
static int
listen_socket(const struct addrinfo *where, DtmHttpdShare share)
{
	int fd;
	int saved;

	if (share == DTM_HTTPD_FIRST)
	{
		fd = bind_socket(where, false);
		if (fd < 0)
			return -1;
		/* bound is not enough: two may be, and only one may listen */
		if (listen(fd, 1) < 0)
		{
			saved = errno;
			close(fd);
			errno = saved;
			return -1;
		}
		close(fd);
	}
	fd = bind_socket(where, true);
	if (fd >= 0 && listen(fd, BACKLOG) < 0)
	{
		saved = errno;
		close(fd);
		errno = saved;
		fd = -1;
	}
	return fd;
}

static int
port_of(int fd)
{
	struct sockaddr_storage bound;
	socklen_t len = sizeof(bound);

	if (getsockname(fd, (struct sockaddr *) &bound, &len) < 0)
		return 0;
	if (bound.ss_family == AF_INET6)
		return ntohs(((struct sockaddr_in6 *) &bound)->sin6_port);
	return ntohs(((struct sockaddr_in *) &bound)->sin_port);
}

int
dtm_httpd_listen(const char *address, int port, DtmHttpdShare share, int *bound_port, bool *taken,
				 char *error, size_t error_size)
{
	struct addrinfo hints;
	struct addrinfo *where = NULL;
	char service[16];
	int fd = -1;
	int rc;

	memset(&hints, 0, sizeof(hints));
	hints.ai_family = AF_UNSPEC;
	hints.ai_socktype = SOCK_STREAM;
	hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
	if (strcmp(address, "*") == 0)
		address = "0.0.0.0";
	snprintf(service, sizeof(service), "%d", port);
	*taken = false;
	rc = port < 0 || port > 65535 ? EAI_SERVICE : getaddrinfo(address, service, &hints, &where);
	if (rc != 0)
	{
		snprintf(error, error_size, "could not listen on %s:%d: not an address and a port", address,
				 port);
		return -1;
	}
	fd = listen_socket(where, share);
	if (fd < 0)
	{
		*taken = errno == EADDRINUSE;
		snprintf(error, error_size,
				 strchr(address, ':') ? "could not listen on [%s]:%d: %s"
									  : "could not listen on %s:%d: %s",
				 address, port, strerror(errno));
	}
	else
		*bound_port = port_of(fd);
	freeaddrinfo(where);
	return fd;
}

void
dtm_httpd_send_raw(int fd, int status, int retry_after_s)
{
	char answer[160];
	int len = snprintf(answer, sizeof(answer), "HTTP/1.1 %d %s\r\nContent-Length: 0\r\n", status,
					   status == 408 ? "Request Timeout" : "Service Unavailable");

	if (status == 503)
		len += snprintf(answer + len, sizeof(answer) - (size_t) len, "Retry-After: %d\r\n",
						retry_after_s);
	len += snprintf(answer + len, sizeof(answer) - (size_t) len, "Connection: close\r\n\r\n");
	(void) send(fd, answer, (size_t) len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* The address as an IPv6 one, for comparing, and for people. */
static void
name_peer(DtmHttpdConnection *connection, const struct sockaddr_storage *peer)
{
	char host[INET6_ADDRSTRLEN] = "?";
	int port = 0;

	if (peer->ss_family == AF_INET6)
	{
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *) peer;

		memcpy(connection->addr, &in6->sin6_addr, 16);
		port = ntohs(in6->sin6_port);
		if (!IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr))
		{
			inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
			snprintf(connection->peer, sizeof(connection->peer), "[%s]:%d", host, port);
			return;
		}
	}
	else if (peer->ss_family == AF_INET)
	{
		const struct sockaddr_in *in = (const struct sockaddr_in *) peer;

		connection->addr[10] = connection->addr[11] = 0xff;
		memcpy(connection->addr + 12, &in->sin_addr, 4);
		port = ntohs(in->sin_port);
	}
	inet_ntop(AF_INET, connection->addr + 12, host, sizeof(host));
	snprintf(connection->peer, sizeof(connection->peer), "%s:%d", host, port);
}

/* More than are allowed from this address? */
static bool
address_is_full(const DtmHttpd *httpd, const DtmHttpdConnection *connection)
{
	int count = 0;

	if (httpd->limits.max_address_connections <= 0)
		return false;
	for (int state = 0; state < DTM_HTTPD_CUT; state++)
	{
		const DtmLink *head = &httpd->connections[state];

		for (const DtmLink *link = head->next; link != head; link = link->next)
		{
			const DtmHttpdConnection *other = dtm_list_entry(link, DtmHttpdConnection, link);

			count += memcmp(other->addr, connection->addr, sizeof(other->addr)) == 0;
		}
	}
	return count >= httpd->limits.max_address_connections;
}

/* Is there a place, perhaps that of the connection which has been idle for longest? */
static bool
make_place(DtmHttpd *httpd)
{
	DtmLink *idle = &httpd->connections[DTM_HTTPD_IDLE];

	if (httpd->n_connections < httpd->limits.max_connections)
		return true;
	if (dtm_list_is_empty(idle))
		return false;
	dtm_httpd_cut(dtm_list_entry(idle->next, DtmHttpdConnection, link));
	return true;
}

/* Read what is there and forget it; false when there is an end to it. */
static bool
skim(int fd)
{
	char bytes[4096];

	for (size_t total = 0; total < MAX_UNREAD; total += sizeof(bytes))
	{
		ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);

		if (n <= 0)
			return n < 0 && (errno == EAGAIN || errno == EINTR);
	}
	return false;
}

static void
end_turned(DtmHttpdTurned *turned)
{
	dtm_loop_forget(turned->httpd->loop, turned->fd);
	close(turned->fd);
	dtm_list_remove(&turned->link);
	turned->httpd->n_turned--;
	free(turned);
}

static void
on_turned(void *context, int fd, uint32_t events)
{
	(void) events;
	if (!skim(fd))
		end_turned(context);
}

void
dtm_httpd_close_turned(DtmHttpd *httpd, int64_t until_us)
{
	while (!dtm_list_is_empty(&httpd->turned))
	{
		DtmHttpdTurned *turned = dtm_list_entry(httpd->turned.next, DtmHttpdTurned, link);

		if (turned->since_us > until_us)
			break;
		end_turned(turned);
	}
}

/*
 * There is no place.  A socket that is closed with bytes unread resets the
 * connection, and the client may never see our answer; so some are kept open
 * until the client closes, or a second.
 */
static void
turn_away(DtmHttpd *httpd, int fd)
{
	DtmHttpdTurned *turned =
		httpd->n_turned < MAX_TURNED ? calloc(1, sizeof(DtmHttpdTurned)) : NULL;

	httpd->n_refused++;
	dtm_httpd_send_raw(fd, 503, httpd->limits.retry_after_s);
	(void) shutdown(fd, SHUT_WR);
	if (turned == NULL || !skim(fd) ||
		dtm_loop_watch(httpd->loop, fd, EPOLLIN, on_turned, turned) != DTM_OK)
	{
		close(fd);
		free(turned);
		return;
	}
	turned->httpd = httpd;
	turned->fd = fd;
	turned->since_us = dtm_httpd_now_us();
	dtm_list_push_tail(&httpd->turned, &turned->link);
	httpd->n_turned++;
}

static void
take_connection(DtmHttpd *httpd, int fd, const struct sockaddr_storage *peer, socklen_t len)
{
	DtmHttpdConnection *connection = calloc(1, sizeof(DtmHttpdConnection));

	if (connection != NULL)
	{
		connection->httpd = httpd;
		connection->fd = fd;
		dtm_list_init(&connection->link);
		name_peer(connection, peer);
	}
	if (connection == NULL || address_is_full(httpd, connection) || !make_place(httpd))
	{
		turn_away(httpd, fd);
		free(connection);
		return;
	}
	httpd->accepting = connection;
	/* it closes the socket itself when it cannot take it */
	if (MHD_add_connection(httpd->daemon, fd, (const struct sockaddr *) peer, len) != MHD_YES)
		httpd->n_refused++;
	/* from 1.0 on libmicrohttpd puts it into a queue, and takes it over when it runs */
	else if (httpd->accepting != NULL)
		(void) MHD_run(httpd->daemon);
	free(httpd->accepting); /* nobody took it over */
	httpd->accepting = NULL;
	httpd->resumed = true;
}

/* Handler of the loop: somebody knocks. */
static void
on_knock(void *context, int fd, uint32_t events)
{
	DtmHttpd *httpd = context;

	(void) events;
	for (int i = 0; i < ACCEPT_AT_ONCE; i++)
	{
		struct sockaddr_storage peer;
		socklen_t len = sizeof(peer);
		int client = accept4(fd, (struct sockaddr *) &peer, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (client >= 0)
			take_connection(httpd, client, &peer, len);
		else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
		{
			/* it stays readable: without a pause we would do nothing else */
			DtmLink *idle = &httpd->connections[DTM_HTTPD_IDLE];

			if (!dtm_list_is_empty(idle))
				dtm_httpd_cut(dtm_list_entry(idle->next, DtmHttpdConnection, link));
			dtm_loop_forget(httpd->loop, fd);
			httpd->accept_at_us = dtm_httpd_now_us() + ACCEPT_PAUSE_US;
			return;
		}
		else if (errno == EAGAIN || errno == EWOULDBLOCK)
			return;
	}
}

DtmRc
dtm_httpd_watch_listener(DtmHttpd *httpd)
{
	httpd->accept_at_us = 0;
	return dtm_loop_watch(httpd->loop, httpd->listen_fd, EPOLLIN, on_knock, httpd);
}

void
dtm_httpd_on_connection(void *context, struct MHD_Connection *mhd, void **socket_context,
						enum MHD_ConnectionNotificationCode toe)
{
	DtmHttpd *httpd = context;
	DtmHttpdConnection *connection = *socket_context;

	if (toe == MHD_CONNECTION_NOTIFY_STARTED)
	{
		connection = httpd->accepting;
		httpd->accepting = NULL;
		*socket_context = connection;
		if (connection == NULL)
			return;
		connection->mhd = mhd;
		connection->state = DTM_HTTPD_IDLE;
		connection->since_us = dtm_httpd_now_us();
		dtm_list_push_tail(&httpd->connections[DTM_HTTPD_IDLE], &connection->link);
		httpd->n_connections++;
		return;
	}
	if (connection == NULL)
		return;
	/* before the descriptor is closed, and its number used again */
	dtm_loop_forget(httpd->loop, connection->fd);
	if (connection->state == DTM_HTTPD_CUT)
		httpd->n_cut--;
	else
		httpd->n_connections--;
	dtm_list_remove(&connection->link);
	free(connection);
	*socket_context = NULL;
}
