/* -------------------------------------------------------------------------
 *
 * dtm_spec_pack.c
 *		The packed form of a spec: writing it at submit, reading it in the
 *		coordinator's hot path.
 *
 * Layout, version 1 (numbers and texts as in dtm_pack.h):
 *
 *		version, type, flags, presence bits, the present TRANS_ fields in the
 *		order of their bits, number of branches, number of all "after"
 *		entries together, then per branch: presence bits and the present
 *		BRANCH_ fields in the order of their bits.  A subscriber of a topic
 *		has its number, from 1, and the first of them the topic's name.
 *
 * A spec that registers branches later has none of its own.  They follow it,
 * from rows of their own: kind, id, due_at of what has one (a sleep, an await,
 * a memo), and then as above.
 *
 * Not here: what makes a spec valid for people (dtm_spec_build.c).  Runs in
 * backends and in the coordinator.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_spec.h"

#include "dtm_pack.h"
#include "dtm_spec_rules.h"
#include "dtm_state.h"

#define SPEC_VERSION 1

/* Presence bits of the transaction; the order is that of the fields. */
#define TRANS_START_AFTER 0x001
#define TRANS_TIMEOUT_TO_FAIL 0x002
#define TRANS_REQUEST_TIMEOUT 0x004
#define TRANS_RETRY_INTERVAL 0x008
#define TRANS_RETRY_LIMIT 0x010
#define TRANS_HEADERS 0x020
#define TRANS_SEARCH_PATH 0x040
#define TRANS_QUERY_URL 0x080
#define TRANS_QUERY_SQL_NAME 0x100
#define TRANS_PAYLOAD 0x200
#define TRANS_QUERY_NAME 0x400
#define TRANS_ALL 0x7FF

/* Presence bits of a branch; the frequent ones share the first byte. */
#define BRANCH_PAYLOAD 0x001
#define BRANCH_URL(role) (0x002 << (role))
#define BRANCH_NAME 0x010
#define BRANCH_AFTER 0x020
#define BRANCH_HEADERS 0x040
#define BRANCH_SQL_NAME(role) (0x080 << (role))
#define BRANCH_REQUEST_TIMEOUT 0x400
#define BRANCH_RETRY_LIMIT 0x800
#define BRANCH_SUBSCRIBER 0x1000
#define BRANCH_ALL 0x1FFF

#define MICROSECONDS_PER_MS 1000
#define BRANCH_ID_LEN 10 /* up to "1000-1000" */

static void write_spec(DtmWriter *writer, const DtmTrans *trans);
static void write_branch(DtmWriter *writer, const DtmBranch *branch);
static void write_registered(DtmWriter *writer, const DtmBranch *branch);
static void read_options(DtmReader *reader, DtmTrans *trans);
static DtmRc read_registered(DtmReader *reader, DtmArena *arena, DtmTrans *trans);
static void read_one_registered(DtmReader *reader, DtmBranch *branch);
static bool read_branch(DtmReader *reader, DtmBranch *branch, int index, int n_branches,
						uint16_t **after, size_t *after_left);
static DtmText read_headers(DtmReader *reader);
static void read_subscriber(DtmReader *reader, const DtmTrans *trans, int index);
static void number_branches(DtmTrans *trans, char *ids);
static size_t put_number(char *buffer, int number);
static void fill_ops(DtmTrans *trans);
static void fill_step_ops(DtmBranch *branch);

DtmRc
dtm_spec_pack(const DtmTrans *trans, DtmArena *arena, const char **packed, size_t *packed_len)
{
	DtmWriter writer = {NULL, 0};

	write_spec(&writer, trans);
	if (writer.len > DTM_MAX_SPEC_LEN)
		return DTM_LIMIT;

	writer.data = arena->alloc(arena->context, writer.len);
	if (writer.data == NULL)
		return DTM_NOMEM;
	writer.len = 0;
	write_spec(&writer, trans);
	*packed = writer.data;
	*packed_len = writer.len;
	return DTM_OK;
}

DtmRc
dtm_spec_unpack(const char *packed, size_t len, DtmArena *arena, DtmTrans *trans)
{
	DtmReader reader = dtm_reader(packed, len);
	DtmTime created_at = trans->created_at;
	size_t n_branches;
	size_t n_after;
	uint16_t *after = NULL;
	char *ids = NULL;

	memset(trans, 0, sizeof(*trans));
	trans->created_at = created_at;
	if (len > DTM_MAX_SPEC_LEN || dtm_get_byte(&reader) != SPEC_VERSION)
		return DTM_INVALID;
	read_options(&reader, trans);

	/* Every branch and every "after" entry takes a byte: that bounds the block. */
	n_branches = dtm_get_number(&reader, dtm_trans_registers(trans) ? 0 : DTM_MAX_STEPS);
	n_after = dtm_get_number(&reader, (uint64_t) DTM_MAX_STEPS * DTM_MAX_STEPS);
	if (reader.bad || n_branches + n_after > dtm_reader_left(&reader))
		return DTM_INVALID;

	if (n_branches > 0)
	{
		trans->branches = arena->alloc(arena->context,
									   n_branches * (sizeof(DtmBranch) + BRANCH_ID_LEN) +
										   n_after * sizeof(uint16_t));
		if (trans->branches == NULL)
			return DTM_NOMEM;
		memset(trans->branches, 0, n_branches * sizeof(DtmBranch));
		after = (uint16_t *) (trans->branches + n_branches);
		ids = (char *) (after + n_after);
	}
	trans->n_branches = (uint16_t) n_branches;

	for (size_t i = 0; i < n_branches; i++)
	{
		bool is_subscriber =
			read_branch(&reader, &trans->branches[i], (int) i, (int) n_branches, &after, &n_after);

		if (is_subscriber)
			read_subscriber(&reader, trans, (int) i);
	}
	if (dtm_trans_registers(trans) && !reader.bad && n_after == 0)
	{
		DtmRc rc = read_registered(&reader, arena, trans);

		fill_ops(trans);
		return rc;
	}
	if (reader.bad || n_after != 0 || dtm_reader_left(&reader) != 0)
		return DTM_INVALID;
	number_branches(trans, ids);
	fill_ops(trans);
	return dtm_spec_order_check(trans->branches, trans->n_branches, arena, NULL);
}

DtmRc
dtm_branch_pack(const DtmBranch *branch, DtmArena *arena, const char **packed, size_t *packed_len)
{
	DtmWriter writer = {NULL, 0};

	write_registered(&writer, branch);
	if (writer.len > DTM_MAX_SPEC_LEN)
		return DTM_LIMIT;
	writer.data = arena->alloc(arena->context, writer.len);
	if (writer.data == NULL)
		return DTM_NOMEM;
	writer.len = 0;
	write_registered(&writer, branch);
	*packed = writer.data;
	*packed_len = writer.len;
	return DTM_OK;
}

void
dtm_branch_init(DtmBranch *branch)
{
	DtmText none = {"", 0};

	memset(branch, 0, sizeof(*branch));
	branch->branch_id = branch->name = branch->headers = branch->topic = none;
	for (int role = 0; role < DTM_ROLES; role++)
	{
		branch->url[role] = branch->sql_name[role] = none;
		branch->state[role].last_error = none;
	}
	branch->retry_limit = -1;
	branch->due_at = DTM_TIME_NEVER;
}

bool
dtm_headers_next(DtmText headers, size_t *offset, DtmText *name, DtmText *value)
{
	DtmReader reader;

	if (*offset >= headers.len)
		return false;
	reader = dtm_reader(headers.data + *offset, headers.len - *offset);
	*name = dtm_get_text(&reader, DTM_MAX_HEADER_LEN);
	*value = dtm_get_text(&reader, DTM_MAX_HEADER_LEN);
	if (reader.bad)
	{
		*offset = headers.len;
		return false;
	}
	*offset = headers.len - dtm_reader_left(&reader);
	return true;
}

static void
write_spec(DtmWriter *writer, const DtmTrans *trans)
{
	int64_t start_after = (trans->start_at - trans->created_at) / MICROSECONDS_PER_MS;
	uint64_t n_after = 0;

	dtm_put_byte(writer, SPEC_VERSION);
	dtm_put_byte(writer, (uint8_t) trans->type);
	dtm_put_number(writer, trans->flags);
	dtm_put_number(writer,
				   (start_after > 0 ? TRANS_START_AFTER : 0) |
					   (trans->timeout_to_fail_ms > 0 ? TRANS_TIMEOUT_TO_FAIL : 0) |
					   (trans->request_timeout_ms > 0 ? TRANS_REQUEST_TIMEOUT : 0) |
					   (trans->retry_interval_ms > 0 ? TRANS_RETRY_INTERVAL : 0) |
					   (trans->retry_limit >= 0 ? TRANS_RETRY_LIMIT : 0) |
					   (trans->headers.len > 0 ? TRANS_HEADERS : 0) |
					   (trans->search_path.len > 0 ? TRANS_SEARCH_PATH : 0) |
					   (trans->query_url.len > 0 ? TRANS_QUERY_URL : 0) |
					   (trans->query_sql_name.len > 0 ? TRANS_QUERY_SQL_NAME : 0) |
					   (trans->payload.data != NULL ? TRANS_PAYLOAD : 0) |
					   (trans->query_name.len > 0 ? TRANS_QUERY_NAME : 0));
	if (start_after > 0)
		dtm_put_number(writer, (uint64_t) start_after);
	if (trans->timeout_to_fail_ms > 0)
		dtm_put_number(writer, (uint64_t) trans->timeout_to_fail_ms);
	if (trans->request_timeout_ms > 0)
		dtm_put_number(writer, (uint64_t) trans->request_timeout_ms);
	if (trans->retry_interval_ms > 0)
		dtm_put_number(writer, (uint64_t) trans->retry_interval_ms);
	if (trans->retry_limit >= 0)
		dtm_put_number(writer, (uint64_t) trans->retry_limit);
	if (trans->headers.len > 0)
		dtm_put_text(writer, trans->headers);
	if (trans->search_path.len > 0)
		dtm_put_text(writer, trans->search_path);
	if (trans->query_url.len > 0)
		dtm_put_text(writer, trans->query_url);
	if (trans->query_sql_name.len > 0)
		dtm_put_text(writer, trans->query_sql_name);
	if (trans->payload.data != NULL)
		dtm_put_text(writer, trans->payload);
	if (trans->query_name.len > 0)
		dtm_put_text(writer, trans->query_name);

	if (dtm_trans_registers(trans))
	{
		dtm_put_number(writer, 0);
		dtm_put_number(writer, 0);
		for (int i = 0; i < trans->n_branches; i++)
			write_registered(writer, &trans->branches[i]);
		return;
	}
	for (int i = 0; i < trans->n_branches; i++)
		n_after += trans->branches[i].n_after;
	dtm_put_number(writer, trans->n_branches);
	dtm_put_number(writer, n_after);
	for (int i = 0; i < trans->n_branches; i++)
		write_branch(writer, &trans->branches[i]);
}

static void
write_branch(DtmWriter *writer, const DtmBranch *branch)
{
	uint32_t bits = 0;

	bits |= branch->payload.data != NULL ? BRANCH_PAYLOAD : 0;
	bits |= branch->name.len > 0 ? BRANCH_NAME : 0;
	bits |= branch->n_after > 0 ? BRANCH_AFTER : 0;
	bits |= branch->headers.len > 0 ? BRANCH_HEADERS : 0;
	bits |= branch->request_timeout_ms > 0 ? BRANCH_REQUEST_TIMEOUT : 0;
	bits |= branch->retry_limit >= 0 ? BRANCH_RETRY_LIMIT : 0;
	bits |= branch->subscriber > 0 ? BRANCH_SUBSCRIBER : 0;
	for (int role = 0; role < DTM_ROLES; role++)
	{
		bits |= branch->url[role].len > 0 ? BRANCH_URL(role) : 0;
		bits |= branch->sql_name[role].len > 0 ? BRANCH_SQL_NAME(role) : 0;
	}

	dtm_put_number(writer, bits);
	if (bits & BRANCH_PAYLOAD)
		dtm_put_text(writer, branch->payload);
	for (int role = 0; role < DTM_ROLES; role++)
		if (bits & BRANCH_URL(role))
			dtm_put_text(writer, branch->url[role]);
	if (bits & BRANCH_NAME)
		dtm_put_text(writer, branch->name);
	if (bits & BRANCH_AFTER)
	{
		dtm_put_number(writer, branch->n_after);
		for (int i = 0; i < branch->n_after; i++)
			dtm_put_number(writer, branch->after[i]);
	}
	if (bits & BRANCH_HEADERS)
		dtm_put_text(writer, branch->headers);
	for (int role = 0; role < DTM_ROLES; role++)
		if (bits & BRANCH_SQL_NAME(role))
			dtm_put_text(writer, branch->sql_name[role]);
	if (bits & BRANCH_REQUEST_TIMEOUT)
		dtm_put_number(writer, (uint64_t) branch->request_timeout_ms);
	if (bits & BRANCH_RETRY_LIMIT)
		dtm_put_number(writer, (uint64_t) branch->retry_limit);
	if (bits & BRANCH_SUBSCRIBER)
		dtm_put_number(writer, branch->subscriber);
	if (branch->subscriber == 1)
		dtm_put_text(writer, branch->topic);
}

static bool
has_due_at(uint8_t kind)
{
	return kind != DTM_STEP_CALL && kind != DTM_STEP_TCC;
}

static void
write_registered(DtmWriter *writer, const DtmBranch *branch)
{
	dtm_put_byte(writer, branch->kind);
	dtm_put_text(writer, branch->branch_id);
	if (has_due_at(branch->kind))
		dtm_put_signed(writer, branch->due_at);
	write_branch(writer, branch);
}

/* Everything before the branches. */
static void
read_options(DtmReader *reader, DtmTrans *trans)
{
	uint8_t type = dtm_get_byte(reader);
	uint64_t bits;
	int64_t start_after_us = 0;

	if (type < DTM_TYPE_SAGA || type > DTM_TYPE_LAST)
		reader->bad = true;
	trans->type = (DtmTransType) type;
	trans->flags = (uint32_t) dtm_get_number(reader, UINT32_MAX);
	bits = dtm_get_number(reader, TRANS_ALL);
	trans->retry_limit = -1;
	trans->headers.data = trans->search_path.data = "";
	trans->query_url.data = trans->query_sql_name.data = trans->reason.data = "";
	trans->query_name.data = "";
	trans->query.last_error.data = "";

	if (bits & TRANS_START_AFTER)
		start_after_us = MICROSECONDS_PER_MS * (int64_t) dtm_get_number(reader, DTM_MAX_OPTION_MS);
	if (bits & TRANS_TIMEOUT_TO_FAIL)
		trans->timeout_to_fail_ms = (int64_t) dtm_get_number(reader, DTM_MAX_OPTION_MS);
	if (bits & TRANS_REQUEST_TIMEOUT)
		trans->request_timeout_ms = (int32_t) dtm_get_number(reader, INT32_MAX);
	if (bits & TRANS_RETRY_INTERVAL)
		trans->retry_interval_ms = (int32_t) dtm_get_number(reader, INT32_MAX);
	if (bits & TRANS_RETRY_LIMIT)
		trans->retry_limit = (int32_t) dtm_get_number(reader, INT32_MAX);
	if (bits & TRANS_HEADERS)
		trans->headers = read_headers(reader);
	if (bits & TRANS_SEARCH_PATH)
		trans->search_path = dtm_get_text(reader, DTM_MAX_SPEC_LEN);
	if (bits & TRANS_QUERY_URL)
		trans->query_url = dtm_get_text(reader, DTM_MAX_URL_LEN);
	if (bits & TRANS_QUERY_SQL_NAME)
		trans->query_sql_name = dtm_get_text(reader, DTM_MAX_SPEC_LEN);
	if (bits & TRANS_PAYLOAD)
		trans->payload = dtm_get_text(reader, DTM_MAX_PAYLOAD_LEN);
	if (bits & TRANS_QUERY_NAME)
		trans->query_name = dtm_get_text(reader, DTM_MAX_NAME_LEN);

	trans->start_at = trans->created_at > INT64_MAX - start_after_us
		? INT64_MAX
		: trans->created_at + start_after_us;
}

/* All fields but those of a subscriber; true when they follow. */
static bool
read_branch(DtmReader *reader, DtmBranch *branch, int index, int n_branches, uint16_t **after,
			size_t *after_left)
{
	uint64_t bits = dtm_get_number(reader, BRANCH_ALL);
	DtmText none = {"", 0};

	branch->name = branch->headers = branch->topic = none;
	branch->retry_limit = -1;
	if (bits & BRANCH_PAYLOAD)
		branch->payload = dtm_get_text(reader, DTM_MAX_PAYLOAD_LEN);
	for (int role = 0; role < DTM_ROLES; role++)
	{
		branch->url[role] =
			(bits & BRANCH_URL(role)) ? dtm_get_text(reader, DTM_MAX_URL_LEN) : none;
		branch->state[role].last_error = none;
	}
	if (bits & BRANCH_NAME)
		branch->name = dtm_get_text(reader, DTM_MAX_NAME_LEN);
	if (bits & BRANCH_AFTER)
	{
		size_t n = dtm_get_number(reader, DTM_MAX_STEPS);

		/* a branch that is registered has no list, not even an empty one */
		if (n > *after_left || *after == NULL)
		{
			reader->bad = true;
			return false;
		}
		for (size_t i = 0; i < n; i++)
		{
			(*after)[i] = (uint16_t) dtm_get_number(reader, (uint64_t) n_branches - 1);
			if ((*after)[i] == index)
				reader->bad = true;
		}
		branch->after = *after;
		branch->n_after = (uint16_t) n;
		if (n > 0) /* there may be no room at all, and NULL + 0 is not defined */
			*after += n;
		*after_left -= n;
	}
	if (bits & BRANCH_HEADERS)
		branch->headers = read_headers(reader);
	for (int role = 0; role < DTM_ROLES; role++)
		branch->sql_name[role] =
			(bits & BRANCH_SQL_NAME(role)) ? dtm_get_text(reader, DTM_MAX_SPEC_LEN) : none;
	if (bits & BRANCH_REQUEST_TIMEOUT)
		branch->request_timeout_ms = (int32_t) dtm_get_number(reader, INT32_MAX);
	if (bits & BRANCH_RETRY_LIMIT)
		branch->retry_limit = (int32_t) dtm_get_number(reader, INT32_MAX);
	return (bits & BRANCH_SUBSCRIBER) != 0;
}

/* Steps are for a workflow that runs here, memos for one that its client runs. */
static bool
may_have(const DtmTrans *trans, const DtmBranch *branch)
{
	if (dtm_branch_is_memo(branch))
		return dtm_trans_is_resumed(trans) && branch->name.len > 0 &&
			branch->name.len <= DTM_MAX_MEMO_OP_LEN;
	return !dtm_trans_is_resumed(trans) &&
		(trans->type == DTM_TYPE_WORKFLOW || branch->kind == DTM_STEP_CALL);
}

/* All that is left: counted first, for the branches are one array. */
static DtmRc
read_registered(DtmReader *reader, DtmArena *arena, DtmTrans *trans)
{
	DtmReader ahead = *reader;
	DtmBranch scratch;
	size_t n = 0;

	while (!ahead.bad && dtm_reader_left(&ahead) > 0)
	{
		if (++n > DTM_MAX_STEPS)
			return DTM_INVALID;
		read_one_registered(&ahead, &scratch);
	}
	if (ahead.bad)
		return DTM_INVALID;
	if (n == 0)
		return DTM_OK;

	trans->branches = arena->alloc(arena->context, n * sizeof(DtmBranch));
	if (trans->branches == NULL)
		return DTM_NOMEM;
	trans->n_branches = (uint16_t) n;
	for (size_t i = 0; i < n; i++)
	{
		read_one_registered(reader, &trans->branches[i]);
		if (!may_have(trans, &trans->branches[i]))
			return DTM_INVALID;
	}
	return DTM_OK;
}

static void
read_one_registered(DtmReader *reader, DtmBranch *branch)
{
	uint16_t *no_after = NULL;
	size_t after_left = 0;
	uint8_t kind = dtm_get_byte(reader);
	DtmText id = dtm_get_text(reader, DTM_MAX_BRANCH_ID_LEN);
	DtmTime due_at = DTM_TIME_NEVER;

	if (kind > DTM_STEP_LAST || dtm_branch_id_check(id.data, id.len) != NULL)
		reader->bad = true;
	if (has_due_at(kind))
		due_at = dtm_get_signed(reader);
	dtm_branch_init(branch);
	branch->kind = kind;
	branch->branch_id = id;
	branch->due_at = due_at;
	if (read_branch(reader, branch, 0, 1, &no_after, &after_left))
		reader->bad = true;
}

/* Subscribers of one step follow each other, numbered without a gap. */
static void
read_subscriber(DtmReader *reader, const DtmTrans *trans, int index)
{
	DtmBranch *branch = &trans->branches[index];

	branch->subscriber = (uint16_t) dtm_get_number(reader, DTM_MAX_STEPS);
	if (trans->type != DTM_TYPE_MSG || branch->subscriber == 0)
		reader->bad = true;
	else if (branch->subscriber == 1)
	{
		branch->topic = dtm_get_text(reader, DTM_MAX_TOPIC_LEN);
		if (branch->topic.len == 0)
			reader->bad = true;
	}
	else if (index == 0 || branch[-1].subscriber != branch->subscriber - 1)
		reader->bad = true;
	else
		branch->topic = branch[-1].topic;
}

/* Pairs end up as lines of a request, so they may not carry a line break. */
static DtmText
read_headers(DtmReader *reader)
{
	DtmText headers = dtm_get_text(reader, DTM_MAX_HEADERS * (DTM_MAX_HEADER_LEN + 4));
	DtmText name;
	DtmText value;
	size_t offset = 0;
	int n = 0;

	while (offset < headers.len)
	{
		if (!dtm_headers_next(headers, &offset, &name, &value) || ++n > DTM_MAX_HEADERS ||
			name.len == 0 || !dtm_header_is_safe(name) || !dtm_header_is_safe(value))
		{
			reader->bad = true;
			break;
		}
	}
	return headers;
}

/* DTM's form: the step, and the subscriber behind it when the topic has several. */
static void
number_branches(DtmTrans *trans, char *ids)
{
	int step = 0;

	for (int i = 0; i < trans->n_branches; i++)
	{
		DtmBranch *branch = &trans->branches[i];
		bool several = branch->subscriber > 1 ||
			(branch->subscriber == 1 && i + 1 < trans->n_branches && branch[1].subscriber == 2);
		char *id = ids + i * BRANCH_ID_LEN;
		size_t len;

		if (branch->subscriber <= 1)
			step++;
		len = put_number(id, step);
		if (several)
		{
			id[len++] = '-';
			len += put_number(id + len, branch->subscriber);
		}
		branch->branch_id.data = id;
		branch->branch_id.len = (uint32_t) len;
	}
}

/* At least two digits, counted from 1. */
static size_t
put_number(char *buffer, int number)
{
	size_t len = number < 100 ? 2 : number < 1000 ? 3 : 4;

	for (size_t i = len; i > 0; i--)
	{
		buffer[i - 1] = (char) ('0' + number % 10);
		number /= 10;
	}
	return len;
}

/* Which op a role is in this mode, and the status a transaction begins in. */
static void
fill_ops(DtmTrans *trans)
{
	uint8_t op[DTM_ROLES] = {DTM_OP_NONE, DTM_OP_NONE, DTM_OP_NONE};

	trans->status = DTM_STATUS_PREPARED;
	switch (trans->type)
	{
		case DTM_TYPE_SAGA:
			op[DTM_ROLE_FORWARD] = DTM_OP_ACTION;
			op[DTM_ROLE_UNDO] = DTM_OP_COMPENSATE;
			trans->status = DTM_STATUS_SUBMITTED;
			break;
		case DTM_TYPE_MSG:
			op[DTM_ROLE_FORWARD] = DTM_OP_ACTION;
			if (trans->query_url.len == 0)
				trans->status = DTM_STATUS_SUBMITTED;
			break;
		case DTM_TYPE_TCC:
			if (!(trans->flags & DTM_FLAG_CLIENT_RUN))
				op[DTM_ROLE_FORWARD] = DTM_OP_TRY;
			op[DTM_ROLE_CONFIRM] = DTM_OP_CONFIRM;
			op[DTM_ROLE_UNDO] = DTM_OP_CANCEL;
			break;
		case DTM_TYPE_XA:
			op[DTM_ROLE_CONFIRM] = DTM_OP_COMMIT;
			op[DTM_ROLE_UNDO] = DTM_OP_ROLLBACK;
			break;
		case DTM_TYPE_WORKFLOW:
			break;
	}
	for (int i = 0; i < trans->n_branches; i++)
	{
		memcpy(trans->branches[i].op, op, sizeof(op));
		if (trans->type == DTM_TYPE_WORKFLOW)
			fill_step_ops(&trans->branches[i]);
	}
}

/* Steps of a workflow differ from each other. */
static void
fill_step_ops(DtmBranch *branch)
{
	switch ((DtmStepKind) branch->kind)
	{
		case DTM_STEP_CALL:
			branch->op[DTM_ROLE_FORWARD] = DTM_OP_ACTION;
			if (branch->url[DTM_ROLE_UNDO].len > 0)
				branch->op[DTM_ROLE_UNDO] = DTM_OP_COMPENSATE;
			break;
		case DTM_STEP_TCC:
			branch->op[DTM_ROLE_FORWARD] = DTM_OP_TRY;
			branch->op[DTM_ROLE_CONFIRM] = DTM_OP_CONFIRM;
			branch->op[DTM_ROLE_UNDO] = DTM_OP_CANCEL;
			break;
		case DTM_STEP_SLEEP:
			branch->op[DTM_ROLE_FORWARD] = DTM_OP_SLEEP;
			break;
		case DTM_STEP_AWAIT:
			branch->op[DTM_ROLE_FORWARD] = DTM_OP_AWAIT;
			break;
		case DTM_STEP_MEMO:
		case DTM_STEP_MEMO_FAILED:
			branch->op[DTM_ROLE_FORWARD] = DTM_OP_MEMO;
			dtm_branch_reset(branch);
			break;
	}
}
