/* -------------------------------------------------------------------------
 *
 * dtm_held.c
 *		The transactions that a coordinator holds in memory.
 *
 * Each has a memory context of its own, so that letting go of it frees all.
 * What waits for long is not here but in dtm.timer.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/async.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "dtm_arena.h"
#include "dtm_coordinator.h"
#include "dtm_settings.h"
#include "dtm_spec.h"
#include "dtm_state.h"

typedef struct HeldEntry
{
	int64 id;
	DtmHeld *held;
} HeldEntry;

/* Earliest first: pairingheap keeps the greatest on top. */
static int
compare_wake(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	const DtmHeld *x = pairingheap_const_container(DtmHeld, heap_node, a);
	const DtmHeld *y = pairingheap_const_container(DtmHeld, heap_node, b);

	(void) arg;
	if (x->wake_at == y->wake_at)
		return 0;
	return x->wake_at < y->wake_at ? 1 : -1;
}

void
dtm_held_init(DtmCoordinator *c)
{
	HASHCTL ctl;

	memset(&ctl, 0, sizeof(ctl));
	ctl.keysize = sizeof(int64);
	ctl.entrysize = sizeof(HeldEntry);
	ctl.hcxt = c->context;
	c->held =
		hash_create("dtm held transactions", 1024, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	c->heap = pairingheap_allocate(compare_wake, NULL);
}

DtmHeld *
dtm_held_find(DtmCoordinator *c, int64 id)
{
	HeldEntry *entry = hash_search(c->held, &id, HASH_FIND, NULL);

	return entry == NULL ? NULL : entry->held;
}

DtmHeld *
dtm_held_add(DtmCoordinator *c, const DtmStoredTrans *row, const char **problem)
{
	/* small blocks: what is larger than an eighth of them gets its own, of just its size */
	MemoryContext context = AllocSetContextCreate(c->context, "dtm trans", 0, 1024, 4096);
	MemoryContext old = MemoryContextSwitchTo(context);
	DtmHeld *held = palloc0(sizeof(DtmHeld));
	char *spec = palloc(row->spec_len);
	char *state = row->state_len > 0 ? palloc(row->state_len) : NULL;
	HeldEntry *entry;
	DtmRc rc;

	held->id = row->id;
	held->hold = ++c->holds;
	held->ver = row->ver;
	held->owner = row->owner;
	held->context = context;
	held->arena = dtm_arena(context);
	held->gid = pstrdup(row->gid);
	held->next_at = DTM_TIME_NEVER;
	memcpy(spec, row->spec, row->spec_len);
	if (state != NULL)
		memcpy(state, row->state, row->state_len);

	held->trans.created_at = row->created_at;
	rc = dtm_spec_unpack(spec, row->spec_len, &held->arena, &held->trans);
	if (rc == DTM_OK)
		rc = dtm_state_unpack(state, row->state_len, &held->arena, &held->trans);
	if (rc == DTM_OK && (row->status < DTM_STATUS_PREPARED || row->status > DTM_STATUS_ABORTING))
		rc = DTM_INVALID;
	if (rc != DTM_OK)
	{
		*problem = rc == DTM_NOMEM
			? "out of memory while loading the transaction"
			: "the stored transaction cannot be read: its packed columns are damaged or of a newer version";
		MemoryContextSwitchTo(old);
		MemoryContextDelete(context);
		return NULL;
	}
	held->trans.status = row->status;
	if (row->reason != NULL)
	{
		char *reason = pstrdup(row->reason);

		held->trans.reason.data = reason;
		held->trans.reason.len = (uint32) strlen(reason);
	}
	if (held->trans.timeout_to_fail_ms == 0 && held->trans.type != DTM_TYPE_SAGA &&
		held->trans.type != DTM_TYPE_WORKFLOW)
		held->trans.timeout_to_fail_ms = dtm_timeout_to_fail;
	MemoryContextSwitchTo(old);

	entry = hash_search(c->held, &held->id, HASH_ENTER, NULL);
	entry->held = held;
	c->n_held++;
	pg_atomic_write_u32(&c->slot->in_flight, c->n_held);
	return held;
}

void
dtm_held_drop(DtmCoordinator *c, DtmHeld *held)
{
	if (held->calls_out > 0)
		dtm_calls_cancel(c, held);
	dtm_held_no_wake(c, held);
	hash_search(c->held, &held->id, HASH_REMOVE, NULL);
	c->n_held--;
	pg_atomic_write_u32(&c->slot->in_flight, c->n_held);
	MemoryContextDelete(held->context);
}

void
dtm_held_no_wake(DtmCoordinator *c, DtmHeld *held)
{
	if (held->in_heap)
		pairingheap_remove(c->heap, &held->heap_node);
	held->in_heap = false;
}

void
dtm_held_wake_at(DtmCoordinator *c, DtmHeld *held, DtmTime at)
{
	dtm_held_no_wake(c, held);
	if (at == DTM_TIME_NEVER)
		return;
	held->wake_at = at;
	pairingheap_add(c->heap, &held->heap_node);
	held->in_heap = true;
}

DtmTime
dtm_held_first_wake(const DtmCoordinator *c)
{
	if (pairingheap_is_empty(c->heap))
		return DTM_TIME_NEVER;
	return pairingheap_container(DtmHeld, heap_node, pairingheap_first(c->heap))->wake_at;
}

DtmHeld *
dtm_held_next_due(DtmCoordinator *c, DtmTime now)
{
	DtmHeld *held;

	if (dtm_held_first_wake(c) > now)
		return NULL;
	held = pairingheap_container(DtmHeld, heap_node, pairingheap_remove_first(c->heap));
	held->in_heap = false;
	return held;
}

/* Failures in a row of the op that has most: what dtm.stuck looks at. */
static int32
worst_failures(const DtmTrans *trans)
{
	uint32 worst = trans->query.failures;

	for (int i = 0; i < trans->n_branches; i++)
	{
		for (int role = 0; role < DTM_ROLES; role++)
		{
			const DtmOpState *op = &trans->branches[i].state[role];

			if (op->status == DTM_OP_PREPARED && op->failures > worst)
				worst = op->failures;
		}
	}
	return (int32) Min(worst, (uint32) PG_INT32_MAX);
}

void
dtm_held_fill_progress(DtmHeld *held, TimestampTz now, bool release)
{
	DtmProgress *p = &held->progress;
	char *buffer = palloc(dtm_state_bound(&held->trans));

	memset(p, 0, sizeof(*p));
	p->id = held->id;
	p->ver = held->ver;
	p->type = held->trans.type;
	p->status = held->trans.status;
	p->failures = worst_failures(&held->trans);
	p->attempts = (int32) held->trans.attempts;
	p->retries = (int32) held->trans.retries;
	p->created_at = held->trans.created_at;

	/* what stays in memory has no timer, and is due at once for who comes after a crash */
	p->next_run_at = release ? Max(held->next_at, now) : now;
	p->release = release;
	p->saw_retry = held->saw_retry;
	p->now = now;
	p->state_len = dtm_state_pack(&held->trans, buffer);
	p->state = buffer;
	if (held->trans.reason.len > 0)
	{
		p->reason = held->trans.reason.data;
		p->reason_len = held->trans.reason.len;
	}
}

void
dtm_ids_add(DtmCoordinator *c, DtmIdList *list, int64 id)
{
	if (list->n == list->size)
	{
		int size = Max(256, list->size * 2);

		list->ids = list->ids == NULL ? MemoryContextAlloc(c->context, sizeof(int64) * size)
									  : repalloc(list->ids, sizeof(int64) * size);
		list->size = size;
	}
	list->ids[list->n++] = id;
}

void
dtm_held_shun(DtmCoordinator *c, int64 id, TimestampTz until)
{
	c->shunned[c->next_shunned].id = id;
	c->shunned[c->next_shunned].until = until;
	c->next_shunned = (c->next_shunned + 1) % DTM_MAX_SHUNNED;
}

bool
dtm_held_is_shunned(const DtmCoordinator *c, int64 id, TimestampTz now)
{
	for (int i = 0; i < DTM_MAX_SHUNNED; i++)
	{
		if (c->shunned[i].id == id && c->shunned[i].until > now)
			return true;
	}
	return false;
}

void
dtm_held_notify(const DtmHeld *held)
{
	char payload[DTM_MAX_GID_LEN + 16];

	snprintf(payload, sizeof(payload), "%s %s", held->gid, dtm_status_name(held->trans.status));
	Async_Notify("dtm", payload);
}

void
dtm_held_keep_answer(DtmHeld *held, uint16 branch, DtmText bytes)
{
	DtmHeldAnswer *answer = MemoryContextAlloc(held->context, sizeof(DtmHeldAnswer));
	char *copy = MemoryContextAlloc(held->context, bytes.len + 1);

	memcpy(copy, bytes.data, bytes.len);
	answer->branch = branch;
	answer->bytes.data = copy;
	answer->bytes.len = bytes.len;
	answer->next = held->answers;
	held->answers = answer;
}

void
dtm_held_write_answers(DtmHeld *const *list, int n)
{
	int64 *ids;
	int *branches;
	char **answers;
	int count = 0;

	for (int i = 0; i < n; i++)
	{
		for (DtmHeldAnswer *a = list[i]->answers; a != NULL; a = a->next)
			count++;
	}
	if (count == 0)
		return;
	ids = palloc(sizeof(int64) * count);
	branches = palloc(sizeof(int) * count);
	answers = palloc(sizeof(char *) * count);
	count = 0;
	for (int i = 0; i < n; i++)
	{
		for (DtmHeldAnswer *a = list[i]->answers;
			 a != NULL && list[i]->progress.written && !list[i]->lost; a = a->next)
		{
			ids[count] = list[i]->id;
			branches[count] = a->branch;
			answers[count++] = dtm_store_text_of_wire(a->bytes.data, a->bytes.len);
		}
	}
	dtm_store_answer_many(ids, branches, answers, count);
}
