/*
 * interactive.c - transactions that grow: enlist a branch, commit, rollback.
 *
 * Every call may be repeated: it is answered from what it did the first time. A branch that joins
 * while the deadline fires is either in, and will be rolled back, or refused with 409; the core
 * takes both in one order, and the answer waits until that is durable.
 */
#include <stdlib.h>
#include <string.h>

#include "api/handlers.h"
#include "api/stored.h"
#include "base/clock.h"
#include "node/driver.h"

#define STORE_LIMIT_US (INT64_C(30) * 1000000)

enum change_kind {
	CHANGE_ENLIST,
	CHANGE_COMMIT,
	CHANGE_ROLLBACK,
};

/* A request that changes a transaction, and waits until the change is durable. */
struct change {
	struct waiter waiter;
	struct exchange *x;
	enum change_kind kind;
	int64_t wait_us;
	bool refused; /* the state does not allow it */
	/* CHANGE_ENLIST: the branch, decoded on its own to find its id and its faults. */
	struct arena arena;
	struct submission alone;
	const char *body;
	size_t len;
};

static void finish(struct change *ch)
{
	arena_release(&ch->arena);
	free(ch);
}

static void fail(struct change *ch, enum problem p, const char *detail)
{
	exchange_fail(ch->x, p, detail);
	finish(ch);
}

static void refuse_state(struct change *ch, const struct view *v)
{
	static const char *const what[] = {
	    [CHANGE_ENLIST] = "take another branch",
	    [CHANGE_COMMIT] = "be committed",
	    [CHANGE_ROLLBACK] = "be rolled back",
	};
	struct complaint c;

	if (!v->spec->interactive)
		(void)complain(
		    &c, PROBLEM_WRONG_STATE, "",
		    "this transaction was submitted whole: it is decided by its branches' "
		    "votes alone");
	else
		(void)complain(&c, PROBLEM_WRONG_STATE, "",
		               "it is %s with outcome %s: it cannot %s",
		               txn_state_str((enum txn_state)v->state.state),
		               txn_outcome_str((enum txn_outcome)v->state.outcome), what[ch->kind]);
	exchange_problem(ch->x, &c);
	finish(ch);
}

static void reply(struct change *ch, const struct view *v)
{
	view_reply(v, ch->x, ch->kind == CHANGE_ENLIST);
	finish(ch);
}

static void reply_live(struct change *ch, const struct gtx *g)
{
	struct view v;

	if (ch->waiter.what == WAIT_ENDED && txn_ended(g->txn.state) && driver_is_durable(g))
		view_ended(&v, g);
	else
		view_durable(&v, g);
	if (ch->refused)
		refuse_state(ch, &v);
	else
		reply(ch, &v);
}

static void on_waited(struct waiter *w, enum wait_result result)
{
	struct change *ch = container_of(w, struct change, waiter);

	if (result == WAIT_DONE || w->seq <= w->gtx->entry.durable_seq)
		reply_live(ch, w->gtx);
	else
		fail(ch, PROBLEM_NOT_READY,
		     "whether this was stored is not known; repeat the request");
}

/* A refusal waits, too: it rests on a state that may not be durable yet. Told at once and lost in a
 * crash, a late duplicate of the same request would be accepted after all. */
static void wait_for(struct change *ch, struct gtx *g)
{
	bool until_end = ch->kind != CHANGE_ENLIST && ch->wait_us > 0 && !ch->refused;

	ch->waiter.fn = on_waited;
	if (driver_wait(g, &ch->waiter, until_end ? WAIT_ENDED : WAIT_FORCED,
	                clock_mono_us() + (until_end ? ch->wait_us : STORE_LIMIT_US)) < 0)
		fail(ch, PROBLEM_OVERLOADED, "out of memory; try again");
}

static void branch_conflict(struct change *ch)
{
	struct complaint c;

	(void)complain(
	    &c, PROBLEM_BRANCH_CONFLICT, "/id",
	    "%s is a branch already, with another body; use an id once, and repeat a request "
	    "byte for byte",
	    ch->alone.branch[0].id);
	exchange_problem(ch->x, &c);
	finish(ch);
}

static bool same_branch(const struct change *ch, const struct branch_spec *known)
{
	return known->enlisted && known->enlisted_len == ch->len &&
	       memcmp(known->enlisted, ch->body, ch->len) == 0;
}

static void enlist_live(struct change *ch, struct gtx *g)
{
	const struct branch_spec *known = submission_find(&g->spec, ch->alone.branch[0].id);
	struct complaint c;
	int rc = 0;

	if (known && !same_branch(ch, known)) {
		branch_conflict(ch);
		return;
	}
	if (!known && g->txn.state == TXN_ACTIVE &&
	    submission_check_peers(&g->spec, ch->alone.branch, ch->x->node->config->registry, &c)) {
		exchange_problem(ch->x, &c);
		finish(ch);
		return;
	}
	if (!known)
		rc = driver_enlist(g, ch->body, ch->len);
	ch->refused = rc == ERR_STATE;
	if (rc == 0 || rc == ERR_STATE) {
		wait_for(ch, g);
	} else if (rc == ERR_LIMIT) {
		fail(ch, PROBLEM_BRANCH_COUNT, "the transaction has 64 branches already");
	} else {
		fail(ch, PROBLEM_OVERLOADED, "out of memory; try again");
	}
}

static void close_live(struct change *ch, struct gtx *g)
{
	ch->refused = driver_close(g, ch->kind == CHANGE_COMMIT ? EV_COMMIT : EV_ROLLBACK) < 0;
	wait_for(ch, g);
}

/* It has ended, or is parked: only a repetition of what was done then is no contradiction. */
static void answer_closed(struct change *ch, const struct view *v)
{
	const struct branch_spec *known;

	switch (ch->kind) {
	case CHANGE_COMMIT:
	case CHANGE_ROLLBACK:
		if (ch->kind == CHANGE_COMMIT ? v->may_commit : v->may_rollback) {
			reply(ch, v);
			return;
		}
		break;
	case CHANGE_ENLIST:
		known = submission_find(v->spec, ch->alone.branch[0].id);
		if (known && same_branch(ch, known)) {
			reply(ch, v);
			return;
		}
		break;
	}
	refuse_state(ch, v);
}

static void on_stored(void *ctx, enum stored_result result, const struct stored *stored)
{
	struct change *ch = ctx;

	if (result == STORED_UNKNOWN)
		fail(ch, PROBLEM_NOT_READY, "the database cannot be asked now; try again");
	else if (result == STORED_ABSENT)
		fail(ch, PROBLEM_UNKNOWN_TRANSACTION,
		     "there is no such transaction: begin it first");
	else if (stored->view.state.state == TXN_ACTIVE)
		fail(ch, PROBLEM_NOT_READY, "the transaction is being loaded; try again");
	else
		answer_closed(ch, &stored->view);
}

static void apply(struct change *ch)
{
	struct gtx *g = driver_find(ch->x->node, ch->x->gid);

	/* Before its begin is durable there is nothing that could be changed. */
	if (!g || !g->entry.stored)
		stored_get_owned(ch->x->node, ch->x->gid, on_stored, ch);
	else if (ch->kind == CHANGE_ENLIST)
		enlist_live(ch, g);
	else
		close_live(ch, g);
}

static struct change *change_new(struct exchange *x, enum change_kind kind)
{
	struct complaint c;
	struct change *ch;

	if (exchange_refuse_early(x, kind == CHANGE_ENLIST, &c)) {
		exchange_problem(x, &c);
		return NULL;
	}
	ch = calloc(1, sizeof *ch);
	if (!ch) {
		exchange_fail(x, PROBLEM_OVERLOADED, "out of memory; try again");
		return NULL;
	}
	ch->x = x;
	ch->kind = kind;
	ch->wait_us = exchange_preferred_wait_us(x);
	arena_init(&ch->arena, 0);
	return ch;
}

/* 0: not in memory, and so not open for another branch, whatever its operations are. */
static enum txn_mode mode_of(const struct exchange *x)
{
	const struct gtx *g = driver_find(x->node, x->gid);

	return g ? g->spec.mode : (enum txn_mode)0;
}

void handle_enlist(struct exchange *x)
{
	struct change *ch = change_new(x, CHANGE_ENLIST);
	struct complaint c;
	const char *body;

	if (!ch)
		return;
	body = http_request_body(x->rq, &ch->len);
	ch->body = arena_strndup(&ch->arena, body, ch->len);
	ch->alone.interactive = true;
	ch->alone.mode = mode_of(x);
	if (!ch->body) {
		fail(ch, PROBLEM_OVERLOADED, "out of memory; try again");
	} else if (submission_add_branch(ch->body, ch->len, x->node->config->registry, &ch->arena,
	                                 &ch->alone, &c)) {
		exchange_problem(x, &c);
		finish(ch);
	} else {
		apply(ch);
	}
}

/* Neither takes a body; one that comes all the same says nothing. */
void handle_commit(struct exchange *x)
{
	struct change *ch = change_new(x, CHANGE_COMMIT);

	if (ch)
		apply(ch);
}

void handle_rollback(struct exchange *x)
{
	struct change *ch = change_new(x, CHANGE_ROLLBACK);

	if (ch)
		apply(ch);
}
