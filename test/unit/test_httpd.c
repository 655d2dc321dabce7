/* -------------------------------------------------------------------------
 *
 * test_httpd.c
 *		The HTTP server: what its owner sees of a request, answers at once and
 *		much later, clients that go, ports, and a load over libcurl.
 *
 * Not here: limits and rude clients (test_httpd_limits.c).
 *
 * -------------------------------------------------------------------------
 */
#include "test_http_client.h"
#include "test_httpd_peer.h"

#define GET "GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
#define POST(uri, len, body) \
	"POST " uri " HTTP/1.1\r\nHost: h\r\nContent-Length: " len "\r\n\r\n" body

static void
test_request(void)
{
	DtmHttpdLimits limits = httpd_limits();
	DtmHttpd *httpd = httpd_open(&limits);
	int fd = dial(httpd);
	DtmHttpdRequest *request;
	Heard *heard;

	CHECK(say(httpd, fd,
			  "POST /api/x%20y?a=1&b=%2F HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer t0k3n\r\n"
			  "Content-Length: 5\r\n\r\nhello"));
	request = take(httpd);
	CHECK_STR(request->method, "POST");
	CHECK_STR(request->uri, "/api/x%20y?a=1&b=%2F");
	CHECK_STR(request->authorization, "Bearer t0k3n");
	CHECK_STR(request->body, "hello");
	CHECK_INT(request->body_len, 5);
	CHECK(strncmp(request->peer, "127.0.0.1:", 10) == 0);
	CHECK(!request->gone && request->owner == NULL && request->arrived_us > 0);
	CHECK_INT(dtm_httpd_counts(httpd).waiting, 1);
	CHECK(dtm_httpd_counts(httpd).bodies > 0);
	CHECK_INT(dtm_httpd_answer(httpd, request, 409, "application/json; charset=utf-8", "{}", 2),
			  DTM_OK);
	heard = hear(httpd, fd, "\r\n\r\n{}");
	CHECK(strncmp(heard->data, "HTTP/1.1 409 ", 13) == 0);
	CHECK(strstr(heard->data, "Content-Type: application/json; charset=utf-8\r\n") != NULL);
	CHECK(strstr(heard->data, "Content-Length: 2\r\n") != NULL);
	CHECK(!heard->closed);

	/* the connection is kept; chunks, no body, an empty answer */
	CHECK(
		say(httpd, fd,
			"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n"
			"0\r\n\r\n"));
	request = take(httpd);
	CHECK_STR(request->method, "PUT");
	CHECK_STR(request->body, "abcde");
	CHECK(request->authorization == NULL);
	CHECK_INT(dtm_httpd_answer(httpd, request, 503, NULL, NULL, 0), DTM_OK);
	CHECK_HEARD(httpd, fd, "Retry-After: 7\r\n");
	CHECK(say(httpd, fd, "DELETE /t HTTP/1.1\r\nHost: h\r\n\r\n"));
	request = take(httpd);
	CHECK_STR(request->method, "DELETE");
	CHECK_STR(request->body, "");
	CHECK_INT(dtm_httpd_answer(httpd, request, 401, NULL, NULL, 0), DTM_OK);
	CHECK_HEARD(httpd, fd, "WWW-Authenticate: Bearer\r\n");

	/* several at once are taken one after the other */
	CHECK(say(httpd, fd, POST("/1", "1", "x") POST("/2", "1", "y") GET));
	request = take(httpd);
	CHECK_STR(request->uri, "/1");
	turn(httpd, 20);
	CHECK(dtm_httpd_next_request(httpd) == NULL);
	reply(httpd, request, "one");
	request = take(httpd);
	CHECK_STR(request->body, "y");
	reply(httpd, request, "two");
	request = take(httpd);
	CHECK_STR(request->uri, "/a");
	reply(httpd, request, "three");
	heard = hear(httpd, fd, "three");
	CHECK(strstr(heard->data, "one") != NULL && strstr(heard->data, "two") != NULL);
	CHECK_INT(dtm_httpd_counts(httpd).requests, 6);
	CHECK_INT(dtm_httpd_counts(httpd).refused, 0);
	CHECK_INT(dtm_httpd_counts(httpd).bodies, 0);

	/* an old client wants the connection closed */
	CHECK(say(httpd, fd, "GET /old HTTP/1.0\r\n\r\n"));
	reply(httpd, take(httpd), "bye");
	CHECK(hear(httpd, fd, NULL)->closed);
	CHECK(settle(httpd, 0));
	close(fd);
	dtm_httpd_close(httpd);
}

/* What a request with these headers looks like: "page domain relayed", as far as it is that. */
static const char *
sender(DtmHttpd *httpd, int fd, const char *headers)
{
	static char looks[64];
	char bytes[512];
	DtmHttpdRequest *request;

	snprintf(bytes, sizeof(bytes), "GET /a HTTP/1.1\r\n%s\r\n", headers);
	CHECK(say(httpd, fd, bytes));
	request = take(httpd);
	snprintf(looks, sizeof(looks), "%s%s%s", request->from_page ? "page " : "",
			 request->by_domain ? "domain " : "", request->relayed ? "relayed " : "");
	reply(httpd, request, "seen");
	CHECK_HEARD(httpd, fd, "seen");
	return looks;
}

static void
test_sender(void)
{
	DtmHttpdLimits limits = httpd_limits();
	DtmHttpd *httpd = httpd_open(&limits);
	int fd = dial(httpd);
	static const struct
	{
		const char *headers;
		const char *looks;
	} cases[] = {
		{"Host: 127.0.0.1:36789\r\n", ""},
		{"Host: 127.0.0.1\r\n", ""},
		{"Host: localhost:36789\r\n", ""},
		{"Host: LOCALHOST\r\n", ""},
		{"Host: dtm:36789\r\n", ""},
		{"Host: [::1]:36789\r\n", ""},
		{"Host: [::ffff:127.0.0.1]\r\n", ""},
		{"Host: :36789\r\n", ""},
		{"Host:\r\n", ""},
		{"Host: evil.example\r\n", "domain "},
		{"Host: 127.0.0.1.evil.example:36789\r\n", "domain "},
		{"Host: 127.0.0.1.e:36789\r\n", "domain "},
		{"Host: 127.0.0.256\r\n", "domain "},
		{"Host: localhost.evil.example\r\n", "domain "},
		{"Host: h\r\nOrigin: null\r\n", "page "},
		{"Host: h\r\norigin: http://evil.example\r\n", "page "},
		{"Host: h\r\nSec-Fetch-Site: cross-site\r\n", "page "},
		{"Host: h\r\nSec-Fetch-Site: same-origin\r\n", "page "},
		{"Host: h\r\nSec-Fetch-Site: none\r\n", ""},
		{"Host: h\r\nX-Forwarded-For: 10.1.2.3\r\n", "relayed "},
		{"Host: h\r\nForwarded: for=10.1.2.3\r\n", "relayed "},
		{"Host: evil.example\r\nVia: 1.1 p\r\nOrigin: x\r\n", "page domain relayed "},
	};
	static char longer[8192];
	DtmHttpdRequest *request;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		CHECK_STR(sender(httpd, fd, cases[i].headers), cases[i].looks);

	/* a header that is too long is not taken for none */
	snprintf(longer, sizeof(longer),
			 "GET /a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer %05000d\r\n\r\n", 7);
	CHECK(say(httpd, fd, longer));
	request = take(httpd);
	CHECK_STR(request->authorization, "");
	reply(httpd, request, "seen");
	CHECK_HEARD(httpd, fd, "seen");
	dtm_httpd_close(httpd);
	close(fd);
}

static void
test_later(void)
{
	DtmHttpdLimits limits = httpd_limits();
	DtmHttpd *httpd = httpd_open(&limits);
	int fds[3];
	DtmHttpdRequest *requests[3];

	limits.idle_ms = limits.read_ms = limits.write_ms = 50;
	dtm_httpd_set_limits(httpd, &limits);
	for (int i = 0; i < 3; i++)
	{
		fds[i] = dial(httpd);
		CHECK(say(httpd, fds[i], GET));
		requests[i] = take(httpd);
		requests[i]->owner = &fds[i];
	}
	/* no deadline while the owner thinks */
	for (int64_t end = peer_now_ms() + 200; peer_now_ms() < end;)
		turn(httpd, 20);
	CHECK_INT(dtm_httpd_counts(httpd).waiting, 3);
	CHECK(dtm_httpd_next_gone(httpd) == NULL);
	reply(httpd, requests[1], "second");
	CHECK_HEARD(httpd, fds[1], "second");
	CHECK(silent(fds[0]) && silent(fds[2]));
	reply(httpd, requests[2], "third");
	reply(httpd, requests[0], "first");
	CHECK_HEARD(httpd, fds[0], "first");
	CHECK_HEARD(httpd, fds[2], "third");
	/* now they are idle for too long */
	for (int i = 0; i < 3; i++)
	{
		CHECK(hear(httpd, fds[i], NULL)->closed);
		close(fds[i]);
	}
	CHECK(settle(httpd, 0));
	CHECK_INT(dtm_httpd_timeout_ms(httpd), -1);
	dtm_httpd_close(httpd);
}

static void
test_gone(void)
{
	DtmHttpdLimits limits = httpd_limits();
	DtmHttpd *httpd = httpd_open(&limits);
	int fd = dial(httpd);
	int half = dial(httpd);
	DtmHttpdRequest *request;
	DtmHttpdRequest *gone;

	/* while the owner thinks */
	CHECK(say(httpd, fd, POST("/1", "1", "x")));
	request = take(httpd);
	CHECK(dtm_httpd_next_gone(httpd) == NULL);
	close(fd);
	for (int i = 0; (gone = dtm_httpd_next_gone(httpd)) == NULL && i < 1000; i++)
		turn(httpd, 10);
	CHECK(gone == request && request->gone);
	CHECK_STR(request->body, "x"); /* it is still there */
	turn(httpd, 1);
	CHECK(dtm_httpd_next_gone(httpd) == NULL); /* told once */
	reply(httpd, request, "nobody hears");
	CHECK(settle(httpd, 1));

	/* before it was fetched; the owner may not want to be told at all */
	fd = dial(httpd);
	CHECK(say(httpd, fd, GET));
	close(fd);
	for (int i = 0; i < 5; i++)
		turn(httpd, 5);
	request = take(httpd);
	CHECK(request->gone);
	CHECK(dtm_httpd_next_gone(httpd) == NULL);
	dtm_httpd_drop(httpd, request);
	fd = dial(httpd);
	CHECK(say(httpd, fd, GET));
	request = take(httpd);
	close(fd);
	for (int i = 0; !request->gone && i < 1000; i++)
		turn(httpd, 10);
	reply(httpd, request, "nobody hears");
	CHECK(dtm_httpd_next_gone(httpd) == NULL);

	/* one that only has no more to say gets its answer */
	CHECK(say(httpd, half, GET));
	request = take(httpd);
	shutdown(half, SHUT_WR);
	for (int i = 0; !request->gone && i < 1000; i++)
		turn(httpd, 10);
	CHECK(request->gone);
	reply(httpd, request, "for the half closed");
	CHECK_HEARD(httpd, half, "for the half closed");
	CHECK(settle(httpd, 0));
	close(half);

	/* a request that does not end is no request */
	fd = dial(httpd);
	CHECK(say(httpd, fd, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhello"));
	turn(httpd, 10);
	close(fd);
	CHECK(settle(httpd, 0));
	CHECK(dtm_httpd_next_request(httpd) == NULL);
	CHECK_INT(dtm_httpd_counts(httpd).bodies, 0);
	dtm_httpd_close(httpd);
}

static void
test_drop(void)
{
	DtmHttpdLimits limits = httpd_limits();
	DtmHttpd *httpd = httpd_open(&limits);
	int fds[4];

	for (int i = 0; i < 4; i++)
	{
		fds[i] = dial(httpd);
		CHECK(say(httpd, fds[i], POST("/1", "1", "x")));
		if (i == 0)
			dtm_httpd_drop(httpd, take(httpd));
		else if (i == 1)
			(void) take(httpd);
		else
			turn(httpd, 10);
	}
	CHECK(hear(httpd, fds[0], NULL)->closed);
	dtm_httpd_drop_all(httpd);
	CHECK(dtm_httpd_next_request(httpd) == NULL);
	CHECK_INT(dtm_httpd_counts(httpd).waiting, 0);
	CHECK_INT(dtm_httpd_counts(httpd).queued, 0);
	for (int i = 1; i < 4; i++)
	{
		Heard *heard = hear(httpd, fds[i], NULL);

		/* the last may not have been read before: then it is a request like any other */
		if (i < 3 || heard->closed)
			CHECK(heard->closed && heard->len == 0);
		close(fds[i]);
	}
	close(fds[0]);
	CHECK(settle(httpd, 0));

	/* closing with everything open: idle, half read, queued, with the owner, answered */
	for (int i = 0; i < 4; i++)
		fds[i] = dial(httpd);
	CHECK(say(httpd, fds[1], "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhello"));
	CHECK(say(httpd, fds[2], POST("/1", "1", "x")));
	(void) take(httpd);
	CHECK(say(httpd, fds[3], POST("/1", "1", "x")));
	reply(httpd, take(httpd), "lost");
	CHECK(say(httpd, fds[0], GET));
	turn(httpd, 10);
	dtm_httpd_close(httpd);
	for (int i = 0; i < 4; i++)
		close(fds[i]);

	/* requests that came since the last turn: nobody is left to answer them */
	httpd = httpd_open(&limits);
	for (int i = 0; i < 4; i++)
		fds[i] = dial(httpd);
	turn(httpd, 10);
	turn(httpd, 10);
	for (int i = 0; i < 4; i++)
		CHECK_INT(send(fds[i], GET, strlen(GET), 0), strlen(GET));
	dtm_httpd_close(httpd);
	for (int i = 0; i < 4; i++)
		close(fds[i]);
}

static void
test_stop(void)
{
	DtmHttpdLimits limits = httpd_limits();
	DtmHttpd *httpd = httpd_open(&limits);
	int idle = dial(httpd);
	int busy = dial(httpd);
	DtmHttpdRequest *request;

	CHECK(say(httpd, busy, GET));
	request = take(httpd);
	dtm_httpd_stop(httpd);
	CHECK(hear(httpd, idle, NULL)->closed);
	CHECK(settle(httpd, 1));
	CHECK_INT(dtm_httpd_counts(httpd).waiting, 1);
	reply(httpd, request, "the last");
	CHECK(strstr(hear(httpd, busy, NULL)->data, "the last") != NULL);
	CHECK(settle(httpd, 0));
	close(idle);
	close(busy);
	dtm_httpd_close(httpd);
	dtm_httpd_close(NULL);
}

static void
test_ports(void)
{
	DtmHttpdLimits limits = httpd_limits();
	DtmHttpd *first = httpd_open(&limits);
	int port = dtm_httpd_port(first);
	char error[200] = "";
	char expected[200];
	bool taken = false;
	DtmHttpd *second;
	int fds[40];
	int heard_by[2] = {0, 0};

	/* another database finds it taken, and gets it when it is free */
	CHECK(dtm_httpd_open("127.0.0.1", port, DTM_HTTPD_FIRST, &limits, &taken, error,
						 sizeof(error)) == NULL);
	CHECK(taken);
	snprintf(expected, sizeof(expected), "could not listen on 127.0.0.1:%d: Address already in use",
			 port);
	CHECK_STR(error, expected);

	/* another worker of the same one shares it */
	second =
		dtm_httpd_open("127.0.0.1", port, DTM_HTTPD_JOIN, &limits, &taken, error, sizeof(error));
	if (!CHECK(second != NULL))
		exit(1);
	CHECK(!taken);
	CHECK_INT(dtm_httpd_port(second), port);
	for (int i = 0; i < 40; i++)
		fds[i] = dial(first);
	for (int i = 0; i < 10; i++)
	{
		turn(first, 5);
		turn(second, 5);
	}
	heard_by[0] = dtm_httpd_counts(first).connections;
	heard_by[1] = dtm_httpd_counts(second).connections;
	CHECK_INT(heard_by[0] + heard_by[1], 40);
	CHECK(heard_by[0] > 0 && heard_by[1] > 0);
	for (int i = 0; i < 40; i++)
		close(fds[i]);
	dtm_httpd_close(first);
	dtm_httpd_close(second);
	second = dtm_httpd_open("*", port, DTM_HTTPD_FIRST, &limits, &taken, error, sizeof(error));
	CHECK(second != NULL);
	dtm_httpd_close(second);

	/* what cannot be listened on */
	CHECK(dtm_httpd_open("localhost", 0, DTM_HTTPD_FIRST, &limits, &taken, error, sizeof(error)) ==
		  NULL);
	CHECK_STR(error, "could not listen on localhost:0: not an address and a port");
	CHECK(!taken);
	CHECK(dtm_httpd_open("127.0.0.1", 65536, DTM_HTTPD_FIRST, &limits, NULL, error,
						 sizeof(error)) == NULL);
	CHECK(dtm_httpd_open("192.0.2.1", 0, DTM_HTTPD_FIRST, &limits, &taken, error, sizeof(error)) ==
		  NULL);
	CHECK(strstr(error, "192.0.2.1:0: ") != NULL && !taken);

	second = dtm_httpd_open("::1", 0, DTM_HTTPD_FIRST, &limits, &taken, error, sizeof(error));
	if (second != NULL) /* not every machine has IPv6 */
	{
		struct sockaddr_in6 address = {.sin6_family = AF_INET6,
									   .sin6_port = htons((uint16_t) dtm_httpd_port(second)),
									   .sin6_addr = IN6ADDR_LOOPBACK_INIT};
		int fd = socket(AF_INET6, SOCK_STREAM, 0);
		DtmHttpdRequest *request;

		CHECK_INT(connect(fd, (struct sockaddr *) &address, sizeof(address)), 0);
		CHECK(say(second, fd, GET));
		request = take(second);
		CHECK(strncmp(request->peer, "[::1]:", 6) == 0);
		dtm_httpd_close(second);
		close(fd);
	}
}

static int
open_descriptors(void)
{
	int count = 0;

	for (int fd = 0; fd < 1024; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

/*
 * Our own client and the server in one thread, as in a coordinator that calls
 * itself; half of the answers come a turn later.  Nothing is lost, nothing is
 * left.
 */
static void
test_load(void)
{
	enum
	{
		TOTAL = 5000
	};
	DtmHttpdLimits limits = httpd_limits();
	int before = open_descriptors();
	DtmHttpd *httpd = httpd_open(&limits);
	DtmHttpLimits client_limits = usual_limits();
	DtmHttpdRequest *held[200];
	int n_held = 0;
	int answered = 0;
	char url[100];
	int64_t end = peer_now_ms() + 60000;
	Client client;

	client_open(&client, &client_limits);
	snprintf(url, sizeof(url), "http://127.0.0.1:%d/api/dtmsvr/submit?x=1", dtm_httpd_port(httpd));
	for (int i = 0; i < TOTAL; i++)
		CHECK_INT(start_call(&client, url, "{\"gid\":\"g\"}", 30000), DTM_OK);
	while (client.n_results < TOTAL && peer_now_ms() < end)
	{
		struct pollfd ready[2] = {{.fd = dtm_http_fd(client.http), .events = POLLIN},
								  {.fd = dtm_httpd_fd(httpd), .events = POLLIN}};
		DtmHttpdRequest *request;

		poll(ready, 2, dtm_httpd_timeout_ms(httpd) == 0 || n_held > 0 ? 0 : 10);
		dtm_http_dispatch(client.http);
		collect(&client);
		dtm_httpd_dispatch(httpd);
		while (n_held > 0)
			reply(httpd, held[--n_held], "later");
		while ((request = dtm_httpd_next_request(httpd)) != NULL)
		{
			if (answered++ % 2 == 0)
				reply(httpd, request, "at once");
			else
				held[n_held++] = request;
		}
	}
	CHECK_INT(client.n_results, TOTAL);
	for (int i = 0; i < client.n_results; i++)
	{
		if (client.results[i].status != 200 || client.results[i].error != DTM_HTTP_OK)
		{
			CHECK_STR(client.results[i].message, "");
			break;
		}
	}
	CHECK_INT(dtm_httpd_counts(httpd).requests, TOTAL);
	CHECK_INT(dtm_httpd_counts(httpd).bodies, 0);
	CHECK_INT(dtm_httpd_counts(httpd).waiting, 0);
	CHECK(dtm_httpd_counts(httpd).connections <= 64);
	client_close(&client);
	CHECK(settle(httpd, 0));
	dtm_httpd_close(httpd);
	CHECK_INT(open_descriptors(), before);
}

int
main(void)
{
	Client client;
	DtmHttpLimits limits = usual_limits();

	/* libcurl keeps what it opens at first */
	client_open(&client, &limits);
	client_close(&client);
	test_request();
	test_sender();
	test_later();
	test_gone();
	test_drop();
	test_stop();
	test_ports();
	test_load();
	TEST_REPORT();
}
