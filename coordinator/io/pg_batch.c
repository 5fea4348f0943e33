/*
 * pg_batch.c - batches of a session: building, sending, collecting results.
 *
 * Everything up to a sync is one implicit transaction. Its end is known only when the sync has
 * come: a statement's success precedes the commit, a deferred error may follow it, and the sync
 * comes after a failure too.
 */
#include <assert.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/unconst.h"
#include "io/pg_private.h"

void pg_copy_line(char *to, size_t size, const char *from)
{
	size_t len = strcspn(from, "\n");

	if (len > size - 1)
		len = size - 1;
	memcpy(to, from, len);
	to[len] = '\0';
}

const char *pg_field(const PGresult *res, int code)
{
	const char *text = PQresultErrorField(res, code);

	return text != NULL ? text : "";
}

bool pg_severity_fatal(const PGresult *res)
{
	const char *severity = pg_field(res, PG_DIAG_SEVERITY_NONLOCALIZED);

	return strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0;
}

void pg_batch_free(struct pg_batch *b)
{
	for (size_t i = 0; i < b->n_result; i++)
		PQclear(b->result[i]);
	free((void *)b->result);
	free(b);
}

/* `b` is off the list. */
static void batch_end(struct pg_batch *b)
{
	struct pg_outcome outcome = {
	    .err = b->err,
	    .failed = b->failed,
	    .message = b->message,
	};

	memcpy(outcome.sqlstate, b->sqlstate, sizeof(outcome.sqlstate));
	if (b->err == 0) {
		outcome.result = (const struct pg_result *const *)(void *)b->result;
		outcome.n_result = b->n_result;
	}
	if (!b->pg->freed && b->done != NULL)
		b->done(b->ctx, &outcome);
	pg_batch_free(b);
}

static void batch_lose(struct pg_batch *b, const char *why)
{
	b->err = ERR_LOST;
	b->sqlstate[0] = '\0';
	pg_copy_line(b->message, sizeof(b->message), why);
}

struct pg_batch *pg_batch_new(struct pg *p)
{
	struct pg_batch *b = calloc(1, sizeof(*b));

	if (b == NULL)
		return NULL;
	b->pg = p;
	list_init(&b->link);
	return b;
}

static bool batch_keep(struct pg_batch *b, PGresult *res)
{
	if (b->n_result == b->cap) {
		size_t cap = b->cap > 0 ? 2 * b->cap : 4;
		PGresult **more = realloc((void *)b->result, cap * sizeof(PGresult *));

		if (more == NULL)
			return false;
		b->result = more;
		b->cap = cap;
	}
	b->result[b->n_result++] = res;
	return true;
}

static int err_of_sqlstate(const char *state)
{
	return strncmp(state, "22", 2) == 0 || strncmp(state, "23", 2) == 0 ? ERR_DATA : ERR_IO;
}

/* A failure of the batch, or, when it is the session's, the session's end. */
static void batch_fail(struct pg_batch *b, const PGresult *res)
{
	const char *state = pg_field(res, PG_DIAG_SQLSTATE);
	struct pg *p = b->pg;

	if (state[0] == '\0' || pg_severity_fatal(res) || PQstatus(p->conn) == CONNECTION_BAD) {
		const char *text = pg_field(res, PG_DIAG_MESSAGE_PRIMARY);

		pg_session_doom(p, text[0] != '\0' ? text : PQerrorMessage(p->conn));
		return;
	}
	if (b->err != 0)
		return;
	b->err = err_of_sqlstate(state);
	b->failed = b->n_result;
	pg_copy_line(b->sqlstate, sizeof(b->sqlstate), state);
	pg_copy_line(b->message, sizeof(b->message), pg_field(res, PG_DIAG_MESSAGE_PRIMARY));
}

static void batch_result(struct pg_batch *b, PGresult *res)
{
	struct pg *p = b->pg;

	switch (PQresultStatus(res)) {
	case PGRES_TUPLES_OK:
	case PGRES_COMMAND_OK:
	case PGRES_EMPTY_QUERY:
		if (batch_keep(b, res))
			return;
		pg_session_doom(p, "out of memory");
		break;
	case PGRES_PIPELINE_SYNC:
		list_remove(&b->link);
		p->moved_us = clock_mono_us();
		if (b->err == 0 && p->state == PG_UP)
			p->backoff_us = 0;
		batch_end(b);
		break;
	case PGRES_PIPELINE_ABORTED: /* an earlier statement of the batch failed */
		break;
	case PGRES_FATAL_ERROR:
		batch_fail(b, res);
		break;
	case PGRES_COPY_OUT:
	case PGRES_COPY_IN:
	case PGRES_COPY_BOTH:
	case PGRES_BAD_RESPONSE:
	case PGRES_NONFATAL_ERROR:
	case PGRES_SINGLE_TUPLE:
		pg_session_doom(p, "unexpected answer from the server");
		break;
	}
	PQclear(res);
}

/* Reads what has come, one result at a time. A NULL result ends a statement, not the batch. */
void pg_batches_read(struct pg *p)
{
	bool ended = false;

	/* PQisBusy parses the input, notices of an idle session included. */
	while (!p->doomed && !p->freed && !PQisBusy(p->conn) && !list_empty(&p->batches)) {
		PGresult *res = PQgetResult(p->conn);

		/* A notice that came with it may have ended the session: trust nothing then. */
		if ((res == NULL && ended) || p->doomed) {
			PQclear(res);
			return;
		}
		ended = res == NULL;
		if (res != NULL)
			batch_result(container_of(p->batches.next, struct pg_batch, link), res);
	}
}

void pg_batches_lose(struct pg *p, const char *why)
{
	struct list lost, *e;

	list_init(&lost);
	list_splice(&lost, &p->batches);
	while ((e = list_pop(&lost)) != NULL) {
		struct pg_batch *b = container_of(e, struct pg_batch, link);

		batch_lose(b, why);
		batch_end(b);
	}
}

/* Looks only now and then: a timer for every batch would cost more than it tells. */
void pg_batches_guard(struct pg *p)
{
	int64_t due_us = p->moved_us + p->config.stall_us;

	p->guarded = p->config.stall_us > 0 && !list_empty(&p->batches);
	if (!p->guarded)
		return;
	if (clock_mono_us() < due_us)
		loop_timer_set(p->timer, due_us);
	else
		pg_session_doom(p, "the database takes too long to answer");
}

void pg_batch_sync(struct pg_batch *b)
{
	struct pg *p = b->pg;

	if (list_empty(&p->batches))
		p->moved_us = clock_mono_us();
	list_push(&p->batches, &b->link);
	if (!p->guarded && p->state == PG_UP)
		pg_batches_guard(p);
	if (p->state == PG_DOWN)
		loop_timer_set(p->drop, 0);
	else if (b->unsent || PQpipelineSync(p->conn) != 1)
		pg_session_doom(p,
		                b->unsent ? "a batch could not be sent" : PQerrorMessage(p->conn));
	else
		pg_session_watch(p);
}

struct pg_batch *pg_batch_begin(struct pg *p)
{
	if (!pg_up(p))
		return NULL;
	assert(p->building == NULL);
	p->building = pg_batch_new(p);
	return p->building;
}

void pg_batch_add(struct pg_batch *b, size_t which, const struct pg_param *param)
{
	const struct pg_statement *s = &b->pg->config.statement[which];
	const char *value[PG_PARAM_MAX];
	int len[PG_PARAM_MAX];
	int format[PG_PARAM_MAX];

	assert(which < b->pg->config.n_statement);
	assert(s->n_param <= PG_PARAM_MAX);
	b->n_statement++;
	for (unsigned i = 0; i < s->n_param; i++) {
		if (param[i].len > INT_MAX)
			b->unsent = true;
		value[i] = param[i].data;
		len[i] = (int)param[i].len;
		format[i] = 1;
	}
	if (!b->unsent &&
	    PQsendQueryPrepared(b->pg->conn, s->name, (int)s->n_param, value, len, format, 1) != 1)
		b->unsent = true;
}

void pg_batch_send(struct pg_batch *b, pg_done_fn *done, void *ctx)
{
	struct pg *p = b->pg;

	assert(p->building == b);
	p->building = NULL;
	b->done = done;
	b->ctx = ctx;
	pg_batch_sync(b);
}

/* --- results --- */

/* libpq's readers do not write to it, whatever some of their prototypes say. */
static PGresult *result_of(const struct pg_result *r)
{
	return unconst(r);
}

size_t pg_rows(const struct pg_result *r)
{
	return (size_t)PQntuples(result_of(r));
}

bool pg_null(const struct pg_result *r, size_t row, unsigned col)
{
	return PQgetisnull(result_of(r), (int)row, (int)col) == 1;
}

int64_t pg_int(const struct pg_result *r, size_t row, unsigned col)
{
	size_t len;
	const char *data = pg_bytes(r, row, col, &len);
	uint64_t v = 0;

	assert(len == 1 || len == 2 || len == 4 || len == 8);
	for (size_t i = 0; i < len; i++)
		v = v << 8 | (unsigned char)data[i];
	if (len == 2)
		return (int16_t)v;
	if (len == 4)
		return (int32_t)v;
	return (int64_t)v;
}

const char *pg_bytes(const struct pg_result *r, size_t row, unsigned col, size_t *len)
{
	*len = (size_t)PQgetlength(result_of(r), (int)row, (int)col);
	return PQgetvalue(result_of(r), (int)row, (int)col);
}

size_t pg_touched(const struct pg_result *r)
{
	return (size_t)strtoull(PQcmdTuples(result_of(r)), NULL, 10);
}
