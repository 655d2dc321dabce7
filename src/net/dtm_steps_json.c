/* -------------------------------------------------------------------------
 *
 * dtm_steps_json.c
 *		A JSON text of steps, read with jansson and fed to the spec builder.
 *
 * Not here: the rules about steps (src/core/dtm_spec_build.c), DTM's request
 * object (dtm_wire_json.c).  Runs in backends and in the coordinator's API, on
 * texts from anybody.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_steps_json.h"

#include <stdlib.h>
#include <string.h>

#include "dtm_json_internal.h"

static bool walk_steps(DtmSpecBuilder *builder, json_t *steps);
static bool walk_headers(DtmSpecBuilder *builder, json_t *headers);
static bool walk_payload(DtmSpecBuilder *builder, json_t *value);
static char *dump(const json_t *value);

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
		ok = walk_steps(builder, root);
	else if (json_is_object(root) && dtm_spec_type(builder) != DTM_TYPE_TCC)
		ok = dtm_wire_request(builder, root, DTM_WIRE_STRICT, flags);
	else
		ok = dtm_spec_refuse(builder, DTM_SPEC_INVALID, -1, dtm_spec_list_name(builder),
							 dtm_spec_step_example(builder), "\"%s\" is not an array",
							 dtm_spec_list_name(builder));
	json_decref(root);
	return ok;
}

static bool
walk_steps(DtmSpecBuilder *builder, json_t *steps)
{
	size_t i;
	json_t *step;

	json_array_foreach(steps, i, step)
	{
		if (!json_is_object(step))
			return dtm_spec_refuse(builder, DTM_SPEC_INVALID, (int) i, dtm_spec_list_name(builder),
								   dtm_spec_step_example(builder), "is not an object");
		if (!dtm_spec_step_begin(builder) || !dtm_json_step(builder, step, NULL))
			return false;
	}
	return true;
}

static bool
is_in(const char *key, const char *const *list)
{
	for (; list != NULL && *list != NULL; list++)
	{
		if (strcmp(key, *list) == 0)
			return true;
	}
	return false;
}

bool
dtm_json_step(DtmSpecBuilder *builder, json_t *step, const char *const *skip)
{
	const char *key;
	json_t *value;

	json_object_foreach(step, key, value)
	{
		char buffer[DTM_JSON_SCALAR];
		size_t len;
		const char *text = dtm_json_scalar(value, buffer, &len);

		if (is_in(key, skip))
			continue;
		if (strcmp(key, "payload") == 0)
		{
			if (!walk_payload(builder, value))
				return false;
			continue;
		}
		if (!dtm_spec_step_field(builder, key, strlen(key), dtm_json_kind(value), text, len))
			return false;
		if (strcmp(key, "headers") == 0 && !walk_headers(builder, value))
			return false;
		if (strcmp(key, "after") == 0 && !dtm_json_after(builder, value))
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
		char buffer[DTM_JSON_SCALAR];
		size_t len;
		const char *text = dtm_json_scalar(value, buffer, &len);

		if (!dtm_spec_step_header(builder, name, strlen(name), dtm_json_kind(value), text, len))
			return false;
	}
	return true;
}

bool
dtm_json_after(DtmSpecBuilder *builder, json_t *after)
{
	size_t i;
	json_t *value;

	json_array_foreach(after, i, value)
	{
		char buffer[DTM_JSON_SCALAR];
		size_t len;
		const char *text = dtm_json_scalar(value, buffer, &len);

		if (!dtm_spec_step_after(builder, dtm_json_kind(value), text, len))
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
	ok = dtm_spec_step_field(builder, "payload", strlen("payload"), dtm_json_kind(value), text,
							 strlen(text));
	free(text);
	return ok;
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

DtmJsonKind
dtm_json_kind(const json_t *value)
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

const char *
dtm_json_scalar(const json_t *value, char *buffer, size_t *len)
{
	*len = 0;
	if (json_is_string(value))
	{
		*len = json_string_length(value);
		return json_string_value(value);
	}
	if (json_is_array(value) || json_is_object(value))
		return "";
	*len = json_dumpb(value, buffer, DTM_JSON_SCALAR, JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
	if (*len > DTM_JSON_SCALAR)
		*len = 0;
	return buffer;
}
