#include "node/recover.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "io/sql.h"
#include "node/lane.h"
#include "node/load.h"

#define PAGE             500
#define LOAD_PATIENCE_US (INT64_C(2) * 1000000)

/* The passes over the table: what is not decided, up to the whole of the memory; then the decided
 * ones, who can wait, so that what comes in anew has a share of its own. One slow participant may
 * have half of that: its others are parked. */
static const unsigned percent[] = {100, 5};

#define N_PASS (sizeof percent / sizeof percent[0])

/* Kept apart from the node: an answer may come after recover_stop. */
struct loader {
	struct node *node;                     /* NULL: stopped */
	void (*done)(struct node *n, int err); /* NULL: was called */
	struct load_place reached;
	unsigned pass;
	bool asking;
	bool again; /* a row's place was taken by a creation that the database will refuse */
	int64_t started_us;
	size_t n_loaded;
};

static int next_page(struct loader *l);

static void report(struct loader *l, int err)
{
	void (*done)(struct node * n, int err) = l->done;

	l->done = NULL;
	if (done)
		done(l->node, err);
	else if (err)
		node_lost(l->node, "loading unfinished transactions failed");
}

static void finish(struct loader *l, int err)
{
	struct node *n = l->node;

	if (!err)
		crash_point(CRASH_RECOVER_LAST_PAGE_DONE);
	if (!l->done && !err)
		log_info(NULL, "all unfinished transactions are loaded: %zu", l->n_loaded);
	n->loader = NULL;
	report(l, err);
	free(l);
}

/* Of the calls for what is decided, to one participant. */
static size_t most_of_one(const struct loader *l)
{
	size_t most = (size_t)l->node->config->in_flight_max * percent[l->pass] / 200;

	if (l->pass == 0)
		return 0;
	return most ? most : 1;
}

static int take_page(struct loader *l, const struct pg_result *r)
{
	size_t n_row = pg_rows(r), most = most_of_one(l);

	for (size_t row = 0; row < n_row; row++) {
		int rc;

		if (row > 0)
			crash_point(CRASH_RECOVER_BETWEEN_ROWS);
		rc = load_row(l->node, r, row, NULL, most);
		if (rc == ERR_NOMEM)
			return rc;
		l->n_loaded += rc == 0;
		l->again |= rc == ERR_STATE;
	}
	return load_reached(&l->reached, r, n_row - 1, LOAD_CREATED);
}

/* The pages of this pass are through. */
static int next_pass(struct loader *l)
{
	load_rewind(&l->reached);
	l->pass = l->again ? 0 : l->pass + 1;
	l->again = false;
	return l->pass < N_PASS ? next_page(l) : 0;
}

static void on_page(void *ctx, const struct pg_outcome *outcome)
{
	struct loader *l = ctx;
	int rc = outcome->err;

	if (!l->node) {
		free(l);
		return;
	}
	l->asking = false;
	if (rc) {
		log_error(NULL, "loading a page failed: %s %s", outcome->sqlstate,
		          outcome->message);
	} else if (pg_rows(outcome->result[0]) == 0) {
		rc = next_pass(l);
	} else {
		crash_point(CRASH_RECOVER_PAGE_CAME);
		rc = take_page(l, outcome->result[0]);
		if (rc == 0)
			rc = next_page(l);
	}
	if (rc || l->pass == N_PASS)
		finish(l, rc);
	else if (!l->asking || clock_mono_us() - l->started_us > LOAD_PATIENCE_US)
		report(l, 0);
}

/* Asks for nothing while memory is full. */
static int next_page(struct loader *l)
{
	struct buf at = BUF_INIT, rows = BUF_INIT, bytes = BUF_INIT, pass = BUF_INIT;
	size_t room = admission_room(l->node, percent[l->pass]);
	struct pg_batch *batch = NULL;

	if (room == 0)
		return 0;
	crash_point(CRASH_RECOVER_BEFORE_PAGE);
	pg_put_int8(&at, l->reached.at);
	pg_put_int8(&rows, room < PAGE ? (int64_t)room : PAGE);
	pg_put_int8(&bytes, LOAD_PAGE_BYTES);
	pg_put_int2(&pass, (int16_t)l->pass);
	/* Without its value a parameter is NULL, behind which no row comes: as if all were loaded. */
	if (!at.failed && !rows.failed && !bytes.failed && !pass.failed)
		batch = pg_batch_begin(l->node->writer);
	if (batch) {
		pg_batch_add(batch, SQL_LOAD,
		             (struct pg_param[]){{at.data, at.len},
		                                 {l->reached.gid, l->reached.gid_len},
		                                 {rows.data, rows.len},
		                                 {bytes.data, bytes.len},
		                                 {pass.data, pass.len}});
		pg_batch_send(batch, on_page, l);
		l->asking = true;
	}
	buf_release(&at);
	buf_release(&rows);
	buf_release(&bytes);
	buf_release(&pass);
	return batch ? 0 : ERR_IO;
}

void recover_room(struct node *n)
{
	struct loader *l = n->loader;

	if (l && !l->asking && !l->done && next_page(l) < 0)
		node_lost(n, "loading unfinished transactions failed");
}

int recover_start(struct node *n, void (*done)(struct node *n, int err))
{
	struct loader *l = calloc(1, sizeof *l);
	int rc;

	if (!l)
		return ERR_NOMEM;
	l->node = n;
	l->done = done;
	l->started_us = clock_mono_us();
	load_rewind(&l->reached);
	rc = lanes_start(n);
	if (rc == 0)
		rc = next_page(l);
	if (rc < 0) {
		free(l);
		return rc;
	}
	n->loader = l;
	return 0;
}

void recover_stop(struct node *n)
{
	struct loader *l = n->loader;

	if (!l)
		return;
	n->loader = NULL;
	l->node = NULL;
	if (!l->asking)
		free(l); /* else its batch will still be answered, and frees it */
}
