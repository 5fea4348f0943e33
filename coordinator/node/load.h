/*
 * load.h - from a row of the database to a transaction that goes on.
 *
 * For rows that the writing session returned: whatever was sent before is in them, and a transaction
 * leaves memory only after its flush, so that a row read here is stale only when its transaction is
 * in memory, and then it is not used.
 */
#ifndef NODE_LOAD_H
#define NODE_LOAD_H

#include "io/pg.h"
#include "node/gtx.h"

#define LOAD_PAGE_BYTES (INT64_C(8) * 1024 * 1024) /* of submissions, or one transaction */

/* Columns of SQL_LOAD and SQL_TAKE_BACK. */
enum load_column {
	LOAD_GID,
	LOAD_SHARD,
	LOAD_MODE,
	LOAD_STATE,
	LOAD_OUTCOME,
	LOAD_CREATED,
	LOAD_DEADLINE,
	LOAD_DECIDED,
	LOAD_BRANCH_STATE,
	LOAD_BODY_SHA256,
	LOAD_SUBMISSION,
	LOAD_ENLISTED,
	LOAD_TRACEPARENT,
	LOAD_PARKED_UNTIL,
	LOAD_PARKED_CALLS,
	LOAD_RESULTS,
};

/* Where a page ended: the next one begins behind it. */
struct load_place {
	int64_t at; /* in PostgreSQL's time */
	size_t gid_len;
	char gid[GID_MAX + 1];
};

static inline void load_rewind(struct load_place *p)
{
	p->at = INT64_MIN;
	p->gid_len = 0;
}

/* `col` is what the page is ordered by before the gid. ERR_LIMIT for a gid that is none. */
int load_reached(struct load_place *p, const struct pg_result *r, size_t row,
                 enum load_column col) MUSTCHECK;

/* Resumes the transaction; `lane` is where it was parked, or NULL. Where so many calls wait for a slow
 * participant as `most` says, it is not called now but parked; 0: no matter. ERR_EXISTS: it is in memory.
 * ERR_STATE: a new one with its gid is, which the database will refuse. ERR_INVALID: the row cannot
 * be understood; it is logged and stays for a person. ERR_NOMEM. */
int load_row(struct node *n, const struct pg_result *r, size_t row, struct lane *lane,
             size_t most) MUSTCHECK;

#endif /* NODE_LOAD_H */
