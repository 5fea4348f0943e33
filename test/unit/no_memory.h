/*
 * no_memory.h - the real out-of-memory paths: the program's own malloc, calloc and realloc in
 * front of the C library's. Included by one file of a program. Not under AddressSanitizer, which
 * has to be the allocator itself; there CAN_FAIL_MALLOC is 0.
 *
 * out_of_memory: every allocation fails. allocations_left: so many succeed, then all fail.
 */
#ifndef UNIT_NO_MEMORY_H
#define UNIT_NO_MEMORY_H

#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__)
#define CAN_FAIL_MALLOC 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CAN_FAIL_MALLOC 0
#endif
#endif
#ifndef CAN_FAIL_MALLOC
#define CAN_FAIL_MALLOC 1
#endif

#if CAN_FAIL_MALLOC
/* The program's own allocator in front of the C library's: out of memory when asked to be. */
static volatile bool out_of_memory;
static volatile long allocations_left = LONG_MAX;

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);

static bool no_memory_now(void)
{
	if (out_of_memory || allocations_left == 0)
		return true;
	if (allocations_left < LONG_MAX)
		allocations_left--;
	return false;
}

/* The header names its parameters with reserved names only. */
/* NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name) */
__attribute__((noinline)) void *malloc(size_t size)
{
	return no_memory_now() ? NULL : __libc_malloc(size);
}

/* NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name) */
__attribute__((noinline)) void *calloc(size_t n, size_t size)
{
	return no_memory_now() ? NULL : __libc_calloc(n, size);
}

/* NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name) */
__attribute__((noinline)) void *realloc(void *p, size_t size)
{
	return no_memory_now() ? NULL : __libc_realloc(p, size);
}
#endif

#endif /* UNIT_NO_MEMORY_H */
