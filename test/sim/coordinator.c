#include "sim.h"

#include <string.h>

static struct image image_of(const struct world *w)
{
	const struct txn *t = &w->t;
	struct image image = {
	    .present = true,
	    .state = t->state,
	    .outcome = t->outcome,
	    .deadline_us = t->deadline_us - w->shift_us,
	    .n_branch = t->n_branch,
	};

	for (unsigned i = 0; i < t->n_branch; i++) {
		image.branch[i] = (uint8_t)t->branch[i].state;
		image.part[i] = w->part_of[i];
	}
	return image;
}

static void post_own(struct world *w, enum msg_kind kind, int64_t delay_us)
{
	post(w, &(struct msg){.kind = kind, .life = w->life}, w->now_us + delay_us);
}

/* `n` records of the journal's queue reach the disk together, or none does. */
static void make_durable(struct world *w, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		check_durable(w, &w->record[i].image);
		w->durable = w->record[i].image;
	}
	w->deadline_us = w->durable.deadline_us;
	w->durable_seq = w->record[n - 1].seq;
	trace(w, "durable: %s, %s", txn_state_str(w->durable.state),
	      txn_outcome_str(w->durable.outcome));
}

bool coordinator_dies(struct world *w)
{
	return chance(w, w->climate.crash) && may_go_down(w, true);
}

int64_t coordinator_away_us(struct world *w)
{
	return rnd(w) % 3 ? 0 : rnd_us(w, 5 * SECOND);
}

void coordinator_crash(struct world *w, int64_t away_us)
{
	trace(w, "coordinator: crash");
	/* A flush under way may have been the last thing that worked. */
	if (w->n_flushing && rnd(w) % 2)
		make_durable(w, w->n_flushing);
	for (size_t i = 0; i < w->n_queue; i++) {
		const struct queued_action *q = &w->queue[i];

		if (!q->done && !q->reply && q->action.type == ACT_ALERT_CLOSE)
			w->close_lost[w->part_of[q->action.branch]] = true;
	}
	w->crashes++;
	w->up = false;
	w->paused_until_us = 0;
	w->life++;
	w->n_record = 0;
	w->n_flushing = 0;
	w->n_queue = 0;
	post_own(w, MSG_RESTART, away_us);
}

/* Whom a participant may ask: those that have work to finish. */
static uint64_t peers_of(const struct world *w, unsigned branch)
{
	uint64_t peers = 0;

	for (unsigned i = 0; i < w->t.n_branch; i++) {
		if (i != branch && w->t.branch[i].state != BRANCH_READ_ONLY)
			peers |= (uint64_t)1 << w->part_of[i];
	}
	return peers;
}

static void call_participant(struct world *w, const struct action *a)
{
	struct call *c = &w->call[a->branch][a->op];
	struct msg m = {
	    .kind = MSG_REQUEST,
	    .part = w->part_of[a->branch],
	    .branch = a->branch,
	    .op = a->op,
	    .one_phase = a->one_phase,
	    .attempt = a->attempt,
	    .life = w->life,
	    .peers = a->op == OP_PRE_COMMIT ? peers_of(w, a->branch) : 0,
	};

	must(w, !c->open);
	must(w, a->attempt == c->attempt + 1);
	c->open = true;
	c->attempt = a->attempt;
	if (txn_op_votes(a->op, a->one_phase))
		w->asked[m.part] = true;
	trace(w, "call part %u %s attempt %u", m.part, txn_op_str(a->op), a->attempt);
	transmit(w, &m);
	m.kind = MSG_TIMEOUT;
	m.answer.err = ERR_TIMEOUT;
	post(w, &m, w->now_us + a->timeout_us);
}

static void carry_out(struct world *w, const struct queued_action *q)
{
	if (q->reply) {
		check_said(w, &q->said);
		transmit(w, &q->said);
		return;
	}
	check_action(w, &q->action);
	note(w, (uint64_t)q->action.type << 32 | q->action.branch);
	if (q->action.type == ACT_CALL)
		call_participant(w, &q->action);
	else
		trace(w, "action %d branch %u", (int)q->action.type, q->action.branch);
}

/* The write-ahead rule: what waits for a record that is not durable goes on waiting. */
static void run_queue(struct world *w)
{
	size_t n = 0;

	while (n < w->n_queue && w->queue[n].wait_seq <= w->durable_seq) {
		struct queued_action *q = &w->queue[n++];

		if (coordinator_dies(w)) {
			coordinator_crash(w, coordinator_away_us(w)); /* between any two actions */
			return;
		}
		carry_out(w, q);
		q->done = true;
	}
	w->n_queue -= n;
	memmove(w->queue, w->queue + n, w->n_queue * sizeof *w->queue);
}

static void queue_record(struct world *w, bool forced)
{
	must(w, w->n_record < RECORD_MAX);
	w->record[w->n_record++] = (struct record_slot){++w->record_seq, image_of(w)};
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

static int step(struct world *w, struct event ev)
{
	enum txn_state before = w->t.state;
	struct effects fx;
	int rc;

	ev.now_us = w->now_us + w->shift_us;
	rc = txn_step(&w->t, &ev, &fx);
	trace(w, "event %s branch %u %s attempt %u: %s, %s", verdict_str(ev.type), ev.branch,
	      txn_op_str(ev.op), ev.attempt, txn_state_str(w->t.state),
	      txn_outcome_str(w->t.outcome));
	note(w, (uint64_t)ev.type << 40 | (uint64_t)ev.branch << 32 | (uint64_t)w->t.state);
	check_step(w, before, &ev, rc, &fx);
	if (fx.record.present)
		queue_record(w, fx.record.forced);
	queue_actions(w, &fx);
	w->lag_us = chance(w, 10) ? rnd_us(w, 2 * SECOND) : 0;
	run_queue(w);
	return rc;
}

/* A process with an empty memory, and with a monotonic clock of its own. */
static void wake_up(struct world *w)
{
	w->shift_us = rnd_us(w, 1000000 * SECOND);
	w->up = true;
	w->started = false;
	w->forced_seq = w->record_seq = w->durable_seq;
	memset(w->call, 0, sizeof w->call);
}

/* The transaction as the journal knows it, before its state is put back; or a new one. */
static void make_txn(struct world *w)
{
	const struct image *d = &w->durable;
	unsigned n_new = w->interactive ? w->n_first : w->n_part;
	unsigned n_branch = d->present ? d->n_branch : n_new;
	struct txn_config config = {
	    .mode = w->mode,
	    .undo_confirms = w->undo_confirms,
	    .forward = w->forward,
	    .seed = w->seed,
	    .n_branch = n_branch,
	    .interactive = w->interactive,
	    .vote_timeout_us = w->vote_timeout_us,
	    .phase_timeout_us = w->phase_timeout_us,
	    .deadline_us = w->deadline_us + w->shift_us,
	    .retry = w->retry,
	};
	w->started = true;
	arena_release(&w->arena);
	arena_init(&w->arena, 0);
	must(w, txn_init(&w->t, &w->arena, &config) == 0);
	for (unsigned i = 0; i < w->t.n_branch; i++) {
		w->part_of[i] = d->present ? d->part[i] : (uint8_t)i;
		w->t.branch[i].timeout_us = w->timeout_us[w->part_of[i]];
		w->t.branch[i].after = w->after[w->part_of[i]];
		w->t.branch[i].wanted = w->wanted >> w->part_of[i] & 1;
	}
}

void coordinator_start(struct world *w)
{
	wake_up(w);
	if (w->interactive)
		return; /* until somebody begins */
	make_txn(w);
	(void)step(w, (struct event){.type = EV_SUBMIT});
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
	wake_up(w);
	make_txn(w);
	must(w, txn_restore(&w->t, w->durable.state, w->durable.outcome, w->durable.branch) == 0);
	(void)step(w, (struct event){.type = EV_RESUME});
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

	if (coordinator_dies(w)) {
		coordinator_crash(
		    w, coordinator_away_us(
		           w)); /* the answer of the commit never comes: it may have worked */
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
	(void)step(w, (struct event){
	                  .type = verdict_judge(m->op, m->one_phase, &m->answer),
	                  .branch = m->branch,
	                  .op = m->op,
	                  .attempt = m->attempt,
	                  .retry_after_us = m->retry_after_us,
	              });
}

static int enlist(struct world *w, unsigned part)
{
	unsigned n = w->t.n_branch;

	for (unsigned i = 0; i < n; i++) {
		if (w->part_of[i] == part)
			return 0; /* the answer was lost */
	}
	must(w, txn_reserve(&w->t, &w->arena, n + 1) == 0);
	w->part_of[n] = (uint8_t)part;
	return step(w, (struct event){
	                   .type = EV_ENLIST,
	                   .call_timeout_us = w->timeout_us[part],
	               });
}

/* Every answer waits for what it says to be durable, a refusal too: what it rests on could be
 * forgotten, and the question arrive once more. */
static void answer(struct world *w, const struct msg *asked, int rc)
{
	struct queued_action *q = &w->queue[w->n_queue];

	must(w, w->n_queue++ < QUEUE_MAX);
	*q = (struct queued_action){.said = *asked, .reply = true, .wait_seq = w->forced_seq};
	q->said.kind = MSG_SAID;
	q->said.accepted = rc == 0;
	run_queue(w);
}

void coordinator_asked(struct world *w, const struct msg *m)
{
	unsigned life = w->life;
	int rc;

	if (!w->up || (!w->started && m->ask != EV_BEGIN))
		return;
	if (!w->started) {
		w->deadline_us = roll_deadline(w);
		make_txn(w);
	}
	rc = m->ask == EV_ENLIST ? enlist(w, m->part) : step(w, (struct event){.type = m->ask});
	if (life == w->life)
		answer(w, m, rc);
}

/* GET decision, as the API answers it: from the journal. */
void coordinator_get(struct world *w, const struct msg *m)
{
	const struct image *d = &w->durable;
	struct msg got = {.kind = MSG_GOT, .part = m->part, .round = m->round};

	if (!w->up || !w->started)
		return;
	must(w, d->present);
	got.decision = d->outcome == OUTCOME_MIXED ? image_decision(w, d) : d->outcome;
	trace(w, "coordinator: tells part %u %s", m->part, txn_outcome_str(got.decision));
	transmit(w, &got);
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

/* Put aside at rest, and taken back when it is due: the row is all that is left of it, and no
 * attempt is counted twice. */
static void park_and_take_back(struct world *w)
{
	uint8_t memo[TXN_MEMO_MAX];
	uint32_t attempt[TXN_BRANCH_MAX] = {0}, failures[TXN_BRANCH_MAX] = {0};
	unsigned life = w->life;

	for (unsigned i = 0; i < w->t.n_branch; i++) {
		attempt[i] = w->t.branch[i].attempt;
		failures[i] = w->t.branch[i].failures;
		w->durable.branch[i] = (uint8_t)w->t.branch[i].state;
	}
	txn_memo(&w->t, 0, memo);
	make_txn(w);
	must(w, txn_restore(&w->t, w->durable.state, w->durable.outcome, w->durable.branch) == 0);
	must(w, txn_remember(&w->t, 0, memo, txn_memo_len(&w->t)) == 0);
	(void)step(w, (struct event){.type = EV_RESUME});
	for (unsigned i = 0; w->life == life && i < w->t.n_branch; i++) {
		const struct branch *b = &w->t.branch[i];

		if (b->op == OP_NONE)
			continue;
		/* But nobody is called before the time it has asked for. */
		must(w, b->in_call == (b->not_before_us <= w->now_us + w->shift_us));
		must(w, b->attempt == attempt[i] + b->in_call);
		must(w, b->failures == failures[i]);
	}
}

void coordinator_timer(struct world *w)
{
	w->lag_us = 0;
	if (txn_rests(&w->t) && w->n_record == 0 && w->n_queue == 0 && chance(w, 30)) {
		park_and_take_back(w);
		return;
	}
	(void)step(w, (struct event){.type = EV_TIMER});
}

int64_t coordinator_due_us(const struct world *w)
{
	int64_t due = w->up && w->started ? txn_due_us(&w->t) : INT64_MAX;

	if (due == INT64_MAX)
		return due;
	due += w->lag_us - w->shift_us;
	return due > w->paused_until_us ? due : w->paused_until_us;
}

/* What is not due and what was said before: neither may do anything. */
void coordinator_submit_again(struct world *w)
{
	enum event_type again = w->interactive ? EV_BEGIN : EV_SUBMIT;

	if (w->started)
		(void)step(w, (struct event){.type = rnd(w) % 2 ? again : EV_TIMER});
}

bool coordinator_idle(const struct world *w)
{
	return w->up && w->n_record == 0 && w->n_queue == 0 &&
	       (!w->started || txn_ended(w->t.state));
}
