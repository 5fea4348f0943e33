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
	free(h->place);
	heap_init(h);
}

int heap_reserve(struct heap *h, size_t n)
{
	size_t cap = h->cap ? h->cap : CAP_MIN;
	struct heap_place *more;

	if (n <= h->cap)
		return 0;
	while (cap < n) {
		if (cap > SIZE_MAX / sizeof *more / 2)
			return ERR_NOMEM;
		cap *= 2;
	}
	more = realloc(h->place, cap * sizeof *more);
	if (!more)
		return ERR_NOMEM;
	h->place = more;
	h->cap = cap;
	return 0;
}

static bool before(const struct heap_place *a, const struct heap_place *b)
{
	return a->key != b->key ? a->key < b->key : a->node->seq < b->node->seq;
}

static void put(struct heap *h, struct heap_place what, size_t i)
{
	h->place[i] = what;
	what.node->pos = i + 1;
}

static void sift_up(struct heap *h, struct heap_place what, size_t i)
{
	while (i > 0 && before(&what, &h->place[(i - 1) / 2])) {
		put(h, h->place[(i - 1) / 2], i);
		i = (i - 1) / 2;
	}
	put(h, what, i);
}

static void sift_down(struct heap *h, struct heap_place what, size_t i)
{
	for (;;) {
		size_t child = 2 * i + 1;

		if (child >= h->n)
			break;
		if (child + 1 < h->n && before(&h->place[child + 1], &h->place[child]))
			child++;
		if (!before(&h->place[child], &what))
			break;
		put(h, h->place[child], i);
		i = child;
	}
	put(h, what, i);
}

/* It belongs at index `i` or somewhere above or below it. */
static void settle(struct heap *h, struct heap_place what, size_t i)
{
	if (i > 0 && before(&what, &h->place[(i - 1) / 2]))
		sift_up(h, what, i);
	else
		sift_down(h, what, i);
}

void heap_set(struct heap *h, struct heap_node *node, int64_t key)
{
	struct heap_place what = {.key = key, .node = node};
	size_t i = node->pos;

	node->key = key;
	node->seq = h->seq++;
	if (i) {
		assert(i <= h->n && h->place[i - 1].node == node);
		settle(h, what, i - 1);
		return;
	}
	assert(h->n < h->cap);
	sift_up(h, what, h->n++);
}

void heap_remove(struct heap *h, struct heap_node *node)
{
	size_t i = node->pos;
	struct heap_place last;

	if (!i)
		return;
	assert(i <= h->n && h->place[i - 1].node == node);
	last = h->place[--h->n];
	node->pos = 0;
	if (last.node != node)
		settle(h, last, i - 1);
}

struct heap_node *heap_peek(const struct heap *h)
{
	return h->n ? h->place[0].node : NULL;
}
