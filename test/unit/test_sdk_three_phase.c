/*
 * test_sdk_three_phase.c - the calls of a branch under three-phase commit, against PostgreSQL: the
 * rules one by one, and who comes first when two come at once.
 *
 * "intent" is an abort with Assent-Intent: true, "status" a peer's question (sdk_fixture.h).
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "sdk_fixture.h"

#define DEADLINE_S 30

static PGconn *conn;
static char body[256];
static struct business yes;

static int doing(const char *gid, const char *op)
{
	return fixture_do(conn, gid, op, &yes, body);
}

static void assert_says(const char *member, const char *value)
{
	char text[64];

	snprintf(text, sizeof(text), "\"%s\":\"%s\"", member, value);
	assert_non_null(strstr(body, text));
}

static void assert_refused(const char *gid, const char *op, const char *outcome)
{
	assert_int_equal(doing(gid, op), 409);
	assert_says("outcome", outcome);
}

/* A poll, and what it says. */
static void assert_status(const char *gid, const char *state)
{
	assert_int_equal(doing(gid, "status"), 200);
	assert_says("state", state);
	assert_says("gid", gid);
	assert_says("cluster", "c0ffee00");
	assert_says("branch", "b");
}

/* As every test of a branch ends: what it has come to is told for ever. */
static void assert_committed(const char *gid)
{
	assert_int_equal(fixture_prepared(conn), 0);
	assert_int_equal(fixture_effects(conn, gid), 1);
	assert_int_equal(doing(gid, "do_commit"), 200);
	assert_refused(gid, "pre_commit", "committed");
	assert_refused(gid, "abort", "committed");
	assert_refused(gid, "intent", "committed");
	assert_status(gid, "committed");
	assert_int_equal(fixture_effects(conn, gid), 1);
}

static void assert_aborted(const char *gid)
{
	assert_int_equal(fixture_prepared(conn), 0);
	assert_refused(gid, "pre_commit", "aborted"); /* first: the others bind it */
	assert_int_equal(doing(gid, "abort"), 200);
	assert_int_equal(doing(gid, "intent"), 200);
	assert_refused(gid, "can_commit", "aborted");
	assert_refused(gid, "do_commit", "aborted");
	assert_status(gid, "aborted");
	assert_int_equal(fixture_effects(conn, gid), 0);
	assert_int_equal(fixture_prepared(conn), 0);
}

/* ---- the rules ---- */

static void a_yes_is_committed(void **state)
{
	struct business b = {.result = "{\"price\": 19.990}"};

	(void)state;
	assert_int_equal(doing("c", "can_commit"), 200);
	assert_int_equal(doing("c", "can_commit"), 200);
	assert_int_equal(fixture_prepared(conn), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(fixture_do(conn, "c", "pre_commit", &b, body), 200);
		assert_string_equal(body, b.result);
	}
	assert_int_equal(b.n_run, 1);
	assert_int_equal(fixture_prepared(conn), 1);
	assert_int_equal(doing("c", "can_commit"), 200);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(doing("c", "do_commit"), 200);
		assert_string_equal(body, "");
	}
	assert_committed("c");
}

static void a_no_is_not_bound_by_itself(void **state)
{
	struct business no = {.vote = ASSENT_REFUSED}, later = {.vote = ASSENT_FAILED};

	(void)state;
	assert_int_equal(fixture_do(conn, "n", "can_commit", &no, body), 409);
	assert_null(strstr(body, "outcome"));
	assert_int_equal(fixture_do(conn, "n", "pre_commit", &no, body), 409);
	assert_null(strstr(body, "outcome"));
	assert_int_equal(fixture_do(conn, "n", "pre_commit", &later, NULL), 503);
	assert_int_equal(doing("n", "pre_commit"), 200);
	assert_int_equal(doing("n", "intent"), 200);
	assert_aborted("n");
}

static int n_facts(const char *gid)
{
	return fixture_number(
	    conn, "SELECT count(*) FROM assent_participant.branch WHERE gid = '%s'", gid);
}

static void can_commit_locks_nothing(void **state)
{
	struct business writes = {.sql = "UPDATE goods SET n = n - 1"};
	struct business looks = {.sql = "SELECT FROM goods FOR UPDATE"};
	struct business out = {.vote = ASSENT_READ_ONLY};

	(void)state;
	assert_int_equal(fixture_do(conn, "k", "can_commit", &writes, body), 500);
	assert_non_null(strstr(body, "read-only"));
	assert_int_equal(fixture_do(conn, "k", "can_commit", &looks, body), 500);
	assert_int_equal(n_facts("k"), 0);
	/* This one may step aside, and then nothing has to be remembered. */
	assert_int_equal(fixture_do(conn, "k", "can_commit", &out, body), 200);
	assert_says("vote", "read_only");
	assert_int_equal(n_facts("k"), 0);
	assert_int_equal(doing("k", "can_commit"), 200);
	assert_int_equal(n_facts("k"), 1);
}

static void read_only_comes_too_late_with_pre_commit(void **state)
{
	struct business out = {.vote = ASSENT_READ_ONLY};

	(void)state;
	assert_int_equal(fixture_do(conn, "ro", "pre_commit", &out, body), 200);
	assert_null(strstr(body, "read_only"));
	assert_int_equal(fixture_prepared(conn), 1);
	assert_int_equal(doing("ro", "do_commit"), 200);
	assert_committed("ro");
}

static void abort_of_anything_is_remembered(void **state)
{
	(void)state;
	assert_int_equal(doing("a0", "abort"), 200);
	assert_aborted("a0");
	assert_int_equal(doing("a1", "can_commit"), 200);
	assert_int_equal(doing("a1", "intent"), 200);
	assert_aborted("a1");
	assert_int_equal(doing("a2", "pre_commit"), 200);
	assert_int_equal(doing("a2", "abort"), 200);
	assert_aborted("a2");
}

/* Who says aborted has to stay with it. */
static void do_commit_of_nothing_binds(void **state)
{
	(void)state;
	assert_refused("d", "do_commit", "aborted");
	assert_aborted("d");
}

static void a_poll_binds_what_is_not_pre_committed(void **state)
{
	(void)state;
	assert_status("p0", "aborted");
	assert_aborted("p0");
	assert_int_equal(doing("p1", "can_commit"), 200);
	assert_status("p1", "aborted");
	assert_aborted("p1");
}

static void a_poll_makes_it_vouch(void **state)
{
	(void)state;
	assert_int_equal(doing("v", "pre_commit"), 200);
	assert_status("v", "pre_committed");
	/* After this no wish to abort is taken, however often, and a restart changes nothing. */
	fixture_crash();
	fixture_resume();
	PQreset(conn);
	assert_refused("v", "intent", "pre_committed");
	assert_refused("v", "intent", "pre_committed");
	assert_status("v", "pre_committed");
	assert_int_equal(doing("v", "pre_commit"), 200);
	assert_int_equal(doing("v", "do_commit"), 200);
	assert_committed("v");

	/* A decision is none. */
	assert_int_equal(doing("w", "pre_commit"), 200);
	assert_status("w", "pre_committed");
	assert_int_equal(doing("w", "abort"), 200);
	assert_aborted("w");
}

static void late_calls(void **state)
{
	(void)state;
	assert_int_equal(fixture_do_ms(conn, "l", "can_commit", 0, &yes, body), 409);
	assert_int_equal(fixture_do_ms(conn, "l", "pre_commit", -1, &yes, body), 409);
	assert_null(strstr(body, "outcome"));
	assert_int_equal(n_facts("l"), 0);
	yes.n_run = 0;
	assert_int_equal(doing("l", "pre_commit"), 200);
	assert_int_equal(fixture_do_ms(conn, "l", "pre_commit", -1, &yes, NULL), 200);
	assert_int_equal(yes.n_run, 1);
	assert_int_equal(doing("l", "abort"), 200);
	assert_aborted("l");
}

/* Under REPEATABLE READ a statement does not see what was committed since its transaction began. */
static void another_isolation_level(void **state)
{
	(void)state;
	fixture_exec(conn, "SET default_transaction_isolation = 'repeatable read'");
	assert_int_equal(doing("i", "can_commit"), 200);
	assert_int_equal(doing("i", "pre_commit"), 200);
	assert_status("i", "pre_committed");
	assert_int_equal(doing("i", "do_commit"), 200);
	assert_committed("i");
	assert_int_equal(doing("i2", "pre_commit"), 200);
	assert_int_equal(doing("i2", "intent"), 200);
	assert_aborted("i2");
	fixture_exec(conn, "RESET default_transaction_isolation");
}

static void finish_by_hand(const char *gid, const char *verb)
{
	char sql[128];

	snprintf(sql, sizeof(sql), "%s PREPARED 'assent:c0ffee00:default:%s:b'", verb, gid);
	fixture_exec(conn, sql);
}

static void what_was_finished_by_hand_is_told(void **state)
{
	(void)state;
	assert_int_equal(doing("h1", "pre_commit"), 200);
	finish_by_hand("h1", "COMMIT");
	assert_status("h1", "committed");
	assert_committed("h1");
	assert_int_equal(doing("h2", "pre_commit"), 200);
	finish_by_hand("h2", "ROLLBACK");
	assert_status("h2", "aborted");
	assert_aborted("h2");
	/* After the decision, before it was carried out. */
	assert_int_equal(doing("h3", "pre_commit"), 200);
	fixture_exec(conn, "SELECT assent_participant.settle('c0ffee00', 'default', 'h3', 'b',"
	                   " 'assent:c0ffee00:default:h3:b', 1000, 'commit', NULL, NULL)");
	finish_by_hand("h3", "ROLLBACK");
	assert_refused("h3", "do_commit", "aborted");
	assert_non_null(strstr(body, "by hand"));
}

/* A decision that was made, and its process died: the next call of any kind carries it out. */
static void the_next_call_carries_it_out(void **state)
{
	static const char *const next[][2] = {{"do_commit", "commit"}, {"pre_commit", "commit"},
	                                      {"status", "commit"},    {"abort", "abort"},
	                                      {"intent", "abort"},     {"status", "abort"}};

	(void)state;
	for (size_t i = 0; i < sizeof(next) / sizeof(next[0]); i++) {
		char gid[16], sql[256];

		snprintf(gid, sizeof(gid), "o%zu", i);
		assert_int_equal(doing(gid, "pre_commit"), 200);
		snprintf(sql, sizeof(sql),
		         "SELECT assent_participant.settle('c0ffee00', 'default', '%s', 'b',"
		         " 'assent:c0ffee00:default:%s:b', 1000, '%s', NULL, NULL)",
		         gid, gid, next[i][1]);
		fixture_exec(conn, sql);
		assert_int_equal(fixture_prepared(conn), 1);
		doing(gid, next[i][0]);
		if (strcmp(next[i][0], "pre_commit") == 0)
			doing(gid, "do_commit");
		if (strcmp(next[i][1], "commit") == 0)
			assert_committed(gid);
		else
			assert_aborted(gid);
	}
}

/* ---- two at once ---- */

struct caller {
	pthread_t thread;
	const char *gid, *op;
	struct business business;
	int status;
	char body[256];
};

static void *call_it(void *arg)
{
	struct caller *c = arg;
	PGconn *own = fixture_connect();

	c->status = fixture_do(own, c->gid, c->op, &c->business, c->body);
	PQfinish(own);
	return NULL;
}

static void start(struct caller *c, const char *gid, const char *op, const char *sql)
{
	*c = (struct caller){.gid = gid, .op = op, .business.sql = sql};
	assert_int_equal(pthread_create(&c->thread, NULL, call_it, c), 0);
}

static void wait_until_waiting_for(const char *kind)
{
	time_t until = time(NULL) + DEADLINE_S;

	while (fixture_number(conn,
	                      "SELECT count(*) FROM pg_locks WHERE NOT granted"
	                      " AND locktype = '%s'",
	                      kind) != 1)
		assert_true(time(NULL) < until);
}

/* The work of pre_commit stands still while the other call is answered; then it goes on. */
static void during_the_work(const char *gid, const char *op, int status)
{
	struct caller working;

	fixture_exec(conn, "SELECT pg_advisory_lock(1)");
	start(&working, gid, "pre_commit", "SELECT pg_advisory_xact_lock(1)");
	wait_until_waiting_for("advisory");
	assert_int_equal(doing(gid, op), status);
	fixture_exec(conn, "SELECT pg_advisory_unlock(1)");
	pthread_join(working.thread, NULL);
	assert_int_equal(working.status, 409);
	assert_non_null(strstr(working.body, "\"outcome\":\"aborted\""));
	assert_aborted(gid);
}

static void pre_commit_gives_way_to_what_came_during_its_work(void **state)
{
	(void)state;
	during_the_work("r1", "status", 200);
	during_the_work("r2", "abort", 200);
	during_the_work("r3", "intent", 200);
	during_the_work("r4", "do_commit", 409);
}

/* A poll holds the row: PREPARE TRANSACTION comes before its answer, the yes must not. */
static void a_poll_that_came_first_wins(void **state)
{
	PGconn *peer = fixture_connect();
	time_t until = time(NULL) + DEADLINE_S;
	struct caller working;

	(void)state;
	assert_int_equal(doing("x", "can_commit"), 200);
	fixture_exec(conn, "SELECT pg_advisory_lock(1)");
	start(&working, "x", "pre_commit", "SELECT pg_advisory_xact_lock(1)");
	wait_until_waiting_for("advisory");
	fixture_exec(peer, "BEGIN");
	fixture_exec(peer, "SELECT assent_participant.settle('c0ffee00', 'default', 'x', 'b',"
	                   " 'assent:c0ffee00:default:x:b', 1000, 'poll', NULL, NULL)");
	fixture_exec(conn, "SELECT pg_advisory_unlock(1)");
	while (fixture_prepared(conn) == 0)
		assert_true(time(NULL) < until);
	/* Prepared, and about to say yes: the peer's row stands in its way. */
	wait_until_waiting_for("transactionid");
	fixture_exec(peer, "COMMIT");
	pthread_join(working.thread, NULL);
	assert_int_equal(working.status, 409);
	assert_aborted("x");
	PQfinish(peer);
}

static void two_pre_commits_do_it_once(void **state)
{
	struct caller a, b;

	(void)state;
	fixture_exec(conn, "SELECT pg_advisory_lock(1)");
	start(&a, "t", "pre_commit", "SELECT pg_advisory_xact_lock(1)");
	wait_until_waiting_for("advisory");
	start(&b, "t", "pre_commit", NULL);
	fixture_exec(conn, "SELECT pg_advisory_unlock(1)");
	pthread_join(a.thread, NULL);
	pthread_join(b.thread, NULL);
	assert_int_equal(a.status, 200);
	assert_int_equal(b.status, 200);
	assert_int_equal(fixture_prepared(conn), 1);
	assert_int_equal(doing("t", "do_commit"), 200);
	assert_committed("t");
}

/* Calls wait for a row by slices, and stand in line anew after each. */
static const char repetition_is_first[] =
    "WITH w AS (SELECT query, waitstart FROM pg_locks l JOIN pg_stat_activity USING (pid)"
    "            WHERE NOT granted)"
    " SELECT count(*) FROM w o JOIN w s ON o.waitstart < s.waitstart"
    "  WHERE o.query LIKE '%%open_branch%%' AND s.query LIKE '%%settle%%'";

/* PREPARE TRANSACTION has come before the result is kept, and the repetition in between. */
static void a_repetition_has_the_result(void **state)
{
	PGconn *holder = fixture_connect();
	struct caller a, b;

	(void)state;
	for (int i = 0; i < 2; i++) {
		time_t until = time(NULL) + DEADLINE_S;
		char gid[16], sql[128];

		snprintf(gid, sizeof(gid), "res%d", i);
		assert_int_equal(doing(gid, "can_commit"), 200);
		fixture_exec(conn, "SELECT pg_advisory_lock(1)");
		start(&a, gid, "pre_commit", "SELECT pg_advisory_xact_lock(1)");
		a.business.result = "{\"n\":1}";
		wait_until_waiting_for("advisory");
		fixture_exec(holder, "BEGIN");
		snprintf(sql, sizeof(sql),
		         "SELECT FROM assent_participant.branch WHERE gid = '%s' FOR UPDATE", gid);
		fixture_exec(holder, sql);
		fixture_exec(conn, "SELECT pg_advisory_unlock(1)");
		while (fixture_prepared(conn) == 0)
			assert_true(time(NULL) < until);
		start(&b, gid, "pre_commit", NULL);
		while (fixture_number(conn, repetition_is_first) == 0)
			assert_true(time(NULL) < until);
		fixture_exec(holder, "COMMIT");
		pthread_join(a.thread, NULL);
		pthread_join(b.thread, NULL);
		assert_int_equal(a.status, 200);
		assert_int_equal(b.status, 200);
		assert_string_equal(a.body, "{\"n\":1}");
		assert_string_equal(b.body, "{\"n\":1}");
		assert_int_equal(doing(gid, "abort"), 200);
	}
	PQfinish(holder);
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
	    cmocka_unit_test(a_yes_is_committed),
	    cmocka_unit_test(a_no_is_not_bound_by_itself),
	    cmocka_unit_test(can_commit_locks_nothing),
	    cmocka_unit_test(read_only_comes_too_late_with_pre_commit),
	    cmocka_unit_test(abort_of_anything_is_remembered),
	    cmocka_unit_test(do_commit_of_nothing_binds),
	    cmocka_unit_test(a_poll_binds_what_is_not_pre_committed),
	    cmocka_unit_test(a_poll_makes_it_vouch),
	    cmocka_unit_test(late_calls),
	    cmocka_unit_test(another_isolation_level),
	    cmocka_unit_test(what_was_finished_by_hand_is_told),
	    cmocka_unit_test(the_next_call_carries_it_out),
	    cmocka_unit_test(pre_commit_gives_way_to_what_came_during_its_work),
	    cmocka_unit_test(a_poll_that_came_first_wins),
	    cmocka_unit_test(two_pre_commits_do_it_once),
	    cmocka_unit_test(a_repetition_has_the_result),
	};

	return cmocka_run_group_tests_name("sdk_three_phase", tests, setup, teardown);
}
