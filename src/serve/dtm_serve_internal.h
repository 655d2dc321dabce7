/* -------------------------------------------------------------------------
 *
 * dtm_serve_internal.h
 *		The server of the HTTP API in a coordinator, shared by its files:
 *		dtm_serve.c, dtm_serve_batch.c, dtm_serve_wait.c.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_SERVE_INTERNAL_H
#define DTM_SERVE_INTERNAL_H

#include "dtm_serve.h"

#include "dtm_loop.h"

#define DTM_SERVE_BATCH 128 /* requests in one transaction */

/* A request that is answered in a later turn. */
typedef struct DtmServeKept
{
	dlist_node node;
	DtmHttpdRequest *request; /* its owner is this */
	TimestampTz look_at;      /* not before */

	/* one that met a lock is done again */
	TimestampTz give_up_at;

	/* one that waits for the first round; else id is 0 */
	int64 id;
	DtmTransType type;
	DtmStatus wanted;
	DtmApiRoute route;
	bool rpc;
	DtmText rpc_id; /* behind this struct */
	int looks;
} DtmServeKept;

struct DtmServe
{
	DtmHttpd *httpd; /* NULL: does not listen */
	DtmLoop *loop;   /* the descriptor that the coordinator waits on */
	MemoryContext context;
	MemoryContext batch_context;

	const char *database;
	char address[DTM_HTTP_ADDRESS]; /* where it listens, or tries to */
	int port;
	TimestampTz try_at; /* listen again */
	bool complained;    /* about this address and port */

	dlist_head deferred;                    /* DtmServeKept that met a lock */
	dlist_head waiting;                     /* DtmServeKept that wait for the first round */
	DtmHttpdRequest *left[DTM_SERVE_BATCH]; /* taken in the last turn, which had no time for them */
	int n_left;
	TimestampTz next_look; /* the earliest look_at of both, or DT_NOEND */
};

/* ---- dtm_serve.c ---- */

/* Send it; the request is no more. */
extern void dtm_serve_answer(DtmCoordinator *c, DtmHttpdRequest *request, DtmApiRoute route,
							 const DtmApiAnswer *answer);

/* Keep a request for later; it is freed with it. */
extern DtmServeKept *
dtm_serve_keep(DtmServe *serve, DtmHttpdRequest *request, dlist_head *list, DtmText rpc_id);
extern void dtm_serve_let_go(DtmServeKept *kept);

/* ---- dtm_serve_batch.c ---- */

/* Do these, and answer, defer or keep each of them, or leave it for the next turn. */
extern void dtm_serve_batch(DtmCoordinator *c, DtmHttpdRequest **requests, int n);

/* Try those again that met a lock, as far as it is time and there is time. */
extern void dtm_serve_deferred(DtmCoordinator *c, TimestampTz now);

/* ---- dtm_serve_wait.c ---- */

/* Its first round is waited for; what it asked for is committed. */
extern void dtm_serve_wait(DtmCoordinator *c, const DtmServeCall *call);

/* A tick has written what became of it, and nothing of it is out. */
extern void dtm_serve_wait_settled(DtmCoordinator *c, const DtmHeld *held);

/* Look at those that nobody here tells of. */
extern void dtm_serve_wait_look(DtmCoordinator *c, TimestampTz now);

#endif /* DTM_SERVE_INTERNAL_H */
