/* -------------------------------------------------------------------------
 *
 * dtm_loop.c
 *		One epoll descriptor, and who is to be told about which descriptor.
 *
 * Runs in the coordinator.  Waiting is not here: see worker/.
 *
 * Descriptor numbers are used again at once by the kernel, and a handler may
 * close the descriptor of an event that was fetched in the same batch.  So
 * each watch has a generation, which travels with the event; an event of an
 * older generation is dropped.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_loop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define MAX_EVENTS 256 /* fetched at once */

typedef struct Watch
{
	DtmLoopHandler handler; /* NULL: resting, or not known at all */
	void *context;
	uint32_t events; /* as the kernel knows them; 0: it does not */
	uint32_t generation;
} Watch;

struct DtmLoop
{
	int epoll_fd;
	Watch *watches; /* by descriptor */
	int n_watches;
	struct epoll_event events[MAX_EVENTS];
};

DtmLoop *
dtm_loop_new(void)
{
	DtmLoop *loop = calloc(1, sizeof(DtmLoop));

	if (loop == NULL)
		return NULL;
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0)
	{
		free(loop);
		return NULL;
	}
	return loop;
}

void
dtm_loop_free(DtmLoop *loop)
{
	if (loop == NULL)
		return;
	close(loop->epoll_fd);
	free(loop->watches);
	free(loop);
}

int
dtm_loop_fd(const DtmLoop *loop)
{
	return loop->epoll_fd;
}

/* Make the table long enough for fd; its length is bounded by RLIMIT_NOFILE. */
static bool
make_room(DtmLoop *loop, int fd)
{
	int count = loop->n_watches ? loop->n_watches : 64;
	Watch *grown;

	if (fd < loop->n_watches)
		return true;
	while (count <= fd)
		count *= 2;
	grown = realloc(loop->watches, (size_t) count * sizeof(Watch));
	if (grown == NULL)
		return false;
	memset(grown + loop->n_watches, 0, (size_t) (count - loop->n_watches) * sizeof(Watch));
	loop->watches = grown;
	loop->n_watches = count;
	return true;
}

DtmRc
dtm_loop_watch(DtmLoop *loop, int fd, uint32_t events, DtmLoopHandler handler, void *context)
{
	struct epoll_event event;
	Watch *watch;

	if (fd < 0 || events == 0)
		return DTM_INVALID;
	if (!make_room(loop, fd))
		return DTM_NOMEM;
	watch = &loop->watches[fd];
	if (watch->events != events)
	{
		int op = watch->events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;

		if (watch->events == 0)
			watch->generation++;
		memset(&event, 0, sizeof(event));
		event.events = events;
		event.data.u64 = (uint64_t) watch->generation << 32 | (uint32_t) fd;
		if (epoll_ctl(loop->epoll_fd, op, fd, &event) < 0)
			return DTM_LIMIT;
		watch->events = events;
	}
	watch->handler = handler;
	watch->context = context;
	return DTM_OK;
}

void
dtm_loop_forget(DtmLoop *loop, int fd)
{
	Watch *watch;

	if (fd < 0 || fd >= loop->n_watches)
		return;
	watch = &loop->watches[fd];
	watch->handler = NULL;
	if (watch->events == 0)
		return;
	watch->events = 0;
	watch->generation++;
	(void) epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

void
dtm_loop_rest(DtmLoop *loop, int fd)
{
	if (fd >= 0 && fd < loop->n_watches)
		loop->watches[fd].handler = NULL;
}

int
dtm_loop_dispatch(DtmLoop *loop)
{
	int called = 0;
	int count = epoll_wait(loop->epoll_fd, loop->events, MAX_EVENTS, 0);

	for (int i = 0; i < count; i++)
	{
		int fd = (int) (loop->events[i].data.u64 & 0xFFFFFFFF);
		Watch *watch = &loop->watches[fd];

		/* the handler may grow the table: watch is stale after the call */
		if (watch->generation != (uint32_t) (loop->events[i].data.u64 >> 32))
			continue;
		if (watch->handler != NULL)
		{
			watch->handler(watch->context, fd, loop->events[i].events);
			called++;
		}
		else
			dtm_loop_forget(loop, fd); /* resting, e.g. closed by the other side */
	}
	return called;
}
