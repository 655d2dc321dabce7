/* -------------------------------------------------------------------------
 *
 * dtm_spec.h
 *		Building and checking the immutable part of a transaction, and its
 *		packed form: what one submit stores in one column.
 *
 * The builder knows every rule about steps and options; its callers only
 * walk their JSON (jsonb in the database, jansson on the wire) and feed it
 * field by field.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_SPEC_H
#define DTM_SPEC_H

#include "dtm_trans.h"

/* Bounds on options; what is longer is taken for a slip of the pen. */
#define DTM_MAX_OPTION_MS INT64_C(31536000000) /* 365 days */
#define DTM_MAX_REQUEST_TIMEOUT_MS 86400000    /* a day */
#define DTM_MAX_RETRY_INTERVAL_MS 604800000    /* a week */
#define DTM_MAX_RETRY_LIMIT 1000000
#define DTM_MAX_SEARCH_PATH_LEN 8192

typedef enum DtmJsonKind
{
	DTM_JSON_NULL,
	DTM_JSON_BOOL,
	DTM_JSON_NUMBER,
	DTM_JSON_STRING,
	DTM_JSON_ARRAY,
	DTM_JSON_OBJECT
} DtmJsonKind;

/* Why an input was refused: everything an error message needs. */
typedef enum DtmSpecErrorCode
{
	DTM_SPEC_OK = 0,
	DTM_SPEC_INVALID,     /* 22023 invalid_parameter_value */
	DTM_SPEC_LIMIT,       /* 54000 program_limit_exceeded */
	DTM_SPEC_UNSUPPORTED, /* 0A000 feature_not_supported */
	DTM_SPEC_NOMEM        /* 53200 out_of_memory */
} DtmSpecErrorCode;

typedef struct DtmSpecError
{
	DtmSpecErrorCode code;
	int step;          /* 0-based; -1 = not about one step */
	char field[64];    /* "action", "after", "gid", ... or "" */
	char message[256]; /* primary message, e.g. step 2 has no "action" */
	char hint[256];    /* may be empty */
} DtmSpecError;

typedef struct DtmSpecBuilder DtmSpecBuilder;

/*
 * All the builder's memory comes from the arena, and every value given is
 * copied.  A saga, a msg and a tcc have steps; NULL and DTM_SPEC_UNSUPPORTED
 * for others.
 *
 * The first false result of any function below leaves its reason in
 * dtm_spec_error; from then on all of them return false and change nothing.
 */
extern DtmSpecBuilder *dtm_spec_begin(DtmArena *arena, DtmTransType type, DtmSpecError *error);

/* No steps at all are fine: it succeeds at once, as it does in DTM. */
extern void dtm_spec_allow_empty(DtmSpecBuilder *builder);

/* Steps, in order.  A false result leaves the reason in error. */
extern bool dtm_spec_step_begin(DtmSpecBuilder *builder);

/*
 * One member of a step object.  value: for STRING the unescaped characters,
 * for anything else its JSON text ("payload" takes any kind: a string
 * payload is passed as JSON text too, so quoted).  Known keys: payload, name,
 * headers (use dtm_spec_step_header), after (use dtm_spec_step_after),
 * request_timeout, retry_limit, and the targets: action and compensate of a
 * saga, try, confirm and cancel of a tcc (all three must be there, perhaps as
 * ""), action of a msg.  A msg takes neither after nor retry_limit: its steps
 * are called in order, and until they succeed.
 * request_timeout is a number of seconds, or an interval already turned
 * into "<number>" of seconds by the caller.  NULL kind = as if absent.
 * The kind of "headers" and "after" is passed here too (value is not looked
 * at): an object or an array announces the members that follow, anything
 * else is an error.  A key that comes again replaces what it gave before.
 */
extern bool dtm_spec_step_field(DtmSpecBuilder *builder, const char *key, size_t key_len,
								DtmJsonKind kind, const char *value, size_t value_len);
extern bool dtm_spec_step_header(DtmSpecBuilder *builder, const char *name, size_t name_len,
								 DtmJsonKind kind, const char *value, size_t value_len);

/*
 * "after": [] is announced by dtm_spec_step_after_begin (or by the field of
 * kind ARRAY), then one call per element.
 */
extern bool dtm_spec_step_after_begin(DtmSpecBuilder *builder);
extern bool
dtm_spec_step_after(DtmSpecBuilder *builder, DtmJsonKind kind, const char *value, size_t value_len);

/* Body bytes of a step begun, verbatim (DTM's wire shape: "payloads"); none when len is 0. */
extern bool
dtm_spec_step_payload_bytes(DtmSpecBuilder *builder, int step, const char *bytes, size_t len);

/* What the sql: target of a step was resolved to ("public.confirm_order"). */
extern bool dtm_spec_step_sql_name(DtmSpecBuilder *builder, int step, DtmRole role,
								   const char *name, size_t len);

/* How errors speak of the builder's type: key of a target (or NULL), argument, one of it, example. */
extern DtmTransType dtm_spec_type(const DtmSpecBuilder *builder);
extern const char *dtm_spec_role_key(const DtmSpecBuilder *builder, DtmRole role);
extern const char *dtm_spec_list_name(const DtmSpecBuilder *builder);
extern const char *dtm_spec_element(const DtmSpecBuilder *builder);
extern const char *dtm_spec_step_example(const DtmSpecBuilder *builder);

extern int dtm_spec_step_count(const DtmSpecBuilder *builder);
/* The step that a branch belongs to; the branch itself unless dtm_spec_expand has been there. */
extern int dtm_spec_step_number(const DtmSpecBuilder *builder, int branch);
extern DtmText dtm_spec_step_url(const DtmSpecBuilder *builder, int step, DtmRole role);
extern DtmText dtm_spec_step_payload(const DtmSpecBuilder *builder, int step);

/*
 * Options of the transaction; all have a "not given" default.  request_timeout
 * up to a day, retry_interval up to a week, the others up to 365 days; zero
 * only for start_after, delay and retry_limit.  error->field is the option's
 * name.  delay is start_after in the words of a msg: the later call counts.
 */
extern void dtm_spec_set_flags(DtmSpecBuilder *builder, uint32_t flags);
extern bool dtm_spec_set_request_timeout(DtmSpecBuilder *builder, int64_t ms);
extern bool dtm_spec_set_retry_interval(DtmSpecBuilder *builder, int64_t ms);
extern bool dtm_spec_set_retry_limit(DtmSpecBuilder *builder, int64_t limit);
extern bool dtm_spec_set_timeout_to_fail(DtmSpecBuilder *builder, int64_t ms);
extern bool dtm_spec_set_start_after(DtmSpecBuilder *builder, int64_t ms);
extern bool dtm_spec_set_delay(DtmSpecBuilder *builder, int64_t ms);

/*
 * DTM's wire: without a retry_interval of its own one with a shorter
 * timeout_to_fail than the default interval is repeated at that.
 */
extern bool dtm_spec_derive_retry_interval(DtmSpecBuilder *builder, int64_t default_ms);
extern bool dtm_spec_set_search_path(DtmSpecBuilder *builder, const char *path, size_t len);
extern bool dtm_spec_add_header(DtmSpecBuilder *builder, const char *name, size_t name_len,
								DtmJsonKind kind, const char *value, size_t value_len);

/*
 * Whom to ask about a prepared msg that nobody submits or aborts, a target
 * like those of steps; a spec with it begins as prepared.  Must not be empty.
 * Of a workflow that its client runs: who goes on with it, a service.
 */
extern bool dtm_spec_set_query_prepared(DtmSpecBuilder *builder, const char *url, size_t len);
extern bool dtm_spec_set_query_sql_name(DtmSpecBuilder *builder, const char *name, size_t len);
extern DtmText dtm_spec_query_prepared(const DtmSpecBuilder *builder);
extern const char *dtm_spec_query_field(const DtmSpecBuilder *builder); /* what it is called */

/*
 * Topics.  The action of a msg step may be "topic://<name>"; the name, or
 * empty, is what dtm_spec_step_topic gives.  The caller adds the subscribers
 * of each such step, in order, and dtm_spec_expand makes a branch of each;
 * from then on steps are counted as branches.  Without it a spec with a topic
 * is what was asked for, and no more: good for comparing alone.
 */
extern DtmText dtm_spec_step_topic(const DtmSpecBuilder *builder, int step);
extern bool
dtm_spec_step_subscriber(DtmSpecBuilder *builder, int step, const char *url, size_t len);
extern bool dtm_spec_expand(DtmSpecBuilder *builder);

/*
 * Topic rules: 1 to 128 bytes, no blanks or control characters.  NULL when
 * fine, else a whole primary message.
 */
extern const char *dtm_topic_check(const char *topic, size_t len);

/*
 * The packed form of what was asked for: as dtm_spec_pack, without branches
 * that were registered later, and with the subscribers of a topic taken back
 * to the one step that named it.  So a
 * repeated submit compares equal whoever has subscribed since.
 */
extern DtmRc dtm_spec_pack_asked(const DtmTrans *trans, DtmArena *arena, const char **packed,
								 size_t *packed_len) DTM_MUST_CHECK;

/*
 * Check the whole (every step has an action, "after" names existing steps
 * and has no cycle, sizes) and pack it.  The same input always gives the
 * same bytes, which is how a repeated submit is recognised.
 */
extern bool dtm_spec_finish(DtmSpecBuilder *builder, const char **packed, size_t *packed_len);

/* The error of the call that returned false. */
extern const DtmSpecError *dtm_spec_error(const DtmSpecBuilder *builder);

/*
 * For a caller that walks JSON: refuse what it found itself (a step that is
 * no object ...), with a printf format.  Always false.  step -1 = none, else
 * "step N " (a tcc's "branch N ") is put in front, with a colon when the format
 * begins with a quote.
 */
extern bool dtm_spec_refuse(DtmSpecBuilder *builder, DtmSpecErrorCode code, int step,
							const char *field, const char *hint, const char *format, ...)
#if defined(__GNUC__)
	__attribute__((format(printf, 6, 7)))
#endif
	;

/*
 * The packed form of the spec part of any transaction, whatever its mode;
 * start_at - created_at is stored in milliseconds.  Deterministic.  DTM_LIMIT
 * beyond DTM_MAX_SPEC_LEN.
 */
extern DtmRc dtm_spec_pack(const DtmTrans *trans, DtmArena *arena, const char **packed,
						   size_t *packed_len) DTM_MUST_CHECK;

/*
 * Read packed bytes back; trans points into them.  Fills the spec part
 * (start_at as created_at + start_after, so set created_at first) and zeroes
 * the state with the first status of the mode.  Texts that are absent are
 * empty but not NULL; an absent payload is NULL.  One block of the arena
 * holds the branches.  DTM_INVALID for bytes that are not ours: nothing is
 * trusted, and trans is then half filled.
 */
extern DtmRc
dtm_spec_unpack(const char *packed, size_t len, DtmArena *arena, DtmTrans *trans) DTM_MUST_CHECK;

/*
 * A transaction that begins without branches (tcc and xa that their client
 * runs, workflow): options as above, then dtm_spec_finish.  One of its
 * branches: a builder of its own, dtm_spec_branch_begin, targets ("" is
 * none), dtm_spec_step_payload_bytes and dtm_spec_step_sql_name of step 0,
 * then dtm_spec_finish_branch.
 */
extern DtmSpecBuilder *
dtm_spec_begin_growing(DtmArena *arena, DtmTransType type, DtmSpecError *error);
extern bool
dtm_spec_branch_begin(DtmSpecBuilder *builder, DtmStepKind kind, const char *id, size_t len);
extern bool dtm_spec_branch_target(DtmSpecBuilder *builder, DtmRole role, const char *field,
								   const char *url, size_t len);
extern bool
dtm_spec_finish_branch(DtmSpecBuilder *builder, const char **packed, size_t *packed_len);

/*
 * A step of a workflow is such a branch with more: a name (field is what it
 * is called in messages), the time until which it waits, and the options
 * request_timeout, retry_limit and headers, given to its builder as those of
 * a transaction are.  dtm_spec_branch is the branch as it is now.
 */
extern bool
dtm_spec_branch_name(DtmSpecBuilder *builder, const char *field, const char *name, size_t len);
extern void dtm_spec_branch_due(DtmSpecBuilder *builder, DtmTime due_at);
extern const DtmBranch *dtm_spec_branch(const DtmSpecBuilder *builder);

/*
 * What a workflow runs: "function" or "schema.function", perhaps with "sql:"
 * in front, and what that is called with, JSON text.
 */
extern bool dtm_spec_set_function(DtmSpecBuilder *builder, const char *name, size_t len);
extern bool dtm_spec_set_data(DtmSpecBuilder *builder, const char *json, size_t len);

/*
 * A workflow that its client runs (flags DTM_FLAG_CLIENT_RUN, set before):
 * its name, which is the op of its callback (dtm_spec_set_query_prepared), and the
 * bytes it is begun with, any; none when len is 0.
 */
extern bool dtm_spec_set_workflow(DtmSpecBuilder *builder, const char *name, size_t name_len,
								  const char *data, size_t len);

/*
 * What such a client has done of its workflow, a branch like the others, but
 * complete: begins it, with kind MEMO or MEMO_FAILED, then
 * dtm_spec_finish_branch.  op: any word of 1 to 45 bytes; data: any bytes.
 */
extern bool dtm_spec_memo(DtmSpecBuilder *builder, DtmStepKind kind, DtmText id, DtmText op,
						  DtmText data, DtmTime at);

/*
 * Names of events, of a signal and of an await: 1 to 128 bytes, no control
 * characters.  NULL when fine, else a whole primary message.
 */
extern const char *dtm_event_check(const char *event, size_t len);

/*
 * The packed form of one branch that is registered after the submit.  A spec
 * with such branches is read as its own bytes followed by theirs, in the
 * order of registration (dtm_trans_registers says which types have them).
 */
extern DtmRc dtm_branch_pack(const DtmBranch *branch, DtmArena *arena, const char **packed,
							 size_t *packed_len) DTM_MUST_CHECK;

/*
 * A branch without anything in it, to be filled; the id is checked by
 * dtm_branch_id_check: 1 to 128 bytes, no control characters; NULL when fine,
 * else a whole primary message.
 */
extern void dtm_branch_init(DtmBranch *branch);
extern const char *dtm_branch_id_check(const char *id, size_t len);

/*
 * Packed header pairs: iterate with offset starting at 0; false at the end.
 * The builder sorts them by name.
 */
extern bool dtm_headers_next(DtmText headers, size_t *offset, DtmText *name, DtmText *value);

/*
 * gid rules: 1 to 128 bytes, no control characters.  NULL when fine, else a
 * whole primary message ("gid must not be empty").
 */
extern const char *dtm_gid_check(const char *gid, size_t len);

/*
 * A new gid of 22 characters that sorts by time: milliseconds and random
 * bits in base 57 (DTM's alphabet, which has neither I nor O, so that the
 * words FAILURE and ONGOING cannot occur).  random: 10 bytes.
 */
extern void dtm_gid_make(uint64_t unix_ms, const unsigned char random[10], char out[23]);

/* The newest gid that a process has made; all zero when there is none yet. */
typedef struct DtmGidLast
{
	uint64_t unix_ms;
	unsigned char random[10];
} DtmGidLast;

/*
 * As dtm_gid_make, and behind the newest one of this process in byte order,
 * also within one millisecond and when the clock is set back.
 */
extern void
dtm_gid_next(DtmGidLast *last, uint64_t unix_ms, const unsigned char random[10], char out[23]);

#endif /* DTM_SPEC_H */
