/* -------------------------------------------------------------------------
 *
 * dtm_serve_topic.c
 *		Topics over the wire: subscribe, unsubscribe, deletion; what
 *		dtm_topic_subscribe() and its like do, with DTM's answers.
 *
 * Not here: lists of topics (dtm_serve_read.c), messages to them
 * (dtm_serve_write.c), the right to any of it (dtm_serve_access.c).  Runs in
 * the coordinator.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "dtm_serve.h"
#include "dtm_sql.h"
#include "dtm_url.h"

static void
answer(DtmServeCall *call, DtmTopicChange change)
{
	static const DtmApiRefusal refusals[] = {
		[DTM_TOPIC_SAME_URL] = DTM_API_URL_EXISTS,
		[DTM_TOPIC_NONE] = DTM_API_NO_TOPIC,
		[DTM_TOPIC_EMPTY] = DTM_API_TOPIC_EMPTY,
		[DTM_TOPIC_NO_URL] = DTM_API_NO_URL,
	};
	DtmText none = {"", 0};

	if (change == DTM_TOPIC_CHANGED)
	{
		call->wrote = true;
		dtm_serve_say(call, DTM_API_SUCCESS, "");
		return;
	}
	dtm_api_refuse(&call->api,
				   call->api.route == DTM_API_DELETE_TOPIC ? DTM_API_NO_ROW : refusals[change],
				   none, 0, 0, &call->arena, &call->answer);
}

/* Would it run something with rights of the owner, whom nobody has asked? */
static bool
is_beyond_anonymous(const char *url)
{
	DtmTarget target;

	return dtm_target_parse(url, strlen(url), &target) == NULL &&
		(target.scheme == DTM_SCHEME_SQL || target.scheme == DTM_SCHEME_PG);
}

void
dtm_serve_topic(DtmServeCall *call)
{
	const DtmApiTopic *asked = &call->api.topic;
	char *topic = dtm_serve_cstring(asked->topic);
	char *url = dtm_serve_cstring(asked->url);

	if (call->api.route == DTM_API_UNSUBSCRIBE)
		answer(call, dtm_store_topic_remove(topic, url));
	else if (call->api.route == DTM_API_DELETE_TOPIC)
		answer(call, dtm_store_topic_drop(topic));
	else if (call->anonymous && is_beyond_anonymous(url))
		dtm_serve_say(call, DTM_API_FORBIDDEN,
					  "targets that begin with \"sql:\" or \"pg://\" need a token, or a role for requests without one (the setting dtm.http_role)");
	else
	{
		dtm_sql_check_subscriber(url);
		answer(call,
			   dtm_store_topic_add(topic, url,
								   asked->remark.len > 0 ? dtm_serve_cstring(asked->remark) : NULL));
	}
}
