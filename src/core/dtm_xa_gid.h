/* -------------------------------------------------------------------------
 *
 * dtm_xa_gid.h
 *		Names of XA transactions over foreign servers: whose they are can be
 *		read off the name of a prepared transaction alone.
 *
 *	 dtmxa-<system identifier>-<database>-<transaction id>-<random>      the gid
 *	 ... -01, -02, ...                                   what its branches prepare
 *
 * Numbers are hexadecimal and of fixed width, but for the database's.  The
 * transaction id is the local one, with its epoch: while it is in progress,
 * nobody but its own session knows what will become of the prepared ones.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_XA_GID_H
#define DTM_XA_GID_H

#include "dtm_types.h"

#define DTM_XA_GID_START "dtmxa-" /* no gid that a user chooses begins so */
#define DTM_XA_PREFIX_SIZE 40     /* with the NUL behind it */
#define DTM_XA_GID_SIZE 66
#define DTM_XA_XID_SIZE 76

/* Where the transactions of a database begin: "dtmxa-<system>-<database>-". */
extern void
dtm_xa_prefix(uint64_t system_identifier, uint32_t database, char out[DTM_XA_PREFIX_SIZE]);

extern void
dtm_xa_gid_make(const char *prefix, uint64_t local_xid, uint32_t random, char out[DTM_XA_GID_SIZE]);

/* What branch number n, from 1, prepares. */
extern void dtm_xa_xid_make(const char *gid, unsigned branch, char out[DTM_XA_XID_SIZE]);

/*
 * Is this name one of ours, to the letter?  Then its gid and its local
 * transaction id; what merely looks like it is nobody's to touch.
 */
extern bool dtm_xa_xid_parse(const char *prefix, const char *xid, char gid[DTM_XA_GID_SIZE],
							 uint64_t *local_xid);

#endif /* DTM_XA_GID_H */
