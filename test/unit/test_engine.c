/* -------------------------------------------------------------------------
 *
 * test_engine.c
 *		The engine on sagas, one scenario after the other: reasons, waits,
 *		limits, order, what is flushed.
 *
 * The other modes and events are in test_events.c, the rules per mode in
 * test_modes.c, the invariants in test_order.c and test_histories.c.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_fixture.h"

#define OK DTM_OUTCOME_SUCCESS
#define NO DTM_OUTCOME_FAILURE
#define LATER DTM_OUTCOME_ONGOING
#define BAD DTM_OUTCOME_ERROR

/* Status of the ops as in DTM's listings: undo 1, forward 1, undo 2, ... */
static const char *
op_statuses(const Fixture *f)
{
	static char text[256];
	size_t len = 0;

	text[0] = '\0';
	for (int i = 0; i < f->trans.n_branches; i++)
		len += (size_t) snprintf(text + len, sizeof(text) - len, "%s%s,%s", i > 0 ? "," : "",
								 dtm_op_status_name(f->branches[i].state[UNDO].status),
								 dtm_op_status_name(f->branches[i].state[FWD].status));
	return text;
}

static void
test_saga_success(void)
{
	Fixture f;

	fixture_init(&f, DTM_TYPE_SAGA, 0, 3);
	fixture_wake(&f);
	CHECK_STR(fixture_calls(&f), "action 1");

	/* starting alone is nothing to record: a crash just starts it again */
	CHECK(!f.plan.changed && !f.plan.flush && !f.plan.finished);
	CHECK_INT(f.plan.next_at, DTM_TIME_NEVER);
	CHECK_INT(f.branches[0].state[FWD].started_at, f.now);
	CHECK(f.branches[0].state[FWD].in_flight && f.branches[0].state[FWD].started);

	f.now += 1000;
	fixture_result(&f, 0, FWD, OK, "");
	CHECK_STR(fixture_calls(&f), "action 2");
	CHECK(f.plan.changed && f.plan.flush);
	CHECK_INT(f.branches[0].state[FWD].finished_at, f.now);
	CHECK_INT(f.branches[0].state[FWD].attempts, 1);
	fixture_result(&f, 1, FWD, OK, "");
	CHECK_STR(fixture_calls(&f), "action 3");
	fixture_result(&f, 2, FWD, OK, "");
	CHECK_STR(fixture_calls(&f), "");
	CHECK(f.plan.changed && f.plan.flush && f.plan.finished);
	CHECK_INT(f.trans.status, DTM_STATUS_SUCCEED);
	CHECK_STR(op_statuses(&f), "prepared,succeed,prepared,succeed,prepared,succeed");
	CHECK_INT(f.trans.attempts, 3);
	CHECK_INT(f.trans.retries, 0);
	CHECK_TEXT(f.trans.reason, "");
	fixture_free(&f);
}

static void
test_saga_failure(void)
{
	Fixture f;

	fixture_init(&f, DTM_TYPE_SAGA, 0, 3);
	fixture_wake(&f);
	fixture_result(&f, 0, FWD, OK, "");
	fixture_result(&f, 1, FWD, NO, "no stock");
	CHECK_INT(f.trans.status, DTM_STATUS_ABORTING);
	CHECK_TEXT(f.trans.reason, "url:http://a/2 return failed: no stock FAILURE");
	CHECK_TEXT(f.branches[1].state[FWD].last_error, "no stock");
	CHECK(f.plan.flush);

	/* the failed action itself is compensated, and first */
	CHECK_STR(fixture_calls(&f), "compensate 2");
	fixture_result(&f, 1, UNDO, OK, "");
	CHECK_STR(fixture_calls(&f), "compensate 1");
	CHECK(f.plan.changed && !f.plan.flush);
	fixture_result(&f, 0, UNDO, OK, "");
	CHECK_INT(f.trans.status, DTM_STATUS_FAILED);
	CHECK(f.plan.finished && f.plan.flush);
	CHECK_STR(op_statuses(&f), "succeed,succeed,succeed,failed,prepared,prepared");
	fixture_free(&f);

	/* a body is preferred to the reason */
	fixture_init(&f, DTM_TYPE_SAGA, 0, 1);
	fixture_wake(&f);
	fixture_handle(&f,
				   &(DtmEvent){.kind = DTM_EVENT_RESULT,
							   .outcome = NO,
							   .reason = test_text("409: the body"),
							   .body = test_text("the body FAILURE")});
	CHECK_TEXT(f.trans.reason, "url:http://a/1 return failed: the body FAILURE");
	CHECK_TEXT(f.branches[0].state[FWD].last_error, "409: the body");
	fixture_free(&f);

	fixture_init(&f, DTM_TYPE_SAGA, 0, 1);
	fixture_wake(&f);
	fixture_handle(&f,
				   &(DtmEvent){.kind = DTM_EVENT_RESULT,
							   .outcome = NO,
							   .reason = test_text("dtm_fail: sold out")});
	CHECK_TEXT(f.trans.reason, "url:http://a/1 return failed: dtm_fail: sold out FAILURE");
	fixture_free(&f);
}

/* A compensation that answers FAILURE is repeated; it can not be given up. */
static void
test_compensation_retry(void)
{
	Fixture f;
	static const DtmOutcome outcomes[] = {NO, BAD, LATER};

	for (int i = 0; i < 3; i++)
	{
		fixture_init(&f, DTM_TYPE_SAGA, 0, 1);
		f.trans.retry_limit = 0;
		fixture_wake(&f);
		fixture_result(&f, 0, FWD, NO, "no");
		fixture_result(&f, 0, UNDO, outcomes[i], "not now");
		CHECK_INT(f.trans.status, DTM_STATUS_ABORTING);
		CHECK(!f.plan.flush && f.plan.changed);
		CHECK(f.plan.next_at >= f.now + 10 * SECOND && f.plan.next_at <= f.now + 11 * SECOND);
		CHECK_INT(f.branches[0].state[UNDO].failures, outcomes[i] == LATER ? 0 : 1);
		CHECK_STR(fixture_calls(&f), "");

		f.now = f.plan.next_at - 1;
		fixture_wake(&f);
		CHECK_STR(fixture_calls(&f), "");
		CHECK(!f.plan.changed);
		f.now++;
		fixture_wake(&f);
		CHECK_STR(fixture_calls(&f), "compensate 1");
		fixture_result(&f, 0, UNDO, OK, "");
		CHECK_INT(f.trans.status, DTM_STATUS_FAILED);
		CHECK_INT(f.trans.attempts, 3);
		CHECK_INT(f.trans.retries, 1);

		/* why it was repeated can still be read */
		CHECK_TEXT(f.branches[0].state[UNDO].last_error, "not now");
		fixture_free(&f);
	}
}

/* flags: DTM's wire doubles the interval before the first pause already. */
static void
test_backoff(uint32_t flags)
{
	Fixture f;
	int64_t first = flags & DTM_FLAG_DOUBLE_FIRST ? 4 * SECOND : 2 * SECOND;
	int64_t expected = first;

	fixture_init(&f, DTM_TYPE_SAGA, flags, 1);
	f.trans.retry_interval_ms = 2000;
	f.params.retry_max_interval_ms = 30000;
	fixture_wake(&f);
	for (int i = 0; i < 10; i++)
	{
		int64_t wait;

		fixture_result(&f, 0, FWD, BAD, "connection refused");
		wait = f.plan.next_at - f.now;
		CHECK(wait >= expected && wait <= expected + expected / 10);
		CHECK_INT(f.branches[0].state[FWD].failures, i + 1);
		CHECK_INT(f.branches[0].state[FWD].status, DTM_OP_PREPARED);
		expected = expected * 2 > 30 * SECOND ? 30 * SECOND : expected * 2;
		f.now = f.plan.next_at;
		fixture_wake(&f);
		CHECK_STR(fixture_calls(&f), "action 1");
	}

	/* ongoing: the base interval, and the doubling begins anew */
	fixture_result(&f, 0, FWD, LATER, "");
	CHECK_INT(f.plan.next_at, f.now + 2 * SECOND);
	CHECK_INT(f.branches[0].state[FWD].last_outcome, LATER);
	f.now = f.plan.next_at;
	fixture_wake(&f);
	fixture_result(&f, 0, FWD, BAD, "");
	CHECK(f.plan.next_at >= f.now + first && f.plan.next_at <= f.now + first + first / 10);
	CHECK_INT(f.trans.attempts, 12);
	CHECK_INT(f.trans.retries, 11);

	/* an error without a text leaves the older one */
	CHECK_TEXT(f.branches[0].state[FWD].last_error, "connection refused");
	fixture_free(&f);
}

static void
test_retry_limit(void)
{
	for (int no_pause = 0; no_pause <= 1; no_pause++)
	{
		Fixture f;

		fixture_init(&f, DTM_TYPE_SAGA, no_pause ? DTM_FLAG_RETRY_NO_PAUSE : 0, 2);
		f.trans.retry_limit = 9;
		f.branches[1].retry_limit = 3;
		fixture_wake(&f);
		fixture_result(&f, 0, FWD, OK, "");
		for (int calls = 1; calls <= 3; calls++)
		{
			fixture_result(&f, 1, FWD, calls == 2 ? LATER : BAD, "not yet");
			CHECK_INT(f.trans.status, DTM_STATUS_SUBMITTED);
			CHECK_INT(f.plan.n_calls, no_pause);
			if (!no_pause)
			{
				f.now = f.plan.next_at;
				fixture_wake(&f);
			}
			CHECK_STR(fixture_calls(&f), "action 2");
		}

		/* the fourth call was the last */
		fixture_result(&f, 1, FWD, BAD, "not yet");
		CHECK_INT(f.trans.status, DTM_STATUS_ABORTING);
		CHECK_TEXT(f.trans.reason, "RetryCount is greater than RetryLimit, RetryLimit: 3");
		CHECK_STR(fixture_calls(&f), "compensate 2");
		fixture_result(&f, 1, UNDO, OK, "");
		fixture_result(&f, 0, UNDO, OK, "");
		CHECK_INT(f.trans.status, DTM_STATUS_FAILED);
		CHECK_STR(op_statuses(&f), "succeed,succeed,succeed,prepared");
		fixture_free(&f);
	}
}

/* Without a limit there is nothing that the flag could hurry. */
static void
test_no_pause_without_limit(void)
{
	Fixture f;

	fixture_init(&f, DTM_TYPE_MSG, DTM_FLAG_RETRY_NO_PAUSE, 1);
	f.trans.status = DTM_STATUS_SUBMITTED;
	f.trans.retry_limit = 5;
	fixture_wake(&f);
	for (int i = 0; i < 10; i++)
	{
		fixture_result(&f, 0, FWD, BAD, "down");
		CHECK_STR(fixture_calls(&f), "");
		CHECK(f.plan.next_at >= f.now + 10 * SECOND);
		f.now = f.plan.next_at;
		fixture_wake(&f);
	}
	CHECK_INT(f.trans.status, DTM_STATUS_SUBMITTED);
	fixture_free(&f);
}

static void
test_saga_timeout(void)
{
	Fixture f;

	/* an action that is ongoing, not in flight */
	fixture_init(&f, DTM_TYPE_SAGA, 0, 2);
	f.trans.timeout_to_fail_ms = 3000;
	fixture_wake(&f);
	CHECK_INT(f.plan.next_at, FIXTURE_EPOCH + 3 * SECOND);
	fixture_result(&f, 0, FWD, LATER, "");
	CHECK_INT(f.plan.next_at, FIXTURE_EPOCH + 3 * SECOND);
	f.now += 3 * SECOND;
	fixture_wake(&f);
	CHECK_STR(fixture_calls(&f), "compensate 1");
	CHECK_TEXT(f.trans.reason, "Timeout after 3 seconds");
	fixture_result(&f, 0, UNDO, OK, "");
	CHECK_INT(f.trans.status, DTM_STATUS_FAILED);
	CHECK_STR(op_statuses(&f), "succeed,prepared,prepared,prepared");
	fixture_free(&f);

	/* one in flight is awaited, and compensated whatever it answers */
	for (int outcome = 0; outcome <= DTM_OUTCOME_ERROR; outcome++)
	{
		static const char *const statuses[] = {"succeed,succeed,prepared,prepared",
											   "succeed,failed,prepared,prepared",
											   "succeed,prepared,prepared,prepared",
											   "succeed,prepared,prepared,prepared"};

		fixture_init(&f, DTM_TYPE_SAGA, 0, 2);
		f.trans.timeout_to_fail_ms = 1500;
		f.trans.retry_limit = 0;
		fixture_wake(&f);
		f.now += 2 * SECOND;
		fixture_wake(&f);
		CHECK_INT(f.trans.status, DTM_STATUS_ABORTING);
		CHECK_STR(fixture_calls(&f), "");
		CHECK_INT(f.plan.next_at, DTM_TIME_NEVER);
		fixture_result(&f, 0, FWD, (DtmOutcome) outcome, "too late");
		CHECK_STR(fixture_calls(&f), "compensate 1");
		CHECK(!f.plan.flush);
		fixture_result(&f, 0, UNDO, OK, "");
		CHECK_INT(f.trans.status, DTM_STATUS_FAILED);
		CHECK_TEXT(f.trans.reason, "Timeout after 1.5 seconds");
		CHECK_STR(op_statuses(&f), statuses[outcome]);
		fixture_free(&f);
	}
}

static void
test_timeout_edges(void)
{
	static const struct
	{
		int64_t ms;
		const char *reason;
	} cases[] = {
		{1, "Timeout after 0.001 seconds"},
		{250, "Timeout after 0.25 seconds"},
		{1000, "Timeout after 1 seconds"},
		{61020, "Timeout after 61.02 seconds"},
	};
	Fixture f;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		fixture_init(&f, DTM_TYPE_XA, 0, 0);
		f.trans.timeout_to_fail_ms = cases[i].ms;
		f.now += cases[i].ms * 1000;
		fixture_wake(&f);
		CHECK_TEXT(f.trans.reason, cases[i].reason);
		CHECK_INT(f.trans.status, DTM_STATUS_FAILED);
		fixture_free(&f);
	}

	/* longer than time lasts */
	fixture_init(&f, DTM_TYPE_XA, 0, 1);
	f.trans.timeout_to_fail_ms = INT64_MAX;
	fixture_wake(&f);
	CHECK_INT(f.plan.next_at, DTM_TIME_NEVER);
	f.trans.timeout_to_fail_ms = INT64_MAX / 1000;
	fixture_wake(&f);
	CHECK_INT(f.plan.next_at, DTM_TIME_NEVER);
	CHECK_INT(f.trans.status, DTM_STATUS_PREPARED);
	fixture_free(&f);

	/* the last success wins against the deadline that passed meanwhile */
	fixture_init(&f, DTM_TYPE_SAGA, 0, 2);
	f.trans.timeout_to_fail_ms = 1000;
	fixture_wake(&f);
	fixture_result(&f, 0, FWD, OK, "");
	f.now += 5 * SECOND;
	fixture_result(&f, 1, FWD, OK, "");
	CHECK_INT(f.trans.status, DTM_STATUS_SUCCEED);
	fixture_free(&f);

	/* any other does not; the step it would have started was never called */
	fixture_init(&f, DTM_TYPE_SAGA, 0, 2);
	f.trans.timeout_to_fail_ms = 1000;
	fixture_wake(&f);
	f.now += 5 * SECOND;
	fixture_result(&f, 0, FWD, OK, "");
	CHECK_INT(f.trans.status, DTM_STATUS_ABORTING);
	CHECK_STR(fixture_calls(&f), "compensate 1");
	CHECK(!f.branches[1].state[FWD].started);
	fixture_free(&f);

	/* measured from the start, for what the coordinator runs */
	for (int i = 0; i < 2; i++)
	{
		fixture_init(&f, i ? DTM_TYPE_TCC : DTM_TYPE_SAGA, 0, 1);
		f.trans.timeout_to_fail_ms = 1000;
		f.trans.start_at += 60 * SECOND;
		f.now += 50 * SECOND;
		fixture_wake(&f);
		CHECK_INT(f.plan.next_at, FIXTURE_EPOCH + 60 * SECOND);
		CHECK_STR(fixture_calls(&f), "");
		f.now += 10 * SECOND;
		fixture_wake(&f);
		CHECK_STR(fixture_calls(&f), i ? "try 1" : "action 1");
		CHECK_INT(f.plan.next_at, FIXTURE_EPOCH + 61 * SECOND);
		fixture_free(&f);
	}
}

/* What a crash may have made us forget is compensated all the same. */
static void
test_may_have_been_called(void)
{
	static const int after_both[] = {0, 1, -1};
	Fixture f;

	fixture_init(&f, DTM_TYPE_SAGA, DTM_FLAG_CONCURRENT, 4);
	fixture_after(&f, 2, after_both);
	f.trans.timeout_to_fail_ms = 1000;
	f.branches[0].state[FWD].status = DTM_OP_SUCCEED;
	f.now += 2 * SECOND;
	fixture_wake(&f);
	CHECK_INT(f.trans.status, DTM_STATUS_ABORTING);
	CHECK_STR(fixture_calls(&f), "compensate 4+compensate 2+compensate 1");
	CHECK(!f.branches[2].state[FWD].started && f.branches[3].state[FWD].started);
	CHECK_INT(f.branches[3].state[FWD].status, DTM_OP_PREPARED);
	fixture_free(&f);

	/* both before it succeeded: it may have been called too, and goes first */
	fixture_init(&f, DTM_TYPE_SAGA, DTM_FLAG_CONCURRENT, 3);
	fixture_after(&f, 2, after_both);
	f.trans.timeout_to_fail_ms = 1000;
	f.branches[0].state[FWD].status = DTM_OP_SUCCEED;
	f.branches[1].state[FWD].status = DTM_OP_SUCCEED;
	f.now += 2 * SECOND;
	fixture_wake(&f);
	CHECK_STR(fixture_calls(&f), "compensate 3");
	fixture_result(&f, 2, UNDO, OK, "");
	CHECK_STR(fixture_calls(&f), "compensate 2+compensate 1");
	fixture_free(&f);

	/* nothing can have been called before the start */
	fixture_init(&f, DTM_TYPE_TCC, 0, 2);
	f.trans.start_at += 60 * SECOND;
	fixture_event(&f, DTM_EVENT_ABORT, "changed my mind");
	CHECK_INT(f.trans.status, DTM_STATUS_FAILED);
	CHECK_STR(fixture_calls(&f), "");
	CHECK_TEXT(f.trans.reason, "changed my mind");
	fixture_free(&f);
}

static void
test_partial_order(void)
{
	static const int none[] = {-1};
	static const int on_two[] = {2, -1};
	static const int on_zero_one[] = {0, 1, -1};
	Fixture f;

	/* 3 -> 1, 1 and 2 -> 4 (numbered from 1), though not concurrent */
	fixture_init(&f, DTM_TYPE_SAGA, 0, 4);
	fixture_after(&f, 0, on_two);
	fixture_after(&f, 1, none);
	fixture_after(&f, 2, none);
	fixture_after(&f, 3, on_zero_one);
	fixture_wake(&f);
	CHECK_STR(fixture_calls(&f), "action 2+action 3");
	fixture_result(&f, 1, FWD, OK, "");
	CHECK_STR(fixture_calls(&f), "");
	CHECK(f.plan.changed && !f.plan.flush);
	fixture_result(&f, 2, FWD, OK, "");
	CHECK_STR(fixture_calls(&f), "action 1");
	CHECK(f.plan.flush);
	fixture_result(&f, 0, FWD, OK, "");
	CHECK_STR(fixture_calls(&f), "action 4");
	fixture_result(&f, 3, FWD, NO, "no truck");
	CHECK_STR(fixture_calls(&f), "compensate 4");
	fixture_result(&f, 3, UNDO, OK, "");
	CHECK_STR(fixture_calls(&f), "compensate 2+compensate 1");
	fixture_result(&f, 1, UNDO, OK, "");
	CHECK_STR(fixture_calls(&f), "");
	fixture_result(&f, 0, UNDO, OK, "");
	CHECK_STR(fixture_calls(&f), "compensate 3");
	fixture_result(&f, 2, UNDO, OK, "");
	CHECK_INT(f.trans.status, DTM_STATUS_FAILED);
	fixture_free(&f);

	/* [] in a sequential saga: at once, while the next step waits for it */
	fixture_init(&f, DTM_TYPE_SAGA, 0, 3);
	fixture_after(&f, 1, none);
	fixture_wake(&f);
	CHECK_STR(fixture_calls(&f), "action 1+action 2");
	fixture_result(&f, 1, FWD, OK, "");
	CHECK_STR(fixture_calls(&f), "action 3");
	fixture_free(&f);
}

static void
test_empty_targets(void)
{
	Fixture f;

	/* nothing to do at all */
	fixture_init(&f, DTM_TYPE_SAGA, 0, 0);
	fixture_wake(&f);
	CHECK_INT(f.trans.status, DTM_STATUS_SUCCEED);
	CHECK(f.plan.changed && f.plan.flush && f.plan.finished);
	fixture_free(&f);

	fixture_init(&f, DTM_TYPE_SAGA, 0, 3);
	f.branches[0].url[FWD].len = 0;
	f.branches[1].url[UNDO].len = 0;
	fixture_wake(&f);
	CHECK_STR(fixture_calls(&f), "action 2");
	CHECK(f.plan.changed && f.plan.flush);
	CHECK_INT(f.branches[0].state[FWD].status, DTM_OP_SUCCEED);
	CHECK_INT(f.branches[0].state[FWD].finished_at, f.now);
	CHECK_INT(f.branches[0].state[FWD].attempts, 0);
	CHECK_INT(f.branches[0].state[FWD].started_at, 0);
	fixture_result(&f, 1, FWD, OK, "");
	fixture_result(&f, 2, FWD, NO, "no");
	CHECK_STR(fixture_calls(&f), "compensate 3");
	fixture_result(&f, 2, UNDO, OK, "");
	CHECK_STR(fixture_calls(&f), "compensate 1");
	CHECK_INT(f.branches[1].state[UNDO].status, DTM_OP_SUCCEED);
	fixture_result(&f, 0, UNDO, OK, "");
	CHECK_INT(f.trans.status, DTM_STATUS_FAILED);
	CHECK_INT(f.trans.attempts, 4);
	fixture_free(&f);

	/* a step that has no compensation keeps the ones around it apart */
	fixture_init(&f, DTM_TYPE_SAGA, 0, 3);
	f.branches[1].op[UNDO] = DTM_OP_NONE;
	fixture_wake(&f);
	fixture_result(&f, 0, FWD, OK, "");
	fixture_result(&f, 1, FWD, OK, "");
	fixture_result(&f, 2, FWD, NO, "no");
	CHECK_STR(fixture_calls(&f), "compensate 3");
	fixture_result(&f, 2, UNDO, OK, "");
	CHECK_STR(fixture_calls(&f), "compensate 1");
	fixture_free(&f);

	/* empty steps wait for the start as well */
	fixture_init(&f, DTM_TYPE_SAGA, DTM_FLAG_CONCURRENT, 2);
	f.branches[0].url[FWD].len = 0;
	f.trans.start_at += SECOND;
	fixture_wake(&f);
	CHECK(!f.plan.changed);
	CHECK_INT(f.plan.next_at, f.trans.start_at);
	fixture_free(&f);
}

/* A crowd of steps, forwards and backwards, with and without targets. */
static void
test_many_steps(void)
{
	static DtmBranch branches[DTM_MAX_STEPS];
	static uint16_t after[DTM_MAX_STEPS];
	Fixture f;

	for (int variant = 0; variant < 4; variant++)
	{
		bool against = variant & 1;
		bool empty = variant & 2;

		fixture_init(&f, DTM_TYPE_SAGA, 0, 0);
		memset(branches, 0, sizeof(branches));
		f.trans.branches = branches;
		f.trans.n_branches = DTM_MAX_STEPS;
		for (uint16_t i = 0; i < DTM_MAX_STEPS; i++)
		{
			fixture_branch_ops(DTM_TYPE_SAGA, 0, branches[i].op);
			branches[i].retry_limit = -1;
			if (!empty || i == (against ? 0 : DTM_MAX_STEPS - 1))
				branches[i].url[FWD] = test_text("http://a/");
			if (!empty)
				branches[i].url[UNDO] = test_text("http://c/");
			after[i] = (uint16_t) (i + 1);
			if (against)
			{
				branches[i].after = &after[i];
				branches[i].n_after = i + 1 < DTM_MAX_STEPS ? 1 : 0;
			}
		}
		fixture_wake(&f);
		for (int i = 0; i < DTM_MAX_STEPS - 1 && !empty && CHECK_INT(f.plan.n_calls, 1); i++)
			fixture_result(&f, f.plan.calls[0].branch, FWD, OK, "");
		if (!CHECK_INT(f.plan.n_calls, 1))
			return;
		CHECK_INT(f.plan.calls[0].branch, against ? 0 : DTM_MAX_STEPS - 1);
		fixture_result(&f, f.plan.calls[0].branch, FWD, NO, "no");
		for (int i = 0; i < DTM_MAX_STEPS && !empty; i++)
		{
			if (!CHECK_INT(f.plan.n_calls, 1))
				return;
			CHECK_INT(f.plan.calls[0].branch, against ? i : DTM_MAX_STEPS - 1 - i);
			fixture_result(&f, f.plan.calls[0].branch, UNDO, OK, "");
		}
		CHECK_INT(f.trans.status, DTM_STATUS_FAILED);
		fixture_free(&f);
	}
}

/* Nobody is there to be asked: its time-out alone submits it. */
static void
test_msg_without_query(void)
{
	Fixture f;

	fixture_init(&f, DTM_TYPE_MSG, 0, 2);
	f.trans.query_url = test_text("");
	f.trans.timeout_to_fail_ms = 35000;
	fixture_wake(&f);
	CHECK_STR(fixture_calls(&f), "");
	CHECK_INT(f.trans.status, DTM_STATUS_PREPARED);
	CHECK_INT(f.plan.next_at, FIXTURE_EPOCH + 35 * SECOND);

	f.now += 35 * SECOND - 1;
	fixture_wake(&f);
	CHECK_STR(fixture_calls(&f), "");
	CHECK_INT(f.trans.status, DTM_STATUS_PREPARED);

	/* delivered in the same round, once that it is submitted is durable */
	f.now++;
	fixture_wake(&f);
	CHECK_STR(fixture_calls(&f), "action 1");
	CHECK_INT(f.trans.status, DTM_STATUS_SUBMITTED);
	CHECK(f.plan.changed && f.plan.flush);
	CHECK_INT(f.trans.attempts, 0);
	fixture_result(&f, 0, FWD, DTM_OUTCOME_SUCCESS, "");
	fixture_result(&f, 1, FWD, DTM_OUTCOME_SUCCESS, "");
	CHECK_INT(f.trans.status, DTM_STATUS_SUCCEED);
	fixture_free(&f);

	/* with a delay it is submitted in time, and delivered later */
	fixture_init(&f, DTM_TYPE_MSG, 0, 1);
	f.trans.query_url = test_text("");
	f.trans.timeout_to_fail_ms = 1000;
	f.trans.start_at += 20 * SECOND;
	f.now += SECOND;
	fixture_wake(&f);
	CHECK_STR(fixture_calls(&f), "");
	CHECK_INT(f.trans.status, DTM_STATUS_SUBMITTED);
	CHECK_INT(f.plan.next_at, FIXTURE_EPOCH + 20 * SECOND);
	fixture_free(&f);

	/* before that its owner decides */
	for (int i = 0; i < 2; i++)
	{
		fixture_init(&f, DTM_TYPE_MSG, 0, 1);
		f.trans.query_url = test_text("");
		f.trans.timeout_to_fail_ms = 1000;
		fixture_event(&f, i == 0 ? DTM_EVENT_SUBMIT : DTM_EVENT_ABORT, "");
		CHECK_INT(f.rc, DTM_OK);
		CHECK_STR(fixture_calls(&f), i == 0 ? "action 1" : "");
		CHECK_INT(f.trans.status, i == 0 ? DTM_STATUS_SUBMITTED : DTM_STATUS_FAILED);
		fixture_free(&f);
	}
}

/* DTM's wire can prepare a saga: it waits for its submit, however long that takes. */
static void
test_saga_prepared(void)
{
	Fixture f;

	fixture_init(&f, DTM_TYPE_SAGA, 0, 2);
	f.trans.status = DTM_STATUS_PREPARED;
	f.now += 3600 * SECOND;
	fixture_wake(&f);
	CHECK_STR(fixture_calls(&f), "");
	CHECK_INT(f.trans.status, DTM_STATUS_PREPARED);
	CHECK_INT(f.plan.next_at, DTM_TIME_NEVER);
	fixture_event(&f, DTM_EVENT_RETRY, "");
	CHECK_STR(fixture_calls(&f), "");
	fixture_event(&f, DTM_EVENT_ABORT, "");
	CHECK_INT(f.rc, DTM_STATE);

	/* from a session, and by who drives */
	CHECK_INT(dtm_engine_steer(&f.trans, &(DtmEvent){.kind = DTM_EVENT_SUBMIT}, f.now,
							   &f.memory.arena),
			  DTM_OK);
	CHECK_INT(f.trans.status, DTM_STATUS_SUBMITTED);
	fixture_wake(&f);
	CHECK_STR(fixture_calls(&f), "action 1");
	fixture_result(&f, 0, FWD, DTM_OUTCOME_FAILURE, "no");
	CHECK_INT(f.trans.status, DTM_STATUS_ABORTING);
	CHECK_STR(fixture_calls(&f), "compensate 1");
	fixture_free(&f);

	fixture_init(&f, DTM_TYPE_SAGA, DTM_FLAG_CONCURRENT, 2);
	f.trans.status = DTM_STATUS_PREPARED;
	fixture_event(&f, DTM_EVENT_SUBMIT, "");
	CHECK_INT(f.rc, DTM_OK);
	CHECK(f.plan.changed && f.plan.flush);
	CHECK_STR(fixture_calls(&f), "action 1+action 2");
	fixture_free(&f);

	/* its time-out counts from the prepare, as with DTM; who loads it cannot know what was called */
	fixture_init(&f, DTM_TYPE_SAGA, 0, 1);
	f.trans.status = DTM_STATUS_PREPARED;
	f.trans.timeout_to_fail_ms = 5000;
	f.now += 6 * SECOND;
	fixture_wake(&f);
	CHECK_INT(f.trans.status, DTM_STATUS_PREPARED);
	fixture_event(&f, DTM_EVENT_SUBMIT, "");
	CHECK_STR(fixture_calls(&f), "compensate 1");
	CHECK_INT(f.trans.status, DTM_STATUS_ABORTING);
	fixture_free(&f);
}

int
main(void)
{
	test_saga_success();
	test_saga_failure();
	test_compensation_retry();
	test_backoff(0);
	test_backoff(DTM_FLAG_DOUBLE_FIRST);
	test_retry_limit();
	test_no_pause_without_limit();
	test_saga_timeout();
	test_timeout_edges();
	test_may_have_been_called();
	test_partial_order();
	test_empty_targets();
	test_many_steps();
	test_msg_without_query();
	test_saga_prepared();
	TEST_REPORT();
}
