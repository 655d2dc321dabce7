/* -------------------------------------------------------------------------
 *
 * dtm_store.c
 *		What backends do with the tables: submit, look up, steer, identity.
 *
 * The coordinator's statements are in dtm_store_drive.c.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_control.h"
#include "access/xlog.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "dtm_store.h"
#include "dtm_store_plans.h"

Oid
dtm_store_relation(const char *name)
{
	Oid schema = get_namespace_oid("dtm", true);
	Oid relid = OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"dtm_pg\" is not installed in this database"),
				 errhint("CREATE EXTENSION dtm_pg;")));
	return relid;
}

static Oid
relation_owner(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

Oid
dtm_store_owner(void)
{
	return relation_owner(dtm_store_relation("trans"));
}

void
dtm_store_begin(DtmStoreScope *scope)
{
	Oid owner = dtm_store_owner();

	GetUserIdAndSecContext(&scope->user, &scope->sec_context);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	SetUserIdAndSecContext(owner, scope->sec_context | SECURITY_LOCAL_USERID_CHANGE);
}

void
dtm_store_end(DtmStoreScope *scope)
{
	SetUserIdAndSecContext(scope->user, scope->sec_context);
	SPI_finish();
}

int64
dtm_store_next_id(void)
{
	return nextval_internal(dtm_store_relation("trans_id_seq"), false);
}

/*
 * Note in dtm.node that transactions are submitted here.  A restore brings
 * rows that nobody submitted, and perhaps before it brings the row that says
 * where they are from: nothing is driven until the first submit, and that
 * claims only tables in which nothing is yet.
 */
static void
claim_node(void)
{
	static Oid claimed = InvalidOid; /* dtm.trans in which this was seen committed */
	Oid relid = dtm_store_relation("trans");
	Datum values[2];
	uint64 n;

	if (relid == claimed)
		return;
	values[0] = Int64GetDatum((int64) GetSystemIdentifier());
	values[1] = ObjectIdGetDatum(MyDatabaseId);
	n = dtm_plan_execute(PLAN_CLAIMED, values, NULL, false, false);
	for (uint64 i = 0; i < n; i++)
	{
		if (!TransactionIdIsCurrentTransactionId(DatumGetTransactionId(dtm_plan_value(i, 1, NULL))))
			claimed = relid;
	}
	if (n == 0)
		dtm_plan_execute(PLAN_CLAIM, values, NULL, false, false);
}

/* Its row of dtm.live, when the one to wait for is unfinished; false when it is not there. */
static bool
insert_follower(const DtmNewTrans *trans)
{
	Datum values[4];

	values[0] = Int64GetDatum(trans->id);
	values[1] = Int16GetDatum((int16) trans->status);
	values[2] = TimestampTzGetDatum(trans->created_at);
	values[3] = Int64GetDatum(trans->after);
	return dtm_plan_execute(PLAN_INSERT_FOLLOWER, values, NULL, false, true) > 0;
}

static void
insert_due(const DtmNewTrans *trans)
{
	Datum live[4];

	live[0] = Int64GetDatum(trans->id);
	live[1] = Int16GetDatum((int16) trans->status);
	live[2] = TimestampTzGetDatum(trans->next_run_at);
	live[3] = TimestampTzGetDatum(trans->created_at);
	dtm_plan_execute(PLAN_INSERT_LIVE, live, NULL, false, false);

	/* the coordinator would only get to it with its next sweep if a crash kept it from noting the time */
	if (trans->next_run_at > trans->created_at)
	{
		Datum timer[2] = {live[2], live[0]};

		dtm_plan_execute(PLAN_TIMER_ONE, timer, NULL, false, false);
	}
}

DtmStored
dtm_store_insert(const DtmNewTrans *trans)
{
	bytea *bytes = palloc(VARHDRSZ + trans->spec_len);
	Datum values[6];

	claim_node();
	SET_VARSIZE(bytes, VARHDRSZ + trans->spec_len);
	memcpy(VARDATA(bytes), trans->spec, trans->spec_len);

	values[0] = Int64GetDatum(trans->id);
	values[1] = CStringGetTextDatum(trans->gid);
	values[2] = Int16GetDatum((int16) trans->type);
	values[3] = ObjectIdGetDatum(trans->owner);
	values[4] = TimestampTzGetDatum(trans->created_at);
	values[5] = PointerGetDatum(bytes);
	if (dtm_plan_execute(trans->gid_given ? PLAN_INSERT_TRANS_GIVEN : PLAN_INSERT_TRANS, values,
						 NULL, false, false) == 0)
		return DTM_STORED_TAKEN;
	if (trans->after != 0 && insert_follower(trans))
		return DTM_STORED_WAITING;
	insert_due(trans);
	return DTM_STORED_DUE;
}

bool
dtm_store_find(const char *gid, bool with_body, DtmFound *found)
{
	MemoryContext caller = CurrentMemoryContext;
	DtmStoreScope scope;
	Datum values[1];
	bool exists;

	memset(found, 0, sizeof(*found));
	dtm_store_begin(&scope);
	values[0] = CStringGetTextDatum(gid);
	exists =
		dtm_plan_execute(with_body ? PLAN_FIND_BODY : PLAN_FIND, values, NULL, false, true) > 0;
	if (exists)
	{
		bool isnull;
		Datum status;

		found->id = DatumGetInt64(dtm_plan_value(0, 1, NULL));
		found->owner = DatumGetObjectId(dtm_plan_value(0, 2, NULL));
		found->type = (DtmTransType) DatumGetInt16(dtm_plan_value(0, 3, NULL));
		status = dtm_plan_value(0, 4, &isnull);
		found->status = isnull ? DTM_STATUS_NONE : (DtmStatus) DatumGetInt16(status);
		found->created_at = DatumGetTimestampTz(dtm_plan_value(0, 5, NULL));
		found->uncommitted =
			TransactionIdIsCurrentTransactionId(DatumGetTransactionId(dtm_plan_value(0, 6, NULL)));
		found->parked = DatumGetBool(dtm_plan_value(0, 7, NULL));
		found->steered =
			TransactionIdIsCurrentTransactionId(DatumGetTransactionId(dtm_plan_value(0, 8, NULL)));
		if (with_body)
		{
			found->spec = (bytea *) dtm_plan_varlena(0, 9, caller);
			found->state = (bytea *) dtm_plan_varlena(0, 10, caller);
			found->reason = dtm_plan_string(0, 11, caller);
			found->result = (Jsonb *) dtm_plan_varlena(0, 12, caller);
		}
	}
	dtm_store_end(&scope);
	return exists;
}

bool
dtm_store_lock(int64 id, DtmFound *found)
{
	MemoryContext caller = CurrentMemoryContext;
	DtmStoreScope scope;
	Datum values[1] = {Int64GetDatum(id)};
	bool exists;

	dtm_store_begin(&scope);
	exists = dtm_plan_execute(PLAN_LOCK, values, NULL, false, true) > 0;
	if (exists)
	{
		bool isnull;
		Datum after;

		found->status = (DtmStatus) DatumGetInt16(dtm_plan_value(0, 1, NULL));
		found->parked = DatumGetBool(dtm_plan_value(0, 2, NULL));
		found->state = (bytea *) dtm_plan_varlena(0, 3, caller);
		found->reason = dtm_plan_string(0, 4, caller);
		after = dtm_plan_value(0, 5, &isnull);
		found->after = isnull ? 0 : DatumGetInt64(after);
	}
	dtm_store_end(&scope);
	return exists;
}

bool
dtm_store_mark_retry(int64 id)
{
	DtmStoreScope scope;
	Datum values[1] = {Int64GetDatum(id)};
	bool marked;

	dtm_store_begin(&scope);
	marked = dtm_plan_execute(PLAN_MARK_RETRY, values, NULL, false, true) > 0;
	dtm_store_end(&scope);
	return marked;
}

void
dtm_store_stop(const DtmFound *found, const char *reason)
{
	DtmFound stopped = *found;

	stopped.status = DTM_STATUS_FAILED;
	dtm_store_end_trans(&stopped, reason, NULL);
}

void
dtm_store_end_trans(const DtmFound *found, const char *reason, Jsonb *result)
{
	DtmStoreScope scope;
	char nulls[] = "       ";
	Datum values[7];

	dtm_store_begin(&scope);
	values[0] = Int64GetDatum(found->id);
	values[1] = Int16GetDatum((int16) found->type);
	values[2] = Int16GetDatum((int16) found->status);
	values[3] = TimestampTzGetDatum(found->created_at);
	values[4] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[5] = reason == NULL ? (Datum) 0 : CStringGetTextDatum(reason);
	values[6] = PointerGetDatum(result);
	if (reason == NULL)
		nulls[5] = 'n';
	if (result == NULL)
		nulls[6] = 'n';
	dtm_plan_execute(PLAN_STOP, values, nulls, false, true);
	dtm_store_end(&scope);
}

void
dtm_store_steer(int64 id, DtmStatus status, const char *state, size_t state_len, const char *reason)
{
	DtmStoreScope scope;
	bytea *bytes = palloc(VARHDRSZ + state_len);
	Datum values[5];

	SET_VARSIZE(bytes, VARHDRSZ + state_len);
	memcpy(VARDATA(bytes), state, state_len);
	dtm_store_begin(&scope);
	values[0] = Int64GetDatum(id);
	values[1] = Int16GetDatum((int16) status);
	values[2] = PointerGetDatum(bytes);
	values[3] = reason == NULL ? (Datum) 0 : CStringGetTextDatum(reason);
	values[4] = TimestampTzGetDatum(GetCurrentTimestamp());
	dtm_plan_execute(PLAN_STEER, values, reason == NULL ? "   n " : NULL, false, true);
	dtm_store_end(&scope);
}

void
dtm_store_respec(int64 id, const char *spec, size_t spec_len)
{
	DtmStoreScope scope;
	bytea *bytes = palloc(VARHDRSZ + spec_len);
	Datum values[2];

	SET_VARSIZE(bytes, VARHDRSZ + spec_len);
	memcpy(VARDATA(bytes), spec, spec_len);
	dtm_store_begin(&scope);
	values[0] = Int64GetDatum(id);
	values[1] = PointerGetDatum(bytes);
	dtm_plan_execute(PLAN_RESPEC, values, NULL, false, true);
	dtm_store_end(&scope);
}

bool
dtm_store_outcome(int64 id, DtmStatus *status, char **reason)
{
	MemoryContext caller = CurrentMemoryContext;
	DtmStoreScope scope;
	Datum values[1] = {Int64GetDatum(id)};
	bool exists;

	dtm_store_begin(&scope);
	exists = dtm_plan_execute(PLAN_OUTCOME, values, NULL, true, true) > 0;
	if (exists)
	{
		*status = (DtmStatus) DatumGetInt16(dtm_plan_value(0, 1, NULL));
		*reason = dtm_plan_string(0, 2, caller);
	}
	dtm_store_end(&scope);
	return exists;
}

int
dtm_store_later(TimestampTz after, Oid member, bool memberships, int limit, char **gids)
{
	MemoryContext caller = CurrentMemoryContext;
	DtmStoreScope scope;
	Datum values[4];
	int n;

	dtm_store_begin(&scope);
	values[0] = TimestampTzGetDatum(after);
	values[1] = ObjectIdGetDatum(member);
	values[2] = BoolGetDatum(memberships);
	values[3] = Int32GetDatum(limit);
	n = (int) dtm_plan_execute(PLAN_LATER, values, NULL, true, true);
	for (int i = 0; i < n; i++)
		gids[i] = MemoryContextStrdup(caller, TextDatumGetCString(dtm_plan_value(i, 1, NULL)));
	dtm_store_end(&scope);
	return n;
}

int64
dtm_store_purge_owned(TimestampTz before, Oid member, bool all)
{
	DtmStoreScope scope;
	Datum values[3];
	int64 n;

	dtm_store_begin(&scope);
	values[0] = TimestampTzGetDatum(before);
	values[1] = ObjectIdGetDatum(member);
	values[2] = BoolGetDatum(all);
	n = (int64) dtm_plan_execute(PLAN_PURGE_OWNED, values, NULL, false, false);
	dtm_store_end(&scope);
	return n;
}

char *
dtm_store_pause_reason(void)
{
	MemoryContext caller = CurrentMemoryContext;
	DtmStoreScope scope;
	Datum values[2];
	char *reason = NULL;

	dtm_store_begin(&scope);
	values[0] = Int64GetDatum((int64) GetSystemIdentifier());
	values[1] = ObjectIdGetDatum(MyDatabaseId);
	if (dtm_plan_execute(PLAN_PAUSE_REASON, values, NULL, true, false) > 0)
	{
		Datum value = dtm_plan_value(0, 1, NULL);
		MemoryContext old = MemoryContextSwitchTo(caller);

		reason = TextDatumGetCString(value);
		MemoryContextSwitchTo(old);
	}
	dtm_store_end(&scope);
	return reason;
}

void
dtm_store_pause(const char *reason)
{
	DtmStoreScope scope;
	Datum values[1];

	dtm_store_begin(&scope);
	values[0] = CStringGetTextDatum(reason);
	dtm_plan_execute(PLAN_PAUSE, values, NULL, false, false);
	dtm_store_end(&scope);
}

void
dtm_store_resume(void)
{
	DtmStoreScope scope;
	Datum values[2];

	dtm_store_begin(&scope);
	dtm_plan_execute(PLAN_RESUME_FORGET, NULL, NULL, false, false);
	values[0] = Int64GetDatum((int64) GetSystemIdentifier());
	values[1] = ObjectIdGetDatum(MyDatabaseId);
	dtm_plan_execute(PLAN_RESUME_OWN, values, NULL, false, false);
	dtm_store_end(&scope);
}
