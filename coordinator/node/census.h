/*
 * census.h - how many transactions are in flight in which mode and state, which is the oldest, and
 * how many came and went in the last minute. Kept up to date as they move; nothing is walked.
 *
 * Only states that are durable are counted: a figure gives no more away than an answer does.
 */
#ifndef NODE_CENSUS_H
#define NODE_CENSUS_H

#include "base/heap.h"
#include "core/step.h"

#define CENSUS_MODE_MAX 8
#define CENSUS_SECONDS  60

enum census_rate {
	RATE_SUBMITTED = 0,
	RATE_COMMITTED, /* in the order of enum txn_outcome */
	RATE_ABORTED,
	RATE_MIXED,
	RATE_MAX,
};

struct census {
	size_t n[CENSUS_MODE_MAX][TXN_STATE_MAX];
	struct heap age; /* struct census_mark of those that may leave participants in doubt */
	struct {
		int64_t number;
		uint32_t n[RATE_MAX];
	} second[CENSUS_SECONDS];
};

/* Embedded in a transaction. */
struct census_mark {
	struct heap_node age; /* by creation */
	uint8_t mode;
	uint8_t state; /* 0: not counted */
};

struct gtx;

void census_init(struct census *c);
void census_release(struct census *c);

/* Its state became durable, or was loaded. */
void census_update(struct gtx *g);
void census_leave(struct gtx *g);
/* NULL when there is none. An active transaction is none: nobody has voted. */
const struct gtx *census_oldest(const struct census *c);

void census_count(struct census *c, enum census_rate what, int64_t now_us);
uint64_t census_last_minute(const struct census *c, enum census_rate what, int64_t now_us);

#endif /* NODE_CENSUS_H */
