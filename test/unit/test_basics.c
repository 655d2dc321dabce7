/* -------------------------------------------------------------------------
 *
 * test_basics.c
 *		Text forms, the backoff, the barrier's decision.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_backoff.h"
#include "dtm_barrier.h"
#include "dtm_test.h"

static void
test_names(void)
{
	static const char *const ops[] = {NULL,     "action", "compensate", "try", "confirm",
									  "cancel", "commit", "rollback",   "msg", "workflow",
									  "sleep",  "await",  "memo"};
	static const char *const types[] = {NULL, "saga", "msg", "tcc", "xa", "workflow"};
	static const char *const statuses[] = {NULL,       "prepared", "submitted",
										   "aborting", "succeed",  "failed"};

	for (int i = 0; i <= DTM_OP_LAST; i++)
	{
		CHECK_STR(dtm_op_name((DtmOp) i), ops[i]);
		if (i > 0)
			CHECK_INT(dtm_op_from_name(ops[i], strlen(ops[i])), i);
	}
	for (int i = 0; i <= DTM_TYPE_LAST; i++)
	{
		CHECK_STR(dtm_type_name((DtmTransType) i), types[i]);
		if (i > 0)
			CHECK_INT(dtm_type_from_name(types[i], strlen(types[i])), i);
	}
	for (int i = 0; i <= DTM_STATUS_LAST; i++)
		CHECK_STR(dtm_status_name((DtmStatus) i), statuses[i]);

	CHECK_STR(dtm_op_name((DtmOp) 99), NULL);
	CHECK_STR(dtm_type_name((DtmTransType) 99), NULL);
	CHECK_STR(dtm_status_name((DtmStatus) 99), NULL);
	CHECK_STR(dtm_op_status_name(DTM_OP_PREPARED), "prepared");
	CHECK_STR(dtm_op_status_name(DTM_OP_SUCCEED), "succeed");
	CHECK_STR(dtm_op_status_name(DTM_OP_FAILED), "failed");
	CHECK_STR(dtm_op_status_name((DtmOpStatus) 3), NULL);
	CHECK_STR(dtm_outcome_name(DTM_OUTCOME_SUCCESS), "success");
	CHECK_STR(dtm_outcome_name(DTM_OUTCOME_FAILURE), "failure");
	CHECK_STR(dtm_outcome_name(DTM_OUTCOME_ONGOING), "ongoing");
	CHECK_STR(dtm_outcome_name(DTM_OUTCOME_ERROR), "error");
	CHECK_STR(dtm_outcome_name((DtmOutcome) 4), NULL);

	/* the length counts, not a terminator */
	CHECK_INT(dtm_op_from_name("tryst", 3), DTM_OP_TRY);
	CHECK_INT(dtm_op_from_name("tryst", 5), DTM_OP_NONE);
	CHECK_INT(dtm_op_from_name("", 0), DTM_OP_NONE);
	CHECK_INT(dtm_type_from_name("SAGA", 4), 0);
}

static void
test_backoff(void)
{
	int64_t expected = 10000;
	int64_t least = INT64_MAX;
	int64_t most = 0;

	/* doubled up to the maximum, jitter at most a tenth */
	for (uint32_t failures = 1; failures < 200; failures++)
	{
		int64_t wait = dtm_backoff_ms(10000, 600000, failures, failures * 7);

		CHECK(wait >= expected && wait <= expected + expected / 10);
		expected = expected * 2 > 600000 ? 600000 : expected * 2;
	}

	CHECK_INT(dtm_backoff_ms(10000, 600000, 3, 5), dtm_backoff_ms(10000, 600000, 3, 5));
	for (uint64_t seed = 0; seed < 1000; seed++)
	{
		int64_t wait = dtm_backoff_ms(1000, 1000, 1, seed);

		least = wait < least ? wait : least;
		most = wait > most ? wait : most;
	}
	CHECK(least < 1010 && most > 1090 && most <= 1100);

	/* an interval above the maximum is what its user asked for */
	CHECK(dtm_backoff_ms(3600000, 600000, 9, 1) >= 3600000);
	CHECK(dtm_backoff_ms(3600000, 600000, 9, 1) <= 3960000);

	/* no overflow at the ends */
	CHECK(dtm_backoff_ms(INT32_MAX, INT32_MAX, UINT32_MAX, UINT64_MAX) >= INT32_MAX);
	CHECK(dtm_backoff_ms(1, INT32_MAX, UINT32_MAX, 0) >= INT32_MAX);
	CHECK_INT(dtm_backoff_ms(1, 1, 0, 0), 1);
	CHECK(dtm_backoff_ms(2000, 60000, 0, 3) <= 2200);
}

/* The table of the protocol: op, rows of the two inserts, decision. */
static void
test_barrier(void)
{
	static const struct
	{
		const char *op;
		int origin_rows;
		int current_rows;
		DtmBarrierDecision decision;
	} cases[] = {
		{"action", 0, 1, DTM_BARRIER_RUN},      {"action", 0, 0, DTM_BARRIER_SKIP},
		{"try", 0, 1, DTM_BARRIER_RUN},         {"try", 0, 0, DTM_BARRIER_SKIP},
		{"confirm", 0, 1, DTM_BARRIER_RUN},     {"confirm", 0, 0, DTM_BARRIER_SKIP},
		{"commit", 0, 1, DTM_BARRIER_RUN},      {"commit", 0, 0, DTM_BARRIER_SKIP},
		{"compensate", 0, 1, DTM_BARRIER_RUN},  {"compensate", 0, 0, DTM_BARRIER_SKIP},
		{"compensate", 1, 1, DTM_BARRIER_SKIP}, {"compensate", 1, 0, DTM_BARRIER_SKIP},
		{"cancel", 0, 1, DTM_BARRIER_RUN},      {"cancel", 0, 0, DTM_BARRIER_SKIP},
		{"cancel", 1, 1, DTM_BARRIER_SKIP},     {"rollback", 0, 1, DTM_BARRIER_RUN},
		{"rollback", 0, 0, DTM_BARRIER_SKIP},   {"rollback", 1, 1, DTM_BARRIER_SKIP},
		{"msg", 0, 1, DTM_BARRIER_RUN},         {"msg", 0, 0, DTM_BARRIER_DUPLICATED},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		CHECK_INT(dtm_barrier_decide(cases[i].op, cases[i].origin_rows, cases[i].current_rows),
				  cases[i].decision);

	CHECK_STR(dtm_barrier_origin("cancel"), "try");
	CHECK_STR(dtm_barrier_origin("compensate"), "action");
	CHECK_STR(dtm_barrier_origin("rollback"), "action");
	CHECK_STR(dtm_barrier_origin("commit"), NULL);
	CHECK_STR(dtm_barrier_origin("msg"), NULL);
	CHECK_STR(dtm_barrier_origin(""), NULL);
}

int
main(void)
{
	test_names();
	test_backoff();
	test_barrier();
	TEST_REPORT();
}
