/*
 * two_phase.h - what the states of two-phase commit mean; between two_phase.c, which moves from
 * one to the next, two_phase_initiator.c, which says what the initiator may ask for, and
 * two_phase_rules.c, which says what must hold in each state. Nobody else's.
 */
#ifndef CORE_TWO_PHASE_H
#define CORE_TWO_PHASE_H

#include "core/protocol.h"

#define BIT(n) (1u << (n))

#define TWO_PHASE_HEURISTIC (BIT(BRANCH_HEURISTIC_COMMITTED) | BIT(BRANCH_HEURISTIC_ABORTED))

/* Sets are bit masks over the enums named. */
struct two_phase {
	enum txn_op op;    /* what open branches are called for */
	uint32_t open;     /* enum branch_state: waits for an answer */
	uint32_t answered; /* enum branch_state: does not */
	uint32_t outcome;  /* enum txn_outcome: possible here */
	uint32_t next;     /* enum txn_state: legal edges */
};

extern const struct two_phase two_phase[TXN_STATE_MAX];

bool two_phase_is_open(const struct txn *t, unsigned branch);
/* The deadline counts, and it has passed. */
bool two_phase_too_late(const struct txn *t, const struct event *ev);

/* two_phase.c: on to the votes, to a commit, to an abort. */
void two_phase_begin_voting(struct txn *t, const struct event *ev, struct effects *fx);
void two_phase_begin_commit(struct txn *t, const struct event *ev, struct effects *fx);
void two_phase_begin_abort(struct txn *t, const struct event *ev, struct effects *fx);

/* two_phase_initiator.c: cells of the table. */
step_fn two_phase_active_submit, two_phase_active_begin, two_phase_active_enlist,
    two_phase_active_commit, two_phase_active_rollback, two_phase_active_timer;
step_fn two_phase_submit_again, two_phase_begin_again, two_phase_commit_again,
    two_phase_rollback_again;

/* The members of struct protocol. */
bool two_phase_timed(const struct txn *t);
enum txn_outcome two_phase_decision(const struct txn *t);
const char *two_phase_broken(const struct txn *t);

#endif /* CORE_TWO_PHASE_H */
