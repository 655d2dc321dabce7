/* -------------------------------------------------------------------------
 *
 * test_workflow.c
 *		The engine on workflows: branches that appear over time, steps that
 *		wait, the end of the function, rolling back, time-outs and limits.
 *
 * Not here: the cells of the table (test_modes.c), random histories
 * (test_histories.c), what runs the function (test/t/140_workflow.pl).
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_fixture.h"

#define QUERY DTM_BRANCH_TRANS
#define OK DTM_OUTCOME_SUCCESS
#define NO DTM_OUTCOME_FAILURE
#define LATER DTM_OUTCOME_ONGOING
#define BAD DTM_OUTCOME_ERROR

/* n steps are there already, what they are says kinds: c(all), t(cc), s(leep), a(wait). */
static void
begin(Fixture *f, const char *kinds)
{
	uint16_t n = (uint16_t) strlen(kinds);

	fixture_init(f, DTM_TYPE_WORKFLOW, 0, n);
	for (uint16_t i = 0; i < n; i++)
	{
		DtmBranch *branch = &f->branches[i];
		bool waits = kinds[i] == 's' || kinds[i] == 'a';

		branch->kind = kinds[i] == 'c' ? DTM_STEP_CALL
			: kinds[i] == 't'          ? DTM_STEP_TCC
			: kinds[i] == 's'          ? DTM_STEP_SLEEP
									   : DTM_STEP_AWAIT;
		branch->due_at = DTM_TIME_NEVER;
		if (kinds[i] == 't')
			branch->op[FWD] = DTM_OP_TRY;
		else
			branch->op[CONF] = DTM_OP_NONE;
		if (kinds[i] == 'c')
			branch->op[UNDO] = DTM_OP_COMPENSATE;
		if (waits)
		{
			branch->op[UNDO] = DTM_OP_NONE;
			branch->op[FWD] = kinds[i] == 's' ? DTM_OP_SLEEP : DTM_OP_AWAIT;
			branch->url[FWD].len = 0;
		}
	}
}

static void
answered(Fixture *f, uint16_t branch, DtmOpStatus status)
{
	f->branches[branch].state[FWD].status = (uint8_t) status;
}

static DtmRc
end_function(Fixture *f, DtmOutcome outcome)
{
	DtmEvent event = {.kind = DTM_EVENT_RESULT,
					  .branch = QUERY,
					  .outcome = outcome,
					  .started_at = f->now - 1000};

	return dtm_engine_steer(&f->trans, &event, f->now, &f->memory.arena);
}

/* The function runs, a step is called, the function runs again. */
static void
test_steps(void)
{
	Fixture f;

	begin(&f, "cct");
	f.trans.n_branches = 0;
	fixture_wake(&f);
	CHECK_STR(fixture_calls(&f), "workflow");
	CHECK_INT(f.plan.next_at, DTM_TIME_NEVER);

	/* whoever ran it has registered a branch; the coordinator has it loaded anew */
	f.trans.n_branches = 1;
	f.trans.query.in_flight = false;
	fixture_wake(&f);
	CHECK_STR(fixture_calls(&f), "action 1");
	fixture_result(&f, 0, FWD, BAD, "500");
	CHECK_INT(f.plan.n_calls, 0);
	CHECK(f.plan.next_at >= f.now + 10 * SECOND);
	fixture_event(&f, DTM_EVENT_RETRY, "");
	CHECK_STR(fixture_calls(&f), "action 1");
	fixture_result(&f, 0, FWD, OK, "");
	CHECK_STR(fixture_calls(&f), "workflow");

	/* what the next run builds on is flushed with what that run records */
	CHECK(f.plan.changed && !f.plan.flush);

	f.trans.n_branches = 2;
	f.trans.query.in_flight = false;
	fixture_wake(&f);
	CHECK_STR(fixture_calls(&f), "action 2");
	fixture_result(&f, 1, FWD, NO, "no stock");
	CHECK_INT(f.trans.status, DTM_STATUS_PREPARED);
	CHECK_INT(f.branches[1].state[FWD].status, DTM_OP_FAILED);
	CHECK_TEXT(f.branches[1].state[FWD].last_error, "no stock");
	CHECK_TEXT(f.trans.reason, "");
	CHECK_STR(fixture_calls(&f), "workflow");

	f.trans.n_branches = 3;
	f.trans.query.in_flight = false;
	fixture_wake(&f);
	CHECK_STR(fixture_calls(&f), "try 3");
	fixture_result(&f, 2, FWD, OK, "");
	CHECK_STR(fixture_calls(&f), "workflow");

	/* the end is committed elsewhere, together with what the function did */
	f.trans.query.in_flight = false;
	CHECK_INT(end_function(&f, OK), DTM_OK);
	CHECK_INT(f.trans.status, DTM_STATUS_SUBMITTED);
	CHECK_INT(f.trans.query.status, DTM_OP_SUCCEED);
	CHECK(!f.trans.query.in_flight);
	CHECK_INT(f.trans.log[f.trans.n_log - 1].branch, QUERY);
	CHECK_INT(end_function(&f, OK), DTM_STATE);
	fixture_wake(&f);
	CHECK_STR(fixture_calls(&f), "confirm 3");
	fixture_result(&f, 2, CONF, OK, "");
	CHECK_INT(f.trans.status, DTM_STATUS_SUCCEED);
	fixture_free(&f);
}

static void
test_end_refused(void)
{
	Fixture f;

	begin(&f, "cc");
	answered(&f, 0, DTM_OP_SUCCEED);
	CHECK_INT(end_function(&f, OK), DTM_STATE); /* 2 is not decided */
	answered(&f, 1, DTM_OP_FAILED);
	CHECK_INT(end_function(&f, NO), DTM_STATE); /* only a success is decided here */
	CHECK_INT(end_function(&f, BAD), DTM_STATE);
	CHECK_INT(f.trans.status, DTM_STATUS_PREPARED);
	CHECK_INT(f.trans.n_log, 0);
	f.trans.status = DTM_STATUS_ABORTING;
	CHECK_INT(end_function(&f, OK), DTM_STATE);
	f.trans.status = DTM_STATUS_FAILED;
	CHECK_INT(end_function(&f, OK), DTM_STATE);
	fixture_free(&f);

	/* nobody else's */
	fixture_init(&f, DTM_TYPE_MSG, 0, 1);
	CHECK_INT(end_function(&f, OK), DTM_STATE);
	CHECK_INT(f.trans.status, DTM_STATUS_PREPARED);
	fixture_free(&f);
}

static void
test_sleep(void)
{
	Fixture f;

	begin(&f, "s");
	f.branches[0].due_at = f.now + 3600 * SECOND;
	fixture_wake(&f);
	CHECK_STR(fixture_calls(&f), "");
	CHECK_INT(f.plan.next_at, f.now + 3600 * SECOND);
	fixture_event(&f, DTM_EVENT_RETRY, ""); /* does not cut it short */
	CHECK_STR(fixture_calls(&f), "");
	CHECK_INT(f.plan.next_at, f.now + 3600 * SECOND);
	f.now += 3600 * SECOND;
	fixture_wake(&f);
	CHECK_STR(fixture_calls(&f), "workflow");
	CHECK_INT(f.branches[0].state[FWD].status, DTM_OP_SUCCEED);
	fixture_free(&f);

	/* one that was over before it began */
	begin(&f, "s");
	f.branches[0].due_at = -5;
	fixture_wake(&f);
	CHECK_STR(fixture_calls(&f), "workflow");
	fixture_free(&f);
}

static void
test_await(void)
{
	Fixture f;

	begin(&f, "ca");
	answered(&f, 0, DTM_OP_SUCCEED);
	fixture_wake(&f);
	CHECK_STR(fixture_calls(&f), "");
	CHECK_INT(f.plan.next_at, DTM_TIME_NEVER);
	fixture_event(&f, DTM_EVENT_RETRY, "");
	CHECK_INT(f.plan.next_at, DTM_TIME_NEVER);

	CHECK_INT(dtm_engine_settle(&f.trans, 0, f.now), DTM_STATE);
	CHECK_INT(dtm_engine_settle(&f.trans, 2, f.now), DTM_STATE);
	CHECK_INT(dtm_engine_settle(&f.trans, 1, f.now), DTM_OK);
	CHECK_INT(f.branches[1].state[FWD].status, DTM_OP_SUCCEED);
	CHECK_INT(f.branches[1].state[FWD].finished_at, f.now);
	CHECK_INT(dtm_engine_settle(&f.trans, 1, f.now), DTM_STATE);
	fixture_wake(&f);
	CHECK_STR(fixture_calls(&f), "workflow");
	fixture_free(&f);

	/* nobody signals in time */
	begin(&f, "a");
	f.branches[0].due_at = f.now + SECOND;
	fixture_wake(&f);
	CHECK_INT(f.plan.next_at, f.now + SECOND);
	f.now += SECOND;
	fixture_wake(&f);
	CHECK_STR(fixture_calls(&f), "workflow");
	CHECK_INT(dtm_engine_settle(&f.trans, 0, f.now), DTM_STATE);
	fixture_free(&f);

	/* too late: it is being rolled back */
	begin(&f, "ca");
	answered(&f, 0, DTM_OP_SUCCEED);
	fixture_event(&f, DTM_EVENT_ABORT, "changed my mind");
	CHECK_STR(fixture_calls(&f), "compensate 1");
	CHECK_INT(dtm_engine_settle(&f.trans, 1, f.now), DTM_STATE);
	fixture_result(&f, 0, UNDO, OK, "");
	CHECK_INT(f.trans.status, DTM_STATUS_FAILED);
	CHECK_TEXT(f.trans.reason, "changed my mind");
	fixture_free(&f);
}

/* Undo in reverse, of all that may have been called and did not definitely fail. */
static void
test_rollback(void)
{
	Fixture f;

	begin(&f, "ctsctc");
	f.branches[2].due_at = 0;
	answered(&f, 0, DTM_OP_SUCCEED);
	answered(&f, 1, DTM_OP_SUCCEED);
	answered(&f, 2, DTM_OP_SUCCEED);
	answered(&f, 3, DTM_OP_FAILED);
	answered(&f, 4, DTM_OP_SUCCEED);
	answered(&f, 5, DTM_OP_SUCCEED);
	fixture_wake(&f);
	CHECK_STR(fixture_calls(&f), "workflow");
	fixture_result(&f, QUERY, FWD, NO, "gave up");
	CHECK_INT(f.trans.status, DTM_STATUS_ABORTING);
	CHECK_TEXT(f.trans.reason, "url:http://q/0 return failed: gave up FAILURE");
	CHECK(f.plan.flush);
	CHECK_STR(fixture_calls(&f), "compensate 6");
	fixture_result(&f, 5, UNDO, NO, "must not be refused");
	CHECK_INT(f.trans.status, DTM_STATUS_ABORTING);
	fixture_event(&f, DTM_EVENT_RETRY, "");
	fixture_result(&f, 5, UNDO, OK, "");
	CHECK_STR(fixture_calls(&f), "cancel 5");
	fixture_result(&f, 4, UNDO, OK, "");
	CHECK_STR(fixture_calls(&f), "cancel 2");
	fixture_result(&f, 1, UNDO, OK, "");
	CHECK_STR(fixture_calls(&f), "compensate 1");
	fixture_result(&f, 0, UNDO, OK, "");
	CHECK_INT(f.trans.status, DTM_STATUS_FAILED);
	fixture_free(&f);

	/* a call under way at the time-out: its end is waited for; refused, there is nothing to undo */
	for (int refused = 0; refused <= 1; refused++)
	{
		begin(&f, "cc");
		f.trans.timeout_to_fail_ms = 1000;
		answered(&f, 0, DTM_OP_SUCCEED);
		fixture_wake(&f);
		CHECK_STR(fixture_calls(&f), "action 2");
		f.now += SECOND;
		fixture_wake(&f);
		CHECK_INT(f.trans.status, DTM_STATUS_ABORTING);
		CHECK_STR(fixture_calls(&f), "");
		fixture_result(&f, 1, FWD, refused ? NO : BAD, "late");
		CHECK_STR(fixture_calls(&f), refused ? "compensate 1" : "compensate 2");
		fixture_free(&f);
	}
}

/* The limit of a step is its own or the transaction's; runs that fail in a row count alike. */
static void
test_limits(void)
{
	Fixture f;

	begin(&f, "c");
	f.branches[0].retry_limit = 1;
	fixture_wake(&f);
	fixture_result(&f, 0, FWD, BAD, "500");
	CHECK_INT(f.trans.status, DTM_STATUS_PREPARED);
	fixture_event(&f, DTM_EVENT_RETRY, "");
	fixture_result(&f, 0, FWD, BAD, "500");
	CHECK_INT(f.trans.status, DTM_STATUS_ABORTING);
	CHECK_STR(fixture_calls(&f), "compensate 1");
	fixture_free(&f);

	begin(&f, "c");
	answered(&f, 0, DTM_OP_SUCCEED);
	f.trans.retry_limit = 1;
	fixture_wake(&f);
	for (int i = 0; i < 5; i++)
	{
		fixture_result(&f, QUERY, FWD, LATER, "not yet");
		CHECK_INT(f.plan.next_at, f.now + 10 * SECOND);
		fixture_event(&f, DTM_EVENT_RETRY, "");
		CHECK_STR(fixture_calls(&f), "workflow");
	}
	fixture_result(&f, QUERY, FWD, BAD, "division by zero");
	CHECK_INT(f.trans.status, DTM_STATUS_PREPARED);
	CHECK_INT(f.trans.query.failures, 1);
	fixture_event(&f, DTM_EVENT_RETRY, "");
	fixture_result(&f, QUERY, FWD, BAD, "division by zero");
	CHECK_INT(f.trans.status, DTM_STATUS_ABORTING);
	CHECK_INT(f.trans.query.failures, 0);
	fixture_free(&f);
}

/* Nothing runs before its start, unless somebody hurries it; the time-out counts from there. */
static void
test_start(void)
{
	Fixture f;

	begin(&f, "");
	f.trans.start_at = f.now + 60 * SECOND;
	f.trans.timeout_to_fail_ms = 1000;
	fixture_wake(&f);
	CHECK_STR(fixture_calls(&f), "");
	CHECK_INT(f.plan.next_at, f.now + 60 * SECOND);
	f.now += SECOND;
	fixture_event(&f, DTM_EVENT_RETRY, "");
	CHECK_STR(fixture_calls(&f), "workflow");
	CHECK(f.plan.flush);
	CHECK_INT(f.plan.next_at, f.now + SECOND);
	fixture_free(&f);
}

int
main(void)
{
	test_steps();
	test_end_refused();
	test_sleep();
	test_await();
	test_rollback();
	test_limits();
	test_start();
	TEST_REPORT();
}
