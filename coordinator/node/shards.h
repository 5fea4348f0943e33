/*
 * shards.h - ownership: take the locks, raise the epochs, load what is unfinished, serve; and
 * give everything up when the session is gone.
 *
 * The order matters (it is what makes a take-over safe):
 *	1. The lock of every shard, on the session that will write. The session of a former owner
 *	   has died with all its work in progress, or holds the lock still.
 *	2. The epochs raised, durably. From here on nothing a former owner sends can match.
 *	3. Unfinished transactions loaded, page by page; each resumes when its page is there.
 *	4. Requests.
 */
#ifndef NODE_SHARDS_H
#define NODE_SHARDS_H

#include "node/node.h"

/* Callbacks of the writing session; `ctx` is the node. */
void shards_on_up(void *ctx);
void shards_on_down(void *ctx, const char *why);
/* For node->retry. */
void shards_on_timer(void *ctx, int64_t now_us);

/* Forget every transaction, stop the journal. The session is gone or about to go. */
void shards_give_up(struct node *n);

#endif /* NODE_SHARDS_H */
