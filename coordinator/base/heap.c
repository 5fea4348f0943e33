#include "base/heap.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>

#define CAP_MIN 16

void heap_init(struct heap *h)
{
	*h = (struct heap){0};
}

void heap_release(struct heap *h)
{
	free(h->node);
	heap_init(h);
}

int heap_reserve(struct heap *h, size_t n)
{
	size_t cap = h->cap ? h->cap : CAP_MIN;
	struct heap_node **node;

	if (n <= h->cap)
		return 0;
	while (cap < n) {
		if (cap > SIZE_MAX / sizeof *node / 2)
			return ERR_NOMEM;
		cap *= 2;
	}
	node = realloc(h->node, cap * sizeof *node);
	if (!node)
		return ERR_NOMEM;
	h->node = node;
	h->cap = cap;
	return 0;
}

static bool before(const struct heap_node *a, const struct heap_node *b)
{
	return a->key != b->key ? a->key < b->key : a->seq < b->seq;
}

static void place(struct heap *h, struct heap_node *node, size_t i)
{
	h->node[i] = node;
	node->pos = i + 1;
}

static void sift_up(struct heap *h, struct heap_node *node, size_t i)
{
	while (i > 0 && before(node, h->node[(i - 1) / 2])) {
		place(h, h->node[(i - 1) / 2], i);
		i = (i - 1) / 2;
	}
	place(h, node, i);
}

static void sift_down(struct heap *h, struct heap_node *node, size_t i)
{
	for (;;) {
		size_t child = 2 * i + 1;

		if (child >= h->n)
			break;
		if (child + 1 < h->n && before(h->node[child + 1], h->node[child]))
			child++;
		if (!before(h->node[child], node))
			break;
		place(h, h->node[child], i);
		i = child;
	}
	place(h, node, i);
}

/* `node` belongs at index `i` or somewhere above or below it. */
static void settle(struct heap *h, struct heap_node *node, size_t i)
{
	if (i > 0 && before(node, h->node[(i - 1) / 2]))
		sift_up(h, node, i);
	else
		sift_down(h, node, i);
}

void heap_set(struct heap *h, struct heap_node *node, int64_t key)
{
	size_t i = node->pos;

	node->key = key;
	node->seq = h->seq++;
	if (i) {
		assert(i <= h->n && h->node[i - 1] == node);
		settle(h, node, i - 1);
		return;
	}
	assert(h->n < h->cap);
	sift_up(h, node, h->n++);
}

void heap_remove(struct heap *h, struct heap_node *node)
{
	size_t i = node->pos;
	struct heap_node *last;

	if (!i)
		return;
	assert(i <= h->n && h->node[i - 1] == node);
	last = h->node[--h->n];
	node->pos = 0;
	if (last != node)
		settle(h, last, i - 1);
}

struct heap_node *heap_peek(const struct heap *h)
{
	return h->n ? h->node[0] : NULL;
}
