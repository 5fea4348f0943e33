#include "node/driver.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "node/alerts.h"
#include "node/lane.h"
#include "node/node.h"
#include "node/participant.h"
#include "node/recover.h"

/* Actions of one step, held back until the put `seq` is durable. */
struct pending {
	struct list link;
	uint64_t seq;
	size_t n;
	struct action act[];
};

static void answer(struct waiter *w, enum wait_result result)
{
	list_remove(&w->link);
	timers_retire(w->timers, &w->timer);
	w->fn(w, result);
}

/* ENDED is answered by the step's action, not by the lazy record of the end: the outcome has been
 * durable since the decision. */
static bool wait_is_over(const struct gtx *g, const struct waiter *w)
{
	switch (w->what) {
	case WAIT_STORED:
		return g->entry.stored;
	case WAIT_FORCED:
		return w->seq <= g->entry.durable_seq;
	case WAIT_ENDED:
		break;
	}
	return txn_ended(g->txn.state) && driver_is_durable(g);
}

static void answer_done(struct gtx *g)
{
	LIST_FOR_EACH_SAFE (link, &g->waiter) {
		struct waiter *w = container_of(link, struct waiter, link);

		if (wait_is_over(g, w))
			answer(w, WAIT_DONE);
	}
}

static void answer_all(struct gtx *g, enum wait_result result)
{
	LIST_FOR_EACH_SAFE (link, &g->waiter)
		answer(container_of(link, struct waiter, link), result);
}

/* The alert itself is in the journal, with the record; this tells those who watch the process. */
static void report_alert(struct gtx *g, const struct action *a)
{
	const struct branch_spec *b = &g->spec.branch[a->branch];
	char note[96];
	const char *said = branch_note_str(&g->note[a->branch], note, sizeof note);

	g->node->metrics.alerts[a->alert]++;
	log_warn(g->gid, "branch %s needs attention: %s, participant %s%s%s; see /v1/admin/alerts",
	         b->id, alert_kind_str(a->alert), b->participant, *said ? ": " : "", said);
}

/* Held back for long, a call may have been overtaken: the deadline passed and the phase is another
 * one. A vote that nobody counts must not be asked for; its reply would be dropped anyway. */
static bool is_under_way(const struct gtx *g, const struct action *call)
{
	const struct branch *b = &g->txn.branch[call->branch];

	return b->in_call && b->op == call->op && b->attempt == call->attempt;
}

/* THE place where effects happen. Whoever calls it has seen to it that every forced record of
 * this step and of all before is durable. */
static void perform(struct gtx *g, const struct action *act, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct action *a = &act[i];

		if (i > 0)
			crash_point(CRASH_EFFECTS_BETWEEN);
		switch (a->type) {
		case ACT_CALL:
			if (is_under_way(g, a))
				participant_call(g, a);
			break;
		case ACT_ALERT:
			crash_point(CRASH_ALERT_BEFORE_REPORT);
			report_alert(g, a);
			break;
		case ACT_ALERT_CLOSE:
			crash_point(CRASH_ALERT_CLOSED);
			log_info(g->gid, "branch %s answers again", g->spec.branch[a->branch].id);
			break;
		case ACT_DECIDED:
			log_debug(g->gid, "decided: %s",
			          txn_outcome_str((enum txn_outcome)driver_visible(g)->outcome));
			break;
		case ACT_ENDED:
			crash_point(CRASH_END_BEFORE_ANSWER);
			census_count(&g->node->census, (enum census_rate)g->txn.outcome,
			             clock_mono_us());
			metrics_count_end(&g->node->metrics, g->txn.mode, g->txn.outcome,
			                  g->ended_us - g->created_us);
			answer_done(g);
			break;
		}
	}
}

static void hold_back(struct gtx *g, const struct effects *fx)
{
	struct pending *p = malloc(sizeof *p + fx->n_act * sizeof p->act[0]);

	if (!p) {
		/* Without its effects this transaction would stand still for ever; its records
		 * are in the journal, so a reload brings the effects back. */
		node_lost(g->node, "out of memory while holding effects back");
		return;
	}
	p->seq = g->forced_seq;
	p->n = fx->n_act;
	memcpy(p->act, fx->act, fx->n_act * sizeof p->act[0]);
	list_push(&g->pending, &p->link);
	crash_point(CRASH_EFFECTS_HELD_BACK);
}

void driver_go_on(struct gtx *g)
{
	while (!list_empty(&g->pending)) {
		struct pending *p = container_of(g->pending.next, struct pending, link);

		if (p->seq > g->entry.durable_seq)
			return;
		list_remove(&p->link);
		crash_point(CRASH_EFFECTS_BEFORE_RELEASE);
		perform(g, p->act, p->n);
		free(p);
	}
}

void driver_discard_pending(struct gtx *g)
{
	struct list *link;

	while ((link = list_pop(&g->pending)))
		free(container_of(link, struct pending, link));
}

/* The commit of an interactive transaction starts the time for the votes; pre_committing has its
 * own, and after a restart a fresh one. */
static void follow_deadline(struct gtx *g)
{
	if (g->txn.deadline_us == g->deadline_mono_us)
		return;
	g->deadline_mono_us = g->txn.deadline_us;
	g->deadline_us = node_db_time_us(g->node, g->txn.deadline_us);
}

static void put_record(struct gtx *g, bool forced)
{
	struct journal_state s = {
	    .state = (int16_t)g->txn.state,
	    .outcome = (int16_t)g->txn.outcome,
	};
	bool decides = g->txn.outcome != OUTCOME_PENDING && g->decided_us == 0;
	uint64_t seq;

	if (decides) {
		crash_point(CRASH_DECISION_BEFORE_RECORD);
		g->decided_us = node_db_now_us(g->node);
	}
	if (txn_ended(g->txn.state) && g->ended_us == 0)
		g->ended_us = node_db_now_us(g->node);
	follow_deadline(g);
	s.decided_us = g->decided_us;
	s.ended_us = g->ended_us;
	s.deadline_us = g->deadline_us;
	for (unsigned i = 0; i < g->txn.n_branch; i++)
		s.branch[i] = (uint8_t)g->txn.branch[i].state;
	seq = journal_put(g->node->journal, &g->entry, &s, forced);
	if (forced) {
		g->forced_seq = seq;
		admission_put(g, clock_mono_us());
	}
	if (decides)
		crash_point(CRASH_DECISION_RECORDED);
	if (g->txn.state == TXN_PRE_COMMITTING)
		crash_point(CRASH_PRE_COMMIT_RECORDED);
	if (g->txn.state == TXN_PRE_ABORTING)
		crash_point(CRASH_INTENT_RECORDED);
	if (txn_ended(g->txn.state))
		crash_point(CRASH_END_RECORDED);
}

static int step(struct gtx *g, const struct event *ev)
{
	struct effects fx;
	int rc = txn_step(&g->txn, ev, &fx);

	if (rc < 0)
		return rc;
	if (fx.record.present)
		put_record(g, fx.record.forced);
	alerts_put(g, &fx);
	timer_set(&g->node->timers, &g->timer, txn_due_us(&g->txn));
	if (fx.n_act == 0)
		return 0;
	if (driver_is_durable(g) && list_empty(&g->intake.link))
		perform(g, fx.act, fx.n_act);
	else
		hold_back(g, &fx);
	intake_hurry(g); /* if it was held, this goes behind what was */
	return 0;
}

void driver_step(struct gtx *g, const struct event *ev)
{
	int rc = step(g, ev);

	if (rc < 0)
		/* verdict_judge and the driver never make such an event. */
		log_error(g->gid, "event %d refused in state %s: %s", (int)ev->type,
		          txn_state_str(g->txn.state), err_str(rc));
	park_consider(g);
}

void driver_on_timer(void *ctx, int64_t now_us)
{
	crash_point(CRASH_TIMER_BEFORE_STEP);
	driver_step(ctx, &(struct event){.type = EV_TIMER, .now_us = now_us});
}

static void forget(struct gtx *g)
{
	struct node *node = g->node;

	map_remove(&node->txns, &g->by_gid);
	gtx_free(g);
	crash_point(CRASH_FORGET_DONE);
	recover_room(node);
}

void driver_on_durable(void *ctx, struct journal_entry *entry)
{
	struct gtx *g = container_of(entry, struct gtx, entry);

	(void)ctx;
	if (entry->parked) {
		if (park_settled(g))
			forget(g);
		return;
	}
	census_update(g);
	if (driver_is_durable(g))
		admission_durable(g);
	crash_point(CRASH_REPORT_BEFORE_ANSWERS);
	answer_done(g);
	crash_point(CRASH_REPORT_ANSWERED);
	if (!intake_hold(g))
		driver_go_on(g);
	if (txn_ended((enum txn_state)entry->durable.state) && journal_entry_idle(entry))
		forget(g);
	else
		park_consider(g);
}

void driver_on_refused(void *ctx, struct journal_entry *entry, int err)
{
	struct gtx *g = container_of(entry, struct gtx, entry);

	(void)ctx;
	if (err == ERR_LOST) {
		node_lost(g->node, "a record was refused: this node no longer owns the shard");
		return;
	}
	log_info(g->gid, "not stored: %s", err_str(err));
	if (entry->stored) {
		/* An old transaction whose new state the database will not have: it is dropped
		 * from memory and tried again after the next load. */
		node_lost(g->node, "the database refused the state of a transaction");
		return;
	}
	answer_all(g, err == ERR_EXISTS ? WAIT_EXISTS : WAIT_FAILED);
	forget(g);
}

struct gtx *driver_find(const struct node *node, const char *gid)
{
	struct map_node *n = map_get(&node->txns, gid, strlen(gid));

	return n ? container_of(n, struct gtx, by_gid) : NULL;
}

static int adopt(struct gtx *g)
{
	struct node *node = g->node;
	int rc = map_put(&node->txns, &g->by_gid, g->gid, strlen(g->gid));

	if (rc < 0)
		return rc;
	admission_count(g);
	return 0;
}

int driver_submit(struct gtx *g)
{
	struct node *node = g->node;
	int64_t now_us = clock_mono_us();
	int rc;

	rc = admission_check(&node->admission, g, now_us);
	if (rc < 0)
		return rc;
	g->created_us = node_db_time_us(node, now_us);
	g->deadline_us = g->created_us + g->spec.timeout_us;
	g->deadline_mono_us = now_us + g->spec.timeout_us;
	rc = gtx_prepare(g, g->deadline_mono_us);
	if (rc == 0)
		rc = adopt(g);
	if (rc < 0)
		return rc;
	node->metrics.submitted++;
	census_count(&node->census, RATE_SUBMITTED, now_us);
	driver_step(g, &(struct event){.type = g->spec.interactive ? EV_BEGIN : EV_SUBMIT,
	                               .now_us = now_us});
	crash_point(g->spec.interactive ? CRASH_BEGIN_RECORDED : CRASH_SUBMIT_RECORDED);
	return 0;
}

int driver_enlist(struct gtx *g, const char *body, size_t len)
{
	unsigned n = g->spec.n_branch;
	struct complaint complaint;
	const char *copy;
	int rc;

	/* Asked before anything grows: a refusal must leave no trace. */
	if (!g->spec.interactive || g->txn.state != TXN_ACTIVE)
		return ERR_STATE;
	if (n == TXN_BRANCH_MAX)
		return ERR_LIMIT;
	if (admission_check_bytes(&g->node->admission, g, len) < 0)
		return ERR_NOMEM;
	rc = gtx_reserve(g, n + 1);
	if (rc < 0)
		return rc;
	copy = arena_strndup(&g->arena, body, len);
	if (!copy || submission_add_branch(copy, len, NULL, &g->arena, &g->spec, &complaint))
		return ERR_NOMEM;
	g->note[n] = (struct branch_note){0};
	g->enlisted[g->entry.n_enlisted] = (struct journal_branch){.text = copy, .len = len};
	gtx_participant_key(g->spec.branch[g->spec.n_branch - 1].participant,
	                    g->enlisted[g->entry.n_enlisted++].participant);
	g->entry.n_branch = n + 1;
	admission_count(g);
	driver_step(g, &(struct event){.type = EV_ENLIST,
	                               .now_us = clock_mono_us(),
	                               .call_timeout_us = g->spec.branch[n].timeout_us});
	crash_point(CRASH_ENLIST_RECORDED);
	return 0;
}

int driver_close(struct gtx *g, enum event_type how)
{
	int rc = step(g, &(struct event){.type = how, .now_us = clock_mono_us()});

	crash_point(how == EV_COMMIT ? CRASH_COMMIT_RECORDED : CRASH_ROLLBACK_RECORDED);
	return rc;
}

int driver_resume(struct gtx *g)
{
	int rc = adopt(g);

	if (rc < 0)
		return rc;
	census_update(g);
	driver_step(g, &(struct event){.type = EV_RESUME, .now_us = clock_mono_us()});
	follow_deadline(g);
	return 0;
}

static void on_wait_timeout(void *ctx, int64_t now_us)
{
	struct waiter *w = ctx;
	struct gtx *g = w->gtx;

	(void)now_us;
	answer(w, WAIT_TIMEOUT);
	park_consider(g);
}

int driver_wait(struct gtx *g, struct waiter *w, enum wait_for what, int64_t until_us)
{
	int rc = timers_admit(&g->node->timers, &w->timer, on_wait_timeout, w);

	if (rc < 0)
		return rc;
	w->timers = &g->node->timers;
	w->what = what;
	w->gtx = g;
	w->seq = g->forced_seq;
	list_push(&g->waiter, &w->link);
	timer_set(w->timers, &w->timer, until_us);
	if (what == WAIT_ENDED)
		intake_hurry(g);
	if (wait_is_over(g, w))
		answer(w, WAIT_DONE);
	return 0;
}

void driver_drop_all(struct node *node)
{
	struct map_node *n = NULL;
	size_t bucket = 0;

	while ((n = map_next(&node->txns, &bucket, n))) {
		struct gtx *g = container_of(n, struct gtx, by_gid);

		map_remove(&node->txns, n);
		answer_all(g, WAIT_LOST);
		gtx_free(g);
	}
	lanes_clear(node);
}

void driver_answer_waiters(struct node *node)
{
	struct map_node *n = NULL;
	size_t bucket = 0;

	while ((n = map_next(&node->txns, &bucket, n)))
		answer_all(container_of(n, struct gtx, by_gid), WAIT_TIMEOUT);
}

const struct journal_state *driver_visible(const struct gtx *g)
{
	return &g->entry.durable;
}

bool driver_is_durable(const struct gtx *g)
{
	return g->forced_seq <= g->entry.durable_seq;
}
