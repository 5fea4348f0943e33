/*
 * test_pg.c - the PostgreSQL session against a real server that is terminated and restarted.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "io/listen.h"
#include "io/pg.h"
#include "loop_test.h"
#include "private_pg.h"

enum statement {
	S_PUT,    /* int8[], text[]: rows into t */
	S_COUNT,  /* rows of t */
	S_DIVIDE, /* 1 / int4 */
	S_LATER,  /* a row whose constraint is checked at the commit */
	S_WARN,
	S_WARN_LATER, /* the warning comes with the commit */
	S_ECHO,       /* int2, int4, int8, bool, text, bytea */
	S_SLEEP,
	S_PID,
	S_BIG, /* int4 bytes of text */
	S_LEN, /* length of text */
	S_MAX,
};

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

static struct private_pg *server;

struct world {
	struct loop *loop;
	struct pg *pg;
	unsigned n_up;
	unsigned n_down;
	char why[256];
	unsigned n_done;
	int err[512];
	struct pg_outcome last; /* pointers in it are stale */
	struct pg_outcome bad;  /* the last failure */
	char message[256];
	int64_t value; /* first column of the last result */
	bool chain;    /* one more batch from inside each callback, once */
	bool free_in_done;
};

static void sql_run(const char *sql)
{
	char message[256];

	if (pg_run(private_pg_conninfo(server), &sql, 1, NULL, message, sizeof(message)) != 0)
		fail_msg("%s: %s", sql, message);
}

static int group_setup(void **state)
{
	(void)state;
	server = private_pg_start();
	return server != NULL ? 0 : -1;
}

static int group_teardown(void **state)
{
	(void)state;
	private_pg_stop(server);
	return 0;
}

static void world_up(void *ctx)
{
	((struct world *)ctx)->n_up++;
}

static void world_down(void *ctx, const char *why)
{
	struct world *w = ctx;

	w->n_down++;
	snprintf(w->why, sizeof(w->why), "%s", why);
	assert_null(strchr(why, '\n'));
	assert_null(strstr(why, "geheim"));
	assert_false(pg_up(w->pg));
	assert_null(pg_batch_begin(w->pg));
}

static void world_open(struct world *w, const char *conninfo)
{
	struct pg_config config = {
	    .conninfo = conninfo,
	    .application_name = "assent test",
	    .setup = setup_sql,
	    .statement = statements,
	    .n_statement = S_MAX,
	    .on_up = world_up,
	    .on_down = world_down,
	    .ctx = w,
	};

	assert_int_equal(pg_new(w->loop, &config, &w->pg), 0);
	assert_false(pg_up(w->pg));
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	sql_run(
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
	world_open(w, private_pg_conninfo(server));
	loop_until_count(w->loop, &w->n_up, 1);
	assert_true(pg_up(w->pg));
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	pg_free(w->pg);
	loop_free(w->loop);
	free(w);
	return 0;
}

/* --- batches --- */

static void done(void *ctx, const struct pg_outcome *outcome)
{
	struct world *w = ctx;

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
		pg_batch_send(b, done, w);
	}
}

static void add_put(struct pg_batch *b, int64_t first, unsigned n)
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

static void add_int(struct pg_batch *b, size_t which, int64_t v)
{
	struct buf out = BUF_INIT;

	if (statements[which].param[0] == PG_INT4)
		pg_put_int4(&out, (int32_t)v);
	else
		pg_put_int8(&out, v);
	pg_batch_add(b, which, &(struct pg_param){out.data, out.len});
	buf_release(&out);
}

static struct pg_batch *begin(struct world *w)
{
	struct pg_batch *b = pg_batch_begin(w->pg);

	assert_non_null(b);
	return b;
}

static void send(struct world *w, struct pg_batch *b)
{
	unsigned before = w->n_done;

	pg_batch_send(b, done, w);
	assert_int_equal(w->n_done, before);
}

static void put(struct world *w, int64_t first, unsigned n)
{
	struct pg_batch *b = begin(w);

	add_put(b, first, n);
	send(w, b);
}

static int64_t count(struct world *w)
{
	struct pg_batch *b = begin(w);
	unsigned before = w->n_done;

	pg_batch_add(b, S_COUNT, NULL);
	send(w, b);
	loop_until_count(w->loop, &w->n_done, before + 1);
	assert_int_equal(w->last.err, 0);
	return w->value;
}

static void test_arrays_through_unnest(void **state)
{
	struct world *w = *state;
	struct buf value = BUF_INIT;
	const char *sql = "SELECT string_agg(id || coalesce(v, '-'), ' ' ORDER BY id) FROM t";
	char message[128];

	put(w, -1, 4);
	loop_until_count(w->loop, &w->n_done, 1);
	assert_int_equal(w->last.err, 0);
	assert_int_equal(w->last.n_result, 1);
	assert_int_equal(
	    pg_run(private_pg_conninfo(server), &sql, 1, &value, message, sizeof(message)), 0);
	assert_string_equal(value.data, "-1even 0- 1even 2-");
	buf_release(&value);
	put(w, 5, 0);
	loop_until_count(w->loop, &w->n_done, 2);
	assert_int_equal(w->last.err, 0);
}

static void echo_done(void *ctx, const struct pg_outcome *o)
{
	struct world *w = ctx;
	const struct pg_result *r;
	const char *text;
	size_t len;

	w->n_done++;
	assert_int_equal(o->err, 0);
	assert_int_equal(o->n_result, 2);
	r = o->result[0];
	assert_int_equal(pg_rows(r), 1);
	assert_int_equal(pg_int(r, 0, 0), -2);
	assert_int_equal(pg_int(r, 0, 1), -70000);
	assert_int_equal(pg_int(r, 0, 2), INT64_MIN);
	assert_int_equal(pg_int(r, 0, 3), 1);
	assert_true(pg_null(r, 0, 4));
	text = pg_bytes(r, 0, 5, &len);
	assert_int_equal(len, 3);
	assert_memory_equal(text, "\0\xff!", 3);
	assert_int_equal(pg_touched(o->result[1]), 3);
}

static void test_values(void **state)
{
	struct world *w = *state;
	struct buf a = BUF_INIT, b = BUF_INIT, c = BUF_INIT;
	struct pg_batch *batch = begin(w);
	struct pg_param param[6];

	pg_put_int2(&a, -2);
	pg_put_int4(&b, -70000);
	pg_put_int8(&c, INT64_MIN);
	param[0] = (struct pg_param){a.data, a.len};
	param[1] = (struct pg_param){b.data, b.len};
	param[2] = (struct pg_param){c.data, c.len};
	param[3] = (struct pg_param){"\1", 1};
	param[4] = (struct pg_param){NULL, 0};
	param[5] = (struct pg_param){"\0\xff!", 3};
	pg_batch_add(batch, S_ECHO, param);
	buf_release(&a);
	buf_release(&b);
	buf_release(&c);
	add_put(batch, 1, 3);
	pg_batch_send(batch, echo_done, w);
	loop_until_count(w->loop, &w->n_done, 1);
}

static void test_setup_ran(void **state)
{
	struct world *w = *state;
	struct pg_batch *b = begin(w);

	(void)state;
	pg_batch_add(b, S_PID, NULL);
	send(w, b);
	loop_until_count(w->loop, &w->n_done, 1);
	assert_true(w->value > 1);
	sql_run("DO $$ BEGIN IF (SELECT count(*) FROM pg_stat_activity"
	        " WHERE application_name = 'assent test') <> 1 THEN RAISE 'no session'; END IF; "
	        "END $$");
}

static void test_failure_takes_its_batch_only(void **state)
{
	struct world *w = *state;
	struct pg_batch *b;

	put(w, 1, 10);
	b = begin(w);
	add_put(b, 100, 10);
	add_int(b, S_DIVIDE, 0);
	add_put(b, 200, 10);
	send(w, b);
	put(w, 300, 10);
	loop_until_count(w->loop, &w->n_done, 3);
	assert_int_equal(w->err[0], 0);
	assert_int_equal(w->err[1], ERR_DATA);
	assert_int_equal(w->err[2], 0);
	assert_int_equal(w->bad.failed, 1);
	assert_string_equal(w->bad.sqlstate, "22012");
	assert_string_equal(w->message, "division by zero");
	assert_int_equal(w->bad.n_result, 0);
	assert_int_equal(count(w), 20);
	/* Not the data's fault: another class. */
	sql_run("ALTER TABLE t RENAME TO gone");
	put(w, 400, 1);
	loop_until_count(w->loop, &w->n_done, 5);
	assert_int_equal(w->last.err, ERR_IO);
	sql_run("ALTER TABLE gone RENAME TO t");
	assert_int_equal(count(w), 20);
	assert_int_equal(w->n_down, 0);
}

static void test_deferred_constraint(void **state)
{
	struct world *w = *state;
	struct pg_batch *b = begin(w);

	add_put(b, 1, 5);
	add_int(b, S_LATER, 7);
	add_int(b, S_LATER, 7);
	send(w, b);
	loop_until_count(w->loop, &w->n_done, 1);
	assert_int_equal(w->last.err, ERR_DATA);
	assert_string_equal(w->last.sqlstate, "23505");
	assert_int_equal(w->last.failed, 3);
	assert_int_equal(count(w), 0);
	assert_int_equal(w->n_down, 0);
}

static void test_warning_is_unknown(void **state)
{
	struct world *w = *state;
	struct pg_batch *b = begin(w);

	pg_batch_add(b, S_WARN, NULL);
	send(w, b);
	put(w, 1, 1);
	loop_until_count(w->loop, &w->n_down, 1);
	assert_int_equal(w->n_done, 2);
	assert_int_equal(w->err[0], ERR_LOST);
	assert_int_equal(w->err[1], ERR_LOST);
	assert_string_equal(w->why, "careful");
	loop_until_count(w->loop, &w->n_up, 2);
	count(w);
}

/* Between a statement's success and the sync, as of a cancelled wait for a standby. */
static void test_warning_on_commit_is_unknown(void **state)
{
	struct world *w = *state;
	struct pg_batch *b = begin(w);

	pg_batch_add(b, S_WARN_LATER, NULL);
	send(w, b);
	loop_until_count(w->loop, &w->n_down, 1);
	assert_int_equal(w->n_done, 1);
	assert_int_equal(w->err[0], ERR_LOST);
	assert_string_equal(w->why, "too late");
	loop_until_count(w->loop, &w->n_up, 2);
}

static void test_many_batches_and_chaining(void **state)
{
	struct world *w = *state;

	for (unsigned i = 0; i < 300; i++)
		put(w, 1000 * (int64_t)i, 20);
	w->chain = true;
	loop_until_count(w->loop, &w->n_done, 301);
	for (unsigned i = 0; i < 301; i++)
		assert_int_equal(w->err[i], 0);
	assert_int_equal(count(w), 6000);
	/* A batch of nothing is durable, too. */
	send(w, begin(w));
	loop_until_count(w->loop, &w->n_done, 303);
	assert_int_equal(w->last.err, 0);
}

/* More than the socket holds in both directions at once: neither side may wait for the other. */
static void test_large_both_ways(void **state)
{
	struct world *w = *state;
	size_t len = 8 * 1024 * 1024;
	char *text = malloc(len);
	struct pg_batch *b;

	assert_non_null(text);
	memset(text, 'y', len);
	for (int i = 0; i < 3; i++) {
		b = begin(w);
		add_int(b, S_BIG, (int64_t)len);
		pg_batch_add(b, S_LEN, &(struct pg_param){text, len});
		send(w, b);
	}
	free(text);
	loop_until_count(w->loop, &w->n_done, 3);
	assert_int_equal(w->last.err, 0);
	assert_int_equal(w->value, len);
}

static void test_terminated_under_load(void **state)
{
	struct world *w = *state;
	struct pg_batch *b;
	unsigned n_ok = 0, i;

	for (i = 0; i < 50; i++)
		put(w, 10 * (int64_t)i, 10);
	b = begin(w);
	pg_batch_add(b, S_SLEEP, NULL);
	send(w, b);
	for (i = 51; i < 100; i++)
		put(w, 10 * (int64_t)i, 10);
	loop_until_count(w->loop, &w->n_done, 50);
	sql_run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
	        " WHERE application_name = 'assent test'");
	loop_until_count(w->loop, &w->n_down, 1);
	assert_int_equal(w->n_done, 100);
	for (i = 0; i < 100; i++) {
		assert_int_equal(w->err[i], i < 50 ? 0 : ERR_LOST);
		n_ok += w->err[i] == 0;
	}
	assert_non_null(strstr(w->why, "terminating connection"));
	loop_until_count(w->loop, &w->n_up, 2);
	assert_int_equal(count(w), 10 * n_ok);
}

static void test_terminated_while_idle(void **state)
{
	struct world *w = *state;

	sql_run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
	        " WHERE application_name = 'assent test'");
	loop_until_count(w->loop, &w->n_up, 2);
	assert_int_equal(w->n_down, 1);
	assert_int_equal(count(w), 0);
}

static void test_server_restart(void **state)
{
	struct world *w = *state;

	put(w, 1, 3);
	loop_until_count(w->loop, &w->n_done, 1);
	assert_int_equal(private_pg_crash(server), 0);
	put(w, 10, 3);
	/* The loss, then refused attempts. */
	loop_until_count(w->loop, &w->n_down, 3);
	assert_int_equal(w->err[1], ERR_LOST);
	assert_int_equal(private_pg_resume(server), 0);
	loop_until_count(w->loop, &w->n_up, 2);
	assert_int_equal(count(w), 3);
}

static void test_reconnect(void **state)
{
	struct world *w = *state;
	struct pg_batch *b = begin(w);

	pg_batch_add(b, S_COUNT, NULL);
	pg_reconnect(w->pg, "no longer trusted\nat all");
	assert_false(pg_up(w->pg));
	assert_int_equal(w->n_down, 0);
	send(w, b);
	loop_until_count(w->loop, &w->n_down, 1);
	assert_string_equal(w->why, "no longer trusted");
	assert_int_equal(w->n_done, 1);
	assert_int_equal(w->err[0], ERR_LOST);
	pg_reconnect(w->pg, "down already");
	loop_until_count(w->loop, &w->n_up, 2);
	assert_int_equal(w->n_down, 1);
	count(w);
}

/* A batch begun in one session is not finished in the next. */
static void test_batch_of_a_lost_session(void **state)
{
	struct world *w = *state;

	for (unsigned up = 1; up <= 2; up++) {
		struct pg_batch *b = begin(w);

		add_put(b, up, 1);
		pg_reconnect(w->pg, "gone");
		loop_until_count(w->loop, &w->n_down, up);
		/* First while there is no session, then in the next one. */
		if (up == 2)
			loop_until_count(w->loop, &w->n_up, 3);
		pg_batch_add(b, S_COUNT, NULL);
		send(w, b);
		loop_until_count(w->loop, &w->n_done, up);
		assert_int_equal(w->err[up - 1], ERR_LOST);
		loop_until_count(w->loop, &w->n_up, 2 * up);
	}
	assert_int_equal(count(w), 0);
}

static void test_free_inside_callback(void **state)
{
	struct world *w = *state;

	w->free_in_done = true;
	put(w, 1, 1);
	put(w, 2, 1);
	loop_until_count(w->loop, &w->n_done, 1);
	loop_for_ms(w->loop, 20);
	assert_int_equal(w->n_done, 1);
	assert_int_equal(w->n_down, 0);
}

static void test_free_while_batches_are_lost(void **state)
{
	struct world *w = *state;

	w->free_in_done = true;
	put(w, 1, 1);
	put(w, 2, 1);
	pg_reconnect(w->pg, "gone");
	loop_until_count(w->loop, &w->n_done, 1);
	loop_for_ms(w->loop, 20);
	assert_int_equal(w->err[0], ERR_LOST);
	assert_int_equal(w->n_done, 1);
	assert_int_equal(w->n_down, 0);
}

static void test_bad_connections(void **state)
{
	struct world *w = *state;
	struct pg_config config = {.conninfo = "nonsense geheim", .application_name = "x"};
	struct pg *other = NULL;

	assert_int_equal(pg_new(w->loop, &config, &other), ERR_INVALID);
	pg_free(w->pg);
	world_open(w, "host=/nonexistent user=x password=geheim");
	loop_until_count(w->loop, &w->n_down, 2);
	assert_non_null(strstr(w->why, "/nonexistent"));
	assert_int_equal(w->n_up, 1);
}

/* A host that accepts and says nothing. */
static void test_connecting_times_out(void **state)
{
	struct world *w = *state;
	int64_t start = clock_mono_us();
	char conninfo[128];
	uint16_t port;
	bool ipv6;
	int fd;

	assert_int_equal(listen_open("127.0.0.1", 0, &fd, &port, &ipv6), 0);
	snprintf(conninfo, sizeof(conninfo), "host=127.0.0.1 port=%u user=x", port);
	pg_free(w->pg);
	world_open(w, conninfo);
	loop_until_count(w->loop, &w->n_down, 1);
	assert_string_equal(w->why, "connecting timed out");
	assert_true(clock_mono_us() - start < 8000000);
	close(fd);
}

static void test_bad_statement(void **state)
{
	static const struct pg_statement bad[] = {{"bad", "SELECT nonsense", {0}, 0}};
	struct world *w = *state;
	struct pg_config config = {.conninfo = private_pg_conninfo(server),
	                           .application_name = "x",
	                           .statement = bad,
	                           .n_statement = 1,
	                           .on_up = world_up,
	                           .on_down = world_down,
	                           .ctx = w};

	static const char *const bad_setup[] = {"SET lock_timeout = 1", "SET no_such = 1", NULL};

	pg_free(w->pg);
	assert_int_equal(pg_new(w->loop, &config, &w->pg), 0);
	loop_until_count(w->loop, &w->n_down, 1);
	assert_non_null(strstr(w->why, "nonsense"));
	pg_free(w->pg);
	config.setup = bad_setup;
	assert_int_equal(pg_new(w->loop, &config, &w->pg), 0);
	loop_until_count(w->loop, &w->n_down, 2);
	assert_non_null(strstr(w->why, "no_such"));
	assert_int_equal(w->n_up, 1);
}

static void test_run(void **state)
{
	const char *sql[] = {"CREATE TEMP TABLE x (i int); INSERT INTO x VALUES (41)",
	                     "SELECT i + 1 FROM x"};
	const char *bad[] = {"SELECT 1 / 0", "SELEC 1"};
	struct buf value = BUF_INIT;
	const char *conninfo = private_pg_conninfo(server);
	char message[64];

	(void)state;
	assert_int_equal(pg_run(conninfo, sql, 2, &value, message, sizeof(message)), 0);
	assert_string_equal(value.data, "42");
	assert_int_equal(pg_run(conninfo, &bad[0], 1, &value, message, sizeof(message)), ERR_DATA);
	assert_string_equal(message, "division by zero");
	assert_int_equal(pg_run(conninfo, &bad[1], 1, NULL, message, sizeof(message)), ERR_STATE);
	assert_int_equal(pg_run("host=/nonexistent", sql, 2, NULL, message, sizeof(message)),
	                 ERR_IO);
	assert_non_null(strstr(message, "/nonexistent"));
	assert_int_equal(pg_run("geheim", sql, 2, NULL, message, sizeof(message)), ERR_IO);
	assert_null(strstr(message, "geheim"));
	buf_release(&value);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    T(test_arrays_through_unnest),
	    T(test_values),
	    T(test_setup_ran),
	    T(test_failure_takes_its_batch_only),
	    T(test_deferred_constraint),
	    T(test_warning_is_unknown),
	    T(test_warning_on_commit_is_unknown),
	    T(test_many_batches_and_chaining),
	    T(test_large_both_ways),
	    T(test_terminated_under_load),
	    T(test_terminated_while_idle),
	    T(test_server_restart),
	    T(test_reconnect),
	    T(test_batch_of_a_lost_session),
	    T(test_free_inside_callback),
	    T(test_free_while_batches_are_lost),
	    T(test_bad_connections),
	    T(test_connecting_times_out),
	    T(test_bad_statement),
	    T(test_run),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
