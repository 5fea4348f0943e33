/*
 * test_http_queue.c - calls that wait for a place at their peer: who comes next, how long they may,
 * and what is sent then.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "http_world.h"
#include "loop_test.h"

static void test_urgent_overtakes(void **state)
{
	struct world *w = *state;
	struct tag tag[8];
	static const char *const path[] = {"/hold1", "/hold2", "/hold3", "/hold4",
	                                   "/hold5", "/holdU", "/holdV"};
	struct http_client_stats stats;

	/* Four places, one of them for urgent calls only. */
	for (int i = 0; i < 7; i++) {
		tag[i] = (struct tag){.w = w};
		world_call_to(&tag[i], w->url, path[i], "x", i >= 5, 5000);
	}
	loop_until_count(w->loop, &w->n_held, 4);
	http_client_stats(w->client, &stats);
	assert_int_equal(stats.n_active, 4);
	assert_int_equal(stats.n_queued, 3);
	assert_int_equal(stats.n_peer, 1);
	assert_non_null(strchr(w->order, 'U'));
	assert_null(strchr(w->order, '4'));
	/* One answer: its place goes to the second urgent call, though two came before it. */
	http_request_reply(w->held[0], 200, NULL, "x", 1, NULL, 0);
	w->held[0] = w->held[3];
	w->n_held = 3;
	loop_until_count(w->loop, &w->n_held, 4);
	assert_int_equal(w->order[4], 'V');
	world_release(w);
	loop_until_count(w->loop, &w->n_held, 2);
	assert_non_null(strchr(w->order, '4'));
	assert_true(strchr(w->order, '4') > strchr(w->order, 'V'));
	world_release(w);
	loop_until_count(w->loop, &w->n_result, 7);
}

static void test_timeout_in_queue_and_under_way(void **state)
{
	struct world *w = *state;
	struct tag tag[4];
	int64_t start = clock_mono_us();

	for (int i = 0; i < 4; i++) {
		tag[i] = (struct tag){.w = w, .letter = (char)('a' + i)};
		world_call_to(&tag[i], w->url, "/hold", "x", false, i == 3 ? 50 : 5000);
		loop_until_count(w->loop, &w->n_held, i < 3 ? (unsigned)i + 1 : 3);
	}
	loop_until_count(w->loop, &w->n_result, 1);
	assert_int_equal(w->ended[0], 'd');
	assert_int_equal(w->result.err, ERR_TIMEOUT);
	assert_int_equal(w->result.started_us, 0);
	assert_int_equal(w->n_held, 3);
	tag[3] = (struct tag){.w = w, .letter = 'e'};
	world_call_to(&tag[3], w->url, "/hold", "x", true, 50);
	loop_until_count(w->loop, &w->n_result, 2);
	assert_int_equal(w->ended[1], 'e');
	assert_int_equal(w->result.err, ERR_TIMEOUT);
	assert_int_not_equal(w->result.started_us, 0);
	assert_in_range(clock_mono_us() - start, 100000, 4000000);
	world_release(w);
	loop_until_count(w->loop, &w->n_result, 5);
	assert_int_equal(w->result.err, 0);
}

/* What waits has no content yet. One that is not to be sent after all gives its place to the next. */
static void test_filled_when_sent(void **state)
{
	struct world *w = *state;
	struct tag held[3], waits = {.w = w, .letter = 'w'};
	struct tag refused = {.w = w, .letter = 'r', .refused = ERR_CANCELLED};

	for (int i = 0; i < 3; i++) {
		held[i] = (struct tag){.w = w};
		world_call(&held[i], "/hold1", "x");
	}
	world_call(&refused, "/a", "never");
	world_call(&waits, "/a", "what was true then");
	loop_until_count(w->loop, &w->n_held, 3);
	waits.text = "what is true now";
	http_call_cancel(held[0].call);
	loop_until_count(w->loop, &w->n_result, 2);
	assert_string_equal(w->ended, "rw");
	assert_string_equal(w->body, "what is true now");
	assert_string_equal(w->order, "111a");
	world_release(w);
	loop_until_count(w->loop, &w->n_result, 4);
	assert_true(world_idle(w));
}

/* That of a call with an end of its own begins when it leaves the queue. */
static void test_time_begins_with_the_call(void **state)
{
	struct world *w = *state;
	struct tag tag[5];
	int64_t now_us = clock_mono_us(), end_us[] = {now_us + 5000000, now_us + 100000};

	for (int i = 0; i < 5; i++) {
		tag[i] = (struct tag){.w = w, .letter = (char)('a' + i), .until_us = end_us[i > 3]};
		world_call_to(&tag[i], w->url, "/hold", "x", false, i < 3 ? 5000 : 40);
	}
	/* Three places: the fourth waits longer than it may take, the fifth until its end. */
	loop_until_count(w->loop, &w->n_result, 1);
	assert_int_equal(w->ended[0], 'e');
	loop_until_count(w->loop, &w->n_held, 3);
	world_release(w);
	loop_until_count(w->loop, &w->n_result, 5);
	assert_int_equal(w->ended[4], 'd');
	assert_in_range(w->result.ended_us - w->result.started_us, 40000, 3000000);
	world_release(w);
}

static void test_queue_limit_and_bad_urls(void **state)
{
	struct world *w = *state;
	struct tag tag[68], bad = {.w = w, .letter = '!'};
	static const char *const url[] = {"nonsense", "ftp://127.0.0.1/", "http://",
	                                  "file:///etc/passwd"};

	for (int i = 0; i < 67; i++) {
		tag[i] = (struct tag){.w = w, .letter = '.'};
		world_call(&tag[i], "/a", "x");
	}
	tag[67] = (struct tag){.w = w, .letter = 'L'};
	world_call(&tag[67], "/a", "x");
	loop_until_count(w->loop, &w->n_result, 1);
	assert_int_equal(w->ended[0], 'L');
	assert_int_equal(w->result.err, ERR_LIMIT);
	loop_until_count(w->loop, &w->n_result, 68);
	for (unsigned i = 0; i < 4; i++) {
		world_call_to(&bad, url[i], "", "x", false, 5000);
		loop_until_count(w->loop, &w->n_result, 69 + i);
		assert_int_equal(w->result.err, ERR_IO);
	}
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
	const struct CMUnitTest tests[] = {
	    T(test_urgent_overtakes),         T(test_timeout_in_queue_and_under_way),
	    T(test_filled_when_sent),         T(test_time_begins_with_the_call),
	    T(test_queue_limit_and_bad_urls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
