/*
 * client.c - the initiator's side, over libcurl. The only user of libcurl.
 */
#include "client.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define IDLE_MAX     32
#define TRY_MAX      5
#define WAIT_MAX_MS  60000
#define GRACE_MS     5000
#define PAUSE_MS     100 /* doubled at each try */
#define RESPONSE_MAX (8 * 1024 * 1024)

struct assent_client {
	char *url;           /* without a slash at its end */
	char *authorization; /* a header line, or NULL */
	pthread_mutex_t lock;
	CURL *idle[IDLE_MAX]; /* handles keep their connections open */
	unsigned n_idle;
};

struct assent_client *assent_client_new(const char *url, struct assent_error *err)
{
	struct assent_client *client;
	size_t len = strlen(url);

	if (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0) {
		sdk_fail(err, ASSENT_E_INVALID, "%s is not a URL like http://127.0.0.1:7470", url);
		return NULL;
	}
	client = calloc(1, sizeof(*client));
	while (len && url[len - 1] == '/')
		len--;
	if (!client || !(client->url = strndup(url, len)) || curl_global_init(CURL_GLOBAL_ALL)) {
		free(client);
		sdk_fail(err, ASSENT_E_NOMEM, "out of memory");
		return NULL;
	}
	pthread_mutex_init(&client->lock, NULL);
	return client;
}

int assent_client_load_token(struct assent_client *client, const char *path,
                             struct assent_error *err)
{
	char token[4096];
	char *line = NULL;
	size_t len;
	int rc = sdk_read_secret_file(path, token, sizeof(token), err);

	if (rc)
		return rc;
	len = strcspn(token, "\r\n");
	if (len == 0 || strspn(token + len, "\r\n") != strlen(token + len) ||
	    strcspn(token, " \t") != strlen(token))
		rc = sdk_fail(err, ASSENT_E_INVALID, "%.150s is not a file with one token", path);
	else if (asprintf(&line, "Authorization: Bearer %.*s", (int)len, token) < 0)
		rc = sdk_fail(err, ASSENT_E_NOMEM, "out of memory");
	explicit_bzero(token, sizeof(token));
	if (rc)
		return rc;
	free(client->authorization);
	client->authorization = line;
	return 0;
}

void assent_client_free(struct assent_client *client)
{
	if (!client)
		return;
	while (client->n_idle)
		curl_easy_cleanup(client->idle[--client->n_idle]);
	curl_global_cleanup();
	pthread_mutex_destroy(&client->lock);
	if (client->authorization)
		explicit_bzero(client->authorization, strlen(client->authorization));
	free(client->authorization);
	free(client->url);
	free(client);
}

static CURL *take_handle(struct assent_client *client)
{
	CURL *curl = NULL;

	pthread_mutex_lock(&client->lock);
	if (client->n_idle)
		curl = client->idle[--client->n_idle];
	pthread_mutex_unlock(&client->lock);
	return curl ? curl : curl_easy_init();
}

static void return_handle(struct assent_client *client, CURL *curl)
{
	curl_easy_reset(curl);
	pthread_mutex_lock(&client->lock);
	if (client->n_idle < IDLE_MAX) {
		client->idle[client->n_idle++] = curl;
		curl = NULL;
	}
	pthread_mutex_unlock(&client->lock);
	curl_easy_cleanup(curl);
}

/* One exchange: what is sent, and what came back. */
struct exchange {
	const char *gid;
	const char *authorization;
	const struct sdk_text *body; /* NULL: GET */
	int wait_ms;
	int64_t until_us;
	long status; /* 0: no answer, and `error` says why */
	struct sdk_text answer;
	char error[CURL_ERROR_SIZE];
};

static size_t on_data(char *data, size_t size, size_t n, void *ctx)
{
	struct sdk_text *answer = ctx;

	if (answer->len + size * n > RESPONSE_MAX)
		return 0;
	sdk_text_add(answer, data, size * n);
	return answer->failed ? 0 : size * n;
}

static struct curl_slist *make_headers(const struct exchange *x)
{
	char prefer[40];
	struct curl_slist *list = curl_slist_append(NULL, "Expect:");

	if (x->body)
		list = curl_slist_append(list, "Content-Type: application/json");
	if (x->authorization)
		list = curl_slist_append(list, x->authorization);
	if (x->wait_ms > 0) {
		snprintf(prefer, sizeof(prefer), "Prefer: wait=%d", (x->wait_ms + 999) / 1000);
		list = curl_slist_append(list, prefer);
	}
	return list;
}

static void send_once(CURL *curl, const char *url, struct exchange *x)
{
	struct curl_slist *headers = make_headers(x);
	int64_t left_ms = (x->until_us - sdk_now_us()) / 1000;
	CURLcode rc;

	x->status = 0;
	x->answer.len = 0;
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, x->error);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, &x->answer);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)(left_ms > 1 ? left_ms : 1));
	if (x->body) {
		curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, "PUT");
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, x->body->data);
		curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)x->body->len);
	}
	rc = curl_easy_perform(curl);
	if (rc == CURLE_OK)
		curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &x->status);
	else if (!*x->error)
		snprintf(x->error, sizeof(x->error), "%s", curl_easy_strerror(rc));
	curl_slist_free_all(headers);
}

/* Safe because a PUT with the same gid and body is the same transaction. */
static void send_with_retries(CURL *curl, const char *url, struct exchange *x)
{
	int pause_ms = PAUSE_MS;

	for (int try = 1;; try++) {
		struct timespec pause = {pause_ms / 1000, pause_ms % 1000 * 1000000L};

		send_once(curl, url, x);
		if (x->status && x->status != 429 && x->status != 503)
			return;
		if (try == TRY_MAX || sdk_now_us() + pause_ms * 1000 >= x->until_us)
			return;
		nanosleep(&pause, NULL);
		pause_ms *= 2;
	}
}

static int judge(const struct exchange *x, struct assent_result *result, struct assent_error *err)
{
	const char *text = x->answer.len ? x->answer.data : "";
	char detail[200];
	int code;

	if (x->status == 0)
		return sdk_fail(err, ASSENT_E_UNREACHABLE, "%s", x->error);
	if (x->status == 200 || x->status == 202) {
		snprintf(result->gid, sizeof(result->gid), "%s", x->gid);
		sdk_json_member(text, x->answer.len, "state", result->state, sizeof(result->state));
		sdk_json_member(text, x->answer.len, "outcome", result->outcome,
		                sizeof(result->outcome));
		if (*result->outcome)
			return 0;
	}
	sdk_json_member(text, x->answer.len, "code", detail, sizeof(detail));
	code = strcmp(detail, "gid_conflict") == 0 ? ASSENT_E_CONFLICT : ASSENT_E_REFUSED;
	sdk_json_member(text, x->answer.len, "detail", detail, sizeof(detail));
	sdk_fail(err, code, "the coordinator answered %ld%s%s", x->status, *detail ? ": " : "",
	         detail);
	if (err)
		err->http_status = (int)x->status;
	return code;
}

static int exchange(struct assent_client *client, struct exchange *x, struct assent_result *result,
                    struct assent_error *err)
{
	CURL *curl = take_handle(client);
	struct sdk_text url = {0};
	int rc;

	*result = (struct assent_result){0};
	x->authorization = client->authorization;
	sdk_text_printf(&url, "%s/v1/transactions/%s", client->url, x->gid);
	if (!curl || url.failed) {
		rc = sdk_fail(err, ASSENT_E_NOMEM, "out of memory");
	} else {
		x->until_us = sdk_now_us() + (int64_t)(x->wait_ms + GRACE_MS) * 1000;
		send_with_retries(curl, url.data, x);
		rc = judge(x, result, err);
	}
	if (curl)
		return_handle(client, curl);
	sdk_text_release(&x->answer);
	sdk_text_release(&url);
	return rc;
}

int assent_submit(struct assent_client *client, const struct assent_txn *txn, int wait_ms,
                  struct assent_result *result, struct assent_error *err)
{
	struct sdk_text body = {0};
	struct exchange x = {.gid = txn->gid, .body = &body, .wait_ms = wait_ms};
	int rc;

	if (wait_ms < 0 || wait_ms > WAIT_MAX_MS)
		return sdk_fail(err, ASSENT_E_INVALID, "wait_ms is 0 to %d", WAIT_MAX_MS);
	if (txn->n_branch == 0)
		return sdk_fail(err, ASSENT_E_INVALID, "a transaction has at least one branch");
	sdk_text_add(&body, txn->json.data, txn->json.len);
	sdk_text_printf(&body, "%s]}", sdk_txn_close_branch(txn));
	if (txn->json.failed || body.failed)
		rc = sdk_fail(err, ASSENT_E_NOMEM, "out of memory");
	else
		rc = exchange(client, &x, result, err);
	sdk_text_release(&body);
	return rc;
}

int assent_get(struct assent_client *client, const char *gid, struct assent_result *result,
               struct assent_error *err)
{
	struct exchange x = {.gid = gid};

	if (!sdk_identifier(gid, sizeof(result->gid) - 1, "._:~-"))
		return sdk_fail(err, ASSENT_E_INVALID, "gid is not valid");
	return exchange(client, &x, result, err);
}
