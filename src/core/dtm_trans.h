/* -------------------------------------------------------------------------
 *
 * dtm_trans.h
 *		A global transaction as the engine sees it: the immutable spec and
 *		the changing state, in one struct.
 *
 * The spec part is filled by dtm_spec_unpack, the state part by
 * dtm_state_unpack; both point into bytes that the caller keeps alive.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_TRANS_H
#define DTM_TRANS_H

#include "dtm_types.h"

/* Index of the pseudo branch "00": query_prepared or workflow replay. */
#define DTM_BRANCH_TRANS 0xFFFF

/* State of one op of one branch. */
typedef struct DtmOpState
{
	uint8_t status;       /* DtmOpStatus */
	bool in_flight;       /* a call is out; memory only, false after a load */
	bool started;         /* a call was started at least once, as far as known */
	uint8_t last_outcome; /* DtmOutcome of the last finished call */
	uint32_t attempts;    /* calls finished */
	uint32_t failures;    /* temporary errors in a row: backoff exponent */
	DtmTime started_at;   /* first call, 0 = never */
	DtmTime finished_at;  /* when the status was decided, 0 = not yet */
	DtmTime next_at;      /* not before; 0 = at once */
	DtmText last_error;   /* of the last call that did not succeed, or empty */
} DtmOpState;

/* One branch: what to call (spec) and how far it is (state). */
typedef struct DtmBranch
{
	/* spec, immutable */
	DtmText branch_id;           /* "01", "02", ...; "01-01" of a topic with several subscribers */
	DtmText name;                /* given by the user, may be empty */
	DtmText payload;             /* bytes sent as body; data NULL = none */
	DtmText headers;             /* packed pairs, see dtm_spec.h; may be empty */
	DtmText url[DTM_ROLES];      /* target per role; empty = success at once */
	DtmText sql_name[DTM_ROLES]; /* sql: targets as resolved at submit */
	uint8_t op[DTM_ROLES];       /* DtmOp per role, DTM_OP_NONE = no such op */
	const uint16_t *after;       /* steps that must have succeeded before */
	uint16_t n_after;
	int32_t request_timeout_ms; /* 0 = the transaction's */
	int32_t retry_limit;        /* -1 = the transaction's */
	uint16_t subscriber;        /* of a topic: 1, 2, ... within the step; 0 = not of a topic */
	DtmText topic;              /* its name, or empty */
	uint8_t kind;               /* DtmStepKind */
	DtmTime due_at; /* of a sleep or an await; DTM_TIME_NEVER = none; of a memo: when it came */

	/* state */
	DtmOpState state[DTM_ROLES];
} DtmBranch;

/* One attempt, for the timeline. */
typedef struct DtmCallRecord
{
	uint16_t branch; /* index, or DTM_BRANCH_TRANS */
	uint8_t role;
	uint8_t outcome;
	DtmTime started_at;
	uint32_t took_us; /* capped at UINT32_MAX */
	DtmText reason;   /* why it did not succeed, at most DTM_MAX_LOG_REASON bytes */
} DtmCallRecord;

/* Flags of a spec; stored. */
#define DTM_FLAG_CONCURRENT 0x01 /* steps at once unless "after" says otherwise */
#define DTM_FLAG_CLIENT_RUN \
	0x02 /* the client runs the first phase (tcc, xa) or all of it (workflow), and registers branches */
#define DTM_FLAG_RETRY_NO_PAUSE 0x04 /* DTM's wire: retry_limit retries at once */
#define DTM_FLAG_WAIT_RESULT 0x08 /* DTM's wire: who submits or aborts waits for the first round */
#define DTM_FLAG_JSON_RPC 0x10    /* DTM's wire: protocol json-rpc; see dtm_rpc.h */

#define DTM_FLAG_DOUBLE_FIRST 0x20 /* DTM's wire: the first pause is two intervals long */

typedef struct DtmTrans
{
	/* spec, immutable */
	DtmTransType type;
	uint32_t flags;
	DtmTime created_at;
	DtmTime start_at;           /* created_at + start_after or delay */
	int64_t timeout_to_fail_ms; /* 0 = none */
	int32_t request_timeout_ms; /* 0 = the setting's */
	int32_t retry_interval_ms;  /* 0 = the setting's */
	int32_t retry_limit;        /* -1 = none */
	DtmText headers;            /* packed pairs sent with every call */
	DtmText query_url;          /* query_prepared or workflow target, may be empty */
	DtmText query_sql_name;
	DtmText query_name;  /* of a workflow that its client runs: the op of query_url; may be empty */
	DtmText payload;     /* of a workflow: what it is begun with; data NULL = none */
	DtmText search_path; /* of the submitting session; for sql: targets */
	uint16_t n_branches;
	DtmBranch *branches;

	/* state */
	DtmStatus status;
	DtmText reason;     /* rollback_reason, or empty */
	DtmOpState query;   /* of the pseudo branch */
	DtmTime hurried_at; /* when a RETRY came before start_at: the start from then on; 0 = never */
	uint32_t attempts;  /* all calls finished, over all ops */
	uint32_t retries;   /* of them: repeated ones */
	uint16_t n_log;     /* newest DTM_MAX_CALL_LOG attempts, oldest first */
	uint16_t log_size;  /* allocated */
	uint32_t log_dropped;
	DtmCallRecord *log;
} DtmTrans;

/* Do branches come after the submit?  Then the spec itself has none. */
static inline bool
dtm_trans_registers(const DtmTrans *trans)
{
	return trans->type == DTM_TYPE_WORKFLOW ||
		((trans->type == DTM_TYPE_TCC || trans->type == DTM_TYPE_XA) &&
		 (trans->flags & DTM_FLAG_CLIENT_RUN) != 0);
}

/* A workflow that its client runs: nothing is called but query_url, its branches are memos. */
static inline bool
dtm_trans_is_resumed(const DtmTrans *trans)
{
	return trans->type == DTM_TYPE_WORKFLOW && (trans->flags & DTM_FLAG_CLIENT_RUN) != 0;
}

static inline bool
dtm_branch_is_memo(const DtmBranch *branch)
{
	return branch->kind == DTM_STEP_MEMO || branch->kind == DTM_STEP_MEMO_FAILED;
}

/* The word for an op of a branch, and of the pseudo branch; that of a memo is the client's. */
extern DtmText dtm_branch_op_text(const DtmBranch *branch, uint8_t role);
extern DtmText dtm_query_op_text(const DtmTrans *trans);

/* State of an op, or of the pseudo branch. */
static inline DtmOpState *
dtm_trans_op(DtmTrans *trans, uint16_t branch, uint8_t role)
{
	return branch == DTM_BRANCH_TRANS ? &trans->query : &trans->branches[branch].state[role];
}

#endif /* DTM_TRANS_H */
