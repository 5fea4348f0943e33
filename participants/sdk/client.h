/*
 * client.h - what txn.c (a submission's JSON) and client.c (its calls) share.
 */
#ifndef ASSENT_CLIENT_H
#define ASSENT_CLIENT_H

#include "internal.h"

struct assent_txn {
	char gid[129];
	unsigned n_branch;
	unsigned n_after;     /* of the last branch */
	struct sdk_text json; /* up to the last member of the last branch */
};

/* What is missing at the end of the last branch. */
const char *sdk_txn_close_branch(const struct assent_txn *txn);

#endif /* ASSENT_CLIENT_H */
