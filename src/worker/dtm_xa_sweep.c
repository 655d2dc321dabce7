/* -------------------------------------------------------------------------
 *
 * dtm_xa_sweep.c
 *		What sessions left prepared on foreign servers when a crash came
 *		before their decision.
 *
 * A transaction that has committed has a row, and is driven like any other.
 * One that has not has none, and nobody but the name of what it prepared
 * tells of it.  So the first coordinator asks the servers of dtm.xa_server
 * for such names: at its start, when a session asks for it, and now and then.
 *
 *	 local transaction in progress	its session decides: look again
 *	 unfinished row					its driver does it
 *	 row that succeeded				COMMIT PREPARED
 *	 row that failed				dtm_stop() has left it to a person
 *	 no row, and not committed		ROLLBACK PREPARED
 *	 no row, but committed			somebody has stopped and purged it, or a failover has
 *									given its number out again: left to a person
 *	 local transaction to come		of a copy of this database, or lost in a failover: so, too
 *
 * The order matters: first the list, then whether the transaction is in
 * progress, then the row, each as of a later moment than the one before.
 *
 * Runs in the coordinator.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "dtm_coordinator.h"
#include "dtm_foreign.h"
#include "dtm_pq.h"
#include "dtm_settings.h"
#include "dtm_xa_gid.h"

#define LOOK_INTERVAL_MS \
	600000                /* what a server finished late, after its session was told otherwise */
#define AGAIN_MS 2000     /* while a local transaction is in progress */
#define STEP_BACK_MS 1000 /* the extension is locked by DDL */
#define CALL_TIMEOUT_MS 10000
#define ASKED_MS 200  /* however many sessions ask */
#define MAX_LIST 1000 /* names read at once; the rest is for the next look */
#define MAX_STARTS 16 /* looks begun in one round of the loop */

/* A server as one role uses it. */
typedef struct Look
{
	Oid server;
	Oid role;
	char name[NAMEDATALEN];
	int failures;   /* in a row, as in the table */
	TimestampTz at; /* the next one; DT_NOEND: when all are due */
	uint64 horizon; /* local transactions before it shall be gone when we are done */
	int calls;      /* out */
	bool again;     /* there is more, or it is too early to say */
	bool clean;     /* nothing was left when it was looked at last, and nobody has asked since */
	bool seen;      /* in the table, at the last reading */
	char problem[DTM_MAX_ERROR_LEN + 1];
} Look;

struct DtmXaSweep
{
	char prefix[DTM_XA_PREFIX_SIZE];
	Look *looks;
	int n;
	int size;
	TimestampTz not_before; /* the next reading, when asked for */
	TimestampTz read_at;    /* when to read the table, and look everywhere */
	uint32 asked;           /* as of the last reading */
};

static TimestampTz
in_ms(int64 ms)
{
	return TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);
}

void
dtm_xa_sweep_init(DtmCoordinator *c)
{
	if (c->number != 0)
		return;
	c->xa_sweep = MemoryContextAllocZero(c->context, sizeof(DtmXaSweep));
	dtm_xa_prefix(GetSystemIdentifier(), MyDatabaseId, c->xa_sweep->prefix);
	c->xa_sweep->read_at = DT_NOBEGIN;
}

TimestampTz
dtm_xa_sweep_next(const DtmCoordinator *c)
{
	const DtmXaSweep *sweep = c->xa_sweep;
	TimestampTz next;

	if (sweep == NULL)
		return DT_NOEND;
	next = sweep->read_at;
	if (pg_atomic_read_u32(&c->db->xa_sweeps) != sweep->asked)
		next = Min(next, sweep->not_before);
	for (int i = 0; i < sweep->n; i++)
	{
		if (sweep->looks[i].calls == 0)
			next = Min(next, sweep->looks[i].at);
	}
	return next;
}

/* ---- in a transaction of its own, which may fail ---- */

typedef void (*SweepWork)(DtmCoordinator *c, void *arg);

/* False, with the error, when it failed; without one: the extension is busy. */
static bool
in_transaction(DtmCoordinator *c, SweepWork work, void *arg, ErrorData **error)
{
	volatile bool done = false;
	volatile bool busy = false;

	*error = NULL;
	MemoryContextSwitchTo(c->tick_context);
	PG_TRY();
	{
		busy = !dtm_tick_begin(c);
		if (!busy)
		{
			MemoryContextSwitchTo(c->tick_context);
			if (dtm_store_pause_reason() != NULL)
				dtm_coordinator_leave(c, DTM_EXIT_ASIDE);
			work(c, arg);
			dtm_tick_commit(c, false);
			done = true;
		}
	}
	PG_CATCH();
	{
		*error = dtm_tick_recover(c);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(c->tick_context);
	return done;
}

/* ---- which servers ---- */

static Look *
find(DtmXaSweep *sweep, Oid server, Oid role)
{
	for (int i = 0; i < sweep->n; i++)
	{
		if (sweep->looks[i].server == server && sweep->looks[i].role == role)
			return &sweep->looks[i];
	}
	return NULL;
}

/* The number of a look is in the tags of its calls: they stay where they are. */
static Look *
add(DtmCoordinator *c, Oid server, Oid role)
{
	DtmXaSweep *sweep = c->xa_sweep;
	Look *look = find(sweep, server, role);

	if (look != NULL)
		return look;
	if (sweep->n == sweep->size)
	{
		sweep->size = Max(16, sweep->size * 2);
		sweep->looks = sweep->looks == NULL
			? MemoryContextAlloc(c->context, sizeof(Look) * sweep->size)
			: repalloc(sweep->looks, sizeof(Look) * sweep->size);
	}
	look = &sweep->looks[sweep->n++];
	memset(look, 0, sizeof(*look));
	look->server = server;
	look->role = role;
	return look;
}

static void
read_servers(DtmCoordinator *c, void *arg)
{
	DtmXaSweep *sweep = c->xa_sweep;
	DtmXaServer *servers;
	int n = dtm_store_xa_servers(&servers);
	uint64 horizon = U64FromFullTransactionId(ReadNextFullTransactionId());
	TimestampTz now = GetCurrentTimestamp();

	(void) arg;
	for (int i = 0; i < sweep->n; i++)
	{
		sweep->looks[i].seen = false;
		sweep->looks[i].at = DT_NOEND;
	}
	for (int i = 0; i < n; i++)
	{
		Look *look;

		if (servers[i].name == NULL)
		{
			/* nobody can go there any more, nor send anything there */
			dtm_store_xa_forget(servers[i].server, servers[i].role);
			continue;
		}
		look = add(c, servers[i].server, servers[i].role);
		look->seen = true;
		look->failures = servers[i].failures;
		look->at = now;
		look->horizon = horizon;
		strlcpy(look->name, servers[i].name, sizeof(look->name));
	}
}

/* ---- outcome of a look ---- */

static void
write_problem(DtmCoordinator *c, void *arg)
{
	const Look *look = arg;

	dtm_store_xa_problem(look->server, look->role, look->failures,
						 look->failures == 0 ? in_ms(LOOK_INTERVAL_MS) : look->at,
						 look->failures == 0 ? NULL : look->problem);
}

static void
forget_server(DtmCoordinator *c, void *arg)
{
	const Look *look = arg;

	dtm_store_xa_forget(look->server, look->role);
}

/* What keeps failing is looked at less and less often. */
static int64
pause_ms(int failures)
{
	int64 ms = dtm_retry_interval;

	for (int i = 1; i < failures && ms < dtm_retry_max_interval; i++)
		ms *= 2;
	return Min(ms, Max(dtm_retry_max_interval, dtm_retry_interval));
}

static void
settle(DtmCoordinator *c, Look *look)
{
	bool had_failed = look->failures > 0;
	ErrorData *error;

	if (look->problem[0] != '\0')
	{
		look->failures++;
		look->at = in_ms(pause_ms(look->failures));
	}
	else
	{
		look->failures = 0;
		look->clean = !look->again;
		look->at = look->again ? in_ms(AGAIN_MS) : DT_NOEND;
	}
	if ((had_failed || look->failures > 0) && !in_transaction(c, write_problem, look, &error) &&
		error != NULL && dtm_tick_may_log(c))
		ereport(LOG,
				(errmsg("could not note a problem with server \"%s\": %s", look->name,
						error->message)));
	look->problem[0] = '\0';
}

static void
note_problem(Look *look, const char *problem)
{
	strlcpy(look->problem, problem, sizeof(look->problem));
	look->problem[pg_mbcliplen(look->problem, strlen(look->problem), sizeof(look->problem) - 1)] =
		'\0';
}

/* ---- calls ---- */

/* Throws what is wrong with the server or the mapping. */
static void
start_call(DtmCoordinator *c, Look *look, const DtmForeign *foreign, DtmPqCall *call)
{
	call->tag = DTM_XA_SWEEP_TAG;
	call->tag2 = (uint64) (look - c->xa_sweep->looks) << 32 | (uint32) look->calls;
	call->timeout_ms = Max(CALL_TIMEOUT_MS, dtm_request_timeout);
	call->server = foreign->name;
	call->keywords = foreign->keywords;
	call->values = foreign->values;
	call->fingerprint = foreign->fingerprint;
	call->password_required = foreign->password_required;
	if (dtm_pq_start(c->pq, call) != DTM_OK)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory for a call")));
	look->calls++;
}

static void
ask_for_list(DtmCoordinator *c, void *arg)
{
	Look *look = arg;
	DtmPqCall call;

	memset(&call, 0, sizeof(call));
	call.kind = DTM_PQ_LIST;
	call.prefix = c->xa_sweep->prefix;
	call.max_rows = MAX_LIST;
	start_call(c, look, dtm_foreign_get(look->name, look->role, ""), &call);
}

void
dtm_xa_sweep(DtmCoordinator *c)
{
	DtmXaSweep *sweep = c->xa_sweep;
	TimestampTz now = GetCurrentTimestamp();
	ErrorData *error;
	uint32 asked;
	int started = 0;

	if (sweep == NULL || c->stepping_back || dtm_xa_sweep_next(c) > now)
		return;
	asked = pg_atomic_read_u32(&c->db->xa_sweeps);
	if (sweep->read_at <= now || (asked != sweep->asked && sweep->not_before <= now))
	{
		bool read = in_transaction(c, read_servers, NULL, &error);

		if (error != NULL && dtm_tick_may_log(c))
			ereport(LOG, (errmsg("could not read dtm.xa_server: %s", error->message)));
		for (int i = 0; i < sweep->n && asked != sweep->asked; i++)
			sweep->looks[i].clean = false;
		sweep->read_at = in_ms(read ? LOOK_INTERVAL_MS : STEP_BACK_MS);
		sweep->not_before = in_ms(ASKED_MS);
		sweep->asked = asked;
		if (!read)
			return;
	}
	for (int i = 0; i < sweep->n && started < MAX_STARTS; i++)
	{
		Look *look = &sweep->looks[i];

		if (!look->seen || look->calls > 0 || look->at > now)
			continue;
		started++;
		look->again = false;
		if (!in_transaction(c, ask_for_list, look, &error))
		{
			if (error == NULL)
			{
				look->at = in_ms(STEP_BACK_MS);
				continue;
			}

			/* nothing was left at the last look, and since then nobody has left anything */
			if (error->sqlerrcode == ERRCODE_UNDEFINED_OBJECT && look->clean &&
				in_transaction(c, forget_server, look, &error))
			{
				look->seen = false;
				look->at = DT_NOEND;
				continue;
			}
			note_problem(look, error == NULL ? "the extension is locked" : error->message);
		}
		if (look->calls == 0)
			settle(c, look);
	}
}

/*
 * One that has not begun here is of a copy of this database that went on, or
 * of the server that this one was a standby of: only a person can know.
 */
static bool
is_to_come(uint64 local_xid)
{
	return local_xid >= U64FromFullTransactionId(ReadNextFullTransactionId());
}

/* Of the local transaction that gave a name: is it still in progress? */
static bool
is_in_progress(uint64 local_xid)
{
	uint64 next = U64FromFullTransactionId(ReadNextFullTransactionId());

	if (next - local_xid > PG_INT32_MAX / 2)
		return false;
	return TransactionIdIsInProgress((TransactionId) local_xid);
}

/*
 * Has it committed, as far as that is still known?  Its row can be gone only
 * when somebody gave it up (dtm_stop) and it was purged since.
 */
static bool
has_committed(uint64 local_xid)
{
	LOCAL_FCINFO(call, 1);
	Datum status;

	InitFunctionCallInfoData(*call, NULL, 1, InvalidOid, NULL, NULL);
	call->args[0].value = FullTransactionIdGetDatum(FullTransactionIdFromU64(local_xid));
	call->args[0].isnull = false;
	status = pg_xact_status(call);
	return !call->isnull && strcmp(TextDatumGetCString(status), "committed") == 0;
}

/* It holds locks there, and nobody here can end it: dtm.stuck must say so. */
static void
leave_to_person(Look *look, const char *xid)
{
	note_problem(look, psprintf("\"%s\" is of no transaction that is known here", xid));
	look->clean = false;
}

typedef struct Listed
{
	Look *look;
	const DtmPqDone *done;
} Listed;

/* See the table at the top; what comes out of it is called at once. */
static void
decide(DtmCoordinator *c, void *arg)
{
	Listed *listed = arg;
	Look *look = listed->look;
	DtmForeign *foreign = dtm_foreign_get(look->name, look->role, "");

	for (int i = 0; i < listed->done->n_list; i++)
	{
		const char *xid = listed->done->list[i];
		char gid[DTM_XA_GID_SIZE];
		uint64 local_xid;
		DtmFound found;
		DtmPqCall call;

		if (!dtm_xa_xid_parse(c->xa_sweep->prefix, xid, gid, &local_xid))
			continue;
		if (is_to_come(local_xid))
		{
			leave_to_person(look, xid);
			continue;
		}
		if (is_in_progress(local_xid))
		{
			look->again = look->again || local_xid < look->horizon;
			continue;
		}
		memset(&call, 0, sizeof(call));
		call.kind = DTM_PQ_FINISH;
		call.xid = xid;
		if (dtm_store_find(gid, false, &found) && found.type == DTM_TYPE_XA)
		{
			if (found.status != DTM_STATUS_SUCCEED)
				continue;
			call.commit = true;
		}
		else if (has_committed(local_xid))
		{
			leave_to_person(look, xid);
			continue;
		}
		start_call(c, look, foreign, &call);
		ereport(LOG,
				(errmsg("dtm_pg %s \"%s\" on server \"%s\": its session ended before it could",
						call.commit ? "commits" : "rolls back", xid, look->name)));
	}
	look->again = look->again || listed->done->list_cut;
}

bool
dtm_xa_sweep_ended(DtmCoordinator *c, const DtmPqDone *done)
{
	Look *look;
	Listed listed;
	ErrorData *error;

	if (done->tag != DTM_XA_SWEEP_TAG)
		return false;
	look = &c->xa_sweep->looks[done->tag2 >> 32];
	look->calls--;
	if (done->error != DTM_PQ_OK)
		note_problem(look, done->message);
	else if (done->kind == DTM_PQ_LIST && done->n_list > 0)
	{
		listed.look = look;
		listed.done = done;
		if (!in_transaction(c, decide, &listed, &error))
		{
			look->again = true;
			if (error != NULL)
				note_problem(look, error->message);
		}
	}
	if (look->calls == 0)
		settle(c, look);
	return true;
}
