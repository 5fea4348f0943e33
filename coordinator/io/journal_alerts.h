/*
 * journal_alerts.h - the journal's alerts: raised and closed in the flush that carries the record
 * they are about.
 *
 * A row waits with its entry while the entry is queued, and flies when the entry flies; a row whose
 * record is on its way already, or durable, goes with the next flush. So an alert is never in the
 * database before its record, and no crash can come between the two. Rows of one transaction are
 * written in the order in which they were put.
 *
 * No limit of its own: a branch in memory has one row at most per kind of alert, and one to close.
 */
#ifndef IO_JOURNAL_ALERTS_H
#define IO_JOURNAL_ALERTS_H

#include "io/journal_rows.h"

struct journal_alerts {
	struct list waiting; /* for the next flush, whatever it carries */
	struct list fly;
	struct columns raise;
	struct columns close;
};

void alerts_init(struct journal_alerts *a);
/* Rows that wait with an entry belong to it: see alerts_forget. */
void alerts_clear(struct journal_alerts *a);
void alerts_release(struct journal_alerts *a);
bool alerts_idle(const struct journal_alerts *a);

int alerts_add(struct journal_alerts *a, struct journal_entry *e,
               const struct journal_alert *alert) MUSTCHECK;
/* The entry's rows are not to be written. */
void alerts_forget(struct journal_entry *e);

/* A flush: what waits, then the rows of each entry that flies, then alerts_send. */
void alerts_take(struct journal_alerts *a);
void alerts_take_entry(struct journal_alerts *a, struct journal_entry *e);
int alerts_send(struct journal_alerts *a, struct pg_batch *batch) MUSTCHECK;
/* How many statements alerts_send added. */
unsigned alerts_statements(const struct journal_alerts *a);

/* Nothing of the flush was written; its entries have not gone yet. */
void alerts_give_back(struct journal_alerts *a);
/* Everything was, or the database will not have these rows. Returns how many there were. */
size_t alerts_settle(struct journal_alerts *a);

#endif /* IO_JOURNAL_ALERTS_H */
