/* -------------------------------------------------------------------------
 *
 * dtm_api_route.c
 *		Paths and query strings of DTM's HTTP API.
 *
 * Not here: bodies (dtm_api_read.c).  Runs in the coordinator.
 *
 * -------------------------------------------------------------------------
 */
#include <string.h>
#include <strings.h>

#include "dtm_api_internal.h"

#define BASE "/api/dtmsvr/"
#define TOPIC "topic/"

static const struct
{
	const char *path;   /* behind BASE unless it begins with a slash */
	const char *method; /* NULL = any */
	DtmApiRoute route;
} routes[] = {{"submit", "POST", DTM_API_SUBMIT},
			  {"prepare", "POST", DTM_API_PREPARE},
			  {"abort", "POST", DTM_API_ABORT},
			  {"registerBranch", "POST", DTM_API_REGISTER_BRANCH},
			  {"registerXaBranch", "POST", DTM_API_REGISTER_BRANCH},
			  {"registerTccBranch", "POST", DTM_API_REGISTER_BRANCH},
			  {"prepareWorkflow", "POST", DTM_API_PREPARE_WORKFLOW},
			  {"newGid", "GET", DTM_API_NEW_GID},
			  {"query", "GET", DTM_API_QUERY},
			  {"all", "GET", DTM_API_ALL},
			  {"version", "GET", DTM_API_VERSION},
			  {"forceStop", "POST", DTM_API_FORCE_STOP},
			  {"resetNextCronTime", "POST", DTM_API_RESET_NEXT_CRON_TIME},
			  {"resetCronTime", "GET", DTM_API_RESET_CRON_TIME},
			  {"subscribe", "GET", DTM_API_SUBSCRIBE},
			  {"unsubscribe", "GET", DTM_API_UNSUBSCRIBE},
			  {"scanKV", "GET", DTM_API_SCAN_KV},
			  {"queryKV", "GET", DTM_API_QUERY_KV},
			  {"/api/json-rpc", "POST", DTM_API_JSON_RPC},
			  {"/api/metrics", "GET", DTM_API_METRICS},
			  {"/api/ping", NULL, DTM_API_PING}};

#define N_ROUTES (sizeof(routes) / sizeof(routes[0]))

/* In small letters, as DTM writes them in its counters. */
static const char *const names[DTM_API_ROUTES] = {
	[DTM_API_NOT_FOUND] = "other",
	[DTM_API_WRONG_METHOD] = "other",
	[DTM_API_VERSION] = "version",
	[DTM_API_NEW_GID] = "newgid",
	[DTM_API_PREPARE] = "prepare",
	[DTM_API_SUBMIT] = "submit",
	[DTM_API_ABORT] = "abort",
	[DTM_API_REGISTER_BRANCH] = "registerbranch",
	[DTM_API_PREPARE_WORKFLOW] = "prepareworkflow",
	[DTM_API_FORCE_STOP] = "forcestop",
	[DTM_API_RESET_NEXT_CRON_TIME] = "resetnextcrontime",
	[DTM_API_RESET_CRON_TIME] = "resetcrontime",
	[DTM_API_QUERY] = "query",
	[DTM_API_ALL] = "all",
	[DTM_API_SUBSCRIBE] = "subscribe",
	[DTM_API_UNSUBSCRIBE] = "unsubscribe",
	[DTM_API_DELETE_TOPIC] = "topic",
	[DTM_API_SCAN_KV] = "scankv",
	[DTM_API_QUERY_KV] = "querykv",
	[DTM_API_JSON_RPC] = "json-rpc",
	[DTM_API_METRICS] = "metrics",
	[DTM_API_PING] = "ping",
};

/* The path alone. */
static DtmText
path_of(const char *uri)
{
	DtmText path = {uri, 0};

	/* proxies may send the absolute form */
	if (strncasecmp(uri, "http://", 7) == 0)
		path.data = uri + 7 + strcspn(uri + 7, "/?#");
	path.len = (uint32_t) strcspn(path.data, "?#");
	if (path.len > 1 && path.data[path.len - 1] == '/')
		path.len--;
	return path;
}

static bool
begins_with(DtmText path, const char *start)
{
	size_t len = strlen(start);

	return path.len >= len && memcmp(path.data, start, len) == 0;
}

/* The rest of a path behind BASE, or the path itself. */
static DtmText
behind_base(DtmText path)
{
	if (begins_with(path, BASE))
	{
		path.data += strlen(BASE);
		path.len -= (uint32_t) strlen(BASE);
	}
	return path;
}

static bool
is_topic(DtmText rest)
{
	return begins_with(rest, TOPIC) && rest.len > strlen(TOPIC) &&
		memchr(rest.data + strlen(TOPIC), '/', rest.len - strlen(TOPIC)) == NULL;
}

DtmApiRoute
dtm_api_route(const char *method, const char *uri)
{
	DtmText path = path_of(uri);
	DtmText rest = behind_base(path);
	bool based = rest.data != path.data;

	if (based && is_topic(rest))
		return strcmp(method, "DELETE") == 0 ? DTM_API_DELETE_TOPIC : DTM_API_WRONG_METHOD;
	for (size_t i = 0; i < N_ROUTES; i++)
	{
		DtmText here = routes[i].path[0] == '/' ? path : rest;

		if ((routes[i].path[0] != '/') != based || strlen(routes[i].path) != here.len ||
			memcmp(routes[i].path, here.data, here.len) != 0)
			continue;
		return routes[i].method == NULL || strcmp(routes[i].method, method) == 0
			? routes[i].route
			: DTM_API_WRONG_METHOD;
	}
	return DTM_API_NOT_FOUND;
}

const char *
dtm_api_route_name(DtmApiRoute route)
{
	return (unsigned) route < DTM_API_ROUTES ? names[route] : "other";
}

bool
dtm_api_is_plain(DtmText value)
{
	for (uint32_t i = 0; i < value.len; i++)
	{
		if ((unsigned char) value.data[i] < 0x20 || value.data[i] == 0x7f)
			return false;
	}
	return true;
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Percent encoding, and in a query string "+" for a blank; what is malformed stays as it is. */
static bool
decode(DtmText encoded, bool plus, DtmArena *arena, DtmText *value)
{
	char *data = arena->alloc(arena->context, encoded.len + 1);
	uint32_t len = 0;

	*value = dtm_api_text("");
	if (data == NULL)
		return false;
	for (uint32_t i = 0; i < encoded.len; i++)
	{
		char c = encoded.data[i];

		if (c == '%' && encoded.len - i > 2 && hex_digit(encoded.data[i + 1]) >= 0 &&
			hex_digit(encoded.data[i + 2]) >= 0)
		{
			c = (char) (hex_digit(encoded.data[i + 1]) * 16 + hex_digit(encoded.data[i + 2]));
			i += 2;
		}
		else if (plus && c == '+')
			c = ' ';
		data[len++] = c;
	}
	data[len] = '\0';
	value->data = data;
	value->len = len;
	return dtm_api_is_plain(*value);
}

bool
dtm_api_parameter(const char *uri, const char *name, DtmArena *arena, DtmText *value)
{
	const char *next = strchr(uri, '?');
	size_t name_len = strlen(name);

	*value = dtm_api_text("");
	while (next != NULL && *next != '\0' && *next != '#')
	{
		DtmText pair = {next + 1, (uint32_t) strcspn(next + 1, "&#")};

		next = pair.data + pair.len;
		if (pair.len < name_len || memcmp(pair.data, name, name_len) != 0)
			continue;
		if (pair.len == name_len)
			return true;
		if (pair.data[name_len] != '=')
			continue;
		pair.data += name_len + 1;
		pair.len -= (uint32_t) name_len + 1;
		return decode(pair, true, arena, value);
	}
	return true;
}

bool
dtm_api_path_topic(const char *uri, DtmArena *arena, DtmText *value)
{
	DtmText rest = behind_base(path_of(uri));

	*value = dtm_api_text("");
	if (!is_topic(rest))
		return true;
	rest.data += strlen(TOPIC);
	rest.len -= (uint32_t) strlen(TOPIC);
	return decode(rest, false, arena, value);
}
