/*
 * two_phase.c - two-phase commit, as seen by the coordinator. Presumed abort.
 *
 *	        SUBMIT            all yes               all answered
 *	ACTIVE -------> PREPARING -------> COMMITTING ---------------> COMMITTED
 *	  |              |  |  | all read-only                            ^  or MIXED
 *	  |              |  |  +------------------------------------------+
 *	  |              |  | a no, or the deadline         all answered
 *	  |              |  +---------> ABORTING ---------------------> ABORTED
 *	  |              | the deadline, nobody called                    ^  or MIXED
 *	  |              +------------------------------------------------+
 *	  | SUBMIT of a single branch
 *	  |          yes, or found committed
 *	  +--> ONE_PHASE ------------------------> COMMITTED
 *	         |   | found aborted (or the deadline, and not called)
 *	         |   +---------------------------> ABORTED
 *	         | a no, or the deadline    rolled back: ABORTED; found committed: COMMITTED
 *	         +--> ARBITRATING -------------> (whatever the participant's barrier says)
 *
 * An interactive transaction stays in ACTIVE, stored from EV_BEGIN on, while branches are enlisted.
 * COMMIT is then what SUBMIT is above, but that no branch at all leads to COMMITTED at once;
 * ROLLBACK and the deadline lead to ABORTING, or to ABORTED when there is no branch.
 *
 * Invariants:
 *	(1) COMMITTING is a forced record, and commit calls are actions of that step or later: no
 *	    participant commits (but a single one, in one phase) before the decision is durable.
 *	(2) A decision never changes: COMMITTING leads to COMMITTED or MIXED only, ABORTING to
 *	    ABORTED or MIXED only, and neither has a timeout. Delivery is retried for ever.
 *	(3) Before the decision nobody has been told to commit, so a restart may ask again
 *	    (prepare is idempotent) and may abort once the deadline has passed.
 *	(4) Rollback goes to every branch that was ever called, or may have been, refusers
 *	    included: a 4xx may come from a proxy after the work ran. Only a read-only vote
 *	    excuses: it promised that there is nothing to undo.
 *	(5) In one phase silence never means no: the branch may have committed. Until it says so,
 *	    or its barrier answers the rollback, the outcome is pending.
 *	(6) The outcome is mixed exactly when some branch was found to have decided alone, against
 *	    the decision; each such finding is a forced record and an alert.
 *	(7) What closes an interactive transaction first, COMMIT, ROLLBACK or the deadline, is
 *	    forced before any call, and closes it for all branches enlisted before it: from then
 *	    on nobody is enlisted. Its branches may all have been called, by the initiator.
 *
 * The deadline acts through EV_TIMER (and EV_RESUME) only. A yes that is delivered before that
 * counts however late it is: it is a durable promise, and using it harms nobody. Calls that ask
 * for a vote neither start at nor last beyond the deadline.
 */
#include "core/calls.h"
#include "core/phases.h"

static const struct phase phase[TXN_STATE_MAX] = {
    [TXN_ACTIVE] =
        {
            .answered = BIT(BRANCH_PENDING),
            .outcome = BIT(OUTCOME_PENDING),
            .next = BIT(TXN_PREPARING) | BIT(TXN_ONE_PHASE) | BIT(TXN_ABORTING) |
                    BIT(TXN_COMMITTED) | BIT(TXN_ABORTED),
        },
    [TXN_PREPARING] =
        {
            .op = OP_PREPARE,
            .order = PHASE_FORWARD,
            .timed = true,
            .open = BIT(BRANCH_PENDING),
            .answered = BIT(BRANCH_PREPARED) | BIT(BRANCH_READ_ONLY),
            .outcome = BIT(OUTCOME_PENDING),
            .next = BIT(TXN_COMMITTING) | BIT(TXN_ABORTING) | BIT(TXN_COMMITTED) | BIT(TXN_ABORTED),
        },
    [TXN_COMMITTING] =
        {
            .op = OP_COMMIT,
            .open = BIT(BRANCH_PREPARED),
            .answered = BIT(BRANCH_READ_ONLY) | BIT(BRANCH_COMMITTED) |
                        BIT(BRANCH_HEURISTIC_ABORTED),
            .outcome = BIT(OUTCOME_COMMITTED) | BIT(OUTCOME_MIXED),
            .next = BIT(TXN_COMMITTED) | BIT(TXN_MIXED),
        },
    [TXN_ABORTING] =
        {
            .op = OP_ROLLBACK,
            .open = BIT(BRANCH_PENDING) | BIT(BRANCH_PREPARED) | BIT(BRANCH_REFUSED),
            .answered = BIT(BRANCH_READ_ONLY) | BIT(BRANCH_ABORTED) |
                        BIT(BRANCH_HEURISTIC_COMMITTED),
            .outcome = BIT(OUTCOME_ABORTED) | BIT(OUTCOME_MIXED),
            .next = BIT(TXN_ABORTED) | BIT(TXN_MIXED),
        },
    [TXN_ONE_PHASE] =
        {
            .op = OP_COMMIT,
            .timed = true,
            .one_phase = true,
            .open = BIT(BRANCH_PENDING),
            .outcome = BIT(OUTCOME_PENDING),
            .next = BIT(TXN_COMMITTED) | BIT(TXN_ABORTED) | BIT(TXN_ARBITRATING),
        },
    [TXN_ARBITRATING] =
        {
            .op = OP_ROLLBACK,
            .open = BIT(BRANCH_PENDING) | BIT(BRANCH_REFUSED),
            .outcome = BIT(OUTCOME_PENDING),
            .next = BIT(TXN_COMMITTED) | BIT(TXN_ABORTED),
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
	bool single = t->state == TXN_ONE_PHASE || t->state == TXN_ARBITRATING;

	return single && t->n_branch != 1 ? "one phase is for a single branch" : NULL;
}

static void begin_voting(struct txn *t, const struct event *ev, struct effects *fx)
{
	phase_enter(t, t->n_branch == 1 ? TXN_ONE_PHASE : TXN_PREPARING, true, fx);
	phase_work(t, ev, fx);
}

static void begin_commit(struct txn *t, const struct event *ev, struct effects *fx)
{
	bool prepared = false;

	for (unsigned i = 0; i < t->n_branch; i++)
		prepared |= t->branch[i].state == BRANCH_PREPARED;
	phase_decide(t, OUTCOME_COMMITTED, fx);
	if (!prepared) {
		/* Nobody, or only readers: it need not be told. */
		phase_end(t, TXN_COMMITTED, true, fx);
		return;
	}
	phase_enter(t, TXN_COMMITTING, true, fx);
	phase_work(t, ev, fx);
}

static void begin_abort(struct txn *t, const struct event *ev, struct effects *fx)
{
	phase_undo(t, ev, TXN_ABORTING, fx);
}

/* The initiator's commit: now the votes have their time. */
static void close_to_commit(struct txn *t, const struct event *ev, struct effects *fx)
{
	t->deadline_us = ev->now_us + t->vote_timeout_us;
	if (t->n_branch == 0)
		begin_commit(t, ev, fx);
	else
		begin_voting(t, ev, fx);
}

static int preparing_yes(struct txn *t, const struct event *ev, struct effects *fx)
{
	if (phase_voted(t, ev, BRANCH_PREPARED, fx))
		begin_commit(t, ev, fx);
	return 0;
}

static int preparing_read_only(struct txn *t, const struct event *ev, struct effects *fx)
{
	if (phase_voted(t, ev, BRANCH_READ_ONLY, fx))
		begin_commit(t, ev, fx);
	return 0;
}

static int preparing_no(struct txn *t, const struct event *ev, struct effects *fx)
{
	t->branch[ev->branch].state = BRANCH_REFUSED;
	begin_abort(t, ev, fx);
	return 0;
}

static int preparing_timer(struct txn *t, const struct event *ev, struct effects *fx)
{
	if (phase_too_late(t, ev))
		begin_abort(t, ev, fx);
	else
		phase_work(t, ev, fx);
	return 0;
}

/* A single branch has settled the matter, in one phase or before its barrier: its word is the
 * decision, and nothing about it is heuristic. */
static void settled(struct txn *t, enum branch_state state, struct effects *fx)
{
	bool aborted = state == BRANCH_ABORTED;

	t->branch[0].state = state;
	calls_through(t, 0, fx);
	phase_decide(t, aborted ? OUTCOME_ABORTED : OUTCOME_COMMITTED, fx);
	phase_end(t, aborted ? TXN_ABORTED : TXN_COMMITTED, true, fx);
}

static int single_committed(struct txn *t, const struct event *ev, struct effects *fx)
{
	(void)ev;
	settled(t, BRANCH_COMMITTED, fx);
	return 0;
}

static int single_read_only(struct txn *t, const struct event *ev, struct effects *fx)
{
	(void)ev;
	settled(t, BRANCH_READ_ONLY, fx);
	return 0;
}

static int single_aborted(struct txn *t, const struct event *ev, struct effects *fx)
{
	(void)ev;
	settled(t, BRANCH_ABORTED, fx);
	return 0;
}

/* A forced record: once a rollback may be on its way no commit may follow it. */
static void begin_arbitration(struct txn *t, const struct event *ev, struct effects *fx)
{
	phase_enter(t, TXN_ARBITRATING, true, fx);
	phase_work(t, ev, fx);
}

static int one_phase_no(struct txn *t, const struct event *ev, struct effects *fx)
{
	t->branch[0].state = BRANCH_REFUSED;
	begin_arbitration(t, ev, fx);
	return 0;
}

static int one_phase_timer(struct txn *t, const struct event *ev, struct effects *fx)
{
	if (!phase_too_late(t, ev))
		phase_work(t, ev, fx);
	else if (t->branch[0].called)
		begin_arbitration(t, ev, fx);
	else
		settled(t, BRANCH_ABORTED, fx);
	return 0;
}

/* Every cell is written: `ignore` is a decision, NULL would be an oversight. Replies in states
 * where no call is under way are dropped by txn_step before they come here. */
/* clang-format off */
static step_fn *const table[TXN_STATE_MAX][EV_TYPE_MAX] = {
	[TXN_ACTIVE] = PHASE_ACTIVE,
	[TXN_PREPARING] = {
		[EV_YES] = preparing_yes, [EV_READ_ONLY] = preparing_read_only, [EV_NO] = preparing_no,
		[EV_DONE] = phase_reject, [EV_FOUND_COMMITTED] = phase_reject, [EV_FOUND_ABORTED] = phase_reject,
		[EV_WORKING] = phase_working, [EV_UNKNOWN] = phase_vote_unknown, [EV_CONTRACT] = preparing_no,
		[EV_TIMER] = preparing_timer, [EV_RESUME] = preparing_timer,
		PHASE_CLOSED,
	},
	[TXN_COMMITTING] = {
		[EV_YES] = phase_reject, [EV_READ_ONLY] = phase_reject, [EV_NO] = phase_reject,
		[EV_DONE] = phase_commit_done, [EV_FOUND_COMMITTED] = phase_commit_done, [EV_FOUND_ABORTED] = phase_commit_contradicted,
		[EV_WORKING] = phase_working, [EV_UNKNOWN] = phase_decided_unknown, [EV_CONTRACT] = phase_decided_contract,
		[EV_TIMER] = phase_decided_work, [EV_RESUME] = phase_decided_resume,
		PHASE_CLOSED,
	},
	[TXN_ABORTING] = {
		[EV_YES] = phase_reject, [EV_READ_ONLY] = phase_reject, [EV_NO] = phase_reject,
		[EV_DONE] = phase_abort_done, [EV_FOUND_COMMITTED] = phase_abort_contradicted, [EV_FOUND_ABORTED] = phase_abort_done,
		[EV_WORKING] = phase_working, [EV_UNKNOWN] = phase_decided_unknown, [EV_CONTRACT] = phase_decided_contract,
		[EV_TIMER] = phase_decided_work, [EV_RESUME] = phase_decided_resume,
		PHASE_CLOSED,
	},
	[TXN_ONE_PHASE] = {
		[EV_YES] = single_committed, [EV_READ_ONLY] = single_read_only, [EV_NO] = one_phase_no,
		[EV_DONE] = phase_reject, [EV_FOUND_COMMITTED] = single_committed, [EV_FOUND_ABORTED] = single_aborted,
		[EV_WORKING] = phase_working, [EV_UNKNOWN] = phase_vote_unknown, [EV_CONTRACT] = one_phase_no,
		[EV_TIMER] = one_phase_timer, [EV_RESUME] = one_phase_timer,
		PHASE_CLOSED,
	},
	[TXN_ARBITRATING] = {
		[EV_YES] = phase_reject, [EV_READ_ONLY] = phase_reject, [EV_NO] = phase_reject,
		[EV_DONE] = single_aborted, [EV_FOUND_COMMITTED] = single_committed, [EV_FOUND_ABORTED] = single_aborted,
		[EV_WORKING] = phase_working, [EV_UNKNOWN] = phase_decided_unknown, [EV_CONTRACT] = phase_decided_contract,
		[EV_TIMER] = phase_decided_work, [EV_RESUME] = phase_decided_work,
		PHASE_CLOSED,
	},
	[TXN_COMMITTED] = PHASE_ENDED(phase_ignore),
	[TXN_ABORTED] = PHASE_ENDED(phase_ignore),
	[TXN_MIXED] = PHASE_ENDED(phase_mixed_resume),
};
/* clang-format on */

const struct protocol protocol_two_phase = {
    .name = "2pc",
    .mode = MODE_TWO_PHASE,
    .interactive = true,
    .first = OP_PREPARE,
    .start = begin_voting,
    .commit = close_to_commit,
    .abort = begin_abort,
    .phase = phase,
    .table = table,
    .timed = phase_timed,
    .broken = broken,
};
