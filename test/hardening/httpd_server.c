/* -------------------------------------------------------------------------
 *
 * httpd_server.c
 *		The HTTP API without a database, under AddressSanitizer and UBSan: for
 *		the attacks of test/t/DtmAttack.pm.
 *
 *	httpd_server max_connections max_body read_ms
 *
 * Prints "port N", serves until it is told to end by SIGTERM or its parent
 * is gone, closes everything and exits with 0: so the leak check has a say.
 * A submit with wait_result is answered half a second later; "/_counts" is
 * answered with what the server holds, as JSON.
 *
 * Built by make build/san/httpd_server.  Not here: any expectation.
 *
 * -------------------------------------------------------------------------
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "dtm_api.h"
#include "dtm_httpd.h"
#include "dtm_test.h"

#define WAIT_US 500000
#define MAX_WAITING 10000

static DtmHttpd *httpd;
static TestArena memory;
static volatile sig_atomic_t ending;

/* Requests that wait, in the order of their arrival. */
static DtmHttpdRequest *waiting[MAX_WAITING];
static int n_waiting;

static void
on_term(int number)
{
	(void) number;
	ending = 1;
}

static int64_t
now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void
give(DtmHttpdRequest *request, const DtmApiAnswer *answer)
{
	(void) dtm_httpd_answer(httpd, request, answer->status, answer->content_type, answer->body,
							answer->len);
}

static void
give_counts(DtmHttpdRequest *request)
{
	DtmHttpdCounts counts = dtm_httpd_counts(httpd);
	char body[300];
	int len = snprintf(body, sizeof(body),
					   "{\"connections\":%d,\"queued\":%d,\"waiting\":%d,\"bodies\":%zu,"
					   "\"requests\":%lld,\"refused\":%lld}",
					   counts.connections, counts.queued, counts.waiting, counts.bodies,
					   (long long) counts.requests, (long long) counts.refused);

	(void) dtm_httpd_answer(httpd, request, 200, "application/json", body, (size_t) len);
}

/* Everything that is asked for has worked. */
static void
do_request(DtmHttpdRequest *request)
{
	static const DtmText none = {"", 0};
	DtmApiCall call;
	DtmApiAnswer answer;
	const char *packed;
	size_t len;

	if (strcmp(request->uri, "/_counts") == 0)
	{
		give_counts(request);
		return;
	}
	if (dtm_api_read(request->method, request->uri, request->body, request->body_len, &memory.arena,
					 &call, &answer))
	{
		switch (call.route)
		{
			case DTM_API_PING:
				dtm_api_show_ping(&answer);
				break;
			case DTM_API_NEW_GID:
				dtm_api_show_gid(&call, test_text("new"), &memory.arena, &answer);
				break;
			case DTM_API_VERSION:
				dtm_api_show_version("v1", &memory.arena, &answer);
				break;
			case DTM_API_QUERY:
				dtm_api_show_query(NULL, NULL, 0, &memory.arena, &answer);
				break;
			case DTM_API_ALL:
				dtm_api_show_all(&call.list, NULL, 0, 0, &memory.arena, &answer);
				break;
			default:
				if (call.trans.builder != NULL &&
					!dtm_spec_finish(call.trans.builder, &packed, &len))
					dtm_api_spec_refused(&call, dtm_spec_error(call.trans.builder), &memory.arena,
										 &answer);
				else if (call.trans.wait_result && n_waiting < MAX_WAITING)
				{
					waiting[n_waiting++] = request;
					return;
				}
				else
					dtm_api_result(&call, DTM_API_SUCCESS, none, &memory.arena, &answer);
		}
	}
	give(request, &answer);
}

static void
do_waiting(void)
{
	DtmHttpdRequest *gone;
	int64_t now = now_us();
	int kept = 0;

	while ((gone = dtm_httpd_next_gone(httpd)) != NULL)
	{
		for (int i = 0; i < n_waiting; i++)
		{
			if (waiting[i] == gone)
				waiting[i] = NULL;
		}
		dtm_httpd_drop(httpd, gone);
	}
	for (int i = 0; i < n_waiting; i++)
	{
		DtmApiCall call = {.route = DTM_API_SUBMIT};
		DtmApiAnswer answer;

		if (waiting[i] == NULL)
			continue;
		if (!ending && now - waiting[i]->arrived_us < WAIT_US)
		{
			waiting[kept++] = waiting[i];
			continue;
		}
		dtm_api_waited(&call, DTM_TYPE_SAGA, DTM_STATUS_SUCCEED, DTM_STATUS_SUCCEED, test_text(""),
					   DTM_OUTCOME_SUCCESS, test_text(""), &memory.arena, &answer);
		give(waiting[i], &answer);
	}
	n_waiting = kept;
}

int
main(int argc, char **argv)
{
	DtmHttpdLimits limits;
	char error[200];
	pid_t parent = getppid();

	if (argc != 4)
	{
		fprintf(stderr, "usage: httpd_server max_connections max_body read_ms\n");
		return 2;
	}
	memset(&limits, 0, sizeof(limits));
	limits.max_head = 16 * 1024;
	limits.max_connections = atoi(argv[1]);
	limits.max_body = (size_t) atol(argv[2]);
	limits.max_bodies = 4 * limits.max_body;
	limits.max_queue = 1000;
	limits.read_ms = limits.write_ms = atoi(argv[3]);
	limits.idle_ms = 60000;
	limits.retry_after_s = 1;

	signal(SIGTERM, on_term);
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	test_arena_init(&memory);
	httpd = dtm_httpd_open("127.0.0.1", 0, DTM_HTTPD_FIRST, &limits, NULL, error, sizeof(error));
	if (httpd == NULL)
	{
		fprintf(stderr, "%s\n", error);
		return 1;
	}
	printf("port %d\n", dtm_httpd_port(httpd));
	fflush(stdout);
	while (!ending && getppid() == parent)
	{
		struct pollfd ready = {.fd = dtm_httpd_fd(httpd), .events = POLLIN};
		int timeout = dtm_httpd_timeout_ms(httpd);
		DtmHttpdRequest *request;

		if (timeout < 0 || timeout > 100)
			timeout = 100;
		(void) poll(&ready, 1, timeout);
		dtm_httpd_dispatch(httpd);
		while ((request = dtm_httpd_next_request(httpd)) != NULL)
			do_request(request);
		do_waiting();
		test_arena_reset(&memory);
	}
	dtm_httpd_close(httpd);
	test_arena_reset(&memory);
	return 0;
}
