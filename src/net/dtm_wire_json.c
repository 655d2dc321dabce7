/* -------------------------------------------------------------------------
 *
 * dtm_wire_json.c
 *		DTM's request object, read with jansson and fed to the spec builder:
 *		what its clients have sent since its first release.
 *
 * Not here: the rules about steps (src/core/dtm_spec_build.c), what of the
 * object does not belong to a spec (dtm_api_read.c).  Runs in backends and in
 * the coordinator's API, on texts from anybody.
 *
 * -------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dtm_json_internal.h"
#include "dtm_rpc.h"

/* DTM's clients give options in seconds; 0 and null mean the default. */
typedef bool (*OptionSetter)(DtmSpecBuilder *builder, int64_t value);

static bool wire_custom_data(DtmSpecBuilder *builder, json_t *request, json_t **custom);
static bool wire_concurrent(DtmSpecBuilder *builder, json_t *object, const char *where,
							DtmWire wire, bool *concurrent);
static bool wire_delay(DtmSpecBuilder *builder, json_t *custom);
static bool wire_steps(DtmSpecBuilder *builder, json_t *steps, DtmWire wire, json_t *orders);
static bool wire_step(DtmSpecBuilder *builder, json_t *step, DtmWire wire);
static json_t *order_of(json_t *orders, size_t step);
static bool wire_orders_check(DtmSpecBuilder *builder, json_t *orders, DtmWire wire);
static bool wire_payloads(DtmSpecBuilder *builder, json_t *request, DtmWire wire);
static bool wire_payload(DtmSpecBuilder *builder, size_t step, json_t *value, DtmWire wire);
static bool wire_rpc_payloads(DtmSpecBuilder *builder, uint32_t flags);
static bool wire_protocol(DtmSpecBuilder *builder, json_t *request, uint32_t *flags);
static bool wire_number(DtmSpecBuilder *builder, json_t *request, const char *key, int64_t *number);
static bool wire_headers(DtmSpecBuilder *builder, json_t *headers, DtmWire wire);

/* What belongs to no spec is not looked at. */
bool
dtm_wire_request(DtmSpecBuilder *builder, json_t *request, DtmWire wire, uint32_t *flags)
{
	json_t *steps = json_object_get(request, "steps");
	json_t *custom = NULL;
	json_t *orders = NULL;
	bool concurrent;
	bool custom_concurrent;
	bool ok;

	if (wire == DTM_WIRE_TOLERANT)
		dtm_spec_allow_empty(builder);
	else if (steps == NULL || json_is_null(steps))
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, -1, "steps",
							   "Give an array, or an object like {\"steps\": [...], "
							   "\"payloads\": [...]}.",
							   "the object has no \"steps\"");
	if (steps != NULL && !json_is_null(steps) && !json_is_array(steps))
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, -1, "steps", NULL,
							   "\"steps\" is not an array");
	if (!wire_custom_data(builder, request, &custom))
		return false;
	if (!wire_concurrent(builder, request, "", wire, &concurrent) ||
		!wire_concurrent(builder, custom, " in \"custom_data\"", wire, &custom_concurrent))
	{
		json_decref(custom);
		return false;
	}
	if (custom_concurrent)
	{
		/* without it DTM ignores the orders */
		*flags |= DTM_FLAG_CONCURRENT;
		orders = json_object_get(custom, "orders");
	}
	if (dtm_spec_type(builder) == DTM_TYPE_MSG)
	{
		orders = NULL; /* DTM ignores them there, too */
		if (wire == DTM_WIRE_TOLERANT && concurrent)
			*flags |= DTM_FLAG_CONCURRENT;
	}
	ok = wire_delay(builder, custom) && wire_steps(builder, steps, wire, orders) &&
		wire_orders_check(builder, orders, wire) && wire_payloads(builder, request, wire) &&
		dtm_wire_options(builder, request, wire, flags) && wire_rpc_payloads(builder, *flags);
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
		*custom = dtm_json_load(json_string_value(value), json_string_length(value), NULL, 0);
	if (json_is_object(*custom))
		return true;
	json_decref(*custom);
	*custom = NULL;
	return dtm_spec_refuse(builder, DTM_SPEC_INVALID, -1, "custom_data", NULL,
						   "\"custom_data\" is not the text of a JSON object");
}

/* False: it is there, and neither true nor false. */
static bool
wire_concurrent(DtmSpecBuilder *builder, json_t *object, const char *where, DtmWire wire,
				bool *concurrent)
{
	json_t *value = json_object_get(object, "concurrent");

	*concurrent = json_is_true(value);
	return wire == DTM_WIRE_STRICT || value == NULL || json_is_null(value) ||
		json_is_boolean(value) ||
		dtm_spec_refuse(builder, DTM_SPEC_INVALID, -1, "concurrent", NULL,
						"\"concurrent\"%s must be true or false", where);
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

static bool
wire_steps(DtmSpecBuilder *builder, json_t *steps, DtmWire wire, json_t *orders)
{
	size_t i;
	json_t *step;

	json_array_foreach(steps, i, step)
	{
		json_t *after = order_of(orders, i);

		if (!json_is_object(step))
			return dtm_spec_refuse(builder, DTM_SPEC_INVALID, (int) i, dtm_spec_list_name(builder),
								   dtm_spec_step_example(builder), "is not an object");
		if (!dtm_spec_step_begin(builder) || !wire_step(builder, step, wire))
			return false;
		if (after != NULL &&
			(!dtm_spec_step_field(builder, "after", strlen("after"), dtm_json_kind(after), "", 0) ||
			 !dtm_json_after(builder, after)))
			return false;
	}
	return true;
}

/* "data" is the payload that old clients send; see wire_payloads. */
static bool
wire_step(DtmSpecBuilder *builder, json_t *step, DtmWire wire)
{
	static const char *const skip[] = {"data", NULL};
	static const char *const keys[] = {"action", "compensate"};

	if (wire == DTM_WIRE_STRICT)
		return dtm_json_step(builder, step, skip);
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
	{
		json_t *value = json_object_get(step, keys[i]);
		char buffer[DTM_JSON_SCALAR];
		size_t len;
		const char *text;
		bool none = value == NULL || json_is_null(value);

		if (i > 0 && (value == NULL || dtm_spec_type(builder) == DTM_TYPE_MSG))
			continue;
		/* what is not there is an empty string for DTM: a call that succeeds at once */
		text = none ? "" : dtm_json_scalar(value, buffer, &len);
		if (none)
			len = 0;
		if (!dtm_spec_step_field(builder, keys[i], strlen(keys[i]),
								 none ? DTM_JSON_STRING : dtm_json_kind(value), text, len))
			return false;
	}
	return true;
}

/* "orders": {"3": [1, 2]}, or [null, null, null, [1, 2]], is the "after" of step 3. */
static json_t *
order_of(json_t *orders, size_t step)
{
	char key[24];

	if (json_is_array(orders))
		return json_array_get(orders, step);
	snprintf(key, sizeof(key), "%zu", step);
	return json_object_get(orders, key);
}

/* No entry may be about a step that is not there. */
static bool
wire_orders_check(DtmSpecBuilder *builder, json_t *orders, DtmWire wire)
{
	const char *key;
	json_t *value;

	/* PHP writes an array when the keys are 0, 1, 2 ... */
	if (wire == DTM_WIRE_TOLERANT && json_is_array(orders) &&
		json_array_size(orders) <= (size_t) dtm_spec_step_count(builder))
		return true;

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
wire_payloads(DtmSpecBuilder *builder, json_t *request, DtmWire wire)
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
	if (json_array_size(payloads) > n_steps && wire == DTM_WIRE_STRICT)
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, -1, "payloads", NULL,
							   "\"payloads\" has %zu members for %zu steps",
							   json_array_size(payloads), n_steps);
	json_array_foreach(payloads, i, value)
	{
		if (n < n_steps && !wire_payload(builder, n++, value, wire))
			return false;
	}
	json_array_foreach(steps, i, value)
	{
		json_t *data = json_object_get(value, "data");

		if (data == NULL || json_is_null(data) ||
			(json_is_string(data) && json_string_length(data) == 0))
			continue;
		if (n < n_steps && !wire_payload(builder, n++, data, wire))
			return false;
	}
	return n == n_steps || wire == DTM_WIRE_STRICT ||
		dtm_spec_refuse(builder, DTM_SPEC_INVALID, (int) n, "payloads",
						"Give \"payloads\" one text per step, \"\" for none.", "has no payload");
}

static bool
wire_payload(DtmSpecBuilder *builder, size_t step, json_t *value, DtmWire wire)
{
	if (wire == DTM_WIRE_TOLERANT && json_is_null(value))
		return true;
	if (!json_is_string(value))
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, (int) step, "payloads",
							   "Each payload is the text of a JSON value.",
							   "has a payload that is not a string");
	return dtm_spec_step_payload_bytes(builder, (int) step, json_string_value(value),
									   json_string_length(value));
}

/* What is called by JSON-RPC can be given an object only. */
static bool
wire_rpc_payloads(DtmSpecBuilder *builder, uint32_t flags)
{
	for (int i = 0; i < dtm_spec_step_count(builder); i++)
	{
		const char *problem = NULL;

		for (int role = 0; role < DTM_ROLES && problem == NULL; role++)
		{
			if (dtm_rpc_applies(flags, dtm_spec_step_url(builder, i, (DtmRole) role)))
				problem = dtm_rpc_payload_check(dtm_spec_step_payload(builder, i));
		}
		if (problem != NULL)
			return dtm_spec_refuse(builder, DTM_SPEC_INVALID, i, "payloads",
								   "The text of a JSON object becomes the params of the call.",
								   "has a payload that %s", problem);
	}
	return true;
}

/* How branches are called; DTM takes an empty one for http. */
static bool
wire_protocol(DtmSpecBuilder *builder, json_t *request, uint32_t *flags)
{
	json_t *value = json_object_get(request, "protocol");
	const char *name = json_string_value(value);

	if (value == NULL || json_is_null(value))
		return true;
	if (name == NULL)
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, -1, "protocol", NULL,
							   "\"protocol\" is not a string");
	if (name[0] == '\0' || strcmp(name, "http") == 0)
		return true;
	if (strcmp(name, "json-rpc") != 0)
		return dtm_spec_refuse(builder, DTM_SPEC_UNSUPPORTED, -1, "protocol",
							   "Branches are called by http or json-rpc.",
							   "\"protocol\" is not one that is served: \"%.40s\"", name);
	*flags |= DTM_FLAG_JSON_RPC;
	return true;
}

bool
dtm_wire_options(DtmSpecBuilder *builder, json_t *request, DtmWire wire, uint32_t *flags)
{
	static const struct
	{
		const char *key;
		OptionSetter set;
	} seconds[] = {{"request_timeout", dtm_spec_set_request_timeout},
				   {"retry_interval", dtm_spec_set_retry_interval},
				   {"timeout_to_fail", dtm_spec_set_timeout_to_fail}};
	int64_t number;

	if (!wire_protocol(builder, request, flags) ||
		!wire_headers(builder, json_object_get(request, "branch_headers"), wire))
		return false;
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
bool
dtm_json_integer(const json_t *value, int64_t *number)
{
	char *end;

	*number = 0;
	if (value == NULL || json_is_null(value))
		return true;
	if (json_is_integer(value))
	{
		*number = json_integer_value(value);
		return true;
	}
	if (!json_is_string(value))
		return false;
	*number = strtoll(json_string_value(value), &end, 10);
	return *end == '\0';
}

static bool
wire_number(DtmSpecBuilder *builder, json_t *request, const char *key, int64_t *number)
{
	return dtm_json_integer(json_object_get(request, key), number) ||
		dtm_spec_refuse(builder, DTM_SPEC_INVALID, -1, key, NULL, "\"%s\" is not an integer", key);
}

static bool
wire_headers(DtmSpecBuilder *builder, json_t *headers, DtmWire wire)
{
	const char *name;
	json_t *value;

	/* PHP writes an empty object as an empty array */
	if (headers != NULL && !json_is_null(headers) && !json_is_object(headers) &&
		!(wire == DTM_WIRE_TOLERANT && json_is_array(headers) && json_array_size(headers) == 0))
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, -1, "branch_headers", NULL,
							   "\"branch_headers\" is not an object");
	json_object_foreach(headers, name, value)
	{
		char buffer[DTM_JSON_SCALAR];
		size_t len;
		const char *text = dtm_json_scalar(value, buffer, &len);

		if (!dtm_spec_add_header(builder, name, strlen(name), dtm_json_kind(value), text, len))
			return false;
	}
	return true;
}

/* Values and containers of a JSON text, roughly: what is in strings does not count. */
static bool
is_too_much(const char *text, size_t len)
{
	size_t values = 0;
	size_t containers = 0;
	bool in_string = false;

	for (size_t i = 0; i < len; i++)
	{
		char c = text[i];

		if (in_string)
		{
			if (c == '\\')
				i++;
			else if (c == '"')
				in_string = false;
			continue;
		}
		in_string = c == '"';
		values += c == ',';
		containers += c == '{' || c == '[';
	}
	return values > DTM_JSON_MAX_VALUES || containers > DTM_JSON_MAX_CONTAINERS;
}

json_t *
dtm_json_load(const char *text, size_t len, char *error, size_t error_size)
{
	json_error_t reason;
	json_t *root;

	if (is_too_much(text, len))
	{
		if (error_size > 0)
			snprintf(error, error_size, "more than %d values or %d objects and arrays",
					 DTM_JSON_MAX_VALUES, DTM_JSON_MAX_CONTAINERS);
		return NULL;
	}
	root = json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &reason);
	if (root == NULL && error_size > 0)
		snprintf(error, error_size, "line %d, column %d: %s", reason.line, reason.column,
				 reason.text);
	return root;
}
