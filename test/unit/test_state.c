/* -------------------------------------------------------------------------
 *
 * test_state.c
 *		The packed state: what goes in comes out, it is small, and nothing
 *		that is not ours is believed.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_state.h"
#include "dtm_test.h"

#define CREATED_AT INT64_C(800000000000000)
#define MAX_BRANCHES 4

static TestArena memory;

typedef struct Subject
{
	DtmTrans trans;
	DtmBranch branches[MAX_BRANCHES];
	DtmCallRecord log[DTM_MAX_CALL_LOG + 6];
} Subject;

static void
init(Subject *subject, uint16_t n)
{
	memset(subject, 0, sizeof(*subject));
	subject->trans.type = DTM_TYPE_SAGA;
	subject->trans.created_at = CREATED_AT;
	subject->trans.branches = subject->branches;
	subject->trans.n_branches = n;
	subject->trans.log = subject->log;
}

static void
check_op(const DtmOpState *actual, const DtmOpState *expected)
{
	CHECK_INT(actual->status, expected->status);
	CHECK_INT(actual->in_flight, false);
	CHECK_INT(actual->started, expected->started);
	CHECK_INT(actual->last_outcome, expected->last_outcome);
	CHECK_INT(actual->attempts, expected->attempts);
	CHECK_INT(actual->failures, expected->failures);
	CHECK_INT(actual->started_at, expected->started_at);
	CHECK_INT(actual->finished_at, expected->finished_at);
	CHECK_INT(actual->next_at, expected->next_at);
	CHECK_INT(actual->last_error.len, expected->last_error.len);
	CHECK(actual->last_error.len == 0 ||
		  memcmp(actual->last_error.data, expected->last_error.data, actual->last_error.len) == 0);
}

/* Pack, unpack into another one of the same shape, compare; the packed length. */
static size_t
check_round_trip(const Subject *subject)
{
	const DtmTrans *in = &subject->trans;
	size_t bound = dtm_state_bound(in);
	char *buffer = malloc(bound);
	size_t len = dtm_state_pack(in, buffer);
	char *exact = malloc(len);
	Subject other;
	DtmTrans *out = &other.trans;

	CHECK(len <= bound);
	memcpy(exact, buffer, len);
	init(&other, in->n_branches);
	memset(other.branches, 0x77, sizeof(other.branches)); /* what is left there must not show */
	CHECK_INT(dtm_state_unpack(exact, len, &memory.arena, out), DTM_OK);

	CHECK_INT(out->attempts, in->attempts);
	CHECK_INT(out->retries, in->retries);
	CHECK_INT(out->log_dropped, in->log_dropped);
	CHECK_INT(out->hurried_at, in->hurried_at);
	check_op(&out->query, &in->query);
	for (int i = 0; i < in->n_branches; i++)
		for (int role = 0; role < DTM_ROLES; role++)
			check_op(&out->branches[i].state[role], &in->branches[i].state[role]);
	if (CHECK_INT(out->n_log, in->n_log))
	{
		CHECK(out->log_size >= out->n_log && out->log_size <= DTM_MAX_CALL_LOG);
		for (int i = 0; i < in->n_log; i++)
		{
			CHECK_INT(out->log[i].branch, in->log[i].branch);
			CHECK_INT(out->log[i].role, in->log[i].role);
			CHECK_INT(out->log[i].outcome, in->log[i].outcome);
			CHECK_INT(out->log[i].started_at, in->log[i].started_at);
			CHECK_INT(out->log[i].took_us, in->log[i].took_us);
			CHECK_INT(out->log[i].reason.len, in->log[i].reason.len);
			if (out->log[i].reason.len == in->log[i].reason.len && in->log[i].reason.len > 0)
				CHECK(memcmp(out->log[i].reason.data, in->log[i].reason.data,
							 in->log[i].reason.len) == 0);
		}
	}
	free(buffer);
	free(exact);
	return len;
}

static void
record(Subject *subject, uint16_t branch, DtmRole role, DtmOutcome outcome, DtmTime at,
	   uint32_t took)
{
	DtmCallRecord call = {branch, (uint8_t) role, (uint8_t) outcome, at, took, {"", 0}};

	subject->log[subject->trans.n_log++] = call;
	subject->trans.attempts++;
}

static void
test_untouched(void)
{
	Subject subject;

	init(&subject, 3);
	CHECK_INT(check_round_trip(&subject), 8);
	init(&subject, 0);
	CHECK_INT(check_round_trip(&subject), 8);

	/* no bytes at all: nothing has happened yet */
	init(&subject, 2);
	subject.branches[1].state[2].attempts = 5;
	subject.trans.query.in_flight = true;
	subject.trans.attempts = 5;
	CHECK_INT(dtm_state_unpack(NULL, 0, &memory.arena, &subject.trans), DTM_OK);
	CHECK_INT(subject.branches[1].state[2].attempts, 0);
	CHECK_INT(subject.trans.query.in_flight, 0);
	CHECK_INT(subject.trans.attempts, 0);
}

static void
test_success_is_small(void)
{
	Subject subject;
	DtmTime now = CREATED_AT + 1500;

	/* three steps of two seconds each, which is slow */
	init(&subject, 3);
	for (uint16_t i = 0; i < 3; i++)
	{
		DtmOpState *op = &subject.branches[i].state[DTM_ROLE_FORWARD];

		op->status = DTM_OP_SUCCEED;
		op->started = true;
		op->attempts = 1;
		op->started_at = now;
		op->finished_at = now + 2000000;
		record(&subject, i, DTM_ROLE_FORWARD, DTM_OUTCOME_SUCCESS, now, 2000000);
		now += 2001000;
	}
	CHECK(check_round_trip(&subject) <= 70);

	/* branches that were not reached add nothing */
	subject.trans.n_branches = 2;
	subject.trans.n_log = 0;
	subject.trans.n_branches = MAX_BRANCHES;
	memset(&subject.branches[1], 0, 3 * sizeof(DtmBranch));
	CHECK(check_round_trip(&subject) <= 17);
}

/* The reason of each attempt; one that is repeated costs nothing. */
static void
test_reasons(void)
{
	static const char long_reason[] =
		"500: an answer that is as long as a reason in the log may be, one hundred and twenty "
		"bytes and not a single one of more..";
	Subject subject;
	size_t once;

	init(&subject, 2);
	record(&subject, 0, DTM_ROLE_FORWARD, DTM_OUTCOME_ERROR, CREATED_AT, 10);
	subject.log[0].reason.data = long_reason;
	subject.log[0].reason.len = DTM_MAX_LOG_REASON;
	once = check_round_trip(&subject);
	record(&subject, 0, DTM_ROLE_FORWARD, DTM_OUTCOME_ERROR, CREATED_AT + 1, 10);
	subject.log[1].reason = subject.log[0].reason;
	CHECK(check_round_trip(&subject) <= once + 8);
	record(&subject, 0, DTM_ROLE_FORWARD, DTM_OUTCOME_SUCCESS, CREATED_AT + 2, 10);
	record(&subject, 1, DTM_ROLE_FORWARD, DTM_OUTCOME_FAILURE, CREATED_AT + 3, 10);
	subject.log[3].reason.data = "409: no stock";
	subject.log[3].reason.len = 13;
	check_round_trip(&subject);
}

static void
test_everything(void)
{
	Subject subject;
	DtmOpState full = {.status = DTM_OP_FAILED,
					   .started = true,
					   .last_outcome = DTM_OUTCOME_ERROR,
					   .attempts = UINT32_MAX,
					   .failures = UINT32_MAX,
					   .started_at = CREATED_AT - 5000000,
					   .finished_at = CREATED_AT - 6000000, /* clocks are set back now and then */
					   .next_at = DTM_TIME_NEVER,
					   .last_error = {"500: broken", 11}};
	static const DtmTime times[] = {0, 1, -1, INT64_MAX, INT64_MIN, CREATED_AT, CREATED_AT + 1};
	char error[DTM_MAX_ERROR_LEN];

	init(&subject, MAX_BRANCHES);
	memset(error, 'e', sizeof(error));
	subject.trans.attempts = subject.trans.retries = subject.trans.log_dropped = UINT32_MAX;
	subject.trans.query = full;
	for (int i = 0; i < MAX_BRANCHES; i++)
		for (int role = 0; role < DTM_ROLES; role++)
			subject.branches[i].state[role] = full;
	subject.branches[1].state[1].last_error.data = error;
	subject.branches[1].state[1].last_error.len = sizeof(error);
	subject.branches[2].state[1].status = DTM_OP_SUCCEED;
	record(&subject, 3, DTM_ROLE_UNDO, DTM_OUTCOME_ERROR, CREATED_AT - 7, UINT32_MAX);
	record(&subject, DTM_BRANCH_TRANS, DTM_ROLE_FORWARD, DTM_OUTCOME_ONGOING, INT64_MAX, 0);
	record(&subject, 0, DTM_ROLE_CONFIRM, DTM_OUTCOME_FAILURE, INT64_MIN, 1);
	subject.trans.attempts = UINT32_MAX;
	subject.trans.hurried_at = CREATED_AT + 12345678;
	check_round_trip(&subject);

	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
		for (size_t k = 0; k < sizeof(times) / sizeof(times[0]); k++)
		{
			subject.branches[0].state[0].started_at = times[i];
			subject.branches[0].state[0].finished_at = times[k];
			subject.branches[0].state[0].next_at = times[i] ^ times[k];
			check_round_trip(&subject);
		}
}

/* Each field alone makes an op touched. */
static void
test_single_fields(void)
{
	for (int which = 0; which < 10; which++)
	{
		Subject subject;
		DtmOpState *op = &subject.branches[1].state[DTM_ROLE_UNDO];

		init(&subject, 2);
		switch (which)
		{
			case 0:
				op->status = DTM_OP_SUCCEED;
				break;
			case 1:
				op->started = true;
				break;
			case 2:
				op->last_outcome = DTM_OUTCOME_ONGOING;
				break;
			case 3:
				op->attempts = 1;
				break;
			case 4:
				op->failures = 1;
				break;
			case 5:
				op->started_at = 5;
				break;
			case 6:
				op->finished_at = CREATED_AT;
				break;
			case 7:
				op->next_at = CREATED_AT + 1;
				break;
			case 8:
				op->last_error = test_text("e");
				break;
			case 9:
				op->in_flight = true; /* but this one is never stored */
				break;
		}
		CHECK(which == 9 ? check_round_trip(&subject) == 8 : check_round_trip(&subject) > 8);
		subject.trans.query = *op;
		check_round_trip(&subject);
	}
}

static void
test_long_errors(void)
{
	Subject subject;
	char error[DTM_MAX_ERROR_LEN + 50];
	char *buffer;
	DtmText kept;
	size_t len;

	/* 3 bytes each: the bound falls inside of one */
	for (size_t i = 0; i + 2 < sizeof(error); i += 3)
		memcpy(error + i, "\xe2\x82\xac", 3);
	init(&subject, 1);
	subject.branches[0].state[0].last_error.data = error;
	subject.branches[0].state[0].last_error.len = sizeof(error);
	buffer = malloc(dtm_state_bound(&subject.trans));
	len = dtm_state_pack(&subject.trans, buffer);
	CHECK(len <= dtm_state_bound(&subject.trans));
	CHECK_INT(dtm_state_unpack(buffer, len, &memory.arena, &subject.trans), DTM_OK);
	kept = subject.branches[0].state[0].last_error;
	CHECK_INT(kept.len, DTM_MAX_ERROR_LEN / 3 * 3);
	CHECK(kept.data > buffer && kept.data + kept.len <= buffer + len);
	free(buffer);
}

static void
test_long_log(void)
{
	Subject subject;
	Subject other;
	char *buffer;
	size_t len;

	init(&subject, 1);
	for (int i = 0; i < DTM_MAX_CALL_LOG; i++)
		record(&subject, 0, DTM_ROLE_FORWARD, DTM_OUTCOME_ERROR, CREATED_AT + i, 7);
	check_round_trip(&subject);

	/* beyond the bound the newest stay */
	subject.trans.log_dropped = 3;
	for (int i = 0; i < 6; i++)
		record(&subject, 0, DTM_ROLE_FORWARD, DTM_OUTCOME_ERROR, CREATED_AT + 100 + i, 8);
	buffer = malloc(dtm_state_bound(&subject.trans));
	len = dtm_state_pack(&subject.trans, buffer);
	init(&other, 1);
	CHECK_INT(dtm_state_unpack(buffer, len, &memory.arena, &other.trans), DTM_OK);
	CHECK_INT(other.trans.log_dropped, 9);
	if (CHECK_INT(other.trans.n_log, DTM_MAX_CALL_LOG))
	{
		CHECK_INT(other.trans.log[0].started_at, CREATED_AT + 6);
		CHECK_INT(other.trans.log[63].started_at, CREATED_AT + 105);
	}
	free(buffer);
}

static void
test_damaged(void)
{
	Subject subject;
	char buffer[1000];
	size_t len;

	init(&subject, 3);
	subject.trans.query.started = true;
	subject.branches[2].state[0].attempts = 3;
	subject.branches[2].state[0].next_at = CREATED_AT + 9;
	subject.branches[2].state[0].last_error = test_text("500: x");
	record(&subject, 2, DTM_ROLE_FORWARD, DTM_OUTCOME_ERROR, CREATED_AT, 3);
	CHECK(dtm_state_bound(&subject.trans) <= sizeof(buffer));
	len = dtm_state_pack(&subject.trans, buffer);

	for (size_t n = 1; n <= len; n++)
	{
		char *copy = malloc(n);

		memcpy(copy, buffer, n);
		CHECK_INT(dtm_state_unpack(copy, n, &memory.arena, &subject.trans),
				  n < len ? DTM_INVALID : DTM_OK);
		free(copy);
	}
	for (size_t n = 0; n < len; n++)
		for (int bit = 0; bit < 8; bit++)
		{
			char *copy = malloc(len);
			DtmRc rc;

			memcpy(copy, buffer, len);
			copy[n] = (char) (copy[n] ^ (1 << bit));
			rc = dtm_state_unpack(copy, len, &memory.arena, &subject.trans);
			CHECK(rc == DTM_INVALID || (rc == DTM_OK && n > 0));
			free(copy);
		}

	/* a state of more branches than the spec has */
	subject.trans.n_branches = 2;
	CHECK_INT(dtm_state_unpack(buffer, len, &memory.arena, &subject.trans), DTM_INVALID);
	subject.trans.n_branches = 3;
	memory.fail_after = 0;
	CHECK_INT(dtm_state_unpack(buffer, len, &memory.arena, &subject.trans), DTM_NOMEM);
	memory.fail_after = -1;
}

int
main(void)
{
	test_arena_init(&memory);
	test_untouched();
	test_success_is_small();
	test_reasons();
	test_everything();
	test_single_fields();
	test_long_errors();
	test_long_log();
	test_damaged();
	test_arena_reset(&memory);
	TEST_REPORT();
}
