/*
 * test_json.c - the scanner's grammar, raw members byte for byte, and the reader.
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
#include "base/json_scan.h"
#include "io/digest.h"
#include "io/json.h"

static int check(const char *text, size_t *at)
{
	/* Exactly as long as the text, so that a sanitizer sees a read beyond it. */
	size_t len = strlen(text);
	char *copy = malloc(len > 0 ? len : 1);
	int err;

	assert_non_null(copy);
	for (size_t i = 0; i < len; i++)
		copy[i] = text[i];
	err = json_scan_check(copy, len, at);
	free(copy);
	return err;
}

static void test_grammar_accepts(void **state)
{
	static const char *const good[] = {
	    "0",
	    "-0",
	    "10",
	    "-1.5e+10",
	    "1E5",
	    "1e-5",
	    "0.00",
	    "true",
	    "false",
	    " null ",
	    "\"\"",
	    "[]",
	    "{}",
	    "[ ]",
	    "{ }",
	    "[1,2 , 3]",
	    "{\"a\":1,\"b\":[{}],\"c\":{\"d\":null}}",
	    "\"\\u0000\\ud800\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
	    "\"\x7f\"",
	    "\"\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\"",
	    "\"\xee\x80\x80\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"",
	    "\t\r\n [\n]\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		if (check(good[i], NULL) != 0)
			fail_msg("refused: %s", good[i]);
	}
}

static void test_grammar_refuses(void **state)
{
	static const struct {
		const char *text;
		size_t at;
	} bad[] = {
	    {"", 0},
	    {"  ", 2},
	    {"01", 1},
	    {"-", 1},
	    {"+1", 0},
	    {".5", 0},
	    {"1.", 2},
	    {"1e", 2},
	    {"1e+", 3},
	    {"0x10", 1},
	    {"NaN", 0},
	    {"nul", 3},
	    {"nulll", 4},
	    {"True", 0},
	    {"'a'", 0},
	    {"\"a", 2},
	    {"\"a\nb\"", 2},
	    {"\"\x1f\"", 1},
	    {"\"\\x\"", 2},
	    {"\"\\u12g4\"", 5},
	    {"\"\\", 2},
	    {"[1,]", 3},
	    {"[1 2]", 3},
	    {"[", 1},
	    {"[1", 2},
	    {"{\"a\":1,}", 7},
	    {"{\"a\" 1}", 5},
	    {"{a:1}", 1},
	    {"{\"a\":}", 5},
	    {"{\"a\"", 4},
	    {"{,}", 1},
	    {"[]]", 2},
	    {"{} {}", 3},
	    {"\xef\xbb\xbf{}", 0},
	    {"\"\x80\"", 1},
	    {"\"\xc0\x80\"", 1},
	    {"\"\xc1\xbf\"", 1},
	    {"\"\xe0\x9f\xbf\"", 2},
	    {"\"\xed\xa0\x80\"", 2},
	    {"\"\xf0\x8f\xbf\xbf\"", 2},
	    {"\"\xf4\x90\x80\x80\"", 2},
	    {"\"\xf5\x80\x80\x80\"", 1},
	    {"\"\xe2\x82\"", 3},
	    {"[1] // no", 4},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		size_t at = 999;

		if (check(bad[i].text, &at) != ERR_PARSE || at != bad[i].at)
			fail_msg("%s: offset %zu, not %zu", bad[i].text, at, bad[i].at);
	}
}

static void test_every_prefix_is_refused(void **state)
{
	static const char text[] = "{\"a\":[1.5e3,true,{\"b\":\"\\u00e4\xc3\xa4\"}],\"c\":null}";

	(void)state;
	for (size_t len = 0; len < sizeof(text) - 1; len++) {
		char *copy = malloc(len + 1);

		assert_non_null(copy);
		memcpy(copy, text, len);
		copy[len] = '\0';
		assert_int_equal(check(copy, NULL), ERR_PARSE);
		free(copy);
	}
	assert_int_equal(check(text, NULL), 0);
}

static void test_depth(void **state)
{
	char text[2 * JSON_DEPTH_MAX + 3];
	char *deep = malloc(1000000);

	(void)state;
	memset(text, '[', JSON_DEPTH_MAX);
	memset(text + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
	text[2 * JSON_DEPTH_MAX] = '\0';
	assert_int_equal(check(text, NULL), 0);
	memset(text, '[', JSON_DEPTH_MAX + 1);
	memset(text + JSON_DEPTH_MAX + 1, ']', JSON_DEPTH_MAX + 1);
	text[2 * JSON_DEPTH_MAX + 2] = '\0';
	assert_int_equal(check(text, NULL), ERR_PARSE);
	assert_non_null(deep);
	memset(deep, '[', 1000000);
	assert_int_equal(json_scan_check(deep, 1000000, NULL), ERR_PARSE);
	free(deep);
}

static void test_top_str(void **state)
{
	static const char *const none[] = {
	    "{}",
	    "[\"vote\",\"yes\"]",
	    "{\"vote\":null}",
	    "{\"x\":{\"vote\":\"yes\"}}",
	    "{\"vote\":\"yes\"} x",
	    "vote=yes",
	    "yes, or {",
	    "",
	};
	/* Said, but not to be understood: not the same as nothing. */
	static const char *const unclear[] = {
	    "{\"vote\":1}",
	    "{\"vote\":\"\\u0079es\"}",
	    "{\"vote\":\"yes\",\"vote\":\"no\"}",
	    "{\"vote\":\"seventy\"}",
	    "{\"vote\":[\"yes\"]}",
	    " {",
	    "{\"vote\":\"n",
	    "{\"vote\":\"yes\"",
	    "{\"a\":{\"b\":1}",
	    "{\"vote\":nul",
	};
	static const char text[] = " {\"a\":[\"vote\"], \"vote\" : \"yes\"} ";
	char out[7] = "?";

	(void)state;
	assert_int_equal(json_scan_top_str(text, strlen(text), "vote", out, sizeof(out)), 0);
	assert_string_equal(out, "yes");
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
		assert_int_equal(
		    json_scan_top_str(none[i], strlen(none[i]), "vote", out, sizeof(out)),
		    ERR_NOTFOUND);
	for (size_t i = 0; i < sizeof(unclear) / sizeof(unclear[0]); i++)
		assert_int_equal(
		    json_scan_top_str(unclear[i], strlen(unclear[i]), "vote", out, sizeof(out)),
		    ERR_INVALID);
	assert_int_equal(json_scan_top_str("{\"v\":\"\"}", 8, "v", out, sizeof(out)), 0);
	assert_string_equal(out, "");
	assert_int_equal(json_scan_top_str("{\"v\":\"123456\"}", 14, "v", out, sizeof(out)), 0);
	assert_string_equal(out, "123456");
}

static void test_top_true(void **state)
{
	static const char *const no[] = {"{}",
	                                 "{\"h\":false}",
	                                 "{\"h\":\"true\"}",
	                                 "{\"h\":1}",
	                                 "{\"x\":{\"h\":true}}",
	                                 "{\"h\":true,\"h\":true}",
	                                 "{\"h\":true",
	                                 "[true]",
	                                 "",
	                                 "{\"h\":true} x"};

	static const char yes[] = " {\"a\":[],\"h\" : true}";

	(void)state;
	assert_true(json_scan_top_true(yes, strlen(yes), "h"));
	for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++)
		assert_false(json_scan_top_true(no[i], strlen(no[i]), "h"));
}

/* --- the reader --- */

static const struct json_raw_rule rule = {"branches", "payload"};

static struct json_doc *parse(const char *text)
{
	struct json_doc *d = NULL;
	char why[128];
	int err = json_parse(text, strlen(text), &rule, &d, why, sizeof(why));

	if (err != 0)
		fail_msg("%s: %s", text, why);
	return d;
}

static void refused(const char *text, const char *expected)
{
	struct json_doc *d = NULL;
	char why[128];

	assert_int_equal(json_parse(text, strlen(text), &rule, &d, why, sizeof(why)), ERR_PARSE);
	if (strstr(why, expected) == NULL || strchr(why, '\n') != NULL)
		fail_msg("%s: %s", text, why);
}

static void test_raw_bytes_survive(void **state)
{
	static const char *const payload[] = {
	    "19.99",
	    "12345678901234567890",
	    "-0.10e+00400",
	    "\"\\u0000\\ud800 \\/\"",
	    "{ \"b\" : 1,\t\"a\":[1, 2] ,\"b\":2}",
	    "1",
	    "\"\"",
	    "{}",
	    "null",
	};
	size_t n = sizeof(payload) / sizeof(payload[0]);
	struct buf text = BUF_INIT;
	struct json_doc *d;
	const struct json_value *branches;

	(void)state;
	buf_puts(&text, "{\"payload\":1.5,\"branches\":[");
	for (size_t i = 0; i < n; i++)
		buf_printf(&text, "{\"id\":\"b%zu\", \"payload\" : %s \n,\"x\":{\"payload\":3}},",
		           i, payload[i]);
	buf_puts(&text, "{\"id\":\"none\"}, [{\"payload\":7}], 5],\"mode\":\"2pc\"}");
	d = parse(text.data);
	for (size_t i = 0; i < n; i++) {
		struct json_span raw = json_raw(d, i);

		assert_int_equal(raw.len, strlen(payload[i]));
		assert_memory_equal(text.data + raw.at, payload[i], raw.len);
	}
	for (size_t i = n; i < n + 5; i++)
		assert_int_equal(json_raw(d, i).len, 0);
	branches = json_member(json_root(d), "branches");
	assert_int_equal(json_size(branches), n + 3);
	for (size_t i = 0; i < n; i++) {
		const struct json_value *b = json_at(branches, i);

		assert_int_equal(json_type(json_member(b, "payload")), JSON_T_NULL);
		assert_int_equal(json_int(json_member(json_member(b, "x"), "payload")), 3);
	}
	assert_string_equal(json_str(json_member(json_root(d), "mode"), NULL), "2pc");
	json_free(d);
	buf_release(&text);
}

static void test_raw_name_with_escapes(void **state)
{
	static const char text[] = "{\"br\\u0061nches\":[{\"p\\u0061yload\":19.99}]}";
	struct json_doc *d = parse(text);
	struct json_span raw = json_raw(d, 0);

	(void)state;
	assert_int_equal(raw.len, 5);
	assert_memory_equal(text + raw.at, "19.99", 5);
	json_free(d);
}

static void test_refusals(void **state)
{
	(void)state;
	refused("{\"a\":1,\"a\":2}", "duplicate");
	refused("{\"branches\":[{\"payload\":1,\"payload\":2}]}", "offset 26");
	refused("{\"branches\":[{\"payload\":1,\"p\\u0061yload\":2}]}", "offset 26");
	refused("{\"branches\":[{},{\"payload\":1}],\"branches\":[{\"payload\":1}]}", "offset 31");
	refused("{\"a\":\"\\u0000\"}", "u0000");
	refused("{\"a\":\"\\ud800\"}", "offset");
	refused("{\"a\":12345678901234567890}", "too big");
	refused("{\"a\":", "ends too early at offset 5");
	refused("{\"a\":\x01}", "offset 5");
	/* The offset is that of the text, though the copy has null for 1. */
	refused("{\"branches\":[{\"payload\":1}],\"a\":1,\"a\":2}", "offset 37");
}

static void test_types(void **state)
{
	struct json_doc *d = parse("{\"n\":null,\"b\":true,\"i\":-7,\"r\":1.5,\"s\":\"x\xc3\xa4\","
	                           "\"a\":[1],\"o\":{}}");
	static const enum json_type type[] = {JSON_T_NULL, JSON_T_BOOL,  JSON_T_INT,   JSON_T_REAL,
	                                      JSON_T_STR,  JSON_T_ARRAY, JSON_T_OBJECT};
	const char *name;
	const struct json_value *value;
	void *iter = NULL;
	size_t n = 0, len;

	(void)state;
	while (json_next(json_root(d), &iter, &name, &value)) {
		assert_int_equal(name[0], "nbirsao"[n]);
		assert_int_equal(json_type(value), type[n++]);
	}
	assert_int_equal(n, 7);
	assert_true(json_bool(json_member(json_root(d), "b")));
	assert_int_equal(json_int(json_member(json_root(d), "i")), -7);
	json_str(json_member(json_root(d), "s"), &len);
	assert_int_equal(len, 3);
	assert_null(json_member(json_root(d), "absent"));
	assert_string_equal(json_type_str(JSON_T_OBJECT), "an object");
	json_free(d);
	d = parse(" 5 ");
	assert_int_equal(json_type(json_root(d)), JSON_T_INT);
	json_free(d);
}

static void test_digest(void **state)
{
	static const uint8_t abc[] = {0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea};
	static const uint8_t empty[] = {0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14};
	uint8_t out[DIGEST_LEN], a[32] = {0}, b[32] = {0};

	(void)state;
	digest_sha256("abc", 3, out);
	assert_memory_equal(out, abc, sizeof(abc));
	digest_sha256(NULL, 0, out);
	assert_memory_equal(out, empty, sizeof(empty));
	digest_random(a, sizeof(a));
	digest_random(b, sizeof(b));
	assert_memory_not_equal(a, b, sizeof(a));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_grammar_accepts),
	    cmocka_unit_test(test_grammar_refuses),
	    cmocka_unit_test(test_every_prefix_is_refused),
	    cmocka_unit_test(test_depth),
	    cmocka_unit_test(test_top_str),
	    cmocka_unit_test(test_top_true),
	    cmocka_unit_test(test_raw_bytes_survive),
	    cmocka_unit_test(test_raw_name_with_escapes),
	    cmocka_unit_test(test_refusals),
	    cmocka_unit_test(test_types),
	    cmocka_unit_test(test_digest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
