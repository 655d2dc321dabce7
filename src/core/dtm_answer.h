/* -------------------------------------------------------------------------
 *
 * dtm_answer.h
 *		What an HTTP answer means, and the reason text that people read.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_ANSWER_H
#define DTM_ANSWER_H

#include "dtm_types.h"

/* DTM's rule: 425 or the word ONGOING, 409 or FAILURE, exactly 200, else temporary. */
extern DtmOutcome dtm_answer_meaning(int http_status, const char *body, size_t body_len);

/*
 * "409: no stock", "500: ...": the status and the body, made printable
 * (control characters and bytes that are not UTF-8 become '?', runs of
 * white space one blank), cut at a character boundary, with a NUL behind.
 * status 0 = there was no answer: the text alone.  Returns the length.
 */
extern size_t
dtm_answer_reason(int http_status, const char *body, size_t body_len, char *buffer, size_t size);

/*
 * DTM's rollback reason of a saga: url:<url> return failed: <body> FAILURE
 * (a trailing FAILURE of the body is not doubled).  Made printable like the
 * reason; when size is short the body is cut, then the url, never FAILURE.
 * Returns the length; a NUL is behind.
 */
extern size_t dtm_answer_rollback_reason(DtmText url, const char *body, size_t body_len,
										 char *buffer, size_t size);

/*
 * Any bytes as one line of printable UTF-8, by the rules of
 * dtm_answer_reason; for messages.  Cut at a character boundary to fit size
 * with a NUL behind; returns the length.
 */
extern size_t dtm_text_printable(const char *data, size_t len, char *buffer, size_t size);

/* Is every byte of it part of a UTF-8 character, and none of them 0? */
extern bool dtm_text_is_utf8(const char *data, size_t len);

#endif /* DTM_ANSWER_H */
