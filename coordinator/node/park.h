/*
 * park.h - transactions at rest that wait for a broken participant are parked: written down,
 * forgotten, and taken back when it is their turn. They are not in flight: one dead participant
 * fills no node.
 *
 * At rest (txn_rests) is a transaction that is decided, or cannot be undone any more, of which
 * nothing is under way: no call, no record, nobody who waits. It is parked when its next call is
 * PARK_AFTER_US away, and at once when a participant it waits for has half of its share waiting
 * (admission_share), or memory is half full.
 *
 *	step or flush --park_consider--> journal_park ...commit... --park_settled--> forgotten
 *	lane's turn ----load_row-------> in memory, called; ends, or is parked again
 *
 * Those parked for one participant are its lane, which takes them back: lane.h.
 *
 * What is parked is a row's property, and the row keeps it when the transaction is taken back: see
 * sql/coordinator/007_parked.sql. The counts here are exact: only the owner of the shards parks and
 * takes back, and it counts the rows when it takes over.
 *
 * Limits: LANES_MAX participants (what waits for others stays in memory), an eighth of in_flight_max
 * taken back at a time.
 */
#ifndef NODE_PARK_H
#define NODE_PARK_H

#include "base/buf.h"
#include "base/map.h"
#include "core/step.h"
#include "io/journal.h"

#define PARK_AFTER_US (INT64_C(2) * 1000000)

struct gtx;
struct lane;
struct node;

struct park {
	struct map lanes; /* struct lane by label */
	size_t n_parked;
	size_t n_out;   /* taken back and still in memory */
	uint64_t n_put; /* counted since the process began */
	uint64_t n_taken;
};

/* Embedded in a transaction. */
struct parking {
	struct lane *from; /* taken back from there */
	unsigned branch;   /* because of this one */
	struct lane *to;   /* on its way there */
	unsigned n_heal;   /* of `to`, as it was */
	int64_t due_us;
	uint8_t *calls;
	struct journal_park record;
};

int park_init(struct park *p) MUSTCHECK;
void park_release(struct park *p);

/* Parks it if it can be. */
void park_consider(struct gtx *g);
/* It is written down: true when it is to be forgotten now. */
bool park_settled(struct gtx *g) MUSTCHECK;
/* It was loaded from a lane. */
void park_taken_back(struct gtx *g, struct lane *l);
/* It leaves memory. */
void park_leave(struct gtx *g);

/* A call for the branch, to the participant `label` (peer_label), ended; `decided`: it was for what
 * is decided; `failed`: without an answer that is one. */
void park_heard(const struct gtx *g, unsigned branch, const char *label, bool decided, bool failed);

/* Whom the parked ones wait for, as a PostgreSQL array of text. */
void park_labels(const struct node *n, struct buf *out);
/* How many are parked for it. */
size_t park_count(const struct node *n, const char *label);

#endif /* NODE_PARK_H */
