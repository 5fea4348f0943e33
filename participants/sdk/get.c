/*
 * get.c - many questions at the same time, over libcurl: GET, no redirects, short answers only.
 *
 * An answer that is cut off, too long or too late is none: it would be judged as something that
 * nobody has said.
 */
#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define ANSWER_MAX (64 * (size_t)1024)
#define POLL_MS    50 /* how long it takes to see that one is to stop */

struct sdk_getter {
	CURLM *multi; /* keeps connections open from one round to the next */
};

struct sdk_getter *sdk_getter_new(void)
{
	struct sdk_getter *getter = calloc(1, sizeof(*getter));

	if (!getter || curl_global_init(CURL_GLOBAL_ALL)) {
		free(getter);
		return NULL;
	}
	getter->multi = curl_multi_init();
	if (!getter->multi) {
		sdk_getter_free(getter);
		return NULL;
	}
	return getter;
}

void sdk_getter_free(struct sdk_getter *getter)
{
	if (!getter)
		return;
	curl_multi_cleanup(getter->multi);
	curl_global_cleanup();
	free(getter);
}

void sdk_get_release(struct sdk_get *ask)
{
	sdk_text_release(&ask->url);
	sdk_text_release(&ask->headers);
	sdk_text_release(&ask->answer);
	ask->status = 0;
	ask->why = NULL;
}

static size_t on_data(char *data, size_t size, size_t n, void *ctx)
{
	struct sdk_text *answer = ctx;

	if (answer->len + size * n > ANSWER_MAX)
		return 0;
	sdk_text_add(answer, data, size * n);
	return answer->failed ? 0 : size * n;
}

/* The lines as a list; a line that there is no memory for makes the whole list NULL. */
static struct curl_slist *make_headers(const struct sdk_text *lines)
{
	struct curl_slist *list = NULL, *longer;
	const char *line = lines->len ? lines->data : "";

	for (; *line; line += strcspn(line, "\n") + 1) {
		char *copy = strndup(line, strcspn(line, "\n"));

		longer = copy ? curl_slist_append(list, copy) : NULL;
		free(copy);
		if (!longer) {
			curl_slist_free_all(list);
			return NULL;
		}
		list = longer;
	}
	return list;
}

struct question {
	CURL *curl;
	struct curl_slist *headers;
};

static bool begin(struct sdk_getter *getter, struct sdk_get *ask, struct question *q,
                  int timeout_ms)
{
	q->headers = make_headers(&ask->headers);
	q->curl = curl_easy_init();
	if (ask->url.failed || ask->headers.failed || !q->curl || (ask->headers.len && !q->headers))
		return false;
	curl_easy_setopt(q->curl, CURLOPT_URL, ask->url.data);
	curl_easy_setopt(q->curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(q->curl, CURLOPT_PATH_AS_IS, 1L); /* a gid may be two dots */
	curl_easy_setopt(q->curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(q->curl, CURLOPT_QUICK_EXIT, 1L); /* nor is a name server waited for */
	curl_easy_setopt(q->curl, CURLOPT_HTTPHEADER, q->headers);
	curl_easy_setopt(q->curl, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(q->curl, CURLOPT_WRITEDATA, &ask->answer);
	curl_easy_setopt(q->curl, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
	curl_easy_setopt(q->curl, CURLOPT_PRIVATE, ask);
	return curl_multi_add_handle(getter->multi, q->curl) == CURLM_OK;
}

/* The status counts only when the answer has come to its end. Whose clock said first that it was too
 * late, libcurl's or ours, makes no difference. */
static void take_answers(struct sdk_getter *getter)
{
	CURLMsg *message;
	int n_more;

	while ((message = curl_multi_info_read(getter->multi, &n_more))) {
		struct sdk_get *ask = NULL;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&ask);
		if (ask && message->data.result == CURLE_OPERATION_TIMEDOUT)
			ask->why = NULL;
		else if (ask && message->data.result != CURLE_OK)
			ask->why = curl_easy_strerror(message->data.result);
		else if (ask)
			curl_easy_getinfo(message->easy_handle, CURLINFO_RESPONSE_CODE,
			                  &ask->status);
	}
}

void sdk_get_all(struct sdk_getter *getter, struct sdk_get *asks, size_t n, int timeout_ms,
                 const atomic_bool *stop)
{
	struct question *q = calloc(n + 1, sizeof(*q));
	int64_t until_us = sdk_now_us() + (int64_t)timeout_ms * 1000;
	int n_running = 1;

	for (size_t i = 0; q && i < n; i++)
		begin(getter, &asks[i], &q[i], timeout_ms);
	while (q && n_running && sdk_now_us() < until_us && !atomic_load(stop)) {
		if (curl_multi_perform(getter->multi, &n_running) != CURLM_OK)
			break;
		if (n_running)
			curl_multi_poll(getter->multi, NULL, 0, POLL_MS, NULL);
	}
	take_answers(getter);
	for (size_t i = 0; q && i < n; i++) {
		if (q[i].curl)
			curl_multi_remove_handle(getter->multi, q[i].curl);
		curl_easy_cleanup(q[i].curl);
		curl_slist_free_all(q[i].headers);
	}
	free(q);
}
