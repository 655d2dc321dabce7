/* -------------------------------------------------------------------------
 *
 * dtm_settings.c
 *		The dtm.* settings, in alphabetical order; docs/settings.md.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <limits.h>

#include "utils/guc.h"
#include "utils/memutils.h"

#include "dtm_arena.h"
#include "dtm_compat.h"
#include "dtm_policy.h"
#include "dtm_settings.h"
#include "dtm_shmem.h"

int dtm_workers = 1;
int dtm_sql_workers = 2;
int dtm_max_databases = 16;
int dtm_max_inflight = 1000;
int dtm_max_host_calls = 100;
int dtm_max_response_size = 64;
int dtm_request_timeout = 3000;
int dtm_retry_interval = 10000;
int dtm_retry_max_interval = 600000;
int dtm_timeout_to_fail = 35000;
int dtm_retention = 7 * 24 * 3600;
char *dtm_allowed_targets = NULL;
char *dtm_ca_file = NULL;
bool dtm_notify = false;
char *dtm_alert_webhook = NULL;
int dtm_alert_retry_limit = 3;

char *dtm_http_listen = NULL;
int dtm_http_anonymous = DTM_HTTP_ANONYMOUS_LOOPBACK;
char *dtm_http_role = NULL;
int dtm_http_max_connections = 500;
int dtm_http_max_body = 4096;
int dtm_http_idle_timeout = 60000;
int dtm_http_read_timeout = 10000;

static const struct config_enum_entry anonymous_options[] = {
	{"off", DTM_HTTP_ANONYMOUS_OFF, false},
	{"loopback", DTM_HTTP_ANONYMOUS_LOOPBACK, false},
	{"on", DTM_HTTP_ANONYMOUS_ON, false},
	{NULL, 0, false},
};

const char *
dtm_http_listen_parse(const char *value, char address[DTM_HTTP_ADDRESS], int *port)
{
	const char *colon = strrchr(value, ':');
	const char *end = colon;
	struct in_addr v4;
	struct in6_addr v6;
	char *rest;
	long number;

	if (colon == NULL)
		return "The form is address:port, such as 127.0.0.1:36789.";
	if (value[0] == '[' && end > value + 1 && end[-1] == ']')
	{
		value++;
		end--;
	}
	if (end - value >= DTM_HTTP_ADDRESS)
		return "The address is too long.";
	memcpy(address, value, end - value);
	address[end - value] = '\0';
	if (strcmp(address, "localhost") == 0)
		strcpy(address, "127.0.0.1");
	if (strcmp(address, "*") != 0 && inet_pton(AF_INET, address, &v4) != 1 &&
		(end == colon || inet_pton(AF_INET6, address, &v6) != 1))
		return "The address must be one of this machine's in numbers, such as 127.0.0.1, [::1] or *.";
	number = strtol(colon + 1, &rest, 10);
	if (colon[1] < '0' || colon[1] > '9' || *rest != '\0' || number < 1 || number > 65535)
		return "The port must be a number from 1 to 65535.";
	*port = (int) number;
	return NULL;
}

static bool
check_http_listen(char **newval, void **extra, GucSource source)
{
	char address[DTM_HTTP_ADDRESS];
	int port;
	const char *problem =
		(*newval)[0] == '\0' ? NULL : dtm_http_listen_parse(*newval, address, &port);

	(void) extra;
	(void) source;
	if (problem != NULL)
		GUC_check_errdetail("%s", problem);
	return problem == NULL;
}

static bool
check_allowed_targets(char **newval, void **extra, GucSource source)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "dtm policy check", ALLOCSET_SMALL_SIZES);
	DtmArena arena = dtm_arena(context);
	char error[256];
	bool ok = dtm_policy_parse(*newval, &arena, error, sizeof(error)) != NULL;

	(void) extra;
	(void) source;
	MemoryContextDelete(context);
	if (!ok)
		GUC_check_errdetail("%s", error);
	return ok;
}

static bool
check_webhook(char **newval, void **extra, GucSource source)
{
	DtmTarget target;
	const char *problem;

	(void) extra;
	(void) source;
	if ((*newval)[0] == '\0')
		return true;
	problem = dtm_target_parse(*newval, strlen(*newval), &target);
	if (problem == NULL && target.scheme != DTM_SCHEME_HTTP && target.scheme != DTM_SCHEME_HTTPS)
		problem = "is not an http:// or https:// URL";
	if (problem != NULL)
		GUC_check_errdetail("The URL %s.", problem);
	return problem == NULL;
}

static void
define_http_settings(void)
{
	DefineCustomEnumVariable("dtm.http_anonymous",
							 "Who may use the HTTP API without a token: nobody, this machine, all.",
							 "Tokens are made by dtm_http_token_create().", &dtm_http_anonymous,
							 DTM_HTTP_ANONYMOUS_LOOPBACK, anonymous_options, PGC_SUSET, 0, NULL,
							 NULL, NULL);
	DefineCustomIntVariable("dtm.http_idle_timeout",
							"Time after which a connection to the HTTP API without a request is closed.",
							NULL, &dtm_http_idle_timeout, 60000, 100, INT_MAX, PGC_SUSET,
							GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomStringVariable("dtm.http_listen",
							   "Address and port of the HTTP API; empty: there is none.",
							   "Each database needs its own: ALTER DATABASE ... SET.",
							   &dtm_http_listen, "", PGC_SUSET, 0, check_http_listen, NULL, NULL);
	DefineCustomIntVariable("dtm.http_max_body", "Longest body of a request to the HTTP API.", NULL,
							&dtm_http_max_body, 4096, 1, 65536, PGC_SUSET, GUC_UNIT_KB, NULL, NULL,
							NULL);
	DefineCustomIntVariable("dtm.http_max_connections",
							"Connections to the HTTP API at once, per coordinator.", NULL,
							&dtm_http_max_connections, 500, 1, 10000, PGC_SUSET, 0, NULL, NULL,
							NULL);
	DefineCustomIntVariable("dtm.http_read_timeout",
							"Longest time from the first byte of a request to its last one.", NULL,
							&dtm_http_read_timeout, 10000, 100, INT_MAX, PGC_SUSET, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomStringVariable("dtm.http_role",
							   "Role of requests to the HTTP API that come without a token.",
							   "Empty: the owner of the extension, for http(s) targets only.",
							   &dtm_http_role, "", PGC_SUSET, 0, NULL, NULL, NULL);
}

static void
define_worker_settings(void)
{
	if (process_shared_preload_libraries_in_progress)
		DefineCustomIntVariable("dtm.max_databases",
								"Databases of this server that can have dtm_pg workers.", NULL,
								&dtm_max_databases, 16, 1, 1000, PGC_POSTMASTER, 0, NULL, NULL,
								NULL);
	DefineCustomIntVariable("dtm.max_host_calls", "Calls out at once to one host.", NULL,
							&dtm_max_host_calls, 100, 1, 10000, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("dtm.max_inflight", "Transactions held in memory per coordinator.",
							NULL, &dtm_max_inflight, 1000, 1, 100000, PGC_SIGHUP, 0, NULL, NULL,
							NULL);
	DefineCustomIntVariable("dtm.max_response_size", "Longest answer of a branch that is read.",
							NULL, &dtm_max_response_size, 64, 1, 16384, PGC_SIGHUP, GUC_UNIT_KB,
							NULL, NULL, NULL);
	DefineCustomIntVariable("dtm.sql_workers", "Executors of sql: branches per database, at most.",
							NULL, &dtm_sql_workers, 2, 1, DTM_MAX_SQL_WORKERS, PGC_SIGHUP, 0, NULL,
							NULL, NULL);
	DefineCustomIntVariable("dtm.workers", "Coordinators per database.",
							"A change lets the coordinators start anew.", &dtm_workers, 1, 1,
							DTM_MAX_COORDINATORS, PGC_SIGHUP, 0, NULL, NULL, NULL);
}

static void
define_time_settings(void)
{
	DefineCustomIntVariable("dtm.request_timeout", "Time-out of one branch call.", NULL,
							&dtm_request_timeout, 3000, 1, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS, NULL,
							NULL, NULL);
	DefineCustomIntVariable("dtm.retention",
							"Time after which finished transactions are deleted; 0 keeps them.",
							NULL, &dtm_retention, 7 * 24 * 3600, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_S,
							NULL, NULL, NULL);
	DefineCustomIntVariable("dtm.retry_interval",
							"First wait after a temporary error; doubles from try to try.", NULL,
							&dtm_retry_interval, 10000, 1, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS, NULL,
							NULL, NULL);
	DefineCustomIntVariable("dtm.retry_max_interval", "Longest wait between two tries.", NULL,
							&dtm_retry_max_interval, 600000, 1, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("dtm.timeout_to_fail",
							"Time after which a prepared transaction that nobody ends is rolled back.",
							"A saga has no time-out unless it is given one.", &dtm_timeout_to_fail,
							35000, 1, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
}

void
dtm_settings_define(void)
{
	DefineCustomIntVariable("dtm.alert_retry_limit",
							"Failures of a branch in a row after which dtm.stuck shows it and dtm.alert_webhook is called.",
							NULL, &dtm_alert_retry_limit, 3, 1, INT_MAX, PGC_SIGHUP, 0, NULL, NULL,
							NULL);
	DefineCustomStringVariable("dtm.alert_webhook",
							   "URL that gets a POST when a branch keeps failing.", NULL,
							   &dtm_alert_webhook, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY,
							   check_webhook, NULL, NULL);
	DefineCustomStringVariable("dtm.allowed_targets", "Hosts and networks that may be called.",
							   "Patterns of scheme, host, port, network; \"!\" forbids. "
							   "\"*\" is everything but link-local and metadata addresses.",
							   &dtm_allowed_targets, "*", PGC_SIGHUP, GUC_SUPERUSER_ONLY,
							   check_allowed_targets, NULL, NULL);
	DefineCustomStringVariable("dtm.ca_file",
							   "PEM file of the authorities that https:// targets are checked with.",
							   "Empty: the system's.", &dtm_ca_file, "", PGC_SIGHUP,
							   GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomBoolVariable("dtm.notify", "NOTIFY dtm for each finished transaction.",
							 "The payload is the gid and the status.", &dtm_notify, false,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	define_http_settings();
	define_worker_settings();
	define_time_settings();
	MarkGUCPrefixReserved("dtm");
}
