/*
 * initiator.c - what an initiator asks of a transaction, and its silence: cells that the protocols'
 * tables share.
 */
#include <assert.h>

#include "core/calls.h"
#include "core/phases.h"

int initiator_submit(struct txn *t, const struct event *ev, struct effects *fx)
{
	if (t->interactive)
		return ERR_STATE;
	protocol_of(t)->start(t, ev, fx);
	return 0;
}

int initiator_begin(struct txn *t, const struct event *ev, struct effects *fx)
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
int initiator_enlist(struct txn *t, const struct event *ev, struct effects *fx)
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

int initiator_commit(struct txn *t, const struct event *ev, struct effects *fx)
{
	if (!t->begun)
		return ERR_STATE;
	protocol_of(t)->commit(t, ev, fx);
	return 0;
}

int initiator_rollback(struct txn *t, const struct event *ev, struct effects *fx)
{
	if (!t->begun)
		return ERR_STATE;
	protocol_of(t)->abort(t, ev, fx);
	return 0;
}

/* The initiator has gone away. A coordinated transaction is not stored yet and has no timer: its
 * initiator submits again. */
int initiator_timer(struct txn *t, const struct event *ev, struct effects *fx)
{
	if (phase_too_late(t, ev))
		protocol_of(t)->abort(t, ev, fx);
	return 0;
}

int initiator_submit_again(struct txn *t, const struct event *ev, struct effects *fx)
{
	(void)ev, (void)fx;
	return t->interactive ? ERR_STATE : 0;
}

int initiator_begin_again(struct txn *t, const struct event *ev, struct effects *fx)
{
	(void)ev, (void)fx;
	return t->interactive ? 0 : ERR_STATE;
}

/* Closed before: whoever now asks for what it comes to, or may, is only late. */
int initiator_commit_again(struct txn *t, const struct event *ev, struct effects *fx)
{
	bool fits = txn_decision(t) != OUTCOME_ABORTED;

	(void)ev, (void)fx;
	return t->interactive && fits ? 0 : ERR_STATE;
}

/* While it is not decided it was a commit that closed it: nothing recalls that. */
int initiator_rollback_again(struct txn *t, const struct event *ev, struct effects *fx)
{
	bool fits = txn_decision(t) == OUTCOME_ABORTED;

	(void)ev, (void)fx;
	return t->interactive && fits ? 0 : ERR_STATE;
}
