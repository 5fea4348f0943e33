/*
 * test_sdk_purge.c - what assent_participant_purge forgets, what it keeps however old it is, and
 * what a call is answered whose branch has been forgotten.
 *
 * Time is made to pass by moving the rows, and then a mark that has seen them, into the past.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "sdk_fixture.h"

#define DAY_S 86400

static PGconn *conn;

static int doing(const char *gid, const char *op)
{
	struct business b = {0};

	return fixture_do(conn, gid, op, &b, NULL);
}

static int late(const char *gid, const char *op)
{
	struct business b = {0};

	return fixture_do_ms(conn, gid, op, -1, &b, NULL);
}

static void make_old(const char *gid)
{
	char sql[256];

	snprintf(sql, sizeof(sql),
	         "UPDATE assent_participant.barrier SET created_at = created_at - interval '9 days'"
	         " WHERE gid = '%s'",
	         gid);
	fixture_exec(conn, sql);
	snprintf(sql, sizeof(sql),
	         "UPDATE assent_participant.branch SET created_at = created_at - interval '9 days'"
	         " WHERE gid = '%s'",
	         gid);
	fixture_exec(conn, sql);
}

/* What has ended by now, has ended eight days ago. */
static void make_mark(void)
{
	fixture_exec(conn, "DELETE FROM assent_participant.mark");
	fixture_exec(conn, "INSERT INTO assent_participant.mark"
	                   " VALUES (now() - interval '8 days', pg_current_snapshot())");
}

static int purged(int batch)
{
	struct assent_error err;
	int n;

	assert_int_equal(assent_participant_purge(conn, 7 * DAY_S, batch, &n, &err), 0);
	return n;
}

static int n_left(const char *gid)
{
	return fixture_number(conn,
	                      "SELECT (SELECT count(*) FROM assent_participant.barrier"
	                      " WHERE gid = '%s') + (SELECT count(*) FROM"
	                      " assent_participant.branch WHERE gid = '%s')",
	                      gid, gid);
}

/* Each call is 200. */
static const char *const stories[][4] = {
    {"prepare", "commit"},
    {"prepare", "rollback"},
    {"rollback"},
    {"one_phase"},
    {"try", "confirm"},
    {"try", "cancel"},
    {"try", "confirm", "cancel+"},
    {"cancel"},
    {"action"},
    {"action", "compensate"},
    {"compensate"},
};
#define N_STORY (int)(sizeof(stories) / sizeof(stories[0]))

static void what_has_ended_is_forgotten(void **state)
{
	struct business no = {.vote = ASSENT_REFUSED};
	char gid[32];

	(void)state;
	for (int i = 0; i < N_STORY; i++) {
		snprintf(gid, sizeof(gid), "story-%d", i);
		for (int j = 0; j < 4 && stories[i][j]; j++)
			assert_int_equal(doing(gid, stories[i][j]), 200);
		make_old(gid);
		assert_true(n_left(gid) > 0);
	}
	assert_int_equal(fixture_do(conn, "refused", "prepare", &no, NULL), 409);
	make_old("refused");
	make_mark();
	assert_int_equal(purged(1000), N_STORY);
	for (int i = 0; i < N_STORY; i++) {
		snprintf(gid, sizeof(gid), "story-%d", i);
		assert_int_equal(n_left(gid), 0);
	}
	assert_int_equal(n_left("refused"), 0);
	assert_int_equal(purged(1000), 0);
}

/* The coordinator may have been away for longer, and would have the work done again. */
static void what_was_committed_by_hand_is_kept(void **state)
{
	struct business b = {0};

	(void)state;
	fixture_terms(1, NULL, "wait");
	assert_int_equal(doing("hand", "pre_commit"), 200);
	fixture_exec(conn, "COMMIT PREPARED 'assent:c0ffee00:default:hand:b'");
	assert_int_equal(doing("hand", "status"), 200); /* a peer's question, or the sweep */
	make_old("hand");
	make_mark();
	purged(1000);
	assert_int_equal(fixture_do(conn, "hand", "pre_commit", &b, NULL), 409);
	assert_int_equal(atomic_load(&b.n_run), 0);
	assert_int_equal(fixture_effects(conn, "hand"), 1);
	fixture_exec(conn, "DELETE FROM assent_participant.branch WHERE gid = 'hand'");
	fixture_exec(conn, "DELETE FROM assent_participant.barrier WHERE gid = 'hand'");
}

static void a_late_duplicate_is_refused(void **state)
{
	static const char *const first[][2] = {
	    {"prepare", "commit"}, {"try", "confirm"}, {"action", NULL}, {"one_phase", NULL}};

	(void)state;
	for (int i = 0; i < 4; i++) {
		char gid[32];
		int n;

		snprintf(gid, sizeof(gid), "late-%d", i);
		assert_int_equal(doing(gid, first[i][0]), 200);
		if (first[i][1])
			assert_int_equal(doing(gid, first[i][1]), 200);
		assert_int_equal(late(gid, first[i][0]), 200);
		make_old(gid);
		n = fixture_effects(conn, gid);
		make_mark();
		assert_int_equal(purged(10), 1);
		assert_int_equal(late(gid, first[i][0]), 409);
		assert_int_equal(fixture_effects(conn, gid), n);
		assert_int_equal(fixture_prepared(conn), 0);
	}
}

static void what_is_prepared_stays(void **state)
{
	(void)state;
	assert_int_equal(doing("held", "prepare"), 200);
	make_old("held");
	make_mark();
	assert_int_equal(purged(10), 0);
	assert_int_equal(n_left("held"), 1);
	assert_int_equal(doing("held", "prepare"), 200);
	assert_int_equal(doing("held", "commit"), 200);
	assert_int_equal(fixture_effects(conn, "held"), 1);
}

/* It is older than all retention, and has been answered only now. */
static void what_was_held_for_long_stays_as_long(void **state)
{
	struct business b = {.sql = "UPDATE assent_participant.barrier"
	                            " SET created_at = created_at - interval '9 days'"
	                            " WHERE gid = 'long'"};

	(void)state;
	assert_int_equal(fixture_do(conn, "long", "prepare", &b, NULL), 200);
	make_mark();
	assert_int_equal(doing("long", "commit"), 200);
	assert_int_equal(purged(10), 0);
	assert_int_equal(doing("long", "commit"), 200);
	make_mark();
	assert_int_equal(purged(10), 1);
	assert_int_equal(doing("long", "commit"), 409);
}

static void an_undecided_try_stays(void **state)
{
	(void)state;
	assert_int_equal(doing("open", "try"), 200);
	make_old("open");
	make_mark();
	assert_int_equal(purged(10), 0);
	assert_int_equal(doing("open", "cancel"), 200);
	assert_int_equal(fixture_effects_of(conn, "open", "cancel"), 1);
}

/* A coordinator that was away for longer than anything is remembered asks for it once more. */
static void what_ended_by_itself_stays(void **state)
{
	(void)state;
	assert_int_equal(doing("alone", "pre_commit"), 200);
	fixture_exec(conn, "SELECT assent_participant.settle(cluster, namespace, gid, branch,"
	                   " prepared_name, 1000, 'commit', 'nobody was reached', NULL)"
	                   " FROM assent_participant.branch WHERE gid = 'alone'");
	assert_int_equal(doing("alone", "do_commit"), 200);
	make_old("alone");
	make_mark();
	assert_int_equal(purged(10), 0);
	assert_int_equal(doing("alone", "pre_commit"), 409);
	assert_int_equal(fixture_effects(conn, "alone"), 1);
	fixture_exec(conn, "DELETE FROM assent_participant.barrier WHERE gid = 'alone'");
	assert_int_equal(purged(10), 0);
	fixture_exec(conn, "UPDATE assent_participant.branch SET heuristic = NULL"
	                   " WHERE gid = 'alone'");
	make_mark();
	assert_int_equal(purged(10), 1);
}

static void a_branch_goes_as_a_whole(void **state)
{
	(void)state;
	assert_int_equal(doing("half", "try"), 200);
	make_old("half");
	assert_int_equal(doing("half", "confirm"), 200);
	make_mark();
	assert_int_equal(purged(10), 0);
	assert_int_equal(n_left("half"), 2);
	assert_int_equal(doing("half", "confirm"), 200);
	make_old("half");
	make_mark();
	assert_int_equal(purged(10), 1);
	assert_int_equal(n_left("half"), 0);
}

static void in_batches(void **state)
{
	char gid[32];

	(void)state;
	for (int i = 0; i < 5; i++) {
		snprintf(gid, sizeof(gid), "batch-%d", i);
		assert_int_equal(doing(gid, "action"), 200);
		make_old(gid);
	}
	make_mark();
	assert_int_equal(purged(2), 2);
	assert_int_equal(purged(2), 2);
	assert_int_equal(purged(2), 1);
	assert_int_equal(purged(2), 0);
	/* With several rows each: there may be more as long as it is a whole batch. */
	for (int i = 0; i < 3; i++) {
		snprintf(gid, sizeof(gid), "pair-%d", i);
		assert_int_equal(doing(gid, "try"), 200);
		assert_int_equal(doing(gid, "confirm"), 200);
		make_old(gid);
	}
	make_mark();
	assert_int_equal(purged(4), 4);
	assert_int_equal(purged(4), 1);
	assert_int_equal(purged(4), 0);
}

/* The first time starts the clock; later ones do not start it anew each time. */
static void nothing_goes_before_its_time(void **state)
{
	(void)state;
	fixture_exec(conn, "DELETE FROM assent_participant.mark");
	assert_int_equal(doing("young", "action"), 200);
	make_old("young");
	for (int i = 0; i < 3; i++)
		assert_int_equal(purged(10), 0);
	assert_int_equal(fixture_number(conn, "SELECT count(*) FROM assent_participant.mark"), 1);
	assert_int_equal(n_left("young"), 1);
	fixture_exec(conn, "UPDATE assent_participant.mark SET at = at - interval '8 days'");
	assert_int_equal(purged(10), 1);
}

static void nonsense_is_refused(void **state)
{
	struct assent_error err;
	int n = 7;

	(void)state;
	assert_int_equal(assent_participant_purge(conn, DAY_S - 1, 10, &n, &err), ASSENT_E_INVALID);
	assert_int_equal(n, 0);
	assert_non_null(strstr(err.text, "at least 86400 s"));
	assert_int_equal(assent_participant_purge(conn, DAY_S, 0, &n, &err), ASSENT_E_INVALID);
	assert_int_equal(assent_participant_purge(conn, DAY_S, 10001, &n, &err), ASSENT_E_INVALID);
	fixture_exec(conn, "BEGIN");
	assert_int_equal(assent_participant_purge(conn, DAY_S, 10, &n, &err), ASSENT_E_INVALID);
	fixture_exec(conn, "ROLLBACK");
	assert_int_equal(assent_participant_purge(NULL, DAY_S, 10, &n, NULL), ASSENT_E_UNREACHABLE);
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
	    cmocka_unit_test(what_has_ended_is_forgotten),
	    cmocka_unit_test(what_was_committed_by_hand_is_kept),
	    cmocka_unit_test(a_late_duplicate_is_refused),
	    cmocka_unit_test(what_is_prepared_stays),
	    cmocka_unit_test(what_was_held_for_long_stays_as_long),
	    cmocka_unit_test(an_undecided_try_stays),
	    cmocka_unit_test(what_ended_by_itself_stays),
	    cmocka_unit_test(a_branch_goes_as_a_whole),
	    cmocka_unit_test(in_batches),
	    cmocka_unit_test(nothing_goes_before_its_time),
	    cmocka_unit_test(nonsense_is_refused),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
