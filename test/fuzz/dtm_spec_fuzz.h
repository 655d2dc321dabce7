/* -------------------------------------------------------------------------
 *
 * dtm_spec_fuzz.h
 *		Properties of every spec that was read, for fuzz_steps.c and
 *		fuzz_spec_unpack.c.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_SPEC_FUZZ_H
#define DTM_SPEC_FUZZ_H

#include "dtm_fuzz.h"
#include "dtm_spec.h"

static void
fuzz_check_headers(DtmText headers, DtmText whole)
{
	size_t offset = 0;
	size_t n = 0;
	DtmText name;
	DtmText value;

	HOLDS(fuzz_within(headers, whole));
	while (dtm_headers_next(headers, &offset, &name, &value))
	{
		HOLDS(fuzz_within(name, headers) && fuzz_within(value, headers) && name.len > 0);
		HOLDS(value.len == 0 || memchr(value.data, '\n', value.len) == NULL);
		n++;
	}
	HOLDS(offset == headers.len && n <= DTM_MAX_HEADERS);
}

/* Everything lies within the bytes, every index in range, and there is an order of the steps. */
static void
fuzz_check_spec(const DtmTrans *trans, DtmText packed)
{
	bool done[DTM_MAX_STEPS] = {false};
	bool moved = true;
	int n_done = 0;

	HOLDS(trans->n_branches <= DTM_MAX_STEPS);
	HOLDS(trans->start_at >= trans->created_at);
	HOLDS(trans->status != DTM_STATUS_NONE && !dtm_status_is_final(trans->status));
	HOLDS(fuzz_within(trans->query_url, packed) && fuzz_within(trans->search_path, packed));
	fuzz_check_headers(trans->headers, packed);
	for (int i = 0; i < trans->n_branches; i++)
	{
		const DtmBranch *branch = &trans->branches[i];

		if (dtm_trans_registers(trans))
			HOLDS(branch->branch_id.len >= 1 && branch->branch_id.len <= DTM_MAX_BRANCH_ID_LEN);
		else
			HOLDS(branch->branch_id.len >= 2 && branch->branch_id.len <= 9);
		HOLDS(fuzz_within(branch->topic, packed) &&
			  (branch->topic.len > 0) == (branch->subscriber > 0));
		HOLDS(fuzz_within(branch->name, packed) && branch->name.len <= DTM_MAX_NAME_LEN);
		HOLDS(fuzz_within(branch->payload, packed));
		HOLDS(branch->payload.len <= DTM_MAX_PAYLOAD_LEN);
		fuzz_check_headers(branch->headers, packed);
		for (int role = 0; role < DTM_ROLES; role++)
		{
			HOLDS(fuzz_within(branch->url[role], packed));
			HOLDS(branch->url[role].len <= DTM_MAX_URL_LEN);
			HOLDS(fuzz_within(branch->sql_name[role], packed));
			HOLDS(branch->op[role] <= DTM_OP_LAST);
		}
		for (int k = 0; k < branch->n_after; k++)
			HOLDS(branch->after[k] < trans->n_branches && branch->after[k] != i);
	}
	while (moved)
	{
		moved = false;
		for (int i = 0; i < trans->n_branches; i++)
		{
			bool ready = !done[i];

			for (int k = 0; ready && k < trans->branches[i].n_after; k++)
				ready = done[trans->branches[i].after[k]];
			if (ready)
			{
				done[i] = moved = true;
				n_done++;
			}
		}
	}
	HOLDS(n_done == trans->n_branches);
}

/* Packed again it gives the same bytes. */
static void
fuzz_check_repack(const DtmTrans *trans, FuzzArena *fuzz, const char *packed, size_t len)
{
	const char *again;
	size_t again_len;

	HOLDS(dtm_spec_pack(trans, &fuzz->arena, &again, &again_len) == DTM_OK);
	HOLDS(again_len == len && memcmp(again, packed, len) == 0);
}

#endif /* DTM_SPEC_FUZZ_H */
