/* -------------------------------------------------------------------------
 *
 * test_pq_server.h
 *		A PostgreSQL server that says what a test wants, in the test's own
 *		thread: as much of the protocol as test_pq.c needs.
 *
 * Each simple query is remembered and answered by the test's function, which
 * appends messages; without ready() at their end the client goes on waiting.
 *
 * -------------------------------------------------------------------------
 */
#ifndef TEST_PQ_SERVER_H
#define TEST_PQ_SERVER_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dtm_test.h"

#define SERVER_CLIENTS 16
#define SERVER_QUERIES 64
#define SERVER_BUFFER 65536

typedef struct PqServer PqServer;

typedef struct PqClient
{
	PqServer *server;
	int fd; /* -1: free */
	bool started;
	bool hang_up; /* after what was said */
	char in[SERVER_BUFFER];
	size_t in_len;
	char out[SERVER_BUFFER];
	size_t out_len;
} PqClient;

struct PqServer
{
	int fd;
	int port;
	int accepted;
	bool deaf;         /* does not answer the startup packet */
	bool full;         /* ... or takes no more connections */
	bool ask_password; /* and takes any */
	void (*answer)(PqClient *client, const char *query);
	PqClient clients[SERVER_CLIENTS];
	char *queries[SERVER_QUERIES];
	int n_queries;
};

/* On the port of last time, if there was one. */
static inline void
server_listen(PqServer *server)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t len = sizeof(address);
	int on = 1;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	address.sin_port = htons((uint16_t) server->port);
	server->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	CHECK_INT(setsockopt(server->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
	CHECK_INT(bind(server->fd, (struct sockaddr *) &address, sizeof(address)), 0);
	CHECK_INT(listen(server->fd, 16), 0);
	CHECK_INT(getsockname(server->fd, (struct sockaddr *) &address, &len), 0);
	server->port = ntohs(address.sin_port);
}

static inline void
server_open(PqServer *server)
{
	memset(server, 0, sizeof(*server));
	server_listen(server);
	for (int i = 0; i < SERVER_CLIENTS; i++)
	{
		server->clients[i].fd = -1;
		server->clients[i].server = server;
	}
}

static inline void
server_forget_queries(PqServer *server)
{
	for (int i = 0; i < server->n_queries; i++)
		free(server->queries[i]);
	server->n_queries = 0;
}

/* All connections end; with stop also no further one is taken. */
static inline void
server_hang_up(PqServer *server, bool stop)
{
	for (int i = 0; i < SERVER_CLIENTS; i++)
	{
		if (server->clients[i].fd >= 0)
			close(server->clients[i].fd);
		server->clients[i].fd = -1;
	}
	if (stop)
	{
		close(server->fd);
		server_forget_queries(server);
	}
}

static inline int
server_connections(const PqServer *server)
{
	int n = 0;

	for (int i = 0; i < SERVER_CLIENTS; i++)
		n += server->clients[i].fd >= 0;
	return n;
}

/* ---- what a server says ---- */

static inline void
say(PqClient *client, char type, const void *body, size_t len)
{
	uint32_t size = htonl((uint32_t) len + 4);

	client->out[client->out_len++] = type;
	memcpy(client->out + client->out_len, &size, 4);
	memcpy(client->out + client->out_len + 4, body, len);
	client->out_len += len + 4;
}

static inline void TEST_UNUSED
ready(PqClient *client, char state)
{
	say(client, 'Z', &state, 1);
}

static inline void TEST_UNUSED
complete(PqClient *client, const char *tag)
{
	say(client, 'C', tag, strlen(tag) + 1);
}

static inline void TEST_UNUSED
parameter(PqClient *client, const char *name, const char *value)
{
	char body[256];
	int len = snprintf(body, sizeof(body), "%s%c%s", name, 0, value);

	say(client, 'S', body, (size_t) len + 1);
}

/* Rows of one text column, as many as there are values before a NULL. */
static inline void TEST_UNUSED
rows(PqClient *client, const char *value, ...)
{
	static const char head[] =
		{0,           1,           'c',         0,           0, 0,  0,           0,
		 0,           0,           0,           0,           0, 25, (char) 0xFF, (char) 0xFF,
		 (char) 0xFF, (char) 0xFF, (char) 0xFF, (char) 0xFF, 0, 0};
	va_list args;

	say(client, 'T', head, sizeof(head));
	va_start(args, value);
	for (; value != NULL; value = va_arg(args, const char *))
	{
		char body[1024] = {0, 1};
		uint32_t len = htonl((uint32_t) strlen(value));

		memcpy(body + 2, &len, 4);
		memcpy(body + 6, value, strlen(value));
		say(client, 'D', body, 6 + strlen(value));
	}
	va_end(args);
	complete(client, "SELECT 1");
}

static inline void TEST_UNUSED
error(PqClient *client, const char *severity, const char *state, const char *message,
	  const char *detail, const char *where)
{
	char body[4096];
	int len = snprintf(body, sizeof(body), "S%s%cC%s%cM%s%cD%s%cW%s%c", severity, 0, state, 0,
					   message, 0, detail, 0, where, 0);

	say(client, 'E', body, (size_t) len + 1);
}

/* ---- what it does ---- */

static inline void
welcome(PqClient *client)
{
	uint32_t ok = 0;

	say(client, 'R', &ok, 4);
	parameter(client, "client_encoding", "UTF8");
	parameter(client, "standard_conforming_strings", "on");
	parameter(client, "server_version", "15.1");
	ready(client, 'I');
	client->started = true;
}

/* One message of the client; the bytes it took, 0 when it is not there as a whole. */
static inline size_t
take_message(PqClient *client)
{
	PqServer *server = client->server;
	size_t head = client->started || client->in[0] == 'p' ? 1 : 0;
	uint32_t size;

	if (client->in_len < head + 4)
		return 0;
	memcpy(&size, client->in + head, 4);
	size = ntohl(size);
	if (client->in_len < head + size)
		return 0;
	if (head == 0 && server->ask_password)
	{
		uint32_t cleartext = htonl(3);

		say(client, 'R', &cleartext, 4);
	}
	else if (!client->started && server->full)
	{
		error(client, "FATAL", "53300", "sorry, too many clients already", "", "");
		client->hang_up = true;
	}
	else if (!client->started && !server->deaf)
		welcome(client);
	else if (client->in[0] == 'Q')
	{
		if (server->n_queries < SERVER_QUERIES)
			server->queries[server->n_queries++] = strdup(client->in + 5);
		server->answer(client, client->in + 5);
	}
	return head + size;
}

static inline void
serve_one(PqClient *client)
{
	size_t taken;
	ssize_t n = recv(client->fd, client->in + client->in_len, SERVER_BUFFER - client->in_len, 0);

	if (n == 0 || (n < 0 && errno != EAGAIN))
	{
		close(client->fd);
		client->fd = -1;
		return;
	}
	client->in_len += n > 0 ? (size_t) n : 0;
	while ((taken = take_message(client)) > 0)
	{
		memmove(client->in, client->in + taken, client->in_len - taken);
		client->in_len -= taken;
	}
	if (client->out_len > 0)
		CHECK_INT(send(client->fd, client->out, client->out_len, MSG_NOSIGNAL), client->out_len);
	client->out_len = 0;
	if (client->hang_up)
	{
		close(client->fd);
		client->fd = -1;
	}
}

/* All that there is to do now. */
static inline void
server_work(PqServer *server)
{
	int fd = accept4(server->fd, NULL, NULL, SOCK_NONBLOCK);

	for (int i = 0; i < SERVER_CLIENTS; i++)
	{
		PqClient *client = &server->clients[i];

		if (client->fd < 0 && fd >= 0)
		{
			client->fd = fd;
			client->started = client->hang_up = false;
			client->in_len = client->out_len = 0;
			server->accepted++;
			fd = -1;
		}
		if (client->fd >= 0)
			serve_one(client);
	}
	CHECK(fd < 0);
}

#endif /* TEST_PQ_SERVER_H */
