/*
 * peers.c - places and queues per peer.
 */
#include "io/peers.h"

#include <assert.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"

#define OVERTAKE_MAX 7

struct peer {
	struct map_node node; /* by key */
	struct list idle;     /* on peers.idle while it has no slots at all */
	struct list urgent;   /* queued slots, oldest first */
	struct list others;
	unsigned n_queued[2]; /* others, urgent */
	unsigned n_active[2];
	struct peer_share share;
	unsigned kept;   /* places for urgent slots only */
	unsigned n_over; /* urgent slots that overtook others since one of these had its turn */
	char key[];      /* a name or "scheme://host:port" */
};

int peers_init(struct peers *ps, const struct peer_limits *limits)
{
	*ps = (struct peers){.limits = *limits};
	list_init(&ps->idle);
	return map_init(&ps->map, 16);
}

void peers_release(struct peers *ps)
{
	struct map_node *node;
	size_t bucket = 0;

	if (ps->map.bucket == NULL)
		return;
	while ((node = map_next(&ps->map, &bucket, NULL)) != NULL) {
		map_remove(&ps->map, node);
		free(container_of(node, struct peer, node));
	}
	map_release(&ps->map);
}

/* Grouping only: what the URL means is for the library that calls it. */
static int key_of(const char *url, struct buf *key)
{
	const char *host = strstr(url, "://");
	const char *colon, *bracket;
	size_t len;

	if (host == NULL) {
		buf_puts(key, url);
		return key->failed || key->data == NULL ? ERR_NOMEM : 0;
	}
	host += 3;
	len = strcspn(host, "/?#");
	buf_append(key, url, (size_t)(host - url) + len);
	for (size_t i = 0; i < key->len; i++)
		key->data[i] = (char)tolower((unsigned char)key->data[i]);
	colon = memrchr(host, ':', len);
	bracket = memrchr(host, ']', len);
	if (colon == NULL || (bracket != NULL && bracket > colon))
		buf_puts(key, strncasecmp(url, "https:", 6) == 0 ? ":443" : ":80");
	return key->failed || key->data == NULL ? ERR_NOMEM : 0;
}

static int peer_new(struct peers *ps, const struct buf *key, struct peer **out)
{
	struct peer *p;

	if (ps->map.n >= ps->limits.peer) {
		struct list *longest = list_pop(&ps->idle);

		if (longest == NULL)
			return ERR_LIMIT;
		p = container_of(longest, struct peer, idle);
		map_remove(&ps->map, &p->node);
		free(p);
	}
	p = calloc(1, sizeof(*p) + key->len + 1);
	if (p == NULL)
		return ERR_NOMEM;
	memcpy(p->key, key->data, key->len + 1);
	list_init(&p->urgent);
	list_init(&p->others);
	list_push(&ps->idle, &p->idle);
	*out = p;
	return map_put(&ps->map, &p->node, p->key, key->len);
}

static struct map_node *peer_get(const struct peers *ps, const char *who, struct buf *key, int *err)
{
	*err = key_of(who, key);
	return *err == 0 ? map_get(&ps->map, key->data, key->len) : NULL;
}

static int peer_find(struct peers *ps, const char *who, struct peer **out)
{
	struct buf key = BUF_INIT;
	int err;
	struct map_node *node = peer_get(ps, who, &key, &err);

	if (node != NULL)
		*out = container_of(node, struct peer, node);
	else if (err == 0)
		err = peer_new(ps, &key, out);
	buf_release(&key);
	return err;
}

size_t peers_waiting(const struct peers *ps, const char *who, int64_t *since_us)
{
	struct buf key = BUF_INIT;
	int err;
	struct map_node *node = peer_get(ps, who, &key, &err);
	const struct peer *p = node != NULL ? container_of(node, struct peer, node) : NULL;

	buf_release(&key);
	if (p == NULL || list_empty(&p->others))
		return 0;
	*since_us = container_of(p->others.next, struct peer_slot, link)->since_us;
	return p->n_queued[false];
}

static void peer_set_share(const struct peers *ps, struct peer *p, const struct peer_share *share)
{
	p->share.place = share->place != 0 ? share->place : ps->limits.place;
	p->share.queue = share->queue != 0 ? share->queue : ps->limits.queue;
	p->kept = p->share.place < 4 ? 1 : p->share.place / 4;
}

static bool peer_has_place(const struct peer *p, bool urgent)
{
	if (p->n_active[true] + p->n_active[false] >= p->share.place)
		return false;
	return urgent || p->n_active[false] < p->share.place - p->kept;
}

int peers_enter(struct peers *ps, const char *who, const struct peer_share *share, bool urgent,
                struct peer_slot *slot)
{
	struct peer *p;
	int err = peer_find(ps, who, &p);

	if (err != 0)
		return err;
	peer_set_share(ps, p, share);
	if (p->n_queued[urgent] >= p->share.queue && !peer_has_place(p, urgent))
		return ERR_LIMIT;
	slot->peer = p;
	slot->urgent = urgent;
	slot->active = false;
	list_remove(&p->idle);
	list_push(urgent ? &p->urgent : &p->others, &slot->link);
	p->n_queued[urgent]++;
	ps->n_queued++;
	return 0;
}

/* A steady stream of urgent slots leaves the others one place in OVERTAKE_MAX + 1. */
static bool is_urgent_next(struct peer *p)
{
	if (list_empty(&p->urgent))
		return false;
	if (list_empty(&p->others) || !peer_has_place(p, false))
		return true;
	return p->n_over < OVERTAKE_MAX;
}

struct peer_slot *peers_next(struct peers *ps, struct peer *p)
{
	bool urgent = is_urgent_next(p);
	struct peer_slot *slot;
	struct list *e;

	if (!peer_has_place(p, urgent))
		return NULL;
	e = list_pop(urgent ? &p->urgent : &p->others);
	if (e == NULL)
		return NULL;
	p->n_over = urgent && !list_empty(&p->others) ? p->n_over + 1 : 0;
	slot = container_of(e, struct peer_slot, link);
	slot->active = true;
	p->n_queued[urgent]--;
	ps->n_queued--;
	p->n_active[urgent]++;
	ps->n_active++;
	return slot;
}

struct peer *peers_leave(struct peers *ps, struct peer_slot *slot)
{
	struct peer *p = slot->peer;

	if (p == NULL)
		return NULL;
	slot->peer = NULL;
	list_remove(&slot->link);
	if (slot->active) {
		p->n_active[slot->urgent]--;
		ps->n_active--;
	} else {
		p->n_queued[slot->urgent]--;
		ps->n_queued--;
	}
	if (p->n_active[true] + p->n_active[false] + p->n_queued[true] + p->n_queued[false] > 0)
		return p;
	list_push(&ps->idle, &p->idle);
	return NULL;
}
