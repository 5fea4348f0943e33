/*
 * http_server.h - HTTP in; the only user of libmicrohttpd (http_server.c, http_request.c).
 *
 * The handler is called once per request, with the whole body. It replies then, or later from
 * any other callback of the loop: every request is answered exactly once, and is gone after
 * that. A client that leaves early is not noticed before the reply. Handlers run among the
 * loop's hooks: work they leave for another hook needs a kick.
 *
 * An escape in a path or query that is not two hex digits, or is %00, stays as it stands.
 *
 * Limits: connections, body size, idle time, header size (MHD's connection memory).
 */
#ifndef IO_HTTP_SERVER_H
#define IO_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "io/loop.h"

struct http_server;
struct http_request;

typedef void http_handler(void *ctx, struct http_request *rq);

struct http_server_config {
	const char *host; /* numeric IPv4 or IPv6 address */
	uint16_t port;    /* 0 picks a free one */
	unsigned connection_max;
	size_t body_max;
	size_t bodies_max; /* of all requests under way together; small ones come in beyond it */
	unsigned idle_timeout_s; /* for a whole request to come, and for its answer to be taken */
	const char *tls_certificate; /* PEM, with its chain; NULL: plain HTTP */
	const char *tls_key;         /* PEM; both belong to the caller until http_server_free */
	http_handler *handler;
	void *ctx;
};

/* ERR_EXISTS when the port is in use, ERR_INVALID for a bad address, ERR_PARSE when certificate and
 * key are not, or do not belong together, ERR_IO otherwise. */
int http_server_new(struct loop *l, const struct http_server_config *config,
                    struct http_server **out) MUSTCHECK;
uint16_t http_server_port(const struct http_server *s);
/* Stop accepting connections; those that are open are answered with Connection: close. */
void http_server_quiesce(struct http_server *s);
/* Requests that the handler has seen and not yet answered. */
size_t http_server_open(const struct http_server *s);
/* They hold more than half of the connections. */
bool http_server_is_crowded(const struct http_server *s);
/* Every open request must have been answered. */
void http_server_free(struct http_server *s);

const struct http_server *http_request_server(const struct http_request *rq);
const char *http_request_method(const struct http_request *rq);
const char *http_request_path(const struct http_request *rq); /* decoded, without the query */
/* NULL when absent. Names are matched without case. Borrowed until the reply. */
const char *http_request_header(const struct http_request *rq, const char *name);
const char *http_request_query(const struct http_request *rq, const char *name);
/* Every query parameter in turn, until fn returns false. A parameter without a value has "". */
typedef bool http_query_fn(void *ctx, const char *name, const char *value);
void http_request_each_query(const struct http_request *rq, http_query_fn *fn, void *ctx);
/* Any query members that are not in `known` (ends with NULL): the first such name, or NULL. A known
 * name that ends in '.' admits every name that begins so. */
const char *http_request_unknown_query(const struct http_request *rq, const char *const *known);
const char *http_request_body(const struct http_request *rq, size_t *len);
/* The body was larger than body_max and has been dropped. */
bool http_request_too_large(const struct http_request *rq);
/* It was dropped because of that, or because others take bodies_max. */
bool http_request_no_room(const struct http_request *rq);
int64_t http_request_started_us(const struct http_request *rq); /* monotonic */
/* One pointer for the handler's own bookkeeping between request and reply. */
void http_request_set_data(struct http_request *rq, void *data);
void *http_request_data(const struct http_request *rq);

struct http_header {
	const char *name;
	const char *value;
};

/* `body` is copied. `rq` is gone afterwards. Headers are copied. */
void http_request_reply(struct http_request *rq, int status, const char *content_type,
                        const char *body, size_t len, const struct http_header *header,
                        size_t n_header);

#endif /* IO_HTTP_SERVER_H */
