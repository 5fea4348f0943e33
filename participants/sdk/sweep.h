/*
 * sweep.h - what sweep.c (whose time has come, and what follows) and question.c (who says what)
 * share.
 */
#ifndef ASSENT_SWEEP_H
#define ASSENT_SWEEP_H

#include <stdatomic.h>

#include "internal.h"

#define BATCH           16
#define ROUND_MAX       64
#define COORDINATOR_MAX 8

/* A coordinator's word about a branch. Of several, a later one of these counts more: what one node does
 * not know is nothing against what another one holds. */
enum word {
	SILENT,
	PRESUMED, /* abort: it does not know the transaction */
	PENDING,
	COMMIT,
	ABORT
};

/* A branch whose time has come. */
struct due {
	struct assent_call call;
	bool two_phase;
	bool open; /* still to be finished in this round */
	enum word coordinator;
	int refused; /* the status with which it answered something else than a decision, or 0 */
	char silence[224]; /* why it is SILENT, for people */
	unsigned n_peer, n_answer, n_committed, n_aborted;
	struct sdk_text why; /* what the peers said */
};

/* An address of a coordinator. */
struct coordinator {
	char *url;        /* without a slash at its end */
	char cluster[33]; /* which it is of, as it has said; "" until then */
};

/* Who is asked about what. */
struct asked {
	struct due *due;
	struct coordinator *coordinator; /* or NULL, and */
	char peer[33];                   /* the branch */
};

typedef void judge_fn(const struct asked *of, const struct sdk_get *ask);

/* Questions that are asked together. */
struct round {
	judge_fn *judge;
	bool asked; /* one round of these is over */
	size_t n;
	struct sdk_get ask[ROUND_MAX];
	struct asked of[ROUND_MAX];
};

struct assent_participant {
	struct coordinator coordinator[COORDINATOR_MAX];
	size_t n_coordinator;
	bool has_greeted;
	unsigned turn;       /* which of a batch comes first */
	atomic_bool stopped; /* by assent_participant_stop: silence means nothing from then on */
	char *authorization; /* a header line, or NULL */
	struct assent_verifier *verifier;
	char *cluster; /* NULL: any */
	char *allowed; /* where peers are asked; NULL: anywhere */
	int ask_ms, retry_ms, budget_ms;
	struct sdk_getter *getter;
	struct round round;
	struct due due[BATCH];
};

/* One tick. */
struct tick {
	struct assent_participant *p;
	PGconn *conn;
	int64_t until_us;           /* its budget */
	struct assent_reply *reply; /* nobody gets it */
	struct assent_tick_report *report;
};

/* ---- question.c ---- */

/* Asks every address once, about nothing: `hello` hears how it answers. */
void sdk_greet_coordinators(struct tick *t, struct due *hello);
/* Asks all addresses of the coordinator about all branches that are still open. */
void sdk_ask_coordinators(struct tick *t, struct due *dues, size_t n);
/* Asks the peers of those under three-phase commit. */
void sdk_ask_peers(struct tick *t, struct due *dues, size_t n);

/* ---- sweep.c ---- */

/* Not in this tick any more. */
void sdk_put_off(struct tick *t, struct due *due);

#endif /* ASSENT_SWEEP_H */
