/*
 * journal_rows.h - the journal's rows as arrays, one per column, ready for unnest.
 *
 * Calling sequence: columns_reset, adds, columns_send (once or, after a refusal, again),
 * columns_reset ...; columns_release.
 */
#ifndef IO_JOURNAL_ROWS_H
#define IO_JOURNAL_ROWS_H

#include "io/journal.h"

#define COLUMNS_MAX 19

enum columns_kind {
	COLUMNS_CREATE, /* up to COLUMNS_RESULT in the order of a flush */
	COLUMNS_UPDATE,
	COLUMNS_PARK,
	COLUMNS_BRANCH,
	COLUMNS_RESULT,
	COLUMNS_HISTORY,
	COLUMNS_ALERT_RAISE,
	COLUMNS_ALERT_CLOSE,
};

struct columns {
	enum columns_kind kind;
	struct buf column[COLUMNS_MAX];
	size_t n_row;
	size_t n_label; /* rows of the last columns of a creation */
	size_t n_byte;  /* of submissions, branches and results, the only large columns */
};

void columns_reset(struct columns *c, enum columns_kind kind);
void columns_release(struct columns *c);

/* e->flying, as a creation or an update. */
void columns_add_entry(struct columns *c, const struct journal_entry *e);
void columns_add_park(struct columns *c, const struct journal_entry *e);
/* Its branches that are on their way and not stored yet. */
void columns_add_branches(struct columns *c, const struct journal_entry *e);
/* Its results, likewise. */
void columns_add_results(struct columns *c, const struct journal_entry *e);
void columns_add_attempt(struct columns *c, const struct journal_attempt *a);

/* For those who fill columns themselves: 0 and NULL become null. */
void columns_add_time(struct buf *b, int64_t us);
void columns_add_text(struct buf *b, const char *s);

/* One statement for all rows. `extra`, when not NULL, is one more text parameter. ERR_NOMEM when an
 * add ran out of memory: nothing was added to the batch. */
int columns_send(struct columns *c, struct pg_batch *batch, const char *extra) MUSTCHECK;

/* Marks the updates that came back, by their place in the flush (n_row elements). ERR_LOST when one
 * came back that was not sent. */
int columns_mark(const struct columns *c, bool *came_back, const struct pg_result *rows) MUSTCHECK;
/* New gids come back in the order in which they were sent: is this row the entry's? */
bool columns_row_is(const struct pg_result *rows, size_t row, const struct journal_entry *e);

#endif /* IO_JOURNAL_ROWS_H */
