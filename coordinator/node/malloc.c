/*
 * malloc.c - an allocation that fails ends the process, whoever asked for it.
 *
 * What follows a failed allocation is the least proven code of every library. Of the allocations
 * that libcurl 7.88 makes for a handful of calls, failing one at a time, some end in a division by
 * zero or a wild pointer, and more leave calls standing still whose events nobody waits for any
 * longer. A node in that state neither serves nor leaves its shards to another. An end does, and
 * what comes after it is the recovery that every crash point walks.
 *
 * These functions stand in front of the C library's for assentd and for all that is loaded with it.
 * They are in the daemon alone: the rooms are tested, and would be used elsewhere, with allocations
 * that fail and errors that are returned. AddressSanitizer has to be the allocator itself, and
 * ends the process all the same.
 */
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/log.h"

#if defined(__SANITIZE_ADDRESS__)
#define IN_FRONT 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define IN_FRONT 0
#endif
#endif
#ifndef IN_FRONT
#define IN_FRONT 1
#endif

#if IN_FRONT
/* Whatever comes next in the order of loading: an allocator that was preloaded stays in use. */
static void *(*next_malloc)(size_t size);
static void *(*next_calloc)(size_t n, size_t size);
static void *(*next_realloc)(void *p, size_t size);

/* Not by log_line: it may want memory for the time zone, or be what asks for it. */
_Noreturn static void end(size_t size)
{
	bool json = log_get_format() == LOG_JSON;
	char line[160];
	int len = snprintf(line, sizeof line,
	                   "%sout of memory: %zu bytes were refused; ending, to go on from what is "
	                   "stored%s\n",
	                   json ? "{\"level\":\"error\",\"msg\":\"" : "assentd: ", size,
	                   json ? "\"}" : "");

	(void)!write(STDERR_FILENO, line, (size_t)len);
	_exit(EX_OSERR);
}

static void *got(void *p, size_t n, size_t size)
{
	if (!p && n > 0 && size > 0)
		end(n > SIZE_MAX / size ? SIZE_MAX : n * size);
	return p;
}

/* The first call comes before any thread is made. */
static void find_next(void)
{
	next_malloc = __extension__(void *(*)(size_t)) dlsym(RTLD_NEXT, "malloc");
	next_calloc = __extension__(void *(*)(size_t, size_t)) dlsym(RTLD_NEXT, "calloc");
	next_realloc = __extension__(void *(*)(void *, size_t)) dlsym(RTLD_NEXT, "realloc");
}

/* The headers name their parameters with reserved names only. */
/* NOLINTBEGIN(readability-inconsistent-declaration-parameter-name) */
void *malloc(size_t size)
{
	if (!next_realloc)
		find_next();
	return got(next_malloc(size), 1, size);
}

void *calloc(size_t n, size_t size)
{
	if (!next_realloc)
		find_next();
	return got(next_calloc(n, size), n, size);
}

/* To size 0 it frees, and says NULL. */
void *realloc(void *p, size_t size)
{
	if (!next_realloc)
		find_next();
	return got(next_realloc(p, size), 1, size);
}
/* NOLINTEND(readability-inconsistent-declaration-parameter-name) */
#endif
