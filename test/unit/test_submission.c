/*
 * test_submission.c - what a submission is decoded to: defaults, every member, payloads byte for
 * byte, trusted texts, and memory running out anywhere.
 */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "no_memory.h"
#include "submission_fixture.h"

static void test_defaults(void **state)
{
	struct submission_fixture *f = *state;
	const struct branch_spec *b;

	submission_accepted(f, HEAD "[" ONE "]}");
	assert_null(f->s.gid);
	assert_int_equal(f->s.mode, MODE_TWO_PHASE);
	assert_int_equal(f->s.timeout_us, 10000000);
	assert_int_equal(f->s.retry.initial_us, 100000);
	assert_int_equal(f->s.retry.factor, 2);
	assert_int_equal(f->s.retry.cap_us, 60000000);
	assert_int_equal(f->s.retry.alert_after, 6);
	assert_int_equal(f->s.n_label, 0);
	assert_int_equal(f->s.n_branch, 1);
	b = &f->s.branch[0];
	assert_string_equal(b->id, "a");
	assert_string_equal(b->participant, "http://shop:8080/2pc");
	assert_null(b->payload);
	assert_int_equal(b->payload_len, 0);
	assert_int_equal(b->timeout_us, 3000000);
	assert_int_equal(b->n_header, 0);
	for (int op = 0; op < OP_MAX; op++)
		assert_null(b->op_url[op]);
}

static void test_everything(void **state)
{
	struct submission_fixture *f = *state;
	const struct branch_spec *b;

	submission_accepted(
	    f, " { \"gid\": \"Az09._:~-\", \"mode\": \"2pc\", \"timeout_ms\": 1234,"
	       " \"labels\": {\"a.b_c-9\": \"v \\u00e4\", \"e\": \"\"},"
	       " \"retry\": {\"initial_ms\": 11, \"factor\": 3, \"cap_ms\": 200,"
	       " \"alert_after\": 4},"
	       " \"branches\": [" ONE ", {\"id\": \"b\", \"participant\": " URL
	       ", \"timeout_ms\": 55, \"headers\": {\"X-A\": \"1\", \"Y\": \"\"},"
	       " \"ops\": {\"commit\": \"http://shop/c\", \"prepare\": \"http://shop/p\","
	       " \"rollback\": \"http://shop/r\"}, \"payload\": [1]}]}\n");
	assert_string_equal(f->s.gid, "Az09._:~-");
	assert_int_equal(f->s.timeout_us, 1234000);
	assert_int_equal(f->s.n_label, 2);
	assert_string_equal(f->s.label[0].name, "a.b_c-9");
	assert_string_equal(f->s.label[0].value, "v \xc3\xa4");
	assert_string_equal(f->s.label[1].value, "");
	assert_int_equal(f->s.retry.initial_us, 11000);
	assert_int_equal(f->s.retry.factor, 3);
	assert_int_equal(f->s.retry.cap_us, 200000);
	assert_int_equal(f->s.retry.alert_after, 4);
	assert_int_equal(f->s.n_branch, 2);
	b = &f->s.branch[1];
	assert_string_equal(b->id, "b");
	assert_int_equal(b->timeout_us, 55000);
	assert_int_equal(b->n_header, 2);
	assert_string_equal(b->header[0].name, "X-A");
	assert_string_equal(b->header[0].value, "1");
	assert_string_equal(b->header[1].value, "");
	assert_string_equal(b->op_url[OP_PREPARE], "http://shop/p");
	assert_string_equal(b->op_url[OP_COMMIT], "http://shop/c");
	assert_string_equal(b->op_url[OP_ROLLBACK], "http://shop/r");
	assert_int_equal(b->payload_len, 3);
}

static void test_payloads_are_not_touched(void **state)
{
	static const char *const payload[] = {
	    "19.990",
	    "12345678901234567890123",
	    "-0",
	    "1E400",
	    "null",
	    "true",
	    "\"\"",
	    "\"\\u0000\\ud800\\/\"",
	    "[ 1 ,\n\t2 ]",
	    "{ }",
	    "{\"a\":1,\"a\":2}",
	    "{\"payload\":{\"branches\":[{\"payload\":0}]}}",
	    "\"\xc3\xa4\"",
	};
	struct submission_fixture *f = *state;

	for (size_t i = 0; i < sizeof payload / sizeof payload[0]; i++) {
		struct buf text = BUF_INIT;
		const struct branch_spec *b;

		buf_puts(&text, HEAD "[" ONE ",{\"payload\" : ");
		buf_puts(&text, payload[i]);
		buf_puts(&text, "  ,\"id\":\"b\",\"participant\":" URL "}]}");
		submission_accepted(f, text.data);
		assert_null(f->s.branch[0].payload);
		b = &f->s.branch[1];
		assert_int_equal(b->payload_len, strlen(payload[i]));
		assert_memory_equal(b->payload, payload[i], b->payload_len);
		/* In the text itself, not in a copy. */
		assert_true(b->payload > f->text && b->payload < f->text + text.len);
		buf_release(&text);
	}
}

/* What was accepted once is read again whatever the allow-list says now. */
static void test_trusted(void **state)
{
	struct submission_fixture *f = *state;
	const char *text = HEAD "[{\"id\":\"a\",\"participant\":\"http://bank/\",\"ops\":"
	                        "{\"commit\":\"http://other/?x\"}}]}";

	submission_refused(f, text, PROBLEM_PARTICIPANT_NOT_ALLOWED, "/branches/0/participant");
	registry_free(f->registry);
	f->registry = NULL;
	submission_accepted(f, text);
	assert_string_equal(f->s.branch[0].participant, "http://bank/");
	assert_string_equal(f->s.branch[0].op_url[OP_COMMIT], "http://other/?x");
	submission_refused(f, HEAD "[{\"id\":\"a\",\"participant\":1}]}", PROBLEM_WRONG_TYPE,
	                   "/branches/0/participant");
}

static const char everything[] =
    "{\"gid\":\"g1\",\"mode\":\"2pc\",\"labels\":{\"a\":\"1\",\"b\":\"2\"},\"retry\":{\"factor\":"
    "3},\"branches\":[" ONE ",{\"id\":\"b\",\"participant\":" URL ",\"payload\":{\"x\":[1]},"
    "\"headers\":{\"X\":\"y\"},\"ops\":{\"commit\":" URL "}}]}";

/* The arena's limit is met at each of its allocations. */
static void test_arena_limit(void **state)
{
	struct submission_fixture *f = *state;
	size_t full;
	unsigned n_refused = 0;

	submission_accepted(f, everything);
	full = f->arena.used;
	for (size_t limit = 1; limit < full; limit++) {
		arena_release(&f->arena);
		arena_init(&f->arena, limit);
		assert_int_equal(submission_text(f, everything), PROBLEM_OVERLOADED);
		n_refused++;
	}
	assert_true(n_refused > 100);
	arena_release(&f->arena);
	arena_init(&f->arena, full);
	submission_accepted(f, everything);
}

#if CAN_FAIL_MALLOC
/* Whatever allocation fails: try again later, never a complaint about the text. */
static void test_out_of_memory(void **state)
{
	struct submission_fixture *f = *state;
	size_t len = strlen(everything);
	enum problem p = PROBLEM_OVERLOADED;
	long n;

	for (n = 0; p != PROBLEM_NONE; n++) {
		arena_release(&f->arena);
		memset(&f->c, 0, sizeof f->c);
		allocations_left = n;
		p = submission_decode(everything, len, f->registry, &f->arena, &f->s, &f->c);
		allocations_left = LONG_MAX;
		if (p != PROBLEM_NONE && p != PROBLEM_OVERLOADED)
			fail_msg("without allocation %ld: %s %s %s", n, problem_info(p)->code,
			         f->c.pointer, f->c.detail);
		assert_int_equal(f->c.problem, p);
		assert_true(n < 1000);
	}
	assert_true(n > 5);
	assert_string_equal(f->s.gid, "g1");
	assert_int_equal(f->s.n_branch, 2);
}
#endif

static void test_gid_valid(void **state)
{
	(void)state;
	assert_true(gid_valid("a", 1));
	assert_false(gid_valid("", 0));
	assert_false(gid_valid("a\0b", 3));
	assert_false(gid_valid("a+", 2));
	assert_false(gid_valid("a\x80", 2));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, submission_setup, submission_teardown)

/* A participant is left to itself after four times what a phase may take, unless it is said otherwise. */
static void test_three_phase(void **state)
{
	struct submission_fixture *f = *state;

	submission_accepted(f, "{\"mode\":\"3pc\",\"branches\":[" ONE "]}");
	assert_int_equal(f->s.mode, MODE_THREE_PHASE);
	assert_int_equal(f->s.phase_timeout_us, 5000 * 1000);
	assert_int_equal(f->s.hold_us, 20000 * 1000);
	assert_false(f->s.branch[0].waits);
	assert_null(f->s.branch[0].status_url);
	submission_accepted(f,
	                    "{\"mode\":\"3pc\",\"phase_timeout_ms\":70,\"branches\":[{\"id\":\"a\","
	                    "\"participant\":" URL ",\"on_timeout\":\"wait\",\"ops\":{"
	                    "\"abort\":\"http://shop/x\",\"status\":\"http://shop/y\"}}]}");
	assert_int_equal(f->s.hold_us, 280 * 1000);
	assert_true(f->s.branch[0].waits);
	assert_string_equal(f->s.branch[0].status_url, "http://shop/y");
	/* An intent goes where the decision goes. */
	assert_string_equal(f->s.branch[0].op_url[OP_PRE_ABORT], "http://shop/x");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_defaults),
		TEST(test_everything),
		TEST(test_payloads_are_not_touched),
		TEST(test_trusted),
		TEST(test_arena_limit),
#if CAN_FAIL_MALLOC
		TEST(test_out_of_memory),
#endif
		TEST(test_gid_valid),
		TEST(test_three_phase),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
