/* -------------------------------------------------------------------------
 *
 * test_steer.c
 *		dtm_engine_steer: what a submit or an abort by the owner makes of a
 *		transaction as the tables hold it.
 *
 * Not here: the same events in the process that drives (test_events.c).
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_engine.h"
#include "dtm_spec.h"
#include "dtm_state.h"
#include "dtm_steps_json.h"
#include "dtm_test.h"

#define CREATED_AT INT64_C(800000000000000)
#define SECOND INT64_C(1000000)
#define STATUSES (DTM_STATUS_LAST + 1)

static TestArena memory;

/* A transaction as it is after a load: packed, unpacked, without a state. */
static DtmTrans
loaded(DtmTransType type, const char *steps, uint32_t flags, bool prepared, int64_t delay_ms)
{
	DtmSpecError error;
	DtmSpecBuilder *builder = dtm_spec_begin(&memory.arena, type, &error);
	DtmTrans trans;
	const char *packed;
	size_t len;
	uint32_t wire_flags = 0;

	memset(&trans, 0, sizeof(trans));
	trans.created_at = CREATED_AT;
	if (!CHECK(builder != NULL) ||
		!CHECK(dtm_steps_json(builder, steps, strlen(steps), &wire_flags)) ||
		!CHECK(!prepared || dtm_spec_set_query_prepared(builder, "http://a/q", 10)) ||
		!CHECK(dtm_spec_set_start_after(builder, delay_ms)))
		exit(1);
	if (!CHECK(dtm_spec_finish(builder, &packed, &len)) ||
		!CHECK_INT(dtm_spec_unpack(packed, len, &memory.arena, &trans), DTM_OK))
		exit(1);
	trans.flags |= flags;
	return trans;
}

static DtmRc
steer(DtmTrans *trans, DtmEventKind kind, const char *reason)
{
	DtmEvent event;

	memset(&event, 0, sizeof(event));
	event.kind = kind;
	event.reason = test_text(reason);
	return dtm_engine_steer(trans, &event, CREATED_AT + SECOND, &memory.arena);
}

/* For each status the one that follows, or NONE for refused. */
static void
check_table(DtmTransType type, uint32_t flags, const char *steps, DtmEventKind kind,
			const DtmStatus expected[STATUSES])
{
	for (int status = DTM_STATUS_PREPARED; status <= DTM_STATUS_LAST; status++)
	{
		DtmTrans trans = loaded(type, steps, flags, type == DTM_TYPE_MSG, 0);
		DtmRc rc;

		trans.status = (DtmStatus) status;
		rc = steer(&trans, kind, "why");
		if (expected[status] == DTM_STATUS_NONE)
		{
			CHECK_INT(rc, DTM_STATE);
			CHECK_INT(trans.status, status);
			CHECK_TEXT(trans.reason, "");
		}
		else
		{
			CHECK_INT(rc, DTM_OK);
			CHECK_INT(trans.status, expected[status]);
			CHECK_TEXT(trans.reason,
					   kind == DTM_EVENT_ABORT && expected[status] != (DtmStatus) status ? "why"
																						 : "");
		}
		for (int i = 0; i < trans.n_branches; i++)
			for (int role = 0; role < DTM_ROLES; role++)
				CHECK(!trans.branches[i].state[role].in_flight);
	}
}

static void
test_tables(void)
{
	const char *step = "[{\"action\": \"http://a/\"}]";
	const char *branch =
		"[{\"try\": \"http://a/\", \"confirm\": \"http://a/\", \"cancel\": \"http://a/\"}]";
	const DtmStatus msg_submit[STATUSES] =
		{[DTM_STATUS_PREPARED] = DTM_STATUS_SUBMITTED, [DTM_STATUS_SUBMITTED] = DTM_STATUS_SUBMITTED};
	const DtmStatus msg_abort[STATUSES] = {[DTM_STATUS_PREPARED] = DTM_STATUS_FAILED};
	const DtmStatus tcc_submit[STATUSES] = {[DTM_STATUS_SUBMITTED] = DTM_STATUS_SUBMITTED};
	const DtmStatus tcc_abort[STATUSES] =
		{[DTM_STATUS_PREPARED] = DTM_STATUS_ABORTING, [DTM_STATUS_ABORTING] = DTM_STATUS_ABORTING};
	const DtmStatus client_submit[STATUSES] =
		{[DTM_STATUS_PREPARED] = DTM_STATUS_SUBMITTED, [DTM_STATUS_SUBMITTED] = DTM_STATUS_SUBMITTED};
	const DtmStatus saga_submit[STATUSES] =
		{[DTM_STATUS_PREPARED] = DTM_STATUS_SUBMITTED, [DTM_STATUS_SUBMITTED] = DTM_STATUS_SUBMITTED};
	const DtmStatus saga_abort[STATUSES] = {DTM_STATUS_NONE};

	check_table(DTM_TYPE_MSG, 0, step, DTM_EVENT_SUBMIT, msg_submit);
	check_table(DTM_TYPE_MSG, 0, step, DTM_EVENT_ABORT, msg_abort);
	check_table(DTM_TYPE_TCC, 0, branch, DTM_EVENT_SUBMIT, tcc_submit);
	check_table(DTM_TYPE_TCC, 0, branch, DTM_EVENT_ABORT, tcc_abort);
	check_table(DTM_TYPE_TCC, DTM_FLAG_CLIENT_RUN, branch, DTM_EVENT_SUBMIT, client_submit);
	check_table(DTM_TYPE_TCC, DTM_FLAG_CLIENT_RUN, branch, DTM_EVENT_ABORT, tcc_abort);
	check_table(DTM_TYPE_SAGA, 0, step, DTM_EVENT_SUBMIT, saga_submit);
	check_table(DTM_TYPE_SAGA, 0, step, DTM_EVENT_ABORT, saga_abort);
}

/* Try calls that may be out though no record says so get their Cancel; others do not. */
static void
test_marks(void)
{
	const char *branches =
		"[{\"try\": \"http://a/1\", \"confirm\": \"http://a/\", \"cancel\": \"http://a/-1\"},"
		" {\"try\": \"http://a/2\", \"confirm\": \"http://a/\", \"cancel\": \"http://a/-2\"},"
		" {\"try\": \"http://a/3\", \"confirm\": \"http://a/\", \"cancel\": \"http://a/-3\"}]";
	DtmTrans trans = loaded(DTM_TYPE_TCC, branches, 0, false, 0);
	DtmEngineParams params = {1000, 10000, 1};
	DtmEvent wake;
	DtmPlan plan;
	char *state;
	size_t len;
	DtmTrans again;

	/* the first has succeeded, the second may be under way */
	trans.branches[0].state[DTM_ROLE_FORWARD].status = DTM_OP_SUCCEED;
	trans.branches[0].state[DTM_ROLE_FORWARD].started = true;
	CHECK_INT(steer(&trans, DTM_EVENT_ABORT, ""), DTM_OK);
	CHECK_INT(trans.status, DTM_STATUS_ABORTING);
	CHECK_TEXT(trans.reason, "");
	CHECK(trans.branches[1].state[DTM_ROLE_FORWARD].started);
	CHECK(!trans.branches[2].state[DTM_ROLE_FORWARD].started);
	for (int i = 0; i < 3; i++)
		CHECK(!trans.branches[i].state[DTM_ROLE_UNDO].started);

	/* who drives takes it from the tables and cancels these two, the last first */
	state = malloc(dtm_state_bound(&trans));
	len = dtm_state_pack(&trans, state);
	again = loaded(DTM_TYPE_TCC, branches, 0, false, 0);
	CHECK_INT(dtm_state_unpack(state, len, &memory.arena, &again), DTM_OK);
	again.status = DTM_STATUS_ABORTING;
	memset(&wake, 0, sizeof(wake));
	wake.kind = DTM_EVENT_WAKE;
	CHECK_INT(dtm_engine_handle(&again, &wake, CREATED_AT + 2 * SECOND, &params, &memory.arena,
								&plan),
			  DTM_OK);
	if (CHECK_INT(plan.n_calls, 1))
	{
		CHECK_INT(plan.calls[0].branch, 1);
		CHECK_INT(plan.calls[0].op, DTM_OP_CANCEL);
	}
	free(state);

	/* nothing can have been called before the start */
	trans = loaded(DTM_TYPE_TCC, branches, 0, false, 60000);
	CHECK_INT(steer(&trans, DTM_EVENT_ABORT, "early"), DTM_OK);
	for (int i = 0; i < 3; i++)
		CHECK(!trans.branches[i].state[DTM_ROLE_FORWARD].started);
}

/* Check-backs that failed do not make a submitted message look stuck. */
static void
test_query_forgotten(void)
{
	DtmTrans trans = loaded(DTM_TYPE_MSG, "[{\"action\": \"http://a/\"}]", 0, true, 0);

	trans.query.failures = 7;
	CHECK_INT(steer(&trans, DTM_EVENT_SUBMIT, ""), DTM_OK);
	CHECK_INT(trans.query.failures, 0);
}

/* Without memory for the reason nothing has changed. */
static void
test_no_memory(void)
{
	DtmTrans trans = loaded(DTM_TYPE_MSG, "[{\"action\": \"http://a/\"}]", 0, true, 0);

	memory.fail_after = 0;
	CHECK_INT(steer(&trans, DTM_EVENT_ABORT, "why"), DTM_NOMEM);
	CHECK_INT(trans.status, DTM_STATUS_PREPARED);
	memory.fail_after = -1;
}

int
main(void)
{
	test_arena_init(&memory);
	test_tables();
	test_marks();
	test_query_forgotten();
	test_no_memory();
	test_arena_reset(&memory);
	TEST_REPORT();
}
