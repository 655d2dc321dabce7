/* -------------------------------------------------------------------------
 *
 * dtm_settings.h
 *		The dtm.* settings; docs/settings.md describes them.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_SETTINGS_H
#define DTM_SETTINGS_H

extern int dtm_workers;
extern int dtm_sql_workers;
extern int dtm_max_databases;
extern int dtm_max_inflight;
extern int dtm_max_host_calls;
extern int dtm_max_response_size;  /* kB */
extern int dtm_request_timeout;    /* ms */
extern int dtm_retry_interval;     /* ms */
extern int dtm_retry_max_interval; /* ms */
extern int dtm_timeout_to_fail;    /* ms */
extern int dtm_retention;          /* s, 0 keeps */
extern char *dtm_allowed_targets;
extern char *dtm_ca_file;
extern bool dtm_notify;
extern char *dtm_alert_webhook;
extern int dtm_alert_retry_limit;

/* The HTTP API: of a superuser, so that ALTER DATABASE can set them. */
typedef enum DtmHttpAnonymous
{
	DTM_HTTP_ANONYMOUS_OFF,      /* every request needs a token */
	DTM_HTTP_ANONYMOUS_LOOPBACK, /* but those from this machine */
	DTM_HTTP_ANONYMOUS_ON        /* none does */
} DtmHttpAnonymous;

extern char *dtm_http_listen; /* "address:port", "" = off */
extern int dtm_http_anonymous;
extern char *dtm_http_role; /* of requests without a token, "" = the extension's owner */
extern int dtm_http_max_connections;
extern int dtm_http_max_body;     /* kB */
extern int dtm_http_idle_timeout; /* ms */
extern int dtm_http_read_timeout; /* ms */

/* Longest address in dtm.http_listen, with a zero byte. */
#define DTM_HTTP_ADDRESS 64

/*
 * Split "127.0.0.1:36789", "[::1]:36789" or "*:36789"; NULL, or what is wrong
 * with it.
 */
extern const char *
dtm_http_listen_parse(const char *value, char address[DTM_HTTP_ADDRESS], int *port);

/* Define them all; called by _PG_init. */
extern void dtm_settings_define(void);

#endif /* DTM_SETTINGS_H */
