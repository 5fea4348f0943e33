/*
 * pg_array.c - PostgreSQL's binary format for one-dimensional arrays.
 *
 * Header: dimensions, has-null flag, element type, length, lower bound; then each element with
 * its length in bytes, -1 for NULL. The length in the header is raised with each element.
 */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/buf.h"
#include "io/pg.h"

#define AT_HAS_NULL 4
#define AT_LENGTH   12
#define HEADER_LEN  20

static uint32_t header_get(const struct buf *b, size_t at)
{
	const unsigned char *p = (const unsigned char *)b->data + at;

	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void header_set(struct buf *b, size_t at, uint32_t v)
{
	for (size_t i = 0; i < 4; i++)
		b->data[at + i] = (char)(unsigned char)(v >> (24 - 8 * i));
}

static void element_begin(struct buf *b, uint32_t len)
{
	if (!b->failed)
		header_set(b, AT_LENGTH, header_get(b, AT_LENGTH) + 1);
	buf_put_u32be(b, len);
}

void pg_array_begin(struct buf *b, enum pg_type element)
{
	assert(b->len == 0);
	buf_put_u32be(b, 1);
	buf_put_u32be(b, 0);
	buf_put_u32be(b, (uint32_t)element);
	buf_put_u32be(b, 0);
	buf_put_u32be(b, 1);
}

void pg_array_add_int2(struct buf *b, int16_t v)
{
	element_begin(b, 2);
	pg_put_int2(b, v);
}

void pg_array_add_int4(struct buf *b, int32_t v)
{
	element_begin(b, 4);
	pg_put_int4(b, v);
}

void pg_array_add_int8(struct buf *b, int64_t v)
{
	element_begin(b, 8);
	pg_put_int8(b, v);
}

void pg_array_add_bytes(struct buf *b, const void *data, size_t len)
{
	assert(len <= INT32_MAX);
	element_begin(b, (uint32_t)len);
	buf_append(b, data, len);
}

void pg_array_add_null(struct buf *b)
{
	if (!b->failed)
		header_set(b, AT_HAS_NULL, 1);
	element_begin(b, UINT32_MAX);
}

void pg_array_end(struct buf *b)
{
	assert(b->failed || b->len >= HEADER_LEN);
}

void pg_put_int2(struct buf *b, int16_t v)
{
	buf_put_u16be(b, (uint16_t)v);
}

void pg_put_int4(struct buf *b, int32_t v)
{
	buf_put_u32be(b, (uint32_t)v);
}

void pg_put_int8(struct buf *b, int64_t v)
{
	buf_put_u64be(b, (uint64_t)v);
}
