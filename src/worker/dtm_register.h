/* -------------------------------------------------------------------------
 *
 * dtm_register.h
 *		Adding a branch to a tcc or xa that its client runs.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_REGISTER_H
#define DTM_REGISTER_H

#include "postgres.h"

#include "dtm_store.h"

/*
 * In the current transaction, under the lock of the transaction's row.  The
 * same branch again changes nothing as long as it is prepared.  42704 when the
 * gid is gone, 55000 when it is not prepared any more, 23505 when the
 * branch_id is taken by another content, 54000 beyond DTM_MAX_STEPS branches
 * or DTM_MAX_SPEC_LEN bytes, XX001 damaged rows.
 */
extern void dtm_register_branch(const char *gid, int64 id, const char *packed, Size packed_len);

typedef enum DtmRegistered
{
	DTM_REGISTER_DONE,
	DTM_REGISTER_REPEATED,     /* the same branch is there: nothing has changed */
	DTM_REGISTER_TAKEN,        /* another branch has this branch_id */
	DTM_REGISTER_GONE,         /* no such transaction */
	DTM_REGISTER_NOT_PREPARED, /* ... any more */
	DTM_REGISTER_TOO_MANY,
	DTM_REGISTER_TOO_LARGE
} DtmRegistered;

/* Likewise, but what is wrong is the result; *found: the transaction under its lock. */
extern DtmRegistered
dtm_register_try(const char *gid, int64 id, const char *packed, Size packed_len, DtmFound *found);

#endif /* DTM_REGISTER_H */
