/* -------------------------------------------------------------------------
 *
 * dtm_serve_batch.c
 *		The requests of a turn in one database transaction, answered after
 *		its commit.
 *
 * What is refused is an answer.  An ERROR undoes all of it, and each is done
 * again in a transaction of its own, so that only the one at fault gets the
 * message.  One that meets somebody's lock is tried again for a while:
 * waiting for it here would stop the loop.
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
#define SHORT_LOCK_TIMEOUT "20ms"

static void
say(DtmServeCall *call, DtmApiOutcome outcome, const char *message)
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
			say(call, DTM_API_ERROR,
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
		dtm_serve_let_go(c->serve, call->request->owner);
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
	return now < kept->give_up_at;
}

static void
give_up(DtmCoordinator *c, DtmServeCall *call, const char *message)
{
	say(call, DTM_API_BUSY, message);
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
	say(call, outcome, wire_message(error));
	conclude(c, call);
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
		conclude(c, call);
		return;
	}
	if (!defer(c, request))
		give_up(c, call,
				error != NULL ? "the transaction is locked by another session; try again"
							  : "the extension is being changed; try again");
}

/* An ERROR, or DDL: one by one. */
static void
do_singly(DtmCoordinator *c, DtmHttpdRequest **requests, int n)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext single = AllocSetContextCreate(context, "dtm serve one", ALLOCSET_DEFAULT_SIZES);

	SetConfigOption("lock_timeout", SHORT_LOCK_TIMEOUT, PGC_SUSET, PGC_S_OVERRIDE);
	for (int i = 0; i < n; i++)
	{
		MemoryContextSwitchTo(single);
		do_alone(c, requests[i]);
		MemoryContextReset(single);
	}
	MemoryContextSwitchTo(context);
	SetConfigOption("lock_timeout", DTM_LOCK_TIMEOUT, PGC_SUSET, PGC_S_OVERRIDE);
}

/* All of them at once; false when there was an ERROR, and nothing is done. */
static bool
do_together(DtmCoordinator *c, DtmServeCall **calls, int n)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool ok = false;

	PG_TRY();
	{
		if (dtm_tick_begin(c))
		{
			bool wrote = false;

			MemoryContextSwitchTo(context);
			for (int i = 0; i < n; i++)
			{
				do_request(calls[i]);
				wrote = wrote || calls[i]->wrote;
			}
			dtm_tick_commit(c, wrote);
			ok = true;
		}
	}
	PG_CATCH();
	{
		(void) dtm_tick_recover(c);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return ok;
}

void
dtm_serve_batch(DtmCoordinator *c, DtmHttpdRequest **requests, int n)
{
	MemoryContext old = MemoryContextSwitchTo(c->serve->batch_context);
	DtmServeCall **calls = palloc(sizeof(DtmServeCall *) * n);
	int n_calls = 0;

	for (int i = 0; i < n; i++)
	{
		DtmServeCall *call = palloc(sizeof(DtmServeCall));

		if (read_request(call, c, requests[i]))
			calls[n_calls++] = call;
		else
			conclude(c, call);
	}
	if (n_calls > 0 && do_together(c, calls, n_calls))
	{
		for (int i = 0; i < n_calls; i++)
			conclude(c, calls[i]);
	}
	else if (n_calls > 0)
	{
		for (int i = 0; i < n_calls; i++)
			requests[i] = calls[i]->request;
		do_singly(c, requests, n_calls);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(c->serve->batch_context);
}
