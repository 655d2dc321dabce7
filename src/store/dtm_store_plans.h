/* -------------------------------------------------------------------------
 *
 * dtm_store_plans.h
 *		The table of saved plans, private to src/store.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_STORE_PLANS_H
#define DTM_STORE_PLANS_H

#include "postgres.h"

#include "executor/spi.h"

typedef enum DtmPlanId
{
	PLAN_INSERT_TRANS,
	PLAN_INSERT_TRANS_GIVEN,
	PLAN_INSERT_LIVE,
	PLAN_INSERT_FOLLOWER,
	PLAN_FOLLOWERS,
	PLAN_RELEASE,
	PLAN_MOVE_FOLLOWERS,
	PLAN_FIND,
	PLAN_FIND_BODY,
	PLAN_LOCK,
	PLAN_MARK_RETRY,
	PLAN_REGISTER,
	PLAN_ANSWERS,
	PLAN_ANSWER,
	PLAN_ANSWER_MANY,
	PLAN_SIGNAL_ADD,
	PLAN_SIGNAL_TAKE,
	PLAN_RESULT,
	PLAN_TOUCH,
	PLAN_RESPEC,
	PLAN_LATER,
	PLAN_OUTCOME,
	PLAN_STEER,
	PLAN_STOP,
	PLAN_PURGE_OWNED,
	PLAN_CLAIMED,
	PLAN_CLAIM,
	PLAN_PAUSE_REASON,
	PLAN_PAUSE,
	PLAN_RESUME_FORGET,
	PLAN_RESUME_OWN,
	PLAN_LOAD,
	PLAN_PROGRESS,
	PLAN_TIMER,
	PLAN_TIMER_ONE,
	PLAN_FINISH,
	PLAN_CLAIM_TIMERS,
	PLAN_NEXT_TIMER,
	PLAN_SWEEP,
	PLAN_PARK,
	PLAN_PURGE,
	PLAN_LIST_ALL,
	PLAN_LIST_UNFINISHED,
	PLAN_LIST_FINISHED,
	PLAN_LIST_ROWS,
	PLAN_LIST_ONE,
	PLAN_TOPIC_ADD,
	PLAN_TOPIC_REMOVE,
	PLAN_TOPIC_URLS,
	PLAN_TOPIC_LOCK,
	PLAN_TOPIC_TOUCH,
	PLAN_TOPIC_CREATE,
	PLAN_TOPIC_DROP,
	PLAN_TOPIC_LIST,
	PLAN_HTTP_TOKEN,
	PLAN_HTTP_TOKEN_ADD,
	PLAN_HTTP_TOKEN_ROLE,
	PLAN_HTTP_TOKEN_DROP,
	PLAN_HTTP_TOKEN_TIDY,
	PLAN_HTTP_FUNCTION,
	PLAN_BARRIER_FORWARD,
	PLAN_BARRIER_BACKWARD,
	PLAN_BARRIER_REASON,
	PLAN_XA_KNOWN,
	PLAN_XA_NOTE,
	PLAN_XA_SERVERS,
	PLAN_XA_FORGET,
	PLAN_XA_PROBLEM,
	PLAN_STOCK_SET,
	PLAN_STOCK_ADD,
	PLAN_STOCK_DROP,
	PLAN_RESERVE,
	PLAN_RESERVE_CONFIRM,
	PLAN_RESERVE_RELEASE,
	PLAN_RESERVE_SWEEP,
	PLAN_COUNT
} DtmPlanId;

/*
 * Execute a statement of the table; prepared and kept on first use.  values
 * and nulls as SPI_execute_plan takes them.  latest: see what is committed
 * now instead of with the transaction's snapshot.  Result in SPI_tuptable.
 */
extern uint64
dtm_plan_execute(DtmPlanId id, Datum *values, const char *nulls, bool read_only, bool latest);

/* One column of one result row; isnull may be NULL when it cannot be NULL. */
extern Datum dtm_plan_value(uint64 row, int column, bool *isnull);

/* A varlena column, or a text one as a string, copied out of SPI's memory; NULL for NULL. */
extern struct varlena *dtm_plan_varlena(uint64 row, int column, MemoryContext context);
extern char *dtm_plan_string(uint64 row, int column, MemoryContext context);

/* Ids of transactions as an argument of a statement. */
extern Datum dtm_plan_ids(const int64 *ids, int n);

#endif /* DTM_STORE_PLANS_H */
