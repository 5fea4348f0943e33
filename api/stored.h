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
};

/* `stored` is borrowed for the callback, and only there for STORED_FOUND. */
typedef void stored_fn(void *ctx, enum stored_result result, const struct stored *stored);

/* `done` may be called at once. `gid` is copied. */
void stored_get(struct node *node, const char *gid, stored_fn *done, void *ctx);

#endif /* API_STORED_H */
