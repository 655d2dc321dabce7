/* -------------------------------------------------------------------------
 *
 * fuzz_state_unpack.c
 *		dtm_state_unpack; input: a number of branches, bytes that claim to be
 *		their state.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_fuzz.h"
#include "dtm_state.h"

#define MAX_BRANCHES 6

static void
init(DtmTrans *trans, DtmBranch *branches, uint16_t n, unsigned memos)
{
	memset(trans, 0, sizeof(*trans));
	memset(branches, 0x55, MAX_BRANCHES * sizeof(*branches));
	trans->created_at = INT64_C(800000000000000);
	trans->branches = branches;
	trans->n_branches = n;
	for (int i = 0; i < MAX_BRANCHES; i++)
	{
		branches[i].kind = memos & (1U << i) ? DTM_STEP_MEMO_FAILED : DTM_STEP_CALL;
		branches[i].due_at = trans->created_at + i;
	}
}

static void
check_op(const DtmOpState *op, DtmText packed)
{
	HOLDS(op->status <= DTM_OP_FAILED && op->last_outcome <= DTM_OUTCOME_ERROR);
	HOLDS(!op->in_flight);
	HOLDS(fuzz_within(op->last_error, packed) && op->last_error.len <= DTM_MAX_ERROR_LEN);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FuzzArena fuzz;
	DtmTrans trans;
	DtmTrans again;
	DtmBranch branches[2][MAX_BRANCHES];
	char *copy;
	char *packed[2];
	size_t len[2];

	if (size == 0)
		return 0;
	init(&trans, branches[0], data[0] % (MAX_BRANCHES + 1), data[0] / (MAX_BRANCHES + 1));
	init(&again, branches[1], trans.n_branches, data[0] / (MAX_BRANCHES + 1));
	data++;
	size--;
	copy = malloc(size > 0 ? size : 1);
	memcpy(copy, data, size);
	fuzz_arena_init(&fuzz);
	if (dtm_state_unpack(copy, size, &fuzz.arena, &trans) == DTM_OK)
	{
		DtmText whole = {copy, (uint32_t) size};

		check_op(&trans.query, whole);
		for (int i = 0; i < trans.n_branches; i++)
			for (int role = 0; role < DTM_ROLES; role++)
				check_op(&trans.branches[i].state[role], whole);
		HOLDS(trans.n_log <= DTM_MAX_CALL_LOG && trans.n_log <= trans.log_size);
		for (int i = 0; i < trans.n_log; i++)
		{
			HOLDS(trans.log[i].branch < trans.n_branches ||
				  trans.log[i].branch == DTM_BRANCH_TRANS);
			HOLDS(trans.log[i].role < DTM_ROLES);
		}

		/* our own bytes for it are read back, and written again, to the same */
		packed[0] = malloc(dtm_state_bound(&trans));
		len[0] = dtm_state_pack(&trans, packed[0]);
		HOLDS(len[0] <= dtm_state_bound(&trans));
		HOLDS(dtm_state_unpack(packed[0], len[0], &fuzz.arena, &again) == DTM_OK);
		packed[1] = malloc(dtm_state_bound(&again));
		len[1] = dtm_state_pack(&again, packed[1]);
		HOLDS(len[0] == len[1] && memcmp(packed[0], packed[1], len[0]) == 0);
		HOLDS(again.attempts == trans.attempts && again.n_log == trans.n_log);
		free(packed[0]);
		free(packed[1]);
	}
	fuzz_arena_free(&fuzz);
	free(copy);
	return 0;
}
