/*
 * order.h - which branches wait for which: a bit mask per branch.
 */
#ifndef CORE_ORDER_H
#define CORE_ORDER_H

#include <stdint.h>

#include "base/err.h"

/* From direct predecessors to all of them; bit i stands for branch i, n <= 64. ERR_INVALID when one
 * would have to wait for itself: its bit is set in its own mask then. */
int order_close(uint64_t *after, unsigned n) MUSTCHECK;

#endif /* CORE_ORDER_H */
