/* -------------------------------------------------------------------------
 *
 * dtm_steps_json.c
 *		A JSON text of steps, read with jansson and fed to the spec builder.
 *
 * Not here: the rules about steps (src/core/dtm_spec_build.c).  Runs in the
 * coordinator's API, on texts from anybody.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_steps_json.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SCALAR 64 /* text of a number, true, false or null */

/* DTM's clients give options in seconds; 0 and null mean the default. */
typedef bool (*OptionSetter)(DtmSpecBuilder *builder, int64_t value);

static bool walk_steps(DtmSpecBuilder *builder, json_t *steps, bool wire, json_t *orders);
static bool walk_members(DtmSpecBuilder *builder, json_t *step, bool wire);
static bool walk_headers(DtmSpecBuilder *builder, json_t *headers);
static bool walk_after(DtmSpecBuilder *builder, json_t *after);
static bool walk_payload(DtmSpecBuilder *builder, json_t *value);
static bool walk_request(DtmSpecBuilder *builder, json_t *request, uint32_t *flags);
static bool wire_custom_data(DtmSpecBuilder *builder, json_t *request, json_t **custom);
static bool wire_delay(DtmSpecBuilder *builder, json_t *custom);
static bool wire_order(DtmSpecBuilder *builder, json_t *orders, size_t step);
static bool wire_orders_check(DtmSpecBuilder *builder, json_t *orders);
static bool wire_payloads(DtmSpecBuilder *builder, json_t *request);
static bool wire_payload(DtmSpecBuilder *builder, size_t step, json_t *value);
static bool wire_options(DtmSpecBuilder *builder, json_t *request, uint32_t *flags);
static bool wire_number(DtmSpecBuilder *builder, json_t *request, const char *key, int64_t *number);
static bool wire_headers(DtmSpecBuilder *builder, json_t *headers);
static DtmJsonKind kind_of(const json_t *value);
static char *dump(const json_t *value);
static const char *scalar_text(const json_t *value, char *buffer, size_t *len);

bool
dtm_steps_json(DtmSpecBuilder *builder, const char *text, size_t len, uint32_t *flags)
{
	json_error_t error;
	json_t *root = json_loadb(text, len, JSON_DECODE_ANY, &error);
	bool ok;

	if (root == NULL)
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, -1, "steps", NULL,
							   "\"steps\" is not JSON: line %d: %.150s", error.line, error.text);
	if (json_is_array(root))
		ok = walk_steps(builder, root, false, NULL);
	else if (json_is_object(root) && dtm_spec_type(builder) != DTM_TYPE_TCC)
		ok = walk_request(builder, root, flags);
	else
		ok = dtm_spec_refuse(builder, DTM_SPEC_INVALID, -1, dtm_spec_list_name(builder),
							 dtm_spec_step_example(builder), "\"%s\" is not an array",
							 dtm_spec_list_name(builder));
	json_decref(root);
	return ok;
}

static bool
walk_steps(DtmSpecBuilder *builder, json_t *steps, bool wire, json_t *orders)
{
	size_t i;
	json_t *step;

	json_array_foreach(steps, i, step)
	{
		if (!json_is_object(step))
			return dtm_spec_refuse(builder, DTM_SPEC_INVALID, (int) i, dtm_spec_list_name(builder),
								   dtm_spec_step_example(builder), "is not an object");
		if (!dtm_spec_step_begin(builder) || !walk_members(builder, step, wire) ||
			!wire_order(builder, orders, i))
			return false;
	}
	return true;
}

static bool
walk_members(DtmSpecBuilder *builder, json_t *step, bool wire)
{
	const char *key;
	json_t *value;

	json_object_foreach(step, key, value)
	{
		char buffer[MAX_SCALAR];
		size_t len;
		const char *text = scalar_text(value, buffer, &len);

		/* "data" is the payload that old clients send; see wire_payloads */
		if (wire && strcmp(key, "data") == 0)
			continue;
		if (strcmp(key, "payload") == 0)
		{
			if (!walk_payload(builder, value))
				return false;
			continue;
		}
		if (!dtm_spec_step_field(builder, key, strlen(key), kind_of(value), text, len))
			return false;
		if (strcmp(key, "headers") == 0 && !walk_headers(builder, value))
			return false;
		if (strcmp(key, "after") == 0 && !walk_after(builder, value))
			return false;
	}
	return true;
}

static bool
walk_headers(DtmSpecBuilder *builder, json_t *headers)
{
	const char *name;
	json_t *value;

	json_object_foreach(headers, name, value)
	{
		char buffer[MAX_SCALAR];
		size_t len;
		const char *text = scalar_text(value, buffer, &len);

		if (!dtm_spec_step_header(builder, name, strlen(name), kind_of(value), text, len))
			return false;
	}
	return true;
}

static bool
walk_after(DtmSpecBuilder *builder, json_t *after)
{
	size_t i;
	json_t *value;

	json_array_foreach(after, i, value)
	{
		char buffer[MAX_SCALAR];
		size_t len;
		const char *text = scalar_text(value, buffer, &len);

		if (!dtm_spec_step_after(builder, kind_of(value), text, len))
			return false;
	}
	return true;
}

/* Any value but null goes on as JSON text. */
static bool
walk_payload(DtmSpecBuilder *builder, json_t *value)
{
	char *text = dump(value);
	bool ok;

	if (text == NULL)
		return dtm_spec_refuse(builder, DTM_SPEC_NOMEM, -1, "", NULL, "out of memory");
	ok = dtm_spec_step_field(builder, "payload", strlen("payload"), kind_of(value), text,
							 strlen(text));
	free(text);
	return ok;
}

/* DTM's request object; what belongs to no spec is not looked at. */
static bool
walk_request(DtmSpecBuilder *builder, json_t *request, uint32_t *flags)
{
	json_t *steps = json_object_get(request, "steps");
	json_t *custom = NULL;
	json_t *orders = NULL;
	bool ok;

	if (steps == NULL || json_is_null(steps))
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, -1, "steps",
							   "Give an array, or an object like {\"steps\": [...], "
							   "\"payloads\": [...]}.",
							   "the object has no \"steps\"");
	if (!json_is_array(steps))
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, -1, "steps", NULL,
							   "\"steps\" is not an array");
	if (!wire_custom_data(builder, request, &custom))
		return false;
	if (json_is_true(json_object_get(custom, "concurrent")))
	{
		/* without it DTM ignores the orders */
		*flags |= DTM_FLAG_CONCURRENT;
		orders = json_object_get(custom, "orders");
	}
	if (dtm_spec_type(builder) == DTM_TYPE_MSG)
		orders = NULL; /* DTM ignores them there, too */
	ok = wire_delay(builder, custom) && walk_steps(builder, steps, true, orders) &&
		wire_orders_check(builder, orders) && wire_payloads(builder, request) &&
		wire_options(builder, request, flags) &&
		wire_headers(builder, json_object_get(request, "branch_headers"));
	json_decref(custom);
	dtm_spec_set_flags(builder, *flags);
	return ok;
}

/* A JSON object inside a string; *custom stays NULL when there is none. */
static bool
wire_custom_data(DtmSpecBuilder *builder, json_t *request, json_t **custom)
{
	json_t *value = json_object_get(request, "custom_data");

	if (value == NULL || json_is_null(value) ||
		(json_is_string(value) && json_string_length(value) == 0))
		return true;
	if (json_is_string(value))
		*custom = json_loadb(json_string_value(value), json_string_length(value), 0, NULL);
	if (json_is_object(*custom))
		return true;
	json_decref(*custom);
	*custom = NULL;
	return dtm_spec_refuse(builder, DTM_SPEC_INVALID, -1, "custom_data", NULL,
						   "\"custom_data\" is not the text of a JSON object");
}

/* Seconds that a msg waits before its first delivery. */
static bool
wire_delay(DtmSpecBuilder *builder, json_t *custom)
{
	int64_t number;

	if (dtm_spec_type(builder) != DTM_TYPE_MSG)
		return true;
	if (!wire_number(builder, custom, "delay", &number))
		return false;
	if (number > INT64_MAX / 1000)
		number = INT64_MAX / 1000; /* too much in any case */
	else if (number < INT64_MIN / 1000)
		number = INT64_MIN / 1000;
	return number == 0 || dtm_spec_set_delay(builder, number * 1000);
}

/* "orders": {"3": [1, 2]} is the "after" of step 3. */
static bool
wire_order(DtmSpecBuilder *builder, json_t *orders, size_t step)
{
	char key[24];
	json_t *after;

	snprintf(key, sizeof(key), "%zu", step);
	after = json_object_get(orders, key);
	if (after == NULL)
		return true;
	return dtm_spec_step_field(builder, "after", strlen("after"), kind_of(after), "", 0) &&
		walk_after(builder, after);
}

/* No entry may be about a step that is not there. */
static bool
wire_orders_check(DtmSpecBuilder *builder, json_t *orders)
{
	const char *key;
	json_t *value;

	if (orders != NULL && !json_is_null(orders) && !json_is_object(orders))
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, -1, "custom_data", NULL,
							   "\"orders\" in \"custom_data\" is not an object");
	json_object_foreach(orders, key, value)
	{
		char expected[24];
		long number = strtol(key, NULL, 10);

		snprintf(expected, sizeof(expected), "%ld", number);
		if (number < 0 || number >= dtm_spec_step_count(builder) || strcmp(key, expected) != 0)
			return dtm_spec_refuse(builder, DTM_SPEC_INVALID, -1, "custom_data", NULL,
								   "\"orders\" in \"custom_data\" names a step that does not "
								   "exist: \"%.40s\"",
								   key);
	}
	return true;
}

/* Payload i goes to step i: first "payloads", then every "data" that says something. */
static bool
wire_payloads(DtmSpecBuilder *builder, json_t *request)
{
	json_t *payloads = json_object_get(request, "payloads");
	json_t *steps = json_object_get(request, "steps");
	size_t n_steps = json_array_size(steps);
	size_t n = 0;
	size_t i;
	json_t *value;

	if (payloads != NULL && !json_is_null(payloads) && !json_is_array(payloads))
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, -1, "payloads", NULL,
							   "\"payloads\" is not an array");
	if (json_array_size(payloads) > n_steps)
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, -1, "payloads", NULL,
							   "\"payloads\" has %zu members for %zu steps",
							   json_array_size(payloads), n_steps);
	json_array_foreach(payloads, i, value) if (!wire_payload(builder, n++, value)) return false;
	json_array_foreach(steps, i, value)
	{
		json_t *data = json_object_get(value, "data");

		if (data == NULL || json_is_null(data) ||
			(json_is_string(data) && json_string_length(data) == 0))
			continue;
		if (n < n_steps && !wire_payload(builder, n++, data))
			return false;
	}
	return true;
}

static bool
wire_payload(DtmSpecBuilder *builder, size_t step, json_t *value)
{
	if (!json_is_string(value))
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, (int) step, "payloads",
							   "Each payload is the text of a JSON value.",
							   "has a payload that is not a string");
	return dtm_spec_step_payload_bytes(builder, (int) step, json_string_value(value),
									   json_string_length(value));
}

static bool
wire_options(DtmSpecBuilder *builder, json_t *request, uint32_t *flags)
{
	static const struct
	{
		const char *key;
		OptionSetter set;
	} seconds[] = {{"request_timeout", dtm_spec_set_request_timeout},
				   {"retry_interval", dtm_spec_set_retry_interval},
				   {"timeout_to_fail", dtm_spec_set_timeout_to_fail}};
	int64_t number;

	for (size_t i = 0; i < sizeof(seconds) / sizeof(seconds[0]); i++)
	{
		if (!wire_number(builder, request, seconds[i].key, &number))
			return false;
		if (number > INT64_MAX / 1000)
			number = INT64_MAX / 1000; /* too much in any case */
		else if (number < INT64_MIN / 1000)
			number = INT64_MIN / 1000;
		if (number != 0 && !seconds[i].set(builder, number * 1000))
			return false;
	}
	if (!wire_number(builder, request, "retry_limit", &number))
		return false;
	if (number == 0)
		return true;
	*flags |= DTM_FLAG_RETRY_NO_PAUSE;
	return dtm_spec_set_retry_limit(builder, number);
}

/* DTM refuses a number in quotes; taking it harms nobody. */
static bool
wire_number(DtmSpecBuilder *builder, json_t *request, const char *key, int64_t *number)
{
	json_t *value = json_object_get(request, key);
	char *end;

	*number = 0;
	if (value == NULL || json_is_null(value))
		return true;
	if (json_is_integer(value))
	{
		*number = json_integer_value(value);
		return true;
	}
	if (json_is_string(value))
	{
		*number = strtoll(json_string_value(value), &end, 10);
		if (*end == '\0')
			return true;
	}
	return dtm_spec_refuse(builder, DTM_SPEC_INVALID, -1, key, NULL, "\"%s\" is not an integer",
						   key);
}

static bool
wire_headers(DtmSpecBuilder *builder, json_t *headers)
{
	const char *name;
	json_t *value;

	if (headers != NULL && !json_is_null(headers) && !json_is_object(headers))
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, -1, "branch_headers", NULL,
							   "\"branch_headers\" is not an object");
	json_object_foreach(headers, name, value)
	{
		char buffer[MAX_SCALAR];
		size_t len;
		const char *text = scalar_text(value, buffer, &len);

		if (!dtm_spec_add_header(builder, name, strlen(name), kind_of(value), text, len))
			return false;
	}
	return true;
}

static DtmJsonKind
kind_of(const json_t *value)
{
	switch (json_typeof(value))
	{
		case JSON_OBJECT:
			return DTM_JSON_OBJECT;
		case JSON_ARRAY:
			return DTM_JSON_ARRAY;
		case JSON_STRING:
			return DTM_JSON_STRING;
		case JSON_INTEGER:
		case JSON_REAL:
			return DTM_JSON_NUMBER;
		case JSON_TRUE:
		case JSON_FALSE:
			return DTM_JSON_BOOL;
		case JSON_NULL:
			break;
	}
	return DTM_JSON_NULL;
}

/* Compact text that reads back as the same value, with as few digits as will do. */
static char *
dump(const json_t *value)
{
	char *text = NULL;
	bool same = false;

	for (size_t digits = 15; digits <= 17 && !same; digits++)
	{
		json_t *again;

		free(text);
		text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(digits));
		if (text == NULL)
			return NULL;
		again = json_loads(text, JSON_DECODE_ANY, NULL);
		same = again != NULL && json_equal(value, again);
		json_decref(again);
	}
	return text;
}

/* Characters of a string, JSON text of another scalar, nothing of an array or object. */
static const char *
scalar_text(const json_t *value, char *buffer, size_t *len)
{
	*len = 0;
	if (json_is_string(value))
	{
		*len = json_string_length(value);
		return json_string_value(value);
	}
	if (json_is_array(value) || json_is_object(value))
		return "";
	*len = json_dumpb(value, buffer, MAX_SCALAR, JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
	if (*len > MAX_SCALAR)
		*len = 0;
	return buffer;
}
