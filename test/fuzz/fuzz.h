/*
 * fuzz.h - what every fuzz_*.c has: one function that takes any bytes and must not be surprised.
 *
 * With libFuzzer (make fuzz) the bytes are made up, guided by coverage; replay.c feeds files, so
 * that every kept input is tried again by make test, with any compiler.
 */
#ifndef FUZZ_FUZZ_H
#define FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* libFuzzer's name for it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline _Noreturn void fuzz_fail(const char *file, int line, const char *what)
{
	(void)fprintf(stderr, "%s:%d: %s\n", file, line, what);
	abort();
}

/* What must hold for every input. */
#define must(cond) ((cond) ? (void)0 : fuzz_fail(__FILE__, __LINE__, #cond))

/* A copy exactly as long as the bytes, so that a sanitizer sees a read beyond them. */
static inline char *fuzz_copy(const void *data, size_t size)
{
	char *copy = malloc(size ? size : 1);

	must(copy);
	if (size)
		memcpy(copy, data, size);
	return copy;
}

/* The same as a string, up to the first NUL. */
static inline char *fuzz_string(const void *data, size_t size)
{
	char *copy = strndup(size ? data : "", size);

	must(copy);
	return copy;
}

#endif /* FUZZ_FUZZ_H */
