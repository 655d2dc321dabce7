/* -------------------------------------------------------------------------
 *
 * test_steps_json.c
 *		JSON texts of steps: what they become, and every way to be wrong.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_steps_json.h"
#include "dtm_test.h"

#define BAD_TIMEOUT \
	"step 1: \"request_timeout\" must be a number of seconds greater than 0 and at most 86400"

static TestArena memory;

/* The error is left in *error, code DTM_SPEC_OK when there is none. */
static DtmTrans
build(const char *json, DtmSpecError *error)
{
	DtmTrans trans;
	DtmSpecBuilder *builder = dtm_spec_begin(&memory.arena, DTM_TYPE_SAGA, error);
	const char *packed;
	size_t len;
	uint32_t flags = 0;

	memset(&trans, 0, sizeof(trans));
	if (!CHECK(builder != NULL))
		return trans;
	if (dtm_steps_json(builder, json, strlen(json), &flags) &&
		dtm_spec_finish(builder, &packed, &len))
		CHECK_INT(dtm_spec_unpack(packed, len, &memory.arena, &trans), DTM_OK);
	*error = *dtm_spec_error(builder);
	return trans;
}

static DtmTrans
build_fine(const char *json, uint16_t n_branches)
{
	DtmSpecError error;
	DtmTrans trans = build(json, &error);

	if (!CHECK_STR(error.message, "") || !CHECK_INT(trans.n_branches, n_branches))
	{
		printf("    %s\n", json);
		exit(1);
	}
	return trans;
}

static void
test_array(void)
{
	DtmTrans trans =
		build_fine("[{\"action\": \"http://a/1\", \"compensate\": \"http://a/2\", \"payload\": {\"b\": [1, "
				   "0.1, 1e300, \"\xc3\xbc\\u0041\"], \"a\": null}, \"name\": \"n\","
				   " \"headers\": {\"X-Y\": \"z\"},"
				   " \"after\": [1, 1.0], \"request_timeout\": 0.0015, \"retry_limit\": 7},"
				   " {\"action\": \"\", \"compensate\": null, \"payload\": null, \"name\": null, "
				   "\"headers\": null, \"after\": null, \"request_timeout\": null, \"retry_limit\": null}]",
				   2);
	const DtmBranch *branch = &trans.branches[0];
	size_t offset = 0;
	DtmText name;
	DtmText value;

	CHECK_TEXT(branch->url[DTM_ROLE_FORWARD], "http://a/1");
	CHECK_TEXT(branch->url[DTM_ROLE_UNDO], "http://a/2");
	CHECK_TEXT(branch->payload,
			   "{\"b\":[1,0.1,1e300,\"\xc3\xbc"
			   "A\"],\"a\":null}");
	CHECK_TEXT(branch->name, "n");
	CHECK_INT(branch->request_timeout_ms, 2);
	CHECK_INT(branch->retry_limit, 7);
	CHECK_INT(branch->n_after, 1);
	CHECK_INT(branch->after[0], 1);
	CHECK(dtm_headers_next(branch->headers, &offset, &name, &value));
	CHECK_TEXT(name, "X-Y");
	CHECK_TEXT(value, "z");
	CHECK(trans.branches[1].payload.data == NULL);
	CHECK_INT(trans.branches[1].retry_limit, -1);
}

static void
test_payloads(void)
{
	static const char *const cases[][2] = {{"\"text\"", "\"text\""},
										   {"\"\"", "\"\""},
										   {"true", "true"},
										   {"-12", "-12"},
										   {"0.30000000000000004", "0.30000000000000004"},
										   {"123.45", "123.45"},
										   {"[]", "[]"},
										   {"{}", "{}"}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		char json[200];
		DtmTrans trans;

		snprintf(json, sizeof(json), "[{\"action\": \"http://a/\", \"payload\": %s}]", cases[i][0]);
		trans = build_fine(json, 1);
		CHECK_TEXT(trans.branches[0].payload, cases[i][1]);
	}
}

static void
test_wire(void)
{
	/* as DTM's Python client sends it, with what it leaves at null */
	DtmTrans trans =
		build_fine("{\"gid\": \"g\", \"trans_type\": \"saga\", \"custom_data\": null,"
				   " \"query_prepared\": null,"
				   " \"steps\": [{\"action\": \"http://a/1\", \"compensate\": \"http://a/2\"},"
				   " {\"action\": \"http://b/1\"}, {\"action\": \"http://c/1\"}],"
				   " \"payloads\": [\"{\\\"n\\\": 1}\", \"\"], \"wait_result\": false, \"timeout_to_fail\": 0,"
				   " \"request_timeout\": 8, \"retry_interval\": \"3\", \"passthrough_headers\": [],"
				   " \"branch_headers\": {\"t\": \"u\"}, \"retry_limit\": 0, \"concurrent\": true}",
				   3);

	CHECK_TEXT(trans.branches[0].payload, "{\"n\": 1}");
	CHECK(trans.branches[1].payload.data == NULL);
	CHECK(trans.branches[2].payload.data == NULL);
	CHECK_TEXT(trans.branches[2].url[DTM_ROLE_FORWARD], "http://c/1");
	CHECK_INT(trans.request_timeout_ms, 8000);
	CHECK_INT(trans.retry_interval_ms, 3000);
	CHECK_INT(trans.timeout_to_fail_ms, 0);
	CHECK_INT(trans.retry_limit, -1);
	CHECK(trans.headers.len > 0);
	CHECK_INT(trans.flags, 0); /* the top-level "concurrent" is not for sagas */

	/* custom_data, retry_limit, and a repeated key as Java sends it */
	trans =
		build_fine("{\"subType\": \"x\", \"subType\": \"y\", \"retry_limit\": 1, \"retry_limit\": 3,"
				   " \"timeout_to_fail\": 10, \"payloads\": null, \"branch_headers\": null,"
				   " \"custom_data\": \"{\\\"concurrent\\\": true, \\\"orders\\\": {\\\"2\\\": [0, 1]}}\","
				   " \"steps\": [{\"action\": \"http://a/\"}, {\"action\": \"http://b/\"},"
				   " {\"action\": \"http://c/\", \"action\": \"http://d/\"}]}",
				   3);
	CHECK_INT(trans.flags, DTM_FLAG_CONCURRENT | DTM_FLAG_RETRY_NO_PAUSE);
	CHECK_INT(trans.retry_limit, 3);
	CHECK_INT(trans.timeout_to_fail_ms, 10000);
	CHECK_INT(trans.branches[2].n_after, 2);
	CHECK_TEXT(trans.branches[2].url[DTM_ROLE_FORWARD], "http://d/");

	/* orders without concurrent have no effect in DTM */
	trans = build_fine("{\"custom_data\": \"{\\\"orders\\\": {\\\"1\\\": [0]}}\", \"steps\":"
					   " [{\"action\": \"http://a/\"}, {\"action\": \"http://b/\"}]}",
					   2);
	CHECK_INT(trans.flags, 0);
	CHECK_INT(trans.branches[1].n_after, 0);

	/* payloads of old clients: "data", behind "payloads" */
	trans = build_fine("{\"steps\": [{\"action\": \"\", \"data\": \"d0\"}, {\"action\": \"\","
					   " \"data\": \"\"}, {\"action\": \"\", \"data\": \"d2\"}],"
					   " \"payloads\": [\"p0\"]}",
					   3);
	CHECK_TEXT(trans.branches[0].payload, "p0");
	CHECK_TEXT(trans.branches[1].payload, "d0");
	CHECK_TEXT(trans.branches[2].payload, "d2");
}

typedef struct BadCase
{
	const char *json; /* one step's members, or a whole text */
	DtmSpecErrorCode code;
	const char *field;
	const char *message;
} BadCase;

static void
check_bad(const char *json, const BadCase *expected, int step)
{
	DtmSpecError error;

	build(json, &error);
	if (!CHECK_STR(error.message, expected->message) || !CHECK_INT(error.code, expected->code) ||
		!CHECK_STR(error.field, expected->field) || !CHECK_INT(error.step, step))
		printf("    %s\n", json);
}

/* Members of step 1, behind a good step 0. */
static void
test_bad_members(void)
{
	static const BadCase cases[] =
		{{"", DTM_SPEC_INVALID, "action", "step 1 has no \"action\""},
		 {"\"compensate\": \"http://a/\"", DTM_SPEC_INVALID, "action", "step 1 has no \"action\""},
		 {"\"action\": null", DTM_SPEC_INVALID, "action", "step 1 has no \"action\""},
		 {"\"action\": 5", DTM_SPEC_INVALID, "action", "step 1: \"action\" must be a string"},
		 {"\"action\": {\"url\": 1}", DTM_SPEC_INVALID, "action",
		  "step 1: \"action\" must be a string"},
		 {"\"action\": \"\", \"compensate\": false", DTM_SPEC_INVALID, "compensate",
		  "step 1: \"compensate\" must be a string"},
		 {"\"action\": \"http:///x\"", DTM_SPEC_INVALID, "action",
		  "step 1: \"action\" has no host: \"http:///x\""},
		 {"\"action\": \"\", \"compensate\": \"http://a:0/\"", DTM_SPEC_INVALID, "compensate",
		  "step 1: \"compensate\" has a port of 0: \"http://a:0/\""},
		 {"\"action\": \"ftp://x\"", DTM_SPEC_INVALID, "action",
		  "step 1: \"action\" has an unknown scheme: \"ftp://x\""},
		 {"\"action\": \"localhost:8080/x\"", DTM_SPEC_INVALID, "action",
		  "step 1: \"action\" has an unknown scheme: \"localhost:8080/x\""},
		 {"\"action\": \"/stock\"", DTM_SPEC_INVALID, "action",
		  "step 1: \"action\" has no scheme: \"/stock\""},
		 {"\"action\": \"grpc://a/b\"", DTM_SPEC_UNSUPPORTED, "action",
		  "step 1: \"action\" has a scheme that is not supported yet: \"grpc://a/b\""},
		 {"\"action\": \"topic://t\"", DTM_SPEC_INVALID, "action",
		  "step 1: \"action\" is a topic, which only steps of messages can have: \"topic://t\""},
		 {"\"action\": \"sql:f(x)\"", DTM_SPEC_INVALID, "action",
		  "step 1: \"action\" has a malformed function name: \"sql:f(x)\""},
		 {"\"action\": \"http://a\\nb/\"", DTM_SPEC_INVALID, "action",
		  "step 1: \"action\" contains a control character: \"http://a b/\""},
		 {"\"acton\": \"http://a/\"", DTM_SPEC_INVALID, "acton",
		  "step 1 has an unknown key \"acton\""},
		 {"\"action \": \"http://a/\"", DTM_SPEC_INVALID, "action",
		  "step 1 has an unknown key \"action\""},
		 {"\"\": 1", DTM_SPEC_INVALID, "", "step 1 has an unknown key \"\""},
		 {"\"name\": 1", DTM_SPEC_INVALID, "name", "step 1: \"name\" must be a string"},
		 {"\"name\": \"a\\tb\"", DTM_SPEC_INVALID, "name",
		  "step 1: \"name\" contains a control character"},
		 {"\"headers\": []", DTM_SPEC_INVALID, "headers", "step 1: \"headers\" must be an object"},
		 {"\"headers\": {\"X\": 1}", DTM_SPEC_INVALID, "headers",
		  "step 1: \"headers\": the value of \"X\" must be a string"},
		 {"\"headers\": {\"X\": null}", DTM_SPEC_INVALID, "headers",
		  "step 1: \"headers\": the value of \"X\" must be a string"},
		 {"\"headers\": {\"X Y\": \"\"}", DTM_SPEC_INVALID, "headers",
		  "step 1: \"headers\": \"X Y\" is not a header name"},
		 {"\"headers\": {\"\": \"\"}", DTM_SPEC_INVALID, "headers",
		  "step 1: \"headers\": \"\" is not a header name"},
		 {"\"headers\": {\"X:\": \"\"}", DTM_SPEC_INVALID, "headers",
		  "step 1: \"headers\": \"X:\" is not a header name"},
		 {"\"headers\": {\"content-length\": \"5\"}", DTM_SPEC_INVALID, "headers",
		  "step 1: \"headers\": \"content-length\" cannot be set"},
		 {"\"headers\": {\"X\": \"a\\r\\nY: b\"}", DTM_SPEC_INVALID, "headers",
		  "step 1: \"headers\": the value of \"X\" contains a control character"},
		 {"\"after\": 0", DTM_SPEC_INVALID, "after",
		  "step 1: \"after\" must be an array of step numbers"},
		 {"\"after\": [\"0\"]", DTM_SPEC_INVALID, "after",
		  "step 1: \"after\" must be an array of step numbers"},
		 {"\"after\": [[0]]", DTM_SPEC_INVALID, "after",
		  "step 1: \"after\" must be an array of step numbers"},
		 {"\"after\": [0.5]", DTM_SPEC_INVALID, "after",
		  "step 1: \"after\" must be an array of step numbers"},
		 {"\"after\": [-1]", DTM_SPEC_INVALID, "after",
		  "step 1: \"after\" names step -1, which does not exist"},
		 {"\"after\": [1]", DTM_SPEC_INVALID, "after", "step 1: \"after\" names the step itself"},
		 {"\"after\": [0, 2], \"action\": \"\"", DTM_SPEC_INVALID, "after",
		  "step 1: \"after\" names step 2, which does not exist"},
		 {"\"after\": [123456789012]", DTM_SPEC_INVALID, "after",
		  "step 1: \"after\" names step 123456789012, which does not exist"},
		 {"\"after\": [1e300]", DTM_SPEC_INVALID, "after",
		  "step 1: \"after\" must be an array of step numbers"},
		 {"\"request_timeout\": 0", DTM_SPEC_INVALID, "request_timeout", BAD_TIMEOUT},
		 {"\"request_timeout\": -1", DTM_SPEC_INVALID, "request_timeout", BAD_TIMEOUT},
		 {"\"request_timeout\": 0.0004", DTM_SPEC_INVALID, "request_timeout", BAD_TIMEOUT},
		 {"\"request_timeout\": 86400.001", DTM_SPEC_INVALID, "request_timeout", BAD_TIMEOUT},
		 {"\"request_timeout\": 1e300", DTM_SPEC_INVALID, "request_timeout", BAD_TIMEOUT},
		 {"\"request_timeout\": \"5\"", DTM_SPEC_INVALID, "request_timeout", BAD_TIMEOUT},
		 {"\"retry_limit\": -1", DTM_SPEC_INVALID, "retry_limit",
		  "step 1: \"retry_limit\" must be an integer from 0 to 1000000"},
		 {"\"retry_limit\": 1.5", DTM_SPEC_INVALID, "retry_limit",
		  "step 1: \"retry_limit\" must be an integer from 0 to 1000000"},
		 {"\"retry_limit\": 1000001", DTM_SPEC_INVALID, "retry_limit",
		  "step 1: \"retry_limit\" must be an integer from 0 to 1000000"},
		 {"\"retry_limit\": true", DTM_SPEC_INVALID, "retry_limit",
		  "step 1: \"retry_limit\" must be an integer from 0 to 1000000"}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		char json[400];

		snprintf(json, sizeof(json), "[{\"action\": \"http://a/\"}, {%s}]", cases[i].json);
		check_bad(json, &cases[i], 1);
	}
}

static void
test_bad_texts(void)
{
	static const struct
	{
		BadCase bad;
		int step;
	} cases[] =
		{{{"[]", DTM_SPEC_INVALID, "steps", "\"steps\" is empty"}, -1},
		 {{"\"x\"", DTM_SPEC_INVALID, "steps", "\"steps\" is not an array"}, -1},
		 {{"null", DTM_SPEC_INVALID, "steps", "\"steps\" is not an array"}, -1},
		 {{"[1]", DTM_SPEC_INVALID, "steps", "step 0 is not an object"}, 0},
		 {{"[{\"action\": \"\"}, []]", DTM_SPEC_INVALID, "steps", "step 1 is not an object"}, 1},
		 {{"{}", DTM_SPEC_INVALID, "steps", "the object has no \"steps\""}, -1},
		 {{"{\"steps\": null}", DTM_SPEC_INVALID, "steps", "the object has no \"steps\""}, -1},
		 {{"{\"steps\": {}}", DTM_SPEC_INVALID, "steps", "\"steps\" is not an array"}, -1},
		 {{"{\"steps\": []}", DTM_SPEC_INVALID, "steps", "\"steps\" is empty"}, -1},
		 {{"{\"steps\": [{\"action\": \"\"}], \"payloads\": [1]}", DTM_SPEC_INVALID, "payloads",
		   "step 0 has a payload that is not a string"},
		  0},
		 {{"{\"steps\": [{\"action\": \"\"}], \"payloads\": {}}", DTM_SPEC_INVALID, "payloads",
		   "\"payloads\" is not an array"},
		  -1},
		 {{"{\"steps\": [{\"action\": \"\"}], \"payloads\": [\"\", \"\"]}", DTM_SPEC_INVALID,
		   "payloads", "\"payloads\" has 2 members for 1 steps"},
		  -1},
		 {{"{\"steps\": [{\"action\": \"\"}], \"request_timeout\": 1.5}", DTM_SPEC_INVALID,
		   "request_timeout", "\"request_timeout\" is not an integer"},
		  -1},
		 {{"{\"steps\": [{\"action\": \"\"}], \"timeout_to_fail\": -9223372036854775808}",
		   DTM_SPEC_INVALID, "timeout_to_fail", "\"timeout_to_fail\" must be greater than zero"},
		  -1},
		 {{"{\"steps\": [{\"action\": \"\"}], \"timeout_to_fail\": 9223372036854775807}",
		   DTM_SPEC_INVALID, "timeout_to_fail", "\"timeout_to_fail\" must be at most 365 days"},
		  -1},
		 {{"{\"steps\": [{\"action\": \"\"}], \"custom_data\": \"{\"}", DTM_SPEC_INVALID,
		   "custom_data", "\"custom_data\" is not the text of a JSON object"},
		  -1},
		 {{"{\"steps\": [{\"action\": \"\"}], \"custom_data\": \"[]\"}", DTM_SPEC_INVALID,
		   "custom_data", "\"custom_data\" is not the text of a JSON object"},
		  -1},
		 {{"{\"steps\": [{\"action\": \"\"}], \"custom_data\":"
		   " \"{\\\"concurrent\\\": true, \\\"orders\\\": {\\\"01\\\": [0]}}\"}",
		   DTM_SPEC_INVALID, "custom_data",
		   "\"orders\" in \"custom_data\" names a step that does not exist: "
		   "\"01\""},
		  -1},
		 {{"{\"steps\": [{\"action\": \"\"}], \"branch_headers\": []}", DTM_SPEC_INVALID,
		   "branch_headers", "\"branch_headers\" is not an object"},
		  -1},
		 {{"{\"steps\": [{\"action\": \"\"}], \"branch_headers\": {\"Host\": \"h\"}}",
		   DTM_SPEC_INVALID, "headers", "\"headers\": \"Host\" cannot be set"},
		  -1},

		 /* cycles name a step that is on them */
		 {{"[{\"action\": \"\", \"after\": [1]}, {\"action\": \"\", \"after\": [0]}]",
		   DTM_SPEC_INVALID, "after",
		   "step 0: \"after\" forms a cycle: "
		   "the step waits for itself"},
		  0},
		 {{"[{\"action\": \"\", \"after\": [1]}, {\"action\": \"\", \"after\": [3]},"
		   " {\"action\": \"\"}, {\"action\": \"\", \"after\": [1, 2]}]",
		   DTM_SPEC_INVALID, "after",
		   "step 1: \"after\" forms a cycle: "
		   "the step waits for itself"},
		  1}};
	DtmSpecError error;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		check_bad(cases[i].bad.json, &cases[i].bad, cases[i].step);

	build("[{]", &error);
	CHECK_INT(error.code, DTM_SPEC_INVALID);
	CHECK(strncmp(error.message, "\"steps\" is not JSON: line 1: ", 29) == 0);
}

/* Long values appear shortened, at a character's end, and never spill over. */
static void
test_long_values(void)
{
	static char json[5000];
	DtmSpecError error;
	size_t at = (size_t) sprintf(json, "[{\"action\": \"ftp://");

	for (int i = 0; i < 600; i++)
		at += (size_t) sprintf(json + at, "\xe2\x82\xac");
	sprintf(json + at, "\"}]");
	build(json, &error);
	CHECK_INT(error.code, DTM_SPEC_INVALID);
	CHECK(strncmp(error.message, "step 0: \"action\" has an unknown scheme: \"ftp://", 46) == 0);
	CHECK_STR(error.message + strlen(error.message) - 7, "\xe2\x82\xac...\"");

	memset(json, 'k', 3000);
	memcpy(json, "[{\"", 3);
	strcpy(json + 3000, "\": 1}]");
	build(json, &error);
	CHECK_INT(error.code, DTM_SPEC_INVALID);
	CHECK(strlen(error.field) < sizeof(error.field));
	CHECK(strncmp(error.message, "step 0 has an unknown key \"kkkk", 31) == 0);
	CHECK(strlen(error.hint) > 100 && error.hint[strlen(error.hint) - 1] == '.');

	strcpy(json, "[{\"action\": \"http://a/");
	memset(json + 22, 'x', DTM_MAX_URL_LEN);
	strcpy(json + 22 + DTM_MAX_URL_LEN, "\"}]");
	build(json, &error);
	CHECK_INT(error.code, DTM_SPEC_LIMIT);

	strcpy(json, "[{\"name\": \"");
	memset(json + 11, 'x', DTM_MAX_NAME_LEN + 1);
	strcpy(json + 11 + DTM_MAX_NAME_LEN + 1, "\"}]");
	build(json, &error);
	CHECK_INT(error.code, DTM_SPEC_LIMIT);
	CHECK_STR(error.message, "step 0: \"name\" is longer than 128 bytes");

	memset(json, '[', 4000);
	json[4000] = '\0';
	build(json, &error);
	CHECK_INT(error.code, DTM_SPEC_INVALID);
}

int
main(void)
{
	test_arena_init(&memory);
	test_array();
	test_payloads();
	test_wire();
	test_bad_members();
	test_bad_texts();
	test_long_values();
	test_arena_reset(&memory);
	TEST_REPORT();
}
