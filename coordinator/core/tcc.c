/*
 * tcc.c - try, confirm, cancel, as seen by the coordinator.
 *
 *	        SUBMIT          all tried                 all confirmed
 *	ACTIVE -------> TRYING -----------> CONFIRMING -------------------> COMMITTED
 *	  | |            | | | all read-only   |  |                            ^  or MIXED
 *	  | | COMMIT     | | +-----------------|--|----------------------------+
 *	  | +------------|-|-----------------> +  | undo_confirms: a confirm was refused, or its
 *	  |              | | a no, or the deadline v                 attempts are used up
 *	  |              | +-------------> CANCELLING --------------------> ABORTED
 *	  | ROLLBACK, or |                   ^     all answered                ^  or MIXED
 *	  | the deadline | the deadline, nobody called                         |
 *	  +--------------|-------------------+                                 |
 *	                 +-----------------------------------------------------+
 *
 * An interactive transaction stays in ACTIVE while branches are enlisted, each before its initiator
 * tries it. COMMIT says that all of them were tried: it goes on with CONFIRMING, or to COMMITTED
 * when there is no branch. ROLLBACK and the deadline lead to CANCELLING, or to ABORTED when there is
 * no branch.
 *
 * Invariants:
 *	(1) CONFIRMING is a forced record, and confirms are actions of that step or later: nobody
 *	    confirms before all have tried and that is durable.
 *	(2) CANCELLING is a forced record, and it leads to ABORTED or MIXED only: no branch is
 *	    confirmed once a cancel may be on its way.
 *	(3) Cancel goes to every branch that was ever called, or may have been, whatever it answered:
 *	    one whose try timed out or that refused, and every branch that was enlisted. Only a
 *	    read-only vote excuses.
 *	(4) Without undo_confirms CONFIRMING is the decision: it never changes, and has no timeout.
 *	(5) With it the outcome is pending until all have confirmed, which is a forced record then.
 *	    Until then CANCELLING may follow, and branches that have confirmed get a cancel as well.
 *	(6) The outcome is mixed exactly when some branch was found to have gone the other way and
 *	    cannot be brought back; each such finding is a forced record and an alert.
 *	(7) What closes an interactive transaction first, COMMIT, ROLLBACK or the deadline, is
 *	    forced before any call, and closes it for all branches enlisted before it.
 *
 * A try that is answered with yes after the deadline, but before its timer, counts, as in two-phase
 * commit. There is no deadline after the last try.
 */
#include "core/calls.h"
#include "core/phases.h"

static const struct phase phase[TXN_STATE_MAX] = {
    [TXN_ACTIVE] =
        {
            .answered = BIT(BRANCH_PENDING),
            .outcome = BIT(OUTCOME_PENDING),
            .next = BIT(TXN_TRYING) | BIT(TXN_CONFIRMING) | BIT(TXN_CANCELLING) |
                    BIT(TXN_COMMITTED) | BIT(TXN_ABORTED),
        },
    [TXN_TRYING] =
        {
            .op = OP_TRY,
            .order = PHASE_FORWARD,
            .timed = true,
            .open = BIT(BRANCH_PENDING),
            .answered = BIT(BRANCH_TRIED) | BIT(BRANCH_READ_ONLY),
            .outcome = BIT(OUTCOME_PENDING),
            .next = BIT(TXN_CONFIRMING) | BIT(TXN_CANCELLING) | BIT(TXN_COMMITTED) |
                    BIT(TXN_ABORTED),
        },
    [TXN_CONFIRMING] =
        {
            .op = OP_CONFIRM,
            .open = BIT(BRANCH_TRIED),
            .answered = BIT(BRANCH_READ_ONLY) | BIT(BRANCH_CONFIRMED) | BIT(BRANCH_COMMITTED) |
                        BIT(BRANCH_HEURISTIC_ABORTED),
            .outcome = BIT(OUTCOME_PENDING) | BIT(OUTCOME_COMMITTED) | BIT(OUTCOME_MIXED),
            .next = BIT(TXN_COMMITTED) | BIT(TXN_MIXED) | BIT(TXN_CANCELLING),
        },
    [TXN_CANCELLING] =
        {
            .op = OP_CANCEL,
            .open = BIT(BRANCH_PENDING) | BIT(BRANCH_TRIED) | BIT(BRANCH_REFUSED) |
                    BIT(BRANCH_CONFIRMED),
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
            .answered = BIT(BRANCH_READ_ONLY) | BIT(BRANCH_COMMITTED) | BIT(BRANCH_ABORTED) |
                        PHASE_HEURISTIC,
            .outcome = BIT(OUTCOME_MIXED),
        },
};

static const char *broken(const struct txn *t)
{
	bool confirmed = false;

	for (unsigned i = 0; i < t->n_branch; i++)
		confirmed |= t->branch[i].state == BRANCH_CONFIRMED;
	if (confirmed && !t->undo_confirms)
		return "a confirm is final";
	if (t->state == TXN_CONFIRMING && t->undo_confirms != (t->outcome == OUTCOME_PENDING))
		return "pending while a confirm can still be undone";
	return NULL;
}

static void begin_trying(struct txn *t, const struct event *ev, struct effects *fx)
{
	phase_enter(t, TXN_TRYING, true, fx);
	phase_work(t, ev, fx);
}

static void begin_cancel(struct txn *t, const struct event *ev, struct effects *fx)
{
	phase_undo(t, ev, TXN_CANCELLING, fx);
}

static void all_confirmed(struct txn *t, struct effects *fx)
{
	for (unsigned i = 0; i < t->n_branch; i++) {
		if (t->branch[i].state == BRANCH_CONFIRMED)
			t->branch[i].state = BRANCH_COMMITTED;
	}
	phase_decide(t, OUTCOME_COMMITTED, fx);
	phase_end(t, TXN_COMMITTED, true, fx);
}

static void begin_confirm(struct txn *t, const struct event *ev, struct effects *fx)
{
	bool tried = false;

	for (unsigned i = 0; i < t->n_branch; i++)
		tried |= t->branch[i].state == BRANCH_TRIED;
	if (!tried) {
		all_confirmed(t, fx); /* nobody, or only readers */
		return;
	}
	if (!t->undo_confirms)
		phase_decide(t, OUTCOME_COMMITTED, fx);
	phase_enter(t, TXN_CONFIRMING, true, fx);
	phase_work(t, ev, fx);
}

/* Its initiator has tried them all, and says by its commit that they went well. */
static void close_to_confirm(struct txn *t, const struct event *ev, struct effects *fx)
{
	for (unsigned i = 0; i < t->n_branch; i++)
		t->branch[i].state = BRANCH_TRIED;
	begin_confirm(t, ev, fx);
}

static int trying_yes(struct txn *t, const struct event *ev, struct effects *fx)
{
	if (phase_voted(t, ev, BRANCH_TRIED, fx))
		begin_confirm(t, ev, fx);
	return 0;
}

static int trying_read_only(struct txn *t, const struct event *ev, struct effects *fx)
{
	if (phase_voted(t, ev, BRANCH_READ_ONLY, fx))
		begin_confirm(t, ev, fx);
	return 0;
}

static int trying_no(struct txn *t, const struct event *ev, struct effects *fx)
{
	t->branch[ev->branch].state = BRANCH_REFUSED;
	begin_cancel(t, ev, fx);
	return 0;
}

static int trying_timer(struct txn *t, const struct event *ev, struct effects *fx)
{
	if (phase_too_late(t, ev))
		begin_cancel(t, ev, fx);
	else
		phase_work(t, ev, fx);
	return 0;
}

static int confirming_done(struct txn *t, const struct event *ev, struct effects *fx)
{
	if (!t->undo_confirms) {
		phase_obeyed(t, ev, BRANCH_COMMITTED, TXN_COMMITTED, fx);
		return 0;
	}
	t->branch[ev->branch].state = BRANCH_CONFIRMED;
	calls_through(t, ev->branch, fx);
	if (phase_all_answered(t))
		all_confirmed(t, fx);
	return 0;
}

static int confirming_aborted(struct txn *t, const struct event *ev, struct effects *fx)
{
	if (t->undo_confirms)
		begin_cancel(t, ev, fx);
	else
		phase_disobeyed(t, ev, BRANCH_HEURISTIC_ABORTED, fx);
	return 0;
}

static int confirming_no(struct txn *t, const struct event *ev, struct effects *fx)
{
	if (t->undo_confirms)
		begin_cancel(t, ev, fx);
	else
		calls_delivery_contract(t, ev, fx);
	return 0;
}

/* Nobody is alerted by what is undone: the outcome says it. */
static int try_once_more(struct txn *t, const struct event *ev, struct effects *fx)
{
	calls_failed(t, ev);
	if (t->branch[ev->branch].failures >= t->retry.alert_after)
		begin_cancel(t, ev, fx);
	return 0;
}

static int confirming_unknown(struct txn *t, const struct event *ev, struct effects *fx)
{
	return t->undo_confirms ? try_once_more(t, ev, fx) : phase_decided_unknown(t, ev, fx);
}

static int confirming_contract(struct txn *t, const struct event *ev, struct effects *fx)
{
	return t->undo_confirms ? try_once_more(t, ev, fx) : phase_decided_contract(t, ev, fx);
}

/* Every cell is written: `ignore` is a decision, NULL would be an oversight. */
/* clang-format off */
static step_fn *const table[TXN_STATE_MAX][EV_TYPE_MAX] = {
	[TXN_ACTIVE] = PHASE_ACTIVE,
	[TXN_TRYING] = {
		[EV_YES] = trying_yes, [EV_READ_ONLY] = trying_read_only, [EV_NO] = trying_no,
		[EV_DONE] = phase_reject, [EV_FOUND_COMMITTED] = phase_reject, [EV_FOUND_ABORTED] = phase_reject,
		[EV_WORKING] = phase_working, [EV_UNKNOWN] = phase_vote_unknown, [EV_CONTRACT] = trying_no,
		[EV_TIMER] = trying_timer, [EV_RESUME] = trying_timer,
		PHASE_CLOSED,
	},
	[TXN_CONFIRMING] = {
		[EV_YES] = phase_reject, [EV_READ_ONLY] = phase_reject, [EV_NO] = confirming_no,
		[EV_DONE] = confirming_done, [EV_FOUND_COMMITTED] = confirming_done, [EV_FOUND_ABORTED] = confirming_aborted,
		[EV_WORKING] = phase_working, [EV_UNKNOWN] = confirming_unknown, [EV_CONTRACT] = confirming_contract,
		[EV_TIMER] = phase_decided_work, [EV_RESUME] = phase_decided_resume,
		PHASE_CLOSED,
	},
	[TXN_CANCELLING] = {
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

const struct protocol protocol_tcc = {
    .name = "tcc",
    .mode = MODE_TCC,
    .interactive = true,
    .first = OP_TRY,
    .start = begin_trying,
    .commit = close_to_confirm,
    .abort = begin_cancel,
    .phase = phase,
    .table = table,
    .timed = phase_timed,
    .broken = broken,
};
