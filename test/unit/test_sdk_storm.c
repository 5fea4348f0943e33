/*
 * test_sdk_storm.c - duplicates of prepare, commit and rollback in any order and at once: what
 * is decided is done exactly once, and nothing is left behind.
 *
 * One decision per gid, as a coordinator makes it: commit is only sent after a prepare said yes,
 * and never together with a rollback; prepares come at any time, also too late. A one-phase commit
 * and its rollback meet without a decision: the barrier makes it, and all answers must agree.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sdk_fixture.h"

#define N_GID    200
#define N_THREAD 4
#define N_ROUND  5

enum decision {
	UNDECIDED = 0,
	COMMIT,
	ABORT,
};

struct branch {
	char gid[16];
	struct business business;
	_Atomic enum decision decision;
	bool one_phase;
	atomic_int n_wrong; /* answers that contradict the decision */
};

static struct branch branches[N_GID];
static PGconn *conn;

/* The first to propose a decision makes it. */
static enum decision decide(struct branch *b, enum decision proposed)
{
	enum decision made = UNDECIDED;

	if (atomic_compare_exchange_strong(&b->decision, &made, proposed))
		return proposed;
	return made;
}

static void tell(PGconn *own, struct branch *b, enum decision decision)
{
	const char *op = decision == ABORT ? "rollback" : "commit";
	int status = fixture_do(own, b->gid, op, &b->business, NULL);

	if (status != 200 && status != 503)
		atomic_fetch_add(&b->n_wrong, 1);
}

/* 409 to the one is what 200 is to the other. */
static void arbitrate(PGconn *own, struct branch *b, const char *op)
{
	int status = fixture_do(own, b->gid, op, &b->business, NULL);
	enum decision found = (status == 200) == (strcmp(op, "one_phase") == 0) ? COMMIT : ABORT;

	if (status != 503 && decide(b, found) != found)
		atomic_fetch_add(&b->n_wrong, 1);
}

/* One of the calls a coordinator or a slow network may make at any time. */
static void disturb(PGconn *own, struct branch *b, unsigned dice)
{
	enum decision decision = atomic_load(&b->decision);

	if (b->one_phase) {
		arbitrate(own, b, dice % 3 == 0 ? "rollback" : "one_phase");
	} else if (dice % 8 == 0) {
		if (decide(b, ABORT) == ABORT)
			tell(own, b, ABORT);
	} else if (dice % 2 == 0 && decision != UNDECIDED) {
		tell(own, b, decision);
	} else if (fixture_do(own, b->gid, "prepare", &b->business, NULL) == 200 && dice % 3 == 0) {
		tell(own, b, decide(b, COMMIT));
	}
}

static void *disturb_all(void *arg)
{
	unsigned seed = *(unsigned *)arg;
	PGconn *own = fixture_connect();

	/* Neighbouring gids in the threads at the same time, so that their calls do meet. */
	for (int i = 0; i < N_GID * N_ROUND; i++) {
		unsigned dice = (unsigned)rand_r(&seed);
		struct branch *b = &branches[(i / N_ROUND + (int)(dice >> 8) % 3) % N_GID];

		disturb(own, b, dice % 997);
	}
	PQfinish(own);
	return NULL;
}

static void finish_all(void)
{
	for (int i = 0; i < N_GID; i++) {
		struct branch *b = &branches[i];

		if (b->one_phase)
			arbitrate(conn, b, "rollback");
		else
			tell(conn, b, decide(b, ABORT));
	}
}

static void decisions_are_carried_out_once(void **state)
{
	unsigned seeds[N_THREAD] = {11, 22, 33, 44};
	pthread_t thread[N_THREAD];
	int n_committed = 0;

	(void)state;
	for (int i = 0; i < N_GID; i++) {
		snprintf(branches[i].gid, sizeof(branches[i].gid), "s%d", i);
		branches[i].one_phase = i % 5 == 0;
	}
	for (int i = 0; i < N_THREAD; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, disturb_all, &seeds[i]), 0);
	for (int i = 0; i < N_THREAD; i++)
		pthread_join(thread[i], NULL);
	finish_all();

	assert_int_equal(fixture_prepared(conn), 0);
	for (int i = 0; i < N_GID; i++) {
		bool committed = atomic_load(&branches[i].decision) == COMMIT;

		assert_int_equal(atomic_load(&branches[i].n_wrong), 0);
		assert_int_equal(fixture_effects(conn, branches[i].gid), committed);
		n_committed += committed;
	}
	/* It was a storm of both kinds. */
	assert_in_range(n_committed, N_GID / 10, N_GID - N_GID / 10);
	assert_int_equal(fixture_number(conn, "SELECT count(*) FROM pg_locks"
	                                      " WHERE pid IS DISTINCT FROM pg_backend_pid()"
	                                      " AND (pid IS NULL OR locktype <> 'virtualxid')"
	                                      " AND database IN (SELECT oid FROM pg_database"
	                                      " WHERE datname = current_database())"),
	                 0);
}

static int setup(void **state)
{
	(void)state;
	if (!fixture_start())
		return -1;
	conn = fixture_connect();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	PQfinish(conn);
	fixture_stop();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(decisions_are_carried_out_once),
	};

	return cmocka_run_group_tests_name("sdk_storm", tests, setup, teardown);
}
