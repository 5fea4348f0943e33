#include "api/stored.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "io/sql.h"

/* Columns of SQL_GET. */
enum get_column {
	GET_MODE,
	GET_STATE,
	GET_OUTCOME,
	GET_CREATED,
	GET_DEADLINE,
	GET_DECIDED,
	GET_ENDED,
	GET_BRANCH_STATE,
	GET_BODY_SHA256,
	GET_SUBMISSION,
	GET_ENLISTED,
	GET_PARKED_FOR,
	GET_PARKED_UNTIL,
};

struct reading {
	stored_fn *done;
	void *ctx;
	char gid[GID_MAX + 1];
	struct arena arena;
	struct submission spec;
	struct stored stored;
};

static int64_t time_us(const struct pg_result *r, enum get_column col)
{
	return pg_null(r, 0, col) ? 0 : pg_int(r, 0, col) + PG_EPOCH_US;
}

/* Columns of SQL_BRANCH_CALLS: branch, calls, last error. */
static int read_calls(struct reading *rd, const struct pg_result *r)
{
	for (size_t row = 0; row < pg_rows(r); row++) {
		size_t id_len, len;
		const char *id = pg_bytes(r, row, 0, &id_len);

		for (unsigned i = 0; i < rd->spec.n_branch; i++) {
			const char *own = rd->spec.branch[i].id;
			const char *error;

			if (strlen(own) != id_len || memcmp(own, id, id_len) != 0)
				continue;
			rd->stored.view.attempts[i] = (uint32_t)pg_int(r, row, 1);
			if (pg_null(r, row, 2))
				continue;
			error = pg_bytes(r, row, 2, &len);
			rd->stored.view.last_error[i] = arena_strndup(&rd->arena, error, len);
			if (!rd->stored.view.last_error[i])
				return ERR_NOMEM;
		}
	}
	return 0;
}

/* What repeated requests come to, and what is left to do. A closed transaction does not move at the
 * former; what it does at the latter happens to a copy. */
static int ask_core(struct view *v, struct txn *txn)
{
	struct effects fx;

	v->may_commit = txn_step(txn, &(struct event){.type = EV_COMMIT}, &fx) == 0;
	v->may_rollback = txn_step(txn, &(struct event){.type = EV_ROLLBACK}, &fx) == 0;
	if (!v->parked_for)
		return 0;
	if (txn_step(txn, &(struct event){.type = EV_RESUME}, &fx) < 0)
		return ERR_INVALID;
	for (unsigned i = 0; i < txn->n_branch; i++)
		v->op[i] = txn->branch[i].op;
	return 0;
}

/* As recovery would see it: the core knows what state and branches say about the decision. */
static int read_decision(struct reading *rd, const char *branch_state)
{
	struct view *v = &rd->stored.view;
	struct txn_config config = {.mode = rd->spec.mode,
	                            .n_branch = rd->spec.n_branch,
	                            .interactive = rd->spec.interactive,
	                            .undo_confirms = rd->spec.undo_confirms,
	                            .forward = rd->spec.forward,
	                            .phase_timeout_us = rd->spec.phase_timeout_us};
	struct txn txn;
	int rc = txn_init(&txn, &rd->arena, &config);

	if (rc == 0)
		rc = txn_restore(&txn, (enum txn_state)v->state.state,
		                 (enum txn_outcome)v->state.outcome, (const uint8_t *)branch_state);
	if (rc < 0)
		return rc;
	v->decision = txn_decision(&txn);
	for (unsigned i = 0; i < txn.n_branch; i++)
		v->branch[i] = txn.branch[i].state;
	return v->state.state == TXN_ACTIVE ? 0 : ask_core(v, &txn);
}

static int read_parked(struct reading *rd, const struct pg_result *r)
{
	struct view *v = &rd->stored.view;
	const char *label;
	size_t len;

	if (pg_null(r, 0, GET_PARKED_FOR) || view_is_final(v))
		return 0;
	label = pg_bytes(r, 0, GET_PARKED_FOR, &len);
	v->parked_for = arena_strndup(&rd->arena, label, len);
	v->parked_until_us = time_us(r, GET_PARKED_UNTIL);
	return v->parked_for ? 0 : ERR_NOMEM;
}

static int read_row(struct reading *rd, const struct pg_result *r)
{
	struct view *v = &rd->stored.view;
	struct complaint complaint;
	const char *body, *text, *enlisted = NULL;
	size_t len, n_enlisted = 0;

	if (!pg_null(r, 0, GET_ENLISTED))
		enlisted = pg_bytes(r, 0, GET_ENLISTED, &n_enlisted);
	text = pg_bytes(r, 0, GET_SUBMISSION, &len);
	body = arena_strndup(&rd->arena, text, len);
	if (!body)
		return ERR_NOMEM;
	rd->stored.body = body;
	rd->stored.body_len = len;
	if (submission_decode(body, len, NULL, &rd->arena, &rd->spec, &complaint) ||
	    submission_add_stored(enlisted, n_enlisted, &rd->arena, &rd->spec, &complaint)) {
		log_error(rd->gid, "the stored submission cannot be read: %s %s", complaint.pointer,
		          complaint.detail);
		return ERR_INVALID;
	}
	text = pg_bytes(r, 0, GET_BODY_SHA256, &len);
	if (len != DIGEST_LEN)
		return ERR_INVALID;
	memcpy(rd->stored.body_sha256, text, len);
	v->gid = rd->gid;
	v->spec = &rd->spec;
	v->state.state = (int16_t)pg_int(r, 0, GET_STATE);
	v->state.outcome = (int16_t)pg_int(r, 0, GET_OUTCOME);
	v->state.decided_us = time_us(r, GET_DECIDED);
	v->state.ended_us = time_us(r, GET_ENDED);
	v->created_us = time_us(r, GET_CREATED);
	v->deadline_us = time_us(r, GET_DEADLINE);
	text = pg_bytes(r, 0, GET_BRANCH_STATE, &len);
	if (len != rd->spec.n_branch || read_parked(rd, r) < 0)
		return ERR_INVALID;
	return read_decision(rd, text);
}

static void conclude(struct reading *rd, enum stored_result result)
{
	rd->done(rd->ctx, result, result == STORED_FOUND ? &rd->stored : NULL);
	arena_release(&rd->arena);
	free(rd);
}

static void on_row(void *ctx, const struct pg_outcome *outcome)
{
	struct reading *rd = ctx;

	if (outcome->err) {
		log_warn(rd->gid, "reading a transaction failed: %s", outcome->message);
		conclude(rd, STORED_UNKNOWN);
	} else if (pg_rows(outcome->result[0]) == 0) {
		conclude(rd, STORED_ABSENT);
	} else if (read_row(rd, outcome->result[0]) < 0 ||
	           (outcome->n_result > 1 && read_calls(rd, outcome->result[1]) < 0)) {
		conclude(rd, STORED_UNKNOWN);
	} else {
		conclude(rd, STORED_FOUND);
	}
}

static struct reading *reading_new(const char *gid, stored_fn *done, void *ctx)
{
	struct reading *rd = calloc(1, sizeof *rd);

	if (!rd)
		return NULL;
	rd->done = done;
	rd->ctx = ctx;
	(void)snprintf(rd->gid, sizeof rd->gid, "%s", gid);
	arena_init(&rd->arena, 0);
	return rd;
}

void stored_get(struct node *node, const char *gid, stored_fn *done, void *ctx)
{
	struct reading *rd = reading_new(gid, done, ctx);
	struct pg_batch *batch = rd ? pg_batch_begin(node->reader) : NULL;
	struct pg_param param;

	if (!batch) {
		free(rd);
		done(ctx, STORED_UNKNOWN, NULL);
		return;
	}
	param = (struct pg_param){.data = rd->gid, .len = strlen(rd->gid)};
	pg_batch_add(batch, SQL_GET, &param);
	pg_batch_add(batch, SQL_BRANCH_CALLS, &param);
	pg_batch_send(batch, on_row, rd);
}

void stored_get_owned(struct node *node, const char *gid, stored_fn *done, void *ctx)
{
	struct reading *rd = reading_new(gid, done, ctx);
	struct pg_batch *batch = rd ? pg_batch_begin(node->writer) : NULL;
	struct pg_param param;

	if (!batch) {
		free(rd);
		done(ctx, STORED_UNKNOWN, NULL);
		return;
	}
	param = (struct pg_param){.data = rd->gid, .len = strlen(rd->gid)};
	pg_batch_add(batch, SQL_FIND, &param);
	pg_batch_send(batch, on_row, rd);
}
