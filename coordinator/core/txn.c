#include "core/txn.h"

#include <assert.h>
#include <string.h>

#include "core/calls.h"
#include "core/phases.h"

/* The registry: one line per protocol. */
static const struct protocol *const registry[] = {
    &protocol_two_phase,
    &protocol_tcc,
    &protocol_saga,
    &protocol_three_phase,
};

#define N_PROTOCOL (sizeof registry / sizeof registry[0])

const struct protocol *protocol_get(enum txn_mode mode)
{
	for (size_t i = 0; i < N_PROTOCOL; i++) {
		if (registry[i]->mode == mode)
			return registry[i];
	}
	return NULL;
}

enum txn_mode txn_mode_parse(const char *name)
{
	for (size_t i = 0; i < N_PROTOCOL; i++) {
		if (strcmp(registry[i]->name, name) == 0)
			return registry[i]->mode;
	}
	return (enum txn_mode)0;
}

const struct protocol *protocol_of(const struct txn *t)
{
	const struct protocol *p = protocol_get(t->mode);

	assert(p);
	return p;
}

int txn_init(struct txn *t, struct arena *arena, const struct txn_config *config)
{
	const struct protocol *p = protocol_get(config->mode);

	if (!p || config->n_branch > TXN_BRANCH_MAX)
		return ERR_INVALID;
	if (config->interactive ? !p->interactive : config->n_branch == 0)
		return ERR_INVALID;
	*t = (struct txn){
	    .mode = config->mode,
	    .state = TXN_ACTIVE,
	    .outcome = OUTCOME_PENDING,
	    .seed = config->seed,
	    .interactive = config->interactive,
	    .undo_confirms = config->undo_confirms,
	    .forward = config->forward,
	    .n_branch = config->n_branch,
	    .room = config->n_branch,
	    .deadline_us = config->deadline_us,
	    .vote_timeout_us = config->vote_timeout_us,
	    .phase_timeout_us = config->phase_timeout_us,
	    .retry = config->retry,
	};
	t->branch = arena_alloc(arena, t->n_branch * sizeof *t->branch);
	if (!t->branch)
		return ERR_NOMEM;
	calls_clear(t);
	for (unsigned i = 0; i < t->n_branch; i++)
		t->branch[i].called = t->interactive;
	return 0;
}

int txn_reserve(struct txn *t, struct arena *arena, unsigned n_branch)
{
	unsigned room = 2 * t->room < TXN_BRANCH_MAX ? 2 * t->room : TXN_BRANCH_MAX;
	struct branch *branch;

	if (n_branch > TXN_BRANCH_MAX)
		return ERR_LIMIT;
	if (n_branch <= t->room)
		return 0;
	/* The arena keeps the old ones: doubled, that is never more than the new ones. */
	room = room > n_branch ? room : n_branch;
	branch = arena_alloc(arena, room * sizeof *branch);
	if (!branch)
		return ERR_NOMEM;
	memcpy(branch, t->branch, t->n_branch * sizeof *branch);
	t->branch = branch;
	t->room = room;
	return 0;
}

static void restore_branches(struct txn *t, const uint8_t *branch_state)
{
	calls_clear(t);
	/* All of them first: whether there is a deadline may depend on any. */
	for (unsigned i = 0; i < t->n_branch; i++)
		t->branch[i].state = (enum branch_state)branch_state[i];
	for (unsigned i = 0; i < t->n_branch; i++) {
		struct branch *b = &t->branch[i];

		/* Nobody remembers what the process before us did: expect the worst of it. Alerts
		 * are about decisions that do not get through, never about votes. */
		b->called = t->interactive || t->state != TXN_ACTIVE;
		b->alerted = b->called && !protocol_of(t)->timed(t);
		b->raised = 0;
	}
}

int txn_restore(struct txn *t, enum txn_state state, enum txn_outcome outcome,
                const uint8_t *branch_state)
{
	struct branch before[TXN_BRANCH_MAX];
	struct txn old = *t;

	if ((unsigned)state >= TXN_STATE_MAX || (unsigned)outcome >= OUTCOME_MAX ||
	    !protocol_of(t)->table[state][EV_RESUME])
		return ERR_INVALID;
	for (unsigned i = 0; i < t->n_branch; i++) {
		if (branch_state[i] >= BRANCH_STATE_MAX)
			return ERR_INVALID;
	}
	memcpy(before, t->branch, t->n_branch * sizeof *before);
	t->state = state;
	t->outcome = outcome;
	t->begun = t->interactive;
	restore_branches(t, branch_state);
	if (!phase_broken(t))
		return 0;
	*t = old;
	memcpy(t->branch, before, t->n_branch * sizeof *before);
	return ERR_INVALID;
}

bool txn_timed(const struct txn *t)
{
	return protocol_of(t)->timed(t);
}

bool txn_rests(const struct txn *t)
{
	bool waits = false;

	if (txn_ended(t->state) || txn_timed(t))
		return false;
	for (unsigned i = 0; i < t->n_branch; i++) {
		if (t->branch[i].in_call)
			return false;
		waits |= t->branch[i].due_us != INT64_MAX;
	}
	return waits;
}

static void put_number(uint8_t *at, unsigned n_byte, uint64_t v)
{
	for (unsigned i = 0; i < n_byte; i++)
		at[i] = (uint8_t)(v >> (8 * (n_byte - 1 - i)));
}

static uint64_t get_number(const uint8_t *at, unsigned n_byte)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < n_byte; i++)
		v = v << 8 | at[i];
	return v;
}

/* Of a branch: attempts in four bytes, failures in three, the alerts raised in one; and in eight the
 * time that was asked for, which older memos have not, nor their first byte. */
#define MEMO_OLD_LEN 8
#define MEMO_LEN     16

size_t txn_memo_len(const struct txn *t)
{
	return 1 + t->n_branch * (size_t)MEMO_LEN;
}

static bool next_is_asked(const struct txn *t)
{
	const struct branch *first = &t->branch[0];

	for (unsigned i = 1; i < t->n_branch; i++) {
		if (t->branch[i].due_us < first->due_us)
			first = &t->branch[i];
	}
	return first->not_before_us >= first->due_us;
}

void txn_memo(const struct txn *t, int64_t zero_us, uint8_t *memo)
{
	const uint32_t most = 0xffffff;

	*memo++ = next_is_asked(t);
	for (unsigned i = 0; i < t->n_branch; i++, memo += MEMO_LEN) {
		const struct branch *b = &t->branch[i];

		put_number(memo, 4, b->attempt);
		put_number(memo + 4, 3, b->failures < most ? b->failures : most);
		memo[7] = b->raised;
		put_number(memo + 8, 8,
		           b->not_before_us ? (uint64_t)(b->not_before_us + zero_us) : 0);
	}
}

int txn_remember(struct txn *t, int64_t zero_us, const uint8_t *memo, size_t len)
{
	bool old = len == t->n_branch * (size_t)MEMO_OLD_LEN;

	if (!old && len != txn_memo_len(t))
		return ERR_INVALID;
	memo += !old;
	for (unsigned i = 0; i < t->n_branch; i++, memo += old ? MEMO_OLD_LEN : MEMO_LEN) {
		struct branch *b = &t->branch[i];
		int64_t at_us = old ? 0 : (int64_t)get_number(memo + 8, 8);

		b->past_attempt = (uint32_t)get_number(memo, 4);
		b->past_failures = (uint32_t)get_number(memo + 4, 3);
		b->raised = memo[7];
		b->not_before_us = at_us ? at_us - zero_us : 0;
	}
	return 0;
}

/* A reply counts only for the call that is under way: everything else is late, doubled, or from
 * an older phase, and must not touch the newer one. */
static bool is_expected(const struct branch *b, const struct event *ev)
{
	return b->in_call && b->op == ev->op && b->attempt == ev->attempt;
}

int txn_step(struct txn *t, const struct event *ev, struct effects *fx)
{
	int rc;

	assert((unsigned)ev->type < EV_TYPE_MAX);
	fx->record = (struct record){0};
	fx->n_act = 0;
	if (event_is_reply(ev->type)) {
		if (ev->branch >= t->n_branch)
			return ERR_INVALID;
		if (!is_expected(&t->branch[ev->branch], ev))
			return 0;
	}
	txn_check(t);
	rc = protocol_of(t)->table[t->state][ev->type](t, ev, fx);
	txn_check(t);
	assert(rc == 0 || (!fx->record.present && fx->n_act == 0));
	return rc;
}

int64_t txn_due_us(const struct txn *t)
{
	int64_t due = protocol_of(t)->timed(t) ? t->deadline_us : INT64_MAX;

	for (unsigned i = 0; i < t->n_branch; i++) {
		if (t->branch[i].due_us < due)
			due = t->branch[i].due_us;
	}
	return due;
}

enum txn_outcome txn_decision(const struct txn *t)
{
	if (t->outcome != OUTCOME_MIXED)
		return t->outcome;
	for (unsigned i = 0; i < t->n_branch; i++) {
		if (t->branch[i].state == BRANCH_HEURISTIC_ABORTED)
			return OUTCOME_COMMITTED;
	}
	return OUTCOME_ABORTED;
}

bool txn_ended(enum txn_state state)
{
	return state == TXN_COMMITTED || state == TXN_ABORTED || state == TXN_MIXED;
}

static void check_branch(const struct txn *t, const struct branch *b)
{
	assert((unsigned)b->state < BRANCH_STATE_MAX);
	assert((unsigned)b->op < OP_MAX);
	if (b->op == OP_NONE) {
		assert(!b->in_call && b->attempt == 0 && b->due_us == INT64_MAX);
		return;
	}
	assert(b->in_call == (b->due_us == INT64_MAX));
	assert(!b->in_call || (b->called && b->attempt > 0));
	assert(!txn_ended(t->state));
}

void txn_check(const struct txn *t)
{
	const char *broken;

	assert((unsigned)t->state < TXN_STATE_MAX);
	assert((unsigned)t->outcome < OUTCOME_MAX);
	assert(t->n_branch > 0 || t->interactive);
	assert(t->n_branch <= t->room && t->room <= TXN_BRANCH_MAX);
	for (unsigned i = 0; i < t->n_branch; i++)
		check_branch(t, &t->branch[i]);
	broken = phase_broken(t);
	assert(!broken);
}

/* The name at `index`; "?" for a number that has none. */
static const char *name_at(const char *const *name, size_t n, size_t index)
{
	return index < n && name[index] ? name[index] : "?";
}

#define NAME(table, index) name_at(table, sizeof(table) / sizeof(table)[0], (size_t)(index))

const char *txn_mode_str(enum txn_mode mode)
{
	const struct protocol *p = protocol_get(mode);

	return p ? p->name : "?";
}

bool txn_op_votes(enum txn_op op, bool one_phase)
{
	return op == OP_PREPARE || op == OP_TRY || op == OP_ACTION || op == OP_CAN_COMMIT ||
	       op == OP_PRE_COMMIT || one_phase;
}

enum txn_op txn_mode_first(enum txn_mode mode)
{
	const struct protocol *p = protocol_get(mode);

	return p ? p->first : OP_NONE;
}

bool txn_mode_has(enum txn_mode mode, enum txn_op op)
{
	const struct protocol *p = protocol_get(mode);

	for (unsigned state = 0; p && op != OP_NONE && state < TXN_STATE_MAX; state++) {
		if (p->phase[state].op == op)
			return true;
	}
	return false;
}

const char *txn_state_str(enum txn_state state)
{
	static const char *const name[TXN_STATE_MAX] = {
	    [TXN_ACTIVE] = "active",
	    [TXN_PREPARING] = "preparing",
	    [TXN_COMMITTING] = "committing",
	    [TXN_ABORTING] = "aborting",
	    [TXN_COMMITTED] = "committed",
	    [TXN_ABORTED] = "aborted",
	    [TXN_MIXED] = "mixed",
	    [TXN_ONE_PHASE] = "one_phase",
	    [TXN_ARBITRATING] = "arbitrating",
	    [TXN_TRYING] = "trying",
	    [TXN_CONFIRMING] = "confirming",
	    [TXN_CANCELLING] = "cancelling",
	    [TXN_RUNNING] = "running",
	    [TXN_COMPENSATING] = "compensating",
	    [TXN_ASKING] = "asking",
	    [TXN_PRE_COMMITTING] = "pre_committing",
	    [TXN_PRE_ABORTING] = "pre_aborting",
	};

	return NAME(name, state);
}

const char *txn_outcome_str(enum txn_outcome outcome)
{
	static const char *const name[OUTCOME_MAX] = {
	    [OUTCOME_PENDING] = "pending",
	    [OUTCOME_COMMITTED] = "committed",
	    [OUTCOME_ABORTED] = "aborted",
	    [OUTCOME_MIXED] = "mixed",
	};

	return NAME(name, outcome);
}

const char *branch_state_str(enum branch_state state)
{
	static const char *const name[BRANCH_STATE_MAX] = {
	    [BRANCH_PENDING] = "pending",
	    [BRANCH_PREPARED] = "prepared",
	    [BRANCH_READ_ONLY] = "read_only",
	    [BRANCH_REFUSED] = "refused",
	    [BRANCH_COMMITTED] = "committed",
	    [BRANCH_ABORTED] = "aborted",
	    [BRANCH_HEURISTIC_COMMITTED] = "heuristic_committed",
	    [BRANCH_HEURISTIC_ABORTED] = "heuristic_aborted",
	    [BRANCH_TRIED] = "tried",
	    [BRANCH_CONFIRMED] = "confirmed",
	    [BRANCH_DONE] = "done",
	    [BRANCH_CAN_COMMIT] = "can_commit",
	    [BRANCH_PRE_COMMITTED] = "pre_committed",
	    [BRANCH_VOUCHED] = "vouched",
	};

	return NAME(name, state);
}

const char *txn_op_str(enum txn_op op)
{
	static const char *const name[OP_MAX] = {
	    [OP_NONE] = "none",
	    [OP_PREPARE] = "prepare",
	    [OP_COMMIT] = "commit",
	    [OP_ROLLBACK] = "rollback",
	    [OP_TRY] = "try",
	    [OP_CONFIRM] = "confirm",
	    [OP_CANCEL] = "cancel",
	    [OP_ACTION] = "action",
	    [OP_COMPENSATE] = "compensate",
	    [OP_CAN_COMMIT] = "can_commit",
	    [OP_PRE_COMMIT] = "pre_commit",
	    [OP_DO_COMMIT] = "do_commit",
	    [OP_ABORT] = "abort",
	    [OP_PRE_ABORT] = "pre_abort",
	};

	return NAME(name, op);
}

const char *txn_op_wire_str(enum txn_op op)
{
	return txn_op_str(op == OP_PRE_ABORT ? OP_ABORT : op);
}

const char *alert_kind_str(enum alert_kind kind)
{
	static const char *const name[ALERT_KIND_MAX] = {
	    [ALERT_EXHAUSTED] = "exhausted",
	    [ALERT_CONTRACT] = "contract",
	    [ALERT_HEURISTIC] = "heuristic",
	};

	return NAME(name, kind);
}
