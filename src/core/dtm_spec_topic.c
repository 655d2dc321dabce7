/* -------------------------------------------------------------------------
 *
 * dtm_spec_topic.c
 *		Topics in a spec: a step that names one becomes a branch per
 *		subscriber, and back, for comparing.
 *
 * Not here: who has subscribed (src/sql/dtm_sql_topic.c), the bytes
 * (dtm_spec_pack.c).  Runs in backends.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_spec_builder.h"

#include <string.h>

#include "dtm_url.h"

#define FIRST_SUBSCRIBERS 4

static const char topic_scheme[] = "topic://";

#define SCHEME_LEN (sizeof(topic_scheme) - 1)

const char *
dtm_topic_check(const char *topic, size_t len)
{
	if (len == 0)
		return "a topic must not be empty";
	if (len > DTM_MAX_TOPIC_LEN)
		return "a topic must not be longer than 128 bytes";
	for (size_t i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) topic[i];

		if (c <= 0x20 || c == 0x7F)
			return "a topic must not contain blanks or control characters";
	}
	return NULL;
}

bool
dtm_spec_copy_target(DtmSpecBuilder *builder, DtmText value, DtmText *out)
{
	char small[SCHEME_LEN + DTM_MAX_TOPIC_LEN];
	DtmTarget target;

	if (dtm_target_parse(value.data, value.len, &target) == NULL &&
		target.scheme == DTM_SCHEME_TOPIC && target.rest.len <= DTM_MAX_TOPIC_LEN)
	{
		memcpy(small, topic_scheme, SCHEME_LEN);
		memcpy(small + SCHEME_LEN, target.rest.data, target.rest.len);
		value.data = small;
		value.len = (uint32_t) SCHEME_LEN + target.rest.len;
	}
	return dtm_spec_copy(builder, value.data, value.len, out);
}

DtmText
dtm_spec_step_topic(const DtmSpecBuilder *builder, int step)
{
	DtmText url = dtm_spec_step_url(builder, step, DTM_ROLE_FORWARD);
	DtmText none = {"", 0};
	DtmTarget target;

	if (builder->trans.type != DTM_TYPE_MSG || url.len == 0 ||
		dtm_target_parse(url.data, url.len, &target) != NULL || target.scheme != DTM_SCHEME_TOPIC)
		return none;
	return target.rest;
}

bool
dtm_spec_step_subscriber(DtmSpecBuilder *builder, int step, const char *url, size_t len)
{
	DtmText value = {url, len > UINT32_MAX ? UINT32_MAX : (uint32_t) len};
	DtmStepExtra *extra;

	if (builder->error.code != DTM_SPEC_OK)
		return false;
	if (dtm_spec_step_topic(builder, step).len == 0)
		return dtm_spec_refuse(builder, DTM_SPEC_INVALID, -1, "action", NULL,
							   "there is no step %d that names a topic", step);
	if (!dtm_spec_check_target(builder, step, "action", value, false))
		return false;

	extra = &builder->extra[step];
	if (extra->n_subscribers == extra->subscribers_size)
	{
		int size = extra->subscribers_size == 0 ? FIRST_SUBSCRIBERS : extra->subscribers_size * 2;
		DtmText *grown = dtm_spec_alloc(builder, (size_t) size * sizeof(DtmText));

		if (grown == NULL)
			return false;
		if (extra->n_subscribers > 0)
			memcpy(grown, extra->subscribers, (size_t) extra->n_subscribers * sizeof(DtmText));
		extra->subscribers = grown;
		extra->subscribers_size = size;
	}
	if (!dtm_spec_copy(builder, value.data, value.len, &extra->subscribers[extra->n_subscribers]))
		return false;
	extra->n_subscribers++;
	return true;
}

bool
dtm_spec_expand(DtmSpecBuilder *builder)
{
	DtmTrans *trans = &builder->trans;
	DtmBranch *branches;
	DtmStepExtra *extra;
	size_t size = 0;
	uint16_t n = 0;

	if (builder->error.code != DTM_SPEC_OK)
		return false;
	for (int i = 0; i < trans->n_branches; i++)
		size += builder->extra[i].n_subscribers > 0 ? (size_t) builder->extra[i].n_subscribers : 1;
	if (size > DTM_MAX_STEPS)
		return dtm_spec_refuse(builder, DTM_SPEC_LIMIT, -1, "steps", NULL,
							   "the topics have too many subscribers: a transaction has up to %d "
							   "branches",
							   DTM_MAX_STEPS);
	if (size == 0)
		return true;
	branches = dtm_spec_alloc(builder, size * sizeof(DtmBranch));
	extra = dtm_spec_alloc(builder, size * sizeof(DtmStepExtra));
	if (branches == NULL || extra == NULL)
		return false;

	for (int i = 0; i < trans->n_branches; i++)
	{
		const DtmStepExtra *from = &builder->extra[i];
		DtmText topic = dtm_spec_step_topic(builder, i);

		branches[n] = trans->branches[i];
		extra[n] = *from;
		if (from->n_subscribers == 0)
		{
			n++;
			continue;
		}
		for (int k = 0; k < from->n_subscribers; k++, n++)
		{
			branches[n] = trans->branches[i];
			branches[n].url[DTM_ROLE_FORWARD] = from->subscribers[k];
			branches[n].subscriber = (uint16_t) (k + 1);
			branches[n].topic = topic;
			extra[n] = *from;
			extra[n].n_subscribers = 0;
		}
	}
	trans->branches = branches;
	trans->n_branches = n;
	builder->extra = extra;
	builder->size = n;
	return true;
}

int
dtm_spec_step_number(const DtmSpecBuilder *builder, int branch)
{
	int step = -1;

	for (int i = 0; i <= branch && i < builder->trans.n_branches; i++)
		step += builder->trans.branches[i].subscriber <= 1;
	return step;
}

DtmRc
dtm_spec_pack_asked(const DtmTrans *trans, DtmArena *arena, const char **packed, size_t *packed_len)
{
	DtmTrans asked = *trans;
	DtmText no_name = {"", 0};

	asked.branches = NULL;
	asked.n_branches = 0;
	if (dtm_trans_registers(trans))
		return dtm_spec_pack(&asked, arena, packed, packed_len);
	if (trans->n_branches > 0)
	{
		asked.branches = arena->alloc(arena->context, trans->n_branches * sizeof(DtmBranch));
		if (asked.branches == NULL)
			return DTM_NOMEM;
	}
	for (int i = 0; i < trans->n_branches; i++)
	{
		DtmBranch *branch = &asked.branches[asked.n_branches];
		char *url;

		if (trans->branches[i].subscriber > 1)
			continue;
		*branch = trans->branches[i];
		asked.n_branches++;
		if (branch->subscriber == 0)
			continue;
		url = arena->alloc(arena->context, SCHEME_LEN + branch->topic.len);
		if (url == NULL)
			return DTM_NOMEM;
		memcpy(url, topic_scheme, SCHEME_LEN);
		memcpy(url + SCHEME_LEN, branch->topic.data, branch->topic.len);
		branch->url[DTM_ROLE_FORWARD].data = url;
		branch->url[DTM_ROLE_FORWARD].len = (uint32_t) SCHEME_LEN + branch->topic.len;
		branch->sql_name[DTM_ROLE_FORWARD] = no_name;
		branch->subscriber = 0;
	}
	return dtm_spec_pack(&asked, arena, packed, packed_len);
}
