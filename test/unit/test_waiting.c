/*
 * test_waiting.c - the sentence that says what a transaction waits for, in its forms.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h must come after those. */
#include <cmocka.h>
#include <string.h>

#include "api/waiting.h"
#include "node/node.h"

#define SECOND  INT64_C(1000000)
#define N       6
#define CREATED (INT64_C(1767355201) * SECOND + 250000) /* 2026-01-02T12:00:01.25Z */
#define NOW     (1000 * SECOND)

struct world {
	struct node node;
	struct gtx g;
	struct branch_spec spec[N];
	struct branch_note note[N];
	struct branch branch[N];
	struct buf out;
};

static int setup(void **state)
{
	static const char *const name[N] = {"stock", "account", "order", "mail", "bank", "log"};
	static struct world w;

	memset(&w, 0, sizeof w);
	for (unsigned i = 0; i < N; i++) {
		w.spec[i].id = name[i];
		w.branch[i].due_us = INT64_MAX;
	}
	w.node.db_offset_us = CREATED + 3 * SECOND - NOW; /* created three seconds ago */
	w.g.node = &w.node;
	w.g.spec.branch = w.spec;
	w.g.spec.n_branch = N;
	w.g.note = w.note;
	w.g.txn.branch = w.branch;
	w.g.txn.n_branch = N;
	w.g.txn.mode = MODE_TWO_PHASE;
	w.g.txn.state = TXN_COMMITTING;
	w.g.txn.deadline_us = NOW + 7 * SECOND;
	w.g.created_us = CREATED;
	w.g.deadline_us = CREATED + 10 * SECOND;
	w.g.entry.stored = true;
	w.g.entry.durable.state = TXN_COMMITTING;
	w.g.entry.durable.decided_us = CREATED + SECOND;
	*state = &w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	buf_release(&w->out);
	return 0;
}

static void says(struct world *w, const char *expected)
{
	buf_reset(&w->out);
	waiting_for(&w->g, NOW, &w->out);
	assert_string_equal(w->out.len ? w->out.data : "", expected);
}

static void work(struct world *w, unsigned i, enum txn_op op, uint32_t attempt, int64_t due_us)
{
	w->branch[i].op = op;
	w->branch[i].attempt = attempt;
	w->branch[i].failures = attempt;
	w->branch[i].due_us = due_us;
	w->branch[i].in_call = due_us == INT64_MAX;
}

static void test_one_branch(void **state)
{
	struct world *w = *state;

	work(w, 0, OP_COMMIT, 3, NOW + 1550001);
	w->note[0] = (struct branch_note){.failed = true, .status = 503, .verdict = EV_UNKNOWN};
	says(w, "waits for stock to answer commit since 12:00:02.2 (3 attempts, last: HTTP 503 "
	        "(unknown)); asked again in 1.6 s");
	w->note[0].why = "connection refused";
	work(w, 0, OP_COMMIT, 1, NOW - SECOND);
	says(w, "waits for stock to answer commit since 12:00:02.2 (1 attempt, last: connection "
	        "refused); asked again in 0.0 s");
	work(w, 0, OP_COMMIT, 1, INT64_MAX);
	w->note[0].failed = false;
	says(w, "waits for stock to answer commit since 12:00:02.2 (1 attempt); being asked now");
	work(w, 0, OP_COMMIT, 0, NOW + SECOND);
	says(w, "waits for stock to answer commit since 12:00:02.2; asked in 1.0 s");
	w->branch[0].due_us = INT64_MAX;
	says(w, "waits for stock to answer commit since 12:00:02.2; not asked now");
}

static void test_several_branches(void **state)
{
	struct world *w = *state;

	work(w, 0, OP_ROLLBACK, 1, INT64_MAX);
	work(w, 1, OP_ROLLBACK, 2, NOW + SECOND);
	says(w, "waits for account and stock to answer rollback since 12:00:02.2 (account: 2 "
	        "attempts); asked again in 1.0 s");
	work(w, 2, OP_ROLLBACK, 1, NOW + SECOND);
	says(w, "waits for account, stock and order to answer rollback since 12:00:02.2 (account: "
	        "2 attempts); asked again in 1.0 s");
	work(w, 4, OP_ROLLBACK, 1, NOW + SECOND);
	work(w, 5, OP_COMMIT, 1, NOW + SECOND); /* another question */
	says(w, "waits for account, stock, order and 1 more to answer rollback since 12:00:02.2 "
	        "(account: 2 attempts); asked again in 1.0 s");
}

static void test_votes(void **state)
{
	struct world *w = *state;

	w->g.txn.state = TXN_PREPARING;
	w->g.entry.durable.state = TXN_PREPARING;
	w->g.entry.durable.decided_us = 0;
	work(w, 3, OP_PREPARE, 1, INT64_MAX);
	says(w, "waits for mail to answer prepare since 12:00:01.2 (1 attempt); being asked now; "
	        "rolled back at 12:00:11.2 unless all have voted");
}

/* Undecided, though nobody may vote any more. */
static void test_three_phase(void **state)
{
	struct world *w = *state;

	w->g.txn.mode = MODE_THREE_PHASE;
	w->g.entry.durable.decided_us = 0;
	w->g.txn.state = TXN_ASKING;
	work(w, 0, OP_CAN_COMMIT, 1, INT64_MAX);
	says(w, "waits for stock to answer can_commit since 12:00:01.2 (1 attempt); being asked "
	        "now; aborted at 12:00:11.2 unless all can commit");
	w->g.txn.state = TXN_PRE_COMMITTING;
	work(w, 0, OP_PRE_COMMIT, 1, INT64_MAX);
	says(w, "waits for stock to answer pre_commit since 12:00:01.2 (1 attempt); being asked "
	        "now; undecided until all have pre-committed; at 12:00:11.2 they are asked to "
	        "abort instead");
	w->branch[1].state = BRANCH_COMMITTED;
	says(w, "waits for stock to answer pre_commit since 12:00:01.2 (1 attempt); being asked "
	        "now; undecided, though account has committed by itself: committed when all have "
	        "answered");
	w->branch[1].state = BRANCH_VOUCHED;
	w->g.txn.state = TXN_PRE_ABORTING;
	work(w, 0, OP_PRE_ABORT, 1, INT64_MAX);
	says(w, "waits for stock to answer pre_abort since 12:00:01.2 (1 attempt); being asked "
	        "now; undecided: aborted when one of them has, committed when none can abort");
}

static void test_long_ago(void **state)
{
	struct world *w = *state;

	w->node.db_offset_us += 40 * 86400 * SECOND;
	work(w, 0, OP_COMMIT, 1, INT64_MAX);
	says(w, "waits for stock to answer commit since 2026-01-02 12:00:02.2 (1 attempt); being "
	        "asked now");
}

static void test_initiator(void **state)
{
	struct world *w = *state;

	w->g.txn.state = TXN_ACTIVE;
	w->g.entry.durable.state = TXN_ACTIVE;
	says(w, "waits for its initiator to commit or roll back since 12:00:01.2; rolled back at "
	        "12:00:11.2");
	w->g.txn.deadline_us = INT64_MAX;
	says(w, "waits for its initiator to commit or roll back since 12:00:01.2");
}

/* Whom it would call next tells the decision. */
static void test_nothing_before_it_is_durable(void **state)
{
	static const char expected[] = "waits for the database to store its newest state";
	struct world *w = *state;

	work(w, 0, OP_COMMIT, 1, INT64_MAX);
	w->g.forced_seq = 2;
	w->g.entry.durable_seq = 1;
	says(w, expected);
	w->g.entry.durable_seq = 2;
	w->g.entry.stored = false;
	says(w, expected);
}

static void test_end(void **state)
{
	struct world *w = *state;

	w->g.txn.state = TXN_COMMITTED;
	says(w, "waits for the database to store its end");
	w->g.entry.durable.state = TXN_COMMITTED;
	says(w, "");
	w->g.txn.state = TXN_COMMITTING;
	says(w, "waits for its next step");
	buf_reset(&w->out);
	waiting_put_json(NULL, &w->out);
	assert_string_equal(w->out.data, "null");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_one_branch), TEST(test_several_branches),
	    TEST(test_votes),      TEST(test_long_ago),
	    TEST(test_initiator),  TEST(test_nothing_before_it_is_durable),
	    TEST(test_end),        TEST(test_three_phase),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
