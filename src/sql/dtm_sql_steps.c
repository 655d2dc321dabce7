/* -------------------------------------------------------------------------
 *
 * dtm_sql_steps.c
 *		The arguments of a submit: walks jsonb and feeds the spec builder,
 *		looks up what the targets name.
 *
 * The rules about steps are the builder's (src/core/dtm_spec.h); here is
 * only what needs the database: jsonb, functions, privileges, settings.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "dtm_arena.h"
#include "dtm_compat.h"
#include "dtm_foreign.h"
#include "dtm_policy.h"
#include "dtm_settings.h"
#include "dtm_sql.h"
#include "dtm_steps_json.h"

void
dtm_sql_spec_error(const DtmSpecError *error)
{
	int code = ERRCODE_INVALID_PARAMETER_VALUE;

	if (error->code == DTM_SPEC_LIMIT)
		code = ERRCODE_PROGRAM_LIMIT_EXCEEDED;
	else if (error->code == DTM_SPEC_UNSUPPORTED)
		code = ERRCODE_FEATURE_NOT_SUPPORTED;
	else if (error->code == DTM_SPEC_NOMEM)
		code = ERRCODE_OUT_OF_MEMORY;
	ereport(ERROR,
			(errcode(code), errmsg("%s", error->message),
			 error->hint[0] != '\0' ? errhint("%s", error->hint) : 0));
}

void
dtm_sql_check(DtmSpecBuilder *builder, bool ok)
{
	if (!ok)
		dtm_sql_spec_error(dtm_spec_error(builder));
}

/* Kind and text of a value as the builder takes them; as_json: strings as JSON text too. */
static DtmJsonKind
value_text(JsonbValue *value, bool as_json, const char **chars, size_t *len)
{
	StringInfoData buffer;

	*chars = "";
	*len = 0;
	switch (value->type)
	{
		case jbvNull:
			return DTM_JSON_NULL;
		case jbvBool:
			*chars = value->val.boolean ? "true" : "false";
			*len = strlen(*chars);
			return DTM_JSON_BOOL;
		case jbvNumeric:
			*chars = DatumGetCString(
				DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
			*len = strlen(*chars);
			return DTM_JSON_NUMBER;
		case jbvString:
			if (as_json)
			{
				initStringInfo(&buffer);
				escape_json(&buffer, pnstrdup(value->val.string.val, value->val.string.len));
				*chars = buffer.data;
				*len = buffer.len;
			}
			else
			{
				*chars = value->val.string.val;
				*len = value->val.string.len;
			}
			return DTM_JSON_STRING;
		case jbvBinary:
			initStringInfo(&buffer);
			(void) JsonbToCString(&buffer, value->val.binary.data, value->val.binary.len);
			*chars = buffer.data;
			*len = buffer.len;
			return JsonContainerIsArray(value->val.binary.data) ? DTM_JSON_ARRAY : DTM_JSON_OBJECT;
		default:
			elog(ERROR, "unexpected kind of jsonb value");
			return DTM_JSON_NULL;
	}
}

static bool
key_is(const JsonbValue *key, const char *name)
{
	return key->val.string.len == (int) strlen(name) &&
		memcmp(key->val.string.val, name, key->val.string.len) == 0;
}

/* The members of an object of headers, of a step or of the transaction. */
static void
walk_headers(DtmSpecBuilder *builder, JsonbContainer *container, bool of_step)
{
	JsonbIterator *it = JsonbIteratorInit(container);
	JsonbIteratorToken token;
	JsonbValue key;
	JsonbValue value;

	(void) JsonbIteratorNext(&it, &key, true);
	while ((token = JsonbIteratorNext(&it, &key, true)) == WJB_KEY)
	{
		const char *chars;
		size_t len;
		DtmJsonKind kind;

		(void) JsonbIteratorNext(&it, &value, true);
		kind = value_text(&value, false, &chars, &len);
		dtm_sql_check(builder,
					  of_step ? dtm_spec_step_header(builder, key.val.string.val,
													 key.val.string.len, kind, chars, len)
							  : dtm_spec_add_header(builder, key.val.string.val, key.val.string.len,
													kind, chars, len));
	}
}

static void
walk_after(DtmSpecBuilder *builder, JsonbContainer *container)
{
	JsonbIterator *it = JsonbIteratorInit(container);
	JsonbValue value;

	(void) JsonbIteratorNext(&it, &value, true);
	while (JsonbIteratorNext(&it, &value, true) == WJB_ELEM)
	{
		const char *chars;
		size_t len;
		DtmJsonKind kind = value_text(&value, false, &chars, &len);

		dtm_sql_check(builder, dtm_spec_step_after(builder, kind, chars, len));
	}
}

/* The interval type's input, with errors that name the step. */
static Interval *
read_interval(const DtmSpecBuilder *builder, char *chars)
{
	MemoryContext context = CurrentMemoryContext;
	Datum interval = (Datum) 0;

	PG_TRY();
	{
		interval = DirectFunctionCall3(interval_in, CStringGetDatum(chars),
									   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_DATA_EXCEPTION)
			ReThrowError(error);
		ereport(ERROR,
				(errcode(error->sqlerrcode),
				 errmsg("%s %d: \"request_timeout\": %s", dtm_spec_element(builder),
						dtm_spec_step_count(builder) - 1, error->message),
				 errhint("Give seconds, e.g. 2.5, or an interval, e.g. \"2 min\".")));
	}
	PG_END_TRY();
	return DatumGetIntervalP(interval);
}

/* A request_timeout of a step may be an interval in words, like everywhere in SQL. */
static bool
interval_seconds(const DtmSpecBuilder *builder, const char *chars, size_t len, const char **seconds,
				 size_t *seconds_len)
{
	/* digits only would be seconds for the interval type too */
	Interval *interval = read_interval(builder, pnstrdup(chars, len));
	char *result;

	result = psprintf("%.3f",
					  (double) interval->time / USECS_PER_SEC + interval->day * 86400.0 +
						  interval->month * 30.0 * 86400.0);
	*seconds = result;
	*seconds_len = strlen(result);
	return true;
}

static void
walk_step(DtmSpecBuilder *builder, JsonbContainer *container)
{
	JsonbIterator *it = JsonbIteratorInit(container);
	JsonbValue key;
	JsonbValue value;

	(void) JsonbIteratorNext(&it, &key, true);
	while (JsonbIteratorNext(&it, &key, true) == WJB_KEY)
	{
		const char *chars;
		size_t len;
		DtmJsonKind kind;

		(void) JsonbIteratorNext(&it, &value, true);
		kind = value_text(&value, key_is(&key, "payload"), &chars, &len);
		if (kind == DTM_JSON_STRING && key_is(&key, "request_timeout") &&
			interval_seconds(builder, chars, len, &chars, &len))
			kind = DTM_JSON_NUMBER;
		dtm_sql_check(builder,
					  dtm_spec_step_field(builder, key.val.string.val, key.val.string.len, kind,
										  chars, len));
		if (kind == DTM_JSON_OBJECT && key_is(&key, "headers"))
			walk_headers(builder, value.val.binary.data, true);
		if (kind == DTM_JSON_ARRAY && key_is(&key, "after"))
			walk_after(builder, value.val.binary.data);
	}
}

void
dtm_sql_steps(DtmSpecBuilder *builder, Jsonb *steps, uint32_t *flags)
{
	JsonbIterator *it;
	JsonbValue value;
	int step = 0;

	if (JB_ROOT_IS_OBJECT(steps) && dtm_spec_type(builder) != DTM_TYPE_TCC)
	{
		StringInfoData chars;

		initStringInfo(&chars);
		(void) JsonbToCString(&chars, &steps->root, VARSIZE(steps));
		dtm_sql_check(builder, dtm_steps_json(builder, chars.data, chars.len, flags));
		return;
	}
	if (!JB_ROOT_IS_ARRAY(steps) || JB_ROOT_IS_SCALAR(steps))
		dtm_sql_check(builder,
					  dtm_spec_refuse(builder, DTM_SPEC_INVALID, -1, "steps",
									  dtm_spec_step_example(builder), "\"%s\" is not an array",
									  dtm_spec_list_name(builder)));

	it = JsonbIteratorInit(&steps->root);
	(void) JsonbIteratorNext(&it, &value, true);
	while (JsonbIteratorNext(&it, &value, true) == WJB_ELEM)
	{
		if (value.type != jbvBinary || !JsonContainerIsObject(value.val.binary.data))
			dtm_sql_check(builder,
						  dtm_spec_refuse(builder, DTM_SPEC_INVALID, step, "steps",
										  dtm_spec_step_example(builder), "is not an object"));
		dtm_sql_check(builder, dtm_spec_step_begin(builder));
		walk_step(builder, value.val.binary.data);
		step++;
	}
}

void
dtm_sql_headers(DtmSpecBuilder *builder, Jsonb *headers)
{
	if (headers == NULL)
		return;
	if (!JB_ROOT_IS_OBJECT(headers))
		dtm_sql_check(builder,
					  dtm_spec_refuse(builder, DTM_SPEC_INVALID, -1, "headers",
									  "Give an object of strings like {\"Authorization\": \"Bearer ...\"}.",
									  "\"headers\" is not an object"));
	walk_headers(builder, &headers->root, false);
}

/* ---- targets ---- */

/* dtm.allowed_targets as the core reads it; parsed again only when it has changed. */
static const DtmPolicy *
current_policy(void)
{
	static MemoryContext context = NULL;
	static char *chars = NULL;
	static DtmPolicy *policy = NULL;
	MemoryContext fresh;
	DtmArena arena;
	char error[256];

	if (chars != NULL && strcmp(chars, dtm_allowed_targets) == 0)
		return policy;
	fresh = AllocSetContextCreate(TopMemoryContext, "dtm policy", ALLOCSET_SMALL_SIZES);
	arena = dtm_arena(fresh);
	chars = NULL;
	policy = dtm_policy_parse(dtm_allowed_targets, &arena, error, sizeof(error));
	if (policy == NULL)
	{
		MemoryContextDelete(fresh);
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("dtm.allowed_targets cannot be used: %s", error)));
	}
	if (context != NULL)
		MemoryContextDelete(context);
	context = fresh;
	chars = MemoryContextStrdup(fresh, dtm_allowed_targets);
	return policy;
}

/* Which target a message is about: "step 2: " and the key, or "" and "query_prepared". */
typedef struct TargetPlace
{
	const char *prefix;
	const char *field;
} TargetPlace;

/* Looking a name up in a schema without USAGE is an error that does not know the step. */
static void
check_schema(const TargetPlace *place, List *names)
{
	char *name = strVal(linitial(names));
	Oid schema = list_length(names) > 1 ? get_namespace_oid(name, true) : InvalidOid;

	if (OidIsValid(schema) &&
		!DatumGetBool(DirectFunctionCall2(has_schema_privilege_id, ObjectIdGetDatum(schema),
										  CStringGetTextDatum("USAGE"))))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("%spermission denied for schema %s in \"%s\"", place->prefix,
						quote_identifier(name), place->field)));
}

/* Resolve one sql: target with the caller's search_path and rights: its qualified name. */
static char *
resolve_function(const TargetPlace *place, DtmText name)
{
	char *given = pnstrdup(name.data, name.len);
	List *names = dtm_qualified_names(given);
	Oid types[1] = {JSONBOID};
	Oid function;
	HeapTuple tuple;
	Form_pg_proc proc;
	Oid result;
	bool usable;
	char *qualified;

	check_schema(place, names);
	function = LookupFuncName(names, 1, types, true);
	if (!OidIsValid(function))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("%s\"%s\" names function %s(jsonb), which does not exist", place->prefix,
						place->field, given),
				 errhint(
					 "A sql: target is a function with one argument of type jsonb that returns void or jsonb.")));
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", function);
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	result = proc->prorettype;

	/* no other session can call a temporary one */
	usable = proc->prokind == PROKIND_FUNCTION && !proc->proretset &&
		(result == VOIDOID || result == JSONBOID) && !isAnyTempNamespace(proc->pronamespace);
	qualified =
		quote_qualified_identifier(get_namespace_name(proc->pronamespace), NameStr(proc->proname));
	ReleaseSysCache(tuple);
	if (!usable)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("%s\"%s\" names %s(jsonb), which cannot be a branch", place->prefix,
						place->field, qualified),
				 errhint(
					 "A sql: target is a function with one argument of type jsonb that returns void or jsonb.")));
	if (dtm_function_aclcheck(function, GetUserId()) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("%spermission denied for function %s(jsonb) in \"%s\"", place->prefix,
						qualified, place->field)));
	return qualified;
}

/* The server of a pg:// target and the caller's mapping for it; nobody is called yet. */
static void
check_server(const TargetPlace *place, DtmText server)
{
	char *name = palloc(server.len + 1);

	(void) dtm_identifier_read(server, name, server.len + 1);
	(void) dtm_foreign_get(name, GetUserId(), psprintf("%s\"%s\": ", place->prefix, place->field));
}

char *
dtm_sql_check_url(const char *prefix, const char *field, DtmText url)
{
	TargetPlace where = {prefix, field};
	const TargetPlace *place = &where;
	DtmTarget target;

	/* malformed ones were refused by the builder */
	if (url.len == 0 || dtm_target_parse(url.data, url.len, &target) != NULL ||
		target.scheme == DTM_SCHEME_TOPIC)
		return NULL;
	if (target.scheme == DTM_SCHEME_SQL)
		return resolve_function(place, target.rest);
	if (target.scheme == DTM_SCHEME_PG)
	{
		check_server(place, target.host);
		return NULL;
	}
	if (!dtm_policy_allows_target(current_policy(), &target))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("%s\"%s\" is not allowed: %.*s", place->prefix, place->field, (int) url.len,
						url.data),
				 errhint("The setting dtm.allowed_targets says which hosts may be called.")));
	return NULL;
}

void
dtm_sql_check_targets(DtmSpecBuilder *builder)
{
	char *function;

	/* whom a topic leads to must make no difference to what was asked for */
	bool has_sql = dtm_sql_has_topics(builder);

	for (int step = 0; step < dtm_spec_step_count(builder); step++)
	{
		char *prefix =
			psprintf("%s %d: ", dtm_spec_element(builder), dtm_spec_step_number(builder, step));

		for (int role = 0; role < DTM_ROLES; role++)
		{
			function = dtm_sql_check_url(prefix, dtm_spec_role_key(builder, (DtmRole) role),
										 dtm_spec_step_url(builder, step, (DtmRole) role));
			if (function == NULL)
				continue;
			dtm_sql_check(builder,
						  dtm_spec_step_sql_name(builder, step, (DtmRole) role, function,
												 strlen(function)));
			has_sql = true;
		}
	}
	function =
		dtm_sql_check_url("", dtm_spec_query_field(builder), dtm_spec_query_prepared(builder));
	if (function != NULL)
	{
		dtm_sql_check(builder, dtm_spec_set_query_sql_name(builder, function, strlen(function)));
		has_sql = true;
	}
	if (has_sql)
		dtm_sql_check(builder,
					  dtm_spec_set_search_path(builder, namespace_search_path,
											   strlen(namespace_search_path)));
}
