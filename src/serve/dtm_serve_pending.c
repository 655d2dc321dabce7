/* -------------------------------------------------------------------------
 *
 * dtm_serve_pending.c
 *		Parts of the HTTP API that are on their way from their branches.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "dtm_serve.h"

static void
later(DtmServeCall *call)
{
	dtm_api_result(&call->api, DTM_API_BUSY, (DtmText){"not there yet", 13}, &call->arena,
				   &call->answer);
}

void
dtm_serve_read(DtmServeCall *call)
{
	later(call);
}

void
dtm_serve_metrics(DtmServeCall *call)
{
	later(call);
}

void
dtm_serve_count(DtmCoordinator *c, DtmApiRoute route, int status, int64 took_us)
{
	(void) c;
	(void) route;
	(void) status;
	(void) took_us;
}
