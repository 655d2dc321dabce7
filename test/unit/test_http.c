/* -------------------------------------------------------------------------
 *
 * test_http.c
 *		Tests of the HTTP client, one call at a time: answers, errors and
 *		their messages, what goes over the wire, names, TLS, policy.
 *
 * Queues, limits, circuits and cancelling are in test_http_flow.c.  Real
 * sockets throughout; only the resolver is replaced, so that names that hang
 * or do not exist need no network.
 *
 * -------------------------------------------------------------------------
 */
#include "test_http_client.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

static atomic_int resolver_calls;
static atomic_int resolver_open_masks;
static atomic_int resolvers_running;

/* Huge requests to malloc give NULL under AddressSanitizer too. */
extern const char *__asan_default_options(void);

const char *
__asan_default_options(void)
{
	return "allocator_may_return_null=1:detect_stack_use_after_return=0";
}

/* Stands before the C library's; libcurl calls it in a thread. */
int
getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
			struct addrinfo **result)
{
	static int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
	sigset_t mask;

	if (real == NULL)
		*(void **) &real = dlsym(RTLD_NEXT, "getaddrinfo");
	if (node == NULL || strstr(node, ".test") == NULL)
		return real(node, service, hints, result);
	resolver_calls++;
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	if (!sigismember(&mask, SIGTERM) || !sigismember(&mask, SIGUSR1) || !sigismember(&mask, SIGHUP))
		resolver_open_masks++;
	if (strcmp(node, "good.test") == 0)
		return real("127.0.0.1", service, hints, result);
	if (strcmp(node, "slow.test") == 0)
	{
		resolvers_running++;
		usleep(800000);
		resolvers_running--;
	}
	return EAI_NONAME;
}

static void
test_answers(Client *client, Server *server)
{
	Result *result = call_path(client, server, "/status/200");

	CHECK_INT(result->error, DTM_HTTP_OK);
	CHECK_INT(result->status, 200);
	CHECK_STR(result->body, "{\"status\":200}");
	CHECK_INT(result->body_len, 14);
	CHECK_STR(result->message, "");
	CHECK(result->took_us > 0 && result->took_us < 2000000);

	result = call_path(client, server, "/status/409");
	CHECK_INT(result->error, DTM_HTTP_OK);
	CHECK_INT(result->status, 409);
	CHECK_STR(result->body, "{\"status\":409}");

	result = call_path(client, server, "/status/500");
	CHECK_INT(result->status, 500);
	CHECK_STR(result->body, "{\"status\":500}");

	result = call_path(client, server, "/status/425");
	CHECK_INT(result->status, 425);
}

static void
test_redirect_not_followed(Client *client, Server *server)
{
	int before = server->requests;
	Result *result = call_path(client, server, "/redirect");

	CHECK_INT(result->error, DTM_HTTP_OK);
	CHECK_INT(result->status, 302);
	CHECK_INT(server->requests, before + 1);
}

static void
test_keep_alive(Client *client, Server *server)
{
	int before;

	call_path(client, server, "/status/200");
	before = server->connections;
	for (int i = 0; i < 10; i++)
		CHECK_INT(call_path(client, server, "/status/200")->status, 200);
	CHECK_INT(server->connections, before);
}

/* A kept connection that the server closes neither keeps us awake nor breaks the next call. */
static void
test_server_closes_idle(Client *client, Server *server)
{
	struct pollfd ready = {.fd = dtm_http_fd(client->http), .events = POLLIN};
	Result *result = call_path(client, server, "/bye");
	int before = server->connections;

	CHECK_INT(result->status, 200);
	CHECK_STR(result->body, "bye");
	CHECK_INT(poll(&ready, 1, 1000), 1);
	dtm_http_dispatch(client->http);
	CHECK_INT(poll(&ready, 1, 0), 0);
	CHECK_INT(call_path(client, server, "/status/200")->status, 200);
	CHECK_INT(server->connections, before + 1);
}

/* The request as the server saw it. */
static const char *
echo(Client *client, Server *server, const DtmHttpCall *call)
{
	DtmHttpCall copy = *call;
	int before = client->n_results;

	copy.url = url_of(server, "/echo?gid=g1");
	copy.timeout_ms = 3000;
	if (!CHECK_INT(dtm_http_start(client->http, &copy), DTM_OK) ||
		!CHECK(run_until(client, before + 1, 5000)))
		return "";
	return client->results[before].body;
}

#define CHECK_HAS(text, part) CHECK(strcasestr((text), (part)) != NULL)
#define CHECK_HAS_NOT(text, part) CHECK(strcasestr((text), (part)) == NULL)

static void
test_wire(Client *client, Server *server)
{
	static const char *const own[] = {"Content-Type: text/plain",
									  "X-Empty: ",
									  "X-One: 1",
									  "Content-Length: 3",
									  "Transfer-Encoding: chunked",
									  "Connection: close",
									  "Expect: 100-continue"};
	const char *seen = echo(client, server, &(DtmHttpCall){.post = true});

	CHECK_HAS(seen, "POST /echo?gid=g1 HTTP/1.1\r\n");
	CHECK_HAS(seen, "\r\nContent-Length: 0\r\n");
	CHECK_HAS(seen, "\r\nContent-Type: application/json\r\n");
	CHECK_HAS(seen, "\r\nUser-Agent: dtm_pg\r\n");
	CHECK_HAS(seen, "\r\nAccept: */*\r\n");
	CHECK_HAS_NOT(seen, "\r\nExpect:");

	seen = echo(client, server, &(DtmHttpCall){.post = true, .body = "{\"a\":1}", .body_len = 7});
	CHECK_HAS(seen, "\r\nContent-Length: 7\r\n");
	CHECK_HAS(seen, "\r\n\r\n{\"a\":1}");

	/* a handle that has posted serves a GET, and the other way round */
	seen = echo(client, server, &(DtmHttpCall){.post = false, .body = "x", .body_len = 1});
	CHECK_HAS(seen, "GET /echo?gid=g1 HTTP/1.1\r\n");
	CHECK_HAS_NOT(seen, "Content-Length");
	CHECK_HAS_NOT(seen, "Content-Type");

	seen = echo(client, server,
				&(DtmHttpCall){.post = true,
							   .body = "{}",
							   .body_len = 2,
							   .headers = own,
							   .n_headers = 7});
	CHECK_HAS(seen, "\r\nContent-Type: text/plain\r\n");
	CHECK_HAS_NOT(seen, "application/json");
	CHECK_HAS(seen, "\r\nX-Empty:\r\n");
	CHECK_HAS(seen, "\r\nX-One: 1\r\n");
	CHECK_HAS(seen, "\r\nContent-Length: 2\r\n");
	CHECK_HAS_NOT(seen, "chunked");
	CHECK_HAS_NOT(seen, "Connection: close");
	CHECK_HAS_NOT(seen, "Expect");
}

/* Whatever the caller lets through, no line end reaches the wire. */
static void
test_refused_calls(Client *client, Server *server)
{
	static const char *const bad_headers[] =
		{"X-A: 1\r\nX-B: 2", "X-A: 1\nX-B: 2", "X-A", ": x", "", "X A: 1", "X-A;"};
	static const char *const bad_urls[] = {"",
										   "http://",
										   "ftp://127.0.0.1/",
										   "file:///etc/passwd",
										   "sql:f",
										   "http://127.0.0.1/a b",
										   "http://127.0.0.1/ HTTP/1.1\r\nX-A: 1"};
	DtmHttpCall call = {.post = true, .timeout_ms = 1000, .n_headers = 1};
	int before = server->requests;

	for (size_t i = 0; i < sizeof(bad_headers) / sizeof(bad_headers[0]); i++)
	{
		call.url = url_of(server, "/status/200");
		call.headers = &bad_headers[i];
		CHECK_INT(dtm_http_start(client->http, &call), DTM_INVALID);
	}
	call.n_headers = 0;
	for (size_t i = 0; i < sizeof(bad_urls) / sizeof(bad_urls[0]); i++)
	{
		call.url = bad_urls[i];
		CHECK_INT(dtm_http_start(client->http, &call), DTM_INVALID);
	}
	call.url = url_of(server, "/status/200");
	call.timeout_ms = 0;
	CHECK_INT(dtm_http_start(client->http, &call), DTM_INVALID);
	call.timeout_ms = 1000;
	call.n_headers = 1000;
	CHECK_INT(dtm_http_start(client->http, &call), DTM_INVALID);
	call.n_headers = 0;
	call.body = "x";
	call.body_len = (size_t) 1 << 46;
	CHECK_INT(dtm_http_start(client->http, &call), DTM_NOMEM);
	CHECK_INT(dtm_http_calls_out(client->http), 0);
	CHECK_INT(server->requests, before);
}

static void
test_timeout(Client *client, Server *server)
{
	int64_t before = now_ms();
	Result *result = call_url(client, url_of(server, "/hang"), 120);

	CHECK_INT(result->error, DTM_HTTP_TIMEOUT);
	CHECK_STR(result->message, "timed out after 120 ms");
	CHECK(now_ms() - before >= 119 && now_ms() - before < 1500);
	CHECK(result->took_us >= 119000);
}

static void
test_no_connection(Client *client)
{
	Server *gone = server_start();
	char message[256];
	int port = gone->port;
	Result *result;

	result = call_path(client, gone, "/status/200");
	CHECK_INT(result->status, 200);
	server_stop(gone);
	snprintf(message, sizeof(message), "could not connect to 127.0.0.1:%d: Connection refused",
			 port);
	result = call_url(client, url_of(&(Server){.port = port}, "/"), 1000);
	CHECK_INT(result->error, DTM_HTTP_CONNECT);
	CHECK_STR(result->message, message);
}

static void
test_broken(Client *client, Server *server)
{
	Result *result = call_path(client, server, "/close");

	CHECK_INT(result->error, DTM_HTTP_BROKEN);
	CHECK_STR(result->message, "connection lost before an answer came");
	result = call_path(client, server, "/half");
	CHECK_INT(result->error, DTM_HTTP_BROKEN);
	CHECK_STR(result->message, "connection lost in the middle of the answer");
	CHECK_INT(result->body_len, 0);
	result = call_path(client, server, "/garbage");
	CHECK_INT(result->error, DTM_HTTP_BROKEN);
	CHECK(strncmp(result->message, "answer is not HTTP", 18) == 0);
	CHECK_INT(call_path(client, server, "/status/200")->status, 200);
}

static void
test_large(Client *client, Server *server)
{
	Result *result = call_path(client, server, "/big/65536");

	CHECK_INT(result->error, DTM_HTTP_OK);
	CHECK_INT(result->body_len, 65536);
	result = call_path(client, server, "/chunked/65536");
	CHECK_INT(result->error, DTM_HTTP_OK);
	CHECK_INT(result->body_len, 65536);
	CHECK(strspn(result->body, "x") == sizeof(result->body) - 1);

	for (int i = 0; i < 2; i++)
	{
		result = call_path(client, server, i == 0 ? "/big/65537" : "/chunked/65537");
		CHECK_INT(result->error, DTM_HTTP_TOO_LARGE);
		CHECK_STR(result->message, "answer is longer than 65536 bytes");
		CHECK_INT(result->body_len, 0);
	}
	result = call_path(client, server, "/big/20000000");
	CHECK_INT(result->error, DTM_HTTP_TOO_LARGE);
	result = call_path(client, server, "/heads");
	CHECK_INT(result->error, DTM_HTTP_TOO_LARGE);
	CHECK_STR(result->message, "headers of the answer are longer than 65536 bytes");
	CHECK_INT(call_path(client, server, "/status/200")->status, 200);
}

static void
test_names(Client *client, Server *server)
{
	char url[100];
	int64_t before;
	Result *result;

	snprintf(url, sizeof(url), "http://good.test:%d/status/200", server->port);
	result = call_url(client, url, 2000);
	CHECK_INT(result->status, 200);
	/* the first of its two addresses, ::1, is served by nobody */
	snprintf(url, sizeof(url), "http://localhost:%d/status/200", server->port);
	CHECK_INT(call_url(client, url, 2000)->status, 200);
	result = call_url(client, "http://bad.test/", 2000);
	CHECK_INT(result->error, DTM_HTTP_CONNECT);
	CHECK_STR(result->message, "could not resolve host \"bad.test\"");

	/* the loop is not held up by a name that takes longer than the call may */
	before = now_ms();
	result = call_url(client, "http://slow.test/", 100);
	CHECK_INT(result->error, DTM_HTTP_TIMEOUT);
	CHECK_STR(result->message, "timed out after 100 ms resolving host \"slow.test\"");
	CHECK(now_ms() - before < 600);

	/* nor by giving such a call up */
	before = now_ms();
	CHECK_INT(start_call(client, "http://slow.test/", "{}", 3000), DTM_OK);
	run_for(client, 20);
	CHECK(dtm_http_cancel(client->http, client->next_tag - 1, 7));
	CHECK(now_ms() - before < 500);

	CHECK(resolver_calls >= 4);
	CHECK_INT(resolver_open_masks, 0);
	while (resolvers_running > 0)
		usleep(10000);
	usleep(20000);
}

static void
test_policy(Client *client, Server *server)
{
	char url[100];
	int before;
	Result *result;

	/* the name says nothing; the address behind it is forbidden */
	snprintf(url, sizeof(url), "http://good.test:%d/status/200", server->port);
	CHECK_INT(call_url(client, url, 2000)->status, 200);
	before = server->requests;
	dtm_http_set_policy(client->http, parse_policy(client, "* !127.0.0.0/8 !::1/128"));
	result = call_url(client, url, 2000);
	CHECK_INT(result->error, DTM_HTTP_REFUSED);
	CHECK_STR(result->message,
			  "address 127.0.0.1 of host \"good.test\" is not in dtm.allowed_targets");
	snprintf(url, sizeof(url), "http://localhost:%d/status/200", server->port);
	CHECK_INT(call_url(client, url, 2000)->error, DTM_HTTP_REFUSED);
	CHECK_INT(call_path(client, server, "/status/200")->error, DTM_HTTP_REFUSED);
	CHECK_INT(server->requests, before);

	/* one of two addresses is allowed, and it is the other one that comes first */
	dtm_http_set_policy(client->http, parse_policy(client, "127.0.0.0/8"));
	CHECK_INT(call_url(client, url, 2000)->status, 200);

	/* no policy: nothing may be called */
	dtm_http_set_policy(client->http, NULL);
	CHECK_INT(call_path(client, server, "/status/200")->error, DTM_HTTP_REFUSED);

	/* being forbidden is no failure of the host: the circuit is closed */
	for (int i = 0; i < 10; i++)
		CHECK_INT(call_path(client, server, "/status/200")->error, DTM_HTTP_REFUSED);
	dtm_http_set_policy(client->http, client->policy);
	CHECK_INT(call_path(client, server, "/status/200")->status, 200);
}

/* A call that is out when the policy changes ends well; its connection is not used again. */
static void
test_policy_during_call(Client *client, Server *server)
{
	int before = client->n_results;

	CHECK_INT(start_call(client, url_of(server, "/delay/60"), "{}", 2000), DTM_OK);
	run_for(client, 20);
	CHECK_INT(client->n_results, before);
	dtm_http_set_policy(client->http, parse_policy(client, "* !127.0.0.0/8"));
	CHECK(run_until(client, before + 1, 2000));
	CHECK_INT(client->results[before].status, 200);
	CHECK_INT(call_path(client, server, "/status/200")->error, DTM_HTTP_REFUSED);
	dtm_http_set_policy(client->http, client->policy);
	CHECK_INT(call_path(client, server, "/status/200")->status, 200);
	before = server->connections;
	CHECK_INT(call_path(client, server, "/status/200")->status, 200);
	CHECK_INT(server->connections, before);
}

/* Without descriptors calls fail, the process does not; and no host is blamed. */
static void
test_no_descriptors(Server *server)
{
	DtmHttpLimits limits = usual_limits();
	struct rlimit before;
	struct rlimit none;
	Client client;
	Result *result;
	int next;

	client_open(&client, &limits);
	getrlimit(RLIMIT_NOFILE, &before);
	next = dup(0);
	close(next);
	none = before;
	none.rlim_cur = (rlim_t) next;
	setrlimit(RLIMIT_NOFILE, &none);
	for (int i = 0; i < 8; i++)
	{
		result = call_path(&client, server, "/status/200");
		CHECK_INT(result->error, DTM_HTTP_CONNECT);
		CHECK(strstr(result->message, "Too many open files") != NULL);
	}
	setrlimit(RLIMIT_NOFILE, &before);
	CHECK_INT(call_path(&client, server, "/status/200")->status, 200);
	client_close(&client);
}

static void
test_not_tls(Client *client, Server *server)
{
	char url[100];
	Result *result;

	snprintf(url, sizeof(url), "https://127.0.0.1:%d/", server->port);
	result = call_url(client, url, 1000);
	CHECK_INT(result->error, DTM_HTTP_CONNECT);
	CHECK(strncmp(result->message, "TLS with 127.0.0.1:", 19) == 0);
}

/* Run a command without output; its exit status, or its process when not waited for. */
static int
spawn(const char *command, bool wait_for_it)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
	{
		int null = open("/dev/null", O_RDWR);

		dup2(null, 0);
		dup2(null, 1);
		dup2(null, 2);
		execl("/bin/sh", "sh", "-c", command, (char *) NULL);
		_exit(127);
	}
	if (!wait_for_it)
		return pid;
	waitpid(pid, &status, 0);
	return WEXITSTATUS(status);
}

/* key.pem and cert.pem for 127.0.0.1, signed by themselves */
static bool
make_certificate(const char *folder)
{
	char command[600];

	snprintf(command, sizeof(command),
			 "cd %s && exec openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
			 "-keyout key.pem -out cert.pem -days 2 -subj /CN=127.0.0.1 "
			 "-addext subjectAltName=IP:127.0.0.1",
			 folder);
	return spawn(command, true) == 0;
}

/* A certificate of nobody's is refused, and taken once it is named in ca_file. */
static void
test_tls(void)
{
	char folder[] = "/tmp/test_http_XXXXXX";
	char command[600];
	char ca_file[100];
	char url[100];
	DtmHttpLimits limits = usual_limits();
	Server *port_finder = server_start();
	int port = port_finder->port;
	Client client;
	Result *result;
	int server;

	server_stop(port_finder);
	if (!CHECK(mkdtemp(folder) != NULL))
		return;
	snprintf(ca_file, sizeof(ca_file), "%s/cert.pem", folder);
	if (!make_certificate(folder))
	{
		printf("no openssl command: the test of certificates is left out\n");
		return;
	}
	snprintf(command, sizeof(command),
			 "cd %s && exec openssl s_server -accept 127.0.0.1:%d -key key.pem -cert cert.pem -www",
			 folder, port);
	server = spawn(command, false);
	snprintf(url, sizeof(url), "https://127.0.0.1:%d/", port);
	client_open(&client, &limits);
	for (int i = 0; i < 100; i++)
	{
		result = call_with(&client, url, NULL, 5000);
		if (strncmp(result->message, "TLS", 3) == 0)
			break;
		usleep(50000);
	}
	CHECK_INT(result->error, DTM_HTTP_CONNECT);
	CHECK(strncmp(result->message, "TLS with 127.0.0.1:", 19) == 0);
	CHECK_HAS(result->message, "certificate");

	limits.ca_file = ca_file;
	dtm_http_set_limits(client.http, &limits);
	result = call_with(&client, url, NULL, 5000);
	if (result->error == DTM_HTTP_POSTPONED) /* its slow start opened the circuit */
	{
		run_for(&client, result->retry_after_ms);
		result = call_with(&client, url, NULL, 5000);
	}
	CHECK_INT(result->error, DTM_HTTP_OK);
	CHECK_INT(result->status, 200);

	limits.ca_file = NULL;
	dtm_http_set_limits(client.http, &limits);
	CHECK_INT(call_with(&client, url, NULL, 5000)->error, DTM_HTTP_CONNECT);

	client_close(&client);
	kill(server, SIGTERM);
	waitpid(server, NULL, 0);
	snprintf(command, sizeof(command), "rm -r %s", folder);
	CHECK_INT(spawn(command, true), 0);
}

int
main(void)
{
	DtmHttpLimits limits = usual_limits();
	Server *server = server_start();
	Client client;

	client_open(&client, &limits);
	test_answers(&client, server);
	test_redirect_not_followed(&client, server);
	test_keep_alive(&client, server);
	test_server_closes_idle(&client, server);
	test_wire(&client, server);
	test_refused_calls(&client, server);
	test_timeout(&client, server);
	test_no_connection(&client);
	test_broken(&client, server);
	test_large(&client, server);
	test_names(&client, server);
	test_policy(&client, server);
	test_policy_during_call(&client, server);
	test_not_tls(&client, server);
	client_close(&client);
	test_no_descriptors(server);
	test_tls();
	server_stop(server);
	TEST_REPORT();
}
