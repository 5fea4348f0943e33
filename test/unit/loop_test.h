/*
 * loop_test.h - runs a loop until a condition holds, with a deadline.
 */
#ifndef TEST_LOOP_TEST_H
#define TEST_LOOP_TEST_H

#include <stdbool.h>

#include "io/loop.h"

typedef bool loop_cond(void *ctx);

/* Fails the test when the condition does not hold within ten seconds. */
void loop_until(struct loop *l, loop_cond *cond, void *ctx);
/* For the most frequent condition. */
void loop_until_count(struct loop *l, const unsigned *count, unsigned n);
/* Lets the loop turn for a while, for things that must not happen. */
void loop_for_ms(struct loop *l, int ms);

#endif /* TEST_LOOP_TEST_H */
