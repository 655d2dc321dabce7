/* -------------------------------------------------------------------------
 *
 * dtm_serve_batch.c
 *		The requests of a turn in one database transaction, answered after
 *		its commit.
 *
 * What is refused is an answer.  An ERROR undoes all of it: the one at fault
 * is done alone and gets the message, the others once more together, so that
 * nobody who sends such requests can take their common commit from others.
 * One that meets somebody's lock is tried again for a while, alone: waiting
 * for it here would stop the loop.  For the same reason a turn is short,
 * whatever was asked for: what is left has the next one.
 *
 * Not here: the port (dtm_serve.c).  Runs in the coordinator.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "dtm_arena.h"
#include "dtm_serve_internal.h"
#include "dtm_sql.h"
#include "dtm_version.h"

#define DEFER_MS 50     /* after a lock, or while DDL has the extension */
#define GIVE_UP_MS 5000 /* so long */
#define LOCK_TIMEOUT "10ms"
#define MAX_AT_FAULT 8       /* of one turn; with more all are done one by one */
#define LONG_BATCH_US 100000 /* the loop drives the transactions, too */
#define LONG_ALONE_US 50000

void
dtm_serve_say(DtmServeCall *call, DtmApiOutcome outcome, const char *message)
{
	DtmText said = {message, (uint32_t) strlen(message)};

	dtm_api_result(&call->api, outcome, said, &call->arena, &call->answer);
}

/*
 * Texts from the wire are UTF-8, and are stored as they came.  In a database
 * of another encoding only ASCII is the same in both.
 */
static bool
fits_encoding(DtmServeCall *call)
{
	const DtmHttpdRequest *request = call->request;
	const char *at = request->body;
	const char *end = at + request->body_len;

	if (GetDatabaseEncoding() == PG_UTF8 || GetDatabaseEncoding() == PG_SQL_ASCII)
		return true;
	for (; at < end; at++)
	{
		bool escaped = *at == '\\' && end - at > 5 && at[1] == 'u';

		if ((*at & 0x80) != 0 || (escaped && (at[2] != '0' || at[3] != '0' || at[4] > '7')))
		{
			dtm_serve_say(call, DTM_API_ERROR,
						  "the body has characters beyond ASCII, which this database takes by SQL only: its "
						  "encoding is not UTF8");
			return false;
		}
		if (*at == '\\')
			at++; /* a doubled backslash begins no escape */
	}
	return true;
}

/* What it wants; false when it is answered already. */
static bool
read_request(DtmServeCall *call, DtmCoordinator *c, DtmHttpdRequest *request)
{
	memset(call, 0, sizeof(*call));
	call->c = c;
	call->request = request;
	call->arena = dtm_arena(CurrentMemoryContext);
	if (!dtm_api_read(request->method, request->uri, request->body, request->body_len, &call->arena,
					  &call->api, &call->answer))
		return false;
	if (call->api.route == DTM_API_PING)
		dtm_api_show_ping(&call->answer);
	else if (call->api.route == DTM_API_VERSION)
		dtm_api_show_version("v" DTM_VERSION, &call->arena, &call->answer);
	else
		return fits_encoding(call);
	return false;
}

/* In the transaction, as whoever asks. */
static void
do_request(DtmServeCall *call)
{
	Oid user;
	int sec_context;
	char *gid;

	if (!dtm_serve_access(call))
		return;
	GetUserIdAndSecContext(&user, &sec_context);
	SetUserIdAndSecContext(call->role, sec_context | SECURITY_LOCAL_USERID_CHANGE);
	switch (call->api.route)
	{
		case DTM_API_NEW_GID:
			gid = dtm_sql_new_gid();
			dtm_api_show_gid(&call->api, (DtmText){gid, (uint32_t) strlen(gid)}, &call->arena,
							 &call->answer);
			break;
		case DTM_API_PREPARE:
		case DTM_API_SUBMIT:
		case DTM_API_ABORT:
		case DTM_API_REGISTER_BRANCH:
		case DTM_API_FORCE_STOP:
		case DTM_API_RESET_NEXT_CRON_TIME:
		case DTM_API_RESET_CRON_TIME:
			dtm_serve_write(call);
			break;
		case DTM_API_PREPARE_WORKFLOW:
			dtm_serve_workflow(call);
			break;
		case DTM_API_QUERY:
		case DTM_API_ALL:
		case DTM_API_SCAN_KV:
		case DTM_API_QUERY_KV:
			dtm_serve_read(call);
			break;
		case DTM_API_SUBSCRIBE:
		case DTM_API_UNSUBSCRIBE:
		case DTM_API_DELETE_TOPIC:
			dtm_serve_topic(call);
			break;
		case DTM_API_METRICS:
			dtm_serve_metrics(call);
			break;
		case DTM_API_NOT_FOUND:
		case DTM_API_WRONG_METHOD:
		case DTM_API_VERSION:
		case DTM_API_JSON_RPC:
		case DTM_API_PING:
		case DTM_API_ROUTES:
			break; /* answered by read_request */
	}
	SetUserIdAndSecContext(user, sec_context);
}

/* The transaction is over: send the answer, or keep the request until there is one. */
static void
conclude(DtmCoordinator *c, DtmServeCall *call)
{
	if (call->request->owner != NULL)
		dtm_serve_let_go(call->request->owner);
	if (call->waits_for != 0)
		dtm_serve_wait(c, call);
	else
		dtm_serve_answer(c, call->request, call->api.route, &call->answer);
}

/* Later again, within bounds; false when its time is over. */
static bool
defer(DtmCoordinator *c, DtmHttpdRequest *request)
{
	DtmServeKept *kept = request->owner;
	TimestampTz now = GetCurrentTimestamp();

	if (kept == NULL)
	{
		kept = dtm_serve_keep(c->serve, request, &c->serve->deferred, (DtmText){"", 0});
		kept->give_up_at = TimestampTzPlusMilliseconds(now, GIVE_UP_MS);
	}
	kept->look_at = TimestampTzPlusMilliseconds(now, DEFER_MS);

	/* behind those that were not tried for want of time */
	dlist_delete(&kept->node);
	dlist_push_tail(&c->serve->deferred, &kept->node);
	return now < kept->give_up_at;
}

static void
give_up(DtmCoordinator *c, DtmServeCall *call, const char *message)
{
	dtm_serve_say(call, DTM_API_BUSY, message);
	conclude(c, call);
}

/* A message of the server for the wire, which is UTF-8. */
static const char *
wire_message(const ErrorData *error)
{
	char *message = error->hint == NULL ? pstrdup(error->message)
										: psprintf("%s; %s", error->message, error->hint);

	if (GetDatabaseEncoding() != PG_UTF8)
	{
		for (char *at = message; *at != '\0'; at++)
		{
			if (*at & 0x80)
				*at = '?';
		}
	}
	return message;
}

static void
answer_error(DtmCoordinator *c, DtmServeCall *call, const ErrorData *error)
{
	DtmApiOutcome outcome = DTM_API_ERROR;

	if (error->sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE)
		outcome = DTM_API_FORBIDDEN;
	else if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_INSUFFICIENT_RESOURCES ||
			 ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_TRANSACTION_ROLLBACK)
		outcome = DTM_API_BUSY;
	dtm_serve_say(call, outcome, wire_message(error));
	conclude(c, call);
}

/*
 * A commit that waits for a standby ends without one when this process is told
 * to end.  As sessions do then, we say nothing: nobody may take it for safe.
 */
static void
check_acknowledged(void)
{
	QueryCancelPending = false; /* there is nothing to cancel any more */
	CHECK_FOR_INTERRUPTS();
}

/* One request in a transaction of its own. */
static void
do_alone(DtmCoordinator *c, DtmHttpdRequest *request)
{
	DtmServeCall *call = palloc(sizeof(DtmServeCall));
	volatile bool begun = false;
	ErrorData *volatile error = NULL;
	MemoryContext context = CurrentMemoryContext;

	if (!read_request(call, c, request))
	{
		conclude(c, call);
		return;
	}
	PG_TRY();
	{
		begun = dtm_tick_begin(c);
		MemoryContextSwitchTo(context);
		if (begun)
		{
			do_request(call);
			dtm_tick_commit(c, call->wrote);
		}
	}
	PG_CATCH();
	{
		error = dtm_tick_recover(c);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);

	if (error != NULL && !dtm_tick_met_lock(error))
	{
		answer_error(c, call, error);
		return;
	}
	if (error == NULL && begun)
	{
		check_acknowledged();
		conclude(c, call);
		return;
	}
	if (!defer(c, request))
		give_up(c, call,
				error != NULL ? "the transaction is locked by another session; try again"
							  : "the extension is being changed; try again");
}

/* For the next turn; they are the oldest there. */
static void
leave(DtmServe *serve, DtmHttpdRequest **requests, int n)
{
	Assert(serve->n_left + n <= DTM_SERVE_BATCH);
	memcpy(serve->left + serve->n_left, requests, sizeof(DtmHttpdRequest *) * n);
	serve->n_left += n;
}

static bool
is_long(TimestampTz since, int64 us)
{
	return GetCurrentTimestamp() - since > us;
}

static void
do_singly(DtmCoordinator *c, DtmHttpdRequest **requests, int n)
{
	MemoryContext single =
		AllocSetContextCreate(c->serve->batch_context, "dtm serve one", ALLOCSET_DEFAULT_SIZES);
	TimestampTz since = GetCurrentTimestamp();

	for (int i = 0; i < n; i++)
	{
		if (i > 0 && is_long(since, LONG_ALONE_US))
		{
			leave(c->serve, requests + i, n - i);
			break;
		}
		MemoryContextSwitchTo(single);
		do_alone(c, requests[i]);
		MemoryContextReset(single);
	}
	MemoryContextSwitchTo(c->serve->batch_context);
}

/*
 * As many of them as there is time for, at least one.  0: there was an ERROR,
 * or DDL, and nothing is done; *at_fault is the one it came from, or -1.
 */
static int
do_together(DtmCoordinator *c, DtmServeCall **calls, int n, int *at_fault)
{
	MemoryContext context = CurrentMemoryContext;
	TimestampTz since = GetCurrentTimestamp();
	volatile int at = -1;
	volatile int done = 0;

	PG_TRY();
	{
		if (dtm_tick_begin(c))
		{
			bool wrote = false;
			int i = 0;

			MemoryContextSwitchTo(context);
			while (i < n && (i == 0 || !is_long(since, LONG_BATCH_US)))
			{
				at = i;
				do_request(calls[i]);
				wrote = wrote || calls[i]->wrote;
				i++;
			}
			at = -1;
			dtm_tick_commit(c, wrote);
			done = i;
		}
	}
	PG_CATCH();
	{
		(void) dtm_tick_recover(c);
		done = 0;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	*at_fault = at;
	return done;
}

/* Read them into calls; those that are answered so are taken out. */
static int
read_all(DtmCoordinator *c, DtmHttpdRequest **requests, int n, DtmServeCall **calls)
{
	int n_calls = 0;

	for (int i = 0; i < n; i++)
	{
		DtmServeCall *call = palloc(sizeof(DtmServeCall));

		if (read_request(call, c, requests[i]))
		{
			requests[n_calls] = requests[i];
			calls[n_calls++] = call;
		}
		else
			conclude(c, call);
	}
	return n_calls;
}

/* Together, without those at fault: these are what is left in requests; returns their number. */
static int
do_most(DtmCoordinator *c, DtmHttpdRequest **requests, int n)
{
	DtmHttpdRequest *at_fault[MAX_AT_FAULT];
	DtmServeCall *calls[DTM_SERVE_BATCH];
	TimestampTz since = GetCurrentTimestamp();
	int n_at_fault = 0;

	while ((n = read_all(c, requests, n, calls)) > 0)
	{
		int i;
		int done = do_together(c, calls, n, &i);

		for (int k = 0; k < done; k++)
		{
			check_acknowledged();
			conclude(c, calls[k]);
		}
		if (done > 0)
		{
			leave(c->serve, requests + done, n - done);
			n = 0;
			break;
		}
		if (i < 0 || n_at_fault == MAX_AT_FAULT)
			break;
		MemoryContextReset(c->serve->batch_context);
		at_fault[n_at_fault++] = requests[i];
		memmove(requests + i, requests + i + 1, sizeof(DtmHttpdRequest *) * (n - i - 1));
		n--;
		if (is_long(since, LONG_BATCH_US))
		{
			leave(c->serve, requests, n);
			n = 0;
			break;
		}
	}
	memcpy(requests + n, at_fault, sizeof(DtmHttpdRequest *) * n_at_fault);
	return n + n_at_fault;
}

/* Nobody's lock is waited for as long as ticks do that. */
static void
set_lock_timeout(const char *timeout)
{
	SetConfigOption("lock_timeout", timeout, PGC_SUSET, PGC_S_OVERRIDE);
}

void
dtm_serve_batch(DtmCoordinator *c, DtmHttpdRequest **requests, int n)
{
	MemoryContext old = MemoryContextSwitchTo(c->serve->batch_context);

	set_lock_timeout(LOCK_TIMEOUT);
	n = do_most(c, requests, n);
	do_singly(c, requests, n);
	set_lock_timeout(DTM_LOCK_TIMEOUT);
	MemoryContextSwitchTo(old);
	MemoryContextReset(c->serve->batch_context);
}

void
dtm_serve_deferred(DtmCoordinator *c, TimestampTz now)
{
	DtmServe *serve = c->serve;
	MemoryContext old = MemoryContextSwitchTo(serve->batch_context);
	TimestampTz since = GetCurrentTimestamp();
	dlist_mutable_iter it;

	set_lock_timeout(LOCK_TIMEOUT);
	dlist_foreach_modify(it, &serve->deferred)
	{
		DtmServeKept *kept = dlist_container(DtmServeKept, node, it.cur);

		if (kept->look_at > now)
			continue;
		do_alone(c, kept->request);
		MemoryContextSwitchTo(serve->batch_context);
		MemoryContextReset(serve->batch_context);
		if (is_long(since, LONG_ALONE_US))
			break;
	}
	set_lock_timeout(DTM_LOCK_TIMEOUT);
	MemoryContextSwitchTo(old);
}
