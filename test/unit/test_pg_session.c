/*
 * test_pg_session.c - sessions that are lost, given up, freed, or never come to be.
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

#include "base/clock.h"
#include "io/listen.h"
#include "loop_test.h"
#include "pg_world.h"

static void test_terminated_under_load(void **state)
{
	struct pg_world *w = *state;
	struct pg_batch *b;
	unsigned n_ok = 0, i;

	for (i = 0; i < 50; i++)
		pg_world_put(w, 10 * (int64_t)i, 10);
	b = pg_world_begin(w);
	pg_batch_add(b, S_SLEEP, NULL);
	pg_world_send(w, b);
	for (i = 51; i < 100; i++)
		pg_world_put(w, 10 * (int64_t)i, 10);
	loop_until_count(w->loop, &w->n_done, 50);
	pg_world_sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
	             " WHERE application_name = 'assent test'");
	loop_until_count(w->loop, &w->n_down, 1);
	assert_int_equal(w->n_done, 100);
	for (i = 0; i < 100; i++) {
		assert_int_equal(w->err[i], i < 50 ? 0 : ERR_LOST);
		n_ok += w->err[i] == 0;
	}
	assert_non_null(strstr(w->why, "terminating connection"));
	loop_until_count(w->loop, &w->n_up, 2);
	assert_int_equal(pg_world_count(w), 10 * n_ok);
}

static void test_terminated_while_idle(void **state)
{
	struct pg_world *w = *state;

	pg_world_sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
	             " WHERE application_name = 'assent test'");
	loop_until_count(w->loop, &w->n_up, 2);
	assert_int_equal(w->n_down, 1);
	assert_int_equal(pg_world_count(w), 0);
}

static void test_server_restart(void **state)
{
	struct pg_world *w = *state;

	pg_world_put(w, 1, 3);
	loop_until_count(w->loop, &w->n_done, 1);
	assert_int_equal(private_pg_crash(pg_world_server), 0);
	pg_world_put(w, 10, 3);
	/* The loss, then refused attempts. */
	loop_until_count(w->loop, &w->n_down, 3);
	assert_int_equal(w->err[1], ERR_LOST);
	assert_int_equal(private_pg_resume(pg_world_server), 0);
	loop_until_count(w->loop, &w->n_up, 2);
	assert_int_equal(pg_world_count(w), 3);
}

static void test_reconnect(void **state)
{
	struct pg_world *w = *state;
	struct pg_batch *b = pg_world_begin(w);

	pg_batch_add(b, S_COUNT, NULL);
	pg_reconnect(w->pg, "no longer trusted\nat all");
	assert_false(pg_up(w->pg));
	assert_int_equal(w->n_down, 0);
	pg_world_send(w, b);
	loop_until_count(w->loop, &w->n_down, 1);
	assert_string_equal(w->why, "no longer trusted");
	assert_int_equal(w->n_done, 1);
	assert_int_equal(w->err[0], ERR_LOST);
	pg_reconnect(w->pg, "down already");
	loop_until_count(w->loop, &w->n_up, 2);
	assert_int_equal(w->n_down, 1);
	pg_world_count(w);
}

/* A batch begun in one session is not finished in the next. */
static void test_batch_of_a_lost_session(void **state)
{
	struct pg_world *w = *state;

	for (unsigned up = 1; up <= 2; up++) {
		struct pg_batch *b = pg_world_begin(w);

		pg_world_add_put(b, up, 1);
		pg_reconnect(w->pg, "gone");
		loop_until_count(w->loop, &w->n_down, up);
		/* First while there is no session, then in the next one. */
		if (up == 2)
			loop_until_count(w->loop, &w->n_up, 3);
		pg_batch_add(b, S_COUNT, NULL);
		pg_world_send(w, b);
		loop_until_count(w->loop, &w->n_done, up);
		assert_int_equal(w->err[up - 1], ERR_LOST);
		loop_until_count(w->loop, &w->n_up, 2 * up);
	}
	assert_int_equal(pg_world_count(w), 0);
}

static void test_free_inside_callback(void **state)
{
	struct pg_world *w = *state;

	w->free_in_done = true;
	pg_world_put(w, 1, 1);
	pg_world_put(w, 2, 1);
	loop_until_count(w->loop, &w->n_done, 1);
	loop_for_ms(w->loop, 20);
	assert_int_equal(w->n_done, 1);
	assert_int_equal(w->n_down, 0);
}

static void test_free_while_batches_are_lost(void **state)
{
	struct pg_world *w = *state;

	w->free_in_done = true;
	pg_world_put(w, 1, 1);
	pg_world_put(w, 2, 1);
	pg_reconnect(w->pg, "gone");
	loop_until_count(w->loop, &w->n_done, 1);
	loop_for_ms(w->loop, 20);
	assert_int_equal(w->err[0], ERR_LOST);
	assert_int_equal(w->n_done, 1);
	assert_int_equal(w->n_down, 0);
}

static void test_bad_connections(void **state)
{
	struct pg_world *w = *state;
	struct pg_config config = {.conninfo = "nonsense geheim", .application_name = "x"};
	struct pg *other = NULL;

	assert_int_equal(pg_new(w->loop, &config, &other), ERR_INVALID);
	pg_free(w->pg);
	pg_world_open(w, "host=/nonexistent user=x password=geheim");
	loop_until_count(w->loop, &w->n_down, 2);
	assert_non_null(strstr(w->why, "/nonexistent"));
	assert_int_equal(w->n_up, 1);
}

/* A host that accepts and says nothing: the next attempt begins with the next one. */
static void test_connecting_times_out(void **state)
{
	struct pg_world *w = *state;
	int64_t start = clock_mono_us();
	char conninfo[256];
	uint16_t port;
	bool ipv6;
	int fd;

	assert_int_equal(listen_open("127.0.0.1", 0, &fd, &port, &ipv6), 0);
	snprintf(conninfo, sizeof(conninfo), "host=127.0.0.1,%s port=%u,5432",
	         private_pg_conninfo(pg_world_server) + strlen("host="), port);
	pg_free(w->pg);
	pg_world_open(w, conninfo);
	loop_until_count(w->loop, &w->n_down, 1);
	assert_string_equal(w->why, "connecting timed out");
	assert_true(clock_mono_us() - start < 8000000);
	loop_until_count(w->loop, &w->n_up, 2);
	close(fd);
}

/* A session that hangs is given up; one that only has much to do is not. */
static void test_stalled(void **state)
{
	static const struct pg_statement nap[] = {{"nap", "SELECT 1 FROM pg_sleep(0.3)", {0}, 0},
	                                          {"sleep", "SELECT 1 FROM pg_sleep(100)", {0}, 0}};
	struct pg_world *w = *state;
	struct pg_config config = {.conninfo = private_pg_conninfo(pg_world_server),
	                           .application_name = "x",
	                           .statement = nap,
	                           .n_statement = 2,
	                           .stall_us = 1000000,
	                           .on_up = pg_world_up,
	                           .on_down = pg_world_down,
	                           .ctx = w};

	pg_free(w->pg);
	assert_int_equal(pg_new(w->loop, &config, &w->pg), 0);
	loop_until_count(w->loop, &w->n_up, 2);
	for (unsigned i = 0; i < 6; i++) {
		struct pg_batch *b = pg_world_begin(w);

		pg_batch_add(b, i < 5 ? 0 : 1, NULL);
		pg_world_send(w, b);
	}
	loop_until_count(w->loop, &w->n_done, 6);
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(w->err[i], i < 5 ? 0 : ERR_LOST);
	assert_non_null(strstr(w->why, "too long"));
	loop_until_count(w->loop, &w->n_up, 3);
}

static void test_bad_statement(void **state)
{
	static const struct pg_statement bad[] = {{"bad", "SELECT nonsense", {0}, 0}};
	struct pg_world *w = *state;
	struct pg_config config = {.conninfo = private_pg_conninfo(pg_world_server),
	                           .application_name = "x",
	                           .statement = bad,
	                           .n_statement = 1,
	                           .on_up = pg_world_up,
	                           .on_down = pg_world_down,
	                           .ctx = w};

	static const char *const bad_setup[] = {"SET lock_timeout = 1", "SET no_such = 1", NULL};

	pg_free(w->pg);
	assert_int_equal(pg_new(w->loop, &config, &w->pg), 0);
	loop_until_count(w->loop, &w->n_down, 1);
	assert_non_null(strstr(w->why, "nonsense"));
	pg_free(w->pg);
	config.setup = bad_setup;
	assert_int_equal(pg_new(w->loop, &config, &w->pg), 0);
	loop_until_count(w->loop, &w->n_down, 2);
	assert_non_null(strstr(w->why, "no_such"));
	assert_int_equal(w->n_up, 1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, pg_world_setup, pg_world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    T(test_terminated_under_load),
	    T(test_terminated_while_idle),
	    T(test_server_restart),
	    T(test_reconnect),
	    T(test_batch_of_a_lost_session),
	    T(test_free_inside_callback),
	    T(test_free_while_batches_are_lost),
	    T(test_bad_connections),
	    T(test_connecting_times_out),
	    T(test_stalled),
	    T(test_bad_statement),
	};

	return cmocka_run_group_tests(tests, pg_world_group_setup, pg_world_group_teardown);
}
