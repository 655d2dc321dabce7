/* -------------------------------------------------------------------------
 *
 * dtm_url.c
 *		Targets of a branch and the URL of one call.
 *
 * The parser is strict on purpose: what it lets through must mean the same
 * host to it, to dtm.allowed_targets and to libcurl.  Not here: what may be
 * called (dtm_policy.c), the query a service received (dtm_request.c).  Runs
 * in backends and in the coordinator.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_url.h"

#include <arpa/inet.h>
#include <string.h>

#define MAX_HOST_LEN 253 /* RFC 1035 */
#define HTTP_PORT 80
#define HTTPS_PORT 443

static DtmScheme find_scheme(DtmText url, uint32_t *name_len);
static const char *parse_server(DtmTarget *target);
static const char *parse_authority(DtmText authority, DtmTarget *target);
static const char *parse_port(DtmText text, uint16_t *port);
static const char *check_host(DtmText host);
static const char *check_ipv6(DtmText host);
static bool ends_in_number(DtmText host);
static const char *check_sql_name(DtmText name);
static uint32_t identifier_length(DtmText name);
static bool is_letter(char c);
static bool is_digit(char c);
static bool is_hex_digit(char c);
static size_t put(char *buffer, size_t size, size_t used, const char *data, size_t len);
static size_t put_encoded(char *buffer, size_t size, size_t used, DtmText text);

const char *
dtm_target_parse(const char *url, size_t len, DtmTarget *target)
{
	DtmText text = {url, (uint32_t) len};
	uint32_t name_len = 0;
	uint32_t end;

	memset(target, 0, sizeof(*target));
	target->scheme = DTM_SCHEME_UNKNOWN;
	target->host.data = target->rest.data = "";
	if (len > DTM_MAX_URL_LEN)
		return "is longer than 2048 bytes";
	if (len == 0)
	{
		target->scheme = DTM_SCHEME_EMPTY;
		return NULL;
	}
	for (size_t i = 0; i < len; i++)
		if ((unsigned char) url[i] < 0x20 || url[i] == 0x7F)
			return "contains a control character";

	target->scheme = find_scheme(text, &name_len);
	if (target->scheme == DTM_SCHEME_UNKNOWN)
		return name_len > 0 ? "has an unknown scheme" : "has no scheme";
	target->rest.data = url + name_len;
	target->rest.len = (uint32_t) len - name_len;
	if (target->scheme == DTM_SCHEME_SQL)
		return check_sql_name(target->rest);

	if (target->scheme == DTM_SCHEME_PG || target->scheme == DTM_SCHEME_XA)
		return parse_server(target);

	if (memchr(url, ' ', len) != NULL)
		return "contains a space";
	if (target->scheme > DTM_SCHEME_SQL)
		return target->rest.len == 0 ? "names nothing behind its scheme" : NULL;

	for (end = 0; end < target->rest.len; end++)
		if (strchr("/?#", target->rest.data[end]) != NULL)
			break;
	return parse_authority((DtmText){target->rest.data, end}, target);
}

size_t
dtm_url_for_call(DtmText url, DtmText gid, const char *trans_type, DtmText branch_id,
				 const char *op, char *buffer, size_t size)
{
	/* in the order in which DTM's Go server puts them on the wire */
	const struct
	{
		const char *key;
		DtmText value;
	} parameters[] = {{"branch_id=", branch_id},
					  {"&gid=", gid},
					  {"&op=", {op, (uint32_t) strlen(op)}},
					  {"&trans_type=", {trans_type, (uint32_t) strlen(trans_type)}}};
	size_t len = url.len;
	size_t used = 0;
	const char *fragment = len > 0 ? memchr(url.data, '#', len) : NULL;
	const char *query;

	if (fragment != NULL)
		len = (size_t) (fragment - url.data);
	used = put(buffer, size, used, url.data, len);
	query = len > 0 ? memchr(url.data, '?', len) : NULL;
	if (query == NULL)
		used = put(buffer, size, used, "?", 1);
	else if (query != url.data + len - 1 && url.data[len - 1] != '&')
		used = put(buffer, size, used, "&", 1);

	for (size_t i = 0; i < sizeof(parameters) / sizeof(parameters[0]); i++)
	{
		used = put(buffer, size, used, parameters[i].key, strlen(parameters[i].key));
		used = put_encoded(buffer, size, used, parameters[i].value);
	}
	if (used >= size)
		return 0;
	buffer[used] = '\0';
	return used;
}

/*
 * The scheme, and the length of "http://" or "sql:".  When unknown, the
 * length tells whether there is something that looks like a scheme.
 */
static DtmScheme
find_scheme(DtmText url, uint32_t *name_len)
{
	static const struct
	{
		const char *prefix;
		DtmScheme scheme;
	} schemes[] = {{"http://", DTM_SCHEME_HTTP},   {"https://", DTM_SCHEME_HTTPS},
				   {"sql:", DTM_SCHEME_SQL},       {"grpc://", DTM_SCHEME_GRPC},
				   {"grpcs://", DTM_SCHEME_GRPCS}, {"pg://", DTM_SCHEME_PG},
				   {"xa://", DTM_SCHEME_XA},       {"discovery://", DTM_SCHEME_DISCOVERY},
				   {"topic://", DTM_SCHEME_TOPIC}};
	uint32_t at = 0;

	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
	{
		const char *prefix = schemes[i].prefix;

		for (at = 0; at < url.len && prefix[at] != '\0'; at++)
		{
			char c = url.data[at];

			if ((c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c) != prefix[at])
				break;
		}
		if (prefix[at] == '\0')
		{
			*name_len = at;
			return schemes[i].scheme;
		}
	}

	for (at = 0; at < url.len && url.data[at] != ':'; at++)
		if (!is_letter(url.data[at]) && !(at > 0 && strchr("0123456789+-.", url.data[at]) != NULL))
			return DTM_SCHEME_UNKNOWN;
	*name_len = at < url.len ? at : 0;
	return DTM_SCHEME_UNKNOWN;
}

/* "server/function" behind pg://, "server" behind xa://. */
static const char *
parse_server(DtmTarget *target)
{
	DtmText text = target->rest;
	uint32_t len = identifier_length(text);

	if (text.len == 0 || text.data[0] == '/')
		return "names no server";
	if (len == 0 || (len < text.len && text.data[len] != '/'))
		return "has a malformed server name";
	target->host.data = text.data;
	target->host.len = len;
	if (target->scheme == DTM_SCHEME_XA)
		return len < text.len ? "has a malformed server name" : NULL;
	if (text.len - len <= 1)
		return "names no function";
	target->rest.data += len + 1;
	target->rest.len -= len + 1;
	return check_sql_name(target->rest);
}

size_t
dtm_identifier_read(DtmText name, char *buffer, size_t size)
{
	uint32_t len = identifier_length(name);
	size_t used = 0;
	bool quoted = len > 0 && name.data[0] == '"';

	if (len == 0)
		return 0;
	for (uint32_t i = quoted ? 1 : 0; i < (quoted ? len - 1 : len); i++)
	{
		char c = name.data[i];

		if (used + 1 >= size)
			return 0;
		if (quoted && c == '"')
			i++; /* a doubled one */
		else if (!quoted && c >= 'A' && c <= 'Z')
			c = (char) (c - 'A' + 'a');
		buffer[used++] = c;
	}
	buffer[used] = '\0';
	return len;
}

static const char *
parse_authority(DtmText authority, DtmTarget *target)
{
	const char *end = authority.data + authority.len;
	const char *colon;

	if (authority.len == 0)
		return "has no host";
	if (memchr(authority.data, '@', authority.len) != NULL)
		return "contains a user name or password";
	target->port = target->scheme == DTM_SCHEME_HTTPS ? HTTPS_PORT : HTTP_PORT;

	if (authority.data[0] == '[')
	{
		const char *bracket = memchr(authority.data, ']', authority.len);

		if (bracket == NULL)
			return "has an IPv6 address without a closing bracket";
		target->host.data = authority.data + 1;
		target->host.len = (uint32_t) (bracket - target->host.data);
		colon = bracket + 1;
		if (colon < end && *colon != ':')
			return "has a malformed host";
	}
	else
	{
		colon = memchr(authority.data, ':', authority.len);
		if (colon == NULL)
			colon = end;
		target->host.data = authority.data;
		target->host.len = (uint32_t) (colon - authority.data);
	}
	if (target->host.len == 0)
		return "has no host";
	if (colon < end)
	{
		DtmText port = {colon + 1, (uint32_t) (end - colon - 1)};
		const char *problem = parse_port(port, &target->port);

		if (problem != NULL)
			return problem;
	}
	return authority.data[0] == '[' ? check_ipv6(target->host) : check_host(target->host);
}

static const char *
parse_port(DtmText text, uint16_t *port)
{
	uint32_t number = 0;

	for (uint32_t i = 0; i < text.len; i++)
	{
		if (!is_digit(text.data[i]))
			return "has a malformed port";
		number = number * 10 + (uint32_t) (text.data[i] - '0');
		if (number > UINT16_MAX)
			return "has a port beyond 65535";
	}
	if (number == 0)
		return text.len == 0 ? "has an empty port" : "has a port of 0";
	*port = (uint16_t) number;
	return NULL;
}

static const char *
check_host(DtmText host)
{
	struct in_addr address;
	char copy[INET_ADDRSTRLEN];

	if (host.len > MAX_HOST_LEN)
		return "has a host longer than 253 bytes";
	for (uint32_t i = 0; i < host.len; i++)
	{
		char c = host.data[i];

		if (!is_letter(c) && !is_digit(c) && c != '-' && c != '.' && c != '_')
			return "has a malformed host";
		if (c == '.' && (i == 0 || host.data[i - 1] == '.'))
			return "has a malformed host";
	}
	if (!ends_in_number(host))
		return NULL;

	/* Anything a resolver could take for an address must be one, plainly. */
	if (host.len >= sizeof(copy))
		return "has a malformed IPv4 address";
	memcpy(copy, host.data, host.len);
	copy[host.len] = '\0';
	return inet_pton(AF_INET, copy, &address) == 1 ? NULL : "has a malformed IPv4 address";
}

static const char *
check_ipv6(DtmText host)
{
	struct in6_addr address;
	char copy[INET6_ADDRSTRLEN];

	/* no zone: "%25eth0" names an interface of this machine */
	for (uint32_t i = 0; i < host.len; i++)
		if (!is_hex_digit(host.data[i]) && host.data[i] != ':' && host.data[i] != '.')
			return "has a malformed IPv6 address";
	if (host.len >= sizeof(copy))
		return "has a malformed IPv6 address";
	memcpy(copy, host.data, host.len);
	copy[host.len] = '\0';
	return inet_pton(AF_INET6, copy, &address) == 1 ? NULL : "has a malformed IPv6 address";
}

/* The last label is a number, decimal, octal or hexadecimal: inet_aton would read an address. */
static bool
ends_in_number(DtmText host)
{
	uint32_t end = host.len;
	uint32_t start;

	if (host.data[end - 1] == '.')
		end--;
	start = end;
	while (start > 0 && host.data[start - 1] != '.')
		start--;
	if (end - start >= 2 && host.data[start] == '0' &&
		(host.data[start + 1] == 'x' || host.data[start + 1] == 'X'))
	{
		for (start += 2; start < end; start++)
			if (!is_hex_digit(host.data[start]))
				return false;
		return true;
	}
	for (; start < end; start++)
		if (!is_digit(host.data[start]))
			return false;
	return true;
}

static const char *
check_sql_name(DtmText name)
{
	uint32_t len;

	if (name.len == 0)
		return "names no function";
	for (int parts = 1;; parts++)
	{
		len = identifier_length(name);
		if (len == 0)
			return "has a malformed function name";
		if (len == name.len)
			return NULL;
		if (name.data[len] != '.')
			return "has a malformed function name";
		if (parts == 2)
			return "has a function name of more than two parts";
		name.data += len + 1;
		name.len -= len + 1;
	}
}

/* An SQL identifier at the beginning, plain or quoted; 0 = there is none. */
static uint32_t
identifier_length(DtmText name)
{
	uint32_t at = 0;

	if (name.len > 0 && name.data[0] == '"')
	{
		for (at = 1; at < name.len; at++)
		{
			if (name.data[at] != '"')
				continue;
			if (at + 1 < name.len && name.data[at + 1] == '"')
				at++;
			else
				return at > 1 ? at + 1 : 0;
		}
		return 0;
	}
	for (; at < name.len; at++)
	{
		char c = name.data[at];

		if (!is_letter(c) && c != '_' && !((unsigned char) c & 0x80) &&
			!(at > 0 && (is_digit(c) || c == '$')))
			break;
	}
	return at;
}

static bool
is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_hex_digit(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* Append; what does not fit is counted and left out. */
static size_t
put(char *buffer, size_t size, size_t used, const char *data, size_t len)
{
	if (len > 0 && used < size && len < size - used)
		memcpy(buffer + used, data, len);
	return used + len;
}

/* All but the unreserved characters of RFC 3986 are escaped. */
static size_t
put_encoded(char *buffer, size_t size, size_t used, DtmText text)
{
	static const char hex[] = "0123456789ABCDEF";

	for (uint32_t i = 0; i < text.len; i++)
	{
		char c = text.data[i];
		char escape[3] = {'%', hex[(unsigned char) c >> 4], hex[c & 0x0F]};

		if (is_letter(c) || is_digit(c) || c == '-' || c == '.' || c == '_' || c == '~')
			used = put(buffer, size, used, &c, 1);
		else
			used = put(buffer, size, used, escape, 3);
	}
	return used;
}
