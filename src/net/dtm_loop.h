/* -------------------------------------------------------------------------
 *
 * dtm_loop.h
 *		One epoll descriptor, and who is to be told about which descriptor.
 *
 * Plain C.  Nothing here waits: the owner of the process waits on
 * dtm_loop_fd, among other things, and then calls dtm_loop_dispatch.  A
 * loop may be nested in another one by adding its descriptor there.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_LOOP_H
#define DTM_LOOP_H

#include "dtm_types.h"

typedef struct DtmLoop DtmLoop;

/* events: EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP as reported by the kernel. */
typedef void (*DtmLoopHandler)(void *context, int fd, uint32_t events);

/* NULL when memory or descriptors are short. */
extern DtmLoop *dtm_loop_new(void);
extern void dtm_loop_free(DtmLoop *loop);

/* The descriptor to wait on, readable when dispatch has something to do. */
extern int dtm_loop_fd(const DtmLoop *loop);

/*
 * Watch fd for events (EPOLLIN, EPOLLOUT), or change what is watched.  May be
 * called from a handler.  DTM_NOMEM when memory is short, DTM_LIMIT when the
 * kernel refuses.
 */
extern DtmRc dtm_loop_watch(DtmLoop *loop, int fd, uint32_t events, DtmLoopHandler handler,
							void *context) DTM_MUST_CHECK;

/*
 * Stop watching; to be called before fd is closed.  No handler is called for
 * it afterwards, not even for events that were fetched already.
 */
extern void dtm_loop_forget(DtmLoop *loop, int fd);

/*
 * Stop watching for the moment: no handler is called, but the kernel keeps
 * the registration, so that watching the same events again costs nothing.
 * Only for descriptors whose closing is always preceded by dtm_loop_forget.
 */
extern void dtm_loop_rest(DtmLoop *loop, int fd);

/* Call the handlers of all descriptors that are ready now, each once; their number. */
extern int dtm_loop_dispatch(DtmLoop *loop);

#endif /* DTM_LOOP_H */
