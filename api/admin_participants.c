/*
 * admin_participants.c - how each participant does, as this node sees it.
 */
#include "api/handlers.h"
#include "base/clock.h"
#include "core/verdict.h"
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

static void put_oldest(const struct node *n, const struct peer_stat *p, struct buf *out)
{
	const struct peer_wait *w = peer_longest_wait(p);

	buf_puts(out, "\"oldest_waiting\":");
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

static void put_participant(const struct node *n, const struct peer_stat *p, int64_t now_us,
                            struct buf *out)
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
	buf_printf(out, "\"waiting\":%zu,", p->n_wait);
	put_oldest(n, p, out);
	buf_puts(out, ",\"last_error\":");
	buf_put_json_str(out, p->last_error[0] ? p->last_error : NULL);
	buf_putc(out, ',');
	put_time(n, "last_error_at", p->last_error_us, out);
	buf_putc(out, ',');
	put_time(n, "last_success_at", p->last_success_us, out);
	buf_putc(out, '}');
}

void handle_participants(struct exchange *x)
{
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
		put_participant(n, p, now_us, &body);
	}
	buf_puts(&body, "]}");
	exchange_json(x, 200, &body, NULL);
}
