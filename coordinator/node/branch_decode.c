/*
 * branch_decode.c - one branch of a submission, or of a later enlist request.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "node/decoder.h"

#define MS_US        INT64_C(1000)
#define HEADER_BYTES 1024

static const char *const branch_members[] = {
    "id", "participant", "payload", "timeout_ms", "headers", "ops", "after", "on_timeout", NULL,
};

/* Headers that the coordinator or the HTTP client sets itself. */
static const char *const own_headers[] = {
    "Host",    "Content-Length",  "Content-Type",     "Connection", "Transfer-Encoding", "Expect",
    "Accept",  "Idempotency-Key", "traceparent",      "User-Agent", "Upgrade",           "TE",
    "Trailer", "Keep-Alive",      "Proxy-Connection", NULL,
};

/* Most branches have none, and share this. */
static const char *const no_op_url[OP_MAX];

/* registry_check for what may be a name, registry_check_url for an operation's address. */
typedef int address_check_fn(const struct registry *r, const char *s, size_t len, char *why,
                             size_t size);

static enum problem read_address(struct decoder *d, const struct json_value *object,
                                 const char *member, address_check_fn *check, const char **out)
{
	const struct json_value *v = json_member(object, member);
	char why[256];
	enum problem p;
	const char *s;
	size_t len;
	int rc;

	p = decoder_expect_type(d, v, JSON_T_STR, member);
	if (p)
		return p;
	s = json_str(v, &len);
	if (!d->registry)
		return decoder_copy_str(d, s, len, out);
	rc = check(d->registry, s, len, why, sizeof why);
	if (rc == ERR_NOTFOUND)
		return decoder_reject(d, PROBLEM_PARTICIPANT_UNKNOWN, member, "%s", why);
	if (rc == ERR_DENIED)
		return decoder_reject(d, PROBLEM_PARTICIPANT_NOT_ALLOWED, member, "%s", why);
	if (rc < 0)
		return decoder_reject(d, PROBLEM_INVALID_IDENTIFIER, member, "%s", why);
	return decoder_copy_str(d, s, len, out);
}

/* The operations of a mode; of every mode when it is not known yet. */
static size_t list_ops(enum txn_mode mode, const char *name[OP_MAX + 2], enum txn_op op[OP_MAX])
{
	size_t n = 0;

	for (int i = OP_NONE + 1; i < OP_MAX; i++) {
		if ((mode && !txn_mode_has(mode, (enum txn_op)i)) || i == OP_PRE_ABORT)
			continue;
		op[n] = (enum txn_op)i;
		name[n++] = txn_op_str((enum txn_op)i);
	}
	name[n] = !mode || mode == MODE_THREE_PHASE ? "status" : NULL;
	name[n + 1] = NULL;
	return n;
}

static enum problem read_ops(struct decoder *d, const struct json_value *branch, enum txn_mode mode,
                             struct branch_spec *out)
{
	const struct json_value *ops = json_member(branch, "ops");
	const char *op_members[OP_MAX + 2], **url;
	size_t path_len = strlen(d->path);
	enum txn_op op[OP_MAX];
	enum problem p;
	size_t n;

	if (!ops)
		return PROBLEM_NONE;
	p = decoder_expect_type(d, ops, JSON_T_OBJECT, "ops");
	if (p)
		return p;
	url = arena_alloc(d->arena, OP_MAX * sizeof(*url));
	if (!url)
		return decoder_out_of_memory(d);
	out->op_url = url;
	assert(path_len + sizeof "/ops" <= sizeof d->path);
	memcpy(d->path + path_len, "/ops", sizeof "/ops");
	n = list_ops(mode, op_members, op);
	p = decoder_check_members(d, ops, op_members);
	for (size_t i = 0; i < n && p == PROBLEM_NONE; i++) {
		if (json_member(ops, op_members[i]))
			p = read_address(d, ops, op_members[i], registry_check_url, &url[op[i]]);
	}
	if (p == PROBLEM_NONE && op_members[n] && json_member(ops, op_members[n]))
		p = read_address(d, ops, op_members[n], registry_check_url, &out->status_url);
	url[OP_PRE_ABORT] = url[OP_ABORT];
	d->path[path_len] = '\0';
	return p;
}

/* RFC 9110 field names (tokens) and printable values; none that the coordinator sets itself. */
static const char *header_fault(const char *name, const char *value, size_t value_len)
{
	if (!decoder_identifier_valid(name, strlen(name), 64, "!#$%&'*+-.^_`|~"))
		return "a header name is 1 to 64 letters, digits or !#$%&'*+-.^_`|~";
	if (strncasecmp(name, "assent-", 7) == 0 || strncasecmp(name, "webhook-", 8) == 0)
		return "headers that begin with Assent- or webhook- are set by the coordinator";
	for (size_t i = 0; own_headers[i]; i++) {
		if (strcasecmp(own_headers[i], name) == 0)
			return "this header is set by the coordinator";
	}
	if (value_len > HEADER_BYTES)
		return "a header value has at most 1024 bytes";
	for (size_t i = 0; i < value_len; i++) {
		if ((unsigned char)value[i] < 0x20 || (unsigned char)value[i] > 0x7e)
			return "a header value is printable ASCII";
	}
	return NULL;
}

static enum problem read_branch_id(struct decoder *d, const struct json_value *branch,
                                   const struct submission *sub, unsigned index)
{
	const struct json_value *v = json_member(branch, "id");
	enum problem p = decoder_expect_type(d, v, JSON_T_STR, "id");
	const char *s;
	size_t len;

	if (p)
		return p;
	s = json_str(v, &len);
	if (!decoder_identifier_valid(s, len, BRANCH_ID_MAX, "._~-"))
		return decoder_reject(
		    d, PROBLEM_INVALID_IDENTIFIER, "id",
		    "a branch id is 1 to 32 letters, digits, '.', '_', '~' or '-'");
	for (unsigned i = 0; i < index; i++) {
		if (strcmp(sub->branch[i].id, s) == 0)
			return decoder_reject(d, PROBLEM_DUPLICATE_BRANCH, "id",
			                      "branch %u has the id \"%s\" already", i, s);
	}
	return decoder_copy_str(d, s, len, &sub->branch[index].id);
}

enum problem branch_decode(struct decoder *d, const struct json_value *v,
                           const struct submission *sub, unsigned index, size_t raw)
{
	static const struct pair_rule headers = {"headers", BRANCH_HEADER_MAX,
	                                         PROBLEM_INVALID_HEADER, header_fault};
	struct branch_spec *b = &sub->branch[index];
	struct json_span payload = json_raw(d->doc, raw);
	int64_t timeout_ms = 3000;
	enum problem p;

	b->op_url = no_op_url;
	p = decoder_expect_type(d, v, JSON_T_OBJECT, NULL);
	if (p == PROBLEM_NONE)
		p = decoder_check_members(d, v, branch_members);
	if (p)
		return p;
	if (!json_member(v, "id"))
		return decoder_reject(d, PROBLEM_MISSING_MEMBER, "id", "every branch needs an id");
	if (!json_member(v, "participant"))
		return decoder_reject(d, PROBLEM_MISSING_MEMBER, "participant",
		                      "every branch needs the address of its participant");
	if (sub->interactive && json_member(v, "after"))
		return decoder_reject(d, PROBLEM_UNKNOWN_MEMBER, "after",
		                      "the branches of an interactive transaction have no order: "
		                      "its initiator enlists and calls them in its own");
	p = read_branch_id(d, v, sub, index);
	if (p == PROBLEM_NONE)
		p = read_address(d, v, "participant", registry_check, &b->participant);
	if (p == PROBLEM_NONE)
		p = decoder_read_int(d, v, "timeout_ms", (int64_t[]){1, 60000}, &timeout_ms);
	if (p == PROBLEM_NONE)
		p = decoder_read_pairs(d, v, &headers, &b->header, &b->n_header);
	if (p == PROBLEM_NONE)
		p = read_ops(d, v, sub->mode, b);
	if (p == PROBLEM_NONE)
		p = phase_decode_branch(d, v, sub->mode, b);
	b->timeout_us = timeout_ms * MS_US;
	if (payload.len) {
		b->payload = d->text + payload.at;
		b->payload_len = payload.len;
	}
	return p;
}
