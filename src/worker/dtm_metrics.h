/* -------------------------------------------------------------------------
 *
 * dtm_metrics.h
 *		Counters of a database in shared memory, over all its coordinators.
 *
 * Of a fixed size: what is told apart (models, ops, routes, numbers of
 * branches) is bounded, whatever transactions are called.  They start at zero
 * with the server, and when the slot is given to another database; whoever
 * collects them knows counters that do so.
 *
 * What page they make is in src/serve/dtm_serve_metrics.c.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_METRICS_H
#define DTM_METRICS_H

#include "postgres.h"

#include "port/atomics.h"

#include "dtm_api.h"
#include "dtm_types.h"

#define DTM_METRICS_BUCKETS 11  /* and what is longer than all of them */
#define DTM_METRICS_BRANCHES 11 /* "00" to "09", and all others */

/* Upper bounds of the buckets, in microseconds. */
extern const int64 dtm_metrics_bounds[DTM_METRICS_BUCKETS];

/* How long something took; each is counted in one bucket. */
typedef struct DtmHistogram
{
	pg_atomic_uint64 buckets[DTM_METRICS_BUCKETS + 1];
	pg_atomic_uint64 sum_us;
} DtmHistogram;

typedef struct DtmMetrics
{
	/* requests, by route */
	pg_atomic_uint64 requests[DTM_API_ROUTES][2]; /* [1]: answered with 400 or more */
	DtmHistogram answered[DTM_API_ROUTES];
	pg_atomic_uint64 refused; /* never became a request: too many, too long, too slow */

	/* by model, DtmTransType - 1 */
	pg_atomic_uint64 rounds[DTM_TYPE_LAST][2]; /* [1]: with a call that did not succeed */
	DtmHistogram handled[DTM_TYPE_LAST];
	pg_atomic_uint64 calls[DTM_TYPE_LAST][DTM_METRICS_BRANCHES][DTM_OP_LAST + 1][2];
} DtmMetrics;

/* Where a database's counters are made and made anew. */
extern void dtm_metrics_init(DtmMetrics *metrics);

extern void dtm_metrics_observe(DtmHistogram *histogram, int64 took_us);

/* What the label of a branch counter is: "01", or "other". */
extern const char *dtm_metrics_branch_label(int branch);

/* A call of a branch has ended; id "00" of the transaction itself. */
extern void
dtm_metrics_call(DtmMetrics *metrics, DtmTransType type, DtmText branch_id, DtmOp op, bool ok);

/* A transaction has come to its end, or waits; took_us since it was created. */
extern void dtm_metrics_round(DtmMetrics *metrics, DtmTransType type, bool ok, int64 took_us);

#endif /* DTM_METRICS_H */
