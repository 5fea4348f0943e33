/*
 * test_sdk_call.c - decoding of calls, and the replies and submissions libassent writes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "participants/sdk/assent.h"
#include "participants/sdk/internal.h"

struct header {
	const char *name;
	const char *value;
};

static const struct header good[] = {
    {"Assent-Cluster", "c0ffee00"}, {"Assent-Namespace", "default"}, {"Assent-Gid", "order-42:a~b"},
    {"Assent-Branch", "stock"},     {"Assent-Op", "prepare"},        {"Assent-Mode", "2pc"},
    {"Assent-Attempt", "3"},        {"Assent-Timeout-Ms", "2500"},
};

#define N_GOOD (sizeof(good) / sizeof(good[0]))

/* The good headers, with those in `ctx` replaced (NULL: missing); a nameless one is their end. */
static const char *header(void *ctx, const char *name)
{
	const struct header *other = ctx;

	for (; other->name; other++) {
		if (strcmp(name, other->name) == 0)
			return other->value;
	}
	for (size_t i = 0; i < N_GOOD; i++) {
		if (strcmp(name, good[i].name) == 0)
			return good[i].value;
	}
	return NULL;
}

static int decode(const char *name, const char *value, struct assent_call **call,
                  struct assent_error *err)
{
	struct header other[] = {{name, value}, {NULL, NULL}};

	return assent_call_new(call, header, other, "{\"n\":19.99}", 11, err);
}

static void decodes_a_call(void **state)
{
	struct assent_call *call;
	size_t len;

	(void)state;
	assert_int_equal(decode("", NULL, &call, NULL), 0);
	assert_string_equal(assent_call_cluster(call), "c0ffee00");
	assert_string_equal(assent_call_namespace(call), "default");
	assert_string_equal(assent_call_gid(call), "order-42:a~b");
	assert_string_equal(assent_call_branch(call), "stock");
	assert_string_equal(assent_call_op(call), "prepare");
	assert_int_equal(assent_call_attempt(call), 3);
	assert_int_equal(assent_call_one_phase(call), 0);
	assert_in_range(assent_call_remaining_ms(call), 1, 2500);
	assert_string_equal(assent_call_body(call, &len), "{\"n\":19.99}");
	assert_int_equal(len, 11);
	assent_call_free(call);
}

static void decodes_the_terms(void **state)
{
	struct assent_call *call;

	(void)state;
	/* The sweep adds both up. */
	assert_int_equal(decode("Assent-Hold-Ms", "2147483647", &call, NULL), 0);
	assert_in_range(call->hold_ms, 86400000, INT32_MAX - 86400000);
	assent_call_free(call);
	assert_int_equal(decode("Assent-Timeout-Ms", "-1", &call, NULL), 0);
	assert_int_equal(assent_call_remaining_ms(call), 0);
	assent_call_free(call);
	assert_int_equal(decode("Assent-One-Phase", "false", &call, NULL), 0);
	assert_int_equal(assent_call_one_phase(call), 0);
	assent_call_free(call);
	/* Of a prepare it makes no sense. */
	assert_int_equal(decode("Assent-One-Phase", "true", &call, NULL), ASSENT_E_INVALID);
}

static int decode_op(const char *mode, const char *op, const char *may_be_confirmed)
{
	struct header other[] = {{"Assent-Mode", mode},
	                         {"Assent-Op", op},
	                         {"Assent-May-Be-Confirmed", may_be_confirmed},
	                         {NULL, NULL}};
	struct assent_call *call;
	int rc = assent_call_new(&call, header, other, "", 0, NULL);

	assent_call_free(call);
	return rc;
}

static void an_operation_has_one_mode(void **state)
{
	static const struct header ops[] = {
	    {"2pc", "prepare"}, {"2pc", "commit"},   {"2pc", "rollback"}, {"tcc", "try"},
	    {"tcc", "confirm"}, {"tcc", "cancel"},   {"saga", "action"},  {"saga", "compensate"},
	    {"3pc", "abort"},   {"3pc", "do_commit"}};
	static const char *const modes[] = {"2pc", "3pc", "tcc", "saga", "msg"};

	(void)state;
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		for (size_t j = 0; j < sizeof(modes) / sizeof(modes[0]); j++)
			assert_int_equal(decode_op(modes[j], ops[i].value, NULL),
			                 strcmp(ops[i].name, modes[j]) ? ASSENT_E_INVALID : 0);
	}
	assert_int_equal(decode_op("tcc", "cancel", "true"), 0);
	assert_int_equal(decode_op("tcc", "confirm", "true"), 0);
	assert_int_equal(decode_op("tcc", "cancel", "false"), 0);
	assert_int_equal(decode_op("tcc", "cancel", "1"), ASSENT_E_INVALID);
	assert_int_equal(decode_op("tcc", "try", "true"), ASSENT_E_INVALID);
	assert_int_equal(decode_op("saga", "compensate", "true"), ASSENT_E_INVALID);
}

static void refuses_what_is_missing(void **state)
{
	struct assent_call *call;
	struct assent_error err;

	(void)state;
	for (size_t i = 0; i < N_GOOD; i++) {
		memset(&call, 1, sizeof(call));
		assert_int_equal(decode(good[i].name, NULL, &call, &err), ASSENT_E_INVALID);
		assert_null(call);
		assert_non_null(strstr(err.text, good[i].name));
		assert_int_equal(err.code, ASSENT_E_INVALID);
	}
}

static void refuses_what_is_wrong(void **state)
{
	static const struct header wrong[] = {
	    {"Assent-Cluster", ""},
	    {"Assent-Cluster", "it's"},
	    {"Assent-Cluster", "a:b"},
	    {"Assent-Namespace", "a b"},
	    {"Assent-Gid", ""},
	    {"Assent-Gid", "a'b"},
	    {"Assent-Gid", "a/b"},
	    {"Assent-Gid", "\xc3\xa9"},
	    {"Assent-Branch", "a:b"},
	    {"Assent-Branch", "123456789012345678901234567890123"},
	    {"Assent-Op", "drop"},
	    {"Assent-Op", "prepare "},
	    {"Assent-Op", "a_very_long_operation"},
	    {"Assent-Mode", "4pc"},
	    {"Assent-Mode", "tcc"},
	    {"Assent-Attempt", "0"},
	    {"Assent-Attempt", "1x"},
	    {"Assent-Attempt", ""},
	    {"Assent-Timeout-Ms", "soon"},
	    {"Assent-Timeout-Ms", " 5"},
	    {"Assent-Timeout-Ms", "99999999999999999999"},
	    {"Assent-Hold-Ms", "-1"},
	    {"Assent-One-Phase", "yes"},
	};
	struct assent_call *call;
	struct assent_error err;
	char gid[130];

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		if (decode(wrong[i].name, wrong[i].value, &call, &err) != ASSENT_E_INVALID)
			fail_msg("%s: %s was accepted", wrong[i].name, wrong[i].value);
		assert_non_null(strstr(err.text, wrong[i].name));
	}
	memset(gid, 'g', sizeof(gid));
	gid[129] = '\0';
	assert_int_equal(decode("Assent-Gid", gid, &call, NULL), ASSENT_E_INVALID);
	gid[128] = '\0';
	assert_int_equal(decode("Assent-Gid", gid, &call, NULL), 0);
	assent_call_free(call);
}

static void reasons_are_valid_json(void **state)
{
	struct assent_reply *reply = assent_reply_new();

	(void)state;
	assert_int_equal(assent_refuse(reply, "a \"b\" \\ %s \xff\n", "\xc3\xa9"), ASSENT_REFUSED);
	assert_int_equal(assent_reply_status(reply), 409);
	assert_string_equal(assent_reply_body(reply, NULL),
	                    "{\"reason\":\"a \\\"b\\\" \\\\ \xc3\xa9 \\ufffd\\u000a\"}");
	assent_reply_set(reply, 200, NULL, 0);
	assert_string_equal(assent_reply_body(reply, NULL), "");
	assert_int_equal(assent_reply_status(reply), 200);
	assent_reply_free(reply);
}

static void json_is_checked(void **state)
{
	static const char *const valid[] = {"1",
	                                    "-0.5e+10",
	                                    "\"\\u00e9\\n\"",
	                                    " [ ] ",
	                                    "{\"a\":[1,{\"b\":null}]}",
	                                    "\"\xc3\xa9\"",
	                                    "true"};
	static const char *const invalid[] = {
	    "",         "01",     "1.",      "-",   "[1,]",    "{\"a\"}",
	    "{a:1}",    "\"\n\"", "nul",     "1 2", "\"\\x\"", "\"\\u12",
	    "\"\xff\"", "[",      "{\"a\":", "\"",  "1}, {",   "\"\xed\xa0\x80\""};
	char deep[300];

	(void)state;
	for (size_t i = 0; i < sizeof(valid) / sizeof(valid[0]); i++) {
		if (!sdk_json_valid(valid[i], strlen(valid[i])))
			fail_msg("%s was refused", valid[i]);
	}
	for (size_t i = 0; i < sizeof(invalid) / sizeof(invalid[0]); i++) {
		if (sdk_json_valid(invalid[i], strlen(invalid[i])))
			fail_msg("%s was accepted", invalid[i]);
	}
	memset(deep, '[', 150);
	memset(deep + 150, ']', 150);
	assert_false(sdk_json_valid(deep, 300));
}

static void members_are_found(void **state)
{
	static const char text[] = " { \"x\" : {\"outcome\":\"no\"}, \"n\":[1,\"outcome\"] ,"
	                           "\"outcome\" : \"committed\" , \"e\":\"a\\n\"} ";
	char out[16];

	(void)state;
	sdk_json_member(text, strlen(text), "outcome", out, sizeof(out));
	assert_string_equal(out, "committed");
	sdk_json_member(text, strlen(text), "outcome", out, 9);
	assert_string_equal(out, "");
	sdk_json_member(text, strlen(text), "e", out, sizeof(out));
	assert_string_equal(out, "");
	sdk_json_member(text, strlen(text), "x", out, sizeof(out));
	assert_string_equal(out, "");
	sdk_json_member("{}", 2, "x", out, sizeof(out));
	assert_string_equal(out, "");
	sdk_json_member("[]", 2, "x", out, sizeof(out));
	assert_string_equal(out, "");
}

static void submissions_are_checked(void **state)
{
	struct assent_error err;
	struct assent_txn *txn = assent_txn_new("g", "2pc", 0, &err);
	struct assent_client *client = assent_client_new("http://127.0.0.1:1/", &err);
	struct assent_result result;

	(void)state;
	assert_null(assent_txn_new("a b", "2pc", 0, &err));
	assert_null(assent_txn_new("", "2pc", 0, &err));
	assert_null(assent_client_new("127.0.0.1:7470", &err));
	assert_int_equal(assent_submit(client, txn, 0, &result, &err), ASSENT_E_INVALID);
	assert_int_equal(assent_txn_add_branch(txn, "a:b", "http://x", NULL, &err),
	                 ASSENT_E_INVALID);
	assert_int_equal(assent_txn_add_branch(txn, "a", "http://x", "1},{", &err),
	                 ASSENT_E_INVALID);
	assert_int_equal(assent_txn_after(txn, "a", &err), ASSENT_E_INVALID);
	assert_int_equal(assent_txn_option(txn, "on failure", "retry", &err), ASSENT_E_INVALID);
	assert_int_equal(assent_txn_add_branch(txn, "a", "http://x", "{}", &err), 0);
	assert_int_equal(assent_txn_after(txn, "a b", &err), ASSENT_E_INVALID);
	assert_int_equal(assent_txn_option(txn, "recovery", "forward", &err), ASSENT_E_INVALID);
	assert_int_equal(assent_client_set_patience(client, 0, &err), ASSENT_E_INVALID);
	assert_int_equal(assent_client_set_patience(client, 50, &err), 0);
	assert_int_equal(assent_submit(client, txn, 60001, &result, &err), ASSENT_E_INVALID);
	assert_int_equal(assent_submit(client, txn, 0, &result, &err), ASSENT_E_UNREACHABLE);
	assert_int_equal(assent_get(client, "g/../x", &result, &err), ASSENT_E_INVALID);
	assent_txn_free(txn);
	assent_client_free(client);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(an_operation_has_one_mode), cmocka_unit_test(decodes_a_call),
	    cmocka_unit_test(decodes_the_terms),         cmocka_unit_test(refuses_what_is_missing),
	    cmocka_unit_test(refuses_what_is_wrong),     cmocka_unit_test(reasons_are_valid_json),
	    cmocka_unit_test(json_is_checked),           cmocka_unit_test(members_are_found),
	    cmocka_unit_test(submissions_are_checked),
	};

	return cmocka_run_group_tests_name("sdk_call", tests, NULL, NULL);
}
