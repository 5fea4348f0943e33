/*
 * http_world.c - a loop with an HTTP server and an HTTP client on it, and raw sockets.
 */
#include "http_world.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "loop_test.h"

static void reply_text(struct http_request *rq, int status, const char *text)
{
	http_request_reply(rq, status, "text/plain", text, strlen(text), NULL, 0);
}

void world_release(void *ctx)
{
	struct world *w = ctx;

	for (unsigned i = 0; i < w->n_held; i++)
		reply_text(w->held[i], 200, "late");
	w->n_held = 0;
}

static void world_echo(struct http_request *rq)
{
	struct http_header extra[] = {{"X-Seen", http_request_method(rq)}, {"Retry-After", "7"}};
	size_t len;
	const char *body = http_request_body(rq, &len);

	http_request_reply(rq, 200, "text/plain", body, len, extra, 2);
}

static void world_handle(void *ctx, struct http_request *rq)
{
	struct world *w = ctx;
	const char *path = http_request_path(rq);
	const char *q = http_request_query(rq, "q");
	static const char *const known[] = {"q", "z", NULL};
	const char *unknown = http_request_unknown_query(rq, known);

	snprintf(w->unknown, sizeof(w->unknown), "%s", unknown != NULL ? unknown : "");
	snprintf(w->last_path, sizeof(w->last_path), "%s", path);
	w->order[w->n_request++ % (sizeof(w->order) - 1)] = path[strlen(path) - 1];
	if (http_request_too_large(rq) && strncmp(path, "/hold", 5) != 0) {
		reply_text(rq, 413, "too large");
	} else if (strncmp(path, "/late", 5) == 0) {
		w->held[w->n_held++] = rq;
		loop_timer_set(w->timer, clock_mono_us() + 3000);
	} else if (strncmp(path, "/hold", 5) == 0) {
		assert_true(w->n_held < HELD_MAX);
		w->held[w->n_held++] = rq;
	} else if (strcmp(path, "/query") == 0) {
		reply_text(rq, 200, q != NULL ? q : "(none)");
	} else {
		world_echo(rq);
	}
}

void world_server(struct world *w, const char *host, uint16_t port)
{
	struct http_server_config config = {
	    .host = host,
	    .port = port,
	    .connection_max = w->connection_max,
	    .body_max = BODY_MAX,
	    .bodies_max = HELD_MAX * BODY_MAX,
	    .idle_timeout_s = w->idle_timeout_s,
	    .handler = world_handle,
	    .ctx = w,
	};

	assert_int_equal(http_server_new(w->loop, &config, &w->server), 0);
	assert_int_not_equal(http_server_port(w->server), 0);
	snprintf(w->url, sizeof(w->url), "http://%s:%u", strchr(host, ':') != NULL ? "[::1]" : host,
	         http_server_port(w->server));
}

int world_setup(void **state)
{
	struct http_client_config config = {.concurrency = 4, .queue_max = 64, .peer_max = 4};
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->connection_max = 200;
	w->idle_timeout_s = 30;
	w->loop = loop_new();
	assert_non_null(w->loop);
	w->timer = loop_timer_new(w->loop, world_release, w);
	assert_non_null(w->timer);
	world_server(w, "127.0.0.1", 0);
	assert_int_equal(http_client_new(w->loop, &config, &w->client), 0);
	*state = w;
	return 0;
}

int world_teardown(void **state)
{
	struct world *w = *state;

	world_release(w);
	http_client_free(w->client);
	http_server_free(w->server);
	loop_timer_free(w->timer);
	loop_free(w->loop);
	free(w);
	return 0;
}

/* --- calls --- */

static void result_keep(void *ctx, const struct http_result *r)
{
	struct tag *tag = ctx;
	struct world *w = tag->w;

	w->ended[w->n_result++ % (sizeof(w->ended) - 1)] = tag->letter;
	w->result = *r;
	assert_int_equal(strlen(r->body) <= r->len, 1);
	snprintf(w->body, sizeof(w->body), "%.255s", r->body);
	tag->call = NULL;
	if (tag->cancels != NULL && tag->cancels->call != NULL) {
		http_call_cancel(tag->cancels->call);
		tag->cancels->call = NULL;
	}
}

static int content_fill(void *ctx, const char *url, struct http_content *out)
{
	static const char *const header[] = {"Content-Type: text/plain", "Assent-Gid: g1"};
	const struct tag *tag = ctx;

	assert_non_null(strstr(url, "://"));
	*out = (struct http_content){
	    .header = header,
	    .n_header = 2,
	    .body = tag->text,
	    .len = tag->text != NULL ? strlen(tag->text) : 0,
	};
	return tag->refused;
}

void world_call_to(struct tag *tag, const char *base, const char *path, const char *body,
                   bool urgent, int timeout_ms)
{
	char url[512];
	struct http_call_spec spec = {
	    .url = url,
	    .timeout_us = (int64_t)timeout_ms * 1000,
	    .until_us = tag->until_us,
	    .urgent = urgent,
	    .fill = content_fill,
	    .fn = result_keep,
	    .ctx = tag,
	};
	unsigned before = tag->w->n_result;

	tag->text = body;
	snprintf(url, sizeof(url), "%s%s", base, path);
	tag->call = http_client_call(tag->w->client, &spec);
	assert_non_null(tag->call);
	assert_int_equal(tag->w->n_result, before);
}

void world_call(struct tag *tag, const char *path, const char *body)
{
	world_call_to(tag, tag->w->url, path, body, false, 5000);
}
bool world_idle(void *ctx)
{
	struct http_client_stats stats;

	http_client_stats(((struct world *)ctx)->client, &stats);
	return stats.n_active == 0 && stats.n_queued == 0;
}
/* --- raw sockets --- */

static void raw_readable(void *ctx, int events)
{
	struct raw *r = ctx;
	char data[4096];
	ssize_t n = read(r->fd, data, sizeof(data));

	(void)events;
	if (n > 0) {
		buf_append(&r->in, data, (size_t)n);
		return;
	}
	r->closed = 1;
	assert_int_equal(loop_fd_watch(r->watch, 0), 0);
}

void raw_open(struct raw *r, struct world *w, const char *text)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
	                        .sin_port = htons(http_server_port(w->server)),
	                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	*r = (struct raw){.w = w};
	r->fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(r->fd, (struct sockaddr *)&a, sizeof(a)), 0);
	r->watch = loop_fd_new(w->loop, r->fd, raw_readable, r);
	assert_non_null(r->watch);
	assert_int_equal(loop_fd_watch(r->watch, LOOP_READ), 0);
	assert_int_equal(write(r->fd, text, strlen(text)), strlen(text));
}

void raw_close(struct raw *r)
{
	loop_fd_free(r->watch);
	close(r->fd);
	buf_release(&r->in);
}

struct raw_wait {
	struct raw *r;
	const char *text;
	unsigned n;
};

unsigned raw_count(const struct raw *r, const char *text)
{
	const char *at = r->in.data;
	unsigned n = 0;

	while (at != NULL && (at = strstr(at, text)) != NULL) {
		at += strlen(text);
		n++;
	}
	return n;
}

static bool raw_has(void *ctx)
{
	const struct raw_wait *w = ctx;

	return raw_count(w->r, w->text) >= w->n;
}

void raw_until(struct raw *r, const char *text, unsigned n)
{
	struct raw_wait w = {r, text, n};

	loop_until(r->w->loop, raw_has, &w);
}

/* A server that answers each connection with fixed bytes and closes, or resets, it. */
