#include "node/shards.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "io/sql.h"
#include "node/alerts.h"
#include "node/driver.h"
#include "node/recover.h"

#define LOCK_RETRY_US INT64_C(200000)
#define LOST_PATIENCE 3 /* losses in a row before take-overs are slowed down */
#define LOST_MIN_US   INT64_C(250000)
#define LOST_MAX_US   INT64_C(2000000)
#define CALM_US       INT64_C(5000000) /* held for so long, a loss is the first again */
#define PARTITIONS_US (INT64_C(3600) * 1000000)

static void try_locks(struct node *n);

/* A step towards ownership failed: start over with a new session. */
static void start_over(struct node *n, const struct pg_outcome *outcome, const char *step)
{
	if (n->state == NODE_DOWN)
		return; /* on_down has been here */
	log_error(NULL, "%s failed: %s %s", step, outcome->sqlstate, outcome->message);
	(void)snprintf(n->failed, sizeof n->failed, "%s failed: %s", step, outcome->message);
	node_lost(n, n->failed);
}

static int send(struct node *n, enum sql_write which, const struct pg_param *param,
                pg_done_fn *done)
{
	struct pg_batch *batch = pg_batch_begin(n->writer);

	if (!batch)
		return ERR_IO;
	pg_batch_add(batch, (size_t)which, param);
	pg_batch_send(batch, done, n);
	return 0;
}

static void on_partitions(void *ctx, const struct pg_outcome *outcome)
{
	struct node *n = ctx;

	/* Without them rows go to the default partition: slower to drop, nothing lost. */
	if (!outcome->err)
		crash_point(CRASH_PARTITIONS_MADE);
	if (outcome->err && n->state != NODE_DOWN)
		log_warn(NULL, "history partitions were not made: %s", outcome->message);
}

/* On this session, because the readers' may not write. lock_timeout bounds the wait. */
static void make_partitions(struct node *n)
{
	if (send(n, SQL_PARTITIONS, NULL, on_partitions) < 0)
		log_warn(NULL, "history partitions were not made now");
	timer_set(&n->timers, &n->retry, clock_mono_us() + PARTITIONS_US);
}

static void on_loaded(struct node *n, int err)
{
	if (err) {
		node_lost(n, "loading unfinished transactions failed");
		return;
	}
	n->state = NODE_READY;
	n->metrics.takeovers++;
	n->waiting_for[0] = '\0';
	log_info(NULL, "serving: cluster %s, %d shards, %zu unfinished transactions", n->cluster,
	         NODE_SHARDS, n->txns.n);
	crash_point(CRASH_RECOVER_DONE);
	make_partitions(n);
	alerts_count(n);
}

/* Rows of SQL_TAKE and SQL_HELLO. */
static bool read_epochs(struct node *n, const struct pg_outcome *o)
{
	const struct pg_result *take = o->result[0], *hello = o->result[1];
	const char *cluster;
	size_t len;

	if (pg_rows(take) != NODE_SHARDS || pg_rows(hello) != 1 || pg_null(hello, 0, 0))
		return false;
	for (size_t i = 0; i < NODE_SHARDS; i++) {
		int64_t shard = pg_int(take, i, 0);

		if (shard < 0 || shard >= NODE_SHARDS)
			return false;
		n->epoch[shard] = pg_int(take, i, 1);
	}
	cluster = pg_bytes(hello, 0, 0, &len);
	if (len != sizeof n->cluster - 1)
		return false;
	memcpy(n->cluster, cluster, len);
	n->cluster[len] = '\0';
	n->db_offset_us = pg_int(hello, 0, 1) - clock_mono_us();
	return true;
}

static void on_taken(void *ctx, const struct pg_outcome *outcome)
{
	struct node *n = ctx;

	if (outcome->err) {
		start_over(n, outcome, "raising the epochs");
		return;
	}
	if (n->state != NODE_TAKING)
		return;
	if (!read_epochs(n, outcome)) {
		log_error(NULL, "the tables assent.shard or assent.cluster are not as migrated");
		node_lost(n, "unexpected rows while taking the shards");
		return;
	}
	crash_point(CRASH_SHARDS_EPOCHS_RAISED);
	n->state = NODE_LOADING;
	journal_start(n->journal);
	if (recover_start(n, on_loaded) < 0)
		node_lost(n, "loading unfinished transactions could not start");
}

static void take(struct node *n)
{
	const char *name = n->config->node;
	struct pg_batch *batch = pg_batch_begin(n->writer);

	n->state = NODE_TAKING;
	if (!batch) {
		node_lost(n, "raising the epochs failed");
		return;
	}
	pg_batch_add(batch, SQL_TAKE, &(struct pg_param){.data = name, .len = strlen(name)});
	pg_batch_add(batch, SQL_HELLO, NULL);
	pg_batch_send(batch, on_taken, n);
	crash_point(CRASH_SHARDS_EPOCHS_SENT);
}

static void on_unlocked(void *ctx, const struct pg_outcome *outcome)
{
	struct node *n = ctx;
	/* Two nodes that took half of the locks each must not meet again at the next try. */
	int64_t now_us = clock_mono_us();
	int64_t jitter_us = now_us & 0xffff;

	if (outcome->err)
		start_over(n, outcome, "giving back locks");
	else if (n->state == NODE_LOCKING)
		timer_set(&n->timers, &n->retry, now_us + LOCK_RETRY_US + jitter_us);
}

static void on_locked(void *ctx, const struct pg_outcome *outcome)
{
	struct node *n = ctx;
	char before[sizeof n->waiting_for];

	if (outcome->err) {
		start_over(n, outcome, "taking locks");
		return;
	}
	if (n->state != NODE_LOCKING)
		return;
	if (pg_int(outcome->result[0], 0, 0) == NODE_SHARDS) {
		crash_point(CRASH_SHARDS_LOCKED);
		take(n);
		return;
	}
	memcpy(before, n->waiting_for, sizeof before);
	(void)snprintf(n->waiting_for, sizeof n->waiting_for,
	               "another node owns the shards (PostgreSQL backend %lld)",
	               (long long)pg_int(outcome->result[0], 0, 2));
	if (strcmp(before, n->waiting_for) != 0)
		log_info(NULL, "waiting: %s", n->waiting_for);
	crash_point(CRASH_SHARDS_BEFORE_UNLOCK);
	if (send(n, SQL_UNLOCK, NULL, on_unlocked) < 0)
		node_lost(n, "giving back locks failed");
}

static void try_locks(struct node *n)
{
	if (send(n, SQL_LOCK, NULL, on_locked) < 0)
		node_lost(n, "taking locks failed");
}

/* A database that accepts sessions but not what is written (its disk is full) would be taken over
 * and lost many times a second. */
static int64_t pause_us(const struct node *n)
{
	int64_t us = LOST_MIN_US;

	if (n->n_lost <= LOST_PATIENCE)
		return 0;
	for (unsigned i = n->n_lost - LOST_PATIENCE; i > 1 && us < LOST_MAX_US; i--)
		us *= 2;
	return us < LOST_MAX_US ? us : LOST_MAX_US;
}

static void count_loss(struct node *n)
{
	if (clock_mono_us() - n->up_us > CALM_US)
		n->n_lost = 0;
	n->n_lost++;
}

void shards_on_up(void *ctx)
{
	struct node *n = ctx;
	int64_t us = pause_us(n);

	assert(n->state == NODE_DOWN);
	n->lost_why = NULL;
	n->state = NODE_LOCKING;
	n->up_us = clock_mono_us();
	if (us > 0)
		timer_set(&n->timers, &n->retry, n->up_us + us);
	else
		try_locks(n);
}

void shards_on_timer(void *ctx, int64_t now_us)
{
	struct node *n = ctx;

	(void)now_us;
	if (n->state == NODE_LOCKING)
		try_locks(n);
	else if (n->state == NODE_READY)
		make_partitions(n);
}

void shards_give_up(struct node *n)
{
	crash_point(CRASH_SHARDS_BEFORE_GIVE_UP);
	if (n->state >= NODE_LOADING)
		journal_stop(n->journal);
	if (n->state != NODE_DOWN)
		count_loss(n);
	n->state = NODE_DOWN;
	recover_stop(n);
	timer_set(&n->timers, &n->retry, INT64_MAX);
	driver_drop_all(n);
	crash_point(CRASH_SHARDS_GIVEN_UP);
}

void shards_on_down(void *ctx, const char *why)
{
	struct node *n = ctx;

	if (n->state != NODE_DOWN || strncmp(n->waiting_for, why, sizeof n->waiting_for - 1) != 0)
		log_warn(NULL, "no session to the database: %s", why);
	(void)snprintf(n->waiting_for, sizeof n->waiting_for, "%s", why);
	shards_give_up(n);
}
