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

/*
 * In the current transaction, under the lock of the transaction's row.  The
 * same branch again changes nothing as long as it is prepared.  42704 when the
 * gid is gone, 55000 when it is not prepared any more, 23505 when the
 * branch_id is taken by another content, 54000 beyond DTM_MAX_STEPS branches
 * or DTM_MAX_SPEC_LEN bytes, XX001 damaged rows.
 */
extern void dtm_register_branch(const char *gid, int64 id, const char *packed, Size packed_len);

#endif /* DTM_REGISTER_H */
