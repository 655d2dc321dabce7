/* -------------------------------------------------------------------------
 *
 * test_pq.c
 *		Tests of net/dtm_pq*.c with a server that says what it is told to.
 *		Real servers are in test/t/120_pg_branches.pl.
 *
 * -------------------------------------------------------------------------
 */
#include <poll.h>

#include "dtm_pq.h"
#include "test_pq_server.h"

static DtmPq *pq;
static PqServer server;
static char port[16];

/* ---- what the server says ---- */

static const char *function_value;
static const char *barrier_value;
static const char *place;

/* As a server does when all goes well. */
static void
usual_answer(PqClient *client, const char *query)
{
	if (strstr(query, "pg_proc") != NULL)
		rows(client, place, NULL);
	else if (strstr(query, "pg_prepared_xacts") != NULL)
		rows(client, "x-1", "x-2", "x-3", NULL);
	else if (strncmp(query, "BEGIN", 5) == 0)
	{
		complete(client, "BEGIN");
		complete(client, "SET");
		complete(client, "SET");
		if (strstr(query, "dtm_barrier") != NULL)
		{
			rows(client, barrier_value, NULL);
			ready(client, 'T');
			return;
		}
	}
	if (strstr(query, "format(") != NULL)
		rows(client, function_value, NULL);
	if (strstr(query, "COMMIT") != NULL)
		complete(client, "COMMIT");
	if (strstr(query, "RESET ALL") != NULL)
		complete(client, "RESET");
	ready(client, 'I');
}

/* The function fails. */
static const char *fail_state;

static void
failing_answer(PqClient *client, const char *query)
{
	if (strstr(query, "format(") == NULL && strstr(query, "PREPARED") == NULL)
	{
		usual_answer(client, query);
		return;
	}
	error(client, "ERROR", fail_state, "no\nmore", "all sold", "line 1\nline 2");
	ready(client, strstr(query, "PREPARED") == NULL ? 'E' : 'I');
}

/* At the function, or at the first query, the server is gone. */
static const char *gone_at;
static int gone_times;

static void
gone_answer(PqClient *client, const char *query)
{
	if (strstr(query, gone_at) == NULL || gone_times == 0)
	{
		usual_answer(client, query);
		return;
	}
	gone_times--;
	client->hang_up = true;
}

static void
silent_answer(PqClient *client, const char *query)
{
	if (strstr(query, "format(") == NULL)
		usual_answer(client, query);
}

/* The barrier is not there any more. */
static void
moved_answer(PqClient *client, const char *query)
{
	if (strstr(query, "\"old\".dtm_barrier") == NULL)
	{
		usual_answer(client, query);
		return;
	}
	error(client, "ERROR", "42883", "no such function", "", "");
	ready(client, 'E');
}

/* ---- what the client does ---- */

static const char *keywords[] = {"hostaddr", "port",       "user",     "dbname",
								 "sslmode",  "gssencmode", "password", "client_encoding",
								 NULL};
static const char *values[] = {"127.0.0.1", port,     "me",   "shop", "disable",
							   "disable",   "secret", "UTF8", NULL};

static void
open_all(int max_server_calls, int max_queue)
{
	DtmPqLimits limits = {.max_server_calls = max_server_calls,
						  .max_calls = 8,
						  .max_queue = max_queue,
						  .max_answer = 20};

	server_open(&server);
	server.answer = usual_answer;
	(void) snprintf(port, sizeof(port), "%d", server.port);
	function_value = "{\"a\": 1}";
	barrier_value = "t";
	place = "public";
	pq = dtm_pq_new(&limits);
	CHECK(pq != NULL);
}

static void
close_all(void)
{
	dtm_pq_free(pq);
	server_hang_up(&server, true);
}

static DtmPqCall
call_of(uint64_t tag)
{
	DtmPqCall call = {.tag = tag,
					  .tag2 = 7,
					  .kind = DTM_PQ_BRANCH,
					  .timeout_ms = 30000,
					  .server = "bank",
					  .keywords = keywords,
					  .values = values,
					  .fingerprint = 1,
					  .function = "Shop.\"Do it\"",
					  .payload = "{\"q\": \"it's\"}",
					  .payload_len = 13,
					  .gid = "g'1",
					  .trans_type = "saga",
					  .branch_id = "01",
					  .op = "action"};

	return call;
}

static void
start(DtmPqCall call)
{
	CHECK_INT(dtm_pq_start(pq, &call), DTM_OK);
}

/* Client and server, until a call has ended or nothing moves for long. */
static DtmPqDone *
wait_done(void)
{
	for (int i = 0; i < 20000; i++)
	{
		struct pollfd fd = {.fd = dtm_pq_fd(pq), .events = POLLIN};
		int timeout = dtm_pq_timeout_ms(pq);
		DtmPqDone *done;

		(void) poll(&fd, 1, timeout >= 0 && timeout < 1 ? timeout : 1);
		dtm_pq_dispatch(pq);
		server_work(&server);
		done = dtm_pq_next_done(pq);
		if (done != NULL)
			return done;
	}
	CHECK(!"a call has ended");
	return NULL;
}

/* Until whatever is cleaned is clean. */
static void
settle(void)
{
	for (int i = 0; i < 10; i++)
	{
		struct pollfd fd = {.fd = dtm_pq_fd(pq), .events = POLLIN};

		server_work(&server);
		(void) poll(&fd, 1, 2);
		dtm_pq_dispatch(pq);
	}
}

static void
check_query(int n, const char *expected)
{
	CHECK(n < server.n_queries && strstr(server.queries[n], expected) != NULL);
}

/* ---- tests ---- */

static void
test_branch(void)
{
	DtmPqCall call = call_of(1);
	DtmPqDone *done;

	open_all(4, 10);
	start(call);
	CHECK_INT(dtm_pq_calls_out(pq), 1);
	done = wait_done();
	CHECK_INT(done->error, DTM_PQ_OK);
	CHECK_INT(done->tag, 1);
	CHECK_INT(done->tag2, 7);
	CHECK_STR(done->message, "");
	CHECK(!done->skipped);
	CHECK_INT(done->answer_len, 8);
	CHECK(done->answer != NULL && memcmp(done->answer, "{\"a\": 1}", 8) == 0);
	CHECK_INT(dtm_pq_calls_out(pq), 0);
	settle();
	CHECK_INT(server.n_queries, 4);
	check_query(0, "pg_proc");
	check_query(1, "SELECT \"public\".dtm_barrier('saga', 'g''1', '01', 'action', 'pg')");
	check_query(2, "(SELECT \"shop\".\"Do it\"('{\"q\": \"it''s\"}'::pg_catalog.jsonb)))");
	check_query(2, "; COMMIT");
	check_query(3, "DISCARD TEMP");

	/* over the same connection, which knows where the barrier is */
	server_forget_queries(&server);
	call.payload = NULL;
	start(call);
	(void) wait_done();
	CHECK_INT(server.accepted, 1);
	check_query(0, "dtm_barrier");
	check_query(1, "('{}'::pg_catalog.jsonb)");
	settle();

	/* skipped: only its row is committed, and there is nothing to clean */
	server_forget_queries(&server);
	barrier_value = "f";
	start(call);
	done = wait_done();
	CHECK_INT(done->error, DTM_PQ_OK);
	CHECK(done->skipped && done->answer == NULL);
	settle();
	CHECK_INT(server.n_queries, 2);
	CHECK_STR(server.queries[1], "COMMIT");

	/* a question: no barrier */
	server_forget_queries(&server);
	call.question = true;
	start(call);
	done = wait_done();
	CHECK_INT(done->error, DTM_PQ_OK);
	CHECK(done->answer != NULL);
	check_query(0, "BEGIN");
	check_query(0, "; COMMIT");
	settle();

	/* answers that are none, or cannot be kept */
	for (int i = 0; i < 3; i++)
	{
		static const char *const bad[] = {"", "123456789012345678901", "\xff"};

		function_value = bad[i];
		start(call);
		done = wait_done();
		CHECK_INT(done->error, DTM_PQ_OK);
		CHECK(done->answer == NULL);
	}
	close_all();
}

static void
test_errors(void)
{
	DtmPqCall call = call_of(1);
	DtmPqDone *done;

	open_all(4, 10);
	server.answer = failing_answer;
	fail_state = "23505";
	start(call);
	done = wait_done();
	CHECK_INT(done->error, DTM_PQ_SQL);
	CHECK_STR(done->sqlstate, "23505");
	CHECK_STR(done->message, "no more - all sold - line 1");
	settle();
	check_query(3, "ROLLBACK; ");

	/* an answer has no need of a place in the code */
	fail_state = "DTM01";
	start(call);
	done = wait_done();
	CHECK_STR(done->sqlstate, "DTM01");
	CHECK_STR(done->message, "no more - all sold");
	CHECK_INT(server.accepted, 1);
	settle();

	/* second phases: unknown is done */
	call.kind = DTM_PQ_FINISH;
	call.commit = true;
	call.xid = "it's-01";
	fail_state = "42704";
	server_forget_queries(&server);
	start(call);
	done = wait_done();
	CHECK_INT(done->error, DTM_PQ_OK);
	CHECK_STR(server.queries[0], "COMMIT PREPARED 'it''s-01'");
	call.commit = false;
	fail_state = "55000";
	start(call);
	done = wait_done();
	CHECK_INT(done->error, DTM_PQ_SQL);
	CHECK_STR(server.queries[1], "ROLLBACK PREPARED 'it''s-01'");
	settle();
	CHECK_INT(server.n_queries, 2);

	/* no barrier, and one that was moved */
	server_hang_up(&server, false);
	settle();
	server.answer = usual_answer;
	call = call_of(2);
	place = NULL;
	start(call);
	done = wait_done();
	CHECK_INT(done->error, DTM_PQ_REFUSED);
	CHECK_STR(done->message,
			  "server \"bank\" has no barrier in its database \"shop\": CREATE EXTENSION dtm_pg, or "
			  "run dtm_barrier_plain.sql there");
	place = "old";
	server.answer = moved_answer;
	start(call);
	done = wait_done();
	CHECK_STR(done->sqlstate, "42883");
	place = "new\"one";
	start(call);
	done = wait_done();
	CHECK_INT(done->error, DTM_PQ_OK);
	settle();
	check_query(server.n_queries - 3, "\"new\"\"one\".dtm_barrier");
	CHECK_INT(server.accepted, 2);
	close_all();
}

static void
test_list(void)
{
	DtmPqCall call = call_of(1);
	DtmPqDone *done;

	open_all(4, 10);
	call.kind = DTM_PQ_LIST;
	call.prefix = "x-";
	call.max_rows = 2;
	start(call);
	done = wait_done();
	CHECK_INT(done->error, DTM_PQ_OK);
	CHECK_INT(done->n_list, 2);
	CHECK(done->list_cut);
	CHECK_STR(done->list[0], "x-1");
	CHECK_STR(done->list[1], "x-2");
	check_query(0, "starts_with(x.gid, 'x-') ORDER BY x.prepared LIMIT 3");
	call.max_rows = 3;
	start(call);
	done = wait_done();
	CHECK_INT(done->n_list, 3);
	CHECK(!done->list_cut);
	close_all();
}

static void
test_lost(void)
{
	DtmPqCall call = call_of(1);
	DtmPqDone *done;

	/* in the middle of the function: nobody knows */
	open_all(4, 10);
	server.answer = gone_answer;
	gone_at = "format(";
	gone_times = 1;
	start(call);
	done = wait_done();
	CHECK_INT(done->error, DTM_PQ_BROKEN);
	CHECK(strncmp(done->message, "the connection to server \"bank\" was lost: ", 42) == 0);
	start(call);
	CHECK_INT(wait_done()->error, DTM_PQ_OK);
	CHECK(dtm_pq_recovered(pq) == NULL);
	CHECK_INT(server.accepted, 2);
	settle();

	/* an idle connection is gone: nobody notices, whether it is seen before or not */
	gone_at = "BEGIN";
	gone_times = 1;
	start(call);
	CHECK_INT(wait_done()->error, DTM_PQ_OK);
	CHECK_INT(server.accepted, 3);
	settle();
	server_hang_up(&server, false);
	settle();
	start(call);
	CHECK_INT(wait_done()->error, DTM_PQ_OK);
	CHECK_INT(server.accepted, 4);
	settle();

	/* a new one is gone at once: that counts */
	server_hang_up(&server, false);
	gone_times = 1;
	start(call);
	CHECK_INT(wait_done()->error, DTM_PQ_BROKEN);

	/* nobody listens; when somebody does again it is told once */
	close(server.fd);
	server_hang_up(&server, false);
	start(call);
	done = wait_done();
	CHECK_INT(done->error, DTM_PQ_CONNECT);
	CHECK(strstr(done->message, "refused") != NULL);
	CHECK(dtm_pq_recovered(pq) == NULL);
	server_listen(&server);
	start(call);
	CHECK_INT(wait_done()->error, DTM_PQ_OK);
	CHECK_STR(dtm_pq_recovered(pq), "bank");
	CHECK(dtm_pq_recovered(pq) == NULL);
	close_all();
}

static void
test_timeouts(void)
{
	DtmPqCall call = call_of(1);
	DtmPqDone *done;

	open_all(4, 10);
	call.timeout_ms = 50;
	server.answer = silent_answer;
	start(call);
	done = wait_done();
	CHECK_INT(done->error, DTM_PQ_TIMEOUT);
	CHECK_STR(done->message, "timed out after 50 ms (request_timeout)");
	settle();
	CHECK_INT(server_connections(&server), 0);
	server.deaf = true;
	start(call);
	done = wait_done();
	CHECK_INT(done->error, DTM_PQ_TIMEOUT);
	CHECK_STR(done->message, "timed out after 50 ms while connecting (request_timeout)");
	close_all();
}

static void
test_passwords(void)
{
	DtmPqCall call = call_of(1);
	DtmPqDone *done;
	const char *other[] = {"127.0.0.1", port,    "me",   "shop", "disable",
						   "disable",   "other", "UTF8", NULL};

	open_all(1, 10);
	call.password_required = true;
	start(call);
	done = wait_done();
	CHECK_INT(done->error, DTM_PQ_CONNECT);
	CHECK(strstr(done->message, "does not ask for the password") != NULL);
	settle();
	CHECK_INT(server.n_queries, 0);
	CHECK_INT(server_connections(&server), 0);
	server.ask_password = true;
	start(call);
	CHECK_INT(wait_done()->error, DTM_PQ_OK);
	settle();

	/* not for somebody with another password, whatever the fingerprint; it makes room for theirs */
	call.values = other;
	start(call);
	CHECK_INT(wait_done()->error, DTM_PQ_OK);
	settle();
	CHECK_INT(server.accepted, 3);
	CHECK_INT(server_connections(&server), 1);
	close_all();
}

static void
test_limits(void)
{
	DtmPqDone *done;

	open_all(2, 3);
	server.answer = silent_answer;
	for (uint64_t tag = 1; tag <= 6; tag++)
		start(call_of(tag));
	CHECK_INT(dtm_pq_calls_out(pq), 2);
	CHECK_INT(dtm_pq_calls_queued(pq), 3);
	done = dtm_pq_next_done(pq);
	CHECK_INT(done->error, DTM_PQ_POSTPONED);
	CHECK_INT(done->tag, 6);
	CHECK_INT(done->retry_after_ms, 1000);
	CHECK_STR(done->message, "3 calls are waiting for servers already");
	settle();
	CHECK_INT(server_connections(&server), 2);

	/* given up: out, queued, unknown */
	CHECK(dtm_pq_cancel(pq, 1, 7));
	CHECK(!dtm_pq_cancel(pq, 1, 7));
	CHECK(!dtm_pq_cancel(pq, 2, 8));
	CHECK_INT(dtm_pq_calls_out(pq), 2);
	CHECK_INT(dtm_pq_calls_queued(pq), 2);
	CHECK(dtm_pq_cancel(pq, 5, 7));
	CHECK_INT(dtm_pq_calls_queued(pq), 1);
	server.answer = usual_answer;
	CHECK(dtm_pq_cancel(pq, 2, 7));
	CHECK_INT(wait_done()->error, DTM_PQ_OK);
	CHECK_INT(wait_done()->error, DTM_PQ_OK);
	CHECK_INT(dtm_pq_calls_out(pq) + dtm_pq_calls_queued(pq), 0);

	/* ended, and not fetched: the answer never comes */
	place = NULL;
	start(call_of(9));
	settle();
	CHECK(dtm_pq_cancel(pq, 9, 7));
	CHECK(dtm_pq_next_done(pq) == NULL);

	/* freed with calls out, queued and ended */
	server.answer = silent_answer;
	for (uint64_t tag = 1; tag <= 6; tag++)
		start(call_of(tag));
	close_all();
}

/* A server that takes no third connection: the call waits for one of the others. */
static void
test_crowded(void)
{
	DtmPqCall call = call_of(1);
	DtmPqDone *done;

	open_all(4, 10);
	start(call);
	CHECK_INT(wait_done()->error, DTM_PQ_OK);
	settle();
	server.answer = silent_answer;
	start(call);
	settle();
	server.full = true;
	call.tag = 2;
	start(call);
	settle();
	CHECK(dtm_pq_next_done(pq) == NULL);
	CHECK_INT(dtm_pq_calls_queued(pq), 1);
	CHECK(dtm_pq_cancel(pq, 1, 7));

	/* none stands any more: it is told what the server said */
	done = wait_done();
	CHECK_INT(done->error, DTM_PQ_CONNECT);
	CHECK_INT(done->tag, 2);
	CHECK(strstr(done->message, "sorry, too many clients already") != NULL);
	CHECK(dtm_pq_recovered(pq) == NULL);
	close_all();
}

static void
test_bad_calls(void)
{
	static const char *const functions[] = {"",   "f()", "a.b.c",          "a.",
											".a", "\"a", "f; DROP TABLE t"};
	DtmPqCall call = call_of(1);

	open_all(1, 1);
	for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++)
	{
		call.function = functions[i];
		CHECK_INT(dtm_pq_start(pq, &call), DTM_INVALID);
	}
	call = call_of(1);
	call.timeout_ms = 0;
	CHECK_INT(dtm_pq_start(pq, &call), DTM_INVALID);
	call = call_of(1);
	call.payload = "a\0b";
	call.payload_len = 3;
	CHECK_INT(dtm_pq_start(pq, &call), DTM_INVALID);
	CHECK(dtm_pq_next_done(pq) == NULL);
	CHECK_INT(dtm_pq_timeout_ms(pq), -1);
	close_all();
}

int
main(void)
{
	test_branch();
	test_errors();
	test_list();
	test_lost();
	test_timeouts();
	test_passwords();
	test_limits();
	test_crowded();
	test_bad_calls();
	TEST_REPORT();
}
