/*
 * conflict.h - the refusal of a submission whose gid was used with another body.
 */
#ifndef API_CONFLICT_H
#define API_CONFLICT_H

#include "api/exchange.h"

/* `body` is what was submitted before under `gid`; what differs from it in the request's own body
 * is said in the reply, a few places of it at most. */
void reply_conflict(struct exchange *x, const char *gid, const char *body, size_t len);

#endif /* API_CONFLICT_H */
