/* -------------------------------------------------------------------------
 *
 * fuzz_httpd.c
 *		The HTTP server; input: the bytes of one connection, in two pieces cut
 *		at the first NUL.  Afterwards the server has nothing left of it.
 *
 * -------------------------------------------------------------------------
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dtm_fuzz.h"
#include "dtm_httpd.h"

static DtmHttpd *httpd;

static void
open_server(void)
{
	DtmHttpdLimits limits = {.max_head = 8192,
							 .max_body = 4096,
							 .max_bodies = 65536,
							 .max_connections = 10,
							 .max_queue = 10,
							 .idle_ms = 60000,
							 .read_ms = 60000,
							 .write_ms = 60000,
							 .retry_after_s = 1};
	char error[200];

	httpd = dtm_httpd_open("127.0.0.1", 0, DTM_HTTPD_FIRST, &limits, NULL, error, sizeof(error));
	HOLDS(httpd != NULL);
}

/*
 * Connections in TIME_WAIT keep their ports: none on our side, and for those
 * of the server we come from another address each time.  -1: the kernel had
 * none for us, or the fuzzer's timer came in between; not always, though.
 */
static int
dial(void)
{
	static uint32_t n;
	static int missed;
	struct sockaddr_in own = {.sin_family = AF_INET};
	struct sockaddr_in address = {.sin_family = AF_INET,
								  .sin_port = htons((uint16_t) dtm_httpd_port(httpd))};
	struct linger hard = {.l_onoff = 1};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	own.sin_addr.s_addr = htonl(0x7F010000 + n++ % 0xFFFF);
	HOLDS(fd >= 0);
	HOLDS(bind(fd, (struct sockaddr *) &own, sizeof(own)) == 0);
	if (connect(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
	{
		close(fd);
		HOLDS(++missed < 1000);
		return -1;
	}
	missed = 0;
	HOLDS(setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)) == 0);
	return fd;
}

static void
serve(int turns)
{
	while (turns-- > 0)
	{
		DtmHttpdRequest *request;

		dtm_httpd_dispatch(httpd);
		while ((request = dtm_httpd_next_request(httpd)) != NULL)
		{
			HOLDS(strlen(request->method) < 16 && request->uri != NULL);
			HOLDS(request->body[request->body_len] == '\0' && request->body_len <= 4096);
			if (request->body_len % 3 == 2)
				dtm_httpd_drop(httpd, request);
			else
				HOLDS(dtm_httpd_answer(httpd, request, 200, "text/plain", request->uri,
									   strlen(request->uri)) == DTM_OK);
		}
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *cut = size > 0 ? memchr(data, '\0', size) : NULL;
	size_t first = cut != NULL ? (size_t) (cut - data) : size;
	int fd;

	if (size > 20000)
		return 0;
	if (httpd == NULL)
		open_server();
	fd = dial();
	if (fd < 0)
		return 0;
	(void) send(fd, data, first, MSG_NOSIGNAL | MSG_DONTWAIT);
	serve(2);
	if (cut != NULL)
		(void) send(fd, cut + 1, size - first - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	serve(2);
	close(fd);
	for (int i = 0; i < 1000 && dtm_httpd_counts(httpd).connections > 0; i++)
	{
		struct pollfd ready = {.fd = dtm_httpd_fd(httpd), .events = POLLIN};

		if (i > 2)
			poll(&ready, 1, 10);
		serve(1);
	}
	HOLDS(dtm_httpd_counts(httpd).connections == 0);
	HOLDS(dtm_httpd_counts(httpd).waiting == 0 && dtm_httpd_counts(httpd).queued == 0);
	HOLDS(dtm_httpd_counts(httpd).bodies == 0);
	return 0;
}
