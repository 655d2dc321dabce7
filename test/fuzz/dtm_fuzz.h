/* -------------------------------------------------------------------------
 *
 * dtm_fuzz.h
 *		What the fuzz targets share: an arena, a property that must hold,
 *		cutting the input into parts.
 *
 * A target feeds its function anything and states properties of what comes
 * back; libFuzzer and the sanitizers report the rest.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_FUZZ_H
#define DTM_FUZZ_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dtm_types.h"

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_UNUSED __attribute__((unused))

#define HOLDS(condition) ((condition) ? (void) 0 : fuzz_fail(#condition, __FILE__, __LINE__))

static inline void FUZZ_UNUSED
fuzz_fail(const char *condition, const char *file, int line)
{
	fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, condition);
	abort();
}

/* Every block on its own, so that AddressSanitizer sees each overrun. */
typedef struct FuzzBlock
{
	struct FuzzBlock *next;
	max_align_t data[];
} FuzzBlock;

typedef struct FuzzArena
{
	DtmArena arena;
	FuzzBlock *blocks;
	size_t bytes;
} FuzzArena;

static void *
fuzz_alloc(void *context, size_t size)
{
	FuzzArena *fuzz = context;
	FuzzBlock *block = malloc(sizeof(FuzzBlock) + size);

	HOLDS(block != NULL);
	block->next = fuzz->blocks;
	fuzz->blocks = block;
	fuzz->bytes += size;
	return block->data;
}

static inline void FUZZ_UNUSED
fuzz_arena_init(FuzzArena *fuzz)
{
	fuzz->arena.alloc = fuzz_alloc;
	fuzz->arena.context = fuzz;
	fuzz->blocks = NULL;
	fuzz->bytes = 0;
}

static inline void FUZZ_UNUSED
fuzz_arena_free(FuzzArena *fuzz)
{
	while (fuzz->blocks != NULL)
	{
		FuzzBlock *next = fuzz->blocks->next;

		free(fuzz->blocks);
		fuzz->blocks = next;
	}
}

/* The input up to the next line feed, which is dropped; the rest stays. */
static inline DtmText FUZZ_UNUSED
fuzz_line(const uint8_t **data, size_t *size)
{
	const uint8_t *end = *size > 0 ? memchr(*data, '\n', *size) : NULL;
	DtmText line = {(const char *) *data, (uint32_t) *size};

	if (end != NULL)
		line.len = (uint32_t) (end - *data);
	*data += line.len + (end != NULL);
	*size -= line.len + (end != NULL);
	return line;
}

/* A copy of its own size, so that reading beyond it is seen; free it. */
static inline char *FUZZ_UNUSED
fuzz_copy(DtmText text)
{
	char *copy = malloc(text.len + 1);

	HOLDS(copy != NULL);
	if (text.len > 0)
		memcpy(copy, text.data, text.len);
	copy[text.len] = '\0';
	return copy;
}

static inline bool FUZZ_UNUSED
fuzz_within(DtmText part, DtmText whole)
{
	return part.len == 0 ||
		(part.data >= whole.data && part.data + part.len <= whole.data + whole.len);
}

#endif /* DTM_FUZZ_H */
