/* -------------------------------------------------------------------------
 *
 * dtm_state.c
 *		The packed form of what changes in a transaction.
 *
 * It is rewritten after every round of calls, so it is small: an op that
 * was never called takes a share of one byte, times are differences.
 *
 * Layout, version 1 (numbers and texts as in dtm_pack.h):
 *
 *		version, attempts, retries, log_dropped, hurried_at,
 *		OP bits of the pseudo branch (0 = untouched) and its fields,
 *		number of branches up to the last one touched, per branch a mask of
 *		the touched roles, and per touched role its OP bits and fields,
 *		number of log entries, and the entries.
 *
 * in_flight is never stored: after a load nobody is waiting for the answer.
 * Runs in the coordinator; views read it in backends.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_state.h"

#include "dtm_pack.h"

#define STATE_VERSION 1

/* Bits of an op; a plain success needs seven of them, so one byte. */
#define OP_STATUS_MASK 0x003
#define OP_STARTED 0x004
#define OP_OUTCOME_SHIFT 3
#define OP_OUTCOME_MASK 0x018
#define OP_STARTED_AT 0x020
#define OP_FINISHED_AT 0x040
#define OP_ATTEMPTS 0x080 /* other than the usual number */
#define OP_FAILURES 0x100
#define OP_NEXT_AT 0x200
#define OP_ERROR 0x400
#define OP_ALL 0x7FF

/* Most bytes of an op without its error, and of a log entry. */
#define OP_BOUND (2 + 2 * 5 + 3 * DTM_VARINT_MAX + 2)
#define LOG_BOUND (1 + 3 + DTM_VARINT_MAX + 5)
#define FIXED_BOUND (1 + 3 * 5 + DTM_VARINT_MAX + 3 + 2)

/* First byte of a log entry. */
#define LOG_ROLE_MASK 0x03
#define LOG_OUTCOME_SHIFT 2
#define LOG_OUTCOME_MASK 0x0C
#define LOG_TRANS 0x10       /* the pseudo branch; else a number follows */
#define LOG_REASON 0x20      /* its text follows */
#define LOG_SAME_REASON 0x40 /* as the newest text before it */
#define LOG_ALL 0x7F

/* The engine appends to a loaded log; spare it the first reallocation. */
#define LOG_SPARE 8

static void write_op(DtmWriter *writer, const DtmOpState *op, DtmTime created_at);
static void read_op(DtmReader *reader, DtmOpState *op, DtmTime created_at);
static void write_log(DtmWriter *writer, const DtmTrans *trans);
static DtmRc read_log(DtmReader *reader, DtmArena *arena, DtmTrans *trans);
static void reset(DtmTrans *trans);
static void reset_op(DtmOpState *op);
static uint8_t touched_roles(const DtmBranch *branch);
static uint32_t op_bits(const DtmOpState *op);
static uint32_t usual_attempts(const DtmOpState *op);
static DtmText bounded_error(DtmText error);
static bool same_text(DtmText a, DtmText b);
static void put_time(DtmWriter *writer, DtmTime time, DtmTime base);
static DtmTime get_time(DtmReader *reader, DtmTime base);

size_t
dtm_state_bound(const DtmTrans *trans)
{
	size_t bound = FIXED_BOUND + OP_BOUND + bounded_error(trans->query.last_error).len;

	for (int i = 0; i < trans->n_branches; i++)
	{
		bound++;
		for (int role = 0; role < DTM_ROLES; role++)
			bound += OP_BOUND + bounded_error(trans->branches[i].state[role].last_error).len;
	}
	for (int i = 0; i < trans->n_log; i++)
		bound += LOG_BOUND + (trans->log[i].reason.len > 0 ? DTM_MAX_LOG_REASON + 2 : 0);
	return bound;
}

size_t
dtm_state_pack(const DtmTrans *trans, char *buffer)
{
	DtmWriter writer = {buffer, 0};
	int n_touched = 0;
	uint16_t n_log = trans->n_log > DTM_MAX_CALL_LOG ? DTM_MAX_CALL_LOG : trans->n_log;

	dtm_put_byte(&writer, STATE_VERSION);
	dtm_put_number(&writer, trans->attempts);
	dtm_put_number(&writer, trans->retries);
	dtm_put_number(&writer, trans->log_dropped + (uint32_t) (trans->n_log - n_log));
	put_time(&writer, trans->hurried_at != 0 ? trans->hurried_at : trans->created_at,
			 trans->created_at);
	write_op(&writer, &trans->query, trans->created_at);

	for (int i = 0; i < trans->n_branches; i++)
		if (touched_roles(&trans->branches[i]) != 0)
			n_touched = i + 1;
	dtm_put_number(&writer, (uint64_t) n_touched);
	for (int i = 0; i < n_touched; i++)
	{
		const DtmBranch *branch = &trans->branches[i];
		uint8_t roles = touched_roles(branch);

		dtm_put_byte(&writer, roles);
		for (int role = 0; role < DTM_ROLES; role++)
			if (roles & (1 << role))
				write_op(&writer, &branch->state[role], trans->created_at);
	}
	write_log(&writer, trans);
	return writer.len;
}

DtmRc
dtm_state_unpack(const char *packed, size_t len, DtmArena *arena, DtmTrans *trans)
{
	DtmReader reader = dtm_reader(packed, len);
	int n_touched;
	DtmRc rc;

	reset(trans);
	if (len == 0)
		return DTM_OK;
	if (dtm_get_byte(&reader) != STATE_VERSION)
		return DTM_INVALID;
	trans->attempts = (uint32_t) dtm_get_number(&reader, UINT32_MAX);
	trans->retries = (uint32_t) dtm_get_number(&reader, UINT32_MAX);
	trans->log_dropped = (uint32_t) dtm_get_number(&reader, UINT32_MAX);
	trans->hurried_at = get_time(&reader, trans->created_at);
	if (trans->hurried_at == trans->created_at)
		trans->hurried_at = 0;
	read_op(&reader, &trans->query, trans->created_at);

	n_touched = (int) dtm_get_number(&reader, trans->n_branches);
	for (int i = 0; i < n_touched && !reader.bad; i++)
	{
		uint8_t roles = dtm_get_byte(&reader);

		if (roles >= 1 << DTM_ROLES || (roles != 0 && dtm_branch_is_memo(&trans->branches[i])))
			return DTM_INVALID;
		for (int role = 0; role < DTM_ROLES; role++)
			if (roles & (1 << role))
				read_op(&reader, &trans->branches[i].state[role], trans->created_at);
	}
	rc = read_log(&reader, arena, trans);
	if (rc != DTM_OK)
		return rc;
	return reader.bad || dtm_reader_left(&reader) != 0 ? DTM_INVALID : DTM_OK;
}

static void
write_op(DtmWriter *writer, const DtmOpState *op, DtmTime created_at)
{
	uint32_t bits = op_bits(op);

	dtm_put_number(writer, bits);
	if (bits & OP_STARTED_AT)
		put_time(writer, op->started_at, created_at);
	if (bits & OP_FINISHED_AT)
		put_time(writer, op->finished_at, op->started_at != 0 ? op->started_at : created_at);
	if (bits & OP_ATTEMPTS)
		dtm_put_number(writer, op->attempts);
	if (bits & OP_FAILURES)
		dtm_put_number(writer, op->failures);
	if (bits & OP_NEXT_AT)
		put_time(writer, op->next_at, created_at);
	if (bits & OP_ERROR)
		dtm_put_text(writer, bounded_error(op->last_error));
}

static void
read_op(DtmReader *reader, DtmOpState *op, DtmTime created_at)
{
	uint32_t bits = (uint32_t) dtm_get_number(reader, OP_ALL);

	op->status = bits & OP_STATUS_MASK;
	if (op->status > DTM_OP_FAILED)
		reader->bad = true;
	op->started = (bits & OP_STARTED) != 0;
	op->last_outcome = (bits & OP_OUTCOME_MASK) >> OP_OUTCOME_SHIFT;
	if (bits & OP_STARTED_AT)
		op->started_at = get_time(reader, created_at);
	if (bits & OP_FINISHED_AT)
		op->finished_at = get_time(reader, op->started_at != 0 ? op->started_at : created_at);
	op->attempts =
		(bits & OP_ATTEMPTS) ? (uint32_t) dtm_get_number(reader, UINT32_MAX) : usual_attempts(op);
	if (bits & OP_FAILURES)
		op->failures = (uint32_t) dtm_get_number(reader, UINT32_MAX);
	if (bits & OP_NEXT_AT)
		op->next_at = get_time(reader, created_at);
	if (bits & OP_ERROR)
		op->last_error = dtm_get_text(reader, DTM_MAX_ERROR_LEN);
}

static void
write_log(DtmWriter *writer, const DtmTrans *trans)
{
	int first = trans->n_log > DTM_MAX_CALL_LOG ? trans->n_log - DTM_MAX_CALL_LOG : 0;
	DtmTime last = trans->created_at;
	DtmText reason = {"", 0};

	dtm_put_number(writer, (uint64_t) (trans->n_log - first));
	for (int i = first; i < trans->n_log; i++)
	{
		const DtmCallRecord *call = &trans->log[i];
		bool is_trans = call->branch == DTM_BRANCH_TRANS;
		uint8_t bits;

		bits = call->role & LOG_ROLE_MASK;
		bits |= call->outcome << LOG_OUTCOME_SHIFT & LOG_OUTCOME_MASK;
		if (is_trans)
			bits |= LOG_TRANS;
		if (call->reason.len > 0)
			bits |= same_text(call->reason, reason) ? LOG_SAME_REASON : LOG_REASON;
		dtm_put_byte(writer, bits);
		if (!is_trans)
			dtm_put_number(writer, call->branch);
		put_time(writer, call->started_at, last);
		dtm_put_number(writer, call->took_us);
		if (bits & LOG_REASON)
		{
			reason = dtm_text_cut(call->reason, DTM_MAX_LOG_REASON);
			dtm_put_text(writer, reason);
		}
		last = call->started_at;
	}
}

static DtmRc
read_log(DtmReader *reader, DtmArena *arena, DtmTrans *trans)
{
	uint16_t n = (uint16_t) dtm_get_number(reader, DTM_MAX_CALL_LOG);
	uint16_t size = n + LOG_SPARE < DTM_MAX_CALL_LOG ? n + LOG_SPARE : DTM_MAX_CALL_LOG;
	DtmTime last = trans->created_at;
	DtmText reason = {"", 0};

	if (reader->bad)
		return DTM_INVALID;
	if (n == 0)
		return DTM_OK;
	trans->log = arena->alloc(arena->context, size * sizeof(DtmCallRecord));
	if (trans->log == NULL)
		return DTM_NOMEM;
	memset(trans->log, 0, size * sizeof(DtmCallRecord));
	trans->log_size = size;

	for (; trans->n_log < n; trans->n_log++)
	{
		DtmCallRecord *call = &trans->log[trans->n_log];
		uint8_t bits = dtm_get_byte(reader);

		call->role = bits & LOG_ROLE_MASK;
		call->outcome = (bits & LOG_OUTCOME_MASK) >> LOG_OUTCOME_SHIFT;
		call->branch = DTM_BRANCH_TRANS;
		if (!(bits & LOG_TRANS))
			call->branch = (uint16_t) dtm_get_number(reader, UINT16_MAX);
		call->started_at = last = get_time(reader, last);
		call->took_us = (uint32_t) dtm_get_number(reader, UINT32_MAX);
		if (bits & LOG_REASON)
			reason = dtm_get_text(reader, DTM_MAX_LOG_REASON);
		if (bits & (LOG_REASON | LOG_SAME_REASON))
			call->reason = reason;
		if (reader->bad || bits > LOG_ALL || call->role >= DTM_ROLES ||
			(!(bits & LOG_TRANS) && call->branch >= trans->n_branches))
			return DTM_INVALID;
	}
	return DTM_OK;
}

static void
reset(DtmTrans *trans)
{
	trans->attempts = trans->retries = trans->log_dropped = 0;
	trans->hurried_at = 0;
	trans->n_log = trans->log_size = 0;
	trans->log = NULL;
	reset_op(&trans->query);
	for (int i = 0; i < trans->n_branches; i++)
		dtm_branch_reset(&trans->branches[i]);
}

void
dtm_branch_reset(DtmBranch *branch)
{
	for (int role = 0; role < DTM_ROLES; role++)
		reset_op(&branch->state[role]);
	if (dtm_branch_is_memo(branch))
	{
		DtmOpState *op = &branch->state[DTM_ROLE_FORWARD];

		op->status = branch->kind == DTM_STEP_MEMO ? DTM_OP_SUCCEED : DTM_OP_FAILED;
		op->last_outcome =
			branch->kind == DTM_STEP_MEMO ? DTM_OUTCOME_SUCCESS : DTM_OUTCOME_FAILURE;
		op->finished_at = branch->due_at;
	}
}

/* Bit per DtmRole that something has happened to. */
static uint8_t
touched_roles(const DtmBranch *branch)
{
	uint8_t roles = 0;

	for (int role = 0; role < DTM_ROLES && !dtm_branch_is_memo(branch); role++)
		if (op_bits(&branch->state[role]) != 0)
			roles |= (uint8_t) (1 << role);
	return roles;
}

static void
reset_op(DtmOpState *op)
{
	memset(op, 0, sizeof(*op));
	op->last_error.data = "";
}

/* 0 = as it was at submit. */
static uint32_t
op_bits(const DtmOpState *op)
{
	uint32_t bits = op->status & OP_STATUS_MASK;

	bits |= (uint32_t) op->last_outcome << OP_OUTCOME_SHIFT & OP_OUTCOME_MASK;
	bits |= op->started ? OP_STARTED : 0;
	bits |= op->started_at != 0 ? OP_STARTED_AT : 0;
	bits |= op->finished_at != 0 ? OP_FINISHED_AT : 0;
	bits |= op->attempts != usual_attempts(op) ? OP_ATTEMPTS : 0;
	bits |= op->failures > 0 ? OP_FAILURES : 0;
	bits |= op->next_at != 0 ? OP_NEXT_AT : 0;
	bits |= op->last_error.len > 0 ? OP_ERROR : 0;
	return bits;
}

/* Most ops end with their first call. */
static uint32_t
usual_attempts(const DtmOpState *op)
{
	return op->finished_at != 0 ? 1 : 0;
}

static DtmText
bounded_error(DtmText error)
{
	return dtm_text_cut(error, DTM_MAX_ERROR_LEN);
}

static bool
same_text(DtmText a, DtmText b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* The difference wraps around like unsigned numbers do, so every pair of times survives. */
static void
put_time(DtmWriter *writer, DtmTime time, DtmTime base)
{
	dtm_put_signed(writer, (int64_t) ((uint64_t) time - (uint64_t) base));
}

static DtmTime
get_time(DtmReader *reader, DtmTime base)
{
	return (DtmTime) ((uint64_t) base + (uint64_t) dtm_get_signed(reader));
}
