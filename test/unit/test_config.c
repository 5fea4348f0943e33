/*
 * test_config.c - the daemon's options: what counts when several say something, and that every
 * fault names its place.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "node/config.h"

#define FLAG_MAX 12

struct fixture {
	struct config c;
	enum config_action action;
	char why[512];
	char path[64];
};

static const char *const environment[] = {
    "ASSENT_CONFIG",
    "ASSENT_LISTEN",
    "ASSENT_DATABASE",
    "ASSENT_DEV",
    "ASSENT_DEV_DIR",
    "ASSENT_PARTICIPANT_ALLOW",
    "ASSENT_ALLOW_UNAUTHENTICATED",
    "ASSENT_TOKEN_FILE",
    "ASSENT_NODE",
    "ASSENT_LOG_LEVEL",
    "ASSENT_IN_FLIGHT_MAX",
    "ASSENT_FLUSH_INTERVAL_US",
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	int fd;

	assert_non_null(f);
	for (size_t i = 0; i < sizeof environment / sizeof environment[0]; i++)
		assert_int_equal(unsetenv(environment[i]), 0);
	(void)snprintf(f->path, sizeof f->path, "/tmp/assent-config-XXXXXX");
	fd = mkstemp(f->path);
	assert_true(fd >= 0);
	assert_int_equal(close(fd), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(unlink(f->path), 0);
	config_release(&f->c);
	free(f);
	return 0;
}

/* The flags end with NULL. Those of the test before are released. */
static int read_with(struct fixture *f, const char *const *flag)
{
	char text[FLAG_MAX + 1][256] = {"assentd"};
	char *argv[FLAG_MAX + 2] = {text[0]};
	int argc = 1, rc;

	for (; flag[argc - 1]; argc++) {
		assert_true(argc <= FLAG_MAX);
		(void)snprintf(text[argc], sizeof text[argc], "%s", flag[argc - 1]);
		argv[argc] = text[argc];
	}
	config_release(&f->c);
	rc = config_read(&f->c, argc, argv, &f->action, f->why, sizeof f->why);
	/* A fault is one line, success is silent. */
	assert_int_equal(rc == 0, f->why[0] == '\0');
	assert_null(strchr(f->why, '\n'));
	return rc;
}

#define READ(f, ...) read_with(f, (const char *const[]){__VA_ARGS__, NULL})

static void expect_fault(struct fixture *f, int rc, const char *word)
{
	assert_int_equal(rc, ERR_INVALID);
	if (!strstr(f->why, word))
		fail_msg("\"%s\" does not say \"%s\"", f->why, word);
}

/* With --database, so that only the flag in question can be at fault. */
#define EXPECT_FAULT(f, word, ...) \
	expect_fault(f, READ(f, "--database", "dbname=x", __VA_ARGS__), word)

static void write_file(const struct fixture *f, const char *text)
{
	FILE *file = fopen(f->path, "w");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static void test_defaults(void **state)
{
	struct fixture *f = *state;
	const struct config *c = &f->c;
	char pid[32];

	assert_int_equal(READ(f, "--database", "dbname=x"), 0);
	assert_int_equal(f->action, CONFIG_SERVE);
	assert_string_equal(c->listen_host, "127.0.0.1");
	assert_int_equal(c->listen_port, 7470);
	assert_string_equal(c->database, "dbname=x");
	assert_false(c->dev);
	assert_false(c->allow_unauthenticated);
	assert_string_equal(c->participant_allow, "");
	assert_string_equal(c->log_level, "info");
	assert_int_equal(c->in_flight_max, 20000);
	assert_int_equal(c->connection_max, 4096);
	assert_int_equal(c->participant_concurrency, 64);
	assert_int_equal(c->participant_queue_max, 20000);
	assert_int_equal(c->flush_interval_us, 1000);
	(void)snprintf(pid, sizeof pid, ":%ld", (long)getpid());
	assert_non_null(strstr(c->node, pid));
	assert_int_equal(strncmp(c->dev_dir, "/tmp/assent-dev-", 16), 0);
}

/* Flag, then environment, then file, then default; per option. */
static void test_precedence(void **state)
{
	struct fixture *f = *state;
	const struct config *c = &f->c;

	write_file(f, "# what the file says\n"
	              "node = file\n"
	              "  log_level=warn  \r\n"
	              "\n"
	              "\tin_flight_max\t=\t11\n"
	              "database = dbname=y user = z\n"
	              "flush_interval_us = 0");
	assert_int_equal(READ(f, "--config", f->path), 0);
	assert_string_equal(c->node, "file");
	assert_string_equal(c->log_level, "warn");
	assert_int_equal(c->in_flight_max, 11);
	assert_string_equal(c->database, "dbname=y user = z");
	assert_int_equal(c->flush_interval_us, 0);
	assert_int_equal(c->connection_max, 4096);
	assert_int_equal(setenv("ASSENT_NODE", "environment", 1), 0);
	assert_int_equal(setenv("ASSENT_IN_FLIGHT_MAX", "22", 1), 0);
	assert_int_equal(READ(f, "--config", f->path), 0);
	assert_string_equal(c->node, "environment");
	assert_int_equal(c->in_flight_max, 22);
	assert_string_equal(c->log_level, "warn");
	assert_int_equal(READ(f, "--config", f->path, "--in-flight-max", "33"), 0);
	assert_string_equal(c->node, "environment");
	assert_int_equal(c->in_flight_max, 33);
	assert_string_equal(c->log_level, "warn");
	/* The file may be named by the environment, and a flag names another. */
	assert_int_equal(setenv("ASSENT_CONFIG", f->path, 1), 0);
	assert_int_equal(READ(f, "--node=flag"), 0);
	assert_string_equal(c->node, "flag");
	assert_string_equal(c->log_level, "warn");
	EXPECT_FAULT(f, "/nowhere/x", "--config=/nowhere/x");
}

static void test_flag_forms(void **state)
{
	struct fixture *f = *state;
	const struct config *c = &f->c;

	assert_int_equal(READ(f, "--database=host=a dbname=b", "--in_flight_max=5", "--node", "--x",
	                      "--log-level", "error", "--log-level=debug"),
	                 0);
	assert_string_equal(c->database, "host=a dbname=b");
	assert_int_equal(c->in_flight_max, 5);
	assert_string_equal(c->node, "--x");
	assert_string_equal(c->log_level, "debug");
	assert_int_equal(READ(f, "--dev"), 0);
	assert_true(c->dev);
	assert_string_equal(c->participant_allow, "http://loopback:*");
	assert_int_equal(READ(f, "--dev=yes", "--participant-allow=http://a"), 0);
	assert_string_equal(c->participant_allow, "http://a");
	assert_int_equal(READ(f, "--dev", "--dev=off", "--database=dbname=x"), 0);
	assert_false(c->dev);
	assert_string_equal(c->participant_allow, "");
}

static void test_actions(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(READ(f, "migrate", "--database=dbname=x"), 0);
	assert_int_equal(f->action, CONFIG_MIGRATE);
	/* They need no database, and read no file that may be wrong. */
	assert_int_equal(READ(f, "--help", "--config=/nowhere"), 0);
	assert_int_equal(f->action, CONFIG_HELP);
	assert_int_equal(READ(f, "-h"), 0);
	assert_int_equal(f->action, CONFIG_HELP);
	assert_int_equal(READ(f, "--version"), 0);
	assert_int_equal(f->action, CONFIG_VERSION);
	expect_fault(f, READ(f, "migrate"), "--database");
	EXPECT_FAULT(f, "\"migrate\" is not an option", "migrate");
}

static void test_unknown_keys(void **state)
{
	struct fixture *f = *state;

	EXPECT_FAULT(f, "command line: there is no option \"listn\"; did you mean \"listen\"?",
	             "--listn", "x");
	EXPECT_FAULT(f, "there is no option \"log_levle\"; did you mean \"log_level\"?",
	             "--log-levle=x");
	EXPECT_FAULT(f, "there is no option \"zzz\"; see assentd --help", "--zzz");
	EXPECT_FAULT(f, "\"serve\" is not an option", "serve");
	EXPECT_FAULT(f, "\"-n\" is not an option", "-n");
	EXPECT_FAULT(f, "\"--\" is not an option", "--");
	EXPECT_FAULT(f, "is not an option",
	             "--aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeee"
	             "ffffffffffgggggggggg=1");
	write_file(f, "node = a\n\nlisten_on = x\n");
	expect_fault(f, READ(f, "--config", f->path), " line 3: there is no option \"listen_on\"");
	write_file(f, "config = /elsewhere\n");
	expect_fault(f, READ(f, "--config", f->path), " line 1: there is no option \"config\"");
	write_file(f, "database = x\njust text\n");
	expect_fault(f, READ(f, "--config", f->path), " line 2: a line is `key = value`");
	write_file(f, "= x\n");
	expect_fault(f, READ(f, "--config", f->path), " line 1: there is no option \"\"");
}

static void test_wrong_values(void **state)
{
	struct fixture *f = *state;
	static const char *const number[] = {
	    "", "0", "-1", "1x", "x", "1.5", "10000001", "0x10", "1e3", "99999999999999999999"};

	for (size_t i = 0; i < sizeof number / sizeof number[0]; i++)
		EXPECT_FAULT(f,
		             "--in-flight-max: in_flight_max is a number from 1 to 10000000, not",
		             "--in-flight-max", number[i]);
	assert_int_equal(READ(f, "--database=dbname=x", "--in-flight-max=1"), 0);
	assert_int_equal(READ(f, "--database=dbname=x", "--in-flight-max=10000000"), 0);
	EXPECT_FAULT(f, "dev is \"yes\" or \"no\", not \"maybe\"", "--dev=maybe");
	EXPECT_FAULT(f, "--log-level: log_level is debug, info, warn or error, not \"loud\"",
	             "--log-level", "loud");
	EXPECT_FAULT(f, "--node needs a value: --node NAME", "--node");
	assert_int_equal(setenv("ASSENT_FLUSH_INTERVAL_US", "soon", 1), 0);
	EXPECT_FAULT(f, "ASSENT_FLUSH_INTERVAL_US: flush_interval_us is a number from 0 to 1000000",
	             "--node=n");
	assert_int_equal(unsetenv("ASSENT_FLUSH_INTERVAL_US"), 0);
	write_file(f, "node = n\nconnection_max = 7\n");
	expect_fault(f, READ(f, "--config", f->path),
	             " line 2: connection_max is a number from 8 to 100000, not \"7\"");
}

static void test_files(void **state)
{
	struct fixture *f = *state;
	char text[4200];

	EXPECT_FAULT(f, "/nowhere/x cannot be read: No such file", "--config", "/nowhere/x");
	EXPECT_FAULT(f, "/tmp cannot be read: Is a directory", "--config", "/tmp");
	/* The longest line, and one more. */
	for (size_t len = 4094; len <= 4095; len++) {
		memset(text, 'n', sizeof text);
		text[snprintf(text, sizeof text, "node = ")] = 'n';
		text[len] = '\n';
		text[len + 1] = '\0';
		write_file(f, text);
		if (len == 4094) {
			assert_int_equal(READ(f, "--database=dbname=x", "--config", f->path), 0);
			assert_int_equal(strlen(f->c.node), 4094 - 7);
		} else {
			EXPECT_FAULT(f, " line 1: longer than 4094 bytes", "--config", f->path);
		}
	}
}

static void test_listen(void **state)
{
	static const struct {
		const char *listen, *host;
		unsigned port;
	} good[] = {
	    {"127.0.0.1:0", "127.0.0.1", 0},
	    {"127.9.9.9:65535", "127.9.9.9", 65535},
	    {"[::1]:7470", "::1", 7470},
	};
	static const char *const bad[] = {
	    "",
	    "7470",
	    ":7470",
	    "127.0.0.1",
	    "127.0.0.1:",
	    "localhost:1",
	    "127.0.0.1:65536",
	    "127.0.0.1:-1",
	    "127.0.0.1: 1",
	    "127.0.0.1:+1",
	    "127.0.0.1:1x",
	    "127.0.0.1:000001",
	    "::1:7470",
	    "::1",
	    "[::1]",
	    "[::1]7470",
	    "[::1:7470",
	    "[127.0.0.1]:1",
	    "[]:1",
	    "[::1%lo]:1",
	    "127.1:1",
	    "127.0.0.1:1:1",
	    "*:7470",
	    "127.0.0.1:99999999999999999999",
	    "fe80::1:80",
	    "1111111111111111111111111111111111111111111111111111111111111111:1",
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		assert_int_equal(READ(f, "--database=dbname=x", "--listen", good[i].listen), 0);
		assert_string_equal(f->c.listen_host, good[i].host);
		assert_int_equal(f->c.listen_port, good[i].port);
	}
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		EXPECT_FAULT(f, "listen is a numeric address and a port", "--listen", bad[i]);
}

static int access_of(struct fixture *f, int rc)
{
	return rc == 0 ? config_take_access(&f->c, f->why, sizeof f->why) : rc;
}

/* Without tokens whoever reaches the port may do everything: only when the operator says so. */
static void test_loopback(void **state)
{
	static const char *const beyond[] = {
	    "127.0.0.1:1",     "0.0.0.0:1",   "10.0.0.1:1",
	    "[::]:1",          "128.0.0.1:1", "[fe80::1]:1",
	    "[2001:db8::1]:1", "126.0.0.1:1", "[::ffff:10.0.0.1]:1"};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof beyond / sizeof beyond[0]; i++) {
		int rc = READ(f, "--database=dbname=x", "--listen", beyond[i]);

		expect_fault(f, access_of(f, rc), "--allow-unauthenticated");
		rc = READ(f, "--database=dbname=x", "--listen", beyond[i],
		          "--allow-unauthenticated");
		assert_int_equal(access_of(f, rc), 0);
		rc = READ(f, "--database=dbname=x", "--listen", beyond[i],
		          "--token-file=/nonexistent");
		expect_fault(f, access_of(f, rc), "/nonexistent");
		rc = READ(f, "--dev", "--listen", beyond[i], "--allow-unauthenticated");
		if (i > 0)
			expect_fault(f, access_of(f, rc),
			             "--dev serves on loopback only; use --listen 127.0.0.1:1");
	}
}

static void test_databases(void **state)
{
	struct fixture *f = *state;

	expect_fault(f, READ(f, "--node=x"), "no database: give --database");
	EXPECT_FAULT(f, "--dev brings its own PostgreSQL", "--dev");
	assert_int_equal(setenv("ASSENT_DATABASE", "dbname=e", 1), 0);
	assert_int_equal(READ(f, "--node=x"), 0);
	assert_string_equal(f->c.database, "dbname=e");
}

/* Released twice, and after a failure, nothing is left or freed again. */
static void test_release(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(READ(f, "--dev", "--node=a", "--node=b"), 0);
	config_release(&f->c);
	assert_null(f->c.node);
	config_release(&f->c);
	EXPECT_FAULT(f, "listn", "--node=c", "--listn");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_defaults),  TEST(test_precedence),   TEST(test_flag_forms),
	    TEST(test_actions),   TEST(test_unknown_keys), TEST(test_wrong_values),
	    TEST(test_files),     TEST(test_listen),       TEST(test_loopback),
	    TEST(test_databases), TEST(test_release),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
