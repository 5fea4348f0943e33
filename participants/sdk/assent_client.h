/*
 * assent_client.h - libassent, for services that start global transactions: submitted as a whole, or
 * grown branch by branch. assent.h includes it, and says what holds for both.
 */
#ifndef ASSENT_CLIENT_H
#define ASSENT_CLIENT_H

#include "assent.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- client: start a global transaction ----------------------------------------------------- */

struct assent_client;
struct assent_txn;

/* `urls` are the coordinator's addresses, "http://a:7470,http://b:7470" (up to 16). The client asks
 * the one that answered last, and goes on to the next when there is no answer: everything it asks
 * is idempotent. It goes on for the time it is to wait and patience_ms more, with pauses that grow
 * and differ by chance. NULL with ASSENT_E_INVALID, ASSENT_E_NOMEM. The client is thread-safe. */
ASSENT_API struct assent_client *assent_client_new(const char *urls, struct assent_error *err);
/* The coordinator asks for a token: `path` is a file with one line, the token, which others on this
 * machine must not be able to read. Before the first use. ASSENT_E_INVALID, ASSENT_E_SYSTEM. */
ASSENT_API int assent_client_load_token(struct assent_client *client, const char *path,
                                        struct assent_error *err);
/* Participants demand signatures: what assent_try and assent_branch_headers ask of a branch is signed
 * with the secrets in the file `path`, as the coordinator does. Before the first use. Errors as for
 * assent_verifier_load. */
ASSENT_API int assent_client_load_secret(struct assent_client *client, const char *path,
                                         struct assent_error *err);
/* How long a function goes on without an answer, 1..600000 ms; 5000 until this is called. Before
 * the first use. ASSENT_E_INVALID. */
ASSENT_API int assent_client_set_patience(struct assent_client *client, int patience_ms,
                                          struct assent_error *err);
ASSENT_API void assent_client_free(struct assent_client *client);

/* A transaction to be started. `gid` names it for ever: starting it again is safe and gives the
 * same transaction. gid [A-Za-z0-9._:~-]{1,128}; mode "2pc", "3pc", "tcc" or "saga"; timeout_ms
 * until the votes must be in, 1..3600000, 0 for the coordinator's default. NULL with
 * ASSENT_E_INVALID, ASSENT_E_NOMEM. */
ASSENT_API struct assent_txn *assent_txn_new(const char *gid, const char *mode, int timeout_ms,
                                             struct assent_error *err);
/* A member of the submission as api/openapi.yaml has them, before the first branch:
 * "on_confirm_failure" is "retry" or "cancel" (tcc), "recovery" is "backward" or "forward" (saga);
 * the first is the default. The value of a name that ends in _ms is a number. */
ASSENT_API int assent_txn_option(struct assent_txn *txn, const char *name, const char *value,
                                 struct assent_error *err);
/* `participant` is the URL (or name) that gets <participant>/prepare (try, action) and so on;
 * `payload` is JSON passed on byte for byte, or NULL. branch [A-Za-z0-9._~-]{1,32}. */
ASSENT_API int assent_txn_add_branch(struct assent_txn *txn, const char *branch,
                                     const char *participant, const char *payload,
                                     struct assent_error *err);
/* A member of the branch added last, such as "timeout_ms"; before assent_txn_after. */
ASSENT_API int assent_txn_branch_option(struct assent_txn *txn, const char *name, const char *value,
                                        struct assent_error *err);
/* The branch added last begins when `branch` has said yes; may be repeated. Otherwise branches
 * begin together, and the steps of a saga one after the other. */
ASSENT_API int assent_txn_after(struct assent_txn *txn, const char *branch,
                                struct assent_error *err);
ASSENT_API void assent_txn_free(struct assent_txn *txn);

/* Caller's storage. */
struct assent_result {
	char gid[129];
	char state[32];   /* "preparing", "committed", ... */
	char outcome[16]; /* "pending", "committed", "aborted", "mixed" */
};

/* The functions below are thread-safe for different `txn`; `result` may be NULL. Their errors:
 * ASSENT_E_UNREACHABLE: no answer in time; err->text says whether it may have been done. Do the
 * same again, with the same gid. ASSENT_E_REFUSED: the coordinator said no, and http_status says
 * how; with 409 (too late for this) `result` says how it stands instead, when that was to be had.
 * ASSENT_E_CONFLICT: the gid or the branch is taken, with another body. ASSENT_E_INVALID,
 * ASSENT_E_NOMEM. */

/* Submits and waits up to wait_ms (0..60000) for the end; "pending" when it has not ended by then.
 * A lost answer is found by reading, and by the same submission again. */
ASSENT_API int assent_submit(struct assent_client *client, const struct assent_txn *txn,
                             int wait_ms, struct assent_result *result, struct assent_error *err);
/* How it stands. ASSENT_E_REFUSED with http_status 404 when the coordinator does not know it. */
ASSENT_API int assent_get(struct assent_client *client, const char *gid,
                          struct assent_result *result, struct assent_error *err);
/* Waits up to wait_ms (0..60000) for the end, and gives how it stands then. */
ASSENT_API int assent_wait(struct assent_client *client, const char *gid, int wait_ms,
                           struct assent_result *result, struct assent_error *err);

/* ---- interactive: a transaction that grows --------------------------------------------------
 *
 * assent_txn_new, assent_begin; for each branch assent_txn_add_branch, assent_enlist, and then its
 * work (under TCC assent_try; under two-phase commit the coordinator asks for it at the commit);
 * assent_request_commit or assent_request_rollback. At its deadline it is rolled back. Threads,
 * `result` and errors as for assent_submit. */

/* Begins `txn`, without the branches it may have. */
ASSENT_API int assent_begin(struct assent_client *client, const struct assent_txn *txn,
                            struct assent_result *result, struct assent_error *err);
/* Lets the branch added last join; when this has returned 0, it will be told the outcome, whatever
 * happens. So: before its work. */
ASSENT_API int assent_enlist(struct assent_client *client, const struct assent_txn *txn,
                             struct assent_result *result, struct assent_error *err);
/* The initiator's word; the first one counts. Waits up to wait_ms (0..60000) for the end. 0 says
 * that the word was taken: the outcome of a commit is in `result`. */
ASSENT_API int assent_request_commit(struct assent_client *client, const char *gid, int wait_ms,
                                     struct assent_result *result, struct assent_error *err);
ASSENT_API int assent_request_rollback(struct assent_client *client, const char *gid, int wait_ms,
                                       struct assent_result *result, struct assent_error *err);
/* TCC: makes the try of the branch added last, which has been enlisted, at <its URL>/try, again
 * until there is an answer or timeout_ms (1..3600000) are over. Returns ASSENT_YES,
 * ASSENT_READ_ONLY or ASSENT_REFUSED, with the answer in `reply` (may be NULL); or a negative
 * error: ASSENT_E_UNREACHABLE when it is not known whether it was done. Then, as after a refusal,
 * ask for the rollback. */
ASSENT_API int assent_try(struct assent_client *client, const struct assent_txn *txn,
                          int timeout_ms, struct assent_reply *reply, struct assent_error *err);
/* A call of the initiator's to a branch; caller's storage. */
struct assent_attempt {
	const char *op; /* "try", or an operation of the service's own */
	int number;     /* 1, 2, ... */
	int timeout_ms; /* 1..3600000: then nobody waits for the answer any more */
};
typedef void assent_give_header_fn(void *ctx, const char *name, const char *value);
/* For an HTTP client of one's own: gives each header that `attempt` at the branch added last must
 * have; its body is the branch's payload. The first time it asks the coordinator for its cluster. */
ASSENT_API int assent_branch_headers(struct assent_client *client, const struct assent_txn *txn,
                                     const struct assent_attempt *attempt,
                                     assent_give_header_fn *give, void *ctx,
                                     struct assent_error *err);

#ifdef __cplusplus
}
#endif

#endif /* ASSENT_CLIENT_H */
