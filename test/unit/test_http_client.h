/* -------------------------------------------------------------------------
 *
 * test_http_client.h
 *		What the tests of the HTTP client share: a client to play with, calls
 *		in one line, and results that stay.
 *
 * -------------------------------------------------------------------------
 */
#ifndef TEST_HTTP_CLIENT_H
#define TEST_HTTP_CLIENT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* RTLD_NEXT, strcasestr */
#endif

#include "dtm_http.h"
#include "test_http_server.h"

#define MAX_RESULTS 6000

typedef struct Result
{
	uint64_t tag;
	DtmHttpError error;
	int status;
	char message[256];
	char body[2048]; /* its beginning, NUL-terminated */
	size_t body_len;
	int retry_after_ms;
	int64_t queued_us;
	int64_t took_us;
} Result;

typedef struct Client
{
	DtmHttp *http;
	DtmPolicy *policy;
	TestArena arena;
	Result *results; /* in the order they came */
	int n_results;
	uint64_t next_tag;
} Client;

static inline DtmPolicy *
parse_policy(Client *client, const char *text)
{
	char error[200] = "";
	DtmPolicy *policy = dtm_policy_parse(text, &client->arena.arena, error, sizeof(error));

	if (policy == NULL)
		printf("policy \"%s\": %s\n", text, error);
	return policy;
}

static inline DtmHttpLimits
usual_limits(void)
{
	return (DtmHttpLimits){.max_host_calls = 64,
						   .max_calls = 256,
						   .max_host_queue = 10000,
						   .max_body = 65536};
}

static inline void
client_open(Client *client, const DtmHttpLimits *limits)
{
	memset(client, 0, sizeof(*client));
	test_arena_init(&client->arena);
	client->results = calloc(MAX_RESULTS, sizeof(Result));
	client->http = dtm_http_new(limits);
	client->policy = parse_policy(client, "*");
	if (client->http == NULL || client->policy == NULL || client->results == NULL)
	{
		printf("cannot make a client\n");
		exit(1);
	}
	dtm_http_set_policy(client->http, client->policy);
}

static inline void
client_close(Client *client)
{
	dtm_http_free(client->http);
	test_arena_reset(&client->arena);
	free(client->results);
}

static inline void
collect(Client *client)
{
	DtmHttpDone *done;

	while ((done = dtm_http_next_done(client->http)) != NULL)
	{
		if (client->n_results < MAX_RESULTS)
		{
			Result *result = &client->results[client->n_results++];
			size_t kept =
				done->body_len < sizeof(result->body) ? done->body_len : sizeof(result->body) - 1;

			result->tag = done->tag;
			result->error = done->error;
			result->status = done->status;
			result->body_len = done->body_len;
			memcpy(result->body, done->body, kept);
			result->body[kept] = '\0';
			memcpy(result->message, done->message, sizeof(result->message));
			result->retry_after_ms = done->retry_after_ms;
			result->queued_us = done->queued_us;
			result->took_us = done->took_us;
		}
		dtm_http_release(client->http, done);
	}
}

/* Wait, dispatch and collect, as the coordinator does, until count results are there. */
static inline bool
run_until(Client *client, int count, int max_ms)
{
	int64_t end = now_ms() + max_ms;

	collect(client);
	while (client->n_results < count)
	{
		struct pollfd ready = {.fd = dtm_http_fd(client->http), .events = POLLIN};
		int timeout = dtm_http_timeout_ms(client->http);
		int64_t left = end - now_ms();

		if (left <= 0)
			return false;
		poll(&ready, 1, timeout < 0 || timeout > left ? (int) left : timeout);
		dtm_http_dispatch(client->http);
		collect(client);
	}
	return true;
}

/* Work for a while, whatever comes. */
static inline void
run_for(Client *client, int ms)
{
	(void) run_until(client, MAX_RESULTS + 1, ms);
}

/* Start a call with the next tag: a POST when there is a body. */
static inline DtmRc
start_call(Client *client, const char *url, const char *body, int timeout_ms)
{
	DtmHttpCall call = {.tag = client->next_tag++,
						.tag2 = 7,
						.url = url,
						.post = body != NULL,
						.body = body,
						.body_len = body ? strlen(body) : 0,
						.timeout_ms = timeout_ms};

	return dtm_http_start(client->http, &call);
}

/* The text of a URL of a server, valid until the eighth next. */
static inline const char *
url_of(const Server *server, const char *path)
{
	static char texts[8][300];
	static int next;
	char *text = texts[next++ % 8];

	snprintf(text, sizeof(texts[0]), "http://127.0.0.1:%d%s", server->port, path);
	return text;
}

/* One call and its result; an empty result with error -1 when none came. */
static inline Result *
call_with(Client *client, const char *url, const char *body, int timeout_ms)
{
	static Result none;
	int before = client->n_results;

	none.error = (DtmHttpError) -1;
	if (!CHECK_INT(start_call(client, url, body, timeout_ms), DTM_OK) ||
		!CHECK(run_until(client, before + 1, timeout_ms + 5000)))
		return &none;
	CHECK_INT(client->n_results, before + 1);
	return &client->results[before];
}

static inline Result *
call_url(Client *client, const char *url, int timeout_ms)
{
	return call_with(client, url, "{}", timeout_ms);
}

static inline Result *
call_path(Client *client, const Server *server, const char *path)
{
	return call_url(client, url_of(server, path), 3000);
}

#endif /* TEST_HTTP_CLIENT_H */
