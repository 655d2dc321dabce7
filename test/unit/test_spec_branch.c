/* -------------------------------------------------------------------------
 *
 * test_spec_branch.c
 *		Specs that grow: a begin without branches, branches that are packed one
 *		by one, and what is read of all of them together.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_spec.h"
#include "dtm_test.h"

#define CREATED_AT INT64_C(800000000000000)

static TestArena memory;

static DtmSpecBuilder *
begin(DtmTransType type)
{
	DtmSpecError error;
	DtmSpecBuilder *builder = dtm_spec_begin_growing(&memory.arena, type, &error);

	if (!CHECK(builder != NULL))
		exit(1);
	CHECK_INT(error.code, DTM_SPEC_OK);
	return builder;
}

static bool
target(DtmSpecBuilder *builder, DtmRole role, const char *field, const char *url)
{
	return dtm_spec_branch_target(builder, role, field, url, strlen(url));
}

static DtmSpecBuilder *
branch(DtmTransType type, const char *id)
{
	DtmSpecBuilder *builder = begin(type);

	CHECK(dtm_spec_branch_begin(builder, DTM_STEP_CALL, id, strlen(id)));
	return builder;
}

typedef struct Bytes
{
	char data[4096];
	size_t len;
} Bytes;

static void
append(Bytes *bytes, const char *data, size_t len)
{
	if (!CHECK(bytes->len + len <= sizeof(bytes->data)))
		exit(1);
	memcpy(bytes->data + bytes->len, data, len);
	bytes->len += len;
}

static void
append_begin(Bytes *bytes, DtmTransType type)
{
	DtmSpecBuilder *builder = begin(type);
	const char *packed;
	size_t len;

	CHECK(dtm_spec_set_timeout_to_fail(builder, 5000));
	CHECK(dtm_spec_finish(builder, &packed, &len));
	append(bytes, packed, len);
}

static void
append_branch(Bytes *bytes, DtmSpecBuilder *builder)
{
	const char *packed;
	size_t len;

	if (!CHECK(dtm_spec_finish_branch(builder, &packed, &len)))
		exit(1);
	append(bytes, packed, len);
}

static DtmTrans
read_back(const Bytes *bytes)
{
	DtmTrans trans;

	memset(&trans, 0, sizeof(trans));
	trans.created_at = CREATED_AT;
	CHECK_INT(dtm_spec_unpack(bytes->data, bytes->len, &memory.arena, &trans), DTM_OK);
	return trans;
}

static void
test_begin(void)
{
	static const DtmTransType growing[] = {DTM_TYPE_TCC, DTM_TYPE_XA, DTM_TYPE_WORKFLOW};
	static const DtmTransType whole[] = {DTM_TYPE_SAGA, DTM_TYPE_MSG};
	DtmSpecError error;

	for (size_t i = 0; i < sizeof(growing) / sizeof(growing[0]); i++)
	{
		Bytes bytes = {.len = 0};
		DtmTrans trans;

		append_begin(&bytes, growing[i]);
		trans = read_back(&bytes);
		CHECK_INT(trans.type, growing[i]);
		CHECK_INT(trans.n_branches, 0);
		CHECK_INT(trans.timeout_to_fail_ms, 5000);
		CHECK_INT(trans.status, DTM_STATUS_PREPARED);
		CHECK(dtm_trans_registers(&trans));
	}
	for (size_t i = 0; i < sizeof(whole) / sizeof(whole[0]); i++)
	{
		CHECK(dtm_spec_begin_growing(&memory.arena, whole[i], &error) == NULL);
		CHECK_INT(error.code, DTM_SPEC_UNSUPPORTED);
		CHECK_STR(error.field, "trans_type");
	}
}

static void
test_tcc(void)
{
	Bytes bytes = {.len = 0};
	DtmSpecBuilder *builder;
	DtmTrans trans;

	append_begin(&bytes, DTM_TYPE_TCC);
	builder = branch(DTM_TYPE_TCC, "one");
	CHECK(target(builder, DTM_ROLE_CONFIRM, "confirm", "http://a/confirm"));
	CHECK(target(builder, DTM_ROLE_UNDO, "cancel", "sql:cancel"));
	CHECK(dtm_spec_step_sql_name(builder, 0, DTM_ROLE_UNDO, "public.cancel", 13));
	CHECK(dtm_spec_step_payload_bytes(builder, 0, "{\"n\": 1}", 8));
	append_branch(&bytes, builder);

	/* "" is no target, and no payload is none */
	builder = branch(DTM_TYPE_TCC, "two");
	CHECK(target(builder, DTM_ROLE_CONFIRM, "confirm", ""));
	CHECK(target(builder, DTM_ROLE_UNDO, "cancel", ""));
	append_branch(&bytes, builder);

	trans = read_back(&bytes);
	if (!CHECK_INT(trans.n_branches, 2))
		return;
	CHECK_TEXT(trans.branches[0].branch_id, "one");
	CHECK_TEXT(trans.branches[0].url[DTM_ROLE_CONFIRM], "http://a/confirm");
	CHECK_TEXT(trans.branches[0].url[DTM_ROLE_UNDO], "sql:cancel");
	CHECK_TEXT(trans.branches[0].sql_name[DTM_ROLE_UNDO], "public.cancel");
	CHECK_TEXT(trans.branches[0].payload, "{\"n\": 1}");
	CHECK_INT(trans.branches[0].url[DTM_ROLE_FORWARD].len, 0);
	CHECK_INT(trans.branches[0].op[DTM_ROLE_CONFIRM], DTM_OP_CONFIRM);
	CHECK_INT(trans.branches[0].op[DTM_ROLE_UNDO], DTM_OP_CANCEL);
	CHECK_TEXT(trans.branches[1].branch_id, "two");
	CHECK_INT(trans.branches[1].url[DTM_ROLE_CONFIRM].len, 0);
	CHECK(trans.branches[1].payload.data == NULL);
}

static void
test_xa(void)
{
	static const char *const refused[] = {"sql:f", "topic://x"};
	Bytes bytes = {.len = 0};
	DtmSpecBuilder *builder = branch(DTM_TYPE_XA, "01");
	DtmTrans trans;

	append_begin(&bytes, DTM_TYPE_XA);
	CHECK(target(builder, DTM_ROLE_CONFIRM, "url", "https://a/xa"));
	CHECK(target(builder, DTM_ROLE_UNDO, "url", "https://a/xa"));
	append_branch(&bytes, builder);
	trans = read_back(&bytes);
	if (CHECK_INT(trans.n_branches, 1))
	{
		CHECK_INT(trans.branches[0].op[DTM_ROLE_CONFIRM], DTM_OP_COMMIT);
		CHECK_INT(trans.branches[0].op[DTM_ROLE_UNDO], DTM_OP_ROLLBACK);
		CHECK_TEXT(trans.branches[0].url[DTM_ROLE_UNDO], "https://a/xa");
	}
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
	{
		builder = branch(DTM_TYPE_XA, "01");
		CHECK(!target(builder, DTM_ROLE_CONFIRM, "url", refused[i]));
		CHECK_STR(dtm_spec_error(builder)->field, "url");
		CHECK(dtm_spec_error(builder)->hint[0] != '\0');
	}
}

/* The same branch gives the same bytes, another one gives others: how a repetition is recognised. */
static void
test_same(void)
{
	const char *packed[3];
	size_t len[3];

	for (int i = 0; i < 3; i++)
	{
		DtmSpecBuilder *builder = branch(DTM_TYPE_TCC, "01");

		CHECK(target(builder, DTM_ROLE_CONFIRM, "confirm", i < 2 ? "http://a/1" : "http://a/2"));
		CHECK(target(builder, DTM_ROLE_UNDO, "cancel", "http://a/3"));
		CHECK(dtm_spec_finish_branch(builder, &packed[i], &len[i]));
	}
	CHECK(len[0] == len[1] && memcmp(packed[0], packed[1], len[0]) == 0);
	CHECK(len[0] != len[2] || memcmp(packed[0], packed[2], len[0]) != 0);
}

static void
refused_id(const char *id, size_t len, const char *message)
{
	DtmSpecBuilder *builder = begin(DTM_TYPE_TCC);
	const char *packed;
	size_t packed_len;

	CHECK(!dtm_spec_branch_begin(builder, DTM_STEP_CALL, id, len));
	CHECK_INT(dtm_spec_error(builder)->code, DTM_SPEC_INVALID);
	CHECK_STR(dtm_spec_error(builder)->field, "branch_id");
	CHECK_STR(dtm_spec_error(builder)->message, message);
	CHECK_INT(dtm_spec_error(builder)->step, -1);

	/* and the first error stays */
	CHECK(!target(builder, DTM_ROLE_CONFIRM, "confirm", "nothing"));
	CHECK(!dtm_spec_finish_branch(builder, &packed, &packed_len));
	CHECK_STR(dtm_spec_error(builder)->field, "branch_id");
}

static void
test_refused(void)
{
	char *large = malloc(DTM_MAX_PAYLOAD_LEN + 1);
	char id[DTM_MAX_BRANCH_ID_LEN + 1];
	DtmSpecBuilder *builder;

	memset(id, 'x', sizeof(id));
	refused_id("", 0, "branch_id must not be empty");
	refused_id("a\nb", 3, "branch_id contains a control character");
	refused_id("a\0b", 3, "branch_id contains a control character");
	refused_id("\x7F", 1, "branch_id contains a control character");
	refused_id(id, sizeof(id), "branch_id is longer than 128 bytes");
	builder = begin(DTM_TYPE_TCC);
	CHECK(dtm_spec_branch_begin(builder, DTM_STEP_CALL, id, DTM_MAX_BRANCH_ID_LEN));

	/* who registers one branch is told of fields, not of steps */
	builder = branch(DTM_TYPE_TCC, "01");
	CHECK(!target(builder, DTM_ROLE_UNDO, "cancel", "nothing"));
	CHECK_STR(dtm_spec_error(builder)->message, "\"cancel\" has no scheme: \"nothing\"");
	CHECK_INT(dtm_spec_error(builder)->step, -1);
	builder = branch(DTM_TYPE_TCC, "01");
	memset(large, ' ', DTM_MAX_PAYLOAD_LEN + 1);
	CHECK(!dtm_spec_step_payload_bytes(builder, 0, large, DTM_MAX_PAYLOAD_LEN + 1));
	CHECK_INT(dtm_spec_error(builder)->code, DTM_SPEC_LIMIT);
	CHECK_STR(dtm_spec_error(builder)->message, "\"payload\" is longer than 1048576 bytes");
	CHECK_INT(dtm_spec_error(builder)->step, -1);
	free(large);

	/* there is one branch, and no other */
	builder = branch(DTM_TYPE_TCC, "01");
	CHECK(!dtm_spec_step_sql_name(builder, 1, DTM_ROLE_CONFIRM, "f", 1));
}

/* Cut anywhere, it is either a spec with fewer branches or none at all, and never read beyond. */
static void
test_cut(void)
{
	Bytes bytes = {.len = 0};
	size_t ends[4];
	int n_ends = 0;

	append_begin(&bytes, DTM_TYPE_TCC);
	ends[n_ends++] = bytes.len;
	for (int i = 0; i < 3; i++)
	{
		const char *ids[] = {"a", "b", "c"};
		DtmSpecBuilder *builder = branch(DTM_TYPE_TCC, ids[i]);

		CHECK(target(builder, DTM_ROLE_CONFIRM, "confirm", "http://a/c"));
		append_branch(&bytes, builder);
		ends[n_ends++] = bytes.len;
	}
	for (size_t len = 0; len <= bytes.len; len++)
	{
		char *copy = malloc(len > 0 ? len : 1);
		int whole = -1;
		DtmTrans trans;

		for (int i = 0; i < n_ends; i++)
			whole = ends[i] == len ? i : whole;
		memcpy(copy, bytes.data, len);
		memset(&trans, 0, sizeof(trans));
		trans.created_at = CREATED_AT;
		CHECK_INT(dtm_spec_unpack(copy, len, &memory.arena, &trans),
				  whole >= 0 ? DTM_OK : DTM_INVALID);
		if (whole >= 0)
			CHECK_INT(trans.n_branches, whole);
		free(copy);
	}
}

int
main(void)
{
	test_arena_init(&memory);
	test_begin();
	test_tcc();
	test_xa();
	test_same();
	test_refused();
	test_cut();
	test_arena_reset(&memory);
	TEST_REPORT();
}
