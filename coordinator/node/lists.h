/*
 * lists.h - the session that lists are read with, and the key of their cursors.
 *
 * A session of its own: a list that takes long delays other lists, and nothing else.
 */
#ifndef NODE_LISTS_H
#define NODE_LISTS_H

#include <stdbool.h>
#include <stdint.h>

#include "io/pg.h"

#define LISTS_KEY_LEN 32
#define LISTS_MAX     32 /* under way or waiting; more are refused */

struct lists {
	struct pg *pg;
	unsigned n_waiting;
	bool has_key;
	uint8_t key[LISTS_KEY_LEN];
};

struct node;

int lists_open(struct node *n) MUSTCHECK;

#endif /* NODE_LISTS_H */
