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
	void (*check)(const struct txn *t); /* invariants of this protocol */
};

extern const struct protocol protocol_two_phase;

const struct protocol *protocol_get(enum txn_mode mode);

#endif /* CORE_PROTOCOL_H */
