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
#include <assert.h>

#include "core/calls.h"
#include "core/protocol.h"
#include "core/two_phase.h"

static bool all_answered(const struct txn *t)
{
	for (unsigned i = 0; i < t->n_branch; i++) {
		if (two_phase_is_open(t, i))
			return false;
	}
	return true;
}

/* The only place that writes t->state: checks the edge, ends the phase, records it. */
static void set_state(struct txn *t, enum txn_state to, bool forced, struct effects *fx)
{
	assert(two_phase[t->state].next & BIT(to));
	assert(!fx->record.present);
	t->state = to;
	calls_clear(t);
	fx->record = (struct record){.present = true, .forced = forced};
}

static void decide(struct txn *t, enum txn_outcome outcome, struct effects *fx)
{
	assert(t->outcome == OUTCOME_PENDING);
	t->outcome = outcome;
	effects_push(fx, &(struct action){.type = ACT_DECIDED});
}

static void start_due(struct txn *t, const struct event *ev, struct effects *fx)
{
	struct call_rule rule = {
	    .one_phase = t->state == TXN_ONE_PHASE,
	    .until_us = two_phase_timed(t) ? t->deadline_us : INT64_MAX,
	};

	calls_start(t, &rule, ev->now_us, fx);
}

/* Every open branch gets the work of this phase, unless it has it already. */
static void work(struct txn *t, const struct event *ev, struct effects *fx)
{
	for (unsigned i = 0; i < t->n_branch; i++) {
		if (two_phase_is_open(t, i) && t->branch[i].op == OP_NONE)
			calls_assign(t, i, two_phase[t->state].op, ev->now_us);
	}
	start_due(t, ev, fx);
}

/* Lazy unless the record tells something new: losing it costs a repetition of the last call. */
static void end(struct txn *t, enum txn_state to, bool forced, struct effects *fx)
{
	set_state(t, to, forced, fx);
	effects_push(fx, &(struct action){.type = ACT_ENDED});
}

static int ignore(struct txn *t, const struct event *ev, struct effects *fx)
{
	(void)t, (void)ev, (void)fx; /* repeated or early: legal, no change */
	return 0;
}

static int reject(struct txn *t, const struct event *ev, struct effects *fx)
{
	(void)t, (void)ev, (void)fx; /* too late, or the driver judged by the wrong column */
	return ERR_STATE;
}

void two_phase_begin_voting(struct txn *t, const struct event *ev, struct effects *fx)
{
	set_state(t, t->n_branch == 1 ? TXN_ONE_PHASE : TXN_PREPARING, true, fx);
	work(t, ev, fx);
}

void two_phase_begin_commit(struct txn *t, const struct event *ev, struct effects *fx)
{
	bool prepared = false;

	for (unsigned i = 0; i < t->n_branch; i++)
		prepared |= t->branch[i].state == BRANCH_PREPARED;
	decide(t, OUTCOME_COMMITTED, fx);
	if (!prepared) {
		end(t, TXN_COMMITTED, true, fx); /* nobody, or only readers: it need not be told */
		return;
	}
	set_state(t, TXN_COMMITTING, true, fx);
	work(t, ev, fx);
}

void two_phase_begin_abort(struct txn *t, const struct event *ev, struct effects *fx)
{
	bool called = false;

	for (unsigned i = 0; i < t->n_branch; i++) {
		struct branch *b = &t->branch[i];

		if (b->state == BRANCH_READ_ONLY)
			continue;
		called |= b->called;
		if (!b->called)
			b->state = BRANCH_ABORTED; /* it has never heard of the transaction */
	}
	decide(t, OUTCOME_ABORTED, fx);
	if (!called) {
		end(t, TXN_ABORTED, true, fx);
		return;
	}
	set_state(t, TXN_ABORTING, true, fx);
	work(t, ev, fx);
}

static void vote(struct txn *t, const struct event *ev, enum branch_state state, struct effects *fx)
{
	t->branch[ev->branch].state = state;
	calls_settle(t, ev->branch);
	if (all_answered(t))
		two_phase_begin_commit(t, ev, fx);
}

static int preparing_yes(struct txn *t, const struct event *ev, struct effects *fx)
{
	vote(t, ev, BRANCH_PREPARED, fx);
	return 0;
}

static int preparing_read_only(struct txn *t, const struct event *ev, struct effects *fx)
{
	vote(t, ev, BRANCH_READ_ONLY, fx);
	return 0;
}

static int preparing_no(struct txn *t, const struct event *ev, struct effects *fx)
{
	t->branch[ev->branch].state = BRANCH_REFUSED;
	two_phase_begin_abort(t, ev, fx);
	return 0;
}

static int preparing_timer(struct txn *t, const struct event *ev, struct effects *fx)
{
	if (two_phase_too_late(t, ev))
		two_phase_begin_abort(t, ev, fx);
	else
		work(t, ev, fx);
	return 0;
}

static int working(struct txn *t, const struct event *ev, struct effects *fx)
{
	(void)fx;
	calls_working(t, ev);
	return 0;
}

static int voting_unknown(struct txn *t, const struct event *ev, struct effects *fx)
{
	(void)fx;
	calls_failed(t, ev);
	return 0;
}

static int decided_unknown(struct txn *t, const struct event *ev, struct effects *fx)
{
	calls_delivery_failed(t, ev, fx);
	return 0;
}

static int decided_contract(struct txn *t, const struct event *ev, struct effects *fx)
{
	calls_delivery_contract(t, ev, fx);
	return 0;
}

/* The calls of this state for the branches that are still open. */
static int decided_work(struct txn *t, const struct event *ev, struct effects *fx)
{
	work(t, ev, fx);
	return 0;
}

/* The branch did what was decided. */
static void obeyed(struct txn *t, const struct event *ev, enum branch_state state,
                   enum txn_state ended, struct effects *fx)
{
	t->branch[ev->branch].state = state;
	calls_through(t, ev->branch, fx);
	if (all_answered(t))
		end(t, t->outcome == OUTCOME_MIXED ? TXN_MIXED : ended, false, fx);
}

/* The branch had decided alone, and otherwise. Nothing is left to call it for; people must know,
 * but not before the record: what they are told must still be true after a crash. */
static void disobeyed(struct txn *t, const struct event *ev, enum branch_state state,
                      struct effects *fx)
{
	t->branch[ev->branch].state = state;
	t->outcome = OUTCOME_MIXED;
	calls_through(t, ev->branch, fx);
	calls_alert(t, ev->branch, ALERT_HEURISTIC, fx);
	if (all_answered(t))
		end(t, TXN_MIXED, true, fx);
	else
		fx->record = (struct record){.present = true, .forced = true};
}

static int committing_done(struct txn *t, const struct event *ev, struct effects *fx)
{
	obeyed(t, ev, BRANCH_COMMITTED, TXN_COMMITTED, fx);
	return 0;
}

static int committing_aborted(struct txn *t, const struct event *ev, struct effects *fx)
{
	disobeyed(t, ev, BRANCH_HEURISTIC_ABORTED, fx);
	return 0;
}

static int aborting_done(struct txn *t, const struct event *ev, struct effects *fx)
{
	obeyed(t, ev, BRANCH_ABORTED, TXN_ABORTED, fx);
	return 0;
}

static int aborting_committed(struct txn *t, const struct event *ev, struct effects *fx)
{
	disobeyed(t, ev, BRANCH_HEURISTIC_COMMITTED, fx);
	return 0;
}

/* After a restart. A crash may have come between the record of a heuristic finding and its alert,
 * and that branch is not called any more: say it again rather than perhaps never. */
static int mixed_resume(struct txn *t, const struct event *ev, struct effects *fx)
{
	(void)ev;
	for (unsigned i = 0; i < t->n_branch; i++) {
		if (BIT(t->branch[i].state) & TWO_PHASE_HEURISTIC)
			calls_alert(t, i, ALERT_HEURISTIC, fx);
	}
	return 0;
}

static int decided_resume(struct txn *t, const struct event *ev, struct effects *fx)
{
	work(t, ev, fx);
	return mixed_resume(t, ev, fx);
}

/* A single branch has settled the matter, in one phase or before its barrier: its word is the
 * decision, and nothing about it is heuristic. */
static void settled(struct txn *t, enum branch_state state, struct effects *fx)
{
	bool aborted = state == BRANCH_ABORTED;

	t->branch[0].state = state;
	calls_through(t, 0, fx);
	decide(t, aborted ? OUTCOME_ABORTED : OUTCOME_COMMITTED, fx);
	end(t, aborted ? TXN_ABORTED : TXN_COMMITTED, true, fx);
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
	set_state(t, TXN_ARBITRATING, true, fx);
	work(t, ev, fx);
}

static int one_phase_no(struct txn *t, const struct event *ev, struct effects *fx)
{
	t->branch[0].state = BRANCH_REFUSED;
	begin_arbitration(t, ev, fx);
	return 0;
}

static int one_phase_timer(struct txn *t, const struct event *ev, struct effects *fx)
{
	if (!two_phase_too_late(t, ev))
		work(t, ev, fx);
	else if (t->branch[0].called)
		begin_arbitration(t, ev, fx);
	else
		settled(t, BRANCH_ABORTED, fx);
	return 0;
}

/* Every cell is written: `ignore` is a decision, NULL would be an oversight. Replies in states
 * where no call is under way are dropped by txn_step before they come here. */
/* clang-format off */
#define CLOSED \
	[EV_SUBMIT] = two_phase_submit_again, [EV_BEGIN] = two_phase_begin_again, [EV_ENLIST] = reject, \
	[EV_COMMIT] = two_phase_commit_again, [EV_ROLLBACK] = two_phase_rollback_again
static step_fn *const table[TXN_STATE_MAX][EV_TYPE_MAX] = {
	[TXN_ACTIVE] = {
		[EV_SUBMIT] = two_phase_active_submit,
		[EV_YES] = reject, [EV_READ_ONLY] = reject, [EV_NO] = reject,
		[EV_DONE] = reject, [EV_FOUND_COMMITTED] = reject, [EV_FOUND_ABORTED] = reject,
		[EV_WORKING] = reject, [EV_UNKNOWN] = reject, [EV_CONTRACT] = reject,
		[EV_TIMER] = two_phase_active_timer, [EV_RESUME] = two_phase_active_timer,
		[EV_BEGIN] = two_phase_active_begin, [EV_ENLIST] = two_phase_active_enlist,
		[EV_COMMIT] = two_phase_active_commit, [EV_ROLLBACK] = two_phase_active_rollback,
	},
	[TXN_PREPARING] = {
		[EV_YES] = preparing_yes, [EV_READ_ONLY] = preparing_read_only, [EV_NO] = preparing_no,
		[EV_DONE] = reject, [EV_FOUND_COMMITTED] = reject, [EV_FOUND_ABORTED] = reject,
		[EV_WORKING] = working, [EV_UNKNOWN] = voting_unknown, [EV_CONTRACT] = preparing_no,
		[EV_TIMER] = preparing_timer, [EV_RESUME] = preparing_timer,
		CLOSED,
	},
	[TXN_COMMITTING] = {
		[EV_YES] = reject, [EV_READ_ONLY] = reject, [EV_NO] = reject,
		[EV_DONE] = committing_done, [EV_FOUND_COMMITTED] = committing_done, [EV_FOUND_ABORTED] = committing_aborted,
		[EV_WORKING] = working, [EV_UNKNOWN] = decided_unknown, [EV_CONTRACT] = decided_contract,
		[EV_TIMER] = decided_work, [EV_RESUME] = decided_resume,
		CLOSED,
	},
	[TXN_ABORTING] = {
		[EV_YES] = reject, [EV_READ_ONLY] = reject, [EV_NO] = reject,
		[EV_DONE] = aborting_done, [EV_FOUND_COMMITTED] = aborting_committed, [EV_FOUND_ABORTED] = aborting_done,
		[EV_WORKING] = working, [EV_UNKNOWN] = decided_unknown, [EV_CONTRACT] = decided_contract,
		[EV_TIMER] = decided_work, [EV_RESUME] = decided_resume,
		CLOSED,
	},
	[TXN_ONE_PHASE] = {
		[EV_YES] = single_committed, [EV_READ_ONLY] = single_read_only, [EV_NO] = one_phase_no,
		[EV_DONE] = reject, [EV_FOUND_COMMITTED] = single_committed, [EV_FOUND_ABORTED] = single_aborted,
		[EV_WORKING] = working, [EV_UNKNOWN] = voting_unknown, [EV_CONTRACT] = one_phase_no,
		[EV_TIMER] = one_phase_timer, [EV_RESUME] = one_phase_timer,
		CLOSED,
	},
	[TXN_ARBITRATING] = {
		[EV_YES] = reject, [EV_READ_ONLY] = reject, [EV_NO] = reject,
		[EV_DONE] = single_aborted, [EV_FOUND_COMMITTED] = single_committed, [EV_FOUND_ABORTED] = single_aborted,
		[EV_WORKING] = working, [EV_UNKNOWN] = decided_unknown, [EV_CONTRACT] = decided_contract,
		[EV_TIMER] = decided_work, [EV_RESUME] = decided_work,
		CLOSED,
	},
#define ENDED(resume) { \
		[EV_YES] = ignore, [EV_READ_ONLY] = ignore, [EV_NO] = ignore, \
		[EV_DONE] = ignore, [EV_FOUND_COMMITTED] = ignore, [EV_FOUND_ABORTED] = ignore, \
		[EV_WORKING] = ignore, [EV_UNKNOWN] = ignore, [EV_CONTRACT] = ignore, \
		[EV_TIMER] = ignore, [EV_RESUME] = resume, \
		CLOSED, \
	}
	[TXN_COMMITTED] = ENDED(ignore),
	[TXN_ABORTED] = ENDED(ignore),
	[TXN_MIXED] = ENDED(mixed_resume),
#undef ENDED
};
#undef CLOSED
/* clang-format on */

const struct protocol protocol_two_phase = {
    .name = "2pc",
    .mode = MODE_TWO_PHASE,
    .table = table,
    .timed = two_phase_timed,
    .decision = two_phase_decision,
    .broken = two_phase_broken,
};
