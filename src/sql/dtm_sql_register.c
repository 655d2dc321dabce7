/* -------------------------------------------------------------------------
 *
 * dtm_sql_register.c
 *		Transactions whose first phase the client runs: dtm_tcc_begin,
 *		dtm_tcc_register, dtm_xa_begin, dtm_xa_register.
 *
 * A begin is a submit like any other: two rows of the caller's transaction.
 * A registration comes right before a call that the client makes by itself,
 * and which no rollback takes back.  So it is written by an executor in a
 * transaction of its own, and durable when the function returns; unless the
 * transaction it belongs to is not committed yet, when it can only share the
 * fate of the begin.
 *
 * Not here: dtm_submit and dtm_abort, which end them (dtm_sql_steer.c).
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "dtm_autonomous.h"
#include "dtm_register.h"
#include "dtm_sql.h"

PG_FUNCTION_INFO_V1(dtm_sql_tcc_begin);
PG_FUNCTION_INFO_V1(dtm_sql_tcc_register);
PG_FUNCTION_INFO_V1(dtm_sql_xa_begin);
PG_FUNCTION_INFO_V1(dtm_sql_xa_register);

/* Every submit has the same options; of these nobody shall expect anything. */
static void
warn_of_option(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (!PG_ARGISNULL(n))
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("\"%s\" has no effect on a transaction that its client runs", name),
				 errdetail("It ends with dtm_submit, dtm_abort or timeout_to_fail; what follows is "
						   "repeated until it succeeds.")));
}

/* The arguments (gid, OPTIONS). */
static Datum
begin(FunctionCallInfo fcinfo, const char *what, DtmTransType type)
{
	DtmArena arena = dtm_arena(CurrentMemoryContext);
	DtmSpecError error;
	DtmSpecBuilder *builder;

	PreventCommandIfReadOnly(what);
	builder = dtm_spec_begin_growing(&arena, type, &error);
	if (builder == NULL)
		dtm_sql_spec_error(&error);
	dtm_sql_take_options(fcinfo, 1, builder);
	warn_of_option(fcinfo, 1 + DTM_OPTION_RETRY_LIMIT, "retry_limit");
	warn_of_option(fcinfo, 1 + DTM_OPTION_START_AFTER, "start_after");

	/* sql: targets may come with the branches */
	dtm_sql_check(builder,
				  dtm_spec_set_search_path(builder, namespace_search_path,
										   strlen(namespace_search_path)));
	PG_RETURN_TEXT_P(
		dtm_sql_store(builder, PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0))));
}

/*
 * dtm_tcc_begin(gid, OPTIONS) - returns the gid of a tcc whose Try calls the
 * caller makes itself; without dtm_submit or dtm_abort it is aborted after
 * timeout_to_fail.  22023 gid or option; 23505 gid taken by other content.
 */
Datum
dtm_sql_tcc_begin(PG_FUNCTION_ARGS)
{
	return begin(fcinfo, "dtm_tcc_begin()", DTM_TYPE_TCC);
}

/*
 * dtm_xa_begin(gid, OPTIONS) - likewise for an xa whose branches are prepared
 * by services.
 */
Datum
dtm_sql_xa_begin(PG_FUNCTION_ARGS)
{
	return begin(fcinfo, "dtm_xa_begin()", DTM_TYPE_XA);
}

static void
find(const char *gid, DtmTransType type, const char *begin_name, DtmFound *found)
{
	DtmTrans trans;

	dtm_sql_find_own(gid, true, found);
	dtm_sql_unpack(found->spec, NULL, found->created_at, &trans);
	if (found->type == type && dtm_trans_registers(&trans))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("no branch can be registered with %s transaction \"%s\"",
					dtm_type_name(found->type), gid),
			 errhint("Begin it with %s().", begin_name)));
}

static void
take_target(FunctionCallInfo fcinfo, int n, const char *field, DtmSpecBuilder *builder,
			DtmRole role)
{
	text *url = dtm_sql_required(fcinfo, n, field);
	char *function;

	dtm_sql_check(builder,
				  dtm_spec_branch_target(builder, role, field, VARDATA_ANY(url),
										 VARSIZE_ANY_EXHDR(url)));
	function = dtm_sql_check_url("", field, dtm_spec_step_url(builder, 0, role));
	if (function != NULL)
		dtm_sql_check(builder,
					  dtm_spec_step_sql_name(builder, 0, role, function, strlen(function)));
}

/* Written by an executor unless only this transaction can write it. */
static void
store(const char *gid, const DtmFound *found, const char *packed, size_t packed_len)
{
	Size gid_size = strlen(gid) + 1;
	Size size = gid_size + sizeof(int64) + packed_len;
	char *data;

	if (found->uncommitted || found->steered || !dtm_autonomous_possible())
	{
		dtm_register_branch(gid, found->id, packed, packed_len);
		if (!found->uncommitted && IsTransactionBlock())
			ereport(WARNING,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the branch is registered with this transaction only, because %s",
							found->steered ? "it has changed the same before"
										   : "dtm_pg does not run here"),
					 errhint("Commit before the branch is called: a rollback would forget it.")));
		return;
	}
	data = palloc(size);
	memcpy(data, gid, gid_size);
	memcpy(data + gid_size, &found->id, sizeof(int64));
	memcpy(data + gid_size + sizeof(int64), packed, packed_len);
	dtm_autonomous_run(DTM_AUTONOMOUS_REGISTER, data, size);
}

static DtmSpecBuilder *
begin_branch(FunctionCallInfo fcinfo, const char *what, DtmTransType type, DtmArena *arena)
{
	text *branch_id = dtm_sql_required(fcinfo, 1, "branch_id");
	DtmSpecError error;
	DtmSpecBuilder *builder = dtm_spec_begin_growing(arena, type, &error);

	PreventCommandIfReadOnly(what);
	if (builder == NULL)
		dtm_sql_spec_error(&error);
	dtm_sql_check(builder,
				  dtm_spec_branch_begin(builder, DTM_STEP_CALL, VARDATA_ANY(branch_id),
										VARSIZE_ANY_EXHDR(branch_id)));
	return builder;
}

/*
 * dtm_tcc_register(gid, branch_id, confirm, cancel, payload) - call it before
 * the Try of the branch: durable when it returns, if the begin is.  Returns
 * the gid.  The same again has no effect; 23505 branch_id taken by another
 * branch; 55000 not prepared any more, also for the same again (do not call
 * the Try), or not begun by dtm_tcc_begin; 54000 too many or too large branches; 55P03 an
 * open transaction has locked it; 22004, 22023,
 * 42883, 42501 about the arguments; 42704, 42501 about the gid.
 */
Datum
dtm_sql_tcc_register(PG_FUNCTION_ARGS)
{
	DtmArena arena = dtm_arena(CurrentMemoryContext);
	char *gid = dtm_sql_required_string(fcinfo, 0, "gid");
	DtmSpecBuilder *builder = begin_branch(fcinfo, "dtm_tcc_register()", DTM_TYPE_TCC, &arena);
	const char *packed;
	size_t packed_len;
	DtmFound found;

	take_target(fcinfo, 2, "confirm", builder, DTM_ROLE_CONFIRM);
	take_target(fcinfo, 3, "cancel", builder, DTM_ROLE_UNDO);
	if (!PG_ARGISNULL(4))
	{
		Jsonb *payload = PG_GETARG_JSONB_P(4);
		char *json = JsonbToCString(NULL, &payload->root, VARSIZE(payload));

		dtm_sql_check(builder, dtm_spec_step_payload_bytes(builder, 0, json, strlen(json)));
	}
	dtm_sql_check(builder, dtm_spec_finish_branch(builder, &packed, &packed_len));
	find(gid, DTM_TYPE_TCC, "dtm_tcc_begin", &found);
	store(gid, &found, packed, packed_len);
	PG_RETURN_TEXT_P(cstring_to_text(gid));
}

/*
 * dtm_xa_register(gid, branch_id, url) - call it before the branch prepares:
 * url is called with op commit or rollback.  Else as dtm_tcc_register.
 */
Datum
dtm_sql_xa_register(PG_FUNCTION_ARGS)
{
	DtmArena arena = dtm_arena(CurrentMemoryContext);
	char *gid = dtm_sql_required_string(fcinfo, 0, "gid");
	DtmSpecBuilder *builder = begin_branch(fcinfo, "dtm_xa_register()", DTM_TYPE_XA, &arena);
	const char *packed;
	size_t packed_len;
	DtmFound found;

	if (VARSIZE_ANY_EXHDR(dtm_sql_required(fcinfo, 2, "url")) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("\"url\" must not be empty"),
				 errhint("Give the URL of the service that commits the branch or rolls it back.")));
	take_target(fcinfo, 2, "url", builder, DTM_ROLE_CONFIRM);
	take_target(fcinfo, 2, "url", builder, DTM_ROLE_UNDO);
	dtm_sql_check(builder, dtm_spec_finish_branch(builder, &packed, &packed_len));
	find(gid, DTM_TYPE_XA, "dtm_xa_begin", &found);
	store(gid, &found, packed, packed_len);
	PG_RETURN_TEXT_P(cstring_to_text(gid));
}
