/* -------------------------------------------------------------------------
 *
 * stub.c
 *		The service that benchmarks call: HTTP/1.1 with keep-alive, answers
 *		200 {"dtm_result":"SUCCESS"} to any request.
 *
 *		stub PORT [DELAY_MS]
 *
 * One thread, one epoll descriptor, so that it costs as little as possible
 * beside what is measured.  It understands Content-Length and pipelined
 * requests; no chunked bodies, no request larger than BUFFER_SIZE but for
 * its body.  SIGTERM or SIGINT ends it and prints "requests N connections M".
 *
 * -------------------------------------------------------------------------
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BUFFER_SIZE 16384
#define MAX_FDS 65536
#define MAX_EVENTS 256

static const char answer[] = "HTTP/1.1 200 OK\r\n"
							 "Content-Type: application/json\r\n"
							 "Content-Length: 24\r\n"
							 "\r\n"
							 "{\"dtm_result\":\"SUCCESS\"}";

/* A client.  Waiting answers form one queue, as the delay is the same for all. */
typedef struct Client
{
	char		buffer[BUFFER_SIZE];
	size_t		used;
	size_t		body_left;		/* bytes of the current body still to come */
	uint32_t	generation;
} Client;

typedef struct Waiting
{
	int			fd;
	uint32_t	generation;
	int64_t		due_us;
} Waiting;

static Client *clients[MAX_FDS];
static Waiting *waiting;
static size_t waiting_size;
static size_t waiting_head;
static size_t waiting_count;
static int64_t delay_us;
static uint64_t requests;
static uint64_t connections;
static volatile sig_atomic_t stopped;

static void
on_stop(int signal_number)
{
	(void) signal_number;
	stopped = 1;
}

static int64_t
now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void
drop_client(int fd)
{
	clients[fd]->generation++;
	clients[fd]->used = 0;
	clients[fd]->body_left = 0;
	close(fd);
}

/* Put one answer at the end of the queue of delayed ones. */
static void
wait_answer(int fd)
{
	Waiting    *entry;

	if (waiting_count == waiting_size)
	{
		size_t		size = waiting_size ? waiting_size * 2 : 1024;
		Waiting    *grown = malloc(size * sizeof(Waiting));

		if (grown == NULL)
			exit(1);
		for (size_t i = 0; i < waiting_count; i++)
			grown[i] = waiting[(waiting_head + i) % waiting_size];
		free(waiting);
		waiting = grown;
		waiting_size = size;
		waiting_head = 0;
	}
	entry = &waiting[(waiting_head + waiting_count++) % waiting_size];
	entry->fd = fd;
	entry->generation = clients[fd]->generation;
	entry->due_us = now_us() + delay_us;
}

/* The socket's buffer takes an answer of 100 bytes unless the client never reads. */
static bool
send_answer(int fd)
{
	return send(fd, answer, sizeof(answer) - 1, MSG_NOSIGNAL) == (ssize_t) sizeof(answer) - 1;
}

/* Milliseconds until the next delayed answer, -1 when there is none. */
static int
send_due(void)
{
	while (waiting_count > 0)
	{
		Waiting    *entry = &waiting[waiting_head];
		int64_t		left = entry->due_us - now_us();

		if (left > 0)
			return (int) (left / 1000) + 1;
		if (clients[entry->fd]->generation == entry->generation && !send_answer(entry->fd))
			drop_client(entry->fd);
		waiting_head = (waiting_head + 1) % waiting_size;
		waiting_count--;
	}
	return -1;
}

/* Length of the body announced in a header block of len bytes. */
static size_t
content_length(const char *block, size_t len)
{
	static const char name[] = "\ncontent-length:";
	const char *end = block + len;

	for (const char *p = block; (p = memchr(p, '\n', (size_t) (end - p))) != NULL; p++)
	{
		if ((size_t) (end - p) > sizeof(name) && strncasecmp(p, name, sizeof(name) - 1) == 0)
			return strtoul(p + sizeof(name) - 1, NULL, 10);
	}
	return 0;
}

/* Take complete requests out of the buffer.  False: give the client up. */
static bool
take_requests(int fd, Client *client)
{
	size_t		start = 0;

	for (;;)
	{
		size_t		here = client->used - start;
		char	   *end;

		if (client->body_left > 0)
		{
			size_t		part = here < client->body_left ? here : client->body_left;

			client->body_left -= part;
			start += part;
			if (client->body_left > 0)
				break;
		}
		else
		{
			end = memmem(client->buffer + start, here, "\r\n\r\n", 4);
			if (end == NULL)
			{
				if (here == BUFFER_SIZE)
					return false;
				break;
			}
			end += 4;
			client->body_left = content_length(client->buffer + start,
											   (size_t) (end - client->buffer) - start);
			start = (size_t) (end - client->buffer);
			if (client->body_left > 0)
				continue;
		}
		requests++;
		if (delay_us > 0)
			wait_answer(fd);
		else if (!send_answer(fd))
			return false;
	}
	client->used -= start;
	memmove(client->buffer, client->buffer + start, client->used);
	return true;
}

static void
on_readable(int fd)
{
	Client	   *client = clients[fd];
	ssize_t		got = recv(fd, client->buffer + client->used, BUFFER_SIZE - client->used, 0);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got > 0)
	{
		client->used += (size_t) got;
		if (take_requests(fd, client))
			return;
	}
	drop_client(fd);
}

static void
accept_all(int epoll_fd, int listen_fd)
{
	for (;;)
	{
		int			one = 1;
		int			fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

		if (fd < 0)
			return;
		if (fd < MAX_FDS && clients[fd] == NULL)
			clients[fd] = calloc(1, sizeof(Client));
		if (fd >= MAX_FDS || clients[fd] == NULL)
		{
			close(fd);
			return;
		}
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
		connections++;
	}
}

static int
listen_on(int port)
{
	int			one = 1;
	int			fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t) port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)
	};

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
		bind(fd, (struct sockaddr *) &address, sizeof(address)) < 0 || listen(fd, 1024) < 0)
	{
		perror("stub: cannot listen");
		exit(1);
	}
	return fd;
}

int
main(int argc, char **argv)
{
	struct epoll_event events[MAX_EVENTS];
	struct epoll_event event = {.events = EPOLLIN};
	struct sigaction action = {.sa_handler = on_stop};
	int			epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	int			listen_fd;

	if (argc < 2 || argc > 3 || epoll_fd < 0)
	{
		fprintf(stderr, "usage: stub PORT [DELAY_MS]\n");
		return 2;
	}
	delay_us = argc == 3 ? atoll(argv[2]) * 1000 : 0;
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	listen_fd = listen_on(atoi(argv[1]));
	event.data.fd = listen_fd;
	epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listen_fd, &event);

	while (!stopped)
	{
		int			count = epoll_wait(epoll_fd, events, MAX_EVENTS, send_due());

		for (int i = 0; i < count; i++)
		{
			if (events[i].data.fd == listen_fd)
				accept_all(epoll_fd, listen_fd);
			else
				on_readable(events[i].data.fd);
		}
	}
	printf("requests %llu connections %llu\n", (unsigned long long) requests,
		   (unsigned long long) connections);
	return 0;
}
