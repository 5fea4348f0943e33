/*
 * service.h - what the samples share and what has nothing to do with transactions: options, tables,
 * and the life of a server. What a participant is stands in stock.c, account.c and coupon.c.
 */
#ifndef SAMPLE_SERVICE_H
#define SAMPLE_SERVICE_H

#include "participants/sdk/assent.h"

/* An operation whose work is one statement with the branch's payload as its parameter. The statement
 * returns a row: whether it was done, what to say if not, and the result if there is one. */
struct service_op {
	const char *op;
	const char *sql;
	const char *undo_confirmed; /* instead of `sql`, in a cancel whose confirm had run */
};

struct service {
	const char *name;
	/* For options.listen, .database, .secret_file, .coordinators, .token_file and .peers the command
	 * line has --listen, --database, --secret-file, --coordinator, --token-file and --peers. */
	struct assent_server_options options;
	const char *tables;       /* SQL, run at each start: several may start at once */
	const char *path;         /* of the branch's address */
	struct service_op ops[9]; /* ended by one without a name */
	/* Adds what there is besides, or NULL; returns and fills `err` as assent_server_on does. */
	int (*add)(struct service *service, struct assent_server *server, struct assent_error *err);
	void *ctx; /* add's */
	/* More options, ended by one without a name; NULL: none. Without a value they keep theirs. */
	const struct service_option {
		const char *name;
		const char **value;
	} * more;
};

/* main(): serves until SIGTERM, and returns the exit status. */
int service_main(struct service *service, int argc, char **argv);

#endif /* SAMPLE_SERVICE_H */
