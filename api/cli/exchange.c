#include "api/cli/exchange.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define SLICE_MS 50 /* an interruption is noticed within */

struct http {
	CURLM *multi;
	const char *ca_file;
};

volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
	(void)number;
	interrupted = 1;
}

void catch_interrupts(void)
{
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};

	sigemptyset(&action.sa_mask);
	(void)sigaction(SIGINT, &action, NULL);
	(void)sigaction(SIGTERM, &action, NULL);
}

static void *must(void *p)
{
	if (!p) {
		(void)fprintf(stderr, "assent: out of memory\n");
		abort();
	}
	return p;
}

struct exchange *exchange_new(void)
{
	return must(calloc(1, sizeof(struct exchange)));
}

void exchange_free(struct exchange *x)
{
	if (!x)
		return;
	curl_easy_cleanup(x->easy);
	curl_slist_free_all(x->list);
	buf_release(&x->url);
	buf_release(&x->head);
	buf_release(&x->body);
	buf_release(&x->type);
	buf_release(&x->answer);
	free(x);
}

struct http *http_new(const char *ca_file)
{
	struct http *h = must(calloc(1, sizeof *h));

	if (curl_global_init(CURL_GLOBAL_DEFAULT))
		must(NULL);
	h->multi = must(curl_multi_init());
	h->ca_file = ca_file;
	return h;
}

void http_free(struct http *h)
{
	if (!h)
		return;
	curl_multi_cleanup(h->multi);
	curl_global_cleanup();
	free(h);
}

static size_t on_body(char *data, size_t size, size_t n, void *ctx)
{
	struct exchange *x = ctx;

	if (x->answer.len + size * n > ANSWER_MAX)
		return 0;
	buf_append(&x->answer, data, size * n);
	return size * n;
}

/* Not 0 ends the transfer, and with it the connection. */
static int on_progress(void *ctx, curl_off_t down_total, curl_off_t down, curl_off_t up_total,
                       curl_off_t up)
{
	const struct exchange *x = ctx;

	(void)down_total;
	(void)down;
	return x->hang_up && up_total > 0 && up >= up_total;
}

static void add_lines(struct exchange *x)
{
	char *line = x->head.data;
	char *end;

	while (line && *line && (end = strchr(line, '\n'))) {
		*end = '\0';
		x->list = must(curl_slist_append(x->list, line));
		*end = '\n';
		line = end + 1;
	}
	/* curl would wait for leave to send a body. */
	x->list = must(curl_slist_append(x->list, "Expect:"));
	if (strcmp(x->method, "POST") == 0 && x->body.len)
		x->list = must(curl_slist_append(x->list, "Content-Type: application/json"));
}

void http_start(struct http *h, struct exchange *x)
{
	CURL *easy = must(curl_easy_init());

	x->easy = easy;
	x->began_us = clock_mono_us();
	if (x->url.failed || x->head.failed || x->body.failed)
		must(NULL);
	add_lines(x);
	(void)curl_easy_setopt(easy, CURLOPT_URL, x->url.data);
	(void)curl_easy_setopt(easy, CURLOPT_PRIVATE, x);
	(void)curl_easy_setopt(easy, CURLOPT_HTTPHEADER, x->list);
	(void)curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	(void)curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
	(void)curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	(void)curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	(void)curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)x->limit_ms);
	(void)curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	(void)curl_easy_setopt(easy, CURLOPT_WRITEDATA, x);
	if (h->ca_file)
		(void)curl_easy_setopt(easy, CURLOPT_CAINFO, h->ca_file);
	if (strcmp(x->method, "POST") == 0) {
		(void)curl_easy_setopt(easy, CURLOPT_POST, 1L);
		(void)curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)x->body.len);
		(void)curl_easy_setopt(easy, CURLOPT_POSTFIELDS, x->body.len ? x->body.data : "");
	}
	if (x->hang_up) {
		(void)curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
		(void)curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, on_progress);
		(void)curl_easy_setopt(easy, CURLOPT_XFERINFODATA, x);
	}
	if (curl_multi_add_handle(h->multi, easy))
		must(NULL);
}

static void keep_result(struct exchange *x, CURLcode code)
{
	long status = 0;
	char *type = NULL;

	x->done = true;
	x->took_us = clock_mono_us() - x->began_us;
	(void)curl_easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &status);
	(void)curl_easy_getinfo(x->easy, CURLINFO_CONTENT_TYPE, &type);
	buf_puts(&x->type, type ? type : "");
	if (code == CURLE_OK) {
		x->status = (int)status;
	} else if (x->hang_up && code == CURLE_ABORTED_BY_CALLBACK) {
		(void)snprintf(x->error, sizeof x->error, "not waited for");
	} else if (code == CURLE_OPERATION_TIMEDOUT) {
		(void)snprintf(x->error, sizeof x->error, "no answer within %d.%d s",
		               x->limit_ms / 1000, x->limit_ms % 1000 / 100);
	} else if (code == CURLE_WRITE_ERROR) {
		(void)snprintf(x->error, sizeof x->error, "an answer of more than %zu bytes",
		               ANSWER_MAX);
	} else {
		(void)snprintf(x->error, sizeof x->error, "%s", curl_easy_strerror(code));
	}
}

static void go_on(struct http *h, int ms)
{
	struct exchange *x;
	int n;
	CURLMsg *message;

	(void)curl_multi_perform(h->multi, &n);
	while ((message = curl_multi_info_read(h->multi, &n))) {
		CURL *easy = message->easy_handle;
		CURLcode code = message->data.result;

		(void)curl_easy_getinfo(easy, CURLINFO_PRIVATE, &x);
		keep_result(x, code);
		(void)curl_multi_remove_handle(h->multi, easy);
		curl_easy_cleanup(easy);
		x->easy = NULL;
		ms = 0;
	}
	if (ms)
		(void)curl_multi_poll(h->multi, NULL, 0, ms, NULL);
}

void http_wait(struct http *h, struct exchange *x)
{
	while (!x->done && !interrupted)
		go_on(h, SLICE_MS);
	if (x->done || !x->easy)
		return;
	(void)curl_multi_remove_handle(h->multi, x->easy);
	(void)snprintf(x->error, sizeof x->error, "interrupted");
}

void http_pause(struct http *h, int ms)
{
	int64_t until_us = clock_mono_us() + (int64_t)ms * 1000;
	int64_t left_ms;

	while (!interrupted && (left_ms = (until_us - clock_mono_us()) / 1000) > 0)
		go_on(h, left_ms < SLICE_MS ? (int)left_ms : SLICE_MS);
}
