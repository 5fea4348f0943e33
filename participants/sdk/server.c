/*
 * server.c - the server helper: which function answers which request, and the server's life.
 *
 *	new ----on, route----> configured ----start----> serving
 *	serving ----SIGTERM, SIGINT, stop----> no routes ----routes' work done---->
 *	closed ----all work done, all replies sent----> stopped ----free
 *
 * Routes are refused first: they may wait for a transaction whose branch is on this very server,
 * which therefore goes on answering the coordinator until they are done.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "server.h"

#define DRAIN_US 20000000
#define TICK_MS  1000
#define KEEP_S   (30 * 86400)

/* The sweep, when there is a coordinator to ask. */
static int take_sweep(struct assent_server *s, const struct assent_server_options *options,
                      struct assent_error *err)
{
	const struct assent_participant_options o = {
	    .coordinators = options->coordinators,
	    .token_file = options->token_file,
	    .secret_file = options->secret_file,
	    .cluster = options->cluster,
	    .retry_ms = options->retry_ms,
	    .peers = options->peers,
	};

	s->tick_ms = options->tick_ms ? options->tick_ms : TICK_MS;
	s->keep_s = options->keep_s ? options->keep_s : KEEP_S;
	s->on_tick = options->on_tick;
	s->tick_ctx = options->tick_ctx;
	if (s->keep_s > 0 && s->keep_s < SDK_KEEP_MIN_S)
		return sdk_fail(err, ASSENT_E_INVALID,
		                "keep_s is at least %d, and longer than the coordinator keeps "
		                "transactions",
		                SDK_KEEP_MIN_S);
	if (!options->coordinators)
		return 0;
	return assent_participant_new(&s->participant, &o, err);
}

static struct assent_server *make_server(const struct assent_server_options *options,
                                         struct assent_error *err)
{
	struct assent_server *s;

	if (!options->listen || !options->database) {
		sdk_fail(err, ASSENT_E_INVALID, "the options listen and database are required");
		return NULL;
	}
	s = calloc(1, sizeof(*s));
	if (!s)
		goto nomem;
	s->listen_fd = s->signal_fd = s->stop_fd = -1;
	s->n_first = options->n_first ? options->n_first : 8;
	s->n_second = options->n_second ? options->n_second : 4;
	s->n_route = options->n_route ? options->n_route : 8;
	s->listen = strdup(options->listen);
	s->database = strdup(options->database);
	s->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!s->listen || !s->database || s->stop_fd < 0)
		goto nomem;
	if ((options->secret_file &&
	     assent_verifier_load(&s->verifier, options->secret_file, err)) ||
	    sdk_peers_allow(options->peers, &s->allowed, err) || take_sweep(s, options, err)) {
		assent_server_free(s);
		return NULL;
	}
	return s;
nomem:
	assent_server_free(s);
	sdk_fail(err, ASSENT_E_NOMEM, "out of memory or descriptors");
	return NULL;
}

struct assent_server *assent_server_new_sized(const struct assent_server_options *options,
                                              size_t size, struct assent_error *err)
{
	struct assent_server_options known;

	if (!options)
		sdk_fail(err, ASSENT_E_INVALID, "options is NULL");
	else if (sdk_take_struct(&known, sizeof(known), options, size, err) == 0)
		return make_server(&known, err);
	return NULL;
}

/* Adds a row; the table is only read once the server runs. */
static struct target *add_target(struct assent_server *s, const char *method, const char *path,
                                 const char *op, struct assent_error *err)
{
	struct target *t = &s->target[s->n_target];
	const char *slash = *op ? "/" : "";

	if (s->n_target == TARGET_MAX || s->daemon || path[0] != '/' ||
	    strlen(path) + strlen(op) + 2 > sizeof(t->path) || strlen(op) >= sizeof(t->op) ||
	    strlen(method) >= sizeof(t->method)) {
		sdk_fail(err, ASSENT_E_INVALID,
		         "%s: not a path, too many of them, or too late to add one", path);
		return NULL;
	}
	memset(t, 0, sizeof(*t));
	snprintf(t->method, sizeof(t->method), "%s", method);
	snprintf(t->op, sizeof(t->op), "%s", op);
	snprintf(t->path, sizeof(t->path), "%s%s%s", strcmp(path, "/") ? path : "", slash, op);
	s->n_target++;
	return t;
}

static int add_op(struct assent_server *s, const char *path, const char *op, assent_work_fn *work,
                  void *ctx, struct assent_error *err)
{
	const char *method = strcmp(op, "status") == 0 ? "GET" : "POST";
	struct target *t = add_target(s, method, path, op, err);

	if (!t)
		return ASSENT_E_INVALID;
	t->work = work;
	t->ctx = ctx;
	return 0;
}

static struct target *find_op(struct assent_server *s, const char *path, const char *op)
{
	size_t len = strcmp(path, "/") ? strlen(path) : 0;

	for (size_t i = 0; i < s->n_target; i++) {
		struct target *t = &s->target[i];

		if (strcmp(t->op, op) == 0 && strncmp(t->path, path, len) == 0 &&
		    t->path[len] == '/' && strcmp(t->path + len + 1, op) == 0)
			return t;
	}
	return NULL;
}

/* Both can_commit and pre_commit bring it, in either order; only the first has a check. */
static int add_can_commit(struct assent_server *s, const char *path, assent_work_fn *check,
                          void *ctx, struct assent_error *err)
{
	struct target *there = find_op(s, path, "can_commit");

	if (!there)
		return add_op(s, path, "can_commit", check, ctx, err);
	if (check) {
		there->work = check;
		there->ctx = ctx;
	}
	return 0;
}

/* What comes with an operation. */
static const struct family {
	const char *first;
	const char *others[4];
} families[] = {
    {"prepare", {"commit", "rollback"}},
    {"pre_commit", {"do_commit", "abort", "status"}},
    {"try", {NULL}},
    {"confirm", {NULL}},
    {"cancel", {NULL}},
    {"action", {NULL}},
    {"compensate", {NULL}},
};

int assent_server_on(struct assent_server *s, const char *path, const char *op,
                     assent_work_fn *work, void *ctx, struct assent_error *err)
{
	if (!s || !path || !op || (!work && strcmp(op, "can_commit") != 0))
		return sdk_fail(err, ASSENT_E_INVALID, "server, path, op or work is NULL");
	if (strcmp(op, "can_commit") == 0)
		return add_can_commit(s, path, work, ctx, err);
	for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
		int rc;

		if (strcmp(op, families[i].first) != 0)
			continue;
		rc = add_op(s, path, op, work, ctx, err);
		for (size_t j = 0; families[i].others[j] && !rc; j++)
			rc = add_op(s, path, families[i].others[j], work, ctx, err);
		if (rc == 0 && strcmp(op, "pre_commit") == 0)
			rc = add_can_commit(s, path, NULL, NULL, err);
		return rc;
	}
	return sdk_fail(err, ASSENT_E_INVALID, "unknown operation %s", op);
}

int assent_server_route(struct assent_server *s, const char *method, const char *path,
                        assent_route_fn *route, void *ctx, struct assent_error *err)
{
	struct target *t;

	if (!s || !method || !path || !route)
		return sdk_fail(err, ASSENT_E_INVALID, "server, method, path or route is NULL");
	t = add_target(s, method, path, "", err);
	if (!t)
		return ASSENT_E_INVALID;
	t->route = route;
	t->ctx = ctx;
	return 0;
}

static bool has_op(const struct assent_server *s, const struct target *like, const char *op)
{
	size_t base = strlen(like->path) - strlen(like->op);

	for (size_t i = 0; i < s->n_target; i++) {
		if (strcmp(s->target[i].op, op) == 0 &&
		    strncmp(s->target[i].path, like->path, base) == 0 &&
		    strcmp(s->target[i].path + base, op) == 0)
			return true;
	}
	return false;
}

/* What can be begun and not ended would be found out in the middle of a transaction. */
static int check_ops(const struct assent_server *s, bool *prepares, struct assent_error *err)
{
	static const char *const needs[][2] = {{"try", "confirm"},
	                                       {"try", "cancel"},
	                                       {"action", "compensate"},
	                                       {"can_commit", "pre_commit"}};

	*prepares = false;
	for (size_t i = 0; i < s->n_target; i++) {
		const struct target *t = &s->target[i];

		*prepares |= strcmp(t->op, "prepare") == 0 || strcmp(t->op, "pre_commit") == 0;
		if (strcmp(t->op, "pre_commit") == 0 && !s->participant)
			return sdk_fail(
			    err, ASSENT_E_INVALID,
			    "%s needs the option coordinators: when the hold time is over "
			    "the coordinator is asked first, and without an address it "
			    "would seem to be down",
			    t->path);
		for (size_t j = 0; j < sizeof(needs) / sizeof(needs[0]); j++) {
			if (strcmp(t->op, needs[j][0]) == 0 && !has_op(s, t, needs[j][1]))
				return sdk_fail(err, ASSENT_E_INVALID, "%s needs %s as well",
				                t->path, needs[j][1]);
		}
	}
	return 0;
}

/* Another role's prepared transactions can be neither committed nor rolled back, and tables of
 * another role may be out of reach: found out now rather than with the first decision. */
static int check_privileges(PGconn *conn, struct assent_error *err)
{
	static const char sql[] =
	    "SELECT current_user, (SELECT max(x.owner) FROM pg_prepared_xacts x"
	    "   WHERE x.database = current_database() AND x.gid LIKE 'assent:%'"
	    "     AND x.owner <> current_user AND current_setting('is_superuser') = 'off'),"
	    " (SELECT bool_and(has_table_privilege('assent_participant.' || t, p))"
	    "    FROM unnest('{branch,barrier,mark}'::text[]) t,"
	    "         unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) p)";
	PGresult *result = PQexec(conn, sql);
	int rc = 0;

	if (!sdk_pg_ok(result))
		rc = sdk_fail_pg(err, conn, result);
	else if (*PQgetvalue(result, 0, 2) != 't')
		rc = sdk_fail(err, ASSENT_E_INVALID,
		              "%.60s may not write to the schema assent_participant: " SDK_GRANTS,
		              PQgetvalue(result, 0, 0));
	else if (!PQgetisnull(result, 0, 1))
		rc = sdk_fail(
		    err, ASSENT_E_INVALID,
		    "transactions here were prepared by %.60s, and only it can finish them: "
		    "connect as %.60s instead of %.60s",
		    PQgetvalue(result, 0, 1), PQgetvalue(result, 0, 1), PQgetvalue(result, 0, 0));
	PQclear(result);
	return rc;
}

/* A service that cannot prepare must not start and then fail each transaction. */
static int check_database(struct assent_server *s, bool prepares, struct assent_error *err)
{
	PGconn *conn = sdk_pg_connect(s->database);
	int rc;

	if (!conn || PQstatus(conn) != CONNECTION_OK)
		rc = sdk_fail_pg(err, conn, NULL);
	else
		rc = prepares ? assent_participant_check(conn, err) : sdk_check_durable(conn, err);
	if (rc == 0)
		rc = assent_participant_install(conn, err);
	if (rc == 0)
		rc = check_privileges(conn, err);
	PQfinish(conn);
	return rc;
}

/* Before any thread exists, so that all of them inherit the mask and only run() sees signals. */
static int take_signals(struct assent_server *s, struct assent_error *err)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	if (pthread_sigmask(SIG_BLOCK, &set, &s->mask_before))
		return sdk_fail(err, ASSENT_E_SYSTEM, "signals cannot be blocked");
	s->mask_taken = true;
	s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->signal_fd < 0)
		return sdk_fail(err, ASSENT_E_SYSTEM, "signalfd: %s", strerror(errno));
	return 0;
}

int assent_server_start(struct assent_server *s, struct assent_error *err)
{
	bool prepares;
	int rc;

	if (!s || s->daemon || s->mask_taken)
		return sdk_fail(err, ASSENT_E_INVALID, "the server is NULL, or was started before");
	if ((rc = check_ops(s, &prepares, err)) || (rc = check_database(s, prepares, err)))
		return rc;
	s->listen_fd = sdk_listen(s->listen, s->url, sizeof(s->url), err);
	if (s->listen_fd < 0)
		return s->listen_fd;
	rc = take_signals(s, err);
	if (rc)
		return rc;
	s->first = sdk_pool_start(s->n_first, s->database);
	s->second = sdk_pool_start(s->n_second, s->database);
	s->route = sdk_pool_start(s->n_route, s->database);
	if (!s->first || !s->second || !s->route)
		return sdk_fail(err, ASSENT_E_SYSTEM, "no threads");
	if (s->participant || s->keep_s >= 0) {
		s->ticker = sdk_ticker_start(s->participant, s->database, s->tick_ms, s->keep_s,
		                             s->on_tick, s->tick_ctx);
		if (!s->ticker)
			return sdk_fail(err, ASSENT_E_SYSTEM, "no threads");
		s->participant = NULL;
	}
	return sdk_http_start(s, err);
}

const char *assent_server_url(const struct assent_server *s)
{
	return s ? s->url : "";
}

void assent_server_stop(struct assent_server *s)
{
	uint64_t one = 1;
	ssize_t n = s ? write(s->stop_fd, &one, sizeof(one)) : 0;

	(void)n; /* fails only when it is set already */
}

/* In the order given on top. Bounded: a work function that never returns is waited for only by
 * assent_server_free. */
static void drain(struct assent_server *s)
{
	int64_t until_us = sdk_now_us() + DRAIN_US;

	atomic_store(&s->phase, PHASE_NO_ROUTES);
	sdk_pool_wait_idle(s->route, until_us);
	atomic_store(&s->phase, PHASE_CLOSED);
	sdk_http_quiesce(s);
	sdk_pool_wait_idle(s->first, until_us);
	sdk_pool_wait_idle(s->second, until_us);
}

void assent_server_run(struct assent_server *s)
{
	struct pollfd fds[] = {{.events = POLLIN}, {.events = POLLIN}};
	struct signalfd_siginfo info;

	if (!s || !s->daemon)
		return;
	fds[0].fd = s->signal_fd;
	fds[1].fd = s->stop_fd;
	while (poll(fds, 2, -1) < 0 && errno == EINTR)
		;
	/* Taken off the queue, or it would be delivered once the mask is restored. */
	while (read(s->signal_fd, &info, sizeof(info)) > 0)
		;
	drain(s);
}

void assent_server_free(struct assent_server *s)
{
	if (!s)
		return;
	atomic_store(&s->phase, PHASE_CLOSED);
	sdk_ticker_free(s->ticker);
	assent_participant_free(s->participant);
	sdk_pool_free(s->route);
	sdk_pool_free(s->first);
	sdk_pool_free(s->second);
	/* After the workers: no connection may be suspended when the daemon stops. */
	sdk_http_stop(s);
	if (s->listen_fd >= 0)
		close(s->listen_fd);
	if (s->signal_fd >= 0)
		close(s->signal_fd);
	if (s->stop_fd >= 0)
		close(s->stop_fd);
	if (s->mask_taken)
		pthread_sigmask(SIG_SETMASK, &s->mask_before, NULL);
	assent_verifier_free(s->verifier);
	free(s->listen);
	free(s->database);
	free(s->allowed);
	free(s);
}
