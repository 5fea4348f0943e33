/*
 * peer_stats.h - what is known about each participant.
 */
#ifndef NODE_PEER_STATS_H
#define NODE_PEER_STATS_H

#include "node/submission.h"

#define PEER_LABEL_MAX 300

/* What a participant is called in figures and alerts: its configured name, or of an address the
 * scheme, host and port. With OP_NONE where most of its calls go. */
void peer_label(const struct branch_spec *b, enum txn_op op, char *label, size_t size);

#endif /* NODE_PEER_STATS_H */
