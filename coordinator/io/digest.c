/*
 * digest.c - hashes and random bytes.
 */
#include "io/digest.h"

#include <errno.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <sys/random.h>

_Static_assert(DIGEST_LEN == SHA256_DIGEST_LENGTH, "a digest is a SHA-256");

void digest_sha256(const void *data, size_t len, uint8_t out[DIGEST_LEN])
{
	/* An empty message has no bytes, but libcrypto wants an address. */
	if (SHA256(len > 0 ? data : "", len, out) == NULL)
		abort();
}

void digest_random(void *out, size_t len)
{
	unsigned char *p = out;

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
