#include "io/watches.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct watch {
	struct watches *all;
	int fd;
	struct loop_fd *loop_fd; /* NULL: not in the loop */
	bool kept;
	bool idle; /* in the loop without anybody who waits */
};

void watches_init(struct watches *ws, struct loop *l, watches_fn *fn, void *ctx)
{
	*ws = (struct watches){.loop = l, .fn = fn, .ctx = ctx};
}

static void leave_loop(struct watch *w)
{
	loop_fd_free(w->loop_fd);
	w->loop_fd = NULL;
}

static void watch_free(struct watch *w)
{
	if (w == NULL)
		return;
	w->all->watch[w->fd] = NULL;
	leave_loop(w);
	free(w);
}

void watches_release(struct watches *ws)
{
	for (size_t i = 0; i < ws->n; i++)
		watch_free(ws->watch[i]);
	free(ws->watch);
}

static void run(void *ctx, int events)
{
	struct watch *w = ctx;

	/* Closed by the peer: that is seen when somebody wants to use it. */
	if (w->idle)
		leave_loop(w);
	else
		w->all->fn(w->all->ctx, w->fd, events);
}

static struct watch *watch_at(const struct watches *ws, int fd)
{
	return (size_t)fd < ws->n ? ws->watch[fd] : NULL;
}

static struct watch *watch_new(struct watches *ws, int fd)
{
	struct watch *w;

	if ((size_t)fd >= ws->n) {
		size_t n = 2 * (size_t)fd + 16;
		struct watch **more = realloc(ws->watch, n * sizeof(struct watch *));

		if (more == NULL)
			return NULL;
		for (size_t i = ws->n; i < n; i++)
			more[i] = NULL;
		ws->watch = more;
		ws->n = n;
	}
	w = calloc(1, sizeof(*w));
	if (w == NULL)
		return NULL;
	w->all = ws;
	w->fd = fd;
	ws->watch[fd] = w;
	return w;
}

int watches_open(struct watches *ws, int family, int type, int protocol)
{
	int fd = socket(family, type | SOCK_CLOEXEC, protocol);

	if (fd >= 0)
		watch_free(watch_at(ws, fd));
	return fd;
}

void watches_keep(struct watches *ws, int fd)
{
	struct watch *w = watch_at(ws, fd);

	if (w == NULL)
		w = watch_new(ws, fd);
	if (w != NULL)
		w->kept = true;
}

int watches_close(struct watches *ws, int fd)
{
	watch_free(watch_at(ws, fd));
	return close(fd);
}

static void rest(struct watch *w)
{
	if (w == NULL || !w->kept) {
		watch_free(w);
		return;
	}
	w->idle = true;
	if (w->loop_fd != NULL && loop_fd_watch(w->loop_fd, LOOP_READ) != 0)
		leave_loop(w);
}

int watches_set(struct watches *ws, int fd, int events)
{
	struct watch *w = watch_at(ws, fd);

	if (events == 0) {
		rest(w);
		return 0;
	}
	if (w == NULL)
		w = watch_new(ws, fd);
	if (w != NULL && w->loop_fd == NULL)
		w->loop_fd = loop_fd_new(ws->loop, fd, run, w);
	if (w == NULL || w->loop_fd == NULL)
		return ERR_IO;
	w->idle = false;
	return loop_fd_watch(w->loop_fd, events);
}
