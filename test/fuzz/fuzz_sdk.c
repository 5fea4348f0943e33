/*
 * fuzz_sdk.c - what a service that uses libassent is sent: the head of a call, lines `Name: value`
 * until an empty one, and its body. Lines Secrets (several, with '|' between) make the verifier.
 *
 * Where a value is NOW, RIGHT or OTHER, the real time, the right signature and that of another key
 * stand in its place. The second opinion on signatures is the coordinator, which makes them.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/json_scan.h"
#include "fuzz.h"
#include "node/secret.h"
#include "node/submission.h"
#include "participants/sdk/internal.h"

#define HEADER_MAX 40
#define RIGHT_KEY  "sixteen-bytes-at-least"
#define OTHER_KEY  "whsec_c2l4dGVlbiBieXRlcyBvciBtb3Jl"

struct head {
	size_t n;
	const char *name[HEADER_MAX];
	const char *value[HEADER_MAX];
	char now[24];
	struct buf right, other;
};

static const char *header(void *ctx, const char *name)
{
	const struct head *h = ctx;
	const char *value = NULL;

	for (size_t i = 0; i < h->n && !value; i++) {
		if (strcasecmp(h->name[i], name) == 0)
			value = h->value[i];
	}
	if (value && strcmp(value, "NOW") == 0)
		return h->now;
	if (value && strcmp(value, "RIGHT") == 0 && h->right.data)
		return h->right.data;
	return value && strcmp(value, "OTHER") == 0 && h->other.data ? h->other.data : value;
}

static struct secret_keys *keys(const char *secret)
{
	struct secret_keys *k;
	char path[64], why[256];
	int fd = memfd_create("secret", MFD_CLOEXEC);

	must(fd >= 0 && fchmod(fd, 0600) == 0 && dprintf(fd, "%s\n", secret) > 0);
	(void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	must(secret_keys_load("secret", path, &k, why, sizeof why) == 0);
	(void)close(fd);
	return k;
}

static void sign(struct head *h, const char *body, size_t len)
{
	static struct secret_keys *right, *other;
	const char *id = header(h, "webhook-id"), *timestamp = header(h, "webhook-timestamp");

	if (!right) {
		right = keys(RIGHT_KEY);
		other = keys(OTHER_KEY);
	}
	if (!id || !timestamp)
		return;
	secret_sign(right, id, timestamp, body, len, &h->right);
	secret_sign(other, id, timestamp, body, len, &h->other);
}

static void try_secrets(const char *text)
{
	struct assent_verifier *v;
	struct assent_error err;
	char *lines = fuzz_string(text, strlen(text));
	int rc;

	for (char *s = lines; *s; s++)
		*s = (char)(*s == '|' ? '\n' : *s);
	rc = assent_verifier_new(&v, lines, &err);
	must(rc == 0 ? v != NULL : rc == ASSENT_E_INVALID && !v && err.text[0]);
	assent_verifier_free(v);
	free(lines);
}

static bool has_word(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (const char *s = list; (s = strstr(s, word)); s++) {
		if ((s == list || s[-1] == ' ') && (s[len] == ' ' || s[len] == '\0'))
			return true;
	}
	return false;
}

static void try_verify(const struct assent_call *call, struct head *h)
{
	static struct assent_verifier *v;
	struct assent_error err;
	const char *signature = header(h, "webhook-signature");
	const char *at = header(h, "webhook-timestamp");
	char id[400];
	int rc;

	if (!v)
		must(assent_verifier_new(&v, RIGHT_KEY "\n", &err) == 0);
	rc = assent_verify(v, call, header, h, &err);
	must(rc == 0 || (rc == ASSENT_E_INVALID && err.text[0]));
	if (rc)
		return;
	must(signature && at && has_word(signature, h->right.data));
	must(llabs(strtoll(at, NULL, 10) - (long long)time(NULL)) <= 301);
	/* The id names this very call. */
	(void)snprintf(id, sizeof id, "/%s/%s/%s/%d", assent_call_gid(call),
	               assent_call_branch(call), assent_call_op(call), assent_call_attempt(call));
	must(strlen(header(h, "webhook-id")) > strlen(id));
	must(!strcmp(header(h, "webhook-id") + strlen(header(h, "webhook-id")) - strlen(id), id));
}

static void try_call(struct head *h, const char *body, size_t len)
{
	struct assent_call *call;
	struct assent_error err;
	size_t n;
	int rc = assent_call_new(&call, header, h, body, len, &err);

	must(rc == 0 ? call != NULL : rc == ASSENT_E_INVALID && !call && err.text[0]);
	if (rc)
		return;
	must(gid_valid(assent_call_gid(call), strlen(assent_call_gid(call))));
	must(!strcmp(header(h, "Assent-Gid"), assent_call_gid(call)));
	must(!strcmp(header(h, "Assent-Op"), assent_call_op(call)));
	must(assent_call_attempt(call) > 0 && assent_call_remaining_ms(call) >= 0);
	must(!assent_call_one_phase(call) || !strcmp(assent_call_op(call), "commit"));
	must(strlen(assent_call_body(call, &n)) <= n && n == len);
	must(memcmp(assent_call_body(call, NULL), len ? body : "", len) == 0);
	/* It becomes part of SQL text and of a name that has a limit. */
	must(strlen(call->name) <= SDK_NAME_MAX && !strpbrk(call->name, "'\\\" "));
	must(sdk_patience_ms(call) > 0);
	try_verify(call, h);
	assent_call_free(call);
}

static void try_text(const char *s)
{
	struct sdk_text t = {0};

	sdk_text_json(&t, s);
	must(!t.failed && sdk_json_valid(t.data, t.len));
	must(json_scan_check(t.data, t.len, NULL) == 0);
	sdk_text_release(&t);
}

static void take_line(struct head *h, char *line)
{
	char *value = strchr(line, ':');

	try_text(line);
	if (!value || h->n == HEADER_MAX)
		return;
	*value++ = '\0';
	h->name[h->n] = line;
	h->value[h->n++] = value + strspn(value, " \t");
	if (strcasecmp(line, "Secrets") == 0)
		try_secrets(value + strspn(value, " \t"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *blank = memmem(data, size, "\n\n", 2);
	size_t head = blank ? (size_t)(blank - data) : size;
	size_t len = blank ? size - head - 2 : 0;
	struct head h = {0};
	char *text = fuzz_string(data, head), *rest = text, *line;
	char *body = fuzz_copy(blank ? blank + 2 : data, len);

	(void)snprintf(h.now, sizeof h.now, "%" PRId64, (int64_t)time(NULL));
	while ((line = strsep(&rest, "\n")))
		take_line(&h, line);
	sign(&h, body, len);
	try_call(&h, body, len);
	buf_release(&h.right);
	buf_release(&h.other);
	free(body);
	free(text);
	return 0;
}
