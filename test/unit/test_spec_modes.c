/* -------------------------------------------------------------------------
 *
 * test_spec_modes.c
 *		The steps of a msg and the branches of a tcc: what the builder takes,
 *		what it refuses, and what is read back.
 *
 * What the types have in common is tested with sagas, in test_spec.c and
 * test_steps_json.c.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_steps_json.h"
#include "dtm_test.h"

#define CREATED_AT INT64_C(800000000000000)

static TestArena memory;

static DtmSpecBuilder *
begin(DtmTransType type)
{
	DtmSpecError error;
	DtmSpecBuilder *builder = dtm_spec_begin(&memory.arena, type, &error);

	if (!CHECK(builder != NULL))
		exit(1);
	return builder;
}

/* Walk the JSON text and finish; the builder has the error. */
static DtmTrans
finish(DtmSpecBuilder *builder, const char *json)
{
	DtmTrans trans;
	const char *packed;
	size_t len;
	uint32_t flags = 0;

	memset(&trans, 0, sizeof(trans));
	trans.created_at = CREATED_AT;
	if (dtm_steps_json(builder, json, strlen(json), &flags) &&
		dtm_spec_finish(builder, &packed, &len))
		CHECK_INT(dtm_spec_unpack(packed, len, &memory.arena, &trans), DTM_OK);
	return trans;
}

static DtmTrans
fine(DtmTransType type, const char *json, uint16_t n_branches)
{
	DtmSpecBuilder *builder = begin(type);
	DtmTrans trans = finish(builder, json);

	if (!CHECK_STR(dtm_spec_error(builder)->message, "") ||
		!CHECK_INT(trans.n_branches, n_branches))
	{
		printf("    %s\n", json);
		exit(1);
	}
	CHECK_INT(trans.type, type);
	return trans;
}

static void
refused(DtmTransType type, const char *json, const char *field, const char *message)
{
	DtmSpecBuilder *builder = begin(type);

	(void) finish(builder, json);
	CHECK_INT(dtm_spec_error(builder)->code, DTM_SPEC_INVALID);
	CHECK_STR(dtm_spec_error(builder)->message, message);
	CHECK_STR(dtm_spec_error(builder)->field, field);
	CHECK(dtm_spec_error(builder)->hint[0] != '\0');
}

static void
test_msg(void)
{
	DtmTrans trans =
		fine(DTM_TYPE_MSG,
			 "[{\"action\": \"http://a/1\", \"payload\": {\"n\": 1}, \"name\": \"pay\","
			 " \"headers\": {\"X-A\": \"1\"}, \"request_timeout\": 2.5},"
			 " {\"action\": \"sql:f\", \"compensate\": null, \"after\": null, \"retry_limit\": null},"
			 " {\"action\": \"\"}]",
			 3);

	CHECK_INT(trans.status, DTM_STATUS_SUBMITTED);
	CHECK_INT(trans.branches[0].request_timeout_ms, 2500);
	CHECK_TEXT(trans.branches[0].name, "pay");
	CHECK_TEXT(trans.branches[0].payload, "{\"n\":1}");
	CHECK(trans.branches[0].headers.len > 0);
	CHECK_TEXT(trans.branches[1].url[DTM_ROLE_FORWARD], "sql:f");
	CHECK_TEXT(trans.branches[2].branch_id, "03");
	for (int i = 0; i < 3; i++)
	{
		CHECK_INT(trans.branches[i].op[DTM_ROLE_FORWARD], DTM_OP_ACTION);
		CHECK_INT(trans.branches[i].op[DTM_ROLE_CONFIRM], DTM_OP_NONE);
		CHECK_INT(trans.branches[i].op[DTM_ROLE_UNDO], DTM_OP_NONE);
	}
}

static void
test_msg_wire(void)
{
	DtmTrans trans =
		fine(DTM_TYPE_MSG,
			 "{\"steps\": [{\"action\": \"http://a/1\"}, {\"action\": \"http://a/2\"}],"
			 " \"payloads\": [\"{}\", \"[1]\"], \"query_prepared\": \"http://a/q\","
			 " \"custom_data\": \"{\\\"delay\\\": 5, \\\"concurrent\\\": true,"
			 " \\\"orders\\\": {\\\"1\\\": [0]}}\"}",
			 2);

	CHECK_INT(trans.start_at - CREATED_AT, 5000000);
	CHECK_INT(trans.flags, DTM_FLAG_CONCURRENT);
	CHECK_INT(trans.branches[1].n_after, 0);
	CHECK_TEXT(trans.branches[1].payload, "[1]");

	refused(DTM_TYPE_MSG, "{\"steps\": [], \"payloads\": []}", "steps", "\"steps\" is empty");
	trans =
		fine(DTM_TYPE_MSG,
			 "{\"steps\": [{\"action\": \"http://a/1\"}], \"custom_data\": \"{\\\"delay\\\":0}\"}",
			 1);
	CHECK_INT(trans.start_at, CREATED_AT);
}

static void
test_msg_refused(void)
{
	DtmSpecBuilder *builder;

	refused(DTM_TYPE_MSG, "[{\"action\": \"\"}, {\"action\": \"\", \"compensate\": \"\"}]",
			"compensate", "step 1: \"compensate\" is not for a msg transaction");
	refused(DTM_TYPE_MSG, "[{\"action\": \"\", \"retry_limit\": 3}]", "retry_limit",
			"step 0: \"retry_limit\" is not for a msg transaction");
	refused(DTM_TYPE_MSG, "[{\"action\": \"\", \"after\": []}]", "after",
			"step 0: \"after\" is not for a msg transaction");
	refused(DTM_TYPE_MSG, "[{\"try\": \"\"}]", "try",
			"step 0: \"try\" is not for a msg transaction");
	refused(DTM_TYPE_MSG, "[{\"try\": null}]", "action", "step 0 has no \"action\"");
	refused(DTM_TYPE_MSG, "[{\"url\": \"\"}]", "url", "step 0 has an unknown key \"url\"");
	refused(DTM_TYPE_MSG, "[]", "steps", "\"steps\" is empty");

	builder = begin(DTM_TYPE_MSG);
	CHECK(!dtm_spec_set_delay(builder, -1));
	CHECK_STR(dtm_spec_error(builder)->message, "\"delay\" must not be negative");
	builder = begin(DTM_TYPE_MSG);
	CHECK(!dtm_spec_set_delay(builder, DTM_MAX_OPTION_MS + 1));
	CHECK_STR(dtm_spec_error(builder)->message, "\"delay\" must be at most 365 days");

	/* what a saga does not know is told apart from what nobody knows */
	refused(DTM_TYPE_SAGA, "[{\"action\": \"\", \"cancel\": \"\"}]", "cancel",
			"step 0: \"cancel\" is not for a saga transaction");
}

static void
test_query_prepared(void)
{
	DtmSpecBuilder *builder = begin(DTM_TYPE_MSG);
	DtmTrans trans;

	CHECK_TEXT(dtm_spec_query_prepared(builder), "");
	CHECK(dtm_spec_set_query_prepared(builder, "sql:asked", 9));
	CHECK(dtm_spec_set_query_sql_name(builder, "public.asked", 12));
	CHECK(dtm_spec_set_delay(builder, 1500));
	CHECK_TEXT(dtm_spec_query_prepared(builder), "sql:asked");
	trans = finish(builder, "[{\"action\": \"\"}]");
	CHECK_STR(dtm_spec_error(builder)->message, "");
	CHECK_INT(trans.status, DTM_STATUS_PREPARED);
	CHECK_TEXT(trans.query_url, "sql:asked");
	CHECK_TEXT(trans.query_sql_name, "public.asked");
	CHECK_INT(trans.start_at - CREATED_AT, 1500000);

	builder = begin(DTM_TYPE_MSG);
	CHECK(!dtm_spec_set_query_prepared(builder, "", 0));
	CHECK_STR(dtm_spec_error(builder)->message, "\"query_prepared\" must not be empty");
	builder = begin(DTM_TYPE_MSG);
	CHECK(!dtm_spec_set_query_prepared(builder, "http:///x", 9));
	CHECK_STR(dtm_spec_error(builder)->message, "\"query_prepared\" has no host: \"http:///x\"");
	CHECK_INT(dtm_spec_error(builder)->step, -1);
	builder = begin(DTM_TYPE_MSG);
	CHECK(!dtm_spec_set_query_prepared(builder, "grpc://a:1/s/m", 14));
	CHECK_INT(dtm_spec_error(builder)->code, DTM_SPEC_UNSUPPORTED);

	/* after an error nothing is taken any more */
	CHECK(!dtm_spec_set_query_prepared(builder, "http://a/", 9));
	CHECK_TEXT(dtm_spec_query_prepared(builder), "");
}

static void
test_tcc(void)
{
	DtmTrans trans =
		fine(DTM_TYPE_TCC,
			 "[{\"try\": \"http://a/t\", \"confirm\": \"http://a/c\", \"cancel\": \"http://a/x\","
			 " \"payload\": [1], \"name\": \"stock\", \"retry_limit\": 2, \"request_timeout\": 1},"
			 " {\"cancel\": \"sql:x\", \"confirm\": \"\", \"try\": \"sql:t\", \"after\": [0],"
			 " \"headers\": {\"X-A\": \"1\"}}]",
			 2);

	CHECK_INT(trans.status, DTM_STATUS_PREPARED);
	CHECK_INT(trans.flags, 0);
	CHECK_TEXT(trans.branches[0].url[DTM_ROLE_FORWARD], "http://a/t");
	CHECK_TEXT(trans.branches[0].url[DTM_ROLE_CONFIRM], "http://a/c");
	CHECK_TEXT(trans.branches[0].url[DTM_ROLE_UNDO], "http://a/x");
	CHECK_INT(trans.branches[0].retry_limit, 2);
	CHECK_TEXT(trans.branches[1].url[DTM_ROLE_CONFIRM], "");
	CHECK_TEXT(trans.branches[1].url[DTM_ROLE_UNDO], "sql:x");
	CHECK_INT(trans.branches[1].n_after, 1);
	CHECK_INT(trans.branches[1].op[DTM_ROLE_FORWARD], DTM_OP_TRY);
	CHECK_INT(trans.branches[1].op[DTM_ROLE_CONFIRM], DTM_OP_CONFIRM);
	CHECK_INT(trans.branches[1].op[DTM_ROLE_UNDO], DTM_OP_CANCEL);
}

static void
test_tcc_refused(void)
{
	refused(DTM_TYPE_TCC, "[{\"confirm\": \"\", \"cancel\": \"\"}]", "try",
			"branch 0 has no \"try\"");
	refused(DTM_TYPE_TCC, "[{\"try\": \"\", \"cancel\": \"\"}]", "confirm",
			"branch 0 has no \"confirm\"");
	refused(DTM_TYPE_TCC,
			"[{\"try\": \"\", \"confirm\": \"\", \"cancel\": \"\"},"
			" {\"try\": \"\", \"confirm\": \"\", \"cancel\": null}]",
			"cancel", "branch 1 has no \"cancel\"");
	refused(DTM_TYPE_TCC, "[{\"action\": \"\"}]", "action",
			"branch 0: \"action\" is not for a tcc transaction");
	refused(DTM_TYPE_TCC, "[{\"try\": \"\", \"confirm\": 1, \"cancel\": \"\"}]", "confirm",
			"branch 0: \"confirm\" must be a string");
	refused(DTM_TYPE_TCC, "[{\"try\": \"\", \"confirm\": \"\", \"cancel\": \"ftp://a/\"}]",
			"cancel", "branch 0: \"cancel\" has an unknown scheme: \"ftp://a/\"");
	refused(DTM_TYPE_TCC,
			"[{\"try\": \"\", \"confirm\": \"\", \"cancel\": \"\", \"after\": [1]},"
			" {\"try\": \"\", \"confirm\": \"\", \"cancel\": \"\", \"after\": [0]}]",
			"after", "branch 0: \"after\" forms a cycle: the branch waits for itself");
	refused(DTM_TYPE_TCC, "[]", "branches", "\"branches\" is empty");
	refused(DTM_TYPE_TCC, "{\"steps\": []}", "branches", "\"branches\" is not an array");
	refused(DTM_TYPE_TCC, "[1]", "branches", "branch 0 is not an object");
}

/* A target given and taken back by null counts as missing. */
static void
test_last_one_counts(void)
{
	DtmSpecBuilder *builder = begin(DTM_TYPE_MSG);
	const char *packed;
	size_t len;

	CHECK(dtm_spec_step_begin(builder));
	CHECK(dtm_spec_step_field(builder, "action", 6, DTM_JSON_STRING, "http://a/", 9));
	CHECK(dtm_spec_step_field(builder, "action", 6, DTM_JSON_NULL, "", 0));
	CHECK_TEXT(dtm_spec_step_url(builder, 0, DTM_ROLE_FORWARD), "");
	CHECK(!dtm_spec_finish(builder, &packed, &len));
	CHECK_STR(dtm_spec_error(builder)->message, "step 0 has no \"action\"");
}

int
main(void)
{
	test_arena_init(&memory);
	test_msg();
	test_msg_wire();
	test_msg_refused();
	test_query_prepared();
	test_tcc();
	test_tcc_refused();
	test_last_one_counts();
	test_arena_reset(&memory);
	TEST_REPORT();
}
