/* -------------------------------------------------------------------------
 *
 * dtm_network.h
 *		IP addresses and networks, for dtm_policy.c.
 *
 * Not here: names, ports, what is allowed.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_NETWORK_H
#define DTM_NETWORK_H

#include "dtm_types.h"

typedef struct DtmAddress
{
	int bits; /* 32 or 128 */
	unsigned char bytes[16];
} DtmAddress;

typedef struct DtmNetwork
{
	DtmAddress base;
	int prefix; /* leading bits that count */
} DtmNetwork;

/*
 * The ways in which one address can be read: as it is, and the IPv4 address
 * that an IPv6 one carries.  A mapped one has only the IPv4 form, since that
 * is where the connection goes.
 */
typedef struct DtmAddressForms
{
	int n;
	DtmAddress form[2];
} DtmAddressForms;

/* A literal address without brackets; false when it is none. */
extern bool dtm_address_from_text(DtmText text, DtmAddress *address);

/* Complete the forms of form[0]. */
extern void dtm_address_forms(DtmAddressForms *forms);

/* "10.0.0.0/8", "::1", ...; NULL or what is wrong ("is not an address", ...). */
extern const char *dtm_network_from_text(DtmText text, DtmNetwork *network);

/* False also when one is IPv4 and the other IPv6. */
extern bool dtm_network_contains(const DtmNetwork *network, const DtmAddress *address);

#endif /* DTM_NETWORK_H */
