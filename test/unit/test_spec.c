/* -------------------------------------------------------------------------
 *
 * test_spec.c
 *		Building a spec, its packed form, reading it back.
 *
 * The rules about steps that need no more than a JSON text to show are in
 * test_steps_json.c.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_spec.h"
#include "dtm_test.h"

#define CREATED_AT INT64_C(800000000000000)

static TestArena memory;

static DtmSpecBuilder *
begin(void)
{
	DtmSpecError error;
	DtmSpecBuilder *builder = dtm_spec_begin(&memory.arena, DTM_TYPE_SAGA, &error);

	CHECK(builder != NULL);
	CHECK_INT(error.code, DTM_SPEC_OK);
	return builder;
}

static bool
field(DtmSpecBuilder *builder, const char *key, DtmJsonKind kind, const char *value)
{
	return dtm_spec_step_field(builder, key, strlen(key), kind, value, strlen(value));
}

static bool
header(DtmSpecBuilder *builder, const char *name, const char *value)
{
	return dtm_spec_step_header(builder, name, strlen(name), DTM_JSON_STRING, value, strlen(value));
}

static void
step(DtmSpecBuilder *builder, const char *action, const char *compensate)
{
	CHECK(dtm_spec_step_begin(builder));
	CHECK(field(builder, "action", DTM_JSON_STRING, action));
	if (compensate != NULL)
		CHECK(field(builder, "compensate", DTM_JSON_STRING, compensate));
}

/* Finish and read back; the bytes live in the arena. */
static void
finish(DtmSpecBuilder *builder, DtmTrans *trans)
{
	const char *packed = NULL;
	size_t len = 0;

	memset(trans, 0x5A, sizeof(*trans));
	trans->created_at = CREATED_AT;
	trans->n_branches = 0;
	if (!CHECK(dtm_spec_finish(builder, &packed, &len)))
	{
		printf("    %s\n", dtm_spec_error(builder)->message);
		return;
	}
	CHECK_INT(dtm_spec_unpack(packed, len, &memory.arena, trans), DTM_OK);
}

static void
test_plain(void)
{
	DtmSpecBuilder *builder = begin();
	DtmTrans trans;

	step(builder, "http://a/1", "http://a/-1");
	CHECK(field(builder, "payload", DTM_JSON_OBJECT, "{\"n\": 1}"));
	step(builder, "", NULL);
	step(builder, "sql:f", "");
	CHECK_INT(dtm_spec_step_count(builder), 3);
	CHECK_TEXT(dtm_spec_step_url(builder, 2, DTM_ROLE_FORWARD), "sql:f");
	CHECK_TEXT(dtm_spec_step_url(builder, 3, DTM_ROLE_FORWARD), "");
	CHECK(dtm_spec_step_sql_name(builder, 2, DTM_ROLE_FORWARD, "public.f", 8));
	finish(builder, &trans);

	CHECK_INT(trans.type, DTM_TYPE_SAGA);
	CHECK_INT(trans.status, DTM_STATUS_SUBMITTED);
	CHECK_INT(trans.created_at, CREATED_AT);
	CHECK_INT(trans.start_at, CREATED_AT);
	CHECK_INT(trans.flags, 0);
	CHECK_INT(trans.timeout_to_fail_ms, 0);
	CHECK_INT(trans.request_timeout_ms, 0);
	CHECK_INT(trans.retry_interval_ms, 0);
	CHECK_INT(trans.retry_limit, -1);
	CHECK_TEXT(trans.headers, "");
	CHECK_TEXT(trans.query_url, "");
	CHECK_TEXT(trans.query_sql_name, "");
	CHECK_TEXT(trans.search_path, "");
	CHECK_TEXT(trans.reason, "");
	CHECK_INT(trans.n_log, 0);
	CHECK(trans.log == NULL);
	if (!CHECK_INT(trans.n_branches, 3))
		return;
	for (int i = 0; i < 3; i++)
	{
		const DtmBranch *branch = &trans.branches[i];

		CHECK_INT(branch->op[DTM_ROLE_FORWARD], DTM_OP_ACTION);
		CHECK_INT(branch->op[DTM_ROLE_CONFIRM], DTM_OP_NONE);
		CHECK_INT(branch->op[DTM_ROLE_UNDO], DTM_OP_COMPENSATE);
		CHECK_INT(branch->retry_limit, -1);
		CHECK_INT(branch->request_timeout_ms, 0);
		CHECK_INT(branch->n_after, 0);
		CHECK_TEXT(branch->name, "");
		CHECK_TEXT(branch->headers, "");
		CHECK_TEXT(branch->url[DTM_ROLE_CONFIRM], "");
		for (int role = 0; role < DTM_ROLES; role++)
			CHECK_INT(branch->state[role].status, DTM_OP_PREPARED);
	}
	CHECK_TEXT(trans.branches[0].branch_id, "01");
	CHECK_TEXT(trans.branches[2].branch_id, "03");
	CHECK_TEXT(trans.branches[0].url[DTM_ROLE_FORWARD], "http://a/1");
	CHECK_TEXT(trans.branches[0].url[DTM_ROLE_UNDO], "http://a/-1");
	CHECK_TEXT(trans.branches[0].payload, "{\"n\": 1}");
	CHECK(trans.branches[1].payload.data == NULL);
	CHECK_TEXT(trans.branches[1].url[DTM_ROLE_FORWARD], "");
	CHECK_TEXT(trans.branches[2].sql_name[DTM_ROLE_FORWARD], "public.f");
	CHECK_TEXT(trans.branches[2].sql_name[DTM_ROLE_UNDO], "");
}

static void
test_everything(void)
{
	DtmSpecBuilder *builder = begin();
	DtmTrans trans;
	DtmText name;
	DtmText value;
	size_t offset = 0;

	step(builder, "http://a/", NULL);
	step(builder, "http://a/", NULL);
	step(builder, "http://b/", "http://c/");
	CHECK(field(builder, "name", DTM_JSON_STRING, "pay"));
	CHECK(field(builder, "request_timeout", DTM_JSON_NUMBER, "2.5"));
	CHECK(field(builder, "retry_limit", DTM_JSON_NUMBER, "0"));
	CHECK(field(builder, "headers", DTM_JSON_OBJECT, ""));
	CHECK(header(builder, "X-B", "2"));
	CHECK(header(builder, "x-a", ""));
	CHECK(header(builder, "x-b", "3"));
	CHECK(dtm_spec_step_after_begin(builder));
	CHECK(dtm_spec_step_after(builder, DTM_JSON_NUMBER, "1", 1));
	CHECK(dtm_spec_step_after(builder, DTM_JSON_NUMBER, "0", 1));
	CHECK(dtm_spec_step_after(builder, DTM_JSON_NUMBER, "1.0", 3));
	CHECK(dtm_spec_step_payload_bytes(builder, 2, "\0raw", 4));
	dtm_spec_set_flags(builder, DTM_FLAG_CONCURRENT);
	CHECK(dtm_spec_set_request_timeout(builder, DTM_MAX_REQUEST_TIMEOUT_MS));
	CHECK(dtm_spec_set_retry_interval(builder, DTM_MAX_RETRY_INTERVAL_MS));
	CHECK(dtm_spec_set_retry_limit(builder, 0));
	CHECK(dtm_spec_set_timeout_to_fail(builder, DTM_MAX_OPTION_MS));
	CHECK(dtm_spec_set_start_after(builder, 1500));
	CHECK(dtm_spec_set_search_path(builder, "\"$user\", public", 15));
	CHECK(dtm_spec_add_header(builder, "Authorization", 13, DTM_JSON_STRING, "Bearer x", 8));
	finish(builder, &trans);

	CHECK_INT(trans.flags, DTM_FLAG_CONCURRENT);
	CHECK_INT(trans.start_at, CREATED_AT + 1500000);
	CHECK_INT(trans.request_timeout_ms, DTM_MAX_REQUEST_TIMEOUT_MS);
	CHECK_INT(trans.retry_interval_ms, DTM_MAX_RETRY_INTERVAL_MS);
	CHECK_INT(trans.retry_limit, 0);
	CHECK_INT(trans.timeout_to_fail_ms, DTM_MAX_OPTION_MS);
	CHECK_TEXT(trans.search_path, "\"$user\", public");
	CHECK(dtm_headers_next(trans.headers, &offset, &name, &value));
	CHECK_TEXT(name, "Authorization");
	CHECK_TEXT(value, "Bearer x");
	CHECK(!dtm_headers_next(trans.headers, &offset, &name, &value));

	if (!CHECK_INT(trans.n_branches, 3))
		return;
	CHECK_TEXT(trans.branches[2].name, "pay");
	CHECK_INT(trans.branches[2].request_timeout_ms, 2500);
	CHECK_INT(trans.branches[2].retry_limit, 0);
	CHECK_INT(trans.branches[2].payload.len, 4);
	CHECK(memcmp(trans.branches[2].payload.data, "\0raw", 4) == 0);
	if (CHECK_INT(trans.branches[2].n_after, 2))
	{
		CHECK_INT(trans.branches[2].after[0], 0);
		CHECK_INT(trans.branches[2].after[1], 1);
	}

	/* sorted by name, and the later spelling of a name replaced the earlier */
	offset = 0;
	CHECK(dtm_headers_next(trans.branches[2].headers, &offset, &name, &value));
	CHECK_TEXT(name, "x-a");
	CHECK_TEXT(value, "");
	CHECK(dtm_headers_next(trans.branches[2].headers, &offset, &name, &value));
	CHECK_TEXT(name, "x-b");
	CHECK_TEXT(value, "3");
	CHECK(!dtm_headers_next(trans.branches[2].headers, &offset, &name, &value));
}

/* The order in which a caller meets members must not show: that is how a repeat is recognised. */
static void
test_same_bytes(void)
{
	const char *packed[2];
	size_t len[2];

	for (int turn = 0; turn < 2; turn++)
	{
		DtmSpecBuilder *builder = begin();

		CHECK(dtm_spec_step_begin(builder));
		CHECK(field(builder, "action", DTM_JSON_STRING, "http://a/"));
		for (int i = 0; i < 4; i++)
		{
			switch (turn == 0 ? i : 3 - i)
			{
				case 0:
					CHECK(field(builder, "name", DTM_JSON_STRING, "n"));
					break;
				case 1:
					CHECK(header(builder, "A", "1"));
					break;
				case 2:
					CHECK(header(builder, "B", "2"));
					break;
				case 3:
					CHECK(field(builder, "payload", DTM_JSON_STRING, "\"x\""));
					break;
			}
		}
		if (turn == 1)
		{
			/* replaced or withdrawn: as if it had never been there */
			CHECK(field(builder, "action", DTM_JSON_STRING, "http://b/"));
			CHECK(field(builder, "action", DTM_JSON_STRING, "http://a/"));
			CHECK(field(builder, "compensate", DTM_JSON_STRING, "http://b/"));
			CHECK(field(builder, "compensate", DTM_JSON_NULL, "null"));
			CHECK(field(builder, "retry_limit", DTM_JSON_NUMBER, "3"));
			CHECK(field(builder, "retry_limit", DTM_JSON_NULL, "null"));
		}
		CHECK(dtm_spec_finish(builder, &packed[turn], &len[turn]));
	}
	CHECK_INT(len[0], len[1]);
	CHECK(memcmp(packed[0], packed[1], len[0]) == 0);
}

static void
check_option(bool ok, DtmSpecBuilder *builder, const char *expected)
{
	const DtmSpecError *error = dtm_spec_error(builder);

	CHECK(!ok);
	CHECK_INT(error->code, DTM_SPEC_INVALID);
	CHECK_INT(error->step, -1);
	CHECK_STR(error->message, expected);
	CHECK(strncmp(error->message + 1, error->field, strlen(error->field)) == 0);
}

static void
test_options(void)
{
	DtmSpecBuilder *b;

	b = begin();
	check_option(dtm_spec_set_request_timeout(b, 0), b,
				 "\"request_timeout\" must be greater than zero");
	CHECK(!dtm_spec_set_request_timeout(b, 1)); /* the error stays */
	b = begin();
	check_option(dtm_spec_set_request_timeout(b, DTM_MAX_REQUEST_TIMEOUT_MS + 1), b,
				 "\"request_timeout\" must be at most 1 day");
	b = begin();
	check_option(dtm_spec_set_retry_interval(b, -1), b,
				 "\"retry_interval\" must be greater than zero");
	b = begin();
	check_option(dtm_spec_set_retry_interval(b, INT64_MAX), b,
				 "\"retry_interval\" must be at most 7 days");
	b = begin();
	check_option(dtm_spec_set_retry_limit(b, -1), b, "\"retry_limit\" must not be negative");
	b = begin();
	check_option(dtm_spec_set_retry_limit(b, DTM_MAX_RETRY_LIMIT + 1), b,
				 "\"retry_limit\" must be at most 1000000");
	b = begin();
	check_option(dtm_spec_set_timeout_to_fail(b, 0), b,
				 "\"timeout_to_fail\" must be greater than zero");
	b = begin();
	check_option(dtm_spec_set_timeout_to_fail(b, DTM_MAX_OPTION_MS + 1), b,
				 "\"timeout_to_fail\" must be at most 365 days");
	b = begin();
	check_option(dtm_spec_set_start_after(b, -1), b, "\"start_after\" must not be negative");
	b = begin();
	CHECK(dtm_spec_set_start_after(b, 0));
	check_option(dtm_spec_set_start_after(b, DTM_MAX_OPTION_MS + 1), b,
				 "\"start_after\" must be at most 365 days");
	b = begin();
	CHECK(!dtm_spec_add_header(b, "Host", 4, DTM_JSON_STRING, "x", 1));
	CHECK_STR(dtm_spec_error(b)->message, "\"headers\": \"Host\" cannot be set");
	b = begin();
	CHECK(!dtm_spec_set_search_path(b, "x", DTM_MAX_SEARCH_PATH_LEN + 1));
	CHECK_INT(dtm_spec_error(b)->code, DTM_SPEC_LIMIT);
}

static void
test_limits(void)
{
	static char big[DTM_MAX_PAYLOAD_LEN + 1];
	DtmSpecBuilder *b;
	const char *packed;
	size_t len;
	DtmTrans trans;

	memset(big, 'x', sizeof(big));
	b = begin();
	step(b, "http://a/", NULL);
	CHECK(dtm_spec_step_payload_bytes(b, 0, big, DTM_MAX_PAYLOAD_LEN));
	CHECK(!dtm_spec_step_payload_bytes(b, 0, big, DTM_MAX_PAYLOAD_LEN + 1));
	CHECK_INT(dtm_spec_error(b)->code, DTM_SPEC_LIMIT);
	CHECK_STR(dtm_spec_error(b)->message, "step 0: \"payload\" is longer than 1048576 bytes");

	/* seven of the largest payloads fit, eight do not */
	b = begin();
	for (int i = 0; i < 7; i++)
	{
		step(b, "http://a/", NULL);
		CHECK(dtm_spec_step_payload_bytes(b, i, big, DTM_MAX_PAYLOAD_LEN));
	}
	finish(b, &trans);
	CHECK_INT(trans.branches[6].payload.len, DTM_MAX_PAYLOAD_LEN);
	step(b, "http://a/", NULL);
	CHECK(!dtm_spec_step_payload_bytes(b, 7, big, DTM_MAX_PAYLOAD_LEN));
	CHECK_INT(dtm_spec_error(b)->code, DTM_SPEC_LIMIT);
	CHECK_STR(dtm_spec_error(b)->message, "the transaction is larger than 8388608 bytes");

	/* as many steps as allowed, and their ids */
	b = begin();
	for (int i = 0; i < DTM_MAX_STEPS; i++)
		step(b, "http://a/", NULL);
	finish(b, &trans);
	CHECK_TEXT(trans.branches[98].branch_id, "99");
	CHECK_TEXT(trans.branches[99].branch_id, "100");
	CHECK_TEXT(trans.branches[999].branch_id, "1000");
	CHECK(!dtm_spec_step_begin(b));
	CHECK_INT(dtm_spec_error(b)->code, DTM_SPEC_LIMIT);
	CHECK_STR(dtm_spec_error(b)->message, "\"steps\" has more than 1000 members");

	/* headers: 32 of them; the 33rd only when it replaces one */
	b = begin();
	step(b, "http://a/", NULL);
	for (int i = 0; i < DTM_MAX_HEADERS; i++)
	{
		char name[16];

		snprintf(name, sizeof(name), "X-%d", i);
		CHECK(header(b, name, "v"));
	}
	CHECK(header(b, "x-7", "w"));
	CHECK(!header(b, "Y", "v"));
	CHECK_STR(dtm_spec_error(b)->message, "step 0: \"headers\" has more than 32 members");

	b = begin();
	step(b, "http://a/", NULL);
	CHECK(dtm_spec_step_header(b, "X", 1, DTM_JSON_STRING, big, DTM_MAX_HEADER_LEN - 1));
	CHECK(!dtm_spec_step_header(b, "X", 1, DTM_JSON_STRING, big, DTM_MAX_HEADER_LEN));
	CHECK_INT(dtm_spec_error(b)->code, DTM_SPEC_LIMIT);

	/* misuse is an error, not a crash */
	b = begin();
	CHECK(!field(b, "action", DTM_JSON_STRING, "http://a/"));
	b = begin();
	CHECK(!dtm_spec_step_payload_bytes(b, 0, "x", 1));
	b = begin();
	CHECK(!dtm_spec_finish(b, &packed, &len));
	CHECK_STR(dtm_spec_error(b)->message, "\"steps\" is empty");
}

static void
test_other_modes(void)
{
	static const struct
	{
		DtmTransType type;
		uint32_t flags;
		const char *query_url;
		DtmStatus status;
		int op[DTM_ROLES];
	} cases[] =
		{{DTM_TYPE_MSG, 0, "", DTM_STATUS_SUBMITTED, {DTM_OP_ACTION, 0, 0}},
		 {DTM_TYPE_MSG, 0, "http://q/", DTM_STATUS_PREPARED, {DTM_OP_ACTION, 0, 0}},
		 {DTM_TYPE_TCC, 0, "", DTM_STATUS_PREPARED, {DTM_OP_TRY, DTM_OP_CONFIRM, DTM_OP_CANCEL}},
		 {DTM_TYPE_TCC,
		  DTM_FLAG_CLIENT_RUN,
		  "",
		  DTM_STATUS_PREPARED,
		  {0, DTM_OP_CONFIRM, DTM_OP_CANCEL}},
		 {DTM_TYPE_XA, 0, "", DTM_STATUS_PREPARED, {0, DTM_OP_COMMIT, DTM_OP_ROLLBACK}},
		 {DTM_TYPE_WORKFLOW,
		  0,
		  "http://w/",
		  DTM_STATUS_PREPARED,
		  {DTM_OP_TRY, DTM_OP_CONFIRM, DTM_OP_CANCEL}}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		DtmBranch branches[2];
		DtmTrans trans;
		DtmTrans read;
		const char *packed = NULL;
		size_t len = 0;

		memset(&trans, 0, sizeof(trans));
		memset(branches, 0, sizeof(branches));
		trans.type = cases[i].type;
		trans.flags = cases[i].flags;
		trans.retry_limit = -1;
		trans.query_url = test_text(cases[i].query_url);
		trans.query_sql_name = test_text("s.q");
		trans.branches = branches;
		trans.n_branches = (uint16_t) (i % 3); /* also none at all */
		branches[1].retry_limit = branches[0].retry_limit = -1;
		for (int k = 0; k < 2; k++)
		{
			branches[k].branch_id = test_text(k == 0 ? "01" : "02");
			branches[k].kind = cases[i].type == DTM_TYPE_WORKFLOW ? DTM_STEP_TCC : DTM_STEP_CALL;
		}
		for (int role = 0; role < DTM_ROLES; role++)
		{
			branches[0].url[role] = test_text(role == 0 ? "http://f" : role == 1 ? "c" : "u");
			branches[1].sql_name[role] = test_text(role == 0 ? "s.f" : role == 1 ? "s.c" : "s.u");
		}
		CHECK_INT(dtm_spec_pack(&trans, &memory.arena, &packed, &len), DTM_OK);
		read.created_at = INT64_MAX - 5;
		CHECK_INT(dtm_spec_unpack(packed, len, &memory.arena, &read), DTM_OK);
		CHECK_INT(read.type, cases[i].type);
		CHECK_INT(read.flags, cases[i].flags);
		CHECK_INT(read.status, cases[i].status);
		CHECK_INT(read.start_at, INT64_MAX - 5);
		CHECK_TEXT(read.query_url, cases[i].query_url);
		CHECK_TEXT(read.query_sql_name, "s.q");
		if (!CHECK_INT(read.n_branches, trans.n_branches))
			continue;
		for (int k = 0; k < read.n_branches; k++)
			CHECK_TEXT(read.branches[k].branch_id, k == 0 ? "01" : "02");
		for (int k = 0; k < read.n_branches; k++)
			for (int role = 0; role < DTM_ROLES; role++)
			{
				CHECK_INT(read.branches[k].op[role], cases[i].op[role]);
				CHECK(read.branches[k].url[role].len == branches[k].url[role].len);
				CHECK(read.branches[k].sql_name[role].len == branches[k].sql_name[role].len);
			}
	}
}

/* Branches that were registered follow the spec; every kind of step comes back. */
static void
test_registered(void)
{
	static const struct
	{
		const char *id;
		uint8_t kind;
		DtmTime due_at;
		bool undo;
		int op[DTM_ROLES];
	} steps[] = {
		{"01", DTM_STEP_CALL, DTM_TIME_NEVER, true, {DTM_OP_ACTION, 0, DTM_OP_COMPENSATE}},
		{"02", DTM_STEP_CALL, DTM_TIME_NEVER, false, {DTM_OP_ACTION, 0, 0}},
		{"03", DTM_STEP_TCC, DTM_TIME_NEVER, true, {DTM_OP_TRY, DTM_OP_CONFIRM, DTM_OP_CANCEL}},
		{"04", DTM_STEP_SLEEP, 1234567, false, {DTM_OP_SLEEP, 0, 0}},
		{"05", DTM_STEP_AWAIT, DTM_TIME_NEVER, false, {DTM_OP_AWAIT, 0, 0}},
		{"pay", DTM_STEP_AWAIT, -5, false, {DTM_OP_AWAIT, 0, 0}},
	};
	const int n = (int) (sizeof(steps) / sizeof(steps[0]));
	char bytes[1024];
	size_t size = 0;
	const char *packed = NULL;
	size_t len = 0;
	DtmTrans trans;

	memset(&trans, 0, sizeof(trans));
	trans.type = DTM_TYPE_WORKFLOW;
	trans.retry_limit = -1;
	trans.query_url = test_text("sql:f");
	CHECK_INT(dtm_spec_pack(&trans, &memory.arena, &packed, &len), DTM_OK);
	memcpy(bytes, packed, len);
	size = len;
	for (int i = 0; i < n; i++)
	{
		DtmBranch branch;

		dtm_branch_init(&branch);
		branch.branch_id = test_text(steps[i].id);
		branch.kind = steps[i].kind;
		branch.due_at = steps[i].due_at;
		branch.name = test_text("a name");
		branch.payload = test_text("{}");
		if (steps[i].undo)
			branch.url[DTM_ROLE_UNDO] = test_text("http://u/");
		CHECK_INT(dtm_branch_pack(&branch, &memory.arena, &packed, &len), DTM_OK);
		memcpy(bytes + size, packed, len);
		size += len;
	}

	trans.created_at = 7;
	CHECK_INT(dtm_spec_unpack(bytes, size, &memory.arena, &trans), DTM_OK);
	if (!CHECK_INT(trans.n_branches, n))
		return;
	for (int i = 0; i < n; i++)
	{
		const DtmBranch *branch = &trans.branches[i];

		CHECK_TEXT(branch->branch_id, steps[i].id);
		CHECK_TEXT(branch->name, "a name");
		CHECK_TEXT(branch->payload, "{}");
		CHECK_INT(branch->kind, steps[i].kind);
		CHECK(branch->due_at == steps[i].due_at);
		for (int role = 0; role < DTM_ROLES; role++)
			CHECK_INT(branch->op[role], steps[i].op[role]);
	}
	CHECK_INT(dtm_spec_pack(&trans, &memory.arena, &packed, &len), DTM_OK);
	CHECK(len == size && memcmp(packed, bytes, len) == 0);

	/* what was asked for at the submit is the spec alone */
	CHECK_INT(dtm_spec_pack_asked(&trans, &memory.arena, &packed, &len), DTM_OK);
	CHECK(len < size && memcmp(packed, bytes, len) == 0);

	/* cut off anywhere within a branch, or of a kind that is none */
	for (size_t cut = len + 1; cut < size; cut++)
	{
		char *copy = malloc(cut);
		DtmRc rc;

		memcpy(copy, bytes, cut);
		rc = dtm_spec_unpack(copy, cut, &memory.arena, &trans);
		CHECK(rc == DTM_INVALID || (rc == DTM_OK && trans.n_branches < n));
		free(copy);
	}
	bytes[len] = DTM_STEP_LAST + 1;
	CHECK_INT(dtm_spec_unpack(bytes, size, &memory.arena, &trans), DTM_INVALID);
}

/* Bytes of a spec with an order that runs forward too, for the two tests below. */
static const char *
sample(size_t *len)
{
	DtmSpecBuilder *builder = begin();
	const char *packed = NULL;

	step(builder, "http://a/1", "http://a/2");
	CHECK(dtm_spec_step_after(builder, DTM_JSON_NUMBER, "1", 1));
	CHECK(header(builder, "X", "1"));
	step(builder, "http://a/1", "http://a/2");
	CHECK(field(builder, "name", DTM_JSON_STRING, "n"));
	CHECK(field(builder, "payload", DTM_JSON_NUMBER, "5"));
	CHECK(field(builder, "request_timeout", DTM_JSON_NUMBER, "5"));
	CHECK(dtm_spec_set_start_after(builder, 5));
	CHECK(dtm_spec_add_header(builder, "Y", 1, DTM_JSON_STRING, "2", 1));
	CHECK(dtm_spec_finish(builder, &packed, len));
	return packed;
}

static void
test_damaged(void)
{
	size_t len = 0;
	const char *packed = sample(&len);
	DtmTrans trans;

	trans.created_at = 0;
	CHECK_INT(dtm_spec_unpack(packed, 0, &memory.arena, &trans), DTM_INVALID);

	/* every shortened form is refused, and what is behind the end is never read */
	for (size_t n = 1; n < len; n++)
	{
		char *copy = malloc(n);

		memcpy(copy, packed, n);
		CHECK_INT(dtm_spec_unpack(copy, n, &memory.arena, &trans), DTM_INVALID);
		free(copy);
	}

	/* every changed byte is survived; the first must be the version */
	for (size_t n = 0; n < len; n++)
	{
		for (int bit = 0; bit < 8; bit++)
		{
			char *copy = malloc(len);
			DtmRc rc;

			memcpy(copy, packed, len);
			copy[n] = (char) (copy[n] ^ (1 << bit));
			rc = dtm_spec_unpack(copy, len, &memory.arena, &trans);
			CHECK(rc == DTM_INVALID || (rc == DTM_OK && n > 0));
			free(copy);
		}
	}
	CHECK(memory.bytes < 200 * 1024 * 1024);
}

/* Hand-made bytes: version, type, flags, presence, branches, after entries, ... */
static void
test_hostile(void)
{
	static const struct
	{
		const char *bytes;
		size_t len;
		DtmRc rc;
	} cases[] = {
		{"\1\1\0\0\0\0", 6, DTM_OK},
		{"\1\1\0\0\1\0\0", 7, DTM_OK},
		{"\2\1\0\0\0\0", 6, DTM_INVALID}, /* version */
		{"\1\0\0\0\0\0", 6, DTM_INVALID}, /* type */
		{"\1\6\0\0\0\0", 6, DTM_INVALID},
		{"\1\1\0\0\0\0\0", 7, DTM_INVALID},     /* something behind */
		{"\1\1\0\x80\x04\0\0", 7, DTM_INVALID}, /* unknown presence bit */
		{"\1\1\0\0\2\0\0", 7, DTM_INVALID},     /* a branch is missing */
		{"\1\1\0\0\xe9\7\0", 7, DTM_INVALID},   /* 1001 branches */
		{"\1\1\0\0\1\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\0", 16, DTM_INVALID},
		{"\1\1\0\0\1\1\x20\1\0", 9, DTM_INVALID},          /* after itself */
		{"\1\1\0\0\1\1\x20\1\1", 9, DTM_INVALID},          /* after a step that is not there */
		{"\1\1\0\0\2\1\0\x20\1\0", 10, DTM_OK},            /* 1 after 0 */
		{"\1\1\0\0\2\2\x20\1\1\x20\1\0", 12, DTM_INVALID}, /* 0 after 1 after 0 */
		{"\1\1\0\0\2\1\x20\1\1\0", 10, DTM_OK},            /* 0 after 1 */
		{"\1\1\0\0\2\2\0\x20\1\0\0", 11, DTM_INVALID},     /* fewer entries than said */
		{"\1\1\0\0\2\1\0\x20\2\0\0", 11, DTM_INVALID},     /* more */
		{"\1\1\0\0\1\0\1\5abcd", 12, DTM_INVALID},         /* payload beyond the end */
		{"\1\1\0\0\1\0\1\4abcd", 12, DTM_OK},
		{"\1\1\0\0\1\0\x40\4\1X\1y", 12, DTM_OK},                   /* a header */
		{"\1\1\0\0\1\0\x40\4\1X\1\n", 12, DTM_INVALID},             /* with a line break */
		{"\1\1\0\0\1\0\x40\4\1X\2y", 12, DTM_INVALID},              /* beyond its list */
		{"\1\1\0\0\1\0\x40\2\0\0", 10, DTM_INVALID},                /* without a name */
		{"\1\1\0\1\x80\x80\x80\x80\x80\x80\1\0\0", 13, DTM_INVALID} /* starts in 139 years */
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		char *copy = malloc(cases[i].len);
		DtmTrans trans;

		trans.created_at = 1;
		memcpy(copy, cases[i].bytes, cases[i].len);
		if (!CHECK_INT(dtm_spec_unpack(copy, cases[i].len, &memory.arena, &trans), cases[i].rc))
			printf("    case %zu\n", i);
		free(copy);
	}
}

/* The error of a refused allocation, wherever it strikes. */
static void
test_no_memory(void)
{
	bool done = false;

	for (long n = 0; n < 1000 && !done; n++)
	{
		DtmSpecError error;
		DtmSpecBuilder *builder;
		const char *packed;
		size_t len;
		DtmTrans trans;

		memory.fail_after = n;
		builder = dtm_spec_begin(&memory.arena, DTM_TYPE_SAGA, &error);
		if (builder == NULL)
		{
			CHECK_INT(error.code, DTM_SPEC_NOMEM);
			continue;
		}
		for (int i = 0; i < 20; i++)
		{
			if (!dtm_spec_step_begin(builder) ||
				!field(builder, "action", DTM_JSON_STRING, "http://a/"))
				break;
			for (int k = 0; k < 20; k++)
			{
				char text[12];

				snprintf(text, sizeof(text), "%d", k);
				if (k != i && k > 9)
					(void) dtm_spec_step_after(builder, DTM_JSON_NUMBER, text, strlen(text));
			}
			if (!header(builder, "X", "y"))
				break;
			if (i == 10)
				(void) dtm_spec_step_after_begin(builder);
			else if (i > 10)
			{
				(void) dtm_spec_step_after_begin(builder);
				(void) dtm_spec_step_after(builder, DTM_JSON_NUMBER, "10", 2);
			}
		}
		if (!dtm_spec_finish(builder, &packed, &len))
		{
			if (!CHECK_INT(dtm_spec_error(builder)->code, DTM_SPEC_NOMEM))
				printf("    %s\n", dtm_spec_error(builder)->message);
			continue;
		}
		if (dtm_spec_unpack(packed, len, &memory.arena, &trans) == DTM_OK)
		{
			CHECK_INT(trans.n_branches, 20);
			CHECK_INT(trans.branches[0].n_after, 10);
			done = true;
		}
	}
	memory.fail_after = -1;
	CHECK(done);
}

/* For callers that walk JSON; the step is named once, whoever names it. */
static void
test_refuse(void)
{
	DtmSpecBuilder *b = begin();

	CHECK(!dtm_spec_refuse(b, DTM_SPEC_LIMIT, 3, "f", "do this", "is %s", "odd"));
	CHECK_STR(dtm_spec_error(b)->message, "step 3 is odd");
	CHECK_STR(dtm_spec_error(b)->hint, "do this");
	CHECK_STR(dtm_spec_error(b)->field, "f");
	CHECK_INT(dtm_spec_error(b)->step, 3);
	CHECK_INT(dtm_spec_error(b)->code, DTM_SPEC_LIMIT);

	/* the first error stays */
	CHECK(!dtm_spec_refuse(b, DTM_SPEC_INVALID, -1, "g", NULL, "other"));
	CHECK_STR(dtm_spec_error(b)->message, "step 3 is odd");
	CHECK(!dtm_spec_step_begin(b));

	b = begin();
	CHECK(!dtm_spec_refuse(b, DTM_SPEC_INVALID, 3, "f", NULL, "\"f\" is odd"));
	CHECK_STR(dtm_spec_error(b)->message, "step 3: \"f\" is odd");
	CHECK_STR(dtm_spec_error(b)->hint, "");
	b = begin();
	CHECK(!dtm_spec_refuse(b, DTM_SPEC_INVALID, -1, "f", NULL, "all is odd"));
	CHECK_STR(dtm_spec_error(b)->message, "all is odd");
}

static void
test_types(void)
{
	DtmSpecError error;

	CHECK(dtm_spec_begin(&memory.arena, DTM_TYPE_XA, &error) == NULL);
	CHECK_INT(error.code, DTM_SPEC_UNSUPPORTED);
	CHECK(dtm_spec_begin(&memory.arena, DTM_TYPE_WORKFLOW, &error) == NULL);
	CHECK_INT(error.code, DTM_SPEC_UNSUPPORTED);
}

int
main(void)
{
	test_arena_init(&memory);
	test_plain();
	test_everything();
	test_same_bytes();
	test_options();
	test_limits();
	test_arena_reset(&memory);
	test_other_modes();
	test_registered();
	test_damaged();
	test_hostile();
	test_no_memory();
	test_refuse();
	test_types();
	test_arena_reset(&memory);
	TEST_REPORT();
}
