/*
 * verify.c - whether a call comes from who has the secret (Standard Webhooks, HMAC-SHA-256).
 *
 * What is signed is "id.timestamp.body". The id names branch, operation and attempt, and must be
 * that of the headers: otherwise a captured prepare could be sent again as a commit. The timestamp
 * bounds how long a captured call is of use; within that time repeating it does nothing, since
 * every operation is idempotent.
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

#define KEY_MAX        2
#define KEY_LEN_MIN    16
#define KEY_LEN_MAX    512
#define TOLERANCE_S    300
#define SIGNATURES_MAX 8
#define BASE64_LEN     44 /* of 32 bytes */

struct key {
	unsigned char data[KEY_LEN_MAX];
	size_t len;
};

struct assent_verifier {
	struct key key[KEY_MAX];
	size_t n_key;
};

/* ---- secrets ---- */

int sdk_read_secret_file(const char *path, char *out, size_t size, struct assent_error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	size_t len = 0;
	ssize_t n = 0;
	int rc = 0;

	if (fd < 0 || fstat(fd, &st) < 0)
		rc = sdk_fail(err, ASSENT_E_SYSTEM, "%.150s: %s", path, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		rc = sdk_fail(err, ASSENT_E_INVALID, "%.150s is not a file", path);
	else if (st.st_mode & S_IRWXO)
		rc = sdk_fail(err, ASSENT_E_INVALID,
		              "everybody on this machine may read or write %.100s; run: chmod 600 "
		              "%.100s",
		              path, path);
	while (rc == 0 && len < size - 1 && (n = read(fd, out + len, size - 1 - len)) > 0)
		len += (size_t)n;
	out[len] = '\0';
	if (rc == 0 && (n < 0 || strlen(out) != len || len == size - 1))
		rc = sdk_fail(err, ASSENT_E_INVALID, "%.150s is not a file with a secret", path);
	if (fd >= 0)
		close(fd);
	return rc;
}

int sdk_read_token_file(const char *path, char **line, struct assent_error *err)
{
	char token[4096];
	size_t len;
	int rc = sdk_read_secret_file(path, token, sizeof(token), err);

	*line = NULL;
	if (rc)
		return rc;
	len = strcspn(token, "\r\n");
	if (len == 0 || strspn(token + len, "\r\n") != strlen(token + len) ||
	    strcspn(token, " \t") != strlen(token))
		rc = sdk_fail(err, ASSENT_E_INVALID, "%.150s is not a file with one token", path);
	else if (asprintf(line, "Authorization: Bearer %.*s", (int)len, token) < 0)
		rc = sdk_fail(err, ASSENT_E_NOMEM, "out of memory");
	OPENSSL_cleanse(token, sizeof(token));
	return rc;
}

static bool decode_key(const char *text, struct key *key)
{
	static const char prefix[] = "whsec_";
	size_t len = strlen(text), padding = 0;
	int n;

	if (strncmp(text, prefix, strlen(prefix)) != 0) {
		if (len > KEY_LEN_MAX)
			return false;
		memcpy(key->data, text, len);
		key->len = len;
		return true;
	}
	text += strlen(prefix);
	len -= strlen(prefix);
	if (len == 0 || len % 4 || len / 4 * 3 > KEY_LEN_MAX)
		return false;
	while (padding < 2 && text[len - 1 - padding] == '=')
		padding++;
	n = EVP_DecodeBlock(key->data, (const unsigned char *)text, (int)len);
	key->len = n > 0 ? (size_t)n - padding : 0;
	return n > 0;
}

static int add_keys(struct assent_verifier *v, char *text, struct assent_error *err)
{
	char *line;

	while ((line = strsep(&text, "\n"))) {
		line[strcspn(line, "\r \t")] = '\0';
		if (*line == '\0')
			continue;
		if (v->n_key == KEY_MAX || !decode_key(line, &v->key[v->n_key]) ||
		    v->key[v->n_key].len < KEY_LEN_MIN)
			return sdk_fail(err, ASSENT_E_INVALID,
			                "a secret has %d to %d bytes, plain or as whsec_ and "
			                "base64, and there are at most %d, a line each",
			                KEY_LEN_MIN, KEY_LEN_MAX, KEY_MAX);
		v->n_key++;
	}
	return v->n_key ? 0 : sdk_fail(err, ASSENT_E_INVALID, "there is no secret");
}

int assent_verifier_new(struct assent_verifier **out, const char *secrets, struct assent_error *err)
{
	struct assent_verifier *v;
	size_t len;
	char *copy;
	int rc;

	if (out)
		*out = NULL;
	if (!out || !secrets)
		return sdk_fail(err, ASSENT_E_INVALID, "verifier or secrets is NULL");
	v = calloc(1, sizeof(*v));
	len = strlen(secrets);
	copy = strdup(secrets);
	if (!v || !copy) {
		free(v);
		free(copy);
		return sdk_fail(err, ASSENT_E_NOMEM, "out of memory");
	}
	rc = add_keys(v, copy, err);
	OPENSSL_cleanse(copy, len);
	free(copy);
	if (rc) {
		assent_verifier_free(v);
		return rc;
	}
	*out = v;
	return 0;
}

int assent_verifier_load(struct assent_verifier **out, const char *path, struct assent_error *err)
{
	char text[2 * KEY_LEN_MAX + 64];
	int rc;

	if (out)
		*out = NULL;
	if (!out || !path)
		return sdk_fail(err, ASSENT_E_INVALID, "verifier or path is NULL");
	rc = sdk_read_secret_file(path, text, sizeof(text), err);
	if (rc == 0)
		rc = assent_verifier_new(out, text, err);
	OPENSSL_cleanse(text, sizeof(text));
	return rc;
}

void assent_verifier_free(struct assent_verifier *v)
{
	if (!v)
		return;
	OPENSSL_cleanse(v, sizeof(*v));
	free(v);
}

/* ---- a call ---- */

/* Only another namespace than the usual one is part of the id. A question has no attempt. And an
 * intent is an operation of its own here: captured, and sent without its header, it would be a
 * decision. */
void sdk_signed_id(const struct assent_call *call, struct sdk_text *out)
{
	bool usual = strcmp(call->space, "default") == 0;

	sdk_text_printf(out, "%s/%s%s%s/%s/%s", call->cluster, usual ? "" : call->space,
	                usual ? "" : "/", call->gid, call->branch,
	                call->intent ? "pre_abort" : call->op);
	if (call->attempt)
		sdk_text_printf(out, "/%d", call->attempt);
}

static bool is_recent(const char *timestamp)
{
	size_t len = strlen(timestamp);
	long long at, now = (long long)time(NULL);

	if (len == 0 || len > 12 || strspn(timestamp, "0123456789") != len)
		return false;
	at = strtoll(timestamp, NULL, 10);
	return at >= now - TOLERANCE_S && at <= now + TOLERANCE_S;
}

static bool sign(const struct key *key, const struct sdk_text *text, char out[BASE64_LEN + 1])
{
	unsigned char mac[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	if (!HMAC(EVP_sha256(), key->data, (int)key->len, (const unsigned char *)text->data,
	          text->len, mac, &n)) {
		ERR_clear_error(); /* the thread's next user of libcrypto shall not find it */
		return false;
	}
	return EVP_EncodeBlock((unsigned char *)out, mac, (int)n) == BASE64_LEN;
}

bool sdk_sign(const struct assent_verifier *v, const char *id, const char *timestamp,
              const struct sdk_text *body, struct sdk_text *out)
{
	struct sdk_text text = {0};
	bool ok = true;

	sdk_text_printf(&text, "%s.%s.", id, timestamp);
	if (body)
		sdk_text_add(&text, body->data, body->len);
	for (size_t i = 0; i < v->n_key && ok && !text.failed; i++) {
		char mac[BASE64_LEN + 1];

		ok = sign(&v->key[i], &text, mac);
		if (ok)
			sdk_text_printf(out, "%sv1,%s", i ? " " : "", mac);
	}
	ok &= !text.failed && !out->failed;
	sdk_text_release(&text);
	return ok;
}

/* Every signature against every key, without stopping at a difference or at a match. */
static int match_any(const struct assent_verifier *v, const char *signatures,
                     const struct sdk_text *text)
{
	unsigned n_match = 0;

	for (size_t i = 0; i < v->n_key; i++) {
		char expected[BASE64_LEN + 1];
		const char *s = signatures;

		if (!sign(&v->key[i], text, expected))
			return ASSENT_E_NOMEM;
		for (int n = 0; *s && n < SIGNATURES_MAX; n++) {
			size_t len = strcspn(s, " ");

			if (len == 3 + BASE64_LEN && strncmp(s, "v1,", 3) == 0)
				n_match += CRYPTO_memcmp(s + 3, expected, BASE64_LEN) == 0;
			s += len + strspn(s + len, " ");
		}
	}
	return n_match > 0 ? 0 : ASSENT_E_INVALID;
}

int assent_verify(const struct assent_verifier *v, const struct assent_call *call,
                  assent_header_fn *header, void *ctx, struct assent_error *err)
{
	const char *id, *timestamp, *signatures;
	struct sdk_text text = {0};
	int rc = 0;

	/* Nobody who has lost the secret's object may take a call for verified. */
	if (!v || !call || !header)
		return sdk_fail(err, ASSENT_E_INVALID, "verifier, call or header is NULL");
	id = header(ctx, "webhook-id");
	timestamp = header(ctx, "webhook-timestamp");
	signatures = header(ctx, "webhook-signature");
	if (!id || !timestamp || !signatures)
		return sdk_fail(err, ASSENT_E_INVALID, "this call is not signed");
	if (!is_recent(timestamp))
		return sdk_fail(err, ASSENT_E_INVALID,
		                "webhook-timestamp is more than %d minutes off", TOLERANCE_S / 60);
	sdk_signed_id(call, &text);
	if (!text.failed && strcmp(id, text.data) != 0) {
		sdk_text_release(&text);
		return sdk_fail(err, ASSENT_E_INVALID, "webhook-id is not this call's");
	}
	sdk_text_printf(&text, ".%s.", timestamp);
	sdk_text_add(&text, call->body, call->len);
	rc = text.failed ? ASSENT_E_NOMEM : match_any(v, signatures, &text);
	if (rc == ASSENT_E_NOMEM)
		(void)sdk_fail(err, rc, "out of memory");
	else if (rc)
		(void)sdk_fail(err, rc, "webhook-signature is wrong");
	sdk_text_release(&text);
	return rc;
}
