/* -------------------------------------------------------------------------
 *
 * dtm_policy.h
 *		dtm.allowed_targets: which hosts and addresses may be called.
 *
 * Syntax, separated by commas or white space; an entry that begins with "!"
 * forbids, and forbidding wins; nothing at all allows nothing:
 *   *                          everything but link-local and metadata addresses
 *   *.example.com              host with a leading wildcard
 *   https://shop.example.com   scheme and host; before any other form too
 *   http://10.0.0.5:8080       scheme, host, port
 *   payments.internal:8443     host and port, both schemes
 *   10.0.0.0/8, fd00::/8       networks
 *   [::1]:8080, 169.254.169.254  literal addresses; naming one (or a
 *                              network of it) is the only way to reach
 *                              link-local and metadata addresses
 *
 * An entry without a scheme or port stands for both schemes and every port.
 * A wildcard covers names below the domain, not the domain itself.
 *
 * Always forbidden unless listed: 0.0.0.0/8 and ::, link-local addresses,
 * multicast and broadcast, the metadata services of the clouds
 * (169.254.169.254, fd00:ec2::/32, fd20:ce::254, 100.100.100.200,
 * 168.63.129.16, 192.0.0.192), and the name metadata.google.internal.
 * "Listed" is an entry that lies within the forbidden network or is a
 * network of at most 256 (IPv4) or 2^64 (IPv6) addresses around it: neither
 * "*" nor 0.0.0.0/0 nor a host's name is enough.  IPv4 addresses dressed up
 * as IPv6 (mapped, compatible, 6to4, NAT64) are judged by the IPv4 address too.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_POLICY_H
#define DTM_POLICY_H

#include "dtm_url.h"

struct sockaddr;

typedef struct DtmPolicy DtmPolicy;

/*
 * Parse; NULL with a message in error (of error_size bytes) when an entry is
 * malformed or memory is short.  Everything comes from the arena, text is
 * not kept.
 */
extern DtmPolicy *
dtm_policy_parse(const char *text, DtmArena *arena, char *error, size_t error_size);

/*
 * May this target be submitted?  By scheme, name, port, and the address when
 * the host is a literal one.  True also when only the resolved address can
 * tell.  sql: and empty targets are always allowed here, schemes that are
 * not served never.
 */
extern bool dtm_policy_allows_target(const DtmPolicy *policy, const DtmTarget *target);

/* May this resolved address be connected to for that target? */
extern bool dtm_policy_allows_address(const DtmPolicy *policy, const DtmTarget *target,
									  const struct sockaddr *address);

#endif /* DTM_POLICY_H */
