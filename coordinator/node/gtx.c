#include "node/gtx.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_scan.h"
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
	list_init(&g->intake.link);
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
	intake_leave(g);
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

static int make_room_for_results(struct gtx *g)
{
	g->result = arena_alloc(&g->arena, g->spec.n_branch * sizeof *g->result);
	g->answered = arena_alloc(&g->arena, g->spec.n_branch * sizeof *g->answered);
	g->entry.result = g->answered;
	return g->result && g->answered ? 0 : ERR_NOMEM;
}

int gtx_keep_result(struct gtx *g, unsigned branch, const char *text, size_t len)
{
	const char *copy;

	/* The step is done whatever it says; who needs what it did not say finds out. */
	if (len > RESULT_MAX || json_scan_check(text, len, NULL) < 0)
		len = 0;
	copy = arena_strndup(&g->arena, len ? text : "", len);
	if (!copy)
		return ERR_NOMEM;
	g->result[branch] = (struct step_result){.text = len ? copy : NULL, .len = len};
	g->answered[g->entry.n_result++] = (struct journal_result){
	    .text = copy, .len = len, .branch = (int16_t)branch};
	return 0;
}

int gtx_load_results(struct gtx *g, const char *blob, size_t len)
{
	const uint8_t *at = (const uint8_t *)blob, *end = at + len;

	while (end - at >= 6) {
		unsigned branch = (unsigned)at[0] << 8 | at[1];
		size_t n = (size_t)at[2] << 24 | (size_t)at[3] << 16 | (size_t)at[4] << 8 | at[5];

		at += 6;
		if (n > (size_t)(end - at) || !g->result || branch >= g->spec.n_branch ||
		    g->entry.n_result == g->spec.n_branch)
			return ERR_INVALID;
		if (gtx_keep_result(g, branch, (const char *)at, n) < 0)
			return ERR_NOMEM;
		at += n;
	}
	g->entry.n_result_stored = g->entry.n_result;
	return at == end ? 0 : ERR_INVALID;
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
	    .forward = g->spec.forward,
	    .phase_timeout_us = g->spec.phase_timeout_us,
	};
	int rc = txn_init(&g->txn, &g->arena, &config);
	bool wanted = false;

	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < g->spec.n_branch; i++) {
		g->txn.branch[i].timeout_us = g->spec.branch[i].timeout_us;
		g->txn.branch[i].after = g->spec.branch[i].after;
		g->txn.branch[i].wanted = g->spec.branch[i].wanted;
		wanted |= g->spec.branch[i].wanted;
	}
	g->room = g->spec.n_branch;
	g->note = arena_alloc(&g->arena, (g->room + 1) * sizeof *g->note);
	if (!g->note || (wanted && make_room_for_results(g) < 0))
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
