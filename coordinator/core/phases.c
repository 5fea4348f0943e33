#include "core/phases.h"

#include <assert.h>

#include "core/calls.h"

static const struct phase *phase_of(const struct txn *t)
{
	return &protocol_of(t)->phase[t->state];
}

bool phase_is_open(const struct txn *t, unsigned branch)
{
	return phase_of(t)->open & BIT(t->branch[branch].state);
}

/* A bit for each branch that is open. */
static uint64_t open_branches(const struct txn *t)
{
	const struct phase *p = phase_of(t);
	uint64_t set = 0;

	for (unsigned i = 0; i < t->n_branch; i++) {
		if (p->open & BIT(t->branch[i].state))
			set |= (uint64_t)1 << i;
	}
	return set;
}

bool phase_all_answered(const struct txn *t)
{
	return open_branches(t) == 0;
}

/* Nobody that it has to wait for is open. */
static bool has_turn(const struct txn *t, unsigned branch, uint64_t open)
{
	if (phase_of(t)->order == PHASE_PARALLEL)
		return true;
	if (phase_of(t)->order == PHASE_FORWARD)
		return !(t->branch[branch].after & open);
	for (unsigned i = 0; i < t->n_branch; i++) {
		if ((open >> i & 1) && (t->branch[i].after >> branch & 1))
			return false;
	}
	return true;
}

bool phase_timed(const struct txn *t)
{
	return t->state == TXN_ACTIVE ? t->begun : phase_of(t)->timed;
}

bool phase_too_late(const struct txn *t, const struct event *ev)
{
	return protocol_of(t)->timed(t) && ev->now_us >= t->deadline_us;
}

void phase_enter(struct txn *t, enum txn_state to, bool forced, struct effects *fx)
{
	assert(phase_of(t)->next & BIT(to));
	assert(!fx->record.present);
	t->state = to;
	calls_clear(t);
	fx->record = (struct record){.present = true, .forced = forced};
}

void phase_decide(struct txn *t, enum txn_outcome outcome, struct effects *fx)
{
	assert(t->outcome == OUTCOME_PENDING);
	t->outcome = outcome;
	effects_push(fx, &(struct action){.type = ACT_DECIDED});
}

static void start_due(struct txn *t, const struct event *ev, struct effects *fx)
{
	struct call_rule rule = {
	    .one_phase = phase_of(t)->one_phase,
	    .until_us = protocol_of(t)->timed(t) ? t->deadline_us : INT64_MAX,
	};

	calls_start(t, &rule, ev->now_us, fx);
}

static bool assign(struct txn *t, const struct event *ev)
{
	uint64_t open = open_branches(t);
	bool any = false;

	for (unsigned i = 0; i < t->n_branch; i++) {
		if (!(open >> i & 1) || t->branch[i].op != OP_NONE || !has_turn(t, i, open))
			continue;
		calls_assign(t, i, phase_of(t)->op, ev->now_us);
		any = true;
	}
	return any;
}

void phase_work(struct txn *t, const struct event *ev, struct effects *fx)
{
	(void)assign(t, ev);
	start_due(t, ev, fx);
}

void phase_go_on(struct txn *t, const struct event *ev, struct effects *fx)
{
	if (phase_of(t)->order != PHASE_PARALLEL && assign(t, ev))
		start_due(t, ev, fx);
}

void phase_end(struct txn *t, enum txn_state to, bool forced, struct effects *fx)
{
	phase_enter(t, to, forced, fx);
	effects_push(fx, &(struct action){.type = ACT_ENDED});
}

bool phase_voted(struct txn *t, const struct event *ev, enum branch_state state, struct effects *fx)
{
	t->branch[ev->branch].state = state;
	calls_settle(t, ev->branch);
	if (phase_all_answered(t))
		return true;
	phase_go_on(t, ev, fx);
	return false;
}

void phase_undo(struct txn *t, const struct event *ev, enum txn_state to, struct effects *fx)
{
	bool called = false;

	for (unsigned i = 0; i < t->n_branch; i++) {
		struct branch *b = &t->branch[i];

		if (b->state == BRANCH_READ_ONLY)
			continue;
		called |= b->called;
		if (!b->called)
			b->state = BRANCH_ABORTED; /* it has never heard of the transaction */
	}
	phase_decide(t, OUTCOME_ABORTED, fx);
	if (!called) {
		phase_end(t, TXN_ABORTED, true, fx);
		return;
	}
	phase_enter(t, to, true, fx);
	phase_work(t, ev, fx);
}

void phase_obeyed(struct txn *t, const struct event *ev, enum branch_state state,
                  enum txn_state ended, struct effects *fx)
{
	t->branch[ev->branch].state = state;
	calls_through(t, ev->branch, fx);
	if (phase_all_answered(t))
		phase_end(t, t->outcome == OUTCOME_MIXED ? TXN_MIXED : ended, false, fx);
	else
		phase_go_on(t, ev, fx);
}

/* Nothing is left to call it for; people must know, but not before the record: what they are told
 * must still be true after a crash. */
void phase_disobeyed(struct txn *t, const struct event *ev, enum branch_state state,
                     struct effects *fx)
{
	t->branch[ev->branch].state = state;
	t->outcome = OUTCOME_MIXED;
	calls_through(t, ev->branch, fx);
	calls_alert(t, ev->branch, ALERT_HEURISTIC, fx);
	if (phase_all_answered(t)) {
		phase_end(t, TXN_MIXED, true, fx);
		return;
	}
	fx->record = (struct record){.present = true, .forced = true};
	phase_go_on(t, ev, fx);
}

int phase_commit_done(struct txn *t, const struct event *ev, struct effects *fx)
{
	phase_obeyed(t, ev, BRANCH_COMMITTED, TXN_COMMITTED, fx);
	return 0;
}

int phase_commit_contradicted(struct txn *t, const struct event *ev, struct effects *fx)
{
	phase_disobeyed(t, ev, BRANCH_HEURISTIC_ABORTED, fx);
	return 0;
}

int phase_abort_done(struct txn *t, const struct event *ev, struct effects *fx)
{
	phase_obeyed(t, ev, BRANCH_ABORTED, TXN_ABORTED, fx);
	return 0;
}

int phase_abort_contradicted(struct txn *t, const struct event *ev, struct effects *fx)
{
	phase_disobeyed(t, ev, BRANCH_HEURISTIC_COMMITTED, fx);
	return 0;
}

int phase_ignore(struct txn *t, const struct event *ev, struct effects *fx)
{
	(void)t, (void)ev, (void)fx;
	return 0;
}

int phase_reject(struct txn *t, const struct event *ev, struct effects *fx)
{
	(void)t, (void)ev, (void)fx;
	return ERR_STATE;
}

int phase_working(struct txn *t, const struct event *ev, struct effects *fx)
{
	(void)fx;
	calls_working(t, ev);
	return 0;
}

int phase_vote_unknown(struct txn *t, const struct event *ev, struct effects *fx)
{
	(void)fx;
	calls_failed(t, ev);
	return 0;
}

int phase_decided_unknown(struct txn *t, const struct event *ev, struct effects *fx)
{
	calls_delivery_failed(t, ev, fx);
	return 0;
}

int phase_decided_contract(struct txn *t, const struct event *ev, struct effects *fx)
{
	calls_delivery_contract(t, ev, fx);
	return 0;
}

/* The calls of this state for the branches that are still open. */
int phase_decided_work(struct txn *t, const struct event *ev, struct effects *fx)
{
	phase_work(t, ev, fx);
	return 0;
}

/* After a restart. A crash may have come between the record of a heuristic finding and its alert,
 * and that branch is not called any more: say it again rather than perhaps never. */
int phase_mixed_resume(struct txn *t, const struct event *ev, struct effects *fx)
{
	(void)ev;
	for (unsigned i = 0; i < t->n_branch; i++) {
		if (BIT(t->branch[i].state) & PHASE_HEURISTIC)
			calls_alert(t, i, ALERT_HEURISTIC, fx);
	}
	return 0;
}

int phase_decided_resume(struct txn *t, const struct event *ev, struct effects *fx)
{
	phase_work(t, ev, fx);
	return phase_mixed_resume(t, ev, fx);
}

static uint32_t branch_states(const struct txn *t)
{
	uint32_t set = 0;

	for (unsigned i = 0; i < t->n_branch; i++)
		set |= BIT(t->branch[i].state);
	return set;
}

/* Branches have the work of the phase exactly while they are open and it is their turn; between
 * txn_restore and EV_RESUME nobody has any. */
static bool work_is_lost(const struct txn *t)
{
	uint64_t open = open_branches(t);
	unsigned n_turn = 0;
	unsigned n_busy = 0;

	for (unsigned i = 0; i < t->n_branch; i++) {
		bool turn = (open >> i & 1) && has_turn(t, i, open);
		enum txn_op op = t->branch[i].op;

		if (op != OP_NONE && (op != phase_of(t)->op || !turn))
			return true;
		n_turn += turn;
		n_busy += op != OP_NONE;
	}
	return n_busy != 0 && n_busy != n_turn;
}

const char *phase_broken(const struct txn *t)
{
	const struct phase *p = phase_of(t);
	const uint32_t found_commit = BIT(BRANCH_COMMITTED) | BIT(BRANCH_HEURISTIC_ABORTED);
	const uint32_t found_abort = BIT(BRANCH_ABORTED) | BIT(BRANCH_HEURISTIC_COMMITTED);
	uint32_t states = branch_states(t);

	if (!p->outcome)
		return "a state of this protocol";
	if (!(p->outcome & BIT(t->outcome)))
		return "the outcome fits the state";
	if (states & ~(p->open | p->answered))
		return "branch states fit the state";
	if (p->open && !(p->open & states))
		return "an unfinished state waits for somebody";
	if ((t->outcome == OUTCOME_MIXED) != ((states & PHASE_HEURISTIC) != 0))
		return "mixed exactly when some branch decided alone";
	if ((states & found_commit) && (states & found_abort))
		return "branches that obeyed have obeyed one decision";
	if (work_is_lost(t))
		return "every open branch whose turn it is has the work of the phase";
	return protocol_of(t)->broken ? protocol_of(t)->broken(t) : NULL;
}
