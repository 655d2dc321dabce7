/* -------------------------------------------------------------------------
 *
 * test_httpd_peer.h
 *		What the tests of the HTTP server share: a server in the test's own
 *		thread, and clients that are sockets, so that they can be as rude as a
 *		test needs them.
 *
 * -------------------------------------------------------------------------
 */
#ifndef TEST_HTTPD_PEER_H
#define TEST_HTTPD_PEER_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "dtm_httpd.h"
#include "dtm_test.h"

#define PATIENCE_MS 10000 /* for what must happen */

static inline int64_t
peer_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static inline DtmHttpdLimits
httpd_limits(void)
{
	return (DtmHttpdLimits){.max_head = 32768,
							.max_body = 65536,
							.max_bodies = 1048576,
							.max_connections = 100,
							.max_queue = 100,
							.idle_ms = 60000,
							.read_ms = 60000,
							.write_ms = 60000,
							.retry_after_s = 7};
}

static inline DtmHttpd *
httpd_open(const DtmHttpdLimits *limits)
{
	char error[200] = "";
	DtmHttpd *httpd =
		dtm_httpd_open("127.0.0.1", 0, DTM_HTTPD_FIRST, limits, NULL, error, sizeof(error));

	if (httpd == NULL)
	{
		printf("cannot open a server: %s\n", error);
		exit(1);
	}
	return httpd;
}

/* One turn of the loop. */
static inline void
turn(DtmHttpd *httpd, int max_ms)
{
	struct pollfd ready = {.fd = dtm_httpd_fd(httpd), .events = POLLIN};
	int timeout = dtm_httpd_timeout_ms(httpd);

	poll(&ready, 1, timeout < 0 || timeout > max_ms ? max_ms : timeout);
	dtm_httpd_dispatch(httpd);
}

/* The next request, waited for. */
#define take(httpd) take_at((httpd), __LINE__)

static inline DtmHttpdRequest *
take_at(DtmHttpd *httpd, int line)
{
	int64_t end = peer_now_ms() + PATIENCE_MS;
	DtmHttpdRequest *request;

	while ((request = dtm_httpd_next_request(httpd)) == NULL && peer_now_ms() < end)
		turn(httpd, 10);
	if (!CHECK(request != NULL))
	{
		printf("    no request came, line %d\n", line);
		exit(1);
	}
	return request;
}

static inline void
reply(DtmHttpd *httpd, DtmHttpdRequest *request, const char *body)
{
	CHECK_INT(dtm_httpd_answer(httpd, request, 200, "text/plain", body, strlen(body)), DTM_OK);
}

static inline int
dial(const DtmHttpd *httpd)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
								  .sin_port = htons((uint16_t) dtm_httpd_port(httpd))};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (connect(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
	{
		perror("cannot connect to the test's server");
		exit(1);
	}
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

/* Say it all, with the server running meanwhile; false when it has hung up. */
static inline bool
say_bytes(DtmHttpd *httpd, int fd, const char *data, size_t len)
{
	int64_t end = peer_now_ms() + PATIENCE_MS;

	while (len > 0 && peer_now_ms() < end)
	{
		ssize_t sent = send(fd, data, len, MSG_NOSIGNAL);

		if (sent > 0)
		{
			data += sent;
			len -= (size_t) sent;
		}
		else if (errno != EAGAIN)
			return false;
		else
			turn(httpd, 1);
	}
	return len == 0;
}

static inline bool
say(DtmHttpd *httpd, int fd, const char *data)
{
	return say_bytes(httpd, fd, data, strlen(data));
}

typedef struct Heard
{
	char data[16384];
	size_t len;
	bool closed;
} Heard;

/* Listen until "until" (NULL: the end of the connection) was heard, or it cannot be any more. */
static inline Heard *
hear(DtmHttpd *httpd, int fd, const char *until)
{
	static Heard heard;
	int64_t end = peer_now_ms() + PATIENCE_MS;

	memset(&heard, 0, sizeof(heard));
	while (!heard.closed && peer_now_ms() < end &&
		   (until == NULL || strstr(heard.data, until) == NULL))
	{
		ssize_t got = recv(fd, heard.data + heard.len, sizeof(heard.data) - 1 - heard.len, 0);

		if (got > 0)
			heard.len += (size_t) got;
		else if (got == 0 || errno != EAGAIN)
			heard.closed = true;
		else
			turn(httpd, 5);
	}
	return &heard;
}

/* Nothing is there yet. */
static inline bool
silent(int fd)
{
	char byte;

	return recv(fd, &byte, 1, MSG_PEEK) < 0 && errno == EAGAIN;
}

#define CHECK_HEARD(httpd, fd, until) \
	CHECK(strstr(hear((httpd), (fd), (until))->data, (until)) != NULL)

/* Turns until the server has no connection more than this. */
static inline bool
settle(DtmHttpd *httpd, int connections)
{
	int64_t end = peer_now_ms() + PATIENCE_MS;

	while (dtm_httpd_counts(httpd).connections > connections && peer_now_ms() < end)
		turn(httpd, 5);
	return dtm_httpd_counts(httpd).connections <= connections;
}

#endif /* TEST_HTTPD_PEER_H */
