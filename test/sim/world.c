#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "core/order.h"
#include "sim.h"

/* After the faults everything must have ended within this: the longest Retry-After, the cap of
 * the backoff, the deadline, and calls of the faulty time that still sleep in the network. */
#define HEAL_TIME (900 * SECOND)

uint64_t rnd(struct world *w)
{
	w->rng ^= w->rng << 13;
	w->rng ^= w->rng >> 7;
	w->rng ^= w->rng << 17;
	return w->rng;
}

int64_t rnd_us(struct world *w, int64_t below_us)
{
	return (int64_t)(rnd(w) % (uint64_t)below_us);
}

bool chance(struct world *w, unsigned percent)
{
	return w->faults && rnd(w) % 100 < percent;
}

void note(struct world *w, uint64_t what)
{
	w->hash = (w->hash ^ what) * 0x100000001b3u;
	w->hash ^= w->hash >> 29;
}

void trace(struct world *w, const char *fmt, ...)
{
	va_list ap;

	if (!w->trace)
		return;
	printf("%11.6f ", (double)w->now_us / 1e6);
	va_start(ap, fmt);
	(void)vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

void fail(const struct world *w, const char *fmt, ...)
{
	va_list ap;

	(void)fflush(stdout);
	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
	(void)fprintf(stderr, " (seed %" PRIu64 ", %.6f s)\n", w->seed, (double)w->now_us / 1e6);
	abort(); /* main prints how to replay */
}

struct world *world_new(void)
{
	struct world *w = calloc(1, sizeof *w);

	if (!w)
		abort();
	w->pool = calloc(MSG_MAX, sizeof *w->pool);
	w->free_msg = calloc(MSG_MAX, sizeof(struct msg *));
	w->queue = calloc(QUEUE_MAX, sizeof *w->queue);
	if (!w->pool || !w->free_msg || !w->queue || heap_reserve(&w->heap, MSG_MAX) != 0)
		abort();
	return w;
}

void world_free(struct world *w)
{
	arena_release(&w->arena);
	heap_release(&w->heap);
	free(w->pool);
	free((void *)w->free_msg);
	free(w->queue);
	free(w);
}

void post(struct world *w, const struct msg *m, int64_t at_us)
{
	struct msg *copy;

	must(w, at_us >= w->now_us);
	if (w->n_free)
		copy = w->free_msg[--w->n_free];
	else if (w->n_pool < MSG_MAX)
		copy = &w->pool[w->n_pool++];
	else
		fail(w, "more than %d messages under way", MSG_MAX);
	*copy = *m;
	copy->node = (struct heap_node){0};
	heap_set(&w->heap, &copy->node, at_us);
}

/* Across the network: lost, doubled, overtaken, or asleep until long after everybody gave up. */
void transmit(struct world *w, const struct msg *m)
{
	unsigned copies = chance(w, w->climate.twice) ? 2 : 1;
	bool question = m->kind >= MSG_GET && m->kind <= MSG_POLLED;

	if (w->one_down && question) {
		post(w, m, w->now_us + 1 + rnd_us(w, SECOND / 4));
		return;
	}
	if (is_cut(w, m) || chance(w, w->climate.loss)) {
		trace(w, "lost");
		return;
	}
	while (copies--) {
		int64_t delay_us = 1 + rnd_us(w, w->faults ? w->climate.delay_us : SECOND / 100);

		if (chance(w, w->climate.slow))
			delay_us += rnd_us(w, 60 * SECOND);
		post(w, m, w->now_us + delay_us);
	}
}

static void roll_climate(struct world *w)
{
	unsigned how = (unsigned)(rnd(w) % 4); /* 0: a calm day */

	w->climate = (struct climate){
	    .loss = (unsigned)(rnd(w) % (8 * how + 1)),
	    .twice = (unsigned)(rnd(w) % (8 * how + 1)),
	    .slow = (unsigned)(rnd(w) % (4 * how + 1)),
	    .crash = (unsigned)(rnd(w) % (2 * how + 1)),
	    .odd = (unsigned)(rnd(w) % (10 * how + 1)),
	    .part_crash = (unsigned)(rnd(w) % (2 * how + 1)),
	    .refuse = rnd(w) % 3 == 0 ? (unsigned)(rnd(w) % 30) : 0,
	    .alone = rnd(w) % 16 == 0 ? 40 : 0,
	    .jump = rnd(w) % 8 == 0 ? 50 : 0,
	    .pause = (unsigned)(rnd(w) % (4 * how + 1)),
	    .split = (unsigned)(rnd(w) % (4 * how + 1)),
	    .delay_us = 1000 + rnd_us(w, rnd(w) % 2 ? SECOND / 50 : 4 * SECOND),
	};
}

/* Now and then over before it begins. */
int64_t roll_deadline(struct world *w)
{
	return w->now_us + (rnd(w) % 64 ? SECOND / 100 + rnd_us(w, 15 * SECOND) : 0);
}

static unsigned roll_participants(struct world *w)
{
	if (w->interactive && rnd(w) % 16 == 0)
		return 0;
	switch (rnd(w) % 64) {
	case 0:
		return TXN_BRANCH_MAX;
	case 1:
		return 9 + (unsigned)(rnd(w) % (TXN_BRANCH_MAX - 9));
	default:
		return 1 + (unsigned)(rnd(w) % (w->mode == MODE_THREE_PHASE ? 4 : 8));
	}
}

/* Every fourth bit is set. */
static uint64_t sparse(struct world *w)
{
	uint64_t half = rnd(w);

	return half & rnd(w);
}

/* Each comes after some of those before it, in every second world that has an order at all. */
static void roll_order(struct world *w)
{
	bool row = w->mode == MODE_SAGA && rnd(w) % 2;

	if (w->interactive || (!row && rnd(w) % 2))
		return;
	w->wanted = w->mode == MODE_SAGA ? sparse(w) : 0;
	for (unsigned i = 1; i < w->n_part; i++) {
		if (row)
			w->after[i] = (uint64_t)1 << (i - 1);
		else if (rnd(w) % 3)
			w->after[i] = sparse(w) & (((uint64_t)1 << i) - 1);
	}
	must(w, order_close(w->after, w->n_part) == 0);
}

/* Timeouts of every length: no clock is in the argument. */
static void roll_holds(struct world *w)
{
	unsigned commits = (unsigned)(rnd(w) % 3) * 50; /* percent */

	w->climate.alone = 0;
	w->climate.refuse /= 4; /* each is asked twice */
	w->climate.delay_us /= 2;
	w->one_down = rnd(w) % 3 == 0;
	w->ambush = rnd(w) % 2 ? TXN_PRE_COMMITTING : TXN_PRE_ABORTING;
	w->phase_timeout_us = SECOND / 10 + rnd_us(w, 10 * SECOND);
	w->hold_us = SECOND / 20 + rnd_us(w, rnd(w) % 4 ? 2 * SECOND : 40 * SECOND);
	for (unsigned i = 0; i < w->n_part; i++)
		w->part[i].hold.commits = rnd(w) % 100 < commits;
}

static void roll_world(struct world *w)
{
	bool all_read_only;

	roll_climate(w);
	w->mode = (enum txn_mode)(1 + rnd(w) % MODE_THREE_PHASE);
	w->interactive = rnd(w) % 2 && w->mode != MODE_SAGA;
	w->forward = w->mode == MODE_SAGA && rnd(w) % 4 == 0;
	w->undo_confirms = w->mode == MODE_TCC && rnd(w) % 3 == 0;
	w->n_part = roll_participants(w);
	w->n_first = w->interactive && rnd(w) % 4 == 0 ? (w->n_part + 1) / 2 : 0;
	w->heal_us = 1 + rnd_us(w, 60 * SECOND);
	w->deadline_us = roll_deadline(w);
	w->vote_timeout_us = roll_deadline(w);
	w->retry = (struct retry_policy){
	    .initial_us = 1000 + rnd_us(w, SECOND),
	    .factor = 1 + (uint32_t)(rnd(w) % 3),
	    .cap_us = SECOND + rnd_us(w, 20 * SECOND),
	    .alert_after = 1 + (uint32_t)(rnd(w) % 6),
	};
	all_read_only = rnd(w) % 32 == 0;
	for (unsigned i = 0; i < w->n_part; i++) {
		w->timeout_us[i] = SECOND / 10 + rnd_us(w, 3 * SECOND);
		w->part[i].read_only = all_read_only || rnd(w) % 10 == 0;
		/* The initiator hears that, and no one else: there is nothing to confirm. */
		w->part[i].read_only &= !(w->mode == MODE_TCC && w->interactive);
		w->part[i].stubborn = w->climate.alone && rnd(w) % 3 == 0;
	}
	if (w->mode == MODE_THREE_PHASE)
		roll_holds(w);
	else
		roll_order(w);
}

/* Back to the first day; memory is kept. */
static void world_reset(struct world *w, uint64_t seed, bool tracing)
{
	struct world kept = {
	    .heap = w->heap, .pool = w->pool, .free_msg = w->free_msg, .queue = w->queue};

	arena_release(&w->arena);
	memset(w, 0, sizeof *w);
	w->heap = kept.heap;
	w->heap.n = 0;
	w->heap.seq = 0;
	w->pool = kept.pool;
	w->free_msg = kept.free_msg;
	w->queue = kept.queue;
	w->seed = seed;
	w->rng = seed * 0x9e3779b97f4a7c15u + 1;
	w->hash = 0xcbf29ce484222325u;
	w->faults = true;
	w->trace = tracing;
	for (int i = 0; i < 4; i++)
		(void)rnd(w); /* neighbouring seeds begin alike */
	roll_world(w);
}

static void dispatch(struct world *w, const struct msg *m)
{
	switch (m->kind) {
	case MSG_REQUEST:
		participant_request(w, m);
		break;
	case MSG_ALONE:
		participant_alone(w, m);
		break;
	case MSG_WAKE:
		initiator_wake(w);
		break;
	case MSG_ASK:
		coordinator_asked(w, m);
		break;
	case MSG_SAID:
		initiator_said(w, m);
		break;
	case MSG_TRY:
		participant_try(w, m);
		break;
	case MSG_TRIED:
		initiator_tried(w, m);
		break;
	case MSG_REPLY:
	case MSG_TIMEOUT:
	case MSG_FLUSH:
	case MSG_FLUSHED:
	case MSG_RESTART:
		coordinator_msg(w, m);
		break;
	case MSG_GET:
		coordinator_get(w, m);
		break;
	case MSG_WORKED:
	case MSG_HOLD:
	case MSG_GOT:
	case MSG_POLL:
	case MSG_POLLED:
	case MSG_GIVE_UP:
		hold_msg(w, m);
		break;
	}
}

/* The next thing that happens. False when nothing ever will again. */
static bool tick(struct world *w)
{
	struct heap_node *first = heap_peek(&w->heap);
	int64_t timer_us = coordinator_due_us(w);
	int64_t at_us = first && first->key <= timer_us ? first->key : timer_us;

	if (at_us == INT64_MAX)
		return false;
	if (w->faults && at_us >= w->heal_us) {
		w->faults = false;
		w->lag_us = 0;
		trace(w, "--- the faults are over");
	}
	w->events++;
	if (at_us > w->now_us)
		w->now_us = at_us;
	note(w, (uint64_t)w->now_us);
	if (first && first->key <= timer_us) {
		struct msg *slot = container_of(first, struct msg, node);
		struct msg m = *slot;

		heap_remove(&w->heap, first);
		w->free_msg[w->n_free++] = slot;
		if (paused_until_us(w, &m) > w->now_us)
			post(w, &m, paused_until_us(w, &m));
		else
			dispatch(w, &m);
	} else {
		coordinator_timer(w);
	}
	if (w->mode == MODE_THREE_PHASE)
		trouble(w);
	if (w->up && chance(w, 30) && coordinator_dies(w))
		coordinator_crash(w, coordinator_away_us(w));
	if (w->up && chance(w, 1))
		coordinator_submit_again(w);
	check_atomic(w);
	return true;
}

void world_run(struct world *w, uint64_t seed, bool tracing)
{
	world_reset(w, seed, tracing);
	coordinator_start(w);
	if (w->interactive)
		initiator_start(w);
	while (tick(w)) {
		if (w->now_us > w->heal_us + HEAL_TIME)
			fail(w, "not at rest long after the faults were over");
	}
	must(w, coordinator_idle(w));
	check_end(w);
}
