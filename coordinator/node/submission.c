#include "node/submission.h"

#include <stdio.h>
#include <string.h>

#include "node/decoder.h"

#define MS_US           INT64_C(1000)
#define LABEL_KEY_MAX   63
#define LABEL_VALUE_MAX 255

static const char *const top_members[] = {"gid",    "mode",  "branches", "timeout_ms",
                                          "labels", "retry", NULL};
static const char *const retry_members[] = {"initial_ms", "factor", "cap_ms", "alert_after", NULL};

bool gid_valid(const char *gid, size_t len)
{
	return decoder_identifier_valid(gid, len, GID_MAX, "._:~-");
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

static enum problem read_branches(struct decoder *d, const struct json_value *root,
                                  struct submission *out)
{
	const struct json_value *v = json_member(root, "branches");
	enum problem p;

	if (!v)
		return decoder_reject(d, PROBLEM_MISSING_MEMBER, "branches",
		                      "a transaction needs its branches");
	p = decoder_expect_type(d, v, JSON_T_ARRAY, "branches");
	if (p)
		return p;
	if (json_size(v) == 0 || json_size(v) > TXN_BRANCH_MAX)
		return decoder_reject(d, PROBLEM_BRANCH_COUNT, "branches",
		                      "%zu branches; a transaction has 1 to %d", json_size(v),
		                      TXN_BRANCH_MAX);
	out->branch = arena_alloc(d->arena, json_size(v) * sizeof *out->branch);
	if (!out->branch)
		return decoder_out_of_memory(d);
	for (unsigned i = 0; i < json_size(v); i++) {
		(void)snprintf(d->path, sizeof d->path, "/branches/%u", i);
		p = branch_decode(d, json_at(v, i), out, i, i);
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
		p = decoder_expect_type(d, v, JSON_T_OBJECT, "retry");
		if (p)
			return p;
		(void)snprintf(d->path, sizeof d->path, "/retry");
		p = decoder_check_members(d, v, retry_members);
		if (p == PROBLEM_NONE)
			p = decoder_read_int(d, v, "initial_ms", (int64_t[]){10, 60000},
			                     &initial_ms);
		if (p == PROBLEM_NONE)
			p = decoder_read_int(d, v, "factor", (int64_t[]){1, 10}, &factor);
		if (p == PROBLEM_NONE)
			p = decoder_read_int(d, v, "cap_ms", (int64_t[]){100, 3600000}, &cap_ms);
		if (p == PROBLEM_NONE)
			p = decoder_read_int(d, v, "alert_after", (int64_t[]){1, 1000},
			                     &alert_after);
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
	p = decoder_expect_type(d, v, JSON_T_STR, "gid");
	if (p)
		return p;
	s = json_str(v, &len);
	if (!gid_valid(s, len))
		return decoder_reject(
		    d, PROBLEM_INVALID_IDENTIFIER, "gid",
		    "a gid is 1 to 128 letters, digits, '.', '_', ':', '~' or '-'");
	return decoder_copy_str(d, s, len, out);
}

static enum problem read_mode(struct decoder *d, const struct json_value *root, enum txn_mode *out)
{
	const struct json_value *v = json_member(root, "mode");
	enum problem p;
	const char *s;
	size_t len;

	if (!v)
		return decoder_reject(d, PROBLEM_MISSING_MEMBER, "mode",
		                      "name the commit protocol, for example \"2pc\"");
	p = decoder_expect_type(d, v, JSON_T_STR, "mode");
	if (p)
		return p;
	s = json_str(v, &len);
	*out = txn_mode_parse(s);
	if (!*out)
		return decoder_reject(d, PROBLEM_MODE_NOT_SUPPORTED, "mode",
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

	p = decoder_expect_type(d, root, JSON_T_OBJECT, NULL);
	if (p == PROBLEM_NONE)
		p = decoder_check_members(d, root, top_members);
	if (p == PROBLEM_NONE)
		p = read_gid(d, root, &out->gid);
	if (p == PROBLEM_NONE)
		p = read_mode(d, root, &out->mode);
	if (p == PROBLEM_NONE)
		p = decoder_read_int(d, root, "timeout_ms", (int64_t[]){1, 3600000}, &timeout_ms);
	if (p == PROBLEM_NONE)
		p = decoder_read_pairs(d, root, &labels, &out->label, &out->n_label);
	if (p == PROBLEM_NONE)
		p = read_retry(d, root, &out->retry);
	if (p == PROBLEM_NONE)
		p = read_branches(d, root, out);
	out->timeout_us = timeout_ms * MS_US;
	return p;
}

enum problem submission_decode(const char *text, size_t len, const struct registry *registry,
                               struct arena *arena, struct submission *out,
                               struct complaint *complaint)
{
	static const struct json_raw_rule payloads = {"branches", "payload"};
	struct decoder d = {
	    .text = text, .registry = registry, .arena = arena, .complaint = complaint};
	struct json_doc *doc;
	char why[160];
	enum problem p;
	int rc;

	memset(out, 0, sizeof *out);
	rc = json_parse(text, len, &payloads, &doc, why, sizeof why);
	if (rc == ERR_NOMEM)
		return decoder_out_of_memory(&d);
	if (rc < 0)
		return decoder_reject(&d, PROBLEM_MALFORMED_JSON, NULL, "%s", why);
	d.doc = doc;
	p = read_root(&d, json_root(doc), out);
	json_free(doc);
	return p;
}
