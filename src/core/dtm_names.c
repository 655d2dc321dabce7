/* -------------------------------------------------------------------------
 *
 * dtm_names.c
 *		Text forms of the enums in dtm_types.h, and of ops where the client
 *		names them.
 *
 * The words of types, statuses and ops are those of the DTM protocol and are
 * seen by branch services and in the views.  Not here: what they mean.
 * Runs in every process.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_trans.h"

#include <string.h>

#define NAME_COUNT(names) (sizeof(names) / sizeof((names)[0]))

static const char *const type_names[] = {
	[DTM_TYPE_SAGA] = "saga", [DTM_TYPE_MSG] = "msg",           [DTM_TYPE_TCC] = "tcc",
	[DTM_TYPE_XA] = "xa",     [DTM_TYPE_WORKFLOW] = "workflow",
};

static const char *const status_names[] = {
	[DTM_STATUS_PREPARED] = "prepared", [DTM_STATUS_SUBMITTED] = "submitted",
	[DTM_STATUS_ABORTING] = "aborting", [DTM_STATUS_SUCCEED] = "succeed",
	[DTM_STATUS_FAILED] = "failed",
};

static const char *const op_names[] = {
	[DTM_OP_ACTION] = "action",     [DTM_OP_COMPENSATE] = "compensate",
	[DTM_OP_TRY] = "try",           [DTM_OP_CONFIRM] = "confirm",
	[DTM_OP_CANCEL] = "cancel",     [DTM_OP_COMMIT] = "commit",
	[DTM_OP_ROLLBACK] = "rollback", [DTM_OP_MSG] = "msg",
	[DTM_OP_WORKFLOW] = "workflow", [DTM_OP_SLEEP] = "sleep",
	[DTM_OP_AWAIT] = "await",       [DTM_OP_MEMO] = "memo",
};

static const char *const op_status_names[] = {
	[DTM_OP_PREPARED] = "prepared",
	[DTM_OP_SUCCEED] = "succeed",
	[DTM_OP_FAILED] = "failed",
};

static const char *const outcome_names[] = {
	[DTM_OUTCOME_SUCCESS] = "success",
	[DTM_OUTCOME_FAILURE] = "failure",
	[DTM_OUTCOME_ONGOING] = "ongoing",
	[DTM_OUTCOME_ERROR] = "error",
};

static const char *
name_at(const char *const *names, size_t count, unsigned int index)
{
	return index < count ? names[index] : NULL;
}

/* Index of a name, or 0, which names nothing in the two tables searched. */
static unsigned int
index_of(const char *const *names, size_t count, const char *name, size_t len)
{
	for (unsigned int i = 1; i < count; i++)
	{
		if (strlen(names[i]) == len && memcmp(names[i], name, len) == 0)
			return i;
	}
	return 0;
}

const char *
dtm_type_name(DtmTransType type)
{
	return name_at(type_names, NAME_COUNT(type_names), type);
}

const char *
dtm_status_name(DtmStatus status)
{
	return name_at(status_names, NAME_COUNT(status_names), status);
}

const char *
dtm_op_name(DtmOp op)
{
	return name_at(op_names, NAME_COUNT(op_names), op);
}

const char *
dtm_op_status_name(DtmOpStatus status)
{
	return name_at(op_status_names, NAME_COUNT(op_status_names), status);
}

const char *
dtm_outcome_name(DtmOutcome outcome)
{
	return name_at(outcome_names, NAME_COUNT(outcome_names), outcome);
}

DtmOp
dtm_op_from_name(const char *name, size_t len)
{
	return (DtmOp) index_of(op_names, NAME_COUNT(op_names), name, len);
}

DtmTransType
dtm_type_from_name(const char *name, size_t len)
{
	return (DtmTransType) index_of(type_names, NAME_COUNT(type_names), name, len);
}

static DtmText
text_of_op(DtmOp op)
{
	const char *name = dtm_op_name(op);
	DtmText result = {name != NULL ? name : "", 0};

	result.len = (uint32_t) strlen(result.data);
	return result;
}

DtmText
dtm_branch_op_text(const DtmBranch *branch, uint8_t role)
{
	return dtm_branch_is_memo(branch) ? branch->name : text_of_op((DtmOp) branch->op[role]);
}

DtmText
dtm_query_op_text(const DtmTrans *trans)
{
	if (dtm_trans_is_resumed(trans) && trans->query_name.len > 0)
		return trans->query_name;
	return text_of_op(trans->type == DTM_TYPE_MSG ? DTM_OP_MSG : DTM_OP_WORKFLOW);
}
