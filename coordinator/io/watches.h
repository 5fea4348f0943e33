/*
 * watches.h - the sockets of the HTTP client in the loop, by descriptor.
 *
 * A connection that is kept stays in the loop between two transfers, until it is closed: to take a
 * descriptor out and in again costs each call several system calls. All others leave at once: curl
 * (7.88) closes those by which its threads wake it, and connections that are still being made, without
 * a word, and a closed descriptor in the loop is the end of the process (libuv aborts).
 */
#ifndef IO_WATCHES_H
#define IO_WATCHES_H

#include <stddef.h>

#include "base/err.h"
#include "io/loop.h"

struct watch;

/* LOOP_READ and LOOP_WRITE that have come; only while somebody watches. */
typedef void watches_fn(void *ctx, int fd, int events);

struct watches {
	struct loop *loop;
	struct watch **watch; /* by descriptor; NULL: none */
	size_t n;
	watches_fn *fn;
	void *ctx;
};

void watches_init(struct watches *ws, struct loop *l, watches_fn *fn, void *ctx);
void watches_release(struct watches *ws);

/* socket(2), for a connection; -1 when there is none. */
int watches_open(struct watches *ws, int family, int type, int protocol) MUSTCHECK;
/* The connection is made: it will be closed by watches_close and in no other way. */
void watches_keep(struct watches *ws, int fd);
/* close(2) */
int watches_close(struct watches *ws, int fd);
/* What is waited for from now on; 0: nobody waits for it. */
int watches_set(struct watches *ws, int fd, int events) MUSTCHECK;

#endif /* IO_WATCHES_H */
