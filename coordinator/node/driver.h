/*
 * driver.h - drives transactions: feeds events to the core and carries out what it asks for.
 *
 * driver.c holds the one function of the whole program that carries out effects, and the one
 * place that holds them back until their record is durable (the write-ahead rule).
 */
#ifndef NODE_DRIVER_H
#define NODE_DRIVER_H

#include "node/gtx.h"

enum wait_for {
	WAIT_STORED, /* its creation is durable */
	WAIT_FORCED, /* every forced record of now is durable */
	WAIT_ENDED,  /* nothing is left to do */
};

enum wait_result {
	WAIT_DONE,
	WAIT_TIMEOUT,
	WAIT_EXISTS, /* another transaction has this gid, and it is not in memory */
	WAIT_LOST,   /* the database went away: what was not durable yet is not known */
	WAIT_FAILED, /* the database refused it; nothing was stored */
};

/* Somebody who waits for a transaction; embedded in a request. fn is called exactly once, with the
 * transaction (it may be gone after fn returns). */
struct waiter {
	struct list link;
	struct timer timer;
	struct timers *timers;
	enum wait_for what;
	struct gtx *gtx;
	uint64_t seq; /* WAIT_FORCED */
	void (*fn)(struct waiter *w, enum wait_result result);
};

/* Takes `g`, whose spec, gid and body_sha256 are set. ERR_LIMIT (too much in flight), ERR_NOMEM: `g` still
 * belongs to the caller. The gid must not be in memory. */
int driver_submit(struct gtx *g) MUSTCHECK;
/* Takes `g` as it was loaded: gtx_prepare and txn_restore are done. */
int driver_resume(struct gtx *g) MUSTCHECK;

/* One more branch, from the body of an enlist request that was decoded before without fault.
 * ERR_STATE: no branch may join any more (or ever could). ERR_LIMIT, ERR_NOMEM: nothing changed. */
int driver_enlist(struct gtx *g, const char *body, size_t len) MUSTCHECK;
/* EV_COMMIT or EV_ROLLBACK of the initiator. ERR_STATE: it contradicts what was decided. */
int driver_close(struct gtx *g, enum event_type how) MUSTCHECK;

/* May call back at once. ERR_NOMEM: no callback. */
int driver_wait(struct gtx *g, struct waiter *w, enum wait_for what, int64_t until_us) MUSTCHECK;

struct gtx *driver_find(const struct node *node, const char *gid);

/* Forget every transaction; the database has what counts. Waiters get WAIT_LOST. */
void driver_drop_all(struct node *node);

/* Whoever still waits is told WAIT_TIMEOUT: the node is leaving. */
void driver_answer_waiters(struct node *node);

/* The state that answers may show: what is durable. */
const struct journal_state *driver_visible(const struct gtx *g);
/* Every forced record is durable: the newest step may be shown as well. */
bool driver_is_durable(const struct gtx *g);

/* For the journal and the timers. */
void driver_on_durable(void *ctx, struct journal_entry *entry);
void driver_on_refused(void *ctx, struct journal_entry *entry, int err);
void driver_on_timer(void *ctx, int64_t now_us);
void driver_discard_pending(struct gtx *g);
/* Carries out what was held back and is durable. */
void driver_go_on(struct gtx *g);

/* One event for the core. `g` may be gone afterwards only through the journal's callbacks. */
void driver_step(struct gtx *g, const struct event *ev);

#endif /* NODE_DRIVER_H */
