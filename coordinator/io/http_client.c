/*
 * http_client.c - calls to peers: queues, deadlines, and results.
 *
 * A call waits in its peer's queue, is under way (transfer.h), or is done. Only deliver_run
 * runs callbacks, from the loop and on its own, so that a callback may start and cancel any
 * call, or free the client. One heap holds the deadlines of all calls that are not done.
 */
#include "io/http_client.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/heap.h"
#include "base/list.h"
#include "io/peers.h"
#include "io/transfer.h"

#define CONNECTION_MAX 1024
#define TIMEOUT_MAX_US ((int64_t)24 * 3600 * 1000000)

struct http_call {
	struct http_client *client;
	struct peer_slot slot; /* on a peer until it is done */
	struct list link;      /* then on the client's list */
	struct heap_node deadline;
	int64_t timeout_us, until_us; /* as in the spec */
	struct transfer *transfer;    /* while it is active */
	int (*fill)(void *ctx, const char *url, struct http_content *out);
	http_result_fn *fn;
	void *ctx;
	struct http_result result;
	char url[];
};

struct http_client {
	struct transfers *transfers;
	struct loop_timer *deadline_timer;
	struct loop_timer *deliver_timer;
	struct peers peers;
	struct list done;
	struct heap deadlines;
	size_t n_call;
	bool delivering;
	bool freed; /* inside a callback; the memory goes when it has returned */
};

/* Takes the call off whatever it is on; the analyzer, which does not follow heaps and lists, thinks
 * that they go on handing it out. */
static void call_free(struct http_call *call)
{
	struct http_client *c = call->client; /* NOLINT(clang-analyzer-unix.Malloc) */

	heap_remove(&c->deadlines, &call->deadline);
	peers_leave(&c->peers, &call->slot);
	list_remove(&call->link);
	transfer_free(call->transfer);
	free(call);
	c->n_call--;
}

static void call_done(struct http_call *call, int err)
{
	struct http_client *c = call->client;

	heap_remove(&c->deadlines, &call->deadline);
	call->result.err = err;
	if (err != 0 && call->result.why == NULL)
		call->result.why = err_str(err);
	call->result.ended_us = clock_mono_us();
	list_push(&c->done, &call->link);
	loop_timer_set(c->deliver_timer, 0);
}

static void deadlines_arm(struct http_client *c)
{
	struct heap_node *first = heap_peek(&c->deadlines);

	loop_timer_set(c->deadline_timer, first == NULL ? INT64_MAX : first->key);
}

/* It leaves the queue: its time begins. */
static void deadline_begin(struct http_call *call, int64_t now_us)
{
	struct http_client *c = call->client;

	if (call->until_us == 0 || call->until_us - now_us <= call->timeout_us)
		return;
	heap_set(&c->deadlines, &call->deadline, now_us + call->timeout_us);
	if (heap_peek(&c->deadlines) == &call->deadline)
		deadlines_arm(c);
}

/* Headers come from clients; a line break in one would be a header of their making. */
static bool headers_sane(const struct http_content *content)
{
	for (size_t i = 0; i < content->n_header; i++)
		if (strchr(content->header[i], '\r') != NULL ||
		    strchr(content->header[i], '\n') != NULL)
			return false;
	return true;
}

static int call_start(struct http_call *call)
{
	struct http_content content = {0};
	int err = call->fill(call->ctx, call->url, &content);

	if (err != 0)
		return err;
	if (!headers_sane(&content))
		return ERR_IO;
	call->transfer = transfer_new(call->client->transfers, &(struct transfer_spec){
	                                                           .owner = call,
	                                                           .url = call->url,
	                                                           .header = content.header,
	                                                           .n_header = content.n_header,
	                                                           .body = content.body,
	                                                           .len = content.len,
	                                                       });
	if (call->transfer == NULL)
		return ERR_NOMEM;
	call->result.started_us = clock_mono_us();
	deadline_begin(call, call->result.started_us);
	return transfer_start(call->transfer);
}

/* Fills the peer's places. A call that cannot start gives its place back. */
static void peer_pump(struct http_client *c, struct peer *p)
{
	while (p != NULL) {
		struct peer_slot *slot = peers_next(&c->peers, p);
		struct http_call *call;
		int err;

		if (slot == NULL)
			return;
		call = container_of(slot, struct http_call, slot);
		err = call_start(call);
		if (err == 0)
			continue;
		p = peers_leave(&c->peers, slot);
		call_done(call, err);
	}
}

static void call_end(struct http_call *call, int err)
{
	struct http_client *c = call->client;
	struct peer *p = peers_leave(&c->peers, &call->slot);

	call_done(call, err);
	peer_pump(c, p);
}

/* --- what the loop calls --- */

static void transfer_ended(void *owner, int err, const struct transfer_answer *answer)
{
	struct http_call *call = owner;

	call->result.why = answer->why;
	call->result.status = answer->status;
	call->result.truncated = answer->truncated;
	call->result.retry_after_us = answer->retry_after_us;
	call_end(call, err);
}

static void deadlines_run(void *ctx)
{
	struct http_client *c = ctx;
	int64_t now = clock_mono_us();
	struct heap_node *first;

	while ((first = heap_peek(&c->deadlines)) != NULL && first->key <= now) {
		struct http_call *call = container_of(first, struct http_call, deadline);

		call->result.why = call->slot.active
		                       ? transfer_timeout_str(call->transfer)
		                       : "timed out: all calls at a time that it may have were "
		                         "under way";
		/* What is under way is dropped now, before its place is given away. */
		transfer_free(call->transfer);
		call->transfer = NULL;
		call_end(call, ERR_TIMEOUT);
	}
	deadlines_arm(c);
}

static void call_deliver(struct http_call *call)
{
	http_result_fn *fn = call->fn; /* NOLINT(clang-analyzer-unix.Malloc): see call_free */
	void *ctx = call->ctx;
	struct http_result result = call->result;
	struct buf in = BUF_INIT;

	if (call->transfer != NULL && result.err == 0)
		in = transfer_take_body(call->transfer);
	call_free(call);
	result.body = in.data != NULL ? in.data : "";
	result.len = in.len;
	fn(ctx, &result);
	buf_release(&in);
}

static void client_destroy(struct http_client *c);

static void deliver_run(void *ctx)
{
	struct http_client *c = ctx;

	c->delivering = true;
	while (!c->freed && !list_empty(&c->done))
		call_deliver(container_of(c->done.next, struct http_call, link));
	c->delivering = false;
	if (c->freed)
		client_destroy(c);
}

/* --- calls --- */

static struct http_call *call_new(struct http_client *c, const struct http_call_spec *spec)
{
	size_t size = strlen(spec->url) + 1;
	struct http_call *call;

	if (heap_reserve(&c->deadlines, c->n_call + 1) != 0)
		return NULL;
	call = calloc(1, sizeof(*call) + size);
	if (call == NULL)
		return NULL;
	memcpy(call->url, spec->url, size);
	c->n_call++;
	call->client = c;
	list_init(&call->link);
	list_init(&call->slot.link);
	call->fill = spec->fill;
	call->fn = spec->fn;
	call->ctx = spec->ctx;
	return call;
}

struct http_call *http_client_call(struct http_client *c, const struct http_call_spec *spec)
{
	struct http_call *call = call_new(c, spec);
	struct peer_share share = {.place = spec->concurrency, .queue = spec->queue_max};
	int64_t timeout_us = spec->timeout_us, now_us = clock_mono_us();
	int err;

	if (call == NULL)
		return NULL;
	call->slot.since_us = now_us;
	err = ERR_INVALID;
	if (spec->peer != NULL || strstr(spec->url, "://") != NULL)
		err = peers_enter(&c->peers, spec->peer != NULL ? spec->peer : spec->url, &share,
		                  spec->urgent, &call->slot);
	if (err != 0) {
		if (err == ERR_LIMIT)
			call->result.why = "too many calls wait for it already";
		call_done(call, err == ERR_INVALID ? ERR_IO : err);
		return call;
	}
	if (timeout_us > TIMEOUT_MAX_US)
		timeout_us = TIMEOUT_MAX_US;
	call->timeout_us = timeout_us;
	call->until_us = spec->until_us;
	heap_set(&c->deadlines, &call->deadline,
	         spec->until_us ? spec->until_us : now_us + timeout_us);
	peer_pump(c, call->slot.peer);
	deadlines_arm(c);
	return call;
}

void http_call_cancel(struct http_call *call)
{
	struct http_client *c = call->client;
	struct peer *p = peers_leave(&c->peers, &call->slot);

	call_free(call);
	peer_pump(c, p);
}

/* --- the client --- */

/* When every peer's calls are under way at once, each keeps its connection. */
static long connection_max(const struct http_client_config *config)
{
	unsigned long n = (unsigned long)config->concurrency * config->peer_max;

	if (n > CONNECTION_MAX)
		n = CONNECTION_MAX;
	return (long)(n > config->concurrency ? n : config->concurrency);
}

static int client_init(struct http_client *c, struct loop *l,
                       const struct http_client_config *config)
{
	struct peer_limits limits = {
	    .place = config->concurrency,
	    .queue = config->queue_max,
	    .peer = config->peer_max,
	};
	int err = peers_init(&c->peers, &limits);

	if (err == 0)
		err = transfers_new(l, connection_max(config), HTTP_REPLY_MAX, transfer_ended,
		                    &c->transfers);
	if (err != 0)
		return err;
	c->deadline_timer = loop_timer_new(l, deadlines_run, c);
	c->deliver_timer = loop_timer_new(l, deliver_run, c);
	return c->deadline_timer != NULL && c->deliver_timer != NULL ? 0 : ERR_NOMEM;
}

int http_client_new(struct loop *l, const struct http_client_config *config,
                    struct http_client **out)
{
	struct http_client *c;
	int err;

	if (config->concurrency < 2 || config->peer_max == 0)
		return ERR_INVALID;
	c = calloc(1, sizeof(*c));
	if (c == NULL)
		return ERR_NOMEM;
	list_init(&c->done);
	heap_init(&c->deadlines);
	err = client_init(c, l, config);
	if (err != 0) {
		client_destroy(c);
		return err;
	}
	*out = c;
	return 0;
}

static void client_destroy(struct http_client *c)
{
	assert(c->n_call == 0);
	transfers_free(c->transfers);
	peers_release(&c->peers);
	heap_release(&c->deadlines);
	loop_timer_free(c->deadline_timer);
	loop_timer_free(c->deliver_timer);
	free(c);
}

void http_client_free(struct http_client *c)
{
	struct heap_node *first;

	if (c == NULL)
		return;
	assert(!c->freed);
	while ((first = heap_peek(&c->deadlines)) != NULL)
		call_free(container_of(first, struct http_call, deadline));
	while (!list_empty(&c->done))
		call_free(container_of(c->done.next, struct http_call, link));
	c->freed = true;
	if (!c->delivering)
		client_destroy(c);
}

size_t http_client_waiting(const struct http_client *c, const char *peer, int64_t *since_us)
{
	return peers_waiting(&c->peers, peer, since_us);
}

void http_client_stats(const struct http_client *c, struct http_client_stats *out)
{
	out->n_peer = c->peers.map.n;
	out->n_active = c->peers.n_active;
	out->n_queued = c->peers.n_queued;
}
