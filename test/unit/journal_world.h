/*
 * journal_world.h - a journal on the test's own PostgreSQL, with a gate that holds a flush up.
 *
 * While the gate is closed every statement that writes transactions or history waits for it.
 */
#ifndef TEST_JOURNAL_WORLD_H
#define TEST_JOURNAL_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/journal.h"
#include "io/loop.h"
#include "io/pg.h"

#define RECORD_MAX 3000
#define JW_FOREVER INT64_C(3600000000)

/* An entry, and what the journal said about it. */
struct record {
	struct journal_entry entry;
	struct journal_world *w;
	char gid[32];
	unsigned n_durable;
	unsigned n_refused;
	int err;          /* of the last refusal */
	int16_t said[16]; /* the state, each time it became durable */
	int64_t said_seq[16];
	int64_t at_us; /* when it last became durable */
};

struct journal_world {
	struct loop *loop;
	struct pg *pg;
	struct pg *gate;
	struct journal *journal;
	struct loop_hook *hook; /* stops the journal after on_lost, at the end of the turn */
	unsigned n_up;
	unsigned n_gate;
	unsigned n_durable; /* callbacks, over all records */
	unsigned n_refused;
	unsigned n_lost;
	bool stop_due;
	bool stop_when_durable;
	bool stop_when_refused;
	char order[4096]; /* the gids' last bytes, as they became durable */
	size_t n_order;
	struct record record[RECORD_MAX];
	unsigned n_record;
};

int journal_world_group_setup(void **state);
int journal_world_group_teardown(void **state);
/* The state is the world; its journal runs, lazy records wait for ever, nothing is paced. */
int journal_world_setup(void **state);
int journal_world_teardown(void **state);
/* Replaces the journal by one with these terms. */
void journal_world_terms(struct journal_world *w, int64_t lazy_us, int64_t interval_us,
                         unsigned busy_above);

void jw_gate_close(struct journal_world *w);
void jw_gate_open(struct journal_world *w);
/* Waits until a flush waits for the gate. */
void jw_until_held(struct journal_world *w);

/* A new entry in shard 0 of epoch 0. */
struct record *jw_record(struct journal_world *w, const char *gid);
struct record *jw_record_n(struct journal_world *w, unsigned n);
/* State `state`, with no branch decided. Returns the put's number. */
uint64_t jw_put(struct record *r, int16_t state, bool forced);
void jw_attempt(struct journal_world *w, const char *gid, const char *branch, int64_t epoch);

struct jw_wait {
	struct journal_waiter waiter;
	struct journal_world *w;
	unsigned n;
	int err;
	unsigned n_durable; /* in the world, at that time */
};
void jw_sync(struct journal_world *w, struct jw_wait *wait);

/* Waits for so many on_durable in all. */
void jw_until_durable(struct journal_world *w, unsigned n);
bool jw_idle(void *ctx);
struct journal_stats jw_stats(const struct journal_world *w);

/* Blocking, in a session of its own. */
void jw_sql(const char *sql);
/* The first value of the result; the caller frees the text. */
char *jw_text(const char *sql);
long jw_number(const char *sql);
/* Ends the backend of the journal's session, or only what it does. */
void jw_terminate(void);
void jw_cancel(void);

#endif /* TEST_JOURNAL_WORLD_H */
