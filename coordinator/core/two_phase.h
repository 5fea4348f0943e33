/*
 * two_phase.h - what the states of two-phase commit mean; between two_phase.c, which moves from
 * one to the next, and two_phase_rules.c, which says what must hold in each. Nobody else's.
 */
#ifndef CORE_TWO_PHASE_H
#define CORE_TWO_PHASE_H

#include "core/txn.h"

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

/* The members of struct protocol. */
bool two_phase_voting(enum txn_state state);
enum txn_outcome two_phase_decision(const struct txn *t);
const char *two_phase_broken(const struct txn *t);

#endif /* CORE_TWO_PHASE_H */
