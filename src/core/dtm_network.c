/* -------------------------------------------------------------------------
 *
 * dtm_network.c
 *		IP addresses and networks, for dtm_policy.c.
 *
 * Not here: names, ports, what is allowed.  Runs in backends and in the
 * coordinator.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_network.h"

#include <arpa/inet.h>
#include <string.h>

static bool has_prefix(const DtmAddress *address, const unsigned char *prefix, size_t len);
static bool same_bits(const unsigned char *a, const unsigned char *b, int bits);
static void embedded(DtmAddressForms *forms, int offset);
static bool is_mapped(const DtmAddress *address);
static void unmap(DtmNetwork *network);

bool
dtm_address_from_text(DtmText text, DtmAddress *address)
{
	char copy[INET6_ADDRSTRLEN];

	memset(address, 0, sizeof(*address));
	if (text.len == 0 || text.len >= sizeof(copy) || memchr(text.data, '\0', text.len) != NULL)
		return false;
	memcpy(copy, text.data, text.len);
	copy[text.len] = '\0';
	if (inet_pton(AF_INET, copy, address->bytes) == 1)
		address->bits = 32;
	else if (inet_pton(AF_INET6, copy, address->bytes) == 1)
		address->bits = 128;
	return address->bits != 0;
}

void
dtm_address_forms(DtmAddressForms *forms)
{
	static const unsigned char compatible[12] = {0};
	static const unsigned char nat64[12] = {0x00, 0x64, 0xFF, 0x9B};
	static const unsigned char six_to_four[2] = {0x20, 0x02};
	const DtmAddress *address = &forms->form[0];

	forms->n = 1;
	if (address->bits != 128)
		return;
	if (is_mapped(address))
	{
		embedded(forms, 12);
		forms->form[0] = forms->form[1];
		forms->n = 1;
	}
	else if (has_prefix(address, nat64, sizeof(nat64)))
		embedded(forms, 12);
	else if (has_prefix(address, six_to_four, sizeof(six_to_four)))
		embedded(forms, 2);
	else if (has_prefix(address, compatible, sizeof(compatible)) &&
			 (address->bytes[12] != 0 || address->bytes[13] != 0 || address->bytes[14] != 0))
		embedded(forms, 12); /* but :: and ::1 carry nothing */
}

const char *
dtm_network_from_text(DtmText text, DtmNetwork *network)
{
	const char *slash = text.len > 0 ? memchr(text.data, '/', text.len) : NULL;
	uint32_t address_len = slash != NULL ? (uint32_t) (slash - text.data) : text.len;
	int prefix = 0;

	if (!dtm_address_from_text((DtmText){text.data, address_len}, &network->base))
		return slash != NULL ? "is not a network" : "is not an address";
	network->prefix = network->base.bits;
	if (slash == NULL)
	{
		unmap(network);
		return NULL;
	}
	if (address_len + 1 == text.len || text.len - address_len > 4)
		return "has a malformed network length";
	for (uint32_t i = address_len + 1; i < text.len; i++)
	{
		if (text.data[i] < '0' || text.data[i] > '9')
			return "has a malformed network length";
		prefix = prefix * 10 + (text.data[i] - '0');
	}
	if (prefix > network->base.bits)
		return "has a network length beyond the address";
	network->prefix = prefix;
	for (int bit = prefix; bit < network->base.bits; bit++)
		if (network->base.bytes[bit / 8] & (0x80 >> (bit % 8)))
			return "has bits set behind the network length";
	unmap(network);
	return NULL;
}

bool
dtm_network_contains(const DtmNetwork *network, const DtmAddress *address)
{
	return network->base.bits == address->bits &&
		same_bits(network->base.bytes, address->bytes, network->prefix);
}

static bool
has_prefix(const DtmAddress *address, const unsigned char *prefix, size_t len)
{
	return memcmp(address->bytes, prefix, len) == 0;
}

static bool
same_bits(const unsigned char *a, const unsigned char *b, int bits)
{
	int rest = bits % 8;

	if (memcmp(a, b, (size_t) (bits / 8)) != 0)
		return false;
	return rest == 0 || ((a[bits / 8] ^ b[bits / 8]) & (0xFF00 >> rest) & 0xFF) == 0;
}

/* Take the four bytes at offset as a second form. */
static void
embedded(DtmAddressForms *forms, int offset)
{
	DtmAddress *second = &forms->form[1];

	memset(second, 0, sizeof(*second));
	second->bits = 32;
	memcpy(second->bytes, forms->form[0].bytes + offset, 4);
	forms->n = 2;
}

static bool
is_mapped(const DtmAddress *address)
{
	static const unsigned char mapped[12] = {[10] = 0xFF, [11] = 0xFF};

	return address->bits == 128 && has_prefix(address, mapped, sizeof(mapped));
}

/* ::ffff:10.0.0.0/104 is another spelling of 10.0.0.0/8. */
static void
unmap(DtmNetwork *network)
{
	if (network->prefix < 96 || !is_mapped(&network->base))
		return;
	memmove(network->base.bytes, network->base.bytes + 12, 4);
	memset(network->base.bytes + 4, 0, 12);
	network->base.bits = 32;
	network->prefix -= 96;
}
