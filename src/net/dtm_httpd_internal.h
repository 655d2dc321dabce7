/* -------------------------------------------------------------------------
 *
 * dtm_httpd_internal.h
 *		What the files of the HTTP server share: dtm_httpd.c (interface and
 *		deadlines), dtm_httpd_request.c (one request, between libmicrohttpd and
 *		the owner), dtm_httpd_socket.c (listening and accepting).
 *
 * Not for others.  A connection goes through
 *
 *	 idle --> reading --> waiting --> writing --.
 *	   ^---------------------------------------'
 *
 * and is a member of the list of its state, in the order in which it got
 * there: so the first of each list has the nearest deadline.  One that we
 * ended is "cut": libmicrohttpd still has to notice and close it.
 *
 * libmicrohttpd's own time-out starts anew with every byte, so that a client
 * which sends one each second could stay for ever; it is not used.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_HTTPD_INTERNAL_H
#define DTM_HTTPD_INTERNAL_H

#include <microhttpd.h>
#include <sys/socket.h>

#include "dtm_httpd.h"
#include "dtm_list.h"
#include "dtm_loop.h"

#define DTM_HTTPD_METHOD_SIZE 16
#define DTM_HTTPD_PEER_SIZE 64
#define DTM_HTTPD_MAX_AUTHORIZATION 4096

typedef enum DtmHttpdState
{
	DTM_HTTPD_IDLE,
	DTM_HTTPD_READING,
	DTM_HTTPD_WAITING, /* for the owner: no deadline */
	DTM_HTTPD_WRITING,
	DTM_HTTPD_CUT,
	DTM_HTTPD_STATES
} DtmHttpdState;

typedef struct DtmHttpdEntry DtmHttpdEntry;

/* A connection that was turned away, until its client has read why. */
typedef struct DtmHttpdTurned
{
	DtmLink link; /* in httpd->turned */
	struct DtmHttpd *httpd;
	int fd;
	int64_t since_us;
} DtmHttpdTurned;

typedef struct DtmHttpdConnection
{
	DtmLink link; /* in httpd->connections[state] */
	DtmHttpd *httpd;
	struct MHD_Connection *mhd;
	int fd;
	DtmHttpdState state;
	int64_t since_us;       /* in this state */
	DtmHttpdEntry *entry;   /* the request, but for an idle one */
	unsigned char addr[16]; /* as IPv6 */
	char peer[DTM_HTTPD_PEER_SIZE];
} DtmHttpdConnection;

/* One request. */
struct DtmHttpdEntry
{
	DtmHttpdRequest request;
	DtmLink link;      /* in httpd->queue or httpd->given */
	DtmLink gone_link; /* in httpd->gone */
	DtmHttpdConnection *connection;
	bool begun;                    /* its headers have been looked at */
	bool fetched;                  /* the owner has it */
	bool complete;                 /* it was queued, and is answered or dropped or will be */
	bool dropped;                  /* to be closed without an answer */
	int refuse;                    /* status to refuse it with when its body is over; 0 = none */
	size_t body_size;              /* allocated */
	size_t swallowed;              /* bytes of the body that were not kept */
	size_t answer_size;            /* bytes, until the client has taken them */
	struct MHD_Response *response; /* to be sent when libmicrohttpd asks again */
	unsigned int status;
	char method[DTM_HTTPD_METHOD_SIZE];
	char *authorization;
	char uri[]; /* NUL-terminated */
};

struct DtmHttpd
{
	struct MHD_Daemon *daemon;
	DtmLoop *loop;
	int listen_fd; /* -1: stopped */
	int port;
	DtmHttpdLimits limits;
	DtmLink connections[DTM_HTTPD_STATES];
	int n_connections;             /* all but the cut ones */
	int n_cut;                     /* not closed yet */
	DtmHttpdConnection *accepting; /* while libmicrohttpd is told about it */
	DtmLink turned;                /* in the order of their coming */
	int n_turned;
	int64_t accept_at_us; /* descriptors are short: not before; 0 = listening */
	DtmLink queue;        /* entries to be fetched */
	DtmLink given;        /* entries fetched */
	DtmLink gone;         /* of them: whose client went, not told yet */
	int n_queued;
	int n_given;
	size_t bodies;
	size_t answers;
	int64_t n_requests;
	int64_t n_refused;
	bool resumed; /* libmicrohttpd has work though nothing may be readable */
};

extern int64_t dtm_httpd_now_us(void);

/* ---- dtm_httpd.c ---- */

extern void dtm_httpd_set_state(DtmHttpdConnection *connection, DtmHttpdState state);

/* End it: libmicrohttpd sees the end and closes. */
extern void dtm_httpd_cut(DtmHttpdConnection *connection);

/* ---- dtm_httpd_request.c ---- */

/* Callbacks of libmicrohttpd; the closure is the server. */
extern void *dtm_httpd_on_uri(void *context, const char *uri, struct MHD_Connection *mhd);
extern enum MHD_Result
dtm_httpd_on_request(void *context, struct MHD_Connection *mhd, const char *url, const char *method,
					 const char *version, const char *upload_data, size_t *upload_data_size,
					 void **con_cls);
extern void dtm_httpd_on_completed(void *context, struct MHD_Connection *mhd, void **con_cls,
								   enum MHD_RequestTerminationCode toe);

/* ---- dtm_httpd_socket.c ---- */

/* A listening socket, or -1 with a message; see dtm_httpd_open. */
extern int dtm_httpd_listen(const char *address, int port, DtmHttpdShare share, int *bound_port,
							bool *taken, char *error, size_t error_size);

/* Watch the listening socket, or stop watching it. */
extern DtmRc dtm_httpd_watch_listener(DtmHttpd *httpd) DTM_MUST_CHECK;

/* Callback of libmicrohttpd: a connection begins or ends. */
extern void dtm_httpd_on_connection(void *context, struct MHD_Connection *mhd,
									void **socket_context, enum MHD_ConnectionNotificationCode toe);

/* Close those that were turned away at that time or before. */
extern void dtm_httpd_close_turned(DtmHttpd *httpd, int64_t until_us);

/* Write an answer without libmicrohttpd, as far as the socket takes it at once. */
extern void dtm_httpd_send_raw(int fd, int status, int retry_after_s);

#define DTM_HTTPD_TURNED_US 1000000 /* a client has as long to read why */

#endif /* DTM_HTTPD_INTERNAL_H */
