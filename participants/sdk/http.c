/*
 * http.c - requests of the server helper, over libmicrohttpd.
 *
 * One thread reads and writes; a complete request is suspended and handed to a pool, whose worker
 * fills the reply and resumes it. Life of a request: begun at its headers, body collected,
 * suspended, run, resumed, answered, freed in request_completed (the only place).
 */
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "server.h"

#define CONNECTION_TIMEOUT_S 60
#define BODY_READ_MAX        (8 * (size_t)SDK_BODY_MAX) /* and dropped, when it is too long */
#define STOP_US              2000000
#define POLL_NS              1000000

struct request {
	struct sdk_job job; /* first: a job is its request */
	struct assent_server *server;
	struct MHD_Connection *connection;
	const struct target *target;
	struct assent_call *call; /* NULL for a route */
	struct sdk_text body;
	struct assent_reply *reply;
	bool ready; /* the reply is what to send; set before resuming */
};

static enum MHD_Result answer(struct request *r)
{
	size_t len;
	const char *body = assent_reply_body(r->reply, &len);
	int status = assent_reply_status(r->reply);
	char *copy = malloc(len + 1);
	struct MHD_Response *response;
	enum MHD_Result rc;

	if (!copy)
		return MHD_NO;
	memcpy(copy, body, len + 1);
	response = MHD_create_response_from_buffer(len, copy, MHD_RESPMEM_MUST_FREE);
	if (!response) {
		free(copy);
		return MHD_NO;
	}
	if (len)
		MHD_add_response_header(response, "Content-Type", "application/json");
	if (status == 503)
		MHD_add_response_header(response, "Retry-After", "1");
	if (status == 405)
		MHD_add_response_header(response, "Allow", r->target ? r->target->method : "POST");
	if (atomic_load(&r->server->phase) == PHASE_CLOSED)
		MHD_add_response_header(response, "Connection", "close");
	rc = MHD_queue_response(r->connection, (unsigned)status, response);
	MHD_destroy_response(response);
	return rc;
}

static void run_work(struct request *r, PGconn *conn)
{
	const struct target *t = r->target;
	const char *op = assent_call_op(r->call);

	if (strcmp(op, "prepare") == 0)
		assent_prepare(conn, r->call, t->work, t->ctx, r->reply);
	else if (strcmp(op, "commit") == 0)
		assent_commit(conn, r->call, t->work, t->ctx, r->reply);
	else if (strcmp(op, "rollback") == 0)
		assent_rollback(conn, r->call, r->reply);
	else if (strcmp(op, "can_commit") == 0)
		assent_can_commit(conn, r->call, t->work, t->ctx, r->reply);
	else if (strcmp(op, "pre_commit") == 0)
		assent_pre_commit(conn, r->call, t->work, t->ctx, r->reply);
	else if (strcmp(op, "do_commit") == 0)
		assent_do_commit(conn, r->call, r->reply);
	else if (strcmp(op, "abort") == 0)
		assent_abort(conn, r->call, r->reply);
	else if (strcmp(op, "status") == 0)
		assent_status(conn, r->call, r->reply);
	else
		assent_run_once(conn, r->call, t->work, t->ctx, r->reply);
}

/* In a worker. After the resume the request belongs to the daemon's thread again. */
static void run_request(struct sdk_job *job, PGconn *conn)
{
	struct request *r = (struct request *)(void *)job;
	struct MHD_Connection *connection = r->connection;

	if (!conn)
		assent_reply_reason(r->reply, 503, "the database cannot be reached");
	else if (r->call)
		run_work(r, conn);
	else
		r->target->route(r->body.len ? r->body.data : "", r->body.len, conn, r->reply,
		                 r->target->ctx);
	r->ready = true;
	MHD_resume_connection(connection);
}

/* ---- the daemon's thread ---- */

static const char *call_header(void *ctx, const char *name)
{
	return MHD_lookup_connection_value(ctx, MHD_HEADER_KIND, name);
}

static const char *call_parameter(void *ctx, const char *name)
{
	return MHD_lookup_connection_value(ctx, MHD_GET_ARGUMENT_KIND, name);
}

/* NULL with the reply set when no row fits. */
static const struct target *find_target(struct request *r, const char *method, const char *path)
{
	const struct assent_server *s = r->server;
	bool path_known = false;

	for (size_t i = 0; i < s->n_target; i++) {
		if (strcmp(s->target[i].path, path) != 0)
			continue;
		path_known = true;
		r->target = &s->target[i];
		if (strcmp(s->target[i].method, method) == 0)
			return r->target;
	}
	if (path_known)
		assent_reply_reason(r->reply, 405, "use %s here", r->target->method);
	else
		assent_reply_reason(r->reply, 404, "there is nothing at this path");
	return NULL;
}

/* Whoever announces more than the limit is told at once only when he waits for it, or when it is
 * too much to read: a connection that is closed while its sender still writes may be reset before
 * he reads why. */
static bool is_too_long(struct MHD_Connection *connection, bool *at_once)
{
	const char *length = MHD_lookup_connection_value(connection, MHD_HEADER_KIND,
	                                                 "Content-Length");
	unsigned long long n = length ? strtoull(length, NULL, 10) : 0;

	*at_once = n > BODY_READ_MAX ||
	           MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Expect");
	return n > SDK_BODY_MAX;
}

static enum MHD_Result begin_request(struct assent_server *s, struct MHD_Connection *connection,
                                     const char *method, const char *path, void **out)
{
	struct request *r = calloc(1, sizeof(*r));
	bool at_once;

	if (!r || !(r->reply = assent_reply_new())) {
		free(r);
		return MHD_NO;
	}
	r->job.run = run_request;
	r->server = s;
	r->connection = connection;
	atomic_fetch_add(&s->n_request, 1);
	*out = r;
	if (!find_target(r, method, path)) {
		r->ready = true;
	} else if (is_too_long(connection, &at_once)) {
		assent_reply_reason(r->reply, 413, "a body has at most %d bytes", SDK_BODY_MAX);
		r->ready = true;
		if (at_once)
			return answer(r);
	}
	return MHD_YES;
}

/* Without Content-Length the end is unknown: what is beyond the limit is read and dropped for a
 * while, so that the sender gets to read why. */
static enum MHD_Result collect_body(struct request *r, const char *data, size_t *len)
{
	r->body.failed |= r->body.len + *len > BODY_READ_MAX;
	if (r->body.failed)
		return MHD_NO;
	if (!r->ready)
		sdk_text_add(&r->body, data, *len);
	*len = 0;
	return MHD_YES;
}

static struct sdk_pool *choose_pool(const struct request *r)
{
	const struct assent_server *s = r->server;

	if (!r->call)
		return s->route;
	return r->call->is_vote ? s->first : s->second;
}

/* What we have no memory to look at is no mistake of the caller: that would be a no. */
static bool refuse_call(struct request *r, int rc, int status, const struct assent_error *err)
{
	assent_reply_reason(r->reply, rc == ASSENT_E_NOMEM ? 503 : status, "%s", err->text);
	return true;
}

/* Those that could not be asked in the end are refused in the beginning. */
static bool refuse_peers(struct request *r)
{
	const char *peers = r->call->peers ? r->call->peers : "";
	struct sdk_peer peer;

	while (sdk_peer_next(&peers, &peer)) {
		if (sdk_peer_is_allowed(r->server->allowed, &peer))
			continue;
		assent_reply_reason(r->reply, 400,
		                    "Assent-Peers: %.*s is none of the places where peers are "
		                    "asked (the option peers)",
		                    (int)peer.url_len, peer.url);
		return true;
	}
	return false;
}

/* True when the reply is set already. */
static bool refuse_request(struct request *r)
{
	enum phase phase = atomic_load(&r->server->phase);
	struct assent_error err;
	int rc;

	if (r->body.failed) {
		assent_reply_reason(r->reply, 503, "out of memory");
		return true;
	}
	if (r->body.len > SDK_BODY_MAX) {
		assent_reply_reason(r->reply, 413, "a body has at most %d bytes", SDK_BODY_MAX);
		return true;
	}
	if (phase == PHASE_CLOSED || (phase == PHASE_NO_ROUTES && r->target->route)) {
		assent_reply_reason(r->reply, 503, "this service is stopping");
		return true;
	}
	if (r->target->route)
		return false;
	rc = strcmp(r->target->op, "status") == 0
	         ? assent_call_new_status(&r->call, call_parameter, r->connection, &err)
	         : assent_call_new(&r->call, call_header, r->connection, r->body.data, r->body.len,
	                           &err);
	if (rc)
		return refuse_call(r, rc, 400, &err);
	if (r->server->verifier)
		rc = assent_verify(r->server->verifier, r->call, call_header, r->connection, &err);
	if (rc)
		return refuse_call(r, rc, 401, &err);
	if (strcmp(r->target->op, assent_call_op(r->call)) != 0) {
		assent_reply_reason(r->reply, 400, "Assent-Op and the path disagree");
		return true;
	}
	return refuse_peers(r);
}

static enum MHD_Result end_request(struct request *r)
{
	if (refuse_request(r))
		return answer(r);
	/* Suspended first: a fast worker may resume before sdk_pool_put returns. */
	MHD_suspend_connection(r->connection);
	if (!sdk_pool_put(choose_pool(r), &r->job)) {
		assent_reply_reason(r->reply, 503, "too many requests are waiting");
		r->ready = true;
		MHD_resume_connection(r->connection);
	}
	return MHD_YES;
}

/* NOLINTNEXTLINE(readability-function-size): MHD_AccessHandlerCallback */
static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *len, void **ctx)
{
	struct request *r = *ctx;

	(void)version;
	if (!r)
		return begin_request(cls, connection, method, url, ctx);
	if (*len)
		return collect_body(r, data, len);
	return r->ready ? answer(r) : end_request(r);
}

static void request_completed(void *cls, struct MHD_Connection *connection, void **ctx,
                              enum MHD_RequestTerminationCode code)
{
	struct assent_server *s = cls;
	struct request *r = *ctx;

	(void)connection;
	(void)code;
	if (!r)
		return;
	assent_call_free(r->call);
	assent_reply_free(r->reply);
	sdk_text_release(&r->body);
	free(r);
	*ctx = NULL;
	atomic_fetch_sub(&s->n_request, 1);
}

int sdk_http_start(struct assent_server *s, struct assent_error *err)
{
	const unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME |
	                       MHD_USE_ITC;

	s->daemon = MHD_start_daemon(flags, 0, NULL, NULL, on_request, s, MHD_OPTION_LISTEN_SOCKET,
	                             s->listen_fd, MHD_OPTION_NOTIFY_COMPLETED, request_completed,
	                             s, MHD_OPTION_CONNECTION_TIMEOUT,
	                             (unsigned)CONNECTION_TIMEOUT_S, MHD_OPTION_END);
	if (!s->daemon)
		return sdk_fail(err, ASSENT_E_SYSTEM, "the HTTP server cannot be started");
	s->listen_fd = -1;
	return 0;
}

void sdk_http_quiesce(struct assent_server *s)
{
	if (!s->daemon || s->listen_fd >= 0)
		return;
	s->listen_fd = MHD_quiesce_daemon(s->daemon);
	/* Refuses those who connect now. The daemon's thread may still look at the descriptor, so
	 * that closing it has to wait for the end. */
	if (s->listen_fd >= 0)
		shutdown(s->listen_fd, SHUT_RDWR);
}

void sdk_http_stop(struct assent_server *s)
{
	static const struct timespec pause = {0, POLL_NS};
	int64_t until_us = sdk_now_us() + STOP_US;

	if (!s->daemon)
		return;
	while (atomic_load(&s->n_request) && sdk_now_us() < until_us)
		nanosleep(&pause, NULL);
	MHD_stop_daemon(s->daemon);
	s->daemon = NULL;
}
