/* -------------------------------------------------------------------------
 *
 * dtm_test.h
 *		The smallest check-and-report harness, for the tests of src/core and
 *		src/net.
 *
 * A test is a plain C program: its main calls functions full of CHECKs and
 * ends with TEST_REPORT().  Failed checks are printed with their place and
 * both values; passed ones only counted.  Not here: anything about the
 * subject of a test.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_TEST_H
#define DTM_TEST_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dtm_types.h"

#define TEST_UNUSED __attribute__((unused))

static long long test_passed;
static long long test_failed;

/* The condition holds.  All CHECKs give whether they did, to guard what follows. */
#define CHECK(cond) test_check((cond), #cond, __FILE__, __LINE__)

/* Two integers (anything that fits long long) are equal. */
#define CHECK_INT(actual, expected) \
	test_check_int((long long) (actual), (long long) (expected), #actual, __FILE__, __LINE__)

/* Two NUL-terminated strings are equal; NULL equals only NULL. */
#define CHECK_STR(actual, expected) \
	test_check_str((actual), (expected), #actual, __FILE__, __LINE__)

/* A DtmText has exactly the bytes of a NUL-terminated string. */
#define CHECK_TEXT(actual, expected) \
	test_check_text((actual), (expected), #actual, __FILE__, __LINE__)

/* The last statement of main. */
#define TEST_REPORT() return test_report(__FILE__)

static inline bool
test_note(bool ok, const char *file, int line)
{
	if (ok)
		test_passed++;
	else
	{
		test_failed++;
		printf("%s:%d: ", file, line);
	}
	return ok;
}

static inline bool TEST_UNUSED
test_check(bool ok, const char *what, const char *file, int line)
{
	if (!test_note(ok, file, line))
		printf("does not hold: %s\n", what);
	return ok;
}

static inline bool TEST_UNUSED
test_check_int(long long actual, long long expected, const char *what, const char *file, int line)
{
	bool ok = test_note(actual == expected, file, line);

	if (!ok)
		printf("%s is %lld, expected %lld\n", what, actual, expected);
	return ok;
}

static inline bool TEST_UNUSED
test_check_str(const char *actual, const char *expected, const char *what, const char *file,
			   int line)
{
	bool same =
		actual == expected || (actual != NULL && expected != NULL && strcmp(actual, expected) == 0);
	bool ok = test_note(same, file, line);

	if (!ok)
		printf("%s is \"%s\", expected \"%s\"\n", what, actual ? actual : "(null)",
			   expected ? expected : "(null)");
	return ok;
}

static inline bool TEST_UNUSED
test_check_text(DtmText actual, const char *expected, const char *what, const char *file, int line)
{
	size_t len = strlen(expected);
	bool same = actual.len == len && (len == 0 || memcmp(actual.data, expected, len) == 0);
	bool ok = test_note(same, file, line);

	if (!ok)
		printf("%s is \"%.*s\", expected \"%s\"\n", what, (int) actual.len,
			   actual.data ? actual.data : "", expected);
	return ok;
}

static inline int
test_report(const char *file)
{
	printf("%s: %lld passed, %lld failed\n", file, test_passed, test_failed);
	return test_failed == 0 && test_passed > 0 ? 0 : 1;
}

/* A view on a string constant. */
static inline DtmText TEST_UNUSED
test_text(const char *string)
{
	DtmText text = {string, (uint32_t) strlen(string)};

	return text;
}

/*
 * An arena over malloc: every block on its own, so that AddressSanitizer sees
 * each overrun, freed by test_arena_reset.  fail_after: that many allocations
 * succeed and then all give NULL; -1 = never fail.
 */
typedef struct TestArena
{
	DtmArena arena;
	void **blocks;
	size_t n_blocks;
	size_t size;
	size_t bytes; /* asked for since the last reset */
	long fail_after;
} TestArena;

static inline void *
test_arena_alloc(void *context, size_t size)
{
	TestArena *test = context;
	void *block;

	if (test->fail_after == 0)
		return NULL;
	if (test->fail_after > 0)
		test->fail_after--;
	if (test->n_blocks == test->size)
	{
		test->size = test->size ? test->size * 2 : 64;
		test->blocks = realloc(test->blocks, test->size * sizeof(void *));
	}
	block = malloc(size ? size : 1);
	test->blocks[test->n_blocks++] = block;
	test->bytes += size;
	return block;
}

static inline void TEST_UNUSED
test_arena_init(TestArena *test)
{
	memset(test, 0, sizeof(*test));
	test->arena.alloc = test_arena_alloc;
	test->arena.context = test;
	test->fail_after = -1;
}

/* Free everything; the arena can be used again, and leaks nothing when it is not. */
static inline void TEST_UNUSED
test_arena_reset(TestArena *test)
{
	for (size_t i = 0; i < test->n_blocks; i++)
		free(test->blocks[i]);
	free(test->blocks);
	test_arena_init(test);
}

#endif /* DTM_TEST_H */
