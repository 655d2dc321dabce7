/* -------------------------------------------------------------------------
 *
 * submit_loop.c
 *		Submits sagas to the HTTP API as fast as they are answered.
 *
 *		submit_loop PORT CONNECTIONS SECONDS STUB_PORT ROUTE
 *
 * ROUTE is submit, or prepare, after which nothing is called yet.  One thread, one request at a time on each kept-alive connection, each with
 * a gid of its own and three steps that call the stub.  Prints
 * "submits N per_second N p50_ms N p99_ms N errors N"; an answer other than
 * 200 is an error.
 *
 * -------------------------------------------------------------------------
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_CONNECTIONS 1024
#define MAX_SAMPLES 4000000

typedef struct Connection
{
	int			fd;
	char		answer[4096];
	size_t		used;
	int64_t		sent_at;
} Connection;

static Connection connections[MAX_CONNECTIONS];
static uint32_t *samples;
static int	n_samples;
static long serial;
static long errors;
static int	stub_port;
static const char *route;

static int64_t
now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void
fail(const char *what)
{
	perror(what);
	exit(1);
}

static void
send_one(Connection *c)
{
	static const char *const names[] = {"stock", "pay", "ship"};
	char		body[2048];
	char		request[4096];
	int			len;

	len = snprintf(body, sizeof(body), "{\"gid\":\"bench-%d-%ld\",\"trans_type\":\"saga\",\"steps\":[",
				   (int) getpid(), ++serial);
	for (int i = 0; i < 3; i++)
		len += snprintf(body + len, sizeof(body) - len,
						"%s{\"action\":\"http://127.0.0.1:%d/%s\",\"compensate\":\"http://127.0.0.1:%d/%s-undo\"}",
						i > 0 ? "," : "", stub_port, names[i], stub_port, names[i]);
	len += snprintf(body + len, sizeof(body) - len,
					"],\"payloads\":[\"{\\\"sku\\\":\\\"A1\\\",\\\"qty\\\":2}\","
					"\"{\\\"order\\\":1001,\\\"amount\\\":30}\",\"{\\\"order\\\":1001}\"]}");
	len = snprintf(request, sizeof(request),
				   "POST /api/dtmsvr/%s HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
				   "Content-Length: %d\r\n\r\n%s", route, len, body);
	c->used = 0;
	c->sent_at = now_us();
	if (write(c->fd, request, len) != len)
		fail("write");
}

/* True when an answer is complete; it is a short one with Content-Length. */
static int
is_complete(Connection *c)
{
	char	   *body;
	char	   *length;

	c->answer[c->used] = '\0';
	body = strstr(c->answer, "\r\n\r\n");
	length = strcasestr(c->answer, "content-length:");
	return body != NULL && length != NULL && length < body &&
		c->used >= (size_t) (body + 4 - c->answer) + strtoul(length + 15, NULL, 10);
}

static int
by_size(const void *a, const void *b)
{
	uint32_t	x = *(const uint32_t *) a;
	uint32_t	y = *(const uint32_t *) b;

	return x < y ? -1 : x > y;
}

int
main(int argc, char **argv)
{
	int			n = argc == 6 ? atoi(argv[2]) : 0;
	int			epoll = epoll_create1(0);
	struct sockaddr_in address = {.sin_family = AF_INET};
	int64_t		begin;
	int64_t		end;

	if (n < 1 || n > MAX_CONNECTIONS)
	{
		fprintf(stderr, "usage: submit_loop PORT CONNECTIONS SECONDS STUB_PORT ROUTE\n");
		return 2;
	}
	address.sin_port = htons(atoi(argv[1]));
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	stub_port = atoi(argv[4]);
	route = argv[5];
	samples = malloc(MAX_SAMPLES * sizeof(*samples));
	for (int i = 0; i < n; i++)
	{
		int			one = 1;
		struct epoll_event event = {.events = EPOLLIN, .data.ptr = &connections[i]};

		connections[i].fd = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(connections[i].fd, (struct sockaddr *) &address, sizeof(address)) != 0)
			fail("connect");
		setsockopt(connections[i].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		epoll_ctl(epoll, EPOLL_CTL_ADD, connections[i].fd, &event);
	}
	begin = now_us();
	end = begin + atoll(argv[3]) * 1000000;
	for (int i = 0; i < n; i++)
		send_one(&connections[i]);
	while (now_us() < end)
	{
		struct epoll_event events[256];
		int			ready = epoll_wait(epoll, events, 256, 1000);

		for (int i = 0; i < ready; i++)
		{
			Connection *c = events[i].data.ptr;
			ssize_t		got = read(c->fd, c->answer + c->used, sizeof(c->answer) - 1 - c->used);

			if (got <= 0)
				fail("the connection was closed");
			c->used += got;
			if (!is_complete(c))
				continue;
			if (strncmp(c->answer, "HTTP/1.1 200", 12) != 0)
				errors++;
			if (n_samples < MAX_SAMPLES)
				samples[n_samples++] = (uint32_t) (now_us() - c->sent_at);
			send_one(c);
		}
	}
	end = now_us();
	qsort(samples, n_samples, sizeof(*samples), by_size);
	printf("submits %d per_second %.0f p50_ms %.2f p99_ms %.2f errors %ld\n", n_samples,
		   n_samples * 1e6 / (end - begin), n_samples > 0 ? samples[n_samples / 2] / 1000.0 : 0,
		   n_samples > 0 ? samples[(int) (n_samples * 0.99)] / 1000.0 : 0, errors);
	return errors > 0;
}
