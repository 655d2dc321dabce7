/* -------------------------------------------------------------------------
 *
 * dtm_shmem.h
 *		What the processes share: a slot per database, its coordinators and
 *		their inboxes, the tasks of the executors, and who waits for what.
 *
 * Nothing here is the truth: after a crash all of it starts from zero and
 * the tables tell what to do.  No pointers and no descriptors are kept in
 * it; a process is named by its number in PostgreSQL's array of processes.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_SHMEM_H
#define DTM_SHMEM_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "access/xlogdefs.h"
#include "port/atomics.h"
#include "storage/dsm.h"
#include "storage/lwlock.h"
#include "storage/spin.h"

#include "dtm_metrics.h"
#include "dtm_settings.h"

#define DTM_MAX_COORDINATORS 4 /* per database */
#define DTM_MAX_SQL_WORKERS 8  /* the most that dtm.sql_workers may be */
#define DTM_MAX_EXECUTORS 9    /* per database: one more, for what sessions wait for */
#define DTM_MAX_TASKS 64       /* handed to executors, per database */
#define DTM_MAX_SQL_TASKS 48   /* of them sql: calls; the rest is for sessions that wait */
#define DTM_INBOX_SIZE 4096    /* ids waiting to be picked up, per coordinator */
#define DTM_MAX_WAITERS 256    /* backends in dtm_wait */
#define DTM_MAX_REQUESTS 32    /* databases the launcher shall look at */
#define DTM_TASK_REASON 512
#define DTM_WORKER_ERROR 256

/* Among ids, a control message: look at dtm.node again. */
#define DTM_INBOX_CONTROL ((int64) 0)

/*
 * An id with its sign turned: an xa whose session has seen all its servers
 * commit, so that they need not be asked again.  A hint: it may get lost.
 */
#define DTM_INBOX_SETTLED(id) (-(id))
#define DTM_INBOX_ID(entry) ((entry) < 0 ? -(entry) : (entry))

typedef enum DtmWorkerState
{
	DTM_WORKER_NONE = 0, /* no process */
	DTM_WORKER_STARTING, /* registered by the launcher, not there yet */
	DTM_WORKER_RUNNING,
	DTM_WORKER_PAUSED /* restored, cloned or dtm_pause() */
} DtmWorkerState;

typedef enum DtmWorkerExit
{
	DTM_EXIT_ERROR = 0, /* anything unforeseen, also pg_terminate_backend */
	DTM_EXIT_ABSENT,    /* the extension is not there */
	DTM_EXIT_ASIDE,     /* asked to step aside, or to start anew */
	DTM_EXIT_GONE       /* the database does not exist any more */
} DtmWorkerExit;

/* Ids of transactions that committed backends pass to a coordinator. */
typedef struct DtmInbox
{
	slock_t mutex;
	uint32 head;            /* next to read */
	uint32 tail;            /* next to write */
	bool overflow;          /* ids were lost: sweep the table */
	bool control;           /* look at dtm.node again */
	XLogRecPtr flush_up_to; /* newest commit that was not flushed when it was put in */
	int64 ids[DTM_INBOX_SIZE];
} DtmInbox;

typedef struct DtmCoordinatorSlot
{
	/* under DtmShared.lock */
	DtmWorkerState state;
	DtmWorkerExit last_exit;
	pid_t pid;
	int proc;          /* number of its PGPROC, -1 when none */
	int workers;       /* how many share the database, as it believes */
	uint64 generation; /* of the process that has it */
	TimestampTz started_at;
	TimestampTz exited_at;
	int failures;                        /* starts in a row that ended in an error */
	char http_address[DTM_HTTP_ADDRESS]; /* where it listens, with the port; */
	int http_port;                       /* 0 = nowhere */

	/* written by the coordinator alone, read without a lock */
	pg_atomic_uint32 in_flight;
	pg_atomic_uint32 calls_out;
	pg_atomic_uint64 calls;
	pg_atomic_uint64 finished;
	pg_atomic_uint64 ticks;
	pg_atomic_uint64 last_tick_at;
	pg_atomic_uint64 calls_per_1000s;
	pg_atomic_uint64 rss_kb;
	pg_atomic_uint32 http_connections; /* open to its port */
	pg_atomic_uint32 http_waiting;     /* requests that wait for the result of a transaction */

	/* under error_mutex */
	slock_t error_mutex;
	TimestampTz last_error_at;
	char last_error[DTM_WORKER_ERROR];

	DtmInbox inbox;
} DtmCoordinatorSlot;

typedef enum DtmTaskState
{
	DTM_TASK_FREE = 0,
	DTM_TASK_QUEUED,
	DTM_TASK_RUNNING,
	DTM_TASK_DONE
} DtmTaskState;

/*
 * One sql: call, or one write for another session; under DtmShared.lock but
 * for the fields of the running one.
 */
typedef struct DtmTask
{
	DtmTaskState state;
	int coordinator;               /* who wants it */
	uint64 coordinator_generation; /* a later one does not know it any more */
	uint64 serial;                 /* order of arrival */
	int executor;                  /* who runs it */
	int64 id;
	uint32 hold;
	uint16 branch;
	uint8 role;
	uint8 op;
	int32 timeout_ms;
	TimestampTz started_at;
	uint8 outcome;  /* DtmOutcome when done */
	bool postponed; /* ... but it was no attempt: the workflow was moved on instead */
	char reason[DTM_TASK_REASON];

	/* a write for another session: dtm_autonomous.h */
	uint8 autonomous; /* DtmAutonomousKind, or 0 */
	int requester;    /* number of the PGPROC that waits, -1 when it has given up */
	pid_t requester_pid;
	dsm_handle argument;
	Size argument_len;
	int sqlstate; /* 0 = done */
} DtmTask;

typedef struct DtmExecutorSlot
{
	pid_t pid; /* 0 = free, -1 = registered */
	int proc;
	TimestampTz since;
	bool busy;
	pg_atomic_uint64 calls;
} DtmExecutorSlot;

typedef struct DtmDatabaseSlot
{
	Oid dboid;         /* InvalidOid = free */
	pid_t aside_for;   /* pid that runs DDL on the database, 0 = none */
	uint64 generation; /* of coordinators started here */
	uint64 task_serial;
	pg_atomic_uint32 settings;  /* how often its own settings of ours were changed */
	pg_atomic_uint32 xa_sweeps; /* asked for: a session left something prepared, perhaps */
	DtmCoordinatorSlot coordinators[DTM_MAX_COORDINATORS];
	DtmExecutorSlot executors[DTM_MAX_EXECUTORS];
	DtmTask tasks[DTM_MAX_TASKS];
	DtmMetrics metrics;
} DtmDatabaseSlot;

typedef struct DtmWaiter
{
	Oid dboid; /* InvalidOid = free */
	int64 id;
	int proc;
} DtmWaiter;

typedef struct DtmShared
{
	LWLock *lock;
	pid_t launcher_pid;
	int launcher_proc; /* -1 when none */
	slock_t request_mutex;
	int n_requests;
	bool rescan; /* too many requests: look at all databases */
	Oid requests[DTM_MAX_REQUESTS];
	pg_atomic_uint32 n_waiters;
	slock_t waiter_mutex;
	DtmWaiter waiters[DTM_MAX_WAITERS];
	int n_databases;
	DtmDatabaseSlot databases[FLEXIBLE_ARRAY_MEMBER];
} DtmShared;

/* NULL when the library was not preloaded. */
extern DtmShared *dtm_shared;

/* Install the hooks; called by _PG_init while libraries are preloaded. */
extern void dtm_shmem_init(void);

/* Slot of a database, or -1.  Reading without the lock is a hint only. */
extern int dtm_shmem_find(Oid dboid);

/* Slot of a database, a new one when there is none; -1 when all are taken.  Under the lock. */
extern int dtm_shmem_claim(Oid dboid);

/* Ask the launcher to look at a database; nothing in it can fail. */
extern void dtm_shmem_request(Oid dboid);

/*
 * Put ids into the inboxes of this database's coordinators and wake them.
 * Called after a commit: no ERROR, no lock that can wait for long.
 */
extern void
dtm_shmem_deliver(Oid dboid, const int64 *ids, int n, bool overflow, XLogRecPtr not_flushed);

/*
 * What ALTER DATABASE or ALTER ROLE has set for a database (InvalidOid: for
 * all) is committed: its coordinators start anew, as a process reads that but
 * once.  Nothing in it can fail.
 */
extern void dtm_shmem_settings_changed(Oid dboid);

/* Set the latch of a process by its number; -1 does nothing. */
extern void dtm_shmem_wake(int proc);

/* Wait registrations of dtm_wait; false when the table is full. */
extern bool dtm_shmem_wait_begin(int64 id);
extern void dtm_shmem_wait_end(int64 id);

/* Wake who waits for one of these; called by the coordinator after its commit. */
extern void dtm_shmem_wake_waiters(const int64 *ids, int n);

#endif /* DTM_SHMEM_H */
