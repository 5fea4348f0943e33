/*
 * test_address.c - the allow-list: what is a usable address, which rule lets it through, and that
 * no spelling of an address slips past the rules.
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
#include "node/address.h"

static struct address_list *rules_new(const char *rules)
{
	struct address_list *l = NULL;
	char why[160] = "";

	if (address_list_new(rules, &l, why, sizeof why) != 0)
		fail_msg("rules \"%s\": %s", rules, why);
	return l;
}

static int check_in(const struct address_list *l, const char *url, size_t len)
{
	/* Exactly as long as the text, so that a sanitizer sees a read beyond it. */
	char *copy = malloc(len > 0 ? len : 1);
	char why[160] = "";
	int rc;

	assert_non_null(copy);
	memcpy(copy, url, len);
	rc = address_check(l, copy, len, why, sizeof why);
	free(copy);
	/* Every refusal is one line that says something. */
	assert_int_equal(rc == 0, *why == '\0');
	assert_null(strpbrk(why, "\r\n"));
	return rc;
}

static int check(const char *rules, const char *url)
{
	struct address_list *l = rules_new(rules);
	int rc = check_in(l, url, strlen(url));

	address_list_free(l);
	return rc;
}

struct expectation {
	const char *rules;
	const char *url;
	int rc;
};

static void expect_all(const struct expectation *e, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int rc = check(e[i].rules, e[i].url);

		if (rc != e[i].rc)
			fail_msg("rules \"%s\", address \"%s\": %d instead of %d", e[i].rules,
			         e[i].url, rc, e[i].rc);
	}
}

#define EXPECT_ALL(e) expect_all(e, sizeof(e) / sizeof((e)[0]))

static void test_names(void **state)
{
	static const struct expectation e[] = {
	    {"http://shop", "http://shop", 0},
	    {"http://shop", "http://shop/", 0},
	    {"http://shop", "http://shop/a/b%20c;d=e", 0},
	    {"http://shop", "HTTP://SHOP/", 0},
	    {"HTTP://Shop", "http://sHOP/", 0},
	    {"http://a-b_c.example", "http://a-b_c.example/x", 0},
	    {"http://shop", "https://shop/", ERR_DENIED},
	    {"https://shop", "http://shop/", ERR_DENIED},
	    {"http://shop", "http://shop.example/", ERR_DENIED},
	    {"http://shop", "http://eshop/", ERR_DENIED},
	    {"http://shop", "http://sho/", ERR_DENIED},
	    {"http://shop", "http://a.shop/", ERR_DENIED},
	    {"http://shop", "http://10.0.0.1/", ERR_DENIED},
	    {"http://a,http://b", "http://b/", 0},
	    {" http://a \t\n,, http://b ,", "http://b/", 0},
	    {"", "http://shop/", ERR_DENIED},
	    {" , ", "http://shop/", ERR_DENIED},
	};

	(void)state;
	EXPECT_ALL(e);
}

static void test_ports(void **state)
{
	static const struct expectation e[] = {
	    {"http://shop", "http://shop:80/", 0},
	    {"https://shop", "https://shop:443/", 0},
	    {"http://shop", "http://shop:8080/", ERR_DENIED},
	    {"http://shop", "http://shop:443/", ERR_DENIED},
	    {"http://shop:8080", "http://shop:8080/", 0},
	    {"http://shop:8080", "http://shop/", ERR_DENIED},
	    {"http://shop:*", "http://shop/", 0},
	    {"http://shop:*", "http://shop:1/", 0},
	    {"http://shop:*", "http://shop:65535/", 0},
	    {"http://shop:*", "http://shop:0/", ERR_INVALID},
	    {"http://shop:*", "http://shop:65536/", ERR_INVALID},
	    {"http://shop:*", "http://shop:99999/", ERR_INVALID},
	    {"http://shop:*", "http://shop:65616/", ERR_INVALID},
	    {"http://shop:*", "http://shop:4294967376/", ERR_INVALID},
	    {"http://shop:*", "http://shop:/", ERR_INVALID},
	    {"http://shop:*", "http://shop:", ERR_INVALID},
	    {"http://shop:*", "http://shop:+80/", ERR_INVALID},
	    {"http://shop:*", "http://shop:-1/", ERR_INVALID},
	    {"http://shop:*", "http://shop:*/", ERR_INVALID},
	    {"http://shop:*", "http://shop:8a/", ERR_INVALID},
	    {"http://shop:*", "http://shop:80:81/", ERR_INVALID},
	    {"http://[fd00::1]:8080", "http://[fd00::1]:8080/", 0},
	    {"http://[fd00::1]:8080", "http://[fd00::1]/", ERR_DENIED},
	};

	(void)state;
	EXPECT_ALL(e);
}

static void test_networks(void **state)
{
	static const struct expectation e[] = {
	    {"http://10.0.0.1", "http://10.0.0.1/", 0},
	    {"http://10.0.0.1", "http://10.0.0.2/", ERR_DENIED},
	    {"http://10.0.0.0/8", "http://10.255.3.4/", 0},
	    {"http://10.0.0.0/8", "http://11.0.0.0/", ERR_DENIED},
	    {"http://10.0.0.0/8", "http://9.255.255.255/", ERR_DENIED},
	    {"http://10.9.9.9/8", "http://10.1.1.1/", 0},
	    {"http://10.0.0.0/8", "http://shop/", ERR_DENIED},
	    {"http://192.168.4.0/22:*", "http://192.168.7.255:99/", 0},
	    {"http://192.168.4.0/22:*", "http://192.168.8.0:99/", ERR_DENIED},
	    {"http://192.168.4.0/22:*", "http://192.168.3.255/", ERR_DENIED},
	    {"http://10.0.0.4/31:8080", "http://10.0.0.5:8080/", 0},
	    {"http://10.0.0.4/31:8080", "http://10.0.0.6:8080/", ERR_DENIED},
	    {"http://10.0.0.4/31:8080", "http://10.0.0.5/", ERR_DENIED},
	    {"http://10.0.0.4/32", "http://10.0.0.4/", 0},
	    {"http://10.0.0.4/32", "http://10.0.0.5/", ERR_DENIED},
	    {"http://0.0.0.0/0", "http://203.0.113.9/", 0},
	    {"http://0.0.0.0/0", "http://[fd00::1]/", ERR_DENIED},
	    {"http://[fd00::]/8", "http://[fdff::1]/", 0},
	    {"http://[fd00::]/8", "http://[FDFF:0:0::1]/", 0},
	    {"http://[fd00::]/8", "http://[fe00::1]/", ERR_DENIED},
	    {"http://[fd00::]/8:*", "http://[fd00::1]:1/", 0},
	    {"http://[2001:db8::]/33", "http://[2001:db8:7fff::]/", 0},
	    {"http://[2001:db8::]/33", "http://[2001:db8:8000::]/", ERR_DENIED},
	    {"http://[2001:db8::1]", "http://[2001:0db8:0::0:1]/", 0},
	    {"http://[2001:db8::1]/128", "http://[2001:db8::2]/", ERR_DENIED},
	    {"http://[::]/0", "http://[2001:db8::2]/", 0},
	    {"http://[::]/0", "http://203.0.113.9/", ERR_DENIED},
	};

	(void)state;
	EXPECT_ALL(e);
}

static void test_loopback(void **state)
{
	static const struct expectation e[] = {
	    {"http://loopback:*", "http://127.0.0.1:7480/v1", 0},
	    {"http://loopback:*", "http://127.255.255.254/", 0},
	    {"http://loopback:*", "http://[::1]:7480/", 0},
	    {"http://loopback:*", "http://[0:0:0:0:0:0:0:1]/", 0},
	    {"http://loopback:*", "http://localhost/", 0},
	    {"http://loopback:*", "http://LocalHost/", 0},
	    {"http://LOOPBACK:*", "http://localhost/", 0},
	    {"http://loopback", "http://localhost:81/", ERR_DENIED},
	    {"http://loopback:*", "http://loopback/", ERR_DENIED},
	    {"http://loopback:*", "http://128.0.0.1/", ERR_DENIED},
	    {"http://loopback:*", "http://126.255.255.255/", ERR_DENIED},
	    {"http://loopback:*", "http://0.0.0.0/", ERR_DENIED},
	    {"http://loopback:*", "http://[::]/", ERR_DENIED},
	    {"http://loopback:*", "http://[::2]/", ERR_DENIED},
	    {"http://loopback:*", "http://[fe80::1]/", ERR_DENIED},
	    {"http://loopback:*", "http://localhost.example/", ERR_DENIED},
	    {"http://loopback:*", "http://a.localhost/", ERR_DENIED},
	    {"http://loopback:*", "http://127.0.0.1.example/", ERR_DENIED},
	};

	(void)state;
	EXPECT_ALL(e);
}

/* Everything at once, so that what is refused here is refused for its spelling. */
#define ANY "http://loopback:* http://shop:* http://0.0.0.0/0:* http://[::]/0:* https://shop:*"

static void test_spellings(void **state)
{
	static const char *const bad[] = {
	    /* the HTTP client would take these for 127.0.0.1 */
	    "http://2130706433/",
	    "http://0x7f000001/",
	    "http://0X7F.1/",
	    "http://0x7f.0.0.1/",
	    "http://127.1/",
	    "http://127.0.1/",
	    "http://0177.0.0.1/",
	    "http://017700000001/",
	    "http://127.0.0.01/",
	    "http://127.0.0.256/",
	    "http://127.0.0.0x1/",
	    "http://127.0.0.0x/",
	    "http://127.0.0.1.1/",
	    "http://1.2.3.4.5/",
	    "http://0/",
	    "http://shop.1/",
	    "http://127.0.0.1./",
	    "http://localhost./",
	    "http://shop./",
	    "http://shop../",
	    "http://.shop/",
	    "http://./",
	    "http://a..b/",
	    "http://[::ffff:127.0.0.1]/",
	    "http://[::FFFF:7f00:1]/",
	    "http://[0:0:0:0:0:ffff:7f00:0001]/",
	    "http://[::ffff:203.0.113.9]:80/",
	    "http://[fe80::1%25eth0]/",
	    "http://[fe80::1%eth0]/",
	    "http://[v1.fe80::a]/",
	    "http://[127.0.0.1]/",
	    "http://[shop]/",
	    "http://[::1/",
	    "http://::1/",
	    "http://[]/",
	    "http://[::1]x/",
	    "http://[::1].shop/",
	    "http://[::1][::1]/",
	    "http://[::1]]/",
	    "http://[[::1]]/",
	    "http://%31%32%37.0.0.1/",
	    "http://sh%6fp/",
	    "http://shop%00/",
	    "http://sh,op/",
	    "http://sh*p/",
	    "http://*/",
	    "http://shop;x/",
	    "http://shop$/",
	};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		if (check(ANY, bad[i]) != ERR_INVALID)
			fail_msg("not refused: %s", bad[i]);
	}
}

static void test_parts(void **state)
{
	static const char *const bad[] = {
	    "",
	    "shop",
	    "//shop/",
	    "ftp://shop/",
	    "file:///etc/passwd",
	    "httpx://shop/",
	    "http:shop",
	    "http:/shop",
	    "http:///shop",
	    "http:////shop",
	    "http://",
	    "https://",
	    "http://:80/",
	    "http://?",
	    "http://#",
	    "http://@shop/",
	    "http://user@shop/",
	    "http://user:secret@shop/",
	    "http://shop:80@203.0.113.9/",
	    "http://shop:@203.0.113.9/",
	    "http://[::1]@203.0.113.9/",
	    "http://[::1]:80@203.0.113.9/",
	    "http://203.0.113.9#@shop/",
	    "http://203.0.113.9?@shop/",
	    "http://203.0.113.9\\@shop/",
	    "http://shop\\.example/",
	    "http:\\\\shop\\",
	    "http://shop/#",
	    "http://shop/a#b",
	    "http://shop#b",
	    "http://shop/?",
	    "http://shop/a?b=c",
	    "http://shop?b=c",
	    "http://shop/a b",
	    "http://shop/a\tb",
	    "http://shop/a\r\nX: y",
	    " http://shop/",
	    "http://shop/\n",
	    "http://shop/\x7f",
	    "http://shop/\x01",
	    "http://sh\xc3\xb6p/",
	    "http://shop/\xff",
	    "http://shop/<x>",
	    "http://shop/\"",
	    "http://shop/{op}",
	    "http://shop/a|b",
	    "http://shop/`",
	    "http://shop/^",
	};
	struct address_list *l = rules_new(ANY);

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		if (check_in(l, bad[i], strlen(bad[i])) != ERR_INVALID)
			fail_msg("not refused: %s", bad[i]);
	}
	assert_int_equal(check_in(l, "http://shop/\0", 13), ERR_INVALID);
	assert_int_equal(check_in(l, "http://sh\0op/", 13), ERR_INVALID);
	address_list_free(l);
}

static void test_lengths(void **state)
{
	char url[ADDRESS_MAX + 2] = "http://shop/";
	char rule[300] = "http://", name[300] = "http://";

	(void)state;
	memset(url + strlen(url), 'a', sizeof url - 1 - strlen(url));
	url[ADDRESS_MAX] = '\0';
	assert_int_equal(check(ANY, url), 0);
	url[ADDRESS_MAX] = 'a';
	assert_int_equal(check(ANY, url), ERR_INVALID);

	memset(rule + 7, 'a', 253);
	assert_int_equal(check(rule, rule), 0);
	memset(name + 7, 'a', 254);
	assert_int_equal(check(rule, name), ERR_INVALID);
	name[7 + 252] = '\0';
	assert_int_equal(check(rule, name), ERR_DENIED);
}

static void test_wrong_rules(void **state)
{
	static const char *const bad[] = {
	    "shop",
	    "*",
	    "http://",
	    "http://*",
	    "http://*.example",
	    "http://shop/",
	    "http://shop/path",
	    "http://shop/8",
	    "http://shop:",
	    "http://shop:0",
	    "http://shop:65536",
	    "http://shop:**",
	    "http://shop:80/8",
	    "http://shop?x",
	    "http://shop#x",
	    "http://user@shop",
	    "http://user:x@shop",
	    "http://shop.",
	    "http://loopback/8",
	    "http://127.1",
	    "http://2130706433",
	    "http://10.0.0.0/",
	    "http://10.0.0.0/33",
	    "http://10.0.0.0/-1",
	    "http://10.0.0.0/8x",
	    "http://10.0.0.0/0008",
	    "http://10.0.0.0/255.0.0.0",
	    "http://10.0.0.0/8:",
	    "http://10.0.0.0/8:99999",
	    "http://10.0.0.0/8/8",
	    "http://10.0.0.0:80/8",
	    "http://10.0.0/8",
	    "http://[fd00::]/129",
	    "http://[fd00::",
	    "http://[fd00::]8",
	    "http://fd00::1",
	    "http://[::ffff:10.0.0.0]/104",
	    "http://shop\\",
	    "http://sh\xc3\xb6p",
	};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct address_list *l = NULL;
		char rules[128], why[160] = "";

		(void)snprintf(rules, sizeof rules, "http://good, %s", bad[i]);
		if (address_list_new(rules, &l, why, sizeof why) != ERR_INVALID)
			fail_msg("rule not refused: %s", bad[i]);
		assert_null(l);
		/* It names the rule, not all of them. */
		assert_non_null(strstr(why, bad[i]));
		assert_null(strstr(why, "good"));
	}
}

static void test_rule_count(void **state)
{
	struct buf rules = BUF_INIT;
	struct address_list *l;
	char why[160];

	(void)state;
	for (int i = 0; i < 64; i++)
		buf_printf(&rules, "http://h%d,", i);
	assert_int_equal(check(rules.data, "http://h63/"), 0);
	buf_puts(&rules, "http://h64");
	assert_int_equal(address_list_new(rules.data, &l, why, sizeof why), ERR_INVALID);
	assert_non_null(strstr(why, "64 rules"));
	buf_release(&rules);
}

static void test_denial_names_the_address(void **state)
{
	struct address_list *l = rules_new("http://shop");
	const char *url = "https://10.1.2.3/secret/path";
	char why[160];

	(void)state;
	assert_int_equal(address_check(l, url, strlen(url), why, sizeof why), ERR_DENIED);
	assert_non_null(strstr(why, "https://10.1.2.3:443"));
	assert_null(strstr(why, "secret"));
	address_list_free(l);
	address_list_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_names),      cmocka_unit_test(test_ports),
	    cmocka_unit_test(test_networks),   cmocka_unit_test(test_loopback),
	    cmocka_unit_test(test_spellings),  cmocka_unit_test(test_parts),
	    cmocka_unit_test(test_lengths),    cmocka_unit_test(test_wrong_rules),
	    cmocka_unit_test(test_rule_count), cmocka_unit_test(test_denial_names_the_address),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
