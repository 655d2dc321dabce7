/* -------------------------------------------------------------------------
 *
 * dtm_http.c
 *		HTTP calls out: the interface, and the index of calls by tag.
 *
 * Runs in the coordinator.  Which call may go out is decided in
 * dtm_http_host.c; how it goes out in dtm_http_curl.c.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_http_internal.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FIRST_BUCKETS 256

/* How often one dispatch may go round when calls start and end at once. */
#define MAX_ROUNDS 4

/* ---- the index ---- */

static size_t
bucket_of(uint64_t tag, uint64_t tag2, size_t n_buckets)
{
	uint64_t both = tag ^ tag2 * UINT64_C(0x9E3779B97F4A7C15);

	return (size_t) (both * UINT64_C(0xBF58476D1CE4E5B9) >> 32) & (n_buckets - 1);
}

/* Without memory for more buckets the chains grow longer, nothing else. */
static void
index_grow(DtmHttp *http)
{
	size_t n_buckets = http->n_buckets * 2;
	DtmHttpEntry **buckets = calloc(n_buckets, sizeof(DtmHttpEntry *));

	if (buckets == NULL)
		return;
	for (size_t i = 0; i < http->n_buckets; i++)
	{
		DtmHttpEntry *entry;

		while ((entry = http->index[i]) != NULL)
		{
			size_t to = bucket_of(entry->done.tag, entry->done.tag2, n_buckets);

			http->index[i] = entry->index_next;
			entry->index_next = buckets[to];
			buckets[to] = entry;
		}
	}
	free(http->index);
	http->index = buckets;
	http->n_buckets = n_buckets;
}

static void
index_add(DtmHttp *http, DtmHttpEntry *entry)
{
	size_t bucket;

	if (http->n_entries >= http->n_buckets)
		index_grow(http);
	bucket = bucket_of(entry->done.tag, entry->done.tag2, http->n_buckets);
	entry->index_next = http->index[bucket];
	http->index[bucket] = entry;
	http->n_entries++;
}

/* Take an entry out of the index: this one, or with NULL any that has the tags. */
static DtmHttpEntry *
index_take(DtmHttp *http, DtmHttpEntry *wanted, uint64_t tag, uint64_t tag2)
{
	DtmHttpEntry **place = &http->index[bucket_of(tag, tag2, http->n_buckets)];

	for (; *place != NULL; place = &(*place)->index_next)
	{
		DtmHttpEntry *entry = *place;

		if (wanted != NULL ? entry == wanted : entry->done.tag == tag && entry->done.tag2 == tag2)
		{
			*place = entry->index_next;
			http->n_entries--;
			return entry;
		}
	}
	return NULL;
}

/* ---- making and ending ---- */

void
dtm_http_read_clock(DtmHttp *http)
{
	struct timespec ts;

	(void) clock_gettime(CLOCK_MONOTONIC, &ts);
	http->now_us = (int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* Copy limits, each within what makes sense.  False when memory is short. */
static bool
take_limits(DtmHttp *http, const DtmHttpLimits *limits)
{
	const char *old = http->ca_file ? http->ca_file : "";
	const char *new = limits->ca_file ? limits->ca_file : "";
	char *copy = NULL;

	if (strcmp(old, new) != 0)
	{
		if (*new != '\0' && (copy = strdup(new)) == NULL)
			return false;
		free(http->ca_file);
		http->ca_file = copy;
		http->ca_generation++;
	}
	http->limits = *limits;
	http->limits.ca_file = http->ca_file;
	if (http->limits.max_calls < 1)
		http->limits.max_calls = 1;
	if (http->limits.max_host_calls < 1)
		http->limits.max_host_calls = 1;
	if (http->limits.max_host_queue < 0)
		http->limits.max_host_queue = 0;
	if (http->limits.max_body < 1)
		http->limits.max_body = 1; /* 0 means "no limit" to libcurl */
	return true;
}

DtmHttp *
dtm_http_new(const DtmHttpLimits *limits)
{
	DtmHttp *http;

	/* counted by libcurl: dtm_http_free gives it back */
	if (curl_global_init(CURL_GLOBAL_ALL) != CURLE_OK)
		return NULL;
	http = calloc(1, sizeof(DtmHttp));
	if (http == NULL)
	{
		curl_global_cleanup();
		return NULL;
	}
	dtm_list_init(&http->out);
	dtm_list_init(&http->done);
	dtm_list_init(&http->free_slots);
	dtm_http_hosts_init(http);
	http->deadline_us = -1;
	http->n_buckets = FIRST_BUCKETS;
	http->index = calloc(http->n_buckets, sizeof(DtmHttpEntry *));
	http->loop = dtm_loop_new();
	if (http->index == NULL || http->loop == NULL || !take_limits(http, limits) ||
		!dtm_http_multi_open(http))
	{
		dtm_http_free(http);
		return NULL;
	}
	return http;
}

void
dtm_http_free(DtmHttp *http)
{
	DtmLink *link;

	if (http == NULL)
		return;
	while ((link = dtm_list_pop_head(&http->out)) != NULL)
	{
		DtmHttpEntry *entry = dtm_list_entry(link, DtmHttpEntry, link);

		dtm_http_slot_stop(http, entry);
		dtm_http_entry_free(entry);
	}
	while ((link = dtm_list_pop_head(&http->done)) != NULL)
		dtm_http_entry_free(dtm_list_entry(link, DtmHttpEntry, link));
	dtm_http_entry_free(http->given);
	dtm_http_hosts_free(http);
	dtm_http_multi_close(http);
	dtm_loop_free(http->loop); /* after the connections: closing them asks for it */
	free(http->kept);
	free(http->index);
	free(http->ca_file);
	free(http);
	curl_global_cleanup();
}

/* When memory is short the old limits stay. */
void
dtm_http_set_limits(DtmHttp *http, const DtmHttpLimits *limits)
{
	if (!take_limits(http, limits))
		return;
	dtm_http_read_clock(http);
	dtm_http_multi_limits(http);
	dtm_http_hosts_review(http);
	dtm_http_pump(http);
}

void
dtm_http_set_policy(DtmHttp *http, const DtmPolicy *policy)
{
	http->policy = policy;
	dtm_http_multi_disown_connections(http);
}

/* ---- calls ---- */

void
dtm_http_entry_ended(DtmHttp *http, DtmHttpEntry *entry)
{
	DtmHttpDone *done = &entry->done;

	if (entry->out_at_us != 0)
	{
		done->queued_us = entry->out_at_us - entry->queued_at_us;
		done->took_us = http->now_us - entry->out_at_us;
	}
	else
		done->queued_us = http->now_us - entry->queued_at_us;
	done->body = entry->answer;
	done->body_len = done->error == DTM_HTTP_OK ? entry->answer_len : 0;
	entry->state = DTM_HTTP_ENDED;
	dtm_list_push_tail(&http->done, &entry->link);
}

void
dtm_http_pump(DtmHttp *http)
{
	DtmHttpEntry *entry;

	while ((entry = dtm_http_host_next(http)) != NULL)
	{
		entry->out_at_us = http->now_us;
		if (dtm_http_slot_start(http, entry))
		{
			entry->state = DTM_HTTP_OUT;
			dtm_list_push_tail(&http->out, &entry->link);
			continue;
		}
		dtm_http_entry_ended(http, entry);
		dtm_http_host_back(http, entry, DTM_HTTP_SIGN_NONE);
	}
}

DtmRc
dtm_http_start(DtmHttp *http, const DtmHttpCall *call)
{
	DtmHttpEntry *entry;
	DtmHttpHost *host;
	DtmRc rc = dtm_http_entry_new(call, &entry);

	if (rc != DTM_OK)
		return rc;
	rc = dtm_http_host_find(http, &entry->target, &host);
	if (rc != DTM_OK && rc != DTM_LIMIT)
	{
		dtm_http_entry_free(entry);
		return rc;
	}
	dtm_http_read_clock(http);
	entry->queued_at_us = http->now_us;
	index_add(http, entry);
	if (rc == DTM_LIMIT)
	{
		entry->done.error = DTM_HTTP_POSTPONED;
		entry->done.retry_after_ms = DTM_QUEUE_FULL_MS;
		dtm_http_say(entry, "calls to %d other hosts are under way", DTM_HTTP_MAX_HOSTS);
		dtm_http_entry_ended(http, entry);
		return DTM_OK;
	}
	dtm_http_host_admit(http, host, entry);
	dtm_http_pump(http);
	return DTM_OK;
}

bool
dtm_http_cancel(DtmHttp *http, uint64_t tag, uint64_t tag2)
{
	DtmHttpEntry *entry = index_take(http, NULL, tag, tag2);

	if (entry == NULL)
		return false;
	dtm_http_read_clock(http);
	if (entry->state == DTM_HTTP_QUEUED)
		dtm_http_host_drop(http, entry);
	else if (entry->state == DTM_HTTP_OUT)
	{
		dtm_list_remove(&entry->link);
		dtm_http_slot_stop(http, entry);
		dtm_http_host_back(http, entry, DTM_HTTP_SIGN_NONE);
	}
	else
		dtm_list_remove(&entry->link);
	dtm_http_entry_free(entry);
	dtm_http_pump(http);
	return true;
}

/*
 * Signals are blocked meanwhile: libcurl may start a thread to resolve a
 * name, which inherits the mask, and no handler of the server may run in
 * such a thread.  Two system calls per dispatch, not per call.
 */
void
dtm_http_dispatch(DtmHttp *http)
{
	sigset_t all;
	sigset_t before;

	(void) sigfillset(&all);
	(void) pthread_sigmask(SIG_SETMASK, &all, &before);
	(void) dtm_loop_dispatch(http->loop);
	dtm_http_read_clock(http);
	for (int round = 0; round < MAX_ROUNDS; round++)
	{
		if (http->deadline_us < 0 || http->deadline_us > http->now_us)
			break;
		dtm_http_multi_timeout(http);
	}
	(void) pthread_sigmask(SIG_SETMASK, &before, NULL);

	if (http->n_queued > http->limits.max_host_queue &&
		http->now_us - http->shortened_at_us >= DTM_QUEUE_SLOW_US)
	{
		dtm_http_hosts_shorten(http);
		http->shortened_at_us = http->now_us;
	}
}

int
dtm_http_fd(const DtmHttp *http)
{
	return dtm_loop_fd(http->loop);
}

int
dtm_http_timeout_ms(const DtmHttp *http)
{
	struct timespec ts;
	int64_t left_us;
	int longest_ms = -1;

	if (!dtm_list_is_empty(&http->done))
		return 0;
	if (http->deadline_us == 0)
		return 0;
	if (http->n_queued > http->limits.max_host_queue)
		longest_ms = DTM_QUEUE_SLOW_US / 1000; /* to look whether their host is slow */
	if (http->deadline_us < 0)
		return longest_ms;
	(void) clock_gettime(CLOCK_MONOTONIC, &ts);
	left_us = http->deadline_us - ((int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000);
	if (left_us <= 0)
		return 0;
	left_us = (left_us + 999) / 1000;
	return longest_ms >= 0 && longest_ms < left_us ? longest_ms : (int) left_us;
}

DtmHttpDone *
dtm_http_next_done(DtmHttp *http)
{
	DtmLink *link;

	if (http->given != NULL)
		dtm_http_release(http, &http->given->done);
	link = dtm_list_pop_head(&http->done);
	if (link == NULL)
		return NULL;
	http->given = dtm_list_entry(link, DtmHttpEntry, link);
	http->given->state = DTM_HTTP_GIVEN;
	(void) index_take(http, http->given, http->given->done.tag, http->given->done.tag2);
	return &http->given->done;
}

void
dtm_http_release(DtmHttp *http, DtmHttpDone *done)
{
	if (http->given == NULL || done != &http->given->done)
		return;
	dtm_http_entry_free(http->given);
	http->given = NULL;
}

int
dtm_http_calls_out(const DtmHttp *http)
{
	return http->n_out;
}

int
dtm_http_calls_queued(const DtmHttp *http)
{
	return http->n_queued;
}
