#include "base/map.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define BUCKET_MIN 16

uint64_t hash_bytes(const void *data, size_t len)
{
	const unsigned char *p = data;
	uint64_t h = 0xcbf29ce484222325u;

	for (size_t i = 0; i < len; i++) {
		h ^= p[i];
		h *= 0x100000001b3u;
	}
	/* FNV's low bits are weak and shards are taken from them. */
	h ^= h >> 33;
	h *= 0xff51afd7ed558ccdu;
	h ^= h >> 33;
	h *= 0xc4ceb9fe1a85ec53u;
	h ^= h >> 33;
	return h;
}

int map_init(struct map *m, size_t expected)
{
	size_t n = BUCKET_MIN;

	*m = (struct map){0};
	while (n < expected) {
		if (n > SIZE_MAX / sizeof *m->bucket / 2)
			return ERR_NOMEM;
		n *= 2;
	}
	m->bucket = calloc(n, sizeof *m->bucket);
	if (!m->bucket)
		return ERR_NOMEM;
	m->n_bucket = n;
	return 0;
}

void map_release(struct map *m)
{
	free(m->bucket);
	*m = (struct map){0};
}

static struct map_node **chain(const struct map *m, uint64_t hash)
{
	return &m->bucket[hash & (m->n_bucket - 1)];
}

static struct map_node *find(const struct map *m, const char *key, size_t key_len, uint64_t hash)
{
	for (struct map_node *e = *chain(m, hash); e; e = e->next) {
		if (e->hash == hash && e->key_len == key_len && memcmp(e->key, key, key_len) == 0)
			return e;
	}
	return NULL;
}

struct map_node *map_get(const struct map *m, const char *key, size_t key_len)
{
	return m->n ? find(m, key, key_len, hash_bytes(key, key_len)) : NULL;
}

/* A failure is silent: the chains get longer, which is slower and not wrong. */
static void grow(struct map *m)
{
	struct map old = *m;

	if (m->n < m->n_bucket || m->n_bucket > SIZE_MAX / sizeof *m->bucket / 2)
		return;
	m->bucket = calloc(m->n_bucket * 2, sizeof *m->bucket);
	if (!m->bucket) {
		m->bucket = old.bucket;
		return;
	}
	m->n_bucket *= 2;
	for (size_t i = 0; i < old.n_bucket; i++) {
		struct map_node *e = old.bucket[i];

		while (e) {
			struct map_node *next = e->next;
			struct map_node **to = chain(m, e->hash);

			e->next = *to;
			*to = e;
			e = next;
		}
	}
	free(old.bucket);
}

int map_put(struct map *m, struct map_node *node, const char *key, size_t key_len)
{
	uint64_t hash = hash_bytes(key, key_len);
	struct map_node **to;

	assert(m->bucket && m->n_bucket > 0);
	if (find(m, key, key_len, hash))
		return ERR_EXISTS;
	grow(m);
	node->key = key;
	node->key_len = key_len;
	node->hash = hash;
	to = chain(m, node->hash);
	node->next = *to;
	*to = node;
	m->n++;
	return 0;
}

void map_remove(struct map *m, struct map_node *node)
{
	struct map_node **at = chain(m, node->hash);

	while (*at && *at != node)
		at = &(*at)->next;
	assert(*at == node);
	*at = node->next;
	node->next = NULL;
	m->n--;
}

/* *bucket carries the whole position, because the node handed out before may be removed and even
 * freed by now: the bucket's index in the upper half; in the lower half 0 before the bucket is
 * entered, else one more than the elements still to come. A chain is walked from its end to its
 * start, so that a removal moves none of those. */
struct map_node *map_next(const struct map *m, size_t *bucket, struct map_node *node)
{
	size_t index = *bucket >> 32;
	size_t left = *bucket & UINT32_MAX;

	_Static_assert(sizeof(size_t) == 8, "index and count share one size_t");
	(void)node;
	for (; index < m->n_bucket; index++, left = 0) {
		struct map_node *e = m->bucket[index];

		if (left == 0) {
			for (left = 1; e; e = e->next)
				left++;
			e = m->bucket[index];
		}
		if (--left == 0)
			continue;
		for (size_t skip = left - 1; skip; skip--)
			e = e->next;
		*bucket = index << 32 | left;
		return e;
	}
	*bucket = index << 32;
	return NULL;
}
