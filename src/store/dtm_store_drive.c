/* -------------------------------------------------------------------------
 *
 * dtm_store_drive.c
 *		What the coordinator and the executors do with the tables: load,
 *		record progress in batches, timers, sweep, purge.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "dtm_arena.h"
#include "dtm_spec.h"
#include "dtm_state.h"
#include "dtm_store.h"
#include "dtm_store_plans.h"

static Datum
array_of(Datum *values, bool *nulls, int n, Oid type)
{
	int16 len;
	bool byval;
	char align;
	int dims[1] = {n};
	int lower[1] = {1};

	switch (type)
	{
		case INT8OID:
		case TIMESTAMPTZOID:
			len = 8;
			byval = FLOAT8PASSBYVAL;
			align = TYPALIGN_DOUBLE;
			break;
		case INT4OID:
			len = 4;
			byval = true;
			align = TYPALIGN_INT;
			break;
		case BOOLOID:
			len = 1;
			byval = true;
			align = TYPALIGN_CHAR;
			break;
		case INT2OID:
			len = 2;
			byval = true;
			align = TYPALIGN_SHORT;
			break;
		default: /* text, bytea */
			len = -1;
			byval = false;
			align = TYPALIGN_INT;
			break;
	}
	return PointerGetDatum(
		construct_md_array(values, nulls, 1, dims, lower, type, len, byval, align));
}

static Datum
varlena_of(const char *data, size_t len)
{
	struct varlena *value = palloc(VARHDRSZ + len);

	SET_VARSIZE(value, VARHDRSZ + len);
	if (len > 0)
		memcpy(VARDATA(value), data, len);
	return PointerGetDatum(value);
}

/* Bytes of a column in the current context; NULL column gives NULL and 0. */
static const char *
column_bytes(uint64 row, int column, MemoryContext context, size_t *len)
{
	bool isnull;
	Datum value = dtm_plan_value(row, column, &isnull);
	struct varlena *bytes;
	char *copy;

	*len = 0;
	if (isnull)
		return NULL;
	bytes = PG_DETOAST_DATUM_PACKED(value);
	*len = VARSIZE_ANY_EXHDR(bytes);
	copy = MemoryContextAlloc(context, *len + 1);
	memcpy(copy, VARDATA_ANY(bytes), *len);
	copy[*len] = '\0';
	return copy;
}

static void
row_to_trans(uint64 row, MemoryContext context, DtmStoredTrans *out)
{
	size_t len;

	out->id = DatumGetInt64(dtm_plan_value(row, 1, NULL));
	out->ver = DatumGetInt32(dtm_plan_value(row, 2, NULL));
	out->status = (DtmStatus) DatumGetInt16(dtm_plan_value(row, 3, NULL));
	out->parked = DatumGetBool(dtm_plan_value(row, 4, NULL));
	out->next_run_at = DatumGetTimestampTz(dtm_plan_value(row, 5, NULL));
	out->retry = TIMESTAMP_IS_NOBEGIN(out->next_run_at);
	out->state = column_bytes(row, 6, context, &out->state_len);
	out->reason = unconstify(char *, column_bytes(row, 7, context, &len));
	out->gid = unconstify(char *, column_bytes(row, 8, context, &len));
	out->type = (DtmTransType) DatumGetInt16(dtm_plan_value(row, 9, NULL));
	out->owner = DatumGetObjectId(dtm_plan_value(row, 10, NULL));
	out->created_at = DatumGetTimestampTz(dtm_plan_value(row, 11, NULL));
	out->spec = column_bytes(row, 12, context, &out->spec_len);
}

int
dtm_store_load(const int64 *ids, int n, DtmStoredTrans *rows)
{
	MemoryContext caller = CurrentMemoryContext;
	DtmStoreScope scope;
	Datum values[1];
	int found;

	if (n == 0)
		return 0;
	dtm_store_begin(&scope);
	values[0] = dtm_plan_ids(ids, n);
	found = (int) dtm_plan_execute(PLAN_LOAD, values, NULL, true, false);
	if (found > n)
		elog(ERROR, "more transactions than asked for");
	for (int i = 0; i < found; i++)
		row_to_trans(i, caller, &rows[i]);
	dtm_store_end(&scope);
	return found;
}

void
dtm_store_unpack(const char *spec, size_t spec_len, const char *state, size_t state_len,
				 TimestampTz created_at, DtmTrans *trans)
{
	DtmArena arena = dtm_arena(CurrentMemoryContext);
	DtmRc rc;

	memset(trans, 0, sizeof(*trans));
	trans->created_at = created_at;
	rc = dtm_spec_unpack(spec, spec_len, &arena, trans);
	if (rc == DTM_OK)
		rc = dtm_state_unpack(state, state_len, &arena, trans);
	if (rc == DTM_NOMEM)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	if (rc != DTM_OK)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED), errmsg("the stored transaction cannot be read")));
}

bool
dtm_store_load_one(int64 id, DtmStoredTrans *row)
{
	return dtm_store_load(&id, 1, row) == 1;
}

/* Mark the rows whose ids the last statement returned. */
static void
mark_written(DtmProgress **rows, int n, uint64 returned)
{
	uint64 i;

	if (returned == (uint64) n)
	{
		for (int k = 0; k < n; k++)
			rows[k]->written = true;
		return;
	}
	for (int k = 0; k < n; k++)
		rows[k]->written = false;
	for (i = 0; i < returned; i++)
	{
		int64 id = DatumGetInt64(dtm_plan_value(i, 1, NULL));

		for (int k = 0; k < n; k++)
		{
			if (rows[k]->id == id)
			{
				rows[k]->written = true;
				break;
			}
		}
	}
}

/* The columns that both statements take, in the order id, ver, status ... */
typedef struct Columns
{
	Datum *id;
	Datum *ver;
	Datum *status;
	Datum *failures;
	Datum *attempts;
	Datum *retries;
	Datum *type;
	Datum *created_at;
	Datum *next_run_at;
	Datum *state;
	Datum *reason;
	Datum *saw_retry;
	bool *no_reason;
} Columns;

static void
fill_columns(DtmProgress **rows, int n, Columns *c)
{
	Datum *block = palloc(sizeof(Datum) * n * 12);

	c->id = block;
	c->ver = block + n;
	c->status = block + 2 * n;
	c->failures = block + 3 * n;
	c->attempts = block + 4 * n;
	c->retries = block + 5 * n;
	c->type = block + 6 * n;
	c->created_at = block + 7 * n;
	c->next_run_at = block + 8 * n;
	c->state = block + 9 * n;
	c->reason = block + 10 * n;
	c->saw_retry = block + 11 * n;
	c->no_reason = palloc(sizeof(bool) * n);
	for (int i = 0; i < n; i++)
	{
		const DtmProgress *p = rows[i];

		c->id[i] = Int64GetDatum(p->id);
		c->ver[i] = Int32GetDatum(p->ver);
		c->status[i] = Int16GetDatum((int16) p->status);
		c->failures[i] = Int32GetDatum(p->failures);
		c->attempts[i] = Int32GetDatum(p->attempts);
		c->retries[i] = Int32GetDatum(p->retries);
		c->type[i] = Int16GetDatum((int16) p->type);
		c->created_at[i] = TimestampTzGetDatum(p->created_at);
		c->next_run_at[i] = TimestampTzGetDatum(p->next_run_at);
		c->state[i] = varlena_of(p->state, p->state_len);
		c->saw_retry[i] = BoolGetDatum(p->saw_retry);
		c->no_reason[i] = p->reason == NULL;
		c->reason[i] = p->reason == NULL ? (Datum) 0 : varlena_of(p->reason, p->reason_len);
	}
}

void
dtm_store_progress(DtmProgress **rows, int n)
{
	DtmStoreScope scope;
	Columns c;
	Datum values[10];
	uint64 written;
	int timers = 0;

	if (n == 0)
		return;
	dtm_store_begin(&scope);
	fill_columns(rows, n, &c);
	values[0] = array_of(c.id, NULL, n, INT8OID);
	values[1] = array_of(c.ver, NULL, n, INT4OID);
	values[2] = array_of(c.status, NULL, n, INT2OID);
	values[3] = array_of(c.failures, NULL, n, INT4OID);
	values[4] = array_of(c.attempts, NULL, n, INT4OID);
	values[5] = array_of(c.next_run_at, NULL, n, TIMESTAMPTZOID);
	values[6] = array_of(c.state, NULL, n, BYTEAOID);
	values[7] = TimestampTzGetDatum(rows[0]->now);
	values[8] = array_of(c.reason, c.no_reason, n, TEXTOID);
	values[9] = array_of(c.saw_retry, NULL, n, BOOLOID);
	written = dtm_plan_execute(PLAN_PROGRESS, values, NULL, false, false);
	mark_written(rows, n, written);

	for (int i = 0; i < n; i++)
	{
		/* what waits for somebody alone has no time */
		if (rows[i]->release && rows[i]->written && !TIMESTAMP_IS_NOEND(rows[i]->next_run_at))
		{
			c.next_run_at[timers] = TimestampTzGetDatum(rows[i]->next_run_at);
			c.id[timers] = Int64GetDatum(rows[i]->id);
			timers++;
		}
	}
	if (timers > 0)
	{
		values[0] = array_of(c.next_run_at, NULL, timers, TIMESTAMPTZOID);
		values[1] = array_of(c.id, NULL, timers, INT8OID);
		dtm_plan_execute(PLAN_TIMER, values, NULL, false, false);
	}
	dtm_store_end(&scope);
}

void
dtm_store_answer_many(const int64 *ids, const int *branches, char *const *answers, int n)
{
	DtmStoreScope scope;
	Datum *elements;
	Datum values[3];

	if (n == 0)
		return;
	dtm_store_begin(&scope);
	elements = palloc(sizeof(Datum) * n * 3);
	for (int i = 0; i < n; i++)
	{
		elements[i] = Int64GetDatum(ids[i]);
		elements[n + i] = Int32GetDatum(branches[i]);
		elements[2 * n + i] = CStringGetTextDatum(answers[i]);
	}
	values[0] = array_of(elements, NULL, n, INT8OID);
	values[1] = array_of(elements + n, NULL, n, INT4OID);
	values[2] = array_of(elements + 2 * n, NULL, n, TEXTOID);
	dtm_plan_execute(PLAN_ANSWER_MANY, values, NULL, false, false);
	dtm_store_end(&scope);
}

void
dtm_store_finish(DtmProgress **rows, int n)
{
	DtmStoreScope scope;
	Columns c;
	Datum values[10];
	uint64 written;

	if (n == 0)
		return;
	dtm_store_begin(&scope);
	fill_columns(rows, n, &c);
	values[0] = array_of(c.id, NULL, n, INT8OID);
	values[1] = array_of(c.ver, NULL, n, INT4OID);
	values[2] = array_of(c.status, NULL, n, INT2OID);
	values[3] = array_of(c.attempts, NULL, n, INT4OID);
	values[4] = array_of(c.retries, NULL, n, INT4OID);
	values[5] = array_of(c.type, NULL, n, INT2OID);
	values[6] = array_of(c.created_at, NULL, n, TIMESTAMPTZOID);
	values[7] = array_of(c.state, NULL, n, BYTEAOID);
	values[8] = TimestampTzGetDatum(rows[0]->now);
	values[9] = array_of(c.reason, c.no_reason, n, TEXTOID);
	written = dtm_plan_execute(PLAN_FINISH, values, NULL, false, false);
	mark_written(rows, n, written);
	dtm_store_end(&scope);
}

int
dtm_store_claim_timers(TimestampTz low, TimestampTz now, int worker, int workers, int limit,
					   int64 *ids, TimestampTz *due)
{
	DtmStoreScope scope;
	Datum values[5];
	int n;

	dtm_store_begin(&scope);
	values[0] = TimestampTzGetDatum(low);
	values[1] = TimestampTzGetDatum(now);
	values[2] = Int32GetDatum(worker);
	values[3] = Int32GetDatum(workers);
	values[4] = Int32GetDatum(limit);
	n = (int) dtm_plan_execute(PLAN_CLAIM_TIMERS, values, NULL, false, false);
	for (int i = 0; i < n; i++)
	{
		ids[i] = DatumGetInt64(dtm_plan_value(i, 1, NULL));
		due[i] = DatumGetTimestampTz(dtm_plan_value(i, 2, NULL));
	}
	dtm_store_end(&scope);
	return n;
}

TimestampTz
dtm_store_next_timer(TimestampTz after, int worker, int workers)
{
	DtmStoreScope scope;
	Datum values[3];
	TimestampTz next = DT_NOEND;

	dtm_store_begin(&scope);
	values[0] = TimestampTzGetDatum(after);
	values[1] = Int32GetDatum(worker);
	values[2] = Int32GetDatum(workers);
	if (dtm_plan_execute(PLAN_NEXT_TIMER, values, NULL, true, false) > 0)
		next = DatumGetTimestampTz(dtm_plan_value(0, 1, NULL));
	dtm_store_end(&scope);
	return next;
}

int
dtm_store_sweep(int64 after, TimestampTz now, int worker, int workers, int limit, int64 *ids,
				int64 *last, bool *end)
{
	DtmStoreScope scope;
	Datum values[5];
	uint64 rows;
	int n = 0;

	dtm_store_begin(&scope);
	values[0] = Int64GetDatum(after);
	values[1] = TimestampTzGetDatum(now);
	values[2] = Int32GetDatum(worker);
	values[3] = Int32GetDatum(workers);
	values[4] = Int32GetDatum(limit);
	rows = dtm_plan_execute(PLAN_SWEEP, values, NULL, true, false);
	*last = after;
	for (uint64 i = 0; i < rows; i++)
	{
		int64 id = DatumGetInt64(dtm_plan_value(i, 1, NULL));

		if (DatumGetBool(dtm_plan_value(i, 2, NULL)))
			ids[n++] = id;
		*last = id;
	}
	*end = rows < (uint64) limit;
	dtm_store_end(&scope);
	return n;
}

void
dtm_store_park(int64 id, const char *problem)
{
	DtmStoreScope scope;
	Datum values[2];

	dtm_store_begin(&scope);
	values[0] = Int64GetDatum(id);
	values[1] = CStringGetTextDatum(problem);
	dtm_plan_execute(PLAN_PARK, values, NULL, false, false);
	dtm_store_end(&scope);
}

int64
dtm_store_purge(TimestampTz before, int limit)
{
	DtmStoreScope scope;
	Datum values[2];
	int64 n;

	dtm_store_begin(&scope);
	values[0] = TimestampTzGetDatum(before);
	values[1] = Int32GetDatum(limit);
	n = (int64) dtm_plan_execute(PLAN_PURGE, values, NULL, false, false);
	dtm_store_end(&scope);
	return n;
}
