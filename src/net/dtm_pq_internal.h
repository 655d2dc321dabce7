/* -------------------------------------------------------------------------
 *
 * dtm_pq_internal.h
 *		What the files of the libpq client share: dtm_pq.c (interface, queues,
 *		limits), dtm_pq_entry.c (one call's memory), dtm_pq_connection.c
 *		(connections), dtm_pq_work.c (the statements of a call and what their
 *		results mean).
 *
 * Not for others.  A call, here an "entry", is queued at its server, then out
 * on a connection, then ended, then given; it is a member of one list at a
 * time, or of none while it is out or given.
 *
 *	 connection:  connecting --> busy --> cleaning --> idle --> busy ...
 *
 * Connections are used again by calls with the same parameters, to the last
 * byte: nobody gets a connection that was made with another's password.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_PQ_INTERNAL_H
#define DTM_PQ_INTERNAL_H

#include <libpq-fe.h>

#include "dtm_list.h"
#include "dtm_loop.h"
#include "dtm_pq.h"

#define DTM_PQ_MAX_SERVERS 256
#define DTM_PQ_IDLE_US 30000000   /* an idle connection is kept that long */
#define DTM_PQ_CLEAN_US 1000000   /* and one that is cleaned so long at most */
#define DTM_PQ_GRACE_US 500000    /* the server may say itself that the time is over */
#define DTM_PQ_CROWDED_US 5000000 /* a server that takes no more connections is spared */
#define DTM_PQ_MAX_TRIES 3        /* of a call whose connection cannot be had at once */
#define DTM_PQ_QUEUE_FULL_MS 1000 /* when to ask again after "queue is full" */

typedef struct DtmPqServer DtmPqServer;
typedef struct DtmPqConnection DtmPqConnection;

/* Where to and as whom; shared by entries and connections. */
typedef struct DtmPqParams
{
	int refs;
	int n;
	uint64_t fingerprint;
	bool password_required;
	const char **keywords; /* NULL at the end; all in this block of memory */
	const char **values;
} DtmPqParams;

typedef enum DtmPqStep
{
	DTM_PQ_STEP_NONE,
	DTM_PQ_STEP_LOOK, /* where is the barrier? */
	DTM_PQ_STEP_PASS, /* BEGIN, barrier */
	DTM_PQ_STEP_RUN,  /* function, COMMIT */
	DTM_PQ_STEP_SKIP, /* COMMIT: the barrier's row may be new */
	DTM_PQ_STEP_FINISH,
	DTM_PQ_STEP_LIST
} DtmPqStep;

typedef struct DtmPqEntry
{
	DtmLink link; /* server's queue, or done */
	DtmPqServer *server;
	DtmPqConnection *connection; /* while out */
	DtmPqParams *params;
	DtmPqKind kind;
	int timeout_ms;
	int tries;       /* connections that could not be had */
	bool only_fresh; /* a kept connection was found broken */
	bool question;
	bool commit;
	int max_rows;
	char *function; /* quoted; all in this block */
	char *payload;
	char *gid;
	char *trans_type;
	char *branch_id;
	char *op;
	char *ran_elsewhere; /* or NULL */
	char *xid;           /* or the prefix */
	int64_t queued_at_us;
	int64_t out_at_us;

	/* what the results of the current step came to */
	bool failed;    /* the first error is in done */
	bool committed; /* COMMIT was done */
	bool has_value; /* the one row of the step: */
	bool go;        /* barrier */
	PGresult *rows; /* list, or the function's answer */
	DtmPqDone done;
} DtmPqEntry;

typedef enum DtmPqState
{
	DTM_PQ_CONNECTING,
	DTM_PQ_BUSY,
	DTM_PQ_CLEANING,
	DTM_PQ_IDLE
} DtmPqState;

struct DtmPqConnection
{
	DtmLink link; /* server's idle or busy connections */
	DtmPq *pq;
	DtmPqServer *server;
	DtmPqParams *params;
	PGconn *conn;
	int fd; /* as the loop knows it; -1: it does not */
	DtmPqState state;
	DtmPqEntry *entry; /* while connecting or busy */
	DtmPqStep step;
	bool reached; /* somebody listens there */
	bool used;    /* a call was served before */
	bool dirty;   /* a function was run */
	bool failed;  /* while cleaning */
	int64_t deadline_us;
	char *barrier; /* "schema".dtm_barrier, or NULL: not looked up */
};

struct DtmPqServer
{
	DtmLink link;
	DtmLink queue;
	DtmLink idle; /* the last used first */
	DtmLink busy;
	int n_connections;
	bool failing; /* cannot be reached */
	bool recovered;
	int crowded_limit; /* until crowded_until_us */
	int64_t crowded_until_us;
	char name[];
};

struct DtmPq
{
	DtmLoop *loop;
	DtmPqLimits limits;
	int64_t now_us;
	DtmLink servers;
	int n_servers;
	int n_connections;
	int n_out;
	int n_queued;
	DtmLink done;
	DtmPqEntry *given;
	char *recovered_name;
};

/* dtm_pq.c */

extern void dtm_pq_read_clock(DtmPq *pq);

/* An entry that is in no list and on no connection has ended: give it to the owner. */
extern void dtm_pq_ended(DtmPq *pq, DtmPqEntry *entry);

/* Back to the front of its queue, for another connection. */
extern void dtm_pq_again(DtmPq *pq, DtmPqEntry *entry);

/* Something was heard of the server, or it was found to be away. */
extern void dtm_pq_alive(DtmPqServer *server);

/* Send out what waits and has a place. */
extern void dtm_pq_pump(DtmPq *pq);

/* dtm_pq_entry.c */

extern DtmRc dtm_pq_entry_new(const DtmPqCall *call, DtmPqEntry **out) DTM_MUST_CHECK;
extern void dtm_pq_entry_free(DtmPqEntry *entry);
extern void dtm_pq_params_release(DtmPqParams *params);
extern bool dtm_pq_params_equal(const DtmPqParams *a, const DtmPqParams *b);

/* Set error and message, the latter made one line of valid UTF-8 and cut to fit. */
extern void dtm_pq_fail(DtmPqEntry *entry, DtmPqError error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* dtm_pq_connection.c */

/* A new connection for this entry, which is out from now on; false: entry->done says why not. */
extern bool dtm_pq_connect(DtmPq *pq, DtmPqEntry *entry) DTM_MUST_CHECK;

/* Go on with an idle connection. */
extern void dtm_pq_reuse(DtmPqConnection *connection, DtmPqEntry *entry);

/* For good; its entry is taken from it before. */
extern void dtm_pq_close(DtmPqConnection *connection);

/* The call on it has ended, with its results read to the end. */
extern void dtm_pq_call_over(DtmPqConnection *connection);

/* The call on it has ended, and the connection cannot be used any more. */
extern void dtm_pq_call_broken(DtmPqConnection *connection);

/* Send a query; false when the connection is lost. */
extern bool dtm_pq_send(DtmPqConnection *connection, const char *query) DTM_MUST_CHECK;

/* Its deadline has passed. */
extern void dtm_pq_overdue(DtmPqConnection *connection);

/* dtm_pq_work.c */

/* Begin with the call of a connection that stands; false when the connection is lost. */
extern bool dtm_pq_work_begin(DtmPqConnection *connection) DTM_MUST_CHECK;

/* One result of the current step, which becomes the callee's. */
extern void dtm_pq_work_result(DtmPqConnection *connection, PGresult *result);

typedef enum DtmPqNext
{
	DTM_PQ_NEXT_WAIT, /* the next step is sent */
	DTM_PQ_NEXT_OVER, /* the call has ended, see its done */
	DTM_PQ_NEXT_LOST  /* the connection is */
} DtmPqNext;

/* All results of the step were read. */
extern DtmPqNext dtm_pq_work_next(DtmPqConnection *connection) DTM_MUST_CHECK;

/* What takes back all that a function can leave behind in a session. */
extern const char *dtm_pq_work_cleanup(const DtmPqConnection *connection);

#endif /* DTM_PQ_INTERNAL_H */
