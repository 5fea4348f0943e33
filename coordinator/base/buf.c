#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/utf8.h"

#define CAP_MIN 64

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
	buf_append(b, &c, 1);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	va_list again;
	int n;

	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, ap);
	if (n < 0) {
		b->failed = true;
	} else if (grow(b, (size_t)n)) {
		(void)vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
		b->len += (size_t)n;
	}
	va_end(again);
	va_end(ap);
}

static void put_be(struct buf *b, uint64_t v, unsigned n)
{
	unsigned char bytes[8];

	for (unsigned i = 0; i < n; i++)
		bytes[i] = (unsigned char)(v >> (8 * (n - 1 - i)));
	buf_append(b, bytes, n);
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

void buf_put_json_time(struct buf *b, int64_t wall_us)
{
	int64_t us = wall_us % 1000000;
	time_t s = (time_t)(wall_us / 1000000);
	char text[40];
	struct tm tm;

	if (wall_us == 0) {
		buf_puts(b, "null");
		return;
	}
	if (us < 0) {
		us += 1000000;
		s--;
	}
	if (!gmtime_r(&s, &tm) || strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm) == 0) {
		b->failed = true;
		return;
	}
	buf_printf(b, "\"%s.%06uZ\"", text, (unsigned)us);
}
