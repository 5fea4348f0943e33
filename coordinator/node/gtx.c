#include "node/gtx.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/verdict.h"
#include "node/driver.h"
#include "node/node.h"
#include "node/participant.h"

struct gtx *gtx_new(struct node *node, const char *body, size_t len)
{
	struct gtx *g = calloc(1, sizeof *g);

	if (!g)
		return NULL;
	g->node = node;
	list_init(&g->pending);
	list_init(&g->call);
	list_init(&g->waiter);
	journal_entry_init(&g->entry);
	arena_init(&g->arena, 0);
	g->body = arena_strndup(&g->arena, body, len);
	g->body_len = len;
	if (!g->body) {
		gtx_free(g);
		return NULL;
	}
	return g;
}

void gtx_free(struct gtx *g)
{
	if (!g)
		return;
	assert(list_empty(&g->waiter));
	journal_forget(&g->entry);
	participant_cancel(g);
	driver_discard_pending(g);
	timers_retire(&g->node->timers, &g->timer);
	arena_release(&g->arena);
	free(g);
}

int gtx_prepare(struct gtx *g, int64_t deadline_mono_us)
{
	struct txn_config config = {
	    .mode = g->spec.mode,
	    .seed = hash_bytes(g->gid, strlen(g->gid)),
	    .n_branch = g->spec.n_branch,
	    .deadline_us = deadline_mono_us,
	    .retry = g->spec.retry,
	};
	int rc = txn_init(&g->txn, &g->arena, &config);

	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < g->spec.n_branch; i++)
		g->txn.branch[i].timeout_us = g->spec.branch[i].timeout_us;
	g->note = arena_alloc(&g->arena, g->spec.n_branch * sizeof *g->note);
	if (!g->note)
		return ERR_NOMEM;
	g->entry.gid = g->gid;
	g->entry.gid_len = strlen(g->gid);
	g->entry.shard = (int16_t)(config.seed % NODE_SHARDS);
	g->entry.epoch = g->node->epoch[g->entry.shard];
	g->entry.mode = (int16_t)g->spec.mode;
	g->entry.n_branch = g->spec.n_branch;
	g->entry.created_us = g->created_us;
	g->entry.deadline_us = g->deadline_us;
	g->entry.body_sha256 = g->body_sha256;
	g->entry.submission = g->body;
	g->entry.submission_len = g->body_len;
	return timers_admit(&g->node->timers, &g->timer, driver_on_timer, g);
}

const char *branch_note_str(const struct branch_note *n, char *buf, size_t size)
{
	if (!n->failed)
		return "";
	if (n->err)
		return err_str(n->err);
	(void)snprintf(buf, size, "HTTP %d (%s)", n->status, verdict_str(n->verdict));
	return buf;
}
