/*
 * transaction.c - GET of one transaction, and GET of its decision for participants in doubt.
 */
#include "api/handlers.h"
#include "api/stored.h"
#include "node/driver.h"

#define CANNOT_READ "the database cannot be asked now; try again"

static void on_stored(void *ctx, enum stored_result result, const struct stored *stored)
{
	struct exchange *x = ctx;
	struct complaint c;

	if (result == STORED_UNKNOWN || !node_ready(x->node)) {
		/* A creation whose commit lost its reply may still appear. And what can be read is
		 * not always safe: a commit whose wait for the synchronous standby was cancelled.
		 * Behind the commit of a take-over everything is. */
		exchange_fail(x, PROBLEM_NOT_READY, CANNOT_READ);
	} else if (result == STORED_FOUND) {
		view_reply(&stored->view, x, true);
	} else {
		(void)complain(&c, PROBLEM_UNKNOWN_TRANSACTION, "", "there is no transaction %s",
		               x->gid);
		exchange_problem(x, &c);
	}
}

void handle_get(struct exchange *x)
{
	const struct gtx *g = driver_find(x->node, x->gid);
	struct view v;

	if (g && g->entry.stored) {
		view_durable(&v, g);
		view_reply(&v, x, true);
		return;
	}
	/* While its creation is on its way the database says what counts: there is none. */
	stored_get(x->node, x->gid, on_stored, x);
}

static void reply_decision(struct exchange *x, const char *decision, bool presumed)
{
	struct buf body = BUF_INIT;

	buf_puts(&body, "{\"gid\":");
	buf_put_json_str(&body, x->gid);
	buf_printf(&body, ",\"cluster\":\"%s\",\"decision\":\"%s\",\"presumed\":%s}",
	           x->node->cluster, decision, presumed ? "true" : "false");
	exchange_json(x, 200, &body, NULL);
}

static void reply_live_decision(struct exchange *x, const struct gtx *g)
{
	struct view v;

	view_durable(&v, g);
	reply_decision(x, view_decision(&v), false);
}

static void on_stored_decision(void *ctx, enum stored_result result, const struct stored *stored)
{
	struct exchange *x = ctx;
	const struct gtx *g = driver_find(x->node, x->gid);

	/* It may have been submitted while the database was asked, and the shards may have gone. */
	if (!node_ready(x->node) || result == STORED_UNKNOWN)
		exchange_fail(x, PROBLEM_NOT_READY, CANNOT_READ);
	else if (g && g->entry.stored)
		reply_live_decision(x, g);
	else if (result == STORED_FOUND)
		reply_decision(x, view_decision(&stored->view), false);
	else if (g)
		reply_decision(x, "pending", false);
	else
		reply_decision(x, "abort", true); /* presumed abort: nobody was told to commit */
}

/* Only the loaded owner may answer: elsewhere "unknown" would not mean abort. */
void handle_decision(struct exchange *x)
{
	const struct gtx *g;

	if (!node_ready(x->node)) {
		exchange_fail(x, PROBLEM_NOT_READY, "this node has not loaded the transactions");
		return;
	}
	g = driver_find(x->node, x->gid);
	/* A creation on its way may be a repetition of what ended long ago: the database knows. */
	if (g && g->entry.stored)
		reply_live_decision(x, g);
	else
		stored_get_owned(x->node, x->gid, on_stored_decision, x);
}
