/*
 * phases.h - what the protocols do alike: enter a phase, give its work to the branches, take their
 * answers, decide, end. Each reads the protocol's own table of phases (struct phase).
 *
 * Nobody but phase_enter writes t->state, and nobody but phase_decide and phase_disobeyed writes
 * t->outcome.
 */
#ifndef CORE_PHASES_H
#define CORE_PHASES_H

#include "core/protocol.h"

#define BIT(n) (1u << (n))

#define PHASE_HEURISTIC (BIT(BRANCH_HEURISTIC_COMMITTED) | BIT(BRANCH_HEURISTIC_ABORTED))

bool phase_is_open(const struct txn *t, unsigned branch);
bool phase_all_answered(const struct txn *t);
bool phase_timed(const struct txn *t);
/* The deadline counts, and it has passed. */
bool phase_too_late(const struct txn *t, const struct event *ev);

/* Checks the edge, ends the old phase, records the new one. */
void phase_enter(struct txn *t, enum txn_state to, bool forced, struct effects *fx);
void phase_decide(struct txn *t, enum txn_outcome outcome, struct effects *fx);
/* Every branch whose turn it is gets the work of this phase, unless it has it already; those that
 * are due are called. */
void phase_work(struct txn *t, const struct event *ev, struct effects *fx);
/* The same after an answer, where it was somebody's turn to wait for that. */
void phase_go_on(struct txn *t, const struct event *ev, struct effects *fx);
/* phase_enter to a final state. Lazy is enough when the record tells nothing new: losing it costs
 * a repetition of the last call. */
void phase_end(struct txn *t, enum txn_state to, bool forced, struct effects *fx);

/* The branch said yes: true when all have. */
bool phase_voted(struct txn *t, const struct event *ev, enum branch_state state,
                 struct effects *fx);
/* Decided: aborted. `to` undoes what branches may have done; nobody was called: the end. */
void phase_undo(struct txn *t, const struct event *ev, enum txn_state to, struct effects *fx);
/* The branch did what was decided. */
void phase_obeyed(struct txn *t, const struct event *ev, enum branch_state state,
                  enum txn_state ended, struct effects *fx);
/* The branch had decided alone, and otherwise. */
void phase_disobeyed(struct txn *t, const struct event *ev, enum branch_state state,
                     struct effects *fx);

/* Cells. */
step_fn phase_ignore; /* repeated or early: legal, no change */
step_fn phase_reject; /* too late, or the driver judged by the wrong column */
step_fn phase_working, phase_vote_unknown;
step_fn phase_decided_unknown, phase_decided_contract, phase_decided_work, phase_decided_resume;
step_fn phase_commit_done, phase_commit_contradicted; /* the answers to a decided commit, */
step_fn phase_abort_done, phase_abort_contradicted;   /* and to all that undoes */
step_fn phase_mixed_resume;

/* The first invariant that does not hold, in words; NULL when all hold. */
const char *phase_broken(const struct txn *t);

/* initiator.c: cells for what an initiator asks, and for its silence: first those of ACTIVE, then
 * those of every other state. */
step_fn initiator_submit, initiator_begin, initiator_enlist, initiator_commit, initiator_rollback,
    initiator_timer;
step_fn initiator_submit_again, initiator_begin_again, initiator_commit_again,
    initiator_rollback_again;

/* Rows, and parts of rows, that are the same in every table. Replies in states where no call is
 * under way are dropped by txn_step before they come to the table. */
/* clang-format off */
#define PHASE_ACTIVE { \
		[EV_SUBMIT] = initiator_submit, \
		[EV_YES] = phase_reject, [EV_READ_ONLY] = phase_reject, [EV_NO] = phase_reject, \
		[EV_DONE] = phase_reject, [EV_FOUND_COMMITTED] = phase_reject, [EV_FOUND_ABORTED] = phase_reject, \
		[EV_WORKING] = phase_reject, [EV_UNKNOWN] = phase_reject, [EV_CONTRACT] = phase_reject, \
		[EV_VOUCHED] = phase_reject, \
		[EV_TIMER] = initiator_timer, [EV_RESUME] = initiator_timer, \
		[EV_BEGIN] = initiator_begin, [EV_ENLIST] = initiator_enlist, \
		[EV_COMMIT] = initiator_commit, [EV_ROLLBACK] = initiator_rollback, \
	}
#define PHASE_INITIATED \
	[EV_SUBMIT] = initiator_submit_again, [EV_BEGIN] = initiator_begin_again, [EV_ENLIST] = phase_reject, \
	[EV_COMMIT] = initiator_commit_again, [EV_ROLLBACK] = initiator_rollback_again
/* ... in a state that sends no intent. */
#define PHASE_CLOSED \
	PHASE_INITIATED, [EV_VOUCHED] = phase_reject
#define PHASE_ENDED(resume) { \
		[EV_YES] = phase_ignore, [EV_READ_ONLY] = phase_ignore, [EV_NO] = phase_ignore, \
		[EV_DONE] = phase_ignore, [EV_FOUND_COMMITTED] = phase_ignore, [EV_FOUND_ABORTED] = phase_ignore, \
		[EV_WORKING] = phase_ignore, [EV_UNKNOWN] = phase_ignore, [EV_CONTRACT] = phase_ignore, \
		[EV_TIMER] = phase_ignore, [EV_RESUME] = resume, \
		PHASE_CLOSED, \
	}
/* clang-format on */

#endif /* CORE_PHASES_H */
