/*
 * noop.c - a participant that says yes at once, for measuring what the coordinator costs.
 *
 *	noop: serves on a free port of 127.0.0.1, prints `ready http://...`, until SIGTERM
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "io/http_server.h"
#include "io/loop.h"

static void on_request(void *ctx, struct http_request *rq)
{
	(void)ctx;
	http_request_reply(rq, 200, "application/json", "{}", 2, NULL, 0);
}

static void on_signal(void *ctx)
{
	loop_stop(ctx);
}

int main(void)
{
	struct loop *loop = loop_new();
	struct http_server *server = NULL;
	struct loop_signal *sigterm = loop ? loop_signal_new(loop, SIGTERM, on_signal, loop) : NULL;
	struct http_server_config config = {
	    .host = "127.0.0.1",
	    .connection_max = 1024,
	    .body_max = 1024 * 1024,
	    .idle_timeout_s = 60,
	    .handler = on_request,
	};

	if (!sigterm || http_server_new(loop, &config, &server) < 0)
		return EXIT_FAILURE;
	(void)printf("ready http://127.0.0.1:%u\n", (unsigned)http_server_port(server));
	(void)fflush(stdout);
	loop_run(loop);
	http_server_free(server);
	loop_signal_free(sigterm);
	loop_free(loop);
	return EXIT_SUCCESS;
}
