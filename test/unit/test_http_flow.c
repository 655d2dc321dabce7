/* -------------------------------------------------------------------------
 *
 * test_http_flow.c
 *		Tests of the HTTP client with many calls: limits, fairness, cancelling,
 *		circuits, changed limits, failures of the kernel and of libcurl.
 *
 * Answers and errors of single calls are in test_http.c.
 *
 * -------------------------------------------------------------------------
 */
#include <unistd.h>

#include "test_http_client.h"

#include <curl/curl.h>
#include <dlfcn.h>
#include <errno.h>
#include <sys/epoll.h>

static bool fail_epoll;
static bool fail_multi;

/* Stands before the C library's, for net/dtm_loop.c. */
int
epoll_ctl(int epoll_fd, int op, int fd, struct epoll_event *event)
{
	static int (*real)(int, int, int, struct epoll_event *);

	if (real == NULL)
		*(void **) &real = dlsym(RTLD_NEXT, "epoll_ctl");
	if (fail_epoll && op != EPOLL_CTL_DEL)
	{
		errno = ENOSPC;
		return -1;
	}
	return real(epoll_fd, op, fd, event);
}

/* Stands before libcurl's. */
CURLMcode
curl_multi_socket_action(CURLM *multi, curl_socket_t fd, int bits, int *running)
{
	static CURLMcode (*real)(CURLM *, curl_socket_t, int, int *);
	CURLMcode rc;

	if (real == NULL)
		*(void **) &real = dlsym(RTLD_NEXT, "curl_multi_socket_action");
	rc = real(multi, fd, bits, running);
	return fail_multi ? CURLM_OUT_OF_MEMORY : rc;
}

static int
count_errors(const Client *client, DtmHttpError error)
{
	int count = 0;

	for (int i = 0; i < client->n_results; i++)
		count += client->results[i].error == error;
	return count;
}

static void
test_host_limit(Server *server)
{
	DtmHttpLimits limits = usual_limits();
	Client client;

	limits.max_host_calls = 4;
	client_open(&client, &limits);
	server->most_at_once = 0;
	for (int i = 0; i < 40; i++)
		CHECK_INT(start_call(&client, url_of(server, "/delay/5"), "{}", 3000), DTM_OK);
	CHECK_INT(dtm_http_calls_out(client.http), 4);
	CHECK_INT(dtm_http_calls_queued(client.http), 36);
	CHECK(run_until(&client, 40, 5000));
	CHECK_INT(count_errors(&client, DTM_HTTP_OK), 40);
	CHECK_INT(server->most_at_once, 4);
	CHECK_INT(dtm_http_calls_out(client.http), 0);
	CHECK_INT(dtm_http_calls_queued(client.http), 0);
	/* the last ones waited for about 9 rounds of 5 ms, the first ones for none */
	CHECK(client.results[39].queued_us > 20000);
	CHECK(client.results[0].queued_us < 5000);
	client_close(&client);
}

static void
test_first_come_first_served(Server *server)
{
	DtmHttpLimits limits = usual_limits();
	Client client;

	limits.max_host_calls = 1;
	client_open(&client, &limits);
	for (int i = 0; i < 20; i++)
		CHECK_INT(start_call(&client, url_of(server, "/status/200"), "{}", 3000), DTM_OK);
	CHECK(run_until(&client, 20, 5000));
	for (int i = 0; i < 20; i++)
		CHECK_INT(client.results[i].tag, i);
	client_close(&client);
}

/* Both want all places: neither the one that came first nor the other gets more than its share. */
static void
test_hosts_take_turns(Server *server, Server *other)
{
	DtmHttpLimits limits = usual_limits();
	Client client;
	int first = 0;

	limits.max_calls = 2;
	client_open(&client, &limits);
	for (int i = 0; i < 60; i++)
		CHECK_INT(start_call(&client, url_of(i < 30 ? server : other, "/delay/2"), "{}", 3000),
				  DTM_OK);
	CHECK_INT(dtm_http_calls_out(client.http), 2);
	CHECK(run_until(&client, 60, 5000));
	CHECK_INT(count_errors(&client, DTM_HTTP_OK), 60);
	for (int i = 0; i < 24; i++)
		first += client.results[i].tag < 30;
	CHECK(first >= 9 && first <= 15);
	client_close(&client);
}

static void
test_hanging_host(Server *server, Server *other)
{
	DtmHttpLimits limits = usual_limits();
	Client client;
	int64_t before = now_ms();

	limits.max_host_calls = 8;
	client_open(&client, &limits);
	for (int i = 0; i < 20; i++)
		CHECK_INT(start_call(&client, url_of(other, "/hang"), "{}", 2000), DTM_OK);
	for (int i = 0; i < 100; i++)
		CHECK_INT(start_call(&client, url_of(server, "/status/200"), "{}", 1500), DTM_OK);
	CHECK(run_until(&client, 100, 1900));
	CHECK(now_ms() - before < 1900);
	CHECK_INT(count_errors(&client, DTM_HTTP_OK), 100);
	CHECK_INT(dtm_http_calls_out(client.http), 8);
	/*
	 * 5 time-outs open the circuit: those behind do not wait for their own.
	 * Up to 4 of them may have gone out between the first time-out and the fifth.
	 */
	CHECK(run_until(&client, 120, 5000));
	CHECK_INT(count_errors(&client, DTM_HTTP_TIMEOUT) + count_errors(&client, DTM_HTTP_POSTPONED),
			  20);
	CHECK(count_errors(&client, DTM_HTTP_TIMEOUT) >= 8);
	CHECK(count_errors(&client, DTM_HTTP_TIMEOUT) <= 12);
	client_close(&client);
}

static void
test_queue_full(Server *server)
{
	DtmHttpLimits limits = usual_limits();
	Client client;

	limits.max_host_calls = 1;
	limits.max_host_queue = 3;
	client_open(&client, &limits);
	CHECK_INT(start_call(&client, url_of(server, "/delay/700"), "{}", 3000), DTM_OK);
	for (int i = 1; i < 4; i++)
		CHECK_INT(start_call(&client, url_of(server, "/delay/20"), "{}", 3000), DTM_OK);

	/* a full queue turns nobody away while it moves: only when its first waits for long */
	collect(&client);
	CHECK_INT(client.n_results, 0);
	usleep(350 * 1000);
	for (int i = 4; i < 6; i++)
		CHECK_INT(start_call(&client, url_of(server, "/delay/20"), "{}", 3000), DTM_OK);
	CHECK_INT(dtm_http_timeout_ms(client.http), 0);
	collect(&client);
	CHECK_INT(client.n_results, 2);
	for (int i = 0; i < client.n_results; i++)
	{
		CHECK_INT(client.results[i].tag, 4 + i);
		CHECK_INT(client.results[i].error, DTM_HTTP_POSTPONED);
		CHECK(client.results[i].retry_after_ms > 0);
		CHECK(strstr(client.results[i].message, "3 calls are waiting for host 127.0.0.1:"));
	}
	CHECK(run_until(&client, 6, 3000));
	CHECK_INT(count_errors(&client, DTM_HTTP_OK), 4);
	client_close(&client);
}

static void
test_changed_limits(Server *server)
{
	DtmHttpLimits limits = usual_limits();
	Client client;

	limits.max_host_calls = 1;
	client_open(&client, &limits);
	server->most_at_once = 0;
	for (int i = 0; i < 20; i++)
		CHECK_INT(start_call(&client, url_of(server, "/delay/20"), "{}", 3000), DTM_OK);
	CHECK_INT(dtm_http_calls_out(client.http), 1);
	limits.max_host_calls = 10;
	dtm_http_set_limits(client.http, &limits);
	CHECK_INT(dtm_http_calls_out(client.http), 10);
	CHECK(run_until(&client, 15, 3000));
	limits.max_host_calls = 2;
	limits.max_calls = 2;
	limits.max_body = 10;
	dtm_http_set_limits(client.http, &limits);
	CHECK(run_until(&client, 20, 3000));
	CHECK_INT(count_errors(&client, DTM_HTTP_OK), 20);
	CHECK_INT(server->most_at_once, 10);
	for (int i = 0; i < 4; i++)
		CHECK_INT(start_call(&client, url_of(server, "/delay/5"), "{}", 3000), DTM_OK);
	CHECK_INT(dtm_http_calls_out(client.http), 2);
	CHECK(run_until(&client, 24, 3000));
	CHECK_INT(call_path(&client, server, "/status/200")->error, DTM_HTTP_TOO_LARGE);
	client_close(&client);
}

static void
test_cancel(Server *server)
{
	DtmHttpLimits limits = usual_limits();
	Client client;
	int before = server->requests;

	limits.max_host_calls = 2;
	client_open(&client, &limits);
	for (int i = 0; i < 6; i++)
		CHECK_INT(start_call(&client, url_of(server, "/delay/60"), "{}", 3000), DTM_OK);
	run_for(&client, 20);

	CHECK(!dtm_http_cancel(client.http, 0, 8)); /* the second tag counts too */
	CHECK(!dtm_http_cancel(client.http, 99, 7));
	CHECK(dtm_http_cancel(client.http, 4, 7)); /* queued */
	CHECK_INT(dtm_http_calls_queued(client.http), 3);
	CHECK(dtm_http_cancel(client.http, 0, 7)); /* out: its place goes to the next one */
	CHECK_INT(dtm_http_calls_out(client.http), 2);
	CHECK_INT(dtm_http_calls_queued(client.http), 2);
	CHECK(!dtm_http_cancel(client.http, 0, 7));
	CHECK(run_until(&client, 4, 3000));
	run_for(&client, 100);
	CHECK_INT(client.n_results, 4);
	for (int i = 0; i < client.n_results; i++)
	{
		CHECK(client.results[i].tag != 0 && client.results[i].tag != 4);
		CHECK_INT(client.results[i].status, 200);
	}
	CHECK_INT(server->requests, before + 5);

	/* ended, but not fetched yet */
	CHECK_INT(start_call(&client, url_of(server, "/status/200"), "{}", 3000), DTM_OK);
	for (int i = 0; i < 200 && dtm_http_calls_out(client.http) > 0; i++)
	{
		dtm_http_dispatch(client.http);
		usleep(5000);
	}
	CHECK_INT(dtm_http_calls_out(client.http), 0);
	CHECK(dtm_http_cancel(client.http, client.next_tag - 1, 7));
	CHECK(dtm_http_next_done(client.http) == NULL);
	client_close(&client);
}

/* Everything that can be under way when the process ends. */
static void
test_free_in_flight(Server *server)
{
	DtmHttpLimits limits = usual_limits();
	Client client;

	limits.max_host_calls = 3;
	client_open(&client, &limits);
	for (int i = 0; i < 10; i++)
		CHECK_INT(start_call(&client, url_of(server, i < 2 ? "/status/200" : "/hang"), "{}", 3000),
				  DTM_OK);
	for (int i = 0; i < 20; i++)
	{
		dtm_http_dispatch(client.http);
		usleep(2000);
	}
	CHECK_INT(dtm_http_calls_out(client.http), 3);
	CHECK(dtm_http_next_done(client.http) != NULL);
	client_close(&client);
}

static void
expect_postponed(Client *client, Server *server, const char *end_of_message)
{
	char message[256];
	Result *result = call_path(client, server, "/mode");

	CHECK_INT(result->error, DTM_HTTP_POSTPONED);
	snprintf(message, sizeof(message), "host 127.0.0.1:%d failed %s", server->port, end_of_message);
	CHECK_STR(result->message, message);
	CHECK(result->retry_after_ms > 0 && result->retry_after_ms <= 2000);
}

static void
test_circuit(Server *server, Server *other)
{
	DtmHttpLimits limits = usual_limits();
	char name[50];
	Client client;
	Result *result;
	int before;
	int64_t start;

	limits.max_host_calls = 1;
	client_open(&client, &limits);
	server->mode = 503;
	before = server->requests;
	for (int i = 0; i < 12; i++)
		CHECK_INT(start_call(&client, url_of(server, "/mode"), "{}", 3000), DTM_OK);
	CHECK(run_until(&client, 12, 3000));
	start = now_ms();

	/* 5 failures, and what waited behind them does not go out any more */
	CHECK_INT(server->requests, before + 5);
	CHECK_INT(count_errors(&client, DTM_HTTP_OK), 5);
	CHECK_INT(count_errors(&client, DTM_HTTP_POSTPONED), 7);
	CHECK_INT(client.results[4].error, DTM_HTTP_OK);
	CHECK_INT(client.results[5].error, DTM_HTTP_POSTPONED);
	CHECK(client.results[5].retry_after_ms > 900 && client.results[5].retry_after_ms <= 1000);
	CHECK_INT(dtm_http_calls_queued(client.http), 0);
	expect_postponed(&client, server, "5 times in a row; next probe in 1 s");
	CHECK_INT(call_path(&client, other, "/mode")->status, 200);

	/* after 1 s one probe goes out, and only one */
	run_for(&client, 1001 - (int) (now_ms() - start));
	CHECK_INT(server->requests, before + 5);
	client.n_results = 0;
	CHECK_INT(start_call(&client, url_of(server, "/mode"), "{}", 3000), DTM_OK);
	CHECK_INT(start_call(&client, url_of(server, "/mode"), "{}", 3000), DTM_OK);
	collect(&client);
	CHECK_INT(client.n_results, 1);
	CHECK(strstr(client.results[0].message, "5 times in a row; a probe is out") != NULL);
	CHECK(run_until(&client, 2, 3000));
	start = now_ms();
	CHECK_INT(client.results[1].status, 503);
	CHECK_INT(server->requests, before + 6);
	CHECK(dtm_http_recovered(client.http) == NULL);

	/* it failed: the next one in 2 s, which closes the circuit, even with a 409 */
	expect_postponed(&client, server, "6 times in a row; next probe in 2 s");
	server->mode = 409;
	run_for(&client, 2001 - (int) (now_ms() - start));
	result = call_path(&client, server, "/mode");
	CHECK_INT(result->status, 409);
	snprintf(name, sizeof(name), "127.0.0.1:%d", server->port);
	CHECK_STR(dtm_http_recovered(client.http), name);
	CHECK(dtm_http_recovered(client.http) == NULL);
	CHECK_INT(call_path(&client, server, "/mode")->status, 409);

	client_close(&client);
	server->mode = 200;
}

static void
test_circuit_stays_closed(Server *server)
{
	DtmHttpLimits limits = usual_limits();
	Client client;

	client_open(&client, &limits);
	/* failures count in a row only */
	for (int i = 0; i < 12; i++)
	{
		server->mode = i % 4 == 3 ? 200 : 502;
		CHECK_INT(call_path(&client, server, "/mode")->status, server->mode);
	}
	/* and a service's own 500 is none */
	server->mode = 500;
	for (int i = 0; i < 8; i++)
		CHECK_INT(call_path(&client, server, "/mode")->status, 500);
	CHECK(dtm_http_recovered(client.http) == NULL);
	client_close(&client);
	server->mode = 200;
}

/* A probe that is given up makes room for another one at once. */
static void
test_cancelled_probe(Server *server)
{
	DtmHttpLimits limits = usual_limits();
	Client client;

	client_open(&client, &limits);
	server->mode = 504;
	for (int i = 0; i < 5; i++)
		CHECK_INT(call_path(&client, server, "/mode")->status, 504);
	run_for(&client, 1001);
	CHECK_INT(start_call(&client, url_of(server, "/hang"), "{}", 3000), DTM_OK);
	run_for(&client, 10);
	expect_postponed(&client, server, "5 times in a row; a probe is out");
	CHECK(dtm_http_cancel(client.http, client.next_tag - 2, 7));
	server->mode = 200;
	CHECK_INT(call_path(&client, server, "/mode")->status, 200);
	CHECK(dtm_http_recovered(client.http) != NULL);
	client_close(&client);
}

/* More hosts than are remembered, all refusing: none is turned away. */
static void
test_many_hosts(Server *server)
{
	DtmHttpLimits limits = usual_limits();
	Client client;
	int port = server->port;

	client_open(&client, &limits);
	for (int i = 0; i < 4400; i++)
	{
		char url[60];

		/* listens on 127.0.0.1 only */
		snprintf(url, sizeof(url), "http://127.1.%d.%d:%d/", i / 200, i % 200 + 1, port);
		CHECK_INT(start_call(&client, url, "{}", 3000), DTM_OK);
		if (i % 200 == 199)
			CHECK(run_until(&client, i + 1, 5000));
	}
	CHECK_INT(count_errors(&client, DTM_HTTP_CONNECT), 4400);
	CHECK_INT(call_path(&client, server, "/status/200")->status, 200);
	client_close(&client);
}

static void
test_many_calls(Server *server)
{
	DtmHttpLimits limits = usual_limits();
	bool *seen = calloc(5000, sizeof(bool));
	int twice = 0;
	int good = 0;
	Client client;

	limits.max_host_calls = 200;
	client_open(&client, &limits);
	server->connections = 0;
	server->most_at_once = 0;
	for (int i = 0; i < 5000; i++)
		CHECK_INT(start_call(&client, url_of(server, i % 2 ? "/echo" : "/status/200"), "{\"n\":1}",
							 10000),
				  DTM_OK);
	CHECK_INT(dtm_http_calls_out(client.http), 200);
	CHECK_INT(dtm_http_calls_queued(client.http), 4800);
	CHECK(run_until(&client, 5000, 20000));
	for (int i = 0; i < client.n_results; i++)
	{
		Result *result = &client.results[i];

		if (result->tag < 5000 && seen[result->tag])
			twice++;
		else if (result->tag < 5000)
			seen[result->tag] = true;
		good += result->error == DTM_HTTP_OK && result->status == 200 &&
			strncmp(result->body, result->tag % 2 ? "POST /echo" : "{\"status\"", 9) == 0;
	}
	CHECK_INT(twice, 0);
	CHECK_INT(good, 5000);
	CHECK(server->connections <= 200);
	CHECK(server->most_at_once <= 200);
	run_for(&client, 20);
	CHECK_INT(client.n_results, 5000);
	client_close(&client);
	free(seen);
}

/* The kernel refuses to watch more descriptors: those calls fail, others go on. */
static void
test_no_watches(Server *server)
{
	DtmHttpLimits limits = usual_limits();
	Client client;
	Result *result;

	client_open(&client, &limits);
	CHECK_INT(start_call(&client, url_of(server, "/delay/100"), "{}", 2000), DTM_OK);
	run_for(&client, 20);
	fail_epoll = true;
	for (int i = 0; i < 6; i++)
	{
		result = call_path(&client, server, "/status/200");
		CHECK_INT(result->error, DTM_HTTP_BROKEN);
		CHECK_STR(result->message, "the socket cannot be watched");
	}
	fail_epoll = false;
	CHECK(run_until(&client, 7, 1000));
	CHECK_INT(client.results[6].tag, 0);
	CHECK_INT(client.results[6].status, 200);
	CHECK_INT(call_path(&client, server, "/status/200")->status, 200);
	client_close(&client);
}

/* libcurl gives up altogether: what was out fails, what comes then works. */
static void
test_multi_fails(Server *server)
{
	DtmHttpLimits limits = usual_limits();
	Client client;

	limits.max_host_calls = 5;
	client_open(&client, &limits);
	CHECK_INT(call_path(&client, server, "/status/200")->status, 200);
	for (int i = 0; i < 8; i++)
		CHECK_INT(start_call(&client, url_of(server, "/delay/20"), "{}", 2000), DTM_OK);
	fail_multi = true;
	dtm_http_dispatch(client.http);
	fail_multi = false;
	CHECK(run_until(&client, 9, 2000));
	CHECK(count_errors(&client, DTM_HTTP_BROKEN) >= 5);
	for (int i = 1; i < client.n_results; i++)
	{
		if (client.results[i].error == DTM_HTTP_BROKEN)
			CHECK_STR(client.results[i].message, "out of memory");
	}
	CHECK_INT(call_path(&client, server, "/status/200")->status, 200);
	client_close(&client);
}

int
main(void)
{
	Server *server = server_start();
	Server *other = server_start();

	test_host_limit(server);
	test_first_come_first_served(server);
	test_hosts_take_turns(server, other);
	test_hanging_host(server, other);
	test_queue_full(server);
	test_changed_limits(server);
	test_cancel(server);
	test_free_in_flight(server);
	test_circuit(server, other);
	test_circuit_stays_closed(server);
	test_cancelled_probe(server);
	test_many_hosts(server);
	test_many_calls(server);
	test_no_watches(server);
	test_multi_fails(server);
	server_stop(server);
	server_stop(other);
	TEST_REPORT();
}
