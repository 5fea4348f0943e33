#include <string.h>

#include "sim.h"

/* Written from the states' names alone, so that it does not repeat the core's own mistakes. */
enum txn_outcome image_decision(const struct world *w, const struct image *image)
{
	if (!image->present)
		return OUTCOME_PENDING;
	if (image->state == TXN_COMMITTING || image->state == TXN_COMMITTED)
		return OUTCOME_COMMITTED;
	if (image->state == TXN_CONFIRMING)
		return w->undo_confirms ? OUTCOME_PENDING : OUTCOME_COMMITTED;
	if (image->state == TXN_ABORTING || image->state == TXN_CANCELLING ||
	    image->state == TXN_COMPENSATING || image->state == TXN_ABORTED)
		return OUTCOME_ABORTED;
	for (unsigned i = 0; image->state == TXN_MIXED && i < image->n_branch; i++) {
		if (image->branch[i] == BRANCH_HEURISTIC_ABORTED)
			return OUTCOME_COMMITTED;
		if (image->branch[i] == BRANCH_HEURISTIC_COMMITTED)
			return OUTCOME_ABORTED;
	}
	return OUTCOME_PENDING;
}

/* What an initiator may ask for, when; and that until then nothing happens. */
static void check_asked(struct world *w, enum txn_state before, const struct event *ev, int rc,
                        const struct effects *fx)
{
	bool aborted = txn_decision(&w->t) == OUTCOME_ABORTED;
	bool was_open = before == TXN_ACTIVE;
	bool open = w->t.state == TXN_ACTIVE;

	if (ev->type == EV_ENLIST)
		must(w, (rc == 0) == was_open);
	else if (ev->type == EV_COMMIT)
		must(w, (rc == 0) == !aborted);
	else if (ev->type == EV_ROLLBACK)
		must(w, (rc == 0) == aborted);
	else
		must(w, rc == 0);
	if (was_open && ev->type == EV_COMMIT && w->t.state != TXN_COMMITTED &&
	    (w->mode == MODE_TWO_PHASE || w->mode == MODE_THREE_PHASE))
		must(w, w->t.deadline_us == ev->now_us + w->vote_timeout_us);
	if (was_open && (ev->type == EV_TIMER || ev->type == EV_RESUME))
		must(w, open == (ev->now_us < w->t.deadline_us));
	if (was_open && (!open || ev->type == EV_ENLIST))
		must(w, fx->record.present && fx->record.forced);
	must(w, !open || (was_open && w->interactive && fx->n_act == 0));
}

/* Nobody is known to have committed: its deadline counts. */
static bool pre_committing(const struct world *w)
{
	if (w->t.state != TXN_PRE_COMMITTING)
		return false;
	for (unsigned i = 0; i < w->t.n_branch; i++) {
		if (w->t.branch[i].state == BRANCH_COMMITTED)
			return false;
	}
	return true;
}

/* Right after a step, before anything of it is durable or carried out. */
void check_step(struct world *w, enum txn_state before, const struct event *ev, int rc,
                const struct effects *fx)
{
	bool voting = w->t.state == TXN_PREPARING || w->t.state == TXN_ONE_PHASE ||
	              w->t.state == TXN_TRYING || (w->t.state == TXN_RUNNING && !w->forward) ||
	              w->t.state == TXN_ASKING || pre_committing(w);
	bool open = w->t.state == TXN_ACTIVE;
	bool waiting = false;

	check_asked(w, before, ev, rc, fx);
	must(w, txn_decision(&w->t) == OUTCOME_PENDING || w->t.outcome != OUTCOME_PENDING);
	if (ev->type == EV_TIMER || ev->type == EV_RESUME)
		must(w, !(voting || open) || ev->now_us < w->t.deadline_us);
	for (size_t i = 0; i < fx->n_act; i++) {
		const struct action *a = &fx->act[i];

		if (a->type != ACT_CALL)
			continue;
		must(w, w->t.branch[a->branch].state != BRANCH_READ_ONLY);
		must(w, a->timeout_us > 0);
		must(w, !voting || ev->now_us + a->timeout_us <= w->t.deadline_us);
	}
	for (unsigned i = 0; i < w->t.n_branch; i++)
		waiting |= w->t.branch[i].in_call;
	/* Somebody is being asked or a timer runs, until it has ended. */
	must(w, txn_ended(w->t.state) || waiting || txn_due_us(&w->t) != INT64_MAX);
}

void check_durable(struct world *w, const struct image *next)
{
	const struct image *d = &w->durable;
	enum txn_outcome before = image_decision(w, d);
	enum txn_outcome after = image_decision(w, next);

	must(w, before == OUTCOME_PENDING || before == after);
	must(w, d->outcome != OUTCOME_MIXED || next->outcome == OUTCOME_MIXED);
	must(w, !d->present || !txn_ended(d->state));
	/* Closed once, and whoever was in it stays, in his place. */
	must(w, !d->present || d->state == TXN_ACTIVE || next->state != TXN_ACTIVE);
	must(w, !d->present || d->state == TXN_ACTIVE || next->n_branch == d->n_branch);
	must(w, next->n_branch >= d->n_branch);
	must(w, memcmp(next->part, d->part, d->n_branch) == 0);
	if (w->announced != OUTCOME_PENDING && w->announced != next->outcome)
		must(w, next->outcome == OUTCOME_MIXED);
	if (w->mode == MODE_THREE_PHASE)
		check_hold_durable(w, next);
}

/* Whatever the call is built from is on the disk. */
static void check_results(struct world *w, const struct action *a)
{
	const struct image *d = &w->durable;

	for (unsigned i = 0; a->op == OP_ACTION && i < d->n_branch; i++) {
		if (w->after[a->branch] & w->wanted & (uint64_t)1 << i)
			must(w, d->branch[i] == BRANCH_DONE || d->branch[i] == BRANCH_READ_ONLY);
	}
}

/* As an action is carried out: what it tells the world must be on the disk. */
void check_action(struct world *w, const struct action *a)
{
	const struct image *d = &w->durable;
	unsigned part = w->part_of[a->branch];

	must(w, d->present && d->state != TXN_ACTIVE);
	switch (a->type) {
	case ACT_CALL:
		must(w, a->branch < d->n_branch && d->part[a->branch] == part);
		check_results(w, a);
		break;
	case ACT_DECIDED:
		must(w, image_decision(w, d) != OUTCOME_PENDING);
		w->announced = d->outcome;
		w->n_decided++;
		break;
	case ACT_ENDED:
		/* The record of the end may be lazy, the outcome in it may not. */
		must(w, d->outcome == w->t.outcome && d->outcome != OUTCOME_PENDING);
		must(w, txn_ended(w->t.state));
		w->announced = d->outcome;
		w->n_ended++;
		break;
	case ACT_ALERT:
		if (a->alert != ALERT_HEURISTIC) {
			w->alert_open[part] = true;
			break;
		}
		must(w, d->branch[a->branch] == BRANCH_HEURISTIC_COMMITTED ||
		            d->branch[a->branch] == BRANCH_HEURISTIC_ABORTED);
		w->alert_alone[part] = true;
		break;
	case ACT_ALERT_CLOSE:
		w->alert_open[part] = false;
		break;
	}
}

bool check_enlisted(const struct world *w, unsigned part)
{
	return w->durable.present && memchr(w->durable.part, (int)part, w->durable.n_branch);
}

/* As the initiator is answered: from now on it counts on that. */
void check_said(struct world *w, const struct msg *m)
{
	struct promises *p = &w->promises;

	must(w, w->durable.present);
	switch ((int)m->ask) {
	case EV_BEGIN:
		must(w, m->accepted);
		break;
	case EV_ENLIST:
		must(w, check_enlisted(w, m->part) == m->accepted);
		must(w, m->accepted || w->durable.state != TXN_ACTIVE);
		p->in[m->part] |= m->accepted;
		p->out[m->part] |= !m->accepted;
		break;
	case EV_COMMIT:
		must(w, w->durable.state != TXN_ACTIVE);
		p->commit_refused |= !m->accepted;
		break;
	default:
		must(w, w->durable.state != TXN_ACTIVE);
		p->rollback_accepted |= m->accepted;
		p->rollback_refused |= !m->accepted;
	}
}

/* It has been asked, and did something; or there is nothing to do for it. */
static bool has_worked(const struct participant *p)
{
	return p->read_only || p->row != ROW_NONE;
}

static void check_first_phase(struct world *w, const struct msg *m)
{
	const struct participant *p = &w->part[m->part];
	bool fresh_step = m->op == OP_ACTION && p->row == ROW_NONE && !p->read_only;

	for (unsigned i = 0; i < w->n_part; i++) {
		const struct participant *before = &w->part[i];

		if (!(w->after[m->part] >> i & 1))
			continue;
		must(w, has_worked(before));
		must(w, !fresh_step || before->read_only || before->row == ROW_COMMITTED);
	}
}

/* Backwards: nothing that comes after it is still done. */
static void check_compensation(struct world *w, const struct msg *m)
{
	must(w, !w->forward && image_decision(w, &w->durable) == OUTCOME_ABORTED);
	for (unsigned i = 0; i < w->n_part; i++) {
		if (w->after[i] >> m->part & 1)
			must(w, w->part[i].row != ROW_COMMITTED || w->part[i].alone);
	}
}

/* Also a late one, when the transaction has been cancelled since: it was right when it was sent. */
static void check_confirm(struct world *w, const struct participant *p)
{
	const struct image *d = &w->durable;

	must(w, w->undo_confirms || image_decision(w, d) == OUTCOME_COMMITTED);
	must(w, d->state != TXN_TRYING);
	must(w, w->undo_confirms || p->alone || p->row == ROW_PREPARED || p->row == ROW_COMMITTED);
	for (unsigned i = 0; i < d->n_branch; i++)
		must(w, has_worked(&w->part[d->part[i]]));
}

/* As a participant carries out a request, however old it is. */
void check_work(struct world *w, const struct msg *m)
{
	const struct participant *p = &w->part[m->part];
	enum txn_outcome decided = image_decision(w, &w->durable);

	must(w, check_enlisted(w, m->part) && w->durable.state != TXN_ACTIVE);
	if (w->mode == MODE_THREE_PHASE) {
		check_hold_work(w, m);
		return;
	}
	if (txn_op_votes(m->op, m->one_phase)) {
		check_first_phase(w, m);
	} else if (m->op == OP_COMMIT) {
		must(w, decided == OUTCOME_COMMITTED);
		must(w, p->alone || p->row == ROW_PREPARED || p->row == ROW_COMMITTED);
	} else if (m->op == OP_COMPENSATE) {
		check_compensation(w, m);
	} else if (m->op == OP_CONFIRM) {
		check_confirm(w, p);
	} else if (w->durable.n_branch == 1 && w->mode == MODE_TWO_PHASE) {
		must(w, w->durable.state == TXN_ARBITRATING || decided != OUTCOME_PENDING);
	} else {
		must(w, decided == OUTCOME_ABORTED);
		must(w, w->undo_confirms || p->alone || p->row != ROW_COMMITTED);
	}
}

void check_atomic(struct world *w)
{
	bool committed = false;
	bool aborted = false;

	if (w->mode == MODE_THREE_PHASE) {
		check_hold_atomic(w);
		check_hold_blocked(w);
		return;
	}
	if (w->undo_confirms || w->mode == MODE_SAGA)
		return; /* at the end, but not before */
	for (unsigned i = 0; i < w->n_part; i++) {
		committed |= w->part[i].row == ROW_COMMITTED && !w->part[i].alone;
		aborted |= w->part[i].row == ROW_TOMBSTONE && !w->part[i].alone;
	}
	must(w, !(committed && aborted));
}

static void check_branch_end(struct world *w, unsigned i, bool commit, bool *mixed)
{
	const struct participant *p = &w->part[i];
	enum row obeyed = commit ? ROW_COMMITTED : ROW_TOMBSTONE;

	must(w, !w->alert_open[i] || w->close_lost[i]);
	if (p->row == obeyed)
		return;
	if (p->row == ROW_NONE && (p->read_only || (!w->interactive && !w->asked[i]))) {
		must(w, p->read_only || !commit);
		return;
	}
	must(w, p->alone || w->by_timeout);
	must(w, p->row == ROW_COMMITTED || p->row == ROW_TOMBSTONE);
	must(w, w->alert_alone[i]);
	*mixed = true;
}

/* What the initiator was told came true, for everyone it ever meant to enlist. */
static void check_promises(struct world *w, enum txn_outcome decided)
{
	const struct promises *p = &w->promises;

	for (unsigned i = 0; i < w->n_part; i++) {
		bool in = check_enlisted(w, i);

		must(w, in ? !p->out[i] : !p->in[i]);
		must(w, in || (w->part[i].row == ROW_NONE && !w->asked[i]));
	}
	if (p->rollback_accepted || p->commit_refused || !w->commit_asked)
		must(w, decided != OUTCOME_COMMITTED);
	must(w, !p->rollback_refused || w->commit_asked);
}

/* Everything is at rest: all agree, or people know who does not. */
void check_end(struct world *w)
{
	const struct image *d = &w->durable;
	enum txn_outcome decided = image_decision(w, d);
	bool mixed = false;

	if (w->interactive)
		check_promises(w, decided);
	if (w->interactive && !d->present)
		return; /* nobody ever heard of it */
	must(w, d->present && txn_ended(d->state) && d->state == w->t.state);
	must(w, decided != OUTCOME_PENDING && d->outcome != OUTCOME_PENDING);
	for (unsigned i = 0; i < d->n_branch; i++)
		check_branch_end(w, d->part[i], decided == OUTCOME_COMMITTED, &mixed);
	must(w, (d->outcome == OUTCOME_MIXED) == mixed);
	must(w, mixed || d->outcome == decided);
	for (unsigned i = 0; i < w->n_part; i++)
		must(w, !w->forward || w->part[i].row == ROW_NONE || decided == OUTCOME_COMMITTED);
	/* A crash may swallow an announcement, for whoever asks later; nothing else may. */
	must(w, w->n_decided <= 1 && w->n_ended <= 1 + w->crashes);
	must(w, w->crashes || (w->n_decided == 1 && w->n_ended == 1 && w->announced == d->outcome));
}
