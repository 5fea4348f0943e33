#include "api/exchange.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/crash.h"
#include "base/log.h"
#include "io/digest.h"

#define WAIT_MAX_S 60

#define REQUEST_ID_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

/* A client's own id is echoed when it can do no harm in a header or a log. */
static void choose_request_id(struct exchange *x)
{
	const char *given = http_request_header(x->rq, "X-Request-Id");
	size_t len = given ? strlen(given) : 0;
	uint64_t random;

	if (len > 0 && len < sizeof x->request_id && strspn(given, REQUEST_ID_CHARS) == len) {
		memcpy(x->request_id, given, len + 1);
		return;
	}
	digest_random(&random, sizeof random);
	(void)snprintf(x->request_id, sizeof x->request_id, "%016llx", (unsigned long long)random);
}

struct exchange *exchange_new(struct node *node, struct http_request *rq)
{
	struct exchange *x = calloc(1, sizeof *x);

	if (!x)
		return NULL;
	x->node = node;
	x->rq = rq;
	choose_request_id(x);
	return x;
}

static void finish(struct exchange *x, int status, const char *content_type, struct buf *body,
                   const struct http_header *extra, size_t n_extra)
{
	struct http_header header[4] = {{"X-Request-Id", x->request_id}};
	size_t n = 1;

	for (size_t i = 0; i < n_extra && n < 4; i++)
		header[n++] = extra[i];
	if (body->failed) {
		/* Out of memory while writing the reply: say so without any. */
		char text[320];
		int len = snprintf(text, sizeof text,
		                   "{\"type\":\"/problems/overloaded\",\"title\":\"Too much work "
		                   "in flight\",\"status\":503,\"detail\":\"out of memory; try "
		                   "again\",\"instance\":\"/\",\"code\":\"overloaded\","
		                   "\"retryable\":true,\"request_id\":\"%s\"}",
		                   x->request_id);

		status = 503;
		header[1] = (struct http_header){"Retry-After", "1"};
		http_request_reply(x->rq, status, "application/problem+json", text, (size_t)len,
		                   header, 2);
	} else {
		crash_point(CRASH_ANSWER_BEFORE_SEND);
		http_request_reply(x->rq, status, content_type, body->data ? body->data : "",
		                   body->len, header, n);
	}
	metrics_count_request(&x->node->metrics, status);
	buf_release(body);
	free(x);
}

void exchange_reply(struct exchange *x, int status, const char *content_type, struct buf *body,
                    const char *location)
{
	finish(x, status, content_type, body, &(struct http_header){"Location", location},
	       location ? 1 : 0);
}

/* NOLINTNEXTLINE(readability-function-size): what a reply consists of */
void exchange_reply_with(struct exchange *x, int status, const char *content_type, struct buf *body,
                         const struct http_header *header, size_t n_header)
{
	finish(x, status, content_type, body, header, n_header);
}

void exchange_json(struct exchange *x, int status, struct buf *body, const char *location)
{
	exchange_reply(x, status, "application/json", body, location);
}

void exchange_put_confirmed(const struct exchange *x, struct buf *body)
{
	buf_printf(body, ",\"confirmed\":%s", node_ready(x->node) ? "true" : "false");
}

static void put_place(const char *pointer, const char *detail, struct buf *out)
{
	buf_puts(out, "{\"pointer\":");
	buf_put_json_str(out, pointer);
	buf_puts(out, ",\"detail\":");
	buf_put_json_str(out, detail);
	buf_putc(out, '}');
}

static void put_problem(const struct exchange *x, const struct complaint *c,
                        const struct place *place, size_t n_place, struct buf *out)
{
	const struct problem_info *info = problem_info(c->problem);

	buf_printf(out, "{\"type\":\"/problems/%s\",\"title\":", info->code);
	buf_put_json_str(out, info->title);
	buf_printf(out, ",\"status\":%d,\"detail\":", info->status);
	buf_put_json_str(out, c->detail);
	buf_puts(out, ",\"instance\":");
	buf_put_json_str(out, http_request_path(x->rq));
	buf_printf(out, ",\"code\":\"%s\",\"retryable\":%s,\"request_id\":\"%s\"", info->code,
	           info->retryable ? "true" : "false", x->request_id);
	if (c->pointer[0] || n_place > 0)
		buf_puts(out, ",\"errors\":[");
	if (c->pointer[0])
		put_place(c->pointer, c->detail, out);
	for (size_t i = 0; i < n_place; i++) {
		if (i > 0 || c->pointer[0])
			buf_putc(out, ',');
		put_place(place[i].pointer, place[i].detail, out);
	}
	if (c->pointer[0] || n_place > 0)
		buf_putc(out, ']');
	buf_putc(out, '}');
}

void exchange_problem(struct exchange *x, const struct complaint *c)
{
	exchange_problem_at(x, c, NULL, 0);
}

void exchange_problem_at(struct exchange *x, const struct complaint *c, const struct place *place,
                         size_t n)
{
	int status = problem_info(c->problem)->status;
	struct buf body = BUF_INIT;

	put_problem(x, c, place, n, &body);
	if (status == 500)
		log_error(x->gid[0] ? x->gid : NULL, "request %s failed: %s", x->request_id,
		          c->detail);
	finish(x, status, "application/problem+json", &body,
	       &(struct http_header){"Retry-After", "1"}, status == 503 ? 1 : 0);
}

void exchange_fail(struct exchange *x, enum problem p, const char *detail)
{
	struct complaint c;

	(void)complain(&c, p, "", "%s", detail);
	exchange_problem(x, &c);
}

void exchange_unauthorized(struct exchange *x, const char *detail)
{
	struct buf body = BUF_INIT;
	struct complaint c;

	(void)complain(&c, PROBLEM_UNAUTHORIZED, "", "%s", detail);
	put_problem(x, &c, NULL, 0, &body);
	finish(x, 401, "application/problem+json", &body,
	       &(struct http_header){"WWW-Authenticate", "Bearer"}, 1);
}

void exchange_method_not_allowed(struct exchange *x, const char *allow)
{
	struct buf body = BUF_INIT;
	struct complaint c;

	(void)complain(&c, PROBLEM_METHOD_NOT_ALLOWED, "", "this path takes %s", allow);
	put_problem(x, &c, NULL, 0, &body);
	finish(x, 405, "application/problem+json", &body, &(struct http_header){"Allow", allow}, 1);
}

/* RFC 7240. What cannot be understood is no preference. */
int64_t prefer_wait_us(const char *prefer)
{
	const char *s = prefer;

	while (s && *s) {
		s += strspn(s, " \t,;");
		if (strncasecmp(s, "wait=", 5) == 0) {
			char *end;
			long seconds = strtol(s + 5, &end, 10);

			if (end == s + 5 || seconds < 0)
				return 0;
			return (int64_t)(seconds > WAIT_MAX_S ? WAIT_MAX_S : seconds) * 1000000;
		}
		s += strcspn(s, ",;");
	}
	return 0;
}

/* Whoever waits keeps a connection, and nothing tells us that it has gone away: half of them are for
 * those who do not wait, participants in doubt and people among them. */
int64_t exchange_preferred_wait_us(const struct exchange *x)
{
	if (http_server_is_crowded(http_request_server(x->rq)))
		return 0;
	return prefer_wait_us(http_request_header(x->rq, "Prefer"));
}

static bool is_json(const struct http_request *rq)
{
	const char *type = http_request_header(rq, "Content-Type");
	size_t len = type ? strcspn(type, "; \t") : 0;

	return len == strlen("application/json") && strncasecmp(type, "application/json", len) == 0;
}

/* Refusals that need no look at the body. */
enum problem exchange_refuse_early(const struct exchange *x, bool json, struct complaint *c)
{
	if (http_request_too_large(x->rq))
		return complain(c, PROBLEM_BODY_TOO_LARGE, "", "a body has at most 1 MiB");
	if (http_request_no_room(x->rq))
		return complain(c, PROBLEM_OVERLOADED, "",
		                "the bodies of requests under way take too much memory; try again");
	if (json && !is_json(x->rq))
		return complain(c, PROBLEM_UNSUPPORTED_MEDIA_TYPE, "",
		                "send Content-Type: application/json");
	if (x->node->draining)
		return complain(c, PROBLEM_NOT_READY, "", "this node is stopping");
	if (!node_ready(x->node))
		return complain(c, PROBLEM_NOT_READY, "", "not ready: %s", x->node->waiting_for);
	return PROBLEM_NONE;
}
