/*
 * protocol.h - what a commit protocol is to the rest of the core: a constant table.
 *
 * Adding a protocol = its own file with one `const struct protocol`, and a line in the registry
 * in txn.c. Only the protocol's own file knows its states; phases.h has what they share.
 */
#ifndef CORE_PROTOCOL_H
#define CORE_PROTOCOL_H

#include "core/txn.h"

typedef int step_fn(struct txn *t, const struct event *ev, struct effects *fx);
typedef void move_fn(struct txn *t, const struct event *ev, struct effects *fx);

enum phase_order {
	PHASE_PARALLEL = 0,
	PHASE_FORWARD,  /* a branch is called when those that it comes after have answered */
	PHASE_BACKWARD, /* ... when those that come after it have */
};

/* What a state means. Sets are bit masks over the enums named. */
struct phase {
	enum txn_op op; /* what open branches are called for */
	enum phase_order order;
	bool timed;        /* the deadline counts: nobody has been told a decision */
	bool one_phase;    /* the call is marked so */
	uint32_t open;     /* enum branch_state: waits for an answer */
	uint32_t answered; /* enum branch_state: does not */
	uint32_t outcome;  /* enum txn_outcome: possible here; none: not a state of this protocol */
	uint32_t next;     /* enum txn_state: legal edges */
};

struct protocol {
	const char *name; /* as in the API's "mode" */
	enum txn_mode mode;
	bool interactive;          /* branches may be enlisted one by one */
	enum txn_op first;         /* the operation of the first phase */
	move_fn *start;            /* coordinated: all branches are known */
	move_fn *commit;           /* interactive: its initiator wants it committed */
	move_fn *abort;            /* nothing is decided, and it shall not be */
	const struct phase *phase; /* by state */
	/* Every cell a used state has is written; NULL rows are states of other protocols. */
	step_fn *const (*table)[EV_TYPE_MAX];
	/* The deadline counts (phase_timed). */
	bool (*timed)(const struct txn *t);
	/* The first invariant of this protocol alone that does not hold, in words; NULL when all
	 * hold. Those of phase_broken do. */
	const char *(*broken)(const struct txn *t);
};

extern const struct protocol protocol_two_phase, protocol_tcc, protocol_saga, protocol_three_phase;

/* NULL for a mode that does not exist. */
const struct protocol *protocol_get(enum txn_mode mode);
/* That of a transaction: there is one. */
const struct protocol *protocol_of(const struct txn *t);

#endif /* CORE_PROTOCOL_H */
