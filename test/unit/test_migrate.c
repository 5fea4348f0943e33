/*
 * test_migrate.c - the coordinator's tables are made once, whoever makes them, and a database from
 * the future is left alone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "io/pg.h"
#include "node/migrate.h"
#include "private_pg.h"

#define N_PROCESS 4

extern const unsigned coordinator_sql_n;

static struct private_pg *server;
static char why[256];

static int group_setup(void **state)
{
	(void)state;
	server = private_pg_start();
	return server ? 0 : -1;
}

static int group_teardown(void **state)
{
	(void)state;
	private_pg_stop(server);
	return 0;
}

static const char *conninfo(void)
{
	return private_pg_conninfo(server);
}

static void sql(const char *text)
{
	char message[256];

	if (pg_run(conninfo(), &text, 1, NULL, message, sizeof message) != 0)
		fail_msg("%s: %s", text, message);
}

static long number(const char *text)
{
	struct buf value = BUF_INIT;
	char message[256];
	long n;

	if (pg_run(conninfo(), &text, 1, &value, message, sizeof message) != 0)
		fail_msg("%s: %s", text, message);
	n = value.data ? strtol(value.data, NULL, 10) : -1;
	buf_release(&value);
	return n;
}

static int setup(void **state)
{
	(void)state;
	sql("DROP SCHEMA IF EXISTS assent CASCADE");
	why[0] = '\0';
	return 0;
}

static void test_once(void **state)
{
	unsigned applied = 99;

	(void)state;
	assert_int_equal(migrate_check(conninfo(), why, sizeof why), ERR_STATE);
	assert_non_null(strstr(why, "assentd migrate"));
	assert_int_equal(migrate_run(conninfo(), &applied, why, sizeof why), 0);
	assert_int_equal(applied, coordinator_sql_n);
	assert_int_equal(migrate_check(conninfo(), why, sizeof why), 0);
	assert_int_equal(number("SELECT max(version) FROM assent.migration"), coordinator_sql_n);
	assert_int_equal(number("SELECT count(*) FROM assent.shard"), 64);
	sql("UPDATE assent.shard SET epoch = 7");
	assert_int_equal(migrate_run(conninfo(), &applied, why, sizeof why), 0);
	assert_int_equal(applied, 0);
	assert_int_equal(number("SELECT min(epoch) FROM assent.shard"), 7);
}

/* The process that did the work says how much of it; -1 for a failure. */
static int migrate_in_child(int *pipe_fd)
{
	pid_t pid;
	int fd[2];

	assert_int_equal(pipe(fd), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		unsigned applied = 0;
		int rc = migrate_run(conninfo(), &applied, why, sizeof why);
		int said = rc == 0 ? (int)applied : -1;

		_exit(write(fd[1], &said, sizeof said) == sizeof said ? 0 : 1);
	}
	(void)close(fd[1]);
	*pipe_fd = fd[0];
	return pid;
}

#define WAIT_FOR_ALL                                                                   \
	"DO $$ BEGIN WHILE (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'" \
	" AND NOT granted) < 4 LOOP PERFORM pg_sleep(0.005); END LOOP; END $$"

/* Holds the migrations' lock until all of them wait for it; the exit status says whether they
 * did. */
static pid_t hold_the_lock(void)
{
	static const char *const text[] = {
	    "SET statement_timeout = '60s'",
	    "SELECT pg_advisory_lock(1634956148, -1)",
	    WAIT_FOR_ALL,
	};
	int64_t deadline_us = clock_mono_us() + 60000000;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(pg_run(conninfo(), text, 3, NULL, why, sizeof why) == 0 ? 0 : 1);
	while (number("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0)
		assert_true(clock_mono_us() < deadline_us);
	return pid;
}

/* Several at once, all held up at the lock: all succeed, and each file is applied once. */
static void test_concurrent(void **state)
{
	int pid[N_PROCESS], fd[N_PROCESS], applied = 0, status;
	pid_t holder = hold_the_lock();

	(void)state;
	for (int i = 0; i < N_PROCESS; i++)
		pid[i] = migrate_in_child(&fd[i]);
	for (int i = 0; i < N_PROCESS; i++) {
		int said = -1;

		assert_int_equal(read(fd[i], &said, sizeof said), sizeof said);
		(void)close(fd[i]);
		assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
		assert_int_equal(status, 0);
		assert_true(said >= 0);
		applied += said;
	}
	assert_int_equal(waitpid(holder, &status, 0), holder);
	assert_int_equal(status, 0);
	assert_int_equal(applied, coordinator_sql_n);
	assert_int_equal(migrate_check(conninfo(), why, sizeof why), 0);
	assert_int_equal(number("SELECT count(*) FROM assent.cluster"), 1);
}

static void test_newer_schema(void **state)
{
	unsigned applied = 99;

	(void)state;
	assert_int_equal(migrate_run(conninfo(), &applied, why, sizeof why), 0);
	sql("INSERT INTO assent.migration (version) SELECT max(version) + 1 FROM assent.migration");
	assert_int_equal(migrate_run(conninfo(), &applied, why, sizeof why), ERR_STATE);
	assert_int_equal(applied, 0);
	assert_non_null(strstr(why, "install a newer assentd"));
	why[0] = '\0';
	assert_int_equal(migrate_check(conninfo(), why, sizeof why), ERR_STATE);
	assert_non_null(strstr(why, "install a newer assentd"));
}

/* A file that fails half way leaves nothing, and the next try begins there. */
static void test_failure_leaves_nothing(void **state)
{
	unsigned applied = 99;

	(void)state;
	sql("CREATE SCHEMA assent; CREATE TABLE assent.name (x int)");
	assert_true(migrate_run(conninfo(), &applied, why, sizeof why) < 0);
	assert_int_equal(applied, 0);
	assert_non_null(strstr(why, "name"));
	assert_int_equal(number("SELECT count(to_regclass('assent.txn'))"), 0);
	sql("DROP TABLE assent.name");
	assert_int_equal(migrate_run(conninfo(), &applied, why, sizeof why), 0);
	assert_int_equal(applied, coordinator_sql_n);
}

static void test_no_database(void **state)
{
	unsigned applied;

	(void)state;
	assert_int_equal(migrate_run("host=/nowhere", &applied, why, sizeof why), ERR_IO);
	assert_true(why[0] != '\0' && !strchr(why, '\n'));
	assert_int_equal(migrate_check("host=/nowhere", why, sizeof why), ERR_IO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(test_once, setup),
	    cmocka_unit_test_setup(test_concurrent, setup),
	    cmocka_unit_test_setup(test_newer_schema, setup),
	    cmocka_unit_test_setup(test_failure_leaves_nothing, setup),
	    cmocka_unit_test_setup(test_no_database, setup),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
