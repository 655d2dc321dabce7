/* -------------------------------------------------------------------------
 *
 * dtm_backoff.h
 *		When to try again.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_BACKOFF_H
#define DTM_BACKOFF_H

#include "dtm_types.h"

/*
 * Milliseconds to wait after the failures-th temporary error in a row
 * (1 = the first): interval doubled failures - 1 times, at most max, plus a
 * jitter of 0 to 10 per cent drawn from seed (never less than the interval,
 * so that "not before" holds).
 */
extern int64_t
dtm_backoff_ms(int32_t interval_ms, int32_t max_ms, uint32_t failures, uint64_t seed);

#endif /* DTM_BACKOFF_H */
