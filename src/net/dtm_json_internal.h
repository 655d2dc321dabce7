/* -------------------------------------------------------------------------
 *
 * dtm_json_internal.h
 *		What the readers of JSON in src/net share: dtm_steps_json.c (steps),
 *		dtm_wire_json.c (DTM's request object) and dtm_api_read.c (bodies of
 *		the HTTP API).
 *
 * Not for others: jansson is seen here.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_JSON_INTERNAL_H
#define DTM_JSON_INTERNAL_H

#include <jansson.h>

#include "dtm_spec.h"

#define DTM_JSON_SCALAR 64 /* room for the text of a number, true, false or null */

/* ---- dtm_steps_json.c ---- */

extern DtmJsonKind dtm_json_kind(const json_t *value);

/*
 * Characters of a string, JSON text of another scalar, nothing of an array or
 * object.  buffer has DTM_JSON_SCALAR bytes.
 */
extern const char *dtm_json_scalar(const json_t *value, char *buffer, size_t *len);

/* The members of one step; those in skip (NULL-terminated; NULL = none) are left out. */
extern bool
dtm_json_step(DtmSpecBuilder *builder, json_t *step, const char *const *skip) DTM_MUST_CHECK;

/* The members of an array "after". */
extern bool dtm_json_after(DtmSpecBuilder *builder, json_t *after) DTM_MUST_CHECK;

/* ---- dtm_wire_json.c ---- */

/*
 * How clients of DTM are to be understood.  STRICT is for people who write
 * the object themselves, in SQL: a key that nobody knows is an error.  DTM
 * itself ignores it, takes null for any string, PHP's [] for an empty
 * object, "orders" as an array, and "concurrent" beside "steps" for a msg.
 */
typedef enum DtmWire
{
	DTM_WIRE_STRICT,
	DTM_WIRE_TOLERANT
} DtmWire;

/* Steps, payloads, custom_data and options of DTM's request object; see dtm_steps_json. */
extern bool dtm_wire_request(DtmSpecBuilder *builder, json_t *request, DtmWire wire,
							 uint32_t *flags) DTM_MUST_CHECK;

/* The options alone, for a transaction that begins without steps. */
extern bool dtm_wire_options(DtmSpecBuilder *builder, json_t *request, DtmWire wire,
							 uint32_t *flags) DTM_MUST_CHECK;

/* An integer, perhaps in quotes; 0 when it is not there or null.  False: it is neither. */
extern bool dtm_json_integer(const json_t *value, int64_t *number);

/*
 * Parse a text from anybody.  jansson needs up to a hundred bytes of memory
 * for each of the text, when that is nothing but brackets; so the values in
 * it are counted first.  NULL: not JSON, or too many (what to say of it is in
 * error, of error_size bytes).  Strings may contain NUL: mind their length.
 */
extern json_t *dtm_json_load(const char *text, size_t len, char *error, size_t error_size);

#define DTM_JSON_MAX_VALUES 100000
#define DTM_JSON_MAX_CONTAINERS 20000

#endif /* DTM_JSON_INTERNAL_H */
