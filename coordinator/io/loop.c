/*
 * loop.c - the event loop over libuv.
 *
 * A turn, as libuv runs it: expired uv timers, hooks (uv_prepare), poll, timers that were due
 * when they were set (uv_check), closed handles. Hooks stand right before the poll, so nothing
 * that a callback left for them is ever slept on; a kick from a hook makes that poll not wait.
 *
 * Timers that are already due do not go through uv_timer: libuv 1.44 runs a timer again in the
 * same pass when its callback sets it to now, and would never reach the poll.
 */
#include "io/loop.h"

#include <assert.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <uv.h>

#include "base/clock.h"
#include "base/list.h"

struct loop {
	uv_loop_t uv;
	uv_prepare_t prepare; /* runs the hooks */
	uv_check_t check;     /* runs the due timers */
	uv_idle_t idle;       /* active: the next poll does not wait */
	struct list hook;
	struct list due; /* timers set to a time that had passed */
	bool in_hooks;
};

struct loop_fd {
	uv_poll_t uv;
	loop_fd_fn *fn;
	void *ctx;
	int watched;
	bool freed;
};

struct loop_timer {
	uv_timer_t uv;
	struct loop *loop;
	struct list due;
	loop_fn *fn;
	void *ctx;
};

struct loop_hook {
	struct list link;
	struct loop *loop;
	loop_fn *fn;
	void *ctx;
	bool freed;
};

struct loop_signal {
	uv_signal_t uv;
	loop_fn *fn;
	void *ctx;
};

/* Every handle's uv part comes first, so that the handle is the allocation. */
static void handle_closed(uv_handle_t *h)
{
	free(h);
}

static void handle_close(void *uv)
{
	uv_close(uv, handle_closed);
}

/* --- the turn --- */

/* Idle handles run before the poll, due timers after it: they need one that does not wait. */
static void idle_run(uv_idle_t *h)
{
	const struct loop *l = h->data;

	if (list_empty(&l->due))
		uv_idle_stop(h);
}

static void loop_wake(struct loop *l)
{
	uv_idle_start(&l->idle, idle_run);
}

static void hooks_run(uv_prepare_t *h)
{
	struct loop *l = h->data;

	l->in_hooks = true;
	LIST_FOR_EACH (it, &l->hook) {
		struct loop_hook *hook = container_of(it, struct loop_hook, link);

		if (!hook->freed)
			hook->fn(hook->ctx);
	}
	l->in_hooks = false;
	LIST_FOR_EACH_SAFE (it, &l->hook) {
		struct loop_hook *hook = container_of(it, struct loop_hook, link);

		if (hook->freed) {
			list_remove(&hook->link);
			free(hook);
		}
	}
}

static void due_run(uv_check_t *h)
{
	struct loop *l = h->data;
	struct list now, *e;

	list_init(&now);
	list_splice(&now, &l->due);
	while ((e = list_pop(&now)) != NULL) {
		struct loop_timer *t = container_of(e, struct loop_timer, due);

		t->fn(t->ctx);
	}
}

struct loop *loop_new(void)
{
	struct loop *l = calloc(1, sizeof(*l));

	if (l == NULL)
		return NULL;
	if (uv_loop_init(&l->uv) != 0) {
		free(l);
		return NULL;
	}
	/* A peer that leaves is an error code, not the end of the process. */
	signal(SIGPIPE, SIG_IGN);
	list_init(&l->hook);
	list_init(&l->due);
	uv_prepare_init(&l->uv, &l->prepare);
	uv_check_init(&l->uv, &l->check);
	uv_idle_init(&l->uv, &l->idle);
	l->prepare.data = l;
	l->check.data = l;
	l->idle.data = l;
	uv_prepare_start(&l->prepare, hooks_run);
	uv_check_start(&l->check, due_run);
	return l;
}

void loop_run(struct loop *l)
{
	uv_run(&l->uv, UV_RUN_DEFAULT);
}

void loop_stop(struct loop *l)
{
	uv_stop(&l->uv);
}

void loop_free(struct loop *l)
{
	int rc = UV_EBUSY;

	if (l == NULL)
		return;
	uv_close((uv_handle_t *)&l->prepare, NULL);
	uv_close((uv_handle_t *)&l->check, NULL);
	uv_close((uv_handle_t *)&l->idle, NULL);
	/* A signal that is being delivered holds its handle for another turn. */
	for (int i = 0; i < 100 && rc == UV_EBUSY; i++) {
		uv_run(&l->uv, UV_RUN_NOWAIT);
		rc = uv_loop_close(&l->uv);
	}
	assert(rc == 0);
	assert(list_empty(&l->hook));
	free(l);
}

/* --- descriptors --- */

static int fd_start(struct loop_fd *f);

static void fd_run(uv_poll_t *h, int status, int events)
{
	struct loop_fd *f = container_of(h, struct loop_fd, uv);
	int got = 0;

	if (status < 0 || (events & UV_READABLE) != 0)
		got |= LOOP_READ;
	if (status < 0 || (events & UV_WRITABLE) != 0)
		got |= LOOP_WRITE;
	f->fn(f->ctx, got);
	/* libuv stops watching after an error; we go on until the owner says otherwise. */
	if (status < 0 && !f->freed && f->watched != 0)
		(void)fd_start(f);
}

static int fd_start(struct loop_fd *f)
{
	int events = 0;

	if ((f->watched & LOOP_READ) != 0)
		events |= UV_READABLE;
	if ((f->watched & LOOP_WRITE) != 0)
		events |= UV_WRITABLE;
	return uv_poll_start(&f->uv, events, fd_run) == 0 ? 0 : ERR_IO;
}

struct loop_fd *loop_fd_new(struct loop *l, int fd, loop_fd_fn *fn, void *ctx)
{
	struct loop_fd *f = calloc(1, sizeof(*f));

	if (f == NULL)
		return NULL;
	f->fn = fn;
	f->ctx = ctx;
	if (uv_poll_init(&l->uv, &f->uv, fd) != 0) {
		free(f);
		return NULL;
	}
	return f;
}

int loop_fd_watch(struct loop_fd *f, int events)
{
	if (events == f->watched)
		return 0;
	f->watched = events;
	if (events == 0)
		return uv_poll_stop(&f->uv) == 0 ? 0 : ERR_IO;
	return fd_start(f);
}

void loop_fd_free(struct loop_fd *f)
{
	if (f == NULL)
		return;
	f->freed = true;
	handle_close(&f->uv);
}

/* --- timers --- */

static void timer_run(uv_timer_t *h)
{
	struct loop_timer *t = container_of(h, struct loop_timer, uv);

	t->fn(t->ctx);
}

struct loop_timer *loop_timer_new(struct loop *l, loop_fn *fn, void *ctx)
{
	struct loop_timer *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return NULL;
	t->loop = l;
	t->fn = fn;
	t->ctx = ctx;
	list_init(&t->due);
	uv_timer_init(&l->uv, &t->uv);
	return t;
}

void loop_timer_set(struct loop_timer *t, int64_t at_us)
{
	uint64_t now_ms = uv_now(&t->loop->uv);

	list_remove(&t->due);
	uv_timer_stop(&t->uv);
	if (at_us == INT64_MAX)
		return;
	if (at_us > clock_mono_us()) {
		/* clock_mono_us and libuv read the same clock. The loop's own idea of now is as
		 * old as its turn; counting from it keeps the absolute time right. */
		uv_timer_start(&t->uv, timer_run, ((uint64_t)at_us + 999) / 1000 - now_ms, 0);
		return;
	}
	list_push(&t->loop->due, &t->due);
	loop_wake(t->loop);
}

void loop_timer_free(struct loop_timer *t)
{
	if (t == NULL)
		return;
	list_remove(&t->due);
	handle_close(&t->uv);
}

/* --- hooks --- */

struct loop_hook *loop_hook_new(struct loop *l, loop_fn *fn, void *ctx)
{
	struct loop_hook *h = calloc(1, sizeof(*h));

	if (h == NULL)
		return NULL;
	h->loop = l;
	h->fn = fn;
	h->ctx = ctx;
	list_push(&l->hook, &h->link);
	return h;
}

void loop_hook_kick(struct loop_hook *h)
{
	loop_wake(h->loop);
}

void loop_hook_free(struct loop_hook *h)
{
	if (h == NULL)
		return;
	if (h->loop->in_hooks) {
		h->freed = true; /* the walk over the list still stands on it */
		return;
	}
	list_remove(&h->link);
	free(h);
}

/* --- signals --- */

static void signal_run(uv_signal_t *h, int signo)
{
	struct loop_signal *s = container_of(h, struct loop_signal, uv);

	(void)signo;
	s->fn(s->ctx);
}

struct loop_signal *loop_signal_new(struct loop *l, int signo, loop_fn *fn, void *ctx)
{
	struct loop_signal *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->fn = fn;
	s->ctx = ctx;
	if (uv_signal_init(&l->uv, &s->uv) != 0) {
		free(s);
		return NULL;
	}
	if (uv_signal_start(&s->uv, signal_run, signo) != 0) {
		handle_close(&s->uv);
		return NULL;
	}
	return s;
}

void loop_signal_free(struct loop_signal *s)
{
	if (s != NULL)
		handle_close(&s->uv);
}
