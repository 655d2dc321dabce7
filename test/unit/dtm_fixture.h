/* -------------------------------------------------------------------------
 *
 * dtm_fixture.h
 *		A transaction to try the engine on, built without spec or storage.
 *
 * Used by test_engine.c, test_modes.c and (through dtm_world.h) by
 * test_order.c and test_histories.c.  Not here: any expectation.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_FIXTURE_H
#define DTM_FIXTURE_H

#include "dtm_engine.h"
#include "dtm_test.h"

#define FIXTURE_BRANCHES 8

#define SECOND INT64_C(1000000)

/* An arbitrary moment at which every fixture is created. */
#define FIXTURE_EPOCH (INT64_C(800000000) * SECOND)

typedef struct Fixture
{
	TestArena memory;
	DtmTrans trans;
	DtmBranch branches[FIXTURE_BRANCHES];
	uint16_t after[FIXTURE_BRANCHES][FIXTURE_BRANCHES];
	DtmEngineParams params;
	DtmTime now;
	DtmPlan plan; /* of the last event */
	DtmRc rc;
} Fixture;

/* Roles in short, for the tables of the tests. */
#define FWD DTM_ROLE_FORWARD
#define CONF DTM_ROLE_CONFIRM
#define UNDO DTM_ROLE_UNDO

static inline bool
fixture_client_run(const DtmTrans *trans)
{
	return trans->type == DTM_TYPE_XA ||
		(trans->type == DTM_TYPE_TCC && (trans->flags & DTM_FLAG_CLIENT_RUN));
}

/* The ops that a submit of this mode gives to a branch. */
static inline void
fixture_branch_ops(DtmTransType type, uint32_t flags, uint8_t op[DTM_ROLES])
{
	static const uint8_t ops[DTM_TYPE_LAST + 1][DTM_ROLES] = {
		[DTM_TYPE_SAGA] = {DTM_OP_ACTION, DTM_OP_NONE, DTM_OP_COMPENSATE},
		[DTM_TYPE_MSG] = {DTM_OP_ACTION, DTM_OP_NONE, DTM_OP_NONE},
		[DTM_TYPE_TCC] = {DTM_OP_TRY, DTM_OP_CONFIRM, DTM_OP_CANCEL},
		[DTM_TYPE_XA] = {DTM_OP_NONE, DTM_OP_COMMIT, DTM_OP_ROLLBACK},
		[DTM_TYPE_WORKFLOW] = {DTM_OP_ACTION, DTM_OP_CONFIRM, DTM_OP_CANCEL},
	};

	memcpy(op, ops[type], DTM_ROLES);
	if (type == DTM_TYPE_TCC && (flags & DTM_FLAG_CLIENT_RUN))
		op[FWD] = DTM_OP_NONE;
	if (type == DTM_TYPE_WORKFLOW && (flags & DTM_FLAG_CLIENT_RUN))
	{
		op[FWD] = DTM_OP_MEMO;
		op[CONF] = op[UNDO] = DTM_OP_NONE;
	}
}

static inline DtmStatus
fixture_first_status(DtmTransType type)
{
	return type == DTM_TYPE_SAGA ? DTM_STATUS_SUBMITTED : DTM_STATUS_PREPARED;
}

/* Fill the spec and the untouched state; branches and after are the caller's arrays. */
static inline void
fixture_fill(DtmTrans *trans, DtmBranch *branches, DtmTransType type, uint32_t flags, uint16_t n)
{
	static const char *const urls[DTM_ROLES][FIXTURE_BRANCHES] = {
		{"http://a/1", "http://a/2", "http://a/3", "http://a/4", "http://a/5", "http://a/6",
		 "http://a/7", "http://a/8"},
		{"http://b/1", "http://b/2", "http://b/3", "http://b/4", "http://b/5", "http://b/6",
		 "http://b/7", "http://b/8"},
		{"http://c/1", "http://c/2", "http://c/3", "http://c/4", "http://c/5", "http://c/6",
		 "http://c/7", "http://c/8"},
	};

	memset(trans, 0, sizeof(*trans));
	trans->type = type;
	trans->flags = flags;
	trans->created_at = FIXTURE_EPOCH;
	trans->start_at = FIXTURE_EPOCH;
	trans->retry_limit = -1;
	trans->query_url = test_text("http://q/0");
	trans->n_branches = n;
	trans->branches = branches;
	trans->status = fixture_first_status(type);
	memset(branches, 0, n * sizeof(DtmBranch));
	for (uint16_t i = 0; i < n; i++)
	{
		branches[i].retry_limit = -1;
		fixture_branch_ops(type, flags, branches[i].op);
		for (int role = 0; role < DTM_ROLES; role++)
			branches[i].url[role] = test_text(urls[role][i]);
	}
}

static inline void TEST_UNUSED
fixture_init(Fixture *f, DtmTransType type, uint32_t flags, uint16_t n)
{
	memset(f, 0, sizeof(*f));
	test_arena_init(&f->memory);
	fixture_fill(&f->trans, f->branches, type, flags, n);
	f->params.retry_interval_ms = 10000;
	f->params.retry_max_interval_ms = 600000;
	f->params.jitter_seed = 42;
	f->now = FIXTURE_EPOCH;
}

static inline void TEST_UNUSED
fixture_free(Fixture *f)
{
	test_arena_reset(&f->memory);
}

/* "after" of one step, as a list ended by -1. */
static inline void TEST_UNUSED
fixture_after(Fixture *f, uint16_t branch, const int *after)
{
	uint16_t n = 0;

	while (after[n] >= 0)
	{
		f->after[branch][n] = (uint16_t) after[n];
		n++;
	}
	f->branches[branch].after = f->after[branch];
	f->branches[branch].n_after = n;
}

static inline void TEST_UNUSED
fixture_handle(Fixture *f, const DtmEvent *event)
{
	f->rc = dtm_engine_handle(&f->trans, event, f->now, &f->params, &f->memory.arena, &f->plan);
}

static inline void TEST_UNUSED
fixture_event(Fixture *f, DtmEventKind kind, const char *reason)
{
	DtmEvent event = {.kind = kind, .reason = test_text(reason)};

	fixture_handle(f, &event);
}

static inline void TEST_UNUSED
fixture_wake(Fixture *f)
{
	fixture_event(f, DTM_EVENT_WAKE, "");
}

/* The end of a call, a millisecond after it began; its text serves as reason and body. */
static inline void TEST_UNUSED
fixture_result(Fixture *f, uint16_t branch, uint8_t role, DtmOutcome outcome, const char *text)
{
	DtmEvent event = {
		.kind = DTM_EVENT_RESULT,
		.branch = branch,
		.role = role,
		.outcome = outcome,
		.started_at = f->now - 1000,
		.reason = test_text(text),
		.body = test_text(text),
	};

	fixture_handle(f, &event);
}

/*
 * The plan's calls in words: "action 1+action 2", "query", or "" for none.
 * The buffer is static.
 */
static inline const char *TEST_UNUSED
fixture_calls(const Fixture *f)
{
	static char text[512];
	size_t len = 0;

	text[0] = '\0';
	for (uint32_t i = 0; i < f->plan.n_calls; i++)
	{
		const DtmCall *call = &f->plan.calls[i];

		len += (size_t) snprintf(text + len, sizeof(text) - len, "%s%s", i > 0 ? "+" : "",
								 dtm_op_name(call->op));
		if (call->branch != DTM_BRANCH_TRANS)
			len += (size_t) snprintf(text + len, sizeof(text) - len, " %d", call->branch + 1);
	}
	return text;
}

#endif /* DTM_FIXTURE_H */
