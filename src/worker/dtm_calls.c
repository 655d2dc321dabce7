/* -------------------------------------------------------------------------
 *
 * dtm_calls.c
 *		Calls out and their results: the engine's calls become HTTP requests,
 *		and what comes back becomes events.
 *
 * Not here: calls of functions (dtm_sqlcalls.c), calls to other PostgreSQL
 * servers (dtm_pgcalls.c).  Runs in the coordinator, outside of database transactions.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/resource.h>

#include "access/xact.h"
#include "common/string.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "storage/fd.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "dtm_arena.h"
#include "dtm_answer.h"
#include "dtm_coordinator.h"
#include "dtm_rpc.h"
#include "dtm_settings.h"
#include "dtm_spec.h"

#define HOST_WAITERS 256 /* ids remembered per host */
#define MAX_HOSTS_REMEMBERED 256

/* tag of an alert; ids of transactions are positive */
#define ALERT_TAG UINT64_MAX

typedef struct HostWaiters
{
	char host[NAMEDATALEN * 4]; /* "host:port" */
	uint64 n;                   /* put in so far; the newest HOST_WAITERS are kept */
	int64 ids[HOST_WAITERS];
} HostWaiters;

uint64
dtm_calls_tag2(const DtmHeld *held, uint16 branch, uint8 role)
{
	return ((uint64) held->hold << 32) | ((uint64) branch << 8) | role;
}

/*
 * Descriptors for connections, beside those that PostgreSQL's own files
 * need.  The soft limit of this process is raised as far as that goes.
 */
static int
affordable_calls(int wanted)
{
	struct rlimit limit;
	int64 others = max_files_per_process + 100 + DTM_MAX_SERVER_CONNECTIONS;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
		return wanted;
	if ((int64) limit.rlim_cur < wanted + others)
	{
		rlim_t before = limit.rlim_cur;

		limit.rlim_cur = limit.rlim_max == RLIM_INFINITY
			? (rlim_t) (wanted + others)
			: Min(limit.rlim_max, (rlim_t) (wanted + others));
		if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
			limit.rlim_cur = before;
	}
	if ((int64) limit.rlim_cur >= wanted + others)
		return wanted;
	ereport(LOG,
			(errmsg("dtm_pg makes fewer calls at once than dtm.max_inflight: the process may open %lld files only",
					(long long) limit.rlim_cur),
			 errhint("Raise the limit of open files of the server.")));
	return (int) Max((int64) limit.rlim_cur / 2, 16);
}

static void
usual_limits(DtmHttpLimits *limits)
{
	memset(limits, 0, sizeof(*limits));
	limits->max_host_calls = dtm_max_host_calls;
	limits->max_calls = affordable_calls(dtm_max_inflight);

	/* one slow host may not fill the memory: the rest is postponed */
	limits->max_host_queue = Max(dtm_max_inflight / 2, 1);
	limits->max_body = (size_t) dtm_max_response_size * 1024;
	limits->ca_file = dtm_ca_file[0] == '\0' ? NULL : dtm_ca_file;
}

/* Conversions outside of transactions use what is looked up here. */
static void
prepare_encoding(void)
{
	if (GetDatabaseEncoding() == PG_UTF8)
		return;
	StartTransactionCommand();
	SetConfigOption("client_encoding", "UTF8", PGC_USERSET, PGC_S_OVERRIDE);
	CommitTransactionCommand();
}

void
dtm_calls_init(DtmCoordinator *c)
{
	DtmHttpLimits limits;
	HASHCTL ctl;

	usual_limits(&limits);
	c->http = dtm_http_new(&limits);
	if (c->http == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not set up HTTP calls")));

	memset(&ctl, 0, sizeof(ctl));
	ctl.keysize = sizeof(((HostWaiters *) 0)->host);
	ctl.entrysize = sizeof(HostWaiters);
	ctl.hcxt = c->context;
	c->host_waiters =
		hash_create("dtm waiters per host", 16, &ctl, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	dtm_sqlcalls_init(c);
	dtm_pgcalls_init(c);
	dtm_calls_configure(c);
	prepare_encoding();
}

void
dtm_calls_configure(DtmCoordinator *c)
{
	DtmHttpLimits limits;
	MemoryContext context = AllocSetContextCreate(c->context, "dtm policy", ALLOCSET_SMALL_SIZES);
	DtmArena arena = dtm_arena(context);
	DtmPolicy *policy;
	char error[256];

	policy = dtm_policy_parse(dtm_allowed_targets, &arena, error, sizeof(error));
	if (policy == NULL)
	{
		/* the check hook refuses these; short of memory the old one stays */
		ereport(WARNING,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("dtm.allowed_targets is not used: %s", error)));
		MemoryContextDelete(context);
	}
	else
	{
		dtm_http_set_policy(c->http, policy);
		if (c->policy_context != NULL)
			MemoryContextDelete(c->policy_context);
		c->policy = policy;
		c->policy_context = context;
	}

	usual_limits(&limits);
	dtm_http_set_limits(c->http, &limits);
	dtm_pgcalls_configure(c);
}

void
dtm_calls_add_event(DtmCoordinator *c, const DtmHeld *held, const DtmEvent *event)
{
	if (c->n_events == c->events_size)
	{
		int size = Max(256, c->events_size * 2);

		c->events = c->events == NULL
			? MemoryContextAlloc(c->context, sizeof(DtmPendingEvent) * size)
			: repalloc(c->events, sizeof(DtmPendingEvent) * size);
		c->events_size = size;
	}
	c->events[c->n_events].id = held->id;
	c->events[c->n_events].hold = held->hold;
	c->events[c->n_events].event = *event;
	c->n_events++;
}

DtmText
dtm_calls_text(DtmCoordinator *c, const char *data, size_t len)
{
	DtmText result;
	char *copy = MemoryContextAlloc(c->event_contexts[c->event_slot], len + 1);

	memcpy(copy, data, len);
	copy[len] = '\0';
	result.data = copy;
	result.len = (uint32) len;
	return result;
}

/* "409: no stock", "DTM01: no stock": without the status in front. */
DtmText
dtm_calls_body_of_reason(DtmCoordinator *c, const char *reason)
{
	const char *body = strstr(reason, ": ");

	body = body == NULL ? "" : body + 2;
	return dtm_calls_text(c, body, strlen(body));
}

/* An end of a call that needs no network: an event for the next tick. */
void
dtm_calls_end(DtmCoordinator *c, DtmHeld *held, const DtmCall *call, DtmOutcome outcome,
			  const char *reason)
{
	DtmEvent event;

	memset(&event, 0, sizeof(event));
	event.kind = DTM_EVENT_RESULT;
	event.branch = call->branch;
	event.role = call->role;
	event.outcome = outcome;
	event.started_at = GetCurrentTimestamp();
	event.reason = dtm_calls_text(c, reason, strlen(reason));
	event.body = event.reason;
	dtm_calls_add_event(c, held, &event);
}

/* On the wire everything is UTF-8; the database's client encoding is set to it for this. */
DtmText
dtm_calls_wire_text(DtmText from)
{
	DtmText result = from;

	if (GetDatabaseEncoding() == PG_UTF8 || GetDatabaseEncoding() == PG_SQL_ASCII || from.len == 0)
		return from;
	result.data = pg_server_to_client(from.data, (int) from.len);
	if (result.data != from.data)
		result.len = (uint32) strlen(result.data);
	return result;
}

/* "Name: value" lines; a branch's header replaces the transaction's of the same name. */
static int
build_headers(const DtmHeld *held, const DtmBranch *branch, const char **lines)
{
	DtmText sources[2];
	int n = 0;

	sources[0] = held->trans.headers;
	sources[1].len = 0;
	sources[1].data = NULL;
	if (branch != NULL)
		sources[1] = branch->headers;
	for (int s = 0; s < 2; s++)
	{
		size_t offset = 0;
		DtmText name;
		DtmText value;

		while (n < 2 * DTM_MAX_HEADERS && dtm_headers_next(sources[s], &offset, &name, &value))
		{
			char *line;
			int k;

			value = dtm_calls_wire_text(value);
			line = palloc(name.len + value.len + 3);
			memcpy(line, name.data, name.len);
			memcpy(line + name.len, ": ", 2);
			memcpy(line + name.len + 2, value.data, value.len);
			line[name.len + 2 + value.len] = '\0';
			for (k = 0; k < n; k++)
			{
				if (pg_strncasecmp(lines[k], line, name.len + 1) == 0)
					break;
			}
			lines[k] = line;
			if (k == n)
				n++;
		}
	}
	return n;
}

int
dtm_calls_timeout(const DtmHeld *held, const DtmBranch *branch)
{
	if (branch != NULL && branch->request_timeout_ms > 0)
		return branch->request_timeout_ms;
	if (held->trans.request_timeout_ms > 0)
		return held->trans.request_timeout_ms;
	return dtm_request_timeout;
}

/* The target of a call of the engine. */
static DtmText
target_of(const DtmHeld *held, uint16 branch, uint8 role)
{
	return branch == DTM_BRANCH_TRANS ? held->trans.query_url
									  : held->trans.branches[branch].url[role];
}

/* An id that no other call has; it means nothing. */
static void
make_rpc_id(char id[DTM_RPC_ID_LEN + 1])
{
	static DtmGidLast last;
	unsigned char random[sizeof(last.random)];

	if (!pg_strong_random(random, sizeof(random)))
		memset(random, 0, sizeof(random));
	dtm_gid_next(&last, (uint64) GetCurrentTimestamp() / 1000, random, id);
}

/* Fill in what is called, and with what.  Why that is not possible, or NULL. */
static const char *
fill_request(DtmCoordinator *c, const DtmHeld *held, const DtmCall *call, const DtmBranch *branch,
			 DtmHttpCall *request)
{
	DtmArena arena = dtm_arena(c->tick_context);
	char id[DTM_RPC_ID_LEN + 1];
	DtmText body = {NULL, 0};
	DtmRpcCall rpc;

	rpc.id = id;
	rpc.url = dtm_calls_wire_text(target_of(held, call->branch, call->role));
	rpc.gid = dtm_calls_wire_text((DtmText){held->gid, (uint32) strlen(held->gid)});
	rpc.trans_type = dtm_type_name(held->trans.type);
	rpc.branch_id = branch != NULL ? branch->branch_id : (DtmText){"00", 2};
	rpc.op = dtm_op_name((DtmOp) call->op);
	if (branch != NULL)
		body = dtm_calls_wire_text(branch->payload);
	else if (dtm_trans_is_resumed(&held->trans))
	{
		DtmText name = dtm_calls_wire_text(dtm_query_op_text(&held->trans));

		/* what it was begun with goes back as it came, which may be any bytes */
		rpc.op = pnstrdup(name.data, name.len);
		body = held->trans.payload;
	}
	rpc.payload = body;

	if (dtm_rpc_applies(held->trans.flags, rpc.url))
	{
		const char *problem;

		make_rpc_id(id);
		problem = dtm_rpc_body(&rpc, &arena, &body);
		if (problem != NULL)
			return problem;
		request->url = pnstrdup(rpc.url.data, rpc.url.len);
	}
	else
	{
		size_t room = rpc.url.len + 3 * (rpc.gid.len + rpc.branch_id.len + strlen(rpc.op)) + 128;
		char *url = palloc(room);

		if (dtm_url_for_call(rpc.url, rpc.gid, rpc.trans_type, rpc.branch_id, rpc.op, url, room) ==
			0)
			return "the URL cannot be given its parameters";
		request->url = url;
	}
	request->body = body.data;
	request->body_len = body.len;
	request->post = body.len > 0 || held->trans.type == DTM_TYPE_XA;
	return NULL;
}

/* Throws what cannot be converted. */
static void
start_http(DtmCoordinator *c, DtmHeld *held, const DtmCall *call, const DtmBranch *branch)
{
	const char *lines[2 * DTM_MAX_HEADERS];
	DtmHttpCall request;
	const char *problem;

	memset(&request, 0, sizeof(request));
	problem = fill_request(c, held, call, branch, &request);
	if (problem != NULL)
	{
		dtm_calls_end(c, held, call, DTM_OUTCOME_ERROR, problem);
		return;
	}
	request.tag = (uint64) held->id;
	request.tag2 = dtm_calls_tag2(held, call->branch, call->role);
	request.timeout_ms = dtm_calls_timeout(held, branch);
	request.headers = lines;
	request.n_headers = build_headers(held, branch, lines);
	if (dtm_http_start(c->http, &request) == DTM_OK)
		held->calls_out++;
	else
		dtm_calls_end(c, held, call, DTM_OUTCOME_ERROR, "out of memory for the call");
}

/* A text that is no text of its encoding ends that call, not this process. */
static void
start_http_safely(DtmCoordinator *c, DtmHeld *held, const DtmCall *call, const DtmBranch *branch)
{
	PG_TRY();
	{
		start_http(c, held, call, branch);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(c->tick_context);
		error = CopyErrorData();
		FlushErrorState();
		dtm_calls_end(c, held, call, DTM_OUTCOME_ERROR, error->message);
	}
	PG_END_TRY();
}

void
dtm_calls_start(DtmCoordinator *c, DtmHeld *held)
{
	MemoryContext old = MemoryContextSwitchTo(c->tick_context);

	for (uint32 i = 0; i < held->n_starts; i++)
	{
		const DtmCall *call = &held->starts[i];
		DtmBranch *branch =
			call->branch == DTM_BRANCH_TRANS ? NULL : &held->trans.branches[call->branch];
		DtmText url = target_of(held, call->branch, call->role);
		DtmTarget target;

		pg_atomic_fetch_add_u64(&c->slot->calls, 1);
		if (dtm_target_parse(url.data, url.len, &target) != NULL)
			dtm_calls_end(c, held, call, DTM_OUTCOME_ERROR, "the stored target is malformed");
		else if (target.scheme == DTM_SCHEME_SQL)
			dtm_sqlcalls_start(c, held, call, branch);
		else if (target.scheme == DTM_SCHEME_PG || target.scheme == DTM_SCHEME_XA)
			dtm_pgcalls_start(c, held, call, &target);
		else if (target.scheme != DTM_SCHEME_HTTP && target.scheme != DTM_SCHEME_HTTPS)
			dtm_calls_end(c, held, call, DTM_OUTCOME_ERROR,
						  "targets of this scheme are not served by this version");
		else if (c->policy == NULL || !dtm_policy_allows_target(c->policy, &target))
			dtm_calls_end(c, held, call, DTM_OUTCOME_ERROR, "refused by dtm.allowed_targets");
		else
			start_http_safely(c, held, call, branch);
	}
	held->n_starts = 0;
	MemoryContextSwitchTo(old);
}

/* ---- results of HTTP calls ---- */

void
dtm_calls_note_waiter(DtmCoordinator *c, const DtmHeld *held, const char *host)
{
	HostWaiters *waiters;
	char key[sizeof(((HostWaiters *) 0)->host)];
	bool found;

	if (strlen(host) >= sizeof(key))
		return;
	memset(key, 0, sizeof(key));
	strlcpy(key, host, sizeof(key));
	if (hash_get_num_entries(c->host_waiters) >= MAX_HOSTS_REMEMBERED &&
		hash_search(c->host_waiters, key, HASH_FIND, NULL) == NULL)
		return;
	waiters = hash_search(c->host_waiters, key, HASH_ENTER, &found);
	if (!found)
		waiters->n = 0;
	waiters->ids[waiters->n++ % HOST_WAITERS] = held->id;
}

void
dtm_calls_host_back(DtmCoordinator *c, const char *host)
{
	char key[sizeof(((HostWaiters *) 0)->host)];
	HostWaiters *waiters;

	memset(key, 0, sizeof(key));
	strlcpy(key, host, sizeof(key));
	waiters = hash_search(c->host_waiters, key, HASH_FIND, NULL);
	if (waiters == NULL)
		return;
	for (uint64 i = 0; i < Min(waiters->n, HOST_WAITERS); i++)
		dtm_ids_add(c, &c->retry, waiters->ids[i]);
	hash_search(c->host_waiters, key, HASH_REMOVE, NULL);
}

static void
note_host_waiter(DtmCoordinator *c, const DtmHeld *held, uint16 branch, uint8 role)
{
	DtmText url = target_of(held, branch, role);
	DtmTarget target;
	char host[sizeof(((HostWaiters *) 0)->host)];

	if (dtm_target_parse(url.data, url.len, &target) != NULL || target.host.len + 8 >= sizeof(host))
		return;
	snprintf(host, sizeof(host), "%.*s:%u", (int) target.host.len, target.host.data, target.port);
	dtm_calls_note_waiter(c, held, host);
}

void
dtm_calls_people_text(char *buffer)
{
	for (char *p = buffer; *p != '\0' && GetDatabaseEncoding() != PG_UTF8; p++)
	{
		if (IS_HIGHBIT_SET(*p))
			*p = '?';
	}
}

/* For people; in the database's encoding. */
static void
reason_of_done(const DtmHttpDone *done, char *buffer, size_t size)
{
	if (done->error == DTM_HTTP_OK)
		dtm_answer_reason(done->status, done->body, done->body_len, buffer, size);
	else if (done->error == DTM_HTTP_TIMEOUT)
		snprintf(buffer, size, "%s (request_timeout)", done->message);
	else if (done->error == DTM_HTTP_TOO_LARGE && done->status != 0)
		snprintf(buffer, size, "%d: %s", done->status, done->message);
	else
		strlcpy(buffer, done->message, size);

	dtm_calls_people_text(buffer);
}

/* An answer too long to be read may still decide by its status, but not for success. */
static DtmOutcome
outcome_of_done(const DtmHeld *held, DtmText url, const DtmHttpDone *done, char *reason,
				size_t size)
{
	DtmOutcome outcome;

	reason_of_done(done, reason, size);
	if (done->error == DTM_HTTP_OK && dtm_rpc_applies(held->trans.flags, url))
	{
		outcome = dtm_rpc_meaning(done->status, done->body, done->body_len, reason, size);
		dtm_calls_people_text(reason);
		return outcome;
	}
	if (done->error == DTM_HTTP_OK)
		return dtm_answer_meaning(done->status, done->body, done->body_len);
	if (done->error != DTM_HTTP_TOO_LARGE)
		return DTM_OUTCOME_ERROR;
	outcome = dtm_answer_meaning(done->status, "", 0);
	return outcome == DTM_OUTCOME_SUCCESS ? DTM_OUTCOME_ERROR : outcome;
}

bool
dtm_calls_wants_answer(const DtmHeld *held, const DtmEvent *event)
{
	return held->trans.type == DTM_TYPE_WORKFLOW && event->kind == DTM_EVENT_RESULT &&
		event->outcome == DTM_OUTCOME_SUCCESS && event->role == DTM_ROLE_FORWARD &&
		event->branch != DTM_BRANCH_TRANS;
}

TimestampTz
dtm_calls_postpone(const DtmHeld *held, TimestampTz now, int ms)
{
	return now + (int64) Max(ms, 1) * (1000 + (int64) (held->id % 64) * 200 / 64);
}

static void
http_ended(DtmCoordinator *c, const DtmHttpDone *done)
{
	DtmHeld *held = dtm_held_find(c, (int64) done->tag);
	DtmEvent event;
	char reason[DTM_MAX_ERROR_LEN + 1];
	TimestampTz now = GetCurrentTimestamp();

	if (done->tag == ALERT_TAG)
	{
		if (done->error != DTM_HTTP_OK || done->status < 200 || done->status > 299)
		{
			reason_of_done(done, reason, sizeof(reason));
			ereport(LOG, (errmsg("dtm.alert_webhook did not take an alert: %s", reason)));
		}
		return;
	}
	if (held == NULL || held->hold != (uint32) (done->tag2 >> 32))
		return;
	held->calls_out--;

	memset(&event, 0, sizeof(event));
	event.branch = (uint16) ((done->tag2 >> 8) & 0xFFFF);
	event.role = (uint8) (done->tag2 & 0xFF);
	event.outcome = outcome_of_done(held, target_of(held, event.branch, event.role), done, reason,
									sizeof(reason));
	if (done->error == DTM_HTTP_POSTPONED)
	{
		event.kind = DTM_EVENT_POSTPONE;
		event.until = dtm_calls_postpone(held, now, done->retry_after_ms);
	}
	else
	{
		event.kind = DTM_EVENT_RESULT;
		event.started_at = now - done->took_us;
	}
	if (event.kind == DTM_EVENT_POSTPONE || event.outcome != DTM_OUTCOME_SUCCESS)
		event.reason = dtm_calls_text(c, reason, strlen(reason));
	if (event.outcome == DTM_OUTCOME_FAILURE)
		event.body = dtm_calls_body_of_reason(c, reason);
	if (dtm_calls_wants_answer(held, &event))
		event.answer = dtm_calls_text(c, done->body, done->body_len);
	dtm_calls_add_event(c, held, &event);

	/* to be pulled forward when that host answers again */
	if (event.kind == DTM_EVENT_POSTPONE || done->error == DTM_HTTP_CONNECT ||
		done->error == DTM_HTTP_TIMEOUT || done->error == DTM_HTTP_BROKEN)
		note_host_waiter(c, held, event.branch, event.role);
}

void
dtm_calls_collect(DtmCoordinator *c)
{
	DtmHttpDone *done;
	const char *host;

	while ((done = dtm_http_next_done(c->http)) != NULL)
	{
		http_ended(c, done);
		dtm_http_release(c->http, done);
	}
	while ((host = dtm_http_recovered(c->http)) != NULL)
		dtm_calls_host_back(c, host);
	dtm_pgcalls_collect(c);
	dtm_sqlcalls_collect(c);
}

void
dtm_calls_cancel(DtmCoordinator *c, DtmHeld *held)
{
	for (int i = -1; i < held->trans.n_branches; i++)
	{
		for (int role = 0; role < DTM_ROLES; role++)
		{
			uint16 branch = i < 0 ? DTM_BRANCH_TRANS : (uint16) i;

			if (dtm_trans_op(&held->trans, branch, (uint8) role)->in_flight)
			{
				uint64 tag2 = dtm_calls_tag2(held, branch, (uint8) role);

				if (!dtm_http_cancel(c->http, (uint64) held->id, tag2))
					(void) dtm_pq_cancel(c->pq, (uint64) held->id, tag2);
			}
		}
	}
	dtm_sqlcalls_cancel(c, held);
	held->calls_out = 0;
}

/* ---- alerts ---- */

void
dtm_calls_alert(DtmCoordinator *c, const DtmHeld *held, const DtmEvent *event)
{
	DtmOpState *op = dtm_trans_op(unconstify(DtmTrans *, &held->trans), event->branch, event->role);
	DtmText url = target_of(held, event->branch, event->role);
	StringInfoData body;
	DtmHttpCall request;
	DtmTarget target;

	if (dtm_alert_webhook[0] == '\0' || op->failures < (uint32) dtm_alert_retry_limit)
		return;
	if (dtm_target_parse(dtm_alert_webhook, strlen(dtm_alert_webhook), &target) != NULL ||
		c->policy == NULL || !dtm_policy_allows_target(c->policy, &target))
	{
		ereport(LOG, (errmsg("dtm.alert_webhook is refused by dtm.allowed_targets")));
		return;
	}
	initStringInfo(&body);
	appendStringInfoString(&body, "{\"gid\":");
	escape_json(&body, held->gid);
	appendStringInfoString(&body, ",\"status\":");
	escape_json(&body, dtm_status_name(held->trans.status));
	appendStringInfoString(&body, ",\"branch\":");
	escape_json(&body, pnstrdup(url.data == NULL ? "" : url.data, url.len));
	appendStringInfoString(&body, ",\"error\":");
	escape_json(&body,
				pnstrdup(event->reason.data == NULL ? "" : event->reason.data, event->reason.len));
	appendStringInfo(&body, ",\"retry_count\":%u}", op->failures);

	memset(&request, 0, sizeof(request));
	request.tag = ALERT_TAG;
	request.url = dtm_alert_webhook;
	request.post = true;
	request.body = body.data;
	request.body_len = body.len;
	request.timeout_ms = dtm_request_timeout;
	if (dtm_http_start(c->http, &request) != DTM_OK)
		ereport(LOG, (errmsg("out of memory for an alert")));
}
