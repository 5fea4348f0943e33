#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

#define CAP_MIN  64
#define DAY_S    86400
#define SECOND   1000000
#define YEAR_MAX 9999

void buf_init(struct buf *b)
{
	*b = (struct buf)BUF_INIT;
}

void buf_release(struct buf *b)
{
	free(b->data);
	buf_init(b);
}

void buf_reset(struct buf *b)
{
	b->len = 0;
	b->failed = false;
	if (b->data)
		b->data[0] = '\0';
}

char *buf_detach(struct buf *b, size_t *len)
{
	char *data = NULL;
	size_t n = 0;

	if (!b->failed && b->len) {
		data = b->data;
		n = b->len;
		b->data = NULL;
	}
	buf_release(b);
	if (len)
		*len = n;
	return data;
}

/* Room for `n` more bytes and a NUL. */
static bool grow(struct buf *b, size_t n)
{
	size_t cap = b->cap ? b->cap : CAP_MIN;
	char *data;

	if (b->failed)
		return false;
	if (n < b->cap && b->len < b->cap - n)
		return true;
	if (n > SIZE_MAX / 4 || b->len > SIZE_MAX / 4) {
		b->failed = true;
		return false;
	}
	while (cap <= b->len + n)
		cap *= 2;
	data = realloc(b->data, cap);
	if (!data) {
		b->failed = true;
		return false;
	}
	b->data = data;
	b->cap = cap;
	return true;
}

void buf_reserve(struct buf *b, size_t n)
{
	if (n > b->len)
		(void)grow(b, n - b->len);
}

char *buf_extend(struct buf *b, size_t n)
{
	char *at;

	if (!grow(b, n))
		return NULL;
	at = b->data + b->len;
	memset(at, 0, n + 1);
	b->len += n;
	return at;
}

void buf_append(struct buf *b, const void *data, size_t len)
{
	if (!grow(b, len))
		return;
	if (len)
		memcpy(b->data + b->len, data, len);
	b->len += len;
	b->data[b->len] = '\0';
}

void buf_puts(struct buf *b, const char *s)
{
	buf_append(b, s, strlen(s));
}

void buf_putc(struct buf *b, char c)
{
	if (!grow(b, 1))
		return;
	b->data[b->len++] = c;
	b->data[b->len] = '\0';
}

/* What fits into the room that is there is written once. */
void buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	va_list again;
	int n;

	if (!grow(b, 1))
		return;
	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(b->data + b->len, b->cap - b->len, fmt, ap);
	if (n < 0) {
		b->failed = true;
	} else if ((size_t)n < b->cap - b->len) {
		b->len += (size_t)n;
	} else if (grow(b, (size_t)n)) {
		(void)vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
		b->len += (size_t)n;
	}
	if (b->failed)
		b->data[b->len] = '\0';
	va_end(again);
	va_end(ap);
}

void buf_put_uint(struct buf *b, uint64_t v)
{
	char text[20];
	size_t at = sizeof text;

	do {
		text[--at] = (char)('0' + v % 10);
		v /= 10;
	} while (v > 0);
	buf_append(b, text + at, sizeof text - at);
}

static void put_be(struct buf *b, uint64_t v, unsigned n)
{
	if (!grow(b, n))
		return;
	for (unsigned i = 0; i < n; i++)
		b->data[b->len + i] = (char)(v >> (8 * (n - 1 - i)));
	b->len += n;
	b->data[b->len] = '\0';
}

void buf_put_u16be(struct buf *b, uint16_t v)
{
	put_be(b, v, 2);
}

void buf_put_u32be(struct buf *b, uint32_t v)
{
	put_be(b, v, 4);
}

void buf_put_u64be(struct buf *b, uint64_t v)
{
	put_be(b, v, 8);
}

static void put_json_char(struct buf *b, const unsigned char *s, size_t n)
{
	static const char short_form[] = "\bb\ff\nn\rr\tt\"\"\\\\";
	const char *f;

	if (n == 0) {
		buf_puts(b, "\xef\xbf\xbd");
		return;
	}
	for (f = short_form; *f && (unsigned char)*f != *s; f += 2)
		;
	if (*f) {
		buf_putc(b, '\\');
		buf_putc(b, f[1]);
	} else if (*s < 0x20 || *s == 0x7f) {
		buf_printf(b, "\\u%04x", *s);
	} else {
		buf_append(b, s, n);
	}
}

static bool plain(unsigned char c)
{
	return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

void buf_put_json_strn(struct buf *b, const char *s, size_t len)
{
	const unsigned char *at = (const unsigned char *)s;
	const unsigned char *end;

	if (!s) {
		buf_puts(b, "null");
		return;
	}
	end = at + len;
	buf_putc(b, '"');
	while (at < end) {
		const unsigned char *run = at;
		size_t n;

		while (at < end && plain(*at))
			at++;
		buf_append(b, run, (size_t)(at - run));
		if (at == end)
			break;
		n = utf8_len(at, (size_t)(end - at));
		put_json_char(b, at, n);
		at += n ? n : 1;
	}
	buf_putc(b, '"');
}

void buf_put_json_str(struct buf *b, const char *s)
{
	buf_put_json_strn(b, s, s ? strlen(s) : 0);
}

/* The proleptic Gregorian calendar, counted from 0000-03-01 in eras of 400 years, whose leap days
 * stand at the ends of its years. */
static void date_of(int64_t day, int64_t *year, unsigned *month, unsigned *mday)
{
	int64_t era, z = day + 719468;
	unsigned of_era, of_year, y, m;

	era = (z >= 0 ? z : z - 146096) / 146097;
	of_era = (unsigned)(z - era * 146097);
	y = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	of_year = of_era - (365 * y + y / 4 - y / 100);
	m = (5 * of_year + 2) / 153;
	*mday = of_year - (153 * m + 2) / 5 + 1;
	*month = m < 10 ? m + 3 : m - 9;
	*year = era * 400 + y + (*month <= 2);
}

/* `n` digits, leading zeros and all, and what follows them. */
static char *put_digits(char *at, unsigned v, unsigned n, char next)
{
	for (unsigned i = n; i > 0; i--, v /= 10)
		at[i - 1] = (char)('0' + v % 10);
	at[n] = next;
	return at + n + 1;
}

void buf_put_time(struct buf *b, int64_t wall_us)
{
	int64_t us = wall_us % SECOND, s = wall_us / SECOND, day, year;
	char text[sizeof "2026-01-02T03:04:05.000006Z"], *at = text;
	unsigned month, mday, second;

	if (us < 0) {
		us += SECOND;
		s--;
	}
	day = s / DAY_S - (s % DAY_S < 0);
	second = (unsigned)(s - day * DAY_S);
	date_of(day, &year, &month, &mday);
	if (year < 0 || year > YEAR_MAX) {
		buf_printf(b, "%lld", (long long)year);
		at[0] = '-';
		at++;
	} else {
		at = put_digits(at, (unsigned)year, 4, '-');
	}
	at = put_digits(at, month, 2, '-');
	at = put_digits(at, mday, 2, 'T');
	at = put_digits(at, second / 3600, 2, ':');
	at = put_digits(at, second / 60 % 60, 2, ':');
	at = put_digits(at, second % 60, 2, '.');
	at = put_digits(at, (unsigned)us, 6, 'Z');
	buf_append(b, text, (size_t)(at - text));
}

void buf_put_json_time(struct buf *b, int64_t wall_us)
{
	if (wall_us == 0) {
		buf_puts(b, "null");
		return;
	}
	buf_putc(b, '"');
	buf_put_time(b, wall_us);
	buf_putc(b, '"');
}
