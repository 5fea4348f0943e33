/*
 * protocol.h - what a commit protocol is to the rest of the core: a constant table.
 *
 * Adding a protocol = its own file with one `const struct protocol`, and a line in the registry
 * in txn.c. Only the protocol's own files know its states.
 */
#ifndef CORE_PROTOCOL_H
#define CORE_PROTOCOL_H

#include "core/txn.h"

typedef int step_fn(struct txn *t, const struct event *ev, struct effects *fx);

struct protocol {
	const char *name; /* as in the API's "mode" */
	enum txn_mode mode;
	/* Every cell a used state has is written; NULL rows are states of other protocols. */
	step_fn *const (*table)[EV_TYPE_MAX];
	/* The deadline counts: nothing is decided yet, and nobody can have been told. */
	bool (*timed)(const struct txn *t);
	/* The decision that state, outcome and branches imply (txn_decision). */
	enum txn_outcome (*decision)(const struct txn *t);
	/* The first invariant of this protocol that does not hold, in words; NULL when all hold. */
	const char *(*broken)(const struct txn *t);
};

extern const struct protocol protocol_two_phase;

/* NULL for a mode that does not exist. */
const struct protocol *protocol_get(enum txn_mode mode);

#endif /* CORE_PROTOCOL_H */
