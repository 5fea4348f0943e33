/*
 * routes.c - which path leads where. One row per method and path.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "api/api.h"
#include "api/handlers.h"
#include "base/log.h"
#include "base/near.h"

#define NAMESPACE  "default" /* where everything is so far */
#define BODY_MAX   ((size_t)1024 * 1024)
#define BODIES_MAX (128 * BODY_MAX)
#define OTHERS     1100 /* descriptors: calls, kept connections, the database */

/* Who may go there; a mask of roles, never 0. Admin may do everything. */
#define ANYBODY   ROLE_NOT_NEEDED
#define STARTERS  (ROLE_SUBMIT | ROLE_ADMIN)
#define READERS   (ROLE_SUBMIT | ROLE_VIEWER | ROLE_OPERATOR | ROLE_ADMIN)
#define WATCHERS  (ROLE_VIEWER | ROLE_OPERATOR | ROLE_ADMIN)
#define OPERATORS (ROLE_OPERATOR | ROLE_ADMIN)

struct route {
	const char *method;
	const char *path; /* {gid} or {code} matches one segment */
	unsigned roles;   /* x-roles in openapi.yaml */
	route_handler *handler;
	const char *query[11]; /* parameters it takes; ends with NULL */
};

static const struct route route[] = {
    {"POST", "/v1/transactions", STARTERS, handle_submit, {NULL}},
    {"GET",
     "/v1/transactions",
     READERS,
     handle_list,
     {"mode", "state", "outcome", "participant", "label.", "created_after", "created_before",
      "stuck_for_ms", "limit", "cursor", NULL}},
    {"PUT", "/v1/transactions/{gid}", STARTERS, handle_submit, {NULL}},
    {"GET", "/v1/transactions/{gid}", READERS, handle_get, {NULL}},
    {"POST", "/v1/transactions/{gid}/branches", STARTERS, handle_enlist, {NULL}},
    {"POST", "/v1/transactions/{gid}/commit", STARTERS, handle_commit, {NULL}},
    {"POST", "/v1/transactions/{gid}/rollback", STARTERS, handle_rollback, {NULL}},
    {"GET", "/v1/transactions/{gid}/history", READERS, handle_history, {"limit", NULL}},
    {"GET", "/v1/transactions/{gid}/decision", ROLE_ANY, handle_decision, {NULL}},
    {"GET",
     "/v1/admin/alerts",
     WATCHERS,
     handle_alerts,
     {"state", "kind", "severity", "participant", "limit", "cursor", NULL}},
    {"GET", "/v1/admin/overview", WATCHERS, handle_overview, {NULL}},
    {"GET", "/v1/admin/participants", WATCHERS, handle_participants, {NULL}},
    {"GET", "/v1/admin/config", OPERATORS, handle_config, {NULL}},
    {"GET", "/livez", ANYBODY, handle_livez, {NULL}},
    {"GET", "/readyz", ANYBODY, handle_readyz, {NULL}},
    {"GET", "/metrics", WATCHERS, handle_metrics, {NULL}},
    {"GET", "/openapi.json", ROLE_ANY, handle_openapi, {NULL}},
    {"GET", "/problems", ROLE_ANY, handle_problems, {NULL}},
    {"GET", "/problems/{code}", ROLE_ANY, handle_problem, {NULL}},
};

#define N_ROUTE (sizeof route / sizeof route[0])

struct api {
	struct node *node;
	struct http_server *server;
};

/* `gid` gets what {gid} or {code} stands for, "" when it is too long to be one. */
static bool path_matches(const char *pattern, const char *path, char *gid)
{
	while (*pattern) {
		size_t len;

		if (*pattern != '{') {
			if (*pattern++ != *path++)
				return false;
			continue;
		}
		len = strcspn(path, "/");
		if (len == 0)
			return false;
		gid[0] = '\0';
		if (len <= GID_MAX) {
			memcpy(gid, path, len);
			gid[len] = '\0';
		}
		pattern = strchr(pattern, '}') + 1;
		path += len;
	}
	return *path == '\0';
}

static void refuse(struct exchange *x, const char *path, const char *allow)
{
	char detail[200];

	if (*allow) {
		exchange_method_not_allowed(x, allow);
		return;
	}
	(void)snprintf(detail, sizeof detail, "there is nothing at %.128s", path);
	exchange_fail(x, PROBLEM_NOT_FOUND, detail);
}

static void forbid_role(struct exchange *x, unsigned needed)
{
	struct buf text = BUF_INIT;

	buf_printf(&text, "\"%s\" lacks the role for this: ", x->caller.name);
	auth_put_roles(&text, needed);
	exchange_fail(x, PROBLEM_FORBIDDEN, text.failed ? "a role is missing" : text.data);
	buf_release(&text);
}

static void forbid_namespace(struct exchange *x)
{
	char detail[192];

	(void)snprintf(detail, sizeof detail,
	               "\"%s\" may act in namespace %s only, and this is in " NAMESPACE,
	               x->caller.name, x->caller.space);
	exchange_fail(x, PROBLEM_FORBIDDEN, detail);
}

/* Whether the caller may go on; otherwise the exchange is over. */
static bool admit(struct exchange *x, const struct route *r)
{
	if (r->roles & ROLE_NOT_NEEDED)
		return true;
	switch (auth_check(x->node->config->auth, http_request_header(x->rq, "Authorization"),
	                   &x->caller)) {
	case AUTH_NO_TOKEN:
		exchange_unauthorized(x, "send the header Authorization: Bearer TOKEN");
		return false;
	case AUTH_BAD_TOKEN:
		exchange_unauthorized(x, "the header Authorization is not Bearer and a token that "
		                         "is known here");
		return false;
	case AUTH_OK:
	default:
		break;
	}
	if (!(x->caller.roles & r->roles)) {
		forbid_role(x, r->roles);
		return false;
	}
	if (*x->caller.space && strcmp(x->caller.space, NAMESPACE) != 0) {
		forbid_namespace(x);
		return false;
	}
	return true;
}

static void serve(struct exchange *x, const struct route *r)
{
	const char *unknown = http_request_unknown_query(x->rq, r->query);
	struct complaint c;

	if (unknown) {
		const char *near = near_match(unknown, r->query);

		(void)complain(&c, PROBLEM_UNKNOWN_QUERY, "",
		               "there is no query parameter \"%.64s\" here%s%s%s", unknown,
		               near ? "; did you mean \"" : "", near ? near : "",
		               near ? "\"?" : "");
		exchange_problem(x, &c);
	} else if (strstr(r->path, "{gid}") && !gid_valid(x->gid, strlen(x->gid))) {
		exchange_fail(x, PROBLEM_INVALID_IDENTIFIER,
		              "a gid is 1 to 128 letters, digits, '.', '_', ':', '~' or '-', and "
		              "neither \".\" nor \"..\"");
	} else {
		r->handler(x);
	}
}

/* Not even an exchange: the answer is made of what is there already. */
static void refuse_without_memory(struct http_request *rq)
{
	static const char text[] =
	    "{\"type\":\"/problems/overloaded\",\"title\":\"Too much work in flight\","
	    "\"status\":503,\"detail\":\"out of memory; try again\",\"code\":\"overloaded\","
	    "\"retryable\":true,\"instance\":\"/\",\"request_id\":\"none\"}";
	static const struct http_header header[] = {{"X-Request-Id", "none"}, {"Retry-After", "1"}};

	http_request_reply(rq, 503, "application/problem+json", text, sizeof text - 1, header, 2);
}

static void on_request(void *ctx, struct http_request *rq)
{
	struct api *a = ctx;
	struct exchange *x = exchange_new(a->node, rq);
	const char *path = http_request_path(rq), *method = http_request_method(rq);
	struct buf allow = BUF_INIT;

	if (!x) {
		refuse_without_memory(rq);
		return;
	}
	for (size_t i = 0; i < N_ROUTE; i++) {
		if (!path_matches(route[i].path, path, x->gid))
			continue;
		if (strcmp(route[i].method, method) == 0) {
			buf_release(&allow);
			if (admit(x, &route[i]))
				serve(x, &route[i]);
			return;
		}
		if (allow.len)
			buf_puts(&allow, ", ");
		buf_puts(&allow, route[i].method);
	}
	if (allow.failed)
		exchange_fail(x, PROBLEM_OVERLOADED, "out of memory; try again");
	else
		refuse(x, path, allow.len ? allow.data : "");
	buf_release(&allow);
}

/* Why the server cannot be started. */
static void explain(const struct config *config, int rc, char *why, size_t size)
{
	if (rc == ERR_PARSE)
		(void)snprintf(
		    why, size,
		    "tls_certificate %.100s and tls_key %.100s are not a certificate and "
		    "the key that belongs to it, both in PEM",
		    config->tls_certificate, config->tls_key);
	else
		(void)snprintf(why, size,
		               rc == ERR_EXISTS
		                   ? "cannot listen on %s: the port is in use; stop who uses it or "
		                     "choose another with --listen ADDRESS:PORT"
		                   : "cannot listen on %s: is this an address of this machine?",
		               config->listen);
}

/* Clients must not take the descriptors without which nobody can be called. */
static unsigned connection_max(const struct config *config)
{
	rlim_t max = (rlim_t)config->connection_max, most;
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= max + OTHERS)
		return (unsigned)max;
	most = limit.rlim_cur > 2 * OTHERS ? limit.rlim_cur - OTHERS : limit.rlim_cur / 2;
	if (most >= max)
		return (unsigned)max;
	log_warn(NULL,
	         "this process may have %llu open files: at most %llu connections instead of "
	         "connection_max, %llu; raise the limit (LimitNOFILE=, ulimit -n)",
	         (unsigned long long)limit.rlim_cur, (unsigned long long)most,
	         (unsigned long long)max);
	return (unsigned)most;
}

int api_new(struct node *node, struct api **out, char *why, size_t why_size)
{
	struct api *a = calloc(1, sizeof *a);
	const struct config *config = node->config;
	int rc;

	if (!a)
		return ERR_NOMEM;
	a->node = node;
	rc = http_server_new(node->loop,
	                     &(struct http_server_config){
	                         .host = config->listen_host,
	                         .port = config->listen_port,
	                         .connection_max = connection_max(config),
	                         .body_max = BODY_MAX,
	                         .bodies_max = BODIES_MAX,
	                         .idle_timeout_s = (unsigned)config->client_timeout_s,
	                         .tls_certificate = config->tls_certificate_pem.data,
	                         .tls_key = config->tls_key_pem.data,
	                         .handler = on_request,
	                         .ctx = a,
	                     },
	                     &a->server);
	if (rc < 0) {
		explain(config, rc, why, why_size);
		free(a);
		return rc;
	}
	*out = a;
	return 0;
}

uint16_t api_port(const struct api *a)
{
	return http_server_port(a->server);
}

void api_quiesce(struct api *a)
{
	http_server_quiesce(a->server);
}

bool api_idle(const struct api *a)
{
	return http_server_open(a->server) == 0;
}

void api_free(struct api *a)
{
	if (!a)
		return;
	http_server_free(a->server);
	free(a);
}
