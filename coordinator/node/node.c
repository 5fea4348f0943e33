#include "node/node.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "io/sql.h"
#include "node/alerts.h"
#include "node/driver.h"
#include "node/participant.h"
#include "node/shards.h"

#define LAZY_US         INT64_C(20000)
#define READ_TIMEOUT_US INT64_C(12000000)

int64_t node_db_time_us(const struct node *n, int64_t mono_us)
{
	return n->db_offset_us + mono_us;
}

int64_t node_db_now_us(const struct node *n)
{
	return node_db_time_us(n, clock_mono_us());
}

void node_lost(struct node *n, const char *why)
{
	if (n->lost_why)
		return;
	n->lost_why = why;
	(void)snprintf(n->waiting_for, sizeof n->waiting_for, "%s", why);
	loop_hook_kick(n->hook);
}

static void on_alerts(void *ctx)
{
	alerts_count(ctx);
}

static void on_journal_lost(void *ctx, const char *why)
{
	log_error(NULL, "a flush has no certain result: %s", why);
	node_lost(ctx, "a flush has no certain result");
}

/* End of the turn: nothing is in the middle of a transaction now. */
static void on_turn(void *ctx)
{
	struct node *n = ctx;
	const char *why = n->lost_why;

	participant_deliver_failed(n);
	if (!why) {
		intake_turn(n);
		return;
	}
	if (n->state != NODE_DOWN) {
		log_warn(NULL, "dropping %zu transactions from memory to load them anew: %s",
		         n->txns.n, why);
		shards_give_up(n);
		pg_reconnect(n->writer, why);
	}
}

/* Longer than the statement_timeout of these sessions: it is for those that hang. */
int64_t node_read_timeout_us(const struct node *n)
{
	int64_t us = n->config->database_timeout_ms * 1000;

	return us < READ_TIMEOUT_US ? us : READ_TIMEOUT_US;
}

static void on_reader_down(void *ctx, const char *why)
{
	(void)ctx;
	log_debug(NULL, "no session to read with: %s", why);
}

static void on_reader_up(void *ctx)
{
	(void)ctx;
}

static int open_sessions(struct node *n)
{
	struct pg_config writer = {
	    .conninfo = n->config->database,
	    .application_name = "assentd journal",
	    .setup = sql_write_setup,
	    .statement = sql_write_statement,
	    .n_statement = SQL_WRITE_MAX,
	    .stall_us = n->config->database_timeout_ms * 1000,
	    .on_up = shards_on_up,
	    .on_down = shards_on_down,
	    .ctx = n,
	};
	struct pg_config reader = {
	    .conninfo = n->config->database,
	    .application_name = "assentd reader",
	    .setup = sql_read_setup,
	    .statement = sql_read_statement,
	    .n_statement = SQL_READ_MAX,
	    .stall_us = node_read_timeout_us(n),
	    .on_up = on_reader_up,
	    .on_down = on_reader_down,
	    .ctx = n,
	};
	int rc = pg_new(n->loop, &writer, &n->writer);

	if (rc == 0)
		rc = pg_new(n->loop, &reader, &n->reader);
	if (rc == 0)
		rc = lists_open(n);
	return rc < 0 ? rc : retention_open(n);
}

static int open_journal(struct node *n)
{
	return journal_new(
	    &(struct journal_config){
	        .loop = n->loop,
	        .pg = n->writer,
	        .node = n->config->node,
	        .interval_us = n->config->flush_interval_us,
	        .busy_above = 16,
	        .lazy_us = LAZY_US,
	        .on_durable = driver_on_durable,
	        .on_refused = driver_on_refused,
	        .on_alerts = on_alerts,
	        .on_lost = on_journal_lost,
	        .ctx = n,
	    },
	    &n->journal);
}

static int open_client(struct node *n)
{
	return http_client_new(n->loop,
	                       &(struct http_client_config){
	                           .concurrency = (unsigned)n->config->participant_concurrency,
	                           .queue_max = (unsigned)n->config->participant_queue_max,
	                           .peer_max = 1024,
	                       },
	                       &n->client);
}

static int open_parts(struct node *n)
{
	int rc = open_client(n);

	if (rc == 0)
		rc = open_sessions(n);
	if (rc == 0)
		rc = open_journal(n);
	if (rc < 0)
		return rc;
	n->hook = loop_hook_new(n->loop, on_turn, n);
	return n->hook ? 0 : ERR_NOMEM;
}

int node_init(struct node *n, const struct config *config, struct loop *loop, char *why,
              size_t why_size)
{
	int rc;

	memset(n, 0, sizeof *n);
	n->config = config;
	n->loop = loop;
	list_init(&n->failed_calls);
	list_init(&n->intake.held);
	(void)snprintf(n->waiting_for, sizeof n->waiting_for, "connecting to the database");
	census_init(&n->census);
	admission_init(&n->admission);
	rc = map_init(&n->txns, 1024);
	if (rc == 0)
		rc = peer_stats_init(&n->peers);
	if (rc == 0)
		rc = park_init(&n->park);
	if (rc == 0)
		rc = timers_init(&n->timers, loop);
	if (rc == 0)
		rc = intake_init(n);
	if (rc == 0)
		rc = timers_admit(&n->timers, &n->retry, shards_on_timer, n);
	if (rc == 0)
		rc = open_parts(n);
	if (rc < 0)
		(void)snprintf(why, why_size, "cannot start: %s", err_str(rc));
	return rc;
}

void node_hang_up(struct node *n)
{
	/* It did not get as far as having anybody to tell. */
	if (!n->hook)
		return;
	(void)snprintf(n->waiting_for, sizeof n->waiting_for, "this node is stopping");
	/* First the journal's waiters: some of them go on to ask the readers' session. */
	shards_give_up(n);
	pg_drop(n->reader, n->waiting_for);
	pg_drop(n->lists.pg, n->waiting_for);
	pg_drop(n->retention.pg, n->waiting_for);
	pg_drop(n->writer, n->waiting_for);
}

void node_release(struct node *n)
{
	shards_give_up(n);
	loop_hook_free(n->hook);
	journal_free(n->journal);
	pg_free(n->writer);
	pg_free(n->reader);
	pg_free(n->lists.pg);
	retention_close(n);
	http_client_free(n->client);
	call_head_release(&n->head);
	timers_retire(&n->timers, &n->retry);
	intake_release(n);
	timers_release(&n->timers);
	map_release(&n->txns);
	census_release(&n->census);
	peer_stats_release(&n->peers);
	park_release(&n->park);
}
