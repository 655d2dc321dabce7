/* -------------------------------------------------------------------------
 *
 * dtm_http_internal.h
 *		What the files of the HTTP client share: dtm_http.c (interface),
 *		dtm_http_entry.c (one call's memory), dtm_http_host.c (queues and
 *		circuits), dtm_http_curl.c (libcurl), dtm_http_result.c (what an end
 *		means).
 *
 * Not for others.  A call, here an "entry", goes through
 *
 *	 queued --> out --> ended --> given
 *	   '----------------^
 *
 * and is a member of exactly one list at a time: its host's queue, http->out,
 * http->done, or none while the owner reads its result.  Only libcurl's part
 * knows about handles; only the host's part knows about circuits.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_HTTP_INTERNAL_H
#define DTM_HTTP_INTERNAL_H

#include <curl/curl.h>
#include <sys/socket.h>

#include "dtm_http.h"
#include "dtm_list.h"
#include "dtm_loop.h"

#define DTM_HTTP_MAX_HOSTS 4096
#define DTM_HTTP_HOST_BUCKETS 1024                 /* power of 2 */
#define DTM_HTTP_MAX_HEADERS (2 * DTM_MAX_HEADERS) /* of a step and of its transaction */
#define DTM_HTTP_MAX_ANSWER_HEAD (64 * 1024)       /* bytes of an answer's header lines */
#define DTM_HTTP_INLINE_BODY 192                   /* most answers are shorter: no second malloc */
#define DTM_HTTP_NAME_SIZE (DTM_MAX_URL_LEN + 16)  /* of "host:port" */

#define DTM_CIRCUIT_FAILURES 5    /* in a row open the circuit */
#define DTM_CIRCUIT_FIRST_MS 1000 /* until the first probe */
#define DTM_CIRCUIT_LAST_MS 30000 /* the longest pause between probes */
#define DTM_QUEUE_SLOW_US 300000  /* the first of a full queue waits that long: turn others away */
#define DTM_QUEUE_FULL_MS 1000    /* when to ask again after "queue is full" */

typedef struct DtmHttpHost DtmHttpHost;
typedef struct DtmHttpSlot DtmHttpSlot;

typedef enum DtmHttpState
{
	DTM_HTTP_QUEUED,
	DTM_HTTP_OUT,
	DTM_HTTP_ENDED,
	DTM_HTTP_GIVEN
} DtmHttpState;

/* What the end of a call says about its host. */
typedef enum DtmHttpSign
{
	DTM_HTTP_SIGN_NONE, /* nothing: our own trouble, or forbidden */
	DTM_HTTP_SIGN_ALIVE,
	DTM_HTTP_SIGN_DOWN
} DtmHttpSign;

/* One call: this struct and copies of all it needs in one block of memory. */
typedef struct DtmHttpEntry
{
	DtmLink link;                    /* host's queue, out or done */
	struct DtmHttpEntry *index_next; /* chain of http->index */
	DtmHttpState state;
	DtmHttpHost *host;
	DtmHttpSlot *slot; /* while out */
	char *url;
	DtmTarget target; /* points into url */
	bool post;
	const char *payload;
	size_t payload_len;
	struct curl_slist *headers; /* nodes lie in this block */
	int timeout_ms;
	int64_t queued_at_us;
	int64_t out_at_us;
	DtmHttpDone done;
	char *answer; /* inline_answer or malloc'ed */
	size_t answer_len;
	size_t answer_size;
	char inline_answer[DTM_HTTP_INLINE_BODY];
} DtmHttpEntry;

/* A host:port.  Calls to it wait in FIFO order. */
struct DtmHttpHost
{
	DtmHttpHost *bucket_next;
	DtmLink ready_link;     /* in http->ready: has a waiting call and a free place */
	DtmLink idle_link;      /* in http->idle: has no calls, may be recycled */
	DtmLink recovered_link; /* in http->recovered */
	DtmLink queue;
	int n_queued;
	int n_out;
	int failures;        /* in a row */
	bool open;           /* the circuit: true = calls do not flow */
	DtmHttpEntry *probe; /* queued or out, while open */
	int probe_pause_ms;
	int64_t next_probe_us;
	uint32_t hash;
	char name[]; /* "host:port", lower case, IPv6 in brackets */
};

/* An easy handle with its constant options set; reused from call to call. */
struct DtmHttpSlot
{
	DtmLink link; /* in http->free_slots, or alone */
	CURL *easy;
	DtmHttp *http;
	DtmHttpEntry *entry; /* while out */
	bool too_large;      /* why the write callback gave up */
	bool head_too_large;
	bool no_memory;
	bool unwatched;   /* the kernel does not watch its socket */
	bool refused;     /* an address was forbidden: the one in address */
	bool tried;       /* a socket was opened: for the one in address */
	int socket_errno; /* no socket could be had */
	struct sockaddr_storage address;
	size_t head_len;
	/* options as libcurl has them, so that only differences are set */
	int timeout_ms;
	size_t max_body;
	uint64_t ca_generation;
	bool no_reuse;
	char error[CURL_ERROR_SIZE];
};

struct DtmHttp
{
	DtmLoop *loop;
	CURLM *multi;
	const DtmPolicy *policy; /* borrowed; NULL forbids everything */
	DtmHttpLimits limits;
	char *ca_file; /* limits.ca_file points here */
	uint64_t ca_generation;
	int64_t deadline_us;     /* libcurl's; -1 = none, 0 = at once */
	int64_t shortened_at_us; /* when long queues were looked at */
	int64_t now_us;          /* monotonic clock, read once per entry into this module */
	bool multi_failed;       /* must be built anew before the next call */
	bool some_unwatched;     /* a slot has it */

	DtmLink out;
	int n_out;
	DtmLink done;
	DtmHttpEntry *given;
	int n_queued;
	DtmHttpEntry **index; /* live and ended entries by tag */
	size_t n_buckets;     /* power of 2 */
	size_t n_entries;

	DtmLink free_slots;
	int n_slots;
	bool *kept; /* by descriptor: a connection between two calls */
	int n_kept;

	DtmHttpHost *buckets[DTM_HTTP_HOST_BUCKETS];
	int n_hosts;
	DtmLink ready;
	DtmLink idle; /* the longest idle first */
	DtmLink recovered;
	char recovered_name[DTM_HTTP_NAME_SIZE];
};

/* dtm_http.c */

extern void dtm_http_read_clock(DtmHttp *http);

/*
 * A call that is in no list any more has ended (done.error and the message
 * are set): give it to the owner.
 */
extern void dtm_http_entry_ended(DtmHttp *http, DtmHttpEntry *entry);

/* Send out what waits and has a place. */
extern void dtm_http_pump(DtmHttp *http);

/* dtm_http_entry.c */

/* Check and copy a call.  DTM_NOMEM; DTM_INVALID when it cannot be sent safely. */
extern DtmRc dtm_http_entry_new(const DtmHttpCall *call, DtmHttpEntry **out) DTM_MUST_CHECK;
extern void dtm_http_entry_free(DtmHttpEntry *entry);

/* Append to the answer; false when memory is short. */
extern bool dtm_http_entry_append(DtmHttpEntry *entry, const char *data, size_t len);

/* Set the message for people, cut to fit, reduced to printable ASCII. */
extern void
dtm_http_say(DtmHttpEntry *entry, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* dtm_http_host.c */

extern void dtm_http_hosts_init(DtmHttp *http);
extern void dtm_http_hosts_free(DtmHttp *http);

/* The host of a call, made when new; DTM_LIMIT when all are busy. */
extern DtmRc
dtm_http_host_find(DtmHttp *http, const DtmTarget *target, DtmHttpHost **out) DTM_MUST_CHECK;

/* Queue a call behind its host, or end it as postponed. */
extern void dtm_http_host_admit(DtmHttp *http, DtmHttpHost *host, DtmHttpEntry *entry);

/* The next call that may go out, taken from its queue and counted; NULL: none may. */
extern DtmHttpEntry *dtm_http_host_next(DtmHttp *http);

/* A queued call is given up. */
extern void dtm_http_host_drop(DtmHttp *http, DtmHttpEntry *entry);

/* A call that was out is not any more. */
extern void dtm_http_host_back(DtmHttp *http, DtmHttpEntry *entry, DtmHttpSign sign);

/* The limits have changed. */
extern void dtm_http_hosts_review(DtmHttp *http);

/* Postpone what waits for slow hosts beyond max_host_queue. */
extern void dtm_http_hosts_shorten(DtmHttp *http);

/* dtm_http_curl.c */

/* Build the multi handle; false when it cannot be had. */
extern bool dtm_http_multi_open(DtmHttp *http);

/* End all handles and connections; no call may be out. */
extern void dtm_http_multi_close(DtmHttp *http);
extern void dtm_http_multi_limits(DtmHttp *http);

/* The policy has changed: no connection made before serves another call. */
extern void dtm_http_multi_disown_connections(DtmHttp *http);

/* Send a call out.  False when that failed; the reason is in entry->done. */
extern bool dtm_http_slot_start(DtmHttp *http, DtmHttpEntry *entry) DTM_MUST_CHECK;

/* Take a call back that is out, without a result. */
extern void dtm_http_slot_stop(DtmHttp *http, DtmHttpEntry *entry);

/* Let libcurl work on its deadlines. */
extern void dtm_http_multi_timeout(DtmHttp *http);

/* dtm_http_result.c */

/* Fill in error, status and message of a call that is out and has ended. */
extern DtmHttpSign dtm_http_judge(DtmHttpEntry *entry, CURLcode result);

#endif /* DTM_HTTP_INTERNAL_H */
