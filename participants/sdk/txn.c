#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"

struct assent_txn *assent_txn_new(const char *gid, const char *mode, int timeout_ms,
                                  struct assent_error *err)
{
	struct assent_txn *txn;

	if (!gid || !mode || !sdk_identifier(gid, sizeof(txn->gid) - 1, "._:~-") ||
	    !sdk_identifier(mode, sizeof(txn->mode) - 1, "") || timeout_ms < 0) {
		sdk_fail(err, ASSENT_E_INVALID, "gid, mode or timeout_ms is not valid");
		return NULL;
	}
	txn = calloc(1, sizeof(*txn));
	if (!txn) {
		sdk_fail(err, ASSENT_E_NOMEM, "out of memory");
		return NULL;
	}
	snprintf(txn->gid, sizeof(txn->gid), "%s", gid);
	snprintf(txn->mode, sizeof(txn->mode), "%s", mode);
	sdk_text_printf(&txn->json, "{\"gid\":\"%s\",\"mode\":\"%s\"", gid, mode);
	if (timeout_ms)
		sdk_text_printf(&txn->json, ",\"timeout_ms\":%d", timeout_ms);
	txn->head_len = txn->json.len;
	return txn;
}

static int done(const struct assent_txn *txn, struct assent_error *err)
{
	return txn->json.failed ? sdk_fail(err, ASSENT_E_NOMEM, "out of memory") : 0;
}

/* Names say their unit, and what has milliseconds is a number. */
static int add_option(struct assent_txn *txn, const char *name, const char *value,
                      struct assent_error *err)
{
	size_t len = strlen(name), digits = strspn(value, "0123456789");

	sdk_text_printf(&txn->json, ",\"%s\":", name);
	if (len <= 3 || strcmp(name + len - 3, "_ms") != 0)
		sdk_text_json(&txn->json, value);
	else
		sdk_text_printf(&txn->json, "%.*s", (int)digits, value);
	return done(txn, err);
}

static bool is_option(const char *name, const char *value)
{
	size_t len;

	if (!name || !value || !sdk_identifier(name, 32, "_"))
		return false;
	len = strlen(name);
	if (len <= 3 || strcmp(name + len - 3, "_ms") != 0)
		return true;
	len = strlen(value);
	return len > 0 && len <= 10 && strspn(value, "0123456789") == len &&
	       (len == 1 || *value != '0');
}

int assent_txn_option(struct assent_txn *txn, const char *name, const char *value,
                      struct assent_error *err)
{
	int rc;

	if (!txn || !is_option(name, value) || txn->n_branch)
		return sdk_fail(err, ASSENT_E_INVALID,
		                "an option has a name and a value (of *_ms a whole number), and "
		                "comes before the first branch");
	rc = add_option(txn, name, value, err);
	txn->head_len = txn->json.len;
	return rc;
}

int assent_txn_branch_option(struct assent_txn *txn, const char *name, const char *value,
                             struct assent_error *err)
{
	if (!txn || !is_option(name, value) || !txn->n_branch || txn->n_after)
		return sdk_fail(err, ASSENT_E_INVALID,
		                "an option of the branch added last has a name and a value (of "
		                "*_ms a whole number), and comes before assent_txn_after");
	return add_option(txn, name, value, err);
}

const char *sdk_txn_close_branch(const struct assent_txn *txn)
{
	return txn->n_after ? "]}" : "}";
}

int assent_txn_add_branch(struct assent_txn *txn, const char *branch, const char *participant,
                          const char *payload, struct assent_error *err)
{
	struct sdk_text *json;
	char *copy;

	if (!txn || !branch || !participant || !sdk_identifier(branch, 32, "._~-"))
		return sdk_fail(err, ASSENT_E_INVALID,
		                "txn, branch or participant is NULL, or branch not valid");
	/* It is put between other members as it is. */
	if (payload && !sdk_json_valid(payload, strlen(payload)))
		return sdk_fail(err, ASSENT_E_INVALID, "payload of branch %s is not JSON", branch);
	copy = strdup(participant);
	if (!copy)
		return sdk_fail(err, ASSENT_E_NOMEM, "out of memory");
	free(txn->participant);
	txn->participant = copy;
	snprintf(txn->branch, sizeof(txn->branch), "%s", branch);
	json = &txn->json;
	if (txn->n_branch)
		sdk_text_printf(json, "%s,", sdk_txn_close_branch(txn));
	else
		sdk_text_puts(json, ",\"branches\":[");
	txn->branch_at = json->len;
	sdk_text_printf(json, "{\"id\":\"%s\",\"participant\":", branch);
	sdk_text_json(json, participant);
	txn->payload_len = payload ? strlen(payload) : 0;
	if (payload) {
		sdk_text_puts(json, ",\"payload\":");
		txn->payload_at = json->len;
		sdk_text_puts(json, payload);
	}
	txn->n_branch++;
	txn->n_after = 0;
	return done(txn, err);
}

int assent_txn_after(struct assent_txn *txn, const char *branch, struct assent_error *err)
{
	if (!txn || !branch || !sdk_identifier(branch, 32, "._~-") || !txn->n_branch)
		return sdk_fail(err, ASSENT_E_INVALID,
		                "the id of a branch, for the branch that was added last");
	sdk_text_printf(&txn->json, "%s\"%s\"", txn->n_after ? "," : ",\"after\":[", branch);
	txn->n_after++;
	return done(txn, err);
}

void assent_txn_free(struct assent_txn *txn)
{
	if (!txn)
		return;
	sdk_text_release(&txn->json);
	free(txn->participant);
	free(txn);
}
