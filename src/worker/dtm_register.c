/* -------------------------------------------------------------------------
 *
 * dtm_register.c
 *		Adding a branch to a tcc or xa that its client runs.
 *
 * The row of the transaction is locked first, so that a registration and the
 * time-out (or an abort) come one after the other: either the branch is known
 * to who rolls back, or it is refused, and its first phase must not be run.
 *
 * Runs in backends, or in an executor (dtm_autonomous.c).
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "dtm_arena.h"
#include "dtm_register.h"
#include "dtm_spec.h"
#include "dtm_store.h"

static void
unpack(const DtmFound *found, DtmTrans *trans)
{
	dtm_store_unpack(VARDATA_ANY(found->spec), VARSIZE_ANY_EXHDR(found->spec), NULL, 0,
					 found->created_at, trans);
}

/* True when it is there already, as it is. */
static bool
is_repeated(const DtmTrans *trans, const char *packed, Size packed_len)
{
	DtmArena arena = dtm_arena(CurrentMemoryContext);

	for (int i = 0; i < trans->n_branches; i++)
	{
		const DtmBranch *branch = &trans->branches[i];
		const char *known;
		size_t known_len;

		if (dtm_branch_pack(branch, &arena, &known, &known_len) != DTM_OK)
			ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
		if (known_len == packed_len && memcmp(known, packed, packed_len) == 0)
			return true;
	}
	return false;
}

/* The id that a packed branch has: it is read as the only one of this spec. */
static DtmText
packed_id(const DtmFound *found, const char *packed, Size packed_len)
{
	DtmArena arena = dtm_arena(CurrentMemoryContext);
	DtmTrans trans;
	const char *bare;
	size_t bare_len;
	char *whole;

	unpack(found, &trans);
	trans.n_branches = 0;
	if (dtm_spec_pack(&trans, &arena, &bare, &bare_len) != DTM_OK)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	whole = palloc(bare_len + packed_len);
	memcpy(whole, bare, bare_len);
	memcpy(whole + bare_len, packed, packed_len);
	if (dtm_spec_unpack(whole, bare_len + packed_len, &arena, &trans) != DTM_OK ||
		trans.n_branches != 1)
		elog(ERROR, "the packed branch cannot be read back");
	return trans.branches[0].branch_id;
}

static bool
id_is_taken(const DtmTrans *trans, DtmText id)
{
	for (int i = 0; i < trans->n_branches; i++)
	{
		DtmText taken = trans->branches[i].branch_id;

		if (taken.len == id.len && memcmp(taken.data, id.data, id.len) == 0)
			return true;
	}
	return false;
}

DtmRegistered
dtm_register_try(const char *gid, int64 id, const char *packed, Size packed_len, DtmFound *found)
{
	DtmTrans trans;

	/* what was there before we had the lock may be old: read it after */
	memset(found, 0, sizeof(*found));
	(void) dtm_store_lock(id, found);
	if (!dtm_store_find(gid, true, found) || found->id != id)
		return DTM_REGISTER_GONE;
	unpack(found, &trans);

	/* also when it is there already: who asks again is about to call the first phase */
	if (found->status != DTM_STATUS_PREPARED)
		return DTM_REGISTER_NOT_PREPARED;
	if (is_repeated(&trans, packed, packed_len))
		return DTM_REGISTER_REPEATED;
	if (trans.n_branches >= DTM_MAX_STEPS)
		return DTM_REGISTER_TOO_MANY;
	if (VARSIZE_ANY_EXHDR(found->spec) + packed_len > DTM_MAX_SPEC_LEN)
		return DTM_REGISTER_TOO_LARGE;
	if (id_is_taken(&trans, packed_id(found, packed, packed_len)))
		return DTM_REGISTER_TAKEN;
	dtm_store_register(id, trans.n_branches, packed, packed_len, NULL);
	return DTM_REGISTER_DONE;
}

void
dtm_register_branch(const char *gid, int64 id, const char *packed, Size packed_len)
{
	DtmFound found;
	DtmText branch_id;

	switch (dtm_register_try(gid, id, packed, packed_len, &found))
	{
		case DTM_REGISTER_DONE:
		case DTM_REGISTER_REPEATED:
			break;
		case DTM_REGISTER_GONE:
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("transaction \"%s\" does not exist", gid)));
			break;
		case DTM_REGISTER_NOT_PREPARED:
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("%s transaction \"%s\" takes no more branches: its status is \"%s\"",
							dtm_type_name(found.type), gid, dtm_status_name(found.status)),
					 errhint("Do not call the first phase of this branch.")));
			break;
		case DTM_REGISTER_TOO_MANY:
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("transaction \"%s\" has %d branches already", gid, DTM_MAX_STEPS)));
			break;
		case DTM_REGISTER_TOO_LARGE:
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("transaction \"%s\" would be larger than %d bytes with this branch",
							gid, DTM_MAX_SPEC_LEN),
					 errhint("Send large data by reference, e.g. by a key.")));
			break;
		case DTM_REGISTER_TAKEN:
			branch_id = packed_id(&found, packed, packed_len);
			ereport(ERROR,
					(errcode(ERRCODE_UNIQUE_VIOLATION),
					 errmsg("branch_id \"%.*s\" of transaction \"%s\" is taken by another branch",
							(int) branch_id.len, branch_id.data, gid),
					 errhint("Registering the same branch again has no effect; another one needs "
							 "another branch_id.")));
			break;
	}
}
