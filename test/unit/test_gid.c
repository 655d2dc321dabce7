/* -------------------------------------------------------------------------
 *
 * test_gid.c
 *		Making and checking gids.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_spec.h"
#include "dtm_test.h"

static void
test_make(void)
{
	static const unsigned char zero[10] = {0};
	static const unsigned char full[10] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
	static const unsigned char one[10] = {[9] = 1};
	static const unsigned char base[10] = {[9] = 57};
	char gid[23];
	char other[23];

	dtm_gid_make(0, zero, gid);
	CHECK_STR(gid, "2222222222222222222222");
	dtm_gid_make(56, one, gid);
	CHECK_STR(gid, "2222222z22222222222223");
	dtm_gid_make(57, base, gid);
	CHECK_STR(gid, "2222223222222222222232");

	/* all 80 random bits count */
	dtm_gid_make(1795215862123, full, gid);
	dtm_gid_make(1795215862123, zero, other);
	CHECK(memcmp(gid, other, 8) == 0);
	CHECK_STR(gid + 8, "L3nddSMfdniSiV");
	CHECK_INT(strlen(gid), 22);
}

static void
test_order(void)
{
	static const unsigned char zero[10] = {0};
	static const unsigned char full[10] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
	char last[23] = "";
	uint64_t ms = 1;

	/* a later gid sorts behind an earlier one, whatever the random part */
	for (int i = 0; i < 4000; i++)
	{
		char early[23];
		char late[23];

		dtm_gid_make(ms, full, early);
		dtm_gid_make(ms + 1, zero, late);
		CHECK(strcmp(early, late) < 0);
		CHECK(strcmp(last, early) < 0);
		memcpy(last, late, sizeof(last));
		ms = i < 2000 ? ms + 3 : ms + ms / 200 + 3;
	}

	/* words that have a meaning in an answer's text cannot occur */
	CHECK(strpbrk(last, "01IOl") == NULL);
}

static void
test_next(void)
{
	static const unsigned char zero[10] = {0};
	static const unsigned char full[10] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
	DtmGidLast last = {0};
	char before[23] = "";
	char gid[23];

	/* the first one, and one of a later time, are just made */
	dtm_gid_next(&last, 1000, full, before);
	dtm_gid_make(1000, full, gid);
	CHECK_STR(before, gid);
	dtm_gid_next(&last, 2000, zero, before);
	dtm_gid_make(2000, zero, gid);
	CHECK_STR(before, gid);

	/* in the same millisecond, and with a clock that goes back */
	for (int i = 0; i < 5000; i++)
	{
		dtm_gid_next(&last, i < 2500 ? 2000 : 1500, i % 2 == 0 ? full : zero, gid);
		CHECK(strcmp(before, gid) < 0);
		memcpy(before, gid, sizeof(before));
	}
	CHECK_INT(last.unix_ms, 2000);

	/* a number that is full carries into the time */
	dtm_gid_next(&last, 3000, full, before);
	dtm_gid_next(&last, 3000, zero, gid);
	CHECK(strcmp(before, gid) < 0);
	CHECK_INT(last.unix_ms, 3001);
}

static void
test_rules(void)
{
	char longest[DTM_MAX_GID_LEN + 2];

	memset(longest, 'x', sizeof(longest));
	CHECK_STR(dtm_gid_check("order-1001", 10), NULL);
	CHECK_STR(dtm_gid_check("b\xc3\xbc"
							"cher / a b",
							12),
			  NULL);
	CHECK_STR(dtm_gid_check(longest, DTM_MAX_GID_LEN), NULL);
	CHECK_STR(dtm_gid_check(longest, DTM_MAX_GID_LEN + 1), "gid is longer than 128 bytes");
	CHECK_STR(dtm_gid_check("", 0), "gid must not be empty");
	CHECK_STR(dtm_gid_check("a\nb", 3), "gid contains a control character");
	CHECK_STR(dtm_gid_check("a\x7f", 2), "gid contains a control character");
	CHECK_STR(dtm_gid_check("a\0b", 3), "gid contains a control character");
}

int
main(void)
{
	test_make();
	test_order();
	test_next();
	test_rules();
	TEST_REPORT();
}
