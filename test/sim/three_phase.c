/*
 * Participants of three-phase commit: what they do when they are called, and, when the hold time is
 * over and no decision came, the termination protocol. And troubles that only it is tried with:
 * pauses and partitions.
 */
#include "sim.h"

/* How long it waits for answers to its questions, and then until it asks again. */
#define PATIENCE (2 * SECOND)
#define INTERVAL (2 * SECOND)

static struct answer status(int code)
{
	return (struct answer){.status = code, .vote = "", .outcome = ""};
}

static struct answer found(const char *outcome)
{
	return (struct answer){.status = 409, .vote = "", .outcome = outcome};
}

static void arm(struct world *w, unsigned part, int64_t at_us)
{
	uint32_t timer = ++w->part[part].hold.timer;

	post(w, &(struct msg){.kind = MSG_HOLD, .part = part, .attempt = timer},
	     at_us > w->now_us ? at_us : w->now_us);
}

/* By the clock of its database, which may be set meanwhile. */
static void begin_hold(struct world *w, unsigned part, int64_t hold_us)
{
	struct hold *h = &w->part[part].hold;

	if (chance(w, w->climate.jump))
		hold_us = rnd_us(w, 2 * hold_us);
	h->expires_us = w->now_us + hold_us;
	h->free_us = h->expires_us;
	arm(w, part, h->expires_us);
}

static void end(struct world *w, unsigned part, enum row row)
{
	struct participant *p = &w->part[part];

	p->row = row;
	p->hold.step = ROUND_NONE;
	note(w, (uint64_t)part << 8 | (uint64_t)row);
	trace(w, "part %u: %s", part, row == ROW_COMMITTED ? "committed" : "aborted");
}

static struct answer can_commit(struct world *w, unsigned part)
{
	struct participant *p = &w->part[part];

	if (p->row == ROW_TOMBSTONE)
		return found("aborted");
	if (p->read_only)
		return (struct answer){.status = 200, .vote = "read_only", .outcome = ""};
	if (p->row <= ROW_WORKED) {
		if (chance(w, w->climate.refuse))
			return status(409);
		p->row = ROW_ASKED;
		begin_hold(w, part, w->hold_us + 20 * SECOND);
	}
	return status(200);
}

/* Also when the work is done: it may have ended meanwhile. */
static struct answer pre_committed(struct world *w, const struct msg *m)
{
	struct participant *p = &w->part[m->part];

	if (p->row == ROW_TOMBSTONE)
		return found("aborted");
	if (p->row == ROW_COMMITTED)
		return found("committed");
	if (p->row < ROW_PREPARED) {
		p->row = ROW_PREPARED;
		p->hold.peers = m->peers;
		begin_hold(w, m->part, w->hold_us);
	}
	return status(200);
}

static struct answer pre_commit(struct world *w, const struct msg *m, bool *later)
{
	struct participant *p = &w->part[m->part];

	must(w, !p->read_only);
	if (p->row < ROW_PREPARED && chance(w, w->climate.refuse))
		return status(409); /* and asked again it may say yes */
	if (p->row < ROW_PREPARED && !m->silent && chance(w, 40)) {
		struct msg worked = *m;

		worked.kind = MSG_WORKED;
		worked.from = p->life;
		post(w, &worked, w->now_us + rnd_us(w, 3 * SECOND));
		*later = true;
	}
	return *later ? status(202) : pre_committed(w, m);
}

static struct answer do_commit(struct world *w, unsigned part)
{
	enum row row = w->part[part].row;

	if (row < ROW_PREPARED) /* bound by what it now says */
		end(w, part, ROW_TOMBSTONE);
	if (row < ROW_PREPARED || row == ROW_TOMBSTONE)
		return found("aborted");
	if (row == ROW_PREPARED)
		end(w, part, ROW_COMMITTED);
	return status(200);
}

static struct answer undo(struct world *w, unsigned part, bool intent)
{
	struct participant *p = &w->part[part];

	if (p->row == ROW_COMMITTED)
		return found("committed");
	if (intent && p->row == ROW_PREPARED && p->hold.vouched)
		return found("pre_committed");
	if (p->row != ROW_TOMBSTONE)
		end(w, part, ROW_TOMBSTONE);
	return status(200);
}

struct answer hold_execute(struct world *w, const struct msg *m, bool *later)
{
	switch ((int)m->op) {
	case OP_CAN_COMMIT:
		return can_commit(w, m->part);
	case OP_PRE_COMMIT:
		return pre_commit(w, m, later);
	case OP_DO_COMMIT:
		return do_commit(w, m->part);
	default:
		must(w, m->op == OP_ABORT || m->op == OP_PRE_ABORT);
		return undo(w, m->part, m->op == OP_PRE_ABORT);
	}
}

/* A question to the coordinator, or to all peers; whoever does not answer in time is not reached. */
static void ask(struct world *w, unsigned part, enum round step)
{
	struct hold *h = &w->part[part].hold;
	struct msg m = {.kind = MSG_GET, .part = part, .from = part, .round = ++h->round};

	h->step = step;
	h->heard = 0;
	if (step == ROUND_PEERS) {
		m.kind = MSG_POLL;
		for (m.part = 0; m.part < w->n_part; m.part++) {
			if (h->peers >> m.part & 1)
				transmit(w, &m);
		}
	} else {
		transmit(w, &m);
	}
	m.kind = MSG_GIVE_UP;
	m.part = part;
	post(w, &m, w->now_us + PATIENCE);
}

static void ask_later(struct world *w, unsigned part)
{
	w->part[part].hold.step = ROUND_NONE;
	arm(w, part, w->now_us + 1 + rnd_us(w, INTERVAL));
}

/* Without the coordinator, which will hear of it. */
static void end_alone(struct world *w, unsigned part, enum row row)
{
	w->part[part].alone = true;
	w->n_by_peers += w->part[part].hold.step == ROUND_PEERS;
	end(w, part, row);
}

static void hold_over(struct world *w, unsigned part)
{
	struct participant *p = &w->part[part];

	trace(w, "part %u: hold time over, row %d", part, (int)p->row);
	if (p->row == ROW_ASKED)
		end(w, part, ROW_TOMBSTONE);
	else if (p->row == ROW_PREPARED)
		ask(w, part, ROUND_COORDINATOR);
}

static void got(struct world *w, const struct msg *m)
{
	struct hold *h = &w->part[m->part].hold;

	if (m->decision != OUTCOME_PENDING) {
		end(w, m->part, m->decision == OUTCOME_COMMITTED ? ROW_COMMITTED : ROW_TOMBSTONE);
		return;
	}
	h->free_us = w->now_us;
	ask_later(w, m->part);
}

static void polled(struct world *w, const struct msg *m)
{
	struct hold *h = &w->part[m->part].hold;

	if (m->row != ROW_PREPARED) {
		end_alone(w, m->part, m->row);
		return;
	}
	h->heard |= (uint64_t)1 << m->from;
	if (h->heard == h->peers)
		end_alone(w, m->part, ROW_COMMITTED);
}

static void give_up(struct world *w, const struct msg *m)
{
	struct hold *h = &w->part[m->part].hold;

	trace(w, "part %u: not everybody was reached, step %d", m->part, (int)h->step);
	if (h->step == ROUND_AGAIN) {
		w->by_timeout = true;
		w->n_by_timeout++;
		end_alone(w, m->part, ROW_COMMITTED);
	} else if (h->step == ROUND_COORDINATOR && h->peers == 0) {
		h->step = ROUND_PEERS;
		end_alone(w, m->part, ROW_COMMITTED); /* nobody can know better */
	} else if (h->step == ROUND_COORDINATOR) {
		ask(w, m->part, ROUND_PEERS);
	} else if (h->commits) {
		ask(w, m->part, ROUND_AGAIN);
	} else {
		ask_later(w, m->part);
	}
}

/* By its answer it binds itself, and that is durable before it answers. */
static void poll(struct world *w, const struct msg *m)
{
	struct participant *p = &w->part[m->part];

	must(w, !p->read_only);
	if (!w->one_down && chance(w, w->climate.odd))
		return;
	if (p->row < ROW_PREPARED)
		end(w, m->part, ROW_TOMBSTONE);
	p->hold.vouched |= p->row == ROW_PREPARED;
	trace(w, "part %u: tells part %u of row %d", m->part, m->from, (int)p->row);
	if (!participant_dies(w, m->part))
		transmit(w, &(struct msg){.kind = MSG_POLLED,
		                          .part = m->from,
		                          .from = m->part,
		                          .round = m->round,
		                          .row = p->row});
}

/* An answer that it waits for. */
static bool awaited(const struct world *w, const struct msg *m)
{
	const struct participant *p = &w->part[m->part];

	if (p->row != ROW_PREPARED || m->round != p->hold.round)
		return false;
	return m->kind == MSG_POLLED ? p->hold.step == ROUND_PEERS
	       : m->kind == MSG_GOT
	           ? p->hold.step == ROUND_COORDINATOR || p->hold.step == ROUND_AGAIN
	           : p->hold.step != ROUND_NONE;
}

void hold_msg(struct world *w, const struct msg *m)
{
	struct participant *p = &w->part[m->part];

	if (participant_down(w, m->part) || participant_dies(w, m->part))
		return;
	if (m->kind == MSG_WORKED) {
		if (m->from == p->life)
			participant_reply(w, m, pre_committed(w, m), 0);
	} else if (m->kind == MSG_HOLD) {
		if (m->attempt == p->hold.timer)
			hold_over(w, m->part);
	} else if (m->kind == MSG_POLL) {
		poll(w, m);
	} else if (!awaited(w, m)) {
		return;
	} else if (m->kind == MSG_GOT) {
		got(w, m);
	} else if (m->kind == MSG_POLLED) {
		polled(w, m);
	} else {
		give_up(w, m);
	}
	(void)participant_dies(w, m->part);
}

/* The round is forgotten, the hold time is not. */
void hold_crashed(struct world *w, unsigned part)
{
	struct participant *p = &w->part[part];
	struct hold *h = &p->hold;

	h->step = ROUND_NONE;
	h->free_us = h->expires_us > p->down_until_us ? h->expires_us : p->down_until_us;
	arm(w, part, h->free_us);
}

/* A round begins when the coordinator is found to be down. */
bool may_go_down(const struct world *w, bool coordinator)
{
	if (!w->one_down)
		return true;
	if (!w->up)
		return false;
	for (unsigned i = 0; i < w->n_part; i++) {
		if (w->now_us < w->part[i].down_until_us)
			return false;
		if (coordinator && w->part[i].hold.step > ROUND_COORDINATOR)
			return false;
	}
	return true;
}

static void pause_one(struct world *w, unsigned who)
{
	int64_t until_us = w->now_us + rnd_us(w, 30 * SECOND);

	trace(w, "pause of %u until %.6f", who, (double)until_us / 1e6);
	if (who == w->n_part) {
		w->paused_until_us = until_us;
		return;
	}
	w->part[who].paused_until_us = until_us;
	if (w->part[who].hold.free_us < until_us)
		w->part[who].hold.free_us = until_us;
}

static void split_network(struct world *w)
{
	w->split = rnd(w) % 2 ? rnd(w) : UINT64_MAX; /* or only from the coordinator */
	w->split_until_us = w->now_us + rnd_us(w, 30 * SECOND);
	trace(w, "partition until %.6f", (double)w->split_until_us / 1e6);
}

/* The coordinator is not there when participants want to know. */
static void ambush(struct world *w)
{
	unsigned how = (unsigned)(rnd(w) % (w->one_down ? 1 : 3));

	w->ambush = TXN_STATE_MAX;
	if (how == 0 && w->up && may_go_down(w, true))
		coordinator_crash(w, rnd_us(w, w->one_down ? 6 * SECOND : 30 * SECOND));
	else if (how == 1)
		pause_one(w, w->n_part);
	else if (how == 2)
		split_network(w);
}

/* Some peer is down just when another asks everybody, and the coordinator no longer. */
static void kill_peer(struct world *w)
{
	unsigned victim = (unsigned)(rnd(w) % w->n_part);

	for (unsigned i = 0; i < w->n_part; i++) {
		if (i != victim && w->part[i].hold.step == ROUND_PEERS && may_go_down(w, false)) {
			participant_crash(w, victim);
			return;
		}
	}
}

/* Comes by itself: pauses and partitions, and what does most harm. */
void trouble(struct world *w)
{
	if (w->n_part == 0 || !w->faults)
		return;
	if (w->durable.state == w->ambush && chance(w, 10 * w->climate.slow))
		ambush(w);
	if (chance(w, 8 * w->climate.part_crash))
		kill_peer(w);
	if (w->one_down)
		return;
	if (chance(w, w->climate.pause) && chance(w, 5))
		pause_one(w, (unsigned)(rnd(w) % (w->n_part + 1)));
	if (chance(w, w->climate.split) && chance(w, 5))
		split_network(w);
}

/* Whom it is for is paused so long. */
int64_t paused_until_us(const struct world *w, const struct msg *m)
{
	if (w->mode != MODE_THREE_PHASE || !w->faults)
		return 0;
	switch (m->kind) {
	case MSG_REPLY:
	case MSG_TIMEOUT:
	case MSG_FLUSH:
	case MSG_FLUSHED:
	case MSG_ASK:
	case MSG_GET:
		return w->paused_until_us;
	case MSG_REQUEST:
	case MSG_TRY:
	case MSG_WORKED:
	case MSG_HOLD:
	case MSG_GOT:
	case MSG_POLL:
	case MSG_POLLED:
	case MSG_GIVE_UP:
		return w->part[m->part].paused_until_us;
	case MSG_RESTART:
	case MSG_ALONE:
	case MSG_WAKE:
	case MSG_SAID:
	case MSG_TRIED:
		break;
	}
	return 0;
}

/* The coordinator and the initiator are on the same side. */
bool is_cut(const struct world *w, const struct msg *m)
{
	bool here = w->split >> m->part & 1;
	bool peers = m->kind == MSG_POLL || m->kind == MSG_POLLED;
	bool there = peers && (w->split >> m->from & 1);

	if (!w->faults || w->now_us >= w->split_until_us || m->kind == MSG_ASK ||
	    m->kind == MSG_SAID)
		return false;
	return here != there;
}
