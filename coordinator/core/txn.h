/*
 * txn.h - the pure half of a global transaction.
 *
 * Nothing under core/ reads a clock, a socket, a random number or an environment variable; a
 * test holds the objects' undefined symbols against a short list.
 *
 * Calling sequence, new:      txn_init, set branch[i].timeout_us, .after, .wanted,
 *                             txn_step(EV_SUBMIT), ...
 * ... interactive:            txn_init, set branch[i].timeout_us, txn_step(EV_BEGIN), then per
 *                             branch txn_reserve, txn_step(EV_ENLIST); txn_step(EV_COMMIT), ...
 * Calling sequence, recovery: txn_init, set branch[i].timeout_us, .after, .wanted, txn_restore,
 *                             txn_remember for one that was put aside, txn_step(EV_RESUME), ...
 * After each step the driver asks txn_due_us() and delivers EV_TIMER then.
 *
 * Ownership: struct txn is the caller's storage; its branches come from the caller's arena and
 * die with it. Effects are values: they borrow nothing. Not re-entrant per transaction.
 */
#ifndef CORE_TXN_H
#define CORE_TXN_H

#include "base/arena.h"
#include "core/step.h"

struct retry_policy {
	int64_t initial_us;
	uint32_t factor;
	int64_t cap_us;
	uint32_t alert_after;
};

struct branch {
	enum branch_state state;
	enum txn_op op;    /* what this branch has to do in this phase; OP_NONE: nothing (more) */
	bool called;       /* it was called in any phase, or may have been: before a restart, or
	                     * by the initiator of an interactive transaction */
	bool in_call;      /* one call at most is under way per phase */
	bool alerted;      /* an alert may be open for it: close it when a call gets through */
	bool wanted;       /* saga: a later step is built from its result */
	uint8_t raised;    /* bit per enum alert_kind: raised since txn_init, not to be repeated */
	uint32_t attempt;  /* calls made of `op` so far */
	uint32_t failures; /* of those, how many failed in a row: paces the backoff */
	uint32_t past_attempt, past_failures; /* from txn_remember, until it gets its work */
	int64_t due_us;        /* when to call next; INT64_MAX while in_call or nothing to do */
	int64_t not_before_us; /* what its participant asked for; due_us may be later */
	int64_t timeout_us;    /* for one call */
	uint64_t after; /* bit per branch that answers first, directly or not (order_close) */
};

struct txn {
	enum txn_mode mode;
	enum txn_state state;
	enum txn_outcome outcome;
	bool interactive;
	bool begun;         /* interactive only: EV_BEGIN was here, in this process or one before */
	bool undo_confirms; /* tcc: one confirm that cannot be had cancels them all */
	bool forward;       /* saga: no way back once a step was called */
	uint64_t seed;      /* hash of the gid: jitter */
	unsigned n_branch, room;
	struct branch *branch;
	int64_t deadline_us;      /* ACTIVE: of the initiator; then votes count until here */
	int64_t phase_timeout_us; /* 3pc: from there to the deadline of pre_committing */
	int64_t vote_timeout_us;  /* interactive: from EV_COMMIT to the deadline of the votes */
	struct retry_policy retry;
};

struct txn_config {
	enum txn_mode mode;
	uint64_t seed;
	unsigned n_branch;
	bool interactive;
	bool undo_confirms; /* tcc only */
	bool forward;       /* saga only */
	int64_t deadline_us;
	int64_t vote_timeout_us;  /* interactive only */
	int64_t phase_timeout_us; /* 3pc only */
	struct retry_policy retry;
};

/* State ACTIVE, every branch pending. ERR_NOMEM, or ERR_INVALID for too many branches, or none in
 * a coordinated transaction, or a mode that is not driven by its initiator. */
int txn_init(struct txn *t, struct arena *arena, const struct txn_config *config) MUSTCHECK;

/* Makes room for so many branches in all, in the arena of txn_init: t->branch may move. Before
 * every EV_ENLIST. ERR_LIMIT above TXN_BRANCH_MAX or ERR_NOMEM, and nothing changed. */
int txn_reserve(struct txn *t, struct arena *arena, unsigned n_branch) MUSTCHECK;

/* Put back what a record said. ERR_INVALID, nothing changed, when it contradicts itself.
 * `branch_state` has n_branch elements. */
int txn_restore(struct txn *t, enum txn_state state, enum txn_outcome outcome,
                const uint8_t *branch_state) MUSTCHECK;

/* Its deadline counts: it is not decided, and may be undone still. */
bool txn_timed(const struct txn *t);
/* Nothing is under way, no deadline runs, and some branch waits for its next call: it may be put
 * aside until then. */
bool txn_rests(const struct txn *t);

/* What is known of the calls to each branch beside the record, in txn_memo_len bytes: one that was
 * put aside goes on counting attempts, does not repeat its alerts, and calls nobody before the time
 * that was asked for. Its own backoff ends when it is taken back. `zero_us` is what the stored clock
 * says when that of the events says 0. Stored: the format never changes; the first byte is 1 when
 * the next call is due at a time that was asked for, 0 when it may be made sooner. */
#define TXN_MEMO_MAX (1 + 16 * TXN_BRANCH_MAX)
size_t txn_memo_len(const struct txn *t);
void txn_memo(const struct txn *t, int64_t zero_us, uint8_t *memo);
/* After txn_restore, before EV_RESUME. ERR_INVALID: it is of another transaction, and nothing
 * changed. */
int txn_remember(struct txn *t, int64_t zero_us, const uint8_t *memo, size_t len) MUSTCHECK;

/* Advance by one event. `fx` is reset first. Returns 0, ERR_STATE when the event is not allowed
 * in this state, or ERR_INVALID for a branch that does not exist (nothing changed, `fx` empty). */
int txn_step(struct txn *t, const struct event *ev, struct effects *fx) MUSTCHECK;

/* When the next EV_TIMER is due; INT64_MAX for never. */
int64_t txn_due_us(const struct txn *t);

/* Which way it was decided, also when participants went another way (OUTCOME_MIXED):
 * OUTCOME_COMMITTED, OUTCOME_ABORTED, or OUTCOME_PENDING. What GET decision answers. */
enum txn_outcome txn_decision(const struct txn *t);

/* No edge leads out of this state. */
bool txn_ended(enum txn_state state);

/* Every invariant that must hold between steps; aborts on violation, in release builds too. */
void txn_check(const struct txn *t);

/* Names as they appear in the API and in SQL; never NULL. */
const char *txn_mode_str(enum txn_mode mode);
const char *txn_state_str(enum txn_state state);
const char *txn_outcome_str(enum txn_outcome outcome);
const char *branch_state_str(enum branch_state state);
const char *txn_op_str(enum txn_op op);
/* The same as participants hear it: an intent is an abort. */
const char *txn_op_wire_str(enum txn_op op);
const char *alert_kind_str(enum alert_kind kind);
/* It asks for a vote: until it is answered nothing is decided. Else it carries out a decision. */
bool txn_op_votes(enum txn_op op, bool one_phase);
/* The operation that a transaction of this mode begins with. */
enum txn_op txn_mode_first(enum txn_mode mode);
/* Transactions of this mode have such calls. */
bool txn_mode_has(enum txn_mode mode, enum txn_op op);
/* The mode with that name, or 0. */
enum txn_mode txn_mode_parse(const char *name);

#endif /* CORE_TXN_H */
