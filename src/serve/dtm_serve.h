/* -------------------------------------------------------------------------
 *
 * dtm_serve.h
 *		DTM's HTTP API in the coordinator: from a request of dtm_httpd.h
 *		through the tables to an answer of dtm_api.h.
 *
 *	 dtm_serve.c			the port: listen, share, take requests, answer
 *	 dtm_serve_batch.c		requests of a turn in one database transaction
 *	 dtm_serve_access.c		whose request it is: token, role, or refused
 *	 dtm_serve_write.c		prepare, submit, abort, registerBranch, forceStop, reset...
 *	 dtm_serve_workflow.c	prepareWorkflow and what follows of a workflow its client runs
 *	 dtm_serve_topic.c		subscribe, unsubscribe, deletion of a topic
 *	 dtm_serve_read.c		query, all, scanKV, queryKV
 *	 dtm_serve_wait.c		who waits for the first round (wait_result)
 *	 dtm_serve_metrics.c	counters, and the page for Prometheus
 *
 * A request is answered when what it asked for is committed and flushed.  The
 * functions that do requests run in a transaction with an active snapshot, as
 * the request's role; what is refused is an answer, not an ERROR, wherever
 * that can be known: an ERROR throws the whole batch away, which is then done
 * again one by one.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_SERVE_H
#define DTM_SERVE_H

#include "dtm_coordinator.h"

#include "dtm_api.h"
#include "dtm_httpd.h"

/* One request while it is done; in memory that lasts as long as the batch. */
typedef struct DtmServeCall
{
	DtmCoordinator *c;
	DtmHttpdRequest *request;
	DtmArena arena; /* of CurrentMemoryContext while it is done */
	DtmApiCall api; /* what it asks for */

	Oid role;       /* whose it is */
	bool anonymous; /* it has no token, and no role was named for such: http(s) targets only */

	DtmApiAnswer answer; /* out: to be sent after the commit, unless waits_for is set */
	int64 waits_for;     /* out: id whose first round is waited for, or 0 */
	DtmTransType waits_type;
	DtmStatus wanted; /* SUCCEED of a submit, FAILED of an abort */
	bool wrote;       /* out: the commit has to be flushed before the answer */
} DtmServeCall;

/* ---- dtm_serve_access.c ---- */

/*
 * Whose request it is: sets role and anonymous, or answers 401 or 403 and
 * gives false.  May look into the tables: in the transaction, as owner.
 */
extern bool dtm_serve_access(DtmServeCall *call);

/*
 * Has its role, in SQL, the right to what it asks for?  Called by
 * dtm_serve_access: EXECUTE on the function that does the same, SELECT on the
 * view that shows the same, and USAGE on their schema.
 */
extern bool dtm_serve_may(const DtmServeCall *call);

/* ---- what does requests ---- */

extern void dtm_serve_write(DtmServeCall *call);
extern void dtm_serve_workflow(DtmServeCall *call);
extern void dtm_serve_topic(DtmServeCall *call);
extern void dtm_serve_read(DtmServeCall *call);

/* ---- dtm_serve_read.c ---- */

/* Answer with a workflow of the request's own role, and its progresses; false: not there, or damaged. */
extern bool dtm_serve_show_workflow(DtmServeCall *call, const char *gid);

/* ---- dtm_serve_metrics.c ---- */

/* A request of that route was answered with this HTTP status, so long after it had come. */
extern void dtm_serve_count(DtmCoordinator *c, DtmApiRoute route, int status, int64 took_us);
extern void dtm_serve_metrics(DtmServeCall *call);

/* How the port is doing; NULL: it is closed.  Once in a turn. */
extern void dtm_serve_publish(DtmCoordinator *c, const DtmHttpdCounts *counts);

/* ---- what they share; dtm_serve_batch.c, dtm_serve_write.c ---- */

/* The answer is this outcome, with a message; "" with SUCCESS. */
extern void dtm_serve_say(DtmServeCall *call, DtmApiOutcome outcome, const char *message);

/*
 * The transaction of a gid, as far as this request may steer it: false when
 * there is none.  One of another role is an answer (403): *refused.
 */
extern bool
dtm_serve_find(DtmServeCall *call, DtmText gid, bool with_body, DtmFound *found, bool *refused);

/* A text of a request as a C string of the database's encoding; an ERROR when it cannot be one. */
extern char *dtm_serve_cstring(DtmText from);

/* Tell the core and _PG_init: the coordinator's hooks. */
extern const DtmServer dtm_server;

#endif /* DTM_SERVE_H */
