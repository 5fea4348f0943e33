/*
 * test_template.c - payloads that are built from the results of earlier steps: every rule of
 * template.h and json_path.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/json_path.h"
#include "node/template.h"
#include "submission_fixture.h"

#define STEP(id)  "{\"id\":\"" id "\",\"participant\":" URL "}"
#define BUILT     2 /* the step whose payload is built; those before it are "a" and "a.result" */
#define A(path)   "{{steps.a.result" path "}}"
#define WHOLE(of) "\"" A(of) "\""

static void submission_of(struct buf *out, const char *payload, size_t len)
{
	buf_puts(out, "{\"mode\":\"saga\",\"branches\":[" STEP("a") "," STEP(
	                  "a.result") ",{\"id\":\"t\",\"participant\":" URL ",\"payload\":");
	buf_append(out, payload, len);
	buf_puts(out, "}]}");
	assert_false(out->failed);
}

static size_t decoded_len; /* of the fixture's text */

static enum problem decode(struct submission_fixture *f, const char *payload, size_t len)
{
	struct buf text = BUF_INIT;
	enum problem p;

	submission_of(&text, payload, len);
	p = submission_bytes(f, text.data, text.len);
	decoded_len = text.len;
	buf_release(&text);
	return p;
}

/* The results are that of "a" and that of "a.result", in memory exactly as long as they are. */
static int render(struct submission_fixture *f, const char *const text[2], struct buf *out,
                  char why[200])
{
	struct step_result result[BUILT + 1] = {{0}};
	char *copy[2] = {NULL, NULL};
	int rc;

	for (int i = 0; i < 2; i++) {
		size_t len = text[i] ? strlen(text[i]) : 0;

		if (!text[i])
			continue;
		assert_int_equal(json_scan_check(text[i], len, NULL), 0);
		copy[i] = malloc(len);
		assert_non_null(copy[i]);
		memcpy(copy[i], text[i], len);
		result[i] = (struct step_result){copy[i], len};
	}
	buf_reset(out);
	why[0] = '\0';
	rc = template_render(&f->s, BUILT, result, out, why, 200);
	free(copy[0]);
	free(copy[1]);
	return rc;
}

struct built {
	const char *payload;
	const char *result;
	const char *built; /* or, for one that is refused, what its reason says */
};

static void expect(struct submission_fixture *f, const struct built *b, int rc)
{
	const char *text[2] = {b->result, "{\"x\":\"of the other\",\"result\":7}"};
	struct buf out = BUF_INIT;
	char why[200];

	if (decode(f, b->payload, strlen(b->payload)) != PROBLEM_NONE)
		fail_msg("%s: %s", b->payload, f->c.detail);
	assert_true(f->s.branch[BUILT].built);
	if (render(f, text, &out, why) != rc)
		fail_msg("%s of %s: %s %.*s", b->payload, b->result, why, (int)out.len, out.data);
	if (rc < 0) {
		if (!strstr(why, b->built))
			fail_msg("%s of %s: %s", b->payload, b->result, why);
	} else {
		buf_putc(&out, '\0');
		assert_string_equal(out.data, b->built);
		assert_int_equal(json_scan_check(out.data, out.len - 1, NULL), 0);
	}
	buf_release(&out);
}

static void test_whole_strings_become_the_value(void **state)
{
	static const struct built b[] = {
	    {WHOLE(".n"), "{\"n\":19.990}", "19.990"},
	    {WHOLE(".n"), "{\"n\":12345678901234567890}", "12345678901234567890"},
	    {WHOLE(".n"), "{\"n\":-0}", "-0"},
	    {WHOLE(".n"), "{\"n\":1E+400}", "1E+400"},
	    {WHOLE(".n"), "{\"n\" : \"a\\u00e9\\n\\\"\" }", "\"a\\u00e9\\n\\\"\""},
	    {WHOLE(".n"), "{\"n\":\"\"}", "\"\""},
	    {WHOLE(".n"), "{\"n\":null}", "null"},
	    {WHOLE(".n"), "{\"n\":true}", "true"},
	    {WHOLE(".n"), "{\"n\":{ \"a\" : [1, 2] }}", "{ \"a\" : [1, 2] }"},
	    {WHOLE(".n"), "{\"n\":[]}", "[]"},
	    {WHOLE(""), " {\"n\": 1}\n", "{\"n\": 1}"},
	    {WHOLE(""), "7", "7"},
	    {WHOLE(""), "\"x\"", "\"x\""},
	    {"{ \"k\" : " WHOLE(".n") " , \"m\":[" WHOLE(".n") ",1]}", "{\"n\":1}",
	     "{ \"k\" : 1 , \"m\":[1,1]}"},
	};

	for (size_t i = 0; i < sizeof b / sizeof b[0]; i++)
		expect(*state, &b[i], 0);
}

static void test_scalars_within_strings(void **state)
{
	static const struct built b[] = {
	    {"\"<" A(".n") ">\"", "{\"n\":19.990}", "\"<19.990>\""},
	    {"\" " A(".n") "\"", "{\"n\":12345678901234567890}", "\" 12345678901234567890\""},
	    {"\"" A(".n") A(".n") "\"", "{\"n\":\"x\\\"y\\\\\"}", "\"x\\\"y\\\\x\\\"y\\\\\""},
	    {"\"\\\"" A(".n") "\\\\\"", "{\"n\":true}", "\"\\\"true\\\\\""},
	    /* A quote stands right before it, but not the one that begins the string. */
	    {"\"\\\"" A(".n") "\"", "{\"n\":19.990}", "\"\\\"19.990\""},
	    {"\"-" A(".n") "\"", "{\"n\":\"\"}", "\"-\""},
	    {"\"-" A(".n") "\"", "{\"n\":\"a\\u0000b\\ud800\"}", "\"-a\\u0000b\\ud800\""},
	    /* Two halves of a character, one of each: whatever that is, it is a string. */
	    {"\"\\ud83d" A(".n") "\"", "{\"n\":\"\\ude00\"}", "\"\\ud83d\\ude00\""},
	    /* A member's name is a string, also when it is nothing but a reference. */
	    {"{" WHOLE(".n") ":1}", "{\"n\":5}", "{\"5\":1}"},
	    {"{" WHOLE(".n") " \n:1}", "{\"n\":\"k\"}", "{\"k\" \n:1}"},
	    /* What is inserted is not looked at again. */
	    {"\"-" A(".n") "\"", "{\"n\":\"" A(".m") "\"}", "\"-" A(".m") "\""},
	    /* Other braces stay. */
	    {"[\"{{x}} {{ steps.a}}\",\"-" A(".n") "}}\"]", "{\"n\":1}",
	     "[\"{{x}} {{ steps.a}}\",\"-1}}\"]"},
	};
	static const struct built refused[] = {
	    {"\"-" A(".n") "\"", "{\"n\":{}}", "step a gave no n"},
	    {"\"-" A(".n") "\"", "{\"n\":[]}", "step a gave no n"},
	    {"\"-" A(".n") "\"", "{\"n\":null}", "step a gave no n"},
	    {"{" WHOLE(".n") ":1}", "{\"n\":{}}", "step a gave no n"},
	};

	for (size_t i = 0; i < sizeof b / sizeof b[0]; i++)
		expect(*state, &b[i], 0);
	for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
		expect(*state, &refused[i], ERR_RESULT);
}

static void test_paths(void **state)
{
	static const struct built b[] = {
	    {WHOLE(".l.1.k"), "{\"l\":[{\"k\":1},{\"k\":2}]}", "2"},
	    {WHOLE(".0"), "[[],2]", "[]"},
	    {WHOLE(".1"), "[ [ 1 , \"],\" ] , 2 ]", "2"},
	    {WHOLE(".1"), "{\"0\":0,\"1\":1}", "1"},
	    {WHOLE(".k"), "{\"x\":{\"k\":1},\"y\":\"\\\"k\\\":3\",\"k\":4}", "4"},
	    {WHOLE(".k"), "{\"x\":[1,{\"k\":1}],\"z\":-1.5e3,\"w\":null,\"k\":4}", "4"},
	    {WHOLE(".k"), "{\"k\":1,\"k\":2}", "1"},
	    {WHOLE(".k"), "{\"\\\\\":0,\"kk\":3,\"k\":1}", "1"},
	    {WHOLE("..k"), "{\"\":{\"k\":1}}", "1"},
	    {WHOLE(".k."), "{\"k\":1}", "1"},
	    {WHOLE(".\xc3\xa9"), "{\"\xc3\xa9\":1}", "1"},
	    /* The longest id that fits. */
	    {WHOLE(".result"), "{\"result\":1}", "{\"x\":\"of the other\",\"result\":7}"},
	    {WHOLE(".result.result"), "{\"result\":{\"result\":1}}", "7"},
	    {WHOLE(".results"), "{\"results\":1}", "1"},
	};
	static const struct built refused[] = {
	    {WHOLE(".x"), "{\"y\":1}", "step a gave no x"},
	    {WHOLE(".x"), NULL, "step a gave no x"},
	    {WHOLE(".x"), "{}", "step a gave no x"},
	    {WHOLE(".0"), "[]", "step a gave no 0"},
	    {WHOLE(".2"), "[1,2]", "step a gave no 2"},
	    {WHOLE(".01"), "[1,2]", "step a gave no 01"},
	    {WHOLE(".-1"), "[1,2]", "step a gave no -1"},
	    {WHOLE(".1000000"), "[1,2]", "step a gave no 1000000"},
	    {WHOLE(".99999999999999999999"), "[1,2]", "step a gave no 99999999999999999999"},
	    {WHOLE(".x"), "[{\"x\":1}]", "step a gave no x"},
	    {WHOLE(".x"), "\"x\"", "step a gave no x"},
	    {WHOLE(".x"), "7", "step a gave no x"},
	    {WHOLE(".x.y"), "{\"x\":1}", "step a gave no x.y"},
	    /* A name with escapes is not found. */
	    {WHOLE(".x"), "{\"\\u0078\":1}", "step a gave no x"},
	    {WHOLE(".result.y"), "{}", "step a.result gave no y"},
	};

	for (size_t i = 0; i < sizeof b / sizeof b[0]; i++)
		expect(*state, &b[i], 0);
	for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
		expect(*state, &refused[i], ERR_RESULT);
}

static void test_no_reference(void **state)
{
	static const char *const payload[] = {
	    "\"{{steps.a}}\"",
	    "\"{{steps.a.resul}}\"",
	    "\"{{steps.nobody.result}}\"",
	    "\"{{steps.a.result\"",
	    "[\"{{steps.a.result\",\"}}\"]",
	    "\"{{steps.t.result}}\"",
	    "\"{{steps.a.result}\"",
	    "\"{{steps.}}\"",
	    "{\"{{steps.x\":1}",
	    "\"" A(".a\\u0062") "\"",
	};
	static const char plain[] = "{\"a\":\"\\u007b{steps.a.result}}\",\"b\":\"{{\"}";

	for (size_t i = 0; i < sizeof payload / sizeof payload[0]; i++) {
		struct submission_fixture *f = *state;

		if (decode(f, payload[i], strlen(payload[i])) != PROBLEM_INVALID_ORDER)
			fail_msg("%s was taken", payload[i]);
		assert_string_equal(f->c.pointer, "/branches/2/payload");
	}
	assert_int_equal(decode(*state, plain, strlen(plain)), PROBLEM_NONE);
	assert_false(((struct submission_fixture *)*state)->s.branch[BUILT].built);
}

/* As deep as a result and a payload may be; together they are deeper than either may be. */
static void test_deep_nesting(void **state)
{
	struct buf result = BUF_INIT, out = BUF_INIT;
	struct submission_fixture *f = *state;
	const char *text[2] = {NULL, NULL};
	struct buf path = BUF_INIT;
	char why[200];

	for (int i = 0; i < JSON_DEPTH_MAX; i++)
		buf_puts(&result, i % 2 ? "[" : "{\"k\":");
	buf_puts(&result, "1");
	for (int i = JSON_DEPTH_MAX - 1; i >= 0; i--)
		buf_putc(&result, i % 2 ? ']' : '}');
	buf_putc(&result, '\0');
	text[0] = result.data;
	buf_puts(&path, "\"{{steps.a.result");
	for (int i = 0; i < JSON_DEPTH_MAX; i++)
		buf_puts(&path, i % 2 ? ".0" : ".k");
	buf_puts(&path, "}}\"");
	assert_int_equal(decode(f, path.data, path.len), PROBLEM_NONE);
	assert_int_equal(render(f, text, &out, why), 0);
	assert_int_equal(out.len, 1);
	assert_memory_equal(out.data, "1", 1);
	assert_int_equal(decode(f, "[" WHOLE("") "]", strlen("[" WHOLE("") "]")), PROBLEM_NONE);
	assert_int_equal(render(f, text, &out, why), 0);
	assert_int_equal(out.len, result.len - 1 + 2);
	assert_memory_equal(out.data + 1, result.data, result.len - 1);
	buf_release(&path);
	buf_release(&result);
	buf_release(&out);
}

/* `n` references in one array; with `more` bytes of a string behind them. */
static enum problem decode_many(struct submission_fixture *f, unsigned n, size_t more)
{
	struct buf payload = BUF_INIT;
	enum problem p;

	buf_puts(&payload, "[");
	for (unsigned i = 0; i < n; i++)
		buf_puts(&payload, WHOLE(".s") ",");
	buf_puts(&payload, "\"");
	for (size_t i = 0; i < more; i++)
		buf_putc(&payload, 'x');
	buf_puts(&payload, "\"]");
	p = decode(f, payload.data, payload.len);
	buf_release(&payload);
	return p;
}

/* 1 MiB of results, and not a byte more. */
static void test_too_long(void **state)
{
	enum {
		N = 64
	};
	const char *text[2] = {NULL, NULL};
	const size_t of_one = RESULT_MAX - strlen("{\"s\":}");
	const size_t room = BUILT_MAX - N * (of_one + 1) - strlen("[\"\"]");
	struct submission_fixture *f = *state;
	struct buf out = BUF_INIT, result = BUF_INIT;
	char why[200];

	buf_puts(&result, "{\"s\":\"");
	while (result.len < RESULT_MAX - 2)
		buf_putc(&result, 'x');
	buf_append(&result, "\"}", 3);
	text[0] = result.data;
	assert_int_equal(decode_many(f, N, room), PROBLEM_NONE);
	assert_int_equal(render(f, text, &out, why), 0);
	assert_int_equal(out.len, BUILT_MAX);
	assert_int_equal(json_scan_check(out.data, out.len, NULL), 0);
	assert_int_equal(decode_many(f, N, room + 1), PROBLEM_NONE);
	assert_int_equal(render(f, text, &out, why), ERR_PAYLOAD);
	assert_string_equal(why, "with the results its payload is longer than 1048576 bytes");
	/* It stops there, and does not build all of it before it says so. */
	assert_int_equal(decode_many(f, REFERENCE_MAX, 0), PROBLEM_NONE);
	assert_int_equal(render(f, text, &out, why), ERR_PAYLOAD);
	assert_true(out.len < BUILT_MAX + 2 * RESULT_MAX);
	assert_true(template_failed(ERR_PAYLOAD) && template_failed(ERR_RESULT));
	assert_false(template_failed(0) || template_failed(ERR_NOMEM));
	buf_release(&result);
	buf_release(&out);
}

static void test_too_many(void **state)
{
	struct submission_fixture *f = *state;
	struct arena arena;
	struct submission again;
	struct complaint c;

	assert_int_equal(decode_many(f, REFERENCE_MAX, 0), PROBLEM_NONE);
	assert_int_equal(decode_many(f, REFERENCE_MAX + 1, 0), PROBLEM_INVALID_ORDER);
	assert_string_equal(f->c.pointer, "/branches/2/payload");
	assert_non_null(strstr(f->c.detail, "more than 256 results"));
	/* One that was taken is run, whatever the limit is by now. */
	arena_init(&arena, 0);
	assert_int_equal(submission_decode(f->text, decoded_len, NULL, &arena, &again, &c),
	                 PROBLEM_NONE);
	arena_release(&arena);
}

#define T(test) cmocka_unit_test_setup_teardown(test, submission_setup, submission_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    T(test_whole_strings_become_the_value),
	    T(test_scalars_within_strings),
	    T(test_paths),
	    T(test_no_reference),
	    T(test_deep_nesting),
	    T(test_too_long),
	    T(test_too_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
