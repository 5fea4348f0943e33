/*
 * test_cursor.c - cursors that nobody can make or change, and the times that lists are asked for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h must come after those. */
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "api/cursor.h"
#include "api/list_query.h"
#include "io/digest.h"

static const uint8_t key[32] = "a key of thirty-two bytes, truly";

static void test_round_trip(void **state)
{
	char gid[GID_MAX + 1] = "";

	(void)state;
	for (size_t len = 0; len <= GID_MAX; len++) {
		struct cursor c = {.created_us = INT64_MIN + (int64_t)len, .filters = "1234567"};
		struct cursor back;
		struct buf text = BUF_INIT;

		memcpy(c.gid, gid, sizeof gid);
		cursor_put(&c, key, sizeof key, &text);
		assert_int_equal(cursor_parse(text.data, key, sizeof key, &back), 0);
		assert_int_equal(back.created_us, c.created_us);
		assert_string_equal(back.gid, gid);
		assert_memory_equal(back.filters, c.filters, sizeof c.filters);
		buf_release(&text);
		if (len < GID_MAX)
			gid[len] = (char)('a' + (char)(len % 26));
	}
}

static void refused(const char *text)
{
	struct cursor c;

	if (cursor_parse(text, key, sizeof key, &c) == 0)
		fail_msg("\"%s\" was taken", text);
}

static void test_every_change_is_noticed(void **state)
{
	static const char alphabet[] = "AZaz09-_";
	const struct cursor c = {.created_us = 1767355201250000, .gid = "order-42"};
	struct buf text = BUF_INIT;
	struct cursor back;

	(void)state;
	cursor_put(&c, key, sizeof key, &text);
	for (size_t i = 0; i < text.len; i++) {
		char was = text.data[i];

		for (const char *with = alphabet; *with; with++) {
			text.data[i] = *with;
			if (*with != was)
				refused(text.data);
		}
		text.data[i] = was;
	}
	assert_int_equal(cursor_parse(text.data, key, sizeof key, &back), 0);
	assert_true(cursor_parse(text.data, key, sizeof key - 1, &back) < 0);
	buf_putc(&text, 'A');
	refused(text.data);
	for (size_t len = text.len; len-- > 0;) {
		text.data[len] = '\0';
		if (len != text.len - 1)
			refused(text.data);
	}
	buf_release(&text);
}

static void test_nonsense(void **state)
{
	char text[1000];

	(void)state;
	refused("");
	refused("=");
	refused("null");
	refused("\xff\xff\xff\xff");
	for (size_t len = 1; len < sizeof text; len++) {
		memset(text, 'A', len);
		text[len] = '\0';
		refused(text);
	}
}

static void test_times(void **state)
{
	static const struct {
		const char *text;
		int64_t us; /* -1: refused */
	} row[] = {
	    {"1970-01-01T00:00:00Z", 0},
	    {"2026-01-02T12:00:01Z", 1767355201000000},
	    {"2026-01-02T12:00:01.25Z", 1767355201250000},
	    {"2026-01-02T12:00:01.1234567z", 1767355201123456},
	    {"2026-01-02T14:00:01+02:00", 1767355201000000},
	    {"2026-01-02T14:00:01 02:00", 1767355201000000},
	    {"2026-01-02T06:30:01-05:30", 1767355201000000},
	    {"2024-02-29T00:00:00Z", 1709164800000000},
	    {"2026-02-29T00:00:00Z", -1},
	    {"2026-13-01T00:00:00Z", -1},
	    {"2026-00-01T00:00:00Z", -1},
	    {"2026-01-01T24:00:00Z", -1},
	    {"2026-01-01T00:60:00Z", -1},
	    {"2026-01-01T00:00:00", -1},
	    {"2026-01-01T00:00:00.Z", -1},
	    {"2026-01-01T00:00:00Zx", -1},
	    {"2026-01-01T00:00:00+0200", -1},
	    {"2026-01-01T00:00:00+24:00", -1},
	    {"2026-01-01 00:00:00Z", -1},
	    {"2026-01-01", -1},
	    {"", -1},
	    {"yesterday", -1},
	};

	(void)state;
	for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
		int64_t us = -1;

		if (list_time_parse(row[i].text, &us) != (row[i].us >= 0))
			fail_msg("%s", row[i].text);
		if (row[i].us >= 0)
			assert_int_equal(us, row[i].us);
	}
}

/* RFC 4231 cases 1 and 6, a short key, one of just a block, and nothing at all. */
static void test_hmac(void **state)
{
	static const struct {
		int fill;
		size_t key_len;
		const char *text, *hex;
	} row[] = {
	    {0x0b, 20, "Hi There",
	     "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
	    {0x4a, 4, "what do ya want for nothing?",
	     "20a7aaa49069a56e0ed3c462b949a369c3fac164b9f289bc3b94ad26097bb626"},
	    {0xaa, 131, "Test Using Larger Than Block-Size Key - Hash Key First",
	     "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
	    {0xaa, 64, "", "db2cf93f633fcdfd9bb7f3b99763a63725cb8e38b4fa60a87d0e94b71d8b5970"},
	    {0x0b, 0, "", "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
		uint8_t secret[131], mac[DIGEST_LEN];
		char hex[2 * DIGEST_LEN + 1];

		memset(secret, row[i].fill, sizeof secret);
		digest_hmac_sha256(secret, row[i].key_len, row[i].text, strlen(row[i].text), mac);
		for (size_t k = 0; k < DIGEST_LEN; k++)
			(void)snprintf(hex + 2 * k, 3, "%02x", mac[k]);
		assert_string_equal(hex, row[i].hex);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_round_trip), cmocka_unit_test(test_every_change_is_noticed),
	    cmocka_unit_test(test_nonsense),   cmocka_unit_test(test_times),
	    cmocka_unit_test(test_hmac),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
