/*
 * test_no_memory_sdk.c - libassent's operations without memory; the sweep is no_memory_sweep.h.
 */
#include <stdio.h>
#include <time.h>

#include "io/digest.h"
#include "participants/sdk/server.h"

#include "no_memory_sweep.h"

#if CAN_SWEEP
static const char *const head[][2] = {
    {"Assent-Cluster", "c"}, {"Assent-Namespace", "default"}, {"Assent-Gid", "g"},
    {"Assent-Branch", "b"},  {"Assent-Op", "prepare"},        {"Assent-Mode", "2pc"},
    {"Assent-Attempt", "1"}, {"Assent-Timeout-Ms", "1000"},   {"webhook-id", "c/g/b/prepare/1"}};
static char signature[64], timestamp[32];

static const char *header(void *ctx, const char *name)
{
	(void)ctx;
	for (size_t i = 0; i < sizeof head / sizeof head[0]; i++) {
		if (strcmp(head[i][0], name) == 0)
			return head[i][1];
	}
	if (strcmp(name, "webhook-timestamp") == 0)
		return timestamp;
	return strcmp(name, "webhook-signature") == 0 ? signature : NULL;
}

static bool sdk_ended(int rc, const struct assent_error *err)
{
	if (rc != 0 && rc != ASSENT_E_NOMEM)
		fail_msg("said to be \"%s\": %s", assent_err_str(rc), err->text);
	return rc != 0;
}

#define SECRET "sixteen-bytes-or-more"

static void sign(void)
{
	char text[64];
	uint8_t mac[DIGEST_LEN];
	struct buf b = BUF_INIT;

	(void)snprintf(timestamp, sizeof timestamp, "%lld", (long long)time(NULL));
	(void)snprintf(text, sizeof text, "%s.%s.{}", header(NULL, "webhook-id"), timestamp);
	digest_hmac_sha256(SECRET, strlen(SECRET), text, strlen(text), mac);
	buf_puts(&b, "v1,");
	digest_put_base64(&b, mac, sizeof mac);
	(void)snprintf(signature, sizeof signature, "%s", b.data);
	buf_release(&b);
}

static bool use_call(void)
{
	struct assent_verifier *v = NULL;
	struct assent_call *call = NULL;
	struct assent_reply *reply;
	struct assent_error err;
	bool failed;
	int rc = assent_verifier_new(&v, SECRET "\n", &err);

	if (rc == 0)
		rc = assent_call_new(&call, header, NULL, "{}", 2, &err);
	if (rc == 0)
		rc = assent_verify(v, call, header, NULL, &err);
	assent_verifier_free(v);
	assent_call_free(call);
	if (rc)
		return sdk_ended(rc, &err);
	reply = assent_reply_new();
	if (!reply)
		return true;
	(void)assent_refuse(reply, "no %s", "tea");
	failed = assent_reply_status(reply) == 503;
	assert_true(failed ||
	            (assent_reply_status(reply) == 409 && *assent_reply_body(reply, NULL)));
	assent_reply_free(reply);
	return failed;
}

static enum assent_vote work(const struct assent_call *call, PGconn *conn,
                             struct assent_reply *reply, void *ctx)
{
	(void)call, (void)conn, (void)reply, (void)ctx;
	return ASSENT_YES;
}

static bool use_server(void)
{
	struct assent_server_options options = {.listen = "127.0.0.1:0", .database = "dbname=x"};
	struct assent_error err = {0};
	struct assent_server *s = assent_server_new(&options, &err);
	int rc = s ? assent_server_on(s, "/stock", "prepare", work, NULL, &err) : err.code;

	assent_server_free(s);
	return sdk_ended(rc, &err);
}

static bool use_client(void)
{
	struct assent_error err = {0};
	struct assent_client *client = assent_client_new("http://127.0.0.1:1/", &err);
	struct assent_txn *txn = NULL;
	int rc = client ? 0 : err.code;

	if (rc == 0) {
		txn = assent_txn_new("gid", "2pc", 1000, &err);
		rc = txn ? 0 : err.code;
	}
	for (int i = 0; i < 4 && rc == 0; i++)
		rc = assent_txn_add_branch(txn, (char[]){(char)('a' + i), '\0'}, "http://shop/b",
		                           "{\"n\":1}", &err);
	assent_txn_free(txn);
	assent_client_free(client);
	return sdk_ended(rc, &err);
}

SWEEP(call)
SWEEP(server)
SWEEP(client)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(sweep_call),
	    cmocka_unit_test(sweep_server),
	    cmocka_unit_test(sweep_client),
	};

	sign();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
int main(void)
{
	return 0;
}
#endif
