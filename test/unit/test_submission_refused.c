/*
 * test_submission_refused.c - every refusal of a submission with its problem and its JSON pointer,
 * and every limit at both edges.
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
#include "node/address.h"
#include "submission_fixture.h"

struct refusal {
	const char *text;
	enum problem problem;
	const char *pointer;
};

static void expect_each(struct submission_fixture *f, const struct refusal *r, size_t n)
{
	for (size_t i = 0; i < n; i++)
		submission_refused(f, r[i].text, r[i].problem, r[i].pointer);
}

#define EXPECT_EACH(f, r) expect_each(f, r, sizeof(r) / sizeof((r)[0]))

static void test_not_json(void **state)
{
	static const struct refusal r[] = {
	    {"", PROBLEM_MALFORMED_JSON, ""},
	    {"{", PROBLEM_MALFORMED_JSON, ""},
	    {"{}{}", PROBLEM_MALFORMED_JSON, ""},
	    {"{\"mode\":\"2pc\",\"mode\":\"2pc\"}", PROBLEM_MALFORMED_JSON, ""},
	    {BRANCH("\"payload\":1,\"payload\":2"), PROBLEM_MALFORMED_JSON, ""},
	    {TOP("\"branches\":[]"), PROBLEM_MALFORMED_JSON, ""},
	    {TOP("\"gid\":\"\xff\""), PROBLEM_MALFORMED_JSON, ""},
	    {TOP("\"gid\":\"a\\u0000b\""), PROBLEM_MALFORMED_JSON, ""},
	    {TOP("\"timeout_ms\":99999999999999999999"), PROBLEM_MALFORMED_JSON, ""},
	    {"[]", PROBLEM_WRONG_TYPE, ""},
	    {"null", PROBLEM_WRONG_TYPE, ""},
	    {"\"x\"", PROBLEM_WRONG_TYPE, ""},
	};
	struct submission_fixture *f = *state;

	EXPECT_EACH(f, r);
	assert_int_equal(submission_bytes(f, "{\0}", 3), PROBLEM_MALFORMED_JSON);
}

static void test_missing(void **state)
{
	static const struct refusal r[] = {
	    {"{}", PROBLEM_MISSING_MEMBER, "/mode"},
	    {"{\"branches\":[" ONE "]}", PROBLEM_MISSING_MEMBER, "/mode"},
	    {"{\"mode\":\"2pc\"}", PROBLEM_MISSING_MEMBER, "/branches"},
	    {HEAD "[{}]}", PROBLEM_MISSING_MEMBER, "/branches/0/id"},
	    {HEAD "[" ONE ",{\"participant\":" URL "}]}", PROBLEM_MISSING_MEMBER, "/branches/1/id"},
	    {HEAD "[" ONE ",{\"id\":\"b\"}]}", PROBLEM_MISSING_MEMBER, "/branches/1/participant"},
	};

	EXPECT_EACH(*state, r);
}

static void test_unknown(void **state)
{
	static const struct refusal r[] = {
	    {TOP("\"x\":1"), PROBLEM_UNKNOWN_MEMBER, "/x"},
	    {TOP("\"\":1"), PROBLEM_UNKNOWN_MEMBER, "/"},
	    {TOP("\"a/b~c\":1"), PROBLEM_UNKNOWN_MEMBER, "/a~1b~0c"},
	    {TOP("\"Mode\":1"), PROBLEM_UNKNOWN_MEMBER, "/Mode"},
	    {BRANCH("\"paylod\":1"), PROBLEM_UNKNOWN_MEMBER, "/branches/0/paylod"},
	    {BRANCH("\"ops\":{\"confirm\":" URL "}"), PROBLEM_UNKNOWN_MEMBER,
	     "/branches/0/ops/confirm"},
	    {TOP("\"retry\":{\"caps_ms\":1}"), PROBLEM_UNKNOWN_MEMBER, "/retry/caps_ms"},
	};
	struct submission_fixture *f = *state;

	EXPECT_EACH(f, r);
	submission_refused(f, TOP("\"time_out_ms\":1"), PROBLEM_UNKNOWN_MEMBER, "/time_out_ms");
	assert_non_null(strstr(f->c.detail, "did you mean \"timeout_ms\"?"));
	submission_refused(f, BRANCH("\"paylod\":1"), PROBLEM_UNKNOWN_MEMBER, "/branches/0/paylod");
	assert_non_null(strstr(f->c.detail, "did you mean \"payload\"?"));
	submission_refused(f, TOP("\"zzzzzzzz\":1"), PROBLEM_UNKNOWN_MEMBER, "/zzzzzzzz");
	assert_null(strstr(f->c.detail, "did you mean"));
}

static void test_types(void **state)
{
	static const struct refusal r[] = {
	    {TOP("\"gid\":1"), PROBLEM_WRONG_TYPE, "/gid"},
	    {TOP("\"gid\":null"), PROBLEM_WRONG_TYPE, "/gid"},
	    {"{\"mode\":2,\"branches\":[" ONE "]}", PROBLEM_WRONG_TYPE, "/mode"},
	    {TOP("\"timeout_ms\":\"1\""), PROBLEM_WRONG_TYPE, "/timeout_ms"},
	    {TOP("\"timeout_ms\":1.0"), PROBLEM_WRONG_TYPE, "/timeout_ms"},
	    {TOP("\"timeout_ms\":true"), PROBLEM_WRONG_TYPE, "/timeout_ms"},
	    {TOP("\"labels\":[]"), PROBLEM_WRONG_TYPE, "/labels"},
	    {TOP("\"labels\":{\"a\":\"\",\"b\":1}"), PROBLEM_WRONG_TYPE, "/labels/b"},
	    {TOP("\"labels\":{\"b\":null}"), PROBLEM_WRONG_TYPE, "/labels/b"},
	    {TOP("\"retry\":1"), PROBLEM_WRONG_TYPE, "/retry"},
	    {TOP("\"retry\":{\"factor\":1.5}"), PROBLEM_WRONG_TYPE, "/retry/factor"},
	    {HEAD "{}}", PROBLEM_WRONG_TYPE, "/branches"},
	    {HEAD "[" ONE ",7]}", PROBLEM_WRONG_TYPE, "/branches/1"},
	    {HEAD "[{\"id\":1,\"participant\":" URL "}]}", PROBLEM_WRONG_TYPE, "/branches/0/id"},
	    {HEAD "[{\"id\":\"a\",\"participant\":{}}]}", PROBLEM_WRONG_TYPE,
	     "/branches/0/participant"},
	    {BRANCH("\"timeout_ms\":[]"), PROBLEM_WRONG_TYPE, "/branches/0/timeout_ms"},
	    {BRANCH("\"headers\":\"X: y\""), PROBLEM_WRONG_TYPE, "/branches/0/headers"},
	    {BRANCH("\"headers\":{\"a~\":1}"), PROBLEM_WRONG_TYPE, "/branches/0/headers/a~0"},
	    {BRANCH("\"ops\":null"), PROBLEM_WRONG_TYPE, "/branches/0/ops"},
	    {BRANCH("\"ops\":{\"commit\":null}"), PROBLEM_WRONG_TYPE, "/branches/0/ops/commit"},
	};

	EXPECT_EACH(*state, r);
}

static void test_identifiers(void **state)
{
	static const struct refusal r[] = {
	    {TOP("\"gid\":\"\""), PROBLEM_INVALID_IDENTIFIER, "/gid"},
	    {TOP("\"gid\":\".\""), PROBLEM_INVALID_IDENTIFIER, "/gid"},
	    {TOP("\"gid\":\"..\""), PROBLEM_INVALID_IDENTIFIER, "/gid"},
	    {TOP("\"gid\":\"a b\""), PROBLEM_INVALID_IDENTIFIER, "/gid"},
	    {TOP("\"gid\":\"a/b\""), PROBLEM_INVALID_IDENTIFIER, "/gid"},
	    {TOP("\"gid\":\"a%b\""), PROBLEM_INVALID_IDENTIFIER, "/gid"},
	    {TOP("\"gid\":\"\xc3\xa4\""), PROBLEM_INVALID_IDENTIFIER, "/gid"},
	    {TOP("\"gid\":\"a\\n\""), PROBLEM_INVALID_IDENTIFIER, "/gid"},
	    {HEAD "[{\"id\":\"\",\"participant\":" URL "}]}", PROBLEM_INVALID_IDENTIFIER,
	     "/branches/0/id"},
	    {HEAD "[{\"id\":\"a:b\",\"participant\":" URL "}]}", PROBLEM_INVALID_IDENTIFIER,
	     "/branches/0/id"},
	    {HEAD "[{\"id\":\"a\",\"participant\":\"shop\"}]}", PROBLEM_PARTICIPANT_UNKNOWN,
	     "/branches/0/participant"},
	    {HEAD "[{\"id\":\"a\",\"participant\":\"http://u@shop/\"}]}",
	     PROBLEM_INVALID_IDENTIFIER, "/branches/0/participant"},
	    {HEAD "[{\"id\":\"a\",\"participant\":\"http://bank/\"}]}",
	     PROBLEM_PARTICIPANT_NOT_ALLOWED, "/branches/0/participant"},
	    {BRANCH("\"ops\":{\"rollback\":\"http://bank/\"}"), PROBLEM_PARTICIPANT_NOT_ALLOWED,
	     "/branches/0/ops/rollback"},
	    {BRANCH("\"ops\":{\"prepare\":\"http://shop/?q\"}"), PROBLEM_INVALID_IDENTIFIER,
	     "/branches/0/ops/prepare"},
	    {HEAD "[" ONE ",{\"id\":\"b\",\"participant\":" URL "}," ONE "]}",
	     PROBLEM_DUPLICATE_BRANCH, "/branches/2/id"},
	    {"{\"mode\":\"sagas\",\"branches\":[" ONE "]}", PROBLEM_MODE_NOT_SUPPORTED, "/mode"},
	    {"{\"mode\":\"\",\"branches\":[" ONE "]}", PROBLEM_MODE_NOT_SUPPORTED, "/mode"},
	    {"{\"mode\":\"2PC\",\"branches\":[" ONE "]}", PROBLEM_MODE_NOT_SUPPORTED, "/mode"},
	};

	EXPECT_EACH(*state, r);
}

/* The least and the greatest value pass, the next ones do not. */
static void test_numbers(void **state)
{
	static const struct {
		const char *format;
		const char *pointer;
		long min, max;
	} n[] = {
	    {TOP("\"timeout_ms\":%ld"), "/timeout_ms", 1, 3600000},
	    {BRANCH("\"timeout_ms\":%ld"), "/branches/0/timeout_ms", 1, 60000},
	    {TOP("\"retry\":{\"initial_ms\":%ld}"), "/retry/initial_ms", 10, 60000},
	    {TOP("\"retry\":{\"factor\":%ld}"), "/retry/factor", 1, 10},
	    {TOP("\"retry\":{\"cap_ms\":%ld}"), "/retry/cap_ms", 100, 3600000},
	    {TOP("\"retry\":{\"alert_after\":%ld}"), "/retry/alert_after", 1, 1000},
	};
	struct submission_fixture *f = *state;

	for (size_t i = 0; i < sizeof n / sizeof n[0]; i++) {
		const long value[] = {n[i].min, n[i].max, n[i].min - 1, n[i].max + 1, LONG_MIN};

		for (size_t k = 0; k < 5; k++) {
			struct buf text = BUF_INIT;
			const char *hole = strstr(n[i].format, "%ld");

			buf_append(&text, n[i].format, (size_t)(hole - n[i].format));
			buf_printf(&text, "%ld%s", value[k], hole + 3);
			if (k < 2)
				submission_accepted(f, text.data);
			else
				submission_refused(f, text.data, PROBLEM_OUT_OF_RANGE,
				                   n[i].pointer);
			buf_release(&text);
		}
	}
}

/* `n` times `unit`, with the count for #. */
static void put_times(struct buf *b, const char *unit, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (i)
			buf_putc(b, ',');
		for (const char *c = unit; *c; c++) {
			if (*c == '#')
				buf_printf(b, "%u", i);
			else
				buf_putc(b, *c);
		}
	}
}

static void test_counts(void **state)
{
	static const struct {
		const char *before, *unit, *after, *pointer;
		unsigned max;
		enum problem problem;
	} n[] = {
	    {HEAD "[", "{\"id\":\"b#\",\"participant\":" URL "}", "]}", "/branches", 64,
	     PROBLEM_BRANCH_COUNT},
	    {HEAD "[" ONE "],\"labels\":{", "\"l#\":\"\"", "}}", "/labels", 16,
	     PROBLEM_OUT_OF_RANGE},
	    {HEAD "[{\"id\":\"a\",\"participant\":" URL ",\"headers\":{", "\"X-#\":\"\"", "}}]}",
	     "/branches/0/headers", 16, PROBLEM_OUT_OF_RANGE},
	};
	struct submission_fixture *f = *state;

	for (size_t i = 0; i < sizeof n / sizeof n[0]; i++) {
		for (unsigned k = 0; k < 2; k++) {
			struct buf text = BUF_INIT;

			buf_puts(&text, n[i].before);
			put_times(&text, n[i].unit, n[i].max + k);
			buf_puts(&text, n[i].after);
			if (k == 0)
				submission_accepted(f, text.data);
			else
				submission_refused(f, text.data, n[i].problem, n[i].pointer);
			buf_release(&text);
		}
	}
	submission_refused(f, HEAD "[]}", PROBLEM_BRANCH_COUNT, "/branches");
	submission_accepted(f, TOP("\"labels\":{}"));
	assert_int_equal(f->s.n_label, 0);
}

/* Texts of so many letters between two halves of a submission. */
static void expect_longest(struct submission_fixture *f, const char *before, const char *after,
                           size_t max, enum problem problem, const char *pointer)
{
	for (size_t len = max; len <= max + 1; len++) {
		struct buf text = BUF_INIT;

		buf_puts(&text, before);
		for (size_t i = 0; i < len; i++)
			buf_putc(&text, 'a');
		buf_puts(&text, after);
		if (len == max)
			submission_accepted(f, text.data);
		else
			submission_refused(f, text.data, problem, pointer);
		buf_release(&text);
	}
}

#define A64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static void test_lengths(void **state)
{
	struct submission_fixture *f = *state;

	expect_longest(f, HEAD "[" ONE "],\"gid\":\"", "\"}", GID_MAX, PROBLEM_INVALID_IDENTIFIER,
	               "/gid");
	expect_longest(f, HEAD "[{\"id\":\"", "\",\"participant\":" URL "}]}", BRANCH_ID_MAX,
	               PROBLEM_INVALID_IDENTIFIER, "/branches/0/id");
	expect_longest(f, HEAD "[{\"id\":\"a\",\"participant\":\"http://shop/", "\"}]}",
	               ADDRESS_MAX - 12, PROBLEM_INVALID_IDENTIFIER, "/branches/0/participant");
	expect_longest(f, HEAD "[" ONE "],\"labels\":{\"", "\":\"\"}}", 63, PROBLEM_OUT_OF_RANGE,
	               "/labels/" A64);
	expect_longest(f, HEAD "[" ONE "],\"labels\":{\"k\":\"", "\"}}", 255, PROBLEM_OUT_OF_RANGE,
	               "/labels/k");
	expect_longest(f, HEAD "[{\"id\":\"a\",\"participant\":" URL ",\"headers\":{\"",
	               "\":\"\"}}]}", 64, PROBLEM_INVALID_HEADER, "/branches/0/headers/" A64 "a");
	expect_longest(f, HEAD "[{\"id\":\"a\",\"participant\":" URL ",\"headers\":{\"X\":\"",
	               "\"}}]}", 1024, PROBLEM_INVALID_HEADER, "/branches/0/headers/X");
}

static void test_label_names(void **state)
{
	static const struct refusal r[] = {
	    {TOP("\"labels\":{\"\":\"\"}"), PROBLEM_OUT_OF_RANGE, "/labels/"},
	    {TOP("\"labels\":{\"A\":\"\"}"), PROBLEM_OUT_OF_RANGE, "/labels/A"},
	    {TOP("\"labels\":{\"a b\":\"\"}"), PROBLEM_OUT_OF_RANGE, "/labels/a b"},
	    {TOP("\"labels\":{\"a/b\":\"\"}"), PROBLEM_OUT_OF_RANGE, "/labels/a~1b"},
	    {TOP("\"labels\":{\"ok\":\"\",\"n\\u00f6\":\"\"}"), PROBLEM_OUT_OF_RANGE,
	     "/labels/n\xc3\xb6"},
	};

	EXPECT_EACH(*state, r);
}

static void test_headers(void **state)
{
	static const char *const bad[] = {
	    "",
	    "X Y",
	    "X:",
	    "X\\u000aY",
	    "X\\u00e4",
	    "Assent-Gid",
	    "aSSENT-x",
	    "webhook-id",
	    "Webhook-Signature",
	    "host",
	    "HOST",
	    "Content-Length",
	    "content-type",
	    "Connection",
	    "Transfer-Encoding",
	    "expect",
	    "Accept",
	    "Idempotency-Key",
	    "Traceparent",
	    "User-Agent",
	    "upgrade",
	    "te",
	    "Trailer",
	    "Keep-Alive",
	    "Proxy-Connection",
	};
	static const char *const bad_value[] = {"a\\r\\nX: y", "a\\n", "\\t", "\\u007f", "\\u00e4"};
	struct submission_fixture *f = *state;

	submission_accepted(f,
	                    BRANCH("\"headers\":{\"!#$%&'*+-.^_`|~09aZ\":\" !~\",\"Assent\":\"x\","
	                           "\"Authorization\":\"Bearer x\",\"Hosts\":\"\"}"));
	assert_int_equal(f->s.branch[0].n_header, 4);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct buf text = BUF_INIT;

		buf_puts(&text, HEAD "[{\"id\":\"a\",\"participant\":" URL ",\"headers\":{\"");
		buf_printf(&text, "%s\":\"x\"}}]}", bad[i]);
		if (submission_text(f, text.data) != PROBLEM_INVALID_HEADER)
			fail_msg("header not refused: %s", bad[i]);
		assert_int_equal(strncmp(f->c.pointer, "/branches/0/headers/", 20), 0);
		buf_release(&text);
	}
	for (size_t i = 0; i < sizeof bad_value / sizeof bad_value[0]; i++) {
		struct buf text = BUF_INIT;

		buf_puts(&text,
		         HEAD "[{\"id\":\"a\",\"participant\":" URL ",\"headers\":{\"X\":\"");
		buf_printf(&text, "%s\"}}]}", bad_value[i]);
		submission_refused(f, text.data, PROBLEM_INVALID_HEADER, "/branches/0/headers/X");
		buf_release(&text);
	}
}

/* What a stranger wrote must not make the complaint too long or empty. */
static void test_long_names(void **state)
{
	struct submission_fixture *f = *state;
	struct buf text = BUF_INIT;

	buf_puts(&text, HEAD "[" ONE "],\"");
	for (int i = 0; i < 5000; i++)
		buf_puts(&text, "~/");
	buf_puts(&text, "\":1}");
	submission_refused(f, text.data, PROBLEM_UNKNOWN_MEMBER, "");
	buf_release(&text);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, submission_setup, submission_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_not_json),    TEST(test_missing), TEST(test_unknown),    TEST(test_types),
	    TEST(test_identifiers), TEST(test_numbers), TEST(test_counts),     TEST(test_lengths),
	    TEST(test_label_names), TEST(test_headers), TEST(test_long_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
