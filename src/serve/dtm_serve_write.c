/* -------------------------------------------------------------------------
 *
 * dtm_serve_write.c
 *		What the HTTP API changes: prepare, submit, abort, registerBranch,
 *		forceStop, resetNextCronTime, resetCronTime.
 *
 * The same checks and the same rows as those of the SQL functions, with
 * DTM's rules about what may be repeated: the second request with a gid is
 * not compared with the first one.
 *
 * Not here: workflows that their client runs (dtm_serve_workflow.c).  Runs in
 * the coordinator.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/timestamp.h"

#include "dtm_arena.h"
#include "dtm_engine.h"
#include "dtm_register.h"
#include "dtm_serve.h"
#include "dtm_settings.h"
#include "dtm_spec.h"
#include "dtm_sql.h"
#include "dtm_wake.h"

#define RESET_FACTOR 3 /* resetCronTime without a time: so many times dtm.timeout_to_fail */

static void
refuse(DtmServeCall *call, DtmApiRefusal refusal, DtmText gid, DtmTransType type, DtmStatus status)
{
	dtm_api_refuse(&call->api, refusal, gid, type, status, &call->arena, &call->answer);
}

char *
dtm_serve_cstring(DtmText from)
{
	char *copy;
	char *converted;

	if (from.len == 0)
		return pstrdup("");
	if (memchr(from.data, '\0', from.len) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
				 errmsg("a text contains a NUL character")));
	copy = pnstrdup(from.data, from.len);

	/* this verifies as well */
	converted = pg_any_to_server(copy, (int) from.len, PG_UTF8);
	return converted;
}

bool
dtm_serve_find(DtmServeCall *call, DtmText gid, bool with_body, DtmFound *found, bool *refused)
{
	*refused = false;
	if (!dtm_store_find(dtm_serve_cstring(gid), with_body, found))
		return false;

	/* who was not asked who he is acts as one role, and not as all of which that one is a member */
	if (call->anonymous ? call->role == found->owner : has_privs_of_role(call->role, found->owner))
		return true;
	*refused = true;
	dtm_serve_say(call, DTM_API_FORBIDDEN, "the transaction belongs to another role");
	return true;
}

/* ---- prepare and submit ---- */

/*
 * A request without a token, for which no role was named, is anybody's: it
 * gets nothing run in this database or on its servers.
 */
static bool
may_call(DtmServeCall *call, DtmText url)
{
	DtmTarget target;

	if (!call->anonymous || url.len == 0 || dtm_target_parse(url.data, url.len, &target) != NULL ||
		(target.scheme != DTM_SCHEME_SQL && target.scheme != DTM_SCHEME_PG))
		return true;
	dtm_serve_say(call, DTM_API_FORBIDDEN,
				  "targets that begin with \"sql:\" or \"pg://\" need a token, or a role for requests without "
				  "one (the setting dtm.http_role)");
	return false;
}

static bool
may_call_all(DtmServeCall *call, DtmSpecBuilder *builder)
{
	for (int step = 0; step < dtm_spec_step_count(builder); step++)
	{
		for (int role = 0; role < DTM_ROLES; role++)
		{
			if (!may_call(call, dtm_spec_step_url(builder, step, (DtmRole) role)))
				return false;
		}
	}
	return may_call(call, dtm_spec_query_prepared(builder));
}

static bool
finish_spec(DtmServeCall *call, DtmSpecBuilder *builder, const char **spec, size_t *len)
{
	if (dtm_spec_finish(builder, spec, len))
		return true;
	dtm_api_spec_refused(&call->api, dtm_spec_error(builder), &call->arena, &call->answer);
	return false;
}

/* The first round of it is waited for. */
static void
wait_for(DtmServeCall *call, int64 id, DtmTransType type, DtmStatus wanted)
{
	call->waits_for = id;
	call->waits_type = type;
	call->wanted = wanted;
}

/* False when somebody else has stored that gid meanwhile. */
static bool
store_new(DtmServeCall *call, DtmStatus status)
{
	DtmApiTrans *asked = &call->api.trans;
	DtmSpecBuilder *builder = asked->builder;
	DtmSqlInsert insert;

	memset(&insert, 0, sizeof(insert));
	if (!may_call_all(call, builder))
		return true;
	if (asked->wait_result)
		asked->flags |= DTM_FLAG_WAIT_RESULT;
	asked->flags |= DTM_FLAG_DOUBLE_FIRST;
	dtm_spec_set_flags(builder, asked->flags);
	(void) dtm_spec_derive_retry_interval(builder, dtm_retry_interval);
	dtm_sql_check_targets(builder);
	if (dtm_sql_has_topics(builder))
	{
		if (!dtm_sql_topics_lead_somewhere(builder))
		{
			refuse(call, DTM_API_TOPIC_NOT_FOUND, asked->gid, asked->type, DTM_STATUS_NONE);
			return true;
		}
		dtm_sql_expand_topics(builder);
		if (!may_call_all(call, builder))
			return true;
		dtm_sql_check_targets(builder);
	}
	if (!finish_spec(call, builder, &insert.spec, &insert.spec_len))
		return true;

	insert.gid = dtm_serve_cstring(asked->gid);
	dtm_sql_check_gid(insert.gid);
	insert.gid_given = true;
	insert.status = status;
	insert.worker = call->c->number;
	insert.workers = call->c->workers;
	if (!dtm_sql_insert(&insert))
		return false;
	call->wrote = true;
	if (status == DTM_STATUS_SUBMITTED && asked->wait_result)
		wait_for(call, insert.id, asked->type, DTM_STATUS_SUCCEED);
	else
		dtm_serve_say(call, DTM_API_SUCCESS, "");
	return true;
}

/* Must this call of an existing transaction wait: as it was asked for now, or with prepare? */
static bool
waits(const DtmServeCall *call, const DtmTrans *trans)
{
	return call->api.trans.wait_result || (trans->flags & DTM_FLAG_WAIT_RESULT) != 0;
}

/* SDKs tell the delay of a message with its submit, not with prepare. */
static void
take_delay(DtmServeCall *call, const DtmFound *found, DtmTrans *trans)
{
	const char *asked;
	size_t asked_len;
	const char *spec;
	size_t spec_len;
	DtmTrans submitted;

	if (trans->type != DTM_TYPE_MSG || trans->start_at > trans->created_at ||
		call->api.trans.type != DTM_TYPE_MSG || call->api.trans.builder == NULL)
		return;
	memset(&submitted, 0, sizeof(submitted));

	/* its steps are not looked at, and need not be there */
	if (!dtm_spec_finish(call->api.trans.builder, &asked, &asked_len) ||
		dtm_spec_unpack(asked, asked_len, &call->arena, &submitted) != DTM_OK ||
		submitted.start_at <= submitted.created_at)
		return;
	trans->start_at = trans->created_at + (submitted.start_at - submitted.created_at);
	if (dtm_spec_pack(trans, &call->arena, &spec, &spec_len) != DTM_OK)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	dtm_store_respec(found->id, spec, spec_len);
}

static void
submit_prepared(DtmServeCall *call, const char *gid, DtmFound *found)
{
	DtmEvent event;
	DtmTrans trans;

	memset(&event, 0, sizeof(event));
	event.kind = DTM_EVENT_SUBMIT;
	dtm_sql_unpack(found->spec, found->state, found->created_at, &trans);
	if (!dtm_sql_steer_found(gid, found, &event))
	{
		refuse(call, DTM_API_CANNOT_SUBMIT, call->api.trans.gid, found->type, found->status);
		return;
	}
	take_delay(call, found, &trans);
	call->wrote = true;
	if (waits(call, &trans))
		wait_for(call, found->id, found->type, DTM_STATUS_SUCCEED);
	else
		dtm_serve_say(call, DTM_API_SUCCESS, "");
}

/*
 * What waits because of an error or ONGOING is due now.  The delay of a
 * message holds, and so does the time when a prepared one is asked about, as
 * in DTM: a client that repeats a request because its answer was lost must
 * not change when the message is delivered, and who is asked too early would
 * deny what is still to be committed.  found has the body.
 */
static void
hurry(DtmServeCall *call, const DtmFound *found)
{
	if (dtm_status_is_final(found->status))
		return;
	if (found->type == DTM_TYPE_MSG && !found->parked)
	{
		DtmTrans trans;

		dtm_sql_unpack(found->spec, found->state, found->created_at, &trans);
		trans.status = found->status;
		if (dtm_engine_message_waits(&trans, GetCurrentTimestamp()))
			return;
	}
	if (dtm_store_mark_retry(found->id))
	{
		dtm_wake_at_commit(found->id);
		call->wrote = true;
	}
}

/* A submitted one again: a client may hurry it so. */
static void
submit_again(DtmServeCall *call, DtmFound *found)
{
	hurry(call, found);
	if (call->api.trans.wait_result)
		wait_for(call, found->id, found->type, DTM_STATUS_SUCCEED);
	else
		dtm_serve_say(call, DTM_API_SUCCESS, "");
}

/*
 * Nothing is changed, but what is there is acknowledged once more: perhaps it
 * is of a session that did not wait for its commit to reach the disk.
 */
static void
make_sure(DtmServeCall *call)
{
	(void) GetTopTransactionId();
	ForceSyncCommit();
	call->wrote = true;
}

static void
begin(DtmServeCall *call, bool submit)
{
	DtmText gid = call->api.trans.gid;
	DtmFound found;
	bool refused;

	if (call->api.trans.type == DTM_TYPE_WORKFLOW)
	{
		dtm_serve_workflow(call);
		return;
	}
	if (!dtm_serve_find(call, gid, true, &found, &refused))
	{
		if (store_new(call, submit ? DTM_STATUS_SUBMITTED : DTM_STATUS_PREPARED))
			return;
		if (!dtm_serve_find(call, gid, true, &found, &refused))
		{
			refuse(call, DTM_API_NO_ROW, gid, call->api.trans.type, DTM_STATUS_NONE);
			return;
		}
	}
	if (refused)
		return;
	if (submit)
	{
		char *name = dtm_serve_cstring(gid);

		if (!dtm_sql_lock(name, true, &found))
			refuse(call, DTM_API_NO_ROW, gid, found.type, DTM_STATUS_NONE);
		else if (found.status == DTM_STATUS_PREPARED)
			submit_prepared(call, name, &found);
		else if (found.status == DTM_STATUS_SUBMITTED)
			submit_again(call, &found);
		else
			refuse(call, DTM_API_CANNOT_SUBMIT, gid, found.type, found.status);
	}
	else if (found.status == DTM_STATUS_PREPARED)
	{
		make_sure(call);
		dtm_serve_say(call, DTM_API_SUCCESS, "");
	}
	else
		refuse(call, DTM_API_CANNOT_PREPARE, gid, found.type, found.status);
}

/* ---- abort ---- */

static bool
is_two_phase(DtmTransType type)
{
	return type == DTM_TYPE_TCC || type == DTM_TYPE_XA;
}

static void
abort_trans(DtmServeCall *call)
{
	DtmApiTrans *asked = &call->api.trans;
	char *gid = dtm_serve_cstring(asked->gid);
	DtmFound found;
	DtmTrans trans;
	DtmEvent event;
	bool refused;

	if (!dtm_serve_find(call, asked->gid, true, &found, &refused) ||
		(!refused && !dtm_sql_lock(gid, true, &found)))
	{
		refuse(call, DTM_API_NO_TRANS, asked->gid, asked->type, DTM_STATUS_NONE);
		return;
	}
	if (refused)
		return;

	/* what the request calls a message does not matter */
	if (!(found.type == DTM_TYPE_MSG && found.status == DTM_STATUS_PREPARED) &&
		!(is_two_phase(asked->type) && is_two_phase(found.type)))
	{
		refuse(call, DTM_API_CANNOT_ABORT, asked->gid, found.type, found.status);
		return;
	}
	memset(&event, 0, sizeof(event));
	event.kind = DTM_EVENT_ABORT;
	if (asked->rollback_reason.len > 0)
	{
		char *reason = dtm_serve_cstring(asked->rollback_reason);

		event.reason.data = reason;
		event.reason.len = (uint32_t) pg_mbcliplen(reason, strlen(reason), DTM_MAX_ERROR_LEN);
	}
	dtm_sql_unpack(found.spec, found.state, found.created_at, &trans);
	if (dtm_status_is_final(found.status) || !dtm_sql_steer_found(gid, &found, &event))
	{
		refuse(call, DTM_API_CANNOT_ABORT, asked->gid, found.type, found.status);
		return;
	}

	/* one that is aborting already: what waits is due now */
	if (found.status == DTM_STATUS_ABORTING && dtm_store_mark_retry(found.id))
		dtm_wake_at_commit(found.id);
	call->wrote = true;
	if (is_two_phase(found.type) && waits(call, &trans))
		wait_for(call, found.id, found.type, DTM_STATUS_FAILED);
	else
		dtm_serve_say(call, DTM_API_SUCCESS, "");
}

/* ---- registerBranch ---- */

static void
register_branch(DtmServeCall *call)
{
	DtmApiBranch *asked = &call->api.branch;
	const char *packed;
	size_t packed_len;
	DtmFound found;
	DtmTrans trans;
	bool refused;

	if (asked->type == DTM_TYPE_WORKFLOW)
	{
		dtm_serve_workflow(call);
		return;
	}
	for (int role = 0; role < DTM_ROLES; role++)
	{
		DtmText url = dtm_spec_step_url(asked->builder, 0, (DtmRole) role);
		char *function;

		if (!may_call(call, url))
			return;
		function = dtm_sql_check_url("", role == DTM_ROLE_CONFIRM ? "confirm" : "cancel", url);
		if (function != NULL &&
			!dtm_spec_step_sql_name(asked->builder, 0, (DtmRole) role, function, strlen(function)))
			break;
	}
	if (!dtm_spec_finish_branch(asked->builder, &packed, &packed_len))
	{
		dtm_api_spec_refused(&call->api, dtm_spec_error(asked->builder), &call->arena,
							 &call->answer);
		return;
	}
	if (!dtm_serve_find(call, asked->gid, true, &found, &refused))
	{
		refuse(call, DTM_API_NOT_PREPARED, asked->gid, asked->type, DTM_STATUS_NONE);
		return;
	}
	if (refused)
		return;
	dtm_sql_unpack(found.spec, NULL, found.created_at, &trans);
	if (found.type != asked->type || !dtm_trans_registers(&trans))
	{
		refuse(call, DTM_API_NOT_PREPARED, asked->gid, asked->type, found.status);
		return;
	}
	switch (dtm_register_try(dtm_serve_cstring(asked->gid), found.id, packed, packed_len, &found))
	{
		case DTM_REGISTER_DONE:
			call->wrote = true;
			dtm_serve_say(call, DTM_API_SUCCESS, "");
			break;
		case DTM_REGISTER_REPEATED:
		case DTM_REGISTER_TAKEN:
			refuse(call, DTM_API_NOT_UNIQUE, asked->gid, asked->type, found.status);
			break;
		case DTM_REGISTER_GONE:
		case DTM_REGISTER_NOT_PREPARED:
			refuse(call, DTM_API_NOT_PREPARED, asked->gid, asked->type, found.status);
			break;
		case DTM_REGISTER_TOO_MANY:
		case DTM_REGISTER_TOO_LARGE:
			dtm_serve_say(call, DTM_API_ERROR,
						  "the transaction would have too many branches, or be too large, with this one");
			break;
	}
}

/* ---- by hand ---- */

static void
force_stop(DtmServeCall *call)
{
	DtmText asked = call->api.trans.gid;
	char *gid = dtm_serve_cstring(asked);
	DtmFound found;
	bool refused;

	if (!dtm_serve_find(call, asked, true, &found, &refused) ||
		(!refused && !dtm_sql_lock(gid, true, &found)))
		refuse(call, DTM_API_NO_TRANS, asked, (DtmTransType) 0, DTM_STATUS_NONE);
	else if (refused)
		return;
	else if (dtm_status_is_final(found.status))
		refuse(call, DTM_API_CANNOT_STOP, asked, found.type, found.status);
	else
	{
		dtm_sql_stop_found(gid, &found,
						   found.reason != NULL ? found.reason : "stopped by forceStop");
		call->wrote = true;
		dtm_serve_say(call, DTM_API_SUCCESS, "");
	}
}

static void
reset_next(DtmServeCall *call)
{
	DtmText asked = call->api.trans.gid;
	DtmFound found;
	bool refused;

	if (!dtm_serve_find(call, asked, true, &found, &refused))
	{
		refuse(call, DTM_API_NO_TRANS, asked, (DtmTransType) 0, DTM_STATUS_NONE);
		return;
	}
	if (refused)
		return;
	hurry(call, &found);
	dtm_serve_say(call, DTM_API_SUCCESS, "");
}

static void
reset_all(DtmServeCall *call)
{
	int limit = call->api.cron_limit;
	char **gids = palloc(sizeof(char *) * limit);
	int64 ms = call->api.cron_timeout_s < 0
		? (int64) RESET_FACTOR * dtm_timeout_to_fail
		: Min(call->api.cron_timeout_s, PG_INT32_MAX) * INT64CONST(1000);
	int n = dtm_store_later(GetCurrentTimestamp() + ms * 1000, call->role, !call->anonymous, limit,
							gids);
	int done = 0;

	/* like DTM, also count what is looked at now and found to wait for its time */
	for (int i = 0; i < n; i++)
	{
		DtmFound found;

		if (dtm_store_find(gids[i], true, &found) && !dtm_status_is_final(found.status))
		{
			hurry(call, &found);
			done++;
		}
	}
	dtm_api_show_reset(n == limit, done, &call->arena, &call->answer);
}

void
dtm_serve_write(DtmServeCall *call)
{
	switch (call->api.route)
	{
		case DTM_API_PREPARE:
			begin(call, false);
			break;
		case DTM_API_SUBMIT:
			begin(call, true);
			break;
		case DTM_API_ABORT:
			abort_trans(call);
			break;
		case DTM_API_REGISTER_BRANCH:
			register_branch(call);
			break;
		case DTM_API_FORCE_STOP:
			force_stop(call);
			break;
		case DTM_API_RESET_NEXT_CRON_TIME:
			reset_next(call);
			break;
		case DTM_API_RESET_CRON_TIME:
			reset_all(call);
			break;
		default:
			dtm_serve_say(call, DTM_API_ERROR, "not a request that changes anything");
			break;
	}
}
