#include "core/two_phase.h"

/* See two_phase.h; the edges are drawn at the top of two_phase.c. */
const struct two_phase two_phase[TXN_STATE_MAX] = {
    [TXN_ACTIVE] =
        {
            .answered = BIT(BRANCH_PENDING),
            .outcome = BIT(OUTCOME_PENDING),
            .next = BIT(TXN_PREPARING) | BIT(TXN_ONE_PHASE) | BIT(TXN_ABORTING) |
                    BIT(TXN_COMMITTED) | BIT(TXN_ABORTED),
        },
    [TXN_PREPARING] =
        {
            .op = OP_PREPARE,
            .open = BIT(BRANCH_PENDING),
            .answered = BIT(BRANCH_PREPARED) | BIT(BRANCH_READ_ONLY),
            .outcome = BIT(OUTCOME_PENDING),
            .next = BIT(TXN_COMMITTING) | BIT(TXN_ABORTING) | BIT(TXN_COMMITTED) | BIT(TXN_ABORTED),
        },
    [TXN_COMMITTING] =
        {
            .op = OP_COMMIT,
            .open = BIT(BRANCH_PREPARED),
            .answered = BIT(BRANCH_READ_ONLY) | BIT(BRANCH_COMMITTED) |
                        BIT(BRANCH_HEURISTIC_ABORTED),
            .outcome = BIT(OUTCOME_COMMITTED) | BIT(OUTCOME_MIXED),
            .next = BIT(TXN_COMMITTED) | BIT(TXN_MIXED),
        },
    [TXN_ABORTING] =
        {
            .op = OP_ROLLBACK,
            .open = BIT(BRANCH_PENDING) | BIT(BRANCH_PREPARED) | BIT(BRANCH_REFUSED),
            .answered = BIT(BRANCH_READ_ONLY) | BIT(BRANCH_ABORTED) |
                        BIT(BRANCH_HEURISTIC_COMMITTED),
            .outcome = BIT(OUTCOME_ABORTED) | BIT(OUTCOME_MIXED),
            .next = BIT(TXN_ABORTED) | BIT(TXN_MIXED),
        },
    [TXN_ONE_PHASE] =
        {
            .op = OP_COMMIT,
            .open = BIT(BRANCH_PENDING),
            .outcome = BIT(OUTCOME_PENDING),
            .next = BIT(TXN_COMMITTED) | BIT(TXN_ABORTED) | BIT(TXN_ARBITRATING),
        },
    [TXN_ARBITRATING] =
        {
            .op = OP_ROLLBACK,
            .open = BIT(BRANCH_PENDING) | BIT(BRANCH_REFUSED),
            .outcome = BIT(OUTCOME_PENDING),
            .next = BIT(TXN_COMMITTED) | BIT(TXN_ABORTED),
        },
    [TXN_COMMITTED] =
        {
            .answered = BIT(BRANCH_READ_ONLY) | BIT(BRANCH_COMMITTED),
            .outcome = BIT(OUTCOME_COMMITTED),
        },
    [TXN_ABORTED] =
        {
            .answered = BIT(BRANCH_READ_ONLY) | BIT(BRANCH_ABORTED),
            .outcome = BIT(OUTCOME_ABORTED),
        },
    [TXN_MIXED] =
        {
            .answered = BIT(BRANCH_READ_ONLY) | BIT(BRANCH_COMMITTED) | BIT(BRANCH_ABORTED) |
                        TWO_PHASE_HEURISTIC,
            .outcome = BIT(OUTCOME_MIXED),
        },
};

bool two_phase_is_open(const struct txn *t, unsigned branch)
{
	return two_phase[t->state].open & BIT(t->branch[branch].state);
}

bool two_phase_timed(const struct txn *t)
{
	if (t->state == TXN_ACTIVE)
		return t->begun;
	return t->state == TXN_PREPARING || t->state == TXN_ONE_PHASE;
}

bool two_phase_too_late(const struct txn *t, const struct event *ev)
{
	return two_phase_timed(t) && ev->now_us >= t->deadline_us;
}

static uint32_t branch_states(const struct txn *t)
{
	uint32_t set = 0;

	for (unsigned i = 0; i < t->n_branch; i++)
		set |= BIT(t->branch[i].state);
	return set;
}

enum txn_outcome two_phase_decision(const struct txn *t)
{
	if (t->state == TXN_COMMITTING || t->state == TXN_COMMITTED)
		return OUTCOME_COMMITTED;
	if (t->state == TXN_ABORTING || t->state == TXN_ABORTED)
		return OUTCOME_ABORTED;
	if (t->state != TXN_MIXED)
		return OUTCOME_PENDING;
	return branch_states(t) & BIT(BRANCH_HEURISTIC_ABORTED) ? OUTCOME_COMMITTED
	                                                        : OUTCOME_ABORTED;
}

/* Branches have the work of the phase exactly while they are open; between txn_restore and
 * EV_RESUME nobody has any. */
static bool work_is_lost(const struct txn *t)
{
	unsigned n_open = 0;
	unsigned n_busy = 0;

	for (unsigned i = 0; i < t->n_branch; i++) {
		enum txn_op op = t->branch[i].op;

		if (op != OP_NONE && (op != two_phase[t->state].op || !two_phase_is_open(t, i)))
			return true;
		n_open += two_phase_is_open(t, i);
		n_busy += op != OP_NONE;
	}
	return n_busy != 0 && n_busy != n_open;
}

const char *two_phase_broken(const struct txn *t)
{
	const struct two_phase *p = &two_phase[t->state];
	const uint32_t found_commit = BIT(BRANCH_COMMITTED) | BIT(BRANCH_HEURISTIC_ABORTED);
	const uint32_t found_abort = BIT(BRANCH_ABORTED) | BIT(BRANCH_HEURISTIC_COMMITTED);
	uint32_t states = branch_states(t);
	bool single = t->state == TXN_ONE_PHASE || t->state == TXN_ARBITRATING;

	if (!p->outcome)
		return "a state of this protocol";
	if (!(p->outcome & BIT(t->outcome)))
		return "the outcome fits the state";
	if (states & ~(p->open | p->answered))
		return "branch states fit the state";
	if (p->open && !(p->open & states))
		return "an unfinished state waits for somebody";
	if ((t->outcome == OUTCOME_MIXED) != ((states & TWO_PHASE_HEURISTIC) != 0))
		return "mixed exactly when some branch decided alone";
	if ((states & found_commit) && (states & found_abort))
		return "branches that obeyed have obeyed one decision";
	if (single && t->n_branch != 1)
		return "one phase is for a single branch";
	if (work_is_lost(t))
		return "every open branch has the work of the phase";
	return NULL;
}
