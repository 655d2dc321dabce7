/* -------------------------------------------------------------------------
 *
 * test_spec_workflow.c
 *		The spec builder on workflows: the function and its data, and one step
 *		with its name, its time and its options.
 *
 * Not here: the packed form of registered branches (test_spec.c).
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_spec.h"
#include "dtm_test.h"

static TestArena memory;

static DtmSpecBuilder *
begin(void)
{
	DtmSpecError error;
	DtmSpecBuilder *builder = dtm_spec_begin_growing(&memory.arena, DTM_TYPE_WORKFLOW, &error);

	if (!CHECK(builder != NULL))
		exit(1);
	return builder;
}

static bool
set_function(DtmSpecBuilder *builder, const char *name)
{
	return dtm_spec_set_function(builder, name, strlen(name));
}

static DtmTrans
read_back(const char *packed, size_t len)
{
	DtmTrans trans;

	memset(&trans, 0, sizeof(trans));
	trans.created_at = 1000000;
	if (!CHECK_INT(dtm_spec_unpack(packed, len, &memory.arena, &trans), DTM_OK))
		exit(1);
	return trans;
}

static void
test_function(void)
{
	static const char *const names[][2] = {
		{"place_order", "sql:place_order"},     {"shop.place_order", "sql:shop.place_order"},
		{"sql:place_order", "sql:place_order"}, {"SQL:shop.place_order", "SQL:shop.place_order"},
		{"\"odd: name\"", "sql:\"odd: name\""},
	};
	static const char *const bad[] = {"",       "sql:",      "a b", "a.b.c", "http://h/",
									  "grpc:x", "topic://t", "x:y", "a\nb"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		DtmSpecBuilder *builder = begin();
		const char *packed = NULL;
		size_t len = 0;
		DtmTrans trans;

		CHECK(set_function(builder, names[i][0]));
		CHECK(dtm_spec_finish(builder, &packed, &len));
		trans = read_back(packed, len);
		CHECK_INT(trans.type, DTM_TYPE_WORKFLOW);
		CHECK_INT(trans.status, DTM_STATUS_PREPARED);
		CHECK_TEXT(trans.query_url, names[i][1]);
		CHECK(trans.payload.data == NULL);
		CHECK_INT(trans.n_branches, 0);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		DtmSpecBuilder *builder = begin();

		CHECK(!set_function(builder, bad[i]));
		CHECK_INT(dtm_spec_error(builder)->code, DTM_SPEC_INVALID);
		CHECK_STR(dtm_spec_error(builder)->field, "function");
		CHECK(!set_function(builder, "fine")); /* the first error stays */
	}
}

static void
test_data(void)
{
	static char large[DTM_MAX_PAYLOAD_LEN + 1];
	DtmSpecBuilder *builder = begin();
	const char *packed[2] = {NULL, NULL};
	size_t len[2] = {0, 0};
	DtmTrans trans;

	for (int i = 0; i < 2; i++)
	{
		builder = begin();
		CHECK(set_function(builder, "f"));
		CHECK(dtm_spec_set_data(builder, "{\"id\": 7}", 9));
		CHECK(dtm_spec_set_retry_limit(builder, 3));
		CHECK(dtm_spec_finish(builder, &packed[i], &len[i]));
	}
	CHECK(len[0] == len[1] && memcmp(packed[0], packed[1], len[0]) == 0);
	trans = read_back(packed[0], len[0]);
	CHECK_TEXT(trans.payload, "{\"id\": 7}");
	CHECK_INT(trans.retry_limit, 3);

	/* what a repeated submit is compared with */
	CHECK_INT(dtm_spec_pack_asked(&trans, &memory.arena, &packed[1], &len[1]), DTM_OK);
	CHECK(len[0] == len[1] && memcmp(packed[0], packed[1], len[0]) == 0);

	/* bytes that end within it */
	for (size_t cut = 1; cut < len[0]; cut++)
	{
		DtmTrans half;

		half.created_at = 0;
		CHECK_INT(dtm_spec_unpack(packed[0], len[0] - cut, &memory.arena, &half), DTM_INVALID);
	}

	builder = begin();
	memset(large, 'x', sizeof(large));
	CHECK(!dtm_spec_set_data(builder, large, sizeof(large)));
	CHECK_INT(dtm_spec_error(builder)->code, DTM_SPEC_LIMIT);
	builder = begin();
	CHECK(!dtm_spec_set_function(builder, large, DTM_MAX_URL_LEN));
	CHECK_INT(dtm_spec_error(builder)->code, DTM_SPEC_LIMIT);
}

/* A step as the function asks for it, and as it comes back behind its spec. */
static void
test_step(void)
{
	DtmSpecBuilder *builder = begin();
	const DtmBranch *step;
	const char *packed = NULL;
	size_t len = 0;
	const char *spec = NULL;
	size_t spec_len = 0;
	char *whole;
	DtmTrans trans;
	size_t offset = 0;
	DtmText name;
	DtmText value;

	CHECK(dtm_spec_branch_begin(builder, DTM_STEP_CALL, "07", 2));
	CHECK(dtm_spec_branch_target(builder, DTM_ROLE_FORWARD, "target", "http://a/x", 10));
	CHECK(dtm_spec_branch_target(builder, DTM_ROLE_UNDO, "compensate", "sql:f", 5));
	CHECK(dtm_spec_step_sql_name(builder, 0, DTM_ROLE_UNDO, "public.f", 8));
	CHECK(dtm_spec_branch_name(builder, "name", "seven", 5));
	CHECK(dtm_spec_step_payload_bytes(builder, 0, "{}", 2));
	CHECK(dtm_spec_set_request_timeout(builder, 1500));
	CHECK(dtm_spec_set_retry_limit(builder, 2));
	CHECK(dtm_spec_add_header(builder, "X-One", 5, DTM_JSON_STRING, "1", 1));
	step = dtm_spec_branch(builder);
	CHECK_TEXT(step->url[DTM_ROLE_FORWARD], "http://a/x");
	CHECK_TEXT(step->name, "seven");
	CHECK(dtm_spec_finish_branch(builder, &packed, &len));

	builder = begin();
	CHECK(set_function(builder, "f"));
	CHECK(dtm_spec_finish(builder, &spec, &spec_len));
	whole = malloc(spec_len + len);
	memcpy(whole, spec, spec_len);
	memcpy(whole + spec_len, packed, len);
	trans = read_back(whole, spec_len + len);
	if (CHECK_INT(trans.n_branches, 1))
	{
		step = &trans.branches[0];
		CHECK_TEXT(step->branch_id, "07");
		CHECK_TEXT(step->name, "seven");
		CHECK_TEXT(step->sql_name[DTM_ROLE_UNDO], "public.f");
		CHECK_TEXT(step->payload, "{}");
		CHECK_INT(step->request_timeout_ms, 1500);
		CHECK_INT(step->retry_limit, 2);
		CHECK_INT(step->op[DTM_ROLE_FORWARD], DTM_OP_ACTION);
		CHECK_INT(step->op[DTM_ROLE_UNDO], DTM_OP_COMPENSATE);
		CHECK(dtm_headers_next(step->headers, &offset, &name, &value));
		CHECK_TEXT(name, "X-One");
		CHECK_TEXT(value, "1");
	}
	free(whole);
}

static void
test_wait_step(void)
{
	DtmSpecBuilder *builder = begin();
	const char *packed = NULL;
	size_t len = 0;

	CHECK(dtm_spec_branch_begin(builder, DTM_STEP_AWAIT, "01", 2));
	CHECK_INT(dtm_spec_branch(builder)->due_at, DTM_TIME_NEVER);
	CHECK(dtm_spec_branch_name(builder, "event", "approved", 8));
	dtm_spec_branch_due(builder, 42);
	CHECK_INT(dtm_spec_branch(builder)->due_at, 42);
	CHECK_INT(dtm_spec_branch(builder)->kind, DTM_STEP_AWAIT);
	CHECK(dtm_spec_finish_branch(builder, &packed, &len));
	CHECK(len > 0);
}

/* Messages name the argument; a step that has no number yet is not called "step 0". */
static void
test_refused(void)
{
	static char large[DTM_MAX_PAYLOAD_LEN + 1];
	DtmSpecBuilder *builder = begin();

	memset(large, 'n', sizeof(large));
	CHECK(dtm_spec_branch_begin(builder, DTM_STEP_CALL, "01", 2));
	CHECK(!dtm_spec_branch_name(builder, "event", large, DTM_MAX_NAME_LEN + 1));
	CHECK_INT(dtm_spec_error(builder)->code, DTM_SPEC_LIMIT);
	CHECK_STR(dtm_spec_error(builder)->message, "\"event\" is longer than 128 bytes");

	builder = begin();
	CHECK(dtm_spec_branch_begin(builder, DTM_STEP_CALL, "01", 2));
	CHECK(!dtm_spec_branch_name(builder, "name", "a\tb", 3));
	CHECK_STR(dtm_spec_error(builder)->message, "\"name\" contains a control character");

	builder = begin();
	CHECK(dtm_spec_branch_begin(builder, DTM_STEP_CALL, "01", 2));
	CHECK(!dtm_spec_branch_target(builder, DTM_ROLE_FORWARD, "target", "nothing", 7));
	CHECK_STR(dtm_spec_error(builder)->message, "\"target\" has no scheme: \"nothing\"");

	builder = begin();
	CHECK(dtm_spec_branch_begin(builder, DTM_STEP_CALL, "01", 2));
	CHECK(!dtm_spec_step_payload_bytes(builder, 0, large, sizeof(large)));
	CHECK_STR(dtm_spec_error(builder)->message, "\"payload\" is longer than 1048576 bytes");

	CHECK(dtm_event_check("approved", 8) == NULL);
	CHECK(dtm_event_check("", 0) != NULL);
	CHECK(dtm_event_check("a\nb", 3) != NULL);
	CHECK(dtm_event_check(large, 128) == NULL);
	CHECK(dtm_event_check(large, 129) != NULL);
}

/* Whatever allocation fails, it says so. */
static void
test_no_memory(void)
{
	for (int n = 0; n < 20; n++)
	{
		DtmSpecError error;
		DtmSpecBuilder *builder;
		const char *packed;
		size_t len;

		memory.fail_after = n;
		builder = dtm_spec_begin_growing(&memory.arena, DTM_TYPE_WORKFLOW, &error);
		if (builder == NULL)
			CHECK_INT(error.code, DTM_SPEC_NOMEM);
		else if (!set_function(builder, "f") || !dtm_spec_set_data(builder, "{}", 2) ||
				 !dtm_spec_branch_begin(builder, DTM_STEP_CALL, "01", 2) ||
				 !dtm_spec_branch_name(builder, "name", "n", 1) ||
				 !dtm_spec_finish_branch(builder, &packed, &len))
			CHECK_INT(dtm_spec_error(builder)->code, DTM_SPEC_NOMEM);
		else
			CHECK(n > 3);
		memory.fail_after = -1;
	}
}

int
main(void)
{
	test_arena_init(&memory);
	test_function();
	test_data();
	test_step();
	test_wait_step();
	test_refused();
	test_no_memory();
	test_arena_reset(&memory);
	TEST_REPORT();
}
