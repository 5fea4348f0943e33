#include "node/recover.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "io/sql.h"
#include "node/driver.h"

#define PAGE 500

/* Columns of SQL_LOAD. */
enum load_column {
	LOAD_GID,
	LOAD_SHARD,
	LOAD_MODE,
	LOAD_STATE,
	LOAD_OUTCOME,
	LOAD_CREATED,
	LOAD_DEADLINE,
	LOAD_DECIDED,
	LOAD_BRANCH_STATE,
	LOAD_BODY_SHA256,
	LOAD_SUBMISSION,
	LOAD_ENLISTED,
	LOAD_TRACEPARENT,
};

/* Where the next page begins. Kept apart from the node: an answer may come after recover_stop. */
struct loader {
	struct node *node; /* NULL: stopped */
	void (*done)(struct node *n, int err);
	int16_t shard;
	char gid[GID_MAX + 1];
	size_t gid_len;
};

static int next_page(struct loader *l);

static int64_t column_time_us(const struct pg_result *r, size_t row, enum load_column col)
{
	const int64_t beyond_us = INT64_MAX / 2; /* room for sums: "infinity" is a time, too */
	int64_t us = pg_null(r, row, col) ? -PG_EPOCH_US : pg_int(r, row, col);

	if (us < -PG_EPOCH_US)
		return 0;
	return us > beyond_us ? beyond_us : us + PG_EPOCH_US;
}

static void read_trace(struct gtx *g, const struct pg_result *r, size_t row)
{
	const char *trace;
	size_t len;

	if (pg_null(r, row, LOAD_TRACEPARENT))
		return;
	trace = pg_bytes(r, row, LOAD_TRACEPARENT, &len);
	if (len == sizeof g->traceparent - 1)
		memcpy(g->traceparent, trace, len);
}

/* Stored is the database's time. If its clock was set back since, the deadline seems further away
 * than it ever was: nothing waits longer than it was given. If it was set forward, the deadline has
 * passed, and what is undecided is rolled back. */
static void set_deadline(struct gtx *g, int64_t deadline_us, enum txn_state state)
{
	bool voting = g->spec.interactive && state != TXN_ACTIVE && g->spec.mode == MODE_TWO_PHASE;
	int64_t most_us = node_db_now_us(g->node) +
	                  (voting ? g->spec.vote_timeout_us : g->spec.timeout_us);

	g->deadline_us = deadline_us < most_us ? deadline_us : most_us;
	g->deadline_mono_us = g->deadline_us - g->node->db_offset_us;
}

static int restore(struct gtx *g, const struct pg_result *r, size_t row)
{
	struct complaint complaint;
	struct journal_state s = {0};
	const char *branch, *enlisted = NULL;
	size_t n_branch, n_enlisted = 0;
	int rc;

	if (!pg_null(r, row, LOAD_ENLISTED))
		enlisted = pg_bytes(r, row, LOAD_ENLISTED, &n_enlisted);
	if (submission_decode(g->body, g->body_len, NULL, &g->arena, &g->spec, &complaint) ||
	    submission_add_stored(enlisted, n_enlisted, &g->arena, &g->spec, &complaint)) {
		log_error(g->gid, "the stored submission cannot be read: %s %s", complaint.pointer,
		          complaint.detail);
		return complaint.problem == PROBLEM_OVERLOADED ? ERR_NOMEM : ERR_INVALID;
	}
	read_trace(g, r, row);
	g->created_us = column_time_us(r, row, LOAD_CREATED);
	g->decided_us = column_time_us(r, row, LOAD_DECIDED);
	set_deadline(g, column_time_us(r, row, LOAD_DEADLINE),
	             (enum txn_state)pg_int(r, row, LOAD_STATE));
	rc = gtx_prepare(g, g->deadline_mono_us);
	if (rc < 0)
		return rc;
	branch = pg_bytes(r, row, LOAD_BRANCH_STATE, &n_branch);
	if (n_branch != g->spec.n_branch)
		return ERR_INVALID;
	memcpy(s.branch, branch, n_branch);
	s.state = (int16_t)pg_int(r, row, LOAD_STATE);
	s.outcome = (int16_t)pg_int(r, row, LOAD_OUTCOME);
	s.decided_us = g->decided_us;
	s.deadline_us = g->deadline_us;
	journal_entry_loaded(&g->entry, &s);
	return txn_restore(&g->txn, (enum txn_state)s.state, (enum txn_outcome)s.outcome, s.branch);
}

/* A row that cannot be understood stays in the database for a person; it must not keep the others
 * from being finished. */
static int resume_row(struct node *n, const struct pg_result *r, size_t row)
{
	size_t gid_len, body_len, sha_len;
	const char *gid = pg_bytes(r, row, LOAD_GID, &gid_len);
	const char *body = pg_bytes(r, row, LOAD_SUBMISSION, &body_len);
	const char *sha = pg_bytes(r, row, LOAD_BODY_SHA256, &sha_len);
	struct gtx *g = gtx_new(n, body, body_len);
	int rc = ERR_INVALID;

	if (!g)
		return ERR_NOMEM;
	if (gid_len <= GID_MAX && sha_len == sizeof g->body_sha256) {
		memcpy(g->gid, gid, gid_len);
		memcpy(g->body_sha256, sha, sha_len);
		rc = restore(g, r, row);
	}
	if (rc == 0)
		rc = driver_resume(g);
	if (rc < 0) {
		log_error(g->gid, "not resumed: %s", err_str(rc));
		gtx_free(g);
	}
	return rc == ERR_NOMEM ? rc : 0;
}

static int take_page(struct loader *l, const struct pg_result *r)
{
	size_t n_row = pg_rows(r);
	const char *gid;

	for (size_t row = 0; row < n_row; row++) {
		int rc;

		if (row > 0)
			crash_point(CRASH_RECOVER_BETWEEN_ROWS);
		rc = resume_row(l->node, r, row);
		if (rc < 0)
			return rc;
	}
	l->shard = (int16_t)pg_int(r, n_row - 1, LOAD_SHARD);
	gid = pg_bytes(r, n_row - 1, LOAD_GID, &l->gid_len);
	if (l->gid_len > GID_MAX)
		return ERR_LIMIT;
	memcpy(l->gid, gid, l->gid_len);
	return 0;
}

static void finish(struct loader *l, int err)
{
	struct node *n = l->node;

	n->loader = NULL;
	l->done(n, err);
	free(l);
}

static void on_page(void *ctx, const struct pg_outcome *outcome)
{
	struct loader *l = ctx;
	int rc = outcome->err;
	size_t n_row;

	if (!l->node) {
		free(l);
		return;
	}
	if (rc) {
		log_error(NULL, "loading a page failed: %s %s", outcome->sqlstate,
		          outcome->message);
		finish(l, rc);
		return;
	}
	crash_point(CRASH_RECOVER_PAGE_CAME);
	n_row = pg_rows(outcome->result[0]);
	if (n_row > 0)
		rc = take_page(l, outcome->result[0]);
	if (rc == 0 && n_row == PAGE)
		rc = next_page(l);
	else if (rc == 0) {
		crash_point(CRASH_RECOVER_LAST_PAGE_DONE);
		finish(l, 0);
		return;
	}
	if (rc < 0)
		finish(l, rc);
}

static int next_page(struct loader *l)
{
	struct buf shard = BUF_INIT, limit = BUF_INIT;
	struct pg_batch *batch = NULL;

	crash_point(CRASH_RECOVER_BEFORE_PAGE);
	pg_put_int2(&shard, l->shard);
	pg_put_int8(&limit, PAGE);
	/* Without its value a parameter is NULL, behind which no row comes: as if all were loaded. */
	if (!shard.failed && !limit.failed)
		batch = pg_batch_begin(l->node->writer);
	if (batch) {
		pg_batch_add(batch, SQL_LOAD,
		             (struct pg_param[]){{shard.data, shard.len},
		                                 {l->gid, l->gid_len},
		                                 {limit.data, limit.len}});
		pg_batch_send(batch, on_page, l);
	}
	buf_release(&shard);
	buf_release(&limit);
	return batch ? 0 : ERR_IO;
}

int recover_start(struct node *n, void (*done)(struct node *n, int err))
{
	struct loader *l = calloc(1, sizeof *l);
	int rc;

	if (!l)
		return ERR_NOMEM;
	l->node = n;
	l->done = done;
	l->shard = -1;
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
	if (!n->loader)
		return;
	n->loader->node = NULL; /* its batch will still be answered, and frees it */
	n->loader = NULL;
}
