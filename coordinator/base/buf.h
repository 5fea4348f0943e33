/*
 * buf.h - a growing byte buffer, always NUL-terminated behind its length.
 *
 * Calling sequence: buf_init (or BUF_INIT), any number of appends, then one
 * check of `failed`, then use data/len, then buf_release. An append after a
 * failed allocation does nothing, so that a builder checks once, at its end.
 *
 * Not for: binary-safe string views (those are pointer and length).
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
	char *data; /* NULL while empty and never grown */
	size_t len;
	size_t cap;
	bool failed; /* an allocation failed; contents are incomplete */
};

#define BUF_INIT                  \
	{                         \
		NULL, 0, 0, false \
	}

void buf_init(struct buf *b);
void buf_release(struct buf *b);
/* Empty it, keep the memory, forget a failure. */
void buf_reset(struct buf *b);
/* Caller owns the returned bytes (free()); `b` is empty afterwards. NULL when failed or empty. */
char *buf_detach(struct buf *b, size_t *len);

/* Room for `n` bytes in all, so that appends up to there allocate nothing. */
void buf_reserve(struct buf *b, size_t n);
void buf_append(struct buf *b, const void *data, size_t len);
void buf_puts(struct buf *b, const char *s);
void buf_putc(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_put_uint(struct buf *b, uint64_t v); /* decimal */
/* Appends `n` zero bytes and returns where they start; NULL when failed. */
char *buf_extend(struct buf *b, size_t n);

/* Network byte order, for PostgreSQL's binary formats. */
void buf_put_u16be(struct buf *b, uint16_t v);
void buf_put_u32be(struct buf *b, uint32_t v);
void buf_put_u64be(struct buf *b, uint64_t v);

/* A JSON string with its quotes: control characters, quote and backslash escaped; bytes that
 * are not valid UTF-8 become U+FFFD, so that the result is always valid JSON. NULL gives null. */
void buf_put_json_str(struct buf *b, const char *s);
void buf_put_json_strn(struct buf *b, const char *s, size_t len);
/* Microseconds since 1970 as 2026-01-02T03:04:05.000006Z. */
void buf_put_time(struct buf *b, int64_t wall_us);
/* The same with quotes; 0 gives null. */
void buf_put_json_time(struct buf *b, int64_t wall_us);

#endif /* BASE_BUF_H */
