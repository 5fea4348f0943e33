/*
 * test_sdk_misuse.c - libassent called without objects, without parts of them, and in the wrong
 * order: a checked error each time, never a crash. structure.py demands that every function of
 * assent.h is in here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "sdk_fixture.h"

#define INVALID(expression) assert_int_equal(expression, ASSENT_E_INVALID)

static PGconn *conn;
static struct assent_error err;
static struct assent_result result;

static const char *no_header(void *ctx, const char *name)
{
	(void)ctx;
	(void)name;
	return NULL;
}

static void take_header(void *ctx, const char *name, const char *value)
{
	(void)ctx;
	(void)name;
	(void)value;
	fail();
}

static void no_route(const char *body, size_t len, PGconn *c, struct assent_reply *reply, void *ctx)
{
	(void)body;
	(void)len;
	(void)c;
	(void)reply;
	(void)ctx;
}

/* ---- a call, its reply, its signature ---- */

static void calls(void **state)
{
	struct assent_call *call = NULL;
	size_t len = 1;

	(void)state;
	INVALID(assent_call_new(NULL, no_header, NULL, "", 0, &err));
	INVALID(assent_call_new(&call, NULL, NULL, "", 0, &err));
	INVALID(assent_call_new(&call, no_header, NULL, NULL, 1, &err));
	INVALID(assent_call_new(&call, no_header, NULL, "", SIZE_MAX, &err));
	INVALID(assent_call_new(&call, no_header, NULL, NULL, 0, NULL));
	INVALID(assent_call_new_status(NULL, no_header, NULL, &err));
	INVALID(assent_call_new_status(&call, NULL, NULL, &err));
	INVALID(assent_call_new_status(&call, no_header, NULL, NULL));
	assert_null(call);
	assert_string_equal(assent_call_cluster(NULL), "");
	assert_string_equal(assent_call_namespace(NULL), "");
	assert_string_equal(assent_call_gid(NULL), "");
	assert_string_equal(assent_call_branch(NULL), "");
	assert_string_equal(assent_call_op(NULL), "");
	assert_string_equal(assent_call_body(NULL, &len), "");
	assert_string_equal(assent_call_body(NULL, NULL), "");
	assert_int_equal(len, 0);
	assert_int_equal(assent_call_attempt(NULL), 0);
	assert_int_equal(assent_call_one_phase(NULL), 0);
	assert_int_equal(assent_call_confirmed(NULL), 0);
	assert_int_equal(assent_call_remaining_ms(NULL), 0);
	assent_call_free(NULL);
	assert_non_null(assent_err_str(4711));
}

static void replies(void **state)
{
	struct assent_reply *reply = assent_reply_new();
	PGresult *lost = NULL;
	size_t len = 1;

	(void)state;
	/* What could not be made says "ask again". */
	assert_int_equal(assent_reply_status(NULL), 503);
	assert_string_equal(assent_reply_body(NULL, &len), "");
	assert_int_equal(len, 0);
	assent_reply_set(NULL, 200, "{}", 2);
	assent_reply_set(reply, 200, NULL, 2);
	assert_string_equal(assent_reply_body(reply, NULL), "");
	assent_reply_reason(NULL, 409, "%s", "x");
	assert_int_equal(assent_refuse(NULL, "%s", "x"), ASSENT_REFUSED);
	assert_int_equal(assent_sql_failed(NULL, lost), ASSENT_FAILED);
	assert_int_equal(assent_sql_failed(reply, lost), ASSENT_FAILED);
	assert_int_equal(assent_reply_status(reply), 503);
	assent_reply_free(reply);
	assent_reply_free(NULL);
}

static void signatures(void **state)
{
	struct assent_call *call = fixture_call("m", "prepare");
	struct assent_verifier *verifier = NULL;

	(void)state;
	INVALID(assent_verifier_new(NULL, "sixteen-bytes-or-more", &err));
	INVALID(assent_verifier_new(&verifier, NULL, &err));
	INVALID(assent_verifier_load(NULL, "/dev/null", &err));
	INVALID(assent_verifier_load(&verifier, NULL, &err));
	assert_null(verifier);
	assert_int_equal(assent_verifier_new(&verifier, "sixteen-bytes-or-more", NULL), 0);
	INVALID(assent_verify(NULL, call, no_header, NULL, &err));
	INVALID(assent_verify(verifier, NULL, no_header, NULL, &err));
	INVALID(assent_verify(verifier, call, NULL, NULL, &err));
	INVALID(assent_verify(verifier, call, no_header, NULL, NULL));
	assent_verifier_free(verifier);
	assent_verifier_free(NULL);
	assent_call_free(call);
}

/* ---- a branch ---- */

typedef void with_work_fn(PGconn *c, const struct assent_call *call, assent_work_fn *work,
                          void *ctx, struct assent_reply *reply);
typedef void without_work_fn(PGconn *c, const struct assent_call *call, struct assent_reply *reply);

static void without_work(const char *op, without_work_fn *fn)
{
	struct assent_call *call = fixture_call("m", op);
	struct assent_reply *reply = assent_reply_new();

	fn(NULL, NULL, NULL);
	fn(conn, call, NULL);
	fn(conn, NULL, reply);
	assert_int_equal(assent_reply_status(reply), 500);
	fn(NULL, call, reply);
	assert_int_equal(assent_reply_status(reply), 503);
	fixture_exec(conn, "BEGIN");
	fn(conn, call, reply);
	assert_int_equal(assent_reply_status(reply), 500);
	assert_int_equal(PQtransactionStatus(conn), PQTRANS_INTRANS);
	fixture_exec(conn, "ROLLBACK");
	assent_reply_free(reply);
	assent_call_free(call);
}

static with_work_fn *tried;

static void try_without(PGconn *c, const struct assent_call *call, struct assent_reply *reply)
{
	tried(c, call, fixture_work, NULL, reply);
}

static void with_work(const char *op, with_work_fn *fn, int status_without)
{
	struct assent_call *call = fixture_call("n", op);
	struct assent_reply *reply = assent_reply_new();

	tried = fn;
	without_work(op, try_without);
	fn(conn, call, NULL, NULL, reply);
	assert_int_equal(assent_reply_status(reply), status_without);
	assert_int_equal(PQtransactionStatus(conn), PQTRANS_IDLE);
	assert_int_equal(fixture_prepared(conn), 0);
	assent_reply_free(reply);
	assent_call_free(call);
}

static void branches(void **state)
{
	(void)state;
	with_work("prepare", assent_prepare, 500);
	with_work("one_phase", assent_commit, 500);
	without_work("rollback", assent_rollback);
	with_work("try", assent_run_once, 500);
	with_work("can_commit", assent_can_commit, 200);
	with_work("pre_commit", assent_pre_commit, 500);
	without_work("do_commit", assent_do_commit);
	without_work("abort", assent_abort);
	without_work("status", assent_status);
}

static void the_barrier(void **state)
{
	struct assent_call *call = fixture_call("m", "try");
	struct assent_reply *reply = assent_reply_new();

	(void)state;
	INVALID(assent_barrier_enter(NULL, call, reply, &err));
	INVALID(assent_barrier_enter(conn, NULL, reply, &err));
	INVALID(assent_barrier_enter(conn, call, NULL, &err));
	INVALID(assent_barrier_enter(conn, call, reply, NULL));
	INVALID(assent_barrier_store(NULL, call, reply, &err));
	INVALID(assent_barrier_store(conn, NULL, reply, &err));
	INVALID(assent_barrier_store(conn, call, NULL, &err));
	INVALID(assent_barrier_store(conn, call, reply, NULL));
	fixture_exec(conn, "BEGIN");
	INVALID(assent_participant_install(conn, &err));
	fixture_exec(conn, "ROLLBACK");
	assert_null(assent_exec(NULL, "SELECT 1", call));
	assert_null(assent_exec(conn, NULL, call));
	PQclear(assent_exec(conn, "SELECT $1::text", NULL));
	assert_int_equal(assent_participant_install(NULL, &err), ASSENT_E_UNREACHABLE);
	assert_int_equal(assent_participant_check(NULL, &err), ASSENT_E_UNREACHABLE);
	assert_int_equal(assent_participant_check(NULL, NULL), ASSENT_E_UNREACHABLE);
	assert_int_equal(assent_participant_purge(NULL, 90000, 1, &(int){0}, &err),
	                 ASSENT_E_UNREACHABLE);
	INVALID(assent_participant_purge(conn, 90000, 1, NULL, &err));
	assent_reply_free(reply);
	assent_call_free(call);
}

static void the_sweep(void **state)
{
	struct assent_participant_options options = {0};
	struct assent_participant *participant;
	struct assent_tick_report report;

	(void)state;
	INVALID(assent_participant_new(NULL, &options, &err));
	INVALID(assent_participant_new(&participant, NULL, &err));
	INVALID(assent_participant_new(&participant, &options, NULL));
	assert_null(participant);
	options.coordinators = "http://127.0.0.1:1";
	assert_int_equal(assent_participant_new(&participant, &options, &err), 0);
	INVALID(assent_participant_tick(NULL, conn, &report, &err));
	assert_int_equal(assent_participant_tick(participant, NULL, &report, &err),
	                 ASSENT_E_UNREACHABLE);
	assert_int_equal(assent_participant_tick(participant, conn, NULL, NULL), 0);
	assent_participant_stop(participant);
	assent_participant_stop(NULL);
	assert_int_equal(assent_participant_tick(participant, conn, NULL, NULL), 0);
	assent_participant_free(participant);
	assent_participant_free(NULL);
}

/* A program that was compiled for another libassent: with less in the struct, what is behind it is
 * not the library's to look at or to write; with more, that is nothing as long as it is 0. */
static void structs_of_another_size(void **state)
{
	struct {
		struct assent_server_options known;
		long new_one;
	} server = {.known = {.listen = "127.0.0.1:0", .database = fixture_conninfo()}};
	struct {
		struct assent_participant_options known;
		long new_one;
	} options = {.known = {.coordinators = "http://127.0.0.1:1", .peers = "not a URL"}};
	size_t peers_at = offsetof(struct assent_participant_options, peers);
	struct assent_participant *p;
	struct assent_tick_report report;
	struct assent_server *s;

	(void)state;
	assert_int_equal(assent_participant_new_sized(&p, &options.known, peers_at, &err), 0);
	memset(&report, 0x55, sizeof(report));
	assert_int_equal(assent_participant_tick_sized(
	                     p, conn, &report, offsetof(struct assent_tick_report, failure), &err),
	                 0);
	assert_int_equal(report.n_failed, 0);
	assert_int_equal(report.failure[0], 0x55);
	assent_participant_free(p);
	INVALID(assent_participant_new_sized(&p, &options.known, sizeof(options.known), &err));
	options.known.peers = NULL;
	assert_int_equal(assent_participant_new_sized(&p, &options.known, sizeof(options), &err),
	                 0);
	assent_participant_free(p);
	options.new_one = 1;
	INVALID(assent_participant_new_sized(&p, &options.known, sizeof(options), &err));
	assert_non_null(strstr(err.text, "newer"));
	assert_null(p);

	s = assent_server_new_sized(&server.known, sizeof(server), &err);
	assert_non_null(s);
	assent_server_free(s);
	server.new_one = 1;
	assert_null(assent_server_new_sized(&server.known, sizeof(server), &err));
	assert_null(assent_server_new_sized(NULL, sizeof(server), &err));
}

/* ---- a server ---- */

static void servers_without(void **state)
{
	struct assent_server_options options = {.listen = "127.0.0.1:0"};
	struct assent_server *server;

	(void)state;
	assert_null(assent_server_new(NULL, &err));
	assert_null(assent_server_new(&options, NULL));
	options.database = fixture_conninfo();
	server = assent_server_new(&options, &err);
	assert_non_null(server);
	INVALID(assent_server_on(NULL, "/x", "prepare", fixture_work, NULL, &err));
	INVALID(assent_server_on(server, NULL, "prepare", fixture_work, NULL, &err));
	INVALID(assent_server_on(server, "/x", NULL, fixture_work, NULL, &err));
	INVALID(assent_server_on(server, "/x", "prepare", NULL, NULL, NULL));
	INVALID(assent_server_route(NULL, "GET", "/x", no_route, NULL, &err));
	INVALID(assent_server_route(server, NULL, "/x", no_route, NULL, &err));
	INVALID(assent_server_route(server, "GET", NULL, no_route, NULL, &err));
	INVALID(assent_server_route(server, "GET", "/x", NULL, NULL, NULL));
	INVALID(assent_server_start(NULL, &err));
	assert_string_equal(assent_server_url(NULL), "");
	assent_server_run(NULL);
	assent_server_stop(NULL);
	assent_server_free(NULL);
	assent_server_free(server);
}

static void servers_out_of_order(void **state)
{
	struct assent_server_options options = {.listen = "127.0.0.1:0"};
	struct assent_server *server;

	(void)state;
	options.database = fixture_conninfo();
	server = assent_server_new(&options, &err);
	assert_string_equal(assent_server_url(server), "");
	assent_server_run(server); /* there is nothing to run */
	assent_server_stop(server);
	assert_int_equal(assent_server_on(server, "/x", "prepare", fixture_work, NULL, &err), 0);
	assert_int_equal(assent_server_start(server, &err), 0);
	INVALID(assent_server_start(server, &err));
	INVALID(assent_server_on(server, "/y", "prepare", fixture_work, NULL, &err));
	INVALID(assent_server_route(server, "GET", "/y", no_route, NULL, &err));
	assent_server_stop(server);
	assent_server_run(server);
	assent_server_run(server);
	assent_server_free(server);
}

/* ---- an initiator ---- */

static void transactions(void **state)
{
	struct assent_txn *txn = assent_txn_new("g", "tcc", 0, &err);

	(void)state;
	assert_null(assent_txn_new(NULL, "tcc", 0, &err));
	assert_null(assent_txn_new("g", NULL, 0, NULL));
	INVALID(assent_txn_option(NULL, "recovery", "forward", &err));
	INVALID(assent_txn_option(txn, NULL, "forward", &err));
	INVALID(assent_txn_option(txn, "recovery", NULL, NULL));
	INVALID(assent_txn_branch_option(NULL, "timeout_ms", "1", &err));
	INVALID(assent_txn_branch_option(txn, "timeout_ms", "1", &err));
	INVALID(assent_txn_after(txn, "a", &err));
	INVALID(assent_txn_add_branch(NULL, "a", "http://x", NULL, &err));
	INVALID(assent_txn_add_branch(txn, NULL, "http://x", NULL, &err));
	INVALID(assent_txn_add_branch(txn, "a", NULL, NULL, &err));
	assert_int_equal(assent_txn_add_branch(txn, "a", "http://x", NULL, NULL), 0);
	INVALID(assent_txn_branch_option(txn, NULL, "1", &err));
	INVALID(assent_txn_branch_option(txn, "timeout_ms", NULL, &err));
	INVALID(assent_txn_after(NULL, "b", &err));
	INVALID(assent_txn_after(txn, NULL, NULL));
	INVALID(assent_txn_option(txn, "recovery", "forward", &err));
	assent_txn_free(txn);
	assent_txn_free(NULL);
}

static void clients(void **state)
{
	struct assent_client *client = assent_client_new("http://127.0.0.1:1", &err);
	struct assent_txn *txn = assent_txn_new("g", "tcc", 0, &err);
	struct assent_attempt attempt = {.op = "try", .number = 1, .timeout_ms = 1};

	(void)state;
	assert_null(assent_client_new(NULL, &err));
	INVALID(assent_client_load_token(NULL, "/dev/null", &err));
	INVALID(assent_client_load_token(client, NULL, &err));
	INVALID(assent_client_load_secret(NULL, "/dev/null", &err));
	INVALID(assent_client_load_secret(client, NULL, &err));
	INVALID(assent_client_set_patience(NULL, 1, &err));
	assert_int_equal(assent_client_set_patience(client, 10, NULL), 0);
	INVALID(assent_submit(NULL, txn, 0, &result, &err));
	INVALID(assent_submit(client, NULL, 0, &result, &err));
	INVALID(assent_submit(client, txn, 0, &result, &err)); /* no branch */
	INVALID(assent_enlist(client, txn, NULL, &err));
	INVALID(assent_try(client, txn, 1, NULL, &err));
	INVALID(assent_branch_headers(client, txn, &attempt, take_header, NULL, &err));
	assert_int_equal(assent_txn_add_branch(txn, "a", "http://127.0.0.1:1", NULL, &err), 0);
	INVALID(assent_submit(client, txn, -1, &result, NULL));
	INVALID(assent_get(NULL, "g", &result, &err));
	INVALID(assent_get(client, NULL, &result, &err));
	INVALID(assent_wait(NULL, "g", 0, &result, &err));
	INVALID(assent_wait(client, NULL, 0, &result, &err));
	INVALID(assent_wait(client, "g", -1, &result, &err));
	INVALID(assent_begin(NULL, txn, &result, &err));
	INVALID(assent_begin(client, NULL, &result, &err));
	INVALID(assent_enlist(NULL, txn, &result, &err));
	INVALID(assent_enlist(client, NULL, &result, &err));
	INVALID(assent_request_commit(NULL, "g", 0, &result, &err));
	INVALID(assent_request_commit(client, NULL, 0, &result, &err));
	INVALID(assent_request_rollback(NULL, "g", 0, &result, &err));
	INVALID(assent_request_rollback(client, NULL, 0, &result, &err));
	INVALID(assent_try(NULL, txn, 1, NULL, &err));
	INVALID(assent_try(client, NULL, 1, NULL, &err));
	INVALID(assent_try(client, txn, 0, NULL, &err));
	INVALID(assent_branch_headers(NULL, txn, &attempt, take_header, NULL, &err));
	INVALID(assent_branch_headers(client, NULL, &attempt, take_header, NULL, &err));
	INVALID(assent_branch_headers(client, txn, NULL, take_header, NULL, &err));
	INVALID(assent_branch_headers(client, txn, &attempt, NULL, NULL, &err));
	attempt.op = NULL;
	INVALID(assent_branch_headers(client, txn, &attempt, take_header, NULL, &err));
	/* Nobody is there, and nobody wants to know. */
	assert_int_equal(assent_submit(client, txn, 0, NULL, NULL), ASSENT_E_UNREACHABLE);
	assert_int_equal(assent_get(client, "g", NULL, NULL), ASSENT_E_UNREACHABLE);
	assert_int_equal(assent_wait(client, "g", 0, NULL, NULL), ASSENT_E_UNREACHABLE);
	assert_int_equal(assent_begin(client, txn, NULL, NULL), ASSENT_E_UNREACHABLE);
	assert_int_equal(assent_try(client, txn, 1, NULL, NULL), ASSENT_E_UNREACHABLE);
	assent_txn_free(txn);
	assent_client_free(client);
	assent_client_free(NULL);
}

static int setup(void **state)
{
	(void)state;
	if (!fixture_start())
		return -1;
	conn = fixture_connect();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	PQfinish(conn);
	fixture_stop();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(calls),
	    cmocka_unit_test(replies),
	    cmocka_unit_test(signatures),
	    cmocka_unit_test(branches),
	    cmocka_unit_test(the_barrier),
	    cmocka_unit_test(the_sweep),
	    cmocka_unit_test(servers_without),
	    cmocka_unit_test(servers_out_of_order),
	    cmocka_unit_test(transactions),
	    cmocka_unit_test(clients),
	    cmocka_unit_test(structs_of_another_size),
	};

	return cmocka_run_group_tests_name("sdk_misuse", tests, setup, teardown);
}
