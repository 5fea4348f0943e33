#include "node/timers.h"

#include <string.h>

#include "base/clock.h"
#include "base/list.h"

static void arm(struct timers *t, int64_t at_us)
{
	t->armed_us = at_us;
	loop_timer_set(t->tick, at_us);
}

static void on_tick(void *ctx)
{
	struct timers *t = ctx;
	int64_t now_us = clock_mono_us();
	struct heap_node *first;

	while ((first = heap_peek(&t->heap)) && first->key <= now_us) {
		struct timer *timer = container_of(first, struct timer, node);

		heap_remove(&t->heap, first);
		timer->fn(timer->ctx, now_us);
	}
	arm(t, first ? first->key : INT64_MAX);
}

int timers_init(struct timers *t, struct loop *loop)
{
	memset(t, 0, sizeof *t);
	heap_init(&t->heap);
	t->armed_us = INT64_MAX;
	t->tick = loop_timer_new(loop, on_tick, t);
	return t->tick ? 0 : ERR_NOMEM;
}

void timers_release(struct timers *t)
{
	loop_timer_free(t->tick);
	heap_release(&t->heap);
}

int timers_admit(struct timers *t, struct timer *timer, void (*fn)(void *ctx, int64_t now_us),
                 void *ctx)
{
	int rc = heap_reserve(&t->heap, t->n_admitted + 1);

	if (rc < 0)
		return rc;
	t->n_admitted++;
	memset(timer, 0, sizeof *timer);
	timer->fn = fn;
	timer->ctx = ctx;
	return 0;
}

void timers_retire(struct timers *t, struct timer *timer)
{
	if (!timer->fn)
		return;
	heap_remove(&t->heap, &timer->node);
	timer->fn = NULL;
	t->n_admitted--;
}

void timer_set(struct timers *t, struct timer *timer, int64_t at_us)
{
	if (at_us == INT64_MAX) {
		heap_remove(&t->heap, &timer->node);
		return;
	}
	heap_set(&t->heap, &timer->node, at_us);
	/* A tick that comes too early finds nothing due and arms itself for the next. */
	if (at_us < t->armed_us)
		arm(t, at_us);
}
