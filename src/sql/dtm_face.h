/* -------------------------------------------------------------------------
 *
 * dtm_face.h
 *		Transactions as DTM's own tables would show them: what the views
 *		dtm.trans_global and dtm.trans_branch_op and the HTTP API share.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_FACE_H
#define DTM_FACE_H

#include "postgres.h"

#include "utils/jsonb.h"

#include "dtm_api.h"
#include "dtm_trans.h"

/* The number of an op's row is that of its transaction times this, and its place in it. */
#define DTM_FACE_OPS 4096

/*
 * Turn what the packed columns say (in the database's encoding) into what is
 * shown: UTF-8 throughout.  Unless mine, for somebody who may look but is no
 * member of the role that submitted it: header values are "***", and payloads
 * and the input of a workflow are left out.
 */
extern void dtm_face_show(DtmTrans *trans, bool mine);

/* Seconds, at least 1: the retry interval, or what the last back-off came to. */
extern int32 dtm_face_interval(const DtmTrans *trans, int32 failures);

/*
 * All rows of its branches; trans as dtm_face_show has left it.  Numbers
 * ascend in DTM's order.  In the current context; *rows may be NULL when there are none.
 */
extern int dtm_face_branches(const DtmTrans *trans, int64 id, DtmText gid, DtmApiBranchRow **rows);

/* "result" of a workflow, base64; empty for NULL. */
extern DtmText dtm_face_result(const DtmTrans *trans, Jsonb *result);

#endif /* DTM_FACE_H */
