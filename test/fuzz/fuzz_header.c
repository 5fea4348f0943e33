/*
 * fuzz_header.c - what comes in HTTP heads and replies: lines `Name: value` as a client sends them,
 * and, behind an empty line, the body of a participant's answer (its status in a line Status).
 *
 * Members of the body are looked up by jansson as well, and by the SDK's reader.
 */
#include <fcntl.h>
#include <jansson.h>
#include <stdbool.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/idempotency.h"
#include "base/json_scan.h"
#include "core/verdict.h"
#include "fuzz.h"
#include "io/digest.h"
#include "node/auth.h"
#include "node/gtx.h"
#include "node/participant.h"
#include "participants/sdk/internal.h"

static void try_prefer(const char *value)
{
	int64_t us = prefer_wait_us(value);

	must(us >= 0 && us <= INT64_C(60) * 1000000 && us % 1000000 == 0);
	must(us == 0 || strcasestr(value, "wait="));
}

static void try_key(const char *value)
{
	char gid[GID_MAX + 1], again[GID_MAX + 1];
	struct complaint c;
	enum problem p = idempotency_gid(value, "shop", gid, &c);

	if (p) {
		must(p == PROBLEM_INVALID_IDEMPOTENCY_KEY && c.detail[0]);
		return;
	}
	must(gid_valid(gid, strlen(gid)));
	must(idempotency_gid(value, "shop2", again, &c) == PROBLEM_NONE);
	must(strcmp(gid, again) != 0);
	must(strlen(value) <= 2 * IDEMPOTENCY_KEY_MAX + 2 || strpbrk(value, " \t"));
	for (const char *s = value; *s; s++)
		must((*s >= 0x20 && *s <= 0x7e) || *s == '\t');
}

static void try_trace(const char *value)
{
	static struct gtx g;

	memset(g.traceparent, 0, sizeof g.traceparent);
	gtx_set_trace(&g, value);
	must(g.traceparent[sizeof g.traceparent - 1] == '\0');
	must(!g.traceparent[0] || strcmp(g.traceparent, value) == 0);
	must(strspn(g.traceparent, "0123456789abcdef-") == strlen(g.traceparent));
}

/* --- Authorization, against a table of one token --- */

#define TOKEN "0123456789-secret-token"

static struct auth *table(void)
{
	static struct auth *a;
	uint8_t hash[DIGEST_LEN];
	char path[64], why[256];
	int fd;

	if (a)
		return a;
	fd = memfd_create("tokens", MFD_CLOEXEC);
	must(fd >= 0 && fchmod(fd, 0600) == 0);
	digest_sha256(TOKEN, strlen(TOKEN), hash);
	(void)dprintf(fd, "shop submit,viewer namespace=x ");
	for (int i = 0; i < DIGEST_LEN; i++)
		(void)dprintf(fd, "%02x", hash[i]);
	(void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	must(auth_new(path, &a, why, sizeof why) == 0);
	(void)close(fd);
	return a;
}

static void try_authorization(const char *value)
{
	struct auth_caller caller;
	enum auth_result result = auth_check(table(), value, &caller);
	size_t scheme = strcspn(value, " ");
	bool right = scheme == 6 && strncasecmp(value, "bearer", 6) == 0 &&
	             !strcmp(value + scheme + strspn(value + scheme, " "), TOKEN);

	must((result == AUTH_OK) == right);
	must(right || (result == AUTH_BAD_TOKEN && caller.roles == 0));
	must(!right ||
	     (caller.roles == (ROLE_SUBMIT | ROLE_VIEWER) && !strcmp(caller.name, "shop")));
}

/* --- a participant's answer --- */

static size_t depth_of(const char *text, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++)
		n += text[i] == '[' || text[i] == '{';
	return n;
}

static void try_member(const char *text, size_t len, json_t *root, const char *name)
{
	char value[32], theirs[32];
	int rc = json_scan_top_str(text, len, name, value, sizeof value);
	json_t *v = json_object_get(root, name);

	must(rc == 0 || rc == ERR_NOTFOUND || rc == ERR_INVALID);
	if (rc == 0)
		must(strlen(value) < sizeof value &&
		     (!root || !strcmp(value, json_string_value(v))));
	/* What is there but cannot be read must not pass for absent. */
	if (rc == ERR_NOTFOUND)
		must(!v || json_is_null(v));
	sdk_json_member(text, len, name, theirs, sizeof theirs);
	must(strlen(theirs) < sizeof theirs);
	must(rc != 0 || depth_of(text, len) > JSON_DEPTH_MAX || memchr(text, '\\', len) ||
	     !strcmp(value, theirs));
}

/* A vote that says anything but yes, however it is written. */
static bool says_otherwise(const json_t *root)
{
	const json_t *vote = json_object_get(root, "vote");
	const char *word = json_string_value(vote);

	return vote && !json_is_null(vote) && (!word || (*word && strcmp(word, "yes") != 0));
}

static void try_verdict(const char *text, size_t len, const json_t *root, int status)
{
	char vote[32] = "", outcome[32] = "";
	struct answer a = {.status = status, .vote = vote, .outcome = outcome};
	enum event_type v;

	participant_read_member(text, len, "vote", vote, sizeof vote);
	participant_read_member(text, len, "outcome", outcome, sizeof outcome);
	for (int op = OP_PREPARE; op < OP_MAX; op++) {
		bool votes = txn_op_votes((enum txn_op)op, false);

		v = verdict_judge((enum txn_op)op, false, &a);
		must(v >= EV_YES && v <= EV_CONTRACT);
		must(v != EV_YES || !says_otherwise(root));
		must(v != EV_YES || (votes && status / 100 == 2 && status != 202));
		must(v != EV_DONE || (!votes && status / 100 == 2));
		must((v != EV_FOUND_COMMITTED && v != EV_FOUND_ABORTED) || status == 409);
	}
	v = verdict_judge(OP_COMMIT, true, &a);
	must(v != EV_DONE);
	must(v != EV_YES || *vote == '\0' || !strcmp(vote, "yes"));
}

static void try_answer(const char *text, size_t len, int status)
{
	bool valid = json_scan_check(text, len, NULL) == 0;
	json_t *root = json_loadb(text, len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);

	/* To jansson a NUL is an end. */
	must(!root || valid || memchr(text, '\0', len) || depth_of(text, len) > JSON_DEPTH_MAX);
	must(sdk_json_valid(text, len) == valid || depth_of(text, len) > JSON_DEPTH_MAX);
	if (valid || !root) {
		try_member(text, len, root, "vote");
		try_member(text, len, root, "outcome");
	}
	/* What is nested too deep is no JSON to us, and the status counts. */
	try_verdict(text, len, valid ? root : NULL, status);
	json_decref(root);
}

static void try_line(char *line, int *status)
{
	char *value = strchr(line, ':');

	if (!value)
		return;
	*value++ = '\0';
	value += strspn(value, " ");
	if (strcasecmp(line, "Prefer") == 0)
		try_prefer(value);
	else if (strcasecmp(line, "Idempotency-Key") == 0)
		try_key(value);
	else if (strcasecmp(line, "Authorization") == 0)
		try_authorization(value);
	else if (strcasecmp(line, "traceparent") == 0)
		try_trace(value);
	else if (strcasecmp(line, "Status") == 0)
		*status = (int)(strtol(value, NULL, 10) % 1000);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *blank = memmem(data, size, "\n\n", 2);
	size_t head = blank ? (size_t)(blank - data) : size;
	char *text = fuzz_string(data, head), *rest = text, *line, *body;
	int status = 200;

	while ((line = strsep(&rest, "\n")))
		try_line(line, &status);
	if (blank) {
		body = fuzz_copy(blank + 2, size - head - 2);
		try_answer(body, size - head - 2, status);
		free(body);
	}
	free(text);
	return 0;
}
