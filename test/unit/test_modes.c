/* -------------------------------------------------------------------------
 *
 * test_modes.c
 *		Every cell of the table of modes, written down a second time from the
 *		protocol and compared with what the engine does.
 *
 * Each transaction has three branches.  "before" says how far their forward
 * ops are when the phase begins: s succeeded, f failed, c called without an
 * answer, - untouched.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_fixture.h"

#define NONE DTM_STATUS_NONE
#define PREP DTM_STATUS_PREPARED
#define SUBM DTM_STATUS_SUBMITTED
#define ABRT DTM_STATUS_ABORTING
#define SUCC DTM_STATUS_SUCCEED
#define FAIL DTM_STATUS_FAILED

#define SAGA DTM_TYPE_SAGA
#define MSG DTM_TYPE_MSG
#define TCC DTM_TYPE_TCC
#define XA DTM_TYPE_XA
#define WF DTM_TYPE_WORKFLOW
#define CLIENT DTM_FLAG_CLIENT_RUN
#define CONC DTM_FLAG_CONCURRENT

typedef struct Cell
{
	DtmTransType type;
	uint32_t flags;
	DtmStatus status;
	const char *before;
	const char *calls; /* each answered with success; + = at once */
	DtmStatus done;    /* after all of them */
	DtmStatus failure; /* after a FAILURE of the first call */
	DtmStatus limit;   /* after an error of it with a retry_limit of 0 */
	DtmStatus timeout; /* after the time-out passed */
	DtmStatus submit;  /* NONE: refused */
	DtmStatus abort;   /* NONE: refused */
} Cell;

static const Cell cells[] = {
	{SAGA, 0, PREP, "---", "", PREP, PREP, PREP, PREP, SUBM, NONE},
	{SAGA, 0, SUBM, "---", "action 1,action 2,action 3", SUCC, ABRT, ABRT, ABRT, SUBM, NONE},
	{SAGA, CONC, SUBM, "---", "action 1+action 2+action 3", SUCC, ABRT, ABRT, ABRT, SUBM, NONE},
	{SAGA, 0, SUBM, "s--", "action 2,action 3", SUCC, ABRT, ABRT, ABRT, SUBM, NONE},
	{SAGA, 0, ABRT, "sf-", "compensate 2,compensate 1", FAIL, ABRT, ABRT, ABRT, NONE, NONE},
	{SAGA, 0, ABRT, "-sc", "compensate 3,compensate 2", FAIL, ABRT, ABRT, ABRT, NONE, NONE},
	{SAGA, CONC, ABRT, "s-c", "compensate 3+compensate 1", FAIL, ABRT, ABRT, ABRT, NONE, NONE},
	{SAGA, 0, ABRT, "---", "", FAIL, FAIL, FAIL, FAIL, NONE, NONE},
	{SAGA, 0, SUCC, "sss", "", SUCC, SUCC, SUCC, SUCC, NONE, NONE},
	{SAGA, 0, FAIL, "sf-", "", FAIL, FAIL, FAIL, FAIL, NONE, NONE},

	/* the time-out of a prepared msg asks first; here the question is answered with success */
	{MSG, 0, PREP, "---", "msg", SUBM, FAIL, PREP, PREP, SUBM, FAIL},
	{MSG, 0, SUBM, "---", "action 1,action 2,action 3", SUCC, SUBM, SUBM, SUBM, SUBM, NONE},
	{MSG, CONC, SUBM, "---", "action 1+action 2+action 3", SUCC, SUBM, SUBM, SUBM, SUBM, NONE},
	{MSG, 0, SUBM, "s-s", "action 2", SUCC, SUBM, SUBM, SUBM, SUBM, NONE},
	{MSG, 0, SUCC, "sss", "", SUCC, SUCC, SUCC, SUCC, NONE, NONE},
	{MSG, 0, FAIL, "---", "", FAIL, FAIL, FAIL, FAIL, NONE, NONE},

	{TCC, 0, PREP, "---", "try 1,try 2,try 3", SUBM, ABRT, ABRT, ABRT, NONE, ABRT},
	{TCC, CONC, PREP, "---", "try 1+try 2+try 3", SUBM, ABRT, ABRT, ABRT, NONE, ABRT},
	{TCC, 0, SUBM, "sss", "confirm 3,confirm 2,confirm 1", SUCC, SUBM, SUBM, SUBM, SUBM, NONE},
	{TCC, CONC, SUBM, "sss", "confirm 3,confirm 2,confirm 1", SUCC, SUBM, SUBM, SUBM, SUBM, NONE},
	{TCC, 0, ABRT, "sf-", "cancel 2,cancel 1", FAIL, ABRT, ABRT, ABRT, NONE, ABRT},
	{TCC, CONC, ABRT, "c-s", "cancel 3,cancel 1", FAIL, ABRT, ABRT, ABRT, NONE, ABRT},
	{TCC, 0, SUCC, "sss", "", SUCC, SUCC, SUCC, SUCC, NONE, NONE},
	{TCC, 0, FAIL, "sf-", "", FAIL, FAIL, FAIL, FAIL, NONE, NONE},

	{TCC, CLIENT, PREP, "---", "", PREP, PREP, PREP, ABRT, SUBM, ABRT},
	{TCC, CLIENT, SUBM, "---", "confirm 3,confirm 2,confirm 1", SUCC, SUBM, SUBM, SUBM, SUBM, NONE},
	{TCC, CLIENT, ABRT, "---", "cancel 3,cancel 2,cancel 1", FAIL, ABRT, ABRT, ABRT, NONE, ABRT},
	{TCC, CLIENT, SUCC, "---", "", SUCC, SUCC, SUCC, SUCC, NONE, NONE},
	{TCC, CLIENT, FAIL, "---", "", FAIL, FAIL, FAIL, FAIL, NONE, NONE},

	{XA, 0, PREP, "---", "", PREP, PREP, PREP, ABRT, SUBM, ABRT},
	{XA, 0, SUBM, "---", "commit 1,commit 2,commit 3", SUCC, SUBM, SUBM, SUBM, SUBM, NONE},
	{XA, 0, ABRT, "---", "rollback 1,rollback 2,rollback 3", FAIL, ABRT, ABRT, ABRT, NONE, ABRT},
	{XA, 0, SUCC, "---", "", SUCC, SUCC, SUCC, SUCC, NONE, NONE},
	{XA, 0, FAIL, "---", "", FAIL, FAIL, FAIL, FAIL, NONE, NONE},

	/* what a branch answers while the function runs: test_workflow.c */
	{WF, 0, PREP, "sfs", "workflow", SUBM, ABRT, ABRT, ABRT, NONE, ABRT},
	{WF, 0, SUBM, "s-s", "confirm 3,confirm 1", SUCC, SUBM, SUBM, SUBM, SUBM, NONE},
	{WF, 0, ABRT, "sc-", "cancel 3,cancel 2,cancel 1", FAIL, ABRT, ABRT, ABRT, NONE, ABRT},
	{WF, 0, ABRT, "s-f", "cancel 2,cancel 1", FAIL, ABRT, ABRT, ABRT, NONE, ABRT},
	{WF, 0, SUCC, "s-s", "", SUCC, SUCC, SUCC, SUCC, NONE, NONE},
	{WF, 0, FAIL, "sc-", "", FAIL, FAIL, FAIL, FAIL, NONE, NONE},

	/* no answer decides anything: test_resume.c */
	{WF, CLIENT, PREP, "---", "workflow", PREP, PREP, PREP, PREP, NONE, NONE},
	{WF, CLIENT, SUBM, "---", "", SUBM, SUBM, SUBM, SUBM, NONE, NONE},
	{WF, CLIENT, ABRT, "---", "", ABRT, ABRT, ABRT, ABRT, NONE, NONE},
	{WF, CLIENT, SUCC, "---", "", SUCC, SUCC, SUCC, SUCC, NONE, NONE},
	{WF, CLIENT, FAIL, "---", "", FAIL, FAIL, FAIL, FAIL, NONE, NONE},
};

static void
prepare(Fixture *f, const Cell *cell)
{
	fixture_init(f, cell->type, cell->flags, 3);
	f->trans.status = cell->status;
	for (int i = 0; i < 3; i++)
	{
		DtmOpState *op = &f->branches[i].state[FWD];

		op->started = cell->before[i] != '-';
		if (cell->before[i] == 's')
			op->status = DTM_OP_SUCCEED;
		else if (cell->before[i] == 'f')
			op->status = DTM_OP_FAILED;
	}

	/* the question of a prepared msg is due only with its time-out */
	if (cell->type == DTM_TYPE_MSG && cell->status == DTM_STATUS_PREPARED)
	{
		f->trans.timeout_to_fail_ms = 1000;
		f->now += SECOND;
	}

	/* and the callback with the first interval */
	if (cell->type == WF && cell->flags == CLIENT)
		f->now += 10 * SECOND;
}

/* Let every call succeed, in the order of the plan, until the status changes. */
static void
check_success(const Cell *cell)
{
	Fixture f;
	char calls[512] = "";
	DtmCall queue[32];
	int n_queue = 0;

	prepare(&f, cell);
	fixture_wake(&f);
	for (int next = 0;; next++)
	{
		if (f.plan.n_calls > 0)
		{
			if (calls[0] != '\0')
				strcat(calls, ",");
			strcat(calls, fixture_calls(&f));
			memcpy(&queue[n_queue], f.plan.calls, f.plan.n_calls * sizeof(DtmCall));
			n_queue += (int) f.plan.n_calls;
		}
		if (next >= n_queue)
			break;
		f.now += 1000;
		fixture_result(&f, queue[next].branch, queue[next].role, DTM_OUTCOME_SUCCESS, "");
		CHECK_INT(f.rc, DTM_OK);
		if (f.trans.status != cell->status)
			break;
	}
	CHECK_STR(calls, cell->calls);
	CHECK_INT(f.trans.status, cell->done);
	fixture_free(&f);
}

/* One answer to the first call. */
static void
check_answer(const Cell *cell, DtmOutcome outcome, int32_t limit, DtmStatus expected)
{
	Fixture f;
	DtmCall call = {0};
	DtmOpState *op;

	prepare(&f, cell);
	f.trans.retry_limit = limit;
	fixture_wake(&f);
	if (f.plan.n_calls == 0)
	{
		CHECK_STR(cell->calls, "");
		CHECK_INT(f.trans.status, expected);
		fixture_free(&f);
		return;
	}
	call = f.plan.calls[0];
	f.now += 1000;
	fixture_result(&f, call.branch, call.role, outcome, "no stock");

	CHECK_INT(f.trans.status, expected);
	CHECK(f.plan.changed);
	CHECK_INT(f.plan.flush, expected != cell->status);
	op = dtm_trans_op(&f.trans, call.branch, call.role);
	if (expected == cell->status)
	{
		/* repeated: ongoing after the interval, errors and failures with up to 10 % more */
		CHECK_INT(op->status, DTM_OP_PREPARED);
		CHECK(op->next_at >= f.now + 10 * SECOND && op->next_at <= f.now + 11 * SECOND);
		if (outcome == DTM_OUTCOME_ONGOING)
			CHECK_INT(op->next_at, f.now + 10 * SECOND);
	}
	else
	{
		CHECK_INT(op->status, outcome == DTM_OUTCOME_FAILURE ? DTM_OP_FAILED : DTM_OP_PREPARED);
		CHECK(f.trans.reason.len > 0);
	}
	CHECK_TEXT(op->last_error, "no stock");
	fixture_free(&f);
}

static void
check_timeout(const Cell *cell)
{
	Fixture f;

	prepare(&f, cell);
	f.trans.timeout_to_fail_ms = 2000;
	f.now = FIXTURE_EPOCH + 2 * SECOND - 1;
	fixture_wake(&f);
	if (cell->timeout != cell->status && !dtm_status_is_final(cell->timeout))
	{
		CHECK_INT(f.trans.status, cell->status);
		CHECK_INT(f.plan.next_at, FIXTURE_EPOCH + 2 * SECOND);
	}
	f.now++;
	fixture_wake(&f);
	CHECK_INT(f.trans.status, cell->timeout);
	if (cell->timeout == DTM_STATUS_ABORTING && cell->status != DTM_STATUS_ABORTING)
		CHECK_TEXT(f.trans.reason, "Timeout after 2 seconds");
	else
		CHECK_TEXT(f.trans.reason, "");
	fixture_free(&f);
}

/* SUBMIT, ABORT, STOP and END, before anything was called. */
static void
check_request(const Cell *cell, DtmEventKind kind, DtmOutcome outcome, DtmStatus expected)
{
	DtmEvent event = {.kind = kind, .outcome = outcome, .reason = test_text("because")};
	Fixture f;

	prepare(&f, cell);

	/* so that the phases that follow do not run through at once */
	for (int i = 0; i < 3; i++)
		f.branches[i].state[UNDO].next_at = f.now + SECOND;
	fixture_handle(&f, &event);
	if (expected == DTM_STATUS_NONE)
	{
		CHECK_INT(f.rc, DTM_STATE);
		CHECK_INT(f.trans.status, cell->status);
		CHECK(!f.plan.changed && !f.plan.flush && f.plan.n_calls == 0);
		CHECK_INT(f.plan.next_at, DTM_TIME_NEVER);
	}
	else
	{
		CHECK_INT(f.rc, DTM_OK);

		/* a crash may have forgotten the call of a Try that needs no other */
		if (kind == DTM_EVENT_ABORT && cell->type == DTM_TYPE_TCC && cell->flags != CLIENT &&
			expected != cell->status)
		{
			CHECK(f.branches[0].state[FWD].started);
			CHECK_INT(f.branches[2].state[FWD].started, cell->flags == CONC);
		}
		CHECK_INT(f.trans.status, expected);
		CHECK_INT(f.plan.flush, expected != cell->status);
		if (expected == cell->status || kind == DTM_EVENT_SUBMIT)
			CHECK_TEXT(f.trans.reason, "");
		else
			CHECK_TEXT(f.trans.reason, "because");
	}
	CHECK_INT(f.plan.finished, dtm_status_is_final(f.trans.status));
	fixture_free(&f);
}

static void
check_op_exists(void)
{
	static const struct
	{
		DtmTransType type;
		uint32_t flags;
		bool exists[DTM_ROLES];
	} cases[] = {
		{SAGA, 0, {true, false, true}},     {MSG, 0, {true, false, false}},
		{TCC, 0, {true, true, true}},       {TCC, CLIENT, {false, true, true}},
		{XA, 0, {false, true, true}},       {WF, 0, {true, true, true}},
		{WF, CLIENT, {true, false, false}},
	};
	DtmBranch branch = {.op = {DTM_OP_ACTION, DTM_OP_CONFIRM, DTM_OP_CANCEL}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		DtmTrans trans = {.type = cases[i].type, .flags = cases[i].flags};
		DtmBranch none = {.op = {DTM_OP_NONE, DTM_OP_NONE, DTM_OP_NONE}};

		for (int role = 0; role < DTM_ROLES; role++)
		{
			CHECK_INT(dtm_engine_op_exists(&trans, &branch, role), cases[i].exists[role]);
			CHECK(!dtm_engine_op_exists(&trans, &none, role));
		}
	}
}

int
main(void)
{
	for (size_t i = 0; i < sizeof(cells) / sizeof(cells[0]); i++)
	{
		const Cell *cell = &cells[i];
		long long failed = test_failed;
		DtmStatus stop =
			cell->status == DTM_STATUS_SUCCEED ? DTM_STATUS_SUCCEED : DTM_STATUS_FAILED;
		bool ends = cell->type == WF && cell->flags == CLIENT && cell->status == PREP;

		check_success(cell);
		check_answer(cell, DTM_OUTCOME_FAILURE, -1, cell->failure);
		check_answer(cell, DTM_OUTCOME_ERROR, 0, cell->limit);

		/* a function that waits for something has not failed */
		check_answer(cell, DTM_OUTCOME_ONGOING, 0,
					 cell->type == WF && cell->status == PREP ? PREP : cell->limit);
		check_answer(cell, DTM_OUTCOME_ERROR, -1,
					 cell->calls[0] != '\0' ? cell->status : cell->done);
		check_timeout(cell);
		check_request(cell, DTM_EVENT_SUBMIT, DTM_OUTCOME_SUCCESS, cell->submit);
		check_request(cell, DTM_EVENT_ABORT, DTM_OUTCOME_SUCCESS, cell->abort);
		check_request(cell, DTM_EVENT_STOP, DTM_OUTCOME_SUCCESS, stop);
		check_request(cell, DTM_EVENT_END, DTM_OUTCOME_SUCCESS, ends ? SUCC : NONE);
		check_request(cell, DTM_EVENT_END, DTM_OUTCOME_FAILURE, ends ? FAIL : NONE);
		if (test_failed != failed)
			printf("... in %s, flags %u, %s, \"%s\"\n", dtm_type_name(cell->type),
				   (unsigned int) cell->flags, dtm_status_name(cell->status), cell->before);
	}
	check_op_exists();
	TEST_REPORT();
}
