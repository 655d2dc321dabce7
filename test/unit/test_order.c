/* -------------------------------------------------------------------------
 *
 * test_order.c
 *		Every order of events of small transactions, against the invariants of
 *		dtm_world.h.
 *
 * A step of a history is the success of a call under way or the wake-up that
 * was asked for; these are tried in every order.  A few times per history
 * anything else may happen instead: failures, errors, requests, crashes at
 * each point, with and without loss of what was not flushed.  Whatever
 * happened, the transaction must come to an end.
 *
 * Usage: test_order [times].  2 takes a second, 3 a minute with sanitizers.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_world.h"

#define DEFAULT_TROUBLE 2
#define MAX_DEPTH 60
#define MAX_REPORTS 5
#define END \
	{       \
		-1  \
	}

#define SAGA DTM_TYPE_SAGA
#define MSG DTM_TYPE_MSG
#define TCC DTM_TYPE_TCC
#define XA DTM_TYPE_XA
#define CONC DTM_FLAG_CONCURRENT
#define CLIENT DTM_FLAG_CLIENT_RUN

typedef struct Small
{
	const char *name;
	DtmTransType type;
	uint32_t flags;
	uint16_t n;
	int64_t timeout_ms;
	int32_t retry_limit;
	const char *empty; /* ops without a target: "1f 2u" */
	int after[3][3];   /* each ended by -1; not given when the first is 0 */
} Small;

static const Small smalls[] = {
	{"saga, none", SAGA, 0, 0, 0, -1, "", {{0}}},
	{"saga of 1", SAGA, 0, 1, 0, -1, "", {{0}}},
	{"saga of 2", SAGA, 0, 2, 0, -1, "", {{0}}},
	{"saga of 3", SAGA, 0, 3, 0, -1, "", {{0}}},
	{"saga of 2 with time-out", SAGA, 0, 2, 1500, -1, "", {{0}}},
	{"saga of 2 with limit", SAGA, 0, 2, 0, 0, "", {{0}}},
	{"saga with empty action", SAGA, 0, 3, 0, -1, "2f", {{0}}},
	{"saga with empty undo", SAGA, 0, 3, 0, -1, "2u", {{0}}},
	{"saga, concurrent", SAGA, CONC, 2, 0, -1, "", {{0}}},
	{"saga, concurrent with time-out", SAGA, CONC, 2, 1500, 1, "", {{0}}},
	{"saga, fan-in", SAGA, CONC, 3, 0, -1, "", {END, END, {0, 1, -1}}},
	{"saga, fan-out", SAGA, CONC, 3, 0, -1, "", {END, {0, -1}, {0, -1}}},
	{"saga, against the numbers", SAGA, 0, 3, 0, -1, "", {{1, -1}, {2, -1}, END}},
	{"saga, against, empty", SAGA, 0, 3, 0, -1, "2f 2u", {{1, -1}, {2, -1}, END}},
	{"msg of 2", MSG, 0, 2, 1500, -1, "", {{0}}},
	{"msg, concurrent", MSG, CONC, 2, 0, -1, "", {{0}}},
	{"tcc of 2", TCC, 0, 2, 0, -1, "", {{0}}},
	{"tcc of 2 with time-out", TCC, 0, 2, 1500, 0, "1u", {{0}}},
	{"tcc, concurrent", TCC, CONC, 2, 0, -1, "", {{0}}},
	{"tcc of a client", TCC, CLIENT, 3, 1500, -1, "2c", {{0}}},
	{"xa", XA, 0, 3, 1500, -1, "", {{0}}},
	{"xa without time-out", XA, 0, 2, 0, -1, "2u", {{0}}},
	{"workflow", DTM_TYPE_WORKFLOW, 0, 2, 0, -1, "", {{0}}},
	{"workflow of 3", DTM_TYPE_WORKFLOW, 0, 3, 1500, 0, "2u", {{0}}},
	{"workflow that waits", DTM_TYPE_WORKFLOW, 0, 3, 0, -1, "3w", {{0}}},
};

static long long nodes;
static bool ended[DTM_STATUS_LAST + 1];
static char path[MAX_DEPTH + 1][64];
static unsigned char memory[WORLD_MEMORY];

static void explore(const World *w, int trouble, int depth);

static void
report(const World *w, int depth)
{
	printf("%s\n", w->error);
	for (int i = 0; i <= depth; i++)
		printf("  %s\n", path[i]);
}

static void
set_up(World *w, const Small *small)
{
	world_init(w, memory, small->type, small->flags, small->n);
	w->trans.timeout_to_fail_ms = small->timeout_ms;
	w->trans.retry_limit = small->retry_limit;
	for (const char *e = small->empty; *e != '\0'; e += e[2] == ' ' ? 3 : 2)
	{
		if (e[1] == 'w')
			world_wait_step(w, (uint16_t) (e[0] - '1'), DTM_STEP_AWAIT, DTM_TIME_NEVER);
		else
			w->branches[e[0] - '1'].url[e[1] == 'f' ? FWD : e[1] == 'u' ? UNDO : CONF].len = 0;
	}
	for (uint16_t i = 0; i < small->n && small->after[0][0] != 0; i++)
	{
		w->branches[i].after = w->after[i];
		for (int k = 0; small->after[i][k] >= 0; k++)
			w->after[i][w->branches[i].n_after++] = (uint16_t) small->after[i][k];
	}
}

/* What follows a step: the WAKE of a new process after a crash, then all that may come. */
static void
go_on(World *w, WorldCrash crash, int trouble, int depth)
{
	if (crash != WORLD_NO_CRASH)
		(void) world_event(w, DTM_EVENT_WAKE, WORLD_NO_CRASH, false);
	if (test_failed >= MAX_REPORTS)
		return;
	if (!CHECK(w->error[0] == '\0'))
		report(w, depth);
	else
		explore(w, trouble, depth + 1);
}

static void
try_result(const World *from, uint16_t place, uint8_t role, DtmOutcome outcome, WorldCrash crash,
		   bool lose, int trouble, int depth)
{
	World w;

	world_copy(&w, from);
	snprintf(path[depth], sizeof(path[depth]), "%s of %d, role %d, crash %d, lose %d",
			 dtm_outcome_name(outcome), place + 1, role, crash, lose);
	w.now += 1000;

	/* a workflow's function gets one branch further with every call, and commits that itself */
	if (w.trans.type == DTM_TYPE_WORKFLOW && place == WORLD_QUERY && outcome == DTM_OUTCOME_SUCCESS)
	{
		if (!world_may_run(&w))
			return;
		world_run(&w, false);
		if (crash == WORLD_NO_CRASH)
			(void) world_event(&w, DTM_EVENT_WAKE, WORLD_NO_CRASH, false);
	}
	else
		world_result(&w, place, role, outcome, crash, lose);
	go_on(&w, crash, trouble, depth);
}

static void
try_event(const World *from, DtmEventKind kind, WorldCrash crash, bool lose, int trouble, int depth)
{
	World w;

	world_copy(&w, from);
	snprintf(path[depth], sizeof(path[depth]), "event %d, crash %d, lose %d", kind, crash, lose);
	w.now += 1000;
	if (kind == DTM_EVENT_WAKE && crash == WORLD_NO_CRASH)
		w.now = w.next_at;
	(void) world_event(&w, kind, crash, lose);
	go_on(&w, crash, trouble, depth);
}

static void
try_signal(const World *from, int trouble, int depth)
{
	World w;

	world_copy(&w, from);
	snprintf(path[depth], sizeof(path[depth]), "signal");
	world_signal(&w, world_await(&w));
	(void) world_event(&w, DTM_EVENT_WAKE, WORLD_NO_CRASH, false);
	go_on(&w, WORLD_NO_CRASH, trouble, depth);
}

/* What may happen besides success: everything, here and now. */
static void
explore_trouble(const World *w, int trouble, int depth)
{
	for (uint16_t place = 0; place <= WORLD_QUERY; place++)
	{
		for (uint8_t role = 0; role < DTM_ROLES; role++)
		{
			if (!w->out[place][role])
				continue;
			for (int outcome = 1; outcome <= DTM_OUTCOME_ERROR; outcome++)
				try_result(w, place, role, (DtmOutcome) outcome, WORLD_NO_CRASH, false, trouble,
						   depth);
			for (int crash = 1; crash <= WORLD_CRASH_AFTER_CALLS; crash++)
			{
				for (int lose = 0; lose <= 1; lose++)
				{
					try_result(w, place, role, DTM_OUTCOME_SUCCESS, (WorldCrash) crash, lose,
							   trouble, depth);
					try_result(w, place, role, DTM_OUTCOME_FAILURE, (WorldCrash) crash, lose,
							   trouble, depth);
				}
			}
		}
	}
	for (int lose = 0; lose <= 1; lose++)
		try_event(w, DTM_EVENT_WAKE, WORLD_CRASH_AFTER_CALLS, lose, trouble, depth);
	try_event(w, DTM_EVENT_RETRY, WORLD_NO_CRASH, false, trouble, depth);
	try_event(w, DTM_EVENT_SUBMIT, WORLD_NO_CRASH, false, trouble, depth);
	try_event(w, DTM_EVENT_ABORT, WORLD_NO_CRASH, false, trouble, depth);
	try_event(w, DTM_EVENT_STOP, WORLD_NO_CRASH, false, trouble, depth);
}

static void
explore(const World *w, int trouble, int depth)
{
	bool waits = true;

	nodes++;
	if (dtm_status_is_final(w->trans.status))
	{
		ended[w->trans.status] = true;
		return;
	}
	if (!CHECK(depth < MAX_DEPTH))
	{
		printf("does not come to an end\n");
		report(w, depth - 1);
		return;
	}
	for (uint16_t place = 0; place <= WORLD_QUERY; place++)
	{
		for (uint8_t role = 0; role < DTM_ROLES; role++)
		{
			if (!w->out[place][role])
				continue;
			waits = false;
			try_result(w, place, role, DTM_OUTCOME_SUCCESS, WORLD_NO_CRASH, false, trouble, depth);
		}
	}

	/* a deadline may come while calls are out; a client comes only when all else is quiet */
	if (w->next_at != DTM_TIME_NEVER)
		try_event(w, DTM_EVENT_WAKE, WORLD_NO_CRASH, false, trouble, depth);
	else if (waits && world_await(w) < WORLD_BRANCHES)
		try_signal(w, trouble, depth);
	else if (waits)
	{
		try_event(w, DTM_EVENT_SUBMIT, WORLD_NO_CRASH, false, trouble, depth);
		if (w->trans.type != DTM_TYPE_MSG)
			try_event(w, DTM_EVENT_ABORT, WORLD_NO_CRASH, false, trouble, depth);
	}
	if (trouble > 0)
		explore_trouble(w, trouble - 1, depth);
}

int
main(int argc, char **argv)
{
	int trouble = argc > 1 ? atoi(argv[1]) : DEFAULT_TROUBLE;

	for (size_t i = 0; i < sizeof(smalls) / sizeof(smalls[0]); i++)
	{
		World w;

		nodes = 0;
		memset(ended, 0, sizeof(ended));
		set_up(&w, &smalls[i]);
		(void) world_event(&w, DTM_EVENT_WAKE, WORLD_NO_CRASH, false);
		CHECK_STR(w.error, "");
		explore(&w, trouble, 0);
		printf("%s: %lld histories and parts of them\n", smalls[i].name, nodes);

		/* both ends were reached, save where there is only one */
		CHECK(ended[DTM_STATUS_SUCCEED]);
		CHECK(ended[DTM_STATUS_FAILED] || smalls[i].n == 0);
	}
	TEST_REPORT();
}
