/*
 * clock.h - the only reader of time in the coordinator.
 *
 * Monotonic time decides; wall time is for people and for the database.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

int64_t clock_mono_us(void);
/* Microseconds since 1970-01-01 UTC. */
int64_t clock_wall_us(void);

#endif /* BASE_CLOCK_H */
