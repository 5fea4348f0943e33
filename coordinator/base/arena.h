/*
 * arena.h - memory that lives and dies with one object.
 *
 * arena_alloc returns zeroed memory aligned for any type, or NULL; there is no
 * single free: arena_release returns everything. One arena belongs to one
 * transaction (or one request), never to two.
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>

#include "base/err.h"

struct arena_block;

struct arena {
	struct arena_block *head;
	size_t used;  /* bytes handed out, for limits and metrics */
	size_t limit; /* arena_alloc fails beyond this many bytes; 0 for none */
};

void arena_init(struct arena *a, size_t limit);
void arena_release(struct arena *a);
void *arena_alloc(struct arena *a, size_t n) MUSTCHECK;
/* Copies with a NUL behind; NULL when out of memory. */
char *arena_strndup(struct arena *a, const char *s, size_t len) MUSTCHECK;

#endif /* BASE_ARENA_H */
