/* -------------------------------------------------------------------------
 *
 * test_http_server.h
 *		A service that misbehaves on request, in a thread of the test.
 *
 * The path says what it does:
 *	 /status/409	answers so, with {"status":409}
 *	 /mode			answers with the status in server->mode
 *	 /echo			answers 200 with the request as it came
 *	 /delay/20		answers 200 after 20 ms
 *	 /hang			never answers
 *	 /close			closes without an answer
 *	 /bye			answers 200, then closes
 *	 /half			closes in the middle of an answer
 *	 /garbage		sends a line that is not HTTP
 *	 /big/1000		answers 200 with 1000 bytes and their length
 *	 /chunked/1000	answers 200 with 1000 bytes in chunks
 *	 /heads			sends header lines without end
 *	 /redirect		answers 302 to /status/200
 * A TLS handshake is answered in plain HTTP.
 *
 * Counters are atomic and may be read at any time.
 *
 * -------------------------------------------------------------------------
 */
#ifndef TEST_HTTP_SERVER_H
#define TEST_HTTP_SERVER_H

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "dtm_test.h"

#define SERVER_CLIENTS 300
#define SERVER_REQUEST 8192

typedef struct ServerClient
{
	int fd; /* -1: free */
	char request[SERVER_REQUEST];
	size_t used;
	int64_t answer_at; /* milliseconds; 0 = nothing waits */
	bool busy;         /* a request came and was not answered yet */
} ServerClient;

typedef struct Server
{
	int port;
	int listen_fd;
	int stop[2];
	pthread_t thread;
	atomic_int mode; /* status for /mode */
	atomic_int connections;
	atomic_int requests;
	atomic_int most_at_once;
	int at_once;
	ServerClient clients[SERVER_CLIENTS];
} Server;

static inline int64_t
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static inline void
server_close(Server *server, ServerClient *client)
{
	if (client->busy)
		server->at_once--;
	close(client->fd);
	client->fd = -1;
	client->used = 0;
	client->answer_at = 0;
	client->busy = false;
}

/* False when the client has gone; a slow reader gets two seconds. */
static inline bool
server_send(ServerClient *client, const char *data, size_t len)
{
	while (len > 0)
	{
		ssize_t sent = send(client->fd, data, len, MSG_NOSIGNAL);

		if (sent <= 0)
			return false;
		data += sent;
		len -= (size_t) sent;
	}
	return true;
}

static inline bool __attribute__((format(printf, 2, 3)))
server_sendf(ServerClient *client, const char *format, ...)
{
	char text[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return server_send(client, text, strlen(text));
}

static inline bool
server_answer(Server *server, ServerClient *client, int status, const char *body, size_t len)
{
	client->busy = false;
	client->answer_at = 0;
	server->at_once--;
	return server_sendf(client,
						"HTTP/1.1 %d Said\r\nContent-Length: %zu\r\n"
						"Location: /status/200\r\n\r\n",
						status, len) &&
		server_send(client, body, len);
}

static inline bool
server_send_chunked(ServerClient *client, size_t total)
{
	char block[1000];
	bool ok = server_sendf(client, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");

	memset(block, 'x', sizeof(block));
	for (size_t part; ok && total > 0; total -= part)
	{
		part = total < sizeof(block) ? total : sizeof(block);
		ok = server_sendf(client, "%zx\r\n", part) && server_send(client, block, part) &&
			server_sendf(client, "\r\n");
	}
	return ok && server_sendf(client, "0\r\n\r\n");
}

static inline void
server_send_heads(ServerClient *client)
{
	bool ok = server_sendf(client, "HTTP/1.1 200 OK\r\n");

	for (int i = 0; ok && i < 20000; i++)
		ok = server_sendf(client, "X-%d: 0123456789012345678901234567890\r\n", i);
}

/* One complete request of len bytes.  False: close the connection. */
static inline bool
server_handle(Server *server, ServerClient *client, size_t len)
{
	const char *path = strchr(client->request, ' ') + 1;
	const char *number = strchr(path + 1, '/');
	int n = number ? atoi(number + 1) : 0;
	char body[64];

	server->requests++;
	client->busy = true;
	if (++server->at_once > server->most_at_once)
		server->most_at_once = server->at_once;
	if (strncmp(path, "/mode", 5) == 0)
		n = server->mode;
	if (strncmp(path, "/redirect", 9) == 0)
		n = 302;
	if (strncmp(path, "/hang", 5) == 0)
		return true;
	if (strncmp(path, "/delay/", 7) == 0)
	{
		client->answer_at = now_ms() + n;
		return true;
	}
	if (strncmp(path, "/echo", 5) == 0)
		return server_answer(server, client, 200, client->request, len);
	if (strncmp(path, "/close", 6) == 0)
		return false;
	if (strncmp(path, "/bye", 4) == 0)
	{
		(void) server_answer(server, client, 200, "bye", 3);
		return false;
	}
	if (strncmp(path, "/half", 5) == 0)
	{
		(void) server_sendf(client, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789");
		return false;
	}
	if (strncmp(path, "/garbage", 8) == 0)
	{
		(void) server_sendf(client, "this is another protocol\r\n\r\n");
		return false;
	}
	if (strncmp(path, "/heads", 6) == 0)
	{
		server_send_heads(client);
		return false;
	}
	if (strncmp(path, "/big/", 5) == 0)
	{
		char *block = calloc(1, (size_t) n);
		bool ok = block != NULL && server_answer(server, client, 200, block, (size_t) n);

		free(block);
		return ok;
	}
	if (strncmp(path, "/chunked/", 9) == 0)
	{
		client->busy = false;
		server->at_once--;
		return server_send_chunked(client, (size_t) n);
	}
	snprintf(body, sizeof(body), "{\"status\":%d}", n);
	return server_answer(server, client, n, body, strlen(body));
}

/* Length of the first complete request in the buffer, 0 when it is not complete. */
static inline size_t
server_request_len(const ServerClient *client)
{
	const char *end = strstr(client->request, "\r\n\r\n");
	const char *length = strcasestr(client->request, "\r\ncontent-length:");
	size_t len;

	if (end == NULL)
		return 0;
	len = (size_t) (end + 4 - client->request);
	if (length != NULL && length < end)
		len += strtoul(length + 17, NULL, 10);
	return len <= client->used ? len : 0;
}

static inline void
server_read(Server *server, ServerClient *client)
{
	ssize_t got =
		recv(client->fd, client->request + client->used, SERVER_REQUEST - 1 - client->used, 0);
	size_t len;

	if (got <= 0)
	{
		server_close(server, client);
		return;
	}
	client->used += (size_t) got;
	client->request[client->used] = '\0';
	if (client->request[0] == 0x16) /* TLS says hello */
	{
		(void) server_sendf(client, "HTTP/1.1 400 Bad Request\r\n\r\n");
		server_close(server, client);
		return;
	}
	while ((len = server_request_len(client)) > 0)
	{
		if (!server_handle(server, client, len))
		{
			server_close(server, client);
			return;
		}
		client->used -= len;
		memmove(client->request, client->request + len, client->used + 1);
	}
}

static inline void
server_accept(Server *server)
{
	struct timeval patience = {.tv_sec = 2};
	int fd = accept(server->listen_fd, NULL, NULL);
	int one = 1;

	if (fd < 0)
		return;
	server->connections++;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	for (int i = 0; i < SERVER_CLIENTS; i++)
	{
		if (server->clients[i].fd < 0)
		{
			server->clients[i].fd = fd;
			return;
		}
	}
	close(fd);
}

static inline void *
server_main(void *context)
{
	Server *server = context;
	struct pollfd polled[SERVER_CLIENTS + 2];

	for (;;)
	{
		int timeout = -1;
		int64_t now = now_ms();

		for (int i = 0; i < SERVER_CLIENTS; i++)
		{
			ServerClient *client = &server->clients[i];

			if (client->answer_at != 0 && client->answer_at <= now &&
				!server_answer(server, client, 200, "{}", 2))
				server_close(server, client);
			if (client->answer_at != 0 && (timeout < 0 || client->answer_at - now < timeout))
				timeout = (int) (client->answer_at - now);
			polled[i] = (struct pollfd){.fd = client->fd, .events = POLLIN};
		}
		polled[SERVER_CLIENTS] = (struct pollfd){.fd = server->listen_fd, .events = POLLIN};
		polled[SERVER_CLIENTS + 1] = (struct pollfd){.fd = server->stop[0], .events = POLLIN};
		poll(polled, SERVER_CLIENTS + 2, timeout);
		if (polled[SERVER_CLIENTS + 1].revents)
			return NULL;
		for (int i = 0; i < SERVER_CLIENTS; i++)
		{
			if (polled[i].fd >= 0 && polled[i].revents)
				server_read(server, &server->clients[i]);
		}
		if (polled[SERVER_CLIENTS].revents)
			server_accept(server);
	}
}

/* Bind a free port of 127.0.0.1 and serve it; an IPv6 server cannot be there too. */
static inline Server *
server_start(void)
{
	Server *server = calloc(1, sizeof(Server));
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t len = sizeof(address);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	for (int i = 0; i < SERVER_CLIENTS; i++)
		server->clients[i].fd = -1;
	server->mode = 200;
	server->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(server->listen_fd, (struct sockaddr *) &address, len) < 0 ||
		listen(server->listen_fd, 512) < 0 ||
		getsockname(server->listen_fd, (struct sockaddr *) &address, &len) < 0 ||
		pipe(server->stop) < 0 || pthread_create(&server->thread, NULL, server_main, server) != 0)
	{
		perror("cannot start the test's server");
		exit(1);
	}
	server->port = ntohs(address.sin_port);
	return server;
}

static inline void
server_stop(Server *server)
{
	close(server->stop[1]);
	pthread_join(server->thread, NULL);
	for (int i = 0; i < SERVER_CLIENTS; i++)
	{
		if (server->clients[i].fd >= 0)
			close(server->clients[i].fd);
	}
	close(server->stop[0]);
	close(server->listen_fd);
	free(server);
}

#endif /* TEST_HTTP_SERVER_H */
