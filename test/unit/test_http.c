/*
 * test_http.c - the loop, the HTTP server and the HTTP client against each other and against
 * raw sockets that misbehave.
 */
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

#include "base/buf.h"
#include "base/clock.h"
#include "io/http_client.h"
#include "io/http_server.h"
#include "io/listen.h"
#include "loop_test.h"

#define BODY_MAX 4096
#define HELD_MAX 64

struct world {
	struct loop *loop;
	struct http_server *server;
	struct http_client *client;
	struct loop_timer *timer;
	char url[64];
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

static void reply_text(struct http_request *rq, int status, const char *text)
{
	http_request_reply(rq, status, "text/plain", text, strlen(text), NULL, 0);
}

static void world_release(void *ctx)
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
	if (http_request_too_large(rq)) {
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

static void world_server(struct world *w, const char *host, uint16_t port)
{
	struct http_server_config config = {
	    .host = host,
	    .port = port,
	    .connection_max = 200,
	    .body_max = BODY_MAX,
	    .idle_timeout_s = 30,
	    .handler = world_handle,
	    .ctx = w,
	};

	assert_int_equal(http_server_new(w->loop, &config, &w->server), 0);
	assert_int_not_equal(http_server_port(w->server), 0);
	snprintf(w->url, sizeof(w->url), "http://%s:%u", strchr(host, ':') != NULL ? "[::1]" : host,
	         http_server_port(w->server));
}

static int setup(void **state)
{
	struct http_client_config config = {.concurrency = 4, .queue_max = 64, .peer_max = 4};
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->loop = loop_new();
	assert_non_null(w->loop);
	w->timer = loop_timer_new(w->loop, world_release, w);
	assert_non_null(w->timer);
	world_server(w, "127.0.0.1", 0);
	assert_int_equal(http_client_new(w->loop, &config, &w->client), 0);
	*state = w;
	return 0;
}

static int teardown(void **state)
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

struct tag {
	struct world *w;
	char letter;
	struct http_call *call;
	struct tag *cancels; /* from inside the callback */
};

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

static void call_to(struct tag *tag, const char *base, const char *path, const char *body,
                    bool urgent, int timeout_ms)
{
	static const char *const header[] = {"Content-Type: text/plain", "Assent-Gid: g1"};
	char url[512];
	struct http_call_spec spec = {
	    .url = url,
	    .header = header,
	    .n_header = 2,
	    .body = body,
	    .len = body != NULL ? strlen(body) : 0,
	    .timeout_us = (int64_t)timeout_ms * 1000,
	    .urgent = urgent,
	    .fn = result_keep,
	    .ctx = tag,
	};
	unsigned before = tag->w->n_result;

	snprintf(url, sizeof(url), "%s%s", base, path);
	tag->call = http_client_call(tag->w->client, &spec);
	assert_non_null(tag->call);
	assert_int_equal(tag->w->n_result, before);
}

static void call(struct tag *tag, const char *path, const char *body)
{
	call_to(tag, tag->w->url, path, body, false, 5000);
}

static bool idle(void *ctx)
{
	struct http_client_stats stats;

	http_client_stats(((struct world *)ctx)->client, &stats);
	return stats.n_active == 0 && stats.n_queued == 0;
}

/* --- raw sockets --- */

struct raw {
	struct world *w;
	int fd;
	struct loop_fd *watch;
	struct buf in;
	unsigned closed;
};

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

static void raw_open(struct raw *r, struct world *w, const char *text)
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

static void raw_close(struct raw *r)
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

static bool raw_has(void *ctx)
{
	struct raw_wait *w = ctx;
	const char *at = w->r->in.data;
	unsigned n = 0;

	while (at != NULL && (at = strstr(at, w->text)) != NULL) {
		at += strlen(w->text);
		n++;
	}
	return n >= w->n;
}

static void raw_until(struct raw *r, const char *text, unsigned n)
{
	struct raw_wait w = {r, text, n};

	loop_until(r->w->loop, raw_has, &w);
}

/* A server that answers each connection with fixed bytes and closes, or resets, it. */
struct rogue {
	struct world *w;
	int listener;
	int fd;
	struct loop_fd *accepting;
	struct loop_fd *reading;
	const char *text;
	size_t len;
	size_t pad; /* this many bytes more */
	bool reset;
	char url[64];
};

static void rogue_readable(void *ctx, int events)
{
	struct rogue *g = ctx;
	struct linger hard = {1, 0};
	char data[4096];
	ssize_t n = read(g->fd, data, sizeof(data));

	(void)events;
	(void)n;
	if (g->len > 0)
		assert_int_equal(write(g->fd, g->text, g->len), g->len);
	memset(data, 'x', sizeof(data));
	for (size_t left = g->pad; left > 0;) {
		ssize_t put = write(g->fd, data, left < sizeof(data) ? left : sizeof(data));

		if (put <= 0)
			break;
		left -= (size_t)put;
	}
	if (g->reset)
		setsockopt(g->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	loop_fd_free(g->reading);
	close(g->fd);
	g->fd = -1;
}

static void rogue_accept(void *ctx, int events)
{
	struct rogue *g = ctx;

	(void)events;
	g->fd = accept(g->listener, NULL, NULL);
	assert_true(g->fd >= 0);
	g->reading = loop_fd_new(g->w->loop, g->fd, rogue_readable, g);
	assert_non_null(g->reading);
	assert_int_equal(loop_fd_watch(g->reading, LOOP_READ), 0);
}

static void rogue_open(struct rogue *g, struct world *w, const char *text)
{
	uint16_t port;
	bool ipv6;

	*g = (struct rogue){.w = w, .fd = -1, .text = text, .len = strlen(text)};
	assert_int_equal(listen_open("127.0.0.1", 0, &g->listener, &port, &ipv6), 0);
	g->accepting = loop_fd_new(w->loop, g->listener, rogue_accept, g);
	assert_non_null(g->accepting);
	assert_int_equal(loop_fd_watch(g->accepting, LOOP_READ), 0);
	snprintf(g->url, sizeof(g->url), "http://127.0.0.1:%u", port);
}

static void rogue_close(struct rogue *g)
{
	loop_fd_free(g->accepting);
	close(g->listener);
}

/* --- the loop --- */

struct spin {
	struct loop *loop;
	struct loop_timer *timer;
	struct loop_fd *fd;
	int pipe[2];
	unsigned n_timer;
	unsigned n_read;
	unsigned n_hook;
	bool order_wrong;
	int64_t at_us;
	int64_t fired_us;
};

static void spin_timer(void *ctx)
{
	struct spin *s = ctx;

	s->n_timer++;
	loop_timer_set(s->timer, clock_mono_us());
}

static void spin_readable(void *ctx, int events)
{
	struct spin *s = ctx;

	(void)events;
	s->n_read++;
	loop_fd_free(s->fd);
	close(s->pipe[0]);
}

static void test_timer_set_to_now_starves_nobody(void **state)
{
	struct world *w = *state;
	struct spin s = {.loop = w->loop};

	assert_int_equal(pipe(s.pipe), 0);
	s.timer = loop_timer_new(w->loop, spin_timer, &s);
	s.fd = loop_fd_new(w->loop, s.pipe[0], spin_readable, &s);
	assert_int_equal(loop_fd_watch(s.fd, LOOP_READ), 0);
	loop_timer_set(s.timer, 0);
	loop_until_count(w->loop, &s.n_timer, 100);
	assert_int_equal(s.n_read, 0);
	assert_int_equal(write(s.pipe[1], "x", 1), 1);
	loop_until_count(w->loop, &s.n_read, 1);
	loop_timer_free(s.timer);
	close(s.pipe[1]);
}

static void early_timer(void *ctx)
{
	struct spin *s = ctx;

	s->fired_us = clock_mono_us();
	s->n_timer++;
}

static void test_timer_is_never_early(void **state)
{
	struct world *w = *state;
	struct spin s = {.loop = w->loop};

	s.timer = loop_timer_new(w->loop, early_timer, &s);
	for (unsigned i = 1; i <= 10; i++) {
		s.at_us = clock_mono_us() + 700 * (int64_t)i;
		loop_timer_set(s.timer, s.at_us);
		loop_until_count(w->loop, &s.n_timer, i);
		assert_true(s.fired_us >= s.at_us);
		assert_true(s.fired_us < s.at_us + 500000);
	}
	loop_timer_free(s.timer);
}

/* --- the server --- */

static void test_keep_alive(void **state)
{
	struct world *w = *state;
	struct raw r;

	raw_open(&r, w,
	         "GET /a HTTP/1.1\r\nHost: x\r\n\r\nPOST /b HTTP/1.1\r\nHost: x\r\n"
	         "Content-Length: 3\r\n\r\nabcHEAD /c HTTP/1.1\r\nHost: x\r\n\r\n");
	raw_until(&r, "HTTP/1.1 200", 3);
	assert_int_equal(r.closed, 0);
	assert_non_null(strstr(r.in.data, "X-Seen: POST"));
	assert_non_null(strstr(r.in.data, "X-Seen: HEAD"));
	assert_non_null(strstr(r.in.data, "\r\n\r\nabc"));
	assert_string_equal(w->order, "abc");
	raw_close(&r);
}

static void test_late_reply_takes_milliseconds(void **state)
{
	struct world *w = *state;
	struct tag tag = {.w = w};
	int64_t start = clock_mono_us();

	for (unsigned i = 1; i <= 10; i++) {
		call(&tag, "/late", "x");
		loop_until_count(w->loop, &w->n_result, i);
		assert_int_equal(w->result.err, 0);
		assert_string_equal(w->body, "late");
	}
	/* Without MHD_run in the turn of the reply this takes a second or more each. */
	assert_true(clock_mono_us() - start < 1000000);
}

static void test_body_limit(void **state)
{
	struct world *w = *state;
	struct tag tag = {.w = w};
	char *body = calloc(1, BODY_MAX + 2);

	assert_non_null(body);
	memset(body, 'b', BODY_MAX);
	call(&tag, "/a", body);
	loop_until_count(w->loop, &w->n_result, 1);
	assert_int_equal(w->result.status, 200);
	assert_int_equal(w->result.len, BODY_MAX);
	body[BODY_MAX] = 'b';
	call(&tag, "/a", body);
	loop_until_count(w->loop, &w->n_result, 2);
	assert_int_equal(w->result.err, 0);
	assert_int_equal(w->result.status, 413);
	free(body);
}

static void test_chunked_body_limit(void **state)
{
	struct world *w = *state;
	struct buf text = BUF_INIT;
	struct raw r;

	buf_puts(&text, "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
	for (int i = 0; i < 10; i++) {
		buf_puts(&text, "400\r\n");
		memset(buf_extend(&text, 1024), 'c', 1024);
		buf_puts(&text, "\r\n");
	}
	buf_puts(&text, "0\r\n\r\n");
	raw_open(&r, w, text.data);
	raw_until(&r, "HTTP/1.1 413", 1);
	assert_null(strstr(r.in.data, "200"));
	raw_close(&r);
	buf_release(&text);
}

static void test_expect_continue(void **state)
{
	struct world *w = *state;
	struct raw r;

	raw_open(&r, w,
	         "POST /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
	         "Content-Length: 3\r\n\r\n");
	raw_until(&r, "HTTP/1.1 100", 1);
	assert_int_equal(write(r.fd, "abc", 3), 3);
	raw_until(&r, "\r\n\r\nabc", 1);
	raw_close(&r);
	raw_open(&r, w,
	         "POST /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
	         "Content-Length: 999999\r\n\r\n");
	raw_until(&r, "HTTP/1.1 413", 1);
	assert_null(strstr(r.in.data, "HTTP/1.1 100"));
	raw_close(&r);
}

static void test_paths_and_queries(void **state)
{
	struct world *w = *state;
	struct tag tag = {.w = w};

	call(&tag, "/x%41%2Fb%00c%zz%4", NULL);
	loop_until_count(w->loop, &w->n_result, 1);
	assert_string_equal(w->last_path, "/xA/b%00c%zz%4");
	call(&tag, "/query?z=1&q=a%20b%00", NULL);
	loop_until_count(w->loop, &w->n_result, 2);
	assert_string_equal(w->body, "a b%00");
	assert_string_equal(w->unknown, "");
	call(&tag, "/query?q", NULL);
	loop_until_count(w->loop, &w->n_result, 3);
	assert_string_equal(w->body, "");
	call(&tag, "/query?Q=1", NULL);
	loop_until_count(w->loop, &w->n_result, 4);
	assert_string_equal(w->body, "(none)");
	assert_string_equal(w->unknown, "Q");
}

static void test_headers_too_large(void **state)
{
	struct world *w = *state;
	struct buf text = BUF_INIT;
	struct raw r;

	buf_puts(&text, "GET /a HTTP/1.1\r\nHost: x\r\nX-Long: ");
	memset(buf_extend(&text, 100000), 'h', 100000);
	buf_puts(&text, "\r\n\r\n");
	raw_open(&r, w, text.data);
	loop_until_count(w->loop, &r.closed, 1);
	assert_int_equal(w->n_request, 0);
	raw_close(&r);
	buf_release(&text);
}

static void test_port_in_use_and_restart(void **state)
{
	struct world *w = *state;
	struct tag tag = {.w = w};
	uint16_t port = http_server_port(w->server);
	struct http_server_config config = {
	    .host = "127.0.0.1", .port = port, .connection_max = 10};
	struct http_server *second = NULL;

	assert_int_equal(http_server_new(w->loop, &config, &second), ERR_EXISTS);
	config.host = "localhost";
	assert_int_equal(http_server_new(w->loop, &config, &second), ERR_INVALID);
	/* The server closes first, its connections linger, and the port is free anyway. */
	call(&tag, "/a", "x");
	loop_until_count(w->loop, &w->n_result, 1);
	http_server_free(w->server);
	world_server(w, "127.0.0.1", port);
	call(&tag, "/a", "x");
	loop_until_count(w->loop, &w->n_result, 2);
	assert_int_equal(w->result.err, 0);
}

static void test_ipv6(void **state)
{
	struct world *w = *state;
	struct tag tag = {.w = w};

	http_server_free(w->server);
	world_server(w, "[::1]", 0);
	call(&tag, "/a", "six");
	loop_until_count(w->loop, &w->n_result, 1);
	assert_string_equal(w->body, "six");
}

static void test_quiesce(void **state)
{
	struct world *w = *state;
	struct raw r;

	raw_open(&r, w, "GET /holda HTTP/1.1\r\nHost: x\r\n\r\n");
	loop_until_count(w->loop, &w->n_held, 1);
	assert_int_equal(http_server_open(w->server), 1);
	http_server_quiesce(w->server);
	world_release(w);
	assert_int_equal(http_server_open(w->server), 0);
	loop_until_count(w->loop, &r.closed, 1);
	assert_non_null(strstr(r.in.data, "Connection: close"));
	raw_close(&r);
}

static void test_client_leaves_while_suspended(void **state)
{
	struct world *w = *state;
	struct tag tag = {.w = w};
	struct raw r;

	raw_open(&r, w, "GET /holda HTTP/1.1\r\nHost: x\r\n\r\n");
	loop_until_count(w->loop, &w->n_held, 1);
	raw_close(&r);
	world_release(w);
	call(&tag, "/a", "x");
	loop_until_count(w->loop, &w->n_result, 1);
	assert_int_equal(w->result.err, 0);
}

/* --- the client --- */

static void test_call(void **state)
{
	struct world *w = *state;
	struct tag tag = {.w = w};
	int64_t before = clock_wall_us();

	call(&tag, "/a", "payload");
	loop_until_count(w->loop, &w->n_result, 1);
	assert_int_equal(w->result.err, 0);
	assert_int_equal(w->result.status, 200);
	assert_int_equal(w->result.len, 7);
	assert_string_equal(w->body, "payload");
	assert_int_equal(w->result.retry_after_us, 7000000);
	assert_true(w->result.started_us >= before);
	assert_true(w->result.ended_us >= w->result.started_us);
}

static void test_burst(void **state)
{
	struct world *w = *state;
	struct tag tag[64];

	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 64; i++) {
			tag[i] = (struct tag){.w = w};
			call(&tag[i], i % 2 == 0 ? "/late" : "/a", "x");
		}
		loop_until_count(w->loop, &w->n_result, 64U * ((unsigned)round + 1));
		assert_int_equal(w->result.err, 0);
	}
	assert_true(idle(w));
}

static void test_urgent_overtakes(void **state)
{
	struct world *w = *state;
	struct tag tag[8];
	static const char *const path[] = {"/hold1", "/hold2", "/hold3", "/hold4",
	                                   "/hold5", "/holdU", "/holdV"};
	struct http_client_stats stats;

	/* Four places, one of them for urgent calls only. */
	for (int i = 0; i < 7; i++) {
		tag[i] = (struct tag){.w = w};
		call_to(&tag[i], w->url, path[i], "x", i >= 5, 5000);
	}
	loop_until_count(w->loop, &w->n_held, 4);
	http_client_stats(w->client, &stats);
	assert_int_equal(stats.n_active, 4);
	assert_int_equal(stats.n_queued, 3);
	assert_int_equal(stats.n_peer, 1);
	assert_non_null(strchr(w->order, 'U'));
	assert_null(strchr(w->order, '4'));
	/* One answer: its place goes to the second urgent call, though two came before it. */
	reply_text(w->held[0], 200, "x");
	w->held[0] = w->held[3];
	w->n_held = 3;
	loop_until_count(w->loop, &w->n_held, 4);
	assert_int_equal(w->order[4], 'V');
	world_release(w);
	loop_until_count(w->loop, &w->n_held, 2);
	assert_non_null(strchr(w->order, '4'));
	assert_true(strchr(w->order, '4') > strchr(w->order, 'V'));
	world_release(w);
	loop_until_count(w->loop, &w->n_result, 7);
}

static void test_timeout_in_queue_and_under_way(void **state)
{
	struct world *w = *state;
	struct tag tag[4];
	int64_t start = clock_mono_us();

	for (int i = 0; i < 4; i++) {
		tag[i] = (struct tag){.w = w, .letter = (char)('a' + i)};
		call_to(&tag[i], w->url, "/hold", "x", false, i == 3 ? 50 : 5000);
	}
	loop_until_count(w->loop, &w->n_result, 1);
	assert_int_equal(w->ended[0], 'd');
	assert_int_equal(w->result.err, ERR_TIMEOUT);
	assert_int_equal(w->result.started_us, 0);
	assert_int_equal(w->n_held, 3);
	tag[3] = (struct tag){.w = w, .letter = 'e'};
	call_to(&tag[3], w->url, "/hold", "x", true, 50);
	loop_until_count(w->loop, &w->n_result, 2);
	assert_int_equal(w->ended[1], 'e');
	assert_int_equal(w->result.err, ERR_TIMEOUT);
	assert_int_not_equal(w->result.started_us, 0);
	assert_true(clock_mono_us() - start >= 100000);
	assert_true(clock_mono_us() - start < 3000000);
	world_release(w);
	loop_until_count(w->loop, &w->n_result, 5);
	assert_int_equal(w->result.err, 0);
}

static void test_queue_limit_and_bad_urls(void **state)
{
	struct world *w = *state;
	struct tag tag[68], bad = {.w = w, .letter = '!'};
	static const char *const url[] = {"nonsense", "ftp://127.0.0.1/", "http://",
	                                  "file:///etc/passwd"};

	for (int i = 0; i < 67; i++) {
		tag[i] = (struct tag){.w = w, .letter = '.'};
		call(&tag[i], "/a", "x");
	}
	tag[67] = (struct tag){.w = w, .letter = 'L'};
	call(&tag[67], "/a", "x");
	loop_until_count(w->loop, &w->n_result, 1);
	assert_int_equal(w->ended[0], 'L');
	assert_int_equal(w->result.err, ERR_LIMIT);
	loop_until_count(w->loop, &w->n_result, 68);
	for (unsigned i = 0; i < 4; i++) {
		call_to(&bad, url[i], "", "x", false, 5000);
		loop_until_count(w->loop, &w->n_result, 69 + i);
		assert_int_equal(w->result.err, ERR_IO);
	}
}

static void test_cancel(void **state)
{
	struct world *w = *state;
	struct tag a = {.w = w, .letter = 'a'}, b = {.w = w, .letter = 'b'};
	struct tag c = {.w = w, .letter = 'c'}, d = {.w = w, .letter = 'd'};
	struct tag rest[4];

	/* a under way cancels b, also under way; c and d end in one turn, c cancels d. */
	call(&b, "/holdb", "x");
	loop_until_count(w->loop, &w->n_held, 1);
	a.cancels = &b;
	call(&a, "/a", "x");
	loop_until_count(w->loop, &w->n_result, 1);
	assert_null(b.call);
	c.cancels = &d;
	call_to(&c, "nonsense", "", "x", false, 100);
	call_to(&d, "nonsense", "", "x", false, 100);
	loop_until_count(w->loop, &w->n_result, 2);
	world_release(w);
	/* A queued one, and one that was never let start. */
	for (int i = 0; i < 4; i++) {
		rest[i] = (struct tag){.w = w, .letter = 'r'};
		call(&rest[i], "/holdr", "x");
	}
	http_call_cancel(rest[3].call);
	http_call_cancel(rest[0].call);
	loop_until_count(w->loop, &w->n_held, 2);
	world_release(w);
	loop_until_count(w->loop, &w->n_result, 4);
	loop_for_ms(w->loop, 20);
	assert_string_equal(w->ended, "acrr");
	assert_true(idle(w));
}

static void client_free_run(void *ctx, const struct http_result *r)
{
	struct world *w = ctx;

	(void)r;
	http_client_free(w->client);
	w->client = NULL;
	w->n_result++;
}

static void test_free_inside_callback(void **state)
{
	struct world *w = *state;
	struct tag other[8];
	char url[128];
	struct http_call_spec spec = {
	    .url = url, .timeout_us = 5000000, .fn = client_free_run, .ctx = w};

	snprintf(url, sizeof(url), "%s/a", w->url);
	assert_non_null(http_client_call(w->client, &spec));
	for (int i = 0; i < 8; i++) {
		other[i] = (struct tag){.w = w};
		call(&other[i], "/hold", "x");
	}
	loop_until_count(w->loop, &w->n_result, 1);
	loop_for_ms(w->loop, 20);
	assert_int_equal(w->n_result, 1);
}

static void rogue_case(struct world *w, const char *text, size_t pad, bool reset, int err)
{
	struct tag tag = {.w = w};
	struct rogue g;

	rogue_open(&g, w, text);
	g.pad = pad;
	g.reset = reset;
	w->n_result = 0;
	call_to(&tag, g.url, "/x", "body", false, 5000);
	loop_until_count(w->loop, &w->n_result, 1);
	if (w->result.err != err)
		print_error("reply %.40s: got %s\n", text, err_str(w->result.err));
	assert_int_equal(w->result.err, err);
	rogue_close(&g);
}

static void test_rogue_replies(void **state)
{
	struct world *w = *state;

	rogue_case(w, "", 0, false, ERR_RESET);
	rogue_case(w, "", 0, true, ERR_RESET);
	rogue_case(w, "HTTP/1.1 200 OK\r\nContent-Le", 0, true, ERR_RESET);
	rogue_case(w, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", 0, false, ERR_RESET);
	rogue_case(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", 0, false,
	           ERR_RESET);
	rogue_case(w, "garbage, no HTTP at all\r\n\r\n", 0, false, ERR_IO);
	rogue_case(w, "HTTP/1.1 abc\r\n\r\n", 0, false, ERR_IO);
	rogue_case(w, "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n", 0,
	           false, 0);
	assert_int_equal(w->result.status, 302);
	rogue_case(w, "HTTP/1.1 503 Wait\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n", 0, false,
	           0);
	assert_int_equal(w->result.status, 503);
	assert_int_equal(w->result.retry_after_us, 3000000);
}

static void test_oversized_replies(void **state)
{
	struct world *w = *state;

	rogue_case(w, "HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n", HTTP_REPLY_MAX, false, 0);
	assert_false(w->result.truncated);
	assert_int_equal(w->result.len, HTTP_REPLY_MAX);
	rogue_case(w, "HTTP/1.1 409 No\r\nContent-Length: 65537\r\n\r\n", HTTP_REPLY_MAX + 1, false,
	           0);
	assert_true(w->result.truncated);
	assert_int_equal(w->result.status, 409);
	assert_int_equal(w->result.len, HTTP_REPLY_MAX);
}

static void test_unreachable_peers(void **state)
{
	struct world *w = *state;
	struct tag tag = {.w = w};
	char url[64];
	uint16_t port;
	bool ipv6;
	int fd;

	assert_int_equal(listen_open("127.0.0.1", 0, &fd, &port, &ipv6), 0);
	close(fd);
	snprintf(url, sizeof(url), "http://127.0.0.1:%u", port);
	call_to(&tag, url, "/x", NULL, false, 5000);
	loop_until_count(w->loop, &w->n_result, 1);
	assert_int_equal(w->result.err, ERR_REFUSED);
	call_to(&tag, "http://no-such-host.invalid", "/x", NULL, false, 5000);
	loop_until_count(w->loop, &w->n_result, 2);
	assert_int_equal(w->result.err, ERR_RESOLVE);
}

static void test_idle_peers_are_forgotten(void **state)
{
	struct world *w = *state;
	struct http_client_stats stats;
	struct tag tag = {.w = w};
	char url[64];

	for (unsigned i = 0; i < 10; i++) {
		snprintf(url, sizeof(url), "http://127.0.0.%u:1", i + 1);
		call_to(&tag, url, "/x", NULL, false, 5000);
		loop_until_count(w->loop, &w->n_result, i + 1);
		assert_int_equal(w->result.err, ERR_REFUSED);
	}
	http_client_stats(w->client, &stats);
	assert_int_equal(stats.n_peer, 4);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    T(test_timer_set_to_now_starves_nobody),
	    T(test_timer_is_never_early),
	    T(test_keep_alive),
	    T(test_late_reply_takes_milliseconds),
	    T(test_body_limit),
	    T(test_chunked_body_limit),
	    T(test_expect_continue),
	    T(test_paths_and_queries),
	    T(test_headers_too_large),
	    T(test_port_in_use_and_restart),
	    T(test_ipv6),
	    T(test_quiesce),
	    T(test_client_leaves_while_suspended),
	    T(test_call),
	    T(test_burst),
	    T(test_urgent_overtakes),
	    T(test_timeout_in_queue_and_under_way),
	    T(test_queue_limit_and_bad_urls),
	    T(test_cancel),
	    T(test_free_inside_callback),
	    T(test_rogue_replies),
	    T(test_oversized_replies),
	    T(test_unreachable_peers),
	    T(test_idle_peers_are_forgotten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
