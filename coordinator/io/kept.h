/*
 * kept.h - the sockets of connections that are kept between two exchanges, found by their ends.
 *
 * HTTP/1.1 matches answers to requests by nothing but their order. A connection that has something
 * to say before it is asked, because its peer sent an answer too many, a goodbye or more bytes than
 * it had announced, would give that to the next request, perhaps another transaction's vote.
 * curl (7.88) uses such a connection all the same, and does not say which socket it is.
 *
 * Calling sequence, per connection: kept_open when its socket is made; kept_name before the first
 * request and kept_speaks before each other; kept_close when the socket is closed. One that is closed
 * while it is being made is closed without a word: it goes when its number comes again.
 */
#ifndef IO_KEPT_H
#define IO_KEPT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/list.h"
#include "base/map.h"

struct kept_socket;

struct kept {
	struct map named;  /* by ends */
	struct list fresh; /* before their first request */
	struct kept_socket **by_fd;
	size_t n_fd;
};

struct kept_ends {
	const char *from, *to; /* addresses */
	int from_port, to_port;
};

int kept_init(struct kept *k) MUSTCHECK;
void kept_release(struct kept *k);

int kept_open(struct kept *k, int fd) MUSTCHECK;
void kept_close(struct kept *k, int fd);

/* Notes the ends. Its socket; -1 when it is not known. */
int kept_name(struct kept *k, const struct kept_ends *ends);
/* Whether there is something to be read, be it the end; also when the socket is not known. */
bool kept_speaks(const struct kept *k, const struct kept_ends *ends);

#endif /* IO_KEPT_H */
