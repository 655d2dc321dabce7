/* -------------------------------------------------------------------------
 *
 * dtm_executor.h
 *		What a sql: branch can ask about the call it serves.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_EXECUTOR_H
#define DTM_EXECUTOR_H

#include "postgres.h"

/* SQLSTATEs that a sql: branch answers with; see dtm_fail and dtm_ongoing. */
#define DTM_ERRCODE_FAIL MAKE_SQLSTATE('D', 'T', 'M', '0', '1')
#define DTM_ERRCODE_ONGOING MAKE_SQLSTATE('D', 'T', 'M', '0', '2')

/* The call being served; gid is NULL outside of an executor. */
typedef struct DtmCallContext
{
	const char *gid;
	const char *trans_type;
	const char *branch_id;
	const char *op;
} DtmCallContext;

extern DtmCallContext dtm_call_context;

/* What a check-back that is a function is called with: JSON, palloc'd. */
extern char *dtm_check_back_payload(const char *gid);

#endif /* DTM_EXECUTOR_H */
