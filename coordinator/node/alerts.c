#include "node/alerts.h"

#include <stdio.h>
#include <string.h>

#include "base/crash.h"
#include "io/sql.h"
#include "node/node.h"
#include "node/peer_stats.h"

const char *alert_severity_str(enum alert_kind kind)
{
	switch (kind) {
	case ALERT_EXHAUSTED:
		return "warning"; /* it may mend itself */
	case ALERT_CONTRACT:
		return "error";
	case ALERT_HEURISTIC:
	case ALERT_KIND_MAX:
		break;
	}
	return "critical";
}

bool alert_kind_known(const char *name)
{
	for (int i = 0; i < ALERT_KIND_MAX; i++) {
		if (strcmp(name, alert_kind_str((enum alert_kind)i)) == 0)
			return true;
	}
	return false;
}

bool alert_severity_known(const char *name)
{
	for (int i = 0; i < ALERT_KIND_MAX; i++) {
		if (strcmp(name, alert_severity_str((enum alert_kind)i)) == 0)
			return true;
	}
	return false;
}

/* What groups occurrences beside kind and participant. A finding says what was found, also when it
 * is said again after a restart. */
static const char *error_class(const struct gtx *g, const struct action *a, char *buf, size_t size)
{
	const struct branch_note *note = &g->note[a->branch];

	if (a->alert == ALERT_HEURISTIC)
		return branch_state_str(g->txn.branch[a->branch].state);
	if (note->why)
		return note->why;
	(void)snprintf(buf, size, "HTTP %d", note->status);
	return buf;
}

/* Peers may have followed one that ended by itself: who did what, for whoever has to mend it. */
static void put_all_branches(const struct gtx *g, struct buf *out)
{
	for (unsigned i = 0; i < g->spec.n_branch; i++) {
		const char *alone = g->note[i].alone;

		buf_printf(out, "; %s: %s%s%s%s", g->spec.branch[i].id,
		           branch_state_str(g->txn.branch[i].state), alone ? " (" : "",
		           alone ? alone : "", alone ? ")" : "");
	}
}

static int put(struct gtx *g, const struct action *a)
{
	char error[32], note[96], peer[PEER_LABEL_MAX];
	struct buf detail = BUF_INIT;
	const struct branch *b = &g->txn.branch[a->branch];
	const char *said = branch_note_str(&g->note[a->branch], note, sizeof note);
	struct journal_alert alert = {
	    .close = a->type == ACT_ALERT_CLOSE,
	    .branch = g->spec.branch[a->branch].id,
	    .at_us = node_db_now_us(g->node),
	};
	int rc;

	if (!alert.close) {
		peer_label(g->node->config->registry, g->spec.branch[a->branch].participant,
		           g->spec.branch[a->branch].op_url[b->op], peer, sizeof peer);
		alert.lasting = a->alert == ALERT_HEURISTIC;
		alert.kind = alert_kind_str(a->alert);
		alert.severity = alert_severity_str(a->alert);
		alert.participant = peer;
		alert.error = error_class(g, a, error, sizeof error);
	}
	if (!alert.close && *said)
		buf_printf(&detail, "%s%s%s", b->op ? txn_op_str(b->op) : "", b->op ? ": " : "",
		           said);
	if (alert.lasting && g->txn.mode == MODE_THREE_PHASE)
		put_all_branches(g, &detail);
	alert.detail = detail.len && !detail.failed ? detail.data : NULL;
	rc = journal_alert(g->node->journal, &g->entry, &alert);
	buf_release(&detail);
	return rc;
}

void alerts_put(struct gtx *g, const struct effects *fx)
{
	for (size_t i = 0; i < fx->n_act; i++) {
		const struct action *a = &fx->act[i];

		if (a->type != ACT_ALERT && a->type != ACT_ALERT_CLOSE)
			continue;
		if (put(g, a) < 0) {
			node_lost(g->node, "out of memory while raising an alert");
			return;
		}
		crash_point(CRASH_ALERT_PUT);
	}
}

static void on_counted(void *ctx, const struct pg_outcome *outcome)
{
	struct node *n = ctx;
	uint64_t open[ALERT_KIND_MAX] = {0};

	n->counting_alerts = false;
	if (outcome->err)
		return; /* the session is gone; the next owner asks again */
	for (size_t row = 0; row < pg_rows(outcome->result[0]); row++) {
		size_t len;
		const char *kind = pg_bytes(outcome->result[0], row, 0, &len);

		for (int i = 0; i < ALERT_KIND_MAX; i++) {
			const char *name = alert_kind_str((enum alert_kind)i);

			if (strlen(name) == len && memcmp(name, kind, len) == 0)
				open[i] = (uint64_t)pg_int(outcome->result[0], row, 1);
		}
	}
	memcpy(n->alerts_open, open, sizeof open);
	if (n->count_alerts_again)
		alerts_count(n);
}

void alerts_count(struct node *n)
{
	struct pg_batch *batch;

	n->count_alerts_again = n->counting_alerts;
	if (n->counting_alerts)
		return;
	batch = pg_batch_begin(n->writer);
	if (!batch)
		return;
	n->counting_alerts = true;
	pg_batch_add(batch, SQL_ALERT_COUNTS, NULL);
	pg_batch_send(batch, on_counted, n);
}
