/*
 * noop.c - a participant that says yes at once, or some time later, for measuring what the
 * coordinator costs.
 *
 *	noop [DELAY_MS]: serves on a free port of 127.0.0.1, prints `ready http://...`, until SIGTERM
 *
 * SIGUSR1 breaks it, and mends it the next time: broken, it answers commits with 503.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "io/http_server.h"
#include "io/loop.h"

#define HELD_MAX 4096u

/* Requests that are to be answered later, in the order in which they came. */
static struct {
	int64_t delay_us;
	struct loop_timer *timer;
	struct held {
		struct http_request *rq;
		int64_t at_us;
	} held[HELD_MAX];
	unsigned first, n;
} late;

static bool is_broken;

static void answer(struct http_request *rq)
{
	const char *path = http_request_path(rq);
	size_t len = strlen(path);

	if (is_broken && len >= 7 && strcmp(path + len - 7, "/commit") == 0)
		http_request_reply(rq, 503, NULL, NULL, 0, NULL, 0);
	else
		http_request_reply(rq, 200, "application/json", "{}", 2, NULL, 0);
}

static void answer_due(void *ctx)
{
	int64_t now_us = clock_mono_us();

	(void)ctx;
	while (late.n > 0 && late.held[late.first].at_us <= now_us) {
		answer(late.held[late.first].rq);
		late.first = (late.first + 1) % HELD_MAX;
		late.n--;
	}
	if (late.n > 0)
		loop_timer_set(late.timer, late.held[late.first].at_us);
}

static void on_request(void *ctx, struct http_request *rq)
{
	(void)ctx;
	if (late.delay_us == 0 || late.n == HELD_MAX) {
		answer(rq);
		return;
	}
	late.held[(late.first + late.n++) % HELD_MAX] = (struct held){rq, clock_mono_us() +
	                                                                      late.delay_us};
	if (late.n == 1)
		loop_timer_set(late.timer, clock_mono_us() + late.delay_us);
}

static void answer_all(void)
{
	for (; late.n > 0; late.n--) {
		answer(late.held[late.first].rq);
		late.first = (late.first + 1) % HELD_MAX;
	}
}

static void on_break(void *ctx)
{
	(void)ctx;
	is_broken = !is_broken;
}

static void on_signal(void *ctx)
{
	loop_stop(ctx);
}

int main(int argc, char **argv)
{
	struct loop *loop = loop_new();
	struct http_server *server = NULL;
	struct loop_signal *sigterm = loop ? loop_signal_new(loop, SIGTERM, on_signal, loop) : NULL;
	struct loop_signal *sigusr1 = loop ? loop_signal_new(loop, SIGUSR1, on_break, NULL) : NULL;
	struct http_server_config config = {
	    .host = "127.0.0.1",
	    .connection_max = 1024,
	    .body_max = 1024 * 1024,
	    .idle_timeout_s = 60,
	    .handler = on_request,
	};

	late.delay_us = argc > 1 ? strtol(argv[1], NULL, 10) * 1000 : 0;
	late.timer = loop ? loop_timer_new(loop, answer_due, NULL) : NULL;
	if (!sigterm || !sigusr1 || !late.timer || http_server_new(loop, &config, &server) < 0)
		return EXIT_FAILURE;
	(void)printf("ready http://127.0.0.1:%u\n", (unsigned)http_server_port(server));
	(void)fflush(stdout);
	loop_run(loop);
	answer_all();
	http_server_free(server);
	loop_timer_free(late.timer);
	loop_signal_free(sigusr1);
	loop_signal_free(sigterm);
	loop_free(loop);
	return EXIT_SUCCESS;
}
