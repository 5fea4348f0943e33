/*
 * transfer.h - one HTTP exchange; the only user of libcurl.
 *
 * Calling sequence: transfer_new copies the request; transfer_start; (ended); transfer_free, which
 * is safe at any time and drops an exchange that is under way. `ended` is called from the loop,
 * never from inside curl or transfer_start, and may start and free transfers, but must leave
 * the transfers as such alone.
 */
#ifndef IO_TRANSFER_H
#define IO_TRANSFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "io/loop.h"

struct transfers;
struct transfer;

struct transfer_answer {
	int status;     /* this and the next two: when err is 0 */
	bool truncated; /* at body_max */
	int64_t retry_after_us;
	const char *why; /* when err is not 0: static text for people, more exact than err */
};

typedef void transfer_ended_fn(void *owner, int err, const struct transfer_answer *answer);

/* `connection_max` connections are kept, in use or idle. */
int transfers_new(struct loop *l, long connection_max, size_t body_max, transfer_ended_fn *ended,
                  struct transfers **out) MUSTCHECK;
/* Every transfer must have been freed. NULL-safe. */
void transfers_free(struct transfers *ts);

struct transfer_spec {
	void *owner;
	const char *url;           /* copied */
	const char *const *header; /* copied */
	size_t n_header;
	const char *body; /* borrowed until the end */
	size_t len;
};

/* POST. */
struct transfer *transfer_new(struct transfers *ts, const struct transfer_spec *spec) MUSTCHECK;
int transfer_start(struct transfer *t) MUSTCHECK;
/* What one that is under way waits for, should it be given up now; static text. */
const char *transfer_timeout_str(const struct transfer *t);
/* Caller owns the answer's body now (buf_release). */
struct buf transfer_take_body(struct transfer *t);
void transfer_free(struct transfer *t);

#endif /* IO_TRANSFER_H */
