/* -------------------------------------------------------------------------
 *
 * dtm_serve_metrics.c
 *		The page for Prometheus: DTM's metrics under DTM's names, and a few
 *		of ours.
 *
 * The counters are in shared memory (dtm_metrics.h) and are those of the
 * database, whichever of its coordinators is asked.  A label is never anything
 * that a client or a transaction could make up.
 *
 * Not here: the format (dtm_api_show.c).  Runs in the coordinator.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "dtm_metrics.h"
#include "dtm_serve.h"
#include "dtm_version.h"

typedef struct Page
{
	DtmApiSample *samples;
	int n;
	int size;
} Page;

void
dtm_serve_count(DtmCoordinator *c, DtmApiRoute route, int status, int64 took_us)
{
	DtmMetrics *metrics = &c->db->metrics;

	/* the two have one name, and it must not be there twice */
	if ((int) route < 0 || route >= DTM_API_ROUTES || route == DTM_API_WRONG_METHOD)
		route = DTM_API_NOT_FOUND;
	pg_atomic_fetch_add_u64(&metrics->requests[route][status >= 400 ? 1 : 0], 1);
	dtm_metrics_observe(&metrics->answered[route], took_us);
}

void
dtm_serve_publish(DtmCoordinator *c, const DtmHttpdCounts *counts)
{
	static int64 counted = 0; /* of what the port has refused since it is open */

	pg_atomic_write_u32(&c->slot->http_connections, counts == NULL ? 0 : counts->connections);
	pg_atomic_write_u32(&c->slot->http_waiting, counts == NULL ? 0 : counts->waiting);
	if (counts == NULL || counts->refused < counted)
		counted = 0;
	if (counts != NULL && counts->refused > counted)
	{
		pg_atomic_fetch_add_u64(&c->db->metrics.refused, (uint64) (counts->refused - counted));
		counted = counts->refused;
	}
}

/* ---- the page ---- */

static void
add(Page *page, const char *name, const char *type, const char *help, const char *suffix,
	const char *labels, double value)
{
	DtmApiSample *sample;

	if (page->n == page->size)
	{
		page->size = Max(256, page->size * 2);
		page->samples = page->samples == NULL
			? palloc(sizeof(DtmApiSample) * page->size)
			: repalloc(page->samples, sizeof(DtmApiSample) * page->size);
	}
	sample = &page->samples[page->n++];
	sample->name = name;
	sample->type = type;
	sample->help = help;
	sample->suffix = suffix;
	sample->labels = labels;
	sample->value = value;
}

static void
add_histogram(Page *page, const char *name, const char *help, const char *labels,
			  DtmHistogram *histogram)
{
	uint64 n = 0;

	for (int i = 0; i <= DTM_METRICS_BUCKETS; i++)
	{
		n += pg_atomic_read_u64(&histogram->buckets[i]);
		if (i < DTM_METRICS_BUCKETS)
			add(page, name, "histogram", help, "_bucket",
				psprintf("%s,le=\"%g\"", labels, (double) dtm_metrics_bounds[i] / 1e6), (double) n);
		else
			add(page, name, "histogram", help, "_bucket", psprintf("%s,le=\"+Inf\"", labels),
				(double) n);
	}
	add(page, name, "histogram", help, "_sum", labels,
		(double) pg_atomic_read_u64(&histogram->sum_us) / 1e6);
	add(page, name, "histogram", help, "_count", labels, (double) n);
}

static const char *
model(int type)
{
	return dtm_type_name((DtmTransType) (type + 1));
}

static const char *
status_of(int failed)
{
	return failed ? "fail" : "ok";
}

static void
add_requests(Page *page, DtmMetrics *metrics)
{
	bool asked[DTM_API_ROUTES] = {false};

	for (int route = 0; route < DTM_API_ROUTES; route++)
	{
		for (int failed = 0; failed < 2; failed++)
		{
			uint64 n = pg_atomic_read_u64(&metrics->requests[route][failed]);

			if (n == 0)
				continue;
			asked[route] = true;
			add(page, "dtm_server_process_total", "counter", "Requests answered.", "",
				psprintf("type=\"http\",api=\"%s\",status=\"%s\"",
						 dtm_api_route_name((DtmApiRoute) route), status_of(failed)),
				(double) n);
		}
	}
	for (int route = 0; route < DTM_API_ROUTES; route++)
	{
		if (asked[route])
			add_histogram(page, "dtm_server_response_duration",
						  "Seconds from a request to its answer.",
						  psprintf("type=\"http\",api=\"%s\"",
								   dtm_api_route_name((DtmApiRoute) route)),
						  &metrics->answered[route]);
	}
}

static void
add_rounds(Page *page, DtmMetrics *metrics)
{
	bool seen[DTM_TYPE_LAST] = {false};

	for (int type = 0; type < DTM_TYPE_LAST; type++)
	{
		for (int failed = 0; failed < 2; failed++)
		{
			uint64 n = pg_atomic_read_u64(&metrics->rounds[type][failed]);

			if (n == 0)
				continue;
			seen[type] = true;
			add(page, "dtm_transaction_process_total", "counter",
				"Rounds of transactions: until the end, or until there is something to wait for.",
				"", psprintf("model=\"%s\",status=\"%s\"", model(type), status_of(failed)),
				(double) n);
		}
	}
	for (int type = 0; type < DTM_TYPE_LAST; type++)
	{
		if (seen[type])
			add_histogram(page, "dtm_transaction_handled_duration",
						  "Seconds from the begin of a transaction to the end of a round.",
						  psprintf("model=\"%s\"", model(type)), &metrics->handled[type]);
	}
}

/* Of one op of branches with one label. */
static void
add_calls_of(Page *page, DtmMetrics *metrics, int type, int branch, int op)
{
	for (int failed = 0; failed < 2; failed++)
	{
		uint64 n = pg_atomic_read_u64(&metrics->calls[type][branch][op][failed]);

		if (n > 0)
			add(page, "dtm_branch_process_total", "counter", "Calls of branches that have ended.",
				"",
				psprintf("model=\"%s\",branchid=\"%s\",branchtype=\"%s\",status=\"%s\"",
						 model(type), dtm_metrics_branch_label(branch), dtm_op_name((DtmOp) op),
						 status_of(failed)),
				(double) n);
	}
}

static void
add_calls(Page *page, DtmMetrics *metrics)
{
	for (int type = 0; type < DTM_TYPE_LAST; type++)
	{
		for (int branch = 0; branch < DTM_METRICS_BRANCHES; branch++)
		{
			for (int op = 1; op <= DTM_OP_LAST; op++)
				add_calls_of(page, metrics, type, branch, op);
		}
	}
}

/* Over all coordinators of the database. */
static void
add_workers(Page *page, DtmDatabaseSlot *db)
{
	double running = 0;
	double in_flight = 0;
	double calls_out = 0;
	double connections = 0;
	double waiting = 0;
	double finished = 0;

	for (int i = 0; i < DTM_MAX_COORDINATORS; i++)
	{
		DtmCoordinatorSlot *slot = &db->coordinators[i];

		/* without the lock: a number that is a moment old will do */
		running += slot->state == DTM_WORKER_RUNNING ? 1 : 0;
		in_flight += pg_atomic_read_u32(&slot->in_flight);
		calls_out += pg_atomic_read_u32(&slot->calls_out);
		connections += pg_atomic_read_u32(&slot->http_connections);
		waiting += pg_atomic_read_u32(&slot->http_waiting);
		finished += (double) pg_atomic_read_u64(&slot->finished);
	}
	add(page, "dtm_coordinators", "gauge", "Coordinators that run.", "", "", running);
	add(page, "dtm_transactions_in_flight", "gauge", "Transactions in memory.", "", "", in_flight);
	add(page, "dtm_transactions_finished_total", "counter",
		"Transactions that coordinators have brought to their end.", "", "", finished);
	add(page, "dtm_calls_in_flight", "gauge", "Calls of branches under way or queued.", "", "",
		calls_out);
	add(page, "dtm_http_connections", "gauge", "Connections to the port that are open.", "", "",
		connections);
	add(page, "dtm_http_requests_waiting", "gauge", "Requests that are not answered yet.", "", "",
		waiting);
	add(page, "dtm_http_requests_refused_total", "counter",
		"Connections and requests refused before they were read.", "", "",
		(double) pg_atomic_read_u64(&db->metrics.refused));
}

void
dtm_serve_metrics(DtmServeCall *call)
{
	DtmDatabaseSlot *db = call->c->db;
	Page page = {NULL, 0, 0};

	add(&page, "dtm_server_info", "gauge", "The version of dtm_pg and of the server.", "",
		psprintf("version=\"%s\",postgresql_version=\"%s\"", DTM_VERSION, PG_VERSION), 1);
	add_requests(&page, &db->metrics);
	add_rounds(&page, &db->metrics);
	add_calls(&page, &db->metrics);
	add_workers(&page, db);
	dtm_api_show_metrics(page.samples, page.n, &call->arena, &call->answer);
}
