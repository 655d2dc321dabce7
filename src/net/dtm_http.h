/* -------------------------------------------------------------------------
 *
 * dtm_http.h
 *		HTTP calls out, many at once, over libcurl's multi_socket interface
 *		and one epoll descriptor.
 *
 * Plain C: callbacks only move bytes into bounded buffers and append to a
 * list of ended calls.  Nothing waits here; the owner waits on the
 * descriptor and calls dtm_http_dispatch.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_HTTP_H
#define DTM_HTTP_H

#include "dtm_policy.h"

typedef struct DtmHttp DtmHttp;

typedef struct DtmHttpLimits
{
	int max_host_calls;  /* out at once to one host:port; further ones queue */
	int max_calls;       /* out at once in all; further ones queue */
	int max_host_queue;  /* waiting for slow hosts in all; further ones are postponed */
	size_t max_body;     /* bytes of an answer that are kept; the rest ends the call */
	const char *ca_file; /* PEM, or NULL for the system's */
} DtmHttpLimits;

/* Copied by dtm_http_start; the caller keeps nothing alive. */
typedef struct DtmHttpCall
{
	uint64_t tag; /* given back with the result */
	uint64_t tag2;
	const char *url;  /* NUL-terminated, complete */
	bool post;        /* else GET */
	const char *body; /* of a POST; may be NULL */
	size_t body_len;
	const char *const *headers; /* "Name: value", NUL-terminated */
	int n_headers;
	int timeout_ms; /* > 0; counted from when the call goes out, not queued */
} DtmHttpCall;

typedef enum DtmHttpError
{
	DTM_HTTP_OK, /* an answer was read */
	DTM_HTTP_TIMEOUT,
	DTM_HTTP_CONNECT,   /* refused, unreachable, name not resolved, TLS */
	DTM_HTTP_REFUSED,   /* dtm.allowed_targets forbids the resolved address */
	DTM_HTTP_TOO_LARGE, /* answer beyond max_body */
	DTM_HTTP_BROKEN,    /* connection lost or not HTTP */
	DTM_HTTP_POSTPONED  /* not tried: circuit open or queue full; see retry_after_ms */
} DtmHttpError;

typedef struct DtmHttpDone
{
	uint64_t tag;
	uint64_t tag2;
	DtmHttpError error;
	int status;       /* HTTP status when error is OK or TOO_LARGE (0 = headers) */
	const char *body; /* valid until dtm_http_release */
	size_t body_len;
	char message[256];  /* for people: "could not connect to ...", else "" */
	int retry_after_ms; /* of a postponed one: when it is worth asking again */
	int64_t queued_us;  /* time spent waiting for a place */
	int64_t took_us;    /* from going out to the end */
} DtmHttpDone;

/*
 * curl_global_init is done here (after the fork).  NULL when it cannot be had.
 * Without a policy (dtm_http_set_policy) every call ends as DTM_HTTP_REFUSED.
 */
extern DtmHttp *dtm_http_new(const DtmHttpLimits *limits);
extern void dtm_http_free(DtmHttp *http);

/*
 * Change limits and policy at run time (SIGHUP).  policy is borrowed until the
 * next set; calls that are out go on, but no connection made under the old
 * policy serves another call.  When memory is short the old limits stay.
 */
extern void dtm_http_set_limits(DtmHttp *http, const DtmHttpLimits *limits);
extern void dtm_http_set_policy(DtmHttp *http, const DtmPolicy *policy);

/* The epoll descriptor to wait on, readable when there is work. */
extern int dtm_http_fd(const DtmHttp *http);

/*
 * Milliseconds until dtm_http_dispatch and dtm_http_next_done must be called
 * anyway; -1 = no deadline.  0 while ended calls wait to be fetched, and after
 * dtm_http_start: the request itself is written by the next dispatch.
 */
extern int dtm_http_timeout_ms(const DtmHttp *http);

/*
 * Start (or queue behind the limits) a call.  Ends up in dtm_http_next_done
 * exactly once, unless cancelled.  DTM_INVALID, and no result, for a URL that
 * is not a well-formed http(s) one, a header that is not "Name: value" or has
 * a line end, too many headers, timeout_ms <= 0; DTM_NOMEM.
 *
 * Always sent: Accept, User-Agent, and for a POST Content-Type:
 * application/json, unless headers name their own.  Headers about the
 * connection and the length of the body (Content-Length, Transfer-Encoding,
 * Connection, Expect, ...) are left out.  Redirects are not followed, proxies
 * not used, certificates always verified.
 *
 * Start what there is to start, then dispatch once: requests written in a
 * row cost a fifth less CPU than one at a time (bench/http_loop.c).
 */
extern DtmRc dtm_http_start(DtmHttp *http, const DtmHttpCall *call) DTM_MUST_CHECK;

/*
 * Give up a call, queued, out, or ended and not fetched yet; no result will
 * come.  False when it is unknown.
 */
extern bool dtm_http_cancel(DtmHttp *http, uint64_t tag, uint64_t tag2);

/* Move bytes.  Call when the descriptor is readable or the deadline has passed. */
extern void dtm_http_dispatch(DtmHttp *http);

/* Next ended call, or NULL.  Asking for the next one releases the one before. */
extern DtmHttpDone *dtm_http_next_done(DtmHttp *http);
extern void dtm_http_release(DtmHttp *http, DtmHttpDone *done);

extern int dtm_http_calls_out(const DtmHttp *http);
extern int dtm_http_calls_queued(const DtmHttp *http);

/*
 * The circuit of a host ("host:port", the port always explicit).  It opens
 * after 5 failures in a row that say nothing about the request itself
 * (connect, time-out, broken, 502, 503, 504).  While it is open one call at
 * a time goes out as a probe, spaced by 1 s doubling to 30 s; every other
 * call, also those already queued, ends at once as DTM_HTTP_POSTPONED, so
 * that nothing piles up in memory.  Any other answer closes it.  What is our
 * own trouble (no memory, no descriptors, a forbidden address) does not count.
 * dtm_http_recovered gives the hosts that closed since the last call, one
 * per call, NULL when there is none (valid until the next call), so that
 * the owner can pull forward what waits for them.
 */
extern const char *dtm_http_recovered(DtmHttp *http);

#endif /* DTM_HTTP_H */
