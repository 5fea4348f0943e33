/*
 * pg.h - one PostgreSQL connection in pipeline mode; the only user of libpq (pg*.c).
 *
 * Unit of work: a batch = statements up to one sync = one implicit transaction. Batches run in
 * the order in which they were sent; several may be under way. A batch's statements are durable
 * when its result says err 0: the sync arrived, no error came before it, and no WARNING either
 * (a cancelled wait for a synchronous standby is a WARNING on a commit that may not be safe).
 *
 * Calling sequence: pg_new, (on_up), { pg_batch_begin, pg_batch_add ..., pg_batch_send, (done) },
 * (on_down), ... pg_free. on_up comes after the prepared statements are in place.
 *
 * When the connection dies, every batch under way gets ERR_LOST (whether it was committed is
 * not known), then on_down is called, and the connection is tried again with capped backoff
 * until pg_free. So does a session that neither answers nor dies, after stall_us: if its backend
 * goes on, the locks say so until it is done. TCP keepalives on both sides let a vanished host be noticed within seconds.
 */
#ifndef IO_PG_H
#define IO_PG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "io/loop.h"

struct pg;
struct pg_batch;

/* Type oids of parameters. */
enum pg_type {
	PG_BOOL = 16,
	PG_BYTEA = 17,
	PG_INT8 = 20,
	PG_INT2 = 21,
	PG_INT4 = 23,
	PG_TEXT = 25,
	PG_BYTEA_ARRAY = 1001,
	PG_INT2_ARRAY = 1005,
	PG_INT4_ARRAY = 1007,
	PG_TEXT_ARRAY = 1009,
	PG_INT8_ARRAY = 1016,
	PG_TIMESTAMPTZ = 1184, /* int8: microseconds since PG_EPOCH_US */
	PG_TIMESTAMPTZ_ARRAY = 1185,
};

#define PG_PARAM_MAX 24

/* 2000-01-01 in microseconds since 1970, where PostgreSQL's timestamps start. */
#define PG_EPOCH_US INT64_C(946684800000000)

struct pg_statement {
	const char *name; /* prepared under this name */
	const char *sql;
	enum pg_type param[PG_PARAM_MAX];
	unsigned n_param;
};

struct pg_config {
	const char *conninfo;
	const char *application_name;
	const char *const
	    *setup; /* plain SQL run on each new session, ends with NULL; may be NULL */
	const struct pg_statement *statement;
	size_t n_statement;
	int64_t stall_us; /* a session whose oldest batch gets no end for so long ends; 0: never */
	void (*on_up)(void *ctx);
	void (*on_down)(void *ctx, const char *why); /* also after each failed attempt to connect */
	void *ctx;
};

/* ERR_INVALID for a conninfo that cannot be parsed. Everything in `config` but the conninfo and
 * the name is borrowed until pg_free. */
int pg_new(struct loop *l, const struct pg_config *config, struct pg **out) MUSTCHECK;
/* No callbacks any more, those of batches under way included. Safe inside any of them. */
void pg_free(struct pg *p);
bool pg_up(const struct pg *p);
/* Drop the session and connect anew: for a caller that no longer trusts it. on_down follows. */
void pg_reconnect(struct pg *p, const char *why);
/* The same at once, for a caller that stops and still owes answers: every batch under way is told
 * ERR_LOST before this returns. Never inside a callback of this connection. */
void pg_drop(struct pg *p, const char *why);

/* A result is borrowed for the callback. Values are in binary format. */
struct pg_result;
size_t pg_rows(const struct pg_result *r);
bool pg_null(const struct pg_result *r, size_t row, unsigned col);
int64_t pg_int(const struct pg_result *r, size_t row, unsigned col); /* int2, int4, int8, bool */
const char *pg_bytes(const struct pg_result *r, size_t row, unsigned col, size_t *len);
/* Rows that an INSERT, UPDATE or DELETE touched. */
size_t pg_touched(const struct pg_result *r);

struct pg_outcome {
	int err;       /* 0 durable; ERR_DATA (class 22, 23), ERR_LOST (unknown), ERR_IO (else) */
	size_t failed; /* which statement of the batch, for ERR_DATA and ERR_IO; the number of
	                * statements when the commit failed (a deferred constraint) */
	char sqlstate[6]; /* "" for ERR_LOST */
	const char *message;
	const struct pg_result *const *result; /* n_result of them, when err is 0 */
	size_t n_result;
};
typedef void pg_done_fn(void *ctx, const struct pg_outcome *outcome);

/* NULL when the connection is down or memory is out. One batch is built at a time. */
struct pg_batch *pg_batch_begin(struct pg *p) MUSTCHECK;
/* One execution of statement[which]. Parameters in order, in binary format. A NULL data pointer
 * is SQL NULL. Copied into the connection's output. */
struct pg_param {
	const void *data;
	size_t len;
};
void pg_batch_add(struct pg_batch *b, size_t which, const struct pg_param *param);
/* `done` is called exactly once, never from inside this call. */
void pg_batch_send(struct pg_batch *b, pg_done_fn *done, void *ctx);

/* One-dimensional arrays for unnest, in binary format: pg_array_begin, adds, pg_array_end. */
void pg_array_begin(struct buf *b, enum pg_type element);
void pg_array_add_int2(struct buf *b, int16_t v);
void pg_array_add_int4(struct buf *b, int32_t v);
void pg_array_add_int8(struct buf *b, int64_t v);
void pg_array_add_bytes(struct buf *b, const void *data, size_t len); /* text and bytea */
void pg_array_add_null(struct buf *b);
void pg_array_end(struct buf *b);
/* Scalars. */
void pg_put_int2(struct buf *b, int16_t v);
void pg_put_int4(struct buf *b, int32_t v);
void pg_put_int8(struct buf *b, int64_t v);

/* --- Blocking, for the command line and start-up only, never on the loop. --- */

/* Runs each SQL text in turn (simple protocol, several statements allowed per text). On failure
 * ERR_IO (cannot connect), ERR_DATA or ERR_STATE (SQL error), and one line for people in `message`
 * (size bytes). `value`, when not NULL, gets the first column of the last result's first row,
 * as text ("" for none). */
int pg_run(const char *conninfo, const char *const *sql, size_t n_sql, struct buf *value,
           char *message, size_t size) MUSTCHECK;

/* --- Connection strings --- */

/* For people: key=value pairs with *** for passwords, "***" for what cannot be read. Caller frees;
 * NULL when out of memory. */
char *pg_conninfo_masked(const char *conninfo) MUSTCHECK;
/* ERR_INVALID when it cannot be read, with a sentence that quotes no value. */
int pg_conninfo_check(const char *conninfo, char *why, size_t size) MUSTCHECK;

#endif /* IO_PG_H */
