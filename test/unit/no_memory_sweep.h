/*
 * no_memory_sweep.h - every allocation of an operation fails once, then every one from there on.
 * Included by one file of a program.
 *
 * An operation runs from nothing to its own clean-up. Whichever of its allocations failed, it has
 * said so (never anything else), what it took is given back, and the same again works. Libraries
 * allocate through the same malloc: theirs fail as well.
 *
 * Under AddressSanitizer the same allocator stands in front of the sanitizer's, which then looks at
 * every access of the ways out; but not under clang's, which takes no other malloc: CAN_SWEEP is 0.
 */
#ifndef UNIT_NO_MEMORY_SWEEP_H
#define UNIT_NO_MEMORY_SWEEP_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The sanitizer looks for leaks itself, and serves some of libc past us. */
#if defined(__SANITIZE_ADDRESS__)
#define REAL(name)      __interceptor_##name
#define COUNTS_LEAKS(n) false
#else
#define REAL(name)      __libc_##name
#define COUNTS_LEAKS(n) (n)
#endif

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CAN_SWEEP 0
#endif
#endif
#ifndef CAN_SWEEP
#define CAN_SWEEP 1
#endif

#if CAN_SWEEP
static struct {
	long left; /* allocations that still succeed; negative: no failing */
	bool all;  /* once it failed it goes on failing */
	bool reached;
	long live; /* allocated and not yet freed */
} memory = {.left = -1};

void *REAL(malloc)(size_t size);
void *REAL(calloc)(size_t n, size_t size);
void *REAL(realloc)(void *p, size_t size);
void REAL(free)(void *p);

static bool fails_now(void)
{
	if (memory.left < 0 || memory.left-- > 0)
		return false;
	errno = ENOMEM;
	memory.reached = true;
	memory.left = memory.all ? 0 : -1;
	return true;
}

static void *count(void *p)
{
	memory.live += p != NULL;
	return p;
}

/* The headers name their parameters with reserved names only. */
/* NOLINTBEGIN(readability-inconsistent-declaration-parameter-name) */
__attribute__((noinline)) void *malloc(size_t size)
{
	return fails_now() ? NULL : count(REAL(malloc)(size));
}

__attribute__((noinline)) void *calloc(size_t n, size_t size)
{
	return fails_now() ? NULL : count(REAL(calloc)(n, size));
}

__attribute__((noinline)) void *realloc(void *p, size_t size)
{
	void *more = fails_now() ? NULL : REAL(realloc)(p, size);

	if (!p)
		return count(more);
	return more;
}

__attribute__((noinline)) void free(void *p)
{
	memory.live -= p != NULL;
	REAL(free)(p);
}

#if defined(__SANITIZE_ADDRESS__)
/* The sanitizer has these for itself, past malloc. */
char *strdup(const char *s)
{
	return strndup(s, SIZE_MAX);
}

char *strndup(const char *s, size_t n)
{
	size_t len = strnlen(s, n);
	char *copy = malloc(len + 1);

	if (copy) {
		memcpy(copy, s, len);
		copy[len] = '\0';
	}
	return copy;
}
#endif
/* NOLINTEND(readability-inconsistent-declaration-parameter-name) */

/* --- the sweep --- */

/* 0, or true when it ended for want of memory; fails the test for any other end. */
typedef bool operation(void);

static void sweep(operation *run)
{
	long n;

	assert_false(run());
	/* Twice: the first time libraries make what they keep, such as room for their errors. */
	for (int round = 0; round < 4; round++) {
		for (n = 0;; n++) {
			long before = memory.live;
			bool failed;

			memory.all = round % 2;
			memory.reached = false;
			memory.left = n;
			failed = run();
			memory.left = -1;
			if (COUNTS_LEAKS(memory.live != before && round >= 2))
				fail_msg("allocation %ld: %ld are not given back", n,
				         memory.live - before);
			if (!memory.reached) {
				assert_false(failed);
				break;
			}
			assert_false(run());
		}
		assert_true(n > 0);
	}
}

/* What comes now is not part of the operation; called again, it goes on. */
static inline void hold(void)
{
	memory.left = -memory.left - 2;
}

#define SWEEP(name)                            \
	static void sweep_##name(void **state) \
	{                                      \
		(void)state;                   \
		sweep(use_##name);             \
	}
#endif /* CAN_SWEEP */

#endif /* UNIT_NO_MEMORY_SWEEP_H */
