/* -------------------------------------------------------------------------
 *
 * dtm_policy.c
 *		dtm.allowed_targets: parsing the list, judging targets and addresses.
 *
 * A name is judged when it is submitted, and the address it resolves to when
 * the connection is made, so that a name cannot be pointed elsewhere in
 * between.  Not here: resolving, connecting.  Runs in backends and in the
 * coordinator.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_policy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "dtm_answer.h"
#include "dtm_network.h"

typedef enum EntryKind
{
	ENTRY_ANY, /* "*" as host */
	ENTRY_NAME,
	ENTRY_BELOW, /* "*.example.com": host is "example.com" */
	ENTRY_NETWORK
} EntryKind;

typedef struct Entry
{
	EntryKind kind;
	bool forbids;
	DtmScheme scheme; /* DTM_SCHEME_EMPTY = both */
	uint16_t port;    /* 0 = every */
	DtmText host;
	DtmNetwork network;
} Entry;

/* Never called unless an entry is about them in particular. */
static const char *const closed_networks[] = {"0.0.0.0/8",          "169.254.0.0/16",
											  "224.0.0.0/4",        "255.255.255.255/32",
											  "100.100.100.200/32", "168.63.129.16/32",
											  "192.0.0.192/32",     "::/128",
											  "fe80::/10",          "ff00::/8",
											  "fd00:ec2::/32",      "fd20:ce::254/128"};

#define N_CLOSED (sizeof(closed_networks) / sizeof(closed_networks[0]))

static const char closed_name[] = "metadata.google.internal";

/* A network of this many bits or more counts as meant, not as met by chance. */
#define MEANT_BITS_IPV4 24
#define MEANT_BITS_IPV6 64

struct DtmPolicy
{
	size_t n;
	Entry *entries;
	DtmNetwork closed[N_CLOSED];
};

static size_t count_words(const char *text);
static const char *next_word(const char *text, DtmText *word);
static const char *parse_entry(DtmText word, Entry *entry);
static const char *parse_host(DtmText host, Entry *entry);
static const char *parse_bracketed(DtmText rest, Entry *entry);
static const char *parse_entry_port(DtmText text, uint16_t *port);
static bool is_name(DtmText host);
static bool applies(const Entry *entry, const DtmTarget *target);
static bool name_matches(const Entry *entry, DtmText host);
static bool address_matches(const Entry *entry, const DtmAddressForms *forms);
static bool judge(const DtmPolicy *policy, const DtmTarget *target, const DtmAddressForms *forms);
static bool is_open(const DtmPolicy *policy, const DtmTarget *target, const DtmAddress *address);
static DtmText without_dot(DtmText host);
static bool same_text(DtmText a, DtmText b);
static char lower(char c);
static void *
fail(char *error, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));

DtmPolicy *
dtm_policy_parse(const char *text, DtmArena *arena, char *error, size_t error_size)
{
	size_t n = count_words(text);
	size_t text_len = strlen(text);
	DtmPolicy *policy =
		arena->alloc(arena->context, sizeof(DtmPolicy) + n * sizeof(Entry) + text_len + 1);
	char *copy;
	const char *at;
	DtmText word;

	if (policy == NULL)
		return fail(error, error_size, "out of memory");
	for (size_t i = 0; i < N_CLOSED; i++)
	{
		DtmText network = {closed_networks[i], (uint32_t) strlen(closed_networks[i])};

		if (dtm_network_from_text(network, &policy->closed[i]) != NULL)
			return fail(error, error_size, "\"%s\" is not a network", closed_networks[i]);
	}
	policy->n = 0;
	policy->entries = (Entry *) (policy + 1);
	copy = (char *) (policy->entries + n);
	memcpy(copy, text, text_len + 1);

	for (at = next_word(copy, &word); word.len > 0; at = next_word(at, &word))
	{
		const char *problem = parse_entry(word, &policy->entries[policy->n]);
		char quoted[80];

		if (problem != NULL)
		{
			dtm_text_printable(word.data, word.len, quoted, sizeof(quoted));
			return fail(error, error_size, "\"%s\" %s", quoted, problem);
		}
		policy->n++;
	}
	return policy;
}

bool
dtm_policy_allows_target(const DtmPolicy *policy, const DtmTarget *target)
{
	DtmAddressForms forms;
	bool allowed = false;
	bool listed = false;
	DtmText closed = {closed_name, sizeof(closed_name) - 1};

	if (target->scheme == DTM_SCHEME_SQL || target->scheme == DTM_SCHEME_EMPTY)
		return true;

	/* a server is somebody's decision already, and may be used with USAGE on it only */
	if (target->scheme == DTM_SCHEME_PG || target->scheme == DTM_SCHEME_XA)
		return true;
	if (policy == NULL || (target->scheme != DTM_SCHEME_HTTP && target->scheme != DTM_SCHEME_HTTPS))
		return false;
	if (dtm_address_from_text(target->host, &forms.form[0]))
	{
		dtm_address_forms(&forms);
		return judge(policy, target, &forms);
	}

	for (size_t i = 0; i < policy->n; i++)
	{
		const Entry *entry = &policy->entries[i];
		bool matches = name_matches(entry, target->host);

		if (!applies(entry, target))
			continue;
		if (matches && entry->forbids)
			return false;
		if (!entry->forbids && (matches || entry->kind == ENTRY_NETWORK))
			allowed = true;
		if (!entry->forbids && matches && entry->kind == ENTRY_NAME)
			listed = true;
	}
	if (!listed && same_text(without_dot(target->host), closed))
		return false;
	return allowed;
}

bool
dtm_policy_allows_address(const DtmPolicy *policy, const DtmTarget *target,
						  const struct sockaddr *address)
{
	DtmAddressForms forms;

	if (!dtm_policy_allows_target(policy, target))
		return false;
	if (target->scheme != DTM_SCHEME_HTTP && target->scheme != DTM_SCHEME_HTTPS)
		return false; /* what has no host makes no connection */
	if (address->sa_family == AF_INET)
	{
		const struct sockaddr_in *in = (const struct sockaddr_in *) (const void *) address;

		forms.form[0].bits = 32;
		memcpy(forms.form[0].bytes, &in->sin_addr, 4);
	}
	else if (address->sa_family == AF_INET6)
	{
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *) (const void *) address;

		forms.form[0].bits = 128;
		memcpy(forms.form[0].bytes, &in6->sin6_addr, 16);
	}
	else
		return false;
	dtm_address_forms(&forms);
	return judge(policy, target, &forms);
}

static size_t
count_words(const char *text)
{
	size_t n = 0;
	DtmText word;

	for (text = next_word(text, &word); word.len > 0; text = next_word(text, &word))
		n++;
	return n;
}

/* The next word, empty at the end; returns where to go on. */
static const char *
next_word(const char *text, DtmText *word)
{
	text += strspn(text, ", \t\r\n\v\f");
	word->data = text;
	word->len = (uint32_t) strcspn(text, ", \t\r\n\v\f");
	return text + word->len;
}

/* NULL or what is wrong with it. */
static const char *
parse_entry(DtmText word, Entry *entry)
{
	static const char http[] = "http://";
	static const char https[] = "https://";

	memset(entry, 0, sizeof(*entry));
	entry->scheme = DTM_SCHEME_EMPTY;
	if (word.data[0] == '!')
	{
		entry->forbids = true;
		word.data++;
		word.len--;
	}
	if (word.len >= sizeof(http) - 1 &&
		same_text((DtmText){word.data, sizeof(http) - 1}, (DtmText){http, sizeof(http) - 1}))
	{
		entry->scheme = DTM_SCHEME_HTTP;
		word.data += sizeof(http) - 1;
		word.len -= sizeof(http) - 1;
	}
	else if (word.len >= sizeof(https) - 1 &&
			 same_text((DtmText){word.data, sizeof(https) - 1}, (DtmText){https, sizeof(https) - 1}))
	{
		entry->scheme = DTM_SCHEME_HTTPS;
		word.data += sizeof(https) - 1;
		word.len -= sizeof(https) - 1;
	}
	if (word.len == 0)
		return "names no host";
	if (word.len >= 3)
		for (uint32_t i = 0; i + 3 <= word.len; i++)
			if (memcmp(word.data + i, "://", 3) == 0)
				return "has a scheme other than http and https";
	return word.data[0] == '[' ? parse_bracketed(word, entry) : parse_host(word, entry);
}

/* host, host:port, address, address:port, network, bare IPv6 address */
static const char *
parse_host(DtmText word, Entry *entry)
{
	const char *colon = memchr(word.data, ':', word.len);
	DtmText host = word;
	const char *problem;

	if (memchr(word.data, '/', word.len) != NULL || memchr(word.data, '%', word.len) != NULL)
	{
		entry->kind = ENTRY_NETWORK;
		return dtm_network_from_text(word, &entry->network);
	}
	if (colon != NULL)
	{
		uint32_t len = (uint32_t) (colon - word.data);

		if (memchr(colon + 1, ':', word.len - len - 1) != NULL)
		{
			entry->kind = ENTRY_NETWORK;
			return dtm_network_from_text(word, &entry->network);
		}
		problem = parse_entry_port((DtmText){colon + 1, word.len - len - 1}, &entry->port);
		if (problem != NULL)
			return problem;
		host.len = len;
	}
	if (host.len == 1 && host.data[0] == '*')
	{
		entry->kind = ENTRY_ANY;
		return NULL;
	}
	if (host.len > 2 && host.data[0] == '*' && host.data[1] == '.')
	{
		entry->kind = ENTRY_BELOW;
		host.data += 2;
		host.len -= 2;
	}
	else if (dtm_network_from_text(host, &entry->network) == NULL)
	{
		entry->kind = ENTRY_NETWORK;
		return NULL;
	}
	else
		entry->kind = ENTRY_NAME;
	if (!is_name(host))
		return "is neither a host name nor an address";
	entry->host = without_dot(host);
	return NULL;
}

/* [address], [address]:port, [address]/bits */
static const char *
parse_bracketed(DtmText word, Entry *entry)
{
	const char *bracket = memchr(word.data, ']', word.len);
	const char *problem;
	char text[64];
	DtmText inner = {word.data + 1, 0};
	DtmText behind = {NULL, 0};
	int len;

	if (bracket == NULL)
		return "has no closing bracket";
	inner.len = (uint32_t) (bracket - inner.data);
	behind.data = bracket + 1;
	behind.len = word.len - inner.len - 2;
	if (inner.len == 0 || inner.len >= INET6_ADDRSTRLEN ||
		memchr(inner.data, ':', inner.len) == NULL)
		return "is not an IPv6 address in brackets";

	entry->kind = ENTRY_NETWORK;
	if (behind.len == 0)
		return dtm_network_from_text(inner, &entry->network);
	if (behind.data[0] == '/' && behind.len <= 4)
	{
		len = snprintf(text, sizeof(text), "%.*s%.*s", (int) inner.len, inner.data,
					   (int) behind.len, behind.data);
		return dtm_network_from_text((DtmText){text, (uint32_t) len}, &entry->network);
	}
	if (behind.data[0] != ':')
		return "goes on behind the address";
	problem = parse_entry_port((DtmText){behind.data + 1, behind.len - 1}, &entry->port);
	return problem != NULL ? problem : dtm_network_from_text(inner, &entry->network);
}

static const char *
parse_entry_port(DtmText text, uint16_t *port)
{
	uint32_t number = 0;

	for (uint32_t i = 0; i < text.len; i++)
	{
		if (text.data[i] < '0' || text.data[i] > '9')
			return "has a malformed port";
		number = number * 10 + (uint32_t) (text.data[i] - '0');
		if (number > UINT16_MAX)
			return "has a port beyond 65535";
	}
	if (number == 0)
		return "has a malformed port";
	*port = (uint16_t) number;
	return NULL;
}

/* A name that dtm_target_parse would take, so that no entry is dead. */
static bool
is_name(DtmText host)
{
	char url[8 + 256];
	DtmTarget target;
	int len;

	if (host.len == 0 || host.len > 253)
		return false;
	len = snprintf(url, sizeof(url), "http://%.*s", (int) host.len, host.data);
	return len == (int) host.len + 7 && dtm_target_parse(url, (size_t) len, &target) == NULL &&
		target.host.len == host.len;
}

/* By scheme and port. */
static bool
applies(const Entry *entry, const DtmTarget *target)
{
	return (entry->scheme == DTM_SCHEME_EMPTY || entry->scheme == target->scheme) &&
		(entry->port == 0 || entry->port == target->port);
}

static bool
name_matches(const Entry *entry, DtmText host)
{
	DtmText tail;

	host = without_dot(host);
	switch (entry->kind)
	{
		case ENTRY_ANY:
			return true;
		case ENTRY_NAME:
			return same_text(entry->host, host);
		case ENTRY_BELOW:
			if (host.len <= entry->host.len + 1)
				return false;
			tail.data = host.data + (host.len - entry->host.len);
			tail.len = entry->host.len;
			return tail.data[-1] == '.' && same_text(entry->host, tail);
		case ENTRY_NETWORK:
			break;
	}
	return false;
}

static bool
address_matches(const Entry *entry, const DtmAddressForms *forms)
{
	if (entry->kind != ENTRY_NETWORK)
		return false;
	for (int i = 0; i < forms->n; i++)
		if (dtm_network_contains(&entry->network, &forms->form[i]))
			return true;
	return false;
}

/* The address of a target, literal or resolved. */
static bool
judge(const DtmPolicy *policy, const DtmTarget *target, const DtmAddressForms *forms)
{
	bool allowed = false;

	for (size_t i = 0; i < policy->n; i++)
	{
		const Entry *entry = &policy->entries[i];

		if (!applies(entry, target) ||
			!(name_matches(entry, target->host) || address_matches(entry, forms)))
			continue;
		if (entry->forbids)
			return false;
		allowed = true;
	}
	for (int i = 0; allowed && i < forms->n; i++)
		allowed = is_open(policy, target, &forms->form[i]);
	return allowed;
}

/* Is this no closed address, or one that the list is about? */
static bool
is_open(const DtmPolicy *policy, const DtmTarget *target, const DtmAddress *address)
{
	int meant = address->bits == 32 ? MEANT_BITS_IPV4 : MEANT_BITS_IPV6;

	for (size_t k = 0; k < N_CLOSED; k++)
	{
		const DtmNetwork *closed = &policy->closed[k];
		bool listed = false;

		if (!dtm_network_contains(closed, address))
			continue;
		for (size_t i = 0; i < policy->n && !listed; i++)
		{
			const Entry *entry = &policy->entries[i];

			listed = !entry->forbids && entry->kind == ENTRY_NETWORK && applies(entry, target) &&
				dtm_network_contains(&entry->network, address) &&
				(entry->network.prefix >= closed->prefix || entry->network.prefix >= meant);
		}
		if (!listed)
			return false;
	}
	return true;
}

/* "example.com." is the same host. */
static DtmText
without_dot(DtmText host)
{
	if (host.len > 0 && host.data[host.len - 1] == '.')
		host.len--;
	return host;
}

static bool
same_text(DtmText a, DtmText b)
{
	if (a.len != b.len)
		return false;
	for (uint32_t i = 0; i < a.len; i++)
		if (lower(a.data[i]) != lower(b.data[i]))
			return false;
	return true;
}

static char
lower(char c)
{
	return (char) (c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

static void *
fail(char *error, size_t size, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(error, size, format, args);
	va_end(args);
	return NULL;
}
