/* -------------------------------------------------------------------------
 *
 * test_histories.c
 *		Random histories of random transactions against the invariants of
 *		dtm_world.h.
 *
 * Usage: test_histories [count [seed]].  A history depends on its own seed
 * alone, which is printed when it goes wrong: test_histories 1 <that seed>
 * runs it again and prints every step.
 *
 * -------------------------------------------------------------------------
 */
#include <time.h>

#include "dtm_world.h"

#define DEFAULT_COUNT 1000000
#define MAX_REPORTS 5

/* Events of the wild part, and the most that the quiet end may take. */
#define MAX_WILD_EVENTS 40
#define MAX_QUIET_EVENTS 100

static uint64_t random_state;
static bool verbose;
static unsigned char memory[WORLD_MEMORY];

/* How often the outcomes of histories were what; a check that they all occur. */
static long long ended[DTM_TYPE_LAST + 1][DTM_STATUS_LAST + 1];
static long long crashes;
static long long events;

static uint64_t
random_bits(void)
{
	uint64_t x;

	random_state += UINT64_C(0x9e3779b97f4a7c15);
	x = random_state;
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static uint32_t
random_below(uint32_t n)
{
	return (uint32_t) (((random_bits() >> 32) * n) >> 32);
}

static bool
percent(uint32_t chance)
{
	return random_below(100) < chance;
}

/*
 * "after" of the steps: not given at all; given for all, along a random
 * permutation; or given for some, of lower numbers.  None has a cycle.
 */
static void
random_order(World *w)
{
	uint16_t n = w->trans.n_branches;
	uint16_t place[WORLD_BRANCHES];
	uint32_t kind = random_below(3);
	uint32_t density = 20 + random_below(60);

	if (kind == 0)
		return;
	for (uint16_t i = 0; i < n; i++)
		place[i] = i;
	for (uint16_t i = n; kind == 1 && i > 1; i--)
	{
		uint16_t j = (uint16_t) random_below(i);
		uint16_t swap = place[i - 1];

		place[i - 1] = place[j];
		place[j] = swap;
	}
	for (uint16_t i = 0; i < n; i++)
	{
		DtmBranch *branch = &w->branches[i];

		if (kind == 2 && percent(40))
			continue;
		branch->after = w->after[i];
		for (uint16_t k = 0; k < n; k++)
		{
			if (place[k] < place[i] && percent(density))
				w->after[i][branch->n_after++] = k;
		}
	}
}

static void
random_trans(World *w)
{
	DtmTransType type = (DtmTransType) (1 + random_below(DTM_TYPE_LAST));
	uint32_t flags = random_below(2) * DTM_FLAG_CONCURRENT;
	uint32_t empty = percent(50) ? 0 : random_below(60);
	uint32_t limited = percent(50) ? 0 : 40;

	flags |= percent(30) ? DTM_FLAG_RETRY_NO_PAUSE : 0;
	if ((type == DTM_TYPE_TCC && percent(50)) || (type == DTM_TYPE_WORKFLOW && percent(25)))
		flags |= DTM_FLAG_CLIENT_RUN;
	world_init(w, memory, type, flags, (uint16_t) random_below(WORLD_BRANCHES + 1));
	random_order(w);

	for (uint16_t i = 0; i < w->limit; i++)
	{
		for (int role = 0; role < DTM_ROLES; role++)
		{
			if (percent(empty))
				w->branches[i].url[role].len = 0;
		}
		if (percent(empty / 3) && type != DTM_TYPE_TCC && type != DTM_TYPE_XA)
			w->branches[i].op[UNDO] = DTM_OP_NONE;
		if (percent(empty / 3) && type == DTM_TYPE_WORKFLOW)
			w->branches[i].op[CONF] = DTM_OP_NONE;
		if (percent(limited))
			w->branches[i].retry_limit = (int32_t) random_below(3);
		if (type == DTM_TYPE_WORKFLOW && percent(25))
			world_wait_step(w, i, percent(50) ? DTM_STEP_SLEEP : DTM_STEP_AWAIT,
							w->now + random_below(4000) * INT64_C(1000));
		if (w->branches[i].kind == DTM_STEP_AWAIT && percent(50))
			w->branches[i].due_at = DTM_TIME_NEVER;
	}
	if (percent(limited))
		w->trans.retry_limit = (int32_t) random_below(3);
	if (percent(20))
		w->trans.retry_interval_ms = 1 + (int32_t) random_below(3000);
	if (percent(50))
		w->trans.timeout_to_fail_ms = 1 + random_below(8000);
	if (percent(20))
		w->trans.start_at += random_below(4000) * INT64_C(1000);
	if (percent(empty / 2) && (type != DTM_TYPE_WORKFLOW || dtm_trans_is_resumed(&w->trans)))
		w->trans.query_url.len = 0;
	w->params.jitter_seed = random_bits();
}

/* One of the calls under way; false when there is none. */
static bool
random_call(const World *w, uint16_t *place, uint8_t *role)
{
	uint32_t n = 0;

	for (uint16_t i = 0; i <= WORLD_QUERY; i++)
	{
		for (uint8_t r = 0; r < DTM_ROLES; r++)
		{
			if (w->out[i][r] && random_below(++n) == 0)
			{
				*place = i;
				*role = r;
			}
		}
	}
	return n > 0;
}

static WorldCrash
random_crash(void)
{
	if (!percent(6))
		return WORLD_NO_CRASH;
	crashes++;
	return (WorldCrash) (1 + random_below(3));
}

/* The function gets one step further; perhaps nobody drives it when that is committed. */
static void
run_function(World *w, WorldCrash crash)
{
	if (!world_may_run(w))
		return;
	world_run(w, percent(25));
	if (verbose)
		printf("  a run: %d steps, %s\n", w->trans.n_branches, dtm_status_name(w->trans.status));
	if (crash == WORLD_NO_CRASH)
		(void) world_event(w, DTM_EVENT_WAKE, WORLD_NO_CRASH, false);
}

static void
signal_it(World *w)
{
	uint16_t branch = world_await(w);

	if (branch == WORLD_BRANCHES)
		return;
	world_signal(w, branch);
	(void) world_event(w, DTM_EVENT_WAKE, WORLD_NO_CRASH, false);
}

/* The client of a workflow says how it has ended; refused unless it runs one. */
static void
end_it(World *w, DtmOutcome outcome, WorldCrash crash)
{
	DtmEvent event = {.kind = DTM_EVENT_END, .outcome = outcome, .reason = test_text("ended")};
	bool running = dtm_trans_is_resumed(&w->trans) && w->trans.status == DTM_STATUS_PREPARED;
	DtmRc rc = world_handle(w, &event, crash, percent(50));

	HOLDS(w, rc == (running ? DTM_OK : DTM_STATE), "an end: result code %d", rc);
	HOLDS(w,
		  !running || crash != WORLD_NO_CRASH ||
			  w->trans.status ==
				  (outcome == DTM_OUTCOME_SUCCESS ? DTM_STATUS_SUCCEED : DTM_STATUS_FAILED),
		  "ended, but it is %s", dtm_status_name(w->trans.status));
}

static void
answer(World *w, uint32_t success, WorldCrash crash)
{
	DtmOutcome outcome = percent(success) ? DTM_OUTCOME_SUCCESS
										  : (DtmOutcome) (DTM_OUTCOME_FAILURE + random_below(3));
	uint16_t place;
	uint8_t role;

	if (!random_call(w, &place, &role))
		return;
	if (w->trans.type == DTM_TYPE_WORKFLOW && !dtm_trans_is_resumed(&w->trans) &&
		place == WORLD_QUERY && outcome == DTM_OUTCOME_SUCCESS)
	{
		run_function(w, crash);
		return;
	}
	if (verbose)
		printf("  result of %d, %s: %s\n", place + 1,
			   role == FWD        ? "forward"
				   : role == UNDO ? "undo"
								  : "confirm",
			   dtm_outcome_name(outcome));
	world_result(w, place, role, outcome, crash, percent(50));
}

/* An answer nobody waits for: late, or twice. */
static void
answer_late(World *w)
{
	uint16_t place = (uint16_t) random_below(WORLD_QUERY + 2);
	uint8_t role = (uint8_t) random_below(DTM_ROLES + 1);
	DtmEvent event = {
		.kind = percent(80) ? DTM_EVENT_RESULT : DTM_EVENT_POSTPONE,
		.branch = world_branch(place),
		.role = role,
		.outcome = (DtmOutcome) random_below(4),
		.reason = test_text("late"),
	};

	if (place == WORLD_QUERY
			? w->out[place][0]
			: place < w->trans.n_branches && role < DTM_ROLES && w->out[place][role])
		return;
	(void) world_handle(w, &event, WORLD_NO_CRASH, false);
}

static void
wake(World *w, WorldCrash crash)
{
	if (percent(70) && w->next_at != DTM_TIME_NEVER && w->next_at > w->now)
		w->now = w->next_at;
	else
		w->now += random_below(1000) * INT64_C(1000);
	(void) world_event(w, DTM_EVENT_WAKE, crash, percent(50));
}

static void
wild_event(World *w, uint32_t success)
{
	uint32_t dice = random_below(100);
	WorldCrash crash = random_crash();
	uint16_t place;
	uint8_t role;

	events++;
	w->now += random_below(200) * INT64_C(1000);
	if (dice < 55)
		answer(w, success, crash);
	else if (dice < 75)
		wake(w, crash);
	else if (dice < 83)
		answer_late(w);
	else if (dice < 87)
		(void) world_event(w, DTM_EVENT_RETRY, crash, percent(50));
	else if (dice < 90)
		(void) world_event(w, DTM_EVENT_SUBMIT, crash, percent(50));
	else if (dice < 93)
		(void) world_event(w, DTM_EVENT_ABORT, crash, percent(50));
	else if (dice < 94 && percent(30))
		(void) world_event(w, DTM_EVENT_STOP, crash, percent(50));
	else if (dice < 96)
	{
		signal_it(w);
		run_function(w, crash);
		if (percent(30))
			end_it(w, percent(50) ? DTM_OUTCOME_SUCCESS : DTM_OUTCOME_FAILURE, crash);
	}
	else if (random_call(w, &place, &role))
		world_postpone(w, place, role, w->now + random_below(3000) * INT64_C(1000));
	if (crash != WORLD_NO_CRASH)
		(void) world_event(w, DTM_EVENT_WAKE, WORLD_NO_CRASH, false);
	if (verbose)
		printf("  %d: %s, %u calls, crash %d\n", (int) dice, dtm_status_name(w->trans.status),
			   (unsigned int) w->plan.n_calls, (int) crash);
}

/* Everything works from now on: it must come to an end soon. */
static void
quiet_event(World *w)
{
	uint16_t place = 0;
	uint8_t role = 0;

	if (random_call(w, &place, &role))
	{
		w->now += 1000;
		if (dtm_trans_is_resumed(&w->trans) && !dtm_status_is_final(w->trans.status))
			end_it(w, DTM_OUTCOME_SUCCESS, WORLD_NO_CRASH);
		else if (w->trans.type == DTM_TYPE_WORKFLOW && place == WORLD_QUERY &&
				 w->trans.status == DTM_STATUS_PREPARED)
			run_function(w, WORLD_NO_CRASH);
		else
			world_result(w, place, role, DTM_OUTCOME_SUCCESS, WORLD_NO_CRASH, false);
	}
	else if (w->next_at != DTM_TIME_NEVER)
	{
		w->now = w->next_at;
		(void) world_event(w, DTM_EVENT_WAKE, WORLD_NO_CRASH, false);
	}
	else if (world_await(w) < WORLD_BRANCHES)
		signal_it(w);
	else if (dtm_trans_is_resumed(&w->trans))
		end_it(w, DTM_OUTCOME_SUCCESS, WORLD_NO_CRASH);
	else
		(void) world_event(w, percent(50) ? DTM_EVENT_SUBMIT : DTM_EVENT_ABORT, WORLD_NO_CRASH,
						   false);
}

static bool
run_history(uint64_t seed)
{
	World w;
	uint32_t n_wild;
	uint32_t success;
	int quiet = 0;

	random_state = seed;
	random_trans(&w);
	n_wild = random_below(MAX_WILD_EVENTS);
	success = 30 + random_below(70);
	(void) world_event(&w, DTM_EVENT_WAKE, WORLD_NO_CRASH, false);
	for (uint32_t i = 0; i < n_wild && w.error[0] == '\0'; i++)
		wild_event(&w, success);
	while (!dtm_status_is_final(w.trans.status) && w.error[0] == '\0' && quiet++ < MAX_QUIET_EVENTS)
		quiet_event(&w);
	if (quiet > MAX_QUIET_EVENTS)
		world_error(&w, "does not come to an end");

	/* whatever comes after the end changes nothing */
	for (int i = 0; i < 3 && w.error[0] == '\0'; i++)
		wild_event(&w, success);

	ended[w.trans.type][w.trans.status]++;
	if (w.error[0] == '\0')
		return true;
	printf("seed %llu, %s%s, %d branches: %s\n", (unsigned long long) seed,
		   dtm_type_name(w.trans.type), w.trans.flags & DTM_FLAG_CLIENT_RUN ? " (client-run)" : "",
		   w.trans.n_branches, w.error);
	return false;
}

int
main(int argc, char **argv)
{
	long long count = argc > 1 ? atoll(argv[1]) : DEFAULT_COUNT;
	uint64_t seed =
		argc > 2 ? strtoull(argv[2], NULL, 10) : (uint64_t) time(NULL) * UINT64_C(1000000);
	int reports = 0;
	clock_t start = clock();

	verbose = count == 1;
	printf("%lld histories, seed %llu\n", count, (unsigned long long) seed);
	for (long long i = 0; i < count && reports < MAX_REPORTS; i++)
	{
		bool ok = run_history(seed + (uint64_t) i);

		if (!ok)
			reports++;
		CHECK(ok);
	}

	/* a test that never saw a rollback has shown little */
	for (int type = 1; type <= DTM_TYPE_LAST && count >= 1000; type++)
	{
		CHECK(ended[type][DTM_STATUS_SUCCEED] > 0);
		CHECK(ended[type][DTM_STATUS_FAILED] > 0);
		printf("%s: %lld succeed, %lld failed\n", dtm_type_name((DtmTransType) type),
			   ended[type][DTM_STATUS_SUCCEED], ended[type][DTM_STATUS_FAILED]);
	}
	printf("%lld events, %lld crashes, %.1f s\n", events, crashes,
		   (double) (clock() - start) / CLOCKS_PER_SEC);
	TEST_REPORT();
}
