/* -------------------------------------------------------------------------
 *
 * dtm_serve_read.c
 *		What the HTTP API only looks at: query, all, scanKV, queryKV.
 *
 * What a request may not see is not there for it.  A page costs no more than
 * a bounded number of rows, because the loop that answers it drives the
 * transactions, too: "all" looks at MAX_SCAN of them, and when too few of
 * these are wanted the page is short, and says where to go on.
 *
 * Not here: how a transaction is shown (src/sql/dtm_face.h).  Runs in the
 * coordinator.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "dtm_arena.h"
#include "dtm_face.h"
#include "dtm_serve.h"
#include "dtm_sql.h"
#include "dtm_store_list.h"

#define MAX_SCAN 10000 /* rows that one request looks at */
#define SCAN_CHUNK 500
#define LOAD_ROWS 100                /* read at once ... */
#define LOAD_BYTES (4 * 1024 * 1024) /* ... or so many bytes */
#define MAX_TEXT DTM_API_MAX_ANSWER  /* of all texts of a page */
#define MAX_TOPICS DTM_API_MAX_LIMIT /* that queryKV tells of */

/* Of the requests that are done together: beyond it they get less, or come again. */
#define LONG_BATCH_US 100000
#define BIG_BATCH_BYTES (64 * 1024 * 1024)

static const DtmText nothing = {NULL, 0};

static DtmText
text_of(const char *string)
{
	DtmText result = {string, string == NULL ? 0 : (uint32) strlen(string)};

	return result;
}

static bool
is_word(DtmText word, const char *name)
{
	return name != NULL && word.len == strlen(name) && memcmp(word.data, name, word.len) == 0;
}

/*
 * A text that is looked for, in the database's encoding; NULL when nothing
 * there can be equal to it.
 */
static char *
wanted_text(DtmText from)
{
	char *converted;
	DtmText back;

	if (from.len > 0 &&
		(memchr(from.data, '\0', from.len) != NULL ||
		 !pg_verify_mbstr(PG_UTF8, from.data, (int) from.len, true)))
		return NULL;
	converted = dtm_store_text_of_wire(from.data, from.len);
	back = dtm_store_wire_text(text_of(converted));
	if (back.len != from.len || (from.len > 0 && memcmp(back.data, from.data, from.len) != 0))
		return NULL;
	return converted;
}

/* ---- who may see what ---- */

/* Of many rows in turn, most of them one role's. */
typedef struct Viewer
{
	Oid role;
	bool anonymous;
	bool monitor;
	Oid asked; /* about the newest owner */
	bool mine;
} Viewer;

/*
 * A request without a token acts as the extension's owner, who is a member of
 * every role as a rule; so it sees what that one owns, and no more.
 */
static void
viewer_init(Viewer *viewer, const DtmServeCall *call)
{
	viewer->role = call->role;
	viewer->anonymous = call->anonymous;
	viewer->monitor = !call->anonymous && has_privs_of_role(call->role, ROLE_PG_MONITOR);
	viewer->asked = InvalidOid;
	viewer->mine = false;
}

/* Is it his own, with everything in it? */
static bool
is_mine(Viewer *viewer, Oid owner)
{
	if (!OidIsValid(owner))
		return false;
	if (viewer->asked != owner)
	{
		viewer->asked = owner;
		viewer->mine =
			viewer->anonymous ? viewer->role == owner : has_privs_of_role(viewer->role, owner);
	}
	return viewer->mine;
}

static bool
may_see(Viewer *viewer, Oid owner)
{
	return is_mine(viewer, owner) || viewer->monitor;
}

/* ---- rows ---- */

/* What is in the bytes, as this viewer may see it; false when they are damaged. */
static bool
unpack(const DtmListed *listed, bool mine, DtmTrans *trans)
{
	if (!dtm_sql_try_unpack(listed->spec, listed->state, listed->created_at, trans))
		return false;
	trans->status = listed->status;
	trans->reason = text_of(listed->reason);
	dtm_face_show(trans, mine);
	return true;
}

/*
 * DTM has a time for all of them: for a finished one that of its last round,
 * and for a new one its first, also as long as nobody has worked it out.
 */
static DtmTime
next_cron_time(const DtmListed *listed, int32 interval)
{
	if (dtm_status_is_final(listed->status))
		return listed->finished_at;
	if (listed->status == DTM_STATUS_PREPARED && listed->next_run_at == listed->created_at)
		return listed->created_at + interval * USECS_PER_SEC;
	return listed->next_run_at;
}

static void
fill(DtmServeCall *call, const DtmListed *listed, const DtmTrans *trans, DtmApiTransRow *row)
{
	dtm_api_trans_row(trans, row);
	row->id = listed->id;
	row->create_time = listed->created_at;
	row->update_time = listed->updated_at;
	if (listed->status == DTM_STATUS_SUCCEED)
		row->finish_time = listed->finished_at;
	else if (listed->status == DTM_STATUS_FAILED)
		row->rollback_time = listed->finished_at;
	row->next_cron_interval = dtm_face_interval(trans, listed->failures);
	row->next_cron_time = next_cron_time(listed, row->next_cron_interval);
	row->gid = dtm_store_wire_text(text_of(listed->gid));
	row->owner = dtm_store_wire_text(text_of(GetUserNameFromId(listed->owner, true)));
	row->result = dtm_face_result(trans, listed->result);
	if (!dtm_api_custom_data(trans, &call->arena, &row->custom_data))
		row->custom_data = nothing;
}

/* One whose packed columns cannot be read: what the others say. */
static void
fill_damaged(const DtmListed *listed, DtmApiTransRow *row)
{
	memset(row, 0, sizeof(*row));
	row->id = listed->id;
	row->create_time = listed->created_at;
	row->update_time = listed->updated_at;
	row->gid = dtm_store_wire_text(text_of(listed->gid));
	row->type = listed->type;
	row->status = listed->status;
	row->rollback_reason = text_of(DTM_SQL_UNREADABLE);
}

/* ---- query ---- */

/* The answer is too long with them: who asked knows what it has sent. */
static void
leave_out_data(DtmApiBranchRow *rows, int n)
{
	for (int i = 0; i < n; i++)
		rows[i].bin_data = nothing;
}

static void
query(DtmServeCall *call)
{
	char *gid = wanted_text(call->api.gid);
	DtmApiBranchRow *branches = NULL;
	DtmApiTransRow row;
	DtmListed listed;
	DtmTrans trans;
	Viewer viewer;
	int n = 0;

	viewer_init(&viewer, call);
	if (gid == NULL || !dtm_store_list_one(gid, &listed) || !may_see(&viewer, listed.owner))
	{
		dtm_api_show_query(NULL, NULL, 0, &call->arena, &call->answer);
		return;
	}
	if (unpack(&listed, is_mine(&viewer, listed.owner), &trans))
	{
		fill(call, &listed, &trans, &row);
		n = dtm_face_branches(&trans, listed.id, row.gid, &branches);
	}
	else
		fill_damaged(&listed, &row);
	dtm_api_show_query(&row, branches, n, &call->arena, &call->answer);
	if (call->answer.status != 200)
	{
		leave_out_data(branches, n);
		dtm_api_show_query(&row, branches, n, &call->arena, &call->answer);
	}
}

bool
dtm_serve_show_workflow(DtmServeCall *call, const char *gid)
{
	DtmApiBranchRow *progresses = NULL;
	DtmApiTransRow row;
	DtmListed listed;
	DtmTrans trans;
	int n;

	if (!dtm_store_list_one(gid, &listed) || !unpack(&listed, true, &trans))
		return false;
	fill(call, &listed, &trans, &row);
	n = dtm_face_branches(&trans, listed.id, row.gid, &progresses);
	dtm_api_show_workflow(&row, progresses, n, &call->arena, &call->answer);
	return true;
}

/* ---- all ---- */

/* What is looked for, and what was found. */
typedef struct Page
{
	DtmServeCall *call;
	Viewer viewer;
	DtmListFrom from;
	DtmStatus status;  /* NONE = any */
	DtmTransType type; /* 0 = any */
	DtmListId *ids;    /* wanted ones, newest first */
	int n_ids;
	DtmApiTransRow *rows;
	int n;
	size_t text; /* bytes in them */
	int64 next;  /* the next page begins in front of it, 0 = there is none */
} Page;

/* The filters as numbers; false when nothing can pass them. */
static bool
take_filters(Page *page)
{
	const DtmApiList *list = &page->call->api.list;

	page->from = DTM_LIST_ALL;
	for (int status = 1; list->status.len > 0 && status <= DTM_STATUS_LAST; status++)
	{
		if (is_word(list->status, dtm_status_name((DtmStatus) status)))
			page->status = (DtmStatus) status;
	}
	for (int type = 1; list->trans_type.len > 0 && type <= DTM_TYPE_LAST; type++)
	{
		if (is_word(list->trans_type, dtm_type_name((DtmTransType) type)))
			page->type = (DtmTransType) type;
	}
	if (page->status != DTM_STATUS_NONE)
		page->from = dtm_status_is_final(page->status) ? DTM_LIST_FINISHED : DTM_LIST_UNFINISHED;
	return (list->status.len == 0 || page->status != DTM_STATUS_NONE) &&
		(list->trans_type.len == 0 || page->type != 0);
}

static bool
is_wanted(Page *page, const DtmListId *id)
{
	const DtmApiList *list = &page->call->api.list;

	return may_see(&page->viewer, id->owner) &&
		(page->status == DTM_STATUS_NONE || id->status == page->status) &&
		(page->type == 0 || id->type == page->type) &&
		(list->from == 0 || id->created_at >= list->from) &&
		(list->until == 0 || id->created_at <= list->until);
}

/* Many such requests at once must not stop the loop for long. */
static int
may_look_at(void)
{
	return GetCurrentTimestamp() - GetCurrentTransactionStartTimestamp() > LONG_BATCH_US
		? SCAN_CHUNK
		: MAX_SCAN;
}

/* Numbers of one page, in front of the position. */
static void
scan(Page *page)
{
	const DtmApiList *list = &page->call->api.list;
	DtmListId *chunk = palloc(sizeof(DtmListId) * SCAN_CHUNK);
	int64 before = list->before;
	int most = may_look_at();

	page->ids = palloc(sizeof(DtmListId) * list->limit);
	for (int looked = 0; looked < most;)
	{
		int want = Min(SCAN_CHUNK, most - looked);
		int n;

		/* without filters as many as the page has room for will do */
		if (page->from == DTM_LIST_ALL && page->type == 0)
			want = Min(want, list->limit - page->n_ids);
		n = dtm_store_list_ids(page->from, before, want, chunk);
		for (int i = 0; i < n; i++)
		{
			before = chunk[i].id;
			if (!is_wanted(page, &chunk[i]))
				continue;
			page->ids[page->n_ids++] = chunk[i];
			if (page->n_ids == list->limit)
			{
				page->next = before;
				return;
			}
		}
		if (n < want)
			return;
		looked += n;
	}
	page->next = before;
}

static DtmText
keep(Page *page, DtmText from, MemoryContext context)
{
	char *copy;

	if (from.len == 0)
		return nothing;
	copy = MemoryContextAlloc(context, from.len);
	memcpy(copy, from.data, from.len);
	page->text += from.len;
	from.data = copy;
	return from;
}

/* A row whose texts outlive what it was made of. */
static void
add_row(Page *page, const DtmApiTransRow *from, MemoryContext context)
{
	DtmApiTransRow *row = &page->rows[page->n++];

	*row = *from;
	row->gid = keep(page, from->gid, context);
	row->query_prepared = keep(page, from->query_prepared, context);
	row->protocol = keep(page, from->protocol, context);
	row->custom_data = keep(page, from->custom_data, context);
	row->owner = keep(page, from->owner, context);
	row->result = keep(page, from->result, context);
	row->rollback_reason = keep(page, from->rollback_reason, context);
	row->headers = keep(page, from->headers, context);
}

/* Whole rows of ids[first ... first + n - 1], in the current context. */
static void
load(Page *page, int first, int n, MemoryContext context)
{
	int64 ids[LOAD_ROWS];
	DtmListed *listed = palloc(sizeof(DtmListed) * n);
	int found;

	for (int i = 0; i < n; i++)
		ids[i] = page->ids[first + i].id;
	found = dtm_store_list_rows(ids, n, listed);
	for (int i = 0; i < n; i++)
	{
		DtmApiTransRow row;
		DtmTrans trans;
		int k = 0;

		/* they come in this order, as a rule */
		while (k < found && listed[(i + k) % found].id != ids[i])
			k++;
		if (k == found)
			continue; /* purged meanwhile */
		k = (i + k) % found;
		if (unpack(&listed[k], is_mine(&page->viewer, listed[k].owner), &trans))
			fill(page->call, &listed[k], &trans, &row);
		else
			fill_damaged(&listed[k], &row);
		add_row(page, &row, context);
	}
}

/* Portion by portion, for a page of long transactions would not fit into the memory. */
static void
load_all(Page *page)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext portion =
		AllocSetContextCreate(context, "dtm serve page", ALLOCSET_DEFAULT_SIZES);
	DtmArena arena = page->call->arena;

	page->rows = palloc(sizeof(DtmApiTransRow) * Max(page->n_ids, 1));
	for (int first = 0; first < page->n_ids;)
	{
		int64 bytes = 0;
		int n = 0;

		while (n < LOAD_ROWS && first + n < page->n_ids &&
			   (n == 0 || bytes + page->ids[first + n].size <= LOAD_BYTES))
			bytes += page->ids[first + n++].size;
		MemoryContextSwitchTo(portion);
		page->call->arena = dtm_arena(portion);
		load(page, first, n, context);
		MemoryContextSwitchTo(context);
		MemoryContextReset(portion);
		first += n;
		if (page->text > MAX_TEXT && first < page->n_ids)
		{
			page->next = page->ids[first - 1].id;
			break;
		}
	}
	page->call->arena = arena;
	MemoryContextDelete(portion);
}

/* A page that is too long is cut in half until it is not. */
static void
show(Page *page)
{
	DtmServeCall *call = page->call;

	dtm_api_show_all(&call->api.list, page->rows, page->n, page->next, &call->arena, &call->answer);
	while (call->answer.status != 200 && page->n > 1)
	{
		page->n /= 2;
		page->next = page->rows[page->n - 1].id;
		dtm_api_show_all(&call->api.list, page->rows, page->n, page->next, &call->arena,
						 &call->answer);
	}
}

/* The only one with this gid; other filters do not count. */
static void
find_gid(Page *page)
{
	char *gid = wanted_text(page->call->api.list.gid);
	DtmListed listed;
	DtmTrans trans;

	page->rows = palloc(sizeof(DtmApiTransRow));
	if (gid == NULL || !dtm_store_list_one(gid, &listed) || !may_see(&page->viewer, listed.owner))
		return;
	if (unpack(&listed, is_mine(&page->viewer, listed.owner), &trans))
		fill(page->call, &listed, &trans, page->rows);
	else
		fill_damaged(&listed, page->rows);
	page->n = 1;
}

static void
all(DtmServeCall *call)
{
	Page page;

	memset(&page, 0, sizeof(page));
	page.call = call;
	viewer_init(&page.viewer, call);
	if (call->api.list.gid.len > 0)
		find_gid(&page);
	else if (take_filters(&page))
	{
		scan(&page);
		load_all(&page);
	}
	show(&page);
}

/* ---- topics ---- */

static void
put_topic(DtmServeCall *call, const DtmTopicRow *topic, DtmApiKvRow *row)
{
	DtmApiSubscriber *subscribers = palloc(sizeof(DtmApiSubscriber) * Max(topic->n, 1));

	for (int i = 0; i < topic->n; i++)
	{
		subscribers[i].url = dtm_store_wire_text(text_of(topic->subscribers[i].url));
		subscribers[i].remark = dtm_store_wire_text(text_of(topic->subscribers[i].remark));
	}
	memset(row, 0, sizeof(*row));
	row->id = topic->id;
	row->create_time = topic->created_at;
	row->update_time = topic->updated_at;
	row->cat = text_of("topics");
	row->k = dtm_store_wire_text(text_of(topic->topic));
	row->version = topic->version;
	if (!dtm_api_topic_value(subscribers, topic->n, &call->arena, &row->v))
		row->v = text_of("[]");
}

/* Topics are the only category; who may send to one may know who gets it, as in dtm.topics. */
static void
show_topics(DtmServeCall *call)
{
	const DtmApiList *list = &call->api.list;
	bool one = call->api.route == DTM_API_QUERY_KV && list->key.len > 0;
	char *key = one ? wanted_text(list->key) : NULL;
	DtmTopicRow *topics = NULL;
	DtmApiKvRow *rows;
	int n = 0;

	if ((list->cat.len == 0 || is_word(list->cat, "topics")) && (!one || key != NULL))
	{
		if (call->api.route == DTM_API_SCAN_KV)
			n = dtm_store_topic_list(NULL, list->before, list->limit, &topics);
		else
			n = dtm_store_topic_list(key, PG_INT64_MAX, MAX_TOPICS, &topics);
	}
	rows = palloc(sizeof(DtmApiKvRow) * Max(n, 1));
	for (int i = 0; i < n; i++)
		put_topic(call, &topics[i], &rows[i]);
	dtm_api_show_kv(&call->api, rows, n, &call->arena, &call->answer);
}

void
dtm_serve_read(DtmServeCall *call)
{
	if (MemoryContextMemAllocated(CurrentMemoryContext, true) > BIG_BATCH_BYTES)
		dtm_api_result(&call->api, DTM_API_BUSY,
					   text_of("too many long answers at once; try again"), &call->arena,
					   &call->answer);
	else if (call->api.route == DTM_API_QUERY)
		query(call);
	else if (call->api.route == DTM_API_ALL)
		all(call);
	else
		show_topics(call);
}
