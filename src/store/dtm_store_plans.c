/* -------------------------------------------------------------------------
 *
 * dtm_store_plans.c
 *		Every SQL statement that C executes, prepared once per process.
 *
 * All names are qualified: a text is analyzed under the search_path of
 * whoever calls, but executed as the owner of the tables.  So are operators,
 * and syntax that looks one up unseen (IS DISTINCT FROM, IN, NULLIF, BETWEEN,
 * LIKE, CASE x WHEN) cannot be used: whoever calls could bring his own.
 * The statements of the coordinator run in a session without sequential
 * scans, hash and merge joins (dtm_coordinator.c sets that), so that a plan
 * made while a table was empty cannot turn slow later.
 *
 * Used by backends, the coordinator and the executors.
 *
 * -------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "dtm_store_plans.h"

#define MAX_ARGS 10

typedef struct PlanDef
{
	const char *sql;
	int nargs;
	Oid types[MAX_ARGS];
} PlanDef;

/*
 * Is this finished transaction d not the only one who knows that what it has
 * reserved is sold?  See dtm.reservation_fate().
 */
#define RESERVATIONS_SETTLED                                                                     \
	" AND (d.status OPERATOR(pg_catalog.<>) 4::pg_catalog.int2 OR NOT EXISTS ("                  \
	"SELECT FROM dtm.trans AS t JOIN dtm.reservation AS r ON r.gid OPERATOR(pg_catalog.=) t.gid" \
	" JOIN dtm.stock AS s ON s.resource OPERATOR(pg_catalog.=) r.resource"                       \
	" WHERE t.id OPERATOR(pg_catalog.=) d.id AND r.state OPERATOR(pg_catalog.=) 'reserved'"      \
	" AND pg_catalog.pg_has_role(t.owner, s.owner, 'USAGE')))"

/*
 * The packed form of a transaction t with the branches that were registered
 * later; sagas and messages, types 1 and 2, have none.
 */
#define WHOLE_SPEC                                                                 \
	" CASE WHEN t.trans_type OPERATOR(pg_catalog.<) 3 THEN t.spec"                 \
	" ELSE t.spec OPERATOR(pg_catalog.||) coalesce(("                              \
	"SELECT pg_catalog.string_agg(b.spec, '' ORDER BY b.seq) FROM dtm.branch AS b" \
	" WHERE b.id OPERATOR(pg_catalog.=) t.id), '') END"

/*
 * What is shown of a transaction: what is parked, finished, or waits for
 * another one has no next time.
 */
#define LISTED_COLUMNS                                                                 \
	" t.id, t.owner::pg_catalog.oid, t.trans_type, coalesce(l.status, d.status),"      \
	" t.created_at, coalesce(l.updated_at, d.finished_at), d.finished_at,"             \
	" CASE WHEN l.parked OR l.next_run_at OPERATOR(pg_catalog.=) 'infinity' THEN NULL" \
	" WHEN l.next_run_at OPERATOR(pg_catalog.=) '-infinity' THEN pg_catalog.now()"     \
	" ELSE l.next_run_at END,"                                                         \
	" l.failures::pg_catalog.int8, t.gid, coalesce(l.reason, d.reason), coalesce(l.result, d.result),"

#define LISTED_JOINS                                               \
	" LEFT JOIN dtm.live AS l ON l.id OPERATOR(pg_catalog.=) t.id" \
	" LEFT JOIN dtm.done AS d ON d.id OPERATOR(pg_catalog.=) t.id"

/* clang-format off */
static const PlanDef plan_defs[PLAN_COUNT] = {
	[PLAN_INSERT_TRANS] = {
		"INSERT INTO dtm.trans (id, gid, trans_type, owner, created_at, spec)"
		" VALUES ($1, $2, $3, $4, $5, $6)",
		6, {INT8OID, TEXTOID, INT2OID, REGROLEOID, TIMESTAMPTZOID, BYTEAOID}
	},
	[PLAN_INSERT_TRANS_GIVEN] = {
		"INSERT INTO dtm.trans (id, gid, trans_type, owner, created_at, spec)"
		" VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT ON CONSTRAINT trans_gid_key DO NOTHING",
		6, {INT8OID, TEXTOID, INT2OID, REGROLEOID, TIMESTAMPTZOID, BYTEAOID}
	},
	[PLAN_INSERT_LIVE] = {
		"INSERT INTO dtm.live (id, status, next_run_at, updated_at) VALUES ($1, $2, $3, $4)",
		4, {INT8OID, INT2OID, TIMESTAMPTZOID, TIMESTAMPTZOID}
	},
	[PLAN_INSERT_FOLLOWER] = {
		"INSERT INTO dtm.live (id, status, next_run_at, updated_at, after_id)"
		" SELECT $1, $2, 'infinity', $3, l.id FROM dtm.live AS l"
		" WHERE l.id OPERATOR(pg_catalog.=) $4",
		4, {INT8OID, INT2OID, TIMESTAMPTZOID, INT8OID}
	},
	[PLAN_FOLLOWERS] = {
		"SELECT l.id FROM dtm.live AS l WHERE l.after_id OPERATOR(pg_catalog.=) ANY ($1)"
		" AND l.next_run_at OPERATOR(pg_catalog.=) 'infinity'",
		1, {INT8ARRAYOID}
	},
	[PLAN_RELEASE] = {
		"UPDATE dtm.live SET next_run_at = $2"
		" WHERE after_id OPERATOR(pg_catalog.=) ANY ($1)"
		" AND next_run_at OPERATOR(pg_catalog.=) 'infinity' RETURNING id",
		2, {INT8ARRAYOID, TIMESTAMPTZOID}
	},
	[PLAN_MOVE_FOLLOWERS] = {
		"UPDATE dtm.live SET after_id = $2"
		" WHERE after_id OPERATOR(pg_catalog.=) ANY ($1)"
		" AND next_run_at OPERATOR(pg_catalog.=) 'infinity'",
		2, {INT8ARRAYOID, INT8OID}
	},
	[PLAN_FIND] = {
		"SELECT t.id, t.owner::pg_catalog.oid, t.trans_type, coalesce(l.status, d.status),"
		" t.created_at, t.xmin, coalesce(l.parked, false), coalesce(l.xmin, t.xmin)"
		" FROM dtm.trans AS t"
		" LEFT JOIN dtm.live AS l ON l.id OPERATOR(pg_catalog.=) t.id"
		" LEFT JOIN dtm.done AS d ON d.id OPERATOR(pg_catalog.=) t.id"
		" WHERE t.gid OPERATOR(pg_catalog.=) $1",
		1, {TEXTOID}
	},
	[PLAN_FIND_BODY] = {
		"SELECT t.id, t.owner::pg_catalog.oid, t.trans_type, coalesce(l.status, d.status),"
		" t.created_at, t.xmin, coalesce(l.parked, false), coalesce(l.xmin, t.xmin),"
		WHOLE_SPEC ", coalesce(l.state, d.state), coalesce(l.reason, d.reason), d.result"
		" FROM dtm.trans AS t"
		" LEFT JOIN dtm.live AS l ON l.id OPERATOR(pg_catalog.=) t.id"
		" LEFT JOIN dtm.done AS d ON d.id OPERATOR(pg_catalog.=) t.id"
		" WHERE t.gid OPERATOR(pg_catalog.=) $1",
		1, {TEXTOID}
	},
	[PLAN_LOCK] = {
		"SELECT l.status, l.parked, l.state, l.reason,"
		" CASE WHEN l.next_run_at OPERATOR(pg_catalog.=) 'infinity' THEN l.after_id END"
		" FROM dtm.live AS l"
		" WHERE l.id OPERATOR(pg_catalog.=) $1 FOR UPDATE",
		1, {INT8OID}
	},
	[PLAN_MARK_RETRY] = {
		"UPDATE dtm.live SET next_run_at = '-infinity', parked = false, problem = NULL"
		" WHERE id OPERATOR(pg_catalog.=) $1",
		1, {INT8OID}
	},
	[PLAN_REGISTER] = {
		"INSERT INTO dtm.branch (id, seq, spec, answer) VALUES ($1, $2, $3, $4)",
		4, {INT8OID, INT4OID, BYTEAOID, TEXTOID}
	},
	[PLAN_ANSWERS] = {
		"SELECT b.seq, b.answer FROM dtm.branch AS b WHERE b.id OPERATOR(pg_catalog.=) $1"
		" ORDER BY b.seq",
		1, {INT8OID}
	},
	[PLAN_ANSWER] = {
		"UPDATE dtm.branch SET answer = $3 WHERE id OPERATOR(pg_catalog.=) $1"
		" AND seq OPERATOR(pg_catalog.=) $2",
		3, {INT8OID, INT4OID, TEXTOID}
	},
	[PLAN_ANSWER_MANY] = {
		"UPDATE dtm.branch AS b SET answer = r.answer"
		" FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3))"
		" AS r (id, seq, answer)"
		" WHERE b.id OPERATOR(pg_catalog.=) r.id AND b.seq OPERATOR(pg_catalog.=) r.seq",
		3, {INT8ARRAYOID, INT4ARRAYOID, TEXTARRAYOID}
	},
	[PLAN_SIGNAL_ADD] = {
		"INSERT INTO dtm.signal (id, seq, event, payload)"
		" SELECT $1, coalesce(pg_catalog.max(s.seq), 0) OPERATOR(pg_catalog.+) 1, $2, $3"
		" FROM dtm.signal AS s WHERE s.id OPERATOR(pg_catalog.=) $1"
		" HAVING pg_catalog.count(*) OPERATOR(pg_catalog.<) $4::pg_catalog.int8",
		4, {INT8OID, TEXTOID, TEXTOID, INT4OID}
	},
	[PLAN_SIGNAL_TAKE] = {
		"DELETE FROM dtm.signal AS s USING (SELECT pg_catalog.min(o.seq) AS seq"
		" FROM dtm.signal AS o WHERE o.id OPERATOR(pg_catalog.=) $1"
		" AND o.event OPERATOR(pg_catalog.=) $2) AS f"
		" WHERE s.id OPERATOR(pg_catalog.=) $1 AND s.seq OPERATOR(pg_catalog.=) f.seq"
		" RETURNING s.payload",
		2, {INT8OID, TEXTOID}
	},
	[PLAN_RESULT] = {
		"UPDATE dtm.live SET ver = ver OPERATOR(pg_catalog.+) 1, status = $2, state = $3,"
		" failures = 0, next_run_at = $4, updated_at = $4, result = $5"
		" WHERE id OPERATOR(pg_catalog.=) $1",
		5, {INT8OID, INT2OID, BYTEAOID, TIMESTAMPTZOID, JSONBOID}
	},
	[PLAN_TOUCH] = {
		"UPDATE dtm.live SET ver = ver OPERATOR(pg_catalog.+) 1, next_run_at = $2, updated_at = $2"
		" WHERE id OPERATOR(pg_catalog.=) $1",
		2, {INT8OID, TIMESTAMPTZOID}
	},
	[PLAN_RESPEC] = {
		"UPDATE dtm.trans SET spec = $2 WHERE id OPERATOR(pg_catalog.=) $1",
		2, {INT8OID, BYTEAOID}
	},
	[PLAN_LATER] = {
		"SELECT t.gid FROM (SELECT d.due_at, d.id FROM dtm.timer AS d"
		" WHERE d.due_at OPERATOR(pg_catalog.>) $1"
		" AND d.due_at OPERATOR(pg_catalog.<) 'infinity'"
		" ORDER BY d.due_at, d.id LIMIT 20000) AS w"
		" JOIN dtm.live AS l ON l.id OPERATOR(pg_catalog.=) w.id"
		" JOIN dtm.trans AS t ON t.id OPERATOR(pg_catalog.=) w.id"
		" WHERE l.next_run_at OPERATOR(pg_catalog.=) w.due_at AND NOT l.parked"
		" AND (t.owner OPERATOR(pg_catalog.=) $2"
		" OR ($3 AND pg_catalog.pg_has_role($2, t.owner, 'USAGE')))"
		" ORDER BY w.due_at, w.id LIMIT $4",
		4, {TIMESTAMPTZOID, OIDOID, BOOLOID, INT4OID}
	},
	[PLAN_OUTCOME] = {
		"SELECT d.status, d.reason FROM dtm.done AS d WHERE d.id OPERATOR(pg_catalog.=) $1",
		1, {INT8OID}
	},
	[PLAN_STEER] = {
		"UPDATE dtm.live SET ver = ver OPERATOR(pg_catalog.+) 1, status = $2, state = $3,"
		" reason = $4, failures = 0, next_run_at = $5, updated_at = $5,"
		" parked = parked AND status OPERATOR(pg_catalog.=) $2,"
		" problem = CASE WHEN status OPERATOR(pg_catalog.=) $2 THEN problem END"
		" WHERE id OPERATOR(pg_catalog.=) $1",
		5, {INT8OID, INT2OID, BYTEAOID, TEXTOID, TIMESTAMPTZOID}
	},
	[PLAN_STOP] = {
		"WITH gone AS (DELETE FROM dtm.live WHERE id OPERATOR(pg_catalog.=) $1"
		" RETURNING id, attempts, state)"
		" INSERT INTO dtm.done (id, trans_type, status, created_at, finished_at, attempts,"
		" retries, state, reason, result)"
		" SELECT g.id, $2, $3, $4, $5, g.attempts, 0, g.state, $6, $7 FROM gone AS g",
		7, {INT8OID, INT2OID, INT2OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, JSONBOID}
	},
	[PLAN_PURGE_OWNED] = {
		"WITH old AS (SELECT d.id FROM dtm.done AS d JOIN dtm.trans AS t"
		" ON t.id OPERATOR(pg_catalog.=) d.id"
		" WHERE d.finished_at OPERATOR(pg_catalog.<) $1"
		" AND ($3 OR pg_catalog.pg_has_role($2, t.owner, 'USAGE'))" RESERVATIONS_SETTLED "),"
		" d AS (DELETE FROM dtm.done USING old WHERE done.id OPERATOR(pg_catalog.=) old.id),"
		" r AS (DELETE FROM dtm.branch USING old WHERE branch.id OPERATOR(pg_catalog.=) old.id),"
		" s AS (DELETE FROM dtm.signal USING old WHERE signal.id OPERATOR(pg_catalog.=) old.id),"
		" b AS (DELETE FROM dtm.barrier USING dtm.trans AS t JOIN old"
		" ON old.id OPERATOR(pg_catalog.=) t.id"
		" WHERE barrier.gid OPERATOR(pg_catalog.=) t.gid"
		" AND ($3 OR barrier.barrier_id OPERATOR(pg_catalog.=) 'sql'))"
		" DELETE FROM dtm.trans USING old WHERE trans.id OPERATOR(pg_catalog.=) old.id",
		3, {TIMESTAMPTZOID, OIDOID, BOOLOID}
	},
	[PLAN_CLAIMED] = {
		"SELECT n.xmin FROM dtm.node AS n"
		" WHERE n.system_identifier OPERATOR(pg_catalog.=) $1"
		" AND n.database_oid OPERATOR(pg_catalog.=) $2"
		" AND coalesce(n.note, '') OPERATOR(pg_catalog.<>) 'CREATE EXTENSION'",
		2, {INT8OID, OIDOID}
	},
	[PLAN_CLAIM] = {
		"INSERT INTO dtm.node (system_identifier, database_oid, note)"
		" SELECT $1, $2, 'first submit' WHERE NOT EXISTS (SELECT FROM dtm.trans)",
		2, {INT8OID, OIDOID}
	},
	[PLAN_PAUSE_REASON] = {
		"SELECT r.reason FROM ("
		"SELECT 1 AS rank, pg_catalog.format('paused by dtm_pause(): %s', n.note) AS reason"
		" FROM dtm.node AS n WHERE n.system_identifier OPERATOR(pg_catalog.=) 0"
		" UNION ALL SELECT 2, pg_catalog.format('restored or cloned from database %s of system %s',"
		" n.database_oid, n.system_identifier) FROM dtm.node AS n"
		" WHERE n.system_identifier OPERATOR(pg_catalog.<>) 0"
		" AND (n.system_identifier OPERATOR(pg_catalog.<>) $1"
		" OR n.database_oid OPERATOR(pg_catalog.<>) $2)"
		" UNION ALL SELECT 3, 'restored: its transactions were not submitted here'"
		" WHERE EXISTS (SELECT FROM dtm.live)"
		" AND NOT EXISTS (SELECT FROM dtm.node AS n"
		" WHERE n.system_identifier OPERATOR(pg_catalog.=) $1"
		" AND n.database_oid OPERATOR(pg_catalog.=) $2"
		" AND coalesce(n.note, '') OPERATOR(pg_catalog.<>) 'CREATE EXTENSION')"
		") AS r ORDER BY r.rank LIMIT 1",
		2, {INT8OID, OIDOID}
	},
	[PLAN_PAUSE] = {
		"INSERT INTO dtm.node (system_identifier, database_oid, note) VALUES (0, 0, $1)",
		1, {TEXTOID}
	},
	[PLAN_RESUME_FORGET] = {
		"DELETE FROM dtm.node",
		0, {0}
	},
	[PLAN_RESUME_OWN] = {
		"INSERT INTO dtm.node (system_identifier, database_oid, note)"
		" VALUES ($1, $2, 'dtm_resume')",
		2, {INT8OID, OIDOID}
	},
	[PLAN_LOAD] = {
		"SELECT l.id, l.ver, l.status, l.parked, l.next_run_at, l.state, l.reason,"
		" t.gid, t.trans_type, t.owner::pg_catalog.oid, t.created_at," WHOLE_SPEC
		" FROM pg_catalog.unnest($1) AS u (id)"
		" JOIN dtm.live AS l ON l.id OPERATOR(pg_catalog.=) u.id"
		" JOIN dtm.trans AS t ON t.id OPERATOR(pg_catalog.=) u.id",
		1, {INT8ARRAYOID}
	},
	[PLAN_PROGRESS] = {
		"UPDATE dtm.live AS l SET ver = l.ver OPERATOR(pg_catalog.+) 1, status = r.status,"
		" failures = r.failures, attempts = r.attempts,"
		" next_run_at = CASE WHEN NOT r.saw_retry"
		" AND l.next_run_at OPERATOR(pg_catalog.=) '-infinity' THEN l.next_run_at"
		" ELSE r.next_run_at END,"
		" updated_at = $8, state = r.state, reason = r.reason"
		" FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3),"
		" pg_catalog.unnest($4), pg_catalog.unnest($5), pg_catalog.unnest($6),"
		" pg_catalog.unnest($7), pg_catalog.unnest($9), pg_catalog.unnest($10))"
		" AS r (id, ver, status, failures, attempts, next_run_at, state, reason, saw_retry)"
		" WHERE l.id OPERATOR(pg_catalog.=) r.id AND l.ver OPERATOR(pg_catalog.=) r.ver"
		" RETURNING l.id",
		10, {INT8ARRAYOID, INT4ARRAYOID, INT2ARRAYOID, INT4ARRAYOID, INT4ARRAYOID,
			 TIMESTAMPTZARRAYOID, BYTEAARRAYOID, TIMESTAMPTZOID, TEXTARRAYOID, BOOLARRAYOID}
	},
	[PLAN_TIMER] = {
		"INSERT INTO dtm.timer (due_at, id) SELECT r.due_at, r.id"
		" FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS r (due_at, id)"
		" ON CONFLICT DO NOTHING",
		2, {TIMESTAMPTZARRAYOID, INT8ARRAYOID}
	},
	[PLAN_TIMER_ONE] = {
		"INSERT INTO dtm.timer (due_at, id) VALUES ($1, $2)",
		2, {TIMESTAMPTZOID, INT8OID}
	},
	[PLAN_FINISH] = {
		"WITH r AS (SELECT * FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2),"
		" pg_catalog.unnest($3), pg_catalog.unnest($4), pg_catalog.unnest($5),"
		" pg_catalog.unnest($6), pg_catalog.unnest($7), pg_catalog.unnest($8),"
		" pg_catalog.unnest($10))"
		" AS r (id, ver, status, attempts, retries, trans_type, created_at, state, reason)),"
		" gone AS (DELETE FROM dtm.live AS l USING r"
		" WHERE l.id OPERATOR(pg_catalog.=) r.id AND l.ver OPERATOR(pg_catalog.=) r.ver"
		" RETURNING l.id, r.status, r.attempts, r.retries, r.trans_type, r.created_at,"
		" r.state, r.reason, l.result)"
		" INSERT INTO dtm.done (id, trans_type, status, created_at, finished_at, attempts,"
		" retries, state, reason, result)"
		" SELECT g.id, g.trans_type, g.status, g.created_at, $9, g.attempts, g.retries,"
		" g.state, g.reason, g.result FROM gone AS g RETURNING id",
		10, {INT8ARRAYOID, INT4ARRAYOID, INT2ARRAYOID, INT4ARRAYOID, INT4ARRAYOID, INT2ARRAYOID,
			 TIMESTAMPTZARRAYOID, BYTEAARRAYOID, TIMESTAMPTZOID, TEXTARRAYOID}
	},
	[PLAN_CLAIM_TIMERS] = {
		"WITH due AS (SELECT t.due_at, t.id FROM dtm.timer AS t"
		" WHERE t.due_at OPERATOR(pg_catalog.>=) $1 AND t.due_at OPERATOR(pg_catalog.<=) $2"
		" AND t.id OPERATOR(pg_catalog.%) $4::pg_catalog.int8"
		" OPERATOR(pg_catalog.=) $3::pg_catalog.int8"
		" ORDER BY t.due_at, t.id LIMIT $5)"
		" DELETE FROM dtm.timer AS t USING due"
		" WHERE t.due_at OPERATOR(pg_catalog.=) due.due_at"
		" AND t.id OPERATOR(pg_catalog.=) due.id RETURNING t.id, t.due_at",
		5, {TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, INT4OID, INT4OID}
	},
	[PLAN_NEXT_TIMER] = {
		"SELECT t.due_at FROM dtm.timer AS t WHERE t.due_at OPERATOR(pg_catalog.>=) $1"
		" AND t.id OPERATOR(pg_catalog.%) $3::pg_catalog.int8"
		" OPERATOR(pg_catalog.=) $2::pg_catalog.int8"
		" ORDER BY t.due_at, t.id LIMIT 1",
		3, {TIMESTAMPTZOID, INT4OID, INT4OID}
	},
	[PLAN_SWEEP] = {
		"SELECT l.id, NOT l.parked AND l.next_run_at OPERATOR(pg_catalog.<=) $2"
		" AND l.id OPERATOR(pg_catalog.%) $4::pg_catalog.int8"
		" OPERATOR(pg_catalog.=) $3::pg_catalog.int8"
		" FROM dtm.live AS l WHERE l.id OPERATOR(pg_catalog.>) $1"
		" ORDER BY l.id LIMIT $5",
		5, {INT8OID, TIMESTAMPTZOID, INT4OID, INT4OID, INT4OID}
	},
	[PLAN_PARK] = {
		"UPDATE dtm.live SET parked = true, ver = ver OPERATOR(pg_catalog.+) 1, problem = $2,"
		" updated_at = pg_catalog.now() WHERE id OPERATOR(pg_catalog.=) $1",
		2, {INT8OID, TEXTOID}
	},
	[PLAN_PURGE] = {
		"WITH old AS (SELECT d.id FROM dtm.done AS d"
		" WHERE d.finished_at OPERATOR(pg_catalog.<) $1" RESERVATIONS_SETTLED " LIMIT $2),"
		" d AS (DELETE FROM dtm.done USING old WHERE done.id OPERATOR(pg_catalog.=) old.id),"
		" r AS (DELETE FROM dtm.branch USING old WHERE branch.id OPERATOR(pg_catalog.=) old.id),"
		" s AS (DELETE FROM dtm.signal USING old WHERE signal.id OPERATOR(pg_catalog.=) old.id),"
		" b AS (DELETE FROM dtm.barrier USING dtm.trans AS t JOIN old"
		" ON old.id OPERATOR(pg_catalog.=) t.id"
		" WHERE barrier.gid OPERATOR(pg_catalog.=) t.gid)"
		" DELETE FROM dtm.trans USING old WHERE trans.id OPERATOR(pg_catalog.=) old.id",
		2, {TIMESTAMPTZOID, INT4OID}
	},
	[PLAN_LIST_ALL] = {
		"SELECT t.id, t.owner::pg_catalog.oid, t.trans_type, NULL::pg_catalog.int2, t.created_at,"
		" pg_catalog.octet_length(t.spec)::pg_catalog.int8 FROM dtm.trans AS t"
		" WHERE t.id OPERATOR(pg_catalog.<) $1 ORDER BY t.id DESC LIMIT $2",
		2, {INT8OID, INT4OID}
	},
	[PLAN_LIST_UNFINISHED] = {
		"SELECT w.id, t.owner::pg_catalog.oid, t.trans_type, w.status, t.created_at,"
		" pg_catalog.octet_length(t.spec)::pg_catalog.int8"
		" FROM (SELECT l.id, l.status FROM dtm.live AS l"
		" WHERE l.id OPERATOR(pg_catalog.<) $1 ORDER BY l.id DESC LIMIT $2) AS w"
		" LEFT JOIN dtm.trans AS t ON t.id OPERATOR(pg_catalog.=) w.id ORDER BY w.id DESC",
		2, {INT8OID, INT4OID}
	},
	[PLAN_LIST_FINISHED] = {
		"SELECT w.id, t.owner::pg_catalog.oid, t.trans_type, w.status, t.created_at,"
		" pg_catalog.octet_length(t.spec)::pg_catalog.int8"
		" FROM (SELECT d.id, d.status FROM dtm.done AS d"
		" WHERE d.id OPERATOR(pg_catalog.<) $1 ORDER BY d.id DESC LIMIT $2) AS w"
		" LEFT JOIN dtm.trans AS t ON t.id OPERATOR(pg_catalog.=) w.id ORDER BY w.id DESC",
		2, {INT8OID, INT4OID}
	},
	[PLAN_LIST_ROWS] = {
		"SELECT" LISTED_COLUMNS " t.spec, NULL::pg_catalog.bytea"
		" FROM pg_catalog.unnest($1) AS u (id)"
		" JOIN dtm.trans AS t ON t.id OPERATOR(pg_catalog.=) u.id" LISTED_JOINS,
		1, {INT8ARRAYOID}
	},
	[PLAN_LIST_ONE] = {
		"SELECT" LISTED_COLUMNS WHOLE_SPEC ", coalesce(l.state, d.state)"
		" FROM dtm.trans AS t" LISTED_JOINS
		" WHERE t.gid OPERATOR(pg_catalog.=) $1",
		1, {TEXTOID}
	},
	[PLAN_TOPIC_ADD] = {
		"INSERT INTO dtm.topic (topic, url, remark) VALUES ($1, $2, $3)"
		" ON CONFLICT ON CONSTRAINT topic_pkey DO NOTHING",
		3, {TEXTOID, TEXTOID, TEXTOID}
	},
	[PLAN_TOPIC_REMOVE] = {
		"DELETE FROM dtm.topic AS t WHERE t.topic OPERATOR(pg_catalog.=) $1"
		" AND ($2 IS NULL OR t.url OPERATOR(pg_catalog.=) $2)",
		2, {TEXTOID, TEXTOID}
	},
	[PLAN_TOPIC_URLS] = {
		"SELECT t.url FROM dtm.topic AS t WHERE t.topic OPERATOR(pg_catalog.=) $1"
		" ORDER BY t.created_at, t.url",
		1, {TEXTOID}
	},
	[PLAN_TOPIC_LOCK] = {
		"SELECT v.version FROM dtm.topic_version AS v WHERE v.topic OPERATOR(pg_catalog.=) $1"
		" FOR UPDATE",
		1, {TEXTOID}
	},
	[PLAN_TOPIC_TOUCH] = {
		"UPDATE dtm.topic_version AS v SET version = v.version OPERATOR(pg_catalog.+) 1,"
		" updated_at = pg_catalog.clock_timestamp() WHERE v.topic OPERATOR(pg_catalog.=) $1",
		1, {TEXTOID}
	},
	[PLAN_TOPIC_CREATE] = {
		"INSERT INTO dtm.topic_version AS v (topic) VALUES ($1)"
		" ON CONFLICT ON CONSTRAINT topic_version_pkey"
		" DO UPDATE SET version = v.version OPERATOR(pg_catalog.+) 1,"
		" updated_at = pg_catalog.clock_timestamp()",
		1, {TEXTOID}
	},
	[PLAN_TOPIC_DROP] = {
		"DELETE FROM dtm.topic_version AS v WHERE v.topic OPERATOR(pg_catalog.=) $1",
		1, {TEXTOID}
	},
	[PLAN_TOPIC_LIST] = {
		"SELECT v.id, v.topic, v.version, v.created_at, v.updated_at,"
		" ARRAY(SELECT t.url FROM dtm.topic AS t WHERE t.topic OPERATOR(pg_catalog.=) v.topic"
		" ORDER BY t.created_at, t.url),"
		" ARRAY(SELECT t.remark FROM dtm.topic AS t WHERE t.topic OPERATOR(pg_catalog.=) v.topic"
		" ORDER BY t.created_at, t.url)"
		" FROM dtm.topic_version AS v WHERE ($1 IS NULL OR v.topic OPERATOR(pg_catalog.=) $1)"
		" AND v.id OPERATOR(pg_catalog.<) $2 ORDER BY v.id DESC LIMIT $3",
		3, {TEXTOID, INT8OID, INT8OID}
	},
	[PLAN_HTTP_TOKEN] = {
		"SELECT k.role::pg_catalog.oid, coalesce(k.expires_at, 'infinity') FROM dtm.http_token AS k"
		" WHERE k.hash OPERATOR(pg_catalog.=) $1",
		1, {BYTEAOID}
	},
	[PLAN_HTTP_TOKEN_ADD] = {
		"INSERT INTO dtm.http_token (hash, name, role, expires_at) VALUES ($1, $2, $3, $4)"
		" ON CONFLICT ON CONSTRAINT http_token_name_key DO NOTHING",
		4, {BYTEAOID, TEXTOID, REGROLEOID, TIMESTAMPTZOID}
	},
	[PLAN_HTTP_TOKEN_ROLE] = {
		"SELECT k.role::pg_catalog.oid FROM dtm.http_token AS k"
		" WHERE k.name OPERATOR(pg_catalog.=) $1",
		1, {TEXTOID}
	},
	[PLAN_HTTP_TOKEN_DROP] = {
		"DELETE FROM dtm.http_token AS k WHERE k.name OPERATOR(pg_catalog.=) $1"
		" AND k.role OPERATOR(pg_catalog.=) $2",
		2, {TEXTOID, OIDOID}
	},
	[PLAN_HTTP_TOKEN_TIDY] = {
		"DELETE FROM dtm.http_token AS k WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles AS r"
		" WHERE r.oid OPERATOR(pg_catalog.=) k.role)",
		0, {0}
	},
	[PLAN_HTTP_FUNCTION] = {
		"SELECT p.oid FROM pg_catalog.pg_depend AS d"
		" JOIN pg_catalog.pg_proc AS p ON p.oid OPERATOR(pg_catalog.=) d.objid"
		" WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass"
		" AND d.refobjid OPERATOR(pg_catalog.=) $1"
		" AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass"
		" AND d.deptype OPERATOR(pg_catalog.=) 'e'"
		" AND p.proname OPERATOR(pg_catalog.=) $2::pg_catalog.name"
		" ORDER BY p.oid LIMIT 1",
		2, {OIDOID, TEXTOID}
	},
	[PLAN_BARRIER_FORWARD] = {
		"INSERT INTO dtm.barrier (trans_type, gid, branch_id, op, barrier_id, reason)"
		" VALUES ($1, $2, $3, $4, $5, $6)"
		" ON CONFLICT ON CONSTRAINT uniq_barrier DO NOTHING RETURNING op",
		6, {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID}
	},
	[PLAN_BARRIER_BACKWARD] = {
		"INSERT INTO dtm.barrier (trans_type, gid, branch_id, op, barrier_id, reason)"
		" VALUES ($1, $2, $3, $7, $5, $6), ($1, $2, $3, $4, $5, $6)"
		" ON CONFLICT ON CONSTRAINT uniq_barrier DO NOTHING RETURNING op",
		7, {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID}
	},
	[PLAN_BARRIER_REASON] = {
		"SELECT reason FROM dtm.barrier"
		" WHERE gid OPERATOR(pg_catalog.=) $1 AND branch_id OPERATOR(pg_catalog.=) $2"
		" AND op OPERATOR(pg_catalog.=) $3 AND barrier_id OPERATOR(pg_catalog.=) $4",
		4, {TEXTOID, TEXTOID, TEXTOID, TEXTOID}
	},
	[PLAN_XA_KNOWN] = {
		"SELECT 1 FROM dtm.xa_server AS s WHERE s.server OPERATOR(pg_catalog.=) $1"
		" AND s.role OPERATOR(pg_catalog.=) $2",
		2, {OIDOID, OIDOID}
	},
	[PLAN_XA_NOTE] = {
		"INSERT INTO dtm.xa_server (server, role) VALUES ($1, $2)"
		" ON CONFLICT ON CONSTRAINT xa_server_pkey DO NOTHING",
		2, {OIDOID, OIDOID}
	},
	[PLAN_XA_SERVERS] = {
		"SELECT s.server, s.role, f.srvname, s.failures FROM dtm.xa_server AS s"
		" LEFT JOIN pg_catalog.pg_foreign_server AS f ON f.oid OPERATOR(pg_catalog.=) s.server"
		" AND EXISTS (SELECT FROM pg_catalog.pg_roles AS r"
		" WHERE r.oid OPERATOR(pg_catalog.=) s.role)"
		" ORDER BY s.server, s.role LIMIT 1000",
		0, {0}
	},
	[PLAN_XA_FORGET] = {
		"DELETE FROM dtm.xa_server AS s WHERE s.server OPERATOR(pg_catalog.=) $1"
		" AND s.role OPERATOR(pg_catalog.=) $2",
		2, {OIDOID, OIDOID}
	},
	[PLAN_XA_PROBLEM] = {
		"UPDATE dtm.xa_server AS s SET failures = $3, next_try_at = $4, problem = $5,"
		" since = CASE WHEN s.problem IS NULL THEN pg_catalog.now() ELSE s.since END"
		" WHERE s.server OPERATOR(pg_catalog.=) $1 AND s.role OPERATOR(pg_catalog.=) $2",
		5, {OIDOID, OIDOID, INT4OID, TIMESTAMPTZOID, TEXTOID}
	},
	[PLAN_STOCK_SET] = {
		"SELECT dtm.stock_set_as($1, $2, $3, $4)",
		4, {OIDOID, TEXTOID, INT8OID, INT4OID}
	},
	[PLAN_STOCK_ADD] = {
		"SELECT dtm.stock_add_as($1, $2, $3)",
		3, {OIDOID, TEXTOID, INT8OID}
	},
	[PLAN_STOCK_DROP] = {
		"SELECT dtm.stock_drop_as($1, $2)",
		2, {OIDOID, TEXTOID}
	},
	[PLAN_RESERVE] = {
		"SELECT dtm.reserve_as($1, $2, $3, $4, $5, $6, $7)",
		7, {OIDOID, TEXTOID, INT8OID, TEXTOID, TEXTOID, INTERVALOID, BOOLOID}
	},
	[PLAN_RESERVE_CONFIRM] = {
		"SELECT dtm.confirm_as($1, $2, $3)",
		3, {OIDOID, TEXTOID, TEXTOID}
	},
	[PLAN_RESERVE_RELEASE] = {
		"SELECT dtm.release_as($1, $2, $3, $4)",
		4, {OIDOID, TEXTOID, TEXTOID, BOOLOID}
	},
	[PLAN_RESERVE_SWEEP] = {
		"SELECT dtm.reserve_sweep_as($1, $2)",
		2, {OIDOID, INT8OID}
	},
};
/* clang-format on */

static SPIPlanPtr plans[PLAN_COUNT];

uint64
dtm_plan_execute(DtmPlanId id, Datum *values, const char *nulls, bool read_only, bool latest)
{
	const PlanDef *def = &plan_defs[id];
	int rc;

	if (plans[id] == NULL)
	{
		SPIPlanPtr plan =
			SPI_prepare_cursor(def->sql, def->nargs, (Oid *) def->types, CURSOR_OPT_GENERIC_PLAN);

		if (plan == NULL)
			elog(ERROR, "could not prepare statement %d: %s", (int) id,
				 SPI_result_code_string(SPI_result));
		if (SPI_keepplan(plan) != 0)
			elog(ERROR, "could not keep statement %d", (int) id);
		plans[id] = plan;
	}

	if (latest)
		rc = SPI_execute_snapshot(plans[id], values, nulls, GetLatestSnapshot(), InvalidSnapshot,
								  read_only, true, 0);
	else
		rc = SPI_execute_plan(plans[id], values, nulls, read_only, 0);
	if (rc < 0)
		elog(ERROR, "statement %d failed: %s", (int) id, SPI_result_code_string(rc));
	return SPI_processed;
}

Datum
dtm_plan_value(uint64 row, int column, bool *isnull)
{
	bool null;
	Datum value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &null);

	if (isnull != NULL)
		*isnull = null;
	else if (null)
		elog(ERROR, "unexpected NULL in column %d of dtm's tables", column);
	return value;
}

struct varlena *
dtm_plan_varlena(uint64 row, int column, MemoryContext context)
{
	bool isnull;
	Datum value = dtm_plan_value(row, column, &isnull);
	MemoryContext old;
	struct varlena *copy;

	if (isnull)
		return NULL;
	old = MemoryContextSwitchTo(context);
	copy = PG_DETOAST_DATUM_COPY(value);
	MemoryContextSwitchTo(old);
	return copy;
}

char *
dtm_plan_string(uint64 row, int column, MemoryContext context)
{
	bool isnull;
	Datum value = dtm_plan_value(row, column, &isnull);
	MemoryContext old;
	char *copy;

	if (isnull)
		return NULL;
	old = MemoryContextSwitchTo(context);
	copy = TextDatumGetCString(value);
	MemoryContextSwitchTo(old);
	return copy;
}

Datum
dtm_plan_ids(const int64 *ids, int n)
{
	Datum *elements = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		elements[i] = Int64GetDatum(ids[i]);
	return PointerGetDatum(
		construct_array(elements, n, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}
