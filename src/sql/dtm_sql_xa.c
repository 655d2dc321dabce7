/* -------------------------------------------------------------------------
 *
 * dtm_sql_xa.c
 *		dtm_xa_exec and dtm_xa_query: a statement on a foreign server, as part
 *		of the current transaction.
 *
 * Not here: connections (dtm_xa_connection.c), savepoints and the commit
 * (dtm_xa_commit.c).  Runs in backends.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/jsonapi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/tuplestore.h"

#include "dtm_compat.h"
#include "dtm_shmem.h"
#include "dtm_sql.h"
#include "dtm_xa.h"

PG_FUNCTION_INFO_V1(dtm_sql_xa_exec);
PG_FUNCTION_INFO_V1(dtm_sql_xa_query);

/* Name of what the wrapped statement gives: long, so that no column is called so. */
#define ROW_ALIAS "dtm_xa_row_of_the_statement"

/* Where rows go; NULL desc: nowhere. */
typedef struct Rows
{
	Tuplestorestate *store;
	TupleDesc desc;
	bool whole; /* a row is one column with its JSON text */
	MemoryContext context;
} Rows;

/* ---- words of a statement ---- */

/* Behind white space, comments and empty statements. */
static const char *
skip_blank(const char *p)
{
	for (;;)
	{
		if (*p == ';' || *p == ' ' || (*p >= '\t' && *p <= '\r'))
			p++;
		else if (p[0] == '-' && p[1] == '-')
		{
			while (*p != '\0' && *p != '\n' && *p != '\r')
				p++;
		}
		else if (p[0] == '/' && p[1] == '*')
		{
			int depth = 1;

			for (p += 2; *p != '\0' && depth > 0; p++)
			{
				if (p[0] == '/' && p[1] == '*')
				{
					depth++;
					p++;
				}
				else if (p[0] == '*' && p[1] == '/')
				{
					depth--;
					p++;
				}
			}
		}
		else
			return p;
	}
}

static size_t
word_length(const char *p)
{
	size_t len = 0;

	while ((p[len] >= 'a' && p[len] <= 'z') || (p[len] >= 'A' && p[len] <= 'Z') || p[len] == '_' ||
		   (p[len] >= '0' && p[len] <= '9'))
		len++;
	return len;
}

static bool
is_word(const char *p, const char *word)
{
	size_t len = strlen(word);

	return word_length(p) == len && pg_strncasecmp(p, word, len) == 0;
}

static bool
is_one_of(const char *p, const char *const *words, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (is_word(p, words[i]))
			return true;
	}
	return false;
}

/* The beginning and end of the transaction there are ours. */
static void
check_statement(const char *statement)
{
	static const char *const control[] = {"BEGIN",    "START", "COMMIT",    "END",
										  "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE"};
	const char *word = skip_blank(statement);

	if (*word == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("\"statement\" is empty")));
	if (is_one_of(word, control, lengthof(control)) ||
		(is_word(word, "PREPARE") && is_word(skip_blank(word + strlen("PREPARE")), "TRANSACTION")))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
				 errmsg("\"statement\" must not be a transaction command: %s",
						pnstrdup(word, word_length(word))),
				 errhint("The transaction there follows the one here, with its savepoints.")));
}

/* Does a word stand anywhere in it, be it in a literal? */
static bool
contains_word(const char *statement, const char *const *words, int n)
{
	for (const char *p = statement; *p != '\0';)
	{
		size_t len = word_length(p);

		if (len > 0 && is_one_of(p, words, n))
			return true;
		p += Max(len, 1);
	}
	return false;
}

/*
 * Can the rows be turned into JSON there, where their types are known?  Not
 * of utility statements, and not when WITH holds something that writes: that
 * must not be nested.
 */
static bool
can_wrap(const char *statement)
{
	static const char *const queries[] = {"SELECT", "VALUES", "TABLE", "INSERT",
										  "UPDATE", "DELETE", "MERGE"};
	static const char *const writes[] = {"INSERT", "UPDATE", "DELETE", "MERGE"};
	const char *word = skip_blank(statement);

	if (*word == '(' || is_one_of(word, queries, lengthof(queries)))
		return true;
	return is_word(word, "WITH") && !contains_word(word, writes, lengthof(writes));
}

static char *
wrap(const char *statement)
{
	size_t len = strlen(statement);

	while (len > 0 && (statement[len - 1] == ';' || isspace((unsigned char) statement[len - 1])))
		len--;

	/* the line end is for a comment at its end */
	return psprintf("WITH " ROW_ALIAS " AS (%.*s\n) SELECT pg_catalog.row_to_json(" ROW_ALIAS
					".*) FROM " ROW_ALIAS,
					(int) len, statement);
}

/* ---- rows ---- */

/* Text in, text out: what its type is here it is there, too. */
static bool
is_plain(Oid type)
{
	char category;
	bool preferred;

	switch (type)
	{
		case BOOLOID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case FLOAT4OID:
		case FLOAT8OID:
		case NUMERICOID:
		case JSONOID:
		case JSONBOID:
		case UUIDOID:
			return true;
		default:
			/* built in, with the same number everywhere */
			if (type >= FirstGenbkiObjectId ||
				!SearchSysCacheExists1(TYPEOID, ObjectIdGetDatum(type)))
				return false;
			get_type_category_preferred(type, &category, &preferred);
			return category == TYPCATEGORY_DATETIME || category == TYPCATEGORY_TIMESPAN ||
				category == TYPCATEGORY_STRING;
	}
}

/* What to_jsonb() makes of a value that is read here as it was written there. */
static void
append_converted(StringInfo json, Oid type, const char *value)
{
	FmgrInfo to_jsonb;
	Oid input;
	Oid argument;
	Datum datum;
	Node *call;

	getTypeInputInfo(type, &input, &argument);
	datum = OidInputFunctionCall(input, unconstify(char *, value), argument, -1);
	call =
		(Node *) makeFuncExpr(F_TO_JSONB, JSONBOID, list_make1(makeNullConst(type, -1, InvalidOid)),
							  InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
	fmgr_info(F_TO_JSONB, &to_jsonb);
	fmgr_info_set_expr(call, &to_jsonb);
	datum = FunctionCall1(&to_jsonb, datum);
	appendStringInfoString(json, JsonbToCString(NULL, &DatumGetJsonbP(datum)->root, 0));
}

/* A value as JSON when its type is one that every PostgreSQL has; the rest is a string. */
static void
append_value(StringInfo json, Oid type, const char *value)
{
	Oid element = type < FirstGenbkiObjectId ? get_element_type(type) : InvalidOid;
	char category;
	bool preferred;

	if (OidIsValid(element) && is_plain(element))
	{
		append_converted(json, type, value);
		return;
	}
	switch (type)
	{
		case BOOLOID:
			appendStringInfoString(json, value[0] == 't' ? "true" : "false");
			break;
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case FLOAT4OID:
		case FLOAT8OID:
		case NUMERICOID:
			if (IsValidJsonNumber(value, (int) strlen(value)))
				appendStringInfoString(json, value);
			else
				escape_json(json, value);
			break;
		case JSONOID:
		case JSONBOID:
			appendStringInfoString(json, value);
			break;
		default:
			category = TYPCATEGORY_UNKNOWN;
			if (is_plain(type))
				get_type_category_preferred(type, &category, &preferred);
			if (category == TYPCATEGORY_DATETIME)
				append_converted(json, type, value);
			else
				escape_json(json, value);
			break;
	}
}

static void
append_row(StringInfo json, const PGresult *result)
{
	appendStringInfoChar(json, '{');
	for (int column = 0; column < PQnfields(result); column++)
	{
		if (column > 0)
			appendStringInfoChar(json, ',');
		escape_json(json, dtm_xa_from_wire(PQfname(result, column)));
		appendStringInfoChar(json, ':');
		if (PQgetisnull(result, 0, column))
			appendStringInfoString(json, "null");
		else
			append_value(json, PQftype(result, column),
						 dtm_xa_from_wire(PQgetvalue(result, 0, column)));
	}
	appendStringInfoChar(json, '}');
}

static void
take_row(Rows *rows, const PGresult *result)
{
	MemoryContext old = MemoryContextSwitchTo(rows->context);
	StringInfoData json;
	Datum value;
	bool isnull = false;

	initStringInfo(&json);
	if (rows->whole)
		appendStringInfoString(&json, dtm_xa_from_wire(PQgetvalue(result, 0, 0)));
	else
		append_row(&json, result);
	value = DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
	tuplestore_putvalues(rows->store, rows->desc, &value, &isnull);
	MemoryContextSwitchTo(old);
	MemoryContextReset(rows->context);
}

/* ---- running ---- */

/* What a statement must not leave behind; the work in that transaction is lost with it. */
static void
give_up(DtmXaConnection *x, int code, const char *message)
{
	x->lost = true;
	dtm_xa_close(x);
	ereport(ERROR, (errcode(code), errmsg("%s", message), errcontext("on server \"%s\"", x->name)));
}

/*
 * We speak UTF-8 and read ISO dates.  The error takes such a SET back, with
 * the savepoint or the transaction.
 */
static void
check_session(DtmXaConnection *x)
{
	const char *encoding = PQparameterStatus(x->conn, "client_encoding");
	const char *style = PQparameterStatus(x->conn, "DateStyle");
	const char *changed = NULL;

	if (encoding != NULL && strcmp(encoding, "UTF8") != 0)
		changed = "client_encoding";
	else if (style != NULL && strncmp(style, "ISO", 3) != 0)
		changed = "datestyle";
	if (changed != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("\"statement\" must not change %s", changed),
				 errhint(
					 "Statements and rows are passed as UTF8 and with ISO dates; use to_char() for another form."),
				 errcontext("on server \"%s\"", x->name)));
}

/* Send it, hand its rows on; the number of rows that it says. */
static int64
run(DtmXaConnection *x, const char *statement, const char *wire, int n, const char *const *params,
	Rows *rows)
{
	PGresult *volatile result = NULL;
	PGresult *volatile failed = NULL;
	volatile int64 count = 0;
	volatile bool copies = false;

	dtm_xa_send_params(x, wire, n, params);
	(void) PQsetSingleRowMode(x->conn);
	PG_TRY();
	{
		while (!copies && (result = dtm_xa_next_result(x)) != NULL)
		{
			switch (PQresultStatus(result))
			{
				case PGRES_SINGLE_TUPLE:
					if (rows != NULL)
						take_row(rows, result);
					break;
				case PGRES_COMMAND_OK:
				case PGRES_TUPLES_OK:
					count = strtoll(PQcmdTuples(result), NULL, 10);
					break;
				case PGRES_EMPTY_QUERY:
					break;
				case PGRES_COPY_IN:
				case PGRES_COPY_OUT:
				case PGRES_COPY_BOTH:
					copies = true;
					break;
				default:
					if (failed == NULL)
					{
						failed = result;
						result = NULL;
					}
					break;
			}
			PQclear(result);
			result = NULL;
			if (PQstatus(x->conn) == CONNECTION_BAD)
				break;
		}
	}
	PG_CATCH();
	{
		PQclear(result);
		PQclear(failed);
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (failed != NULL)
		dtm_xa_throw(x, failed, statement);
	if (PQstatus(x->conn) == CONNECTION_BAD)
		dtm_xa_throw_lost(x);
	if (copies)
		give_up(x, ERRCODE_FEATURE_NOT_SUPPORTED, "COPY to or from the client is not supported");
	if (PQtransactionStatus(x->conn) != PQTRANS_INTRANS)
		give_up(x, ERRCODE_INVALID_TRANSACTION_TERMINATION,
				"the statement has ended the transaction");
	check_session(x);
	return count;
}

/* The parameters as the wire has them; NULL elements are NULL. */
static int
params_argument(FunctionCallInfo fcinfo, int n, const char *const **params)
{
	Datum *elements;
	bool *nulls;
	int count;
	const char **list;

	*params = NULL;
	if (PG_ARGISNULL(n))
		return 0;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(n), TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls,
					  &count);
	if (count > PG_INT16_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("more than %d \"params\"", PG_INT16_MAX)));
	list = palloc(sizeof(char *) * Max(count, 1));
	for (int i = 0; i < count; i++)
		list[i] = nulls[i] ? NULL : dtm_xa_to_wire(TextDatumGetCString(elements[i]));
	*params = list;
	return count;
}

/* The common part; rows NULL: they are only counted. */
static int64
execute(FunctionCallInfo fcinfo, const char *what, Rows *rows)
{
	char *server;
	char *statement;
	const char *wire;
	const char *const *params;
	int n;

	PreventCommandIfReadOnly(what);
	PreventCommandIfParallelMode(what);
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("\"server\" must not be NULL")));
	server = NameStr(*PG_GETARG_NAME(0));
	statement = dtm_sql_required_string(fcinfo, 1, "statement");
	n = params_argument(fcinfo, 2, &params);
	check_statement(statement);
	if (dtm_shared == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s needs a preloaded dtm_pg: nothing else finishes what is prepared on a server",
						what),
				 errhint(
					 "Add shared_preload_libraries = 'dtm_pg' to postgresql.conf and restart the server.")));
	wire = dtm_xa_to_wire(statement);
	if (rows != NULL)
	{
		rows->whole = can_wrap(wire);
		if (rows->whole)
			wire = wrap(wire);
	}
	return run(dtm_xa_open(server), statement, wire, n, params, rows);
}

/*
 * dtm_xa_exec(server, statement, VARIADIC params) - runs the statement on a
 * foreign server in the current transaction; returns its number of rows.
 *
 * 22004 argument NULL; 22023 statement empty; 2D000 transaction command;
 * 25006 read-only transaction; 55000 not preloaded, or the server cannot
 * prepare transactions; 42704, 42501, 2F003 server, mapping, privileges;
 * 08001, 08006 connection; else what the server says.
 */
Datum
dtm_sql_xa_exec(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(execute(fcinfo, "dtm_xa_exec()", NULL));
}

/*
 * dtm_xa_query(server, statement, VARIADIC params) - the same, returning one
 * jsonb object per row.  Errors as dtm_xa_exec.
 */
Datum
dtm_sql_xa_query(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext old;
	Rows rows;

	if (info == NULL || !IsA(info, ReturnSetInfo) || !(info->allowedModes & SFRM_Materialize))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("set-valued function called in context that cannot accept a set")));
	old = MemoryContextSwitchTo(info->econtext->ecxt_per_query_memory);
	rows.desc = CreateTupleDescCopy(info->expectedDesc);
	rows.store =
		tuplestore_begin_heap((info->allowedModes & SFRM_Materialize_Random) != 0, false, work_mem);
	MemoryContextSwitchTo(old);
	rows.context =
		AllocSetContextCreate(CurrentMemoryContext, "dtm xa row", ALLOCSET_DEFAULT_SIZES);
	info->returnMode = SFRM_Materialize;
	info->setResult = rows.store;
	info->setDesc = rows.desc;
	(void) execute(fcinfo, "dtm_xa_query()", &rows);
	MemoryContextDelete(rows.context);
	return (Datum) 0;
}
