#include "node/census.h"

#include <assert.h>

#include "node/gtx.h"
#include "node/node.h"

_Static_assert((int)RATE_COMMITTED == (int)OUTCOME_COMMITTED &&
                   (int)RATE_MIXED == (int)OUTCOME_MIXED,
               "rates of ends are in the order of outcomes");

void census_init(struct census *c)
{
	heap_init(&c->age);
}

void census_release(struct census *c)
{
	heap_release(&c->age);
}

static void uncount(struct census *c, struct census_mark *m)
{
	if (m->state)
		c->n[m->mode][m->state]--;
	m->state = 0;
}

void census_leave(struct gtx *g)
{
	uncount(&g->node->census, &g->census);
	heap_remove(&g->node->census.age, &g->census.age);
}

void census_update(struct gtx *g)
{
	struct census *c = &g->node->census;
	struct census_mark *m = &g->census;

	assert((unsigned)g->txn.mode < CENSUS_MODE_MAX);
	uncount(c, m);
	m->mode = (uint8_t)g->txn.mode;
	m->state = (uint8_t)g->entry.durable.state;
	c->n[m->mode][m->state]++;
	if (m->state == TXN_ACTIVE || txn_ended((enum txn_state)m->state))
		heap_remove(&c->age, &m->age);
	/* Its age is what it was. Without memory it is not the oldest; it is counted all the same. */
	else if (!m->age.pos && heap_reserve(&c->age, c->age.n + 1) == 0)
		heap_set(&c->age, &m->age, g->created_us);
}

const struct gtx *census_oldest(const struct census *c)
{
	struct heap_node *n = heap_peek(&c->age);

	return n ? container_of(n, struct gtx, census.age) : NULL;
}

void census_count(struct census *c, enum census_rate what, int64_t now_us)
{
	int64_t number = now_us / 1000000;
	unsigned i = (unsigned)(number % CENSUS_SECONDS);

	if (c->second[i].number != number) {
		c->second[i].number = number;
		for (unsigned k = 0; k < RATE_MAX; k++)
			c->second[i].n[k] = 0;
	}
	c->second[i].n[what]++;
}

uint64_t census_last_minute(const struct census *c, enum census_rate what, int64_t now_us)
{
	int64_t number = now_us / 1000000;
	uint64_t sum = 0;

	for (unsigned i = 0; i < CENSUS_SECONDS; i++) {
		if (c->second[i].number + CENSUS_SECONDS > number)
			sum += c->second[i].n[what];
	}
	return sum;
}
