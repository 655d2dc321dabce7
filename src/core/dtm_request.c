/* -------------------------------------------------------------------------
 *
 * dtm_request.c
 *		The four values of a barrier, out of the URL or query string that a
 *		service received.
 *
 * Not here: what the barrier does with them.  Runs in backends; the text
 * comes from anybody.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_url.h"

#include <string.h>

#define MAX_KEY 16 /* longer keys are nobody of ours */

typedef enum ValueState
{
	VALUE_MISSING, /* in the order of the problems in explain() */
	VALUE_TOO_LONG,
	VALUE_MALFORMED, /* a "%" without two digits behind it */
	VALUE_CONTROL,   /* decodes to a control character */
	VALUE_FINE
} ValueState;

typedef struct Parameter
{
	const char *key;
	char *out;
	size_t size;
	bool seen;
	ValueState state;
} Parameter;

static DtmText find_query(const char *request, size_t len);
static void read_pair(DtmText pair, Parameter *parameters, int n);
static ValueState decode(DtmText text, char *out, size_t size);
static int hex_value(char c);
static const char *explain(const char *key, ValueState state);

const char *
dtm_request_parse(const char *request, size_t len, DtmRequest *out, const char **field)
{
	char legacy_op[sizeof(out->op)] = "";
	Parameter parameters[] = {{"trans_type", out->trans_type, sizeof(out->trans_type), false,
							   VALUE_MISSING},
							  {"gid", out->gid, sizeof(out->gid), false, VALUE_MISSING},
							  {"branch_id", out->branch_id, sizeof(out->branch_id), false,
							   VALUE_MISSING},
							  {"op", out->op, sizeof(out->op), false, VALUE_MISSING},
							  {"branch_type", legacy_op, sizeof(legacy_op), false, VALUE_MISSING}};
	DtmText query = find_query(request, len);

	memset(out, 0, sizeof(*out));
	*field = NULL;
	while (query.len > 0)
	{
		const char *end = memchr(query.data, '&', query.len);
		DtmText pair = query;

		if (end != NULL)
			pair.len = (uint32_t) (end - query.data);
		read_pair(pair, parameters, 5);
		query.data += pair.len + (end != NULL);
		query.len -= pair.len + (end != NULL);
	}
	if (parameters[3].state == VALUE_MISSING)
	{
		/* the name that older clients use */
		memcpy(out->op, legacy_op, sizeof(out->op));
		parameters[3].state = parameters[4].state;
	}

	for (int i = 0; i < 4; i++)
	{
		if (parameters[i].state != VALUE_FINE)
		{
			*field = parameters[i].key;
			return explain(parameters[i].key, parameters[i].state);
		}
	}
	return NULL;
}

/*
 * What is behind the "?" of a URL or path, else the whole.  A "?" behind the
 * first "=" or "&" belongs to a value, unless the text is a URL.
 */
static DtmText
find_query(const char *request, size_t len)
{
	DtmText query = {request, 0};
	const char *end;
	const char *mark;
	bool is_url = len > 0 && request[0] == '/';

	/* more than this is no request line */
	if (len > 64 * 1024)
		len = 64 * 1024;
	if (len == 0)
		return query;
	end = memchr(request, '#', len);
	if (end != NULL)
		len = (size_t) (end - request);
	for (size_t i = 0; i + 2 < len && strchr("=&?", request[i]) == NULL; i++)
		if (memcmp(request + i, "://", 3) == 0)
			is_url = true;

	mark = len > 0 ? memchr(request, '?', len) : NULL;
	if (mark != NULL && !is_url)
		for (const char *at = request; at < mark; at++)
			if (*at == '=' || *at == '&')
			{
				mark = NULL;
				break;
			}
	if (mark != NULL)
	{
		query.data = mark + 1;
		query.len = (uint32_t) (len - (size_t) (mark + 1 - request));
	}
	else if (!is_url)
		query.len = (uint32_t) len;
	return query;
}

/* The first occurrence of a key wins, as in Go's url.Values.Get. */
static void
read_pair(DtmText pair, Parameter *parameters, int n)
{
	const char *equals = pair.len > 0 ? memchr(pair.data, '=', pair.len) : NULL;
	DtmText key = pair;
	DtmText value = {"", 0};
	char name[MAX_KEY];

	if (equals != NULL)
	{
		key.len = (uint32_t) (equals - pair.data);
		value.data = equals + 1;
		value.len = pair.len - key.len - 1;
	}
	if (decode(key, name, sizeof(name)) != VALUE_FINE)
		return;
	for (int i = 0; i < n; i++)
	{
		if (!parameters[i].seen && strcmp(parameters[i].key, name) == 0)
		{
			parameters[i].seen = true;
			parameters[i].state = decode(value, parameters[i].out, parameters[i].size);
			return;
		}
	}
}

/* MISSING for an empty text: an empty gid is no gid. */
static ValueState
decode(DtmText text, char *out, size_t size)
{
	size_t used = 0;

	for (uint32_t i = 0; i < text.len; i++)
	{
		unsigned char c = (unsigned char) text.data[i];

		if (c == '+')
			c = ' ';
		else if (c == '%')
		{
			int high = i + 2 < text.len ? hex_value(text.data[i + 1]) : -1;
			int low = i + 2 < text.len ? hex_value(text.data[i + 2]) : -1;

			if (high < 0 || low < 0)
				return VALUE_MALFORMED;
			c = (unsigned char) (high << 4 | low);
			i += 2;
		}
		if (c < 0x20 || c == 0x7F)
			return VALUE_CONTROL;
		if (used + 1 >= size)
			return VALUE_TOO_LONG;
		out[used++] = (char) c;
	}
	out[used] = '\0';
	return used > 0 ? VALUE_FINE : VALUE_MISSING;
}

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Whole sentences, because the caller keeps no buffer for them. */
static const char *
explain(const char *key, ValueState state)
{
#define PROBLEMS(name)                                                    \
	{                                                                     \
		name,                                                             \
		{                                                                 \
			"has no \"" name "\"", "has a \"" name "\" that is too long", \
				"has a \"" name "\" with a malformed \"%\" escape",       \
				"has a \"" name "\" with a control character"             \
		}                                                                 \
	}
	static const struct
	{
		const char *key;
		const char *problem[4];
	} table[] = {PROBLEMS("trans_type"), PROBLEMS("gid"), PROBLEMS("branch_id"), PROBLEMS("op")};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (strcmp(table[i].key, key) == 0)
			return table[i].problem[state];
	return "is malformed";
}
