/*
 * submit.c - POST /v1/transactions and PUT /v1/transactions/{gid}.
 *
 * A transaction is answered for only when its creation is durable. The same gid with the same
 * body is the same transaction, whether the first request is still being stored, in memory or
 * long finished; with another body it is a conflict.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/conflict.h"
#include "api/handlers.h"
#include "api/idempotency.h"
#include "api/stored.h"
#include "base/clock.h"
#include "base/json_scan.h"
#include "node/driver.h"

#define STORE_LIMIT_US (INT64_C(30) * 1000000)

/* A request that waits for its transaction. */
struct submit {
	struct waiter waiter;
	struct exchange *x;
	uint8_t body_sha256[DIGEST_LEN];
	int64_t wait_us; /* from Prefer: wait; 0 for none */
	char gid[GID_MAX + 1];
};

/* A client that let us choose the gid learns it here: another POST would be another transaction. */
static void reply_unknown(const struct submit *s)
{
	struct complaint c;

	(void)complain(&c, PROBLEM_NOT_READY, "",
	               "whether the transaction was stored is not known; repeat the same body with "
	               "PUT /v1/transactions/%s",
	               s->gid);
	exchange_problem(s->x, &c);
}

static void on_stored(void *ctx, enum stored_result result, const struct stored *stored)
{
	struct submit *s = ctx;

	if (result == STORED_UNKNOWN) {
		reply_unknown(s);
	} else if (result == STORED_ABSENT) {
		/* Neither inserted nor there. */
		node_lost(s->x->node, "a creation was refused: this node no longer owns the shard");
		exchange_fail(s->x, PROBLEM_NOT_READY, "the transaction was not stored; try again");
	} else if (memcmp(stored->body_sha256, s->body_sha256, DIGEST_LEN) != 0) {
		reply_conflict(s->x, s->gid, stored->body, stored->body_len);
	} else {
		view_reply(&stored->view, s->x, false);
	}
	free(s);
}

static void reply_live(struct submit *s, const struct gtx *g)
{
	struct view v;

	if (memcmp(g->body_sha256, s->body_sha256, DIGEST_LEN) != 0) {
		reply_conflict(s->x, s->gid, g->body, g->body_len);
		return;
	}
	if (s->waiter.what == WAIT_ENDED && txn_ended(g->txn.state) && driver_is_durable(g))
		view_ended(&v, g);
	else
		view_durable(&v, g);
	view_reply(&v, s->x, false);
}

static void on_waited(struct waiter *w, enum wait_result result)
{
	struct submit *s = container_of(w, struct submit, waiter);

	switch (result) {
	case WAIT_EXISTS:
		stored_get(s->x->node, s->gid, on_stored, s);
		return;
	case WAIT_DONE:
		reply_live(s, w->gtx);
		break;
	case WAIT_TIMEOUT:
	case WAIT_LOST:
		/* What was durable stays so, whatever became of the session. */
		if (w->gtx->entry.stored)
			reply_live(s, w->gtx);
		else
			reply_unknown(s);
		break;
	case WAIT_FAILED:
		exchange_fail(s->x, PROBLEM_INTERNAL,
		              "the database refused the transaction; nothing was stored");
		break;
	}
	free(s);
}

static void wait_for(struct gtx *g, struct submit *s)
{
	bool same = memcmp(g->body_sha256, s->body_sha256, DIGEST_LEN) == 0;
	/* Nothing ends an interactive transaction before its initiator says more. */
	bool until_end = same && s->wait_us > 0 && !g->spec.interactive;
	int64_t limit_us = until_end ? s->wait_us : STORE_LIMIT_US;

	if (driver_wait(g, &s->waiter, until_end ? WAIT_ENDED : WAIT_STORED,
	                clock_mono_us() + limit_us) < 0) {
		exchange_fail(s->x, PROBLEM_OVERLOADED, "out of memory; try again");
		free(s);
	}
}

/* The gid that counts: the path's, the body's, the one that an Idempotency-Key stands for, or a
 * new one. */
static enum problem choose_gid(const struct exchange *x, struct gtx *g, struct complaint *c)
{
	uint64_t random[2];
	enum problem p;

	if (x->gid[0] && g->spec.gid && strcmp(x->gid, g->spec.gid) != 0)
		return complain(c, PROBLEM_GID_MISMATCH, "/gid",
		                "the path says %s; leave the member out", x->gid);
	if (x->gid[0] || g->spec.gid) {
		(void)snprintf(g->gid, sizeof g->gid, "%s", x->gid[0] ? x->gid : g->spec.gid);
		return PROBLEM_NONE;
	}
	p = idempotency_gid(http_request_header(x->rq, "Idempotency-Key"), x->caller.name, g->gid,
	                    c);
	if (p || g->gid[0])
		return p;
	digest_random(random, sizeof random);
	(void)snprintf(g->gid, sizeof g->gid, "%016llx%016llx", (unsigned long long)random[0],
	               (unsigned long long)random[1]);
	return PROBLEM_NONE;
}

static void submit_new(struct exchange *x, struct gtx *g, struct submit *s)
{
	int rc = driver_submit(g);

	if (rc == 0) {
		if (s->wait_us == 0)
			intake_submitted(g);
		wait_for(g, s);
		return;
	}
	gtx_free(g);
	free(s);
	exchange_fail(x, PROBLEM_OVERLOADED,
	              rc == ERR_LIMIT ? x->node->admission.why : "out of memory; try again");
}

static void submit(struct exchange *x, struct gtx *g)
{
	struct submit *s = calloc(1, sizeof *s);
	struct gtx *known;

	if (!s) {
		gtx_free(g);
		exchange_fail(x, PROBLEM_OVERLOADED, "out of memory; try again");
		return;
	}
	s->x = x;
	s->waiter.fn = on_waited;
	s->wait_us = exchange_preferred_wait_us(x);
	digest_sha256(g->body, g->body_len, s->body_sha256);
	memcpy(g->body_sha256, s->body_sha256, DIGEST_LEN);
	memcpy(s->gid, g->gid, sizeof s->gid);
	known = driver_find(x->node, g->gid);
	if (known) {
		gtx_free(g);
		wait_for(known, s);
	} else {
		submit_new(x, g, s);
	}
}

/* Whether somebody is refused before the body is decoded. Never who repeats what is in memory;
 * which gid a key stands for is found out later. */
static bool refuse_unread(struct exchange *x, const char *body, size_t len)
{
	struct admission *a = &x->node->admission;
	char gid[GID_MAX + 1];
	int rc = 0;

	if (!admission_is_crowded(a, x->node) || http_request_header(x->rq, "Idempotency-Key"))
		return false;
	if (x->gid[0])
		memcpy(gid, x->gid, sizeof gid);
	else
		rc = json_scan_top_str(body, len, "gid", gid, sizeof gid);
	if ((rc < 0 && rc != ERR_NOTFOUND) || (rc == 0 && driver_find(x->node, gid)) ||
	    admission_check_unread(a, x->node, body, len, clock_mono_us()) == 0)
		return false;
	exchange_fail(x, PROBLEM_OVERLOADED, a->why);
	return true;
}

void handle_submit(struct exchange *x)
{
	struct complaint c;
	const char *body;
	struct gtx *g;
	size_t len;

	if (exchange_refuse_early(x, true, &c)) {
		exchange_problem(x, &c);
		return;
	}
	body = http_request_body(x->rq, &len);
	if (refuse_unread(x, body, len))
		return;
	g = gtx_new(x->node, body, len);
	if (!g) {
		exchange_fail(x, PROBLEM_OVERLOADED, "out of memory; try again");
		return;
	}
	if (submission_decode(g->body, g->body_len, x->node->config->registry, &g->arena, &g->spec,
	                      &c) ||
	    choose_gid(x, g, &c)) {
		gtx_free(g);
		exchange_problem(x, &c);
		return;
	}
	gtx_set_trace(g, http_request_header(x->rq, "traceparent"));
	submit(x, g);
}
