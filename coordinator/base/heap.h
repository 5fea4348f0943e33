/*
 * heap.h - intrusive binary min-heap of times. Equal keys leave in the order
 * in which they were set, so that runs repeat.
 */
#ifndef BASE_HEAP_H
#define BASE_HEAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct heap_node {
	int64_t key;
	uint64_t seq;
	size_t pos; /* index + 1; 0 while not in the heap */
};

/* The key stands beside its node's address: ordering reads no nodes, which lie all over memory. */
struct heap_place {
	int64_t key;
	struct heap_node *node;
};

struct heap {
	struct heap_place *place;
	size_t n;
	size_t cap;
	uint64_t seq;
};

void heap_init(struct heap *h);
void heap_release(struct heap *h);
/* Makes room for `n` nodes, so that heap_set cannot fail below that. */
int heap_reserve(struct heap *h, size_t n) MUSTCHECK;
/* Insert or move. Room must have been reserved (asserted). */
void heap_set(struct heap *h, struct heap_node *node, int64_t key);
/* No-op when it is not in the heap. */
void heap_remove(struct heap *h, struct heap_node *node);
/* The smallest, or NULL. */
struct heap_node *heap_peek(const struct heap *h);

#endif /* BASE_HEAP_H */
