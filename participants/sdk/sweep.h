/*
 * sweep.h - what sweep.c (whose time has come, and what follows) and question.c (who says what)
 * share.
 */
#ifndef ASSENT_SWEEP_H
#define ASSENT_SWEEP_H

#include "internal.h"

#define BATCH           16
#define ROUND_MAX       64
#define COORDINATOR_MAX 8

/* A branch whose time has come. */
struct due {
	struct assent_call call;
	bool two_phase;
	bool open; /* still to be finished in this round */
	enum {
		SILENT,
		PENDING,
		COMMIT,
		ABORT
	} coordinator;
	bool is_unknown; /* the coordinator's decision is a presumption */
	int refused; /* the status with which it answered something else than a decision, or 0 */
	char silence[200]; /* why it is SILENT, for people */
	unsigned n_peer, n_answer, n_committed, n_aborted;
	struct sdk_text why; /* what the peers said */
};

typedef void judge_fn(struct due *due, const char *whom, const struct sdk_get *ask);

/* Questions that are asked together. */
struct round {
	judge_fn *judge;
	size_t n;
	struct sdk_get ask[ROUND_MAX];
	struct due *due[ROUND_MAX];
	char whom[ROUND_MAX][33]; /* the peer's branch */
};

struct assent_participant {
	char *coordinator[COORDINATOR_MAX]; /* URLs without a slash at the end */
	size_t n_coordinator;
	char *authorization; /* a header line, or NULL */
	struct assent_verifier *verifier;
	char *cluster; /* NULL: any */
	int ask_ms, retry_ms, budget_ms;
	struct sdk_getter *getter;
	struct round round;
	struct due due[BATCH];
};

/* One tick. */
struct tick {
	struct assent_participant *p;
	PGconn *conn;
	struct assent_reply *reply; /* nobody gets it */
	struct assent_tick_report *report;
};

/* ---- question.c ---- */

/* Asks all addresses of the coordinator about all branches that are still open. */
void sdk_ask_coordinators(struct tick *t, struct due *dues, size_t n);
/* Asks the peers of those under three-phase commit. */
void sdk_ask_peers(struct tick *t, struct due *dues, size_t n);

#endif /* ASSENT_SWEEP_H */
