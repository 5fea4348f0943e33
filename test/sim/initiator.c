#include "sim.h"

/* An initiator in a hurry, with several threads, or one that is killed: it may close before its
 * enlists are answered, go on enlisting after that, ask for both ends, or never come back. What it
 * keeps to: nobody is called before he is enlisted for certain; and in tcc, where its word is all
 * there is, it commits only when everybody has tried. */

static void ask(struct world *w, enum event_type what, unsigned part)
{
	w->commit_asked |= what == EV_COMMIT;
	w->rollback_asked |= what == EV_ROLLBACK;
	trace(w, "initiator: %s %u", verdict_str(what), part);
	transmit(w, &(struct msg){.kind = MSG_ASK, .ask = what, .part = part});
}

static void wake_later(struct world *w)
{
	int64_t delay_us = 1 + rnd_us(w, rnd(w) % 4 ? SECOND / 5 : 3 * SECOND);

	post(w, &(struct msg){.kind = MSG_WAKE}, w->now_us + delay_us);
}

void initiator_start(struct world *w)
{
	struct initiator *in = &w->initiator;
	unsigned want = (unsigned)(rnd(w) % 8);

	in->commit = want < 6;
	in->rollback = want >= 5; /* 5: both */
	if (want == 7)
		in->rollback = false; /* never closes */
	in->hasty = rnd(w) % 3 == 0 && w->mode != MODE_TCC;
	in->works = rnd(w) % 4 != 0;
	in->close_after = in->hasty ? (unsigned)(rnd(w) % (w->n_part + 1)) : w->n_part;
	in->vanish_us = rnd(w) % 4 ? INT64_MAX : rnd_us(w, 10 * SECOND);
	post(w, &(struct msg){.kind = MSG_WAKE}, w->now_us);
}

/* One more participant, or the same again while its answer has not come. */
static void enlist_next(struct world *w)
{
	struct initiator *in = &w->initiator;

	ask(w, EV_ENLIST, in->next);
	if (in->hasty && rnd(w) % 2)
		in->next++;
}

/* Those that have not answered yet are asked once more. */
static bool all_tried(struct world *w)
{
	bool all = true;

	for (unsigned i = 0; i < w->n_part; i++) {
		if (w->initiator.tried[i])
			continue;
		transmit(w, &(struct msg){.kind = MSG_TRY, .part = i});
		all = false;
	}
	return all;
}

static void close_it(struct world *w)
{
	struct initiator *in = &w->initiator;
	bool early = in->commit && w->mode == MODE_TCC && !all_tried(w);

	if (early && !in->rollback)
		return;
	if (in->commit && !early && (!in->rollback || rnd(w) % 2))
		ask(w, EV_COMMIT, 0);
	else if (in->rollback)
		ask(w, EV_ROLLBACK, 0);
	else
		in->closed = true;
}

void initiator_wake(struct world *w)
{
	struct initiator *in = &w->initiator;

	if (w->now_us >= in->vanish_us)
		return;
	while (in->next < w->n_part && in->said[in->next])
		in->next++;
	if (!in->begun)
		ask(w, EV_BEGIN, 0);
	else if (in->next < w->n_part)
		enlist_next(w);
	if (in->begun && in->next >= in->close_after && !in->closed)
		close_it(w);
	if (!in->begun || in->next < w->n_part || !in->closed)
		wake_later(w);
}

void initiator_said(struct world *w, const struct msg *m)
{
	struct initiator *in = &w->initiator;

	if (w->now_us >= in->vanish_us)
		return;
	trace(w, "initiator: hears %s %u is %s", verdict_str(m->ask), m->part,
	      m->accepted ? "accepted" : "refused");
	if (m->ask == EV_BEGIN)
		in->begun = true;
	else if (m->ask != EV_ENLIST)
		in->closed = true;
	else if (!in->said[m->part] && m->accepted && in->works && rnd(w) % 4)
		transmit(w, &(struct msg){.kind = MSG_TRY, .part = m->part});
	if (m->ask == EV_ENLIST) {
		in->said[m->part] = true;
		if (!m->accepted) /* it is closed, by the deadline */
			in->commit = false;
	}
}

void initiator_tried(struct world *w, const struct msg *m)
{
	struct initiator *in = &w->initiator;

	in->tried[m->part] |= m->accepted;
	if (m->accepted || in->tried[m->part])
		return;
	in->commit = false;
	in->rollback = true;
}
