#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"

struct assent_txn *assent_txn_new(const char *gid, const char *mode, int timeout_ms,
                                  struct assent_error *err)
{
	struct assent_txn *txn;

	if (!sdk_identifier(gid, sizeof(txn->gid) - 1, "._:~-") || !sdk_identifier(mode, 8, "") ||
	    timeout_ms < 0) {
		sdk_fail(err, ASSENT_E_INVALID, "gid, mode or timeout_ms is not valid");
		return NULL;
	}
	txn = calloc(1, sizeof(*txn));
	if (!txn) {
		sdk_fail(err, ASSENT_E_NOMEM, "out of memory");
		return NULL;
	}
	snprintf(txn->gid, sizeof(txn->gid), "%s", gid);
	sdk_text_printf(&txn->json, "{\"gid\":\"%s\",\"mode\":\"%s\"", gid, mode);
	if (timeout_ms)
		sdk_text_printf(&txn->json, ",\"timeout_ms\":%d", timeout_ms);
	return txn;
}

int assent_txn_option(struct assent_txn *txn, const char *name, const char *value,
                      struct assent_error *err)
{
	if (!sdk_identifier(name, 32, "_") || txn->n_branch)
		return sdk_fail(err, ASSENT_E_INVALID,
		                "an option has a name, and comes before the first branch");
	sdk_text_printf(&txn->json, ",\"%s\":", name);
	sdk_text_json(&txn->json, value);
	return txn->json.failed ? sdk_fail(err, ASSENT_E_NOMEM, "out of memory") : 0;
}

const char *sdk_txn_close_branch(const struct assent_txn *txn)
{
	return txn->n_after ? "]}" : "}";
}

int assent_txn_add_branch(struct assent_txn *txn, const char *branch, const char *participant,
                          const char *payload, struct assent_error *err)
{
	struct sdk_text *json = &txn->json;

	if (!sdk_identifier(branch, 32, "._~-"))
		return sdk_fail(err, ASSENT_E_INVALID, "branch id is not valid");
	/* It is put between other members as it is. */
	if (payload && !sdk_json_valid(payload, strlen(payload)))
		return sdk_fail(err, ASSENT_E_INVALID, "payload of branch %s is not JSON", branch);
	if (txn->n_branch)
		sdk_text_printf(json, "%s,", sdk_txn_close_branch(txn));
	else
		sdk_text_puts(json, ",\"branches\":[");
	sdk_text_printf(json, "{\"id\":\"%s\",\"participant\":", branch);
	sdk_text_json(json, participant);
	if (payload) {
		sdk_text_puts(json, ",\"payload\":");
		sdk_text_puts(json, payload);
	}
	txn->n_branch++;
	txn->n_after = 0;
	return json->failed ? sdk_fail(err, ASSENT_E_NOMEM, "out of memory") : 0;
}

int assent_txn_after(struct assent_txn *txn, const char *branch, struct assent_error *err)
{
	if (!sdk_identifier(branch, 32, "._~-") || !txn->n_branch)
		return sdk_fail(err, ASSENT_E_INVALID,
		                "the id of a branch, for the branch that was added last");
	sdk_text_printf(&txn->json, "%s\"%s\"", txn->n_after ? "," : ",\"after\":[", branch);
	txn->n_after++;
	return txn->json.failed ? sdk_fail(err, ASSENT_E_NOMEM, "out of memory") : 0;
}

void assent_txn_free(struct assent_txn *txn)
{
	if (!txn)
		return;
	sdk_text_release(&txn->json);
	free(txn);
}
