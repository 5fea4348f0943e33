/*
 * admin_overview.c - the whole system at a glance. From counters in memory, and small queries for
 * who owns the shards and which parked transaction is the oldest.
 */
#include <string.h>

#include "api/handlers.h"
#include "base/clock.h"
#include "io/sql.h"
#include "node/gtx.h"

#define PARTICIPANT_MAX 20

static void put_in_flight(const struct node *n, struct buf *out)
{
	size_t stored = 0;
	bool more = false;

	buf_printf(out, "\"in_flight\":{\"total\":%zu,\"by_state\":[", n->txns.n);
	for (unsigned mode = 0; mode < CENSUS_MODE_MAX; mode++) {
		for (unsigned state = 0; state < TXN_STATE_MAX; state++) {
			size_t k = n->census.n[mode][state];

			if (k == 0)
				continue;
			stored += k;
			buf_printf(out, "%s{\"mode\":\"%s\",\"state\":\"%s\",\"n\":%zu}",
			           more ? "," : "", txn_mode_str((enum txn_mode)mode),
			           txn_state_str((enum txn_state)state), k);
			more = true;
		}
	}
	buf_printf(out, "],\"being_stored\":%zu},", n->txns.n - stored);
}

static void put_rates(const struct node *n, int64_t now_us, struct buf *out)
{
	static const char *const name[RATE_MAX] = {"submitted", "committed", "aborted", "mixed"};

	buf_puts(out, "\"last_minute\":{");
	for (unsigned i = 0; i < RATE_MAX; i++) {
		uint64_t k = census_last_minute(&n->census, (enum census_rate)i, now_us);

		buf_printf(out, "%s\"%s\":{\"n\":%llu,\"per_second\":%.3f}", i ? "," : "", name[i],
		           (unsigned long long)k, (double)k / CENSUS_SECONDS);
	}
	buf_puts(out, "},");
}

/* Rows of SQL_PARKED_OLDEST, the oldest of all first; NULL when the database cannot be asked. */
static void put_oldest(const struct node *n, const struct pg_result *parked, struct buf *out)
{
	const struct gtx *g = census_oldest(&n->census);
	int64_t since_us = g ? g->created_us : INT64_MAX;
	int state = g ? g->entry.durable.state : 0;
	const char *gid = g ? g->gid : NULL;
	size_t len = g ? strlen(g->gid) : 0;

	buf_puts(out, "\"oldest_in_doubt\":");
	if (parked && pg_rows(parked) && pg_int(parked, 0, 3) + PG_EPOCH_US < since_us) {
		gid = pg_bytes(parked, 0, 1, &len);
		state = (int)pg_int(parked, 0, 2);
		since_us = pg_int(parked, 0, 3) + PG_EPOCH_US;
	}
	if (!gid) {
		buf_puts(out, "null,");
		return;
	}
	buf_puts(out, "{\"gid\":");
	buf_put_json_strn(out, gid, len);
	buf_printf(out, ",\"state\":\"%s\",\"since\":", txn_state_str((enum txn_state)state));
	buf_put_json_time(out, since_us);
	buf_puts(out, "},");
}

/* Counted by the node that holds the shards. */
static void put_alerts(const struct node *n, struct buf *out)
{
	if (!node_ready(n)) {
		buf_puts(out, "\"alerts_open\":null,");
		return;
	}
	buf_puts(out, "\"alerts_open\":{");
	for (int i = 0; i < ALERT_KIND_MAX; i++)
		buf_printf(out, "%s\"%s\":%llu", i ? "," : "", alert_kind_str((enum alert_kind)i),
		           (unsigned long long)n->alerts_open[i]);
	buf_puts(out, "},");
}

static const char *state_of(const struct node *n)
{
	static const char *const name[] = {
	    [NODE_DOWN] = "down",       [NODE_LOCKING] = "locking", [NODE_TAKING] = "taking",
	    [NODE_LOADING] = "loading", [NODE_READY] = "ready",
	};

	return n->draining ? "stopping" : name[n->state];
}

static void put_node(const char *name, size_t len, const char *state, int64_t epoch,
                     struct buf *out)
{
	buf_puts(out, "{\"name\":");
	buf_put_json_strn(out, name, len);
	buf_printf(out, ",\"state\":\"%s\",\"epoch\":%lld}", state, (long long)epoch);
}

/* This node, and whoever else was the last to take shards: of it nothing more is known here. */
static void put_nodes(const struct node *n, const struct pg_result *owners, struct buf *out)
{
	const char *self = n->config->node;

	buf_puts(out, "\"nodes\":[");
	put_node(self, strlen(self), state_of(n), n->epoch[0], out);
	for (size_t i = 0; owners && i < pg_rows(owners); i++) {
		size_t len;
		const char *name = pg_bytes(owners, i, 0, &len);

		if (strlen(self) == len && memcmp(self, name, len) == 0)
			continue;
		buf_putc(out, ',');
		put_node(name, len, "unknown", pg_int(owners, i, 1), out);
	}
	buf_puts(out, "],");
}

/* Those in trouble first. */
static void put_participants(const struct node *n, int64_t now_us, struct buf *out)
{
	unsigned shown = 0;

	buf_puts(out, "\"participants\":[");
	for (int pass = 0; pass < 2; pass++) {
		struct peer_stat *p = NULL;
		size_t bucket = 0;

		while ((p = peer_stats_next(&n->peers, &bucket, p)) && shown < PARTICIPANT_MAX) {
			struct peer_summary s;

			peer_summarize(p, now_us, &s);
			if ((s.n_error_minute == 0) != pass)
				continue;
			buf_puts(out, shown++ ? ",{" : "{");
			buf_puts(out, "\"participant\":");
			buf_put_json_str(out, p->label);
			buf_printf(out, ",\"health\":\"%s\",\"waiting\":%zu}",
			           peer_health_str(p, &s), p->n_wait + park_count(n, p->label));
		}
	}
	buf_putc(out, ']');
}

static void on_owners(void *ctx, const struct pg_outcome *outcome)
{
	struct exchange *x = ctx;
	const struct node *n = x->node;
	int64_t now_us = clock_mono_us();
	struct buf body = BUF_INIT;

	buf_puts(&body, "{\"cluster\":");
	buf_put_json_str(&body, n->cluster[0] ? n->cluster : NULL);
	buf_putc(&body, ',');
	put_in_flight(n, &body);
	put_rates(n, now_us, &body);
	buf_printf(&body, "\"parked\":%zu,", n->park.n_parked);
	put_oldest(n, outcome && !outcome->err ? outcome->result[1] : NULL, &body);
	put_alerts(n, &body);
	put_nodes(n, outcome && !outcome->err ? outcome->result[0] : NULL, &body);
	put_participants(n, now_us, &body);
	exchange_put_confirmed(x, &body);
	buf_putc(&body, '}');
	exchange_json(x, 200, &body, NULL);
}

/* Without the database it is all the more worth a look. */
void handle_overview(struct exchange *x)
{
	struct pg_batch *batch = pg_batch_begin(x->node->reader);
	struct buf labels = BUF_INIT;

	if (!batch) {
		on_owners(x, NULL);
		return;
	}
	park_labels(x->node, &labels);
	pg_batch_add(batch, SQL_OWNERS, NULL);
	pg_batch_add(batch, SQL_PARKED_OLDEST, &(struct pg_param){labels.data, labels.len});
	pg_batch_send(batch, on_owners, x);
	buf_release(&labels);
}
