/*
 * peer_stats.h - what is known about each participant: calls by verdict, how long they took lately,
 * what went wrong last, and who has been waiting for it longest.
 *
 * In memory only and bounded: PEER_STATS_MAX participants, then those that nobody waits for make
 * room, the longest unused first; when there are none, further ones are counted as "other".
 *
 * A call: peer_call_asked, peer_call_started unless it never left the queue, and peer_call_done or
 * peer_call_dropped. A branch waits from its first call until an answer that settles the call,
 * retries included; peer_wait_end is for both that answer and the end of the transaction.
 */
#ifndef NODE_PEER_STATS_H
#define NODE_PEER_STATS_H

#include "base/list.h"
#include "base/map.h"
#include "core/step.h"
#include "node/registry.h"

#define PEER_LABEL_MAX   300
#define PEER_STATS_MAX   256
#define PEER_SLOT_US     INT64_C(10000000)
#define PEER_SLOTS       30 /* five minutes of latencies */
#define PEER_SLOTS_SHORT 6  /* a minute of errors */
#define PEER_BUCKETS     44 /* each sqrt(2) times the one before: 0.1 ms to 5 minutes */

struct gtx;

struct peer_slot_stats {
	int64_t number; /* of the slot in time; another one: out of date */
	uint64_t sum_us;
	uint32_t n;
	uint32_t n_error;
	uint32_t bucket[PEER_BUCKETS];
};

struct peer_stat {
	struct map_node node;
	struct list waits; /* struct peer_wait, the longest first */
	size_t n_wait;
	size_t n_queued;
	size_t n_active;
	uint64_t verdict[EV_TYPE_MAX];
	struct peer_slot_stats slot[PEER_SLOTS];
	/* Of calls for what is decided: */
	size_t n_decided; /* queued or active */
	unsigned n_hung;  /* that were not answered in time, in a row */
	int64_t used_us;  /* monotonic */
	int64_t last_error_us;
	int64_t last_success_us;
	char last_error[96];
	char label[PEER_LABEL_MAX];
};

struct peer_stats {
	struct map map;
	struct peer_stat *other;
};

struct peer_wait {
	struct list link;
	struct peer_stat *peer;
	const struct gtx *gtx;
	unsigned branch;
	int64_t since_us; /* monotonic */
};

/* What a participant is called in figures and alerts: its configured name, or of an address that
 * has none the scheme, host and port. `url` is where the call goes; NULL: the participant's own. */
void peer_label(const struct registry *r, const char *participant, const char *url, char *label,
                size_t size);
/* It is a configured name. */
bool peer_is_named(const struct peer_stat *p);

int peer_stats_init(struct peer_stats *ps) MUSTCHECK;
void peer_stats_release(struct peer_stats *ps);
/* Never NULL; the caller may keep it as long as it has a call or a wait there. */
struct peer_stat *peer_stats_find(struct peer_stats *ps, const char *label, int64_t now_us);
/* How many branches wait for it. */
size_t peer_stats_waiting(const struct peer_stats *ps, const struct registry *r,
                          const char *participant);
/* At least `most` calls for what is decided wait there, and it is not known to answer them within a
 * second, `at_a_time`. */
bool peer_stats_is_full(const struct peer_stats *ps, const struct registry *r,
                        const char *participant, size_t most, unsigned at_a_time);
/* Start: *bucket = 0, `p` NULL; NULL at the end. The last is "other", if it was ever used. */
struct peer_stat *peer_stats_next(const struct peer_stats *ps, size_t *bucket, struct peer_stat *p);

void peer_call_asked(struct peer_stat *p);
void peer_call_started(struct peer_stat *p);
/* Times are monotonic; `took_us` negative for a call that never left the queue. `error` is "" for
 * an answer that was one. */
void peer_call_done(struct peer_stat *p, enum event_type verdict, int64_t took_us,
                    const char *error, int64_t now_us);
void peer_call_dropped(struct peer_stat *p, bool started);

/* *wait NULL: it begins to. Without memory nobody is seen waiting. */
void peer_wait_begin(struct peer_stat *p, struct peer_wait **wait, const struct gtx *g,
                     unsigned branch, int64_t now_us);
void peer_wait_end(struct peer_wait **wait);
/* NULL when nobody waits. */
const struct peer_wait *peer_longest_wait(const struct peer_stat *p);

struct peer_summary {
	uint64_t n;
	int64_t mean_us;
	int64_t p50_us, p95_us, p99_us;
	uint64_t n_error_minute;
};
void peer_summarize(const struct peer_stat *p, int64_t now_us, struct peer_summary *out);
/* "ok", "unsteady" (errors in the last minute) or "failing" (and nothing but errors since). */
const char *peer_health_str(const struct peer_stat *p, const struct peer_summary *s);

#endif /* NODE_PEER_STATS_H */
