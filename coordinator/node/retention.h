/*
 * retention.h - forgets ended transactions and old history.
 *
 * A sweep goes through the ended transactions that were created longer ago than `retention_ms`,
 * oldest first, a batch at a time, on a session of its own; then through the alerts that were closed
 * longer ago; then it drops the history's days. It rests nine times as long as each batch took.
 * Transactions of outcome mixed are kept: a person has to see them. Only a node that owns its shards
 * purges, and one node at a time.
 */
#ifndef NODE_RETENTION_H
#define NODE_RETENTION_H

#include "io/pg.h"
#include "node/submission.h"
#include "node/timers.h"

struct node;

struct retention {
	struct pg *pg;
	struct timer timer;
	int64_t asked_us;   /* when the batch under way was sent */
	int64_t reached_us; /* of this sweep, in PostgreSQL's time */
	char reached_gid[GID_MAX + 1];
	uint64_t n_transaction; /* purged since the start */
	uint64_t n_day;
};

int retention_open(struct node *n) MUSTCHECK;
void retention_close(struct node *n);

#endif /* NODE_RETENTION_H */
