/* -------------------------------------------------------------------------
 *
 * dtm_rpc.h
 *		Calls to branches by JSON-RPC: which they are, what is sent, and what
 *		the answer means (DTM protocol, 3.5 and 4.6).
 *
 * Pure functions.  Not here: the call itself, which is an HTTP request like
 * others (dtm_http.h); JSON-RPC as a way to ask us (dtm_api.h).
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_RPC_H
#define DTM_RPC_H

#include "dtm_trans.h"

#define DTM_RPC_ID_LEN 22

/*
 * Is this target called by JSON-RPC?  In a transaction with DTM_FLAG_JSON_RPC
 * every http(s) URL is in which the word "method" occurs; its others are
 * called by plain HTTP.
 */
extern bool dtm_rpc_applies(uint32_t flags, DtmText url);

/*
 * What is wrong with a payload for such a call, as "is no JSON object", or
 * NULL.  None at all is fine.
 */
extern const char *dtm_rpc_payload_check(DtmText payload);

/* A call; texts in UTF-8. */
typedef struct DtmRpcCall
{
	const char *id; /* DTM_RPC_ID_LEN characters, another one for each call */
	DtmText url;    /* whose parameter "method" names the method */
	DtmText payload;
	DtmText gid;
	const char *trans_type;
	DtmText branch_id;
	const char *op;
} DtmRpcCall;

/*
 * The body of the POST: the members of the payload, and those that tell the
 * branch who calls in place of members of the same name.  The payload's text
 * is passed on as it is, unless it has such a member.  NULL, or why it cannot
 * be made.
 */
extern const char *dtm_rpc_body(const DtmRpcCall *call, DtmArena *arena, DtmText *body);

/*
 * What an answer means: by the rules of any HTTP answer (dtm_answer_meaning)
 * first, then by its error.  When it is no success, reason becomes a text for
 * people as of dtm_answer_reason, with the error's code in place of the
 * status ("-32901: no stock"); else it is empty.
 */
extern DtmOutcome
dtm_rpc_meaning(int http_status, const char *body, size_t len, char *reason, size_t size);

#endif /* DTM_RPC_H */
