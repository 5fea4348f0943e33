/*
 * http_world.h - a loop with an HTTP server and an HTTP client on it, and raw sockets.
 *
 * The server answers by path: /hold... when world_release is called, /late... after 3 ms, /query
 * with the query's q, everything else with the request's body.
 */
#ifndef TEST_HTTP_WORLD_H
#define TEST_HTTP_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "io/http_client.h"
#include "io/http_server.h"
#include "io/loop.h"

#define BODY_MAX 4096
#define HELD_MAX 64

struct world {
	struct loop *loop;
	struct http_server *server;
	struct http_client *client;
	struct loop_timer *timer;
	char url[64];
	unsigned connection_max;
	unsigned idle_timeout_s;
	/* what the server saw */
	unsigned n_request;
	struct http_request *held[HELD_MAX];
	char order[256]; /* last byte of each path, as requests came */
	unsigned n_held;
	char last_path[256];
	char unknown[16];
	/* what the client got */
	unsigned n_result;
	struct http_result result;
	char body[256];
	char ended[256]; /* the tag of each call, as they ended */
};

/* cmocka's setup and teardown; the state is the world. */
int world_setup(void **state);
int world_teardown(void **state);
void world_server(struct world *w, const char *host, uint16_t port);
/* Answers what is held. */
void world_release(void *ctx);

/* One call and what marks it. */
struct tag {
	int64_t until_us; /* of its call */
	struct world *w;
	char letter;
	struct http_call *call;
	struct tag *cancels; /* from inside the callback */
	const char *text;    /* of its body; lives as long as the call */
	int refused;         /* when it is to be sent; 0: it is */
};

void world_call(struct tag *tag, const char *path, const char *body);
void world_call_to(struct tag *tag, const char *base, const char *path, const char *body,
                   bool urgent, int timeout_ms);
/* No call is queued or under way; `ctx` is the world. */
bool world_idle(void *ctx);

/* A connection to the server by hand. */
struct raw {
	struct world *w;
	int fd;
	struct loop_fd *watch;
	struct buf in;
	unsigned closed;
};

void raw_open(struct raw *r, struct world *w, const char *text);
void raw_close(struct raw *r);
/* How often `text` came. */
unsigned raw_count(const struct raw *r, const char *text);
void raw_until(struct raw *r, const char *text, unsigned n);

#endif /* TEST_HTTP_WORLD_H */
