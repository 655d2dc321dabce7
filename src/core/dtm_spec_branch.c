/* -------------------------------------------------------------------------
 *
 * dtm_spec_branch.c
 *		The spec builder for what grows: a transaction that begins without
 *		branches, and one branch that is registered with it later.
 *
 * Not here: steps given with the submit (dtm_spec_build.c).  Runs in
 * backends.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_spec_builder.h"

#include <string.h>

#include "dtm_url.h"

#define SCHEME_LEN 4 /* "sql:" */

DtmSpecBuilder *
dtm_spec_begin_growing(DtmArena *arena, DtmTransType type, DtmSpecError *error)
{
	DtmSpecBuilder scratch;
	DtmSpecBuilder *builder;

	memset(&scratch, 0, sizeof(scratch));
	scratch.arena = arena;
	scratch.error.step = -1;
	scratch.trans.type = type;
	scratch.trans.flags = type == DTM_TYPE_WORKFLOW ? 0 : DTM_FLAG_CLIENT_RUN;
	scratch.trans.retry_limit = -1;
	scratch.trans.search_path.data = "";
	if (!dtm_trans_registers(&scratch.trans))
		dtm_spec_refuse(&scratch, DTM_SPEC_UNSUPPORTED, -1, "trans_type", NULL,
						"branches cannot be registered with transactions of this type");

	builder = dtm_spec_alloc(&scratch, sizeof(DtmSpecBuilder));
	if (builder != NULL)
		*builder = scratch;
	*error = scratch.error;
	return error->code == DTM_SPEC_OK ? builder : NULL;
}

bool
dtm_spec_branch_begin(DtmSpecBuilder *builder, DtmStepKind kind, const char *id, size_t len)
{
	const char *problem = dtm_branch_id_check(id, len);
	DtmBranch *branch;

	if (builder->error.code != DTM_SPEC_OK)
		return false;
	if (problem != NULL)
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, -1, "branch_id",
							   "A branch_id has 1 to 128 bytes and no control characters.", "%s",
							   problem);
	branch = dtm_spec_alloc(builder, sizeof(DtmBranch));
	builder->extra = dtm_spec_alloc(builder, sizeof(DtmStepExtra));
	if (branch == NULL || builder->extra == NULL)
		return false;
	memset(builder->extra, 0, sizeof(DtmStepExtra));
	dtm_branch_init(branch);
	branch->kind = (uint8_t) kind;
	builder->trans.branches = branch;
	builder->trans.n_branches = 1;
	builder->size = 1;
	return dtm_spec_copy(builder, id, len, &branch->branch_id);
}

bool
dtm_spec_branch_target(DtmSpecBuilder *builder, DtmRole role, const char *field, const char *url,
					   size_t len)
{
	DtmText value = {url, (uint32_t) (len < UINT32_MAX ? len : UINT32_MAX)};
	DtmTarget target;

	if (builder->error.code != DTM_SPEC_OK || len == 0)
		return builder->error.code == DTM_SPEC_OK;
	if (!dtm_spec_check_target(builder, -1, field, value, false))
		return false;
	if (builder->trans.type == DTM_TYPE_XA && dtm_target_parse(url, len, &target) == NULL &&
		target.scheme != DTM_SCHEME_HTTP && target.scheme != DTM_SCHEME_HTTPS)
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, -1, field,
							   "The service that holds the branch commits it or rolls it back, so "
							   "the target begins with \"http://\" or \"https://\".",
							   "\"%s\" of an xa branch must be a service", field);
	return dtm_spec_copy_target(builder, value, &builder->trans.branches[0].url[role]);
}

bool
dtm_spec_branch_name(DtmSpecBuilder *builder, const char *field, const char *name, size_t len)
{
	DtmText value = {name, (uint32_t) (len < UINT32_MAX ? len : UINT32_MAX)};

	return dtm_spec_check_name(builder, -1, field, value) &&
		dtm_spec_copy(builder, name, len, &builder->trans.branches[0].name);
}

void
dtm_spec_branch_due(DtmSpecBuilder *builder, DtmTime due_at)
{
	builder->trans.branches[0].due_at = due_at;
}

const DtmBranch *
dtm_spec_branch(const DtmSpecBuilder *builder)
{
	return &builder->trans.branches[0];
}

bool
dtm_spec_set_function(DtmSpecBuilder *builder, const char *name, size_t len)
{
	static const char hint[] =
		"Give the name of a function with one argument of type jsonb that returns void or jsonb.";
	DtmQuoted quoted = dtm_spec_quote(name, len);
	DtmTarget target;
	const char *problem;
	char *url;

	if (builder->error.code != DTM_SPEC_OK)
		return false;
	if (len == 0)
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, -1, "function", hint,
							   "\"function\" must not be empty");
	if (len > DTM_MAX_URL_LEN - SCHEME_LEN)
		return dtm_spec_refuse(builder, DTM_SPEC_LIMIT, -1, "function", hint,
							   "\"function\" is longer than %d bytes",
							   DTM_MAX_URL_LEN - SCHEME_LEN);

	/* a scheme is told from a name that is not quoted by its colon */
	if (name[0] != '"' && memchr(name, ':', len) != NULL)
		problem = dtm_target_parse(name, len, &target);
	else
	{
		url = dtm_spec_alloc(builder, SCHEME_LEN + len);
		if (url == NULL)
			return false;
		memcpy(url, "sql:", SCHEME_LEN);
		memcpy(url + SCHEME_LEN, name, len);
		name = url;
		len += SCHEME_LEN;
		problem = dtm_target_parse(name, len, &target);
	}
	if (problem == NULL && target.scheme != DTM_SCHEME_SQL)
		problem = "is not a function of this database";
	if (problem != NULL)
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, -1, "function", hint,
							   "\"function\" %s: \"%s\"", problem, quoted.text);
	return dtm_spec_copy(builder, name, len, &builder->trans.query_url);
}

bool
dtm_spec_set_data(DtmSpecBuilder *builder, const char *json, size_t len)
{
	if (builder->error.code != DTM_SPEC_OK)
		return false;
	if (len > DTM_MAX_PAYLOAD_LEN)
		return dtm_spec_refuse(builder, DTM_SPEC_LIMIT, -1, "data",
							   "Send large data by reference, e.g. by a key.",
							   "\"data\" is longer than %d bytes", DTM_MAX_PAYLOAD_LEN);
	return dtm_spec_copy(builder, json, len, &builder->trans.payload);
}

bool
dtm_spec_set_workflow(DtmSpecBuilder *builder, const char *name, size_t name_len, const char *data,
					  size_t len)
{
	DtmText value = {name, (uint32_t) (name_len < UINT32_MAX ? name_len : UINT32_MAX)};

	if (builder->error.code == DTM_SPEC_OK && name_len == 0)
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, -1, "name",
							   "Give the name under which the service has registered it.",
							   "\"name\" of the workflow must not be empty");
	if (!dtm_spec_check_name(builder, -1, "name", value) ||
		!dtm_spec_copy(builder, name, name_len, &builder->trans.query_name))
		return false;
	return len == 0 || dtm_spec_set_data(builder, data, len);
}

bool
dtm_spec_memo(DtmSpecBuilder *builder, DtmStepKind kind, DtmText id, DtmText op, DtmText data,
			  DtmTime at)
{
	if (builder->error.code == DTM_SPEC_OK && op.len == 0)
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, -1, "op", NULL,
							   "\"op\" must not be empty");
	if (builder->error.code == DTM_SPEC_OK && op.len > DTM_MAX_MEMO_OP_LEN)
		return dtm_spec_refuse(builder, DTM_SPEC_LIMIT, -1, "op", NULL,
							   "\"op\" is longer than %d bytes", DTM_MAX_MEMO_OP_LEN);
	if (!dtm_spec_branch_begin(builder, kind, id.data, id.len) ||
		!dtm_spec_branch_name(builder, "op", op.data, op.len) ||
		!dtm_spec_step_payload_bytes(builder, 0, data.data, data.len))
		return false;
	dtm_spec_branch_due(builder, at);
	return true;
}

bool
dtm_spec_finish_branch(DtmSpecBuilder *builder, const char **packed, size_t *packed_len)
{
	DtmBranch *branch = builder->trans.branches;
	DtmHeaderList *headers;
	DtmRc rc;

	/* then there may be no branch */
	if (builder->error.code != DTM_SPEC_OK)
		return false;
	headers = &builder->extra[0].headers;
	if (builder->trans.type == DTM_TYPE_WORKFLOW)
	{
		headers = &builder->headers;
		branch->request_timeout_ms = builder->trans.request_timeout_ms;
		branch->retry_limit = builder->trans.retry_limit;
	}
	if (!dtm_spec_pack_headers(builder, headers, &branch->headers))
		return false;
	rc = dtm_branch_pack(branch, builder->arena, packed, packed_len);
	if (rc == DTM_LIMIT)
		return dtm_spec_refuse(builder, DTM_SPEC_LIMIT, -1, "", NULL,
							   "the branch is larger than %d bytes", DTM_MAX_SPEC_LEN);
	if (rc != DTM_OK)
		return dtm_spec_refuse(builder, DTM_SPEC_NOMEM, -1, "", NULL, "out of memory");
	return true;
}
