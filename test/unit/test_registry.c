/*
 * test_registry.c - named participants: what may stand behind a name, what lies below an address,
 * and whose limits and keys count.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "node/registry.h"

static int setup(void **state)
{
	return registry_new((struct registry **)(void *)state);
}

static int teardown(void **state)
{
	registry_free(*state);
	return 0;
}

static int add(struct registry *r, const char *name, const char *text)
{
	char why[256] = "";
	int rc = registry_add(r, name, text, "here", why, sizeof why);

	assert_int_equal(rc == 0, why[0] == '\0');
	return rc;
}

static void expect_fault(struct registry *r, const char *name, const char *text, const char *says)
{
	char why[256] = "";

	assert_int_equal(registry_add(r, name, text, "here", why, sizeof why), ERR_INVALID);
	if (!strstr(why, says))
		fail_msg("\"%s\" does not say \"%s\"", why, says);
}

static void test_settings(void **state)
{
	struct registry *r = *state;
	const struct registry_entry *e;

	assert_int_equal(add(r, "stock", " http://Shop:80/stock//\tqueue=5  concurrency=9 "), 0);
	e = registry_find(r, "stock");
	assert_string_equal(e->url, "http://Shop:80/stock");
	assert_int_equal(e->concurrency, 9);
	assert_int_equal(e->queue_max, 5);
	assert_null(e->secret_file);
	expect_fault(r, "stock", "", "address is missing");
	expect_fault(r, "stock", "shop", "http://");
	expect_fault(r, "stock", "http://a/?x", "query");
	expect_fault(r, "stock", "http://a/ http://b/", "behind the address");
	expect_fault(r, "stock", "http://a/ concurrency=1", "from 2 to 10000");
	expect_fault(r, "stock", "http://a/ concurrency=-3", "from 2 to 10000");
	expect_fault(r, "stock", "http://a/ concurrency= 3", "from 2 to 10000");
	expect_fault(r, "stock", "http://a/ queue=99999999999999999999", "from 1 to");
	expect_fault(r, "stock", "http://a/ secret=x", "secret=/FILE");
	expect_fault(r, "stock", "http://a/ secert=/x", "did you mean \"secret\"");
	/* What was good stays. */
	assert_string_equal(registry_find(r, "stock")->url, "http://Shop:80/stock");
	assert_int_equal(add(r, "stock", "http://b"), 0);
	assert_string_equal(registry_find(r, "stock")->url, "http://b");
	assert_int_equal(registry_count(r), 1);
}

static void test_names(void **state)
{
	static const char *const bad[] = {
	    "", "A", "a b", "a.b", "a/b", "\xc3\xa4", "123456789012345678901234567890123"};
	struct registry *r = *state;
	char name[16];

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		expect_fault(r, bad[i], "http://a/", "1 to 32 of a-z");
	assert_int_equal(add(r, "12345678901234567890123456789012", "http://a/"), 0);
	for (unsigned i = 1; i < REGISTRY_MAX; i++) {
		(void)snprintf(name, sizeof name, "p-%u", i * 37 % REGISTRY_MAX);
		assert_int_equal(add(r, name, "http://a/"), 0);
	}
	expect_fault(r, "one-more", "http://a/", "more than 256");
	assert_int_equal(add(r, "p-1", "http://b/"), 0);
	for (size_t i = 1; i < registry_count(r); i++)
		assert_true(strcmp(registry_at(r, i - 1)->name, registry_at(r, i)->name) < 0);
}

static int check(const struct registry *r, const char *participant)
{
	char why[256];

	return registry_check(r, participant, strlen(participant), why, sizeof why);
}

static void test_who_may_be_called(void **state)
{
	struct registry *r = *state;
	char why[256];

	assert_int_equal(registry_allow(r, "http://free:*", why, sizeof why), 0);
	assert_int_equal(add(r, "stock", "http://shop/stock"), 0);
	assert_int_equal(check(r, "stock"), 0);
	assert_int_equal(check(r, "http://shop/stock"), 0);
	assert_int_equal(check(r, "http://shop/stock/prepare"), 0);
	assert_int_equal(check(r, "http://free:1/x"), 0);
	assert_int_equal(check(r, "http://shop/stocks"), ERR_DENIED);
	assert_int_equal(check(r, "http://shop/"), ERR_DENIED);
	assert_int_equal(check(r, "http://shop:8080/stock"), ERR_DENIED);
	assert_int_equal(check(r, "http://shop/stock/../admin"), ERR_DENIED);
	assert_int_equal(check(r, "http://shop/stock/x/.."), ERR_DENIED);
	assert_int_equal(check(r, "http://shop/stock/%2E%2e/admin"), ERR_DENIED);
	assert_int_equal(check(r, "http://shop/stock/.%2e/admin"), ERR_DENIED);
	assert_int_equal(check(r, "http://shop/stock/a b"), ERR_INVALID);
	assert_int_equal(check(r, "stocks"), ERR_NOTFOUND);
	assert_int_equal(check(r, "shop/stock"), ERR_INVALID);
	assert_int_equal(registry_check(r, "stock\0x", 7, why, sizeof why), ERR_INVALID);
	assert_int_equal(registry_check_url(r, "stock", 5, why, sizeof why), ERR_INVALID);
	assert_int_equal(registry_allow(r, "nonsense", why, sizeof why), ERR_INVALID);
	assert_int_equal(check(r, "http://free:1/x"), 0);
	assert_int_equal(registry_check(r, "stok", 4, why, sizeof why), ERR_NOTFOUND);
	assert_non_null(strstr(why, "did you mean \"stock\""));
}

static const char *owner(const struct registry *r, const char *participant, const char *url)
{
	const struct registry_entry *e = registry_owner(r, participant, url);

	return e ? e->name : "";
}

static void test_owners(void **state)
{
	struct registry *r = *state;

	assert_int_equal(add(r, "all", "http://gate"), 0);
	assert_int_equal(add(r, "stock", "http://gate/stock"), 0);
	assert_int_equal(add(r, "alias", "http://gate/stock/"), 0);
	assert_string_equal(owner(r, "stock", "http://gate/stock/commit"), "stock");
	assert_string_equal(owner(r, "alias", "http://gate/stock/commit"), "alias");
	assert_string_equal(owner(r, "all", "http://gate/stock/commit"), "all");
	assert_string_equal(owner(r, "http://gate/other", "http://gate/other/commit"), "all");
	assert_string_equal(owner(r, "stock", "http://elsewhere/commit"), "");
	assert_string_equal(registry_url(r, "stock"), "http://gate/stock");
	assert_string_equal(registry_url(r, "http://x"), "http://x");
	assert_null(registry_url(r, "gone"));
}

static const struct secret_keys *secret(const struct registry *r, const char *participant,
                                        const char *url)
{
	const struct registry_entry *e = registry_owner(r, participant, url);

	return e ? e->keys : NULL;
}

static void test_secrets(void **state)
{
	struct registry *r = *state;
	char path[] = "/tmp/assent-secret-XXXXXX", text[64], why[256];
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "0123456789abcdef\n", 17), 17);
	assert_int_equal(close(fd), 0);
	(void)snprintf(text, sizeof text, "http://a/x secret=%s", path);
	assert_int_equal(add(r, "signed", text), 0);
	assert_int_equal(add(r, "plain", "http://a/y"), 0);
	assert_int_equal(registry_read_secrets(r, why, sizeof why), 0);
	assert_non_null(secret(r, "signed", "http://a/x/commit"));
	assert_non_null(secret(r, "http://a/x", "http://a/x/commit"));
	assert_null(secret(r, "plain", "http://a/y/commit"));
	/* A signature must not go to somebody else, who could use it. */
	assert_null(secret(r, "signed", "http://b/x/commit"));
	assert_int_equal(chmod(path, 0644), 0);
	assert_int_equal(add(r, "signed", text), 0);
	assert_int_equal(registry_read_secrets(r, why, sizeof why), ERR_INVALID);
	assert_non_null(strstr(why, "here: participant.signed: "));
	assert_null(strstr(why, "0123456789abcdef"));
	assert_int_equal(unlink(path), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    T(test_settings), T(test_names),   T(test_who_may_be_called),
	    T(test_owners),   T(test_secrets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
