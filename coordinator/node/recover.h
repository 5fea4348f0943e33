/*
 * recover.h - loads unfinished transactions in keyset pages and resumes each.
 */
#ifndef NODE_RECOVER_H
#define NODE_RECOVER_H

#include "node/node.h"

/* `done` is called once, with 0 when everything is loaded, unless recover_stop comes first. */
int recover_start(struct node *n, void (*done)(struct node *n, int err)) MUSTCHECK;
void recover_stop(struct node *n);

#endif /* NODE_RECOVER_H */
