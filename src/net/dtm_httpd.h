/* -------------------------------------------------------------------------
 *
 * dtm_httpd.h
 *		An HTTP/1.1 server over libmicrohttpd and one epoll descriptor.
 *
 * A request whose end another reader of its headers could see elsewhere
 * (Content-Length twice, or with Transfer-Encoding, ...) is refused with 400
 * and its connection closed: a proxy in front may be such a reader.
 *
 * Plain C, no threads.  Complete requests are queued; the owner fetches them
 * and answers each when it likes, in the same tick or seconds later: until
 * then its connection is suspended and costs memory only.  Nothing waits
 * here; the owner waits on the descriptor and calls dtm_httpd_dispatch.
 *
 * Not here: what a request means (dtm_api.h), who may ask, TLS.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_HTTPD_H
#define DTM_HTTPD_H

#include "dtm_types.h"

typedef struct DtmHttpd DtmHttpd;

/*
 * Bounds on what clients can make us hold.  Whatever happens, memory is at
 * most max_connections * (max_head + a little) + max_bodies + max_answers +
 * the short answers.
 * When a bound is reached the client is told, and nobody else notices.
 */
typedef struct DtmHttpdLimits
{
	size_t max_head;     /* bytes of request line and headers (431, 414); fixed by the open */
	size_t max_body;     /* bytes of one body (413) */
	size_t max_bodies;   /* bytes of all bodies that are held (503) */
	size_t max_answers;  /* bytes of long answers that clients have not taken (503); 0 = any */
	int max_connections; /* a new one takes the place of one that is idle, else 503 */
	int max_address_connections; /* from one address (503); 0 = as many as there are */
	int max_queue;               /* complete requests that nobody has fetched yet (503) */
	int idle_ms;                 /* without a request: closed */
	int read_ms;                 /* from request line to the end of the body (408) */
	int write_ms;                /* until the client has taken its answer: closed */
	int retry_after_s;           /* sent with 503 */
} DtmHttpdLimits;

/* How the port is taken. */
typedef enum DtmHttpdShare
{
	DTM_HTTPD_FIRST, /* nobody listens there yet; others may join afterwards */
	DTM_HTTPD_JOIN   /* beside others of the same user, by SO_REUSEPORT */
} DtmHttpdShare;

/*
 * A complete request.  It and all that it points to are valid until it is
 * answered or dropped, or the server closed.
 */
typedef struct DtmHttpdRequest
{
	const char *method;        /* as it came; longer ones are cut at 15 bytes */
	const char *uri;           /* as it came, with its query string, percent encoded */
	const char *authorization; /* value of that header, "" when it is too long, or NULL */
	const char *peer;          /* "127.0.0.1:53211", "[::1]:53211" */
	const char *body;          /* "" when there is none; a NUL is put behind */
	size_t body_len;
	int64_t arrived_us; /* CLOCK_MONOTONIC, when it was complete */
	bool gone;          /* its client has closed, or half closed, the connection */

	/* what its headers give away about who has sent it, for those that bring no authorization */
	bool from_page; /* a page in a browser: Origin, or Sec-Fetch-Site other than "none" */
	bool by_domain; /* Host is a name with a dot in it, neither an address nor localhost */
	bool relayed;   /* a proxy: Forwarded, X-Forwarded-For or Via; its peer is not the client */
	void *owner;    /* for whoever fetched it; NULL at first */
} DtmHttpdRequest;

typedef struct DtmHttpdCounts
{
	int connections;  /* open */
	int queued;       /* requests to be fetched */
	int waiting;      /* requests fetched and not answered */
	size_t bodies;    /* bytes held */
	size_t answers;   /* bytes of answers that are not taken yet */
	int64_t requests; /* since the open: queued */
	int64_t refused;  /* since the open: 400, 408, 413, 503 of ours, and connections not taken */
} DtmHttpdCounts;

/*
 * Listen on an address ("127.0.0.1", "::1", "0.0.0.0", "::"; no names, "*"
 * is "0.0.0.0") and a port (0 = any that is free).  NULL with a message in
 * error (of error_size bytes), such as: could not listen on 127.0.0.1:36789:
 * Address already in use.  *taken (unless NULL) is whether it was that: then
 * it is worth trying again later.
 */
extern DtmHttpd *
dtm_httpd_open(const char *address, int port, DtmHttpdShare share, const DtmHttpdLimits *limits,
			   bool *taken, char *error, size_t error_size);

/* Close every connection, answered or not, and free everything.  NULL is fine. */
extern void dtm_httpd_close(DtmHttpd *httpd);

/* The port that is listened on. */
extern int dtm_httpd_port(const DtmHttpd *httpd);

/* Change limits at run time (SIGHUP); max_head stays. */
extern void dtm_httpd_set_limits(DtmHttpd *httpd, const DtmHttpdLimits *limits);

/*
 * Take no new connections, close those that are idle, and the others after
 * their answer.  The counts tell when all are gone.
 */
extern void dtm_httpd_stop(DtmHttpd *httpd);

/* The epoll descriptor to wait on, readable when there is work. */
extern int dtm_httpd_fd(const DtmHttpd *httpd);

/*
 * Milliseconds until dtm_httpd_dispatch must be called anyway; -1 = no
 * deadline.  0 while requests wait to be fetched.
 */
extern int dtm_httpd_timeout_ms(const DtmHttpd *httpd);

/* Move bytes.  Call when the descriptor is readable or the deadline has passed. */
extern void dtm_httpd_dispatch(DtmHttpd *httpd);

/*
 * The next complete request, or NULL.  From then on it is the owner's, until
 * exactly one of dtm_httpd_answer and dtm_httpd_drop.
 */
extern DtmHttpdRequest *dtm_httpd_next_request(DtmHttpd *httpd);

/*
 * The next fetched request whose client has gone, each once; NULL when there
 * is none.  It is still the owner's.  Answering it is harmless, and right
 * when the work is done anyway: a client may have closed its sending half only.
 */
extern DtmHttpdRequest *dtm_httpd_next_gone(DtmHttpd *httpd);

/*
 * Answer.  content_type NULL: none.  body is copied; a long one for which
 * max_answers has no room becomes a 503.  WWW-Authenticate goes
 * with 401, Retry-After with 429 and 503.  When memory is short, DTM_NOMEM:
 * the connection is closed.  The request is no more, in either case.
 */
extern DtmRc dtm_httpd_answer(DtmHttpd *httpd, DtmHttpdRequest *request, int status,
							  const char *content_type, const char *body, size_t body_len);

/* Close the connection without an answer; the request is no more. */
extern void dtm_httpd_drop(DtmHttpd *httpd, DtmHttpdRequest *request);

/* Drop every request, fetched or not: the owner must not touch any afterwards. */
extern void dtm_httpd_drop_all(DtmHttpd *httpd);

extern DtmHttpdCounts dtm_httpd_counts(const DtmHttpd *httpd);

/*
 * Whom libmicrohttpd tells that its memory is broken.  The function must end
 * the process; without it libmicrohttpd does so by a signal.  For all servers
 * of the process.
 */
extern void dtm_httpd_on_panic(void (*handler)(const char *message));

#endif /* DTM_HTTPD_H */
