/*
 * internal.h - what the files of libassent share. Nothing here is exported: names begin with
 * sdk_ and the library is built with hidden visibility.
 */
#ifndef ASSENT_INTERNAL_H
#define ASSENT_INTERNAL_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

#include "assent.h"

#define SDK_NAME_MAX 199 /* PostgreSQL's limit for the name of a prepared transaction */
#define SDK_BODY_MAX (1024 * 1024)

/* ---- sql/participant/, in file-name order, compiled in (made by sql/embed.awk) ---- */

extern const char *const participant_sql[];
extern const unsigned participant_sql_n;

/* ---- error.c ---- */

/* Fills `err` (may be NULL) and returns `code`. */
int sdk_fail(struct assent_error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The error of `result`, or of the connection when `result` is NULL or says nothing. */
int sdk_fail_pg(struct assent_error *err, const PGconn *conn, const PGresult *result);

/* ---- text.c: a growing string, and just enough JSON ---- */

/* Always NUL-terminated once something was added. An addition after a failed allocation does
 * nothing, so that a builder checks `failed` once, at its end. */
struct sdk_text {
	char *data;
	size_t len;
	size_t cap;
	bool failed;
};

void sdk_text_release(struct sdk_text *t);
void sdk_text_add(struct sdk_text *t, const void *data, size_t len);
void sdk_text_puts(struct sdk_text *t, const char *s);
void sdk_text_printf(struct sdk_text *t, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* A JSON string with its quotes. */
void sdk_text_json(struct sdk_text *t, const char *s);
bool sdk_json_valid(const char *text, size_t len);
/* The top-level object's string member `name`, when it has no escapes and fits; otherwise "". */
void sdk_json_member(const char *text, size_t len, const char *name, char *out, size_t size);

/* ---- call.c ---- */

struct assent_call {
	char cluster[33];
	char space[64]; /* the namespace */
	char gid[129];
	char branch[33];
	char op[16];
	char mode[8];
	char name[SDK_NAME_MAX + 1]; /* of the prepared transaction */
	int attempt;
	int timeout_ms; /* as the header says; 0 or less when it came too late */
	int hold_ms;
	bool is_vote; /* it asks for work and a vote, rather than telling a decision */
	bool one_phase;
	bool may_be_confirmed; /* a cancel that may come after a confirm */
	bool confirmed;        /* and did, as the barrier has found */
	int64_t until_us;      /* monotonic end of timeout_ms */
	char *body;
	size_t len;
};

/* Monotonic microseconds. */
int64_t sdk_now_us(void);
/* 1..max bytes, all letters, digits or in `others`. */
bool sdk_identifier(const char *s, size_t max, const char *others);

/* How long to wait for locks: the remaining time, for a decision at least a second (it is carried
 * out however late it comes), and for a first phase that came too late, which is only looked up;
 * never 0, which PostgreSQL takes for "no limit". */
int sdk_patience_ms(const struct assent_call *call);

/* ---- verify.c ---- */

/* The whole file as a string. Refuses files that others may read, and ones that do not fit. */
int sdk_read_secret_file(const char *path, char *out, size_t size, struct assent_error *err);

/* ---- reply.c ---- */

struct assent_reply {
	int status;
	struct sdk_text body;
};

void sdk_reply_reset(struct assent_reply *reply);
/* 409 with {"outcome": ..., "reason": ...}. */
void sdk_reply_outcome(struct assent_reply *reply, const char *outcome, const char *reason);
/* 503 for what may go away by itself, 500 for the rest, with the database's words. */
void sdk_reply_sql(struct assent_reply *reply, const PGconn *conn, const PGresult *result);

/* ---- pg.c ---- */

/* Never NULL; "" when `result` is no error or came from no server. */
const char *sdk_sqlstate(const PGresult *result);
/* Lost connection, serialization, deadlock, lock or statement timeout, no room, shutting down. */
bool sdk_is_transient(const PGresult *result);
/* 40001 and 55P03: somebody else is at it; look again. */
bool sdk_is_contended(const PGresult *result);
bool sdk_pg_ok(const PGresult *result);
/* Whether `result` succeeded with this command tag: COMMIT in a failed transaction "succeeds" as
 * ROLLBACK. */
bool sdk_pg_tag(PGresult *result, const char *tag);
/* Rolls back what is open on a connection that still lives. */
void sdk_pg_rollback(PGconn *conn);
/* BEGIN with lock_timeout and statement_timeout set to the call's remaining time. False: `reply`
 * says why. */
bool sdk_pg_begin(PGconn *conn, const struct assent_call *call, struct assent_reply *reply);

/* A connection that prints nothing and is given up after 5 s; check PQstatus. */
PGconn *sdk_pg_connect(const char *database);

/* ---- statement.c ---- */

/* On a connection that the library has opened: its statements are parsed once. */
void sdk_name_statements(PGconn *conn);
/* A statement about a branch: $1..$4 are cluster, namespace, gid, branch; then `more`, a
 * NULL-terminated array of strings (may be NULL); then, when `blob` is not NULL, a bytea that is
 * NULL for an empty body. Results are binary. */
PGresult *sdk_branch_exec(PGconn *conn, const struct assent_call *call, const char *sql,
                          const char *const *more, const struct sdk_text *blob);
/* Such a statement, with text parameters only. */
struct sdk_query {
	const char *sql;
	const char *const *more;
};
/* In one round trip: `before` in a transaction of its own, BEGIN, and `inside`. The result of
 * `inside`, or of what failed; NULL when it could not be sent. The transaction may be open. */
PGresult *sdk_branch_begin(PGconn *conn, const struct assent_call *call,
                           const struct sdk_query *before, const struct sdk_query *inside);

/* ---- barrier.c ---- */

/* assent_barrier_enter waiting at most lock_ms; *result is the caller's to clear and tells a
 * negative answer's SQLSTATE. */
int sdk_barrier_enter(PGconn *conn, const struct assent_call *call, int lock_ms,
                      struct assent_reply *reply, PGresult **result);
/* ---- work.c: business code in a transaction ---- */

/* False when the connection is lost or inside a transaction block; `reply` says so. */
bool sdk_is_outside(PGconn *conn, struct assent_reply *reply);
/* Runs the work in the open transaction and sets reply's status. Only after ASSENT_YES the
 * transaction is still open and sound; otherwise it has been rolled back. */
enum assent_vote sdk_do_work(PGconn *conn, const struct assent_call *call, assent_work_fn *work,
                             void *ctx, struct assent_reply *reply);

/* ---- workers.c: threads, each with a connection of its own ---- */

struct sdk_job {
	struct sdk_job *next;
	/* In a worker's thread. `conn` is NULL when the database cannot be reached. */
	void (*run)(struct sdk_job *job, PGconn *conn);
};

struct sdk_pool;

struct sdk_pool *sdk_pool_start(unsigned n_worker, const char *database);
/* False when too many jobs wait: the job is the caller's again. */
bool sdk_pool_put(struct sdk_pool *pool, struct sdk_job *job);
/* Until nothing waits or runs, or the monotonic time is over. */
void sdk_pool_wait_idle(struct sdk_pool *pool, int64_t until_us);
/* Runs what waits, without a connection if need be, and ends the threads. NULL is allowed. */
void sdk_pool_free(struct sdk_pool *pool);

/* ---- listen.c ---- */

/* A listening socket for "host:port", and its address as a URL; or a negative error. */
int sdk_listen(const char *address, char *url, size_t size, struct assent_error *err);

#endif /* ASSENT_INTERNAL_H */
