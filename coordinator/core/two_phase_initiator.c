/*
 * two_phase_initiator.c - what an initiator asks of two-phase commit, and its silence: cells of the
 * table in two_phase.c. First those of ACTIVE, then those of every other state.
 */
#include <assert.h>

#include "core/calls.h"
#include "core/two_phase.h"

int two_phase_active_submit(struct txn *t, const struct event *ev, struct effects *fx)
{
	if (t->interactive)
		return ERR_STATE;
	two_phase_begin_voting(t, ev, fx);
	return 0;
}

int two_phase_active_begin(struct txn *t, const struct event *ev, struct effects *fx)
{
	(void)ev;
	if (!t->interactive)
		return ERR_STATE;
	/* Again, it is stored or about to be: nothing new. */
	fx->record.present = fx->record.forced = !t->begun;
	t->begun = true;
	return 0;
}

/* The initiator calls the branch once this is durable, and we never hear of that. */
int two_phase_active_enlist(struct txn *t, const struct event *ev, struct effects *fx)
{
	if (!t->begun)
		return ERR_STATE;
	assert(t->n_branch < t->room);
	t->branch[t->n_branch] = (struct branch){
	    .state = BRANCH_PENDING,
	    .called = true,
	    .timeout_us = ev->call_timeout_us,
	};
	calls_settle(t, t->n_branch++);
	fx->record = (struct record){.present = true, .forced = true};
	return 0;
}

int two_phase_active_commit(struct txn *t, const struct event *ev, struct effects *fx)
{
	if (!t->begun)
		return ERR_STATE;
	t->deadline_us = ev->now_us + t->vote_timeout_us;
	if (t->n_branch == 0)
		two_phase_begin_commit(t, ev, fx);
	else
		two_phase_begin_voting(t, ev, fx);
	return 0;
}

int two_phase_active_rollback(struct txn *t, const struct event *ev, struct effects *fx)
{
	if (!t->begun)
		return ERR_STATE;
	two_phase_begin_abort(t, ev, fx);
	return 0;
}

/* The initiator has gone away. A coordinated transaction is not stored yet and has no timer: its
 * initiator submits again. */
int two_phase_active_timer(struct txn *t, const struct event *ev, struct effects *fx)
{
	if (two_phase_too_late(t, ev))
		two_phase_begin_abort(t, ev, fx);
	return 0;
}

int two_phase_submit_again(struct txn *t, const struct event *ev, struct effects *fx)
{
	(void)ev, (void)fx;
	return t->interactive ? ERR_STATE : 0;
}

int two_phase_begin_again(struct txn *t, const struct event *ev, struct effects *fx)
{
	(void)ev, (void)fx;
	return t->interactive ? 0 : ERR_STATE;
}

/* Closed before: whoever now asks for what it comes to, or may, is only late. */
int two_phase_commit_again(struct txn *t, const struct event *ev, struct effects *fx)
{
	bool fits = two_phase_decision(t) != OUTCOME_ABORTED;

	(void)ev, (void)fx;
	return t->interactive && fits ? 0 : ERR_STATE;
}

/* While it is not decided it was a commit that closed it: nothing recalls that. */
int two_phase_rollback_again(struct txn *t, const struct event *ev, struct effects *fx)
{
	bool fits = two_phase_decision(t) == OUTCOME_ABORTED;

	(void)ev, (void)fx;
	return t->interactive && fits ? 0 : ERR_STATE;
}
