/* -------------------------------------------------------------------------
 *
 * dtm_pq_work.c
 *		The statements of a call over libpq, and what their results mean.
 *
 * Runs in the coordinator.  No sockets here: dtm_pq_connection.c sends and
 * receives.
 *
 * A branch takes two round trips on a connection that knows where the barrier
 * is: BEGIN with the barrier, then the function with COMMIT behind it in the
 * same message.  An error skips the rest of the message, so COMMIT is reached
 * only when the function went through.  A lost answer is an error like
 * others: the call is repeated, and the barrier skips what was committed.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_pq_internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dtm_answer.h"

#define CANCELLED "57014"
#define UNDEFINED_OBJECT "42704"

/* How much longer a session may stay in the middle of a transaction: we may be gone. */
#define IDLE_IN_TRANSACTION_MS 10000

/*
 * The barrier, as the extension or dtm_barrier_plain.sql made it.  One that
 * belongs to somebody else than the table of its rows is somebody's own
 * function of that name.
 */
static const char look_query[] =
	"SELECT n.nspname"
	"  FROM pg_catalog.pg_proc AS p"
	"  JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace"
	"  JOIN pg_catalog.pg_class AS c ON c.relowner OPERATOR(pg_catalog.=) p.proowner"
	"  JOIN pg_catalog.pg_namespace AS t ON t.oid OPERATOR(pg_catalog.=) c.relnamespace"
	" WHERE p.proname OPERATOR(pg_catalog.=) 'dtm_barrier'::pg_catalog.name"
	"   AND p.prorettype OPERATOR(pg_catalog.=) 'pg_catalog.bool'::pg_catalog.regtype::pg_catalog.oid"
	"   AND p.proargtypes::pg_catalog.text OPERATOR(pg_catalog.=) '25 25 25 25 25'"
	"   AND t.nspname OPERATOR(pg_catalog.=) 'dtm'::pg_catalog.name"
	"   AND c.relname OPERATOR(pg_catalog.=) 'barrier'::pg_catalog.name"
	" LIMIT 1";

/* DISCARD ALL without its DISCARD PLANS: the functions' plans are worth keeping. */
#define CLEANUP                                                                             \
	"CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; DEALLOCATE ALL; UNLISTEN *; " \
	"SELECT pg_catalog.pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES"

/* ---- building statements ---- */

typedef struct Sql
{
	PGconn *conn;
	char *data;
	size_t len;
	size_t size;
	bool failed; /* no memory, or a text that is none */
} Sql;

static void
sql_append(Sql *sql, const char *more)
{
	size_t len = strlen(more);

	if (sql->failed)
		return;
	if (sql->len + len >= sql->size)
	{
		size_t size = 2 * (sql->len + len) + 256;
		char *grown = realloc(sql->data, size);

		if (grown == NULL)
		{
			sql->failed = true;
			return;
		}
		sql->data = grown;
		sql->size = size;
	}
	memcpy(sql->data + sql->len, more, len + 1);
	sql->len += len;
}

/* With before and behind around it. */
static void
sql_literal(Sql *sql, const char *before, const char *value, const char *behind)
{
	char *literal = PQescapeLiteral(sql->conn, value, strlen(value));

	if (literal == NULL)
	{
		sql->failed = true;
		return;
	}
	sql_append(sql, before);
	sql_append(sql, literal);
	sql_append(sql, behind);
	PQfreemem(literal);
}

static void
sql_number(Sql *sql, const char *before, int64_t number, const char *behind)
{
	char digits[32];

	(void) snprintf(digits, sizeof(digits), "%" PRId64, number);
	sql_append(sql, before);
	sql_append(sql, digits);
	sql_append(sql, behind);
}

/* Send it as this step.  What cannot be written down ends the call, not the connection. */
static DtmPqNext
send_step(DtmPqConnection *connection, DtmPqStep step, Sql *sql)
{
	DtmPqNext next = DTM_PQ_NEXT_WAIT;

	if (sql->failed)
	{
		dtm_pq_fail(connection->entry, DTM_PQ_CONNECT, "the call cannot be written down: %s",
					PQerrorMessage(connection->conn));
		next = DTM_PQ_NEXT_OVER;
	}
	else
	{
		connection->step = step;
		if (!dtm_pq_send(connection, sql->data))
			next = DTM_PQ_NEXT_LOST;
	}
	free(sql->data);
	return next;
}

/* ---- steps ---- */

/* Of the time of the call, at least a little. */
static int64_t
left_ms(const DtmPqConnection *connection)
{
	int64_t left_us = connection->deadline_us - DTM_PQ_GRACE_US - connection->pq->now_us;

	return left_us < 1000 ? 1 : left_us / 1000;
}

/* Its barrier needs definite counts, and so a snapshot per statement. */
static void
append_begin(Sql *sql, const DtmPqConnection *connection)
{
	sql_append(sql, "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; ");
	sql_number(sql, "SET LOCAL idle_in_transaction_session_timeout = ",
			   connection->entry->timeout_ms + (int64_t) IDLE_IN_TRANSACTION_MS, "; ");
	sql_number(sql, "SET LOCAL statement_timeout = ", left_ms(connection), "; ");

	/* when it has answered we write that it is done: a crash there must not take it back */
	sql_append(sql,
			   "SELECT pg_catalog.set_config('synchronous_commit', 'local', true) WHERE "
			   "pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.=) 'off'; ");
}

/*
 * The value through its output function, cut by the server: what it sends is
 * bounded.  The inner SELECT refuses a function that returns several rows.
 */
static void
append_function(Sql *sql, const DtmPqConnection *connection)
{
	const DtmPqEntry *entry = connection->entry;

	sql_append(sql, "SELECT pg_catalog.left(pg_catalog.format('%s', (SELECT ");
	sql_append(sql, entry->function);
	sql_literal(sql, "(", entry->payload, "::pg_catalog.jsonb)))");
	sql_number(sql, ", ", (int64_t) connection->pq->limits.max_answer + 1, "); COMMIT");
}

static DtmPqNext
step_look(DtmPqConnection *connection)
{
	Sql sql = {connection->conn, NULL, 0, 0, false};

	sql_append(&sql, look_query);
	return send_step(connection, DTM_PQ_STEP_LOOK, &sql);
}

static void
append_barrier(Sql *sql, const DtmPqConnection *connection, const char *op)
{
	const DtmPqEntry *entry = connection->entry;

	sql_append(sql, "SELECT ");
	sql_append(sql, connection->barrier);
	sql_literal(sql, "(", entry->trans_type, ", ");
	sql_literal(sql, "", entry->gid, ", ");
	sql_literal(sql, "", entry->branch_id, ", ");
	sql_literal(sql, "", op, ", '" DTM_PQ_BARRIER_ID "')");
}

/* The last value is that of the op itself. */
static DtmPqNext
step_pass(DtmPqConnection *connection)
{
	const DtmPqEntry *entry = connection->entry;
	Sql sql = {connection->conn, NULL, 0, 0, false};

	append_begin(&sql, connection);
	if (entry->ran_elsewhere != NULL)
	{
		append_barrier(&sql, connection, entry->ran_elsewhere);
		sql_append(&sql, "; ");
	}
	append_barrier(&sql, connection, entry->op);
	return send_step(connection, DTM_PQ_STEP_PASS, &sql);
}

static DtmPqNext
step_run(DtmPqConnection *connection)
{
	Sql sql = {connection->conn, NULL, 0, 0, false};

	if (connection->entry->question)
		append_begin(&sql, connection);
	else
		sql_number(&sql, "SET LOCAL statement_timeout = ", left_ms(connection), "; ");
	append_function(&sql, connection);
	connection->dirty = true;
	return send_step(connection, DTM_PQ_STEP_RUN, &sql);
}

/* The barrier may have inserted the row of what is never to be done. */
static DtmPqNext
step_skip(DtmPqConnection *connection)
{
	Sql sql = {connection->conn, NULL, 0, 0, false};

	sql_append(&sql, "COMMIT");
	return send_step(connection, DTM_PQ_STEP_SKIP, &sql);
}

static DtmPqNext
step_finish(DtmPqConnection *connection)
{
	const DtmPqEntry *entry = connection->entry;
	Sql sql = {connection->conn, NULL, 0, 0, false};

	sql_literal(&sql, entry->commit ? "COMMIT PREPARED " : "ROLLBACK PREPARED ", entry->xid, "");
	return send_step(connection, DTM_PQ_STEP_FINISH, &sql);
}

static DtmPqNext
step_list(DtmPqConnection *connection)
{
	const DtmPqEntry *entry = connection->entry;
	Sql sql = {connection->conn, NULL, 0, 0, false};

	/* those that this user may finish */
	sql_append(&sql,
			   "SELECT x.gid FROM pg_catalog.pg_prepared_xacts AS x"
			   " WHERE x.database OPERATOR(pg_catalog.=) pg_catalog.current_database()"
			   " AND (x.owner OPERATOR(pg_catalog.=) CURRENT_USER"
			   " OR pg_catalog.current_setting('is_superuser') OPERATOR(pg_catalog.=) 'on')");
	sql_literal(&sql, " AND pg_catalog.starts_with(x.gid, ", entry->xid, ")");
	sql_number(&sql, " ORDER BY x.prepared LIMIT ", (int64_t) entry->max_rows + 1, "");
	return send_step(connection, DTM_PQ_STEP_LIST, &sql);
}

bool
dtm_pq_work_begin(DtmPqConnection *connection)
{
	DtmPqEntry *entry = connection->entry;
	DtmPqNext next;

	entry->has_value = entry->committed = entry->go = false;
	if (entry->kind == DTM_PQ_FINISH)
		next = step_finish(connection);
	else if (entry->kind == DTM_PQ_LIST)
		next = step_list(connection);
	else if (entry->question)
		next = step_run(connection);
	else if (connection->barrier == NULL)
		next = step_look(connection);
	else
		next = step_pass(connection);
	if (next == DTM_PQ_NEXT_OVER)
		dtm_pq_call_over(connection);
	return next != DTM_PQ_NEXT_LOST;
}

/* ---- results ---- */

static bool
is_answer(const char *state)
{
	return strcmp(state, "DTM01") == 0 || strcmp(state, "DTM02") == 0;
}

/* "message - detail - where": as an executor writes it for sql: targets. */
static void
take_error(DtmPqConnection *connection, const PGresult *result)
{
	DtmPqEntry *entry = connection->entry;
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	const char *detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);
	const char *where = PQresultErrorField(result, PG_DIAG_CONTEXT);
	int64_t spent_us = connection->pq->now_us - entry->out_at_us;

	if (entry->failed)
		return;
	if (state == NULL)
	{
		/* made by libpq: the connection is lost */
		dtm_pq_fail(entry, DTM_PQ_BROKEN, "the connection to server \"%s\" was lost: %s",
					connection->server->name, PQresultErrorMessage(result));
		return;
	}
	if (connection->step == DTM_PQ_STEP_FINISH && strcmp(state, UNDEFINED_OBJECT) == 0)
		return; /* done before */
	if (strcmp(state, CANCELLED) == 0 && spent_us >= (int64_t) entry->timeout_ms * 1000 - 2000)
	{
		dtm_pq_fail(entry, DTM_PQ_TIMEOUT, "timed out after %d ms (request_timeout)",
					entry->timeout_ms);
		return;
	}
	if (where == NULL || is_answer(state))
		where = "";
	dtm_pq_fail(entry, DTM_PQ_SQL, "%s%s%s%s%.*s", message == NULL ? "" : message,
				detail == NULL ? "" : " - ", detail == NULL ? "" : detail,
				where[0] == '\0' ? "" : " - ", (int) strcspn(where, "\n"), where);
	(void) snprintf(entry->done.sqlstate, sizeof(entry->done.sqlstate), "%s", state);

	/* the barrier was moved, or dropped and made again elsewhere */
	if (connection->step == DTM_PQ_STEP_PASS && strncmp(state, "42", 2) == 0)
	{
		free(connection->barrier);
		connection->barrier = NULL;
	}
}

static void
take_barrier_place(DtmPqConnection *connection, const PGresult *result)
{
	char *schema;

	if (PQntuples(result) != 1)
	{
		dtm_pq_fail(connection->entry, DTM_PQ_REFUSED,
					"server \"%s\" has no barrier in its database \"%s\": CREATE EXTENSION dtm_pg, "
					"or run dtm_barrier_plain.sql there",
					connection->server->name, PQdb(connection->conn));
		return;
	}
	schema = PQescapeIdentifier(connection->conn, PQgetvalue(result, 0, 0),
								(size_t) PQgetlength(result, 0, 0));
	if (schema != NULL)
	{
		size_t size = strlen(schema) + sizeof(".dtm_barrier");

		connection->barrier = malloc(size);
		if (connection->barrier != NULL)
			(void) snprintf(connection->barrier, size, "%s.dtm_barrier", schema);
		PQfreemem(schema);
	}
	if (connection->barrier == NULL)
		dtm_pq_fail(connection->entry, DTM_PQ_CONNECT, "out of memory for a call");
}

void
dtm_pq_work_result(DtmPqConnection *connection, PGresult *result)
{
	DtmPqEntry *entry = connection->entry;

	switch (PQresultStatus(result))
	{
		case PGRES_COMMAND_OK:
			/* after an error COMMIT does something else, and says so */
			if (strcmp(PQcmdStatus(result), "COMMIT") == 0)
				entry->committed = true;
			break;
		case PGRES_TUPLES_OK:
			if (connection->step == DTM_PQ_STEP_LOOK)
				take_barrier_place(connection, result);
			else if (connection->step == DTM_PQ_STEP_PASS && PQntuples(result) == 1)
			{
				entry->has_value = true;
				entry->go = PQgetvalue(result, 0, 0)[0] == 't';
			}
			else if (connection->step == DTM_PQ_STEP_RUN || connection->step == DTM_PQ_STEP_LIST)
			{
				PQclear(entry->rows);
				entry->rows = result;
				return;
			}
			break;
		default:
			take_error(connection, result);
			break;
	}
	PQclear(result);
}

/* The function's value, unless there is none, or none that can be kept. */
static void
give_answer(DtmPqEntry *entry, size_t max_answer)
{
	size_t len;

	if (entry->rows == NULL || PQntuples(entry->rows) != 1)
		return;
	len = (size_t) PQgetlength(entry->rows, 0, 0);
	if (len == 0 || len > max_answer || !dtm_text_is_utf8(PQgetvalue(entry->rows, 0, 0), len))
		return;
	entry->done.answer = PQgetvalue(entry->rows, 0, 0);
	entry->done.answer_len = len;
}

static void
give_list(DtmPqEntry *entry)
{
	int n = entry->rows == NULL ? 0 : PQntuples(entry->rows);

	if (n > entry->max_rows)
	{
		entry->done.list_cut = true;
		n = entry->max_rows;
	}
	entry->done.list = calloc((size_t) n + 1, sizeof(char *));
	if (entry->done.list == NULL)
	{
		dtm_pq_fail(entry, DTM_PQ_CONNECT, "out of memory for a list");
		return;
	}
	for (int i = 0; i < n; i++)
		entry->done.list[i] = PQgetvalue(entry->rows, i, 0);
	entry->done.n_list = n;
}

DtmPqNext
dtm_pq_work_next(DtmPqConnection *connection)
{
	DtmPqEntry *entry = connection->entry;

	if (entry->failed)
		return DTM_PQ_NEXT_OVER;
	switch (connection->step)
	{
		case DTM_PQ_STEP_LOOK:
			return step_pass(connection);
		case DTM_PQ_STEP_PASS:
			if (!entry->has_value)
				return DTM_PQ_NEXT_LOST;
			return entry->go ? step_run(connection) : step_skip(connection);
		case DTM_PQ_STEP_RUN:
		case DTM_PQ_STEP_SKIP:
			entry->done.skipped = connection->step == DTM_PQ_STEP_SKIP;
			if (entry->committed)
				give_answer(entry, connection->pq->limits.max_answer);
			else
				dtm_pq_fail(entry, DTM_PQ_BROKEN, "server \"%s\" did not commit",
							connection->server->name);
			break;
		case DTM_PQ_STEP_LIST:
			give_list(entry);
			break;
		case DTM_PQ_STEP_FINISH:
		case DTM_PQ_STEP_NONE:
			break;
	}
	return DTM_PQ_NEXT_OVER;
}

const char *
dtm_pq_work_cleanup(const DtmPqConnection *connection)
{
	if (PQtransactionStatus(connection->conn) != PQTRANS_IDLE)
		return "ROLLBACK; " CLEANUP;
	return connection->dirty ? CLEANUP : NULL;
}
