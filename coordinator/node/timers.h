/*
 * timers.h - every deadline of the node in one heap, behind one timer of the loop.
 *
 * Calling sequence: timers_admit (may fail) before the first timer_set of a timer, timer_set and
 * timer_stop any number of times (cannot fail), timers_retire at its end.
 */
#ifndef NODE_TIMERS_H
#define NODE_TIMERS_H

#include "base/heap.h"
#include "io/loop.h"

struct timer {
	struct heap_node node;
	void (*fn)(void *ctx, int64_t now_us); /* may set, stop or retire any timer */
	void *ctx;
};

struct timers {
	struct heap heap;
	struct loop_timer *tick;
	int64_t armed_us;
	size_t n_admitted;
};

int timers_init(struct timers *t, struct loop *loop) MUSTCHECK;
void timers_release(struct timers *t);

int timers_admit(struct timers *t, struct timer *timer, void (*fn)(void *ctx, int64_t now_us),
                 void *ctx) MUSTCHECK;
void timers_retire(struct timers *t, struct timer *timer);

/* Monotonic; INT64_MAX stops it. */
void timer_set(struct timers *t, struct timer *timer, int64_t at_us);

#endif /* NODE_TIMERS_H */
