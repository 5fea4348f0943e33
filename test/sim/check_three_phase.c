/* What must hold of three-phase commit, whatever happens. */
#include "sim.h"

/* A round is three questions of two seconds each, and begins two seconds after the last one. */
#define ROUND_TIME (3 * 2 * SECOND + 2 * SECOND + 1)

static bool any_row(const struct world *w, enum row row)
{
	for (unsigned i = 0; i < w->n_part; i++) {
		if (w->part[i].row == row)
			return true;
	}
	return false;
}

/* Whether all that have something to finish could still commit, whoever may ask them to abort. */
static bool all_ready(const struct world *w, const struct image *image, bool vouched)
{
	for (unsigned i = 0; i < image->n_branch; i++) {
		const struct participant *p = &w->part[image->part[i]];

		if (image->branch[i] == BRANCH_READ_ONLY)
			continue;
		if (p->row != ROW_PREPARED || (vouched && !p->hold.vouched))
			return false;
	}
	return true;
}

static bool all_read_only(const struct image *image)
{
	for (unsigned i = 0; i < image->n_branch; i++) {
		if (image->branch[i] != BRANCH_READ_ONLY)
			return false;
	}
	return true;
}

/* What is decided rests on what the participants have done, not on what was heard of it. */
void check_hold_durable(struct world *w, const struct image *next)
{
	enum txn_state before = w->durable.state;
	enum txn_outcome decided = image_decision(w, next);
	bool intent = before == TXN_PRE_ABORTING;

	if (!w->durable.present || image_decision(w, &w->durable) != OUTCOME_PENDING)
		return;
	must(w, !intent || (next->state != TXN_ASKING && next->state != TXN_PRE_COMMITTING));
	must(w, before != TXN_PRE_COMMITTING || next->state != TXN_ASKING);
	if (decided == OUTCOME_COMMITTED) {
		must(w, all_read_only(next) || intent || before == TXN_PRE_COMMITTING);
		must(w, all_ready(w, next, intent) || any_row(w, ROW_COMMITTED));
	} else if (decided == OUTCOME_ABORTED) {
		must(w, before != TXN_PRE_COMMITTING);
		must(w, !intent || any_row(w, ROW_TOMBSTONE));
	}
}

/* As a participant carries out a request, however old it is. */
void check_hold_work(struct world *w, const struct msg *m)
{
	const struct image *d = &w->durable;
	enum txn_outcome decided = image_decision(w, d);

	if (m->op == OP_CAN_COMMIT)
		return;
	if (m->op == OP_DO_COMMIT) {
		must(w, decided == OUTCOME_COMMITTED);
	} else if (m->op == OP_ABORT) {
		must(w, decided == OUTCOME_ABORTED);
	} else if (m->op == OP_PRE_ABORT) {
		must(w, d->state != TXN_ASKING && d->state != TXN_PRE_COMMITTING);
	} else {
		must(w, m->op == OP_PRE_COMMIT && d->state != TXN_ASKING);
		for (unsigned i = 0; i < d->n_branch; i++) {
			const struct participant *p = &w->part[d->part[i]];

			must(w, p->read_only || p->row >= ROW_ASKED);
		}
	}
}

/* Mixed only where somebody has committed because on_timeout says so, and not even then while one
 * process is down at a time. People hear of it: check_end. */
void check_hold_atomic(struct world *w)
{
	enum txn_outcome decided = image_decision(w, &w->durable);
	bool committed = decided == OUTCOME_COMMITTED || any_row(w, ROW_COMMITTED);
	bool aborted = decided == OUTCOME_ABORTED || any_row(w, ROW_TOMBSTONE);

	must(w, !(committed && aborted) || (w->by_timeout && !w->one_down));
}

/* With on_timeout commit nobody waits for long who is up, and whom the coordinator does not ask to
 * wait. */
void check_hold_blocked(struct world *w)
{
	for (unsigned i = 0; i < w->n_part; i++) {
		const struct participant *p = &w->part[i];

		if (p->hold.commits && p->row == ROW_PREPARED)
			must(w, w->now_us <= p->hold.free_us + ROUND_TIME);
	}
}
