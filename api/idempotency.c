/*
 * idempotency.c - from an Idempotency-Key to the gid of its transaction.
 *
 * The key is written as a quoted string, as the draft has it, or bare, as most clients do; both
 * are the same key. The gid is made of a hash, so that a key may hold any printable character,
 * and of the caller's name, so that two callers cannot meet in one key.
 */
#include "api/idempotency.h"

#include <stdio.h>
#include <string.h>

#include "io/digest.h"

/* The quoted string's text (RFC 9651, 3.3.3); false when it is none. */
static bool unquote(const char *s, size_t len, struct buf *key)
{
	if (len < 2 || s[len - 1] != '"')
		return false;
	for (size_t i = 1; i < len - 1; i++) {
		if (s[i] == '"')
			return false;
		if (s[i] == '\\') {
			i++;
			if (i == len - 1 || (s[i] != '"' && s[i] != '\\'))
				return false;
		}
		buf_putc(key, s[i]);
	}
	return true;
}

static bool read_key(const char *s, struct buf *key)
{
	size_t len = strlen(s);

	while (len > 0 && (s[len - 1] == ' ' || s[len - 1] == '\t'))
		len--;
	if (s[0] != '"')
		buf_append(key, s, len);
	else if (!unquote(s, len, key))
		return false;
	for (size_t i = 0; i < key->len; i++)
		if (key->data[i] < 0x20 || key->data[i] > 0x7e)
			return false;
	return key->len >= 1 && key->len <= IDEMPOTENCY_KEY_MAX;
}

static void derive_gid(const char *caller, const struct buf *key, char gid[GID_MAX + 1])
{
	uint8_t half[2 * DIGEST_LEN], sum[DIGEST_LEN];
	int n = 0;

	/* Each part by its own hash: no caller and key run into another pair. */
	digest_sha256(caller, strlen(caller), half);
	digest_sha256(key->data, key->len, half + DIGEST_LEN);
	digest_sha256(half, sizeof half, sum);
	n += snprintf(gid, GID_MAX + 1, "key-");
	for (int i = 0; i < 20; i++)
		n += snprintf(gid + n, (size_t)(GID_MAX + 1 - n), "%02x", sum[i]);
}

enum problem idempotency_gid(const char *header, const char *caller, char gid[GID_MAX + 1],
                             struct complaint *c)
{
	struct buf key = BUF_INIT;
	enum problem p = PROBLEM_NONE;

	gid[0] = '\0';
	if (!header)
		return PROBLEM_NONE;
	if (!read_key(header, &key))
		p = complain(c, PROBLEM_INVALID_IDEMPOTENCY_KEY, "",
		             "an Idempotency-Key is 1 to %d printable ASCII characters, bare or in "
		             "double quotes",
		             IDEMPOTENCY_KEY_MAX);
	else
		derive_gid(caller, &key, gid);
	if (key.failed)
		p = complain(c, PROBLEM_OVERLOADED, "", "out of memory; try again");
	buf_release(&key);
	return p;
}
