/*
 * participant.h - calls a participant as design says in participants/README.md ("The call"), and
 * turns its answer into an event for the core.
 */
#ifndef NODE_PARTICIPANT_H
#define NODE_PARTICIPANT_H

#include "node/gtx.h"

/* Carries out an ACT_CALL. Exactly one reply event follows, never from inside this function,
 * unless participant_cancel comes first. */
void participant_call(struct gtx *g, const struct action *act);

/* The top-level string member `name` of an answer; "" when it is absent, and "?" when it is there
 * but no string that can be read. */
void participant_read_member(const char *body, size_t len, const char *name, char *out,
                             size_t size);

/* Every call of `g` that is under way; their answers no longer matter. */
void participant_cancel(struct gtx *g);

/* Delivers the failures that were found before anything was sent. For the node's turn hook. */
void participant_deliver_failed(struct node *node);

#endif /* NODE_PARTICIPANT_H */
