/* -------------------------------------------------------------------------
 *
 * fuzz_url.c
 *		dtm_target_parse and dtm_url_for_call; input: a URL, a line feed, a gid.
 *
 * libcurl must see the same host and port as we do, or refuse the URL, for
 * otherwise dtm.allowed_targets would judge another host than is called.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_url.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <strings.h>

#include "dtm_fuzz.h"

static bool
same_host(const char *theirs, DtmText ours)
{
	struct in6_addr a;
	struct in6_addr b;
	char *copy;
	bool same;

	if (theirs[0] != '[')
		return strlen(theirs) == ours.len && strncasecmp(theirs, ours.data, ours.len) == 0;
	copy = strdup(theirs + 1);
	HOLDS(strlen(copy) > 0);
	copy[strlen(copy) - 1] = '\0';
	HOLDS(inet_pton(AF_INET6, copy, &a) == 1);
	free(copy);
	copy = fuzz_copy(ours);
	HOLDS(inet_pton(AF_INET6, copy, &b) == 1);
	free(copy);
	same = memcmp(&a, &b, sizeof(a)) == 0;
	return same;
}

static void
check_curl(const char *url, const DtmTarget *target)
{
	CURLU *handle = curl_url();
	char *part = NULL;

	if (curl_url_set(handle, CURLUPART_URL, url, 0) == CURLUE_OK)
	{
		HOLDS(curl_url_get(handle, CURLUPART_HOST, &part, 0) == CURLUE_OK);
		HOLDS(same_host(part, target->host));
		curl_free(part);
		HOLDS(curl_url_get(handle, CURLUPART_PORT, &part, CURLU_DEFAULT_PORT) == CURLUE_OK);
		HOLDS(atoi(part) == target->port);
		curl_free(part);
		HOLDS(curl_url_get(handle, CURLUPART_SCHEME, &part, 0) == CURLUE_OK);
		HOLDS(strcmp(part, target->scheme == DTM_SCHEME_HTTP ? "http" : "https") == 0);
		curl_free(part);
		HOLDS(curl_url_get(handle, CURLUPART_USER, &part, 0) != CURLUE_OK);
	}
	curl_url_cleanup(handle);
}

/* A query of its own may hold our keys, and the first one counts. */
static bool
has_own_keys(DtmText url)
{
	static const char *const keys[] = {"gid", "op", "branch", "trans", "%"};

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (memmem(url.data, url.len, keys[i], strlen(keys[i])) != NULL)
			return true;
	return false;
}

static void
check_call(DtmText url, DtmText gid, const DtmTarget *target)
{
	static const DtmText branch = {"01", 2};
	size_t size = DTM_URL_FOR_CALL_ROOM(url.len);
	char *full = malloc(size);
	size_t len;
	DtmRequest request;
	const char *field;
	DtmTarget again;
	size_t tight;

	len = dtm_url_for_call(url, gid, "saga", branch, "compensate", full, size);
	HOLDS(len > 0 && len < size && strlen(full) == len);
	HOLDS(memchr(full, '#', len) == NULL);

	/* exactly enough, and one too few */
	tight = dtm_url_for_call(url, gid, "saga", branch, "compensate", full, len + 1);
	HOLDS(tight == len);
	if (len <= DTM_MAX_URL_LEN)
	{
		HOLDS(dtm_target_parse(full, len, &again) == NULL);
		HOLDS(again.host.len == target->host.len && again.port == target->port);
	}
	if (!has_own_keys(url))
	{
		HOLDS(dtm_request_parse(full, len, &request, &field) == NULL);
		HOLDS(strlen(request.gid) == gid.len && memcmp(request.gid, gid.data, gid.len) == 0);
		HOLDS(strcmp(request.op, "compensate") == 0);
		HOLDS(strcmp(request.branch_id, "01") == 0);
		HOLDS(strcmp(request.trans_type, "saga") == 0);
	}
	check_curl(full, target);
	tight = dtm_url_for_call(url, gid, "saga", branch, "compensate", full, len);
	HOLDS(tight == 0);
	free(full);
}

/* What the parser lets through is read as one identifier, or two for a function. */
static void
check_server(const DtmTarget *target)
{
	char *name = malloc(target->rest.len + target->host.len + 1);
	DtmText function = target->rest;
	size_t taken = dtm_identifier_read(target->host, name, target->host.len + 1);

	HOLDS(target->host.len > 0 && taken == target->host.len);
	HOLDS(strlen(name) > 0 && strlen(name) <= target->host.len);
	if (target->scheme == DTM_SCHEME_PG)
	{
		taken = dtm_identifier_read(function, name, function.len + 1);
		HOLDS(taken > 0 && (taken == function.len || function.data[taken] == '.'));
		if (taken < function.len)
		{
			function.data += taken + 1;
			function.len -= (uint32_t) taken + 1;
			HOLDS(dtm_identifier_read(function, name, function.len + 1) == function.len);
		}
	}
	free(name);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	DtmText line = fuzz_line(&data, &size);
	char *copy = malloc(line.len > 0 ? line.len : 1);
	DtmText url = {copy, line.len};
	DtmText gid = {(const char *) data, (uint32_t) size};
	DtmTarget target;
	const char *problem;

	if (gid.len > DTM_MAX_GID_LEN)
		gid.len = DTM_MAX_GID_LEN;
	memcpy(copy, line.data, line.len);
	problem = dtm_target_parse(copy, line.len, &target);
	if (problem != NULL)
		HOLDS(problem[0] != '\0');
	else
	{
		HOLDS(target.scheme != DTM_SCHEME_UNKNOWN);
		HOLDS(fuzz_within(target.host, url) && fuzz_within(target.rest, url));
	}
	if (problem == NULL && (target.scheme == DTM_SCHEME_HTTP || target.scheme == DTM_SCHEME_HTTPS))
	{
		HOLDS(target.host.len > 0 && target.port > 0);
		for (size_t i = 0; i < gid.len; i++)
			if (data[i] < 0x20 || data[i] == 0x7F)
				gid.len = 0;
		if (gid.len > 0)
			check_call(url, gid, &target);
	}
	if (problem == NULL && (target.scheme == DTM_SCHEME_PG || target.scheme == DTM_SCHEME_XA))
		check_server(&target);
	free(copy);
	return 0;
}
