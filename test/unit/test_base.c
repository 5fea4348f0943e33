/*
 * test_base.c - heap, map, list, near matches, clocks, errors.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h must come after those. */
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/heap.h"
#include "base/list.h"
#include "base/map.h"
#include "base/near.h"
#include "no_memory.h"

static uint64_t rng = 88172645463325252u;

static uint64_t rnd(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng;
}

#define N_TIMER 300

/* Against the plain way: the smallest key, and of equal ones the one set first. */
static struct heap_node *smallest(struct heap_node *node)
{
	struct heap_node *best = NULL;

	for (size_t i = 0; i < N_TIMER; i++) {
		if (node[i].pos && (!best || node[i].key < best->key ||
		                    (node[i].key == best->key && node[i].seq < best->seq)))
			best = &node[i];
	}
	return best;
}

static void check_parents(const struct heap *h)
{
	for (size_t i = 1; i < h->n; i++) {
		const struct heap_node *up = h->place[(i - 1) / 2].node;

		assert_int_equal(h->place[i].node->pos, i + 1);
		assert_true(h->place[i].key == h->place[i].node->key);
		assert_true(up->key < h->place[i].node->key ||
		            (up->key == h->place[i].node->key && up->seq < h->place[i].node->seq));
	}
}

static void heap_keeps_order(void **state)
{
	static struct heap_node node[N_TIMER];
	struct heap h;
	size_t n = 0;

	(void)state;
	heap_init(&h);
	assert_null(heap_peek(&h));
	assert_int_equal(heap_reserve(&h, N_TIMER), 0);
	for (int i = 0; i < 20000; i++) {
		struct heap_node *e = &node[rnd() % N_TIMER];

		if (rnd() % 3) {
			n += e->pos == 0;
			heap_set(&h, e, (int64_t)(rnd() % 50));
		} else {
			n -= e->pos != 0;
			heap_remove(&h, e);
		}
		assert_int_equal(h.n, n);
		assert_ptr_equal(heap_peek(&h), smallest(node));
		check_parents(&h);
	}
	heap_release(&h);
}

static void heap_leaves_equals_in_order(void **state)
{
	struct heap_node node[50] = {0};
	struct heap h;

	(void)state;
	heap_init(&h);
	assert_int_equal(heap_reserve(&h, 50), 0);
	for (size_t i = 0; i < 50; i++)
		heap_set(&h, &node[i], 7);
	heap_set(&h, &node[0], 7); /* set again: behind the others */
	for (size_t i = 1; i <= 50; i++) {
		struct heap_node *e = heap_peek(&h);

		assert_ptr_equal(e, &node[i % 50]);
		heap_remove(&h, e);
	}
	heap_release(&h);
#if CAN_FAIL_MALLOC
	out_of_memory = true;
	assert_int_equal(heap_reserve(&h, 1000), ERR_NOMEM);
	out_of_memory = false;
#endif
	assert_int_equal(heap_reserve(&h, SIZE_MAX), ERR_NOMEM);
	heap_release(&h);
}

struct entry {
	struct map_node node;
	char key[16];
	bool in;
};

static struct entry *entry_of(struct map_node *n)
{
	return n ? container_of(n, struct entry, node) : NULL;
}

static void map_finds_what_is_in_it(void **state)
{
	static struct entry entry[500];
	struct map m;
	size_t n = 0;

	(void)state;
	assert_int_equal(map_init(&m, 0), 0);
	for (int i = 0; i < 500; i++)
		(void)snprintf(entry[i].key, sizeof entry[i].key, "key-%d", i);
	for (int i = 0; i < 20000; i++) {
		struct entry *e = &entry[rnd() % 500];
		size_t len = strlen(e->key);

		assert_ptr_equal(entry_of(map_get(&m, e->key, len)), e->in ? e : NULL);
		if (e->in && rnd() % 2) {
			map_remove(&m, &e->node);
			e->in = false;
			n--;
		} else {
			struct map_node other;
			struct map_node *put = e->in ? &other : &e->node;

			assert_int_equal(map_put(&m, put, e->key, len), e->in ? ERR_EXISTS : 0);
			n += !e->in;
			e->in = true;
		}
		assert_int_equal(m.n, n);
	}
	map_release(&m);
}

static void map_is_emptied_while_walked(void **state)
{
	struct map m;
	size_t bucket = 0;
	size_t n = 0;

	(void)state;
	assert_int_equal(map_init(&m, 4), 0);
	assert_null(map_next(&m, &bucket, NULL));
	for (int i = 0; i < 1000; i++) {
		struct entry *e = calloc(1, sizeof *e);

		if (!e)
			abort();
#if CAN_FAIL_MALLOC
		/* It cannot grow for a while: long chains, and no failure. */
		out_of_memory = i < 500;
#endif
		(void)snprintf(e->key, sizeof e->key, "key-%d", i);
		assert_int_equal(map_put(&m, &e->node, e->key, strlen(e->key)), 0);
#if CAN_FAIL_MALLOC
		out_of_memory = false;
#endif
	}
	bucket = 0;
	for (struct map_node *e = NULL; (e = map_next(&m, &bucket, e)); n++) {
		assert_ptr_equal(map_get(&m, e->key, e->key_len), e);
		assert_false(entry_of(e)->in); /* each comes once */
		entry_of(e)->in = true;
		if (rnd() % 4)
			continue;
		map_remove(&m, e);
		free(entry_of(e));
	}
	assert_int_equal(n, 1000);
	n = m.n;
	assert_true(n > 0 && n < 1000);
	bucket = 0;
	for (struct map_node *e = NULL; (e = map_next(&m, &bucket, e)); n--) {
		map_remove(&m, e);
		free(entry_of(e));
	}
	assert_int_equal(n, 0);
	assert_int_equal(m.n, 0);
	map_release(&m);
#if CAN_FAIL_MALLOC
	out_of_memory = true;
	assert_int_equal(map_init(&m, 10), ERR_NOMEM);
	out_of_memory = false;
#endif
}

/* Shard numbers are stored: these values may never change. */
static void hash_stays_what_it_is(void **state)
{
	(void)state;
	assert_true(hash_bytes("", 0) == 0xefd01f60ba992926u);
	assert_true(hash_bytes("a", 1) == 0x82a2a958a9bece5bu);
	assert_true(hash_bytes("gid-1", 5) == 0x296979043e5dc30eu);
	assert_true(hash_bytes("0123456789abcdef0123456789abcdef", 32) == 0x26d521498b2056f3u);
}

static void near_suggests(void **state)
{
	static const char *const names[] = {"listen", "database", "log-level", "dev", NULL};
	char longer[66];

	(void)state;
	assert_string_equal(near_match("lisetn", names), "listen");
	assert_string_equal(near_match("databse", names), "database");
	assert_string_equal(near_match("log_level", names), "log-level");
	assert_string_equal(near_match("dev", names), "dev");
	assert_string_equal(near_match("dav", names), "dev");
	assert_string_equal(near_match("dve", names), "dev"); /* swapped: one mistake, not two */
	assert_null(near_match("da", names));
	assert_null(near_match("", names));
	assert_null(near_match("completely", names));
	memset(longer, 'x', 65);
	longer[65] = '\0';
	assert_null(near_match(longer, names));
}

static void clocks_go_on(void **state)
{
	int64_t before = clock_mono_us();

	(void)state;
	assert_true(before > 0);
	assert_true(clock_mono_us() >= before);
	assert_true(clock_wall_us() > 1700000000000000);
}

static void errors_have_texts(void **state)
{
	(void)state;
	assert_string_equal(err_str(0), "ok");
	assert_string_equal(err_str(ERR_STATE), "not allowed in this state");
	assert_string_equal(err_str(-9999), "unknown error");
}

static void list_keeps_order(void **state)
{
	struct list a;
	struct list b;
	struct list e[4];
	size_t n = 0;

	(void)state;
	list_init(&a);
	list_init(&b);
	assert_null(list_pop(&a));
	for (size_t i = 0; i < 4; i++)
		list_push(i < 2 ? &a : &b, &e[i]);
	list_splice(&a, &b);
	assert_true(list_empty(&b));
	list_splice(&a, &b);
	LIST_FOR_EACH_SAFE (it, &a) {
		assert_ptr_equal(it, &e[n]);
		if (n++ == 1)
			list_remove(it);
	}
	list_remove(&e[1]); /* on no list: nothing happens */
	assert_ptr_equal(list_pop(&a), &e[0]);
	assert_ptr_equal(list_pop(&a), &e[2]);
	assert_ptr_equal(list_pop(&a), &e[3]);
	assert_null(list_pop(&a));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(heap_keeps_order),
	    cmocka_unit_test(heap_leaves_equals_in_order),
	    cmocka_unit_test(map_finds_what_is_in_it),
	    cmocka_unit_test(map_is_emptied_while_walked),
	    cmocka_unit_test(hash_stays_what_it_is),
	    cmocka_unit_test(near_suggests),
	    cmocka_unit_test(clocks_go_on),
	    cmocka_unit_test(errors_have_texts),
	    cmocka_unit_test(list_keeps_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
