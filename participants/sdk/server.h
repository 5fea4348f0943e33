/*
 * server.h - what server.c (the table and the life of a server) and http.c (requests) share.
 */
#ifndef ASSENT_SERVER_H
#define ASSENT_SERVER_H

#include <signal.h>
#include <stdatomic.h>

#include "internal.h"

#define TARGET_MAX 64

struct MHD_Daemon;

/* One row of the table: an operation at <path>/<op>, or a plain route. */
struct target {
	char method[8];
	char path[160];
	char op[16];          /* "" for a route */
	assent_work_fn *work; /* may be NULL for operations that do none */
	assent_route_fn *route;
	void *ctx;
};

enum phase {
	PHASE_SERVING = 0,
	PHASE_NO_ROUTES, /* plain requests are refused, the coordinator's are answered */
	PHASE_CLOSED,    /* everything new is refused */
};

struct assent_server {
	char *listen;
	char *database;
	struct assent_verifier *verifier; /* NULL: every call is believed */
	char *allowed;                    /* where peers may be; NULL: anywhere */
	unsigned n_first, n_second, n_route;
	struct target target[TARGET_MAX];
	size_t n_target;
	char url[300];
	int listen_fd; /* the daemon's while it runs */
	int signal_fd;
	int stop_fd;
	sigset_t mask_before;
	bool mask_taken;
	struct sdk_pool *first, *second, *route;
	struct assent_participant *participant; /* until the ticker takes it; NULL: no sweep */
	struct sdk_ticker *ticker;
	unsigned tick_ms;
	int keep_s;
	assent_tick_fn *on_tick;
	void *tick_ctx;
	struct MHD_Daemon *daemon;
	_Atomic enum phase phase;
	atomic_uint n_request; /* received and not yet answered in full */
};

/* ---- http.c, the only user of libmicrohttpd ---- */

int sdk_http_start(struct assent_server *s, struct assent_error *err);
/* No new connections. */
void sdk_http_quiesce(struct assent_server *s);
/* Waits a moment for replies on their way, then stops; NULL-safe. All workers have ended. */
void sdk_http_stop(struct assent_server *s);

#endif /* ASSENT_SERVER_H */
