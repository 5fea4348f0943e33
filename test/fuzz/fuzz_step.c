/*
 * fuzz_step.c - any event in any state: the bytes are a history of one transaction, and what the
 * core answers is held against a small model that shares nothing with it.
 *
 *	byte 0         a line of the table `kinds`; anything else is coordinated two-phase commit
 *	byte 1         branches at first: its low 3 bits, at least one when coordinated
 *	then by three  what happens, to which branch, and details
 *
 * Before it is submitted, 'o' lets a branch come after others, and makes its result wanted.
 *
 * The model knows what a journal would hold (forced records at once, lazy ones at the next forced
 * record or 'l'), which calls are under way, and what participants and initiator have said.
 */
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
	m.refused = false;
	for (unsigned i = 0; image->present && i < image->n_branch; i++) {
		uint8_t state = image->branch[i];
		bool read_only = state == BRANCH_READ_ONLY;

		m.voted[i] = read_only || state == BRANCH_PREPARED || state == BRANCH_TRIED ||
		             state == BRANCH_DONE;
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

static void check_committed(void)
{
	bool single = m.kind->mode == MODE_TWO_PHASE && m.t.n_branch == 1;

	must(single || !m.refused);
	for (unsigned i = 0; i < m.t.n_branch; i++) {
		must(single || m.voted[i] || (m.kind->mode == MODE_TCC && m.kind->interactive));
		must(!m.kind->undo_confirms || m.confirmed[i]);
	}
}

static void check_aborted(void)
{
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
	     (m.kind->forward && m.durable.state == TXN_RUNNING));
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

/* --- what is said, before the core hears it --- */

static void hear(const struct event *ev)
{
	const struct call *c = &m.call[ev->branch];
	bool vote, against;

	if (ev->type < EV_YES || ev->type > EV_CONTRACT || ev->branch >= m.t.n_branch)
		return;
	if (!c->open || c->op != ev->op || c->attempt != ev->attempt)
		return;
	vote = ev->op == OP_PREPARE || ev->op == OP_TRY || ev->op == OP_ACTION;
	m.voted[ev->branch] |= vote && (ev->type == EV_YES || ev->type == EV_READ_ONLY);
	m.refused |= vote && (ev->type == EV_NO || ev->type == EV_CONTRACT) && !m.kind->forward;
	m.refused |= ev->op == OP_CONFIRM && m.kind->undo_confirms &&
	             (ev->type == EV_NO || ev->type == EV_FOUND_ABORTED);
	m.confirmed[ev->branch] |= vote && ev->type == EV_READ_ONLY;
	m.confirmed[ev->branch] |= ev->op == OP_CONFIRM &&
	                           (ev->type == EV_DONE || ev->type == EV_FOUND_COMMITTED);
	m.undone[ev->branch] |= vote && ev->type == EV_READ_ONLY;
	m.undone[ev->branch] |= ev->op == OP_COMPENSATE &&
	                        (ev->type == EV_DONE || ev->type == EV_FOUND_COMMITTED ||
	                         ev->type == EV_FOUND_ABORTED);
	against = (ev->type == EV_FOUND_COMMITTED && m.decided == OUTCOME_ABORTED) ||
	          (ev->type == EV_FOUND_ABORTED && m.decided == OUTCOME_COMMITTED);
	m.alone_said |= against;
}

static void step(struct event *ev)
{
	static struct effects fx;
	struct image before = m.newest;
	int rc;

	ev->now_us = m.now_us;
	hear(ev);
	rc = txn_step(&m.t, ev, &fx);
	if (rc == 0 && ev->type >= EV_YES && ev->type <= EV_CONTRACT) {
		struct call *c = &m.call[ev->branch];

		if (c->op == ev->op && c->attempt == ev->attempt)
			c->open = false;
	}
	m.commit_said |= rc == 0 && ev->type == EV_COMMIT;
	m.rollback_said |= rc == 0 && ev->type == EV_ROLLBACK;
	must(rc == 0 || rc == ERR_STATE || rc == ERR_INVALID);
	must(rc == 0 || (!fx.record.present && fx.n_act == 0));
	check_records(&before, &fx);
	check_decision();
	check_actions(&fx);
	must((m.t.outcome == OUTCOME_MIXED) <= m.alone_said);
	check_waiting(ev, rc);
	if (m.newest.present)
		check_restore();
}

/* The process dies here: what was not flushed has never been. */
static void crash(void)
{
	struct event resume = {.type = EV_RESUME};

	m.commit_said &= m.durable.present && m.durable.state != TXN_ACTIVE;
	begin(&m.durable);
	if (m.durable.present)
		step(&resume);
}

/* Dropped at rest, and loaded again with what is remembered beside the record. */
static void put_aside(void)
{
	uint8_t memo[TXN_MEMO_MAX];
	struct event resume = {.type = EV_RESUME};
	struct call kept[8];

	if (!m.newest.present || !txn_rests(&m.t))
		return;
	for (unsigned i = 0; i < m.t.n_branch; i++)
		kept[i] = (struct call){.op = m.t.branch[i].op, .attempt = m.t.branch[i].attempt};
	txn_memo(&m.t, 0, memo);
	m.durable = m.newest;
	begin(&m.durable);
	if (txn_remember(&m.t, 0, memo, txn_memo_len(&m.t)) < 0)
		abort();
	memcpy(m.call, kept, m.t.n_branch * sizeof *kept);
	step(&resume);
}

/* False when it is too late for that, or would make a circle. */
static bool let_come_after(unsigned branch, uint8_t others, bool wanted)
{
	uint64_t after[8];

	if (m.kind->interactive || m.newest.present || branch >= m.t.n_branch)
		return false;
	memcpy(after, m.after, sizeof after);
	after[branch] |= others & ((1u << m.t.n_branch) - 1);
	if (order_close(after, m.t.n_branch) < 0)
		return false;
	memcpy(m.after, after, sizeof after);
	m.wanted |= (uint64_t)wanted << branch;
	set_order(&m.t);
	return true;
}

static void happen(uint8_t what, uint8_t whom, uint8_t how)
{
	static const char replies[] = " yrndcauwx"; /* as enum event_type has them from 1 on */
	static const enum event_type reply[] = {
	    EV_SUBMIT,          EV_YES,           EV_READ_ONLY, EV_NO,      EV_DONE,
	    EV_FOUND_COMMITTED, EV_FOUND_ABORTED, EV_UNKNOWN,   EV_WORKING, EV_CONTRACT};
	const char *at = what > ' ' ? strchr(replies, what) : NULL;
	struct event ev = {.branch = whom % 8u, .call_timeout_us = 2 * SECOND};

	m.now_us += (how & 7) * 50000;
	if (at) {
		const struct call *c = &m.call[ev.branch];

		ev.type = reply[at - replies];
		ev.op = how & 16 ? (enum txn_op)(how >> 5) : c->op;
		ev.attempt = how & 8 ? c->attempt - 1 : c->attempt;
		ev.retry_after_us = whom & 8 ? (how & 7) * 100 * SECOND : 0;
	} else if (what == 'K') {
		crash();
		return;
	} else if (what == 'l') {
		m.durable = m.newest;
		return;
	} else if (what == 'p') {
		put_aside();
		return;
	} else if (what == 'o' && let_come_after(ev.branch, how, whom & 8)) {
		return;
	} else if (what == 't') {
		int64_t due_us = txn_due_us(&m.t);

		ev.type = EV_TIMER;
		if (due_us != INT64_MAX && due_us > m.now_us)
			m.now_us = due_us;
	} else if (what == 'e') {
		ev.type = EV_ENLIST;
		if (m.t.n_branch == 8 || txn_reserve(&m.t, &m.arena, m.t.n_branch + 1))
			return;
	} else {
		static const enum event_type other[] = {EV_SUBMIT,   EV_BEGIN,  EV_COMMIT,
		                                        EV_ROLLBACK, EV_RESUME, EV_TIMER};

		ev.type = other[what % (sizeof other / sizeof other[0])];
	}
	step(&ev);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2 || size > 3000)
		return 0;
	memset(&m, 0, sizeof m);
	arena_init(&m.arena, 0);
	m.now_us = SECOND;
	for (m.kind = kinds; m.kind < &kinds[N_KIND - 1] && m.kind->name != data[0];)
		m.kind++;
	m.n_first = data[1] & 7;
	if (!m.kind->interactive && m.n_first == 0)
		m.n_first = 1;
	begin(&m.durable);
	for (size_t i = 2; i + 2 < size; i += 3)
		happen(data[i], data[i + 1], data[i + 2]);
	arena_release(&m.arena);
	return 0;
}
