#include "io/journal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "io/journal_rows.h"
#include "io/sql.h"

struct journal {
	struct journal_config cfg;
	struct loop_hook *hook;
	struct loop_timer *timer;
	bool running;
	bool flying;
	bool urgent; /* somebody waits for what is queued */
	/* After the database refused a row, one entry per flush until these are through, so that
	 * the bad row cannot fail its neighbours. */
	size_t n_alone;
	struct list queue;
	struct list fly;
	struct list waiters;
	struct columns create;
	struct columns update;
	struct columns history[2]; /* being filled, and being written */
	unsigned filling;
	uint64_t flush; /* number of the newest flush started */
	int64_t flush_started_us;
	int64_t lazy_due_us;
	size_t load;
	struct journal_stats stats;
};

static struct columns *history_flying(struct journal *j)
{
	return &j->history[!j->filling];
}

/* The writing side is empty unless its last flush was refused and has to be repeated. */
static void history_swap(struct journal *j)
{
	if (history_flying(j)->n_row == 0)
		j->filling = !j->filling;
}

static void take_queue(struct journal *j)
{
	size_t row_max = j->n_alone ? 1 : JOURNAL_FLUSH_ROWS;

	columns_reset(&j->create, COLUMNS_CREATE);
	columns_reset(&j->update, COLUMNS_UPDATE);
	for (size_t n = 0; n < row_max && j->create.n_byte < JOURNAL_FLUSH_BYTES; n++) {
		struct list *link = list_pop(&j->queue);
		struct journal_entry *e;

		if (!link)
			break;
		e = container_of(link, struct journal_entry, queue_link);
		e->flying = e->queued;
		e->flying_seq = e->queued_seq;
		list_push(&j->fly, &e->fly_link);
		columns_add_entry(e->stored ? &j->update : &j->create, e);
	}
	if (j->n_alone)
		j->n_alone--;
}

static void on_done(void *ctx, const struct pg_outcome *outcome);

static void flush(struct journal *j)
{
	struct pg_batch *batch = pg_batch_begin(j->cfg.pg);
	int rc = 0;

	if (!batch) {
		j->cfg.on_lost(j->cfg.ctx, "no session to write with");
		return;
	}
	take_queue(j);
	history_swap(j);
	j->flying = true;
	j->urgent = !list_empty(&j->queue);
	j->flush++;
	j->flush_started_us = clock_mono_us();
	j->lazy_due_us = INT64_MAX;
	j->stats.n_flush++;
	if (j->create.n_row)
		rc = columns_send(&j->create, batch, NULL);
	if (rc == 0 && j->update.n_row)
		rc = columns_send(&j->update, batch, NULL);
	if (rc == 0 && history_flying(j)->n_row)
		rc = columns_send(history_flying(j), batch, j->cfg.node);
	pg_batch_send(batch, on_done, j);
	/* Half a batch was sent: what it did is of no use, the session's end says so to everyone. */
	if (rc < 0)
		pg_reconnect(j->cfg.pg, "out of memory while writing");
}

/* Rows of one statement's result, in the order in which they were sent. */
struct row_cursor {
	const struct pg_result *rows; /* NULL: there was no such statement */
	size_t row;
};

static bool next_row_is(struct row_cursor *c, const struct journal_entry *e)
{
	const char *gid;
	size_t len;

	if (!c->rows || c->row >= pg_rows(c->rows))
		return false;
	gid = pg_bytes(c->rows, c->row, 0, &len);
	if (len != e->gid_len || memcmp(gid, e->gid, len) != 0)
		return false;
	c->row++;
	return true;
}

/* An entry whose row is missing was refused. ERR_LOST when a row comes back that fits nowhere. */
static int sort_out(struct journal *j, const struct pg_outcome *outcome, struct list *written,
                    struct list *refused)
{
	struct row_cursor create = {0}, update = {0};
	struct list *link;
	size_t i = 0;

	if (j->create.n_row)
		create.rows = outcome->result[i++];
	if (j->update.n_row)
		update.rows = outcome->result[i];
	while ((link = list_pop(&j->fly))) {
		struct journal_entry *e = container_of(link, struct journal_entry, fly_link);

		list_push(next_row_is(e->stored ? &update : &create, e) ? written : refused, link);
	}
	if ((create.rows && create.row < pg_rows(create.rows)) ||
	    (update.rows && update.row < pg_rows(update.rows)))
		return ERR_LOST;
	return 0;
}

static void report_refused(struct journal *j, struct list *refused, int err)
{
	struct list *link;

	while ((link = list_pop(refused))) {
		struct journal_entry *e = container_of(link, struct journal_entry, fly_link);

		list_remove(&e->queue_link);
		j->cfg.on_refused(j->cfg.ctx, e, err ? err : e->stored ? ERR_LOST : ERR_EXISTS);
		if (!j->running)
			return; /* the owner gave up everything meanwhile */
	}
}

static void report_durable(struct journal *j, struct list *written)
{
	struct list *link;

	while ((link = list_pop(written))) {
		struct journal_entry *e = container_of(link, struct journal_entry, fly_link);

		e->durable = e->flying;
		e->durable_seq = e->flying_seq;
		e->stored = true;
		j->stats.n_record++;
		j->cfg.on_durable(j->cfg.ctx, e);
		if (!j->running)
			return;
	}
}

static void wake_waiters(struct journal *j, uint64_t up_to, int err)
{
	LIST_FOR_EACH_SAFE (link, &j->waiters) {
		struct journal_waiter *w = container_of(link, struct journal_waiter, link);

		if (w->flush > up_to)
			continue;
		list_remove(link);
		w->fn(w->ctx, err);
	}
}

static void settle_written(struct journal *j, const struct pg_outcome *outcome)
{
	struct list refused, written;

	list_init(&refused);
	list_init(&written);
	if (sort_out(j, outcome, &written, &refused) < 0) {
		j->cfg.on_lost(j->cfg.ctx, "the database answered for rows that were not sent");
		return;
	}
	j->stats.n_history += history_flying(j)->n_row;
	columns_reset(history_flying(j), COLUMNS_HISTORY);
	report_durable(j, &written);
	if (j->running)
		report_refused(j, &refused, 0);
	if (j->running)
		wake_waiters(j, j->flush, 0);
}

/* Back to the head of the queue, in order. A newer state that was queued meanwhile stays: it
 * covers the older one. */
static void requeue(struct journal *j, bool alone)
{
	struct list back;
	struct list *link;

	list_init(&back);
	while ((link = list_pop(&j->fly))) {
		struct journal_entry *e = container_of(link, struct journal_entry, fly_link);

		if (list_empty(&e->queue_link)) {
			e->queued = e->flying;
			e->queued_seq = e->flying_seq;
		}
		list_remove(&e->queue_link);
		list_push(&back, &e->queue_link);
		j->n_alone += alone;
	}
	list_splice(&back, &j->queue);
	list_splice(&j->queue, &back);
	j->urgent = true;
}

/* The database refused data, so nothing of this flush was written. */
static void settle_refused(struct journal *j, const struct pg_outcome *outcome)
{
	size_t n_row = j->create.n_row + j->update.n_row;
	size_t history_at = (j->create.n_row ? 1u : 0u) + (j->update.n_row ? 1u : 0u);

	log_error(NULL, "a flush of %zu records was refused: %s %s", n_row, outcome->sqlstate,
	          outcome->message);
	j->stats.n_split++;
	if (outcome->failed >= history_at) {
		j->stats.n_history_dropped += history_flying(j)->n_row;
		columns_reset(history_flying(j), COLUMNS_HISTORY);
		requeue(j, false);
	} else if (n_row > 1) {
		requeue(j, true);
	} else {
		struct list refused;

		list_init(&refused);
		list_splice(&refused, &j->fly);
		report_refused(j, &refused, ERR_DATA);
	}
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
		j->cfg.on_lost(j->cfg.ctx, outcome->message);
}

static bool idle(const struct journal *j)
{
	return list_empty(&j->queue) && j->history[0].n_row == 0 && j->history[1].n_row == 0 &&
	       list_empty(&j->waiters);
}

static void maybe_flush(void *ctx)
{
	struct journal *j = ctx;
	int64_t now_us, at_us;

	if (!j->running || j->flying || idle(j))
		return;
	now_us = clock_mono_us();
	at_us = j->urgent ? now_us : j->lazy_due_us;
	if (j->load > j->cfg.busy_above && at_us < j->flush_started_us + j->cfg.interval_us)
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
	list_init(&j->queue);
	list_init(&j->fly);
	list_init(&j->waiters);
	columns_reset(&j->history[0], COLUMNS_HISTORY);
	columns_reset(&j->history[1], COLUMNS_HISTORY);
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
	columns_release(&j->create);
	columns_release(&j->update);
	columns_release(&j->history[0]);
	columns_release(&j->history[1]);
	free(j);
}

void journal_start(struct journal *j)
{
	assert(!j->running && !j->flying);
	j->running = true;
}

void journal_stop(struct journal *j)
{
	j->running = false;
	j->flying = false;
	j->urgent = false;
	j->n_alone = 0;
	j->lazy_due_us = INT64_MAX;
	while (list_pop(&j->queue))
		continue;
	while (list_pop(&j->fly))
		continue;
	columns_reset(&j->history[0], COLUMNS_HISTORY);
	columns_reset(&j->history[1], COLUMNS_HISTORY);
	wake_waiters(j, UINT64_MAX, ERR_LOST);
}

void journal_entry_init(struct journal_entry *e)
{
	memset(e, 0, sizeof *e);
	list_init(&e->queue_link);
	list_init(&e->fly_link);
}

bool journal_entry_idle(const struct journal_entry *e)
{
	return list_empty(&e->queue_link) && list_empty(&e->fly_link);
}

void journal_entry_loaded(struct journal_entry *e, const struct journal_state *state)
{
	e->durable = *state;
	e->stored = true;
}

void journal_forget(struct journal_entry *e)
{
	assert(list_empty(&e->fly_link));
	list_remove(&e->queue_link);
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
	if (list_empty(&e->queue_link)) {
		e->queued_seq++;
		list_push(&j->queue, &e->queue_link);
	}
	if (forced)
		make_urgent(j);
	else
		start_lazy_clock(j);
	return e->queued_seq;
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

void journal_sync(struct journal *j, struct journal_waiter *w)
{
	/* What is queued now goes out with the next flush, or, when it does not fit, with a later
	 * one; history always fits. */
	w->flush = j->flush + 1;
	list_push(&j->waiters, &w->link);
	make_urgent(j);
}

void journal_set_load(struct journal *j, size_t n)
{
	j->load = n;
}

void journal_stats(const struct journal *j, struct journal_stats *out)
{
	*out = j->stats;
}
