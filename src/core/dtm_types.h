/* -------------------------------------------------------------------------
 *
 * dtm_types.h
 *		The vocabulary shared by everything below the line: enums, text
 *		views, return codes, the allocator.
 *
 * Nothing here (or anywhere in src/core and src/net) includes postgres.h.
 * Words follow DTM: trans, branch, op, barrier.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_TYPES_H
#define DTM_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Mode of a global transaction.  The numbers are stored: never renumber. */
typedef enum DtmTransType
{
	DTM_TYPE_SAGA = 1,
	DTM_TYPE_MSG = 2,
	DTM_TYPE_TCC = 3,
	DTM_TYPE_XA = 4,
	DTM_TYPE_WORKFLOW = 5
} DtmTransType;

#define DTM_TYPE_LAST DTM_TYPE_WORKFLOW

/* Status of a global transaction; SUCCEED and FAILED are final.  Stored. */
typedef enum DtmStatus
{
	DTM_STATUS_NONE = 0,
	DTM_STATUS_PREPARED = 1,
	DTM_STATUS_SUBMITTED = 2,
	DTM_STATUS_ABORTING = 3,
	DTM_STATUS_SUCCEED = 4,
	DTM_STATUS_FAILED = 5
} DtmStatus;

#define DTM_STATUS_LAST DTM_STATUS_FAILED

/* What is done to a branch; the text forms are DTM's. */
typedef enum DtmOp
{
	DTM_OP_NONE = 0,
	DTM_OP_ACTION = 1,
	DTM_OP_COMPENSATE = 2,
	DTM_OP_TRY = 3,
	DTM_OP_CONFIRM = 4,
	DTM_OP_CANCEL = 5,
	DTM_OP_COMMIT = 6,
	DTM_OP_ROLLBACK = 7,
	DTM_OP_MSG = 8,      /* query_prepared of a msg, branch "00" */
	DTM_OP_WORKFLOW = 9, /* replay or resume of a workflow, branch "00" */
	DTM_OP_SLEEP = 10,   /* a workflow waits for a time */
	DTM_OP_AWAIT = 11,   /* ... or for a signal */
	DTM_OP_MEMO =
		12 /* of a workflow that its client runs: the name of the branch says what it is */
} DtmOp;

#define DTM_OP_LAST DTM_OP_MEMO

/*
 * The three parts an op can play in a branch, whatever the mode calls them:
 * forward (action, try), confirm (confirm, commit), undo (compensate,
 * cancel, rollback).
 */
typedef enum DtmRole
{
	DTM_ROLE_FORWARD = 0,
	DTM_ROLE_CONFIRM = 1,
	DTM_ROLE_UNDO = 2
} DtmRole;

#define DTM_ROLES 3

/* What a step of a workflow is; other branches are all calls.  Stored. */
typedef enum DtmStepKind
{
	DTM_STEP_CALL = 0,       /* action, and perhaps compensate */
	DTM_STEP_TCC = 1,        /* try, then confirm or cancel */
	DTM_STEP_SLEEP = 2,      /* succeeds at its due_at */
	DTM_STEP_AWAIT = 3,      /* succeeds with a signal, or at its due_at without */
	DTM_STEP_MEMO = 4,       /* done by the client that runs the workflow: succeeded ... */
	DTM_STEP_MEMO_FAILED = 5 /* ... or failed; name is its op, payload what it gave */
} DtmStepKind;

#define DTM_STEP_LAST DTM_STEP_MEMO_FAILED

/* Status of one op of one branch.  Stored. */
typedef enum DtmOpStatus
{
	DTM_OP_PREPARED = 0,
	DTM_OP_SUCCEED = 1,
	DTM_OP_FAILED = 2
} DtmOpStatus;

/* Meaning of an answer (reference: DTM protocol, results of a branch). */
typedef enum DtmOutcome
{
	DTM_OUTCOME_SUCCESS = 0,
	DTM_OUTCOME_FAILURE = 1, /* definite; a saga action rolls back */
	DTM_OUTCOME_ONGOING = 2, /* ask again at a fixed interval */
	DTM_OUTCOME_ERROR = 3    /* temporary; retried with backoff */
} DtmOutcome;

/* Return codes of functions below the line. */
typedef enum DtmRc
{
	DTM_OK = 0,
	DTM_NOMEM,   /* the caller's allocator gave NULL */
	DTM_LIMIT,   /* a size bound was exceeded */
	DTM_INVALID, /* malformed input */
	DTM_STATE    /* not allowed in this status */
} DtmRc;

#if defined(__GNUC__)
#define DTM_MUST_CHECK __attribute__((warn_unused_result))
#else
#define DTM_MUST_CHECK
#endif

/* A view on bytes owned by somebody else; not NUL-terminated. */
typedef struct DtmText
{
	const char *data;
	uint32_t len;
} DtmText;

/*
 * Where memory comes from.  alloc returns NULL when there is none (it must
 * not jump); nothing is freed singly, the owner drops the whole arena.
 */
typedef struct DtmArena
{
	void *(*alloc)(void *context, size_t size);
	void *context;
} DtmArena;

/* Microseconds in the database's clock (TimestampTz); 0 means "not set". */
typedef int64_t DtmTime;

#define DTM_TIME_NEVER INT64_MAX

/* Bounds on what comes from outside. */
#define DTM_MAX_GID_LEN 128 /* bytes */
#define DTM_MAX_STEPS 1000
#define DTM_MAX_URL_LEN 2048
#define DTM_MAX_NAME_LEN 128
#define DTM_MAX_MEMO_OP_LEN 45 /* bytes; DTM's column */
#define DTM_MAX_BRANCH_ID_LEN 128
#define DTM_MAX_TOPIC_LEN 128
#define DTM_MAX_HEADERS 32      /* per step or per transaction */
#define DTM_MAX_HEADER_LEN 4096 /* name and value together */
#define DTM_MAX_PAYLOAD_LEN (1024 * 1024)
#define DTM_MAX_SPEC_LEN (8 * 1024 * 1024)
#define DTM_MAX_ERROR_LEN 1000 /* bytes of a stored reason */
#define DTM_MAX_CALL_LOG 64    /* attempts remembered per transaction */
#define DTM_MAX_LOG_REASON 120 /* bytes of the reason remembered with each of them */

/* Text forms; NULL or NONE/0 for what is unknown. */
extern const char *dtm_type_name(DtmTransType type);
extern const char *dtm_status_name(DtmStatus status);
extern const char *dtm_op_name(DtmOp op);
extern const char *dtm_op_status_name(DtmOpStatus status);
extern const char *dtm_outcome_name(DtmOutcome outcome);
extern DtmOp dtm_op_from_name(const char *name, size_t len);
extern DtmTransType dtm_type_from_name(const char *name, size_t len); /* 0: unknown */

/* At most max bytes of a text, cut in front of a character. */
static inline DtmText
dtm_text_cut(DtmText from, uint32_t max)
{
	if (from.len > max)
	{
		from.len = max;
		while (from.len > 0 && ((unsigned char) from.data[from.len] & 0xC0) == 0x80)
			from.len--;
	}
	return from;
}

static inline bool
dtm_status_is_final(DtmStatus status)
{
	return status == DTM_STATUS_SUCCEED || status == DTM_STATUS_FAILED;
}

#endif /* DTM_TYPES_H */
