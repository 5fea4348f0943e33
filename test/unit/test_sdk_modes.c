/*
 * test_sdk_modes.c - the calls under TCC and of a saga, against PostgreSQL: the rules one by one,
 * two calls at once in both orders, and at the end all of them in a storm.
 *
 * "cancel+" is a cancel that may come after a confirm (sdk_fixture.h).
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

static int doing(const char *gid, const char *op, struct business *business)
{
	return fixture_do(conn, gid, op, business, body);
}

static void assert_outcome(const char *outcome)
{
	char text[64];

	snprintf(text, sizeof(text), "\"outcome\":\"%s\"", outcome);
	assert_non_null(strstr(body, text));
}

static int n_rows(const char *gid)
{
	return fixture_number(
	    conn, "SELECT count(*) FROM assent_participant.barrier WHERE gid = '%s'", gid);
}

/* ---- the rules ---- */

static void a_result_is_given_again(void **state)
{
	struct business b = {.result = "{\"price\": 19.990}"};

	(void)state;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(doing("r", "action", &b), 200);
		assert_string_equal(body, b.result);
		assert_int_equal(doing("r", "try", &b), 200);
		assert_string_equal(body, b.result);
	}
	/* Also when it is late, and when the work would say something else now. */
	b = (struct business){.vote = ASSENT_REFUSED};
	assert_int_equal(fixture_do_ms(conn, "r", "action", -1, &b, body), 200);
	assert_string_equal(body, "{\"price\": 19.990}");
	assert_int_equal(fixture_effects(conn, "r"), 2);
	assert_int_equal(b.n_run, 0);
}

static void a_refusal_leaves_no_row(void **state)
{
	static const char *const first[][2] = {{"try", "cancel"}, {"action", "compensate"}};
	struct business no = {.vote = ASSENT_REFUSED}, later = {.vote = ASSENT_FAILED}, yes = {0};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		const char *gid = first[i][0];

		assert_int_equal(doing(gid, first[i][0], &no), 409);
		assert_null(strstr(body, "outcome"));
		assert_int_equal(doing(gid, first[i][0], &later), 503);
		assert_int_equal(n_rows(gid), 0);
		/* What was refused was not done: there is nothing to undo. */
		assert_int_equal(doing(gid, first[i][1], &yes), 200);
		assert_int_equal(doing(gid, first[i][0], &yes), 409);
		assert_outcome("aborted");
		assert_int_equal(yes.n_run, 0);
		assert_int_equal(fixture_effects(conn, gid), 0);
	}
	/* A refused confirm may still be repeated, or cancelled. */
	assert_int_equal(doing("rc", "try", &yes), 200);
	assert_int_equal(doing("rc", "confirm", &no), 409);
	assert_int_equal(n_rows("rc"), 1);
	assert_int_equal(doing("rc", "cancel+", &yes), 200);
	assert_int_equal(fixture_effects_of(conn, "rc", "cancel"), 1);
	assert_int_equal(doing("rc", "confirm", &yes), 409);
	assert_outcome("aborted");
}

static void a_confirm_needs_its_try(void **state)
{
	struct business b = {0};

	(void)state;
	assert_int_equal(doing("ct", "confirm", &b), 409);
	assert_outcome("aborted");
	assert_int_equal(n_rows("ct"), 0);
	assert_int_equal(doing("ct", "try", &b), 200);
	assert_int_equal(doing("ct", "confirm", &b), 200);
	assert_int_equal(doing("ct", "confirm", &b), 200);
	assert_int_equal(b.n_run, 2);
}

static void a_cancel_after_the_confirm(void **state)
{
	struct business b = {0};

	(void)state;
	assert_int_equal(doing("cc", "try", &b), 200);
	assert_int_equal(doing("cc", "confirm", &b), 200);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(doing("cc", "cancel", &b), 409);
		assert_outcome("committed");
	}
	assert_int_equal(n_rows("cc"), 2);
	assert_int_equal(doing("cc", "confirm", &b), 200);
	assert_int_equal(b.n_run, 2);
	for (int i = 0; i < 2; i++)
		assert_int_equal(doing("cc", "cancel+", &b), 200);
	assert_int_equal(b.n_run, 3);
	assert_int_equal(fixture_effects_of(conn, "cc", "cancel+"), 1);
}

static void a_cancel_shuts_out_the_confirm(void **state)
{
	static const char *const cancels[] = {"cancel", "cancel+"};
	char gid[16];

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct business b = {0};

		snprintf(gid, sizeof(gid), "cs%zu", i);
		assert_int_equal(doing(gid, "try", &b), 200);
		assert_int_equal(doing(gid, cancels[i], &b), 200);
		assert_int_equal(doing(gid, "confirm", &b), 409);
		assert_outcome("aborted");
		assert_int_equal(doing(gid, cancels[i], &b), 200);
		assert_int_equal(b.n_run, 2);
		assert_int_equal(fixture_effects_of(conn, gid, "cancel"), 1);
	}
}

static void nothing_to_undo_is_remembered(void **state)
{
	static const char *const ops[][2] = {
	    {"cancel", "try"}, {"cancel+", "try"}, {"compensate", "action"}};
	struct business b = {0};
	char gid[16];

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		snprintf(gid, sizeof(gid), "e%zu", i);
		assert_int_equal(doing(gid, ops[i][0], &b), 200);
		assert_int_equal(doing(gid, ops[i][1], &b), 409);
		assert_outcome("aborted");
		assert_int_equal(doing(gid, ops[i][0], &b), 200);
	}
	assert_int_equal(doing("e0", "confirm", &b), 409);
	assert_outcome("aborted");
	assert_int_equal(b.n_run, 0);
}

static int enter(const char *gid, const char *op, int timeout_ms)
{
	struct assent_call *call = fixture_call_ms(gid, op, timeout_ms);
	struct assent_reply *reply = assent_reply_new();
	int verdict;

	fixture_exec(conn, "BEGIN");
	verdict = assent_barrier_enter(conn, call, reply, NULL);
	fixture_exec(conn, "COMMIT");
	assent_reply_free(reply);
	assent_call_free(call);
	return verdict;
}

static void a_first_phase_too_late(void **state)
{
	struct business b = {0};

	(void)state;
	assert_int_equal(fixture_do_ms(conn, "l", "try", 0, &b, body), 409);
	assert_int_equal(fixture_do_ms(conn, "l", "action", -5, &b, body), 409);
	/* In the caller's own transaction, which he commits. */
	assert_int_equal(enter("l", "try", 0), ASSENT_BARRIER_SHUT_OUT);
	assert_int_equal(enter("l", "confirm", 0), ASSENT_BARRIER_SHUT_OUT);
	assert_int_equal(n_rows("l"), 0);
	assert_int_equal(b.n_run, 0);
	/* A decision never comes too late. */
	assert_int_equal(doing("l", "try", &b), 200);
	assert_int_equal(fixture_do_ms(conn, "l", "try", 0, &b, body), 200);
	assert_int_equal(fixture_do_ms(conn, "l", "confirm", 0, &b, body), 200);
	assert_int_equal(b.n_run, 2);
}

static void a_decision_without_work(void **state)
{
	struct business b = {0}, nothing = {.vote = ASSENT_READ_ONLY};

	(void)state;
	assert_int_equal(doing("d", "try", &b), 200);
	assert_int_equal(doing("d", "cancel", &nothing), 200);
	assert_string_equal(body, "");
	assert_int_equal(doing("d", "confirm", &b), 409);
	assert_int_equal(doing("d", "cancel", &nothing), 200);
	assert_int_equal(nothing.n_run, 1);
	/* A try that has nothing to hold is asked no more, and leaves no row. */
	assert_int_equal(doing("d2", "try", &nothing), 200);
	assert_string_equal(body, "{\"vote\":\"read_only\"}");
	assert_int_equal(n_rows("d2"), 0);
}

/* ---- two calls at once ---- */

struct racer {
	pthread_t thread;
	const char *gid;
	const char *op;
	struct business *business;
	int status;
	char body[256];
};

static void *race(void *arg)
{
	struct racer *r = arg;
	PGconn *own = fixture_connect();

	r->status = fixture_do(own, r->gid, r->op, r->business, r->body);
	PQfinish(own);
	return NULL;
}

static void start(struct racer *r, const char *gid, const char *op, struct business *business)
{
	*r = (struct racer){.gid = gid, .op = op, .business = business};
	assert_int_equal(pthread_create(&r->thread, NULL, race, r), 0);
}

static int join(struct racer *r)
{
	pthread_join(r->thread, NULL);
	snprintf(body, sizeof(body), "%s", r->body);
	return r->status;
}

static void wait_for_waiting(int n)
{
	time_t until = time(NULL) + DEADLINE_S;

	while (fixture_number(conn, "SELECT count(*) FROM pg_locks WHERE NOT granted") != n)
		assert_true(time(NULL) < until);
}

/* `op` has done its work and is about to end with `sql`; meanwhile `other` comes. Its status. */
static int meet(const char *gid, const char *op, const char *sql, const char *other,
                struct business *business)
{
	PGconn *holder = fixture_connect();
	struct assent_call *call = fixture_call(gid, op);
	struct assent_reply *reply = assent_reply_new();
	struct racer r;

	fixture_exec(holder, "BEGIN");
	assert_in_range(assent_barrier_enter(holder, call, reply, NULL), ASSENT_BARRIER_RUN,
	                ASSENT_BARRIER_RUN_CONFIRMED);
	assert_int_equal(assent_barrier_store(holder, call, reply, NULL), 0);
	start(&r, gid, other, business);
	wait_for_waiting(1);
	fixture_exec(holder, sql);
	assent_reply_free(reply);
	assent_call_free(call);
	PQfinish(holder);
	return join(&r);
}

static void a_try_meets_its_cancel(void **state)
{
	struct business b = {0};

	(void)state;
	/* The try is first, and is done: undone. */
	assert_int_equal(meet("m1", "try", "COMMIT", "cancel", &b), 200);
	assert_int_equal(b.n_run, 1);
	/* The try is first, and fails: nothing to undo. */
	assert_int_equal(meet("m2", "try", "ROLLBACK", "cancel", &b), 200);
	assert_int_equal(meet("m3", "action", "ROLLBACK", "compensate", &b), 200);
	assert_int_equal(doing("m2", "try", &b), 409);
	assert_int_equal(b.n_run, 1);
	/* The cancel is first: the try is refused. */
	assert_int_equal(meet("m4", "cancel", "COMMIT", "try", &b), 409);
	assert_outcome("aborted");
	assert_int_equal(meet("m5", "compensate", "COMMIT", "action", &b), 409);
	assert_int_equal(b.n_run, 1);
	/* The cancel is first, and fails. */
	assert_int_equal(meet("m6", "cancel", "ROLLBACK", "try", &b), 200);
	assert_int_equal(b.n_run, 2);
}

static void a_confirm_meets_others(void **state)
{
	struct business b = {0};

	(void)state;
	/* A confirm that comes too early waits for the try, and does not call it undone. */
	assert_int_equal(meet("n1", "try", "COMMIT", "confirm", &b), 200);
	assert_int_equal(meet("n2", "try", "ROLLBACK", "confirm", &b), 409);
	assert_outcome("aborted");
	assert_int_equal(n_rows("n2"), 0);
	assert_int_equal(b.n_run, 1);

	assert_int_equal(doing("n3", "try", NULL), 200);
	assert_int_equal(meet("n3", "confirm", "COMMIT", "cancel+", &b), 200);
	assert_int_equal(fixture_effects_of(conn, "n3", "cancel+"), 1);
	assert_int_equal(doing("n4", "try", NULL), 200);
	assert_int_equal(meet("n4", "confirm", "ROLLBACK", "cancel+", &b), 200);
	assert_int_equal(fixture_effects_of(conn, "n4", "cancel"), 1);
	assert_int_equal(doing("n5", "try", NULL), 200);
	assert_int_equal(meet("n5", "cancel+", "COMMIT", "confirm", &b), 409);
	assert_outcome("aborted");
	assert_int_equal(doing("n6", "try", NULL), 200);
	assert_int_equal(meet("n6", "confirm", "COMMIT", "cancel", &b), 409);
	assert_outcome("committed");
}

static void duplicates_at_once(void **state)
{
	static const char *const ops[] = {"try", "confirm", "cancel+", "action", "compensate"};
	struct business first = {.sql = "SELECT pg_advisory_xact_lock_shared(9)",
	                         .result = "{\"once\": true}"};
	struct business other = {.result = "{\"again\": true}"};
	struct racer r[5];

	(void)state;
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		fixture_exec(conn, "SELECT pg_advisory_lock(9)");
		start(&r[0], "dup", ops[i], &first);
		wait_for_waiting(1);
		for (int j = 1; j < 5; j++)
			start(&r[j], "dup", ops[i], &other);
		/* One holds its tuple, the others stand behind each other or behind its end. */
		wait_for_waiting(5);
		fixture_exec(conn, "SELECT pg_advisory_unlock(9)");
		for (int j = 0; j < 5; j++) {
			assert_int_equal(join(&r[j]), 200);
			assert_string_equal(body, first.result);
		}
		assert_int_equal(first.n_run, i + 1);
	}
	assert_int_equal(other.n_run, 0);
	assert_int_equal(fixture_effects(conn, "dup"), 5);
}

static void a_duplicate_takes_over(void **state)
{
	struct business b = {0};

	(void)state;
	assert_int_equal(meet("t", "try", "ROLLBACK", "try", &b), 200);
	assert_int_equal(meet("t", "confirm", "ROLLBACK", "confirm", &b), 200);
	assert_int_equal(meet("t2", "action", "COMMIT", "action", &b), 200);
	assert_int_equal(b.n_run, 2);
}

/* ---- all of them ---- */

#define N_GID    120
#define N_THREAD 4
#define N_CALL   1200

static struct branch {
	char gid[16];
	struct business business;
	atomic_int tried;     /* somebody was told so: a coordinator may confirm */
	atomic_int confirmed; /* somebody was told so */
	atomic_int cancelled;
	atomic_int n_odd;
} branches[N_GID];

/* Calls as of a coordinator with on_confirm_failure: cancel, in any order but for this one. */
static void disturb(PGconn *own, struct branch *b, unsigned dice)
{
	const char *op = dice % 3 == 0 ? "try" : dice % 3 == 1 ? "cancel+" : "confirm";
	int status;

	if (*op == 'c' && op[1] == 'o' && !atomic_load(&b->tried))
		op = "try";
	if (*op == 'c' && op[1] == 'a' && dice % 7)
		return;
	status = fixture_do(own, b->gid, op, &b->business, NULL);
	if (status == 200)
		atomic_store(strcmp(op, "try") == 0       ? &b->tried
		             : strcmp(op, "confirm") == 0 ? &b->confirmed
		                                          : &b->cancelled,
		             1);
	else if (status != 409)
		atomic_fetch_add(&b->n_odd, 1);
}

static void *disturb_all(void *arg)
{
	unsigned seed = *(unsigned *)arg;
	PGconn *own = fixture_connect();

	/* Neighbouring gids in the threads at the same time, so that their calls do meet. */
	for (unsigned i = 0; i < N_CALL; i++) {
		unsigned dice = (unsigned)rand_r(&seed);

		disturb(own, &branches[(i * N_GID / N_CALL + dice % 3) % N_GID], (dice >> 8) % 997);
	}
	PQfinish(own);
	return NULL;
}

static void every_try_is_ended_once(void **state)
{
	unsigned seeds[N_THREAD] = {1, 2, 3, 4};
	pthread_t thread[N_THREAD];
	int n_undone = 0;

	(void)state;
	for (int i = 0; i < N_GID; i++)
		snprintf(branches[i].gid, sizeof(branches[i].gid), "s%d", i);
	for (int i = 0; i < N_THREAD; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, disturb_all, &seeds[i]), 0);
	for (int i = 0; i < N_THREAD; i++)
		pthread_join(thread[i], NULL);
	for (int i = 0; i < N_GID; i++) {
		struct branch *b = &branches[i];
		int tried = fixture_effects_of(conn, b->gid, "try");
		int confirmed = fixture_effects_of(conn, b->gid, "confirm");
		int cancelled = fixture_effects_of(conn, b->gid, "cancel");
		int undone = fixture_effects_of(conn, b->gid, "cancel+");

		assert_int_equal(atomic_load(&b->n_odd), 0);
		assert_int_equal(tried, atomic_load(&b->tried));
		assert_int_equal(confirmed, atomic_load(&b->confirmed));
		assert_true(tried <= 1 && confirmed <= tried);
		/* A cancel knows what it undoes. */
		assert_int_equal(undone, confirmed && atomic_load(&b->cancelled));
		assert_int_equal(cancelled, tried && !confirmed && atomic_load(&b->cancelled));
		n_undone += undone;
	}
	assert_in_range(n_undone, 1, N_GID - 1);
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
	    cmocka_unit_test(a_result_is_given_again),
	    cmocka_unit_test(a_refusal_leaves_no_row),
	    cmocka_unit_test(a_confirm_needs_its_try),
	    cmocka_unit_test(a_cancel_after_the_confirm),
	    cmocka_unit_test(a_cancel_shuts_out_the_confirm),
	    cmocka_unit_test(nothing_to_undo_is_remembered),
	    cmocka_unit_test(a_first_phase_too_late),
	    cmocka_unit_test(a_decision_without_work),
	    cmocka_unit_test(a_try_meets_its_cancel),
	    cmocka_unit_test(a_confirm_meets_others),
	    cmocka_unit_test(duplicates_at_once),
	    cmocka_unit_test(a_duplicate_takes_over),
	    cmocka_unit_test(every_try_is_ended_once),
	};

	return cmocka_run_group_tests_name("sdk_modes", tests, setup, teardown);
}
