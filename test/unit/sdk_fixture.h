/*
 * sdk_fixture.h - what the tests of libassent share: a private PostgreSQL, calls, a business.
 */
#ifndef TEST_SDK_FIXTURE_H
#define TEST_SDK_FIXTURE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "participants/sdk/assent.h"

/* A PostgreSQL of this test's own, with the participant's schema and a table effect (gid, n, op).
 * False with a sentence on stderr when it cannot be had. */
bool fixture_start(void);
/* Stops it and removes its directory. */
void fixture_stop(void);
const char *fixture_conninfo(void);
/* Kills the server's processes, and starts them again. */
void fixture_crash(void);
void fixture_resume(void);
/* A new connection; asserts that there is one. */
PGconn *fixture_connect(void);

/* The first column of the first row as a number; asserts that the statement works. */
int fixture_number(PGconn *conn, const char *format, ...) __attribute__((format(printf, 2, 3)));
void fixture_exec(PGconn *conn, const char *sql);
int fixture_prepared(PGconn *conn);
/* How often the business effect of `gid` is there. */
int fixture_effects(PGconn *conn, const char *gid);
/* Of one operation; "cancel+" are the cancels that were told of a confirm. */
int fixture_effects_of(PGconn *conn, const char *gid, const char *op);

/* Of the calls made from here on. */
void fixture_namespace(const char *name);
void fixture_branch(const char *name);
/* The terms of can_commit and pre_commit from here on; the strings are kept. */
void fixture_terms(int hold_ms, const char *new_peers, const char *new_on_timeout);
/* A call with the default terms; op "intent" is an abort with Assent-Intent: true, "status" the
 * question of a peer, and op "one_phase" is a commit with Assent-One-Phase: true, "cancel+"
 * a cancel with Assent-May-Be-Confirmed: true. */
struct assent_call *fixture_call(const char *gid, const char *op);
struct assent_call *fixture_call_ms(const char *gid, const char *op, int timeout_ms);

/* The business: a row per run. Its orders, so that a test decides how it goes. */
struct business {
	atomic_int n_run;
	enum assent_vote vote;
	const char *result; /* JSON, or NULL */
	const char *sql;    /* run after the row, or NULL */
	int cut;            /* the connection dies at the end of the work */
};
enum assent_vote fixture_work(const struct assent_call *call, PGconn *conn,
                              struct assent_reply *reply, void *ctx);

/* Does `op` of `gid` with `business` and returns the status; the reply's body goes to `body`
 * (256 bytes) unless it is NULL. */
int fixture_do(PGconn *conn, const char *gid, const char *op, struct business *business,
               char *body);
int fixture_do_ms(PGconn *conn, const char *gid, const char *op, int timeout_ms,
                  struct business *business, char *body);

#endif /* TEST_SDK_FIXTURE_H */
