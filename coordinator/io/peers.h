/*
 * peers.h - who may call now: places and queues per peer (a name, or scheme, host and port of a
 * URL).
 *
 * A slot is somebody's wish to call a peer: peers_enter queues it, peers_next hands out the next
 * one that has a place (it is active then), peers_leave takes it away whatever it is. Urgent
 * slots overtake the others and may take every place; the others never take the last
 * quarter, and of the places that become free below it one in eight when urgent ones wait, too. A peer is forgotten when room is needed and it has no slots.
 *
 * No allocation but for new peers; slots belong to the caller.
 */
#ifndef IO_PEERS_H
#define IO_PEERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "base/map.h"

struct peer;

struct peer_limits {
	unsigned place; /* active slots per peer */
	unsigned queue; /* waiting slots per peer, urgent and others counted apart */
	unsigned peer;
};

/* What one peer has; 0: as in the limits. */
struct peer_share {
	unsigned place; /* a quarter of it, at least one, is kept for urgent slots */
	unsigned queue;
};

struct peers {
	struct peer_limits limits;
	struct map map;
	struct list idle; /* peers without slots, the longest idle first */
	size_t n_active;
	size_t n_queued;
};

struct peer_slot {
	struct list link;
	struct peer *peer; /* NULL: on none */
	int64_t since_us;  /* the caller's; for peers_waiting */
	bool urgent;
	bool active;
};

int peers_init(struct peers *ps, const struct peer_limits *limits) MUSTCHECK;
/* Slots still inside are not touched. */
void peers_release(struct peers *ps);

/* `who` is a URL or, without "://", a name. The share of its latest slot is the peer's. ERR_LIMIT
 * when the peer's queue is full or all peers are busy, ERR_NOMEM. */
int peers_enter(struct peers *ps, const char *who, const struct peer_share *share, bool urgent,
                struct peer_slot *slot) MUSTCHECK;
/* The slots, but the urgent ones, that wait for a place at it, and since when the oldest does. */
size_t peers_waiting(const struct peers *ps, const char *who, int64_t *since_us);
/* The peer's next slot that may start, NULL when there is none. */
struct peer_slot *peers_next(struct peers *ps, struct peer *p);
/* Returns the peer that may now have a place to give, or NULL. */
struct peer *peers_leave(struct peers *ps, struct peer_slot *slot);

#endif /* IO_PEERS_H */
