#include "node/park.h"

#include <string.h>

#include "base/clock.h"
#include "base/crash.h"
#include "node/lane.h"
#include "node/node.h"

int park_init(struct park *p)
{
	return map_init(&p->lanes, 16);
}

void park_release(struct park *p)
{
	map_release(&p->lanes);
}

/* Whose call comes first. */
static unsigned first_due(const struct txn *t)
{
	unsigned first = 0;

	for (unsigned i = 1; i < t->n_branch; i++) {
		if (t->branch[i].due_us < t->branch[first].due_us)
			first = i;
	}
	return first;
}

static void label_of(const struct gtx *g, unsigned branch, char label[PEER_LABEL_MAX])
{
	const struct branch_spec *b = &g->spec.branch[branch];

	peer_label(g->node->config->registry, b->participant, b->op_url[g->txn.branch[branch].op],
	           label, PEER_LABEL_MAX);
}

static struct lane *lane_for(struct gtx *g, unsigned branch)
{
	struct node *n = g->node;
	char label[PEER_LABEL_MAX];
	struct lane *l;

	label_of(g, branch, label);
	l = lane_find(n, label);
	if (l || n->park.lanes.n >= LANES_MAX)
		return l;
	return lane_new(n, label, strlen(label));
}

/* Nothing is under way, in the core and around it. */
static bool at_rest(const struct gtx *g)
{
	return txn_rests(&g->txn) && g->forced_seq <= g->entry.durable_seq &&
	       journal_entry_idle(&g->entry) && list_empty(&g->pending) && list_empty(&g->waiter) &&
	       list_empty(&g->call);
}

/* So many wait for the same participant that it would soon be refused new ones. */
static bool crowded(const struct gtx *g)
{
	for (unsigned i = 0; i < g->txn.n_branch; i++) {
		const struct peer_wait *w = g->note[i].wait;

		if (g->txn.branch[i].op != OP_NONE && w &&
		    2 * w->peer->n_wait > admission_share(g->node))
			return true;
	}
	return false;
}

void park_consider(struct gtx *g)
{
	struct parking *p = &g->parking;
	struct journal_state s;
	int64_t due_us;

	if (!at_rest(g))
		return;
	due_us = txn_due_us(&g->txn);
	if (due_us < clock_mono_us() + PARK_AFTER_US && !lanes_pressed(g->node) && !crowded(g))
		return;
	if (!p->calls)
		p->calls = arena_alloc(&g->arena, txn_memo_len(&g->txn));
	admission_count(g);
	if (p->to) { /* another record took that one's place */
		p->to->n_coming--;
		lane_wake(p->to, clock_mono_us());
	}
	p->to = p->calls ? lane_for(g, first_due(&g->txn)) : NULL;
	if (!p->to)
		return; /* it stays */
	p->to->n_coming++;
	p->n_heal = p->to->n_heal;
	p->due_us = due_us;
	txn_memo(&g->txn, g->node->db_offset_us, p->calls);
	p->record = (struct journal_park){
	    .whom = p->to->label,
	    .until_us = node_db_time_us(g->node, due_us),
	    .calls = p->calls,
	    .n_calls = txn_memo_len(&g->txn),
	};
	timer_set(&g->node->timers, &g->timer, INT64_MAX);
	/* The answers of those that did what was decided are no record of their own. */
	s = g->entry.durable;
	for (unsigned i = 0; i < g->txn.n_branch; i++)
		s.branch[i] = (uint8_t)g->txn.branch[i].state;
	journal_park(g->node->journal, &g->entry, &s, &p->record);
	crash_point(CRASH_PARK_RECORDED);
}

bool park_settled(struct gtx *g)
{
	struct parking *p = &g->parking;
	struct node *n = g->node;
	struct lane *l = p->to;
	int64_t until = p->record.until_us - PG_EPOCH_US;

	crash_point(CRASH_PARK_DURABLE);
	l->n_coming--;
	p->to = NULL;
	lane_wake(l, clock_mono_us());
	if (!at_rest(g) || txn_due_us(&g->txn) != p->due_us) {
		/* Somebody came meanwhile: it goes on where it is. */
		timer_set(&n->timers, &g->timer, txn_due_us(&g->txn));
		return false;
	}
	l->n_parked++;
	n->park.n_parked++;
	n->park.n_put++;
	l->last = until > l->last ? until : l->last;
	l->next_us = p->due_us < l->next_us ? p->due_us : l->next_us;
	if (l->n_heal != p->n_heal)
		lane_take_all_back(l); /* it answered meanwhile */
	return true;
}

/* The branch that the lane's participant is to be called for. When the configuration names none of
 * them so any more, what the first one answers counts. */
static unsigned branch_of(const struct gtx *g, const struct lane *l)
{
	unsigned first = TXN_BRANCH_MAX;

	for (unsigned i = 0; i < g->txn.n_branch; i++) {
		char label[PEER_LABEL_MAX];

		if (g->txn.branch[i].op == OP_NONE)
			continue;
		label_of(g, i, label);
		if (strcmp(label, l->label) == 0)
			return i;
		first = first < i ? first : i;
	}
	return first;
}

void park_taken_back(struct gtx *g, struct lane *l)
{
	g->parking.from = l;
	g->parking.branch = branch_of(g, l);
	l->n_parked--;
	l->n_out++;
	g->node->park.n_parked--;
	g->node->park.n_out++;
	g->node->park.n_taken++;
}

void park_leave(struct gtx *g)
{
	struct lane *from = g->parking.from, *to = g->parking.to;

	if (from) {
		from->n_out--;
		g->node->park.n_out--;
		lane_wake(from, clock_mono_us());
	}
	if (to) {
		to->n_coming--;
		lane_wake(to, clock_mono_us());
	}
	g->parking.from = NULL;
	g->parking.to = NULL;
}

void park_heard(const struct gtx *g, unsigned branch, const char *label, bool decided, bool failed)
{
	struct lane *from = g->parking.from && g->parking.branch == branch ? g->parking.from : NULL;
	struct lane *named = g->node->park.lanes.n ? lane_find(g->node, label) : NULL;

	if (from)
		lane_hear(from, true, decided, failed);
	if (named && named != from)
		lane_hear(named, false, decided, failed);
}

void park_labels(const struct node *n, struct buf *out)
{
	struct map_node *m = NULL;
	size_t bucket = 0;

	pg_array_begin(out, PG_TEXT);
	while ((m = map_next(&n->park.lanes, &bucket, m))) {
		const struct lane *l = container_of(m, struct lane, node);

		if (l->n_parked)
			pg_array_add_bytes(out, l->label, strlen(l->label));
	}
	pg_array_end(out);
}

size_t park_count(const struct node *n, const char *label)
{
	const struct lane *l = n->park.lanes.n ? lane_find(n, label) : NULL;

	return l ? l->n_parked : 0;
}
