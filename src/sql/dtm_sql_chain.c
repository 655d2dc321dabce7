/* -------------------------------------------------------------------------
 *
 * dtm_sql_chain.c
 *		The last message of the current transaction: the next one of the same
 *		role is delivered after it.
 *
 * Remembered per role: whoever calls a function that submits with the rights
 * of another role must not be able to hold up that role's messages with one
 * of his own.  And per subtransaction: what a rolled back savepoint submitted
 * has never been, so that the next message follows the one before it.
 *
 * Not here: waiting itself (dtm_store_follow.c).  Runs in backends, and in
 * executors for functions that submit.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"

#include "dtm_sql.h"

/* The last message of a role as of a subtransaction; inner subtransactions come first. */
typedef struct Link
{
	struct Link *next;
	SubTransactionId subtransaction;
	Oid owner;
	int64 id; /* 0 = none any more */
} Link;

/* In memory of the top transaction. */
static Link *newest = NULL;
static bool callbacks_registered = false;

static void
at_end_of_transaction(XactEvent event, void *arg)
{
	(void) arg;
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			newest = NULL; /* its memory goes with the transaction */
			break;
		default:
			break;
	}
}

/* It belongs to the parent now, whose own last message is older. */
static void
move_to_parent(Link *link, SubTransactionId parent)
{
	link->subtransaction = parent;
	for (Link **at = &link->next; *at != NULL; at = &(*at)->next)
	{
		Link *older = *at;

		if (older->subtransaction == parent && older->owner == link->owner)
		{
			*at = older->next;
			pfree(older);
			return;
		}
	}
}

static void
at_end_of_subtransaction(SubXactEvent event, SubTransactionId ended, SubTransactionId parent,
						 void *arg)
{
	(void) arg;
	if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		while (newest != NULL && newest->subtransaction == ended)
		{
			Link *link = newest;

			newest = link->next;
			pfree(link);
		}
	}
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		for (Link *link = newest; link != NULL && link->subtransaction == ended; link = link->next)
			move_to_parent(link, parent);
	}
}

static Link *
find(Oid owner)
{
	Link *link = newest;

	while (link != NULL && link->owner != owner)
		link = link->next;
	return link;
}

int64
dtm_chain_last(Oid owner)
{
	const Link *link = find(owner);

	return link == NULL ? 0 : link->id;
}

void
dtm_chain_set_last(Oid owner, int64 id)
{
	SubTransactionId current = GetCurrentSubTransactionId();
	Link *link = find(owner);

	if (!callbacks_registered)
	{
		RegisterXactCallback(at_end_of_transaction, NULL);
		RegisterSubXactCallback(at_end_of_subtransaction, NULL);
		callbacks_registered = true;
	}
	if (link == NULL || link->subtransaction != current)
	{
		link = MemoryContextAlloc(TopTransactionContext, sizeof(Link));
		link->next = newest;
		link->subtransaction = current;
		link->owner = owner;
		newest = link;
	}
	link->id = id;
}

void
dtm_chain_stopped(Oid owner, int64 id, int64 after)
{
	if (id != 0 && dtm_chain_last(owner) == id)
		dtm_chain_set_last(owner, after);
}
