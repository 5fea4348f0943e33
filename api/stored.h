/*
 * stored.h - reads one transaction from the database, for those that are not in memory.
 */
#ifndef API_STORED_H
#define API_STORED_H

#include "api/view.h"

enum stored_result {
	STORED_FOUND,
	STORED_ABSENT,
	STORED_UNKNOWN, /* the database cannot be asked now */
};

struct stored {
	struct view view;
	uint8_t body_sha256[DIGEST_LEN];
	const char *body; /* as it was submitted */
	size_t body_len;
};

/* `stored` is borrowed for the callback, and only there for STORED_FOUND. */
typedef void stored_fn(void *ctx, enum stored_result result, const struct stored *stored);

/* `done` may be called at once. `gid` is copied. */
void stored_get(struct node *node, const char *gid, stored_fn *done, void *ctx);

/* The same through the session that holds the shards' locks, and without what is known about
 * calls: what is absent there does not exist, and nobody else can be about to make it. The
 * readers' session may see an older state, or outlive the ownership. */
void stored_get_owned(struct node *node, const char *gid, stored_fn *done, void *ctx);

#endif /* API_STORED_H */
