/*
 * test_journal_failure.c - what the journal does when the database refuses, loses or is not ours:
 * a bad row is refused alone, everything else becomes durable; what is unknown is lost as a whole.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "journal_world.h"
#include "loop_test.h"

#define STORED "SELECT count(*) FROM assent.txn"
#define CALLS  "SELECT count(*) FROM assent.history"
#define POISON 99

/* Bad rows: by gid or by state, at once or only at the commit, and by the branch in history. */
static const char poison_sql[] =
    "ALTER TABLE assent.txn ADD CHECK (gid NOT LIKE 'poison%'), ADD CHECK (state <> 99);"
    "ALTER TABLE assent.history ADD CHECK (branch <> 'poison');"
    "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS"
    " 'BEGIN RAISE check_violation; END';"
    "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON assent.txn DEFERRABLE INITIALLY DEFERRED"
    " FOR EACH ROW WHEN (NEW.gid LIKE 'late%') EXECUTE FUNCTION late();"
    "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON assent.history_other DEFERRABLE"
    " INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.branch LIKE 'late%') EXECUTE FUNCTION late()";

static int group_setup(void **state)
{
	int rc = journal_world_group_setup(state);

	if (rc == 0)
		jw_sql(poison_sql);
	return rc;
}

static bool lost_and_stopped(void *ctx)
{
	struct journal_world *w = ctx;

	return w->n_lost > 0 && !w->stop_due;
}

static void test_gid_exists(void **state)
{
	struct journal_world *w = *state;
	struct record *old = jw_record(w, "g5"), *again = NULL;

	jw_put(old, 7, true);
	jw_until_durable(w, 1);
	for (unsigned i = 0; i < 10; i++) {
		struct record *r = jw_record_n(w, i);

		jw_put(r, 1, true);
		if (i == 5)
			again = r;
	}
	jw_until_durable(w, 10);
	loop_until_count(w->loop, &w->n_refused, 1);
	assert_int_equal(again->n_refused, 1);
	assert_int_equal(again->err, ERR_EXISTS);
	assert_int_equal(again->n_durable, 0);
	assert_false(again->entry.stored);
	assert_int_equal(jw_stats(w).n_flush, 2);
	assert_int_equal(jw_number(STORED), 10);
	assert_int_equal(jw_number("SELECT state FROM assent.txn WHERE gid = 'g5'"), 7);
}

/* Somebody else took one shard: nothing of ours is written there, everything elsewhere. */
static void test_epoch_raised(void **state)
{
	struct journal_world *w = *state;
	struct record *ours = jw_record(w, "ours"), *theirs = jw_record(w, "theirs"), *new;

	theirs->entry.shard = 7;
	jw_put(ours, 1, true);
	jw_put(theirs, 1, true);
	jw_until_durable(w, 2);
	jw_sql("UPDATE assent.shard SET epoch = 1 WHERE shard = 7");
	new = jw_record(w, "new");
	new->entry.shard = 7;
	jw_put(theirs, 2, true);
	jw_put(new, 1, true);
	jw_put(ours, 2, true);
	jw_attempt(w, "ours", "b1", 0);
	jw_attempt(w, "ours", "b1", 5);
	jw_until_durable(w, 3);
	loop_until_count(w->loop, &w->n_refused, 2);
	assert_int_equal(theirs->err, ERR_LOST);
	assert_int_equal(new->err, ERR_EXISTS);
	assert_int_equal(ours->n_durable, 2);
	assert_int_equal(w->n_lost, 0);
	assert_int_equal(jw_number("SELECT state FROM assent.txn WHERE gid = 'theirs'"), 1);
	assert_int_equal(jw_number(STORED), 2);
	assert_int_equal(jw_number(CALLS), 1);
}

static void test_one_bad_row(void **state)
{
	struct journal_world *w = *state;

	for (unsigned i = 0; i < 5; i++)
		jw_put(jw_record_n(w, i), 1, true);
	jw_put(jw_record(w, "poison"), 1, true);
	for (unsigned i = 5; i < 10; i++)
		jw_put(jw_record_n(w, i), 1, true);
	jw_until_durable(w, 10);
	loop_until(w->loop, jw_idle, w);
	assert_int_equal(w->n_refused, 1);
	assert_int_equal(w->record[5].err, ERR_DATA);
	assert_int_equal(w->record[5].n_refused, 1);
	assert_int_equal(w->n_lost, 0);
	assert_int_equal(jw_number(STORED), 10);
	assert_int_equal(jw_stats(w).n_split, 2);
	/* Everything goes together again. */
	for (unsigned i = 0; i < 5; i++)
		jw_put(&w->record[i], 2, true);
	jw_until_durable(w, 15);
	assert_int_equal(jw_stats(w).n_flush, 13);
}

static void check_bad_among_good(struct journal_world *w, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		const struct record *r = &w->record[i];

		if (i % 10 == 3) {
			assert_int_equal(r->n_refused, 1);
			assert_int_equal(r->err, ERR_DATA);
			assert_int_equal(r->n_durable, 0);
		} else {
			assert_int_equal(r->n_refused, 0);
			assert_true(r->n_durable >= 1 && r->n_durable <= 2);
			assert_int_equal(r->entry.durable.state, i % 2 ? 1 : 2);
			assert_int_equal(r->entry.durable_seq, i % 2 ? 1 : 2);
		}
	}
}

/* Several bad rows, and newer states queued while the flush that fails is under way. */
static void test_bad_rows_and_newer_states(void **state)
{
	struct journal_world *w = *state;
	struct jw_wait early, late;
	char gid[32];

	jw_gate_close(w);
	for (unsigned i = 0; i < 60; i++) {
		(void)snprintf(gid, sizeof gid, "%s%u", i % 10 == 3 ? "poison" : "g", i);
		jw_put(jw_record(w, gid), 1, true);
	}
	jw_until_held(w);
	jw_sync(w, &early);
	for (unsigned i = 60; i-- > 0;) {
		if (i % 2 == 0)
			jw_put(&w->record[i], 2, true);
	}
	jw_put(&w->record[3], 2, false);
	jw_sync(w, &late);
	/* More than one: each of them would otherwise be through before the waiter is looked at. */
	jw_put(jw_record(w, "after1"), 1, true);
	jw_put(jw_record(w, "after2"), 1, true);
	jw_gate_open(w);
	loop_until(w->loop, jw_idle, w);
	loop_until_count(w->loop, &late.n, 1);
	check_bad_among_good(w, 60);
	assert_int_equal(w->n_refused, 6);
	assert_int_equal(w->n_lost, 0);
	assert_int_equal(early.err, 0);
	assert_true(early.n_durable >= 54);
	assert_true(late.n_durable >= 54);
	assert_int_equal(jw_number(STORED " WHERE state = 2"), 30);
	assert_int_equal(jw_number(STORED), 56);
}

/* A state, not a creation: the row stays as it was. */
static void test_bad_update(void **state)
{
	struct journal_world *w = *state;

	for (unsigned i = 0; i < 8; i++)
		jw_put(jw_record_n(w, i), 1, true);
	jw_until_durable(w, 8);
	for (unsigned i = 0; i < 8; i++)
		jw_put(&w->record[i], i == 2 || i == 6 ? POISON : 2, true);
	jw_put(jw_record(w, "new"), 1, true);
	jw_until_durable(w, 15);
	loop_until_count(w->loop, &w->n_refused, 2);
	assert_int_equal(w->record[2].err, ERR_DATA);
	assert_int_equal(w->record[6].err, ERR_DATA);
	assert_int_equal(w->record[2].entry.durable.state, 1);
	assert_true(w->record[2].entry.stored);
	assert_int_equal(jw_number(STORED " WHERE state = 2"), 6);
}

/* A check that only the commit makes: the same, though no statement failed. */
static void test_bad_at_commit(void **state)
{
	struct journal_world *w = *state;

	jw_put(jw_record(w, "late"), 1, true);
	loop_until_count(w->loop, &w->n_refused, 1);
	assert_int_equal(w->record[0].err, ERR_DATA);
	for (unsigned i = 0; i < 5; i++)
		jw_put(jw_record_n(w, i), 1, true);
	jw_put(jw_record(w, "late1"), 1, true);
	jw_put(jw_record(w, "late2"), 1, true);
	jw_attempt(w, "g1", "b1", 0);
	jw_until_durable(w, 5);
	loop_until_count(w->loop, &w->n_refused, 3);
	assert_int_equal(w->n_lost, 0);
	assert_int_equal(jw_number(STORED), 5);
}

/* History's own bad data costs history, never a transaction. */
static void test_bad_history(void **state)
{
	struct journal_world *w = *state;

	for (unsigned i = 0; i < 3; i++)
		jw_put(jw_record_n(w, i), 1, true);
	jw_attempt(w, "g0", "b1", 0);
	jw_attempt(w, "g0", "poison", 0);
	jw_until_durable(w, 3);
	assert_int_equal(w->n_refused + w->n_lost, 0);
	assert_int_equal(jw_stats(w).n_history_dropped, 2);
	assert_int_equal(jw_stats(w).n_flush, 2);
	assert_int_equal(jw_number(CALLS), 0);
	jw_attempt(w, "g0", "late", 0);
	jw_put(&w->record[0], 2, true);
	jw_until_durable(w, 4);
	assert_int_equal(jw_stats(w).n_history_dropped, 3);
	jw_attempt(w, "g0", "b2", 0);
	jw_put(&w->record[0], 3, true);
	jw_until_durable(w, 5);
	assert_int_equal(jw_number(CALLS " WHERE branch = 'b2'"), 1);
	assert_int_equal(jw_stats(w).n_history_dropped, 3);
}

/* Nothing else may come: bad history alone must not be tried for ever. */
static void test_bad_history_alone(void **state)
{
	struct journal_world *w = *state;
	struct jw_wait wait;

	jw_attempt(w, "g0", "poison", 0);
	jw_sync(w, &wait);
	loop_until_count(w->loop, &wait.n, 1);
	assert_int_equal(wait.err, 0);
	jw_attempt(w, "g0", "late", 0);
	jw_sync(w, &wait);
	loop_until_count(w->loop, &wait.n, 1);
	assert_int_equal(jw_stats(w).n_history_dropped, 2);
	assert_int_equal(jw_stats(w).n_flush, 4);
}

/* The bad row takes good history back with it, which is written though nothing else comes, and
 * so is what came meanwhile. */
static void test_history_survives_a_bad_row(void **state)
{
	struct journal_world *w = *state;
	struct jw_wait wait;

	journal_world_terms(w, 20000, 0, 1000000);
	jw_gate_close(w);
	jw_attempt(w, "g0", "b1", 0);
	jw_put(jw_record(w, "poison"), 1, true);
	jw_until_held(w);
	jw_attempt(w, "g0", "b2", 0);
	jw_sync(w, &wait);
	jw_gate_open(w);
	loop_until_count(w->loop, &wait.n, 1);
	assert_int_equal(wait.err, 0);
	assert_int_equal(w->n_refused, 1);
	assert_int_equal(jw_number(CALLS " WHERE branch = 'b1'"), 1);
	assert_int_equal(jw_number(CALLS " WHERE branch = 'b2'"), 1);
}

static void test_history_kept_without_waiters(void **state)
{
	struct journal_world *w = *state;
	unsigned turns = 0;

	journal_world_terms(w, 20000, 0, 1000000);
	jw_gate_close(w);
	jw_attempt(w, "g0", "b1", 0);
	jw_put(jw_record(w, "poison"), 1, true);
	jw_until_held(w);
	jw_attempt(w, "g0", "b2", 0);
	jw_gate_open(w);
	while (jw_number(CALLS) < 2) {
		assert_true(turns++ < 1000);
		loop_for_ms(w->loop, 5);
	}
}

/* A session that dies in the middle: unknown is lost, and a new session goes on. */
static void test_terminated(void **state)
{
	struct journal_world *w = *state;
	struct record *a = jw_record(w, "a"), *b = jw_record(w, "b");
	struct jw_wait wait;

	jw_gate_close(w);
	jw_put(a, 1, true);
	jw_sync(w, &wait);
	jw_until_held(w);
	jw_put(a, 2, true);
	jw_put(b, 1, true);
	jw_terminate();
	loop_until(w->loop, lost_and_stopped, w);
	assert_int_equal(w->n_lost, 1);
	assert_int_equal(w->n_durable + w->n_refused, 0);
	assert_int_equal(wait.n, 1);
	assert_int_equal(wait.err, ERR_LOST);
	assert_true(jw_idle(w));
	jw_gate_open(w);
	loop_until_count(w->loop, &w->n_up, 2);
	assert_int_equal(jw_number(STORED), 0);
	journal_start(w->journal);
	jw_put(a, 2, true);
	jw_put(b, 1, true);
	jw_until_durable(w, 2);
	assert_int_equal(w->n_lost, 1);
	assert_int_equal(jw_number(STORED), 2);
}

/* A failure that is not the data's, in a session that lives on. The owner stops the journal at the
 * end of the turn: until then no other flush may start with what is on its way. */
static void test_cancelled(void **state)
{
	struct journal_world *w = *state;
	struct record *a = jw_record(w, "a"), *b = jw_record(w, "b");

	jw_gate_close(w);
	jw_put(a, 1, true);
	jw_until_held(w);
	jw_put(a, 2, true);
	jw_put(b, 1, true);
	jw_cancel();
	loop_until(w->loop, lost_and_stopped, w);
	assert_int_equal(w->n_lost, 1);
	assert_int_equal(jw_stats(w).n_flush, 1);
	assert_true(jw_idle(w));
	jw_gate_open(w);
	loop_until_count(w->loop, &w->n_up, 2);
	assert_int_equal(jw_number(STORED), 0);
	journal_start(w->journal);
	jw_put(a, 2, true);
	jw_until_durable(w, 1);
}

/* No session to write with: one call of on_lost, not one per turn. */
static void test_no_session(void **state)
{
	struct journal_world *w = *state;

	pg_reconnect(w->pg, "test");
	jw_put(jw_record(w, "a"), 1, true);
	loop_until(w->loop, lost_and_stopped, w);
	loop_until_count(w->loop, &w->n_up, 2);
	assert_int_equal(w->n_lost, 1);
	journal_start(w->journal);
	jw_put(&w->record[0], 1, true);
	jw_until_durable(w, 1);
}

/* The owner gives everything up, and frees it, from inside the first of many callbacks. */
static void test_stop_inside_refused(void **state)
{
	struct journal_world *w = *state;

	for (unsigned i = 0; i < 5; i++)
		jw_put(jw_record_n(w, i), 1, true);
	jw_until_durable(w, 5);
	jw_sql("UPDATE assent.shard SET epoch = 1");
	for (unsigned i = 0; i < 5; i++)
		jw_put(&w->record[i], 2, true);
	w->stop_when_refused = true;
	loop_until_count(w->loop, &w->n_refused, 1);
	assert_int_equal(w->n_refused, 1);
	assert_true(jw_idle(w));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, journal_world_setup, journal_world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_gid_exists),
	    TEST(test_epoch_raised),
	    TEST(test_one_bad_row),
	    TEST(test_bad_rows_and_newer_states),
	    TEST(test_bad_update),
	    TEST(test_bad_at_commit),
	    TEST(test_bad_history),
	    TEST(test_bad_history_alone),
	    TEST(test_history_survives_a_bad_row),
	    TEST(test_history_kept_without_waiters),
	    TEST(test_terminated),
	    TEST(test_cancelled),
	    TEST(test_no_session),
	    TEST(test_stop_inside_refused),
	};

	return cmocka_run_group_tests(tests, group_setup, journal_world_group_teardown);
}
