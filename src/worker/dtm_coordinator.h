/* -------------------------------------------------------------------------
 *
 * dtm_coordinator.h
 *		Private to the coordinator process: the transactions it holds in
 *		memory, the tick, the calls.
 *
 *	 dtm_coordinator.c	the process: start, loop, settings, pause
 *	 dtm_tick.c			one database transaction for all that happened
 *	 dtm_tick_trans.c	... its begin, commit and recovery
 *	 dtm_work.c			where work comes from: inbox, timers, sweep
 *	 dtm_held.c			transactions in memory
 *	 dtm_calls.c		calls out and their results
 *	 dtm_sqlcalls.c		... of functions in this database
 *	 dtm_xa_sweep.c		what dtm_xa_exec left prepared where, at a crash
 *	 dtm_pgcalls.c		... to other PostgreSQL servers
 *
 * The HTTP API (src/serve) is above all that and has its turn in the loop
 * through DtmServer.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_COORDINATOR_H
#define DTM_COORDINATOR_H

#include "postgres.h"

#include "lib/ilist.h"
#include "lib/pairingheap.h"
#include "utils/hsearch.h"

#include "dtm_engine.h"
#include "dtm_http.h"
#include "dtm_pq.h"
#include "dtm_shmem.h"
#include "dtm_store.h"
#include "dtm_url.h"

#define DTM_SWEEP_CHUNK 500
#define DTM_MAX_SERVER_CONNECTIONS 256 /* to other PostgreSQL servers, in all */
#define DTM_LONG_WAIT_US 500000        /* what waits longer leaves the memory */

/* What a branch answered, until it is written. */
typedef struct DtmHeldAnswer
{
	struct DtmHeldAnswer *next;
	uint16 branch;
	DtmText bytes; /* as they came */
} DtmHeldAnswer;

/* A transaction in memory: what the tables say, and the calls that are out for it. */
typedef struct DtmHeld
{
	int64 id;  /* hash key */
	int32 ver; /* of the row in dtm.live */
	Oid owner;
	MemoryContext context;
	DtmArena arena;
	char *gid;
	DtmTrans trans;
	uint32 hold; /* number of this stay in memory: late results name another */
	uint32 calls_out;

	/* what the events of this tick came to */
	bool touched; /* in the tick's list */
	bool changed; /* to be written */
	bool flush;   /* ... durably before the calls start */
	bool finished;
	bool saw_retry; /* the mark of dtm_retry in its row has been acted upon */
	bool lost;      /* somebody else changed the row: load it again */

	/* since it last had nothing to do */
	bool called;      /* a call has ended */
	bool call_failed; /* ... without success */

	DtmTime next_at;
	DtmCall *starts; /* calls to start once it is written */
	uint32 n_starts;
	uint32 starts_size;
	DtmProgress progress;
	uint32 write_failures; /* in a row, because of locks */
	DtmHeldAnswer *answers;

	/* in the heap of those that wait in memory */
	bool in_heap;
	DtmTime wake_at;
	pairingheap_node heap_node;
} DtmHeld;

/* An event that waits for the next tick. */
typedef struct DtmPendingEvent
{
	int64 id;
	uint32 hold;    /* the stay in memory that it is about */
	DtmEvent event; /* texts in one of event_contexts */
} DtmPendingEvent;

typedef struct DtmIdList
{
	int64 *ids;
	int n;
	int size;
} DtmIdList;

#define DTM_MAX_SHUNNED 64

/* How long a statement of the loop waits for a lock: a user's must not stop it. */
#define DTM_LOCK_TIMEOUT "200ms"

/* A transaction that can neither be driven nor parked. */
typedef struct DtmShunned
{
	int64 id;
	TimestampTz until;
} DtmShunned;

/* A sql: call that waits for a free task. */
typedef struct DtmWaitingTask
{
	dlist_node node;
	int64 id;
	uint32 hold;
	uint16 branch;
	uint8 role;
	uint8 op;
	int32 timeout_ms;
} DtmWaitingTask;

typedef struct DtmXaSweep DtmXaSweep; /* dtm_xa_sweep.c */
typedef struct DtmServe DtmServe;     /* src/serve */

typedef struct DtmCoordinator
{
	int database; /* slot */
	int number;   /* of this coordinator, 0 .. workers - 1 */
	int workers;
	uint64 generation;
	DtmDatabaseSlot *db;
	DtmCoordinatorSlot *slot;
	uint32 settings; /* of db, when this process started */
	DtmHttp *http;
	DtmPq *pq;
	DtmPolicy *policy;
	MemoryContext policy_context;
	MemoryContext context;           /* "dtm coordinator" */
	MemoryContext event_contexts[2]; /* texts of events: of the next tick, and of this one */
	int event_slot;                  /* the one of the next tick */
	MemoryContext tick_context;      /* "dtm tick" */

	HTAB *held;
	uint32 holds; /* given out so far */
	int n_held;
	pairingheap *heap; /* by wake_at */

	/* filled between ticks */
	DtmPendingEvent *events;
	int n_events;
	int events_size;

	DtmIdList load;    /* to be loaded, or looked at again */
	DtmIdList settled; /* of those to be loaded: xa whose servers have all committed */
	DtmIdList retry;   /* likewise, and what waits in them is due now */

	/* finding work in the tables */
	bool sweeping;
	bool sweep_again;
	int64 sweep_cursor;
	int64 swept[DTM_SWEEP_CHUNK]; /* read, but not loaded yet */
	int n_swept;
	int next_swept;
	TimestampTz sweep_at;   /* next safety sweep */
	TimestampTz timer_low;  /* timers before it were claimed */
	TimestampTz next_timer; /* DT_NOBEGIN: not known */
	TimestampTz purge_at;
	XLogRecPtr flush_up_to; /* commits of others that must be durable before we call */

	/* sql: calls */
	dlist_head waiting_tasks;
	int n_waiting_tasks;
	int n_tasks; /* handed to executors */

	/* who waits because of which host, to be pulled forward */
	HTAB *host_waiters;

	DtmXaSweep *xa_sweep; /* of the first coordinator, else NULL */
	DtmServe *serve;      /* the HTTP API, or NULL */

	Oid extension;         /* as of the last transaction */
	int failed_ticks;      /* in a row */
	TimestampTz logged_at; /* what would fill the log is not said each time */
	DtmShunned shunned[DTM_MAX_SHUNNED];
	int next_shunned;
	TimestampTz pause_looked_at;
	bool stepping_back; /* the extension is locked by DDL: do not look for a while */
	uint64 calls_at_mark;
	TimestampTz mark_at;
	TimestampTz report_at; /* when idle: statistics and rates once more, 0 = never */
} DtmCoordinator;

/*
 * What answers requests from outside, in this process and between its ticks.
 * All may throw, but for fd, timeout_ms and leave.
 */
typedef struct DtmServer
{
	void (*begin)(DtmCoordinator *c); /* before the first tick */
	int (*fd)(DtmCoordinator *c);     /* to wait on, the same for ever */

	/* Milliseconds until the next turn; -1 = when the descriptor is readable. */
	int (*timeout_ms)(DtmCoordinator *c);

	/* Take requests, store what they ask for, answer.  Outside of transactions. */
	void (*turn)(DtmCoordinator *c);

	/* A tick has written what became of it, and nothing of it is out. */
	void (*settled)(DtmCoordinator *c, const DtmHeld *held);

	/* Settings were read anew. */
	void (*configure)(DtmCoordinator *c);

	/* The process ends: free what others would wait for. */
	void (*leave)(DtmCoordinator *c);
} DtmServer;

/* Whoever serves says so before any worker starts. */
extern const DtmServer *dtm_coordinator_server;

/* ---- dtm_held.c ---- */

extern void dtm_held_init(DtmCoordinator *c);
extern DtmHeld *dtm_held_find(DtmCoordinator *c, int64 id);

/* Put a loaded row into memory.  NULL with a problem for people when its bytes are not ours. */
extern DtmHeld *dtm_held_add(DtmCoordinator *c, const DtmStoredTrans *row, const char **problem);

/* Forget it; calls that are out are given up. */
extern void dtm_held_drop(DtmCoordinator *c, DtmHeld *held);

/* Wake it at this time, in memory. */
extern void dtm_held_wake_at(DtmCoordinator *c, DtmHeld *held, DtmTime at);
extern void dtm_held_no_wake(DtmCoordinator *c, DtmHeld *held);

/* The first that is due, taken out of the heap, or NULL. */
extern DtmHeld *dtm_held_next_due(DtmCoordinator *c, DtmTime now);
extern DtmTime dtm_held_first_wake(const DtmCoordinator *c);

/* Packed state in the current context, as progress for the store; release: until next_at. */
extern void dtm_held_fill_progress(DtmHeld *held, TimestampTz now, bool release);

/* Keep what a branch answered until the op's success is written. */
extern void dtm_held_keep_answer(DtmHeld *held, uint16 branch, DtmText bytes);

/* Write what these, whose progress is written, were answered. */
extern void dtm_held_write_answers(DtmHeld *const *list, int n);

/* NOTIFY dtm with this transaction's commit: it has finished. */
extern void dtm_held_notify(const DtmHeld *held);

/* Do not take it up again before that time: it cannot even be parked. */
extern void dtm_held_shun(DtmCoordinator *c, int64 id, TimestampTz until);
extern bool dtm_held_is_shunned(const DtmCoordinator *c, int64 id, TimestampTz now);

extern void dtm_ids_add(DtmCoordinator *c, DtmIdList *list, int64 id);

/* ---- dtm_calls.c ---- */

extern void dtm_calls_init(DtmCoordinator *c);

/* Take limits, policy and CA file from the settings; WARNING when a policy is malformed. */
extern void dtm_calls_configure(DtmCoordinator *c);

/* Start what the engine asked for; everything it depends on is committed. */
extern void dtm_calls_start(DtmCoordinator *c, DtmHeld *held);

/* Turn ended calls into events. */
extern void dtm_calls_collect(DtmCoordinator *c);

/* Give up what is out for a transaction that is dropped. */
extern void dtm_calls_cancel(DtmCoordinator *c, DtmHeld *held);

/* POST to dtm.alert_webhook; its answer is only logged. */
extern void dtm_calls_alert(DtmCoordinator *c, const DtmHeld *held, const DtmEvent *event);

extern void dtm_calls_add_event(DtmCoordinator *c, const DtmHeld *held, const DtmEvent *event);

/* What a step of a workflow answered is kept (event->answer) for the function that asked. */
extern bool dtm_calls_wants_answer(const DtmHeld *held, const DtmEvent *event);

/* What the kinds of calls share: the second tag of a call, and how long it may take. */
extern uint64 dtm_calls_tag2(const DtmHeld *held, uint16 branch, uint8 role);
extern int dtm_calls_timeout(const DtmHeld *held, const DtmBranch *branch);

/* On the wire everything is UTF-8.  Throws what cannot be converted. */
extern DtmText dtm_calls_wire_text(DtmText from);

/* ... and what comes from there, for people: in place, fit for the database's encoding. */
extern void dtm_calls_people_text(char *buffer);

/* A copy that lives until the event was handled; "409: no stock" without what is in front. */
extern DtmText dtm_calls_text(DtmCoordinator *c, const char *data, size_t len);
extern DtmText dtm_calls_body_of_reason(DtmCoordinator *c, const char *reason);

/* An end of a call that needs no network: an event for the next tick. */
extern void dtm_calls_end(DtmCoordinator *c, DtmHeld *held, const DtmCall *call, DtmOutcome outcome,
						  const char *reason);

/* In ms milliseconds, spread over a fifth of them, or all would come back at once. */
extern TimestampTz dtm_calls_postpone(const DtmHeld *held, TimestampTz now, int ms);

/* It waits because of this host; which answers again: all that wait for it are due now. */
extern void dtm_calls_note_waiter(DtmCoordinator *c, const DtmHeld *held, const char *host);
extern void dtm_calls_host_back(DtmCoordinator *c, const char *host);

/* ---- dtm_sqlcalls.c ---- */

extern void dtm_sqlcalls_init(DtmCoordinator *c);
extern void
dtm_sqlcalls_start(DtmCoordinator *c, DtmHeld *held, const DtmCall *call, const DtmBranch *branch);

/* Hand waiting calls to executors, as far as those are free. */
extern void dtm_sqlcalls_feed(DtmCoordinator *c);

/* Turn ended calls into events. */
extern void dtm_sqlcalls_collect(DtmCoordinator *c);

/*
 * Give up what waits for a transaction that is dropped.  What an executor
 * runs already ends by itself; its result finds nobody.
 */
extern void dtm_sqlcalls_cancel(DtmCoordinator *c, const DtmHeld *held);

/* ---- dtm_pgcalls.c ---- */

extern void dtm_pgcalls_init(DtmCoordinator *c);
extern void dtm_pgcalls_configure(DtmCoordinator *c);

/* A pg:// or xa:// target: what is wrong with its server ends the call as an error. */
extern void
dtm_pgcalls_start(DtmCoordinator *c, DtmHeld *held, const DtmCall *call, const DtmTarget *target);

/* Turn ended calls into events. */
extern void dtm_pgcalls_collect(DtmCoordinator *c);

/* ---- dtm_work.c ---- */

/* Ids to load in a tick, each once; retry: what waits in them is due now. */
typedef struct DtmWork
{
	int64 *ids;
	bool *retry;
	int n;
} DtmWork;

/* Empty the inbox as far as there is room; true when a control message was in it. */
extern bool dtm_work_take_inbox(DtmCoordinator *c);

/*
 * Nothing may be called for what is committed by now before it is durable: a
 * commit with synchronous_commit = off is visible before it is flushed, and
 * before its inbox is told so.
 */
extern void dtm_work_flush_before_calls(DtmCoordinator *c);

/* Did the inbox say that all servers of this xa have committed?  Once. */
extern bool dtm_work_take_settled(DtmCoordinator *c, int64 id);

/* Is there anything to do for a tick, anything to take from the tables, and when is there next? */
extern bool dtm_work_exists(const DtmCoordinator *c, TimestampTz now);
extern bool dtm_work_from_tables(const DtmCoordinator *c, TimestampTz now);

/* Anything that was not just committed here: timers, the sweep, what waited for a host. */
extern bool dtm_work_unannounced(const DtmCoordinator *c, TimestampTz now);
extern TimestampTz dtm_work_next(const DtmCoordinator *c);

/* What is to be loaded, within the room there is; in the tick's transaction. */
extern void dtm_work_gather(DtmCoordinator *c, TimestampTz now, DtmWork *work);

/* That transaction failed: timers that were taken are there again, so look for all of it anew. */
extern void dtm_work_again(DtmCoordinator *c, TimestampTz now);

/* Each minute: settle a batch of reservations, delete a batch of what finished before the retention. */
extern void dtm_work_purge(DtmCoordinator *c, TimestampTz now);

/* ---- dtm_xa_sweep.c ---- */

/* tag of its calls; ids of transactions are positive */
#define DTM_XA_SWEEP_TAG (UINT64_MAX - 1)

extern void dtm_xa_sweep_init(DtmCoordinator *c);

/* Begin what is due.  Outside of transactions. */
extern void dtm_xa_sweep(DtmCoordinator *c);
extern TimestampTz dtm_xa_sweep_next(const DtmCoordinator *c);

/* Take a result; false when it is not of the sweep. */
extern bool dtm_xa_sweep_ended(DtmCoordinator *c, const DtmPqDone *done);

/* ---- dtm_tick.c ---- */

/* True when there was something to do. */
extern bool dtm_tick(DtmCoordinator *c);


/* ---- dtm_tick_trans.c ---- */

/*
 * Begin, with a snapshot.  False when the extension is locked by DDL; leaves
 * when it is gone, replaced, or of another version than the library.
 */
extern bool dtm_tick_begin(DtmCoordinator *c);

/*
 * Durable when it holds a decision or a promise, else not waited for: what a
 * crash loses is asked again.
 */
extern void dtm_tick_commit(DtmCoordinator *c, bool durable);

/* After an ERROR: a copy of it in the tick's context, with the transaction rolled back. */
extern ErrorData *dtm_tick_recover(DtmCoordinator *c);

/* Is it the row's fault, so that trying again will not help? */
extern bool dtm_tick_is_poison(const ErrorData *error);

/*
 * Rows that were not submitted here may come at any time, with a restore: a
 * copy is not driven.  To be called before anything is taken from the tables.
 */
extern void dtm_tick_leave_when_paused(DtmCoordinator *c, TimestampTz now);

/* Was it a lock of somebody, and nothing worse? */
extern bool dtm_tick_met_lock(const ErrorData *error);

/* Not each time: a table that somebody locks for long must not fill the log. */
extern bool dtm_tick_may_log(DtmCoordinator *c);

/* ---- dtm_coordinator.c ---- */

/* A tick went through: what the launcher counts against us is forgotten. */
extern void dtm_coordinator_works(DtmCoordinator *c);

extern void dtm_coordinator_error(DtmCoordinator *c, const char *message);
extern void dtm_coordinator_leave(DtmCoordinator *c, DtmWorkerExit why);

#endif /* DTM_COORDINATOR_H */
