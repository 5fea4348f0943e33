/*
 * test_http_client.c - the HTTP client against our server and against one that misbehaves.
 */
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
#include "http_world.h"
#include "io/listen.h"
#include "loop_test.h"

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
	bool keep;          /* answers once per connection, and closes it at the next request */
	unsigned n_answer;  /* on this connection */
	char request[4096]; /* the newest */
	char url[64];
};

static void rogue_readable(void *ctx, int events)
{
	struct rogue *g = ctx;
	struct linger hard = {1, 0};
	char data[4096];
	ssize_t n = read(g->fd, g->request, sizeof(g->request) - 1);

	(void)events;
	g->request[n > 0 ? n : 0] = '\0';
	if (g->len > 0 && g->n_answer == 0)
		assert_int_equal(write(g->fd, g->text, g->len), g->len);
	if (g->keep && g->n_answer++ == 0)
		return;
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
	g->n_answer = 0;
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

/* --- the client --- */

static void test_call(void **state)
{
	struct world *w = *state;
	struct tag tag = {.w = w};
	int64_t before = clock_mono_us();

	world_call(&tag, "/a", "payload");
	loop_until_count(w->loop, &w->n_result, 1);
	assert_int_equal(w->result.err, 0);
	assert_int_equal(w->result.status, 200);
	assert_int_equal(w->result.len, 7);
	assert_string_equal(w->body, "payload");
	assert_int_equal(w->result.retry_after_us, 7000000);
	assert_in_range(w->result.started_us, before, w->result.ended_us);
}

static void test_burst(void **state)
{
	struct world *w = *state;
	struct tag tag[64];

	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 64; i++) {
			tag[i] = (struct tag){.w = w};
			world_call(&tag[i], i % 2 == 0 ? "/late" : "/a", "x");
		}
		loop_until_count(w->loop, &w->n_result, 64U * ((unsigned)round + 1));
		assert_int_equal(w->result.err, 0);
	}
	assert_true(world_idle(w));
}

static void test_cancel(void **state)
{
	struct world *w = *state;
	struct tag a = {.w = w, .letter = 'a'}, b = {.w = w, .letter = 'b'};
	struct tag c = {.w = w, .letter = 'c'}, d = {.w = w, .letter = 'd'};
	struct tag rest[4];

	/* a under way cancels b, also under way; c and d end in one turn, c cancels d. */
	world_call(&b, "/holdb", "x");
	loop_until_count(w->loop, &w->n_held, 1);
	a.cancels = &b;
	world_call(&a, "/a", "x");
	loop_until_count(w->loop, &w->n_result, 1);
	assert_null(b.call);
	c.cancels = &d;
	world_call_to(&c, "nonsense", "", "x", false, 100);
	world_call_to(&d, "nonsense", "", "x", false, 100);
	loop_until_count(w->loop, &w->n_result, 2);
	world_release(w);
	/* A queued one, and one that was never let start. */
	for (int i = 0; i < 4; i++) {
		rest[i] = (struct tag){.w = w, .letter = 'r'};
		world_call(&rest[i], "/holdr", "x");
	}
	http_call_cancel(rest[3].call);
	http_call_cancel(rest[0].call);
	loop_until_count(w->loop, &w->n_held, 2);
	world_release(w);
	loop_until_count(w->loop, &w->n_result, 4);
	loop_for_ms(w->loop, 20);
	assert_string_equal(w->ended, "acrr");
	assert_true(world_idle(w));
}

static void client_free_run(void *ctx, const struct http_result *r)
{
	struct world *w = ctx;

	(void)r;
	http_client_free(w->client);
	w->client = NULL;
	w->n_result++;
}

static int nothing_fill(void *ctx, const char *url, struct http_content *out)
{
	(void)ctx;
	(void)url;
	(void)out;
	return 0;
}

static void test_free_inside_callback(void **state)
{
	struct world *w = *state;
	struct tag other[8];
	char url[128];
	struct http_call_spec spec = {.url = url,
	                              .timeout_us = 5000000,
	                              .fill = nothing_fill,
	                              .fn = client_free_run,
	                              .ctx = w};

	snprintf(url, sizeof(url), "%s/a", w->url);
	assert_non_null(http_client_call(w->client, &spec));
	for (int i = 0; i < 8; i++) {
		other[i] = (struct tag){.w = w};
		world_call(&other[i], "/hold", "x");
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
	world_call_to(&tag, g.url, "/x", "body", false, 5000);
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
	rogue_case(w, "HTTP/1.1 200 OK\r\nContent-Le", 0, false, ERR_RESET);
	rogue_case(w, "HTTP/1.1 200 OK\r\n", 0, false, ERR_RESET);
	rogue_case(w, "HTTP/1.1 200 OK\r\nX: ", 70000, false, ERR_RESET);
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

static void count_turn(void *ctx)
{
	++*(unsigned *)ctx;
}

/* Its end is in the loop while nobody uses it, and must not keep that busy. */
static void test_kept_connection_closed_by_peer(void **state)
{
	struct world *w = *state;
	struct tag tag = {.w = w};
	unsigned n_turn = 0, n_over = 0;
	struct loop_hook *turn = loop_hook_new(w->loop, count_turn, &n_turn);
	struct loop_timer *over = loop_timer_new(w->loop, count_turn, &n_over);
	struct rogue g;

	rogue_open(&g, w, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
	for (unsigned i = 1; i <= 3; i++) {
		world_call_to(&tag, g.url, "/x", NULL, false, 5000);
		loop_until_count(w->loop, &w->n_result, i);
		assert_int_equal(w->result.err, 0);
		assert_string_equal(w->body, "{}");
		n_turn = 0;
		loop_timer_set(over, clock_mono_us() + 20000);
		loop_until_count(w->loop, &n_over, i);
		assert_in_range(n_turn, 1, 50);
	}
	loop_timer_free(over);
	loop_hook_free(turn);
	rogue_close(&g);
}

/* curl sends again what went out on a kept connection that was closed before an answer. */
static void test_repeated_request_goes_where_it_was_meant(void **state)
{
	struct world *w = *state;
	struct tag tag = {.w = w};
	struct rogue g;
	char path[16];

	rogue_open(&g, w, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
	g.keep = true;
	for (unsigned i = 1; i <= 6; i++) {
		snprintf(path, sizeof(path), "/path-%u", i);
		world_call_to(&tag, g.url, path, NULL, false, 5000);
		loop_until_count(w->loop, &w->n_result, i);
		assert_int_equal(w->result.err, 0);
		assert_non_null(strstr(g.request, path));
	}
	loop_fd_free(g.reading);
	close(g.fd);
	rogue_close(&g);
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
	world_call_to(&tag, url, "/x", NULL, false, 5000);
	loop_until_count(w->loop, &w->n_result, 1);
	assert_int_equal(w->result.err, ERR_REFUSED);
	world_call_to(&tag, "http://no-such-host.invalid", "/x", NULL, false, 5000);
	loop_until_count(w->loop, &w->n_result, 2);
	assert_int_equal(w->result.err, ERR_RESOLVE);
}

/* Its queue is full, and the next connection is never answered: the deadline comes while curl still
 * connects. Such a socket is closed without a word to us. */
static void test_timeout_while_connecting(void **state)
{
	struct world *w = *state;
	struct tag silent = {.w = w, .letter = 's'}, next = {.w = w, .letter = 'n'};
	struct sockaddr_in address = {.sin_family = AF_INET,
	                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	int filler = socket(AF_INET, SOCK_STREAM, 0);
	char url[64];

	assert_int_equal(bind(listener, (struct sockaddr *)&address, len), 0);
	assert_int_equal(listen(listener, 0), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &len), 0);
	assert_int_equal(connect(filler, (struct sockaddr *)&address, len), 0);
	snprintf(url, sizeof(url), "http://127.0.0.1:%u", ntohs(address.sin_port));
	for (unsigned i = 0; i < 6; i += 2) {
		world_call_to(&silent, url, "/x", NULL, false, 30);
		loop_until_count(w->loop, &w->n_result, i + 1);
		assert_int_equal(w->result.err, ERR_TIMEOUT);
		world_call(&next, "/a", "x");
		loop_until_count(w->loop, &w->n_result, i + 2);
		assert_int_equal(w->result.err, 0);
	}
	close(filler);
	close(listener);
}

static void test_idle_peers_are_forgotten(void **state)
{
	struct world *w = *state;
	struct http_client_stats stats;
	struct tag tag = {.w = w};
	char url[64];

	for (unsigned i = 0; i < 10; i++) {
		snprintf(url, sizeof(url), "http://127.0.0.%u:1", i + 1);
		world_call_to(&tag, url, "/x", NULL, false, 5000);
		loop_until_count(w->loop, &w->n_result, i + 1);
		assert_int_equal(w->result.err, ERR_REFUSED);
	}
	http_client_stats(w->client, &stats);
	assert_int_equal(stats.n_peer, 4);
}
#define T(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    T(test_call),
	    T(test_burst),
	    T(test_cancel),
	    T(test_free_inside_callback),
	    T(test_rogue_replies),
	    T(test_kept_connection_closed_by_peer),
	    T(test_repeated_request_goes_where_it_was_meant),
	    T(test_oversized_replies),
	    T(test_unreachable_peers),
	    T(test_timeout_while_connecting),
	    T(test_idle_peers_are_forgotten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
