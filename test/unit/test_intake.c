/*
 * test_intake.c - what is held back in a burst, what is not, and when it goes.
 *
 * driver_go_on is this file's: it notes who goes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h must come after those. */
#include <cmocka.h>
#include <string.h>

#include "base/clock.h"
#include "node/driver.h"
#include "node/node.h"
#include "test/unit/loop_test.h"

#define N      200u
#define CROWD  16u /* intake.c's */
#define SECOND INT64_C(1000000)

static struct world {
	struct node node;
	struct config config;
	struct gtx g[N];
	struct list waiter;
	unsigned gone[N];
	unsigned n_gone;
} w;

void driver_go_on(struct gtx *g)
{
	w.gone[w.n_gone++] = (unsigned)(g - w.g);
}

static void on_turn(void *ctx)
{
	intake_turn(ctx);
}

static void start(int64_t overload_delay_ms)
{
	struct http_client_config client = {.concurrency = 4, .queue_max = 4, .peer_max = 4};

	memset(&w, 0, sizeof w);
	w.config.overload_delay_ms = overload_delay_ms;
	w.node.config = &w.config;
	w.node.loop = loop_new();
	list_init(&w.node.intake.held);
	assert_int_equal(timers_init(&w.node.timers, w.node.loop), 0);
	assert_int_equal(http_client_new(w.node.loop, &client, &w.node.client), 0);
	assert_int_equal(intake_init(&w.node), 0);
	w.node.hook = loop_hook_new(w.node.loop, on_turn, &w.node);
	assert_non_null(w.node.hook);
	for (unsigned i = 0; i < N; i++) {
		w.g[i].node = &w.node;
		list_init(&w.g[i].intake.link);
		list_init(&w.g[i].waiter);
		w.g[i].deadline_mono_us = clock_mono_us() + 3600 * SECOND;
	}
}

static int stop(void **state)
{
	(void)state;
	for (unsigned i = 0; i < N; i++)
		intake_leave(&w.g[i]);
	assert_int_equal(w.node.intake.n_storing, 0);
	loop_hook_free(w.node.hook);
	intake_release(&w.node);
	http_client_free(w.node.client);
	timers_release(&w.node.timers);
	loop_free(w.node.loop);
	return 0;
}

static void submit(unsigned from, unsigned n)
{
	for (unsigned i = from; i < from + n; i++)
		intake_submitted(&w.g[i]);
}

/* How many of these are held. */
static unsigned store(unsigned from, unsigned n)
{
	unsigned n_held = 0;

	for (unsigned i = from; i < from + n; i++)
		n_held += intake_hold(&w.g[i]);
	return n_held;
}

static void few_are_no_burst(void **state)
{
	(void)state;
	start(60000);
	submit(0, CROWD);
	assert_int_equal(store(0, CROWD), 0);
}

/* All of a flush, also the last ones, behind whom nobody is left. */
static void burst_is_held_until_it_is_over(void **state)
{
	(void)state;
	start(60000);
	submit(0, N);
	assert_int_equal(store(0, N), N);
	intake_turn(&w.node);
	assert_int_equal(w.n_gone, 0);
	loop_until_count(w.node.loop, &w.n_gone, N);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(w.gone[i], i);
}

static void burst_goes_on_while_more_is_stored(void **state)
{
	(void)state;
	start(60000);
	submit(0, 100);
	assert_int_equal(store(0, 50), 50);
	loop_for_ms(w.node.loop, 30);
	assert_int_equal(w.n_gone, 0);
	assert_int_equal(store(50, 50), 50);
	loop_until_count(w.node.loop, &w.n_gone, 100);
}

static void what_must_not_come_late_is_not_held(void **state)
{
	(void)state;
	start(60000);
	submit(0, 100);
	list_push(&w.g[1].waiter, &w.waiter);
	w.g[2].spec.interactive = true;
	w.g[3].deadline_mono_us = clock_mono_us() + 59 * SECOND;
	assert_int_equal(store(0, 5), 2);
	assert_true(list_empty(&w.g[1].intake.link));
	assert_true(list_empty(&w.g[2].intake.link));
	assert_true(list_empty(&w.g[3].intake.link));
	/* Nor is anything that was stored before. */
	assert_int_equal(store(0, 1), 0);
}

static void who_is_asked_for_goes_first(void **state)
{
	(void)state;
	start(60000);
	submit(0, 100);
	assert_int_equal(store(0, 50), 50);
	intake_hurry(&w.g[30]);
	intake_hurry(&w.g[99]); /* not stored yet */
	intake_turn(&w.node);
	assert_int_equal(w.n_gone, 1);
	assert_int_equal(w.gone[0], 30);
	/* Gone is gone. */
	intake_leave(&w.g[0]);
	intake_hurry(&w.g[30]);
	intake_turn(&w.node);
	assert_int_equal(w.n_gone, 1);
}

static void burst_without_end_is_none(void **state)
{
	(void)state;
	start(80); /* held for 10 ms */
	submit(0, N);
	assert_int_equal(store(0, 50), 50);
	loop_until_count(w.node.loop, &w.n_gone, 50);
	assert_int_equal(store(50, 50), 0);
	/* What is left is stored, and some time later all is as before. */
	assert_int_equal(store(100, 100), 0);
	while (w.node.intake.lasting)
		loop_for_ms(w.node.loop, 5);
	submit(0, 100);
	assert_int_equal(store(0, 100), 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_teardown(few_are_no_burst, stop),
	    cmocka_unit_test_teardown(burst_is_held_until_it_is_over, stop),
	    cmocka_unit_test_teardown(burst_goes_on_while_more_is_stored, stop),
	    cmocka_unit_test_teardown(what_must_not_come_late_is_not_held, stop),
	    cmocka_unit_test_teardown(who_is_asked_for_goes_first, stop),
	    cmocka_unit_test_teardown(burst_without_end_is_none, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
