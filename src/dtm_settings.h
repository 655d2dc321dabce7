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

/* Define them all; called by _PG_init. */
extern void dtm_settings_define(void);

#endif /* DTM_SETTINGS_H */
