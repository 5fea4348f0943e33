#include "node/admission.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/json_scan.h"
#include "node/address.h"
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

size_t admission_room(const struct node *n, unsigned percent)
{
	size_t max = (size_t)n->config->in_flight_max * percent / 100;
	size_t bytes = (size_t)n->config->memory_max / 100 * percent;

	max = max ? max : 1;
	return n->txns.n < max && n->admission.n_byte < bytes ? max - n->txns.n : 0;
}

size_t admission_share(const struct node *n)
{
	return (size_t)n->config->in_flight_max / 4;
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

static bool is_standing(const struct node *node, size_t n, int64_t age_us)
{
	return n > CROWD && age_us > node->config->overload_delay_ms * 1000;
}

/* Of the first call to a branch: a name that is gone is called nowhere, and has no queue. `url` is
 * its own address for that call, or NULL. */
static bool has_standing_queue(const struct node *node, const char *participant, const char *url,
                               int64_t now_us)
{
	const struct registry *registry = node->config->registry;
	const struct registry_entry *owner;
	int64_t since_us = now_us;
	size_t n;

	if (!url)
		url = registry_url(registry, participant);
	if (!url)
		return false;
	owner = registry_owner(registry, participant, url);
	n = http_client_waiting(node->client, owner ? owner->name : url, &since_us);
	return is_standing(node, n, now_us - since_us);
}

static int check_participants(struct admission *a, const struct gtx *g, int64_t now_us)
{
	const struct node *node = g->node;
	size_t share = admission_share(node);
	enum txn_op first = txn_mode_first(g->spec.mode);
	struct http_client_stats calls;

	http_client_stats(node->client, &calls);
	for (unsigned i = 0; i < g->spec.n_branch; i++) {
		const struct branch_spec *b = &g->spec.branch[i];

		if (calls.n_queued > CROWD &&
		    has_standing_queue(node, b->participant, b->op_url[first], now_us))
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

static int check_node(struct admission *a, const struct node *node, int64_t now_us)
{
	if (node->txns.n >= (size_t)node->config->in_flight_max)
		return refuse(a, "too many transactions are in flight; try again");
	if (is_standing(node, a->n_waiting, admission_delay_us(a, now_us)))
		return refuse(a, "more is submitted than this node keeps up with; try again");
	return 0;
}

int admission_check(struct admission *a, const struct gtx *g, int64_t now_us)
{
	int rc = check_node(a, g->node, now_us);

	if (rc == 0)
		rc = check_participants(a, g, now_us);
	return rc < 0 ? rc : admission_check_bytes(a, g, g->arena.used);
}

/* A body that nobody has decoded. */
struct unread {
	const struct node *node;
	const char *text;
	int64_t now_us;
	bool standing;
	size_t at; /* of which branch */
};

static void look_at_participant(void *ctx, size_t index, struct json_span value)
{
	struct unread *u = ctx;
	char participant[ADDRESS_MAX];

	if (u->standing || value.len < 2 || value.len > sizeof participant ||
	    memchr(u->text + value.at, '\\', value.len))
		return;
	memcpy(participant, u->text + value.at + 1, value.len - 2); /* without its quotes */
	participant[value.len - 2] = '\0';
	u->standing = has_standing_queue(u->node, participant, NULL, u->now_us);
	u->at = index;
}

int admission_check_unread(struct admission *a, const struct node *node, const char *text,
                           size_t len, int64_t now_us)
{
	struct unread u = {.node = node, .text = text, .now_us = now_us};
	int rc = check_node(a, node, now_us);

	if (rc < 0)
		return rc;
	/* Only decoding says where the first call of a branch with addresses of its own goes. */
	if (memmem(text, len, "\"ops\"", 5) ||
	    json_scan_members(text, len,
	                      &(struct json_members){.array = "branches",
	                                             .name = "participant",
	                                             .found = look_at_participant,
	                                             .ctx = &u},
	                      NULL) < 0 ||
	    !u.standing)
		return 0;
	return refuse(a,
	              "more is submitted than the participant of branch %zu keeps up with; try "
	              "again",
	              u.at + 1);
}

bool admission_is_crowded(const struct admission *a, const struct node *node)
{
	struct http_client_stats calls;

	http_client_stats(node->client, &calls);
	return calls.n_queued > CROWD || a->n_waiting > CROWD ||
	       node->txns.n >= (size_t)node->config->in_flight_max;
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
