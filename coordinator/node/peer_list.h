/*
 * peer_list.h - whom a branch of a three-phase commit can ask when it cannot reach us: the status
 * addresses of the other branches, as the header Assent-Peers has them.
 *
 * A branch that was left out would make the others decide without it, so an address that is not
 * known, or not allowed any more, fails the call instead.
 */
#ifndef NODE_PEER_LIST_H
#define NODE_PEER_LIST_H

#include "base/arena.h"
#include "base/buf.h"
#include "node/submission.h"

#define PEER_LIST_MAX ((size_t)8 * 1024) /* of one header */

struct peer_list {
	const char *text; /* "id=url," per branch */
	size_t *at;       /* where that of branch i begins; one more for the end */
};

/* For the branches in `wanted`, a bit each; the others' entries are empty. ERR_NOMEM, ERR_DENIED. */
int peer_list_build(struct peer_list *l, const struct submission *sub, uint64_t wanted,
                    const struct registry *r, struct arena *arena) MUSTCHECK;
/* All but its own; nothing when there are none. ERR_LIMIT, nothing put. */
int peer_list_put(const struct peer_list *l, unsigned n_branch, unsigned branch,
                  struct buf *out) MUSTCHECK;

/* The length of the longest header that may be sent when `more` (or NULL) is a branch, too. What has
 * no address now counts as nothing. */
size_t peer_list_longest(const struct submission *sub, const struct branch_spec *more,
                         const struct registry *r);

#endif /* NODE_PEER_LIST_H */
