/* -------------------------------------------------------------------------
 *
 * dtm_arena.h
 *		A memory context as the core's allocator.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_ARENA_H
#define DTM_ARENA_H

#include "postgres.h"

#include "utils/memutils.h"

#include "dtm_types.h"

/* NULL when there is no memory: nothing below the line may be jumped out of. */
static inline void *
dtm_arena_alloc(void *context, size_t size)
{
	if (!AllocSizeIsValid(size))
		return NULL;
	return MemoryContextAllocExtended((MemoryContext) context, size, MCXT_ALLOC_NO_OOM);
}

static inline DtmArena
dtm_arena(MemoryContext context)
{
	DtmArena arena = {dtm_arena_alloc, context};

	return arena;
}

#endif /* DTM_ARENA_H */
