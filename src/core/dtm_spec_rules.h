/* -------------------------------------------------------------------------
 *
 * dtm_spec_rules.h
 *		Rules about single values of a spec: numbers, header lines, the order
 *		of steps.  For dtm_spec_build.c and dtm_spec_pack.c alone.
 *
 * Not here: words for people.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_SPEC_RULES_H
#define DTM_SPEC_RULES_H

#include "dtm_trans.h"

/*
 * A JSON number times 10^scale as an integer; false when the text is no
 * number or the result does not fit.  *exact tells whether digits were
 * dropped: they round half away from zero.  The locale plays no part.
 */
extern bool
dtm_decimal_parse(const char *text, size_t len, int scale, int64_t *result, bool *exact);

/* A token of RFC 9110, section 5.6.2. */
extern bool dtm_header_is_name(DtmText name);

/* True for a header that the HTTP layer makes itself, or that would change the framing. */
extern bool dtm_header_is_reserved(DtmText name);

/* No control character but the tab, so that it cannot end its line. */
extern bool dtm_header_is_safe(DtmText text);

/* Compared without regard to the case of ASCII letters; sorts like memcmp. */
extern int dtm_header_compare(DtmText a, DtmText b);

/*
 * Is there an order in which every step finds its "after" done?
 * DTM_INVALID when not, with *step (unless NULL) on a cycle.  Entries must be
 * below n.  The arena is used only when some step waits for a later one.
 */
extern DtmRc
dtm_spec_order_check(const DtmBranch *branches, int n, DtmArena *arena, int *step) DTM_MUST_CHECK;

#endif /* DTM_SPEC_RULES_H */
