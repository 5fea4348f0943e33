/*
 * test_restore.c - every record that can be restored leads to an end, and no other can be.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h must come after those. */
#include <cmocka.h>

#include "core/protocol.h"

#define SECOND ((int64_t)1000000)

static const struct retry_policy policy = {
    .initial_us = SECOND / 10, .factor = 2, .cap_us = 60 * SECOND, .alert_after = 6};

static void make_mode(struct txn *t, struct arena *a, enum txn_mode mode, unsigned n_branch,
                      bool interactive)
{
	struct txn_config config = {
	    .mode = mode,
	    .seed = 42,
	    .n_branch = n_branch,
	    .interactive = interactive,
	    .deadline_us = 10 * SECOND,
	    .vote_timeout_us = 5 * SECOND,
	    .phase_timeout_us = 4 * SECOND,
	    .retry = policy,
	};

	arena_init(a, 0);
	assert_int_equal(txn_init(t, a, &config), 0);
	for (unsigned i = 0; i < n_branch; i++)
		t->branch[i].timeout_us = SECOND;
}

static struct event right_answer(const struct txn *t, unsigned branch, int64_t now_us)
{
	const struct branch *b = &t->branch[branch];
	bool vote = txn_op_votes(b->op, t->state == TXN_ONE_PHASE);

	return (struct event){
	    .type = vote ? EV_YES : EV_DONE,
	    .now_us = now_us,
	    .branch = branch,
	    .op = b->op,
	    .attempt = b->attempt,
	};
}

/* Participants who do what they are told bring it to an end, and it says how it was decided. */
static void drive_to_end(struct txn *t, int64_t now_us)
{
	enum txn_outcome decision = txn_decision(t);
	struct event ev = {.type = EV_RESUME, .now_us = now_us};
	struct effects fx;

	assert_int_equal(txn_step(t, &ev, &fx), 0);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < t->n_branch; i++) {
			ev = right_answer(t, i, now_us);
			assert_int_equal(txn_step(t, &ev, &fx), 0);
		}
	}
	assert_true(txn_ended(t->state));
	assert_true(txn_due_us(t) == INT64_MAX);
	if (decision == OUTCOME_PENDING)
		return;
	assert_int_equal(txn_decision(t), decision);
	assert_true(t->outcome == decision || t->outcome == OUTCOME_MIXED);
}

/* Refused without a trace, or sound: true when it was not refused. */
static bool check_restored(struct txn *t, enum txn_state s, enum txn_outcome outcome,
                           const uint8_t *branch)
{
	if (txn_restore(t, s, outcome, branch) != 0) {
		assert_int_equal(t->state, TXN_ACTIVE);
		assert_int_equal(t->outcome, OUTCOME_PENDING);
		for (unsigned i = 0; i < t->n_branch; i++)
			assert_int_equal(t->branch[i].state, BRANCH_PENDING);
		txn_check(t);
		return false;
	}
	if (!t->interactive && s == TXN_ACTIVE)
		return false;
	assert_int_equal(t->state, s);
	drive_to_end(t, s == TXN_ACTIVE ? 10 * SECOND : SECOND);
	return true;
}

/* Every combination of state, outcome and three branches. */
static void whatever_is_restored_ends(void **state)
{
	unsigned n_restored = 0;

	(void)state;
	for (unsigned code = 0; code < 7 * 16 * 8 * 512; code++) {
		uint8_t branch[3] = {code & 7, code >> 3 & 7, code >> 6 & 7};
		enum txn_state s = (enum txn_state)(code >> 9 & 15);
		enum txn_outcome outcome = (enum txn_outcome)(code >> 13 & 7);
		bool interactive = code >> 16 > 2;
		unsigned n = interactive ? (code >> 16) - 3 : (code >> 16) + 1;
		struct arena a;
		struct txn t;

		make_mode(&t, &a, MODE_TWO_PHASE, n, interactive);
		n_restored += check_restored(&t, s, outcome, branch);
		arena_release(&a);
	}
	assert_true(n_restored > 100);
}

/* The same for three-phase commit, which has more of them. */
static void whatever_is_restored_of_three_phases_ends(void **state)
{
	const unsigned b = BRANCH_STATE_MAX, n_code = b * b * b * TXN_STATE_MAX * OUTCOME_MAX * 2;
	unsigned n_restored[2] = {0};

	(void)state;
	for (unsigned code = 0; code < n_code; code++) {
		unsigned rest = code / (b * b * b);
		uint8_t branch[3] = {(uint8_t)(code % b), (uint8_t)(code / b % b),
		                     (uint8_t)(code / b / b % b)};
		bool interactive = rest / TXN_STATE_MAX / OUTCOME_MAX;
		struct arena a;
		struct txn t;

		make_mode(&t, &a, MODE_THREE_PHASE, 3, interactive);
		n_restored[interactive] += check_restored(
		    &t, (enum txn_state)(rest % TXN_STATE_MAX),
		    (enum txn_outcome)(rest / TXN_STATE_MAX % OUTCOME_MAX), branch);
		arena_release(&a);
	}
	assert_true(n_restored[0] > 300 && n_restored[1] > n_restored[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(whatever_is_restored_ends),
	    cmocka_unit_test(whatever_is_restored_of_three_phases_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
