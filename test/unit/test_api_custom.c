/* -------------------------------------------------------------------------
 *
 * test_api_custom.c
 *		The JSON texts inside of DTM's rows: options and custom_data, made from
 *		the packed form; base64.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_api.h"
#include "dtm_test.h"

static TestArena memory;
static DtmBranch branches[4];
static DtmTrans trans;

static void
begin(DtmTransType type, uint32_t flags, int n)
{
	test_arena_reset(&memory);
	memset(&trans, 0, sizeof(trans));
	memset(branches, 0, sizeof(branches));
	trans.type = type;
	trans.flags = flags;
	trans.retry_limit = -1;
	trans.n_branches = (uint16_t) n;
	trans.branches = branches;
}

static void
check_custom(const char *expected)
{
	DtmText value;

	if (CHECK(dtm_api_custom_data(&trans, &memory.arena, &value)))
		CHECK_TEXT(value, expected);
}

static void
test_saga(void)
{
	static const uint16_t first[] = {0};
	static const uint16_t both[] = {0, 1};

	/* one after the other, and all at once */
	begin(DTM_TYPE_SAGA, 0, 3);
	check_custom("");
	begin(DTM_TYPE_SAGA, DTM_FLAG_CONCURRENT, 3);
	check_custom("{\"concurrent\":true}");

	branches[2].after = both;
	branches[2].n_after = 2;
	check_custom("{\"concurrent\":true,\"orders\":{\"2\":[0,1]}}");

	/* without the option the others come after the one in front: that has to be said */
	begin(DTM_TYPE_SAGA, 0, 4);
	branches[2].after = first;
	branches[2].n_after = 1;
	check_custom("{\"concurrent\":true,\"orders\":{\"1\":[0],\"2\":[0],\"3\":[2]}}");
}

static void
test_others(void)
{
	begin(DTM_TYPE_MSG, DTM_FLAG_CONCURRENT, 1);
	check_custom("");
	trans.created_at = 5000000;
	trans.start_at = 5000000 + 9500000;
	check_custom("{\"delay\":10}");

	begin(DTM_TYPE_TCC, DTM_FLAG_CLIENT_RUN, 0);
	check_custom("");
	begin(DTM_TYPE_XA, DTM_FLAG_CLIENT_RUN, 0);
	check_custom("");

	begin(DTM_TYPE_WORKFLOW, 0, 0);
	trans.query_url = test_text("sql:order");
	check_custom("{\"data\":null,\"name\":\"sql:order\"}");
	trans.query_sql_name = test_text("public.\"or\"der");
	trans.payload = test_text("{}");
	check_custom("{\"data\":\"e30=\",\"name\":\"public.\\\"or\\\"der\"}");
	trans.flags = DTM_FLAG_CLIENT_RUN;
	trans.query_name = test_text("wf1");
	check_custom("{\"data\":\"e30=\",\"name\":\"wf1\"}");
}

static void
test_options(void)
{
	DtmApiTransRow row;
	DtmText value;

	begin(DTM_TYPE_SAGA, 0, 0);
	dtm_api_trans_row(&trans, &row);
	CHECK(dtm_api_options(&row, &memory.arena, &value));
	CHECK_TEXT(value, "{\"concurrent\":false}");

	trans.flags = DTM_FLAG_CONCURRENT | DTM_FLAG_WAIT_RESULT | DTM_FLAG_JSON_RPC;
	trans.timeout_to_fail_ms = 1001;
	trans.request_timeout_ms = 3000;
	trans.retry_interval_ms = 1;
	trans.retry_limit = 7;
	trans.headers.data = "\003X-A\002\"b";
	trans.headers.len = 7;
	dtm_api_trans_row(&trans, &row);
	CHECK_TEXT(row.protocol, "json-rpc");
	CHECK(dtm_api_options(&row, &memory.arena, &value));
	CHECK_TEXT(value,
			   "{\"wait_result\":true,\"timeout_to_fail\":2,\"request_timeout\":3,\"retry_interval\":1,"
			   "\"branch_headers\":{\"X-A\":\"\\\"b\"},\"concurrent\":true,\"retry_limit\":7}");
}

static void
test_base64(void)
{
	static const char *const cases[][2] = {{"", ""},
										   {"a", "YQ=="},
										   {"ab", "YWI="},
										   {"abc", "YWJj"},
										   {"\xFF\xFE\xFD\xFC", "//79/A=="}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		DtmText value;

		if (CHECK(dtm_api_base64(test_text(cases[i][0]), &memory.arena, &value)))
			CHECK_TEXT(value, cases[i][1]);
	}
}

/* No memory is an answer, not a crash. */
static void
test_no_memory(void)
{
	DtmText value;
	DtmApiTransRow row;

	begin(DTM_TYPE_SAGA, DTM_FLAG_CONCURRENT, 1);
	dtm_api_trans_row(&trans, &row);
	memory.fail_after = 0;
	CHECK(!dtm_api_custom_data(&trans, &memory.arena, &value));
	CHECK_INT(value.len, 0);
	CHECK(!dtm_api_options(&row, &memory.arena, &value));
	CHECK(!dtm_api_base64(test_text("a"), &memory.arena, &value));
}

int
main(void)
{
	test_arena_init(&memory);
	test_saga();
	test_others();
	test_options();
	test_base64();
	test_no_memory();
	test_arena_reset(&memory);
	TEST_REPORT();
}
