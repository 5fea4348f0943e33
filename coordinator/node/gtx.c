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
	list_init(&g->admission.link);
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
	census_leave(g);
	admission_leave(g);
	park_leave(g);
	participant_cancel(g);
	driver_discard_pending(g);
	timers_retire(&g->node->timers, &g->timer);
	arena_release(&g->arena);
	free(g);
}

/* Copies `n` elements into a new array of `room`; the old one stays in the arena. */
static void *grow_array(struct arena *arena, const void *old, size_t n, size_t room, size_t size)
{
	void *grown = arena_alloc(arena, room * size);

	if (grown && n)
		memcpy(grown, old, n * size);
	return grown;
}

int gtx_reserve(struct gtx *g, unsigned n_branch)
{
	unsigned room = 2 * n_branch < TXN_BRANCH_MAX ? 2 * n_branch : TXN_BRANCH_MAX;
	struct branch_note *note;
	struct journal_branch *enlisted;
	int rc = txn_reserve(&g->txn, &g->arena, n_branch);

	if (rc < 0 || n_branch <= g->room)
		return rc;
	note = grow_array(&g->arena, g->note, g->room, room, sizeof *note);
	enlisted = grow_array(&g->arena, g->enlisted, g->enlisted ? g->entry.n_enlisted : 0, room,
	                      sizeof *enlisted);
	if (!note || !enlisted)
		return ERR_NOMEM;
	g->note = note;
	g->enlisted = enlisted;
	g->entry.enlisted = enlisted;
	g->room = room;
	return 0;
}

static void prepare_entry(struct gtx *g)
{
	struct journal_entry *e = &g->entry;

	e->gid = g->gid;
	e->gid_len = strlen(g->gid);
	e->shard = (int16_t)(g->txn.seed % NODE_SHARDS);
	e->epoch = g->node->epoch[e->shard];
	e->mode = (int16_t)g->spec.mode;
	e->n_branch = g->spec.n_branch;
	e->created_us = g->created_us;
	e->body_sha256 = g->body_sha256;
	e->submission = g->body;
	e->submission_len = g->body_len;
	e->traceparent = g->traceparent[0] ? g->traceparent : NULL;
	for (unsigned i = 0; i < g->spec.n_branch; i++)
		e->n_enlisted += g->spec.branch[i].enlisted != NULL;
	e->n_enlisted_stored = e->n_enlisted; /* these were loaded */
}

/* W3C Trace Context: version, trace id, parent id, flags. Anything else is not passed on. */
void gtx_set_trace(struct gtx *g, const char *trace)
{
	if (trace && strlen(trace) == sizeof g->traceparent - 1 &&
	    strspn(trace, "0123456789abcdef-") == sizeof g->traceparent - 1)
		memcpy(g->traceparent, trace, sizeof g->traceparent);
}

void gtx_participant_key(const char *participant, uint8_t key[JOURNAL_PARTICIPANT_LEN])
{
	uint8_t sha[DIGEST_LEN];

	digest_sha256(participant, strlen(participant), sha);
	memcpy(key, sha, JOURNAL_PARTICIPANT_LEN);
}

/* What lists find it by. */
static int set_keys(struct gtx *g)
{
	const struct submission *spec = &g->spec;
	uint8_t *at = arena_alloc(&g->arena,
	                          (spec->n_branch + 1) * (size_t)JOURNAL_PARTICIPANT_LEN);
	struct journal_label *label = NULL;

	if (spec->n_label)
		label = arena_alloc(&g->arena, spec->n_label * sizeof *label);
	if (!at || (spec->n_label && !label))
		return ERR_NOMEM;
	g->entry.participants = at;
	g->entry.participants_len = spec->n_branch * (size_t)JOURNAL_PARTICIPANT_LEN;
	for (unsigned i = 0; i < spec->n_branch; i++, at += JOURNAL_PARTICIPANT_LEN) {
		gtx_participant_key(spec->branch[i].participant, at);
	}
	for (size_t i = 0; i < spec->n_label; i++) {
		label[i].name = spec->label[i].name;
		label[i].value = spec->label[i].value;
	}
	g->entry.label = label;
	g->entry.n_label = spec->n_label;
	return 0;
}

int gtx_prepare(struct gtx *g, int64_t deadline_mono_us)
{
	struct txn_config config = {
	    .mode = g->spec.mode,
	    .seed = hash_bytes(g->gid, strlen(g->gid)),
	    .n_branch = g->spec.n_branch,
	    .deadline_us = deadline_mono_us,
	    .retry = g->spec.retry,
	    .interactive = g->spec.interactive,
	    .vote_timeout_us = g->spec.vote_timeout_us,
	    .undo_confirms = g->spec.undo_confirms,
	};
	int rc = txn_init(&g->txn, &g->arena, &config);

	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < g->spec.n_branch; i++) {
		g->txn.branch[i].timeout_us = g->spec.branch[i].timeout_us;
		g->txn.branch[i].after = g->spec.branch[i].after;
	}
	g->room = g->spec.n_branch;
	g->note = arena_alloc(&g->arena, (g->room + 1) * sizeof *g->note);
	if (!g->note)
		return ERR_NOMEM;
	prepare_entry(g);
	rc = set_keys(g);
	if (rc < 0)
		return rc;
	return timers_admit(&g->node->timers, &g->timer, driver_on_timer, g);
}

const char *branch_note_str(const struct branch_note *n, char *buf, size_t size)
{
	if (!n->failed)
		return "";
	if (n->why)
		return n->why;
	(void)snprintf(buf, size, "HTTP %d (%s)", n->status, verdict_str(n->verdict));
	return buf;
}
