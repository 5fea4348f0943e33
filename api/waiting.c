#include "api/waiting.h"

#include <string.h>

#include "base/clock.h"
#include "node/driver.h"
#include "node/node.h"

#define NAMES_MAX 3
#define ROOM      250 /* what most of these sentences take */
#define DAY_US    (INT64_C(86400) * 1000000)

/* "12:00:01.2", with the date before it when that is more than a day away. */
static void put_time(int64_t us, int64_t now_us, struct buf *out)
{
	size_t at = out->len;
	char text[sizeof "2026-01-02T03:04:05.0"];

	buf_put_time(out, us);
	if (out->failed)
		return;
	memcpy(text, out->data + at, sizeof text - 1);
	out->len = at;
	if (us < now_us - DAY_US || us > now_us + DAY_US) {
		buf_append(out, text, 10);
		buf_putc(out, ' ');
	}
	buf_append(out, text + 11, 10);
}

static void put_seconds(int64_t us, struct buf *out)
{
	int64_t tenths = (us + 99999) / 100000;

	buf_printf(out, "%lld.%lld s", (long long)(tenths / 10), (long long)(tenths % 10));
}

/* The branch that has failed most often is what somebody would look at first. */
static unsigned worst_branch(const struct txn *t)
{
	unsigned worst = t->n_branch;

	for (unsigned i = 0; i < t->n_branch; i++) {
		if (t->branch[i].op == OP_NONE)
			continue;
		if (worst == t->n_branch || t->branch[i].failures > t->branch[worst].failures)
			worst = i;
	}
	return worst;
}

/* Returns how many there are. The worst one is named first. */
static unsigned put_names(const struct gtx *g, unsigned worst, struct buf *out)
{
	const struct txn *t = &g->txn;
	unsigned n = 1, named = 1;

	for (unsigned i = 0; i < t->n_branch; i++)
		n += i != worst && t->branch[i].op == t->branch[worst].op;
	buf_puts(out, g->spec.branch[worst].id);
	for (unsigned i = 0; i < t->n_branch && named < n && named < NAMES_MAX; i++) {
		if (i == worst || t->branch[i].op != t->branch[worst].op)
			continue;
		named++;
		buf_puts(out, named == n ? " and " : ", ");
		buf_puts(out, g->spec.branch[i].id);
	}
	if (n > named)
		buf_printf(out, " and %u more", n - named);
	return n;
}

static void put_attempts(const struct gtx *g, unsigned i, bool alone, struct buf *out)
{
	const struct branch *b = &g->txn.branch[i];
	char text[96];
	const char *error = branch_note_str(&g->note[i], text, sizeof text);

	if (b->attempt == 0)
		return;
	buf_puts(out, " (");
	if (!alone) {
		buf_puts(out, g->spec.branch[i].id);
		buf_puts(out, ": ");
	}
	buf_put_uint(out, b->attempt);
	buf_puts(out, b->attempt == 1 ? " attempt" : " attempts");
	if (*error)
		buf_printf(out, ", last: %s", error);
	buf_putc(out, ')');
}

static void put_next(const struct branch *b, int64_t now_us, struct buf *out)
{
	if (b->in_call) {
		buf_puts(out, "; being asked now");
	} else if (b->due_us == INT64_MAX) {
		buf_puts(out, "; not asked now");
	} else {
		buf_puts(out, b->attempt ? "; asked again in " : "; asked in ");
		put_seconds(b->due_us > now_us ? b->due_us - now_us : 0, out);
	}
}

/* One of the branches in that state: there is one. */
static const char *id_in_state(const struct gtx *g, enum branch_state state)
{
	unsigned i = 0;

	while (i + 1 < g->txn.n_branch && g->txn.branch[i].state != state)
		i++;
	return g->spec.branch[i].id;
}

/* What ends the waiting, beside the answer: not the same in every phase. */
static void put_prospect(const struct gtx *g, int64_t now_us, struct buf *out)
{
	static const char *const until[TXN_STATE_MAX][2] = {
	    [TXN_PREPARING] = {"; rolled back at ", " unless all have voted"},
	    [TXN_TRYING] = {"; cancelled at ", " unless all have tried"},
	    [TXN_RUNNING] = {"; compensated at ", " unless all are done"},
	    [TXN_ASKING] = {"; aborted at ", " unless all can commit"},
	    [TXN_PRE_COMMITTING] = {"; undecided until all have pre-committed; at ",
	                            " they are asked to abort instead"},
	};
	const char *const *text = until[g->txn.state];

	if (g->txn.state == TXN_PRE_ABORTING)
		buf_puts(out, "; undecided: aborted when one of them has, committed when none can "
		              "abort");
	if (g->txn.state == TXN_PRE_COMMITTING && !txn_timed(&g->txn))
		buf_printf(out,
		           "; undecided, though %s has committed by itself: committed when all "
		           "have answered",
		           id_in_state(g, BRANCH_COMMITTED));
	if (!text[0] || !txn_timed(&g->txn) || g->txn.deadline_us == INT64_MAX)
		return;
	buf_puts(out, text[0]);
	put_time(g->deadline_us, node_db_time_us(g->node, now_us), out);
	buf_puts(out, text[1]);
}

static void put_branches(const struct gtx *g, unsigned worst, int64_t now_us, struct buf *out)
{
	const struct journal_state *s = driver_visible(g);
	const struct branch *b = &g->txn.branch[worst];
	unsigned n;

	buf_puts(out, "waits for ");
	n = put_names(g, worst, out);
	buf_puts(out, " to answer ");
	buf_puts(out, txn_op_str(b->op));
	buf_puts(out, " since ");
	put_time(s->decided_us ? s->decided_us : g->created_us, node_db_time_us(g->node, now_us),
	         out);
	put_attempts(g, worst, n == 1, out);
	put_next(b, now_us, out);
	put_prospect(g, now_us, out);
}

void waiting_for(const struct gtx *g, int64_t now_us, struct buf *out)
{
	unsigned worst = worst_branch(&g->txn);

	/* What the branches are told next gives away the decision: not before that is durable. */
	if (!g->entry.stored || !driver_is_durable(g)) {
		buf_puts(out, "waits for the database to store its newest state");
	} else if (txn_ended(g->txn.state)) {
		if (!txn_ended((enum txn_state)driver_visible(g)->state))
			buf_puts(out, "waits for the database to store its end");
	} else if (worst < g->txn.n_branch) {
		put_branches(g, worst, now_us, out);
	} else if (g->txn.state == TXN_ACTIVE) {
		buf_puts(out, "waits for its initiator to commit or roll back since ");
		put_time(g->created_us, node_db_time_us(g->node, now_us), out);
		if (g->txn.deadline_us != INT64_MAX) {
			buf_puts(out, "; rolled back at ");
			put_time(g->deadline_us, node_db_time_us(g->node, now_us), out);
		}
	} else {
		buf_puts(out, "waits for its next step");
	}
}

/* The wall clock is good enough to say which times need a date. */
void waiting_put_json_parked(const struct waiting_parked *p, struct buf *out)
{
	int64_t now_us = clock_wall_us();
	struct buf text = BUF_INIT;

	buf_puts(&text, "waits for ");
	buf_append(&text, p->participant, p->participant_len);
	buf_puts(&text, " to answer since ");
	put_time(p->since_us, now_us, &text);
	buf_puts(&text, "; parked: asked again at ");
	put_time(p->until_us, now_us, &text);
	buf_puts(&text, ", or when it answers another call");
	buf_put_json_strn(out, text.len ? text.data : NULL, text.len);
	buf_release(&text);
}

void waiting_put_json(const struct gtx *g, struct buf *out)
{
	struct buf text = BUF_INIT;

	if (g) {
		buf_reserve(&text, ROOM);
		waiting_for(g, clock_mono_us(), &text);
	}
	buf_put_json_strn(out, text.len ? text.data : NULL, text.len);
	buf_release(&text);
}
