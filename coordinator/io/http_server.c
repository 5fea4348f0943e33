/*
 * http_server.c - HTTP in, over libmicrohttpd with its epoll descriptor inside our loop.
 *
 * Life of a request:
 *   1. access_run, first call:  head is complete; request_new
 *   2. access_run, body calls:  collected up to body_max, dropped beyond
 *   3. access_run, last call:   the handler sees it; answered at once: step 5; else suspended
 *   4. http_request_reply:      the connection is resumed, and MHD_run is due in this turn
 *   5. access_run, last call:   the response is queued
 *   6. completed_run:           the request's memory goes
 * A client that waits for "100 Continue" with too large a body gets its answer in step 1.
 *
 * MHD_resume_connection does not wake the epoll descriptor in external mode. So all of MHD's
 * work is done by one MHD_run per turn, in a hook, whenever the descriptor was readable, a
 * timeout came, or a connection was resumed. Handlers therefore run among the loop's hooks.
 */
#include "io/http_server.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "base/percent.h"
#include "base/unconst.h"
#include "io/http_private.h"
#include "io/http_watch.h"
#include "io/listen.h"

/* Per connection: a head of at most about 12 KiB. MHD zeroes all of it twice per request. */
#define CONNECTION_MEMORY (16 * 1024)
/* MHD asks to be run again at once as long as a connection has work, and by mistake also for one
 * whose buffer is full of the beginning of a chunk's size. After so many runs in a row that
 * nothing else asked for, the next ones wait a little: it shall cost no processor. */
#define SELF_RUN_MAX  16
#define SELF_PAUSE_US 5000
/* A refused body is read and dropped up to here: closing with bytes unread resets the
 * connection, and the client would see that instead of its 413. */
#define DROP_MAX ((uint64_t)64 * 1024 * 1024)
/* Such bodies come in whatever the others take: connection_max bounds them. */
#define BODY_SMALL ((size_t)8 * 1024)

struct http_server {
	struct loop *loop;
	struct MHD_Daemon *mhd;
	struct loop_fd *fd;
	struct loop_timer *timer;
	struct loop_hook *hook;
	struct http_watch watch;
	http_handler *handler;
	void *ctx;
	size_t body_max, bodies_max;
	size_t n_body_byte;    /* of the bodies that are kept */
	unsigned n_connection; /* after the newest MHD_run */
	size_t n_open;
	uint16_t port;
	unsigned n_self; /* runs in a row that only MHD asked for */
	bool pending;    /* MHD_run is due */
	bool running;    /* inside MHD_run */
	bool quiescing;  /* answers close their connections */
};

/* --- requests --- */

static void body_drop(struct http_request *rq)
{
	rq->server->n_body_byte -= rq->body.len;
	buf_release(&rq->body);
}

static void request_free(struct http_request *rq)
{
	if (rq->response != NULL)
		MHD_destroy_response(rq->response);
	body_drop(rq);
	free(rq);
}

static struct http_request *request_new(struct http_server *s, struct MHD_Connection *connection,
                                        const char *method, const char *path)
{
	size_t method_size = strlen(method) + 1, path_size = strlen(path) + 1;
	struct http_request *rq = calloc(1, sizeof(*rq) + method_size + path_size);

	if (rq == NULL)
		return NULL;
	buf_init(&rq->body);
	rq->server = s;
	rq->connection = connection;
	rq->method = memcpy(rq->text, method, method_size);
	rq->path = memcpy(rq->text + method_size, path, path_size);
	rq->started_us = clock_mono_us();
	return rq;
}

static void request_dispatch(struct http_request *rq)
{
	struct http_server *s = rq->server;

	rq->seen = true;
	s->n_open++;
	http_watch_leave(rq->connection);
	s->handler(s->ctx, rq);
}

/* Queues the reply, or waits for it. Only from the access callback. */
static enum MHD_Result request_answer(struct http_request *rq)
{
	if (!rq->replied) {
		rq->suspended = true;
		MHD_suspend_connection(rq->connection);
		return MHD_YES;
	}
	if (rq->response == NULL)
		return MHD_NO; /* closes the connection */
	http_watch_wait(&rq->server->watch, rq->connection);
	return MHD_queue_response(rq->connection, (unsigned int)rq->status, rq->response);
}

static bool request_expects_continue(const struct http_request *rq)
{
	const char *expect = http_request_header(rq, "Expect");

	return expect != NULL && strcasecmp(expect, "100-continue") == 0;
}

/* What the head says about the body: nothing of it has been read yet. */
static enum MHD_Result request_begin(struct http_request *rq)
{
	const char *length = http_request_header(rq, "Content-Length");

	if (length == NULL || strtoull(length, NULL, 10) <= rq->server->body_max)
		return MHD_YES;
	rq->too_large = true;
	if (!request_expects_continue(rq) && strtoull(length, NULL, 10) <= DROP_MAX)
		return MHD_YES;
	request_dispatch(rq);
	/* A handler that takes its time: the body is dropped meanwhile, the last call answers. */
	return rq->replied ? request_answer(rq) : MHD_YES;
}

static bool body_has_room(const struct http_request *rq, size_t len)
{
	const struct http_server *s = rq->server;

	return rq->body.len + len <= BODY_SMALL || s->n_body_byte + len <= s->bodies_max;
}

static enum MHD_Result request_collect(struct http_request *rq, const char *data, size_t len)
{
	rq->too_large |= rq->dropped + rq->body.len + len > rq->server->body_max;
	if (!rq->too_large && !rq->no_room && body_has_room(rq, len)) {
		buf_append(&rq->body, data, len);
		if (rq->body.failed)
			return MHD_NO;
		rq->server->n_body_byte += len;
		return MHD_YES;
	}
	rq->no_room = true;
	rq->dropped += rq->body.len + len;
	body_drop(rq);
	return rq->dropped <= DROP_MAX ? MHD_YES : MHD_NO;
}

/* --- what MHD calls --- */

/* NOLINTNEXTLINE(readability-function-size): MHD_AccessHandlerCallback */
static enum MHD_Result access_run(void *cls, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *size, void **request)
{
	struct http_request *rq = *request;

	(void)version;
	if (rq == NULL) {
		rq = request_new(cls, connection, method, url);
		*request = rq;
		return rq == NULL ? MHD_NO : request_begin(rq);
	}
	if (*size > 0) {
		size_t len = *size;

		*size = 0;
		return request_collect(rq, data, len);
	}
	rq->suspended = false;
	if (!rq->seen)
		request_dispatch(rq);
	return request_answer(rq);
}

static void completed_run(void *cls, struct MHD_Connection *connection, void **request,
                          enum MHD_RequestTerminationCode why)
{
	struct http_request *rq = *request;

	if (why == MHD_REQUEST_TERMINATED_COMPLETED_OK)
		crash_point(CRASH_ANSWER_SENT);
	*request = NULL;
	http_watch_wait(&((struct http_server *)cls)->watch, connection);
	if (rq == NULL)
		return;
	/* The body was cut off after an early sight of the head: the handler still owes its
	 * reply, and frees the request with it. */
	if (rq->seen && !rq->replied)
		rq->connection = NULL;
	else
		request_free(rq);
}

static void connection_run(void *cls, struct MHD_Connection *connection, void **context,
                           enum MHD_ConnectionNotificationCode what)
{
	struct http_server *s = cls;

	if (what == MHD_CONNECTION_NOTIFY_STARTED)
		http_watch_started(&s->watch, connection, context);
	else
		http_watch_closed(&s->watch, context);
}

static size_t unescape_run(void *cls, struct MHD_Connection *connection, char *s)
{
	(void)cls;
	(void)connection;
	return percent_decode(s);
}

__attribute__((format(printf, 2, 0))) static void log_run(void *cls, const char *fmt, va_list ap)
{
	char text[256];
	int n = vsnprintf(text, sizeof(text), fmt, ap);

	(void)cls;
	if (n <= 0)
		return;
	text[strcspn(text, "\n")] = '\0';
	log_debug(NULL, "http server: %s", text);
}

/* --- turns --- */

static void server_kick(struct http_server *s)
{
	s->pending = true;
	loop_hook_kick(s->hook);
}

static void server_arm(struct http_server *s)
{
	MHD_UNSIGNED_LONG_LONG ms;

	if (MHD_get_timeout(s->mhd, &ms) != MHD_YES)
		ms = UINT64_MAX;
	if (ms > 0)
		s->n_self = 0;
	if (ms == UINT64_MAX)
		loop_timer_set(s->timer, INT64_MAX);
	else if (ms > 0)
		loop_timer_set(s->timer, clock_mono_us() + (int64_t)ms * 1000);
	else if (s->n_self >= SELF_RUN_MAX)
		loop_timer_set(s->timer, clock_mono_us() + SELF_PAUSE_US);
	else
		server_kick(s);
}

/* At its limit, or out of descriptors, MHD stops to listen. It listens again at the start of an
 * MHD_run after a connection went, and nothing announces that one. */
static void server_check_room(struct http_server *s)
{
	const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->mhd,
	                                                       MHD_DAEMON_INFO_CURRENT_CONNECTIONS);
	unsigned n = info != NULL ? info->num_connections : 0;

	if (n < s->n_connection)
		server_kick(s);
	s->n_connection = n;
}

static void server_run(void *ctx)
{
	struct http_server *s = ctx;

	if (!s->pending)
		return;
	s->pending = false;
	s->n_self += s->n_self < SELF_RUN_MAX;
	s->running = true;
	MHD_run(s->mhd);
	s->running = false;
	server_check_room(s);
	server_arm(s);
}

static void server_readable(void *ctx, int events)
{
	struct http_server *s = ctx;

	(void)events;
	s->n_self = 0;
	s->pending = true;
}

static void server_timeout(void *ctx)
{
	struct http_server *s = ctx;

	s->pending = true;
}

/* --- replies --- */

/* A reply that lacks a header says something else: then it is none, and the connection closes. */
static void response_header(struct http_request *rq, const char *name, const char *value)
{
	if (rq->response == NULL || MHD_add_response_header(rq->response, name, value) == MHD_YES)
		return;
	log_error(NULL, "http server: response header %s cannot be sent", name);
	MHD_destroy_response(rq->response);
	rq->response = NULL;
}

/* NOLINTNEXTLINE(readability-function-size): most callers have all of it at hand */
void http_request_reply(struct http_request *rq, int status, const char *content_type,
                        const char *body, size_t len, const struct http_header *header,
                        size_t n_header)
{
	struct http_server *s = rq->server;

	assert(!rq->replied);
	assert(s->n_open > 0);
	s->n_open--;
	rq->replied = true;
	if (rq->connection == NULL) {
		request_free(rq);
		return;
	}
	rq->status = status;
	rq->response = MHD_create_response_from_buffer(len, unconst(body != NULL ? body : ""),
	                                               MHD_RESPMEM_MUST_COPY);
	if (content_type != NULL)
		response_header(rq, "Content-Type", content_type);
	if (s->quiescing)
		response_header(rq, "Connection", "close");
	for (size_t i = 0; i < n_header; i++)
		response_header(rq, header[i].name, header[i].value);
	if (rq->suspended) {
		MHD_resume_connection(rq->connection);
		server_kick(s);
	}
}

/* --- start and stop --- */

/* TLS 1.2 or newer. */
#define TLS_PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

static int server_start(struct http_server *s, const struct http_server_config *config)
{
	unsigned int flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
	struct MHD_OptionItem tls[] = {
	    {MHD_OPTION_HTTPS_MEM_CERT, 0, unconst(config->tls_certificate)},
	    {MHD_OPTION_HTTPS_MEM_KEY, 0, unconst(config->tls_key)},
	    {MHD_OPTION_HTTPS_PRIORITIES, 0, unconst(TLS_PRIORITIES)},
	    {MHD_OPTION_END, 0, NULL}};
	bool ipv6;
	int fd;
	int err = listen_open(config->host, config->port, &fd, &s->port, &ipv6);

	if (err != 0)
		return err;
	if (ipv6)
		flags |= MHD_USE_IPv6;
	if (config->tls_certificate != NULL)
		flags |= MHD_USE_TLS;
	else
		tls[0].option = MHD_OPTION_END;
	s->mhd = MHD_start_daemon(
	    flags, 0, NULL, NULL, access_run, s, MHD_OPTION_EXTERNAL_LOGGER, log_run, NULL,
	    MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_UNESCAPE_CALLBACK, unescape_run, NULL,
	    MHD_OPTION_NOTIFY_COMPLETED, completed_run, s, MHD_OPTION_NOTIFY_CONNECTION,
	    connection_run, s, MHD_OPTION_CONNECTION_LIMIT, config->connection_max,
	    MHD_OPTION_CONNECTION_TIMEOUT, config->idle_timeout_s,
	    MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY, MHD_OPTION_ARRAY, tls,
	    MHD_OPTION_END);
	if (s->mhd == NULL) {
		close(fd);
		return config->tls_certificate != NULL ? ERR_PARSE : ERR_IO;
	}
	return 0;
}

static int server_watch(struct http_server *s)
{
	const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->mhd, MHD_DAEMON_INFO_EPOLL_FD);

	if (info == NULL)
		return ERR_IO;
	s->fd = loop_fd_new(s->loop, info->epoll_fd, server_readable, s);
	s->timer = loop_timer_new(s->loop, server_timeout, s);
	s->hook = loop_hook_new(s->loop, server_run, s);
	if (s->fd == NULL || s->timer == NULL || s->hook == NULL)
		return ERR_NOMEM;
	return loop_fd_watch(s->fd, LOOP_READ);
}

int http_server_new(struct loop *l, const struct http_server_config *config,
                    struct http_server **out)
{
	struct http_server *s = calloc(1, sizeof(*s));
	int err;

	if (s == NULL)
		return ERR_NOMEM;
	s->loop = l;
	s->handler = config->handler;
	s->ctx = config->ctx;
	s->body_max = config->body_max;
	s->bodies_max = config->bodies_max;
	err = http_watch_init(&s->watch, l, (int64_t)config->idle_timeout_s * 1000000,
	                      config->connection_max);
	if (err == 0)
		err = server_start(s, config);
	if (err == 0)
		err = server_watch(s);
	if (err != 0) {
		http_server_free(s);
		return err;
	}
	*out = s;
	return 0;
}

uint16_t http_server_port(const struct http_server *s)
{
	return s->port;
}

void http_server_quiesce(struct http_server *s)
{
	int fd;

	if (s->quiescing)
		return;
	s->quiescing = true;
	fd = MHD_quiesce_daemon(s->mhd);
	if (fd >= 0)
		close(fd);
}

size_t http_server_open(const struct http_server *s)
{
	return s->n_open;
}

bool http_server_is_crowded(const struct http_server *s)
{
	return s->n_open > s->watch.max / 2;
}

void http_server_free(struct http_server *s)
{
	if (s == NULL)
		return;
	assert(s->n_open == 0);
	assert(!s->running);
	/* Replies of this very turn still have to be resumed and sent. */
	for (int i = 0; i < 2 && s->mhd != NULL; i++)
		MHD_run(s->mhd);
	loop_fd_free(s->fd);
	loop_timer_free(s->timer);
	if (s->mhd != NULL)
		MHD_stop_daemon(s->mhd);
	loop_hook_free(s->hook);
	http_watch_release(&s->watch);
	free(s);
}
