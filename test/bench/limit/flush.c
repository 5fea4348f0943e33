#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "io/sql.h"
#include "test/bench/limit/limit.h"

#define SHARDS          64
#define INTERVAL_US     1000 /* as assentd has it */
#define BUSY_ABOVE      16
#define LAZY_US         20000
#define CREATE_COLUMNS  15
#define UPDATE_COLUMNS  9
#define HISTORY_COLUMNS 11

struct rows {
	enum sql_write statement;
	unsigned n_column;
	size_t n_row;
	struct buf column[CREATE_COLUMNS];
};

static PGconn *pg;
static bool flying;
static bool urgent; /* somebody waits for what is queued */
static int64_t flushed_us;
static struct txn *queue, **queue_tail = &queue;
static struct txn *fly;
static int64_t epoch[SHARDS];
static struct rows create = {.statement = SQL_CREATE, .n_column = CREATE_COLUMNS};
static struct rows update = {.statement = SQL_UPDATE, .n_column = UPDATE_COLUMNS};
static struct rows history = {.statement = SQL_HISTORY, .n_column = HISTORY_COLUMNS};

static enum pg_type element_of(enum pg_type array)
{
	static const enum pg_type type[][2] = {
	    {PG_TEXT_ARRAY, PG_TEXT},   {PG_INT2_ARRAY, PG_INT2},
	    {PG_INT4_ARRAY, PG_INT4},   {PG_INT8_ARRAY, PG_INT8},
	    {PG_BYTEA_ARRAY, PG_BYTEA}, {PG_TIMESTAMPTZ_ARRAY, PG_TIMESTAMPTZ},
	};

	for (size_t i = 0; i < sizeof type / sizeof type[0]; i++)
		if (type[i][0] == array)
			return type[i][1];
	die("a statement has other parameters than this knows");
}

static struct buf *rows_next(struct rows *r)
{
	for (unsigned i = 0; r->n_row == 0 && i < r->n_column; i++) {
		buf_reset(&r->column[i]);
		pg_array_begin(&r->column[i],
		               element_of(sql_write_statement[r->statement].param[i]));
	}
	r->n_row++;
	return r->column;
}

static void rows_send(struct rows *r, const char *extra)
{
	const struct pg_statement *s = &sql_write_statement[r->statement];
	const char *value[PG_PARAM_MAX];
	int len[PG_PARAM_MAX], format[PG_PARAM_MAX];

	if (r->n_row == 0)
		return;
	for (unsigned i = 0; i < s->n_param; i++) {
		value[i] = i < r->n_column ? r->column[i].data : extra;
		len[i] = i < r->n_column ? (int)r->column[i].len : (int)strlen(extra);
		format[i] = 1;
	}
	if (!PQsendQueryPrepared(pg, s->name, (int)s->n_param, value, len, format, 1))
		die(PQerrorMessage(pg));
	r->n_row = 0;
}

static int64_t now_pg_us(void)
{
	return clock_wall_us() - PG_EPOCH_US;
}

static void add_time_if(struct buf *column, bool known)
{
	if (known)
		pg_array_add_int8(column, now_pg_us());
	else
		pg_array_add_null(column);
}

static void add_owner(struct buf *column, const struct txn *t)
{
	size_t len = strlen(t->gid);
	int16_t shard = (int16_t)(t->gid[len - 1] % SHARDS);

	pg_array_add_bytes(&column[0], t->gid, len);
	pg_array_add_int2(&column[1], shard);
	pg_array_add_int8(&column[2], epoch[shard]);
}

static void add_state(struct rows *r, const struct txn *t)
{
	struct buf *column = rows_next(r);
	static const char nothing[32 + 8 * BRANCH_MAX];
	bool ended = t->phase == PHASE_END || (t->phase == PHASE_DECIDE && !limit.mode->second);

	add_owner(column, t);
	pg_array_add_int2(&column[3], (int16_t)(ended ? 4 : 2));
	pg_array_add_int2(&column[4], t->phase >= PHASE_DECIDE ? 1 : 0);
	add_time_if(&column[5], t->phase >= PHASE_DECIDE);
	add_time_if(&column[6], ended);
	pg_array_add_bytes(&column[7], "\1\1\1\1", limit.n_participant);
	add_time_if(&column[8], true);
	if (r->n_column == UPDATE_COLUMNS)
		return;
	pg_array_add_int2(&column[9], 1);
	add_time_if(&column[10], true);
	pg_array_add_bytes(&column[11], nothing, 32);
	pg_array_add_bytes(&column[12], t->body, t->len);
	pg_array_add_bytes(&column[13], nothing, (size_t)8 * limit.n_participant);
	pg_array_add_null(&column[14]);
}

void flush_attempt(const struct txn *t, unsigned branch, int64_t started_us)
{
	struct buf *column = rows_next(&history);
	char id[] = {'b', (char)('0' + branch), '\0'};

	add_owner(column, t);
	pg_array_add_bytes(&column[3], id, 2);
	pg_array_add_int2(&column[4], (int16_t)t->phase);
	pg_array_add_int4(&column[5], 1);
	pg_array_add_int8(&column[6], started_us - PG_EPOCH_US);
	add_time_if(&column[7], true);
	pg_array_add_int2(&column[8], 200);
	pg_array_add_int2(&column[9], 1);
	pg_array_add_null(&column[10]);
}

void flush_enqueue(struct txn *t, enum phase phase)
{
	t->phase = phase;
	t->next = NULL;
	*queue_tail = t;
	queue_tail = &t->next;
	urgent |= phase != PHASE_END;
}

int64_t flush_due_us(void)
{
	if (flying || (!queue && history.n_row == 0))
		return INT64_MAX;
	if (!urgent)
		return flushed_us + LAZY_US;
	return limit.in_flight > BUSY_ABOVE ? flushed_us + INTERVAL_US : 0;
}

int flush_fd(void)
{
	return PQsocket(pg);
}

static void push_out(void)
{
	watch(flush_fd(), EPOLL_CTL_MOD, PQflush(pg) ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

void flush_send(void)
{
	fly = queue;
	queue = NULL;
	queue_tail = &queue;
	urgent = false;
	flying = true;
	flushed_us = clock_mono_us();
	for (const struct txn *t = fly; t; t = t->next)
		add_state(t->phase == PHASE_CREATE ? &create : &update, t);
	rows_send(&create, "");
	rows_send(&update, "");
	rows_send(&history, "limit");
	if (!PQpipelineSync(pg))
		die(PQerrorMessage(pg));
	push_out();
}

static void go_on(struct txn *t)
{
	switch (t->phase) {
	case PHASE_CREATE:
		if (!limit.mode->first) {
			txn_answer(t);
			return;
		}
		t->phase = PHASE_PREPARE;
		calls_start(t, limit.mode->first);
		return;
	case PHASE_AGREE:
		t->phase = PHASE_PRE_COMMIT;
		calls_start(t, limit.mode->middle);
		return;
	case PHASE_DECIDE:
		t->phase = PHASE_COMMIT;
		if (limit.mode->second)
			calls_start(t, limit.mode->second);
		else
			txn_answer(t);
		return;
	case PHASE_PREPARE:
	case PHASE_PRE_COMMIT:
	case PHASE_COMMIT:
	case PHASE_END:
		break;
	}
	txn_free(t);
}

void flush_ready(void)
{
	if (!PQconsumeInput(pg))
		die(PQerrorMessage(pg));
	push_out();
	while (flying && !PQisBusy(pg)) {
		PGresult *r = PQgetResult(pg);
		ExecStatusType status = PQresultStatus(r);

		if (r && status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK &&
		    status != PGRES_PIPELINE_SYNC)
			die(PQresultErrorMessage(r));
		PQclear(r);
		flying = !r || status != PGRES_PIPELINE_SYNC;
	}
	while (!flying && fly) {
		struct txn *t = fly;

		fly = t->next;
		go_on(t);
	}
}

/* Blocking, before anything is served. */
static void run(const char *sql)
{
	PGresult *r = PQexec(pg, sql);

	if (PQresultStatus(r) != PGRES_COMMAND_OK && PQresultStatus(r) != PGRES_TUPLES_OK)
		die(PQerrorMessage(pg));
	for (int i = 0; i < PQntuples(r); i++)
		epoch[strtoul(PQgetvalue(r, i, 0), NULL, 10) % SHARDS] = strtoll(
		    PQgetvalue(r, i, 1), NULL, 10);
	PQclear(r);
}

static void prepare(enum sql_write which)
{
	const struct pg_statement *s = &sql_write_statement[which];
	Oid type[PG_PARAM_MAX];

	for (unsigned k = 0; k < s->n_param; k++)
		type[k] = (Oid)s->param[k];
	PQclear(PQprepare(pg, s->name, s->sql, (int)s->n_param, type));
}

void flush_init(const char *conninfo)
{
	pg = PQconnectdb(conninfo);
	if (PQstatus(pg) != CONNECTION_OK)
		die(PQerrorMessage(pg));
	for (size_t i = 0; sql_write_setup[i]; i++)
		run(sql_write_setup[i]);
	run("UPDATE assent.shard SET epoch = epoch + 1 RETURNING shard, epoch");
	prepare(SQL_CREATE);
	prepare(SQL_UPDATE);
	prepare(SQL_HISTORY);
	if (PQsetnonblocking(pg, 1) != 0 || !PQenterPipelineMode(pg))
		die("no pipeline");
	watch(flush_fd(), EPOLL_CTL_ADD, EPOLLIN);
}
