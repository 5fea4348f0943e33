/*
 * digest.h - hashes, signatures and random bytes; with tls_files.c the only user of libcrypto.
 */
#ifndef IO_DIGEST_H
#define IO_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define DIGEST_LEN 32

/* Neither hash can fail. */
void digest_sha256(const void *data, size_t len, uint8_t out[DIGEST_LEN]);
/* Takes the same time whatever the bytes are. */
bool digest_equal(const uint8_t a[DIGEST_LEN], const uint8_t b[DIGEST_LEN]);
/* Unpredictable bytes from the operating system; aborts when there are none. */
void digest_random(void *out, size_t len);

void digest_hmac_sha256(const void *key, size_t key_len, const void *data, size_t len,
                        uint8_t out[DIGEST_LEN]);

/* The standard alphabet, with padding. */
void digest_put_base64(struct buf *out, const void *data, size_t len);
/* Appends what `text` stands for; ERR_INVALID when it is no base64, ERR_NOMEM. */
int digest_base64_decode(const char *text, struct buf *out) MUSTCHECK;
/* What a secret was is not left behind in memory. */
void digest_wipe(void *secret, size_t len);

#endif /* IO_DIGEST_H */
