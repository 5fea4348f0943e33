/*
 * lane.h - the transactions parked for one participant, and when they are taken back (park.h).
 *
 * A lane takes back what is due, in due order, a window at a time, which grows with each answer to
 * one of them, up to LANE_WINDOW, and shrinks with each failure; a broken one (LANE_FAILURES in a row,
 * from whomever) one at a time. One at a time is PROBE_US apart. The first answer of a broken
 * participant calls back all that were parked meanwhile, due or not; its answer to a vote makes the
 * next probe due, the more rarely the more have failed. After a take-over every lane is broken and its
 * first probe is due at once. What the participant has asked for by Retry-After is waited for in any
 * case.
 *
 * A sweep goes over the lane's rows in pages (load.h), each as large as there is room: the window, a
 * half of one participant's share (admission_share) for all lanes together, and memory. A lane lives
 * while anything is parked in it, taken back from it, or on its way to it.
 */
#ifndef NODE_LANE_H
#define NODE_LANE_H

#include "node/load.h"
#include "node/peer_stats.h"
#include "node/timers.h"

#define PROBE_US      INT64_C(100000)
#define LANES_MAX     1024
#define LANE_WINDOW   256
#define LANE_FAILURES 3

struct lane {
	struct map_node node;
	struct node *owner; /* NULL: forgotten while a page was under way, which frees it */
	struct timer timer;
	size_t n_parked;
	size_t n_out;      /* taken back and still in memory */
	size_t n_coming;   /* on their way to be parked */
	unsigned n_failed; /* calls in a row */
	unsigned n_heal;   /* how often it was mended */
	size_t window;     /* that may be out; doubled and halved with each answer or failure */
	bool broken;
	bool recall; /* take back up to recall_until, due or not */
	bool again;  /* a row was out of reach: sweep once more */
	bool asking;
	bool sweeping;        /* `reached` is a place, not the beginning */
	int64_t recall_until; /* like last: in PostgreSQL's time */
	int64_t last;         /* nothing is parked until later than this */
	int64_t next_us;      /* monotonic: nothing is due before, but what a sweep finds */
	int64_t probed_us;
	int64_t began; /* like last: this sweep */
	struct load_place reached;
	char label[PEER_LABEL_MAX];
};

/* NULL without memory. */
struct lane *lane_new(struct node *n, const char *label, size_t len);
struct lane *lane_find(const struct node *n, const char *label);
/* Its counts have changed, or something is due then. */
void lane_wake(struct lane *l, int64_t at_us);
/* Its participant settled or failed a call; `own`: of one taken back; others as in park_heard. */
void lane_hear(struct lane *l, bool own, bool decided, bool failed);
/* All that are parked by now, due or not. */
void lane_take_all_back(struct lane *l);

/* Memory is half full: what is at rest is parked, and little is taken back. */
bool lanes_pressed(const struct node *n);

/* Counts what is parked. ERR_IO. A failure later ends the ownership (node_lost). */
int lanes_start(struct node *n) MUSTCHECK;
/* Forgets the lanes; no transaction is in memory. */
void lanes_clear(struct node *n);

#endif /* NODE_LANE_H */
