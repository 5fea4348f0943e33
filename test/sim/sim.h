/*
 * sim.h - the production core in a hostile world with virtual time.
 *
 * One seed = one world: a coordinator with a journal (coordinator.c), participants that keep the
 * rules of their barrier (participant.c) or those of three-phase commit, with timeouts of their
 * own (three_phase.c), in every second world an initiator who enlists them one by one
 * (initiator.c), the network between them (world.c), and what must hold whatever happens
 * (check.c, check_three_phase.c). Nothing here reads a clock or a random source, so a seed replays
 * byte for byte; every event goes into a running hash that is compared to prove it.
 */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/heap.h"
#include "core/txn.h"
#include "core/verdict.h"

#define SECOND     ((int64_t)1000000)
#define RECORD_MAX 64
#define MSG_MAX    8192
#define QUEUE_MAX  2048

enum msg_kind {
	MSG_REQUEST,
	MSG_REPLY,
	MSG_TIMEOUT, /* the coordinator gives up on a call */
	MSG_FLUSH,   /* start writing what is in the journal's queue */
	MSG_FLUSHED,
	MSG_RESTART, /* the coordinator comes back */
	MSG_ALONE,   /* a participant decides by itself */
	MSG_WAKE,    /* the initiator does its next thing */
	MSG_ASK,     /* ... which the coordinator hears */
	MSG_SAID,    /* ... and answers */
	MSG_TRY,     /* the initiator calls a participant by itself */
	MSG_TRIED,   /* ... which answers (tcc) */
	/* three_phase.c: to the participant `part`, or of it */
	MSG_WORKED,  /* it has done the work of a pre_commit */
	MSG_HOLD,    /* its hold time is over */
	MSG_GET,     /* it asks the coordinator for the decision */
	MSG_GOT,     /* ... which answers */
	MSG_POLL,    /* it is asked by its peer `from` */
	MSG_POLLED,  /* ... and its peer `from` has answered */
	MSG_GIVE_UP, /* it waits for answers no longer */
};

enum row {
	ROW_NONE,      /* never heard of it, or refused: refusals leave no row */
	ROW_WORKED,    /* the initiator's own work, not yet prepared */
	ROW_ASKED,     /* 3pc: it has said yes to can_commit */
	ROW_PREPARED,  /* or tried */
	ROW_COMMITTED, /* or confirmed, or done */
	ROW_TOMBSTONE,
};

struct msg {
	struct heap_node node;
	enum msg_kind kind;
	unsigned part;       /* which participant */
	unsigned branch;     /* which branch it is, to the coordinator that calls it */
	enum event_type ask; /* EV_BEGIN, EV_ENLIST, EV_COMMIT, EV_ROLLBACK */
	bool accepted;
	enum txn_op op;
	bool one_phase;
	bool silent; /* work begun with a 202: nobody waits for the reply */
	uint32_t attempt;
	unsigned life; /* the coordinator's, or for silent work the participant's */
	struct answer answer;
	int64_t retry_after_us;
	unsigned from, round;
	uint64_t peers; /* with a pre_commit */
	enum txn_outcome decision;
	enum row row;
};

/* What the journal remembers of one step. */
struct image {
	bool present;
	enum txn_state state;
	enum txn_outcome outcome;
	int64_t deadline_us; /* by the world's clock */
	unsigned n_branch;
	uint8_t branch[TXN_BRANCH_MAX];
	uint8_t part[TXN_BRANCH_MAX]; /* branch i is at this participant */
};

struct record_slot {
	uint64_t seq;
	struct image image;
};

struct queued_action {
	struct action action;
	struct msg said; /* instead of an action, if `reply` */
	bool reply;
	uint64_t wait_seq; /* the record that must be durable first */
	bool done;
};

/* What a participant of 3pc is waiting for, after its hold time. */
enum round {
	ROUND_NONE,
	ROUND_COORDINATOR,
	ROUND_PEERS,
	ROUND_AGAIN, /* the coordinator, once more */
};

/* A participant of 3pc, who does not wait for ever. */
struct hold {
	bool vouched;   /* durable: a peer has been told that it has pre-committed */
	bool commits;   /* on_timeout */
	uint64_t peers; /* durable, as is when the hold time is over: */
	int64_t expires_us;
	int64_t free_us; /* since then it has been up, and told nothing by the coordinator */
	uint32_t timer;  /* the one that counts */
	enum round step;
	unsigned round;
	uint64_t heard; /* which peers have said that they have pre-committed */
};

struct participant {
	enum row row; /* durable */
	struct hold hold;
	bool alone; /* it decided by itself */
	bool read_only;
	bool stubborn; /* what it has confirmed or done it will not undo, though it must */
	unsigned life;
	int64_t down_until_us, paused_until_us;
};

struct call {
	bool open;
	uint32_t attempt;
};

/* What the initiator wants, and what it knows. */
struct initiator {
	int64_t vanish_us; /* never heard of again from here */
	unsigned
	    close_after; /* asks for the end after so many participants, and goes on enlisting */
	unsigned next;   /* to enlist */
	bool commit, rollback, hasty, works;
	bool begun, closed;
	bool said[TXN_BRANCH_MAX];  /* the answer to an enlist came */
	bool tried[TXN_BRANCH_MAX]; /* tcc: the answer to a try came, and it was yes */
};

/* What the coordinator ever said, whether or not it arrived. */
struct promises {
	bool in[TXN_BRANCH_MAX], out[TXN_BRANCH_MAX]; /* by participant */
	bool commit_refused, rollback_accepted, rollback_refused;
};

/* How bad this world is, in percent. */
struct climate {
	unsigned loss, twice, slow, crash, refuse, odd, part_crash, alone, jump, pause, split;
	int64_t delay_us;
};

struct world {
	uint64_t seed, rng, hash;
	bool faults, trace, interactive;
	enum txn_mode mode;
	bool undo_confirms, forward;
	/* 3pc: one process is down at a time, none twice within a round of questions, and whoever
	 * is up is reached by a question. */
	bool one_down;
	bool by_timeout; /* somebody has committed because on_timeout says so */
	unsigned n_by_timeout, n_by_peers;
	int64_t phase_timeout_us, hold_us, paused_until_us, split_until_us;
	enum txn_state ambush; /* the worst happens as soon as this is durable, once */
	uint64_t split;  /* these participants, and who is not among them, do not hear each other */
	uint64_t wanted; /* by participant: a later step is built from its result */
	uint64_t after[TXN_BRANCH_MAX]; /* by participant; only coordinated ones have an order */
	struct climate climate;
	int64_t now_us, heal_us;
	struct heap heap;
	struct msg *pool;
	struct msg **free_msg;
	size_t n_free, n_pool;

	/* The coordinator, volatile. */
	struct txn t;
	struct arena arena;
	bool up;
	bool started; /* `t` is a transaction: it was begun, submitted or restored */
	uint8_t part_of[TXN_BRANCH_MAX]; /* branch i of `t` is at this participant */
	unsigned life;
	int64_t shift_us; /* its monotonic clock is now + shift */
	int64_t lag_us;   /* how late its next timer is */
	struct call call[TXN_BRANCH_MAX][OP_MAX];
	struct record_slot record[RECORD_MAX];
	size_t n_record, n_flushing;
	uint64_t record_seq, forced_seq;
	struct queued_action *queue;
	size_t n_queue;

	/* What survives it. */
	struct image durable;
	uint64_t durable_seq;
	int64_t deadline_us, vote_timeout_us;
	unsigned n_part, n_first; /* of whom so many are in it from the beginning */
	struct initiator initiator;
	struct promises promises;
	bool commit_asked, rollback_asked;
	int64_t timeout_us[TXN_BRANCH_MAX];
	struct retry_policy retry;
	struct participant part[TXN_BRANCH_MAX];
	bool asked[TXN_BRANCH_MAX];      /* first-phase work may have reached it */
	bool alert_open[TXN_BRANCH_MAX]; /* exhausted or contract, as stored */
	bool alert_alone[TXN_BRANCH_MAX];
	bool close_lost[TXN_BRANCH_MAX];
	enum txn_outcome announced;
	unsigned n_decided, n_ended; /* how often it was said */

	unsigned crashes;
	uint64_t events;
};

/* world.c */
uint64_t rnd(struct world *w);
int64_t rnd_us(struct world *w, int64_t below_us);
bool chance(struct world *w, unsigned percent); /* never once the faults are over */
struct world *world_new(void);
void world_free(struct world *w);
int64_t roll_deadline(struct world *w);
/* Lives through one world from its beginning; `w` may have been used for others before. */
void world_run(struct world *w, uint64_t seed, bool tracing);
void post(struct world *w, const struct msg *m, int64_t at_us);
void transmit(struct world *w, const struct msg *m);
void trace(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void note(struct world *w, uint64_t what);
_Noreturn void fail(const struct world *w, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#define must(w, cond)                                                    \
	do {                                                             \
		if (!(cond))                                             \
			fail(w, "%s:%d: %s", __FILE__, __LINE__, #cond); \
	} while (0)

/* coordinator.c */
void coordinator_start(struct world *w);
void coordinator_timer(struct world *w);
int64_t coordinator_due_us(const struct world *w);
void coordinator_msg(struct world *w, const struct msg *m);
void coordinator_asked(struct world *w, const struct msg *m);
void coordinator_submit_again(struct world *w);
void coordinator_get(struct world *w, const struct msg *m);
bool coordinator_dies(struct world *w);
int64_t coordinator_away_us(struct world *w);
void coordinator_crash(struct world *w, int64_t away_us);
bool coordinator_idle(const struct world *w);

/* participant.c */
void participant_request(struct world *w, const struct msg *m);
void participant_alone(struct world *w, const struct msg *m);
void participant_try(struct world *w, const struct msg *m);

void participant_reply(struct world *w, const struct msg *rq, struct answer answer,
                       int64_t retry_us);
bool participant_down(const struct world *w, unsigned part);
void participant_crash(struct world *w, unsigned part);
bool participant_dies(struct world *w, unsigned part);

/* three_phase.c */
struct answer hold_execute(struct world *w, const struct msg *m, bool *later);
void hold_msg(struct world *w, const struct msg *m);
void hold_crashed(struct world *w, unsigned part);
bool may_go_down(const struct world *w, bool coordinator);
void trouble(struct world *w);
int64_t paused_until_us(const struct world *w, const struct msg *m);
bool is_cut(const struct world *w, const struct msg *m);

/* initiator.c */
void initiator_start(struct world *w);
void initiator_wake(struct world *w);
void initiator_said(struct world *w, const struct msg *m);
void initiator_tried(struct world *w, const struct msg *m);

/* check.c */
enum txn_outcome image_decision(const struct world *w, const struct image *image);
void check_step(struct world *w, enum txn_state before, const struct event *ev, int rc,
                const struct effects *fx);
void check_durable(struct world *w, const struct image *next);
void check_action(struct world *w, const struct action *a);
void check_said(struct world *w, const struct msg *m);
void check_work(struct world *w, const struct msg *m);
bool check_enlisted(const struct world *w, unsigned part);
void check_atomic(struct world *w);
void check_end(struct world *w);

/* check_three_phase.c */
void check_hold_durable(struct world *w, const struct image *next);
void check_hold_work(struct world *w, const struct msg *m);
void check_hold_atomic(struct world *w);
void check_hold_blocked(struct world *w);

#endif /* SIM_SIM_H */
