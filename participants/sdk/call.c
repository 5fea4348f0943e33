#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "internal.h"

#define MS_MAX    (24 * 3600 * 1000)
#define HOLD_MAX  (2 * MS_MAX) /* a coordinator's longest, with its time for the votes */
#define PEERS_MAX 8192

static const struct operation {
	const char *mode;
	const char *op;
	bool is_vote;
} operations[] = {
    {"2pc", "prepare", true},    {"2pc", "commit", false},    {"2pc", "rollback", false},
    {"3pc", "can_commit", true}, {"3pc", "pre_commit", true}, {"3pc", "do_commit", false},
    {"3pc", "abort", false},     {"tcc", "try", true},        {"tcc", "confirm", false},
    {"tcc", "cancel", false},    {"saga", "action", true},    {"saga", "compensate", false},
};

int64_t sdk_now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

bool sdk_identifier(const char *s, size_t max, const char *others)
{
	static const char letters[] =
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
	size_t n = 0;

	for (; s[n]; n++) {
		if (n == max || (!strchr(letters, s[n]) && !strchr(others, s[n])))
			return false;
	}
	return n > 0;
}

static const struct operation *find_operation(const char *op)
{
	for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
		if (strcmp(op, operations[i].op) == 0)
			return &operations[i];
	}
	return NULL;
}

int sdk_patience_ms(const struct assent_call *call)
{
	int ms = assent_call_remaining_ms(call);
	bool works = call->is_vote && call->timeout_ms > 0;
	int least = works ? 1 : 1000;

	return ms > least ? ms : least;
}

struct reader {
	assent_header_fn *header;
	void *ctx;
	struct assent_error *err;
};

static int read_word(const struct reader *r, const char *name, const char *others, char *out,
                     size_t size)
{
	const char *value = r->header(r->ctx, name);

	if (!value)
		return sdk_fail(r->err, ASSENT_E_INVALID, "the header %s is missing", name);
	if (!sdk_identifier(value, size - 1, others))
		return sdk_fail(r->err, ASSENT_E_INVALID, "the header %s is not valid", name);
	snprintf(out, size, "%s", value);
	return 0;
}

static int read_number(const struct reader *r, const char *name, int min, bool required, int *out)
{
	const char *value = r->header(r->ctx, name);
	char *end;
	long n;

	*out = 0;
	if (!value && !required)
		return 0;
	if (!value)
		return sdk_fail(r->err, ASSENT_E_INVALID, "the header %s is missing", name);
	n = strtol(value, &end, 10);
	if (!*value || strspn(value, "-0123456789") != strlen(value) || *end || n < min ||
	    n > INT32_MAX)
		return sdk_fail(r->err, ASSENT_E_INVALID, "the header %s is not valid", name);
	*out = (int)n;
	return 0;
}

static int read_flag(const struct reader *r, const char *name, bool *out)
{
	const char *value = r->header(r->ctx, name);

	*out = value && strcmp(value, "true") == 0;
	if (value && !*out && strcmp(value, "false") != 0)
		return sdk_fail(r->err, ASSENT_E_INVALID, "the header %s is not valid", name);
	return 0;
}

static int read_identity(const struct reader *r, struct assent_call *call)
{
	const struct operation *known;
	int rc;

	if ((rc = read_word(r, "Assent-Cluster", "", call->cluster, sizeof(call->cluster))) ||
	    (rc = read_word(r, "Assent-Namespace", "._~-", call->space, sizeof(call->space))) ||
	    (rc = read_word(r, "Assent-Gid", "._:~-", call->gid, sizeof(call->gid))) ||
	    (rc = read_word(r, "Assent-Branch", "._~-", call->branch, sizeof(call->branch))) ||
	    (rc = read_word(r, "Assent-Op", "_", call->op, sizeof(call->op))) ||
	    (rc = read_word(r, "Assent-Mode", "", call->mode, sizeof(call->mode))))
		return rc;
	known = find_operation(call->op);
	if (!known)
		return sdk_fail(r->err, ASSENT_E_INVALID, "Assent-Op: unknown operation %s",
		                call->op);
	call->is_vote = known->is_vote;
	if (strcmp(call->mode, known->mode) != 0)
		return sdk_fail(r->err, ASSENT_E_INVALID, "Assent-Mode: %s is no operation of %s",
		                call->op, call->mode);
	return 0;
}

static int read_terms(const struct reader *r, struct assent_call *call)
{
	int rc;

	if ((rc = read_number(r, "Assent-Attempt", 1, true, &call->attempt)) ||
	    (rc = read_number(r, "Assent-Timeout-Ms", INT32_MIN, true, &call->timeout_ms)) ||
	    (rc = read_number(r, "Assent-Hold-Ms", 0, false, &call->hold_ms)))
		return rc;
	if (call->timeout_ms > MS_MAX)
		call->timeout_ms = MS_MAX;
	if (call->hold_ms > HOLD_MAX)
		call->hold_ms = HOLD_MAX;
	call->until_us = sdk_now_us() + (int64_t)call->timeout_ms * 1000;
	if ((rc = read_flag(r, "Assent-One-Phase", &call->one_phase)) ||
	    (rc = read_flag(r, "Assent-May-Be-Confirmed", &call->may_be_confirmed)))
		return rc;
	call->is_vote |= call->one_phase;
	if ((call->one_phase && strcmp(call->op, "commit") != 0) ||
	    (call->may_be_confirmed && strcmp(call->op, "cancel") != 0 &&
	     strcmp(call->op, "confirm") != 0))
		return sdk_fail(
		    r->err, ASSENT_E_INVALID, "the header %s is not valid for the operation %s",
		    call->one_phase ? "Assent-One-Phase" : "Assent-May-Be-Confirmed", call->op);
	return 0;
}

static int read_three_phase(const struct reader *r, struct assent_call *call)
{
	const char *on_timeout = r->header(r->ctx, "Assent-On-Timeout");
	const char *peers = r->header(r->ctx, "Assent-Peers");
	int rc = read_flag(r, "Assent-Intent", &call->intent);

	if (rc)
		return rc;
	if (call->intent && strcmp(call->op, "abort") != 0)
		return sdk_fail(r->err, ASSENT_E_INVALID,
		                "the header Assent-Intent is not valid for the operation %s",
		                call->op);
	call->may_commit = !on_timeout || strcmp(on_timeout, "commit") == 0;
	if (on_timeout && !call->may_commit && strcmp(on_timeout, "wait") != 0)
		return sdk_fail(r->err, ASSENT_E_INVALID,
		                "the header Assent-On-Timeout is not valid");
	if (strcmp(call->op, "pre_commit") != 0)
		return 0;
	/* Without it, it would be left to itself at once. */
	if (!r->header(r->ctx, "Assent-Hold-Ms"))
		return sdk_fail(r->err, ASSENT_E_INVALID, "the header Assent-Hold-Ms is missing");
	peers = peers ? peers : ""; /* there is no other branch */
	if (strlen(peers) > PEERS_MAX || !sdk_peers_are_valid(peers))
		return sdk_fail(r->err, ASSENT_E_INVALID, "the header Assent-Peers is not valid");
	call->peers = strdup(peers);
	return call->peers ? 0 : sdk_fail(r->err, ASSENT_E_NOMEM, "out of memory");
}

/* The parts contain no quote, and no colon but the gid's, so that the name is unambiguous. A name
 * beyond the limit keeps the cluster, so that a sweep finds its own, and hashes the whole. */
static int make_name(struct assent_call *call, struct assent_error *err)
{
	char full[sizeof("assent:::") + sizeof(call->cluster) + sizeof(call->space) +
	          sizeof(call->gid) + sizeof(call->branch)];
	unsigned char hash[EVP_MAX_MD_SIZE];
	unsigned n_hash = 0;
	int at, len;

	len = snprintf(full, sizeof(full), "assent:%s:%s:%s:%s", call->cluster, call->space,
	               call->gid, call->branch);
	if (len <= SDK_NAME_MAX) {
		snprintf(call->name, sizeof(call->name), "%.*s", SDK_NAME_MAX, full);
		return 0;
	}
	if (!EVP_Digest(full, (size_t)len, hash, &n_hash, EVP_sha256(), NULL))
		return sdk_fail(err, ASSENT_E_NOMEM, "out of memory for SHA-256");
	at = snprintf(call->name, sizeof(call->name), "assent:%s:", call->cluster);
	for (unsigned i = 0; i < n_hash; i++)
		at += snprintf(call->name + at, sizeof(call->name) - (size_t)at, "%02x", hash[i]);
	return 0;
}

int assent_call_new(struct assent_call **out, assent_header_fn *header, void *ctx, const void *body,
                    size_t len, struct assent_error *err)
{
	struct reader r = {header, ctx, err};
	struct assent_call *call;
	int rc;

	if (out)
		*out = NULL;
	if (!out || !header || (!body && len) || len > INT32_MAX)
		return sdk_fail(err, ASSENT_E_INVALID,
		                "call or header is NULL, or body for its length");
	call = calloc(1, sizeof(*call));
	if (!call || !(call->body = malloc(len + 1))) {
		free(call);
		return sdk_fail(err, ASSENT_E_NOMEM, "out of memory");
	}
	if ((rc = read_identity(&r, call)) || (rc = read_terms(&r, call)) ||
	    (rc = read_three_phase(&r, call)) || (rc = make_name(call, err))) {
		assent_call_free(call);
		return rc;
	}
	if (len)
		memcpy(call->body, body, len);
	call->body[len] = '\0';
	call->len = len;
	*out = call;
	return 0;
}

void assent_call_free(struct assent_call *call)
{
	if (!call)
		return;
	sdk_call_release(call);
	free(call);
}

void sdk_call_release(struct assent_call *call)
{
	free(call->peers);
	free(call->body);
	call->peers = call->body = NULL;
}

bool sdk_call_make(struct assent_call *call, const char *op, const char *const identity[4])
{
	*call = (struct assent_call){.mode = "3pc"};
	snprintf(call->cluster, sizeof(call->cluster), "%s", identity[0]);
	snprintf(call->space, sizeof(call->space), "%s", identity[1]);
	snprintf(call->gid, sizeof(call->gid), "%s", identity[2]);
	snprintf(call->branch, sizeof(call->branch), "%s", identity[3]);
	snprintf(call->op, sizeof(call->op), "%s", op);
	call->until_us = sdk_now_us();
	call->body = strdup("");
	if (call->body && make_name(call, NULL) == 0)
		return true;
	sdk_call_release(call);
	return false;
}

int assent_call_new_status(struct assent_call **out, assent_header_fn *parameter, void *ctx,
                           struct assent_error *err)
{
	static const struct {
		const char *name, *others;
		size_t max;
	} words[] = {
	    {"cluster", "", sizeof(((struct assent_call *)0)->cluster) - 1},
	    {"namespace", "._~-", sizeof(((struct assent_call *)0)->space) - 1},
	    {"gid", "._:~-", sizeof(((struct assent_call *)0)->gid) - 1},
	    {"branch", "._~-", sizeof(((struct assent_call *)0)->branch) - 1},
	};
	const char *identity[4];
	struct assent_call *call;

	if (out)
		*out = NULL;
	if (!out || !parameter)
		return sdk_fail(err, ASSENT_E_INVALID, "call or parameter is NULL");
	for (size_t i = 0; i < 4; i++) {
		identity[i] = parameter(ctx, words[i].name);
		if (!identity[i] || !sdk_identifier(identity[i], words[i].max, words[i].others))
			return sdk_fail(err, ASSENT_E_INVALID,
			                "the parameter %s is missing or not valid", words[i].name);
	}
	call = malloc(sizeof(*call));
	if (!call || !sdk_call_make(call, "status", identity)) {
		free(call);
		return sdk_fail(err, ASSENT_E_NOMEM, "out of memory");
	}
	*out = call;
	return 0;
}

const char *assent_call_cluster(const struct assent_call *call)
{
	return call ? call->cluster : "";
}

const char *assent_call_namespace(const struct assent_call *call)
{
	return call ? call->space : "";
}

const char *assent_call_gid(const struct assent_call *call)
{
	return call ? call->gid : "";
}

const char *assent_call_branch(const struct assent_call *call)
{
	return call ? call->branch : "";
}

const char *assent_call_op(const struct assent_call *call)
{
	return call ? call->op : "";
}

int assent_call_attempt(const struct assent_call *call)
{
	return call ? call->attempt : 0;
}

int assent_call_one_phase(const struct assent_call *call)
{
	return call ? call->one_phase : 0;
}

int assent_call_confirmed(const struct assent_call *call)
{
	return call ? call->confirmed : 0;
}

int assent_call_remaining_ms(const struct assent_call *call)
{
	int64_t left = call ? (call->until_us - sdk_now_us()) / 1000 : 0;

	return left > 0 ? (int)left : 0;
}

const char *assent_call_body(const struct assent_call *call, size_t *len)
{
	if (len)
		*len = call ? call->len : 0;
	return call ? call->body : "";
}
