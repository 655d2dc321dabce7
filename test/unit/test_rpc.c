/* -------------------------------------------------------------------------
 *
 * test_rpc.c
 *		Calls of branches by JSON-RPC: which they are, what is sent, what the
 *		answer means; and how a request asks for them.
 *
 * -------------------------------------------------------------------------
 */
#include <jansson.h>

#include "dtm_api.h"
#include "dtm_rpc.h"
#include "dtm_test.h"

#define ID "abcdefghijkmnopqrstuvw"

static TestArena memory;

static void
test_which(void)
{
	static const struct
	{
		uint32_t flags;
		const char *url;
		bool rpc;
	} cases[] = {
		{DTM_FLAG_JSON_RPC, "http://h/rpc?method=TransIn", true},
		{DTM_FLAG_JSON_RPC | DTM_FLAG_CONCURRENT, "https://h:8/?a=b&method=x", true},
		{DTM_FLAG_JSON_RPC, "HTTP://h/my-methods/", true},
		{DTM_FLAG_JSON_RPC, "http://h/rpc?Method=TransIn", false},
		{DTM_FLAG_JSON_RPC, "http://h/rpc", false},
		{DTM_FLAG_JSON_RPC, "sql:method", false},
		{DTM_FLAG_JSON_RPC, "", false},
		{DTM_FLAG_JSON_RPC, "http://", false},
		{0, "http://h/rpc?method=TransIn", false},
		{DTM_FLAG_CONCURRENT, "http://h/rpc?method=TransIn", false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		if (!CHECK_INT(dtm_rpc_applies(cases[i].flags, test_text(cases[i].url)), cases[i].rpc))
			printf("    %s\n", cases[i].url);
	}
}

/* The body as JSON, or NULL with the problem checked. */
static json_t *
body_of(const char *url, const char *payload, const char *problem, char *raw, size_t size)
{
	DtmRpcCall call = {.id = ID,
					   .url = test_text(url),
					   .payload = test_text(payload),
					   .gid = test_text("g\"1"),
					   .trans_type = "saga",
					   .branch_id = test_text("02"),
					   .op = "action"};
	DtmText body = {NULL, 0};
	json_t *json;

	if (!CHECK_STR(dtm_rpc_body(&call, &memory.arena, &body), problem) || problem != NULL)
		return NULL;
	json = json_loadb(body.data, body.len, JSON_REJECT_DUPLICATES, NULL);
	if (!CHECK(json != NULL))
		printf("    %.*s\n", (int) body.len, body.data);
	if (raw != NULL)
		snprintf(raw, size, "%.*s", (int) body.len, body.data);
	return json;
}

static const char *
member(json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

static void
test_body(void)
{
	static const char *const payloads[] = {"{\"amount\": 30, \"n\":{\"gid\":7}}",
										   " {\"amount\":30,\"n\":{\"gid\":7}}\r\n",
										   "{\"op\": 1, \"amount\": 30, \"gid\": \"other\",\n"
										   " \"n\": {\"gid\": 7}, \"trans_type\": null}"};
	char raw[500];
	json_t *json;
	json_t *params;

	for (size_t i = 0; i < sizeof(payloads) / sizeof(payloads[0]); i++)
	{
		json = body_of("http://h/rpc?x=1&method=Trans%20In&method=b#f", payloads[i], NULL, NULL, 0);
		params = json_object_get(json, "params");
		CHECK_INT(json_object_size(json), 4);
		CHECK_STR(member(json, "jsonrpc"), "2.0");
		CHECK_STR(member(json, "id"), ID);
		CHECK_STR(member(json, "method"), "Trans In");
		CHECK_INT(json_object_size(params), 6);
		CHECK_STR(member(params, "gid"), "g\"1");
		CHECK_STR(member(params, "trans_type"), "saga");
		CHECK_STR(member(params, "branch_id"), "02");
		CHECK_STR(member(params, "op"), "action");
		CHECK_INT(json_integer_value(json_object_get(params, "amount")), 30);
		CHECK_INT(json_integer_value(json_object_get(json_object_get(params, "n"), "gid")), 7);
		json_decref(json);
	}

	/* numbers are passed on as they were written */
	json = body_of("http://h/method", "{\"a\":0.10,\"b\":1E2}", NULL, raw, sizeof(raw));
	CHECK(strstr(raw, "{\"a\":0.10,\"b\":1E2,\"gid\":") != NULL);
	CHECK_STR(member(json, "method"), "");
	json_decref(json);

	/* nothing but ours, also when all of theirs are replaced */
	for (int i = 0; i < 3; i++)
	{
		static const char *const none[] = {"", "{ }", "{\"gid\":null,\"op\":[{}]}"};

		json = body_of("http://h/?method", none[i], NULL, NULL, 0);
		CHECK_INT(json_object_size(json_object_get(json, "params")), 4);
		json_decref(json);
	}

	CHECK(body_of("http://h/?method=a", "[1]",
				  "the payload is no JSON object, which a call by JSON-RPC needs", NULL, 0) == NULL);
	CHECK(body_of("http://h/?method=a%0Ab", "{}",
				  "\"method\" in the URL contains a control character", NULL, 0) == NULL);
}

static void
test_payload_check(void)
{
	static const char *const bad[] = {"[]", "1", "\"text\"", "null", "{", "{} {}", "a=b", " "};
	static const char *const fine[] = {"", "{}", "{\"a\": [1, {\"b\": null}]}", " {\"a\":1}\n"};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK_STR(dtm_rpc_payload_check(test_text(bad[i])),
				  "is no JSON object, which a call by JSON-RPC needs");
	for (size_t i = 0; i < sizeof(fine) / sizeof(fine[0]); i++)
		CHECK_STR(dtm_rpc_payload_check(test_text(fine[i])), NULL);
}

static void
test_meaning(void)
{
	static const struct
	{
		int status;
		const char *body;
		DtmOutcome outcome;
		const char *reason;
	} cases[] = {
		{200, "{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"result\":{}}", DTM_OUTCOME_SUCCESS, ""},
		{200, "{\"error\":null,\"result\":null}", DTM_OUTCOME_SUCCESS, ""},
		{200, "{}", DTM_OUTCOME_SUCCESS, ""},
		{200, "{\"error\":{\"code\":-32901,\"message\":\"no\\nstock\"}}", DTM_OUTCOME_FAILURE,
		 "-32901: no stock"},
		{200, "{\"error\":{\"code\":-32901.0}}", DTM_OUTCOME_FAILURE,
		 "200: {\"error\":{\"code\":-32901.0}}"},
		{200, "{\"error\":{\"code\":-32902,\"message\":\"later\"}}", DTM_OUTCOME_ONGOING,
		 "-32902: later"},
		{200, "{\"error\":{\"code\":-32603,\"message\":\"oh\"}}", DTM_OUTCOME_ERROR, "-32603: oh"},
		{200, "{\"error\":{\"code\":\"-32901\",\"message\":\"a string\"}}", DTM_OUTCOME_ERROR,
		 "200: {\"error\":{\"code\":\"-32901\",\"message\":\"a string\"}}"},
		{200, "{\"error\":{\"code\":1e300,\"message\":\"x\"}}", DTM_OUTCOME_ERROR,
		 "200: {\"error\":{\"code\":1e300,\"message\":\"x\"}}"},
		{200, "{\"error\":{}}", DTM_OUTCOME_ERROR, "200: {\"error\":{}}"},
		{200, "{\"error\":\"no\"}", DTM_OUTCOME_ERROR, "200: {\"error\":\"no\"}"},
		{200, "{\"error\":false}", DTM_OUTCOME_ERROR, "200: {\"error\":false}"},
		{200, "[]", DTM_OUTCOME_ERROR, "200: []"},
		{200, "null", DTM_OUTCOME_ERROR, "200: null"},
		{200, "fine", DTM_OUTCOME_ERROR, "200: fine"},
		{200, "", DTM_OUTCOME_ERROR, "200"},

		/* what HTTP says comes first */
		{409, "{\"error\":{\"code\":-32902}}", DTM_OUTCOME_FAILURE,
		 "409: {\"error\":{\"code\":-32902}}"},
		{425, "{}", DTM_OUTCOME_ONGOING, "425: {}"},
		{500, "{}", DTM_OUTCOME_ERROR, "500: {}"},
		{500, "{\"error\":{\"code\":-32901}}", DTM_OUTCOME_ERROR,
		 "500: {\"error\":{\"code\":-32901}}"},
		{200, "{\"result\":\"FAILURE\"}", DTM_OUTCOME_FAILURE, "200: {\"result\":\"FAILURE\"}"},
		{200, "{\"error\":{\"code\":-32901,\"message\":\"ONGOING\"}}", DTM_OUTCOME_ONGOING,
		 "200: {\"error\":{\"code\":-32901,\"message\":\"ONGOING\"}}"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		char reason[200];
		DtmOutcome outcome = dtm_rpc_meaning(cases[i].status, cases[i].body, strlen(cases[i].body),
											 reason, sizeof(reason));

		if (!CHECK_INT(outcome, cases[i].outcome) || !CHECK_STR(reason, cases[i].reason))
			printf("    %s\n", cases[i].body);
	}
}

/* ---- as it is asked for ---- */

/* The flags of a submit with these members; *said is what it was refused with. */
static uint32_t
submit(const char *members, char *said, size_t size)
{
	char body[1000];
	DtmApiCall call;
	DtmApiAnswer answer;

	said[0] = '\0';
	snprintf(body, sizeof(body), "{\"gid\":\"g\",%s}", members);
	if (dtm_api_read("POST", "/api/dtmsvr/submit", body, strlen(body), &memory.arena, &call,
					 &answer))
		return call.trans.flags;
	CHECK_INT(answer.status, 500);
	snprintf(said, size, "%s", answer.body);
	return 0;
}

#define SAGA(protocol, url, payload)                                                    \
	"\"trans_type\":\"saga\",\"protocol\":" protocol ",\"payloads\":[\"" payload "\"]," \
	"\"steps\":[{\"action\":\"http://h/a\",\"compensate\":\"" url "\"}]"

static void
test_request(void)
{
	char said[500];
	DtmTrans trans;
	DtmApiTransRow row;
	const char *packed;
	size_t len;
	DtmSpecError error;
	DtmSpecBuilder *builder;

	CHECK_INT(submit(SAGA("\"json-rpc\"", "http://h/?method=b", "{}"), said, sizeof(said)),
			  DTM_FLAG_JSON_RPC);
	CHECK_STR(said, "");
	CHECK_INT(submit(SAGA("\"json-rpc\"", "http://h/b", "[]"), said, sizeof(said)),
			  DTM_FLAG_JSON_RPC);
	CHECK_STR(said, "");
	CHECK_INT(submit(SAGA("\"json-rpc\"", "http://h/?method=b", ""), said, sizeof(said)),
			  DTM_FLAG_JSON_RPC);
	CHECK_STR(said, "");
	CHECK_INT(submit(SAGA("\"http\"", "http://h/?method=b", "[]"), said, sizeof(said)), 0);
	CHECK_INT(submit(SAGA("\"\"", "http://h/?method=b", "[]"), said, sizeof(said)), 0);
	CHECK_INT(submit(SAGA("null", "http://h/?method=b", "[]"), said, sizeof(said)), 0);
	CHECK_STR(said, "");

	submit(SAGA("\"json-rpc\"", "http://h/?method=b", "[]"), said, sizeof(said));
	CHECK(strstr(said, "has a payload that is no JSON object") != NULL);
	submit(SAGA("\"grpc\"", "http://h/?method=b", "{}"), said, sizeof(said));
	CHECK(strstr(said, "\\\"protocol\\\" is not one that is served: \\\"grpc\\\"") != NULL);
	submit(SAGA("7", "http://h/?method=b", "{}"), said, sizeof(said));
	CHECK(said[0] != '\0');

	/* without steps */
	CHECK_INT(submit("\"trans_type\":\"tcc\",\"protocol\":\"json-rpc\"", said, sizeof(said)),
			  DTM_FLAG_JSON_RPC | DTM_FLAG_CLIENT_RUN);
	CHECK_STR(said, "");
	submit("\"trans_type\":\"xa\",\"protocol\":\"grpc\"", said, sizeof(said));
	CHECK(said[0] != '\0');

	/* it is stored, and shown */
	builder = dtm_spec_begin(&memory.arena, DTM_TYPE_MSG, &error);
	CHECK(dtm_spec_step_begin(builder));
	CHECK(dtm_spec_step_field(builder, "action", 6, DTM_JSON_STRING, "http://h/?method=a", 18));
	dtm_spec_set_flags(builder, DTM_FLAG_JSON_RPC);
	CHECK(dtm_spec_finish(builder, &packed, &len));
	CHECK_INT(dtm_spec_unpack(packed, len, &memory.arena, &trans), DTM_OK);
	CHECK_INT(trans.flags, DTM_FLAG_JSON_RPC);
	dtm_api_trans_row(&trans, &row);
	CHECK_TEXT(row.protocol, "json-rpc");
}

int
main(void)
{
	test_arena_init(&memory);
	test_which();
	test_body();
	test_payload_check();
	test_meaning();
	test_request();
	test_arena_reset(&memory);
	TEST_REPORT();
}
