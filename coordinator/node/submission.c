#include "node/submission.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "node/decoder.h"

#define MS_US           INT64_C(1000)
#define LABEL_KEY_MAX   63
#define LABEL_VALUE_MAX 255

static const char *const top_members[] = {"gid",
                                          "mode",
                                          "branches",
                                          "timeout_ms",
                                          "labels",
                                          "retry",
                                          "interactive",
                                          "vote_timeout_ms",
                                          "on_confirm_failure",
                                          "recovery",
                                          "phase_timeout_ms",
                                          "hold_ms",
                                          NULL};
static const char *const retry_members[] = {"initial_ms", "factor", "cap_ms", "alert_after", NULL};

bool gid_valid(const char *gid, size_t len)
{
	/* In a URL, "." and ".." as a segment are taken away by whoever asks. */
	if (len <= 2 && memcmp(gid, "..", len) == 0)
		return false;
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

/* Room for `n` branches in all; what is there stays. */
static enum problem make_room(struct decoder *d, struct submission *sub, size_t n)
{
	struct branch_spec *grown;
	size_t cap = sub->branch_cap ? 2 * (size_t)sub->branch_cap : 4;

	if (n <= sub->branch_cap)
		return PROBLEM_NONE;
	if (cap < n || !sub->interactive)
		cap = n;
	grown = arena_alloc(d->arena, cap * sizeof *grown);
	if (!grown)
		return decoder_out_of_memory(d);
	if (sub->n_branch)
		memcpy(grown, sub->branch, sub->n_branch * sizeof *grown);
	sub->branch = grown;
	sub->branch_cap = (unsigned)cap;
	return PROBLEM_NONE;
}

static enum problem read_branches(struct decoder *d, const struct json_value *root,
                                  struct submission *out)
{
	const struct json_value *v = json_member(root, "branches");
	size_t min = out->interactive ? 0 : 1;
	enum problem p;

	if (!v && out->interactive)
		return PROBLEM_NONE;
	if (!v)
		return decoder_reject(d, PROBLEM_MISSING_MEMBER, "branches",
		                      "a transaction needs its branches");
	p = decoder_expect_type(d, v, JSON_T_ARRAY, "branches");
	if (p)
		return p;
	if (json_size(v) < min || json_size(v) > TXN_BRANCH_MAX)
		return decoder_reject(d, PROBLEM_BRANCH_COUNT, "branches",
		                      "%zu branches; a transaction has %zu to %d", json_size(v),
		                      min, TXN_BRANCH_MAX);
	p = make_room(d, out, json_size(v));
	for (unsigned i = 0; p == PROBLEM_NONE && i < json_size(v); i++) {
		(void)snprintf(d->path, sizeof d->path, "/branches/%u", i);
		p = branch_decode(d, json_at(v, i), out, i, i);
		out->n_branch = i + 1;
	}
	if (p == PROBLEM_NONE)
		d->path[0] = '\0';
	if (p == PROBLEM_NONE)
		p = order_decode(d, v, out);
	if (p || !d->registry)
		return p;
	return submission_check_peers(out, NULL, d->registry, d->complaint);
}

/* When is it closed, and how long may votes take after that: only interactive transactions ask. */
static enum problem read_interactive(struct decoder *d, const struct json_value *root,
                                     struct submission *out)
{
	const struct json_value *v = json_member(root, "interactive");
	int64_t vote_timeout_ms = 10000;
	enum problem p = PROBLEM_NONE;

	if (v)
		p = decoder_expect_type(d, v, JSON_T_BOOL, "interactive");
	if (p)
		return p;
	out->interactive = v && json_bool(v);
	if (out->interactive && out->mode == MODE_SAGA)
		return decoder_reject(d, PROBLEM_OUT_OF_RANGE, "interactive",
		                      "the steps of a saga are called by the coordinator alone");
	if (!out->interactive && json_member(root, "vote_timeout_ms"))
		return decoder_reject(
		    d, PROBLEM_UNKNOWN_MEMBER, "vote_timeout_ms",
		    "only interactive transactions have it; here timeout_ms is the "
		    "time for the votes");
	if (out->mode != MODE_TWO_PHASE && out->mode != MODE_THREE_PHASE &&
	    json_member(root, "vote_timeout_ms"))
		return decoder_reject(d, PROBLEM_UNKNOWN_MEMBER, "vote_timeout_ms",
		                      "nobody votes after the commit in this mode");
	p = decoder_read_int(d, root, "vote_timeout_ms", (int64_t[]){1, 3600000}, &vote_timeout_ms);
	out->vote_timeout_us = vote_timeout_ms * MS_US;
	return p;
}

static enum problem read_options(struct decoder *d, const struct json_value *root,
                                 struct submission *out)
{
	static const char *const confirm[] = {"retry", "cancel"};
	static const char *const recovery[] = {"backward", "forward"};
	enum problem p;

	if (out->mode != MODE_TCC && json_member(root, "on_confirm_failure"))
		return decoder_reject(d, PROBLEM_UNKNOWN_MEMBER, "on_confirm_failure",
		                      "only mode \"tcc\" has confirms");
	if (out->mode != MODE_SAGA && json_member(root, "recovery"))
		return decoder_reject(d, PROBLEM_UNKNOWN_MEMBER, "recovery",
		                      "only mode \"saga\" goes forward or back");
	p = decoder_read_option(d, root, "on_confirm_failure", confirm, &out->undo_confirms);
	return p ? p : decoder_read_option(d, root, "recovery", recovery, &out->forward);
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
		    "a gid is 1 to 128 letters, digits, '.', '_', ':', '~' or '-', and "
		    "neither \".\" nor \"..\"");
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
		                      "name the protocol: \"2pc\", \"3pc\", \"tcc\" or \"saga\"");
	p = decoder_expect_type(d, v, JSON_T_STR, "mode");
	if (p)
		return p;
	s = json_str(v, &len);
	*out = txn_mode_parse(s);
	if (!*out)
		return decoder_reject(d, PROBLEM_MODE_NOT_SUPPORTED, "mode",
		                      "\"%.32s\" is not a mode of this version; it has \"2pc\", "
		                      "\"3pc\", \"tcc\" and \"saga\"",
		                      s);
	return PROBLEM_NONE;
}

static enum problem read_root(struct decoder *d, const struct json_value *root,
                              struct submission *out)
{
	static const struct pair_rule labels = {"labels", LABEL_MAX, PROBLEM_OUT_OF_RANGE,
	                                        label_fault};
	int64_t timeout_ms;
	enum problem p;

	p = decoder_expect_type(d, root, JSON_T_OBJECT, NULL);
	if (p == PROBLEM_NONE)
		p = decoder_check_members(d, root, top_members);
	if (p == PROBLEM_NONE)
		p = read_gid(d, root, &out->gid);
	if (p == PROBLEM_NONE)
		p = read_mode(d, root, &out->mode);
	if (p == PROBLEM_NONE)
		p = read_interactive(d, root, out);
	if (p == PROBLEM_NONE)
		p = read_options(d, root, out);
	if (p == PROBLEM_NONE)
		p = phase_decode(d, root, out);
	timeout_ms = out->interactive ? 60000 : 10000;
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

const struct branch_spec *submission_find(const struct submission *sub, const char *id)
{
	for (unsigned i = 0; i < sub->n_branch; i++) {
		if (strcmp(sub->branch[i].id, id) == 0)
			return &sub->branch[i];
	}
	return NULL;
}

/* The branch stands alone in its text; in a submission around it, its payload is found. */
static const char *wrap(struct arena *arena, const char *text, size_t len, size_t *wrapped_len)
{
	static const char head[] = "{\"branches\":[", tail[] = "]}";
	char *all = arena_alloc(arena, sizeof head + len + sizeof tail);

	if (!all)
		return NULL;
	memcpy(all, head, sizeof head - 1);
	memcpy(all + sizeof head - 1, text, len);
	memcpy(all + sizeof head - 1 + len, tail, sizeof tail);
	*wrapped_len = sizeof head - 1 + len + sizeof tail - 1;
	return all;
}

static enum problem append_branch(struct decoder *d, const struct json_value *v,
                                  struct submission *sub)
{
	enum problem p = decoder_expect_type(d, v, JSON_T_OBJECT, NULL);

	if (p)
		return p;
	if (sub->n_branch == TXN_BRANCH_MAX)
		return decoder_reject(d, PROBLEM_BRANCH_COUNT, NULL,
		                      "the transaction has %d branches already", TXN_BRANCH_MAX);
	p = make_room(d, sub, sub->n_branch + 1);
	if (p)
		return p;
	memset(&sub->branch[sub->n_branch], 0, sizeof sub->branch[0]);
	return branch_decode(d, v, sub, sub->n_branch, 0);
}

enum problem submission_add_branch(const char *text, size_t len, const struct registry *registry,
                                   struct arena *arena, struct submission *sub,
                                   struct complaint *complaint)
{
	static const struct json_raw_rule payloads = {"branches", "payload"};
	struct decoder d = {.registry = registry, .arena = arena, .complaint = complaint};
	struct json_doc *doc;
	size_t at, wrapped_len;
	char why[160];
	enum problem p;
	int rc;

	/* Checked alone first: "{}],..." would be well-formed inside the wrapping. */
	if (json_scan_check(text, len, &at) < 0)
		return decoder_reject(&d, PROBLEM_MALFORMED_JSON, NULL, "not JSON at byte %zu", at);
	d.text = wrap(arena, text, len, &wrapped_len);
	if (!d.text)
		return decoder_out_of_memory(&d);
	rc = json_parse(d.text, wrapped_len, &payloads, &doc, why, sizeof why);
	if (rc == ERR_NOMEM)
		return decoder_out_of_memory(&d);
	if (rc < 0)
		return decoder_reject(&d, PROBLEM_MALFORMED_JSON, NULL, "%s", why);
	d.doc = doc;
	p = append_branch(&d, json_at(json_member(json_root(doc), "branches"), 0), sub);
	json_free(doc);
	if (p)
		return p;
	sub->branch[sub->n_branch].enlisted = text;
	sub->branch[sub->n_branch].enlisted_len = len;
	sub->n_branch++;
	return PROBLEM_NONE;
}

enum problem submission_add_stored(const char *blob, size_t len, struct arena *arena,
                                   struct submission *sub, struct complaint *complaint)
{
	const char *copy = len ? arena_strndup(arena, blob, len) : "";
	size_t at = 0;

	if (!copy)
		return complain(complaint, PROBLEM_OVERLOADED, "", "out of memory");
	if (len && !sub->interactive)
		return complain(complaint, PROBLEM_MALFORMED_JSON, "",
		                "branches joined what is not interactive");
	while (at < len) {
		uint32_t n;
		enum problem p;

		if (len - at < sizeof n)
			return complain(complaint, PROBLEM_MALFORMED_JSON, "", "cut off");
		memcpy(&n, copy + at, sizeof n);
		n = ntohl(n);
		at += sizeof n;
		if (n > len - at)
			return complain(complaint, PROBLEM_MALFORMED_JSON, "", "cut off");
		p = submission_add_branch(copy + at, n, NULL, arena, sub, complaint);
		if (p)
			return p;
		at += n;
	}
	return PROBLEM_NONE;
}
