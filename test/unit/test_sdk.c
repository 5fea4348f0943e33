/*
 * test_sdk.c - two-phase commit by the rules of participants/README.md, against a PostgreSQL of
 * the test's own.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "sdk_fixture.h"

#define DEADLINE_MS 30000

#define COMMITTED "{\"outcome\":\"committed\",\"reason\":\"committed before\"}"

/* Shared, because a prepared transaction keeps it. */
#define THROUGH_GATE "SELECT pg_advisory_xact_lock_shared(1)"

static PGconn *conn;
static char body[256];

static int doing(const char *gid, const char *op, struct business *business)
{
	return fixture_do(conn, gid, op, business, body);
}

static void assert_aborted(void)
{
	assert_non_null(strstr(body, "\"outcome\":\"aborted\""));
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- two-phase commit ---- */

static void prepare_then_commit(void **state)
{
	struct business b = {.result = "{\"left\": 19.990}"};

	(void)state;
	assert_int_equal(doing("pc", "prepare", &b), 200);
	assert_string_equal(body, b.result);
	assert_int_equal(fixture_effects(conn, "pc"), 0);
	assert_int_equal(doing("pc", "commit", NULL), 200);
	assert_int_equal(fixture_effects(conn, "pc"), 1);
	assert_int_equal(doing("pc", "commit", NULL), 200);
	assert_int_equal(fixture_effects(conn, "pc"), 1);
	assert_int_equal(fixture_prepared(conn), 0);
}

static void prepare_repeated(void **state)
{
	struct business b = {.result = "{\"left\": 1}"};

	(void)state;
	assert_int_equal(doing("pr", "prepare", &b), 200);
	assert_int_equal(doing("pr", "prepare", &b), 200);
	assert_string_equal(body, b.result);
	assert_int_equal(doing("pr", "commit", NULL), 200);
	assert_int_equal(doing("pr", "prepare", &b), 200);
	assert_string_equal(body, b.result);
	assert_int_equal(b.n_run, 1);
	assert_int_equal(fixture_effects(conn, "pr"), 1);
}

static void rollback_repeated_then_prepare(void **state)
{
	struct business b = {0};

	(void)state;
	assert_int_equal(doing("rp", "prepare", &b), 200);
	assert_int_equal(doing("rp", "rollback", NULL), 200);
	assert_int_equal(doing("rp", "rollback", NULL), 200);
	assert_int_equal(doing("rp", "prepare", &b), 409);
	assert_aborted();
	assert_int_equal(b.n_run, 1);
	assert_int_equal(doing("rp", "commit", NULL), 409);
	assert_aborted();
	assert_int_equal(fixture_effects(conn, "rp"), 0);
	assert_int_equal(fixture_prepared(conn), 0);
}

static void empty_rollback_then_late_prepare(void **state)
{
	struct business b = {0};

	(void)state;
	assert_int_equal(doing("er", "rollback", NULL), 200);
	assert_int_equal(doing("er", "prepare", &b), 409);
	assert_aborted();
	assert_int_equal(b.n_run, 0);
	assert_int_equal(fixture_prepared(conn), 0);
}

static void commit_never_prepared(void **state)
{
	struct business b = {0};

	(void)state;
	assert_int_equal(doing("cn", "commit", &b), 409);
	assert_aborted();
	assert_int_equal(b.n_run, 0);
}

static void rollback_after_commit(void **state)
{
	struct business b = {0};

	(void)state;
	doing("rc", "prepare", &b);
	doing("rc", "commit", NULL);
	assert_int_equal(doing("rc", "rollback", NULL), 409);
	assert_string_equal(body, COMMITTED);
	assert_int_equal(fixture_effects(conn, "rc"), 1);
}

static void refusal_leaves_no_row(void **state)
{
	struct business b = {.vote = ASSENT_REFUSED};

	(void)state;
	assert_int_equal(doing("rf", "prepare", &b), 409);
	assert_string_equal(body, "{\"reason\":\"no \\\"tea\\\" today\"}");
	assert_int_equal(fixture_number(conn, "SELECT count(*) FROM assent_participant.barrier"
	                                      " WHERE gid = 'rf'"),
	                 0);
	b.vote = ASSENT_YES;
	assert_int_equal(doing("rf", "prepare", &b), 200);
	assert_int_equal(doing("rf", "rollback", NULL), 200);
	assert_int_equal(fixture_effects(conn, "rf"), 0);
}

static void read_only_holds_nothing(void **state)
{
	struct business b = {.vote = ASSENT_READ_ONLY};

	(void)state;
	assert_int_equal(doing("ro", "prepare", &b), 200);
	assert_string_equal(body, "{\"vote\":\"read_only\"}");
	assert_int_equal(fixture_prepared(conn), 0);
	assert_int_equal(fixture_effects(conn, "ro"), 0);
	assert_int_equal(doing("ro", "rollback", NULL), 200);
}

/* PREPARE TRANSACTION in a failed transaction is answered "ROLLBACK", and no error. */
static void yes_after_a_failed_statement(void **state)
{
	struct business b = {.sql = "SELECT 1/0"};

	(void)state;
	assert_int_equal(doing("fs", "prepare", &b), 500);
	assert_int_equal(fixture_prepared(conn), 0);
	b.sql = "COMMIT";
	assert_int_equal(doing("fs", "prepare", &b), 500);
	assert_int_equal(fixture_prepared(conn), 0);
	b.sql = NULL;
	assert_int_equal(doing("fs2", "prepare", &b), 200);
	assert_int_equal(doing("fs2", "rollback", NULL), 200);
	fixture_exec(conn, "DELETE FROM effect WHERE gid = 'fs'");
}

static void late_calls(void **state)
{
	struct business b = {0};
	int64_t until = now_ms() + DEADLINE_MS;
	int status;

	(void)state;
	assert_int_equal(fixture_do_ms(conn, "lc", "prepare", 0, &b, body), 409);
	/* The millisecond that is left may be too short even to find that out. */
	do
		status = fixture_do_ms(conn, "lc", "one_phase", -5, &b, body);
	while (status == 503 && now_ms() < until);
	assert_int_equal(status, 409);
	assert_int_equal(b.n_run, 0);
	assert_int_equal(doing("lc", "prepare", &b), 200);
	assert_int_equal(fixture_do_ms(conn, "lc", "prepare", 0, &b, body), 200);
	assert_int_equal(fixture_do_ms(conn, "lc", "commit", -5, NULL, body), 200);
	assert_int_equal(fixture_effects(conn, "lc"), 1);
}

/* Two names that differ in what is cut off. */
static void long_names_are_hashed(void **state)
{
	char gid[129], space[64];

	(void)state;
	memset(gid, 'g', sizeof(gid) - 1);
	gid[sizeof(gid) - 1] = '\0';
	memset(space, 'n', sizeof(space) - 1);
	space[sizeof(space) - 1] = '\0';
	fixture_namespace(space);
	assert_int_equal(doing(gid, "prepare", NULL), 200);
	gid[127] = 'h';
	assert_int_equal(doing(gid, "prepare", NULL), 200);
	assert_int_equal(fixture_number(conn, "SELECT count(*) FROM pg_prepared_xacts WHERE gid ~"
	                                      " '^assent:c0ffee00:[0-9a-f]{64}$'"),
	                 2);
	assert_int_equal(doing(gid, "commit", NULL), 200);
	assert_int_equal(fixture_effects(conn, gid), 1);
	gid[127] = 'g';
	assert_int_equal(doing(gid, "rollback", NULL), 200);
	assert_int_equal(fixture_effects(conn, gid), 0);
	fixture_namespace("default");
	assert_int_equal(doing("name", "prepare", NULL), 200);
	assert_int_equal(fixture_number(conn, "SELECT count(*) FROM pg_prepared_xacts"
	                                      " WHERE gid = 'assent:c0ffee00:default:name:b'"),
	                 1);
	assert_int_equal(doing("name", "rollback", NULL), 200);
}

static void isolation_of_the_caller(void **state)
{
	struct business b = {0};

	(void)state;
	fixture_exec(conn, "SET default_transaction_isolation = 'serializable'");
	assert_int_equal(doing("iso", "prepare", &b), 200);
	assert_int_equal(doing("iso", "prepare", &b), 200);
	assert_int_equal(doing("iso", "commit", NULL), 200);
	assert_int_equal(doing("iso", "rollback", NULL), 409);
	fixture_exec(conn, "RESET default_transaction_isolation");
	assert_int_equal(b.n_run, 1);
}

/* ---- locks, and connections that die ---- */

static void a_prepared_lock_does_not_hang(void **state)
{
	struct business b = {.sql = "UPDATE goods SET n = n - 1 WHERE id = 1"};
	int64_t begun;

	(void)state;
	assert_int_equal(doing("l1", "prepare", &b), 200);
	begun = now_ms();
	b.vote = ASSENT_READ_ONLY; /* reports the failed statement */
	assert_int_equal(fixture_do_ms(conn, "l2", "prepare", 200, &b, body), 503);
	assert_in_range(now_ms() - begun, 150, DEADLINE_MS);
	assert_int_equal(doing("l2", "rollback", NULL), 200);
	assert_int_equal(doing("l1", "commit", NULL), 200);
	assert_int_equal(fixture_number(conn, "SELECT n FROM goods WHERE id = 1"), 99);
}

static void the_connection_dies_in_the_work(void **state)
{
	static const char *const ops[] = {"prepare", "one_phase"};
	struct business b;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		PGconn *dying = fixture_connect();
		char gid[8] = {'d', (char)('0' + i), '\0'};

		b = (struct business){.cut = 1};
		assert_int_equal(fixture_do(dying, gid, ops[i], &b, body), 503);
		assert_int_equal(fixture_do(dying, gid, ops[i], &b, body), 503);
		PQfinish(dying);
		b.cut = 0;
		assert_int_equal(doing(gid, ops[i], &b), 200);
		assert_int_equal(doing(gid, "commit", NULL), 200);
		assert_int_equal(fixture_effects(conn, gid), 1);
	}
}

struct job {
	const char *gid;
	const char *op;
	struct business *business;
	int status;
};

static void *do_job(void *arg)
{
	struct job *job = arg;
	PGconn *own = fixture_connect();

	job->status = fixture_do(own, job->gid, job->op, job->business, NULL);
	PQfinish(own);
	return NULL;
}

static void wait_for_waiting(int n)
{
	int64_t until = now_ms() + DEADLINE_MS;

	while (fixture_number(conn, "SELECT count(*) FROM pg_locks WHERE NOT granted") < n)
		assert_true(now_ms() < until);
}

/* Starts the jobs while the test holds the gate that the work waits for, the others once the
 * first is at it, and opens the gate when all wait, for the gate or for one another. */
static void run_together(struct job *jobs, int n)
{
	pthread_t thread[8];

	fixture_exec(conn, "SELECT pg_advisory_lock(1)");
	for (int i = 0; i < n; i++) {
		assert_int_equal(pthread_create(&thread[i], NULL, do_job, &jobs[i]), 0);
		if (i == 0)
			wait_for_waiting(1);
	}
	wait_for_waiting(n);
	fixture_exec(conn, "SELECT pg_advisory_unlock(1)");
	for (int i = 0; i < n; i++)
		pthread_join(thread[i], NULL);
}

static void concurrent_duplicates_run_once(void **state)
{
	static const char *const ops[] = {"prepare", "one_phase"};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct business b = {.sql = THROUGH_GATE};
		char gid[8] = {'t', (char)('0' + i), '\0'};
		struct job job = {gid, ops[i], &b, 0};
		struct job jobs[] = {job, job, job, job};

		run_together(jobs, 4);
		for (size_t j = 0; j < 4; j++)
			assert_int_equal(jobs[j].status, 200);
		assert_int_equal(b.n_run, 1);
		assert_int_equal(doing(gid, "commit", NULL), 200);
		assert_int_equal(fixture_effects(conn, gid), 1);
	}
}

/* A duplicate that finds the branch prepared and its result not yet stored waits for it. */
static void a_result_is_waited_for(void **state)
{
	static const char *const ops[] = {"prepare", "pre_commit"};
	struct business b = {.result = "{\"left\":7}"};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		char gid[8] = {'r', 'w', (char)('0' + i), '\0'};

		assert_int_equal(fixture_do(conn, gid, ops[i], &b, body), 200);
		fixture_exec(conn, "CREATE TABLE kept AS SELECT * FROM assent_participant.branch");
		fixture_exec(conn, "UPDATE assent_participant.branch SET result = NULL");
		assert_int_equal(fixture_do_ms(conn, gid, ops[i], 50, &b, body), 503);
		fixture_exec(conn, "UPDATE assent_participant.branch b SET result = k.result"
		                   " FROM kept k WHERE k.prepared_name = b.prepared_name");
		fixture_exec(conn, "DROP TABLE kept");
		assert_int_equal(fixture_do(conn, gid, ops[i], &b, body), 200);
		assert_string_equal(body, "{\"left\":7}");
		assert_int_equal(doing(gid, i ? "abort" : "rollback", NULL), 200);
	}
	assert_int_equal(b.n_run, 2);
}

/* The rollback meets a prepare that has its key and not yet its name. */
static void rollback_during_prepare(void **state)
{
	struct business b = {.sql = THROUGH_GATE};
	struct job prepare = {"rd", "prepare", &b, 0};
	struct job jobs[] = {prepare, {"rd", "rollback", NULL, 0}};

	(void)state;
	run_together(jobs, 2);
	assert_int_equal(jobs[1].status, 200);
	assert_true(jobs[0].status == 200 || jobs[0].status == 409);
	assert_int_equal(fixture_prepared(conn), 0);
	assert_int_equal(doing("rd", "prepare", &b), 409);
	assert_int_equal(fixture_effects(conn, "rd"), 0);
}

static void wait_for_number(const char *sql, int n)
{
	int64_t until = now_ms() + DEADLINE_MS;

	while (fixture_number(conn, "%s", sql) != n)
		assert_true(now_ms() < until);
}

/* Commits wait for standbys once the checkpointer has seen the setting, which shows in nothing but
 * a commit that waits. Returns the connection with that commit. */
static PGconn *commit_that_waits(void)
{
	PGconn *probe = fixture_connect();
	int64_t until = now_ms() + DEADLINE_MS;
	char waits[128];

	snprintf(waits, sizeof(waits),
	         "SELECT count(*) FROM pg_stat_activity WHERE pid = %d AND wait_event = 'SyncRep'",
	         PQbackendPID(probe));
	do {
		PQclear(PQgetResult(probe));
		assert_null(PQgetResult(probe));
		assert_int_equal(PQsendQuery(probe, "INSERT INTO probe VALUES (1)"), 1);
		while (PQconsumeInput(probe) && PQisBusy(probe) &&
		       fixture_number(conn, "%s", waits) == 0)
			assert_true(now_ms() < until);
		assert_true(now_ms() < until);
	} while (!PQisBusy(probe));
	return probe;
}

/* A commit that waits for its standby keeps the name busy for everyone else. */
static void a_busy_name_is_asked_again(void **state)
{
	struct job job = {"bu", "commit", NULL, 0};
	pthread_t thread;
	PGconn *probe;

	(void)state;
	assert_int_equal(doing("bu", "prepare", NULL), 200);
	fixture_exec(conn, "CREATE TABLE probe (n int)");
	fixture_exec(conn, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
	fixture_exec(conn, "SELECT pg_reload_conf()");
	probe = commit_that_waits();
	assert_int_equal(pthread_create(&thread, NULL, do_job, &job), 0);
	wait_for_number("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'", 2);
	assert_int_equal(fixture_do_ms(conn, "bu", "commit", 1, NULL, body), 503);
	fixture_exec(conn, "ALTER SYSTEM RESET synchronous_standby_names");
	fixture_exec(conn, "SELECT pg_reload_conf()");
	assert_int_equal(doing("bu", "commit", NULL), 200);
	pthread_join(thread, NULL);
	assert_int_equal(job.status, 200);
	PQfinish(probe);
	assert_int_equal(fixture_effects(conn, "bu"), 1);
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
	    cmocka_unit_test(prepare_then_commit),
	    cmocka_unit_test(prepare_repeated),
	    cmocka_unit_test(rollback_repeated_then_prepare),
	    cmocka_unit_test(empty_rollback_then_late_prepare),
	    cmocka_unit_test(commit_never_prepared),
	    cmocka_unit_test(rollback_after_commit),
	    cmocka_unit_test(refusal_leaves_no_row),
	    cmocka_unit_test(read_only_holds_nothing),
	    cmocka_unit_test(yes_after_a_failed_statement),
	    cmocka_unit_test(late_calls),
	    cmocka_unit_test(long_names_are_hashed),
	    cmocka_unit_test(isolation_of_the_caller),
	    cmocka_unit_test(a_prepared_lock_does_not_hang),
	    cmocka_unit_test(the_connection_dies_in_the_work),
	    cmocka_unit_test(concurrent_duplicates_run_once),
	    cmocka_unit_test(a_result_is_waited_for),
	    cmocka_unit_test(rollback_during_prepare),
	    cmocka_unit_test(a_busy_name_is_asked_again),
	};

	return cmocka_run_group_tests_name("sdk", tests, setup, teardown);
}
