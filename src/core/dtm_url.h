/* -------------------------------------------------------------------------
 *
 * dtm_url.h
 *		Targets of a branch, DTM's query parameters, and the query string
 *		that a service received.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_URL_H
#define DTM_URL_H

#include "dtm_types.h"

typedef enum DtmScheme
{
	DTM_SCHEME_EMPTY, /* "": success at once */
	DTM_SCHEME_HTTP,
	DTM_SCHEME_HTTPS,
	DTM_SCHEME_SQL,  /* sql:function or sql:schema.function */
	DTM_SCHEME_PG,   /* pg://server/function or pg://server/schema.function */
	DTM_SCHEME_XA,   /* xa://server: in specs of our own making only, never submitted */
	DTM_SCHEME_GRPC, /* the rest is known but not served yet */
	DTM_SCHEME_GRPCS,
	DTM_SCHEME_DISCOVERY,
	DTM_SCHEME_TOPIC,
	DTM_SCHEME_UNKNOWN
} DtmScheme;

typedef struct DtmTarget
{
	DtmScheme scheme;
	DtmText host;  /* http(s): without brackets; pg, xa: the server, as it is written */
	uint16_t port; /* explicit or the scheme's default */
	DtmText rest;  /* sql, pg: the function name; else what follows scheme:// */
} DtmTarget;

/*
 * Split a target.  NULL when it is well formed (also for known schemes that
 * are not served yet; look at target->scheme), else what is wrong with it,
 * e.g. "has no host", and a hostile one never reaches the resolver: control
 * characters, spaces, userinfo ("user:pw@"), an empty host, a port outside
 * 1..65535 are refused, and so is every spelling of an IPv4 address but four
 * decimal numbers (2130706433, 0x7f000001, 0177.0.0.1, 127.1), which some
 * resolvers accept though a policy on names would not see the address.
 *
 * A scheme nobody knows, or none, is an error with scheme UNKNOWN.  Schemes
 * are compared without regard to case.  The texts in target point into url.
 * sql: takes an identifier or schema.identifier, each plain or "quoted"; so
 * does pg:// behind its server, which is such an identifier too.
 */
extern const char *dtm_target_parse(const char *url, size_t len, DtmTarget *target);

/*
 * Take one SQL identifier from the front of name: without quotes, a plain one
 * in lower case (ASCII, as the server folds it).  A NUL is put behind.  Returns the bytes of
 * name that it took, 0 when there is none or size does not suffice; room for
 * len + 1 bytes always does.
 */
extern size_t dtm_identifier_read(DtmText name, char *buffer, size_t size);

/*
 * The URL of one call: url plus branch_id, gid, op, trans_type, percent
 * encoded, behind whatever query it has; a fragment is dropped.  A NUL is
 * put behind.  Returns the length (without NUL), or 0 when size does not
 * suffice; DTM_URL_FOR_CALL_ROOM(url.len) always does for our branch ids,
 * trans_type and op.
 */
#define DTM_URL_FOR_CALL_ROOM(url_len) ((url_len) + 3 * DTM_MAX_GID_LEN + 256)

extern size_t dtm_url_for_call(DtmText url, DtmText gid, const char *trans_type, DtmText branch_id,
							   const char *op, char *buffer, size_t size);

/* The four values a barrier needs, decoded from a raw URL or query string. */
typedef struct DtmRequest
{
	char trans_type[46];
	char gid[DTM_MAX_GID_LEN + 1];
	char branch_id[129];
	char op[46];
} DtmRequest;

/*
 * Read them from "http://host/path?gid=..&op=..", "/path?gid=..",
 * "?gid=.." or "gid=..&op=..".  The first occurrence of a key wins; the
 * legacy "branch_type" stands for a missing op.  NULL when all four are
 * there, else what is wrong, e.g. has no "gid", or has a "gid" that is too
 * long; *field names the parameter.  An empty value counts as missing; "+" is a blank.  Decoded
 * values have no control characters, but may be invalid in the database's
 * encoding: the caller verifies that.
 */
extern const char *
dtm_request_parse(const char *request, size_t len, DtmRequest *out, const char **field);

#endif /* DTM_URL_H */
