/*
 * test_peer_stats.c - figures about participants: shares of latencies, windows that pass, and who
 * makes room.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "node/census.h"
#include "node/peer_stats.h"

#define SECOND INT64_C(1000000)

static void call(struct peer_stat *p, enum event_type verdict, int64_t took_us, int64_t now_us)
{
	peer_call_asked(p);
	if (took_us >= 0)
		peer_call_started(p);
	peer_call_done(p, verdict, took_us, "it broke", now_us);
}

static struct peer_stat *nth(struct peer_stats *ps, unsigned n, int64_t now_us)
{
	char label[64];

	(void)snprintf(label, sizeof label, "http://10.0.0.1:%u", n);
	return peer_stats_find(ps, label, now_us);
}

static void test_latency(void **state)
{
	struct peer_stats ps = {0};
	struct peer_summary s;
	struct peer_stat *p;

	(void)state;
	assert_int_equal(peer_stats_init(&ps), 0);
	p = peer_stats_find(&ps, "shop", SECOND);
	peer_summarize(p, SECOND, &s);
	assert_int_equal(s.n + (uint64_t)s.p99_us, 0);
	for (unsigned i = 0; i < 100; i++)
		call(p, EV_DONE, i < 90 ? 1000 : i < 97 ? 50000 : 2000000, SECOND);
	call(p, EV_UNKNOWN, -1, SECOND); /* never left the queue: no latency */
	peer_summarize(p, SECOND, &s);
	assert_int_equal(s.n, 100);
	assert_int_equal(s.mean_us, (90 * 1000 + 7 * 50000 + 3 * 2000000) / 100);
	assert_in_range(s.p50_us, 1000, 1415);
	assert_in_range(s.p95_us, 50000, 70800);
	assert_in_range(s.p99_us, 2000000, 2829000);
	assert_int_equal(p->n_active + p->n_queued, 0);
	peer_stats_release(&ps);
}

static void test_windows_pass(void **state)
{
	struct peer_stats ps = {0};
	struct peer_summary s;
	struct peer_stat *p;

	(void)state;
	assert_int_equal(peer_stats_init(&ps), 0);
	p = peer_stats_find(&ps, "shop", SECOND);
	call(p, EV_DONE, 10, 10 * SECOND);
	call(p, EV_CONTRACT, 10, 11 * SECOND);
	peer_summarize(p, 12 * SECOND, &s);
	assert_int_equal(s.n_error_minute, 1);
	assert_string_equal(peer_health_str(p, &s), "failing");
	call(p, EV_NO, 10, 13 * SECOND);
	assert_string_equal(peer_health_str(p, &s), "unsteady");
	peer_summarize(p, 75 * SECOND, &s);
	assert_int_equal(s.n_error_minute, 0);
	assert_int_equal(s.n, 3);
	assert_string_equal(peer_health_str(p, &s), "ok");
	peer_summarize(p, 400 * SECOND, &s);
	assert_int_equal(s.n, 0);
	call(p, EV_DONE, 10, 310 * SECOND); /* the same place in the ring */
	peer_summarize(p, 310 * SECOND, &s);
	assert_int_equal(s.n, 1);
	assert_string_equal(p->last_error, "it broke");
	peer_stats_release(&ps);
}

static void test_room(void **state)
{
	struct peer_stats ps = {0};
	struct peer_wait *wait = NULL;
	struct peer_stat *first, *named;

	(void)state;
	assert_int_equal(peer_stats_init(&ps), 0);
	named = peer_stats_find(&ps, "shop", 1);
	first = nth(&ps, 0, 2);
	peer_wait_begin(first, &wait, NULL, 0, 2);
	for (unsigned i = 1; i < PEER_STATS_MAX - 1; i++)
		assert_int_equal(nth(&ps, i, 2 + i)->n_wait, 0);
	assert_int_equal(ps.map.n, PEER_STATS_MAX);
	/* Number 1 is the longest unused that nobody waits for and that has no name. */
	assert_ptr_not_equal(nth(&ps, 1000, 1000), ps.other);
	assert_int_equal(ps.map.n, PEER_STATS_MAX);
	assert_ptr_equal(map_get(&ps.map, "http://10.0.0.1:1", 17), NULL);
	assert_ptr_equal(peer_stats_find(&ps, "shop", 1001), named);
	assert_ptr_equal(nth(&ps, 0, 1002), first);
	assert_ptr_equal(peer_longest_wait(first), wait);
	peer_wait_end(&wait);
	assert_ptr_equal(peer_longest_wait(first), NULL);
	peer_stats_release(&ps);
}

static void test_all_busy(void **state)
{
	struct peer_stats ps = {0};
	struct peer_stat *p = NULL;
	size_t bucket = 0;
	unsigned n = 0;

	(void)state;
	assert_int_equal(peer_stats_init(&ps), 0);
	for (unsigned i = 0; i < PEER_STATS_MAX; i++)
		peer_call_asked(nth(&ps, i, 1));
	assert_ptr_equal(nth(&ps, 5000, 2), ps.other);
	while ((p = peer_stats_next(&ps, &bucket, p)))
		n++;
	assert_int_equal(n, PEER_STATS_MAX + 1);
	peer_call_dropped(nth(&ps, 7, 3), false);
	assert_ptr_not_equal(nth(&ps, 5000, 4), ps.other);
	peer_stats_release(&ps);
}

static void test_last_minute(void **state)
{
	struct census c = {0};

	(void)state;
	for (int64_t s = 100; s < 200; s++)
		census_count(&c, RATE_COMMITTED, s * SECOND);
	assert_int_equal(census_last_minute(&c, RATE_COMMITTED, 199 * SECOND), CENSUS_SECONDS);
	assert_int_equal(census_last_minute(&c, RATE_COMMITTED, 229 * SECOND), 30);
	assert_int_equal(census_last_minute(&c, RATE_COMMITTED, 259 * SECOND), 0);
	assert_int_equal(census_last_minute(&c, RATE_ABORTED, 199 * SECOND), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_latency),     cmocka_unit_test(test_windows_pass),
	    cmocka_unit_test(test_room),        cmocka_unit_test(test_all_busy),
	    cmocka_unit_test(test_last_minute),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
