/*
 * test_core.c - what golden files and the simulator do not say: the table is whole, names fit
 * numbers, and limits hold.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h must come after those. */
#include <cmocka.h>
#include <string.h>

#include "core/backoff.h"
#include "core/protocol.h"
#include "core/verdict.h"

#define SECOND ((int64_t)1000000)

static const struct retry_policy policy = {
    .initial_us = SECOND / 10, .factor = 2, .cap_us = 60 * SECOND, .alert_after = 6};

static void make_kind(struct txn *t, struct arena *a, unsigned n_branch, bool interactive)
{
	struct txn_config config = {
	    .mode = MODE_TWO_PHASE,
	    .seed = 42,
	    .n_branch = n_branch,
	    .interactive = interactive,
	    .deadline_us = 10 * SECOND,
	    .vote_timeout_us = 5 * SECOND,
	    .retry = policy,
	};

	arena_init(a, 0);
	assert_int_equal(txn_init(t, a, &config), 0);
	for (unsigned i = 0; i < n_branch; i++)
		t->branch[i].timeout_us = SECOND;
}

static void make(struct txn *t, struct arena *a, unsigned n_branch)
{
	make_kind(t, a, n_branch, false);
}

/* Every cell of its own states, none of others'. */
static void check_cells(const struct protocol *p, int state)
{
	for (int e = 0; e < EV_TYPE_MAX; e++) {
		if (!p->table[state][e] != !p->phase[state].outcome)
			fail_msg("%s: %s, %s", p->name, txn_state_str((enum txn_state)state),
			         verdict_str((enum event_type)e));
	}
}

static void every_cell_is_written(void **state)
{
	(void)state;
	for (int mode = 1; mode < MODE_MAX; mode++) {
		const struct protocol *p = protocol_get((enum txn_mode)mode);

		assert_non_null(p);
		for (int s = 0; s < TXN_STATE_MAX; s++)
			check_cells(p, s);
	}
}

static void init_refuses(void **state)
{
	struct txn_config config = {.mode = MODE_TWO_PHASE, .retry = policy};
	struct arena a;
	struct txn t;

	(void)state;
	arena_init(&a, 0);
	assert_int_equal(txn_init(&t, &a, &config), ERR_INVALID);
	config.n_branch = TXN_BRANCH_MAX + 1;
	assert_int_equal(txn_init(&t, &a, &config), ERR_INVALID);
	config.n_branch = TXN_BRANCH_MAX;
	config.mode = (enum txn_mode)99;
	assert_int_equal(txn_init(&t, &a, &config), ERR_INVALID);
	config.mode = MODE_TWO_PHASE;
	assert_int_equal(txn_init(&t, &a, &config), 0);
	arena_release(&a);
	arena_init(&a, 100);
	assert_int_equal(txn_init(&t, &a, &config), ERR_NOMEM);
	arena_release(&a);
}

/* Names are in the API and in SQL, numbers in the database: neither ever changes. */
static void names_fit_numbers(void **state)
{
	static const char *const state_name[] = {
	    "?",         "active",         "preparing",   "committing", "aborting",
	    "committed", "aborted",        "mixed",       "one_phase",  "arbitrating",
	    "trying",    "confirming",     "cancelling",  "running",    "compensating",
	    "asking",    "pre_committing", "pre_aborting"};
	static const char *const outcome_name[] = {"pending", "committed", "aborted", "mixed"};
	static const char *const branch_name[] = {"pending",
	                                          "prepared",
	                                          "read_only",
	                                          "refused",
	                                          "committed",
	                                          "aborted",
	                                          "heuristic_committed",
	                                          "heuristic_aborted",
	                                          "tried",
	                                          "confirmed",
	                                          "done",
	                                          "can_commit",
	                                          "pre_committed",
	                                          "vouched"};

	(void)state;
	for (int i = 0; i < TXN_STATE_MAX; i++)
		assert_string_equal(txn_state_str((enum txn_state)i), state_name[i]);
	for (int i = 0; i < OUTCOME_MAX; i++)
		assert_string_equal(txn_outcome_str((enum txn_outcome)i), outcome_name[i]);
	for (int i = 0; i < BRANCH_STATE_MAX; i++)
		assert_string_equal(branch_state_str((enum branch_state)i), branch_name[i]);
	assert_int_equal(EV_YES, 1);
	assert_int_equal(EV_CONTRACT, 9);
	assert_int_equal(EV_VOUCHED, 16);
	assert_int_equal(OP_ROLLBACK, 3);
	assert_int_equal(OP_COMPENSATE, 8);
	assert_int_equal(OP_PRE_ABORT, 13);
	assert_int_equal(ALERT_HEURISTIC, 2);
	assert_string_equal(txn_state_str(TXN_STATE_MAX), "?");
	assert_string_equal(txn_op_str(OP_ROLLBACK), "rollback");
	assert_string_equal(txn_op_str(OP_MAX), "?");
	assert_string_equal(alert_kind_str(ALERT_EXHAUSTED), "exhausted");
	assert_string_equal(txn_mode_str(MODE_TWO_PHASE), "2pc");
	assert_string_equal(txn_mode_str((enum txn_mode)0), "?");
	assert_int_equal(txn_mode_parse("2pc"), MODE_TWO_PHASE);
	assert_int_equal(txn_mode_parse("tcc"), MODE_TCC);
	assert_int_equal(txn_mode_parse("3pc"), MODE_THREE_PHASE);
	assert_int_equal(txn_mode_parse("3pc?"), 0);
	assert_string_equal(verdict_str(EV_FOUND_ABORTED), "found_aborted");
	assert_string_equal(verdict_str(EV_TYPE_MAX), "?");
}

static void backoff_grows_to_the_cap(void **state)
{
	int64_t whole = policy.initial_us;
	unsigned different = 0;

	(void)state;
	for (uint32_t n = 1; n < 100; n++) {
		int64_t us = backoff_us(&policy, 7, 3, n, 0);

		assert_true(us <= whole && us >= whole - whole / 4 - 1);
		assert_true(us == backoff_us(&policy, 7, 3, n, 0));
		different += us != backoff_us(&policy, 7, 4, n, 0);
		different += us != backoff_us(&policy, 8, 3, n, 0);
		whole = whole * 2 < policy.cap_us ? whole * 2 : policy.cap_us;
	}
	assert_true(different > 190); /* branches and transactions do not march in step */
	assert_true(backoff_us(&policy, 1, 0, UINT32_MAX, 0) <= policy.cap_us);
}

static void backoff_at_its_limits(void **state)
{
	struct retry_policy p = {.initial_us = 5, .factor = 1, .cap_us = 1000};

	(void)state;
	assert_true(backoff_us(&p, 1, 1, UINT32_MAX, 0) <= 5);
	p = (struct retry_policy){.initial_us = 100, .factor = 10, .cap_us = 10};
	assert_true(backoff_us(&p, 1, 1, 1, 0) <= 10);
	p = (struct retry_policy){
	    .initial_us = INT64_MAX / 2, .factor = UINT32_MAX, .cap_us = INT64_MAX};
	assert_true(backoff_us(&p, 1, 1, 5, 0) > 0);
	assert_true(backoff_us(&policy, 1, 1, 1, 9 * SECOND) == 9 * SECOND);
	assert_true(backoff_us(&policy, 1, 1, 1, INT64_MAX) == RETRY_AFTER_MAX_US);
	assert_true(backoff_us(&policy, 1, 1, 90, SECOND) >= 45 * SECOND);
}

static void step_refuses_what_does_not_exist(void **state)
{
	struct event ev = {.type = EV_YES, .branch = 2, .op = OP_PREPARE, .attempt = 1};
	struct effects fx = {.n_act = 9, .record = {.present = true}};
	struct arena a;
	struct txn t;

	(void)state;
	make(&t, &a, 2);
	assert_int_equal(txn_step(&t, &ev, &fx), ERR_INVALID);
	assert_int_equal(fx.n_act, 0);
	assert_false(fx.record.present);
	arena_release(&a);
}

static int enlist(struct txn *t, struct arena *a, int64_t timeout_us)
{
	struct event ev = {.type = EV_ENLIST, .call_timeout_us = timeout_us};
	struct effects fx;
	int rc = txn_reserve(t, a, t->n_branch + 1);

	return rc ? rc : txn_step(t, &ev, &fx);
}

/* Room grows by moving the branches: what they know must come along. */
static void branches_are_enlisted_to_the_limit(void **state)
{
	struct event ev = {.type = EV_BEGIN};
	struct effects fx;
	struct arena a;
	struct txn t;

	(void)state;
	make_kind(&t, &a, 0, true);
	assert_int_equal(txn_step(&t, &ev, &fx), 0);
	for (unsigned i = 0; i < TXN_BRANCH_MAX; i++)
		assert_int_equal(enlist(&t, &a, SECOND + i), 0);
	assert_int_equal(enlist(&t, &a, SECOND), ERR_LIMIT);
	assert_int_equal(t.n_branch, TXN_BRANCH_MAX);
	ev = (struct event){.type = EV_COMMIT, .now_us = 9 * SECOND};
	assert_int_equal(txn_step(&t, &ev, &fx), 0);
	assert_int_equal(t.deadline_us, 14 * SECOND);
	assert_int_equal(fx.n_act, TXN_BRANCH_MAX);
	for (unsigned i = 0; i < TXN_BRANCH_MAX; i++) {
		assert_int_equal(fx.act[i].branch, i);
		assert_int_equal(fx.act[i].timeout_us, SECOND + i);
	}
	/* Twice the branches, what the smaller arrays left behind included. */
	assert_true(a.used <= 2 * TXN_BRANCH_MAX * sizeof(struct branch) + 64);
	arena_release(&a);
}

static void no_memory_for_a_branch_changes_nothing(void **state)
{
	struct arena a;
	struct txn t;

	(void)state;
	make_kind(&t, &a, 2, true);
	a.limit = a.used;
	t.branch[1].timeout_us = 7;
	assert_int_equal(txn_reserve(&t, &a, 2), 0);
	assert_int_equal(txn_reserve(&t, &a, 3), ERR_NOMEM);
	assert_int_equal(txn_reserve(&t, &a, TXN_BRANCH_MAX + 1), ERR_LIMIT);
	assert_int_equal(t.n_branch, 2);
	assert_int_equal(t.branch[1].timeout_us, 7);
	txn_check(&t);
	a.limit = 0;
	assert_int_equal(txn_reserve(&t, &a, 3), 0);
	assert_int_equal(t.branch[1].timeout_us, 7);
	arena_release(&a);
}

static void restore_refuses_numbers_of_no_state(void **state)
{
	uint8_t branch[2] = {BRANCH_PREPARED, BRANCH_STATE_MAX};
	struct arena a;
	struct txn t;

	(void)state;
	make(&t, &a, 2);
	assert_int_equal(txn_restore(&t, TXN_COMMITTING, OUTCOME_COMMITTED, branch), ERR_INVALID);
	branch[1] = BRANCH_PREPARED;
	assert_int_equal(txn_restore(&t, (enum txn_state)0, OUTCOME_PENDING, branch), ERR_INVALID);
	assert_int_equal(txn_restore(&t, TXN_STATE_MAX, OUTCOME_PENDING, branch), ERR_INVALID);
	assert_int_equal(txn_restore(&t, TXN_COMMITTING, OUTCOME_MAX, branch), ERR_INVALID);
	assert_int_equal(txn_restore(&t, TXN_COMMITTING, OUTCOME_COMMITTED, branch), 0);
	arena_release(&a);
}

/* One that is put aside goes on where it was: attempts, backoff, and each alert once. */
static void a_memo_is_remembered(void **state)
{
	uint8_t branch[2] = {BRANCH_PREPARED, BRANCH_COMMITTED}, memo[TXN_MEMO_MAX];
	struct event ev = {.type = EV_RESUME}, reply = {.type = EV_UNKNOWN, .op = OP_COMMIT};
	struct effects fx;
	struct arena a, b;
	struct txn t, back;
	size_t n_alert = 0;

	(void)state;
	make(&t, &a, 2);
	assert_false(txn_rests(&t));
	assert_int_equal(txn_restore(&t, TXN_COMMITTING, OUTCOME_COMMITTED, branch), 0);
	for (uint32_t i = 1; i <= 300; i++) {
		assert_int_equal(txn_step(&t, &ev, &fx), 0);
		assert_int_equal(fx.act[0].attempt, i);
		assert_false(txn_rests(&t));
		reply.attempt = i;
		assert_int_equal(txn_step(&t, &reply, &fx), 0);
		n_alert += fx.n_act;
		assert_true(txn_rests(&t));
		txn_memo(&t, 7, memo);
		make(&back, &b, 2);
		assert_int_equal(txn_restore(&back, TXN_COMMITTING, OUTCOME_COMMITTED, branch), 0);
		assert_int_equal(txn_remember(&back, 7, memo, txn_memo_len(&t)), 0);
		arena_release(&a);
		t = back;
		a = b;
	}
	assert_int_equal(n_alert, 1);
	assert_int_equal(txn_step(&t, &ev, &fx), 0);
	assert_int_equal(t.branch[0].failures, 300);
	reply.attempt = 301;
	reply.type = EV_DONE;
	assert_int_equal(txn_step(&t, &reply, &fx), 0);
	assert_int_equal(fx.act[0].type, ACT_ALERT_CLOSE);
	assert_int_equal(t.state, TXN_COMMITTED);
	assert_false(txn_rests(&t));
	arena_release(&a);
}

/* Whoever is taken back early calls nobody before the time that was asked for; what only the backoff
 * put off is called at once. */
static void a_memo_keeps_what_was_asked_for(void **state)
{
	uint8_t branch[2] = {BRANCH_PREPARED, BRANCH_PREPARED}, memo[TXN_MEMO_MAX];
	const int64_t zero_us = 100 * SECOND;
	struct event ev = {.type = EV_RESUME};
	struct effects fx;
	struct arena a, b;
	struct txn t, back;

	(void)state;
	make(&t, &a, 2);
	assert_int_equal(txn_restore(&t, TXN_COMMITTING, OUTCOME_COMMITTED, branch), 0);
	assert_int_equal(txn_step(&t, &ev, &fx), 0);
	for (unsigned i = 0; i < 2; i++) {
		struct event reply = {.type = EV_UNKNOWN,
		                      .op = OP_COMMIT,
		                      .branch = i,
		                      .attempt = 1,
		                      .now_us = SECOND,
		                      .retry_after_us = i ? 0 : 5 * SECOND};

		assert_int_equal(txn_step(&t, &reply, &fx), 0);
	}
	txn_memo(&t, zero_us, memo);
	assert_int_equal(memo[0], 0); /* the other one is due sooner */
	make(&back, &b, 2);
	assert_int_equal(txn_restore(&back, TXN_COMMITTING, OUTCOME_COMMITTED, branch), 0);
	assert_int_equal(txn_remember(&back, 0, memo, txn_memo_len(&t) - 1), ERR_INVALID);
	/* In another life, in which the same clock says 0 a second later. */
	assert_int_equal(txn_remember(&back, zero_us + SECOND, memo, txn_memo_len(&t)), 0);
	ev.now_us = SECOND / 2;
	assert_int_equal(txn_step(&back, &ev, &fx), 0);
	assert_int_equal(fx.n_act, 1);
	assert_int_equal(fx.act[0].branch, 1);
	assert_int_equal(txn_due_us(&back), 5 * SECOND);
	assert_int_equal(
	    txn_step(&back,
	             &(struct event){.type = EV_DONE, .op = OP_COMMIT, .branch = 1, .attempt = 2},
	             &fx),
	    0);
	txn_memo(&back, zero_us, memo);
	assert_int_equal(memo[0], 1);
	ev = (struct event){.type = EV_TIMER, .now_us = 5 * SECOND};
	assert_int_equal(txn_step(&back, &ev, &fx), 0);
	assert_int_equal(fx.n_act, 1);
	arena_release(&a);
	arena_release(&b);
}

/* A phase begins anew, whatever was remembered of the one before. */
static void a_memo_ends_with_its_phase(void **state)
{
	uint8_t branch[1] = {BRANCH_PENDING}, memo[] = {0, 0, 0, 9, 0, 0, 9, 0};
	struct event ev = {.type = EV_RESUME, .now_us = 11 * SECOND};
	struct effects fx;
	struct arena a;
	struct txn t;

	(void)state;
	make(&t, &a, 1);
	assert_int_equal(txn_restore(&t, TXN_ONE_PHASE, OUTCOME_PENDING, branch), 0);
	assert_int_equal(txn_remember(&t, 0, memo, sizeof memo), 0);
	assert_int_equal(txn_step(&t, &ev, &fx), 0);
	assert_int_equal(t.state, TXN_ARBITRATING);
	assert_int_equal(t.branch[0].attempt, 1);
	assert_int_equal(t.branch[0].failures, 0);
	arena_release(&a);
}

static void judge_takes_missing_members(void **state)
{
	struct answer answer = {.status = 200};

	(void)state;
	assert_int_equal(verdict_judge(OP_PREPARE, false, &answer), EV_YES);
	answer.status = 409;
	assert_int_equal(verdict_judge(OP_COMMIT, false, &answer), EV_CONTRACT);
	assert_int_equal(verdict_judge(OP_COMMIT, true, &answer), EV_NO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_cell_is_written),
	    cmocka_unit_test(init_refuses),
	    cmocka_unit_test(names_fit_numbers),
	    cmocka_unit_test(backoff_grows_to_the_cap),
	    cmocka_unit_test(backoff_at_its_limits),
	    cmocka_unit_test(step_refuses_what_does_not_exist),
	    cmocka_unit_test(branches_are_enlisted_to_the_limit),
	    cmocka_unit_test(no_memory_for_a_branch_changes_nothing),
	    cmocka_unit_test(restore_refuses_numbers_of_no_state),
	    cmocka_unit_test(a_memo_is_remembered),
	    cmocka_unit_test(a_memo_keeps_what_was_asked_for),
	    cmocka_unit_test(a_memo_ends_with_its_phase),
	    cmocka_unit_test(judge_takes_missing_members),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
