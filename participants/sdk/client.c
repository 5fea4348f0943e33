/*
 * client.c - the client itself, and what is asked of a transaction as a whole.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"

#define WAIT_MAX_MS 60000
#define PATIENCE_MS 5000
#define POLL_MS     20
#define POLL_MAX_MS 500

static int add_address(struct assent_client *client, const char *url, size_t len,
                       struct assent_error *err)
{
	while (len && url[len - 1] == '/')
		len--;
	if ((strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0) ||
	    url[len - 1] == ':' || memchr(url, ' ', len))
		return sdk_fail(err, ASSENT_E_INVALID,
		                "\"%.*s\" is not an address like http://127.0.0.1:7470",
		                len > 100 ? 100 : (int)len, url);
	if (client->n_address == SDK_ADDRESS_MAX)
		return sdk_fail(err, ASSENT_E_INVALID, "there are more than %d addresses",
		                SDK_ADDRESS_MAX);
	client->address[client->n_address] = strndup(url, len);
	if (!client->address[client->n_address])
		return sdk_fail(err, ASSENT_E_NOMEM, "out of memory");
	client->n_address++;
	return 0;
}

static int add_addresses(struct assent_client *client, const char *urls, struct assent_error *err)
{
	int rc = 0;

	do {
		size_t len;

		urls += strspn(urls, ", ");
		len = strcspn(urls, ",");
		while (len && urls[len - 1] == ' ')
			len--;
		if (len || client->n_address == 0)
			rc = add_address(client, urls, len, err);
		urls += len;
	} while (*urls && rc == 0);
	return rc;
}

struct assent_client *assent_client_new(const char *urls, struct assent_error *err)
{
	struct assent_client *client;

	if (!urls) {
		sdk_fail(err, ASSENT_E_INVALID, "the coordinator's address is NULL");
		return NULL;
	}
	client = calloc(1, sizeof(*client));
	if (!client || !(client->curl = sdk_curl_new())) {
		free(client);
		sdk_fail(err, ASSENT_E_NOMEM, "out of memory");
		return NULL;
	}
	pthread_mutex_init(&client->lock, NULL);
	client->patience_ms = PATIENCE_MS;
	if (add_addresses(client, urls, err)) {
		assent_client_free(client);
		return NULL;
	}
	return client;
}

int assent_client_load_token(struct assent_client *client, const char *path,
                             struct assent_error *err)
{
	char *line;
	int rc;

	if (!client || !path)
		return sdk_fail(err, ASSENT_E_INVALID, "client or path is NULL");
	rc = sdk_read_token_file(path, &line, err);
	if (rc)
		return rc;
	free(client->authorization);
	client->authorization = line;
	return 0;
}

int assent_client_load_secret(struct assent_client *client, const char *path,
                              struct assent_error *err)
{
	struct assent_verifier *signer;
	int rc;

	if (!client || !path)
		return sdk_fail(err, ASSENT_E_INVALID, "client or path is NULL");
	rc = assent_verifier_load(&signer, path, err);
	if (rc)
		return rc;
	assent_verifier_free(client->signer);
	client->signer = signer;
	return 0;
}

int assent_client_set_patience(struct assent_client *client, int patience_ms,
                               struct assent_error *err)
{
	if (!client || patience_ms < 1 || patience_ms > 600000)
		return sdk_fail(err, ASSENT_E_INVALID,
		                "client is NULL, or patience_ms not 1 to 600000");
	client->patience_ms = patience_ms;
	return 0;
}

void assent_client_free(struct assent_client *client)
{
	if (!client)
		return;
	sdk_curl_free(client->curl);
	pthread_mutex_destroy(&client->lock);
	assent_verifier_free(client->signer);
	if (client->authorization)
		explicit_bzero(client->authorization, strlen(client->authorization));
	free(client->authorization);
	while (client->n_address)
		free(client->address[--client->n_address]);
	free(client);
}

/* ---- what people call ---- */

int assent_submit(struct assent_client *client, const struct assent_txn *txn, int wait_ms,
                  struct assent_result *result, struct assent_error *err)
{
	struct sdk_text body = {0};
	struct sdk_ask ask = {.method = "PUT", .action = "", .body = &body, .wait_ms = wait_ms};
	int rc;

	if (!client || !txn || !txn->n_branch)
		return sdk_fail(err, ASSENT_E_INVALID,
		                "client or txn is NULL, or the transaction has no branch");
	ask.gid = txn->gid;
	sdk_text_add(&body, txn->json.data, txn->json.len);
	sdk_text_printf(&body, "%s]}", sdk_txn_close_branch(txn));
	body.failed |= txn->json.failed;
	rc = sdk_client_ask(client, &ask, result, err);
	sdk_text_release(&body);
	return rc;
}

int assent_get(struct assent_client *client, const char *gid, struct assent_result *result,
               struct assent_error *err)
{
	struct sdk_ask ask = {.gid = gid, .action = "", .method = "GET"};

	return sdk_client_ask(client, &ask, result, err);
}

int assent_wait(struct assent_client *client, const char *gid, int wait_ms,
                struct assent_result *result, struct assent_error *err)
{
	int64_t until_us = sdk_now_us() + (int64_t)wait_ms * 1000;
	struct assent_result found;
	int rc, left_ms, pause_ms = POLL_MS;

	if (wait_ms < 0 || wait_ms > WAIT_MAX_MS)
		return sdk_fail(err, ASSENT_E_INVALID, "wait_ms is 0 to %d", WAIT_MAX_MS);
	for (;;) {
		rc = assent_get(client, gid, &found, err);
		left_ms = sdk_ms_until(until_us);
		if ((rc && rc != ASSENT_E_UNREACHABLE) || sdk_is_ended(&found) || !left_ms)
			break;
		pause_ms = sdk_jitter_ms(pause_ms);
		sdk_pause(pause_ms < left_ms ? pause_ms : left_ms);
		pause_ms = pause_ms * 3 < POLL_MAX_MS ? pause_ms * 3 : POLL_MAX_MS;
	}
	if (result)
		*result = found;
	return rc;
}
