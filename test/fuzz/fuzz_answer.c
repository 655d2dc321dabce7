/* -------------------------------------------------------------------------
 *
 * fuzz_answer.c
 *		The texts made of an answer; input: two bytes of status, one of size,
 *		the body.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_answer.h"
#include "dtm_fuzz.h"
#include "dtm_rpc.h"

/* Printable UTF-8, known by another way than the one that is tested. */
static void
check_text(const char *text, size_t len, size_t size)
{
	HOLDS(len < size && strlen(text) == len);
	for (size_t i = 0; i < len;)
	{
		unsigned char c = (unsigned char) text[i];
		size_t n = c < 0x80 ? 1 : (c & 0xE0) == 0xC0 ? 2 : (c & 0xF0) == 0xE0 ? 3 : 4;

		HOLDS(c >= 0x20 && c != 0x7F && c < 0xF5 && (c & 0xC0) != 0x80);
		HOLDS(i + n <= len);
		for (size_t k = 1; k < n; k++)
			HOLDS(((unsigned char) text[i + k] & 0xC0) == 0x80);
		HOLDS(!(c == ' ' && i + 1 < len && text[i + 1] == ' '));
		i += n;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int status;
	size_t room;
	char *body;
	char *buffer;
	size_t len;
	DtmOutcome outcome;
	DtmText url;

	if (size < 3)
		return 0;
	status = (data[0] << 8 | data[1]) % 600;
	room = data[2] == 255 ? DTM_MAX_ERROR_LEN + 1 : data[2];
	data += 3;
	size -= 3;
	body = malloc(size > 0 ? size : 1);
	memcpy(body, data, size);
	buffer = malloc(room > 0 ? room : 1);

	outcome = dtm_answer_meaning(status, body, size);
	if (memmem(body, size, "ONGOING", 7) != NULL || status == 425)
		HOLDS(outcome == DTM_OUTCOME_ONGOING);
	else if (memmem(body, size, "FAILURE", 7) != NULL || status == 409)
		HOLDS(outcome == DTM_OUTCOME_FAILURE);
	else
		HOLDS(outcome == (status == 200 ? DTM_OUTCOME_SUCCESS : DTM_OUTCOME_ERROR));

	/* JSON-RPC: HTTP decides first */
	if (room > 0)
	{
		DtmOutcome rpc = dtm_rpc_meaning(status, body, size, buffer, room);

		HOLDS(rpc == outcome || outcome == DTM_OUTCOME_SUCCESS);
		HOLDS(rpc != DTM_OUTCOME_SUCCESS || buffer[0] == '\0');
		check_text(buffer, strlen(buffer), room);
	}

	len = dtm_answer_reason(status, body, size, buffer, room);
	if (room == 0)
		HOLDS(len == 0);
	else
		check_text(buffer, len, room);

	/* the first half serves as the URL */
	url.data = body;
	url.len = (uint32_t) (size / 2);
	len = dtm_answer_rollback_reason(url, body, size, buffer, room);
	if (room == 0)
		HOLDS(len == 0);
	else
	{
		HOLDS(strlen(buffer) == len && len < room);
		if (room > 8)
			HOLDS(strcmp(buffer + len - 7, "FAILURE") == 0);
	}
	free(buffer);
	free(body);
	return 0;
}
