/* -------------------------------------------------------------------------
 *
 * dtm_serve.c
 *		The port of the HTTP API in a coordinator: listen as
 *		dtm.http_listen says, share the port with the other coordinators of
 *		the database, take requests, send answers.
 *
 * One coordinator takes the port while nobody else has it, so that two
 * databases cannot share one by accident; the others join it.  Which of
 * them listen is in shared memory.
 *
 * Not here: what requests do (dtm_serve_batch.c).  Runs in the coordinator.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/epoll.h>
#include <time.h>

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "dtm_arena.h"
#include "dtm_serve_internal.h"
#include "dtm_settings.h"

#define MAX_HEAD (16 * 1024)
#define MIN_BODIES (32 * 1024 * 1024) /* bytes of all bodies held; at least four of the longest */
#define MAX_ANSWERS (128 * 1024 * 1024)
#define MAX_QUEUE 1000
#define RETRY_AFTER_S 1
#define LISTEN_AGAIN_MS 1000

/* libmicrohttpd's memory is broken: leave without touching it again. */
static DtmServe *panicking = NULL;

static void
on_panic(const char *message)
{
	if (panicking != NULL)
		panicking->httpd = NULL;
	ereport(FATAL,
			(errcode(ERRCODE_INTERNAL_ERROR), errmsg("libmicrohttpd gives up: %s", message)));
}

static DtmHttpdLimits
limits(void)
{
	DtmHttpdLimits l;

	memset(&l, 0, sizeof(l));
	l.max_head = MAX_HEAD;
	l.max_body = (size_t) dtm_http_max_body * 1024;
	l.max_bodies = Max((size_t) MIN_BODIES, 4 * l.max_body);
	l.max_answers = MAX_ANSWERS;
	l.max_connections = dtm_http_max_connections;
	l.max_queue = MAX_QUEUE;
	l.idle_ms = dtm_http_idle_timeout;
	l.read_ms = dtm_http_read_timeout;
	l.write_ms = dtm_http_read_timeout;
	l.retry_after_s = RETRY_AFTER_S;
	return l;
}

/* ---- listening ---- */

static bool
listens_there(const DtmCoordinatorSlot *slot, const char *address, int port)
{
	return slot->pid != 0 && slot->http_port == port && strcmp(slot->http_address, address) == 0;
}

static void
stop_listening(DtmCoordinator *c)
{
	DtmServe *serve = c->serve;
	DtmHttpd *httpd = serve->httpd;
	dlist_mutable_iter it;

	if (httpd == NULL)
		return;
	serve->httpd = NULL;
	serve->n_left = 0;
	dtm_loop_forget(serve->loop, dtm_httpd_fd(httpd));
	dlist_foreach_modify(it, &serve->deferred)
		dtm_serve_let_go(dlist_container(DtmServeKept, node, it.cur));
	dlist_foreach_modify(it, &serve->waiting)
		dtm_serve_let_go(dlist_container(DtmServeKept, node, it.cur));
	dtm_httpd_close(httpd);
	LWLockAcquire(dtm_shared->lock, LW_EXCLUSIVE);
	c->slot->http_port = 0;
	LWLockRelease(dtm_shared->lock);
}

/* Once for each address: it is tried again every second. */
static void
complain(DtmCoordinator *c, const char *problem, bool taken)
{
	DtmServe *serve = c->serve;

	if (serve->complained)
		return;
	serve->complained = true;
	dtm_coordinator_error(c, problem);
	ereport(WARNING,
			(errmsg("the HTTP API of database \"%s\" waits: %s", serve->database, problem),
			 taken ? errhint("Each database needs an address of its own: ALTER DATABASE ... SET "
							 "dtm.http_listen = '...'. It is tried again every second.")
				   : errhint("See the setting dtm.http_listen. It is tried again every second.")));
}

static void
readable(void *context, int fd, uint32_t events)
{
	/* dtm_httpd_dispatch comes anyway */
	(void) context;
	(void) fd;
	(void) events;
}

static void
start_listening(DtmCoordinator *c)
{
	DtmServe *serve = c->serve;
	DtmHttpdLimits l = limits();
	DtmHttpdShare share = DTM_HTTPD_FIRST;
	char error[256] = "";
	bool taken = false;

	/* one after the other: two that take it at once would keep each other out */
	LWLockAcquire(dtm_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < DTM_MAX_COORDINATORS; i++)
	{
		if (i != c->number && listens_there(&c->db->coordinators[i], serve->address, serve->port))
			share = DTM_HTTPD_JOIN;
	}
	serve->httpd =
		dtm_httpd_open(serve->address, serve->port, share, &l, &taken, error, sizeof(error));
	if (serve->httpd != NULL)
	{
		strlcpy(c->slot->http_address, serve->address, sizeof(c->slot->http_address));
		c->slot->http_port = serve->port;
	}
	LWLockRelease(dtm_shared->lock);

	if (serve->httpd != NULL &&
		dtm_loop_watch(serve->loop, dtm_httpd_fd(serve->httpd), EPOLLIN, readable, NULL) != DTM_OK)
	{
		stop_listening(c);
		strlcpy(error, "out of memory or descriptors", sizeof(error));
	}
	if (serve->httpd == NULL)
	{
		complain(c, error, taken);
		return;
	}
	serve->complained = false;
	ereport(LOG,
			(errmsg("the HTTP API of database \"%s\" listens on %s, port %d", serve->database,
					serve->address, dtm_httpd_port(serve->httpd))));
}

/* What dtm.http_listen says now. */
static void
follow_setting(DtmCoordinator *c)
{
	DtmServe *serve = c->serve;
	char address[DTM_HTTP_ADDRESS] = "";
	int port = 0;

	if (dtm_http_listen[0] != '\0' && dtm_http_listen_parse(dtm_http_listen, address, &port) != NULL)
		port = 0;
	if (port != serve->port || strcmp(address, serve->address) != 0)
	{
		stop_listening(c);
		strlcpy(serve->address, address, sizeof(serve->address));
		serve->port = port;
		serve->complained = false;
		serve->try_at = 0;
	}
	if (serve->httpd != NULL)
	{
		DtmHttpdLimits l = limits();

		dtm_httpd_set_limits(serve->httpd, &l);
	}
}

/* ---- requests ---- */

DtmServeKept *
dtm_serve_keep(DtmServe *serve, DtmHttpdRequest *request, dlist_head *list, DtmText rpc_id)
{
	DtmServeKept *kept =
		MemoryContextAllocZero(serve->context, sizeof(DtmServeKept) + rpc_id.len + 1);
	char *copy = (char *) (kept + 1);

	if (rpc_id.len > 0)
		memcpy(copy, rpc_id.data, rpc_id.len);
	kept->rpc_id.data = copy;
	kept->rpc_id.len = rpc_id.len;
	kept->request = request;
	request->owner = kept;
	dlist_push_tail(list, &kept->node);
	return kept;
}

void
dtm_serve_let_go(DtmServeKept *kept)
{
	dlist_delete(&kept->node);
	kept->request->owner = NULL;
	pfree(kept);
}

void
dtm_serve_answer(DtmCoordinator *c, DtmHttpdRequest *request, DtmApiRoute route,
				 const DtmApiAnswer *answer)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	dtm_serve_count(c, route, answer->status,
					now.tv_sec * INT64CONST(1000000) + now.tv_nsec / 1000 - request->arrived_us);

	/* when memory is short the connection is closed, which says as much */
	(void) dtm_httpd_answer(c->serve->httpd, request, answer->status, answer->content_type,
							answer->body, answer->len);
}

/* Clients that have gone: nobody waits for an answer. */
static void
forget_gone(DtmServe *serve)
{
	DtmHttpdRequest *request;

	while ((request = dtm_httpd_next_gone(serve->httpd)) != NULL)
	{
		if (request->owner == NULL)
			continue;
		dtm_serve_let_go(request->owner);
		dtm_httpd_drop(serve->httpd, request);
	}
}

/* Those that the last turn has left, then new ones. */
static int
gather(DtmServe *serve, DtmHttpdRequest **requests)
{
	int n = serve->n_left;
	DtmHttpdRequest *request;

	memcpy(requests, serve->left, sizeof(DtmHttpdRequest *) * n);
	serve->n_left = 0;
	while (n < DTM_SERVE_BATCH && (request = dtm_httpd_next_request(serve->httpd)) != NULL)
		requests[n++] = request;
	return n;
}

static void
plan_next_look(DtmServe *serve)
{
	dlist_iter it;

	serve->next_look = DT_NOEND;
	dlist_foreach(it, &serve->deferred) serve->next_look =
		Min(serve->next_look, dlist_container(DtmServeKept, node, it.cur)->look_at);
	dlist_foreach(it, &serve->waiting) serve->next_look =
		Min(serve->next_look, dlist_container(DtmServeKept, node, it.cur)->look_at);
}

/* ---- what the coordinator calls ---- */

static void
serve_begin(DtmCoordinator *c)
{
	DtmServe *serve = MemoryContextAllocZero(c->context, sizeof(DtmServe));

	serve->context = AllocSetContextCreate(c->context, "dtm serve", ALLOCSET_DEFAULT_SIZES);
	serve->batch_context =
		AllocSetContextCreate(serve->context, "dtm serve batch", ALLOCSET_DEFAULT_SIZES);
	serve->loop = dtm_loop_new();
	if (serve->loop == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory or file descriptors")));
	dlist_init(&serve->deferred);
	dlist_init(&serve->waiting);
	serve->next_look = DT_NOEND;
	StartTransactionCommand();
	serve->database = MemoryContextStrdup(serve->context, get_database_name(MyDatabaseId));
	CommitTransactionCommand();
	MemoryContextSwitchTo(c->context);
	panicking = serve;
	dtm_httpd_on_panic(on_panic);
	c->serve = serve;
	follow_setting(c);
}

static int
serve_fd(DtmCoordinator *c)
{
	return dtm_loop_fd(c->serve->loop);
}

static int
serve_timeout_ms(DtmCoordinator *c)
{
	DtmServe *serve = c->serve;
	int ms = -1;
	TimestampTz now;
	TimestampTz at = serve->next_look;

	if (serve->port == 0)
		return -1;
	if (serve->n_left > 0)
		return 0;
	if (serve->httpd == NULL)
		at = Min(at, serve->try_at);
	else
		ms = dtm_httpd_timeout_ms(serve->httpd);
	if (at != DT_NOEND)
	{
		int64 wait;

		now = GetCurrentTimestamp();
		wait = at <= now ? 0 : Min((at - now + 999) / 1000, 60000);
		ms = ms < 0 ? (int) wait : Min(ms, (int) wait);
	}
	return ms;
}

static void
serve_turn(DtmCoordinator *c)
{
	DtmServe *serve = c->serve;
	DtmHttpdRequest *requests[DTM_SERVE_BATCH];
	DtmHttpdCounts counts;
	TimestampTz now;
	int n;

	if (serve->port == 0)
		return;
	now = GetCurrentTimestamp();
	if (serve->httpd == NULL && now >= serve->try_at)
	{
		serve->try_at = TimestampTzPlusMilliseconds(now, LISTEN_AGAIN_MS);
		start_listening(c);
	}
	if (serve->httpd == NULL)
	{
		dtm_serve_publish(c, NULL);
		return;
	}
	(void) dtm_loop_dispatch(serve->loop);
	dtm_httpd_dispatch(serve->httpd);
	forget_gone(serve);
	n = gather(serve, requests);
	if (n > 0)
		dtm_serve_batch(c, requests, n);
	if (!dlist_is_empty(&serve->deferred))
		dtm_serve_deferred(c, now);
	counts = dtm_httpd_counts(serve->httpd);
	dtm_serve_publish(c, &counts);
	if (!dlist_is_empty(&serve->waiting))
		dtm_serve_wait_look(c, now);
	plan_next_look(serve);
}

static void
serve_settled(DtmCoordinator *c, const DtmHeld *held)
{
	dtm_serve_wait_settled(c, held);
}

static void
serve_leave(DtmCoordinator *c)
{
	stop_listening(c);
}

const DtmServer dtm_server = {
	.begin = serve_begin,
	.fd = serve_fd,
	.timeout_ms = serve_timeout_ms,
	.turn = serve_turn,
	.settled = serve_settled,
	.configure = follow_setting,
	.leave = serve_leave,
};
