/*
 * digest.h - hashes and random bytes; the only user of libcrypto.
 */
#ifndef IO_DIGEST_H
#define IO_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define DIGEST_LEN 32

void digest_sha256(const void *data, size_t len, uint8_t out[DIGEST_LEN]);
/* Unpredictable bytes from the operating system; aborts when there are none. */
void digest_random(void *out, size_t len);

#endif /* IO_DIGEST_H */
