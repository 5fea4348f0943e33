/*
 * admin_participants.c - how each participant does, as this node sees it.
 */
#include <string.h>

#include "api/handlers.h"
#include "base/clock.h"
#include "core/verdict.h"
#include "io/sql.h"
#include "node/gtx.h"

static void put_ms(const char *name, int64_t us, struct buf *out)
{
	buf_printf(out, "\"%s\":%.3f,", name, (double)us / 1000);
}

static void put_time(const struct node *n, const char *name, int64_t mono_us, struct buf *out)
{
	buf_printf(out, "\"%s\":", name);
	buf_put_json_time(out, mono_us ? node_db_time_us(n, mono_us) : 0);
}

static void put_calls(const struct peer_stat *p, struct buf *out)
{
	buf_puts(out, "\"calls\":{");
	for (int i = EV_YES; i <= EV_CONTRACT; i++)
		buf_printf(out, "%s\"%s\":%llu", i > EV_YES ? "," : "",
		           verdict_str((enum event_type)i), (unsigned long long)p->verdict[i]);
	buf_puts(out, "},");
}

static void put_latency(const struct peer_summary *s, struct buf *out)
{
	buf_printf(out, "\"latency\":{\"window_ms\":%lld,\"calls\":%llu,",
	           (long long)(PEER_SLOT_US * PEER_SLOTS / 1000), (unsigned long long)s->n);
	put_ms("mean_ms", s->mean_us, out);
	put_ms("p50_ms", s->p50_us, out);
	put_ms("p95_ms", s->p95_us, out);
	buf_printf(out, "\"p99_ms\":%.3f},", (double)s->p99_us / 1000);
}

/* The oldest that is parked for it: a row of SQL_PARKED_OLDEST. */
static bool find_parked(const struct peer_stat *p, const struct pg_result *parked, size_t *row)
{
	for (*row = 0; parked && *row < pg_rows(parked); ++*row) {
		size_t len;
		const char *label = pg_bytes(parked, *row, 0, &len);

		if (strlen(p->label) == len && memcmp(p->label, label, len) == 0)
			return true;
	}
	return false;
}

static void put_oldest(const struct node *n, const struct peer_stat *p,
                       const struct pg_result *parked, struct buf *out)
{
	const struct peer_wait *w = peer_longest_wait(p);
	size_t row;

	buf_puts(out, "\"oldest_waiting\":");
	if (find_parked(p, parked, &row)) {
		int64_t since_us = pg_int(parked, row, pg_null(parked, row, 4) ? 3 : 4) +
		                   PG_EPOCH_US;
		size_t len;
		const char *gid = pg_bytes(parked, row, 1, &len);

		if (!w || since_us < node_db_time_us(n, w->since_us)) {
			buf_puts(out, "{\"gid\":");
			buf_put_json_strn(out, gid, len);
			buf_puts(out, ",\"branch\":null,\"since\":");
			buf_put_json_time(out, since_us);
			buf_putc(out, '}');
			return;
		}
	}
	if (!w) {
		buf_puts(out, "null");
		return;
	}
	buf_puts(out, "{\"gid\":");
	buf_put_json_str(out, w->gtx->gid);
	buf_puts(out, ",\"branch\":");
	buf_put_json_str(out, w->gtx->spec.branch[w->branch].id);
	buf_putc(out, ',');
	put_time(n, "since", w->since_us, out);
	buf_putc(out, '}');
}

static void put_participant(const struct node *n, const struct peer_stat *p,
                            const struct pg_result *parked, int64_t now_us, struct buf *out)
{
	struct peer_summary s;

	peer_summarize(p, now_us, &s);
	buf_puts(out, "{\"participant\":");
	buf_put_json_str(out, p->label);
	buf_printf(out, ",\"health\":\"%s\",", peer_health_str(p, &s));
	put_calls(p, out);
	put_latency(&s, out);
	buf_printf(out, "\"errors_last_minute\":%llu,\"in_flight\":%zu,\"queued\":%zu,",
	           (unsigned long long)s.n_error_minute, p->n_active, p->n_queued);
	buf_printf(out, "\"parked\":%zu,\"waiting\":%zu,", park_count(n, p->label),
	           p->n_wait + park_count(n, p->label));
	put_oldest(n, p, parked, out);
	buf_puts(out, ",\"last_error\":");
	buf_put_json_str(out, p->last_error[0] ? p->last_error : NULL);
	buf_putc(out, ',');
	put_time(n, "last_error_at", p->last_error_us, out);
	buf_putc(out, ',');
	put_time(n, "last_success_at", p->last_success_us, out);
	buf_putc(out, '}');
}

static void on_parked(void *ctx, const struct pg_outcome *outcome)
{
	struct exchange *x = ctx;
	const struct pg_result *parked = outcome && !outcome->err ? outcome->result[0] : NULL;
	const struct node *n = x->node;
	int64_t now_us = clock_mono_us();
	struct peer_stat *p = NULL;
	struct buf body = BUF_INIT;
	size_t bucket = 0;
	bool more = false;

	buf_puts(&body, "{\"participants\":[");
	while ((p = peer_stats_next(&n->peers, &bucket, p))) {
		if (more)
			buf_putc(&body, ',');
		more = true;
		put_participant(n, p, parked, now_us, &body);
	}
	buf_puts(&body, "]}");
	exchange_json(x, 200, &body, NULL);
}

/* Without the database only the parked ones' ages are missing. */
void handle_participants(struct exchange *x)
{
	struct pg_batch *batch = x->node->park.n_parked ? pg_batch_begin(x->node->reader) : NULL;
	struct buf labels = BUF_INIT;

	if (!batch) {
		on_parked(x, NULL);
		return;
	}
	park_labels(x->node, &labels);
	pg_batch_add(batch, SQL_PARKED_OLDEST, &(struct pg_param){labels.data, labels.len});
	pg_batch_send(batch, on_parked, x);
	buf_release(&labels);
}
