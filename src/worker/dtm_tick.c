/* -------------------------------------------------------------------------
 *
 * dtm_tick.c
 *		The tick: everything that happened since the last one, in one
 *		database transaction.
 *
 * Claim, apply, write, commit; then answer who waits and start the calls.
 * A failing batch is done again item by item, so that one poisoned row
 * cannot stop the others: it is parked and shown in dtm.stuck.
 *
 * Runs in the coordinator.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "dtm_compat.h"
#include "dtm_coordinator.h"
#include "dtm_settings.h"
#include "dtm_wake.h"

#define RETRY_WRITE_US 100000         /* after a row lock was in the way */
#define MAX_CONTEXT_SIZE (128 * 1024) /* of a transaction that keeps failing quickly */
#define MAX_FAILED_TICKS 5
#define SHORT_LOCK_TIMEOUT "20ms" /* per item, after a batch met a lock */
#define MAX_LOCKED 5              /* items in a row, then it is the table that is locked */
#define SHUN_MS 60000             /* what can neither be driven nor parked */

/* What a tick works on; all in the tick's context. */
typedef struct Tick
{
	DtmCoordinator *c;
	TimestampTz now;
	DtmWork work; /* to load */
	DtmHeld **touched;
	int n_touched;
	int touched_size;
	bool applied; /* events are in memory: only writing is left */
} Tick;

typedef struct Unreadable
{
	int64 id;
	const char *problem;
} Unreadable;

/* ---- gathering ---- */

static void
touch(Tick *tick, DtmHeld *held)
{
	if (held->touched)
		return;
	held->touched = true;
	if (tick->n_touched == tick->touched_size)
	{
		tick->touched_size = Max(256, tick->touched_size * 2);
		tick->touched = tick->touched == NULL
			? palloc(sizeof(DtmHeld *) * tick->touched_size)
			: repalloc(tick->touched, sizeof(DtmHeld *) * tick->touched_size);
	}
	tick->touched[tick->n_touched++] = held;
}

/* It is dropped: nobody may meet it in the list again. */
static void
untouch(Tick *tick, DtmHeld *held)
{
	for (int i = 0; held->touched && i < tick->n_touched; i++)
	{
		if (tick->touched[i] == held)
			tick->touched[i] = NULL;
	}
}

/* ---- applying ---- */

static void
keep_calls(DtmHeld *held, const DtmPlan *plan)
{
	if (held->n_starts + plan->n_calls > held->starts_size)
	{
		held->starts_size = Max(4, held->n_starts + plan->n_calls);
		held->starts = held->starts == NULL
			? MemoryContextAlloc(held->context, sizeof(DtmCall) * held->starts_size)
			: repalloc(held->starts, sizeof(DtmCall) * held->starts_size);
	}
	memcpy(held->starts + held->n_starts, plan->calls, sizeof(DtmCall) * plan->n_calls);
	held->n_starts += plan->n_calls;
}

/* A call that has ended, in the counters. */
static void
count_call(Tick *tick, DtmHeld *held, const DtmEvent *event)
{
	static const DtmText itself = {"00", 2};
	const DtmTrans *trans = &held->trans;
	bool ok = event->outcome == DTM_OUTCOME_SUCCESS;

	held->called = true;
	held->call_failed = held->call_failed || !ok;
	if (event->branch == DTM_BRANCH_TRANS)
		dtm_metrics_call(&tick->c->db->metrics, trans->type, itself,
						 trans->type == DTM_TYPE_MSG ? DTM_OP_MSG : DTM_OP_WORKFLOW, ok);
	else
		dtm_metrics_call(&tick->c->db->metrics, trans->type,
						 trans->branches[event->branch].branch_id,
						 (DtmOp) trans->branches[event->branch].op[event->role], ok);
}

static void
apply(Tick *tick, DtmHeld *held, const DtmEvent *event)
{
	DtmEngineParams params;
	DtmPlan plan;
	bool in_flight = event->kind == DTM_EVENT_RESULT &&
		dtm_trans_op(&held->trans, event->branch, event->role)->in_flight;

	if (held->lost)
		return;
	params.retry_interval_ms = dtm_retry_interval;
	params.retry_max_interval_ms = Max(dtm_retry_max_interval, dtm_retry_interval);
	params.jitter_seed = (uint64) held->id * UINT64CONST(0x9E3779B97F4A7C15) + held->trans.attempts;
	touch(tick, held);
	if (in_flight)
		count_call(tick, held, event);
	if (dtm_engine_handle(&held->trans, event, tick->now, &params, &held->arena, &plan) != DTM_OK)
	{
		/* out of memory: what is in the tables is right, begin again from there */
		held->lost = true;
		return;
	}
	held->changed = held->changed || plan.changed;
	held->flush = held->flush || plan.flush;
	held->finished = held->finished || plan.finished;
	held->next_at = plan.next_at;
	if (plan.n_calls > 0)
		keep_calls(held, &plan);
	if (held->finished)
		held->n_starts = 0;
	if (in_flight && event->answer.len > 0)
		dtm_held_keep_answer(held, event->branch, event->answer);
	if (event->kind == DTM_EVENT_RESULT && event->outcome != DTM_OUTCOME_SUCCESS &&
		event->outcome != DTM_OUTCOME_ONGOING && !held->finished)
		dtm_calls_alert(tick->c, held, event);
}

static void
apply_kind(Tick *tick, DtmHeld *held, DtmEventKind kind)
{
	DtmEvent event;

	memset(&event, 0, sizeof(event));
	event.kind = kind;
	apply(tick, held, &event);
}

/* Its session has seen all servers commit: what would be called has succeeded already. */
static void
apply_settled(Tick *tick, DtmHeld *held)
{
	if (held->trans.type != DTM_TYPE_XA || held->trans.status != DTM_STATUS_SUBMITTED)
		return;
	while (held->n_starts > 0 && !held->lost)
	{
		const DtmCall *call = &held->starts[--held->n_starts];
		DtmEvent event;

		memset(&event, 0, sizeof(event));
		event.kind = DTM_EVENT_RESULT;
		event.branch = call->branch;
		event.role = call->role;
		event.outcome = DTM_OUTCOME_SUCCESS;
		event.started_at = tick->now;
		apply(tick, held, &event);
	}
}

/* A row of the tables and, perhaps, its older twin in memory. */
static void
take_row(Tick *tick, const DtmStoredTrans *row, bool retry, Unreadable *unreadable,
		 int *n_unreadable)
{
	DtmCoordinator *c = tick->c;
	DtmHeld *held = dtm_held_find(c, row->id);
	const char *problem = NULL;

	if (held != NULL && held->ver != row->ver)
	{
		/* somebody else moved it on: what is in memory is stale */
		untouch(tick, held);
		dtm_held_drop(c, held);
		held = NULL;
	}
	if (row->parked)
	{
		if (held != NULL)
		{
			untouch(tick, held);
			dtm_held_drop(c, held);
		}
		return;
	}
	if (held != NULL)
	{
		held->saw_retry = held->saw_retry || row->retry;
		if (retry || row->retry)
			apply_kind(tick, held, DTM_EVENT_RETRY);
		return;
	}
	/* its turn comes when the message before it has finished */
	if (TIMESTAMP_IS_NOEND(row->next_run_at) && !retry)
		return;
	held = dtm_held_add(c, row, &problem);
	if (held == NULL)
	{
		unreadable[*n_unreadable].id = row->id;
		unreadable[*n_unreadable].problem = problem;
		(*n_unreadable)++;
		return;
	}
	held->saw_retry = row->retry;
	apply_kind(tick, held, retry || row->retry ? DTM_EVENT_RETRY : DTM_EVENT_WAKE);
	if (dtm_work_take_settled(tick->c, row->id))
		apply_settled(tick, held);
}

static void
say_parked(int64 id, const char *problem)
{
	ereport(WARNING,
			(errmsg("transaction " INT64_FORMAT " is parked: %s", id, problem),
			 errhint("See dtm.stuck; dtm_retry() takes it up again.")));
}

/*
 * A workflow that its client runs is over, and the client is, perhaps, still
 * busy with the answer to our callback: it need not see us hang up.  The
 * answer finds no row, and then it is dropped.
 */
static bool
ends_by_itself(const DtmHeld *held)
{
	return dtm_trans_is_resumed(&held->trans) && held->calls_out > 0;
}

/* Load ids[first .. first + n - 1] and give each its first event. */
static void
load(Tick *tick, int first, int n)
{
	DtmStoredTrans *rows = palloc(sizeof(DtmStoredTrans) * Max(n, 1));
	Unreadable *unreadable = palloc(sizeof(Unreadable) * Max(n, 1));
	int n_unreadable = 0;
	int found = dtm_store_load(tick->work.ids + first, n, rows);
	int next = 0;

	/* rows come in the order of ids, as a rule; those left out are finished */
	for (int i = first; i < first + n; i++)
	{
		DtmStoredTrans *row = NULL;

		for (int k = next; k < found && row == NULL; k++)
		{
			if (rows[k].id == tick->work.ids[i])
				row = &rows[k];
		}
		if (row == NULL)
		{
			for (int k = 0; k < next && row == NULL; k++)
			{
				if (rows[k].id == tick->work.ids[i])
					row = &rows[k];
			}
		}
		if (row == NULL)
		{
			DtmHeld *held = dtm_held_find(tick->c, tick->work.ids[i]);

			/* stopped or purged by somebody else, or ended by its client */
			if (held != NULL && !held->touched && !ends_by_itself(held))
				dtm_held_drop(tick->c, held);
			continue;
		}
		if (row == &rows[next])
			next++;
		take_row(tick, row, tick->work.retry[i], unreadable, &n_unreadable);
	}
	for (int i = 0; i < n_unreadable; i++)
	{
		dtm_store_park(unreadable[i].id, unreadable[i].problem);
		say_parked(unreadable[i].id, unreadable[i].problem);
	}
}

/* Everything that happened in memory since the last tick. */
static void
apply_events(Tick *tick)
{
	DtmCoordinator *c = tick->c;
	DtmHeld *held;
	int slot = c->event_slot;

	/* what comes up from now on is for the next tick */
	c->event_slot = 1 - slot;
	for (int i = 0; i < c->n_events; i++)
	{
		held = dtm_held_find(c, c->events[i].id);
		if (held != NULL && held->hold == c->events[i].hold)
			apply(tick, held, &c->events[i].event);
	}
	c->n_events = 0;
	MemoryContextReset(c->event_contexts[slot]);
	while ((held = dtm_held_next_due(c, tick->now)) != NULL)
		apply_kind(tick, held, DTM_EVENT_WAKE);
	tick->applied = true;
}

/* ---- writing ---- */

/*
 * Does it leave the memory until next_at?  That is never when nothing can
 * happen to it but by its owner: prepared without a time-out, or a workflow
 * that waits for a signal.
 */
static bool
releases(const Tick *tick, const DtmHeld *held)
{
	return !held->finished && held->calls_out == 0 && held->n_starts == 0 &&
		held->next_at > tick->now + DTM_LONG_WAIT_US;
}

/* Messages that wait for one of these are due by the same commit, which tells their coordinators. */
static void
release_followers(const Tick *tick, DtmProgress **finished, int n)
{
	int64 *ids = palloc(sizeof(int64) * Max(n, 1));
	int64 *followers;
	int n_ids = 0;

	for (int i = 0; i < n; i++)
	{
		if (finished[i]->type == DTM_TYPE_MSG && finished[i]->written)
			ids[n_ids++] = finished[i]->id;
	}
	n = dtm_store_release(ids, n_ids, tick->now, &followers);
	for (int i = 0; i < n; i++)
		dtm_wake_at_commit(followers[i]);
}

/* Write what some of the touched ones came to; true when it must be durable. */
static bool
write_changes(Tick *tick, DtmHeld **list, int n)
{
	DtmProgress **progress = palloc(sizeof(DtmProgress *) * Max(n, 1));
	DtmProgress **finish = palloc(sizeof(DtmProgress *) * Max(n, 1));
	int n_progress = 0;
	int n_finish = 0;
	bool durable = false;

	for (int i = 0; i < n; i++)
	{
		DtmHeld *held = list[i];

		if (held->lost)
			continue;
		if (!held->changed && !releases(tick, held))
			continue;
		dtm_held_fill_progress(held, tick->now, releases(tick, held));
		durable = durable || held->flush;
		if (held->finished)
			finish[n_finish++] = &held->progress;
		else
			progress[n_progress++] = &held->progress;
	}
	dtm_store_progress(progress, n_progress);
	dtm_held_write_answers(list, n);
	dtm_store_finish(finish, n_finish);
	release_followers(tick, finish, n_finish);

	/* not of what dtm_stop() finished meanwhile: that says so itself */
	for (int i = 0; i < n && dtm_notify; i++)
	{
		if (list[i]->finished && !list[i]->lost && list[i]->progress.written)
			dtm_held_notify(list[i]);
	}
	return durable;
}

/* ---- after the commit ---- */

/* It has finished, or nothing is under way for it: that was a round, if it called anybody. */
static void
count_round(Tick *tick, DtmHeld *held)
{
	if (!held->finished && (!held->called || held->calls_out > 0 || held->n_starts > 0))
		return;
	dtm_metrics_round(&tick->c->db->metrics, held->trans.type, !held->call_failed,
					  tick->now - held->trans.created_at);
	held->called = held->call_failed = false;
}

/* Nothing of it is called any more, or for now: who waits for that is told. */
static void
tell_server(DtmCoordinator *c, const DtmHeld *held)
{
	if (c->serve != NULL)
		dtm_coordinator_server->settled(c, held);
}

static void
settle_one(Tick *tick, DtmHeld *held)
{
	DtmCoordinator *c = tick->c;
	bool wrote = held->changed || releases(tick, held);
	int64 id = held->id;

	held->touched = false;
	if (held->lost || (wrote && !held->progress.written))
	{
		dtm_held_drop(c, held);
		dtm_ids_add(c, &c->load, id);
		return;
	}
	if (wrote)
	{
		held->ver++;
		held->saw_retry = false;
	}
	held->write_failures = 0;
	held->changed = held->flush = false;
	held->answers = NULL;
	count_round(tick, held);
	if (held->finished)
	{
		pg_atomic_fetch_add_u64(&c->slot->finished, 1);
		tell_server(c, held);
		dtm_held_drop(c, held);
		return;
	}
	if (releases(tick, held))
	{
		c->next_timer = Min(c->next_timer, held->next_at);
		tell_server(c, held);
		dtm_held_drop(c, held);
		return;
	}
	dtm_held_wake_at(c, held, held->next_at);
	if (held->n_starts > 0)
		dtm_calls_start(c, held);
	else if (held->calls_out == 0)
		tell_server(c, held);

	/* reasons of quick repeats add up: begin afresh from the tables */
	if (held->calls_out == 0 && held->n_starts == 0 &&
		MemoryContextMemAllocated(held->context, true) > MAX_CONTEXT_SIZE &&
		held->trans.attempts > 100)
	{
		dtm_held_drop(c, held);
		dtm_ids_add(c, &c->load, id);
	}
}

static void
settle(Tick *tick, DtmHeld **list, int n)
{
	int64 *finished = palloc(sizeof(int64) * Max(n, 1));
	int n_finished = 0;

	if (tick->c->flush_up_to != InvalidXLogRecPtr)
	{
		XLogFlush(tick->c->flush_up_to);
		tick->c->flush_up_to = InvalidXLogRecPtr;
	}
	for (int i = 0; i < n; i++)
	{
		if (list[i]->finished && !list[i]->lost && list[i]->progress.written)
			finished[n_finished++] = list[i]->id;
	}
	dtm_shmem_wake_waiters(finished, n_finished);
	for (int i = 0; i < n; i++)
		settle_one(tick, list[i]);
}

/* ---- item by item ---- */

static void
park(Tick *tick, int64 id, const char *problem)
{
	volatile bool parked = false;

	PG_TRY();
	{
		if (dtm_tick_begin(tick->c))
		{
			dtm_store_park(id, problem);
			dtm_tick_commit(tick->c, true);
			parked = true;
		}
	}
	PG_CATCH();
	{
		ErrorData *error = dtm_tick_recover(tick->c);

		ereport(WARNING,
				(errmsg("transaction " INT64_FORMAT " could not be parked: %s", id, error->message),
				 errhint("It is left alone for %d s; the others go on.", SHUN_MS / 1000)));
	}
	PG_END_TRY();
	if (parked)
		say_parked(id, problem);
	else
		dtm_held_shun(tick->c, id, TimestampTzPlusMilliseconds(tick->now, SHUN_MS));
}

static void
note_failure(Tick *tick, int64 id, ErrorData *error)
{
	dtm_coordinator_error(tick->c, error->message);
	if (dtm_tick_is_poison(error))
	{
		DtmHeld *held = dtm_held_find(tick->c, id);

		if (held != NULL)
		{
			untouch(tick, held);
			dtm_held_drop(tick->c, held);
		}
		park(tick, id, error->message);
	}
	else if (dtm_tick_may_log(tick->c))
		ereport(LOG,
				(errmsg("transaction " INT64_FORMAT " will be tried again: %s", id,
						error->message)));
}

/* False when a lock was in the way. */
static bool
load_one(Tick *tick, int i)
{
	volatile bool locked = false;

	PG_TRY();
	{
		if (dtm_tick_begin(tick->c))
		{
			load(tick, i, 1);
			dtm_tick_commit(tick->c, false);
		}
		else
			dtm_ids_add(tick->c, &tick->c->load, tick->work.ids[i]);
	}
	PG_CATCH();
	{
		ErrorData *error = dtm_tick_recover(tick->c);

		locked = dtm_tick_met_lock(error);
		note_failure(tick, tick->work.ids[i], error);
		if (!dtm_tick_is_poison(error))
			dtm_ids_add(tick->c, tick->work.retry[i] ? &tick->c->retry : &tick->c->load,
						tick->work.ids[i]);
	}
	PG_END_TRY();
	return !locked;
}

/* A row that could not be written now, though it is not its fault: soon again. */
static void
write_later(Tick *tick, DtmHeld *held)
{
	int64 wait = RETRY_WRITE_US << Min(held->write_failures, 5);

	held->write_failures++;
	held->touched = false;
	held->progress.written = false;
	dtm_held_wake_at(tick->c, held, GetCurrentTimestamp() + wait);
}

/* False when a lock was in the way. */
static bool
write_one(Tick *tick, DtmHeld *held)
{
	int64 id = held->id;
	volatile bool locked = false;

	PG_TRY();
	{
		if (dtm_tick_begin(tick->c))
		{
			bool durable = write_changes(tick, &held, 1);

			dtm_tick_commit(tick->c, durable);
			settle(tick, &held, 1);
		}
		else
			write_later(tick, held);
	}
	PG_CATCH();
	{
		ErrorData *error = dtm_tick_recover(tick->c);

		locked = dtm_tick_met_lock(error);
		if (!dtm_tick_is_poison(error))
			write_later(tick, held);
		note_failure(tick, id, error);
	}
	PG_END_TRY();
	return !locked;
}

/*
 * When several in a row meet a lock, it is one on the table: the rest is not
 * tried now, or the calls that are out would wait for all those time-outs.
 */
static void
singly(Tick *tick)
{
	DtmCoordinator *c = tick->c;
	int locked = 0;

	SetConfigOption("lock_timeout", SHORT_LOCK_TIMEOUT, PGC_SUSET, PGC_S_OVERRIDE);
	if (!tick->applied)
	{
		for (int i = 0; i < tick->work.n; i++)
		{
			if (locked >= MAX_LOCKED)
				dtm_ids_add(c, tick->work.retry[i] ? &c->retry : &c->load, tick->work.ids[i]);
			else
				locked = load_one(tick, i) ? 0 : locked + 1;
		}
		apply_events(tick);
	}
	for (int i = 0; i < tick->n_touched; i++)
	{
		if (tick->touched[i] == NULL)
			continue;
		if (locked >= MAX_LOCKED)
			write_later(tick, tick->touched[i]);
		else
			locked = write_one(tick, tick->touched[i]) ? 0 : locked + 1;
	}
	tick->n_touched = 0;
	SetConfigOption("lock_timeout", DTM_LOCK_TIMEOUT, PGC_SUSET, PGC_S_OVERRIDE);
}

static void
batch(Tick *tick)
{
	bool durable;

	dtm_tick_leave_when_paused(tick->c, tick->now);
	dtm_work_gather(tick->c, tick->now, &tick->work);
	load(tick, 0, tick->work.n);
	apply_events(tick);
	durable = write_changes(tick, tick->touched, tick->n_touched);
	dtm_work_purge(tick->c, tick->now);
	dtm_tick_commit(tick->c, durable);
}

bool
dtm_tick(DtmCoordinator *c)
{
	Tick tick;
	volatile bool failed = false;
	volatile bool locked = false;

	memset(&tick, 0, sizeof(tick));
	tick.c = c;
	tick.now = GetCurrentTimestamp();
	if (dtm_work_take_inbox(c))
		dtm_coordinator_leave(c, DTM_EXIT_ASIDE);
	if (!dtm_work_exists(c, tick.now))
		return false;

	MemoryContextSwitchTo(c->tick_context);
	pgstat_report_activity(STATE_RUNNING, "dtm: tick");

	PG_TRY();
	{
		c->stepping_back = !dtm_tick_begin(c);
		MemoryContextSwitchTo(c->tick_context);
		if (!c->stepping_back)
			batch(&tick);
	}
	PG_CATCH();
	{
		ErrorData *error = dtm_tick_recover(c);

		failed = true;
		locked = dtm_tick_met_lock(error);
		if (dtm_tick_may_log(c))
			ereport(LOG, (errmsg("dtm_pg does a batch again item by item: %s", error->message)));
		dtm_coordinator_error(c, error->message);
	}
	PG_END_TRY();

	MemoryContextSwitchTo(c->tick_context);
	if (c->stepping_back)
		return false;
	if (failed)
	{
		/* timers that were taken are there again, and what was found in a sweep too */
		dtm_work_again(c, tick.now);
		singly(&tick);

		/* a lock is somebody's business, and goes away without a fresh start of ours */
		c->failed_ticks += locked ? 0 : 1;
		if (c->failed_ticks >= MAX_FAILED_TICKS)
		{
			ereport(LOG,
					(errmsg("dtm_pg coordinator starts anew after %d failed ticks",
							c->failed_ticks)));
			dtm_coordinator_leave(c, DTM_EXIT_ERROR);
		}
	}
	else
	{
		settle(&tick, tick.touched, tick.n_touched);
		c->failed_ticks = 0;
		dtm_coordinator_works(c);
	}
	pg_atomic_fetch_add_u64(&c->slot->ticks, 1);
	pg_atomic_write_u64(&c->slot->last_tick_at, (uint64) tick.now);
	return true;
}
