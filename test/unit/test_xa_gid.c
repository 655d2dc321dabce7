/* -------------------------------------------------------------------------
 *
 * test_xa_gid.c
 *		Names of XA transactions over foreign servers: what is made is read
 *		back, and what is not ours to the letter is not taken for ours.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_spec.h"
#include "dtm_test.h"
#include "dtm_xa_gid.h"

static char prefix[DTM_XA_PREFIX_SIZE];

static void
test_round_trip(void)
{
	static const uint64_t xids[] = {3, 0x100000000, UINT64_MAX};
	char gid[DTM_XA_GID_SIZE];
	char xid[DTM_XA_XID_SIZE];
	char read[DTM_XA_GID_SIZE];
	uint64_t local;

	for (size_t i = 0; i < sizeof(xids) / sizeof(xids[0]); i++)
	{
		dtm_xa_gid_make(prefix, xids[i], i == 0 ? 0 : UINT32_MAX, gid);
		CHECK(dtm_gid_check(gid, strlen(gid)) == NULL);
		for (unsigned branch = 1; branch <= DTM_MAX_STEPS; branch += 333)
		{
			dtm_xa_xid_make(gid, branch, xid);
			local = 0;
			CHECK(dtm_xa_xid_parse(prefix, xid, read, &local));
			CHECK_STR(read, gid);
			CHECK(local == xids[i]);
		}
	}
	dtm_xa_gid_make(prefix, 0x2e1, 0x436c8161, gid);
	CHECK_STR(gid, "dtmxa-6b01024d5f76d562-4294967295-00000000000002e1-436c8161");
	dtm_xa_xid_make(gid, 2, xid);
	CHECK_STR(xid, "dtmxa-6b01024d5f76d562-4294967295-00000000000002e1-436c8161-02");
}

static void
test_others(void)
{
	static const char *const endings[] = {
		"",
		"00000000000002e1-436c8161",
		"00000000000002e1-436c8161-",
		"00000000000002e1-436c8161-1",
		"00000000000002e1-436c8161-12345",
		"00000000000002e1-436c8161-01x",
		"00000000000002e1-436c8161-01-01",
		"00000000000002E1-436c8161-01",
		"00000000000002e1-436c816g-01",
		"0000000000002e1-436c8161-01",
		"00000000000002e1_436c8161-01",
		"00000000000002e1-436c8161001",
	};
	char gid[DTM_XA_GID_SIZE];
	uint64_t local;

	for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++)
	{
		char xid[200];

		snprintf(xid, sizeof(xid), "%s%s", prefix, endings[i]);
		CHECK(!dtm_xa_xid_parse(prefix, xid, gid, &local));
	}
	CHECK(!dtm_xa_xid_parse(prefix, "", gid, &local));
	CHECK(!dtm_xa_xid_parse(prefix, "dtmxa-6b01024d5f76d562-5-00000000000002e1-436c8161-01", gid,
							&local));
	CHECK(!dtm_xa_xid_parse(prefix, "dtmxa-6b01024d5f76d563-4294967295-00000000000002e1-436c8161-01",
							gid, &local));
}

int
main(void)
{
	dtm_xa_prefix(UINT64_C(0x6b01024d5f76d562), UINT32_MAX, prefix);
	CHECK_STR(prefix, "dtmxa-6b01024d5f76d562-4294967295-");
	test_round_trip();
	test_others();
	TEST_REPORT();
}
