#include "node/peer_stats.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

void peer_label(const struct registry *r, const char *participant, const char *url, char *label,
                size_t size)
{
	const struct registry_entry *owner;
	const char *host;
	size_t len;

	if (!url)
		url = registry_url(r, participant);
	owner = url ? registry_owner(r, participant, url) : NULL;
	if (owner || !url)
		url = owner ? owner->name : participant; /* a name that is gone is one still */
	len = strlen(url);
	host = strstr(url, "://");
	if (host)
		len = (size_t)(host - url) + 3 + strcspn(host + 3, "/?#");
	if (len >= size)
		len = size - 1;
	memcpy(label, url, len);
	label[len] = '\0';
	for (char *c = label; host && *c; c++)
		*c = (char)tolower((unsigned char)*c);
}

bool peer_is_named(const struct peer_stat *p)
{
	return !strstr(p->label, "://");
}

static struct peer_stat *stat_new(const char *label)
{
	struct peer_stat *p = calloc(1, sizeof *p);

	if (!p)
		return NULL;
	list_init(&p->waits);
	(void)snprintf(p->label, sizeof p->label, "%s", label);
	return p;
}

int peer_stats_init(struct peer_stats *ps)
{
	ps->other = stat_new("other");
	if (!ps->other)
		return ERR_NOMEM;
	return map_init(&ps->map, PEER_STATS_MAX);
}

void peer_stats_release(struct peer_stats *ps)
{
	struct map_node *n = NULL;
	size_t bucket = 0;

	while (ps->map.bucket && (n = map_next(&ps->map, &bucket, NULL))) {
		map_remove(&ps->map, n);
		free(container_of(n, struct peer_stat, node));
	}
	map_release(&ps->map);
	free(ps->other);
}

/* Configured names stay: there are few, and their figures are watched. */
static struct peer_stat *longest_unused(const struct peer_stats *ps)
{
	struct peer_stat *oldest = NULL;
	struct map_node *n = NULL;
	size_t bucket = 0;

	while ((n = map_next(&ps->map, &bucket, n))) {
		struct peer_stat *p = container_of(n, struct peer_stat, node);

		if (p->n_wait || p->n_active || p->n_queued || peer_is_named(p))
			continue;
		if (!oldest || p->used_us < oldest->used_us)
			oldest = p;
	}
	return oldest;
}

static struct peer_stat *add(struct peer_stats *ps, const char *label)
{
	struct peer_stat *p;

	if (ps->map.n >= PEER_STATS_MAX) {
		p = longest_unused(ps);
		if (!p)
			return ps->other;
		map_remove(&ps->map, &p->node);
		free(p);
	}
	p = stat_new(label);
	if (!p)
		return ps->other;
	if (map_put(&ps->map, &p->node, p->label, strlen(p->label)) < 0) {
		free(p);
		return ps->other;
	}
	return p;
}

struct peer_stat *peer_stats_find(struct peer_stats *ps, const char *label, int64_t now_us)
{
	struct map_node *n = map_get(&ps->map, label, strlen(label));
	struct peer_stat *p = n ? container_of(n, struct peer_stat, node) : add(ps, label);

	p->used_us = now_us;
	return p;
}

static const struct peer_stat *known(const struct peer_stats *ps, const struct registry *r,
                                     const char *participant)
{
	char label[PEER_LABEL_MAX];
	struct map_node *n;

	peer_label(r, participant, NULL, label, sizeof label);
	n = map_get(&ps->map, label, strlen(label));
	return n ? container_of(n, struct peer_stat, node) : NULL;
}

size_t peer_stats_waiting(const struct peer_stats *ps, const struct registry *r,
                          const char *participant)
{
	const struct peer_stat *p = known(ps, r, participant);

	return p ? p->n_wait : 0;
}

bool peer_stats_is_full(const struct peer_stats *ps, const struct registry *r,
                        const char *participant, size_t most, unsigned at_a_time)
{
	const struct peer_stat *p = known(ps, r, participant);
	struct peer_summary s;

	if (!p || p->n_decided < most)
		return false;
	peer_summarize(p, clock_mono_us(), &s);
	return s.n == 0 || (int64_t)p->n_decided * s.mean_us / at_a_time > 1000000;
}

struct peer_stat *peer_stats_next(const struct peer_stats *ps, size_t *bucket, struct peer_stat *p)
{
	struct map_node *n;

	if (p == ps->other)
		return NULL;
	n = map_next(&ps->map, bucket, p ? &p->node : NULL);
	if (n)
		return container_of(n, struct peer_stat, node);
	return ps->other->used_us ? ps->other : NULL;
}

void peer_call_asked(struct peer_stat *p)
{
	p->n_queued++;
}

void peer_call_started(struct peer_stat *p)
{
	p->n_queued--;
	p->n_active++;
}

void peer_call_dropped(struct peer_stat *p, bool started)
{
	if (started)
		p->n_active--;
	else
		p->n_queued--;
}

/* Bounds grow by a factor of sqrt(2), from 0.1 ms. */
static int64_t bound_us(unsigned bucket)
{
	int64_t us = INT64_C(100) << (bucket / 2);

	return bucket % 2 ? us * 1414 / 1000 : us;
}

static unsigned bucket_of(int64_t us)
{
	unsigned i = 0;

	while (i < PEER_BUCKETS - 1 && us > bound_us(i))
		i++;
	return i;
}

static struct peer_slot_stats *slot_at(struct peer_stat *p, int64_t now_us)
{
	int64_t number = now_us / PEER_SLOT_US;
	struct peer_slot_stats *s = &p->slot[number % PEER_SLOTS];

	if (s->number != number)
		*s = (struct peer_slot_stats){.number = number};
	return s;
}

void peer_call_done(struct peer_stat *p, enum event_type verdict, int64_t took_us,
                    const char *error, int64_t now_us)
{
	struct peer_slot_stats *s = slot_at(p, now_us);

	peer_call_dropped(p, took_us >= 0);
	p->verdict[verdict]++;
	if (took_us >= 0) {
		s->n++;
		s->sum_us += (uint64_t)took_us;
		s->bucket[bucket_of(took_us)]++;
	}
	if (verdict == EV_UNKNOWN || verdict == EV_CONTRACT) {
		s->n_error++;
		p->last_error_us = now_us;
		(void)snprintf(p->last_error, sizeof p->last_error, "%s", error);
	} else {
		p->last_success_us = now_us;
	}
}

void peer_wait_begin(struct peer_stat *p, struct peer_wait **wait, const struct gtx *g,
                     unsigned branch, int64_t now_us)
{
	struct peer_wait *w;

	if (*wait)
		return;
	w = calloc(1, sizeof *w);
	if (!w)
		return;
	w->peer = p;
	w->gtx = g;
	w->branch = branch;
	w->since_us = now_us;
	list_push(&p->waits, &w->link);
	p->n_wait++;
	*wait = w;
}

void peer_wait_end(struct peer_wait **wait)
{
	struct peer_wait *w = *wait;

	if (!w)
		return;
	list_remove(&w->link);
	w->peer->n_wait--;
	free(w);
	*wait = NULL;
}

const struct peer_wait *peer_longest_wait(const struct peer_stat *p)
{
	return list_empty(&p->waits) ? NULL : container_of(p->waits.next, struct peer_wait, link);
}

/* The upper bound of the bucket in which the share `percent` of the calls is reached. */
static int64_t percentile_us(const uint64_t *bucket, uint64_t n, unsigned percent)
{
	uint64_t rank = (n * percent + 99) / 100, sum = 0;

	for (unsigned i = 0; n && i < PEER_BUCKETS; i++) {
		sum += bucket[i];
		if (sum >= rank)
			return bound_us(i);
	}
	return 0;
}

void peer_summarize(const struct peer_stat *p, int64_t now_us, struct peer_summary *out)
{
	int64_t number = now_us / PEER_SLOT_US;
	uint64_t bucket[PEER_BUCKETS] = {0}, sum_us = 0;

	*out = (struct peer_summary){0};
	for (unsigned i = 0; i < PEER_SLOTS; i++) {
		const struct peer_slot_stats *s = &p->slot[i];

		if (s->number + PEER_SLOTS <= number)
			continue;
		if (s->number + PEER_SLOTS_SHORT > number)
			out->n_error_minute += s->n_error;
		out->n += s->n;
		sum_us += s->sum_us;
		for (unsigned k = 0; k < PEER_BUCKETS; k++)
			bucket[k] += s->bucket[k];
	}
	out->mean_us = out->n ? (int64_t)(sum_us / out->n) : 0;
	out->p50_us = percentile_us(bucket, out->n, 50);
	out->p95_us = percentile_us(bucket, out->n, 95);
	out->p99_us = percentile_us(bucket, out->n, 99);
}

const char *peer_health_str(const struct peer_stat *p, const struct peer_summary *s)
{
	if (s->n_error_minute == 0)
		return "ok";
	return p->last_error_us > p->last_success_us ? "failing" : "unsteady";
}
