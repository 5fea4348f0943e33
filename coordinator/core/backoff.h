/*
 * backoff.h - capped exponential backoff with deterministic jitter.
 *
 * The jitter is a hash of (seed, branch, failures): no random source, so that the simulator
 * replays, and a thousand transactions do not come back in the same millisecond.
 */
#ifndef CORE_BACKOFF_H
#define CORE_BACKOFF_H

#include "core/txn.h"

/* How long to wait after the `failures`th failure in a row (>= 1): between 3/4 of and the whole
 * of min(initial * factor^(failures - 1), cap), but at least retry_after_us (itself bounded by
 * RETRY_AFTER_MAX_US). */
int64_t backoff_us(const struct retry_policy *policy, uint64_t seed, unsigned branch,
                   uint32_t failures, int64_t retry_after_us);

#define RETRY_AFTER_MAX_US (300 * (int64_t)1000000)

#endif /* CORE_BACKOFF_H */
