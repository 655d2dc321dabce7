/* -------------------------------------------------------------------------
 *
 * test_api_http.c
 *		The HTTP API behind the server, asked over libcurl: a pretended
 *		coordinator that stores nothing.
 *
 * Shows how the parts are put together: fetch, read, do, answer; a request
 * that is to wait is kept, and answered in a later turn.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_answer.h"
#include "dtm_api.h"
#include "test_http_client.h"
#include "test_httpd_peer.h"

#define SAGA \
	"{\"gid\":\"%s\",\"trans_type\":\"saga\",\"wait_result\":%s,\"payloads\":[\"{}\"],\"steps\":[{\"action\":\"http://a/\"}]}"

static DtmHttpd *httpd;
static DtmHttpdRequest *waiting; /* a submit with wait_result */
static TestArena memory;

static void
give(DtmHttpdRequest *request, const DtmApiAnswer *answer)
{
	CHECK_INT(dtm_httpd_answer(httpd, request, answer->status, answer->content_type, answer->body,
							   answer->len),
			  DTM_OK);
}

static void
do_submit(DtmHttpdRequest *request, const DtmApiCall *call, DtmApiAnswer *answer)
{
	static const DtmText none = {"", 0};
	const char *packed;
	size_t len;

	if (!dtm_spec_finish(call->trans.builder, &packed, &len))
		dtm_api_spec_refused(call, dtm_spec_error(call->trans.builder), &memory.arena, answer);
	else if (call->trans.gid.data[0] == 'x') /* one that has ended long ago */
		dtm_api_refuse(call, DTM_API_CANNOT_SUBMIT, call->trans.gid, call->trans.type,
					   DTM_STATUS_FAILED, &memory.arena, answer);
	else if (call->trans.wait_result)
	{
		waiting = request;
		return;
	}
	else
		dtm_api_result(call, DTM_API_SUCCESS, none, &memory.arena, answer);
	give(request, answer);
}

static void
handle(DtmHttpdRequest *request)
{
	DtmApiCall call;
	DtmApiAnswer answer;

	if (request->authorization != NULL)
	{
		memset(&call, 0, sizeof(call));
		dtm_api_result(&call, DTM_API_UNAUTHORIZED, test_text("unknown token"), &memory.arena,
					   &answer);
	}
	else if (dtm_api_read(request->method, request->uri, request->body, request->body_len,
						  &memory.arena, &call, &answer))
	{
		if (call.route == DTM_API_SUBMIT)
		{
			do_submit(request, &call, &answer);
			return;
		}
		if (call.route == DTM_API_QUERY)
			dtm_api_show_query(NULL, NULL, 0, &memory.arena, &answer);
		else
			dtm_api_show_gid(&call, test_text("new"), &memory.arena, &answer);
	}
	give(request, &answer);
}

/* Both ends in one loop until the result is there; turns says how often. */
static Result *
ask(Client *client, const char *path, const char *body, const char *header)
{
	char url[300];
	int before = client->n_results;
	int64_t end = now_ms() + PATIENCE_MS;
	DtmHttpCall out = {.tag = client->next_tag++,
					   .url = url,
					   .post = body != NULL,
					   .body = body,
					   .body_len = body != NULL ? strlen(body) : 0,
					   .headers = &header,
					   .n_headers = header != NULL ? 1 : 0,
					   .timeout_ms = PATIENCE_MS};

	snprintf(url, sizeof(url), "http://127.0.0.1:%d%s", dtm_httpd_port(httpd), path);
	CHECK_INT(dtm_http_start(client->http, &out), DTM_OK);
	while (client->n_results == before && now_ms() < end)
	{
		DtmHttpdRequest *request;

		turn(httpd, 1);
		while ((request = dtm_httpd_next_request(httpd)) != NULL)
			handle(request);
		dtm_http_dispatch(client->http);
		collect(client);
		if (waiting != NULL && dtm_httpd_timeout_ms(httpd) != 0)
		{
			DtmApiCall call = {.route = DTM_API_SUBMIT};
			DtmApiAnswer answer;

			dtm_api_waited(&call, DTM_TYPE_SAGA, DTM_STATUS_SUCCEED, DTM_STATUS_FAILED,
						   test_text("url:http://a/ return failed: no FAILURE"),
						   DTM_OUTCOME_SUCCESS, test_text(""), &memory.arena, &answer);
			give(waiting, &answer);
			waiting = NULL;
		}
	}
	if (!CHECK_INT(client->n_results, before + 1))
		exit(1);
	return &client->results[before];
}

static void
check_asked(Client *client, const char *path, const char *body, int status, const char *expected)
{
	Result *result = ask(client, path, body, NULL);

	CHECK_INT(result->error, DTM_HTTP_OK);
	CHECK_INT(result->status, status);
	CHECK_STR(result->body, expected);
}

int
main(void)
{
	DtmHttpdLimits limits = httpd_limits();
	DtmHttpLimits client_limits = usual_limits();
	Client client;
	Result *result;
	char body[300];

	test_arena_init(&memory);
	client_open(&client, &client_limits);
	httpd = httpd_open(&limits);
	check_asked(&client, "/api/dtmsvr/newGid", NULL, 200,
				"{\"dtm_result\":\"SUCCESS\",\"gid\":\"new\"}");
	check_asked(&client, "/api/dtmsvr/query?gid=a%20b", NULL, 200,
				"{\"branches\":[],\"transaction\":null}");
	check_asked(&client, "/favicon.ico", NULL, 404, "404 page not found");
	check_asked(&client, "/api/dtmsvr/submit", "{", 500,
				"{\"message\":\"the body is not a JSON object: line 1, column 1: string or '}' "
				"expected near end of file\"}");
	snprintf(body, sizeof(body), SAGA, "g1", "false");
	check_asked(&client, "/api/dtmsvr/submit", body, 200, "{\"dtm_result\":\"SUCCESS\"}");
	check_asked(&client, "/api/dtmsvr/submit",
				"{\"gid\":\"g\",\"trans_type\":\"saga\",\"steps\":[{\"action\":\"http://a/\"}]}",
				500,
				"{\"message\":\"step 0 has no payload; Give \\\"payloads\\\" one text per step, "
				"\\\"\\\" for none.\"}");
	check_asked(&client, "/api/dtmsvr/submit",
				"{\"gid\":\"g\",\"trans_type\":\"saga\",\"steps\":null}", 200,
				"{\"dtm_result\":\"SUCCESS\"}");
	check_asked(&client, "/api/json-rpc",
				"{\"jsonrpc\":\"2.0\",\"id\":\"no-use\",\"method\":\"newGid\"}", 200,
				"{\"error\":null,\"id\":\"no-use\",\"jsonrpc\":\"2.0\",\"result\":{\"gid\":\"new\"}}");

	/* what our own client makes of a refusal, and of one that waited */
	snprintf(body, sizeof(body), SAGA, "x1", "false");
	result = ask(&client, "/api/dtmsvr/submit", body, NULL);
	CHECK_INT(dtm_answer_meaning(result->status, result->body, result->body_len),
			  DTM_OUTCOME_FAILURE);
	snprintf(body, sizeof(body), SAGA, "g2", "true");
	check_asked(&client, "/api/dtmsvr/submit", body, 409,
				"{\"dtm_result\":\"FAILURE\",\"message\":\"url:http://a/ return failed: no FAILURE\"}");
	result = ask(&client, "/api/dtmsvr/newGid", NULL, "Authorization: Bearer wrong");
	CHECK_INT(result->status, 401);
	CHECK_STR(result->body, "{\"message\":\"unknown token\"}");

	client_close(&client);
	CHECK(settle(httpd, 0));
	dtm_httpd_close(httpd);
	test_arena_reset(&memory);
	TEST_REPORT();
}
