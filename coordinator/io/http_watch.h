/*
 * http_watch.h - connections that keep a place without using it.
 *
 * A connection waits from its start, or from its last answer, until a whole request has come, and
 * again until an answer is sent. One that waits for longer than the timeout is shut down, however
 * busily it dribbles; and when nearly all places are taken, those that have waited longest go
 * first, so that newcomers find one. What a handler works on is left alone.
 */
#ifndef IO_HTTP_WATCH_H
#define IO_HTTP_WATCH_H

#include <microhttpd.h>

#include "base/list.h"
#include "io/loop.h"

struct http_watch {
	struct list waiting; /* the longest waiting first */
	struct loop_timer *timer;
	int64_t timeout_us;
	size_t n, max;
};

int http_watch_init(struct http_watch *w, struct loop *l, int64_t timeout_us, size_t max) MUSTCHECK;
void http_watch_release(struct http_watch *w);

/* From MHD's notification of connections. */
void http_watch_started(struct http_watch *w, struct MHD_Connection *c, void **context);
void http_watch_closed(struct http_watch *w, void **context);

/* It waits from now on; or it does not. */
void http_watch_wait(struct http_watch *w, struct MHD_Connection *c);
void http_watch_leave(struct MHD_Connection *c);

#endif /* IO_HTTP_WATCH_H */
