#include <string.h>

#include "sim.h"

/* Written from the states' names alone, so that it does not repeat the core's own mistakes. */
enum txn_outcome image_decision(const struct image *image, unsigned n_branch)
{
	if (!image->present)
		return OUTCOME_PENDING;
	if (image->state == TXN_COMMITTING || image->state == TXN_COMMITTED)
		return OUTCOME_COMMITTED;
	if (image->state == TXN_ABORTING || image->state == TXN_ABORTED)
		return OUTCOME_ABORTED;
	for (unsigned i = 0; image->state == TXN_MIXED && i < n_branch; i++) {
		if (image->branch[i] == BRANCH_HEURISTIC_ABORTED)
			return OUTCOME_COMMITTED;
		if (image->branch[i] == BRANCH_HEURISTIC_COMMITTED)
			return OUTCOME_ABORTED;
	}
	return OUTCOME_PENDING;
}

/* Right after a step, before anything of it is durable or carried out. */
void check_step(struct world *w, const struct event *ev, int rc, const struct effects *fx)
{
	bool voting = w->t.state == TXN_PREPARING || w->t.state == TXN_ONE_PHASE;
	bool waiting = false;

	must(w, rc == 0);
	must(w, txn_decision(&w->t) == OUTCOME_PENDING || w->t.outcome != OUTCOME_PENDING);
	if (ev->type == EV_TIMER || ev->type == EV_RESUME)
		must(w, !voting || ev->now_us < w->t.deadline_us);
	for (size_t i = 0; i < fx->n_act; i++) {
		const struct action *a = &fx->act[i];

		if (a->type != ACT_CALL)
			continue;
		must(w, w->t.branch[a->branch].state != BRANCH_READ_ONLY);
		must(w, a->timeout_us > 0);
		must(w, !voting || ev->now_us + a->timeout_us <= w->t.deadline_us);
	}
	for (unsigned i = 0; i < w->n_branch; i++)
		waiting |= w->t.branch[i].in_call;
	/* Somebody is being asked or a timer runs, until it has ended. */
	must(w, txn_ended(w->t.state) || waiting || txn_due_us(&w->t) != INT64_MAX);
}

void check_durable(struct world *w, const struct image *next)
{
	enum txn_outcome before = image_decision(&w->durable, w->n_branch);
	enum txn_outcome after = image_decision(next, w->n_branch);

	must(w, before == OUTCOME_PENDING || before == after);
	must(w, w->durable.outcome != OUTCOME_MIXED || next->outcome == OUTCOME_MIXED);
	must(w, !w->durable.present || !txn_ended(w->durable.state));
	if (w->announced != OUTCOME_PENDING && w->announced != next->outcome)
		must(w, next->outcome == OUTCOME_MIXED);
}

/* As an action is carried out: what it tells the world must be on the disk. */
void check_action(struct world *w, const struct action *a)
{
	const struct image *d = &w->durable;

	must(w, d->present);
	switch (a->type) {
	case ACT_CALL:
		must(w, a->branch < w->n_branch);
		break;
	case ACT_DECIDED:
		must(w, image_decision(d, w->n_branch) != OUTCOME_PENDING);
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
			w->alert_open[a->branch] = true;
			break;
		}
		must(w, d->branch[a->branch] == BRANCH_HEURISTIC_COMMITTED ||
		            d->branch[a->branch] == BRANCH_HEURISTIC_ABORTED);
		w->alert_alone[a->branch] = true;
		break;
	case ACT_ALERT_CLOSE:
		w->alert_open[a->branch] = false;
		break;
	}
}

/* As a participant carries out a request, however old it is. */
void check_work(struct world *w, const struct msg *m)
{
	const struct participant *p = &w->part[m->branch];
	enum txn_outcome decided = image_decision(&w->durable, w->n_branch);

	must(w, w->durable.present);
	if (m->op == OP_PREPARE || m->one_phase)
		return;
	if (m->op == OP_COMMIT) {
		must(w, decided == OUTCOME_COMMITTED);
		must(w, p->alone || p->row == ROW_PREPARED || p->row == ROW_COMMITTED);
	} else if (w->n_branch == 1) {
		must(w, w->durable.state == TXN_ARBITRATING || decided != OUTCOME_PENDING);
	} else {
		must(w, decided == OUTCOME_ABORTED);
		must(w, p->alone || p->row != ROW_COMMITTED);
	}
}

void check_atomic(struct world *w)
{
	bool committed = false;
	bool aborted = false;

	for (unsigned i = 0; i < w->n_branch; i++) {
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
	if (p->row == ROW_NONE && (p->read_only || !w->asked[i])) {
		must(w, p->read_only || !commit);
		return;
	}
	must(w, p->alone && p->row != ROW_PREPARED && p->row != ROW_NONE);
	must(w, w->alert_alone[i]);
	*mixed = true;
}

/* Everything is at rest: all agree, or people know who does not. */
void check_end(struct world *w)
{
	const struct image *d = &w->durable;
	enum txn_outcome decided = image_decision(d, w->n_branch);
	bool mixed = false;

	must(w, d->present && txn_ended(d->state) && d->state == w->t.state);
	must(w, decided != OUTCOME_PENDING && d->outcome != OUTCOME_PENDING);
	for (unsigned i = 0; i < w->n_branch; i++)
		check_branch_end(w, i, decided == OUTCOME_COMMITTED, &mixed);
	must(w, (d->outcome == OUTCOME_MIXED) == mixed);
	must(w, mixed || d->outcome == decided);
	/* A crash may swallow an announcement, for whoever asks later; nothing else may. */
	must(w, w->n_decided <= 1 && w->n_ended <= 1 + w->crashes);
	must(w, w->crashes || (w->n_decided == 1 && w->n_ended == 1 && w->announced == d->outcome));
}
