/* -------------------------------------------------------------------------
 *
 * fuzz_request.c
 *		dtm_request_parse; input: what a service received.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_fuzz.h"
#include "dtm_url.h"

static void
check_value(const char *value, size_t size)
{
	size_t len = strnlen(value, size);

	HOLDS(len > 0 && len < size);
	for (size_t i = 0; i < len; i++)
		HOLDS((unsigned char) value[i] >= 0x20 && value[i] != 0x7F);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *copy = malloc(size > 0 ? size : 1);
	DtmRequest request;
	DtmRequest again;
	const char *field = NULL;
	const char *problem;
	char url[2048];
	size_t len;

	memcpy(copy, data, size);
	problem = dtm_request_parse(copy, size, &request, &field);
	free(copy);
	if (problem != NULL)
	{
		HOLDS(problem[0] != '\0' && field != NULL && field[0] != '\0');
		return 0;
	}
	check_value(request.gid, sizeof(request.gid));
	check_value(request.branch_id, sizeof(request.branch_id));
	check_value(request.op, sizeof(request.op));
	check_value(request.trans_type, sizeof(request.trans_type));

	/* written anew they mean the same */
	len =
		dtm_url_for_call((DtmText){"/", 1}, (DtmText){request.gid, (uint32_t) strlen(request.gid)},
						 request.trans_type,
						 (DtmText){request.branch_id, (uint32_t) strlen(request.branch_id)},
						 request.op, url, sizeof(url));
	HOLDS(len > 0);
	HOLDS(dtm_request_parse(url, len, &again, &field) == NULL);
	HOLDS(strcmp(again.gid, request.gid) == 0);
	HOLDS(strcmp(again.branch_id, request.branch_id) == 0);
	HOLDS(strcmp(again.op, request.op) == 0);
	HOLDS(strcmp(again.trans_type, request.trans_type) == 0);
	return 0;
}
