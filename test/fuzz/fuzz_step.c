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
#include "step_rules.h"

/* --- what is said, before the core hears it --- */

static void hear_three_phase(const struct event *ev)
{
	bool to_hold = ev->op == OP_PRE_COMMIT, to_intent = ev->op == OP_PRE_ABORT;

	m.pre_committed[ev->branch] |= to_hold && ev->type == EV_YES;
	m.vouched[ev->branch] |= to_intent && ev->type == EV_VOUCHED;
	m.found |= (to_hold || to_intent) && ev->type == EV_FOUND_COMMITTED;
	m.taken |= to_intent && (ev->type == EV_DONE || ev->type == EV_FOUND_ABORTED);
}

static void hear(const struct event *ev)
{
	const struct call *c = &m.call[ev->branch];
	bool vote, against;

	if (!event_is_reply(ev->type) || ev->branch >= m.t.n_branch)
		return;
	if (!c->open || c->op != ev->op || c->attempt != ev->attempt)
		return;
	vote = ev->op == OP_PREPARE || ev->op == OP_TRY || ev->op == OP_ACTION ||
	       ev->op == OP_CAN_COMMIT;
	hear_three_phase(ev);
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
	if (rc == 0 && event_is_reply(ev->type)) {
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

	if (m.kind->interactive || m.kind->mode == MODE_THREE_PHASE || m.newest.present ||
	    branch >= m.t.n_branch)
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
	static const char replies[] = " yrndcauwxv"; /* as enum event_type has them from 1 on */
	static const enum event_type reply[] = {
	    EV_SUBMIT,        EV_YES,     EV_READ_ONLY, EV_NO,       EV_DONE,   EV_FOUND_COMMITTED,
	    EV_FOUND_ABORTED, EV_UNKNOWN, EV_WORKING,   EV_CONTRACT, EV_VOUCHED};
	const char *at = what > ' ' ? strchr(replies, what) : NULL;
	struct event ev = {.branch = whom % 8u, .call_timeout_us = 2 * SECOND};

	m.now_us += (how & 7) * 50000;
	if (at) {
		const struct call *c = &m.call[ev.branch];

		ev.type = reply[at - replies];
		ev.op = how & 16 ? (enum txn_op)((how >> 5) + (whom & 8)) : c->op;
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
