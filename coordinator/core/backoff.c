#include "core/backoff.h"

#include <assert.h>

/* The finisher of splitmix64: neighbouring inputs give unrelated outputs. */
static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

static int64_t whole_us(const struct retry_policy *p, uint32_t failures)
{
	int64_t us = p->initial_us;

	if (p->factor <= 1)
		return us < p->cap_us ? us : p->cap_us;
	while (--failures && us < p->cap_us)
		us = us > p->cap_us / p->factor ? p->cap_us : us * p->factor;
	return us < p->cap_us ? us : p->cap_us;
}

int64_t backoff_us(const struct retry_policy *policy, uint64_t seed, unsigned branch,
                   uint32_t failures, int64_t retry_after_us)
{
	int64_t us;

	assert(failures >= 1);
	us = whole_us(policy, failures);
	us -= (int64_t)(mix(mix(seed ^ branch) ^ failures) % (uint64_t)(us / 4 + 1));
	if (retry_after_us > RETRY_AFTER_MAX_US)
		retry_after_us = RETRY_AFTER_MAX_US;
	return us > retry_after_us ? us : retry_after_us;
}
