/* -------------------------------------------------------------------------
 *
 * dtm_sql.h
 *		What the SQL-callable functions share.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_SQL_H
#define DTM_SQL_H

#include "postgres.h"

#include "fmgr.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "dtm_arena.h"
#include "dtm_engine.h"
#include "dtm_spec.h"
#include "dtm_store.h"

/* A text argument that must not be NULL, by its name: 22004. */
extern text *dtm_sql_required(FunctionCallInfo fcinfo, int n, const char *name);
extern char *dtm_sql_required_string(FunctionCallInfo fcinfo, int n, const char *name);

/* Numbers of the trailing arguments that every submit has, relative to the first. */
enum
{
	DTM_OPTION_REQUEST_TIMEOUT,
	DTM_OPTION_RETRY_INTERVAL,
	DTM_OPTION_RETRY_LIMIT,
	DTM_OPTION_TIMEOUT_TO_FAIL,
	DTM_OPTION_HEADERS,
	DTM_OPTION_START_AFTER
};

/* Hand them to the builder; first is the number of the first of them. */
extern void dtm_sql_take_options(FunctionCallInfo fcinfo, int first, DtmSpecBuilder *builder);

/*
 * Store what the builder made, in the first status of its type, or find that
 * it is there already; gid NULL = a new one.  Returns the gid.
 */
extern text *dtm_sql_store(DtmSpecBuilder *builder, char *gid);

/* A new transaction that the builder has finished. */
typedef struct DtmSqlInsert
{
	const char *gid;
	bool gid_given;   /* by the user: it may be taken */
	bool chained;     /* messages of one database transaction are delivered in order */
	DtmStatus status; /* NONE: the first one of its type */
	int worker;       /* with workers > 1: the coordinator that is to drive it */
	int workers;
	const char *spec;
	size_t spec_len;
	int64 id; /* out */
} DtmSqlInsert;

/*
 * Store it for the current role, and wake its coordinator at the commit;
 * false when the gid is taken.
 */
extern bool dtm_sql_insert(DtmSqlInsert *insert);

/* 22023 when it is no gid, or one of those that dtm_xa_exec makes. */
extern void dtm_sql_check_gid(const char *gid);

extern char *dtm_sql_new_gid(void);

/*
 * What is known of a transaction that exists becomes what is true under the
 * lock of its row; one that is final is not locked.  False: it is gone.
 */
extern bool dtm_sql_lock(const char *gid, bool with_body, DtmFound *found);

/*
 * Steer a transaction that was found with its body and locked: SUBMIT or
 * ABORT by the engine's rules, which wakes its coordinator at the commit.
 * found->status is the new one.  False when its status does not allow it.
 */
extern bool dtm_sql_steer_found(const char *gid, DtmFound *found, const DtmEvent *event);

/*
 * END of a workflow that its client runs, found with its body and locked; the
 * result is kept, NULL is none.  False when it has ended already, or is run here.
 */
extern bool
dtm_sql_end_found(const char *gid, DtmFound *found, const DtmEvent *event, Jsonb *result);

/* Force-stop one that was locked and is not final: it has failed. */
extern void dtm_sql_stop_found(const char *gid, DtmFound *found, const char *reason);

/* ---- messages of one transaction, in order; dtm_sql_chain.c ---- */

/* The message of this role after which its next one is delivered; 0 = none. */
extern int64 dtm_chain_last(Oid owner);

/* It is this one from now on, unless the current subtransaction is rolled back. */
extern void dtm_chain_set_last(Oid owner, int64 id);

/* This one was stopped: if it was the last, that is now the one it waited for, or none. */
extern void dtm_chain_stopped(Oid owner, int64 id, int64 after);

/* Throw what the builder refused: its message, field and hint with the right SQLSTATE. */
extern void dtm_sql_spec_error(const DtmSpecError *error);

/* The same with what the builder has kept, when a call of it gave false. */
extern void dtm_sql_check(DtmSpecBuilder *builder, bool ok);

/*
 * Feed the steps argument of a submit to the builder: an array of steps, or
 * the object that DTM's clients send; *flags gets what the object asks for.
 */
extern void dtm_sql_steps(DtmSpecBuilder *builder, Jsonb *steps, uint32_t *flags);

/* Feed headers, an object of strings; NULL is none. */
extern void dtm_sql_headers(DtmSpecBuilder *builder, Jsonb *headers);

/*
 * Look the targets of all steps up: sql: functions must exist and be
 * executable by the caller, network targets must be allowed.  Errors name
 * the step.
 */
extern void dtm_sql_check_targets(DtmSpecBuilder *builder);

/*
 * Likewise one target; prefix and field say where it is.  The qualified name
 * of the function of a sql: target, else NULL.
 */
extern char *dtm_sql_check_url(const char *prefix, const char *field, DtmText url);

/* A target that may subscribe, whoever sends to it; errors as dtm_topic_subscribe(). */
extern void dtm_sql_check_subscriber(const char *url);

/* Does a step name a topic? */
extern bool dtm_sql_has_topics(const DtmSpecBuilder *builder);

/* Has each topic that a step names a subscriber? */
extern bool dtm_sql_topics_lead_somewhere(const DtmSpecBuilder *builder);

/* A branch for each subscriber; 42704 when a topic has none. */
extern void dtm_sql_expand_topics(DtmSpecBuilder *builder);

/*
 * The transaction of a gid that the current role may steer.  42704 when
 * there is none, 42501 when it belongs to another role, XX001 when its rows
 * name no status or type.
 */
extern void dtm_sql_find_own(const char *gid, bool with_body, DtmFound *found);

/* Likewise, for looking only: pg_monitor may see all. */
extern void dtm_sql_find_visible(const char *gid, bool with_body, DtmFound *found);

/*
 * Milliseconds of an interval, a month being 30 days; rounded away from zero,
 * so that a tiny one keeps its sign.  Saturates.
 */
extern int64 dtm_sql_interval_ms(const Interval *interval);

/* How every token of the HTTP API begins; 64 hexadecimal digits follow. */
#define DTM_HTTP_TOKEN_PREFIX "dtm_"
#define DTM_HTTP_TOKEN_LEN (sizeof(DTM_HTTP_TOKEN_PREFIX) - 1 + 64)

/* 22023 when it is no name of an event that workflows wait for. */
extern void dtm_sql_check_event(const text *event);

/* What is said of a transaction whose packed columns cannot be read. */
#define DTM_SQL_UNREADABLE \
	"the stored transaction cannot be read: its packed columns are damaged or of a newer version"

/* spec and state of a found transaction as the core's struct; XX001 when they are damaged. */
extern void dtm_sql_unpack(bytea *spec, bytea *state, TimestampTz created_at, DtmTrans *trans);

/* Likewise, but false when they are damaged: one such row must not hide all others of a view. */
extern bool dtm_sql_try_unpack(bytea *spec, bytea *state, TimestampTz created_at, DtmTrans *trans);

/*
 * A text out of packed columns for SQL, palloc'd.  Their bytes are anybody's,
 * and the server trusts a text to be valid in the database's encoding: in one
 * that is not, "?" stands for whatever is not plain ASCII.
 */
extern char *dtm_sql_shown(DtmText chars);

#endif /* DTM_SQL_H */
