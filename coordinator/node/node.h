/*
 * node.h - one coordinator process: one thread, one loop, and everything that hangs on it.
 *
 * Ownership of the shards is all or nothing for now: a node has taken every shard and serves, or
 * it has none and answers 503. States, with the function in shards.c that performs each edge:
 *
 *	down --on_up--> locking --take--> taking --load--> loading --serve--> ready
 *	  ^                | not all locks: unlock, try again
 *	  +---------------------- on_down, node_lost ------------------------------+
 */
#ifndef NODE_NODE_H
#define NODE_NODE_H

#include "base/map.h"
#include "io/http_client.h"
#include "io/journal.h"
#include "io/loop.h"
#include "io/pg.h"
#include "node/admission.h"
#include "node/call_head.h"
#include "node/census.h"
#include "node/config.h"
#include "node/intake.h"
#include "node/lists.h"
#include "node/metrics.h"
#include "node/park.h"
#include "node/peer_stats.h"
#include "node/retention.h"
#include "node/timers.h"

#define NODE_SHARDS 64

enum node_state {
	NODE_DOWN = 0, /* no session to the database */
	NODE_LOCKING,  /* some shard's lock is held by another node */
	NODE_TAKING,   /* raising the epochs */
	NODE_LOADING,  /* reading unfinished transactions */
	NODE_READY,
};

struct node {
	const struct config *config;
	struct loop *loop;
	struct loop_hook *hook;
	struct timers timers;
	struct pg *writer; /* holds the shards' locks; the journal's */
	struct pg *reader;
	struct lists lists;
	struct retention retention;
	struct journal *journal;
	struct http_client *client;
	struct map txns; /* struct gtx by gid */
	struct list failed_calls;
	struct call_head head; /* of the call that is being sent */
	struct metrics metrics;
	struct census census;
	struct admission admission;
	struct intake intake;
	struct peer_stats peers;
	struct park park;
	uint64_t alerts_open[ALERT_KIND_MAX]; /* as last heard from the database */
	bool counting_alerts;
	bool count_alerts_again;

	enum node_state state;
	bool draining;
	const char *lost_why;  /* what node_lost was told; handled at the end of the turn */
	char waiting_for[160]; /* why it is not ready, one line */
	char failed[160];      /* the text of lost_why, when it is not a constant */
	char cluster[9];
	int64_t epoch[NODE_SHARDS];
	int64_t db_offset_us; /* database time - monotonic time */
	struct timer retry;   /* locks, partitions */
	unsigned n_lost;      /* sessions given up in a row, none of which held for long */
	int64_t up_us;        /* when the newest session came */
	struct loader *loader;
};

/* On failure one line in `why`; node_release is due all the same. */
int node_init(struct node *n, const struct config *config, struct loop *loop, char *why,
              size_t why_size) MUSTCHECK;
void node_release(struct node *n);

/* Whoever waits for the database or for a transaction is told that it is gone. The loop does not
 * run again after this. */
void node_hang_up(struct node *n);

static inline bool node_ready(const struct node *n)
{
	return n->state == NODE_READY && !n->lost_why;
}

/* Database time in microseconds since 1970. Measured once per session; the node's own wall clock
 * decides nothing. */
int64_t node_db_time_us(const struct node *n, int64_t mono_us);
int64_t node_db_now_us(const struct node *n);

/* After so long without an answer, a session that only reads is given up. */
int64_t node_read_timeout_us(const struct node *n);

/* Memory and database no longer agree for certain: at the end of this turn the session is
 * dropped, every transaction forgotten, and all is loaded anew. */
void node_lost(struct node *n, const char *why);

#endif /* NODE_NODE_H */
