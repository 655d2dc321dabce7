/* -------------------------------------------------------------------------
 *
 * dtm_http_host.c
 *		Hosts of the HTTP client: queues, limits, circuits.
 *
 * Runs in the coordinator.  No libcurl here, and no I/O: which call may go
 * out next is decided from counters and the clock value in http->now_us.
 *
 * Fairness: calls to one host go out in the order they came; hosts with a
 * waiting call and a free place take turns (http->ready), so that a host
 * with a long queue takes no more of max_calls than any other.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_http_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How far into the list of idle hosts to look for one whose loss costs nothing. */
#define RECYCLE_SEARCH 64

void
dtm_http_hosts_init(DtmHttp *http)
{
	dtm_list_init(&http->ready);
	dtm_list_init(&http->idle);
	dtm_list_init(&http->recovered);
}

/* Queued calls are freed with their hosts. */
void
dtm_http_hosts_free(DtmHttp *http)
{
	for (int i = 0; i < DTM_HTTP_HOST_BUCKETS; i++)
	{
		DtmHttpHost *host;

		while ((host = http->buckets[i]) != NULL)
		{
			DtmLink *link;

			while ((link = dtm_list_pop_head(&host->queue)) != NULL)
				dtm_http_entry_free(dtm_list_entry(link, DtmHttpEntry, link));
			http->buckets[i] = host->bucket_next;
			free(host);
		}
	}
}

/* Write "host:port" in lower case; its length, 0 when it does not fit. */
static size_t
host_name(const DtmTarget *target, char *name, size_t size)
{
	bool is_ipv6 = memchr(target->host.data, ':', target->host.len) != NULL;
	int len = snprintf(name, size, "%s%.*s%s:%u", is_ipv6 ? "[" : "", (int) target->host.len,
					   target->host.data, is_ipv6 ? "]" : "", (unsigned int) target->port);

	if (len < 0 || (size_t) len >= size)
		return 0;
	for (char *p = name; *p != '\0'; p++)
	{
		if (*p >= 'A' && *p <= 'Z')
			*p = (char) (*p - 'A' + 'a');
	}
	return (size_t) len;
}

/* FNV-1a */
static uint32_t
hash_name(const char *name)
{
	uint32_t hash = 2166136261u;

	for (; *name != '\0'; name++)
		hash = (hash ^ (unsigned char) *name) * 16777619u;
	return hash;
}

/* Put the host into the lists it belongs to by its counters. */
static void
settle(DtmHttp *http, DtmHttpHost *host)
{
	bool ready = host->n_queued > 0 && host->n_out < http->limits.max_host_calls;
	bool idle = host->n_queued == 0 && host->n_out == 0 && dtm_list_is_empty(&host->recovered_link);

	if (ready != !dtm_list_is_empty(&host->ready_link))
	{
		if (ready)
			dtm_list_push_tail(&http->ready, &host->ready_link);
		else
			dtm_list_remove(&host->ready_link);
	}
	if (idle != !dtm_list_is_empty(&host->idle_link))
	{
		if (idle)
			dtm_list_push_tail(&http->idle, &host->idle_link);
		else
			dtm_list_remove(&host->idle_link);
	}
}

/*
 * Forget an idle host, best one without failures.  When only failing ones
 * are idle the oldest goes: its circuit has to open anew, which is better
 * than to refuse a new host.  False when none is idle.
 */
static bool
recycle_one(DtmHttp *http)
{
	DtmHttpHost *victim = NULL;
	DtmHttpHost **place;
	int looked = 0;

	for (DtmLink *link = http->idle.next; link != &http->idle && looked < RECYCLE_SEARCH;
		 link = link->next, looked++)
	{
		DtmHttpHost *host = dtm_list_entry(link, DtmHttpHost, idle_link);

		if (victim == NULL || host->failures == 0)
			victim = host;
		if (host->failures == 0)
			break;
	}
	if (victim == NULL)
		return false;
	place = &http->buckets[victim->hash % DTM_HTTP_HOST_BUCKETS];
	while (*place != victim)
		place = &(*place)->bucket_next;
	*place = victim->bucket_next;
	dtm_list_remove(&victim->idle_link);
	free(victim);
	http->n_hosts--;
	return true;
}

DtmRc
dtm_http_host_find(DtmHttp *http, const DtmTarget *target, DtmHttpHost **out)
{
	char name[DTM_HTTP_NAME_SIZE];
	size_t len = host_name(target, name, sizeof(name));
	uint32_t hash;
	DtmHttpHost *host;

	if (len == 0)
		return DTM_INVALID;
	hash = hash_name(name);
	for (host = http->buckets[hash % DTM_HTTP_HOST_BUCKETS]; host; host = host->bucket_next)
	{
		if (host->hash == hash && strcmp(host->name, name) == 0)
		{
			*out = host;
			return DTM_OK;
		}
	}
	if (http->n_hosts >= DTM_HTTP_MAX_HOSTS && !recycle_one(http))
		return DTM_LIMIT;
	host = calloc(1, sizeof(DtmHttpHost) + len + 1);
	if (host == NULL)
		return DTM_NOMEM;
	dtm_list_init(&host->ready_link);
	dtm_list_init(&host->idle_link);
	dtm_list_init(&host->recovered_link);
	dtm_list_init(&host->queue);
	host->hash = hash;
	memcpy(host->name, name, len + 1);
	host->bucket_next = http->buckets[hash % DTM_HTTP_HOST_BUCKETS];
	http->buckets[hash % DTM_HTTP_HOST_BUCKETS] = host;
	http->n_hosts++;
	settle(http, host);
	*out = host;
	return DTM_OK;
}

/* End a call that is in no list because the circuit is open. */
static void
postpone_by_circuit(DtmHttp *http, DtmHttpEntry *entry)
{
	DtmHttpHost *host = entry->host;

	entry->done.error = DTM_HTTP_POSTPONED;
	if (host->probe != NULL)
	{
		/* its end will tell; when it is good, dtm_http_recovered says so earlier */
		entry->done.retry_after_ms = host->probe_pause_ms;
		dtm_http_say(entry, "host %.160s failed %d times in a row; a probe is out", host->name,
					 host->failures);
	}
	else
	{
		int64_t left_ms = (host->next_probe_us - http->now_us + 999) / 1000;

		entry->done.retry_after_ms = left_ms < 1 ? 1 : (int) left_ms;
		dtm_http_say(entry, "host %.160s failed %d times in a row; next probe in %d s", host->name,
					 host->failures, (entry->done.retry_after_ms + 999) / 1000);
	}
	dtm_http_entry_ended(http, entry);
}

/*
 * A long queue alone is no reason to turn calls away: a fast host works it
 * off in milliseconds.  It is when the first in it waits for long.
 */
static bool
is_slow(const DtmHttp *http, const DtmHttpHost *host)
{
	const DtmHttpEntry *first;

	if (dtm_list_is_empty(&host->queue))
		return http->limits.max_host_queue == 0 && host->n_out >= http->limits.max_host_calls;
	first = dtm_list_entry(host->queue.next, DtmHttpEntry, link);
	return http->now_us - first->queued_at_us >= DTM_QUEUE_SLOW_US;
}

/* End a call that is in no list because the queue of its host is long enough. */
static void
turn_away(DtmHttp *http, DtmHttpEntry *entry)
{
	entry->done.error = DTM_HTTP_POSTPONED;
	entry->done.retry_after_ms = DTM_QUEUE_FULL_MS;
	dtm_http_say(entry, "%d calls are waiting for host %.160s already", entry->host->n_queued,
				 entry->host->name);
	dtm_http_entry_ended(http, entry);
}

/* They came before their hosts proved to be slow: the newest go back, to an even share for each. */
void
dtm_http_hosts_shorten(DtmHttp *http)
{
	int n_slow = 0;
	int share;

	for (int i = 0; i < DTM_HTTP_HOST_BUCKETS; i++)
	{
		for (DtmHttpHost *host = http->buckets[i]; host != NULL; host = host->bucket_next)
			n_slow += !host->open && is_slow(http, host);
	}
	if (n_slow == 0)
		return;
	share = http->limits.max_host_queue / n_slow;
	for (int i = 0; i < DTM_HTTP_HOST_BUCKETS; i++)
	{
		for (DtmHttpHost *host = http->buckets[i]; host != NULL; host = host->bucket_next)
		{
			if (host->open || !is_slow(http, host))
				continue;
			while (host->n_queued > share)
			{
				DtmLink *link = host->queue.prev;

				dtm_list_remove(link);
				host->n_queued--;
				http->n_queued--;
				turn_away(http, dtm_list_entry(link, DtmHttpEntry, link));
			}
			settle(http, host);
		}
	}
}

void
dtm_http_host_admit(DtmHttp *http, DtmHttpHost *host, DtmHttpEntry *entry)
{
	entry->host = host;
	if (host->open)
	{
		if (host->probe != NULL || http->now_us < host->next_probe_us)
		{
			postpone_by_circuit(http, entry);
			return;
		}
		host->probe = entry;
	}
	else if (http->n_queued >= http->limits.max_host_queue && is_slow(http, host))
	{
		turn_away(http, entry);
		return;
	}
	entry->state = DTM_HTTP_QUEUED;
	dtm_list_push_tail(&host->queue, &entry->link);
	host->n_queued++;
	http->n_queued++;
	settle(http, host);
}

DtmHttpEntry *
dtm_http_host_next(DtmHttp *http)
{
	DtmLink *link;
	DtmHttpHost *host;
	DtmHttpEntry *entry;

	if (http->n_out >= http->limits.max_calls)
		return NULL;
	link = dtm_list_pop_head(&http->ready);
	if (link == NULL)
		return NULL;
	host = dtm_list_entry(link, DtmHttpHost, ready_link);
	entry = dtm_list_entry(dtm_list_pop_head(&host->queue), DtmHttpEntry, link);
	host->n_queued--;
	http->n_queued--;
	host->n_out++;
	http->n_out++;
	settle(http, host); /* behind the other ready hosts */
	return entry;
}

void
dtm_http_host_drop(DtmHttp *http, DtmHttpEntry *entry)
{
	DtmHttpHost *host = entry->host;

	dtm_list_remove(&entry->link);
	host->n_queued--;
	http->n_queued--;
	if (host->probe == entry)
		host->probe = NULL;
	settle(http, host);
}

/* Nothing shall pile up behind a host that does not answer. */
static void
open_circuit(DtmHttp *http, DtmHttpHost *host)
{
	DtmLink *link;

	host->open = true;
	host->probe_pause_ms = DTM_CIRCUIT_FIRST_MS;
	host->next_probe_us = http->now_us + (int64_t) DTM_CIRCUIT_FIRST_MS * 1000;
	while ((link = dtm_list_pop_head(&host->queue)) != NULL)
	{
		host->n_queued--;
		http->n_queued--;
		postpone_by_circuit(http, dtm_list_entry(link, DtmHttpEntry, link));
	}
}

static void
host_is_down(DtmHttp *http, DtmHttpHost *host, bool was_probe)
{
	host->failures++;
	if (!host->open && host->failures >= DTM_CIRCUIT_FAILURES)
		open_circuit(http, host);
	else if (host->open && was_probe)
	{
		/* calls that were out before the circuit opened do not stretch the pause */
		host->probe_pause_ms = host->probe_pause_ms * 2 < DTM_CIRCUIT_LAST_MS
			? host->probe_pause_ms * 2
			: DTM_CIRCUIT_LAST_MS;
		host->next_probe_us = http->now_us + (int64_t) host->probe_pause_ms * 1000;
	}
}

static void
host_is_alive(DtmHttp *http, DtmHttpHost *host)
{
	host->failures = 0;
	if (!host->open)
		return;
	host->open = false;
	host->probe = NULL; /* one that is still queued is a call like others now */
	if (dtm_list_is_empty(&host->recovered_link))
		dtm_list_push_tail(&http->recovered, &host->recovered_link);
}

void
dtm_http_host_back(DtmHttp *http, DtmHttpEntry *entry, DtmHttpSign sign)
{
	DtmHttpHost *host = entry->host;
	bool was_probe = host->probe == entry;

	host->n_out--;
	http->n_out--;
	if (was_probe)
		host->probe = NULL;
	if (sign == DTM_HTTP_SIGN_DOWN)
		host_is_down(http, host, was_probe);
	else if (sign == DTM_HTTP_SIGN_ALIVE)
		host_is_alive(http, host);
	settle(http, host);
}

void
dtm_http_hosts_review(DtmHttp *http)
{
	for (int i = 0; i < DTM_HTTP_HOST_BUCKETS; i++)
	{
		for (DtmHttpHost *host = http->buckets[i]; host != NULL; host = host->bucket_next)
			settle(http, host);
	}
}

const char *
dtm_http_recovered(DtmHttp *http)
{
	DtmLink *link = dtm_list_pop_head(&http->recovered);
	DtmHttpHost *host;

	if (link == NULL)
		return NULL;
	host = dtm_list_entry(link, DtmHttpHost, recovered_link);
	(void) snprintf(http->recovered_name, sizeof(http->recovered_name), "%s", host->name);
	settle(http, host);
	return http->recovered_name;
}
