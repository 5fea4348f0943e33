/*
 * call_head.h - where a call goes, and the lines of its head.
 *
 * Calling sequence: call_url; when the call is sent call_head_build, any number of times with one head,
 * whose memory is used again. The lines live until the next one, or call_head_release.
 */
#ifndef NODE_CALL_HEAD_H
#define NODE_CALL_HEAD_H

#include "base/buf.h"
#include "node/submission.h"

struct gtx;
struct secret_keys;

#define CALL_HEADER_MAX (20 + BRANCH_HEADER_MAX)

/* Each ended by a NUL in `text`; pointers are taken when that no longer grows. */
struct call_head {
	struct buf text;
	size_t at[CALL_HEADER_MAX];
	const char *line[CALL_HEADER_MAX];
	size_t n;
};

/* A name stands for the address it has now. ERR_DENIED when the operator took it away: the call
 * fails and is tried again, as the name may come back. */
int call_url(struct buf *url, const struct gtx *g, const struct branch_spec *b,
             enum txn_op op) MUSTCHECK;

/* Signed when there are `keys`. ERR_NOMEM, or ERR_DENIED or ERR_LIMIT for a peer that cannot be
 * named. */
int call_head_build(struct call_head *h, struct gtx *g, const struct action *act,
                    const struct secret_keys *keys, const char *body, size_t len) MUSTCHECK;
void call_head_release(struct call_head *h);

#endif /* NODE_CALL_HEAD_H */
