#include "node/intake.h"

#include "base/clock.h"
#include "node/driver.h"
#include "node/node.h"

/* So few are no burst. */
#define CROWD 16
/* So long after the newest crowd it is over: between two flushes there is none for a moment. */
#define CALM_US INT64_C(10000)
/* So many go in a turn, so that requests are served between them. */
#define TURN_MAX 128
/* So few calls that wait for places are no rest of a burst. */
#define QUEUE_SMALL 256
/* Of overload_delay_ms, and of the time that a transaction has. */
#define SHARE 8

static int64_t hold_us(const struct node *n)
{
	return n->config->overload_delay_ms * 1000 / SHARE;
}

static void on_due(void *ctx, int64_t now_us)
{
	struct node *n = ctx;

	(void)now_us;
	loop_hook_kick(n->hook); /* intake_turn looks */
}

int intake_init(struct node *n)
{
	return timers_admit(&n->timers, &n->intake.due, on_due, n);
}

void intake_release(struct node *n)
{
	timers_retire(&n->timers, &n->intake.due);
}

void intake_submitted(struct gtx *g)
{
	g->intake.storing = true;
	g->node->intake.n_storing++;
}

static void stored(struct gtx *g)
{
	struct intake *in = &g->node->intake;

	if (!g->intake.storing)
		return;
	if (in->n_storing-- > CROWD)
		in->calm_us = clock_mono_us() + CALM_US;
	g->intake.storing = false;
}

static bool is_over(const struct intake *in, int64_t now_us)
{
	return in->n_storing <= CROWD && now_us >= in->calm_us;
}

bool intake_hold(struct gtx *g)
{
	struct node *n = g->node;
	bool is_new = g->intake.storing;
	int64_t now_us;

	stored(g);
	list_remove(&g->intake.link);
	if (!is_new || g->spec.interactive || !list_empty(&g->waiter))
		return false;
	now_us = clock_mono_us();
	if (n->intake.lasting || is_over(&n->intake, now_us) ||
	    g->deadline_mono_us - now_us < SHARE * hold_us(n))
		return false;
	g->intake.since_us = now_us;
	list_push(&n->intake.held, &g->intake.link);
	return true;
}

void intake_hurry(struct gtx *g)
{
	if (list_empty(&g->intake.link))
		return;
	list_remove(&g->intake.link);
	g->intake.since_us = 0;
	list_push(g->node->intake.held.next, &g->intake.link); /* in front of all */
	loop_hook_kick(g->node->hook);
}

void intake_leave(struct gtx *g)
{
	stored(g);
	list_remove(&g->intake.link);
}

/* Until the burst may be over, or the oldest has been held for long enough. */
static void wait_for_more(struct node *n, const struct gtx *oldest, int64_t now_us)
{
	int64_t at_us = oldest->intake.since_us + hold_us(n);

	if (n->intake.calm_us > now_us && n->intake.calm_us < at_us)
		at_us = n->intake.calm_us;
	timer_set(&n->timers, &n->intake.due, at_us);
}

static void end_lasting(struct node *n, int64_t now_us)
{
	struct http_client_stats calls;

	http_client_stats(n->client, &calls);
	if (is_over(&n->intake, now_us) && calls.n_queued <= QUEUE_SMALL)
		n->intake.lasting = false;
}

void intake_turn(struct node *n)
{
	struct intake *in = &n->intake;
	int64_t now_us = clock_mono_us();

	for (unsigned i = 0; !list_empty(&in->held); i++) {
		struct gtx *g = container_of(in->held.next, struct gtx, intake.link);

		if (g->intake.since_us && !in->lasting && !is_over(in, now_us)) {
			if (g->intake.since_us + hold_us(n) > now_us) {
				wait_for_more(n, g, now_us);
				return;
			}
			in->lasting = true;
		}
		if (i == TURN_MAX) {
			loop_hook_kick(n->hook);
			return;
		}
		list_remove(&g->intake.link);
		driver_go_on(g);
	}
	if (in->lasting)
		end_lasting(n, now_us);
}
