/* -------------------------------------------------------------------------
 *
 * test_loop.c
 *		Tests of net/dtm_loop.c with pipes.
 *
 * -------------------------------------------------------------------------
 */
#include <sys/epoll.h>
#include <unistd.h>

#include "dtm_loop.h"
#include "dtm_test.h"

typedef struct Seen
{
	DtmLoop *loop;
	int calls;
	int last_fd;
	uint32_t events;
	int forget_fd; /* what the handler forgets, -1 = nothing */
} Seen;

static void
on_event(void *context, int fd, uint32_t events)
{
	Seen *seen = context;

	seen->calls++;
	seen->last_fd = fd;
	seen->events = events;
	if (seen->forget_fd >= 0)
		dtm_loop_forget(seen->loop, seen->forget_fd);
}

static void
test_watch(DtmLoop *loop)
{
	Seen seen = {.loop = loop, .forget_fd = -1};
	int pipe_fd[2];

	CHECK_INT(pipe(pipe_fd), 0);
	CHECK_INT(dtm_loop_watch(loop, pipe_fd[0], EPOLLIN, on_event, &seen), DTM_OK);
	CHECK_INT(dtm_loop_dispatch(loop), 0);
	CHECK_INT(write(pipe_fd[1], "x", 1), 1);
	CHECK_INT(dtm_loop_dispatch(loop), 1);
	CHECK_INT(seen.last_fd, pipe_fd[0]);
	CHECK(seen.events & EPOLLIN);

	/* still ready: level triggered */
	CHECK_INT(dtm_loop_dispatch(loop), 1);

	/* resting: silent, and what lies ready is delivered when watched again */
	dtm_loop_rest(loop, pipe_fd[0]);
	CHECK_INT(dtm_loop_dispatch(loop), 0);
	CHECK_INT(dtm_loop_watch(loop, pipe_fd[0], EPOLLIN, on_event, &seen), DTM_OK);
	CHECK_INT(dtm_loop_dispatch(loop), 1);

	/* resting without anything ready keeps the registration */
	CHECK_INT(read(pipe_fd[0], &seen.events, 1), 1);
	dtm_loop_rest(loop, pipe_fd[0]);
	CHECK_INT(dtm_loop_watch(loop, pipe_fd[0], EPOLLIN, on_event, &seen), DTM_OK);
	CHECK_INT(write(pipe_fd[1], "x", 1), 1);
	CHECK_INT(dtm_loop_dispatch(loop), 1);

	dtm_loop_forget(loop, pipe_fd[0]);
	CHECK_INT(dtm_loop_dispatch(loop), 0);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
	CHECK_INT(seen.calls, 4);
}

/* Two are ready in one batch; the first handler forgets the other. */
static void
test_forgotten_in_batch(DtmLoop *loop)
{
	Seen seen[2];
	int pipe_fd[2][2];

	for (int i = 0; i < 2; i++)
	{
		CHECK_INT(pipe(pipe_fd[i]), 0);
		CHECK_INT(write(pipe_fd[i][1], "x", 1), 1);
	}
	for (int i = 0; i < 2; i++)
	{
		seen[i] = (Seen){.loop = loop, .forget_fd = pipe_fd[1 - i][0]};
		CHECK_INT(dtm_loop_watch(loop, pipe_fd[i][0], EPOLLIN, on_event, &seen[i]), DTM_OK);
	}
	CHECK_INT(dtm_loop_dispatch(loop), 1);
	CHECK_INT(seen[0].calls + seen[1].calls, 1);
	for (int i = 0; i < 2; i++)
	{
		dtm_loop_forget(loop, pipe_fd[i][0]);
		close(pipe_fd[i][0]);
		close(pipe_fd[i][1]);
	}
}

static void
test_bad_arguments(DtmLoop *loop)
{
	Seen seen = {.loop = loop, .forget_fd = -1};

	CHECK_INT(dtm_loop_watch(loop, -1, EPOLLIN, on_event, &seen), DTM_INVALID);
	CHECK_INT(dtm_loop_watch(loop, 0, 0, on_event, &seen), DTM_INVALID);
	/* not open: the kernel refuses, and nothing is remembered */
	CHECK_INT(dtm_loop_watch(loop, 5000, EPOLLIN, on_event, &seen), DTM_LIMIT);
	dtm_loop_forget(loop, 5000);
	dtm_loop_forget(loop, 1000000);
	dtm_loop_rest(loop, 1000000);
	CHECK_INT(dtm_loop_dispatch(loop), 0);
}

int
main(void)
{
	DtmLoop *loop = dtm_loop_new();

	if (CHECK(loop != NULL))
	{
		test_watch(loop);
		test_forgotten_in_batch(loop);
		test_bad_arguments(loop);
		dtm_loop_free(loop);
	}
	dtm_loop_free(NULL);
	TEST_REPORT();
}
