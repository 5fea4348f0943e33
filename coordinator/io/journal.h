/*
 * journal.h - group commit: everything that became ready while a flush was under way is the
 * next flush; one flush is one pipeline and one commit.
 *
 * Records are whole states, not changes: of two records of one transaction that meet in the
 * queue only the later is written, so a flush holds at most one row per transaction.
 *
 * Calling sequence: journal_new; journal_start once the session owns the shards; then any number
 * of journal_put / journal_history / journal_sync; journal_stop when the session is gone. Each
 * put ends in exactly one on_durable or on_refused that covers it, unless journal_stop or
 * journal_forget comes first.
 *
 * Ownership: the entry belongs to its transaction. The transaction may go only while its entry
 * is idle (journal_entry_idle), or after journal_stop.
 *
 * Limits: FLUSH_ROWS and FLUSH_BYTES per flush; HISTORY_ROWS waiting (more are dropped and
 * counted: history is not promised, memory is).
 */
#ifndef IO_JOURNAL_H
#define IO_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "io/loop.h"
#include "io/pg.h"

#define JOURNAL_BRANCH_MAX   64
#define JOURNAL_RECENT_US    INT64_C(20000)
#define JOURNAL_FLUSH_ROWS   1000
#define JOURNAL_FLUSH_BYTES  ((size_t)4 * 1024 * 1024)
#define JOURNAL_HISTORY_ROWS 20000

/* The part of a transaction that changes. Times are the database's, in microseconds since 1970;
 * 0 for not yet. */
struct journal_state {
	int16_t state;
	int16_t outcome;
	int64_t decided_us;
	int64_t ended_us;
	int64_t deadline_us;
	uint8_t branch[JOURNAL_BRANCH_MAX];
};

struct journal_label {
	const char *name;
	const char *value;
};

/* What is stored of a participant's address to find its transactions by: the first bytes of its
 * SHA-256. */
#define JOURNAL_PARTICIPANT_LEN 8

/* A branch that joined after the creation: its request's body. */
struct journal_branch {
	const char *text;
	size_t len;
	uint8_t participant[JOURNAL_PARTICIPANT_LEN];
};

/* What a step has answered. */
struct journal_result {
	const char *text;
	size_t len;
	int16_t branch;
};

/* Where and until when a transaction is put aside. */
struct journal_park {
	const char *whom;
	int64_t until_us; /* database time, since 1970 */
	const uint8_t *calls;
	size_t n_calls;
};

struct journal_entry {
	/* Set once, by the owner. */
	const char *gid;
	size_t gid_len;
	int16_t shard;
	int16_t mode;
	unsigned n_branch;
	int64_t epoch;
	int64_t created_us;
	const uint8_t *body_sha256; /* 32 bytes */
	const char *submission;
	size_t submission_len;
	const uint8_t *participants; /* JOURNAL_PARTICIPANT_LEN each, one after the other */
	size_t participants_len;
	const char *traceparent; /* NULL for none */
	const struct journal_label *label;
	size_t n_label;

	/* The owner's, who adds to it before the put that covers it; they go out in that put's
	 * flush. */
	const struct journal_branch *enlisted;
	unsigned n_enlisted;
	const struct journal_result *result; /* likewise */
	unsigned n_result;

	/* The journal's. */
	struct journal_state queued;
	struct journal_state flying;
	struct journal_state durable;    /* what answers may show; valid when `stored` */
	bool stored;                     /* the row exists, durably */
	const struct journal_park *park; /* what is queued, or flying, is this and no state */
	bool park_flying;
	bool parked; /* as on_durable is called: this was a journal_park */
	unsigned n_enlisted_flying;
	unsigned n_enlisted_stored;
	unsigned n_result_flying;
	unsigned n_result_stored;
	uint64_t queued_seq; /* the put that `queued` came from; counts from 1 */
	uint64_t flying_seq;
	uint64_t queued_place; /* order of all entries in the queue */
	uint64_t flying_place;
	uint64_t durable_seq; /* effects of this put, and of all before, may happen */
	int64_t put_us;       /* the newest put */
	struct list recent_link;
	struct list queue_link;
	struct list fly_link;
	struct list alerts; /* that fly with it */
};

struct journal;

struct journal_config {
	struct loop *loop;
	struct pg *pg;
	const char *node;
	int64_t interval_us; /* pause between flushes under load; 0 for none */
	unsigned busy_above; /* so many entries with a put in JOURNAL_RECENT_US are no load yet */
	int64_t lazy_us;     /* a lazy record waits at most this long */
	/* The entry's durable, stored and durable_seq have moved on. The entry may be freed. */
	void (*on_durable)(void *ctx, struct journal_entry *entry);
	/* This entry's record was not written: ERR_EXISTS (a new gid is there already, or the shard
	 * is not ours), ERR_LOST (an update found no row or another owner: we no longer own the
	 * shard), ERR_DATA (the database refused this very row). It is idle now and may be freed. */
	void (*on_refused)(void *ctx, struct journal_entry *entry, int err);
	/* Alerts were raised or closed. May be NULL. */
	void (*on_alerts)(void *ctx);
	/* The result of a flush is unknown, or the session is of no use: the caller must call
	 * journal_stop, forget what it holds and take the shards anew, with a new session. Until
	 * it does, now or later, nothing is written. */
	void (*on_lost)(void *ctx, const char *why);
	void *ctx;
};

int journal_new(const struct journal_config *config, struct journal **out) MUSTCHECK;
void journal_free(struct journal *j);

void journal_start(struct journal *j);
/* Forgets all that is queued. Entries may be freed after this. */
void journal_stop(struct journal *j);

void journal_entry_init(struct journal_entry *e);
bool journal_entry_idle(const struct journal_entry *e);
/* Loaded from the database: `state` is durable and the row exists. */
void journal_entry_loaded(struct journal_entry *e, const struct journal_state *state);
/* Take it out of the queue. It must not be in the flush under way (asserted). */
void journal_forget(struct journal_entry *e);

/* Queue the state. Returns the number to compare with durable_seq. A lazy record does not start
 * a flush by itself for lazy_us. */
uint64_t journal_put(struct journal *j, struct journal_entry *e, const struct journal_state *state,
                     bool forced);

/* The transaction is put aside, and `branch` of its state may be newer than the record. Its entry is
 * idle, and `park` stays until on_durable or a put, which takes its place. Lazy. */
void journal_park(struct journal *j, struct journal_entry *e, const struct journal_state *state,
                  const struct journal_park *park);

struct journal_attempt {
	const char *gid;
	int16_t shard;
	int64_t epoch;
	const char *branch;
	int16_t op;
	int32_t attempt;
	int64_t started_us; /* database time, since 1970 */
	int64_t ended_us;
	int16_t status; /* 0 for none */
	int16_t verdict;
	const char *error; /* NULL for none; valid UTF-8 */
};
/* Always lazy. */
void journal_history(struct journal *j, const struct journal_attempt *a);

/* Raises an alert about a branch, or closes all of the branch's but the lasting ones. Raising one
 * that is open and closing what is not open change nothing. */
struct journal_alert {
	bool close; /* the rest of the texts is not used then */
	bool lasting;
	const char *branch;
	const char *kind;
	const char *severity;
	const char *participant;
	const char *error;  /* alerts of one kind, participant and error are one */
	const char *detail; /* NULL for none; valid UTF-8, like all of them */
	int64_t at_us;      /* database time, since 1970 */
};
/* Written in the flush of the entry's newest record, or later when that is through: after the put
 * of the step that raised it. Lazy by itself. ERR_NOMEM. */
int journal_alert(struct journal *j, struct journal_entry *e,
                  const struct journal_alert *alert) MUSTCHECK;

/* Called once: everything put before journal_sync is durable (0), or nobody knows (ERR_LOST). */
struct journal_waiter {
	struct list link;
	uint64_t place;
	uint64_t turn;
	void (*fn)(void *ctx, int err);
	void *ctx;
};
void journal_sync(struct journal *j, struct journal_waiter *w);

struct journal_stats {
	uint64_t n_flush;
	uint64_t n_record;
	uint64_t n_history;
	uint64_t n_history_dropped;
	uint64_t n_split;
	int64_t flush_us; /* time spent waiting for commits, in all */
};
void journal_stats(const struct journal *j, struct journal_stats *out);

#endif /* IO_JOURNAL_H */
