/* -------------------------------------------------------------------------
 *
 * dtm_store_topic.c
 *		Who has subscribed to which topic, and how often that has changed.
 *
 * Whoever changes subscribers locks the topic's row in dtm.topic_version
 * first, so that versions are counted without gaps and nobody subscribes to a
 * topic while it is dropped.
 *
 * Used by backends, and by the coordinator for the HTTP API.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "dtm_store.h"
#include "dtm_store_plans.h"

DtmTopicChange
dtm_store_topic_add(const char *topic, const char *url, const char *remark)
{
	DtmStoreScope scope;
	Datum values[3] = {CStringGetTextDatum(topic), CStringGetTextDatum(url),
					   remark == NULL ? (Datum) 0 : CStringGetTextDatum(remark)};
	bool exists;
	bool added;

	dtm_store_begin(&scope);
	exists = dtm_plan_execute(PLAN_TOPIC_LOCK, values, NULL, false, false) > 0;
	added =
		dtm_plan_execute(PLAN_TOPIC_ADD, values, remark == NULL ? "  n" : NULL, false, false) > 0;
	if (added)
		dtm_plan_execute(exists ? PLAN_TOPIC_TOUCH : PLAN_TOPIC_CREATE, values, NULL, false, false);
	dtm_store_end(&scope);
	return added ? DTM_TOPIC_CHANGED : DTM_TOPIC_SAME_URL;
}

DtmTopicChange
dtm_store_topic_remove(const char *topic, const char *url)
{
	DtmStoreScope scope;
	Datum values[2] = {CStringGetTextDatum(topic), CStringGetTextDatum(url)};
	DtmTopicChange change = DTM_TOPIC_CHANGED;

	dtm_store_begin(&scope);
	if (dtm_plan_execute(PLAN_TOPIC_LOCK, values, NULL, false, false) == 0)
		change = DTM_TOPIC_NONE;
	else if (dtm_plan_execute(PLAN_TOPIC_REMOVE, values, NULL, false, false) > 0)
		dtm_plan_execute(PLAN_TOPIC_TOUCH, values, NULL, false, false);
	else if (dtm_plan_execute(PLAN_TOPIC_URLS, values, NULL, false, false) == 0)
		change = DTM_TOPIC_EMPTY;
	else
		change = DTM_TOPIC_NO_URL;
	dtm_store_end(&scope);
	return change;
}

DtmTopicChange
dtm_store_topic_drop(const char *topic)
{
	DtmStoreScope scope;
	Datum values[2] = {CStringGetTextDatum(topic), (Datum) 0};
	bool dropped;

	dtm_store_begin(&scope);

	/* in two statements: the second sees who subscribed while the first one waited */
	dropped = dtm_plan_execute(PLAN_TOPIC_DROP, values, NULL, false, false) > 0;
	if (dropped)
		dtm_plan_execute(PLAN_TOPIC_REMOVE, values, " n", false, false);
	dtm_store_end(&scope);
	return dropped ? DTM_TOPIC_CHANGED : DTM_TOPIC_NONE;
}

int
dtm_store_topic_urls(const char *topic, char ***urls)
{
	MemoryContext caller = CurrentMemoryContext;
	DtmStoreScope scope;
	Datum values[1] = {CStringGetTextDatum(topic)};
	int n;

	dtm_store_begin(&scope);
	n = (int) dtm_plan_execute(PLAN_TOPIC_URLS, values, NULL, false, false);
	*urls = MemoryContextAlloc(caller, sizeof(char *) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(caller);

		(*urls)[i] = TextDatumGetCString(dtm_plan_value(i, 1, NULL));
		MemoryContextSwitchTo(old);
	}
	dtm_store_end(&scope);
	return n;
}

/* Subscribers out of two arrays, which are read from the same rows in the same order. */
static void
take_subscribers(Datum urls, Datum remarks, DtmTopicRow *row)
{
	Datum *url;
	Datum *remark;
	bool *nulls;
	int n;

	deconstruct_array(DatumGetArrayTypeP(urls), TEXTOID, -1, false, TYPALIGN_INT, &url, &nulls,
					  &row->n);
	deconstruct_array(DatumGetArrayTypeP(remarks), TEXTOID, -1, false, TYPALIGN_INT, &remark,
					  &nulls, &n);
	if (n != row->n)
		elog(ERROR, "topic \"%s\" has %d subscribers and %d remarks", row->topic, row->n, n);
	row->subscribers = palloc(sizeof(DtmTopicSubscriber) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		row->subscribers[i].url = TextDatumGetCString(url[i]);
		row->subscribers[i].remark = nulls[i] ? NULL : TextDatumGetCString(remark[i]);
	}
}

int
dtm_store_topic_list(const char *topic, int64 before, int64 limit, DtmTopicRow **rows)
{
	MemoryContext caller = CurrentMemoryContext;
	DtmStoreScope scope;
	Datum values[3] = {topic == NULL ? (Datum) 0 : CStringGetTextDatum(topic),
					   Int64GetDatum(before), Int64GetDatum(limit)};
	int n;

	dtm_store_begin(&scope);
	n = (int) dtm_plan_execute(PLAN_TOPIC_LIST, values, topic == NULL ? "n  " : NULL, false, false);
	*rows = MemoryContextAlloc(caller, sizeof(DtmTopicRow) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(caller);
		DtmTopicRow *row = &(*rows)[i];

		row->id = DatumGetInt64(dtm_plan_value(i, 1, NULL));
		row->topic = TextDatumGetCString(dtm_plan_value(i, 2, NULL));
		row->version = DatumGetInt64(dtm_plan_value(i, 3, NULL));
		row->created_at = DatumGetTimestampTz(dtm_plan_value(i, 4, NULL));
		row->updated_at = DatumGetTimestampTz(dtm_plan_value(i, 5, NULL));
		take_subscribers(dtm_plan_value(i, 6, NULL), dtm_plan_value(i, 7, NULL), row);
		MemoryContextSwitchTo(old);
	}
	dtm_store_end(&scope);
	return n;
}
