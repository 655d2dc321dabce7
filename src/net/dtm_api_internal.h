/* -------------------------------------------------------------------------
 *
 * dtm_api_internal.h
 *		What the files of the HTTP API share: dtm_api_route.c (paths and query
 *		strings), dtm_api_read.c (bodies), dtm_api_write.c (bounded JSON text),
 *		dtm_api_answer.c (results), dtm_api_show.c (rows), dtm_api_custom.c
 *		(JSON inside of rows).
 *
 * Not for others.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_API_INTERNAL_H
#define DTM_API_INTERNAL_H

#include "dtm_api.h"

/* ---- dtm_api_route.c ---- */

/*
 * A parameter of the query string, or of the path of a topic's deletion,
 * decoded; empty when it is not there, the first one when it is there twice.
 * False: it has a control character, or memory is short.
 */
extern bool dtm_api_parameter(const char *uri, const char *name, DtmArena *arena,
							  DtmText *value) DTM_MUST_CHECK;
extern bool dtm_api_path_topic(const char *uri, DtmArena *arena, DtmText *value) DTM_MUST_CHECK;

/* No control character? */
extern bool dtm_api_is_plain(DtmText value);

/* ---- dtm_api_write.c ---- */

/*
 * JSON text that grows in the arena up to DTM_API_MAX_ANSWER.  After the
 * first failure nothing is written any more.
 */
typedef struct DtmApiWriter
{
	DtmArena *arena;
	char *data;
	size_t len;
	size_t size;
	bool no_memory;
	bool too_long;
	bool comma; /* something stands in front of the next value */
} DtmApiWriter;

extern void dtm_api_writer_init(DtmApiWriter *writer, DtmArena *arena);
extern void dtm_api_put(DtmApiWriter *writer, const char *data, size_t len);
extern void dtm_api_put_text(DtmApiWriter *writer, const char *string);
extern void dtm_api_put_number(DtmApiWriter *writer, int64_t number);

extern void dtm_api_put_base64(DtmApiWriter *writer, DtmText bytes);

/* Structure; the comma in front is put where it belongs.  open, close: '{', '['. */
extern void dtm_api_open(DtmApiWriter *writer, char bracket);
extern void dtm_api_close(DtmApiWriter *writer, char bracket);
extern void dtm_api_key(DtmApiWriter *writer, const char *key);

/*
 * Values.  A string is made valid: bytes that are not UTF-8 become the
 * replacement character.
 */
extern void dtm_api_string(DtmApiWriter *writer, DtmText value);
extern void dtm_api_number(DtmApiWriter *writer, int64_t number);
extern void dtm_api_raw(DtmApiWriter *writer, const char *json); /* null, true, {} ... */

/* Members.  _given: only when there is something. */
extern void dtm_api_member(DtmApiWriter *writer, const char *key, DtmText value);
extern void dtm_api_member_given(DtmApiWriter *writer, const char *key, DtmText value);
extern void dtm_api_member_number(DtmApiWriter *writer, const char *key, int64_t number);
extern void dtm_api_member_bool(DtmApiWriter *writer, const char *key, bool value);
/* RFC 3339 in UTC; null when not set. */
extern void dtm_api_member_time(DtmApiWriter *writer, const char *key, DtmTime time);
extern void dtm_api_member_time_given(DtmApiWriter *writer, const char *key, DtmTime time);
extern void dtm_api_member_base64_given(DtmApiWriter *writer, const char *key, DtmText bytes);

/* The bytes behind standard base64 with padding; false when it is none, or memory is short. */
extern bool dtm_api_base64_decode(DtmText base64, DtmArena *arena, DtmText *bytes) DTM_MUST_CHECK;

/* The JSON answer that was written; 500 when that failed. */
extern void dtm_api_finish(DtmApiWriter *writer, int status, DtmApiAnswer *answer);

static inline DtmText
dtm_api_text(const char *string)
{
	DtmText text = {string, 0};

	while (string[text.len] != '\0')
		text.len++;
	return text;
}

/* ---- dtm_api_custom.c ---- */

extern void dtm_api_put_options(DtmApiWriter *writer, const DtmApiTransRow *row);

/* ---- dtm_api_answer.c ---- */

#define DTM_API_JSON "application/json; charset=utf-8"

/* An answer of JSON-RPC; code 0 = no error. */
extern void dtm_api_rpc(const DtmApiCall *call, int status, int code, DtmText message,
						DtmArena *arena, DtmApiAnswer *answer);

#define DTM_API_RPC_PARSE (-32700)
#define DTM_API_RPC_REQUEST (-32600)
#define DTM_API_RPC_METHOD (-32601)
#define DTM_API_RPC_ERROR (-32603)
#define DTM_API_RPC_FAILURE (-32901)

/* As dtm_api_result with a printf format, cut at 512 bytes; always false. */
extern bool dtm_api_say(const DtmApiCall *call, DtmApiOutcome outcome, DtmArena *arena,
						DtmApiAnswer *answer, const char *format, ...)
#if defined(__GNUC__)
	__attribute__((format(printf, 5, 6)))
#endif
	;

/* 404 page not found, 405 likewise; always false. */
extern bool dtm_api_not_found(DtmApiAnswer *answer);

#endif /* DTM_API_INTERNAL_H */
