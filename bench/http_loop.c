/* -------------------------------------------------------------------------
 *
 * http_loop.c
 *		The same calls as curl_loop, through the HTTP client of src/net.
 *
 *		http_loop URL CALLS IN_FLIGHT
 *
 * Same output as curl_loop; the ratio of both cpu_us/call is what the
 * client's copies, queues, limits and messages cost.
 *
 * -------------------------------------------------------------------------
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "dtm_http.h"

static const char payload[] = "{\"amount\":30,\"account\":\"0123456789\"}";
static const char *const headers[] = {"Content-Type: application/json"};

static char memory[65536];
static size_t memory_used;

static void *
allocate(void *context, size_t size)
{
	void	   *result = memory + memory_used;

	(void) context;
	size = (size + 15) & ~(size_t) 15;
	if (size > sizeof(memory) - memory_used)
		return NULL;
	memory_used += size;
	return result;
}

static int64_t
clock_us(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* Make wanted calls, in_flight at a time; how many were answered with 200. */
static long
run(DtmHttp *http, const char *url, long wanted, int in_flight)
{
	DtmHttpCall call = {
		.url = url,
		.post = true,
		.body = payload,
		.body_len = sizeof(payload) - 1,
		.headers = headers,
		.n_headers = 1,
		.timeout_ms = 3000
	};
	DtmHttpDone *done;
	long		started = 0;
	long		ended = 0;
	long		good = 0;

	while (ended < wanted)
	{
		struct pollfd ready = {.fd = dtm_http_fd(http), .events = POLLIN};

		while (started < wanted && dtm_http_calls_out(http) < in_flight)
		{
			call.tag = (uint64_t) started++;
			if (dtm_http_start(http, &call) != DTM_OK)
				return good;
		}
		poll(&ready, 1, dtm_http_timeout_ms(http));
		dtm_http_dispatch(http);
		while ((done = dtm_http_next_done(http)) != NULL)
		{
			ended++;
			if (done->error == DTM_HTTP_OK && done->status == 200)
				good++;
			dtm_http_release(http, done);
		}
	}
	return good;
}

int
main(int argc, char **argv)
{
	DtmArena	arena = {.alloc = allocate};
	DtmHttpLimits limits = {.max_host_queue = 1000, .max_body = 65536};
	char		error[200];
	DtmPolicy  *policy;
	DtmHttp    *http;
	long		wanted;
	long		good;
	int64_t		wall;
	int64_t		cpu;

	if (argc != 4)
	{
		fprintf(stderr, "usage: http_loop URL CALLS IN_FLIGHT\n");
		return 2;
	}
	wanted = atol(argv[2]);
	limits.max_calls = limits.max_host_calls = atoi(argv[3]);
	policy = dtm_policy_parse("*", &arena, error, sizeof(error));
	http = dtm_http_new(&limits);
	if (policy == NULL || http == NULL)
		return 1;
	dtm_http_set_policy(http, policy);

	wall = clock_us(CLOCK_MONOTONIC);
	cpu = clock_us(CLOCK_PROCESS_CPUTIME_ID);
	good = run(http, argv[1], wanted, limits.max_calls);
	cpu = clock_us(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	wall = clock_us(CLOCK_MONOTONIC) - wall;
	dtm_http_free(http);

	printf("http_loop calls %ld good %ld in_flight %s calls/s %.0f cpu_us/call %.2f\n", wanted, good,
		   argv[3], (double) wanted * 1e6 / (double) wall, (double) cpu / (double) wanted);
	return good == wanted ? 0 : 1;
}
