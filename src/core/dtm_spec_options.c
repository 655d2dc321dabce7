/* -------------------------------------------------------------------------
 *
 * dtm_spec_options.c
 *		The spec builder's options of a transaction, its headers, its errors
 *		and its memory.
 *
 * Not here: steps (dtm_spec_build.c), defaults of options (the settings
 * apply when a call is made).  Runs in backends.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_spec_builder.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "dtm_answer.h"
#include "dtm_pack.h"
#include "dtm_spec_rules.h"
#include "dtm_url.h"

static bool check_option(DtmSpecBuilder *builder, const char *field, int64_t value, int64_t min,
						 int64_t max, const char *max_text);
static bool
check_header(DtmSpecBuilder *builder, int step, DtmText name, DtmJsonKind kind, DtmText value);

void
dtm_spec_allow_empty(DtmSpecBuilder *builder)
{
	builder->may_be_empty = true;
}

void
dtm_spec_set_flags(DtmSpecBuilder *builder, uint32_t flags)
{
	builder->trans.flags = flags;
}

bool
dtm_spec_set_request_timeout(DtmSpecBuilder *builder, int64_t ms)
{
	if (!check_option(builder, "request_timeout", ms, 1, DTM_MAX_REQUEST_TIMEOUT_MS, "1 day"))
		return false;
	builder->trans.request_timeout_ms = (int32_t) ms;
	return true;
}

bool
dtm_spec_set_retry_interval(DtmSpecBuilder *builder, int64_t ms)
{
	if (!check_option(builder, "retry_interval", ms, 1, DTM_MAX_RETRY_INTERVAL_MS, "7 days"))
		return false;
	builder->trans.retry_interval_ms = (int32_t) ms;
	return true;
}

bool
dtm_spec_set_retry_limit(DtmSpecBuilder *builder, int64_t limit)
{
	if (!check_option(builder, "retry_limit", limit, 0, DTM_MAX_RETRY_LIMIT, "1000000"))
		return false;
	builder->trans.retry_limit = (int32_t) limit;
	return true;
}

bool
dtm_spec_set_timeout_to_fail(DtmSpecBuilder *builder, int64_t ms)
{
	if (!check_option(builder, "timeout_to_fail", ms, 1, DTM_MAX_OPTION_MS, "365 days"))
		return false;
	builder->trans.timeout_to_fail_ms = ms;
	return true;
}

bool
dtm_spec_derive_retry_interval(DtmSpecBuilder *builder, int64_t default_ms)
{
	int64_t ms = builder->trans.timeout_to_fail_ms;

	if (builder->trans.retry_interval_ms > 0 || ms <= 0 || ms >= default_ms)
		return builder->error.code == DTM_SPEC_OK;
	return dtm_spec_set_retry_interval(builder, ms);
}

bool
dtm_spec_set_start_after(DtmSpecBuilder *builder, int64_t ms)
{
	if (!check_option(builder, "start_after", ms, 0, DTM_MAX_OPTION_MS, "365 days"))
		return false;
	builder->trans.start_at = ms * 1000;
	return true;
}

bool
dtm_spec_set_delay(DtmSpecBuilder *builder, int64_t ms)
{
	if (!check_option(builder, "delay", ms, 0, DTM_MAX_OPTION_MS, "365 days"))
		return false;
	builder->trans.start_at = ms * 1000;
	return true;
}

bool
dtm_spec_set_query_prepared(DtmSpecBuilder *builder, const char *url, size_t len)
{
	DtmText text = {url, len > UINT32_MAX ? UINT32_MAX : (uint32_t) len};
	DtmTarget target;

	if (len == 0)
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, -1, "query_prepared",
							   "Give the URL, or the sql: function, that knows whether the local "
							   "part has committed.",
							   "\"query_prepared\" must not be empty");
	if (!dtm_spec_check_target(builder, -1, "query_prepared", text, false))
		return false;
	if (builder->trans.type == DTM_TYPE_WORKFLOW && dtm_target_parse(url, len, &target) == NULL &&
		target.scheme != DTM_SCHEME_HTTP && target.scheme != DTM_SCHEME_HTTPS)
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, -1, "query_prepared",
							   "The service that runs the workflow goes on with it there; "
							   "dtm_workflow_submit() runs a function of the database.",
							   "\"query_prepared\" of a workflow must be a service");
	return dtm_spec_copy(builder, url, len, &builder->trans.query_url);
}

bool
dtm_spec_set_query_sql_name(DtmSpecBuilder *builder, const char *name, size_t len)
{
	return dtm_spec_copy(builder, name, len, &builder->trans.query_sql_name);
}

DtmText
dtm_spec_query_prepared(const DtmSpecBuilder *builder)
{
	DtmText none = {"", 0};

	return builder->trans.query_url.len > 0 ? builder->trans.query_url : none;
}

const char *
dtm_spec_query_field(const DtmSpecBuilder *builder)
{
	bool is_function =
		builder->trans.type == DTM_TYPE_WORKFLOW && !dtm_trans_is_resumed(&builder->trans);

	return is_function ? "function" : "query_prepared";
}

bool
dtm_spec_set_search_path(DtmSpecBuilder *builder, const char *path, size_t len)
{
	if (len > DTM_MAX_SEARCH_PATH_LEN)
		return dtm_spec_refuse(builder, DTM_SPEC_LIMIT, -1, "search_path",
							   "Submit with a shorter search_path.",
							   "\"search_path\" is longer than %d bytes", DTM_MAX_SEARCH_PATH_LEN);
	return dtm_spec_copy(builder, path, len, &builder->trans.search_path);
}

bool
dtm_spec_add_header(DtmSpecBuilder *builder, const char *name, size_t name_len, DtmJsonKind kind,
					const char *value, size_t value_len)
{
	DtmText name_text = {name, (uint32_t) name_len};
	DtmText value_text = {value, (uint32_t) value_len};

	if (name_len > DTM_MAX_HEADER_LEN || value_len > DTM_MAX_HEADER_LEN)
		name_text.len = value_text.len = DTM_MAX_HEADER_LEN + 1;
	return dtm_spec_put_header(builder, &builder->headers, -1, name_text, kind, value_text);
}

bool
dtm_spec_put_header(DtmSpecBuilder *builder, DtmHeaderList *list, int step, DtmText name,
					DtmJsonKind kind, DtmText value)
{
	DtmHeaderPair pair;
	int at = 0;
	int order = -1;

	if (!check_header(builder, step, name, kind, value))
		return false;
	if (list->pairs == NULL)
	{
		list->pairs = dtm_spec_alloc(builder, DTM_MAX_HEADERS * sizeof(DtmHeaderPair));
		if (list->pairs == NULL)
			return false;
	}
	while (at < list->n && (order = dtm_header_compare(list->pairs[at].name, name)) < 0)
		at++;

	if ((at == list->n || order != 0) && list->n == DTM_MAX_HEADERS)
		return dtm_spec_refuse(builder, DTM_SPEC_LIMIT, step, "headers", NULL,
							   "\"headers\" has more than %d members", DTM_MAX_HEADERS);
	if (!dtm_spec_copy(builder, name.data, name.len, &pair.name) ||
		!dtm_spec_copy(builder, value.data, value.len, &pair.value))
		return false;
	if (at == list->n || order != 0)
	{
		memmove(list->pairs + at + 1, list->pairs + at,
				(size_t) (list->n - at) * sizeof(DtmHeaderPair));
		list->n++;
	}
	list->pairs[at] = pair;
	return true;
}

bool
dtm_spec_pack_headers(DtmSpecBuilder *builder, const DtmHeaderList *list, DtmText *out)
{
	DtmWriter writer = {NULL, 0};

	out->data = "";
	out->len = 0;
	if (list->n == 0)
		return true;
	for (int pass = 0; pass < 2; pass++)
	{
		if (pass == 1)
		{
			writer.data = dtm_spec_alloc(builder, writer.len);
			if (writer.data == NULL)
				return false;
			writer.len = 0;
		}
		for (int i = 0; i < list->n; i++)
		{
			dtm_put_text(&writer, list->pairs[i].name);
			dtm_put_text(&writer, list->pairs[i].value);
		}
	}
	out->data = writer.data;
	out->len = (uint32_t) writer.len;
	return true;
}

const DtmSpecError *
dtm_spec_error(const DtmSpecBuilder *builder)
{
	return &builder->error;
}

bool
dtm_spec_refuse(DtmSpecBuilder *builder, DtmSpecErrorCode code, int step, const char *field,
				const char *hint, const char *format, ...)
{
	DtmSpecError *error = &builder->error;
	int len = 0;
	va_list args;

	if (error->code != DTM_SPEC_OK)
		return false;

	/* who registers one branch does not count steps */
	if (dtm_trans_registers(&builder->trans))
		step = -1;
	error->code = code;
	error->step = step;
	snprintf(error->field, sizeof(error->field), "%s", field);
	snprintf(error->hint, sizeof(error->hint), "%s", hint != NULL ? hint : "");

	/* "step 2 has no ..." reads on, "step 2: "action" is ..." begins anew; a branch has no number */
	if (step >= 0 && !dtm_trans_registers(&builder->trans))
		len = snprintf(error->message, sizeof(error->message),
					   format[0] == '"' ? "%s %d: " : "%s %d ", dtm_spec_element(builder), step);
	va_start(args, format);
	vsnprintf(error->message + len, sizeof(error->message) - (size_t) len, format, args);
	va_end(args);
	return false;
}

DtmQuoted
dtm_spec_quote(const char *data, size_t len)
{
	DtmQuoted quoted;
	size_t written = dtm_text_printable(data, len, quoted.text, sizeof(quoted.text) - 3);

	/* cleaning never shortens by itself but for white space */
	if (len > written && written + 8 > sizeof(quoted.text) - 3)
		memcpy(quoted.text + written, "...", 4);
	return quoted;
}

void *
dtm_spec_alloc(DtmSpecBuilder *builder, size_t size)
{
	void *memory = builder->arena->alloc(builder->arena->context, size);

	if (memory == NULL)
		dtm_spec_refuse(builder, DTM_SPEC_NOMEM, -1, "", NULL, "out of memory");
	return memory;
}

bool
dtm_spec_copy(DtmSpecBuilder *builder, const char *data, size_t len, DtmText *out)
{
	char *copy;

	if (builder->error.code != DTM_SPEC_OK)
		return false;
	out->data = "";
	out->len = 0;
	if (len == 0)
		return true;
	if (len > DTM_MAX_SPEC_LEN - builder->bytes)
		return dtm_spec_refuse(builder, DTM_SPEC_LIMIT, -1, "",
							   "Send large data by reference, e.g. by a key.",
							   "the transaction is larger than %d bytes", DTM_MAX_SPEC_LEN);
	copy = dtm_spec_alloc(builder, len);
	if (copy == NULL)
		return false;
	memcpy(copy, data, len);
	builder->bytes += len;
	out->data = copy;
	out->len = (uint32_t) len;
	return true;
}

static bool
check_option(DtmSpecBuilder *builder, const char *field, int64_t value, int64_t min, int64_t max,
			 const char *max_text)
{
	if (value < min)
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, -1, field, NULL,
							   min > 0 ? "\"%s\" must be greater than zero"
									   : "\"%s\" must not be negative",
							   field);
	if (value > max)
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, -1, field, NULL,
							   "\"%s\" must be at most %s", field, max_text);
	return builder->error.code == DTM_SPEC_OK;
}

static bool
check_header(DtmSpecBuilder *builder, int step, DtmText name, DtmJsonKind kind, DtmText value)
{
	DtmQuoted quoted = dtm_spec_quote(name.data, name.len < 80 ? name.len : 80);

	if (name.len > DTM_MAX_HEADER_LEN || value.len > DTM_MAX_HEADER_LEN - name.len)
		return dtm_spec_refuse(builder, DTM_SPEC_LIMIT, step, "headers", NULL,
							   "\"headers\": \"%s\" is longer than %d bytes", quoted.text,
							   DTM_MAX_HEADER_LEN);
	if (!dtm_header_is_name(name))
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, step, "headers",
							   "A header name is made of letters, digits, \"-\" and \"_\".",
							   "\"headers\": \"%s\" is not a header name", quoted.text);
	if (dtm_header_is_reserved(name))
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, step, "headers",
							   "This header belongs to the connection and is set by the caller "
							   "of the branch.",
							   "\"headers\": \"%s\" cannot be set", quoted.text);
	if (kind != DTM_JSON_STRING)
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, step, "headers",
							   "\"headers\" is an object of strings, e.g. {\"X-Tenant\": \"7\"}.",
							   "\"headers\": the value of \"%s\" must be a string", quoted.text);
	if (!dtm_header_is_safe(value))
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, step, "headers", NULL,
							   "\"headers\": the value of \"%s\" contains a control character",
							   quoted.text);
	return builder->error.code == DTM_SPEC_OK;
}
