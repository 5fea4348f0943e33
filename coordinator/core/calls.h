/*
 * calls.h - the calls of one phase: who has to be called, when, and what a failure costs.
 *
 * What every protocol does the same way, kept out of their tables. A branch with work has an op
 * and is either in a call or has a time for the next one; a branch without has op OP_NONE.
 *
 * Calling sequence, per phase: calls_clear, calls_assign for each branch with work, calls_start;
 * then per reply one of calls_settle, calls_working, calls_failed (operations that vote) or
 * calls_through, calls_working, calls_delivery_failed, calls_delivery_contract (operations that
 * carry a decision out, which are repeated until they get through); calls_start when a call is due.
 */
#ifndef CORE_CALLS_H
#define CORE_CALLS_H

#include "core/txn.h"

struct call_rule {
	bool one_phase;   /* mark OP_COMMIT as the one without a prepare */
	int64_t until_us; /* no call starts at or lasts beyond this moment; INT64_MAX for never */
};

/* The phase is over: nobody has anything to do; replies still under way will match nothing. */
void calls_clear(struct txn *t);
void calls_assign(struct txn *t, unsigned branch, enum txn_op op, int64_t now_us);
/* ACT_CALL for every branch whose call is due. */
void calls_start(struct txn *t, const struct call_rule *rule, int64_t now_us, struct effects *fx);

/* The branch answered for good. */
void calls_settle(struct txn *t, unsigned branch);
/* Ask again at the fixed interval; the participant is there, so the row of failures is over. */
void calls_working(struct txn *t, const struct event *ev);
/* Ask again after the backoff. */
void calls_failed(struct txn *t, const struct event *ev);

/* calls_settle, and its alerts are over. */
void calls_through(struct txn *t, unsigned branch, struct effects *fx);
/* calls_failed, and an alert after retry.alert_after failures in a row. */
void calls_delivery_failed(struct txn *t, const struct event *ev, struct effects *fx);
/* An alert at once; ask again at the longest interval. */
void calls_delivery_contract(struct txn *t, const struct event *ev, struct effects *fx);

/* An alert of each kind is raised once per branch. */
void calls_alert(struct txn *t, unsigned branch, enum alert_kind kind, struct effects *fx);

/* Room is asserted: ACTION_MAX is enough for one step of any protocol. */
void effects_push(struct effects *fx, const struct action *action);

#endif /* CORE_CALLS_H */
