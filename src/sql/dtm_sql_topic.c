/* -------------------------------------------------------------------------
 *
 * dtm_sql_topic.c
 *		dtm_topic_subscribe, dtm_topic_unsubscribe, dtm_topic_drop, and the
 *		subscribers of the topics that a message names.
 *
 * Whose subscriptions they are is a matter of EXECUTE on these functions:
 * the owner's, until he grants it.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/regproc.h"
#include "utils/varlena.h"

#include "dtm_compat.h"
#include "dtm_sql.h"
#include "dtm_url.h"

PG_FUNCTION_INFO_V1(dtm_sql_topic_subscribe);
PG_FUNCTION_INFO_V1(dtm_sql_topic_unsubscribe);
PG_FUNCTION_INFO_V1(dtm_sql_topic_drop);

static char *
topic_argument(FunctionCallInfo fcinfo)
{
	char *topic = dtm_sql_required_string(fcinfo, 0, "topic");
	const char *problem = dtm_topic_check(topic, strlen(topic));

	if (problem != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s", problem)));
	return topic;
}

void
dtm_sql_check_subscriber(const char *url)
{
	static const char hint[] =
		"A subscriber's target begins with \"http://\", \"https://\", \"sql:\" or \"pg://\".";
	DtmText value = {url, (uint32_t) strlen(url)};
	DtmTarget target;
	const char *problem =
		value.len == 0 ? "must not be empty" : dtm_target_parse(url, value.len, &target);

	if (problem == NULL && target.scheme == DTM_SCHEME_XA)
		problem = "has an unknown scheme";
	if (problem == NULL && target.scheme == DTM_SCHEME_TOPIC)
		problem = "is a topic, which cannot subscribe to another";
	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 value.len == 0 ? errmsg("\"url\" %s", problem)
								: errmsg("\"url\" %s: \"%s\"", problem, url),
				 errhint("%s", hint)));
	if (target.scheme > DTM_SCHEME_PG)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("\"url\" has a scheme that is not supported yet: \"%s\"", url),
				 errhint("%s", hint)));

	/* the search_path is that of whoever sends */
	if (target.scheme == DTM_SCHEME_SQL &&
		list_length(dtm_qualified_names(pnstrdup(target.rest.data, target.rest.len))) < 2)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"url\" names a function without its schema: \"%s\"", url),
				 errhint("Write \"sql:schema.function\".")));
	dtm_sql_check_url("", "url", value);
}

static void
no_topic(const char *prefix, const char *topic)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("%stopic not found: \"%s\"", prefix, topic),
			 errhint("dtm.topics has those with subscribers; dtm_topic_subscribe() makes one.")));
}

/*
 * dtm_topic_subscribe(topic, url, remark) - from now on messages to the topic
 * go to this URL, too.  23505 when it is there; 22004, 22023, 0A000, 42883,
 * 42P13, 42501 about the arguments, as for a step's action.
 */
Datum
dtm_sql_topic_subscribe(PG_FUNCTION_ARGS)
{
	char *topic = topic_argument(fcinfo);
	char *url = dtm_sql_required_string(fcinfo, 1, "url");
	char *remark = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));

	dtm_sql_check_subscriber(url);
	if (dtm_store_topic_add(topic, url, remark) != DTM_TOPIC_CHANGED)
		ereport(ERROR,
				(errcode(ERRCODE_UNIQUE_VIOLATION),
				 errmsg("this url exists in topic \"%s\": \"%s\"", topic, url)));
	PG_RETURN_VOID();
}

/*
 * dtm_topic_unsubscribe(topic, url) - messages submitted from now on do not
 * go there any more.  42704 when there is no such topic or URL; 22004, 22023.
 */
Datum
dtm_sql_topic_unsubscribe(PG_FUNCTION_ARGS)
{
	char *topic = topic_argument(fcinfo);
	char *url = dtm_sql_required_string(fcinfo, 1, "url");
	DtmTopicChange change = dtm_store_topic_remove(topic, url);

	if (change == DTM_TOPIC_NONE)
		no_topic("", topic);
	if (change != DTM_TOPIC_CHANGED)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("no such url in topic \"%s\": \"%s\"", topic, url)));
	PG_RETURN_VOID();
}

/*
 * dtm_topic_drop(topic) - all its subscriptions end, and it is no more; also
 * one whose last subscriber has gone.  42704, 22004, 22023.
 */
Datum
dtm_sql_topic_drop(PG_FUNCTION_ARGS)
{
	char *topic = topic_argument(fcinfo);

	if (dtm_store_topic_drop(topic) != DTM_TOPIC_CHANGED)
		no_topic("", topic);
	PG_RETURN_VOID();
}

bool
dtm_sql_has_topics(const DtmSpecBuilder *builder)
{
	for (int step = 0; step < dtm_spec_step_count(builder); step++)
	{
		if (dtm_spec_step_topic(builder, step).len > 0)
			return true;
	}
	return false;
}

bool
dtm_sql_topics_lead_somewhere(const DtmSpecBuilder *builder)
{
	for (int step = 0; step < dtm_spec_step_count(builder); step++)
	{
		DtmText name = dtm_spec_step_topic(builder, step);
		char **urls;

		if (name.len > 0 && dtm_store_topic_urls(pnstrdup(name.data, name.len), &urls) == 0)
			return false;
	}
	return true;
}

void
dtm_sql_expand_topics(DtmSpecBuilder *builder)
{
	bool ok = true;

	for (int step = 0; step < dtm_spec_step_count(builder); step++)
	{
		DtmText name = dtm_spec_step_topic(builder, step);
		char *topic;
		char **urls;
		int n;

		if (name.len == 0)
			continue;
		topic = pnstrdup(name.data, name.len);
		n = dtm_store_topic_urls(topic, &urls);
		if (n == 0)
			no_topic(psprintf("step %d: ", step), topic);
		for (int i = 0; i < n && ok; i++)
			ok = dtm_spec_step_subscriber(builder, step, urls[i], strlen(urls[i]));
	}
	if (!ok || !dtm_spec_expand(builder))
		dtm_sql_spec_error(dtm_spec_error(builder));
}
