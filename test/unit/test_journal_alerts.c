/*
 * test_journal_alerts.c - alerts share the fate of the record they are about, are written in order,
 * and never keep a record from being written.
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
#define COUNT  "SELECT coalesce(sum(count), 0) FROM assent.alert"
#define OPEN   "SELECT coalesce(sum(n_open), 0) FROM assent.alert WHERE closed_at IS NULL"
#define CLOSED "SELECT count(*) FROM assent.alert WHERE closed_at IS NOT NULL"

static const char poison_sql[] = "ALTER TABLE assent.txn ADD CHECK (gid NOT LIKE 'poison%');"
                                 "ALTER TABLE assent.alert ADD CHECK (participant <> 'poison');";

static int group_setup(void **state)
{
	int rc = journal_world_group_setup(state);

	if (rc == 0)
		jw_sql(poison_sql);
	return rc;
}

static void raise_at(struct record *r, const char *participant, bool lasting)
{
	const struct journal_alert alert = {
	    .lasting = lasting,
	    .branch = "b1",
	    .kind = lasting ? "heuristic" : "exhausted",
	    .severity = lasting ? "critical" : "warning",
	    .participant = participant,
	    .error = "HTTP 500",
	    .at_us = INT64_C(1700000000000000),
	};

	assert_int_equal(journal_alert(r->w->journal, &r->entry, &alert), 0);
}

static void close_at(struct record *r)
{
	const struct journal_alert alert = {
	    .close = true, .branch = "b1", .at_us = INT64_C(1700000001000000)};

	assert_int_equal(journal_alert(r->w->journal, &r->entry, &alert), 0);
}

static struct record *stored(struct journal_world *w, const char *gid)
{
	struct record *r = jw_record(w, gid);

	jw_put(r, 1, true);
	loop_until_count(w->loop, &r->n_durable, 1);
	return r;
}

static void sync(struct journal_world *w)
{
	struct jw_wait wait;

	jw_sync(w, &wait);
	loop_until_count(w->loop, &wait.n, 1);
	assert_int_equal(wait.err, 0);
}

/* A neighbour spoils the flush: each alert goes again with its own record, and the neighbour's with
 * none. */
static void test_with_its_record(void **state)
{
	struct journal_world *w = *state;
	struct record *bad;

	for (unsigned i = 0; i < 3; i++) {
		jw_put(jw_record_n(w, i), 1, true);
		raise_at(&w->record[i], "p", true);
	}
	bad = jw_record(w, "poison");
	jw_put(bad, 1, true);
	raise_at(bad, "p", true);
	jw_until_durable(w, 3);
	loop_until(w->loop, jw_idle, w);
	assert_int_equal(bad->err, ERR_DATA);
	assert_int_equal(jw_number(COUNT), 3);
	assert_int_equal(jw_number("SELECT count(*) FROM assent.alert_member m"
	                           " WHERE NOT EXISTS (SELECT FROM assent.txn WHERE gid = m.gid)"),
	                 0);
	journal_forget(&bad->entry);
}

/* Held in the queue behind a flush under way, the record keeps its alert back. */
static void test_not_before_its_record(void **state)
{
	struct journal_world *w = *state;
	struct record *first = stored(w, "first"), *second = stored(w, "second");

	jw_gate_close(w);
	jw_put(first, 2, true);
	jw_until_held(w);
	jw_put(second, 7, true);
	raise_at(second, "p", true);
	assert_false(journal_entry_idle(&second->entry));
	assert_int_equal(jw_number(COUNT), 0);
	jw_gate_open(w);
	jw_until_durable(w, 4);
	assert_int_equal(jw_number(COUNT), 1);
}

static void test_order(void **state)
{
	struct journal_world *w = *state;
	struct record *r = stored(w, "r"), *again = stored(w, "again");

	raise_at(r, "p", false);
	close_at(r);
	raise_at(again, "q", false);
	close_at(again);
	raise_at(again, "q", false);
	sync(w);
	assert_int_equal(jw_number(CLOSED), 1);
	assert_int_equal(jw_number(OPEN), 1);
	assert_int_equal(jw_number("SELECT count(*) FROM assent.alert WHERE participant = 'q'"
	                           " AND closed_at IS NULL"),
	                 1);
}

/* After a restart nobody knows what is open. */
static void test_repeated(void **state)
{
	struct journal_world *w = *state;
	struct record *r = stored(w, "r");

	close_at(r);
	sync(w);
	for (unsigned i = 0; i < 3; i++) {
		raise_at(r, "p", false);
		raise_at(r, "p", true);
		sync(w);
	}
	assert_int_equal(jw_number(COUNT), 2);
	assert_int_equal(jw_number(OPEN), 2);
	close_at(r);
	close_at(r);
	sync(w);
	close_at(r);
	sync(w);
	assert_int_equal(jw_number(CLOSED), 1);
	assert_int_equal(jw_number("SELECT n_open FROM assent.alert WHERE kind = 'heuristic'"), 1);
	/* A new occurrence after the end of the old one is a new alert. */
	raise_at(r, "p", false);
	sync(w);
	assert_int_equal(jw_number("SELECT count(*) FROM assent.alert WHERE kind = 'exhausted'"),
	                 2);
}

static void test_foreign_epoch(void **state)
{
	struct journal_world *w = *state;
	struct record *r = stored(w, "r");

	raise_at(r, "p", false);
	sync(w);
	r->entry.epoch = 5;
	close_at(r);
	raise_at(r, "q", true);
	sync(w);
	assert_int_equal(jw_number(COUNT), 1);
	assert_int_equal(jw_number(OPEN), 1);
}

/* The record counts more than what is said about it. */
static void test_bad_alert(void **state)
{
	struct journal_world *w = *state;
	struct record *r = stored(w, "r");

	jw_put(r, 2, true);
	raise_at(r, "poison", false);
	jw_until_durable(w, 2);
	raise_at(r, "poison", false); /* alone, with no record to go with */
	sync(w);
	assert_int_equal(w->n_refused, 0);
	assert_int_equal(w->n_lost, 0);
	assert_int_equal(jw_number("SELECT state FROM assent.txn"), 2);
	assert_int_equal(jw_number(COUNT), 0);
}

static void test_stopped(void **state)
{
	struct journal_world *w = *state;
	struct record *r = stored(w, "r");

	jw_gate_close(w);
	jw_put(r, 2, true);
	raise_at(r, "p", false);
	jw_until_held(w);
	raise_at(r, "p", true); /* its record is on its way */
	jw_put(r, 3, false);
	close_at(r);
	journal_stop(w->journal);
	journal_forget(&r->entry);
	journal_start(w->journal);
	jw_gate_open(w);
	jw_put(r, 4, true);
	loop_until_count(w->loop, &r->n_durable, 2);
	assert_int_equal(jw_number(CLOSED), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, journal_world_setup, journal_world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_with_its_record), TEST(test_not_before_its_record), TEST(test_order),
	    TEST(test_repeated),        TEST(test_foreign_epoch),         TEST(test_bad_alert),
	    TEST(test_stopped),
	};

	return cmocka_run_group_tests(tests, group_setup, journal_world_group_teardown);
}
