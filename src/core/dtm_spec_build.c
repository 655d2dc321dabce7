/* -------------------------------------------------------------------------
 *
 * dtm_spec_build.c
 *		Building a spec step by step, with every rule about steps.
 *
 * Not here: options and headers (dtm_spec_options.c), the bytes
 * (dtm_spec_pack.c), walking JSON (the callers).  Runs in backends.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_spec_builder.h"

#include <string.h>

#include "dtm_spec_rules.h"
#include "dtm_url.h"

#define FIRST_STEPS 8 /* allocated at first */
#define FIRST_AFTER 8

#define BIT(role) (1 << (role))

static const char target_hint[] =
	"A target begins with \"http://\", \"https://\", \"sql:\" or \"pg://\".";
static const char msg_target_hint[] =
	"A target begins with \"http://\", \"https://\", \"sql:\", \"pg://\" or \"topic://\".";
#define AFTER_HINT(element) \
	"\"after\" is an array of " element " numbers counted from 0, e.g. [0, 1]."

typedef bool (*FieldSetter)(DtmSpecBuilder *builder, DtmJsonKind kind, DtmText value);

static bool set_action(DtmSpecBuilder *builder, DtmJsonKind kind, DtmText value);
static bool set_compensate(DtmSpecBuilder *builder, DtmJsonKind kind, DtmText value);
static bool set_try(DtmSpecBuilder *builder, DtmJsonKind kind, DtmText value);
static bool set_confirm(DtmSpecBuilder *builder, DtmJsonKind kind, DtmText value);
static bool set_cancel(DtmSpecBuilder *builder, DtmJsonKind kind, DtmText value);
static bool set_payload(DtmSpecBuilder *builder, DtmJsonKind kind, DtmText value);
static bool set_name(DtmSpecBuilder *builder, DtmJsonKind kind, DtmText value);
static bool set_headers(DtmSpecBuilder *builder, DtmJsonKind kind, DtmText value);
static bool set_after(DtmSpecBuilder *builder, DtmJsonKind kind, DtmText value);
static bool set_request_timeout(DtmSpecBuilder *builder, DtmJsonKind kind, DtmText value);
static bool set_retry_limit(DtmSpecBuilder *builder, DtmJsonKind kind, DtmText value);
static bool
set_url(DtmSpecBuilder *builder, DtmRole role, const char *field, DtmJsonKind kind, DtmText value);
static bool refuse_target(DtmSpecBuilder *builder, int step, const char *field, const char *problem,
						  DtmText value);
static bool refuse_after(DtmSpecBuilder *builder, int step, const char *before, const char *behind);
static bool refuse_unknown(DtmSpecBuilder *builder, int step, int64_t number);
static bool check_form(DtmSpecBuilder *builder, const char *key);
static bool check_required(DtmSpecBuilder *builder, int step);
static bool add_after(DtmSpecBuilder *builder, uint16_t step);
static bool grow_steps(DtmSpecBuilder *builder);
static bool check_order(DtmSpecBuilder *builder);
static bool not_about_a_step(DtmSpecBuilder *builder);
static DtmBranch *last_branch(DtmSpecBuilder *builder);
static DtmStepExtra *last_extra(DtmSpecBuilder *builder);
static int last_step(const DtmSpecBuilder *builder);

#define SAGA BIT(DTM_TYPE_SAGA)
#define MSG BIT(DTM_TYPE_MSG)
#define TCC BIT(DTM_TYPE_TCC)

static const struct
{
	const char *key;
	FieldSetter set;
	unsigned types; /* bit per DtmTransType whose steps have it */
} fields[] = {{"action", set_action, SAGA | MSG},
			  {"compensate", set_compensate, SAGA},
			  {"try", set_try, TCC},
			  {"confirm", set_confirm, TCC},
			  {"cancel", set_cancel, TCC},
			  {"payload", set_payload, SAGA | MSG | TCC},
			  {"name", set_name, SAGA | MSG | TCC},
			  {"headers", set_headers, SAGA | MSG | TCC},
			  {"after", set_after, SAGA | TCC},
			  {"request_timeout", set_request_timeout, SAGA | MSG | TCC},
			  {"retry_limit", set_retry_limit, SAGA | TCC}};

#define N_FIELDS (sizeof(fields) / sizeof(fields[0]))

static const DtmStepForm saga_form = {
	.list = "steps",
	.element = "step",
	.key = {[DTM_ROLE_FORWARD] = "action", [DTM_ROLE_UNDO] = "compensate"},
	.required = BIT(DTM_ROLE_FORWARD),
	.example =
		"Each step is an object like {\"action\": \"http://...\", \"compensate\": \"http://...\"}.",
	.keys = "Keys of a step: \"action\", \"compensate\", \"payload\", \"name\", \"headers\", "
			"\"after\", \"request_timeout\" and \"retry_limit\".",
	.after = AFTER_HINT("step"),
};

static const DtmStepForm msg_form = {
	.list = "steps",
	.element = "step",
	.key = {[DTM_ROLE_FORWARD] = "action"},
	.required = BIT(DTM_ROLE_FORWARD),
	.example = "Each step is an object like {\"action\": \"http://...\", \"payload\": {...}}.",
	.keys = "A message is delivered until it succeeds and never rolled back.  Keys of a step: "
			"\"action\", \"payload\", \"name\", \"headers\" and \"request_timeout\".",
	.after = AFTER_HINT("step"),
};

static const DtmStepForm tcc_form = {
	.list = "branches",
	.element = "branch",
	.key = {"try", "confirm", "cancel"},
	.required = BIT(DTM_ROLE_FORWARD) | BIT(DTM_ROLE_CONFIRM) | BIT(DTM_ROLE_UNDO),
	.example =
		"Each branch is an object like {\"try\": \"http://...\", \"confirm\": \"http://...\", "
		"\"cancel\": \"http://...\"}.",
	.keys = "Keys of a branch: \"try\", \"confirm\", \"cancel\", \"payload\", \"name\", "
			"\"headers\", \"after\", \"request_timeout\" and \"retry_limit\".",
	.after = AFTER_HINT("branch"),
};

const DtmStepForm *
dtm_spec_form(DtmTransType type)
{
	switch (type)
	{
		case DTM_TYPE_SAGA:
			return &saga_form;
		case DTM_TYPE_MSG:
			return &msg_form;
		case DTM_TYPE_TCC:
			return &tcc_form;
		case DTM_TYPE_XA:
		case DTM_TYPE_WORKFLOW:
			break;
	}
	return NULL;
}

DtmSpecBuilder *
dtm_spec_begin(DtmArena *arena, DtmTransType type, DtmSpecError *error)
{
	DtmSpecBuilder scratch;
	DtmSpecBuilder *builder;

	memset(&scratch, 0, sizeof(scratch));
	scratch.arena = arena;
	scratch.error.step = -1;
	if (dtm_spec_form(type) == NULL)
	{
		dtm_spec_refuse(&scratch, DTM_SPEC_UNSUPPORTED, -1, "trans_type",
						"Sagas, messages and TCC transactions can be submitted.",
						"transactions of this type are not supported yet");
		*error = scratch.error;
		return NULL;
	}
	scratch.trans.type = type;
	scratch.trans.retry_limit = -1;
	scratch.trans.search_path.data = "";

	builder = dtm_spec_alloc(&scratch, sizeof(DtmSpecBuilder));
	if (builder != NULL)
		*builder = scratch;
	*error = scratch.error;
	return builder;
}

bool
dtm_spec_step_begin(DtmSpecBuilder *builder)
{
	DtmText none = {"", 0};
	DtmBranch *branch;

	if (builder->error.code != DTM_SPEC_OK)
		return false;
	if (builder->trans.n_branches == DTM_MAX_STEPS)
		return dtm_spec_refuse(builder, DTM_SPEC_LIMIT, -1, dtm_spec_list_name(builder), NULL,
							   "\"%s\" has more than %d members", dtm_spec_list_name(builder),
							   DTM_MAX_STEPS);
	if (builder->trans.n_branches == builder->size && !grow_steps(builder))
		return false;

	builder->trans.n_branches++;
	branch = last_branch(builder);
	memset(branch, 0, sizeof(*branch));
	memset(last_extra(builder), 0, sizeof(DtmStepExtra));
	branch->name = branch->headers = none;
	for (int role = 0; role < DTM_ROLES; role++)
		branch->url[role] = branch->sql_name[role] = none;
	branch->retry_limit = -1;
	return true;
}

bool
dtm_spec_step_field(DtmSpecBuilder *builder, const char *key, size_t key_len, DtmJsonKind kind,
					const char *value, size_t value_len)
{
	DtmText text = {value, (uint32_t) value_len};
	DtmQuoted quoted;

	if (not_about_a_step(builder))
		return false;
	if (value_len > UINT32_MAX)
		text.len = UINT32_MAX; /* beyond every limit as well */

	for (size_t i = 0; i < N_FIELDS; i++)
	{
		if (strlen(fields[i].key) != key_len || memcmp(fields[i].key, key, key_len) != 0)
			continue;
		if (kind == DTM_JSON_NULL && !(fields[i].types & BIT(builder->trans.type)))
			return true;
		return check_form(builder, fields[i].key) && fields[i].set(builder, kind, text);
	}

	quoted = dtm_spec_quote(key, key_len < 60 ? key_len : 60);
	return dtm_spec_refuse(builder, DTM_SPEC_INVALID, last_step(builder), quoted.text,
						   dtm_spec_form(builder->trans.type)->keys, "has an unknown key \"%s\"",
						   quoted.text);
}

bool
dtm_spec_step_header(DtmSpecBuilder *builder, const char *name, size_t name_len, DtmJsonKind kind,
					 const char *value, size_t value_len)
{
	DtmText name_text = {name, (uint32_t) name_len};
	DtmText value_text = {value, (uint32_t) value_len};

	if (not_about_a_step(builder))
		return false;
	if (name_len > DTM_MAX_HEADER_LEN || value_len > DTM_MAX_HEADER_LEN)
		name_text.len = value_text.len = DTM_MAX_HEADER_LEN + 1;
	return dtm_spec_put_header(builder, &last_extra(builder)->headers, last_step(builder),
							   name_text, kind, value_text);
}

bool
dtm_spec_step_after_begin(DtmSpecBuilder *builder)
{
	if (not_about_a_step(builder) || !check_form(builder, "after"))
		return false;
	last_branch(builder)->n_after = 0;
	return true;
}

bool
dtm_spec_step_after(DtmSpecBuilder *builder, DtmJsonKind kind, const char *value, size_t value_len)
{
	int64_t number;
	bool exact;
	int step = last_step(builder);

	if (not_about_a_step(builder) || !check_form(builder, "after"))
		return false;
	if (kind != DTM_JSON_NUMBER || !dtm_decimal_parse(value, value_len, 0, &number, &exact) ||
		!exact)
		return refuse_after(builder, step, "must be an array of", "numbers");
	if (number == step)
		return refuse_after(builder, step, "names the", "itself");
	if (number < 0 || number >= DTM_MAX_STEPS)
		return refuse_unknown(builder, step, number);
	return add_after(builder, (uint16_t) number);
}

bool
dtm_spec_step_payload_bytes(DtmSpecBuilder *builder, int step, const char *bytes, size_t len)
{
	DtmText payload;

	if (builder->error.code != DTM_SPEC_OK)
		return false;
	if (step < 0 || step >= builder->trans.n_branches)
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, -1, "payloads", NULL,
							   "there is no step %d for a payload", step);
	if (len > DTM_MAX_PAYLOAD_LEN)
		return dtm_spec_refuse(builder, DTM_SPEC_LIMIT, step, "payload",
							   "Send large data by reference, e.g. by a key.",
							   "\"payload\" is longer than %d bytes", DTM_MAX_PAYLOAD_LEN);
	if (!dtm_spec_copy(builder, bytes, len, &payload))
		return false;
	if (len == 0)
		payload.data = NULL;
	builder->trans.branches[step].payload = payload;
	return true;
}

bool
dtm_spec_step_sql_name(DtmSpecBuilder *builder, int step, DtmRole role, const char *name,
					   size_t len)
{
	if (builder->error.code != DTM_SPEC_OK)
		return false;
	if (step < 0 || step >= builder->trans.n_branches || (int) role < 0 || role >= DTM_ROLES)
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, -1, "steps", NULL,
							   "there is no step %d for a function name", step);
	return dtm_spec_copy(builder, name, len, &builder->trans.branches[step].sql_name[role]);
}

DtmTransType
dtm_spec_type(const DtmSpecBuilder *builder)
{
	return builder->trans.type;
}

const char *
dtm_spec_role_key(const DtmSpecBuilder *builder, DtmRole role)
{
	return dtm_spec_form(builder->trans.type)->key[role];
}

const char *
dtm_spec_list_name(const DtmSpecBuilder *builder)
{
	return dtm_spec_form(builder->trans.type)->list;
}

const char *
dtm_spec_element(const DtmSpecBuilder *builder)
{
	const DtmStepForm *form = dtm_spec_form(builder->trans.type);

	/* branches that are registered have no list */
	return form == NULL ? "step" : form->element;
}

const char *
dtm_spec_step_example(const DtmSpecBuilder *builder)
{
	return dtm_spec_form(builder->trans.type)->example;
}

int
dtm_spec_step_count(const DtmSpecBuilder *builder)
{
	return builder->trans.n_branches;
}

DtmText
dtm_spec_step_url(const DtmSpecBuilder *builder, int step, DtmRole role)
{
	DtmText none = {"", 0};

	if (step < 0 || step >= builder->trans.n_branches || (int) role < 0 || role >= DTM_ROLES)
		return none;
	return builder->trans.branches[step].url[role];
}

DtmText
dtm_spec_step_payload(const DtmSpecBuilder *builder, int step)
{
	DtmText none = {"", 0};

	if (step < 0 || step >= builder->trans.n_branches)
		return none;
	return builder->trans.branches[step].payload;
}

bool
dtm_spec_finish(DtmSpecBuilder *builder, const char **packed, size_t *packed_len)
{
	DtmTrans *trans = &builder->trans;
	DtmRc rc;

	if (builder->error.code != DTM_SPEC_OK)
		return false;
	if (trans->n_branches == 0 && !dtm_trans_registers(trans) && !builder->may_be_empty)
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, -1, dtm_spec_list_name(builder),
							   dtm_spec_step_example(builder), "\"%s\" is empty",
							   dtm_spec_list_name(builder));
	for (int i = 0; i < trans->n_branches; i++)
	{
		if (!check_required(builder, i))
			return false;
		trans->branches[i].after = builder->extra[i].after;
		if (!dtm_spec_pack_headers(builder, &builder->extra[i].headers, &trans->branches[i].headers))
			return false;
	}
	if (!dtm_spec_pack_headers(builder, &builder->headers, &trans->headers) ||
		!check_order(builder))
		return false;

	rc = dtm_spec_pack(trans, builder->arena, packed, packed_len);
	if (rc == DTM_LIMIT)
		return dtm_spec_refuse(builder, DTM_SPEC_LIMIT, -1, "", NULL,
							   "the transaction is larger than %d bytes", DTM_MAX_SPEC_LEN);
	if (rc != DTM_OK)
		return dtm_spec_refuse(builder, DTM_SPEC_NOMEM, -1, "", NULL, "out of memory");
	return true;
}

static bool
set_action(DtmSpecBuilder *builder, DtmJsonKind kind, DtmText value)
{
	return set_url(builder, DTM_ROLE_FORWARD, "action", kind, value);
}

static bool
set_compensate(DtmSpecBuilder *builder, DtmJsonKind kind, DtmText value)
{
	return set_url(builder, DTM_ROLE_UNDO, "compensate", kind, value);
}

static bool
set_try(DtmSpecBuilder *builder, DtmJsonKind kind, DtmText value)
{
	return set_url(builder, DTM_ROLE_FORWARD, "try", kind, value);
}

static bool
set_confirm(DtmSpecBuilder *builder, DtmJsonKind kind, DtmText value)
{
	return set_url(builder, DTM_ROLE_CONFIRM, "confirm", kind, value);
}

static bool
set_cancel(DtmSpecBuilder *builder, DtmJsonKind kind, DtmText value)
{
	return set_url(builder, DTM_ROLE_UNDO, "cancel", kind, value);
}

/* Any JSON value but null is sent as it is written. */
static bool
set_payload(DtmSpecBuilder *builder, DtmJsonKind kind, DtmText value)
{
	return dtm_spec_step_payload_bytes(builder, last_step(builder), value.data,
									   kind == DTM_JSON_NULL ? 0 : value.len);
}

static bool
set_name(DtmSpecBuilder *builder, DtmJsonKind kind, DtmText value)
{
	int step = last_step(builder);

	if (kind == DTM_JSON_NULL)
		value.len = 0;
	else if (kind != DTM_JSON_STRING)
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, step, "name", NULL,
							   "\"name\" must be a string");
	return dtm_spec_check_name(builder, step, "name", value) &&
		dtm_spec_copy(builder, value.data, value.len, &last_branch(builder)->name);
}

bool
dtm_spec_check_name(DtmSpecBuilder *builder, int step, const char *field, DtmText value)
{
	if (value.len > DTM_MAX_NAME_LEN)
		return dtm_spec_refuse(builder, DTM_SPEC_LIMIT, step, field, NULL,
							   "\"%s\" is longer than %d bytes", field, DTM_MAX_NAME_LEN);
	if (!dtm_header_is_safe(value) || (value.len > 0 && memchr(value.data, '\t', value.len)))
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, step, field, NULL,
							   "\"%s\" contains a control character", field);
	return builder->error.code == DTM_SPEC_OK;
}

static bool
set_headers(DtmSpecBuilder *builder, DtmJsonKind kind, DtmText value)
{
	(void) value;
	last_extra(builder)->headers.n = 0;
	if (kind == DTM_JSON_NULL || kind == DTM_JSON_OBJECT)
		return true;
	return dtm_spec_refuse(builder, DTM_SPEC_INVALID, last_step(builder), "headers",
						   "\"headers\" is an object of strings, e.g. {\"X-Tenant\": \"7\"}.",
						   "\"headers\" must be an object");
}

static bool
set_after(DtmSpecBuilder *builder, DtmJsonKind kind, DtmText value)
{
	(void) value;
	last_branch(builder)->n_after = 0;
	if (kind == DTM_JSON_NULL || kind == DTM_JSON_ARRAY)
		return true;
	return refuse_after(builder, last_step(builder), "must be an array of", "numbers");
}

static bool
set_request_timeout(DtmSpecBuilder *builder, DtmJsonKind kind, DtmText value)
{
	int64_t ms = 0;
	bool exact;

	if (kind != DTM_JSON_NULL &&
		(kind != DTM_JSON_NUMBER || !dtm_decimal_parse(value.data, value.len, 3, &ms, &exact) ||
		 ms < 1 || ms > DTM_MAX_REQUEST_TIMEOUT_MS))
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, last_step(builder), "request_timeout",
							   "Give seconds, e.g. 2.5; at least 0.001.",
							   "\"request_timeout\" must be a number of seconds greater than 0 "
							   "and at most %d",
							   DTM_MAX_REQUEST_TIMEOUT_MS / 1000);
	last_branch(builder)->request_timeout_ms = (int32_t) ms;
	return true;
}

static bool
set_retry_limit(DtmSpecBuilder *builder, DtmJsonKind kind, DtmText value)
{
	int64_t limit = -1;
	bool exact = true;

	if (kind != DTM_JSON_NULL &&
		(kind != DTM_JSON_NUMBER || !dtm_decimal_parse(value.data, value.len, 0, &limit, &exact) ||
		 !exact || limit < 0 || limit > DTM_MAX_RETRY_LIMIT))
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, last_step(builder), "retry_limit", NULL,
							   "\"retry_limit\" must be an integer from 0 to %d",
							   DTM_MAX_RETRY_LIMIT);
	last_branch(builder)->retry_limit = (int32_t) limit;
	return true;
}

static bool
set_url(DtmSpecBuilder *builder, DtmRole role, const char *field, DtmJsonKind kind, DtmText value)
{
	DtmStepExtra *extra = last_extra(builder);

	if (kind == DTM_JSON_NULL)
	{
		value.len = 0;
		extra->given &= (uint8_t) ~BIT(role);
	}
	else if (kind != DTM_JSON_STRING)
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, last_step(builder), field, target_hint,
							   "\"%s\" must be a string", field);
	else
		extra->given |= (uint8_t) BIT(role);

	return dtm_spec_check_target(builder, last_step(builder), field, value,
								 builder->trans.type == DTM_TYPE_MSG) &&
		dtm_spec_copy_target(builder, value, &last_branch(builder)->url[role]);
}

bool
dtm_spec_check_target(DtmSpecBuilder *builder, int step, const char *field, DtmText value,
					  bool topics)
{
	DtmTarget target;
	const char *problem;

	if (builder->error.code != DTM_SPEC_OK)
		return false;
	problem = dtm_target_parse(value.data, value.len, &target);
	if (problem == NULL && topics && target.scheme == DTM_SCHEME_TOPIC)
	{
		problem = dtm_topic_check(target.rest.data, target.rest.len);
		if (problem == NULL)
			return true;
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, step, field, NULL, "\"%s\": %s", field,
							   problem);
	}
	if (problem == NULL && target.scheme == DTM_SCHEME_XA)
		problem = "has an unknown scheme"; /* for the branches that dtm_xa_exec makes */
	if (problem == NULL && target.scheme == DTM_SCHEME_TOPIC)
		problem = "is a topic, which only steps of messages can have";
	if (problem != NULL || target.scheme > DTM_SCHEME_PG)
		return refuse_target(builder, step, field, problem, value);
	return true;
}

static bool
refuse_target(DtmSpecBuilder *builder, int step, const char *field, const char *problem,
			  DtmText value)
{
	DtmQuoted quoted = dtm_spec_quote(value.data, value.len);
	DtmSpecErrorCode code = DTM_SPEC_INVALID;
	bool topics = builder->trans.type == DTM_TYPE_MSG && step >= 0;

	if (value.len > DTM_MAX_URL_LEN)
		code = DTM_SPEC_LIMIT;
	else if (problem == NULL)
	{
		code = DTM_SPEC_UNSUPPORTED;
		problem = "has a scheme that is not supported yet";
	}
	return dtm_spec_refuse(builder, code, step, field, topics ? msg_target_hint : target_hint,
						   "\"%s\" %s: \"%s\"", field, problem, quoted.text);
}

/* Does a step of this type have the key at all?  It is one of fields[]. */
static bool
check_form(DtmSpecBuilder *builder, const char *key)
{
	for (size_t i = 0; i < N_FIELDS; i++)
		if (strcmp(fields[i].key, key) == 0 && (fields[i].types & BIT(builder->trans.type)))
			return true;
	return dtm_spec_refuse(builder, DTM_SPEC_INVALID, last_step(builder), key,
						   dtm_spec_form(builder->trans.type)->keys,
						   "\"%s\" is not for a %s transaction", key,
						   dtm_type_name(builder->trans.type));
}

/* "must be an array of", "step", "numbers" */
static bool
refuse_after(DtmSpecBuilder *builder, int step, const char *before, const char *behind)
{
	const DtmStepForm *form = dtm_spec_form(builder->trans.type);

	return dtm_spec_refuse(builder, DTM_SPEC_INVALID, step, "after", form->after,
						   "\"after\" %s %s %s", before, form->element, behind);
}

static bool
refuse_unknown(DtmSpecBuilder *builder, int step, int64_t number)
{
	const DtmStepForm *form = dtm_spec_form(builder->trans.type);

	return dtm_spec_refuse(builder, DTM_SPEC_INVALID, step, "after", form->after,
						   "\"after\" names %s %lld, which does not exist", form->element,
						   (long long) number);
}

static bool
check_required(DtmSpecBuilder *builder, int step)
{
	const DtmStepForm *form = dtm_spec_form(builder->trans.type);

	for (int role = 0; role < DTM_ROLES; role++)
		if ((form->required & ~builder->extra[step].given) & BIT(role))
			return dtm_spec_refuse(builder, DTM_SPEC_INVALID, step, form->key[role], form->example,
								   "has no \"%s\"", form->key[role]);
	return true;
}

/* Keep the list sorted and free of repetitions; hostile ones are long. */
static bool
add_after(DtmSpecBuilder *builder, uint16_t step)
{
	DtmBranch *branch = last_branch(builder);
	DtmStepExtra *extra = last_extra(builder);
	int low = 0;
	int high = branch->n_after;

	while (low < high)
	{
		int middle = (low + high) / 2;

		if (extra->after[middle] < step)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < branch->n_after && extra->after[low] == step)
		return true;

	if (branch->n_after == extra->after_size)
	{
		int size = extra->after_size == 0 ? FIRST_AFTER : extra->after_size * 2;
		uint16_t *grown = dtm_spec_alloc(builder, (size_t) size * sizeof(uint16_t));

		if (grown == NULL)
			return false;
		if (branch->n_after > 0)
			memcpy(grown, extra->after, branch->n_after * sizeof(uint16_t));
		extra->after = grown;
		extra->after_size = size;
	}
	memmove(extra->after + low + 1, extra->after + low,
			(size_t) (branch->n_after - low) * sizeof(uint16_t));
	extra->after[low] = step;
	branch->n_after++;
	return true;
}

static bool
grow_steps(DtmSpecBuilder *builder)
{
	int size = builder->size == 0 ? FIRST_STEPS : builder->size * 2;
	DtmBranch *branches = dtm_spec_alloc(builder, (size_t) size * sizeof(DtmBranch));
	DtmStepExtra *extra = dtm_spec_alloc(builder, (size_t) size * sizeof(DtmStepExtra));

	if (branches == NULL || extra == NULL)
		return false;
	if (builder->size > 0)
	{
		memcpy(branches, builder->trans.branches, (size_t) builder->size * sizeof(DtmBranch));
		memcpy(extra, builder->extra, (size_t) builder->size * sizeof(DtmStepExtra));
	}
	builder->trans.branches = branches;
	builder->extra = extra;
	builder->size = size;
	return true;
}

static bool
check_order(DtmSpecBuilder *builder)
{
	const DtmTrans *trans = &builder->trans;
	int step = 0;
	DtmRc rc;

	for (int i = 0; i < trans->n_branches; i++)
	{
		const DtmBranch *branch = &trans->branches[i];

		/* sorted: the last is the greatest */
		if (branch->n_after > 0 && branch->after[branch->n_after - 1] >= trans->n_branches)
			return refuse_unknown(builder, i, branch->after[branch->n_after - 1]);
	}
	rc = dtm_spec_order_check(trans->branches, trans->n_branches, builder->arena, &step);
	if (rc == DTM_NOMEM)
		return dtm_spec_refuse(builder, DTM_SPEC_NOMEM, -1, "", NULL, "out of memory");
	if (rc != DTM_OK)
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, step, "after",
							   "Remove one of the references that lead back to it.",
							   "\"after\" forms a cycle: the %s waits for itself",
							   dtm_spec_element(builder));
	return true;
}

/* True, with an error, when there is no step that a member could belong to. */
static bool
not_about_a_step(DtmSpecBuilder *builder)
{
	if (builder->trans.n_branches == 0)
		dtm_spec_refuse(builder, DTM_SPEC_INVALID, -1, dtm_spec_list_name(builder),
						dtm_spec_step_example(builder), "there is no step yet");
	return builder->error.code != DTM_SPEC_OK;
}

static DtmBranch *
last_branch(DtmSpecBuilder *builder)
{
	return &builder->trans.branches[builder->trans.n_branches - 1];
}

static DtmStepExtra *
last_extra(DtmSpecBuilder *builder)
{
	return &builder->extra[builder->trans.n_branches - 1];
}

static int
last_step(const DtmSpecBuilder *builder)
{
	return builder->trans.n_branches - 1;
}
