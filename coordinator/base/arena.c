#include "base/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ALIGN      alignof(max_align_t)
#define BLOCK_MORE 512 /* what a transaction outgrows its first block by is little */

struct arena_block {
	struct arena_block *next;
	size_t at;
	size_t cap;
	alignas(max_align_t) unsigned char data[];
};

/* A transaction of two small branches fits in it. The C library keeps freed pieces of up to 1032
 * bytes at hand; anything larger costs a search. */
#define BLOCK_FIRST (1032 - sizeof(struct arena_block))

void arena_init(struct arena *a, size_t limit)
{
	*a = (struct arena){.limit = limit};
}

void arena_release(struct arena *a)
{
	struct arena_block *b = a->head;

	while (b) {
		struct arena_block *next = b->next;

		free(b);
		b = next;
	}
	arena_init(a, a->limit);
}

/* A block with room for `n` bytes, linked in: at the head, unless it will be full at once and
 * the head still has room for others. */
static struct arena_block *block_for(struct arena *a, size_t n)
{
	size_t usual = a->head ? BLOCK_MORE : BLOCK_FIRST, cap = n > usual / 2 ? n : usual;
	struct arena_block *b = calloc(1, sizeof *b + cap);

	if (!b)
		return NULL;
	b->cap = cap;
	if (a->head && cap == n) {
		b->next = a->head->next;
		a->head->next = b;
	} else {
		b->next = a->head;
		a->head = b;
	}
	return b;
}

void *arena_alloc(struct arena *a, size_t n)
{
	struct arena_block *b = a->head;
	void *p;

	if (n > SIZE_MAX / 2)
		return NULL;
	n = n ? (n + ALIGN - 1) / ALIGN * ALIGN : ALIGN;
	if (a->limit && (a->used > a->limit || n > a->limit - a->used))
		return NULL;
	if (!b || n > b->cap - b->at)
		b = block_for(a, n);
	if (!b)
		return NULL;
	p = b->data + b->at;
	b->at += n;
	a->used += n;
	return p;
}

char *arena_strndup(struct arena *a, const char *s, size_t len)
{
	char *p;

	if (len == SIZE_MAX)
		return NULL;
	p = arena_alloc(a, len + 1);
	if (p && len)
		memcpy(p, s, len);
	return p;
}
