/* -------------------------------------------------------------------------
 *
 * fuzz_steps.c
 *		The spec builder behind its jansson front-end; input: a JSON text.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_fuzz.h"
#include "dtm_spec_fuzz.h"
#include "dtm_steps_json.h"

static void
check_error(const DtmSpecBuilder *builder)
{
	const DtmSpecError *error = dtm_spec_error(builder);

	HOLDS(error->code != DTM_SPEC_OK);
	HOLDS(error->message[0] != '\0' && strlen(error->message) < sizeof(error->message));
	HOLDS(strlen(error->hint) < sizeof(error->hint));
	HOLDS(strlen(error->field) < sizeof(error->field));
	HOLDS(error->step >= -1 && error->step < DTM_MAX_STEPS + 1);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FuzzArena fuzz;
	DtmSpecError error;
	DtmSpecBuilder *builder;
	uint32_t flags = 0;
	const char *packed;
	size_t len;

	fuzz_arena_init(&fuzz);
	builder = dtm_spec_begin(&fuzz.arena, DTM_TYPE_SAGA, &error);
	HOLDS(builder != NULL);
	if (!dtm_steps_json(builder, (const char *) data, size, &flags) ||
		!dtm_spec_finish(builder, &packed, &len))
		check_error(builder);
	else
	{
		DtmTrans trans;

		trans.created_at = 1000;
		HOLDS(dtm_spec_unpack(packed, len, &fuzz.arena, &trans) == DTM_OK);
		HOLDS(trans.n_branches == dtm_spec_step_count(builder));
		HOLDS(trans.flags == flags);
		for (int i = 0; i < trans.n_branches; i++)
		{
			DtmText url = dtm_spec_step_url(builder, i, DTM_ROLE_UNDO);

			HOLDS(trans.branches[i].url[DTM_ROLE_UNDO].len == url.len);
			HOLDS(memcmp(trans.branches[i].url[DTM_ROLE_UNDO].data, url.data, url.len) == 0);
		}
		fuzz_check_spec(&trans, (DtmText){packed, (uint32_t) len});
		fuzz_check_repack(&trans, &fuzz, packed, len);
	}
	fuzz_arena_free(&fuzz);
	return 0;
}
