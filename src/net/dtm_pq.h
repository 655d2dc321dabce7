/* -------------------------------------------------------------------------
 *
 * dtm_pq.h
 *		Calls to other PostgreSQL servers, many at once, over libpq's
 *		asynchronous interface and one epoll descriptor.
 *
 * Plain C.  Nothing waits here, with one exception that is libpq's: a host
 * name is resolved when the connection is started, and that blocks (give
 * hostaddr, or have a resolver that answers at once).  The owner waits on the
 * descriptor and calls dtm_pq_dispatch.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_PQ_H
#define DTM_PQ_H

#include "dtm_types.h"

typedef struct DtmPq DtmPq;

/* The barrier of a pg:// branch there; services count 01, 02, ..., executors take "sql". */
#define DTM_PQ_BARRIER_ID "pg"

typedef struct DtmPqLimits
{
	int max_server_calls; /* connections to one server; further calls queue */
	int max_calls;        /* connections in all; further calls queue */
	int max_queue;        /* waiting calls in all; further ones are postponed */
	size_t max_answer;    /* bytes of a function's answer that are kept */
} DtmPqLimits;

typedef enum DtmPqKind
{
	DTM_PQ_BRANCH, /* a function, behind the barrier there, in one transaction */
	DTM_PQ_FINISH, /* COMMIT PREPARED or ROLLBACK PREPARED; "does not exist" is a success */
	DTM_PQ_LIST    /* gids of the prepared transactions of that database */
} DtmPqKind;

/* Copied by dtm_pq_start; the caller keeps nothing alive.  All texts are UTF-8. */
typedef struct DtmPqCall
{
	uint64_t tag; /* given back with the result */
	uint64_t tag2;
	DtmPqKind kind;
	int timeout_ms; /* > 0; counted from when the call goes out, not queued */

	/* where to: see DtmForeign */
	const char *server; /* its name: limits, idle connections and messages are by server */
	const char *const *keywords;
	const char *const *values;
	uint64_t fingerprint;
	bool password_required;

	/* BRANCH */
	const char *function; /* f or schema.f, each part plain or "quoted", as in a target */
	const char *payload;  /* jsonb; NULL: {} */
	size_t payload_len;
	bool question;   /* a check-back: without a barrier row */
	const char *gid; /* ... and the barrier's other arguments */
	const char *trans_type;
	const char *branch_id;
	const char *op;

	/*
	 * NULL, or the op that this one undoes, when it did not run behind the
	 * barrier there: its row is put there first, or the undoing would be
	 * taken for that of something that never happened.
	 */
	const char *ran_elsewhere;

	/* FINISH */
	bool commit; /* else roll back */
	const char *xid;

	/* LIST */
	const char *prefix;
	int max_rows;
} DtmPqCall;

typedef enum DtmPqError
{
	DTM_PQ_OK,
	DTM_PQ_SQL, /* the server says why: sqlstate and message; also DTM01, DTM02 */
	DTM_PQ_TIMEOUT,
	DTM_PQ_CONNECT,  /* no connection, or it did not need the password that it must need */
	DTM_PQ_BROKEN,   /* lost on the way: whether it was committed is not known */
	DTM_PQ_REFUSED,  /* there is no barrier in that database */
	DTM_PQ_POSTPONED /* not tried: queue full; see retry_after_ms */
} DtmPqError;

typedef struct DtmPqDone
{
	uint64_t tag;
	uint64_t tag2;
	DtmPqKind kind;
	DtmPqError error;
	char sqlstate[6];                    /* of an error of the server, else "" */
	char message[DTM_MAX_ERROR_LEN + 1]; /* for people, UTF-8, without the SQLSTATE; "" when OK */

	/* BRANCH, when OK; valid until dtm_pq_release */
	bool skipped;       /* by the barrier: done before, or never to be done */
	const char *answer; /* what the function returned, as text; NULL: NULL, void, skipped, too long */
	size_t answer_len;

	/* LIST, when OK; valid until dtm_pq_release */
	char **list;
	int n_list;
	bool list_cut; /* there are more than max_rows */

	int retry_after_ms; /* of a postponed one */
	int64_t queued_us;
	int64_t took_us; /* from going out to the end */
} DtmPqDone;

/* NULL when memory or descriptors are short. */
extern DtmPq *dtm_pq_new(const DtmPqLimits *limits);
extern void dtm_pq_free(DtmPq *pq);

/* Change limits at run time; connections beyond them end with their calls. */
extern void dtm_pq_set_limits(DtmPq *pq, const DtmPqLimits *limits);

/* The epoll descriptor to wait on, readable when there is work. */
extern int dtm_pq_fd(const DtmPq *pq);

/*
 * Milliseconds until dtm_pq_dispatch and dtm_pq_next_done must be called
 * anyway; -1 = no deadline, 0 while ended calls wait to be fetched.
 */
extern int dtm_pq_timeout_ms(const DtmPq *pq);

/*
 * Start (or queue behind the limits) a call.  Ends up in dtm_pq_next_done
 * exactly once, unless cancelled.  DTM_INVALID, and no result, for a function
 * name that is none or a time-out that is not positive; DTM_NOMEM.
 *
 * A BRANCH is one transaction there: barrier, function if the barrier says so,
 * commit.  The function is searched in its schema, or without one in the
 * search path of a new session of that user.  A statement_timeout of
 * timeout_ms ends it there too; what the session was left with (settings,
 * locks, temporary tables, prepared statements) is discarded behind it.
 */
extern DtmRc dtm_pq_start(DtmPq *pq, const DtmPqCall *call) DTM_MUST_CHECK;

/*
 * Give up a call, queued, out, or ended and not fetched yet; no result will
 * come.  One that is out loses its connection; what it did there may still be
 * committed.  False when it is unknown.
 */
extern bool dtm_pq_cancel(DtmPq *pq, uint64_t tag, uint64_t tag2);

/* Move bytes.  Call when the descriptor is readable or the deadline has passed. */
extern void dtm_pq_dispatch(DtmPq *pq);

/* Next ended call, or NULL.  Asking for the next one releases the one before. */
extern DtmPqDone *dtm_pq_next_done(DtmPq *pq);
extern void dtm_pq_release(DtmPq *pq, DtmPqDone *done);

extern int dtm_pq_calls_out(const DtmPq *pq);
extern int dtm_pq_calls_queued(const DtmPq *pq);

/*
 * The servers that answer again after they could not be reached, one name per
 * call, NULL when there is none (valid until the next call).
 */
extern const char *dtm_pq_recovered(DtmPq *pq);

#endif /* DTM_PQ_H */
