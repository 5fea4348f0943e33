#include "node/participant.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/crash.h"
#include "base/json_scan.h"
#include "base/log.h"
#include "core/verdict.h"
#include "io/http_client.h"
#include "node/call_head.h"
#include "node/driver.h"
#include "node/node.h"
#include "node/reason.h"

#define HANGING 16 /* calls in a row that were not answered in time */

#define REASON_SIZE 200

struct call {
	struct list link;   /* in gtx->call */
	struct list failed; /* in node->failed_calls, when it could not be sent */
	struct gtx *gtx;
	unsigned branch;
	enum txn_op op;
	bool one_phase;
	uint32_t attempt;
	int err;      /* for failed calls */
	bool decided; /* nothing but this call's success ends the transaction */
	bool started;
	int64_t timeout_us;
	struct buf built; /* the body, when it is made of results */
	struct peer_stat *peer;
	struct http_call *http;
};

/* A participant of a three-phase commit may end without us, and says so when it is told. */
static const char *note_alone(struct call *call, const struct http_result *r)
{
	struct gtx *g = call->gtx;
	char reason[REASON_SIZE], *text;
	size_t size = sizeof reason + 32;

	if (g->txn.mode != MODE_THREE_PHASE || r->err || r->truncated ||
	    !json_scan_top_true(r->body, r->len, "heuristic"))
		return NULL;
	g->node->metrics.heuristic++;
	(void)reason_read(r->body, r->len, reason, sizeof reason);
	if (g->note[call->branch].alone)
		return g->note[call->branch].alone;
	text = arena_alloc(&g->arena, size);
	if (text)
		(void)snprintf(text, size, "ended by itself%s%s", *reason ? ": " : "", reason);
	g->note[call->branch].alone = text;
	admission_count(g);
	return text;
}

/* Why it is no yes: what is known of a call that got no answer, or what the participant says. */
static const char *explain(const struct call *call, const struct http_result *r, const char *alone,
                           char reason[REASON_SIZE])
{
	if (alone || r->why || r->truncated || !r->len || !call->gtx->note[call->branch].failed)
		return alone ? alone : r->why;
	return reason_read(r->body, r->len, reason, REASON_SIZE) ? reason : NULL;
}

static void write_history(const struct call *call, const struct http_result *r,
                          enum event_type verdict, const char *alone)
{
	struct gtx *g = call->gtx;
	char reason[REASON_SIZE];
	int64_t ended_us = node_db_time_us(g->node, r->ended_us);
	struct journal_attempt a = {
	    .gid = g->gid,
	    .shard = g->entry.shard,
	    .epoch = g->entry.epoch,
	    .branch = g->spec.branch[call->branch].id,
	    .op = (int16_t)call->op,
	    .attempt = (int32_t)call->attempt,
	    .started_us = r->started_us ? node_db_time_us(g->node, r->started_us) : ended_us,
	    .ended_us = ended_us,
	    .status = (int16_t)(r->err ? 0 : r->status),
	    .verdict = (int16_t)verdict,
	    .error = explain(call, r, alone, reason),
	};

	journal_history(g->node->journal, &a);
}

/* Asking again settles nothing; neither does an answer outside of the contract. */
static bool settles(enum event_type verdict)
{
	return verdict != EV_WORKING && verdict != EV_UNKNOWN && verdict != EV_CONTRACT;
}

/* What did not leave the queue says nothing about the participant, unless it has no address. */
static bool tells(const struct call *call, int err)
{
	if (err == ERR_LIMIT || err == ERR_NOMEM)
		return false;
	return call->started || err != ERR_TIMEOUT;
}

static void tell_lanes(const struct call *call, int err, enum event_type verdict)
{
	bool failed = verdict == EV_UNKNOWN || verdict == EV_CONTRACT;

	if (call->decided)
		call->peer->n_hung = err == ERR_TIMEOUT ? call->peer->n_hung + 1 : 0;
	park_heard(call->gtx, call->branch, call->peer->label, call->decided, failed);
}

static void count_call(const struct call *call, const struct http_result *r, int64_t now_us,
                       enum event_type verdict)
{
	struct branch_note *note = &call->gtx->note[call->branch];
	int64_t took_us = r->ended_us > r->started_us ? r->ended_us - r->started_us : 0;
	char error[96];

	metrics_count_call(&call->gtx->node->metrics, verdict);
	call->peer->n_decided -= call->decided;
	peer_call_done(call->peer, verdict, call->started ? took_us : -1,
	               branch_note_str(note, error, sizeof error), now_us);
	if (tells(call, r->err))
		tell_lanes(call, r->err, verdict);
	if (settles(verdict))
		peer_wait_end(&note->wait);
}

void participant_read_member(const char *body, size_t len, const char *name, char *out, size_t size)
{
	int rc = json_scan_top_str(body, len, name, out, size);

	/* {"vote": false} is no yes, whatever it is; nor is half an object. */
	if (rc < 0)
		(void)snprintf(out, size, "%s", rc == ERR_NOTFOUND ? "" : "?");
}

/* The core waits for its answer; else it would be dropped. */
static bool counts(const struct call *call)
{
	const struct branch *b = &call->gtx->txn.branch[call->branch];

	return b->in_call && b->op == call->op && b->attempt == call->attempt;
}

/* A later step is built from this answer. */
static bool is_wanted(const struct call *call, const struct event *ev)
{
	return call->gtx->txn.branch[call->branch].wanted && call->op == OP_ACTION &&
	       (ev->type == EV_YES || ev->type == EV_READ_ONLY) && counts(call);
}

static void free_call(struct call *call)
{
	list_remove(&call->link);
	list_remove(&call->failed);
	buf_release(&call->built);
	free(call);
}

/* It has no answer that anybody should hear of. */
static void drop(struct call *call)
{
	call->peer->n_decided -= call->decided;
	peer_call_dropped(call->peer, call->started);
	free_call(call);
}

static void conclude(struct call *call, const struct http_result *r)
{
	struct gtx *g = call->gtx;
	struct branch_note *note = &g->note[call->branch];
	char vote[32] = "", outcome[32] = "";
	struct answer answer = {
	    .err = r->err, .status = r->status, .vote = vote, .outcome = outcome};
	/* A call that cannot be built was never made: there is nothing to undo, and never will be. */
	enum event_type unbuilt = txn_op_votes(call->op, call->one_phase) ? EV_CONTRACT : EV_DONE;
	const char *alone = NULL;
	struct event ev;

	/* A body that was cut off has no members; the status still counts. */
	if (!r->err && !r->truncated && r->len) {
		participant_read_member(r->body, r->len, "vote", vote, sizeof vote);
		participant_read_member(r->body, r->len, "outcome", outcome, sizeof outcome);
		alone = note_alone(call, r);
	}
	ev = (struct event){
	    .type = template_failed(call->err) ? unbuilt
	                                       : verdict_judge(call->op, call->one_phase, &answer),
	    .now_us = clock_mono_us(),
	    .branch = call->branch,
	    .op = call->op,
	    .attempt = call->attempt,
	    .retry_after_us = r->retry_after_us,
	};
	note->why = r->why;
	note->status = r->status;
	note->verdict = ev.type;
	note->failed = ev.type == EV_UNKNOWN || ev.type == EV_CONTRACT || ev.type == EV_NO ||
	               ev.type == EV_WORKING || ev.type == EV_FOUND_ABORTED ||
	               ev.type == EV_FOUND_COMMITTED;
	count_call(call, r, ev.now_us, ev.type);
	log_debug(g->gid, "branch %s %s attempt %u: %s", g->spec.branch[call->branch].id,
	          txn_op_str(call->op), call->attempt, verdict_str(ev.type));
	crash_point(CRASH_CALL_JUDGED);
	write_history(call, r, ev.type, alone);
	if (is_wanted(call, &ev) &&
	    gtx_keep_result(g, call->branch, r->body, r->truncated ? 0 : r->len) < 0) {
		node_lost(g->node, "out of memory while keeping a result");
		return;
	}
	admission_count(g);
	free_call(call);
	driver_step(g, &ev);
	crash_point(CRASH_CALL_STEPPED);
}

static void on_result(void *ctx, const struct http_result *result)
{
	struct call *call = ctx;
	struct gtx *g = call->gtx;

	call->http = NULL;
	if (call->err == ERR_CANCELLED) {
		drop(call);
		park_consider(g);
		return;
	}
	crash_point(CRASH_CALL_REPLIED);
	conclude(call, result);
}

/* The reply event must not come from inside the step that asked for the call. */
static void fail_later(struct call *call, int err)
{
	call->err = err;
	list_push(&call->gtx->node->failed_calls, &call->failed);
	loop_hook_kick(call->gtx->node->hook);
}

void participant_deliver_failed(struct node *node)
{
	struct list *link;

	while ((link = list_pop(&node->failed_calls))) {
		struct call *call = container_of(link, struct call, failed);
		int64_t now_us = clock_mono_us();

		conclude(call, &(struct http_result){.err = call->err,
		                                     .why = err_str(call->err),
		                                     .ended_us = now_us});
	}
}

static unsigned concurrency_of(const struct gtx *g, const struct registry_entry *owner)
{
	return owner && owner->concurrency ? owner->concurrency
	                                   : (unsigned)g->node->config->participant_concurrency;
}

static unsigned queue_max_of(const struct gtx *g, const struct registry_entry *owner)
{
	return owner && owner->queue_max ? owner->queue_max
	                                 : (unsigned)g->node->config->participant_queue_max;
}

/* The payload that its author wrote, or built from what others have answered. */
static int fill_body(struct call *call, struct http_content *out)
{
	struct gtx *g = call->gtx;
	const struct branch_spec *b = &g->spec.branch[call->branch];
	char why[160];
	int rc;

	out->body = b->payload ? b->payload : "";
	out->len = b->payload_len;
	if (!b->built)
		return 0;
	rc = template_render(&g->spec, call->branch, g->result, &call->built, why, sizeof why);
	if (template_failed(rc))
		log_warn(g->gid, "branch %s is not called: %s", b->id, why);
	out->body = call->built.data;
	out->len = call->built.len;
	return rc;
}

static int fill_head(struct call *call, const char *url, struct http_content *out)
{
	struct gtx *g = call->gtx;
	const struct branch_spec *b = &g->spec.branch[call->branch];
	const struct registry *registry = g->node->config->registry;
	const struct registry_entry *owner = registry_owner(registry, b->participant, url);
	struct call_head *head = &g->node->head;
	const struct action act = {
	    .type = ACT_CALL,
	    .branch = call->branch,
	    .op = call->op,
	    .one_phase = call->one_phase,
	    .attempt = call->attempt,
	    .timeout_us = call->timeout_us,
	};
	char why[160];
	int rc;

	/* The list may have changed since the submission was accepted. */
	if (registry_check_url(registry, url, strlen(url), why, sizeof why) < 0) {
		log_warn(g->gid, "branch %s is not called: %s", b->id, why);
		return ERR_DENIED;
	}
	rc = call_head_build(head, g, &act,
	                     owner && owner->keys ? owner->keys : g->node->config->signing_keys,
	                     out->body, out->len);
	out->header = head->line;
	out->n_header = head->n;
	return rc;
}

/* It may have waited for long: what nobody counts any more is not asked for. */
static int fill(void *ctx, const char *url, struct http_content *out)
{
	struct call *call = ctx;

	call->err = counts(call) ? fill_body(call, out) : ERR_CANCELLED;
	if (call->err == 0)
		call->err = fill_head(call, url, out);
	if (call->err < 0)
		return call->err;
	call->started = true;
	peer_call_started(call->peer);
	crash_point(CRASH_CALL_STARTED);
	return 0;
}

static int start(struct call *call, const char *url)
{
	struct gtx *g = call->gtx;
	const struct registry_entry *owner = registry_owner(
	    g->node->config->registry, g->spec.branch[call->branch].participant, url);

	call->http = http_client_call(g->node->client,
	                              &(struct http_call_spec){
	                                  .url = url,
	                                  .peer = owner ? owner->name : NULL,
	                                  .concurrency = concurrency_of(g, owner),
	                                  .queue_max = queue_max_of(g, owner),
	                                  .timeout_us = call->timeout_us,
	                                  .until_us = txn_timed(&g->txn) ? g->txn.deadline_us : 0,
	                                  .urgent = !txn_op_votes(call->op, call->one_phase),
	                                  .fill = fill,
	                                  .fn = on_result,
	                                  .ctx = call,
	                              });
	return call->http ? 0 : ERR_NOMEM;
}

/* `url` is NULL when there is none. */
static void ask(struct call *call, const char *url)
{
	struct gtx *g = call->gtx;
	char label[PEER_LABEL_MAX];
	int64_t now_us = clock_mono_us();

	peer_label(g->node->config->registry, g->spec.branch[call->branch].participant, url, label,
	           sizeof label);
	call->peer = peer_stats_find(&g->node->peers, label, now_us);
	peer_call_asked(call->peer);
	call->decided = !txn_timed(&g->txn);
	call->peer->n_decided += call->decided;
	peer_wait_begin(call->peer, &g->note[call->branch].wait, g, call->branch, now_us);
}

/* A participant that hangs has one call at a time for what is decided: the others would wait in its
 * queue for nothing, in memory. As it is they fail at once, and are parked. Where failures may change
 * the outcome only those count that were made. */
static bool would_wait_in_vain(const struct call *call)
{
	return call->decided && call->gtx->txn.outcome != OUTCOME_PENDING &&
	       call->peer->n_hung >= HANGING && call->peer->n_decided > 1;
}

void participant_call(struct gtx *g, const struct action *act)
{
	struct call *call = calloc(1, sizeof *call);
	struct buf url = BUF_INIT;
	int rc;

	if (!call) {
		node_lost(g->node, "out of memory while calling a participant");
		return;
	}
	crash_point(CRASH_CALL_BEFORE_START);
	list_init(&call->failed);
	list_push(&g->call, &call->link);
	call->gtx = g;
	call->branch = act->branch;
	call->op = act->op;
	call->one_phase = act->one_phase;
	call->attempt = act->attempt;
	call->timeout_us = act->timeout_us;
	g->note[act->branch].n_call++;
	rc = call_url(&url, g, &g->spec.branch[act->branch], act->op);
	ask(call, rc == 0 && !url.failed ? url.data : NULL);
	if (rc == 0 && would_wait_in_vain(call))
		rc = ERR_LIMIT;
	if (rc == 0)
		rc = url.failed ? ERR_NOMEM : start(call, url.data);
	if (rc < 0)
		fail_later(call, rc);
	buf_release(&url);
}

void participant_cancel(struct gtx *g)
{
	struct list *link;

	/* The place that one of them gives back is for no other of them. */
	LIST_FOR_EACH_SAFE (each, &g->call)
		container_of(each, struct call, link)->attempt = 0;
	while ((link = list_pop(&g->call))) {
		struct call *call = container_of(link, struct call, link);

		if (call->http)
			http_call_cancel(call->http);
		drop(call);
	}
	for (unsigned i = 0; g->note && i < g->spec.n_branch; i++)
		peer_wait_end(&g->note[i].wait);
}
