/* -------------------------------------------------------------------------
 *
 * fuzz_spec_unpack.c
 *		dtm_spec_unpack; input: bytes that claim to be a spec.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_fuzz.h"
#include "dtm_spec_fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FuzzArena fuzz;
	char *copy = malloc(size > 0 ? size : 1);
	DtmTrans trans;
	DtmRc rc;

	memcpy(copy, data, size);
	fuzz_arena_init(&fuzz);
	trans.created_at = 1000;
	rc = dtm_spec_unpack(copy, size, &fuzz.arena, &trans);
	HOLDS(rc == DTM_OK || rc == DTM_INVALID);

	/* memory is bounded by the input, not by what it claims */
	HOLDS(fuzz.bytes <= size * (sizeof(DtmBranch) + 16));
	if (rc == DTM_OK)
	{
		const char *packed;
		size_t len;
		DtmTrans again;

		fuzz_check_spec(&trans, (DtmText){copy, (uint32_t) size});

		/* our own bytes for it are read back to the same */
		HOLDS(dtm_spec_pack(&trans, &fuzz.arena, &packed, &len) == DTM_OK);
		HOLDS(len <= size);
		again.created_at = 1000;
		HOLDS(dtm_spec_unpack(packed, len, &fuzz.arena, &again) == DTM_OK);
		HOLDS(again.type == trans.type && again.flags == trans.flags);
		HOLDS(again.start_at == trans.start_at && again.n_branches == trans.n_branches);
		fuzz_check_repack(&again, &fuzz, packed, len);
	}
	fuzz_arena_free(&fuzz);
	free(copy);
	return 0;
}
