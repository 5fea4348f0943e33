#include "node/load.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "node/driver.h"
#include "node/node.h"

#define PUT_OFF_US (PARK_AFTER_US + INT64_C(1000000)) /* long enough to be parked */

static int64_t column_time_us(const struct pg_result *r, size_t row, enum load_column col)
{
	const int64_t beyond_us = INT64_MAX / 2; /* room for sums: "infinity" is a time, too */
	int64_t us = pg_null(r, row, col) ? -PG_EPOCH_US : pg_int(r, row, col);

	if (us < -PG_EPOCH_US)
		return 0;
	return us > beyond_us ? beyond_us : us + PG_EPOCH_US;
}

int load_reached(struct load_place *p, const struct pg_result *r, size_t row, enum load_column col)
{
	const char *gid = pg_bytes(r, row, LOAD_GID, &p->gid_len);

	if (p->gid_len > GID_MAX)
		return ERR_LIMIT;
	p->at = pg_int(r, row, col);
	memcpy(p->gid, gid, p->gid_len);
	return 0;
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

static void remember(struct gtx *g, const struct pg_result *r, size_t row)
{
	const char *memo;
	size_t len;

	if (pg_null(r, row, LOAD_PARKED_CALLS))
		return;
	memo = pg_bytes(r, row, LOAD_PARKED_CALLS, &len);
	if (txn_remember(&g->txn, g->node->db_offset_us, (const uint8_t *)memo, len) < 0)
		return;
	for (unsigned i = 0; i < g->txn.n_branch; i++)
		g->note[i].n_call = g->txn.branch[i].past_attempt;
}

/* Stored is the database's time. If its clock was set back since, the deadline seems further away
 * than it ever was: nothing waits longer than it was given. If it was set forward, the deadline has
 * passed, and what is undecided is rolled back. */
static void set_deadline(struct gtx *g, int64_t deadline_us, enum txn_state state)
{
	bool votes = g->spec.mode == MODE_TWO_PHASE || g->spec.mode == MODE_THREE_PHASE;
	bool voting = g->spec.interactive && state != TXN_ACTIVE && votes;
	int64_t most_us = node_db_now_us(g->node) +
	                  (voting ? g->spec.vote_timeout_us : g->spec.timeout_us);

	g->deadline_us = deadline_us < most_us ? deadline_us : most_us;
	g->deadline_mono_us = g->deadline_us - g->node->db_offset_us;
}

static int restore(struct gtx *g, const struct pg_result *r, size_t row)
{
	struct complaint complaint;
	struct journal_state s = {0};
	const char *branch, *results, *enlisted = NULL;
	size_t n_branch, n_results, n_enlisted = 0;
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
	if (!pg_null(r, row, LOAD_RESULTS)) {
		results = pg_bytes(r, row, LOAD_RESULTS, &n_results);
		rc = gtx_load_results(g, results, n_results);
		if (rc < 0)
			return rc;
	}
	branch = pg_bytes(r, row, LOAD_BRANCH_STATE, &n_branch);
	if (n_branch != g->spec.n_branch)
		return ERR_INVALID;
	memcpy(s.branch, branch, n_branch);
	s.state = (int16_t)pg_int(r, row, LOAD_STATE);
	s.outcome = (int16_t)pg_int(r, row, LOAD_OUTCOME);
	s.decided_us = g->decided_us;
	s.deadline_us = g->deadline_us;
	journal_entry_loaded(&g->entry, &s);
	rc = txn_restore(&g->txn, (enum txn_state)s.state, (enum txn_outcome)s.outcome, s.branch);
	if (rc == 0)
		remember(g, r, row);
	return rc;
}

/* What a participant has its share of already is parked as soon as the other branches have answered:
 * in memory it would only wait, and keep out those who wait for others. Its lane takes it back. */
static void put_off(struct gtx *g, size_t most)
{
	const struct config *c = g->node->config;

	for (unsigned i = 0; i < g->txn.n_branch; i++) {
		struct branch *b = &g->txn.branch[i];

		if (peer_stats_is_full(&g->node->peers, c->registry, g->spec.branch[i].participant,
		                       most, (unsigned)c->participant_concurrency))
			b->not_before_us = clock_mono_us() + PUT_OFF_US;
	}
}

int load_row(struct node *n, const struct pg_result *r, size_t row, struct lane *lane, size_t most)
{
	size_t gid_len, body_len, sha_len;
	const char *gid = pg_bytes(r, row, LOAD_GID, &gid_len);
	const char *body = pg_bytes(r, row, LOAD_SUBMISSION, &body_len);
	const char *sha = pg_bytes(r, row, LOAD_BODY_SHA256, &sha_len);
	struct map_node *known = map_get(&n->txns, gid, gid_len);
	struct gtx *g;
	int rc = ERR_INVALID;

	if (known)
		return container_of(known, struct gtx, by_gid)->entry.stored ? ERR_EXISTS
		                                                             : ERR_STATE;
	g = gtx_new(n, body, body_len);
	if (!g)
		return ERR_NOMEM;
	if (gid_len <= GID_MAX && sha_len == sizeof g->body_sha256) {
		memcpy(g->gid, gid, gid_len);
		memcpy(g->body_sha256, sha, sha_len);
		rc = restore(g, r, row);
	}
	if (rc == 0 && most)
		put_off(g, most);
	if (rc == 0)
		rc = driver_resume(g);
	if (rc == 0 && lane)
		park_taken_back(g, lane);
	if (rc < 0) {
		log_error(g->gid, "not resumed: %s", err_str(rc));
		gtx_free(g);
	}
	return rc;
}
