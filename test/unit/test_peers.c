/*
 * test_peers.c - places and queues: whose limits count, and what is kept for urgent slots.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/peers.h"

#define N_SLOT 12

struct fixture {
	struct peers peers;
	struct peer_slot slot[N_SLOT];
	unsigned n;
};

static void open_peers(struct fixture *f)
{
	*f = (struct fixture){.n = 0};
	for (unsigned i = 0; i < N_SLOT; i++)
		list_init(&f->slot[i].link);
	assert_int_equal(
	    peers_init(&f->peers, &(struct peer_limits){.place = 4, .queue = 2, .peer = 8}), 0);
}

static int enter(struct fixture *f, const char *who, unsigned place, unsigned queue, bool urgent)
{
	struct peer_share share = {.place = place, .queue = queue};
	struct peer_slot *slot = &f->slot[f->n];
	int rc = peers_enter(&f->peers, who, &share, urgent, slot);

	f->n += rc == 0;
	if (rc == 0)
		(void)peers_next(&f->peers, slot->peer);
	return rc;
}

static void close_peers(struct fixture *f)
{
	while (f->n > 0)
		(void)peers_leave(&f->peers, &f->slot[--f->n]);
	assert_int_equal(f->peers.n_active + f->peers.n_queued, 0);
	peers_release(&f->peers);
}

static void test_waiting(void **state)
{
	struct fixture f;
	int64_t since_us = 0;

	(void)state;
	open_peers(&f);
	for (unsigned i = 0; i < N_SLOT; i++)
		f.slot[i].since_us = 100 + i;
	assert_int_equal(peers_waiting(&f.peers, "stock", &since_us), 0);
	assert_int_equal(enter(&f, "stock", 2, 5, false), 0);
	assert_int_equal(peers_waiting(&f.peers, "stock", &since_us), 0);
	/* What is urgent does not count, and neither do others' slots. */
	assert_int_equal(enter(&f, "stock", 2, 5, true), 0);
	assert_int_equal(enter(&f, "stock", 2, 5, true), 0);
	assert_int_equal(enter(&f, "stock", 2, 5, false), 0);
	assert_int_equal(enter(&f, "stock", 2, 5, false), 0);
	assert_int_equal(enter(&f, "http://a/x", 2, 5, false), 0);
	assert_int_equal(peers_waiting(&f.peers, "stock", &since_us), 2);
	assert_int_equal(since_us, 103);
	assert_int_equal(peers_waiting(&f.peers, "http://a:80/y", &since_us), 0);
	close_peers(&f);
}

static void test_shares(void **state)
{
	struct fixture f;

	(void)state;
	open_peers(&f);
	/* Two places: one for anybody, one for urgent slots. */
	assert_int_equal(enter(&f, "stock", 2, 1, false), 0);
	assert_int_equal(enter(&f, "stock", 2, 1, false), 0);
	assert_int_equal(f.peers.n_active, 1);
	assert_int_equal(enter(&f, "stock", 2, 1, false), ERR_LIMIT);
	assert_int_equal(enter(&f, "stock", 2, 1, true), 0);
	assert_int_equal(f.peers.n_active, 2);
	/* The latest share counts: eight places, two of them kept. */
	assert_int_equal(enter(&f, "stock", 8, 1, true), 0);
	assert_int_equal(f.peers.n_active, 3);
	assert_int_equal(enter(&f, "account", 0, 0, false), 0);
	assert_int_equal(f.peers.map.n, 2);
	close_peers(&f);
}

/* Urgent slots that never end leave the others one place in eight, and keep their quarter. */
static void test_others_have_their_turn(void **state)
{
	struct peer_share share = {.place = 4, .queue = 20};
	struct fixture f;
	struct peer_slot other[2], urgent[20], *next;
	struct peer *peer = NULL;
	unsigned n_other = 0;

	(void)state;
	open_peers(&f);
	for (unsigned i = 0; i < 20; i++) {
		list_init(&urgent[i].link);
		assert_int_equal(peers_enter(&f.peers, "stock", &share, true, &urgent[i]), 0);
	}
	for (unsigned i = 0; i < 2; i++) {
		list_init(&other[i].link);
		assert_int_equal(peers_enter(&f.peers, "stock", &share, false, &other[i]), 0);
	}
	peer = other[0].peer;
	for (unsigned n = 1; n <= 22; n++) {
		next = peers_next(&f.peers, peer);
		assert_non_null(next);
		n_other += !next->urgent;
		assert_int_equal(n_other, n < 8 ? 0 : n < 16 ? 1 : 2);
		peer = peers_leave(&f.peers, next);
	}
	assert_null(peer);
	close_peers(&f);
}

static void test_names_and_addresses(void **state)
{
	struct fixture f;

	(void)state;
	open_peers(&f);
	assert_int_equal(enter(&f, "http://shop/a", 0, 0, false), 0);
	assert_int_equal(enter(&f, "HTTP://Shop:80/b", 0, 0, false), 0);
	assert_int_equal(f.peers.map.n, 1);
	assert_int_equal(enter(&f, "shop", 0, 0, false), 0);
	assert_int_equal(f.peers.map.n, 2);
	/* Four places, one kept, and two may wait. */
	assert_int_equal(enter(&f, "http://shop/c", 0, 0, false), 0);
	assert_int_equal(f.peers.n_active, 4);
	assert_int_equal(enter(&f, "http://shop/d", 0, 0, false), 0);
	assert_int_equal(enter(&f, "http://shop/e", 0, 0, false), 0);
	assert_int_equal(enter(&f, "http://shop/f", 0, 0, false), ERR_LIMIT);
	close_peers(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_waiting),
	    cmocka_unit_test(test_shares),
	    cmocka_unit_test(test_others_have_their_turn),
	    cmocka_unit_test(test_names_and_addresses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
