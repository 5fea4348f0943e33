/*
 * curl.c - one HTTP exchange with a coordinator or another service, by any thread. (get.c asks many at
 * once, and can be stopped.)
 */
#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "client.h"

#define IDLE_MAX     32
#define RESPONSE_MAX (8 * 1024 * 1024)

struct sdk_curl {
	pthread_mutex_t lock;
	CURL *idle[IDLE_MAX]; /* handles keep their connections open */
	unsigned n_idle;
};

struct sdk_curl *sdk_curl_new(void)
{
	struct sdk_curl *pool = calloc(1, sizeof(*pool));

	if (!pool || curl_global_init(CURL_GLOBAL_ALL)) {
		free(pool);
		return NULL;
	}
	pthread_mutex_init(&pool->lock, NULL);
	return pool;
}

void sdk_curl_free(struct sdk_curl *pool)
{
	if (!pool)
		return;
	while (pool->n_idle)
		curl_easy_cleanup(pool->idle[--pool->n_idle]);
	curl_global_cleanup();
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}

static CURL *take_handle(struct sdk_curl *pool)
{
	CURL *curl = NULL;

	pthread_mutex_lock(&pool->lock);
	if (pool->n_idle)
		curl = pool->idle[--pool->n_idle];
	pthread_mutex_unlock(&pool->lock);
	return curl ? curl : curl_easy_init();
}

static void return_handle(struct sdk_curl *pool, CURL *curl)
{
	curl_easy_reset(curl);
	pthread_mutex_lock(&pool->lock);
	if (pool->n_idle < IDLE_MAX) {
		pool->idle[pool->n_idle++] = curl;
		curl = NULL;
	}
	pthread_mutex_unlock(&pool->lock);
	curl_easy_cleanup(curl);
}

static size_t on_data(char *data, size_t size, size_t n, void *ctx)
{
	struct sdk_text *answer = ctx;

	if (answer->len + size * n > RESPONSE_MAX)
		return 0;
	sdk_text_add(answer, data, size * n);
	return answer->failed ? 0 : size * n;
}

static bool add_header(struct curl_slist **list, const char *line)
{
	struct curl_slist *more = curl_slist_append(*list, line);

	if (more)
		*list = more;
	return more != NULL;
}

static bool make_headers(struct curl_slist **list, const struct sdk_exchange *x)
{
	/* Without "Expect:", a large body would wait for a "100 Continue". */
	bool ok = add_header(list, "Expect:");

	for (const char *const *line = x->header; ok && line && *line; line++)
		ok = add_header(list, *line);
	return ok;
}

static void set_options(CURL *curl, struct sdk_exchange *x, struct curl_slist *headers)
{
	curl_easy_setopt(curl, CURLOPT_URL, x->url);
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L); /* a gid may be two dots */
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_QUICK_EXIT, 1L); /* a name server has no more time */
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, x->error);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, &x->answer);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)(x->timeout_ms > 1 ? x->timeout_ms : 1));
	curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS,
	                 (long)(x->connect_ms > 1 ? x->connect_ms : 1));
	curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, x->method);
	if (x->body) {
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, x->body->len ? x->body->data : "");
		curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)x->body->len);
	}
}

static void perform(CURL *curl, struct sdk_exchange *x)
{
	CURLcode rc = curl_easy_perform(curl);
	long sent = 0;
	curl_off_t retry_after_s = 0;

	if (rc == CURLE_OK) {
		curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &x->status);
		curl_easy_getinfo(curl, CURLINFO_RETRY_AFTER, &retry_after_s);
		x->retry_after_ms = retry_after_s > 60 ? 60000 : (int)retry_after_s * 1000;
	} else if (!*x->error) {
		snprintf(x->error, sizeof(x->error), "%s", curl_easy_strerror(rc));
	}
	curl_easy_getinfo(curl, CURLINFO_REQUEST_SIZE, &sent);
	x->sent = sent > 0;
}

bool sdk_curl_do(struct sdk_curl *pool, struct sdk_exchange *x)
{
	_Static_assert(sizeof(x->error) >= CURL_ERROR_SIZE, "libcurl writes that many bytes");
	struct curl_slist *headers = NULL;
	CURL *curl = take_handle(pool);
	bool ok = curl && make_headers(&headers, x);

	x->status = 0;
	x->sent = false;
	x->retry_after_ms = 0;
	x->answer.len = 0;
	*x->error = '\0';
	if (ok) {
		set_options(curl, x, headers);
		perform(curl, x);
	} else {
		snprintf(x->error, sizeof(x->error), "out of memory");
	}
	if (curl)
		return_handle(pool, curl);
	curl_slist_free_all(headers);
	return ok;
}
