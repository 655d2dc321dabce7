/* -------------------------------------------------------------------------
 *
 * test_api.c
 *		DTM's HTTP API: what requests are read as.  The bodies of SDKs are
 *		written after what these were seen to send.
 *
 * Not here: answers that are data (test_api_answer.c).
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_api.h"
#include "dtm_test.h"

#define BASE "/api/dtmsvr/"

static TestArena memory;
static DtmApiCall call;
static DtmApiAnswer answer;

static bool
read_as(const char *method, const char *uri, const char *body)
{
	memset(&answer, 0, sizeof(answer));
	return dtm_api_read(method, uri, body, strlen(body), &memory.arena, &call, &answer);
}

/* A POST that is fine. */
static bool
post(const char *route, const char *body)
{
	char uri[100];

	snprintf(uri, sizeof(uri), BASE "%s", route);
	if (CHECK(read_as("POST", uri, body)))
		return true;
	printf("    %s: %s\n", body, answer.body);
	return false;
}

/* One that is refused, with these words. */
static void
bad(const char *method, const char *uri, const char *body, int status, const char *expected)
{
	if (!CHECK(!read_as(method, uri, body)) || !CHECK_INT(answer.status, status) ||
		!CHECK_STR(answer.body, expected) || !CHECK_INT(answer.len, strlen(expected)))
		printf("    %s %s %s\n", method, uri, body);
}

static void
bad_post(const char *route, const char *body, const char *message)
{
	char uri[100];
	char expected[700];

	snprintf(uri, sizeof(uri), BASE "%s", route);
	snprintf(expected, sizeof(expected), "{\"message\":\"%s\"}", message);
	bad("POST", uri, body, 500, expected);
}

static void
bad_workflow(const char *body, const char *message)
{
	char expected[900];

	snprintf(expected, sizeof(expected),
			 "{\"message\":\"%s\",\"progresses\":[],\"transaction\":{\"gid\":\"g\",\"status\":"
			 "\"failed\",\"rollback_reason\":\"%s\"}}",
			 message, message);
	bad("POST", BASE "prepareWorkflow", body, 500, expected);
}

/* The spec that the request makes. */
static DtmTrans
finish(DtmSpecBuilder *builder)
{
	const char *packed;
	size_t len;
	DtmTrans trans;

	memset(&trans, 0, sizeof(trans));
	if (!CHECK(builder != NULL))
		exit(1);
	if (CHECK(dtm_spec_finish(builder, &packed, &len)))
		CHECK_INT(dtm_spec_unpack(packed, len, &memory.arena, &trans), DTM_OK);
	else
		printf("    %s\n", dtm_spec_error(builder)->message);
	return trans;
}

static void
test_routes(void)
{
	static const struct
	{
		const char *method;
		const char *uri;
		DtmApiRoute route;
	} cases[] = {{"GET", BASE "version", DTM_API_VERSION},
				 {"GET", BASE "newGid", DTM_API_NEW_GID},
				 {"POST", BASE "prepare", DTM_API_PREPARE},
				 {"POST", BASE "submit", DTM_API_SUBMIT},
				 {"POST", BASE "abort", DTM_API_ABORT},
				 {"POST", BASE "registerBranch", DTM_API_REGISTER_BRANCH},
				 {"POST", BASE "registerXaBranch", DTM_API_REGISTER_BRANCH},
				 {"POST", BASE "registerTccBranch", DTM_API_REGISTER_BRANCH},
				 {"POST", BASE "prepareWorkflow", DTM_API_PREPARE_WORKFLOW},
				 {"POST", BASE "forceStop", DTM_API_FORCE_STOP},
				 {"POST", BASE "resetNextCronTime", DTM_API_RESET_NEXT_CRON_TIME},
				 {"GET", BASE "resetCronTime?limit=1", DTM_API_RESET_CRON_TIME},
				 {"GET", BASE "query?gid=1", DTM_API_QUERY},
				 {"GET", BASE "all", DTM_API_ALL},
				 {"GET", BASE "subscribe?topic=t&url=u", DTM_API_SUBSCRIBE},
				 {"GET", BASE "unsubscribe", DTM_API_UNSUBSCRIBE},
				 {"DELETE", BASE "topic/t1", DTM_API_DELETE_TOPIC},
				 {"GET", BASE "scanKV?cat=topics", DTM_API_SCAN_KV},
				 {"GET", BASE "queryKV", DTM_API_QUERY_KV},
				 {"POST", "/api/json-rpc", DTM_API_JSON_RPC},
				 {"GET", "/api/metrics", DTM_API_METRICS},
				 {"GET", "/api/ping", DTM_API_PING},
				 {"POST", "/api/ping", DTM_API_PING},
				 {"HEAD", "/api/ping/", DTM_API_PING},
				 {"POST", BASE "submit/", DTM_API_SUBMIT},
				 {"POST", "http://h:1" BASE "submit?x", DTM_API_SUBMIT},
				 {"GET", BASE "submit", DTM_API_WRONG_METHOD},
				 {"POST", BASE "query", DTM_API_WRONG_METHOD},
				 {"GET", BASE "topic/t1", DTM_API_WRONG_METHOD},
				 {"GET", "/", DTM_API_NOT_FOUND},
				 {"GET", "", DTM_API_NOT_FOUND},
				 {"GET", "*", DTM_API_NOT_FOUND},
				 {"GET", "http://h", DTM_API_NOT_FOUND},
				 {"POST", "/submit", DTM_API_NOT_FOUND},
				 {"POST", "submit", DTM_API_NOT_FOUND},
				 {"POST", BASE, DTM_API_NOT_FOUND},
				 {"POST", BASE "Submit", DTM_API_NOT_FOUND},
				 {"POST", BASE "submit/x", DTM_API_NOT_FOUND},
				 {"POST", BASE "submits", DTM_API_NOT_FOUND},
				 {"DELETE", BASE "topic/", DTM_API_NOT_FOUND},
				 {"DELETE", BASE "topic/a/b", DTM_API_NOT_FOUND},
				 {"POST", BASE "api/json-rpc", DTM_API_NOT_FOUND},
				 {"POST", BASE "/api/json-rpc", DTM_API_NOT_FOUND}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		if (!CHECK_INT(dtm_api_route(cases[i].method, cases[i].uri), cases[i].route))
			printf("    %s %s\n", cases[i].method, cases[i].uri);
	}
	CHECK_STR(dtm_api_route_name(DTM_API_REGISTER_BRANCH), "registerbranch");
	CHECK_STR(dtm_api_route_name(DTM_API_WRONG_METHOD), "other");
	CHECK_STR(dtm_api_route_name(DTM_API_ROUTES), "other");
	for (int i = 0; i < DTM_API_ROUTES; i++)
		CHECK(dtm_api_route_name((DtmApiRoute) i) != NULL);
	bad("GET", BASE "submit", "", 404, "404 page not found");
	CHECK_STR(answer.content_type, "text/plain");
	bad("GET", "/favicon.ico", "", 404, "404 page not found");
}

/* Go: what is empty is left out, but for "protocol" and "concurrent". */
static void
test_go(void)
{
	DtmTrans trans;

	post("submit",
		 "{\"gid\":\"g1\",\"trans_type\":\"saga\",\"steps\":[{\"action\":\"http://a/1\","
		 "\"compensate\":\"http://a/2\"},{\"action\":\"http://b/1\",\"compensate\":\"\"}],"
		 "\"payloads\":[\"{\\\"n\\\":1}\",\"null\"],\"custom_data\":"
		 "\"{\\\"orders\\\":{\\\"1\\\":[0]},\\\"concurrent\\\":true}\",\"wait_result\":true,"
		 "\"retry_limit\":2,\"concurrent\":false,\"protocol\":\"\"}");
	CHECK_INT(call.route, DTM_API_SUBMIT);
	CHECK_TEXT(call.trans.gid, "g1");
	CHECK_TEXT(call.trans.protocol, "http");
	CHECK(call.trans.wait_result && !call.rpc);
	CHECK_INT(call.trans.flags, DTM_FLAG_CONCURRENT | DTM_FLAG_RETRY_NO_PAUSE);
	trans = finish(call.trans.builder);
	CHECK_INT(trans.type, DTM_TYPE_SAGA);
	CHECK_INT(trans.n_branches, 2);
	CHECK_INT(trans.branches[1].n_after, 1);
	CHECK_INT(trans.retry_limit, 2);
	CHECK_TEXT(trans.branches[1].payload, "null");

	post("prepare",
		 "{\"gid\":\"g2\",\"trans_type\":\"msg\",\"steps\":[{\"action\":"
		 "\"topic://paid\"}],\"payloads\":[\"{}\"],\"query_prepared\":\"http://a/q\","
		 "\"timeout_to_fail\":35,\"concurrent\":true,\"protocol\":\"http\"}");
	CHECK_INT(call.trans.flags, DTM_FLAG_CONCURRENT);
	CHECK_TEXT(dtm_spec_step_topic(call.trans.builder, 0), "paid");
	trans = finish(call.trans.builder);
	CHECK_TEXT(trans.query_url, "http://a/q");
	CHECK_INT(trans.timeout_to_fail_ms, 35000);
	CHECK_INT(trans.flags, DTM_FLAG_CONCURRENT);

	post("submit",
		 "{\"gid\":\"g2\",\"trans_type\":\"msg\",\"steps\":[{\"action\":\"http://a/1\"}],"
		 "\"payloads\":[\"{}\"],\"custom_data\":\"{\\\"delay\\\":10}\",\"concurrent\":false}");
	trans = finish(call.trans.builder);
	CHECK_INT(trans.start_at, 10000000);

	post("prepare",
		 "{\"gid\":\"g3\",\"trans_type\":\"tcc\",\"branch_headers\":{\"T\":\"1\"},"
		 "\"request_timeout\":4,\"concurrent\":false,\"protocol\":\"\"}");
	trans = finish(call.trans.builder);
	CHECK_INT(trans.type, DTM_TYPE_TCC);
	CHECK_INT(trans.flags, DTM_FLAG_CLIENT_RUN);
	CHECK_INT(trans.request_timeout_ms, 4000);
	CHECK(trans.headers.len > 0);
	post("abort", "{\"gid\":\"g3\",\"trans_type\":\"tcc\",\"rollback_reason\":\"no\\nmoney\"}");
	CHECK_TEXT(call.trans.rollback_reason, "no\nmoney");
	CHECK(call.trans.builder == NULL);
	post("abort", "{\"gid\":\"g3\"}");
	CHECK_INT(call.trans.type, 0);

	post("prepareWorkflow",
		 "{\"gid\":\"g4\",\"trans_type\":\"workflow\",\"custom_data\":"
		 "\"{\\\"data\\\":\\\"e30=\\\",\\\"name\\\":\\\"wf1\\\"}\",\"query_prepared\":"
		 "\"http://h/resume\",\"protocol\":\"http\",\"concurrent\":false}");
	CHECK_TEXT(call.trans.workflow_name, "wf1");
	CHECK_TEXT(call.trans.workflow_data, "{}");
	CHECK_TEXT(call.trans.custom_data, "{\"data\":\"e30=\",\"name\":\"wf1\"}");
	CHECK_TEXT(dtm_spec_query_prepared(call.trans.builder), "http://h/resume");
	post("prepareWorkflow",
		 "{\"gid\":\"g4\",\"custom_data\":\"{\\\"data\\\":null,\\\"name\\\":"
		 "\\\"w\\\"}\"}");
	CHECK(call.trans.workflow_data.data == NULL);
	CHECK_INT(call.trans.type, DTM_TYPE_WORKFLOW);
	post("prepareWorkflow", "{\"gid\":\"g4\",\"trans_type\":\"workflow\"}");
	CHECK_INT(call.trans.workflow_name.len, 0);
	CHECK(call.trans.workflow_data.data == NULL && call.trans.builder != NULL);
	post("submit",
		 "{\"gid\":\"g4\",\"trans_type\":\"workflow\",\"req_extra\":{\"status\":"
		 "\"succeed\",\"rollback_reason\":\"\",\"result\":\"b2s=\"}}");
	CHECK_INT(call.trans.end_status, DTM_STATUS_SUCCEED);
	CHECK_TEXT(call.trans.end_result, "b2s=");
	CHECK(call.trans.builder == NULL);
	post("submit",
		 "{\"gid\":\"g4\",\"trans_type\":\"workflow\",\"req_extra\":{\"status\":"
		 "\"failed\",\"rollback_reason\":\"why FAILURE\",\"result\":null}}");
	CHECK_INT(call.trans.end_status, DTM_STATUS_FAILED);
	CHECK_TEXT(call.trans.end_reason, "why FAILURE");

	post("forceStop", "{\"gid\":\"g1\",\"trans_type\":\"nonsense\"}");
	CHECK_TEXT(call.trans.gid, "g1");
	post("resetNextCronTime", "{\"gid\":\"g1\"}");
}

/* Python: every member every time, with nulls.  C#: the same, in lines.  Java: one twice. */
static void
test_others(void)
{
	DtmTrans trans;

	post("submit",
		 "{\"gid\": \"g\", \"trans_type\": \"saga\", \"custom_data\": null, "
		 "\"query_prepared\": null, \"protocol\": null, \"steps\": [{\"action\": "
		 "\"http://a/1\", \"compensate\": \"http://a/2\"}], \"payloads\": [\"{}\"], "
		 "\"wait_result\": false, \"timeout_to_fail\": 0, \"request_timeout\": 8, "
		 "\"retry_interval\": 0, \"passthrough_headers\": [], \"branch_headers\": {}, "
		 "\"concurrent\": false}");
	CHECK_TEXT(call.trans.protocol, "http");
	trans = finish(call.trans.builder);
	CHECK_INT(trans.request_timeout_ms, 8000);
	CHECK_INT(trans.retry_interval_ms, 0);

	post("prepare",
		 "{\r\n  \"gid\": \"g\",\r\n  \"trans_type\": \"tcc\",\r\n  \"steps\": null,\r\n"
		 "  \"payloads\": null,\r\n  \"branch_headers\": null,\r\n  \"protocol\": null,\r\n"
		 "  \"custom_data\": null,\r\n  \"query_prepared\": null,\r\n  \"retry_limit\": 0,\r\n"
		 "  \"retry_count\": 0,\r\n  \"rollback_reason\": null,\r\n  \"wait_result\": null,\r\n"
		 "  \"req_extra\": null\r\n}\r\n");
	trans = finish(call.trans.builder);
	CHECK_INT(trans.retry_limit, -1);
	CHECK_INT(call.trans.flags, DTM_FLAG_CLIENT_RUN);

	post("registerBranch",
		 "{\"subType\":\"OperatorParam\",\"subType\":null,\"gid\":\"g\",\"trans_type\":\"tcc\","
		 "\"branch_id\":\"01\",\"status\":\"prepared\",\"data\":\"{\\\"n\\\":1}\","
		 "\"confirm\":\"http://a/c\",\"cancel\":\"http://a/x\"}");
	CHECK_INT(call.branch.type, DTM_TYPE_TCC);
	CHECK_TEXT(call.branch.branch_id, "01");
	CHECK_TEXT(dtm_spec_step_url(call.branch.builder, 0, DTM_ROLE_CONFIRM), "http://a/c");
	CHECK_TEXT(dtm_spec_step_url(call.branch.builder, 0, DTM_ROLE_UNDO), "http://a/x");
	{
		const char *packed;
		size_t len;

		CHECK(dtm_spec_finish_branch(call.branch.builder, &packed, &len));
	}

	/* Node and the old PHP client: the old route, with "try" */
	post("registerTccBranch",
		 "{\"gid\":\"g\",\"branch_id\":\"10\",\"try\":\"http://a/t\","
		 "\"confirm\":\"http://a/c\",\"cancel\":\"\",\"status\":\"prepared\","
		 "\"data\":null}");
	CHECK_INT(call.branch.type, DTM_TYPE_TCC);
	CHECK_TEXT(dtm_spec_step_url(call.branch.builder, 0, DTM_ROLE_UNDO), "");
	post("registerXaBranch", "{\"gid\":\"g\",\"branch_id\":\"01\",\"url\":\"http://a/xa\"}");
	CHECK_INT(call.branch.type, DTM_TYPE_XA);
	CHECK_TEXT(dtm_spec_step_url(call.branch.builder, 0, DTM_ROLE_CONFIRM), "http://a/xa");
	CHECK_TEXT(dtm_spec_step_url(call.branch.builder, 0, DTM_ROLE_UNDO), "http://a/xa");

	/* a workflow's memo may be any bytes */
	post("registerBranch",
		 "{\"gid\":\"g\",\"trans_type\":\"workflow\",\"branch_id\":\"01\",\"op\":"
		 "\"action\",\"status\":\"succeed\",\"data\":\"a\\u0000b\",\"sync\":\"1\"}");
	CHECK(call.branch.builder == NULL && call.branch.sync);
	CHECK_INT(call.branch.data.len, 3);
	CHECK(memcmp(call.branch.data.data, "a\0b", 4) == 0);

	/* Hyperf: the whole context, [] for an empty object, an array of orders */
	post("submit",
		 "{\"gid\":\"g\",\"trans_type\":\"saga\",\"branch_headers\":[],\"sub_branch_id\":0,"
		 "\"barrier_id\":1,\"bin_pay_loads\":[],\"branch_id\":\"\",\"op\":\"\",\"dtm\":\"h\","
		 "\"context\":{\"a\":1},\"id\":5,\"owner\":7,\"result\":{},"
		 "\"steps\":[{\"action\":\"http://a/1\",\"compensate\":null,\"x\":1,\"headers\":\"\"},"
		 "{\"action\":\"http://a/2\"}],\"payloads\":[\"{}\",null],\"custom_data\":"
		 "\"{\\\"concurrent\\\":true,\\\"orders\\\":[null,[0]]}\"}");
	trans = finish(call.trans.builder);
	CHECK_INT(trans.branches[0].n_after, 0);
	CHECK_INT(trans.branches[1].n_after, 1);

	/* by hand: "data" of a step, capitals, numbers in quotes */
	post("submit",
		 "{\"GID\":\"g\",\"Trans_Type\":\"msg\",\"transType\":\"x\",\"STEPS\":[{\"action\":"
		 "\"http://a/1\",\"data\":\"d\"}],\"Timeout_To_Fail\":\"10\",\"gid\":\"exact\"}");
	CHECK_TEXT(call.trans.gid, "exact");
	trans = finish(call.trans.builder);
	CHECK_TEXT(trans.branches[0].payload, "d");
	CHECK_INT(trans.timeout_to_fail_ms, 10000);
	post("forceStop", "{\"gid\":\"a;b\\r\\nc\"}");
	CHECK_TEXT(call.trans.gid, "abc");
}

static void
test_bad_bodies(void)
{
	static const char branch[] = "registerBranch";
	char *deep = malloc(100002);

	bad_post("submit", "",
			 "the body is not a JSON object: line 1, column 0: unexpected token near end of file");
	bad_post("submit", "[]", "the body is not a JSON object: it is no object");
	bad_post("submit", "{}", "gid must not be empty");
	bad_post("submit", "{\"gid\":5}", "\\\"gid\\\" must be a string");
	bad_post("submit", "{\"gid\":\";\\r\"}", "gid must not be empty");
	bad_post("submit", "{\"gid\":\"g\"}", "unknow trans type: ");
	bad_post("submit", "{\"gid\":\"g\",\"trans_type\":\"sage\"}", "unknow trans type: sage");
	bad_post("prepare", "{\"gid\":\"g\",\"trans_type\":5}", "\\\"trans_type\\\" must be a string");
	bad_post("submit", "{\"gid\":\"g\",\"trans_type\":\"tcc\",\"wait_result\":1}",
			 "\\\"wait_result\\\" must be true or false");
	bad_post("submit", "{\"gid\":\"g\",\"trans_type\":\"tcc\",\"timeout_to_fail\":1.5}",
			 "\\\"timeout_to_fail\\\" is not an integer");
	bad_post("submit", "{\"gid\":\"g\",\"trans_type\":\"saga\",\"steps\":[5]}",
			 "step 0 is not an object; Each step is an object like {\\\"action\\\": "
			 "\\\"http://...\\\", \\\"compensate\\\": \\\"http://...\\\"}.");
	bad_post("submit", "{\"gid\":\"g\",\"trans_type\":\"saga\",\"steps\":{}}",
			 "\\\"steps\\\" is not an array");
	bad_post("submit", "{\"gid\":\"g\",\"trans_type\":\"saga\",\"custom_data\":\"{\",\"steps\":[]}",
			 "\\\"custom_data\\\" is not the text of a JSON object");
	bad_post("submit", "{\"gid\":\"g\",\"trans_type\":\"saga\",\"custom_data\":\"a\\u0000\"}",
			 "\\\"custom_data\\\" contains a NUL character");
	bad_post("submit", "{\"gid\":\"g\",\"trans_type\":\"workflow\"}",
			 "\\\"status\\\" in \\\"req_extra\\\" must be succeed or failed");
	bad_post("submit",
			 "{\"gid\":\"g\",\"trans_type\":\"workflow\",\"req_extra\":{\"status\":\"succeed\","
			 "\"result\":\"?\"}}",
			 "\\\"result\\\" in \\\"req_extra\\\" is not base64");
	bad_workflow("{\"gid\":\"g\",\"custom_data\":\"w\"}",
				 "\\\"custom_data\\\" is not the text of a JSON object");
	bad_workflow("{\"gid\":\"g\",\"custom_data\":\"{\\\"data\\\":\\\"e30=\\\"}\"}",
				 "\\\"name\\\" in \\\"custom_data\\\" must have 1 to 128 bytes");
	bad_workflow("{\"gid\":\"g\",\"custom_data\":\"{\\\"name\\\":\\\"n\\\",\\\"data\\\":\\\"e3=0\\\"}\"}",
				 "\\\"data\\\" in \\\"custom_data\\\" is not base64");
	bad_workflow("{\"gid\":\"g\",\"trans_type\":\"saga\",\"custom_data\":\"{}\"}",
				 "prepareWorkflow is for transactions of type workflow");
	bad_post("submit", "{\"gid\":\"a\\u0007b\",\"trans_type\":\"tcc\"}",
			 "gid contains a control character");

	bad("POST", BASE "registerBranch", "{\"gid\":\"g\",\"n\":1}", 400,
		"{\"message\":\"every member must be a string: \\\"n\\\" is none\"}");
	bad("POST", BASE "registerBranch", "[1]", 400,
		"{\"message\":\"the body is not a JSON object: it is no object\"}");
	bad_post(branch, "{\"gid\":\"g\",\"trans_type\":\"tcc\"}", "branch_id must not be empty");
	bad_post(branch, "{\"gid\":\"g\",\"branch_id\":\"01\"}", "unknow trans type: ");
	bad_post(branch, "{\"gid\":\"g\",\"branch_id\":\"01\",\"trans_type\":\"saga\"}",
			 "unknow trans type: saga");
	bad_post(branch, "{\"gid\":\"g\",\"branch_id\":\"01\",\"trans_type\":\"workflow\"}",
			 "\\\"op\\\" must have 1 to 45 bytes");
	bad_post(branch,
			 "{\"gid\":\"g\",\"branch_id\":\"01\",\"trans_type\":\"workflow\",\"op\":\"action\","
			 "\"status\":\"prepared\"}",
			 "\\\"status\\\" must be succeed or failed");

	/* much memory for few bytes */
	memset(deep, '[', 100000);
	strcpy(deep + 100000, "]");
	bad_post("submit", deep,
			 "the body is not a JSON object: more than 100000 values or 20000 objects and arrays");
	for (int i = 0; i < 100000; i += 2)
		memcpy(deep + i, "1,", 2);
	deep[0] = '[';
	CHECK(!read_as("POST", BASE "submit", deep));
	free(deep);
}

static void
test_query_strings(void)
{
	CHECK(read_as("GET", BASE "query?x=1&gid=a%2Fb+c&gid=d", ""));
	CHECK_TEXT(call.gid, "a/b c");
	CHECK(read_as("GET", BASE "query?gid=%zz%4", ""));
	CHECK_TEXT(call.gid, "%zz%4");
	bad("GET", BASE "query", "", 500, "{\"message\":\"no gid specified\"}");
	bad("GET", BASE "query?gid=", "", 500, "{\"message\":\"no gid specified\"}");
	bad("GET", BASE "query?gidx=1&xgid=2", "", 500, "{\"message\":\"no gid specified\"}");
	bad("GET", BASE "query?gid=a%00b", "", 500,
		"{\"message\":\"\\\"gid\\\" contains a control character\"}");

	CHECK(read_as("GET", BASE "all", ""));
	CHECK_INT(call.list.limit, 100);
	CHECK(call.list.before == INT64_MAX && call.list.from == 0 && call.list.until == 0);
	CHECK(read_as("GET",
				  BASE "all?limit=10&position=77&status=succeed&transType=saga&gid="
					   "&createTimeStart=946684801999&createTimeEnd=946684801000",
				  ""));
	CHECK_INT(call.list.limit, 10);
	CHECK_INT(call.list.before, 77);
	CHECK_TEXT(call.list.position, "77");
	CHECK_TEXT(call.list.status, "succeed");
	CHECK_TEXT(call.list.trans_type, "saga");
	CHECK_INT(call.list.from, 1000000);
	CHECK_INT(call.list.until, 1999999);
	CHECK(read_as("GET", BASE "all?limit=&position=&createTimeStart=&createTimeEnd=", ""));
	CHECK_INT(call.list.limit, 100);
	CHECK(read_as("GET", BASE "all?limit=1000000", ""));
	CHECK_INT(call.list.limit, DTM_API_MAX_LIMIT);
	CHECK(read_as("GET", BASE "all?limit=-1", ""));
	CHECK_INT(call.list.limit, 100);
	CHECK(read_as("GET", BASE "all?createTimeEnd=99999999999999999999", ""));
	CHECK(call.list.until > 0);
	bad("GET", BASE "all?limit=ten", "", 500, "{\"message\":\"convert to int error: ten\"}");
	bad("GET", BASE "all?position=1x", "", 500, "{\"message\":\"convert to int error: 1x\"}");

	CHECK(read_as("GET", BASE "subscribe?topic=t1&url=http%3A%2F%2Fh%2Fx&remark=my%20remark", ""));
	CHECK_TEXT(call.topic.topic, "t1");
	CHECK_TEXT(call.topic.url, "http://h/x");
	CHECK_TEXT(call.topic.remark, "my remark");
	bad("GET", BASE "subscribe?url=u", "", 500, "{\"message\":\"empty topic\"}");
	bad("GET", BASE "unsubscribe?topic=t", "", 500, "{\"message\":\"empty url\"}");
	CHECK(read_as("DELETE", BASE "topic/a%2Bb+c", ""));
	CHECK_TEXT(call.topic.topic, "a+b+c");
	CHECK(read_as("GET", BASE "scanKV?cat=topics&limit=5", ""));
	CHECK_TEXT(call.list.cat, "topics");
	CHECK(read_as("GET", BASE "queryKV?cat=topics&key=t1", ""));
	CHECK_TEXT(call.list.key, "t1");

	CHECK(read_as("GET", BASE "resetCronTime", ""));
	CHECK_INT(call.cron_timeout_s, -1);
	CHECK_INT(call.cron_limit, 100);
	CHECK(read_as("GET", BASE "resetCronTime?timeout=60&limit=7", ""));
	CHECK_INT(call.cron_timeout_s, 60);
	CHECK_INT(call.cron_limit, 7);
	CHECK(read_as("GET", BASE "newGid", ""));
	CHECK(read_as("GET", "/api/metrics", ""));
	CHECK(read_as("PUT", "/api/ping", "anything"));
}

/* DTM takes a saga of no steps, which succeeds at once; but a step needs a payload. */
static void
test_empty(void)
{
	CHECK(read_as("POST", BASE "submit",
				  "{\"gid\":\"g\",\"trans_type\":\"saga\",\"steps\":[],\"payloads\":null}"));
	CHECK_INT(finish(call.trans.builder).n_branches, 0);
	CHECK(read_as("POST", BASE "submit", "{\"gid\":\"g\",\"trans_type\":\"msg\"}"));
	CHECK_INT(finish(call.trans.builder).n_branches, 0);
	CHECK(!read_as("POST", BASE "submit",
				   "{\"gid\":\"g\",\"trans_type\":\"msg\",\"steps\":[{\"action\":\"http://a/\"},"
				   "{\"action\":\"http://a/\"}],\"payloads\":[\"\"]}"));
	CHECK_INT(answer.status, 500);
	CHECK_STR(answer.body,
			  "{\"message\":\"step 1 has no payload; Give \\\"payloads\\\" one text per "
			  "step, \\\"\\\" for none.\"}");
	CHECK(read_as("POST", BASE "submit",
				  "{\"gid\":\"g\",\"trans_type\":\"msg\",\"steps\":[{\"action\":\"http://a/\"}],"
				  "\"payloads\":[\"1\",\"2\"]}"));
	CHECK_INT(finish(call.trans.builder).n_branches, 1);
}

/* A base interval of DTM: that of the request, else a short time-out, else the setting. */
static void
test_retry_interval(void)
{
	static const struct
	{
		const char *members;
		int32_t expected;
	} cases[] = {{"", 0},
				 {",\"timeout_to_fail\":3", 3000},
				 {",\"timeout_to_fail\":9", 9000},
				 {",\"timeout_to_fail\":10", 0},
				 {",\"timeout_to_fail\":3,\"retry_interval\":5", 5000}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		char body[200];

		snprintf(body, sizeof(body), "{\"gid\":\"g\",\"trans_type\":\"saga\"%s}", cases[i].members);
		CHECK(read_as("POST", BASE "submit", body));
		CHECK(dtm_spec_derive_retry_interval(call.trans.builder, 10000));
		CHECK_INT(finish(call.trans.builder).retry_interval_ms, cases[i].expected);
	}
}

static void
test_rpc(void)
{
	static const char uri[] = "/api/json-rpc";

	CHECK(read_as("POST", uri, "{\"jsonrpc\":\"2.0\",\"id\":\"no-use\",\"method\":\"newGid\"}"));
	CHECK_INT(call.route, DTM_API_NEW_GID);
	CHECK(call.rpc);
	CHECK_TEXT(call.rpc_id, "no-use");
	CHECK(
		read_as("POST", uri,
				"{\"jsonrpc\":\"2.0\",\"id\":\"1\",\"method\":\"submit\",\"params\":{\"gid\":\"a;b\","
				"\"trans_type\":\"saga\",\"protocol\":\"json-rpc\",\"payloads\":[\"{}\"],\"steps\":[{\"action\":\"http://a/\"}]}}"));
	CHECK_INT(call.route, DTM_API_SUBMIT);
	CHECK_TEXT(call.trans.gid, "a;b");
	CHECK_TEXT(call.trans.protocol, "json-rpc");
	CHECK_INT(finish(call.trans.builder).n_branches, 1);
	CHECK(
		read_as("POST", uri,
				"{\"jsonrpc\":\"2.0\",\"id\":\"1\",\"method\":\"registerBranch\",\"params\":{\"gid\":"
				"\"g\",\"branch_id\":\"01\",\"trans_type\":\"xa\",\"url\":\"http://a/\"}}"));
	CHECK_INT(call.branch.type, DTM_TYPE_XA);
	CHECK(
		read_as("POST", uri,
				"{\"jsonrpc\":\"2.0\",\"id\":\"1\",\"method\":\"abort\",\"params\":{\"gid\":\"g\"}}"));
	CHECK_INT(call.route, DTM_API_ABORT);

	bad("POST", uri, "[", 400,
		"{\"error\":{\"code\":-32700,\"message\":\"Parse json error: line 1, column 1: "
		"']' expected near end of file\"},\"id\":\"\",\"jsonrpc\":\"2.0\",\"result\":null}");
	bad("POST", uri, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"newGid\"}", 400,
		"{\"error\":{\"code\":-32700,\"message\":\"Parse json error: \\\"id\\\" and \\\"method\\\" must be "
		"strings\"},\"id\":\"\",\"jsonrpc\":\"2.0\",\"result\":null}");
	bad("POST", uri, "{\"jsonrpc\":\"2.0\",\"method\":\"newGid\"}", 200,
		"{\"error\":{\"code\":-32600,\"message\":\"Bad json request: \\\"jsonrpc\\\" must be 2.0, and "
		"\\\"id\\\" not empty\"},\"id\":\"\",\"jsonrpc\":\"2.0\",\"result\":null}");
	bad("POST", uri, "{\"jsonrpc\":\"1.0\",\"id\":\"i\",\"method\":\"newGid\"}", 200,
		"{\"error\":{\"code\":-32600,\"message\":\"Bad json request: \\\"jsonrpc\\\" must be 2.0, and "
		"\\\"id\\\" not empty\"},\"id\":\"i\",\"jsonrpc\":\"2.0\",\"result\":null}");
	bad("POST", uri, "{\"jsonrpc\":\"2.0\",\"id\":\"i\",\"method\":\"query\"}", 200,
		"{\"error\":{\"code\":-32601,\"message\":\"Method not found: query\"},\"id\":\"i\","
		"\"jsonrpc\":\"2.0\",\"result\":null}");
	bad("POST", uri, "{\"jsonrpc\":\"2.0\",\"id\":\"i\",\"method\":\"submit\",\"params\":[]}", 200,
		"{\"error\":{\"code\":-32603,\"message\":\"\\\"params\\\" must be an object\"},\"id\":\"i\","
		"\"jsonrpc\":\"2.0\",\"result\":null}");
	bad("POST", uri, "{\"jsonrpc\":\"2.0\",\"id\":\"i\",\"method\":\"submit\"}", 200,
		"{\"error\":{\"code\":-32603,\"message\":\"gid must not be empty\"},\"id\":\"i\","
		"\"jsonrpc\":\"2.0\",\"result\":null}");
}

/* Short of memory anywhere: an answer all the same. */
static void
test_memory(void)
{
	static const char body[] =
		"{\"gid\":\"g\",\"trans_type\":\"saga\",\"steps\":[{\"action\":\"http://a/1\","
		"\"compensate\":\"http://a/2\"}],\"payloads\":[\"{}\"],\"branch_headers\":{\"a\":\"b\"}}";
	bool done = false;

	for (long n = 0; !done && n < 1000; n++)
	{
		memory.fail_after = n;
		done = read_as("POST", BASE "submit", body);
		memory.fail_after = -1;
		if (!done)
			CHECK(answer.status == 500 && strstr(answer.body, "out of memory") != NULL);
	}
	CHECK(done);
}

int
main(void)
{
	test_arena_init(&memory);
	test_routes();
	test_go();
	test_others();
	test_bad_bodies();
	test_query_strings();
	test_empty();
	test_retry_interval();
	test_rpc();
	test_memory();
	test_arena_reset(&memory);
	TEST_REPORT();
}
