#include "node/submission.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/near.h"
#include "io/json.h"

#define MS_US           INT64_C(1000)
#define LABEL_KEY_MAX   63
#define LABEL_VALUE_MAX 255
#define HEADER_BYTES    1024

/* Where the decoder is: what it reads, and the path for complaints. */
struct decoder {
	const char *text;
	const struct json_doc *doc;
	const struct address_list *allow; /* NULL: trusted */
	struct arena *arena;
	struct complaint *complaint;
	char path[96]; /* JSON pointer of the object being read */
};

static const char *const top_members[] = {"gid",    "mode",  "branches", "timeout_ms",
                                          "labels", "retry", NULL};
static const char *const branch_members[] = {
    "id", "participant", "payload", "timeout_ms", "headers", "ops", NULL,
};
static const char *const retry_members[] = {"initial_ms", "factor", "cap_ms", "alert_after", NULL};
static const char *const op_members[] = {"prepare", "commit", "rollback", NULL};

/* Headers that the coordinator or the HTTP client sets itself. */
static const char *const own_headers[] = {
    "Host",    "Content-Length",  "Content-Type",     "Connection", "Transfer-Encoding", "Expect",
    "Accept",  "Idempotency-Key", "traceparent",      "User-Agent", "Upgrade",           "TE",
    "Trailer", "Keep-Alive",      "Proxy-Connection", NULL,
};

/* RFC 6901: ~ and / in a name are written ~0 and ~1. A long name is cut. */
static void append_to_pointer(char *pointer, size_t size, const char *member)
{
	size_t n = strlen(pointer);

	for (const char *c = member; *c && c < member + 24 && n + 3 < size; c++) {
		if (*c == '~' || *c == '/')
			pointer[n++] = '~';
		pointer[n++] = (char)(*c == '~' ? '0' : *c == '/' ? '1' : *c);
	}
	pointer[n] = '\0';
}

static enum problem reject(struct decoder *d, enum problem p, const char *member, const char *fmt,
                           ...) __attribute__((format(printf, 4, 5)));

static enum problem reject(struct decoder *d, enum problem p, const char *member, const char *fmt,
                           ...)
{
	char pointer[sizeof d->complaint->pointer];
	char detail[sizeof d->complaint->detail];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(detail, sizeof detail, fmt, ap);
	va_end(ap);
	(void)snprintf(pointer, sizeof pointer, "%s%s", d->path, member ? "/" : "");
	if (member)
		append_to_pointer(pointer, sizeof pointer, member);
	return complain(d->complaint, p, pointer, "%s", detail);
}

static enum problem out_of_memory(struct decoder *d)
{
	return reject(d, PROBLEM_OVERLOADED, NULL, "out of memory; try again later");
}

static enum problem expect_type(struct decoder *d, const struct json_value *v, enum json_type want,
                                const char *member)
{
	if (json_type(v) == want)
		return PROBLEM_NONE;
	return reject(d, PROBLEM_WRONG_TYPE, member, "this must be %s, not %s", json_type_str(want),
	              json_type_str(json_type(v)));
}

static enum problem check_members(struct decoder *d, const struct json_value *object,
                                  const char *const *known)
{
	const struct json_value *value;
	const char *name;
	void *iter = NULL;

	while (json_next(object, &iter, &name, &value)) {
		const char *near;
		size_t i = 0;

		while (known[i] && strcmp(known[i], name) != 0)
			i++;
		if (known[i])
			continue;
		near = near_match(name, known);
		if (near)
			return reject(d, PROBLEM_UNKNOWN_MEMBER, name,
			              "there is no member \"%.64s\" here; did you mean \"%s\"?",
			              name, near);
		return reject(d, PROBLEM_UNKNOWN_MEMBER, name, "there is no member \"%.64s\" here",
		              name);
	}
	return PROBLEM_NONE;
}

/* *out stays as it is (the default) when the member is absent. */
static enum problem read_int(struct decoder *d, const struct json_value *object, const char *member,
                             const int64_t range[2], int64_t *out)
{
	const struct json_value *v = json_member(object, member);
	enum problem p;

	if (!v)
		return PROBLEM_NONE;
	p = expect_type(d, v, JSON_T_INT, member);
	if (p)
		return p;
	if (json_int(v) < range[0] || json_int(v) > range[1])
		return reject(d, PROBLEM_OUT_OF_RANGE, member, "%lld is not between %lld and %lld",
		              (long long)json_int(v), (long long)range[0], (long long)range[1]);
	*out = json_int(v);
	return PROBLEM_NONE;
}

static bool identifier_valid(const char *s, size_t len, size_t max, const char *extra)
{
	if (len == 0 || len > max)
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = s[i];
		bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		             (c >= '0' && c <= '9');

		if (!alnum && (c == '\0' || !strchr(extra, c)))
			return false;
	}
	return true;
}

bool gid_valid(const char *gid, size_t len)
{
	return identifier_valid(gid, len, GID_MAX, "._:~-");
}

static enum problem copy_str(struct decoder *d, const char *s, size_t len, const char **out)
{
	*out = arena_strndup(d->arena, s, len);
	return *out ? PROBLEM_NONE : out_of_memory(d);
}

static enum problem read_address(struct decoder *d, const struct json_value *object,
                                 const char *member, const char **out)
{
	const struct json_value *v = json_member(object, member);
	char why[160];
	enum problem p;
	const char *s;
	size_t len;
	int rc;

	p = expect_type(d, v, JSON_T_STR, member);
	if (p)
		return p;
	s = json_str(v, &len);
	rc = d->allow ? address_check(d->allow, s, len, why, sizeof why) : 0;
	if (rc == ERR_DENIED)
		return reject(d, PROBLEM_PARTICIPANT_NOT_ALLOWED, member, "%s", why);
	if (rc < 0)
		return reject(d, PROBLEM_INVALID_IDENTIFIER, member, "%s", why);
	return copy_str(d, s, len, out);
}

static enum problem read_ops(struct decoder *d, const struct json_value *branch,
                             struct branch_spec *out)
{
	static const enum txn_op op[] = {OP_PREPARE, OP_COMMIT, OP_ROLLBACK};
	const struct json_value *ops = json_member(branch, "ops");
	size_t path_len = strlen(d->path);
	enum problem p;

	if (!ops)
		return PROBLEM_NONE;
	p = expect_type(d, ops, JSON_T_OBJECT, "ops");
	if (p)
		return p;
	assert(path_len + sizeof "/ops" <= sizeof d->path);
	memcpy(d->path + path_len, "/ops", sizeof "/ops");
	p = check_members(d, ops, op_members);
	for (size_t i = 0; op_members[i] && p == PROBLEM_NONE; i++) {
		if (json_member(ops, op_members[i]))
			p = read_address(d, ops, op_members[i], &out->op_url[op[i]]);
	}
	d->path[path_len] = '\0';
	return p;
}

/* RFC 9110 field names (tokens) and printable values; none that the coordinator sets itself. */
static const char *header_fault(const char *name, const char *value, size_t value_len)
{
	if (!identifier_valid(name, strlen(name), 64, "!#$%&'*+-.^_`|~"))
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

static const char *label_fault(const char *name, const char *value, size_t value_len)
{
	size_t len = strlen(name);

	(void)value;
	if (len == 0 || len > LABEL_KEY_MAX ||
	    strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_.-") != len)
		return "a label's name is 1 to 63 of a-z, 0-9, _, . and -";
	if (value_len > LABEL_VALUE_MAX)
		return "a label's value has at most 255 bytes";
	return NULL;
}

typedef const char *pair_fault_fn(const char *name, const char *value, size_t value_len);

struct pair_rule {
	const char *member;
	size_t max;
	enum problem problem;
	pair_fault_fn *fault;
};

/* An object of strings: labels and headers. */
static enum problem read_pairs(struct decoder *d, const struct json_value *parent,
                               const struct pair_rule *rule, struct submission_pair **out,
                               size_t *n)
{
	const struct json_value *object = json_member(parent, rule->member);
	const struct json_value *value;
	const char *name;
	void *iter = NULL;
	enum problem p;

	if (!object)
		return PROBLEM_NONE;
	p = expect_type(d, object, JSON_T_OBJECT, rule->member);
	if (p)
		return p;
	if (json_size(object) > rule->max)
		return reject(d, PROBLEM_OUT_OF_RANGE, rule->member, "at most %zu members",
		              rule->max);
	*out = arena_alloc(d->arena, (json_size(object) + 1) * sizeof **out);
	if (!*out)
		return out_of_memory(d);
	while (json_next(object, &iter, &name, &value)) {
		struct submission_pair *pair = &(*out)[*n];
		const char *fault, *s;
		size_t len;

		p = expect_type(d, value, JSON_T_STR, rule->member);
		if (p)
			return p;
		s = json_str(value, &len);
		fault = rule->fault(name, s, len);
		if (fault)
			return reject(d, rule->problem, rule->member, "\"%.64s\": %s", name, fault);
		p = copy_str(d, name, strlen(name), &pair->name);
		if (p == PROBLEM_NONE)
			p = copy_str(d, s, len, &pair->value);
		if (p)
			return p;
		++*n;
	}
	return PROBLEM_NONE;
}

static enum problem read_branch_id(struct decoder *d, const struct json_value *branch,
                                   const struct submission *sub, unsigned index)
{
	const struct json_value *v = json_member(branch, "id");
	enum problem p = expect_type(d, v, JSON_T_STR, "id");
	const char *s;
	size_t len;

	if (p)
		return p;
	s = json_str(v, &len);
	if (!identifier_valid(s, len, BRANCH_ID_MAX, "._~-"))
		return reject(d, PROBLEM_INVALID_IDENTIFIER, "id",
		              "a branch id is 1 to 32 letters, digits, '.', '_', '~' or '-'");
	for (unsigned i = 0; i < index; i++) {
		if (strcmp(sub->branch[i].id, s) == 0)
			return reject(d, PROBLEM_DUPLICATE_BRANCH, "id",
			              "branch %u has the id \"%s\" already", i, s);
	}
	return copy_str(d, s, len, &sub->branch[index].id);
}

static enum problem read_branch(struct decoder *d, const struct json_value *v,
                                const struct submission *sub, unsigned index)
{
	static const struct pair_rule headers = {"headers", BRANCH_HEADER_MAX,
	                                         PROBLEM_INVALID_HEADER, header_fault};
	struct branch_spec *b = &sub->branch[index];
	struct json_span payload = json_raw(d->doc, index);
	int64_t timeout_ms = 3000;
	enum problem p;

	p = expect_type(d, v, JSON_T_OBJECT, NULL);
	if (p == PROBLEM_NONE)
		p = check_members(d, v, branch_members);
	if (p)
		return p;
	if (!json_member(v, "id"))
		return reject(d, PROBLEM_MISSING_MEMBER, "id", "every branch needs an id");
	if (!json_member(v, "participant"))
		return reject(d, PROBLEM_MISSING_MEMBER, "participant",
		              "every branch needs the address of its participant");
	p = read_branch_id(d, v, sub, index);
	if (p == PROBLEM_NONE)
		p = read_address(d, v, "participant", &b->participant);
	if (p == PROBLEM_NONE)
		p = read_int(d, v, "timeout_ms", (int64_t[]){1, 60000}, &timeout_ms);
	if (p == PROBLEM_NONE)
		p = read_pairs(d, v, &headers, &b->header, &b->n_header);
	if (p == PROBLEM_NONE)
		p = read_ops(d, v, b);
	b->timeout_us = timeout_ms * MS_US;
	if (payload.len) {
		b->payload = d->text + payload.at;
		b->payload_len = payload.len;
	}
	return p;
}

static enum problem read_branches(struct decoder *d, const struct json_value *root,
                                  struct submission *out)
{
	const struct json_value *v = json_member(root, "branches");
	enum problem p;

	if (!v)
		return reject(d, PROBLEM_MISSING_MEMBER, "branches",
		              "a transaction needs its branches");
	p = expect_type(d, v, JSON_T_ARRAY, "branches");
	if (p)
		return p;
	if (json_size(v) == 0 || json_size(v) > TXN_BRANCH_MAX)
		return reject(d, PROBLEM_BRANCH_COUNT, "branches",
		              "%zu branches; a transaction has 1 to %d", json_size(v),
		              TXN_BRANCH_MAX);
	out->branch = arena_alloc(d->arena, json_size(v) * sizeof *out->branch);
	if (!out->branch)
		return out_of_memory(d);
	for (unsigned i = 0; i < json_size(v); i++) {
		(void)snprintf(d->path, sizeof d->path, "/branches/%u", i);
		p = read_branch(d, json_at(v, i), out, i);
		if (p)
			return p;
		out->n_branch = i + 1;
	}
	d->path[0] = '\0';
	return PROBLEM_NONE;
}

static enum problem read_retry(struct decoder *d, const struct json_value *root,
                               struct retry_policy *out)
{
	const struct json_value *v = json_member(root, "retry");
	int64_t initial_ms = 100, factor = 2, cap_ms = 60000, alert_after = 6;
	enum problem p = PROBLEM_NONE;

	if (v) {
		p = expect_type(d, v, JSON_T_OBJECT, "retry");
		if (p)
			return p;
		(void)snprintf(d->path, sizeof d->path, "/retry");
		p = check_members(d, v, retry_members);
		if (p == PROBLEM_NONE)
			p = read_int(d, v, "initial_ms", (int64_t[]){10, 60000}, &initial_ms);
		if (p == PROBLEM_NONE)
			p = read_int(d, v, "factor", (int64_t[]){1, 10}, &factor);
		if (p == PROBLEM_NONE)
			p = read_int(d, v, "cap_ms", (int64_t[]){100, 3600000}, &cap_ms);
		if (p == PROBLEM_NONE)
			p = read_int(d, v, "alert_after", (int64_t[]){1, 1000}, &alert_after);
		d->path[0] = '\0';
	}
	*out = (struct retry_policy){.initial_us = initial_ms * MS_US,
	                             .factor = (uint32_t)factor,
	                             .cap_us = cap_ms * MS_US,
	                             .alert_after = (uint32_t)alert_after};
	return p;
}

static enum problem read_gid(struct decoder *d, const struct json_value *root, const char **out)
{
	const struct json_value *v = json_member(root, "gid");
	enum problem p;
	const char *s;
	size_t len;

	if (!v)
		return PROBLEM_NONE;
	p = expect_type(d, v, JSON_T_STR, "gid");
	if (p)
		return p;
	s = json_str(v, &len);
	if (!gid_valid(s, len))
		return reject(d, PROBLEM_INVALID_IDENTIFIER, "gid",
		              "a gid is 1 to 128 letters, digits, '.', '_', ':', '~' or '-'");
	return copy_str(d, s, len, out);
}

static enum problem read_mode(struct decoder *d, const struct json_value *root, enum txn_mode *out)
{
	const struct json_value *v = json_member(root, "mode");
	enum problem p;
	const char *s;
	size_t len;

	if (!v)
		return reject(d, PROBLEM_MISSING_MEMBER, "mode",
		              "name the commit protocol, for example \"2pc\"");
	p = expect_type(d, v, JSON_T_STR, "mode");
	if (p)
		return p;
	s = json_str(v, &len);
	*out = txn_mode_parse(s);
	if (!*out)
		return reject(d, PROBLEM_MODE_NOT_SUPPORTED, "mode",
		              "\"%.32s\" is not a mode of this version; it has \"2pc\"", s);
	return PROBLEM_NONE;
}

static enum problem read_root(struct decoder *d, const struct json_value *root,
                              struct submission *out)
{
	static const struct pair_rule labels = {"labels", LABEL_MAX, PROBLEM_OUT_OF_RANGE,
	                                        label_fault};
	int64_t timeout_ms = 10000;
	enum problem p;

	p = expect_type(d, root, JSON_T_OBJECT, NULL);
	if (p == PROBLEM_NONE)
		p = check_members(d, root, top_members);
	if (p == PROBLEM_NONE)
		p = read_gid(d, root, &out->gid);
	if (p == PROBLEM_NONE)
		p = read_mode(d, root, &out->mode);
	if (p == PROBLEM_NONE)
		p = read_int(d, root, "timeout_ms", (int64_t[]){1, 3600000}, &timeout_ms);
	if (p == PROBLEM_NONE)
		p = read_pairs(d, root, &labels, &out->label, &out->n_label);
	if (p == PROBLEM_NONE)
		p = read_retry(d, root, &out->retry);
	if (p == PROBLEM_NONE)
		p = read_branches(d, root, out);
	out->timeout_us = timeout_ms * MS_US;
	return p;
}

enum problem submission_decode(const char *text, size_t len, const struct address_list *allow,
                               struct arena *arena, struct submission *out,
                               struct complaint *complaint)
{
	static const struct json_raw_rule payloads = {"branches", "payload"};
	struct decoder d = {.text = text, .allow = allow, .arena = arena, .complaint = complaint};
	struct json_doc *doc;
	char why[160];
	enum problem p;
	int rc;

	memset(out, 0, sizeof *out);
	rc = json_parse(text, len, &payloads, &doc, why, sizeof why);
	if (rc == ERR_NOMEM)
		return out_of_memory(&d);
	if (rc < 0)
		return reject(&d, PROBLEM_MALFORMED_JSON, NULL, "%s", why);
	d.doc = doc;
	p = read_root(&d, json_root(doc), out);
	json_free(doc);
	return p;
}
