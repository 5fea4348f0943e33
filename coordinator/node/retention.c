#include "node/retention.h"

#include <string.h>

#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "io/sql.h"
#include "node/alerts.h"
#include "node/node.h"

#define BATCH        500
#define REST         9
#define REST_MIN_US  INT64_C(5000)
#define SWEEP_MIN_US INT64_C(500000)
#define SWEEP_MAX_US INT64_C(60000000)
#define STALL_US     INT64_C(60000000) /* its statements have half of that */

static void rest(struct node *n, int64_t us)
{
	timer_set(&n->timers, &n->retention.timer, clock_mono_us() + us);
}

/* Never more than a tenth of the time. */
static void rest_after_batch(struct node *n)
{
	int64_t us = REST * (clock_mono_us() - n->retention.asked_us);

	rest(n, us > REST_MIN_US ? us : REST_MIN_US);
}

static void rest_after_sweep(struct node *n)
{
	int64_t us = n->config->retention_ms * 100; /* a tenth of it */

	n->retention.reached_us = INT64_MIN;
	n->retention.reached_gid[0] = '\0';
	us = us < SWEEP_MIN_US ? SWEEP_MIN_US : us;
	rest(n, us < SWEEP_MAX_US ? us : SWEEP_MAX_US);
}

static void ask(struct node *n, enum sql_purge which, const struct pg_param *param,
                pg_done_fn *done)
{
	struct pg_batch *batch = pg_batch_begin(n->retention.pg);

	if (!batch) {
		rest_after_sweep(n);
		return;
	}
	n->retention.asked_us = clock_mono_us();
	pg_batch_add(batch, (size_t)which, param);
	pg_batch_send(batch, done, n);
}

static bool failed(struct node *n, const struct pg_outcome *outcome)
{
	if (!outcome->err)
		return false;
	log_warn(NULL, "purging failed, it is tried again: %s", outcome->message);
	rest_after_sweep(n);
	return true;
}

static void on_day(void *ctx, const struct pg_outcome *outcome)
{
	struct node *n = ctx;

	if (failed(n, outcome))
		return;
	crash_point(CRASH_PURGE_DAY_DONE);
	if (pg_int(outcome->result[0], 0, 0)) {
		n->retention.n_day++;
		log_info(NULL, "dropped a day of history");
	}
	if (node_ready(n))
		alerts_count(n); /* people close some of them in the table */
	rest_after_sweep(n);
}

/* How long to keep, and how many at a time. */
static void ask_two(struct node *n, enum sql_purge which, pg_done_fn *done)
{
	struct buf keep = BUF_INIT, limit = BUF_INIT;

	pg_put_int8(&keep, n->config->retention_ms);
	pg_put_int8(&limit, BATCH);
	if (!keep.failed && !limit.failed)
		ask(n, which, (struct pg_param[]){{keep.data, keep.len}, {limit.data, limit.len}},
		    done);
	else
		rest_after_sweep(n);
	buf_release(&keep);
	buf_release(&limit);
}

static void on_other(void *ctx, const struct pg_outcome *outcome)
{
	struct node *n = ctx;

	if (failed(n, outcome))
		return;
	crash_point(CRASH_PURGE_OTHER_DONE);
	ask_two(n, SQL_PURGE_DAY, on_day);
}

static void on_alerts(void *ctx, const struct pg_outcome *outcome)
{
	struct node *n = ctx;

	if (failed(n, outcome))
		return;
	crash_point(CRASH_PURGE_ALERTS_DONE);
	ask_two(n, SQL_PURGE_OTHER, on_other);
}

/* Rows of SQL_PURGE_PAGE: looked at, deleted, the last place. */
static void on_page(void *ctx, const struct pg_outcome *outcome)
{
	struct node *n = ctx;
	struct retention *r = &n->retention;
	const struct pg_result *row;
	const char *gid;
	size_t len;

	if (failed(n, outcome))
		return;
	crash_point(CRASH_PURGE_PAGE_DONE);
	row = outcome->result[0];
	r->n_transaction += (uint64_t)pg_int(row, 0, 1);
	if (pg_int(row, 0, 0) < BATCH) {
		ask_two(n, SQL_PURGE_ALERTS, on_alerts);
		return;
	}
	r->reached_us = pg_int(row, 0, 2);
	gid = pg_bytes(row, 0, 3, &len);
	len = len > GID_MAX ? GID_MAX : len;
	memcpy(r->reached_gid, gid, len);
	r->reached_gid[len] = '\0';
	rest_after_batch(n);
}

static void on_timer(void *ctx, int64_t now_us)
{
	struct node *n = ctx;
	struct retention *r = &n->retention;
	struct buf value[3] = {BUF_INIT, BUF_INIT, BUF_INIT};

	(void)now_us;
	if (!node_ready(n) || !pg_up(r->pg)) {
		rest_after_sweep(n);
		return;
	}
	pg_put_int8(&value[0], r->reached_us);
	pg_put_int8(&value[1], n->config->retention_ms);
	pg_put_int8(&value[2], BATCH);
	ask(n, SQL_PURGE_PAGE,
	    (struct pg_param[]){{value[0].data, value[0].len},
	                        {r->reached_gid, strlen(r->reached_gid)},
	                        {value[1].data, value[1].len},
	                        {value[2].data, value[2].len}},
	    on_page);
	for (unsigned i = 0; i < 3; i++)
		buf_release(&value[i]);
}

static void on_up(void *ctx)
{
	(void)ctx;
}

static void on_down(void *ctx, const char *why)
{
	(void)ctx;
	log_debug(NULL, "no session to purge with: %s", why);
}

int retention_open(struct node *n)
{
	int rc = pg_new(n->loop,
	                &(struct pg_config){
	                    .conninfo = n->config->database,
	                    .application_name = "assentd purge",
	                    .setup = sql_purge_setup,
	                    .statement = sql_purge_statement,
	                    .n_statement = SQL_PURGE_MAX,
	                    .stall_us = STALL_US,
	                    .on_up = on_up,
	                    .on_down = on_down,
	                    .ctx = n,
	                },
	                &n->retention.pg);

	if (rc == 0)
		rc = timers_admit(&n->timers, &n->retention.timer, on_timer, n);
	if (rc == 0)
		rest_after_sweep(n);
	return rc;
}

void retention_close(struct node *n)
{
	pg_free(n->retention.pg);
	n->retention.pg = NULL;
	timers_retire(&n->timers, &n->retention.timer);
}
