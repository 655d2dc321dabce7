/* -------------------------------------------------------------------------
 *
 * dtm_store_text.c
 *		Texts that tables can hold, out of bytes that came from anybody:
 *		packed columns of a restore, answers of services.
 *
 * Used by backends, the coordinator and the executors.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "mb/pg_wchar.h"

#include "dtm_store.h"

static void
keep_ascii(char *chars, size_t len)
{
	for (size_t i = 0; i < len; i++)
	{
		if (chars[i] == '\0' || IS_HIGHBIT_SET(chars[i]))
			chars[i] = '?';
	}
}

char *
dtm_store_text(const char *bytes, size_t len)
{
	char *chars = palloc(len + 1);

	if (len > 0)
		memcpy(chars, bytes, len);
	chars[len] = '\0';
	if (!pg_verify_mbstr(GetDatabaseEncoding(), chars, (int) len, true))
		keep_ascii(chars, len);
	return chars;
}

/* NULL when some of it does not exist in the database's encoding. */
static char *
from_utf8(const char *bytes, size_t len)
{
	Oid conversion = FindDefaultConversionProc(PG_UTF8, GetDatabaseEncoding());
	size_t size = len * MAX_CONVERSION_GROWTH + 1;
	unsigned char *source;
	unsigned char *result;

	if (!OidIsValid(conversion) || !pg_verify_mbstr(PG_UTF8, bytes, (int) len, true))
		return NULL;
	source = (unsigned char *) pnstrdup(bytes, len);
	result = palloc(size);
	if (pg_do_encoding_conversion_buf(conversion, PG_UTF8, GetDatabaseEncoding(), source, (int) len,
									  result, (int) size, true) != (int) len)
		return NULL;
	return (char *) result;
}

char *
dtm_store_text_of_wire(const char *bytes, size_t len)
{
	int encoding = GetDatabaseEncoding();

	if (encoding != PG_UTF8 && encoding != PG_SQL_ASCII && len > 0)
	{
		char *converted = from_utf8(bytes, len);

		/* the bytes would pass for other characters of a one-byte encoding */
		if (converted == NULL)
		{
			converted = palloc(len + 1);
			memcpy(converted, bytes, len);
			converted[len] = '\0';
			keep_ascii(converted, len);
		}
		return converted;
	}
	return dtm_store_text(bytes, len);
}

DtmText
dtm_store_wire_text(DtmText from)
{
	int encoding = GetDatabaseEncoding();
	size_t size = (size_t) from.len * MAX_CONVERSION_GROWTH + 1;
	Oid conversion;
	unsigned char *source;
	DtmText result = from;

	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII || from.len == 0)
		return from;
	source = (unsigned char *) dtm_store_text(from.data, from.len);
	conversion = FindDefaultConversionProc(encoding, PG_UTF8);
	result.data = palloc(size);
	if (!OidIsValid(conversion) ||
		pg_do_encoding_conversion_buf(conversion, encoding, PG_UTF8, source, (int) from.len,
									  (unsigned char *) unconstify(char *, result.data), (int) size,
									  true) != (int) from.len)
	{
		keep_ascii((char *) source, from.len);
		result.data = (char *) source;
		return result;
	}
	result.len = (uint32) strlen(result.data);
	return result;
}
