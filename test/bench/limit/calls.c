#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "test/bench/limit/limit.h"

#define LINES      15
#define TIMEOUT_MS 10000L

struct call {
	struct txn *txn;
	CURL *easy;
	struct call *spare;
	unsigned branch;
	int64_t started_us;
	char line[LINES][112];
	struct curl_slist header[LINES];
};

static CURLM *multi;
static int64_t due_us = INT64_MAX;
static struct call *spare;

static void put_line(struct call *c, unsigned *n, const char *name, const char *value)
{
	size_t a = strlen(name), b = strlen(value);

	if (a + b >= sizeof c->line[0] || *n >= LINES)
		die("a header is too long");
	memcpy(c->line[*n], name, a);
	memcpy(c->line[*n] + a, value, b + 1);
	c->header[*n].data = c->line[*n];
	c->header[*n].next = NULL;
	if (*n > 0)
		c->header[*n - 1].next = &c->header[*n];
	++*n;
}

/* What participants need to finish without the coordinator. */
static void put_three_phase(struct call *c, unsigned *n)
{
	char peer[96];

	if (c->txn->phase == PHASE_COMMIT)
		return;
	put_line(c, n, "Assent-Hold-Ms: ", "20000");
	put_line(c, n, "Assent-On-Timeout: ", "commit");
	if (c->txn->phase == PHASE_PREPARE || limit.n_participant < 2)
		return;
	(void)snprintf(peer, sizeof peer, "b%u=%s/status", !c->branch,
	               limit.participant[!c->branch]);
	put_line(c, n, "Assent-Peers: ", peer);
}

static void put_headers(struct call *c, const char *op)
{
	char key[96], branch[] = {'b', (char)('0' + c->branch), '\0'};
	unsigned n = 0;

	(void)snprintf(key, sizeof key, "\"deadbeef/%s/%s/%s\"", c->txn->gid, branch, op);
	put_line(c, &n, "Content-Type: ", "application/json");
	put_line(c, &n, "Assent-Cluster: ", "deadbeef");
	put_line(c, &n, "Assent-Namespace: ", "default");
	put_line(c, &n, "Assent-Gid: ", c->txn->gid);
	put_line(c, &n, "Assent-Branch: ", branch);
	put_line(c, &n, "Assent-Op: ", op);
	put_line(c, &n, "Assent-Mode: ", limit.mode->name);
	put_line(c, &n, "Assent-Attempt: ", "1");
	put_line(c, &n, "Idempotency-Key: ", key);
	put_line(c, &n, "Assent-Deadline: ", "2026-01-01T00:00:00.000000Z");
	put_line(c, &n, "Assent-Timeout-Ms: ", "10000");
	if (limit.mode->middle)
		put_three_phase(c, &n);
	put_line(c, &n, "Expect:", "");
}

static size_t drop_body(char *data, size_t size, size_t n, void *ctx)
{
	(void)data;
	(void)ctx;
	return size * n;
}

static struct call *call_take(void)
{
	struct call *c = spare;

	if (c) {
		spare = c->spare;
		return c;
	}
	c = calloc(1, sizeof *c);
	if (!c || !(c->easy = curl_easy_init()))
		die("out of memory");
	curl_easy_setopt(c->easy, CURLOPT_PRIVATE, c);
	curl_easy_setopt(c->easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c->easy, CURLOPT_WRITEFUNCTION, drop_body);
	curl_easy_setopt(c->easy, CURLOPT_TIMEOUT_MS, TIMEOUT_MS);
	return c;
}

static void start(struct txn *t, unsigned branch, const char *op)
{
	struct call *c = call_take();
	char url[256];

	c->txn = t;
	c->branch = branch;
	c->started_us = clock_wall_us();
	put_headers(c, op);
	(void)snprintf(url, sizeof url, "%s/%s", limit.participant[branch], op);
	curl_easy_setopt(c->easy, CURLOPT_URL, url);
	curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, c->header);
	curl_easy_setopt(c->easy, CURLOPT_POSTFIELDSIZE, 7L);
	curl_easy_setopt(c->easy, CURLOPT_POSTFIELDS, "{\"n\":1}");
	if (curl_multi_add_handle(multi, c->easy) != CURLM_OK)
		die("a call cannot be started");
}

void calls_start(struct txn *t, const char *op)
{
	t->n_wait = limit.n_participant;
	for (unsigned i = 0; i < limit.n_participant && (i == 0 || limit.mode->second); i++)
		start(t, i, op);
}

static void done(struct call *c)
{
	struct txn *t = c->txn;

	flush_attempt(t, c->branch, c->started_us);
	c->spare = spare;
	spare = c;
	if (--t->n_wait > 0) {
		if (!limit.mode->second)
			start(t, limit.n_participant - t->n_wait, limit.mode->first);
		return;
	}
	if (t->phase == PHASE_PREPARE && limit.mode->middle)
		flush_enqueue(t, PHASE_AGREE);
	else if (t->phase != PHASE_COMMIT)
		flush_enqueue(t, PHASE_DECIDE);
	else
		txn_answer(t);
}

void calls_collect(void)
{
	CURLMsg *m;
	int left, running;

	if (due_us <= clock_mono_us()) {
		due_us = INT64_MAX;
		curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
	}
	while ((m = curl_multi_info_read(multi, &left))) {
		struct call *c;

		if (m->data.result != CURLE_OK)
			die(curl_easy_strerror(m->data.result));
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&c);
		curl_multi_remove_handle(multi, c->easy);
		done(c);
	}
}

void calls_ready(int fd, uint32_t events)
{
	int running, mask = 0;

	mask |= events & (EPOLLIN | EPOLLHUP | EPOLLERR) ? CURL_CSELECT_IN : 0;
	mask |= events & EPOLLOUT ? CURL_CSELECT_OUT : 0;
	curl_multi_socket_action(multi, fd, mask, &running);
}

int64_t calls_due_us(void)
{
	return due_us;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *known)
{
	uint32_t events = (what & CURL_POLL_IN ? (uint32_t)EPOLLIN : 0) |
	                  (what & CURL_POLL_OUT ? (uint32_t)EPOLLOUT : 0);

	(void)easy;
	(void)ctx;
	if (what == CURL_POLL_REMOVE) {
		watch(fd, EPOLL_CTL_DEL, 0);
		return 0;
	}
	watch(fd, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, events);
	curl_multi_assign(multi, fd, &limit);
	return 0;
}

static int on_timer(CURLM *m, long ms, void *ctx)
{
	(void)m;
	(void)ctx;
	due_us = ms < 0 ? INT64_MAX : clock_mono_us() + (int64_t)1000 * ms;
	return 0;
}

void calls_init(void)
{
	multi = curl_multi_init();
	if (!multi)
		die("out of memory");
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, 1024L);
}
