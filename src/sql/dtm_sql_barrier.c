/* -------------------------------------------------------------------------
 *
 * dtm_sql_barrier.c
 *		The branch barrier as SQL functions: dtm_barrier, dtm_barrier_run,
 *		dtm_barrier_query_prepared.
 *
 * A service calls these in the transaction of its business SQL.  Their rows
 * in dtm.barrier commit or vanish with that transaction, which is all that
 * the barrier needs: no worker, no shared_preload_libraries.
 *
 * Not here: what the outcome of the inserts means (core/dtm_barrier.c), how
 * a query string is read (core/dtm_url.c).
 *
 * Runs in: any backend, in the caller's transaction.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "nodes/params.h"
#include "parser/parse_param.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "dtm_barrier.h"
#include "dtm_compat.h"
#include "dtm_sql.h"
#include "dtm_store.h"
#include "dtm_url.h"

#define MAX_BRANCH_ID_LEN 128
#define MAX_WORD_LEN 45 /* trans_type, op, barrier_id */

/* The local part of a msg always has this row, however often it is tried. */
#define MSG_BRANCH_ID "00"
#define MSG_OP "msg"
#define MSG_BARRIER_ID "01"
#define REASON_ROLLBACK "rollback"

/* How often a barrier without barrier_id was passed in this transaction. */
typedef struct CounterKey
{
	const char *text; /* gid, branch_id and op, a NUL between them */
	Size len;
} CounterKey;

typedef struct Counter
{
	CounterKey key; /* must be first */
	unsigned int used;
} Counter;

/* One use inside a savepoint, to be taken back if it is rolled back. */
typedef struct CounterUse
{
	SubTransactionId subid;
	Counter *counter;
	struct CounterUse *next; /* the one before it */
} CounterUse;

/* The parser's argument while it finds out the parameters' types. */
typedef struct VarParams
{
	Oid *types;
	int count;
} VarParams;

PG_FUNCTION_INFO_V1(dtm_sql_barrier);
PG_FUNCTION_INFO_V1(dtm_sql_barrier_request);
PG_FUNCTION_INFO_V1(dtm_sql_barrier_run);
PG_FUNCTION_INFO_V1(dtm_sql_barrier_query_prepared);

static void check_field(const char *name, const char *value, size_t limit);
static void check_call(const DtmBarrierCall *call);
static void call_from_request(FunctionCallInfo fcinfo, DtmBarrierCall *call);
static char *field_to_server(const char *value);
static bool pass_barrier(const DtmBarrierCall *call, const char *barrier_id);
static const char *next_barrier_id(const DtmBarrierCall *call);
static Counter *find_counter(const DtmBarrierCall *call);
static uint32 counter_hash(const void *key, Size keysize);
static int counter_match(const void *a, const void *b, Size keysize);
static void barrier_xact_callback(XactEvent event, void *arg);
static void barrier_subxact_callback(SubXactEvent event, SubTransactionId subid,
									 SubTransactionId parent, void *arg);
static uint64 run_statement(const char *statement, Datum *values, bool *nulls, int nvalues);
static void setup_parameters(ParseState *pstate, void *arg);
static void check_parameters(SPIPlanPtr plan, const VarParams *params, int given);
static ParamListInfo bind_parameters(const VarParams *params, Datum *values, bool *nulls);

static HTAB *counters = NULL; /* in TopTransactionContext, like counter_uses */
static CounterUse *counter_uses = NULL;

/*
 * dtm_barrier(trans_type, gid, branch_id, op, barrier_id): true when the
 * business SQL is to be run in this transaction.
 */
Datum
dtm_sql_barrier(PG_FUNCTION_ARGS)
{
	DtmBarrierCall call;
	char *trans_type;
	char *gid;
	char *branch_id;
	char *op;
	char *barrier_id = NULL;

	trans_type = dtm_sql_required_string(fcinfo, 0, "trans_type");
	gid = dtm_sql_required_string(fcinfo, 1, "gid");
	branch_id = dtm_sql_required_string(fcinfo, 2, "branch_id");
	op = dtm_sql_required_string(fcinfo, 3, "op");
	call.trans_type = trans_type;
	call.gid = gid;
	call.branch_id = branch_id;
	call.op = op;
	check_call(&call);
	if (!PG_ARGISNULL(4))
	{
		barrier_id = text_to_cstring(PG_GETARG_TEXT_PP(4));
		check_field("barrier_id", barrier_id, MAX_WORD_LEN);

		/* its row says that a sql: branch has run: nobody may say so of another role's */
		if (strcmp(barrier_id, DTM_SQL_BARRIER_ID) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_RESERVED_NAME),
					 errmsg("\"barrier_id\" \"%s\" is reserved for the executor of sql: branches",
							barrier_id),
					 errhint("Leave it out, or count 01, 02, ...")));
	}
	PG_RETURN_BOOL(pass_barrier(&call, barrier_id));
}

/*
 * dtm_barrier(request): the same from a raw URL or query string.
 */
Datum
dtm_sql_barrier_request(PG_FUNCTION_ARGS)
{
	DtmBarrierCall call;

	call_from_request(fcinfo, &call);
	PG_RETURN_BOOL(pass_barrier(&call, NULL));
}

/*
 * dtm_barrier_run(request, statement, VARIADIC params): rows affected, or
 * NULL when the barrier says to skip.  The statement runs as the caller.
 */
Datum
dtm_sql_barrier_run(PG_FUNCTION_ARGS)
{
	DtmBarrierCall call;
	char *statement;
	Datum *values;
	bool *nulls;
	int nvalues;

	call_from_request(fcinfo, &call);
	statement = dtm_sql_required_string(fcinfo, 1, "statement");
	if (statement[strspn(statement, " \t\r\n\f\v;")] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("\"statement\" is empty")));
	if (PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("\"params\" must not be NULL"),
				 errhint("Leave it out for a statement without parameters.")));
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(2), TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls,
					  &nvalues);

	if (!pass_barrier(&call, NULL))
		PG_RETURN_NULL();
	PG_RETURN_INT64((int64) run_statement(statement, values, nulls, nvalues));
}

/*
 * dtm_barrier_query_prepared(request): did the local part of a msg commit?
 *
 * The row is inserted before it is read.  So an open local part is waited
 * for, and one that comes later finds the row and fails as DUPLICATED: the
 * answer is final either way (specs/barrier_back_check.spec).
 */
Datum
dtm_sql_barrier_query_prepared(PG_FUNCTION_ARGS)
{
	DtmBarrierCall call;
	int origin_rows;
	int inserted;
	char *reason;

	call_from_request(fcinfo, &call);
	if (strcmp(call.op, MSG_OP) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("request has \"op\" \"%s\", but query_prepared is called with \"%s\"",
						call.op, MSG_OP),
				 errhint("Protect the calls of a branch with dtm_barrier(request).")));
	call.branch_id = MSG_BRANCH_ID;

	for (;;)
	{
		dtm_store_barrier(&call, MSG_BARRIER_ID, REASON_ROLLBACK, &origin_rows, &inserted);
		if (inserted > 0)
			PG_RETURN_TEXT_P(cstring_to_text("FAILURE"));
		reason = dtm_store_barrier_reason(&call, MSG_BARRIER_ID);
		if (reason != NULL)
			break;
		/* Somebody deleted the row in between: insert it again. */
		CHECK_FOR_INTERRUPTS();
	}

	if (strcmp(reason, REASON_ROLLBACK) == 0)
		PG_RETURN_TEXT_P(cstring_to_text("FAILURE"));
	if (strcmp(reason, MSG_OP) == 0)
		PG_RETURN_TEXT_P(cstring_to_text("SUCCESS"));
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("barrier row of the local part of \"%s\" has unknown reason \"%s\"", call.gid,
					reason)));
}

/* A value cut by its column would collide with another branch's row. */
static void
check_field(const char *name, const char *value, size_t limit)
{
	size_t len = strlen(value);

	if (len == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("\"%s\" is empty", name)));
	if (len > limit)
		ereport(ERROR,
				(errcode(ERRCODE_STRING_DATA_RIGHT_TRUNCATION), errmsg("\"%s\" is too long", name),
				 errdetail("It has %zu bytes; the limit is %zu.", len, limit)));
}

static void
check_call(const DtmBarrierCall *call)
{
	check_field("trans_type", call->trans_type, MAX_WORD_LEN);
	check_field("gid", call->gid, DTM_MAX_GID_LEN);
	check_field("branch_id", call->branch_id, MAX_BRANCH_ID_LEN);
	check_field("op", call->op, MAX_WORD_LEN);
}

/*
 * The first argument of the function is the request.  Percent-encoding hides
 * UTF-8 whatever the database's encoding is, so the request is read as UTF-8
 * and its values are verified and converted on the way back.
 */
static void
call_from_request(FunctionCallInfo fcinfo, DtmBarrierCall *call)
{
	DtmRequest *parsed = palloc0(sizeof(DtmRequest));
	const char *field;
	const char *wrong;
	char *request;
	char *utf8;

	request = dtm_sql_required_string(fcinfo, 0, "request");
	utf8 = pg_server_to_any(request, (int) strlen(request), PG_UTF8);
	wrong = dtm_request_parse(utf8, strlen(utf8), parsed, &field);
	if (wrong != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("request %s", wrong),
				 errhint("Pass the URL or the query string just as the service received it, "
						 "like \"gid=g1&trans_type=saga&branch_id=01&op=action\".")));
	call->trans_type = field_to_server(parsed->trans_type);
	call->gid = field_to_server(parsed->gid);
	call->branch_id = field_to_server(parsed->branch_id);
	call->op = field_to_server(parsed->op);
	check_call(call);
}

static char *
field_to_server(const char *value)
{
	return pg_any_to_server(value, (int) strlen(value), PG_UTF8);
}

/* Insert the rows of one call and say whether its business SQL is to run. */
static bool
pass_barrier(const DtmBarrierCall *call, const char *barrier_id)
{
	int origin_rows;
	int current_rows;

	if (barrier_id == NULL)
		barrier_id = strcmp(call->op, MSG_OP) == 0 ? MSG_BARRIER_ID : next_barrier_id(call);
	dtm_store_barrier(call, barrier_id, call->op, &origin_rows, &current_rows);

	switch (dtm_barrier_decide(call->op, origin_rows, current_rows))
	{
		case DTM_BARRIER_RUN:
			return true;
		case DTM_BARRIER_SKIP:
			return false;
		case DTM_BARRIER_DUPLICATED:
			break;
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNIQUE_VIOLATION),
			 errmsg("DUPLICATED: the local part of \"%s\" was already committed or given up",
					call->gid),
			 errhint("Roll back; dtm_barrier_query_prepared tells which of the two it was.")));
}

/*
 * 01, 02, ... for the calls of one branch's op within this transaction, as
 * DTM's SDKs count the protected calls of one request.  The string lives in
 * the caller's memory context.
 */
static const char *
next_barrier_id(const DtmBarrierCall *call)
{
	static bool registered = false;
	Counter *counter;
	CounterUse *use = NULL;

	if (!registered)
	{
		RegisterXactCallback(barrier_xact_callback, NULL);
		RegisterSubXactCallback(barrier_subxact_callback, NULL);
		registered = true;
	}
	counter = find_counter(call);
	if (GetCurrentTransactionNestLevel() > 1)
	{
		use = MemoryContextAlloc(TopTransactionContext, sizeof(CounterUse));
		use->subid = GetCurrentSubTransactionId();
		use->counter = counter;
		use->next = counter_uses;
		counter_uses = use;
	}
	counter->used++;
	return psprintf("%02u", counter->used);
}

/* Find or make the counter; an error leaves the table as it was. */
static Counter *
find_counter(const DtmBarrierCall *call)
{
	StringInfoData buf;
	CounterKey key;
	Counter *counter;
	char *copy;
	bool found;

	if (counters == NULL)
	{
		HASHCTL control = {0};

		control.keysize = sizeof(CounterKey);
		control.entrysize = sizeof(Counter);
		control.hash = counter_hash;
		control.match = counter_match;
		control.hcxt = TopTransactionContext;
		counters = hash_create("dtm barrier counters", 16, &control,
							   HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
	}

	initStringInfo(&buf);
	appendBinaryStringInfo(&buf, call->gid, (int) strlen(call->gid) + 1);
	appendBinaryStringInfo(&buf, call->branch_id, (int) strlen(call->branch_id) + 1);
	appendStringInfoString(&buf, call->op);
	key.text = buf.data;
	key.len = (Size) buf.len;
	counter = hash_search(counters, &key, HASH_FIND, NULL);
	if (counter == NULL)
	{
		copy = MemoryContextAlloc(TopTransactionContext, key.len);
		memcpy(copy, buf.data, key.len);
		key.text = copy;
		counter = hash_search(counters, &key, HASH_ENTER, &found);
		counter->used = 0;
	}
	pfree(buf.data);
	return counter;
}

static uint32
counter_hash(const void *key, Size keysize)
{
	const CounterKey *counter = key;

	return hash_bytes((const unsigned char *) counter->text, (int) counter->len);
}

/* 0 when equal, as dynahash wants it. */
static int
counter_match(const void *a, const void *b, Size keysize)
{
	const CounterKey *left = a;
	const CounterKey *right = b;

	if (left->len != right->len)
		return 1;
	return memcmp(left->text, right->text, left->len);
}

/* The memory goes with the transaction; only forget it. */
static void
barrier_xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			counters = NULL;
			counter_uses = NULL;
			break;
		default:
			break;
	}
}

/*
 * The uses of the ending savepoint are at the head of the list: those of the
 * savepoints inside it were taken back, or given to it, when they ended.  A
 * use that reaches the transaction itself can only vanish with it.
 */
static void
barrier_subxact_callback(SubXactEvent event, SubTransactionId subid, SubTransactionId parent,
						 void *arg)
{
	CounterUse *use = counter_uses;

	if (event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB)
		return;
	if (event == SUBXACT_EVENT_COMMIT_SUB && parent != TopSubTransactionId)
	{
		for (; use != NULL && use->subid == subid; use = use->next)
			use->subid = parent;
		return;
	}
	while (use != NULL && use->subid == subid)
	{
		counter_uses = use->next;
		if (event == SUBXACT_EVENT_ABORT_SUB)
			use->counter->used--;
		pfree(use);
		use = counter_uses;
	}
}

/*
 * Run one statement as the caller, its parameters taking the types that the
 * statement wants, as with PREPARE.  Returns the number of rows.
 */
static uint64
run_statement(const char *statement, Datum *values, bool *nulls, int nvalues)
{
	VarParams params;
	SPIPlanPtr plan;
	uint64 rows;
	int rc;

	/* Room from the start: the parser's own memory is gone when SPI returns. */
	params.types = palloc0(sizeof(Oid) * (Size) Max(nvalues, 1));
	params.count = nvalues;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	plan = SPI_prepare_params(statement, setup_parameters, &params, 0);
	if (plan == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("dtm_barrier_run cannot prepare the statement: %s",
						SPI_result_code_string(SPI_result))));
	check_parameters(plan, &params, nvalues);
	rc = SPI_execute_plan_with_paramlist(plan, bind_parameters(&params, values, nulls), false, 0);
	if (rc == SPI_ERROR_COPY || rc == SPI_ERROR_TRANSACTION)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("dtm_barrier_run cannot run %s",
						rc == SPI_ERROR_COPY ? "COPY with the client" : "a transaction command"),
				 errhint("The barrier's row must commit together with the statement.")));
	if (rc < 0)
		elog(ERROR, "dtm_barrier_run failed: %s", SPI_result_code_string(rc));
	rows = SPI_processed;
	SPI_finish();
	return rows;
}

static void
setup_parameters(ParseState *pstate, void *arg)
{
	VarParams *params = arg;

	setup_parse_variable_parameters(pstate, &params->types, &params->count);
}

/* One statement, every parameter used, and each with a type. */
static void
check_parameters(SPIPlanPtr plan, const VarParams *params, int given)
{
	if (list_length(SPI_plan_get_plan_sources(plan)) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR), errmsg("\"statement\" is not one statement"),
				 errhint("Use dtm_barrier(request) to protect several statements.")));
	if (params->count > given)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("statement uses $%d, but \"params\" has %d", params->count, given)));
	for (int i = 0; i < params->count; i++)
	{
		if (params->types[i] == InvalidOid)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("statement does not use $%d, but \"params\" has %d", i + 1, given)));
		if (params->types[i] == UNKNOWNOID)
			ereport(ERROR,
					(errcode(ERRCODE_INDETERMINATE_DATATYPE),
					 errmsg("could not determine data type of parameter $%d", i + 1),
					 errhint("Write it with a cast, like $%d::int.", i + 1)));
	}
}

/* The texts as values of the statement's types; an unfit text is an error. */
static ParamListInfo
bind_parameters(const VarParams *params, Datum *values, bool *nulls)
{
	ParamListInfo list = makeParamList(params->count);

	for (int i = 0; i < params->count; i++)
	{
		ParamExternData *param = &list->params[i];
		Oid input;
		Oid ioparam;
		char *string = nulls[i] ? NULL : TextDatumGetCString(values[i]);

		getTypeInputInfo(params->types[i], &input, &ioparam);
		param->value = OidInputFunctionCall(input, string, ioparam, -1);
		param->isnull = nulls[i];
		param->pflags = PARAM_FLAG_CONST;
		param->ptype = params->types[i];
	}
	return list;
}
