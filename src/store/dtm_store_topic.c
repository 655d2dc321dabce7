/* -------------------------------------------------------------------------
 *
 * dtm_store_topic.c
 *		Who has subscribed to which topic.
 *
 * Used by backends.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "dtm_store.h"
#include "dtm_store_plans.h"

bool
dtm_store_topic_add(const char *topic, const char *url, const char *remark)
{
	DtmStoreScope scope;
	Datum values[3] = {CStringGetTextDatum(topic), CStringGetTextDatum(url),
					   remark == NULL ? (Datum) 0 : CStringGetTextDatum(remark)};
	bool added;

	dtm_store_begin(&scope);
	added =
		dtm_plan_execute(PLAN_TOPIC_ADD, values, remark == NULL ? "  n" : NULL, false, false) > 0;
	dtm_store_end(&scope);
	return added;
}

bool
dtm_store_topic_remove(const char *topic, const char *url)
{
	DtmStoreScope scope;
	Datum values[2] = {CStringGetTextDatum(topic),
					   url == NULL ? (Datum) 0 : CStringGetTextDatum(url)};
	bool removed;

	dtm_store_begin(&scope);
	removed =
		dtm_plan_execute(PLAN_TOPIC_REMOVE, values, url == NULL ? " n" : NULL, false, false) > 0;
	dtm_store_end(&scope);
	return removed;
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
