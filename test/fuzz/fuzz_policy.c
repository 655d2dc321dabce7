/* -------------------------------------------------------------------------
 *
 * fuzz_policy.c
 *		dtm.allowed_targets; input: 16 bytes of address, a list, a line feed,
 *		a URL.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_policy.h"

#include <netinet/in.h>

#include "dtm_fuzz.h"

typedef struct Subject
{
	FuzzArena fuzz;
	DtmTarget target;
	struct sockaddr_in6 ipv6;   /* the bytes */
	struct sockaddr_in ipv4;    /* their last four */
	struct sockaddr_in6 mapped; /* the last four as ::ffff:a.b.c.d */
} Subject;

static void
fill_addresses(Subject *subject, const uint8_t *bytes)
{
	memset(&subject->ipv6, 0, sizeof(subject->ipv6));
	memset(&subject->ipv4, 0, sizeof(subject->ipv4));
	subject->ipv6.sin6_family = AF_INET6;
	memcpy(&subject->ipv6.sin6_addr, bytes, 16);
	subject->ipv4.sin_family = AF_INET;
	memcpy(&subject->ipv4.sin_addr, bytes + 12, 4);
	subject->mapped = subject->ipv6;
	memset(&subject->mapped.sin6_addr, 0, 10);
	memset(subject->mapped.sin6_addr.s6_addr + 10, 0xFF, 2);
}

static bool
allows(Subject *subject, const DtmPolicy *policy, void *address)
{
	return dtm_policy_allows_address(policy, &subject->target, address);
}

static DtmPolicy *
parse(Subject *subject, const char *list)
{
	char error[100];
	DtmPolicy *policy;

	memset(error, 'x', sizeof(error));
	policy = dtm_policy_parse(list, &subject->fuzz.arena, error, sizeof(error));
	if (policy == NULL)
		HOLDS(memchr(error, '\0', sizeof(error)) != NULL && error[0] != '\0');
	return policy;
}

static void
check(Subject *subject, const char *list)
{
	static const unsigned char metadata[4] = {169, 254, 169, 254};
	DtmPolicy *policy = parse(subject, list);
	bool ipv4;
	char *closed;

	if (policy == NULL)
		return;
	ipv4 = allows(subject, policy, &subject->ipv4);

	/* an address in other clothes is the same address */
	HOLDS(allows(subject, policy, &subject->mapped) == ipv4);

	/* what may be connected to may be submitted */
	if (ipv4 || allows(subject, policy, &subject->ipv6))
		HOLDS(dtm_policy_allows_target(policy, &subject->target));

	/* forbidding wins wherever it stands, and a list can only be narrowed by it */
	closed = malloc(strlen(list) + 32);
	sprintf(closed, "%s !*", list);
	policy = parse(subject, closed);
	HOLDS(policy != NULL);
	HOLDS(!dtm_policy_allows_target(policy, &subject->target));
	HOLDS(!allows(subject, policy, &subject->ipv4));
	HOLDS(!allows(subject, policy, &subject->ipv6));
	sprintf(closed, "!0.0.0.0/1,%s", list);
	policy = parse(subject, closed);
	HOLDS(policy != NULL);
	if (allows(subject, policy, &subject->ipv4))
		HOLDS(ipv4 && ((unsigned char *) &subject->ipv4.sin_addr)[0] >= 128);

	/* the metadata service needs its address in the list, in one way or another */
	if (strpbrk(list, "/") == NULL && strstr(list, "169.254") == NULL &&
		strstr(list, "a9fe") == NULL && strcasestr(list, "a9f") == NULL)
	{
		memcpy(&subject->ipv4.sin_addr, metadata, 4);
		policy = parse(subject, list);
		HOLDS(!allows(subject, policy, &subject->ipv4));
	}
	free(closed);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Subject subject;
	DtmText line;
	char *list;
	char *url;

	if (size < 16)
		return 0;
	fuzz_arena_init(&subject.fuzz);
	fill_addresses(&subject, data);
	data += 16;
	size -= 16;
	line = fuzz_line(&data, &size);
	list = fuzz_copy(line);
	url = fuzz_copy((DtmText){(const char *) data, (uint32_t) size});
	if (dtm_target_parse(url, size, &subject.target) == NULL &&
		(subject.target.scheme == DTM_SCHEME_HTTP || subject.target.scheme == DTM_SCHEME_HTTPS))
		check(&subject, list);
	free(list);
	free(url);
	fuzz_arena_free(&subject.fuzz);
	return 0;
}
