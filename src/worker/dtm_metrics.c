/* -------------------------------------------------------------------------
 *
 * dtm_metrics.c
 *		Counting, in shared memory.
 *
 * Runs in the coordinators, which count at the same time: nothing but atomic
 * additions.  A reader may see a sum without its last summand.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "dtm_metrics.h"

/* What clients of Prometheus take unless told otherwise. */
const int64 dtm_metrics_bounds[DTM_METRICS_BUCKETS] = {
	5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000,
};

StaticAssertDecl(sizeof(DtmMetrics) % sizeof(pg_atomic_uint64) == 0,
				 "DtmMetrics must consist of counters");

void
dtm_metrics_init(DtmMetrics *metrics)
{
	pg_atomic_uint64 *counters = (pg_atomic_uint64 *) metrics;

	for (size_t i = 0; i < sizeof(DtmMetrics) / sizeof(pg_atomic_uint64); i++)
		pg_atomic_init_u64(&counters[i], 0);
}

void
dtm_metrics_observe(DtmHistogram *histogram, int64 took_us)
{
	int bucket = 0;

	took_us = Max(took_us, 0);
	while (bucket < DTM_METRICS_BUCKETS && took_us > dtm_metrics_bounds[bucket])
		bucket++;
	pg_atomic_fetch_add_u64(&histogram->buckets[bucket], 1);
	pg_atomic_fetch_add_u64(&histogram->sum_us, (uint64) took_us);
}

const char *
dtm_metrics_branch_label(int branch)
{
	static const char *const labels[DTM_METRICS_BRANCHES] = {"00", "01", "02", "03", "04",   "05",
															 "06", "07", "08", "09", "other"};

	return labels[branch];
}

static int
branch_number(DtmText id)
{
	if (id.len == 2 && id.data[0] == '0' && id.data[1] >= '0' && id.data[1] <= '9')
		return id.data[1] - '0';
	return DTM_METRICS_BRANCHES - 1;
}

static bool
is_type(DtmTransType type)
{
	return type >= 1 && type <= DTM_TYPE_LAST;
}

void
dtm_metrics_call(DtmMetrics *metrics, DtmTransType type, DtmText branch_id, DtmOp op, bool ok)
{
	if (is_type(type) && op <= DTM_OP_LAST)
		pg_atomic_fetch_add_u64(&metrics->calls[type - 1][branch_number(branch_id)][op][ok ? 0 : 1],
								1);
}

void
dtm_metrics_round(DtmMetrics *metrics, DtmTransType type, bool ok, int64 took_us)
{
	if (!is_type(type))
		return;
	pg_atomic_fetch_add_u64(&metrics->rounds[type - 1][ok ? 0 : 1], 1);
	dtm_metrics_observe(&metrics->handled[type - 1], took_us);
}
