/* -------------------------------------------------------------------------
 *
 * dtm_store_list.h
 *		Looking through the tables for somebody who asks: pages of
 *		transactions, newest first, and all that is known of some of them.
 *
 * Two steps, so that a long table costs little: numbers first, of as many
 * rows as the caller can afford to look at, and whole rows of those that are
 * wanted.  Whose rows may be seen is for the caller.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_STORE_LIST_H
#define DTM_STORE_LIST_H

#include "dtm_store.h"

/* Where to look: the more is known of the status, the fewer rows are in the way. */
typedef enum DtmListFrom
{
	DTM_LIST_ALL,        /* status is not told */
	DTM_LIST_UNFINISHED, /* prepared, submitted, aborting */
	DTM_LIST_FINISHED    /* succeed, failed */
} DtmListFrom;

typedef struct DtmListId
{
	int64 id;
	Oid owner; /* InvalidOid: half of the transaction is missing */
	DtmTransType type;
	DtmStatus status; /* NONE of DTM_LIST_ALL */
	TimestampTz created_at;
	int64 size; /* bytes of its spec */
} DtmListId;

/* At most limit rows with a smaller id than before, descending; returns how many. */
extern int dtm_store_list_ids(DtmListFrom from, int64 before, int limit, DtmListId *rows);

/* All there is of a transaction; texts in the database's encoding. */
typedef struct DtmListed
{
	int64 id;
	Oid owner;
	DtmTransType type;
	DtmStatus status; /* NONE: half of it is missing */
	TimestampTz created_at;
	TimestampTz updated_at;
	TimestampTz finished_at; /* 0 = not finished */
	TimestampTz next_run_at; /* 0 = finished, parked, or it waits for another one */
	int32 failures;
	char *gid;
	char *reason;  /* or NULL */
	Jsonb *result; /* or NULL */
	bytea *spec;
	bytea *state; /* or NULL */
} DtmListed;

/*
 * Those of ids that are still there, in no order, in the caller's context:
 * without state, and without branches that were registered later.
 */
extern int dtm_store_list_rows(const int64 *ids, int n, DtmListed *rows);

/* The one with this gid, with its state and all of its branches. */
extern bool dtm_store_list_one(const char *gid, DtmListed *row);

#endif /* DTM_STORE_LIST_H */
