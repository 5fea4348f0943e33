#include "sim.h"

void participant_reply(struct world *w, const struct msg *rq, struct answer answer,
                       int64_t retry_us)
{
	struct msg m = *rq;

	m.kind = MSG_REPLY;
	m.answer = answer;
	m.retry_after_us = retry_us;
	if (!rq->silent)
		transmit(w, &m);
}

static struct answer status(int code)
{
	return (struct answer){.status = code, .vote = "", .outcome = ""};
}

static struct answer found(const char *outcome)
{
	return (struct answer){.status = 409, .vote = "", .outcome = outcome};
}

static struct answer first_phase(struct world *w, unsigned part, enum row work)
{
	struct participant *p = &w->part[part];

	if (p->read_only)
		return (struct answer){.status = 200, .vote = "read_only", .outcome = ""};
	if (chance(w, w->climate.refuse))
		return status(409); /* leaves the row as it is: asked again it may say yes */
	p->row = work;
	if (work == ROW_PREPARED && chance(w, w->climate.alone))
		post(w, &(struct msg){.kind = MSG_ALONE, .part = part},
		     w->now_us + rnd_us(w, 10 * SECOND));
	return status(200);
}

static struct answer undo(struct world *w, unsigned part)
{
	struct participant *p = &w->part[part];

	bool must = w->undo_confirms || w->mode == MODE_SAGA;

	if (p->row == ROW_COMMITTED && (!must || p->stubborn)) {
		p->alone |= p->stubborn;
		return found("committed");
	}
	p->row = ROW_TOMBSTONE; /* shuts out what comes late: the first phase, and a confirm */
	return status(200);
}

/* The barrier, by the book: design of the participants' side. Sets `later` if the answer comes
 * only when there is one. */
static struct answer execute(struct world *w, const struct msg *m, bool *later)
{
	struct participant *p = &w->part[m->part];
	bool first = txn_op_votes(m->op, m->one_phase);

	*later = false;
	check_work(w, m);
	trace(w, "part %u: %s%s, row %d", m->part, txn_op_str(m->op), m->one_phase ? " (1p)" : "",
	      (int)p->row);
	if (w->mode == MODE_THREE_PHASE)
		return hold_execute(w, m, later);
	if (first && p->row <= ROW_WORKED)
		return first_phase(
		    w, m->part, m->one_phase || m->op == OP_ACTION ? ROW_COMMITTED : ROW_PREPARED);
	if (m->op == OP_ROLLBACK || m->op == OP_CANCEL || m->op == OP_COMPENSATE)
		return undo(w, m->part);
	if (p->row == ROW_TOMBSTONE || p->row <= ROW_WORKED)
		return found("aborted");
	if (m->op == OP_CONFIRM && p->row == ROW_PREPARED && chance(w, w->climate.refuse))
		return status(409);
	if (!first)
		p->row = ROW_COMMITTED;
	return status(200);
}

/* An answer that says nothing or the wrong thing about work that did not run, or did. */
static bool odd_answer(struct world *w, const struct msg *m)
{
	static const int code[] = {202, 425, 429, 503, 500, 502, 408, 404, 400, 302};
	bool answered_later;
	int odd = code[rnd(w) % (sizeof code / sizeof code[0])];
	int64_t retry_us = odd == 503 || odd == 429 ? rnd_us(w, 20 * SECOND) : 0;

	if (!chance(w, w->climate.odd))
		return false;
	if (odd == 202) {
		struct msg later = *m;

		later.silent = true;
		later.life = w->part[m->part].life;
		post(w, &later, w->now_us + rnd_us(w, 5 * SECOND));
	} else if (chance(w, 30)) {
		(void)execute(w, m, &answered_later);
	}
	trace(w, "part %u: %s answered %d", m->part, txn_op_str(m->op), odd);
	participant_reply(w, m, status(odd), retry_us);
	return true;
}

bool participant_down(const struct world *w, unsigned part)
{
	return w->faults && w->now_us < w->part[part].down_until_us;
}

void participant_crash(struct world *w, unsigned part)
{
	struct participant *p = &w->part[part];

	p->paused_until_us = 0;
	p->life++; /* work begun with a 202 is forgotten, rows are not */
	p->down_until_us = w->now_us + rnd_us(w, 20 * SECOND);
	trace(w, "part %u: crash", part);
	if (w->mode == MODE_THREE_PHASE)
		hold_crashed(w, part);
}

/* Now, perhaps. */
bool participant_dies(struct world *w, unsigned part)
{
	if (!chance(w, w->climate.part_crash) || !may_go_down(w, false))
		return false;
	participant_crash(w, part);
	return true;
}

void participant_request(struct world *w, const struct msg *m)
{
	struct participant *p = &w->part[m->part];
	struct answer answer;
	bool later;

	if (m->silent && m->life != p->life)
		return;
	if (participant_down(w, m->part)) {
		if (rnd(w) % 2)
			participant_reply(w, m, (struct answer){.err = ERR_REFUSED}, 0);
		return;
	}
	if (participant_dies(w, m->part))
		return;
	if (!m->silent && odd_answer(w, m))
		return;
	answer = execute(w, m, &later);
	/* If it dies now the work is durable, but the answer is not on its way. */
	if (!later && !participant_dies(w, m->part))
		participant_reply(w, m, answer, 0);
}

void participant_alone(struct world *w, const struct msg *m)
{
	struct participant *p = &w->part[m->part];

	if (p->row != ROW_PREPARED || !w->faults)
		return;
	p->row = rnd(w) % 2 ? ROW_COMMITTED : ROW_TOMBSTONE;
	p->alone = true;
	trace(w, "part %u: decides alone, row %d", m->part, (int)p->row);
}

/* The initiator's own call, however late: a tombstone shuts it out. */
void participant_try(struct world *w, const struct msg *m)
{
	struct participant *p = &w->part[m->part];
	bool tcc = w->mode == MODE_TCC;

	must(w, check_enlisted(w, m->part));
	if (participant_down(w, m->part))
		return;
	trace(w, "part %u: try, row %d", m->part, (int)p->row);
	if (tcc) {
		bool yes = p->row == ROW_NONE ? !chance(w, w->climate.refuse)
		                              : p->row != ROW_TOMBSTONE;

		if (yes && p->row == ROW_NONE)
			p->row = ROW_PREPARED;
		transmit(w, &(struct msg){.kind = MSG_TRIED, .part = m->part, .accepted = yes});
	} else if (p->row == ROW_NONE && !p->read_only) {
		p->row = ROW_WORKED;
	}
}
