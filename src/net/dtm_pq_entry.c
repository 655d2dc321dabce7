/* -------------------------------------------------------------------------
 *
 * dtm_pq_entry.c
 *		The memory of one call over libpq: copies of what it needs, its
 *		message.
 *
 * Runs in the coordinator.  Knows nothing of connections.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_pq_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dtm_answer.h"
#include "dtm_url.h"

/* ---- parameters ---- */

static DtmPqParams *
params_new(const DtmPqCall *call)
{
	DtmPqParams *params;
	size_t size = 0;
	int n = 0;
	char *at;

	for (; call->keywords[n] != NULL; n++)
		size += strlen(call->keywords[n]) + strlen(call->values[n]) + 2;
	params = malloc(sizeof(DtmPqParams) + 2 * (size_t) (n + 1) * sizeof(char *) + size);
	if (params == NULL)
		return NULL;
	params->refs = 1;
	params->n = n;
	params->fingerprint = call->fingerprint;
	params->password_required = call->password_required;
	params->keywords = (const char **) (params + 1);
	params->values = params->keywords + n + 1;
	at = (char *) (params->values + n + 1);
	for (int i = 0; i < n; i++)
	{
		params->keywords[i] = at;
		at = stpcpy(at, call->keywords[i]) + 1;
		params->values[i] = at;
		at = stpcpy(at, call->values[i]) + 1;
	}
	params->keywords[n] = params->values[n] = NULL;
	return params;
}

void
dtm_pq_params_release(DtmPqParams *params)
{
	if (params != NULL && --params->refs == 0)
		free(params);
}

bool
dtm_pq_params_equal(const DtmPqParams *a, const DtmPqParams *b)
{
	if (a->fingerprint != b->fingerprint || a->n != b->n ||
		a->password_required != b->password_required)
		return false;
	for (int i = 0; i < a->n; i++)
	{
		if (strcmp(a->keywords[i], b->keywords[i]) != 0 || strcmp(a->values[i], b->values[i]) != 0)
			return false;
	}
	return true;
}

/* ---- entries ---- */

/* One identifier with quotes around it; the bytes taken from name, 0 when there is none. */
static size_t
quote_one(DtmText name, char **to)
{
	char plain[DTM_MAX_URL_LEN + 1];
	size_t taken = dtm_identifier_read(name, plain, sizeof(plain));

	if (taken == 0)
		return 0;
	*(*to)++ = '"';
	for (const char *p = plain; *p != '\0'; p++)
	{
		if (*p == '"')
			*(*to)++ = '"';
		*(*to)++ = *p;
	}
	*(*to)++ = '"';
	return taken;
}

/* "f" or "s"."f"; at most twice as long as the name, and four bytes more. */
static bool
quote_function(const char *function, char *to)
{
	DtmText name = {function, (uint32_t) strlen(function)};
	size_t taken = quote_one(name, &to);

	if (taken > 0 && taken < name.len && name.data[taken] == '.')
	{
		name.data += taken + 1;
		name.len -= (uint32_t) taken + 1;
		*to++ = '.';
		taken = quote_one(name, &to);
	}
	*to = '\0';
	return taken > 0 && taken == name.len;
}

static char *
copy_text(char **at, const char *from, size_t len)
{
	char *copy = *at;

	memcpy(copy, from, len);
	copy[len] = '\0';
	*at += len + 1;
	return copy;
}

DtmRc
dtm_pq_entry_new(const DtmPqCall *call, DtmPqEntry **out)
{
	const char *payload = call->payload == NULL ? "{}" : call->payload;
	size_t payload_len = call->payload == NULL ? 2 : call->payload_len;
	const char *xid = call->kind == DTM_PQ_LIST ? call->prefix : call->xid;
	size_t function_size = 0;
	size_t size = 0;
	DtmPqEntry *entry;
	char *at;

	if (call->timeout_ms <= 0 || call->server[0] == '\0')
		return DTM_INVALID;
	if (call->kind == DTM_PQ_BRANCH)
	{
		if (strlen(call->function) > DTM_MAX_URL_LEN || memchr(payload, 0, payload_len) != NULL)
			return DTM_INVALID;
		function_size = 2 * strlen(call->function) + 5;
		size = function_size + payload_len + strlen(call->gid) + strlen(call->trans_type) +
			strlen(call->branch_id) + strlen(call->op) +
			(call->ran_elsewhere == NULL ? 0 : strlen(call->ran_elsewhere)) + 6;
	}
	else
		size = strlen(xid) + 1;

	entry = malloc(sizeof(DtmPqEntry) + size);
	if (entry == NULL)
		return DTM_NOMEM;
	memset(entry, 0, sizeof(DtmPqEntry));
	dtm_list_init(&entry->link);
	at = (char *) (entry + 1);
	entry->kind = call->kind;
	entry->timeout_ms = call->timeout_ms;
	entry->question = call->question;
	entry->commit = call->commit;
	entry->max_rows = call->max_rows;
	if (call->kind == DTM_PQ_BRANCH)
	{
		entry->function = at;
		at += function_size;
		if (!quote_function(call->function, entry->function))
		{
			free(entry);
			return DTM_INVALID;
		}
		entry->payload = copy_text(&at, payload, payload_len);
		entry->gid = copy_text(&at, call->gid, strlen(call->gid));
		entry->trans_type = copy_text(&at, call->trans_type, strlen(call->trans_type));
		entry->branch_id = copy_text(&at, call->branch_id, strlen(call->branch_id));
		entry->op = copy_text(&at, call->op, strlen(call->op));
		if (call->ran_elsewhere != NULL)
			entry->ran_elsewhere = copy_text(&at, call->ran_elsewhere, strlen(call->ran_elsewhere));
	}
	else
		entry->xid = copy_text(&at, xid, strlen(xid));
	entry->params = params_new(call);
	if (entry->params == NULL)
	{
		free(entry);
		return DTM_NOMEM;
	}
	entry->done.tag = call->tag;
	entry->done.tag2 = call->tag2;
	entry->done.kind = call->kind;
	*out = entry;
	return DTM_OK;
}

void
dtm_pq_entry_free(DtmPqEntry *entry)
{
	if (entry == NULL)
		return;
	PQclear(entry->rows);
	free(entry->done.list);
	dtm_pq_params_release(entry->params);
	free(entry);
}

/* A database may send any bytes when its encoding is SQL_ASCII, or before it knows ours. */
void
dtm_pq_fail(DtmPqEntry *entry, DtmPqError error, const char *format, ...)
{
	char buffer[4 * DTM_MAX_ERROR_LEN];
	va_list args;

	va_start(args, format);
	(void) vsnprintf(buffer, sizeof(buffer), format, args);
	va_end(args);
	(void) dtm_text_printable(buffer, strlen(buffer), entry->done.message,
							  sizeof(entry->done.message));
	entry->done.error = error;
	entry->failed = true;
}
