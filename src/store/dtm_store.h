/* -------------------------------------------------------------------------
 *
 * dtm_store.h
 *		The only place that knows the dtm.* tables: every SQL statement that
 *		C executes, as saved plans.
 *
 * All functions may throw.  They run inside a transaction of the caller and
 * between dtm_store_begin and dtm_store_end.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_STORE_H
#define DTM_STORE_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

#include "dtm_trans.h"

/* The caller's identity, put aside while the store works as the tables' owner. */
typedef struct DtmStoreScope
{
	Oid user;
	int sec_context;
} DtmStoreScope;

/*
 * Connect to SPI and become the owner of the tables, so that callers need no
 * privileges on them.  An ERROR in between is undone by the abort of the
 * (sub)transaction.  42704 when the extension's tables are not there.
 */
extern void dtm_store_begin(DtmStoreScope *scope);
extern void dtm_store_end(DtmStoreScope *scope);

/* The owner of the tables, which is the extension's. */
extern Oid dtm_store_owner(void);

/* ---- submitting (backends) ---- */

/* What is stored of a new transaction. */
typedef struct DtmNewTrans
{
	int64 id;
	const char *gid;
	bool gid_given; /* by the user: it may be taken */
	DtmTransType type;
	DtmStatus status;
	Oid owner;
	TimestampTz created_at;
	TimestampTz next_run_at;
	int64 after; /* it waits until this one has finished; 0 = it does not wait */
	const char *spec;
	size_t spec_len;
} DtmNewTrans;

typedef enum DtmStored
{
	DTM_STORED_DUE,     /* for its coordinator, at next_run_at */
	DTM_STORED_WAITING, /* for "after" */
	DTM_STORED_TAKEN    /* no: the gid is taken */
} DtmStored;

/* Store a new transaction.  The rows become visible with the commit. */
extern DtmStored dtm_store_insert(const DtmNewTrans *trans);
extern int64 dtm_store_next_id(void);

/* ---- looking up one transaction (backends) ---- */

typedef struct DtmFound
{
	int64 id;
	Oid owner;
	DtmTransType type;
	DtmStatus status;
	TimestampTz created_at;
	bool uncommitted; /* stored by the current transaction */
	bool steered;     /* its row was changed by it (dtm_submit, dtm_abort, dtm_retry) */
	bool parked;
	bytea *spec;   /* with later branches, detoasted, in the caller's context */
	bytea *state;  /* or NULL */
	char *reason;  /* or NULL */
	Jsonb *result; /* or NULL */
	int64 after;   /* the message it waits for, 0 = none; known once it is locked */
} DtmFound;

/*
 * Look at what is committed now, whatever the isolation level (and at the
 * caller's own changes).  with_body: also spec, state, reason, result.
 */
extern bool dtm_store_find(const char *gid, bool with_body, DtmFound *found);

/*
 * Lock the row of an unfinished transaction, and take status, state, reason
 * and after from it anew; false when it is finished.
 */
extern bool dtm_store_lock(int64 id, DtmFound *found);

/* An unfinished transaction is due now, and not parked; false when it is finished. */
extern bool dtm_store_mark_retry(int64 id);

/* Failed, with the state as it is; reason may be NULL. */
extern void dtm_store_stop(const DtmFound *found, const char *reason);

/* Over, with found's status, which is final now, and the state as it is; both may be NULL. */
extern void dtm_store_end_trans(const DtmFound *found, const char *reason, Jsonb *result);

/*
 * Another status for a locked, unfinished transaction, due at once; the
 * coordinator finds its copy of the row outdated.  One that was parked is
 * taken up again, unless only its state is another.  reason may be NULL.
 */
extern void dtm_store_steer(int64 id, DtmStatus status, const char *state, size_t state_len,
							const char *reason);

/*
 * Another spec for a transaction whose row in dtm.live the caller has locked
 * and is about to steer, so that who has the old one in memory loads it again.
 */
extern void dtm_store_respec(int64 id, const char *spec, size_t spec_len);

/* What became of a finished one; false when there is none.  *reason may be NULL. */
extern bool dtm_store_outcome(int64 id, DtmStatus *status, char **reason);

/*
 * Unfinished ones of that role, or also of those it is a member of, that wait
 * until after that time; the next ones first.  Their gids are in the caller's
 * context.  It looks at the next 20000 of all roles, for the loop that asks
 * has more to do.
 */
extern int dtm_store_later(TimestampTz after, Oid member, bool memberships, int limit, char **gids);

extern int64 dtm_store_purge_owned(TimestampTz before, Oid member, bool all);

/* ---- branches that come after the submit; dtm_store_branch.c ---- */

/*
 * Add one behind the n there are, with its answer or NULL, to a transaction
 * whose row the caller has locked (dtm_store_lock), and let whoever holds it
 * in memory load it again.
 */
extern void
dtm_store_register(int64 id, int n, const char *spec, size_t spec_len, const char *answer);

/*
 * Likewise what the client of a workflow has done.  Who holds the transaction
 * in memory needs no memo, and goes on undisturbed: perhaps it waits for the
 * very call in which this was done.
 */
extern void dtm_store_memo(int64 id, int n, const char *spec, size_t spec_len);

/*
 * What the branches answered, n of them in their order, each NULL when there
 * is none; in the caller's context.
 */
extern char **dtm_store_answers(int64 id, int n);

/* Keep the answer of one branch, by its number from 0; XX001 when it is not there. */
extern void dtm_store_answer(int64 id, int branch, const char *answer);

/* ---- workflows (backends, executors); dtm_store_signal.c ---- */

/*
 * Keep a signal for a later await of a transaction whose row the caller has
 * locked; false when max of them are kept already.
 */
extern bool dtm_store_signal_add(int64 id, const char *event, const char *payload, int max);

/* Take the oldest kept signal of that event; its payload, or NULL when there is none. */
extern char *dtm_store_signal_take(int64 id, const char *event);

/*
 * The function has come to its end: status, state and result of a locked
 * transaction, due at once.  result may be NULL.
 */
extern void
dtm_store_result(int64 id, DtmStatus status, const char *state, size_t state_len, Jsonb *result);

/* ---- texts out of bytes that came from elsewhere; dtm_store_text.c ---- */

/*
 * A text that tables and SQL can hold, palloc'd: the server trusts it to be
 * valid in the database's encoding.  In one that is not, "?" stands for
 * whatever is not plain ASCII; so it does for NUL.
 */
extern char *dtm_store_text(const char *bytes, size_t len);

/* Likewise of bytes that are UTF-8 if they are text at all; in a transaction. */
extern char *dtm_store_text_of_wire(const char *bytes, size_t len);

/*
 * The other way: bytes of the database's encoding in UTF-8, palloc'd.  What
 * has no place there is "?"; in SQL_ASCII they are passed on as they are.
 */
extern DtmText dtm_store_wire_text(DtmText from);

/* ---- messages that wait for others (backends, coordinator); dtm_store_follow.c ---- */

/*
 * These have finished: who waits for one of them is due now, with the same
 * commit.  Returns how many there are; *followers: their ids, in the current
 * context, for the caller to wake at the commit.
 */
extern int dtm_store_release(const int64 *finished, int n, TimestampTz now, int64 **followers);

/* This one is finished before its turn: who waits for it waits for "after" from now on. */
extern void dtm_store_move_followers(int64 finished, int64 after);

/* ---- topics (backends, coordinator); dtm_store_topic.c ---- */

/*
 * What came of a change.  Each that is done counts the topic's version up, and
 * locks the topic until the end of the transaction.
 */
typedef enum DtmTopicChange
{
	DTM_TOPIC_CHANGED,
	DTM_TOPIC_SAME_URL, /* it has subscribed already */
	DTM_TOPIC_NONE,     /* there is no such topic */
	DTM_TOPIC_EMPTY,    /* it has no subscriber */
	DTM_TOPIC_NO_URL    /* it has, but not this one */
} DtmTopicChange;

/* Makes the topic when there is none; remark may be NULL. */
extern DtmTopicChange dtm_store_topic_add(const char *topic, const char *url, const char *remark);

/* A topic stays when its last subscriber goes. */
extern DtmTopicChange dtm_store_topic_remove(const char *topic, const char *url);

/* It goes with all its subscribers. */
extern DtmTopicChange dtm_store_topic_drop(const char *topic);

/* The subscribers, in the order in which they came; allocated in the caller's context. */
extern int dtm_store_topic_urls(const char *topic, char ***urls);

typedef struct DtmTopicSubscriber
{
	char *url;
	char *remark; /* or NULL */
} DtmTopicSubscriber;

typedef struct DtmTopicRow
{
	int64 id;
	char *topic;
	int64 version; /* 1 when it was made, and one more for each change */
	TimestampTz created_at;
	TimestampTz updated_at;
	int n; /* subscribers, in the order in which they came; may be 0 */
	DtmTopicSubscriber *subscribers;
} DtmTopicRow;

/*
 * Topics with an id below before (INT64_MAX: from the newest on), newest
 * first, at most limit; topic NULL: all of them, else only this one.  In the
 * caller's context.  Returns their number.
 */
extern int dtm_store_topic_list(const char *topic, int64 before, int64 limit, DtmTopicRow **rows);

/* ---- access to the HTTP API (backends, coordinator); dtm_store_token.c ---- */

/*
 * Keep a token, by its hash only, until expires (DT_NOEND: for ever); false
 * when the name is taken.  Tokens of roles that are gone are deleted first.
 */
extern bool dtm_store_token_add(const char *token, const char *name, Oid role, TimestampTz expires);

/* The role of the token of that name; InvalidOid when there is none. */
extern Oid dtm_store_token_role(const char *name);

/* False when there is none of that name for the role. */
extern bool dtm_store_token_drop(const char *name, Oid role);

/* The role that a token stands for; InvalidOid when it is none, or is over.  The role may be gone. */
extern Oid dtm_store_token_find(const char *token);

/* A function of the extension by its name; InvalidOid when it has none such.  Any one of several. */
extern Oid dtm_store_own_function(Oid extension, const char *name);

/* A table or view of the schema dtm. */
extern Oid dtm_store_relation(const char *name);

/* ---- identity of the database ---- */

/* The row that says why nothing may be driven here, or NULL. */
extern char *dtm_store_pause_reason(void);
extern void dtm_store_pause(const char *reason);
extern void dtm_store_resume(void);

/* ---- driving (coordinator) ---- */

typedef struct DtmStoredTrans
{
	int64 id;
	int32 ver;
	DtmStatus status;
	bool parked;
	bool retry; /* dtm_retry asks for it */
	TimestampTz next_run_at;
	Oid owner;
	TimestampTz created_at;
	DtmTransType type;
	char *gid;
	char *reason;     /* or NULL */
	const char *spec; /* all in the caller's current context */
	size_t spec_len;
	const char *state;
	size_t state_len;
} DtmStoredTrans;

/* Read unfinished transactions; rows that are not there any more are left out. */
extern int dtm_store_load(const int64 *ids, int n, DtmStoredTrans *rows);

typedef struct DtmProgress
{
	int64 id;
	int32 ver; /* as loaded or last written */
	DtmTransType type;
	DtmStatus status;
	int32 failures;
	int32 attempts;
	int32 retries;
	TimestampTz created_at;
	TimestampTz next_run_at;
	TimestampTz now;
	const char *state;
	size_t state_len;
	const char *reason; /* or NULL */
	size_t reason_len;
	bool release;   /* leaves memory until next_run_at */
	bool saw_retry; /* the mark of dtm_retry was there when it was loaded: clear it */
	bool written;   /* out: false when somebody else changed the row */
} DtmProgress;

/* Write the progress of unfinished ones, one statement for all; sets written. */
extern void dtm_store_progress(DtmProgress **rows, int n);

/* What branches answered, by id and number of the branch from 0, one statement for all. */
extern void
dtm_store_answer_many(const int64 *ids, const int *branches, char *const *answers, int n);

/* Move finished ones to dtm.done, one statement for all; sets written. */
extern void dtm_store_finish(DtmProgress **rows, int n);

/* Transactions whose timer is due, from low on; the timers are deleted. */
extern int dtm_store_claim_timers(TimestampTz low, TimestampTz now, int worker, int workers,
								  int limit, int64 *ids, TimestampTz *due);

/* The next timer after "after", or DT_NOEND. */
extern TimestampTz dtm_store_next_timer(TimestampTz after, int worker, int workers);

/* The next unfinished transactions behind the cursor that are due and not parked. */
extern int dtm_store_sweep(int64 after, TimestampTz now, int worker, int workers, int limit,
						   int64 *ids, int64 *last, bool *end);

extern void dtm_store_park(int64 id, const char *problem);
extern int64 dtm_store_purge(TimestampTz before, int limit);

/* ---- running sql: branches (executor) ---- */

/*
 * What packed columns say, state NULL = as it began; XX001 when they are
 * damaged.  trans points into them and into the current context.
 */
extern void dtm_store_unpack(const char *spec, size_t spec_len, const char *state, size_t state_len,
							 TimestampTz created_at, DtmTrans *trans);

extern bool dtm_store_load_one(int64 id, DtmStoredTrans *row);

/* ---- servers on which something may be prepared (dtm_xa_exec); dtm_store_xa.c ---- */

typedef struct DtmXaServer
{
	Oid server;
	Oid role;   /* whose user mapping */
	char *name; /* of the server, NULL when it, or the role, is gone */
	int32 failures;
} DtmXaServer;

/* Is it noted, visibly to all? */
extern bool dtm_store_xa_is_known(Oid server, Oid role);
extern void dtm_store_xa_note(Oid server, Oid role);
extern int dtm_store_xa_servers(DtmXaServer **servers);
extern void dtm_store_xa_forget(Oid server, Oid role);

/* What came of looking there: failures in a row, why; NULL: nothing is left there. */
extern void dtm_store_xa_problem(Oid server, Oid role, int failures, TimestampTz next_try_at,
								 const char *problem);

/* ---- the branch barrier (backends, executor); dtm_store_barrier.c ---- */

/* The executor's own barrier; a service counts 01, 02, ... */
#define DTM_SQL_BARRIER_ID "sql"

/* One op of one branch, as a service received it or an executor runs it. */
typedef struct DtmBarrierCall
{
	const char *trans_type;
	const char *gid;
	const char *branch_id;
	const char *op;
} DtmBarrierCall;

/*
 * Insert the row of the call and, for an op that undoes, the row of what it
 * undoes first.  Waits for an open transaction that has inserted one of
 * them, so both counts are definite.
 */
extern void dtm_store_barrier(const DtmBarrierCall *call, const char *barrier_id,
							  const char *reason, int *origin_rows, int *current_rows);

/* The reason in the call's row, in the caller's context; NULL without such a row. */
extern char *dtm_store_barrier_reason(const DtmBarrierCall *call, const char *barrier_id);

/* ---- reservations (backends, executor; sweep: coordinator); dtm_store_reserve.c ---- */

/* Functions of sql/45-reserve.sql that only the owner of the tables may call. */
typedef enum DtmReserveCall
{
	DTM_STOCK_SET,        /* resource, quantity, buckets */
	DTM_STOCK_ADD,        /* resource, quantity */
	DTM_STOCK_DROP,       /* resource */
	DTM_RESERVE,          /* resource, quantity, gid, branch_id, ttl, wait */
	DTM_RESERVE_CONFIRM,  /* gid, resource */
	DTM_RESERVE_RELEASE,  /* gid, resource, sold */
	DTM_RESERVE_SWEEP_OWN /* at most so many */
} DtmReserveCall;

/* Call one of them for the current role; not inside of dtm_store_begin. */
extern int64 dtm_store_reserve(DtmReserveCall call, int nargs, const NullableDatum *args);

/* Settle a batch of reservations whose time is over, whosever they are. */
extern int64 dtm_store_reserve_sweep(int limit);

#endif /* DTM_STORE_H */
