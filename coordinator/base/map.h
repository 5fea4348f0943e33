/*
 * map.h - intrusive hash map from byte strings to elements (chained, grows by
 * doubling). The key bytes belong to the element and outlive its membership.
 */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct map_node {
	struct map_node *next;
	const char *key;
	size_t key_len;
	uint64_t hash;
};

struct map {
	struct map_node **bucket;
	size_t n_bucket;
	size_t n;
};

/* FNV-1a with a final mix. Stored shard numbers depend on it: it never changes. */
uint64_t hash_bytes(const void *data, size_t len);

int map_init(struct map *m, size_t expected) MUSTCHECK;
/* Does not touch elements still inside. */
void map_release(struct map *m);
struct map_node *map_get(const struct map *m, const char *key, size_t key_len);
/* Sets node->key, key_len, hash. ERR_EXISTS when the key is there; never ERR_NOMEM (when the
 * table cannot grow it stays smaller and slower). */
int map_put(struct map *m, struct map_node *node, const char *key, size_t key_len) MUSTCHECK;
void map_remove(struct map *m, struct map_node *node);
/* Iteration in no order; the returned node may be removed before the next call.
 * Start: *bucket = 0, node = NULL. NULL at the end. */
struct map_node *map_next(const struct map *m, size_t *bucket, struct map_node *node);

#endif /* BASE_MAP_H */
