/* -------------------------------------------------------------------------
 *
 * dtm_api_write.c
 *		JSON text of bounded size, in an arena.
 *
 * Written by hand rather than with jansson: an answer may have a thousand
 * rows, and is written once from front to back.
 *
 * Not here: what an answer consists of.  Runs in the coordinator.
 *
 * -------------------------------------------------------------------------
 */
#include <stdio.h>
#include <string.h>

#include "dtm_api_internal.h"

#define FIRST_SIZE 512
#define SECONDS_1970_TO_2000 INT64_C(946684800)
#define LAST_SECOND INT64_C(253402300799) /* of the year 9999 */

static const char no_memory[] = "{\"message\":\"out of memory\"}";
static const char too_long[] = "{\"message\":\"the answer is too long; ask for less\"}";
static const char base64_digits[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void
dtm_api_writer_init(DtmApiWriter *writer, DtmArena *arena)
{
	memset(writer, 0, sizeof(*writer));
	writer->arena = arena;
}

/* Room for so many bytes more; NULL when there is none. */
static char *
reserve(DtmApiWriter *writer, size_t len)
{
	size_t size = writer->size > 0 ? writer->size : FIRST_SIZE;
	char *data;

	if (writer->no_memory || writer->too_long)
		return NULL;
	if (len > DTM_API_MAX_ANSWER - writer->len)
	{
		writer->too_long = true;
		return NULL;
	}
	if (writer->len + len <= writer->size)
		return writer->data + writer->len;
	while (size < writer->len + len)
		size *= 2;
	data = writer->arena->alloc(writer->arena->context, size);
	if (data == NULL)
	{
		writer->no_memory = true;
		return NULL;
	}
	if (writer->len > 0)
		memcpy(data, writer->data, writer->len);
	writer->data = data;
	writer->size = size;
	return data + writer->len;
}

void
dtm_api_put(DtmApiWriter *writer, const char *data, size_t len)
{
	char *at = reserve(writer, len);

	if (at == NULL || len == 0)
		return;
	memcpy(at, data, len);
	writer->len += len;
}

void
dtm_api_put_text(DtmApiWriter *writer, const char *string)
{
	dtm_api_put(writer, string, strlen(string));
}

void
dtm_api_put_number(DtmApiWriter *writer, int64_t number)
{
	char digits[24];

	dtm_api_put(writer, digits,
				(size_t) snprintf(digits, sizeof(digits), "%lld", (long long) number));
}

/* In front of a value or a key. */
static void
separate(DtmApiWriter *writer)
{
	if (writer->comma)
		dtm_api_put(writer, ",", 1);
	writer->comma = true;
}

void
dtm_api_open(DtmApiWriter *writer, char bracket)
{
	separate(writer);
	dtm_api_put(writer, &bracket, 1);
	writer->comma = false;
}

void
dtm_api_close(DtmApiWriter *writer, char bracket)
{
	dtm_api_put(writer, bracket == '{' ? "}" : "]", 1);
	writer->comma = true;
}

void
dtm_api_key(DtmApiWriter *writer, const char *key)
{
	separate(writer);
	dtm_api_put(writer, "\"", 1);
	dtm_api_put_text(writer, key);
	dtm_api_put(writer, "\":", 2);
	writer->comma = false; /* its value follows */
}

/* Bytes of the character at the beginning, 0 when it is not UTF-8. */
static uint32_t
character_len(const unsigned char *data, uint32_t len)
{
	uint32_t need = data[0] < 0x80 ? 1 : data[0] < 0xE0 ? 2 : data[0] < 0xF0 ? 3 : 4;
	uint32_t code;

	if (data[0] < 0x80)
		return 1;
	if (data[0] < 0xC2 || data[0] > 0xF4 || need > len)
		return 0;
	code = data[0] & (0x7F >> need);
	for (uint32_t i = 1; i < need; i++)
	{
		if ((data[i] & 0xC0) != 0x80)
			return 0;
		code = code << 6 | (data[i] & 0x3F);
	}
	if ((need == 3 && (code < 0x800 || (code >= 0xD800 && code <= 0xDFFF))) ||
		(need == 4 && (code < 0x10000 || code > 0x10FFFF)))
		return 0;
	return need;
}

static bool
needs_escape(unsigned char c)
{
	return c < 0x20 || c == '"' || c == '\\' || c == 0x7f;
}

static void
put_escaped(DtmApiWriter *writer, unsigned char c)
{
	char escaped[8];

	switch (c)
	{
		case '"':
			dtm_api_put(writer, "\\\"", 2);
			break;
		case '\\':
			dtm_api_put(writer, "\\\\", 2);
			break;
		case '\n':
			dtm_api_put(writer, "\\n", 2);
			break;
		case '\r':
			dtm_api_put(writer, "\\r", 2);
			break;
		case '\t':
			dtm_api_put(writer, "\\t", 2);
			break;
		default:
			dtm_api_put(writer, escaped, (size_t) snprintf(escaped, sizeof(escaped), "\\u%04x", c));
	}
}

void
dtm_api_string(DtmApiWriter *writer, DtmText value)
{
	const unsigned char *data = (const unsigned char *) value.data;
	uint32_t i = 0;

	separate(writer);
	dtm_api_put(writer, "\"", 1);
	while (i < value.len && !writer->no_memory && !writer->too_long)
	{
		uint32_t begin = i;
		uint32_t len = 1;

		/* as much as can be copied as it is */
		while (i < value.len && !needs_escape(data[i]) &&
			   (len = character_len(data + i, value.len - i)) > 0)
			i += len;
		dtm_api_put(writer, value.data + begin, i - begin);
		if (i == value.len)
			break;
		if (needs_escape(data[i]))
			put_escaped(writer, data[i]);
		else
			dtm_api_put(writer, "\xEF\xBF\xBD", 3);
		i++;
	}
	dtm_api_put(writer, "\"", 1);
}

void
dtm_api_number(DtmApiWriter *writer, int64_t number)
{
	separate(writer);
	dtm_api_put_number(writer, number);
}

void
dtm_api_raw(DtmApiWriter *writer, const char *json)
{
	separate(writer);
	dtm_api_put_text(writer, json);
}

void
dtm_api_member(DtmApiWriter *writer, const char *key, DtmText value)
{
	dtm_api_key(writer, key);
	dtm_api_string(writer, value);
}

void
dtm_api_member_given(DtmApiWriter *writer, const char *key, DtmText value)
{
	if (value.len > 0)
		dtm_api_member(writer, key, value);
}

void
dtm_api_member_number(DtmApiWriter *writer, const char *key, int64_t number)
{
	dtm_api_key(writer, key);
	dtm_api_number(writer, number);
}

void
dtm_api_member_bool(DtmApiWriter *writer, const char *key, bool value)
{
	dtm_api_key(writer, key);
	dtm_api_raw(writer, value ? "true" : "false");
}

/* Not set, infinite, or of a year that RFC 3339 cannot write. */
static bool
is_unset(DtmTime time)
{
	int64_t seconds = time / 1000000 + SECONDS_1970_TO_2000;

	return time == 0 || time == DTM_TIME_NEVER || seconds < 1 || seconds > LAST_SECOND;
}

/* Days since 1970-01-01 as a date: the usual arithmetic over 400-year eras. */
static void
date_of(int64_t days, int *year, int *month, int *day)
{
	int64_t shifted = days + 719468; /* since 0000-03-01 */
	int64_t era = shifted / 146097;
	int64_t day_of_era = shifted % 146097;
	int64_t year_of_era =
		(day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	int64_t month_from_march = (5 * day_of_year + 2) / 153;

	*day = (int) (day_of_year - (153 * month_from_march + 2) / 5 + 1);
	*month = (int) (month_from_march < 10 ? month_from_march + 3 : month_from_march - 9);
	*year = (int) (year_of_era + era * 400 + (*month <= 2 ? 1 : 0));
}

void
dtm_api_member_time(DtmApiWriter *writer, const char *key, DtmTime time)
{
	char buffer[64];
	int64_t unix_us;
	int64_t seconds;
	int fraction;
	int len;
	int year;
	int month;
	int day;

	dtm_api_key(writer, key);
	if (is_unset(time))
	{
		dtm_api_raw(writer, "null");
		return;
	}
	unix_us = time + SECONDS_1970_TO_2000 * 1000000;
	seconds = unix_us / 1000000;
	fraction = (int) (unix_us % 1000000);
	date_of(seconds / 86400, &year, &month, &day);
	len = snprintf(buffer, sizeof(buffer), "\"%04d-%02d-%02dT%02d:%02d:%02d", year, month, day,
				   (int) (seconds / 3600 % 24), (int) (seconds / 60 % 60), (int) (seconds % 60));
	if (fraction > 0)
	{
		len += snprintf(buffer + len, sizeof(buffer) - (size_t) len, ".%06d", fraction);
		while (buffer[len - 1] == '0')
			len--;
	}
	snprintf(buffer + len, sizeof(buffer) - (size_t) len, "Z\"");
	dtm_api_raw(writer, buffer);
}

void
dtm_api_member_time_given(DtmApiWriter *writer, const char *key, DtmTime time)
{
	if (!is_unset(time))
		dtm_api_member_time(writer, key, time);
}

void
dtm_api_put_base64(DtmApiWriter *writer, DtmText bytes)
{
	const unsigned char *data = (const unsigned char *) bytes.data;

	for (uint32_t i = 0; i < bytes.len; i += 3)
	{
		uint32_t left = bytes.len - i;
		uint32_t group = (uint32_t) data[i] << 16 | (left > 1 ? (uint32_t) data[i + 1] << 8 : 0) |
			(left > 2 ? data[i + 2] : 0);
		char four[4] = {base64_digits[group >> 18], base64_digits[group >> 12 & 63],
						left > 1 ? base64_digits[group >> 6 & 63] : '=',
						left > 2 ? base64_digits[group & 63] : '='};

		dtm_api_put(writer, four, 4);
	}
}

void
dtm_api_member_base64_given(DtmApiWriter *writer, const char *key, DtmText bytes)
{
	if (bytes.len == 0)
		return;
	dtm_api_key(writer, key);
	separate(writer);
	dtm_api_put(writer, "\"", 1);
	dtm_api_put_base64(writer, bytes);
	dtm_api_put(writer, "\"", 1);
}

bool
dtm_api_base64_decode(DtmText base64, DtmArena *arena, DtmText *bytes)
{
	char *data = arena->alloc(arena->context, base64.len / 4 * 3 + 1);
	uint32_t len = 0;

	*bytes = dtm_api_text("");
	if (data == NULL || base64.len % 4 != 0)
		return false;
	for (uint32_t i = 0; i < base64.len; i += 4)
	{
		bool last = i + 4 == base64.len;
		int pads = last ? (base64.data[i + 3] == '=') + (base64.data[i + 2] == '=') : 0;
		uint32_t group = 0;

		if (pads > 0 && base64.data[i + 3] != '=')
			return false;
		for (int k = 0; k < 4 - pads; k++)
		{
			const char *digit = base64.data[i + (uint32_t) k] != '\0'
				? strchr(base64_digits, base64.data[i + (uint32_t) k])
				: NULL;

			if (digit == NULL)
				return false;
			group |= (uint32_t) (digit - base64_digits) << (18 - 6 * k);
		}
		for (int k = 0; k < 3 - pads; k++)
			data[len++] = (char) (group >> (16 - 8 * k) & 0xFF);
	}
	bytes->data = data;
	bytes->len = len;
	return true;
}

void
dtm_api_finish(DtmApiWriter *writer, int status, DtmApiAnswer *answer)
{
	char *end = reserve(writer, 1);

	if (end != NULL)
		*end = '\0';
	answer->status = status;
	answer->content_type = DTM_API_JSON;
	answer->body = writer->data;
	answer->len = writer->len;
	if (!writer->no_memory && !writer->too_long && writer->data != NULL)
		return;
	answer->status = 500;
	answer->body = writer->too_long ? too_long : no_memory;
	answer->len = strlen(answer->body);
}
