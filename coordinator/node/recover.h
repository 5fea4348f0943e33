/*
 * recover.h - loads unfinished transactions that are not parked, in keyset pages, and resumes each.
 *
 * First those that are not decided: locks are held for them, and their deadlines run. Then the
 * others. The oldest go first, and while memory is full the rest waits on the disk until others
 * have ended. Requests are served meanwhile: `done` is called when everything is loaded, or when it
 * takes longer than LOAD_PATIENCE_US, and the loading goes on.
 */
#ifndef NODE_RECOVER_H
#define NODE_RECOVER_H

#include "node/node.h"

/* `done` is called once, with 0 when requests may come, unless recover_stop comes first. A failure
 * after that ends the ownership (node_lost). */
int recover_start(struct node *n, void (*done)(struct node *n, int err)) MUSTCHECK;
void recover_stop(struct node *n);

/* A transaction has left memory. */
void recover_room(struct node *n);

#endif /* NODE_RECOVER_H */
