/*
 * idempotency.h - the header Idempotency-Key, for clients that choose a key rather than a gid
 * (draft-ietf-httpapi-idempotency-key-header).
 */
#ifndef API_IDEMPOTENCY_H
#define API_IDEMPOTENCY_H

#include "api/exchange.h"

#define IDEMPOTENCY_KEY_MAX 128

/* The gid that the header's key stands for, always the same for a caller and a key; "" when there
 * is no header (NULL). `caller` is "" for callers without a name. */
enum problem idempotency_gid(const char *header, const char *caller, char gid[GID_MAX + 1],
                             struct complaint *c) MUSTCHECK;

#endif /* API_IDEMPOTENCY_H */
