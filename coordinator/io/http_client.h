/*
 * http_client.h - HTTP out: calls to participants, over transfer.h (libcurl).
 *
 * Calls go through a queue per peer (the peer that the call names, or else scheme, host and port
 * of the URL), so that a slow peer never delays another. Of a peer's `concurrency` places, a quarter (at least one) is kept for
 * urgent calls: second phases overtake first phases, because a first phase may be waiting for
 * a lock that only a second phase frees.
 *
 * Redirects are not followed, proxies from the environment are not used, only http and https.
 * A reply's body is read up to HTTP_REPLY_MAX bytes; beyond that the rest is dropped, the
 * connection closed, and the status counts.
 */
#ifndef IO_HTTP_CLIENT_H
#define IO_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "io/loop.h"

#define HTTP_REPLY_MAX (64 * 1024)

struct http_client;
struct http_call;

struct http_client_config {
	unsigned concurrency; /* calls under way per peer, at least 2 */
	unsigned queue_max;   /* calls waiting per peer, urgent ones and others counted apart; more
	                         get ERR_LIMIT at once, by callback */
	unsigned peer_max;    /* peers known at a time; idle ones are forgotten first */
};

struct http_result {
	int err; /* 0: a whole answer. ERR_TIMEOUT, ERR_REFUSED, ERR_RESOLVE, ERR_RESET, ERR_LIMIT, ERR_IO */
	const char *why;  /* err in words for people, static; NULL when err is 0 */
	int status;       /* HTTP status, when err is 0 */
	const char *body; /* borrowed for the callback; NUL-terminated */
	size_t len;
	bool truncated;         /* the body was longer than HTTP_REPLY_MAX */
	int64_t retry_after_us; /* from Retry-After in seconds or as a date; 0 for none */
	int64_t started_us;     /* monotonic; when it left the queue (0: it never did) */
	int64_t ended_us;       /* monotonic */
};

/* Called exactly once per call, never from inside http_client_call; the call is gone after. */
typedef void http_result_fn(void *ctx, const struct http_result *result);

/* What is sent. */
struct http_content {
	const char *const *header; /* "Name: value", n_header of them; copied */
	size_t n_header;
	const char *body; /* borrowed until the callback or the cancel */
	size_t len;
};

struct http_call_spec {
	const char *url;      /* copied */
	const char *peer;     /* a name without "://": whose queue it takes; NULL: by the URL */
	unsigned concurrency; /* of that peer, from this call on, at least 2; 0: the client's */
	unsigned queue_max;   /* likewise */
	int64_t timeout_us;   /* from now on, waiting in the queue included */
	/* Monotonic; not 0: it may wait until then, timeout_us counts from when it leaves the queue, and
	 * then it is over in any case. */
	int64_t until_us;
	bool urgent;
	/* It leaves the queue, perhaps inside http_client_call: what is to be sent to `url`. What waits
	 * takes no memory for that, and says what is true when it is sent. An error is the call's end
	 * (ERR_TIMEOUT etc. as in the result, or the caller's own). May not call the client. */
	int (*fill)(void *ctx, const char *url, struct http_content *out);
	http_result_fn *fn;
	void *ctx;
};

int http_client_new(struct loop *l, const struct http_client_config *config,
                    struct http_client **out) MUSTCHECK;
/* Calls still under way are cancelled. */
void http_client_free(struct http_client *c);
/* POST. NULL only when out of memory. */
struct http_call *http_client_call(struct http_client *c,
                                   const struct http_call_spec *spec) MUSTCHECK;
/* No callback any more. */
void http_call_cancel(struct http_call *call);

/* How many calls that are not urgent wait in the queue of a peer (a name or a URL, as in the spec),
 * and since when the oldest does (monotonic). */
size_t http_client_waiting(const struct http_client *c, const char *peer, int64_t *since_us);

struct http_client_stats {
	size_t n_peer;
	size_t n_active;
	size_t n_queued;
};
void http_client_stats(const struct http_client *c, struct http_client_stats *out);

#endif /* IO_HTTP_CLIENT_H */
