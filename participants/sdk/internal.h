/*
 * internal.h - what the files of libassent share. Nothing here is exported: names begin with
 * sdk_ and the library is built with hidden visibility.
 */
#ifndef ASSENT_INTERNAL_H
#define ASSENT_INTERNAL_H

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "assent.h"

#define SDK_NAME_MAX 199 /* PostgreSQL's limit for the name of a prepared transaction */
#define SDK_BODY_MAX (1024 * 1024)

/* What a role needs that has not installed the schema itself. */
#define SDK_GRANTS                                                                          \
	"GRANT USAGE ON SCHEMA and SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA " \
	"assent_participant TO it"

/* ---- sql/participant/, in file-name order, compiled in (made by sql/embed.awk) ---- */

extern const char *const participant_sql[];
extern const unsigned participant_sql_n;

/* ---- error.c ---- */

/* Fills `err` (may be NULL) and returns `code`. */
int sdk_fail(struct assent_error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The error of `result`, or of the connection when `result` is NULL or says nothing. */
int sdk_fail_pg(struct assent_error *err, const PGconn *conn, const PGresult *result);
/* A caller's struct of `size` bytes as the library knows it, with `known`: what it does not have is 0.
 * ASSENT_E_INVALID when it has more, and that is not 0. */
int sdk_take_struct(void *to, size_t known, const void *from, size_t size,
                    struct assent_error *err);
/* Whether what is committed on this connection survives a crash of PostgreSQL. */
int sdk_check_durable(PGconn *conn, struct assent_error *err);

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
/* Whether its member `name` is true. */
bool sdk_json_is_true(const char *text, size_t len, const char *name);

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
	bool intent;           /* an abort that is not decided yet */
	bool may_commit;       /* 3pc: on_timeout is commit */
	char *peers;           /* 3pc: "id=url,...", or NULL */
	int64_t until_us;      /* monotonic end of timeout_ms */
	char *body;
	size_t len;
};

/* The branch, as a call of operation `op` that nobody made; false: out of memory. Release with
 * sdk_call_release. */
bool sdk_call_make(struct assent_call *call, const char *op, const char *const identity[4]);
void sdk_call_release(struct assent_call *call);

/* Monotonic microseconds. */
int64_t sdk_now_us(void);
/* Half to all of `ms`, by chance: many that failed together do not come back together. */
int sdk_jitter_ms(int ms);
/* 1..max bytes, all letters, digits or in `others`. */
bool sdk_identifier(const char *s, size_t max, const char *others);

/* How long to wait for locks: the remaining time, for a decision at least a second (it is carried
 * out however late it comes), and for a first phase that came too late, which is only looked up;
 * never 0, which PostgreSQL takes for "no limit". */
int sdk_patience_ms(const struct assent_call *call);

/* ---- peers.c ---- */

struct sdk_peer {
	char id[33]; /* "" when it is too long */
	const char *url;
	size_t url_len;
};

/* The next one of "id=url,...", which has been checked or not; false: there is none. */
bool sdk_peer_next(const char **peers, struct sdk_peer *peer);
bool sdk_peers_are_valid(const char *peers);
/* The operator's list, checked and copied; NULL allows all. */
int sdk_peers_allow(const char *rules, char **allowed, struct assent_error *err);
bool sdk_peer_is_allowed(const char *allowed, const struct sdk_peer *peer);

/* ---- verify.c ---- */

/* The whole file as a string. Refuses files that others may read, and ones that do not fit. */
int sdk_read_secret_file(const char *path, char *out, size_t size, struct assent_error *err);
/* A file with a token, as the line of a header that is the caller's to free. */
int sdk_read_token_file(const char *path, char **line, struct assent_error *err);
/* The signatures of "id.timestamp.body", blank-separated, one for each secret; `body` may be NULL.
 * False: out of memory. */
bool sdk_sign(const struct assent_verifier *v, const char *id, const char *timestamp,
              const struct sdk_text *body, struct sdk_text *out);
/* What is signed of a call: cluster/gid/branch/op/attempt. */
void sdk_signed_id(const struct assent_call *call, struct sdk_text *out);

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

/* ---- two_phase.c: prepared transactions, under three-phase commit as well ---- */

enum step {
	STEP_ANSWERED, /* the reply is final */
	STEP_AGAIN,    /* somebody else was at it: look again */
	STEP_GO,
};

/* Whether to look again after STEP_AGAIN. If not, the caller does the same later. */
bool sdk_have_time(int64_t until_us, struct assent_reply *reply);
/* How long to wait for one lock. */
int sdk_slice_ms(int64_t until_us);
/* STEP_AGAIN when somebody else was at it; otherwise the reply says why. */
enum step sdk_step_failed(PGconn *conn, const PGresult *result, struct assent_reply *reply);
/* Opens the transaction and takes the branch's key in it, for the call's operation. */
enum step sdk_take_key(PGconn *conn, const struct assent_call *call, struct assent_reply *reply);
/* With a result in `reply` it leaves a mark that tells so, until that is stored. */
enum step sdk_prepare_transaction(PGconn *conn, const struct assent_call *call,
                                  struct assent_reply *reply);
/* Prepared, and its result is about to be stored: look again, after a moment. */
bool sdk_result_is_due(PGconn *conn, const struct assent_call *call);
/* COMMIT PREPARED or ROLLBACK PREPARED. STEP_GO: *found says whether there was one. */
enum step sdk_finish_prepared(PGconn *conn, const struct assent_call *call, const char *verb,
                              bool *found, struct assent_reply *reply);

/* ---- three_phase.c ---- */

/* What has become of a branch, as `settle` in sql/participant/004 says. */
struct sdk_settled {
	enum {
		SDK_PRE_COMMITTED,
		SDK_VOUCHED,
		SDK_COMMITTED,
		SDK_ABORTED
	} state;
	char heuristic[512]; /* why it was decided without the coordinator; "" if it was not */
};

/* Makes, durably, the transition that `wish` asks for if it is allowed, and carries out what has
 * been decided. `why` is NULL for what the coordinator decided. False: not now, `reply` says why. */
bool sdk_settle(PGconn *conn, const struct assent_call *call, const char *wish, const char *why,
                struct sdk_settled *settled, struct assent_reply *reply);

/* ---- get.c: questions to coordinators and peers ---- */

struct sdk_get {
	struct sdk_text url;
	struct sdk_text headers; /* lines that end with a newline */
	long status;             /* 0: no answer in time */
	const char *why;         /* then: libcurl's reason, or NULL */
	struct sdk_text answer;
};

struct sdk_getter;

struct sdk_getter *sdk_getter_new(void); /* NULL: out of memory */
void sdk_getter_free(struct sdk_getter *getter);
/* GETs all of them at the same time; what is not answered within timeout_ms, or soon after *stop, is
 * not answered. */
void sdk_get_all(struct sdk_getter *getter, struct sdk_get *asks, size_t n, int timeout_ms,
                 const atomic_bool *stop);
void sdk_get_release(struct sdk_get *ask);

/* ---- work.c: business code in a transaction ---- */

/* False when the connection is lost or inside a transaction block; `reply` says so. */
bool sdk_is_outside(PGconn *conn, struct assent_reply *reply);
/* The same of the functions that people call, who may have no call, and no reply either. */
bool sdk_may_begin(PGconn *conn, const struct assent_call *call, struct assent_reply *reply);
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

/* ---- ticker.c: a thread that sweeps and forgets ---- */

#define SDK_KEEP_MIN_S 86400

struct sdk_ticker;

/* Takes `participant` (NULL: it does not sweep); a negative keep_s: it does not forget. NULL: no
 * thread, and `participant` is the caller's again. */
struct sdk_ticker *sdk_ticker_start(struct assent_participant *participant, const char *database,
                                    unsigned interval_ms, int keep_s, assent_tick_fn *on_tick,
                                    void *ctx);
/* Does not wait for answers any more. NULL is allowed. */
void sdk_ticker_free(struct sdk_ticker *t);

/* ---- listen.c ---- */

/* A listening socket for "host:port", and its address as a URL; or a negative error. */
int sdk_listen(const char *address, char *url, size_t size, struct assent_error *err);

#endif /* ASSENT_INTERNAL_H */
