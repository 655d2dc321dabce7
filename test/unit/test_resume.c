/* -------------------------------------------------------------------------
 *
 * test_resume.c
 *		Workflows that their client runs: the callback that asks it to go on,
 *		the end, and the memos of what it has done.
 *
 * Not here: the cells of the table (test_modes.c), random histories
 * (test_histories.c), the wire (test/t/231_wire_workflow.pl).
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_fixture.h"
#include "dtm_spec.h"
#include "dtm_state.h"

#define QUERY DTM_BRANCH_TRANS
#define CLIENT DTM_FLAG_CLIENT_RUN
#define INTERVAL (10 * SECOND)

static TestArena memory;

/* ---- the engine ---- */

static void
begin(Fixture *f)
{
	fixture_init(f, DTM_TYPE_WORKFLOW, CLIENT, 0);
	f->trans.query_name = test_text("transfer");
	fixture_wake(f);
	CHECK_INT(f->plan.n_calls, 0);
	CHECK(!f->plan.changed);
	CHECK_INT(f->plan.next_at, f->trans.created_at + INTERVAL);
}

/* Let it be called, answer, and see how long it waits then. */
static DtmTime
answered(Fixture *f, DtmOutcome outcome)
{
	DtmTime before;

	f->now = f->plan.next_at;
	fixture_wake(f);
	CHECK_STR(fixture_calls(f), "workflow");
	CHECK_INT(f->plan.next_at, DTM_TIME_NEVER);
	f->now += 1000;
	before = f->now;
	fixture_result(f, QUERY, FWD, outcome, outcome == DTM_OUTCOME_SUCCESS ? "" : "no");
	CHECK_INT(f->rc, DTM_OK);
	CHECK_INT(f->trans.status, DTM_STATUS_PREPARED);
	CHECK_INT(f->trans.query.status, DTM_OP_PREPARED);
	CHECK(f->plan.changed && !f->plan.flush && f->plan.n_calls == 0);
	CHECK_TEXT(f->trans.reason, "");
	return f->plan.next_at - before;
}

static bool
about(DtmTime wait, DtmTime interval)
{
	return wait >= interval && wait <= interval + interval / 10;
}

/* Nothing that it answers decides; what goes wrong makes the calls rarer. */
static void
test_back_off(void)
{
	Fixture f;

	begin(&f);
	CHECK(about(answered(&f, DTM_OUTCOME_ERROR), INTERVAL));
	CHECK(about(answered(&f, DTM_OUTCOME_FAILURE), 2 * INTERVAL));
	CHECK(about(answered(&f, DTM_OUTCOME_ERROR), 4 * INTERVAL));
	CHECK_INT(f.trans.query.failures, 3);
	CHECK_TEXT(f.trans.query.last_error, "no");
	CHECK_INT(answered(&f, DTM_OUTCOME_ONGOING), INTERVAL);
	CHECK_INT(f.trans.query.failures, 0);
	CHECK(about(answered(&f, DTM_OUTCOME_ERROR), INTERVAL));
	CHECK_INT(answered(&f, DTM_OUTCOME_SUCCESS), INTERVAL);
	CHECK_INT(answered(&f, DTM_OUTCOME_SUCCESS), INTERVAL);
	CHECK_INT(f.trans.query.attempts, 7);
	fixture_free(&f);
}

/* Its own interval, and neither limit, start_after nor time-out. */
static void
test_options(void)
{
	Fixture f;

	fixture_init(&f, DTM_TYPE_WORKFLOW, CLIENT, 0);
	f.trans.retry_interval_ms = 3000;
	f.trans.retry_limit = 0;
	f.trans.timeout_to_fail_ms = 1000;
	f.trans.start_at += 60 * SECOND;
	fixture_wake(&f);
	CHECK_INT(f.plan.next_at, f.now + 3 * SECOND);
	CHECK(about(answered(&f, DTM_OUTCOME_ERROR), 3 * SECOND));
	CHECK_INT(answered(&f, DTM_OUTCOME_SUCCESS), 3 * SECOND);
	fixture_free(&f);

	/* nobody to call */
	fixture_init(&f, DTM_TYPE_WORKFLOW, CLIENT, 0);
	f.trans.query_url.len = 0;
	f.now += 1000 * SECOND;
	fixture_event(&f, DTM_EVENT_RETRY, "");
	CHECK_INT(f.plan.n_calls, 0);
	CHECK_INT(f.plan.next_at, DTM_TIME_NEVER);
	CHECK_INT(f.trans.status, DTM_STATUS_PREPARED);
	CHECK_INT(f.trans.query.status, DTM_OP_PREPARED);
	fixture_free(&f);
}

static void
test_retry(void)
{
	Fixture f;

	begin(&f);
	fixture_event(&f, DTM_EVENT_RETRY, "");
	CHECK_STR(fixture_calls(&f), "workflow");
	CHECK(f.plan.changed); /* a crash must not put it off again */
	fixture_event(&f, DTM_EVENT_RETRY, "");
	CHECK_INT(f.plan.n_calls, 0);
	fixture_result(&f, QUERY, FWD, DTM_OUTCOME_ERROR, "no");
	fixture_event(&f, DTM_EVENT_RETRY, "");
	CHECK_STR(fixture_calls(&f), "workflow");
	fixture_free(&f);
}

/* The end comes while the callback is out, which is the rule. */
static void
test_end(void)
{
	Fixture f;

	for (int failed = 0; failed < 2; failed++)
	{
		DtmEvent end = {
			.kind = DTM_EVENT_END,
			.outcome = failed ? DTM_OUTCOME_FAILURE : DTM_OUTCOME_SUCCESS,
			.reason = test_text(failed ? "no stock" : ""),
		};

		begin(&f);
		f.now = f.plan.next_at;
		fixture_wake(&f);
		CHECK_INT(f.plan.n_calls, 1);
		CHECK_INT(dtm_engine_steer(&f.trans, &end, f.now, &f.memory.arena), DTM_OK);
		CHECK_INT(f.trans.status, failed ? DTM_STATUS_FAILED : DTM_STATUS_SUCCEED);
		CHECK_TEXT(f.trans.reason, failed ? "no stock" : "");
		CHECK_INT(dtm_engine_steer(&f.trans, &end, f.now, &f.memory.arena), DTM_STATE);
		fixture_result(&f, QUERY, FWD, DTM_OUTCOME_SUCCESS, "");
		CHECK(f.plan.finished && f.plan.n_calls == 0 && !f.plan.changed);
		fixture_free(&f);
	}
}

/* ---- the spec ---- */

static DtmSpecBuilder *
builder(void)
{
	DtmSpecError error;
	DtmSpecBuilder *made = dtm_spec_begin_growing(&memory.arena, DTM_TYPE_WORKFLOW, &error);

	if (!CHECK(made != NULL))
		exit(1);
	dtm_spec_set_flags(made, CLIENT);
	return made;
}

static DtmRc
unpack(const char *packed, size_t len, DtmTrans *trans)
{
	memset(trans, 0, sizeof(*trans));
	trans->created_at = FIXTURE_EPOCH;
	return dtm_spec_unpack(packed, len, &memory.arena, trans);
}

/* A spec with one memo behind it; its length, the bytes in the arena. */
static size_t
with_memo(uint32_t flags, DtmStepKind kind, DtmText op, DtmText data, const char **bytes)
{
	DtmSpecBuilder *spec = builder();
	DtmSpecBuilder *memo = builder();
	const char *packed;
	size_t len;
	const char *branch;
	size_t branch_len;
	char *whole;

	dtm_spec_set_flags(spec, flags);
	CHECK(dtm_spec_set_workflow(spec, "w", 1, "", 0));
	CHECK(dtm_spec_finish(spec, &packed, &len));
	CHECK(dtm_spec_memo(memo, kind, test_text("01"), op, data, FIXTURE_EPOCH + SECOND));
	CHECK(dtm_spec_finish_branch(memo, &branch, &branch_len));
	whole = memory.arena.alloc(memory.arena.context, len + branch_len);
	memcpy(whole, packed, len);
	memcpy(whole + len, branch, branch_len);
	*bytes = whole;
	return len + branch_len;
}

static void
test_spec(void)
{
	static const char input[] = {'{', '\0', (char) 0xFF, '}'};
	DtmSpecBuilder *spec = builder();
	const char *packed;
	size_t len;
	DtmTrans trans;

	CHECK(dtm_spec_set_query_prepared(spec, "https://h/resume?a=b", 20));
	CHECK(dtm_spec_set_workflow(spec, "transfer", 8, input, sizeof(input)));
	CHECK(dtm_spec_set_retry_interval(spec, 2000));
	CHECK_STR(dtm_spec_query_field(spec), "query_prepared");
	if (!CHECK(dtm_spec_finish(spec, &packed, &len)) ||
		!CHECK_INT(unpack(packed, len, &trans), DTM_OK))
		exit(1);
	CHECK_INT(trans.status, DTM_STATUS_PREPARED);
	CHECK(dtm_trans_is_resumed(&trans));
	CHECK_TEXT(trans.query_url, "https://h/resume?a=b");
	CHECK_TEXT(trans.query_name, "transfer");
	CHECK_TEXT(dtm_query_op_text(&trans), "transfer");
	CHECK_INT(trans.payload.len, sizeof(input));
	CHECK(memcmp(trans.payload.data, input, sizeof(input)) == 0);
	CHECK_INT(trans.retry_interval_ms, 2000);

	/* nothing but a name */
	spec = builder();
	CHECK(dtm_spec_set_workflow(spec, "w", 1, NULL, 0));
	CHECK(dtm_spec_finish(spec, &packed, &len));
	CHECK_INT(unpack(packed, len, &trans), DTM_OK);
	CHECK(trans.payload.data == NULL && trans.query_url.len == 0);
}

static void
test_spec_refused(void)
{
	static const char *const targets[] = {"sql:f", "pg://s/f", "topic://t", "ftp://h/x"};
	char name[DTM_MAX_NAME_LEN + 1];
	DtmSpecBuilder *spec;

	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++)
	{
		spec = builder();
		CHECK(!dtm_spec_set_query_prepared(spec, targets[i], strlen(targets[i])));
		CHECK_STR(dtm_spec_error(spec)->field, "query_prepared");
		CHECK(!dtm_spec_set_workflow(spec, "w", 1, "", 0));
	}
	spec = builder();
	CHECK(!dtm_spec_set_workflow(spec, "", 0, "", 0));
	CHECK_STR(dtm_spec_error(spec)->field, "name");
	memset(name, 'n', sizeof(name));
	spec = builder();
	CHECK(dtm_spec_set_workflow(spec, name, sizeof(name) - 1, "", 0));
	spec = builder();
	CHECK(!dtm_spec_set_workflow(spec, name, sizeof(name), "", 0));
	CHECK_INT(dtm_spec_error(spec)->code, DTM_SPEC_LIMIT);

	/* ops of memos */
	CHECK(dtm_spec_memo(builder(), DTM_STEP_MEMO, test_text("01"),
						(DtmText){name, DTM_MAX_MEMO_OP_LEN}, test_text(""), 1));
	spec = builder();
	CHECK(!dtm_spec_memo(spec, DTM_STEP_MEMO, test_text("01"),
						 (DtmText){name, DTM_MAX_MEMO_OP_LEN + 1}, test_text(""), 1));
	CHECK_STR(dtm_spec_error(spec)->field, "op");
	CHECK(
		!dtm_spec_memo(builder(), DTM_STEP_MEMO, test_text("01"), test_text(""), test_text(""), 1));
	CHECK(!dtm_spec_memo(builder(), DTM_STEP_MEMO, test_text(""), test_text("a"), test_text(""), 1));
}

static void
test_memo(void)
{
	static const char data[] = {'\0', '\n', (char) 0x80};

	for (int failed = 0; failed < 2; failed++)
	{
		DtmTrans trans;
		const char *bytes;
		size_t len =
			with_memo(CLIENT, failed ? DTM_STEP_MEMO_FAILED : DTM_STEP_MEMO, test_text("business"),
					  (DtmText){data, failed ? 0 : sizeof(data)}, &bytes);
		const DtmOpState *op;
		char state[512];
		size_t state_len;
		const char *again;
		size_t again_len;

		if (!CHECK_INT(unpack(bytes, len, &trans), DTM_OK) || !CHECK_INT(trans.n_branches, 1))
			exit(1);
		op = &trans.branches[0].state[FWD];

		/* it says so itself, with and without a stored state */
		for (int stored = 0; stored < 2; stored++)
		{
			CHECK_INT(op->status, failed ? DTM_OP_FAILED : DTM_OP_SUCCEED);
			CHECK_INT(op->finished_at, FIXTURE_EPOCH + SECOND);
			CHECK_TEXT(trans.branches[0].branch_id, "01");
			CHECK_TEXT(dtm_branch_op_text(&trans.branches[0], FWD), "business");
			CHECK_INT(trans.branches[0].payload.len, failed ? 0 : sizeof(data));
			CHECK(dtm_engine_op_exists(&trans, &trans.branches[0], DTM_ROLE_FORWARD));
			CHECK(!dtm_engine_op_exists(&trans, &trans.branches[0], DTM_ROLE_UNDO));

			trans.query.attempts = 3;
			CHECK(dtm_state_bound(&trans) <= sizeof(state));
			state_len = dtm_state_pack(&trans, state);
			CHECK_INT(dtm_state_unpack(state, state_len, &memory.arena, &trans), DTM_OK);
			CHECK_INT(trans.query.attempts, 3);
		}
		CHECK_INT(dtm_spec_pack(&trans, &memory.arena, &again, &again_len), DTM_OK);
		CHECK(again_len == len && memcmp(again, bytes, len) == 0);

		/* a coordinator that has read it before there was the memo writes for both */
		trans.n_branches = 0;
		CHECK_INT(dtm_state_pack(&trans, state), state_len);
		trans.n_branches = 1;
		CHECK_INT(dtm_state_unpack(state, state_len, &memory.arena, &trans), DTM_OK);
		CHECK_INT(op->status, failed ? DTM_OP_FAILED : DTM_OP_SUCCEED);
	}
}

/* Memos and steps are for different workflows, and no memo has a stored state. */
static void
test_damaged(void)
{
	DtmTrans trans;
	const char *bytes;
	size_t len = with_memo(0, DTM_STEP_MEMO, test_text("action"), test_text(""), &bytes);
	char state[512];
	size_t state_len;

	CHECK_INT(unpack(bytes, len, &trans), DTM_INVALID);
	len = with_memo(CLIENT, DTM_STEP_CALL, test_text("action"), test_text(""), &bytes);
	CHECK_INT(unpack(bytes, len, &trans), DTM_INVALID);
	len = with_memo(CLIENT, DTM_STEP_SLEEP, test_text("action"), test_text(""), &bytes);
	CHECK_INT(unpack(bytes, len, &trans), DTM_INVALID);

	len = with_memo(CLIENT, DTM_STEP_MEMO, test_text("action"), test_text(""), &bytes);
	CHECK_INT(unpack(bytes, len, &trans), DTM_OK);
	trans.branches[0].kind = DTM_STEP_CALL;
	state_len = dtm_state_pack(&trans, state);
	trans.branches[0].kind = DTM_STEP_MEMO;
	CHECK_INT(dtm_state_unpack(state, state_len, &memory.arena, &trans), DTM_INVALID);
}

int
main(void)
{
	test_arena_init(&memory);
	test_back_off();
	test_options();
	test_retry();
	test_end();
	test_spec();
	test_spec_refused();
	test_memo();
	test_damaged();
	test_arena_reset(&memory);
	TEST_REPORT();
}
