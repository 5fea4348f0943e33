/*
 * journal_rows.h - the journal's rows as arrays, one per column, ready for unnest.
 *
 * Calling sequence: columns_reset, adds, columns_send (once or, after a refusal, again),
 * columns_reset ...; columns_release.
 */
#ifndef IO_JOURNAL_ROWS_H
#define IO_JOURNAL_ROWS_H

#include "io/journal.h"

#define COLUMNS_MAX 13

enum columns_kind {
	COLUMNS_CREATE,
	COLUMNS_UPDATE,
	COLUMNS_HISTORY,
	COLUMNS_ALERT_RAISE,
	COLUMNS_ALERT_CLOSE,
};

struct columns {
	enum columns_kind kind;
	struct buf column[COLUMNS_MAX];
	size_t n_row;
	size_t n_byte; /* of submissions, the only large column */
};

void columns_reset(struct columns *c, enum columns_kind kind);
void columns_release(struct columns *c);

/* e->flying, as a creation or an update. */
void columns_add_entry(struct columns *c, const struct journal_entry *e);
void columns_add_attempt(struct columns *c, const struct journal_attempt *a);

/* For those who fill columns themselves: 0 and NULL become null. */
void columns_add_time(struct buf *b, int64_t us);
void columns_add_text(struct buf *b, const char *s);

/* One statement for all rows. `extra`, when not NULL, is one more text parameter. ERR_NOMEM when an
 * add ran out of memory: nothing was added to the batch. */
int columns_send(struct columns *c, struct pg_batch *batch, const char *extra) MUSTCHECK;

#endif /* IO_JOURNAL_ROWS_H */
