/*
 * metrics.h - counters of this node and their Prometheus text. Names carry units and _total; never
 * a gid or an address as a label.
 */
#ifndef NODE_METRICS_H
#define NODE_METRICS_H

#include <stdint.h>

#include "base/buf.h"
#include "core/txn.h"

#define METRICS_BUCKETS 14

struct metrics {
	uint64_t submitted;
	uint64_t ended[MODE_MAX][OUTCOME_MAX];
	uint64_t duration_bucket[METRICS_BUCKETS]; /* not cumulative; the last is +Inf */
	int64_t duration_sum_us;
	uint64_t calls[EV_TYPE_MAX];
	uint64_t alerts[ALERT_HEURISTIC + 1];
	uint64_t requests[6]; /* by first digit of the status */
	uint64_t heuristic;   /* answers of participants that had ended by themselves */
	uint64_t takeovers;
};

struct node;

void metrics_count_end(struct metrics *m, enum txn_mode mode, enum txn_outcome outcome,
                       int64_t duration_us);
void metrics_count_call(struct metrics *m, enum event_type verdict);
void metrics_count_request(struct metrics *m, int status);
/* Prometheus text format, version 0.0.4. `n_request`: requests not answered yet. */
void metrics_render(const struct node *node, size_t n_request, struct buf *out);

#endif /* NODE_METRICS_H */
