/*
 * test_text.c - buffers, arenas and log lines.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h must come after those. */
#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/log.h"
#include "no_memory.h"

static void buf_builds_text(void **state)
{
	struct buf b = BUF_INIT;
	size_t len;
	char *text;

	(void)state;
	assert_null(buf_detach(&b, &len));
	buf_puts(&b, "ab");
	buf_putc(&b, 'c');
	buf_printf(&b, "%d-%s", 42, "x");
	assert_string_equal(b.data, "abc42-x");
	for (int i = 0; i < 1000; i++)
		buf_append(&b, "0123456789", 10);
	assert_int_equal(b.len, 7 + 10000);
	assert_int_equal(strlen(b.data), b.len);
	buf_reset(&b);
	assert_string_equal(b.data, "");
	memcpy(buf_extend(&b, 3), "xyz", 3);
	text = buf_detach(&b, &len);
	assert_int_equal(len, 3);
	assert_string_equal(text, "xyz");
	assert_null(b.data);
	free(text);
	buf_release(&b);
}

static void buf_puts_network_order(void **state)
{
	struct buf b = BUF_INIT;

	(void)state;
	buf_put_u16be(&b, 0x0102);
	buf_put_u32be(&b, 0x03040506);
	buf_put_u64be(&b, 0x0708090a0b0c0d0eu);
	assert_int_equal(b.len, 14);
	for (size_t i = 0; i < b.len; i++)
		assert_int_equal(b.data[i], i + 1);
	buf_release(&b);
}

static void expect_json(const char *in, size_t len, const char *out)
{
	struct buf b = BUF_INIT;

	buf_put_json_strn(&b, in, len);
	assert_string_equal(b.data, out);
	buf_release(&b);
}

#define EXPECT_JSON(in, out) expect_json(in, sizeof(in) - 1, out)

static void buf_quotes_json(void **state)
{
	(void)state;
	EXPECT_JSON("", "\"\"");
	EXPECT_JSON("plain", "\"plain\"");
	EXPECT_JSON("\"\\/\b\f\n\r\t", "\"\\\"\\\\/\\b\\f\\n\\r\\t\"");
	EXPECT_JSON("\0\x01\x1f", "\"\\u0000\\u0001\\u001f\"");
	EXPECT_JSON("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80",
	            "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"");
	/* Cut off, alone, overlong, a surrogate, beyond U+10FFFF. */
	EXPECT_JSON("\xe2\x82", "\"\xef\xbf\xbd\xef\xbf\xbd\"");
	expect_json("\xe2\x82\xac", 2, "\"\xef\xbf\xbd\xef\xbf\xbd\""); /* its rest is not ours */
	EXPECT_JSON("a\x80z", "\"a\xef\xbf\xbdz\"");
	EXPECT_JSON("\xc0\xaf", "\"\xef\xbf\xbd\xef\xbf\xbd\"");
	EXPECT_JSON("\xe0\x80\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
	EXPECT_JSON("\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
	EXPECT_JSON("\xf4\x90\x80\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
	expect_json(NULL, 0, "null");
}

static void expect_time(int64_t wall_us, const char *out)
{
	struct buf b = BUF_INIT;

	buf_put_json_time(&b, wall_us);
	assert_string_equal(b.data, out);
	buf_release(&b);
}

static void buf_writes_times(void **state)
{
	(void)state;
	expect_time(0, "null");
	expect_time(1, "\"1970-01-01T00:00:00.000001Z\"");
	expect_time(-1, "\"1969-12-31T23:59:59.999999Z\"");
	expect_time(1767323045000006, "\"2026-01-02T03:04:05.000006Z\"");
	expect_time(253402300799999999, "\"9999-12-31T23:59:59.999999Z\"");
	expect_time(253402300800000000, "\"10000-01-01T00:00:00.000000Z\"");
	expect_time(-62167219200000000, "\"0000-01-01T00:00:00.000000Z\"");
	expect_time(-62167219200000001, "\"-1-12-31T23:59:59.999999Z\"");
}

/* Four hundred years, day by day: libc knows the calendar too. */
static void buf_writes_every_date(void **state)
{
	(void)state;
	for (int64_t day = -100000; day < 100000; day++) {
		time_t s = day * 86400 + (day & 65535);
		char text[40];
		struct tm tm;

		assert_non_null(gmtime_r(&s, &tm));
		assert_true(strftime(text, sizeof text, "\"%Y-%m-%dT%H:%M:%S.000001Z\"", &tm) > 0);
		expect_time(s * 1000000 + 1, text);
	}
}

static void buf_writes_numbers(void **state)
{
	struct buf b = BUF_INIT;

	(void)state;
	buf_reserve(&b, 100);
	assert_true(b.cap > 100);
	assert_int_equal(b.len, 0);
	buf_put_uint(&b, 0);
	buf_putc(&b, ' ');
	buf_put_uint(&b, 1009);
	buf_putc(&b, ' ');
	buf_put_uint(&b, UINT64_MAX);
	assert_string_equal(b.data, "0 1009 18446744073709551615");
	buf_release(&b);
}

static void buf_survives_no_memory(void **state)
{
	struct buf b = BUF_INIT;

	(void)state;
	buf_puts(&b, "kept");
	assert_null(buf_extend(&b, SIZE_MAX - 8));
	assert_true(b.failed);
	buf_puts(&b, "ignored");
	buf_printf(&b, "%d", 1);
	assert_string_equal(b.data, "kept");
	assert_null(buf_detach(&b, NULL));
	buf_puts(&b, "again");
	assert_false(b.failed);
	assert_string_equal(b.data, "again");
	buf_release(&b);
#if CAN_FAIL_MALLOC
	out_of_memory = true;
	buf_puts(&b, "nothing");
	buf_printf(&b, "%s", "nothing");
	out_of_memory = false;
	assert_true(b.failed);
	assert_null(b.data);
	buf_release(&b);
#endif
}

static void arena_gives_zeroed_aligned_memory(void **state)
{
	struct arena a;
	unsigned char *p[200];
	size_t size[200];

	(void)state;
	arena_init(&a, 0);
	for (size_t i = 0; i < 200; i++) {
		size[i] = i % 17 == 0 ? 5000 : 1 + i * 7 % 300;
		p[i] = arena_alloc(&a, size[i]);
		assert_non_null(p[i]);
		assert_int_equal((uintptr_t)p[i] % _Alignof(max_align_t), 0);
		for (size_t j = 0; j < size[i]; j++)
			assert_int_equal(p[i][j], 0);
		memset(p[i], (int)i + 1, size[i]);
	}
	for (size_t i = 0; i < 200; i++) {
		for (size_t j = 0; j < size[i]; j++)
			assert_int_equal(p[i][j], (unsigned char)(i + 1));
	}
	assert_string_equal(arena_strndup(&a, "abcdef", 3), "abc");
	assert_string_equal(arena_strndup(&a, NULL, 0), "");
	arena_release(&a);
	assert_int_equal(a.used, 0);
}

static void arena_keeps_its_limit(void **state)
{
	struct arena a;

	(void)state;
	arena_init(&a, 1000);
	assert_non_null(arena_alloc(&a, 900));
	assert_null(arena_alloc(&a, 200));
	assert_null(arena_alloc(&a, SIZE_MAX));
	assert_null(arena_strndup(&a, "x", SIZE_MAX));
	assert_non_null(arena_alloc(&a, 10));
	arena_release(&a);
	assert_int_equal(a.limit, 1000);
	assert_non_null(arena_alloc(&a, 900));
#if CAN_FAIL_MALLOC
	a.limit = 0;
	out_of_memory = true;
	assert_null(arena_alloc(&a, 100000));
	out_of_memory = false;
	assert_non_null(arena_alloc(&a, 100000));
#endif
	arena_release(&a);
}

/* What one write to standard error brings: a pipe in packet mode keeps writes apart. */
static void read_log(int fd, char *out, size_t size)
{
	ssize_t n = read(fd, out, size - 1);

	assert_true(n > 0);
	out[n] = '\0';
}

static void log_writes_one_line(void **state)
{
	char huge[6000];
	char got[8192];
	int saved = dup(STDERR_FILENO);
	int fd[2];

	(void)state;
	assert_int_equal(pipe2(fd, O_DIRECT | O_NONBLOCK), 0);
	assert_true(dup2(fd[1], STDERR_FILENO) >= 0);
	log_debug(NULL, "dropped");
	log_info("g-1", "say \"%s\"", "a\nlevel=error\x1b[31m\xff");
	log_set_level(LOG_ERROR);
	log_warn(NULL, "dropped");
	memset(huge, '"', sizeof huge);
	huge[sizeof huge - 1] = '\0';
	log_error(huge, "%s", huge);
	log_error("a b", "%s", "end");
	log_set_level(LOG_INFO);
	assert_true(dup2(saved, STDERR_FILENO) >= 0);

	read_log(fd[0], got, sizeof got);
	assert_memory_equal(got, "ts=20", 5);
	assert_string_equal(strchr(got, ' '), " level=info gid=g-1 msg=\"say "
	                                      "\\\"a\\nlevel=error\\x1b[31m\\xff\\\"\"\n");
	read_log(fd[0], got, sizeof got);
	assert_true(strlen(got) < 3000);
	assert_ptr_equal(strchr(got, '\n'), got + strlen(got) - 1);
	read_log(fd[0], got, sizeof got);
	assert_non_null(strstr(got, " level=error gid=\"a b\" msg=\"end\"\n"));
	assert_true(read(fd[0], got, sizeof got) < 0);
	close(fd[0]);
	close(fd[1]);
	close(saved);
	assert_int_equal(log_level_parse("warn"), LOG_WARN);
	assert_true(log_level_parse("loud") < 0);
}

static void log_writes_objects(void **state)
{
	char huge[6000];
	char got[8192];
	int saved = dup(STDERR_FILENO);
	int fd[2];

	(void)state;
	assert_int_equal(pipe2(fd, O_DIRECT | O_NONBLOCK), 0);
	assert_true(dup2(fd[1], STDERR_FILENO) >= 0);
	memset(huge, '"', sizeof huge);
	huge[sizeof huge - 1] = '\0';
	log_set_format(LOG_JSON);
	log_info("g-1", "%s", "a\"\\\n\x1b\x7f\xc3\xa4\xc2\x9b\xff\xc3");
	log_error(huge, "%s", huge);
	log_set_format(LOG_LOGFMT);
	assert_true(dup2(saved, STDERR_FILENO) >= 0);

	read_log(fd[0], got, sizeof got);
	assert_memory_equal(got, "{\"ts\":\"20", 9);
	assert_string_equal(strchr(got, ','),
	                    ",\"level\":\"info\",\"gid\":\"g-1\",\"msg\":\"a\\u0022\\u005c"
	                    "\\u000a\\u001b\\u007f\xc3\xa4\\u009b\\ufffd\\ufffd\"}\n");
	read_log(fd[0], got, sizeof got);
	assert_true(strlen(got) < 3000);
	assert_non_null(strstr(got, "\\u0022\",\"msg\":\"\"}\n"));
	close(fd[0]);
	close(fd[1]);
	close(saved);
	assert_int_equal(log_format_parse("json"), LOG_JSON);
	assert_true(log_format_parse("xml") < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(buf_builds_text),
	    cmocka_unit_test(buf_puts_network_order),
	    cmocka_unit_test(buf_quotes_json),
	    cmocka_unit_test(buf_writes_times),
	    cmocka_unit_test(buf_writes_every_date),
	    cmocka_unit_test(buf_writes_numbers),
	    cmocka_unit_test(buf_survives_no_memory),
	    cmocka_unit_test(arena_gives_zeroed_aligned_memory),
	    cmocka_unit_test(arena_keeps_its_limit),
	    cmocka_unit_test(log_writes_one_line),
	    cmocka_unit_test(log_writes_objects),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
