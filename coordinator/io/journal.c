#include "io/journal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "io/journal_alerts.h"
#include "io/journal_parts.h"
#include "io/sql.h"

struct journal {
	struct journal_config cfg;
	struct loop_hook *hook;
	struct loop_timer *timer;
	bool running;
	bool flying;
	bool lost;   /* on_lost was called: nothing is written until the next start */
	bool urgent; /* somebody waits for what is queued */
	/* After the database refused a row, one entry per flush until these are through, so that
	 * the bad row cannot fail its neighbours. */
	size_t n_alone;
	struct list queue;
	struct list fly;
	struct list refused; /* of the flush just ended, not reported yet */
	struct list waiters;
	struct parts parts;
	struct columns history[2]; /* being filled, and being written */
	unsigned filling;
	struct journal_alerts alerts;
	uint64_t turn; /* how often the two changed places */
	uint64_t place;
	int64_t flush_started_us;
	int64_t lazy_due_us;
	struct list recent; /* by their newest put, the oldest first */
	struct journal_stats stats;
};

static struct columns *history_flying(struct journal *j)
{
	return &j->history[!j->filling];
}

/* The writing side is empty unless its last flush was refused and has to be repeated. */
static void history_swap(struct journal *j)
{
	if (history_flying(j)->n_row == 0) {
		j->filling = !j->filling;
		j->turn++;
	}
}

static void take_queue(struct journal *j)
{
	size_t row_max = j->n_alone ? 1 : JOURNAL_FLUSH_ROWS;

	parts_reset(&j->parts);
	alerts_take(&j->alerts);
	while (j->parts.n_entry < row_max && !parts_full(&j->parts)) {
		struct list *link = list_pop(&j->queue);
		struct journal_entry *e;

		if (!link)
			break;
		e = container_of(link, struct journal_entry, queue_link);
		e->flying = e->queued;
		e->flying_seq = e->queued_seq;
		e->flying_place = e->queued_place;
		list_push(&j->fly, &e->fly_link);
		parts_add(&j->parts, e);
		alerts_take_entry(&j->alerts, e);
	}
	if (j->n_alone)
		j->n_alone--;
}

static void on_done(void *ctx, const struct pg_outcome *outcome);

/* The owner may take its time to stop the journal. Entries of the flush that failed are still on
 * their way then: another flush must not take them. */
static void lose(struct journal *j, const char *why)
{
	j->lost = true;
	j->cfg.on_lost(j->cfg.ctx, why);
}

static void flush(struct journal *j)
{
	struct pg_batch *batch = pg_batch_begin(j->cfg.pg);
	int rc;

	if (!batch) {
		lose(j, "no session to write with");
		return;
	}
	take_queue(j);
	history_swap(j);
	j->flying = true;
	j->urgent = !list_empty(&j->queue);
	j->flush_started_us = clock_mono_us();
	j->lazy_due_us = INT64_MAX;
	if (j->history[j->filling].n_row)
		j->lazy_due_us = j->flush_started_us + j->cfg.lazy_us;
	j->stats.n_flush++;
	crash_point(CRASH_FLUSH_BEFORE_SEND);
	rc = parts_send(&j->parts, batch);
	if (rc == 0)
		rc = alerts_send(&j->alerts, batch);
	if (rc == 0 && history_flying(j)->n_row)
		rc = columns_send(history_flying(j), batch, j->cfg.node);
	crash_point(CRASH_FLUSH_BEFORE_SYNC);
	pg_batch_send(batch, on_done, j);
	crash_point(CRASH_FLUSH_SENT);
	/* Half a batch was sent: what it did is of no use, the session's end says so to everyone. */
	if (rc < 0)
		pg_reconnect(j->cfg.pg, "out of memory while writing");
}

/* An entry whose row is missing was refused. ERR_LOST when a row comes back that fits nowhere. */
static int sort_out(struct journal *j, const struct pg_outcome *outcome)
{
	struct list written;
	struct list *link;

	if (parts_mark(&j->parts, outcome) < 0)
		return ERR_LOST;
	list_init(&written);
	while ((link = list_pop(&j->fly))) {
		struct journal_entry *e = container_of(link, struct journal_entry, fly_link);

		list_push(parts_took(&j->parts, e) ? &written : &j->refused, link);
	}
	list_splice(&j->fly, &written);
	return parts_all_known(&j->parts) ? 0 : ERR_LOST;
}

/* Both reports take entries off the journal's own lists, so that the owner may stop the journal
 * from inside and free what has not been reported. */
static void report_refused(struct journal *j, int err)
{
	struct list *link;

	while ((link = list_pop(&j->refused))) {
		struct journal_entry *e = container_of(link, struct journal_entry, fly_link);

		list_remove(&e->queue_link);
		crash_point(CRASH_FLUSH_BEFORE_REFUSAL);
		j->cfg.on_refused(j->cfg.ctx, e, err ? err : e->stored ? ERR_LOST : ERR_EXISTS);
	}
}

static void report_durable(struct journal *j)
{
	struct list *link;

	while ((link = list_pop(&j->fly))) {
		struct journal_entry *e = container_of(link, struct journal_entry, fly_link);

		e->durable = e->flying;
		e->durable_seq = e->flying_seq;
		e->n_enlisted_stored = e->n_enlisted_flying;
		e->n_result_stored = e->n_result_flying;
		e->stored = true;
		e->parked = e->park_flying;
		e->park_flying = false;
		if (e->parked)
			e->park = NULL;
		j->stats.n_record++;
		j->cfg.on_durable(j->cfg.ctx, e);
		if (!list_empty(&j->fly))
			crash_point(CRASH_FLUSH_BETWEEN_REPORTS);
	}
}

/* Between flushes: is everything through that was put before the waiter came? The queue is in
 * the order of places; history that was being filled then flew one turn later. */
static bool through(const struct journal *j, const struct journal_waiter *w)
{
	const struct journal_entry *oldest;

	if (j->turn < w->turn)
		return false;
	if (list_empty(&j->queue))
		return true;
	oldest = container_of(j->queue.next, struct journal_entry, queue_link);
	return oldest->queued_place > w->place;
}

static void wake_waiters(struct journal *j)
{
	while (!list_empty(&j->waiters)) {
		struct journal_waiter *w = container_of(j->waiters.next, struct journal_waiter,
		                                        link);

		if (!through(j, w))
			return;
		list_remove(&w->link);
		w->fn(w->ctx, 0);
	}
}

static void settle_written(struct journal *j, const struct pg_outcome *outcome)
{
	crash_point(CRASH_FLUSH_CONFIRMED);
	if (sort_out(j, outcome) < 0) {
		lose(j, "the database answered for rows that were not sent");
		return;
	}
	j->stats.n_history += history_flying(j)->n_row;
	columns_reset(history_flying(j), COLUMNS_HISTORY);
	if (alerts_settle(&j->alerts) > 0 && j->cfg.on_alerts)
		j->cfg.on_alerts(j->cfg.ctx);
	report_durable(j);
	report_refused(j, 0);
	wake_waiters(j);
}

/* Back to the head of the queue, in order. `queued` still is what flew, or a newer state that
 * covers it. */
static void requeue(struct journal *j, bool alone)
{
	struct list back;
	struct list *link;

	list_init(&back);
	while ((link = list_pop(&j->fly))) {
		struct journal_entry *e = container_of(link, struct journal_entry, fly_link);

		e->park_flying = false;
		e->queued_place = e->flying_place;
		list_remove(&e->queue_link);
		list_push(&back, &e->queue_link);
		j->n_alone += alone;
	}
	list_splice(&back, &j->queue);
	list_splice(&j->queue, &back);
}

static bool idle(const struct journal *j)
{
	return list_empty(&j->queue) && j->history[0].n_row == 0 && j->history[1].n_row == 0 &&
	       list_empty(&j->waiters) && alerts_idle(&j->alerts);
}

/* The database refused data, so nothing of this flush was written. What fails only with the commit
 * may be the history's fault, which is not promised, so it goes first. */
static void settle_refused(struct journal *j, const struct pg_outcome *outcome)
{
	size_t n_row = j->parts.n_entry, alerts_at = parts_statements(&j->parts);
	size_t history_at = alerts_at + alerts_statements(&j->alerts);

	log_error(NULL, "a flush of %zu records was refused: %s %s", n_row, outcome->sqlstate,
	          outcome->message);
	j->stats.n_split++;
	crash_point(CRASH_FLUSH_SPLIT);
	if (outcome->failed >= history_at && history_flying(j)->n_row) {
		j->stats.n_history_dropped += history_flying(j)->n_row;
		columns_reset(history_flying(j), COLUMNS_HISTORY);
		alerts_give_back(&j->alerts);
		requeue(j, false);
	} else if ((outcome->failed >= alerts_at && outcome->failed < history_at) || !n_row) {
		/* What people are told about a decision must not keep it from being made. */
		log_error(NULL, "%zu alerts are lost", alerts_settle(&j->alerts));
		requeue(j, false);
	} else if (n_row > 1) {
		alerts_give_back(&j->alerts);
		requeue(j, true);
	} else {
		alerts_give_back(&j->alerts);
		list_splice(&j->refused, &j->fly);
		report_refused(j, ERR_DATA);
	}
	/* Nobody else may come: history of this flush and waiters still want one. */
	j->urgent = !idle(j);
}

static void on_done(void *ctx, const struct pg_outcome *outcome)
{
	struct journal *j = ctx;

	if (!j->running || !j->flying)
		return; /* stopped while it was under way */
	j->flying = false;
	j->stats.flush_us += clock_mono_us() - j->flush_started_us;
	if (outcome->err == 0)
		settle_written(j, outcome);
	else if (outcome->err == ERR_DATA)
		settle_refused(j, outcome);
	else
		lose(j, outcome->message);
}

/* Waiting a little before a flush pays when many would go with it. Who only waits for a participant
 * is none of them, however many they are. */
static bool is_busy(struct journal *j, int64_t now_us)
{
	struct list *link = j->recent.prev;

	for (unsigned n = 0; n <= j->cfg.busy_above; n++, link = link->prev) {
		if (link == &j->recent ||
		    container_of(link, struct journal_entry, recent_link)->put_us <
		        now_us - JOURNAL_RECENT_US)
			return false;
	}
	return true;
}

static void maybe_flush(void *ctx)
{
	struct journal *j = ctx;
	int64_t now_us, at_us;

	if (!j->running || j->flying || j->lost || idle(j))
		return;
	now_us = clock_mono_us();
	at_us = j->urgent ? now_us : j->lazy_due_us;
	if (at_us < j->flush_started_us + j->cfg.interval_us && is_busy(j, now_us))
		at_us = j->flush_started_us + j->cfg.interval_us;
	if (at_us > now_us)
		loop_timer_set(j->timer, at_us);
	else
		flush(j);
}

static void on_timer(void *ctx)
{
	(void)ctx; /* the end of this turn looks at everything */
}

int journal_new(const struct journal_config *config, struct journal **out)
{
	struct journal *j = calloc(1, sizeof *j);

	if (!j)
		return ERR_NOMEM;
	j->cfg = *config;
	list_init(&j->recent);
	list_init(&j->queue);
	list_init(&j->fly);
	list_init(&j->refused);
	list_init(&j->waiters);
	columns_reset(&j->history[0], COLUMNS_HISTORY);
	columns_reset(&j->history[1], COLUMNS_HISTORY);
	alerts_init(&j->alerts);
	j->lazy_due_us = INT64_MAX;
	j->hook = loop_hook_new(config->loop, maybe_flush, j);
	j->timer = loop_timer_new(config->loop, on_timer, j);
	if (!j->hook || !j->timer) {
		journal_free(j);
		return ERR_NOMEM;
	}
	*out = j;
	return 0;
}

void journal_free(struct journal *j)
{
	if (!j)
		return;
	loop_hook_free(j->hook);
	loop_timer_free(j->timer);
	parts_release(&j->parts);
	columns_release(&j->history[0]);
	columns_release(&j->history[1]);
	alerts_release(&j->alerts);
	free(j);
}

void journal_start(struct journal *j)
{
	assert(!j->running && !j->flying);
	j->running = true;
}

void journal_stop(struct journal *j)
{
	struct list waiters;
	struct list *link;

	j->running = false;
	j->flying = false;
	j->lost = false;
	j->urgent = false;
	j->n_alone = 0;
	j->lazy_due_us = INT64_MAX;
	while (list_pop(&j->recent))
		continue;
	while (list_pop(&j->queue))
		continue;
	while (list_pop(&j->fly))
		continue;
	while (list_pop(&j->refused))
		continue;
	columns_reset(&j->history[0], COLUMNS_HISTORY);
	columns_reset(&j->history[1], COLUMNS_HISTORY);
	alerts_clear(&j->alerts);
	list_init(&waiters);
	list_splice(&waiters, &j->waiters);
	while ((link = list_pop(&waiters))) {
		struct journal_waiter *w = container_of(link, struct journal_waiter, link);

		w->fn(w->ctx, ERR_LOST);
	}
}

/* The puts may come from a hook that runs after ours: each change asks for another turn. */
static void start_lazy_clock(struct journal *j)
{
	if (j->lazy_due_us != INT64_MAX)
		return;
	j->lazy_due_us = clock_mono_us() + j->cfg.lazy_us;
	loop_hook_kick(j->hook);
}

static void make_urgent(struct journal *j)
{
	if (j->urgent)
		return;
	j->urgent = true;
	loop_hook_kick(j->hook);
}

uint64_t journal_put(struct journal *j, struct journal_entry *e, const struct journal_state *state,
                     bool forced)
{
	assert(j->running);
	e->queued = *state;
	e->park = NULL;
	e->put_us = clock_mono_us();
	list_remove(&e->recent_link);
	list_push(&j->recent, &e->recent_link);
	if (list_empty(&e->queue_link)) {
		e->queued_seq++;
		e->queued_place = ++j->place;
		list_push(&j->queue, &e->queue_link);
	}
	if (forced)
		make_urgent(j);
	else
		start_lazy_clock(j);
	return e->queued_seq;
}

void journal_park(struct journal *j, struct journal_entry *e, const struct journal_state *state,
                  const struct journal_park *park)
{
	assert(e->stored && journal_entry_idle(e));
	journal_put(j, e, state, false);
	e->park = park;
}

void journal_history(struct journal *j, const struct journal_attempt *a)
{
	struct columns *h = &j->history[j->filling];

	if (!j->running || h->n_row >= JOURNAL_HISTORY_ROWS) {
		j->stats.n_history_dropped++;
		return;
	}
	columns_add_attempt(h, a);
	start_lazy_clock(j);
}

int journal_alert(struct journal *j, struct journal_entry *e, const struct journal_alert *alert)
{
	assert(j->running);
	start_lazy_clock(j);
	return alerts_add(&j->alerts, e, alert);
}

void journal_sync(struct journal *j, struct journal_waiter *w)
{
	w->place = j->place;
	w->turn = j->turn + 1;
	list_push(&j->waiters, &w->link);
	make_urgent(j);
}

void journal_stats(const struct journal *j, struct journal_stats *out)
{
	*out = j->stats;
}
