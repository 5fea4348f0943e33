/*
 * pg_world.c - a session on the test's own PostgreSQL.
 */
#include "pg_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "loop_test.h"

static const struct pg_statement statements[S_MAX] = {
    [S_PUT] = {"put",
               "INSERT INTO t SELECT * FROM unnest($1::int8[], $2::text[]) RETURNING id",
               {PG_INT8_ARRAY, PG_TEXT_ARRAY},
               2},
    [S_COUNT] = {"count", "SELECT count(*) FROM t", {0}, 0},
    [S_DIVIDE] = {"divide", "SELECT 1 / $1", {PG_INT4}, 1},
    [S_LATER] = {"later", "INSERT INTO later VALUES ($1)", {PG_INT8}, 1},
    [S_WARN_LATER] = {"warn_later", "INSERT INTO warned VALUES (1)", {0}, 0},
    [S_WARN] = {"warn", "SELECT warn()", {0}, 0},
    [S_ECHO] = {"echo",
                "SELECT $1, $2, $3, $4, $5, $6",
                {PG_INT2, PG_INT4, PG_INT8, PG_BOOL, PG_TEXT, PG_BYTEA},
                6},
    [S_SLEEP] = {"sleep", "SELECT pg_sleep(60)", {0}, 0},
    [S_PID] = {"pid", "SELECT pg_backend_pid(), current_setting('lock_timeout')", {0}, 0},
    [S_BIG] = {"big", "SELECT repeat('x', $1)", {PG_INT4}, 1},
    [S_LEN] = {"len", "SELECT length($1)", {PG_TEXT}, 1},
};

static const char *const setup_sql[] = {
    "SET lock_timeout = '7s'; SET synchronous_commit = on",
    "SET enable_seqscan = off",
    NULL,
};

struct private_pg *pg_world_server;

void pg_world_sql(const char *sql)
{
	char message[256];

	if (pg_run(private_pg_conninfo(pg_world_server), &sql, 1, NULL, message, sizeof(message)) !=
	    0)
		fail_msg("%s: %s", sql, message);
}

int pg_world_group_setup(void **state)
{
	(void)state;
	pg_world_server = private_pg_start();
	return pg_world_server != NULL ? 0 : -1;
}

int pg_world_group_teardown(void **state)
{
	(void)state;
	private_pg_stop(pg_world_server);
	return 0;
}

void pg_world_up(void *ctx)
{
	((struct pg_world *)ctx)->n_up++;
}

void pg_world_down(void *ctx, const char *why)
{
	struct pg_world *w = ctx;

	w->n_down++;
	snprintf(w->why, sizeof(w->why), "%s", why);
	assert_null(strchr(why, '\n'));
	assert_null(strstr(why, "geheim"));
	assert_false(pg_up(w->pg));
	assert_null(pg_batch_begin(w->pg));
}

void pg_world_open(struct pg_world *w, const char *conninfo)
{
	struct pg_config config = {
	    .conninfo = conninfo,
	    .application_name = "assent test",
	    .setup = setup_sql,
	    .statement = statements,
	    .n_statement = S_MAX,
	    .on_up = pg_world_up,
	    .on_down = pg_world_down,
	    .ctx = w,
	};

	assert_int_equal(pg_new(w->loop, &config, &w->pg), 0);
	assert_false(pg_up(w->pg));
}

int pg_world_setup(void **state)
{
	struct pg_world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	pg_world_sql(
	    "DROP TABLE IF EXISTS t, later, warned; CREATE TABLE t (id int8 PRIMARY KEY, v text);"
	    "CREATE TABLE later (id int8 UNIQUE DEFERRABLE INITIALLY DEFERRED);"
	    "CREATE OR REPLACE FUNCTION warn() RETURNS void LANGUAGE plpgsql AS"
	    " 'BEGIN RAISE WARNING ''careful''; END';"
	    "CREATE OR REPLACE FUNCTION warn_later() RETURNS trigger LANGUAGE plpgsql AS"
	    " 'BEGIN RAISE WARNING ''too late''; RETURN NULL; END';"
	    "CREATE TABLE warned (i int); CREATE CONSTRAINT TRIGGER w AFTER INSERT ON warned"
	    " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION warn_later()");
	w->loop = loop_new();
	assert_non_null(w->loop);
	pg_world_open(w, private_pg_conninfo(pg_world_server));
	loop_until_count(w->loop, &w->n_up, 1);
	assert_true(pg_up(w->pg));
	*state = w;
	return 0;
}

int pg_world_teardown(void **state)
{
	struct pg_world *w = *state;

	pg_free(w->pg);
	loop_free(w->loop);
	free(w);
	return 0;
}

/* --- batches --- */

void pg_world_done(void *ctx, const struct pg_outcome *outcome)
{
	struct pg_world *w = ctx;

	w->last = *outcome;
	w->err[w->n_done++ % 512] = outcome->err;
	if (outcome->err != 0) {
		w->bad = *outcome;
		snprintf(w->message, sizeof(w->message), "%s", outcome->message);
	}
	assert_int_equal(outcome->err == 0,
	                 outcome->sqlstate[0] == '\0' && outcome->message[0] == '\0');
	if (outcome->n_result > 0) {
		const struct pg_result *r = outcome->result[outcome->n_result - 1];

		if (pg_rows(r) > 0 && !pg_null(r, 0, 0))
			w->value = pg_int(r, 0, 0);
	}
	if (w->free_in_done) {
		pg_free(w->pg);
		w->pg = NULL;
	}
	if (w->chain) {
		struct pg_batch *b = pg_batch_begin(w->pg);

		w->chain = false;
		assert_non_null(b);
		pg_batch_add(b, S_COUNT, NULL);
		pg_batch_send(b, pg_world_done, w);
	}
}

void pg_world_add_put(struct pg_batch *b, int64_t first, unsigned n)
{
	struct buf id = BUF_INIT, text = BUF_INIT;
	struct pg_param param[2];

	pg_array_begin(&id, PG_INT8);
	pg_array_begin(&text, PG_TEXT);
	for (unsigned i = 0; i < n; i++) {
		pg_array_add_int8(&id, first + i);
		if (i % 2 == 0)
			pg_array_add_bytes(&text, "even", 4);
		else
			pg_array_add_null(&text);
	}
	pg_array_end(&id);
	pg_array_end(&text);
	assert_false(id.failed || text.failed);
	param[0] = (struct pg_param){id.data, id.len};
	param[1] = (struct pg_param){text.data, text.len};
	pg_batch_add(b, S_PUT, param);
	buf_release(&id);
	buf_release(&text);
}

void pg_world_add_int(struct pg_batch *b, size_t which, int64_t v)
{
	struct buf out = BUF_INIT;

	if (statements[which].param[0] == PG_INT4)
		pg_put_int4(&out, (int32_t)v);
	else
		pg_put_int8(&out, v);
	pg_batch_add(b, which, &(struct pg_param){out.data, out.len});
	buf_release(&out);
}

struct pg_batch *pg_world_begin(struct pg_world *w)
{
	struct pg_batch *b = pg_batch_begin(w->pg);

	assert_non_null(b);
	return b;
}

void pg_world_send(struct pg_world *w, struct pg_batch *b)
{
	unsigned before = w->n_done;

	pg_batch_send(b, pg_world_done, w);
	assert_int_equal(w->n_done, before);
}

void pg_world_put(struct pg_world *w, int64_t first, unsigned n)
{
	struct pg_batch *b = pg_world_begin(w);

	pg_world_add_put(b, first, n);
	pg_world_send(w, b);
}

int64_t pg_world_count(struct pg_world *w)
{
	struct pg_batch *b = pg_world_begin(w);
	unsigned before = w->n_done;

	pg_batch_add(b, S_COUNT, NULL);
	pg_world_send(w, b);
	loop_until_count(w->loop, &w->n_done, before + 1);
	assert_int_equal(w->last.err, 0);
	return w->value;
}
