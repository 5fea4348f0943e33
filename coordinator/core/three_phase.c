/*
 * three_phase.c - three-phase commit, as seen by the coordinator. Its participants have timeouts:
 * one that has pre-committed and cannot reach us asks its peers, and may end the transaction.
 *
 *	        SUBMIT         all yes                   all pre-committed             all answered
 *	ACTIVE -------> ASKING -------> PRE_COMMITTING -------------------> COMMITTING ------> COMMITTED
 *	  |              |  | |           |    one found committed, and         ^               ^ or MIXED
 *	  |              |  | |           |    all have answered                |               |
 *	  |              |  | |           | a no, or the deadline               |               |
 *	  |              |  | |           v               all vouched, or one   |               |
 *	  |              |  | |        PRE_ABORTING ----- found committed ------+---------------+
 *	  |              |  | |           | one has aborted                                     |
 *	  |              |  | +-----------|-------- all read-only ------------------------------+
 *	  |              |  | a no, or    v                    all answered
 *	  | ROLLBACK, or |  +--------> ABORTING ---------------------------> ABORTED or MIXED
 *	  | the deadline | the deadline     ^                                   ^
 *	  +--------------|------------------+                                   |
 *	                 | the deadline, nobody called                          |
 *	                 +------------------------------------------------------+
 *
 * Where nobody is left to be told, COMMITTING or ABORTING is left out. Found committed: by 409 with
 * that outcome, the participant has ended by itself.
 *
 * An interactive transaction stays in ACTIVE, stored from EV_BEGIN on, while branches are enlisted.
 * COMMIT is then what SUBMIT is above, but that no branch at all leads to COMMITTED at once;
 * ROLLBACK and the deadline lead to ABORTING, or to ABORTED when there is no branch.
 *
 * Invariants:
 *	(1) PRE_COMMITTING is a forced record, and pre_commit calls are actions of that step or
 *	    later. Before it nobody has pre-committed, so that a no, the deadline or a restart may
 *	    abort: there is no peer that could commit.
 *	(2) From then on whoever has pre-committed may be committed by its peers. To abort is an
 *	    intent, not a decision: PRE_ABORTING, a forced record before the first intent is sent,
 *	    with the outcome pending. It becomes a decision when one participant has taken it.
 *	(3) A branch that has vouched for its being pre-committed takes no intent, and one that has
 *	    taken an intent never vouches: if one has taken it, nobody commits by its peers' word;
 *	    if all have vouched, nobody will ever take it.
 *	(4) COMMITTING is a forced record, and do_commit calls are actions of that step or later. It
 *	    is entered when all have pre-committed and no intent was ever sent, or all have vouched,
 *	    or one was found committed.
 *	(5) A participant found committed has ended by itself, and its peers may follow it: no
 *	    deadline runs any more. Its finding is a forced record. Those who have not answered yet
 *	    are asked to pre-commit until they have, so that the decision finds them ready; one that
 *	    refuses is asked to commit nevertheless, and its answer is heuristic.
 *	(6) A no to pre_commit binds nobody: a late copy of the call may pre-commit after all. So
 *	    whoever said it is sent the intent, too.
 *	(7) A decision never changes and has no timeout: COMMITTING leads to COMMITTED or MIXED
 *	    only, ABORTING to ABORTED or MIXED only.
 *	(8) Only a read-only vote on can_commit excuses from all that follows. To pre_commit it is
 *	    a breach: peers count on that branch already.
 *	(9) The outcome is mixed exactly when some branch was found to have ended against the
 *	    decision; each such finding is a forced record and an alert.
 *	(10) What closes an interactive transaction first, COMMIT, ROLLBACK or the deadline, is
 *	    forced before any call, and closes it for all branches enlisted before it.
 *
 * The coordinator never compares a clock with the participants' hold time. After a restart in
 * PRE_COMMITTING it asks all to pre-commit once more, with a fresh deadline: the answer tells
 * whether that branch has pre-committed, committed or aborted, and one that had not heard of it
 * may still pre-commit.
 */
#include "core/calls.h"
#include "core/phases.h"

static const struct phase phase[TXN_STATE_MAX] = {
    [TXN_ACTIVE] =
        {
            .answered = BIT(BRANCH_PENDING),
            .outcome = BIT(OUTCOME_PENDING),
            .next = BIT(TXN_ASKING) | BIT(TXN_ABORTING) | BIT(TXN_COMMITTED) | BIT(TXN_ABORTED),
        },
    [TXN_ASKING] =
        {
            .op = OP_CAN_COMMIT,
            .timed = true,
            .open = BIT(BRANCH_PENDING),
            .answered = BIT(BRANCH_CAN_COMMIT) | BIT(BRANCH_READ_ONLY),
            .outcome = BIT(OUTCOME_PENDING),
            .next = BIT(TXN_PRE_COMMITTING) | BIT(TXN_ABORTING) | BIT(TXN_COMMITTED) |
                    BIT(TXN_ABORTED),
        },
    [TXN_PRE_COMMITTING] =
        {
            .op = OP_PRE_COMMIT,
            .timed = true,
            .open = BIT(BRANCH_CAN_COMMIT),
            .answered = BIT(BRANCH_READ_ONLY) | BIT(BRANCH_PRE_COMMITTED) | BIT(BRANCH_COMMITTED) |
                        BIT(BRANCH_REFUSED),
            .outcome = BIT(OUTCOME_PENDING),
            .next = BIT(TXN_COMMITTING) | BIT(TXN_PRE_ABORTING) | BIT(TXN_COMMITTED),
        },
    [TXN_PRE_ABORTING] =
        {
            .op = OP_PRE_ABORT,
            .open = BIT(BRANCH_CAN_COMMIT) | BIT(BRANCH_PRE_COMMITTED) | BIT(BRANCH_REFUSED),
            .answered = BIT(BRANCH_READ_ONLY) | BIT(BRANCH_VOUCHED),
            .outcome = BIT(OUTCOME_PENDING),
            .next = BIT(TXN_COMMITTING) | BIT(TXN_ABORTING) | BIT(TXN_COMMITTED) | BIT(TXN_ABORTED),
        },
    [TXN_COMMITTING] =
        {
            .op = OP_DO_COMMIT,
            .open = BIT(BRANCH_PRE_COMMITTED) | BIT(BRANCH_VOUCHED) | BIT(BRANCH_CAN_COMMIT) |
                    BIT(BRANCH_REFUSED),
            .answered = BIT(BRANCH_READ_ONLY) | BIT(BRANCH_COMMITTED) |
                        BIT(BRANCH_HEURISTIC_ABORTED),
            .outcome = BIT(OUTCOME_COMMITTED) | BIT(OUTCOME_MIXED),
            .next = BIT(TXN_COMMITTED) | BIT(TXN_MIXED),
        },
    [TXN_ABORTING] =
        {
            .op = OP_ABORT,
            .open = BIT(BRANCH_PENDING) | BIT(BRANCH_CAN_COMMIT) | BIT(BRANCH_PRE_COMMITTED) |
                    BIT(BRANCH_VOUCHED) | BIT(BRANCH_REFUSED),
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

static bool any_in(const struct txn *t, uint32_t states)
{
	for (unsigned i = 0; i < t->n_branch; i++) {
		if (BIT(t->branch[i].state) & states)
			return true;
	}
	return false;
}

static bool found_committed(const struct txn *t)
{
	return any_in(t, BIT(BRANCH_COMMITTED));
}

static bool timed(const struct txn *t)
{
	return phase_timed(t) && (t->state != TXN_PRE_COMMITTING || !found_committed(t));
}

static const char *broken(const struct txn *t)
{
	bool found = found_committed(t);

	if (t->state == TXN_PRE_COMMITTING && !found && any_in(t, BIT(BRANCH_REFUSED)))
		return "a refusal ends pre-committing";
	if (t->state != TXN_COMMITTING || found)
		return NULL;
	if (any_in(t, BIT(BRANCH_CAN_COMMIT) | BIT(BRANCH_REFUSED)))
		return "committed unprepared only after one that did so by itself";
	if (any_in(t, BIT(BRANCH_VOUCHED)) && any_in(t, BIT(BRANCH_PRE_COMMITTED)))
		return "after an intent it takes all to have vouched";
	return NULL;
}

static void begin_asking(struct txn *t, const struct event *ev, struct effects *fx)
{
	phase_enter(t, TXN_ASKING, true, fx);
	phase_work(t, ev, fx);
}

static void begin_pre_commit(struct txn *t, const struct event *ev, struct effects *fx)
{
	t->deadline_us = ev->now_us + t->phase_timeout_us;
	phase_enter(t, TXN_PRE_COMMITTING, true, fx);
	phase_work(t, ev, fx);
}

static void begin_commit(struct txn *t, const struct event *ev, struct effects *fx)
{
	phase_decide(t, OUTCOME_COMMITTED, fx);
	if (!any_in(t, ~(BIT(BRANCH_READ_ONLY) | BIT(BRANCH_COMMITTED)))) {
		phase_end(t, TXN_COMMITTED, true, fx); /* nobody is left to be told */
		return;
	}
	phase_enter(t, TXN_COMMITTING, true, fx);
	phase_work(t, ev, fx);
}

static void begin_abort(struct txn *t, const struct event *ev, struct effects *fx)
{
	phase_undo(t, ev, TXN_ABORTING, fx);
}

/* Forced before any intent is sent: from then on it takes all to have vouched to commit. */
static void begin_intent(struct txn *t, const struct event *ev, struct effects *fx)
{
	phase_enter(t, TXN_PRE_ABORTING, true, fx);
	phase_work(t, ev, fx);
}

/* The initiator's commit: now the votes have their time. */
static void close_to_commit(struct txn *t, const struct event *ev, struct effects *fx)
{
	t->deadline_us = ev->now_us + t->vote_timeout_us;
	if (t->n_branch == 0)
		begin_commit(t, ev, fx);
	else
		begin_asking(t, ev, fx);
}

static void asked(struct txn *t, const struct event *ev, enum branch_state state,
                  struct effects *fx)
{
	if (!phase_voted(t, ev, state, fx))
		return;
	if (any_in(t, BIT(BRANCH_CAN_COMMIT)))
		begin_pre_commit(t, ev, fx);
	else
		begin_commit(t, ev, fx);
}

static int asking_yes(struct txn *t, const struct event *ev, struct effects *fx)
{
	asked(t, ev, BRANCH_CAN_COMMIT, fx);
	return 0;
}

static int asking_read_only(struct txn *t, const struct event *ev, struct effects *fx)
{
	asked(t, ev, BRANCH_READ_ONLY, fx);
	return 0;
}

static int asking_no(struct txn *t, const struct event *ev, struct effects *fx)
{
	t->branch[ev->branch].state = BRANCH_REFUSED;
	begin_abort(t, ev, fx);
	return 0;
}

static int asking_timer(struct txn *t, const struct event *ev, struct effects *fx)
{
	if (phase_too_late(t, ev))
		begin_abort(t, ev, fx);
	else
		phase_work(t, ev, fx);
	return 0;
}

/* It need not be asked to pre-commit any more. */
static void pre_commit_answered(struct txn *t, const struct event *ev, enum branch_state state,
                                struct effects *fx)
{
	t->branch[ev->branch].state = state;
	calls_through(t, ev->branch, fx);
	if (phase_all_answered(t))
		begin_commit(t, ev, fx);
}

static int pre_committing_yes(struct txn *t, const struct event *ev, struct effects *fx)
{
	pre_commit_answered(t, ev, BRANCH_PRE_COMMITTED, fx);
	return 0;
}

static int pre_committing_no(struct txn *t, const struct event *ev, struct effects *fx)
{
	if (found_committed(t)) {
		pre_commit_answered(t, ev, BRANCH_REFUSED, fx);
		return 0;
	}
	t->branch[ev->branch].state = BRANCH_REFUSED;
	begin_intent(t, ev, fx);
	return 0;
}

static int pre_committing_committed(struct txn *t, const struct event *ev, struct effects *fx)
{
	pre_commit_answered(t, ev, BRANCH_COMMITTED, fx);
	/* Forgotten in a crash, its peers could be sent an intent. */
	fx->record = (struct record){.present = true, .forced = true};
	return 0;
}

static int pre_committing_unknown(struct txn *t, const struct event *ev, struct effects *fx)
{
	return found_committed(t) ? phase_decided_unknown(t, ev, fx)
	                          : phase_vote_unknown(t, ev, fx);
}

static int pre_committing_timer(struct txn *t, const struct event *ev, struct effects *fx)
{
	if (phase_too_late(t, ev))
		begin_intent(t, ev, fx);
	else
		phase_work(t, ev, fx);
	return 0;
}

static int pre_committing_resume(struct txn *t, const struct event *ev, struct effects *fx)
{
	t->deadline_us = ev->now_us + t->phase_timeout_us;
	phase_work(t, ev, fx);
	return 0;
}

/* It has taken the intent, which thereby is the decision. */
static int pre_aborting_done(struct txn *t, const struct event *ev, struct effects *fx)
{
	t->branch[ev->branch].state = BRANCH_ABORTED;
	calls_through(t, ev->branch, fx);
	phase_decide(t, OUTCOME_ABORTED, fx);
	if (!any_in(t, ~(BIT(BRANCH_READ_ONLY) | BIT(BRANCH_ABORTED)))) {
		phase_end(t, TXN_ABORTED, true, fx);
		return 0;
	}
	phase_enter(t, TXN_ABORTING, true, fx);
	phase_work(t, ev, fx);
	return 0;
}

static int pre_aborting_committed(struct txn *t, const struct event *ev, struct effects *fx)
{
	t->branch[ev->branch].state = BRANCH_COMMITTED;
	calls_through(t, ev->branch, fx);
	begin_commit(t, ev, fx);
	return 0;
}

static int pre_aborting_vouched(struct txn *t, const struct event *ev, struct effects *fx)
{
	t->branch[ev->branch].state = BRANCH_VOUCHED;
	calls_through(t, ev->branch, fx);
	if (phase_all_answered(t))
		begin_commit(t, ev, fx);
	return 0;
}

/* Every cell is written: `ignore` is a decision, NULL would be an oversight. */
/* clang-format off */
static step_fn *const table[TXN_STATE_MAX][EV_TYPE_MAX] = {
	[TXN_ACTIVE] = PHASE_ACTIVE,
	[TXN_ASKING] = {
		[EV_YES] = asking_yes, [EV_READ_ONLY] = asking_read_only, [EV_NO] = asking_no,
		[EV_DONE] = phase_reject, [EV_FOUND_COMMITTED] = phase_reject, [EV_FOUND_ABORTED] = phase_reject,
		[EV_WORKING] = phase_working, [EV_UNKNOWN] = phase_vote_unknown, [EV_CONTRACT] = asking_no,
		[EV_TIMER] = asking_timer, [EV_RESUME] = asking_timer,
		PHASE_CLOSED,
	},
	[TXN_PRE_COMMITTING] = {
		[EV_YES] = pre_committing_yes, [EV_READ_ONLY] = pre_committing_no, [EV_NO] = pre_committing_no,
		[EV_DONE] = phase_reject, [EV_FOUND_COMMITTED] = pre_committing_committed, [EV_FOUND_ABORTED] = pre_committing_no,
		[EV_WORKING] = phase_working, [EV_UNKNOWN] = pre_committing_unknown, [EV_CONTRACT] = pre_committing_no,
		[EV_TIMER] = pre_committing_timer, [EV_RESUME] = pre_committing_resume,
		PHASE_CLOSED,
	},
	[TXN_PRE_ABORTING] = {
		[EV_YES] = phase_reject, [EV_READ_ONLY] = phase_reject, [EV_NO] = phase_reject,
		[EV_DONE] = pre_aborting_done, [EV_FOUND_COMMITTED] = pre_aborting_committed, [EV_FOUND_ABORTED] = pre_aborting_done,
		[EV_WORKING] = phase_working, [EV_UNKNOWN] = phase_decided_unknown, [EV_CONTRACT] = phase_decided_contract,
		[EV_VOUCHED] = pre_aborting_vouched,
		[EV_TIMER] = phase_decided_work, [EV_RESUME] = phase_decided_work,
		PHASE_INITIATED,
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
	[TXN_COMMITTED] = PHASE_ENDED(phase_ignore),
	[TXN_ABORTED] = PHASE_ENDED(phase_ignore),
	[TXN_MIXED] = PHASE_ENDED(phase_mixed_resume),
};
/* clang-format on */

const struct protocol protocol_three_phase = {
    .name = "3pc",
    .mode = MODE_THREE_PHASE,
    .interactive = true,
    .first = OP_CAN_COMMIT,
    .start = begin_asking,
    .commit = close_to_commit,
    .abort = begin_abort,
    .phase = phase,
    .table = table,
    .timed = timed,
    .broken = broken,
};
