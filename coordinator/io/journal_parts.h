/*
 * journal_parts.h - what the entries of one flush write: creations, updates, parkings, branches; and
 * which of them the database took.
 *
 * Calling sequence: parts_reset, parts_add for each entry, parts_send; then parts_mark with the
 * results, and parts_took for each entry, in the order of the adds. parts_release.
 */
#ifndef IO_JOURNAL_PARTS_H
#define IO_JOURNAL_PARTS_H

#include "io/journal_rows.h"

#define N_PART (COLUMNS_RESULT + 1)

struct parts {
	size_t n_entry;
	struct columns part[N_PART]; /* by enum columns_kind, as they are sent */
	/* Of the flush just ended. */
	bool updated[JOURNAL_FLUSH_ROWS];
	bool parked[JOURNAL_FLUSH_ROWS];
	const struct pg_result *created;
	size_t n_created, n_updated, n_parked; /* looked at by parts_took */
};

void parts_reset(struct parts *p);
void parts_release(struct parts *p);
bool parts_full(const struct parts *p);

/* e->flying, or e->park when there is one. */
void parts_add(struct parts *p, struct journal_entry *e);
int parts_send(struct parts *p, struct pg_batch *batch) MUSTCHECK;
/* How many statements that are. */
size_t parts_statements(const struct parts *p);

/* ERR_LOST when a row came back that was not sent. */
int parts_mark(struct parts *p, const struct pg_outcome *outcome) MUSTCHECK;
bool parts_took(struct parts *p, const struct journal_entry *e);
/* After the last parts_took: every creation that came back was somebody's. */
bool parts_all_known(const struct parts *p);

#endif /* IO_JOURNAL_PARTS_H */
