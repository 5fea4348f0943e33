/*
 * pg_world.h - a session on the test's own PostgreSQL, with tables, statements, and a record of what
 * came back.
 */
#ifndef TEST_PG_WORLD_H
#define TEST_PG_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "io/loop.h"
#include "io/pg.h"
#include "private_pg.h"

enum statement {
	S_PUT,    /* int8[], text[]: rows into t */
	S_COUNT,  /* rows of t */
	S_DIVIDE, /* 1 / int4 */
	S_LATER,  /* a row whose constraint is checked at the commit */
	S_WARN,
	S_WARN_LATER, /* the warning comes with the commit */
	S_ECHO,       /* int2, int4, int8, bool, text, bytea */
	S_SLEEP,
	S_PID,
	S_BIG, /* int4 bytes of text */
	S_LEN, /* length of text */
	S_MAX,
};

struct pg_world {
	struct loop *loop;
	struct pg *pg;
	unsigned n_up;
	unsigned n_down;
	char why[256];
	unsigned n_done;
	int err[512];
	struct pg_outcome last; /* pointers in it are stale */
	struct pg_outcome bad;  /* the last failure */
	char message[256];
	int64_t value; /* first column of the last result */
	bool chain;    /* one more batch from inside each callback, once */
	bool free_in_done;
};

extern struct private_pg *pg_world_server;

/* cmocka's; the state is the world, its session is up. */
int pg_world_group_setup(void **state);
int pg_world_group_teardown(void **state);
int pg_world_setup(void **state);
int pg_world_teardown(void **state);

void pg_world_open(struct pg_world *w, const char *conninfo);
void pg_world_up(void *ctx);
void pg_world_down(void *ctx, const char *why);
/* Blocking, in a session of its own. */
void pg_world_sql(const char *sql);

struct pg_batch *pg_world_begin(struct pg_world *w);
void pg_world_add_put(struct pg_batch *b, int64_t first, unsigned n);
void pg_world_add_int(struct pg_batch *b, size_t which, int64_t v);
void pg_world_send(struct pg_world *w, struct pg_batch *b);
void pg_world_done(void *ctx, const struct pg_outcome *outcome);
/* A batch that inserts `n` rows. */
void pg_world_put(struct pg_world *w, int64_t first, unsigned n);
/* Waits for the number of rows. */
int64_t pg_world_count(struct pg_world *w);

#endif /* TEST_PG_WORLD_H */
