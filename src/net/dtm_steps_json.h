/* -------------------------------------------------------------------------
 *
 * dtm_steps_json.h
 *		A JSON text of steps, read with jansson and fed to the spec builder.
 *
 * For texts that do not come as jsonb: the wire, tests.  Not here: the rules
 * about steps (dtm_spec.h), the gid and whatever else a request carries.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_STEPS_JSON_H
#define DTM_STEPS_JSON_H

#include "dtm_spec.h"

/*
 * Walk one of
 *		[{"action": ..., "compensate": ..., "payload": ...}, ...]
 *		{"steps": [{"action": ..., "compensate": ...}], "payloads": ["..."], ...}
 * with the keys of the type of the builder; a tcc has the first only.  The
 * second is what the clients of DTM send (DTM protocol, 2.3 and 2.4): step i
 * takes payload i, verbatim, of "payloads" followed by the non-empty "data"
 * of the steps; custom_data holds "concurrent" and "orders" (of a msg
 * "concurrent" and "delay", seconds); request_timeout,
 * retry_interval and timeout_to_fail are seconds and, like retry_limit, 0
 * when not given; branch_headers go with every call; protocol is http or
 * json-rpc, whose payloads are checked.  Its other members are left to the
 * caller.  DTM_FLAG_CONCURRENT, DTM_FLAG_JSON_RPC and, with a retry_limit,
 * DTM_FLAG_RETRY_NO_PAUSE are added to *flags, which are set.
 *
 * Payloads in an array of steps are written anew, with every double exact;
 * an integer beyond 64 bits is refused, as it could not be.
 *
 * Of a key that is there twice the last one counts, as DTM's Java client
 * needs it.  Memory: jansson's malloc, freed before the return; the builder's
 * arena for the rest.  False: the reason is in dtm_spec_error(builder), also
 * when the text is no JSON or nested deeper than jansson goes.
 */
extern bool dtm_steps_json(DtmSpecBuilder *builder, const char *text, size_t len, uint32_t *flags);

#endif /* DTM_STEPS_JSON_H */
