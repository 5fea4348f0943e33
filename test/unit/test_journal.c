/*
 * test_journal.c - group commit against a real PostgreSQL: what becomes one flush, in which order,
 * when, and what its callers may rely on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "journal_world.h"
#include "loop_test.h"

#define STORED "SELECT count(*) FROM assent.txn"
#define CALLS  "SELECT count(*) FROM assent.history"

/* Everything that comes while a flush is under way is the next flush. */
static void test_coalesces(void **state)
{
	struct journal_world *w = *state;
	struct journal_stats s;

	jw_gate_close(w);
	jw_put(jw_record_n(w, 0), 1, true);
	jw_until_held(w);
	for (unsigned i = 1; i <= 200; i++)
		jw_put(jw_record_n(w, i), 1, i % 2 == 0);
	assert_int_equal(w->n_durable, 0);
	jw_gate_open(w);
	jw_until_durable(w, 201);
	s = jw_stats(w);
	assert_int_equal(s.n_flush, 2);
	assert_int_equal(s.n_record, 201);
	assert_int_equal(jw_number(STORED), 201);
	assert_true(jw_idle(w));
}

/* A state that comes before the flush takes the place of the parking; one that comes while it flies
 * is written behind it. Neither the one nor the other touches what was durable. */
static void test_park(void **state)
{
	struct journal_world *w = *state;
	const struct journal_park park = {.whom = "stock",
	                                  .until_us = PG_EPOCH_US + 7,
	                                  .calls = (const uint8_t *)"m",
	                                  .n_calls = 1};
	struct record *r = jw_record(w, "a"), *other = jw_record(w, "b");

	jw_put(r, 3, true);
	jw_put(other, 3, true);
	jw_until_durable(w, 2);
	journal_park(w->journal, &r->entry, &r->entry.durable, &park);
	assert_int_equal(jw_put(r, 4, true), 2);
	jw_until_durable(w, 3);
	assert_false(r->entry.parked);
	assert_int_equal(jw_number("SELECT count(*) FROM assent.txn WHERE parked_for IS NOT NULL"),
	                 0);
	jw_gate_close(w);
	journal_park(w->journal, &r->entry, &r->entry.durable, &park);
	jw_put(other, 4, true);
	jw_until_held(w);
	jw_put(r, 5, true);
	jw_gate_open(w);
	jw_until_durable(w, 6);
	assert_int_equal(r->said[2], 4); /* parked: as it was */
	assert_int_equal(r->said[3], 5);
	assert_false(r->entry.parked);
	assert_int_equal(jw_number("SELECT state FROM assent.txn WHERE gid = 'a' AND parked_for ="
	                           " 'stock' AND parked_calls = 'm' AND parked_until ="
	                           " '2000-01-01 00:00:00.000007+00'"),
	                 5);
	jw_sql("DELETE FROM assent.txn WHERE gid = 'a'");
	journal_park(w->journal, &r->entry, &r->entry.durable, &park);
	jw_put(other, 5, true);
	jw_until_durable(w, 7);
	assert_int_equal(r->err, ERR_LOST);
	assert_int_equal(w->n_lost, 0);
}

static void test_newest_state_is_written(void **state)
{
	struct journal_world *w = *state;
	struct record *r = jw_record(w, "a");

	jw_gate_close(w);
	assert_int_equal(jw_put(r, 1, true), 1);
	jw_until_held(w);
	assert_int_equal(jw_put(r, 2, false), 2);
	assert_int_equal(jw_put(r, 3, false), 2);
	assert_int_equal(jw_put(r, 4, true), 2);
	assert_int_equal(r->entry.durable_seq, 0);
	assert_false(r->entry.stored);
	jw_gate_open(w);
	jw_until_durable(w, 2);
	assert_int_equal(r->said[0], 1);
	assert_int_equal(r->said_seq[0], 1);
	assert_int_equal(r->said[1], 4);
	assert_int_equal(r->said_seq[1], 2);
	assert_int_equal(jw_stats(w).n_flush, 2);
	assert_int_equal(jw_number("SELECT state FROM assent.txn"), 4);
	assert_true(jw_idle(w));
	assert_int_equal(jw_put(r, 5, true), 3);
	jw_until_durable(w, 3);
	assert_int_equal(r->said_seq[2], 3);
}

/* In the order in which they were put, creations and updates mixed. */
static void test_order(void **state)
{
	struct journal_world *w = *state;
	char gid[8];

	for (int c = 'a'; c <= 'm'; c++) {
		(void)snprintf(gid, sizeof gid, "%c%c", 'z' - (c - 'a'), c);
		jw_put(jw_record(w, gid), 1, true);
	}
	jw_until_durable(w, 13);
	assert_string_equal(w->order, "abcdefghijklm");
	for (unsigned i = 13; i-- > 0;) {
		(void)snprintf(gid, sizeof gid, "y%c", 'n' + (int)i);
		jw_put(&w->record[i], 2, true);
		jw_put(jw_record(w, gid), 1, true);
	}
	jw_until_durable(w, 39);
	assert_string_equal(w->order + 13, "mzlykxjwivhugtfserdqcpboan");
	assert_int_equal(jw_stats(w).n_flush, 2);
}

static void test_columns(void **state)
{
	struct journal_world *w = *state;
	struct record *r = jw_record(w, "a");
	struct journal_state s = {.state = 3,
	                          .outcome = 1,
	                          .deadline_us = INT64_C(1700000010000000),
	                          .branch = {4, 7, 9}};

	r->entry.submission = "{\"x\":\"\xc3\xa4\"}";
	r->entry.submission_len = strlen(r->entry.submission);
	r->entry.shard = 63;
	s.decided_us = INT64_C(1700000005000001);
	journal_put(w->journal, &r->entry, &s, true);
	jw_until_durable(w, 1);
	assert_int_equal(
	    jw_number("SELECT count(*) FROM assent.txn WHERE gid = 'a' AND shard = 63 AND epoch = 0"
	              " AND mode = 1 AND state = 3 AND outcome = 1"
	              " AND extract(epoch FROM created_at) = 1700000000"
	              " AND extract(epoch FROM deadline_at) = 1700000010"
	              " AND extract(epoch FROM decided_at) = 1700000005.000001"
	              " AND ended_at IS NULL AND branch_state = '\\x0407'"
	              " AND body_sha256 = decode(rpad('010203', 64, '0'), 'hex')"
	              " AND convert_from(submission, 'UTF8') = '{\"x\":\"\xc3\xa4\"}'"),
	    1);
	s.ended_us = INT64_C(1700000006000000);
	s.deadline_us = INT64_C(1700000020000000);
	s.branch[1] = 5;
	journal_put(w->journal, &r->entry, &s, true);
	jw_until_durable(w, 2);
	assert_int_equal(jw_number("SELECT count(*) FROM assent.txn WHERE branch_state = '\\x0405'"
	                           " AND extract(epoch FROM ended_at) = 1700000006"
	                           " AND extract(epoch FROM deadline_at) = 1700000020"),
	                 1);
}

static void test_lazy_waits_and_then_goes(void **state)
{
	struct journal_world *w = *state;
	struct record *a = jw_record(w, "a"), *b = jw_record(w, "b");
	int64_t start_us;

	journal_world_terms(w, 400000, 0, 1000000);
	start_us = clock_mono_us();
	jw_put(a, 1, false);
	loop_for_ms(w->loop, 20);
	jw_put(b, 1, false); /* does not start the clock anew */
	jw_until_durable(w, 2);
	assert_in_range(a->at_us - start_us, 400000, 5000000);
	assert_int_equal(jw_stats(w).n_flush, 1);
	/* The clock runs again for the next. */
	start_us = clock_mono_us();
	jw_put(a, 2, false);
	jw_until_durable(w, 3);
	assert_in_range(a->at_us - start_us, 400000, 5000000);
}

static void test_lazy_rides_with_forced(void **state)
{
	struct journal_world *w = *state;

	jw_put(jw_record(w, "a"), 1, false);
	jw_attempt(w, "a", "b1", 0);
	loop_for_ms(w->loop, 30);
	assert_int_equal(jw_stats(w).n_flush, 0);
	jw_put(jw_record(w, "b"), 1, true);
	jw_until_durable(w, 2);
	assert_int_equal(jw_stats(w).n_flush, 1);
	assert_int_equal(jw_stats(w).n_history, 1);
	assert_int_equal(jw_number(CALLS " WHERE gid = 'a' AND branch = 'b1' AND node = 'n1'"), 1);
}

/* A lazy state put while a flush is under way must not be forgotten when nothing else comes. */
static void test_lazy_behind_a_flush(void **state)
{
	struct journal_world *w = *state;
	struct record *r = jw_record(w, "a");

	journal_world_terms(w, 20000, 0, 1000000);
	jw_gate_close(w);
	jw_put(r, 1, true);
	jw_until_held(w);
	jw_put(r, 2, false);
	jw_attempt(w, "a", "b1", 0);
	jw_gate_open(w);
	jw_until_durable(w, 2);
	assert_int_equal(jw_number(CALLS), 1);
}

static void test_rows_per_flush(void **state)
{
	struct journal_world *w = *state;

	for (unsigned i = 0; i < 2 * JOURNAL_FLUSH_ROWS; i++)
		jw_put(jw_record_n(w, i), 1, true);
	jw_until_durable(w, 2 * JOURNAL_FLUSH_ROWS);
	assert_int_equal(jw_stats(w).n_flush, 2);
	jw_put(jw_record(w, "one more"), 1, true);
	for (unsigned i = 0; i < JOURNAL_FLUSH_ROWS; i++)
		jw_put(&w->record[i], 2, true);
	jw_until_durable(w, 3 * JOURNAL_FLUSH_ROWS + 1);
	assert_int_equal(jw_stats(w).n_flush, 4);
	assert_int_equal(jw_number(STORED), 2 * JOURNAL_FLUSH_ROWS + 1);
}

static void test_bytes_per_flush(void **state)
{
	struct journal_world *w = *state;
	size_t len = JOURNAL_FLUSH_BYTES / 2;
	char *text = calloc(1, JOURNAL_FLUSH_BYTES + 1);

	assert_non_null(text);
	for (unsigned i = 0; i < 6; i++) {
		struct record *r = jw_record_n(w, i);

		r->entry.submission = text;
		r->entry.submission_len = i == 5 ? JOURNAL_FLUSH_BYTES + 1 : len;
		jw_put(r, 1, true);
	}
	jw_until_durable(w, 6);
	/* Two and two, then one and the one that is too large for any. */
	assert_int_equal(jw_stats(w).n_flush, 3);
	assert_int_equal(jw_number("SELECT sum(length(submission)) FROM assent.txn"), 7 * len + 1);
	free(text);
}

/* More than that is dropped and counted: history is not promised, memory is. */
static void test_history_bound(void **state)
{
	struct journal_world *w = *state;

	for (unsigned i = 0; i < JOURNAL_HISTORY_ROWS + 5; i++)
		jw_attempt(w, "a", "b1", 0);
	assert_int_equal(jw_stats(w).n_history_dropped, 5);
	jw_put(jw_record(w, "a"), 1, true);
	jw_until_durable(w, 1);
	assert_int_equal(jw_stats(w).n_history, JOURNAL_HISTORY_ROWS);
	assert_int_equal(jw_number(CALLS), JOURNAL_HISTORY_ROWS);
	jw_attempt(w, "a", "b1", 0);
	assert_int_equal(jw_stats(w).n_history_dropped, 5);
}

static void test_pause_under_load(void **state)
{
	struct journal_world *w = *state;
	struct record *r = jw_record(w, "a");
	struct record *other = jw_record(w, "b");
	int64_t first_us, least_us = INT64_MAX;
	unsigned n = 0;

	journal_world_terms(w, JW_FOREVER, 150000, 1);
	for (int16_t i = 1; i <= 3; i++) {
		jw_put(r, i, true);
		jw_until_durable(w, ++n);
	}
	first_us = r->at_us;
	jw_put(r, 4, true);
	jw_put(other, 1, true);
	n += 2;
	jw_until_durable(w, n);
	/* From start to start, so a little less than from end to end. */
	assert_in_range(r->at_us - first_us, 100000, 5000000);
	assert_int_equal(jw_stats(w).n_flush, 4);
	/* The other one is there still, but has nothing to say: no load. At least once in 20 times
	 * that is quick on any machine. */
	for (int16_t i = 5; i < 25; i++) {
		first_us = r->at_us;
		jw_put(r, i, true);
		jw_until_durable(w, ++n);
		if (r->at_us - first_us < least_us)
			least_us = r->at_us - first_us;
	}
	assert_in_range(least_us, 0, 100000);
}

static void test_forget(void **state)
{
	struct journal_world *w = *state;
	struct record *a = jw_record(w, "a"), *b = jw_record(w, "b");

	jw_put(a, 1, true);
	jw_put(b, 1, true);
	journal_forget(&a->entry);
	assert_true(journal_entry_idle(&a->entry));
	jw_until_durable(w, 1);
	assert_int_equal(b->n_durable, 1);
	assert_int_equal(jw_number(STORED), 1);
}

/* Loaded from the database: the row is there, so what follows is an update. */
static void test_loaded(void **state)
{
	struct journal_world *w = *state;
	struct record *r = jw_record(w, "a");
	struct journal_state s = {.state = 2, .deadline_us = 1};

	jw_put(r, 1, true);
	jw_until_durable(w, 1);
	r = jw_record(w, "a");
	journal_entry_loaded(&r->entry, &s);
	assert_true(r->entry.stored);
	assert_int_equal(r->entry.durable.state, 2);
	jw_put(r, 3, true);
	jw_until_durable(w, 2);
	assert_int_equal(jw_number("SELECT state FROM assent.txn"), 3);
}

static void test_sync(void **state)
{
	struct journal_world *w = *state;
	struct jw_wait nothing, lazy, again;

	jw_sync(w, &nothing);
	assert_int_equal(nothing.n, 0);
	loop_until_count(w->loop, &nothing.n, 1);
	assert_int_equal(nothing.err, 0);
	jw_put(jw_record(w, "a"), 1, false);
	jw_attempt(w, "a", "b1", 0);
	jw_sync(w, &lazy);
	jw_sync(w, &again);
	loop_until_count(w->loop, &again.n, 1);
	assert_int_equal(lazy.n, 1);
	assert_int_equal(lazy.n_durable, 1);
	assert_int_equal(jw_number(CALLS), 1);
	assert_int_equal(jw_stats(w).n_flush, 2);
}

/* What does not fit into the next flush is waited for, what comes later is not. */
static void test_sync_waits_for_all(void **state)
{
	struct journal_world *w = *state;
	struct jw_wait one, all;
	unsigned i;

	jw_gate_close(w);
	jw_put(jw_record(w, "first"), 1, true);
	jw_until_held(w);
	jw_sync(w, &one);
	for (i = 0; i < 2 * JOURNAL_FLUSH_ROWS; i++)
		jw_put(jw_record_n(w, i), 1, true);
	jw_sync(w, &all);
	for (; i < 2 * JOURNAL_FLUSH_ROWS + 500; i++)
		jw_put(jw_record_n(w, i), 1, true);
	jw_gate_open(w);
	loop_until_count(w->loop, &all.n, 1);
	assert_in_range(one.n_durable, 1, JOURNAL_FLUSH_ROWS + 1);
	assert_int_equal(all.n_durable, 2 * JOURNAL_FLUSH_ROWS + 1);
	jw_until_durable(w, 2 * JOURNAL_FLUSH_ROWS + 501);
}

static void test_stop(void **state)
{
	struct journal_world *w = *state;
	struct record *a = jw_record(w, "a"), *b = jw_record(w, "b");
	struct jw_wait early, late;

	jw_gate_close(w);
	jw_put(a, 1, true);
	jw_sync(w, &early);
	jw_until_held(w);
	jw_put(a, 2, true);
	jw_put(b, 1, true);
	jw_attempt(w, "a", "b1", 0);
	jw_sync(w, &late);
	journal_stop(w->journal);
	assert_int_equal(early.n, 1);
	assert_int_equal(early.err, ERR_LOST);
	assert_int_equal(late.n, 1);
	assert_int_equal(late.err, ERR_LOST);
	assert_true(jw_idle(w));
	/* Stopped, it takes no history, and nobody hears of the flush any more. */
	jw_attempt(w, "a", "b1", 0);
	assert_int_equal(jw_stats(w).n_history_dropped, 1);
	jw_gate_open(w);
	pg_reconnect(w->pg, "test");
	loop_until_count(w->loop, &w->n_up, 2);
	assert_int_equal(w->n_durable + w->n_refused + w->n_lost, 0);
	assert_int_equal(jw_number(CALLS), 0);
}

/* The owner gives everything up, and frees it, from inside the first of many callbacks. */
static void test_stop_inside_durable(void **state)
{
	struct journal_world *w = *state;

	for (unsigned i = 0; i < 5; i++)
		jw_put(jw_record_n(w, i), 1, true);
	w->stop_when_durable = true;
	loop_until_count(w->loop, &w->n_durable, 1);
	assert_int_equal(w->n_durable, 1);
	assert_true(jw_idle(w));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, journal_world_setup, journal_world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_coalesces),
	    TEST(test_newest_state_is_written),
	    TEST(test_park),
	    TEST(test_order),
	    TEST(test_columns),
	    TEST(test_lazy_waits_and_then_goes),
	    TEST(test_lazy_rides_with_forced),
	    TEST(test_lazy_behind_a_flush),
	    TEST(test_rows_per_flush),
	    TEST(test_bytes_per_flush),
	    TEST(test_history_bound),
	    TEST(test_pause_under_load),
	    TEST(test_forget),
	    TEST(test_loaded),
	    TEST(test_sync),
	    TEST(test_sync_waits_for_all),
	    TEST(test_stop),
	    TEST(test_stop_inside_durable),
	};

	return cmocka_run_group_tests(tests, journal_world_group_setup,
	                              journal_world_group_teardown);
}
