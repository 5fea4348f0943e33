/*
 * reason.h - what a participant says why: {"reason": "..."} in an answer that is no yes. It is for
 * people, and nothing is decided by it.
 */
#ifndef NODE_REASON_H
#define NODE_REASON_H

#include <stdbool.h>
#include <stddef.h>

/* The reason in `body` as one line, cut where it does not fit into `size` bytes. False, and "",
 * when there is none that can be read. */
bool reason_read(const char *body, size_t len, char *out, size_t size);

#endif /* NODE_REASON_H */
