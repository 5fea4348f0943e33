/*
 * test_journal_plan.c - the plans of the journal's statements, whatever the planner believes about
 * the tables.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "io/sql.h"
#include "journal_world.h"

#define STORED "SELECT count(*) FROM assent.txn"

static const char *const array_types[SQL_WRITE_MAX] = {
    [SQL_CREATE] = "text[],int2[],int8[],int2[],int2[],timestamptz[],timestamptz[],bytea[],"
                   "timestamptz[],int2[],timestamptz[],bytea[],bytea[],bytea[],text[]",
    [SQL_CREATE_LABELED] =
        "text[],int2[],int8[],int2[],int2[],timestamptz[],timestamptz[],bytea[],timestamptz[],"
        "int2[],timestamptz[],bytea[],bytea[],bytea[],text[],text[],text[],text[],timestamptz[]",
    [SQL_UPDATE] = "text[],int2[],int8[],int2[],int2[],timestamptz[],timestamptz[],bytea[],"
                   "timestamptz[]",
    [SQL_PARK] = "text[],int2[],int8[],text[],timestamptz[],bytea[],bytea[]",
    [SQL_ENLIST] = "text[],int2[],int8[],int2[],bytea[],bytea[]",
    [SQL_RESULT] = "text[],int2[],int8[],int2[],bytea[]",
    [SQL_HISTORY] = "text[],int2[],int8[],text[],int2[],int4[],timestamptz[],timestamptz[],int2[],"
                    "int2[],text[],text",
};

/* As the journal's session plans it. */
static char *plan_with(enum sql_write which, const char *types)
{
	const struct pg_statement *s = &sql_write_statement[which];
	struct buf sql = BUF_INIT;
	char *plan;

	for (size_t k = 0; sql_write_setup[k]; k++)
		buf_printf(&sql, "%s; ", sql_write_setup[k]);
	buf_printf(&sql, "PREPARE p(%s) AS %s; ", types, s->sql);
	buf_puts(&sql, "EXPLAIN (FORMAT YAML) EXECUTE p(NULL");
	for (unsigned k = 1; k < s->n_param; k++)
		buf_puts(&sql, ", NULL");
	buf_puts(&sql, ")");
	plan = jw_text(sql.data);
	buf_release(&sql);
	return plan;
}

/* Only nested loops over indexes, and the arrays drive them. */
static void check_plans(void)
{
	static const char *const never[] = {"Seq Scan", "Hash", "Merge", "Sort", "Bitmap"};
	static const enum sql_write which[] = {SQL_CREATE, SQL_CREATE_LABELED, SQL_UPDATE, SQL_PARK,
	                                       SQL_ENLIST, SQL_RESULT,         SQL_HISTORY};

	for (size_t i = 0; i < sizeof which / sizeof which[0]; i++) {
		char *plan = plan_with(which[i], array_types[which[i]]);

		for (size_t k = 0; k < sizeof never / sizeof never[0]; k++) {
			if (strstr(plan, never[k]))
				fail_msg("%s: %s", sql_write_statement[which[i]].name, plan);
		}
		assert_non_null(strstr(plan, "Index Name: \"shard_pkey\""));
		if (which[i] == SQL_UPDATE || which[i] == SQL_PARK)
			assert_non_null(strstr(plan, "Index Name: \"txn_pkey\""));
		assert_true(strstr(plan, "\"Function Scan\"") < strstr(plan, "\"Index Scan\""));
		free(plan);
	}
}

/* A generic plan is made once and kept while the table grows: on a fresh table, on one that grew
 * through the journal, and when the statistics know it. */
static void test_plans(void **state)
{
	struct journal_world *w = *state;
	unsigned n = 0;

	check_plans();
	while (n < 20000) {
		for (unsigned i = 0; i < JOURNAL_FLUSH_ROWS; i++, n++)
			jw_put(jw_record_n(w, n), 1, true);
		jw_until_durable(w, n);
		w->n_record = 0;
	}
	assert_int_equal(jw_number(STORED), 20000);
	check_plans();
	jw_sql("ANALYZE assent.txn; ANALYZE assent.shard; ANALYZE assent.history");
	check_plans();
}

/* With statistics of one row the planner reads the table first: rows come back in its order. */
static void test_plan_of_one_row(void **state)
{
	struct journal_world *w = *state;
	char gid[8];

	for (int c = 'a'; c <= 'z'; c++) {
		(void)snprintf(gid, sizeof gid, "%c%c", 'z' - (c - 'a'), c);
		jw_put(jw_record(w, gid), 1, true);
		jw_until_durable(w, w->n_record);
		if (c == 'a')
			jw_sql("ANALYZE assent.txn");
	}
	for (unsigned i = 0; i < 26; i++)
		jw_put(&w->record[i], 2, true);
	jw_put(jw_record(w, "gone"), 1, true);
	jw_until_durable(w, 53);
	assert_string_equal(w->order + 26, "abcdefghijklmnopqrstuvwxyze");
	for (unsigned i = 0; i < 27; i++)
		jw_put(&w->record[i], 3, true);
	jw_sql("DELETE FROM assent.txn WHERE gid = 'gone'");
	jw_until_durable(w, 79);
	assert_int_equal(w->n_lost, 0);
	assert_int_equal(w->record[26].err, ERR_LOST);
	assert_int_equal(jw_number(STORED " WHERE state = 3"), 26);
}

/* One that parks and takes back is not slow because others wait, or have ended: pages along an index,
 * in its order. */
static void test_plans_of_parked(void **state)
{
	static const struct {
		enum sql_write which;
		const char *types, *index;
	} page[] = {
	    {SQL_LOAD, "timestamptz,text,int8,int8,int2", "Index Name: \"txn_awake\""},
	    {SQL_TAKE_BACK, "text,timestamptz,text,int8,int8,timestamptz,timestamptz",
	     "Index Name: \"txn_parked\""},
	    {SQL_PARKED_NEXT, "text,timestamptz,timestamptz", "Index Name: \"txn_parked\""},
	};

	(void)state;
	jw_sql("INSERT INTO assent.txn (gid, shard, epoch, mode, state, outcome, created_at,"
	       " deadline_at, branch_state, body_sha256, submission, parked_for, parked_until,"
	       " ended_at) SELECT 'g' || i, 0, 0, 1, 3, 1, now(), now(), '', '', '',"
	       " CASE WHEN i % 3 > 0 THEN 'p' || i % 7 END, now(), CASE WHEN i % 2 > 0 THEN now()"
	       " END FROM generate_series(1, 5000) AS i; ANALYZE assent.txn");
	for (size_t i = 0; i < sizeof page / sizeof page[0]; i++) {
		char *plan = plan_with(page[i].which, page[i].types);

		if (!strstr(plan, page[i].index) || strstr(plan, "Seq Scan") ||
		    strstr(plan, "\"Sort\""))
			fail_msg("%s: %s", sql_write_statement[page[i].which].name, plan);
		free(plan);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, journal_world_setup, journal_world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_plans),
	    TEST(test_plans_of_parked),
	    TEST(test_plan_of_one_row),
	};

	return cmocka_run_group_tests(tests, journal_world_group_setup,
	                              journal_world_group_teardown);
}
