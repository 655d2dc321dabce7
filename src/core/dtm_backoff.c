/* -------------------------------------------------------------------------
 *
 * dtm_backoff.c
 *		When to try again.
 *
 * DTM doubles without a bound; here it is capped, and jitter spreads the
 * callers of a service that has just come back.  Not here: who waits, and
 * for which outcome (dtm_engine.c).  Runs in every process.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_backoff.h"

/* splitmix64: one multiply-and-shift mixer, so that near seeds differ. */
static uint64_t
mix(uint64_t seed)
{
	seed += UINT64_C(0x9e3779b97f4a7c15);
	seed = (seed ^ (seed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	seed = (seed ^ (seed >> 27)) * UINT64_C(0x94d049bb133111eb);
	return seed ^ (seed >> 31);
}

int64_t
dtm_backoff_ms(int32_t interval_ms, int32_t max_ms, uint32_t failures, uint64_t seed)
{
	int64_t wait = interval_ms;

	/* an interval above the maximum was asked for: it stays as it is */
	while (failures > 1 && wait < max_ms)
	{
		wait *= 2;
		if (wait > max_ms)
			wait = max_ms;
		failures--;
		if (wait <= 0)
			break;
	}

	return wait + (int64_t) (mix(seed) % (uint64_t) (wait / 10 + 1));
}
