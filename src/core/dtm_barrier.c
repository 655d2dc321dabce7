/* -------------------------------------------------------------------------
 *
 * dtm_barrier.c
 *		The branch barrier's decision, apart from its storage.
 *
 * A service, in the transaction of its business SQL, first inserts a row for
 * the origin op (backward ops only), then one for the op itself, both
 * ignoring conflicts; what the two inserts did tells everything.  Not here:
 * the inserts and the numbering of barrier ids.  Runs in backends.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_barrier.h"

#include <string.h>

const char *
dtm_barrier_origin(const char *op)
{
	if (strcmp(op, "cancel") == 0)
		return "try";
	if (strcmp(op, "compensate") == 0 || strcmp(op, "rollback") == 0)
		return "action";
	return NULL;
}

DtmBarrierDecision
dtm_barrier_decide(const char *op, int origin_rows, int current_rows)
{
	/* the back-check was here first and has answered "rolled back" */
	if (strcmp(op, "msg") == 0 && current_rows == 0)
		return DTM_BARRIER_DUPLICATED;

	/* null compensation: the forward op never ran, and now never will */
	if (dtm_barrier_origin(op) != NULL && origin_rows > 0)
		return DTM_BARRIER_SKIP;

	/* repeated, or a forward op that arrives after its compensation */
	if (current_rows == 0)
		return DTM_BARRIER_SKIP;

	return DTM_BARRIER_RUN;
}
