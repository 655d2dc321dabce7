/* -------------------------------------------------------------------------
 *
 * dtm_api_show.c
 *		Answers of DTM's HTTP API that are data: transactions, branches,
 *		topics, and what is asked for by name.
 *
 * The rules come from clients with strict models: an empty text or a time
 * that is not set is left out rather than null, create_time and update_time
 * are always there, ids fit 31 bits, and bytes are base64.
 *
 * Not here: results (dtm_api_answer.c), JSON inside of rows
 * (dtm_api_custom.c).  Runs in the coordinator.
 *
 * -------------------------------------------------------------------------
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "dtm_api_internal.h"

/* A client that keeps it in an int must not fail; nobody looks rows up by it. */
static int64_t
short_id(int64_t id)
{
	return id & INT32_MAX;
}

void
dtm_api_show_gid(const DtmApiCall *call, DtmText gid, DtmArena *arena, DtmApiAnswer *answer)
{
	DtmApiWriter writer;

	dtm_api_writer_init(&writer, arena);
	dtm_api_open(&writer, '{');
	if (call->rpc)
	{
		dtm_api_key(&writer, "error");
		dtm_api_raw(&writer, "null");
		dtm_api_member(&writer, "id", call->rpc_id);
		dtm_api_member(&writer, "jsonrpc", dtm_api_text("2.0"));
		dtm_api_key(&writer, "result");
		dtm_api_open(&writer, '{');
		dtm_api_member(&writer, "gid", gid);
		dtm_api_close(&writer, '{');
	}
	else
	{
		dtm_api_member(&writer, "dtm_result", dtm_api_text("SUCCESS"));
		dtm_api_member(&writer, "gid", gid);
	}
	dtm_api_close(&writer, '{');
	dtm_api_finish(&writer, 200, answer);
}

void
dtm_api_show_version(const char *version, DtmArena *arena, DtmApiAnswer *answer)
{
	DtmApiWriter writer;

	dtm_api_writer_init(&writer, arena);
	dtm_api_open(&writer, '{');
	dtm_api_member(&writer, "version", dtm_api_text(version));
	dtm_api_close(&writer, '{');
	dtm_api_finish(&writer, 200, answer);
}

void
dtm_api_show_ping(DtmApiAnswer *answer)
{
	answer->status = 200;
	answer->content_type = DTM_API_JSON;
	answer->body = "{\"msg\":\"pong\"}";
	answer->len = strlen(answer->body);
}

void
dtm_api_show_reset(bool has_remaining, int64_t count, DtmArena *arena, DtmApiAnswer *answer)
{
	DtmApiWriter writer;

	dtm_api_writer_init(&writer, arena);
	dtm_api_open(&writer, '{');
	dtm_api_member_bool(&writer, "has_remaining", has_remaining);
	dtm_api_member_number(&writer, "succeed_count", count);
	dtm_api_close(&writer, '{');
	dtm_api_finish(&writer, 200, answer);
}

/* ---- transactions ---- */

void
dtm_api_trans_row(const DtmTrans *trans, DtmApiTransRow *row)
{
	memset(row, 0, sizeof(*row));
	row->type = trans->type;
	row->status = trans->status;
	row->query_prepared = trans->query_url;
	row->protocol = dtm_api_text(trans->flags & DTM_FLAG_JSON_RPC ? "json-rpc" : "http");
	row->rollback_reason = trans->reason;
	row->wait_result = (trans->flags & DTM_FLAG_WAIT_RESULT) != 0;
	row->concurrent = (trans->flags & DTM_FLAG_CONCURRENT) != 0;
	row->timeout_to_fail_ms = trans->timeout_to_fail_ms;
	row->request_timeout_ms = trans->request_timeout_ms;
	row->retry_interval_ms = trans->retry_interval_ms;
	row->retry_limit = trans->retry_limit > 0 ? trans->retry_limit : 0;
	row->headers = trans->headers;
}

int
dtm_api_branch_rows(const DtmTrans *trans, uint16_t branch, int64_t first_id,
					DtmApiBranchRow rows[DTM_ROLES])
{
	static const uint8_t order[DTM_ROLES] = {DTM_ROLE_UNDO, DTM_ROLE_CONFIRM, DTM_ROLE_FORWARD};
	const DtmBranch *from = &trans->branches[branch];
	int n = 0;

	for (int i = 0; i < DTM_ROLES; i++)
	{
		uint8_t role = order[i];
		const char *status = dtm_op_status_name((DtmOpStatus) from->state[role].status);
		DtmApiBranchRow *row = &rows[n];

		if (from->op[role] == DTM_OP_NONE || dtm_op_name((DtmOp) from->op[role]) == NULL)
			continue;
		memset(row, 0, sizeof(*row));
		row->id = first_id + n++;
		row->finish_time = from->state[role].finished_at;
		row->url = from->url[role];
		row->branch_id = from->branch_id;
		row->op = dtm_branch_op_text(from, role);
		row->status = dtm_api_text(status != NULL ? status : "");
		row->bin_data = from->payload;
	}
	return n;
}

/* The object of options, as a string. */
static void
member_options(DtmApiWriter *writer, const DtmApiTransRow *row)
{
	DtmApiWriter inner;
	DtmText packed = {NULL, 0};

	dtm_api_writer_init(&inner, writer->arena);
	dtm_api_put_options(&inner, row);
	writer->no_memory |= inner.no_memory;
	writer->too_long |= inner.too_long;
	packed.data = inner.data;
	packed.len = (uint32_t) inner.len;
	dtm_api_member_given(writer, "options", packed);
}

static void
put_trans(DtmApiWriter *writer, const DtmApiTransRow *row)
{
	const char *type = dtm_type_name(row->type);
	const char *status = dtm_status_name(row->status);

	dtm_api_open(writer, '{');
	dtm_api_member_number(writer, "id", short_id(row->id));
	dtm_api_member_time(writer, "create_time", row->create_time);
	dtm_api_member_time(writer, "update_time", row->update_time);
	dtm_api_member_given(writer, "gid", row->gid);
	dtm_api_member_given(writer, "trans_type", dtm_api_text(type != NULL ? type : ""));
	dtm_api_member_given(writer, "status", dtm_api_text(status != NULL ? status : ""));
	dtm_api_member_given(writer, "query_prepared", row->query_prepared);
	dtm_api_member_given(writer, "protocol", row->protocol);
	dtm_api_member_time_given(writer, "finish_time", row->finish_time);
	dtm_api_member_time_given(writer, "rollback_time", row->rollback_time);
	dtm_api_member_given(writer, "result", row->result);
	dtm_api_member_given(writer, "rollback_reason", row->rollback_reason);
	member_options(writer, row);
	dtm_api_member_given(writer, "custom_data", row->custom_data);
	if (row->next_cron_interval > 0)
		dtm_api_member_number(writer, "next_cron_interval", row->next_cron_interval);
	dtm_api_member_time_given(writer, "next_cron_time", row->next_cron_time);
	dtm_api_member_given(writer, "owner", row->owner);
	/* DTM has the options in a column of their own, and so this is always false there */
	dtm_api_member_bool(writer, "concurrent", false);
	dtm_api_close(writer, '{');
}

static void
put_branches(DtmApiWriter *writer, const DtmApiBranchRow *rows, int n)
{
	dtm_api_open(writer, '[');
	for (int i = 0; i < n; i++)
	{
		const DtmApiBranchRow *row = &rows[i];

		dtm_api_open(writer, '{');
		dtm_api_member_number(writer, "id", short_id(row->id));
		dtm_api_member_time(writer, "create_time", row->create_time);
		dtm_api_member_time(writer, "update_time", row->update_time);
		dtm_api_member_given(writer, "gid", row->gid);
		dtm_api_member_given(writer, "url", row->url);
		dtm_api_member_base64_given(writer, "bin_data", row->bin_data);
		dtm_api_member_given(writer, "branch_id", row->branch_id);
		dtm_api_member_given(writer, "op", row->op);
		dtm_api_member_given(writer, "status", row->status);
		dtm_api_member_time_given(writer, "finish_time", row->finish_time);
		dtm_api_close(writer, '{');
	}
	dtm_api_close(writer, '[');
}

static void
show_one(const DtmApiTransRow *row, const char *list, const DtmApiBranchRow *branches, int n,
		 DtmArena *arena, DtmApiAnswer *answer)
{
	DtmApiWriter writer;

	dtm_api_writer_init(&writer, arena);
	dtm_api_open(&writer, '{');
	dtm_api_key(&writer, list);
	put_branches(&writer, branches, n);
	dtm_api_key(&writer, "transaction");
	if (row == NULL)
		dtm_api_raw(&writer, "null");
	else
		put_trans(&writer, row);
	dtm_api_close(&writer, '{');
	dtm_api_finish(&writer, 200, answer);
}

void
dtm_api_show_query(const DtmApiTransRow *row, const DtmApiBranchRow *branches, int n,
				   DtmArena *arena, DtmApiAnswer *answer)
{
	show_one(row, "branches", branches, n, arena, answer);
}

void
dtm_api_show_workflow(const DtmApiTransRow *row, const DtmApiBranchRow *progresses, int n,
					  DtmArena *arena, DtmApiAnswer *answer)
{
	show_one(row, "progresses", progresses, n, arena, answer);
}

/* Where the next page begins; "" when this one is the last. */
static void
member_next(DtmApiWriter *writer, int64_t next)
{
	char position[24] = "";

	if (next != 0)
		snprintf(position, sizeof(position), "%lld", (long long) next);
	dtm_api_member(writer, "next_position", dtm_api_text(position));
}

void
dtm_api_show_all(const DtmApiList *list, const DtmApiTransRow *rows, int n, int64_t next,
				 DtmArena *arena, DtmApiAnswer *answer)
{
	DtmApiWriter writer;

	dtm_api_writer_init(&writer, arena);
	dtm_api_open(&writer, '{');
	if (list->gid.len > 0)
		dtm_api_member(&writer, "next_position", list->position);
	else
		member_next(&writer, next);
	dtm_api_key(&writer, "transactions");
	if (list->gid.len > 0 && n == 0)
		dtm_api_raw(&writer, "null");
	else
	{
		dtm_api_open(&writer, '[');
		for (int i = 0; i < n; i++)
			put_trans(&writer, &rows[i]);
		dtm_api_close(&writer, '[');
	}
	dtm_api_close(&writer, '{');
	dtm_api_finish(&writer, 200, answer);
}

/* ---- topics ---- */

bool
dtm_api_topic_value(const DtmApiSubscriber *subscribers, int n, DtmArena *arena, DtmText *value)
{
	DtmApiWriter writer;

	dtm_api_writer_init(&writer, arena);
	dtm_api_open(&writer, '[');
	for (int i = 0; i < n; i++)
	{
		dtm_api_open(&writer, '{');
		dtm_api_member(&writer, "url", subscribers[i].url);
		dtm_api_member(&writer, "remark", subscribers[i].remark);
		dtm_api_close(&writer, '{');
	}
	dtm_api_close(&writer, '[');
	*value = dtm_api_text("");
	if (writer.no_memory || writer.too_long)
		return false;
	value->data = writer.data;
	value->len = (uint32_t) writer.len;
	return true;
}

void
dtm_api_show_kv(const DtmApiCall *call, const DtmApiKvRow *rows, int n, DtmArena *arena,
				DtmApiAnswer *answer)
{
	DtmApiWriter writer;

	dtm_api_writer_init(&writer, arena);
	dtm_api_open(&writer, '{');
	dtm_api_key(&writer, "kv");
	dtm_api_open(&writer, '[');
	for (int i = 0; i < n; i++)
	{
		dtm_api_open(&writer, '{');
		dtm_api_member_number(&writer, "id", short_id(rows[i].id));
		dtm_api_member_time(&writer, "create_time", rows[i].create_time);
		dtm_api_member_time(&writer, "update_time", rows[i].update_time);
		dtm_api_member(&writer, "cat", rows[i].cat);
		dtm_api_member(&writer, "k", rows[i].k);
		dtm_api_member(&writer, "v", rows[i].v);
		dtm_api_member_number(&writer, "version", rows[i].version);
		dtm_api_close(&writer, '{');
	}
	dtm_api_close(&writer, '[');
	if (call->route == DTM_API_SCAN_KV)
		member_next(&writer, n > 0 && n >= call->list.limit ? rows[n - 1].id : 0);
	dtm_api_close(&writer, '{');
	dtm_api_finish(&writer, 200, answer);
}

/* ---- metrics ---- */

void
dtm_api_show_metrics(const DtmApiSample *samples, int n, DtmArena *arena, DtmApiAnswer *answer)
{
	DtmApiWriter writer;

	dtm_api_writer_init(&writer, arena);
	for (int i = 0; i < n; i++)
	{
		const DtmApiSample *sample = &samples[i];
		char value[40];

		if (i == 0 || strcmp(sample->name, samples[i - 1].name) != 0)
		{
			dtm_api_put_text(&writer, "# HELP ");
			dtm_api_put_text(&writer, sample->name);
			dtm_api_put_text(&writer, " ");
			dtm_api_put_text(&writer, sample->help);
			dtm_api_put_text(&writer, "\n# TYPE ");
			dtm_api_put_text(&writer, sample->name);
			dtm_api_put_text(&writer, " ");
			dtm_api_put_text(&writer, sample->type);
			dtm_api_put_text(&writer, "\n");
		}
		dtm_api_put_text(&writer, sample->name);
		dtm_api_put_text(&writer, sample->suffix);
		if (sample->labels[0] != '\0')
		{
			dtm_api_put_text(&writer, "{");
			dtm_api_put_text(&writer, sample->labels);
			dtm_api_put_text(&writer, "}");
		}
		/* numbers are written in the "C" locale, which every server process has */
		if (isfinite(sample->value) && fabs(sample->value) < 9e15 &&
			sample->value == floor(sample->value))
			snprintf(value, sizeof(value), " %.0f\n", sample->value);
		else
			snprintf(value, sizeof(value), " %.9g\n", sample->value);
		dtm_api_put_text(&writer, value);
	}
	if (n == 0)
		dtm_api_put_text(&writer, "\n");
	dtm_api_finish(&writer, 200, answer);
	if (answer->status == 200)
		answer->content_type = "text/plain; version=0.0.4; charset=utf-8";
}
