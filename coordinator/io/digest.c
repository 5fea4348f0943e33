/*
 * digest.c - hashes, signatures and random bytes.
 *
 * SHA-256 by the functions of libcrypto that allocate nothing: EVP would, and fail when memory is
 * out, where nobody who needs a hash could go on.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
/* libcrypto's name of a type is one of our errors. */
#define ERR_STATE OPENSSL_ERR_STATE
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#undef ERR_STATE

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "io/digest.h"

_Static_assert(DIGEST_LEN == SHA256_DIGEST_LENGTH, "a digest is a SHA-256");

void digest_sha256(const void *data, size_t len, uint8_t out[DIGEST_LEN])
{
	SHA256_CTX sha;

	SHA256_Init(&sha);
	SHA256_Update(&sha, data, len);
	SHA256_Final(out, &sha);
}

static void random_fill(unsigned char *p, size_t len)
{
	while (len > 0) {
		ssize_t n = getrandom(p, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			abort();
		p += n;
		len -= (size_t)n;
	}
}

/* From a stock, so that not every request is a system call; what was given out is gone from it. */
void digest_random(void *out, size_t len)
{
	static unsigned char stock[512];
	static size_t left;

	if (len > sizeof stock / 8) {
		random_fill(out, len);
		return;
	}
	if (left < len) {
		random_fill(stock, sizeof stock);
		left = sizeof stock;
	}
	left -= len;
	memcpy(out, stock + left, len);
	memset(stock + left, 0, len);
}

bool digest_equal(const uint8_t a[DIGEST_LEN], const uint8_t b[DIGEST_LEN])
{
	return CRYPTO_memcmp(a, b, DIGEST_LEN) == 0;
}

/* RFC 2104. */
void digest_hmac_sha256(const void *key, size_t key_len, const void *data, size_t len,
                        uint8_t out[DIGEST_LEN])
{
	uint8_t pad[SHA256_CBLOCK] = {0};
	SHA256_CTX sha;

	if (key_len > sizeof pad)
		digest_sha256(key, key_len, pad);
	else if (key_len > 0)
		memcpy(pad, key, key_len);
	for (size_t i = 0; i < sizeof pad; i++)
		pad[i] ^= 0x36;
	SHA256_Init(&sha);
	SHA256_Update(&sha, pad, sizeof pad);
	SHA256_Update(&sha, data, len);
	SHA256_Final(out, &sha);
	for (size_t i = 0; i < sizeof pad; i++)
		pad[i] ^= 0x36 ^ 0x5c;
	SHA256_Init(&sha);
	SHA256_Update(&sha, pad, sizeof pad);
	SHA256_Update(&sha, out, DIGEST_LEN);
	SHA256_Final(out, &sha);
	digest_wipe(pad, sizeof pad);
	digest_wipe(&sha, sizeof sha);
}

void digest_put_base64(struct buf *out, const void *data, size_t len)
{
	size_t n = (len + 2) / 3 * 4;
	/* libcrypto writes a NUL behind. */
	char *at = len < INT_MAX / 2 ? buf_extend(out, n + 1) : NULL;

	if (at == NULL) {
		out->failed = true;
		return;
	}
	EVP_EncodeBlock((unsigned char *)at, data, (int)len);
	out->len--;
}

int digest_base64_decode(const char *text, struct buf *out)
{
	size_t len = strlen(text);
	size_t padding = 0;
	char *at;

	if (len == 0 || len % 4 != 0 || len > INT_MAX / 2)
		return ERR_INVALID;
	while (padding < 2 && text[len - 1 - padding] == '=')
		padding++;
	if (strcspn(text, "=") != len - padding)
		return ERR_INVALID;
	at = buf_extend(out, len / 4 * 3);
	if (at == NULL)
		return ERR_NOMEM;
	if (EVP_DecodeBlock((unsigned char *)at, (const unsigned char *)text, (int)len) < 0) {
		out->len -= len / 4 * 3;
		return ERR_INVALID;
	}
	out->len -= padding;
	return 0;
}

void digest_wipe(void *secret, size_t len)
{
	if (secret != NULL)
		OPENSSL_cleanse(secret, len);
}
