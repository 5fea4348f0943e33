#include "node/lane.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "io/sql.h"
#include "node/node.h"

#define FULL_REST_US INT64_C(20000) /* memory is full: look again after */
#define REST_DOUBLED 7

void lane_wake(struct lane *l, int64_t at_us)
{
	timer_set(&l->owner->timers, &l->timer, at_us);
}

static void lane_free(struct lane *l)
{
	map_remove(&l->owner->park.lanes, &l->node);
	timers_retire(&l->owner->timers, &l->timer);
	l->owner = NULL;
	if (!l->asking)
		free(l);
}

static void lane_turn(void *ctx, int64_t now_us);

/* What is known of a participant that nobody waited for is nothing: it is taken for broken until it
 * answers. */
struct lane *lane_new(struct node *n, const char *label, size_t len)
{
	struct lane *l = calloc(1, sizeof *l);

	if (!l)
		return NULL;
	assert(len < sizeof l->label);
	memcpy(l->label, label, len);
	l->owner = n;
	l->broken = true;
	l->window = 1;
	l->next_us = INT64_MAX;
	l->last = INT64_MIN;
	load_rewind(&l->reached);
	if (timers_admit(&n->timers, &l->timer, lane_turn, l) < 0) {
		free(l);
		return NULL;
	}
	if (map_put(&n->park.lanes, &l->node, l->label, len) < 0) {
		timers_retire(&n->timers, &l->timer);
		free(l);
		return NULL;
	}
	return l;
}

struct lane *lane_find(const struct node *n, const char *label)
{
	struct map_node *m = map_get(&n->park.lanes, label, strlen(label));

	return m ? container_of(m, struct lane, node) : NULL;
}

bool lanes_pressed(const struct node *n)
{
	return admission_room(n, 50) == 0;
}

/* Of all lanes together: a half of what may wait for one participant. */
static size_t most_out(const struct node *n)
{
	size_t most = admission_share(n) / 2;

	return most ? most : 1;
}

static size_t window_of(const struct lane *l)
{
	size_t most = most_out(l->owner), window = l->broken ? 1 : l->window;

	if (window > LANE_WINDOW / 16 && lanes_pressed(l->owner))
		window = LANE_WINDOW / 16;
	return window < most ? window : most;
}

/* How many may be taken back now. One may always be on its way: without it nobody would hear that the
 * participant is back. */
static size_t room_of(const struct lane *l)
{
	const struct node *n = l->owner;
	size_t most = most_out(n), room = window_of(l);

	if (l->n_out >= room)
		return 0;
	if (n->park.n_out >= most || admission_room(n, 100) == 0)
		return l->n_out == 0;
	room -= l->n_out;
	most -= n->park.n_out;
	return room < most ? room : most;
}

static void mark_sweep(struct lane *l, bool sweeping)
{
	l->sweeping = sweeping;
	load_rewind(&l->reached);
}

/* Nothing more is due. What was parked during the sweep has told when it is. */
static void end_sweep(struct lane *l, const struct pg_result *next)
{
	int64_t next_us = INT64_MAX;

	if (pg_rows(next) > 0)
		next_us = pg_int(next, 0, 0) + PG_EPOCH_US - l->owner->db_offset_us;
	if (next_us < l->next_us)
		l->next_us = next_us;
	if (!l->again)
		l->recall = false;
	mark_sweep(l, false);
}

static int take_page(struct lane *l, const struct pg_result *r)
{
	size_t n_row = pg_rows(r);

	for (size_t row = 0; row < n_row; row++) {
		int rc = load_row(l->owner, r, row, l, 0);

		if (rc == ERR_NOMEM)
			return rc;
		if (rc == ERR_STATE) { /* until the database has refused the new one */
			l->again = true;
			l->next_us = clock_mono_us() + PROBE_US;
		}
		if (rc == 0)
			crash_point(CRASH_UNPARK_RESUMED);
	}
	return load_reached(&l->reached, r, n_row - 1, LOAD_PARKED_UNTIL);
}

/* Results of SQL_TAKE_BACK and SQL_PARKED_NEXT. */
static void on_page(void *ctx, const struct pg_outcome *outcome)
{
	struct lane *l = ctx;

	l->asking = false;
	if (!l->owner) {
		free(l);
		return;
	}
	if (outcome->err) {
		log_error(NULL, "taking parked transactions back failed: %s %s", outcome->sqlstate,
		          outcome->message);
		node_lost(l->owner, "taking parked transactions back failed");
		return;
	}
	crash_point(CRASH_UNPARK_PAGE_CAME);
	if (pg_rows(outcome->result[0]) == 0)
		end_sweep(l, outcome->result[1]);
	else if (take_page(l, outcome->result[0]) < 0)
		node_lost(l->owner, "out of memory while taking parked transactions back");
	lane_wake(l, clock_mono_us());
}

/* Without a session this lane is gone soon. */
static void ask(struct lane *l, size_t room, int64_t now_us)
{
	struct node *n = l->owner;
	struct buf at = BUF_INIT, rows = BUF_INIT, bytes = BUF_INIT, bound = BUF_INIT,
	           began = BUF_INIT;
	size_t label_len = strlen(l->label);
	int64_t now_db = node_db_time_us(n, now_us) - PG_EPOCH_US;
	struct pg_batch *batch = NULL;

	if (!l->sweeping) {
		mark_sweep(l, true);
		l->began = now_db;
		l->again = false;
		l->next_us = INT64_MAX;
	}
	l->probed_us = now_us;
	pg_put_int8(&at, l->reached.at);
	pg_put_int8(&rows, (int64_t)room);
	pg_put_int8(&bytes, LOAD_PAGE_BYTES);
	pg_put_int8(&bound, l->recall ? l->recall_until : now_db);
	pg_put_int8(&began, l->began);
	if (at.failed || rows.failed || bytes.failed || bound.failed || began.failed)
		node_lost(n, "out of memory while taking parked transactions back");
	else
		batch = pg_batch_begin(n->writer);
	if (batch) {
		pg_batch_add(batch, SQL_TAKE_BACK,
		             (struct pg_param[]){{l->label, label_len},
		                                 {at.data, at.len},
		                                 {l->reached.gid, l->reached.gid_len},
		                                 {rows.data, rows.len},
		                                 {bytes.data, bytes.len},
		                                 {bound.data, bound.len},
		                                 {began.data, began.len}});
		pg_batch_add(batch, SQL_PARKED_NEXT,
		             (struct pg_param[]){{l->label, label_len},
		                                 {bound.data, bound.len},
		                                 {began.data, began.len}});
		crash_point(CRASH_UNPARK_BEFORE_PAGE);
		pg_batch_send(batch, on_page, l);
		l->asking = true;
	}
	buf_release(&at);
	buf_release(&rows);
	buf_release(&bytes);
	buf_release(&bound);
	buf_release(&began);
}

static void lane_turn(void *ctx, int64_t now_us)
{
	struct lane *l = ctx;
	size_t room;

	if (l->asking)
		return;
	if (l->n_parked == 0) {
		l->recall = false;
		if (l->n_out == 0 && l->n_coming == 0)
			lane_free(l);
		return;
	}
	room = room_of(l);
	if (room == 0) /* one of its own that leaves wakes it */
		lane_wake(l, l->n_out < window_of(l) ? now_us + FULL_REST_US : INT64_MAX);
	else if ((!l->recall || l->again) && !l->sweeping && l->next_us > now_us)
		lane_wake(l, l->next_us);
	else if (window_of(l) == 1 && l->probed_us + PROBE_US > now_us)
		lane_wake(l, l->probed_us + PROBE_US);
	else
		ask(l, room, now_us);
}

/* Rows of SQL_LANES: for whom, how many, until when at the latest. */
static void on_lanes(void *ctx, const struct pg_outcome *outcome)
{
	struct node *n = ctx;
	const struct pg_result *r;

	if (n->state == NODE_DOWN)
		return;
	if (outcome->err) {
		log_error(NULL, "counting parked transactions failed: %s %s", outcome->sqlstate,
		          outcome->message);
		node_lost(n, "counting parked transactions failed");
		return;
	}
	r = outcome->result[0];
	for (size_t row = 0; row < pg_rows(r); row++) {
		size_t len;
		const char *label = pg_bytes(r, row, 0, &len);
		struct lane *l = len < PEER_LABEL_MAX ? lane_new(n, label, len) : NULL;

		if (!l) {
			node_lost(n, "out of memory while counting parked transactions");
			return;
		}
		l->n_parked = (size_t)pg_int(r, row, 1);
		l->last = pg_int(r, row, 2);
		n->park.n_parked += l->n_parked;
		/* Whether it is broken is not known: the first is asked now, due or not. */
		l->recall = true;
		l->recall_until = l->last;
		lane_wake(l, clock_mono_us());
	}
}

int lanes_start(struct node *n)
{
	struct pg_batch *batch = pg_batch_begin(n->writer);

	if (!batch)
		return ERR_IO;
	pg_batch_add(batch, SQL_LANES, NULL);
	pg_batch_send(batch, on_lanes, n);
	return 0;
}

void lanes_clear(struct node *n)
{
	struct map_node *m;
	size_t bucket = 0;

	while (n->park.lanes.bucket && (m = map_next(&n->park.lanes, &bucket, NULL))) {
		lane_free(container_of(m, struct lane, node));
		bucket = 0;
	}
	n->park.n_parked = 0;
	n->park.n_out = 0;
}

void lane_take_all_back(struct lane *l)
{
	int64_t now_us = clock_mono_us();

	/* The page that is on its way was asked for without it. */
	if (l->sweeping) {
		l->again = true;
		l->next_us = now_us;
	}
	l->recall = true;
	l->recall_until = l->last;
	lane_wake(l, now_us);
}

/* Between probes for no other reason than that it votes: without it one that votes and does not take
 * the decision would be asked ten times a second, whatever the backoff. */
static int64_t rest_us(const struct lane *l)
{
	return PROBE_US << (l->n_failed < REST_DOUBLED ? l->n_failed : REST_DOUBLED);
}

/* What it says to votes decides nothing: whoever votes need not take the decision. But when it
 * answers at all, it is worth a probe now. The same address may be that of several services, of which
 * one is dead: only its own answers let a lane take back more at a time. */
void lane_hear(struct lane *l, bool own, bool decided, bool failed)
{
	if (own)
		l->window = failed ? (l->window + 1) / 2 : 2 * l->window;
	if (l->window > LANE_WINDOW)
		l->window = LANE_WINDOW;
	if (!decided) {
		if (!failed && l->broken && !l->recall &&
		    clock_mono_us() >= l->probed_us + rest_us(l))
			lane_take_all_back(l);
		return;
	}
	if (failed) {
		l->broken |= ++l->n_failed >= LANE_FAILURES;
		if (l->broken)
			l->recall = false;
		return;
	}
	l->n_failed = 0;
	if (!l->broken)
		return;
	log_debug(NULL, "%s answers: %zu parked transactions go on", l->label, l->n_parked);
	l->broken = false;
	l->n_heal++;
	lane_take_all_back(l);
}
