/* -------------------------------------------------------------------------
 *
 * dtm_http_curl.c
 *		The part of the HTTP client that talks to libcurl.
 *
 * Runs in the coordinator.  Queues and circuits are in dtm_http_host.c, the
 * meaning of an ended transfer in dtm_http_result.c.
 *
 * libcurl calls back from inside its functions: for bytes of an answer, for
 * sockets to watch or open, for its next deadline.  These callbacks store and
 * return, they never call the multi interface (libcurl forbids that).  All
 * else happens in drain(), after libcurl has returned.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_http_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#if LIBCURL_VERSION_NUM < 0x073D00
#error "libcurl 7.61 or later is needed"
#endif

/* Connections kept beyond those in use: libcurl counts both together. */
#define SPARE_CONNECTIONS 16

/* All options of a kind must take, or the handle is not safe to use. */
#define SET(option_, value_) (ok = ok && curl_easy_setopt(easy, (option_), (value_)) == CURLE_OK)

static void drain(DtmHttp *http);

/* ---- callbacks ---- */

static size_t
on_body(char *data, size_t size, size_t count, void *context)
{
	DtmHttpSlot *slot = context;
	size_t len = size * count;

	/* a chunked answer has no length that CURLOPT_MAXFILESIZE could look at */
	if (len > slot->max_body - slot->entry->answer_len)
		slot->too_large = true;
	else if (dtm_http_entry_append(slot->entry, data, len))
		return len;
	else
		slot->no_memory = true;
	return len + 1; /* anything but len ends the transfer */
}

static size_t
on_header(char *data, size_t size, size_t count, void *context)
{
	DtmHttpSlot *slot = context;

	(void) data;
	slot->head_len += size * count;
	if (slot->head_len <= DTM_HTTP_MAX_ANSWER_HEAD)
		return size * count;
	slot->head_too_large = true;
	return size * count + 1;
}

/*
 * Every connection begins here, with the address that the name resolved to:
 * the only place where a policy on addresses can be held.
 */
static curl_socket_t
on_open(void *context, curlsocktype purpose, struct curl_sockaddr *address)
{
	DtmHttpSlot *slot = context;
	DtmHttp *http = slot->http;
	int fd;

	if (purpose != CURLSOCKTYPE_IPCXN || slot->entry == NULL ||
		(address->family != AF_INET && address->family != AF_INET6) ||
		address->addrlen > sizeof(slot->address))
		return CURL_SOCKET_BAD;
	if (http->policy == NULL ||
		!dtm_policy_allows_address(http->policy, &slot->entry->target, &address->addr))
	{
		/* another address of the same name may still be tried, and counts more */
		if (!slot->tried)
			memcpy(&slot->address, &address->addr, address->addrlen);
		slot->refused = true;
		return CURL_SOCKET_BAD;
	}
	memcpy(&slot->address, &address->addr, address->addrlen);
	slot->tried = true;
	fd = socket(address->family, address->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
				address->protocol);
	if (fd < 0)
	{
		slot->socket_errno = errno;
		return CURL_SOCKET_BAD;
	}
	return fd;
}

/* Connections outlive the handle that opened them, so context is the DtmHttp. */
static int
on_close(void *context, curl_socket_t fd)
{
	DtmHttp *http = context;

	dtm_loop_forget(http->loop, fd);
	if (fd < http->n_kept)
		http->kept[fd] = false;
	return close(fd);
}

static void
on_ready(void *context, int fd, uint32_t events)
{
	DtmHttp *http = context;
	int bits = 0;
	int running;

	if (events & EPOLLIN)
		bits |= CURL_CSELECT_IN;
	if (events & EPOLLOUT)
		bits |= CURL_CSELECT_OUT;
	if (events & (EPOLLERR | EPOLLHUP))
		bits |= CURL_CSELECT_ERR;
	if (http->multi == NULL)
		return;
	if (curl_multi_socket_action(http->multi, fd, bits, &running) != CURLM_OK)
		http->multi_failed = true;
	drain(http);
}

/* NULL for a handle of libcurl's own. */
static DtmHttpSlot *
slot_of(CURL *easy)
{
	char *private = NULL;

	(void) curl_easy_getinfo(easy, CURLINFO_PRIVATE, &private);
	return (DtmHttpSlot *) (void *) private;
}

/* Remember that a connection waits for its next call; false when memory is short. */
static bool
mark_kept(DtmHttp *http, int fd)
{
	int count = http->n_kept ? http->n_kept : 64;
	bool *grown;

	if (fd >= http->n_kept)
	{
		while (count <= fd)
			count *= 2;
		grown = realloc(http->kept, (size_t) count * sizeof(bool));
		if (grown == NULL)
			return false;
		memset(grown + http->n_kept, 0, (size_t) (count - http->n_kept) * sizeof(bool));
		http->kept = grown;
		http->n_kept = count;
	}
	http->kept[fd] = true;
	return true;
}

/*
 * A connection that rests between two calls stays registered in the kernel:
 * its next call then costs no epoll_ctl.  That is safe only for descriptors
 * whose closing on_close will be told about.  libcurl (7.88) closes those of
 * its resolver, and sockets whose connection never came to be, behind our
 * back after CURL_POLL_REMOVE; a connection that has brought a byte of an
 * answer is neither.
 */
static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *context, void *marker)
{
	DtmHttp *http = context;
	DtmHttpSlot *slot = slot_of(easy);
	uint32_t events = 0;

	(void) marker; /* the loop itself knows what is registered */
	if (what == CURL_POLL_REMOVE)
	{
		if (slot != NULL && slot->head_len > 0 && mark_kept(http, fd))
			dtm_loop_rest(http->loop, fd);
		else
			dtm_loop_forget(http->loop, fd);
		return 0;
	}
	if (fd < http->n_kept)
		http->kept[fd] = false;
	if (what & CURL_POLL_IN)
		events |= EPOLLIN;
	if (what & CURL_POLL_OUT)
		events |= EPOLLOUT;
	if (events != 0 && dtm_loop_watch(http->loop, fd, events, on_ready, http) != DTM_OK &&
		slot != NULL)
	{
		/* not -1: libcurl would then give up every call of the multi handle */
		slot->unwatched = true;
		http->some_unwatched = true;
	}
	return 0;
}

static int
on_timer(CURLM *multi, long timeout_ms, void *context)
{
	DtmHttp *http = context;

	(void) multi;
	if (timeout_ms <= 0)
		http->deadline_us = timeout_ms;
	else
	{
		dtm_http_read_clock(http);
		http->deadline_us = http->now_us + (int64_t) timeout_ms * 1000;
	}
	return 0;
}

/* ---- slots ---- */

static void
slot_free(DtmHttp *http, DtmHttpSlot *slot)
{
	dtm_list_remove(&slot->link);
	if (slot->easy != NULL)
		curl_easy_cleanup(slot->easy);
	free(slot);
	http->n_slots--;
}

/* Where calls may go, and by which means. */
static bool
set_reach(DtmHttpSlot *slot)
{
	CURL *easy = slot->easy;
	bool ok = true;

#if LIBCURL_VERSION_NUM >= 0x075500
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
#else
	SET(CURLOPT_PROTOCOLS, (long) (CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_PROXY, ""); /* also not the one of the environment */
	SET(CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	SET(CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_PATH_AS_IS, 1L);
	SET(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	if (slot->http->ca_file != NULL)
		SET(CURLOPT_CAINFO, slot->http->ca_file);
	SET(CURLOPT_OPENSOCKETFUNCTION, on_open);
	SET(CURLOPT_OPENSOCKETDATA, slot);
	SET(CURLOPT_CLOSESOCKETFUNCTION, on_close);
	SET(CURLOPT_CLOSESOCKETDATA, slot->http);
	return ok;
}

static bool
set_constants(DtmHttpSlot *slot)
{
	CURL *easy = slot->easy;
	bool ok = true;

	SET(CURLOPT_PRIVATE, slot);
	SET(CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075700
	/* else the end of a call whose name resolves slowly waits for the resolver thread */
	SET(CURLOPT_QUICK_EXIT, 1L);
#endif
	SET(CURLOPT_USERAGENT, "dtm_pg");
	SET(CURLOPT_ERRORBUFFER, slot->error);
	SET(CURLOPT_WRITEFUNCTION, on_body);
	SET(CURLOPT_WRITEDATA, slot);
	SET(CURLOPT_HEADERFUNCTION, on_header);
	SET(CURLOPT_HEADERDATA, slot);
	return ok;
}

/* A slot whose constants are set, from the free list when there is one. */
static DtmHttpSlot *
slot_take(DtmHttp *http)
{
	DtmLink *link = dtm_list_pop_head(&http->free_slots);
	DtmHttpSlot *slot;

	if (link != NULL)
		return dtm_list_entry(link, DtmHttpSlot, link);
	slot = calloc(1, sizeof(DtmHttpSlot));
	if (slot == NULL)
		return NULL;
	dtm_list_init(&slot->link);
	slot->http = http;
	slot->ca_generation = http->ca_generation;
	http->n_slots++;
	slot->easy = curl_easy_init();
	if (slot->easy == NULL || !set_reach(slot) || !set_constants(slot))
	{
		slot_free(http, slot);
		return NULL;
	}
	return slot;
}

/* The transfer is over: out of the multi handle, back to the free list. */
static void
slot_release(DtmHttp *http, DtmHttpSlot *slot)
{
	(void) curl_multi_remove_handle(http->multi, slot->easy);
	slot->entry->slot = NULL;
	slot->entry = NULL;
	if (slot->ca_generation != http->ca_generation || http->n_slots > http->limits.max_calls ||
		(slot->no_reuse && curl_easy_setopt(slot->easy, CURLOPT_FORBID_REUSE, 0L) != CURLE_OK))
	{
		slot_free(http, slot);
		return;
	}
	slot->no_reuse = false;
	dtm_list_push_head(&http->free_slots, &slot->link);
}

/* The options of one call; those that rarely change only when they do. */
static bool
set_call(DtmHttpSlot *slot, const DtmHttpEntry *entry)
{
	CURL *easy = slot->easy;
	size_t max_body = slot->http->limits.max_body;
	bool ok = true;

	SET(CURLOPT_URL, entry->url);
	if (entry->post)
	{
		SET(CURLOPT_POSTFIELDS, entry->payload); /* this alone makes it a POST */
		SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) entry->payload_len);
	}
	else
		SET(CURLOPT_HTTPGET, 1L);
	SET(CURLOPT_HTTPHEADER, entry->headers);
	if (slot->timeout_ms != entry->timeout_ms)
	{
		SET(CURLOPT_TIMEOUT_MS, (long) entry->timeout_ms);
		SET(CURLOPT_CONNECTTIMEOUT_MS, (long) entry->timeout_ms);
		slot->timeout_ms = ok ? entry->timeout_ms : 0;
	}
	if (slot->max_body != max_body)
	{
		SET(CURLOPT_MAXFILESIZE_LARGE, (curl_off_t) max_body);
		slot->max_body = ok ? max_body : 0;
	}
	return ok;
}

bool
dtm_http_slot_start(DtmHttp *http, DtmHttpEntry *entry)
{
	DtmHttpSlot *slot = NULL;

	if (http->multi != NULL || dtm_http_multi_open(http))
		slot = slot_take(http);
	if (slot == NULL)
	{
		entry->done.error = DTM_HTTP_BROKEN;
		dtm_http_say(entry, "out of memory");
		return false;
	}
	slot->entry = entry;
	entry->slot = slot;
	slot->too_large = slot->head_too_large = slot->no_memory = false;
	slot->refused = slot->tried = slot->unwatched = false;
	slot->socket_errno = 0;
	slot->head_len = 0;
	slot->error[0] = '\0';
	/* a resolver thread cannot start here, only in curl_multi_socket_action */
	if (!set_call(slot, entry) || curl_multi_add_handle(http->multi, slot->easy) != CURLM_OK)
	{
		slot_release(http, slot);
		entry->done.error = DTM_HTTP_BROKEN;
		dtm_http_say(entry, "out of memory");
		return false;
	}
	return true;
}

void
dtm_http_slot_stop(DtmHttp *http, DtmHttpEntry *entry)
{
	slot_release(http, entry->slot);
}

/* ---- the multi handle ---- */

bool
dtm_http_multi_open(DtmHttp *http)
{
	bool ok = true;

	http->multi = curl_multi_init();
	if (http->multi == NULL)
		return false;
	http->deadline_us = -1;
	http->multi_failed = false;
#define SET_MULTI(option_, value_) \
	(ok = ok && curl_multi_setopt(http->multi, (option_), (value_)) == CURLM_OK)
	SET_MULTI(CURLMOPT_SOCKETFUNCTION, on_socket);
	SET_MULTI(CURLMOPT_SOCKETDATA, http);
	SET_MULTI(CURLMOPT_TIMERFUNCTION, on_timer);
	SET_MULTI(CURLMOPT_TIMERDATA, http);
	SET_MULTI(CURLMOPT_PIPELINING, (long) CURLPIPE_NOTHING);
#undef SET_MULTI
	if (!ok)
	{
		dtm_http_multi_close(http);
		return false;
	}
	dtm_http_multi_limits(http);
	return true;
}

/* Handles first: their connections belong to the multi handle. */
void
dtm_http_multi_close(DtmHttp *http)
{
	DtmLink *link;

	while ((link = http->free_slots.next) != &http->free_slots)
		slot_free(http, dtm_list_entry(link, DtmHttpSlot, link));
	if (http->multi != NULL)
		(void) curl_multi_cleanup(http->multi);
	http->multi = NULL;
	http->deadline_us = -1;
}

/* Also bounds descriptors: idle connections count against the same number. */
void
dtm_http_multi_limits(DtmHttp *http)
{
	DtmLink *link;
	DtmLink *next;

	if (http->multi != NULL)
		(void) curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS,
								 (long) http->limits.max_calls + SPARE_CONNECTIONS);
	for (link = http->free_slots.next; link != &http->free_slots; link = next)
	{
		DtmHttpSlot *slot = dtm_list_entry(link, DtmHttpSlot, link);

		next = link->next;
		if (slot->ca_generation != http->ca_generation || http->n_slots > http->limits.max_calls)
			slot_free(http, slot);
	}
}

/*
 * Connections in use are closed at the end of their call.  The idle ones lie
 * in libcurl's cache, which has no function to empty it; but it tests a
 * connection before it is used again, and one that is shut down fails.
 */
void
dtm_http_multi_disown_connections(DtmHttp *http)
{
	for (DtmLink *link = http->out.next; link != &http->out; link = link->next)
	{
		DtmHttpSlot *slot = dtm_list_entry(link, DtmHttpEntry, link)->slot;

		slot->no_reuse = curl_easy_setopt(slot->easy, CURLOPT_FORBID_REUSE, 1L) == CURLE_OK;
	}
	for (int fd = 0; fd < http->n_kept; fd++)
	{
		if (http->kept[fd])
			(void) shutdown(fd, SHUT_RDWR);
	}
}

/* Give a call that is out its end. */
static void
end_call(DtmHttp *http, DtmHttpEntry *entry, CURLcode result)
{
	DtmHttpSign sign = dtm_http_judge(entry, result);

	dtm_list_remove(&entry->link);
	slot_release(http, entry->slot);
	/* its result before those that its failure may postpone */
	dtm_http_entry_ended(http, entry);
	dtm_http_host_back(http, entry, sign);
}

/* libcurl cannot go on (memory): what was out has failed, the next call begins afresh. */
static void
end_all_calls(DtmHttp *http)
{
	DtmLink *link;

	while ((link = http->out.next) != &http->out)
		end_call(http, dtm_list_entry(link, DtmHttpEntry, link), CURLE_OUT_OF_MEMORY);
	dtm_http_multi_close(http);
	http->multi_failed = false;
	http->some_unwatched = false;
}

/* Calls whose socket the kernel would not watch can only time out: end them now. */
static void
end_unwatched_calls(DtmHttp *http)
{
	DtmLink *next;

	http->some_unwatched = false;
	for (DtmLink *link = http->out.next; link != &http->out; link = next)
	{
		DtmHttpEntry *entry = dtm_list_entry(link, DtmHttpEntry, link);

		next = link->next;
		if (entry->slot->unwatched)
			end_call(http, entry, CURLE_OUT_OF_MEMORY);
	}
}

/*
 * Take what has ended and send out what waited for its place.  After every
 * curl_multi_socket_action: a transfer may end in any of them, and libcurl
 * does not remind.
 */
static void
drain(DtmHttp *http)
{
	CURLMsg *message;
	int left;
	bool any = false;

	while ((message = curl_multi_info_read(http->multi, &left)) != NULL)
	{
		CURLcode result = message->data.result;

		if (message->msg != CURLMSG_DONE)
			continue;
		if (!any)
			dtm_http_read_clock(http);
		any = true;
		end_call(http, slot_of(message->easy_handle)->entry, result);
	}
	if (http->multi_failed)
		end_all_calls(http);
	else if (http->some_unwatched)
		end_unwatched_calls(http);
	else if (!any)
		return;
	dtm_http_pump(http);
}

void
dtm_http_multi_timeout(DtmHttp *http)
{
	int running;

	http->deadline_us = -1; /* before: libcurl may set the next one inside */
	if (http->multi == NULL)
		return;
	if (curl_multi_socket_action(http->multi, CURL_SOCKET_TIMEOUT, 0, &running) != CURLM_OK)
		http->multi_failed = true;
	drain(http);
}
