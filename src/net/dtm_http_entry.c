/* -------------------------------------------------------------------------
 *
 * dtm_http_entry.c
 *		The memory of one HTTP call: copies of what it needs, its answer, its
 *		message.
 *
 * Runs in the coordinator.  Knows nothing of hosts and handles.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_http_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/*
 * Defaults at the end of a call's own headers.  libcurl only reads them.  An
 * empty "Expect:" keeps libcurl from waiting for "100 Continue" before large
 * bodies.
 */
static char expect_header[] = "Expect:";
static char type_header[] = "Content-Type: application/json";
static struct curl_slist expect_node = {expect_header, NULL};
static struct curl_slist type_node = {type_header, &expect_node};

/*
 * Headers about the connection and about where the body ends are libcurl's
 * alone: two opinions on the length of a body are how requests are smuggled.
 */
static const char *const own_headers[] = {"connection", "content-length",    "expect",
										  "keep-alive", "proxy-connection",  "te",
										  "trailer",    "transfer-encoding", "upgrade"};

static bool
name_is(const char *header, size_t name_len, const char *name)
{
	return strlen(name) == name_len && strncasecmp(header, name, name_len) == 0;
}

/*
 * The length of the name of a header that is sent; 0 for one that is left
 * out; -1 for one that must not be sent: no colon, or a line end with which
 * another header or request could be smuggled in.
 */
static int
header_name_len(const char *header)
{
	size_t len = strcspn(header, ": \t\r\n;");

	if (len == 0 || header[len] != ':' || strpbrk(header, "\r\n") != NULL)
		return -1;
	for (size_t i = 0; i < sizeof(own_headers) / sizeof(own_headers[0]); i++)
	{
		if (name_is(header, len, own_headers[i]))
			return 0;
	}
	return (int) len;
}

/* Bytes for the copies of the headers; DTM_INVALID when one is malformed. */
static DtmRc
measure_headers(const DtmHttpCall *call, size_t *size, int *count)
{
	*size = 0;
	*count = 0;
	if (call->n_headers < 0 || call->n_headers > DTM_HTTP_MAX_HEADERS)
		return DTM_INVALID;
	for (int i = 0; i < call->n_headers; i++)
	{
		int name_len = header_name_len(call->headers[i]);

		if (name_len < 0)
			return DTM_INVALID;
		if (name_len == 0)
			continue;
		*size += strlen(call->headers[i]) + 1;
		(*count)++;
	}
	return DTM_OK;
}

/* Copy the headers to nodes and text, and link the defaults behind them. */
static void
copy_headers(DtmHttpEntry *entry, const DtmHttpCall *call, struct curl_slist *nodes, char *text)
{
	struct curl_slist **tail = &entry->headers;
	bool has_type = false;

	for (int i = 0; i < call->n_headers; i++)
	{
		const char *header = call->headers[i];
		int name_len = header_name_len(header);
		size_t len = strlen(header);

		if (name_len <= 0)
			continue;
		if (name_is(header, (size_t) name_len, "content-type"))
			has_type = true;
		memcpy(text, header, len + 1);
		/* libcurl takes "Name:" for "leave it out", "Name;" for an empty value */
		if (header[name_len + 1 + (int) strspn(header + name_len + 1, " \t")] == '\0')
			memcpy(text + name_len, ";", 2);
		nodes->data = text;
		*tail = nodes;
		tail = &nodes->next;
		nodes++;
		text += len + 1;
	}
	*tail = call->post && !has_type ? &type_node : &expect_node;
}

DtmRc
dtm_http_entry_new(const DtmHttpCall *call, DtmHttpEntry **out)
{
	size_t url_len = strlen(call->url);
	size_t body_len = call->post && call->body != NULL ? call->body_len : 0;
	size_t headers_size;
	int n_headers;
	DtmTarget target;
	DtmHttpEntry *entry;
	struct curl_slist *nodes;
	char *text;

	if (call->timeout_ms <= 0 || url_len == 0 ||
		dtm_target_parse(call->url, url_len, &target) != NULL ||
		(target.scheme != DTM_SCHEME_HTTP && target.scheme != DTM_SCHEME_HTTPS) ||
		measure_headers(call, &headers_size, &n_headers) != DTM_OK)
		return DTM_INVALID;
	entry = malloc(sizeof(DtmHttpEntry) + (size_t) n_headers * sizeof(struct curl_slist) + url_len +
				   1 + body_len + headers_size);
	if (entry == NULL)
		return DTM_NOMEM;
	memset(entry, 0, offsetof(DtmHttpEntry, inline_answer));
	nodes = (struct curl_slist *) (entry + 1);
	text = (char *) (nodes + n_headers);

	dtm_list_init(&entry->link);
	entry->url = text;
	memcpy(text, call->url, url_len + 1);
	text += url_len + 1;
	/* the same text was fine a moment ago; now the views point into the copy */
	(void) dtm_target_parse(entry->url, url_len, &entry->target);
	entry->post = call->post;
	entry->payload = text;
	entry->payload_len = body_len;
	if (body_len > 0)
		memcpy(text, call->body, body_len);
	copy_headers(entry, call, nodes, text + body_len);
	entry->timeout_ms = call->timeout_ms;
	entry->done.tag = call->tag;
	entry->done.tag2 = call->tag2;
	entry->answer = entry->inline_answer;
	entry->answer_size = DTM_HTTP_INLINE_BODY;
	*out = entry;
	return DTM_OK;
}

void
dtm_http_entry_free(DtmHttpEntry *entry)
{
	if (entry == NULL)
		return;
	if (entry->answer != entry->inline_answer)
		free(entry->answer);
	free(entry);
}

bool
dtm_http_entry_append(DtmHttpEntry *entry, const char *data, size_t len)
{
	size_t wanted = entry->answer_len + len;

	if (wanted > entry->answer_size)
	{
		size_t size = entry->answer_size * 2 > wanted ? entry->answer_size * 2 : wanted;
		bool is_inline = entry->answer == entry->inline_answer;
		char *grown = realloc(is_inline ? NULL : entry->answer, size);

		if (grown == NULL)
			return false;
		if (is_inline)
			memcpy(grown, entry->answer, entry->answer_len);
		entry->answer = grown;
		entry->answer_size = size;
	}
	memcpy(entry->answer + entry->answer_len, data, len);
	entry->answer_len = wanted;
	return true;
}

void
dtm_http_say(DtmHttpEntry *entry, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void) vsnprintf(entry->done.message, sizeof(entry->done.message), format, args);
	va_end(args);
	/* names and TLS texts come from outside: no bytes that a database would refuse */
	for (char *p = entry->done.message; *p != '\0'; p++)
	{
		if (*p < ' ' || *p > '~')
			*p = '?';
	}
}
