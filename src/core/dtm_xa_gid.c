/* -------------------------------------------------------------------------
 *
 * dtm_xa_gid.c
 *		Making and reading the names of XA transactions over foreign servers.
 *
 * Not here: what is done about them (dtm_xa_commit.c, dtm_xa_sweep.c).  Runs
 * in backends and in the coordinator.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_xa_gid.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define XID_DIGITS 16
#define RANDOM_DIGITS 8

void
dtm_xa_prefix(uint64_t system_identifier, uint32_t database, char out[DTM_XA_PREFIX_SIZE])
{
	snprintf(out, DTM_XA_PREFIX_SIZE, DTM_XA_GID_START "%016" PRIx64 "-%" PRIu32 "-",
			 system_identifier, database);
}

void
dtm_xa_gid_make(const char *prefix, uint64_t local_xid, uint32_t random, char out[DTM_XA_GID_SIZE])
{
	snprintf(out, DTM_XA_GID_SIZE, "%s%016" PRIx64 "-%08" PRIx32, prefix, local_xid, random);
}

void
dtm_xa_xid_make(const char *gid, unsigned branch, char out[DTM_XA_XID_SIZE])
{
	snprintf(out, DTM_XA_XID_SIZE, "%s-%02u", gid, branch);
}

/* Exactly n lower-case hexadecimal digits; false for anything else. */
static bool
read_hex(const char *digits, int n, uint64_t *number)
{
	*number = 0;
	for (int i = 0; i < n; i++)
	{
		char c = digits[i];

		if (c >= '0' && c <= '9')
			*number = *number << 4 | (uint64_t) (c - '0');
		else if (c >= 'a' && c <= 'f')
			*number = *number << 4 | (uint64_t) (c - 'a' + 10);
		else
			return false;
	}
	return true;
}

bool
dtm_xa_xid_parse(const char *prefix, const char *xid, char gid[DTM_XA_GID_SIZE],
				 uint64_t *local_xid)
{
	size_t prefix_len = strlen(prefix);
	const char *rest = xid + prefix_len;
	uint64_t random;
	size_t gid_len;
	size_t digits;

	if (strncmp(xid, prefix, prefix_len) != 0 || !read_hex(rest, XID_DIGITS, local_xid))
		return false;
	rest += XID_DIGITS;
	if (rest[0] != '-' || !read_hex(rest + 1, RANDOM_DIGITS, &random))
		return false;
	rest += 1 + RANDOM_DIGITS;
	gid_len = (size_t) (rest - xid);
	if (rest[0] != '-' || gid_len >= DTM_XA_GID_SIZE)
		return false;
	digits = strspn(rest + 1, "0123456789");
	if (digits < 2 || digits > 4 || rest[1 + digits] != '\0')
		return false;
	memcpy(gid, xid, gid_len);
	gid[gid_len] = '\0';
	return true;
}
