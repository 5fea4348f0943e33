/*
 * client.h - what txn.c (a submission's JSON) and client.c (its calls) share.
 */
#ifndef ASSENT_CLIENT_H
#define ASSENT_CLIENT_H

#include "internal.h"

struct assent_txn {
	char gid[129];
	unsigned n_branch;
	struct sdk_text json; /* up to the last branch; "]}" is added when it is sent */
};

#endif /* ASSENT_CLIENT_H */
