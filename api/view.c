#include "api/view.h"

#include <stdio.h>
#include <string.h>

#include "api/waiting.h"
#include "base/clock.h"
#include "node/driver.h"

#define ROOM 1000 /* what most answers take */

static void view_gtx(struct view *v, const struct gtx *g)
{
	memset(v, 0, sizeof *v);
	v->gid = g->gid;
	v->spec = &g->spec;
	v->created_us = g->created_us;
	v->deadline_us = g->deadline_us;
	v->live = g;
	for (unsigned i = 0; i < g->spec.n_branch; i++) {
		v->attempts[i] = g->note[i].n_call;
		v->branch[i] = g->txn.branch[i].state;
	}
}

/* What a branch has come to follows from the decision: both are told when that is durable. */
static void hide_ends(struct view *v, const struct gtx *g)
{
	for (unsigned i = 0; i < g->spec.n_branch; i++) {
		if (v->branch[i] == BRANCH_ABORTED || v->branch[i] == BRANCH_COMMITTED)
			v->branch[i] = (enum branch_state)v->state.branch[i];
	}
}

void view_durable(struct view *v, const struct gtx *g)
{
	view_gtx(v, g);
	v->state = *driver_visible(g);
	if (!driver_is_durable(g))
		hide_ends(v, g);
	if (v->state.outcome != OUTCOME_PENDING)
		v->decision = txn_decision(&g->txn); /* it never changes */
}

void view_ended(struct view *v, const struct gtx *g)
{
	view_gtx(v, g);
	v->state.state = (int16_t)g->txn.state;
	v->state.outcome = (int16_t)g->txn.outcome;
	v->state.decided_us = g->decided_us;
	v->state.ended_us = g->ended_us;
}

bool view_is_final(const struct view *v)
{
	return txn_ended((enum txn_state)v->state.state);
}

const char *view_decision(const struct view *v)
{
	switch (v->decision) {
	case OUTCOME_COMMITTED:
		return "commit";
	case OUTCOME_ABORTED:
		return "abort";
	case OUTCOME_PENDING:
	case OUTCOME_MIXED:
	case OUTCOME_MAX:
		break;
	}
	return "pending";
}

static void put_last_error(const struct view *v, unsigned i, struct buf *out)
{
	char text[96];
	const char *error = v->last_error[i];

	if (v->live)
		error = branch_note_str(&v->live->note[i], text, sizeof text);
	buf_puts(out, ",\"last_error\":");
	buf_put_json_str(out, error && *error ? error : NULL);
}

/* A word of ours: nothing in it is escaped. */
static void put_word(struct buf *out, const char *member, const char *word)
{
	buf_puts(out, member);
	buf_putc(out, '"');
	buf_puts(out, word);
	buf_putc(out, '"');
}

static void put_branch(const struct view *v, unsigned i, struct buf *out)
{
	const struct branch *b = NULL;
	int64_t next_us = 0;
	enum txn_op op = v->op[i];

	/* What the branch is told next gives away the decision: not before that is durable. */
	if (v->live && driver_is_durable(v->live)) {
		b = &v->live->txn.branch[i];
		op = b->op;
	}
	buf_puts(out, "{\"id\":");
	buf_put_json_str(out, v->spec->branch[i].id);
	buf_puts(out, ",\"participant\":");
	buf_put_json_str(out, v->spec->branch[i].participant);
	put_word(out, ",\"state\":", branch_state_str(v->branch[i]));
	buf_puts(out, ",\"op\":");
	buf_put_json_str(out, op != OP_NONE ? txn_op_str(op) : NULL);
	buf_puts(out, ",\"attempts\":");
	buf_put_uint(out, v->attempts[i]);
	put_last_error(v, i, out);
	buf_puts(out, ",\"next_retry_at\":");
	if (b && b->op != OP_NONE && !b->in_call && b->due_us != INT64_MAX)
		next_us = node_db_time_us(v->live->node, b->due_us);
	else if (!v->live && op != OP_NONE)
		next_us = v->parked_until_us;
	buf_put_json_time(out, next_us);
	buf_putc(out, '}');
}

void view_put_json(const struct view *v, struct buf *out)
{
	buf_puts(out, "{\"gid\":");
	buf_put_json_str(out, v->gid);
	buf_puts(out, v->spec->interactive ? ",\"interactive\":true" : ",\"interactive\":false");
	put_word(out, ",\"mode\":", txn_mode_str(v->spec->mode));
	put_word(out, ",\"state\":", txn_state_str((enum txn_state)v->state.state));
	put_word(out, ",\"outcome\":", txn_outcome_str((enum txn_outcome)v->state.outcome));
	buf_puts(out, ",\"created_at\":");
	buf_put_json_time(out, v->created_us);
	buf_puts(out, ",\"deadline_at\":");
	buf_put_json_time(out, v->deadline_us);
	buf_puts(out, ",\"decided_at\":");
	buf_put_json_time(out, v->state.decided_us);
	buf_puts(out, ",\"ended_at\":");
	buf_put_json_time(out, v->state.ended_us);
	buf_puts(out, ",\"labels\":{");
	for (size_t i = 0; i < v->spec->n_label; i++) {
		if (i)
			buf_putc(out, ',');
		buf_put_json_str(out, v->spec->label[i].name);
		buf_putc(out, ':');
		buf_put_json_str(out, v->spec->label[i].value);
	}
	buf_puts(out, "},\"waiting_for\":");
	if (v->live || !v->parked_for || view_is_final(v))
		waiting_put_json(view_is_final(v) ? NULL : v->live, out);
	else
		waiting_put_json_parked(
		    &(struct waiting_parked){
		        .participant = v->parked_for,
		        .participant_len = strlen(v->parked_for),
		        .since_us = v->state.decided_us ? v->state.decided_us : v->created_us,
		        .until_us = v->parked_until_us,
		    },
		    out);
	buf_puts(out, ",\"branches\":[");
	for (unsigned i = 0; i < v->spec->n_branch; i++) {
		if (i)
			buf_putc(out, ',');
		put_branch(v, i, out);
	}
	buf_puts(out, "]}");
}

void view_reply(const struct view *v, struct exchange *x, bool always_ok)
{
	char location[sizeof "/v1/transactions/" + GID_MAX];
	struct buf body = BUF_INIT;

	(void)snprintf(location, sizeof location, "/v1/transactions/%s", v->gid);
	buf_reserve(&body, ROOM);
	view_put_json(v, &body);
	exchange_json(x, always_ok || view_is_final(v) ? 200 : 202, &body,
	              always_ok ? NULL : location);
}
