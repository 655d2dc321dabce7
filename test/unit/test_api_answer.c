/* -------------------------------------------------------------------------
 *
 * test_api_answer.c
 *		DTM's HTTP API: answers, byte for byte.
 *
 * -------------------------------------------------------------------------
 */
#include <jansson.h>
#include <time.h>

#include "dtm_api.h"
#include "dtm_test.h"

#define NOON INT64_C(820584000000000) /* 2026-01-01 12:00:00 UTC */

static TestArena memory;
static DtmApiAnswer answer;
static const DtmApiCall plain = {.route = DTM_API_SUBMIT};
static const DtmApiCall rpc = {.route = DTM_API_SUBMIT, .rpc = true, .rpc_id = {"7", 1}};
static const DtmText none = {"", 0};

static void
check(int status, const char *body)
{
	json_t *parsed = json_loadb(answer.body, answer.len, JSON_DECODE_ANY, NULL);

	CHECK_INT(answer.status, status);
	CHECK_STR(answer.body, body);
	CHECK_INT(answer.len, strlen(body));
	CHECK_STR(answer.content_type, "application/json; charset=utf-8");
	CHECK(parsed != NULL);
	json_decref(parsed);
}

static void
result(const DtmApiCall *call, DtmApiOutcome outcome, const char *message)
{
	dtm_api_result(call, outcome, test_text(message), &memory.arena, &answer);
}

static void
test_results(void)
{
	result(&plain, DTM_API_SUCCESS, "");
	check(200, "{\"dtm_result\":\"SUCCESS\"}");
	result(&plain, DTM_API_FAILURE, "no money");
	check(409, "{\"dtm_result\":\"FAILURE\",\"message\":\"no money FAILURE\"}");
	result(&plain, DTM_API_FAILURE, "x. FAILURE");
	check(409, "{\"dtm_result\":\"FAILURE\",\"message\":\"x. FAILURE\"}");
	result(&plain, DTM_API_FAILURE, "");
	check(409, "{\"dtm_result\":\"FAILURE\",\"message\":\" FAILURE\"}");
	result(&plain, DTM_API_ONGOING, "ONGOING");
	check(425, "{\"dtm_result\":\"ONGOING\",\"message\":\"ONGOING\"}");
	result(&plain, DTM_API_ERROR, "a \"b\"\n\\\x01\x7f\xc3\xbc\xff\xed\xa0\x80z");
	check(500,
		  "{\"message\":\"a \\\"b\\\"\\n\\\\\\u0001\\u007f\xc3\xbc"
		  "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz\"}");
	result(&plain, DTM_API_BAD_REQUEST, "bad");
	check(400, "{\"message\":\"bad\"}");
	result(&plain, DTM_API_UNAUTHORIZED, "who?");
	check(401, "{\"message\":\"who?\"}");
	result(&plain, DTM_API_FORBIDDEN, "no");
	check(403, "{\"message\":\"no\"}");
	result(&plain, DTM_API_BUSY, "later");
	check(503, "{\"message\":\"later\"}");

	{
		DtmApiCall workflow = {.route = DTM_API_PREPARE_WORKFLOW, .trans = {.gid = {"g", 1}}};

		/* the Go client must neither die of it nor begin */
		result(&workflow, DTM_API_ERROR, "bad");
		check(500,
			  "{\"message\":\"bad\",\"progresses\":[],\"transaction\":{\"gid\":\"g\",\"status\":"
			  "\"failed\",\"rollback_reason\":\"bad\"}}");
		result(&workflow, DTM_API_BUSY, "later");
		CHECK_INT(answer.status, 503);
		CHECK_STR(answer.body, "later\n");
		CHECK_STR(answer.content_type, "text/plain; charset=utf-8");
	}

	result(&rpc, DTM_API_SUCCESS, "");
	check(200, "{\"error\":null,\"id\":\"7\",\"jsonrpc\":\"2.0\",\"result\":null}");
	result(&rpc, DTM_API_FAILURE, "no");
	check(200,
		  "{\"error\":{\"code\":-32901,\"message\":\"no FAILURE\"},\"id\":\"7\","
		  "\"jsonrpc\":\"2.0\",\"result\":null}");
	result(&rpc, DTM_API_ONGOING, "ONGOING");
	check(200,
		  "{\"error\":{\"code\":-32603,\"message\":\"ONGOING\"},\"id\":\"7\","
		  "\"jsonrpc\":\"2.0\",\"result\":null}");
	result(&rpc, DTM_API_UNAUTHORIZED, "who?");
	check(401,
		  "{\"error\":{\"code\":-32603,\"message\":\"who?\"},\"id\":\"7\","
		  "\"jsonrpc\":\"2.0\",\"result\":null}");
}

static void
test_refusals(void)
{
	static const struct
	{
		DtmApiRefusal refusal;
		int status;
		const char *message;
	} cases[] = {
		{DTM_API_CANNOT_PREPARE, 409, "current status 'succeed', cannot prepare. FAILURE"},
		{DTM_API_CANNOT_SUBMIT, 409, "current status 'succeed', cannot sumbmit. FAILURE"},
		{DTM_API_CANNOT_ABORT, 409,
		 "trans type: 'saga' current status 'succeed', cannot abort. FAILURE"},
		{DTM_API_CANNOT_STOP, 409,
		 "global transaction force stop error. status: succeed. error: FAILURE"},
		{DTM_API_NOT_PREPARED, 409, "no trans with gid: g1 status: prepared found FAILURE"},
		{DTM_API_NO_TRANS, 500, "no TransGlobal with gid: g1 found"},
		{DTM_API_NO_ROW, 500, "storage: NotFound"},
		{DTM_API_NOT_UNIQUE, 500, "storage: UniqueKeyConflict"},
		{DTM_API_TOPIC_NOT_FOUND, 500, "topic not found"},
		{DTM_API_URL_EXISTS, 500, "this url exists"},
		{DTM_API_NO_TOPIC, 500, "no such a topic"},
		{DTM_API_TOPIC_EMPTY, 500, "this topic is empty"},
		{DTM_API_NO_URL, 500, "no such an url "},
	};
	char long_gid[600];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		char expected[300];

		snprintf(expected, sizeof(expected), "{%s\"message\":\"%s\"}",
				 cases[i].status == 409 ? "\"dtm_result\":\"FAILURE\"," : "", cases[i].message);
		dtm_api_refuse(&plain, cases[i].refusal, test_text("g1"), DTM_TYPE_SAGA, DTM_STATUS_SUCCEED,
					   &memory.arena, &answer);
		check(cases[i].status, expected);
	}
	dtm_api_refuse(&rpc, DTM_API_NOT_PREPARED, test_text("g"), DTM_TYPE_TCC, DTM_STATUS_NONE,
				   &memory.arena, &answer);
	check(200,
		  "{\"error\":{\"code\":-32901,\"message\":\"no trans with gid: g status: prepared "
		  "found FAILURE\"},\"id\":\"7\",\"jsonrpc\":\"2.0\",\"result\":null}");

	/* however long the gid, the words stay */
	memset(long_gid, 'g', sizeof(long_gid) - 1);
	long_gid[sizeof(long_gid) - 1] = '\0';
	dtm_api_refuse(&plain, DTM_API_NOT_PREPARED, test_text(long_gid), DTM_TYPE_TCC, DTM_STATUS_NONE,
				   &memory.arena, &answer);
	CHECK(strstr(answer.body, "prepared found FAILURE\"}") != NULL);
	{
		DtmSpecError error = {DTM_SPEC_INVALID, 1, "action", "step 1 has no \"action\"", "Do it."};

		dtm_api_spec_refused(&plain, &error, &memory.arena, &answer);
		check(500, "{\"message\":\"step 1 has no \\\"action\\\"; Do it.\"}");
	}
}

static void
waited(DtmTransType type, DtmStatus wanted, DtmStatus status, const char *reason, DtmOutcome last,
	   int http_status, const char *message)
{
	char expected[300];
	static const char *const results[] = {"\"dtm_result\":\"FAILURE\",",
										  "\"dtm_result\":\"ONGOING\",", ""};

	dtm_api_waited(&plain, type, wanted, status, test_text(reason), last, test_text("url a: no"),
				   &memory.arena, &answer);
	if (http_status == 200)
		snprintf(expected, sizeof(expected), "{\"dtm_result\":\"SUCCESS\"}");
	else
		snprintf(expected, sizeof(expected), "{%s\"message\":\"%s\"}",
				 results[http_status == 409       ? 0
							 : http_status == 425 ? 1
												  : 2],
				 message);
	check(http_status, expected);
}

static void
test_waited(void)
{
	waited(DTM_TYPE_SAGA, DTM_STATUS_SUCCEED, DTM_STATUS_SUCCEED, "", DTM_OUTCOME_SUCCESS, 200, "");
	waited(DTM_TYPE_SAGA, DTM_STATUS_SUCCEED, DTM_STATUS_FAILED, "url:x return failed: FAILURE",
		   DTM_OUTCOME_SUCCESS, 409, "url:x return failed: FAILURE");
	waited(DTM_TYPE_SAGA, DTM_STATUS_SUCCEED, DTM_STATUS_ABORTING, "Timeout after 3 seconds",
		   DTM_OUTCOME_ERROR, 409, "Timeout after 3 seconds FAILURE");
	waited(DTM_TYPE_SAGA, DTM_STATUS_SUCCEED, DTM_STATUS_SUBMITTED, "", DTM_OUTCOME_ONGOING, 409,
		   "wait result not return success: FAILURE");
	waited(DTM_TYPE_SAGA, DTM_STATUS_SUCCEED, DTM_STATUS_SUBMITTED, "", DTM_OUTCOME_ERROR, 409,
		   "wait result not return success: FAILURE");
	waited(DTM_TYPE_MSG, DTM_STATUS_SUCCEED, DTM_STATUS_SUBMITTED, "", DTM_OUTCOME_ONGOING, 409,
		   "wait result not return success: FAILURE");
	waited(DTM_TYPE_TCC, DTM_STATUS_SUCCEED, DTM_STATUS_SUBMITTED, "", DTM_OUTCOME_ONGOING, 425,
		   "ONGOING");
	waited(DTM_TYPE_MSG, DTM_STATUS_SUCCEED, DTM_STATUS_SUBMITTED, "", DTM_OUTCOME_FAILURE, 409,
		   "your http/grpc result should be specified as in: url a: no FAILURE");
	waited(DTM_TYPE_XA, DTM_STATUS_SUCCEED, DTM_STATUS_SUBMITTED, "", DTM_OUTCOME_ERROR, 500,
		   "your http/grpc result should be specified as in: url a: no");
	/* an abort that went through has a reason, too */
	waited(DTM_TYPE_TCC, DTM_STATUS_FAILED, DTM_STATUS_FAILED, "because", DTM_OUTCOME_SUCCESS, 200,
		   "");
	waited(DTM_TYPE_TCC, DTM_STATUS_FAILED, DTM_STATUS_ABORTING, "because", DTM_OUTCOME_ONGOING,
		   425, "ONGOING");
}

static void
test_small(void)
{
	dtm_api_show_gid(&plain, test_text("abc"), &memory.arena, &answer);
	check(200, "{\"dtm_result\":\"SUCCESS\",\"gid\":\"abc\"}");
	dtm_api_show_gid(&rpc, test_text("abc"), &memory.arena, &answer);
	check(200, "{\"error\":null,\"id\":\"7\",\"jsonrpc\":\"2.0\",\"result\":{\"gid\":\"abc\"}}");
	dtm_api_show_version("v1.19.0", &memory.arena, &answer);
	check(200, "{\"version\":\"v1.19.0\"}");
	dtm_api_show_ping(&answer);
	check(200, "{\"msg\":\"pong\"}");
	dtm_api_show_reset(true, 100, &memory.arena, &answer);
	check(200, "{\"has_remaining\":true,\"succeed_count\":100}");
}

static void
test_query(void)
{
	/* "T": "1" packed */
	static const char headers[] = "\x01T\x01\x31";
	DtmApiTransRow row = {.id = INT64_C(0x100000007),
						  .create_time = NOON,
						  .update_time = NOON + 1,
						  .rollback_time = NOON + 1500000,
						  .next_cron_time = DTM_TIME_NEVER,
						  .next_cron_interval = 10,
						  .gid = {"g\"1", 3},
						  .type = DTM_TYPE_SAGA,
						  .status = DTM_STATUS_FAILED,
						  .protocol = {"http", 4},
						  .rollback_reason = {"no FAILURE", 10},
						  .wait_result = true,
						  .concurrent = true,
						  .timeout_to_fail_ms = 1,
						  .request_timeout_ms = 3000,
						  .retry_limit = 3,
						  .headers = {headers, 4}};
	DtmApiBranchRow branches[2] = {{.id = 1,
									.create_time = NOON,
									.update_time = NOON,
									.gid = {"g", 1},
									.url = {"http://a/", 9},
									.branch_id = {"01", 2},
									.op = {"compensate", 10},
									.status = {"prepared", 8},
									.bin_data = {"{\"amount\":30}", 13}},
								   {.id = 2, .bin_data = {"a", 1}, .finish_time = NOON}};

	dtm_api_show_query(NULL, NULL, 0, &memory.arena, &answer);
	check(200, "{\"branches\":[],\"transaction\":null}");
	dtm_api_show_query(&row, branches, 2, &memory.arena, &answer);
	check(200,
		  "{\"branches\":[{\"id\":1,\"create_time\":\"2026-01-01T12:00:00Z\",\"update_time\":"
		  "\"2026-01-01T12:00:00Z\",\"gid\":\"g\",\"url\":\"http://a/\",\"bin_data\":"
		  "\"eyJhbW91bnQiOjMwfQ==\",\"branch_id\":\"01\",\"op\":\"compensate\",\"status\":"
		  "\"prepared\"},{\"id\":2,\"create_time\":null,\"update_time\":null,\"bin_data\":\"YQ==\","
		  "\"finish_time\":\"2026-01-01T12:00:00Z\"}],"
		  "\"transaction\":{\"id\":7,\"create_time\":\"2026-01-01T12:00:00Z\",\"update_time\":"
		  "\"2026-01-01T12:00:00.000001Z\",\"gid\":\"g\\\"1\",\"trans_type\":\"saga\",\"status\":"
		  "\"failed\",\"protocol\":\"http\",\"rollback_time\":\"2026-01-01T12:00:01.5Z\","
		  "\"rollback_reason\":\"no FAILURE\",\"options\":\"{\\\"wait_result\\\":true,"
		  "\\\"timeout_to_fail\\\":1,\\\"request_timeout\\\":3,\\\"branch_headers\\\":"
		  "{\\\"T\\\":\\\"1\\\"},\\\"concurrent\\\":true,\\\"retry_limit\\\":3}\","
		  "\"next_cron_interval\":10,\"concurrent\":false}}");

	memset(&row, 0, sizeof(row));
	row.type = DTM_TYPE_WORKFLOW;
	row.status = DTM_STATUS_PREPARED;
	row.result = test_text("b2s=");
	dtm_api_show_workflow(&row, NULL, 0, &memory.arena, &answer);
	check(200,
		  "{\"progresses\":[],\"transaction\":{\"id\":0,\"create_time\":null,\"update_time\":"
		  "null,\"trans_type\":\"workflow\",\"status\":\"prepared\",\"result\":\"b2s=\","
		  "\"options\":\"{\\\"concurrent\\\":false}\",\"concurrent\":false}}");
}

static void
test_times(void)
{
	static const struct
	{
		DtmTime time;
		const char *shown;
	} cases[] = {{1, "\"2000-01-01T00:00:00.000001Z\""},
				 {-1, "\"1999-12-31T23:59:59.999999Z\""},
				 {INT64_C(762523199999999), "\"2024-02-29T11:59:59.999999Z\""},
				 {INT64_C(-946684799000000), "\"1970-01-01T00:00:01Z\""},
				 {INT64_C(252455615999000000), "\"9999-12-31T23:59:59Z\""},
				 {INT64_C(252455616000000000), "null"},
				 {0, "null"},
				 {INT64_MAX, "null"},
				 {INT64_MIN, "null"}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		DtmApiTransRow row = {.create_time = cases[i].time};
		char expected[100];

		dtm_api_show_query(&row, NULL, 0, &memory.arena, &answer);
		snprintf(expected, sizeof(expected), "\"create_time\":%s,", cases[i].shown);
		if (!CHECK(strstr(answer.body, expected) != NULL))
			printf("    %s not in %s\n", expected, answer.body);
	}

	/* every 11 days and a bit, as the C library has it */
	for (int64_t unix_s = 1; unix_s < INT64_C(253402300799); unix_s += 1000003)
	{
		DtmApiTransRow row = {.create_time = (unix_s - INT64_C(946684800)) * 1000000};
		time_t when = (time_t) unix_s;
		struct tm tm;
		char expected[100];

		gmtime_r(&when, &tm);
		strftime(expected, sizeof(expected), "\"create_time\":\"%Y-%m-%dT%H:%M:%SZ\",", &tm);
		dtm_api_show_query(&row, NULL, 0, &memory.arena, &answer);
		if (strstr(answer.body, expected) == NULL && !CHECK_STR(answer.body, expected))
			break;
		test_arena_reset(&memory);
	}
}

static void
test_lists(void)
{
	DtmApiTransRow rows[2] = {{.id = INT64_C(5000000000), .gid = {"a", 1}}, {.id = 3}};
	DtmApiList list = {.limit = 2, .position = {"9", 1}};
	DtmApiCall scan = {.route = DTM_API_SCAN_KV, .list = {.limit = 1}};
	DtmApiCall query = {.route = DTM_API_QUERY_KV, .list = {.limit = 1}};
	DtmApiSubscriber subscribers[2] = {{{"http://a/", 9}, {"x", 1}}, {{"http://b/", 9}, {"", 0}}};
	DtmApiKvRow kv = {.id = 1,
					  .create_time = NOON,
					  .update_time = NOON,
					  .cat = {"topics", 6},
					  .k = {"t1", 2},
					  .version = 2};

	dtm_api_show_all(&list, rows, 2, 3, &memory.arena, &answer);
	CHECK(strstr(answer.body, "{\"next_position\":\"3\",\"transactions\":[{\"id\":705032704,") ==
		  answer.body);
	dtm_api_show_all(&list, rows, 1, 0, &memory.arena, &answer);
	CHECK(strstr(answer.body, "{\"next_position\":\"\",") == answer.body);
	dtm_api_show_all(&list, rows, 1, INT64_C(5000000000), &memory.arena, &answer);
	CHECK(strstr(answer.body, "{\"next_position\":\"5000000000\",") == answer.body);
	dtm_api_show_all(&list, NULL, 0, 0, &memory.arena, &answer);
	check(200, "{\"next_position\":\"\",\"transactions\":[]}");
	list.gid = test_text("a");
	dtm_api_show_all(&list, NULL, 0, 0, &memory.arena, &answer);
	check(200, "{\"next_position\":\"9\",\"transactions\":null}");

	CHECK(dtm_api_topic_value(subscribers, 2, &memory.arena, &kv.v));
	CHECK_TEXT(kv.v,
			   "[{\"url\":\"http://a/\",\"remark\":\"x\"},{\"url\":\"http://b/\",\"remark\":\"\"}]");
	CHECK(dtm_api_topic_value(subscribers, 0, &memory.arena, &kv.v));
	CHECK_TEXT(kv.v, "[]");
	dtm_api_show_kv(&query, &kv, 1, &memory.arena, &answer);
	check(200,
		  "{\"kv\":[{\"id\":1,\"create_time\":\"2026-01-01T12:00:00Z\",\"update_time\":"
		  "\"2026-01-01T12:00:00Z\",\"cat\":\"topics\",\"k\":\"t1\",\"v\":\"[]\",\"version\":2}]}");
	dtm_api_show_kv(&scan, &kv, 1, &memory.arena, &answer);
	CHECK(strstr(answer.body, "],\"next_position\":\"1\"}") != NULL);
	dtm_api_show_kv(&scan, NULL, 0, &memory.arena, &answer);
	check(200, "{\"kv\":[],\"next_position\":\"\"}");
}

/* What the engine has of a transaction, as rows. */
static void
test_rows(void)
{
	DtmBranch branches[1];
	DtmTrans trans;
	DtmApiTransRow row;
	DtmApiBranchRow rows[DTM_ROLES];

	memset(&trans, 0, sizeof(trans));
	memset(branches, 0, sizeof(branches));
	trans.type = DTM_TYPE_SAGA;
	trans.status = DTM_STATUS_ABORTING;
	trans.reason = test_text("why");
	trans.flags = DTM_FLAG_CONCURRENT;
	trans.retry_limit = -1;
	trans.timeout_to_fail_ms = 1500;
	trans.n_branches = 1;
	trans.branches = branches;
	branches[0].branch_id = test_text("01");
	branches[0].payload = test_text("{}");
	branches[0].op[DTM_ROLE_FORWARD] = DTM_OP_ACTION;
	branches[0].op[DTM_ROLE_UNDO] = DTM_OP_COMPENSATE;
	branches[0].url[DTM_ROLE_FORWARD] = test_text("http://a/1");
	branches[0].url[DTM_ROLE_UNDO] = test_text("http://a/2");
	branches[0].state[DTM_ROLE_FORWARD].status = DTM_OP_FAILED;
	branches[0].state[DTM_ROLE_FORWARD].finished_at = NOON;

	dtm_api_trans_row(&trans, &row);
	CHECK_INT(row.status, DTM_STATUS_ABORTING);
	CHECK_TEXT(row.rollback_reason, "why");
	CHECK(row.concurrent);
	CHECK_INT(row.retry_limit, 0);
	dtm_api_show_query(&row, NULL, 0, &memory.arena, &answer);
	CHECK(strstr(answer.body,
				 "\"options\":\"{\\\"timeout_to_fail\\\":2,\\\"concurrent\\\":true}\"") != NULL);
	CHECK_INT(dtm_api_branch_rows(&trans, 0, 11, rows), 2);
	CHECK_INT(rows[0].id, 11);
	CHECK_TEXT(rows[0].op, "compensate");
	CHECK_TEXT(rows[0].url, "http://a/2");
	CHECK_TEXT(rows[0].status, "prepared");
	CHECK_INT(rows[1].id, 12);
	CHECK_TEXT(rows[1].op, "action");
	CHECK_TEXT(rows[1].status, "failed");
	CHECK_INT(rows[1].finish_time, NOON);
	CHECK_TEXT(rows[1].bin_data, "{}");

	/* tcc: cancel before confirm */
	memset(branches[0].op, 0, sizeof(branches[0].op));
	branches[0].op[DTM_ROLE_CONFIRM] = DTM_OP_CONFIRM;
	branches[0].op[DTM_ROLE_UNDO] = DTM_OP_CANCEL;
	CHECK_INT(dtm_api_branch_rows(&trans, 0, 1, rows), 2);
	CHECK_TEXT(rows[0].op, "cancel");
	CHECK_TEXT(rows[1].op, "confirm");
}

/* Too much to tell, and no memory to tell it in. */
static void
test_bounds(void)
{
	size_t size = 9 * 1024 * 1024;
	char *big = malloc(size);
	DtmApiBranchRow branch = {.bin_data = {big, (uint32_t) size}};
	DtmApiTransRow row = {.id = 1};
	bool done = false;

	memset(big, '\x01', size);
	dtm_api_show_query(&row, &branch, 1, &memory.arena, &answer);
	CHECK_INT(answer.status, 200);
	CHECK(answer.len > size);
	branch.bin_data = none;
	branch.url = (DtmText){big, (uint32_t) size};
	dtm_api_show_query(&row, &branch, 1, &memory.arena, &answer);
	check(500, "{\"message\":\"the answer is too long; ask for less\"}");
	for (long n = 0; !done && n < 100; n++)
	{
		memory.fail_after = n;
		dtm_api_show_query(&row, NULL, 0, &memory.arena, &answer);
		memory.fail_after = -1;
		done = answer.status == 200;
		if (!done)
			check(500, "{\"message\":\"out of memory\"}");
	}
	CHECK(done);
	memory.fail_after = 0;
	result(&plain, DTM_API_FAILURE, "x");
	memory.fail_after = -1;
	check(500, "{\"message\":\"out of memory\"}");
	free(big);
}

static void
test_metrics(void)
{
	DtmApiSample samples[] = {{"dtm_server_process_total", "Requests.", "counter", "",
							   "type=\"http\",api=\"submit\"", 12},
							  {"dtm_server_process_total", NULL, NULL, "",
							   "type=\"http\",api=\"query\"", 0},
							  {"dtm_server_response_duration", "Seconds.", "histogram", "_bucket",
							   "le=\"+Inf\"", 3},
							  {"dtm_server_response_duration", NULL, NULL, "_sum", "", 0.25}};

	dtm_api_show_metrics(samples, 4, &memory.arena, &answer);
	CHECK_INT(answer.status, 200);
	CHECK_STR(answer.content_type, "text/plain; version=0.0.4; charset=utf-8");
	CHECK_STR(answer.body,
			  "# HELP dtm_server_process_total Requests.\n"
			  "# TYPE dtm_server_process_total counter\n"
			  "dtm_server_process_total{type=\"http\",api=\"submit\"} 12\n"
			  "dtm_server_process_total{type=\"http\",api=\"query\"} 0\n"
			  "# HELP dtm_server_response_duration Seconds.\n"
			  "# TYPE dtm_server_response_duration histogram\n"
			  "dtm_server_response_duration_bucket{le=\"+Inf\"} 3\n"
			  "dtm_server_response_duration_sum 0.25\n");
	dtm_api_show_metrics(NULL, 0, &memory.arena, &answer);
	CHECK_INT(answer.status, 200);
}

int
main(void)
{
	test_arena_init(&memory);
	test_results();
	test_refusals();
	test_waited();
	test_small();
	test_query();
	test_times();
	test_lists();
	test_rows();
	test_bounds();
	test_metrics();
	test_arena_reset(&memory);
	TEST_REPORT();
}
