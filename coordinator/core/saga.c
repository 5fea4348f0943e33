/*
 * saga.c - steps that are done one after the other, and undone backwards, as seen by the
 * coordinator. A branch is a step.
 *
 *	        SUBMIT          all done
 *	ACTIVE -------> RUNNING ---------------------------------------> COMMITTED
 *	                 |   | a no, or the deadline
 *	                 |   +--------> COMPENSATING ------------------> ABORTED
 *	                 |                            all answered         ^  or MIXED
 *	                 | the deadline, nobody called                     |
 *	                 +-------------------------------------------------+
 *
 * Its steps have an order (struct branch, after): the action of one is called when those it comes
 * after have said yes. With `forward` there is no way back once a step was called: an action is
 * repeated until it succeeds.
 *
 * Invariants:
 *	(1) An action is called only when all steps that it comes after are done, and what it needs
 *	    of their results is in a forced record.
 *	(2) COMPENSATING is a forced record, and it leads to ABORTED or MIXED only: no action is
 *	    called once a compensation may be on its way.
 *	(3) Every step that was called, or may have been, is compensated, the one that refused
 *	    included: a 4xx may come from a proxy after the work ran. Only a read-only answer
 *	    excuses.
 *	(4) A step is compensated only when all that come after it, directly or not, are, or have
 *	    never been called.
 *	(5) COMMITTED is a forced record, and the decision: until then the outcome is pending.
 *	(6) With `forward` nothing is compensated once a step was called, or may have been.
 *	(7) The outcome is mixed exactly when some step could not be compensated, and said so; each
 *	    such finding is a forced record and an alert.
 *
 * Nobody drives a saga but the coordinator: there is no interactive one.
 */
#include "core/calls.h"
#include "core/phases.h"

static const struct phase phase[TXN_STATE_MAX] = {
    [TXN_ACTIVE] =
        {
            .answered = BIT(BRANCH_PENDING),
            .outcome = BIT(OUTCOME_PENDING),
            .next = BIT(TXN_RUNNING),
        },
    [TXN_RUNNING] =
        {
            .op = OP_ACTION,
            .order = PHASE_FORWARD,
            .timed = true,
            .open = BIT(BRANCH_PENDING),
            .answered = BIT(BRANCH_DONE) | BIT(BRANCH_READ_ONLY),
            .outcome = BIT(OUTCOME_PENDING),
            .next = BIT(TXN_COMPENSATING) | BIT(TXN_COMMITTED) | BIT(TXN_ABORTED),
        },
    [TXN_COMPENSATING] =
        {
            .op = OP_COMPENSATE,
            .order = PHASE_BACKWARD,
            .open = BIT(BRANCH_PENDING) | BIT(BRANCH_DONE) | BIT(BRANCH_REFUSED),
            .answered = BIT(BRANCH_READ_ONLY) | BIT(BRANCH_ABORTED) |
                        BIT(BRANCH_HEURISTIC_COMMITTED),
            .outcome = BIT(OUTCOME_ABORTED) | BIT(OUTCOME_MIXED),
            .next = BIT(TXN_ABORTED) | BIT(TXN_MIXED),
        },
    [TXN_COMMITTED] =
        {
            .answered = BIT(BRANCH_READ_ONLY) | BIT(BRANCH_COMMITTED),
            .outcome = BIT(OUTCOME_COMMITTED),
        },
    [TXN_ABORTED] =
        {
            .answered = BIT(BRANCH_READ_ONLY) | BIT(BRANCH_ABORTED),
            .outcome = BIT(OUTCOME_ABORTED),
        },
    [TXN_MIXED] =
        {
            .answered = BIT(BRANCH_READ_ONLY) | BIT(BRANCH_ABORTED) |
                        BIT(BRANCH_HEURISTIC_COMMITTED),
            .outcome = BIT(OUTCOME_MIXED),
        },
};

/* The deadline counts as long as there is a way back. */
static bool timed(const struct txn *t)
{
	if (!phase_timed(t) || !t->forward)
		return phase_timed(t);
	for (unsigned i = 0; i < t->n_branch; i++) {
		if (t->branch[i].called)
			return false;
	}
	return true;
}

static const char *broken(const struct txn *t)
{
	return t->forward && t->state == TXN_COMPENSATING ? "forward is never back" : NULL;
}

static void begin_running(struct txn *t, const struct event *ev, struct effects *fx)
{
	phase_enter(t, TXN_RUNNING, true, fx);
	phase_work(t, ev, fx);
}

static void begin_compensation(struct txn *t, const struct event *ev, struct effects *fx)
{
	phase_undo(t, ev, TXN_COMPENSATING, fx);
}

static void all_done(struct txn *t, struct effects *fx)
{
	for (unsigned i = 0; i < t->n_branch; i++) {
		if (t->branch[i].state == BRANCH_DONE)
			t->branch[i].state = BRANCH_COMMITTED;
	}
	phase_decide(t, OUTCOME_COMMITTED, fx);
	phase_end(t, TXN_COMMITTED, true, fx);
}

static void done(struct txn *t, const struct event *ev, enum branch_state state, struct effects *fx)
{
	struct branch *b = &t->branch[ev->branch];

	b->state = state;
	calls_through(t, ev->branch, fx);
	if (phase_all_answered(t)) {
		all_done(t, fx);
		return;
	}
	if (b->wanted)
		fx->record = (struct record){.present = true, .forced = true};
	phase_go_on(t, ev, fx);
}

static int running_yes(struct txn *t, const struct event *ev, struct effects *fx)
{
	done(t, ev, BRANCH_DONE, fx);
	return 0;
}

static int running_read_only(struct txn *t, const struct event *ev, struct effects *fx)
{
	done(t, ev, BRANCH_READ_ONLY, fx);
	return 0;
}

static void refused(struct txn *t, const struct event *ev, struct effects *fx)
{
	t->branch[ev->branch].state = BRANCH_REFUSED;
	begin_compensation(t, ev, fx);
}

static int running_no(struct txn *t, const struct event *ev, struct effects *fx)
{
	if (t->forward)
		calls_delivery_failed(t, ev, fx);
	else
		refused(t, ev, fx);
	return 0;
}

static int running_contract(struct txn *t, const struct event *ev, struct effects *fx)
{
	if (t->forward)
		calls_delivery_contract(t, ev, fx);
	else
		refused(t, ev, fx);
	return 0;
}

static int running_unknown(struct txn *t, const struct event *ev, struct effects *fx)
{
	return t->forward ? phase_decided_unknown(t, ev, fx) : phase_vote_unknown(t, ev, fx);
}

static int running_timer(struct txn *t, const struct event *ev, struct effects *fx)
{
	if (phase_too_late(t, ev))
		begin_compensation(t, ev, fx);
	else
		phase_work(t, ev, fx);
	return 0;
}

/* Every cell is written: `ignore` is a decision, NULL would be an oversight. */
/* clang-format off */
static step_fn *const table[TXN_STATE_MAX][EV_TYPE_MAX] = {
	[TXN_ACTIVE] = PHASE_ACTIVE,
	[TXN_RUNNING] = {
		[EV_YES] = running_yes, [EV_READ_ONLY] = running_read_only, [EV_NO] = running_no,
		[EV_DONE] = phase_reject, [EV_FOUND_COMMITTED] = phase_reject, [EV_FOUND_ABORTED] = phase_reject,
		[EV_WORKING] = phase_working, [EV_UNKNOWN] = running_unknown, [EV_CONTRACT] = running_contract,
		[EV_TIMER] = running_timer, [EV_RESUME] = running_timer,
		PHASE_CLOSED,
	},
	[TXN_COMPENSATING] = {
		[EV_YES] = phase_reject, [EV_READ_ONLY] = phase_reject, [EV_NO] = phase_reject,
		[EV_DONE] = phase_abort_done, [EV_FOUND_COMMITTED] = phase_abort_contradicted, [EV_FOUND_ABORTED] = phase_abort_done,
		[EV_WORKING] = phase_working, [EV_UNKNOWN] = phase_decided_unknown, [EV_CONTRACT] = phase_decided_contract,
		[EV_TIMER] = phase_decided_work, [EV_RESUME] = phase_decided_resume,
		PHASE_CLOSED,
	},
	[TXN_COMMITTED] = PHASE_ENDED(phase_ignore),
	[TXN_ABORTED] = PHASE_ENDED(phase_ignore),
	[TXN_MIXED] = PHASE_ENDED(phase_mixed_resume),
};
/* clang-format on */

const struct protocol protocol_saga = {
    .name = "saga",
    .mode = MODE_SAGA,
    .first = OP_ACTION,
    .start = begin_running,
    .phase = phase,
    .table = table,
    .timed = timed,
    .broken = broken,
};
