/* -------------------------------------------------------------------------
 *
 * dtm_modes.c
 *		The rules of all modes, as one table.
 *
 * Source: the state machines of the DTM protocol.  Where this differs:
 *
 * - compensations never overtake an action in flight (DTM lets the barrier
 *   sort that out), so the engine waits for its result;
 * - DTM has no tcc whose Try calls the coordinator runs; its time-out counts
 *   from start_at, because nobody can hurry it before that;
 * - the branches of a workflow whose function runs in the database are called
 *   here, in both phases; while it runs it can be aborted;
 * - a workflow that its client runs is resumed with back-off, not for ever at
 *   the same pace.
 *
 * Not here: how a rule is carried out (dtm_engine.c).  Runs in every process.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_modes.h"

#define BIT(role) (1 << (role))

typedef enum ModeIndex
{
	MODE_UNKNOWN = 0,
	MODE_SAGA,
	MODE_MSG,
	MODE_TCC,        /* the coordinator runs Try */
	MODE_TCC_CLIENT, /* the client runs Try */
	MODE_XA,
	MODE_WORKFLOW,       /* its function runs here */
	MODE_WORKFLOW_CLIENT /* the client runs it */
} ModeIndex;

static const DtmMode modes[] = {
	[MODE_SAGA] =
		{
			.roles = BIT(DTM_ROLE_FORWARD) | BIT(DTM_ROLE_UNDO),
			.rules =
				{
					[DTM_STATUS_PREPARED] =
						{
							.walk = DTM_WALK_NONE,
							.on_submit = DTM_STATUS_SUBMITTED,
						},
					[DTM_STATUS_SUBMITTED] =
						{
							.walk = DTM_WALK_AFTER,
							.role = DTM_ROLE_FORWARD,
							.gate = DTM_GATE_START,
							.since = DTM_SINCE_START,
							.on_done = DTM_STATUS_SUCCEED,
							.on_failure = DTM_STATUS_ABORTING,
							.on_limit = DTM_STATUS_ABORTING,
							.on_timeout = DTM_STATUS_ABORTING,
							.on_submit = DTM_STATUS_SUBMITTED,
							.revocable = true,
						},
					[DTM_STATUS_ABORTING] =
						{
							.walk = DTM_WALK_AFTER_REVERSED,
							.role = DTM_ROLE_UNDO,
							.scope = DTM_SCOPE_CALLED,
							.on_done = DTM_STATUS_FAILED,
						},
				},
		},
	[MODE_MSG] =
		{
			.roles = BIT(DTM_ROLE_FORWARD),
			.query_op = DTM_OP_MSG,
			.rules =
				{
					[DTM_STATUS_PREPARED] =
						{
							.walk = DTM_WALK_QUERY,
							.gate = DTM_GATE_DEADLINE,
							.since = DTM_SINCE_CREATED,
							.on_done = DTM_STATUS_SUBMITTED,
							.on_failure = DTM_STATUS_FAILED,
							.on_submit = DTM_STATUS_SUBMITTED,
							.on_abort = DTM_STATUS_FAILED,
						},
					[DTM_STATUS_SUBMITTED] =
						{
							.walk = DTM_WALK_AFTER,
							.role = DTM_ROLE_FORWARD,
							.gate = DTM_GATE_START,
							.on_done = DTM_STATUS_SUCCEED,
							.on_submit = DTM_STATUS_SUBMITTED,
						},
				},
		},
	[MODE_TCC] =
		{
			.roles = BIT(DTM_ROLE_FORWARD) | BIT(DTM_ROLE_CONFIRM) | BIT(DTM_ROLE_UNDO),
			.rules =
				{
					/* a submit would confirm what was not tried, so it is refused */
					[DTM_STATUS_PREPARED] =
						{
							.walk = DTM_WALK_AFTER,
							.role = DTM_ROLE_FORWARD,
							.gate = DTM_GATE_START,
							.since = DTM_SINCE_START,
							.on_done = DTM_STATUS_SUBMITTED,
							.on_failure = DTM_STATUS_ABORTING,
							.on_limit = DTM_STATUS_ABORTING,
							.on_timeout = DTM_STATUS_ABORTING,
							.on_abort = DTM_STATUS_ABORTING,
							.revocable = true,
						},
					[DTM_STATUS_SUBMITTED] =
						{
							.walk = DTM_WALK_SERIAL_REVERSED,
							.role = DTM_ROLE_CONFIRM,
							.on_done = DTM_STATUS_SUCCEED,
							.on_submit = DTM_STATUS_SUBMITTED,
						},
					[DTM_STATUS_ABORTING] =
						{
							.walk = DTM_WALK_SERIAL_REVERSED,
							.role = DTM_ROLE_UNDO,
							.scope = DTM_SCOPE_CALLED,
							.on_done = DTM_STATUS_FAILED,
							.on_abort = DTM_STATUS_ABORTING,
						},
				},
		},
	[MODE_TCC_CLIENT] =
		{
			.roles = BIT(DTM_ROLE_CONFIRM) | BIT(DTM_ROLE_UNDO),
			.rules =
				{
					[DTM_STATUS_PREPARED] =
						{
							.walk = DTM_WALK_NONE,
							.since = DTM_SINCE_CREATED,
							.on_timeout = DTM_STATUS_ABORTING,
							.on_submit = DTM_STATUS_SUBMITTED,
							.on_abort = DTM_STATUS_ABORTING,
						},
					[DTM_STATUS_SUBMITTED] =
						{
							.walk = DTM_WALK_SERIAL_REVERSED,
							.role = DTM_ROLE_CONFIRM,
							.on_done = DTM_STATUS_SUCCEED,
							.on_submit = DTM_STATUS_SUBMITTED,
						},
					[DTM_STATUS_ABORTING] =
						{
							.walk = DTM_WALK_SERIAL_REVERSED,
							.role = DTM_ROLE_UNDO,
							.on_done = DTM_STATUS_FAILED,
							.on_abort = DTM_STATUS_ABORTING,
						},
				},
		},
	[MODE_XA] =
		{
			.roles = BIT(DTM_ROLE_CONFIRM) | BIT(DTM_ROLE_UNDO),
			.rules =
				{
					[DTM_STATUS_PREPARED] =
						{
							.walk = DTM_WALK_NONE,
							.since = DTM_SINCE_CREATED,
							.on_timeout = DTM_STATUS_ABORTING,
							.on_submit = DTM_STATUS_SUBMITTED,
							.on_abort = DTM_STATUS_ABORTING,
						},
					[DTM_STATUS_SUBMITTED] =
						{
							.walk = DTM_WALK_SERIAL,
							.role = DTM_ROLE_CONFIRM,
							.on_done = DTM_STATUS_SUCCEED,
							.on_submit = DTM_STATUS_SUBMITTED,
						},
					[DTM_STATUS_ABORTING] =
						{
							.walk = DTM_WALK_SERIAL,
							.role = DTM_ROLE_UNDO,
							.on_done = DTM_STATUS_FAILED,
							.on_abort = DTM_STATUS_ABORTING,
						},
				},
		},
	[MODE_WORKFLOW] =
		{
			.roles = BIT(DTM_ROLE_FORWARD) | BIT(DTM_ROLE_CONFIRM) | BIT(DTM_ROLE_UNDO),
			.query_op = DTM_OP_WORKFLOW,
			.rules =
				{
					/*
					 * A submit would confirm what the function has not come to
					 * yet, so it is refused.  Branches are registered durably
					 * before they are called, so none is forgotten.
					 */
					[DTM_STATUS_PREPARED] =
						{
							.walk = DTM_WALK_REPLAY,
							.role = DTM_ROLE_FORWARD,
							.gate = DTM_GATE_START,
							.since = DTM_SINCE_START,
							.on_done = DTM_STATUS_SUBMITTED,
							.on_failure = DTM_STATUS_ABORTING,
							.on_limit = DTM_STATUS_ABORTING,
							.on_timeout = DTM_STATUS_ABORTING,
							.on_abort = DTM_STATUS_ABORTING,
						},
					[DTM_STATUS_SUBMITTED] =
						{
							.walk = DTM_WALK_SERIAL_REVERSED,
							.role = DTM_ROLE_CONFIRM,
							.scope = DTM_SCOPE_SUCCEEDED,
							.on_done = DTM_STATUS_SUCCEED,
							.on_submit = DTM_STATUS_SUBMITTED,
						},
					[DTM_STATUS_ABORTING] =
						{
							.walk = DTM_WALK_SERIAL_REVERSED,
							.role = DTM_ROLE_UNDO,
							.scope = DTM_SCOPE_NOT_FAILED,
							.on_done = DTM_STATUS_FAILED,
							.on_abort = DTM_STATUS_ABORTING,
						},
				},
		},
	[MODE_WORKFLOW_CLIENT] =
		{
			.roles = BIT(DTM_ROLE_FORWARD),
			.query_op = DTM_OP_WORKFLOW,
			.rules =
				{
					/*
					 * It has no second phase here: the client has called what
					 * there was to call when it says how all ended.  Nobody
					 * else knows what a failure would have to undo, so it is
					 * neither submitted nor aborted, and has no time-out.
					 */
					[DTM_STATUS_PREPARED] =
						{
							.walk = DTM_WALK_RESUME,
							.gate = DTM_GATE_INTERVAL,
							.on_succeed = DTM_STATUS_SUCCEED,
							.on_fail = DTM_STATUS_FAILED,
						},
				},
		},
};

const DtmMode *
dtm_mode_of(const DtmTrans *trans)
{
	switch (trans->type)
	{
		case DTM_TYPE_SAGA:
			return &modes[MODE_SAGA];
		case DTM_TYPE_MSG:
			return &modes[MODE_MSG];
		case DTM_TYPE_TCC:
			return &modes[trans->flags & DTM_FLAG_CLIENT_RUN ? MODE_TCC_CLIENT : MODE_TCC];
		case DTM_TYPE_XA:
			return &modes[MODE_XA];
		case DTM_TYPE_WORKFLOW:
			return &modes[dtm_trans_is_resumed(trans) ? MODE_WORKFLOW_CLIENT : MODE_WORKFLOW];
	}
	return &modes[MODE_UNKNOWN];
}
