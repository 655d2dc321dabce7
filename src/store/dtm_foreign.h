/* -------------------------------------------------------------------------
 *
 * dtm_foreign.h
 *		Foreign servers and user mappings as connection parameters for libpq.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_FOREIGN_H
#define DTM_FOREIGN_H

#include "postgres.h"

/* A foreign server as one role may use it.  All in the context current at the look-up. */
typedef struct DtmForeign
{
	Oid server;
	Oid role;
	char *name;             /* of the server */
	const char **keywords;  /* for PQconnectdbParams and PQconnectStartParams, NULL at the end; */
	const char **values;    /* ... client_encoding, application_name, connect_timeout among them */
	bool password_required; /* the connection must have used the password of the mapping */
	uint64 fingerprint;     /* of all parameters: a kept connection with another one is stale */
} DtmForeign;

/*
 * Look up a server and the user mapping of a role, or else PUBLIC's; palloc'd.
 * Catalogs only, no connection.  Needs a transaction.
 *
 * Options that libpq knows are passed on: of the server those that say where
 * to, of the mapping those that say as whom; others (fetch_size ...) are not.
 * The rule of postgres_fdw holds for roles that are no superuser: their
 * mapping has a password, and the connection must have needed it
 * (PQconnectionUsedPassword), unless the mapping says password_required
 * 'false', which only a superuser can write.  With another wrapper than
 * postgres_fdw nobody checked who wrote that, and so it does not count.
 *
 * Throws 42704 (undefined_object) when there is no such role, server or
 * mapping, 42501 without USAGE on the server, 2F003 when the password that
 * the rule asks for is missing.  prefix, e.g. "step 2: ", is put in front of
 * the messages.
 */
extern DtmForeign *dtm_foreign_get(const char *server, Oid role, const char *prefix);

#endif /* DTM_FOREIGN_H */
