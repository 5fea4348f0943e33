/*
 * transfer.c - HTTP exchanges, over libcurl's multi interface inside our loop.
 *
 * curl repeats a request by itself when a kept connection turns out to have been closed before
 * the first byte of an answer: participants are idempotent anyway.
 */
#include "io/transfer.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/log.h"

#define EASY_SPARE_MAX  64
#define RETRY_AFTER_MAX (24L * 3600)

struct transfers {
	struct loop *loop;
	CURLM *multi;
	struct loop_timer *timer;
	transfer_ended_fn *ended;
	size_t body_max;
	CURL *spare[EASY_SPARE_MAX]; /* setting one up anew costs more than resetting it */
	size_t n_spare;
};

struct transfer {
	struct transfers *all;
	void *owner;
	CURL *easy; /* while curl has it */
	struct curl_slist *header;
	char *url;
	const char *out;
	size_t out_len;
	struct buf in;
	struct transfer_answer answer;
};

struct watch {
	struct transfers *all;
	curl_socket_t fd;
	struct loop_fd *loop_fd;
};

/* --- one transfer --- */

static CURL *easy_get(struct transfers *ts)
{
	return ts->n_spare > 0 ? ts->spare[--ts->n_spare] : curl_easy_init();
}

static void easy_put(struct transfers *ts, CURL *easy)
{
	if (ts->n_spare == EASY_SPARE_MAX) {
		curl_easy_cleanup(easy);
		return;
	}
	curl_easy_reset(easy);
	ts->spare[ts->n_spare++] = easy;
}

static size_t body_run(char *data, size_t size, size_t n, void *ctx)
{
	struct transfer *t = ctx;
	size_t len = size * n;
	size_t room = t->all->body_max - t->in.len;

	if (len > room) {
		t->answer.truncated = true;
		buf_append(&t->in, data, room);
		return CURL_WRITEFUNC_ERROR;
	}
	buf_append(&t->in, data, len);
	return t->in.failed ? CURL_WRITEFUNC_ERROR : len;
}

static void easy_set(CURL *easy, struct transfer *t)
{
	curl_easy_setopt(easy, CURLOPT_URL, t->url);
	curl_easy_setopt(easy, CURLOPT_PRIVATE, t);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, body_run);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, t);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, t->header);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)t->out_len);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDS, t->out);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "assent");
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
	/* Names are looked up in threads. One that is given up is left alone: waiting for the end
	 * of its look-up would stop the whole loop for as long as a name server is silent. */
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
}

static bool header_add(struct transfer *t, const char *line)
{
	struct curl_slist *list = curl_slist_append(t->header, line);

	if (list == NULL)
		return false;
	t->header = list;
	return true;
}

/* curl takes "Name:" as "do not send it" and wants "Name;" for an empty value. */
static bool header_add_given(struct transfer *t, const char *line)
{
	size_t name_len = strcspn(line, ":");
	char empty[128];

	if (line[name_len + strspn(line + name_len, ": ")] != '\0' || name_len + 2 > sizeof empty)
		return header_add(t, line);
	memcpy(empty, line, name_len);
	memcpy(empty + name_len, ";", 2);
	return header_add(t, empty);
}

/* A header without a value removes what curl would send by itself. */
static bool headers_copy(struct transfer *t, const struct transfer_spec *spec)
{
	bool type = false;

	for (size_t i = 0; i < spec->n_header; i++) {
		if (!header_add_given(t, spec->header[i]))
			return false;
		type = type || strncasecmp(spec->header[i], "Content-Type:", 13) == 0;
	}
	return header_add(t, "Expect:") && (type || header_add(t, "Content-Type:"));
}

struct transfer *transfer_new(struct transfers *ts, const struct transfer_spec *spec)
{
	struct transfer *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return NULL;
	t->all = ts;
	t->owner = spec->owner;
	t->out = spec->body != NULL ? spec->body : "";
	t->out_len = spec->len;
	buf_init(&t->in);
	t->url = strdup(spec->url);
	if (t->url == NULL || !headers_copy(t, spec)) {
		transfer_free(t);
		return NULL;
	}
	return t;
}

int transfer_start(struct transfer *t)
{
	t->easy = easy_get(t->all);
	if (t->easy == NULL)
		return ERR_NOMEM;
	easy_set(t->easy, t);
	return curl_multi_add_handle(t->all->multi, t->easy) == CURLM_OK ? 0 : ERR_IO;
}

/* Dropped in the middle, curl closes its connection. */
static void transfer_stop(struct transfer *t)
{
	if (t->easy == NULL)
		return;
	curl_multi_remove_handle(t->all->multi, t->easy);
	easy_put(t->all, t->easy);
	t->easy = NULL;
}

struct buf transfer_take_body(struct transfer *t)
{
	struct buf in = t->in;

	buf_init(&t->in);
	return in;
}

void transfer_free(struct transfer *t)
{
	if (t == NULL)
		return;
	transfer_stop(t);
	curl_slist_free_all(t->header);
	buf_release(&t->in);
	free(t->url);
	free(t);
}

/* --- its end --- */

static int err_of_connect(CURL *easy)
{
	long no = 0;

	curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &no);
	return no == ETIMEDOUT ? ERR_TIMEOUT : ERR_REFUSED;
}

static int err_of_curl(CURL *easy, CURLcode code)
{
	int err = ERR_IO;

	if (code == CURLE_OK)
		err = 0;
	else if (code == CURLE_COULDNT_CONNECT)
		err = err_of_connect(easy);
	else if (code == CURLE_COULDNT_RESOLVE_HOST)
		err = ERR_RESOLVE;
	else if (code == CURLE_OPERATION_TIMEDOUT)
		err = ERR_TIMEOUT;
	else if (code == CURLE_GOT_NOTHING || code == CURLE_RECV_ERROR ||
	         code == CURLE_SEND_ERROR || code == CURLE_PARTIAL_FILE)
		err = ERR_RESET;
	else if (code == CURLE_OUT_OF_MEMORY)
		err = ERR_NOMEM;
	return err;
}

static void transfer_finish(struct transfer *t, CURLcode code)
{
	int err = err_of_curl(t->easy, code);
	long status = 0;
	curl_off_t after = 0;

	/* We cut the body off ourselves; the status came before it. */
	if (code == CURLE_WRITE_ERROR)
		err = t->answer.truncated ? 0 : ERR_NOMEM;
	if (err == 0) {
		curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
		curl_easy_getinfo(t->easy, CURLINFO_RETRY_AFTER, &after);
		t->answer.status = (int)status;
		if (after > RETRY_AFTER_MAX)
			after = RETRY_AFTER_MAX;
		t->answer.retry_after_us = after > 0 ? (int64_t)after * 1000000 : 0;
	}
	transfer_stop(t);
	t->all->ended(t->owner, err, &t->answer);
}

static void transfers_drain(struct transfers *ts)
{
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(ts->multi, &left)) != NULL) {
		CURLcode code = m->data.result;
		struct transfer *t = NULL;

		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&t);
		transfer_finish(t, code);
	}
}

/* --- curl in the loop --- */

static void transfers_act(struct transfers *ts, curl_socket_t fd, int events)
{
	int running;

	curl_multi_socket_action(ts->multi, fd, events, &running);
	transfers_drain(ts);
}

static void watch_run(void *ctx, int events)
{
	struct watch *w = ctx;
	int curl = 0;

	if ((events & LOOP_READ) != 0)
		curl |= CURL_CSELECT_IN;
	if ((events & LOOP_WRITE) != 0)
		curl |= CURL_CSELECT_OUT;
	transfers_act(w->all, w->fd, curl);
}

static int watch_add(struct transfers *ts, curl_socket_t fd, struct watch **out)
{
	struct watch *w = calloc(1, sizeof(*w));

	if (w == NULL)
		return ERR_NOMEM;
	w->all = ts;
	w->fd = fd;
	w->loop_fd = loop_fd_new(ts->loop, fd, watch_run, w);
	if (w->loop_fd == NULL) {
		free(w);
		return ERR_IO;
	}
	curl_multi_assign(ts->multi, fd, w);
	*out = w;
	return 0;
}

static int socket_run(CURL *easy, curl_socket_t fd, int what, void *ctx, void *assigned)
{
	struct watch *w = assigned;
	int events = 0;

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (w != NULL) {
			loop_fd_free(w->loop_fd);
			free(w);
		}
		curl_multi_assign(((struct transfers *)ctx)->multi, fd, NULL);
		return 0;
	}
	/* -1 would stop every call until the last one under way has timed out. Only this one does. */
	if (w == NULL && watch_add(ctx, fd, &w) != 0) {
		log_error(NULL, "http client: a connection cannot be watched");
		return 0;
	}
	if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
		events |= LOOP_READ;
	if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
		events |= LOOP_WRITE;
	return loop_fd_watch(w->loop_fd, events);
}

static int timer_run(CURLM *multi, long timeout_ms, void *ctx)
{
	struct transfers *ts = ctx;
	int64_t at = INT64_MAX;

	(void)multi;
	if (timeout_ms >= 0)
		at = clock_mono_us() + (int64_t)timeout_ms * 1000;
	loop_timer_set(ts->timer, at);
	return 0;
}

static void timeout_run(void *ctx)
{
	transfers_act(ctx, CURL_SOCKET_TIMEOUT, 0);
}

/* --- all of them --- */

static int multi_init(struct transfers *ts, long connection_max)
{
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return ERR_NOMEM;
	ts->multi = curl_multi_init();
	ts->timer = loop_timer_new(ts->loop, timeout_run, ts);
	if (ts->multi == NULL || ts->timer == NULL)
		return ERR_NOMEM;
	curl_multi_setopt(ts->multi, CURLMOPT_SOCKETFUNCTION, socket_run);
	curl_multi_setopt(ts->multi, CURLMOPT_SOCKETDATA, ts);
	curl_multi_setopt(ts->multi, CURLMOPT_TIMERFUNCTION, timer_run);
	curl_multi_setopt(ts->multi, CURLMOPT_TIMERDATA, ts);
	curl_multi_setopt(ts->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
	curl_multi_setopt(ts->multi, CURLMOPT_MAXCONNECTS, connection_max);
	return 0;
}

int transfers_new(struct loop *l, long connection_max, size_t body_max, transfer_ended_fn *ended,
                  struct transfers **out)
{
	struct transfers *ts = calloc(1, sizeof(*ts));
	int err;

	if (ts == NULL)
		return ERR_NOMEM;
	ts->loop = l;
	ts->body_max = body_max;
	ts->ended = ended;
	err = multi_init(ts, connection_max);
	if (err != 0) {
		transfers_free(ts);
		return err;
	}
	*out = ts;
	return 0;
}

void transfers_free(struct transfers *ts)
{
	if (ts == NULL)
		return;
	for (size_t i = 0; i < ts->n_spare; i++)
		curl_easy_cleanup(ts->spare[i]);
	/* Closes kept connections, whose watches go through socket_run. */
	if (ts->multi != NULL)
		curl_multi_cleanup(ts->multi);
	loop_timer_free(ts->timer);
	free(ts);
}
