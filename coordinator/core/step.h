/*
 * step.h - events in, effects out: THE contract between the pure core and whoever drives it.
 *
 * The driver (or the simulator) calls txn_step() with one event; the machine changes its own
 * state and fills a struct effects. The contract on that struct is the write-ahead rule of the
 * whole system:
 *
 *	1. Make the record durable, if there is one and it is forced.
 *	2. Only then carry out act[], in any order.
 *	3. A record that is not forced (lazy) is written later; nobody waits for it. Records of
 *	   one transaction become durable in the order of the steps that made them, and actions
 *	   of a step wait for every forced record of the steps before it.
 *
 * For every ACT_CALL the driver delivers exactly one reply event (EV_YES .. EV_CONTRACT, or
 * EV_VOUCHED) with the same branch, op and attempt, also when nothing was reached (EV_UNKNOWN).
 * Duplicates and strays are harmless: an event whose op or attempt is not the one under way is
 * ignored.
 *
 * A transaction that is dropped and reloaded (EV_RESUME) counts its attempts from 1 again, unless
 * it was put aside at rest (txn_rests) with what txn_remember wants: the driver cancels the calls
 * of the dropped one, so that their replies cannot be taken for new ones.
 * Raising an alert that is open and closing one that is not are normal: after a restart nobody
 * here knows which are.
 *
 * A coordinated transaction begins with EV_SUBMIT. An interactive one begins with EV_BEGIN, gets
 * its branches with EV_ENLIST and is closed with EV_COMMIT or EV_ROLLBACK, or by its deadline; its
 * initiator may call a branch as soon as the record of EV_ENLIST is durable, so that from then on
 * every branch may have work to undo.
 *
 * Numbers of the enums here are stored in the database and never change; new ones are appended.
 */
#ifndef CORE_STEP_H
#define CORE_STEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define TXN_BRANCH_MAX 64
#define ACTION_MAX     (3 * TXN_BRANCH_MAX + 2)

enum txn_mode {
	MODE_TWO_PHASE = 1,
	MODE_TCC = 2,
	MODE_SAGA = 3,
	MODE_THREE_PHASE = 4,
	MODE_MAX,
};

enum txn_state {
	TXN_ACTIVE = 1,
	TXN_PREPARING = 2,
	TXN_COMMITTING = 3,
	TXN_ABORTING = 4,
	TXN_COMMITTED = 5,
	TXN_ABORTED = 6,
	TXN_MIXED = 7,     /* ended; participants disagree and it cannot be undone automatically */
	TXN_ONE_PHASE = 8, /* a single branch was asked to commit without a prepare */
	TXN_ARBITRATING = 9, /* ... and did not say yes: rollback was sent, its barrier decides */
	TXN_TRYING = 10,     /* tcc */
	TXN_CONFIRMING = 11,
	TXN_CANCELLING = 12,
	TXN_RUNNING = 13, /* saga */
	TXN_COMPENSATING = 14,
	TXN_ASKING = 15, /* 3pc */
	TXN_PRE_COMMITTING = 16,
	TXN_PRE_ABORTING = 17,
	TXN_STATE_MAX,
};

enum txn_outcome {
	OUTCOME_PENDING = 0,
	OUTCOME_COMMITTED = 1,
	OUTCOME_ABORTED = 2,
	OUTCOME_MIXED = 3,
	OUTCOME_MAX,
};

enum branch_state {
	BRANCH_PENDING = 0, /* no vote yet */
	BRANCH_PREPARED = 1,
	BRANCH_READ_ONLY = 2, /* voted yes with nothing to undo; gets no second phase */
	BRANCH_REFUSED = 3,   /* voted no, or broke the contract while voting */
	BRANCH_COMMITTED = 4,
	BRANCH_ABORTED = 5,
	BRANCH_HEURISTIC_COMMITTED = 6, /* decided alone, against the decision */
	BRANCH_HEURISTIC_ABORTED = 7,
	BRANCH_TRIED = 8,
	BRANCH_CONFIRMED = 9, /* while that can still be undone */
	BRANCH_DONE = 10,
	BRANCH_CAN_COMMIT = 11,
	BRANCH_PRE_COMMITTED = 12,
	BRANCH_VOUCHED = 13, /* pre-committed, and has told a peer so: it takes no intent */
	BRANCH_STATE_MAX,
};

enum txn_op {
	OP_NONE = 0,
	OP_PREPARE = 1,
	OP_COMMIT = 2,
	OP_ROLLBACK = 3,
	OP_TRY = 4,
	OP_CONFIRM = 5,
	OP_CANCEL = 6,
	OP_ACTION = 7,
	OP_COMPENSATE = 8,
	OP_CAN_COMMIT = 9,
	OP_PRE_COMMIT = 10,
	OP_DO_COMMIT = 11,
	OP_ABORT = 12,     /* decided */
	OP_PRE_ABORT = 13, /* an intent: "abort" on the wire, and whoever takes it decides */
	OP_MAX,
};

enum event_type {
	EV_SUBMIT = 0,          /* coordinated: all branches are known: start */
	EV_YES = 1,             /* vote operation: 2xx */
	EV_READ_ONLY = 2,       /* vote operation: 2xx with "vote": "read_only" */
	EV_NO = 3,              /* vote operation, or confirm: 409 */
	EV_DONE = 4,            /* decided operation: 2xx */
	EV_FOUND_COMMITTED = 5, /* 409 with "outcome": "committed" */
	EV_FOUND_ABORTED = 6,   /* 409 with "outcome": "aborted" */
	EV_WORKING = 7,         /* 202, 425: ask again at a fixed interval, not a failure */
	EV_UNKNOWN = 8,         /* 429, 5xx, timeout, refused, reset: retry */
	EV_CONTRACT = 9,        /* any other answer: the participant breaks the contract */
	EV_TIMER = 10,          /* now_us >= txn_due_us() */
	EV_RESUME = 11,   /* reloaded from the journal: TXN_MIXED too, for alerts that got lost */
	EV_BEGIN = 12,    /* interactive: start, and wait for what the initiator says */
	EV_ENLIST = 13,   /* interactive: one more branch; after txn_reserve */
	EV_COMMIT = 14,   /* interactive: the initiator wants it committed */
	EV_ROLLBACK = 15, /* interactive: the initiator wants it undone */
	EV_VOUCHED = 16,  /* an intent: 409 with "outcome": "pre_committed" */
	EV_TYPE_MAX,
};

static inline bool event_is_reply(enum event_type type)
{
	return (type >= EV_YES && type <= EV_CONTRACT) || type == EV_VOUCHED;
}

struct event {
	enum event_type type;
	int64_t now_us; /* monotonic, never smaller than that of the event before */
	/* The rest only for replies: EV_YES .. EV_CONTRACT, EV_VOUCHED. */
	unsigned branch;
	enum txn_op op;
	uint32_t attempt;
	int64_t retry_after_us; /* what the participant asked for; 0 for nothing */
	/* Only for EV_ENLIST: timeout_us of the new branch. */
	int64_t call_timeout_us;
};

enum action_type {
	ACT_CALL = 0,    /* call the participant */
	ACT_ALERT,       /* a person should look at this branch */
	ACT_ALERT_CLOSE, /* the call got through: alerts but ALERT_HEURISTIC are over, if any */
	ACT_DECIDED,     /* the outcome is known: GET decision may say so from now on */
	ACT_ENDED,       /* nothing is left to do: answer waiters, forget it once it is durable */
};

enum alert_kind {
	ALERT_EXHAUSTED = 0, /* retry.alert_after attempts failed; retrying goes on at the cap */
	ALERT_CONTRACT = 1,  /* an answer outside the contract to a decided operation */
	ALERT_HEURISTIC = 2, /* the participant decided alone, against the decision */
	ALERT_KIND_MAX,
};

struct action {
	enum action_type type;
	unsigned branch; /* ACT_CALL, ACT_ALERT, ACT_ALERT_CLOSE */
	enum txn_op op;  /* ACT_CALL */
	bool one_phase;  /* ACT_CALL with OP_COMMIT: there was no prepare */
	uint32_t attempt;
	int64_t timeout_us;    /* ACT_CALL: give up and report EV_UNKNOWN after this long */
	enum alert_kind alert; /* ACT_ALERT */
};

/* What to store: the whole of state, outcome and branch[].state as they are after the step; of an
 * interactive transaction also deadline_us, which EV_COMMIT moves, and the branches enlisted. */
struct record {
	bool present;
	bool forced;
};

struct effects {
	struct record record;
	struct action act[ACTION_MAX];
	size_t n_act;
};

#endif /* CORE_STEP_H */
