/* -------------------------------------------------------------------------
 *
 * test_httpd_limits.c
 *		The HTTP server and clients that want too much: too long, too slow,
 *		too many, or no HTTP at all.
 *
 * After each of them a polite client is served, and nothing is left.
 *
 * -------------------------------------------------------------------------
 */
#include "test_httpd_peer.h"

#define GET "GET /a HTTP/1.1\r\nHost: h\r\n\r\n"

static bool
begins(const Heard *heard, const char *start)
{
	bool same = strncmp(heard->data, start, strlen(start)) == 0;

	if (!same)
		printf("    heard \"%.100s\"\n", heard->data);
	return same;
}

/* Somebody else is served, as if nothing was. */
static void
check_alive(DtmHttpd *httpd)
{
	int fd = dial(httpd);
	DtmHttpdRequest *request;

	CHECK(say(httpd, fd, "POST /ok HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"));
	request = take(httpd);
	CHECK_STR(request->uri, "/ok");
	reply(httpd, request, "alive");
	CHECK_HEARD(httpd, fd, "alive");
	close(fd);
	CHECK(settle(httpd, 0));
	CHECK_INT(dtm_httpd_counts(httpd).bodies, 0);
	CHECK_INT(dtm_httpd_counts(httpd).queued, 0);
}

static void
test_body(void)
{
	DtmHttpdLimits limits = httpd_limits();
	DtmHttpd *httpd;
	DtmHttpdRequest *request;
	char *big = malloc(70000);
	int fd;

	limits.max_body = 1000;
	httpd = httpd_open(&limits);
	memset(big, 'x', 70000);

	/* announced: refused before it is sent */
	fd = dial(httpd);
	CHECK(say(httpd, fd,
			  "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\nExpect: "
			  "100-continue\r\n\r\n"));
	CHECK(begins(hear(httpd, fd, "too large"), "HTTP/1.1 413 "));
	close(fd);

	/* announced without asking: read, so that the answer arrives */
	fd = dial(httpd);
	CHECK(say(httpd, fd, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 60000\r\n\r\n"));
	CHECK(say_bytes(httpd, fd, big, 60000));
	CHECK(begins(hear(httpd, fd, "too large"), "HTTP/1.1 413 "));
	CHECK(say(httpd, fd, GET));
	reply(httpd, take(httpd), "kept");
	CHECK_HEARD(httpd, fd, "kept");
	close(fd);

	/* but not if it is far too long */
	fd = dial(httpd);
	CHECK(say(httpd, fd, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9000000\r\n\r\n"));
	CHECK(begins(hear(httpd, fd, "too large"), "HTTP/1.1 413 "));
	close(fd);

	/* exactly as long as it may be, in pieces, after a "100 Continue" */
	fd = dial(httpd);
	CHECK(say(httpd, fd,
			  "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\nExpect: "
			  "100-continue\r\n\r\n"));
	CHECK(begins(hear(httpd, fd, "\r\n\r\n"), "HTTP/1.1 100 "));
	for (int i = 0; i < 10; i++)
	{
		CHECK(say_bytes(httpd, fd, big, 100));
		turn(httpd, 1);
	}
	request = take(httpd);
	CHECK_INT(request->body_len, 1000);
	CHECK_INT(strlen(request->body), 1000);
	reply(httpd, request, "fine");
	CHECK_HEARD(httpd, fd, "fine");

	/* not announced: read on, and refused at its end; then the connection is as good as new */
	CHECK(say(httpd, fd, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n"));
	CHECK(say_bytes(httpd, fd, big, 1000));
	CHECK(say(httpd, fd, "\r\n1\r\nx\r\n0\r\n\r\n"));
	CHECK(begins(hear(httpd, fd, "too large"), "HTTP/1.1 413 "));
	CHECK(say(httpd, fd, GET));
	reply(httpd, take(httpd), "again");
	CHECK_HEARD(httpd, fd, "again");

	/* one without end is not read for ever */
	CHECK(say(httpd, fd,
			  "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n"));
	for (int i = 0; i < 1000 && say_bytes(httpd, fd, big, 70000); i++)
		turn(httpd, 1);
	CHECK(hear(httpd, fd, NULL)->closed);
	close(fd);
	CHECK_INT(dtm_httpd_counts(httpd).refused, 4);
	check_alive(httpd);

	/* a larger limit counts at once */
	limits.max_body = 70000;
	dtm_httpd_set_limits(httpd, &limits);
	fd = dial(httpd);
	CHECK(say(httpd, fd, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 70000\r\n\r\n"));
	CHECK(say_bytes(httpd, fd, big, 70000));
	request = take(httpd);
	CHECK_INT(request->body_len, 70000);
	reply(httpd, request, "fine");
	CHECK_HEARD(httpd, fd, "fine");

	/* all bodies together */
	limits.max_bodies = 100000;
	dtm_httpd_set_limits(httpd, &limits);
	CHECK(say(httpd, fd, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 60000\r\n\r\n"));
	CHECK(say_bytes(httpd, fd, big, 60000));
	request = take(httpd);
	{
		int other = dial(httpd);
		Heard *heard;

		CHECK(say(httpd, other, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 60000\r\n\r\n"));
		CHECK(say_bytes(httpd, other, big, 60000));
		heard = hear(httpd, other, "try again later");
		CHECK(begins(heard, "HTTP/1.1 503 "));
		CHECK(strstr(heard->data, "Retry-After: 7\r\n") != NULL);
		CHECK(dtm_httpd_counts(httpd).bodies <= 100000);
		reply(httpd, request, "fine");
		CHECK_HEARD(httpd, fd, "fine");
		CHECK(say(httpd, other, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 60000\r\n\r\n"));
		CHECK(say_bytes(httpd, other, big, 60000));
		reply(httpd, take(httpd), "now");
		CHECK_HEARD(httpd, other, "now");
		close(other);
	}
	close(fd);
	check_alive(httpd);
	dtm_httpd_close(httpd);
	free(big);
}

static void
test_head(void)
{
	DtmHttpdLimits limits = httpd_limits();
	DtmHttpd *httpd;
	char *uri = malloc(20000);
	int fd;

	limits.max_head = 4096;
	httpd = httpd_open(&limits);
	memset(uri, 'u', 19999);
	uri[0] = '/';
	uri[19999] = '\0';

	fd = dial(httpd);
	CHECK(say(httpd, fd, "GET "));
	(void) say(httpd, fd, uri);
	(void) say(httpd, fd, " HTTP/1.1\r\nHost: h\r\n\r\n");
	CHECK(begins(hear(httpd, fd, NULL), "HTTP/1.1 414 "));
	close(fd);

	fd = dial(httpd);
	CHECK(say(httpd, fd, "GET / HTTP/1.1\r\nHost: h\r\nX-Long: "));
	(void) say(httpd, fd, uri);
	(void) say(httpd, fd, "\r\n\r\n");
	CHECK(begins(hear(httpd, fd, NULL), "HTTP/1.1 431 "));
	close(fd);

	fd = dial(httpd);
	CHECK(say(httpd, fd, "GET / HTTP/1.1\r\nHost: h\r\n"));
	for (int i = 0; i < 1000 && say(httpd, fd, "X-Many: 1\r\n"); i++)
		turn(httpd, 0);
	CHECK(hear(httpd, fd, NULL)->closed);
	close(fd);
	CHECK(dtm_httpd_next_request(httpd) == NULL);
	check_alive(httpd);
	dtm_httpd_close(httpd);
	free(uri);
}

/* More requests than the owner fetches. */
static void
test_queue(void)
{
	DtmHttpdLimits limits = httpd_limits();
	DtmHttpd *httpd;
	int fds[3];

	limits.max_queue = 2;
	httpd = httpd_open(&limits);
	for (int i = 0; i < 3; i++)
	{
		fds[i] = dial(httpd);
		CHECK(say(httpd, fds[i], GET));
		for (int k = 0; k < 1000 && dtm_httpd_counts(httpd).queued < (i < 2 ? i + 1 : 2); k++)
			turn(httpd, 10);
	}
	CHECK(begins(hear(httpd, fds[2], "later"), "HTTP/1.1 503 "));
	CHECK_INT(dtm_httpd_counts(httpd).queued, 2);
	reply(httpd, take(httpd), "first");
	CHECK_HEARD(httpd, fds[0], "first");
	CHECK(say(httpd, fds[2], GET)); /* it is still connected, and now there is a place */
	reply(httpd, take(httpd), "second");
	reply(httpd, take(httpd), "third");
	CHECK_HEARD(httpd, fds[1], "second");
	CHECK_HEARD(httpd, fds[2], "third");
	for (int i = 0; i < 3; i++)
		close(fds[i]);
	check_alive(httpd);
	dtm_httpd_close(httpd);
}

static void
test_connections(void)
{
	DtmHttpdLimits limits = httpd_limits();
	DtmHttpd *httpd;
	DtmHttpdRequest *requests[3];
	int fds[4];
	int fd;

	limits.max_connections = 3;
	httpd = httpd_open(&limits);
	for (int i = 0; i < 4; i++)
	{
		fds[i] = dial(httpd);
		for (int k = 0; k < 3; k++)
			turn(httpd, 5);
	}
	/* the one that was idle for longest made place */
	CHECK(hear(httpd, fds[0], NULL)->closed);
	CHECK(settle(httpd, 3));
	for (int i = 0; i < 3; i++)
	{
		CHECK(say(httpd, fds[i + 1], GET));
		requests[i] = take(httpd);
	}
	/* now nobody can */
	fd = dial(httpd);
	CHECK(begins(hear(httpd, fd, NULL), "HTTP/1.1 503 "));
	close(fd);
	CHECK_INT(dtm_httpd_counts(httpd).refused, 1);
	reply(httpd, requests[0], "fine");
	CHECK_HEARD(httpd, fds[1], "fine");
	fd = dial(httpd);
	CHECK(say(httpd, fd, GET));
	reply(httpd, take(httpd), "next");
	CHECK_HEARD(httpd, fd, "next");
	reply(httpd, requests[1], "fine");
	reply(httpd, requests[2], "fine");
	CHECK_HEARD(httpd, fds[3], "fine");

	/* from one address */
	limits.max_connections = 100;
	limits.max_address_connections = 4;
	dtm_httpd_set_limits(httpd, &limits);
	close(fds[0]);
	fds[0] = dial(httpd);
	CHECK(say(httpd, fds[0], GET));
	reply(httpd, take(httpd), "fourth");
	CHECK_HEARD(httpd, fds[0], "fourth");
	CHECK(hear(httpd, fds[1], NULL)->closed); /* made place for "next" */
	close(fds[1]);
	fds[1] = dial(httpd);
	CHECK(say(httpd, fds[1], GET));
	CHECK(begins(hear(httpd, fds[1], NULL), "HTTP/1.1 503 "));
	for (int i = 0; i < 4; i++)
		close(fds[i]);
	close(fd);
	CHECK(settle(httpd, 0));
	check_alive(httpd);
	dtm_httpd_close(httpd);
}

static void
test_slow(void)
{
	DtmHttpdLimits limits = httpd_limits();
	DtmHttpd *httpd;
	Heard *heard;
	DtmHttpdRequest *request;
	static char big[8 * 1024 * 1024];
	int small = 4096;
	int64_t begun;
	int fd;

	limits.read_ms = 150;
	limits.idle_ms = 150;
	limits.write_ms = 150;
	httpd = httpd_open(&limits);

	/* a byte now and then does not help */
	fd = dial(httpd);
	begun = peer_now_ms();
	CHECK(say(httpd, fd, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 60000\r\n\r\n"));
	while (silent(fd) && peer_now_ms() < begun + PATIENCE_MS)
	{
		(void) say(httpd, fd, "x");
		poll(NULL, 0, 2);
		turn(httpd, 5);
	}
	heard = hear(httpd, fd, NULL);
	CHECK(begins(heard, "HTTP/1.1 408 "));
	CHECK(strstr(heard->data, "Connection: close") != NULL && heard->closed);
	CHECK(peer_now_ms() - begun >= 150);
	close(fd);

	/* nor in the headers, nor in front of them */
	fd = dial(httpd);
	CHECK(say(httpd, fd, "GET / HTTP/1.1\r\nHost: h\r\nX-"));
	while (silent(fd) && peer_now_ms() < begun + PATIENCE_MS)
	{
		(void) say(httpd, fd, "x");
		poll(NULL, 0, 2);
		turn(httpd, 5);
	}
	CHECK(begins(hear(httpd, fd, NULL), "HTTP/1.1 408 "));
	close(fd);
	fd = dial(httpd);
	CHECK(say(httpd, fd, "GE"));
	CHECK(hear(httpd, fd, NULL)->closed);
	close(fd);
	fd = dial(httpd);
	CHECK(hear(httpd, fd, NULL)->closed);
	close(fd);
	CHECK(settle(httpd, 0));
	CHECK(dtm_httpd_next_request(httpd) == NULL);

	/* one that does not take its answer */
	fd = dial(httpd);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	CHECK(say(httpd, fd, GET));
	request = take(httpd);
	CHECK_INT(dtm_httpd_answer(httpd, request, 200, NULL, big, sizeof(big)), DTM_OK);
	begun = peer_now_ms();
	CHECK(settle(httpd, 0));
	CHECK(peer_now_ms() - begun >= 150 - 1);
	close(fd);
	check_alive(httpd);

	/* one that does gets it all */
	limits.write_ms = 60000;
	dtm_httpd_set_limits(httpd, &limits);
	fd = dial(httpd);
	CHECK(say(httpd, fd, GET));
	CHECK_INT(dtm_httpd_answer(httpd, take(httpd), 200, NULL, big, sizeof(big)), DTM_OK);
	{
		static char sink[65536];
		size_t total = 0;
		int64_t end = peer_now_ms() + PATIENCE_MS;

		while (total < sizeof(big) && peer_now_ms() < end)
		{
			ssize_t got = recv(fd, sink, sizeof(sink), 0);

			if (got > 0)
				total += (size_t) got;
			turn(httpd, 0);
		}
		CHECK(total >= sizeof(big));
	}
	close(fd);
	check_alive(httpd);
	dtm_httpd_close(httpd);
}

static void
test_garbage(void)
{
	static const char *const rubbish[] = {
		"\r\n\r\n\r\n",
		"hello\r\n\r\n",
		"GET\r\n\r\n",
		"GET / HTTP/9.9\r\n\r\n",
		"GET / HTTP/1.1\r\n\r\n", /* no Host */
		"GET / HTTP/1.1\r\nHost h\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999999\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
		"VERYLONGMETHODNAMEINDEED / HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET /%00%zz%f HTTP/1.1\r\nHost: h\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
		"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n",
		"HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
	};
	DtmHttpdLimits limits = httpd_limits();
	DtmHttpd *httpd = httpd_open(&limits);

	for (size_t i = 0; i < sizeof(rubbish) / sizeof(rubbish[0]); i++)
	{
		int fd = dial(httpd);
		DtmHttpdRequest *request;

		(void) say(httpd, fd, rubbish[i]);
		for (int k = 0; k < 4; k++)
			turn(httpd, 2);
		/* some of it is a request */
		while ((request = dtm_httpd_next_request(httpd)) != NULL)
		{
			CHECK(strlen(request->method) < 16);
			CHECK(request->uri[0] != '\0');
			reply(httpd, request, "well");
		}
		turn(httpd, 2);
		close(fd);
		check_alive(httpd);
	}
	dtm_httpd_close(httpd);
}

/* Who is turned away can read why, also when he has begun to write; and not for ever. */
static void
test_turned_away(void)
{
	DtmHttpdLimits limits = httpd_limits();
	DtmHttpd *httpd;
	DtmHttpdRequest *request;
	int holder;
	int fds[70];
	int64_t began;

	limits.max_connections = 1;
	httpd = httpd_open(&limits);
	holder = dial(httpd);
	CHECK(say(httpd, holder, GET));
	request = take(httpd);
	for (int i = 0; i < 3; i++)
	{
		/* the request is there before the answer, or comes after it, or never */
		fds[i] = dial(httpd);
		if (i == 0)
			CHECK_INT(send(fds[i], GET, strlen(GET), 0), strlen(GET));
		for (int k = 0; k < 5; k++)
			turn(httpd, 5);
		if (i == 1)
			CHECK_INT(send(fds[i], GET, strlen(GET), 0), strlen(GET));
		for (int k = 0; k < 5; k++)
			turn(httpd, 5);
		CHECK(begins(hear(httpd, fds[i], NULL), "HTTP/1.1 503 "));
		CHECK(dtm_httpd_timeout_ms(httpd) >= 0);
	}
	CHECK_INT(dtm_httpd_counts(httpd).refused, 3);

	/* one who stays is left after a second */
	began = peer_now_ms();
	while (dtm_httpd_timeout_ms(httpd) >= 0 && peer_now_ms() < began + PATIENCE_MS)
		turn(httpd, 1000);
	CHECK(dtm_httpd_timeout_ms(httpd) < 0);
	for (int i = 0; i < 3; i++)
		close(fds[i]);

	/* there is an end to that as well: more are closed at once, the others with the server */
	for (int i = 0; i < 70; i++)
		fds[i] = dial(httpd);
	for (int k = 0; k < 5; k++)
		turn(httpd, 5);
	CHECK_INT(dtm_httpd_counts(httpd).refused, 73);
	for (int i = 0; i < 70; i++)
		CHECK(begins(hear(httpd, fds[i], "\r\n\r\n"), "HTTP/1.1 503 "));
	reply(httpd, request, "held");
	CHECK_HEARD(httpd, holder, "held");
	dtm_httpd_close(httpd);
	close(holder);
	for (int i = 0; i < 70; i++)
		close(fds[i]);
}

/* Where does it end?  What follows must not be taken for a request. */
static void
test_ambiguous(void)
{
	static const char *const headers[] = {
		"Content-Length: 5\r\nContent-Length: 6\r\n",
		"Content-Length: 5\r\ncontent-length: 5\r\n",
		"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
		"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
		"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
		"Transfer-Encoding: gzip, chunked\r\n",
		"Transfer-Encoding: identity\r\nContent-Length: 5\r\n",
		"Transfer-Encoding: \x0b"
		"chunked\r\n",
		"Content-Length : 5\r\n",
		"Content-Length\t: 5\r\n",
		"Transfer-Encoding : chunked\r\n",
		"X: a\rContent-Length: 5\r\n",
		"Content-Length:\r\n 5\r\n",
		"Content-Length: 1\r\n 5\r\n",
		"Transfer-Encoding:\r\n\tchunked\r\n",
		" Content-Length: 5\r\n",
		"Content\x80: 5\r\n",
	};
	DtmHttpdLimits limits = httpd_limits();
	DtmHttpd *httpd = httpd_open(&limits);

	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++)
	{
		int64_t before = dtm_httpd_counts(httpd).requests;
		int fd = dial(httpd);
		char request[300];

		snprintf(request, sizeof(request), "POST /a HTTP/1.1\r\nHost: h\r\n%s\r\n" GET, headers[i]);
		CHECK(say(httpd, fd, request));
		if (!CHECK(begins(hear(httpd, fd, "request ends"), "HTTP/1.1 400 ")))
			printf("    to \"%s\"\n", headers[i]);
		CHECK(strstr(hear(httpd, fd, NULL)->data, "HTTP/1.1") == NULL);
		CHECK_INT(dtm_httpd_counts(httpd).requests, before);
		close(fd);
		check_alive(httpd);
	}
	dtm_httpd_close(httpd);
}

/* The process has no descriptor left: others wait, nobody spins, and then they are served. */
static void
test_descriptors(void)
{
	DtmHttpdLimits limits = httpd_limits();
	DtmHttpd *httpd = httpd_open(&limits);
	struct rlimit saved;
	struct rlimit few;
	int hoard[1024];
	int n_hoard = 0;
	int turns = 0;
	int64_t end;
	int fd = dial(httpd);

	getrlimit(RLIMIT_NOFILE, &saved);
	few = saved;
	few.rlim_cur = 200;
	setrlimit(RLIMIT_NOFILE, &few);
	while ((hoard[n_hoard] = open("/dev/null", O_RDONLY)) >= 0)
		n_hoard++;
	CHECK(say(httpd, fd, GET));
	for (end = peer_now_ms() + 250; peer_now_ms() < end; turns++)
		turn(httpd, 1000);
	CHECK(turns < 100);
	CHECK_INT(dtm_httpd_counts(httpd).connections, 0);
	while (n_hoard > 0)
		close(hoard[--n_hoard]);
	setrlimit(RLIMIT_NOFILE, &saved);
	reply(httpd, take(httpd), "at last");
	CHECK_HEARD(httpd, fd, "at last");
	close(fd);
	check_alive(httpd);
	dtm_httpd_close(httpd);
}

/* More descriptors than select() could take, all asking and all waiting at once. */
static void
test_many(void)
{
	enum
	{
		MANY = 1100
	};
	static int fds[MANY];
	static DtmHttpdRequest *requests[MANY];
	DtmHttpdLimits limits = httpd_limits();
	struct rlimit saved;
	struct rlimit more;
	DtmHttpd *httpd;

	getrlimit(RLIMIT_NOFILE, &saved);
	more = saved;
	if (more.rlim_cur < 2 * MANY + 100)
		more.rlim_cur = 2 * MANY + 100;
	if (more.rlim_cur > more.rlim_max || setrlimit(RLIMIT_NOFILE, &more) < 0)
		return; /* not on this machine */
	limits.max_connections = limits.max_queue = MANY;
	httpd = httpd_open(&limits);
	for (int i = 0; i < MANY; i++)
	{
		fds[i] = dial(httpd);
		CHECK(say(httpd, fds[i], GET));
		if (i % 50 == 0)
			turn(httpd, 0);
	}
	for (int i = 0; i < MANY; i++)
		requests[i] = take(httpd);
	CHECK_INT(dtm_httpd_counts(httpd).connections, MANY);
	CHECK_INT(dtm_httpd_counts(httpd).waiting, MANY);
	for (int i = 0; i < MANY; i++)
		reply(httpd, requests[i], "well");
	for (int i = 0; i < MANY; i++)
	{
		CHECK_HEARD(httpd, fds[i], "well");
		close(fds[i]);
	}
	CHECK(settle(httpd, 0));
	dtm_httpd_close(httpd);
	setrlimit(RLIMIT_NOFILE, &saved);
}

/* A crowd that connects, says half of something, and goes. */
static void
test_flood(void)
{
	DtmHttpdLimits limits = httpd_limits();
	DtmHttpd *httpd;

	limits.max_connections = 20;
	httpd = httpd_open(&limits);
	for (int round = 0; round < 10; round++)
	{
		int fds[50];

		for (int i = 0; i < 50; i++)
		{
			fds[i] = dial(httpd);
			(void) say(httpd, fds[i], i % 2 ? "POST / HTTP/1.1\r\nHost: h\r\nCont" : "GET / HT");
			CHECK(dtm_httpd_counts(httpd).connections <= 20 + 64);
		}
		for (int k = 0; k < 5; k++)
			turn(httpd, 1);
		for (int i = 0; i < 50; i++)
			close(fds[i]);
	}
	CHECK(settle(httpd, 0));
	check_alive(httpd);
	dtm_httpd_close(httpd);
}

/* Clients that ask for long answers and do not read them. */
static void
test_answers(void)
{
	static char much[12 * 1024 * 1024];
	DtmHttpdLimits limits = httpd_limits();
	DtmHttpd *httpd;
	int greedy[2];
	int modest;

	memset(much, 'x', sizeof(much) - 1);
	limits.max_answers = 2 * sizeof(much);
	limits.write_ms = 500;
	httpd = httpd_open(&limits);
	for (int i = 0; i < 2; i++)
	{
		greedy[i] = dial(httpd);
		CHECK(say(httpd, greedy[i], "GET /much HTTP/1.1\r\nHost: h\r\n\r\n"));
		reply(httpd, take(httpd), much);
	}
	CHECK_INT(dtm_httpd_counts(httpd).answers, 2 * strlen(much));
	modest = dial(httpd);
	CHECK(say(httpd, modest, "GET /much HTTP/1.1\r\nHost: h\r\n\r\n"));
	reply(httpd, take(httpd), much);
	CHECK(strstr(hear(httpd, modest, "later\n")->data, "503 Service Unavailable") != NULL);
	CHECK(say(httpd, modest, "GET /little HTTP/1.1\r\nHost: h\r\n\r\n"));
	reply(httpd, take(httpd), "a little");
	CHECK(strstr(hear(httpd, modest, "a little")->data, "200 OK") != NULL);

	/* their time is over, and what they left is free */
	CHECK(settle(httpd, 1));
	CHECK_INT(dtm_httpd_counts(httpd).answers, 0);
	for (int i = 0; i < 2; i++)
		close(greedy[i]);
	close(modest);
	CHECK(settle(httpd, 0));
	dtm_httpd_close(httpd);
}

int
main(void)
{
	test_answers();
	test_body();
	test_head();
	test_queue();
	test_connections();
	test_slow();
	test_garbage();
	test_turned_away();
	test_ambiguous();
	test_descriptors();
	test_many();
	test_flood();
	TEST_REPORT();
}
