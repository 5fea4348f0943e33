/*
 * http_request.c - the handler's view of a request.
 */
#include <string.h>

#include "io/http_private.h"

const struct http_server *http_request_server(const struct http_request *rq)
{
	return rq->server;
}

const char *http_request_method(const struct http_request *rq)
{
	return rq->method;
}

const char *http_request_path(const struct http_request *rq)
{
	return rq->path;
}

const char *http_request_header(const struct http_request *rq, const char *name)
{
	if (rq->connection == NULL)
		return NULL;
	return MHD_lookup_connection_value(rq->connection, MHD_HEADER_KIND, name);
}

struct query_lookup {
	const char *name;         /* found: its value */
	const char *const *known; /* found: a name that is not among these */
	const char *found;
};

static bool name_listed(const char *const *list, const char *name)
{
	for (; *list != NULL; list++) {
		size_t len = strlen(*list);

		if (strcmp(*list, name) == 0)
			return true;
		if (len > 0 && (*list)[len - 1] == '.' && strncmp(*list, name, len) == 0)
			return true;
	}
	return false;
}

static enum MHD_Result query_visit(void *cls, enum MHD_ValueKind kind, const char *key,
                                   const char *value)
{
	struct query_lookup *q = cls;

	(void)kind;
	if (q->name != NULL && strcmp(key, q->name) == 0)
		q->found = value != NULL ? value : "";
	if (q->known != NULL && !name_listed(q->known, key))
		q->found = key;
	return q->found == NULL ? MHD_YES : MHD_NO;
}

static const char *query_find(const struct http_request *rq, struct query_lookup q)
{
	if (rq->connection != NULL)
		MHD_get_connection_values(rq->connection, MHD_GET_ARGUMENT_KIND, query_visit, &q);
	return q.found;
}

const char *http_request_query(const struct http_request *rq, const char *name)
{
	return query_find(rq, (struct query_lookup){.name = name});
}

const char *http_request_unknown_query(const struct http_request *rq, const char *const *known)
{
	return query_find(rq, (struct query_lookup){.known = known});
}

struct query_walk {
	http_query_fn *fn;
	void *ctx;
};

static enum MHD_Result query_step(void *cls, enum MHD_ValueKind kind, const char *key,
                                  const char *value)
{
	const struct query_walk *w = cls;

	(void)kind;
	return w->fn(w->ctx, key, value != NULL ? value : "") ? MHD_YES : MHD_NO;
}

void http_request_each_query(const struct http_request *rq, http_query_fn *fn, void *ctx)
{
	struct query_walk w = {.fn = fn, .ctx = ctx};

	if (rq->connection != NULL)
		MHD_get_connection_values(rq->connection, MHD_GET_ARGUMENT_KIND, query_step, &w);
}

const char *http_request_body(const struct http_request *rq, size_t *len)
{
	*len = rq->body.len;
	return rq->body.data != NULL ? rq->body.data : "";
}

bool http_request_too_large(const struct http_request *rq)
{
	return rq->too_large;
}

bool http_request_no_room(const struct http_request *rq)
{
	return rq->no_room;
}

int64_t http_request_started_us(const struct http_request *rq)
{
	return rq->started_us;
}

void http_request_set_data(struct http_request *rq, void *data)
{
	rq->data = data;
}

void *http_request_data(const struct http_request *rq)
{
	return rq->data;
}
