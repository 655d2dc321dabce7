/* -------------------------------------------------------------------------
 *
 * fuzz_steps.c
 *		The spec builder behind its jansson front-end; input: a JSON text, read
 *		as the steps of each type that has some.
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

/* With subscribers it asks for the same as without them. */
static void
try_topics(DtmSpecBuilder *builder, FuzzArena *fuzz, const char *asked, size_t asked_len)
{
	int n_steps = dtm_spec_step_count(builder);
	int n_topics = 0;
	const char *packed;
	size_t len;
	DtmTrans trans;

	for (int i = 0; i < n_steps; i++)
	{
		DtmText topic = dtm_spec_step_topic(builder, i);

		if (topic.len == 0)
			continue;
		HOLDS(dtm_topic_check(topic.data, topic.len) == NULL);
		for (int k = 0; k <= i % 3; k++)
			HOLDS(dtm_spec_step_subscriber(builder, i, "http://a/", 9));
		n_topics++;
	}
	if (n_topics == 0 || !dtm_spec_expand(builder) || !dtm_spec_finish(builder, &packed, &len))
		return;
	trans.created_at = 1000;
	HOLDS(dtm_spec_unpack(packed, len, &fuzz->arena, &trans) == DTM_OK);
	HOLDS(trans.n_branches >= n_steps);
	fuzz_check_spec(&trans, (DtmText){packed, (uint32_t) len});
	HOLDS(dtm_spec_step_number(builder, trans.n_branches - 1) == n_steps - 1);
	HOLDS(dtm_spec_pack_asked(&trans, &fuzz->arena, &packed, &len) == DTM_OK);
	HOLDS(len == asked_len && memcmp(packed, asked, len) == 0);
}

static void
try_type(DtmTransType type, const uint8_t *data, size_t size)
{
	FuzzArena fuzz;
	DtmSpecError error;
	DtmSpecBuilder *builder;
	uint32_t flags = 0;
	const char *packed;
	size_t len;

	fuzz_arena_init(&fuzz);
	builder = dtm_spec_begin(&fuzz.arena, type, &error);
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
		HOLDS(trans.type == type);
		for (int i = 0; i < trans.n_branches; i++)
		{
			for (int role = 0; role < DTM_ROLES; role++)
			{
				DtmText url = dtm_spec_step_url(builder, i, (DtmRole) role);
				DtmText stored = trans.branches[i].url[role];

				HOLDS(stored.len == url.len && memcmp(stored.data, url.data, url.len) == 0);
				HOLDS(url.len == 0 || dtm_spec_role_key(builder, (DtmRole) role) != NULL);
			}
		}
		fuzz_check_spec(&trans, (DtmText){packed, (uint32_t) len});
		fuzz_check_repack(&trans, &fuzz, packed, len);
		try_topics(builder, &fuzz, packed, len);
	}
	fuzz_arena_free(&fuzz);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	try_type(DTM_TYPE_SAGA, data, size);
	try_type(DTM_TYPE_MSG, data, size);
	try_type(DTM_TYPE_TCC, data, size);
	return 0;
}
