/* -------------------------------------------------------------------------
 *
 * dtm_spec_rules.c
 *		Rules about single values of a spec: numbers, header lines, the order
 *		of steps.
 *
 * Not here: words for people (dtm_spec_build.c).  Runs in backends and, as
 * part of reading a spec, in the coordinator.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_spec_rules.h"

#include <string.h>

#define MAX_DIGITS 18 /* what an int64 holds for sure */

typedef struct Decimal
{
	bool negative;
	int64_t digits; /* the first MAX_DIGITS significant ones */
	int exponent;   /* value = digits * 10^exponent */
	bool dropped;   /* further digits were not all zero */
} Decimal;

static bool read_decimal(const char *text, size_t len, Decimal *out);
static bool scale_decimal(const Decimal *decimal, int scale, int64_t *result, bool *exact);
static bool is_digit(char c);
static unsigned char lower(char c);
static int
find_cycle(const DtmBranch *branches, int n, uint16_t *stack, uint16_t *edge, uint8_t *mark);

bool
dtm_decimal_parse(const char *text, size_t len, int scale, int64_t *result, bool *exact)
{
	Decimal decimal;

	return read_decimal(text, len, &decimal) && scale_decimal(&decimal, scale, result, exact);
}

bool
dtm_header_is_name(DtmText name)
{
	for (uint32_t i = 0; i < name.len; i++)
	{
		unsigned char c = (unsigned char) name.data[i];

		if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
			  (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL)))
			return false;
	}
	return name.len > 0;
}

bool
dtm_header_is_reserved(DtmText name)
{
	static const char *const reserved[] = {"Connection", "Content-Length", "Expect",
										   "Host",       "Keep-Alive",     "Proxy-Connection",
										   "TE",         "Trailer",        "Transfer-Encoding",
										   "Upgrade"};

	for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++)
	{
		DtmText entry = {reserved[i], (uint32_t) strlen(reserved[i])};

		if (dtm_header_compare(name, entry) == 0)
			return true;
	}
	return false;
}

bool
dtm_header_is_safe(DtmText text)
{
	for (uint32_t i = 0; i < text.len; i++)
	{
		unsigned char c = (unsigned char) text.data[i];

		if ((c < 0x20 && c != '\t') || c == 0x7F)
			return false;
	}
	return true;
}

int
dtm_header_compare(DtmText a, DtmText b)
{
	uint32_t len = a.len < b.len ? a.len : b.len;

	for (uint32_t i = 0; i < len; i++)
	{
		int difference = (int) lower(a.data[i]) - (int) lower(b.data[i]);

		if (difference != 0)
			return difference;
	}
	return a.len == b.len ? 0 : a.len < b.len ? -1 : 1;
}

DtmRc
dtm_spec_order_check(const DtmBranch *branches, int n, DtmArena *arena, int *step)
{
	bool forward = false;
	uint16_t *stack;
	int found;

	/* Who waits only for earlier steps cannot wait for himself. */
	for (int i = 0; i < n; i++)
		for (int k = 0; k < branches[i].n_after; k++)
			if (branches[i].after[k] >= i)
				forward = true;
	if (!forward)
		return DTM_OK;

	stack = arena->alloc(arena->context, (size_t) n * (2 * sizeof(uint16_t) + sizeof(uint8_t)));
	if (stack == NULL)
		return DTM_NOMEM;
	found = find_cycle(branches, n, stack, stack + n, (uint8_t *) (stack + 2 * n));
	if (found < 0)
		return DTM_OK;
	if (step != NULL)
		*step = found;
	return DTM_INVALID;
}

/* The grammar of RFC 8259, section 6; a leading zero is not worth an error. */
static bool
read_decimal(const char *text, size_t len, Decimal *out)
{
	size_t at = 0;
	size_t first;
	int fraction = 0;
	int n_digits = 0;
	bool point = false;
	int exponent = 0;
	bool minus = false;

	memset(out, 0, sizeof(*out));
	if (at < len && text[at] == '-')
	{
		out->negative = true;
		at++;
	}
	first = at;
	for (; at < len && (is_digit(text[at]) || (text[at] == '.' && !point && at > first)); at++)
	{
		if (text[at] == '.')
		{
			point = true;
			continue;
		}
		if (n_digits < MAX_DIGITS)
		{
			out->digits = out->digits * 10 + (text[at] - '0');
			n_digits += out->digits > 0;
			fraction -= point;
		}
		else
		{
			out->dropped |= text[at] != '0';
			fraction += !point;
		}
		if (at - first > 100000)
			return false;
	}
	if (at == first || text[at - 1] == '.')
		return false;
	if (at < len && (text[at] == 'e' || text[at] == 'E'))
	{
		at++;
		if (at < len && (text[at] == '+' || text[at] == '-'))
			minus = text[at++] == '-';
		if (at == len)
			return false;
		for (; at < len && is_digit(text[at]); at++)
			if (exponent < 1000000)
				exponent = exponent * 10 + (text[at] - '0');
	}
	out->exponent = fraction + (minus ? -exponent : exponent);
	return at == len;
}

static bool
scale_decimal(const Decimal *decimal, int scale, int64_t *result, bool *exact)
{
	int64_t value = decimal->digits;
	int exponent = decimal->exponent + scale;
	int last = 0;

	*exact = !decimal->dropped;
	for (; exponent > 0 && value != 0; exponent--)
	{
		if (value > INT64_MAX / 10)
			return false;
		value *= 10;
	}
	for (; exponent < 0 && (value != 0 || last != 0); exponent++)
	{
		if (last != 0)
			*exact = false;
		last = (int) (value % 10);
		value /= 10;
	}
	if (last != 0)
		*exact = false;
	if (last >= 5)
		value++;
	*result = decimal->negative ? -value : value;
	return true;
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static unsigned char
lower(char c)
{
	return (unsigned char) (c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

/* Depth-first along "after"; meeting a step that is still on the path closes a cycle. */
static int
find_cycle(const DtmBranch *branches, int n, uint16_t *stack, uint16_t *edge, uint8_t *mark)
{
	enum
	{
		NEW,
		ON_PATH,
		DONE
	};

	memset(mark, NEW, (size_t) n);
	for (int root = 0; root < n; root++)
	{
		int depth = 0;

		if (mark[root] != NEW)
			continue;
		stack[0] = (uint16_t) root;
		edge[root] = 0;
		mark[root] = ON_PATH;
		while (depth >= 0)
		{
			uint16_t step = stack[depth];
			uint16_t next;

			if (edge[step] == branches[step].n_after)
			{
				mark[step] = DONE;
				depth--;
				continue;
			}
			next = branches[step].after[edge[step]++];
			if (mark[next] == ON_PATH)
				return next;
			if (mark[next] == NEW)
			{
				mark[next] = ON_PATH;
				edge[next] = 0;
				stack[++depth] = next;
			}
		}
	}
	return -1;
}
