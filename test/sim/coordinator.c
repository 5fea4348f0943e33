#include "sim.h"

#include <string.h>

static struct image image_of(const struct txn *t)
{
	struct image image = {.present = true, .state = t->state, .outcome = t->outcome};

	for (unsigned i = 0; i < t->n_branch; i++)
		image.branch[i] = (uint8_t)t->branch[i].state;
	return image;
}

static void post_own(struct world *w, enum msg_kind kind, int64_t delay_us)
{
	post(w, &(struct msg){.kind = kind, .life = w->life}, w->now_us + delay_us);
}

/* `n` records of the journal's queue reach the disk together, or none does. */
static void make_durable(struct world *w, size_t n)
{
	for (size_t i = 0; i < n; i++)
		check_durable(w, &w->record[i].image);
	w->durable = w->record[n - 1].image;
	w->durable_seq = w->record[n - 1].seq;
	trace(w, "durable: %s, %s", txn_state_str(w->durable.state),
	      txn_outcome_str(w->durable.outcome));
}

void coordinator_crash(struct world *w)
{
	trace(w, "coordinator: crash");
	/* A flush under way may have been the last thing that worked. */
	if (w->n_flushing && rnd(w) % 2)
		make_durable(w, w->n_flushing);
	for (size_t i = 0; i < w->n_queue; i++) {
		const struct queued_action *q = &w->queue[i];

		if (!q->done && q->action.type == ACT_ALERT_CLOSE)
			w->close_lost[q->action.branch] = true;
	}
	w->crashes++;
	w->up = false;
	w->life++;
	w->n_record = 0;
	w->n_flushing = 0;
	w->n_queue = 0;
	post_own(w, MSG_RESTART, rnd(w) % 3 ? 0 : rnd_us(w, 5 * SECOND));
}

static void call_participant(struct world *w, const struct action *a)
{
	struct call *c = &w->call[a->branch][a->op];
	struct msg m = {
	    .kind = MSG_REQUEST,
	    .branch = a->branch,
	    .op = a->op,
	    .one_phase = a->one_phase,
	    .attempt = a->attempt,
	    .life = w->life,
	};

	must(w, !c->open);
	must(w, a->attempt == c->attempt + 1);
	c->open = true;
	c->attempt = a->attempt;
	if (a->op == OP_PREPARE || a->one_phase)
		w->asked[a->branch] = true;
	trace(w, "call branch %u %s attempt %u", a->branch, txn_op_str(a->op), a->attempt);
	transmit(w, &m);
	m.kind = MSG_TIMEOUT;
	m.answer.err = ERR_TIMEOUT;
	post(w, &m, w->now_us + a->timeout_us);
}

/* The write-ahead rule: what waits for a record that is not durable goes on waiting. */
static void run_queue(struct world *w)
{
	size_t n = 0;

	while (n < w->n_queue && w->queue[n].wait_seq <= w->durable_seq) {
		struct queued_action *q = &w->queue[n++];

		if (chance(w, w->climate.crash)) {
			coordinator_crash(w); /* between any two actions */
			return;
		}
		check_action(w, &q->action);
		note(w, (uint64_t)q->action.type << 32 | q->action.branch);
		if (q->action.type == ACT_CALL)
			call_participant(w, &q->action);
		else
			trace(w, "action %d branch %u", (int)q->action.type, q->action.branch);
		q->done = true;
	}
	w->n_queue -= n;
	memmove(w->queue, w->queue + n, w->n_queue * sizeof *w->queue);
}

static void queue_record(struct world *w, bool forced)
{
	must(w, w->n_record < RECORD_MAX);
	w->record[w->n_record++] = (struct record_slot){++w->record_seq, image_of(&w->t)};
	if (forced)
		w->forced_seq = w->record_seq;
	post_own(w, MSG_FLUSH, forced ? 0 : rnd_us(w, SECOND / 50));
}

/* In any order: those of one step have none. */
static void queue_actions(struct world *w, const struct effects *fx)
{
	bool backwards = rnd(w) % 2;

	for (size_t i = 0; i < fx->n_act; i++) {
		size_t at = backwards ? fx->n_act - 1 - i : i;

		must(w, w->n_queue < QUEUE_MAX);
		w->queue[w->n_queue++] = (struct queued_action){
		    .action = fx->act[at],
		    .wait_seq = w->forced_seq,
		};
	}
}

static void step(struct world *w, struct event ev)
{
	struct effects fx;
	int rc;

	ev.now_us = w->now_us + w->shift_us;
	rc = txn_step(&w->t, &ev, &fx);
	trace(w, "event %s branch %u %s attempt %u: %s, %s", verdict_str(ev.type), ev.branch,
	      txn_op_str(ev.op), ev.attempt, txn_state_str(w->t.state),
	      txn_outcome_str(w->t.outcome));
	note(w, (uint64_t)ev.type << 40 | (uint64_t)ev.branch << 32 | (uint64_t)w->t.state);
	check_step(w, &ev, rc, &fx);
	if (fx.record.present)
		queue_record(w, fx.record.forced);
	queue_actions(w, &fx);
	w->lag_us = chance(w, 10) ? rnd_us(w, 2 * SECOND) : 0;
	run_queue(w);
}

/* A process with an empty memory, and with a monotonic clock of its own. */
static void boot(struct world *w)
{
	struct txn_config config;

	w->shift_us = rnd_us(w, 1000000 * SECOND);
	config = (struct txn_config){
	    .mode = MODE_TWO_PHASE,
	    .seed = w->seed,
	    .n_branch = w->n_branch,
	    .deadline_us = w->deadline_us + w->shift_us,
	    .retry = w->retry,
	};
	w->up = true;
	w->forced_seq = w->record_seq = w->durable_seq;
	memset(w->call, 0, sizeof w->call);
	arena_release(&w->arena);
	arena_init(&w->arena, 0);
	must(w, txn_init(&w->t, &w->arena, &config) == 0);
	for (unsigned i = 0; i < w->n_branch; i++)
		w->t.branch[i].timeout_us = w->timeout_us[i];
}

void coordinator_start(struct world *w)
{
	boot(w);
	step(w, (struct event){.type = EV_SUBMIT});
}

static void restart(struct world *w)
{
	if (!w->durable.present) {
		/* Nobody was promised anything; the initiator submits again. */
		w->deadline_us = roll_deadline(w);
		coordinator_start(w);
		return;
	}
	if (chance(w, w->climate.jump)) /* the database's clock was set */
		w->deadline_us += rnd_us(w, 40 * SECOND) - 20 * SECOND;
	boot(w);
	must(w, txn_restore(&w->t, w->durable.state, w->durable.outcome, w->durable.branch) == 0);
	step(w, (struct event){.type = EV_RESUME});
}

static void flush(struct world *w)
{
	if (w->n_flushing || !w->n_record)
		return;
	w->n_flushing = w->n_record;
	post_own(w, MSG_FLUSHED, 200 + (chance(w, 20) ? rnd_us(w, 3 * SECOND) : 0));
}

static void flushed(struct world *w)
{
	size_t n = w->n_flushing;

	if (chance(w, w->climate.crash)) {
		coordinator_crash(w); /* the answer of the commit never comes: it may have worked */
		return;
	}
	make_durable(w, n);
	w->n_record -= n;
	memmove(w->record, w->record + n, w->n_record * sizeof *w->record);
	w->n_flushing = 0;
	flush(w);
	run_queue(w);
}

static void answered(struct world *w, const struct msg *m)
{
	struct call *c = &w->call[m->branch][m->op];

	/* A timeout is the driver's own and comes only to a call that is open; replies come when
	 * they like: late, twice, to an attempt long given up. */
	if (m->kind == MSG_TIMEOUT && !(c->open && c->attempt == m->attempt))
		return;
	if (c->attempt == m->attempt)
		c->open = false;
	step(w, (struct event){
	            .type = verdict_judge(m->op, m->one_phase, &m->answer),
	            .branch = m->branch,
	            .op = m->op,
	            .attempt = m->attempt,
	            .retry_after_us = m->retry_after_us,
	        });
}

void coordinator_msg(struct world *w, const struct msg *m)
{
	if (m->life != w->life)
		return;
	if (m->kind == MSG_RESTART)
		restart(w);
	else if (m->kind == MSG_FLUSH)
		flush(w);
	else if (m->kind == MSG_FLUSHED)
		flushed(w);
	else
		answered(w, m);
}

void coordinator_timer(struct world *w)
{
	w->lag_us = 0;
	step(w, (struct event){.type = EV_TIMER});
}

int64_t coordinator_due_us(const struct world *w)
{
	int64_t due = w->up ? txn_due_us(&w->t) : INT64_MAX;

	return due == INT64_MAX ? due : due - w->shift_us + w->lag_us;
}

/* What is not due and what was said before: neither may do anything. */
void coordinator_submit_again(struct world *w)
{
	step(w, (struct event){.type = rnd(w) % 2 ? EV_SUBMIT : EV_TIMER});
}

bool coordinator_idle(const struct world *w)
{
	return w->up && w->n_record == 0 && w->n_queue == 0 && txn_ended(w->t.state);
}
