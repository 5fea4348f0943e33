/*
 * test_pg.c - batches: values, failures, and when they are durable.
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
#include "loop_test.h"
#include "pg_world.h"

static void test_arrays_through_unnest(void **state)
{
	struct pg_world *w = *state;
	struct buf value = BUF_INIT;
	const char *sql = "SELECT string_agg(id || coalesce(v, '-'), ' ' ORDER BY id) FROM t";
	char message[128];

	pg_world_put(w, -1, 4);
	loop_until_count(w->loop, &w->n_done, 1);
	assert_int_equal(w->last.err, 0);
	assert_int_equal(w->last.n_result, 1);
	assert_int_equal(
	    pg_run(private_pg_conninfo(pg_world_server), &sql, 1, &value, message, sizeof(message)),
	    0);
	assert_string_equal(value.data, "-1even 0- 1even 2-");
	buf_release(&value);
	pg_world_put(w, 5, 0);
	loop_until_count(w->loop, &w->n_done, 2);
	assert_int_equal(w->last.err, 0);
}

static void echo_done(void *ctx, const struct pg_outcome *o)
{
	struct pg_world *w = ctx;
	const struct pg_result *r;
	const char *text;
	size_t len;

	w->n_done++;
	assert_int_equal(o->err, 0);
	assert_int_equal(o->n_result, 2);
	r = o->result[0];
	assert_int_equal(pg_rows(r), 1);
	assert_int_equal(pg_int(r, 0, 0), -2);
	assert_int_equal(pg_int(r, 0, 1), -70000);
	assert_int_equal(pg_int(r, 0, 2), INT64_MIN);
	assert_int_equal(pg_int(r, 0, 3), 1);
	assert_true(pg_null(r, 0, 4));
	text = pg_bytes(r, 0, 5, &len);
	assert_int_equal(len, 3);
	assert_memory_equal(text, "\0\xff!", 3);
	assert_int_equal(pg_touched(o->result[1]), 3);
}

static void test_values(void **state)
{
	struct pg_world *w = *state;
	struct buf a = BUF_INIT, b = BUF_INIT, c = BUF_INIT;
	struct pg_batch *batch = pg_world_begin(w);
	struct pg_param param[6];

	pg_put_int2(&a, -2);
	pg_put_int4(&b, -70000);
	pg_put_int8(&c, INT64_MIN);
	param[0] = (struct pg_param){a.data, a.len};
	param[1] = (struct pg_param){b.data, b.len};
	param[2] = (struct pg_param){c.data, c.len};
	param[3] = (struct pg_param){"\1", 1};
	param[4] = (struct pg_param){NULL, 0};
	param[5] = (struct pg_param){"\0\xff!", 3};
	pg_batch_add(batch, S_ECHO, param);
	buf_release(&a);
	buf_release(&b);
	buf_release(&c);
	pg_world_add_put(batch, 1, 3);
	pg_batch_send(batch, echo_done, w);
	loop_until_count(w->loop, &w->n_done, 1);
}

static void test_setup_ran(void **state)
{
	struct pg_world *w = *state;
	struct pg_batch *b = pg_world_begin(w);

	(void)state;
	pg_batch_add(b, S_PID, NULL);
	pg_world_send(w, b);
	loop_until_count(w->loop, &w->n_done, 1);
	assert_true(w->value > 1);
	pg_world_sql(
	    "DO $$ BEGIN IF (SELECT count(*) FROM pg_stat_activity"
	    " WHERE application_name = 'assent test') <> 1 THEN RAISE 'no session'; END IF; "
	    "END $$");
}

static void test_failure_takes_its_batch_only(void **state)
{
	struct pg_world *w = *state;
	struct pg_batch *b;

	pg_world_put(w, 1, 10);
	b = pg_world_begin(w);
	pg_world_add_put(b, 100, 10);
	pg_world_add_int(b, S_DIVIDE, 0);
	pg_world_add_put(b, 200, 10);
	pg_world_send(w, b);
	pg_world_put(w, 300, 10);
	loop_until_count(w->loop, &w->n_done, 3);
	assert_int_equal(w->err[0], 0);
	assert_int_equal(w->err[1], ERR_DATA);
	assert_int_equal(w->err[2], 0);
	assert_int_equal(w->bad.failed, 1);
	assert_string_equal(w->bad.sqlstate, "22012");
	assert_string_equal(w->message, "division by zero");
	assert_int_equal(w->bad.n_result, 0);
	assert_int_equal(pg_world_count(w), 20);
	/* Not the data's fault: another class. */
	pg_world_sql("ALTER TABLE t RENAME TO gone");
	pg_world_put(w, 400, 1);
	loop_until_count(w->loop, &w->n_done, 5);
	assert_int_equal(w->last.err, ERR_IO);
	pg_world_sql("ALTER TABLE gone RENAME TO t");
	assert_int_equal(pg_world_count(w), 20);
	assert_int_equal(w->n_down, 0);
}

static void test_deferred_constraint(void **state)
{
	struct pg_world *w = *state;
	struct pg_batch *b = pg_world_begin(w);

	pg_world_add_put(b, 1, 5);
	pg_world_add_int(b, S_LATER, 7);
	pg_world_add_int(b, S_LATER, 7);
	pg_world_send(w, b);
	loop_until_count(w->loop, &w->n_done, 1);
	assert_int_equal(w->last.err, ERR_DATA);
	assert_string_equal(w->last.sqlstate, "23505");
	assert_int_equal(w->last.failed, 3);
	assert_int_equal(pg_world_count(w), 0);
	assert_int_equal(w->n_down, 0);
}

static void test_warning_is_unknown(void **state)
{
	struct pg_world *w = *state;
	struct pg_batch *b = pg_world_begin(w);

	pg_batch_add(b, S_WARN, NULL);
	pg_world_send(w, b);
	pg_world_put(w, 1, 1);
	loop_until_count(w->loop, &w->n_down, 1);
	assert_int_equal(w->n_done, 2);
	assert_int_equal(w->err[0], ERR_LOST);
	assert_int_equal(w->err[1], ERR_LOST);
	assert_string_equal(w->why, "careful");
	loop_until_count(w->loop, &w->n_up, 2);
	pg_world_count(w);
}

/* Between a statement's success and the sync, as of a cancelled wait for a standby. */
static void test_warning_on_commit_is_unknown(void **state)
{
	struct pg_world *w = *state;
	struct pg_batch *b = pg_world_begin(w);

	pg_batch_add(b, S_WARN_LATER, NULL);
	pg_world_send(w, b);
	loop_until_count(w->loop, &w->n_down, 1);
	assert_int_equal(w->n_done, 1);
	assert_int_equal(w->err[0], ERR_LOST);
	assert_string_equal(w->why, "too late");
	loop_until_count(w->loop, &w->n_up, 2);
}

static void test_many_batches_and_chaining(void **state)
{
	struct pg_world *w = *state;

	for (unsigned i = 0; i < 300; i++)
		pg_world_put(w, 1000 * (int64_t)i, 20);
	w->chain = true;
	loop_until_count(w->loop, &w->n_done, 301);
	for (unsigned i = 0; i < 301; i++)
		assert_int_equal(w->err[i], 0);
	assert_int_equal(pg_world_count(w), 6000);
	/* A batch of nothing is durable, too. */
	pg_world_send(w, pg_world_begin(w));
	loop_until_count(w->loop, &w->n_done, 303);
	assert_int_equal(w->last.err, 0);
}

/* More than the socket holds in both directions at once: neither side may wait for the other. */
static void test_large_both_ways(void **state)
{
	struct pg_world *w = *state;
	size_t len = 8 * 1024 * 1024;
	char *text = malloc(len);
	struct pg_batch *b;

	assert_non_null(text);
	memset(text, 'y', len);
	for (int i = 0; i < 3; i++) {
		b = pg_world_begin(w);
		pg_world_add_int(b, S_BIG, (int64_t)len);
		pg_batch_add(b, S_LEN, &(struct pg_param){text, len});
		pg_world_send(w, b);
	}
	free(text);
	loop_until_count(w->loop, &w->n_done, 3);
	assert_int_equal(w->last.err, 0);
	assert_int_equal(w->value, len);
}

static void test_run(void **state)
{
	const char *sql[] = {"CREATE TEMP TABLE x (i int); INSERT INTO x VALUES (41)",
	                     "SELECT i + 1 FROM x"};
	const char *bad[] = {"SELECT 1 / 0", "SELEC 1"};
	struct buf value = BUF_INIT;
	const char *conninfo = private_pg_conninfo(pg_world_server);
	char message[64];

	(void)state;
	assert_int_equal(pg_run(conninfo, sql, 2, &value, message, sizeof(message)), 0);
	assert_string_equal(value.data, "42");
	assert_int_equal(pg_run(conninfo, &bad[0], 1, &value, message, sizeof(message)), ERR_DATA);
	assert_string_equal(message, "division by zero");
	assert_int_equal(pg_run(conninfo, &bad[1], 1, NULL, message, sizeof(message)), ERR_STATE);
	assert_int_equal(pg_run("host=/nonexistent", sql, 2, NULL, message, sizeof(message)),
	                 ERR_IO);
	assert_non_null(strstr(message, "/nonexistent"));
	assert_int_equal(pg_run("geheim", sql, 2, NULL, message, sizeof(message)), ERR_IO);
	assert_null(strstr(message, "geheim"));
	buf_release(&value);
}

#define T(name) cmocka_unit_test_setup_teardown(name, pg_world_setup, pg_world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    T(test_arrays_through_unnest),
	    T(test_values),
	    T(test_setup_ran),
	    T(test_failure_takes_its_batch_only),
	    T(test_deferred_constraint),
	    T(test_warning_is_unknown),
	    T(test_warning_on_commit_is_unknown),
	    T(test_many_batches_and_chaining),
	    T(test_large_both_ways),
	    T(test_run),
	};

	return cmocka_run_group_tests(tests, pg_world_group_setup, pg_world_group_teardown);
}
