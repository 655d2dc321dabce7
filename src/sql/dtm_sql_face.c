/* -------------------------------------------------------------------------
 *
 * dtm_sql_face.c
 *		Transactions as DTM's own tables would show them, from the packed
 *		columns; for views, and for the HTTP API.
 *
 * The texts go through UTF-8, because that is what the JSON among them is
 * made of (dtm_api_custom.c).
 *
 * Runs in backends and in the coordinator.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "dtm_compat.h"
#include "dtm_face.h"
#include "dtm_pack.h"
#include "dtm_settings.h"
#include "dtm_sql.h"

PG_FUNCTION_INFO_V1(dtm_sql_trans_face);
PG_FUNCTION_INFO_V1(dtm_sql_branch_face);

#define TRANS_COLUMNS 6
#define BRANCH_COLUMNS 9

/* ---- texts ---- */

/* The pairs once more, in UTF-8; without values when they are not for this reader. */
static DtmText
shown_headers(DtmText headers, bool mine)
{
	static const DtmText hidden = {"***", 3};
	DtmWriter writer = {NULL, 0};
	DtmText result = {NULL, 0};

	/* count, then write */
	for (int pass = 0; pass < 2 && headers.len > 0; pass++)
	{
		size_t offset = 0;
		DtmText name;
		DtmText value;

		writer.len = 0;
		while (dtm_headers_next(headers, &offset, &name, &value))
		{
			dtm_put_text(&writer, dtm_store_wire_text(name));
			dtm_put_text(&writer, mine ? dtm_store_wire_text(value) : hidden);
		}
		if (pass == 0)
			writer.data = palloc(writer.len);
	}
	result.data = writer.data;
	result.len = (uint32) writer.len;
	return result;
}

void
dtm_face_show(DtmTrans *trans, bool mine)
{
	static const DtmText nothing = {NULL, 0};

	trans->headers = shown_headers(trans->headers, mine);
	trans->query_url = dtm_store_wire_text(trans->query_url);
	trans->query_sql_name = dtm_store_wire_text(trans->query_sql_name);
	trans->query_name = dtm_store_wire_text(trans->query_name);
	trans->reason = dtm_store_wire_text(trans->reason);
	if (!mine)
		trans->payload = nothing;
	else if (!dtm_trans_is_resumed(trans))
		trans->payload = dtm_store_wire_text(trans->payload);
	for (int i = 0; i < trans->n_branches; i++)
	{
		DtmBranch *branch = &trans->branches[i];

		branch->branch_id = dtm_store_wire_text(branch->branch_id);
		branch->name = dtm_store_wire_text(branch->name);
		for (int role = 0; role < DTM_ROLES; role++)
			branch->url[role] = dtm_store_wire_text(branch->url[role]);
		if (!mine)
			branch->payload = nothing;
		else if (!dtm_branch_is_memo(branch)) /* whose bytes are no text */
			branch->payload = dtm_store_wire_text(branch->payload);
	}
}

DtmText
dtm_face_result(const DtmTrans *trans, Jsonb *result)
{
	DtmText bytes = {NULL, 0};
	DtmText base64 = {NULL, 0};
	DtmArena arena = dtm_arena(CurrentMemoryContext);

	if (result == NULL)
		return base64;

	/* what its client gave is kept as it came: a JSON string of base64 */
	if (dtm_trans_is_resumed(trans) && JB_ROOT_IS_SCALAR(result))
	{
		JsonbValue value;

		if (JsonbExtractScalar(&result->root, &value) && value.type == jbvString)
		{
			base64.data = pnstrdup(value.val.string.val, value.val.string.len);
			base64.len = (uint32) value.val.string.len;
			return base64;
		}
	}
	bytes.data = JsonbToCString(NULL, &result->root, VARSIZE(result));
	bytes.len = (uint32) strlen(bytes.data);
	if (!dtm_api_base64(dtm_store_wire_text(bytes), &arena, &base64))
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	return base64;
}

/* ---- rows ---- */

int32
dtm_face_interval(const DtmTrans *trans, int32 failures)
{
	int64 ms = trans->retry_interval_ms > 0 ? trans->retry_interval_ms : dtm_retry_interval;
	int64 most = Max(ms, dtm_retry_max_interval);
	int32 doublings = trans->flags & DTM_FLAG_DOUBLE_FIRST ? failures : failures - 1;

	for (int32 i = 0; i < doublings && ms < most; i++)
		ms *= 2;
	return (int32) Max((Min(ms, most) + 999) / 1000, 1);
}

int
dtm_face_branches(const DtmTrans *trans, int64 id, DtmText gid, DtmApiBranchRow **rows)
{
	int n = 0;

	*rows = NULL;
	if (trans->n_branches > 0)
		*rows = palloc_extended(sizeof(DtmApiBranchRow) * DTM_ROLES * trans->n_branches,
								MCXT_ALLOC_HUGE);
	for (int i = 0; i < trans->n_branches; i++)
	{
		DtmApiBranchRow *first = *rows + n;
		int added =
			dtm_api_branch_rows(trans, (uint16) i, id * DTM_FACE_OPS + i * DTM_ROLES + 1, first);

		for (int k = 0; k < added; k++)
		{
			first[k].gid = gid;
			first[k].create_time = trans->created_at;
			first[k].update_time = Max(first[k].finish_time, trans->created_at);

			/* what its client has done was over when it was told */
			if (dtm_branch_is_memo(&trans->branches[i]))
			{
				first[k].create_time = first[k].update_time;
				first[k].finish_time = 0;
			}
		}
		n += added;
	}
	return n;
}

/* ---- views ---- */

/* UTF-8 as a text of the database. */
static Datum
text_datum(DtmText chars)
{
	return CStringGetTextDatum(dtm_store_text_of_wire(chars.data, chars.len));
}

/* Text that may be empty but is never NULL, as DTM's columns are. */
static Datum
json_datum(bool ok, DtmText chars)
{
	if (!ok)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	return text_datum(chars);
}

static bytea *
bytea_argument(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : PG_GETARG_BYTEA_PP(n);
}

/*
 * dtm.trans_face(created_at, spec, failures, result, mine) - what of a row of
 * dtm.trans_global is in the packed columns; NULLs when they are damaged.
 */
Datum
dtm_sql_trans_face(PG_FUNCTION_ARGS)
{
	DtmArena arena = dtm_arena(CurrentMemoryContext);
	Datum values[TRANS_COLUMNS] = {0};
	bool nulls[TRANS_COLUMNS];
	DtmApiTransRow row;
	DtmTrans trans;
	DtmText json;
	TupleDesc tupdesc;
	int32 failures = PG_ARGISNULL(2) ? 0 : PG_GETARG_INT32(2);

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	tupdesc = BlessTupleDesc(tupdesc);
	memset(nulls, true, sizeof(nulls));
	if (!PG_ARGISNULL(0) && !PG_ARGISNULL(1) &&
		dtm_sql_try_unpack(bytea_argument(fcinfo, 1), NULL, PG_GETARG_TIMESTAMPTZ(0), &trans))
	{
		memset(nulls, false, sizeof(nulls));
		dtm_face_show(&trans, !PG_ARGISNULL(4) && PG_GETARG_BOOL(4));
		dtm_api_trans_row(&trans, &row);
		values[0] = text_datum(row.query_prepared);
		values[1] = text_datum(row.protocol);
		values[2] = json_datum(dtm_api_options(&row, &arena, &json), json);
		values[3] = json_datum(dtm_api_custom_data(&trans, &arena, &json), json);
		values[4] = Int32GetDatum(dtm_face_interval(&trans, failures));
		values[5] =
			text_datum(dtm_face_result(&trans, PG_ARGISNULL(3) ? NULL : PG_GETARG_JSONB_P(3)));
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(tupdesc, values, nulls)));
}

static void
put_branch(ReturnSetInfo *rsinfo, const DtmApiBranchRow *row)
{
	Datum values[BRANCH_COLUMNS];
	bool nulls[BRANCH_COLUMNS] = {false};

	values[0] = Int64GetDatum(row->id);
	values[1] = text_datum(row->url);
	nulls[2] = row->bin_data.len == 0;
	if (!nulls[2])
		values[2] =
			PointerGetDatum(cstring_to_text_with_len(row->bin_data.data, (int) row->bin_data.len));
	values[3] = text_datum(row->branch_id);
	values[4] = text_datum(row->op);
	values[5] = text_datum(row->status);
	nulls[6] = row->finish_time == 0;
	values[6] = TimestampTzGetDatum(row->finish_time);
	values[7] = TimestampTzGetDatum(row->create_time);
	values[8] = TimestampTzGetDatum(row->update_time);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/*
 * dtm.branch_face(id, created_at, spec, state, mine) - rows of
 * dtm.trans_branch_op; none when the packed columns are damaged.
 */
Datum
dtm_sql_branch_face(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	static const DtmText no_gid = {NULL, 0};
	DtmApiBranchRow *rows;
	DtmTrans trans;
	int n;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2) ||
		!dtm_sql_try_unpack(bytea_argument(fcinfo, 2), bytea_argument(fcinfo, 3),
							PG_GETARG_TIMESTAMPTZ(1), &trans))
		return (Datum) 0;
	dtm_face_show(&trans, !PG_ARGISNULL(4) && PG_GETARG_BOOL(4));
	n = dtm_face_branches(&trans, PG_GETARG_INT64(0), no_gid, &rows);
	for (int i = 0; i < n; i++)
		put_branch(rsinfo, &rows[i]);
	return (Datum) 0;
}
