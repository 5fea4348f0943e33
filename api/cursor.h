/*
 * cursor.h - where a list goes on, as a client carries it: opaque, signed with the cluster's key,
 * and good only with the filters it was made for.
 */
#ifndef API_CURSOR_H
#define API_CURSOR_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "node/submission.h"

#define CURSOR_FILTERS_LEN 8

struct cursor {
	int64_t created_us;
	char gid[GID_MAX + 1];
	uint8_t filters[CURSOR_FILTERS_LEN]; /* of a hash */
};

/* Letters, digits, - and _ only. */
void cursor_put(const struct cursor *c, const uint8_t *key, size_t key_len, struct buf *out);
/* ERR_INVALID for whatever cursor_put did not write with this key. */
int cursor_parse(const char *text, const uint8_t *key, size_t key_len,
                 struct cursor *out) MUSTCHECK;

#endif /* API_CURSOR_H */
