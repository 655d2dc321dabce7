/* -------------------------------------------------------------------------
 *
 * dtm_httpd_request.c
 *		One request, from its request line to its answer: what libmicrohttpd
 *		calls, and what the owner does with it.
 *
 * libmicrohttpd calls dtm_httpd_on_request when the headers are there, with
 * every piece of the body, and when it is over.  Then the request is queued
 * and its connection suspended; after the owner's answer libmicrohttpd calls
 * once more, and is given the answer.
 *
 * While a connection is suspended libmicrohttpd does not look at its socket,
 * so we do: only for the client's farewell, never for bytes.
 *
 * Runs in the coordinator.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_httpd_internal.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#define TOO_LARGE 413 /* its name differs from one libmicrohttpd to the next */
#define FIRST_BODY 1024
#define SHORT_ANSWER (64 * 1024)   /* is always given */
#define SWALLOW_MORE (1024 * 1024) /* of a body that is too long, beyond its limit */

static const char too_much[] = "the server has too much to do, try again later\n";

static DtmHttpdConnection *
connection_of(struct MHD_Connection *mhd)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	return info != NULL ? info->socket_context : NULL;
}

static DtmHttpdEntry *
entry_of(DtmHttpdRequest *request)
{
	return (DtmHttpdEntry *) (void *) ((char *) request - offsetof(DtmHttpdEntry, request));
}

/* Called with the request line; what is returned comes as *con_cls later. */
void *
dtm_httpd_on_uri(void *context, const char *uri, struct MHD_Connection *mhd)
{
	DtmHttpdConnection *connection = connection_of(mhd);
	size_t len = strlen(uri);
	DtmHttpdEntry *entry;

	(void) context;
	if (connection == NULL || connection->entry != NULL)
		return NULL;
	entry = calloc(1, sizeof(DtmHttpdEntry) + len + 1);
	if (entry == NULL)
		return NULL;
	memcpy(entry->uri, uri, len);
	entry->connection = connection;
	entry->request.uri = entry->uri;
	entry->request.method = entry->method;
	entry->request.peer = connection->peer;
	entry->request.body = "";
	dtm_list_init(&entry->link);
	dtm_list_init(&entry->gone_link);
	connection->entry = entry;
	if (connection->state != DTM_HTTPD_CUT)
		dtm_httpd_set_state(connection, DTM_HTTPD_READING);
	return entry;
}

/* Is the client about to send a body that it need not, or must not, send? */
static bool
is_hopeless(const DtmHttpd *httpd, struct MHD_Connection *mhd, unsigned long long len)
{
	return MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, MHD_HTTP_HEADER_EXPECT) != NULL ||
		len > httpd->limits.max_body + SWALLOW_MORE;
}

/* Does Host name a domain?  Its port does not count. */
static bool
is_domain(const char *host)
{
	size_t len = strcspn(host, ":");
	char name[INET_ADDRSTRLEN];
	struct in_addr address;

	if (host[0] == '[' || memchr(host, '.', len) == NULL)
		return false;
	if (len >= sizeof(name))
		return true;
	memcpy(name, host, len);
	name[len] = '\0';
	return inet_pton(AF_INET, name, &address) != 1;
}

/* What the headers tell of the sender.  Nobody can rely on it who may choose his headers. */
static void
look_at_sender(DtmHttpdRequest *request, struct MHD_Connection *mhd)
{
	static const char *const of_proxies[] = {"Forwarded", "X-Forwarded-For", "Via"};
	const char *value;

	value = MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, "Sec-Fetch-Site");
	request->from_page = (value != NULL && strcmp(value, "none") != 0) ||
		MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, "Origin") != NULL;
	value = MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, MHD_HTTP_HEADER_HOST);
	request->by_domain = value != NULL && is_domain(value);
	for (size_t i = 0; i < sizeof(of_proxies) / sizeof(of_proxies[0]); i++)
	{
		if (MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, of_proxies[i]) != NULL)
			request->relayed = true;
	}
}

/* What the headers say about where the body ends. */
typedef struct Framing
{
	int n;    /* that say so */
	bool odd; /* another reader may understand them otherwise */
} Framing;

/*
 * A line that goes on in the next one ends up, with some versions of
 * libmicrohttpd, behind the name: "Content-Length5".  So what begins as such
 * a name is meant here.
 */
static bool
begins_as(const char *key, const char *name)
{
	return strncasecmp(key, name, strlen(name)) == 0;
}

static enum MHD_Result
look_at_header(void *context, enum MHD_ValueKind kind, const char *key, const char *value)
{
	Framing *framing = context;

	(void) kind;
	if (value == NULL)
		value = "";
	if (begins_as(key, MHD_HTTP_HEADER_CONTENT_LENGTH))
	{
		framing->n++;
		if (key[strlen(MHD_HTTP_HEADER_CONTENT_LENGTH)] != '\0' || value[0] == '\0' ||
			value[strspn(value, "0123456789")] != '\0')
			framing->odd = true;
	}
	else if (begins_as(key, MHD_HTTP_HEADER_TRANSFER_ENCODING))
	{
		framing->n++;
		if (key[strlen(MHD_HTTP_HEADER_TRANSFER_ENCODING)] != '\0' ||
			strcasecmp(value, "chunked") != 0)
			framing->odd = true;
	}

	/* "Content-Length : 5" is no Content-Length for libmicrohttpd, but is for others */
	for (const unsigned char *c = (const unsigned char *) key; *c != '\0'; c++)
	{
		if (*c <= ' ' || *c >= 0x7F)
			framing->odd = true;
	}
	if (key[0] == '\0' || strpbrk(value, "\r\n") != NULL)
		framing->odd = true;
	return MHD_YES;
}

/*
 * Could a proxy in front of us see another end of this request than we do?
 * What comes behind it would then be a request of somebody else.
 */
static bool
is_ambiguous(struct MHD_Connection *mhd)
{
	Framing framing = {0, false};

	(void) MHD_get_connection_values(mhd, MHD_HEADER_KIND, look_at_header, &framing);
	return framing.odd || framing.n > 1;
}

/*
 * The headers are there: keep what we need of them.  A body that is too long
 * is read all the same when it is not much too long: closing the connection
 * with bytes unread would reset it, and many a client would never see why.
 * *at_once: refuse it now.  False: memory is short.
 */
static bool
begin(DtmHttpd *httpd, DtmHttpdEntry *entry, struct MHD_Connection *mhd, const char *method,
	  bool *at_once)
{
	const char *value;
	unsigned long long len;

	*at_once = false;
	entry->begun = true;
	if (is_ambiguous(mhd))
	{
		entry->refuse = MHD_HTTP_BAD_REQUEST;
		*at_once = true;
		return true;
	}
	snprintf(entry->method, sizeof(entry->method), "%s", method);
	value = MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, MHD_HTTP_HEADER_AUTHORIZATION);
	if (value != NULL && strlen(value) > DTM_HTTPD_MAX_AUTHORIZATION)
		entry->request.authorization = ""; /* it is not as if there were none */
	else if (value != NULL)
	{
		entry->authorization = strdup(value);
		if (entry->authorization == NULL)
			return false;
		entry->request.authorization = entry->authorization;
	}
	look_at_sender(&entry->request, mhd);
	value = MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
	len = value != NULL ? strtoull(value, NULL, 10) : 0;
	if (len > httpd->limits.max_body)
	{
		entry->refuse = TOO_LARGE;
		*at_once = is_hopeless(httpd, mhd, len);
	}
	return true;
}

static void
forget_body(DtmHttpd *httpd, DtmHttpdEntry *entry)
{
	if (entry->body_size > 0)
	{
		free((char *) (uintptr_t) entry->request.body);
		httpd->bodies -= entry->body_size;
	}
	entry->request.body = "";
	entry->request.body_len = 0;
	entry->body_size = 0;
}

/*
 * Keep a piece of the body.  Memory grows with what has come, not with what
 * was announced.  A body that cannot be kept is read on, so that the client
 * can be told when it has written it, but not for ever: false then.
 */
static bool
keep_body(DtmHttpd *httpd, DtmHttpdEntry *entry, const char *data, size_t len)
{
	size_t needed = entry->request.body_len + len + 1;
	size_t size = entry->body_size > 0 ? entry->body_size : FIRST_BODY;
	char *body;

	if (entry->refuse == 0 && needed - 1 > httpd->limits.max_body)
		entry->refuse = TOO_LARGE;
	while (entry->refuse == 0 && size < needed)
		size *= 2;
	if (entry->refuse == 0 && size - entry->body_size > 0 &&
		(httpd->bodies > httpd->limits.max_bodies ||
		 size - entry->body_size > httpd->limits.max_bodies - httpd->bodies))
		entry->refuse = MHD_HTTP_SERVICE_UNAVAILABLE;
	if (entry->refuse != 0)
	{
		forget_body(httpd, entry);
		entry->swallowed += len;
		return entry->swallowed <= httpd->limits.max_body + SWALLOW_MORE;
	}
	if (size > entry->body_size)
	{
		body =
			realloc(entry->body_size > 0 ? (char *) (uintptr_t) entry->request.body : NULL, size);
		if (body == NULL)
			return false;
		httpd->bodies += size - entry->body_size;
		entry->request.body = body;
		entry->body_size = size;
	}
	else
		body = (char *) (uintptr_t) entry->request.body;
	memcpy(body + entry->request.body_len, data, len);
	entry->request.body_len += len;
	body[entry->request.body_len] = '\0';
	return true;
}

static struct MHD_Response *
make_response(const DtmHttpd *httpd, int status, const char *content_type, const char *body,
			  size_t body_len)
{
	struct MHD_Response *response =
		MHD_create_response_from_buffer(body_len,
										body_len > 0 ? (void *) (uintptr_t) body
													 : (void *) (uintptr_t) "",
										MHD_RESPMEM_MUST_COPY);
	bool ok = response != NULL;
	char number[16];

	if (ok && content_type != NULL)
		ok = MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type) ==
			MHD_YES;
	if (ok && status == MHD_HTTP_UNAUTHORIZED)
		ok = MHD_add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer") ==
			MHD_YES;
	if (ok && (status == MHD_HTTP_SERVICE_UNAVAILABLE || status == MHD_HTTP_TOO_MANY_REQUESTS))
	{
		snprintf(number, sizeof(number), "%d", httpd->limits.retry_after_s);
		ok = MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, number) == MHD_YES;
	}
	if (ok && httpd->listen_fd < 0) /* stopped */
		ok = MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close") == MHD_YES;
	if (!ok && response != NULL)
		MHD_destroy_response(response);
	return ok ? response : NULL;
}

/*
 * An answer of our own: no owner has seen the request.  It is no JSON, so
 * that no client looks for more in it.
 */
static enum MHD_Result
refuse(DtmHttpd *httpd, DtmHttpdEntry *entry, struct MHD_Connection *mhd, int status)
{
	const char *message = too_much;
	struct MHD_Response *response;
	enum MHD_Result result;

	if (status == TOO_LARGE)
		message = "the request body is too large\n";
	else if (status == MHD_HTTP_BAD_REQUEST)
		message = "the headers do not say clearly where the request ends\n";
	response = make_response(httpd, status, "text/plain; charset=utf-8", message, strlen(message));

	httpd->n_refused++;
	forget_body(httpd, entry);
	if (response == NULL)
		return MHD_NO;
	if (status == MHD_HTTP_BAD_REQUEST)
		(void) MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
	dtm_httpd_set_state(entry->connection, DTM_HTTPD_WRITING);
	result = MHD_queue_response(mhd, (unsigned int) status, response);
	MHD_destroy_response(response);
	return result;
}

/* Handler of the loop: the client of a suspended connection says farewell. */
static void
on_farewell(void *context, int fd, uint32_t events)
{
	DtmHttpdConnection *connection = context;
	DtmHttpdEntry *entry = connection->entry;

	(void) events;
	dtm_loop_forget(connection->httpd->loop, fd); /* it stays true: once is enough */
	if (entry == NULL || entry->request.gone)
		return;
	entry->request.gone = true;
	if (entry->fetched)
		dtm_list_push_tail(&connection->httpd->gone, &entry->gone_link);
}

/* The request is complete: for the owner to fetch. */
static enum MHD_Result
enqueue(DtmHttpd *httpd, DtmHttpdEntry *entry, struct MHD_Connection *mhd)
{
	if (httpd->n_queued >= httpd->limits.max_queue)
		return refuse(httpd, entry, mhd, MHD_HTTP_SERVICE_UNAVAILABLE);
	/* without this watch nobody would learn that a wait is in vain: better not to wait at all */
	if (dtm_loop_watch(httpd->loop, entry->connection->fd, EPOLLRDHUP, on_farewell,
					   entry->connection) != DTM_OK)
		return refuse(httpd, entry, mhd, MHD_HTTP_SERVICE_UNAVAILABLE);
	dtm_httpd_set_state(entry->connection, DTM_HTTPD_WAITING);
	entry->complete = true;
	entry->request.arrived_us = entry->connection->since_us;
	dtm_list_push_tail(&httpd->queue, &entry->link);
	httpd->n_queued++;
	httpd->n_requests++;
	MHD_suspend_connection(mhd);
	return MHD_YES;
}

/* libmicrohttpd closes the connection when this gives MHD_NO. */
enum MHD_Result
dtm_httpd_on_request(void *context, struct MHD_Connection *mhd, const char *url, const char *method,
					 const char *version, const char *upload_data, size_t *upload_data_size,
					 void **con_cls)
{
	DtmHttpd *httpd = context;
	DtmHttpdEntry *entry = *con_cls;
	enum MHD_Result result;

	(void) url;
	(void) version;
	/* a client that was told 408 must not find that its request was done after all */
	if (entry == NULL || entry->dropped || entry->connection->state == DTM_HTTPD_CUT)
		return MHD_NO;
	if (!entry->begun)
	{
		bool at_once;

		if (!begin(httpd, entry, mhd, method, &at_once))
			return MHD_NO;
		return at_once ? refuse(httpd, entry, mhd, entry->refuse) : MHD_YES;
	}
	if (*upload_data_size > 0)
	{
		size_t len = *upload_data_size;

		*upload_data_size = 0;
		return keep_body(httpd, entry, upload_data, len) ? MHD_YES : MHD_NO;
	}
	if (entry->refuse != 0)
		return refuse(httpd, entry, mhd, entry->refuse);
	if (!entry->complete)
		return enqueue(httpd, entry, mhd);
	if (entry->response == NULL)
		return MHD_NO; /* resumed by nobody we know */
	result = MHD_queue_response(mhd, entry->status, entry->response);
	MHD_destroy_response(entry->response);
	entry->response = NULL;
	return result;
}

/* Out of the owner's sight. */
static void
release(DtmHttpd *httpd, DtmHttpdEntry *entry)
{
	if (dtm_list_is_empty(&entry->link))
		return;
	dtm_list_remove(&entry->link);
	dtm_list_remove(&entry->gone_link);
	if (entry->fetched)
		httpd->n_given--;
	else
		httpd->n_queued--;
}

void
dtm_httpd_on_completed(void *context, struct MHD_Connection *mhd, void **con_cls,
					   enum MHD_RequestTerminationCode toe)
{
	DtmHttpd *httpd = context;
	DtmHttpdEntry *entry = *con_cls;
	DtmHttpdConnection *connection;

	(void) mhd;
	(void) toe;
	*con_cls = NULL;
	if (entry == NULL)
		return;
	connection = entry->connection;
	release(httpd, entry);
	forget_body(httpd, entry);
	httpd->answers -= entry->answer_size;
	if (entry->response != NULL)
		MHD_destroy_response(entry->response);
	free(entry->authorization);
	free(entry);
	connection->entry = NULL;
	if (connection->state != DTM_HTTPD_CUT)
		dtm_httpd_set_state(connection, DTM_HTTPD_IDLE);
}

DtmHttpdRequest *
dtm_httpd_next_request(DtmHttpd *httpd)
{
	DtmLink *link = dtm_list_pop_head(&httpd->queue);
	DtmHttpdEntry *entry;

	if (link == NULL)
		return NULL;
	entry = dtm_list_entry(link, DtmHttpdEntry, link);
	entry->fetched = true;
	dtm_list_push_tail(&httpd->given, link);
	httpd->n_queued--;
	httpd->n_given++;
	return &entry->request;
}

DtmHttpdRequest *
dtm_httpd_next_gone(DtmHttpd *httpd)
{
	DtmLink *link = dtm_list_pop_head(&httpd->gone);

	return link != NULL ? &dtm_list_entry(link, DtmHttpdEntry, gone_link)->request : NULL;
}

/* The owner has done with it: libmicrohttpd goes on. */
static void
resume(DtmHttpd *httpd, DtmHttpdEntry *entry)
{
	release(httpd, entry);
	forget_body(httpd, entry);
	dtm_loop_rest(httpd->loop, entry->connection->fd);
	dtm_httpd_set_state(entry->connection, DTM_HTTPD_WRITING);
	httpd->resumed = true;
	MHD_resume_connection(entry->connection->mhd);
}

DtmRc
dtm_httpd_answer(DtmHttpd *httpd, DtmHttpdRequest *request, int status, const char *content_type,
				 const char *body, size_t body_len)
{
	DtmHttpdEntry *entry = entry_of(request);
	bool lost;

	/* clients that ask for much and read nothing */
	if (body_len > SHORT_ANSWER && httpd->limits.max_answers > 0 &&
		(httpd->answers > httpd->limits.max_answers ||
		 body_len > httpd->limits.max_answers - httpd->answers))
	{
		status = MHD_HTTP_SERVICE_UNAVAILABLE;
		content_type = "text/plain; charset=utf-8";
		body = too_much;
		body_len = strlen(too_much);
		httpd->n_refused++;
	}
	httpd->answers += body_len;
	entry->answer_size = body_len;
	entry->response = make_response(httpd, status, content_type, body, body_len);
	entry->status = (unsigned int) status;
	entry->dropped = entry->response == NULL;
	lost = entry->dropped;
	resume(httpd, entry);
	return lost ? DTM_NOMEM : DTM_OK;
}

void
dtm_httpd_drop(DtmHttpd *httpd, DtmHttpdRequest *request)
{
	DtmHttpdEntry *entry = entry_of(request);

	entry->dropped = true;
	resume(httpd, entry);
}

void
dtm_httpd_drop_all(DtmHttpd *httpd)
{
	DtmLink *heads[] = {&httpd->queue, &httpd->given};

	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
	{
		while (!dtm_list_is_empty(heads[i]))
			dtm_httpd_drop(httpd, &dtm_list_entry(heads[i]->next, DtmHttpdEntry, link)->request);
	}
}
