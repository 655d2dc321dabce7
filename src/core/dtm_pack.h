/* -------------------------------------------------------------------------
 *
 * dtm_pack.h
 *		The byte format shared by the packed spec and the packed state:
 *		little-endian base-128 numbers and length-prefixed bytes.
 *
 * What the bytes mean is in dtm_spec_pack.c and dtm_state.c.  The writer
 * counts when it has no buffer, so that one function both measures and
 * writes; the reader never passes the end and remembers the first fault.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_PACK_H
#define DTM_PACK_H

#include <string.h>

#include "dtm_types.h"

#define DTM_VARINT_MAX 10 /* bytes of the longest number */

typedef struct DtmWriter
{
	char *data; /* NULL = only count */
	size_t len;
} DtmWriter;

typedef struct DtmReader
{
	const unsigned char *next;
	const unsigned char *end;
	bool bad; /* sticky: whatever is read afterwards is zero */
} DtmReader;

static inline void
dtm_put_byte(DtmWriter *writer, uint8_t byte)
{
	if (writer->data != NULL)
		writer->data[writer->len] = (char) byte;
	writer->len++;
}

static inline void
dtm_put_number(DtmWriter *writer, uint64_t number)
{
	while (number >= 0x80)
	{
		dtm_put_byte(writer, (uint8_t) (number | 0x80));
		number >>= 7;
	}
	dtm_put_byte(writer, (uint8_t) number);
}

/* Small negative numbers stay small: 0, -1, 1, -2 ... become 0, 1, 2, 3 ... */
static inline void
dtm_put_signed(DtmWriter *writer, int64_t number)
{
	uint64_t bits = (uint64_t) number;

	dtm_put_number(writer, (bits << 1) ^ (number < 0 ? UINT64_MAX : 0));
}

static inline void
dtm_put_text(DtmWriter *writer, DtmText from)
{
	dtm_put_number(writer, from.len);
	if (writer->data != NULL && from.len > 0)
		memcpy(writer->data + writer->len, from.data, from.len);
	writer->len += from.len;
}

static inline DtmReader
dtm_reader(const char *data, size_t len)
{
	DtmReader reader = {(const unsigned char *) data, (const unsigned char *) data, false};

	if (len > 0)
		reader.end += len;
	return reader;
}

static inline size_t
dtm_reader_left(const DtmReader *reader)
{
	return (size_t) (reader->end - reader->next);
}

static inline uint8_t
dtm_get_byte(DtmReader *reader)
{
	if (reader->bad || reader->next == reader->end)
	{
		reader->bad = true;
		return 0;
	}
	return *reader->next++;
}

/* A number not above max; anything else is a fault. */
static inline uint64_t
dtm_get_number(DtmReader *reader, uint64_t max)
{
	uint64_t number = 0;
	int shift = 0;
	uint8_t byte;

	do
	{
		byte = dtm_get_byte(reader);
		if (reader->bad || shift > 63 || (shift == 63 && (byte & 0x7E) != 0))
		{
			reader->bad = true;
			return 0;
		}
		number |= (uint64_t) (byte & 0x7F) << shift;
		shift += 7;
	} while (byte & 0x80);

	if (number > max)
	{
		reader->bad = true;
		return 0;
	}
	return number;
}

static inline int64_t
dtm_get_signed(DtmReader *reader)
{
	uint64_t bits = dtm_get_number(reader, UINT64_MAX);

	return (int64_t) ((bits >> 1) ^ ((bits & 1) ? UINT64_MAX : 0));
}

/* A view on the bytes themselves; "" when there is a fault. */
static inline DtmText
dtm_get_text(DtmReader *reader, uint32_t max)
{
	DtmText result = {"", 0};
	uint64_t len = dtm_get_number(reader, max);

	if (len > dtm_reader_left(reader))
		reader->bad = true;
	if (reader->bad)
		return result;
	result.data = (const char *) reader->next;
	result.len = (uint32_t) len;
	reader->next += len;
	return result;
}

#endif /* DTM_PACK_H */
