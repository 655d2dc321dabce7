/* -------------------------------------------------------------------------
 *
 * test_events.c
 *		The engine on msg and tcc; on stop, retry, postpone and late
 *		answers; its log, its texts and its memory.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_fixture.h"

#define OK DTM_OUTCOME_SUCCESS
#define NO DTM_OUTCOME_FAILURE
#define LATER DTM_OUTCOME_ONGOING
#define BAD DTM_OUTCOME_ERROR
#define QUERY DTM_BRANCH_TRANS

/* A retry before the start: it starts now, for good. */
static void
test_hurried(void)
{
	Fixture f;

	fixture_init(&f, DTM_TYPE_SAGA, 0, 2);
	f.trans.start_at += 60 * SECOND;
	f.trans.timeout_to_fail_ms = 1000;
	fixture_wake(&f);
	CHECK_STR(fixture_calls(&f), "");
	f.now += SECOND;
	fixture_event(&f, DTM_EVENT_RETRY, "");
	CHECK_STR(fixture_calls(&f), "action 1");
	CHECK(f.plan.changed && f.plan.flush);
	CHECK_INT(f.trans.hurried_at, f.now);

	/* the time-out counts from then, and what was called is undone */
	f.now += SECOND;
	fixture_result(&f, 0, FWD, DTM_OUTCOME_ERROR, "500: no");
	CHECK_INT(f.trans.status, DTM_STATUS_ABORTING);
	CHECK_STR(fixture_calls(&f), "compensate 1");
	fixture_free(&f);
}

/* What a RETRY would cut short, and what not. */
static void
test_message_waits(void)
{
	Fixture f;

	fixture_init(&f, DTM_TYPE_MSG, 0, 1);
	f.trans.status = DTM_STATUS_SUBMITTED;
	CHECK(!dtm_engine_message_waits(&f.trans, f.now));
	f.trans.start_at += 5 * SECOND;
	CHECK(dtm_engine_message_waits(&f.trans, f.trans.start_at - 1));
	CHECK(!dtm_engine_message_waits(&f.trans, f.trans.start_at));
	f.now += SECOND;
	fixture_event(&f, DTM_EVENT_RETRY, "");
	CHECK(!dtm_engine_message_waits(&f.trans, f.now)); /* hurried already */
	fixture_free(&f);

	/* prepared: until it is asked about, whatever its delay */
	fixture_init(&f, DTM_TYPE_MSG, 0, 1);
	f.trans.start_at += 60 * SECOND;
	f.trans.timeout_to_fail_ms = 3000;
	CHECK(dtm_engine_message_waits(&f.trans, FIXTURE_EPOCH + 3 * SECOND - 1));
	CHECK(!dtm_engine_message_waits(&f.trans, FIXTURE_EPOCH + 3 * SECOND));
	f.now += 3 * SECOND;
	fixture_wake(&f);
	CHECK_STR(fixture_calls(&f), "msg");
	fixture_result(&f, QUERY, FWD, LATER, "");
	CHECK(!dtm_engine_message_waits(&f.trans, f.now));
	f.trans.status = DTM_STATUS_FAILED;
	CHECK(!dtm_engine_message_waits(&f.trans, f.now));
	fixture_free(&f);

	/* no message */
	fixture_init(&f, DTM_TYPE_SAGA, 0, 1);
	f.trans.start_at += 5 * SECOND;
	CHECK(!dtm_engine_message_waits(&f.trans, f.now));
	fixture_free(&f);
}

static void
test_msg(void)
{
	Fixture f;

	/* delay */
	fixture_init(&f, DTM_TYPE_MSG, 0, 2);
	f.trans.status = DTM_STATUS_SUBMITTED;
	f.trans.start_at += 5 * SECOND;
	fixture_wake(&f);
	CHECK_STR(fixture_calls(&f), "");
	CHECK_INT(f.plan.next_at, f.trans.start_at);
	f.now = f.trans.start_at;
	fixture_wake(&f);
	CHECK_STR(fixture_calls(&f), "action 1");

	/* nothing can be rolled back, so the success of a step need not be flushed */
	fixture_result(&f, 0, FWD, OK, "");
	CHECK_STR(fixture_calls(&f), "action 2");
	CHECK(f.plan.changed && !f.plan.flush);
	fixture_free(&f);

	/* nobody submits: the back-check decides */
	for (int outcome = 0; outcome <= DTM_OUTCOME_ERROR; outcome++)
	{
		fixture_init(&f, DTM_TYPE_MSG, 0, 1);
		f.trans.timeout_to_fail_ms = 3000;
		fixture_wake(&f);
		CHECK_INT(f.plan.next_at, FIXTURE_EPOCH + 3 * SECOND);
		CHECK_STR(fixture_calls(&f), "");
		f.now = f.plan.next_at;
		fixture_wake(&f);
		CHECK_STR(fixture_calls(&f), "msg");
		CHECK_INT(f.plan.calls[0].branch, DTM_BRANCH_TRANS);
		fixture_result(&f, QUERY, FWD, (DtmOutcome) outcome, "");
		if (outcome == OK)
			CHECK_STR(fixture_calls(&f), "action 1");
		else if (outcome == NO)
		{
			CHECK_INT(f.trans.status, DTM_STATUS_FAILED);
			CHECK_TEXT(f.trans.reason, "url:http://q/0 return failed: FAILURE");
			CHECK_INT(f.branches[0].state[FWD].status, DTM_OP_PREPARED);
		}
		else
		{
			CHECK_INT(f.trans.status, DTM_STATUS_PREPARED);
			CHECK(f.plan.next_at >= f.now + 10 * SECOND && f.plan.next_at <= f.now + 11 * SECOND);
			if (outcome == LATER)
				CHECK_INT(f.plan.next_at, f.now + 10 * SECOND);
		}
		fixture_free(&f);
	}

	/* a RETRY does not wait for the time-out, and leaves the delay as it is; repeats go on from there */
	fixture_init(&f, DTM_TYPE_MSG, 0, 1);
	f.trans.timeout_to_fail_ms = 60000;
	f.trans.start_at = FIXTURE_EPOCH + 90 * SECOND;
	f.now += SECOND;
	fixture_wake(&f);
	CHECK_STR(fixture_calls(&f), "");
	fixture_event(&f, DTM_EVENT_RETRY, "");
	CHECK_STR(fixture_calls(&f), "msg");
	CHECK(f.plan.changed);
	CHECK_INT(f.trans.hurried_at, 0);
	fixture_result(&f, QUERY, FWD, LATER, "");
	CHECK_INT(f.plan.next_at, f.now + 10 * SECOND);
	f.now = f.plan.next_at;
	fixture_wake(&f);
	CHECK_STR(fixture_calls(&f), "msg");
	fixture_result(&f, QUERY, FWD, OK, "");
	CHECK_INT(f.trans.status, DTM_STATUS_SUBMITTED);
	CHECK_STR(fixture_calls(&f), "");
	CHECK_INT(f.plan.next_at, FIXTURE_EPOCH + 90 * SECOND);
	fixture_free(&f);

	/* not even for one that never comes */
	fixture_init(&f, DTM_TYPE_MSG, 0, 1);
	f.trans.timeout_to_fail_ms = 0;
	fixture_wake(&f);
	CHECK_INT(f.plan.next_at, DTM_TIME_NEVER);
	fixture_event(&f, DTM_EVENT_RETRY, "");
	CHECK_STR(fixture_calls(&f), "msg");
	fixture_free(&f);

	/* without a target the back-check succeeds */
	fixture_init(&f, DTM_TYPE_MSG, 0, 1);
	f.trans.timeout_to_fail_ms = 3000;
	f.trans.query_url.len = 0;
	fixture_wake(&f);
	CHECK_INT(f.trans.status, DTM_STATUS_PREPARED);
	f.now += 3 * SECOND;
	fixture_wake(&f);
	CHECK_INT(f.trans.status, DTM_STATUS_SUBMITTED);
	CHECK_STR(fixture_calls(&f), "action 1");
	fixture_free(&f);

	/* submitted while the back-check was under way: its answer comes too late */
	fixture_init(&f, DTM_TYPE_MSG, 0, 1);
	f.trans.timeout_to_fail_ms = 3000;
	f.now += 3 * SECOND;
	fixture_wake(&f);
	fixture_event(&f, DTM_EVENT_SUBMIT, "");
	CHECK_STR(fixture_calls(&f), "action 1");
	fixture_result(&f, QUERY, FWD, NO, "rolled back");
	CHECK_INT(f.trans.status, DTM_STATUS_SUBMITTED);
	CHECK_INT(f.trans.query.status, DTM_OP_FAILED);
	CHECK_INT(f.trans.query.next_at, 0);
	CHECK(f.plan.changed && !f.plan.flush);
	fixture_event(&f, DTM_EVENT_SUBMIT, "");
	CHECK_INT(f.rc, DTM_OK);
	CHECK(!f.plan.changed);
	fixture_result(&f, 0, FWD, OK, "");
	CHECK_INT(f.trans.status, DTM_STATUS_SUCCEED);
	fixture_free(&f);

	/* aborted */
	fixture_init(&f, DTM_TYPE_MSG, 0, 1);
	fixture_event(&f, DTM_EVENT_ABORT, "out of stock");
	CHECK_INT(f.trans.status, DTM_STATUS_FAILED);
	CHECK_TEXT(f.trans.reason, "out of stock");
	CHECK_INT(f.branches[0].state[FWD].status, DTM_OP_PREPARED);
	fixture_free(&f);
}

static void
test_tcc(void)
{
	Fixture f;

	fixture_init(&f, DTM_TYPE_TCC, 0, 2);
	fixture_wake(&f);
	fixture_result(&f, 0, FWD, OK, "");
	CHECK_STR(fixture_calls(&f), "try 2");
	CHECK(f.plan.flush);
	fixture_event(&f, DTM_EVENT_SUBMIT, "");
	CHECK_INT(f.rc, DTM_STATE);
	fixture_result(&f, 1, FWD, OK, "");
	CHECK_INT(f.trans.status, DTM_STATUS_SUBMITTED);
	CHECK(f.plan.flush);
	CHECK_STR(fixture_calls(&f), "confirm 2");
	fixture_result(&f, 1, CONF, NO, "");
	CHECK_INT(f.trans.status, DTM_STATUS_SUBMITTED);
	CHECK_STR(fixture_calls(&f), "");
	f.now = f.plan.next_at;
	fixture_wake(&f);
	fixture_result(&f, 1, CONF, OK, "");
	CHECK_STR(fixture_calls(&f), "confirm 1");
	CHECK(!f.plan.flush);
	fixture_result(&f, 0, CONF, OK, "");
	CHECK_INT(f.trans.status, DTM_STATUS_SUCCEED);
	fixture_free(&f);

	/* aborted with a Try in flight: its Cancel waits, and with it those before */
	fixture_init(&f, DTM_TYPE_TCC, DTM_FLAG_CONCURRENT, 3);
	fixture_wake(&f);
	fixture_result(&f, 0, FWD, OK, "");
	fixture_result(&f, 1, FWD, NO, "balance not enough");
	CHECK_INT(f.trans.status, DTM_STATUS_ABORTING);
	CHECK_STR(fixture_calls(&f), "");
	fixture_event(&f, DTM_EVENT_ABORT, "again");
	CHECK_INT(f.rc, DTM_OK);
	CHECK_TEXT(f.trans.reason, "url:http://a/2 return failed: balance not enough FAILURE");
	fixture_result(&f, 2, FWD, OK, "");
	CHECK_STR(fixture_calls(&f), "cancel 3");
	fixture_result(&f, 2, UNDO, OK, "");
	CHECK_STR(fixture_calls(&f), "cancel 2");
	fixture_result(&f, 1, UNDO, OK, "");
	fixture_result(&f, 0, UNDO, OK, "");
	CHECK_INT(f.trans.status, DTM_STATUS_FAILED);
	fixture_free(&f);
}

static void
test_stop_retry_postpone(void)
{
	Fixture f;

	/* stop: from anywhere, at once; the answer that comes later changes nothing */
	fixture_init(&f, DTM_TYPE_SAGA, 0, 2);
	fixture_wake(&f);
	fixture_event(&f, DTM_EVENT_STOP, "by hand");
	CHECK_INT(f.trans.status, DTM_STATUS_FAILED);
	CHECK_TEXT(f.trans.reason, "by hand");
	CHECK(f.plan.flush && f.plan.finished);
	fixture_result(&f, 0, FWD, OK, "");
	CHECK(!f.plan.changed && f.plan.finished);
	CHECK_INT(f.branches[0].state[FWD].status, DTM_OP_PREPARED);
	CHECK_INT(f.trans.attempts, 0);
	fixture_event(&f, DTM_EVENT_SUBMIT, "");
	CHECK_INT(f.rc, DTM_STATE);
	fixture_free(&f);

	/* stop without a reason keeps the one that is there */
	fixture_init(&f, DTM_TYPE_SAGA, 0, 1);
	fixture_wake(&f);
	fixture_result(&f, 0, FWD, NO, "no");
	fixture_event(&f, DTM_EVENT_STOP, "");
	CHECK_TEXT(f.trans.reason, "url:http://a/1 return failed: no FAILURE");
	fixture_free(&f);

	/* retry: all that waits, now */
	fixture_init(&f, DTM_TYPE_SAGA, DTM_FLAG_CONCURRENT, 3);
	fixture_wake(&f);
	fixture_result(&f, 0, FWD, BAD, "");
	fixture_result(&f, 1, FWD, LATER, "");
	fixture_event(&f, DTM_EVENT_RETRY, "");
	CHECK_STR(fixture_calls(&f), "action 1+action 2");
	CHECK(f.plan.changed && !f.plan.flush);
	CHECK_INT(f.branches[0].state[FWD].next_at, 0);
	fixture_event(&f, DTM_EVENT_RETRY, "");
	CHECK(!f.plan.changed);
	CHECK_STR(fixture_calls(&f), "");
	fixture_free(&f);

	/* postpone: no attempt, no failure */
	fixture_init(&f, DTM_TYPE_SAGA, 0, 1);
	fixture_wake(&f);
	fixture_handle(&f,
				   &(DtmEvent){.kind = DTM_EVENT_POSTPONE,
							   .until = f.now + 7,
							   .reason = test_text("host is busy")});
	CHECK(f.plan.changed && !f.plan.flush);
	CHECK_INT(f.plan.next_at, f.now + 7);
	CHECK_INT(f.branches[0].state[FWD].attempts, 0);
	CHECK_INT(f.branches[0].state[FWD].failures, 0);
	CHECK_INT(f.trans.n_log, 0);
	CHECK_TEXT(f.branches[0].state[FWD].last_error, "host is busy");
	f.now += 7;
	fixture_wake(&f);
	CHECK_STR(fixture_calls(&f), "action 1");
	fixture_free(&f);
}

static void
test_late_results(void)
{
	Fixture f;
	DtmTrans before;

	fixture_init(&f, DTM_TYPE_SAGA, 0, 2);
	fixture_wake(&f);
	fixture_result(&f, 0, FWD, OK, "");
	before = f.trans;
	fixture_result(&f, 0, FWD, NO, "again");
	CHECK(!f.plan.changed && f.plan.n_calls == 0);
	fixture_result(&f, 1, UNDO, OK, "");
	fixture_result(&f, 2, FWD, OK, "no such branch");
	fixture_result(&f, 1, DTM_ROLES, OK, "no such role");
	fixture_result(&f, QUERY, FWD, OK, "no such call");
	CHECK(!f.plan.changed && f.plan.n_calls == 0);
	CHECK(memcmp(&before, &f.trans, sizeof(before)) == 0);
	CHECK_INT(f.branches[0].state[FWD].status, DTM_OP_SUCCEED);
	fixture_free(&f);
}

static void
test_log(void)
{
	Fixture f;
	uint16_t sizes = 0;

	fixture_init(&f, DTM_TYPE_MSG, 0, 1);
	f.trans.status = DTM_STATUS_SUBMITTED;
	fixture_wake(&f);
	for (int i = 0; i < 100; i++)
	{
		uint16_t size = f.trans.log_size;

		f.now += 5000;
		fixture_result(&f, 0, FWD, BAD, "down");
		sizes += f.trans.log_size != size;
		fixture_event(&f, DTM_EVENT_RETRY, "");
	}
	CHECK_INT(f.trans.n_log, DTM_MAX_CALL_LOG);
	CHECK_INT(f.trans.log_dropped, 100 - DTM_MAX_CALL_LOG);
	CHECK_INT(f.trans.log_size, DTM_MAX_CALL_LOG);
	CHECK_INT(sizes, 5);
	CHECK_INT(f.trans.attempts, 100);
	CHECK_INT(f.trans.retries, 99);

	/* the newest are kept, oldest first */
	CHECK_INT(f.trans.log[DTM_MAX_CALL_LOG - 1].started_at, f.now - 1000);
	CHECK_INT(f.trans.log[0].started_at, f.now - 1000 - 63 * 5000);
	CHECK_INT(f.trans.log[0].took_us, 1000);
	CHECK_INT(f.trans.log[0].outcome, BAD);

	/* an unreasonable start does not become an unreasonable duration */
	fixture_handle(&f,
				   &(DtmEvent){.kind = DTM_EVENT_RESULT,
							   .outcome = BAD,
							   .started_at = f.now + SECOND});
	CHECK_INT(f.trans.log[DTM_MAX_CALL_LOG - 1].took_us, 0);
	fixture_event(&f, DTM_EVENT_RETRY, "");
	fixture_handle(&f, &(DtmEvent){.kind = DTM_EVENT_RESULT, .outcome = OK, .started_at = 0});
	CHECK_INT(f.trans.log[DTM_MAX_CALL_LOG - 1].took_us, UINT32_MAX);
	CHECK_INT(f.trans.log[DTM_MAX_CALL_LOG - 1].outcome, OK);
	fixture_free(&f);
}

/* Texts are cut between characters, and equal ones are not copied again. */
static void
test_texts(void)
{
	Fixture f;
	char text[1203];
	size_t bytes;

	text[0] = 'x';
	for (int i = 1; i < 1201; i += 2)
		memcpy(text + i, "\303\251", 2);
	text[1201] = '\0';

	fixture_init(&f, DTM_TYPE_SAGA, 0, 1);
	fixture_wake(&f);
	fixture_result(&f, 0, FWD, BAD, text);
	CHECK_INT(f.branches[0].state[FWD].last_error.len, DTM_MAX_ERROR_LEN - 1);
	CHECK(memcmp(f.branches[0].state[FWD].last_error.data, text, DTM_MAX_ERROR_LEN - 1) == 0);
	fixture_event(&f, DTM_EVENT_RETRY, "");
	bytes = f.memory.bytes;
	fixture_result(&f, 0, FWD, BAD, text);
	CHECK_INT(f.memory.bytes, bytes);
	fixture_event(&f, DTM_EVENT_STOP, text + 1);
	CHECK_INT(f.trans.reason.len, DTM_MAX_ERROR_LEN);
	fixture_free(&f);

	/* the caller's bytes are not needed after the event */
	fixture_init(&f, DTM_TYPE_SAGA, 0, 1);
	fixture_wake(&f);
	strcpy(text, "short-lived");
	fixture_result(&f, 0, FWD, NO, text);
	memset(text, '!', 11);
	CHECK_TEXT(f.branches[0].state[FWD].last_error, "short-lived");
	CHECK_TEXT(f.trans.reason, "url:http://a/1 return failed: short-lived FAILURE");
	fixture_free(&f);
}

/* On the way of success: the calls, and now and then the log. */
static void
test_memory(void)
{
	Fixture f;
	size_t bytes;

	fixture_init(&f, DTM_TYPE_SAGA, 0, 3);
	fixture_wake(&f);
	CHECK_INT(f.memory.bytes, sizeof(DtmCall));
	fixture_result(&f, 0, FWD, OK, "");
	bytes = f.memory.bytes;
	CHECK_INT(bytes, 2 * sizeof(DtmCall) + 4 * sizeof(DtmCallRecord));
	fixture_wake(&f);
	fixture_event(&f, DTM_EVENT_RETRY, "");
	CHECK_INT(f.memory.bytes, bytes);
	fixture_result(&f, 1, FWD, OK, "");
	fixture_result(&f, 2, FWD, OK, "");
	CHECK_INT(f.memory.bytes, bytes + sizeof(DtmCall));
	fixture_free(&f);

	/* out of memory at each place where some is asked for */
	for (long fail_after = 0;; fail_after++)
	{
		bool short_of_memory = false;

		fixture_init(&f, DTM_TYPE_SAGA, 0, 2);
		f.memory.fail_after = fail_after;
		fixture_wake(&f);
		short_of_memory |= f.rc == DTM_NOMEM;
		if (!short_of_memory)
		{
			fixture_result(&f, 0, FWD, BAD, "down");
			short_of_memory |= f.rc == DTM_NOMEM;
		}
		if (!short_of_memory)
		{
			f.now = f.plan.next_at;
			fixture_wake(&f);
			short_of_memory |= f.rc == DTM_NOMEM;
		}
		if (!short_of_memory)
		{
			fixture_result(&f, 0, FWD, NO, "no");
			short_of_memory |= f.rc == DTM_NOMEM;
		}
		fixture_free(&f);
		if (!short_of_memory)
		{
			CHECK_INT(fail_after, 7);
			break;
		}
		CHECK(fail_after < 7);
	}
}

int
main(void)
{
	test_hurried();
	test_message_waits();
	test_msg();
	test_tcc();
	test_stop_retry_postpone();
	test_late_results();
	test_log();
	test_texts();
	test_memory();
	TEST_REPORT();
}
