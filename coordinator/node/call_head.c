#include "node/call_head.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "node/gtx.h"
#include "node/node.h"
#include "node/secret.h"

/* What the lines of most calls take. */
#define HEADER_ROOM 1000

/* The value follows, and end_header. */
static void begin_header(struct call_head *h, const char *name)
{
	assert(h->n < CALL_HEADER_MAX);
	h->at[h->n++] = h->text.len;
	buf_puts(&h->text, name);
	buf_puts(&h->text, ": ");
}

static void end_header(struct call_head *h)
{
	buf_putc(&h->text, '\0');
}

static void add_header(struct call_head *h, const char *name, const char *value)
{
	begin_header(h, name);
	buf_puts(&h->text, value);
	end_header(h);
}

static void add_number(struct call_head *h, const char *name, uint64_t value)
{
	begin_header(h, name);
	buf_put_uint(&h->text, value);
	end_header(h);
}

static void add_idempotency_key(struct call_head *h, const struct gtx *g, const char *branch,
                                const char *op)
{
	begin_header(h, "Idempotency-Key");
	buf_putc(&h->text, '"');
	buf_puts(&h->text, g->node->cluster);
	buf_putc(&h->text, '/');
	buf_puts(&h->text, g->gid);
	buf_putc(&h->text, '/');
	buf_puts(&h->text, branch);
	buf_putc(&h->text, '/');
	buf_puts(&h->text, op);
	buf_putc(&h->text, '"');
	end_header(h);
}

/* For people and logs; the durations are what counts. */
static void add_deadline(struct call_head *h, const struct gtx *g)
{
	begin_header(h, "Assent-Deadline");
	buf_put_time(&h->text, g->deadline_us);
	end_header(h);
}

/* Nobody but a participant that holds its work for others needs to know who they are. */
static int add_peers(struct call_head *h, struct gtx *g, unsigned branch)
{
	uint64_t wanted = 0;
	int rc;

	for (unsigned i = 0; i < g->txn.n_branch; i++)
		wanted |= (uint64_t)(g->txn.branch[i].state != BRANCH_READ_ONLY) << i;
	if (!(wanted & ~((uint64_t)1 << branch)))
		return 0;
	if (!g->peers.text) {
		rc = peer_list_build(&g->peers, &g->spec, wanted, g->node->config->registry,
		                     &g->arena);
		admission_count(g);
		if (rc == ERR_DENIED)
			log_warn(g->gid, "branch %s is not called: a peer of it has no address now",
			         g->spec.branch[branch].id);
		if (rc < 0)
			return rc;
	}
	begin_header(h, "Assent-Peers");
	rc = peer_list_put(&g->peers, g->spec.n_branch, branch, &h->text);
	end_header(h);
	return rc;
}

/* What participants of a three-phase commit are told of times and of each other. */
static int add_three_phase(struct call_head *h, struct gtx *g, const struct action *act)
{
	int64_t hold_us = g->spec.hold_us;

	if (act->op == OP_PRE_ABORT)
		add_header(h, "Assent-Intent", "true");
	if (act->op != OP_CAN_COMMIT && act->op != OP_PRE_COMMIT)
		return 0;
	/* Whoever can commit remembers that until it could be asked to pre-commit at the latest. */
	if (act->op == OP_CAN_COMMIT)
		hold_us = g->spec.phase_timeout_us +
		          (g->spec.interactive ? g->spec.vote_timeout_us : g->spec.timeout_us);
	add_number(h, "Assent-Hold-Ms", (uint64_t)hold_us / 1000);
	add_header(h, "Assent-On-Timeout", g->spec.branch[act->branch].waits ? "wait" : "commit");
	return act->op == OP_PRE_COMMIT ? add_peers(h, g, act->branch) : 0;
}

static int add_headers(struct call_head *h, struct gtx *g, const struct action *act)
{
	const struct branch_spec *b = &g->spec.branch[act->branch];
	const char *op = txn_op_wire_str(act->op);
	bool votes = txn_op_votes(act->op, act->one_phase);
	bool ends = !g->txn.forward && (!votes || txn_timed(&g->txn));
	int64_t left_us = act->timeout_us;

	add_header(h, "Content-Type", "application/json");
	add_header(h, "Assent-Cluster", g->node->cluster);
	add_header(h, "Assent-Namespace", "default");
	add_header(h, "Assent-Gid", g->gid);
	add_header(h, "Assent-Branch", b->id);
	add_header(h, "Assent-Op", op);
	add_header(h, "Assent-Mode", txn_mode_str(g->txn.mode));
	add_number(h, "Assent-Attempt", act->attempt);
	add_idempotency_key(h, g, b->id, txn_op_str(act->op));
	if (act->one_phase)
		add_header(h, "Assent-One-Phase", "true");
	if (g->txn.undo_confirms && (act->op == OP_CONFIRM || act->op == OP_CANCEL))
		add_header(h, "Assent-May-Be-Confirmed", "true");
	/* What a vote is still worth, not how long this call may take. */
	if (votes && ends)
		left_us = g->txn.deadline_us - clock_mono_us();
	if (ends)
		add_deadline(h, g);
	if (g->traceparent[0])
		add_header(h, "traceparent", g->traceparent);
	add_number(h, "Assent-Timeout-Ms", (uint64_t)(left_us < 1000 ? 1000 : left_us) / 1000);
	for (size_t i = 0; i < b->n_header; i++)
		add_header(h, b->header[i].name, b->header[i].value);
	return g->txn.mode == MODE_THREE_PHASE ? add_three_phase(h, g, act) : 0;
}

int call_url(struct buf *url, const struct gtx *g, const struct branch_spec *b, enum txn_op op)
{
	const char *base;

	if (b->op_url[op]) {
		buf_puts(url, b->op_url[op]);
		return 0;
	}
	base = registry_url(g->node->config->registry, b->participant);
	if (!base) {
		log_warn(g->gid, "branch %s is not called: there is no participant %s now", b->id,
		         b->participant);
		return ERR_DENIED;
	}
	buf_puts(url, base);
	if (base[strlen(base) - 1] != '/')
		buf_putc(url, '/');
	buf_puts(url, txn_op_wire_str(op));
	return 0;
}

/* Standard Webhooks. The time is the database's, as everywhere: were our own clock set wrong, every
 * participant would refuse every call. The id says which call it is, so that nobody can send a
 * captured one again as another: an intent as a decided abort, say. */
static void add_signature(struct call_head *h, const struct gtx *g, const struct action *act,
                          const struct secret_keys *keys, const char *body, size_t len)
{
	const struct branch_spec *b = &g->spec.branch[act->branch];
	struct buf id = BUF_INIT, signature = BUF_INIT;
	char now[24];

	(void)snprintf(now, sizeof now, "%lld", (long long)(node_db_now_us(g->node) / 1000000));
	buf_printf(&id, "%s/%s/%s/%s/%u", g->node->cluster, g->gid, b->id, txn_op_str(act->op),
	           act->attempt);
	if (!id.failed)
		secret_sign(keys, id.data, now, body, len, &signature);
	if (id.failed || signature.failed) {
		h->text.failed = true;
	} else {
		add_header(h, "webhook-id", id.data);
		add_header(h, "webhook-timestamp", now);
		add_header(h, "webhook-signature", signature.data);
	}
	buf_release(&id);
	buf_release(&signature);
}

int call_head_build(struct call_head *h, struct gtx *g, const struct action *act,
                    const struct secret_keys *keys, const char *body, size_t len)
{
	int rc;

	h->n = 0;
	buf_reset(&h->text);
	buf_reserve(&h->text, HEADER_ROOM);
	rc = add_headers(h, g, act);
	if (rc < 0)
		return rc;
	if (keys)
		add_signature(h, g, act, keys, body, len);
	for (size_t i = 0; i < h->n && !h->text.failed; i++)
		h->line[i] = h->text.data + h->at[i];
	return h->text.failed ? ERR_NOMEM : 0;
}

void call_head_release(struct call_head *h)
{
	buf_release(&h->text);
}
