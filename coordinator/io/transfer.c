/*
 * transfer.c - HTTP exchanges, over libcurl's multi interface inside our loop.
 *
 * curl repeats a request by itself when a kept connection turns out to have been closed before
 * the first byte of an answer: participants are idempotent anyway.
 *
 * An answer is one only when all of it came and after its request. curl takes a head that was cut
 * off for a whole one, and what lay unread in a kept connection for the answer to the next request;
 * head_run and before_request see to both.
 */
#include "io/transfer.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/log.h"
#include "io/kept.h"
#include "io/targets.h"
#include "io/transfer_error.h"
#include "io/watches.h"

#define EASY_SPARE_MAX  256
#define READ_BUFFER     4096L /* per transfer under way; a longer answer is read in parts */
#define RETRY_AFTER_MAX (24L * 3600)
#define HEAD_MAX        (64 * 1024)
#define OWN_LINES       3 /* header lines that every request may get from us */

struct transfers {
	struct loop *loop;
	CURLM *multi;
	struct loop_timer *timer;
	transfer_ended_fn *ended;
	size_t body_max;
	CURL *spare[EASY_SPARE_MAX]; /* with all that is the same for every transfer */
	size_t n_spare;
	struct watches watches;
	struct kept kept;
	struct targets targets;
};

struct transfer {
	struct transfers *all;
	void *owner;
	CURL *easy; /* while curl has it */
	struct target *target;
	const char *out;
	size_t out_len;
	struct buf in;
	size_t head_len; /* with interim answers and trailers */
	bool head_whole; /* of the last answer */
	bool stale;      /* the connection is not fit for use */
	struct transfer_answer answer;
	size_t n_line;
	struct curl_slist line[]; /* the header; behind the last one stands its text */
};

/* --- one transfer --- */

static curl_socket_t open_run(void *ctx, curlsocktype purpose, struct curl_sockaddr *address);
static int close_run(void *ctx, curl_socket_t fd);

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

/* A line at a time. curl (7.88) bounds neither trailers nor, as it came out, all heads. */
static size_t head_run(char *data, size_t size, size_t n, void *ctx)
{
	struct transfer *t = ctx;
	size_t len = size * n;

	t->head_len += len;
	if (t->head_len > HEAD_MAX)
		return CURL_WRITEFUNC_ERROR;
	if (len > 0 && (data[0] == '\r' || data[0] == '\n'))
		t->head_whole = true;
	else if (len > 5 && memcmp(data, "HTTP/", 5) == 0) /* behind an interim answer */
		t->head_whole = false;
	return len;
}

/* Whatever a kept connection has to say before it is asked is no answer: another one is used. (What
 * comes between this look and the request's last byte cannot be told from an answer.) */
static int before_request(void *ctx, char *to, char *from, int to_port, int from_port)
{
	struct transfer *t = ctx;
	const struct kept_ends ends = {
	    .from = from, .to = to, .from_port = from_port, .to_port = to_port};
	long n_new = 0;

	curl_easy_getinfo(t->easy, CURLINFO_NUM_CONNECTS, &n_new);
	if (n_new > 0) {
		int fd = kept_name(&t->all->kept, &ends);

		if (fd >= 0)
			watches_keep(&t->all->watches, fd);
		return CURL_PREREQFUNC_OK;
	}
	t->stale = kept_speaks(&t->all->kept, &ends);
	return t->stale ? CURL_PREREQFUNC_ABORT : CURL_PREREQFUNC_OK;
}

static CURL *easy_new(struct transfers *ts)
{
	CURL *easy = curl_easy_init();

	if (easy == NULL)
		return NULL;
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, body_run);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, head_run);
	curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, before_request);
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
	curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, READ_BUFFER);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_run);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, ts);
	curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, close_run);
	curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, ts);
	/* Names are looked up in threads. One that is given up is left alone: waiting for the end
	 * of its look-up would stop the whole loop for as long as a name server is silent. */
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
	return easy;
}

/* Nothing of a former transfer may be left: all that differs between two is set here. Only the
 * address takes memory. It is given in both forms: curl goes by the parsed one where there is one,
 * and no text of another stays behind. */
static CURLcode easy_set(CURL *easy, struct transfer *t)
{
	curl_easy_setopt(easy, CURLOPT_CURLU, (CURLU *)t->target->parsed);
	curl_easy_setopt(easy, CURLOPT_PRIVATE, t);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, t);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, t);
	curl_easy_setopt(easy, CURLOPT_PREREQDATA, t);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, &t->line[0]);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)t->out_len);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDS, t->out);
	return curl_easy_setopt(easy, CURLOPT_URL, &t->target->url[0]);
}

static CURL *easy_get(struct transfers *ts)
{
	return ts->n_spare > 0 ? ts->spare[--ts->n_spare] : easy_new(ts);
}

static void easy_put(struct transfers *ts, CURL *easy)
{
	if (ts->n_spare == EASY_SPARE_MAX)
		curl_easy_cleanup(easy);
	else
		ts->spare[ts->n_spare++] = easy;
}

static void header_add(struct transfer *t, char *line)
{
	struct curl_slist *l = &t->line[t->n_line++];

	*l = (struct curl_slist){.data = line};
	if (t->n_line > 1)
		l[-1].next = l;
}

/* curl takes "Name:" as "do not send it" and wants "Name;" for an empty value. */
static void header_add_given(struct transfer *t, char *line)
{
	char *colon = strchr(line, ':');

	if (colon != NULL && colon[1 + strspn(colon + 1, ": ")] == '\0') {
		colon[0] = ';';
		colon[1] = '\0';
	}
	header_add(t, line);
}

static char *put_text(char **at, const char *s)
{
	size_t size = strlen(s) + 1;
	char *text = *at;

	memcpy(text, s, size);
	*at += size;
	return text;
}

/* A header without a value removes what curl would send by itself. */
static void put_header(struct transfer *t, const struct transfer_spec *spec, char *at)
{
	static char no_expect[] = "Expect:", no_accept[] = "Accept:", no_type[] = "Content-Type:";
	bool type = false;

	for (size_t i = 0; i < spec->n_header; i++) {
		char *line = put_text(&at, spec->header[i]);

		type = type || strncasecmp(line, "Content-Type:", 13) == 0;
		header_add_given(t, line);
	}
	header_add(t, no_expect);
	header_add(t, no_accept);
	if (!type)
		header_add(t, no_type);
}

struct transfer *transfer_new(struct transfers *ts, const struct transfer_spec *spec)
{
	size_t n_line = spec->n_header + OWN_LINES, size = 0;
	struct transfer *t;
	char *at;

	for (size_t i = 0; i < spec->n_header; i++)
		size += strlen(spec->header[i]) + 1;
	t = malloc(sizeof(*t) + n_line * sizeof(t->line[0]) + size);
	if (t == NULL)
		return NULL;
	at = (char *)&t->line[n_line];
	*t = (struct transfer){
	    .all = ts,
	    .owner = spec->owner,
	    .out = spec->body != NULL ? spec->body : "",
	    .out_len = spec->len,
	    .target = target_get(&ts->targets, spec->url),
	};
	if (t->target == NULL) {
		free(t);
		return NULL;
	}
	buf_init(&t->in);
	put_header(t, spec, at);
	return t;
}

int transfer_start(struct transfer *t)
{
	t->easy = easy_get(t->all);
	if (t->easy == NULL)
		return ERR_NOMEM;
	if (easy_set(t->easy, t) != CURLE_OK) {
		/* curl does not have it yet. */
		curl_easy_cleanup(t->easy);
		t->easy = NULL;
		return ERR_NOMEM;
	}
	return curl_multi_add_handle(t->all->multi, t->easy) == CURLM_OK ? 0 : ERR_IO;
}

const char *transfer_timeout_str(const struct transfer *t)
{
	return t->easy != NULL ? transfer_timeout(t->easy) : "timed out";
}

/* Dropped in the middle, curl closes its connection. One that failed is not used again: it would
 * tell its error number as the next one's. */
static void transfer_stop(struct transfer *t, bool failed)
{
	if (t->easy == NULL)
		return;
	curl_multi_remove_handle(t->all->multi, t->easy);
	if (failed)
		curl_easy_cleanup(t->easy);
	else
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
	transfer_stop(t, true);
	target_put(&t->all->targets, t->target);
	buf_release(&t->in);
	free(t);
}

/* --- its end --- */

static void read_answer(struct transfer *t)
{
	long status = 0;
	curl_off_t after = 0;

	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(t->easy, CURLINFO_RETRY_AFTER, &after);
	t->answer.status = (int)status;
	if (after > RETRY_AFTER_MAX)
		after = RETRY_AFTER_MAX;
	t->answer.retry_after_us = after > 0 ? (int64_t)after * 1000000 : 0;
}

static int judge(struct transfer *t, CURLcode code)
{
	/* We cut the body off ourselves; the status came before it. */
	if (code == CURLE_WRITE_ERROR && t->answer.truncated)
		code = CURLE_OK;
	if (code == CURLE_OK && !t->head_whole)
		code = CURLE_PARTIAL_FILE;
	if (code == CURLE_WRITE_ERROR && t->head_len > HEAD_MAX)
		code = TRANSFER_HEAD_TOO_LONG;
	if (code != CURLE_OK)
		return transfer_error(t->easy, code, &t->answer.why);
	read_answer(t);
	return 0;
}

static void transfer_finish(struct transfer *t, CURLcode code)
{
	int err;

	if (code == CURLE_ABORTED_BY_CALLBACK && t->stale) {
		transfer_stop(t, true);
		err = transfer_start(t);
		if (err == 0)
			return;
		t->answer.why = err_str(err);
	} else {
		err = judge(t, code);
		transfer_stop(t, err != 0);
	}
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

static void socket_ready(void *ctx, int fd, int events)
{
	int curl = 0;

	if ((events & LOOP_READ) != 0)
		curl |= CURL_CSELECT_IN;
	if ((events & LOOP_WRITE) != 0)
		curl |= CURL_CSELECT_OUT;
	transfers_act(ctx, fd, curl);
}

static curl_socket_t open_run(void *ctx, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct transfers *ts = ctx;
	int fd = watches_open(&ts->watches, address->family, address->socktype, address->protocol);

	(void)purpose;
	if (fd < 0 || kept_open(&ts->kept, fd) == 0)
		return fd;
	(void)watches_close(&ts->watches, fd);
	return CURL_SOCKET_BAD;
}

static int close_run(void *ctx, curl_socket_t fd)
{
	struct transfers *ts = ctx;

	kept_close(&ts->kept, fd);
	return watches_close(&ts->watches, fd);
}

static int socket_run(CURL *easy, curl_socket_t fd, int what, void *ctx, void *assigned)
{
	int events = 0;

	(void)easy;
	(void)assigned;
	if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
		events |= LOOP_READ;
	if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
		events |= LOOP_WRITE;
	/* -1 would stop every call until the last one under way has timed out. Only this one does. */
	if (watches_set(&((struct transfers *)ctx)->watches, fd, events) != 0)
		log_error(NULL, "http client: a connection cannot be watched");
	return 0;
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
	watches_init(&ts->watches, l, socket_ready, ts);
	err = kept_init(&ts->kept);
	if (err == 0)
		err = targets_init(&ts->targets);
	if (err == 0)
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
	/* Closes kept connections, whose watches go through close_run. */
	if (ts->multi != NULL)
		curl_multi_cleanup(ts->multi);
	watches_release(&ts->watches);
	kept_release(&ts->kept);
	targets_release(&ts->targets);
	loop_timer_free(ts->timer);
	free(ts);
}
