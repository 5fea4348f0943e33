/*
 * journal_world.c - a journal on the test's own PostgreSQL, with a gate that holds a flush up.
 */
#include "journal_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "io/sql.h"
#include "loop_test.h"
#include "node/migrate.h"
#include "private_pg.h"

#define HELD_DEADLINE_US 10000000

static struct private_pg *server;

enum gate_statement {
	GATE_CLOSE,
	GATE_OPEN,
	GATE_MAX,
};

static const struct pg_statement gate_statement[GATE_MAX] = {
    [GATE_CLOSE] = {.name = "close", .sql = "SELECT pg_advisory_lock(1)"},
    [GATE_OPEN] = {.name = "open", .sql = "SELECT pg_advisory_unlock(1)"},
};

static const char gate_sql[] =
    "CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS"
    " 'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END';"
    "CREATE TRIGGER gate BEFORE INSERT OR UPDATE ON assent.txn EXECUTE FUNCTION gate();"
    "CREATE TRIGGER gate BEFORE INSERT ON assent.history EXECUTE FUNCTION gate()";

void jw_sql(const char *sql)
{
	char message[256];

	if (pg_run(private_pg_conninfo(server), &sql, 1, NULL, message, sizeof message) != 0)
		fail_msg("%s: %s", sql, message);
}

char *jw_text(const char *sql)
{
	struct buf value = BUF_INIT;
	char message[256];
	char *text;

	if (pg_run(private_pg_conninfo(server), &sql, 1, &value, message, sizeof message) != 0)
		fail_msg("%s: %s", sql, message);
	text = buf_detach(&value, NULL);
	assert_non_null(text);
	return text;
}

long jw_number(const char *sql)
{
	char *text = jw_text(sql);
	long n = strtol(text, NULL, 10);

	free(text);
	return n;
}

int journal_world_group_setup(void **state)
{
	unsigned applied;
	char why[256];

	(void)state;
	log_set_level(LOG_ERROR);
	server = private_pg_start();
	if (!server || migrate_run(private_pg_conninfo(server), &applied, why, sizeof why) < 0)
		return -1;
	jw_sql(gate_sql);
	return 0;
}

int journal_world_group_teardown(void **state)
{
	(void)state;
	private_pg_stop(server);
	return 0;
}

static void on_up(void *ctx)
{
	((struct journal_world *)ctx)->n_up++;
}

static void on_gate_up(void *ctx)
{
	((struct journal_world *)ctx)->n_gate++;
}

static void on_gate_done(void *ctx, const struct pg_outcome *outcome)
{
	assert_int_equal(outcome->err, 0);
	((struct journal_world *)ctx)->n_gate++;
}

static void on_down(void *ctx, const char *why)
{
	(void)ctx;
	(void)why;
}

static void on_durable(void *ctx, struct journal_entry *entry)
{
	struct journal_world *w = ctx;
	struct record *r = container_of(entry, struct record, entry);
	unsigned at = r->n_durable < 16 ? r->n_durable : 15;

	assert_true(entry->stored);
	r->said[at] = entry->durable.state;
	r->said_seq[at] = (int64_t)entry->durable_seq;
	r->at_us = clock_mono_us();
	r->n_durable++;
	w->n_durable++;
	if (w->n_order < sizeof w->order - 1)
		w->order[w->n_order++] = r->gid[strlen(r->gid) - 1];
	if (w->stop_when_durable)
		journal_stop(w->journal);
}

static void on_refused(void *ctx, struct journal_entry *entry, int err)
{
	struct journal_world *w = ctx;
	struct record *r = container_of(entry, struct record, entry);

	assert_true(journal_entry_idle(entry));
	r->n_refused++;
	r->err = err;
	w->n_refused++;
	if (w->stop_when_refused)
		journal_stop(w->journal);
}

static void on_lost(void *ctx, const char *why)
{
	struct journal_world *w = ctx;

	assert_non_null(why);
	w->n_lost++;
	w->stop_due = true;
}

/* As the node does it: when nothing is in the middle of anything. */
static void on_turn(void *ctx)
{
	struct journal_world *w = ctx;

	if (!w->stop_due)
		return;
	w->stop_due = false;
	journal_stop(w->journal);
	pg_reconnect(w->pg, "the journal lost its session");
}

void journal_world_terms(struct journal_world *w, int64_t lazy_us, int64_t interval_us,
                         unsigned busy_above)
{
	struct journal_config config = {
	    .loop = w->loop,
	    .pg = w->pg,
	    .node = "n1",
	    .interval_us = interval_us,
	    .busy_above = busy_above,
	    .lazy_us = lazy_us,
	    .on_durable = on_durable,
	    .on_refused = on_refused,
	    .on_lost = on_lost,
	    .ctx = w,
	};

	if (w->journal)
		journal_stop(w->journal);
	journal_free(w->journal);
	loop_hook_free(w->hook);
	assert_int_equal(journal_new(&config, &w->journal), 0);
	w->hook = loop_hook_new(w->loop, on_turn, w);
	assert_non_null(w->hook);
	journal_start(w->journal);
}

int journal_world_setup(void **state)
{
	struct journal_world *w = calloc(1, sizeof *w);
	struct pg_config journal = {
	    .conninfo = private_pg_conninfo(server),
	    .application_name = "journal",
	    .setup = sql_write_setup,
	    .statement = sql_write_statement,
	    .n_statement = SQL_WRITE_MAX,
	    .on_up = on_up,
	    .on_down = on_down,
	    .ctx = w,
	};
	struct pg_config gate = {
	    .conninfo = private_pg_conninfo(server),
	    .application_name = "gate",
	    .statement = gate_statement,
	    .n_statement = GATE_MAX,
	    .on_up = on_gate_up,
	    .on_down = on_down,
	    .ctx = w,
	};

	assert_non_null(w);
	jw_sql("TRUNCATE assent.txn, assent.history, assent.alert, assent.alert_member; UPDATE "
	       "assent.shard SET epoch = 0");
	w->loop = loop_new();
	assert_non_null(w->loop);
	assert_int_equal(pg_new(w->loop, &journal, &w->pg), 0);
	assert_int_equal(pg_new(w->loop, &gate, &w->gate), 0);
	loop_until_count(w->loop, &w->n_up, 1);
	loop_until_count(w->loop, &w->n_gate, 1);
	journal_world_terms(w, JW_FOREVER, 0, 1000000);
	*state = w;
	return 0;
}

int journal_world_teardown(void **state)
{
	struct journal_world *w = *state;

	journal_stop(w->journal);
	for (unsigned i = 0; i < w->n_record; i++)
		journal_forget(&w->record[i].entry);
	loop_hook_free(w->hook);
	journal_free(w->journal);
	pg_free(w->pg);
	pg_free(w->gate);
	loop_free(w->loop);
	free(w);
	return 0;
}

static void gate_turn(struct journal_world *w, size_t which)
{
	struct pg_batch *batch = pg_batch_begin(w->gate);
	unsigned n = w->n_gate + 1;

	assert_non_null(batch);
	pg_batch_add(batch, which, NULL);
	pg_batch_send(batch, on_gate_done, w);
	loop_until_count(w->loop, &w->n_gate, n);
}

void jw_gate_close(struct journal_world *w)
{
	gate_turn(w, GATE_CLOSE);
}

void jw_gate_open(struct journal_world *w)
{
	gate_turn(w, GATE_OPEN);
}

void jw_until_held(struct journal_world *w)
{
	while (jw_number("SELECT count(*) FROM pg_stat_activity WHERE application_name ="
	                 " 'journal' AND wait_event = 'advisory'") == 0) {
		loop_for_ms(w->loop, 2);
	}
}

struct record *jw_record(struct journal_world *w, const char *gid)
{
	static const uint8_t sha[32] = {1, 2, 3};
	struct record *r = &w->record[w->n_record++];

	assert_true(w->n_record <= RECORD_MAX);
	journal_entry_init(&r->entry);
	r->w = w;
	(void)snprintf(r->gid, sizeof r->gid, "%s", gid);
	r->entry.gid = r->gid;
	r->entry.gid_len = strlen(r->gid);
	r->entry.mode = 1;
	r->entry.n_branch = 2;
	r->entry.created_us = INT64_C(1700000000000000);
	r->entry.body_sha256 = sha;
	r->entry.submission = "{}";
	r->entry.submission_len = 2;
	return r;
}

struct record *jw_record_n(struct journal_world *w, unsigned n)
{
	char gid[32];

	(void)snprintf(gid, sizeof gid, "g%u", n);
	return jw_record(w, gid);
}

uint64_t jw_put(struct record *r, int16_t state, bool forced)
{
	struct journal_state s = {
	    .state = state, .deadline_us = INT64_C(1700000010000000), .branch = {0, 1}};

	return journal_put(r->w->journal, &r->entry, &s, forced);
}

void jw_attempt(struct journal_world *w, const char *gid, const char *branch, int64_t epoch)
{
	journal_history(w->journal, &(struct journal_attempt){
	                                .gid = gid,
	                                .epoch = epoch,
	                                .branch = branch,
	                                .op = 1,
	                                .attempt = 1,
	                                .started_us = INT64_C(1700000000000000),
	                                .ended_us = INT64_C(1700000000001000),
	                                .status = 200,
	                                .verdict = 1,
	                            });
}

static void on_synced(void *ctx, int err)
{
	struct jw_wait *wait = ctx;

	wait->n++;
	wait->err = err;
	wait->n_durable = wait->w->n_durable;
}

void jw_sync(struct journal_world *w, struct jw_wait *wait)
{
	*wait = (struct jw_wait){.waiter = {.fn = on_synced, .ctx = wait}, .w = w};
	journal_sync(w->journal, &wait->waiter);
}

void jw_until_durable(struct journal_world *w, unsigned n)
{
	loop_until_count(w->loop, &w->n_durable, n);
	assert_int_equal(w->n_durable, n);
}

bool jw_idle(void *ctx)
{
	struct journal_world *w = ctx;

	for (unsigned i = 0; i < w->n_record; i++) {
		if (!journal_entry_idle(&w->record[i].entry))
			return false;
	}
	return true;
}

struct journal_stats jw_stats(const struct journal_world *w)
{
	struct journal_stats s;

	journal_stats(w->journal, &s);
	return s;
}

void jw_terminate(void)
{
	assert_int_equal(jw_number("SELECT count(pg_terminate_backend(pid)) FROM"
	                           " pg_stat_activity WHERE application_name = 'journal'"),
	                 1);
}

void jw_cancel(void)
{
	assert_int_equal(jw_number("SELECT count(pg_cancel_backend(pid)) FROM"
	                           " pg_stat_activity WHERE application_name = 'journal'"),
	                 1);
}
