/*
 * test_sdk_barrier.c - operations that end with a local transaction (one-phase commit, try,
 * confirm, cancel, action, compensate), and the installation of the schema they need.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "sdk_fixture.h"

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

static void one_phase_repeated(void **state)
{
	struct business b = {.result = "{\"left\": 2}"};

	(void)state;
	assert_int_equal(doing("op", "one_phase", &b), 200);
	assert_int_equal(doing("op", "one_phase", &b), 200);
	assert_string_equal(body, b.result);
	assert_int_equal(b.n_run, 1);
	assert_int_equal(fixture_effects(conn, "op"), 1);
	assert_int_equal(doing("op", "rollback", NULL), 409);
	assert_non_null(strstr(body, "\"outcome\":\"committed\""));
	assert_int_equal(doing("op", "one_phase", &b), 200);
}

static void one_phase_after_rollback(void **state)
{
	struct business b = {0};

	(void)state;
	assert_int_equal(doing("or", "rollback", NULL), 200);
	assert_int_equal(doing("or", "one_phase", &b), 409);
	assert_aborted();
	assert_int_equal(b.n_run, 0);
	b.vote = ASSENT_REFUSED;
	assert_int_equal(doing("or2", "one_phase", &b), 409);
	assert_null(strstr(body, "outcome"));
	assert_int_equal(doing("or2", "rollback", NULL), 200);
	assert_int_equal(fixture_effects(conn, "or2"), 0);
}

static void try_confirm_cancel(void **state)
{
	struct business b = {.result = "{\"held\": 3}"};

	(void)state;
	assert_int_equal(doing("tc", "confirm", &b), 409);
	assert_aborted();
	assert_int_equal(doing("tc", "try", &b), 200);
	assert_int_equal(doing("tc", "try", &b), 200);
	assert_string_equal(body, b.result);
	assert_int_equal(doing("tc", "confirm", &b), 200);
	assert_int_equal(doing("tc", "confirm", &b), 200);
	assert_int_equal(b.n_run, 2);

	/* Empty cancel, remembered; then the late try. */
	assert_int_equal(doing("ec", "cancel", &b), 200);
	assert_int_equal(doing("ec", "cancel", &b), 200);
	assert_int_equal(doing("ec", "try", &b), 409);
	assert_int_equal(doing("ec", "confirm", &b), 409);
	assert_int_equal(b.n_run, 2);
	assert_int_equal(doing("sa", "action", &b), 200);
	assert_int_equal(doing("sa", "compensate", &b), 200);
	assert_int_equal(doing("sa", "compensate", &b), 200);
	assert_int_equal(b.n_run, 4);
}

static int enter(const char *gid, const char *op)
{
	struct assent_call *call = fixture_call(gid, op);
	struct assent_reply *reply = assent_reply_new();
	int verdict;

	fixture_exec(conn, "BEGIN");
	verdict = assent_barrier_enter(conn, call, reply, NULL);
	fixture_exec(conn, "COMMIT");
	assent_reply_free(reply);
	assent_call_free(call);
	return verdict;
}

static void cancel_learns_of_the_confirm(void **state)
{
	(void)state;
	assert_int_equal(enter("ca", "try"), ASSENT_BARRIER_RUN);
	assert_int_equal(enter("ca", "confirm"), ASSENT_BARRIER_RUN);
	assert_int_equal(enter("ca", "cancel"), ASSENT_BARRIER_SHUT_OUT);
	assert_int_equal(enter("ca", "cancel+"), ASSENT_BARRIER_RUN_CONFIRMED);
	assert_int_equal(enter("ca", "cancel+"), ASSENT_BARRIER_DUPLICATE);
	assert_int_equal(enter("cb", "try"), ASSENT_BARRIER_RUN);
	assert_int_equal(enter("cb", "cancel"), ASSENT_BARRIER_RUN);
	assert_int_equal(enter("cb", "confirm"), ASSENT_BARRIER_SHUT_OUT);
	assert_int_equal(enter("cc", "cancel"), ASSENT_BARRIER_EMPTY);
	assert_int_equal(enter("cc", "try"), ASSENT_BARRIER_SHUT_OUT);
}

/* Whatever it votes: what it has committed is there, and "no" would be a lie. */
static void the_work_ends_its_transaction(void **state)
{
	static const char *const ops[] = {"prepare",    "one_phase",  "try",   "action",
	                                  "can_commit", "pre_commit", "cancel"};
	static const enum assent_vote votes[] = {ASSENT_YES, ASSENT_REFUSED, ASSENT_FAILED,
	                                         ASSENT_READ_ONLY};
	char gid[16];

	(void)state;
	for (unsigned i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		for (unsigned j = 0; j < sizeof(votes) / sizeof(votes[0]); j++) {
			struct business b = {.vote = votes[j], .sql = "COMMIT"}, tried = {0};

			snprintf(gid, sizeof(gid), "e%u-%u", i, j);
			if (strcmp(ops[i], "cancel") == 0)
				assert_int_equal(doing(gid, "try", &tried), 200);
			assert_int_equal(doing(gid, ops[i], &b), 500);
			assert_non_null(strstr(body, "the work ended its transaction"));
		}
	}
	assert_int_equal(fixture_prepared(conn), 0);
}

/* ---- installing ---- */

static void *install(void *arg)
{
	PGconn *own = PQconnectdb(arg);
	struct assent_error err;
	intptr_t rc = assent_participant_install(own, &err);

	if (rc)
		print_error("%s\n", err.text);
	PQfinish(own);
	return (void *)rc;
}

static void install_is_idempotent(void **state)
{
	char fresh[192];
	pthread_t thread[4];
	void *rc;

	(void)state;
	fixture_exec(conn, "CREATE DATABASE fresh");
	snprintf(fresh, sizeof(fresh), "%s dbname=fresh", fixture_conninfo());
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, install, fresh), 0);
	for (size_t i = 0; i < 4; i++) {
		pthread_join(thread[i], &rc);
		assert_int_equal((intptr_t)rc, 0);
	}
	assert_int_equal(assent_participant_install(conn, NULL), 0);
	assert_int_equal(assent_participant_check(conn, NULL), 0);
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
	    cmocka_unit_test(one_phase_repeated),
	    cmocka_unit_test(one_phase_after_rollback),
	    cmocka_unit_test(try_confirm_cancel),
	    cmocka_unit_test(cancel_learns_of_the_confirm),
	    cmocka_unit_test(the_work_ends_its_transaction),
	    cmocka_unit_test(install_is_idempotent),
	};

	return cmocka_run_group_tests_name("sdk_barrier", tests, setup, teardown);
}
