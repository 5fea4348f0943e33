/*
 * test_http.c - the loop and the HTTP server.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "http_world.h"
#include "loop_test.h"

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
		assert_true(s.fired_us < s.at_us + 5000000);
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
		world_call(&tag, "/late", "x");
		loop_until_count(w->loop, &w->n_result, i);
		assert_int_equal(w->result.err, 0);
		assert_string_equal(w->body, "late");
	}
	/* Without MHD_run in the turn of the reply this takes a second or more each. */
	assert_true(clock_mono_us() - start < 5000000);
}

static void test_body_limit(void **state)
{
	struct world *w = *state;
	struct tag tag = {.w = w};
	char *body = calloc(1, BODY_MAX + 2);

	assert_non_null(body);
	memset(body, 'b', BODY_MAX);
	world_call(&tag, "/a", body);
	loop_until_count(w->loop, &w->n_result, 1);
	assert_int_equal(w->result.status, 200);
	assert_int_equal(w->result.len, BODY_MAX);
	body[BODY_MAX] = 'b';
	world_call(&tag, "/a", body);
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

	world_call(&tag, "/x%41%2Fb%00c%zz%4", NULL);
	loop_until_count(w->loop, &w->n_result, 1);
	assert_string_equal(w->last_path, "/xA/b%00c%zz%4");
	world_call(&tag, "/query?z=1&q=a%20b%00", NULL);
	loop_until_count(w->loop, &w->n_result, 2);
	assert_string_equal(w->body, "a b%00");
	assert_string_equal(w->unknown, "");
	world_call(&tag, "/query?q", NULL);
	loop_until_count(w->loop, &w->n_result, 3);
	assert_string_equal(w->body, "");
	world_call(&tag, "/query?Q=1", NULL);
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
	world_call(&tag, "/a", "x");
	loop_until_count(w->loop, &w->n_result, 1);
	http_server_free(w->server);
	world_server(w, "127.0.0.1", port);
	world_call(&tag, "/a", "x");
	loop_until_count(w->loop, &w->n_result, 2);
	assert_int_equal(w->result.err, 0);
}

static void test_ipv6(void **state)
{
	struct world *w = *state;
	struct tag tag = {.w = w};

	http_server_free(w->server);
	world_server(w, "[::1]", 0);
	world_call(&tag, "/a", "six");
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
	world_call(&tag, "/a", "x");
	loop_until_count(w->loop, &w->n_result, 1);
	assert_int_equal(w->result.err, 0);
}

/* The handler sees the head of a body that is too large, and answers when the body is there. */
static void test_refusal_before_the_body(void **state)
{
	struct world *w = *state;
	struct raw r;
	char body[8192];

	raw_open(&r, w,
	         "POST /hold HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
	         "Content-Length: 16384\r\n\r\n");
	loop_until_count(w->loop, &w->n_held, 1);
	assert_true(http_request_too_large(w->held[0]));
	raw_until(&r, "HTTP/1.1 100", 1);
	memset(body, 'b', sizeof(body));
	assert_int_equal(write(r.fd, body, sizeof(body)), sizeof(body));
	world_release(w);
	loop_for_ms(w->loop, 20);
	assert_int_equal(raw_count(&r, "late"), 0);
	assert_int_equal(write(r.fd, body, sizeof(body)), sizeof(body));
	raw_until(&r, "late", 1);
	raw_close(&r);
}

static void test_client_leaves_before_the_body(void **state)
{
	struct world *w = *state;
	struct tag tag = {.w = w};
	struct raw r;

	raw_open(&r, w,
	         "POST /hold HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
	         "Content-Length: 16384\r\n\r\nbb");
	loop_until_count(w->loop, &w->n_held, 1);
	assert_non_null(http_request_header(w->held[0], "expect"));
	raw_close(&r);
	/* Another exchange, and the server has noticed. */
	world_call(&tag, "/a", "x");
	loop_until_count(w->loop, &w->n_result, 1);
	assert_null(http_request_header(w->held[0], "expect"));
	world_release(w);
}

static void test_connection_limit(void **state)
{
	struct world *w = *state;
	struct raw r[3];

	http_server_free(w->server);
	w->connection_max = 2;
	world_server(w, "127.0.0.1", 0);
	for (int i = 0; i < 3; i++)
		raw_open(&r[i], w, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
	raw_until(&r[0], "200", 1);
	raw_until(&r[1], "200", 1);
	loop_for_ms(w->loop, 20);
	assert_int_equal(w->n_request, 2);
	raw_close(&r[0]);
	raw_until(&r[2], "200", 1);
	raw_close(&r[1]);
	raw_close(&r[2]);
}

static void test_idle_connections_are_closed(void **state)
{
	struct world *w = *state;
	struct raw idle_one, half, waiting;

	http_server_free(w->server);
	w->idle_timeout_s = 1;
	world_server(w, "127.0.0.1", 0);
	raw_open(&waiting, w, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
	raw_open(&idle_one, w, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
	raw_open(&half, w, "GET /a HT");
	loop_until_count(w->loop, &idle_one.closed, 1);
	loop_until_count(w->loop, &half.closed, 1);
	/* A request that waits for its answer is not idle. */
	assert_int_equal(waiting.closed, 0);
	world_release(w);
	raw_until(&waiting, "late", 1);
	raw_close(&waiting);
	raw_close(&idle_one);
	raw_close(&half);
}

static void test_free_with_half_requests(void **state)
{
	struct world *w = *state;
	struct raw head, body, answered;

	raw_open(&head, w, "GET /a HTTP/1.1\r\nHo");
	raw_open(&body, w, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
	raw_open(&answered, w, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
	loop_until_count(w->loop, &w->n_held, 1);
	world_release(w);
	http_server_free(w->server);
	w->server = NULL;
	loop_until_count(w->loop, &body.closed, 1);
	/* What was answered in the same turn has still been sent. */
	raw_until(&answered, "late", 1);
	raw_close(&head);
	raw_close(&body);
	raw_close(&answered);
}
#define T(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

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
	    T(test_refusal_before_the_body),
	    T(test_client_leaves_before_the_body),
	    T(test_connection_limit),
	    T(test_idle_connections_are_closed),
	    T(test_free_with_half_requests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
