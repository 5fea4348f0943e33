/*
 * loop_test.c - runs a loop until a condition holds, with a deadline.
 */
#include "loop_test.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"

#define DEADLINE_US 30000000

struct wait {
	struct loop *loop;
	loop_cond *cond;
	void *ctx;
	bool late;
};

static void wait_check(void *ctx)
{
	struct wait *w = ctx;

	if (w->cond != NULL && w->cond(w->ctx))
		loop_stop(w->loop);
}

static void wait_late(void *ctx)
{
	struct wait *w = ctx;

	w->late = true;
	loop_stop(w->loop);
}

static void wait_run(struct wait *w, int64_t us)
{
	struct loop_hook *hook = loop_hook_new(w->loop, wait_check, w);
	struct loop_timer *timer = loop_timer_new(w->loop, wait_late, w);

	assert_non_null(hook);
	assert_non_null(timer);
	loop_timer_set(timer, clock_mono_us() + us);
	loop_run(w->loop);
	loop_hook_free(hook);
	loop_timer_free(timer);
}

void loop_until(struct loop *l, loop_cond *cond, void *ctx)
{
	struct wait w = {l, cond, ctx, false};

	wait_run(&w, DEADLINE_US);
	assert_false(w.late);
}

struct count {
	const unsigned *at;
	unsigned n;
};

static bool count_reached(void *ctx)
{
	const struct count *c = ctx;

	return *c->at >= c->n;
}

void loop_until_count(struct loop *l, const unsigned *count, unsigned n)
{
	struct count c = {count, n};

	loop_until(l, count_reached, &c);
}

void loop_for_ms(struct loop *l, int ms)
{
	struct wait w = {l, NULL, NULL, false};

	wait_run(&w, (int64_t)ms * 1000);
}
