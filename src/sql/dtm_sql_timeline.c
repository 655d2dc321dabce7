/* -------------------------------------------------------------------------
 *
 * dtm_sql_timeline.c
 *		dtm_timeline: the attempts of a transaction, drawn as bars.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "dtm_compat.h"
#include "dtm_sql.h"

PG_FUNCTION_INFO_V1(dtm_sql_timeline);

#define COLUMNS 8
#define WIDTH 40 /* characters of a bar */

static Datum
interval_of(int64 us)
{
	Interval *interval = palloc0(sizeof(Interval));

	interval->time = us;
	return IntervalPGetDatum(interval);
}

/* Blanks up to the start, then the call: "      ####". */
static Datum
draw(int64 from, int64 took, int64 total)
{
	char bar[WIDTH + 1];
	int start;
	int end;

	/* as fractions: stored times may be anything, and a product of them may not fit */
	start = (int) Min((double) from * WIDTH / (double) total, WIDTH - 1);
	end = (int) Min(((double) from + (double) took) * WIDTH / (double) total, WIDTH);
	end = Max(end, start + 1);
	memset(bar, ' ', start);
	memset(bar + start, '#', end - start);
	bar[end] = '\0';
	return CStringGetTextDatum(bar);
}

static const char *
outcome_text(const DtmCallRecord *call)
{
	static const char *const words[] = {"ok", "failure", "ongoing", "error"};

	if (call->reason.len > 0)
		return psprintf("%s: %s", words[call->outcome], dtm_sql_shown(call->reason));
	return words[call->outcome];
}

/* Which attempt of its op is the n-th record? */
static uint32
attempt_number(const DtmTrans *trans, int n)
{
	const DtmCallRecord *call = &trans->log[n];
	uint32 later = 0;

	for (int i = n + 1; i < trans->n_log; i++)
	{
		if (trans->log[i].branch == call->branch && trans->log[i].role == call->role)
			later++;
	}
	return dtm_trans_op(unconstify(DtmTrans *, trans), call->branch, call->role)->attempts - later;
}

static void
put_call(ReturnSetInfo *rsinfo, const DtmTrans *trans, int n, int64 total)
{
	const DtmCallRecord *call = &trans->log[n];
	const DtmBranch *branch =
		call->branch == DTM_BRANCH_TRANS ? NULL : &trans->branches[call->branch];
	DtmText url = branch == NULL ? trans->query_url : branch->url[call->role];
	Datum values[COLUMNS];
	bool nulls[COLUMNS] = {false};
	int64 from = Max(call->started_at - trans->created_at, 0);

	values[0] = interval_of(from);
	values[1] = interval_of(call->took_us);
	values[2] = branch == NULL
		? CStringGetTextDatum("00")
		: PointerGetDatum(
			  cstring_to_text_with_len(branch->branch_id.data, (int) branch->branch_id.len));
	values[3] = CStringGetTextDatum(dtm_sql_shown(
		branch == NULL ? dtm_query_op_text(trans) : dtm_branch_op_text(branch, call->role)));
	values[4] = CStringGetTextDatum(dtm_sql_shown(url));
	values[5] = Int32GetDatum((int32) attempt_number(trans, n));
	values[6] = CStringGetTextDatum(outcome_text(call));
	values[7] = draw(from, call->took_us, total);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/*
 * dtm_timeline(gid) - one row per attempt, oldest first; of a transaction
 * with very many only the newest DTM_MAX_CALL_LOG.  42704, 42501.
 */
Datum
dtm_sql_timeline(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	DtmFound found;
	DtmTrans trans;
	int64 total = 1;

	InitMaterializedSRF(fcinfo, 0);
	dtm_sql_find_visible(text_to_cstring(PG_GETARG_TEXT_PP(0)), true, &found);
	dtm_sql_unpack(found.spec, found.state, found.created_at, &trans);
	for (int i = 0; i < trans.n_log; i++)
	{
		int64 end = trans.log[i].started_at - trans.created_at + trans.log[i].took_us;

		total = Max(total, end);
	}
	for (int i = 0; i < trans.n_log; i++)
		put_call(rsinfo, &trans, i, total);
	return (Datum) 0;
}
