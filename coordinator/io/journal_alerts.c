#include "io/journal_alerts.h"

#include <stdlib.h>
#include <string.h>

struct alert_row {
	struct list link;
	struct journal_entry *entry; /* with which it waits or flies; NULL for none */
	int64_t epoch;
	int64_t at_us;
	int16_t shard;
	bool close;
	bool lasting;
	bool skip; /* a close that a later raise of the same flush has overtaken */
	const char *gid;
	const char *branch;
	const char *kind;
	const char *severity;
	const char *participant;
	const char *error;
	const char *detail;
	char text[];
};

void alerts_init(struct journal_alerts *a)
{
	list_init(&a->waiting);
	list_init(&a->fly);
	columns_reset(&a->raise, COLUMNS_ALERT_RAISE);
	columns_reset(&a->close, COLUMNS_ALERT_CLOSE);
}

static size_t free_rows(struct list *rows)
{
	struct list *link;
	size_t n = 0;

	while ((link = list_pop(rows))) {
		free(container_of(link, struct alert_row, link));
		n++;
	}
	return n;
}

void alerts_clear(struct journal_alerts *a)
{
	free_rows(&a->waiting);
	free_rows(&a->fly);
}

void alerts_release(struct journal_alerts *a)
{
	alerts_clear(a);
	columns_release(&a->raise);
	columns_release(&a->close);
}

bool alerts_idle(const struct journal_alerts *a)
{
	return list_empty(&a->waiting) && list_empty(&a->fly);
}

static size_t size_of(const char *s)
{
	return s ? strlen(s) + 1 : 0;
}

static const char *copy(char **at, const char *s)
{
	char *to = *at;
	size_t size = size_of(s);

	if (size == 0)
		return NULL;
	memcpy(to, s, size);
	*at += size;
	return to;
}

static struct alert_row *row_new(const struct journal_entry *e, const struct journal_alert *alert)
{
	size_t size = e->gid_len + 1 + size_of(alert->branch) + size_of(alert->kind) +
	              size_of(alert->severity) + size_of(alert->participant) +
	              size_of(alert->error) + size_of(alert->detail);
	struct alert_row *r = calloc(1, sizeof *r + size);
	char *at;

	if (!r)
		return NULL;
	at = r->text;
	r->epoch = e->epoch;
	r->shard = e->shard;
	r->at_us = alert->at_us;
	r->close = alert->close;
	r->lasting = alert->lasting;
	r->gid = copy(&at, e->gid);
	r->branch = copy(&at, alert->branch);
	r->kind = copy(&at, alert->kind);
	r->severity = copy(&at, alert->severity);
	r->participant = copy(&at, alert->participant);
	r->error = copy(&at, alert->error);
	r->detail = copy(&at, alert->detail);
	return r;
}

int alerts_add(struct journal_alerts *a, struct journal_entry *e, const struct journal_alert *alert)
{
	struct alert_row *r = row_new(e, alert);

	if (!r)
		return ERR_NOMEM;
	if (!list_empty(&e->queue_link)) {
		r->entry = e;
		list_push(&e->alerts, &r->link);
	} else {
		list_push(&a->waiting, &r->link);
	}
	return 0;
}

void alerts_forget(struct journal_entry *e)
{
	free_rows(&e->alerts);
}

void alerts_take(struct journal_alerts *a)
{
	list_splice(&a->fly, &a->waiting);
}

void alerts_take_entry(struct journal_alerts *a, struct journal_entry *e)
{
	list_splice(&a->fly, &e->alerts);
}

/* One statement raises and a later one closes, whatever the order here. A close that is older than
 * a raise must not undo it. */
static void overtake(struct list *fly, const struct alert_row *raise)
{
	LIST_FOR_EACH (link, fly) {
		struct alert_row *r = container_of(link, struct alert_row, link);

		if (r == raise)
			return;
		if (r->close && strcmp(r->gid, raise->gid) == 0 &&
		    strcmp(r->branch, raise->branch) == 0)
			r->skip = true;
	}
}

static void add_columns(struct journal_alerts *a, const struct alert_row *r)
{
	struct columns *c = r->close ? &a->close : &a->raise;
	struct buf *col = c->column;

	columns_add_text(&col[0], r->gid);
	pg_array_add_int2(&col[1], r->shard);
	pg_array_add_int8(&col[2], r->epoch);
	columns_add_text(&col[3], r->branch);
	columns_add_time(&col[4], r->at_us);
	c->n_row++;
	if (r->close)
		return;
	columns_add_text(&col[5], r->kind);
	columns_add_text(&col[6], r->severity);
	columns_add_text(&col[7], r->participant);
	columns_add_text(&col[8], r->error);
	columns_add_text(&col[9], r->detail);
	pg_array_add_int2(&col[10], r->lasting);
}

int alerts_send(struct journal_alerts *a, struct pg_batch *batch)
{
	bool closing = false;
	int rc = 0;

	columns_reset(&a->raise, COLUMNS_ALERT_RAISE);
	columns_reset(&a->close, COLUMNS_ALERT_CLOSE);
	LIST_FOR_EACH (link, &a->fly) {
		struct alert_row *r = container_of(link, struct alert_row, link);

		closing |= r->close;
		if (closing && !r->close && !r->lasting)
			overtake(&a->fly, r);
	}
	LIST_FOR_EACH (link, &a->fly) {
		struct alert_row *r = container_of(link, struct alert_row, link);

		if (!r->skip)
			add_columns(a, r);
	}
	if (a->raise.n_row)
		rc = columns_send(&a->raise, batch, NULL);
	if (rc == 0 && a->close.n_row)
		rc = columns_send(&a->close, batch, NULL);
	return rc;
}

unsigned alerts_statements(const struct journal_alerts *a)
{
	return (a->raise.n_row ? 1u : 0u) + (a->close.n_row ? 1u : 0u);
}

/* To the front, each where it came from: what was put meanwhile is newer. */
void alerts_give_back(struct journal_alerts *a)
{
	while (!list_empty(&a->fly)) {
		struct list *link = a->fly.prev;
		struct alert_row *r = container_of(link, struct alert_row, link);
		struct list *home = r->entry ? &r->entry->alerts : &a->waiting;

		list_remove(link);
		r->skip = false;
		list_push(home->next, link);
	}
}

size_t alerts_settle(struct journal_alerts *a)
{
	return free_rows(&a->fly);
}
