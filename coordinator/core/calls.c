#include "core/calls.h"

#include <assert.h>

#include "core/backoff.h"

void effects_push(struct effects *fx, const struct action *action)
{
	assert(fx->n_act < ACTION_MAX);
	fx->act[fx->n_act++] = *action;
}

void calls_settle(struct txn *t, unsigned branch)
{
	struct branch *b = &t->branch[branch];

	b->op = OP_NONE;
	b->in_call = false;
	b->attempt = 0;
	b->failures = 0;
	b->past_attempt = 0;
	b->past_failures = 0;
	b->not_before_us = 0;
	b->due_us = INT64_MAX;
}

void calls_clear(struct txn *t)
{
	for (unsigned i = 0; i < t->n_branch; i++)
		calls_settle(t, i);
}

void calls_assign(struct txn *t, unsigned branch, enum txn_op op, int64_t now_us)
{
	struct branch *b = &t->branch[branch];
	uint32_t attempt = b->past_attempt, failures = b->past_failures;
	int64_t not_before_us = b->not_before_us;

	calls_settle(t, branch);
	b->op = op;
	b->attempt = attempt;
	b->failures = failures;
	b->not_before_us = not_before_us;
	b->due_us = not_before_us > now_us ? not_before_us : now_us;
}

static int64_t min_us(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

void calls_start(struct txn *t, const struct call_rule *rule, int64_t now_us, struct effects *fx)
{
	if (now_us >= rule->until_us)
		return;
	for (unsigned i = 0; i < t->n_branch; i++) {
		struct branch *b = &t->branch[i];

		if (b->op == OP_NONE || b->in_call || b->due_us > now_us)
			continue;
		b->called = true;
		b->in_call = true;
		b->due_us = INT64_MAX;
		b->attempt++;
		effects_push(fx, &(struct action){
		                     .type = ACT_CALL,
		                     .branch = i,
		                     .op = b->op,
		                     .one_phase = rule->one_phase,
		                     .attempt = b->attempt,
		                     .timeout_us = min_us(b->timeout_us, rule->until_us - now_us),
		                 });
	}
}

static void call_again(struct branch *b, int64_t at_us)
{
	b->in_call = false;
	b->not_before_us = 0;
	b->due_us = at_us;
}

static void back_off(struct txn *t, const struct event *ev, uint32_t failures)
{
	struct branch *b = &t->branch[ev->branch];
	int64_t wait_us = backoff_us(&t->retry, t->seed, ev->branch, failures, ev->retry_after_us);

	call_again(b, ev->now_us + wait_us);
	if (ev->retry_after_us > 0)
		b->not_before_us = ev->now_us + min_us(wait_us, ev->retry_after_us);
}

void calls_working(struct txn *t, const struct event *ev)
{
	struct branch *b = &t->branch[ev->branch];

	b->failures = 0;
	call_again(b, ev->now_us + t->retry.initial_us);
}

static void count_failure(struct branch *b)
{
	if (b->failures < UINT32_MAX)
		b->failures++;
}

void calls_failed(struct txn *t, const struct event *ev)
{
	struct branch *b = &t->branch[ev->branch];

	count_failure(b);
	back_off(t, ev, b->failures);
}

void calls_alert(struct txn *t, unsigned branch, enum alert_kind kind, struct effects *fx)
{
	struct branch *b = &t->branch[branch];

	if (b->raised >> kind & 1)
		return;
	b->raised |= (uint8_t)(1u << kind);
	if (kind != ALERT_HEURISTIC)
		b->alerted = true;
	effects_push(fx, &(struct action){.type = ACT_ALERT, .branch = branch, .alert = kind});
}

void calls_through(struct txn *t, unsigned branch, struct effects *fx)
{
	struct branch *b = &t->branch[branch];

	calls_settle(t, branch);
	if (!b->alerted)
		return;
	b->alerted = false;
	effects_push(fx, &(struct action){.type = ACT_ALERT_CLOSE, .branch = branch});
}

void calls_delivery_failed(struct txn *t, const struct event *ev, struct effects *fx)
{
	const struct branch *b = &t->branch[ev->branch];

	calls_failed(t, ev);
	/* Whoever has been told that the answers are wrong need not hear that they are missing. */
	if (b->failures >= t->retry.alert_after && !(b->raised >> ALERT_CONTRACT & 1))
		calls_alert(t, ev->branch, ALERT_EXHAUSTED, fx);
}

void calls_delivery_contract(struct txn *t, const struct event *ev, struct effects *fx)
{
	count_failure(&t->branch[ev->branch]);
	back_off(t, ev, UINT32_MAX);
	calls_alert(t, ev->branch, ALERT_CONTRACT, fx);
}
