#include "node/admission.h"

#include <stdarg.h>
#include <stdio.h>

#include "node/gtx.h"
#include "node/node.h"

/* So few are no overload, however long they wait. */
#define CROWD 256

void admission_init(struct admission *a)
{
	*a = (struct admission){0};
	list_init(&a->waiting);
}

int64_t admission_delay_us(const struct admission *a, int64_t now_us)
{
	if (list_empty(&a->waiting))
		return 0;
	return now_us - container_of(a->waiting.next, struct admission_mark, link)->since_us;
}

__attribute__((format(printf, 2, 3))) static int refuse(struct admission *a, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(a->why, sizeof a->why, fmt, ap);
	va_end(ap);
	a->n_refused++;
	return ERR_LIMIT;
}

static bool is_standing(const struct gtx *g, size_t n, int64_t age_us)
{
	return n > CROWD && age_us > g->node->config->overload_delay_ms * 1000;
}

/* Of the first call to a branch: a name that is gone is called nowhere, and has no queue. */
static bool has_standing_queue(const struct gtx *g, const struct branch_spec *b, int64_t now_us)
{
	const struct registry *registry = g->node->config->registry;
	const char *url = b->op_url[OP_PREPARE];
	const struct registry_entry *owner;
	int64_t since_us = now_us;
	size_t n;

	if (!url)
		url = registry_url(registry, b->participant);
	if (!url)
		return false;
	owner = registry_owner(registry, b->participant, url);
	n = http_client_waiting(g->node->client, owner ? owner->name : url, &since_us);
	return is_standing(g, n, now_us - since_us);
}

static int check_participants(struct admission *a, const struct gtx *g, int64_t now_us)
{
	const struct node *node = g->node;
	size_t share = (size_t)node->config->in_flight_max / 4;
	struct http_client_stats calls;

	http_client_stats(node->client, &calls);
	for (unsigned i = 0; i < g->spec.n_branch; i++) {
		const struct branch_spec *b = &g->spec.branch[i];

		if (calls.n_queued > CROWD && has_standing_queue(g, b, now_us))
			return refuse(a,
			              "more is submitted than the participant of branch %s "
			              "keeps up with; try again",
			              b->id);
		if (node->txns.n > share && peer_stats_waiting(&node->peers, node->config->registry,
		                                               b->participant) > share)
			return refuse(a,
			              "too many transactions wait for the participant of "
			              "branch %s; try again",
			              b->id);
	}
	return 0;
}

int admission_check_bytes(struct admission *a, const struct gtx *g, size_t more)
{
	if (a->n_byte + more > (size_t)g->node->config->memory_max)
		return refuse(a, "the transactions in flight take too much memory; try again");
	return 0;
}

int admission_check(struct admission *a, const struct gtx *g, int64_t now_us)
{
	int rc;

	if (g->node->txns.n >= (size_t)g->node->config->in_flight_max)
		return refuse(a, "too many transactions are in flight; try again");
	if (is_standing(g, a->n_waiting, admission_delay_us(a, now_us)))
		return refuse(a, "more is submitted than this node keeps up with; try again");
	rc = check_participants(a, g, now_us);
	return rc < 0 ? rc : admission_check_bytes(a, g, g->arena.used);
}

void admission_count(struct gtx *g)
{
	struct admission *a = &g->node->admission;

	a->n_byte += g->arena.used - g->admission.n_byte;
	g->admission.n_byte = g->arena.used;
}

void admission_put(struct gtx *g, int64_t now_us)
{
	struct admission *a = &g->node->admission;

	if (!list_empty(&g->admission.link))
		return;
	g->admission.since_us = now_us;
	list_push(&a->waiting, &g->admission.link);
	a->n_waiting++;
}

void admission_durable(struct gtx *g)
{
	if (list_empty(&g->admission.link))
		return;
	list_remove(&g->admission.link);
	g->node->admission.n_waiting--;
}

void admission_leave(struct gtx *g)
{
	admission_durable(g);
	g->node->admission.n_byte -= g->admission.n_byte;
}
