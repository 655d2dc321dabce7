/* -------------------------------------------------------------------------
 *
 * dtm_xa.h
 *		Private to XA over foreign servers: this session's connections to
 *		other servers, and what the end of a transaction does with them.
 *
 *	 dtm_sql_xa.c			dtm_xa_exec and dtm_xa_query
 *	 dtm_xa_connection.c	connections, statements; may throw
 *	 dtm_xa_quiet.c			the same where nothing may throw: after the decision
 *	 dtm_xa_commit.c		prepare, decide, finish; savepoints
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_XA_H
#define DTM_XA_H

#include "postgres.h"

#include "lib/ilist.h"
#include "libpq-fe.h"

#include "dtm_compat.h"
#include "dtm_xa_gid.h"

/* How far the other server's part of the current transaction is. */
typedef enum DtmXaPhase
{
	DTM_XA_UNUSED = 0, /* not begun */
	DTM_XA_OPEN,       /* begun there */
	DTM_XA_PREPARING,  /* PREPARE TRANSACTION was sent: done or not, nobody knows */
	DTM_XA_PREPARED,
	DTM_XA_COMMITTED
} DtmXaPhase;

/*
 * A server as one role uses it.  Stays for the session, and its connection
 * too while it is good for something; never freed, so that the callbacks at
 * the end of a transaction have nothing to allocate or to give back.
 */
typedef struct DtmXaConnection
{
	slist_node node;
	Oid server;
	Oid role;
	char name[NAMEDATALEN]; /* of the server */
	PGconn *conn;           /* or NULL */
	uint64 fingerprint;     /* of the options that it was made with */

	/* of the current transaction */
	DtmXaPhase phase;
	int serial;                /* order of first use */
	int depth;                 /* nested transactions open there: 1 + savepoints */
	int work_depth;            /* outermost level with work that is still there; 0 = none */
	bool changing;             /* a command that changes depth was sent, and not answered yet */
	bool noted;                /* the tables know that something may become prepared there */
	bool lost;                 /* the connection broke, and the work with it */
	int64 trans;               /* of the row with this branch, once PREPARING */
	char xid[DTM_XA_XID_SIZE]; /* once PREPARING */
} DtmXaConnection;

/* All of this session. */
extern slist_head dtm_xa_connections;

/* ---- dtm_xa_connection.c ---- */

/*
 * The connection to a server for the current role, with a transaction and
 * savepoints as deep as ours; to be worked on by one statement.
 *
 * 42704, 42501, 2F003 as dtm_foreign_get; 08001 cannot connect; 55000 the
 * server cannot prepare transactions; 08006 lost with work of this
 * transaction.
 */
extern DtmXaConnection *dtm_xa_open(const char *server);

/* Send, without waiting for more than the socket's buffer. */
extern void dtm_xa_send(DtmXaConnection *x, const char *command);
extern void
dtm_xa_send_params(DtmXaConnection *x, const char *statement, int n, const char *const *params);

/*
 * The next result, NULL when there is none left; palloc'd memory does not
 * hold it: PQclear.  Interruptible.  08006 when the connection is lost.
 */
extern PGresult *dtm_xa_next_result(DtmXaConnection *x);

/* The answer of a command that was sent; throws what the server says.  Its tag, or "". */
extern const char *dtm_xa_finish_command(DtmXaConnection *x, const char *what);

/* Throw the error of a result, which is cleared; what: shown in the context. */
pg_noreturn extern void dtm_xa_throw(DtmXaConnection *x, PGresult *result, const char *what);

/* It broke: closed, and what was done in it this transaction is gone.  Throws 08006. */
pg_noreturn extern void dtm_xa_throw_lost(DtmXaConnection *x);

/* From and to what the wire speaks, UTF8. */
extern char *dtm_xa_to_wire(const char *chars);
extern char *dtm_xa_from_wire(const char *chars);

/* ---- dtm_xa_quiet.c: nothing in it throws, waits longer than told, or allocates from PostgreSQL ---- */

typedef enum DtmXaQuiet
{
	DTM_XA_QUIET_DONE,
	DTM_XA_QUIET_ABSENT,  /* 42704: no such prepared transaction */
	DTM_XA_QUIET_REFUSED, /* another error */
	DTM_XA_QUIET_LOST     /* no answer in time, or no connection */
} DtmXaQuiet;

/* Milliseconds of a clock that only goes forward. */
extern int64 dtm_xa_clock_ms(void);

extern bool dtm_xa_quiet_send(PGconn *conn, const char *command);

/* Read the answer of all that was sent. */
extern DtmXaQuiet dtm_xa_quiet_answer(PGconn *conn, int64 deadline_ms);

extern DtmXaQuiet dtm_xa_quiet_command(PGconn *conn, const char *command, int64 deadline_ms);

/* End what is running, so that the connection takes commands again. */
extern bool dtm_xa_quiet_settle(PGconn *conn, int64 deadline_ms);

/* Close it, if it is open. */
extern void dtm_xa_close(DtmXaConnection *x);

/* ---- dtm_xa_commit.c ---- */

/* From now on the end of this transaction is ours to look after. */
extern void dtm_xa_use(DtmXaConnection *x);

#endif /* DTM_XA_H */
