#include "io/http_watch.h"

#include <stdlib.h>
#include <sys/socket.h>

#include "base/clock.h"

struct watched {
	struct list link;
	int64_t since_us;
	int fd;
};

static struct watched *of(struct MHD_Connection *c)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(
	    c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	return info != NULL ? info->socket_context : NULL;
}

static struct watched *oldest(const struct http_watch *w)
{
	return list_empty(&w->waiting) ? NULL : container_of(w->waiting.next, struct watched, link);
}

/* MHD sees the end of the stream and closes; until then the place is taken. */
static void cut(struct watched *c)
{
	list_remove(&c->link);
	shutdown(c->fd, SHUT_RDWR);
}

static void arm(const struct http_watch *w)
{
	const struct watched *first = oldest(w);

	loop_timer_set(w->timer, first != NULL ? first->since_us + w->timeout_us : INT64_MAX);
}

static void run(void *ctx)
{
	struct http_watch *w = ctx;
	int64_t now_us = clock_mono_us();
	struct watched *first;

	while ((first = oldest(w)) != NULL && first->since_us + w->timeout_us <= now_us)
		cut(first);
	arm(w);
}

int http_watch_init(struct http_watch *w, struct loop *l, int64_t timeout_us, size_t max)
{
	list_init(&w->waiting);
	w->timeout_us = timeout_us;
	w->max = max;
	w->timer = loop_timer_new(l, run, w);
	return w->timer != NULL ? 0 : ERR_NOMEM;
}

void http_watch_release(struct http_watch *w)
{
	loop_timer_free(w->timer);
}

static void wait(struct http_watch *w, struct watched *c)
{
	bool first = list_empty(&w->waiting);

	list_remove(&c->link);
	c->since_us = clock_mono_us();
	list_push(&w->waiting, &c->link);
	if (first)
		arm(w);
}

void http_watch_started(struct http_watch *w, struct MHD_Connection *c, void **context)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(
	    c, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct watched *made = calloc(1, sizeof(*made));

	*context = made;
	if (made == NULL || info == NULL)
		return;
	made->fd = info->connect_fd;
	list_init(&made->link);
	/* One of sixteen places is kept for newcomers. */
	if (++w->n > w->max - w->max / 16 && !list_empty(&w->waiting))
		cut(oldest(w));
	wait(w, made);
}

void http_watch_closed(struct http_watch *w, void **context)
{
	struct watched *c = *context;

	*context = NULL;
	if (c == NULL)
		return;
	w->n--;
	list_remove(&c->link);
	free(c);
}

void http_watch_wait(struct http_watch *w, struct MHD_Connection *c)
{
	struct watched *mine = of(c);

	if (mine != NULL)
		wait(w, mine);
}

void http_watch_leave(struct MHD_Connection *c)
{
	struct watched *mine = of(c);

	if (mine != NULL)
		list_remove(&mine->link);
}
