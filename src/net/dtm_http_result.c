/* -------------------------------------------------------------------------
 *
 * dtm_http_result.c
 *		What the end of a transfer means: the error, the words for people, and
 *		what it says about the host.
 *
 * Runs in the coordinator.  The meaning of an answer for a branch is not
 * here: see core/dtm_answer.h.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_http_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

/* strerror speaks the server's language; messages are stored, so they must not. */
static const char *
error_text(int error)
{
	switch (error)
	{
		case ECONNREFUSED:
			return "Connection refused";
		case ECONNRESET:
			return "Connection reset by peer";
		case EHOSTUNREACH:
			return "No route to host";
		case ENETUNREACH:
			return "Network is unreachable";
		case ETIMEDOUT:
			return "Connection timed out";
		case EADDRNOTAVAIL:
			return "Cannot assign requested address";
		case EMFILE:
			return "Too many open files";
		case ENFILE:
			return "Too many open files in system";
		case ENOMEM:
		case ENOBUFS:
			return "out of memory";
		default:
			return strerror(error);
	}
}

static void
format_address(const struct sockaddr_storage *address, char *text, size_t size)
{
	const void *bytes = &((const struct sockaddr_in *) (const void *) address)->sin_addr;

	if (address->ss_family == AF_INET6)
		bytes = &((const struct sockaddr_in6 *) (const void *) address)->sin6_addr;
	if (inet_ntop(address->ss_family, bytes, text, (socklen_t) size) == NULL)
		(void) snprintf(text, size, "an unknown address");
}

/* "name:port (address)", without the address where the name is it. */
static void
format_peer(const DtmHttpEntry *entry, char *text, size_t size)
{
	char address[INET6_ADDRSTRLEN];

	format_address(&entry->slot->address, address, sizeof(address));
	if (!entry->slot->tried || strstr(entry->host->name, address) != NULL)
		(void) snprintf(text, size, "%.120s", entry->host->name);
	else
		(void) snprintf(text, size, "%.120s (%s)", entry->host->name, address);
}

/* libcurl's own words on what went wrong. */
static const char *
curl_text(const DtmHttpSlot *slot, CURLcode result)
{
	return slot->error[0] != '\0' ? slot->error : curl_easy_strerror(result);
}

static DtmHttpSign
judge_timeout(DtmHttpEntry *entry)
{
	DtmHttpSlot *slot = entry->slot;
	char peer[200];
	long sent = 0;

	entry->done.error = DTM_HTTP_TIMEOUT;
	(void) curl_easy_getinfo(slot->easy, CURLINFO_REQUEST_SIZE, &sent);
	if (sent > 0)
		dtm_http_say(entry, "timed out after %d ms", entry->timeout_ms);
	else if (slot->tried)
	{
		format_peer(entry, peer, sizeof(peer));
		dtm_http_say(entry, "timed out after %d ms connecting to %s", entry->timeout_ms, peer);
	}
	else
		dtm_http_say(entry, "timed out after %d ms resolving host \"%.*s\"", entry->timeout_ms,
					 (int) (entry->target.host.len < 120 ? entry->target.host.len : 120),
					 entry->target.host.data);
	return DTM_HTTP_SIGN_DOWN;
}

static DtmHttpSign
judge_connect(DtmHttpEntry *entry, CURLcode result)
{
	DtmHttpSlot *slot = entry->slot;
	char address[INET6_ADDRSTRLEN];
	char peer[200];
	long os_error = 0;

	if (slot->refused && !slot->tried)
	{
		format_address(&slot->address, address, sizeof(address));
		entry->done.error = DTM_HTTP_REFUSED;
		dtm_http_say(entry, "address %s of host \"%.*s\" is not in dtm.allowed_targets", address,
					 (int) (entry->target.host.len < 120 ? entry->target.host.len : 120),
					 entry->target.host.data);
		return DTM_HTTP_SIGN_NONE;
	}
	entry->done.error = DTM_HTTP_CONNECT;
	format_peer(entry, peer, sizeof(peer));
	if (slot->socket_errno != 0)
	{
		dtm_http_say(entry, "could not create a socket for %s: %s", peer,
					 error_text(slot->socket_errno));
		return DTM_HTTP_SIGN_NONE;
	}
	(void) curl_easy_getinfo(slot->easy, CURLINFO_OS_ERRNO, &os_error);
	dtm_http_say(entry, "could not connect to %s: %s", peer,
				 os_error != 0 ? error_text((int) os_error) : curl_text(slot, result));
	/* local ports run out at our end of the wire */
	return os_error == EADDRNOTAVAIL ? DTM_HTTP_SIGN_NONE : DTM_HTTP_SIGN_DOWN;
}

/* The write or header callback stopped it, or libcurl when it saw the length. */
static DtmHttpSign
judge_stopped(DtmHttpEntry *entry, CURLcode result)
{
	DtmHttpSlot *slot = entry->slot;

	if (slot->no_memory)
	{
		entry->done.error = DTM_HTTP_BROKEN;
		dtm_http_say(entry, "out of memory for the answer");
		return DTM_HTTP_SIGN_NONE;
	}
	entry->done.error = DTM_HTTP_TOO_LARGE;
	if (slot->head_too_large)
		dtm_http_say(entry, "headers of the answer are longer than %d bytes",
					 DTM_HTTP_MAX_ANSWER_HEAD);
	else if (slot->too_large || result == CURLE_FILESIZE_EXCEEDED)
	{
		long status = 0;

		(void) curl_easy_getinfo(slot->easy, CURLINFO_RESPONSE_CODE, &status);
		entry->done.status = (int) status;
		dtm_http_say(entry, "answer is longer than %zu bytes", slot->max_body);
	}
	else
	{
		entry->done.error = DTM_HTTP_BROKEN;
		dtm_http_say(entry, "%s", curl_text(slot, result));
	}
	return DTM_HTTP_SIGN_ALIVE;
}

static DtmHttpSign
judge_answer(DtmHttpEntry *entry)
{
	long status = 0;

	(void) curl_easy_getinfo(entry->slot->easy, CURLINFO_RESPONSE_CODE, &status);
	if (status == 0)
	{
		entry->done.error = DTM_HTTP_BROKEN;
		dtm_http_say(entry, "answer is not HTTP");
		return DTM_HTTP_SIGN_DOWN;
	}
	entry->done.error = DTM_HTTP_OK;
	entry->done.status = (int) status;
	return status == 502 || status == 503 || status == 504 ? DTM_HTTP_SIGN_DOWN
														   : DTM_HTTP_SIGN_ALIVE;
}

/* The connection ended, or what came over it made no sense. */
static DtmHttpSign
judge_broken(DtmHttpEntry *entry, CURLcode result)
{
	DtmHttpSlot *slot = entry->slot;

	entry->done.error = DTM_HTTP_BROKEN;
	if (slot->unwatched)
	{
		dtm_http_say(entry, "the socket cannot be watched");
		return DTM_HTTP_SIGN_NONE;
	}
	switch (result)
	{
		case CURLE_OUT_OF_MEMORY:
			dtm_http_say(entry, "out of memory");
			return DTM_HTTP_SIGN_NONE;
		case CURLE_GOT_NOTHING:
		case CURLE_SEND_ERROR:
		case CURLE_RECV_ERROR:
		case CURLE_PARTIAL_FILE:
			dtm_http_say(entry,
						 slot->head_len == 0 ? "connection lost before an answer came"
											 : "connection lost in the middle of the answer");
			break;
		case CURLE_UNSUPPORTED_PROTOCOL: /* HTTP/0.9: no status line */
		case CURLE_WEIRD_SERVER_REPLY:
		case CURLE_BAD_CONTENT_ENCODING:
			dtm_http_say(entry, "answer is not HTTP: %.200s", curl_text(slot, result));
			break;
		default:
			dtm_http_say(entry, "%.240s", curl_text(slot, result));
			break;
	}
	return DTM_HTTP_SIGN_DOWN;
}

static DtmHttpSign
judge_tls(DtmHttpEntry *entry, CURLcode result)
{
	entry->done.error = DTM_HTTP_CONNECT;
	dtm_http_say(entry, "TLS with %.100s failed: %.140s", entry->host->name,
				 curl_text(entry->slot, result));
	return DTM_HTTP_SIGN_DOWN;
}

DtmHttpSign
dtm_http_judge(DtmHttpEntry *entry, CURLcode result)
{
	switch (result)
	{
		case CURLE_OK:
			return judge_answer(entry);
		case CURLE_OPERATION_TIMEDOUT:
			return judge_timeout(entry);
		case CURLE_COULDNT_CONNECT:
		case CURLE_INTERFACE_FAILED:
			return judge_connect(entry, result);
		case CURLE_COULDNT_RESOLVE_HOST:
			entry->done.error = DTM_HTTP_CONNECT;
			dtm_http_say(entry, "could not resolve host \"%.*s\"",
						 (int) (entry->target.host.len < 200 ? entry->target.host.len : 200),
						 entry->target.host.data);
			return DTM_HTTP_SIGN_DOWN;
		case CURLE_WRITE_ERROR:
		case CURLE_FILESIZE_EXCEEDED:
			return judge_stopped(entry, result);
		case CURLE_SSL_CONNECT_ERROR:
		case CURLE_PEER_FAILED_VERIFICATION:
		case CURLE_SSL_CACERT_BADFILE:
		case CURLE_SSL_ISSUER_ERROR:
		case CURLE_SSL_CIPHER:
		case CURLE_SSL_CERTPROBLEM:
		case CURLE_SSL_INVALIDCERTSTATUS:
			return judge_tls(entry, result);
		default:
			return judge_broken(entry, result);
	}
}
