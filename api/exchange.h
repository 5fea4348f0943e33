/*
 * exchange.h - one request and its one reply.
 *
 * A handler gets an exchange and owns it: it ends in exactly one exchange_reply or
 * exchange_problem, now or later, which frees it.
 */
#ifndef API_EXCHANGE_H
#define API_EXCHANGE_H

#include "base/buf.h"
#include "io/http_server.h"
#include "node/auth.h"
#include "node/node.h"
#include "node/problem.h"
#include "node/submission.h"

struct exchange {
	struct node *node;
	struct http_request *rq;
	char gid[GID_MAX + 1]; /* what the path names: a gid or a code; "" when it names none */
	char request_id[65];
	struct auth_caller caller;
};

/* NULL when out of memory. */
struct exchange *exchange_new(struct node *node, struct http_request *rq);

/* `body` is released. `location` may be NULL. */
void exchange_reply(struct exchange *x, int status, const char *content_type, struct buf *body,
                    const char *location);
/* The same with headers of its own, at most three. */
void exchange_reply_with(struct exchange *x, int status, const char *content_type, struct buf *body,
                         const struct http_header *header, size_t n_header);
void exchange_json(struct exchange *x, int status, struct buf *body, const char *location);
/* ,"confirmed": what the body shows of the database is so for good. A node that does not hold the
 * shards cannot say that: a commit whose wait for the synchronous standby was cancelled is seen, and
 * may be undone. Behind the commit of a take-over everything is. Asked as late as can be. */
void exchange_put_confirmed(const struct exchange *x, struct buf *body);

void exchange_problem(struct exchange *x, const struct complaint *c);

/* Where in the body a complaint has its reasons, when these are several. */
#define PLACE_MAX 8
struct place {
	char pointer[sizeof((struct complaint *)0)->pointer];
	const char *detail;
};
void exchange_problem_at(struct exchange *x, const struct complaint *c, const struct place *place,
                         size_t n);

/* The same with a complaint made on the spot, about no member in particular. */
void exchange_fail(struct exchange *x, enum problem p, const char *detail);
/* 401: who are you? */
void exchange_unauthorized(struct exchange *x, const char *detail);
/* 405 with the methods that the path takes. */
void exchange_method_not_allowed(struct exchange *x, const char *allow);

/* Prefer: wait=SECONDS, bounded; 0 for none. The header's value may be NULL. */
int64_t prefer_wait_us(const char *prefer);
int64_t exchange_preferred_wait_us(const struct exchange *x);

/* Refusals of a writing request that need no look at its body: too large, not ready, and, with
 * `json`, not declared as JSON. */
enum problem exchange_refuse_early(const struct exchange *x, bool json,
                                   struct complaint *c) MUSTCHECK;

#endif /* API_EXCHANGE_H */
