/* -------------------------------------------------------------------------
 *
 * test_topic.c
 *		Topics in a spec: branches of subscribers, their ids, the packed
 *		form, and what is compared when a submit is repeated.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_steps_json.h"
#include "dtm_test.h"

static TestArena memory;

typedef struct Bytes
{
	const char *data;
	size_t len;
} Bytes;

static DtmSpecBuilder *
build(const char *json)
{
	DtmSpecError error;
	DtmSpecBuilder *builder = dtm_spec_begin(&memory.arena, DTM_TYPE_MSG, &error);
	uint32_t flags = 0;

	if (!CHECK(builder != NULL))
		exit(1);
	if (!dtm_steps_json(builder, json, strlen(json), &flags))
		CHECK(dtm_spec_error(builder)->code != DTM_SPEC_OK);
	return builder;
}

static Bytes
finish(DtmSpecBuilder *builder)
{
	Bytes bytes = {NULL, 0};

	if (!CHECK(dtm_spec_finish(builder, &bytes.data, &bytes.len)))
		printf("    %s\n", dtm_spec_error(builder)->message);
	return bytes;
}

static DtmTrans
unpack(Bytes bytes)
{
	DtmTrans trans;

	memset(&trans, 0, sizeof(trans));
	CHECK_INT(dtm_spec_unpack(bytes.data, bytes.len, &memory.arena, &trans), DTM_OK);
	return trans;
}

static Bytes
asked(Bytes stored)
{
	DtmTrans trans = unpack(stored);
	Bytes bytes = {NULL, 0};

	CHECK_INT(dtm_spec_pack_asked(&trans, &memory.arena, &bytes.data, &bytes.len), DTM_OK);
	return bytes;
}

static bool
same(Bytes a, Bytes b)
{
	return a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
}

static void
subscribe(DtmSpecBuilder *builder, int step, int n)
{
	for (int i = 1; i <= n; i++)
	{
		char url[64];
		int len = snprintf(url, sizeof(url), "http://s%d/", i);

		CHECK(dtm_spec_step_subscriber(builder, step, url, (size_t) len));
	}
}

static const char *const mixed =
	"[{\"action\": \"topic://a\", \"payload\": {\"n\": 1}, \"name\": \"first\","
	" \"headers\": {\"X-A\": \"1\"}}, {\"action\": \"sql:f\"}, {\"action\": \"TOPIC://b\"},"
	" {\"action\": \"topic://c\", \"request_timeout\": 2}]";

static void
test_expand(void)
{
	static const char *const ids[] = {"01-01", "01-02", "01-03", "02", "03", "04-01", "04-02"};
	static const char *const urls[] = {"http://s1/", "http://s2/", "http://s3/", "sql:f",
									   "http://s1/", "http://s1/", "http://s2/"};
	static const int steps[] = {0, 0, 0, 1, 2, 3, 3};
	DtmSpecBuilder *builder = build(mixed);
	Bytes plain;
	Bytes stored;
	DtmTrans trans;

	CHECK_TEXT(dtm_spec_step_topic(builder, 0), "a");
	CHECK_TEXT(dtm_spec_step_topic(builder, 1), "");
	CHECK_TEXT(dtm_spec_step_topic(builder, 2), "b");
	CHECK_TEXT(dtm_spec_step_topic(builder, 4), "");
	CHECK_INT(dtm_spec_step_number(builder, 3), 3);
	plain = finish(builder);
	subscribe(builder, 0, 3);
	subscribe(builder, 2, 1);
	subscribe(builder, 3, 2);
	CHECK(dtm_spec_expand(builder));
	if (!CHECK_INT(dtm_spec_step_count(builder), 7))
		return;
	for (int i = 0; i < 7; i++)
		CHECK_INT(dtm_spec_step_number(builder, i), steps[i]);
	CHECK(dtm_spec_step_sql_name(builder, 3, DTM_ROLE_FORWARD, "public.f", 8));
	stored = finish(builder);

	trans = unpack(stored);
	if (!CHECK_INT(trans.n_branches, 7))
		return;
	for (int i = 0; i < 7; i++)
	{
		CHECK_TEXT(trans.branches[i].branch_id, ids[i]);
		CHECK_TEXT(trans.branches[i].url[DTM_ROLE_FORWARD], urls[i]);
		CHECK_INT(trans.branches[i].op[DTM_ROLE_FORWARD], DTM_OP_ACTION);
	}
	CHECK_TEXT(trans.branches[2].topic, "a");
	CHECK_TEXT(trans.branches[2].name, "first");
	CHECK_TEXT(trans.branches[2].payload, "{\"n\":1}");
	CHECK(trans.branches[2].headers.len > 0);
	CHECK_TEXT(trans.branches[3].topic, "");
	CHECK_INT(trans.branches[6].request_timeout_ms, 2000);

	/* the function of a step that names no topic is part of what was asked for */
	CHECK(!same(asked(stored), plain));
	builder = build(mixed);
	CHECK(dtm_spec_step_sql_name(builder, 1, DTM_ROLE_FORWARD, "public.f", 8));
	CHECK(same(asked(stored), finish(builder)));
}

/* Whoever has subscribed, the same is asked for; and other things are not. */
static void
test_asked(void)
{
	Bytes reference = finish(build(mixed));
	Bytes stored[3];

	for (int n = 1; n <= 3; n++)
	{
		DtmSpecBuilder *builder = build(mixed);

		subscribe(builder, 0, n);
		subscribe(builder, 2, 4 - n);
		subscribe(builder, 3, 1);
		CHECK(dtm_spec_expand(builder));
		stored[n - 1] = finish(builder);
		CHECK(same(asked(stored[n - 1]), reference));
		CHECK(!same(stored[n - 1], reference));
	}
	CHECK(!same(stored[0], stored[1]));
	CHECK(!same(asked(stored[0]), finish(build("[{\"action\": \"topic://a\"}]"))));

	/* the name of a function that a topic led to is not asked for either */
	{
		DtmSpecBuilder *builder = build("[{\"action\": \"topic://a\"}]");

		CHECK(dtm_spec_step_subscriber(builder, 0, "sql:s.f", 7));
		CHECK(dtm_spec_expand(builder));
		CHECK(dtm_spec_step_sql_name(builder, 0, DTM_ROLE_FORWARD, "s.f", 3));
		CHECK(same(asked(finish(builder)), finish(build("[{\"action\": \"topic://a\"}]"))));
	}

	/* without a topic it is the spec itself */
	reference = finish(build("[{\"action\": \"http://a/\"}]"));
	CHECK(same(asked(reference), reference));
}

static void
check_refused(const char *json, const char *message)
{
	DtmSpecBuilder *builder = build(json);

	CHECK_STR(dtm_spec_error(builder)->message, message);
}

static void
test_refused(void)
{
	DtmSpecBuilder *builder;
	DtmSpecError error;
	uint32_t flags = 0;
	char long_name[200];
	const char *saga = "[{\"action\": \"topic://a\"}]";

	check_refused("[{\"action\": \"topic://\"}]",
				  "step 0: \"action\" names nothing behind its scheme: \"topic://\"");
	snprintf(long_name, sizeof(long_name), "[{\"action\": \"topic://%0129d\"}]", 0);
	check_refused(long_name, "step 0: \"action\": a topic must not be longer than 128 bytes");
	snprintf(long_name, sizeof(long_name), "[{\"action\": \"topic://%0128d\"}]", 0);
	check_refused(long_name, "");
	CHECK_STR(dtm_topic_check("a b", 3), "a topic must not contain blanks or control characters");
	CHECK_STR(dtm_topic_check("a\n", 2), "a topic must not contain blanks or control characters");
	CHECK(dtm_topic_check("order.paid/2", 12) == NULL);
	CHECK(dtm_topic_check("\xc3\xbc", 2) == NULL);

	/* only a msg has topics */
	builder = dtm_spec_begin(&memory.arena, DTM_TYPE_SAGA, &error);
	CHECK(!dtm_steps_json(builder, saga, strlen(saga), &flags));
	CHECK_INT(dtm_spec_error(builder)->code, DTM_SPEC_INVALID);

	builder = build("[{\"action\": \"http://a/\"}]");
	CHECK(!dtm_spec_step_subscriber(builder, 0, "http://a/", 9));
	builder = build("[{\"action\": \"topic://a\"}]");
	CHECK(!dtm_spec_step_subscriber(builder, 0, "topic://b", 9));
	builder = build("[{\"action\": \"topic://a\"}]");
	CHECK(!dtm_spec_step_subscriber(builder, 1, "http://a/", 9));

	/* more branches than a transaction may have */
	builder = build("[{\"action\": \"topic://a\"}, {\"action\": \"\"}]");
	subscribe(builder, 0, DTM_MAX_STEPS);
	CHECK(!dtm_spec_expand(builder));
	CHECK_INT(dtm_spec_error(builder)->code, DTM_SPEC_LIMIT);
	builder = build("[{\"action\": \"topic://a\"}]");
	subscribe(builder, 0, DTM_MAX_STEPS);
	CHECK(dtm_spec_expand(builder));
	CHECK_TEXT(unpack(finish(builder)).branches[DTM_MAX_STEPS - 1].branch_id, "01-1000");
}

/* Every truncation and every changed byte is read safely, as ASan watches. */
static void
test_damaged(void)
{
	DtmSpecBuilder *builder = build(mixed);
	Bytes stored;
	DtmTrans trans;

	subscribe(builder, 0, 2);
	subscribe(builder, 2, 1);
	subscribe(builder, 3, 2);
	CHECK(dtm_spec_expand(builder));
	stored = finish(builder);
	for (size_t len = 0; len < stored.len; len++)
	{
		char *copy = malloc(len + 1);

		memcpy(copy, stored.data, len);
		trans.created_at = 0;
		CHECK(dtm_spec_unpack(copy, len, &memory.arena, &trans) == DTM_INVALID);
		free(copy);
	}
	for (size_t at = 0; at < stored.len; at++)
	{
		char *copy = malloc(stored.len);

		for (int value = 0; value < 256; value += 5)
		{
			memcpy(copy, stored.data, stored.len);
			copy[at] = (char) value;
			trans.created_at = 0;
			if (dtm_spec_unpack(copy, stored.len, &memory.arena, &trans) == DTM_OK)
			{
				Bytes again;

				CHECK_INT(dtm_spec_pack_asked(&trans, &memory.arena, &again.data, &again.len),
						  DTM_OK);
			}
		}
		free(copy);
	}
}

static void
test_no_memory(void)
{
	for (long n = 0; n < 12; n++)
	{
		DtmSpecBuilder *builder = build("[{\"action\": \"topic://a\"}]");
		Bytes bytes;
		bool done;

		memory.fail_after = n;
		done = dtm_spec_step_subscriber(builder, 0, "http://a/", 9) && dtm_spec_expand(builder) &&
			dtm_spec_finish(builder, &bytes.data, &bytes.len);
		memory.fail_after = -1;
		if (!done)
			CHECK_INT(dtm_spec_error(builder)->code, DTM_SPEC_NOMEM);
		else
			CHECK(n > 3);
	}
}

int
main(void)
{
	test_arena_init(&memory);
	test_expand();
	test_asked();
	test_refused();
	test_damaged();
	test_no_memory();
	test_arena_reset(&memory);
	TEST_REPORT();
}
