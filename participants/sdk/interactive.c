/*
 * interactive.c - a transaction that grows: begin, then for each branch enlist and do its work,
 * then ask for the commit or the rollback. Under TCC the initiator makes the tries itself.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client.h"

#define TRY_MS       3000 /* of one call to a branch */
#define PAUSE_MS     50
#define PAUSE_MAX_MS 1000

int assent_begin(struct assent_client *client, const struct assent_txn *txn,
                 struct assent_result *result, struct assent_error *err)
{
	struct sdk_text body = {0};
	struct sdk_ask ask = {.method = "PUT", .action = "", .body = &body};
	int rc;

	if (!client || !txn)
		return sdk_fail(err, ASSENT_E_INVALID, "client or txn is NULL");
	ask.gid = txn->gid;
	sdk_text_add(&body, txn->json.data, txn->head_len);
	sdk_text_puts(&body, ",\"interactive\":true}");
	body.failed |= txn->json.failed;
	rc = sdk_client_ask(client, &ask, result, err);
	sdk_text_release(&body);
	return rc;
}

int assent_enlist(struct assent_client *client, const struct assent_txn *txn,
                  struct assent_result *result, struct assent_error *err)
{
	struct sdk_text body = {0};
	struct sdk_ask ask = {.method = "POST", .action = "/branches", .body = &body};
	int rc;

	if (!client || !txn || !txn->n_branch)
		return sdk_fail(err, ASSENT_E_INVALID,
		                "client or txn is NULL, or the transaction has no branch");
	ask.gid = txn->gid;
	sdk_text_add(&body, txn->json.data + txn->branch_at, txn->json.len - txn->branch_at);
	sdk_text_puts(&body, sdk_txn_close_branch(txn));
	body.failed |= txn->json.failed;
	rc = sdk_client_ask(client, &ask, result, err);
	sdk_text_release(&body);
	return rc;
}

int assent_request_commit(struct assent_client *client, const char *gid, int wait_ms,
                          struct assent_result *result, struct assent_error *err)
{
	struct sdk_ask ask = {
	    .gid = gid, .method = "POST", .action = "/commit", .wait_ms = wait_ms};

	return sdk_client_ask(client, &ask, result, err);
}

int assent_request_rollback(struct assent_client *client, const char *gid, int wait_ms,
                            struct assent_result *result, struct assent_error *err)
{
	struct sdk_ask ask = {
	    .gid = gid, .method = "POST", .action = "/rollback", .wait_ms = wait_ms};

	return sdk_client_ask(client, &ask, result, err);
}

/* ---- calling a branch ---- */

/* What is decided is the coordinator's to say: an initiator's cancel would be nobody's decision. */
static bool is_decision(const char *op)
{
	static const char *const ops[] = {"commit", "rollback", "do_commit", "abort",
	                                  "cancel", "confirm",  "compensate"};

	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		if (strcmp(op, ops[i]) == 0)
			return true;
	}
	return false;
}

static int check_attempt(const struct assent_client *client, const struct assent_txn *txn,
                         const struct assent_attempt *attempt, struct assent_error *err)
{
	if (!client || !txn || !txn->n_branch || txn->json.failed)
		return sdk_fail(err, ASSENT_E_INVALID,
		                "client or txn is NULL, or the transaction has no branch");
	if (!attempt || !attempt->op || !sdk_identifier(attempt->op, 15, "_") ||
	    is_decision(attempt->op))
		return sdk_fail(err, ASSENT_E_INVALID,
		                "op is not an operation that an initiator asks for, like \"try\"");
	if (attempt->number < 1 || attempt->timeout_ms < 1 || attempt->timeout_ms > 3600000)
		return sdk_fail(err, ASSENT_E_INVALID,
		                "the attempt's number is from 1, its timeout_ms 1 to 3600000");
	return 0;
}

static void give_number(assent_give_header_fn *give, void *ctx, const char *name, long long n)
{
	char number[24];

	snprintf(number, sizeof(number), "%lld", n);
	give(ctx, name, number);
}

/* As the coordinator would sign it. */
static int give_signature(const struct assent_client *client, const struct assent_txn *txn,
                          const char *id, assent_give_header_fn *give, void *ctx)
{
	const struct sdk_text body = {.data = txn->json.data + txn->payload_at,
	                              .len = txn->payload_len};
	struct sdk_text signatures = {0};
	char now[24];
	bool ok;

	snprintf(now, sizeof(now), "%lld", (long long)time(NULL));
	ok = sdk_sign(client->signer, id, now, &body, &signatures);
	if (ok) {
		give(ctx, "webhook-id", id);
		give(ctx, "webhook-timestamp", now);
		give(ctx, "webhook-signature", signatures.data);
	}
	sdk_text_release(&signatures);
	return ok ? 0 : ASSENT_E_NOMEM;
}

int assent_branch_headers(struct assent_client *client, const struct assent_txn *txn,
                          const struct assent_attempt *attempt, assent_give_header_fn *give,
                          void *ctx, struct assent_error *err)
{
	char cluster[33], id[256], key[264];
	int rc = check_attempt(client, txn, attempt, err);

	if (rc)
		return rc;
	if (!give)
		return sdk_fail(err, ASSENT_E_INVALID, "give is NULL");
	rc = sdk_client_cluster(client, txn->gid, cluster, err);
	if (rc)
		return rc;
	snprintf(id, sizeof(id), "%s/%s/%s/%s/%d", cluster, txn->gid, txn->branch, attempt->op,
	         attempt->number);
	snprintf(key, sizeof(key), "\"%.*s\"", (int)(strrchr(id, '/') - id), id);
	if (client->signer && give_signature(client, txn, id, give, ctx))
		return sdk_fail(err, ASSENT_E_NOMEM, "out of memory");
	give(ctx, "Content-Type", "application/json");
	give(ctx, "Assent-Cluster", cluster);
	give(ctx, "Assent-Namespace", "default");
	give(ctx, "Assent-Gid", txn->gid);
	give(ctx, "Assent-Branch", txn->branch);
	give(ctx, "Assent-Op", attempt->op);
	give(ctx, "Assent-Mode", txn->mode);
	give_number(give, ctx, "Assent-Attempt", attempt->number);
	give_number(give, ctx, "Assent-Timeout-Ms", attempt->timeout_ms);
	give(ctx, "Idempotency-Key", key);
	return 0;
}

/* Header lines as curl.c wants them. */
struct lines {
	char *line[16];
	size_t n;
	bool failed;
};

static void add_line(void *ctx, const char *name, const char *value)
{
	struct lines *l = ctx;

	if (l->n + 1 == sizeof(l->line) / sizeof(l->line[0]) ||
	    asprintf(&l->line[l->n], "%s: %s", name, value) < 0) {
		l->failed = true;
		return;
	}
	l->n++;
}

static void release_lines(struct lines *l)
{
	while (l->n)
		free(l->line[--l->n]);
}

/* As the coordinator judges an answer. */
static enum assent_vote judge(const struct sdk_exchange *x)
{
	char vote[16];

	if (x->status >= 200 && x->status < 300 && x->status != 202) {
		sdk_json_member(x->answer.len ? x->answer.data : "", x->answer.len, "vote", vote,
		                sizeof(vote));
		return strcmp(vote, "read_only") == 0 ? ASSENT_READ_ONLY : ASSENT_YES;
	}
	if (x->status >= 400 && x->status < 500 && x->status != 425 && x->status != 429 &&
	    x->status != 408)
		return ASSENT_REFUSED;
	return ASSENT_FAILED;
}

/* One attempt: every attempt says its number and the time that is left. */
static int try_once(struct assent_client *client, const struct assent_txn *txn,
                    const struct assent_attempt *attempt, struct sdk_exchange *x,
                    struct assent_error *err)
{
	struct lines lines = {.n = 0};
	int rc = assent_branch_headers(client, txn, attempt, add_line, &lines, err);

	if (rc == 0 && lines.failed)
		rc = sdk_fail(err, ASSENT_E_NOMEM, "out of memory");
	if (rc == 0) {
		x->header = (const char *const *)lines.line;
		x->connect_ms = attempt->timeout_ms < TRY_MS ? attempt->timeout_ms : TRY_MS;
		x->timeout_ms = x->connect_ms;
		if (!sdk_curl_do(client->curl, x))
			rc = sdk_fail(err, ASSENT_E_NOMEM, "out of memory");
		x->header = NULL;
	}
	release_lines(&lines);
	return rc;
}

static int try_until_known(struct assent_client *client, const struct assent_txn *txn,
                           int timeout_ms, struct sdk_exchange *x, struct assent_error *err)
{
	struct assent_attempt attempt = {.op = "try", .number = 1, .timeout_ms = timeout_ms};
	int64_t until_us = sdk_now_us() + (int64_t)timeout_ms * 1000;
	int rc, left_ms, pause_ms = PAUSE_MS;

	for (;; attempt.number++) {
		rc = try_once(client, txn, &attempt, x, err);
		if (rc || judge(x) != ASSENT_FAILED)
			return rc;
		if (sdk_ms_until(until_us) <= pause_ms)
			return sdk_fail(err, ASSENT_E_UNREACHABLE,
			                "branch %s: %.150s; roll the transaction back", txn->branch,
			                x->status ? "not done in time" : x->error);
		sdk_pause(sdk_jitter_ms(pause_ms));
		pause_ms = pause_ms * 2 < PAUSE_MAX_MS ? pause_ms * 2 : PAUSE_MAX_MS;
		left_ms = sdk_ms_until(until_us);
		attempt.timeout_ms = left_ms > 1 ? left_ms : 1;
	}
}

int assent_try(struct assent_client *client, const struct assent_txn *txn, int timeout_ms,
               struct assent_reply *reply, struct assent_error *err)
{
	struct sdk_text url = {0}, body = {0};
	struct sdk_exchange x = {.method = "POST", .body = &body};
	const struct assent_attempt first = {.op = "try", .number = 1, .timeout_ms = timeout_ms};
	int rc = check_attempt(client, txn, &first, err);

	if (rc)
		return rc;
	if (strncmp(txn->participant, "http://", 7) != 0 &&
	    strncmp(txn->participant, "https://", 8) != 0)
		return sdk_fail(err, ASSENT_E_INVALID,
		                "%.100s is not an address: a name is known to the coordinator "
		                "only; see assent_branch_headers",
		                txn->participant);
	sdk_text_printf(&url, "%s/try", txn->participant);
	sdk_text_add(&body, txn->json.data + txn->payload_at, txn->payload_len);
	x.url = url.data;
	if (url.failed || body.failed)
		rc = sdk_fail(err, ASSENT_E_NOMEM, "out of memory");
	else
		rc = try_until_known(client, txn, timeout_ms, &x, err);
	if (rc == 0 && reply)
		assent_reply_set(reply, (int)x.status, x.answer.data, x.answer.len);
	if (rc == 0)
		rc = (int)judge(&x);
	sdk_text_release(&x.answer);
	sdk_text_release(&body);
	sdk_text_release(&url);
	return rc;
}
