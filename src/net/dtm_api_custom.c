/* -------------------------------------------------------------------------
 *
 * dtm_api_custom.c
 *		The two texts that DTM keeps of a transaction as JSON inside of its
 *		rows: options, and what its mode wants beside them (custom_data).
 *
 * They are made anew from the packed form, so that a transaction that was
 * submitted by SQL shows them too.  What comes out means the same as what
 * came in, but is not the same text.
 *
 * Not here: the rows themselves (dtm_api_show.c).  Runs in the coordinator,
 * and in backends for the views.
 *
 * -------------------------------------------------------------------------
 */
#include <stdio.h>
#include <string.h>

#include "dtm_api_internal.h"

static int64_t
seconds_up(int64_t ms)
{
	return ms / 1000 + (ms % 1000 > 0 ? 1 : 0);
}

/* A member whose name is anybody's. */
static void
member_of(DtmApiWriter *writer, DtmText name, DtmText value)
{
	dtm_api_string(writer, name);
	dtm_api_put(writer, ":", 1);
	writer->comma = false;
	dtm_api_string(writer, value);
}

void
dtm_api_put_options(DtmApiWriter *writer, const DtmApiTransRow *row)
{
	size_t offset = 0;
	DtmText name;
	DtmText value;

	dtm_api_open(writer, '{');
	if (row->wait_result)
		dtm_api_member_bool(writer, "wait_result", true);
	if (row->timeout_to_fail_ms > 0)
		dtm_api_member_number(writer, "timeout_to_fail", seconds_up(row->timeout_to_fail_ms));
	if (row->request_timeout_ms > 0)
		dtm_api_member_number(writer, "request_timeout", seconds_up(row->request_timeout_ms));
	if (row->retry_interval_ms > 0)
		dtm_api_member_number(writer, "retry_interval", seconds_up(row->retry_interval_ms));
	if (row->headers.len > 0)
	{
		dtm_api_key(writer, "branch_headers");
		dtm_api_open(writer, '{');
		while (dtm_headers_next(row->headers, &offset, &name, &value))
			member_of(writer, name, value);
		dtm_api_close(writer, '{');
	}
	dtm_api_member_bool(writer, "concurrent", row->concurrent);
	if (row->retry_limit > 0)
		dtm_api_member_number(writer, "retry_limit", row->retry_limit);
	dtm_api_close(writer, '{');
}

/* What was written, as a text; false when that failed. */
static bool
take(const DtmApiWriter *writer, DtmText *value)
{
	*value = dtm_api_text("");
	if (writer->no_memory || writer->too_long)
		return false;
	value->data = writer->data != NULL ? writer->data : "";
	value->len = (uint32_t) writer->len;
	return true;
}

bool
dtm_api_options(const DtmApiTransRow *row, DtmArena *arena, DtmText *value)
{
	DtmApiWriter writer;

	dtm_api_writer_init(&writer, arena);
	dtm_api_put_options(&writer, row);
	return take(&writer, value);
}

bool
dtm_api_base64(DtmText bytes, DtmArena *arena, DtmText *value)
{
	DtmApiWriter writer;

	dtm_api_writer_init(&writer, arena);
	dtm_api_put_base64(&writer, bytes);
	return take(&writer, value);
}

/* ---- custom_data ---- */

/* Does the order of the steps differ from one after the other? */
static bool
has_order(const DtmTrans *trans)
{
	bool ordered = (trans->flags & DTM_FLAG_CONCURRENT) != 0;

	for (int i = 0; i < trans->n_branches && !ordered; i++)
		ordered = trans->branches[i].n_after > 0;
	return ordered;
}

static void
put_order(DtmApiWriter *writer, const DtmTrans *trans)
{
	bool in_turn = (trans->flags & DTM_FLAG_CONCURRENT) == 0;
	bool any = false;

	dtm_api_open(writer, '{');
	dtm_api_member_bool(writer, "concurrent", true);
	for (int i = 0; i < trans->n_branches; i++)
	{
		const DtmBranch *branch = &trans->branches[i];
		char key[16];

		/* without the option a step that says nothing comes after the one in front of it */
		if (branch->n_after == 0 && (!in_turn || i == 0))
			continue;
		if (!any)
		{
			dtm_api_key(writer, "orders");
			dtm_api_open(writer, '{');
			any = true;
		}
		snprintf(key, sizeof(key), "%d", i);
		dtm_api_key(writer, key);
		dtm_api_open(writer, '[');
		for (int k = 0; k < branch->n_after; k++)
			dtm_api_number(writer, branch->after[k]);
		if (branch->n_after == 0)
			dtm_api_number(writer, i - 1);
		dtm_api_close(writer, '[');
	}
	if (any)
		dtm_api_close(writer, '{');
	dtm_api_close(writer, '{');
}

static void
put_workflow(DtmApiWriter *writer, const DtmTrans *trans)
{
	DtmText name = trans->query_name;

	/* one in SQL is its function */
	if (!dtm_trans_is_resumed(trans))
		name = trans->query_sql_name.len > 0 ? trans->query_sql_name : trans->query_url;
	dtm_api_open(writer, '{');
	if (trans->payload.len > 0)
		dtm_api_member_base64_given(writer, "data", trans->payload);
	else
	{
		dtm_api_key(writer, "data");
		dtm_api_raw(writer, "null");
	}
	dtm_api_member(writer, "name", name);
	dtm_api_close(writer, '{');
}

bool
dtm_api_custom_data(const DtmTrans *trans, DtmArena *arena, DtmText *value)
{
	DtmApiWriter writer;

	dtm_api_writer_init(&writer, arena);
	if (trans->type == DTM_TYPE_SAGA && has_order(trans))
		put_order(&writer, trans);
	else if (trans->type == DTM_TYPE_MSG && trans->start_at > trans->created_at)
	{
		dtm_api_open(&writer, '{');
		dtm_api_member_number(&writer, "delay",
							  seconds_up((trans->start_at - trans->created_at) / 1000));
		dtm_api_close(&writer, '{');
	}
	else if (trans->type == DTM_TYPE_WORKFLOW)
		put_workflow(&writer, trans);
	else
	{
		*value = dtm_api_text("");
		return true;
	}
	return take(&writer, value);
}
