/* -------------------------------------------------------------------------
 *
 * dtm_work.c
 *		Where a coordinator's work comes from: its inbox, timers that are due,
 *		and the sweep of the table for what nobody told it of.
 *
 * A commit puts its ids into the inbox, so that nothing is searched for as a
 * rule.  What did not fit there, what was there before the coordinator, and
 * what came without telling (a restore) is found by the sweep: the table of
 * unfinished transactions in the order of its key, a chunk at a time.
 *
 * Runs in the coordinator.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "utils/timestamp.h"

#include "dtm_coordinator.h"
#include "dtm_settings.h"

#define CLAIM_BATCH 500 /* transactions that one tick takes up */
#define PURGE_BATCH 1000
#define SWEEP_INTERVAL_MS 60000
#define PURGE_INTERVAL_MS 60000

static int
room(const DtmCoordinator *c)
{
	return Min(dtm_max_inflight - c->n_held, CLAIM_BATCH);
}

static bool
is_sweeping(const DtmCoordinator *c)
{
	return c->sweeping || c->next_swept < c->n_swept;
}

bool
dtm_work_take_inbox(DtmCoordinator *c)
{
	DtmInbox *inbox = &c->slot->inbox;
	int64 ids[CLAIM_BATCH];
	int limit = room(c) - c->load.n;
	int n = 0;
	bool control;

	/* older ones that did not fit into it are being swept up: half of the room is for them */
	if (is_sweeping(c) && limit > 1)
		limit /= 2;

	SpinLockAcquire(&inbox->mutex);
	while (inbox->head != inbox->tail && n < limit)
		ids[n++] = inbox->ids[inbox->head++ % DTM_INBOX_SIZE];
	control = inbox->control;
	inbox->control = false;
	if (inbox->overflow)
		c->sweep_again = true;
	inbox->overflow = false;
	if (inbox->flush_up_to > c->flush_up_to)
		c->flush_up_to = inbox->flush_up_to;
	SpinLockRelease(&inbox->mutex);

	c->settled.n = 0;
	for (int i = 0; i < n; i++)
	{
		dtm_ids_add(c, &c->load, DTM_INBOX_ID(ids[i]));
		if (ids[i] < 0)
			dtm_ids_add(c, &c->settled, DTM_INBOX_ID(ids[i]));
	}
	return control;
}

bool
dtm_work_take_settled(DtmCoordinator *c, int64 id)
{
	/* they are loaded in the order in which they came: as a rule it is the first */
	for (int i = 0; i < c->settled.n; i++)
	{
		if (c->settled.ids[i] != id)
			continue;
		memmove(c->settled.ids + i, c->settled.ids + i + 1, sizeof(int64) * (c->settled.n - i - 1));
		c->settled.n--;
		return true;
	}
	return false;
}

/*
 * Where the last record ends.  GetXLogInsertRecPtr() says where the next one
 * will begin: in a fresh page that is behind the page's header, which is not
 * there yet, and XLogFlush() takes it for a damaged position.
 */
static XLogRecPtr
end_of_wal(void)
{
	XLogRecPtr position = GetXLogInsertRecPtr();

	if (XLogSegmentOffset(position, wal_segment_size) == SizeOfXLogLongPHD)
		position -= SizeOfXLogLongPHD;
	else if (position % XLOG_BLCKSZ == SizeOfXLogShortPHD)
		position -= SizeOfXLogShortPHD;
	return position;
}

void
dtm_work_flush_before_calls(DtmCoordinator *c)
{
	c->flush_up_to = Max(c->flush_up_to, end_of_wal());
}

bool
dtm_work_exists(const DtmCoordinator *c, TimestampTz now)
{
	return c->n_events > 0 || dtm_held_first_wake(c) <= now || dtm_work_from_tables(c, now) ||
		(c->number == 0 && c->purge_at <= now);
}

bool
dtm_work_from_tables(const DtmCoordinator *c, TimestampTz now)
{
	return c->load.n > 0 || dtm_work_unannounced(c, now);
}

bool
dtm_work_unannounced(const DtmCoordinator *c, TimestampTz now)
{
	if (c->retry.n > 0)
		return true;
	return c->n_held < dtm_max_inflight &&
		(c->next_timer <= now || is_sweeping(c) || c->sweep_again || c->sweep_at <= now);
}

TimestampTz
dtm_work_next(const DtmCoordinator *c)
{
	TimestampTz next = DT_NOEND;

	if (c->load.n > 0 || c->retry.n > 0 || c->n_events > 0)
		return DT_NOBEGIN;
	if (c->n_held < dtm_max_inflight)
	{
		if (is_sweeping(c) || c->sweep_again)
			return DT_NOBEGIN;
		next = Min(c->next_timer, c->sweep_at);
	}
	if (c->number == 0)
		next = Min(next, c->purge_at);
	return Min(next, dtm_held_first_wake(c));
}

static void
add(DtmWork *work, int64 id, bool retry)
{
	for (int i = 0; i < work->n; i++)
	{
		if (work->ids[i] == id)
		{
			work->retry[i] = work->retry[i] || retry;
			return;
		}
	}
	work->ids[work->n] = id;
	work->retry[work->n] = retry;
	work->n++;
}

static void
claim_timers(DtmCoordinator *c, TimestampTz now, DtmWork *work)
{
	int64 ids[CLAIM_BATCH];
	TimestampTz due[CLAIM_BATCH];
	int limit = room(c) - work->n;
	int n;
	TimestampTz newest = c->timer_low;

	if (c->next_timer > now || limit <= 0)
		return;
	n = dtm_store_claim_timers(c->timer_low, now, c->number, c->workers, limit, ids, due);
	if (n > 0)
		dtm_work_flush_before_calls(c);
	for (int i = 0; i < n; i++)
	{
		if (!dtm_held_is_shunned(c, ids[i], now))
			add(work, ids[i], false);
		newest = Max(newest, due[i]);
	}

	/*
	 * Where to go on is remembered, or every look would pass the deleted
	 * entries at the head again while an old snapshot keeps them.
	 */
	c->timer_low = newest;
	c->next_timer = n == limit ? newest : dtm_store_next_timer(newest, c->number, c->workers);
}

/* The next chunk of unfinished rows; false when the last one was read before. */
static bool
read_chunk(DtmCoordinator *c, TimestampTz now)
{
	bool end;

	if (!c->sweeping)
		return false;

	/* those that wait in memory have no timer: take over what a predecessor had in its own */
	c->n_swept = dtm_store_sweep(c->sweep_cursor, now + DTM_LONG_WAIT_US, c->number, c->workers,
								 DTM_SWEEP_CHUNK, c->swept, &c->sweep_cursor, &end);
	c->next_swept = 0;
	if (end)
	{
		c->sweeping = false;
		c->sweep_at = TimestampTzPlusMilliseconds(now, SWEEP_INTERVAL_MS);
	}
	return true;
}

/* At most one chunk is read, and of it no more is taken than there is room for. */
static void
sweep(DtmCoordinator *c, TimestampTz now, DtmWork *work)
{
	int limit = room(c) - work->n;
	int before = work->n;

	if (limit <= 0)
		return;
	if (!is_sweeping(c) && (c->sweep_again || now >= c->sweep_at))
	{
		c->sweeping = true;
		c->sweep_again = false;
		c->sweep_cursor = 0;
	}
	if (c->next_swept == c->n_swept && !read_chunk(c, now))
		return;
	while (limit > 0 && c->next_swept < c->n_swept)
	{
		int64 id = c->swept[c->next_swept++];

		if (dtm_held_find(c, id) != NULL || dtm_held_is_shunned(c, id, now))
			continue;
		add(work, id, false);
		limit--;
	}
	if (work->n > before)
		dtm_work_flush_before_calls(c);
}

void
dtm_work_gather(DtmCoordinator *c, TimestampTz now, DtmWork *work)
{
	int size = c->load.n + c->retry.n + 2 * CLAIM_BATCH;

	work->ids = palloc(sizeof(int64) * size);
	work->retry = palloc(sizeof(bool) * size);
	work->n = 0;
	for (int i = 0; i < c->load.n; i++)
		add(work, c->load.ids[i], false);
	for (int i = 0; i < c->retry.n; i++)
		add(work, c->retry.ids[i], true);
	c->load.n = c->retry.n = 0;
	claim_timers(c, now, work);
	sweep(c, now, work);
}

void
dtm_work_again(DtmCoordinator *c, TimestampTz now)
{
	c->sweep_again = true;
	c->next_timer = now;
	c->timer_low = DT_NOBEGIN;
}

void
dtm_work_purge(DtmCoordinator *c, TimestampTz now)
{
	int64 n = 0;

	if (c->number != 0 || now < c->purge_at)
		return;

	/* also when it fails: a dtm_purge() that is not committed must not hold up each tick */
	c->purge_at = TimestampTzPlusMilliseconds(now, PURGE_INTERVAL_MS);

	/* first what may still need to look its transaction up */
	if (dtm_store_reserve_sweep(PURGE_BATCH) >= PURGE_BATCH)
		n = PURGE_BATCH;
	if (dtm_retention > 0)
		n = Max(n, dtm_store_purge(now - (int64) dtm_retention * USECS_PER_SEC, PURGE_BATCH));
	if (n >= PURGE_BATCH)
		c->purge_at = now;
}
