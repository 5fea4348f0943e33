/*
 * pg.c - one PostgreSQL session in pipeline mode, inside our loop.
 *
 *   DOWN ──timer──▶ CONNECTING ──▶ SETUP ──▶ PREPARING ──on_up──▶ UP
 *     ▲ session_drop: from anywhere, on_down, timer with backoff      │
 *     └───────────────────────────────────────────────────────────────┘
 *
 * Callbacks run only from what the loop calls (session_run, timer_run), between `enter` and
 * `leave`, so that they may do anything to the connection: pg_free waits for `leave`, and a
 * session that a caller gives up (`doomed`) is dropped there too.
 *
 * PQconnectStart resolves host names blockingly: give numeric addresses or a socket directory.
 *
 * Of several hosts libpq asks one after the other, but a host that gives no answer at all (its
 * machine is gone) uses up the time of the attempt. The next attempt begins one host further.
 */
#include "io/pg.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "io/pg_private.h"

#define CONNECT_TIMEOUT_US 5000000
#define SETUP_TIMEOUT_US   10000000
#define BACKOFF_MIN_US     100000
#define BACKOFF_MAX_US     5000000

static void pg_destroy(struct pg *p);
static void session_drop(struct pg *p);

/* --- callbacks --- */

static void enter(struct pg *p)
{
	p->depth++;
}

static void leave(struct pg *p)
{
	if (p->depth == 1 && p->doomed && !p->freed)
		session_drop(p);
	if (--p->depth == 0 && p->freed)
		pg_destroy(p);
}

/* The session ends, at the latest in the next turn. The first reason counts. */
void pg_session_doom(struct pg *p, const char *why)
{
	if (p->doomed || p->state == PG_DOWN)
		return;
	p->doomed = true;
	pg_copy_line(p->why, sizeof(p->why), why);
	/* libpq may have closed its descriptor; libuv aborts when it has one to watch that is. */
	if (p->fd != NULL && loop_fd_watch(p->fd, 0) != 0)
		log_debug(NULL, "a session that ends is still watched");
	loop_timer_set(p->drop, 0);
}

/* --- sessions --- */

static void session_ready(struct pg *p)
{
	p->state = PG_UP;
	p->guarded = false;
	loop_timer_set(p->timer, INT64_MAX);
	p->config.on_up(p->config.ctx);
}

static void prepared(void *ctx, const struct pg_outcome *outcome)
{
	struct pg *p = ctx;

	if (outcome->err == 0)
		session_ready(p);
	else
		pg_session_doom(p, outcome->message);
}

void pg_session_watch(struct pg *p)
{
	int rc;

	if (p->doomed)
		return;
	rc = PQflush(p->conn);
	if (rc < 0 || loop_fd_watch(p->fd, rc > 0 ? LOOP_READ | LOOP_WRITE : LOOP_READ) != 0)
		pg_session_doom(p,
		                rc < 0 ? PQerrorMessage(p->conn) : "cannot watch the connection");
}

static void statements_prepare(struct pg *p)
{
	struct pg_batch *b = pg_batch_new(p);

	if (b == NULL || PQenterPipelineMode(p->conn) != 1) {
		free(b);
		pg_session_doom(p, "cannot enter pipeline mode");
		return;
	}
	p->state = PG_PREPARING;
	b->done = prepared;
	b->ctx = p;
	for (size_t i = 0; i < p->config.n_statement; i++) {
		const struct pg_statement *s = &p->config.statement[i];
		Oid type[PG_PARAM_MAX];

		for (unsigned k = 0; k < s->n_param; k++)
			type[k] = (Oid)s->param[k];
		if (PQsendPrepare(p->conn, s->name, s->sql, (int)s->n_param, type) != 1)
			b->unsent = true;
	}
	pg_batch_sync(b);
}

/* The next of the setup texts; behind the last come the statements. */
static void setup_next(struct pg *p)
{
	const char *sql = p->config.setup != NULL ? p->config.setup[p->n_setup] : NULL;

	if (sql == NULL) {
		statements_prepare(p);
		return;
	}
	p->n_setup++;
	if (PQsendQuery(p->conn, sql) != 1)
		pg_session_doom(p, PQerrorMessage(p->conn));
	else
		pg_session_watch(p);
}

static void setup_read(struct pg *p)
{
	while (!p->doomed && p->state == PG_SETUP && !PQisBusy(p->conn)) {
		PGresult *res = PQgetResult(p->conn);

		if (res == NULL)
			setup_next(p);
		else if (PQresultStatus(res) == PGRES_FATAL_ERROR)
			pg_session_doom(p, PQresultErrorMessage(res));
		PQclear(res);
	}
}

/* A WARNING while a batch runs may be a cancelled wait for the synchronous standby: committed
 * here, perhaps not there. The batch's result is unknown, and the session with it. */
static void notice_run(void *ctx, const PGresult *res)
{
	struct pg *p = ctx;
	const char *state = pg_field(res, PG_DIAG_SQLSTATE);
	const char *severity = pg_field(res, PG_DIAG_SEVERITY_NONLOCALIZED);
	const char *text = pg_field(res, PG_DIAG_MESSAGE_PRIMARY);

	if (pg_severity_fatal(res)) {
		pg_session_doom(p, text);
		return;
	}
	if (strcmp(severity, "WARNING") != 0 && strncmp(state, "01", 2) != 0)
		return;
	log_warn(NULL, "database warning %s: %s", state, text);
	if (p->state == PG_UP && !list_empty(&p->batches))
		pg_session_doom(p, text);
}

static void session_read(struct pg *p)
{
	if (p->state == PG_SETUP)
		setup_read(p);
	if (p->state == PG_PREPARING || p->state == PG_UP)
		pg_batches_read(p);
}

static void session_run(void *ctx, int events)
{
	struct pg *p = ctx;
	bool broken;

	enter(p);
	broken = (events & LOOP_READ) != 0 && PQconsumeInput(p->conn) != 1;
	if (broken)
		pg_session_doom(p, PQerrorMessage(p->conn));
	session_read(p);
	if (!p->doomed && !p->freed)
		pg_session_watch(p);
	leave(p);
}

/* --- connecting --- */

static void connect_step(struct pg *p);

static void connect_run(void *ctx, int events)
{
	struct pg *p = ctx;

	(void)events;
	enter(p);
	connect_step(p);
	leave(p);
}

/* libpq may have closed its descriptor and opened another under the same number, so that each
 * step gets a new watch. */
static void connect_watch(struct pg *p, int events)
{
	loop_fd_fn *fn = p->state == PG_CONNECTING ? connect_run : session_run;

	p->fd = loop_fd_new(p->loop, PQsocket(p->conn), fn, p);
	if (p->fd == NULL || loop_fd_watch(p->fd, events) != 0)
		pg_session_doom(p, "cannot watch the connection");
}

static void connected(struct pg *p)
{
	p->state = PG_SETUP;
	p->n_setup = 0;
	connect_watch(p, LOOP_READ);
	loop_timer_set(p->timer, clock_mono_us() + SETUP_TIMEOUT_US);
	if (PQsetnonblocking(p->conn, 1) != 0)
		pg_session_doom(p, PQerrorMessage(p->conn));
	if (!p->doomed)
		setup_next(p);
}

static void connect_step(struct pg *p)
{
	PostgresPollingStatusType step;

	loop_fd_free(p->fd);
	p->fd = NULL;
	step = PQconnectPoll(p->conn);
	if (step == PGRES_POLLING_OK)
		connected(p);
	else if (step == PGRES_POLLING_FAILED)
		pg_session_doom(p, PQerrorMessage(p->conn));
	else
		connect_watch(p, step == PGRES_POLLING_READING ? LOOP_READ : LOOP_WRITE);
}

/* NULL values count as not given. */
static PGconn *connect_to(const struct pg *p, const struct pg_hosts *hosts)
{
	/* What stands before dbname the conninfo may change, what stands behind it not. */
	const char *keyword[] = {"keepalives",
	                         "keepalives_idle",
	                         "keepalives_interval",
	                         "keepalives_count",
	                         "tcp_user_timeout",
	                         "target_session_attrs",
	                         "dbname",
	                         "client_encoding",
	                         "application_name",
	                         "host",
	                         "hostaddr",
	                         "port",
	                         NULL};
	/* A standby takes no writes, and what it does not know may exist. */
	const char *value[] = {"1",
	                       "5",
	                       "2",
	                       "3",
	                       "10000",
	                       "primary",
	                       p->conninfo,
	                       "UTF8",
	                       p->application_name,
	                       hosts->host,
	                       hosts->hostaddr,
	                       hosts->port,
	                       NULL};

	return PQconnectStartParams(keyword, value, 1);
}

static void connect_start(struct pg *p)
{
	struct pg_hosts hosts;

	p->state = PG_CONNECTING;
	if (pg_hosts_from(p->conninfo, p->first_host, &hosts) == 0) {
		p->conn = connect_to(p, &hosts);
		pg_hosts_release(&hosts);
	}
	if (p->conn == NULL || PQstatus(p->conn) == CONNECTION_BAD) {
		pg_session_doom(p, p->conn != NULL ? PQerrorMessage(p->conn) : "out of memory");
		return;
	}
	PQsetNoticeReceiver(p->conn, notice_run, p);
	loop_timer_set(p->timer, clock_mono_us() + CONNECT_TIMEOUT_US);
	connect_watch(p, LOOP_WRITE);
}

static void connect_late(struct pg *p)
{
	p->first_host++;
	pg_session_doom(p, p->state == PG_CONNECTING ? "connecting timed out"
	                                             : "setting up the session timed out");
}

static void timer_run(void *ctx)
{
	struct pg *p = ctx;

	enter(p);
	if (p->state == PG_DOWN)
		connect_start(p);
	else if (p->state == PG_UP)
		pg_batches_guard(p);
	else
		connect_late(p);
	leave(p);
}

static void drop_run(void *ctx)
{
	struct pg *p = ctx;

	enter(p);
	/* A batch that was sent into a session already gone. */
	if (p->state == PG_DOWN)
		pg_batches_lose(p, "the session is gone");
	leave(p);
}

/* Every batch under way is told in order, then the owner. They see a connection that is down. */
static void session_drop(struct pg *p)
{
	p->state = PG_DOWN;
	p->doomed = false;
	if (p->building != NULL)
		p->building->unsent = true;
	loop_fd_free(p->fd);
	p->fd = NULL;
	PQfinish(p->conn);
	p->conn = NULL;
	p->backoff_us = p->backoff_us == 0 ? BACKOFF_MIN_US : 2 * p->backoff_us;
	if (p->backoff_us > BACKOFF_MAX_US)
		p->backoff_us = BACKOFF_MAX_US;
	loop_timer_set(p->timer, clock_mono_us() + p->backoff_us);
	pg_batches_lose(p, p->why);
	if (!p->freed)
		p->config.on_down(p->config.ctx, p->why);
}

/* --- the owner's side --- */

static int pg_init(struct pg *p)
{
	PQconninfoOption *options = PQconninfoParse(p->config.conninfo, NULL);

	/* libpq's complaint would quote parts of the string, perhaps the password. */
	if (options == NULL)
		return ERR_INVALID;
	PQconninfoFree(options);
	p->conninfo = strdup(p->config.conninfo);
	p->application_name = strdup(p->config.application_name);
	p->timer = loop_timer_new(p->loop, timer_run, p);
	p->drop = loop_timer_new(p->loop, drop_run, p);
	if (p->conninfo == NULL || p->application_name == NULL || p->timer == NULL ||
	    p->drop == NULL)
		return ERR_NOMEM;
	loop_timer_set(p->timer, 0);
	return 0;
}

int pg_new(struct loop *l, const struct pg_config *config, struct pg **out)
{
	struct pg *p = calloc(1, sizeof(*p));
	int err;

	if (p == NULL)
		return ERR_NOMEM;
	p->loop = l;
	p->config = *config;
	p->state = PG_DOWN;
	list_init(&p->batches);
	err = pg_init(p);
	if (err != 0) {
		pg_destroy(p);
		return err;
	}
	*out = p;
	return 0;
}

static void pg_destroy(struct pg *p)
{
	struct list *e;

	while ((e = list_pop(&p->batches)) != NULL)
		pg_batch_free(container_of(e, struct pg_batch, link));
	if (p->building != NULL)
		pg_batch_free(p->building);
	loop_fd_free(p->fd);
	PQfinish(p->conn);
	loop_timer_free(p->timer);
	loop_timer_free(p->drop);
	free(p->conninfo);
	free(p->application_name);
	free(p);
}

void pg_free(struct pg *p)
{
	if (p == NULL)
		return;
	assert(!p->freed);
	p->freed = true;
	if (p->depth == 0)
		pg_destroy(p);
}

bool pg_up(const struct pg *p)
{
	return p->state == PG_UP && !p->doomed && !p->freed;
}

void pg_reconnect(struct pg *p, const char *why)
{
	pg_session_doom(p, why);
}

void pg_drop(struct pg *p, const char *why)
{
	if (p == NULL)
		return;
	assert(p->depth == 0);
	enter(p);
	pg_session_doom(p, why);
	/* Batches that were sent into a session already gone. */
	if (p->state == PG_DOWN)
		pg_batches_lose(p, why);
	leave(p);
}
