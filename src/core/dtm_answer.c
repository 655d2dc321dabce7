/* -------------------------------------------------------------------------
 *
 * dtm_answer.c
 *		What an HTTP answer means, and the reason text that people read.
 *
 * Not here: what becomes of the branch (the engine).  Runs in the
 * coordinator; the printable form also in backends.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_answer.h"

#include <stdio.h>
#include <string.h>

#define HTTP_OK 200
#define HTTP_CONFLICT 409
#define HTTP_TOO_EARLY 425

/* An answer's text is looked at no further than a reason can hold. */
#define MAX_SOURCE (16 * 1024)

static const char failure[] = "FAILURE";
static const char ongoing[] = "ONGOING";

static bool contains(const char *data, size_t len, const char *word);
static size_t character_length(const unsigned char *at, size_t left);
static bool is_blank(char c);
static size_t append(char *buffer, size_t size, size_t used, const char *text);

/* The words count whatever the status is, and ONGOING before FAILURE: DTM protocol, 4.3. */
DtmOutcome
dtm_answer_meaning(int http_status, const char *body, size_t body_len)
{
	if (http_status == HTTP_TOO_EARLY || contains(body, body_len, ongoing))
		return DTM_OUTCOME_ONGOING;
	if (http_status == HTTP_CONFLICT || contains(body, body_len, failure))
		return DTM_OUTCOME_FAILURE;
	return http_status == HTTP_OK ? DTM_OUTCOME_SUCCESS : DTM_OUTCOME_ERROR;
}

size_t
dtm_answer_reason(int http_status, const char *body, size_t body_len, char *buffer, size_t size)
{
	char prefix[16];
	size_t used;
	size_t written;

	if (size == 0)
		return 0;
	if (http_status == 0)
		return dtm_text_printable(body, body_len, buffer, size);
	snprintf(prefix, sizeof(prefix), "%d: ", http_status);
	used = append(buffer, size, 0, prefix);
	written = dtm_text_printable(body, body_len, buffer + used, size - used);
	if (written == 0)
	{
		/* nothing to say behind the colon */
		while (used > 0 && (buffer[used - 1] == ' ' || buffer[used - 1] == ':'))
			used--;
		buffer[used] = '\0';
	}
	return used + written;
}

size_t
dtm_answer_rollback_reason(DtmText url, const char *body, size_t body_len, char *buffer,
						   size_t size)
{
	const size_t word_len = sizeof(failure) - 1;
	size_t room;
	size_t used;
	size_t written;

	if (size <= word_len + 1)
	{
		/* not even the word fits: whatever does */
		return size == 0 ? 0 : append(buffer, size, 0, failure);
	}
	room = size - (word_len + 1);

	while (body_len > 0 && is_blank(body[body_len - 1]))
		body_len--;
	if (body_len >= word_len && memcmp(body + body_len - word_len, failure, word_len) == 0)
		body_len -= word_len;

	used = append(buffer, room, 0, "url:");
	written = dtm_text_printable(url.data, url.len, buffer + used, (room - used) / 2 + 1);
	used += written;
	used = append(buffer, room, used, " return failed: ");
	written = dtm_text_printable(body, body_len, buffer + used, room - used);
	used += written;
	if (used > 0 && buffer[used - 1] != ' ')
		buffer[used++] = ' ';
	memcpy(buffer + used, failure, word_len + 1);
	return used + word_len;
}

size_t
dtm_text_printable(const char *data, size_t len, char *buffer, size_t size)
{
	size_t used = 0;
	size_t at = 0;
	bool blank = false;

	if (size == 0)
		return 0;
	if (len > MAX_SOURCE)
		len = MAX_SOURCE;
	while (at < len)
	{
		size_t n = 1;
		const char *from = data + at;

		if (is_blank(*from))
		{
			blank = used > 0;
			at++;
			continue;
		}
		n = character_length((const unsigned char *) from, len - at);
		at += n > 0 ? n : 1;
		if (n == 0)
		{
			from = "?";
			n = 1;
		}
		if (used + blank + n >= size)
			break;
		if (blank)
			buffer[used++] = ' ';
		blank = false;
		memcpy(buffer + used, from, n);
		used += n;
	}
	buffer[used] = '\0';
	return used;
}

bool
dtm_text_is_utf8(const char *data, size_t len)
{
	const unsigned char *at = (const unsigned char *) data;

	while (len > 0)
	{
		size_t n = character_length(at, len);

		/* what is not printable is a character all the same */
		if (n == 0 && at[0] < 0x80 && at[0] != 0)
			n = 1;
		else if (n == 0 && at[0] == 0xC2 && len > 1 && (at[1] & 0xC0) == 0x80)
			n = 2;
		if (n == 0)
			return false;
		at += n;
		len -= n;
	}
	return true;
}

static bool
contains(const char *data, size_t len, const char *word)
{
	const size_t word_len = strlen(word);
	const char *at = data;
	size_t left = len;

	while (left >= word_len)
	{
		const char *hit = memchr(at, word[0], left - word_len + 1);

		if (hit == NULL)
			return false;
		if (memcmp(hit, word, word_len) == 0)
			return true;
		left -= (size_t) (hit + 1 - at);
		at = hit + 1;
	}
	return false;
}

/*
 * Bytes of the UTF-8 character here, 0 when it is none or a control
 * character: RFC 3629 without overlong forms and surrogates.
 */
static size_t
character_length(const unsigned char *at, size_t left)
{
	uint32_t code = at[0];
	size_t n;

	if (code < 0x80)
		return code < 0x20 || code == 0x7F ? 0 : 1;
	n = code >= 0xF0 ? 4 : code >= 0xE0 ? 3 : 2;
	if (code < 0xC2 || code > 0xF4 || n > left)
		return 0;
	code &= n == 2 ? 0x1F : n == 3 ? 0x0F : 0x07;
	for (size_t i = 1; i < n; i++)
	{
		if ((at[i] & 0xC0) != 0x80)
			return 0;
		code = code << 6 | (at[i] & 0x3F);
	}
	if (code < 0xA0 || (n == 3 && (code < 0x800 || (code >= 0xD800 && code <= 0xDFFF))) ||
		(n == 4 && (code < 0x10000 || code > 0x10FFFF)))
		return 0;
	return n;
}

static bool
is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* As much of text as fits before a NUL. */
static size_t
append(char *buffer, size_t size, size_t used, const char *text)
{
	while (*text != '\0' && used + 1 < size)
		buffer[used++] = *text++;
	buffer[used] = '\0';
	return used;
}
