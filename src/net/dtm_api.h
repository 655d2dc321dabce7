/* -------------------------------------------------------------------------
 *
 * dtm_api.h
 *		DTM's HTTP API as pure functions: a request as plain structs, and
 *		plain structs as an answer.
 *
 * One request is read by dtm_api_read; what it wants is then in one member of
 * DtmApiCall.  After it was done, exactly one of the functions below
 * "answers" makes the status and the body.  They know about JSON-RPC: the
 * caller does not.
 *
 * Memory comes from the arena; nothing is kept between requests.  jansson's
 * own memory is bounded by the body (dtm_json_load) and freed before the
 * return.
 *
 * Not here: sockets (dtm_httpd.h), transactions, rights.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_API_H
#define DTM_API_H

#include "dtm_spec.h"

#define DTM_API_MAX_ANSWER (16 * 1024 * 1024)
#define DTM_API_MAX_LIMIT 1000 /* rows of one page; a larger limit counts as this */

typedef enum DtmApiRoute
{
	DTM_API_NOT_FOUND,
	DTM_API_WRONG_METHOD, /* answered as NOT_FOUND, as DTM does */
	DTM_API_VERSION,
	DTM_API_NEW_GID,
	DTM_API_PREPARE,
	DTM_API_SUBMIT,
	DTM_API_ABORT,
	DTM_API_REGISTER_BRANCH, /* also registerXaBranch and registerTccBranch */
	DTM_API_PREPARE_WORKFLOW,
	DTM_API_FORCE_STOP,
	DTM_API_RESET_NEXT_CRON_TIME,
	DTM_API_RESET_CRON_TIME,
	DTM_API_QUERY,
	DTM_API_ALL,
	DTM_API_SUBSCRIBE,
	DTM_API_UNSUBSCRIBE,
	DTM_API_DELETE_TOPIC,
	DTM_API_SCAN_KV,
	DTM_API_QUERY_KV,
	DTM_API_JSON_RPC, /* only of a request that could not be read; else the route of its method */
	DTM_API_METRICS,
	DTM_API_PING,
	DTM_API_ROUTES
} DtmApiRoute;

/* The body of prepare, submit, abort, prepareWorkflow, forceStop, resetNextCronTime. */
typedef struct DtmApiTrans
{
	DtmText gid;       /* 1 to 128 bytes, checked */
	DtmTransType type; /* 0: not given (abort), or not looked at (forceStop, resetNextCronTime) */
	DtmText protocol;  /* "http" when not given */
	DtmText custom_data;
	DtmText rollback_reason; /* of an abort */
	bool wait_result;

	/*
	 * Of prepare, submit and prepareWorkflow: everything asked for, up to
	 * dtm_spec_finish, which is left to the caller, with the names behind sql:
	 * and the subscribers of topics.  NULL for other routes, and when a
	 * workflow is submitted, which is its end.  flags are set already.
	 *
	 * query_prepared is in it too.  The core lets a msg begin as prepared
	 * when it has one: so a submit of a new msg with query_prepared is to be
	 * stored and submitted at once, and a prepare without it is
	 * for the caller to refuse or to keep back.
	 */
	DtmSpecBuilder *builder;
	uint32_t flags;

	/* of a workflow: custom_data of prepareWorkflow (in the builder, too), req_extra of submit */
	DtmText workflow_name;
	DtmText workflow_data; /* decoded; data NULL = none */
	DtmStatus end_status;  /* SUCCEED or FAILED */
	DtmText end_reason;
	DtmText end_result; /* as it came: base64 */
} DtmApiTrans;

/* The body of registerBranch. */
typedef struct DtmApiBranch
{
	DtmText gid;
	DtmTransType type; /* TCC, XA or WORKFLOW */
	DtmText branch_id; /* checked */
	DtmText op;        /* of a workflow */
	DtmText status;    /* of a workflow: "succeed" or "failed", checked */
	DtmText data;
	bool sync;

	/* of a tcc or xa: one branch up to dtm_spec_finish_branch; NULL of a workflow */
	DtmSpecBuilder *builder;
} DtmApiBranch;

/* Query strings of all, scanKV, queryKV. */
typedef struct DtmApiList
{
	DtmText gid;        /* not empty: only this one, other filters do not count */
	DtmText position;   /* as it came */
	int64_t before;     /* rows with a smaller id; INT64_MAX = from the newest on */
	int limit;          /* 1 to DTM_API_MAX_LIMIT */
	DtmText status;     /* "" = any; may be a word that no transaction has */
	DtmText trans_type; /* likewise */
	DtmTime from;       /* created then or later, whole seconds; 0 = no bound */
	DtmTime until;      /* created then or earlier, the end of a second; 0 = no bound */
	DtmText cat;        /* "" = any */
	DtmText key;        /* "" = any */
} DtmApiList;

typedef struct DtmApiTopic
{
	DtmText topic; /* not empty */
	DtmText url;   /* not empty, but for the deletion of a topic */
	DtmText remark;
} DtmApiTopic;

typedef struct DtmApiCall
{
	DtmApiRoute route;
	bool rpc;       /* it came as JSON-RPC */
	DtmText rpc_id; /* string to give back */

	/* one of these, by route */
	DtmApiTrans trans;
	DtmApiBranch branch;
	DtmApiList list;
	DtmApiTopic topic;
	DtmText gid;            /* of query; not empty */
	int64_t cron_timeout_s; /* of resetCronTime; -1 = three times timeout_to_fail */
	int cron_limit;
} DtmApiCall;

/* A whole answer; texts are in the arena or constant.  A NUL is behind the body. */
typedef struct DtmApiAnswer
{
	int status;
	const char *content_type;
	const char *body;
	size_t len;
} DtmApiAnswer;

/*
 * Which route a request takes.  A slash at the end, "http://host" in front,
 * and everything from "?" on do not count.
 */
extern DtmApiRoute dtm_api_route(const char *method, const char *uri);

/* Its name for a counter: "submit", "registerbranch", ...; "other" for what is no route. */
extern const char *dtm_api_route_name(DtmApiRoute route);

/*
 * Read a request; its headers do not matter.  False: it cannot be done, and
 * *answer says why; nothing else is to be answered then, call->route tells
 * what it was about.
 *
 * Texts that are not given are empty, their data may be NULL.  They have no
 * control characters but in data, custom_data and reasons.
 * Those of a body are UTF-8; those of a query string need not be, and
 * the caller verifies all in the database's encoding.
 */
extern bool dtm_api_read(const char *method, const char *uri, const char *body, size_t body_len,
						 DtmArena *arena, DtmApiCall *call, DtmApiAnswer *answer);

/* ------------------------------------------------------------- answers */

typedef enum DtmApiOutcome
{
	DTM_API_SUCCESS,      /* 200 {"dtm_result":"SUCCESS"} */
	DTM_API_FAILURE,      /* 409; the message is made to end in " FAILURE" */
	DTM_API_ONGOING,      /* 425 */
	DTM_API_ERROR,        /* 500, without dtm_result */
	DTM_API_BAD_REQUEST,  /* 400, likewise */
	DTM_API_UNAUTHORIZED, /* 401 */
	DTM_API_FORBIDDEN,    /* 403 */
	DTM_API_BUSY          /* 503 */
} DtmApiOutcome;

/*
 * The result of a route that gives nothing; the message may be "" for the
 * first.  For prepareWorkflow ERROR, UNAUTHORIZED and FORBIDDEN say to the client that the
 * workflow has failed: not begun, and no use in trying again.  For anything
 * that may be better later answer BUSY, which it takes for a lost connection.
 */
extern void dtm_api_result(const DtmApiCall *call, DtmApiOutcome outcome, DtmText message,
						   DtmArena *arena, DtmApiAnswer *answer);

/* What the builder has refused: 500. */
extern void dtm_api_spec_refused(const DtmApiCall *call, const DtmSpecError *error, DtmArena *arena,
								 DtmApiAnswer *answer);

/* Refusals with words that SDKs and tests look for. */
typedef enum DtmApiRefusal
{
	DTM_API_CANNOT_PREPARE,  /* 409; status */
	DTM_API_CANNOT_SUBMIT,   /* 409; status */
	DTM_API_CANNOT_ABORT,    /* 409; type and status */
	DTM_API_CANNOT_STOP,     /* 409; status */
	DTM_API_NOT_PREPARED,    /* 409; gid: a branch cannot be registered */
	DTM_API_NO_TRANS,        /* 500; gid */
	DTM_API_NO_ROW,          /* 500: lost to a concurrent change, or there is none */
	DTM_API_NOT_UNIQUE,      /* 500: the branch, or topic, is there already */
	DTM_API_TOPIC_NOT_FOUND, /* 500: a msg is to be sent to it */
	DTM_API_URL_EXISTS,      /* 500; of subscribe */
	DTM_API_NO_TOPIC,        /* 500; of unsubscribe */
	DTM_API_TOPIC_EMPTY,     /* 500; likewise */
	DTM_API_NO_URL           /* 500; likewise */
} DtmApiRefusal;

/* gid, type and status: what the refusal is about; those not named above do not matter. */
extern void
dtm_api_refuse(const DtmApiCall *call, DtmApiRefusal refusal, DtmText gid, DtmTransType type,
			   DtmStatus status, DtmArena *arena, DtmApiAnswer *answer);

/*
 * The result of a submit or abort that waited, after its first round:
 * wanted is SUCCEED for a submit and FAILED for an abort.  reason is the
 * rollback reason, or empty.  last and error are about the call that stopped
 * the round, error being the URL and the answer of the branch.
 */
extern void dtm_api_waited(const DtmApiCall *call, DtmTransType type, DtmStatus wanted,
						   DtmStatus status, DtmText reason, DtmOutcome last, DtmText error,
						   DtmArena *arena, DtmApiAnswer *answer);

/* {"dtm_result":"SUCCESS","gid":"..."}; over JSON-RPC without the former. */
extern void
dtm_api_show_gid(const DtmApiCall *call, DtmText gid, DtmArena *arena, DtmApiAnswer *answer);

extern void dtm_api_show_version(const char *version, DtmArena *arena, DtmApiAnswer *answer);
extern void dtm_api_show_ping(DtmApiAnswer *answer);

/* The result of resetCronTime. */
extern void
dtm_api_show_reset(bool has_remaining, int64_t count, DtmArena *arena, DtmApiAnswer *answer);

/* A transaction as query, all and prepareWorkflow show it.  Empty texts and times of 0 are left out. */
typedef struct DtmApiTransRow
{
	int64_t id; /* shown modulo 2^31: a client of DTM keeps it in 32 bits */
	DtmTime create_time;
	DtmTime update_time;
	DtmTime finish_time;
	DtmTime rollback_time;
	DtmTime next_cron_time;
	int32_t next_cron_interval; /* seconds */
	DtmText gid;
	DtmTransType type;
	DtmStatus status;
	DtmText query_prepared;
	DtmText protocol;
	DtmText custom_data;
	DtmText owner;
	DtmText result; /* of a workflow: base64 */
	DtmText rollback_reason;

	/* shown as the text of an object, "options" */
	bool wait_result;
	bool concurrent;
	int64_t timeout_to_fail_ms; /* shown in seconds, rounded up */
	int64_t request_timeout_ms;
	int64_t retry_interval_ms;
	int64_t retry_limit;
	DtmText headers; /* packed pairs, see dtm_headers_next */
} DtmApiTransRow;

/* One op of one branch. */
typedef struct DtmApiBranchRow
{
	int64_t id; /* as above */
	DtmTime create_time;
	DtmTime update_time;
	DtmTime finish_time;
	DtmText gid;
	DtmText url;
	DtmText branch_id;
	DtmText op;
	DtmText status;
	DtmText bin_data; /* bytes */
} DtmApiBranchRow;

/*
 * What a row shows of a transaction as the engine has it: type, status,
 * options, query_prepared, rollback reason.  The rest is zeroed, for the
 * caller to fill.
 */
extern void dtm_api_trans_row(const DtmTrans *trans, DtmApiTransRow *row);

/*
 * The rows of a branch in DTM's order (undo, confirm, forward), each with
 * what the engine knows of it: ids are first_id and following ones, times
 * other than finish_time are left at 0.  Their number, at most DTM_ROLES.
 */
extern int dtm_api_branch_rows(const DtmTrans *trans, uint16_t branch, int64_t first_id,
							   DtmApiBranchRow rows[DTM_ROLES]);

/*
 * The JSON texts in such a row: "options", and the custom_data that DTM would
 * have (order of a saga, delay of a msg, name and input of a workflow; empty
 * when there is none).  False: memory is short, or it is too much.
 */
extern bool
dtm_api_options(const DtmApiTransRow *row, DtmArena *arena, DtmText *value) DTM_MUST_CHECK;
extern bool
dtm_api_custom_data(const DtmTrans *trans, DtmArena *arena, DtmText *value) DTM_MUST_CHECK;

/* Standard base64 with padding, for the result of a workflow; false as above. */
extern bool dtm_api_base64(DtmText bytes, DtmArena *arena, DtmText *value) DTM_MUST_CHECK;

/* {"transaction":...,"branches":[...]}; row NULL: there is no such transaction. */
extern void dtm_api_show_query(const DtmApiTransRow *row, const DtmApiBranchRow *branches, int n,
							   DtmArena *arena, DtmApiAnswer *answer);

/* {"transaction":...,"progresses":[...]} */
extern void dtm_api_show_workflow(const DtmApiTransRow *row, const DtmApiBranchRow *progresses,
								  int n, DtmArena *arena, DtmApiAnswer *answer);

/*
 * A page of all, newest first, at most list->limit rows.  The next one begins
 * in front of the id next, 0 = there is none; with a gid in the list there is
 * at most one row, and next does not matter.
 */
extern void dtm_api_show_all(const DtmApiList *list, const DtmApiTransRow *rows, int n,
							 int64_t next, DtmArena *arena, DtmApiAnswer *answer);

typedef struct DtmApiKvRow
{
	int64_t id;
	DtmTime create_time;
	DtmTime update_time;
	DtmText cat;
	DtmText k;
	DtmText v;
	int64_t version;
} DtmApiKvRow;

/* One URL of a topic, and the value of its kv row: [{"url":"...","remark":"..."}]. */
typedef struct DtmApiSubscriber
{
	DtmText url;
	DtmText remark;
} DtmApiSubscriber;

/* False: memory is short, or it is too much. */
extern bool
dtm_api_topic_value(const DtmApiSubscriber *subscribers, int n, DtmArena *arena, DtmText *value);

/* A page of scanKV (by the rules of all), or everything that queryKV has found. */
extern void dtm_api_show_kv(const DtmApiCall *call, const DtmApiKvRow *rows, int n, DtmArena *arena,
							DtmApiAnswer *answer);

/* ------------------------------------------------------------- metrics */

/* A sample: name{labels} value.  labels as Prometheus writes them, without braces, or "". */
typedef struct DtmApiSample
{
	const char *name;   /* those of one name lie together */
	const char *help;   /* of the first of a name */
	const char *type;   /* likewise: "counter", "gauge", "histogram" */
	const char *suffix; /* "", or "_bucket", "_sum", "_count" of a histogram */
	const char *labels;
	double value;
} DtmApiSample;

extern void
dtm_api_show_metrics(const DtmApiSample *samples, int n, DtmArena *arena, DtmApiAnswer *answer);

#endif /* DTM_API_H */
