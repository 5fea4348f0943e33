#include "node/metrics.h"

#include "base/clock.h"
#include "core/verdict.h"
#include "io/http_client.h"
#include "node/node.h"

/* Upper bounds in microseconds; what is above the last falls into +Inf. */
static const int64_t bound_us[METRICS_BUCKETS - 1] = {
    1000,   2500,   5000,    10000,   25000,    50000,    100000,
    250000, 500000, 1000000, 2500000, 10000000, 60000000,
};

void metrics_count_end(struct metrics *m, enum txn_mode mode, enum txn_outcome outcome,
                       int64_t duration_us)
{
	unsigned i = 0;

	while (i < METRICS_BUCKETS - 1 && duration_us > bound_us[i])
		i++;
	m->duration_bucket[i]++;
	m->duration_sum_us += duration_us;
	m->ended[mode][outcome]++;
}

void metrics_count_call(struct metrics *m, enum event_type verdict)
{
	m->calls[verdict]++;
}

void metrics_count_request(struct metrics *m, int status)
{
	if (status >= 100 && status < 600)
		m->requests[status / 100]++;
}

static void head(struct buf *out, const char *name, const char *type, const char *help)
{
	buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void simple(struct buf *out, const char *name, const char *type, const char *help,
                   uint64_t value)
{
	head(out, name, type, help);
	buf_printf(out, "%s %llu\n", name, (unsigned long long)value);
}

static void render_ends(const struct metrics *m, struct buf *out)
{
	static const char *const total = "assent_transactions_ended_total";
	static const char *const by_mode = "assent_transactions_ended_by_mode_total";

	head(out, total, "counter", "Ended transactions by outcome.");
	for (int i = OUTCOME_COMMITTED; i < OUTCOME_MAX; i++) {
		uint64_t n = 0;

		for (int mode = 1; mode < MODE_MAX; mode++)
			n += m->ended[mode][i];
		buf_printf(out, "%s{outcome=\"%s\"} %llu\n", total,
		           txn_outcome_str((enum txn_outcome)i), (unsigned long long)n);
	}
	head(out, by_mode, "counter", "Ended transactions by mode and outcome.");
	for (int mode = 1; mode < MODE_MAX; mode++) {
		for (int i = OUTCOME_COMMITTED; i < OUTCOME_MAX; i++)
			buf_printf(out, "%s{mode=\"%s\",outcome=\"%s\"} %llu\n", by_mode,
			           txn_mode_str((enum txn_mode)mode),
			           txn_outcome_str((enum txn_outcome)i),
			           (unsigned long long)m->ended[mode][i]);
	}
}

static void render_durations(const struct metrics *m, struct buf *out)
{
	static const char *const name = "assent_transaction_duration_seconds";
	uint64_t sum = 0;

	head(out, name, "histogram", "From creation to end.");
	for (unsigned i = 0; i < METRICS_BUCKETS; i++) {
		sum += m->duration_bucket[i];
		if (i < METRICS_BUCKETS - 1)
			buf_printf(out, "%s_bucket{le=\"%g\"} %llu\n", name,
			           (double)bound_us[i] / 1e6, (unsigned long long)sum);
		else
			buf_printf(out, "%s_bucket{le=\"+Inf\"} %llu\n", name,
			           (unsigned long long)sum);
	}
	buf_printf(out, "%s_sum %.6f\n%s_count %llu\n", name, (double)m->duration_sum_us / 1e6,
	           name, (unsigned long long)sum);
}

static void render_journal(const struct node *node, struct buf *out)
{
	struct journal_stats s;

	journal_stats(node->journal, &s);
	simple(out, "assent_journal_flushes_total", "counter", "Group commits.", s.n_flush);
	simple(out, "assent_journal_records_total", "counter", "Transaction states written.",
	       s.n_record);
	simple(out, "assent_journal_history_rows_total", "counter", "Attempts written.",
	       s.n_history);
	simple(out, "assent_journal_history_dropped_total", "counter",
	       "Attempts that were not written: too many waited, or the database refused them.",
	       s.n_history_dropped);
	simple(out, "assent_journal_splits_total", "counter",
	       "Flushes that the database refused for one row's data.", s.n_split);
	head(out, "assent_journal_flush_seconds_total", "counter",
	     "Time spent waiting for commits.");
	buf_printf(out, "assent_journal_flush_seconds_total %.6f\n", (double)s.flush_us / 1e6);
}

static void render_participants(const struct node *node, struct buf *out)
{
	struct http_client_stats s;

	http_client_stats(node->client, &s);
	simple(out, "assent_participant_calls_in_flight", "gauge", "Calls under way.", s.n_active);
	simple(out, "assent_participant_calls_queued", "gauge", "Calls waiting for a place.",
	       s.n_queued);
	head(out, "assent_participant_calls_total", "counter", "Finished calls by verdict.");
	for (int i = EV_YES; i < EV_TYPE_MAX; i++)
		if (event_is_reply((enum event_type)i))
			buf_printf(out, "assent_participant_calls_total{verdict=\"%s\"} %llu\n",
			           verdict_str((enum event_type)i),
			           (unsigned long long)node->metrics.calls[i]);
	simple(out, "assent_participant_heuristics_total", "counter",
	       "Answers of participants that had ended a branch by themselves.",
	       node->metrics.heuristic);
}

/* Configured names only; plain addresses, which clients choose, are "other" together. */
static void render_named(const struct node *node, struct buf *out)
{
	const char *const calls = "assent_named_participant_calls_total";
	const char *const waiting = "assent_named_participant_branches_waiting";
	uint64_t other[EV_TYPE_MAX] = {0};
	struct buf gauge = BUF_INIT;
	struct peer_stat *p = NULL;
	size_t bucket = 0, other_waiting = 0;

	head(out, calls, "counter", "Finished calls by configured participant and verdict.");
	while ((p = peer_stats_next(&node->peers, &bucket, p))) {
		bool named = peer_is_named(p) && p != node->peers.other;

		for (int i = EV_YES; i < EV_TYPE_MAX; i++) {
			other[i] += named ? 0 : p->verdict[i];
			if (named && p->verdict[i])
				buf_printf(out, "%s{participant=\"%s\",verdict=\"%s\"} %llu\n",
				           calls, p->label, verdict_str((enum event_type)i),
				           (unsigned long long)p->verdict[i]);
		}
		other_waiting += named ? 0 : p->n_wait;
		if (named)
			buf_printf(&gauge, "%s{participant=\"%s\"} %zu\n", waiting, p->label,
			           p->n_wait);
	}
	for (int i = EV_YES; i < EV_TYPE_MAX; i++)
		if (other[i])
			buf_printf(out, "%s{participant=\"other\",verdict=\"%s\"} %llu\n", calls,
			           verdict_str((enum event_type)i), (unsigned long long)other[i]);
	head(out, waiting, "gauge", "Branches whose newest call is not settled.");
	if (gauge.len)
		buf_append(out, gauge.data, gauge.len);
	buf_printf(out, "%s{participant=\"other\"} %zu\n", waiting, other_waiting);
	out->failed |= gauge.failed;
	buf_release(&gauge);
}

void metrics_render(const struct node *node, size_t n_request, struct buf *out)
{
	const struct metrics *m = &node->metrics;

	simple(out, "assent_transactions_submitted_total", "counter", "Transactions taken on.",
	       m->submitted);
	simple(out, "assent_transactions_in_flight", "gauge", "Transactions in memory.",
	       node->txns.n);
	simple(out, "assent_transactions_bytes", "gauge", "What transactions in memory take.",
	       node->admission.n_byte);
	simple(out, "assent_submissions_refused_total", "counter",
	       "Submissions refused because there was too much of something.",
	       node->admission.n_refused);
	head(out, "assent_journal_delay_seconds", "gauge",
	     "Age of the oldest state that somebody waits for and that is not stored.");
	buf_printf(out, "assent_journal_delay_seconds %.6f\n",
	           (double)admission_delay_us(&node->admission, clock_mono_us()) / 1e6);
	simple(out, "assent_transactions_parked", "gauge",
	       "Transactions set aside on disk until a participant answers again.",
	       node->park.n_parked);
	simple(out, "assent_transactions_parked_total", "counter", "Times one was set aside.",
	       node->park.n_put);
	simple(out, "assent_transactions_taken_back_total", "counter",
	       "Times one was taken back to be called again.", node->park.n_taken);
	render_ends(m, out);
	render_durations(m, out);
	render_participants(node, out);
	render_named(node, out);
	render_journal(node, out);
	head(out, "assent_alerts_raised_total", "counter", "Alerts by kind.");
	for (int i = 0; i <= ALERT_HEURISTIC; i++)
		buf_printf(out, "assent_alerts_raised_total{kind=\"%s\"} %llu\n",
		           alert_kind_str((enum alert_kind)i), (unsigned long long)m->alerts[i]);
	head(out, "assent_alerts_open", "gauge", "Open alerts by kind.");
	for (int i = 0; i < ALERT_KIND_MAX; i++)
		buf_printf(out, "assent_alerts_open{kind=\"%s\"} %llu\n",
		           alert_kind_str((enum alert_kind)i),
		           (unsigned long long)node->alerts_open[i]);
	head(out, "assent_http_requests_total", "counter", "Answered requests by status class.");
	for (int i = 1; i < 6; i++)
		buf_printf(out, "assent_http_requests_total{status=\"%dxx\"} %llu\n", i,
		           (unsigned long long)m->requests[i]);
	simple(out, "assent_http_requests_open", "gauge",
	       "Requests not answered yet, the one for this page among them.", n_request);
	simple(out, "assent_purged_transactions_total", "counter",
	       "Ended transactions that were older than retention_ms.",
	       node->retention.n_transaction);
	simple(out, "assent_purged_history_days_total", "counter",
	       "Days of history that were older than retention_ms.", node->retention.n_day);
	simple(out, "assent_ready", "gauge", "1 while this node owns its shards and serves.",
	       node_ready(node));
	simple(out, "assent_takeovers_total", "counter", "Times the shards were taken.",
	       m->takeovers);
}
