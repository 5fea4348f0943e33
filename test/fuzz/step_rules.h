/*
 * step_rules.h - the model that fuzz_step.c holds the core against: what is known outside of it, and
 * what must hold after each step. Included there, and nowhere else.
 */
#ifndef FUZZ_STEP_RULES_H
#define FUZZ_STEP_RULES_H

#include "core/order.h"
#include "core/txn.h"
#include "fuzz.h"

#define SECOND ((int64_t)1000000)

struct image {
	bool present;
	enum txn_state state;
	enum txn_outcome outcome;
	int64_t deadline_us;
	unsigned n_branch;
	uint8_t branch[TXN_BRANCH_MAX];
};

struct call {
	bool open;
	bool one_phase;
	enum txn_op op;
	uint32_t attempt;
};

struct kind {
	uint8_t name;
	enum txn_mode mode;
	bool interactive, undo_confirms, forward;
};

/* The last is for every other name. */
static const struct kind kinds[] = {
    {.name = 'i', .mode = MODE_TWO_PHASE, .interactive = true},
    {.name = 't', .mode = MODE_TCC},
    {.name = 'T', .mode = MODE_TCC, .interactive = true},
    {.name = 'u', .mode = MODE_TCC, .undo_confirms = true},
    {.name = 'U', .mode = MODE_TCC, .interactive = true, .undo_confirms = true},
    {.name = 's', .mode = MODE_SAGA},
    {.name = 'f', .mode = MODE_SAGA, .forward = true},
    {.name = 'h', .mode = MODE_THREE_PHASE},
    {.name = 'H', .mode = MODE_THREE_PHASE, .interactive = true},
    {.name = '2', .mode = MODE_TWO_PHASE},
};

#define N_KIND (sizeof kinds / sizeof kinds[0])

static struct {
	struct arena arena;
	struct txn t;
	const struct kind *kind;
	unsigned n_first; /* branches it began with */
	uint64_t after[8], wanted;
	int64_t now_us;
	struct image durable, newest;
	struct call call[TXN_BRANCH_MAX];
	bool voted[TXN_BRANCH_MAX];  /* a yes or read-only, in this life or in a record */
	bool undone[TXN_BRANCH_MAX]; /* nothing is left to undo: likewise */
	bool confirmed[TXN_BRANCH_MAX];
	/* Three phases: likewise. */
	bool pre_committed[TXN_BRANCH_MAX], vouched[TXN_BRANCH_MAX];
	bool found;                  /* one has committed by itself */
	bool taken;                  /* one has taken the intent, in this life */
	bool held, intended;         /* pre_committing, pre_aborting was durable */
	bool refused;                /* a no that counts, in this life */
	bool called[TXN_BRANCH_MAX]; /* by us, in any life */
	bool commit_said, rollback_said, alone_said;
	enum txn_outcome decided; /* durable */
} m;

static void take_image(struct image *image)
{
	image->present = true;
	image->state = m.t.state;
	image->outcome = m.t.outcome;
	image->deadline_us = m.t.deadline_us;
	image->n_branch = m.t.n_branch;
	for (unsigned i = 0; i < m.t.n_branch; i++)
		image->branch[i] = (uint8_t)m.t.branch[i].state;
}

static void set_order(struct txn *t)
{
	for (unsigned i = 0; i < t->n_branch && !m.kind->interactive; i++) {
		t->branch[i].after = m.after[i];
		t->branch[i].wanted = m.wanted >> i & 1;
	}
}

/* What the record says of each branch. */
static void recall(const struct image *image)
{
	memset(m.call, 0, sizeof m.call);
	memset(m.voted, 0, sizeof m.voted);
	memset(m.undone, 0, sizeof m.undone);
	memset(m.confirmed, 0, sizeof m.confirmed);
	memset(m.pre_committed, 0, sizeof m.pre_committed);
	memset(m.vouched, 0, sizeof m.vouched);
	m.found = m.taken = false;
	m.refused = false;
	for (unsigned i = 0; image->present && i < image->n_branch; i++) {
		uint8_t state = image->branch[i];
		bool read_only = state == BRANCH_READ_ONLY;

		m.voted[i] = read_only || state == BRANCH_PREPARED || state == BRANCH_TRIED ||
		             state == BRANCH_DONE || image->state == TXN_PRE_COMMITTING ||
		             image->state == TXN_PRE_ABORTING;
		m.pre_committed[i] = state == BRANCH_PRE_COMMITTED;
		m.vouched[i] = state == BRANCH_VOUCHED;
		m.found |= state == BRANCH_COMMITTED;
		m.undone[i] = read_only || state == BRANCH_ABORTED ||
		              state == BRANCH_HEURISTIC_COMMITTED;
		m.confirmed[i] = read_only;
	}
}

static void begin(const struct image *image)
{
	struct txn_config config = {
	    .mode = m.kind->mode,
	    .seed = 7,
	    .n_branch = image->present ? image->n_branch : m.n_first,
	    .interactive = m.kind->interactive,
	    .undo_confirms = m.kind->undo_confirms,
	    .forward = m.kind->forward,
	    .deadline_us = image->present ? image->deadline_us : m.now_us + 10 * SECOND,
	    .vote_timeout_us = 5 * SECOND,
	    .phase_timeout_us = 4 * SECOND,
	    .retry = {100000, 2, 60 * SECOND, 3},
	};

	arena_release(&m.arena);
	must(txn_init(&m.t, &m.arena, &config) == 0);
	for (unsigned i = 0; i < m.t.n_branch; i++)
		m.t.branch[i].timeout_us = 3 * SECOND;
	set_order(&m.t);
	recall(image);
	m.newest = *image;
	if (image->present)
		must(txn_restore(&m.t, image->state, image->outcome, image->branch) == 0);
	txn_check(&m.t);
}

/* --- what must hold --- */

/* All have pre-committed and no intent was sent, or all have vouched, or one could. */
static void check_held(void)
{
	for (unsigned i = 0; i < m.t.n_branch && !m.found; i++)
		must(m.t.branch[i].state == BRANCH_READ_ONLY ||
		     (m.intended ? m.vouched[i] : m.pre_committed[i]));
}

static void check_committed(void)
{
	bool single = m.kind->mode == MODE_TWO_PHASE && m.t.n_branch == 1;

	must(single || !m.refused);
	if (m.kind->mode == MODE_THREE_PHASE)
		check_held();
	for (unsigned i = 0; i < m.t.n_branch; i++) {
		must(single || m.voted[i] || (m.kind->mode == MODE_TCC && m.kind->interactive));
		must(!m.kind->undo_confirms || m.confirmed[i]);
	}
}

static void check_aborted(void)
{
	must(!m.held || m.taken); /* before it, nobody could have been committed by its peers */
	/* There is no way back once a step was called. */
	for (unsigned i = 0; i < m.t.n_branch; i++)
		must(!m.kind->forward || !m.called[i]);
}

static void check_decision(void)
{
	enum txn_outcome now = txn_decision(&m.t);

	must(m.decided == OUTCOME_PENDING || now == m.decided);
	if (now == m.decided)
		return;
	must(m.durable.state == m.t.state); /* it came with a forced record */
	m.decided = now;
	must(!m.kind->interactive || now == OUTCOME_ABORTED || (m.commit_said && !m.rollback_said));
	if (now == OUTCOME_COMMITTED)
		check_committed();
	else
		check_aborted();
}

/* Whom it comes after has answered, and what it needs of their results is stored. */
static void check_forwards(unsigned branch)
{
	for (unsigned i = 0; i < m.t.n_branch && !m.kind->interactive; i++) {
		if (!(m.after[branch] >> i & 1))
			continue;
		must(m.voted[i]);
		must(m.kind->mode != MODE_SAGA || !(m.wanted >> i & 1) ||
		     m.durable.branch[i] == BRANCH_DONE || m.durable.branch[i] == BRANCH_READ_ONLY);
	}
}

/* Nothing is left of what comes after it. */
static void check_backwards(unsigned branch)
{
	for (unsigned i = 0; i < m.t.n_branch; i++) {
		if (m.after[i] >> branch & 1)
			must(m.undone[i] || !m.called[i]);
	}
}

static void check_vote_call(const struct action *a)
{
	must(m.decided == OUTCOME_PENDING);
	must(m.now_us + a->timeout_us <= m.t.deadline_us ||
	     (m.kind->forward && m.durable.state == TXN_RUNNING) ||
	     (m.found && m.durable.state == TXN_PRE_COMMITTING));
	check_forwards(a->branch);
}

/* Calls of the modes that only they have. */
static void check_mode_call(const struct action *a)
{
	enum txn_mode mode = m.kind->mode;

	if (a->op == OP_TRY) {
		must(mode == MODE_TCC && !m.kind->interactive && m.durable.state == TXN_TRYING);
		check_vote_call(a);
	} else if (a->op == OP_CONFIRM) {
		must(mode == MODE_TCC && m.durable.state == TXN_CONFIRMING);
		must(m.decided == (m.kind->undo_confirms ? OUTCOME_PENDING : OUTCOME_COMMITTED));
	} else if (a->op == OP_CANCEL) {
		must(mode == MODE_TCC && m.decided == OUTCOME_ABORTED);
	} else if (a->op == OP_ACTION) {
		must(mode == MODE_SAGA && m.durable.state == TXN_RUNNING);
		check_vote_call(a);
	} else {
		must(a->op == OP_COMPENSATE && mode == MODE_SAGA && !m.kind->forward);
		must(m.decided == OUTCOME_ABORTED);
		check_backwards(a->branch);
	}
}

static void check_three_phase_call(const struct action *a)
{
	must(m.kind->mode == MODE_THREE_PHASE);
	if (a->op == OP_CAN_COMMIT || a->op == OP_PRE_COMMIT) {
		must(m.durable.state == (a->op == OP_CAN_COMMIT ? TXN_ASKING : TXN_PRE_COMMITTING));
		must(!m.intended);
		check_vote_call(a);
	} else if (a->op == OP_PRE_ABORT) {
		must(m.durable.state == TXN_PRE_ABORTING && m.decided == OUTCOME_PENDING);
	} else if (a->op == OP_DO_COMMIT) {
		must(m.decided == OUTCOME_COMMITTED);
	} else {
		must(a->op == OP_ABORT && m.decided == OUTCOME_ABORTED);
	}
}

static void check_two_phase_call(const struct action *a)
{
	must(m.kind->mode == MODE_TWO_PHASE);
	if (a->op == OP_PREPARE) {
		must(m.t.n_branch > 1);
		check_vote_call(a);
	} else if (a->op == OP_COMMIT && a->one_phase) {
		must(m.decided == OUTCOME_PENDING && m.t.n_branch == 1);
	} else if (a->op == OP_COMMIT) {
		must(m.decided == OUTCOME_COMMITTED && m.t.n_branch > 1);
	} else {
		must(m.decided == OUTCOME_ABORTED || m.durable.state == TXN_ARBITRATING);
	}
}

static void check_call(const struct action *a)
{
	struct call *c = &m.call[a->branch];

	must(a->branch < m.t.n_branch && a->branch < m.durable.n_branch);
	must(m.durable.present && m.durable.state == m.t.state);
	must(a->timeout_us > 0);
	must(!c->open || c->op != a->op);
	must(a->attempt == (c->op == a->op ? c->attempt + 1 : 1));
	must(m.t.branch[a->branch].state != BRANCH_READ_ONLY);
	if (a->op == OP_PREPARE || a->op == OP_COMMIT || a->op == OP_ROLLBACK)
		check_two_phase_call(a);
	else if (a->op >= OP_CAN_COMMIT)
		check_three_phase_call(a);
	else
		check_mode_call(a);
	m.called[a->branch] = true;
	*c = (struct call){true, a->one_phase, a->op, a->attempt};
}

static void check_actions(const struct effects *fx)
{
	for (size_t i = 0; i < fx->n_act; i++) {
		const struct action *a = &fx->act[i];

		if (a->type == ACT_CALL)
			check_call(a);
		else if (a->type == ACT_DECIDED)
			must(m.decided != OUTCOME_PENDING);
		else if (a->type == ACT_ENDED)
			must(txn_ended(m.t.state) && m.durable.outcome == m.t.outcome);
		else if (a->type == ACT_ALERT && a->alert == ALERT_HEURISTIC)
			must(m.durable.outcome == OUTCOME_MIXED);
	}
}

static void check_records(const struct image *before, const struct effects *fx)
{
	struct image now;

	/* Votes are not recorded, and lost with the process: only what a record says has to last. */
	take_image(&now);
	if (!fx->record.present) {
		must(now.state == before->state || !before->present);
		must(now.outcome == before->outcome || !before->present);
		return;
	}
	must(!before->present || !txn_ended(before->state));
	must(!before->present || before->state == TXN_ACTIVE || now.state != TXN_ACTIVE);
	must(!before->present || now.n_branch >= before->n_branch);
	must(before->state == TXN_ACTIVE || !before->present || now.n_branch == before->n_branch);
	must(before->outcome != OUTCOME_MIXED || now.outcome == OUTCOME_MIXED);
	m.newest = now;
	if (fx->record.forced)
		m.durable = now;
	m.held |= m.durable.present && m.durable.state == TXN_PRE_COMMITTING;
	m.intended |= m.durable.present && m.durable.state == TXN_PRE_ABORTING;
}

/* What is stored can be read again. */
static void check_restore(void)
{
	struct arena arena;
	struct txn t;
	struct txn_config config = {
	    .mode = m.kind->mode,
	    .n_branch = m.newest.n_branch,
	    .interactive = m.kind->interactive,
	    .undo_confirms = m.kind->undo_confirms,
	    .forward = m.kind->forward,
	};

	arena_init(&arena, 0);
	must(txn_init(&t, &arena, &config) == 0);
	set_order(&t);
	must(txn_restore(&t, m.newest.state, m.newest.outcome, m.newest.branch) == 0);
	txn_check(&t);
	must(txn_decision(&t) == txn_decision(&m.t));
	arena_release(&arena);
}

static void check_waiting(const struct event *ev, int rc)
{
	bool waiting = !m.newest.present || txn_ended(m.t.state);

	for (unsigned i = 0; i < m.t.n_branch; i++)
		waiting |= m.t.branch[i].in_call;
	must(waiting || txn_due_us(&m.t) != INT64_MAX);
	/* A timer that is due again at once would never end. */
	if (rc == 0 && (ev->type == EV_TIMER || ev->type == EV_RESUME))
		must(txn_due_us(&m.t) > m.now_us || !m.newest.present);
}

#endif /* FUZZ_STEP_RULES_H */
