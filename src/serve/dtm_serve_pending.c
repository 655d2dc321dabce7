/* -------------------------------------------------------------------------
 *
 * dtm_serve_pending.c
 *		Parts of the HTTP API that are on their way from their branches.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "dtm_serve.h"

void
dtm_serve_workflow(DtmServeCall *call)
{
	dtm_api_result(&call->api, DTM_API_BUSY, (DtmText){"not there yet", 13}, &call->arena,
				   &call->answer);
}
