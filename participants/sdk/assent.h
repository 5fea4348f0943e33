/*
 * assent.h - libassent, for services that take part in global transactions (and start them).
 *
 * A participant gets the work of one branch as calls: `prepare` (do it, but keep it open), then
 * `commit` or `rollback`; or `try`, then `confirm` or `cancel`; or a saga's `action`, and perhaps
 * `compensate`; or, under three-phase commit, `can_commit`, `pre_commit`, then `do_commit` or
 * `abort`. They may come twice, late and out of order. libassent answers them as
 * participants/README.md demands, so that a service only says what its work is:
 *
 *	server = assent_server_new(&options, &err);
 *	assent_server_on(server, "/stock", "prepare", take_from_stock, NULL, &err);
 *	assent_server_start(server, &err);      (installs tables, listens, starts its threads)
 *	assent_server_run(server);              (until SIGTERM)
 *	assent_server_free(server);
 *
 * With an HTTP server of your own: assent_call_new, then assent_prepare, assent_commit and
 * assent_rollback (under TCC and for a saga assent_run_once), then send what assent_reply_status
 * and _body say. And now and then assent_participant_tick, for what nobody finishes.
 * To start a global transaction: assent_txn_new, assent_txn_add_branch, assent_submit; or, branch
 * by branch, assent_begin, assent_enlist, assent_request_commit.
 *
 * Conventions. Functions return 0 or a negative enum assent_err, and then fill `err` (may be
 * NULL), which the caller owns. Objects are opaque; NULL is allowed in every _free. Returned
 * strings belong to the object asked. There is no global state, and the library prints nothing
 * and never exits. Different threads may use different objects; one object belongs to one thread
 * at a time unless "thread-safe" is said. A PGconn is always used by one thread at a time.
 *
 * Structs of options, and the report of a tick, may grow at their end: what a member that is 0 or NULL
 * means stays what it was without it. Functions that take one are inline, and tell the library how
 * large it was when the program was compiled (for other languages: ..._sized). No other struct grows.
 */
#ifndef ASSENT_H
#define ASSENT_H

#include <libpq-fe.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ASSENT_API __attribute__((visibility("default")))

/* ---- errors --------------------------------------------------------------------------------- */

enum assent_err {
	ASSENT_E_NOMEM = -1,    /* out of memory */
	ASSENT_E_INVALID = -2,  /* an argument, or what came in, breaks a rule; never try again */
	ASSENT_E_DATABASE = -3, /* PostgreSQL refused: see sqlstate */
	ASSENT_E_UNREACHABLE = -4, /* no connection, or lost; whether it was done is unknown */
	ASSENT_E_CONFLICT = -5,    /* the gid or branch is taken, with another body */
	ASSENT_E_REFUSED = -6,     /* the coordinator answered with an error: see http_status */
	ASSENT_E_SYSTEM = -7,      /* address in use, no threads, ... */
};

/* Caller's storage; no need to initialise it. */
struct assent_error {
	int code;         /* enum assent_err */
	int http_status;  /* of the coordinator's last answer; 0 when there was none */
	char sqlstate[6]; /* ASSENT_E_DATABASE; otherwise "" */
	char text[256];   /* a sentence for people */
};

/* Static text for an enum assent_err; never NULL. Thread-safe. */
ASSENT_API const char *assent_err_str(int code);

/* ---- a call from the coordinator (participants/README.md, "The call") ----------------------- */

struct assent_call;

/* The value of the request header `name` (compared without case), or NULL. */
typedef const char *assent_header_fn(void *ctx, const char *name);

/* Decodes and checks the Assent-* headers and copies `body`. The remaining time starts to run
 * here. ASSENT_E_INVALID: a header is missing or wrong; answer 400 with err->text.
 * ASSENT_E_NOMEM: answer 503. */
ASSENT_API int assent_call_new(struct assent_call **call, assent_header_fn *header, void *ctx,
                               const void *body, size_t len, struct assent_error *err);
/* A peer's question, GET <address>/status: `parameter` gives the decoded values of the query
 * string's cluster, namespace, gid and branch. Errors as above. */
ASSENT_API int assent_call_new_status(struct assent_call **call, assent_header_fn *parameter,
                                      void *ctx, struct assent_error *err);
ASSENT_API void assent_call_free(struct assent_call *call);

ASSENT_API const char *assent_call_cluster(const struct assent_call *call);
ASSENT_API const char *assent_call_namespace(const struct assent_call *call);
ASSENT_API const char *assent_call_gid(const struct assent_call *call);
ASSENT_API const char *assent_call_branch(const struct assent_call *call);
/* "prepare", "commit", "rollback", "try", "confirm", "cancel", "action", "compensate",
 * "can_commit", "pre_commit", "do_commit", "abort", "status". */
ASSENT_API const char *assent_call_op(const struct assent_call *call);
ASSENT_API int assent_call_attempt(const struct assent_call *call);
/* A commit that does the work too (`Assent-One-Phase: true`): 1 or 0. */
ASSENT_API int assent_call_one_phase(const struct assent_call *call);
/* A cancel whose confirm had run (`on_confirm_failure: cancel`): undo that as well. 1 or 0. */
ASSENT_API int assent_call_confirmed(const struct assent_call *call);
/* Milliseconds until nobody waits for the answer any more; 0 when it is too late. */
ASSENT_API int assent_call_remaining_ms(const struct assent_call *call);
/* The branch's payload byte for byte, with a NUL behind; "" when there is none. `len` may be
 * NULL. In SQL: ($1::json->>'n')::int with this as the parameter. */
ASSENT_API const char *assent_call_body(const struct assent_call *call, size_t *len);

/* ---- is it the coordinator? (participants/README.md, "Signatures") -------------------------- */

struct assent_verifier;

/* `secrets`: a line each, 16 bytes or more, plain or `whsec_` and base64; two of them while they
 * are being exchanged: either will do. ASSENT_E_INVALID, ASSENT_E_NOMEM. */
ASSENT_API int assent_verifier_new(struct assent_verifier **verifier, const char *secrets,
                                   struct assent_error *err);
/* The same from a file, which others on this machine must not be able to read. Also
 * ASSENT_E_SYSTEM. */
ASSENT_API int assent_verifier_load(struct assent_verifier **verifier, const char *path,
                                    struct assent_error *err);
ASSENT_API void assent_verifier_free(struct assent_verifier *verifier);
/* Whether webhook-signature (Standard Webhooks) of `call` is right, webhook-id that of its Assent-*
 * headers, and webhook-timestamp less than 5 minutes off. Otherwise ASSENT_E_INVALID: answer 401
 * with err->text, and do nothing. ASSENT_E_NOMEM: nobody knows; answer 503. Thread-safe. */
ASSENT_API int assent_verify(const struct assent_verifier *verifier, const struct assent_call *call,
                             assent_header_fn *header, void *ctx, struct assent_error *err);

/* ---- a reply (participants/README.md, "The answer") ----------------------------------------- */

struct assent_reply;

ASSENT_API struct assent_reply *assent_reply_new(void); /* NULL: out of memory */
ASSENT_API void assent_reply_free(struct assent_reply *reply);
/* HTTP status; 200 until something sets it. */
ASSENT_API int assent_reply_status(const struct assent_reply *reply);
/* JSON with a NUL behind; "" when there is none. `len` may be NULL. */
ASSENT_API const char *assent_reply_body(const struct assent_reply *reply, size_t *len);

/* Status and JSON body, replacing what was there; `len` bytes are copied. */
ASSENT_API void assent_reply_set(struct assent_reply *reply, int status, const char *json,
                                 size_t len);
/* Status and {"reason": "..."}, the text quoted as JSON needs it. */
ASSENT_API void assent_reply_reason(struct assent_reply *reply, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- business code -------------------------------------------------------------------------- */

/* What business code answers. Anything but ASSENT_YES undoes what it did in the transaction. */
enum assent_vote {
	ASSENT_YES = 0, /* done; a body set in the reply is the branch's result (16 KiB) */
	ASSENT_READ_ONLY =
	    1,              /* nothing to commit or undo: no second phase, locks are released now */
	ASSENT_REFUSED = 2, /* the business says no */
	ASSENT_FAILED = 3,  /* could not be done now: asked again until the deadline */
};

/* The work of one branch, inside an open transaction on `conn` with lock_timeout and
 * statement_timeout set to the remaining time. It must not end that transaction, and has no
 * other lasting effect: it may run again after a failure, and be undone after a success. */
typedef enum assent_vote assent_work_fn(const struct assent_call *call, PGconn *conn,
                                        struct assent_reply *reply, void *ctx);

/* Runs `sql` with the call's payload as its parameter $1 (text), as PQexecParams would; the result is
 * text, and the caller's to clear. On connections of the server helper it is parsed and planned at
 * its first use, and kept for the next. */
ASSENT_API PGresult *assent_exec(PGconn *conn, const char *sql, const struct assent_call *call);
/* Sets the reason and returns ASSENT_REFUSED: return assent_refuse(reply, "not enough tea"); */
ASSENT_API enum assent_vote assent_refuse(struct assent_reply *reply, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* What a failed `result` (NULL for a lost connection) means: data and constraint errors (classes
 * 22 and 23) are refused, since asking again cannot help; the rest is ASSENT_FAILED. */
ASSENT_API enum assent_vote assent_sql_failed(struct assent_reply *reply, const PGresult *result);

/* ---- participant with PostgreSQL (participants/README.md, "What a participant must survive") - */

/* Creates or brings up to date the schema assent_participant. Idempotent; several processes may
 * do it at once. `conn` is outside a transaction block. ASSENT_E_DATABASE, ASSENT_E_UNREACHABLE. */
ASSENT_API int assent_participant_install(PGconn *conn, struct assent_error *err);
/* Whether this server can prepare transactions (max_prepared_transactions is not 0), and keeps what
 * was committed on `conn` if it crashes (synchronous_commit is not off).
 * ASSENT_E_INVALID with what to do about it. */
ASSENT_API int assent_participant_check(PGconn *conn, struct assent_error *err);
/* Forgets at most `batch` (1..10000) branches of which nothing has happened for `older_than_s`
 * seconds, in one short transaction; *n_branch says how many: call again while it is `batch`. It
 * never forgets one that is prepared, undecided or was decided by itself. What is forgotten is answered as if it had never
 * been: `older_than_s` is at least the coordinator's retention_ms and the longest that a transaction
 * may take from its first call to its end (a saga's last compensation, too); below a day it is
 * refused. The first time for an age, only the clock is started: nothing goes before `older_than_s`
 * have passed. The server helper does it by itself. `conn` is outside a transaction block.
 * ASSENT_E_INVALID, ASSENT_E_DATABASE, ASSENT_E_UNREACHABLE. */
ASSENT_API int assent_participant_purge(PGconn *conn, int older_than_s, int batch, int *n_branch,
                                        struct assent_error *err);

/* The three calls of a branch under two-phase commit. `conn` is outside a transaction block, and
 * is again afterwards (or lost: check PQstatus). They always fill `reply`; they wait for locks,
 * at most for the call's remaining time. Each may be repeated, from any process, in any order.
 *
 * prepare: runs `work` and PREPARE TRANSACTION 'assent:<cluster>:<namespace>:<gid>:<branch>'.
 * 200; 409 refused, rolled back before or too late; 503 ask again. */
ASSENT_API void assent_prepare(PGconn *conn, const struct assent_call *call, assent_work_fn *work,
                               void *ctx, struct assent_reply *reply);
/* commit: COMMIT PREPARED, or with `Assent-One-Phase: true` runs `work` and commits it. 200, also
 * when it was committed before; 409 {"outcome": "aborted"}; 503. */
ASSENT_API void assent_commit(PGconn *conn, const struct assent_call *call, assent_work_fn *work,
                              void *ctx, struct assent_reply *reply);
/* rollback: undoes, and shuts out a prepare that comes later. 200; 409 {"outcome": "committed"}
 * when it was committed before; 503. */
ASSENT_API void assent_rollback(PGconn *conn, const struct assent_call *call,
                                struct assent_reply *reply);

/* Every call under TCC (try, confirm, cancel) and of a saga (action, compensate), each a local
 * transaction of its own: BEGIN, barrier, `work` unless the barrier answers, COMMIT. `conn` and
 * `reply` as above. 200, also when it was done before, with the reply of then, and for undoing
 * what was never done; 409 refused, too late, or {"outcome": ...} for what contradicts what has
 * happened: a try or confirm after its cancel, a confirm without a try, a cancel of what was
 * confirmed (unless `Assent-May-Be-Confirmed: true`: assent_call_confirmed). 503 ask again. */
ASSENT_API void assent_run_once(PGconn *conn, const struct assent_call *call, assent_work_fn *work,
                                void *ctx, struct assent_reply *reply);

/* ---- three-phase commit (participants/README.md, "Three-phase commit") ---------------------- */

/* The calls of a branch under three-phase commit; `conn` and `reply` as for assent_prepare, and each
 * may be repeated, from any process, in any order. A branch that uses them needs
 * assent_participant_tick as well: it must end when nobody calls any more.
 *
 * A reply to do_commit, abort or pre_commit has "heuristic": true and the reason when the branch has
 * been decided without the coordinator.
 *
 * can_commit: runs `check`, unless it is NULL, in a read-only transaction that is rolled back, and
 * remembers for `Assent-Hold-Ms` that it was asked. 200; {"vote": "read_only"} from
 * ASSENT_READ_ONLY: nothing more comes; 409 refused, too late or {"outcome": "aborted"}; 503. */
ASSENT_API void assent_can_commit(PGconn *conn, const struct assent_call *call,
                                  assent_work_fn *check, void *ctx, struct assent_reply *reply);
/* pre_commit: runs `work` and PREPARE TRANSACTION, and holds it for `Assent-Hold-Ms` (the database's
 * clock) before the branch looks for an end by itself. ASSENT_READ_ONLY counts as ASSENT_YES. 200;
 * 409 refused (which binds nobody) or too late; 409 {"outcome": "aborted"} or "committed" when the
 * branch has ended so; 503. */
ASSENT_API void assent_pre_commit(PGconn *conn, const struct assent_call *call,
                                  assent_work_fn *work, void *ctx, struct assent_reply *reply);
/* do_commit: 200, also when it was committed before; 409 {"outcome": "aborted"} when it was aborted,
 * and also when it was never pre-committed: from then on it is aborted; 503. */
ASSENT_API void assent_do_commit(PGconn *conn, const struct assent_call *call,
                                 struct assent_reply *reply);
/* abort: undoes, and shuts out a pre_commit that is running or comes later. 200; 409 {"outcome":
 * "committed"}; 503. With `Assent-Intent: true` it is a wish: 409 {"outcome": "pre_committed"} when
 * a peer has been told that the branch is pre-committed, and may have committed because of it. */
ASSENT_API void assent_abort(PGconn *conn, const struct assent_call *call,
                             struct assent_reply *reply);
/* status, a peer's question (assent_call_new_status): 200 {"cluster", "gid", "branch", "state":
 * "committed", "aborted" or "pre_committed"}, 503. Not only a question: what is not pre-committed is
 * aborted before the answer, and what is takes no wish to abort any more. Whoever may ask may abort:
 * with a secret, verify it as any other call. */
ASSENT_API void assent_status(PGconn *conn, const struct assent_call *call,
                              struct assent_reply *reply);

/* ---- what nobody finishes (participants/README.md, "Branches that nobody finishes") ---------- */

struct assent_participant;

struct assent_participant_options {
	/* "http://a:7470", several nodes separated by blanks or commas; at most 8. Of all clusters
	 * that call this service: a branch whose coordinator is not here seems left alone. Required,
	 * and never taken from a call. */
	const char *coordinators;
	const char *token_file;  /* for the coordinator, as assent_client_load_token; or NULL */
	const char *secret_file; /* questions to peers are signed with it; or NULL */
	/* Leave other clusters' branches alone. NULL: look at all, and tell of those whose coordinator
	 * is none of these; no other decides them, and they are not ended by themselves. */
	const char *cluster;
	unsigned ask_ms;    /* how long to wait for an answer; 0 for 2000 */
	unsigned retry_ms;  /* until a branch is looked at again, up to twice that; 0 for 2000 */
	unsigned budget_ms; /* no new questions after that; 0 for 10000 */
	/* The only places where peers are asked, "http://stock:7481 https://gate/shop/": each a whole
	 * URL or what one begins with, up to its path, a slash in it or its query. NULL: wherever a
	 * call says that one is. Whoever calls is believed who the peers are: see Three-phase commit. */
	const char *peers;
};

#define ASSENT_ORPHAN_MAX 8

/* What a tick has done. Caller's storage; need not be initialised. */
struct assent_tick_report {
	unsigned n_swept;     /* finished as was decided; asked and never gone on with: aborted */
	unsigned n_waiting;   /* looked at in vain: later again */
	unsigned n_heuristic; /* decided without the coordinator */
	unsigned n_failed;    /* could not be finished: later again */
	/* The coordinator answered no decision (401: token_file), which counts as silence. In the first
	 * tick: each address that does so, with or without a branch in doubt. */
	unsigned n_refused;
	/* Prepared transactions that no row of assent_participant.branch knows: nobody but you will
	 * finish them. And those that the coordinator does not know: they were rolled back. */
	unsigned n_orphan;
	char orphan[ASSENT_ORPHAN_MAX][200]; /* the first of their names */
	char heuristic[512];                 /* the last of n_heuristic, for people */
	char failure[256];                   /* why failed, refused or not reached; for people */
};

/* Strings and files are read here. ASSENT_E_INVALID, ASSENT_E_SYSTEM, ASSENT_E_NOMEM. */
static inline int assent_participant_new(struct assent_participant **participant,
                                         const struct assent_participant_options *options,
                                         struct assent_error *err);
ASSENT_API void assent_participant_free(struct assent_participant *participant);
/* Makes a tick that runs return at once, with what it has not done yet as waiting, and every later one
 * do nothing: before assent_participant_free. Thread-safe, also in a signal handler. */
ASSENT_API void assent_participant_stop(struct assent_participant *participant);
/* One round for every branch in conn's database whose time has come: prepared and past the time of
 * its vote (2pc) or its hold time (3pc), asked and never gone on with, or decided and not finished.
 * The coordinator is asked, under three-phase commit then the peers. Transactions of other clusters,
 * other databases and other programs are not touched. Call it when the service starts and every
 * second or so, from as many processes as there are; one thread at a time for one `participant`.
 * `conn` as for assent_prepare. May last budget_ms plus four times ask_ms, and as long as locks are
 * waited for. The first one also asks each address of the coordinator whether it would answer. The
 * report (may be NULL) is filled also on an error: ASSENT_E_DATABASE, ASSENT_E_UNREACHABLE,
 * ASSENT_E_INVALID, ASSENT_E_NOMEM. */
static inline int assent_participant_tick(struct assent_participant *participant, PGconn *conn,
                                          struct assent_tick_report *report,
                                          struct assent_error *err);

/* ---- the barrier by itself ------------------------------------------------------------------ */

/* What the barrier says. Anything but ASSENT_BARRIER_RUN: end the transaction with COMMIT and
 * send `reply`, which has been filled. */
enum assent_barrier {
	ASSENT_BARRIER_RUN = 0,       /* do the work, then assent_barrier_store, then COMMIT */
	ASSENT_BARRIER_DUPLICATE = 1, /* done before: the stored reply */
	ASSENT_BARRIER_EMPTY = 2,     /* cancel of what was never done: 200, and remembered */
	ASSENT_BARRIER_SHUT_OUT = 3,  /* it contradicts what has happened, or is too late: 409 */
	ASSENT_BARRIER_RUN_CONFIRMED = 4, /* a cancel whose confirm had run: undo that too, store */
};

/* The barrier by itself, inside the caller's open transaction. Returns an enum assent_barrier, or
 * a negative error: then ROLLBACK and answer 503. */
ASSENT_API int assent_barrier_enter(PGconn *conn, const struct assent_call *call,
                                    struct assent_reply *reply, struct assent_error *err);
ASSENT_API int assent_barrier_store(PGconn *conn, const struct assent_call *call,
                                    const struct assent_reply *reply, struct assent_error *err);

/* ---- server: a service as a table of functions ---------------------------------------------- */

struct assent_server;

/* After each tick, and when what is old could not be forgotten; `err` is NULL unless it failed. In
 * the server's own thread, one at a time. */
typedef void assent_tick_fn(const struct assent_tick_report *report, const struct assent_error *err,
                            void *ctx);

struct assent_server_options {
	const char *listen;   /* "127.0.0.1:7481"; port 0 picks a free one */
	const char *database; /* libpq connection string */
	/* Workers, each a thread with a connection of its own; 0 for 8, 4 and 8. Second phases have
	 * workers of their own: first phases may all be waiting for locks that only a commit frees. */
	unsigned n_first;
	unsigned n_second;
	unsigned n_route;
	/* As for assent_verifier_load: calls that are not signed so are answered 401, before anything
	 * is done. NULL: every call is believed. Plain routes are not looked at. */
	const char *secret_file;
	/* As for assent_participant_new: the server ticks when it starts and every tick_ms (0 for
	 * 1000). NULL: no ticks, and no pre_commit. Questions to peers are signed with secret_file,
	 * which all branches of a transaction share then. */
	const char *coordinators;
	const char *token_file;
	const char *cluster;
	unsigned tick_ms;
	unsigned retry_ms;
	/* For how long what is known of a branch is kept (assent_participant_purge, which see for how
	 * short it may be); 0 for 30 days, negative for ever. */
	int keep_s;
	assent_tick_fn *on_tick; /* may be NULL */
	void *tick_ctx;
	/* As for assent_participant_new; a pre_commit that names a peer elsewhere is answered 400. */
	const char *peers;
};

/* `err` says what is wrong with the options. Strings are copied. */
static inline struct assent_server *assent_server_new(const struct assent_server_options *options,
                                                      struct assent_error *err);
/* Answers POST <path>/<op> with `work`. op "prepare" brings "commit" and "rollback" with it, op
 * "pre_commit" brings "do_commit", "abort", GET <path>/status, and "can_commit" unless that has a
 * check of its own. The others run as assent_run_once: try wants confirm and cancel as well, action
 * compensate. Before start. */
ASSENT_API int assent_server_on(struct assent_server *server, const char *path, const char *op,
                                assent_work_fn *work, void *ctx, struct assent_error *err);
/* A plain request: `conn` is outside a transaction block and connected; fill `reply`. `body` is
 * at most 1 MiB and has a NUL behind. */
typedef void assent_route_fn(const char *body, size_t len, PGconn *conn, struct assent_reply *reply,
                             void *ctx);
/* Answers `method` `path` with `route`. Before start. */
ASSENT_API int assent_server_route(struct assent_server *server, const char *method,
                                   const char *path, assent_route_fn *route, void *ctx,
                                   struct assent_error *err);
/* Installs the schema, checks the database (max_prepared_transactions, synchronous_commit,
 * privileges; err->text says what to do), listens and starts the threads. From here until
 * assent_server_free, SIGTERM and SIGINT are blocked in the calling thread; start other threads
 * after this call. ASSENT_E_SYSTEM, ASSENT_E_DATABASE, ASSENT_E_UNREACHABLE, ASSENT_E_INVALID. */
ASSENT_API int assent_server_start(struct assent_server *server, struct assent_error *err);
/* "http://127.0.0.1:7481", with the port that was picked; "" before start. */
ASSENT_API const char *assent_server_url(const struct assent_server *server);
/* Serves until SIGTERM, SIGINT or assent_server_stop; then finishes what it has begun. */
ASSENT_API void assent_server_run(struct assent_server *server);
/* Makes assent_server_run return. Thread-safe, also in a signal handler. */
ASSENT_API void assent_server_stop(struct assent_server *server);

ASSENT_API void assent_server_free(struct assent_server *server);

/* ---- with the size of a struct --------------------------------------------------------------
 *
 * What the inline functions of these names call: `size` is that of the struct as the program knows
 * it. A struct of a newer libassent is taken as long as what is new in it is 0. */

ASSENT_API int assent_participant_new_sized(struct assent_participant **participant,
                                            const struct assent_participant_options *options,
                                            size_t size, struct assent_error *err);
ASSENT_API int assent_participant_tick_sized(struct assent_participant *participant, PGconn *conn,
                                             struct assent_tick_report *report, size_t size,
                                             struct assent_error *err);
ASSENT_API struct assent_server *
assent_server_new_sized(const struct assent_server_options *options, size_t size,
                        struct assent_error *err);

#ifdef __cplusplus
}
#endif

static inline int assent_participant_new(struct assent_participant **participant,
                                         const struct assent_participant_options *options,
                                         struct assent_error *err)
{
	return assent_participant_new_sized(participant, options, sizeof(*options), err);
}

static inline int assent_participant_tick(struct assent_participant *participant, PGconn *conn,
                                          struct assent_tick_report *report,
                                          struct assent_error *err)
{
	return assent_participant_tick_sized(participant, conn, report, sizeof(*report), err);
}

static inline struct assent_server *assent_server_new(const struct assent_server_options *options,
                                                      struct assent_error *err)
{
	return assent_server_new_sized(options, sizeof(*options), err);
}

#include "assent_client.h" /* to start global transactions */

#endif /* ASSENT_H */
