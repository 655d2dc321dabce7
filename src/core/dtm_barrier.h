/* -------------------------------------------------------------------------
 *
 * dtm_barrier.h
 *		The branch barrier's decision, apart from its storage.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_BARRIER_H
#define DTM_BARRIER_H

#include "dtm_types.h"

typedef enum DtmBarrierDecision
{
	DTM_BARRIER_RUN,       /* run the business SQL now */
	DTM_BARRIER_SKIP,      /* repeated, null or late: answer success */
	DTM_BARRIER_DUPLICATED /* op msg only: the local part must roll back */
} DtmBarrierDecision;

/* The op whose row a backward op inserts too: cancel -> try ...; NULL for others. */
extern const char *dtm_barrier_origin(const char *op);

/* Decide from what the two inserts did (rows inserted: 0 or 1). */
extern DtmBarrierDecision dtm_barrier_decide(const char *op, int origin_rows, int current_rows);

#endif /* DTM_BARRIER_H */
