/* -------------------------------------------------------------------------
 *
 * dtm_gid.c
 *		Making and checking the identifier of a global transaction.
 *
 * Not here: where time and random bytes come from.  Runs in backends.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_spec.h"

#define GID_TIME_CHARS 8    /* 57^8 ms are 3500 years */
#define GID_RANDOM_CHARS 14 /* 57^14 > 2^80 */
#define GID_RANDOM_BYTES 10

/* In ASCII order, so that gids sort as their times do. */
static const char alphabet[] = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

#define BASE ((unsigned) sizeof(alphabet) - 1)

static bool
has_control(const char *chars, size_t len)
{
	for (size_t i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) chars[i];

		if (c < 0x20 || c == 0x7F)
			return true;
	}
	return false;
}

const char *
dtm_gid_check(const char *gid, size_t len)
{
	if (len == 0)
		return "gid must not be empty";
	if (len > DTM_MAX_GID_LEN)
		return "gid is longer than 128 bytes";
	return has_control(gid, len) ? "gid contains a control character" : NULL;
}

const char *
dtm_branch_id_check(const char *id, size_t len)
{
	if (len == 0)
		return "branch_id must not be empty";
	if (len > DTM_MAX_BRANCH_ID_LEN)
		return "branch_id is longer than 128 bytes";
	return has_control(id, len) ? "branch_id contains a control character" : NULL;
}

const char *
dtm_event_check(const char *event, size_t len)
{
	if (len == 0)
		return "\"event\" must not be empty";
	if (len > DTM_MAX_NAME_LEN)
		return "\"event\" is longer than 128 bytes";
	return has_control(event, len) ? "\"event\" contains a control character" : NULL;
}

void
dtm_gid_make(uint64_t unix_ms, const unsigned char random[10], char out[23])
{
	unsigned char number[GID_RANDOM_BYTES];

	for (int i = GID_TIME_CHARS - 1; i >= 0; i--)
	{
		out[i] = alphabet[unix_ms % BASE];
		unix_ms /= BASE;
	}

	for (int i = 0; i < GID_RANDOM_BYTES; i++)
		number[i] = random[i];
	for (int i = GID_TIME_CHARS + GID_RANDOM_CHARS - 1; i >= GID_TIME_CHARS; i--)
	{
		unsigned rest = 0;

		for (int k = 0; k < GID_RANDOM_BYTES; k++)
		{
			rest = rest << 8 | number[k];
			number[k] = (unsigned char) (rest / BASE);
			rest %= BASE;
		}
		out[i] = alphabet[rest];
	}
	out[GID_TIME_CHARS + GID_RANDOM_CHARS] = '\0';
}

/*
 * Within a millisecond the random part is a number that grows, by a random
 * step: the next gid stays as hard to guess as one can wish, and 2^40 of
 * them fit before a carry borrows a millisecond of the future.
 */
void
dtm_gid_next(DtmGidLast *last, uint64_t unix_ms, const unsigned char random[10], char out[23])
{
	unsigned carry = unix_ms <= last->unix_ms;

	if (carry == 0)
	{
		last->unix_ms = unix_ms;
		for (int i = 0; i < GID_RANDOM_BYTES; i++)
			last->random[i] = random[i];
	}
	else
	{
		for (int i = GID_RANDOM_BYTES - 1; i >= 0; i--)
		{
			carry += (unsigned) last->random[i] + (i >= GID_RANDOM_BYTES / 2 ? random[i] : 0);
			last->random[i] = (unsigned char) carry;
			carry >>= 8;
		}
		last->unix_ms += carry;
	}
	dtm_gid_make(last->unix_ms, last->random, out);
}
